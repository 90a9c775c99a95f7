//! Parquet files as COPY of Redshift reads them, of about as many bytes as the table says.
//!
//! Redshift reads files side by side, on its slices. Small loads are to occupy all of these, so the first files of a task are smaller ones.
//! <https://docs.aws.amazon.com/redshift/latest/dg/c_best-practices-use-multiple-files.html>

use super::staging::Staging;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

/// Encoded bytes after which a row group ends.
const ROW_GROUP: usize = 16 << 20;
/// Rows after which it is looked whether a file is full.
const SLICE: usize = 2048;
/// The part of a whole file that a small one is.
const SMALL: usize = 8;

/// What files are to be like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Bytes of a whole file, about.
    pub bytes: usize,
    /// Number of small files before the whole ones.
    pub small: usize,
    pub compression: Compression,
}

impl Shape {
    pub fn new(bytes: usize, small: usize, compression: &str) -> Self {
        let compression = match compression.to_lowercase().as_str() {
            "zstd" => Compression::ZSTD(ZstdLevel::default()),
            "none" => Compression::UNCOMPRESSED,
            _ => Compression::SNAPPY,
        };
        Self { bytes, small, compression }
    }
}

/// The files of one attempt.
pub(super) struct Files<'a> {
    staging: &'a Staging,
    attempt: String,
    schema: SchemaRef,
    shape: Shape,
    /// The bytes of the file that is being written.
    reserved: MemoryReservation,
    writer: Option<ArrowWriter<Vec<u8>>>,
    pub written: usize,
    pub bytes: u64,
}

impl<'a> Files<'a> {
    pub fn new(staging: &'a Staging, attempt: String, schema: SchemaRef, shape: Shape, context: &TaskContext) -> Self {
        let reserved = MemoryConsumer::new("RedshiftSink").register(context.memory_pool());
        Self { staging, attempt, schema, shape, reserved, writer: None, written: 0, bytes: 0 }
    }

    pub async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        for from in (0..rows.num_rows()).step_by(SLICE) {
            self.write_slice(&rows.slice(from, SLICE.min(rows.num_rows() - from))).await?;
        }
        Ok(())
    }

    async fn write_slice(&mut self, rows: &RecordBatch) -> Result<()> {
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.opened()?,
        };
        writer.write(rows)?;
        if writer.in_progress_size() >= ROW_GROUP {
            writer.flush()?;
        }
        let whole = if self.written < self.shape.small { self.shape.bytes / SMALL } else { self.shape.bytes };
        let is_full = writer.bytes_written() + writer.in_progress_size() >= whole;
        // Where memory is short, files are smaller.
        let has_room = self.reserved.try_resize(writer.inner().capacity() + writer.memory_size()).is_ok();
        match is_full || !has_room {
            true => self.put(writer).await,
            false => {
                self.writer = Some(writer);
                Ok(())
            }
        }
    }

    pub async fn end(&mut self) -> Result<()> {
        match self.writer.take() {
            Some(writer) => self.put(writer).await,
            None => Ok(()),
        }
    }

    fn opened(&self) -> Result<ArrowWriter<Vec<u8>>> {
        let properties = WriterProperties::builder()
            .set_compression(self.shape.compression)
            // The parts of lists and maps have the names of the specification.
            .set_coerce_types(true)
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        Ok(ArrowWriter::try_new_with_options(Vec::new(), SchemaRef::clone(&self.schema), options)?)
    }

    async fn put(&mut self, writer: ArrowWriter<Vec<u8>>) -> Result<()> {
        let file = writer.into_inner()?;
        self.bytes += file.len() as u64;
        self.staging.put(&self.attempt, self.written, file).await?;
        self.written += 1;
        self.reserved.free();
        Ok(())
    }
}
