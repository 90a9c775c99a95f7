//! The default store: one redb file in the primary's folder, held by one process at a time.

use super::{Entry, Leader, MetaError, MetaStore, Term, Transaction, next_epoch};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Value: the revision of the commit that wrote it (8 bytes, big-endian), then the value itself.
const ENTRIES: TableDefinition<&str, &[u8]> = TableDefinition::new("entries");
/// One entry: the revision of the last commit.
const REVISION: TableDefinition<u8, u64> = TableDefinition::new("revision");

/// A redb file. Commits run on the blocking pool, because they wait for the disk.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    database: Arc<Database>,
    name: String,
    leader: Arc<Mutex<Option<Leader>>>,
}

impl EmbeddedStore {
    /// Opens the file, or makes it and its folder.
    pub fn open(path: &Path) -> Result<Self, MetaError> {
        let name = path.display().to_string();
        let error = |reason: String| MetaError::Store { store: name.clone(), action: "opened", reason };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| error(e.to_string()))?;
        }
        let database = Database::create(path).map_err(|e| match e {
            DatabaseError::DatabaseAlreadyOpen => {
                error("another primary is using it; stop that one, or name another folder".to_string())
            }
            e => error(e.to_string()),
        })?;
        let store = Self { database: Arc::new(database), name, leader: Arc::default() };
        store.create_tables().map_err(|e| store.error("opened", e))?;
        Ok(store)
    }

    fn create_tables(&self) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        write.open_table(ENTRIES)?;
        write.open_table(REVISION)?;
        write.commit()?;
        Ok(())
    }

    fn error(&self, action: &'static str, error: redb::Error) -> MetaError {
        MetaError::Store { store: self.name.clone(), action, reason: error.to_string() }
    }

    fn read(&self, from: &str, matches: impl Fn(&str) -> bool) -> Result<Vec<(String, Entry)>, redb::Error> {
        let read = self.database.begin_read()?;
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
    }

    fn write(&self, transaction: Transaction) -> Result<Option<MetaError>, redb::Error> {
        let write = self.database.begin_write()?;
        {
            let mut entries = write.open_table(ENTRIES)?;
            for (key, expectation) in &transaction.expectations {
                let revision = entries.get(key.as_str())?.map(|value| decode(value.value()).revision);
                if !expectation.holds(revision) {
                    return Ok(Some(MetaError::Conflict { key: key.clone() }));
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
        }
        write.commit()?;
        Ok(None)
    }
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
    /// Whoever holds the file leads.
    async fn lead(&self, leader: &Leader) -> Result<Term, MetaError> {
        let epoch = next_epoch(self).await?;
        *self.leader.lock() = Some(leader.clone());
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
        let written =
            tokio::task::spawn_blocking(move || store.write(transaction).map_err(|e| store.error("written", e)));
        match written.await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(conflict))) => Err(conflict),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(MetaError::Store {
                store: self.name.clone(),
                action: "written",
                reason: format!("its thread ended: {error}"),
            }),
        }
    }
}
