//! Jobs, progress and the state of a cluster, as a client sees them. All serialise to the JSON that `--json` prints.

use crate::error::{ClientError, Result};
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use windlass_core::ids;
use windlass_proto::v1;

/// A job of a cluster. Written as `job-000042`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(u64);

/// State of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// None of its tasks has started yet.
    #[default]
    Queued,
    Running,
    Finished,
    Failed,
    Cancelled,
}

/// State of a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StageState {
    #[default]
    Waiting,
    Running,
    Finished,
    /// The job ended before the stage did.
    Stopped,
}

/// Progress of a statement.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Progress {
    /// Job of the statement; `None` before it becomes a job, which some statements never do.
    #[serde(serialize_with = "or_empty")]
    pub job: Option<JobId>,
    /// State; `None` during planning.
    #[serde(serialize_with = "or_empty")]
    pub state: Option<JobState>,
    pub stages: u32,
    pub stages_done: u32,
    pub tasks: u32,
    pub tasks_done: u32,
    pub tasks_running: u32,
    /// Rows and bytes of finished tasks' outputs, over all stages.
    pub rows: u64,
    pub bytes: u64,
    /// Stages that ran, in the last message.
    pub stage_details: Vec<Stage>,
}

/// A job in a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Job {
    pub job: JobId,
    pub name: String,
    pub statement: String,
    pub state: JobState,
    /// Error; empty unless the job failed.
    pub error: String,
    pub user: String,
    /// Milliseconds since 1970-01-01T00:00:00Z; 0 until it happens.
    pub submitted_ms: u64,
    pub started_ms: u64,
    pub ended_ms: u64,
    pub stages: u32,
    pub tasks: u32,
    pub tasks_done: u32,
    pub rows: u64,
    pub bytes: u64,
    /// Submission whose statement it runs.
    #[serde(serialize_with = "or_empty")]
    pub part_of: Option<JobId>,
}

/// A job with its stages.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct JobDetail {
    #[serde(flatten)]
    pub summary: Job,
    /// Stages; `None` for a submission, whose jobs have them.
    pub stage_details: Vec<Stage>,
    /// Present for a submission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submission: Option<Submission>,
}

/// The statements of a submission, which run one after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Submission {
    pub statements: u32,
    /// The statement that runs or ran last, counted from 1; 0: none yet.
    pub statement: u32,
    pub jobs: Vec<SubmissionJob>,
}

/// A job of a submission. Some statements need no job, and a statement has two when it ran a second time with joins that spill.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SubmissionJob {
    /// Number of the statement, from 1.
    pub statement: u32,
    pub job: JobId,
}

/// A stage of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stage {
    pub index: u32,
    /// Stages that it reads.
    pub inputs: Vec<u32>,
    pub state: StageState,
    /// Operators, one to a line, indented.
    pub plan: String,
    pub tasks: u32,
    pub tasks_done: u32,
    pub failed_attempts: u32,
    /// Rows of its output.
    pub rows: u64,
    pub bytes: u64,
    /// Wall time from the start of the first task to the end of the last one, and the sum over its tasks; microseconds.
    pub elapsed_us: u64,
    pub task_us: u64,
}

/// A cluster and its executors.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClusterStatus {
    pub version: String,
    pub pid: u32,
    pub uptime_ms: u64,
    /// Address of REST; empty when it is not served.
    pub rest: String,
    pub jobs_running: u32,
    pub jobs_queued: u32,
    pub executors: Vec<Executor>,
}

/// An executor as the primary sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Executor {
    pub id: String,
    pub name: String,
    pub address: String,
    pub host: String,
    pub rack: String,
    pub role: String,
    pub state: String,
    pub slots: u32,
    pub running_tasks: u32,
    pub memory_bytes: u64,
    pub memory_used_bytes: u64,
    pub memory_resident_bytes: u64,
    pub exchange_memory_bytes: u64,
    pub exchange_disk_bytes: u64,
    /// Memory that programs hold, a part of `memory_used_bytes`.
    pub program_memory_bytes: u64,
    pub pid: u32,
    pub dir: String,
}

impl Progress {
    /// Whether no message follows this one.
    pub fn is_last(&self) -> bool {
        self.state.is_some_and(JobState::has_ended)
    }
}

impl Job {
    /// Whether it finished, failed or was cancelled.
    pub fn has_ended(&self) -> bool {
        self.state.has_ended()
    }
}

impl JobState {
    /// Whether it finished, failed or was cancelled.
    pub fn has_ended(self) -> bool {
        matches!(self, JobState::Finished | JobState::Failed | JobState::Cancelled)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ids::JobId(self.0).fmt(f)
    }
}

impl FromStr for JobId {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self> {
        text.parse().map(|ids::JobId(id)| JobId(id)).map_err(ClientError::Invalid)
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Finished => "finished",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        })
    }
}

/// Serialises an absent value in the form that `--json` prints.
fn or_empty<T: Serialize, S: Serializer>(value: &Option<T>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(serializer),
        None => serializer.serialize_str(""),
    }
}

/// Parses the job id of a cluster. Empty: no job.
pub(crate) fn job_of(wire: &str) -> Result<Option<JobId>> {
    match wire {
        "" => Ok(None),
        named => Ok(Some(named.parse()?)),
    }
}

fn job_id(wire: &str) -> Result<JobId> {
    job_of(wire)?.ok_or_else(|| ClientError::garbled("the cluster's answer names no job"))
}

pub(crate) fn job_state(wire: &str) -> Result<JobState> {
    Ok(match wire {
        "queued" => JobState::Queued,
        "running" => JobState::Running,
        "finished" => JobState::Finished,
        "failed" => JobState::Failed,
        "cancelled" => JobState::Cancelled,
        other => return Err(ClientError::garbled(format!("the cluster says that a job is \"{other}\""))),
    })
}

fn stage_state(wire: &str) -> Result<StageState> {
    Ok(match wire {
        "waiting" => StageState::Waiting,
        "running" => StageState::Running,
        "finished" => StageState::Finished,
        "stopped" => StageState::Stopped,
        other => return Err(ClientError::garbled(format!("the cluster says that a stage is \"{other}\""))),
    })
}

impl Stage {
    pub fn elapsed(&self) -> Duration {
        Duration::from_micros(self.elapsed_us)
    }
}

impl TryFrom<v1::QueryProgress> for Progress {
    type Error = ClientError;

    fn try_from(wire: v1::QueryProgress) -> Result<Self> {
        Ok(Progress {
            job: job_of(&wire.job)?,
            state: Some(wire.state).filter(|state| !state.is_empty()).map(|state| job_state(&state)).transpose()?,
            stages: wire.stages,
            stages_done: wire.stages_done,
            tasks: wire.tasks,
            tasks_done: wire.tasks_done,
            tasks_running: wire.tasks_running,
            rows: wire.rows,
            bytes: wire.bytes,
            stage_details: wire.stage_details.into_iter().map(Stage::try_from).collect::<Result<_>>()?,
        })
    }
}

impl TryFrom<v1::JobSummary> for Job {
    type Error = ClientError;

    fn try_from(wire: v1::JobSummary) -> Result<Self> {
        Ok(Job {
            job: job_id(&wire.job)?,
            name: wire.name,
            statement: wire.statement,
            state: job_state(&wire.state)?,
            error: wire.error,
            user: wire.user,
            submitted_ms: wire.submitted_ms,
            started_ms: wire.started_ms,
            ended_ms: wire.ended_ms,
            stages: wire.stages,
            tasks: wire.tasks,
            tasks_done: wire.tasks_done,
            rows: wire.rows,
            bytes: wire.bytes,
            part_of: job_of(&wire.part_of)?,
        })
    }
}

impl TryFrom<v1::JobDetail> for JobDetail {
    type Error = ClientError;

    fn try_from(wire: v1::JobDetail) -> Result<Self> {
        Ok(JobDetail {
            summary: wire.summary.unwrap_or_default().try_into()?,
            stage_details: wire.stages.into_iter().map(Stage::try_from).collect::<Result<_>>()?,
            submission: wire.submission.map(Submission::try_from).transpose()?,
        })
    }
}

impl TryFrom<v1::Submission> for Submission {
    type Error = ClientError;

    fn try_from(wire: v1::Submission) -> Result<Self> {
        let part = |job: v1::SubmissionJob| Ok(SubmissionJob { statement: job.statement, job: job_id(&job.job)? });
        let jobs = wire.jobs.into_iter().map(part).collect::<Result<_>>()?;
        Ok(Submission { statements: wire.statements, statement: wire.statement, jobs })
    }
}

impl TryFrom<v1::StageDetail> for Stage {
    type Error = ClientError;

    fn try_from(wire: v1::StageDetail) -> Result<Self> {
        Ok(Stage {
            index: wire.index,
            inputs: wire.inputs,
            state: stage_state(&wire.state)?,
            plan: wire.plan,
            tasks: wire.tasks,
            tasks_done: wire.tasks_done,
            failed_attempts: wire.failed_attempts,
            rows: wire.rows,
            bytes: wire.bytes,
            elapsed_us: wire.elapsed_us,
            task_us: wire.task_us,
        })
    }
}

impl From<v1::ClusterStatusResponse> for ClusterStatus {
    fn from(wire: v1::ClusterStatusResponse) -> Self {
        ClusterStatus {
            version: wire.version,
            pid: wire.pid,
            uptime_ms: wire.uptime_ms,
            rest: wire.rest_url,
            jobs_running: wire.jobs_running,
            jobs_queued: wire.jobs_queued,
            executors: wire.executors.into_iter().map(Executor::from).collect(),
        }
    }
}

impl From<v1::ExecutorStatus> for Executor {
    fn from(wire: v1::ExecutorStatus) -> Self {
        Executor {
            id: windlass_core::ids::ExecutorId(wire.id).to_string(),
            name: wire.name,
            address: wire.address,
            host: wire.host,
            rack: wire.rack,
            role: wire.role,
            state: wire.state,
            slots: wire.slots,
            running_tasks: wire.running_tasks,
            memory_bytes: wire.memory_bytes,
            memory_used_bytes: wire.memory_used_bytes,
            memory_resident_bytes: wire.memory_resident_bytes,
            exchange_memory_bytes: wire.exchange_memory_bytes,
            exchange_disk_bytes: wire.exchange_disk_bytes,
            program_memory_bytes: wire.program_memory_bytes,
            pid: wire.pid,
            dir: wire.dir,
        }
    }
}
