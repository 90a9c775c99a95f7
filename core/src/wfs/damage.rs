//! Replicas that are not what was written: damaged, shorter, or longer. And those that their block has no place for.
//!
//! ```text
//!   found damaged ──Salvage──> its first bytes verify: held again
//!                     └──they do not──> kept ──others that are enough to read its block were read (`vouch`)──> (removed)
//!   found spare ────────────────────────> kept ──the same──────────────────────────────────────────────────> (removed)
//!                                           └──its file is removed──> (removed)
//! ```
//!
//! Invariants:
//! - A replica whose first bytes are those of its block is never removed because something else about it is wrong: whoever removes it has
//!   verified it before (`simulation`, `longer_replicas_are_cut_back_and_not_thrown_away`).
//! - What is left of a block stays for as long as its file, unless others were read that have all of the block: what the primary believes
//!   of them is not enough (`nothing_that_is_left_of_a_block_goes_for_an_empty_replica`). Readers may make use of it (`look`).

use super::replicas::BlockState;
use super::{Block, Holder, Namespace, Order, Output};
use crate::ids::{BlockId, ExecutorId};
use std::collections::BTreeMap;

/// Replicas that stay and are not counted, by block.
#[derive(Debug, Default)]
pub(super) struct Damaged(BTreeMap<BlockId, BTreeMap<(ExecutorId, BlockId), Why>>);

/// Why a replica is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Damaged,
    /// The block has as many as are kept track of, or its executor has another piece.
    Spare,
}

impl Damaged {
    pub fn blocks(&self) -> impl Iterator<Item = BlockId> {
        self.0.keys().copied()
    }

    pub fn has(&self, block: BlockId) -> bool {
        self.0.contains_key(&block)
    }

    /// Those that an executor has.
    pub fn of(&self, executor: ExecutorId) -> Vec<BlockId> {
        let all = self.0.values().flat_map(BTreeMap::keys);
        all.filter(|(holder, _)| *holder == executor).map(|(_, replica)| *replica).collect()
    }

    /// Those of a block.
    pub fn holders(&self, block: BlockId) -> impl Iterator<Item = Holder> {
        let all = self.0.get(&block).into_iter().flat_map(BTreeMap::keys);
        all.map(move |(executor, replica)| Holder { executor: *executor, piece: (replica.0 - block.0) as u8 })
    }

    /// The executor is gone, with what it has.
    pub fn lost(&mut self, executor: ExecutorId) {
        self.0.retain(|_, replicas| {
            replicas.retain(|(holder, _), _| *holder != executor);
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
        self.set_aside(id, block, replica, Why::Damaged);
        out.orders.push((id, Order::Salvage { block: Block { id: replica, bytes }, last: true }));
    }

    /// An executor has a replica that its block has no place for.
    pub(super) fn found_spare(&mut self, id: ExecutorId, replica: BlockId) {
        if let Some((block, _)) = self.replicas.block_of(replica) {
            self.set_aside(id, block, replica, Why::Spare);
        }
    }

    fn set_aside(&mut self, id: ExecutorId, block: BlockId, replica: BlockId, why: Why) {
        self.upkeep.damaged.0.entry(block).or_default().insert((id, replica), why);
        if !self.upkeep.is_settling() {
            self.upkeep.vouching.want(block);
        }
    }

    /// An executor has a replica that is what it is to be, or nothing of it any more.
    pub(super) fn no_longer_damaged(&mut self, id: ExecutorId, replica: BlockId) {
        let Some((block, _)) = self.replicas.block_of(replica) else { return };
        let Some(replicas) = self.upkeep.damaged.0.get_mut(&block) else { return };
        replicas.remove(&(id, replica));
        if replicas.is_empty() {
            self.upkeep.damaged.0.remove(&block);
        } else if !self.upkeep.is_settling() {
            self.upkeep.vouching.want(block);
        }
    }

    /// Others of the block were read: those that were set aside go.
    pub(super) fn clear_damaged(&mut self, block: BlockId, out: &mut Output) {
        let Some(bytes) = self.replicas.blocks.get(&block).and_then(BlockState::replica_bytes) else { return };
        let replicas = self.upkeep.damaged.0.remove(&block).unwrap_or_default();
        for ((executor, replica), why) in replicas {
            match why {
                Why::Damaged => {
                    let block = Block { id: replica, bytes };
                    out.orders.push((executor, Order::Salvage { block, last: false }));
                }
                Why::Spare => self.let_go(executor, block, (replica.0 - block.0) as u8, out),
            }
        }
    }

    /// What is left of a block that nobody wants any more goes too.
    pub(super) fn forget_damaged(&mut self, block: BlockId, out: &mut Output) {
        let replicas = self.upkeep.damaged.0.remove(&block).unwrap_or_default();
        out.orders.extend(replicas.into_keys().map(|(executor, replica)| (executor, Order::Delete(replica))));
    }
}
