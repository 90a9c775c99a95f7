//! Selects the files in a folder that are a table's data.
//!
//! Files whose names begin with `_` or `.`, and files in folders with such names, are not data: marks of other writers (`_SUCCESS`,
//! `.part-0.crc`), unfinished files (`_temporary`, `x.csv._COPYING_`, Windlass's own staging folders) and discarded files (`.trash`).
//! Hive, Spark and Trino skip them too. A folder like `_x=1` is a partition. A path in a statement is data whatever its name: only
//! names below the location count, and a pattern that begins with `_` or `.` matches such names.

use super::archived::Unreadable;
use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Constraints, Result};
use datafusion::datasource::listing::{ListingTable, ListingTableUrl};
use datafusion::execution::SessionState;
use datafusion::execution::cache::cache_manager::{CacheManager, CacheManagerConfig};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions,
};
use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use url::Url;
use windlass_engine::{Planning, footers_of};

/// Returns `runtime` with stores that list only data, and with the cached footers of the table's store. `paths`: the paths that a table reads,
/// all in one store.
pub(super) fn only_data(runtime: &Arc<RuntimeEnv>, paths: &[ListingTableUrl]) -> Result<Arc<RuntimeEnv>> {
    only_data_but(runtime, paths, Unreadable::default())
}

/// Returns [`only_data`] without these files.
pub(super) fn only_data_but(
    runtime: &Arc<RuntimeEnv>,
    paths: &[ListingTableUrl],
    left_out: Unreadable,
) -> Result<Arc<RuntimeEnv>> {
    let hidden_of = paths.iter().filter(|path| asks_for_hidden(path)).map(|path| path.prefix().clone()).collect();
    let stores = DataStores { stores: Arc::clone(&runtime.object_store_registry), hidden_of, left_out };
    let cache_manager = match paths.first() {
        Some(path) => caches_of(&runtime.cache_manager, path.object_store().as_str())?,
        None => Arc::clone(&runtime.cache_manager),
    };
    let before = RuntimeEnv::clone(runtime);
    Ok(Arc::new(RuntimeEnv { object_store_registry: Arc::new(stores), cache_manager, ..before }))
}

/// Returns `caches` with the footers of one store.
fn caches_of(caches: &CacheManager, store: &str) -> Result<Arc<CacheManager>> {
    let config = known_of_files(caches)
        .with_list_files_cache(caches.get_list_files_cache())
        .with_list_files_cache_limit(caches.get_list_files_cache_limit())
        .with_file_metadata_cache(Some(footers_of(&caches.get_file_metadata_cache(), store)));
    CacheManager::try_new(&config)
}

/// Returns the configuration of caches that share what `caches` know of files.
pub(super) fn known_of_files(caches: &CacheManager) -> CacheManagerConfig {
    CacheManagerConfig::default()
        .with_file_statistics_cache(caches.get_file_statistic_cache())
        .with_file_statistics_cache_limit(caches.get_file_statistic_cache_limit())
        .with_file_metadata_cache(Some(caches.get_file_metadata_cache()))
        .with_metadata_cache_limit(caches.get_metadata_cache_limit())
}

/// Returns `state` over [`only_data_but`].
pub(super) fn session_of_data(
    state: &SessionState,
    paths: &[ListingTableUrl],
    left_out: Unreadable,
) -> Result<SessionState> {
    let runtime = only_data_but(state.runtime_env(), paths, left_out)?;
    Ok(SessionStateBuilder::new_from_existing(state.clone()).with_runtime_env(runtime).build())
}

/// Returns `store` with listings of data only.
pub(super) fn data_of(store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    Arc::new(DataFiles { store, hidden_of: Arc::default(), left_out: Arc::default() })
}

/// Makes the scans of a client's plan read only data.
pub(crate) fn read_only_data(plan: LogicalPlan) -> Result<LogicalPlan> {
    let hidden = |node: LogicalPlan| {
        let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
        let Ok(provider) = source_as_provider(&scan.source) else {
            return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
        };
        if !provider.is::<ListingTable>() {
            return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
        }
        scan.source = provider_as_source(Arc::new(ClientFiles { table: provider }));
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    };
    plan.transform_down_with_subqueries(hidden).data()
}

#[derive(Debug)]
struct ClientFiles {
    table: Arc<dyn TableProvider>,
}

#[async_trait]
impl TableProvider for ClientFiles {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn constraints(&self) -> Option<&Constraints> {
        self.table.constraints()
    }

    fn table_type(&self) -> TableType {
        self.table.table_type()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let paths = self.table.downcast_ref::<ListingTable>().map(ListingTable::table_paths);
        let runtime = only_data(state.runtime_env(), paths.map(Vec::as_slice).unwrap_or_default())?;
        self.table.scan(&Planning::of(state).with_runtime(runtime), projection, filters, limit).await
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.table.supports_filters_pushdown(filters)
    }
}

/// Whether the path is a pattern for hidden names.
pub(super) fn asks_for_hidden(path: &ListingTableUrl) -> bool {
    let glob = path.get_glob().as_ref();
    glob.is_some_and(|glob| glob.as_str().split('/').any(|name| name.starts_with(['_', '.'])))
}

/// Whether `file` is data of a table over `folder`.
fn is_data(file: &Path, folder: &Path) -> bool {
    let Some(below) = file.prefix_match(folder) else { return true };
    let names: Vec<_> = below.collect();
    let Some((name, folders)) = names.split_last() else { return true };
    let is_hidden = |name: &str| name.starts_with(['_', '.']);
    let is_partition = |name: &str| name.starts_with('_') && name.contains('=');
    !is_hidden(name.as_ref())
        && !name.as_ref().ends_with("._COPYING_")
        && folders.iter().all(|name| !is_hidden(name.as_ref()) || is_partition(name.as_ref()))
}

/// Returns `file` with its version in the fraction of a second, if the store tells whole seconds. DataFusion's caches take a file for
/// unchanged if its size and time are, and a file may be written twice in one second.
fn told_apart(mut file: ObjectMeta) -> ObjectMeta {
    if let Some(version) = file.version.as_ref().or(file.e_tag.as_ref())
        && file.last_modified.timestamp_subsec_nanos() == 0
    {
        let mut hasher = DefaultHasher::new();
        version.hash(&mut hasher);
        file.last_modified += Duration::from_nanos(hasher.finish() % 1_000_000_000);
    }
    file
}

#[derive(Debug)]
struct DataStores {
    stores: Arc<dyn ObjectStoreRegistry>,
    /// Folders in which a pattern matches hidden files.
    hidden_of: Arc<[Path]>,
    left_out: Unreadable,
}

impl ObjectStoreRegistry for DataStores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.stores.register_store(url, store)
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        self.stores.deregister_store(url)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let (hidden_of, left_out) = (Arc::clone(&self.hidden_of), self.left_out.in_store(url));
        Ok(Arc::new(DataFiles { store: self.stores.get_store(url)?, hidden_of, left_out }))
    }
}

/// A store that lists only data. Files can still be read by name.
#[derive(Debug)]
struct DataFiles {
    store: Arc<dyn ObjectStore>,
    hidden_of: Arc<[Path]>,
    left_out: Arc<HashSet<Path>>,
}

impl DataFiles {
    fn filter(
        &self,
        prefix: Option<&Path>,
        listed: BoxStream<'static, object_store::Result<ObjectMeta>>,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let folder = prefix.cloned().unwrap_or_default();
        let listed = listed.map_ok(told_apart).boxed();
        let listed = match self.left_out.is_empty() {
            true => listed,
            false => {
                let left_out = Arc::clone(&self.left_out);
                listed.try_filter(move |file| futures::future::ready(!left_out.contains(&file.location))).boxed()
            }
        };
        match self.hidden_of.contains(&folder) {
            true => listed,
            false => listed.try_filter(move |file| futures::future::ready(is_data(&file.location, &folder))).boxed(),
        }
    }
}

impl fmt::Display for DataFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for DataFiles {
    async fn put_opts(&self, at: &Path, file: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.store.put_opts(at, file, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let is_head = options.head;
        let mut got = self.store.get_opts(at, options).await?;
        if is_head {
            got.meta = told_apart(got.meta);
        }
        Ok(got)
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<bytes::Bytes>> {
        self.store.get_ranges(at, ranges).await
    }

    fn delete_stream(
        &self,
        files: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.store.delete_stream(files)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.filter(prefix, self.store.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.filter(prefix, self.store.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let mut listed = self.store.list_with_delimiter(prefix).await?;
        listed.objects.retain(|file| !self.left_out.contains(&file.location));
        listed.objects = listed.objects.into_iter().map(told_apart).collect();
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.store.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> object_store::Result<()> {
        self.store.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_names_below_the_location_are_no_data() {
        let folder = Path::parse("w/_here/.t").unwrap();
        let is = |path: &str| is_data(&Path::parse(format!("w/_here/.t/{path}")).unwrap(), &folder);
        for data in ["a.csv", "x_1.csv", "k=_/a.csv", "_x=1/a.csv", "_x=1/_y=.2/a.csv", "k=1/sub/a.csv", "k=.a/b"] {
            assert!(is(data), "{data}");
        }
        for other in [
            "_SUCCESS",
            "_metadata",
            ".a.csv.crc",
            "_temporary/0/a.csv",
            ".t.windlass-0/0-0/a.csv",
            "k=1/_temporary/a.csv",
            "k=1/.hive-staging_1/a.csv",
            "a.csv._COPYING_",
            "_x=1.csv",
            ".x=1/a.csv",
        ] {
            assert!(!is(other), "{other}");
        }
        assert!(is_data(&folder, &folder), "the location itself is what was named");
    }
}
