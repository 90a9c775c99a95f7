//! Folders whose files are not needed any more. Each has an entry in the metadata store until it is removed. So a folder that cannot be
//! removed yet, or may still be read or written, is removed later by whichever primary leads then.

use crate::clock::{Clock, Ids};
use crate::errors::QueryError;
use crate::meta::keys::garbage as keys;
use crate::meta::{MetaStore, Transaction, Update};
use datafusion::common::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use windlass_connectors::StoreRegistry;
use windlass_connectors::wfs::Wfs;
use windlass_engine::OwnFolder;
use windlass_proto::v1;
use windlass_proto::v1::file_error::Kind;
use windlass_proto::v1::file_request::Ask;

/// Maximum entries that one transaction deletes.
const AT_A_TIME: usize = 100;

/// Returns the entry of the metadata store that removes `folder` after `delay`.
pub(crate) fn entry(folder: &OwnFolder, delay: Duration, clock: &Clock, ids: &Ids) -> Update {
    keys::put(clock.wall_ms() + delay.as_millis() as u64, &ids.name(), folder.url())
}

/// Removes the folders that are due by `until_ms`, in milliseconds since 1970, and returns their number. Folders that cannot be removed
/// yet are retried at the next call.
pub(crate) async fn collect_until(
    store: &dyn MetaStore,
    remover: &Remover,
    until_ms: u64,
) -> Result<usize, QueryError> {
    let mut gone = Vec::new();
    for going in keys::all(store).await? {
        if going.due_ms > until_ms {
            break;
        }
        let url = going.url.as_str();
        let removed = match OwnFolder::from_url(url) {
            Ok(folder) => remover.folder(&folder).await,
            Err(error) => {
                tracing::error!(%url, %error, "what was to be removed is not a folder that Windlass has made: it stays");
                Ok(())
            }
        };
        match removed {
            Ok(()) => gone.push(going),
            Err(error) => tracing::warn!(%url, %error, "files that are not needed any more could not be removed"),
        }
    }
    for some in gone.chunks(AT_A_TIME) {
        store.commit(some.iter().fold(Transaction::default(), keys::delete)).await?;
    }
    Ok(gone.len())
}

/// Removes files and folders from their stores.
#[derive(Clone, Debug)]
pub(crate) struct Remover {
    runtime: Arc<RuntimeEnv>,
    stores: Arc<StoreRegistry>,
}

impl Remover {
    pub fn new(runtime: Arc<RuntimeEnv>, stores: Arc<StoreRegistry>) -> Self {
        Self { runtime, stores }
    }

    pub fn runtime(&self) -> &Arc<RuntimeEnv> {
        &self.runtime
    }

    /// Removes a folder with its contents, and the table's folder around it if that is empty. A missing folder is not an error. Fails
    /// if files are added meanwhile.
    pub async fn folder(&self, folder: &OwnFolder) -> Result<(), QueryError> {
        let place = folder.place();
        let around = folder.around();
        if let Some(path) = place.local_path() {
            match tokio::fs::remove_dir_all(&path).await {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(QueryError::Internal(format!("{} cannot be removed: {error}", path.display())));
                }
                _ => {}
            }
            if let Some(around) = around.and_then(|around| around.place().local_path()) {
                // The folder usually holds other files of the table.
                let _ = tokio::fs::remove_dir(around).await;
            }
            return Ok(());
        }
        if let Some(wfs) = self.wfs(place.store()) {
            remove(&wfs, place.path(), true).await?;
            if let Some(around) = around {
                let _ = remove(&wfs, around.place().path(), false).await;
            }
            return Ok(());
        }
        let store = self.runtime.object_store(place.store())?;
        let found = store.list(Some(place.path())).map_ok(|meta| meta.location).boxed();
        store.delete_stream(found).try_collect::<Vec<_>>().await.map_err(DataFusionError::from)?;
        Ok(())
    }

    /// Removes a file, and no folder around it. A missing file is not an error.
    pub async fn file(&self, store: &ObjectStoreUrl, path: &Path) -> Result<(), QueryError> {
        if let Some(wfs) = self.wfs(store) {
            return remove(&wfs, path, false).await;
        }
        match self.runtime.object_store(store)?.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(DataFusionError::from(error).into()),
        }
    }

    /// Returns the files of the cluster, if `store` is `wfs://`. Through the object store interface, folders that become empty are
    /// removed.
    fn wfs(&self, store: &ObjectStoreUrl) -> Option<Wfs> {
        self.stores.wfs().filter(|_| store.as_str() == "wfs:///")
    }
}

async fn remove(wfs: &Wfs, path: &Path, recursive: bool) -> Result<(), QueryError> {
    let path = format!("/{path}");
    let request = v1::DeleteRequest { path: path.clone(), recursive, trash: false, prune: false };
    match wfs.act(Ask::Delete(request)).await {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), Some(Kind::NotFound | Kind::NotFolder)) => Ok(()),
        Err(error) => Err(QueryError::Internal(format!("wfs://{path} cannot be removed: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryStore;
    use windlass_engine::Place;

    #[tokio::test]
    async fn what_is_not_due_stays_and_what_cannot_be_removed_is_tried_again() {
        let (folder, store) = (tempfile::tempdir().unwrap(), MemoryStore::default());
        let remover = Remover::new(Arc::default(), StoreRegistry::new());
        let here = Place::parse(&format!("{}/", folder.path().display())).unwrap();
        let [stuck, later] = ["stuck", "later"].map(|label| OwnFolder::new_in(&here, label).unwrap());
        let path = |folder: &OwnFolder| folder.place().local_path().unwrap();
        std::fs::create_dir(path(&later)).unwrap();
        std::fs::write(path(&stuck), "not a folder").unwrap();
        let (clock, ids) = (Clock::system(), Ids::counted());
        for (folder, seconds) in [(&stuck, 0), (&later, 3600)] {
            let update = entry(folder, Duration::from_secs(seconds), &clock, &ids);
            store.commit(Transaction::default().with(update)).await.unwrap();
        }
        let collect = async || collect_until(&store, &remover, clock.wall_ms()).await.unwrap();
        assert_eq!(collect().await, 0);
        std::fs::remove_file(path(&stuck)).unwrap();
        std::fs::create_dir(path(&stuck)).unwrap();
        assert_eq!(collect().await, 1);
        assert!(path(&later).exists() && !path(&stuck).exists());
        clock.advance(Duration::from_secs(3590));
        assert_eq!(collect().await, 0);
        clock.advance(Duration::from_secs(10));
        assert_eq!(collect().await, 1);
        assert!(!path(&later).exists());
    }

    /// Covers entries of earlier versions whose target had a `#` or a `?`.
    #[tokio::test]
    async fn nothing_is_removed_for_an_entry_that_names_no_folder_of_ours() {
        let (folder, store) = (tempfile::tempdir().unwrap(), MemoryStore::default());
        let remover = Remover::new(Arc::default(), StoreRegistry::new());
        let (kept, id) = (folder.path().join("r"), uuid::Uuid::new_v4().simple());
        std::fs::create_dir(&kept).unwrap();
        let here = folder.path().display();
        for url in [format!("file://{here}/r#1/.a.csv.windlass-{id}/"), format!("file://{here}/r/"), "file:///".into()]
        {
            let id = uuid::Uuid::new_v4().to_string();
            store.commit(Transaction::default().with(keys::put(0, &id, url))).await.unwrap();
        }
        assert_eq!(collect_until(&store, &remover, 0).await.unwrap(), 3, "they are forgotten");
        assert!(kept.exists());
        assert!(keys::all(&store).await.unwrap().is_empty());
    }
}
