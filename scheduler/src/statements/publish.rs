//! Carries out the decisions of [`windlass_core::writes`] about the files of a write: persists, moves and removes, and reports the
//! results.
//!
//! Each write has an entry in the metadata store from before its first file until its end, so that the next leader can end it.

use super::outcome;
use crate::clock::{Clock, Ids};
use crate::errors::QueryError;
use crate::meta::keys::{settings, writes as keys};
use crate::meta::{MetaError, MetaStore, Sealer, Transaction, Update};
use crate::statements::catalog::{Edit, open_options, seal_options};
use crate::statements::garbage::{self, Remover};
use datafusion::common::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;
use url::Url;
use windlass_connectors::StoreRegistry;
use windlass_core::writes::{Change, Effect, Event, Fact, Moved, Output, Publication, Reply, Said, With};
use windlass_core::writes::{Visible, Write, Writers};
use windlass_engine::connector::{StagedFiles, WriteTarget};
use windlass_engine::stores::{StoreOptions, settings_of, without_settings};
use windlass_engine::{OwnFolder, Place};

/// Concurrent requests to an object store.
const AT_A_TIME: usize = 64;
/// The name of a manifest in the folder of its files.
const MANIFEST: &str = "_manifest.json";
/// The folder of a staging folder in which the primary stages, as attempts do in theirs.
const OF_PRIMARY: &str = "primary";

/// The writes in progress.
#[derive(Clone, Debug)]
pub struct Journal {
    store: Arc<dyn MetaStore>,
    remover: Remover,
    clock: Clock,
    ids: Ids,
    stores: Arc<StoreRegistry>,
    /// Seals the settings of stores. Absent: a write whose store has settings of its own cannot be ended by the next leader.
    sealer: Option<Sealer>,
}

/// Makes the staging folder of a managed table on a local disk. The table's folder around it, which goes when it is empty, stays as long
/// as the write needs it. Another host's disk has no folder here, and needs none.
fn hold_folder(staging: &OwnFolder) {
    let Some(path) = staging.place().local_path() else { return };
    // The folder around may go while it is made: once for each write that ends then.
    for _ in 0..AT_A_TIME {
        match std::fs::create_dir_all(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            _ => return,
        }
    }
}

/// A write in progress.
#[derive(Debug)]
pub(super) struct Intent {
    id: String,
    machine: Write<OwnFolder>,
    /// Recorded with the publication.
    effect: Option<outcome::Effect>,
}

/// The state of a write when nothing more can be done for it here at this time.
#[derive(Debug)]
enum Stand {
    At(Reply),
    /// These edits belong in the catalog's transaction that makes the write visible.
    Commit(Vec<Edit>),
}

impl Journal {
    pub fn new(
        store: Arc<dyn MetaStore>,
        runtime: Arc<RuntimeEnv>,
        stores: Arc<StoreRegistry>,
        clock: Clock,
        ids: Ids,
    ) -> Self {
        Self { store, remover: Remover::new(runtime, Arc::clone(&stores)), clock, ids, stores, sealer: None }
    }

    pub fn runtime(&self) -> &RuntimeEnv {
        self.remover.runtime()
    }

    pub fn sealing(self, sealer: Sealer) -> Self {
        Self { sealer: Some(sealer), ..self }
    }

    /// Ends the writes of a primary that is gone. Call it before the first statement. Returns how many writes were abandoned and how
    /// many were published.
    pub async fn recover(&self) -> Result<(usize, usize), QueryError> {
        let (mut abandoned, mut published) = (0, 0);
        let settings = self.reach_stores().await?;
        for (id, record) in keys::all(self.store.as_ref()).await? {
            let machine = Write::found(record.filter_map(own_folder));
            let mut write = Intent { id, machine, effect: None };
            let mut errors = Vec::new();
            match self.drive(&mut write, Event::Begun, &mut errors).await {
                Stand::At(Reply::Abandoned) => abandoned += 1,
                Stand::At(Reply::Published) => published += 1,
                stand => {
                    tracing::warn!(write = %write.id, ?stand, ?errors, "a write of an earlier primary could not be ended; the next start tries again")
                }
            }
        }
        self.forget_stores(settings).await?;
        Ok((abandoned, published))
    }

    /// Configures the object stores that writes of earlier leaders reach. Returns the names of their settings.
    async fn reach_stores(&self) -> Result<Vec<String>, QueryError> {
        let all = settings::all(self.store.as_ref()).await?;
        for (name, found) in &all {
            let Some(sealer) = &self.sealer else { continue };
            let options = open_options(sealer, name, &found.sealed).map_err(|error| error.to_string());
            let configured = options.and_then(|options| {
                let url = Url::parse(&found.url).map_err(|error| error.to_string())?;
                self.stores.configure(&url, &options).map_err(|error| error.to_string())
            });
            if let Err(error) = configured {
                tracing::warn!(settings = %name, %error, "the object store of an earlier write cannot be reached");
            }
        }
        Ok(all.into_iter().map(|(name, _)| name).collect())
    }

    /// Deletes those of these settings that no write needs.
    async fn forget_stores(&self, names: Vec<String>) -> Result<(), QueryError> {
        let mut needed = HashSet::new();
        for (_, record) in keys::all(self.store.as_ref()).await? {
            // A folder that is left in place is read as any other.
            record.filter_map(|url| {
                needed.extend(settings_of(&url).map(str::to_string));
                Some(url)
            });
        }
        let gone = names.iter().filter(|name| !needed.contains(*name));
        let gone = gone.fold(Transaction::default(), |changes, name| changes.with(settings::delete(name)));
        Ok(self.store.commit(gone).await?)
    }

    /// Keeps the settings of a write's object store, for the next leader.
    async fn keep_store(&self, place: &Place) -> Result<(), QueryError> {
        let Some((name, sealer)) = place.settings().zip(self.sealer.as_ref()) else { return Ok(()) };
        let url = place.store().as_str();
        let Some(options) = self.stores.options(url) else { return Ok(()) };
        let sealed = seal_options(sealer, name, &options).map_err(|error| QueryError::Internal(error.to_string()))?;
        let kept = settings::put(name, &settings::Settings { url: url.to_string(), sealed });
        Ok(self.store.commit(Transaction::default().with(kept)).await?)
    }

    /// Removes all folders that are scheduled for removal. No one can still write to them, because their writers are gone.
    pub async fn collect_all(&self) -> Result<usize, QueryError> {
        garbage::collect_until(self.store.as_ref(), &self.remover, u64::MAX).await
    }

    /// Records which folders belong to a write, before anything is written.
    pub(super) async fn begin(
        &self,
        staging: OwnFolder,
        unless_committed: Vec<OwnFolder>,
    ) -> Result<Intent, QueryError> {
        self.keep_store(staging.place()).await?;
        if !unless_committed.is_empty() {
            hold_folder(&staging);
        }
        let id = self.ids.name();
        let machine = Write::new(vec![staging], unless_committed);
        let mut write = Intent { id, machine, effect: None };
        let mut errors = Vec::new();
        match self.drive(&mut write, Event::Begun, &mut errors).await {
            Stand::At(Reply::Staging) => Ok(write),
            stand => Err(ended_badly(&stand, errors)),
        }
    }

    /// Removes the staged files, unless they are or may become visible. Returns the error for the client: `cause`, or that another
    /// primary leads.
    pub(super) async fn abandon(&self, write: &mut Intent, cause: QueryError) -> QueryError {
        let mut errors = Vec::new();
        let stand = self.drive(write, Event::JobFailed, &mut errors).await;
        match errors.pop() {
            // The next leader has removed the staged files, which is why they were not found. The client asks that leader.
            Some(lost @ QueryError::NotLeading(_)) => return lost,
            Some(error) => tracing::warn!(write = %write.id, ?stand, %error, "a failed write could not be ended"),
            None => {}
        }
        cause
    }

    /// Moves files to where readers find them. `effect`: the statement's effect, recorded with the publication.
    pub(super) async fn publish(
        &self,
        write: &mut Intent,
        publication: Publication,
        writers: Writers,
        effect: Option<outcome::Effect>,
    ) -> Result<(), QueryError> {
        write.effect = effect;
        let mut errors = Vec::new();
        let finished = Event::JobFinished { publication, visible: Visible::ByMoving, writers };
        match self.drive(write, finished, &mut errors).await {
            Stand::At(Reply::Published) => Ok(()),
            stand => Err(ended_badly(&stand, errors)),
        }
    }

    /// Moves files to the folder that a transaction of the catalog will show. Returns further edits for this transaction.
    pub(super) async fn settle(
        &self,
        write: &mut Intent,
        publication: Publication,
        writers: Writers,
    ) -> Result<Vec<Edit>, QueryError> {
        let mut errors = Vec::new();
        let finished = Event::JobFinished { publication, visible: Visible::ByCatalog, writers };
        match self.drive(write, finished, &mut errors).await {
            Stand::Commit(edits) => Ok(edits),
            stand => Err(ended_badly(&stand, errors)),
        }
    }

    /// Ends the write after the transaction with the edits of [`Journal::settle`].
    pub(super) async fn committed(
        &self,
        write: &mut Intent,
        committed: Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let (said, mut errors) = match committed {
            Ok(()) => (Said::Done, Vec::new()),
            Err(error) => (
                match &error {
                    QueryError::OutcomeUnknown(_) => Said::Unknown,
                    QueryError::NotLeading(_) => Said::NotLeading,
                    _ => Said::Refused,
                },
                vec![error],
            ),
        };
        match self.drive(write, Event::Persisted(said), &mut errors).await {
            Stand::At(Reply::Published) => Ok(()),
            stand => Err(ended_badly(&stand, errors)),
        }
    }

    /// Carries out the consequences of `event`. Appends failures to `errors` in the order in which they happen.
    async fn drive(&self, write: &mut Intent, event: Event<OwnFolder>, errors: &mut Vec<QueryError>) -> Stand {
        let mut output = write.machine.step(event);
        loop {
            note(&write.id, &output.facts);
            let event = match output {
                Output { persist: Some(persist), .. } => {
                    let updates = persist.changes.into_iter().map(|change| self.update(&write.id, change));
                    if persist.with == With::Catalog {
                        return Stand::Commit(updates.map(Edit::Meta).collect());
                    }
                    let mut transaction = updates.fold(Transaction::default(), Transaction::with);
                    if persist.with == With::Outcome
                        && let Some(effect) = &write.effect
                    {
                        transaction = transaction.with(effect.update(self.clock.wall_ms()));
                    }
                    Event::Persisted(self.persist(transaction, errors).await)
                }
                Output { send: Some(effect), .. } => self.carry_out(write, effect, errors).await,
                Output { reply, .. } => return Stand::At(reply.unwrap_or(Reply::Left)),
            };
            output = write.machine.step(event);
        }
    }

    fn update(&self, write: &str, change: Change<OwnFolder>) -> Update {
        match change {
            Change::Put(record) => keys::put(write, &record),
            Change::Forget => keys::delete(write),
            Change::RemoveLater { folder, after } => garbage::entry(&folder, after, &self.clock, &self.ids),
        }
    }

    async fn persist(&self, transaction: Transaction, errors: &mut Vec<QueryError>) -> Said {
        let Err(error) = self.store.commit(transaction).await else { return Said::Done };
        let said = match &error {
            MetaError::Unknown { .. } => Said::Unknown,
            MetaError::NotLeading { .. } => Said::NotLeading,
            MetaError::Conflict { .. } | MetaError::Store { .. } | MetaError::Corrupt { .. } => Said::Refused,
        };
        errors.push(error.into());
        said
    }

    async fn carry_out(
        &self,
        write: &Intent,
        effect: Effect<OwnFolder>,
        errors: &mut Vec<QueryError>,
    ) -> Event<OwnFolder> {
        match effect {
            Effect::Move(publication) => match self.move_files(write, &publication).await {
                Ok(None) => Event::Moved(Moved::All),
                Ok(Some(missing)) => {
                    errors.push(missing);
                    Event::Moved(Moved::Missing)
                }
                Err(error) => {
                    errors.push(error);
                    Event::Moved(Moved::NotAll)
                }
            },
            Effect::RemoveReplaced(publication) => match self.remove_files(&publication).await {
                Ok(()) => Event::ReplacedRemoved(true),
                Err(error) => {
                    errors.push(error);
                    Event::ReplacedRemoved(false)
                }
            },
            Effect::RemoveFolders(folders) => {
                let mut left = Vec::new();
                for folder in folders {
                    if let Err(error) = self.remover.folder(&folder).await {
                        tracing::info!(%folder, %error, "what was staged for a write is removed later");
                        left.push(folder);
                    }
                }
                Event::FoldersRemoved { left }
            }
        }
    }

    /// Returns an error that names a missing file, if one is missing and all others were moved.
    async fn move_files(&self, write: &Intent, publication: &Publication) -> Result<Option<QueryError>, QueryError> {
        let store = self.remover.runtime().object_store(&ObjectStoreUrl::parse(&publication.store)?)?;
        let moves = futures::stream::iter(publication.moves.clone());
        let moving = moves.map(|(from, to)| move_one(Arc::clone(&store), from, to)).buffer_unordered(AT_A_TIME);
        let mut missing = moving.try_fold(None, async |one: Option<QueryError>, other| Ok(one.or(other))).await?;
        if let Some((from, to)) = publication.manifest.clone() {
            missing = missing.or(move_one(Arc::clone(&store), from, to).await?);
        }
        match missing {
            // A missing file means nothing if the folder around it is missing too, for example because it is on another host's disk.
            Some(error) if !write.machine.staging().iter().all(is_reachable) => Err(error),
            missing => Ok(missing),
        }
    }

    async fn remove_files(&self, publication: &Publication) -> Result<(), QueryError> {
        let url = ObjectStoreUrl::parse(&publication.store)?;
        for path in &publication.removes {
            self.remover.file(&url, &path_of(path)?).await?;
        }
        Ok(())
    }
}

impl Intent {
    /// Whether nothing has been decided about the staged files.
    pub fn is_staging(&self) -> bool {
        self.machine.is_staging()
    }
}

/// Returns the error for the caller of a write that is not published.
fn ended_badly(stand: &Stand, mut errors: Vec<QueryError>) -> QueryError {
    let lost = errors.iter().position(|error| matches!(error, QueryError::NotLeading(_)));
    match (stand, lost) {
        (Stand::At(Reply::Unfinished), _) => {
            let error = errors.first().map(ToString::to_string).unwrap_or_default();
            QueryError::Internal(format!(
                "the files were written, but not all of them could be moved into place: {error}; this is completed when the primary \
                 starts again"
            ))
        }
        // The client asks the next leader.
        (_, Some(at)) => errors.swap_remove(at),
        _ if errors.is_empty() => QueryError::Internal(format!("a write ended unexpectedly: {stand:?}")),
        _ => errors.swap_remove(0),
    }
}

fn note(write: &str, facts: &[Fact]) {
    for fact in facts {
        match fact {
            Fact::GivenUp => {
                tracing::error!(write, "a write of an earlier primary is given up: nothing is moved or removed")
            }
            Fact::FilesMissing => {
                tracing::error!(
                    write,
                    "files of an earlier primary's write are gone: a later write replaced them, or they are lost"
                )
            }
            Fact::RecordStays => {
                tracing::warn!(write, "a write that has ended is known until the primary starts again")
            }
            Fact::FoldersLeft(folders) => tracing::debug!(write, folders, "folders of a write are left for later"),
        }
    }
}

/// Returns the folder, or `None` if Windlass did not create it. Earlier versions took a `#` or a `?` in a target for the end of its
/// path, and recorded a folder that they had not written to. Such a folder is never removed.
fn own_folder(url: String) -> Option<OwnFolder> {
    match OwnFolder::from_url(&url) {
        Ok(folder) => Some(folder),
        Err(error) => {
            tracing::error!(%url, %error, "an earlier write names a folder that Windlass has not made: it stays");
            None
        }
    }
}

/// Moves all staged files to `target`: a folder or, for at most one file, a file. They replace `replaced`, which holds paths in the
/// target's store.
pub(super) fn publication_of(
    staged: &[StagedFiles],
    target: &Place,
    replaced: Vec<String>,
) -> Result<Publication, QueryError> {
    let mut moves = Vec::new();
    for attempt in staged {
        for file in &attempt.files {
            let to = match target.is_folder() {
                true => target.file(&file.path)?,
                false => target.clone(),
            };
            let from = attempt.folder.file(&file.path)?;
            moves.push((from.path().to_string(), to.path().to_string()));
        }
    }
    if !target.is_folder() && moves.len() > 1 {
        return Err(QueryError::Internal(format!("{} files were written for the one file {target}", moves.len())));
    }
    Ok(Publication::new(target.store().as_str().to_string(), moves, replaced))
}

/// Stages the manifest of a write, as UNLOAD and COPY of Redshift have it, and adds it to the publication.
pub(super) async fn add_manifest(
    runtime: &RuntimeEnv,
    publication: &mut Publication,
    staged: &[StagedFiles],
    target: &WriteTarget,
    rows: u64,
) -> Result<(), QueryError> {
    let store = without_settings(target.target.store().as_str());
    let (mut entries, mut bytes) = (Vec::new(), 0);
    for file in staged.iter().flat_map(|attempt| &attempt.files) {
        // Names in S3 mean their bytes, so nothing is encoded.
        let url = format!("{store}{}", target.target.file(&file.path)?.path());
        entries.push(json!({ "url": url, "meta": { "content_length": file.bytes } }));
        bytes += file.bytes;
    }
    let manifest = json!({ "entries": entries, "meta": { "content_length": bytes, "record_count": rows } });
    let from = target.staging.place().folder(OF_PRIMARY)?.file(MANIFEST)?;
    let store = runtime.object_store(target.target.store())?;
    store.put(from.path(), format!("{manifest}\n").into()).await.map_err(DataFusionError::from)?;
    publication.manifest = Some((from.path().to_string(), target.target.file(MANIFEST)?.path().to_string()));
    Ok(())
}

/// Moves one file. `Some`: the file is neither at its old place nor at its new one.
async fn move_one(store: Arc<dyn ObjectStore>, from: String, to: String) -> Result<Option<QueryError>, QueryError> {
    let (from, to) = (path_of(&from)?, path_of(&to)?);
    let error = match store.rename(&from, &to).await {
        Ok(()) => return Ok(None),
        Err(error @ object_store::Error::NotFound { .. }) => error,
        Err(error) => return Err(DataFusionError::from(error).into()),
    };
    match store.head(&to).await {
        // An earlier try has moved it.
        Ok(_) => Ok(None),
        Err(object_store::Error::NotFound { .. }) => Ok(Some(DataFusionError::from(error).into())),
        Err(error) => Err(DataFusionError::from(error).into()),
    }
}

/// Whether the parent of the folder can be read from here, so that a file that is not found does not exist.
fn is_reachable(folder: &OwnFolder) -> bool {
    folder.place().local_path().is_none_or(|path| path.parent().is_some_and(std::path::Path::is_dir))
}

fn path_of(path: &str) -> Result<Path, QueryError> {
    Path::parse(path).map_err(|e| QueryError::Internal(format!("\"{path}\" is not a path: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryStore;
    use std::fs;
    use windlass_core::writes::{AT_ONCE, Record, STRAGGLERS};
    use windlass_engine::connector::StagedFile;

    struct Disk {
        folder: tempfile::TempDir,
        journal: Journal,
    }

    impl Disk {
        fn new() -> Self {
            let (store, stores) = (Arc::new(MemoryStore::default()), StoreRegistry::new());
            let journal = Journal::new(store, Arc::default(), stores, Clock::system(), Ids::counted());
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
            StagedFiles { folder, files }
        }

        fn is_there(&self, folder: &OwnFolder) -> bool {
            folder.place().local_path().unwrap().exists()
        }

        async fn commit(&self, updates: impl IntoIterator<Item = Update>) {
            let transaction = updates.into_iter().fold(Transaction::default(), Transaction::with);
            self.journal.store.commit(transaction).await.unwrap();
        }

        async fn garbage(&self) -> usize {
            let Journal { store, remover, clock, .. } = &self.journal;
            garbage::collect_until(store.as_ref(), remover, clock.wall_ms()).await.unwrap()
        }
    }

    fn update_of(edit: Edit) -> Update {
        match edit {
            Edit::Meta(update) => update,
            other => panic!("{other:?}"),
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
        let mut intent = disk.journal.begin(staging.clone(), vec![]).await.unwrap();
        let replaced = vec![disk.place("t/old.csv").path().to_string()];
        let publication = publication_of(&[first, second], &disk.place("t/"), replaced).unwrap();
        disk.journal.publish(&mut intent, publication, Writers::Gone, None).await.unwrap();
        assert_eq!(disk.read("t/a.csv").as_deref(), Some("a.csv"));
        assert!(disk.read(&format!("t/{id}/b#1[x]?.csv")).is_some(), "names stay as they are");
        assert_eq!(disk.read("t/d.csv").as_deref(), Some("d.csv"));
        assert_eq!(disk.read("t/c.csv"), None);
        assert_eq!(disk.read("t/old.csv"), None);
        assert!(!disk.is_there(&staging));
        assert!(keys::all(disk.journal.store.as_ref()).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_primary_that_died_while_publishing_is_followed_by_one_that_completes_it() {
        let disk = Disk::new();
        let staging = disk.staging();
        let staged = disk.staged(&staging, "0-0", &["a.csv", "b.csv"]);
        let intent = disk.journal.begin(staging.clone(), vec![]).await.unwrap();
        let publication = publication_of(&[staged], &disk.place("t/"), vec![]).unwrap();
        let record =
            Record { staging: vec![staging.clone()], unless_committed: vec![], publication: Some(publication.clone()) };
        disk.commit([keys::put(&intent.id, &record)]).await;
        // The primary dies after the first move.
        let first = Publication { moves: publication.moves[..1].to_vec(), ..publication };
        assert!(disk.journal.move_files(&intent, &first).await.unwrap().is_none());
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

    /// Covers the death of the primary between a commit and its next step.
    #[tokio::test]
    async fn what_a_committed_write_staged_goes_whoever_lives() {
        let disk = Disk::new();
        let staging = disk.staging();
        disk.staged(&staging, "0-0", &["a.csv"]);
        let mut intent = disk.journal.begin(staging.clone(), vec![]).await.unwrap();
        let edits = disk.journal.settle(&mut intent, Publication::default(), Writers::Gone).await.unwrap();
        disk.commit(edits.into_iter().map(update_of)).await;

        assert_eq!(disk.journal.recover().await.unwrap(), (0, 0));
        assert_eq!(disk.garbage().await, 0);
        disk.journal.clock.advance(AT_ONCE);
        assert_eq!(disk.garbage().await, 1);
        assert!(!disk.is_there(&staging));
    }

    /// Covers an attempt that has not noticed its end and adds a file to a folder during the removal.
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
        let cause = || QueryError::Invalid("no".to_string());
        assert!(matches!(disk.journal.abandon(&mut begin(&failed).await, cause()).await, QueryError::Invalid(_)));
        let mut write = begin(&committed).await;
        let edits = disk.journal.settle(&mut write, Publication::default(), Writers::Gone).await.unwrap();
        disk.commit(edits.into_iter().map(update_of)).await;
        disk.journal.committed(&mut write, Ok(())).await.unwrap();
        let staged = disk.staged(&disk.staging(), "0-0", &["a.csv"]);
        let publication = publication_of(&[staged], &disk.place("t/"), vec![]).unwrap();
        disk.journal.publish(&mut begin(&published).await, publication, Writers::Gone, None).await.unwrap();
        assert!(disk.read("t/a.csv").is_some(), "what was written is there all the same");
        disk.journal.clock.advance(AT_ONCE);

        assert_eq!(disk.garbage().await, 0);
        for folder in [failed, committed, published] {
            fs::remove_file(folder.place().local_path().unwrap()).unwrap();
        }
        assert_eq!(disk.garbage().await, 3);
        let later = crate::meta::keys::garbage::all(disk.journal.store.as_ref()).await.unwrap();
        assert_eq!(later.len(), STRAGGLERS.len(), "those who may still write are waited for");
    }

    #[tokio::test]
    async fn a_single_file_takes_the_name_of_its_target() {
        let disk = Disk::new();
        disk.write("out#1.csv", "before");
        let staging = disk.staging();
        let staged = disk.staged(&staging, "0-0", &["out#1.csv"]);
        let mut intent = disk.journal.begin(staging.clone(), vec![]).await.unwrap();
        let publication = publication_of(&[staged], &disk.place("out.csv"), vec![]).unwrap();
        disk.journal.publish(&mut intent, publication, Writers::Gone, None).await.unwrap();
        assert_eq!(disk.read("out.csv").as_deref(), Some("out#1.csv"));
        assert_eq!(disk.read("out#1.csv").as_deref(), Some("before"), "what lies beside stays");
        let two = [disk.staged(&staging, "0-0", &["a"]), disk.staged(&staging, "1-0", &["b"])];
        assert!(publication_of(&two, &disk.place("out.csv"), vec![]).is_err());
    }

    /// Covers an entry of a version that took a `#` for the end of a path: it recorded `…/r` as the staging folder of `…/r#1/a.csv`.
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
        for (id, record) in [("1", of("null")), ("2", of(&moves))] {
            let record: Record<String> = serde_json::from_str(&record).unwrap();
            disk.commit([keys::put(id, &record)]).await;
        }
        assert_eq!(disk.journal.recover().await.unwrap(), (2, 0));
        assert_eq!(disk.journal.recover().await.unwrap(), (0, 0));
        assert_eq!(disk.read("r/keep.csv").as_deref(), Some("x"));
    }

    /// Covers a later write that replaced a moved file, when the primary died before it forgot the earlier write.
    #[tokio::test]
    async fn a_file_that_was_moved_and_replaced_does_not_hold_up_the_next_primary() {
        let disk = Disk::new();
        let staging = disk.staging();
        let staged = disk.staged(&staging, "0-0", &["a.csv", "b.csv"]);
        let publication = publication_of(&[staged], &disk.place("t/"), vec![]).unwrap();
        let record =
            Record { staging: vec![staging.clone()], unless_committed: vec![], publication: Some(publication.clone()) };
        disk.commit([keys::put("1", &record)]).await;
        fs::remove_file(staging.place().local_path().unwrap().join("0-0/a.csv")).unwrap();
        assert_eq!(disk.journal.recover().await.unwrap(), (0, 1));
        assert!(disk.read("t/b.csv").is_some() && !disk.is_there(&staging));
        assert_eq!(disk.journal.recover().await.unwrap(), (0, 0));
    }
}
