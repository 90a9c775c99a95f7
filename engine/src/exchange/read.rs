//! Readers of finished outputs: as batches in this process, as frames for readers elsewhere.

use super::files::{FileFrames, FileOutput};
use super::format::{self, Total};
use super::io::{self, Cursor};
use super::ipc::Encoder;
use super::store::{Compression, MemoryOutput, Output};
use super::{BucketSel, ExchangeError, ExchangeStore, FrameDecoder};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use windlass_core::ids::AttemptId;
use windlass_proto::door::FRAME_BYTES;

/// Bytes that one step on an I/O thread reads or encodes before the block that exceeds them. With that block they mostly fit into one chunk.
const STEP_BYTES: usize = 768 << 10;
/// Bytes of the largest chunk that is served.
const CHUNK_BYTES: usize = FRAME_BYTES as usize;

/// Batches of one output in the order of its buckets; within a bucket in the order in which they were written.
pub struct OutputStream {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch, ExchangeError>>,
}

impl OutputStream {
    pub(super) fn new(store: &ExchangeStore, output: Output, select: BucketSel) -> Self {
        match output {
            Output::Memory(memory) => {
                let schema = Arc::clone(&memory.schema);
                let blocks = Blocks::new(memory, select).map(|(_, block)| Ok(block));
                OutputStream { schema, batches: Box::pin(futures::stream::iter(blocks)) }
            }
            Output::File(file) => {
                let schema = Arc::clone(&file.schema);
                let decoder = FrameDecoder::new(vec![(file.head.output, select)]);
                let cursor = ReadCursor { state: ReadState::Closed(select), file, decoder };
                OutputStream { schema, batches: Box::pin(io::stream(Arc::clone(&store.io), cursor)) }
            }
        }
    }

    /// The schema that the writer declared; every batch has it.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Stream for OutputStream {
    type Item = Result<RecordBatch, ExchangeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.as_mut().poll_next(cx)
    }
}

/// The blocks of some buckets of an output in memory.
struct Blocks {
    memory: Arc<MemoryOutput>,
    buckets: Range<u32>,
    /// The next block of the first of `buckets`.
    next: usize,
}

impl Blocks {
    fn new(memory: Arc<MemoryOutput>, select: BucketSel) -> Self {
        let buckets = select.range(memory.head.buckets).unwrap_or_default();
        Blocks { memory, buckets, next: 0 }
    }
}

impl Iterator for Blocks {
    type Item = (u32, RecordBatch);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.buckets.is_empty() {
            let bucket = self.buckets.start;
            if let Some(block) = self.memory.buckets[bucket as usize].get(self.next) {
                self.next += 1;
                return Some((bucket, block.clone()));
            }
            self.buckets.start += 1;
            self.next = 0;
        }
        None
    }
}

/// Reads the file tier as batches.
struct ReadCursor {
    file: Arc<FileOutput>,
    state: ReadState,
    decoder: FrameDecoder,
}

enum ReadState {
    Closed(BucketSel),
    Open(FileFrames),
    /// The decoder has received everything.
    Drained,
}

impl Cursor for ReadCursor {
    type Item = RecordBatch;

    fn step(&mut self) -> Result<Option<Vec<RecordBatch>>, ExchangeError> {
        let mut frames = match std::mem::replace(&mut self.state, ReadState::Drained) {
            ReadState::Closed(select) => self.file.open(select)?,
            ReadState::Open(frames) => frames,
            ReadState::Drained => return Ok(None),
        };
        let mut bytes = Vec::with_capacity(STEP_BYTES);
        let drained = !frames.fill(&mut bytes, STEP_BYTES)?;
        if drained {
            format::write_stream_end(&mut bytes, 1);
        } else {
            self.state = ReadState::Open(frames);
        }
        self.decoder.feed(Bytes::from(bytes));
        let mut batches = Vec::new();
        while let Some((output, batch)) = self.decoder.next_batch()? {
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let declared = Arc::clone(&self.file.schema);
            let batch = RecordBatch::try_new_with_options(declared, batch.columns().to_vec(), &options);
            batches.push(batch.map_err(|source| ExchangeError::arrow(output, source))?);
        }
        if drained {
            self.decoder.finish()?;
        }
        Ok(Some(batches))
    }
}

/// The frames of many outputs in a row, and the end of the stream.
pub(super) struct ServeCursor {
    store: Arc<ExchangeStore>,
    /// Compression of data from memory.
    compression: Compression,
    requests: std::vec::IntoIter<(AttemptId, BucketSel)>,
    current: Option<Frames>,
    served: u64,
    ended: bool,
}

impl ServeCursor {
    pub(super) fn new(
        store: Arc<ExchangeStore>,
        requests: Vec<(AttemptId, BucketSel)>,
        compression: Compression,
    ) -> Self {
        ServeCursor { store, compression, requests: requests.into_iter(), current: None, served: 0, ended: false }
    }
}

impl Cursor for ServeCursor {
    type Item = Bytes;

    fn step(&mut self) -> Result<Option<Vec<Bytes>>, ExchangeError> {
        let mut bytes = Vec::new();
        while !self.ended && bytes.len() < STEP_BYTES {
            if let Some(frames) = &mut self.current {
                if !frames.fill(&mut bytes, STEP_BYTES)? {
                    self.current = None;
                    self.served += 1;
                }
            } else if let Some((output, select)) = self.requests.next() {
                let found = self.store.find(output, select)?;
                self.current = Some(Frames::open(&self.store, found, select, self.compression)?);
            } else {
                format::write_stream_end(&mut bytes, self.served);
                self.ended = true;
            }
        }
        let mut bytes = Bytes::from(bytes);
        let mut chunks = Vec::new();
        while !bytes.is_empty() {
            chunks.push(bytes.split_to(bytes.len().min(CHUNK_BYTES)));
        }
        Ok((!chunks.is_empty()).then_some(chunks))
    }
}

/// The frames of some buckets of one output, from Output to OutputEnd.
enum Frames {
    Stored(FileFrames),
    Encoded { encoder: Box<Encoder>, select: BucketSel, blocks: Blocks, total: Total, begun: bool },
}

impl Frames {
    fn open(
        store: &ExchangeStore,
        output: Output,
        select: BucketSel,
        compression: Compression,
    ) -> Result<Self, ExchangeError> {
        match output {
            Output::File(file) => Ok(Frames::Stored(file.open(select)?)),
            Output::Memory(memory) => {
                let encoder = Box::new(store.encoder(memory.head, &memory.schema, compression)?);
                let blocks = Blocks::new(memory, select);
                Ok(Frames::Encoded { encoder, select, blocks, total: Total::default(), begun: false })
            }
        }
    }

    /// Appends to `out` until it has about `want` bytes; returns false when there is no more.
    fn fill(&mut self, out: &mut Vec<u8>, want: usize) -> Result<bool, ExchangeError> {
        let (encoder, select, blocks, total, begun) = match self {
            Frames::Stored(frames) => return frames.fill(out, want),
            Frames::Encoded { encoder, select, blocks, total, begun } => (encoder, *select, blocks, total, begun),
        };
        if !*begun {
            encoder.preamble(out)?;
            *begun = true;
        }
        while out.len() < want {
            let Some((bucket, block)) = blocks.next() else {
                format::write_output_end(out, select, *total);
                return Ok(false);
            };
            *total += encoder.batch(out, bucket, &block)?;
        }
        Ok(true)
    }
}
