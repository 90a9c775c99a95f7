//! `wfs/maintenance`: executors in maintenance, by name.

use crate::meta::{MetaError, MetaStore, Update};
use prost::Message;
use std::collections::BTreeMap;

const KEY: &str = "wfs/maintenance";

#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(btree_map = "string, uint64", tag = "1")]
    until: BTreeMap<String, u64>,
}

/// Returns the end of each executor's maintenance, in milliseconds since 1970-01-01T00:00:00Z.
pub(crate) async fn find(store: &dyn MetaStore) -> Result<BTreeMap<String, u64>, MetaError> {
    let corrupt = |error: prost::DecodeError| MetaError::Corrupt { key: KEY.into(), reason: error.to_string() };
    match store.get(KEY).await? {
        Some(entry) => Ok(Stored::decode(entry.value).map_err(corrupt)?.until),
        None => Ok(BTreeMap::new()),
    }
}

pub(crate) fn put(until: BTreeMap<String, u64>) -> Update {
    Update::put(KEY, Stored { until }.encode_to_vec())
}
