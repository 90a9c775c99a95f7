//! What of the namespace is durable: one record for each file and folder. Who holds replicas is not: executors say that when they join.

use super::coding::{Coding, Layout, Policy};
use super::outcome::Outcome;
use super::path::FsPath;
use crate::ids::{BlockId, FileId};

/// A file or folder as it is stored. A later record of the same id takes the place of an earlier one, and nothing else follows from the
/// order of records of different ids: the tree is made from what is left when all were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: FileId,
    /// The root, for a file that is being written.
    pub parent: FileId,
    /// Empty for the root, and for a file that is being written.
    pub name: Box<str>,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub modified_ms: u64,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Folder(FolderTerms),
    File(FileData),
    Writing(Box<Writing>),
}

/// What was set for a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderTerms {
    pub quota: Quota,
    /// Replicas of files that are written in it, where their writers ask for nothing else.
    pub replication: Option<u8>,
    /// How files in it are kept, once they are cold.
    pub policy: Option<Policy>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Files and folders in it, at any depth.
    pub files: Option<u64>,
    /// Bytes of all replicas of the files in it.
    pub bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileData {
    pub replication: u8,
    /// The number of a block that is cut up is that of its first piece.
    pub coding: Option<Coding>,
    pub blocks: Box<[Block]>,
}

/// A block that was written to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    pub id: BlockId,
    pub bytes: u64,
}

/// A file that nobody sees yet: it appears when it is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writing {
    pub path: FsPath,
    pub mode: CreateMode,
    /// Which writer has the lease: a number that it chose.
    pub writer: u128,
    pub replication: u8,
    pub block_bytes: u64,
    /// Without those of a file that it goes on with: they are that file's until this one is complete.
    pub sealed: Vec<Block>,
    /// The block that is being written.
    pub open: Option<BlockId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateMode {
    /// Takes the place of a file that is there.
    Overwrite,
    /// Nothing may be there.
    New,
    /// Takes the place of this file and no other.
    Replace(FileId),
    /// The same, and begins with the blocks of that file.
    Append(FileId),
}

/// What one operation changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub put: Vec<Record>,
    pub removed: Vec<FileId>,
    /// What requests did whose answers may be lost.
    pub outcomes: Vec<Outcome>,
}

/// Numbers that were not given yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    pub next_file: u64,
    pub next_block: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Counters { next_file: FileId::ROOT.0 + 1, next_block: 1 }
    }
}

impl FileId {
    pub const ROOT: FileId = FileId(1);
    /// The parent of folders that were removed, until all that was in them is gone. Nothing lies there that can be found.
    pub const GRAVE: FileId = FileId(0);
}

impl FileData {
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.bytes).sum()
    }

    /// Returns the bytes of all replicas that are wanted.
    pub fn replicated_bytes(&self) -> u64 {
        self.replicated_bytes_as(self.coding)
    }

    /// The same, if it were kept in this way.
    pub fn replicated_bytes_as(&self, coding: Option<Coding>) -> u64 {
        let layout = Layout::new(coding, self.replication);
        let replicas = u64::from(match layout {
            Layout::Whole(replicas) => replicas,
            Layout::Coded(coding) => coding.pieces(),
        });
        self.blocks.iter().map(|block| layout.replica_bytes(block.bytes) * replicas).sum()
    }
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.removed.is_empty() && self.outcomes.is_empty()
    }
}
