//! All deadlines of the machine, in one ordered set.

use crate::ids::{ExecutorId, JobId, StageId};
use crate::time::Instant;
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The executor is lost unless it was heard from.
    Heartbeat(ExecutorId),
    /// The draining executor gets its farewell, whatever it still holds.
    Drain(ExecutorId),
    /// The draining executor asks again for a place for its outputs.
    Round(ExecutorId),
    /// The job fails unless an executor has joined.
    NoExecutors(JobId),
    /// The executor gets tasks again.
    Exclusion(ExecutorId),
    /// Running tasks of the stage may have become stragglers. May outlive its stage; it then does nothing.
    Stragglers(StageId),
    /// The job has reached its time limit.
    TimeOut(JobId),
    /// Outputs that the executor has kept of unclaimed jobs are dropped. May outlive its executor; it then does nothing.
    Unclaimed(ExecutorId),
    /// The stage stops waiting for the hosts that it prefers. May outlive its stage; it then does nothing.
    Locality(StageId),
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    pub fn set(&mut self, at: Instant, timer: Timer) {
        self.due.insert((at, timer));
    }

    pub fn clear(&mut self, at: Instant, timer: Timer) {
        self.due.remove(&(at, timer));
    }

    pub fn next(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _)| at)
    }

    pub fn pop(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.due.pop_first().map(|(_, timer)| timer)
    }
}
