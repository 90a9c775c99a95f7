//! The writer of files of lines.

use super::LineFormat;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::common::file_options::json_writer::JsonWriterOptions;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::datasource::file_format::json::JsonSink;
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

/// DataFusion's sink for JSON lines with lines of another format.
#[derive(Debug)]
pub(crate) struct LineFilesSink {
    pub config: FileSinkConfig,
    pub options: JsonWriterOptions,
    pub format: Arc<dyn LineFormat>,
}

impl LineFilesSink {
    /// DataFusion's sink, which can be encoded.
    pub(crate) fn plain(&self) -> JsonSink {
        JsonSink::new(self.config.clone(), self.options.clone())
    }
}

impl DisplayAs for LineFilesSink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LineFilesSink: {}", self.format.name())
    }
}

#[async_trait]
impl FileSink for LineFilesSink {
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
        let writer = Arc::new(LineWriter(Arc::clone(&self.format)));
        let (compression, level) = (self.options.compression.into(), self.options.compression_level);
        spawn_writer_tasks_and_join(context, writer, compression, level, store, demux_task, files).await
    }
}

#[async_trait]
impl DataSink for LineFilesSink {
    fn schema(&self) -> &SchemaRef {
        self.config.output_schema()
    }

    async fn write_all(&self, rows: SendableRecordBatchStream, context: &Arc<TaskContext>) -> Result<u64> {
        FileSink::write_all(self, rows, context).await
    }
}

#[derive(Debug)]
struct LineWriter(Arc<dyn LineFormat>);

impl BatchSerializer for LineWriter {
    fn serialize(&self, batch: RecordBatch, _: bool) -> Result<Bytes> {
        let mut lines = Vec::with_capacity(batch.num_rows() * batch.num_columns() * 16);
        let written = self.0.write(&batch, &mut lines);
        written.map_err(|wrong| exec_datafusion_err!("a row cannot be written as {}: {wrong}", self.0.name()))?;
        Ok(Bytes::from(lines))
    }
}
