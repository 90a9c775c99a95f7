//! Configuration of a cluster inside this process: the sections of a configuration file that apply to it.

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
    /// Configures the primary, with its store in `dir`.
    ///
    /// # Errors
    /// The setting that cannot work, and the remedy.
    pub fn cluster(&self, dir: PathBuf) -> Result<ProcessConfig, String> {
        let mut cluster = self.primary.embedded(&self.query, dir, total_memory())?;
        cluster.files = self.files.settings(0);
        // There is only one executor for replicas.
        cluster.files.replication = 1;
        // The executor has no port: results come through the primary.
        cluster.runs.from_executors = false;
        Ok(cluster)
    }

    /// Configures the executor, with its folder `dir`.
    ///
    /// # Errors
    /// The setting that cannot work, and the remedy.
    pub fn executor(&self, dir: PathBuf) -> Result<ExecutorConfig, String> {
        let settings = self.executor.settings(&self.exchange)?;
        Ok(ExecutorConfig { name: Some("embedded".to_owned()), dir, block_dirs: Vec::new(), ..settings })
    }
}
