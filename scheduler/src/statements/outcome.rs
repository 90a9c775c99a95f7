//! Statements that run once although they are sent twice.
//!
//! A client that loses its connection while a statement that writes is under way cannot know whether it happened. So whatever makes
//! the statement's effect durable records in the same transaction that it did, under the name that the client gave it; and a client
//! that sends the statement again says so. Whoever leads then answers from the record, or runs the statement: of an earlier
//! leader nothing can become durable any more.

use crate::driver::history::wall_ms;
use crate::errors::QueryError;
use crate::meta::{MetaStore, Transaction};
use crate::statements::catalog::Edit;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

const OUTCOMES: &str = "outcome/";
/// Longer than clients look for a leader.
const KEPT: Duration = Duration::from_secs(300);
/// Keys in one transaction.
const AT_A_TIME: usize = 100;

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

/// What a statement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Rows that it wrote.
    pub affected: Option<u64>,
    /// They are its answer.
    pub counted: bool,
    at_ms: u64,
}

tokio::task_local! {
    /// On whose behalf changes of the catalog and of files are made durable.
    static STATEMENT: Effect;
}

/// A statement whose outcome is recorded, and what is known of its outcome so far.
#[derive(Clone, Debug)]
pub(super) struct Effect {
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

/// Runs what makes a statement's effect durable.
pub(super) async fn on_behalf_of<F: Future>(effect: Option<Effect>, work: F) -> F::Output {
    match effect {
        Some(effect) => STATEMENT.scope(effect, work).await,
        None => work.await,
    }
}

/// What the transaction that makes the statement's effect durable has to record.
pub(crate) fn record() -> Option<Edit> {
    let (key, value) = entry()?;
    Some(Edit::Meta(key, Some(value.into())))
}

pub(super) fn record_in(transaction: Transaction) -> Transaction {
    match entry() {
        Some((key, value)) => transaction.put(key, value),
        None => transaction,
    }
}

fn entry() -> Option<(String, Vec<u8>)> {
    let Effect { query, wrote } = STATEMENT.try_with(Effect::clone).ok()?;
    let outcome = Outcome {
        affected: wrote.map(|(rows, _)| rows),
        counted: wrote.is_some_and(|(_, counted)| counted),
        at_ms: wall_ms(),
    };
    // Numbers and a truth value.
    let value = serde_json::to_vec(&outcome).expect("an outcome can be written as JSON");
    Some((key_of(&query), value))
}

fn key_of(query: &str) -> String {
    format!("{OUTCOMES}{}", crate::meta::segment(query))
}

pub(super) async fn find(store: &Arc<dyn MetaStore>, query: &str) -> Result<Option<Outcome>, QueryError> {
    let key = key_of(query);
    let Some(entry) = store.get(&key).await? else { return Ok(None) };
    let corrupt =
        |e: serde_json::Error| QueryError::Internal(format!("the metadata under \"{key}\" cannot be read: {e}"));
    serde_json::from_slice(&entry.value).map(Some).map_err(corrupt)
}

/// Forgets outcomes that nobody asks for any more. To be called every minute or so.
pub(crate) async fn forget_old(store: &Arc<dyn MetaStore>) -> Result<(), QueryError> {
    let before = wall_ms().saturating_sub(KEPT.as_millis() as u64);
    let entries = store.range(OUTCOMES).await?;
    let is_old = |value: &[u8]| serde_json::from_slice::<Outcome>(value).map_or(true, |outcome| outcome.at_ms < before);
    let old: Vec<String> = entries.into_iter().filter(|(_, entry)| is_old(&entry.value)).map(|(key, _)| key).collect();
    for some in old.chunks(AT_A_TIME) {
        store.commit(some.iter().fold(Transaction::default(), |all, key| all.delete(key.as_str()))).await?;
    }
    Ok(())
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
    use crate::meta::MemoryStore;

    #[tokio::test]
    async fn what_was_done_is_found_until_it_is_old() {
        let store: Arc<dyn MetaStore> = Arc::new(MemoryStore::default());
        let done = |query: &str, rows| {
            let effect = Effect::of(&Some(query.to_string()), Sent::First).map(|effect| effect.wrote(rows, true));
            let store = store.clone();
            on_behalf_of(effect, async move { store.commit(record_in(Transaction::default().put("k", "v"))).await })
        };
        done("a/b", 3).await.unwrap();
        let found = find(&store, "a/b").await.unwrap().unwrap();
        assert_eq!((found.affected, found.counted), (Some(3), true));
        assert_eq!(find(&store, "c").await.unwrap(), None);
        forget_old(&store).await.unwrap();
        assert!(find(&store, "a/b").await.unwrap().is_some());
        let old = Outcome { affected: None, counted: false, at_ms: 1 };
        let key = key_of("old");
        store.commit(Transaction::default().put(key, serde_json::to_vec(&old).unwrap())).await.unwrap();
        forget_old(&store).await.unwrap();
        assert_eq!(find(&store, "old").await.unwrap(), None);
        // Nothing is recorded for whoever did not ask.
        on_behalf_of(Effect::of(&Some("d".into()), Sent::Once), async { assert!(record().is_none()) }).await;
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
