//! Targets of local output: a file beside its final name, or a direct write when the target is no regular file.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Maximum links to follow.
const LINKS: usize = 40;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A file with this name, after links are followed: it appears whole, or stays unchanged.
    File(PathBuf),
    /// A FIFO, a device, or an open file of a process: it is written directly.
    Straight,
}

/// Resolves `path`. A link stands for its target, which need not exist.
///
/// # Errors
/// `IsADirectory`; `NotFound`: it names nothing, for example `a/`; or links form a circle.
pub(crate) fn target(path: &Path) -> io::Result<Target> {
    let meta = fs::metadata(path);
    if let Ok(meta) = &meta {
        let kind = meta.file_type();
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if kind.is_fifo() || kind.is_char_device() || kind.is_block_device() || kind.is_socket() {
            return Ok(Target::Straight);
        }
    }
    let mut path = path.to_path_buf();
    for _ in 0..LINKS {
        if path.file_name().is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let Ok(to) = fs::read_link(&path) else { return Ok(Target::File(path)) };
        let folder = path.parent().map(real).unwrap_or_default();
        // A shell has opened this file for a process: its name may belong to another file by now.
        if folder.starts_with("/proc") && meta.is_ok() {
            return Ok(Target::Straight);
        }
        path = folder.join(to);
    }
    Err(io::Error::other("its links lead in a circle"))
}

/// The real path of a folder: `/dev/fd` leads to `/proc`.
fn real(folder: &Path) -> PathBuf {
    folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf())
}

/// Opens a target that is no regular file, for appending.
pub(crate) fn straight(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).open(path)
}

/// Opens a file for the content of `path`, beside it: its name with `.MIDDLE.END` appended. It is locked by this process while it is open. `keep` preserves its
/// present content. Files with other middles that no process writes any more are removed.
///
/// # Errors
/// `WouldBlock`: another process writes the file.
pub(crate) fn beside(path: &Path, middle: &str, end: &str, keep: bool) -> io::Result<(PathBuf, File)> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    let prefix = name.clone();
    name.push(format!("{middle}.{end}"));
    let temporary = path.with_file_name(&name);
    remove_left(path, &prefix, end, &name);
    loop {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&temporary)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, "another process is writing it"));
            }
            // The file system has no locks.
            Err(TryLockError::Error(_)) => {}
        }
        // A cleanup by another process may have removed the file before the lock.
        let same = |meta: fs::Metadata| {
            Ok::<_, io::Error>((meta.dev(), meta.ino()) == (file.metadata()?.dev(), file.metadata()?.ino()))
        };
        if fs::metadata(&temporary).and_then(same).unwrap_or(false) {
            if !keep {
                file.set_len(0)?;
            }
            return Ok((temporary, file));
        }
    }
}

/// Removes files beside `path` that a dead process has left. Best effort: they do no harm.
fn remove_left(path: &Path, prefix: &OsStr, end: &str, but: &OsStr) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let middle = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        let middle = middle.and_then(|rest| rest.strip_suffix(end.as_bytes())?.strip_suffix(b"."));
        let is_left = middle.is_some_and(|middle| !middle.is_empty() && middle.iter().all(u8::is_ascii_digit));
        if !is_left || name == but || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        if let Ok(file) = OpenOptions::new().read(true).write(true).open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_lead_to_files_and_devices_are_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("d/file"), b"old").unwrap();
        symlink("d/file", at("link")).unwrap();
        symlink("link", at("twice")).unwrap();
        symlink("d/none", at("dangling")).unwrap();
        symlink("round", at("round")).unwrap();
        symlink("/dev/null", at("null")).unwrap();
        assert_eq!(target(&at("link")).unwrap(), Target::File(at("d/file")));
        assert_eq!(target(&at("twice")).unwrap(), Target::File(at("d/file")));
        assert_eq!(target(&at("dangling")).unwrap(), Target::File(at("d/none")));
        assert_eq!(target(&at("new")).unwrap(), Target::File(at("new")));
        assert_eq!(target(&at("null")).unwrap(), Target::Straight);
        assert_eq!(target(Path::new("/dev/null")).unwrap(), Target::Straight);
        assert!(target(&at("round")).is_err());
        assert_eq!(target(&at("d")).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        let file = File::open(at("d/file")).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        assert_eq!(target(Path::new(&format!("/dev/fd/{fd}"))).unwrap(), Target::Straight);
    }

    #[test]
    fn what_dead_processes_left_goes_and_what_is_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let (written, _open) = beside(&path, "7", "partial", false).unwrap();
        assert_eq!(beside(&path, "7", "partial", false).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        for name in ["f.8.partial", "f.partial", "f.x.partial", "ff.8.partial"] {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        let (own, _mine) = beside(&path, "9", "partial", false).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        left.sort();
        let named = |name: &str| folder.path().join(name);
        assert_eq!(left, [written, own, named("f.partial"), named("f.x.partial"), named("ff.8.partial")]);
    }
}
