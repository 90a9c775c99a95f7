//! The configuration: one typed tree for every process, read from a TOML file and overridden by flags. Each section belongs to the crate that it configures;
//! this module combines them.
//!
//! `windlass config` prints the reference file, which is generated from their declarations; deploy/windlass.toml is that file.

mod embedded;
mod load;
mod log;
pub mod machine;
mod reference;
#[cfg(test)]
mod tests;

pub use load::ConfigError;
pub use log::{Log, LogFormat};
pub use windlass_core::settings::{check, units};
pub use windlass_executor::config::{Compression, Exchange, Executor, Role};
pub use windlass_scheduler::config::{Elastic, Files, Pool, PoolOrder, Primary, Query};

use serde::Deserialize;
use std::path::Path;
use std::sync::Arc;
use windlass_core::elastic::ElasticConfig;
use windlass_executor::ExecutorConfig;
use windlass_gateway::Gateway;
use windlass_scheduler::primary::leading::ProcessConfig;

/// All settings. `Config::default()` is what `windlass config` prints.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub primary: Primary,
    pub executor: Executor,
    pub elastic: Elastic,
    pub files: Files,
    pub exchange: Exchange,
    pub query: Query,
    pub log: Log,
}

impl Config {
    /// Reads the file at `path`; returns the defaults without one.
    pub fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
        path.map_or_else(|| Ok(Config::default()), load::load)
    }

    /// Returns the reference file: every key with its default and its documentation.
    pub fn reference() -> String {
        reference::text()
    }

    /// Settings of a primary process. `seed`: see [`Files::settings`].
    pub(crate) fn primary(&self, seed: u64) -> Result<ProcessConfig, String> {
        self.primary.cluster(&self.files, &self.query, seed, windlass_executor::total_memory(), Arc::new(Gateway))
    }

    /// Settings of executors that a primary starts; `None` when it starts none.
    pub(crate) fn elastic(&self) -> Result<Option<ElasticConfig>, String> {
        self.elastic.settings(windlass_executor::total_memory())
    }

    /// Settings of an executor process.
    pub(crate) fn executor(&self) -> Result<ExecutorConfig, String> {
        self.executor.settings(&self.exchange)
    }
}
