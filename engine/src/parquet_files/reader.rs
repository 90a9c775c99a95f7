//! Scans of Parquet files, as executors run them.

use super::bounds::believed;
use bytes::Bytes;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::CachedParquetMetaData;
use datafusion::datasource::physical_plan::parquet::{CachedParquetFileReaderFactory, ParquetFileReaderFactory};
use datafusion::execution::cache::cache_manager::{CachedFileMetadataEntry, FileMetadataCache};
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::Result as ParquetResult;
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::{ObjectMeta, ObjectStore};
use std::ops::Range;
use std::sync::Arc;

/// Gives scans the [believed](super::bounds::believed) metadata of files, from `footers` where it is there.
#[derive(Debug)]
pub(crate) struct BelievedFiles {
    inner: CachedParquetFileReaderFactory,
    footers: Footers,
}

/// Footers of Parquet files.
#[derive(Clone)]
struct Footers(Arc<FileMetadataCache>);

impl BelievedFiles {
    pub fn new(store: Arc<dyn ObjectStore>, footers: Arc<FileMetadataCache>) -> Self {
        Self { inner: CachedParquetFileReaderFactory::new(store, Arc::clone(&footers)), footers: Footers(footers) }
    }
}

impl std::fmt::Debug for Footers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Footers").finish_non_exhaustive()
    }
}

impl ParquetFileReaderFactory for BelievedFiles {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        footer_size: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let object = file.object_meta.clone();
        let inner = self.inner.create_reader(partition, file, footer_size, metrics)?;
        Ok(Box::new(BelievedFile { inner, object, footers: self.footers.clone() }))
    }
}

struct BelievedFile {
    inner: Box<dyn AsyncFileReader + Send>,
    object: ObjectMeta,
    footers: Footers,
}

impl AsyncFileReader for BelievedFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.inner.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.inner.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let metadata = self.inner.get_metadata(options).await?;
            believed_and_kept(metadata, &self.object, &self.footers.0)
        }
        .boxed()
    }
}

/// What is believed of `metadata`; it also takes the place in `footers` of what is not.
pub(super) fn believed_and_kept(
    metadata: Arc<ParquetMetaData>,
    object: &ObjectMeta,
    footers: &Arc<FileMetadataCache>,
) -> ParquetResult<Arc<ParquetMetaData>> {
    let held = believed(Arc::clone(&metadata))?;
    if !Arc::ptr_eq(&held, &metadata) {
        let entry = Arc::new(CachedParquetMetaData::new(Arc::clone(&held)));
        footers.put(&object.location, CachedFileMetadataEntry::new(object.clone(), entry));
    }
    Ok(held)
}
