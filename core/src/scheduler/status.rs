//! Read-only views, for status pages and tests. Telemetry comes from facts.

use super::Scheduler;
use super::executors::{Executor, ExecutorState};
use super::jobs::{Job, Stage};
use crate::elastic::{Load, Member};
use crate::event::ExecutorSpec;
use crate::ids::{ExecutorId, JobId, StageId};
use crate::time::Instant;

/// One executor, as the machine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorStatus<'a> {
    pub spec: &'a ExecutorSpec,
    pub state: ExecutorState,
    /// Whether it gets no tasks for a time, while there are others, because too many failed on it.
    pub excluded: bool,
    /// Time of its last event.
    pub heard: Instant,
    /// Attempts that hold a slot, including cancelled ones that did not report their end.
    pub running: usize,
    /// Committed outputs that were not dropped.
    pub outputs: u64,
}

/// One job that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobStatus<'a> {
    pub id: JobId,
    pub pool: &'a str,
    /// Whether any task has started.
    pub started: bool,
    pub stages: Vec<StageStatus>,
}

/// Progress of one stage. The counts add up to its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageStatus {
    pub id: StageId,
    pub state: StageState,
    pub pending: u32,
    pub running: u32,
    pub committed: u32,
    /// Tasks that need not run, because others reached the row limit.
    pub spared: u32,
    /// Tasks whose outputs were lost and are not needed.
    pub lost: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageState {
    /// Waits for inputs.
    Waiting,
    Runnable,
    Finished,
}

/// Totals over the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub executors: usize,
    pub slots: u64,
    /// Slots without an attempt, on executors of every state.
    pub free_slots: u64,
    /// Jobs that have not ended.
    pub jobs: usize,
    /// Jobs whose results are kept.
    pub retained: usize,
    pub pending_tasks: u64,
    pub running_tasks: u64,
    pub committed_tasks: u64,
}

impl Scheduler {
    /// Whether events from this executor are accepted. An executor that is not a member has to register anew, with a new id.
    pub fn is_member(&self, executor: ExecutorId) -> bool {
        self.executors.get(executor).is_some()
    }

    /// Executors by id.
    pub fn executors(&self) -> impl Iterator<Item = ExecutorStatus<'_>> {
        let excluded = |id| self.exclusions.contains(id);
        self.executors.iter().map(move |executor| executor_status(executor, excluded(executor.spec.id)))
    }

    /// Whether attempts of the job still hold slots: a failed job ends before all its attempts have stopped.
    pub fn holds_slots(&self, job: JobId) -> bool {
        self.executors.iter().any(|executor| executor.running.keys().any(|attempt| attempt.job() == job))
    }

    /// Jobs that have not ended, by id.
    pub fn jobs(&self) -> impl Iterator<Item = JobStatus<'_>> {
        self.jobs.values().map(job_status)
    }

    pub fn job(&self, id: JobId) -> Option<JobStatus<'_>> {
        self.jobs.get(&id).map(job_status)
    }

    /// Jobs that finished and whose results are kept until they are released.
    pub fn retained(&self) -> impl Iterator<Item = JobId> {
        self.retained.keys().copied()
    }

    /// Returns the input of the elasticity machine. Walks over all executors and stages.
    pub fn load(&self) -> Load {
        let live = self.executors.iter().filter(|executor| executor.state == ExecutorState::Live);
        let member = |executor: &Executor| Member {
            id: executor.spec.id,
            name: executor.spec.name.clone(),
            slots: executor.spec.slots,
            running: executor.running.len() as u64,
        };
        let ready = self.jobs.values().flat_map(|job| &job.stages).filter(|stage| stage.ready);
        Load {
            pending: ready.map(|stage| stage.pending.len() as u64).sum(),
            running: self.executors.iter().map(|executor| executor.running.len() as u64).sum(),
            executors: live.map(member).collect(),
        }
    }

    /// Returns totals. Walks over all executors and stages.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals { jobs: self.jobs.len(), retained: self.retained.len(), ..Totals::default() };
        for executor in self.executors.iter() {
            totals.executors += 1;
            totals.slots += u64::from(executor.spec.slots);
            totals.free_slots += u64::from(executor.free_slots());
        }
        for stage in self.jobs.values().flat_map(|job| &job.stages) {
            totals.pending_tasks += stage.pending.len() as u64;
            totals.running_tasks += u64::from(stage.running);
            totals.committed_tasks += u64::from(stage.committed);
        }
        totals
    }
}

fn executor_status(executor: &Executor, excluded: bool) -> ExecutorStatus<'_> {
    ExecutorStatus {
        spec: &executor.spec,
        state: executor.state,
        excluded,
        heard: executor.heard,
        running: executor.running.len(),
        outputs: executor.stages.values().map(|share| u64::from(share.committed)).sum(),
    }
}

fn job_status(job: &Job) -> JobStatus<'_> {
    JobStatus {
        id: job.id(),
        pool: &job.pool,
        started: job.started,
        stages: job.stages.iter().map(stage_status).collect(),
    }
}

fn stage_status(stage: &Stage) -> StageStatus {
    StageStatus {
        id: stage.id,
        state: match (stage.finished, stage.ready) {
            (true, _) => StageState::Finished,
            (false, true) => StageState::Runnable,
            (false, false) => StageState::Waiting,
        },
        pending: stage.pending.len() as u32,
        running: stage.running,
        committed: stage.committed,
        spared: stage.spared,
        lost: stage.lost.len() as u32,
    }
}
