//! Durable control state: an ordered map of small values with transactions, as etcd and redb both offer it.

mod embedded;
mod memory;
#[cfg(test)]
mod tests;

pub use embedded::EmbeddedStore;
pub use memory::MemoryStore;

use async_trait::async_trait;
use bytes::Bytes;
use std::fmt::Debug;
use std::sync::Arc;
use thiserror::Error;

/// Keys are paths (`catalog/table/…`), values are small. Every change goes through [`MetaStore::commit`].
#[async_trait]
pub trait MetaStore: Send + Sync + Debug {
    async fn get(&self, key: &str) -> Result<Option<Entry>, MetaError>;

    /// All entries whose key begins with `prefix`, in key order.
    async fn range(&self, prefix: &str) -> Result<Vec<(String, Entry)>, MetaError>;

    /// All writes, or, when an expectation does not hold, none and [`MetaError::Conflict`]. Durable when it returns.
    async fn commit(&self, transaction: Transaction) -> Result<(), MetaError>;
}

/// A value, and which commit wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Grows with every commit to the store.
    pub revision: u64,
    pub value: Bytes,
}

/// What must hold, and what to write if it does.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    pub expectations: Vec<(String, Expectation)>,
    /// `None` deletes.
    pub writes: Vec<(String, Option<Bytes>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    Absent,
    /// Last written by the commit of this revision.
    Revision(u64),
}

#[derive(Clone, Debug, Error)]
pub enum MetaError {
    #[error("\"{key}\" was changed by someone else meanwhile; try again")]
    Conflict { key: String },
    #[error("the metadata store {store} cannot be {action}: {reason}")]
    Store { store: String, action: &'static str, reason: String },
    #[error("the metadata under \"{key}\" cannot be read: {reason}")]
    Corrupt { key: String, reason: String },
}

impl Transaction {
    pub fn expect(mut self, key: impl Into<String>, expectation: Expectation) -> Self {
        self.expectations.push((key.into(), expectation));
        self
    }

    pub fn put(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.writes.push((key.into(), Some(value.into())));
        self
    }

    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.writes.push((key.into(), None));
        self
    }
}

impl Expectation {
    fn holds(self, entry: Option<u64>) -> bool {
        match self {
            Expectation::Absent => entry.is_none(),
            Expectation::Revision(revision) => entry == Some(revision),
        }
    }
}

/// Numbers that are never given out twice, also not after a restart. Numbers are reserved in blocks, so that most calls write
/// nothing; what is left of a block when the primary stops is skipped.
#[derive(Debug)]
pub struct Counter {
    store: Arc<dyn MetaStore>,
    key: String,
    reserved: tokio::sync::Mutex<std::ops::Range<u64>>,
}

impl Counter {
    const BLOCK: u64 = 256;

    pub fn new(store: Arc<dyn MetaStore>, name: &str) -> Self {
        Self { store, key: format!("counter/{name}"), reserved: tokio::sync::Mutex::new(0..0) }
    }

    /// Counts from 1.
    pub async fn next(&self) -> Result<u64, MetaError> {
        let mut reserved = self.reserved.lock().await;
        if reserved.is_empty() {
            *reserved = self.reserve().await?;
        }
        let number = reserved.start;
        reserved.start += 1;
        Ok(number)
    }

    async fn reserve(&self) -> Result<std::ops::Range<u64>, MetaError> {
        loop {
            let entry = self.store.get(&self.key).await?;
            let (start, expectation) = match &entry {
                None => (1, Expectation::Absent),
                Some(entry) => (decode_u64(&self.key, &entry.value)?, Expectation::Revision(entry.revision)),
            };
            let end = start + Self::BLOCK;
            let transaction =
                Transaction::default().expect(&self.key, expectation).put(&self.key, end.to_string().into_bytes());
            match self.store.commit(transaction).await {
                Ok(()) => return Ok(start..end),
                Err(MetaError::Conflict { .. }) => continue,
                Err(error) => return Err(error),
            }
        }
    }
}

fn decode_u64(key: &str, value: &[u8]) -> Result<u64, MetaError> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| MetaError::Corrupt { key: key.to_string(), reason: "not a number".to_string() })
}

/// Escapes a name so that it can be one segment of a key.
pub fn segment(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}

/// Undoes [`segment`].
pub fn unsegment(segment: &str) -> String {
    segment.replace("%2F", "/").replace("%25", "%")
}
