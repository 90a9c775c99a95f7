//! Replicas that are read before others of their block are removed.
//!
//! ```text
//!   one is too many, a damaged one lies beside, it was made in another way
//!        └──> asked: `Verify` to those that stay ──enough of them are right──> the others go
//!                 │  ^───one is damaged, gone, or its executor is lost: who is there is asked
//!                 └──late──> what was said is forgotten, and all are asked again
//! ```
//!
//! Invariants:
//! - A replica, damaged or not, is removed while its file stays only after enough others of its block were read to their ends since it was
//!   chosen: as many as the block wants for a surplus, all that it takes to read the block for a damaged one (`simulation`,
//!   `a_surplus_goes_after_what_stays_was_read`, `nothing_that_is_left_of_a_block_goes_for_an_empty_replica`).
//! - A reading that was asked for earlier, by whoever, does not count (`what_was_read_before_it_was_asked_for_does_not_count`).
//! - What an executor said of a replica counts for as long as that replica was not found bad, gone or lost.

use super::coding::Layout;
use super::place;
use super::replicas::replica;
use super::{Namespace, Now, Order, Output};
use crate::ids::{BlockId, ExecutorId};
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};

/// Blocks whose replicas are read at a time, for each member.
const FOR_EACH: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Vouching {
    asked: BTreeMap<BlockId, Asked>,
    /// Number of the last order to read a replica.
    reading: u64,
    /// Something about these has changed since they were asked for.
    changed: BTreeSet<BlockId>,
    /// Blocks that have something beside what is too many to be read for.
    waiting: BTreeSet<BlockId>,
    /// Blocks that take the place of others when they have been read, and those of them that have been.
    made: BTreeSet<BlockId>,
    vouched: BTreeSet<BlockId>,
}

#[derive(Debug)]
struct Asked {
    until: Instant,
    /// Whom, and the number of the order.
    asked: BTreeMap<ExecutorId, u64>,
    /// Those who have read theirs, and found it as it was written.
    right: BTreeSet<ExecutorId>,
    /// The one that is too many.
    goes: Option<ExecutorId>,
}

impl Vouching {
    pub fn next_deadline(&self) -> Option<Instant> {
        // What changed outside of upkeep is looked at at once; for what waits there may be no room.
        let now = !self.changed.is_empty() || (!self.waiting.is_empty() && self.asked.is_empty());
        let late = self.asked.values().map(|asked| asked.until).min();
        if now { Some(Instant::default()) } else { late }
    }

    /// Takes the place of another one, whose orders are still carried out.
    pub fn follow(&mut self, before: &Self) {
        self.reading = self.reading.max(before.reading);
    }

    /// Returns the order to read a replica.
    pub fn order(&mut self, replica: BlockId) -> Order {
        self.reading += 1;
        Order::Verify { replica, reading: self.reading }
    }

    /// Replicas of the block are read when there is room for that.
    pub fn want(&mut self, block: BlockId) {
        self.waiting.insert(block);
    }

    /// Replicas of the block came, went, or are to be looked at for another reason.
    pub fn changed(&mut self, block: BlockId) {
        if self.asked.contains_key(&block) {
            self.changed.insert(block);
        }
    }

    /// What it said of its replica, if anything, is not so any more.
    pub fn retract(&mut self, executor: ExecutorId, block: BlockId) {
        if let Some(asked) = self.asked.get_mut(&block) {
            asked.asked.remove(&executor);
            asked.right.remove(&executor);
            self.changed.insert(block);
        }
    }

    /// The block is to take the place of another one. Returns whether it has been read; if not, it will be.
    pub fn is_vouched(&mut self, block: BlockId) -> bool {
        if self.vouched.contains(&block) {
            return true;
        }
        if self.made.insert(block) {
            self.waiting.insert(block);
        }
        false
    }

    pub fn forget(&mut self, block: BlockId) {
        self.asked.remove(&block);
        [&mut self.changed, &mut self.waiting, &mut self.made, &mut self.vouched]
            .into_iter()
            .for_each(|blocks| _ = blocks.remove(&block));
    }

    #[cfg(test)]
    pub fn is_relied_on(&self, block: BlockId) -> bool {
        self.asked.contains_key(&block) || self.vouched.contains(&block)
    }
}

impl Namespace {
    /// An executor has read all of these replicas after it got the orders of these numbers, and they are what was written.
    pub fn verified(&mut self, now: Now, id: ExecutorId, replicas: &[(BlockId, u64)], out: &mut Output) {
        for (replica, reading) in replicas {
            self.was_read(id, *replica);
            let Some((block, piece)) = self.replicas.block_of(*replica) else { continue };
            let is_held = self.replicas.all_holders(block).contains(&(id, piece));
            let vouching = &mut self.upkeep.vouching;
            let was_asked = |asked: &&mut Asked| asked.asked.get(&id).is_some_and(|order| order <= reading);
            if let Some(asked) = vouching.asked.get_mut(&block).filter(|asked| is_held && was_asked(asked)) {
                asked.right.insert(id);
                vouching.changed.insert(block);
            }
        }
        self.repair(now, out);
    }

    /// Removes that for which enough others were read, and has more read, as far as there is room. Returns whether blocks can take the
    /// place of others that could not before.
    pub(super) fn thin_out(&mut self, now: Now, out: &mut Output) -> bool {
        let vouched = self.upkeep.vouching.vouched.len();
        let vouching = &mut self.upkeep.vouching;
        for (block, _) in vouching.asked.extract_if(.., |_, asked| asked.until <= now.at) {
            vouching.waiting.insert(block);
        }
        while let Some(block) = self.upkeep.vouching.changed.pop_first() {
            self.vouch(now, block, out);
        }
        let most = FOR_EACH * self.replicas.members.len().max(1);
        while self.upkeep.vouching.asked.len() < most
            && let Some(block) = self.upkeep.vouching.waiting.pop_first()
        {
            self.vouch(now, block, out);
        }
        let asked = &self.upkeep.vouching.asked;
        let room = most.saturating_sub(asked.len());
        let idle = self.replicas.surplus.iter().filter(|block| !asked.contains_key(block));
        let idle: Vec<BlockId> = idle.take(room).copied().collect();
        idle.into_iter().for_each(|block| self.vouch(now, block, out));
        self.upkeep.vouching.vouched.len() > vouched
    }

    fn vouch(&mut self, now: Now, block: BlockId, out: &mut Output) {
        let (asked, right, goes) = Default::default();
        let until = now.at + self.config.copy_timeout;
        let vouching = &mut self.upkeep.vouching;
        let mut vouch = vouching.asked.remove(&block).unwrap_or(Asked { until, asked, right, goes });
        let concerned = self.go_on(block, &mut vouch, out);
        if concerned.is_empty() {
            return;
        }
        for (executor, piece) in concerned {
            vouch.asked.entry(executor).or_insert_with(|| {
                let order = self.upkeep.vouching.order(replica(block, piece));
                let Order::Verify { reading, .. } = order else { return 0 };
                out.orders.push((executor, order));
                reading
            });
        }
        self.upkeep.vouching.asked.insert(block, vouch);
    }

    /// Does what can be done by now. Returns whose replicas are to be read for the rest.
    fn go_on(&mut self, block: BlockId, vouch: &mut Asked, out: &mut Output) -> Vec<(ExecutorId, u8)> {
        loop {
            let Some(state) = self.replicas.blocks.get(&block).filter(|state| state.bytes.is_some()) else {
                return Vec::new();
            };
            let (layout, is_readable) = (state.layout, state.is_readable());
            let holders = self.replicas.all_holders(block);
            vouch.right.retain(|id| holders.iter().any(|(holder, _)| holder == id));
            let right: Vec<(ExecutorId, u8)> =
                holders.iter().filter(|(id, _)| vouch.right.contains(id)).copied().collect();
            let lives = self.replicas.lives(state, &right);
            let mut concerned = Vec::new();
            if is_readable && self.upkeep.damaged.has(block) {
                match lives {
                    0 => concerned.extend(&holders),
                    _ => self.clear_damaged(block, out),
                }
            }
            if self.upkeep.vouching.made.contains(&block) {
                if lives >= layout.wanted().min(2) {
                    self.upkeep.vouching.made.remove(&block);
                    self.upkeep.vouching.vouched.insert(block);
                } else {
                    concerned.extend(&holders);
                }
            }
            let too_many = self.replicas.too_many(block);
            let chosen = vouch.goes.filter(|goes| too_many.contains(goes));
            vouch.goes = chosen.or_else(|| place::surplus(&self.replicas, &too_many));
            let Some((goes, piece)) = holders.iter().find(|(id, _)| Some(*id) == vouch.goes).copied() else {
                return concerned;
            };
            let enough = match layout {
                Layout::Whole(wanted) => usize::from(wanted),
                Layout::Coded(_) => 1,
            };
            let stay = || too_many.iter().filter(|id| **id != goes);
            if stay().filter(|id| vouch.right.contains(id)).count() < enough {
                concerned.extend(stay().map(|id| (*id, piece)));
                return concerned;
            }
            vouch.asked.remove(&goes);
            vouch.right.remove(&goes);
            self.upkeep.pruned += 1;
            self.let_go(goes, block, piece, out);
        }
    }
}
