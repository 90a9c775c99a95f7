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
//! The modules: `tree` has files and folders, `replicas` blocks and their holders, `place` says where replicas go, `repair` keeps their
//! number right, `damage` is about replicas that are not what was written, `outcome` about requests that are sent twice, `coding` is about blocks that are cut into pieces, `recode` makes them so, `record` is what is durable.

mod coding;
mod damage;
mod departed;
mod error;
mod outcome;
mod path;
mod place;
mod recode;
mod record;
mod repair;
mod replicas;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod tree;

pub use coding::{CODED_FROM_BYTES, CODED_TOGETHER, Coding, Policy};
pub use error::FsError;
pub use outcome::{Answer, Outcome};
pub use path::FsPath;
pub use place::Near;
pub use record::{Block, Changes, Counters, CreateMode, FileData, FolderTerms, Kind, Quota, Record, Writing};
pub use repair::{Health, MemberStatus};
pub use tree::Usage;

use crate::ids::{BlockId, ExecutorId, FileId};
use crate::time::Instant;
use coding::Layout;
use departed::Departed;
use outcome::Outcomes;
use place::Dice;
use recode::Recoder;
use repair::Upkeep;
use replicas::Replicas;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tree::{Inode, Node, Tree};

/// Replicas of a file are at most so many.
pub const MAX_REPLICATION: u8 = 5;
/// Where files go that are removed and may be wanted back.
pub const TRASH: &str = "/.trash";
/// Blocks of a file are at most so many: 4 TiB with blocks of 128 MiB. A file's record has them all.
const MAX_BLOCKS: usize = 32_768;

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

    // ---- looking

    pub fn stat(&self, path: &FsPath) -> Result<Entry, FsError> {
        let (id, _) = self.tree.resolve(path)?;
        Ok(self.entry(path.clone(), id))
    }

    /// What is in a folder, in pages of at most `limit`: with `recursive` at any depth. The next page begins behind the last entry of this one.
    pub fn list(
        &self,
        path: &FsPath,
        recursive: bool,
        after: Option<&FsPath>,
        limit: usize,
    ) -> Result<Vec<Entry>, FsError> {
        let (id, _) = self.tree.resolve_folder(path)?;
        let found = self.tree.list(id, path, after, recursive, limit);
        Ok(found.into_iter().map(|(path, id)| self.entry(path, id)).collect())
    }

    /// A file's blocks that have bytes of `range`, and who holds them.
    pub fn locate(
        &self,
        path: &FsPath,
        range: std::ops::Range<u64>,
        near: &Near,
    ) -> Result<(Entry, Vec<Located>), FsError> {
        let (id, _, file) = self.tree.resolve_file(path)?;
        let located = self.located(file, range, near, |_, block| self.holders_of(block.id));
        Ok((self.entry(path.clone(), id), located))
    }

    /// The same of the file of this id, wherever it was moved to since it was at `path`. One that was replaced or removed is found for as
    /// long as its replicas stay.
    pub fn locate_version(
        &self,
        path: &FsPath,
        id: FileId,
        range: std::ops::Range<u64>,
        near: &Near,
    ) -> Result<(Entry, Vec<Located>), FsError> {
        if let Some(file) = self.tree.get(id).and_then(Inode::file) {
            let located = self.located(file, range, near, |_, block| self.holders_of(block.id));
            return Ok((self.entry(path.clone(), id), located));
        }
        if let Some((modified_ms, file, holders)) = self.departed.file(id) {
            let of = |at: usize, _| holders.get(at).cloned().unwrap_or_default();
            let located = self.located(file, range, near, of);
            return Ok((Entry { path: path.clone(), id, modified_ms, detail: file_detail(file) }, located));
        }
        match self.tree.find(path)? {
            Some(_) => Err(FsError::Changed { path: path.clone() }),
            None => Err(FsError::NotFound { path: path.clone() }),
        }
    }

    /// `holders`: of the block at that place in the file.
    fn located(
        &self,
        file: &FileData,
        range: std::ops::Range<u64>,
        near: &Near,
        holders: impl Fn(usize, Block) -> Vec<Holder>,
    ) -> Vec<Located> {
        let mut offset = 0;
        let mut located = Vec::new();
        for (at, block) in file.blocks.iter().enumerate() {
            let end = offset + block.bytes;
            if offset < range.end && end > range.start {
                let parts = self.extents(*block, file.coding, offset, near, holders(at, *block)).into_iter();
                located.extend(
                    parts.filter(|part| part.offset < range.end && part.offset + part.block.bytes > range.start),
                );
            }
            offset = end;
        }
        located
    }

    fn holders_of(&self, block: BlockId) -> Vec<Holder> {
        let holders = self.replicas.all_holders(block);
        let mut holders: Vec<Holder> =
            holders.into_iter().map(|(executor, piece)| Holder { executor, piece }).collect();
        holders.sort_by_key(|holder| (holder.piece, holder.executor));
        holders
    }

    /// A block, or the pieces that have its bytes.
    fn extents(
        &self,
        block: Block,
        coding: Option<Coding>,
        offset: u64,
        near: &Near,
        holders: Vec<Holder>,
    ) -> Vec<Located> {
        let nearest = |piece: u8| self.nearest(replicas::replica(block.id, piece), piece, &holders, near);
        let Some(coding) = coding else {
            return vec![Located { block, offset, holders: nearest(0), coded: None }];
        };
        let (first, piece_bytes) = (block.id, coding.piece_bytes(block.bytes));
        let pieces = (0..coding.data()).map(|piece| {
            let extent = coding.extent(block.bytes, piece);
            let block = Block { id: replicas::replica(first, piece), bytes: extent.end - extent.start };
            let coded = Some(CodedPiece { coding, piece, first, piece_bytes, holders: holders.clone() });
            Located { block, offset: offset + extent.start, holders: nearest(piece), coded }
        });
        pieces.filter(|part| part.block.bytes > 0).collect()
    }

    fn nearest(&self, replica: BlockId, piece: u8, holders: &[Holder], near: &Near) -> Vec<ExecutorId> {
        let holders = holders.iter().filter(|holder| holder.piece == piece);
        let mut holders: Vec<ExecutorId> = holders.map(|holder| holder.executor).collect();
        let distance = |id: &ExecutorId| match self.replicas.member(*id) {
            _ if near.executor == Some(*id) => 0,
            Some(member) if !near.host.is_empty() && member.host == near.host => 1,
            Some(member) if !near.rack.is_empty() && member.rack == near.rack => 2,
            _ => 3,
        };
        // Equally near ones take turns, by block.
        holders.sort_by_key(|id| (distance(id), id.0.wrapping_mul(0x9e37_79b9).wrapping_add(replica.0) % 61, *id));
        holders
    }

    fn entry(&self, path: FsPath, id: FileId) -> Entry {
        let (modified_ms, detail) = match self.tree.get(id) {
            Some(Inode { modified_ms, node: Node::File(file), .. }) => (*modified_ms, file_detail(file)),
            Some(Inode { modified_ms, node: Node::Folder(folder), .. }) => {
                let FolderTerms { quota, replication, policy } = folder.terms;
                (*modified_ms, Detail::Folder { usage: folder.usage, quota, replication, policy })
            }
            // Only ids of the tree come here.
            None => {
                let (usage, quota) = Default::default();
                (0, Detail::Folder { usage, quota, replication: None, policy: None })
            }
        };
        Entry { path, id, modified_ms, detail }
    }

    // ---- writing

    /// Begins a file. It is seen when it is complete.
    pub fn create(&mut self, now: Now, create: Create, out: &mut Output) -> Result<Created, FsError> {
        let Create { path, mode, replication, block_bytes, writer } = create;
        if let Some(file) = self.writers.get(&writer).copied()
            && let Some(Lease { writing, .. }) = self.writing.get(&file)
        {
            // It was said before.
            let Writing { block_bytes, replication, .. } = **writing;
            return Ok(Created { file, block_bytes, replication });
        }
        if path.is_root() {
            return Err(FsError::IsFolder { path });
        }
        self.check_target(&path, mode)?;
        let base = self.base(&path, mode)?.map(|file| file.replication);
        let replication = replication.or(base).or_else(|| self.tree.replication_for(&path));
        let replication = replication.unwrap_or(self.config.replication);
        check_replication(replication)?;
        let block_bytes = block_bytes.unwrap_or(self.config.block_bytes);
        if !(1 << 16..=1 << 34).contains(&block_bytes) {
            let reason = format!("blocks of {block_bytes} bytes cannot be: from 64 KiB to 16 GiB they can");
            return Err(FsError::Invalid { reason });
        }
        // A folder that is full is noticed before anything is written.
        let (around, missing) = self.nearest_folder(&path)?;
        self.tree.check_quota(around, Usage { files: 1, folders: missing, ..Usage::default() }, None)?;
        let file = self.next_file();
        let sealed = Vec::new();
        let writing = Writing { path, mode, writer, replication, block_bytes, sealed, open: None };
        self.writing.insert(file, Lease { writing: Box::new(writing), until: now.at });
        self.writers.insert(writer, file);
        self.renew_lease(now, file);
        self.put(file, out);
        Ok(Created { file, block_bytes, replication })
    }

    /// Whether a file may be made there.
    fn check_target(&self, path: &FsPath, mode: CreateMode) -> Result<(), FsError> {
        let there = self.tree.find(path)?;
        if there.and_then(|id| self.tree.get(id)).is_some_and(|inode| inode.folder().is_some()) {
            return Err(FsError::IsFolder { path: path.clone() });
        }
        match (mode, there) {
            (CreateMode::Overwrite, _) | (CreateMode::New, None) => Ok(()),
            (CreateMode::New, Some(_)) => Err(FsError::AlreadyExists { path: path.clone() }),
            (CreateMode::Replace(wanted) | CreateMode::Append(wanted), Some(id)) if wanted == id => Ok(()),
            (CreateMode::Replace(_) | CreateMode::Append(_), _) => Err(FsError::Changed { path: path.clone() }),
        }
    }

    /// The file that one of this mode goes on with.
    fn base(&self, path: &FsPath, mode: CreateMode) -> Result<Option<&FileData>, FsError> {
        let CreateMode::Append(id) = mode else { return Ok(None) };
        let changed = || FsError::Changed { path: path.clone() };
        let file = self.tree.get(id).and_then(Inode::file).ok_or_else(changed)?;
        match file.coding {
            None => Ok(Some(file)),
            Some(coding) => {
                let reason = format!(
                    "{path} is kept as {}, and nothing can be appended to it: write it again, or set the policy of its folder to replicate first",
                    coding.name()
                );
                Err(FsError::Invalid { reason })
            }
        }
    }

    /// The folder nearest to `path` that is there, and how many between are not.
    fn nearest_folder(&self, path: &FsPath) -> Result<(FileId, u64), FsError> {
        let mut missing = 0;
        let mut at = path.parent();
        while let Some(folder) = at {
            match self.tree.find(&folder)? {
                Some(id) if self.tree.get(id).is_some_and(|inode| inode.folder().is_some()) => {
                    return Ok((id, missing));
                }
                Some(_) => return Err(FsError::NotFolder { path: folder }),
                None => missing += 1,
            }
            at = folder.parent();
        }
        Ok((FileId::ROOT, missing))
    }

    /// Settles the writer's last block and opens the next one.
    pub fn add_block(&mut self, now: Now, add: &AddBlock, out: &mut Output) -> Result<Allocated, FsError> {
        let AddBlock { file, index, ref last, ref near, ref excluded } = *add;
        self.settle_last(now, file, last, out)?;
        let lease = self.writing.get(&file).ok_or(FsError::NotWriting { file })?;
        let Writing { ref path, replication, block_bytes, ref sealed, open, .. } = *lease.writing;
        if sealed.len() != index {
            let reason = format!("the file has {} blocks, and not {index} as its writer says", sealed.len());
            return Err(FsError::Invalid { reason });
        }
        if sealed.len() >= MAX_BLOCKS {
            return Err(too_many_blocks(path, block_bytes));
        }
        // One byte at least is still to come.
        let bytes = sealed.iter().map(|block| block.bytes).sum::<u64>() + 1;
        let (around, _) = self.nearest_folder(path)?;
        let replicated_bytes = bytes * u64::from(replication);
        self.tree.check_quota(around, Usage { replicated_bytes, ..Usage::default() }, None)?;
        let block = open.unwrap_or(BlockId(self.counters.next_block));
        let count = usize::from(replication);
        let targets = place::choose(&self.replicas, &mut self.dice, near, &[], excluded, block_bytes, count);
        if targets.is_empty() {
            return Err(FsError::NoTargets { block, reason: self.why_no_target(excluded) });
        }
        if open.is_none() {
            self.counters.next_block += 1;
            self.replicas.open(block, file, replication);
            self.writing_mut(file, |writing| writing.open = Some(block));
            self.put(file, out);
        }
        self.replicas.targeted(block, &targets);
        Ok(Allocated { block, targets })
    }

    fn why_no_target(&self, excluded: &BTreeSet<ExecutorId>) -> String {
        let members = self.replicas.members.len();
        match members {
            0 => "no core executor is attached; start one with 'windlass executor --role core'".to_string(),
            _ if !excluded.is_empty() => {
                format!(
                    "of {members} core executors {} failed for this writer, and no other can take it",
                    excluded.len()
                )
            }
            _ => format!("none of {members} core executors has room for a block: free some space, or add executors"),
        }
    }

    fn settle_last(&mut self, now: Now, file: FileId, last: &Last, out: &mut Output) -> Result<(), FsError> {
        let lease = self.writing.get(&file).ok_or(FsError::NotWriting { file })?;
        let open = lease.writing.open;
        self.renew_lease(now, file);
        match last {
            Last::Nothing => {}
            Last::Dropped(block) if open == Some(*block) => {
                self.writing_mut(file, |writing| writing.open = None);
                self.forget_block(*block, out);
                self.put(file, out);
            }
            // It was said before.
            Last::Dropped(_) => {}
            Last::Sealed { block, durable } if open == Some(block.id) => {
                self.writing_mut(file, |writing| {
                    writing.open = None;
                    writing.sealed.push(*block);
                });
                for executor in self.replicas.seal(block.id, block.bytes, durable) {
                    self.found_damaged(executor, block.id, out);
                }
                self.put(file, out);
            }
            Last::Sealed { block, .. } => {
                let known = self.writing.get(&file).is_some_and(|lease| lease.writing.sealed.contains(block));
                if !known {
                    return Err(FsError::Invalid { reason: format!("{} is not the block that is written", block.id) });
                }
            }
        }
        Ok(())
    }

    /// Makes the file seen, with the folders that are missing around it.
    ///
    /// # Errors
    /// `NotDurable`: ask again a little later, replicas are being made.
    pub fn complete(
        &mut self,
        now: Now,
        file: FileId,
        writer: u128,
        last: &Last,
        out: &mut Output,
    ) -> Result<Entry, FsError> {
        if self.tree.get(file).is_some_and(|inode| inode.file().is_some()) {
            // It was said before.
            return Ok(self.entry(self.tree.path_of(file), file));
        }
        // And another one has taken its place since.
        if let Some(Answer::Entry(entry)) = self.outcomes.find(writer) {
            return Ok(entry);
        }
        self.settle_last(now, file, last, out)?;
        let lease = self.writing.get(&file).filter(|lease| lease.writing.writer == writer);
        let Writing { path, mode, replication, block_bytes, sealed, open, .. } =
            lease.map(|lease| (*lease.writing).clone()).ok_or(FsError::NotWriting { file })?;
        if let Some(open) = open {
            return Err(FsError::Invalid { reason: format!("{open} is still being written") });
        }
        let staying = self.replicas.members.values().filter(|member| !member.draining).count();
        let wanted = usize::from(self.config.min_replicas.min(replication)).min(staying).max(1);
        for block in &sealed {
            let durable = self.replicas.blocks.get(&block.id).map_or(0, |state| state.holders.as_slice().len());
            if durable < wanted {
                self.upkeep.hasten(block.id);
                self.repair(now, out);
                return Err(FsError::NotDurable { block: block.id, durable, wanted });
            }
        }
        self.check_target(&path, mode)?;
        let base = self.base(&path, mode)?.map(|file| file.blocks.clone()).unwrap_or_default();
        let blocks: Vec<Block> = base.iter().copied().chain(sealed).collect();
        if blocks.len() > MAX_BLOCKS {
            return Err(too_many_blocks(&path, block_bytes));
        }
        let data = FileData { replication, coding: None, blocks: blocks.into() };
        let inode = Inode { parent: FileId::ROOT, name: "".into(), modified_ms: now.wall_ms, node: Node::File(data) };
        // What it replaces makes room for it.
        let replaced = self.tree.find(&path)?;
        let (around, missing) = self.nearest_folder(&path)?;
        let mut more = Usage { folders: missing, ..inode.usage() };
        if let Some(old) = replaced.and_then(|id| self.tree.get(id)).map(Inode::usage) {
            more.files -= old.files;
            more.replicated_bytes = more.replicated_bytes.saturating_sub(old.replicated_bytes);
        }
        self.tree.check_quota(around, more, None)?;
        let parent = self.make_folders(now, &path, out)?;
        if let Some(replaced) = replaced {
            self.remove_file_but(now, replaced, &base, out);
        }
        for block in &base {
            self.replicas.adopt(block.id, file);
            self.replicas.want(block.id, replication);
        }
        self.end_lease(file);
        let name = path.name().unwrap_or_default().into();
        self.tree.insert(file, Inode { parent, name, ..inode });
        self.put(file, out);
        self.reconsider(now, file);
        let entry = self.entry(path, file);
        self.remember(now, writer, Answer::Entry(entry.clone()), out);
        Ok(entry)
    }

    /// Gives a file up that is being written. Nothing happens when it is not.
    pub fn abandon(&mut self, file: FileId, writer: u128, out: &mut Output) {
        if self.writing.get(&file).is_some_and(|lease| lease.writing.writer == writer) {
            self.drop_writing(file, out);
        }
    }

    /// The writer lives.
    pub fn renew(&mut self, now: Now, file: FileId, writer: u128) -> Result<(), FsError> {
        let lease = self.writing.get(&file).filter(|lease| lease.writing.writer == writer);
        lease.ok_or(FsError::NotWriting { file })?;
        self.renew_lease(now, file);
        Ok(())
    }

    fn drop_writing(&mut self, file: FileId, out: &mut Output) {
        let Some(writing) = self.end_lease(file) else { return };
        let blocks = writing.sealed.iter().map(|block| block.id).chain(writing.open);
        blocks.for_each(|block| self.forget_block(block, out));
        out.changes.removed.push(file);
    }

    fn end_lease(&mut self, file: FileId) -> Option<Box<Writing>> {
        let lease = self.writing.remove(&file)?;
        self.writers.remove(&lease.writing.writer);
        self.expiries.remove(&(lease.until, file));
        Some(lease.writing)
    }

    fn renew_lease(&mut self, now: Now, file: FileId) {
        let Some(lease) = self.writing.get_mut(&file) else { return };
        self.expiries.remove(&(lease.until, file));
        lease.until = now.at + self.config.lease;
        self.expiries.insert((lease.until, file));
    }

    fn writing_mut(&mut self, file: FileId, change: impl FnOnce(&mut Writing)) {
        if let Some(lease) = self.writing.get_mut(&file) {
            change(&mut lease.writing);
        }
    }

    // ---- folders, names, removal

    /// Makes a folder. With `parents`, those around it too, and it may be there already.
    pub fn mkdir(&mut self, now: Now, path: &FsPath, parents: bool, out: &mut Output) -> Result<Entry, FsError> {
        match self.tree.find(path)? {
            Some(id) if parents && self.tree.get(id).is_some_and(|inode| inode.folder().is_some()) => {
                return Ok(self.entry(path.clone(), id));
            }
            Some(_) => return Err(FsError::AlreadyExists { path: path.clone() }),
            None => {}
        }
        let (around, missing) = self.nearest_folder(path)?;
        if missing > 0 && !parents {
            return Err(FsError::NotFound { path: path.parent().unwrap_or_else(FsPath::root) });
        }
        self.tree.check_quota(around, Usage { folders: missing + 1, ..Usage::default() }, None)?;
        let parent = self.make_folders(now, path, out)?;
        let id = self.make_folder(now, parent, path, out);
        Ok(self.entry(path.clone(), id))
    }

    /// The folders around `path` that are not there.
    fn make_folders(&mut self, now: Now, path: &FsPath, out: &mut Output) -> Result<FileId, FsError> {
        let (mut at, mut missing) = (path.parent(), Vec::new());
        let mut parent = FileId::ROOT;
        while let Some(folder) = at {
            if let Some(id) = self.tree.find(&folder)? {
                parent = id;
                break;
            }
            at = folder.parent();
            missing.push(folder);
        }
        for folder in missing.into_iter().rev() {
            parent = self.make_folder(now, parent, &folder, out);
        }
        Ok(parent)
    }

    fn make_folder(&mut self, now: Now, parent: FileId, path: &FsPath, out: &mut Output) -> FileId {
        let id = self.next_file();
        let name = path.name().unwrap_or_default().into();
        self.tree.insert(id, Inode { parent, name, modified_ms: now.wall_ms, node: Node::Folder(Box::default()) });
        self.put(id, out);
        id
    }

    /// Moves a file or folder, at once. With `overwrite`, a file takes the place of a file. With `parents`, folders that are missing around
    /// the new place are made.
    pub fn rename(
        &mut self,
        now: Now,
        from: &FsPath,
        to: &FsPath,
        overwrite: bool,
        parents: bool,
        out: &mut Output,
    ) -> Result<Entry, FsError> {
        let (id, inode) = self.tree.resolve(from)?;
        let (is_file, usage) = (inode.file().is_some(), inode.usage());
        if from == to {
            return Ok(self.entry(to.clone(), id));
        }
        if from.is_root() || to.is_root() {
            return Err(FsError::Invalid { reason: "the root has its place".into() });
        }
        if to.is_in(from) {
            return Err(FsError::Invalid { reason: format!("{from} cannot be moved into itself") });
        }
        let replaced = self.tree.find(to)?;
        if let Some(there) = replaced.and_then(|id| self.tree.get(id)) {
            match (is_file, there.file().is_some()) {
                (true, true) if overwrite => {}
                (true, false) => return Err(FsError::IsFolder { path: to.clone() }),
                _ => return Err(FsError::AlreadyExists { path: to.clone() }),
            }
        }
        let (around, missing) = self.nearest_folder(to)?;
        if missing > 0 && !parents {
            return Err(FsError::NotFound { path: to.parent().unwrap_or_else(FsPath::root) });
        }
        // Folders around both places have what moves already.
        let shared = self.tree.around(id, around);
        self.tree.check_quota(around, Usage { folders: usage.folders + missing, ..usage }, Some(shared))?;
        let parent = self.make_folders(now, to, out)?;
        if let Some(replaced) = replaced {
            self.remove_file(now, replaced, out);
        }
        self.tree.relink(id, parent, to.name().unwrap_or_default().into());
        self.put(id, out);
        self.reconsider(now, id);
        Ok(self.entry(to.clone(), id))
    }

    /// Removes a file or folder, at once for whoever looks. The entries of a large folder, and their blocks, go over several ticks.
    pub fn delete(&mut self, now: Now, path: &FsPath, recursive: bool, out: &mut Output) -> Result<(), FsError> {
        let (id, inode) = self.tree.resolve(path)?;
        let Some(folder) = inode.folder() else {
            self.remove_file(now, id, out);
            return Ok(());
        };
        if path.is_root() {
            return Err(FsError::Invalid { reason: "the root cannot be removed".into() });
        }
        if !folder.children.is_empty() && !recursive {
            return Err(FsError::NotEmpty { path: path.clone() });
        }
        self.bury(now, id, out);
        Ok(())
    }

    /// Removes folders around `path`, nearest first, that hold nothing and for which nothing was set: to whoever sees files alone they are
    /// not there.
    pub fn prune(&mut self, path: &FsPath, out: &mut Output) {
        let mut at = path.parent();
        while let Some(path) = at.filter(|path| !path.is_root()) {
            let Ok((id, folder)) = self.tree.resolve_folder(&path) else { return };
            if !folder.children.is_empty() || folder.terms != FolderTerms::default() {
                return;
            }
            self.tree.remove(id);
            out.changes.put.retain(|record| record.id != id);
            out.changes.removed.push(id);
            at = path.parent();
        }
    }

    fn bury(&mut self, now: Now, folder: FileId, out: &mut Output) {
        self.tree.relink(folder, FileId::GRAVE, "".into());
        self.graves.push(folder);
        self.put(folder, out);
        self.decay(now, out);
    }

    /// Removes some of what lies in graves, children before their folders.
    fn decay(&mut self, now: Now, out: &mut Output) {
        const AT_A_TIME: usize = 5_000;
        let mut removed = 0;
        while removed < AT_A_TIME
            && let Some(grave) = self.graves.pop()
        {
            let mut walk = vec![grave];
            while let Some(id) = walk.last().copied()
                && removed < AT_A_TIME
            {
                let inode = self.tree.get(id);
                if let Some(child) = inode.and_then(Inode::folder).and_then(|folder| folder.children.values().next()) {
                    walk.push(*child);
                    continue;
                }
                walk.pop();
                removed += 1;
                match inode.is_some_and(|inode| inode.file().is_some()) {
                    true => self.remove_file(now, id, out),
                    false => {
                        self.tree.remove(id);
                        out.changes.put.retain(|record| record.id != id);
                        out.changes.removed.push(id);
                    }
                }
            }
            if !walk.is_empty() {
                self.graves.push(grave);
            }
        }
    }

    /// Moves a file or folder to the trash, from where it can be moved back until it expires.
    pub fn trash(&mut self, now: Now, path: &FsPath, recursive: bool, out: &mut Output) -> Result<Entry, FsError> {
        let (_, inode) = self.tree.resolve(path)?;
        if !recursive && inode.folder().is_some_and(|folder| !folder.children.is_empty()) {
            return Err(FsError::NotEmpty { path: path.clone() });
        }
        if FsPath::parse(TRASH)?.is_in(path) || path.is_in(&FsPath::parse(TRASH)?) {
            return Err(FsError::Invalid { reason: format!("{path} is the trash, or in it: remove it for good") });
        }
        // Of a minute together; of two of one path the later one gets a name of its own.
        let minute = now.wall_ms / 60_000 * 60_000;
        let mut to = FsPath::parse(&format!("{TRASH}/{minute}{path}"))?;
        if self.tree.find(&to).ok() != Some(None) {
            to = FsPath::parse(&format!("{TRASH}/{minute}/{}{path}", self.counters.next_file))?;
        }
        let entry = self.rename(now, path, &to, false, true, out)?;
        self.trash_due = Some(now.at);
        Ok(entry)
    }

    /// Removes what has been in the trash for long enough.
    fn expire_trash(&mut self, now: Now, out: &mut Output) {
        self.trash_due = None;
        let Ok(trash) = FsPath::parse(TRASH) else { return };
        let Ok((_, folder)) = self.tree.resolve_folder(&trash) else { return };
        let keep_ms = self.config.trash.as_millis() as u64;
        let since = |name: &str| name.parse::<u64>().ok();
        let expired =
            folder.children.iter().filter(|(name, _)| since(name).is_some_and(|at| at + keep_ms <= now.wall_ms));
        let expired: Vec<FileId> = expired.map(|(_, id)| *id).collect();
        if folder.children.len() > expired.len() {
            self.trash_due = Some(now.at + (self.config.trash / 10).min(Duration::from_secs(600)));
        }
        for id in expired {
            match self.tree.get(id).is_some_and(|inode| inode.folder().is_some()) {
                true => self.bury(now, id, out),
                false => self.remove_file(now, id, out),
            }
        }
    }

    /// Its replicas go later: who has begun to read it reads it to its end.
    fn remove_file(&mut self, now: Now, id: FileId, out: &mut Output) {
        self.remove_file_but(now, id, &[], out);
    }

    /// The same, but for blocks that another file goes on with.
    fn remove_file_but(&mut self, now: Now, id: FileId, kept: &[Block], out: &mut Output) {
        let Some(Inode { node: Node::File(file), modified_ms, .. }) = self.tree.remove(id) else { return };
        out.changes.put.retain(|record| record.id != id);
        out.changes.removed.push(id);
        self.give_up_recoding(id, out);
        let holders = file.blocks.iter().map(|block| self.holders_of(block.id)).collect();
        let gone = if kept.is_empty() { &file.blocks[..] } else { &[] };
        self.forget_later(now, gone, out);
        if !self.config.grace.is_zero() {
            self.departed.keep(id, modified_ms, file, holders);
        }
    }

    fn forget_later(&mut self, now: Now, blocks: &[Block], out: &mut Output) {
        let mut orders = Output::default();
        blocks.iter().for_each(|block| self.forget_block(block.id, &mut orders));
        match self.config.grace.is_zero() {
            true => out.orders.extend(orders.orders),
            false => self.departed.later(now.at + self.config.grace, orders.orders),
        }
    }

    fn forget_block(&mut self, block: BlockId, out: &mut Output) {
        self.upkeep.forget(block, &mut self.replicas);
        self.forget_damaged(block, out);
        let holders = self.replicas.forget(block);
        out.orders.extend(holders.into_iter().map(|(executor, replica)| (executor, Order::Delete(replica))));
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

fn too_many_blocks(path: &FsPath, block_bytes: u64) -> FsError {
    let reason = format!(
        "{path} has {MAX_BLOCKS} blocks of {block_bytes} bytes, and no more fit into a file: write it with larger blocks"
    );
    FsError::Invalid { reason }
}

fn file_detail(file: &FileData) -> Detail {
    let FileData { replication, coding, .. } = *file;
    let (bytes, replicated_bytes, blocks) = (file.bytes(), file.replicated_bytes(), file.blocks.len());
    Detail::File { bytes, replicated_bytes, blocks, replication, coding }
}

fn check_replication(replication: u8) -> Result<(), FsError> {
    if (1..=MAX_REPLICATION).contains(&replication) {
        return Ok(());
    }
    let reason = format!("a file has from 1 to {MAX_REPLICATION} replicas, not {replication}");
    Err(FsError::Invalid { reason })
}
