//! The file format of STORED AS JSON.

use super::infer::schema;
use super::scan::JsonScan;
use crate::time::with_offsets;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::config::JsonOptions;
use datafusion::common::{GetExt, Result, Statistics, internal_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::{JsonFormat, JsonFormatFactory};
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory};
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, FileSinkConfig, FileSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::LexRequirement;
use datafusion::physical_plan::ExecutionPlan;
use object_store::{ObjectMeta, ObjectStore};
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(crate) struct JsonFilesFactory;

impl GetExt for JsonFilesFactory {
    fn get_ext(&self) -> String {
        JsonFormatFactory::new().get_ext()
    }
}

impl FileFormatFactory for JsonFilesFactory {
    fn create(&self, state: &dyn Session, options: &HashMap<String, String>) -> Result<Arc<dyn FileFormat>> {
        let format = JsonFormatFactory::new().create(state, options)?;
        let Some(format) = format.downcast_ref::<JsonFormat>() else {
            return internal_err!("the format of JSON files is not DataFusion's");
        };
        Ok(Arc::new(JsonFiles { options: format.options().clone() }))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(JsonFiles::default())
    }
}

/// Reads with [`JsonScan`]; writes as DataFusion does, but with the seconds of offsets.
#[derive(Debug, Default)]
struct JsonFiles {
    options: JsonOptions,
}

impl JsonFiles {
    fn datafusion(&self) -> JsonFormat {
        JsonFormat::default().with_options(self.options.clone())
    }
}

#[async_trait]
impl FileFormat for JsonFiles {
    fn get_ext(&self) -> String {
        self.datafusion().get_ext()
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> Result<String> {
        self.datafusion().get_ext_with_compression(compression)
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        self.datafusion().compression_type()
    }

    async fn infer_schema(
        &self,
        _: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        objects: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        schema(&self.options, store, "", objects).await
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
        let config = FileScanConfigBuilder::from(config)
            .with_file_compression_type(FileCompressionType::from(self.options.compression))
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    async fn create_writer_physical_plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        state: &dyn Session,
        config: FileSinkConfig,
        order: Option<LexRequirement>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = match order {
            // The columns stay unchanged.
            Some(_) => input,
            None => with_offsets(input, &config.table_partition_cols, Arc::clone(state.config().options()))?,
        };
        self.datafusion().create_writer_physical_plan(input, state, config, order).await
    }

    fn file_source(&self, table_schema: TableSchema) -> Arc<dyn FileSource> {
        Arc::new(JsonScan::new(table_schema, !self.options.newline_delimited))
    }
}
