//! The cluster and its jobs, as REST writes them.

use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use windlass_scheduler::services::cluster::{ClusterStatus, ExecutorView, Wanted};
use windlass_scheduler::services::jobs::{self as service, JobDetail, JobView, StageView, SubmissionView};

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Error {
    error: What,
}

#[derive(Debug, Serialize, ToSchema)]
struct What {
    kind: ErrorKind,
    /// What was wrong, and how to mend it.
    message: String,
}

/// `standby`: another primary leads. `not_leading`: this one leads no longer.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ErrorKind {
    Invalid,
    NotFound,
    NotLeading,
    #[expect(dead_code, reason = "a primary that stands by answers it")]
    Standby,
}

impl Error {
    pub fn of(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { error: What { kind, message: message.into() } }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Cluster {
    /// The release of Windlass.
    version: &'static str,
    pid: u32,
    /// Milliseconds since the primary began to lead.
    uptime_ms: u64,
    executors: Vec<Executor>,
    /// Tasks that all executors run at a time.
    slots: u64,
    /// Sum of the limits of the executors' memory pools.
    memory_bytes: u64,
    /// Sessions of clients.
    sessions: usize,
    /// Results that wait to be read.
    results_kept: usize,
    /// Absent while the primary stops.
    #[schema(required)]
    demand: Option<WantedExecutors>,
    jobs_running: usize,
    jobs_queued: usize,
    /// Number of jobs in the history, by state.
    #[schema(value_type = BTreeMap<JobState, usize>)]
    jobs: BTreeMap<JobState, usize>,
    /// Grows with each change of the catalog.
    catalog_version: u64,
}

/// The executors that the cluster wants.
#[derive(Debug, Serialize, ToSchema)]
struct WantedExecutors {
    slots: u64,
    /// The same in executors, within the limits.
    executors: u32,
    #[schema(example = "pending")]
    reason: &'static str,
    /// Tasks that could start if there were slots.
    pending_tasks: u64,
    running_tasks: u64,
    /// Absent unless the number of executors follows the load.
    #[schema(required)]
    min_executors: Option<u32>,
    #[schema(required)]
    max_executors: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Executor {
    id: u64,
    name: String,
    /// host:port of its services.
    address: String,
    host: String,
    rack: String,
    pid: u32,
    #[schema(example = "live")]
    state: String,
    /// Tasks that it runs at a time.
    slots: u32,
    running_tasks: u32,
    /// Limit of its memory pool.
    memory_bytes: u64,
    /// Reserved in the pool.
    memory_used_bytes: u64,
    /// Resident memory of the process without pages of files.
    memory_resident_bytes: u64,
    /// Map outputs in memory.
    exchange_memory_bytes: u64,
    /// Map outputs in files.
    exchange_disk_bytes: u64,
    /// Memory that programs hold. It is reserved in the pool.
    program_memory_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum JobState {
    Queued,
    Running,
    Finished,
    Failed,
    Cancelled,
}

impl From<service::JobState> for JobState {
    fn from(state: service::JobState) -> Self {
        match state {
            service::JobState::Queued => JobState::Queued,
            service::JobState::Running => JobState::Running,
            service::JobState::Finished => JobState::Finished,
            service::JobState::Failed => JobState::Failed,
            service::JobState::Cancelled => JobState::Cancelled,
        }
    }
}

/// `stopped`: the job ended before the stage did.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum StageState {
    Waiting,
    Running,
    Finished,
    Stopped,
}

impl From<service::StageState> for StageState {
    fn from(state: service::StageState) -> Self {
        match state {
            service::StageState::Waiting => StageState::Waiting,
            service::StageState::Running => StageState::Running,
            service::StageState::Finished => StageState::Finished,
            service::StageState::Stopped => StageState::Stopped,
        }
    }
}

impl From<ClusterStatus> for Cluster {
    fn from(status: ClusterStatus) -> Self {
        let executors = &status.executors;
        let jobs: BTreeMap<JobState, usize> = status.jobs.iter().map(|(state, n)| ((*state).into(), *n)).collect();
        Cluster {
            version: status.version,
            pid: status.pid,
            uptime_ms: status.uptime.as_millis() as u64,
            slots: executors.iter().map(|executor| u64::from(executor.slots)).sum(),
            memory_bytes: executors.iter().map(|executor| executor.memory_bytes).sum(),
            sessions: status.sessions,
            results_kept: status.results,
            demand: status.wanted.map(WantedExecutors::from),
            jobs_running: jobs.get(&JobState::Running).copied().unwrap_or(0),
            jobs_queued: jobs.get(&JobState::Queued).copied().unwrap_or(0),
            jobs,
            catalog_version: status.catalog_version,
            executors: status.executors.into_iter().map(Executor::from).collect(),
        }
    }
}

impl From<Wanted> for WantedExecutors {
    fn from(Wanted { load, demand, limits }: Wanted) -> Self {
        WantedExecutors {
            slots: demand.slots,
            executors: demand.executors,
            reason: demand.reason.as_str(),
            pending_tasks: load.pending,
            running_tasks: load.running,
            min_executors: limits.as_ref().map(|limits| limits.min),
            max_executors: limits.as_ref().map(|limits| limits.max),
        }
    }
}

impl From<ExecutorView> for Executor {
    fn from(executor: ExecutorView) -> Self {
        Executor {
            id: executor.id.0,
            name: executor.name,
            address: executor.address,
            host: executor.host,
            rack: executor.rack,
            pid: executor.pid,
            state: executor.standing.to_string(),
            slots: executor.slots,
            running_tasks: executor.running,
            memory_bytes: executor.memory_bytes,
            memory_used_bytes: executor.memory_used_bytes,
            memory_resident_bytes: executor.memory_resident_bytes,
            exchange_memory_bytes: executor.exchange_memory_bytes,
            exchange_disk_bytes: executor.exchange_disk_bytes,
            program_memory_bytes: executor.program_memory_bytes,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobList {
    pub jobs: Vec<Job>,
}

/// A job, or a submission with its jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Job {
    #[serde(flatten)]
    about: JobInfo,
    /// Number of its stages.
    stages: u32,
}

#[derive(Debug, Serialize, ToSchema)]
struct JobInfo {
    #[schema(example = "job-1")]
    job: String,
    /// The given name, or else the beginning of the statement.
    name: String,
    /// The statement's text. Long ones are cut.
    statement: String,
    /// Empty if nobody was named.
    user: String,
    state: JobState,
    /// Why it failed or was cancelled.
    #[schema(required)]
    error: Option<String>,
    /// Milliseconds since 1970-01-01T00:00:00Z, as are the two below.
    submitted_ms: u64,
    #[schema(required)]
    started_ms: Option<u64>,
    #[schema(required)]
    ended_ms: Option<u64>,
    tasks: u32,
    tasks_done: u32,
    tasks_running: u32,
    /// Rows that the last stage has put out so far.
    rows: u64,
    /// Bytes of these rows.
    bytes: u64,
    /// The submission to which its statement belongs.
    #[schema(required)]
    part_of: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobWithStages {
    #[serde(flatten)]
    about: JobInfo,
    /// Empty for a submission, whose jobs have stages.
    stages: Vec<Stage>,
    /// Present for a submission.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    submission: Option<Submission>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Stage {
    index: u32,
    /// Indexes of the stages that it reads.
    inputs: Vec<u32>,
    state: StageState,
    tasks: u32,
    tasks_done: u32,
    tasks_running: u32,
    failed_attempts: u32,
    rows: u64,
    bytes: u64,
    /// Microseconds from the first task's start to the last one's end.
    elapsed_us: u64,
    /// Microseconds of all committed attempts.
    task_us: u64,
    /// The operators, one to a line, each with its metrics.
    plan: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct Submission {
    /// Number of its statements.
    statements: u32,
    /// Number of its statements that have begun.
    statement: u32,
    jobs: Vec<JobOfStatement>,
}

#[derive(Debug, Serialize, ToSchema)]
struct JobOfStatement {
    /// Number of the statement, from 1.
    statement: u32,
    job: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Cancelled {
    pub job: String,
    pub state: JobState,
}

impl From<JobView> for Job {
    fn from(job: JobView) -> Self {
        Job { stages: job.stages, about: job.into() }
    }
}

impl From<JobView> for JobInfo {
    fn from(job: JobView) -> Self {
        JobInfo {
            job: job.id.to_string(),
            name: job.name,
            statement: job.statement,
            user: job.user,
            state: job.state.into(),
            error: job.error,
            submitted_ms: job.submitted_ms,
            started_ms: job.started_ms,
            ended_ms: job.ended_ms,
            tasks: job.tasks.all,
            tasks_done: job.tasks.done,
            tasks_running: job.tasks.running,
            rows: job.rows,
            bytes: job.bytes,
            part_of: job.part_of.map(|submission| submission.to_string()),
        }
    }
}

impl From<JobDetail> for JobWithStages {
    fn from(detail: JobDetail) -> Self {
        JobWithStages {
            about: detail.job.into(),
            stages: detail.stages.into_iter().map(Stage::from).collect(),
            submission: detail.submission.map(Submission::from),
        }
    }
}

impl From<StageView> for Stage {
    fn from(stage: StageView) -> Self {
        Stage {
            index: stage.index,
            inputs: stage.inputs,
            state: stage.state.into(),
            tasks: stage.tasks.all,
            tasks_done: stage.tasks.done,
            tasks_running: stage.tasks.running,
            failed_attempts: stage.failed_attempts,
            rows: stage.rows,
            bytes: stage.bytes,
            elapsed_us: stage.elapsed.as_micros() as u64,
            task_us: stage.task_time.as_micros() as u64,
            plan: stage.plan,
        }
    }
}

impl From<SubmissionView> for Submission {
    fn from(submission: SubmissionView) -> Self {
        let jobs = submission.jobs.into_iter();
        let jobs = jobs.map(|(statement, job)| JobOfStatement { statement, job: job.to_string() });
        Submission { statements: submission.statements, statement: submission.begun, jobs: jobs.collect() }
    }
}
