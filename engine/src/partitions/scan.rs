//! Scans of and inserts into tables whose folder names hold values.

use super::value::{NoValue, values, values_of_file};
use super::{columns, table_schema};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Field, FieldRef, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{
    ColumnStatistics, DFSchema, Result, ScalarValue, SchemaExt, Statistics, plan_err, project_schema,
};
use datafusion::datasource::listing::helpers::expr_applicable_for_cols;
use datafusion::datasource::listing::{ListingTable, ListingTableUrl, PartitionedFile};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, FileSinkConfig};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::cache::cache_manager::CachedFileMetadata;
use datafusion::execution::cache::{SchemaFingerprint, TableScopedPath};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, lit};
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion_datasource::compute_all_files_statistics;
use datafusion_datasource::file_sink_config::FileOutputMode;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::{Path, PathPart};
use object_store::{ObjectMeta, ObjectStore};
use std::sync::Arc;

/// With more folders than this the whole table is listed at once.
const LISTED_ALONE: usize = 64;
/// Folders listed at the same time.
const AT_A_TIME: usize = 16;

/// The scan of a table over folders. It differs from DataFusion's in the meaning of names: there, filters find folders by their text, NULL has no name, and
/// files outside the folders have no rows.
pub async fn scan(
    table: &ListingTable,
    session: &dyn Session,
    projection: Option<&Vec<usize>>,
    filters: &[Expr],
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let (in_files, of_folders) = columns(table);
    let names: Vec<&str> = of_folders.iter().map(|column| column.name().as_str()).collect();
    let (by_folder, others): (Vec<Expr>, Vec<Expr>) =
        filters.iter().cloned().partition(|filter| expr_applicable_for_cols(&names, filter));
    let files = Files { table, session, in_files: &in_files, of_folders: &of_folders };
    let enough = limit.filter(|_| others.is_empty());
    let (found, all) = files.with_statistics(files.found(&by_folder).await?, enough).await?;
    let (false, Some(url)) = (found.is_empty(), table.table_paths().first()) else {
        return Ok(Arc::new(EmptyExec::new(project_schema(&table_schema(table), projection)?)));
    };
    let groups = FileGroup::new(found).split_files(session.config().target_partitions().max(1));
    let (groups, statistics) =
        compute_all_files_statistics(groups, table_schema(table), session.config().collect_statistics(), !all)?;
    let orderings = table.try_create_output_ordering(session.execution_props(), &groups)?;
    let schema = TableSchema::builder(Arc::clone(&in_files)).with_table_partition_cols(of_folders.clone()).build();
    let source = table.options().format.file_source(schema);
    let config = FileScanConfigBuilder::new(url.object_store(), source)
        .with_file_groups(groups)
        .with_constraints(table.constraints().cloned().unwrap_or_default())
        .with_statistics(statistics)
        .with_projection_indices(projection.cloned())?
        .with_limit(limit)
        .with_output_ordering(orderings)
        .build();
    table.options().format.create_physical_plan(session, config).await
}

/// The plan that inserts `input` into a table over folders.
pub async fn insert(
    table: &ListingTable,
    session: &dyn Session,
    input: Arc<dyn ExecutionPlan>,
    insert_op: InsertOp,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = table_schema(table);
    schema.logically_equivalent_names_and_types(&input.schema())?;
    let Some(url) = table.table_paths().first().filter(|url| url.is_collection()) else {
        return plan_err!("a table is added to in a folder: its location must end with /");
    };
    let config = FileSinkConfig {
        original_url: String::new(),
        object_store_url: url.object_store(),
        table_paths: table.table_paths().clone(),
        file_group: FileGroup::default(),
        output_schema: schema,
        table_partition_cols: table.options().table_partition_cols.clone(),
        insert_op,
        keep_partition_by_columns: session.config_options().execution.keep_partition_by_columns,
        file_extension: table.options().format.get_ext(),
        file_output_mode: FileOutputMode::Automatic,
    };
    let order = table.try_create_output_ordering(session.execution_props(), &[])?.into_iter().next();
    table.options().format.create_writer_physical_plan(input, session, config, order.map(Into::into)).await
}

struct Files<'a> {
    table: &'a ListingTable,
    session: &'a dyn Session,
    in_files: &'a SchemaRef,
    of_folders: &'a [FieldRef],
}

/// An object below a table's folder, with the values in the names of the folders above it.
type Valued<T> = (T, Vec<ScalarValue>);

impl Files<'_> {
    /// The files whose values can make all of `filters` true.
    async fn found(&self, filters: &[Expr]) -> Result<Vec<PartitionedFile>> {
        let mut found = Vec::new();
        for url in self.table.table_paths() {
            let store = self.session.runtime_env().object_store(url)?;
            let folders = self.folders(url, store.as_ref(), filters).await?;
            let listed = stream::iter(folders)
                .map(|folder| self.listed(url, store.as_ref(), folder))
                .buffered(AT_A_TIME)
                .try_collect::<Vec<_>>()
                .await?;
            let files = self.matching(filters, self.of_folders, listed.into_iter().flatten().collect())?;
            found.extend(files.into_iter().map(|(object, values)| {
                let mut file = PartitionedFile::from(object);
                file.partition_values = values;
                file.table_reference.clone_from(url.get_table_ref());
                file
            }));
        }
        Ok(found)
    }

    async fn listed(
        &self,
        url: &ListingTableUrl,
        store: &dyn ObjectStore,
        folder: Path,
    ) -> Result<Vec<Valued<ObjectMeta>>> {
        let folder = (!folder.as_ref().is_empty()).then_some(folder);
        let extension = &self.table.options().file_extension;
        let mut objects = url.list_prefixed_files(self.session, store, folder, extension).await?;
        let mut files = Vec::new();
        while let Some(object) = objects.try_next().await? {
            if object.size > 0
                && let Some(values) = values_of_file(url, &object.location, self.of_folders)?
            {
                files.push((object, values));
            }
        }
        Ok(files)
    }

    /// Folders below the table's that together hold all files that `filters` may need.
    async fn folders(&self, url: &ListingTableUrl, store: &dyn ObjectStore, filters: &[Expr]) -> Result<Vec<Path>> {
        let mut folders = vec![(Path::default(), Vec::new())];
        let spans_folders = url.get_glob().as_ref().is_some_and(|glob| glob.as_str().contains('/'));
        if !url.is_collection() || spans_folders {
            return Ok(vec![Path::default()]);
        }
        let mut used = 0;
        for depth in 0..self.of_folders.len() {
            let known = &self.of_folders[..=depth];
            let names: Vec<&str> = known.iter().map(|column| column.name().as_str()).collect();
            let usable: Vec<Expr> = filters.iter().filter(|f| expr_applicable_for_cols(&names, f)).cloned().collect();
            if usable.len() == used || folders.len() > LISTED_ALONE {
                break;
            }
            used = usable.len();
            let inside = stream::iter(folders.clone())
                .map(|(folder, _)| self.folders_in(url, store, folder, known))
                .buffered(AT_A_TIME)
                .try_collect::<Vec<_>>()
                .await?;
            // Files beside folders are left to the listing of everything, which reports them.
            let Some(inside) = inside.into_iter().collect::<Option<Vec<_>>>() else { break };
            folders = self.matching(&usable, known, inside.into_iter().flatten().collect())?;
        }
        match folders.len() {
            many if many > LISTED_ALONE => Ok(vec![Path::default()]),
            _ => Ok(folders.into_iter().map(|(folder, _)| folder).collect()),
        }
    }

    /// The subfolders of a folder, if all have values for `columns`. `None`: other objects lie there too.
    async fn folders_in(
        &self,
        url: &ListingTableUrl,
        store: &dyn ObjectStore,
        folder: Path,
        columns: &[FieldRef],
    ) -> Result<Option<Vec<Valued<Path>>>> {
        let above: Vec<PathPart<'_>> = url.prefix().parts().collect();
        let whole = Path::from_iter(above.iter().cloned().chain(folder.parts()));
        let listed = store.list_with_delimiter(Some(&whole)).await?;
        if listed.objects.iter().any(|object| object.size > 0) {
            return Ok(None);
        }
        let mut folders = Vec::new();
        for inside in &listed.common_prefixes {
            let below = Path::from_iter(inside.parts().skip(above.len()));
            let names: Vec<String> = below.parts().map(|part| part.as_ref().to_string()).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            match values(&names, columns) {
                Ok(Some(values)) => folders.push((below, values)),
                Ok(None) => {}
                // The listing of its files reports this.
                Err(NoValue::NoKey(_) | NoValue::Unreadable { .. }) => return Ok(None),
            }
        }
        Ok(Some(folders))
    }

    /// The objects whose values for `columns` make all of `filters` true.
    fn matching<T>(&self, filters: &[Expr], columns: &[FieldRef], found: Vec<Valued<T>>) -> Result<Vec<Valued<T>>> {
        if filters.is_empty() || found.is_empty() {
            return Ok(found);
        }
        let fields: Vec<Field> = columns.iter().map(|column| column.as_ref().clone()).collect();
        let schema = DFSchema::from_unqualified_fields(fields.into(), Default::default())?;
        let all = conjunction(filters.iter().cloned()).unwrap_or_else(|| lit(true));
        let filter = self.session.create_physical_expr(all, &schema)?;
        let column = |at: usize| ScalarValue::iter_to_array(found.iter().map(|(_, values)| values[at].clone()));
        let values = (0..columns.len()).map(column).collect::<Result<_>>()?;
        let batch = RecordBatch::try_new(Arc::clone(schema.inner()), values)?;
        let is_true = filter.evaluate(&batch)?.into_array(batch.num_rows())?;
        let is_true = is_true.as_boolean().iter().map(|is_true| is_true == Some(true));
        Ok(found.into_iter().zip(is_true).filter_map(|(one, is_true)| is_true.then_some(one)).collect())
    }

    /// The first of `files` that together have more than `enough` rows, and whether these are all files.
    async fn with_statistics(
        &self,
        files: Vec<PartitionedFile>,
        enough: Option<usize>,
    ) -> Result<(Vec<PartitionedFile>, bool)> {
        let all = files.len();
        let at_a_time = self.session.config_options().execution.meta_fetch_concurrency.get();
        let schema = Arc::new(SchemaFingerprint::from_schema(self.in_files));
        let mut known = stream::iter(files).map(|file| self.known(file, &schema)).buffered(at_a_time);
        let (mut taken, mut rows) = (Vec::with_capacity(all), Precision::Exact(0));
        while let Some(file) = known.try_next().await? {
            rows = rows.add(&file.statistics.as_ref().map_or(Precision::Absent, |of| of.num_rows));
            taken.push(file);
            if let (Some(enough), Precision::Exact(rows)) = (enough, rows)
                && rows > enough
            {
                break;
            }
        }
        let all = taken.len() == all;
        Ok((taken, all))
    }

    /// `file` with its statistics and sort order.
    async fn known(&self, mut file: PartitionedFile, schema: &Arc<SchemaFingerprint>) -> Result<PartitionedFile> {
        let (of_file, ordering) = match self.session.config().collect_statistics() {
            true => self.of_file(&file, schema).await?,
            false => (Arc::new(Statistics::new_unknown(self.in_files)), None),
        };
        let mut statistics = Arc::unwrap_or_clone(of_file);
        let rows = statistics.num_rows;
        statistics.column_statistics.extend(file.partition_values.iter().map(|value| of_value(value, rows)));
        file.statistics = Some(Arc::new(statistics));
        file.ordering = ordering;
        Ok(file)
    }

    async fn of_file(
        &self,
        file: &PartitionedFile,
        schema: &Arc<SchemaFingerprint>,
    ) -> Result<(Arc<Statistics>, Option<LexOrdering>)> {
        let object = &file.object_meta;
        let key = TableScopedPath { table: file.table_reference.clone(), path: object.location.clone() };
        let cache = self.session.runtime_env().cache_manager.get_file_statistic_cache();
        if let Some(kept) = cache.as_ref().and_then(|cache| cache.get(&key))
            && kept.is_valid_for(object, schema)
        {
            return Ok((Arc::clone(&kept.statistics), kept.ordering.clone()));
        }
        let Some(url) = self.table.table_paths().first() else { return plan_err!("a table has no location") };
        let store = self.session.runtime_env().object_store(url)?;
        let format = &self.table.options().format;
        let read = format.infer_stats_and_ordering(self.session, &store, Arc::clone(self.in_files), object).await?;
        let statistics = Arc::new(read.statistics);
        if let Some(cache) = cache {
            let (statistics, ordering) = (Arc::clone(&statistics), read.ordering.clone());
            cache.put(&key, CachedFileMetadata::new(object.clone(), Arc::clone(schema), statistics, ordering));
        }
        Ok((statistics, read.ordering))
    }
}

/// Statistics of a column that has `value` in every row.
fn of_value(value: &ScalarValue, rows: Precision<usize>) -> ColumnStatistics {
    let has_rows = matches!(rows, Precision::Exact(rows) if rows > 0);
    let bound = match has_rows {
        _ if value.is_null() => Precision::Absent,
        true => Precision::Exact(value.clone()),
        false => Precision::Inexact(value.clone()),
    };
    let width = value.data_type().primitive_width();
    ColumnStatistics {
        null_count: if value.is_null() { rows } else { Precision::Exact(0) },
        max_value: bound.clone(),
        min_value: bound,
        sum_value: Precision::Absent,
        distinct_count: Precision::Inexact(1),
        byte_size: width.map_or(Precision::Absent, |width| rows.multiply(&Precision::Exact(width))),
    }
}
