//! Incremental decoding of frames to batches.

use super::format::{self, HEADER, Header, Kind, OutputHead, Total};
use super::ipc::Decoder;
use super::{BucketSel, ExchangeError};
use crate::checksum::crc32c;
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use windlass_core::ids::AttemptId;
use windlass_proto::bulk::Arrived;

/// Decodes the output of [`ExchangeStore::serve`](super::ExchangeStore::serve), fed as it arrives and cut anywhere.
///
/// It knows the requests, so it checks the stream against them: every output, in order, whole, with its buckets, and nothing else. So it can also name the
/// output at fault when the stream breaks off. Decoding is CPU work (sums, decompression, validation); it must not run on a thread that serves heartbeats.
///
/// ```text
/// decoder.feed(chunk);
/// while let Some((output, batch)) = decoder.next_batch()? { .. }
/// // after the last chunk
/// decoder.finish()?;
/// ```
pub struct FrameDecoder {
    /// Requests still to be received, the current output first.
    requests: VecDeque<(AttemptId, BucketSel)>,
    /// Number of outputs received to the end.
    complete: u64,
    /// The last output, which is named in errors after it.
    last: Option<AttemptId>,
    input: Arrived,
    /// The header of the frame whose payload is awaited.
    header: Option<Header>,
    state: State,
    /// Bucket of the last batch, and number of buckets of its output.
    place: (u32, u32),
    /// The last schema received, kept because outputs of one stage share it.
    schema: Option<(Buffer, Decoder)>,
}

enum State {
    /// Between outputs.
    Idle,
    /// After an Output frame.
    Head(OutputHead),
    /// After a Schema frame. `bucket` is the last one seen.
    Body { head: OutputHead, bucket: u32, seen: Total },
    /// After the StreamEnd frame.
    Ended,
    /// After an error.
    Broken,
}

impl FrameDecoder {
    /// A decoder for the stream that serves `requests`.
    pub fn new(requests: Vec<(AttemptId, BucketSel)>) -> Self {
        FrameDecoder {
            last: requests.last().map(|(output, _)| *output),
            requests: requests.into(),
            complete: 0,
            input: Arrived::default(),
            header: None,
            state: State::Idle,
            place: (0, 1),
            schema: None,
        }
    }

    pub fn feed(&mut self, bytes: Bytes) {
        self.input.push(bytes);
    }

    /// Bytes fed and not yet decoded.
    pub fn buffered_bytes(&self) -> usize {
        self.input.len()
    }

    /// The schema of the current output, once it has arrived.
    pub fn schema(&self) -> Option<&SchemaRef> {
        self.schema.as_ref().map(|(_, decoder)| decoder.schema())
    }

    /// The bucket of the last batch and the number of buckets of its output. For an output without batches, bucket 0.
    pub fn place(&self) -> (u32, u32) {
        self.place
    }

    /// The next batch; `None` when more must be fed first, or when everything was decoded. After an error every further call fails.
    pub fn next_batch(&mut self) -> Result<Option<(AttemptId, RecordBatch)>, ExchangeError> {
        let next = self.advance();
        if next.is_err() {
            self.state = State::Broken;
        }
        next
    }

    /// Must be called when the stream has ended; fails if that was too early.
    pub fn finish(&self) -> Result<(), ExchangeError> {
        match self.state {
            State::Ended => Ok(()),
            _ => Err(self.corrupt("the stream ended before all of it was received")),
        }
    }

    fn advance(&mut self) -> Result<Option<(AttemptId, RecordBatch)>, ExchangeError> {
        loop {
            match self.state {
                State::Broken => return Err(self.corrupt("the stream has failed before")),
                State::Ended if self.input.len() > 0 => return Err(self.corrupt("the stream goes on after its end")),
                State::Ended => return Ok(None),
                _ => {}
            }
            let header = match self.header.take() {
                Some(header) => header,
                None if self.input.len() < HEADER => return Ok(None),
                None => {
                    let mut bytes = [0; HEADER];
                    self.input.copy_to_slice(&mut bytes);
                    Header::decode(&bytes).map_err(|detail| self.corrupt(detail))?
                }
            };
            if (self.input.len() as u64) < header.len {
                self.header = Some(header);
                return Ok(None);
            }
            let payload = self.input.copy_to_bytes(header.len as usize);
            if crc32c(&payload) != header.sum {
                return Err(self.corrupt("a frame's payload fails its checksum"));
            }
            if let Some(batch) = self.frame(header, Buffer::from(payload))? {
                return Ok(Some(batch));
            }
        }
    }

    /// Decodes a whole frame whose sums are right.
    fn frame(&mut self, header: Header, payload: Buffer) -> Result<Option<(AttemptId, RecordBatch)>, ExchangeError> {
        match (header.kind, &mut self.state) {
            (Kind::Output, State::Idle) => {
                let head = OutputHead::decode(&payload).map_err(|detail| self.corrupt(detail))?;
                match self.requests.front() {
                    Some((output, select)) if *output == head.output && select.range(head.buckets).is_some() => {
                        self.state = State::Head(head);
                    }
                    _ => return Err(self.corrupt(format!("{} came instead", head.output))),
                }
            }
            (Kind::Schema, State::Head(head)) => {
                let head = *head;
                if self.schema.as_ref().is_none_or(|(known, _)| *known != payload) {
                    let decoder = Decoder::new(head.output, &payload)?;
                    // A copy: the payload would pin the whole chunk in which it came.
                    self.schema = Some((Buffer::from(payload.as_slice()), decoder));
                }
                self.place = (0, head.buckets);
                self.state = State::Body { head, bucket: 0, seen: Total::default() };
            }
            (Kind::Batch, State::Body { head, bucket, seen }) => {
                let output = head.output;
                let selected = self.requests.front().and_then(|(_, select)| select.range(head.buckets));
                if !selected.is_some_and(|range| range.contains(&header.bucket)) || header.bucket < *bucket {
                    return Err(self.corrupt(format!("a batch of bucket {} came out of place", header.bucket)));
                }
                *bucket = header.bucket;
                self.place = (header.bucket, head.buckets);
                seen.batches += 1;
                seen.rows += header.rows;
                let Some((_, decoder)) = &self.schema else {
                    return Err(self.corrupt("a batch came before its schema"));
                };
                let batch = decoder.batch(output, &payload)?;
                if batch.num_rows() as u64 != header.rows {
                    return Err(self.corrupt("a batch has not the rows that its frame says"));
                }
                return Ok(Some((output, batch)));
            }
            (Kind::OutputEnd, State::Body { seen, .. }) => {
                let whole =
                    self.requests.front().is_some_and(|(_, select)| format::end_bucket(*select) == header.bucket);
                if !whole || header.rows != seen.rows || payload.as_slice() != seen.batches.to_le_bytes() {
                    return Err(self.corrupt("some of its batches are missing"));
                }
                self.requests.pop_front();
                self.complete += 1;
                self.state = State::Idle;
            }
            (Kind::StreamEnd, State::Idle) => {
                if !self.requests.is_empty() || payload.as_slice() != self.complete.to_le_bytes() {
                    return Err(self.corrupt("the stream ended without it"));
                }
                self.state = State::Ended;
            }
            (kind, _) => return Err(self.corrupt(format!("a frame of kind {kind:?} came out of place"))),
        }
        Ok(None)
    }

    fn corrupt(&self, detail: impl Into<String>) -> ExchangeError {
        match self.requests.front().map(|(output, _)| *output).or(self.last) {
            Some(output) => ExchangeError::corrupt(output, detail),
            None => ExchangeError::Internal { detail: format!("a stream for no outputs: {}", detail.into()) },
        }
    }
}
