//! Replicas on one disk.
//!
//! ```text
//!   DIR/lock                   held by the process that uses them
//!   DIR/cluster                namespace of the replicas
//!   DIR/incoming/ID-X.block    a replica that is being written, by the attempt X, and ID-X.sums beside it
//!   DIR/replicas/XX/ID.block   a complete replica, and ID.sums: CRC32C of each 64 KiB, 4 bytes each, little-endian
//!   DIR/packs                  replicas of 64 KiB at most, many to a file
//! ```
//!
//! A complete replica got its name after both files were on the disk. Its intended length is not recorded here: a fault of the disk or the file system may have
//! made the file longer or shorter. The primary knows the length, and so does every reader; a longer file is cut back when its first bytes verify.

use super::packs::{PACKED_BYTES, Packed, Packs};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use windlass_connectors::wfs::CHECKSUM_BYTES;
use windlass_core::ids::BlockId;
use windlass_core::wfs::Block;
use windlass_engine::checksum::crc32c;
use windlass_proto::v1;

const CHUNK: u64 = CHECKSUM_BYTES as u64;

#[derive(Debug)]
pub(super) struct Disk {
    pub root: PathBuf,
    /// Lock that is held while the folder is used.
    _lock: File,
    buffers: Arc<Buffers>,
    packs: Arc<Packs>,
}

/// Reusable buffers for large reads: zeroing new memory each time costs as much as the read.
#[derive(Debug, Default)]
struct Buffers(Mutex<Vec<Vec<u8>>>);

/// Bytes that are read and verified at a time: they still fit in the processor's cache.
const STEP_BYTES: usize = 256 << 10;

/// Maximum buffers that wait for the next read, and the smallest buffer that is kept.
const BUFFERS: usize = 8;
const BUFFER_BYTES: usize = 256 << 10;

struct Lent {
    bytes: Vec<u8>,
    used: usize,
    from: Arc<Buffers>,
}

impl Buffers {
    fn lend(self: &Arc<Self>, used: usize) -> Lent {
        let waiting = if used < BUFFER_BYTES { None } else { self.0.lock().pop() };
        let mut bytes = waiting.unwrap_or_default();
        if bytes.len() < used {
            bytes.resize(used, 0);
        }
        Lent { bytes, used, from: self.clone() }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut waiting = self.from.0.lock();
        if self.bytes.len() >= BUFFER_BYTES && waiting.len() < BUFFERS {
            waiting.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Disk {
    /// Opens the folder, creates it if it is missing, and removes incomplete replicas.
    pub fn open(root: &Path) -> io::Result<Disk> {
        std::fs::create_dir_all(root)?;
        let lock = File::create(root.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::new(io::ErrorKind::ResourceBusy, "another executor is using it"),
            TryLockError::Error(error) => error,
        })?;
        let incoming = root.join("incoming");
        match std::fs::remove_dir_all(&incoming) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(&incoming)?;
        for folder in 0..=u8::MAX {
            std::fs::create_dir_all(root.join("replicas").join(format!("{folder:02x}")))?;
        }
        let packs = Arc::new(Packs::open(&root.join("packs"))?);
        Ok(Disk { root: root.to_path_buf(), _lock: lock, buffers: Arc::default(), packs })
    }

    /// The namespace that the replicas belong to; `None` before the first one.
    pub fn cluster(&self) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.root.join("cluster")) {
            Ok(cluster) => Ok(Some(cluster)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn set_cluster(&self, cluster: &[u8]) -> io::Result<()> {
        let mut file = File::create(self.root.join("cluster"))?;
        file.write_all(cluster)?;
        file.sync_all()?;
        sync_folder(&self.root)
    }

    /// Complete replicas, with the lengths of their files. Removes only files that were replaced: the primary decides about a replica whose length differs from
    /// its block's, or that has no checksums.
    pub fn scan(&self) -> io::Result<Vec<Block>> {
        let mut found = self.packs.blocks();
        for folder in 0..=u8::MAX {
            let folder = self.root.join("replicas").join(format!("{folder:02x}"));
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                let name = entry.file_name();
                let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".block")) else { continue };
                let Ok(id) = id.parse().map(BlockId) else { continue };
                match self.packs.read(id) {
                    Ok(Some(packed)) if packed.is_whole() => {
                        // The packed replica has replaced this one.
                        self.remove_files(id)?;
                        continue;
                    }
                    Ok(None) => {}
                    Ok(Some(_)) | Err(_) => {
                        self.packs.remove(id);
                        found.retain(|packed| packed.id != id);
                    }
                }
                found.push(Block { id, bytes: entry.metadata()?.len() });
            }
        }
        Ok(found)
    }

    /// Whether the whole replica verifies.
    pub fn is_whole(&self, block: Block) -> bool {
        let steps = (0..block.bytes).step_by(STEP_BYTES);
        let whole = |replica: Replica| {
            steps.into_iter().all(|at| replica.verified(at, (at + STEP_BYTES as u64).min(block.bytes)).is_ok())
        };
        self.replica(block).is_ok_and(whole)
    }

    /// Whether the disk is still there with its content.
    pub fn is_there(&self) -> bool {
        self.root.join("lock").exists()
    }

    /// Free bytes on the disk.
    pub fn free(&self) -> io::Result<u64> {
        Ok(self.space()?.1)
    }

    /// Size of the disk and its free bytes.
    pub fn space(&self) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::statvfs(&self.root)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok((bytes(stat.f_blocks), bytes(stat.f_bavail)))
    }

    pub fn begin(&self, id: BlockId) -> Incoming {
        // An earlier attempt at the same replica may not have removed its files yet, so each attempt has its own names.
        let token = uuid::Uuid::new_v4().simple();
        let [data, sums] =
            ["block", "sums"].map(|kind| self.root.join("incoming").join(format!("{}-{token}.{kind}", id.0)));
        let complete = (self.data(id), self.sums(id));
        let (small, packs) = (BytesMut::new(), self.packs.clone());
        Incoming { id, packs, small, files: None, incoming: (data, sums), complete, written: 0 }
    }

    /// Opens a replica of this length for reading. A longer file is cut back first.
    ///
    /// # Errors
    /// `InvalidData`: the file is shorter, or it is longer and its first bytes do not verify.
    pub fn replica(&self, block: Block) -> io::Result<Replica> {
        if let Some(replica) = self.open_replica(block)? {
            return Ok(replica);
        }
        self.salvage(block)?;
        let changes = || io::Error::new(io::ErrorKind::InvalidData, "its length changes while it is read");
        self.open_replica(block)?.ok_or_else(changes)
    }

    /// Opens the replica's files; `None` when their length differs.
    fn open_replica(&self, block: Block) -> io::Result<Option<Replica>> {
        let stored = match self.packs.read(block.id)? {
            Some(packed) => Stored::Packed(packed),
            None => Stored::Files {
                data: open_file(&self.data(block.id), false)?,
                sums: open_file(&self.sums(block.id), false)?,
            },
        };
        let fits = match &stored {
            Stored::Packed(packed) => packed.data.len() as u64 == block.bytes,
            Stored::Files { data, sums } => {
                data.metadata()?.len() == block.bytes && sums.metadata()?.len() == block.bytes.div_ceil(CHUNK) * 4
            }
        };
        Ok(fits.then(|| Replica { stored, bytes: block.bytes, buffers: self.buffers.clone() }))
    }

    /// Makes a replica of this length from what is there, if its first bytes verify. Durable when this returns.
    ///
    /// # Errors
    /// `InvalidData`, `UnexpectedEof`, `NotFound`: the bytes do not verify, or some are missing.
    pub fn salvage(&self, block: Block) -> io::Result<()> {
        let Block { id, bytes } = block;
        if let Some(packed) = self.packs.read(id)? {
            if !packed.is_whole() {
                return Err(damaged_end());
            }
            return match packed.data.len() as u64 {
                length if length == bytes => Ok(()),
                length if length < bytes => Err(wrong_length(length, bytes)),
                _ => self.truncate(id, bytes),
            };
        }
        let (data, sums) = (open_file(&self.data(id), true)?, open_file(&self.sums(id), true)?);
        let length = data.metadata()?.len();
        if length < bytes {
            return Err(wrong_length(length, bytes));
        }
        // The last 64 KiB are verified where they are cut.
        let (mut at, whole) = (0, bytes / CHUNK * CHUNK);
        while at < whole {
            let mut chunks = vec![0; STEP_BYTES.min((whole - at) as usize)];
            data.read_exact_at(&mut chunks, at)?;
            verify_chunks(at, &chunks, &read_sums(&sums, at, chunks.len())?)?;
            at += chunks.len() as u64;
        }
        cut(&data, &sums, bytes)?;
        sums.sync_all()?;
        data.sync_all()
    }

    /// Moves a replica out of the way at once, so that another may take its place. The returned paths are to be removed later.
    pub fn set_aside(&self, id: BlockId) -> io::Result<Vec<PathBuf>> {
        if self.packs.remove(id) {
            return Ok(Vec::new());
        }
        let token = uuid::Uuid::new_v4().simple();
        let aside = ["block", "sums"].map(|kind| self.root.join("incoming").join(format!("{token}.{kind}")));
        let aside = Vec::from(aside);
        for (from, to) in [self.data(id), self.sums(id)].iter().zip(&aside) {
            match std::fs::rename(from, to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(aside)
    }

    pub fn remove(&self, id: BlockId) -> io::Result<()> {
        if self.packs.remove(id) { Ok(()) } else { self.remove_files(id) }
    }

    /// Rewrites packs that consist mostly of removed replicas.
    pub fn compact(&self) -> io::Result<()> {
        self.packs.compact()
    }

    fn remove_files(&self, id: BlockId) -> io::Result<()> {
        for path in [self.data(id), self.sums(id)] {
            match remove_path(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Shortens a complete replica.
    pub fn truncate(&self, id: BlockId, bytes: u64) -> io::Result<()> {
        if let Some(packed) = self.packs.read(id)? {
            if !packed.is_whole() {
                return Err(damaged_end());
            }
            let left = packed.data.get(..bytes as usize).unwrap_or(&packed.data);
            return self.packs.put(id, left, crc32c(left));
        }
        let (data, sums) = (open_file(&self.data(id), true)?, open_file(&self.sums(id), true)?);
        cut(&data, &sums, bytes)?;
        sums.sync_all()?;
        data.sync_all()
    }

    fn data(&self, id: BlockId) -> PathBuf {
        self.file(id, "block")
    }

    fn sums(&self, id: BlockId) -> PathBuf {
        self.file(id, "sums")
    }

    fn file(&self, id: BlockId, kind: &str) -> PathBuf {
        self.root.join("replicas").join(format!("{:02x}", id.0 as u8)).join(format!("{}.{kind}", id.0))
    }
}

/// A replica that is being written. Drop removes all of it.
#[derive(Debug)]
pub(super) struct Incoming {
    id: BlockId,
    packs: Arc<Packs>,
    /// All its bytes so far, while it may still fit in a pack.
    small: BytesMut,
    files: Option<(File, File)>,
    incoming: (PathBuf, PathBuf),
    complete: (PathBuf, PathBuf),
    pub written: u64,
}

impl Incoming {
    /// Appends the next bytes, which must be verified.
    pub fn write(&mut self, piece: &v1::BlockData) -> io::Result<()> {
        if piece.offset != self.written || !self.written.is_multiple_of(CHUNK) {
            let reason = format!("bytes from {} on came in place of {}", piece.offset, self.written);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        if self.files.is_none() && self.written + piece.data.len() as u64 <= PACKED_BYTES {
            self.small.extend_from_slice(&piece.data);
            self.written += piece.data.len() as u64;
            return Ok(());
        }
        let at = self.written;
        let (data, sums) = self.files()?;
        let checksums: Vec<u8> = piece.checksums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        sums.write_all_at(&checksums, at / CHUNK * 4)?;
        data.write_all_at(&piece.data, at)?;
        self.written += piece.data.len() as u64;
        Ok(())
    }

    /// Returns the files, which hold everything that has come so far.
    fn files(&mut self) -> io::Result<&(File, File)> {
        let files = match self.files.take() {
            Some(files) => files,
            None => {
                let create =
                    |path: &Path| OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
                let files = (create(&self.incoming.0)?, create(&self.incoming.1)?);
                if !self.small.is_empty() {
                    files.1.write_all_at(&crc32c(&self.small).to_le_bytes(), 0)?;
                    files.0.write_all_at(&self.small, 0)?;
                    self.small = BytesMut::new();
                }
                files
            }
        };
        Ok(self.files.insert(files))
    }

    /// Another handle to the data, to sync written bytes while more arrive.
    pub fn data(&mut self) -> io::Result<File> {
        self.files()?.0.try_clone()
    }

    /// Completes the replica with this many bytes. Durable when this returns.
    pub fn finish(mut self, bytes: u64) -> io::Result<()> {
        if bytes > self.written {
            let reason = format!("the replica has {} bytes, and not {bytes}", self.written);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let Some((data, sums)) = &self.files else {
            let small = &self.small[..bytes as usize];
            return self.packs.put(self.id, small, crc32c(small));
        };
        cut(data, sums, bytes)?;
        sums.sync_all()?;
        data.sync_all()?;
        take_place(&self.incoming.1, &self.complete.1)?;
        take_place(&self.incoming.0, &self.complete.0)?;
        self.files = None;
        self.packs.remove(self.id);
        self.complete.0.parent().map_or(Ok(()), sync_folder)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.files.is_some() {
            // A file that cannot be removed now is removed at the next start.
            let _ = std::fs::remove_file(&self.incoming.0);
            let _ = std::fs::remove_file(&self.incoming.1);
        }
    }
}

/// A complete replica, open.
#[derive(Debug)]
pub(super) struct Replica {
    stored: Stored,
    pub bytes: u64,
    buffers: Arc<Buffers>,
}

#[derive(Debug)]
enum Stored {
    Files { data: File, sums: File },
    Packed(Packed),
}

impl Replica {
    /// Stored bytes and checksums around a range, from a multiple of 64 KiB to another one or to the end.
    pub fn piece(&self, start: u64, end: u64) -> io::Result<v1::BlockData> {
        self.load(start, end, false)
    }

    /// Stored bytes and checksums around a range, verified.
    pub fn verified(&self, start: u64, end: u64) -> io::Result<v1::BlockData> {
        self.load(start, end, true)
    }

    fn load(&self, start: u64, end: u64, verified: bool) -> io::Result<v1::BlockData> {
        let offset = start / CHUNK * CHUNK;
        let end = end.div_ceil(CHUNK).saturating_mul(CHUNK).min(self.bytes);
        let (stored, sums_file) = match &self.stored {
            Stored::Files { data, sums } => (data, sums),
            Stored::Packed(Packed { data, crc }) => {
                let checksums = if data.is_empty() { vec![] } else { vec![*crc] };
                if verified {
                    verify_chunks(offset, data, &checksums)?;
                }
                return Ok(v1::BlockData { offset, data: Bytes::copy_from_slice(data), checksums });
            }
        };
        let mut data = self.buffers.lend(end.saturating_sub(offset) as usize);
        let used = data.used;
        let checksums = read_sums(sums_file, offset, used)?;
        let steps = data.bytes[..used].chunks_mut(STEP_BYTES).zip(checksums.chunks(STEP_BYTES / CHECKSUM_BYTES));
        for (step, (bytes, checksums)) in steps.enumerate() {
            let at = offset + (step * STEP_BYTES) as u64;
            stored.read_exact_at(bytes, at)?;
            if verified {
                verify_chunks(at, bytes, checksums)?;
            }
        }
        Ok(v1::BlockData { offset, data: Bytes::from_owner(data), checksums })
    }

    /// The first of these bytes that verify, and the error of those behind them. Fails when none verify.
    pub fn read_some(&self, start: u64, end: u64) -> io::Result<(Bytes, Option<io::Error>)> {
        match self.read(start, end) {
            Ok(bytes) => Ok((bytes, None)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let ends = std::iter::successors(Some(start), |at| Some((at / CHUNK + 1) * CHUNK));
                let mut starts = ends.take_while(|at| *at < end);
                let is_bad = |at: &u64| self.verified(*at, (at / CHUNK + 1) * CHUNK).is_err();
                match starts.find(is_bad).filter(|bad| *bad > start) {
                    Some(bad) => Ok((self.read(start, bad)?, Some(error))),
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Exactly these bytes, verified.
    pub fn read(&self, start: u64, end: u64) -> io::Result<Bytes> {
        let piece = self.verified(start, end)?;
        let from = (start - piece.offset) as usize;
        Ok(piece.data.slice(from..from + (end - start) as usize))
    }
}

/// Renames `from` to `to` and replaces whatever is there, even a folder.
fn take_place(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(_) if to.is_dir() => {
            std::fs::remove_dir_all(to)?;
            std::fs::rename(from, to)
        }
        outcome => outcome,
    }
}

/// Removes a file, or a folder in its place.
pub(super) fn remove_path(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(_) if path.is_dir() => std::fs::remove_dir_all(path),
        outcome => outcome,
    }
}

fn verify_chunks(offset: u64, data: &[u8], checksums: &[u32]) -> io::Result<()> {
    let chunks = data.chunks(CHECKSUM_BYTES);
    match chunks.zip(checksums).position(|(chunk, checksum)| crc32c(chunk) != *checksum) {
        None => Ok(()),
        Some(chunk) => {
            let at = offset + (chunk * CHECKSUM_BYTES) as u64;
            let reason = format!("the bytes from {at} on are not those that were written");
            Err(io::Error::new(io::ErrorKind::InvalidData, reason))
        }
    }
}

/// Checksums of this many bytes from an offset on.
fn read_sums(sums: &File, offset: u64, bytes: usize) -> io::Result<Vec<u32>> {
    let mut stored = vec![0; bytes.div_ceil(CHECKSUM_BYTES) * 4];
    sums.read_exact_at(&mut stored, offset / CHUNK * 4)?;
    Ok(stored.as_chunks::<4>().0.iter().map(|sum| u32::from_le_bytes(*sum)).collect())
}

/// Cuts a replica to this length. The checksum of the last 64 KiB is replaced by that of the remaining part.
fn cut(data: &File, sums: &File, bytes: u64) -> io::Result<()> {
    let length = data.metadata()?.len();
    if length == bytes && sums.metadata()?.len() == bytes.div_ceil(CHUNK) * 4 {
        return Ok(());
    }
    let rest = bytes % CHUNK;
    if rest > 0 {
        let at = bytes - rest;
        let mut chunk = vec![0; (length - at).min(CHUNK) as usize];
        data.read_exact_at(&mut chunk, at)?;
        let sum = read_sums(sums, at, rest as usize)?;
        let left = crc32c(&chunk[..rest as usize]);
        // The stored sum may cover more bytes than are to be left, or exactly those when bytes were added behind them.
        if sum != [left] {
            if sum != [crc32c(&chunk)] {
                return Err(damaged_end());
            }
            sums.write_all_at(&left.to_le_bytes(), at / CHUNK * 4)?;
        }
    }
    sums.set_len(bytes.div_ceil(CHUNK) * 4)?;
    data.set_len(bytes)
}

/// # Errors
/// `InvalidData`: the path is not a regular file.
fn open_file(path: &Path, write: bool) -> io::Result<File> {
    let no_file = || io::Error::new(io::ErrorKind::InvalidData, "something that is no file has taken its place");
    // Folders are not opened, and FIFOs are not waited for.
    if !std::fs::metadata(path)?.is_file() {
        return Err(no_file());
    }
    OpenOptions::new().read(true).write(write).open(path)
}

fn wrong_length(length: u64, wanted: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it has {length} bytes, and not {wanted}"))
}

fn damaged_end() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its last bytes are not those that were written")
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, data: &[u8]) -> v1::BlockData {
        let checksums = data.chunks(CHECKSUM_BYTES).map(crc32c).collect();
        v1::BlockData { offset, data: Bytes::copy_from_slice(data), checksums }
    }

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    #[test]
    fn a_replica_is_there_when_it_is_complete_and_as_long_as_it_was_closed() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        let all = text(3 * CHECKSUM_BYTES + 100);
        for (id, bytes) in [(1, all.len()), (2, 2 * CHECKSUM_BYTES), (3, CHECKSUM_BYTES + 17), (4, 0)] {
            let mut incoming = disk.begin(BlockId(id));
            incoming.write(&piece(0, &all[..2 * CHECKSUM_BYTES])).unwrap();
            incoming.write(&piece(2 * CHUNK, &all[2 * CHECKSUM_BYTES..])).unwrap();
            assert!(disk.scan().unwrap().iter().all(|block| block.id != BlockId(id)));
            incoming.finish(bytes as u64).unwrap();
            let block = Block { id: BlockId(id), bytes: bytes as u64 };
            assert!(disk.scan().unwrap().contains(&block));
            let replica = disk.replica(block).unwrap();
            assert_eq!(replica.read(0, block.bytes).unwrap(), all[..bytes]);
            if bytes > 70_000 {
                assert_eq!(replica.read(65_530, 65_540).unwrap(), all[65_530..65_540]);
            }
        }
        // One replica that was given up, and one that a dead process left.
        drop(disk.begin(BlockId(9)));
        std::mem::forget(disk.begin(BlockId(10)));
        assert!(Disk::open(folder.path()).unwrap_err().to_string().contains("another executor"));
        drop(disk);
        let disk = Disk::open(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path().join("incoming")).unwrap().count(), 0);
        disk.truncate(BlockId(1), 70_000).unwrap();
        let block = Block { id: BlockId(1), bytes: 70_000 };
        assert_eq!(disk.replica(block).unwrap().read(0, 70_000).unwrap(), all[..70_000]);
        disk.remove(BlockId(1)).unwrap();
        disk.remove(BlockId(1)).unwrap();
        assert_eq!(disk.scan().unwrap().len(), 3);
    }

    /// A copy from the next holder begins before the failed copy from the first holder has removed its files.
    #[test]
    fn an_attempt_that_ends_late_takes_nothing_of_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        let late = disk.begin(BlockId(1));
        let mut next = disk.begin(BlockId(1));
        next.write(&piece(0, &[7; 100])).unwrap();
        drop(late);
        next.finish(100).unwrap();
        assert_eq!(disk.scan().unwrap(), [Block { id: BlockId(1), bytes: 100 }]);
        assert_eq!(std::fs::read_dir(folder.path().join("incoming")).unwrap().count(), 0);
    }

    #[test]
    fn what_verifies_is_read_up_to_what_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        let mut all = text(4 * CHECKSUM_BYTES);
        let block = Block { id: BlockId(1), bytes: all.len() as u64 };
        let mut incoming = disk.begin(block.id);
        incoming.write(&piece(0, &all)).unwrap();
        incoming.finish(block.bytes).unwrap();
        all[2 * CHECKSUM_BYTES + 7] ^= 1;
        std::fs::write(disk.data(block.id), &all).unwrap();
        let replica = disk.replica(block).unwrap();
        let (read, wrong) = replica.read_some(10, block.bytes).unwrap();
        assert_eq!(read, all[10..2 * CHECKSUM_BYTES]);
        assert_eq!(wrong.unwrap().kind(), io::ErrorKind::InvalidData);
        assert!(replica.read_some(2 * CHUNK, block.bytes).is_err());
        let (read, wrong) = replica.read_some(3 * CHUNK, block.bytes).unwrap();
        assert!(read == all[3 * CHECKSUM_BYTES..] && wrong.is_none());
    }

    /// Whatever made the folder: it counts as one damaged replica, and the next one replaces it.
    #[test]
    fn a_folder_in_the_place_of_a_replica_is_a_damaged_one() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        let all = text(2 * CHECKSUM_BYTES);
        let block = Block { id: BlockId(1), bytes: all.len() as u64 };
        std::fs::create_dir_all(disk.data(block.id).join("inside")).unwrap();
        std::fs::create_dir_all(disk.sums(block.id)).unwrap();
        assert_eq!(disk.scan().unwrap().len(), 1);
        assert_eq!(disk.replica(block).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(disk.salvage(block).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let mut incoming = disk.begin(block.id);
        incoming.write(&piece(0, &all)).unwrap();
        incoming.finish(block.bytes).unwrap();
        assert_eq!(disk.replica(block).unwrap().read(0, block.bytes).unwrap(), all);
        std::fs::remove_file(disk.data(block.id)).unwrap();
        std::fs::create_dir_all(disk.data(block.id).join("inside")).unwrap();
        disk.remove(block.id).unwrap();
        assert_eq!(disk.scan().unwrap(), []);
    }

    #[test]
    fn any_byte_that_changed_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        let all = text(CHECKSUM_BYTES + 1_000);
        let block = Block { id: BlockId(1), bytes: all.len() as u64 };
        let mut incoming = disk.begin(block.id);
        incoming.write(&piece(0, &all)).unwrap();
        incoming.finish(block.bytes).unwrap();
        for (path, at) in [(disk.data(block.id), 0), (disk.data(block.id), 66_000), (disk.sums(block.id), 5)] {
            let before = std::fs::read(&path).unwrap();
            let mut changed = before.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            let replica = disk.replica(block).unwrap();
            assert_eq!(replica.read(0, block.bytes).unwrap_err().kind(), io::ErrorKind::InvalidData);
            std::fs::write(&path, &before).unwrap();
            assert_eq!(replica.read(0, block.bytes).unwrap(), all);
        }
        // A replica with missing checksums stays, and cannot be read.
        std::fs::write(disk.sums(block.id), b"1234").unwrap();
        assert_eq!(disk.scan().unwrap(), [block]);
        assert!(disk.replica(block).is_err() && !disk.is_whole(block));
    }

    /// Whatever follows the bytes of a replica: its own bytes are read, and the rest is cut off.
    #[test]
    fn a_replica_that_became_longer_is_cut_back() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        let append = |path: &Path, more: usize| {
            let mut file = OpenOptions::new().append(true).open(path).unwrap();
            file.write_all(&vec![7; more]).unwrap();
        };
        let mut id = 0;
        for bytes in [2 * CHECKSUM_BYTES, 2 * CHECKSUM_BYTES + 1_000] {
            for (more, more_sums) in [(1, 0), (1_000, 0), (100_000, 0), (100_000, 8), (0, 4), (0, 3)] {
                id += 1;
                let block = Block { id: BlockId(id), bytes: bytes as u64 };
                let all = text(bytes);
                let mut incoming = disk.begin(block.id);
                incoming.write(&piece(0, &all)).unwrap();
                incoming.finish(block.bytes).unwrap();
                append(&disk.data(block.id), more);
                append(&disk.sums(block.id), more_sums);
                // The next start sees the length, and throws nothing away.
                let longer = Block { bytes: block.bytes + more as u64, ..block };
                assert!(disk.scan().unwrap().contains(&longer));
                assert_eq!(disk.replica(block).unwrap().read(0, block.bytes).unwrap(), all, "{bytes} and {more}");
                assert!(disk.scan().unwrap().contains(&block) && disk.is_whole(block));
                assert_eq!(std::fs::metadata(disk.data(block.id)).unwrap().len(), block.bytes);
                assert_eq!(
                    std::fs::metadata(disk.sums(block.id)).unwrap().len(),
                    12 - 4 * u64::from(bytes % CHECKSUM_BYTES == 0)
                );
            }
        }
        // A replica whose own bytes are wrong is not cut.
        let block = Block { id: BlockId(1), bytes: 2 * CHUNK };
        let mut stored = text(2 * CHECKSUM_BYTES + 50);
        stored[5] ^= 1;
        std::fs::write(disk.data(block.id), &stored).unwrap();
        assert_eq!(disk.salvage(block).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(std::fs::read(disk.data(block.id)).unwrap(), stored);
        // Nor is one that is shorter or empty.
        for left in [CHUNK, 0] {
            std::fs::write(disk.data(block.id), text(left as usize)).unwrap();
            assert_eq!(disk.replica(block).unwrap_err().kind(), io::ErrorKind::InvalidData);
            assert!(disk.scan().unwrap().contains(&Block { bytes: left, ..block }));
        }
    }
}
