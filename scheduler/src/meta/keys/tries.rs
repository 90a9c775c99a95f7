//! `tries/{statement}`: the number of times that a statement was begun, if it is sent again or continued.

use super::{decode, encode, forget};
use crate::meta::{MetaError, MetaStore, Transaction, segment, unsegment};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use windlass_core::submissions::Tries;

const PREFIX: &str = "tries/";
/// How long tries stay. It is longer than clients look for a leader, and than submissions wait for one.
const KEPT: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Noted {
    #[serde(flatten)]
    pub tries: Tries,
    /// Time of the last try, in milliseconds since 1970-01-01T00:00:00Z.
    pub at_ms: u64,
}

fn key_of(query: &str) -> String {
    format!("{PREFIX}{}", segment(query))
}

pub(crate) async fn find(store: &dyn MetaStore, query: &str) -> Result<Option<Tries>, MetaError> {
    let key = key_of(query);
    let noted: Option<Noted> = store.get(&key).await?.map(|entry| decode(&key, &entry.value)).transpose()?;
    Ok(noted.map(|noted| noted.tries))
}

/// Returns the tries of all statements, by name.
pub(crate) async fn all(store: &dyn MetaStore) -> Result<BTreeMap<String, Tries>, MetaError> {
    let entries = store.range(PREFIX).await?.into_iter();
    let named = entries.map(|(key, entry)| {
        let noted: Noted = decode(&key, &entry.value)?;
        Ok((unsegment(&key[PREFIX.len()..]), noted.tries))
    });
    named.collect()
}

pub(crate) fn put(transaction: Transaction, query: &str, noted: &Noted) -> Transaction {
    transaction.put(key_of(query), encode(noted))
}

pub(crate) fn delete(transaction: Transaction, query: &str) -> Transaction {
    transaction.delete(key_of(query))
}

/// Deletes tries of statements that have not begun for a long time.
pub(crate) async fn forget_old(store: &dyn MetaStore, now_ms: u64) -> Result<(), MetaError> {
    let before = now_ms.saturating_sub(KEPT.as_millis() as u64);
    forget(store, PREFIX, |noted: &Noted| noted.at_ms < before).await
}
