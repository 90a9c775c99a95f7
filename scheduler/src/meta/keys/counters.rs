//! `counter/{name}`: numbers that only grow. `counter/epoch` counts the starts of a primary that has a store of its own.

use crate::meta::{Expectation, MetaError, MetaStore, Transaction};
use std::sync::Arc;

const PREFIX: &str = "counter/";

/// Returns the next epoch of a store that only one primary uses: each start has a new one.
pub(in crate::meta) async fn next_epoch(store: &dyn MetaStore) -> Result<u64, MetaError> {
    let key = &format!("{PREFIX}epoch");
    let (epoch, expectation) = match store.get(key).await? {
        None => (1, Expectation::Absent),
        Some(entry) => (decode_u64(key, &entry.value)? + 1, Expectation::Revision(entry.revision)),
    };
    store.commit(Transaction::default().expect(key, expectation).put(key, epoch.to_string().into_bytes())).await?;
    Ok(epoch)
}

/// Ranges of numbers that are never given twice, even after a restart.
#[derive(Debug)]
pub struct Reservation {
    store: Arc<dyn MetaStore>,
    key: String,
}

impl Reservation {
    /// Numbers in a range.
    pub const BLOCK: u64 = 256;

    pub fn new(store: Arc<dyn MetaStore>, name: &str) -> Self {
        Self { store, key: format!("{PREFIX}{name}") }
    }

    /// Reserves the next range. The first one begins with 1.
    pub async fn reserve(&self) -> Result<std::ops::Range<u64>, MetaError> {
        loop {
            let entry = self.store.get(&self.key).await?;
            let (start, expectation) = match &entry {
                None => (1, Expectation::Absent),
                Some(entry) => (decode_u64(&self.key, &entry.value)?, Expectation::Revision(entry.revision)),
            };
            let end = start + Self::BLOCK;
            let transaction =
                Transaction::default().expect(&self.key, expectation).put(&self.key, end.to_string().into_bytes());
            match self.store.commit(transaction).await {
                Ok(()) => return Ok(start..end),
                Err(MetaError::Conflict { .. }) => continue,
                Err(error) => return Err(error),
            }
        }
    }
}

fn decode_u64(key: &str, value: &[u8]) -> Result<u64, MetaError> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| MetaError::Corrupt { key: key.to_string(), reason: "not a number".to_string() })
}
