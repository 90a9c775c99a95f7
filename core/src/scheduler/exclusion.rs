//! Executors on which tasks keep failing: they get no tasks of a stage, or no tasks at all for a time, while there are others.
//!
//! Only failures that another executor may not have count: a full disk, input and output, defects. Failures of the statement and of memory do not.

use super::Scheduler;
use super::executors::Executors;
use super::jobs::Stage;
use super::timers::Timer;
use crate::event::{Fact, Output};
use crate::ids::{AttemptId, ExecutorId};
use crate::time::Instant;
use std::collections::{BTreeMap, VecDeque};

/// Recent failures, and excluded executors with the end of their exclusion.
#[derive(Debug, Default)]
pub(super) struct Exclusions {
    failures: BTreeMap<ExecutorId, VecDeque<Instant>>,
    until: BTreeMap<ExecutorId, Instant>,
}

impl Exclusions {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.until.is_empty()
    }

    pub fn contains(&self, id: ExecutorId) -> bool {
        self.until.contains_key(&id)
    }
}

/// Whether a task of the stage must avoid the executor: the task failed there, or too many tasks did. When every executor would be avoided, none is.
pub(super) fn avoids(
    stage: &Stage,
    partition: u32,
    executors: &Executors,
    exclusions: &Exclusions,
    id: ExecutorId,
) -> bool {
    let trouble = stage.trouble.get(&partition);
    let is_avoided = |id: ExecutorId| {
        trouble.is_some_and(|trouble| trouble.avoid.contains(&id))
            || stage.excluded.contains(&id)
            || exclusions.contains(id)
    };
    let mut live = executors.iter().map(|executor| executor.spec.id).filter(|&id| executors.is_live(id));
    is_avoided(id) && live.any(|other| !is_avoided(other))
}

impl Scheduler {
    /// Counts a failure that speaks against its executor.
    pub(super) fn blame(&mut self, now: Instant, id: ExecutorId, attempt: AttemptId, output: &mut Output) {
        let stage = attempt.stage();
        if let Some(stage) = self.jobs.get_mut(&stage.job).and_then(|job| job.stages.get_mut(stage.index as usize)) {
            let failures = stage.failed_on.entry(id).or_default();
            *failures += 1;
            if *failures >= self.config.exclude_from_stage_after {
                stage.excluded.insert(id);
                stage.stuck = false;
            }
        }
        if self.exclusions.contains(id) || self.executors.get(id).is_none() {
            return;
        }
        let failures = self.exclusions.failures.entry(id).or_default();
        failures.push_back(now);
        while failures.front().is_some_and(|&first| now.since(first) > self.config.exclusion) {
            failures.pop_front();
        }
        if failures.len() < self.config.exclude_after as usize {
            return;
        }
        let failures = failures.len() as u32;
        self.exclusions.failures.remove(&id);
        let until = now + self.config.exclusion;
        self.exclusions.until.insert(id, until);
        self.timers.set(until, Timer::Exclusion(id));
        output.facts.push(Fact::ExecutorExcluded { executor: id, failures });
        // Tasks that avoided others in favour of this executor do not avoid them any more.
        self.unstick_all();
    }

    pub(super) fn readmit(&mut self, id: ExecutorId, output: &mut Output) {
        if self.exclusions.until.remove(&id).is_some() {
            output.facts.push(Fact::ExecutorReadmitted { executor: id });
            self.unstick_all();
        }
    }

    /// Forgets the failures of an executor that is gone. Its id does not come back.
    pub(super) fn forget_blame(&mut self, id: ExecutorId) {
        self.exclusions.failures.remove(&id);
        if let Some(until) = self.exclusions.until.remove(&id) {
            self.timers.clear(until, Timer::Exclusion(id));
        }
    }
}
