//! Why an attempt of a task failed, and the one place that says what follows from each kind.

use crate::ids::{AttemptId, ExecutorId};
use thiserror::Error;

/// Why one attempt failed. The kind decides what the primary does; the message is for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TaskFailure {
    /// A map output could not be read from the executor that holds it: it is gone, unreachable, or fails its checksum.
    #[error("map output {output} could not be fetched from {executor}: {message}")]
    FetchFailed { output: AttemptId, executor: ExecutorId, message: String },
    #[error("executor {executor} was lost")]
    ExecutorLost { executor: ExecutorId },
    #[error("out of memory: {message}")]
    OutOfMemory { message: String },
    /// Reading an input or a local file failed in a way that another try may mend.
    #[error("input or output failed: {message}")]
    Io { message: String },
    #[error("no space left on the executor's disk: {message}")]
    DiskFull { message: String },
    /// The statement or its data is at fault: no executor will do better.
    #[error("{message}")]
    UserError { message: String },
    /// A file of an input is not there. `path` is as its store names it.
    #[error("{message}")]
    FileMissing { path: String, message: String },
    #[error("cancelled")]
    Cancelled,
    /// A panic, or a plan that makes no sense: a defect of the engine, which every executor has.
    #[error("internal error: {message}")]
    Defect { message: String },
    /// Something unforeseen, which another executor may not meet.
    #[error("internal error: {message}")]
    Internal { message: String },
}

/// What the primary does about a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Run the task again; any executor will do, this one included.
    RetryAnywhere,
    /// Run the task again on another executor while there is one.
    RetryElsewhere,
    /// Run the task again with fewer tasks of its stage beside it on its executor. If it had the executor to itself, the job fails.
    RetryWithLessConcurrency,
    /// Compute the named map output again, then run the task again; the task itself is not at fault.
    RecomputeInput { output: AttemptId, executor: ExecutorId },
    /// Run the task again; the loss is not counted against the task.
    RetryUncounted,
    /// The job fails with this error.
    FailJob,
    /// Nothing: the attempt was not wanted any more.
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

    /// One word for logs, metrics and the history.
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
