//! Parquet files. Their metadata is not trusted where rows may contradict it.
//!
//! DataFusion prunes, aggregates, sorts and folds columns to constants by the metadata of files. Here it gets the metadata without doubtful statements
//! ([`bounds`]): the format below plans with it, and [`BelievedFiles`] reads it where a scan runs.

mod bounds;
mod footers;
mod reader;
mod statistics;
#[cfg(test)]
mod tests;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{GetExt, Result, Statistics, internal_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::parquet::{ParquetFormat, ParquetFormatFactory};
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::{FileScanConfig, FileSinkConfig, FileSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::{LexOrdering, LexRequirement};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_datasource::file_format::FileMeta;
pub use footers::footers_of;
use object_store::{ObjectMeta, ObjectStore};
pub(crate) use reader::BelievedFiles;
use reader::{Footer, Footers};
use std::collections::HashMap;
use std::sync::Arc;

/// The format of STORED AS PARQUET.
#[derive(Debug, Default)]
pub(crate) struct ParquetFilesFactory;

impl GetExt for ParquetFilesFactory {
    fn get_ext(&self) -> String {
        ParquetFormatFactory::new().get_ext()
    }
}

impl FileFormatFactory for ParquetFilesFactory {
    fn create(&self, state: &dyn Session, options: &HashMap<String, String>) -> Result<Arc<dyn FileFormat>> {
        let format = ParquetFormatFactory::new().create(state, options)?;
        match format.downcast_ref::<ParquetFormat>() {
            Some(inner) => {
                Ok(Arc::new(ParquetFiles { inner: ParquetFormat::new().with_options(inner.options().clone()) }))
            }
            None => internal_err!("the format of Parquet files is another one"),
        }
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(ParquetFiles::default())
    }
}

/// DataFusion's format, which trusts less of the files' metadata.
#[derive(Debug, Default)]
struct ParquetFiles {
    inner: ParquetFormat,
}

impl ParquetFiles {
    async fn footer(&self, state: &dyn Session, store: &Arc<dyn ObjectStore>, object: &ObjectMeta) -> Result<Footer> {
        let footers = Footers(state.runtime_env().cache_manager.get_file_metadata_cache());
        if let Some(kept) = footers.get(object) {
            return Ok(kept);
        }
        let written = DFParquetMetadata::new(store, object)
            .with_metadata_size_hint(self.inner.metadata_size_hint())
            .with_file_metadata_cache(Some(Arc::clone(&footers.0)))
            .fetch_metadata()
            .await?;
        Ok(footers.keep(object, written)?)
    }
}

#[async_trait]
impl FileFormat for ParquetFiles {
    fn get_ext(&self) -> String {
        self.inner.get_ext()
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> Result<String> {
        self.inner.get_ext_with_compression(compression)
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        self.inner.compression_type()
    }

    async fn infer_schema(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        objects: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        self.inner.infer_schema(state, store, objects).await
    }

    async fn infer_stats(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<Statistics> {
        let footer = self.footer(state, store, object).await?;
        statistics::statistics(&footer.believed, &footer.written, &table_schema)
    }

    async fn infer_ordering(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<Option<LexOrdering>> {
        statistics::ordering(&self.footer(state, store, object).await?.believed, &table_schema)
    }

    async fn infer_stats_and_ordering(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<FileMeta> {
        let footer = self.footer(state, store, object).await?;
        let ordering = statistics::ordering(&footer.believed, &table_schema)?;
        let statistics = statistics::statistics(&footer.believed, &footer.written, &table_schema)?;
        Ok(FileMeta::new(statistics).with_ordering(ordering))
    }

    async fn create_physical_plan(
        &self,
        state: &dyn Session,
        config: FileScanConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.inner.create_physical_plan(state, config).await
    }

    async fn create_writer_physical_plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        state: &dyn Session,
        config: FileSinkConfig,
        order: Option<LexRequirement>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.inner.create_writer_physical_plan(input, state, config, order).await
    }

    fn file_source(&self, table_schema: TableSchema) -> Arc<dyn FileSource> {
        self.inner.file_source(table_schema)
    }
}
