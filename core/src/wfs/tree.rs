//! Files and folders by path, and what folders hold in sum.
//!
//! Invariants:
//! - Every file and folder but the root is a child of its parent, under its name, and of no other.
//! - A folder's `usage` is the sum over all that is in it, at any depth.

use super::FsError;
use super::path::FsPath;
use super::record::{FileData, FolderTerms, Kind, Quota, Record};
use crate::ids::FileId;
use std::collections::BTreeMap;
use std::ops::Bound;

#[derive(Debug)]
pub(super) struct Tree {
    inodes: BTreeMap<FileId, Inode>,
}

#[derive(Debug)]
pub(super) struct Inode {
    pub parent: FileId,
    pub name: Box<str>,
    pub modified_ms: u64,
    pub node: Node,
}

#[derive(Debug)]
pub(super) enum Node {
    Folder(Box<Folder>),
    File(FileData),
}

#[derive(Debug, Default)]
pub(super) struct Folder {
    pub children: BTreeMap<Box<str>, FileId>,
    pub usage: Usage,
    pub terms: FolderTerms,
}

/// What a folder holds, without itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub files: u64,
    pub folders: u64,
    /// Bytes of the files, once each.
    pub bytes: u64,
    /// Bytes of all replicas that are wanted.
    pub replicated_bytes: u64,
}

impl Usage {
    fn add(&mut self, more: Usage) {
        self.files += more.files;
        self.folders += more.folders;
        self.bytes += more.bytes;
        self.replicated_bytes += more.replicated_bytes;
    }

    fn subtract(&mut self, less: Usage) {
        self.files -= less.files;
        self.folders -= less.folders;
        self.bytes -= less.bytes;
        self.replicated_bytes -= less.replicated_bytes;
    }
}

impl Inode {
    /// With all that is in it.
    pub fn usage(&self) -> Usage {
        match &self.node {
            Node::Folder(folder) => Usage { folders: folder.usage.folders + 1, ..folder.usage },
            Node::File(file) => {
                Usage { files: 1, folders: 0, bytes: file.bytes(), replicated_bytes: file.replicated_bytes() }
            }
        }
    }

    pub fn folder(&self) -> Option<&Folder> {
        match &self.node {
            Node::Folder(folder) => Some(folder),
            Node::File(_) => None,
        }
    }

    pub fn file(&self) -> Option<&FileData> {
        match &self.node {
            Node::File(file) => Some(file),
            Node::Folder(_) => None,
        }
    }
}

impl Tree {
    /// Just the root.
    pub fn new() -> Tree {
        let root = Inode { parent: FileId::ROOT, name: "".into(), modified_ms: 0, node: Node::Folder(Box::default()) };
        Tree { inodes: BTreeMap::from([(FileId::ROOT, root)]) }
    }

    /// From all records but those of files that are being written. A file whose folder is missing is not in the tree: its id is returned.
    /// Folders in the grave are kept, and cannot be found.
    pub fn load(records: impl Iterator<Item = Record>) -> (Tree, Vec<FileId>) {
        let mut tree = Tree::new();
        for record in records {
            let node = match record.kind {
                Kind::Folder(terms) => Node::Folder(Box::new(Folder { terms, ..Folder::default() })),
                Kind::File(file) => Node::File(file),
                Kind::Writing(_) => continue,
            };
            let inode = Inode { parent: record.parent, name: record.name, modified_ms: record.modified_ms, node };
            tree.inodes.insert(record.id, inode);
        }
        let (mut lost, mut graves) = (Vec::new(), Vec::new());
        let links: Vec<_> = tree.inodes.iter().map(|(id, inode)| (*id, inode.parent, inode.name.clone())).collect();
        for (id, parent, name) in links.into_iter().filter(|(id, ..)| *id != FileId::ROOT) {
            match tree.inodes.get_mut(&parent).map(|inode| &mut inode.node) {
                Some(Node::Folder(folder)) if !folder.children.contains_key(&name) => {
                    folder.children.insert(name, id);
                }
                None if parent == FileId::GRAVE => graves.push(id),
                _ => lost.push(id),
            }
        }
        let lost: Vec<FileId> = lost.into_iter().flat_map(|id| tree.ids_below(id)).collect();
        lost.iter().for_each(|id| _ = tree.inodes.remove(id));
        graves.into_iter().chain([FileId::ROOT]).for_each(|top| tree.sum(top));
        (tree, lost)
    }

    /// Computes usage below `folder`, deepest first, without recursion: trees may be deeper than the stack.
    fn sum(&mut self, folder: FileId) {
        let order = self.ids_below(folder);
        for id in order.into_iter().skip(1).rev() {
            let (parent, usage) = (self.inodes[&id].parent, self.inodes[&id].usage());
            if let Some(Inode { node: Node::Folder(folder), .. }) = self.inodes.get_mut(&parent) {
                folder.usage.add(usage);
            }
        }
    }

    /// `id` and all below it, parents before children.
    pub fn ids_below(&self, id: FileId) -> Vec<FileId> {
        let mut order = vec![id];
        let mut at = 0;
        while let Some(next) = order.get(at) {
            at += 1;
            if let Some(folder) = self.inodes.get(next).and_then(Inode::folder) {
                order.extend(folder.children.values());
            }
        }
        order
    }

    pub fn len(&self) -> usize {
        self.inodes.len()
    }

    pub fn get(&self, id: FileId) -> Option<&Inode> {
        self.inodes.get(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (FileId, &Inode)> {
        self.inodes.iter().map(|(id, inode)| (*id, inode))
    }

    /// What lies at `path`, if anything does.
    ///
    /// # Errors
    /// `NotFolder` when a file lies where the path has a folder.
    pub fn find(&self, path: &FsPath) -> Result<Option<FileId>, FsError> {
        let (mut at, mut walked) = (FileId::ROOT, FsPath::root());
        for name in path.names() {
            let Some(folder) = self.inodes[&at].folder() else { return Err(FsError::NotFolder { path: walked }) };
            let Some(child) = folder.children.get(name) else { return Ok(None) };
            at = *child;
            walked = walked.join(name);
        }
        Ok(Some(at))
    }

    pub fn resolve(&self, path: &FsPath) -> Result<(FileId, &Inode), FsError> {
        let id = self.find(path)?.ok_or_else(|| FsError::NotFound { path: path.clone() })?;
        Ok((id, &self.inodes[&id]))
    }

    pub fn resolve_folder(&self, path: &FsPath) -> Result<(FileId, &Folder), FsError> {
        let (id, inode) = self.resolve(path)?;
        let folder = inode.folder().ok_or_else(|| FsError::NotFolder { path: path.clone() })?;
        Ok((id, folder))
    }

    pub fn resolve_file(&self, path: &FsPath) -> Result<(FileId, &Inode, &FileData), FsError> {
        let (id, inode) = self.resolve(path)?;
        let file = inode.file().ok_or_else(|| FsError::IsFolder { path: path.clone() })?;
        Ok((id, inode, file))
    }

    /// Where it lies.
    pub fn path_of(&self, id: FileId) -> FsPath {
        let mut names = Vec::new();
        let mut at = id;
        while at != FileId::ROOT
            && let Some(inode) = self.inodes.get(&at)
        {
            names.push(&*inode.name);
            at = inode.parent;
        }
        names.into_iter().rev().fold(FsPath::root(), |path, name| path.join(name))
    }

    /// The replication that the nearest folder around `path` asks for.
    pub fn replication_for(&self, path: &FsPath) -> Option<u8> {
        let mut found = None;
        let mut at = FileId::ROOT;
        let mut names = path.names();
        while let Some(folder) = self.inodes[&at].folder() {
            found = folder.terms.replication.or(found);
            match names.next().and_then(|name| folder.children.get(name)) {
                Some(child) => at = *child,
                None => break,
            }
        }
        found
    }

    /// Refuses what a quota of `folder`, or of one around it up to and without `below`, has no room for.
    pub fn check_quota(&self, folder: FileId, more: Usage, below: Option<FileId>) -> Result<(), FsError> {
        let mut at = folder;
        loop {
            if Some(at) == below {
                return Ok(());
            }
            let Some(inode) = self.inodes.get(&at) else { return Ok(()) };
            if let Some(held) = inode.folder() {
                let Quota { files, bytes } = held.terms.quota;
                let counts = [
                    (files, "files and folders", held.usage.files + held.usage.folders, more.files + more.folders),
                    (bytes, "bytes with replicas", held.usage.replicated_bytes, more.replicated_bytes),
                ];
                for (limit, unit, used, wanted) in counts {
                    if let Some(limit) = limit.filter(|limit| wanted > 0 && used.saturating_add(wanted) > *limit) {
                        return Err(FsError::QuotaExceeded { path: self.path_of(at), unit, used, limit, wanted });
                    }
                }
            }
            if at == FileId::ROOT {
                return Ok(());
            }
            at = inode.parent;
        }
    }

    pub fn is_below(&self, id: FileId, top: FileId) -> bool {
        let mut at = id;
        while at != top {
            match self.inodes.get(&at) {
                Some(inode) if at != FileId::ROOT => at = inode.parent,
                _ => return false,
            }
        }
        true
    }

    /// The nearest folder around both.
    pub fn around(&self, one: FileId, other: FileId) -> FileId {
        let ancestors = |mut id: FileId| {
            let mut found = vec![id];
            while id != FileId::ROOT
                && let Some(inode) = self.inodes.get(&id)
            {
                id = inode.parent;
                found.push(id);
            }
            found
        };
        let of_one = ancestors(one);
        ancestors(other).into_iter().find(|id| of_one.contains(id)).unwrap_or(FileId::ROOT)
    }

    /// Puts something new into a folder that has no child of its name.
    pub fn insert(&mut self, id: FileId, inode: Inode) {
        let usage = inode.usage();
        let (parent, name) = (inode.parent, inode.name.clone());
        self.inodes.insert(id, inode);
        self.link(id, parent, name, usage);
    }

    /// Takes something out of its folder, with all that is in it, and forgets just itself.
    pub fn remove(&mut self, id: FileId) -> Option<Inode> {
        self.unlink(id);
        self.inodes.remove(&id)
    }

    /// Puts something elsewhere.
    pub fn relink(&mut self, id: FileId, parent: FileId, name: Box<str>) {
        self.unlink(id);
        let Some(inode) = self.inodes.get_mut(&id) else { return };
        (inode.parent, inode.name) = (parent, name.clone());
        let usage = inode.usage();
        self.link(id, parent, name, usage);
    }

    /// Changes a file or folder in place.
    pub fn change(&mut self, id: FileId, change: impl FnOnce(&mut Inode)) {
        let Some(inode) = self.inodes.get_mut(&id) else { return };
        let before = inode.usage();
        change(inode);
        let (after, parent) = (inode.usage(), inode.parent);
        if before != after {
            self.add_up(parent, after, before);
        }
    }

    fn link(&mut self, id: FileId, parent: FileId, name: Box<str>, usage: Usage) {
        if let Some(Inode { node: Node::Folder(folder), .. }) = self.inodes.get_mut(&parent) {
            folder.children.insert(name, id);
            self.add_up(parent, usage, Usage::default());
        }
    }

    fn unlink(&mut self, id: FileId) {
        let Some(inode) = self.inodes.get(&id) else { return };
        let (parent, name, usage) = (inode.parent, inode.name.clone(), inode.usage());
        if let Some(Inode { node: Node::Folder(folder), .. }) = self.inodes.get_mut(&parent)
            && folder.children.get(&name) == Some(&id)
        {
            folder.children.remove(&name);
            self.add_up(parent, Usage::default(), usage);
        }
    }

    fn add_up(&mut self, folder: FileId, more: Usage, less: Usage) {
        let mut at = folder;
        while let Some(inode) = self.inodes.get_mut(&at) {
            if let Node::Folder(folder) = &mut inode.node {
                folder.usage.add(more);
                folder.usage.subtract(less);
            }
            if at == FileId::ROOT {
                return;
            }
            at = inode.parent;
        }
    }

    /// As it is stored.
    pub fn record(&self, id: FileId) -> Option<Record> {
        let inode = self.inodes.get(&id)?;
        let kind = match &inode.node {
            Node::Folder(folder) => Kind::Folder(folder.terms.clone()),
            Node::File(file) => Kind::File(file.clone()),
        };
        let (parent, name) = (inode.parent, inode.name.clone());
        Some(Record { id, parent, name, modified_ms: inode.modified_ms, kind })
    }

    /// What is in `folder`, with `recursive` at any depth: folders before what is in them, names in the order of their bytes, from
    /// behind `after`, a path in the folder, on. At most `limit`.
    pub fn list(
        &self,
        folder: FileId,
        path: &FsPath,
        after: Option<&FsPath>,
        recursive: bool,
        limit: usize,
    ) -> Vec<(FsPath, FileId)> {
        let after: Vec<&str> =
            after.map(|after| after.names().skip(path.names().count()).collect()).unwrap_or_default();
        let mut found = Vec::new();
        // Folders that are being walked: where they are, and the name to go on behind.
        let mut stack: Vec<(FsPath, FileId, Option<Box<str>>)> = Vec::new();
        let (mut at, mut at_path) = (folder, path.clone());
        for (depth, name) in after.iter().enumerate() {
            stack.push((at_path.clone(), at, Some((*name).into())));
            let last = depth + 1 == after.len();
            let child = self.inodes[&at].folder().and_then(|folder| folder.children.get(*name)).copied();
            let Some(child) = child.filter(|child| recursive && self.inodes[child].folder().is_some()) else { break };
            at_path = at_path.join(name);
            at = child;
            if last {
                stack.push((at_path.clone(), at, None));
            }
        }
        if after.is_empty() {
            stack.push((at_path, at, None));
        }
        while found.len() < limit
            && let Some((path, id, behind)) = stack.pop()
        {
            let Some(folder) = self.inodes[&id].folder() else { continue };
            let from = behind.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            for (name, child) in folder.children.range::<str, _>((from, Bound::Unbounded)) {
                let child_path = path.join(name);
                found.push((child_path.clone(), *child));
                let descend = recursive && self.inodes[child].folder().is_some();
                if descend || found.len() == limit {
                    stack.push((path.clone(), id, Some(name.clone())));
                    if descend {
                        stack.push((child_path, *child, None));
                    }
                    break;
                }
            }
        }
        found
    }
}
