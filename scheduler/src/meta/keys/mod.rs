//! The metadata store by prefix. Each file has the records of one prefix, their reads, and the updates that change them.
//!
//! Only these files build or read keys: `tests/src/layers.rs` checks that.
//!
//! | prefix | contents |
//! |--------|-------|
//! | `batch/` | batches |
//! | `catalog/` | schemas, tables and views |
//! | `cluster/` | the secret that passes are signed with |
//! | `counter/` | numbers that only grow |
//! | `garbage/` | folders to remove |
//! | `interactive/` | interactive sessions, their statements and results |
//! | `job/` | ended jobs |
//! | `outcome/` | statements that have taken effect |
//! | `request/` | submissions that requests became |
//! | `secret/` | credentials that tables name |
//! | `settings/` | settings of object stores that writes in progress reach |
//! | `sink/` | writes in progress into tables of connectors |
//! | `stage/` | finished stages of running jobs |
//! | `submission/` | submissions that have not ended |
//! | `temporary/` | folders of temporary tables |
//! | `tries/` | how often statements were begun |
//! | `wfs/` | the namespace of `wfs://` ([`files`]), and executors in maintenance ([`maintenance`]) |
//! | `write/` | writes in progress into files |

pub(crate) mod batches;
pub(crate) mod catalog;
pub(crate) mod cluster;
pub(crate) mod counters;
pub(crate) mod files;
pub(crate) mod garbage;
pub(crate) mod interactive;
pub(crate) mod jobs;
pub(crate) mod maintenance;
pub(crate) mod outcomes;
pub(crate) mod requests;
pub(crate) mod secrets;
pub(crate) mod settings;
pub(crate) mod sinks;
pub(crate) mod stages;
pub(crate) mod submissions;
pub(crate) mod temporary;
#[cfg(test)]
mod tests;
pub(crate) mod tries;
pub(crate) mod writes;

use super::{MetaError, MetaStore, Transaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How long the answers stay to clients that ask again. It is longer than they look for a leader.
const KEPT_FOR_CLIENTS: Duration = Duration::from_secs(300);
/// Keys in one transaction.
const AT_A_TIME: usize = 100;

/// Counts, by kind, the entries that exist only while something is in progress, or that are due for removal by `until_ms`, in
/// milliseconds since 1970. Entries that remain when nothing is in progress have leaked.
pub async fn under_way(store: &dyn MetaStore, until_ms: u64) -> Result<Vec<(&'static str, usize)>, MetaError> {
    let going = garbage::all(store).await?;
    Ok(vec![
        ("writes into files", writes::all(store).await?.len()),
        ("writes into other systems", sinks::all(store).await?.len()),
        ("temporary tables", temporary::all(store).await?.len()),
        ("submissions", submissions::all(store).await?.len()),
        ("folders that were to go", going.iter().filter(|going| going.due_ms <= until_ms).count()),
    ])
}

fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    // Records are structs of numbers, texts, lists and maps with text keys, which can always be written as JSON.
    serde_json::to_vec(record).expect("a record can be written as JSON")
}

fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, MetaError> {
    serde_json::from_slice(value)
        .map_err(|error| MetaError::Corrupt { key: key.to_string(), reason: error.to_string() })
}

/// Deletes the records under `prefix` that are old or cannot be read.
async fn forget<T: DeserializeOwned>(
    store: &dyn MetaStore,
    prefix: &str,
    is_old: impl Fn(&T) -> bool,
) -> Result<(), MetaError> {
    let entries = store.range(prefix).await?;
    let is_old = |value: &[u8]| serde_json::from_slice::<T>(value).map_or(true, |record| is_old(&record));
    let old: Vec<String> = entries.into_iter().filter(|(_, entry)| is_old(&entry.value)).map(|(key, _)| key).collect();
    for some in old.chunks(AT_A_TIME) {
        store.commit(some.iter().fold(Transaction::default(), |all, key| all.delete(key.as_str()))).await?;
    }
    Ok(())
}
