//! Reasons why an attempt of a task fails, and the one place that maps each kind to a recovery.

use crate::ids::{AttemptId, ExecutorId};
use thiserror::Error;

/// Reason why one attempt failed. The kind decides what the primary does; the message is for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TaskFailure {
    /// A map output could not be read from the executor that holds it: it is gone, unreachable, or fails its checksum.
    #[error("map output {output} could not be fetched from {executor}: {message}")]
    FetchFailed { output: AttemptId, executor: ExecutorId, message: String },
    #[error("executor {executor} was lost")]
    ExecutorLost { executor: ExecutorId },
    #[error("out of memory: {message}")]
    OutOfMemory { message: String },
    /// An input or a local file could not be read; a retry may succeed.
    #[error("input or output failed: {message}")]
    Io { message: String },
    #[error("no space left on the executor's disk: {message}")]
    DiskFull { message: String },
    /// The statement or its data is at fault: a retry fails on every executor.
    #[error("{message}")]
    UserError { message: String },
    /// An input file is missing. `path` is the name that its store uses.
    #[error("{message}")]
    FileMissing { path: String, message: String },
    #[error("cancelled")]
    Cancelled,
    /// A panic or an invalid plan: a defect of the engine, which a retry does not cure.
    #[error("internal error: {message}")]
    Defect { message: String },
    /// An unforeseen failure that another executor may not have.
    #[error("internal error: {message}")]
    Internal { message: String },
}

/// The primary's reaction to a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Run the task again on any executor, this one included.
    RetryAnywhere,
    /// Run the task again on another executor while there is one.
    RetryElsewhere,
    /// Run the task again with fewer tasks of its stage beside it on its executor. The job fails if the task already had the executor to itself.
    RetryWithLessConcurrency,
    /// Compute the named map output again, then run the task again; the task itself is not at fault.
    RecomputeInput { output: AttemptId, executor: ExecutorId },
    /// Run the task again without counting the loss against the task.
    RetryUncounted,
    /// Fail the job with this error.
    FailJob,
    /// Do nothing: the attempt was not wanted any more.
    Ignore,
}

impl TaskFailure {
    pub fn recovery(&self) -> Recovery {
        match self {
            TaskFailure::FetchFailed { output, executor, .. } => {
                Recovery::RecomputeInput { output: *output, executor: *executor }
            }
            TaskFailure::ExecutorLost { .. } => Recovery::RetryUncounted,
            TaskFailure::OutOfMemory { .. } => Recovery::RetryWithLessConcurrency,
            TaskFailure::Io { .. } => Recovery::RetryAnywhere,
            TaskFailure::DiskFull { .. } => Recovery::RetryElsewhere,
            TaskFailure::UserError { .. } | TaskFailure::FileMissing { .. } | TaskFailure::Defect { .. } => {
                Recovery::FailJob
            }
            TaskFailure::Cancelled => Recovery::Ignore,
            TaskFailure::Internal { .. } => Recovery::RetryElsewhere,
        }
    }

    /// One word for the kind, used by logs, metrics and the history.
    pub fn kind(&self) -> &'static str {
        match self {
            TaskFailure::FetchFailed { .. } => "fetch_failed",
            TaskFailure::ExecutorLost { .. } => "executor_lost",
            TaskFailure::OutOfMemory { .. } => "out_of_memory",
            TaskFailure::Io { .. } => "io",
            TaskFailure::DiskFull { .. } => "disk_full",
            TaskFailure::UserError { .. } => "user_error",
            TaskFailure::FileMissing { .. } => "file_missing",
            TaskFailure::Cancelled => "cancelled",
            TaskFailure::Defect { .. } => "defect",
            TaskFailure::Internal { .. } => "internal",
        }
    }
}
