//! Jobs, progress and the state of a cluster, as a client sees them. All serialise to JSON as `--json` prints them.

use serde::Serialize;
use std::time::Duration;
use windlass_proto::v1;

/// How far a statement is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Progress {
    /// Empty until the statement became a job; some statements never do.
    pub job: String,
    /// queued, running, finished, failed, cancelled
    pub state: String,
    pub stages: u32,
    pub stages_done: u32,
    pub tasks: u32,
    pub tasks_done: u32,
    pub tasks_running: u32,
    /// Rows and bytes that finished tasks have left, over all stages.
    pub rows: u64,
    pub bytes: u64,
    /// What ran, with the last message.
    pub stage_details: Vec<Stage>,
}

/// A job in a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Job {
    pub job: String,
    pub name: String,
    pub statement: String,
    /// queued, running, finished, failed, cancelled
    pub state: String,
    /// Empty unless it failed.
    pub error: String,
    pub user: String,
    /// Milliseconds since 1970-01-01T00:00:00Z; 0: not yet.
    pub submitted_ms: u64,
    pub started_ms: u64,
    pub ended_ms: u64,
    pub stages: u32,
    pub tasks: u32,
    pub tasks_done: u32,
    pub rows: u64,
    pub bytes: u64,
    /// The submission that it runs a statement of; empty: none.
    pub part_of: String,
}

/// A job with its stages.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct JobDetail {
    #[serde(flatten)]
    pub summary: Job,
    /// None of a submission: its jobs have them.
    pub stage_details: Vec<Stage>,
    /// Of a submission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<Program>,
}

/// The statements of a submission, which run one after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Program {
    pub statements: u32,
    /// The one that runs or ran last; 1 is the first, 0: none yet.
    pub statement: u32,
    pub jobs: Vec<ProgramJob>,
}

/// A job of a submission. A statement has none that needs none, and two when it ran a second time with joins that spill.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProgramJob {
    /// 1 is the first.
    pub statement: u32,
    pub job: String,
}

/// A stage of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stage {
    pub index: u32,
    /// The stages that it reads.
    pub inputs: Vec<u32>,
    pub state: String,
    /// Its operators, one to a line, indented.
    pub plan: String,
    pub tasks: u32,
    pub tasks_done: u32,
    pub failed_attempts: u32,
    /// Of its output.
    pub rows: u64,
    pub bytes: u64,
    /// From the first task's start to the last one's end, and the sum over its tasks; microseconds.
    pub elapsed_us: u64,
    pub task_us: u64,
}

/// A cluster and its executors.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClusterStatus {
    pub version: String,
    pub pid: u32,
    pub uptime_ms: u64,
    /// Empty when REST is not served.
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
    pub pid: u32,
    pub dir: String,
}

impl Progress {
    /// Nothing comes after this.
    pub fn is_last(&self) -> bool {
        has_ended(&self.state)
    }
}

impl Job {
    /// It finished, failed or was cancelled.
    pub fn has_ended(&self) -> bool {
        has_ended(&self.state)
    }
}

fn has_ended(state: &str) -> bool {
    matches!(state, "finished" | "failed" | "cancelled")
}

impl Stage {
    pub fn elapsed(&self) -> Duration {
        Duration::from_micros(self.elapsed_us)
    }
}

impl From<v1::QueryProgress> for Progress {
    fn from(wire: v1::QueryProgress) -> Self {
        Progress {
            job: wire.job,
            state: wire.state,
            stages: wire.stages,
            stages_done: wire.stages_done,
            tasks: wire.tasks,
            tasks_done: wire.tasks_done,
            tasks_running: wire.tasks_running,
            rows: wire.rows,
            bytes: wire.bytes,
            stage_details: wire.stage_details.into_iter().map(Stage::from).collect(),
        }
    }
}

impl From<v1::JobSummary> for Job {
    fn from(wire: v1::JobSummary) -> Self {
        Job {
            job: wire.job,
            name: wire.name,
            statement: wire.statement,
            state: wire.state,
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
            part_of: wire.part_of,
        }
    }
}

impl From<v1::JobDetail> for JobDetail {
    fn from(wire: v1::JobDetail) -> Self {
        JobDetail {
            summary: wire.summary.unwrap_or_default().into(),
            stage_details: wire.stages.into_iter().map(Stage::from).collect(),
            program: wire.program.map(Program::from),
        }
    }
}

impl From<v1::Program> for Program {
    fn from(wire: v1::Program) -> Self {
        let jobs = wire.jobs.into_iter().map(|job| ProgramJob { statement: job.statement, job: job.job });
        Program { statements: wire.statements, statement: wire.statement, jobs: jobs.collect() }
    }
}

impl From<v1::StageDetail> for Stage {
    fn from(wire: v1::StageDetail) -> Self {
        Stage {
            index: wire.index,
            inputs: wire.inputs,
            state: wire.state,
            plan: wire.plan,
            tasks: wire.tasks,
            tasks_done: wire.tasks_done,
            failed_attempts: wire.failed_attempts,
            rows: wire.rows,
            bytes: wire.bytes,
            elapsed_us: wire.elapsed_us,
            task_us: wire.task_us,
        }
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
            pid: wire.pid,
            dir: wire.dir,
        }
    }
}
