//! Fair sharing between pools, and inside one between its jobs.
//!
//! The next slot goes to the pool furthest below its minimum share. When all pools have theirs, it goes to the pool with the fewest running tasks for its
//! weight. Inside a pool it goes to a job of the highest priority. Among equals, a fair pool serves the job with the fewest running tasks, then the one that
//! has waited longest for a turn: a job of ten thousand tasks leaves the next free slot to a job of one task. A pool in first-in-first-out order serves the
//! oldest job. Only pools that have work are kept.

use super::config::{PoolConfig, PoolOrder};
use crate::ids::JobId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Pools {
    pools: BTreeMap<Arc<str>, Pool>,
    /// Number of launches so far.
    turns: u64,
}

#[derive(Debug)]
struct Pool {
    config: PoolConfig,
    /// Running attempts that are wanted.
    running: u32,
    jobs: BTreeMap<JobId, Member>,
    /// Jobs with tasks that could start, by their place.
    hungry: BTreeSet<(Place, JobId)>,
    /// Last job passed over in this round of dispatch; all jobs before it were passed over too.
    passed: Option<(Place, JobId)>,
}

#[derive(Debug)]
struct Member {
    priority: i32,
    /// Sequence number of the submission.
    order: u64,
    running: u32,
    /// Turn of its last launch; 0: never.
    served: u64,
    hungry: bool,
}

/// Place in line: priority, running tasks, last turn, submission. The smallest is served first.
type Place = (Reverse<i32>, u32, u64, u64);

impl Pool {
    /// Claim to the next slot. The smallest is served first.
    fn claim(&self) -> (bool, u64) {
        let satisfied = self.running >= self.config.min_share;
        let entitled = if satisfied { self.config.weight } else { self.config.min_share };
        (satisfied, (u64::from(self.running) << 20) / u64::from(entitled.max(1)))
    }

    /// The first job in line that was not passed over.
    fn next(&self) -> Option<JobId> {
        let behind = self.passed.map_or(Bound::Unbounded, Bound::Excluded);
        self.hungry.range((behind, Bound::Unbounded)).next().map(|&(_, job)| job)
    }

    /// Changes a job and updates its place in line.
    fn update(&mut self, job: JobId, change: impl FnOnce(&mut Member)) {
        let Some(member) = self.jobs.get_mut(&job) else { return };
        let order = self.config.order;
        let (was_hungry, before) = (member.hungry, member.place(order));
        change(member);
        let (is_hungry, after) = (member.hungry, member.place(order));
        if was_hungry && (!is_hungry || before != after) {
            self.hungry.remove(&(before, job));
        }
        if is_hungry && (!was_hungry || before != after) {
            self.hungry.insert((after, job));
        }
    }
}

impl Member {
    fn place(&self, order: PoolOrder) -> Place {
        match order {
            PoolOrder::Fair => (Reverse(self.priority), self.running, self.served, self.order),
            PoolOrder::Fifo => (Reverse(self.priority), 0, 0, self.order),
        }
    }
}

impl Pools {
    /// Adds the `order`th submitted job and returns the name of its pool.
    pub fn admit(
        &mut self,
        name: &str,
        configured: &BTreeMap<String, PoolConfig>,
        job: JobId,
        order: u64,
        priority: i32,
    ) -> Arc<str> {
        let name: Arc<str> = self.pools.get_key_value(name).map_or_else(|| name.into(), |(name, _)| name.clone());
        let config = configured.get(&*name).copied().unwrap_or_default();
        let new = || Pool { config, running: 0, jobs: BTreeMap::new(), hungry: BTreeSet::new(), passed: None };
        let member = Member { priority, order, running: 0, served: 0, hungry: false };
        self.pools.entry(name.clone()).or_insert_with(new).jobs.insert(job, member);
        name
    }

    /// Removes a job. Its attempts that still run are not wanted any more.
    pub fn dismiss(&mut self, name: &str, job: JobId) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        pool.update(job, |member| member.hungry = false);
        if let Some(member) = pool.jobs.remove(&job) {
            pool.running -= member.running;
        }
        if pool.jobs.is_empty() {
            self.pools.remove(name);
        }
    }

    pub fn started(&mut self, name: &str, job: JobId) {
        self.turns += 1;
        if let Some(pool) = self.pools.get_mut(name) {
            pool.running += 1;
            pool.update(job, |member| {
                member.running += 1;
                member.served = self.turns;
            });
        }
    }

    pub fn ended(&mut self, name: &str, job: JobId, attempts: u32) {
        if let Some(pool) = self.pools.get_mut(name) {
            pool.running -= attempts;
            pool.update(job, |member| member.running -= attempts);
        }
    }

    pub fn set_hungry(&mut self, name: &str, job: JobId, hungry: bool) {
        if let Some(pool) = self.pools.get_mut(name) {
            pool.update(job, |member| member.hungry = hungry);
        }
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }

    /// Begins a round of dispatch, in which every job gets its turn.
    pub fn begin_round(&mut self) {
        self.pools.values_mut().for_each(|pool| pool.passed = None);
    }

    /// The job with the first claim to the next slot.
    pub fn next(&self) -> Option<JobId> {
        let candidates = self.pools.values().filter_map(|pool| Some((pool.claim(), pool.next()?)));
        // The first of equals wins, so ties go by name.
        candidates.min_by_key(|&(claim, _)| claim).map(|(_, job)| job)
    }

    /// Passes over the pool's next job, which cannot use any slot in this round. Jobs that launch in this round only move back, so all jobs before it were
    /// passed over as well.
    pub fn pass(&mut self, name: &str, job: JobId) {
        if let Some(pool) = self.pools.get_mut(name)
            && let Some(member) = pool.jobs.get(&job)
        {
            pool.passed = Some((member.place(pool.config.order), job));
        }
    }
}
