//! `secret/{name}`: credentials that tables name, sealed.

use super::{decode, encode};
use crate::meta::{MetaError, MetaStore, Update, segment, unsegment};
use serde::{Deserialize, Serialize};

const PREFIX: &str = "secret/";

/// The record of a secret in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Names of its options, sorted.
    pub options: Vec<String>,
    /// The options with their values, as JSON, sealed for the secret's name, in base64.
    pub sealed: String,
    /// When it was created, in milliseconds since 1970-01-01T00:00:00Z.
    pub made_ms: u64,
}

pub(crate) fn put(name: &str, secret: &Secret) -> Update {
    Update::put(key_of(name), encode(secret))
}

pub(crate) fn delete(name: &str) -> Update {
    Update::delete(key_of(name))
}

/// Returns all secrets, by name.
pub(crate) async fn all(store: &dyn MetaStore) -> Result<Vec<(String, Secret)>, MetaError> {
    let entries = store.range(PREFIX).await?;
    let read = |(key, entry): (String, crate::meta::Entry)| {
        let secret = decode(&key, &entry.value)?;
        Ok((unsegment(&key[PREFIX.len()..]), secret))
    };
    entries.into_iter().map(read).collect()
}

fn key_of(name: &str) -> String {
    format!("{PREFIX}{}", segment(name))
}
