//! `garbage/{due}-{id}`: the URL of a folder that is to go once it is due, in milliseconds since 1970. Keys are in the order in which their
//! folders fall due.

use crate::meta::{Expectation, MetaError, MetaStore, Transaction, Update};

const PREFIX: &str = "garbage/";

/// A folder that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Going {
    key: String,
    revision: u64,
    /// In milliseconds since 1970-01-01T00:00:00Z.
    pub due_ms: u64,
    pub url: String,
}

/// `id` is like no other.
pub(crate) fn put(due_ms: u64, id: &str, url: String) -> Update {
    Update::put(format!("{PREFIX}{due_ms:016}-{id}"), url)
}

/// The first that fall due come first.
pub(crate) async fn all(store: &dyn MetaStore) -> Result<Vec<Going>, MetaError> {
    let entries = store.range(PREFIX).await?.into_iter().map(|(key, entry)| {
        let due_ms = key[PREFIX.len()..].split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or(0);
        let url = String::from_utf8_lossy(&entry.value).into_owned();
        Going { key, revision: entry.revision, due_ms, url }
    });
    Ok(entries.collect())
}

/// Forgets a folder, if nobody else has.
pub(crate) fn delete(transaction: Transaction, going: &Going) -> Transaction {
    transaction.expect(&going.key, Expectation::Revision(going.revision)).delete(&going.key)
}
