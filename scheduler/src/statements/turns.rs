//! Turns of the statements that change one table. Statements publish beside each other; one that has to be alone waits for its turn, and
//! the others then wait for it.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// The turns of all tables, by the tables' ids.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<String, Weak<RwLock<()>>>>);

/// A turn to publish, beside others.
pub(super) type Shared = OwnedRwLockReadGuard<()>;

/// A turn with no other beside it.
pub(super) type Alone = OwnedRwLockWriteGuard<()>;

impl Turns {
    pub(super) async fn shared(&self, table: &str) -> Shared {
        self.of(table).read_owned().await
    }

    pub(super) async fn alone(&self, table: &str) -> Alone {
        self.of(table).write_owned().await
    }

    fn of(&self, table: &str) -> Arc<RwLock<()>> {
        let mut turns = self.0.lock();
        if let Some(held) = turns.get(table).and_then(Weak::upgrade) {
            return held;
        }
        turns.retain(|_, held| held.strong_count() > 0);
        let held = Arc::new(RwLock::default());
        turns.insert(table.to_string(), Arc::downgrade(&held));
        held
    }
}
