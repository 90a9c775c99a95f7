//! The file tier: writes outputs to disk and finds their parts again.

use super::budget::{DiskBudget, DiskLease};
use super::format::{self, INDEX_ENTRY, INDEX_HEADER, IndexEntry, IndexHead, OutputHead, Total};
use super::io::IoPool;
use super::ipc::Encoder;
use super::{BucketSel, ExchangeError};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use windlass_core::ids::AttemptId;

const DATA: &str = "wxdata";
const INDEX: &str = "wxindex";
const TEMPORARY: &str = "wxtemp";
/// Encoded bytes are written in portions of about this many bytes.
const WRITE_BYTES: usize = 1 << 20;

/// The directory of the store. Files in it are named after the attempt: job, stage, partition, attempt.
pub(super) struct Directory {
    path: PathBuf,
    disk: Arc<DiskBudget>,
    /// Distinguishes temporary files of the same attempt.
    temporaries: AtomicU64,
}

impl Directory {
    /// Creates the directory if it is missing, and removes files of an earlier process.
    pub(super) fn open(path: PathBuf, disk: Arc<DiskBudget>) -> Result<Self, ExchangeError> {
        let clean = || -> io::Result<()> {
            fs::create_dir_all(&path)?;
            for entry in fs::read_dir(&path)? {
                let file = entry?.path();
                let extension = file.extension().and_then(|extension| extension.to_str());
                if extension.is_some_and(|extension| [DATA, INDEX, TEMPORARY].contains(&extension)) {
                    fs::remove_file(&file)?;
                }
            }
            Ok(())
        };
        clean().map_err(|source| ExchangeError::io(None, "open the exchange directory", &path, source))?;
        Ok(Directory { path, disk, temporaries: AtomicU64::new(0) })
    }

    fn file(&self, output: AttemptId, suffix: &str) -> PathBuf {
        let (task, stage) = (output.task, output.stage());
        let name = format!("{}-{}-{}-{}.{suffix}", stage.job, stage.index, task.partition, output.attempt);
        self.path.join(name)
    }

    fn draft(&self, output: AttemptId) -> Result<Draft, ExchangeError> {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let path = self.file(output, &format!("{number}.{TEMPORARY}"));
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(|source| ExchangeError::io(Some(output), "create", &path, source))?;
        Ok(Draft { output, file, owned: OwnedFile { path, len: 0, lease: self.disk.lease() } })
    }
}

/// A file that is deleted when this is dropped.
struct OwnedFile {
    path: PathBuf,
    len: u64,
    lease: DiskLease,
}

impl Drop for OwnedFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(
                "cannot remove exchange file {}, it stays until this executor starts again: {error}",
                self.path.display()
            );
        }
    }
}

/// A file that is being written under a temporary name.
struct Draft {
    output: AttemptId,
    file: File,
    owned: OwnedFile,
}

impl Draft {
    fn write(&mut self, bytes: &[u8]) -> Result<(), ExchangeError> {
        self.reserve(bytes.len() as u64)?;
        self.file.write_all(bytes).map_err(|source| self.failed("write", source))
    }

    /// Appends a range of another draft, byte for byte.
    fn append(&mut self, from: &mut Draft, range: Range<u64>) -> Result<(), ExchangeError> {
        let len = range.end - range.start;
        self.reserve(len)?;
        let copied = from.file.seek(SeekFrom::Start(range.start)).and_then(|_| {
            let mut part = Read::take(&from.file, len);
            io::copy(&mut part, &mut self.file)
        });
        match copied {
            Ok(copied) if copied == len => Ok(()),
            Ok(_) => Err(from.failed("read back", io::ErrorKind::UnexpectedEof.into())),
            Err(source) => Err(self.failed("write", source)),
        }
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), ExchangeError> {
        self.owned.lease.grow(bytes).map_err(|limit| ExchangeError::DiskFull {
            path: self.owned.path.clone(),
            detail: format!("the exchange's disk budget of {limit} bytes is used up"),
        })?;
        self.owned.len += bytes;
        Ok(())
    }

    fn publish(mut self, path: PathBuf) -> Result<OwnedFile, ExchangeError> {
        fs::rename(&self.owned.path, &path).map_err(|source| self.failed("rename", source))?;
        self.owned.path = path;
        Ok(self.owned)
    }

    fn failed(&self, action: &'static str, source: io::Error) -> ExchangeError {
        ExchangeError::io(Some(self.output), action, &self.owned.path, source)
    }
}

/// An output on its way to the file tier: blocks of all buckets, already encoded, in the order in which they came. Finishing puts the bytes of each bucket
/// together; if they already are, the run itself becomes the data file.
pub(super) struct Run {
    directory: Arc<Directory>,
    head: OutputHead,
    schema: SchemaRef,
    encoder: Encoder,
    draft: Draft,
    preamble: u64,
    buckets: Vec<RunBucket>,
    /// The last bucket appended to.
    last: u32,
    /// Whether buckets were appended to in ascending order only.
    in_order: bool,
}

#[derive(Clone, Default)]
struct RunBucket {
    /// Positions of the bucket's frames, in the order in which they are read.
    extents: Vec<Range<u64>>,
    total: Total,
}

impl Run {
    pub(super) fn create(
        directory: Arc<Directory>,
        head: OutputHead,
        schema: SchemaRef,
        mut encoder: Encoder,
    ) -> Result<Self, ExchangeError> {
        let mut draft = directory.draft(head.output)?;
        let mut preamble = Vec::new();
        encoder.preamble(&mut preamble)?;
        draft.write(&preamble)?;
        let buckets = vec![RunBucket::default(); head.buckets as usize];
        Ok(Run { directory, head, schema, encoder, preamble: draft.owned.len, draft, buckets, last: 0, in_order: true })
    }

    pub(super) fn append(&mut self, blocks: impl IntoIterator<Item = (u32, RecordBatch)>) -> Result<(), ExchangeError> {
        let mut encoded = Vec::new();
        for (number, block) in blocks {
            let start = self.draft.owned.len + encoded.len() as u64;
            let total = self.encoder.batch(&mut encoded, number, &block)?;
            let end = self.draft.owned.len + encoded.len() as u64;
            let bucket = &mut self.buckets[number as usize];
            bucket.total += total;
            match bucket.extents.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => bucket.extents.push(start..end),
            }
            self.in_order &= number >= self.last;
            self.last = number;
            if encoded.len() >= WRITE_BYTES {
                self.draft.write(&encoded)?;
                encoded.clear();
            }
        }
        self.draft.write(&encoded)
    }

    pub(super) fn finish(self, io: Arc<IoPool>) -> Result<FileOutput, ExchangeError> {
        let (directory, schema) = (Arc::clone(&self.directory), Arc::clone(&self.schema));
        let (head, preamble) = (self.head, self.preamble);
        let mut entries = Vec::with_capacity(self.buckets.len());
        let mut offset = preamble;
        let mut all = Total::default();
        for bucket in &self.buckets {
            let len = bucket.extents.iter().map(|extent| extent.end - extent.start).sum();
            entries.push(IndexEntry { offset, len, total: bucket.total });
            offset += len;
            all += bucket.total;
        }
        let mut data = self.into_bucket_order()?;
        let mut end = Vec::new();
        format::write_output_end(&mut end, BucketSel::All, all);
        data.write(&end)?;

        let data_len = data.owned.len;
        let mut index = IndexHead { output: head.output, buckets: head.buckets, preamble, data_len }.encode();
        for (bucket, entry) in (0..).zip(&entries) {
            index.extend_from_slice(&entry.encode(bucket));
        }
        let mut index_draft = directory.draft(head.output)?;
        index_draft.write(&index)?;

        let index = index_draft.publish(directory.file(head.output, INDEX))?;
        let data = data.publish(directory.file(head.output, DATA))?;
        Ok(FileOutput { head, schema, data_len, owned: Some((data, index)), io })
    }

    fn into_bucket_order(mut self) -> Result<Draft, ExchangeError> {
        if self.in_order {
            return Ok(self.draft);
        }
        let mut data = self.directory.draft(self.head.output)?;
        data.append(&mut self.draft, 0..self.preamble)?;
        for extent in self.buckets.iter().flat_map(|bucket| &bucket.extents) {
            data.append(&mut self.draft, extent.clone())?;
        }
        Ok(data)
    }
}

/// Byte ranges of a data file, and the end that must be added if they do not include one.
type Located = (Vec<Range<u64>>, Option<(BucketSel, Total)>);

/// A finished output in the file tier. An I/O thread deletes its files when nobody uses it any more.
pub(super) struct FileOutput {
    pub head: OutputHead,
    pub schema: SchemaRef,
    data_len: u64,
    /// Data file and index; `None` only while being dropped.
    owned: Option<(OwnedFile, OwnedFile)>,
    io: Arc<IoPool>,
}

impl Drop for FileOutput {
    fn drop(&mut self) {
        let owned = self.owned.take();
        self.io.detach(move || drop(owned));
    }
}

impl FileOutput {
    /// The frames of the selected buckets, which must be read on an I/O thread.
    pub(super) fn open(self: &Arc<Self>, select: BucketSel) -> Result<FileFrames, ExchangeError> {
        let Some((data, index)) = &self.owned else {
            return Err(ExchangeError::Missing { output: self.head.output });
        };
        let (parts, end) = self.locate(&index.path, select)?;
        let file = File::open(&data.path).map_err(|source| self.unreadable(&data.path, source))?;
        Ok(FileFrames { output: Arc::clone(self), file, parts, at: 0, end })
    }

    /// Finds the selection in the index.
    fn locate(&self, path: &Path, select: BucketSel) -> Result<Located, ExchangeError> {
        let corrupt = |detail: String| ExchangeError::corrupt(self.head.output, detail);
        let mut file = File::open(path).map_err(|source| self.unreadable(path, source))?;
        let head = IndexHead::decode(&self.read_array(&mut file, path)?).map_err(corrupt)?;
        let preamble = head.preamble;
        if (OutputHead { output: head.output, buckets: head.buckets }, head.data_len) != (self.head, self.data_len) {
            return Err(corrupt("the index is not the one that was written".to_owned()));
        }
        match select {
            BucketSel::All => {
                for bucket in 0..head.buckets {
                    IndexEntry::decode(&self.read_array(&mut file, path)?, bucket).map_err(corrupt)?;
                }
                Ok((vec![0..preamble, preamble..head.data_len], None))
            }
            BucketSel::One(bucket) => {
                let position = INDEX_HEADER as u64 + u64::from(bucket) * INDEX_ENTRY as u64;
                file.seek(SeekFrom::Start(position)).map_err(|source| self.unreadable(path, source))?;
                let entry = IndexEntry::decode(&self.read_array(&mut file, path)?, bucket).map_err(corrupt)?;
                match entry.offset.checked_add(entry.len) {
                    Some(end) if end <= head.data_len => {
                        Ok((vec![0..preamble, entry.offset..end], Some((select, entry.total))))
                    }
                    _ => Err(corrupt(format!("bucket {bucket} lies outside of the data file"))),
                }
            }
        }
    }

    fn read_array<const N: usize>(&self, file: &mut File, path: &Path) -> Result<[u8; N], ExchangeError> {
        let mut bytes = [0; N];
        file.read_exact(&mut bytes).map_err(|source| self.unreadable(path, source))?;
        Ok(bytes)
    }

    fn unreadable(&self, path: &Path, source: io::Error) -> ExchangeError {
        let output = self.head.output;
        match source.kind() {
            io::ErrorKind::NotFound => ExchangeError::Missing { output },
            io::ErrorKind::UnexpectedEof => ExchangeError::corrupt(output, format!("{} is cut short", path.display())),
            _ => ExchangeError::io(Some(output), "read", path, source),
        }
    }
}

/// The stored frames of some buckets of one output.
pub(super) struct FileFrames {
    /// Keeps the files alive.
    output: Arc<FileOutput>,
    file: File,
    parts: Vec<Range<u64>>,
    /// The current part.
    at: usize,
    end: Option<(BucketSel, Total)>,
}

impl FileFrames {
    /// Appends frames until `out` has `want` bytes, which may cut a frame. Returns false when there are no more.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>, want: usize) -> Result<bool, ExchangeError> {
        while let Some(part) = self.parts.get_mut(self.at) {
            let room = want.saturating_sub(out.len()) as u64;
            if room == 0 {
                return Ok(true);
            }
            let len = room.min(part.end - part.start);
            let start = part.start;
            part.start += len;
            if part.start == part.end {
                self.at += 1;
            }
            let read = self.file.seek(SeekFrom::Start(start)).and_then(|_| {
                out.reserve(len as usize);
                Read::take(&self.file, len).read_to_end(out)
            });
            let failed = match read {
                Ok(read) if read as u64 == len => continue,
                Ok(_) => io::ErrorKind::UnexpectedEof.into(),
                Err(source) => source,
            };
            let path = self.output.owned.as_ref().map(|(data, _)| data.path.as_path()).unwrap_or(Path::new(""));
            return Err(self.output.unreadable(path, failed));
        }
        if let Some((select, total)) = self.end.take() {
            format::write_output_end(out, select, total);
        }
        Ok(false)
    }
}
