//! `submission/{id}`: what was submitted and has not ended. `submission/{id}/next`: how far it is, which is all that a statement of it writes.

use super::{decode, encode};
use crate::meta::{MetaError, MetaStore, Transaction};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const PREFIX: &str = "submission/";
const NEXT: &str = "/next";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Submission {
    pub texts: Vec<String>,
    pub name: String,
    pub options: BTreeMap<String, String>,
    /// Name of the user who submitted it; empty when none was given.
    #[serde(default)]
    pub user: String,
    /// The first statement that has not ended.
    pub next: usize,
    /// What the submitter calls it.
    pub job: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    pub submitted_ms: u64,
}

/// Adds a submission.
pub(crate) fn put(transaction: Transaction, id: &str, submission: &Submission) -> Transaction {
    transaction.put(format!("{PREFIX}{id}"), encode(submission))
}

/// Notes which statement is the first that has not ended.
pub(crate) fn put_next(transaction: Transaction, id: &str, next: usize) -> Transaction {
    transaction.put(format!("{PREFIX}{id}{NEXT}"), encode(&next))
}

pub(crate) fn delete(transaction: Transaction, id: &str) -> Transaction {
    transaction.delete(format!("{PREFIX}{id}{NEXT}")).delete(format!("{PREFIX}{id}"))
}

/// Returns all submissions that have not ended, by id.
pub(crate) async fn all(store: &dyn MetaStore) -> Result<BTreeMap<String, Submission>, MetaError> {
    let (mut all, mut next) = (BTreeMap::new(), Vec::new());
    for (key, entry) in store.range(PREFIX).await? {
        match key[PREFIX.len()..].strip_suffix(NEXT) {
            Some(id) => next.push((id.to_string(), decode::<usize>(&key, &entry.value)?)),
            None => _ = all.insert(key[PREFIX.len()..].to_string(), decode::<Submission>(&key, &entry.value)?),
        }
    }
    for (id, next) in next {
        if let Some(submission) = all.get_mut(&id) {
            submission.next = next;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryStore;

    #[tokio::test]
    async fn a_submission_is_found_where_it_stands() {
        let store = MemoryStore::default();
        let texts = vec!["select 1".to_string(), "select 2".to_string()];
        let submission = Submission {
            texts,
            name: String::new(),
            options: BTreeMap::new(),
            user: "ann".into(),
            next: 0,
            job: 7,
            submitted_ms: 5,
        };
        store.commit(put(Transaction::default(), "a", &submission)).await.unwrap();
        store.commit(put(Transaction::default(), "b", &submission)).await.unwrap();
        store.commit(put_next(Transaction::default(), "a", 1)).await.unwrap();
        let found = all(&store).await.unwrap();
        assert_eq!(found["a"], Submission { next: 1, ..submission.clone() });
        assert_eq!(found["b"], submission);
        store.commit(delete(Transaction::default(), "a")).await.unwrap();
        assert_eq!(all(&store).await.unwrap().len(), 1);
    }

    /// Records of an earlier release name no user, and keep the position in themselves.
    #[tokio::test]
    async fn a_record_of_an_earlier_release_is_read() {
        let store = MemoryStore::default();
        let record = r#"{"texts":["a","b"],"name":"n","options":{},"next":1,"job":3}"#;
        store.commit(Transaction::default().put("submission/x", record)).await.unwrap();
        let found = all(&store).await.unwrap();
        assert_eq!((found["x"].next, found["x"].user.as_str()), (1, ""));
    }
}
