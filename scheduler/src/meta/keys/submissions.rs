//! `submission/{id}`: a submission that has not ended. `submission/{id}/next`: its progress, which is all that each of its steps
//! writes.

use super::{decode, encode};
use crate::meta::{MetaError, MetaStore, Transaction};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use windlass_core::submissions::Position;

const PREFIX: &str = "submission/";
const NEXT: &str = "/next";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Submission {
    pub texts: Vec<String>,
    pub name: String,
    pub options: BTreeMap<String, String>,
    /// Values of `$1`, `$2`, … of its statements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<String>,
    /// Name of the user who submitted it. Empty if none was given.
    #[serde(default)]
    pub user: String,
    /// The id that the submitter received.
    pub job: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    pub submitted_ms: u64,
    /// The client's name for its request. Empty: it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request: String,
}

/// The progress of a submission, which earlier releases kept in the submission.
#[derive(Deserialize)]
struct Beginning {
    #[serde(default)]
    next: u32,
}

/// The progress. Earlier releases wrote only the number of the statement.
#[derive(Deserialize)]
#[serde(untagged)]
enum Next {
    Position(Position),
    Statement(u32),
}

impl From<Next> for Position {
    fn from(next: Next) -> Self {
        match next {
            Next::Position(position) => position,
            Next::Statement(next) => Position { next, cancelled: false },
        }
    }
}

pub(crate) fn put(transaction: Transaction, id: &str, submission: &Submission) -> Transaction {
    transaction.put(format!("{PREFIX}{id}"), encode(submission))
}

/// Records its progress.
pub(crate) fn put_position(transaction: Transaction, id: &str, position: Position) -> Transaction {
    transaction.put(format!("{PREFIX}{id}{NEXT}"), encode(&position))
}

pub(crate) fn delete(transaction: Transaction, id: &str) -> Transaction {
    transaction.delete(format!("{PREFIX}{id}{NEXT}")).delete(format!("{PREFIX}{id}"))
}

/// Returns all submissions that have not ended, by id.
pub(crate) async fn all(store: &dyn MetaStore) -> Result<BTreeMap<String, (Submission, Position)>, MetaError> {
    let (mut all, mut positions) = (BTreeMap::new(), Vec::new());
    for (key, entry) in store.range(PREFIX).await? {
        match key[PREFIX.len()..].strip_suffix(NEXT) {
            Some(id) => positions.push((id.to_string(), decode::<Next>(&key, &entry.value)?.into())),
            None => {
                let beginning: Beginning = decode(&key, &entry.value)?;
                let position = Position { next: beginning.next, cancelled: false };
                all.insert(key[PREFIX.len()..].to_string(), (decode::<Submission>(&key, &entry.value)?, position));
            }
        }
    }
    for (id, found) in positions {
        if let Some((_, position)) = all.get_mut(&id) {
            *position = found;
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
            parameters: vec!["1".into()],
            user: "ann".into(),
            job: 7,
            submitted_ms: 5,
            request: "r".into(),
        };
        store.commit(put(Transaction::default(), "a", &submission)).await.unwrap();
        store.commit(put(Transaction::default(), "b", &submission)).await.unwrap();
        let position = Position { next: 1, cancelled: true };
        store.commit(put_position(Transaction::default(), "a", position)).await.unwrap();
        let found = all(&store).await.unwrap();
        assert_eq!(found["a"], (submission.clone(), position));
        assert_eq!(found["b"], (submission, Position::default()));
        store.commit(delete(Transaction::default(), "a")).await.unwrap();
        assert_eq!(all(&store).await.unwrap().len(), 1);
    }

    /// Records of earlier releases name no user, and hold the position inside themselves or as a separate number.
    #[tokio::test]
    async fn a_record_of_an_earlier_release_is_read() {
        let store = MemoryStore::default();
        let record = r#"{"texts":["a","b"],"name":"n","options":{},"next":1,"job":3}"#;
        let later = r#"{"texts":["a","b","c"],"name":"n","options":{},"user":"ann","next":0,"job":4,"submitted_ms":5}"#;
        let written = Transaction::default().put("submission/x", record).put("submission/y", later);
        store.commit(written.put("submission/y/next", "2")).await.unwrap();
        let found = all(&store).await.unwrap();
        let (submission, position) = &found["x"];
        assert_eq!((submission.user.as_str(), *position), ("", Position { next: 1, cancelled: false }));
        let (submission, position) = &found["y"];
        assert_eq!((submission.user.as_str(), *position), ("ann", Position { next: 2, cancelled: false }));
    }
}
