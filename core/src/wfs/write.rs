//! Writing: a file is made block by block, and is seen when it is complete.

use super::terms::check_replication;
use super::tree::{Inode, Node};
use super::{
    Answer, Block, CreateMode, Entry, FileData, FsError, FsPath, Namespace, Near, Now, Output, Usage, Writing, place,
};
use crate::ids::{BlockId, ExecutorId, FileId};
use std::collections::BTreeSet;

/// Blocks of a file are at most so many: 4 TiB with blocks of 128 MiB. A file's record has them all.
const MAX_BLOCKS: usize = 32_768;

/// A file that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    pub path: FsPath,
    pub mode: CreateMode,
    pub replication: Option<u8>,
    pub block_bytes: Option<u64>,
    /// A number that no other writer has: a request that is sent twice is known by it.
    pub writer: u128,
}

/// A file that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    pub file: FileId,
    pub block_bytes: u64,
    pub replication: u8,
}

/// A writer settles its last block and asks for the next one.
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

/// A block that its writer may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocated {
    pub block: BlockId,
    /// In the order in which the data goes through them.
    pub targets: Vec<ExecutorId>,
}

impl Namespace {
    /// Begins a file. It is seen when it is complete.
    pub fn create(&mut self, now: Now, create: Create, out: &mut Output) -> Result<Created, FsError> {
        let Create { path, mode, replication, block_bytes, writer } = create;
        if let Some((file, Writing { block_bytes, replication, .. })) = self.leases.of(writer) {
            // It was said before.
            let created = Created { file, block_bytes: *block_bytes, replication: *replication };
            self.leases.renew(file, now.at + self.config.lease);
            return Ok(created);
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
        let files = u64::from(self.tree.find(&path)?.is_none());
        self.tree.check_quota(around, Usage { files, folders: missing, ..Usage::default() }, None)?;
        let file = self.next_file();
        let sealed = Vec::new();
        let writing = Writing { path, mode, writer, replication, block_bytes, sealed, open: None };
        self.leases.begin(file, Box::new(writing), now.at + self.config.lease);
        self.put(file, out);
        Ok(Created { file, block_bytes, replication })
    }

    /// Whether a file may be made there.
    pub(super) fn check_target(&self, path: &FsPath, mode: CreateMode) -> Result<(), FsError> {
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
    pub(super) fn base(&self, path: &FsPath, mode: CreateMode) -> Result<Option<&FileData>, FsError> {
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
    pub(super) fn nearest_folder(&self, path: &FsPath) -> Result<(FileId, u64), FsError> {
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
        let writing = self.leases.get(file).ok_or(FsError::NotWriting { file })?;
        let Writing { ref path, replication, block_bytes, ref sealed, open, .. } = *writing;
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
            self.leases.change(file, |writing| writing.open = Some(block));
            self.put(file, out);
        }
        self.replicas.targeted(block, &targets);
        Ok(Allocated { block, targets })
    }

    pub(super) fn why_no_target(&self, excluded: &BTreeSet<ExecutorId>) -> String {
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

    pub(super) fn settle_last(&mut self, now: Now, file: FileId, last: &Last, out: &mut Output) -> Result<(), FsError> {
        let open = self.leases.get(file).ok_or(FsError::NotWriting { file })?.open;
        self.leases.renew(file, now.at + self.config.lease);
        match last {
            Last::Nothing => {}
            Last::Dropped(block) if open == Some(*block) => {
                self.leases.change(file, |writing| writing.open = None);
                self.forget_block(*block, out);
                self.put(file, out);
            }
            // It was said before.
            Last::Dropped(_) => {}
            Last::Sealed { block, durable } if open == Some(block.id) => {
                self.leases.change(file, |writing| {
                    writing.open = None;
                    writing.sealed.push(*block);
                });
                for executor in self.replicas.seal(block.id, block.bytes, durable) {
                    self.found_damaged(executor, block.id, out);
                }
                self.put(file, out);
            }
            Last::Sealed { block, .. } => {
                let known = self.leases.get(file).is_some_and(|writing| writing.sealed.contains(block));
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
        let Writing { path, mode, replication, block_bytes, sealed, open, .. } =
            self.leases.held_by(writer, file)?.clone();
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
        self.leases.end(file);
        let name = path.name().unwrap_or_default().into();
        self.tree.insert(file, Inode { parent, name, ..inode });
        self.put(file, out);
        self.reconsider(now, file);
        let entry = self.entry(path, file);
        self.remember(now, writer, Answer::Entry(entry.clone()), out);
        Ok(entry)
    }
}

fn too_many_blocks(path: &FsPath, block_bytes: u64) -> FsError {
    let reason = format!(
        "{path} has {MAX_BLOCKS} blocks of {block_bytes} bytes, and no more fit into a file: write it with larger blocks"
    );
    FsError::Invalid { reason }
}
