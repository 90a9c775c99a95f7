//! Conversion between batches and frames of Arrow IPC messages.

use super::block;
use super::format::{self, Kind, OutputHead, Total};
use super::{Compression, ExchangeError};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_ipc::convert::fb_to_schema;
use arrow_ipc::reader::{read_dictionary, read_record_batch};
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message};
use arrow_ipc::{CompressionType, MessageHeader, MetadataVersion};
use std::collections::HashMap;
use std::sync::Arc;
use windlass_core::ids::AttemptId;

/// Alignment of buffers inside a message: the widest values, of 128 bits, need it to be read in place.
const ALIGNMENT: usize = 16;
/// The first bytes of an Arrow IPC message, except in early versions of the format.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Encodes the frames of one output.
pub(super) struct Encoder {
    head: OutputHead,
    schema: SchemaRef,
    options: IpcWriteOptions,
    context: IpcWriteContext,
    /// Number of dictionaries in the schema, including nested ones.
    dictionaries: usize,
    block_bytes: usize,
}

impl Encoder {
    pub(super) fn new(
        head: OutputHead,
        schema: SchemaRef,
        compression: Compression,
        block_bytes: usize,
    ) -> Result<Self, ExchangeError> {
        let codec = match compression {
            Compression::None => None,
            Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
            Compression::Zstd => Some(CompressionType::ZSTD),
        };
        let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)
            .and_then(|options| options.try_with_compression(codec))
            .map_err(|source| ExchangeError::arrow(head.output, source))?;
        Ok(Encoder { head, schema, options, context: IpcWriteContext::default(), dictionaries: 0, block_bytes })
    }

    /// Appends the Output and the Schema frame. Must come before any batch.
    pub(super) fn preamble(&mut self, out: &mut Vec<u8>) -> Result<(), ExchangeError> {
        format::write_plain_frame(out, Kind::Output, 0, 0, &self.head.encode());
        let mut tracker = DictionaryTracker::new(false);
        let message = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
            &self.schema,
            &mut tracker,
            &self.options,
        );
        self.dictionaries = tracker.dict_id().len();
        format::write_frame(out, Kind::Schema, 0, 0, |out| write_message(out, message, &self.options).map(drop))
            .map_err(|source| ExchangeError::arrow(self.head.output, source))
    }

    /// Appends `batch` as one frame, or as several when it is far larger than a block should be.
    pub(super) fn batch(
        &mut self,
        out: &mut Vec<u8>,
        bucket: u32,
        batch: &RecordBatch,
    ) -> Result<Total, ExchangeError> {
        let rows = batch.num_rows();
        let pieces = (block::data_bytes(batch) / self.block_bytes).clamp(1, rows.max(1));
        let step = rows.div_ceil(pieces).max(1);
        let mut total = Total::default();
        (0..rows)
            .step_by(step)
            .try_for_each(|start| {
                let piece = block::exact(&batch.slice(start, step.min(rows - start)))?;
                self.piece(out, bucket, &piece, &mut total)
            })
            .map_err(|source| ExchangeError::arrow(self.head.output, source))?;
        Ok(total)
    }

    fn piece(
        &mut self,
        out: &mut Vec<u8>,
        bucket: u32,
        batch: &RecordBatch,
        total: &mut Total,
    ) -> Result<(), ArrowError> {
        // A new tracker for each batch makes the encoder write all of its dictionaries.
        let mut tracker = DictionaryTracker::new(false);
        for _ in 0..self.dictionaries {
            tracker.next_dict_id();
        }
        let generator = IpcDataGenerator::default();
        let (dictionaries, message) = generator.encode(batch, &mut tracker, &self.options, &mut self.context)?;
        format::write_frame(out, Kind::Batch, bucket, batch.num_rows() as u64, |out| {
            for dictionary in dictionaries {
                write_message(&mut *out, dictionary, &self.options)?;
            }
            write_message(&mut *out, message, &self.options).map(drop)
        })?;
        total.batches += 1;
        total.rows += batch.num_rows() as u64;
        Ok(())
    }
}

/// Decodes the payloads of one output's frames.
pub(super) struct Decoder {
    schema: SchemaRef,
}

impl Decoder {
    /// Decodes the payload of a Schema frame.
    pub(super) fn new(output: AttemptId, payload: &Buffer) -> Result<Self, ExchangeError> {
        let mut decoded = None;
        each_message(payload, |message, _| {
            decoded = message.header_as_schema().map(fb_to_schema);
            Ok(())
        })
        .map_err(|source| ExchangeError::arrow(output, source))?;
        let schema: Schema = decoded.ok_or_else(|| ExchangeError::corrupt(output, "it has no schema"))?;
        Ok(Decoder { schema: Arc::new(schema) })
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Decodes the payload of a Batch frame.
    pub(super) fn batch(&self, output: AttemptId, payload: &Buffer) -> Result<RecordBatch, ExchangeError> {
        let mut dictionaries: HashMap<i64, ArrayRef> = HashMap::new();
        let mut decoded = None;
        each_message(payload, |message, body| {
            let version = message.version();
            match message.header_type() {
                MessageHeader::DictionaryBatch => {
                    let batch = message.header_as_dictionary_batch().ok_or_else(no_body)?;
                    read_dictionary(body, batch, &self.schema, &mut dictionaries, &version)
                }
                MessageHeader::RecordBatch => {
                    let batch = message.header_as_record_batch().ok_or_else(no_body)?;
                    let schema = Arc::clone(&self.schema);
                    decoded = Some(read_record_batch(body, batch, schema, &dictionaries, None, &version)?);
                    Ok(())
                }
                other => Err(ArrowError::IpcError(format!("a batch contains a message of type {other:?}"))),
            }
        })
        .map_err(|source| ExchangeError::arrow(output, source))?;
        decoded.ok_or_else(|| ExchangeError::corrupt(output, "a frame holds no batch"))
    }
}

/// Calls a function for each encapsulated message of a payload. (arrow's `StreamDecoder` cannot be used: it returns a message without a body, such as a batch
/// without columns, only when bytes of the next message come.)
fn each_message(
    payload: &Buffer,
    mut visit: impl FnMut(arrow_ipc::Message<'_>, &Buffer) -> Result<(), ArrowError>,
) -> Result<(), ArrowError> {
    let mut rest = payload.clone();
    while !rest.is_empty() {
        let length: [u8; 4] = match rest.get(..8) {
            Some(prefix) if prefix[..4] == CONTINUATION => [prefix[4], prefix[5], prefix[6], prefix[7]],
            _ => return Err(ArrowError::IpcError("a message does not start as one".to_owned())),
        };
        let metadata = take(&mut rest, 8, u64::from(u32::from_le_bytes(length)))?;
        let message = arrow_ipc::root_as_message(&metadata)
            .map_err(|error| ArrowError::ParseError(format!("a message's metadata is invalid: {error}")))?;
        let body = take(&mut rest, 0, message.bodyLength().try_into().unwrap_or(u64::MAX))?;
        visit(message, &body)?;
    }
    Ok(())
}

/// Skips `skip` bytes of `rest`, then cuts off and returns `len` bytes.
fn take(rest: &mut Buffer, skip: usize, len: u64) -> Result<Buffer, ArrowError> {
    let fits = usize::try_from(len).ok().filter(|len| skip.checked_add(*len).is_some_and(|end| end <= rest.len()));
    let len = fits.ok_or_else(|| ArrowError::IpcError(format!("a message of {len} bytes exceeds its frame")))?;
    let taken = rest.slice_with_length(skip, len);
    rest.advance(skip + len);
    Ok(taken)
}

fn no_body() -> ArrowError {
    ArrowError::IpcError("a message is not of the type that it says".to_owned())
}
