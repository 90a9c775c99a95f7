//! The record that 'cluster up' leaves in its folder: the processes of the cluster.
//!
//! ```text
//! DIR/cluster.json         this record, written whole
//! DIR/lock                 held while a command changes the cluster
//! DIR/primary/             metadata store; log
//! DIR/executor-1/          exchange data; log
//! ```

use super::super::Failure;
use super::process::Process;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub url: String,
    /// Address of REST; empty when it is not served.
    pub rest: String,
    pub primaries: Vec<Primary>,
    pub executors: Vec<Executor>,
    /// Slots of executors that are added later.
    pub slots: u32,
    pub memory_bytes: u64,
    pub config: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Primary {
    pub pid: u32,
    /// Address of REST; empty when it is not served.
    #[serde(default)]
    pub rest: String,
    pub dir: PathBuf,
    pub started: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Executor {
    /// Id that the primary gave it.
    pub id: String,
    /// Name of its folder; unique in the cluster.
    pub name: String,
    pub pid: u32,
    pub dir: PathBuf,
    pub started: String,
}

impl State {
    pub fn read(dir: &Path) -> Result<State, Failure> {
        let file = dir.join("cluster.json");
        let text = fs::read_to_string(&file).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Failure::Usage(format!(
                "no cluster was started in {}: start one with 'windlass cluster up --dir {}', or correct --dir",
                dir.display(),
                dir.display()
            )),
            _ => Failure::Failed(format!("cannot read {}: {e}", file.display())),
        })?;
        serde_json::from_str(&text).map_err(|e| {
            Failure::Failed(format!("{} is damaged: {e}; stop its processes by hand and remove it", file.display()))
        })
    }

    pub fn write(&self, dir: &Path) -> Result<(), Failure> {
        let file = dir.join("cluster.json");
        let partial = dir.join("cluster.json.partial");
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Failure::Failed(format!("cannot describe the cluster as JSON: {e}")))?;
        fs::write(&partial, text)
            .and_then(|()| fs::rename(&partial, &file))
            .map_err(|e| Failure::Failed(format!("cannot write {}: {e}", file.display())))
    }

    pub fn remove(dir: &Path) -> Result<(), Failure> {
        let file = dir.join("cluster.json");
        match fs::remove_file(&file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Failure::Failed(format!("cannot remove {}: {e}", file.display())))
            }
            _ => Ok(()),
        }
    }

    pub fn primaries(&self) -> impl Iterator<Item = Process> + '_ {
        self.primaries.iter().map(|primary| Process { pid: primary.pid, started: primary.started.clone() })
    }

    pub fn executors(&self) -> impl Iterator<Item = Process> + '_ {
        self.executors.iter().map(|executor| Process { pid: executor.pid, started: executor.started.clone() })
    }

    /// Numbers of executors to start: those that have ended, which come back with their folders, and then new ones.
    pub fn numbers(&self, count: usize) -> Vec<usize> {
        let number = |executor: &Executor| executor.name.strip_prefix("executor-")?.parse::<usize>().ok();
        let next = self.executors.iter().filter_map(number).max().unwrap_or(0) + 1;
        let processes = self.executors.iter().zip(self.executors());
        let ended = processes.filter(|(_, process)| !process.is_alive()).filter_map(|(executor, _)| number(executor));
        let mut ended: Vec<usize> = ended.collect();
        ended.sort_unstable();
        ended.into_iter().chain(next..).take(count).collect()
    }
}

/// Locks the folder: one command at a time changes a cluster.
pub fn lock(dir: &Path) -> Result<File, Failure> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(|e| {
        Failure::Failed(format!("cannot write in the folder {}: {e}; choose another with --dir", dir.display()))
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::Failed(format!(
            "another 'windlass cluster' command works in {}: wait until it is done",
            dir.display()
        ))),
        Err(TryLockError::Error(e)) => Err(Failure::Failed(format!("cannot lock {}: {e}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            url: "grpc://127.0.0.1:1".to_owned(),
            rest: String::new(),
            primaries: vec![Primary { pid: 1, rest: String::new(), dir: "p".into(), started: "x".to_owned() }],
            executors: ["executor-1", "executor-7"]
                .map(|name| Executor {
                    id: name.to_owned(),
                    name: name.to_owned(),
                    pid: 2,
                    dir: "e".into(),
                    started: "y".to_owned(),
                })
                .into(),
            slots: 1,
            memory_bytes: 1 << 30,
            config: None,
        }
    }

    #[test]
    fn the_record_reads_back_and_names_are_not_used_twice() {
        let dir = tempfile::tempdir().unwrap();
        state().write(dir.path()).unwrap();
        assert_eq!(State::read(dir.path()).unwrap(), state());
        assert_eq!(state().numbers(3), [1, 7, 8], "those that have ended come back first");
        State::remove(dir.path()).unwrap();
        let Failure::Usage(message) = State::read(dir.path()).unwrap_err() else { panic!("a usage error") };
        assert!(message.contains("windlass cluster up"), "{message}");
    }

    #[test]
    fn pids_of_other_processes_are_not_taken_for_the_cluster() {
        // Process 1 runs, and was not started at the time in the record.
        assert!(!state().primaries().chain(state().executors()).any(|process| process.is_alive()));
    }

    #[test]
    fn one_command_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        assert!(lock(dir.path()).is_err());
        drop(held);
        assert!(lock(dir.path()).is_ok());
    }
}
