//! Parquet, written in row groups as they fill up.

use super::{ResultWriter, Textified};
use crate::error::{ClientError, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use std::io::Write;

pub(super) struct Parquet<'a> {
    text: Textified,
    /// The writer; `None` when the file is complete.
    writer: Option<ArrowWriter<&'a mut (dyn Write + Send)>>,
}

/// Rows held in memory, encoded, before they are written.
const ROW_GROUP_ROWS: usize = 256 * 1024;

impl<'a> Parquet<'a> {
    pub(super) fn new(schema: &SchemaRef, out: &'a mut (dyn Write + Send)) -> Result<Parquet<'a>> {
        let text = Textified::new(schema, |data_type| {
            matches!(data_type, DataType::Union(_, _) | DataType::Interval(_) | DataType::Duration(_) | DataType::Null)
        });
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        let writer = ArrowWriter::try_new(out, text.schema.clone(), Some(properties)).map_err(failed)?;
        Ok(Parquet { text, writer: Some(writer) })
    }
}

fn failed(error: ParquetError) -> ClientError {
    ClientError::Io {
        doing: "write the result as parquet".to_owned(),
        source: std::io::Error::other(error.to_string()),
    }
}

impl ResultWriter for Parquet<'_> {
    fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = self.text.apply(batch)?;
        match &mut self.writer {
            Some(writer) => writer.write(&batch).map_err(failed),
            None => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<()> {
        match self.writer.take() {
            Some(writer) => writer.close().map(|_| ()).map_err(failed),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::batch;
    use super::super::{Format, writer};
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    #[test]
    fn what_is_written_reads_back_equal() {
        let mut out = Vec::new();
        let mut writer = writer(Format::Parquet, &batch().schema(), &mut out).unwrap();
        writer.batch(&batch()).unwrap();
        writer.finish().unwrap();
        drop(writer);
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(out)).unwrap().build().unwrap();
        let rows: Vec<_> = reader.map(Result::unwrap).collect();
        assert_eq!(rows, [batch()]);
    }
}
