//! The shell around the scheduling machine: one task owns it, everybody else talks to that task.
//!
//! ```text
//!   submit, cancel ──┐                                  ┌──> orders, one bounded queue for each executor
//!   executors ───────┼──> inbox ──> actor: step, step ──┼──> replies to `JobHandle`s
//!   deadlines ───────┘    (bounded)                     └──> history (from facts)
//! ```
//!
//! No timer lies between an event and its consequences. The actor never waits: an executor that does not read its orders is removed
//! from the cluster, and callers wait for room in the inbox.

mod actor;
mod directory;
pub(crate) mod dispatch;
pub mod elastic;
pub mod history;
mod plans;
pub mod results;
pub(crate) mod saved;
mod submissions;

pub use directory::{Directory, ExecutorEntry, Standing};
pub use submissions::NotCancelled;
pub(crate) use submissions::{Cancel, RunningSubmission};

use crate::clock::Clock;
use crate::driver::history::{History, JobInfo, JobState, StageRecord, Submission};
use crate::driver::saved::{Begun, BegunStage, SavedJobs};
use crate::files::{Executors, Files};
use crate::meta::{IdSource, MetaError};
use actor::{Actor, NewJob};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use submissions::Submissions;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use windlass_core::elastic::Load;
use windlass_core::event::JobError;
use windlass_core::ids::{ExecutorId, JobId};
use windlass_core::job::{Earlier, FinishedOutput, FinishedStage, MapLocation};
use windlass_core::scheduler::SchedulerConfig;
use windlass_engine::{Handover, PlannedJob};
use windlass_proto::pass::ClusterKey;
use windlass_proto::v1::executor_message::Message as FromExecutor;
use windlass_proto::{MAX_MESSAGE_BYTES, v1, version};

#[derive(Clone, Debug)]
pub struct DriverConfig {
    pub scheduler: SchedulerConfig,
    /// Interval between heartbeats of an executor. Default 2 s.
    pub heartbeat: Duration,
    /// Maximum events that wait for the machine. Callers wait when it is reached. Default 4,096.
    pub inbox: usize,
    /// Maximum orders that wait for one executor. The executor is given up when it is reached. Default 4,096.
    pub orders: usize,
    /// Maximum bytes of encoded plans that no live job uses, here and on each executor. Default 64 MiB.
    pub idle_plan_bytes: usize,
    /// Maximum ended jobs in the history. Default 1,000.
    pub history_jobs: usize,
    /// The key of the cluster, which executors receive when they join. Default: none, because all executors are in this process.
    pub key: Option<ClusterKey>,
    /// The source of the time.
    pub clock: Clock,
}

impl Default for DriverConfig {
    fn default() -> Self {
        DriverConfig {
            scheduler: SchedulerConfig { max_queued_jobs: Some(10_000), ..SchedulerConfig::default() },
            heartbeat: Duration::from_secs(2),
            inbox: 4_096,
            orders: 4_096,
            idle_plan_bytes: 64 << 20,
            history_jobs: 1_000,
            key: None,
            clock: Clock::system(),
        }
    }
}

/// A handle to the scheduling machine. Cheap to clone.
#[derive(Clone)]
pub struct Driver {
    shared: Arc<Shared>,
}

struct Shared {
    inbox: mpsc::Sender<actor::Message>,
    /// Notices that are sent by dropping something. The type is unbounded, the use is not: each handle, outcome and attachment sends
    /// one.
    dropped: mpsc::UnboundedSender<actor::Dropped>,
    ids: Arc<dyn IdSource>,
    history: Arc<History>,
    directory: Arc<Directory>,
    saved: Option<Arc<SavedJobs>>,
    files: Option<Files>,
    /// Where the executor of this process receives plans.
    handover: Arc<OnceLock<Handover>>,
    submissions: Submissions,
    config: DriverConfig,
    tasks: TaskTracker,
}

impl Driver {
    /// Starts the machine on `tasks`. It ends when `stop` is cancelled: live jobs are cancelled and executors are released. Without
    /// `saved`, jobs do not outlive it. Without `files`, executors keep no replicas.
    pub(crate) fn start(
        config: DriverConfig,
        ids: Arc<dyn IdSource>,
        saved: Option<Arc<SavedJobs>>,
        files: Option<Files>,
        stop: CancellationToken,
        tasks: &TaskTracker,
    ) -> Driver {
        let (inbox, events) = mpsc::channel(config.inbox.max(1));
        let (dropped, drops) = mpsc::unbounded_channel();
        let history = Arc::new(History::new(config.history_jobs));
        let directory = Arc::new(Directory::default());
        let handover = Arc::new(OnceLock::new());
        let actor = Actor::new(
            &config,
            history.clone(),
            directory.clone(),
            saved.clone(),
            files.clone(),
            handover.clone(),
            dropped.clone(),
        );
        tasks.spawn(actor.run(events, drops, stop));
        let tasks = tasks.clone();
        Driver {
            shared: Arc::new(Shared {
                inbox,
                dropped,
                ids,
                history,
                directory,
                saved,
                files,
                handover,
                submissions: Submissions::default(),
                config,
                tasks,
            }),
        }
    }

    /// Returns the history of ended and running jobs.
    pub fn history(&self) -> &Arc<History> {
        &self.shared.history
    }

    /// Returns the directory of attached executors and their addresses.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.shared.directory
    }

    /// Returns an id for a job whose record is kept elsewhere.
    pub(crate) fn next_job(&self) -> JobId {
        self.shared.ids.next_job()
    }

    /// Hands a job to the machine. Dropping the handle cancels the job, unless the handle was detached.
    pub async fn submit(&self, mut plan: PlannedJob, info: JobInfo) -> JobHandle {
        let shared = &self.shared;
        let begun = info.begun.clone();
        let id = begun.as_ref().map(|begun| begun.job).unwrap_or_else(|| shared.ids.next_job());
        let (reply, receiver) = oneshot::channel();
        let abandoned = Arc::new(AtomicBool::new(false));
        let handle =
            JobHandle { id, receiver, abandoned: abandoned.clone(), armed: true, dropped: shared.dropped.clone() };
        let oversized = plan.stages.iter().find(|stage| stage.bytes.len() > MAX_PLAN_BYTES);
        if let Some(stage) = oversized {
            let reason = format!(
                "the plan of one stage takes {} MiB and at most {} MiB can be sent: load literal rows from a file, or use \
                 shorter IN lists",
                stage.bytes.len() >> 20,
                MAX_PLAN_BYTES >> 20,
            );
            // The handle holds the receiver.
            let _ = reply.send(Err(JobError::Invalid { reason }));
            return handle;
        }
        if shared.handover.get().is_none() || plan.stages.len() > 1 {
            // No executor takes these plans. They are freed here, because freeing large plans takes time that the actor must not spend.
            plan.stages.iter_mut().for_each(|stage| stage.planned = None);
        }
        let mut spec = plan.spec(id, info.terms.clone());
        spec.statement = info.saved_as.as_deref().filter(|_| shared.saved.is_some()).map(Arc::from);
        if let Some(begun) = begun {
            spec.earlier = Some(self.go_on_with(&begun, &plan).await);
        }
        let spec = Arc::new(spec);
        let job = NewJob { spec, plan, info: Arc::new(info), reply, abandoned };
        // If the actor is gone, the sender of the reply is too, and `wait` returns `Stopping`.
        let _ = shared.inbox.send(actor::Message::Submit(Box::new(job))).await;
        handle
    }

    /// Returns what an earlier leader did for a statement that is sent again.
    pub(crate) async fn begun(&self, statement: &str) -> Result<Option<Begun>, MetaError> {
        match &self.shared.saved {
            Some(saved) => saved.begun(statement).await,
            None => Ok(None),
        }
    }

    /// Returns the stages of `begun` that `plan` also has. Waits first until the executors with their outputs are back, or have had
    /// time to return.
    async fn go_on_with(&self, begun: &Begun, plan: &PlannedJob) -> Earlier {
        let lineages = plan.lineages();
        let is_same = |stage: &&BegunStage| lineages.get(stage.index as usize) == Some(&stage.lineage);
        let same: Vec<&BegunStage> = begun.stages.iter().filter(is_same).collect();
        let directory = &self.shared.directory;
        let holders = same.iter().flat_map(|stage| &stage.outputs).map(|output| output.location.executor).collect();
        directory.wait_for_return(holders).await;
        let present = |output: &FinishedOutput| {
            let executor = directory.present(output.location.executor)?;
            Some(FinishedOutput { location: MapLocation { executor, ..output.location }, ..*output })
        };
        let stages = same.iter().map(|stage| FinishedStage {
            stage: stage.index,
            outputs: stage.outputs.iter().filter_map(present).collect(),
        });
        tracing::info!(job = %begun.job, stages = same.len(), "going on with a job that an earlier leader began");
        Earlier { takeovers: begun.takeovers, stages: stages.collect() }
    }

    /// Cancels a job, or a submission with its current job, and returns the state after that. A submission ends with each of its jobs,
    /// and is cancelled for good when this returns. `None`: no such job.
    ///
    /// # Errors
    /// The submission may continue.
    pub async fn cancel(&self, job: JobId, reason: &str) -> Result<Option<JobState>, NotCancelled> {
        if let Some(submission) = self.submission_of(job) {
            self.cancel_submission(submission, reason).await?;
        }
        let history = &self.shared.history;
        let at = history.job(job, |record| record.submission.as_ref().map_or(Some(job), Submission::last_job));
        // The submission's statement has been dropped; this waits until the machine knows. The job may not be in the history yet.
        if let Some(at) = at.unwrap_or(Some(job)) {
            self.cancel_job(at, reason).await;
        }
        match history.job(job, |record| (record.state, record.submission.is_some())) {
            // This primary has left the submission to the next leader.
            Some((state, true)) if !state.has_ended() => Err(NotCancelled),
            found => Ok(found.map(|(state, _)| state)),
        }
    }

    async fn cancel_job(&self, job: JobId, reason: &str) {
        let (reply, done) = oneshot::channel();
        let message = actor::Message::Cancel { job, reason: reason.to_string(), done: reply };
        if self.shared.inbox.send(message).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Waits until no attempt of the job runs. Attempts of a failed or cancelled job end after the job.
    pub async fn quiet(&self, job: JobId) {
        let (done, quiet) = oneshot::channel();
        if self.shared.inbox.send(actor::Message::Quiet { job, done }).await.is_ok() {
            let _ = quiet.await;
        }
    }

    /// Asks the machine to give an executor no further tasks, and to release it when nothing needs it.
    pub async fn drain(&self, executor: ExecutorId) {
        let _ = self.shared.inbox.send(actor::Message::Drain { executor }).await;
    }

    /// Does the same, but only after other executors also hold its replicas. Returns at once.
    pub(crate) fn decommission(&self, executor: ExecutorId) {
        let driver = self.clone();
        self.shared.tasks.spawn(async move {
            if let Some(files) = &driver.shared.files {
                files.drain(executor).await;
            }
            driver.drain(executor).await;
        });
    }

    /// Returns what the machine knows of each executor at this moment.
    pub async fn executors(&self) -> Vec<ExecutorEntry> {
        let (reply, answer) = oneshot::channel();
        if self.shared.inbox.send(actor::Message::Executors { reply }).await.is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }

    /// Returns the load of the cluster. `None`: the primary is stopping.
    pub async fn load(&self) -> Option<Load> {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.send(actor::Message::Load { reply }).await.ok()?;
        answer.await.ok()
    }

    /// Waits until `n` executors are attached.
    pub async fn wait_for_executors(&self, n: usize, timeout: Duration) -> Result<(), ExecutorsMissing> {
        let mut count = self.shared.directory.count();
        let waited = tokio::time::timeout(timeout, count.wait_for(|&joined| joined >= n)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                Err(ExecutorsMissing { joined: *self.shared.directory.count().borrow(), wanted: n, timeout })
            }
        }
    }

    /// Attaches an executor: the first step of both kinds of stream. Orders go to `orders`, and the first is `Welcome`.
    pub(crate) async fn attach(
        &self,
        register: v1::Register,
        orders: mpsc::Sender<v1::PrimaryMessage>,
    ) -> Result<Attachment, AttachError> {
        version::check("executor", &register.version).map_err(AttachError::Refused)?;
        if register.slots == 0 {
            return Err(AttachError::Refused("an executor needs at least one slot: see --slots".into()));
        }
        // A name belongs to the last executor that registered under it. Two live executors would take it from each other forever.
        let patience = self.shared.config.heartbeat * 3;
        if let Some(other) = self.shared.directory.living_namesake(&register, patience).await {
            let v1::Register { name, host, pid, address, .. } = other.register;
            return Err(AttachError::Refused(format!(
                "an executor of the name \"{name}\" is attached already, process {pid} on {host} at {address}: give each one a --name of its own"
            )));
        }
        let id = self.shared.ids.next_executor();
        let ended = Ended::default();
        let files = self.shared.files.clone();
        if let Some(files) = &files {
            // This comes before the executor can be lost.
            files.joined(id, &register);
        }
        let (reply, answer) = oneshot::channel();
        let message = actor::Message::Attach { id, register: Box::new(register), orders, ended: ended.clone(), reply };
        self.shared.inbox.send(message).await.map_err(|_| AttachError::Stopping)?;
        if let Err(reason) = answer.await.map_err(|_| AttachError::Stopping)? {
            files.inspect(|files| files.lost(id));
            return Err(AttachError::Refused(reason));
        }
        Ok(Attachment { id, ended, files, inbox: self.shared.inbox.clone(), dropped: self.shared.dropped.clone() })
    }

    /// Attaches an executor of this process. The protocol is that of the network, `Register` first; a refused registration closes the
    /// channel.
    ///
    /// Jobs of one stage leave their plans in `handover`.
    pub fn attach_local(
        &self,
        handover: &Handover,
    ) -> (mpsc::Sender<v1::ExecutorMessage>, mpsc::Receiver<v1::PrimaryMessage>) {
        let _ = self.shared.handover.set(handover.clone());
        let (to_primary, mut inbound) = mpsc::channel(LOCAL_REPORTS);
        let (orders, from_primary) = mpsc::channel(self.orders());
        let driver = self.clone();
        self.shared.tasks.spawn(async move {
            let Some(v1::ExecutorMessage { message: Some(v1::executor_message::Message::Register(register)) }) =
                inbound.recv().await
            else {
                return tracing::warn!("an executor of this process did not register");
            };
            match driver.attach(register, orders).await {
                Ok(attachment) => {
                    let inbound = tokio_stream::wrappers::ReceiverStream::new(inbound);
                    attachment.serve(inbound.map(Ok::<_, String>)).await;
                }
                Err(error) => tracing::warn!(%error, "an executor of this process was refused"),
            }
        });
        (to_primary, from_primary)
    }

    pub(crate) fn orders(&self) -> usize {
        self.shared.config.orders.max(1)
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.shared.tasks
    }
}

#[async_trait]
impl Executors for Driver {
    fn find(&self, wanted: &str) -> Result<ExecutorId, String> {
        self.shared.directory.find(wanted)
    }

    fn register(&self, id: ExecutorId) -> Option<v1::Register> {
        Some(self.shared.directory.entry(id)?.register)
    }

    async fn order(&self, executor: ExecutorId, orders: v1::BlockOrders) {
        let message = v1::primary_message::Message::Blocks(orders);
        // The order is dropped when the primary stops.
        let _ = self.shared.inbox.send(actor::Message::Tell { executor, message }).await;
    }
}

/// Maximum bytes of a plan. The rest of the message needs the remaining room.
const MAX_PLAN_BYTES: usize = MAX_MESSAGE_BYTES / 4 * 3;
/// Maximum waiting reports of an executor of this process.
const LOCAL_REPORTS: usize = 256;

#[derive(Debug, Error)]
#[error(
    "{joined} of {wanted} executors joined within {} s: start more with 'windlass executor', or see their logs",
    timeout.as_secs()
)]
pub struct ExecutorsMissing {
    pub joined: usize,
    pub wanted: usize,
    pub timeout: Duration,
}

#[derive(Debug, Error)]
pub(crate) enum AttachError {
    #[error("{0}")]
    Refused(String),
    #[error("the primary is stopping")]
    Stopping,
}

/// A job in progress. Await [`JobHandle::wait`]; drop the handle to cancel the job.
#[derive(Debug)]
pub struct JobHandle {
    pub id: JobId,
    receiver: oneshot::Receiver<Result<JobOutcome, JobError>>,
    abandoned: Arc<AtomicBool>,
    /// Whether dropping the handle cancels the job: its end was not seen and it was not detached.
    armed: bool,
    dropped: mpsc::UnboundedSender<actor::Dropped>,
}

impl JobHandle {
    /// Waits for the end of the job. Await it to completion once; before that it may be dropped and awaited again.
    pub async fn wait(&mut self) -> Result<JobOutcome, JobError> {
        let outcome = (&mut self.receiver).await;
        self.armed = false;
        outcome.unwrap_or(Err(JobError::Stopping))
    }

    /// Lets the job continue after this handle is gone. Its result is dropped when it ends.
    pub fn detach(mut self) -> JobId {
        self.armed = false;
        self.id
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        if self.armed {
            // This comes before the message, so that the actor skips a job that is still in the inbox.
            self.abandoned.store(true, Ordering::Release);
            let _ = self.dropped.send(actor::Dropped::Handle(self.id));
        }
    }
}

/// A finished job. Executors keep the result while a clone of it lives.
#[derive(Clone, Debug)]
pub struct JobOutcome {
    pub job: JobId,
    /// Sorted by partition. Tasks that a row limit made unnecessary are absent.
    pub outputs: Vec<ResultPart>,
    /// The stages, with metrics.
    pub stages: Vec<Arc<StageRecord>>,
    pub(crate) release: Arc<Release>,
}

/// The output of one task of the result stage.
#[derive(Clone, Debug)]
pub struct ResultPart {
    pub location: MapLocation,
    /// host:port of the executor's exchange and Flight services. Empty if the executor is gone.
    pub address: String,
    pub rows: u64,
    pub bytes: u64,
    /// The rows as an Arrow IPC stream, if they are few.
    pub inline: Option<Bytes>,
    /// Files that the task staged, for the primary to publish.
    pub staged: Option<Bytes>,
}

/// Frees the result of a job when it is dropped.
#[derive(Debug)]
pub(crate) struct Release {
    job: JobId,
    dropped: mpsc::UnboundedSender<actor::Dropped>,
}

impl Drop for Release {
    fn drop(&mut self) {
        let _ = self.dropped.send(actor::Dropped::Result(self.job));
    }
}

/// Signals once that the primary gave an executor up, and why.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    token: CancellationToken,
    reason: Arc<OnceLock<String>>,
}

impl Ended {
    fn end(&self, reason: &str) {
        let _ = self.reason.set(reason.to_string());
        self.token.cancel();
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }
}

/// An attached executor. Dropping it tells the machine that the executor is gone.
pub(crate) struct Attachment {
    pub(crate) id: ExecutorId,
    ended: Ended,
    files: Option<Files>,
    inbox: mpsc::Sender<actor::Message>,
    dropped: mpsc::UnboundedSender<actor::Dropped>,
}

impl Attachment {
    pub(crate) fn ended(&self) -> Ended {
        self.ended.clone()
    }

    /// Carries the executor's messages to the machine, until its stream ends or the primary gives it up.
    pub(crate) async fn serve<E: std::fmt::Display>(
        self,
        mut inbound: impl Stream<Item = Result<v1::ExecutorMessage, E>> + Unpin,
    ) {
        let reason = loop {
            let message = tokio::select! {
                () = self.ended.token.cancelled() => return,
                message = inbound.next() => message,
            };
            let message = match message {
                None => break "its stream ended".to_string(),
                Some(Err(error)) => break format!("its stream failed: {error}"),
                Some(Ok(v1::ExecutorMessage { message: None })) => continue,
                Some(Ok(v1::ExecutorMessage { message: Some(FromExecutor::Blocks(report)) })) => {
                    if let Some(files) = &self.files {
                        files.reported(self.id, report).await;
                    }
                    continue;
                }
                Some(Ok(v1::ExecutorMessage { message: Some(message) })) => message,
            };
            if self.inbox.send(actor::Message::Heard { executor: self.id, message }).await.is_err() {
                return;
            }
        };
        let _ = self.dropped.send(actor::Dropped::Attachment(self.id, reason));
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // Only the first reason counts.
        let _ = self.dropped.send(actor::Dropped::Attachment(self.id, "its stream was closed".into()));
    }
}

#[cfg(test)]
mod tests;
