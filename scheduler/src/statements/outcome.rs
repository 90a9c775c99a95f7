//! Statements that run once even if they are sent twice.
//!
//! A client that loses its connection during a statement that writes cannot know whether it happened. So the transaction that makes the
//! statement's effect durable also records it, under the name that the client gave the statement. A client that sends the statement
//! again says so. The present leader then answers from the record or runs the statement. Nothing of an earlier leader can become
//! durable any more.

use crate::meta::Update;
use crate::meta::keys::outcomes::{self, Outcome};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::Notify;

/// How often a client sends a statement: once, or again to the next leader if its answer was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// The client will not send it again.
    #[default]
    Once,
    /// The client may send it again.
    First,
    /// The client sends it again.
    Again,
}

/// A statement whose outcome is recorded, and what is known of its outcome so far.
#[derive(Clone, Debug)]
pub struct Effect {
    query: String,
    wrote: Option<(u64, bool)>,
}

impl Effect {
    pub fn of(query: &Option<String>, delivery: Delivery) -> Option<Self> {
        let query = query.clone().filter(|_| delivery != Delivery::Once)?;
        Some(Self { query, wrote: None })
    }

    /// Adds the number of rows that it wrote, and whether that is its answer.
    pub fn wrote(self, rows: u64, counted: bool) -> Self {
        Self { wrote: Some((rows, counted)), ..self }
    }
}

impl Effect {
    /// Returns the record for the transaction that makes the statement's effect durable at `now_ms`, in milliseconds since 1970.
    pub(crate) fn update(&self, now_ms: u64) -> Update {
        let outcome = Outcome {
            affected: self.wrote.map(|(rows, _)| rows),
            counted: self.wrote.is_some_and(|(_, counted)| counted),
            at_ms: now_ms,
        };
        outcomes::put(&self.query, &outcome)
    }
}

/// Names of the statements in progress here. A retry waits for the earlier try.
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
    /// Waits until no statement of that name is in progress. Then the statement is in progress while the guard lives.
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
    use crate::clock::Clock;
    use crate::meta::{MemoryStore, MetaStore, Transaction};
    use std::time::Duration;

    #[tokio::test]
    async fn what_was_done_is_found_until_it_is_old() {
        let (clock, store) = (Clock::system(), Arc::new(MemoryStore::default()) as Arc<dyn MetaStore>);
        let done = async |query: &str, rows| {
            let effect = Effect::of(&Some(query.to_string()), Delivery::First).unwrap().wrote(rows, true);
            let update = effect.update(clock.wall_ms());
            store.commit(Transaction::default().put("k", "v").with(update)).await.unwrap();
        };
        let is_found = async |query| outcomes::find(store.as_ref(), query).await.unwrap().is_some();
        done("a/b", 3).await;
        let found = outcomes::find(store.as_ref(), "a/b").await.unwrap().unwrap();
        assert_eq!((found.affected, found.counted), (Some(3), true));
        assert!(!is_found("c").await);
        clock.advance(Duration::from_secs(299));
        done("late", 1).await;
        outcomes::forget_old(store.as_ref(), clock.wall_ms()).await.unwrap();
        assert!(is_found("a/b").await && is_found("late").await);
        clock.advance(Duration::from_secs(2));
        outcomes::forget_old(store.as_ref(), clock.wall_ms()).await.unwrap();
        assert!(!is_found("a/b").await && is_found("late").await);
        // A statement that is sent once records nothing.
        assert!(Effect::of(&Some("d".into()), Delivery::Once).is_none());
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
