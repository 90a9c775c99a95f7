//! Choice of the next task of a stage and of its executor: a pure function of the stage, the executors and the time.
//!
//! In order: a host that the task prefers, an executor that holds its splits, the executor chosen by rendezvous hashing, the executor that holds most of its
//! input, the executor with most free slots. Tasks wait only for hosts, and only for `locality_wait`.

use super::exclusion::{Exclusions, avoids};
use super::executors::{Executor, Executors};
use super::jobs::Stage;
use crate::ids::ExecutorId;
use crate::job::StageSpec;
use crate::time::Instant;
use std::time::Duration;

/// Maximum waiting tasks to look at for one placement.
const WINDOW: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    Start {
        partition: u32,
        executor: ExecutorId,
    },
    /// The stage declines free slots until then, in favour of hosts that its tasks prefer.
    HoldOut {
        until: Instant,
    },
    /// No slot on offer suits any task that was looked at.
    Nowhere,
}

pub(super) struct Question<'a> {
    pub now: Instant,
    pub locality_wait: Duration,
    pub spec: &'a StageSpec,
    pub stage: &'a Stage,
    pub executors: &'a Executors,
    pub exclusions: &'a Exclusions,
}

impl Question<'_> {
    pub fn solve(&self) -> Placement {
        if !self.any_room() {
            return Placement::Nowhere;
        }
        if self.stage.pending.names_hosts() { self.by_host() } else { self.by_affinity_or_bytes() }
    }

    fn by_host(&self) -> Placement {
        let pending = &self.stage.pending;
        if let Some(start) = self.on_preferred_host() {
            return start;
        }
        if let Some(start) = self.first_fit(pending.anywhere()) {
            return start;
        }
        let until = self.stage.holding_out.unwrap_or(self.now) + self.locality_wait;
        if until <= self.now {
            return self.first_fit(pending.iter()).unwrap_or(Placement::Nowhere);
        }
        // A task does not wait for a host that is away.
        let is_away = |p: &u32| !self.preference_hosts(*p).iter().any(|host| self.executors.is_live_host(host));
        let away = pending.iter().take(WINDOW).filter(is_away);
        self.first_fit(away).unwrap_or(Placement::HoldOut { until })
    }

    /// Chooses a place beside full slots: the executor with the task's input, else the one chosen by affinity, else any.
    pub fn beside(&self) -> Option<(u32, ExecutorId)> {
        let partition = self.stage.pending.iter().next()?;
        let suiting = || self.executors.full().filter(|executor| self.suits(partition, executor));
        let holds = |executor: &&Executor| self.holders(partition).contains(&executor.spec.id);
        let weight = |executor: &&Executor| match self.affinity(partition) {
            0 => 0,
            affinity => splitmix64(affinity ^ executor.name_hash),
        };
        let executor = suiting().find(holds).or_else(|| suiting().max_by_key(weight))?;
        Some((partition, executor.spec.id))
    }

    /// Executors to consider, most free slots first.
    fn offers(&self) -> impl Iterator<Item = &Executor> {
        let all = (!self.stage.stuck).then(|| self.executors.offers());
        let fresh = self.stage.stuck.then(|| self.executors.fresh_offers());
        all.into_iter().flatten().chain(fresh.into_iter().flatten())
    }

    /// Places a task on a host that it prefers. Walks the hosts that tasks wait for or the offers, whichever are fewer.
    fn on_preferred_host(&self) -> Option<Placement> {
        let pending = &self.stage.pending;
        if !self.stage.stuck && pending.host_count() < self.executors.offer_count() {
            pending.hosts().find_map(|host| {
                self.executors.offers_on(host).find_map(|executor| self.first_of(pending.on(host), executor))
            })
        } else {
            self.offers().find_map(|executor| self.first_of(pending.on(&executor.spec.host), executor))
        }
    }

    fn first_of(&self, mut partitions: impl Iterator<Item = u32>, executor: &Executor) -> Option<Placement> {
        let partition = partitions.by_ref().take(WINDOW).find(|&p| self.suits(p, executor))?;
        Some(Placement::Start { partition, executor: executor.spec.id })
    }

    fn by_affinity_or_bytes(&self) -> Placement {
        let pending = &self.stage.pending;
        let Some(first) = pending.iter().next() else { return Placement::Nowhere };
        if !self.holders(first).is_empty()
            && let Some(start) = self.by_holder()
        {
            return start;
        }
        if self.affinity(first) != 0
            && let Some(start) = self.by_affinity()
        {
            return start;
        }
        if !self.stage.near.is_empty() {
            for partition in pending.iter().take(WINDOW) {
                let near = self.stage.near.get(partition as usize).copied().flatten();
                if let Some(executor) = near.and_then(|id| self.executors.get(id))
                    && self.executors.is_live(executor.spec.id)
                    && executor.free_slots() > 0
                    && self.suits(partition, executor)
                {
                    return Placement::Start { partition, executor: executor.spec.id };
                }
            }
        }
        self.first_fit(pending.iter()).unwrap_or(Placement::Nowhere)
    }

    /// Places a task on an executor that holds what it reads.
    fn by_holder(&self) -> Option<Placement> {
        self.stage.pending.iter().take(WINDOW).find_map(|partition| {
            let holders = self.holders(partition).iter().filter_map(|id| self.executors.get(*id));
            let mut free = holders.filter(|e| self.executors.is_live(e.spec.id) && e.free_slots() > 0);
            let executor = free.find(|executor| self.suits(partition, executor))?.spec.id;
            Some(Placement::Start { partition, executor })
        })
    }

    /// Chooses the pair of task and executor with the highest rendezvous weight: with many offers the best executor for the first task, with one offer the best
    /// task among those looked at.
    fn by_affinity(&self) -> Option<Placement> {
        let tasks = (WINDOW / self.executors.offer_count().max(1)).max(1);
        let mut best: Option<(u64, Placement)> = None;
        for partition in self.stage.pending.iter().take(tasks) {
            let affinity = self.affinity(partition);
            if affinity == 0 {
                continue;
            }
            for executor in self.offers() {
                let weight = splitmix64(affinity ^ executor.name_hash);
                if best.is_none_or(|(most, _)| weight > most) && self.suits(partition, executor) {
                    best = Some((weight, Placement::Start { partition, executor: executor.spec.id }));
                }
            }
        }
        best.map(|(_, start)| start)
    }

    /// Chooses the first task that some offer suits, on the suitable executor with most free slots.
    fn first_fit(&self, partitions: impl Iterator<Item = u32>) -> Option<Placement> {
        partitions.take(WINDOW).find_map(|partition| {
            let executor = self.offers().find(|executor| self.suits(partition, executor))?;
            Some(Placement::Start { partition, executor: executor.spec.id })
        })
    }

    /// Whether some executor with a free slot is below the cap of the stage.
    fn any_room(&self) -> bool {
        self.offers().any(|executor| self.has_room(executor))
    }

    fn has_room(&self, executor: &Executor) -> bool {
        let here = || executor.stages.get(&self.stage.id).map_or(0, |share| share.running);
        self.stage.cap == u32::MAX || here() < self.stage.cap
    }

    /// Whether no failure keeps tasks of the stage from any executor. Asked for every pair that is looked at, so it must be cheap.
    #[inline]
    fn nothing_failed(&self) -> bool {
        self.stage.trouble.is_empty() && self.stage.excluded.is_empty() && self.exclusions.is_empty()
    }

    pub fn suits(&self, partition: u32, executor: &Executor) -> bool {
        self.has_room(executor)
            && (self.nothing_failed()
                || !avoids(self.stage, partition, self.executors, self.exclusions, executor.spec.id))
    }

    fn affinity(&self, partition: u32) -> u64 {
        self.spec.preferences.get(partition as usize).map_or(0, |p| p.affinity)
    }

    fn holders(&self, partition: u32) -> &[ExecutorId] {
        self.spec.preferences.get(partition as usize).map_or(&[], |p| &p.executors)
    }

    fn preference_hosts(&self, partition: u32) -> &[String] {
        self.spec.preferences.get(partition as usize).map_or(&[], |p| &p.hosts)
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): turns a key into a weight.
fn splitmix64(key: u64) -> u64 {
    let z = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
