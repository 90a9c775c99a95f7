//! The writer of CSV files. It distinguishes the empty string from NULL, as PostgreSQL and Spark do: `""` is the empty string, an empty field is NULL.

use crate::time::instants_as_text;
use arrow::array::RecordBatch;
use arrow::csv::{QuoteStyle, WriterBuilder};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::common::file_options::csv_writer::CsvWriterOptions;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::file_format::csv::CsvSink;
use datafusion::datasource::physical_plan::{FileSink, FileSinkConfig};
use datafusion::datasource::sink::DataSink;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType};
use datafusion_datasource::write::BatchSerializer;
use datafusion_datasource::write::demux::DemuxedStreamReceiver;
use datafusion_datasource::write::orchestration::spawn_writer_tasks_and_join;
use object_store::ObjectStore;
use std::fmt;
use std::sync::Arc;

/// DataFusion's sink for CSV files with our writer.
#[derive(Debug)]
pub struct CsvFilesSink {
    pub config: FileSinkConfig,
    pub options: CsvWriterOptions,
    /// The byte that begins comment lines.
    pub comment: Option<u8>,
}

impl CsvFilesSink {
    /// DataFusion's sink, which can be encoded.
    pub(crate) fn plain(&self) -> CsvSink {
        CsvSink::new(self.config.clone(), self.options.clone())
    }
}

impl DisplayAs for CsvFilesSink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CsvSink")
    }
}

#[async_trait]
impl FileSink for CsvFilesSink {
    fn config(&self) -> &FileSinkConfig {
        &self.config
    }

    async fn spawn_writer_tasks_and_join(
        &self,
        context: &Arc<TaskContext>,
        demux_task: SpawnedTask<Result<()>>,
        files: DemuxedStreamReceiver,
        store: Arc<dyn ObjectStore>,
    ) -> Result<u64> {
        let writer = Arc::new(CsvWriter { options: self.options.writer_options.clone(), comment: self.comment });
        let (compression, level) = (self.options.compression.into(), self.options.compression_level);
        spawn_writer_tasks_and_join(context, writer, compression, level, store, demux_task, files).await
    }
}

#[async_trait]
impl DataSink for CsvFilesSink {
    fn schema(&self) -> &arrow::datatypes::SchemaRef {
        self.config.output_schema()
    }

    async fn write_all(&self, rows: SendableRecordBatchStream, context: &Arc<TaskContext>) -> Result<u64> {
        FileSink::write_all(self, rows, context).await
    }
}

#[derive(Debug)]
struct CsvWriter {
    options: WriterBuilder,
    comment: Option<u8>,
}

impl BatchSerializer for CsvWriter {
    fn serialize(&self, batch: RecordBatch, initial: bool) -> Result<Bytes> {
        let mut out = Vec::with_capacity(batch.num_rows() * batch.num_columns() * 8);
        if self.options.header() && initial {
            let schema = batch.schema();
            for (column, field) in schema.fields().iter().enumerate() {
                self.begin_field(column, &mut out);
                self.value(field.name(), column, false, &mut out);
            }
            out.push(b'\n');
        }
        self.rows(&batch, &mut out)?;
        Ok(Bytes::from(out))
    }
}

impl CsvWriter {
    fn rows(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let formats = FormatOptions::default()
            .with_date_format(self.options.date_format())
            .with_datetime_format(self.options.datetime_format())
            .with_timestamp_format(self.options.timestamp_format())
            .with_timestamp_tz_format(self.options.timestamp_tz_format())
            .with_time_format(self.options.time_format());
        let arrays = batch.columns().iter().map(|array| match self.options.timestamp_tz_format() {
            Some(_) => Ok(Arc::clone(array)),
            None => instants_as_text(array),
        });
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (field, array) in batch.schema().fields().iter().zip(&arrays) {
            if array.data_type().is_nested() {
                let text =
                    format!("column '{}' is of type {}, which CSV files cannot hold", field.name(), field.data_type());
                return Err(DataFusionError::Execution(text));
            }
            let kind = Kind::of(field.data_type());
            columns.push((ArrayFormatter::try_new(array.as_ref(), &formats)?, array.logical_nulls(), kind));
        }
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            for (column, (values, nulls, kind)) in columns.iter().enumerate() {
                self.begin_field(column, out);
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    out.extend_from_slice(self.options.null().as_bytes());
                    continue;
                }
                text.clear();
                if *kind == Kind::Bytes {
                    // The form in which PostgreSQL writes bytes and the reader reads them.
                    text.push_str("\\x");
                }
                values.value(row).write(&mut text)?;
                let value = if *kind == Kind::Text { self.trimmed(&text) } else { &text };
                self.value(value, column, *kind == Kind::Number, out);
            }
            out.push(b'\n');
        }
        Ok(())
    }

    fn begin_field(&self, column: usize, out: &mut Vec<u8>) {
        if column > 0 {
            out.push(self.options.delimiter());
        }
    }

    fn trimmed<'a>(&self, text: &'a str) -> &'a str {
        let text = if self.options.ignore_leading_whitespace() { text.trim_start() } else { text };
        if self.options.ignore_trailing_whitespace() { text.trim_end() } else { text }
    }

    fn value(&self, value: &str, column: usize, is_number: bool, out: &mut Vec<u8>) {
        if !self.is_quoted(value, column, is_number) {
            out.extend_from_slice(value.as_bytes());
            return;
        }
        let (quote, escape, doubled) = (self.options.quote(), self.options.escape(), self.options.double_quote());
        out.push(quote);
        for byte in value.bytes() {
            if doubled && byte == quote {
                out.push(quote);
            } else if !doubled && (byte == quote || byte == escape) {
                out.push(escape);
            }
            out.push(byte);
        }
        out.push(quote);
    }

    fn is_quoted(&self, value: &str, column: usize, is_number: bool) -> bool {
        match self.options.quote_style() {
            QuoteStyle::Always => true,
            QuoteStyle::Never => false,
            QuoteStyle::NonNumeric if !is_number => true,
            _ => {
                let special = [self.options.delimiter(), self.options.quote(), b'\n', b'\r'];
                let looks_null = value.is_empty() || value == self.options.null();
                let looks_like_comment = column == 0 && self.comment.is_some() && value.bytes().next() == self.comment;
                looks_null || looks_like_comment || value.bytes().any(|byte| special.contains(&byte))
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Number,
    Text,
    Bytes,
    Other,
}

impl Kind {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Kind::Bytes
            }
            other if other.is_numeric() => Kind::Number,
            _ => Kind::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};

    fn written(options: WriterBuilder, columns: Vec<(&str, ArrayRef)>) -> String {
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        String::from_utf8(CsvWriter { options, comment: Some(b'#') }.serialize(batch, true).unwrap().to_vec()).unwrap()
    }

    fn numbers() -> ArrayRef {
        Arc::new(Int64Array::from(vec![Some(1), None, Some(-3)]))
    }

    #[test]
    fn the_empty_string_is_not_null() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![None, Some(""), Some("a\"b,\n")]));
        let all = || vec![("n", numbers()), ("s", Arc::clone(&texts))];
        assert_eq!(written(WriterBuilder::new(), all()), "n,s\n1,\n,\"\"\n-3,\"a\"\"b,\n\"\n");
        let null = WriterBuilder::new().with_null("\\N".into()).with_double_quote(false);
        assert_eq!(written(null, all()), "n,s\n1,\\N\n\\N,\"\"\n-3,\"a\\\"b,\n\"\n");
        let always = WriterBuilder::new().with_quote_style(QuoteStyle::Always).with_header(false);
        assert_eq!(written(always, all()), "\"1\",\n,\"\"\n\"-3\",\"a\"\"b,\n\"\n");
        let texts = WriterBuilder::new().with_quote_style(QuoteStyle::NonNumeric).with_header(false);
        assert_eq!(written(texts, vec![("n", numbers())]), "1\n\n-3\n");
    }

    #[test]
    fn what_would_read_as_null_or_as_a_comment_is_quoted() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["NULL", "#1", "x"]));
        let null = WriterBuilder::new().with_null("NULL".into());
        assert_eq!(written(null, vec![("s", texts)]), "s\n\"NULL\"\n\"#1\"\nx\n");
    }
}
