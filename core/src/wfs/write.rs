//! Writing: a file is made block by block, and is seen when it is complete.

use super::tree::{Inode, Node};
use super::{
    AddBlock, Allocated, Answer, Block, Create, CreateMode, Created, Entry, FileData, FsError, FsPath, Last, Lease,
    Namespace, Now, Output, Usage, Writing, check_replication, place,
};
use crate::ids::{BlockId, ExecutorId, FileId};
use std::collections::BTreeSet;

/// Blocks of a file are at most so many: 4 TiB with blocks of 128 MiB. A file's record has them all.
const MAX_BLOCKS: usize = 32_768;

impl Namespace {
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
        let files = u64::from(self.tree.find(&path)?.is_none());
        self.tree.check_quota(around, Usage { files, folders: missing, ..Usage::default() }, None)?;
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
    pub fn renew(&mut self, now: Now, file: FileId, writer: u128) -> Result<Option<BlockId>, FsError> {
        let lease = self.writing.get(&file).filter(|lease| lease.writing.writer == writer);
        let open = lease.ok_or(FsError::NotWriting { file })?.writing.open;
        self.renew_lease(now, file);
        Ok(open)
    }

    pub(super) fn drop_writing(&mut self, file: FileId, out: &mut Output) {
        let Some(writing) = self.end_lease(file) else { return };
        let blocks = writing.sealed.iter().map(|block| block.id).chain(writing.open);
        blocks.for_each(|block| self.forget_block(block, out));
        out.changes.removed.push(file);
    }

    pub(super) fn end_lease(&mut self, file: FileId) -> Option<Box<Writing>> {
        let lease = self.writing.remove(&file)?;
        self.writers.remove(&lease.writing.writer);
        self.expiries.remove(&(lease.until, file));
        Some(lease.writing)
    }

    pub(super) fn renew_lease(&mut self, now: Now, file: FileId) {
        let Some(lease) = self.writing.get_mut(&file) else { return };
        self.expiries.remove(&(lease.until, file));
        lease.until = now.at + self.config.lease;
        self.expiries.insert((lease.until, file));
    }

    pub(super) fn writing_mut(&mut self, file: FileId, change: impl FnOnce(&mut Writing)) {
        if let Some(lease) = self.writing.get_mut(&file) {
            change(&mut lease.writing);
        }
    }
}

fn too_many_blocks(path: &FsPath, block_bytes: u64) -> FsError {
    let reason = format!(
        "{path} has {MAX_BLOCKS} blocks of {block_bytes} bytes, and no more fit into a file: write it with larger blocks"
    );
    FsError::Invalid { reason }
}
