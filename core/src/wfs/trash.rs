//! The trash: what is removed and may be wanted back. Its folders are named after the minute, in milliseconds since 1970, in which what is
//! in them was removed.

use super::{Entry, FsError, FsPath, Namespace, Now, Output};
use crate::ids::FileId;
use std::time::Duration;

/// Where files go that are removed and may be wanted back.
pub const TRASH: &str = "/.trash";

impl Namespace {
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
        // Files that go within a minute lie together. The later of two with one path gets a name of its own.
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
}
