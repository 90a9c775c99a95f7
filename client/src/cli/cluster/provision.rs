//! Executor processes on this machine, for a primary that follows its load.

use super::process::{self, Process, Started};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use windlass_scheduler::driver::elastic::Provisioner;

/// Time for the processes to end when their primary ends.
const PATIENCE: Duration = Duration::from_secs(2);

/// Starts `windlass executor` processes, each in its own folder.
#[derive(Debug)]
pub struct Processes {
    /// Parent of the executors' folders.
    pub dir: PathBuf,
    /// Arguments except the name and the folder.
    pub arguments: Vec<String>,
    pub started: Mutex<BTreeMap<String, Started>>,
}

#[async_trait]
impl Provisioner for Processes {
    async fn start(&self, name: &str) -> Result<(), String> {
        let home = self.dir.join(name);
        let own = ["--name".to_owned(), name.to_owned(), "--dir".to_owned(), home.join("data").display().to_string()];
        let started = process::start(&home, &[&self.arguments[..], &own].concat()).map_err(|e| e.to_string())?;
        self.started.lock().insert(name.to_owned(), started);
        Ok(())
    }

    async fn running(&self) -> BTreeSet<String> {
        let mut started = self.started.lock();
        let ended: Vec<String> =
            started.extract_if(.., |_, executor| executor.has_ended()).map(|(name, _)| name).collect();
        for name in ended {
            // The log stays.
            if let Err(error) = std::fs::remove_dir_all(self.dir.join(&name).join("data")) {
                tracing::debug!(name, %error, "the folder of an executor that has ended stays");
            }
        }
        started.keys().cloned().collect()
    }

    async fn end(&self) {
        let started = std::mem::take(&mut *self.started.lock());
        let processes: Vec<Process> = started.values().map(|executor| executor.process.clone()).collect();
        if let Err(error) = process::end(&processes, PATIENCE).await {
            tracing::warn!(%error, "executors may be left");
        }
    }
}
