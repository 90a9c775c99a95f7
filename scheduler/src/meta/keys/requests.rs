//! `request/{name}`: the submission that a request became. Its client sends the request again when it has heard no answer.

use super::{KEPT_FOR_CLIENTS, decode, encode, forget};
use crate::meta::{Expectation, MetaError, MetaStore, Transaction, segment};
use serde::{Deserialize, Serialize};

const PREFIX: &str = "request/";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The id that the submitter received.
    pub job: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub at_ms: u64,
}

fn key_of(name: &str) -> String {
    format!("{PREFIX}{}", segment(name))
}

/// Records the submission of a request, which must be the first one.
pub(crate) fn put(transaction: Transaction, name: &str, request: &Request) -> Transaction {
    let key = key_of(name);
    transaction.expect(key.clone(), Expectation::Absent).put(key, encode(request))
}

pub(crate) async fn find(store: &dyn MetaStore, name: &str) -> Result<Option<Request>, MetaError> {
    let key = key_of(name);
    store.get(&key).await?.map(|entry| decode(&key, &entry.value)).transpose()
}

/// Deletes expired requests. Call it every minute or so.
pub(crate) async fn forget_old(store: &dyn MetaStore, now_ms: u64) -> Result<(), MetaError> {
    let before = now_ms.saturating_sub(KEPT_FOR_CLIENTS.as_millis() as u64);
    forget(store, PREFIX, |request: &Request| request.at_ms < before).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryStore;

    #[tokio::test]
    async fn a_request_becomes_one_submission() {
        let store = MemoryStore::default();
        let request = |job| Request { job, at_ms: 5 };
        store.commit(put(Transaction::default(), "a/b", &request(7))).await.unwrap();
        assert!(store.commit(put(Transaction::default(), "a/b", &request(8))).await.is_err());
        assert_eq!(find(&store, "a/b").await.unwrap(), Some(request(7)));
        forget_old(&store, 5 + KEPT_FOR_CLIENTS.as_millis() as u64).await.unwrap();
        assert!(find(&store, "a/b").await.unwrap().is_some());
        forget_old(&store, 6 + KEPT_FOR_CLIENTS.as_millis() as u64).await.unwrap();
        assert_eq!(find(&store, "a/b").await.unwrap(), None);
    }
}
