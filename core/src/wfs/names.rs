//! Folders and names: making, moving and removing them.

use super::tree::{Inode, Node};
use super::{Block, Entry, FolderTerms, FsError, FsPath, Namespace, Now, Order, Output, TRASH, Usage};
use crate::ids::{BlockId, FileId};
use std::time::Duration;

impl Namespace {
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
    pub(super) fn make_folders(&mut self, now: Now, path: &FsPath, out: &mut Output) -> Result<FileId, FsError> {
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

    pub(super) fn make_folder(&mut self, now: Now, parent: FileId, path: &FsPath, out: &mut Output) -> FileId {
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

    pub(super) fn bury(&mut self, now: Now, folder: FileId, out: &mut Output) {
        self.tree.relink(folder, FileId::GRAVE, "".into());
        self.graves.push(folder);
        self.put(folder, out);
        self.decay(now, out);
    }

    /// Removes some of what lies in graves, children before their folders.
    pub(super) fn decay(&mut self, now: Now, out: &mut Output) {
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
        let trash = FsPath::parse(TRASH)?;
        if path.is_in(&trash) {
            return Err(FsError::Invalid { reason: format!("{path} is the trash, or in it: remove it for good") });
        }
        if trash.is_in(path) {
            return Err(FsError::Invalid {
                reason: format!("{path} holds the trash: remove what else is in it by its name"),
            });
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
    pub(super) fn expire_trash(&mut self, now: Now, out: &mut Output) {
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
    pub(super) fn remove_file(&mut self, now: Now, id: FileId, out: &mut Output) {
        self.remove_file_but(now, id, &[], out);
    }

    /// The same, but for blocks that another file goes on with.
    pub(super) fn remove_file_but(&mut self, now: Now, id: FileId, kept: &[Block], out: &mut Output) {
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

    pub(super) fn forget_later(&mut self, now: Now, blocks: &[Block], out: &mut Output) {
        let mut orders = Output::default();
        blocks.iter().for_each(|block| self.forget_block(block.id, &mut orders));
        match self.config.grace.is_zero() {
            true => out.orders.extend(orders.orders),
            false => self.departed.later(now.at + self.config.grace, orders.orders),
        }
    }

    pub(super) fn forget_block(&mut self, block: BlockId, out: &mut Output) {
        self.upkeep.forget(block, &mut self.replicas);
        self.forget_damaged(block, out);
        let holders = self.replicas.forget(block);
        out.orders.extend(holders.into_iter().map(|(executor, replica)| (executor, Order::Delete(replica))));
    }
}
