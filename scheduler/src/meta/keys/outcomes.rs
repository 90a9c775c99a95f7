//! `outcome/{statement}`: the outcome of a statement that its client may send again. The transaction that makes its effect durable
//! records it.

use super::{KEPT_FOR_CLIENTS, decode, encode, forget};
use crate::meta::{MetaError, MetaStore, Update, segment};
use serde::{Deserialize, Serialize};

const PREFIX: &str = "outcome/";

/// The outcome of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Rows that it wrote.
    pub affected: Option<u64>,
    /// Whether the number of rows is its answer.
    pub counted: bool,
    pub at_ms: u64,
}

/// Records `outcome` of the statement that its client named `query`.
pub(crate) fn put(query: &str, outcome: &Outcome) -> Update {
    Update::put(key_of(query), encode(outcome))
}

fn key_of(query: &str) -> String {
    format!("{PREFIX}{}", segment(query))
}

pub(crate) async fn find(store: &dyn MetaStore, query: &str) -> Result<Option<Outcome>, MetaError> {
    let key = key_of(query);
    store.get(&key).await?.map(|entry| decode(&key, &entry.value)).transpose()
}

/// Deletes expired outcomes. Call it every minute or so.
pub(crate) async fn forget_old(store: &dyn MetaStore, now_ms: u64) -> Result<(), MetaError> {
    let before = now_ms.saturating_sub(KEPT_FOR_CLIENTS.as_millis() as u64);
    forget(store, PREFIX, |outcome: &Outcome| outcome.at_ms < before).await
}
