//! What is set for files and folders: how many replicas they are to have, and how much a folder may hold.

use super::tree::Node;
use super::{Entry, FsError, FsPath, Namespace, Now, Output, Quota, Usage};

/// Replicas of a file are at most so many.
pub const MAX_REPLICATION: u8 = 5;

impl Namespace {
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
}

pub(super) fn check_replication(replication: u8) -> Result<(), FsError> {
    if (1..=MAX_REPLICATION).contains(&replication) {
        return Ok(());
    }
    let reason = format!("a file has from 1 to {MAX_REPLICATION} replicas, not {replication}");
    Err(FsError::Invalid { reason })
}
