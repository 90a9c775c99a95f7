//! What a job asks for: a graph of stages, as the planner hands it to the scheduler.

use crate::ids::{ExecutorId, JobId, PlanHash};
use std::sync::Arc;
use std::time::Duration;

/// A job as submitted. Stages stand in topological order; the last one is the result stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpec {
    pub id: JobId,
    pub stages: Vec<StageSpec>,
    pub terms: Terms,
    /// It is one task that does little: it may run beside those that fill an executor.
    pub light: bool,
    /// The name under which its finished stages are saved for the next leader, if they are.
    pub statement: Option<Arc<str>>,
    /// Present when an earlier leader began it.
    pub earlier: Option<Earlier>,
}

/// What a job has behind it when a leader goes on with it that did not begin it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    /// How many leaders have gone on with it, this one included.
    pub takeovers: Takeovers,
    /// Stages that had finished. Their plans, and those of all that they read, must be those of this job.
    pub stages: Vec<KeptStage>,
}

/// Attempt numbers of one leader.
pub const ATTEMPTS_PER_LEADER: u32 = 1 << 16;

/// Counts the leaders that went on with a job that they did not begin. The metadata store keeps it beside the job's saved stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Takeovers(pub u32);

impl Takeovers {
    /// One more leader goes on with the job. This must be durable before the job is submitted: then no two leaders give attempts
    /// the same numbers.
    pub fn next(self) -> Self {
        Takeovers(self.0.saturating_add(1))
    }

    /// Attempts of each task count from here on: higher than any number that an earlier leader has given.
    pub fn first_attempt(self) -> u32 {
        ATTEMPTS_PER_LEADER.saturating_mul(self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptStage {
    pub stage: u32,
    pub outputs: Vec<KeptOutput>,
}

/// A committed map output. Its executor is named by its present registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptOutput {
    pub location: MapLocation,
    pub rows: u64,
    pub bytes: u64,
}

/// On what terms a job runs beside the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The fair pool that the job is admitted to.
    pub pool: String,
    /// Who submitted it. Limits of users count by this name; without one, only those of the cluster hold.
    pub user: String,
    /// Inside its pool, a job goes before all of lower priority.
    pub priority: i32,
    /// Counted failures of one task before the job fails, at least 1.
    pub max_attempts: u32,
    /// From its submission to its end, above which the job fails.
    pub timeout: Option<Duration>,
    /// What is kept of it once it has ended.
    pub retention: Retention,
}

/// What is kept of a job once it has ended, and who is shown it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// A user's: lists show it, also under the next leader, until many other users' jobs have ended since.
    #[default]
    User,
    /// The cluster's own: it never takes the place of a user's, lists show it when they are asked to, and nothing of it is written to the
    /// metadata store.
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
    /// Buckets in each map output: what a reader of `Read::Bucket` selects from. 1 for gathered, broadcast and result outputs.
    pub buckets: u32,
    pub inputs: Vec<StageInput>,
    /// Where tasks would rather run, by partition; empty, or one entry for each task.
    pub preferences: Vec<Preference>,
    /// Any this many rows are enough: once finished tasks have produced them, the other tasks need not run.
    pub row_limit: Option<u64>,
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

/// Where a task would rather run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preference {
    /// Hosts that hold the task's input, best first.
    pub hosts: Vec<String>,
    /// Executors that hold the task's input, best first. They are not waited for.
    pub executors: Vec<ExecutorId>,
    /// Key for rendezvous hashing over executors, so that the same split goes to the same executor's caches. Zero: no wish.
    pub affinity: u64,
}

/// Where a committed map output lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapLocation {
    pub partition: u32,
    pub attempt: u32,
    pub executor: ExecutorId,
}
