//! The directory of attached executors. The actor writes it; readers fetch results or show the cluster.

use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use windlass_core::ids::{AttemptId, ExecutorId, JobId};
use windlass_proto::v1;

/// An attached executor.
#[derive(Clone, Debug)]
pub struct ExecutorEntry {
    pub id: ExecutorId,
    pub register: v1::Register,
    /// Its last heartbeat.
    pub heartbeat: v1::Heartbeat,
    pub state: Standing,
    /// Attempts that hold a slot.
    pub running: u32,
    /// Heartbeats received.
    pub beats: u64,
}

/// Whether an executor gets tasks, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Live,
    /// Too many of its tasks failed.
    Excluded,
    /// It ends its tasks and then leaves.
    Draining,
    /// It hands over its data.
    Leaving,
}

impl Standing {
    /// Whether it is not about to leave.
    pub fn stays(self) -> bool {
        matches!(self, Standing::Live | Standing::Excluded)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Standing::Live => "live",
            Standing::Excluded => "excluded",
            Standing::Draining => "draining",
            Standing::Leaving => "leaving",
        })
    }
}

#[derive(Debug)]
pub struct Directory {
    executors: RwLock<BTreeMap<ExecutorId, ExecutorEntry>>,
    /// Outputs that were moved after they were written, and their present executors. An entry stays until its job has ended and the
    /// result is released.
    moved: RwLock<BTreeMap<AttemptId, ExecutorId>>,
    count: watch::Sender<usize>,
    /// Notified at each heartbeat, and when an executor leaves.
    beat: watch::Sender<()>,
    since: Instant,
}

/// How long a new leader waits for the executors of the leader before it. It is long enough for them to notice that their leader is
/// gone, even if it hangs.
const RETURN: Duration = Duration::from_secs(4);

/// Maximum gap between two returning executors: the longest pause of an executor between two tries, and a little more.
const BETWEEN: Duration = Duration::from_millis(400);

impl Default for Directory {
    fn default() -> Self {
        Directory {
            executors: RwLock::default(),
            moved: RwLock::default(),
            count: watch::Sender::new(0),
            beat: watch::Sender::new(()),
            since: Instant::now(),
        }
    }
}

impl Directory {
    /// Returns host:port of an executor's services.
    pub fn address(&self, executor: ExecutorId) -> Option<String> {
        self.executors.read().get(&executor).map(|entry| entry.register.address.clone())
    }

    pub fn entry(&self, executor: ExecutorId) -> Option<ExecutorEntry> {
        self.executors.read().get(&executor).cloned()
    }

    /// Returns the executor that holds an output at this time. `executor` held it when it was written.
    pub fn holder(&self, output: AttemptId, executor: ExecutorId) -> ExecutorId {
        self.moved.read().get(&output).copied().unwrap_or(executor)
    }

    /// Returns the present id of an executor that an earlier leader called `name`, if it has returned with its data.
    pub fn present(&self, name: ExecutorId) -> Option<ExecutorId> {
        let executors = self.executors.read();
        executors.values().find(|entry| entry.register.formerly.contains(&name.0)).map(|entry| entry.id)
    }

    /// Waits until all these executors are back.
    pub(super) async fn wait_for_return(&self, names: BTreeSet<ExecutorId>) {
        let mut count = self.count.subscribe();
        let all_are_back = count.wait_for(|_| names.iter().all(|&name| self.present(name).is_some()));
        // An executor that is not back by then has died with the leader.
        let _ = tokio::time::timeout_at(self.since + RETURN, all_are_back).await;
    }

    /// Waits, after a change of leaders, until the earlier leader's executors have returned. A plan for the first one would leave the
    /// others idle.
    pub async fn settled(&self) {
        let mut count = self.count.subscribe();
        let end = self.since + RETURN;
        let others_may_follow = || self.executors.read().values().any(|entry| !entry.register.formerly.is_empty());
        while Instant::now() < end && others_may_follow() {
            let quiet = (Instant::now() + BETWEEN).min(end);
            if tokio::time::timeout_at(quiet, count.changed()).await.is_err() {
                return;
            }
        }
    }

    /// Watches the number of attached executors.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Returns the executors, by id.
    pub fn entries(&self) -> Vec<ExecutorEntry> {
        self.executors.read().values().cloned().collect()
    }

    /// Finds an executor by its id as printed, by its bare number, or by name. Errors: no executor matches, or `wanted` is the id of
    /// one and the name of another.
    pub fn find(&self, wanted: &str) -> Result<ExecutorId, String> {
        let number = wanted.strip_prefix("executor-").unwrap_or(wanted).parse().map(ExecutorId).ok();
        let executors = self.executors.read();
        let named = executors.values().find(|entry| entry.register.name == wanted);
        match (named, number.and_then(|id| executors.get(&id))) {
            (Some(named), Some(other)) if named.id != other.id && number.is_some_and(|id| id.to_string() == wanted) => {
                Err(format!(
                    "\"{wanted}\" is the id of the executor that is named {}, and the name of another one, whose id is {}: give the \
                     number of the one that you mean, {} or {}",
                    other.register.name, named.id, other.id.0, named.id.0
                ))
            }
            (Some(entry), _) | (None, Some(entry)) => Ok(entry.id),
            (None, None) => Err(format!("there is no executor \"{wanted}\"")),
        }
    }

    pub(super) fn joined(&self, id: ExecutorId, register: v1::Register) {
        let heartbeat = v1::Heartbeat::default();
        let entry = ExecutorEntry { id, register, heartbeat, state: Standing::Live, running: 0, beats: 0 };
        let mut executors = self.executors.write();
        executors.insert(id, entry);
        let count = executors.len();
        // A waiter reads the executors while the count stays unchanged.
        drop(executors);
        self.count.send_replace(count);
    }

    pub(super) fn gone(&self, id: ExecutorId) {
        let mut executors = self.executors.write();
        executors.remove(&id);
        let count = executors.len();
        drop(executors);
        self.count.send_replace(count);
        self.beat.send_replace(());
    }

    /// Returns another attached and live process with the name of `register`. It is live if it sends something within `patience`.
    pub(super) async fn living_namesake(&self, register: &v1::Register, patience: Duration) -> Option<ExecutorEntry> {
        let is_other = |entry: &&ExecutorEntry| {
            entry.register.name == register.name && entry.register.instance != register.instance
        };
        let mut beat = self.beat.subscribe();
        let other = self.executors.read().values().find(is_other).cloned()?;
        let now = || self.entry(other.id);
        let told = beat.wait_for(|()| now().is_none_or(|entry| entry.beats > other.beats));
        // An executor that is silent for this long has died or hangs.
        let _ = tokio::time::timeout(patience, told).await;
        now().filter(|entry| entry.beats > other.beats)
    }

    pub(super) fn moved(&self, output: AttemptId, to: ExecutorId) {
        self.moved.write().insert(output, to);
    }

    pub(super) fn forget_moves(&self, job: JobId) {
        self.moved.write().extract_if(job.attempts(), |_, _| true).for_each(drop);
    }

    pub(super) fn heard(&self, id: ExecutorId, heartbeat: v1::Heartbeat) {
        if let Some(entry) = self.executors.write().get_mut(&id) {
            entry.heartbeat = heartbeat;
            entry.beats += 1;
        }
        self.beat.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::sync::Arc;

    #[test]
    fn an_id_that_is_the_name_of_another_is_refused() {
        let directory = Directory::default();
        let named = |name: &str| v1::Register { name: name.into(), ..v1::Register::default() };
        directory.joined(ExecutorId(1), named("executor-2"));
        directory.joined(ExecutorId(2), named("executor-1"));
        directory.joined(ExecutorId(3), named("executor-3"));
        directory.joined(ExecutorId(4), named("7"));
        let error = directory.find("executor-1").unwrap_err();
        assert!(error.contains("named executor-2") && error.contains("id is executor-2"), "{error}");
        assert_eq!(directory.find("1"), Ok(ExecutorId(1)));
        assert_eq!(directory.find("executor-3"), Ok(ExecutorId(3)));
        assert_eq!(directory.find("7"), Ok(ExecutorId(4)));
        assert!(directory.find("executor-7").unwrap_err().contains("no executor"));
    }

    #[tokio::test]
    async fn executors_of_the_leader_before_are_planned_with() {
        let back = |name: u64| v1::Register { formerly: vec![name], ..v1::Register::default() };
        let directory = Arc::new(Directory::default());
        directory.joined(ExecutorId(1), v1::Register::default());
        directory.settled().now_or_never().expect("nobody was there before");
        directory.joined(ExecutorId(257), back(1));
        let coming = Arc::clone(&directory);
        tokio::spawn(async move {
            for name in 2..5 {
                tokio::time::sleep(BETWEEN / 8).await;
                coming.joined(ExecutorId(256 + name), back(name));
            }
        });
        directory.settled().await;
        assert_eq!(directory.entries().len(), 5);
        let later = Directory { since: Instant::now() - RETURN, ..Directory::default() };
        later.joined(ExecutorId(257), back(1));
        later.settled().now_or_never().expect("who is not back by then has died");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn executors_come_and_go_while_others_are_waited_for() {
        let directory = Arc::new(Directory::default());
        let waiting = (0..3).map(|_| {
            let directory = Arc::clone(&directory);
            tokio::spawn(async move { directory.wait_for_return([ExecutorId(7)].into()).await })
        });
        let waiting: Vec<_> = waiting.collect();
        let coming = Arc::clone(&directory);
        let coming = tokio::task::spawn_blocking(move || {
            for id in 0..20_000 {
                coming.joined(ExecutorId(100 + id % 3), v1::Register::default());
                coming.gone(ExecutorId(100 + id % 3));
            }
            coming.joined(ExecutorId(200), v1::Register { formerly: vec![7], ..v1::Register::default() });
        });
        let all = async {
            coming.await.unwrap();
            for one in waiting {
                one.await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), all).await.expect("nobody waits for another for ever");
        assert_eq!(directory.present(ExecutorId(7)), Some(ExecutorId(200)));
    }
}
