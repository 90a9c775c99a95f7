//! Durable control state: an ordered map of small values with transactions, and one leader at a time. Both etcd and redb offer it.

mod embedded;
mod etcd;
mod ids;
pub(crate) mod keys;
mod memory;
mod seal;
#[cfg(test)]
mod tests;

pub use embedded::EmbeddedStore;
pub use etcd::{EtcdConfig, EtcdStore};
pub use ids::{DurableIds, IdSource, MemoryIds};
pub use keys::counters::Reservation;
pub use keys::under_way;
pub use memory::MemoryStore;
pub use seal::{SealError, Sealer};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// A durable ordered map. Keys are paths (`catalog/table/…`), values are small. Every change goes through [`MetaStore::commit`].
///
/// ```text
///   standing by ──lead()──> leading ──resign(), or the term is lost──> standing by
/// ```
///
/// A store that several primaries share accepts commits from the leader of the present epoch alone.
#[async_trait]
pub trait MetaStore: Send + Sync + Debug {
    /// Waits until no primary leads, then leads under `leader`'s addresses. Cancel safe.
    async fn lead(&self, leader: &Leader) -> Result<Term, MetaError>;

    /// Returns the present leader, as far as the store knows.
    async fn leader(&self) -> Result<Option<Leader>, MetaError>;

    /// Ends a term early, so that others need not wait for its lease to expire. Does nothing if this primary does not lead.
    async fn resign(&self);

    async fn get(&self, key: &str) -> Result<Option<Entry>, MetaError>;

    /// Returns all entries whose key begins with `prefix`, in key order.
    async fn range(&self, prefix: &str) -> Result<Vec<(String, Entry)>, MetaError>;

    /// Applies all writes. If an expectation does not hold, applies none and returns [`MetaError::Conflict`]. Durable when it returns.
    async fn commit(&self, transaction: Transaction) -> Result<(), MetaError>;
}

/// The addresses of the leading primary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// `grpc://host:port`.
    pub url: String,
    /// `http://host:port`. Empty if REST is not served.
    pub rest: String,
}

/// The time for which one primary leads.
#[derive(Clone, Debug)]
pub struct Term {
    /// Grows from one term to the next. Commits of earlier terms are refused.
    pub epoch: u64,
    /// Cancelled when this primary can no longer be sure that it leads. Never cancelled for a store that only one primary uses.
    pub lost: CancellationToken,
}

/// A value, and the revision of the commit that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Grows with every commit to the store.
    pub revision: u64,
    pub value: Bytes,
}

/// Expectations, and writes that are applied if all of them hold.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    pub expectations: Vec<(String, Expectation)>,
    /// `None` deletes.
    pub writes: Vec<(String, Option<Bytes>)>,
}

/// The key of an entry. Only the file of its prefix under `keys/` creates it and interprets it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(String);

/// A change of one entry, created by the file of its prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    key: Key,
    /// `None` deletes.
    value: Option<Bytes>,
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
    #[error("this primary does not lead the cluster any more, so nothing was changed; {successor}")]
    NotLeading { successor: String },
    /// A commit was sent and not answered.
    #[error(
        "the metadata store {store} did not answer, and whether it did what it was asked to is not known: {reason}"
    )]
    Unknown { store: String, reason: String },
    #[error("the metadata store {store} cannot be {action}: {reason}")]
    Store { store: String, action: &'static str, reason: String },
    #[error("the metadata under \"{key}\" cannot be read: {reason}")]
    Corrupt { key: String, reason: String },
}

impl Update {
    fn put(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Update { key: Key(key.into()), value: Some(value.into()) }
    }

    fn delete(key: impl Into<String>) -> Self {
        Update { key: Key(key.into()), value: None }
    }

    pub(crate) fn delete_key(key: Key) -> Self {
        Update { key, value: None }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Returns the bytes of the value.
    pub(crate) fn bytes(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len)
    }
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

    /// Adds a change.
    pub fn with(mut self, update: Update) -> Self {
        self.writes.push((update.key.0, update.value));
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

/// Escapes a name for use as one segment of a key.
pub fn segment(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}

/// Undoes [`segment`].
pub fn unsegment(segment: &str) -> String {
    segment.replace("%2F", "/").replace("%25", "%")
}
