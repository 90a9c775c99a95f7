//! Upkeep of replicas: reports of executors, and what makes every block have as many as it wants.
//!
//! ```text
//!   settling ──nearly all blocks have a replica, and a while──> working        (also after `settle_limit`)
//!
//!   executor lost ──`repair_after`──> its blocks are wanting; those with one replica left at once
//!   wanting ──copy ordered──> copying ──reported, failed, late, source or target lost──> looked at again
//!   surplus ──enough of those that stay were read (`vouch`)──> one replica less
//! ```

use super::coding::Layout;
use super::damage::Damaged;
use super::going::Going;
use super::place::{self, Near};
use super::replicas::{BlockState, Member, Replicas, Reported, replica};
use super::vouch::Vouching;
use super::{Block, CodedPiece, Coding, FsError, FsPath, Holder, Namespace, Now, Order, Output, WfsConfig};
use crate::ids::{BlockId, ExecutorId, FileId};
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Between two looks at what could not be placed or copied, if nothing else happens.
pub(super) const ROUND: Duration = Duration::from_secs(5);
/// Blocks that are looked at in one step, and those of them that copies are sought for.
const LOOKS: usize = 10_000;
const COPIES: usize = 1_000;
/// Maximum blocks per thousand that may lack a replica when upkeep begins.
const MISSING_PER_MILLE: usize = 1;

#[derive(Debug)]
pub(super) struct Upkeep {
    /// While executors are waited for: until when at the latest, and until when if nearly all is there.
    settling: Option<(Instant, Option<Instant>)>,
    /// Blocks that are looked at again at that time: their executor went, or a copy came to nothing.
    away: Vec<(Instant, BTreeSet<BlockId>)>,
    /// Executors are expected back until then that were away before this namespace was there.
    expected: Option<Instant>,
    /// Blocks that lost a holder a short while ago: they wait, unless it was the last but one.
    waiting: BTreeSet<BlockId>,
    /// By the number of the replica that is made.
    copying: BTreeMap<BlockId, Copying>,
    /// What executors are told when upkeep begins.
    unwanted: BTreeMap<ExecutorId, Vec<Order>>,
    pub damaged: Damaged,
    pub going: Going,
    pub vouching: Vouching,
    /// Replicas that somebody has asked to be read, and that were not yet.
    checking: BTreeSet<(ExecutorId, BlockId)>,
    next_round: Instant,
    /// While replicas move off full executors: how far from the average in per mille is well.
    balancing: Option<u64>,
    /// Copies that have succeeded, replicas that were too many.
    pub copied: u64,
    pub pruned: u64,
}

#[derive(Debug)]
struct Copying {
    from: Vec<ExecutorId>,
    to: ExecutorId,
    until: Instant,
}

/// How the blocks are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    pub settling: bool,
    pub blocks: usize,
    /// With fewer replicas than they want, at least one.
    pub under_replicated: usize,
    /// Without a replica.
    pub missing: usize,
    /// With more replicas than they want.
    pub surplus: usize,
    /// All of whose replicas are damaged.
    pub damaged: usize,
    pub copying: usize,
    pub copied: u64,
    pub pruned: u64,
    pub balancing: bool,
    /// Files whose blocks are being made in the way that their folders ask for, and those that wait for that.
    pub recoding: usize,
    pub to_recode: usize,
    pub members: Vec<MemberStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    pub id: ExecutorId,
    pub draining: bool,
    pub maintenance: bool,
    pub replicas: usize,
    pub used: u64,
    pub free: u64,
}

impl Upkeep {
    pub fn new(now: Instant, config: &WfsConfig, replicas: &Replicas) -> Self {
        Upkeep {
            settling: (replicas.sealed > 0).then(|| (now + config.settle_limit, None)),
            away: Vec::new(),
            expected: None,
            waiting: BTreeSet::new(),
            copying: BTreeMap::new(),
            unwanted: BTreeMap::new(),
            damaged: Damaged::default(),
            going: Going::default(),
            vouching: Vouching::default(),
            checking: BTreeSet::new(),
            next_round: now,
            balancing: None,
            copied: 0,
            pruned: 0,
        }
    }

    pub fn is_settling(&self) -> bool {
        self.settling.is_some()
    }

    pub fn next_deadline(&self, replicas: &Replicas) -> Option<Instant> {
        if let Some((limit, settled)) = self.settling {
            return Some(settled.unwrap_or(limit));
        }
        let work = self.balancing.is_some() || !replicas.wanting.is_empty() || !replicas.stuck.is_empty();
        let rounds = work.then_some(self.next_round);
        let copies = self.copying.values().map(|copy| copy.until);
        let away = self.away.iter().map(|(at, _)| *at);
        rounds.into_iter().chain(away).chain(copies).chain(self.vouching.next_deadline()).min()
    }

    /// A writer waits for replicas of this block.
    pub fn hasten(&mut self, block: BlockId) {
        self.waiting.remove(&block);
        self.next_round = Instant::default();
    }

    pub fn forget(&mut self, block: BlockId, replicas: &mut Replicas) {
        self.waiting.remove(&block);
        self.vouching.forget(block);
        let pieces = replicas.blocks.get(&block).map_or(1, |state| state.layout.pieces());
        (0..pieces).for_each(|piece| _ = self.end_copy(replica(block, piece), replicas));
    }

    fn end_copy(&mut self, block: BlockId, replicas: &mut Replicas) -> Option<Copying> {
        let copy = self.copying.remove(&block)?;
        if let Some(member) = replicas.member_mut(copy.to) {
            member.incoming = member.incoming.saturating_sub(1);
        }
        if let Some(member) = copy.from.first().and_then(|from| replicas.member_mut(*from)) {
            member.outgoing = member.outgoing.saturating_sub(1);
        }
        Some(copy)
    }
}

impl Namespace {
    // ---- what executors say

    /// A core executor has joined. Its report follows.
    pub fn joined(&mut self, id: ExecutorId, host: &str, rack: &str) {
        self.replicas.join(id, host.into(), rack.into());
        self.recoder.more_members();
    }

    /// The members of a namespace that this one takes the place of, with the replicas that they have.
    pub fn inherit(&mut self, now: Now, before: &Namespace, out: &mut Output) {
        self.upkeep.vouching.follow(&before.upkeep.vouching);
        for member in before.replicas.members.values() {
            self.joined(member.id, &member.host, &member.rack);
            self.space(member.id, member.used, member.free);
            let block = |id: &BlockId| before.replicas.blocks.get(&before.replicas.block_of(*id)?.0);
            let held = |id: &BlockId| Some(Block { id: *id, bytes: block(id)?.replica_bytes()? });
            // A removal that did not become durable has not happened: the file is there, with its replicas.
            let kept = before.departed.held_by(member.id).into_iter();
            let kept = kept.filter(|kept| self.replicas.block_of(kept.id).is_some());
            let blocks: Vec<Block> = member.replicas.iter().filter_map(held).chain(kept).collect();
            self.added(now, member.id, &blocks, out);
            self.bad(now, member.id, &before.upkeep.damaged.of(member.id), out);
            let going = before.upkeep.going.of(member.id).into_iter();
            going.for_each(|replica| self.let_go_again(member.id, replica, out));
            if member.draining {
                self.draining(now, member.id, out);
            }
            if let Some(joined) = self.replicas.member_mut(member.id) {
                joined.maintenance = member.maintenance;
            }
        }
    }

    /// It is gone, with its replicas.
    pub fn lost(&mut self, now: Now, id: ExecutorId, out: &mut Output) {
        self.upkeep.unwanted.remove(&id);
        self.upkeep.damaged.lost(id);
        self.upkeep.going.lost(id);
        self.upkeep.checking.retain(|(executor, _)| *executor != id);
        let concerned = self.upkeep.copying.iter().filter(|(_, copy)| copy.to == id || copy.from.contains(&id));
        let concerned: Vec<BlockId> = concerned.map(|(block, _)| *block).collect();
        for block in concerned {
            self.upkeep.end_copy(block, &mut self.replicas);
        }
        self.recoder_lost(now, id, out);
        let member = self.replicas.member(id);
        let was_draining = member.is_some_and(|member| member.draining);
        let expected_back = member.and_then(|member| member.maintenance).unwrap_or_default();
        let blocks = self.replicas.leave(id);
        blocks.iter().for_each(|block| self.upkeep.vouching.retract(id, *block));
        if !blocks.is_empty() && !was_draining {
            self.upkeep.waiting.extend(blocks.iter().copied());
            self.upkeep.away.push((expected_back.max(now.at + self.config.repair_after), blocks));
        }
        self.repair(now, out);
    }

    /// It leaves for good.
    pub fn draining(&mut self, now: Now, id: ExecutorId, out: &mut Output) {
        self.replicas.drain(id);
        self.repair(now, out);
    }

    /// It may go and come back within so long: what it holds is not made again meanwhile, but for blocks with one other replica or none.
    /// Nothing new goes there. `None`: it is an executor like the others again.
    pub fn maintain(&mut self, now: Now, id: ExecutorId, time: Option<Duration>) {
        if let Some(member) = self.replicas.member_mut(id) {
            member.maintenance = time.map(|time| now.at + time);
        }
        self.replicas.unstick();
    }

    /// Executors that were away when this namespace was loaded may be so until then. What they hold is not known: blocks that have two
    /// replicas or more are taken for theirs.
    pub fn expect(&mut self, until: Instant) {
        self.upkeep.expected = Some(until);
    }

    /// Nobody who is away is waited for any longer.
    pub fn expect_no_more(&mut self, now: Now, out: &mut Output) {
        self.upkeep.expected = None;
        self.upkeep.away.iter_mut().for_each(|(at, _)| *at = (*at).min(now.at));
        self.repair(now, out);
    }

    pub(super) fn end_maintenance(&mut self, now: Now) {
        let mut ended = false;
        for member in self.replicas.members.values_mut() {
            ended |= member.maintenance.take_if(|until| *until <= now.at).is_some();
        }
        if ended {
            self.replicas.unstick();
        }
    }

    /// How many of its blocks would have fewer replicas than they want without it, and could have more on others.
    pub fn held_up(&self, id: ExecutorId) -> usize {
        let Some(member) = self.replicas.member(id) else { return 0 };
        let staying = self.replicas.members.values().filter(|member| !member.draining).count();
        let needs = |block: &&BlockId| {
            self.replicas.blocks.get(*block).is_some_and(|state| {
                let enough = match state.layout {
                    Layout::Whole(wanted) => usize::from(wanted).min(staying),
                    Layout::Coded(coding) => {
                        usize::from(state.layout.lives(staying.min(usize::from(coding.pieces())) as u8))
                    }
                };
                usize::from(self.replicas.staying(state)) < enough
            })
        };
        let blocks = member.replicas.iter().filter_map(|replica| Some(self.replicas.block_of(*replica)?.0));
        blocks.filter(|block| needs(&block)).count()
    }

    /// Space on its disks.
    pub fn space(&mut self, id: ExecutorId, used: u64, free: u64) {
        if let Some(member) = self.replicas.member_mut(id) {
            (member.used, member.free) = (used, free);
        }
    }

    /// All replicas that it has with ids in `range`, sorted by id.
    pub fn reported(
        &mut self,
        now: Now,
        id: ExecutorId,
        range: std::ops::RangeInclusive<BlockId>,
        blocks: &[Block],
        out: &mut Output,
    ) {
        let Some(member) = self.replicas.member(id) else { return };
        let has: BTreeSet<BlockId> = blocks.iter().map(|block| block.id).collect();
        let gone: Vec<BlockId> = member.replicas.range(range).copied().filter(|block| !has.contains(block)).collect();
        gone.into_iter().for_each(|replica| self.drop_replica(id, replica));
        self.added(now, id, blocks, out);
    }

    /// Replicas that it has since.
    pub fn added(&mut self, now: Now, id: ExecutorId, blocks: &[Block], out: &mut Output) {
        for block in blocks {
            if self.upkeep.copying.get(&block.id).is_some_and(|copy| copy.to == id) {
                self.upkeep.end_copy(block.id, &mut self.replicas);
                self.upkeep.copied += 1;
            }
            if self.upkeep.going.has(id, block.id) {
                continue;
            }
            match self.replicas.report(id, block.id, block.bytes) {
                Reported::Held => {
                    if let Some((of, _)) = self.replicas.block_of(block.id) {
                        self.no_longer_damaged(id, block.id);
                        self.upkeep.vouching.changed(of);
                        self.formed(now, of, out);
                    }
                }
                Reported::Early => {}
                // A number that this namespace never gave is not its to remove.
                Reported::Unwanted if block.id.0 >= self.counters.next_block => {}
                // The block has this replica already.
                Reported::Unwanted if self.replicas.block_of(block.id).is_some() => self.found_spare(id, block.id),
                Reported::Unwanted => self.unwanted(id, Order::Delete(block.id), out),
                Reported::WrongLength => self.found_damaged(id, block.id, out),
            }
        }
        self.repair(now, out);
    }

    pub(super) fn unwanted(&mut self, id: ExecutorId, order: Order, out: &mut Output) {
        match self.upkeep.settling {
            Some(_) => self.upkeep.unwanted.entry(id).or_default().push(order),
            None => out.orders.push((id, order)),
        }
    }

    /// Replicas that it found missing or damaged.
    pub fn bad(&mut self, now: Now, id: ExecutorId, replicas: &[BlockId], out: &mut Output) {
        for replica in replicas {
            self.drop_replica(id, *replica);
            if self.upkeep.going.has(id, *replica) {
                continue;
            }
            self.found_damaged(id, *replica, out);
            if let Some((block, _)) = self.replicas.block_of(*replica) {
                self.upkeep.waiting.remove(&block);
            }
        }
        self.repair(now, out);
    }

    /// Replicas that it has no more. Mostly it was told to remove them.
    pub fn gone(&mut self, now: Now, id: ExecutorId, replicas: &[BlockId], out: &mut Output) {
        for replica in replicas {
            self.upkeep.going.end(id, *replica);
            self.drop_replica(id, *replica);
            self.no_longer_damaged(id, *replica);
            // It can take one now.
            if let Some((block, _)) = self.replicas.block_of(*replica) {
                self.replicas.unstick_block(block);
            }
        }
        self.repair(now, out);
    }

    fn drop_replica(&mut self, id: ExecutorId, replica: BlockId) {
        self.was_read(id, replica);
        self.replicas.drop_replica(id, replica);
        if let Some((block, _)) = self.replicas.block_of(replica) {
            self.upkeep.vouching.retract(id, block);
        }
    }

    /// It is what it is to be, or known not to be.
    pub(super) fn was_read(&mut self, id: ExecutorId, replica: BlockId) {
        self.upkeep.checking.remove(&(id, replica));
    }

    /// A reader could not read a replica: its executor is to look.
    pub fn suspect(&mut self, id: ExecutorId, block: BlockId, out: &mut Output) {
        if self.replicas.holders(block).contains(&id) {
            out.orders.push((id, self.upkeep.vouching.order(block)));
        }
    }

    /// Moves replicas from executors whose disks are fuller than the average by more than so many per mille of their size to those that
    /// are emptier, until none is; 0: stops that. Blocks that want more replicas go first.
    pub fn balance(&mut self, now: Now, per_mille: u64, out: &mut Output) {
        self.upkeep.balancing = (per_mille > 0).then_some(per_mille);
        self.repair(now, out);
    }

    /// One more replica, on the emptiest executor that may have it, of a block that the fullest one holds. The surplus that this makes goes
    /// from the fullest.
    fn order_moves(&mut self, now: Now, out: &mut Output) {
        let Some(per_mille) = self.upkeep.balancing else { return };
        let members = || self.replicas.members.values().filter(|member| !member.draining);
        let count = members().count() as u64;
        let average = members().map(Member::fullness).sum::<u64>() / count.max(1);
        let mut full: Vec<&Member> = members().filter(|member| member.fullness() > average + per_mille).collect();
        full.sort_by_key(|member| std::cmp::Reverse((member.fullness(), member.id)));
        let room = |member: &&Member| member.incoming < self.config.copies && member.fullness() < average;
        let mut targets: Vec<(u64, ExecutorId)> = members().filter(room).map(|m| (m.fullness(), m.id)).collect();
        targets.sort_unstable();
        let targets: Vec<ExecutorId> = targets.into_iter().map(|(_, id)| id).collect();
        let mut sources = full.into_iter().filter(|member| member.outgoing < self.config.copies);
        let moved = sources.find_map(|source| self.movable(source, &targets));
        match moved {
            Some((source, block, target)) => {
                self.order(now, block.id, vec![source], target, Order::Copy { block, from: vec![source] }, out);
            }
            // None is too full, or the others have what those have, or no room.
            None if self.upkeep.copying.is_empty() => self.upkeep.balancing = None,
            None => {}
        }
    }

    /// A replica of `source` that can go to one of `targets`.
    fn movable(&self, source: &Member, targets: &[ExecutorId]) -> Option<(ExecutorId, Block, ExecutorId)> {
        source.replicas.iter().take(LOOKS).find_map(|id| {
            let (block, _) = self.replicas.block_of(*id)?;
            let state = self.replicas.blocks.get(&block)?;
            let taken = self.taken(block);
            let target = targets.iter().find(|target| !taken.contains(target))?;
            let enough = self.replicas.staying(state) == state.layout.wanted() && !state.forming;
            let idle = enough && !self.upkeep.copying.contains_key(id);
            idle.then_some((source.id, Block { id: *id, bytes: state.replica_bytes()? }, *target))
        })
    }

    /// Executors are to look at all replicas of the files in `path`: [`Namespace::unread`] tells when they have.
    pub fn verify(&mut self, path: &FsPath, out: &mut Output) -> Result<(), FsError> {
        let (id, _) = self.tree.resolve(path)?;
        let files = self.tree.ids_below(id).into_iter().filter_map(|id| self.tree.get(id)?.file());
        for block in files.flat_map(|file| file.blocks.iter()) {
            for (executor, piece) in self.replicas.all_holders(block.id) {
                let replica = replica(block.id, piece);
                self.upkeep.checking.insert((executor, replica));
                out.orders.push((executor, self.upkeep.vouching.order(replica)));
            }
        }
        Ok(())
    }

    /// Replicas of the files in `path` that were to be looked at, and were not yet.
    pub fn unread(&self, path: &FsPath) -> Result<usize, FsError> {
        let (root, _) = self.tree.resolve(path)?;
        let concerns = |(executor, replica): &&(ExecutorId, BlockId)| {
            let Some((block, piece)) = self.replicas.block_of(*replica) else { return false };
            let file = self.replicas.blocks.get(&block).map(|state| state.file);
            file.is_some_and(|file| self.tree.is_below(file, root))
                && self.replicas.all_holders(block).contains(&(*executor, piece))
        };
        Ok(self.upkeep.checking.iter().filter(concerns).count())
    }

    /// A copy that was ordered came to nothing.
    pub fn copy_failed(&mut self, now: Now, id: ExecutorId, replica: BlockId, out: &mut Output) {
        let block = self.replicas.block_of(replica).map_or(replica, |(block, _)| block);
        if self.upkeep.copying.get(&replica).is_some_and(|copy| copy.to == id) {
            self.upkeep.end_copy(replica, &mut self.replicas);
            // Not at once: whatever it was may be over later, and other executors may do.
            self.replicas.stick(block);
            self.upkeep.away.push((now.at + ROUND, BTreeSet::from([block])));
        }
        self.recode_failed(now, block, out);
        self.repair(now, out);
    }

    // ---- what is done about it

    /// Orders copies and removals, as far as there is room for them.
    pub(super) fn repair(&mut self, now: Now, out: &mut Output) {
        if !self.settled(now, out) {
            return;
        }
        for (_, blocks) in self.upkeep.away.extract_if(.., |(at, _)| *at <= now.at) {
            for block in blocks {
                self.upkeep.waiting.remove(&block);
                self.replicas.unstick_block(block);
            }
        }
        let late = self.upkeep.copying.iter().filter(|(_, copy)| copy.until <= now.at);
        let late: Vec<BlockId> = late.map(|(block, _)| *block).collect();
        for block in late {
            self.upkeep.end_copy(block, &mut self.replicas);
        }
        if self.upkeep.next_round <= now.at {
            self.replicas.unstick();
            self.upkeep.next_round = now.at + ROUND;
        }
        self.order_copies(now, out);
        self.order_moves(now, out);
        self.recode(now, out);
        if self.thin_out(now, out) {
            // Nobody may say anything more.
            self.recode(now, out);
        }
    }

    fn settled(&mut self, now: Now, out: &mut Output) -> bool {
        let Some((limit, settled)) = &mut self.upkeep.settling else { return true };
        let missing = self.replicas.sealed - self.replicas.present;
        if missing * 1_000 <= self.replicas.sealed * MISSING_PER_MILLE {
            settled.get_or_insert(now.at + self.config.settle);
        }
        let over = *limit <= now.at || settled.is_some_and(|at| at <= now.at);
        if over {
            self.upkeep.settling = None;
            if let Some(until) = self.upkeep.expected.take().filter(|until| *until > now.at) {
                let short = self.replicas.wanting.iter().filter(|(left, _)| *left > 1);
                let short: BTreeSet<BlockId> = short.map(|(_, block)| *block).collect();
                self.upkeep.waiting.extend(short.iter().copied());
                self.upkeep.away.push((until, short));
            }
            for (executor, orders) in std::mem::take(&mut self.upkeep.unwanted) {
                out.orders.extend(orders.into_iter().map(|order| (executor, order)));
            }
            let damaged: Vec<BlockId> = self.upkeep.damaged.blocks().collect();
            damaged.into_iter().for_each(|block| self.upkeep.vouching.want(block));
        }
        over
    }

    fn order_copies(&mut self, now: Now, out: &mut Output) {
        let room = self.replicas.members.values().filter(|m| m.incoming < self.config.copies).count();
        if room == 0 || self.replicas.wanting.is_empty() {
            return;
        }
        let waits = |(left, block): &&(u8, BlockId)| *left > 1 && self.upkeep.waiting.contains(block);
        let idle = |(_, block): &&(u8, BlockId)| !self.upkeep.copying.contains_key(block);
        let looked_at = self.replicas.wanting.iter().take(LOOKS);
        let candidates = looked_at.filter(|candidate| idle(candidate) && !waits(candidate)).map(|(_, block)| *block);
        let candidates: Vec<BlockId> = candidates.take(COPIES).collect();
        for block in candidates {
            match self.replicas.blocks.get(&block).map(|state| state.layout) {
                Some(Layout::Whole(_)) => self.order_copy(now, block, block, out),
                Some(Layout::Coded(coding)) => self.order_pieces(now, block, coding, out),
                None => {}
            }
        }
    }

    /// One more of a replica that is there: on an executor that has no replica of its block.
    fn order_copy(&mut self, now: Now, block: BlockId, id: BlockId, out: &mut Output) {
        let Some(bytes) = self.replicas.blocks.get(&block).and_then(BlockState::replica_bytes) else { return };
        let mut sources = self.replicas.holders(id);
        sources.sort_by_key(|source| (self.replicas.member(*source).map_or(u32::MAX, |m| m.outgoing), *source));
        let Some(source) = sources.first().copied() else { return self.replicas.stick(block) };
        if self.replicas.member(source).is_none_or(|member| member.outgoing >= self.config.copies) {
            // A source has room again when one of its copies ends, which leads here.
            return;
        }
        if let Some(target) = self.target_for(block, bytes) {
            let block = Block { id, bytes };
            self.order(now, id, sources.clone(), target, Order::Copy { block, from: sources }, out);
        }
    }

    /// The pieces of a block that no executor has, or only one that leaves.
    fn order_pieces(&mut self, now: Now, block: BlockId, coding: Coding, out: &mut Output) {
        let holders = self.replicas.all_holders(block);
        let stays = |id: &ExecutorId| self.replicas.member(*id).is_some_and(|member| !member.draining);
        let missing: Vec<u8> = (0..coding.pieces())
            .filter(|piece| !holders.iter().any(|(id, held)| held == piece && stays(id)))
            .filter(|piece| !self.upkeep.copying.contains_key(&replica(block, *piece)))
            .collect();
        for piece in missing {
            if holders.iter().any(|(_, held)| *held == piece) {
                self.order_copy(now, block, replica(block, piece), out);
                continue;
            }
            let Some(bytes) = self.replicas.blocks.get(&block).and_then(|state| state.bytes) else { return };
            if holders.len() < usize::from(coding.data()) {
                return self.replicas.stick(block);
            }
            let Some(target) = self.target_for(block, coding.piece_bytes(bytes)) else { return };
            let from = holders.iter().map(|(id, _)| *id).collect();
            let piece_bytes = coding.piece_bytes(bytes);
            let holders =
                holders.iter().map(|(executor, piece)| Holder { executor: *executor, piece: *piece }).collect();
            let order = Order::Rebuild(CodedPiece { coding, piece, first: block, piece_bytes, holders });
            self.order(now, replica(block, piece), from, target, order, out);
        }
    }

    /// Executors that have a replica of a block or a piece of it, to which one is on its way, or from which one goes: of another piece no
    /// use is made there.
    fn taken(&self, block: BlockId) -> Vec<ExecutorId> {
        let pieces = self.replicas.blocks.get(&block).map_or(0, |state| state.layout.pieces());
        let replicas = || (0..pieces).map(|piece| replica(block, piece));
        let on_the_way = replicas().filter_map(|replica| self.upkeep.copying.get(&replica));
        let going = replicas().flat_map(|replica| self.upkeep.going.executors(replica));
        let holders = self.replicas.all_holders(block).into_iter().map(|(id, _)| id);
        holders.chain(on_the_way.map(|copy| copy.to)).chain(going).collect()
    }

    /// An executor that can take one more replica of a block. When there is none at all, the block is set aside.
    fn target_for(&mut self, block: BlockId, bytes: u64) -> Option<ExecutorId> {
        let taken = self.taken(block);
        let busy = self.replicas.members.values().filter(|member| member.incoming >= self.config.copies);
        let busy: BTreeSet<ExecutorId> = busy.map(|member| member.id).collect();
        let chosen = place::choose(&self.replicas, &mut self.dice, &Near::default(), &taken, &busy, bytes, 1);
        if chosen.is_empty() && busy.is_empty() {
            self.replicas.stick(block);
        }
        chosen.first().copied()
    }

    fn order(
        &mut self,
        now: Now,
        replica: BlockId,
        from: Vec<ExecutorId>,
        to: ExecutorId,
        order: Order,
        out: &mut Output,
    ) {
        if let Some(source) = from.first().and_then(|source| self.replicas.member_mut(*source)) {
            source.outgoing += 1;
        }
        if let Some(target) = self.replicas.member_mut(to) {
            target.incoming += 1;
        }
        let until = now.at + self.config.copy_timeout;
        self.upkeep.copying.insert(replica, Copying { from, to, until });
        out.orders.push((to, order));
    }

    // ---- what users see of it

    pub fn health(&self) -> Health {
        let missing = self.replicas.sealed - self.replicas.present;
        Health {
            settling: self.upkeep.settling.is_some(),
            blocks: self.replicas.sealed,
            under_replicated: (self.replicas.wanting.len() + self.replicas.stuck.len()).saturating_sub(missing),
            missing,
            surplus: self.replicas.surplus.len(),
            damaged: self.upkeep.damaged.blocks().filter(|block| !self.replicas.is_readable(*block)).count(),
            copying: self.upkeep.copying.len(),
            copied: self.upkeep.copied,
            pruned: self.upkeep.pruned,
            balancing: self.upkeep.balancing.is_some(),
            recoding: self.recoder.active.len(),
            to_recode: self.recoder.waiting(),
            members: self
                .replicas
                .members
                .values()
                .map(|member| MemberStatus {
                    id: member.id,
                    draining: member.draining,
                    maintenance: member.maintenance.is_some(),
                    replicas: member.replicas.len(),
                    used: member.used,
                    free: member.free,
                })
                .collect(),
        }
    }

    /// Files in `path`, or just it, with blocks that have fewer replicas than they want: how many could be lost and one more before they
    /// cannot be read, how many that is to be, and whether all that is left is damaged.
    pub fn troubled(&self, path: &FsPath, limit: usize) -> Result<Vec<(FsPath, BlockId, u8, u8, bool)>, FsError> {
        let (root, _) = self.tree.resolve(path)?;
        let listed = self.replicas.wanting.iter().map(|(_, block)| *block).chain(self.replicas.stuck.iter().copied());
        let mut found = Vec::new();
        for block in listed {
            if found.len() == limit {
                break;
            }
            let Some(state) = self.replicas.blocks.get(&block) else { continue };
            if self.leases.get(state.file).is_none() && !self.tree.is_below(state.file, root) {
                continue;
            }
            let damaged = self.upkeep.damaged.has(block) && !state.is_readable();
            let (staying, wanted) = (self.replicas.staying(state), state.layout.wanted());
            found.push((self.path_of(state.file), block, staying, wanted, damaged));
        }
        found.sort();
        Ok(found)
    }

    fn path_of(&self, file: FileId) -> FsPath {
        match self.leases.get(file) {
            Some(writing) => writing.path.clone(),
            None => self.tree.path_of(file),
        }
    }
}
