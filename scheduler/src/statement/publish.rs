//! Making written files visible, once, also when the primary dies in the middle of it.
//!
//! ```text
//!   begin ──> staging ──(job failed)──> abandoned: staged files are removed
//!                │
//!                └─(job finished)──> publishing ──> files moved, replaced ones removed ──> done
//! ```
//!
//! Each step is an entry of the metadata store before it happens. On start, what was staging is abandoned and what was publishing
//! is carried through, so a write is never half there for long. Tables that Windlass manages need no such step: the transaction
//! that lists their new folder is the publication.

use super::outcome;
use crate::catalog::Edit;
use crate::errors::QueryError;
use crate::garbage::{self, remove_folder};
use crate::meta::{MetaStore, Transaction};
use datafusion::common::DataFusionError;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use windlass_engine::ops::StagedFiles;

const WRITES: &str = "write/";
/// Requests to an object store at a time.
const AT_A_TIME: usize = 16;
/// An attempt that has ended may have left a file half written to a thread of the file system, which cannot be called back: what was
/// staged is removed again after each of these times. On a disk that has more to do than it can, seconds are not enough.
const STRAGGLERS: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(300)];

/// Whether files may still be staged for a write that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writers {
    Gone,
    MayStage,
}

/// The writes that are under way.
#[derive(Clone, Debug)]
pub struct Journal {
    store: Arc<dyn MetaStore>,
    runtime: Arc<RuntimeEnv>,
}

/// A write, as the metadata store knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Intent {
    #[serde(skip)]
    id: String,
    /// URLs of folders that go in any case.
    staging: Vec<String>,
    /// URLs of folders that go unless the write is committed.
    unless_committed: Vec<String>,
    publication: Option<Publication>,
}

/// What is to happen, file by file. Each step may be repeated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Publication {
    /// The object store's URL.
    pub store: String,
    /// Paths in the store: from, to.
    pub moves: Vec<(String, String)>,
    /// Files that the new ones replace.
    pub removes: Vec<String>,
}

impl Journal {
    pub fn new(store: Arc<dyn MetaStore>, runtime: Arc<RuntimeEnv>) -> Self {
        Self { store, runtime }
    }

    /// Ends what a primary that is gone had begun. To be called before the first statement. Returns how many writes were
    /// abandoned and how many carried through.
    pub async fn recover(&self) -> Result<(usize, usize), QueryError> {
        let (mut abandoned, mut published) = (0, 0);
        for (key, entry) in self.store.range(WRITES).await? {
            let mut intent: Intent = serde_json::from_slice(&entry.value)
                .map_err(|e| QueryError::Internal(format!("the metadata under \"{key}\" cannot be read: {e}")))?;
            intent.id = key[WRITES.len()..].to_string();
            let ended = match intent.publication.clone() {
                None => {
                    abandoned += 1;
                    self.abandon(&intent).await
                }
                Some(publication) => {
                    published += 1;
                    self.carry_through(&intent, &publication, Writers::MayStage).await
                }
            };
            if let Err(error) = ended {
                tracing::warn!(write = %intent.id, %error, "a write of an earlier primary could not be ended; the next start tries again");
            }
        }
        Ok((abandoned, published))
    }

    /// Remembers which folders belong to a write before anything is written.
    pub(super) async fn begin(
        &self,
        staging: Vec<String>,
        unless_committed: Vec<String>,
    ) -> Result<Intent, QueryError> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let intent = Intent { id, staging, unless_committed, publication: None };
        self.put(&intent).await?;
        Ok(intent)
    }

    /// Removes what was staged.
    pub(super) async fn abandon(&self, intent: &Intent) -> Result<(), QueryError> {
        let folders = [&intent.staging[..], &intent.unless_committed].concat();
        let later = self.remove(&folders, Writers::MayStage).await;
        Ok(self.store.commit(later.delete(intent.key())).await?)
    }

    /// Moves files to where readers find them.
    pub(super) async fn publish(
        &self,
        mut intent: Intent,
        publication: Publication,
        writers: Writers,
    ) -> Result<(), QueryError> {
        intent.publication = Some(publication.clone());
        // From here on it happens, whoever leads.
        self.store.commit(outcome::record_in(intent.put()?)).await?;
        self.carry_through(&intent, &publication, writers).await.map_err(|error| {
            QueryError::Internal(format!(
                "the files were written, but not all of them could be moved into place: {error}; this is completed when the primary \
                 starts again"
            ))
        })
    }

    /// The edit by which a transaction of the catalog ends the write.
    pub(super) fn committed(&self, intent: &Intent) -> Edit {
        Edit::Meta(intent.key(), None)
    }

    /// Removes what is left after [`Journal::committed`].
    pub(super) async fn clear_staging(&self, intent: &Intent, writers: Writers) {
        let later = self.remove(&intent.staging, writers).await;
        if later.writes.is_empty() {
            return;
        }
        if let Err(error) = self.store.commit(later).await {
            tracing::warn!(staging = ?intent.staging, %error, "what was staged for a write that has ended stays");
        }
    }

    async fn carry_through(
        &self,
        intent: &Intent,
        publication: &Publication,
        writers: Writers,
    ) -> Result<(), QueryError> {
        let url = ObjectStoreUrl::parse(&publication.store)?;
        let store = self.runtime.object_store(&url)?;
        // First the new, then the old goes: a reader in between may see both, but never neither.
        move_all(&store, &publication.moves).await?;
        for path in &publication.removes {
            match store.delete(&path_of(path)?).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(DataFusionError::from(error).into()),
            }
        }
        let later = self.remove(&intent.staging, writers).await;
        Ok(self.store.commit(later.delete(intent.key())).await?)
    }

    /// Removes `folders`. What of them is to be removed later, because it could not be now or because of who may still write there,
    /// is in the transaction.
    async fn remove(&self, folders: &[String], writers: Writers) -> Transaction {
        let mut later = Vec::new();
        for folder in folders {
            if let Err(error) = remove_folder(&self.runtime, folder).await {
                tracing::info!(%folder, %error, "what was staged for a write is removed later");
                later.push(garbage::entry(folder, Duration::ZERO));
            }
            if writers == Writers::MayStage {
                later.extend(STRAGGLERS.map(|after| garbage::entry(folder, after)));
            }
        }
        later.into_iter().fold(Transaction::default(), |transaction, (key, url)| transaction.put(key, url))
    }

    async fn put(&self, intent: &Intent) -> Result<(), QueryError> {
        Ok(self.store.commit(intent.put()?).await?)
    }
}

impl Intent {
    fn put(&self) -> Result<Transaction, QueryError> {
        let value = serde_json::to_vec(self).map_err(|e| QueryError::Internal(e.to_string()))?;
        Ok(Transaction::default().put(self.key(), value))
    }

    fn key(&self) -> String {
        format!("{WRITES}{}", self.id)
    }
}

impl Publication {
    /// Moves everything that was staged to `target`: a folder (with a trailing slash) or, with one file at most, a file.
    pub fn new(staged: &[StagedFiles], target: &str) -> Result<Self, QueryError> {
        let target = ListingTableUrl::parse(target)?;
        let mut publication = Self { store: target.object_store().as_str().to_string(), ..Self::default() };
        for attempt in staged {
            let folder = ListingTableUrl::parse(&attempt.folder)?;
            for file in &attempt.files {
                let to = match target.is_collection() {
                    true => join(target.prefix(), &file.path),
                    false => target.prefix().as_ref().to_string(),
                };
                publication.moves.push((join(folder.prefix(), &file.path), to));
            }
        }
        if !target.is_collection() && publication.moves.len() > 1 {
            return Err(QueryError::Internal(format!(
                "{} files were written for the one file {target}",
                publication.moves.len()
            )));
        }
        Ok(publication)
    }

    /// Moves without a journal: for folders that are not visible yet.
    pub async fn move_files(&self, runtime: &RuntimeEnv) -> Result<(), QueryError> {
        let store = runtime.object_store(&ObjectStoreUrl::parse(&self.store)?)?;
        move_all(&store, &self.moves).await
    }
}

async fn move_all(store: &Arc<dyn ObjectStore>, moves: &[(String, String)]) -> Result<(), QueryError> {
    let moving = futures::stream::iter(moves.to_vec()).map(|(from, to)| move_one(Arc::clone(store), from, to));
    moving.buffer_unordered(AT_A_TIME).try_collect().await
}

async fn move_one(store: Arc<dyn ObjectStore>, from: String, to: String) -> Result<(), QueryError> {
    let (from, to) = (path_of(&from)?, path_of(&to)?);
    match store.rename(&from, &to).await {
        Ok(()) => Ok(()),
        // Moved before, by whoever began this.
        Err(object_store::Error::NotFound { .. }) if store.head(&to).await.is_ok() => Ok(()),
        Err(error) => Err(DataFusionError::from(error).into()),
    }
}

fn join(folder: &Path, path: &str) -> String {
    if folder.as_ref().is_empty() { path.to_string() } else { format!("{folder}/{path}") }
}

fn path_of(path: &str) -> Result<Path, QueryError> {
    Path::parse(path).map_err(|e| QueryError::Internal(format!("\"{path}\" is not a path: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryStore;
    use std::fs;
    use windlass_engine::ops::StagedFile;

    struct Disk {
        folder: tempfile::TempDir,
        journal: Journal,
    }

    impl Disk {
        fn new() -> Self {
            let runtime = Arc::new(RuntimeEnv::default());
            let journal = Journal::new(Arc::new(MemoryStore::default()), runtime);
            Self { folder: tempfile::tempdir().unwrap(), journal }
        }

        fn url(&self, path: &str) -> String {
            format!("file://{}/{path}", self.folder.path().display())
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn read(&self, path: &str) -> Option<String> {
            fs::read_to_string(self.folder.path().join(path)).ok()
        }

        fn staged(&self, attempt: &str, files: &[&str]) -> StagedFiles {
            for file in files {
                self.write(&format!("stage/{attempt}/{file}"), file);
            }
            let files = files.iter().map(|path| StagedFile { path: path.to_string(), bytes: 1 }).collect();
            StagedFiles { folder: self.url(&format!("stage/{attempt}/")), files, rows: 1 }
        }
    }

    #[tokio::test]
    async fn publishing_moves_committed_files_and_removes_replaced_ones() {
        let disk = Disk::new();
        disk.write("t/old.csv", "old");
        let first = disk.staged("0-0", &["a.csv", "month=1/b.csv"]);
        let _failed_attempt = disk.staged("1-0", &["c.csv"]);
        let second = disk.staged("1-1", &["d.csv"]);
        let intent = disk.journal.begin(vec![disk.url("stage/")], vec![]).await.unwrap();
        let mut publication = Publication::new(&[first, second], &disk.url("t/")).unwrap();
        publication.removes =
            vec![Path::from_filesystem_path(disk.folder.path().join("t/old.csv")).unwrap().to_string()];
        disk.journal.publish(intent, publication, Writers::Gone).await.unwrap();
        assert_eq!(disk.read("t/a.csv").as_deref(), Some("a.csv"));
        assert_eq!(disk.read("t/month=1/b.csv").as_deref(), Some("month=1/b.csv"));
        assert_eq!(disk.read("t/d.csv").as_deref(), Some("d.csv"));
        assert_eq!(disk.read("t/c.csv"), None);
        assert_eq!(disk.read("t/old.csv"), None);
        assert!(!disk.folder.path().join("stage").exists());
        assert!(disk.journal.store.range(WRITES).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_primary_that_died_while_publishing_is_followed_by_one_that_completes_it() {
        let disk = Disk::new();
        let staged = disk.staged("0-0", &["a.csv", "b.csv"]);
        let mut intent = disk.journal.begin(vec![disk.url("stage/")], vec![]).await.unwrap();
        let publication = Publication::new(&[staged], &disk.url("t/")).unwrap();
        intent.publication = Some(publication.clone());
        disk.journal.put(&intent).await.unwrap();
        // It died after the first move.
        let first = Publication { moves: publication.moves[..1].to_vec(), ..publication };
        first.move_files(&disk.journal.runtime).await.unwrap();
        assert_eq!((disk.read("t/a.csv").is_some(), disk.read("t/b.csv").is_some()), (true, false));

        assert_eq!(disk.journal.recover().await.unwrap(), (0, 1));
        assert_eq!((disk.read("t/a.csv").is_some(), disk.read("t/b.csv").is_some()), (true, true));
        assert!(!disk.folder.path().join("stage").exists());
        assert_eq!(disk.journal.recover().await.unwrap(), (0, 0));
    }

    #[tokio::test]
    async fn what_was_only_staged_vanishes_on_the_next_start() {
        let disk = Disk::new();
        disk.staged("0-0", &["a.csv"]);
        disk.write("warehouse/t-1/new/x.parquet", "x");
        disk.journal.begin(vec![disk.url("stage/")], vec![disk.url("warehouse/t-1/new/")]).await.unwrap();
        assert_eq!(disk.journal.recover().await.unwrap(), (1, 0));
        assert!(!disk.folder.path().join("stage").exists());
        assert_eq!(disk.read("warehouse/t-1/new/x.parquet"), None);
    }

    /// As when an attempt that has not noticed its end adds a file to a folder while it is removed.
    #[tokio::test]
    async fn what_cannot_be_removed_when_a_write_ends_is_removed_later() {
        let disk = Disk::new();
        let stuck = |folder: &str| disk.write(folder, "not a folder");
        let free = |folder: &str| fs::remove_file(disk.folder.path().join(folder)).unwrap();
        let garbage = async || garbage::collect(disk.journal.store.as_ref(), &disk.journal.runtime).await.unwrap();
        let begin =
            async |folder: &str| disk.journal.begin(vec![disk.url(&format!("{folder}/"))], vec![]).await.unwrap();

        stuck("failed");
        disk.journal.abandon(&begin("failed").await).await.unwrap();
        stuck("committed");
        disk.journal.clear_staging(&begin("committed").await, Writers::Gone).await;
        let staged = disk.staged("0-0", &["a.csv"]);
        let publication = Publication::new(&[staged], &disk.url("t/")).unwrap();
        stuck("published");
        disk.journal.publish(begin("published").await, publication, Writers::Gone).await.unwrap();
        assert!(disk.read("t/a.csv").is_some(), "what was written is there all the same");

        assert_eq!(garbage().await, 0);
        ["failed", "committed", "published"].into_iter().for_each(free);
        assert_eq!(garbage().await, 3);
        let later = disk.journal.store.range("garbage/").await.unwrap();
        assert_eq!(later.len(), STRAGGLERS.len(), "those who may still write are waited for");
    }

    #[tokio::test]
    async fn a_single_file_takes_the_name_of_its_target() {
        let disk = Disk::new();
        disk.write("out.csv", "before");
        let staged = disk.staged("0-0", &["out.csv"]);
        let intent = disk.journal.begin(vec![disk.url("stage/")], vec![]).await.unwrap();
        let publication = Publication::new(&[staged], &disk.url("out.csv")).unwrap();
        disk.journal.publish(intent, publication, Writers::Gone).await.unwrap();
        assert_eq!(disk.read("out.csv").as_deref(), Some("out.csv"));
        let two = [disk.staged("0-0", &["a"]), disk.staged("1-0", &["b"])];
        assert!(Publication::new(&two, &disk.url("out.csv")).is_err());
    }
}
