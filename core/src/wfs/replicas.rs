//! Which executor holds a replica of which block.
//!
//! ```text
//! replica   (being written) ──durable──> Held ──executor lost, found bad, surplus──> (gone)
//!
//! block     Open ──sealed──> Enough | Wanting | Missing, by how many members hold it ──file removed──> (gone)
//! ```
//!
//! A block that is cut up has as many replicas as it has pieces, with numbers of their own: that of the block and those behind it.
//!
//! Invariants:
//! - A block has at most one replica, of which piece ever, on an executor.
//! - `wanting` has just the sealed blocks with fewer replicas, on executors that stay, than they want, unless `stuck` has them.

use super::coding::Layout;
use crate::ids::{BlockId, ExecutorId, FileId};
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};

/// Replicas of one block that are kept track of. A surplus beyond is removed at once.
const MOST: usize = 12;

/// The members of the cluster that hold replicas, by a small number of their own: a million blocks name them three million times.
pub(super) type Seat = u16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub seat: Seat,
    /// 0 for a block that is whole.
    pub piece: u8,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Holders {
    held: [Held; MOST],
    count: u8,
}

impl Holders {
    pub fn as_slice(&self) -> &[Held] {
        &self.held[..usize::from(self.count)]
    }

    fn on(&self, seat: Seat) -> Option<Held> {
        self.as_slice().iter().find(|held| held.seat == seat).copied()
    }

    /// False when there is no room, or another piece of the block is on that seat.
    fn insert(&mut self, held: Held) -> bool {
        if let Some(there) = self.on(held.seat) {
            return there == held;
        }
        if usize::from(self.count) == MOST {
            return false;
        }
        self.held[usize::from(self.count)] = held;
        self.count += 1;
        true
    }

    fn remove(&mut self, held: Held) -> bool {
        let Some(at) = self.as_slice().iter().position(|other| *other == held) else { return false };
        self.count -= 1;
        self.held.swap(at, usize::from(self.count));
        true
    }
}

#[derive(Debug)]
pub(super) struct BlockState {
    pub file: FileId,
    /// `None` while it is written.
    pub bytes: Option<u64>,
    pub layout: Layout,
    /// It is to take the place of a block of its file, and its replicas are being made.
    pub forming: bool,
    pub holders: Holders,
    listed: Listed,
}

/// Which list a block is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    Nowhere,
    Wanting(u8),
    Stuck,
    Surplus,
}

impl BlockState {
    fn new(file: FileId, bytes: Option<u64>, layout: Layout) -> Self {
        BlockState { file, bytes, layout, forming: false, holders: Holders::default(), listed: Listed::Nowhere }
    }

    /// Bytes of each replica.
    pub fn replica_bytes(&self) -> Option<u64> {
        self.bytes.map(|bytes| self.layout.replica_bytes(bytes))
    }

    fn counts(&self) -> bool {
        self.bytes.is_some() && !self.forming
    }

    /// Whether the replicas that there are have all of it.
    pub fn is_readable(&self) -> bool {
        self.layout.lives(different(self.layout, self.holders.as_slice().iter())) > 0
    }

    fn is_present(&self) -> bool {
        self.counts() && self.is_readable()
    }
}

/// How many different replicas these are: all, of a block that is whole.
fn different<'a>(layout: Layout, held: impl Iterator<Item = &'a Held>) -> u8 {
    match layout {
        Layout::Whole(_) => held.count() as u8,
        Layout::Coded(_) => held.fold(0_u16, |pieces, held| pieces | 1 << held.piece).count_ones() as u8,
    }
}

/// An executor that holds replicas.
#[derive(Debug)]
pub(super) struct Member {
    pub id: ExecutorId,
    pub host: String,
    pub rack: String,
    /// It leaves for good: its replicas are read, and count no longer.
    pub draining: bool,
    /// It may be away until then, and nothing is made again meanwhile.
    pub maintenance: Option<Instant>,
    /// Bytes that its disks have left.
    pub free: u64,
    pub used: u64,
    /// The numbers of its replicas.
    pub replicas: BTreeSet<BlockId>,
    /// Copies on their way to it, and from it.
    pub incoming: u32,
    pub outgoing: u32,
    /// Blocks whose replicas it is making in another way.
    pub recoding: u32,
}

impl Member {
    /// Its disks have so many bytes more, from now on rather than from its next heartbeat on.
    fn keep(&mut self, replica: BlockId, bytes: u64) {
        if self.replicas.insert(replica) {
            self.used += bytes;
            self.free = if self.free == u64::MAX { u64::MAX } else { self.free.saturating_sub(bytes) };
        }
    }

    fn drop(&mut self, replica: BlockId, bytes: u64) {
        if self.replicas.remove(&replica) {
            self.used = self.used.saturating_sub(bytes);
            self.free = self.free.saturating_add(bytes);
        }
    }

    /// Returns the share of its disks that replicas use, per thousand.
    pub fn fullness(&self) -> u64 {
        let size = u128::from(self.used) + u128::from(self.free);
        // Before its first heartbeat nothing is known.
        if size == 0 || self.free == u64::MAX { 0 } else { (u128::from(self.used) * 1_000 / size) as u64 }
    }
}

/// What became of a replica that an executor says it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reported {
    Held,
    /// No block wants it.
    Unwanted,
    /// It is not as long as it is to be.
    WrongLength,
    /// Its block is still being written, so its length is not known.
    Early,
}

#[derive(Debug, Default)]
pub(super) struct Replicas {
    pub blocks: BTreeMap<BlockId, BlockState>,
    pub members: BTreeMap<Seat, Member>,
    seats: BTreeMap<ExecutorId, Seat>,
    /// By how many replicas are left.
    pub wanting: BTreeSet<(u8, BlockId)>,
    /// Wanting, and no executor could take one more at last look.
    pub stuck: BTreeSet<BlockId>,
    /// Blocks with more replicas than they want.
    pub surplus: BTreeSet<BlockId>,
    /// Sealed blocks with a replica anywhere.
    pub present: usize,
    pub sealed: usize,
    /// Replicas of blocks that are not sealed yet, with their lengths; `None`: it is damaged or gone, whatever its writer says later.
    early: BTreeMap<BlockId, Vec<(ExecutorId, Option<u64>)>>,
    /// Executors that were named to writers of blocks that are not sealed yet: they may have parts of them.
    targets: BTreeMap<BlockId, BTreeSet<ExecutorId>>,
}

impl Replicas {
    pub fn seat(&self, executor: ExecutorId) -> Option<Seat> {
        self.seats.get(&executor).copied()
    }

    pub fn member(&self, executor: ExecutorId) -> Option<&Member> {
        self.members.get(&self.seat(executor)?)
    }

    pub fn member_mut(&mut self, executor: ExecutorId) -> Option<&mut Member> {
        let seat = self.seat(executor)?;
        self.members.get_mut(&seat)
    }

    /// Takes it in, without replicas. False when there are too many members.
    pub fn join(&mut self, id: ExecutorId, host: String, rack: String) -> bool {
        let mut free = 0..=Seat::MAX;
        let Some(seat) = free.find(|seat| !self.members.contains_key(seat)) else { return false };
        let (free, used) = (u64::MAX, 0);
        let (draining, maintenance, replicas) = (false, None, BTreeSet::new());
        let (incoming, outgoing, recoding) = (0, 0, 0);
        let member =
            Member { id, host, rack, draining, maintenance, free, used, replicas, incoming, outgoing, recoding };
        self.members.insert(seat, member);
        self.seats.insert(id, seat);
        self.unstick();
        true
    }

    /// The block that a replica is of, and which of its pieces that is.
    pub fn block_of(&self, replica: BlockId) -> Option<(BlockId, u8)> {
        let (block, state) = self.blocks.range(..=replica).next_back()?;
        let piece = replica.0 - block.0;
        (piece < u64::from(state.layout.pieces())).then_some((*block, piece as u8))
    }

    /// Whether the replicas that there are of a block have all of it.
    pub fn is_readable(&self, block: BlockId) -> bool {
        self.blocks.get(&block).is_some_and(BlockState::is_readable)
    }

    /// Blocks that had a replica on it.
    pub fn leave(&mut self, executor: ExecutorId) -> BTreeSet<BlockId> {
        let Some(seat) = self.seats.remove(&executor) else { return BTreeSet::new() };
        let replicas = self.members.remove(&seat).map(|member| member.replicas).unwrap_or_default();
        let mut blocks = BTreeSet::new();
        for replica in replicas {
            let Some((block, piece)) = self.block_of(replica) else { continue };
            self.update(block, |state| _ = state.holders.remove(Held { seat, piece }));
            blocks.insert(block);
        }
        self.early.values_mut().for_each(|reports| reports.retain(|(id, _)| *id != executor));
        self.targets.values_mut().for_each(|targets| _ = targets.remove(&executor));
        blocks
    }

    pub fn drain(&mut self, executor: ExecutorId) {
        let Some(member) = self.member_mut(executor) else { return };
        if !std::mem::replace(&mut member.draining, true) {
            let replicas: Vec<BlockId> = member.replicas.iter().copied().collect();
            let blocks: Vec<_> = replicas.into_iter().filter_map(|replica| self.block_of(replica)).collect();
            blocks.into_iter().for_each(|(block, _)| self.classify(block));
        }
    }

    /// Blocks that might find a place now.
    pub fn unstick(&mut self) {
        let stuck = std::mem::take(&mut self.stuck);
        stuck.into_iter().for_each(|block| self.classify(block));
    }

    pub fn unstick_block(&mut self, block: BlockId) {
        if self.stuck.contains(&block) {
            self.classify(block);
        }
    }

    pub fn open(&mut self, block: BlockId, file: FileId, wanted: u8) {
        self.blocks.insert(block, BlockState::new(file, None, Layout::Whole(wanted)));
    }

    /// The block is written to these executors.
    pub fn targeted(&mut self, block: BlockId, targets: &[ExecutorId]) {
        self.targets.entry(block).or_default().extend(targets);
    }

    /// Adds a block of a file that was there before this primary led.
    pub fn load(&mut self, block: BlockId, file: FileId, bytes: Option<u64>, layout: Layout) {
        self.blocks.insert(block, BlockState::new(file, bytes, layout));
        self.sealed += usize::from(bytes.is_some());
        self.classify(block);
    }

    /// Its replicas are going to be made from another block's.
    pub fn form(&mut self, block: BlockId, file: FileId, bytes: u64, layout: Layout) {
        self.blocks.insert(block, BlockState { forming: true, ..BlockState::new(file, Some(bytes), layout) });
    }

    /// Whether it has so many lives. From then on it counts as a block of its file.
    pub fn formed(&mut self, block: BlockId, enough: u8) -> bool {
        let formed = self.blocks.get(&block).is_some_and(|state| state.forming && self.staying(state) >= enough);
        if formed {
            self.update(block, |state| state.forming = false);
            self.sealed += 1;
        }
        formed
    }

    /// The block is as long as that. Returns executors with replicas that are not what they are to be.
    pub fn seal(&mut self, block: BlockId, bytes: u64, durable: &[ExecutorId]) -> Vec<ExecutorId> {
        let Some(state) = self.blocks.get_mut(&block) else { return Vec::new() };
        if state.bytes.replace(bytes).is_none() {
            self.sealed += 1;
        }
        let early = self.early.remove(&block).unwrap_or_default();
        self.targets.remove(&block);
        self.classify(block);
        let is_bad = |executor: &&ExecutorId| early.contains(&(**executor, None));
        let claimed = durable.iter().filter(|executor| !is_bad(executor)).copied();
        let right = early.iter().filter(|(_, length)| *length == Some(bytes)).map(|(id, _)| *id);
        for executor in claimed.chain(right) {
            self.report(executor, block, bytes);
        }
        // A report may be older than what the writer says: one of whom it says that all is durable was longer then.
        let wrong =
            early.iter().filter(|(id, length)| *length != Some(bytes) && (length.is_none() || !durable.contains(id)));
        wrong.map(|(id, _)| *id).collect()
    }

    /// Nobody wants the block any more. Returns who holds which replicas.
    pub fn forget(&mut self, block: BlockId) -> Vec<(ExecutorId, BlockId)> {
        let early = self.early.remove(&block).unwrap_or_default().into_iter().map(|(id, _)| id);
        let targets = self.targets.remove(&block).unwrap_or_default();
        let mut replicas: Vec<(ExecutorId, BlockId)> = early.chain(targets).map(|id| (id, block)).collect();
        replicas.extend(self.all_holders(block).into_iter().map(|(id, piece)| (id, replica(block, piece))));
        self.unlist(block);
        let Some(state) = self.blocks.remove(&block) else { return replicas };
        self.sealed -= usize::from(state.counts());
        self.present -= usize::from(state.is_present());
        let bytes = state.replica_bytes().unwrap_or(0);
        for held in state.holders.as_slice() {
            if let Some(member) = self.members.get_mut(&held.seat) {
                member.drop(replica(block, held.piece), bytes);
            }
        }
        replicas.sort_unstable();
        replicas.dedup();
        replicas
    }

    /// The block is that of another file from here on.
    pub fn adopt(&mut self, block: BlockId, file: FileId) {
        if let Some(state) = self.blocks.get_mut(&block) {
            state.file = file;
        }
    }

    /// How many replicas there are to be of a block that is whole.
    pub fn want(&mut self, block: BlockId, wanted: u8) {
        self.update(block, |state| {
            if let Layout::Whole(replicas) = &mut state.layout {
                *replicas = wanted;
            }
        });
    }

    /// An executor has a replica of this length.
    pub fn report(&mut self, executor: ExecutorId, replica: BlockId, bytes: u64) -> Reported {
        let (Some(seat), Some((block, piece))) = (self.seat(executor), self.block_of(replica)) else {
            return Reported::Unwanted;
        };
        let Some(state) = self.blocks.get(&block) else { return Reported::Unwanted };
        match state.replica_bytes() {
            None => {
                let reports = self.early.entry(block).or_default();
                reports.retain(|(id, _)| *id != executor);
                reports.push((executor, Some(bytes)));
                Reported::Early
            }
            Some(length) if length != bytes => Reported::WrongLength,
            Some(_) => {
                let mut fits = false;
                self.update(block, |state| fits = state.holders.insert(Held { seat, piece }));
                if !fits {
                    return Reported::Unwanted;
                }
                if let Some(member) = self.members.get_mut(&seat) {
                    member.keep(replica, bytes);
                }
                Reported::Held
            }
        }
    }

    /// The executor's replica is no more, or not to be read.
    pub fn drop_replica(&mut self, executor: ExecutorId, replica: BlockId) {
        let (Some(seat), Some((block, piece))) = (self.seat(executor), self.block_of(replica)) else { return };
        let mut bytes = 0;
        self.update(block, |state| {
            bytes = state.replica_bytes().unwrap_or(0);
            state.holders.remove(Held { seat, piece });
        });
        if let Some(member) = self.members.get_mut(&seat) {
            member.drop(replica, bytes);
        }
    }

    /// The same of a block that is not sealed yet.
    pub fn drop_early(&mut self, executor: ExecutorId, block: BlockId) {
        if self.blocks.get(&block).is_some_and(|state| state.bytes.is_none()) {
            let reports = self.early.entry(block).or_default();
            reports.retain(|(id, _)| *id != executor);
            reports.push((executor, None));
        }
    }

    /// Members that have this replica, in no order that means anything.
    pub fn holders(&self, replica: BlockId) -> Vec<ExecutorId> {
        let Some((block, piece)) = self.block_of(replica) else { return Vec::new() };
        let all = self.all_holders(block).into_iter();
        all.filter(|(_, held)| *held == piece).map(|(id, _)| id).collect()
    }

    /// Members that have any replica of a block, and which piece.
    pub fn all_holders(&self, block: BlockId) -> Vec<(ExecutorId, u8)> {
        let held = self.blocks.get(&block).map(|state| state.holders.as_slice()).unwrap_or_default();
        held.iter().filter_map(|held| Some((self.members.get(&held.seat)?.id, held.piece))).collect()
    }

    fn stays(&self, held: &Held) -> bool {
        self.members.get(&held.seat).is_some_and(|member| !member.draining)
    }

    /// Lives of a block, as its layout counts them, on executors that stay.
    pub fn staying(&self, state: &BlockState) -> u8 {
        let stay = state.holders.as_slice().iter().filter(|held| self.stays(held));
        state.layout.lives(different(state.layout, stay))
    }

    /// Lives of a block, if it had just these replicas of those on executors that stay.
    pub fn lives(&self, state: &BlockState, replicas: &[(ExecutorId, u8)]) -> u8 {
        let is_one = |held: &&Held| {
            self.members.get(&held.seat).is_some_and(|member| replicas.contains(&(member.id, held.piece)))
        };
        let stay = state.holders.as_slice().iter().filter(|held| self.stays(held));
        state.layout.lives(different(state.layout, stay.filter(is_one)))
    }

    /// Executors that stay, of whose replicas one is too many. Replicas on executors that leave go with them: they are neither enough nor
    /// too many.
    pub fn too_many(&self, block: BlockId) -> Vec<ExecutorId> {
        let Some(state) = self.blocks.get(&block).filter(|state| state.counts()) else { return Vec::new() };
        let stay = || state.holders.as_slice().iter().filter(|held| self.stays(held));
        let twice = |held: &&Held| match state.layout {
            Layout::Whole(wanted) => stay().count() > usize::from(wanted),
            Layout::Coded(_) => stay().filter(|other| other.piece == held.piece).count() > 1,
        };
        let piece = stay().find(twice).map(|held| held.piece);
        let of_piece = stay().filter(|held| Some(held.piece) == piece);
        of_piece.filter_map(|held| Some(self.members.get(&held.seat)?.id)).collect()
    }

    fn update(&mut self, block: BlockId, change: impl FnOnce(&mut BlockState)) {
        let Some(state) = self.blocks.get_mut(&block) else { return };
        let was_present = state.is_present();
        change(state);
        let is_present = state.is_present();
        self.present = self.present + usize::from(is_present) - usize::from(was_present);
        self.classify(block);
    }

    /// Lists the block where its replicas say that it belongs.
    fn classify(&mut self, block: BlockId) {
        self.unlist(block);
        let Some(state) = self.blocks.get(&block).filter(|state| state.counts()) else { return };
        let (staying, wanted) = (self.staying(state), state.layout.wanted());
        // A piece that is there twice may take the place that another one wants: it goes first.
        let listed = match () {
            () if !self.too_many(block).is_empty() => Listed::Surplus,
            () if staying < wanted => Listed::Wanting(staying),
            () => Listed::Nowhere,
        };
        self.list(block, listed);
    }

    fn list(&mut self, block: BlockId, listed: Listed) {
        match listed {
            Listed::Nowhere => {}
            Listed::Wanting(left) => _ = self.wanting.insert((left, block)),
            Listed::Stuck => _ = self.stuck.insert(block),
            Listed::Surplus => _ = self.surplus.insert(block),
        }
        if let Some(state) = self.blocks.get_mut(&block) {
            state.listed = listed;
        }
    }

    fn unlist(&mut self, block: BlockId) {
        let Some(state) = self.blocks.get_mut(&block) else { return };
        match std::mem::replace(&mut state.listed, Listed::Nowhere) {
            Listed::Nowhere => {}
            Listed::Wanting(left) => _ = self.wanting.remove(&(left, block)),
            Listed::Stuck => _ = self.stuck.remove(&block),
            Listed::Surplus => _ = self.surplus.remove(&block),
        }
    }

    /// No executor can take a replica of it at present, if it wants one.
    pub fn stick(&mut self, block: BlockId) {
        if !self.blocks.get(&block).is_some_and(|state| matches!(state.listed, Listed::Wanting(_) | Listed::Stuck)) {
            return;
        }
        self.unlist(block);
        self.list(block, Listed::Stuck);
    }
}

/// The number of one replica of a block.
pub(super) fn replica(block: BlockId, piece: u8) -> BlockId {
    BlockId(block.0 + u64::from(piece))
}
