//! `settings/{name}`: the settings of object stores that writes in progress reach, sealed.

use super::{decode, encode};
use crate::meta::{MetaError, MetaStore, Update};
use serde::{Deserialize, Serialize};

const PREFIX: &str = "settings/";

/// The settings of one store, under the name that its URL has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// URL of the store, with the name.
    pub url: String,
    /// The options, as JSON, sealed for the name, in base64.
    pub sealed: String,
}

pub(crate) fn put(name: &str, settings: &Settings) -> Update {
    Update::put(format!("{PREFIX}{name}"), encode(settings))
}

pub(crate) fn delete(name: &str) -> Update {
    Update::delete(format!("{PREFIX}{name}"))
}

/// Returns all settings, by name.
pub(crate) async fn all(store: &dyn MetaStore) -> Result<Vec<(String, Settings)>, MetaError> {
    let entries = store.range(PREFIX).await?.into_iter();
    entries.map(|(key, entry)| Ok((key[PREFIX.len()..].to_string(), decode(&key, &entry.value)?))).collect()
}
