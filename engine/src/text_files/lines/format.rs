//! The file format of a kind of lines.

use super::LineFormat;
use super::infer::columns;
use super::scan::LineScan;
use super::write::LineFilesSink;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::config::JsonOptions;
use datafusion::common::file_options::json_writer::JsonWriterOptions;
use datafusion::common::{GetExt, Result, Statistics, internal_err, plan_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::{JsonFormat, JsonFormatFactory};
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory};
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, FileSinkConfig, FileSource};
use datafusion::datasource::sink::DataSinkExec;
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::LexRequirement;
use datafusion::physical_plan::ExecutionPlan;
use object_store::{ObjectMeta, ObjectStore};
use std::collections::HashMap;
use std::sync::Arc;

/// Makes the format of STORED AS such lines.
#[derive(Debug)]
pub(crate) struct LineFilesFactory(pub(crate) Arc<dyn LineFormat>);

impl GetExt for LineFilesFactory {
    /// The name by which statements find the format.
    fn get_ext(&self) -> String {
        self.0.name().to_lowercase()
    }
}

impl FileFormatFactory for LineFilesFactory {
    fn create(&self, state: &dyn Session, options: &HashMap<String, String>) -> Result<Arc<dyn FileFormat>> {
        // Its options are those of JSON lines.
        let format = JsonFormatFactory::new().create(state, options)?;
        let Some(format) = format.downcast_ref::<JsonFormat>() else {
            return internal_err!("the format of JSON files is not DataFusion's");
        };
        if !format.is_newline_delimited() {
            return plan_err!("{} files have a row on each line: leave newline_delimited out", self.0.name());
        }
        Ok(Arc::new(LineFiles { format: Arc::clone(&self.0), options: format.options().clone() }))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(LineFiles { format: Arc::clone(&self.0), options: JsonOptions::default() })
    }
}

#[derive(Debug)]
struct LineFiles {
    format: Arc<dyn LineFormat>,
    options: JsonOptions,
}

#[async_trait]
impl FileFormat for LineFiles {
    fn get_ext(&self) -> String {
        self.format.ending().to_string()
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> Result<String> {
        Ok(format!("{}{}", self.get_ext(), compression.get_ext()))
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        Some(self.options.compression.into())
    }

    async fn infer_schema(
        &self,
        _: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        objects: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        columns(self.format.as_ref(), &self.options, store, objects).await
    }

    async fn infer_stats(
        &self,
        _: &dyn Session,
        _: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        _: &ObjectMeta,
    ) -> Result<Statistics> {
        Ok(Statistics::new_unknown(&table_schema))
    }

    async fn create_physical_plan(&self, _: &dyn Session, config: FileScanConfig) -> Result<Arc<dyn ExecutionPlan>> {
        self.format.check_read(config.file_source.table_schema().file_schema())?;
        let config = FileScanConfigBuilder::from(config)
            .with_file_compression_type(FileCompressionType::from(self.options.compression))
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    async fn create_writer_physical_plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        _: &dyn Session,
        config: FileSinkConfig,
        order: Option<LexRequirement>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.format.check_written(&input.schema())?;
        let options = JsonWriterOptions::try_from(&self.options)?;
        let sink = LineFilesSink { config, options, format: Arc::clone(&self.format) };
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), order)))
    }

    fn file_source(&self, table_schema: TableSchema) -> Arc<dyn FileSource> {
        Arc::new(LineScan::new(Arc::clone(&self.format), table_schema))
    }
}
