//! The cache of footers. DataFusion's caches know a file by its path alone, and another store may have the same path.

use datafusion::common::{HashMap, Result, TableReference};
use datafusion::execution::cache::cache_manager::{CachedFileMetadataEntry, FileMetadataCache};
use datafusion::execution::cache::{Cache, CacheEntryInfo};
use object_store::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Returns the part of `cache` that is about the files of one store. `store`: its URL.
pub fn footers_of(cache: &Arc<FileMetadataCache>, store: &str) -> Arc<FileMetadataCache> {
    Arc::new(OfStore { cache: Arc::clone(cache), store: store.into() })
}

struct OfStore {
    cache: Arc<FileMetadataCache>,
    store: Box<str>,
}

impl OfStore {
    /// Returns the name of a file in the cache of all stores. `Path` encodes what names of files cannot have, so no two files share a name.
    fn key(&self, file: &Path) -> Path {
        Path::from_iter([self.store.as_ref(), file.as_ref()])
    }
}

impl Cache<Path, CachedFileMetadataEntry> for OfStore {
    fn get(&self, file: &Path) -> Option<CachedFileMetadataEntry> {
        self.cache.get(&self.key(file))
    }

    fn put(&self, file: &Path, footer: CachedFileMetadataEntry) -> Option<CachedFileMetadataEntry> {
        self.cache.put(&self.key(file), footer)
    }

    fn remove(&self, file: &Path) -> Option<CachedFileMetadataEntry> {
        self.cache.remove(&self.key(file))
    }

    fn contains_key(&self, file: &Path) -> bool {
        self.cache.contains_key(&self.key(file))
    }

    fn len(&self) -> usize {
        self.cache.len()
    }

    fn clear(&self) {
        self.cache.clear();
    }

    fn name(&self) -> String {
        self.cache.name()
    }

    fn cache_limit(&self) -> usize {
        self.cache.cache_limit()
    }

    fn update_cache_limit(&self, limit: usize) {
        self.cache.update_cache_limit(limit);
    }

    fn cache_ttl(&self) -> Option<Duration> {
        self.cache.cache_ttl()
    }

    fn update_cache_ttl(&self, ttl: Option<Duration>) {
        self.cache.update_cache_ttl(ttl);
    }

    fn drop_table_entries(&self, table: &TableReference) -> Result<()> {
        self.cache.drop_table_entries(table)
    }

    fn list_entries(&self) -> HashMap<Path, CacheEntryInfo<CachedFileMetadataEntry>> {
        self.cache.list_entries()
    }
}
