//! `tries/{statement}`: how often a statement was begun that is sent again, or gone on with.

use super::{decode, encode, forget};
use crate::meta::{MetaError, MetaStore, Transaction, segment, unsegment};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use windlass_core::submissions::Tries;

const PREFIX: &str = "tries/";
/// Longer than clients look for a leader, and submissions wait for one.
const KEPT: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Noted {
    #[serde(flatten)]
    pub tries: Tries,
    /// When, in milliseconds since 1970-01-01T00:00:00Z.
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

/// Returns those of all statements, by their names.
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

/// Forgets those that nobody has begun for long.
pub(crate) async fn forget_old(store: &dyn MetaStore, now_ms: u64) -> Result<(), MetaError> {
    let before = now_ms.saturating_sub(KEPT.as_millis() as u64);
    forget(store, PREFIX, |noted: &Noted| noted.at_ms < before).await
}
