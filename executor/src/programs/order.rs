//! What an executor and the supervisor of a program say to each other.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The first line of the supervisor's standard input. The program is ended when that input ends.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub program: String,
    pub args: Vec<String>,
    /// Working folder.
    pub dir: PathBuf,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Folder of its control group, which limits its memory.
    pub group: Option<PathBuf>,
    /// Maximum bytes of memory of all processes together.
    pub memory: u64,
    /// Maximum bytes in the working folder.
    pub disk: u64,
}

/// A line of the supervisor, on its standard error.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// The program holds this many bytes of memory.
    Holds(u64),
    /// Its end, in the last line.
    Ended(Verdict),
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The program has ended with this code.
    Exited(i32),
    /// A signal from outside ended the program.
    Signalled(i32),
    /// It could not be started, for this reason.
    NotStarted(String),
    /// It wanted more memory than it may hold, and was stopped.
    Memory,
    /// It had written this many bytes and was stopped.
    Disk(u64),
    /// It was stopped because its executor is gone, or does not want it any more.
    Unwanted,
}
