//! Results that wait to be read.

use crate::errors::QueryError;
use crate::statement::{Execution, Finished, Rows};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use windlass_core::ids::JobId;

#[derive(Clone, Debug)]
pub struct KeptConfig {
    /// A result that nobody reads for this long goes. Default 5 min.
    pub unread: Duration,
    /// Results at a time. Default 10,000.
    pub max_results: usize,
    /// Up to this many bytes, a result is read from the primary. Default 4 MiB.
    pub small_bytes: u64,
    /// Large results are read from the executors that hold them. When executors are out of the clients' reach, false saves them the
    /// try. Default true.
    pub from_executors: bool,
}

impl Default for KeptConfig {
    fn default() -> Self {
        Self { unread: Duration::from_secs(300), max_results: 10_000, small_bytes: 4 << 20, from_executors: true }
    }
}

/// The results of statements between GetFlightInfo and the end of DoGet. Executors keep their parts of a result for as long.
#[derive(Debug)]
pub struct Kept {
    pub config: KeptConfig,
    results: Mutex<BTreeMap<String, Result>>,
    /// When the last one was added.
    added: Mutex<Instant>,
    /// Told when one goes.
    gone: Notify,
}

#[derive(Debug)]
struct Result {
    execution: Arc<Execution>,
    expires: Instant,
    /// Parts of the result that were not read from here yet.
    unread: BTreeSet<usize>,
    reading: usize,
}

impl Kept {
    pub fn new(config: KeptConfig) -> Arc<Self> {
        Arc::new(Self { config, results: Mutex::default(), added: Mutex::new(Instant::now()), gone: Notify::new() })
    }

    /// Keeps a result of `parts` separately read parts, and names it.
    pub(super) fn put(&self, mut execution: Execution, parts: usize) -> std::result::Result<String, QueryError> {
        let mut results = self.results.lock();
        if results.len() >= self.config.max_results {
            return Err(QueryError::Exhausted(format!(
                "{} results wait to be read; read or cancel some",
                results.len()
            )));
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        let expires = Instant::now() + self.config.unread;
        *self.added.lock() = Instant::now();
        execution.is_over();
        let result = Result { execution: Arc::new(execution), expires, unread: (0..parts).collect(), reading: 0 };
        results.insert(id.clone(), result);
        Ok(id)
    }

    /// Waits until all results were read, or were there for `long` without being read.
    pub async fn settled(&self, long: Duration) {
        let until = *self.added.lock() + long;
        let empty = async {
            loop {
                let gone = self.gone.notified();
                if self.is_empty() {
                    return;
                }
                gone.await;
            }
        };
        // What nobody reads does not hold up whoever waits.
        let _ = tokio::time::timeout_at(until.into(), empty).await;
    }

    /// Begins to read a part. The guard, dropped after [`Reading::done`], lets the result go when this was the last part.
    pub(super) fn read(
        self: &Arc<Self>,
        id: &str,
        part: usize,
    ) -> std::result::Result<(Arc<Execution>, Reading), QueryError> {
        let mut results = self.results.lock();
        let result = results.get_mut(id).ok_or_else(|| {
            QueryError::NotFound(
                "the result was read already, or its time is over: run the statement again".to_string(),
            )
        })?;
        result.reading += 1;
        let reading = Reading { kept: Arc::clone(self), id: id.to_string(), part, done: false };
        Ok((Arc::clone(&result.execution), reading))
    }

    /// The finished job, while its result is kept.
    pub(super) fn of_job(&self, job: JobId) -> Option<Arc<Finished>> {
        self.results.lock().values().find_map(|result| match &result.execution.rows {
            Rows::Job(finished) if finished.job == job => Some(Arc::clone(finished)),
            _ => None,
        })
    }

    /// Lets a result go unread. False: there was none.
    pub(super) fn release(&self, id: &str) -> bool {
        let released = self.results.lock().remove(id).is_some();
        self.gone.notify_waiters();
        released
    }

    /// Gives a result its whole time again, and says when that is over.
    pub(super) fn renew(&self, id: &str) -> Option<Duration> {
        let mut results = self.results.lock();
        results.get_mut(id)?.expires = Instant::now() + self.config.unread;
        Some(self.config.unread)
    }

    /// Lets go what nobody has read in time. To be called every few seconds.
    pub fn expire(&self) -> usize {
        self.expire_at(Instant::now())
    }

    fn expire_at(&self, now: Instant) -> usize {
        let mut results = self.results.lock();
        let before = results.len();
        results.retain(|_, result| result.reading > 0 || result.expires > now);
        before - results.len()
    }

    pub fn len(&self) -> usize {
        self.results.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A part that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    kept: Arc<Kept>,
    id: String,
    part: usize,
    done: bool,
}

impl Reading {
    /// All of it was handed to the client.
    pub(super) fn done(&mut self) {
        self.done = true;
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut results = self.kept.results.lock();
        let Some(result) = results.get_mut(&self.id) else { return };
        result.reading -= 1;
        // A client that broke off may try again.
        result.expires = Instant::now() + self.kept.config.unread;
        if self.done {
            result.unread.remove(&self.part);
        }
        if result.unread.is_empty() && result.reading == 0 {
            results.remove(&self.id);
            self.kept.gone.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution() -> Execution {
        Execution::empty()
    }

    #[test]
    fn a_result_goes_when_all_of_it_was_read() {
        let kept = Kept::new(KeptConfig::default());
        let id = kept.put(execution(), 2).unwrap();
        let (_, mut first) = kept.read(&id, 0).unwrap();
        first.done();
        drop(first);
        let (_, broken_off) = kept.read(&id, 1).unwrap();
        drop(broken_off);
        assert_eq!(kept.len(), 1);
        let (_, mut second) = kept.read(&id, 1).unwrap();
        second.done();
        drop(second);
        assert!(kept.is_empty());
        assert!(kept.read(&id, 0).is_err());
    }

    #[test]
    fn an_unread_result_goes_after_its_time_but_not_while_it_is_read() {
        let kept = Kept::new(KeptConfig { max_results: 1, ..KeptConfig::default() });
        let id = kept.put(execution(), 1).unwrap();
        assert!(matches!(kept.put(execution(), 1), Err(QueryError::Exhausted(_))));
        let late = Instant::now() + Duration::from_secs(301);
        let (_, reading) = kept.read(&id, 0).unwrap();
        assert_eq!(kept.expire_at(late), 0);
        drop(reading);
        assert_eq!(kept.expire_at(Instant::now()), 0);
        assert_eq!(kept.expire_at(Instant::now() + Duration::from_secs(301)), 1);
    }
}
