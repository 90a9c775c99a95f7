//! Which executor holds a replica of which block.
//!
//! ```text
//! replica   (being written) ──durable──> Held ──executor lost, found bad, surplus──> (gone)
//!
//! block     Open ──sealed──> Enough | Wanting | Missing, by how many members hold it ──file removed──> (gone)
//! ```
//!
//! Invariants:
//! - A block has at most one replica on an executor.
//! - `wanting` has just the sealed blocks with fewer replicas, on executors that stay, than they want, unless `stuck` has them.

use crate::ids::{BlockId, ExecutorId, FileId};
use std::collections::{BTreeMap, BTreeSet};

/// Replicas of one block that are kept track of. A surplus beyond is removed at once.
const MOST: usize = 8;

/// The members of the cluster that hold replicas, by a small number of their own: a million blocks name them three million times.
pub(super) type Seat = u16;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Holders {
    seats: [Seat; MOST],
    count: u8,
}

impl Holders {
    pub fn as_slice(&self) -> &[Seat] {
        &self.seats[..usize::from(self.count)]
    }

    pub fn contains(&self, seat: Seat) -> bool {
        self.as_slice().contains(&seat)
    }

    /// False when there is no room.
    fn insert(&mut self, seat: Seat) -> bool {
        if self.contains(seat) {
            return true;
        }
        if usize::from(self.count) == MOST {
            return false;
        }
        self.seats[usize::from(self.count)] = seat;
        self.count += 1;
        true
    }

    fn remove(&mut self, seat: Seat) -> bool {
        let Some(at) = self.as_slice().iter().position(|held| *held == seat) else { return false };
        self.count -= 1;
        self.seats.swap(at, usize::from(self.count));
        true
    }
}

#[derive(Debug)]
pub(super) struct BlockState {
    pub file: FileId,
    /// `None` while it is written.
    pub bytes: Option<u64>,
    pub wanted: u8,
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
    fn new(file: FileId, bytes: Option<u64>, wanted: u8) -> Self {
        BlockState { file, bytes, wanted, holders: Holders::default(), listed: Listed::Nowhere }
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
    /// Bytes that its disks have left.
    pub free: u64,
    pub used: u64,
    pub blocks: BTreeSet<BlockId>,
    /// Copies on their way to it, and from it.
    pub incoming: u32,
    pub outgoing: u32,
}

impl Member {
    /// Of a thousand parts of its disks so many are used by replicas.
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
    /// Its block was closed with another length.
    WrongLength,
    /// Of a block that is still written: how long it is to be is not known.
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
        let member =
            Member { id, host, rack, draining: false, free, used, blocks: BTreeSet::new(), incoming: 0, outgoing: 0 };
        self.members.insert(seat, member);
        self.seats.insert(id, seat);
        self.unstick();
        true
    }

    /// Blocks that had a replica on it.
    pub fn leave(&mut self, executor: ExecutorId) -> BTreeSet<BlockId> {
        let Some(seat) = self.seats.remove(&executor) else { return BTreeSet::new() };
        let blocks = self.members.remove(&seat).map(|member| member.blocks).unwrap_or_default();
        for block in &blocks {
            self.update(*block, |state| _ = state.holders.remove(seat));
        }
        self.early.values_mut().for_each(|reports| reports.retain(|(id, _)| *id != executor));
        blocks
    }

    pub fn drain(&mut self, executor: ExecutorId) {
        let Some(member) = self.member_mut(executor) else { return };
        if !std::mem::replace(&mut member.draining, true) {
            let blocks: Vec<BlockId> = member.blocks.iter().copied().collect();
            blocks.into_iter().for_each(|block| self.classify(block));
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
        self.blocks.insert(block, BlockState::new(file, None, wanted));
    }

    /// Of a file that was there before this primary led.
    pub fn load(&mut self, block: BlockId, file: FileId, bytes: Option<u64>, wanted: u8) {
        self.blocks.insert(block, BlockState::new(file, bytes, wanted));
        self.sealed += usize::from(bytes.is_some());
        self.classify(block);
    }

    /// The block is as long as that. Returns executors with replicas of other lengths, and those.
    pub fn seal(&mut self, block: BlockId, bytes: u64, durable: &[ExecutorId]) -> Vec<(ExecutorId, u64)> {
        let Some(state) = self.blocks.get_mut(&block) else { return Vec::new() };
        if state.bytes.replace(bytes).is_none() {
            self.sealed += 1;
        }
        let early = self.early.remove(&block).unwrap_or_default();
        self.classify(block);
        let is_bad = |executor: &&ExecutorId| early.contains(&(**executor, None));
        let claimed = durable.iter().filter(|executor| !is_bad(executor)).copied();
        let right = early.iter().filter(|(_, length)| *length == Some(bytes)).map(|(id, _)| *id);
        for executor in claimed.chain(right) {
            self.report(executor, block, bytes);
        }
        // A report may be older than what the writer says: one of whom it says that all is durable was longer then.
        let wrong = early.iter().filter_map(|(id, length)| Some((*id, length.filter(|length| *length != bytes)?)));
        wrong.filter(|(id, _)| !durable.contains(id)).collect()
    }

    /// Nobody wants the block any more. Returns who holds replicas.
    pub fn forget(&mut self, block: BlockId) -> Vec<ExecutorId> {
        let early = self.early.remove(&block).unwrap_or_default().into_iter().map(|(id, _)| id);
        let mut holders: Vec<ExecutorId> = early.collect();
        holders.extend(self.holders(block));
        self.unlist(block);
        let Some(state) = self.blocks.remove(&block) else { return holders };
        self.sealed -= usize::from(state.bytes.is_some());
        self.present -= usize::from(state.bytes.is_some() && state.holders.count > 0);
        for seat in state.holders.as_slice() {
            if let Some(member) = self.members.get_mut(seat) {
                member.blocks.remove(&block);
            }
        }
        holders.sort_unstable();
        holders.dedup();
        holders
    }

    pub fn want(&mut self, block: BlockId, wanted: u8) {
        self.update(block, |state| state.wanted = wanted);
    }

    /// An executor has a replica of this length.
    pub fn report(&mut self, executor: ExecutorId, block: BlockId, bytes: u64) -> Reported {
        let (Some(seat), Some(state)) = (self.seat(executor), self.blocks.get(&block)) else {
            return Reported::Unwanted;
        };
        match state.bytes {
            None => {
                let reports = self.early.entry(block).or_default();
                reports.retain(|(id, _)| *id != executor);
                reports.push((executor, Some(bytes)));
                Reported::Early
            }
            Some(length) if length != bytes => Reported::WrongLength,
            Some(_) => {
                let mut fits = false;
                self.update(block, |state| fits = state.holders.insert(seat));
                if !fits {
                    return Reported::Unwanted;
                }
                if let Some(member) = self.members.get_mut(&seat) {
                    member.blocks.insert(block);
                }
                Reported::Held
            }
        }
    }

    /// The executor's replica is no more, or not to be read.
    pub fn drop_replica(&mut self, executor: ExecutorId, block: BlockId) {
        let Some(seat) = self.seat(executor) else { return };
        self.update(block, |state| _ = state.holders.remove(seat));
        if let Some(member) = self.members.get_mut(&seat) {
            member.blocks.remove(&block);
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

    /// Members that hold the block, in no order that means anything.
    pub fn holders(&self, block: BlockId) -> Vec<ExecutorId> {
        let seats = self.blocks.get(&block).map(|state| state.holders.as_slice()).unwrap_or_default();
        seats.iter().filter_map(|seat| Some(self.members.get(seat)?.id)).collect()
    }

    /// Replicas on executors that stay.
    pub fn staying(&self, state: &BlockState) -> u8 {
        let stays = |seat: &&Seat| self.members.get(*seat).is_some_and(|member| !member.draining);
        state.holders.as_slice().iter().filter(stays).count() as u8
    }

    fn update(&mut self, block: BlockId, change: impl FnOnce(&mut BlockState)) {
        let Some(state) = self.blocks.get_mut(&block) else { return };
        let was_present = state.bytes.is_some() && state.holders.count > 0;
        change(state);
        let is_present = state.bytes.is_some() && state.holders.count > 0;
        self.present = self.present + usize::from(is_present) - usize::from(was_present);
        self.classify(block);
    }

    /// Lists the block where its replicas say that it belongs.
    fn classify(&mut self, block: BlockId) {
        self.unlist(block);
        let Some(state) = self.blocks.get(&block).filter(|state| state.bytes.is_some()) else { return };
        // Replicas on executors that leave go with them: they are neither enough nor too many.
        let staying = self.staying(state);
        if staying < state.wanted {
            self.list(block, Listed::Wanting(staying));
        } else if staying > state.wanted {
            self.list(block, Listed::Surplus);
        }
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
