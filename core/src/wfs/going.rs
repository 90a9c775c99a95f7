//! Replicas that executors were told to remove while their file stays, until they are known to be removed.
//!
//! ```text
//!   held, or set aside ──`Delete`──> going ──executor says that it is gone, or is lost; its file is removed──> (nothing)
//! ```
//!
//! Invariants:
//! - What an executor says of a replica that is going was said before it obeyed, and does not count: neither that the replica is there, nor
//!   that it was read (`simulation`, `what_is_going_does_not_count`).
//! - A copy is not ordered to where a replica of its block is going: it could not be told from what goes.
//! - An executor says of each replica that it was told to remove that it is gone, also when it had none (`executor/src/blocks`).

use super::replicas::replica;
use super::{Namespace, Order, Output};
use crate::ids::{BlockId, ExecutorId};
use std::collections::{BTreeMap, BTreeSet};

/// Who has been told, by replica.
#[derive(Debug, Default)]
pub(super) struct Going(BTreeMap<BlockId, BTreeSet<ExecutorId>>);

impl Going {
    pub fn has(&self, executor: ExecutorId, replica: BlockId) -> bool {
        self.from(replica).any(|id| id == executor)
    }

    /// Executors from which this replica goes.
    pub fn from(&self, replica: BlockId) -> impl Iterator<Item = ExecutorId> {
        self.0.get(&replica).into_iter().flatten().copied()
    }

    /// Replicas that go from an executor.
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

    /// Nobody wants it, wherever it is.
    pub fn forget(&mut self, replica: BlockId) {
        self.0.remove(&replica);
    }

    /// As if all that was ordered had been done.
    #[cfg(test)]
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl Namespace {
    /// Has a replica of a block that stays removed.
    pub(super) fn let_go(&mut self, executor: ExecutorId, block: BlockId, piece: u8, out: &mut Output) {
        let replica = replica(block, piece);
        self.replicas.drop_replica(executor, replica);
        self.upkeep.going.begin(executor, replica);
        out.orders.push((executor, Order::Delete(replica)));
    }

    /// Was ordered by the namespace that this one takes the place of, or was about to be.
    pub(super) fn let_go_again(&mut self, executor: ExecutorId, replica: BlockId, out: &mut Output) {
        if self.replicas.block_of(replica).is_some() {
            self.upkeep.going.begin(executor, replica);
            self.unwanted(executor, Order::Delete(replica), out);
        }
    }
}
