//! Folders whose files nobody needs any more. The metadata store remembers each until it is gone, so that one that cannot be removed
//! now, or that someone may still read or write, is removed later, whoever leads then.

use crate::errors::QueryError;
use crate::history::wall_ms;
use crate::meta::{Expectation, MetaStore, Transaction};
use bytes::Bytes;
use datafusion::common::DataFusionError;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::{StreamExt, TryStreamExt};
use std::time::Duration;

/// Keys go on with when the folder may go, in milliseconds since 1970, so that they are in the order in which they fall due.
const GARBAGE: &str = "garbage/";

/// The entry of the metadata store that lets the folder at `url` go after `delay`.
pub(crate) fn entry(url: &str, delay: Duration) -> (String, Bytes) {
    let due = wall_ms() + delay.as_millis() as u64;
    let key = format!("{GARBAGE}{due:016}-{}", uuid::Uuid::new_v4().simple());
    (key, Bytes::copy_from_slice(url.as_bytes()))
}

/// Removes the folders that are due, and says how many. Those that cannot be removed now are tried again at the next call.
pub(crate) async fn collect(store: &dyn MetaStore, runtime: &RuntimeEnv) -> Result<usize, QueryError> {
    let mut removed = 0;
    for (key, entry) in store.range(GARBAGE).await? {
        let due = key[GARBAGE.len()..].split('-').next().and_then(|ms| ms.parse::<u64>().ok()).unwrap_or(0);
        if due > wall_ms() {
            break;
        }
        let url = String::from_utf8_lossy(&entry.value);
        match remove_folder(runtime, &url).await {
            Ok(()) => {
                let removal = Transaction::default().expect(&key, Expectation::Revision(entry.revision)).delete(&key);
                store.commit(removal).await?;
                removed += 1;
            }
            Err(error) => tracing::warn!(%url, %error, "files that are not needed any more could not be removed"),
        }
    }
    Ok(removed)
}

/// Removes the folder at `url` and all that is in it. That there is none is fine. Fails where someone adds to it meanwhile.
pub(crate) async fn remove_folder(runtime: &RuntimeEnv, url: &str) -> Result<(), QueryError> {
    let folder = ListingTableUrl::parse(url)?;
    if folder.prefix().as_ref().is_empty() {
        return Err(QueryError::Internal(format!("{url} is all of an object store, and not to be removed")));
    }
    if folder.scheme() == "file" {
        let path = folder.get_url().to_file_path();
        let path = path.map_err(|()| QueryError::Internal(format!("{url} is not a local path")))?;
        return match tokio::fs::remove_dir_all(&path).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(QueryError::Internal(format!("{} cannot be removed: {error}", path.display()))),
        };
    }
    let store = runtime.object_store(&folder)?;
    let found = store.list(Some(folder.prefix())).map_ok(|meta| meta.location).boxed();
    store.delete_stream(found).try_collect::<Vec<_>>().await.map_err(DataFusionError::from)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryStore;

    #[tokio::test]
    async fn a_whole_store_is_never_removed() {
        assert!(remove_folder(&RuntimeEnv::default(), "file:///").await.is_err());
    }

    #[tokio::test]
    async fn what_is_not_due_stays_and_what_cannot_be_removed_is_tried_again() {
        let (folder, store, runtime) = (tempfile::tempdir().unwrap(), MemoryStore::default(), RuntimeEnv::default());
        let path = |name: &str| folder.path().join(name);
        let url = |name: &str| format!("file://{}/", path(name).display());
        std::fs::create_dir(path("later")).unwrap();
        std::fs::write(path("stuck"), "not a folder").unwrap();
        for (name, seconds) in [("stuck", 0), ("later", 3600)] {
            let (key, value) = entry(&url(name), Duration::from_secs(seconds));
            store.commit(Transaction::default().put(key, value)).await.unwrap();
        }
        assert_eq!(collect(&store, &runtime).await.unwrap(), 0);
        std::fs::remove_file(path("stuck")).unwrap();
        std::fs::create_dir(path("stuck")).unwrap();
        assert_eq!(collect(&store, &runtime).await.unwrap(), 1);
        assert!(path("later").exists() && !path("stuck").exists());
    }
}
