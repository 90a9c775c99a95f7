//! Stragglers: a task that takes much longer than others of its stage starts a second attempt elsewhere, on a slot that nobody else wants.
//!
//! ```text
//! Running(first) ──late──> Running(first) and a copy ──one of them finished──> Committed, and the other is stopped
//!                                    └──one of them failed or lost──> Running(the other)
//! ```
//!
//! An attempt writes under its own name until it is committed, so two attempts do not disturb each other, even when tasks write files. A copy that fails does
//! not count against its task.

use super::Scheduler;
use super::jobs::{Stage, TaskState};
#[cfg(test)]
use super::simulation::Defect;
use super::timers::Timer;
use crate::event::{Fact, Output};
use crate::ids::{ExecutorId, StageId};
use crate::time::Instant;
use std::time::Duration;

/// Conditions under which a task counts as a straggler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpeculationConfig {
    /// Committed tasks of the stage, in percent, before any task counts as a straggler. Default 75.
    pub quantile: u32,
    /// Run time of a straggler, in percent of the median of the committed tasks. Default 300.
    pub multiplier: u32,
    /// Minimum run time of a straggler. Default 2 s.
    pub after: Duration,
}

impl Default for SpeculationConfig {
    fn default() -> Self {
        SpeculationConfig { quantile: 75, multiplier: 300, after: Duration::from_secs(2) }
    }
}

/// Second attempt of a running task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copy {
    pub attempt: u32,
    pub executor: ExecutorId,
    pub since: Instant,
}

/// Number of latest durations from which the median is taken.
const SAMPLE: usize = 1_000;

/// Durations of the committed tasks of a stage.
#[derive(Debug, Default)]
pub(super) struct Times {
    sample: Vec<Duration>,
    noted: usize,
}

impl Times {
    pub fn note(&mut self, took: Duration) {
        match self.sample.get_mut(self.noted % SAMPLE) {
            Some(oldest) => *oldest = took,
            None => self.sample.push(took),
        }
        self.noted += 1;
    }

    fn median(&mut self) -> Duration {
        let middle = self.sample.len() / 2;
        if self.sample.is_empty() {
            return Duration::ZERO;
        }
        // Their order only decides which of them is replaced next.
        *self.sample.select_nth_unstable(middle).1
    }
}

impl SpeculationConfig {
    fn threshold(&self, median: Duration) -> Duration {
        (median.saturating_mul(self.multiplier) / 100).max(self.after)
    }

    fn is_time(&self, stage: &Stage) -> bool {
        let enough = (stage.tasks.len() as u64 * u64::from(self.quantile) / 100).max(1);
        stage.running > 0 && u64::from(stage.committed) >= enough
    }
}

impl Scheduler {
    /// Looks for stragglers after a commit, once enough tasks of the stage are committed.
    pub(super) fn watch_stragglers(&mut self, now: Instant, id: StageId) {
        let Some(config) = self.config.speculation.filter(|_| !self.is_once(id)) else { return };
        let Some(stage) = self.jobs.get_mut(&id.job).and_then(|job| job.stages.get_mut(id.index as usize)) else {
            return;
        };
        if !stage.watched && config.is_time(stage) {
            stage.watched = true;
            self.timers.set(now + config.after, Timer::Stragglers(id));
        }
    }

    pub(super) fn look_for_stragglers(&mut self, now: Instant, id: StageId) {
        let Some(config) = self.config.speculation else { return };
        let Some(stage) = self.jobs.get_mut(&id.job).and_then(|job| job.stages.get_mut(id.index as usize)) else {
            return;
        };
        stage.watched = config.is_time(stage);
        if !stage.watched {
            return;
        }
        let threshold = config.threshold(stage.times.median());
        let mut next = now + threshold;
        for (partition, task) in (0..).zip(&stage.tasks) {
            let TaskState::Running { since, .. } = task.state else { continue };
            if stage.copies.contains_key(&partition) {
                continue;
            }
            match since + threshold {
                due if due <= now => _ = self.stragglers.insert((id, partition)),
                due => next = next.min(due),
            }
        }
        self.timers.set(next, Timer::Stragglers(id));
    }

    /// Starts second attempts of stragglers where slots are left.
    pub(super) fn start_copies(&mut self, now: Instant, output: &mut Output) {
        let late: Vec<_> = self.stragglers.iter().copied().collect();
        for (stage, partition) in late {
            if self.executors.offer_count() == 0 {
                return;
            }
            match self.place_copy(now, stage, partition) {
                Placed::On(executor) => self.launch_copy(now, stage, partition, executor, output),
                Placed::Nowhere => continue,
                Placed::NotLate => {}
            }
            self.stragglers.remove(&(stage, partition));
        }
    }

    fn place_copy(&self, now: Instant, id: StageId, partition: u32) -> Placed {
        let Some(job) = self.jobs.get(&id.job) else { return Placed::NotLate };
        let stage = &job.stages[id.index as usize];
        let TaskState::Running { executor: first, .. } = stage.tasks[partition as usize].state else {
            return Placed::NotLate;
        };
        if stage.copies.contains_key(&partition) {
            return Placed::NotLate;
        }
        // The first attempt may have inputs that the copy could not get.
        let ready = stage.ready;
        #[cfg(test)]
        let ready = ready || self.config.defect == Some(Defect::CopyWithoutInputs);
        if !ready {
            return Placed::Nowhere;
        }
        let question = self.question(now, job, id.index);
        let elsewhere = self.executors.offers().find(|e| e.spec.id != first && question.suits(partition, e));
        elsewhere.map_or(Placed::Nowhere, |executor| Placed::On(executor.spec.id))
    }

    fn launch_copy(&mut self, now: Instant, id: StageId, partition: u32, executor: ExecutorId, output: &mut Output) {
        let Some(job) = self.jobs.get_mut(&id.job) else { return };
        let attempt = job.launch_copy(id.index, partition, executor, now);
        self.executors.launch(executor, attempt, None);
        self.pools.started(&job.pool, id.job);
        output.facts.push(Fact::TaskSpeculated { attempt, executor });
        output.facts.push(Fact::TaskStarted { attempt, executor });
        self.orders.launch(executor, attempt);
    }
}

enum Placed {
    On(ExecutorId),
    /// No free slot suits the task, or its inputs are being computed again.
    Nowhere,
    /// The task has ended, or already has a copy.
    NotLate,
}
