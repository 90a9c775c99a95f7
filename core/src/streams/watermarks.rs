//! Watermarks of a job: the event time up to which the rows of all its inputs are complete.

use super::Partition;
use crate::time::Instant;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Event times are in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermarks {
    /// Time after which a partition that gives nothing holds back no watermark, in milliseconds. `None`: it does for ever.
    idle_after_ms: Option<u64>,
    /// How far the records of each partition have come.
    times: BTreeMap<Partition, i64>,
    /// The watermark of the last epoch that was committed.
    used: Option<i64>,
}

impl Watermarks {
    /// `idle_after`: time after which a partition that gives nothing is not waited for.
    pub fn new(idle_after: Option<Duration>) -> Self {
        let idle_after_ms = idle_after.map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX));
        Self { idle_after_ms, ..Self::default() }
    }

    /// Returns the watermark of the last epoch that was committed.
    pub fn used(&self) -> Option<i64> {
        self.used
    }

    /// Returns how far the records of each partition have come.
    pub fn times(&self) -> &BTreeMap<Partition, i64> {
        &self.times
    }

    /// Returns the watermark of the next epoch. `open`: the partitions that may give more. `heard`: since when each has given nothing.
    pub(super) fn now<'a>(
        &self,
        now: Instant,
        open: impl Iterator<Item = &'a Partition>,
        heard: &mut BTreeMap<Partition, Instant>,
    ) -> Option<i64> {
        let idle_after = self.idle_after_ms.map(Duration::from_millis);
        let mut least: Option<Option<i64>> = None;
        for partition in open {
            let heard = *heard.entry(partition.clone()).or_insert(now);
            if idle_after.is_some_and(|idle| now.since(heard) >= idle) {
                continue;
            }
            let time = self.times.get(partition).copied();
            least = Some(least.map_or(time, |least| least.min(time)));
        }
        // Nobody moves time on if nobody gives anything.
        least.flatten().max(self.used)
    }

    /// A partition goes on where its parents have come to.
    pub(super) fn inherit(&mut self, partition: &Partition, parents: &BTreeSet<Partition>) {
        let least = parents.iter().map(|parent| self.times.get(parent).copied()).min().flatten();
        if let Some(least) = least {
            self.times.entry(partition.clone()).or_insert(least);
        }
    }

    /// Notes what an epoch has read, and the watermark that it had.
    pub(super) fn take(&mut self, read: &BTreeMap<Partition, i64>, used: Option<i64>) {
        for (partition, time) in read {
            let latest = self.times.entry(partition.clone()).or_insert(*time);
            *latest = (*latest).max(*time);
        }
        self.used = self.used.max(used);
    }

    pub(super) fn restart(&mut self) {
        (self.times, self.used) = (BTreeMap::new(), None);
    }
}
