//! `write/{id}`: a write into files, from before its first file until its end.

use super::{decode, encode};
use crate::meta::{MetaError, MetaStore, Update};
use serde::Serialize;
use windlass_core::writes::Record;

const PREFIX: &str = "write/";

pub(crate) fn put<F: Serialize>(id: &str, record: &Record<F>) -> Update {
    Update::put(format!("{PREFIX}{id}"), encode(record))
}

pub(crate) fn delete(id: &str) -> Update {
    Update::delete(format!("{PREFIX}{id}"))
}

/// Returns all writes with their ids. Folders are URLs.
pub(crate) async fn all(store: &dyn MetaStore) -> Result<Vec<(String, Record<String>)>, MetaError> {
    let entries = store.range(PREFIX).await?.into_iter();
    entries.map(|(key, entry)| Ok((key[PREFIX.len()..].to_string(), decode(&key, &entry.value)?))).collect()
}
