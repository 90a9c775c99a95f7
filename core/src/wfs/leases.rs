//! Files that are being written. Each has a lease of its writer: a writer that is silent for too long has given up.

use super::{FsError, Namespace, Now, Output, Writing};
use crate::ids::{BlockId, FileId};
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Leases {
    by_file: BTreeMap<FileId, Lease>,
    /// Which file each writer writes.
    by_writer: BTreeMap<u128, FileId>,
    /// When leases end.
    ends: BTreeSet<(Instant, FileId)>,
}

#[derive(Debug)]
struct Lease {
    writing: Box<Writing>,
    until: Instant,
}

impl Leases {
    pub fn len(&self) -> usize {
        self.by_file.len()
    }

    pub fn get(&self, file: FileId) -> Option<&Writing> {
        self.by_file.get(&file).map(|lease| &*lease.writing)
    }

    /// # Errors
    /// `NotWriting`: nobody writes the file, or another writer does.
    pub fn held_by(&self, writer: u128, file: FileId) -> Result<&Writing, FsError> {
        self.get(file).filter(|writing| writing.writer == writer).ok_or(FsError::NotWriting { file })
    }

    /// The file that this writer writes.
    pub fn of(&self, writer: u128) -> Option<(FileId, &Writing)> {
        let file = self.by_writer.get(&writer).copied()?;
        Some((file, self.get(file)?))
    }

    pub fn begin(&mut self, file: FileId, writing: Box<Writing>, until: Instant) {
        self.by_writer.insert(writing.writer, file);
        self.ends.insert((until, file));
        self.by_file.insert(file, Lease { writing, until });
    }

    pub fn renew(&mut self, file: FileId, until: Instant) {
        let Some(lease) = self.by_file.get_mut(&file) else { return };
        self.ends.remove(&(lease.until, file));
        lease.until = until;
        self.ends.insert((until, file));
    }

    pub fn change(&mut self, file: FileId, change: impl FnOnce(&mut Writing)) {
        if let Some(lease) = self.by_file.get_mut(&file) {
            change(&mut lease.writing);
        }
    }

    pub fn end(&mut self, file: FileId) -> Option<Box<Writing>> {
        let lease = self.by_file.remove(&file)?;
        self.by_writer.remove(&lease.writing.writer);
        self.ends.remove(&(lease.until, file));
        Some(lease.writing)
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// A file whose lease is over.
    fn over(&self, now: Instant) -> Option<FileId> {
        self.ends.first().filter(|(at, _)| *at <= now).map(|(_, file)| *file)
    }
}

impl Namespace {
    /// Gives a file up that is being written. Nothing happens when it is not.
    pub fn abandon(&mut self, file: FileId, writer: u128, out: &mut Output) {
        if self.leases.held_by(writer, file).is_ok() {
            self.drop_writing(file, out);
        }
    }

    /// The writer lives. Returns the block that it writes.
    pub fn renew(&mut self, now: Now, file: FileId, writer: u128) -> Result<Option<BlockId>, FsError> {
        let open = self.leases.held_by(writer, file)?.open;
        self.leases.renew(file, now.at + self.config.lease);
        Ok(open)
    }

    pub(super) fn end_leases(&mut self, now: Now, out: &mut Output) {
        while let Some(file) = self.leases.over(now.at) {
            self.drop_writing(file, out);
        }
    }

    fn drop_writing(&mut self, file: FileId, out: &mut Output) {
        let Some(writing) = self.leases.end(file) else { return };
        let blocks = writing.sealed.iter().map(|block| block.id).chain(writing.open);
        blocks.for_each(|block| self.forget_block(block, out));
        out.changes.removed.push(file);
    }
}
