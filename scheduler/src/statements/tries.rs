//! How often statements were begun. What a primary dies of is not begun again for ever.
//!
//! A statement that a client sends again to the next leader, or a submission's that the next leader goes on with, is counted in the
//! metadata store before anything is made of it. Once its job runs, the leader has survived planning it; what follows is the scheduler's
//! to survive, and counts for less: leaders may change for other reasons while a long statement runs.

use super::{Execution, Info};
use crate::errors::QueryError;
use crate::meta::keys::tries::{self as keys, Tries};
use crate::meta::wall_ms;
use crate::meta::{MetaStore, Transaction};
use std::sync::Arc;
use windlass_core::ids::JobId;

/// Primaries that may end while they plan one statement.
const UNPLANNED: u32 = 3;
/// Primaries that may begin one statement.
const BEGUN: u32 = 100;
/// A statement that was begun by an earlier primary, begun again.
#[derive(Clone)]
pub(super) struct Try {
    store: Arc<dyn MetaStore>,
    query: String,
    tries: Tries,
}

impl Try {
    /// Counts one more. An error: there were enough.
    pub async fn begin(store: &Arc<dyn MetaStore>, query: &str) -> Result<Self, QueryError> {
        // The first time it was not known to be a first time.
        let before = keys::find(store.as_ref(), query).await?.unwrap_or(Tries { begun: 1, unplanned: 1, at_ms: 0 });
        if before.unplanned >= UNPLANNED || before.begun >= BEGUN {
            return Err(QueryError::Exhausted(format!(
                "{} primaries began this statement and ended before it did, {} of them in a row while they planned it: it is not begun \
                 again. Their logs say what they died of; a smaller statement, or one that is less deep, may not be too much for them",
                before.begun, before.unplanned
            )));
        }
        let tries = Tries { begun: before.begun + 1, unplanned: before.unplanned + 1, at_ms: wall_ms() };
        let begun = Self { store: Arc::clone(store), query: query.to_string(), tries };
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
        if let Err(error) = self.store.commit(keys::delete(Transaction::default(), &self.query)).await {
            tracing::debug!(%error, "the tries of a statement that is over could not be forgotten");
        }
    }

    async fn write(&self) -> Result<(), QueryError> {
        Ok(self.store.commit(keys::put(Transaction::default(), &self.query, &self.tries)).await?)
    }
}

/// Whether a primary has begun the statement again, and no job of it has run since.
pub(crate) async fn was_begun_again(store: &Arc<dyn MetaStore>, query: &str) -> Result<bool, QueryError> {
    Ok(keys::find(store.as_ref(), query).await?.is_some_and(|tries| tries.unplanned > 0))
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
        assert_eq!(store.range("tries/").await.unwrap().len(), 0);
        let left = Try::begin(&store, "s").await.unwrap();
        left.ended(&Err(QueryError::NotLeading("moved".to_string()))).await;
        assert_eq!(Try::begin(&store, "s").await.unwrap().unplanned(), 1);
        Try { tries: Tries { begun: 1, unplanned: 1, at_ms: 0 }, ..Try::begin(&store, "t").await.unwrap() }
            .write()
            .await
            .unwrap();
        keys::forget_old(store.as_ref(), wall_ms()).await.unwrap();
        let left = store.range("tries/").await.unwrap();
        assert_eq!(left.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["tries/s"]);
    }
}
