//! Folders and names: making, moving and removing them.

use super::tree::{Inode, Node};
use super::{Entry, FolderTerms, FsError, FsPath, Namespace, Now, Output, TRASH, Usage};
use crate::ids::FileId;

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
        // Folders around both places have what moves already, and get the folders that are made; what goes to the trash leaves room.
        let shared = self.tree.around(id, around);
        self.tree.check_quota(around, Usage { folders: usage.folders + missing, ..usage }, Some(shared))?;
        let made = if to.is_in(&FsPath::parse(TRASH)?) { 0 } else { missing };
        self.tree.check_quota(shared, Usage { folders: made, ..Usage::default() }, None)?;
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
}
