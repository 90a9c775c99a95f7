//! Descriptions of jobs: graphs of stages, as the planner hands them to the scheduler.

use crate::ids::{ExecutorId, JobId, PlanHash};
use std::sync::Arc;
use std::time::Duration;

/// A job as submitted. Stages stand in topological order; the last one is the result stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpec {
    pub id: JobId,
    pub stages: Vec<StageSpec>,
    pub terms: Terms,
    /// Whether the job is one task that does little: it may run beside those that fill an executor.
    pub light: bool,
    /// Name under which the job's finished stages are saved for the next leader; `None` when they are not saved.
    pub statement: Option<Arc<str>>,
    /// Progress under earlier leaders; `None` when this leader began the job.
    pub earlier: Option<Earlier>,
}

/// Progress of a job that another leader began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    /// Leaders that have taken the job over, this one included.
    pub takeovers: Takeovers,
    /// Stages that had finished. Their plans, and the plans of all stages that they read, must equal those of this job.
    pub stages: Vec<FinishedStage>,
}

/// Attempt numbers reserved for each leader.
pub const ATTEMPTS_PER_LEADER: u32 = 1 << 16;

/// Number of leaders that took over a job that they did not begin. The metadata store keeps it beside the job's saved stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Takeovers(pub u32);

impl Takeovers {
    /// Counts one more takeover. The result must be durable before the job is submitted: then no two leaders give attempts the same numbers.
    pub fn next(self) -> Self {
        Takeovers(self.0.saturating_add(1))
    }

    /// First attempt number of each task under this leader: higher than any number that an earlier leader has given.
    pub fn first_attempt(self) -> u32 {
        ATTEMPTS_PER_LEADER.saturating_mul(self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedStage {
    pub stage: u32,
    pub outputs: Vec<FinishedOutput>,
}

/// A committed map output. Its location names the present registration of its executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinishedOutput {
    pub location: MapLocation,
    pub rows: u64,
    pub bytes: u64,
}

/// Conditions under which a job runs beside others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Fair pool that admits the job.
    pub pool: String,
    /// User who submitted the job. The limits of users count by this name; without a name, only the cluster's limits apply.
    pub user: String,
    /// Priority inside the pool: a job goes before all jobs of lower priority.
    pub priority: i32,
    /// Counted failures of one task before the job fails, at least 1.
    pub max_attempts: u32,
    /// Maximum time from submission to end, above which the job fails.
    pub timeout: Option<Duration>,
    /// Records to keep after the job has ended.
    pub retention: Retention,
}

/// Records that are kept of a job after it has ended, and lists that show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// Job of a user: lists show it, also under the next leader, until many other users' jobs have ended since.
    #[default]
    User,
    /// Job of the cluster itself: it never displaces a user's job, lists show it only on request, and none of it is written to the metadata store.
    Internal,
}

impl Default for Terms {
    fn default() -> Self {
        Terms {
            pool: "default".to_string(),
            user: String::new(),
            priority: 0,
            max_attempts: 4,
            timeout: None,
            retention: Retention::User,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageSpec {
    pub plan: PlanHash,
    /// Tasks of the stage, one for each partition, at least 1.
    pub tasks: u32,
    /// Buckets in each map output, from which a `Read::Bucket` selects. 1 for gathered, broadcast and result outputs.
    pub buckets: u32,
    pub inputs: Vec<StageInput>,
    /// Preferred places of tasks, by partition; empty, or one entry for each task.
    pub preferences: Vec<Preference>,
    /// Number of rows that suffices: once finished tasks have produced them, the other tasks need not run.
    pub row_limit: Option<u64>,
    /// Present if each task may begin only once, because it does more than compute rows, as a user's program does. The job fails when such a task is lost, or
    /// its output while it is needed. Such tasks hold no slots, and have as many places of their own.
    pub once: Option<Once>,
}

/// Needs of a task that begins only once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Once {
    /// Maximum bytes of memory that its program may hold. 0: as many as its executor allows one program.
    pub memory_bytes: u64,
}

/// An exchange that a stage reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageInput {
    /// Index of the producing stage, lower than the reader's.
    pub stage: u32,
    pub read: Read,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Task p reads bucket p of every map output.
    Bucket,
    /// Every task reads every map output whole (gather, merge, broadcast).
    All,
}

/// Preferred places of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preference {
    /// Hosts that hold the task's input, best first.
    pub hosts: Vec<String>,
    /// Executors that hold the task's input, best first. Tasks do not wait for them.
    pub executors: Vec<ExecutorId>,
    /// Key for rendezvous hashing over executors, so that a split goes to the same executor's caches each time. Zero: no wish.
    pub affinity: u64,
}

/// Location of a committed map output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapLocation {
    pub partition: u32,
    pub attempt: u32,
    pub executor: ExecutorId,
}
