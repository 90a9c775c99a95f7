//! `garbage/{due}-{id}`: the URL of a folder to remove at `due`, in milliseconds since 1970. Keys are in the order of `due`.

use crate::meta::{Expectation, MetaError, MetaStore, Transaction, Update};

const PREFIX: &str = "garbage/";

/// A folder to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Going {
    key: String,
    revision: u64,
    /// In milliseconds since 1970-01-01T00:00:00Z.
    pub due_ms: u64,
    pub url: String,
}

/// Adds a folder. `id` is unique.
pub(crate) fn put(due_ms: u64, id: &str, url: String) -> Update {
    Update::put(format!("{PREFIX}{due_ms:016}-{id}"), url)
}

/// Returns all folders, in the order in which they are due.
pub(crate) async fn all(store: &dyn MetaStore) -> Result<Vec<Going>, MetaError> {
    let entries = store.range(PREFIX).await?.into_iter().map(|(key, entry)| {
        let due_ms = key[PREFIX.len()..].split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or(0);
        let url = String::from_utf8_lossy(&entry.value).into_owned();
        Going { key, revision: entry.revision, due_ms, url }
    });
    Ok(entries.collect())
}

/// Deletes a folder's entry, if it is still there.
pub(crate) fn delete(transaction: Transaction, going: &Going) -> Transaction {
    transaction.expect(&going.key, Expectation::Revision(going.revision)).delete(&going.key)
}
