//! The temporary folder of an embedded cluster without a named one: it goes with its process, however that ends.
//!
//! The process holds a lock on a file in it. The folder of a killed process is not locked, and the next embedded cluster removes it, together with files that
//! the process had staged elsewhere: the store in the folder lists them.

use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use windlass_scheduler::primary::leading::end_writes;

const PREFIX: &str = "windlass-";
const LOCK: &str = "process.lock";

/// Temporary folders of this process.
static OURS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

#[derive(Debug)]
pub struct Temporary {
    dir: Option<TempDir>,
    _lock: File,
}

impl Temporary {
    pub async fn new() -> io::Result<Temporary> {
        Temporary::in_folder(&std::env::temp_dir()).await
    }

    async fn in_folder(parent: &Path) -> io::Result<Temporary> {
        remove_abandoned(parent).await;
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        OURS.lock().insert(dir.path().to_path_buf());
        // The lock file gets its name after it is locked: nobody finds it before.
        let nameless = dir.path().join(".lock");
        let lock = File::create(&nameless)?;
        lock.try_lock()?;
        std::fs::rename(nameless, dir.path().join(LOCK))?;
        Ok(Temporary { dir: Some(dir), _lock: lock })
    }

    pub fn path(&self) -> &Path {
        // The folder exists until it is closed, which takes it.
        self.dir.as_ref().map_or(Path::new(""), TempDir::path)
    }

    pub fn close(mut self) -> io::Result<()> {
        OURS.lock().remove(self.path());
        self.dir.take().map_or(Ok(()), TempDir::close)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        OURS.lock().remove(self.path());
    }
}

/// Removes the folders of this process, which is about to end abruptly.
pub fn remove_all() {
    for folder in std::mem::take(&mut *OURS.lock()) {
        // Tasks may still write into the folder: a second try removes new files, and the next embedded cluster the rest.
        let _ = std::fs::remove_dir_all(&folder).or_else(|_| std::fs::remove_dir_all(&folder));
    }
}

/// Removes folders whose processes are gone. Best effort: they may be another user's.
async fn remove_abandoned(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let folder = entry.path();
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        // Other programs have folders of such names too, but without such a lock.
        let Some(lock) = is_ours.then(|| File::open(folder.join(LOCK)).ok()).flatten() else { continue };
        if lock.try_lock().is_ok() {
            if let Err(error) = end_writes(&folder.join(super::PRIMARY)).await {
                tracing::warn!(folder = %folder.display(), %error, "what a process that has ended had staged is not known");
            }
            match std::fs::remove_dir_all(&folder) {
                Ok(()) => tracing::info!(folder = %folder.display(), "removed what a process left that has ended"),
                Err(error) => tracing::debug!(folder = %folder.display(), %error, "what a process left stays"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let living = Temporary::in_folder(parent.path()).await.unwrap();
        let killed = Temporary::in_folder(parent.path()).await.unwrap();
        let left = killed.path().to_path_buf();
        std::fs::write(left.join("x"), "x").unwrap();
        // Like the kernel after a kill: the lock is gone, the folder remains.
        killed._lock.unlock().unwrap();
        std::mem::forget(killed);
        let foreign = parent.path().join("windlass-sink");
        std::fs::create_dir(&foreign).unwrap();
        let next = Temporary::in_folder(parent.path()).await.unwrap();
        assert!(!left.exists() && foreign.exists() && living.path().exists() && next.path().exists());
        let gone = living.path().to_path_buf();
        living.close().unwrap();
        assert!(!gone.exists());
        let ours = next.path().to_path_buf();
        remove_all();
        assert!(!ours.exists());
    }
}
