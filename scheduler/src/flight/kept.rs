//! Results that wait to be read.

use crate::errors::QueryError;
use crate::statements::sessions::{Session, Sessions};
use crate::statements::{Execution, Finished, Rows};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use windlass_core::ids::JobId;

#[derive(Clone, Debug)]
pub struct KeptConfig {
    /// A result that nobody reads for this long goes. Default 5 min.
    pub unread: Duration,
    /// The same when its client has gone, or has broken off reading: it may try again. Default 10 s.
    pub broken_off: Duration,
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
        Self {
            unread: Duration::from_secs(300),
            broken_off: Duration::from_secs(10),
            max_results: 10_000,
            small_bytes: 4 << 20,
            from_executors: true,
        }
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

/// Who was told where a result is: it goes with the session, and soon after the connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    pub session: Weak<Session>,
    /// `None`: a client of this process, or one that asked for the result to be kept.
    pub connection: Option<u64>,
}

#[derive(Debug)]
struct Result {
    execution: Arc<Execution>,
    client: Client,
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
    pub(super) fn put(
        &self,
        mut execution: Execution,
        parts: usize,
        client: Client,
    ) -> std::result::Result<String, QueryError> {
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
        let unread = (0..parts).collect();
        let result = Result { execution: Arc::new(execution), client, expires, unread, reading: 0 };
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

    /// Gives a result its whole time again, whether or not its client stays, and says when that is over.
    pub(super) fn renew(&self, id: &str) -> Option<Duration> {
        let mut results = self.results.lock();
        let result = results.get_mut(id)?;
        result.client.connection = None;
        result.expires = Instant::now() + self.config.unread;
        Some(self.config.unread)
    }

    /// Lets go what nobody has read in time, and what nobody will read. To be called every few seconds.
    pub fn expire(&self, sessions: &Sessions) -> usize {
        self.expire_at(Instant::now(), |connection| sessions.is_connected(connection))
    }

    fn expire_at(&self, now: Instant, is_connected: impl Fn(u64) -> bool) -> usize {
        let mut results = self.results.lock();
        let before = results.len();
        results.retain(|_, result| {
            if result.client.connection.is_some_and(|connection| !is_connected(connection)) {
                result.expires = result.expires.min(now + self.config.broken_off);
            }
            let session_ended = result.client.session.strong_count() == 0;
            result.reading > 0 || result.expires > now && !session_ended
        });
        let gone = before - results.len();
        if gone > 0 {
            self.gone.notify_waiters();
        }
        gone
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
        let config = &self.kept.config;
        result.expires = Instant::now() + if self.done { config.unread } else { config.broken_off };
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
    use crate::statements::tests::Bench;

    fn execution() -> Execution {
        Execution::empty()
    }

    const CONNECTION: u64 = 7;

    fn client(bench: &Bench) -> Client {
        Client { session: Arc::downgrade(&bench.session), connection: Some(CONNECTION) }
    }

    #[tokio::test]
    async fn a_result_goes_when_all_of_it_was_read() {
        let (kept, bench) = (Kept::new(KeptConfig::default()), Bench::new().await);
        let id = kept.put(execution(), 2, client(&bench)).unwrap();
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

    #[tokio::test]
    async fn an_unread_result_goes_after_its_time_but_not_while_it_is_read() {
        let kept = Kept::new(KeptConfig { max_results: 1, ..KeptConfig::default() });
        let bench = Bench::new().await;
        let id = kept.put(execution(), 1, client(&bench)).unwrap();
        assert!(matches!(kept.put(execution(), 1, client(&bench)), Err(QueryError::Exhausted(_))));
        let late = || Instant::now() + Duration::from_secs(301);
        let (_, mut reading) = kept.read(&id, 0).unwrap();
        assert_eq!(kept.expire_at(late(), |_| true), 0);
        reading.part = 1;
        reading.done();
        drop(reading);
        assert_eq!(kept.expire_at(Instant::now() + Duration::from_secs(299), |_| true), 0);
        assert_eq!(kept.expire_at(late(), |_| true), 1);
    }

    #[tokio::test]
    async fn who_breaks_off_may_try_again_for_a_while() {
        let (kept, bench) = (Kept::new(KeptConfig::default()), Bench::new().await);
        let id = kept.put(execution(), 1, client(&bench)).unwrap();
        drop(kept.read(&id, 0).unwrap());
        assert_eq!(kept.expire_at(Instant::now() + Duration::from_secs(9), |_| true), 0);
        assert_eq!(kept.expire_at(Instant::now() + Duration::from_secs(11), |_| true), 1);
    }

    #[tokio::test]
    async fn a_result_goes_soon_after_its_connection_unless_its_client_renewed_it() {
        let (kept, bench) = (Kept::new(KeptConfig::default()), Bench::new().await);
        let ids = [(); 2].map(|()| kept.put(execution(), 1, client(&bench)).unwrap());
        kept.renew(&ids[0]).unwrap();
        let now = Instant::now();
        let has = |connection| connection != CONNECTION;
        assert_eq!(kept.expire_at(now, has), 0);
        assert_eq!(kept.expire_at(now + Duration::from_secs(5), has), 0);
        assert_eq!(kept.expire_at(now + Duration::from_secs(10), has), 1);
        assert!(kept.read(&ids[0], 0).is_ok());
    }

    #[tokio::test]
    async fn a_result_goes_with_its_session() {
        let (kept, bench) = (Kept::new(KeptConfig::default()), Bench::new().await);
        let of_another = Client { session: Weak::new(), connection: None };
        kept.put(execution(), 1, client(&bench)).unwrap();
        kept.put(execution(), 1, of_another).unwrap();
        assert_eq!(kept.expire_at(Instant::now(), |_| true), 1);
        assert_eq!(kept.len(), 1);
    }
}
