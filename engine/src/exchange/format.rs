//! The byte format of the exchange: frames, of which both data files and remote streams consist, and the index of a data file.
//!
//! ```text
//! data file   Output Schema Batch(bucket 0).. Batch(bucket 1).. .. OutputEnd
//! stream      for each request, in order: Output Schema Batch.. OutputEnd; at last StreamEnd
//! ```
//!
//! So a data file equals, byte for byte, the stream of a request for all buckets; the stream of one bucket is a range of it. A frame is a header of
//! [`HEADER`] bytes and a payload. Integers are little-endian, sums are CRC32C:
//!
//! ```text
//! 0 kind u32 | 4 bucket u32 | 8 rows u64 | 16 payload length u64 | 24 sum of the payload u32 | 28 sum of bytes 0..28 u32
//! ```
//!
//! | kind | payload | bucket, rows |
//! | --- | --- | --- |
//! | Output | version u32, attempt: job u64, stage u32, partition u32, attempt u32, buckets u32 | 0, 0 |
//! | Schema | the schema as an Arrow IPC message | 0, 0 |
//! | Batch | the dictionaries of one batch and the batch, as Arrow IPC messages: decodes without any other batch | those of the batch |
//! | OutputEnd | number of batches u64 | the requested bucket or [`ALL_BUCKETS`], rows in all batches |
//! | StreamEnd | number of outputs u64 | 0, 0 |
//!
//! The index is a header of [`INDEX_HEADER`] bytes and an entry of [`INDEX_ENTRY`] bytes for each bucket. Header and entries each have their own sum, so that
//! two small reads find one bucket. An entry's sum starts from the bucket's number, so that exchanged entries are detected.

use super::BucketSel;
use crate::checksum::{crc32c, crc32c_append};
use windlass_core::ids::{AttemptId, JobId};

/// Bytes of a frame's header.
pub(super) const HEADER: usize = 32;
/// Bytes of an index's header.
pub(super) const INDEX_HEADER: usize = 52;
/// Bytes of an index's entry for one bucket.
pub(super) const INDEX_ENTRY: usize = 32;

/// In an OutputEnd: all buckets came before it.
pub(super) const ALL_BUCKETS: u32 = u32::MAX;

const VERSION: u32 = 1;
const INDEX_MAGIC: [u8; 4] = *b"WXIX";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Output,
    Schema,
    Batch,
    OutputEnd,
    StreamEnd,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Output, Kind::Schema, Kind::Batch, Kind::OutputEnd, Kind::StreamEnd];

    fn tag(self) -> [u8; 4] {
        match self {
            Kind::Output => *b"WXOU",
            Kind::Schema => *b"WXSC",
            Kind::Batch => *b"WXBA",
            Kind::OutputEnd => *b"WXOE",
            Kind::StreamEnd => *b"WXSE",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: Kind,
    pub bucket: u32,
    pub rows: u64,
    pub len: u64,
    pub sum: u32,
}

impl Header {
    pub(super) fn decode(bytes: &[u8; HEADER]) -> Result<Self, String> {
        let mut fields = Fields(bytes);
        let tag: [u8; 4] = fields.take();
        let bucket = fields.u32();
        let rows = fields.u64();
        let len = fields.u64();
        let sum = fields.u32();
        if crc32c(&bytes[..HEADER - 4]) != fields.u32() {
            return Err("a frame's header fails its checksum".to_owned());
        }
        let kind = Kind::ALL.into_iter().find(|kind| kind.tag() == tag);
        let kind = kind.ok_or_else(|| format!("a frame is of the unknown kind {tag:?}"))?;
        Ok(Header { kind, bucket, rows, len, sum })
    }
}

/// Appends one frame to `out`; `payload` appends the payload.
pub(super) fn write_frame<E>(
    out: &mut Vec<u8>,
    kind: Kind,
    bucket: u32,
    rows: u64,
    payload: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    if let Err(error) = payload(out) {
        out.truncate(start);
        return Err(error);
    }
    let (head, body) = out[start..].split_at_mut(HEADER);
    head[0..4].copy_from_slice(&kind.tag());
    head[4..8].copy_from_slice(&bucket.to_le_bytes());
    head[8..16].copy_from_slice(&rows.to_le_bytes());
    head[16..24].copy_from_slice(&(body.len() as u64).to_le_bytes());
    head[24..28].copy_from_slice(&crc32c(body).to_le_bytes());
    let sum = crc32c(&head[..HEADER - 4]);
    head[28..32].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

/// Appends a frame with this payload.
pub(super) fn write_plain_frame(out: &mut Vec<u8>, kind: Kind, bucket: u32, rows: u64, payload: &[u8]) {
    let Ok(()) = write_frame::<std::convert::Infallible>(out, kind, bucket, rows, |out| {
        out.extend_from_slice(payload);
        Ok(())
    });
}

pub(super) fn write_output_end(out: &mut Vec<u8>, select: BucketSel, total: Total) {
    write_plain_frame(out, Kind::OutputEnd, end_bucket(select), total.rows, &total.batches.to_le_bytes());
}

pub(super) fn write_stream_end(out: &mut Vec<u8>, outputs: u64) {
    write_plain_frame(out, Kind::StreamEnd, 0, 0, &outputs.to_le_bytes());
}

/// The bucket field of the OutputEnd of a selection.
pub(super) fn end_bucket(select: BucketSel) -> u32 {
    match select {
        BucketSel::One(bucket) => bucket,
        BucketSel::All => ALL_BUCKETS,
    }
}

/// Batches and rows that a reader of some buckets must have seen at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    pub batches: u64,
    pub rows: u64,
}

impl std::ops::AddAssign for Total {
    fn add_assign(&mut self, other: Total) {
        self.batches += other.batches;
        self.rows += other.rows;
    }
}

/// The output that the following frames belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutputHead {
    pub output: AttemptId,
    pub buckets: u32,
}

impl OutputHead {
    const LEN: usize = 28;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::LEN);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        put_attempt(&mut bytes, self.output);
        bytes.extend_from_slice(&self.buckets.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() != Self::LEN {
            return Err(format!("an output's head has {} bytes instead of {}", bytes.len(), Self::LEN));
        }
        let mut fields = Fields(bytes);
        check_version(fields.u32())?;
        Ok(OutputHead { output: fields.attempt(), buckets: fields.u32() })
    }
}

/// The fixed part of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexHead {
    pub output: AttemptId,
    pub buckets: u32,
    /// Position of the first bucket in the data file: bytes of its Output and Schema frames.
    pub preamble: u64,
    /// Length of the whole data file.
    pub data_len: u64,
}

/// Position of one bucket in the data file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub offset: u64,
    pub len: u64,
    pub total: Total,
}

impl IndexHead {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(INDEX_HEADER);
        bytes.extend_from_slice(&INDEX_MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        put_attempt(&mut bytes, self.output);
        bytes.extend_from_slice(&self.buckets.to_le_bytes());
        bytes.extend_from_slice(&self.preamble.to_le_bytes());
        bytes.extend_from_slice(&self.data_len.to_le_bytes());
        let sum = crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; INDEX_HEADER]) -> Result<Self, String> {
        let mut fields = Fields(bytes);
        let magic: [u8; 4] = fields.take();
        let version = fields.u32();
        let output = fields.attempt();
        let (buckets, preamble, data_len) = (fields.u32(), fields.u64(), fields.u64());
        if magic != INDEX_MAGIC || crc32c(&bytes[..INDEX_HEADER - 4]) != fields.u32() {
            return Err("the index's header fails its checksum".to_owned());
        }
        check_version(version)?;
        Ok(IndexHead { output, buckets, preamble, data_len })
    }
}

impl IndexEntry {
    pub(super) fn encode(&self, bucket: u32) -> [u8; INDEX_ENTRY] {
        let mut bytes = [0; INDEX_ENTRY];
        bytes[0..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.len.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.total.rows.to_le_bytes());
        // A batch has at least a frame's header, and no disk of today holds 2^32 of them.
        bytes[24..28].copy_from_slice(&(self.total.batches as u32).to_le_bytes());
        let sum = crc32c_append(bucket, &bytes[..INDEX_ENTRY - 4]);
        bytes[28..32].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; INDEX_ENTRY], bucket: u32) -> Result<Self, String> {
        let mut fields = Fields(bytes);
        let (offset, len, rows, batches) = (fields.u64(), fields.u64(), fields.u64(), u64::from(fields.u32()));
        if crc32c_append(bucket, &bytes[..INDEX_ENTRY - 4]) != fields.u32() {
            return Err(format!("the index's entry for bucket {bucket} fails its checksum"));
        }
        Ok(IndexEntry { offset, len, total: Total { batches, rows } })
    }
}

fn check_version(version: u32) -> Result<(), String> {
    let known = version == VERSION;
    known.then_some(()).ok_or_else(|| format!("written in version {version} of the format, read by version {VERSION}"))
}

fn put_attempt(bytes: &mut Vec<u8>, output: AttemptId) {
    bytes.extend_from_slice(&output.task.stage.job.0.to_le_bytes());
    bytes.extend_from_slice(&output.task.stage.index.to_le_bytes());
    bytes.extend_from_slice(&output.task.partition.to_le_bytes());
    bytes.extend_from_slice(&output.attempt.to_le_bytes());
}

/// Takes fixed-width integers off the front of a slice whose length has been checked.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_at(N);
        self.0 = rest;
        let mut bytes = [0; N];
        bytes.copy_from_slice(field);
        bytes
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn attempt(&mut self) -> AttemptId {
        let (job, stage, partition, attempt) = (self.u64(), self.u32(), self.u32(), self.u32());
        JobId(job).stage(stage).task(partition).attempt(attempt)
    }
}
