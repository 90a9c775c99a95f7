//! Scans of Parquet files, as executors run them.

use super::bounds::believed;
use arrow::datatypes::DataType;
use bytes::Bytes;
use datafusion::common::{HashMap, Result, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{CachedParquetFileReaderFactory, ParquetFileReaderFactory};
use datafusion::execution::cache::cache_manager::{CachedFileMetadataEntry, FileMetadata, FileMetadataCache};
use datafusion::logical_expr::Operator;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::Result as ParquetResult;
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, InListExpr, Literal};
use datafusion::physical_expr::{PhysicalExpr, split_conjunction};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::{ObjectMeta, ObjectStore};
use std::any::Any;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// Gives a scan the [believed](super::bounds::believed) metadata of files, from `footers` if it is there.
#[derive(Debug)]
pub(crate) struct BelievedFiles {
    inner: CachedParquetFileReaderFactory,
    footers: Footers,
    /// Columns that are not NaN in the rows that the scan needs.
    numbers: Arc<BTreeSet<String>>,
}

impl BelievedFiles {
    pub fn new(
        store: Arc<dyn ObjectStore>,
        footers: Arc<FileMetadataCache>,
        predicate: Option<&Arc<dyn PhysicalExpr>>,
    ) -> Self {
        let numbers = Arc::new(predicate.map(numbers).unwrap_or_default());
        let inner = CachedParquetFileReaderFactory::new(store, Arc::clone(&footers));
        Self { inner, footers: Footers(footers), numbers }
    }
}

/// The columns that are not NaN in any row for which `predicate` is true.
fn numbers(predicate: &Arc<dyn PhysicalExpr>) -> BTreeSet<String> {
    split_conjunction(predicate).into_iter().filter_map(number).map(|column| column.name().to_string()).collect()
}

fn number(predicate: &Arc<dyn PhysicalExpr>) -> Option<&Column> {
    if let Some(list) = predicate.downcast_ref::<InListExpr>() {
        return column(list.expr()).filter(|_| !list.negated() && list.list().iter().all(is_number));
    }
    let comparison = predicate.downcast_ref::<BinaryExpr>()?;
    let (left, right) = (comparison.left(), comparison.right());
    match comparison.op() {
        Operator::Lt | Operator::LtEq | Operator::Eq if is_number(right) => column(left),
        Operator::Gt | Operator::GtEq | Operator::Eq if is_number(left) => column(right),
        _ => None,
    }
}

fn column(expr: &Arc<dyn PhysicalExpr>) -> Option<&Column> {
    match expr.downcast_ref::<CastExpr>() {
        Some(cast) if cast.cast_type().is_floating() => column(cast.expr()),
        _ => expr.downcast_ref(),
    }
}

fn is_number(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let number = expr.downcast_ref::<Literal>().map(|literal| literal.value().cast_to(&DataType::Float64));
    matches!(number, Some(Ok(ScalarValue::Float64(Some(number)))) if !number.is_nan())
}

/// Cached footers of Parquet files.
#[derive(Clone)]
pub(super) struct Footers(pub Arc<FileMetadataCache>);

/// A footer as written, and its believed part.
#[derive(Clone)]
pub(super) struct Footer {
    pub written: Arc<ParquetMetaData>,
    pub believed: Arc<ParquetMetaData>,
}

impl FileMetadata for Footer {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn memory_size(&self) -> usize {
        let same = Arc::ptr_eq(&self.written, &self.believed);
        self.written.memory_size() + if same { 0 } else { self.believed.memory_size() }
    }

    fn extra_info(&self) -> HashMap<String, String> {
        HashMap::from([("page_index".to_owned(), self.has_page_index().to_string())])
    }
}

impl Footer {
    pub fn has_page_index(&self) -> bool {
        self.written.column_index().is_some() && self.written.offset_index().is_some()
    }
}

impl Footers {
    pub fn get(&self, object: &ObjectMeta) -> Option<Footer> {
        let kept = self.0.get(&object.location).filter(|kept| kept.is_valid_for(object))?;
        kept.file_metadata.as_any().downcast_ref::<Footer>().cloned()
    }

    pub fn keep(&self, object: &ObjectMeta, written: Arc<ParquetMetaData>) -> ParquetResult<Footer> {
        let believed = believed(Arc::clone(&written), &BTreeSet::new())?;
        let footer = Footer { written, believed };
        self.0.put(&object.location, CachedFileMetadataEntry::new(object.clone(), Arc::new(footer.clone())));
        Ok(footer)
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
        let (footers, numbers) = (self.footers.clone(), Arc::clone(&self.numbers));
        Ok(Box::new(BelievedFile { inner, object, footers, numbers }))
    }
}

struct BelievedFile {
    inner: Box<dyn AsyncFileReader + Send>,
    object: ObjectMeta,
    footers: Footers,
    numbers: Arc<BTreeSet<String>>,
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
            let wants_index = options.is_some_and(|options| options.column_index_policy() != PageIndexPolicy::Skip);
            let footer = match self.footers.get(&self.object).filter(|kept| !wants_index || kept.has_page_index()) {
                Some(kept) => kept,
                None => self.footers.keep(&self.object, self.inner.get_metadata(options).await?)?,
            };
            match self.numbers.is_empty() {
                true => Ok(footer.believed),
                false => believed(footer.written, &self.numbers),
            }
        }
        .boxed()
    }
}
