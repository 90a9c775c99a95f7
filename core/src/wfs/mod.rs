//! `wfs://`: the namespace of files, their blocks, and who holds replicas. A pure machine, as the scheduler is.
//!
//! ```text
//! file      Writing ──complete──> in the tree ──removed, replaced──> (gone, its blocks with it)
//!              └──abandoned, lease over──> (gone)
//!
//! block     open ──sealed with its length──> sealed; the next one is opened
//!              └──nothing of it was kept──> (gone)
//! ```
//!
//! Invariants:
//! - A file is seen when all of it is durable, whole and at once; until then what was at its path stays.
//! - What an operation changed is in its `Output`, to be durable before anybody hears of it. Orders to executors go out after that.
//! - An id of a file or block is never given twice: executors' replicas of a block that nobody knows are garbage for certain.
//! - A block that fails under its writer is closed where all surviving replicas have it, and the writer goes on in the next one.
//!
//! The modules: `request` is what clients and executors say, `tree` has files and folders, `look` finds them, `write` makes files, `names` moves and removes, `replicas` has blocks and their
//! holders, `place` says where replicas go, `repair` keeps their number right, `damage` is about replicas that are not what was written,
//! `vouch` about replicas that are read before others are removed,
//! `departed` about files that are gone and still read, `outcome` about requests that are sent twice, `coding` about blocks that are cut
//! into pieces, `recode` makes them so, `record` is what is durable.

mod coding;
mod damage;
mod departed;
mod error;
mod look;
mod names;
mod outcome;
mod path;
mod place;
mod recode;
mod record;
mod repair;
mod replicas;
mod request;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod tree;
mod vouch;
mod write;

pub use coding::{CODED_FROM_BYTES, CODED_TOGETHER, Coding, Policy};
pub use error::FsError;
pub use outcome::{Answer, Outcome};
pub use path::FsPath;
pub use place::Near;
pub use record::{Block, Changes, Counters, CreateMode, FileData, FolderTerms, Kind, Quota, Record, Writing};
pub use repair::{Health, MemberStatus};
pub use request::{Ask, Maintain, PAGE, Reply, Report, Request, Said, Troubled};
pub use tree::Usage;

use crate::dice::Dice;
use crate::ids::{BlockId, ExecutorId, FileId};
use crate::time::Instant;
use coding::Layout;
use departed::Departed;
use outcome::Outcomes;
use recode::Recoder;
use repair::Upkeep;
use replicas::Replicas;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tree::{Node, Tree};

/// Replicas of a file are at most so many.
pub const MAX_REPLICATION: u8 = 5;
/// Where files go that are removed and may be wanted back.
pub const TRASH: &str = "/.trash";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WfsConfig {
    /// Of files whose writers and folders ask for nothing else.
    pub replication: u8,
    pub block_bytes: u64,
    /// Replicas of every block that are durable before a file is complete, if the cluster has as many executors and the file wants as many.
    pub min_replicas: u8,
    /// A writer that is silent for so long has given up.
    pub lease: Duration,
    /// How long an executor may be away before its replicas are made again elsewhere; blocks with one replica left do not wait.
    pub repair_after: Duration,
    /// Copies at a time to an executor, and from one.
    pub copies: u32,
    /// A copy that takes longer is begun again elsewhere.
    pub copy_timeout: Duration,
    /// After a start, upkeep waits for executors to come back: until nearly all blocks have a replica, and so much longer.
    pub settle: Duration,
    /// Longer than this it does not wait.
    pub settle_limit: Duration,
    /// How long the replicas of a removed file stay for those who are reading it.
    pub grace: Duration,
    /// How long what is moved to the trash can be had back.
    pub trash: Duration,
    /// A file that is so old is cold: where its folder asks for that, its blocks are cut into pieces.
    pub code_after: Duration,
    /// Of the choices among equal places.
    pub seed: u64,
}

impl Default for WfsConfig {
    fn default() -> Self {
        WfsConfig {
            replication: 3,
            block_bytes: 128 << 20,
            min_replicas: 2,
            lease: Duration::from_secs(300),
            repair_after: Duration::from_secs(30),
            copies: 2,
            copy_timeout: Duration::from_secs(300),
            settle: Duration::from_secs(10),
            settle_limit: Duration::from_secs(120),
            grace: Duration::from_secs(30),
            trash: Duration::from_secs(24 * 3_600),
            code_after: Duration::from_secs(3_600),
            seed: 0,
        }
    }
}

/// The time of an operation, on two clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    pub at: Instant,
    /// Milliseconds since 1970-01-01T00:00:00Z, for people.
    pub wall_ms: u64,
}

/// What an operation asks the shell to do: make the changes durable, then send the orders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub changes: Changes,
    pub orders: Vec<(ExecutorId, Order)>,
}

/// An order to an executor about its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nobody wants the replica.
    Delete(BlockId),
    /// The replica is not what it is to be. If its first bytes, as many as these, verify, it is made so long and is one again; else it is
    /// removed, unless it is the last.
    Salvage { block: Block, last: bool },
    /// Fetch a replica from one of these executors.
    Copy { block: Block, from: Vec<ExecutorId> },
    /// Compute a piece of a block from others, and keep it.
    Rebuild(CodedPiece),
    /// Write what a block has as another one, on these executors: for a code the pieces in their order.
    Recode { old: Vec<Located>, new: Block, coding: Option<Coding>, targets: Vec<ExecutorId> },
    /// Read all of the replica, and say if it is not what was written.
    Verify(BlockId),
}

/// A file or folder as users see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: FsPath,
    pub id: FileId,
    pub modified_ms: u64,
    pub detail: Detail,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    File { bytes: u64, replicated_bytes: u64, blocks: usize, replication: u8, coding: Option<Coding> },
    Folder { usage: Usage, quota: Quota, replication: Option<u8>, policy: Option<Policy> },
}

/// Where a block of a file lies, or a piece of it where it is cut up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Of a piece just what is in the file: its replicas may have zeros behind that.
    pub block: Block,
    /// Of its first byte in the file.
    pub offset: u64,
    /// Nearest first.
    pub holders: Vec<ExecutorId>,
    pub coded: Option<CodedPiece>,
}

/// A piece, and those that it can be computed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodedPiece {
    pub coding: Coding,
    pub piece: u8,
    /// The number of the first piece.
    pub first: BlockId,
    /// Of each piece.
    pub piece_bytes: u64,
    /// Who holds any piece of the block.
    pub holders: Vec<Holder>,
}

/// An executor with a piece of a block; 0 where the block is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    pub executor: ExecutorId,
    pub piece: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    pub path: FsPath,
    pub mode: CreateMode,
    pub replication: Option<u8>,
    pub block_bytes: Option<u64>,
    /// A number that no other writer has: a request that is sent twice is known by it.
    pub writer: u128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    pub file: FileId,
    pub block_bytes: u64,
    pub replication: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddBlock {
    pub file: FileId,
    /// How many blocks the file has so far, the last one included: a request that is sent twice is known by it.
    pub index: usize,
    pub last: Last,
    pub near: Near,
    /// Executors that failed.
    pub excluded: BTreeSet<ExecutorId>,
}

/// What a writer says of its last block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Last {
    /// There was none.
    Nothing,
    Sealed {
        block: Block,
        /// Executors that have said that their replica is durable.
        durable: Vec<ExecutorId>,
    },
    /// Nothing of it was kept.
    Dropped(BlockId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocated {
    pub block: BlockId,
    /// In the order in which the data goes through them.
    pub targets: Vec<ExecutorId>,
}

#[derive(Debug)]
pub struct Namespace {
    config: WfsConfig,
    tree: Tree,
    writing: BTreeMap<FileId, Lease>,
    /// Which file each writer writes.
    writers: BTreeMap<u128, FileId>,
    /// When leases end.
    expiries: BTreeSet<(Instant, FileId)>,
    counters: Counters,
    replicas: Replicas,
    upkeep: Upkeep,
    recoder: Recoder,
    /// Folders that were removed and are not empty yet.
    graves: Vec<FileId>,
    /// Removed files, and replicas of theirs, until they go. Those that a restart forgets go when their executors report them.
    departed: Departed,
    trash_due: Option<Instant>,
    outcomes: Outcomes,
    dice: Dice,
}

#[derive(Debug)]
struct Lease {
    writing: Box<Writing>,
    until: Instant,
}

impl Namespace {
    /// A namespace of what is stored. `records`: one for each id. Files whose folder is missing are left out, and returned: there are none
    /// unless something else wrote to the store.
    pub fn load(config: WfsConfig, now: Now, counters: Counters, records: Vec<Record>) -> (Namespace, Vec<FileId>) {
        let mut replicas = Replicas::default();
        let mut writing = BTreeMap::new();
        let until = now.at + config.lease;
        for record in &records {
            if let Kind::Writing(file) = &record.kind {
                let blocks = file.sealed.iter().map(|block| (block.id, Some(block.bytes)));
                for (block, bytes) in blocks.chain(file.open.map(|block| (block, None))) {
                    replicas.load(block, record.id, bytes, Layout::Whole(file.replication));
                }
                writing.insert(record.id, Lease { writing: file.clone(), until });
            }
        }
        let writers = writing.iter().map(|(id, lease)| (lease.writing.writer, *id)).collect();
        let expiries = writing.keys().map(|id| (until, *id)).collect();
        let (tree, lost) = Tree::load(records.into_iter());
        for (id, inode) in tree.iter() {
            let Some(file) = inode.file() else { continue };
            let layout = Layout::new(file.coding, file.replication);
            file.blocks.iter().for_each(|block| replicas.load(block.id, id, Some(block.bytes), layout));
        }
        let upkeep = Upkeep::new(now.at, &config, &replicas);
        let dice = Dice(config.seed);
        let graves = tree.iter().filter(|(_, inode)| inode.parent == FileId::GRAVE).map(|(id, _)| id).collect();
        let (departed, trash_due) = (Departed::default(), Some(now.at));
        let mut namespace = Namespace {
            config,
            tree,
            writing,
            writers,
            expiries,
            counters,
            replicas,
            upkeep,
            recoder: Recoder::default(),
            graves,
            departed,
            trash_due,
            outcomes: Outcomes::default(),
            dice,
        };
        namespace.reconsider_all(now);
        (namespace, lost)
    }

    /// Nothing but the root.
    pub fn new(config: WfsConfig) -> Namespace {
        Namespace::load(config, Now::default(), Counters::default(), Vec::new()).0
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub fn config(&self) -> &WfsConfig {
        &self.config
    }

    /// Files and folders, those that are being written included.
    pub fn len(&self) -> usize {
        self.tree.len() + self.writing.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 1
    }

    /// How a file or folder is stored, if it is there.
    pub fn record(&self, id: FileId) -> Option<Record> {
        self.tree.record(id).or_else(|| {
            let Lease { writing, .. } = self.writing.get(&id)?;
            let kind = Kind::Writing(writing.clone());
            Some(Record { id, parent: FileId::ROOT, name: "".into(), modified_ms: 0, kind })
        })
    }

    // ---- what is set

    /// How many replicas a file is to have, or those that are written in a folder from here on.
    pub fn set_replication(
        &mut self,
        now: Now,
        path: &FsPath,
        replication: u8,
        out: &mut Output,
    ) -> Result<Entry, FsError> {
        check_replication(replication)?;
        let (id, inode) = self.tree.resolve(path)?;
        if let Some(file) = inode.file() {
            let copies = if file.coding.is_some() { 0 } else { replication.saturating_sub(file.replication) };
            let more = u64::from(copies) * file.bytes();
            self.tree.check_quota(inode.parent, Usage { replicated_bytes: more, ..Usage::default() }, None)?;
            file.blocks.iter().for_each(|block| self.replicas.want(block.id, replication));
        }
        self.tree.change(id, |inode| match &mut inode.node {
            Node::File(file) => file.replication = replication,
            Node::Folder(folder) => folder.terms.replication = Some(replication),
        });
        self.put(id, out);
        self.repair(now, out);
        Ok(self.entry(path.clone(), id))
    }

    /// What a folder may hold from here on. It may hold more already: then nothing can be added.
    pub fn set_quota(&mut self, path: &FsPath, quota: Quota, out: &mut Output) -> Result<Entry, FsError> {
        let (id, _) = self.tree.resolve_folder(path)?;
        self.tree.change(id, |inode| {
            if let Node::Folder(folder) = &mut inode.node {
                folder.terms.quota = quota;
            }
        });
        self.put(id, out);
        Ok(self.entry(path.clone(), id))
    }

    // ---- time

    pub fn next_deadline(&self) -> Option<Instant> {
        let expiry = self.expiries.first().map(|(at, _)| *at);
        let decay = (!self.graves.is_empty()).then(Instant::default);
        let leaving = self.departed.next_deadline();
        let recoding = if self.upkeep.is_settling() { None } else { self.recoder.next_deadline() };
        let maintenance = self.replicas.members.values().filter_map(|member| member.maintenance).min();
        let upkeep = self.upkeep.next_deadline(&self.replicas);
        let outcomes = self.outcomes.next_deadline();
        let due = [expiry, decay, leaving, self.trash_due, recoding, maintenance, upkeep, outcomes];
        due.into_iter().flatten().min()
    }

    /// The deadline has come.
    pub fn tick(&mut self, now: Now, out: &mut Output) {
        while let Some((_, file)) = self.expiries.first().copied().filter(|(at, _)| *at <= now.at) {
            self.drop_writing(file, out);
        }
        if self.trash_due.is_some_and(|at| at <= now.at) {
            self.expire_trash(now, out);
        }
        self.decay(now, out);
        self.end_maintenance(now);
        self.outcomes.expire(now.at);
        self.departed.go(now.at, out);
        self.repair(now, out);
    }

    fn next_file(&mut self) -> FileId {
        let id = FileId(self.counters.next_file);
        self.counters.next_file += 1;
        id
    }

    fn put(&mut self, id: FileId, out: &mut Output) {
        let record = self.record(id);
        out.changes.put.retain(|earlier| earlier.id != id);
        out.changes.put.extend(record);
    }
}

fn check_replication(replication: u8) -> Result<(), FsError> {
    if (1..=MAX_REPLICATION).contains(&replication) {
        return Ok(());
    }
    let reason = format!("a file has from 1 to {MAX_REPLICATION} replicas, not {replication}");
    Err(FsError::Invalid { reason })
}
