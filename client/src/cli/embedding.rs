//! A cluster inside this process, configured by the configuration file.

use super::Failure;
use crate::config::Config;
use crate::{Client, EmbeddedOptions, Session};
use std::path::Path;
use windlass_engine::connector::Registry;

/// Configuration of the embedded clusters of this command.
pub struct Embedding<'a> {
    pub config: Config,
    /// The file that the configuration was read from.
    pub file: Option<&'a Path>,
    /// Kinds of tables beside files.
    pub connectors: Registry,
}

impl Embedding<'_> {
    /// Starts a cluster. Settings of the file that have no meaning in it are listed on standard error.
    pub async fn open(self, options: EmbeddedOptions) -> Result<Session, Failure> {
        if let Some(file) = self.file {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let idle = Config::without_meaning_embedded(&text);
            if !idle.is_empty() {
                eprintln!(
                    "note: without --url the cluster is inside this process, where these settings of {} have no meaning: {}",
                    file.display(),
                    idle.join(", ")
                );
            }
        }
        Ok(Client::embedded_with(self.config.embedded(), options).await?)
    }
}
