//! `temporary/{table}`: the URL of the folder of a live session's temporary table, by the table's id.

use crate::meta::{MetaError, MetaStore, Update};

const PREFIX: &str = "temporary/";

pub(crate) fn put(table: &str, url: String) -> Update {
    Update::put(format!("{PREFIX}{table}"), url)
}

pub(crate) fn delete(table: &str) -> Update {
    Update::delete(format!("{PREFIX}{table}"))
}

/// Returns the id and the URL of each.
pub(crate) async fn all(store: &dyn MetaStore) -> Result<Vec<(String, String)>, MetaError> {
    let entries = store.range(PREFIX).await?.into_iter();
    let entries = entries
        .map(|(key, entry)| (key[PREFIX.len()..].to_string(), String::from_utf8_lossy(&entry.value).into_owned()));
    Ok(entries.collect())
}
