//! The time limits of planning.

use super::Started;
use crate::errors::QueryError;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use windlass_core::ids::JobId;

/// The time limit of one statement until its job starts. After that the scheduler limits its time.
pub(super) struct Patience {
    began: Instant,
    /// Maximum planning time, without waits.
    computing: Duration,
    /// Maximum time of the whole statement, as the session sets it.
    statement: Option<Duration>,
    started: Arc<AtomicBool>,
    /// The permit of a large statement. Large statements are planned one at a time.
    turn: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Patience {
    pub fn new(computing: Duration, statement: Option<Duration>) -> Self {
        Self { began: Instant::now(), computing, statement, started: Arc::default(), turn: Arc::default() }
    }

    /// Returns a callback for the statement's job, which ends the limit and calls `then`.
    pub fn until_started(&self, then: Option<Started>) -> Started {
        let (started, turn) = (Arc::clone(&self.started), Arc::clone(&self.turn));
        Arc::new(move |job: JobId| {
            started.store(true, Ordering::Relaxed);
            turn.lock().take();
            if let Some(then) = &then {
                then(job);
            }
        })
    }

    /// Waits until no other large statement is planned.
    pub fn wait_for_turn(&self, large: &Arc<Semaphore>) -> impl Future<Output = ()> + Send + 'static {
        let (turn, large) = (Arc::clone(&self.turn), Arc::clone(large));
        async move {
            // The semaphore is never closed.
            if let Ok(permit) = large.acquire_owned().await {
                *turn.lock() = Some(permit);
            }
        }
    }

    /// Returns an error if a statement whose planning has computed this long gets no more time.
    pub fn is_over(&self, computed: Duration) -> Option<QueryError> {
        if self.started.load(Ordering::Relaxed) {
            return None;
        }
        if let Some(limit) = self.statement.filter(|limit| self.began.elapsed() >= *limit) {
            return Some(QueryError::TimedOut(format!(
                "the statement was still being planned after {limit:?}, and windlass.statement_timeout_ms allows no more"
            )));
        }
        (computed >= self.computing).then(|| {
            QueryError::TimedOut(format!(
                "planning the statement took more than {:?}, and primary.planning_timeout allows no more: load literal rows and long lists \
                 from a file, and keep what is built of many layers in a table",
                self.computing
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_statements_take_turns_until_their_jobs_run() {
        let (large, hour) = (Arc::new(Semaphore::new(1)), Duration::from_secs(3600));
        let (first, second) = (Patience::new(hour, None), Patience::new(hour, None));
        first.wait_for_turn(&large).await;
        let waiting = tokio::spawn(second.wait_for_turn(&large));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        first.until_started(None)(JobId(1));
        waiting.await.unwrap();
        drop(second);
        assert_eq!(large.available_permits(), 1);
    }

    #[test]
    fn planning_ends_in_time_and_jobs_have_theirs() {
        let (short, long) = (Duration::from_millis(1), Duration::from_secs(3600));
        let patience = Patience::new(short, None);
        assert_eq!(patience.is_over(Duration::ZERO), None);
        let over = patience.is_over(short).unwrap().to_string();
        assert!(over.contains("primary.planning_timeout"), "{over}");
        let patience = Patience::new(long, Some(Duration::ZERO));
        let over = patience.is_over(short).unwrap().to_string();
        assert!(over.contains("windlass.statement_timeout_ms"), "{over}");
        patience.until_started(None)(JobId(1));
        assert_eq!(patience.is_over(long), None);
    }
}
