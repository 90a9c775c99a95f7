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
//! that lists their new folder is the publication. Whatever transaction ends a write lets what was staged go, so that a primary that dies
//! right behind it leaves nothing.

use super::outcome;
use crate::errors::QueryError;
use crate::meta::{MetaStore, Transaction};
use crate::statements::catalog::Edit;
use crate::statements::garbage::{self, Remover};
use datafusion::common::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Deserializer, Serialize};
use std::sync::Arc;
use std::time::Duration;
use windlass_connectors::StoreRegistry;
use windlass_engine::ops::StagedFiles;
use windlass_engine::{OwnFolder, Place};

const WRITES: &str = "write/";
/// Requests to an object store at a time.
const AT_A_TIME: usize = 16;
/// An attempt that has ended may have left a file half written to a thread of the file system, which cannot be called back, and an
/// executor that was cut off or stopped goes on with its attempts when it comes back: what was staged is removed again after each of these
/// times. On a disk that has more to do than it can, seconds are not enough.
const STRAGGLERS: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(300),
    Duration::from_secs(3_600),
    Duration::from_secs(24 * 3_600),
];
/// What a committed write staged is removed at once, and again after this time, for a primary that died before.
const AT_ONCE: Duration = Duration::from_secs(1);

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
    remover: Remover,
}

/// A write, as the metadata store knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Intent {
    #[serde(skip)]
    id: String,
    /// Folders that go in any case.
    #[serde(deserialize_with = "own_folders")]
    staging: Vec<OwnFolder>,
    /// Folders that go unless the write is committed.
    #[serde(deserialize_with = "own_folders")]
    unless_committed: Vec<OwnFolder>,
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
    pub fn new(store: Arc<dyn MetaStore>, runtime: Arc<RuntimeEnv>, stores: Arc<StoreRegistry>) -> Self {
        Self { store, remover: Remover::new(runtime, stores) }
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
                // Where it was staged cannot be told, so nor can what of it is to be moved.
                publication if intent.staging.is_empty() => {
                    abandoned += 1;
                    tracing::error!(write = %intent.id, ?publication, "a write of an earlier primary is given up: nothing is moved or removed");
                    self.forget(&intent).await
                }
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

    /// Removes what is to go at any time: whoever may have written there is gone.
    pub async fn collect_all(&self) -> Result<usize, QueryError> {
        garbage::collect_until(self.store.as_ref(), &self.remover, u64::MAX).await
    }

    /// Remembers which folders belong to a write before anything is written.
    pub(super) async fn begin(
        &self,
        staging: OwnFolder,
        unless_committed: Vec<OwnFolder>,
    ) -> Result<Intent, QueryError> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let intent = Intent { id, staging: vec![staging], unless_committed, publication: None };
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

    /// The edits by which a transaction of the catalog ends the write.
    pub(super) fn committed(&self, intent: &Intent) -> Vec<Edit> {
        let let_go = intent.staging.iter().map(|folder| garbage::entry(folder, AT_ONCE));
        let let_go = let_go.map(|(key, url)| Edit::Meta(key, Some(url)));
        let_go.chain([Edit::Meta(intent.key(), None)]).collect()
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
        let store = self.remover.runtime().object_store(&url)?;
        // First the new, then the old goes: a reader in between may see both, but never neither.
        move_all(&store, &publication.moves).await?;
        for path in &publication.removes {
            self.remover.file(&url, &path_of(path)?).await?;
        }
        let later = self.remove(&intent.staging, writers).await;
        Ok(self.store.commit(later.delete(intent.key())).await?)
    }

    /// Removes `folders`. What of them is to be removed later, because it could not be now or because of who may still write there,
    /// is in the transaction.
    async fn remove(&self, folders: &[OwnFolder], writers: Writers) -> Transaction {
        let mut later = Vec::new();
        for folder in folders {
            if let Err(error) = self.remover.folder(folder).await {
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

    async fn forget(&self, intent: &Intent) -> Result<(), QueryError> {
        Ok(self.store.commit(Transaction::default().delete(intent.key())).await?)
    }
}

/// Earlier versions took a `#` or a `?` in a target for the end of its path, and put down a folder that they had not written to: such a one is
/// never removed.
fn own_folders<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<OwnFolder>, D::Error> {
    let own = |url: &String| match OwnFolder::from_url(url) {
        Ok(folder) => Some(folder),
        Err(error) => {
            tracing::error!(%url, %error, "an earlier write names a folder that Windlass has not made: it stays");
            None
        }
    };
    Ok(Vec::<String>::deserialize(deserializer)?.iter().filter_map(own).collect())
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
    /// Moves everything that was staged to `target`: a folder or, with one file at most, a file.
    pub fn new(staged: &[StagedFiles], target: &Place) -> Result<Self, QueryError> {
        let mut publication = Self { store: target.store().as_str().to_string(), ..Self::default() };
        for attempt in staged {
            for file in &attempt.files {
                let to = match target.is_folder() {
                    true => target.file(&file.path)?,
                    false => target.clone(),
                };
                let from = attempt.folder.file(&file.path)?;
                publication.moves.push((from.path().to_string(), to.path().to_string()));
            }
        }
        if !target.is_folder() && publication.moves.len() > 1 {
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
            let journal = Journal::new(Arc::new(MemoryStore::default()), Arc::default(), StoreRegistry::new());
            Self { folder: tempfile::tempdir().unwrap(), journal }
        }

        fn place(&self, path: &str) -> Place {
            Place::parse(&format!("{}/{path}", self.folder.path().display())).unwrap()
        }

        fn staging(&self) -> OwnFolder {
            OwnFolder::staging(&self.place("t/")).unwrap()
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn read(&self, path: &str) -> Option<String> {
            fs::read_to_string(self.folder.path().join(path)).ok()
        }

        fn staged(&self, staging: &OwnFolder, attempt: &str, files: &[&str]) -> StagedFiles {
            let folder = staging.place().folder(attempt).unwrap();
            for file in files {
                let path = folder.file(file).unwrap().local_path().unwrap();
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, file).unwrap();
            }
            let files = files.iter().map(|path| StagedFile { path: path.to_string(), bytes: 1 }).collect();
            StagedFiles { folder, files, rows: 1 }
        }

        fn is_there(&self, folder: &OwnFolder) -> bool {
            folder.place().local_path().unwrap().exists()
        }

        async fn garbage(&self) -> usize {
            garbage::collect(self.journal.store.as_ref(), &self.journal.remover).await.unwrap()
        }
    }

    #[tokio::test]
    async fn publishing_moves_committed_files_and_removes_replaced_ones() {
        let (disk, id) = (Disk::new(), "k=a%2Fb");
        disk.write("t/old.csv", "old");
        let staging = disk.staging();
        let first = disk.staged(&staging, "0-0", &["a.csv", &format!("{id}/b#1[x]?.csv")]);
        let _failed_attempt = disk.staged(&staging, "1-0", &["c.csv"]);
        let second = disk.staged(&staging, "1-1", &["d.csv"]);
        let intent = disk.journal.begin(staging.clone(), vec![]).await.unwrap();
        let mut publication = Publication::new(&[first, second], &disk.place("t/")).unwrap();
        publication.removes = vec![disk.place("t/old.csv").path().to_string()];
        disk.journal.publish(intent, publication, Writers::Gone).await.unwrap();
        assert_eq!(disk.read("t/a.csv").as_deref(), Some("a.csv"));
        assert!(disk.read(&format!("t/{id}/b#1[x]?.csv")).is_some(), "names stay as they are");
        assert_eq!(disk.read("t/d.csv").as_deref(), Some("d.csv"));
        assert_eq!(disk.read("t/c.csv"), None);
        assert_eq!(disk.read("t/old.csv"), None);
        assert!(!disk.is_there(&staging));
        assert!(disk.journal.store.range(WRITES).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_primary_that_died_while_publishing_is_followed_by_one_that_completes_it() {
        let disk = Disk::new();
        let staging = disk.staging();
        let staged = disk.staged(&staging, "0-0", &["a.csv", "b.csv"]);
        let mut intent = disk.journal.begin(staging.clone(), vec![]).await.unwrap();
        let publication = Publication::new(&[staged], &disk.place("t/")).unwrap();
        intent.publication = Some(publication.clone());
        disk.journal.put(&intent).await.unwrap();
        // It died after the first move.
        let first = Publication { moves: publication.moves[..1].to_vec(), ..publication };
        first.move_files(disk.journal.remover.runtime()).await.unwrap();
        assert_eq!((disk.read("t/a.csv").is_some(), disk.read("t/b.csv").is_some()), (true, false));

        assert_eq!(disk.journal.recover().await.unwrap(), (0, 1));
        assert_eq!((disk.read("t/a.csv").is_some(), disk.read("t/b.csv").is_some()), (true, true));
        assert!(!disk.is_there(&staging));
        assert_eq!(disk.journal.recover().await.unwrap(), (0, 0));
    }

    #[tokio::test]
    async fn what_was_only_staged_vanishes_on_the_next_start() {
        let disk = Disk::new();
        let (staging, new) = (disk.staging(), OwnFolder::new_in(&disk.place("warehouse/"), "").unwrap());
        disk.staged(&staging, "0-0", &["a.csv"]);
        disk.staged(&new, "", &["x.parquet"]);
        disk.journal.begin(staging.clone(), vec![new.clone()]).await.unwrap();
        assert_eq!(disk.journal.recover().await.unwrap(), (1, 0));
        assert!(!disk.is_there(&staging) && !disk.is_there(&new));
    }

    /// As when the primary dies between a commit and what it does next.
    #[tokio::test]
    async fn what_a_committed_write_staged_goes_whoever_lives() {
        let disk = Disk::new();
        let staging = disk.staging();
        disk.staged(&staging, "0-0", &["a.csv"]);
        let intent = disk.journal.begin(staging.clone(), vec![]).await.unwrap();
        let edits = disk.journal.committed(&intent).into_iter().map(|edit| match edit {
            Edit::Meta(key, value) => (key, value),
            other => panic!("{other:?}"),
        });
        disk.journal.store.commit(Transaction { writes: edits.collect(), ..Transaction::default() }).await.unwrap();

        assert_eq!(disk.journal.recover().await.unwrap(), (0, 0));
        assert_eq!(disk.garbage().await, 0);
        tokio::time::sleep(AT_ONCE).await;
        assert_eq!(disk.garbage().await, 1);
        assert!(!disk.is_there(&staging));
    }

    /// As when an attempt that has not noticed its end adds a file to a folder while it is removed.
    #[tokio::test]
    async fn what_cannot_be_removed_when_a_write_ends_is_removed_later() {
        let disk = Disk::new();
        let stuck = || {
            let folder = disk.staging();
            fs::write(folder.place().local_path().unwrap(), "not a folder").unwrap();
            folder
        };
        let begin = async |folder: &OwnFolder| disk.journal.begin(folder.clone(), vec![]).await.unwrap();

        let (failed, committed, published) = (stuck(), stuck(), stuck());
        disk.journal.abandon(&begin(&failed).await).await.unwrap();
        disk.journal.clear_staging(&begin(&committed).await, Writers::Gone).await;
        let staged = disk.staged(&disk.staging(), "0-0", &["a.csv"]);
        let publication = Publication::new(&[staged], &disk.place("t/")).unwrap();
        disk.journal.publish(begin(&published).await, publication, Writers::Gone).await.unwrap();
        assert!(disk.read("t/a.csv").is_some(), "what was written is there all the same");

        assert_eq!(disk.garbage().await, 0);
        for folder in [failed, committed, published] {
            fs::remove_file(folder.place().local_path().unwrap()).unwrap();
        }
        assert_eq!(disk.garbage().await, 3);
        let later = disk.journal.store.range("garbage/").await.unwrap();
        assert_eq!(later.len(), STRAGGLERS.len(), "those who may still write are waited for");
    }

    #[tokio::test]
    async fn a_single_file_takes_the_name_of_its_target() {
        let disk = Disk::new();
        disk.write("out#1.csv", "before");
        let staging = disk.staging();
        let staged = disk.staged(&staging, "0-0", &["out#1.csv"]);
        let intent = disk.journal.begin(staging.clone(), vec![]).await.unwrap();
        let publication = Publication::new(&[staged], &disk.place("out.csv")).unwrap();
        disk.journal.publish(intent, publication, Writers::Gone).await.unwrap();
        assert_eq!(disk.read("out.csv").as_deref(), Some("out#1.csv"));
        assert_eq!(disk.read("out#1.csv").as_deref(), Some("before"), "what lies beside stays");
        let two = [disk.staged(&staging, "0-0", &["a"]), disk.staged(&staging, "1-0", &["b"])];
        assert!(Publication::new(&two, &disk.place("out.csv")).is_err());
    }

    /// As a version left it that took a `#` for the end of a path: the staging folder of `…/r#1/a.csv` was `…/r` to it.
    #[tokio::test]
    async fn a_write_whose_places_cannot_be_told_is_given_up_once_and_nothing_goes() {
        let disk = Disk::new();
        disk.write("r/keep.csv", "x");
        let (here, id) = (disk.folder.path().display().to_string(), uuid::Uuid::new_v4().simple());
        let of = |publication: &str| {
            format!(
                r#"{{"staging":["file://{here}/r#1/.a.csv.windlass-{id}/"],"unless_committed":[],"publication":{publication}}}"#
            )
        };
        let root = here.trim_start_matches('/');
        let moves = format!(r#"{{"store":"file:///","moves":[["{root}/r/keep.csv","{root}/r"]],"removes":[]}}"#);
        for (key, entry) in [("1", of("null")), ("2", of(&moves))] {
            disk.journal.store.commit(Transaction::default().put(format!("{WRITES}{key}"), entry)).await.unwrap();
        }
        assert_eq!(disk.journal.recover().await.unwrap(), (2, 0));
        assert_eq!(disk.journal.recover().await.unwrap(), (0, 0));
        assert_eq!(disk.read("r/keep.csv").as_deref(), Some("x"));
    }
}
