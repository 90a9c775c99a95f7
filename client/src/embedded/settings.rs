//! What a cluster inside this process is configured with: the sections of a configuration file that mean something there.

use std::path::PathBuf;
use windlass_executor::config::{Exchange, Executor};
use windlass_executor::{ExecutorConfig, total_memory};
use windlass_scheduler::config::{Files, Primary, Query};
use windlass_scheduler::primary::leading::ProcessConfig;

#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub primary: Primary,
    pub executor: Executor,
    pub files: Files,
    pub exchange: Exchange,
    pub query: Query,
}

impl Settings {
    /// The primary, with its store in `dir`.
    ///
    /// # Errors
    /// The setting that cannot work, and how to mend it.
    pub fn cluster(&self, dir: PathBuf) -> Result<ProcessConfig, String> {
        let mut cluster = self.primary.embedded(&self.query, dir, total_memory())?;
        cluster.files = self.files.settings(0);
        // There is one executor for replicas.
        cluster.files.replication = 1;
        // No executor has a port: results come through the primary.
        cluster.runs.from_executors = false;
        Ok(cluster)
    }

    /// The executor, which works in `dir`.
    ///
    /// # Errors
    /// The setting that cannot work, and how to mend it.
    pub fn executor(&self, dir: PathBuf) -> Result<ExecutorConfig, String> {
        let settings = self.executor.settings(&self.exchange)?;
        Ok(ExecutorConfig { name: Some("embedded".to_owned()), dir, block_dirs: Vec::new(), ..settings })
    }
}
