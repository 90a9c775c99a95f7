//! `sink/{write}`: a write in progress into a table of a connector.

use crate::meta::{MetaError, MetaStore, Update};
use prost::Message;

const PREFIX: &str = "sink/";

/// The record of a write in the metadata store.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Entry {
    /// See [`windlass_engine::connector::PlannedSink::encode`].
    #[prost(bytes = "vec", tag = "1")]
    pub sink: Vec<u8>,
    /// Id of the table's record.
    #[prost(string, tag = "2")]
    pub table: String,
    /// The tokens of all tasks. Present if all tasks have ended.
    #[prost(message, optional, tag = "3")]
    pub tokens: Option<Tokens>,
    /// Credentials of the table, sealed for the write, in base64. Empty: there are none.
    #[prost(string, tag = "4")]
    pub sealed: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Tokens {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub tokens: Vec<Vec<u8>>,
}

pub(crate) fn put(write: &str, entry: &Entry) -> Update {
    Update::put(key_of(write), entry.encode_to_vec())
}

pub(crate) fn delete(write: &str) -> Update {
    Update::delete(key_of(write))
}

/// Returns the names of all writes.
pub(crate) async fn all(store: &dyn MetaStore) -> Result<Vec<String>, MetaError> {
    let entries = store.range(PREFIX).await?;
    Ok(entries.into_iter().map(|(key, _)| key[PREFIX.len()..].to_string()).collect())
}

pub(crate) async fn find(store: &dyn MetaStore, write: &str) -> Result<Option<Entry>, MetaError> {
    let key = key_of(write);
    let Some(entry) = store.get(&key).await? else { return Ok(None) };
    let corrupt = |error: prost::DecodeError| MetaError::Corrupt { key, reason: error.to_string() };
    Entry::decode(entry.value).map(Some).map_err(corrupt)
}

fn key_of(write: &str) -> String {
    format!("{PREFIX}{write}")
}
