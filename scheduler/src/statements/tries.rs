//! Counts the tries of statements, so that a statement that kills primaries is not retried forever.
//!
//! A statement that a client sends again to the next leader is counted in the metadata store before any work on it. Once its job runs,
//! the leader has survived planning it. The rest is the scheduler's work and counts for less, because leaders may change for other
//! reasons during a long statement. The machine of a submission counts its statements in the same way.

use super::{Execution, Info};
use crate::clock::Clock;
use crate::errors::QueryError;
use crate::meta::keys::tries::{self as keys, Noted};
use crate::meta::{MetaStore, Transaction};
use futures::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::Notify;
use windlass_core::ids::JobId;
use windlass_core::submissions::Tries;

/// Returns the error for a statement that is not tried again.
pub(crate) fn exhausted(Tries { begun, unplanned }: Tries) -> QueryError {
    QueryError::Exhausted(format!(
        "{begun} primaries began this statement and ended before it did, {unplanned} of them in a row while they planned it: it is not begun \
         again. Their logs say what they died of; a smaller statement, or one that is less deep, may not be too much for them"
    ))
}

/// Runs a statement that an earlier primary began, unless it has been tried often enough.
pub(super) async fn counted<'a>(
    store: &Arc<dyn MetaStore>,
    clock: &Clock,
    query: &str,
    info: &Info,
    run: impl FnOnce(Info) -> BoxFuture<'a, Result<Execution, QueryError>>,
) -> Result<Execution, QueryError> {
    let mut tried = Try::begin(store, clock, query).await?;
    let planned = Arc::new(Notify::new());
    let mut running = run(telling(&planned, info));
    let ended = tokio::select! {
        biased;
        ended = &mut running => ended,
        // This write ends before any other write about the statement begins.
        () = planned.notified() => tokio::join!(&mut running, tried.planned()).0,
    };
    tried.ended(&ended).await;
    ended
}

/// Returns an `Info` whose job also notifies `planned`.
fn telling(planned: &Arc<Notify>, info: &Info) -> Info {
    let (planned, told) = (Arc::clone(planned), info.started.clone());
    let started = move |job: JobId| {
        planned.notify_one();
        if let Some(told) = &told {
            told(job);
        }
    };
    Info { started: Some(Arc::new(started)), ..info.clone() }
}

/// A try of a statement that an earlier primary began.
struct Try {
    store: Arc<dyn MetaStore>,
    clock: Clock,
    query: String,
    tries: Tries,
}

impl Try {
    /// Counts one more try. Error: there were enough.
    async fn begin(store: &Arc<dyn MetaStore>, clock: &Clock, query: &str) -> Result<Self, QueryError> {
        let tries = Tries::again(keys::find(store.as_ref(), query).await?).map_err(exhausted)?;
        let begun = Self { store: Arc::clone(store), clock: clock.clone(), query: query.to_string(), tries };
        begun.write().await?;
        Ok(begun)
    }

    async fn planned(&mut self) {
        self.tries = self.tries.planned();
        if let Err(error) = self.write().await {
            tracing::debug!(%error, "that a statement was planned could not be noted");
        }
    }

    /// Deletes the count, unless another leader will continue the statement.
    async fn ended(mut self, ended: &Result<Execution, QueryError>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryStore;
    use std::time::Duration;

    async fn begin(store: &Arc<dyn MetaStore>, query: &str) -> Result<Try, QueryError> {
        Try::begin(store, &Clock::system(), query).await
    }

    #[tokio::test]
    async fn a_statement_that_primaries_die_of_is_refused() {
        let store: Arc<dyn MetaStore> = Arc::new(MemoryStore::default());
        for unplanned in [2, 3] {
            assert_eq!(begin(&store, "a/b").await.unwrap().tries.unplanned, unplanned);
        }
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
        for _ in 0..windlass_core::submissions::BEGUN - 1 {
            begin(&store, "q").await.unwrap().planned().await;
        }
        assert!(begin(&store, "q").await.is_err());
    }

    /// However soon a statement ends after its job began, the record of its start is written before the record of its end.
    #[tokio::test]
    async fn what_was_planned_is_noted_while_it_runs_and_forgotten_after() {
        let store: Arc<dyn MetaStore> = Arc::new(MemoryStore::default());
        let (info, clock) = (Info::default(), Clock::system());
        let run = async |waits: bool, left: bool| {
            let ended = counted(&store, &clock, "q", &info, |info| {
                let store = Arc::clone(&store);
                Box::pin(async move {
                    (info.started.unwrap())(JobId(1));
                    while waits && keys::find(store.as_ref(), "q").await?.is_none_or(|tries| tries.unplanned > 0) {
                        tokio::task::yield_now().await;
                    }
                    if left { Err(QueryError::NotLeading("moved".to_string())) } else { Ok(Execution::empty()) }
                })
            });
            assert_eq!(ended.await.is_err(), left);
            keys::find(store.as_ref(), "q").await.unwrap()
        };
        assert_eq!(run(true, true).await, Some(Tries { begun: 2, unplanned: 0 }));
        assert_eq!(run(false, true).await, Some(Tries { begun: 3, unplanned: 0 }));
        assert_eq!(run(true, false).await, None);
        assert_eq!(run(false, false).await, None);
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
        assert_eq!(begin(&store, "s").await.unwrap().tries.unplanned, 1);
        let clock = Clock::system();
        clock.advance(Duration::from_secs(24 * 3600 - 10));
        Try::begin(&store, &clock, "t").await.unwrap();
        let is_known = async |query| keys::find(store.as_ref(), query).await.unwrap().is_some();
        keys::forget_old(store.as_ref(), clock.wall_ms()).await.unwrap();
        assert!(is_known("s").await && is_known("t").await);
        clock.advance(Duration::from_secs(20));
        keys::forget_old(store.as_ref(), clock.wall_ms()).await.unwrap();
        assert!(!is_known("s").await && is_known("t").await);
    }
}
