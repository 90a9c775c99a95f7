//! Why an operation on files was refused.

use super::path::FsPath;
use crate::ids::{BlockId, FileId};
use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FsError {
    #[error("\"{path}\" is not a path: {reason}")]
    InvalidPath { path: String, reason: String },
    #[error("there is no file or folder {path}")]
    NotFound { path: FsPath },
    #[error("{path} exists already")]
    AlreadyExists { path: FsPath },
    #[error("{path} was changed by someone else meanwhile")]
    Changed { path: FsPath },
    #[error("{path} is a folder")]
    IsFolder { path: FsPath },
    #[error("{path} is a file")]
    NotFolder { path: FsPath },
    #[error("the folder {path} is not empty; remove it with all that is in it (-r), or move what it has first")]
    NotEmpty { path: FsPath },
    #[error("{reason}")]
    Invalid { reason: String },
    #[error("the quota of {path} is used up: {used} of {limit} {unit}, and {wanted} more would be needed")]
    QuotaExceeded { path: FsPath, unit: &'static str, used: u64, limit: u64, wanted: u64 },
    /// The writer's lease has ended, or another one finished the file.
    #[error("{file} is not being written any more: its writer was silent for too long, or gave it up; write it again")]
    NotWriting { file: FileId },
    #[error("{block} cannot be placed: {reason}")]
    NoTargets { block: BlockId, reason: String },
    /// To be asked again.
    #[error("{block} has {durable} durable replicas, and {wanted} are wanted before the file is complete")]
    NotDurable { block: BlockId, durable: usize, wanted: usize },
}
