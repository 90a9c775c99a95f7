//! The store: the outputs of this process and the tier of each.

use super::budget::{DiskBudget, MemoryBudget, MemoryLease};
use super::files::{Directory, FileOutput, Run};
use super::format::OutputHead;
use super::io::{self, IoPool};
use super::ipc::Encoder;
use super::read::{OutputStream, ServeCursor};
use super::{BucketSel, ExchangeError, MapOutputWriter};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use futures::Stream;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use windlass_core::ids::{AttemptId, JobId, StageId};

/// Compression of batches in files and on the way to other hosts. Batches in memory are never compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    None,
    #[default]
    Lz4,
    Zstd,
}

#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The store's own folder; files of an earlier process in it are removed.
    pub dir: PathBuf,
    /// Maximum bytes of memory for the blocks of outputs. Zero sends everything to files.
    pub memory_budget: usize,
    pub compression: Compression,
    /// Bytes of uncompressed data that complete a block, even if it has fewer than [`StoreConfig::BLOCK_ROWS`] rows.
    pub block_bytes: usize,
    /// Threads for disks, compression and checksums, at least 1.
    pub io_threads: usize,
    /// Maximum bytes of files; `None`: what the disk has.
    pub disk_budget: Option<u64>,
}

impl StoreConfig {
    /// Rows that complete a block: the batch size that DataFusion's operators prefer.
    pub const BLOCK_ROWS: usize = 8192;

    /// The defaults: 1 GiB of memory, lz4, blocks of 1 MiB, one I/O thread per core (at least 2, at most 8), any amount of disk.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get());
        StoreConfig {
            dir: dir.into(),
            memory_budget: 1 << 30,
            compression: Compression::default(),
            block_bytes: 1 << 20,
            io_threads: cores.clamp(2, 8),
            disk_budget: None,
        }
    }
}

/// Current use of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes reserved for outputs in memory, finished or being written.
    pub memory_bytes: usize,
    /// Bytes in files, finished or being written.
    pub disk_bytes: u64,
    /// Number of finished outputs.
    pub outputs: usize,
}

/// The map outputs of one executor process.
pub struct ExchangeStore {
    pub(super) compression: Compression,
    pub(super) block_bytes: usize,
    pub(super) io: Arc<IoPool>,
    pub(super) directory: Arc<Directory>,
    disk: Arc<DiskBudget>,
    /// Budget of blocks in memory.
    pub(super) memory: Arc<MemoryBudget>,
    /// Budget of data that writers have on its way.
    pub(super) staging: Arc<MemoryBudget>,
    outputs: Mutex<BTreeMap<AttemptId, Entry>>,
    /// Numbers claims in ascending order, and so tells the age of outputs.
    sequence: AtomicU64,
}

enum Entry {
    /// A writer is finishing; readers see nothing yet. The number is the claim's.
    Claimed(u64),
    Finished(Output),
}

/// A finished output.
#[derive(Clone)]
pub(super) enum Output {
    Memory(Arc<MemoryOutput>),
    File(Arc<FileOutput>),
}

/// A finished output in the memory tier.
pub(super) struct MemoryOutput {
    pub head: OutputHead,
    pub schema: SchemaRef,
    /// Blocks by bucket.
    pub buckets: Vec<Vec<RecordBatch>>,
    pub lease: MemoryLease,
    pub age: u64,
    pub demoting: AtomicBool,
}

impl ExchangeStore {
    /// Opens the store, with a consumer of its own in `pool`, and removes what an earlier process left in the directory.
    ///
    /// # Errors
    /// [`ExchangeError::Io`] when the directory cannot be created, read or cleaned, or no thread can be started.
    pub fn open(config: StoreConfig, pool: Arc<dyn MemoryPool>) -> Result<Arc<Self>, ExchangeError> {
        let disk = DiskBudget::new(config.disk_budget);
        let consumer = MemoryConsumer::new("exchange").with_can_spill(true).register(&pool);
        let io = IoPool::start(config.io_threads)
            .map_err(|source| ExchangeError::io(None, "start the I/O threads for", &config.dir, source))?;
        Ok(Arc::new(ExchangeStore {
            compression: config.compression,
            block_bytes: config.block_bytes.max(1),
            io: Arc::new(io),
            directory: Arc::new(Directory::open(config.dir, Arc::clone(&disk))?),
            disk,
            staging: MemoryBudget::new(usize::MAX, consumer.new_empty()),
            memory: MemoryBudget::new(config.memory_budget, consumer),
            outputs: Mutex::default(),
            sequence: AtomicU64::new(0),
        }))
    }

    /// Creates a writer for the output of one task attempt, of `schema`, with `buckets` buckets.
    pub fn writer(self: &Arc<Self>, output: AttemptId, schema: SchemaRef, buckets: u32) -> MapOutputWriter {
        MapOutputWriter::new(Arc::clone(self), OutputHead { output, buckets }, schema)
    }

    /// The batches of one bucket, or of all buckets in order.
    ///
    /// # Errors
    /// [`ExchangeError::Missing`] when there is no such output. Errors of its files come out of the stream.
    pub fn read(self: &Arc<Self>, output: AttemptId, select: BucketSel) -> Result<OutputStream, ExchangeError> {
        Ok(OutputStream::new(self, self.find(output, select)?, select))
    }

    /// Chunks of at most 1 MiB from which another executor's [`FrameDecoder`](super::FrameDecoder) reads all of `requests`, in their order. Blocks from
    /// memory are compressed as the store is configured, unless `plain`. The first error ends the stream; [`ExchangeError::output`] names its output.
    pub fn serve(
        self: &Arc<Self>,
        requests: Vec<(AttemptId, BucketSel)>,
        plain: bool,
    ) -> impl Stream<Item = Result<Bytes, ExchangeError>> + Send + use<> {
        let compression = if plain { Compression::None } else { self.compression };
        io::stream(Arc::clone(&self.io), ServeCursor::new(Arc::clone(self), requests, compression))
    }

    /// Removes the finished outputs of these stages. Open streams continue.
    pub fn remove(&self, stages: &[StageId]) {
        for stage in stages {
            self.remove_range(stage.attempts());
        }
    }

    /// Removes the finished outputs of a job.
    pub fn remove_job(&self, job: JobId) {
        self.remove_range(job.attempts());
    }

    pub fn remove_attempt(&self, output: AttemptId) {
        self.remove_range(output..=output);
    }

    /// The stages that have finished outputs.
    pub fn stages(&self) -> BTreeSet<StageId> {
        let outputs = self.outputs.lock();
        let finished = outputs.iter().filter(|(_, entry)| matches!(entry, Entry::Finished(_)));
        finished.map(|(output, _)| output.stage()).collect()
    }

    pub fn usage(&self) -> Usage {
        let outputs = self.outputs.lock().values().filter(|entry| matches!(entry, Entry::Finished(_))).count();
        Usage { memory_bytes: self.memory.used() + self.staging.used(), disk_bytes: self.disk.used(), outputs }
    }

    /// Moves finished outputs from memory to files, oldest first, until `bytes` of memory are free or none is left; returns the bytes moved. The pool gets
    /// the memory back when the streams that still read these outputs are done. For the watcher of the process's memory; writers that find no memory write
    /// their own output to files instead.
    pub async fn demote(self: &Arc<Self>, bytes: usize) -> Result<usize, ExchangeError> {
        let mut freed = 0;
        while freed < bytes
            && let Some(oldest) = self.oldest_in_memory()
        {
            let store = Arc::clone(self);
            freed += self.io.run(move || store.demote_one(oldest)).await??;
        }
        Ok(freed)
    }

    /// The oldest output in memory that is not already being demoted; marks it as such.
    fn oldest_in_memory(&self) -> Option<Arc<MemoryOutput>> {
        let outputs = self.outputs.lock();
        let staying = |memory: &&Arc<MemoryOutput>| !memory.demoting.load(Ordering::Relaxed);
        let oldest = outputs.values().filter_map(Entry::in_memory).filter(staying).min_by_key(|memory| memory.age)?;
        oldest.demoting.store(true, Ordering::Relaxed);
        Some(Arc::clone(oldest))
    }

    /// Runs on an I/O thread.
    fn demote_one(self: &Arc<Self>, memory: Arc<MemoryOutput>) -> Result<usize, ExchangeError> {
        let blocks =
            (0..).zip(&memory.buckets).flat_map(|(bucket, blocks)| blocks.iter().map(move |b| (bucket, b.clone())));
        let written = self.create_run(memory.head, &memory.schema).and_then(|mut run| {
            run.append(blocks)?;
            run.finish(Arc::clone(&self.io))
        });
        let file = written.inspect_err(|_| memory.demoting.store(false, Ordering::Relaxed))?;
        let mut outputs = self.outputs.lock();
        // If the output was removed meanwhile, its memory is free too, and dropping the file deletes it.
        if let Some(entry) = outputs.get_mut(&memory.head.output)
            && entry.in_memory().is_some_and(|current| Arc::ptr_eq(current, &memory))
        {
            *entry = Entry::Finished(Output::File(Arc::new(file)));
        }
        Ok(memory.lease.bytes())
    }

    /// Runs on an I/O thread.
    pub(super) fn create_run(&self, head: OutputHead, schema: &SchemaRef) -> Result<Run, ExchangeError> {
        let encoder = self.encoder(head, schema, self.compression)?;
        Run::create(Arc::clone(&self.directory), head, Arc::clone(schema), encoder)
    }

    pub(super) fn encoder(
        &self,
        head: OutputHead,
        schema: &SchemaRef,
        compression: Compression,
    ) -> Result<Encoder, ExchangeError> {
        Encoder::new(head, Arc::clone(schema), compression, self.block_bytes)
    }

    /// Finds a finished output that has the selected buckets.
    pub(super) fn find(&self, output: AttemptId, select: BucketSel) -> Result<Output, ExchangeError> {
        let found = match self.outputs.lock().get(&output) {
            Some(Entry::Finished(found)) => found.clone(),
            _ => return Err(ExchangeError::Missing { output }),
        };
        match select.range(found.head().buckets) {
            Some(_) => Ok(found),
            None => Err(ExchangeError::Internal {
                detail: format!(
                    "map output {output} has {} buckets, not the asked for {select:?}",
                    found.head().buckets
                ),
            }),
        }
    }

    /// Reserves the place of an output, invisibly: of two writers for the same attempt only one can finish.
    pub(super) fn claim(self: &Arc<Self>, output: AttemptId) -> Result<Claim, ExchangeError> {
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        let mut outputs = self.outputs.lock();
        if outputs.contains_key(&output) {
            return Err(ExchangeError::Internal { detail: format!("map output {output} was written twice") });
        }
        outputs.insert(output, Entry::Claimed(number));
        Ok(Claim { store: Arc::clone(self), output, number })
    }

    fn remove_range(&self, range: RangeInclusive<AttemptId>) {
        // Dropped only after the lock is released.
        let _removed: Vec<(AttemptId, Entry)> = self.outputs.lock().extract_if(range, |_, _| true).collect();
    }
}

impl fmt::Debug for ExchangeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeStore").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

impl Entry {
    fn in_memory(&self) -> Option<&Arc<MemoryOutput>> {
        match self {
            Entry::Finished(Output::Memory(memory)) => Some(memory),
            _ => None,
        }
    }

    fn is_claim(&self, number: u64) -> bool {
        matches!(self, Entry::Claimed(claimed) if *claimed == number)
    }
}

impl Output {
    pub(super) fn head(&self) -> OutputHead {
        match self {
            Output::Memory(memory) => memory.head,
            Output::File(file) => file.head,
        }
    }
}

/// The place of an output whose writer is finishing. Dropping it unfilled frees the place.
pub(super) struct Claim {
    store: Arc<ExchangeStore>,
    output: AttemptId,
    /// Grows with every claim, so it also tells the age of the output.
    pub number: u64,
}

impl Claim {
    /// Makes the output visible.
    ///
    /// # Errors
    /// [`ExchangeError::Missing`] when the stage or the attempt was removed meanwhile.
    pub(super) fn fill(self, finished: Output) -> Result<(), ExchangeError> {
        match self.store.outputs.lock().get_mut(&self.output) {
            Some(entry) if entry.is_claim(self.number) => {
                *entry = Entry::Finished(finished);
                Ok(())
            }
            _ => Err(ExchangeError::Missing { output: self.output }),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut outputs = self.store.outputs.lock();
        if outputs.get(&self.output).is_some_and(|entry| entry.is_claim(self.number)) {
            outputs.remove(&self.output);
        }
    }
}
