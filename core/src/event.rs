//! The vocabulary of the primary's scheduling machine: its inputs and its outputs.
//!
//! ```text
//! step(now, Event) -> Output { persist, send, reply, facts }        next_deadline() -> Option<Instant>
//! ```

use crate::failure::TaskFailure;
use crate::ids::{AttemptId, ExecutorId, JobId, PlanHash, StageId};
use crate::job::{JobSpec, MapLocation};
use std::sync::Arc;
use std::time::Duration;

/// An executor's description of itself when it registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorSpec {
    pub id: ExecutorId,
    /// Name given by an operator, or the executor's address.
    pub name: String,
    pub host: String,
    pub rack: String,
    pub role: Role,
    pub slots: u32,
    /// Memory of tasks and programs together.
    pub memory_bytes: u64,
    /// Maximum memory of one program, a part of `memory_bytes`.
    pub program_memory_bytes: u64,
    /// Stages with outputs that it has kept since it lost its leader.
    pub kept: Vec<StageId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs tasks and holds replicas.
    Core,
    /// Only runs tasks.
    Task,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    ExecutorJoined(ExecutorSpec),
    /// Heartbeat without other content. Every event from an executor counts as a heartbeat.
    Heartbeat {
        executor: ExecutorId,
    },
    /// The executor's stream ended, or it said farewell.
    ExecutorGone {
        executor: ExecutorId,
        reason: String,
    },
    /// The executor must get no further tasks. `Command::Farewell` follows when it runs and holds nothing that is needed.
    ExecutorDraining {
        executor: ExecutorId,
    },
    JobSubmitted(Arc<JobSpec>),
    JobCancelled {
        job: JobId,
        reason: String,
    },
    /// The result of an ended job was read or is not wanted: its outputs may go.
    JobReleased {
        job: JobId,
    },
    TaskEnded {
        executor: ExecutorId,
        attempt: AttemptId,
        outcome: Outcome,
    },
    /// Outcome of `Command::AdoptOutputs`, in part or in full.
    OutputsMoved {
        /// The executor that was asked to adopt the outputs.
        executor: ExecutorId,
        moved: Vec<AttemptId>,
        /// Outputs that were not adopted, each with the reason for people.
        failed: Vec<(AttemptId, String)>,
    },
    /// The time returned by `next_deadline` has come.
    Tick,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The map output is complete and readable on its executor.
    Finished {
        rows: u64,
        /// Bytes in each bucket, as the exchange stores them; empty when the output has one bucket and is empty.
        bucket_bytes: Vec<u64>,
    },
    Failed(TaskFailure),
}

/// Work that one step asks the shell to do: persist, send and reply, then derive telemetry from the facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub persist: Vec<Persist>,
    pub send: Vec<(ExecutorId, Command)>,
    pub reply: Vec<Reply>,
    pub facts: Vec<Fact>,
}

/// Changes to the metadata store for the next leader. They are written in order, and nothing waits for them: a stage that was not saved in time runs again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Persist {
    /// A stage of the statement's job has finished, or some of its outputs have moved. The shell writes the value of
    /// [`Scheduler::kept`](crate::scheduler::Scheduler::kept) at the time of the write, and replaces the earlier value; it writes nothing when the stage is not
    /// finished any more.
    Stage { statement: Arc<str>, stage: StageId },
    /// The statement's job has ended: remove everything that was saved for it.
    Forget { statement: Arc<str>, job: JobId },
}

/// An order to an executor. Orders to one executor arrive in the order in which they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start these attempts of one stage together: they share one instance of the stage's plan (so one broadcast build side).
    Launch(Launch),
    /// Stop these attempts and remove what they wrote. They report `Cancelled`.
    Cancel { attempts: Vec<AttemptId> },
    /// Remove the map outputs of these stages; no task will read them again.
    DropOutputs { stages: Vec<StageId> },
    /// Fetch these map outputs from `from`, an executor that is leaving, and hold them as if they had been written here. `Event::OutputsMoved` reports each of
    /// them, except those that are dropped or cancelled before.
    AdoptOutputs { outputs: Vec<AttemptId>, from: ExecutorId },
    /// The executor runs and holds nothing that is needed: it may leave.
    Farewell,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    pub stage: StageId,
    pub plan: PlanHash,
    /// Whether the attempts hold no slots: see [`StageSpec::once`](crate::job::StageSpec::once).
    pub once: bool,
    /// Pairs of partition and attempt number, sorted by partition.
    pub attempts: Vec<(u32, u32)>,
    /// Locations of the stage's inputs, in the order of `StageSpec::inputs`, each sorted by partition.
    pub inputs: Arc<[Arc<[MapLocation]>]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The job has finished. The outputs of its result stage, sorted by partition, are kept until `Event::JobReleased`. Attempts that a `row_limit` spared are
    /// absent.
    JobFinished {
        job: JobId,
        outputs: Vec<MapLocation>,
    },
    JobFailed {
        job: JobId,
        error: JobError,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    #[error("{failure}")]
    Task { attempt: AttemptId, attempts: u32, failure: TaskFailure },
    #[error("cancelled: {reason}")]
    Cancelled { reason: String },
    #[error("the primary is stopping, and nothing was changed: run the statement again")]
    Stopping,
    #[error(
        "no executor joined within {waited_s} s: start one with 'windlass executor', or see 'windlass cluster status'"
    )]
    NoExecutors { waited_s: u64 },
    #[error("the job is not valid: {reason}")]
    Invalid { reason: String },
    #[error("too many jobs wait to start ({queued}): try again later")]
    Busy { queued: usize },
    #[error("{queued} jobs of user '{user}' wait to start, as many as one user may have: try again later")]
    UserBusy { user: String, queued: usize },
    #[error("timed out: it may take {} s and did not end in time; see windlass.statement_timeout_ms and the primary's statement_timeout", .limit.as_secs_f64())]
    TimedOut { limit: Duration },
    #[error("map output {output} was computed again {recomputes} times and still cannot be read: {failure}")]
    InputLost { output: AttemptId, recomputes: u32, failure: TaskFailure },
    #[error("stage {} runs at most once, and how far it came is not known: {reason}", .stage.index)]
    Once { stage: StageId, reason: String },
    #[error("task {} had to start again {retries} times, last because of this: {failure}", .attempt.task)]
    TooManyRetries { attempt: AttemptId, retries: u32, failure: TaskFailure },
}

/// Observations for the log, the metrics, the history and the web UI. No decision depends on facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    ExecutorJoined {
        executor: ExecutorId,
    },
    ExecutorLost {
        executor: ExecutorId,
        reason: String,
    },
    /// Too many tasks failed on the executor: it gets none for a time, while there are others.
    ExecutorExcluded {
        executor: ExecutorId,
        failures: u32,
    },
    ExecutorReadmitted {
        executor: ExecutorId,
    },
    JobStarted {
        job: JobId,
    },
    JobEnded {
        job: JobId,
        error: Option<JobError>,
    },
    StageStarted {
        stage: StageId,
    },
    StageFinished {
        stage: StageId,
        rows: u64,
        bytes: u64,
    },
    /// A stage runs again for these partitions, because their outputs were lost and are needed.
    StageReopened {
        stage: StageId,
        partitions: Vec<u32>,
    },
    TaskStarted {
        attempt: AttemptId,
        executor: ExecutorId,
    },
    /// A second attempt of a straggler starts.
    TaskSpeculated {
        attempt: AttemptId,
        executor: ExecutorId,
    },
    TaskCommitted {
        attempt: AttemptId,
        executor: ExecutorId,
        rows: u64,
        bytes: u64,
    },
    TaskFailed {
        attempt: AttemptId,
        executor: ExecutorId,
        failure: TaskFailure,
    },
    /// The job reuses an output that it left under an earlier leader.
    OutputTakenOver {
        output: AttemptId,
        executor: ExecutorId,
        rows: u64,
    },
    /// Outputs that remain of a stage that had finished under an earlier leader.
    StageTakenOver {
        stage: StageId,
        outputs: u32,
        rows: u64,
        bytes: u64,
    },
    /// The output has moved: readers find it at `to` from here on.
    OutputMoved {
        output: AttemptId,
        from: ExecutorId,
        to: ExecutorId,
    },
    /// The executor `to` could not adopt the output; another executor, or this one again, will be asked.
    OutputNotMoved {
        output: AttemptId,
        from: ExecutorId,
        to: ExecutorId,
        reason: String,
    },
    /// A report about an attempt that is no longer live was refused.
    ReportFenced {
        attempt: AttemptId,
        executor: ExecutorId,
    },
}
