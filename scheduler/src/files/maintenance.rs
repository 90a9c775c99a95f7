//! Executors that may be away, by name, in the metadata store: the next primary, and the executor's next registration, find them there.

use crate::meta::keys::maintenance;
use crate::meta::{MetaError, MetaStore, Transaction};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Maintenance {
    store: Arc<dyn MetaStore>,
    /// Until when, in milliseconds since 1970.
    until: BTreeMap<String, u64>,
    /// What the store does not have.
    is_new: bool,
}

impl Maintenance {
    pub async fn load(store: Arc<dyn MetaStore>) -> Result<Maintenance, MetaError> {
        let until = maintenance::find(store.as_ref()).await?;
        Ok(Maintenance { store, until, is_new: false })
    }

    /// `None`: it is not to be away any more.
    pub fn set(&mut self, name: String, time: Option<Duration>, wall_ms: u64) {
        match time {
            Some(time) => _ = self.until.insert(name, wall_ms.saturating_add(time.as_millis() as u64)),
            None => _ = self.until.remove(&name),
        }
        self.is_new = true;
    }

    /// Of the time that this executor may be away.
    pub fn left(&self, name: &str, wall_ms: u64) -> Option<Duration> {
        let left = self.until.get(name)?.checked_sub(wall_ms)?;
        Some(Duration::from_millis(left))
    }

    /// Of the time of whoever may be away longest.
    pub fn longest(&self, wall_ms: u64) -> Option<Duration> {
        self.until.keys().filter_map(|name| self.left(name, wall_ms)).max()
    }

    /// Durable when it returns, without those whose time is over.
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
