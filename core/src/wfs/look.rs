//! Looking: what there is, and where it lies.

use super::replicas;
use super::tree::{Inode, Node};
use super::{Block, Coding, FileData, FolderTerms, FsError, FsPath, Namespace, Near, Policy, Quota, Usage};
use crate::ids::{BlockId, ExecutorId, FileId};

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
    /// Bytes that are in the file. Replicas of a piece may have zeros behind them.
    pub block: Block,
    /// Position of its first byte in the file.
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
    /// Bytes of each piece.
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

impl Namespace {
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
        let located = self.located(file, range, near, |_, block| self.readable_from(block.id));
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
            let located = self.located(file, range, near, |_, block| self.readable_from(block.id));
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
    pub(super) fn located(
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

    /// Its holders. Where they do not have all of a block, those that have damaged replicas come behind them: other bytes of each may be
    /// damaged.
    fn readable_from(&self, block: BlockId) -> Vec<Holder> {
        let mut holders = self.holders_of(block);
        if !self.replicas.is_readable(block) {
            holders.extend(self.upkeep.damaged.holders(block));
        }
        holders
    }

    pub(super) fn holders_of(&self, block: BlockId) -> Vec<Holder> {
        let holders = self.replicas.all_holders(block);
        let mut holders: Vec<Holder> =
            holders.into_iter().map(|(executor, piece)| Holder { executor, piece }).collect();
        holders.sort_by_key(|holder| (holder.piece, holder.executor));
        holders
    }

    /// A block, or the pieces that have its bytes.
    pub(super) fn extents(
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

    pub(super) fn nearest(&self, replica: BlockId, piece: u8, holders: &[Holder], near: &Near) -> Vec<ExecutorId> {
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

    pub(super) fn entry(&self, path: FsPath, id: FileId) -> Entry {
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
}

fn file_detail(file: &FileData) -> Detail {
    let FileData { replication, coding, .. } = *file;
    let (bytes, replicated_bytes, blocks) = (file.bytes(), file.replicated_bytes(), file.blocks.len());
    Detail::File { bytes, replicated_bytes, blocks, replication, coding }
}
