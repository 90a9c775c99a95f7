//! Scans of files, as executors run them: their errors name the file. Errors of text files also name the line ([`crate::text_files`]).

use crate::failure::{Blame, FileError, blame, file_name};
use crate::file_formats::unused_session;
use crate::parquet_files::{BelievedFiles, footers_of};
use crate::stores::{CountedFiles, ReadBytes};
use crate::text_files::csv::{CsvReading, CsvScan};
use crate::versions::{Bound, Told, Versions};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::config::ConfigOptions;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    CsvSource, FileGroup, FileOpener, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder};
use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan, SortOrderPushdownResult};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use std::fmt;
use std::sync::Arc;

/// Metrics of scans of the cluster's own files: bytes read from replicas on the task's executor, and from others.
pub const LOCAL_BYTES: &str = "local_bytes";
pub const REMOTE_BYTES: &str = "remote_bytes";

/// Prepares a decoded plan to run. `own`: the cluster's own files, for scans that count the bytes read of them. `footers`: the cached footers of Parquet
/// files.
pub(crate) fn prepare(
    plan: Arc<dyn ExecutionPlan>,
    own: Option<&Arc<dyn CountedFiles>>,
    footers: &Arc<FileMetadataCache>,
) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_down(|node| {
        let Some(config) = file_scan(&node) else { return Ok(Transformed::no(node)) };
        let source = NamingSource {
            inner: exact(&config.file_source),
            told: Told::of(config.object_store_url.as_str()),
            own: own.cloned(),
            footers: footers_of(footers, config.object_store_url.as_str()),
        };
        let config = FileScanConfigBuilder::from(config.clone()).with_source(Arc::new(source)).build();
        Ok(Transformed::yes(DataSourceExec::from_data_source(config) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

/// `plan` without the orders that a scan of files claims but that do not hold where one partition reads several files. Bounds show that files follow each
/// other, but bounds leave NULL out.
pub fn with_orders_that_hold(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(config) = file_scan(&plan) else { return Ok(plan) };
    let has_no_null = |key: &PhysicalSortExpr| {
        let Some(column) = key.expr.downcast_ref::<Column>() else { return false };
        // Bounds leave NaN out too.
        let schema = config.file_source.table_schema().table_schema();
        if schema.fields().get(column.index()).is_none_or(|field| field.data_type().is_floating()) {
            return false;
        }
        let several = config.file_groups.iter().filter(|group| group.len() > 1);
        several.flat_map(FileGroup::iter).all(|file| {
            let of_file = file.statistics.as_ref().and_then(|of| of.column_statistics.get(column.index()));
            of_file.is_some_and(|of| of.null_count == Precision::Exact(0))
        })
    };
    let one_each = config.file_groups.iter().all(|group| group.len() <= 1);
    let holds = |order: &&LexOrdering| one_each || order.iter().all(has_no_null);
    let orders: Vec<LexOrdering> = config.output_ordering.iter().filter(holds).cloned().collect();
    if orders.len() == config.output_ordering.len() {
        return Ok(plan);
    }
    let config = FileScanConfigBuilder::from(config.clone()).with_output_ordering(orders).build();
    Ok(DataSourceExec::from_data_source(config))
}

/// Our scan of text files in place of DataFusion's, which a client's DataFrame may have in its plan.
fn exact(source: &Arc<dyn FileSource>) -> Arc<dyn FileSource> {
    if let Some(csv) = source.downcast_ref::<CsvSource>() {
        return Arc::new(CsvScan::of_plain(csv, CsvReading::default()));
    }
    Arc::clone(source)
}

fn file_scan(plan: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref()
}

/// The file that is being read, for error messages.
#[derive(Clone)]
struct Reading {
    store: Arc<dyn ObjectStore>,
    file: ObjectMeta,
    name: String,
    /// The columns of the table.
    columns: SchemaRef,
    is_parquet: bool,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Reading {
    /// Adds the file to an error that is about the file. Expressions are computed while files are read; their errors are not the file's fault.
    fn failed(&self, error: DataFusionError) -> DataFusionError {
        match blame(&error) {
            Blame::File => FileError::of(&self.name, error),
            Blame::Values | Blame::Nobody => error,
        }
    }

    /// Does the same, also where a value of another type than the table's may be at fault, or the file may be gone: DataFusion's reader of footers drops the
    /// store's error.
    async fn failed_at(self, error: DataFusionError) -> DataFusionError {
        if blame(&error) == Blame::File
            && let Err(missing @ object_store::Error::NotFound { .. }) = self.store.head(&self.file.location).await
        {
            return FileError::of(&self.name, DataFusionError::ObjectStore(Box::new(missing)));
        }
        if blame(&error) == Blame::Values && self.is_parquet && self.has_other_types().await {
            return FileError::of(&self.name, error);
        }
        self.failed(error)
    }

    /// Whether columns must be cast to the table's types.
    async fn has_other_types(&self) -> bool {
        let format = ParquetFormat::default();
        let files = std::slice::from_ref(&self.file);
        let Ok(in_file) = format.infer_schema(unused_session(), &self.store, files).await else { return false };
        let is_other = |field: &FieldRef| {
            let column = self.columns.field_with_name(field.name());
            column.is_ok_and(|column| !alike(column.data_type(), field.data_type()))
        };
        in_file.fields().iter().any(is_other)
    }
}

/// Whether the types hold the same values: a table may have strings as views where its files do not.
fn alike(a: &DataType, b: &DataType) -> bool {
    a == b || (a.is_string() && b.is_string()) || (a.is_binary() && b.is_binary())
}

/// A source whose errors name the file.
struct NamingSource {
    inner: Arc<dyn FileSource>,
    /// How the versions of files are requested from the store, if they can be.
    told: Option<Told>,
    own: Option<Arc<dyn CountedFiles>>,
    /// Cached footers of the store's files.
    footers: Arc<FileMetadataCache>,
}

impl NamingSource {
    fn over(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        let (told, own, footers) = (self.told, self.own.clone(), Arc::clone(&self.footers));
        Arc::new(NamingSource { inner, told, own, footers })
    }

    /// The source, and the store that it reads. If versions can be requested, the scan has a store of its own that reads the versions in `versions`.
    fn of_partition(
        &self,
        store: Arc<dyn ObjectStore>,
        partition: usize,
        versions: &Arc<Versions>,
    ) -> (Arc<dyn FileSource>, Arc<dyn ObjectStore>) {
        let counter = |name: &'static str| MetricBuilder::new(self.metrics()).counter(name, partition);
        let bound: Option<Arc<dyn ObjectStore>> = self.told.and_then(|told| match told {
            Told::ByVersion => {
                let bytes = ReadBytes { local: counter(LOCAL_BYTES), remote: counter(REMOTE_BYTES) };
                self.own.as_ref()?.counted(bytes, Arc::clone(versions))
            }
            Told::ByTag => Some(Arc::new(Bound::new(Arc::clone(&store), told, Arc::clone(versions)))),
        });
        let store = bound.unwrap_or(store);
        // A decoded source already has a store that it reads from.
        let inner = match self.inner.downcast_ref::<ParquetSource>() {
            Some(parquet) => {
                let reader =
                    BelievedFiles::new(Arc::clone(&store), Arc::clone(&self.footers), parquet.filter().as_ref());
                Arc::new(parquet.clone().with_parquet_file_reader_factory(Arc::new(reader)))
            }
            None => Arc::clone(&self.inner),
        };
        (inner, store)
    }
}

impl FileSource for NamingSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let (inner, store) = self.of_partition(store, partition, &Arc::default());
        inner.create_file_opener(store, config, partition)
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        let versions = Arc::default();
        let (inner, store) = self.of_partition(store, partition, &versions);
        let inner = inner.create_morselizer(Arc::clone(&store), config, partition)?;
        let url = config.object_store_url.as_str().to_string();
        let columns = Arc::clone(self.table_schema().file_schema());
        let is_parquet = self.file_type() == "parquet";
        Ok(Box::new(NamingMorselizer { inner, store, url, columns, is_parquet, versions }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        self.over(self.inner.with_batch_size(batch_size))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, format: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        self.inner.fmt_extra(format, f)
    }

    fn supports_repartitioning(&self) -> bool {
        self.inner.supports_repartitioning()
    }

    fn repartitioned(
        &self,
        partitions: usize,
        min_size: usize,
        ordering: Option<LexOrdering>,
        config: &FileScanConfig,
    ) -> Result<Option<FileScanConfig>> {
        self.inner.repartitioned(partitions, min_size, ordering, config)
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        options: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let mut pushed = self.inner.try_pushdown_filters(filters, options)?;
        pushed.updated_node = pushed.updated_node.map(|inner| self.over(inner));
        Ok(pushed)
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        equivalences: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_sort(order, equivalences)?.map(|inner| self.over(inner)))
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_projection(projection)?.map(|inner| self.over(inner)))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }
}

struct NamingMorselizer {
    inner: Box<dyn Morselizer>,
    store: Arc<dyn ObjectStore>,
    url: String,
    columns: SchemaRef,
    is_parquet: bool,
    versions: Arc<Versions>,
}

impl fmt::Debug for NamingMorselizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Morselizer for NamingMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let reading = Reading {
            store: Arc::clone(&self.store),
            name: file_name(&self.url, &file.object_meta.location),
            file: file.object_meta.clone(),
            columns: Arc::clone(&self.columns),
            is_parquet: self.is_parquet,
        };
        self.versions.expect(&file.object_meta);
        let inner = self.inner.plan_file(file).map_err(|error| reading.failed(error))?;
        Ok(Box::new(NamingPlanner { inner, reading }))
    }
}

#[derive(Debug)]
struct NamingPlanner {
    inner: Box<dyn MorselPlanner>,
    reading: Reading,
}

impl MorselPlanner for NamingPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self { inner, reading } = *self;
        let Some(mut plan) = inner.plan().map_err(|error| reading.failed(error))? else { return Ok(None) };
        let planner = |inner, reading: &Reading| -> Box<dyn MorselPlanner> {
            Box::new(NamingPlanner { inner, reading: reading.clone() })
        };
        let morsels = plan.take_morsels().into_iter();
        let morsels =
            morsels.map(|inner| Box::new(NamingMorsel { inner, reading: reading.clone() }) as Box<dyn Morsel>);
        let planners = plan.take_ready_planners().into_iter().map(|inner| planner(inner, &reading));
        let mut named = MorselPlan::new().with_morsels(morsels.collect()).with_planners(planners.collect());
        if let Some(pending) = plan.take_pending_planner() {
            named.set_pending_planner(async move {
                match pending.await {
                    Ok(inner) => Ok(planner(inner, &reading)),
                    Err(error) => Err(reading.failed_at(error).await),
                }
            });
        }
        Ok(Some(named))
    }
}

#[derive(Debug)]
struct NamingMorsel {
    inner: Box<dyn Morsel>,
    reading: Reading,
}

impl Morsel for NamingMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Self { inner, reading } = *self;
        let failed = move |error| {
            let reading = reading.clone();
            async move { Err(reading.failed_at(error).await) }
        };
        inner.into_stream().or_else(failed).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::error::ArrowError;

    #[test]
    fn a_file_is_blamed_for_its_bytes_and_not_for_expressions() {
        let cast = || ArrowError::CastError("no".into());
        let parquet = DataFusionError::from(ArrowError::ParquetError("cut".into()));
        assert!(blame(&parquet) == Blame::File);
        let missing = object_store::Error::NotImplemented { operation: "get".into(), implementer: "none".into() };
        assert!(blame(&DataFusionError::from(missing).context("read")) == Blame::File);
        assert!(blame(&DataFusionError::from(cast())) == Blame::Values);
        assert!(blame(&DataFusionError::from(ArrowError::DivideByZero)) == Blame::Nobody);
        assert!(blame(&DataFusionError::Execution("no such day".into())) == Blame::Nobody);
        assert!(blame(&FileError::of("a.csv", cast().into())) == Blame::Nobody);
    }
}
