//! How often statements were begun. What a primary dies of is not begun again for ever.
//!
//! A statement that a client sends again to the next leader, or a submission's that the next leader goes on with, is counted in the
//! metadata store before anything is made of it. Once its job runs, the leader has survived planning it; what follows is the scheduler's
//! to survive, and counts for less: leaders may change for other reasons while a long statement runs.

use super::{Execution, Info};
use crate::driver::history::wall_ms;
use crate::errors::QueryError;
use crate::meta::{MetaStore, Transaction, segment};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use windlass_core::ids::JobId;

const TRIES: &str = "tries/";
/// Primaries that may end while they plan one statement.
const UNPLANNED: u32 = 3;
/// Primaries that may begin one statement.
const BEGUN: u32 = 100;
/// Longer than clients look for a leader, and submissions wait for one.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Keys in one transaction.
const AT_A_TIME: usize = 100;

/// Of one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Tries {
    /// Primaries that have begun it.
    begun: u32,
    /// Those of them, in a row, that ended before its job ran.
    unplanned: u32,
    at_ms: u64,
}

/// A statement that was begun by an earlier primary, begun again.
#[derive(Clone)]
pub(super) struct Try {
    store: Arc<dyn MetaStore>,
    key: String,
    tries: Tries,
}

impl Try {
    /// Counts one more. An error: there were enough.
    pub async fn begin(store: &Arc<dyn MetaStore>, query: &str) -> Result<Self, QueryError> {
        let key = format!("{TRIES}{}", segment(query));
        // The first time it was not known to be a first time.
        let before = match store.get(&key).await? {
            Some(entry) => parse(&key, &entry.value)?,
            None => Tries { begun: 1, unplanned: 1, at_ms: 0 },
        };
        if before.unplanned >= UNPLANNED || before.begun >= BEGUN {
            return Err(QueryError::Exhausted(format!(
                "{} primaries began this statement and ended before it did, {} of them in a row while they planned it: it is not begun \
                 again. Their logs say what they died of; a smaller statement, or one that is less deep, may not be too much for them",
                before.begun, before.unplanned
            )));
        }
        let tries = Tries { begun: before.begun + 1, unplanned: before.unplanned + 1, at_ms: wall_ms() };
        let begun = Self { store: Arc::clone(store), key, tries };
        begun.write().await?;
        Ok(begun)
    }

    /// How many primaries in a row, this one included, have begun it and not come to its job.
    #[cfg(test)]
    fn unplanned(&self) -> u32 {
        self.tries.unplanned
    }

    /// The same statement, whose job notes that it was planned.
    pub fn noted_in(&self, info: &Info) -> Info {
        let (planned, told) = (self.clone(), info.started.clone());
        let started = move |job: JobId| {
            let planned = planned.clone();
            tokio::spawn(async move { planned.planned().await });
            if let Some(told) = &told {
                told(job);
            }
        };
        Info { started: Some(Arc::new(started)), ..info.clone() }
    }

    async fn planned(mut self) {
        self.tries.unplanned = 0;
        if let Err(error) = self.write().await {
            tracing::debug!(%error, "that a statement was planned could not be noted");
        }
    }

    /// The statement is over, unless another leader is to go on with it.
    pub async fn ended(self, ended: &Result<Execution, QueryError>) {
        if let Err(QueryError::NotLeading(_) | QueryError::OutcomeUnknown(_)) = ended {
            // This primary has survived it.
            return self.planned().await;
        }
        if let Err(error) = self.store.commit(Transaction::default().delete(self.key)).await {
            tracing::debug!(%error, "the tries of a statement that is over could not be forgotten");
        }
    }

    async fn write(&self) -> Result<(), QueryError> {
        // Numbers.
        let value = serde_json::to_vec(&self.tries).expect("numbers can be written as JSON");
        Ok(self.store.commit(Transaction::default().put(self.key.clone(), value)).await?)
    }
}

/// Whether a primary has begun the statement again, and no job of it has run since.
pub(crate) async fn was_begun_again(store: &Arc<dyn MetaStore>, query: &str) -> Result<bool, QueryError> {
    let key = format!("{TRIES}{}", segment(query));
    match store.get(&key).await? {
        Some(entry) => Ok(parse(&key, &entry.value)?.unplanned > 0),
        None => Ok(false),
    }
}

fn parse(key: &str, value: &[u8]) -> Result<Tries, QueryError> {
    serde_json::from_slice(value)
        .map_err(|e| QueryError::Internal(format!("the metadata under \"{key}\" cannot be read: {e}")))
}

/// Forgets those that nobody has begun for long.
pub(crate) async fn forget_old(store: &Arc<dyn MetaStore>) -> Result<(), QueryError> {
    let before = wall_ms().saturating_sub(KEPT.as_millis() as u64);
    let is_old = |value: &[u8]| serde_json::from_slice::<Tries>(value).map_or(true, |tries| tries.at_ms < before);
    let entries = store.range(TRIES).await?;
    let old: Vec<String> = entries.into_iter().filter(|(_, entry)| is_old(&entry.value)).map(|(key, _)| key).collect();
    for some in old.chunks(AT_A_TIME) {
        store.commit(some.iter().fold(Transaction::default(), |all, key| all.delete(key.as_str()))).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryStore;

    #[tokio::test]
    async fn a_statement_that_primaries_die_of_is_refused() {
        let store: Arc<dyn MetaStore> = Arc::new(MemoryStore::default());
        for unplanned in [2, 3] {
            assert_eq!(Try::begin(&store, "a/b").await.unwrap().unplanned(), unplanned);
        }
        assert!(was_begun_again(&store, "a/b").await.unwrap() && !was_begun_again(&store, "b").await.unwrap());
        let refused = Try::begin(&store, "a/b").await.err().unwrap().to_string();
        assert!(
            refused.contains("3 primaries began this statement") && refused.contains("not begun again"),
            "{refused}"
        );
        assert!(Try::begin(&store, "another").await.is_ok());
    }

    #[tokio::test]
    async fn a_statement_that_was_planned_may_be_begun_many_times() {
        let store: Arc<dyn MetaStore> = Arc::new(MemoryStore::default());
        for _ in 0..BEGUN - 1 {
            Try::begin(&store, "q").await.unwrap().planned().await;
        }
        assert!(Try::begin(&store, "q").await.is_err());
    }

    #[tokio::test]
    async fn what_is_over_is_forgotten() {
        let store: Arc<dyn MetaStore> = Arc::new(MemoryStore::default());
        Try::begin(&store, "q").await.unwrap().ended(&Ok(Execution::empty())).await;
        let failed = Try::begin(&store, "r").await.unwrap();
        failed.ended(&Err(QueryError::Invalid("no".to_string()))).await;
        assert_eq!(store.range(TRIES).await.unwrap().len(), 0);
        let left = Try::begin(&store, "s").await.unwrap();
        left.ended(&Err(QueryError::NotLeading("moved".to_string()))).await;
        assert_eq!(Try::begin(&store, "s").await.unwrap().unplanned(), 1);
        Try { tries: Tries { begun: 1, unplanned: 1, at_ms: 0 }, ..Try::begin(&store, "t").await.unwrap() }
            .write()
            .await
            .unwrap();
        forget_old(&store).await.unwrap();
        let left = store.range(TRIES).await.unwrap();
        assert_eq!(left.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["tries/s"]);
    }
}
