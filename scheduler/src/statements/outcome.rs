//! Statements that run once although they are sent twice.
//!
//! A client that loses its connection while a statement that writes is under way cannot know whether it happened. So whatever makes
//! the statement's effect durable records in the same transaction that it did, under the name that the client gave it; and a client
//! that sends the statement again says so. Whoever leads then answers from the record, or runs the statement: of an earlier
//! leader nothing can become durable any more.

use crate::meta::keys::outcomes::{self, Outcome};
use crate::meta::{Update, wall_ms};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::Notify;

/// Whether a client may send a statement again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sent {
    /// It will not.
    #[default]
    Once,
    /// It may.
    First,
    /// It does.
    Again,
}

/// A statement whose outcome is recorded, and what is known of its outcome so far.
#[derive(Clone, Debug)]
pub struct Effect {
    query: String,
    wrote: Option<(u64, bool)>,
}

impl Effect {
    pub fn of(query: &Option<String>, sent: Sent) -> Option<Self> {
        let query = query.clone().filter(|_| sent != Sent::Once)?;
        Some(Self { query, wrote: None })
    }

    /// With the number of rows that it wrote, and whether that is its answer.
    pub fn wrote(self, rows: u64, counted: bool) -> Self {
        Self { wrote: Some((rows, counted)), ..self }
    }
}

impl Effect {
    /// What the transaction that makes the statement's effect durable has to record.
    pub(crate) fn update(&self) -> Update {
        let outcome = Outcome {
            affected: self.wrote.map(|(rows, _)| rows),
            counted: self.wrote.is_some_and(|(_, counted)| counted),
            at_ms: wall_ms(),
        };
        outcomes::put(&self.query, &outcome)
    }
}

/// Statements that are under way here, by name: one that is sent again waits for itself.
#[derive(Clone, Debug, Default)]
pub(super) struct UnderWay(Arc<Names>);

#[derive(Debug, Default)]
struct Names {
    names: Mutex<BTreeSet<String>>,
    ended: Notify,
}

pub(super) struct Entered {
    names: Arc<Names>,
    name: String,
}

impl UnderWay {
    /// Waits until nothing of that name is under way, and is under way then itself, for as long as the guard lives.
    pub async fn enter(&self, name: &str) -> Entered {
        loop {
            let ended = self.0.ended.notified();
            if self.0.names.lock().insert(name.to_string()) {
                return Entered { names: Arc::clone(&self.0), name: name.to_string() };
            }
            ended.await;
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.names.names.lock().remove(&self.name);
        self.names.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::{MemoryStore, MetaStore, Transaction};

    #[tokio::test]
    async fn what_was_done_is_found_until_it_is_old() {
        let store: Arc<dyn MetaStore> = Arc::new(MemoryStore::default());
        let done = |query: &str, rows| {
            let effect = Effect::of(&Some(query.to_string()), Sent::First).unwrap().wrote(rows, true);
            let (update, store) = (effect.update(), store.clone());
            async move { store.commit(Transaction::default().put("k", "v").with(update)).await }
        };
        done("a/b", 3).await.unwrap();
        let found = outcomes::find(store.as_ref(), "a/b").await.unwrap().unwrap();
        assert_eq!((found.affected, found.counted), (Some(3), true));
        assert_eq!(outcomes::find(store.as_ref(), "c").await.unwrap(), None);
        outcomes::forget_old(store.as_ref(), wall_ms()).await.unwrap();
        assert!(outcomes::find(store.as_ref(), "a/b").await.unwrap().is_some());
        let old = Outcome { affected: None, counted: false, at_ms: 1 };
        store.commit(Transaction::default().with(outcomes::put("old", &old))).await.unwrap();
        outcomes::forget_old(store.as_ref(), wall_ms()).await.unwrap();
        assert_eq!(outcomes::find(store.as_ref(), "old").await.unwrap(), None);
        // Nothing is recorded for whoever did not ask.
        assert!(Effect::of(&Some("d".into()), Sent::Once).is_none());
    }

    #[tokio::test]
    async fn a_statement_that_is_sent_again_waits_for_itself() {
        let under_way = UnderWay::default();
        let first = under_way.enter("q").await;
        let _other = under_way.enter("r").await;
        let again = tokio::spawn({
            let under_way = under_way.clone();
            async move { drop(under_way.enter("q").await) }
        });
        tokio::task::yield_now().await;
        assert!(!again.is_finished());
        drop(first);
        again.await.unwrap();
    }
}
