//! The default store: one redb file in the primary's folder, held by one process at a time.

use super::keys::counters::next_epoch;
use super::{Entry, Leader, MetaError, MetaStore, Term, Transaction};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Value: the revision of the commit that wrote it (8 bytes, big-endian), then the value itself.
const ENTRIES: TableDefinition<&str, &[u8]> = TableDefinition::new("entries");
/// One entry: the revision of the last commit.
const REVISION: TableDefinition<u8, u64> = TableDefinition::new("revision");

/// A redb file. Commits run on the blocking pool, because they wait for the disk.
///
/// ```text
///   open ──an error of the disk──> closed ──the next access──> open
/// ```
///
/// After such an error redb does nothing with a file until it is opened again. The access that met the error opens the file at once and
/// looks for its transaction: the store's revision shows whether it was written.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    file: Arc<Reopened>,
    /// Absent in the folder of a short-lived process.
    reserve: Arc<OnceLock<Reserve>>,
    path: PathBuf,
    name: String,
    leader: Arc<Mutex<Option<Leader>>>,
}

type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

struct Reopened {
    open: Opener,
    /// The number of times that the database was opened, and the database.
    database: RwLock<(u64, Option<Database>)>,
    /// One transaction at a time. It is held until the result of a failed transaction is known.
    writing: Mutex<()>,
}

impl fmt::Debug for Reopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reopened").field("database", &self.database).finish_non_exhaustive()
    }
}

/// Reserved bytes of a disk. They are given up when the disk is full, so that the writes that free space succeed.
const RESERVE_BYTES: usize = 4 << 20;
/// Interval between attempts to reserve them again.
const RESERVE_PAUSE: Duration = Duration::from_secs(10);

/// A file that reserves space on the disk.
#[derive(Debug)]
struct Reserve {
    path: PathBuf,
    /// When it was given up, or could not be created.
    missing: Mutex<Option<Instant>>,
}

impl Reserve {
    /// Creates the file if possible. Without it a full disk is simply full.
    fn make(&self) {
        let made = std::fs::metadata(&self.path).is_ok_and(|meta| meta.len() == RESERVE_BYTES as u64)
            || std::fs::write(&self.path, vec![1; RESERVE_BYTES]).is_ok();
        if !made {
            let _ = std::fs::remove_file(&self.path);
        }
        *self.missing.lock() = (!made).then(Instant::now);
    }

    fn make_again(&self) {
        let due = self.missing.lock().is_some_and(|at| at.elapsed() >= RESERVE_PAUSE);
        if due {
            self.make();
        }
    }

    /// Removes the file. Returns whether that freed space.
    fn give_up(&self) -> bool {
        let given_up = std::fs::remove_file(&self.path).is_ok();
        if given_up {
            tracing::warn!(reserve = %self.path.display(), "the disk of the metadata store is full: its reserve is used");
            *self.missing.lock() = Some(Instant::now());
        }
        given_up
    }
}

/// How far a failed transaction came.
struct Failed {
    error: redb::Error,
    /// The store's revision after it, if the commit had begun.
    committing: Option<u64>,
}

impl From<redb::Error> for Failed {
    fn from(error: redb::Error) -> Self {
        Failed { error, committing: None }
    }
}

impl Reopened {
    /// Uses the database, and opens it first if necessary. Returns the number of the opening that it used.
    fn with<T, E: From<redb::Error>>(&self, ask: impl FnOnce(&Database) -> Result<T, E>) -> (u64, Result<T, E>) {
        let mut opened = self.database.read();
        if opened.1.is_none() {
            drop(opened);
            if let Err(error) = self.reopen() {
                return (0, Err(error.into()));
            }
            opened = self.database.read();
        }
        match &*opened {
            (opening, Some(database)) => (*opening, ask(database)),
            (opening, None) => (*opening, Err(redb::Error::PreviousIo.into())),
        }
    }

    /// Opens the file, unless another access has opened it.
    fn reopen(&self) -> Result<(), redb::Error> {
        let mut opened = self.database.write();
        if opened.1.is_none() {
            *opened = (opened.0 + 1, Some((self.open)()?));
            tracing::info!("the metadata store was opened again after an error of its disk");
        }
        Ok(())
    }

    /// Closes the database after a disk error in this opening. Another access may have closed it already.
    fn close(&self, opening: u64) {
        let mut opened = self.database.write();
        if opened.0 == opening {
            opened.1 = None;
        }
    }

    fn read<T>(&self, ask: impl Fn(&Database) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        match self.with(&ask) {
            (opening, Err(error)) if is_of_disk(&error) => {
                self.close(opening);
                self.with(&ask).1
            }
            (_, outcome) => outcome,
        }
    }
}

/// Whether redb requires the file to be opened again after this error.
fn is_of_disk(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo)
}

impl EmbeddedStore {
    /// Opens the file. Creates it and its folder if necessary.
    pub fn open(path: &Path) -> Result<Self, MetaError> {
        let name = path.display().to_string();
        if let Some(folder) = path.parent() {
            let error =
                |e: std::io::Error| MetaError::Store { store: name.clone(), action: "opened", reason: e.to_string() };
            std::fs::create_dir_all(folder).map_err(error)?;
        }
        let (path, file) = (path.to_path_buf(), path.to_path_buf());
        Self::opened_by(name, path, Box::new(move || Database::create(&file)))
    }

    fn opened_by(name: String, path: PathBuf, open: Opener) -> Result<Self, MetaError> {
        let database = open().map_err(|e| {
            let reason = match e {
                DatabaseError::DatabaseAlreadyOpen => {
                    "another primary is using it; stop that one, or name another folder".to_string()
                }
                e => e.to_string(),
            };
            MetaError::Store { store: name.clone(), action: "opened", reason }
        })?;
        let file = Reopened { open, database: RwLock::new((1, Some(database))), writing: Mutex::default() };
        let store = Self { file: Arc::new(file), reserve: Arc::default(), path, name, leader: Arc::default() };
        store.file.with(create_tables).1.map_err(|e| store.error("opened", e))?;
        Ok(store)
    }

    fn error(&self, action: &'static str, error: redb::Error) -> MetaError {
        MetaError::Store { store: self.name.clone(), action, reason: error.to_string() }
    }

    fn read(&self, from: &str, matches: impl Fn(&str) -> bool) -> Result<Vec<(String, Entry)>, redb::Error> {
        self.file.read(|database| {
            let read = database.begin_read()?;
            let entries = read.open_table(ENTRIES)?;
            let mut found = Vec::new();
            for entry in entries.range(from..)? {
                let (key, value) = entry?;
                if !matches(key.value()) {
                    break;
                }
                found.push((key.value().to_string(), decode(value.value())));
            }
            Ok(found)
        })
    }

    /// Writes a transaction. It is durable when this returns.
    ///
    /// # Errors
    /// `Store`: nothing was written. `Unknown`: the disk failed during the commit, and the file cannot be opened again yet.
    fn write(&self, transaction: &Transaction) -> Result<(), MetaError> {
        let _alone = self.file.writing.lock();
        let mut before = None;
        loop {
            let (opening, written) = self.file.with(|database| write(database, transaction));
            let Failed { error, committing } = match written {
                Ok(None) => {
                    self.reserve.get().into_iter().for_each(Reserve::make_again);
                    return Ok(());
                }
                Ok(Some(conflict)) => return Err(conflict),
                Err(failed) => failed,
            };
            if !is_of_disk(&error) {
                return Err(self.error("written", error));
            }
            self.file.close(opening);
            let is_full = matches!(&error, redb::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull);
            let has_room = || is_full && self.reserve.get().is_some_and(Reserve::give_up);
            match (committing, before) {
                // The database failed before, in another access. Nothing of this transaction was done.
                (None, None) => before = Some(()),
                (None, Some(())) if has_room() => {}
                (None, Some(())) => return Err(self.error("written", error)),
                (Some(revision), _) => match self.file.read(revision_of) {
                    Ok(now) if now == revision => return Ok(()),
                    Ok(_) if has_room() => {}
                    Ok(_) => return Err(self.error("written", error)),
                    Err(unread) => {
                        let reason = format!("{error}; and then: {unread}");
                        return Err(MetaError::Unknown { store: self.name.clone(), reason });
                    }
                },
            }
        }
    }
}

fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(ENTRIES)?;
    write.open_table(REVISION)?;
    write.commit()?;
    Ok(())
}

/// Returns the revision of the last commit.
fn revision_of(database: &Database) -> Result<u64, redb::Error> {
    let read = database.begin_read()?;
    let revisions = read.open_table(REVISION)?;
    let revision = revisions.get(0)?;
    Ok(revision.map_or(0, |value| value.value()))
}

fn write(database: &Database, transaction: &Transaction) -> Result<Option<MetaError>, Failed> {
    let write = database.begin_write().map_err(redb::Error::from)?;
    match fill(&write, transaction)? {
        Ok(revision) => {
            write.commit().map_err(|error| Failed { error: error.into(), committing: Some(revision) })?;
            Ok(None)
        }
        Err(conflict) => Ok(Some(conflict)),
    }
}

/// Writes the transaction's entries and returns the store's next revision.
fn fill(write: &WriteTransaction, transaction: &Transaction) -> Result<Result<u64, MetaError>, redb::Error> {
    let mut entries = write.open_table(ENTRIES)?;
    for (key, expectation) in &transaction.expectations {
        let revision = entries.get(key.as_str())?.map(|value| decode(value.value()).revision);
        if !expectation.holds(revision) {
            return Ok(Err(MetaError::Conflict { key: key.clone() }));
        }
    }
    let mut revisions = write.open_table(REVISION)?;
    let revision = revisions.get(0)?.map_or(0, |value| value.value()) + 1;
    revisions.insert(0, revision)?;
    for (key, value) in &transaction.writes {
        match value {
            Some(value) => entries.insert(key.as_str(), encode(revision, value).as_slice())?,
            None => entries.remove(key.as_str())?,
        };
    }
    Ok(Ok(revision))
}

fn encode(revision: u64, value: &[u8]) -> Vec<u8> {
    [revision.to_be_bytes().as_slice(), value].concat()
}

fn decode(stored: &[u8]) -> Entry {
    let (revision, value) = stored.split_at(8.min(stored.len()));
    let revision = revision.try_into().map(u64::from_be_bytes).unwrap_or_default();
    Entry { revision, value: Bytes::copy_from_slice(value) }
}

#[async_trait]
impl MetaStore for EmbeddedStore {
    /// The process that holds the file leads.
    async fn lead(&self, leader: &Leader) -> Result<Term, MetaError> {
        let epoch = next_epoch(self).await?;
        *self.leader.lock() = Some(leader.clone());
        self.reserve
            .get_or_init(|| Reserve { path: self.path.with_extension("reserve"), missing: Mutex::default() })
            .make();
        Ok(Term { epoch, lost: CancellationToken::new() })
    }

    async fn leader(&self) -> Result<Option<Leader>, MetaError> {
        Ok(self.leader.lock().clone())
    }

    async fn resign(&self) {
        *self.leader.lock() = None;
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, MetaError> {
        let found = self.read(key, |k| k == key).map_err(|e| self.error("read", e))?;
        Ok(found.into_iter().next().map(|(_, entry)| entry))
    }

    async fn range(&self, prefix: &str) -> Result<Vec<(String, Entry)>, MetaError> {
        self.read(prefix, |key| key.starts_with(prefix)).map_err(|e| self.error("read", e))
    }

    async fn commit(&self, transaction: Transaction) -> Result<(), MetaError> {
        let store = self.clone();
        match tokio::task::spawn_blocking(move || store.write(&transaction)).await {
            Ok(outcome) => outcome,
            Err(error) => Err(MetaError::Store {
                store: self.name.clone(),
                action: "written",
                reason: format!("its thread ended: {error}"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Expectation;
    use super::*;
    use redb::StorageBackend;
    use redb::backends::FileBackend;
    use std::fs::OpenOptions;
    use std::io;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// A disk that accepts a number of further writes.
    #[derive(Clone, Debug)]
    struct Disk {
        left: Arc<AtomicUsize>,
        /// Whether the disk cannot be opened.
        shut: Arc<AtomicBool>,
    }

    #[derive(Debug)]
    struct Full(FileBackend, Disk);

    impl Full {
        fn take(&self) -> io::Result<()> {
            let taken = self.1.left.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            taken.map(drop).map_err(|_| io::Error::from(io::ErrorKind::StorageFull))
        }
    }

    impl StorageBackend for Full {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.take()?;
            self.0.set_len(len)
        }
        fn sync_data(&self) -> io::Result<()> {
            self.take()?;
            self.0.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.take()?;
            self.0.write(offset, data)
        }
        fn close(&self) -> io::Result<()> {
            self.0.close()
        }
    }

    /// Wherever a commit fails, its answer is true of the store, and the next commit succeeds when there is space again.
    #[tokio::test]
    async fn a_disk_that_was_full_is_used_again_and_no_change_is_lost_or_done_twice() {
        let (mut failed, mut unknown) = (0, 0);
        for room in 0..40 {
            for shut in [false, true] {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("meta.redb");
                let disk = Disk { left: Arc::new(AtomicUsize::new(usize::MAX)), shut: Arc::default() };
                let of_opener = disk.clone();
                let open = move || {
                    if of_opener.shut.load(Ordering::SeqCst) {
                        return Err(DatabaseError::Storage(redb::StorageError::Io(io::ErrorKind::StorageFull.into())));
                    }
                    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
                    let file = FileBackend::new(file.unwrap())?;
                    // The writes of opening find space.
                    let left = of_opener.left.swap(usize::MAX, Ordering::SeqCst);
                    let database = Database::builder().create_with_backend(Full(file, of_opener.clone()));
                    of_opener.left.store(left, Ordering::SeqCst);
                    database
                };
                let store = EmbeddedStore::opened_by("of the test".into(), PathBuf::new(), Box::new(open)).unwrap();
                store.commit(Transaction::default().put("a", vec![1; 5_000])).await.unwrap();
                disk.left.store(room, Ordering::SeqCst);
                disk.shut.store(shut, Ordering::SeqCst);
                let change = Transaction::default().expect("b", Expectation::Absent).put("b", vec![2; 50_000]);
                let said = store.commit(change.clone()).await;
                if room == 0 {
                    assert!(said.is_err(), "nothing could be written");
                }
                disk.shut.store(false, Ordering::SeqCst);
                let is_there = store.get("b").await.unwrap().is_some();
                match &said {
                    Ok(()) => assert!(is_there, "{room}: it was acknowledged"),
                    Err(MetaError::Store { reason, .. }) => {
                        failed += 1;
                        assert!(!is_there, "{room}: it was said to have failed: {reason}");
                    }
                    Err(MetaError::Unknown { .. }) => unknown += 1,
                    Err(error) => panic!("{room}: {error}"),
                }
                disk.left.store(usize::MAX, Ordering::SeqCst);
                let again = store.commit(change).await;
                assert_eq!(again.is_ok(), !is_there, "{room}: {again:?}");
                assert_eq!(store.get("a").await.unwrap().unwrap().value, vec![1; 5_000]);
                assert_eq!(store.get("b").await.unwrap().unwrap().value, vec![2; 50_000]);
                store.commit(Transaction::default().delete("a")).await.unwrap();
                assert!(store.get("a").await.unwrap().is_none());
            }
        }
        assert!(failed > 0 && unknown > 0, "{failed} commits failed, of {unknown} it was not known");
    }
}
