//! Replicas that executors were told to remove while their file stays, until they have answered.
//!
//! ```text
//!   held, or set aside ──`Delete` ordered──> going ──executor reports it gone, or is lost──> (nothing)
//! ```
//!
//! Invariants:
//! - A report of a replica that is going may be older than the order. It does not count: not that the replica is there, not that it was
//!   verified, not that it is damaged (`simulation`, `what_is_going_does_not_count`).
//! - No copy of a block is ordered to an executor from which a replica of it is going: the two could not be told apart.
//! - An executor answers every `Delete` with `gone`, also when it has no such replica (`executor/src/blocks`).

use super::replicas::replica;
use super::{Namespace, Order, Output};
use crate::ids::{BlockId, ExecutorId};
use std::collections::{BTreeMap, BTreeSet};

/// The executors that have not answered yet, by replica.
#[derive(Debug, Default)]
pub(super) struct Going(BTreeMap<BlockId, BTreeSet<ExecutorId>>);

impl Going {
    pub fn has(&self, executor: ExecutorId, replica: BlockId) -> bool {
        self.executors(replica).any(|id| id == executor)
    }

    /// Executors from which this replica is going.
    pub fn executors(&self, replica: BlockId) -> impl Iterator<Item = ExecutorId> {
        self.0.get(&replica).into_iter().flatten().copied()
    }

    /// Replicas that are going from an executor.
    pub fn of(&self, executor: ExecutorId) -> Vec<BlockId> {
        self.0.iter().filter(|(_, from)| from.contains(&executor)).map(|(replica, _)| *replica).collect()
    }

    fn begin(&mut self, executor: ExecutorId, replica: BlockId) {
        self.0.entry(replica).or_default().insert(executor);
    }

    pub fn end(&mut self, executor: ExecutorId, replica: BlockId) {
        if let Some(from) = self.0.get_mut(&replica) {
            from.remove(&executor);
            if from.is_empty() {
                self.0.remove(&replica);
            }
        }
    }

    pub fn lost(&mut self, executor: ExecutorId) {
        self.of(executor).into_iter().for_each(|replica| self.end(executor, replica));
    }

    /// Plants a defect: reports of replicas that are going count.
    #[cfg(test)]
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl Namespace {
    /// Orders a replica to be removed whose block stays.
    pub(super) fn let_go(&mut self, executor: ExecutorId, block: BlockId, piece: u8, out: &mut Output) {
        let replica = replica(block, piece);
        self.replicas.drop_replica(executor, replica);
        self.upkeep.going.begin(executor, replica);
        out.orders.push((executor, Order::Delete(replica)));
    }

    /// Repeats an order of the namespace before this one: whether it was sent is not known.
    pub(super) fn let_go_again(&mut self, executor: ExecutorId, replica: BlockId, out: &mut Output) {
        if self.replicas.block_of(replica).is_some() {
            self.upkeep.going.begin(executor, replica);
            self.unwanted(executor, Order::Delete(replica), out);
        }
    }
}
