//! Identifiers. All are small, ordered and `Copy`, so that they can be keys of the machines' maps.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A statement or a submission. Unique for the life of a cluster: the primary's metadata store keeps the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// One registration of an executor process. A restarted process gets a new id, so messages of the old process are fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutorId(pub u64);

/// The tasks between two exchanges; `index` counts the stages of the job in topological order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId {
    pub job: JobId,
    pub index: u32,
}

/// A stage over one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    pub stage: StageId,
    pub partition: u32,
}

/// One execution of a task. Also names the map output that the execution leaves. Attempts count from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    pub task: TaskId,
    pub attempt: u32,
}

/// The content hash of an encoded stage plan: executors keep one decoded plan for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlanHash(pub u128);

/// A file or a folder of `wfs://`. An id is never reused, so it also serves as the file's version: a file that is written again gets a new id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

/// An immutable piece of a file. An id is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u64);

impl JobId {
    /// Returns the range of all possible attempts of this stage.
    pub fn attempts(self) -> RangeInclusive<AttemptId> {
        let [first, last] = [0, u32::MAX].map(|end| self.stage(end).task(end).attempt(end));
        first..=last
    }

    pub fn stage(self, index: u32) -> StageId {
        StageId { job: self, index }
    }
}

impl StageId {
    /// Returns the range of all possible attempts of this task.
    pub fn attempts(self) -> RangeInclusive<AttemptId> {
        let [first, last] = [0, u32::MAX].map(|end| self.task(end).attempt(end));
        first..=last
    }

    pub fn task(self, partition: u32) -> TaskId {
        TaskId { stage: self, partition }
    }
}

impl TaskId {
    pub fn attempt(self, attempt: u32) -> AttemptId {
        AttemptId { task: self, attempt }
    }
}

impl AttemptId {
    pub fn stage(self) -> StageId {
        self.task.stage
    }

    pub fn job(self) -> JobId {
        self.task.stage.job
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job-{:06}", self.0)
    }
}

/// Accepts the format of `Display`, and the bare number.
impl FromStr for JobId {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let digits = s.strip_prefix("job-").unwrap_or(s);
        digits.parse().map(JobId).map_err(|_| {
            format!("\"{s}\" is not a job id: expected one like job-000042, as 'windlass jobs list' prints it")
        })
    }
}

impl fmt::Display for ExecutorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "executor-{}", self.0)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file-{}", self.0)
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block-{}", self.0)
    }
}

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.index)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stage, self.partition)
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.task, self.attempt)
    }
}

impl fmt::Display for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
