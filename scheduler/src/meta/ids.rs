//! Identifiers of jobs and executors that never repeat in the life of a cluster.

use super::{MetaError, MetaStore, Reservation};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use windlass_core::ids::{ExecutorId, JobId};

/// A source of identifiers. They must never repeat in the life of a cluster.
///
/// Both methods are called on the async runtime, so a durable source reserves a range in advance instead of writing for each
/// identifier.
pub trait IdSource: Send + Sync + 'static {
    fn next_job(&self) -> JobId;
    fn next_executor(&self) -> ExecutorId;
}

/// Identifiers of a cluster whose state ends with its primary: embedded mode and tests.
#[derive(Debug, Default)]
pub struct MemoryIds {
    jobs: AtomicU64,
    executors: AtomicU64,
}

impl IdSource for MemoryIds {
    fn next_job(&self) -> JobId {
        JobId(self.jobs.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn next_executor(&self) -> ExecutorId {
        ExecutorId(self.executors.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Gives numbers from ranges that the metadata store has reserved. A task reserves the next range long before the current one is used
/// up. The rest of a range is skipped when the primary stops.
pub struct DurableIds {
    jobs: Supply,
    executors: Supply,
}

struct Supply {
    range: Mutex<Range<u64>>,
    low: Arc<Notify>,
}

/// Number of remaining identifiers below which more are reserved.
const LOW: u64 = Reservation::BLOCK / 2;

impl DurableIds {
    pub async fn open(
        store: &Arc<dyn MetaStore>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Arc<Self>, MetaError> {
        let (jobs, executors) =
            (Reservation::new(Arc::clone(store), "job"), Reservation::new(Arc::clone(store), "executor"));
        let low = Arc::new(Notify::new());
        let ids = Arc::new(Self {
            jobs: Supply { range: Mutex::new(jobs.reserve().await?), low: Arc::clone(&low) },
            executors: Supply { range: Mutex::new(executors.reserve().await?), low: Arc::clone(&low) },
        });
        let (supplied, stop) = (Arc::clone(&ids), stop.clone());
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = low.notified() => {}
                }
                for (supply, reservation) in [(&supplied.jobs, &jobs), (&supplied.executors, &executors)] {
                    if let Err(error) = supply.refill(reservation).await {
                        tracing::error!(%error, "identifiers could not be reserved");
                    }
                }
            }
        });
        Ok(ids)
    }
}

impl Supply {
    fn next(&self) -> u64 {
        let mut range = self.range.lock();
        let number = range.start;
        // The end is passed only if the store has been failing for hundreds of statements. Continuing is better than stopping.
        range.start += 1;
        if range.end.saturating_sub(range.start) < LOW {
            self.low.notify_one();
        }
        number
    }

    /// Returns the numbers that are reserved and not given yet.
    fn left(&self) -> u64 {
        let range = self.range.lock();
        range.end.saturating_sub(range.start)
    }

    async fn refill(&self, reservation: &Reservation) -> Result<(), MetaError> {
        if self.left() >= LOW {
            return Ok(());
        }
        let next = reservation.reserve().await?;
        // Only this process reserves, so its ranges are consecutive.
        let mut range = self.range.lock();
        range.end = next.end;
        Ok(())
    }
}

impl IdSource for DurableIds {
    fn next_job(&self) -> JobId {
        JobId(self.jobs.next())
    }

    fn next_executor(&self) -> ExecutorId {
        ExecutorId(self.executors.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::EmbeddedStore;
    use std::collections::BTreeSet;
    use std::time::Duration;

    /// Waits until enough numbers are reserved that no more are requested.
    async fn refilled(supply: &Supply) {
        let refilled = async {
            while supply.left() < LOW {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), refilled).await.expect("no more numbers are reserved");
    }

    #[tokio::test]
    async fn identifiers_never_repeat_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meta.redb");
        let (mut jobs, mut executors) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..3 {
            let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
            let store: Arc<dyn MetaStore> = Arc::new(EmbeddedStore::open(&path).unwrap());
            let ids = DurableIds::open(&store, &tasks, &stop).await.unwrap();
            for _ in 0..2 * Reservation::BLOCK {
                assert!(jobs.insert(ids.next_job()));
                assert!(executors.insert(ids.next_executor()));
                refilled(&ids.jobs).await;
                refilled(&ids.executors).await;
            }
            stop.cancel();
            tasks.close();
            tasks.wait().await;
        }
        assert_eq!(*jobs.first().unwrap(), JobId(1));
        assert_eq!(*executors.first().unwrap(), ExecutorId(1));
    }
}
