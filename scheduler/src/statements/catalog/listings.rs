//! Listings of folders, as one statement sees them.
//!
//! A statement lists each folder once, however many scans it has and however often they are planned, so all its scans read the same
//! files. Listing begins with the statement and continues while the plan is optimised. The next statement lists again, because others
//! may have added files. Scans of Hive-partitioned tables list for themselves, because their filters exclude folders.

use super::build::FilesTable;
use super::data_files::{data_of, known_of_files};
use datafusion::catalog::Session;
use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::SessionState;
use datafusion::execution::cache::TableScopedPath;
use datafusion::execution::cache::cache_manager::CacheManager;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::LogicalPlan;
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use tokio_util::task::AbortOnDropHandle;
use url::{Position, Url};
use windlass_engine::versions::{Bound, Told, Versions};

/// Maximum bytes of the listings of one statement. A scan whose folder does not fit lists for itself.
const MAX_BYTES: usize = 64 << 20;
/// Folders that are listed concurrently.
const AT_A_TIME: usize = 32;

/// The listings of a statement, an extension of its session's configuration.
#[derive(Default)]
pub(crate) struct Listings(OnceLock<Listed>);

struct Listed {
    /// The session's runtime, with the listings.
    runtime: Arc<RuntimeEnv>,
    done: Shared<BoxFuture<'static, ()>>,
}

impl Listings {
    /// Begins to list the folders that `plan` reads.
    pub fn begin(state: &SessionState, plan: &LogicalPlan) {
        let Some(listings) = state.config().get_extension::<Listings>() else { return };
        let caches = &state.runtime_env().cache_manager;
        let config = known_of_files(caches).with_list_files_cache_limit(MAX_BYTES);
        let Ok(cache_manager) = CacheManager::try_new(&config) else { return };
        let Some(cache) = cache_manager.get_list_files_cache() else { return };
        let stores: Arc<dyn ObjectStoreRegistry> = Arc::new(BoundStores {
            inner: Arc::clone(&state.runtime_env().object_store_registry),
            versions: Mutex::default(),
        });
        // Folders that only a view names are listed by their first scan.
        let folders = folders(&stores, plan);
        let is_empty = folders.is_empty();
        let list = stream::iter(folders).for_each_concurrent(AT_A_TIME, move |(folder, store)| {
            let cache = cache.clone();
            async move {
                // A scan that finds no listing here lists again, and reports the error.
                if let Ok(files) = store.list(Some(&folder.path)).try_collect::<Vec<_>>().await {
                    cache.put(&folder, files.into());
                }
            }
        });
        let done = match is_empty {
            true => futures::future::ready(()).boxed().shared(),
            false => AbortOnDropHandle::new(tokio::spawn(list)).map(|_| ()).boxed().shared(),
        };
        let before = RuntimeEnv::clone(state.runtime_env());
        let runtime = Arc::new(RuntimeEnv { cache_manager, object_store_registry: stores, ..before });
        let _ = listings.0.set(Listed { runtime, done });
    }

    /// Returns the runtime with which the plan's scans list, after the listing has ended. `None`: the session's runtime.
    pub async fn of(session: &dyn Session) -> Option<Arc<RuntimeEnv>> {
        let listings = session.config().get_extension::<Listings>()?;
        let listed = listings.0.get()?;
        listed.done.clone().await;
        Some(Arc::clone(&listed.runtime))
    }
}

/// Returns the folders to list.
fn folders(
    stores: &Arc<dyn ObjectStoreRegistry>,
    plan: &LogicalPlan,
) -> HashMap<TableScopedPath, Arc<dyn ObjectStore>> {
    let mut folders = HashMap::new();
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && let Some(table) = provider.downcast_ref::<FilesTable>()
        {
            for url in table.listed_at_once().iter().filter(|url| url.is_collection()) {
                let table = url.get_table_ref().clone();
                let folder = TableScopedPath { table, path: url.prefix().clone() };
                folders.insert(folder, data_of(stores.get_store(url.object_store().as_ref())?));
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    match visited {
        Ok(_) => folders,
        Err(_) => HashMap::new(),
    }
}

/// The object stores of a statement during planning. Footers and samples are read from the versions of files that the statement has
/// listed.
#[derive(Debug)]
struct BoundStores {
    inner: Arc<dyn ObjectStoreRegistry>,
    /// Versions by store.
    versions: Mutex<HashMap<String, Arc<Versions>>>,
}

impl ObjectStoreRegistry for BoundStores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.inner.register_store(url, store)
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        self.inner.deregister_store(url)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let store = self.inner.get_store(url)?;
        let Some(told) = Told::of(url.as_str()) else { return Ok(store) };
        let key = url[..Position::BeforePath].to_string();
        let versions = Arc::clone(self.versions.lock().entry(key).or_default());
        Ok(Arc::new(Bound::new(store, told, versions)))
    }
}
