//! State of a leader's jobs that outlives the leader, in the metadata store: the finished stages of running jobs, from which the next
//! leader continues, and the records of ended jobs, which it lists.
//!
//! ```text
//! stage of a statement   finished ──save──> waiting ──write──> in the store ──job ended──> removed
//! that may be sent again
//!
//! statement of a         in the store ──sent again: begun()──> belongs to its new job
//! leader that is gone          └──nobody asks for `KEPT`──> removed
//! ```
//!
//! One task writes, one transaction at a time, with everything that waits at that time. So the number of ended stages does not increase
//! the load on the store. A stage that was not written before its leader died is computed again. Nothing else depends on it.

pub use crate::meta::keys::stages::{Begun, BegunStage};

use crate::meta::keys::{jobs, stages};
use crate::meta::{Key, MetaError, MetaStore, Transaction, Update};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use windlass_core::ids::JobId;
use windlass_engine::ClusterShape;

/// How long the saved stages of an earlier leader's statement wait for the statement to be sent again. It is longer than clients look
/// for a leader.
const KEPT: Duration = Duration::from_secs(300);
/// Maximum keys in one transaction, and maximum bytes without its last value.
const AT_A_TIME: usize = 100;
const BYTES_AT_A_TIME: usize = 256 << 10;
/// Maximum bytes of the description of a stage, which is some 50,000 tasks. A larger stage is not saved, because etcd takes requests of
/// 1.5 MiB.
const MAX_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct SavedJobs {
    store: Arc<dyn MetaStore>,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<Key, Update>,
    /// Keys that are or may be in the store, by statement.
    ours: BTreeMap<String, BTreeSet<Key>>,
    /// Keys from earlier leaders, by statement.
    inherited: BTreeMap<String, BTreeSet<Key>>,
    /// Ended jobs that may be in the store.
    recorded: BTreeSet<JobId>,
}

impl SavedJobs {
    /// Opens the store. Everything in it comes from earlier leaders. Returns the records of their ended jobs, by id.
    pub async fn open(store: Arc<dyn MetaStore>) -> Result<(Arc<Self>, Vec<Bytes>), MetaError> {
        let mut state = State::default();
        let ended = jobs::all(store.as_ref()).await?;
        state.recorded.extend(ended.iter().filter_map(|(job, _)| *job));
        let ended = ended.into_iter().map(|(_, record)| record).collect();
        state.inherited = stages::all(store.as_ref()).await?;
        Ok((Arc::new(SavedJobs { store, state: Mutex::new(state), wake: Notify::new() }), ended))
    }

    /// Writes waiting updates until `stop`, and removes inherited stages after [`KEPT`].
    pub async fn write(self: Arc<Self>, stop: CancellationToken) {
        let expiry = tokio::time::sleep(KEPT);
        tokio::pin!(expiry);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = &mut expiry, if !expiry.is_elapsed() => self.expire(),
            }
            while let Some(transaction) = self.next() {
                match self.store.commit(transaction).await {
                    Ok(()) => {}
                    Err(MetaError::NotLeading { .. }) => return,
                    Err(error) => {
                        tracing::warn!(%error, "finished stages could not be saved: after a change of the leader they would run again")
                    }
                }
            }
        }
    }

    /// Saves a stage of the statement's job that has finished, or whose outputs have moved.
    pub fn save(&self, statement: &str, job: JobId, shape: ClusterShape, stage: BegunStage) {
        let update = stages::put(statement, job, shape, &stage);
        if update.bytes() > MAX_BYTES {
            return tracing::info!(%job, stage = stage.index, "the stage has too many tasks to be saved");
        }
        let mut state = self.state.lock();
        state.ours.entry(statement.to_string()).or_default().insert(update.key().clone());
        state.wait([update]);
        self.wake.notify_one();
    }

    /// Removes the saved stages of a statement whose job has ended.
    pub fn ended(&self, statement: &str) {
        let mut state = self.state.lock();
        if let Some(keys) = state.ours.remove(statement) {
            state.wait(keys.into_iter().map(Update::delete_key));
            self.wake.notify_one();
        }
    }

    /// Saves the record of an ended job.
    pub fn record(&self, job: JobId, record: Bytes) {
        let mut state = self.state.lock();
        state.recorded.insert(job);
        state.wait([jobs::put(job, record)]);
        self.wake.notify_one();
    }

    /// Returns the update for the record of an ended job, for a caller that writes it together with something else.
    pub fn update(&self, job: JobId, record: Bytes) -> Update {
        self.state.lock().recorded.insert(job);
        jobs::put(job, record)
    }

    /// Removes the record of a job that is not listed any more.
    pub fn forget(&self, job: JobId) {
        let mut state = self.state.lock();
        if state.recorded.remove(&job) {
            state.wait([jobs::delete(job)]);
            self.wake.notify_one();
        }
    }

    /// Takes over the saved stages of the statement, if an earlier leader began it. Call it once: from then on they belong to the job
    /// that continues them. The takeover is durable when this returns, so that no two leaders give attempts the same numbers.
    pub async fn begun(&self, statement: &str) -> Result<Option<Begun>, MetaError> {
        let Some(keys) = self.state.lock().inherited.remove(statement) else { return Ok(None) };
        let Some(mut begun) = stages::find(self.store.as_ref(), statement).await? else { return Ok(None) };
        begun.takeovers = begun.takeovers.next();
        let claim = stages::put_takeovers(statement, begun.takeovers);
        let claimed = claim.key().clone();
        self.store.commit(Transaction::default().with(claim)).await?;
        let mut state = self.state.lock();
        let ours = state.ours.entry(statement.to_string()).or_default();
        ours.extend(keys);
        ours.insert(claimed);
        Ok(Some(begun))
    }

    /// Removes the saved stages of earlier leaders that no statement has taken over.
    fn expire(&self) {
        let mut state = self.state.lock();
        let keys: Vec<_> = std::mem::take(&mut state.inherited).into_values().flatten().collect();
        state.wait(keys.into_iter().map(Update::delete_key));
        self.wake.notify_one();
    }

    /// Returns the next transaction of waiting updates.
    fn next(&self) -> Option<Transaction> {
        let mut state = self.state.lock();
        let (mut transaction, mut bytes) = (Transaction::default(), 0);
        while transaction.writes.len() < AT_A_TIME
            && bytes < BYTES_AT_A_TIME
            && let Some((_, update)) = state.waiting.pop_first()
        {
            bytes += update.bytes();
            transaction = transaction.with(update);
        }
        (!transaction.writes.is_empty()).then_some(transaction)
    }
}

impl State {
    fn wait(&mut self, updates: impl IntoIterator<Item = Update>) {
        self.waiting.extend(updates.into_iter().map(|update| (update.key().clone(), update)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryStore;
    use windlass_core::ids::{ExecutorId, PlanHash};
    use windlass_core::job::{ATTEMPTS_PER_LEADER, FinishedOutput, MapLocation, Takeovers};

    const SHAPE: ClusterShape = ClusterShape { executors: 2, slots: 4, max_slots: 2 };

    fn stage(index: u32) -> BegunStage {
        let location = |partition| MapLocation { partition, attempt: 1, executor: ExecutorId(7) };
        let output =
            |partition| FinishedOutput { location: location(partition), rows: 10, bytes: u64::from(partition) };
        BegunStage { index, lineage: PlanHash(99), outputs: (0..3).map(output).collect() }
    }

    async fn written(saved: &SavedJobs) {
        while let Some(transaction) = saved.next() {
            saved.store.commit(transaction).await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_next_leader_finds_what_a_statement_has_behind_it_once() {
        let store: Arc<dyn MetaStore> = Arc::new(MemoryStore::default());
        let (first, _) = SavedJobs::open(store.clone()).await.unwrap();
        first.save("a/b", JobId(4), SHAPE, stage(0));
        first.save("c", JobId(6), SHAPE, stage(0));
        written(&first).await;
        // A leader's own stages are not those of an earlier leader.
        assert_eq!(first.begun("a/b").await.unwrap(), None);
        first.ended("c");
        written(&first).await;

        let (second, _) = SavedJobs::open(store.clone()).await.unwrap();
        assert_eq!(second.begun("c").await.unwrap(), None);
        let begun = Begun { job: JobId(4), shape: SHAPE, takeovers: Takeovers(1), stages: vec![stage(0)] };
        assert_eq!(second.begun("a/b").await.unwrap(), Some(begun.clone()));
        assert_eq!(second.begun("a/b").await.unwrap(), None);

        // This leader dies before another stage has finished. The numbers that it gave are not given again.
        let (third, _) = SavedJobs::open(store.clone()).await.unwrap();
        let begun = Begun { takeovers: Takeovers(2), ..begun };
        assert_eq!(third.begun("a/b").await.unwrap(), Some(begun));
        third.ended("a/b");
        written(&third).await;
        assert_eq!(store.range("").await.unwrap(), []);
    }

    #[tokio::test]
    async fn ended_jobs_are_listed_by_the_next_leader() {
        let store: Arc<dyn MetaStore> = Arc::new(MemoryStore::default());
        let (first, ended) = SavedJobs::open(store.clone()).await.unwrap();
        assert!(ended.is_empty());
        for job in [12, 3, 4] {
            first.record(JobId(job), Bytes::from(job.to_string()));
        }
        written(&first).await;
        first.forget(JobId(4));
        first.forget(JobId(99));
        written(&first).await;
        let (_, ended) = SavedJobs::open(store).await.unwrap();
        assert_eq!(ended, ["3", "12"]);
    }

    #[tokio::test]
    async fn ten_thousand_tasks_are_a_few_writes() {
        let store: Arc<dyn MetaStore> = Arc::new(MemoryStore::default());
        let (saved, _) = SavedJobs::open(store.clone()).await.unwrap();
        let output = |partition| FinishedOutput {
            location: MapLocation { partition, attempt: 3 * ATTEMPTS_PER_LEADER, executor: ExecutorId(1_000_000) },
            rows: 1 << 40,
            bytes: 1 << 40,
        };
        let mut writes = 0;
        for index in 0..4 {
            let outputs = (0..2_500).map(output).collect();
            saved.save("q", JobId(1), SHAPE, BegunStage { index, lineage: PlanHash(1), outputs });
            while let Some(transaction) = saved.next() {
                writes += 1;
                store.commit(transaction).await.unwrap();
            }
        }
        assert_eq!(writes, 4);
        let largest = stages::sizes(store.as_ref()).await.into_iter().max();
        assert!(largest.is_some_and(|bytes| bytes < 100_000), "{largest:?}");
    }

    #[tokio::test]
    async fn what_nobody_asks_for_goes() {
        let store: Arc<dyn MetaStore> = Arc::new(MemoryStore::default());
        let (first, _) = SavedJobs::open(store.clone()).await.unwrap();
        for index in 0..250 {
            first.save("q", JobId(1), SHAPE, stage(index));
        }
        written(&first).await;
        assert_eq!(stages::sizes(store.as_ref()).await.len(), 250);
        let (second, _) = SavedJobs::open(store.clone()).await.unwrap();
        second.save("r", JobId(2), SHAPE, stage(0));
        second.expire();
        written(&second).await;
        assert_eq!(stages::sizes(store.as_ref()).await.len(), 1);
    }
}
