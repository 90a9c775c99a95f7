//! Fair sharing between pools, first in, first out inside one.
//!
//! The next slot goes to the pool furthest below its minimum share, and when all have theirs, to the one with the fewest
//! running tasks for its weight. Only pools that have work are kept.

use super::config::PoolConfig;
use crate::ids::JobId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Pools {
    pools: BTreeMap<Arc<str>, Pool>,
}

#[derive(Debug)]
struct Pool {
    config: PoolConfig,
    /// Attempts that run and are wanted.
    running: u32,
    jobs: u32,
    /// Jobs with tasks that could start, in the order of their submission.
    hungry: BTreeSet<(u64, JobId)>,
    /// Jobs submitted before this one were passed over in this round of dispatch.
    turn: u64,
}

impl Pool {
    /// Smaller is served first.
    fn claim(&self) -> (bool, u64) {
        let satisfied = self.running >= self.config.min_share;
        let entitled = if satisfied { self.config.weight } else { self.config.min_share };
        (satisfied, (u64::from(self.running) << 20) / u64::from(entitled.max(1)))
    }
}

impl Pools {
    /// Adds a job and returns the name of its pool.
    pub fn admit(&mut self, name: &str, configured: &BTreeMap<String, PoolConfig>) -> Arc<str> {
        let name: Arc<str> = self.pools.get_key_value(name).map_or_else(|| name.into(), |(name, _)| name.clone());
        let config = configured.get(&*name).copied().unwrap_or_default();
        let new = Pool { config, running: 0, jobs: 0, hungry: BTreeSet::new(), turn: 0 };
        self.pools.entry(name.clone()).or_insert(new).jobs += 1;
        name
    }

    /// Removes a job whose last `running` attempts are not wanted any more.
    pub fn dismiss(&mut self, name: &str, order: u64, job: JobId, running: u32) {
        if let Some(pool) = self.pools.get_mut(name) {
            pool.running -= running;
            pool.jobs -= 1;
            pool.hungry.remove(&(order, job));
            if pool.jobs == 0 {
                self.pools.remove(name);
            }
        }
    }

    pub fn started(&mut self, name: &str) {
        if let Some(pool) = self.pools.get_mut(name) {
            pool.running += 1;
        }
    }

    pub fn ended(&mut self, name: &str, attempts: u32) {
        if let Some(pool) = self.pools.get_mut(name) {
            pool.running -= attempts;
        }
    }

    pub fn set_hungry(&mut self, name: &str, order: u64, job: JobId, hungry: bool) {
        if let Some(pool) = self.pools.get_mut(name) {
            if hungry {
                pool.hungry.insert((order, job));
            } else {
                pool.hungry.remove(&(order, job));
            }
        }
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }

    /// Begins a round of dispatch, in which every job gets its turn.
    pub fn begin_round(&mut self) {
        self.pools.values_mut().for_each(|pool| pool.turn = 0);
    }

    /// The job that has the first claim on the next slot, with its place in the queue of its pool.
    pub fn next(&self) -> Option<(u64, JobId)> {
        let candidates = self.pools.values().filter_map(|pool| {
            let &(order, job) = pool.hungry.range((pool.turn, JobId(0))..).next()?;
            Some((pool.claim(), (order, job)))
        });
        // The first of equals, so ties go by name.
        candidates.min_by_key(|&(claim, _)| claim).map(|(_, job)| job)
    }

    /// The job, which was the pool's next, cannot use any slot in this round.
    pub fn pass(&mut self, name: &str, order: u64) {
        if let Some(pool) = self.pools.get_mut(name) {
            pool.turn = order + 1;
        }
    }
}
