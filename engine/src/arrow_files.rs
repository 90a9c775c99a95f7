//! Arrow files, written by executors. DataFusion's sink for them can neither be encoded nor describe what it writes, so the format here wraps it in one that
//! keeps the description. The schema of a file in a store is read from its footer: DataFusion looks for it at the eighth byte, and arrow-rs writes it at the
//! 64th.

use crate::file_formats::{planned_sink, unused_session};
use arrow::datatypes::{Schema, SchemaRef};
use arrow_ipc::convert::fb_to_schema;
use arrow_ipc::reader::read_footer_length;
use arrow_ipc::root_as_footer;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{GetExt, Result, Statistics, exec_datafusion_err, exec_err};
use datafusion::datasource::file_format::arrow::{ArrowFormat, ArrowFormatFactory};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory};
use datafusion::datasource::physical_plan::{FileScanConfig, FileSinkConfig, FileSource};
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::LexRequirement;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use std::collections::HashMap;
use std::fmt;
use std::slice;
use std::sync::Arc;

/// The bytes at the start of a file; its end has them after the length of the footer.
const ARROW_MAGIC: &[u8] = b"ARROW1";
/// Bytes of that end.
const TRAILER: u64 = 10;

/// The format of STORED AS ARROW.
#[derive(Debug, Default)]
pub(crate) struct ArrowFilesFactory;

impl GetExt for ArrowFilesFactory {
    fn get_ext(&self) -> String {
        ArrowFormatFactory::new().get_ext()
    }
}

impl FileFormatFactory for ArrowFilesFactory {
    fn create(&self, _: &dyn Session, _: &HashMap<String, String>) -> Result<Arc<dyn FileFormat>> {
        Ok(Arc::new(ArrowFiles))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(ArrowFiles)
    }
}

/// DataFusion's format with another sink.
#[derive(Debug)]
struct ArrowFiles;

#[async_trait]
impl FileFormat for ArrowFiles {
    fn get_ext(&self) -> String {
        ArrowFormat.get_ext()
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> Result<String> {
        ArrowFormat.get_ext_with_compression(compression)
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        ArrowFormat.compression_type()
    }

    async fn infer_schema(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        objects: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        let mut schemas = Vec::with_capacity(objects.len());
        for object in objects {
            schemas.push(match footer_schema(store.as_ref(), object).await? {
                Some(schema) => schema,
                // It is a stream, which has no footer.
                None => Arc::unwrap_or_clone(ArrowFormat.infer_schema(state, store, slice::from_ref(object)).await?),
            });
        }
        Ok(Arc::new(Schema::try_merge(schemas)?))
    }

    async fn infer_stats(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<Statistics> {
        ArrowFormat.infer_stats(state, store, table_schema, object).await
    }

    async fn create_physical_plan(
        &self,
        state: &dyn Session,
        config: FileScanConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        ArrowFormat.create_physical_plan(state, config).await
    }

    async fn create_writer_physical_plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        state: &dyn Session,
        config: FileSinkConfig,
        order: Option<LexRequirement>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let written = datafusion_sink(Arc::clone(&input), state, config.clone()).await?;
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(ArrowSink { config, written }), order)))
    }

    fn file_source(&self, table_schema: TableSchema) -> Arc<dyn FileSource> {
        ArrowFormat.file_source(table_schema)
    }
}

/// DataFusion's sink, and the description of what it writes.
#[derive(Debug)]
pub(crate) struct ArrowSink {
    pub config: FileSinkConfig,
    written: DataSinkExec,
}

impl ArrowSink {
    /// A sink that writes as `config` says.
    pub(crate) async fn new(config: FileSinkConfig) -> Result<Self> {
        let input = Arc::new(EmptyExec::new(Arc::clone(config.output_schema())));
        let written = datafusion_sink(input, unused_session(), config.clone()).await?;
        Ok(Self { config, written })
    }
}

/// The schema in the footer of `object`. `None`: it is no Arrow file, but perhaps a stream.
async fn footer_schema(store: &dyn ObjectStore, object: &ObjectMeta) -> Result<Option<Schema>> {
    let (path, size) = (&object.location, object.size);
    let magic = ARROW_MAGIC.len() as u64;
    if size < magic + TRAILER || store.get_range(path, 0..magic).await?.as_ref() != ARROW_MAGIC {
        return Ok(None);
    }
    let trailer = store.get_range(path, size - TRAILER..size).await?;
    let trailer = trailer.as_ref().try_into().map_err(|_| exec_datafusion_err!("the file has no trailer"))?;
    let length = read_footer_length(trailer)? as u64;
    let Some(begin) = (size - TRAILER).checked_sub(length) else {
        return exec_err!("the file's footer is longer than the file");
    };
    let footer = store.get_range(path, begin..size - TRAILER).await?;
    let footer = root_as_footer(&footer).map_err(|error| exec_datafusion_err!("the file's footer: {error}"))?;
    let schema = footer.schema().ok_or_else(|| exec_datafusion_err!("the file's footer has no schema"))?;
    Ok(Some(fb_to_schema(schema)))
}

async fn datafusion_sink(
    input: Arc<dyn ExecutionPlan>,
    session: &dyn Session,
    config: FileSinkConfig,
) -> Result<DataSinkExec> {
    let plan = ArrowFormat.create_writer_physical_plan(input, session, config, None).await?;
    planned_sink(&plan).cloned()
}

impl DisplayAs for ArrowSink {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written.sink().fmt_as(format, f)
    }
}

#[async_trait]
impl DataSink for ArrowSink {
    fn schema(&self) -> &SchemaRef {
        self.written.sink().schema()
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.written.sink().metrics()
    }

    async fn write_all(&self, rows: SendableRecordBatchStream, context: &Arc<TaskContext>) -> Result<u64> {
        self.written.sink().write_all(rows, context).await
    }
}
