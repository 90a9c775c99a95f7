//! The store of a cluster with several primaries: etcd.
//!
//! All keys are under one prefix. The leader holds the key `leader` with a lease. That key's creation revision is the epoch, and every
//! commit requires that the key still exists. So a leader that was paused or cut off can change nothing after another one leads.
//!
//! A commit whose answer is lost may or may not have happened. Commits of one primary are sequential, and each writes a unique id under
//! `commit` and expects the previous id there. So a transaction can be retried: it happens once, and an earlier try that is still in
//! flight cannot happen later.

use super::{Entry, Expectation, Leader, MetaError, MetaStore, Term, Transaction};
use crate::clock::Ids;
use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, Error, EventType, GetOptions, KeyValue, PutOptions, Txn, TxnOp,
    TxnOpResponse, TxnResponse, WatchOptions,
};
use parking_lot::Mutex;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::Code;

const LEADER: &str = "leader";
const COMMIT: &str = "commit";
/// Entries in one read.
const PAGE: i64 = 256;
/// Pause between tries while etcd does not answer.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
pub struct EtcdConfig {
    /// `http://host:port`, or `host:port`, of each member.
    pub endpoints: Vec<String>,
    /// Name of the cluster. Clusters with different names share an etcd without seeing one another.
    pub cluster: String,
    /// How long a silent leader still leads. Whole seconds, at least 2, because etcd has no other leases.
    pub lease: Duration,
}

/// An etcd that this primary shares with others. Nothing is written before [`MetaStore::lead`].
pub struct EtcdStore {
    client: Client,
    prefix: String,
    /// The name in errors.
    name: String,
    lease: Duration,
    term: Mutex<Option<Held>>,
    /// Held during a commit. The revision of the last one.
    committing: tokio::sync::Mutex<i64>,
    /// Renewals and revocations of leases. Each ends at the latest with its lease.
    tasks: TaskTracker,
    /// Creates the ids of commits.
    ids: Ids,
}

/// The present term of this primary.
struct Held {
    epoch: i64,
    /// Cancelled when the term is lost, which is when the lease may have ended.
    lost: CancellationToken,
    resign: CancellationToken,
    renewing: tokio::task::JoinHandle<()>,
    _resign_on_drop: DropGuard,
}

impl std::fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdStore").field("name", &self.name).finish_non_exhaustive()
    }
}

impl EtcdStore {
    /// Connects, and checks that etcd answers.
    pub async fn connect(config: &EtcdConfig) -> Result<Self, MetaError> {
        let name = format!("etcd at {}", config.endpoints.join(", "));
        let failed = |reason: String| MetaError::Store { store: name.clone(), action: "reached", reason };
        if config.cluster.is_empty() || config.cluster.contains('/') {
            return Err(failed(format!(
                "\"{}\" is no name for a cluster: it must not be empty or have a /",
                config.cluster
            )));
        }
        let lease = Duration::from_secs((config.lease.as_secs_f64().ceil() as u64).max(2));
        let options = ConnectOptions::new()
            .with_connect_timeout(lease / 2)
            .with_timeout(lease)
            .with_keep_alive(lease / 3, lease / 3)
            .with_keep_alive_while_idle(true);
        let client = Client::connect(&config.endpoints, Some(options)).await.map_err(|e| failed(reason(&e)))?;
        let prefix = format!("windlass/{}/", config.cluster);
        let committing = tokio::sync::Mutex::new(0);
        let (tasks, ids) = (TaskTracker::new(), Ids::random());
        let store = Self { client, prefix, name, lease, term: Mutex::default(), committing, tasks, ids };
        match store.leader().await {
            Err(MetaError::Store { reason, .. }) => {
                Err(MetaError::Store { store: store.name, action: "reached", reason })
            }
            answer => answer.map(|_| store),
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn failed(&self, action: &'static str, error: &Error) -> MetaError {
        MetaError::Store { store: self.name.clone(), action, reason: reason(error) }
    }

    /// Retries for the length of a lease: an etcd that elects its own leader answers within that time.
    async fn patiently<T, F>(&self, action: &'static str, mut call: impl FnMut(Client) -> F) -> Result<T, MetaError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let until = Instant::now() + self.lease;
        loop {
            match call(self.client.clone()).await {
                Err(error) if passes(&error) && Instant::now() < until => tokio::time::sleep(PAUSE).await,
                answer => return answer.map_err(|error| self.failed(action, &error)),
            }
        }
    }

    async fn entry(&self, key: &str) -> Result<Option<KeyValue>, MetaError> {
        let key = self.key(key);
        let mut answer = self
            .patiently("read", |mut client| {
                let key = key.clone();
                async move { client.get(key, None).await }
            })
            .await?;
        Ok(answer.take_kvs().into_iter().next())
    }

    fn epoch(&self) -> Option<i64> {
        self.term.lock().as_ref().filter(|held| !held.lost.is_cancelled()).map(|held| held.epoch)
    }

    /// Returns the error of a failed commit. It says that nothing was changed only if that is known.
    async fn ousted(&self, open: Option<Error>) -> MetaError {
        match open {
            None => self.not_leading().await,
            Some(error) => MetaError::Unknown { store: self.name.clone(), reason: reason(&error) },
        }
    }

    async fn not_leading(&self) -> MetaError {
        let successor = match self.leader().await {
            Ok(Some(leader)) => format!("the leader is {}", leader.url),
            _ => "nobody leads at the moment".to_string(),
        };
        MetaError::NotLeading { successor }
    }

    /// Encodes the transaction for etcd. If an expectation does not hold, the answer says what the store has.
    fn encode(&self, transaction: &Transaction, epoch: i64, last: i64, id: &str) -> Txn {
        let mut compares = vec![
            Compare::create_revision(self.key(LEADER), CompareOp::Equal, epoch),
            Compare::mod_revision(self.key(COMMIT), CompareOp::Equal, last),
        ];
        let mut reads = vec![TxnOp::get(self.key(LEADER), None), TxnOp::get(self.key(COMMIT), None)];
        for (key, expectation) in &transaction.expectations {
            // A missing entry has revision 0.
            let revision = match expectation {
                Expectation::Absent => 0,
                Expectation::Revision(revision) => *revision as i64,
            };
            compares.push(Compare::mod_revision(self.key(key), CompareOp::Equal, revision));
            reads.push(TxnOp::get(self.key(key), Some(GetOptions::new().with_keys_only())));
        }
        let writes = transaction.writes.iter().map(|(key, value)| match value {
            Some(value) => TxnOp::put(self.key(key), value.to_vec(), None),
            None => TxnOp::delete(self.key(key), None),
        });
        let mut writes: Vec<TxnOp> = writes.collect();
        writes.push(TxnOp::put(self.key(COMMIT), id, None));
        Txn::new().when(compares).and_then(writes).or_else(reads)
    }

    /// Leads if no primary does.
    async fn try_to_lead(&self, leader: &Leader) -> Result<Option<Term>, MetaError> {
        if self.entry(LEADER).await?.is_some() {
            return Ok(None);
        }
        let seconds = self.lease.as_secs() as i64;
        let granted_at = Instant::now();
        let lease =
            self.patiently("written", |mut client| async move { client.lease_grant(seconds, None).await }).await?.id();
        // Revokes the lease, and with it the key, unless it becomes a term.
        let mut unused =
            Revoke { unused: Some((self.client.clone(), lease)), length: self.lease, tasks: self.tasks.clone() };
        // A leader's record consists of strings, so it can be written as JSON.
        let value = serde_json::to_vec(leader).expect("a leader can be written as JSON");
        let put = TxnOp::put(self.key(LEADER), value, Some(PutOptions::new().with_lease(lease)));
        let free = Compare::create_revision(self.key(LEADER), CompareOp::Equal, 0);
        let txn = Txn::new().when([free]).and_then([put, TxnOp::get(self.key(COMMIT), None)]);
        // This is not retried. If it happened and the answer is lost, the lease of this try expires.
        let answer = self.client.clone().txn(txn).await.map_err(|error| self.failed("written", &error))?;
        let (true, Some(epoch)) = (answer.succeeded(), answer.header().map(|header| header.revision())) else {
            return Ok(None);
        };
        let last = answer.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(found) => found.kvs().first().map(KeyValue::mod_revision),
            _ => None,
        });
        *self.committing.lock().await = last.unwrap_or(0);
        unused.unused = None;
        let (lost, resign) = (CancellationToken::new(), CancellationToken::new());
        let renewing = Renewing {
            client: self.client.clone(),
            lease,
            length: self.lease,
            until: granted_at + self.lease,
            lost: lost.clone(),
            resign: resign.clone(),
        };
        let renewing = self.tasks.spawn(renewing.run());
        let _resign_on_drop = resign.clone().drop_guard();
        *self.term.lock() = Some(Held { epoch, lost: lost.clone(), resign, renewing, _resign_on_drop });
        Ok(Some(Term { epoch: epoch as u64, lost }))
    }

    /// Waits until the leader's key is gone, or long enough to look again, in case the watch missed it.
    async fn until_vacant(&self) {
        let vacant = async {
            let mut client = self.client.clone();
            let mut watch = client.watch(self.key(LEADER), Some(WatchOptions::new().with_prev_key())).await?;
            // The key may have gone before the watch began.
            if client.get(self.key(LEADER), None).await?.kvs().is_empty() {
                return Ok(());
            }
            while let Some(message) = watch.message().await? {
                if message.canceled() || message.events().iter().any(|event| event.event_type() == EventType::Delete) {
                    break;
                }
            }
            Ok::<_, Error>(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(self.lease, vacant).await {
            tracing::debug!(reason = reason(&error), "the leader's key cannot be watched");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[async_trait]
impl MetaStore for EtcdStore {
    async fn lead(&self, leader: &Leader) -> Result<Term, MetaError> {
        self.resign().await;
        let mut complained = false;
        loop {
            match self.try_to_lead(leader).await {
                Ok(Some(term)) => return Ok(term),
                Ok(None) => self.until_vacant().await,
                Err(error) => {
                    // An etcd that is away comes back, and a primary must lead then.
                    if !std::mem::replace(&mut complained, true) {
                        tracing::warn!(%error, "cannot stand for leader, trying again");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn leader(&self) -> Result<Option<Leader>, MetaError> {
        let Some(entry) = self.entry(LEADER).await? else { return Ok(None) };
        let corrupt =
            |error: serde_json::Error| MetaError::Corrupt { key: self.key(LEADER), reason: error.to_string() };
        serde_json::from_slice(entry.value()).map(Some).map_err(corrupt)
    }

    async fn resign(&self) {
        let held = self.term.lock().take();
        if let Some(Held { resign, renewing, .. }) = held {
            resign.cancel();
            // It ends at the latest when the lease does.
            let _ = renewing.await;
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, MetaError> {
        Ok(self.entry(key).await?.map(|entry| decode(&entry)))
    }

    async fn range(&self, prefix: &str) -> Result<Vec<(String, Entry)>, MetaError> {
        let (first, end) = (self.key(prefix), end_of(&self.key(prefix)));
        'again: loop {
            let (mut found, mut from, mut revision) = (Vec::new(), first.clone().into_bytes(), 0);
            loop {
                // All pages are of one revision.
                let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE).with_revision(revision);
                let page = self
                    .patiently("read", |client| {
                        let (from, options) = (from.clone(), options.clone());
                        let mut client = client.kv_client().max_decoding_message_size(usize::MAX);
                        async move {
                            match client.get(from, Some(options)).await {
                                Err(Error::GRpcStatus(status)) if status.code() == Code::OutOfRange => Ok(None),
                                answer => answer.map(Some),
                            }
                        }
                    })
                    .await?;
                // Compaction has removed that revision.
                let Some(page) = page else { continue 'again };
                revision = page.header().map_or(0, |header| header.revision()).max(revision);
                for entry in page.kvs() {
                    let key = String::from_utf8_lossy(entry.key());
                    found.push((key.strip_prefix(&self.prefix).unwrap_or(&key).to_string(), decode(entry)));
                }
                match page.kvs().last() {
                    Some(last) if page.more() => from = [last.key(), &[0]].concat(),
                    _ => return Ok(found),
                }
            }
        }
    }

    async fn commit(&self, transaction: Transaction) -> Result<(), MetaError> {
        let mut last = self.committing.lock().await;
        let id = self.ids.name();
        let until = Instant::now() + self.lease;
        // The error of an earlier try whose answer was lost.
        let mut open: Option<Error> = None;
        loop {
            let Some(epoch) = self.epoch() else { return Err(self.ousted(open).await) };
            let txn = self.encode(&transaction, epoch, *last, &id);
            let answer = match self.client.clone().txn(txn).await {
                Ok(answer) => answer,
                Err(error) if passes(&error) => {
                    open = Some(error);
                    if Instant::now() >= until {
                        return Err(self.ousted(open).await);
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(self.failed("written", &error)),
            };
            if answer.succeeded() {
                *last = answer.header().map_or(0, |header| header.revision());
                return Ok(());
            }
            match self.refusal(&transaction, &answer, epoch, *last, &id) {
                Refusal::NotLeading => return Err(self.ousted(open).await),
                Refusal::Conflict(key) => return Err(MetaError::Conflict { key }),
                Refusal::Happened(revision) => {
                    *last = revision;
                    return Ok(());
                }
                // A commit whose caller left has happened after all.
                Refusal::Behind(revision) => *last = revision,
            }
        }
    }
}

/// Why etcd refused a transaction.
enum Refusal {
    NotLeading,
    /// An earlier try did it.
    Happened(i64),
    Behind(i64),
    Conflict(String),
}

impl EtcdStore {
    fn refusal(&self, transaction: &Transaction, answer: &TxnResponse, epoch: i64, last: i64, id: &str) -> Refusal {
        let reads = answer.op_responses();
        let mut entries = reads.iter().map(|response| match response {
            TxnOpResponse::Get(found) => found.kvs().first(),
            _ => None,
        });
        let leads = entries.next().flatten().is_some_and(|leader| leader.create_revision() == epoch);
        let committed = entries.next().flatten();
        match committed {
            Some(entry) if entry.value() == id.as_bytes() => return Refusal::Happened(entry.mod_revision()),
            _ if !leads => return Refusal::NotLeading,
            Some(entry) if entry.mod_revision() != last => return Refusal::Behind(entry.mod_revision()),
            None if last != 0 => return Refusal::Behind(0),
            _ => {}
        }
        let violated = transaction
            .expectations
            .iter()
            .zip(entries)
            .find(|((_, expectation), entry)| !expectation.holds(entry.map(|entry| entry.mod_revision() as u64)));
        let key = violated.map_or_else(String::new, |((key, _), _)| key.clone());
        Refusal::Conflict(key)
    }
}

/// Renews a lease three times in its length.
struct Renewing {
    client: Client,
    lease: i64,
    length: Duration,
    /// The earliest end of the lease: etcd counts from when it received the last renewal, and this from when it was sent.
    until: Instant,
    lost: CancellationToken,
    resign: CancellationToken,
}

impl Renewing {
    async fn run(mut self) {
        let resign = self.resign.clone();
        tokio::select! {
            () = resign.cancelled() => {}
            () = self.renew() => {
                tracing::warn!("the lease of the leader has run out");
                self.lost.cancel();
                return;
            }
        }
        self.lost.cancel();
        let revoked = self.client.lease_revoke(self.lease);
        // Otherwise the lease expires.
        let _ = tokio::time::timeout_at(self.until, revoked).await;
    }

    /// Renews until the lease has expired, or may have.
    async fn renew(&mut self) {
        loop {
            let sent = Instant::now();
            let renewed = tokio::time::timeout_at(self.until, self.client.lease_keep_alive(self.lease)).await;
            match renewed {
                Err(_) => return,
                Ok(Ok((mut keeper, mut answers))) => {
                    self.until = sent + self.length;
                    if self.keep(&mut keeper, &mut answers).await {
                        return;
                    }
                }
                Ok(Err(Error::LeaseKeepAliveError(_))) => return,
                Ok(Err(error)) => {
                    tracing::warn!(reason = reason(&error), "the leader's lease is not renewed, trying again");
                    tokio::time::sleep_until(self.until.min(Instant::now() + PAUSE)).await;
                    if Instant::now() >= self.until {
                        return;
                    }
                }
            }
        }
    }

    /// Renews over one stream until it breaks. True: the lease has expired.
    async fn keep(
        &mut self,
        keeper: &mut etcd_client::LeaseKeeper,
        answers: &mut etcd_client::LeaseKeepAliveStream,
    ) -> bool {
        loop {
            tokio::time::sleep(self.length / 3).await;
            let sent = Instant::now();
            if sent >= self.until {
                return true;
            }
            let renewed = async {
                keeper.keep_alive().await?;
                answers.message().await
            };
            match tokio::time::timeout_at(self.until, renewed).await {
                Err(_) => return true,
                Ok(Ok(Some(answer))) if answer.ttl() > 0 => self.until = sent + self.length,
                Ok(Ok(Some(_))) => return true,
                Ok(Ok(None) | Err(_)) => return false,
            }
        }
    }
}

/// Revokes a lease that did not become a term.
struct Revoke {
    unused: Option<(Client, i64)>,
    length: Duration,
    tasks: TaskTracker,
}

impl Drop for Revoke {
    fn drop(&mut self) {
        if let Some((mut client, lease)) = self.unused.take() {
            let length = self.length;
            // If it fails, the lease expires.
            self.tasks.spawn(async move { tokio::time::timeout(length, client.lease_revoke(lease)).await });
        }
    }
}

fn decode(entry: &KeyValue) -> Entry {
    Entry { revision: entry.mod_revision() as u64, value: Bytes::copy_from_slice(entry.value()) }
}

/// Returns the first key after all that begin with `prefix`, which ends with an ASCII character.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// Whether a retry may succeed a moment later.
fn passes(error: &Error) -> bool {
    match error {
        Error::GRpcStatus(status) => {
            use Code::{Aborted, Cancelled, DeadlineExceeded, Internal, Unavailable, Unknown};
            matches!(status.code(), Unavailable | DeadlineExceeded | Cancelled | Unknown | Internal | Aborted)
        }
        Error::TransportError(_) | Error::IoError(_) => true,
        _ => false,
    }
}

fn reason(error: &Error) -> String {
    match error {
        Error::GRpcStatus(status) => windlass_proto::describe(status),
        Error::TransportError(error) => windlass_proto::describe(error),
        error => error.to_string(),
    }
}
