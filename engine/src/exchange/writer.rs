//! The writer of one map output.

use super::block;
use super::budget::MemoryLease;
use super::files::Run;
use super::format::OutputHead;
use super::store::{MemoryOutput, Output, StoreConfig};
use super::{ExchangeError, ExchangeStore};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// An output that goes to a file writes its blocks together once they hold this many bytes.
const FLUSH_BYTES: usize = 4 << 20;
/// Maximum bytes of batches that wait to be combined, for an output that goes to a file. With many buckets this limit makes blocks smaller than they should
/// be.
const STAGING_BYTES: usize = 64 << 20;

/// The output of one task attempt, bucket by bucket.
///
/// Batches are combined into blocks of about [`StoreConfig::BLOCK_ROWS`] rows or `block_bytes` bytes. Blocks in memory are reserved against the store's
/// budget and the pool. When that reservation is refused, the whole output goes to the file tier: existing blocks are flushed to a file of its own, and later
/// ones follow as they come. Data on its way to the file, which [`STAGING_BYTES`] and two flushes bound, is reserved in the pool alone, so that an output in
/// a full store still gets blocks of a good size. When the pool refuses as well, a writer holds beyond its reservations at most `block_bytes`, the block
/// being combined and the batch being pushed. So it always makes progress, whatever others hold: it never waits for memory.
///
/// A writer dropped before [`finish`](Self::finish) has returned leaves nothing. After an error every call fails.
pub struct MapOutputWriter {
    store: Arc<ExchangeStore>,
    head: OutputHead,
    schema: SchemaRef,
    buckets: Vec<Bucket>,
    /// Bytes of batches that wait to be combined, and of finished blocks.
    pending: usize,
    sealed: usize,
    /// Memory of blocks that stay in memory.
    lease: MemoryLease,
    /// Memory of data on its way: batches that wait, and everything of an output that goes to a file.
    staging: MemoryLease,
    run: RunState,
}

#[derive(Default)]
struct Bucket {
    pending: Vec<RecordBatch>,
    pending_rows: usize,
    pending_bytes: usize,
    blocks: Vec<RecordBatch>,
    rows: u64,
    bytes: u64,
}

/// The file that the output goes to.
enum RunState {
    /// Everything is still in memory.
    None,
    Idle(Box<Run>),
    /// Blocks are being written; this many of their bytes are reserved as staging.
    Flushing(BoxFuture<'static, Result<Result<Box<Run>, ExchangeError>, ExchangeError>>, usize),
    Failed,
}

/// Size of a finished output. Bytes are uncompressed Arrow data, in either tier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapOutputSummary {
    pub rows: u64,
    /// Bytes of each bucket.
    pub bucket_bytes: Vec<u64>,
    /// Rows of each bucket.
    pub bucket_rows: Vec<u64>,
}

impl MapOutputWriter {
    pub(super) fn new(store: Arc<ExchangeStore>, head: OutputHead, schema: SchemaRef) -> Self {
        let buckets = (0..head.buckets).map(|_| Bucket::default()).collect();
        let (lease, staging) = (store.memory.lease(), store.staging.lease());
        MapOutputWriter { store, head, schema, buckets, pending: 0, sealed: 0, lease, staging, run: RunState::None }
    }

    /// Appends `batch` to a bucket.
    ///
    /// # Errors
    /// [`ExchangeError::Mismatch`] when the batch's columns are not of the declared types, or have nulls in columns declared without;
    /// [`ExchangeError::DiskFull`] and [`ExchangeError::Io`] when writing to the file fails.
    pub async fn push(&mut self, bucket: u32, batch: RecordBatch) -> Result<(), ExchangeError> {
        let pushed = self.try_push(bucket, batch).await;
        if pushed.is_err() {
            self.abandon();
        }
        pushed
    }

    async fn try_push(&mut self, bucket: u32, batch: RecordBatch) -> Result<(), ExchangeError> {
        let output = self.head.output;
        if bucket >= self.head.buckets {
            let detail = format!("bucket {bucket} pushed to map output {output} of {} buckets", self.head.buckets);
            return Err(ExchangeError::Internal { detail });
        }
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = block::conform(batch, &self.schema)
            .map_err(|error| ExchangeError::Mismatch { output, detail: error.to_string() })?;
        self.stage(bucket as usize, batch).map_err(|source| ExchangeError::arrow(output, source))?;
        if self.stays_in_memory() { Ok(()) } else { self.settle().await }
    }

    /// Makes the output visible to readers.
    ///
    /// # Errors
    /// All errors of [`Self::push`]; [`ExchangeError::Missing`] when the stage was removed meanwhile; [`ExchangeError::Internal`] when the attempt already
    /// has an output.
    pub async fn finish(mut self) -> Result<MapOutputSummary, ExchangeError> {
        let output = self.head.output;
        self.seal_all()?;
        let summary = self.summary();
        let claim = self.store.claim(output)?;
        if matches!(self.run, RunState::None) && self.lease.cover(self.sealed) {
            self.lease.trim(self.sealed);
            let memory = MemoryOutput {
                head: self.head,
                schema: Arc::clone(&self.schema),
                buckets: self.buckets.iter_mut().map(|bucket| std::mem::take(&mut bucket.blocks)).collect(),
                lease: self.lease.take(),
                age: claim.number,
                demoting: AtomicBool::new(false),
            };
            claim.fill(Output::Memory(Arc::new(memory)))?;
            return Ok(summary);
        }
        // If this is refused too, data on its way is unreserved until it is written.
        self.staging.cover(self.sealed);
        let run = self.idle_run().await?;
        let (store, head, schema) = (Arc::clone(&self.store), self.head, Arc::clone(&self.schema));
        let blocks = self.take_blocks();
        let written = self.store.io.run(move || {
            let mut run = match run {
                Some(run) => *run,
                None => store.create_run(head, &schema)?,
            };
            run.append(blocks)?;
            run.finish(Arc::clone(&store.io))
        });
        claim.fill(Output::File(Arc::new(written.await??)))?;
        Ok(summary)
    }

    fn summary(&self) -> MapOutputSummary {
        MapOutputSummary {
            rows: self.buckets.iter().map(|bucket| bucket.rows).sum(),
            bucket_bytes: self.buckets.iter().map(|bucket| bucket.bytes).collect(),
            bucket_rows: self.buckets.iter().map(|bucket| bucket.rows).collect(),
        }
    }

    /// Adds a batch to those that wait to be combined. A batch that is large enough by itself becomes a block without a copy.
    fn stage(&mut self, number: usize, batch: RecordBatch) -> Result<(), arrow::error::ArrowError> {
        let (batch, bytes) = block::trim(batch, self.buckets.len())?;
        let (rows, block_bytes) = (batch.num_rows(), self.store.block_bytes);
        let is_block = |rows: usize, bytes: usize| rows >= StoreConfig::BLOCK_ROWS || bytes >= block_bytes;
        if is_block(2 * rows, 2 * bytes) {
            self.seal(number)?;
        }
        let bucket = &mut self.buckets[number];
        bucket.pending.push(batch);
        bucket.pending_rows += rows;
        bucket.pending_bytes += bytes;
        self.pending += bytes;
        if is_block(2 * rows, 2 * bytes) || is_block(bucket.pending_rows, bucket.pending_bytes) {
            self.seal(number)?;
        }
        Ok(())
    }

    /// Combines the waiting batches of a bucket.
    fn seal(&mut self, number: usize) -> Result<(), arrow::error::ArrowError> {
        let bucket = &mut self.buckets[number];
        if bucket.pending.is_empty() {
            return Ok(());
        }
        self.pending -= std::mem::take(&mut bucket.pending_bytes);
        bucket.rows += std::mem::take(&mut bucket.pending_rows) as u64;
        for block in block::seal(&self.schema, std::mem::take(&mut bucket.pending))? {
            self.sealed += block::held_bytes(&block);
            bucket.bytes += block::data_bytes(&block) as u64;
            bucket.blocks.push(block);
        }
        Ok(())
    }

    fn seal_all(&mut self) -> Result<(), ExchangeError> {
        let sealed = (0..self.buckets.len()).try_for_each(|number| self.seal(number));
        sealed.map_err(|source| ExchangeError::arrow(self.head.output, source))?;
        self.staging.trim(0);
        Ok(())
    }

    fn stays_in_memory(&mut self) -> bool {
        matches!(self.run, RunState::None) && self.lease.cover(self.sealed) && self.staging.cover(self.pending)
    }

    /// Brings the held bytes under the reservations, or as near as possible. Every round combines, flushes or awaits something, and there is a bounded amount
    /// of each, so it ends.
    async fn settle(&mut self) -> Result<(), ExchangeError> {
        loop {
            if self.stays_in_memory() {
                return Ok(());
            }
            let (flushes, flushing) = match self.run {
                RunState::Flushing(_, bytes) => (true, bytes),
                _ => (false, 0),
            };
            let in_memory = matches!(self.run, RunState::None);
            let fits = !in_memory && self.staging.cover(self.pending + self.sealed + flushing);
            if self.sealed >= FLUSH_BYTES || (self.sealed > 0 && !fits) {
                let run = self.idle_run().await?;
                self.flush(run);
            } else if flushes && !fits {
                self.run = self.idle_run().await?.map_or(RunState::None, RunState::Idle);
            } else if self.pending > if fits { STAGING_BYTES } else { self.store.block_bytes } {
                self.seal_all()?;
            } else {
                return Ok(());
            }
        }
    }

    /// The run, when nothing is being written; `None` when there is none yet. Leaves the state failed; the caller sets it.
    async fn idle_run(&mut self) -> Result<Option<Box<Run>>, ExchangeError> {
        match std::mem::replace(&mut self.run, RunState::Failed) {
            RunState::None => Ok(None),
            RunState::Idle(run) => Ok(Some(run)),
            RunState::Flushing(written, _) => {
                let run = written.await??;
                self.lease.trim(0);
                self.staging.trim(self.pending + self.sealed);
                Ok(Some(run))
            }
            RunState::Failed => {
                let detail = format!("map output {} is written to after an error", self.head.output);
                Err(ExchangeError::Internal { detail })
            }
        }
    }

    /// Starts writing all blocks.
    fn flush(&mut self, run: Option<Box<Run>>) {
        // Blocks of the first flush stay under the lease for memory until they are written.
        let bytes = if run.is_some() { self.sealed } else { 0 };
        let blocks = self.take_blocks();
        let (store, head, schema) = (Arc::clone(&self.store), self.head, Arc::clone(&self.schema));
        let written = self.store.io.run(move || {
            let mut run = match run {
                Some(run) => run,
                None => Box::new(store.create_run(head, &schema)?),
            };
            run.append(blocks)?;
            Ok(run)
        });
        self.run = RunState::Flushing(Box::pin(written), bytes);
    }

    fn take_blocks(&mut self) -> Vec<(u32, RecordBatch)> {
        self.sealed = 0;
        let buckets = (0..).zip(&mut self.buckets);
        buckets.flat_map(|(number, bucket)| bucket.blocks.drain(..).map(move |block| (number, block))).collect()
    }

    /// Removes everything of the run. A flush under way finds that nobody waits, and drops its run itself.
    fn abandon(&mut self) {
        if let RunState::Idle(run) = std::mem::replace(&mut self.run, RunState::Failed) {
            self.store.io.detach(move || drop(run));
        }
    }
}

impl Drop for MapOutputWriter {
    fn drop(&mut self) {
        self.abandon();
    }
}
