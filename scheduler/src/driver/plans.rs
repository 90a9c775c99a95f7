//! Encoded plans, their users, and the executors to which each was sent.
//!
//! A plan stays while a live job uses it. Unused plans stay up to a number of bytes, the last used first, so that a repeated statement
//! finds its plans decoded on the executors.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use windlass_core::ids::{ExecutorId, PlanHash};

#[derive(Debug)]
pub(super) struct Plans {
    plans: BTreeMap<PlanHash, Plan>,
    /// Plans that no live job uses, by the order in which they became idle.
    idle: BTreeMap<u64, PlanHash>,
    idle_bytes: usize,
    idle_limit: usize,
    sent: BTreeMap<ExecutorId, BTreeSet<PlanHash>>,
    clock: u64,
}

#[derive(Debug)]
struct Plan {
    bytes: Bytes,
    /// Stages of live jobs.
    users: u32,
    /// Key in `idle`, if there are no users.
    idle_since: u64,
}

/// Minimum bytes for which each plan counts, because a decoded plan takes more than its encoding.
const LEAST_WEIGHT: usize = 64 << 10;

impl Plan {
    fn weight(&self) -> usize {
        self.bytes.len().max(LEAST_WEIGHT)
    }
}

impl Plans {
    pub fn new(idle_limit: usize) -> Self {
        Plans {
            plans: BTreeMap::new(),
            idle: BTreeMap::new(),
            idle_bytes: 0,
            idle_limit,
            sent: BTreeMap::new(),
            clock: 0,
        }
    }

    pub fn retain(&mut self, hash: PlanHash, bytes: &Bytes) {
        let plan = self.plans.entry(hash).or_insert_with(|| Plan { bytes: bytes.clone(), users: 0, idle_since: 0 });
        plan.users += 1;
        if plan.users == 1 && self.idle.remove(&plan.idle_since).is_some() {
            self.idle_bytes -= plan.weight();
        }
    }

    /// Removes one user. Returns the plans that are forgotten, with the executors that have them.
    pub fn release(&mut self, hash: PlanHash) -> Vec<(ExecutorId, PlanHash)> {
        let Some(plan) = self.plans.get_mut(&hash) else { return Vec::new() };
        plan.users -= 1;
        if plan.users == 0 {
            self.clock += 1;
            plan.idle_since = self.clock;
            self.idle.insert(self.clock, hash);
            self.idle_bytes += plan.weight();
        }
        self.evict()
    }

    /// Returns the bytes to send, if this executor does not have the plan. `None`: it was sent the plan, or (a defect) the plan is
    /// unknown.
    pub fn send_to(&mut self, executor: ExecutorId, hash: PlanHash) -> Option<Bytes> {
        let plan = self.plans.get(&hash)?;
        self.sent.entry(executor).or_default().insert(hash).then(|| plan.bytes.clone())
    }

    /// Records that the bytes were not sent.
    pub fn not_sent(&mut self, executor: ExecutorId, hash: PlanHash) {
        if let Some(sent) = self.sent.get_mut(&executor) {
            sent.remove(&hash);
        }
    }

    pub fn executor_gone(&mut self, executor: ExecutorId) {
        self.sent.remove(&executor);
    }

    fn evict(&mut self) -> Vec<(ExecutorId, PlanHash)> {
        let mut dropped = Vec::new();
        while self.idle_bytes > self.idle_limit {
            let Some((_, hash)) = self.idle.pop_first() else { break };
            if let Some(plan) = self.plans.remove(&hash) {
                self.idle_bytes -= plan.weight();
            }
            for (&executor, sent) in &mut self.sent {
                if sent.remove(&hash) {
                    dropped.push((executor, hash));
                }
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PlanHash = PlanHash(1);
    const B: PlanHash = PlanHash(2);

    #[test]
    fn a_plan_is_sent_once_to_each_executor() {
        let mut plans = Plans::new(usize::MAX);
        plans.retain(A, &Bytes::from_static(b"a"));
        assert!(plans.send_to(ExecutorId(1), A).is_some());
        assert!(plans.send_to(ExecutorId(1), A).is_none());
        assert!(plans.send_to(ExecutorId(2), A).is_some());
        plans.release(A);
        plans.retain(A, &Bytes::from_static(b"a"));
        assert!(plans.send_to(ExecutorId(1), A).is_none(), "idle plans stay where they are");
        plans.executor_gone(ExecutorId(1));
        assert!(plans.send_to(ExecutorId(1), A).is_some());
    }

    #[test]
    fn idle_plans_go_first_in_first_out_and_used_ones_stay() {
        let mut plans = Plans::new(LEAST_WEIGHT);
        plans.retain(A, &Bytes::new());
        plans.retain(B, &Bytes::new());
        plans.retain(B, &Bytes::new());
        plans.send_to(ExecutorId(1), A);
        assert!(plans.release(A).is_empty());
        assert!(plans.release(B).is_empty());
        assert_eq!(plans.release(B), vec![(ExecutorId(1), A)]);
        assert!(plans.send_to(ExecutorId(1), A).is_none(), "forgotten");
        assert!(plans.send_to(ExecutorId(1), B).is_some());
    }
}
