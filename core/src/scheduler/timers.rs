//! All deadlines of the machine, in one ordered set.

use crate::ids::{ExecutorId, JobId, StageId};
use crate::time::Instant;
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The executor is lost unless it is heard from.
    Heartbeat(ExecutorId),
    /// The draining executor gets its farewell, whatever it holds.
    Drain(ExecutorId),
    /// What the draining executor could not get rid of is tried again.
    Round(ExecutorId),
    /// The job fails unless an executor joins.
    NoExecutors(JobId),
    /// The executor gets tasks again.
    Exclusion(ExecutorId),
    /// Tasks of the stage may take much longer than its others. May outlive its stage; it then does nothing.
    Stragglers(StageId),
    /// The job has had all the time that it may take.
    TimeOut(JobId),
    /// What the executor has kept of jobs that nobody went on with is dropped. May outlive its executor; it then does nothing.
    Unclaimed(ExecutorId),
    /// The stage stops holding out for the hosts it prefers. May outlive its stage; it then does nothing.
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
