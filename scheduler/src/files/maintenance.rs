//! Executors in maintenance, by name, in the metadata store. The next primary, and the executor's next registration, find them there.

use crate::meta::keys::maintenance;
use crate::meta::{MetaError, MetaStore, Transaction};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Maintenance {
    store: Arc<dyn MetaStore>,
    /// Ends of maintenance by name, milliseconds since 1970.
    until: BTreeMap<String, u64>,
    /// Whether the store lacks a change.
    is_new: bool,
}

impl Maintenance {
    pub async fn load(store: Arc<dyn MetaStore>) -> Result<Maintenance, MetaError> {
        let until = maintenance::find(store.as_ref()).await?;
        Ok(Maintenance { store, until, is_new: false })
    }

    /// Sets how long an executor may be away. `None`: its maintenance ends.
    pub fn set(&mut self, name: String, time: Option<Duration>, wall_ms: u64) {
        match time {
            Some(time) => _ = self.until.insert(name, wall_ms.saturating_add(time.as_millis() as u64)),
            None => _ = self.until.remove(&name),
        }
        self.is_new = true;
    }

    /// Returns the remaining time for which this executor may be away.
    pub fn left(&self, name: &str, wall_ms: u64) -> Option<Duration> {
        let left = self.until.get(name)?.checked_sub(wall_ms)?;
        Some(Duration::from_millis(left))
    }

    /// Returns the longest remaining time of any executor.
    pub fn longest(&self, wall_ms: u64) -> Option<Duration> {
        self.until.keys().filter_map(|name| self.left(name, wall_ms)).max()
    }

    /// Writes the entries that have not expired. They are durable when this returns.
    pub async fn write(&mut self, wall_ms: u64) -> Result<(), MetaError> {
        if !self.is_new {
            return Ok(());
        }
        self.until.retain(|_, until| *until > wall_ms);
        self.store.commit(Transaction::default().with(maintenance::put(self.until.clone()))).await?;
        self.is_new = false;
        Ok(())
    }
}
