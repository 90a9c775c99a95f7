//! How often statements were begun. What a primary dies of is not begun again for ever.
//!
//! A statement that a client sends again to the next leader, or a submission's that the next leader goes on with, is counted in the
//! metadata store before anything is made of it. Once its job runs, the leader has survived planning it; what follows is the scheduler's
//! to survive, and counts for less: leaders may change for other reasons while a long statement runs.

use super::{Execution, Info};
use crate::clock::Clock;
use crate::errors::QueryError;
use crate::meta::keys::tries::{self as keys, Noted};
use crate::meta::{MetaStore, Transaction};
use std::sync::Arc;
use tokio_util::task::TaskTracker;
use windlass_core::ids::JobId;
use windlass_core::programs::Tries;

/// A statement that was begun by an earlier primary, begun again.
#[derive(Clone)]
pub(super) struct Try {
    store: Arc<dyn MetaStore>,
    clock: Clock,
    tasks: TaskTracker,
    query: String,
    tries: Tries,
}

impl Try {
    /// Counts one more. An error: there were enough.
    pub async fn begin(
        store: &Arc<dyn MetaStore>,
        clock: &Clock,
        tasks: &TaskTracker,
        query: &str,
    ) -> Result<Self, QueryError> {
        let tries = Tries::again(keys::find(store.as_ref(), query).await?).map_err(|Tries { begun, unplanned }| {
            QueryError::Exhausted(format!(
                "{begun} primaries began this statement and ended before it did, {unplanned} of them in a row while they planned it: it is \
                 not begun again. Their logs say what they died of; a smaller statement, or one that is less deep, may not be too much for \
                 them"
            ))
        })?;
        let (clock, tasks) = (clock.clone(), tasks.clone());
        let begun = Self { store: Arc::clone(store), clock, tasks, query: query.to_string(), tries };
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
            planned.tasks.clone().spawn(async move { planned.planned().await });
            if let Some(told) = &told {
                told(job);
            }
        };
        Info { started: Some(Arc::new(started)), ..info.clone() }
    }

    async fn planned(mut self) {
        self.tries = self.tries.planned();
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
        let noted = Noted { tries: self.tries, at_ms: self.clock.wall_ms() };
        Ok(self.store.commit(keys::put(Transaction::default(), &self.query, &noted)).await?)
    }
}

/// Whether a primary has begun the statement again, and no job of it has run since.
pub(crate) async fn was_begun_again(store: &Arc<dyn MetaStore>, query: &str) -> Result<bool, QueryError> {
    Ok(Tries::is_suspect(keys::find(store.as_ref(), query).await?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryStore;
    use std::time::Duration;

    async fn begin(store: &Arc<dyn MetaStore>, query: &str) -> Result<Try, QueryError> {
        Try::begin(store, &Clock::system(), &TaskTracker::new(), query).await
    }

    #[tokio::test]
    async fn a_statement_that_primaries_die_of_is_refused() {
        let store: Arc<dyn MetaStore> = Arc::new(MemoryStore::default());
        for unplanned in [2, 3] {
            assert_eq!(begin(&store, "a/b").await.unwrap().unplanned(), unplanned);
        }
        assert!(was_begun_again(&store, "a/b").await.unwrap() && !was_begun_again(&store, "b").await.unwrap());
        let refused = begin(&store, "a/b").await.err().unwrap().to_string();
        assert!(
            refused.contains("3 primaries began this statement") && refused.contains("not begun again"),
            "{refused}"
        );
        assert!(begin(&store, "another").await.is_ok());
    }

    #[tokio::test]
    async fn a_statement_that_was_planned_may_be_begun_many_times() {
        let store: Arc<dyn MetaStore> = Arc::new(MemoryStore::default());
        for _ in 0..windlass_core::programs::BEGUN - 1 {
            begin(&store, "q").await.unwrap().planned().await;
        }
        assert!(begin(&store, "q").await.is_err());
    }

    #[tokio::test]
    async fn what_is_over_is_forgotten() {
        let store: Arc<dyn MetaStore> = Arc::new(MemoryStore::default());
        begin(&store, "q").await.unwrap().ended(&Ok(Execution::empty())).await;
        let failed = begin(&store, "r").await.unwrap();
        failed.ended(&Err(QueryError::Invalid("no".to_string()))).await;
        assert_eq!(store.range("").await.unwrap().len(), 0);
        let left = begin(&store, "s").await.unwrap();
        left.ended(&Err(QueryError::NotLeading("moved".to_string()))).await;
        assert_eq!(begin(&store, "s").await.unwrap().unplanned(), 1);
        let clock = Clock::system();
        clock.advance(Duration::from_secs(24 * 3600 - 10));
        Try::begin(&store, &clock, &TaskTracker::new(), "t").await.unwrap();
        let is_known = async |query| keys::find(store.as_ref(), query).await.unwrap().is_some();
        keys::forget_old(store.as_ref(), clock.wall_ms()).await.unwrap();
        assert!(is_known("s").await && is_known("t").await);
        clock.advance(Duration::from_secs(20));
        keys::forget_old(store.as_ref(), clock.wall_ms()).await.unwrap();
        assert!(!is_known("s").await && is_known("t").await);
    }
}
