//! `batch/{id}`: a batch, which is a submission under a number of its own. `batch-next`: the number of the next one.

use super::{decode, encode};
use crate::meta::{MetaError, MetaStore, Transaction};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const PREFIX: &str = "batch/";
const NEXT: &str = "batch-next";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch {
    /// The id of its submission in the store.
    pub uid: String,
    /// The id of its submission in lists of jobs.
    pub job: u64,
    pub name: Option<String>,
    /// Name of the user who asked for it. Empty if none was given.
    pub owner: String,
    pub proxy_user: Option<String>,
    pub file: String,
    /// The script, until it is submitted.
    pub sql: String,
    pub args: Vec<String>,
    pub options: BTreeMap<String, String>,
    /// Whether it was submitted. If not, it may have been.
    pub submitted: bool,
    pub end: Option<End>,
    pub log: Vec<String>,
}

/// How a batch ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub how: How,
    pub error: Option<String>,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub at_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    Finished,
    Failed,
    Cancelled,
}

fn key_of(id: u32) -> String {
    format!("{PREFIX}{id:010}")
}

pub(crate) fn put_next(transaction: Transaction, next: u32) -> Transaction {
    transaction.put(NEXT, encode(&next))
}

pub(crate) fn put(transaction: Transaction, id: u32, batch: &Batch) -> Transaction {
    transaction.put(key_of(id), encode(batch))
}

pub(crate) fn delete(transaction: Transaction, id: u32) -> Transaction {
    transaction.delete(key_of(id))
}

/// Returns the number of the next batch.
pub(crate) async fn next(store: &dyn MetaStore) -> Result<u32, MetaError> {
    store.get(NEXT).await?.map_or(Ok(0), |entry| decode(NEXT, &entry.value))
}

/// Returns all batches by number.
pub(crate) async fn all(store: &dyn MetaStore) -> Result<BTreeMap<u32, Batch>, MetaError> {
    let entries = store.range(PREFIX).await?.into_iter();
    let numbered = entries.map(|(key, entry)| {
        let corrupt = || MetaError::Corrupt { key: key.clone(), reason: "it has no number".to_string() };
        let id = key[PREFIX.len()..].parse().map_err(|_| corrupt())?;
        Ok((id, decode(&key, &entry.value)?))
    });
    numbered.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryStore;

    #[tokio::test]
    async fn batches_are_found_as_they_were_put() {
        let store = MemoryStore::default();
        let end = End { how: How::Failed, error: Some("no".into()), at_ms: 5 };
        let batch = Batch {
            uid: "u".into(),
            job: 7,
            name: Some("nightly".into()),
            owner: "ann".into(),
            proxy_user: None,
            file: "wfs:///a.sql".into(),
            sql: "select $1".into(),
            args: vec!["1".into()],
            options: BTreeMap::new(),
            submitted: true,
            end: Some(end),
            log: Vec::new(),
        };
        assert_eq!(next(&store).await.unwrap(), 0);
        store.commit(put_next(put(Transaction::default(), 3, &batch), 4)).await.unwrap();
        assert_eq!(all(&store).await.unwrap(), BTreeMap::from([(3, batch)]));
        assert_eq!(next(&store).await.unwrap(), 4);
        // Keys stay what they are.
        assert!(store.get("batch/0000000003").await.unwrap().is_some());
        store.commit(delete(Transaction::default(), 3)).await.unwrap();
        assert!(all(&store).await.unwrap().is_empty());
    }
}
