//! Replicas that are not what was written: damaged, shorter, or longer.
//!
//! ```text
//!   found damaged ──Salvage──> its first bytes verify: held again
//!                     └──they do not──┬──its block can be read──> (removed)
//!                                     └──it is all that is left──> kept ──its block can be read, its file is removed──> (removed)
//! ```
//!
//! Invariants:
//! - A replica whose first bytes are those of its block is never removed because something else about it is wrong: whoever removes it has
//!   verified it before (`simulation`, `longer_replicas_are_cut_back_and_not_thrown_away`).
//! - What is left of the last replica stays for as long as its file, for whoever can make use of it.

use super::replicas::BlockState;
use super::{Block, Namespace, Order, Output};
use crate::ids::{BlockId, ExecutorId};
use std::collections::{BTreeMap, BTreeSet};

/// Damaged replicas that stay, by block: while executors are waited for, and of blocks that cannot be read.
#[derive(Debug, Default)]
pub(super) struct Damaged(BTreeMap<BlockId, BTreeSet<(ExecutorId, BlockId)>>);

impl Damaged {
    pub fn blocks(&self) -> impl Iterator<Item = BlockId> {
        self.0.keys().copied()
    }

    pub fn has(&self, block: BlockId) -> bool {
        self.0.contains_key(&block)
    }

    /// Those that an executor has.
    pub fn of(&self, executor: ExecutorId) -> Vec<BlockId> {
        let all = self.0.values().flatten();
        all.filter(|(holder, _)| *holder == executor).map(|(_, replica)| *replica).collect()
    }

    /// The executor is gone, with what it has.
    pub fn lost(&mut self, executor: ExecutorId) {
        self.0.retain(|_, replicas| {
            replicas.retain(|(holder, _)| *holder != executor);
            !replicas.is_empty()
        });
    }
}

impl Namespace {
    /// An executor has a replica that is not what it is to be.
    pub(super) fn found_damaged(&mut self, id: ExecutorId, replica: BlockId, out: &mut Output) {
        let Some((block, _)) = self.replicas.block_of(replica) else {
            // A number that this namespace never gave is not its to remove.
            if replica.0 < self.counters.next_block {
                self.unwanted(id, Order::Delete(replica), out);
            }
            return;
        };
        let state = self.replicas.blocks.get(&block);
        let Some(bytes) = state.and_then(BlockState::replica_bytes) else {
            return self.replicas.drop_early(id, replica);
        };
        // While executors come back, one that seems not to be the last may turn out to be.
        let last = self.upkeep.is_settling() || !self.replicas.is_readable(block);
        if last {
            self.upkeep.damaged.0.entry(block).or_default().insert((id, replica));
        }
        out.orders.push((id, Order::Salvage { block: Block { id: replica, bytes }, last }));
    }

    /// An executor has a replica that is what it is to be.
    pub(super) fn no_longer_damaged(&mut self, id: ExecutorId, replica: BlockId, out: &mut Output) {
        let Some((block, _)) = self.replicas.block_of(replica) else { return };
        let Some(replicas) = self.upkeep.damaged.0.get_mut(&block) else { return };
        replicas.remove(&(id, replica));
        if replicas.is_empty() {
            self.upkeep.damaged.0.remove(&block);
        } else if !self.upkeep.is_settling() {
            self.clear_damaged(block, out);
        }
    }

    /// All executors that are waited for are back: damaged replicas of blocks that can be read go.
    pub(super) fn clear_all_damaged(&mut self, out: &mut Output) {
        let blocks: Vec<BlockId> = self.upkeep.damaged.blocks().collect();
        blocks.into_iter().for_each(|block| self.clear_damaged(block, out));
    }

    fn clear_damaged(&mut self, block: BlockId, out: &mut Output) {
        let Some(state) = self.replicas.blocks.get(&block).filter(|state| state.is_readable()) else { return };
        let Some(bytes) = state.replica_bytes() else { return };
        let replicas = self.upkeep.damaged.0.remove(&block).unwrap_or_default();
        let salvage = |replica| Order::Salvage { block: Block { id: replica, bytes }, last: false };
        out.orders.extend(replicas.into_iter().map(|(executor, replica)| (executor, salvage(replica))));
    }

    /// What is left of a block that nobody wants any more goes too.
    pub(super) fn forget_damaged(&mut self, block: BlockId, out: &mut Output) {
        let replicas = self.upkeep.damaged.0.remove(&block).unwrap_or_default();
        out.orders.extend(replicas.into_iter().map(|(executor, replica)| (executor, Order::Delete(replica))));
    }
}
