//! Runs: statements that do not depend on their callers.
//!
//! ```text
//!             ┌──> finished ──(all rows were read, or nobody reads them for a while)──┐
//!   running ──┼──> failed ─────(its time is over)───────────────────────────────────┼──> gone
//!             └──> cancelled ──(its time is over)───────────────────────────────────┘
//!      └──(its caller, who waited for it, has left)──> cancelled and gone
//! ```
//!
//! A run is started in a session and lives beside it. Its starter may wait for it ([`Runs::attach`]), or leave and ask for it later
//! ([`Runs::start`]). Rows of a result are read as a stream, part by part or page by page. Executors keep their parts of a result as
//! long as the run does.

mod reading;
#[cfg(test)]
mod tests;

pub use reading::{Page, Reading};

use super::jobs::{JobState, Jobs, ProgressView};
use super::sessions::Sessions;
use crate::clock::{Clock, Ids};
use crate::errors::QueryError;
use crate::statements::sessions::Session;
use crate::statements::{Execution, Info, Parameters, Rows, Statements};
use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use windlass_core::access::Principal;
use windlass_core::ids::JobId;
use windlass_proto::pass::KeyRing;

#[derive(Clone, Debug)]
pub struct RunsConfig {
    /// How long an ended run stays after it was last asked for. Default 5 min.
    pub unread: Duration,
    /// The same if its client is gone or has stopped reading midway, because it may try again. Default 10 s.
    pub broken_off: Duration,
    /// Maximum ended runs whose results are kept. Default 10,000.
    pub max_results: usize,
    /// Maximum bytes of a result that is read from the primary. Default 4 MiB.
    pub small_bytes: u64,
    /// Whether clients read large results from the executors that hold them. If clients cannot reach executors, false saves them the
    /// attempt. Default true.
    pub from_executors: bool,
}

impl Default for RunsConfig {
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

/// The name of a run, which gives access to its rows. It cannot be guessed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(Arc<str>);

impl RunId {
    fn new(ids: &Ids) -> Self {
        RunId(ids.name().into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RunId {
    fn from(id: &str) -> Self {
        RunId(id.into())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A statement to run.
#[derive(Clone, Debug)]
pub enum Ask {
    /// One statement, with the values of its parameters.
    Sql { text: String, parameters: Option<Parameters> },
    /// One statement that writes, once for each row of parameters.
    Many { text: String, rows: Vec<Parameters> },
    /// A plan that a client built, encoded by [`windlass_engine::logical::encode`].
    Plan(Bytes),
}

impl Ask {
    pub fn sql(text: impl Into<String>) -> Self {
        Ask::Sql { text: text.into(), parameters: None }
    }

    fn text(&self) -> &str {
        match self {
            Ask::Sql { text, .. } | Ask::Many { text, .. } => text,
            Ask::Plan(_) => "a plan",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    Running,
    Finished,
    Failed,
    Cancelled,
}

impl RunState {
    pub fn has_ended(self) -> bool {
        self != RunState::Running
    }
}

/// The state of a run at one moment.
#[derive(Clone, Debug)]
pub struct RunView {
    pub id: RunId,
    /// The session that it runs in.
    pub session: String,
    pub user: String,
    /// The statement. Long ones are cut.
    pub statement: String,
    pub state: RunState,
    /// Its latest job, once there is one.
    pub job: Option<JobId>,
    /// The progress of that job.
    pub progress: Option<ProgressView>,
    /// Why it failed or was cancelled.
    pub error: Option<QueryError>,
    /// Present if it has finished.
    pub result: Option<ResultView>,
    /// Milliseconds since 1970-01-01T00:00:00Z, as is `ended_ms`.
    pub started_ms: u64,
    pub ended_ms: Option<u64>,
}

/// The result of a finished run.
#[derive(Clone, Debug)]
pub struct ResultView {
    pub schema: SchemaRef,
    pub rows: u64,
    pub bytes: u64,
    /// Rows that the statement wrote.
    pub affected: Option<u64>,
}

/// The runs of a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Runs {
    shared: Arc<Shared>,
}

struct Shared {
    config: RunsConfig,
    statements: Statements,
    jobs: Jobs,
    /// Signs passes for results that clients read from executors.
    keys: KeyRing,
    runs: Mutex<BTreeMap<RunId, Run>>,
    /// When the last result was kept.
    kept: Mutex<Instant>,
    /// Notified when a run is removed.
    gone: Notify,
}

struct Run {
    by: Principal,
    session: Weak<Session>,
    session_id: String,
    statement: String,
    /// The name under which its progress is found.
    query: String,
    job: Option<JobId>,
    cancel: CancellationToken,
    ended: watch::Sender<bool>,
    stage: Stage,
    /// The connection whose end is followed soon by the end of the run. `None`: the client is in this process, or asked for the result
    /// to be kept.
    connection: Option<u64>,
    /// Whether its caller waits, and will keep or drop the result.
    attached: bool,
    expires: Instant,
    started_ms: u64,
    ended_ms: Option<u64>,
}

enum Stage {
    Running,
    Finished(Held),
    Failed(QueryError),
    Cancelled(QueryError),
}

struct Held {
    execution: Arc<Execution>,
    /// Parts that were not read from here yet.
    unread: BTreeSet<usize>,
    reading: usize,
}

/// Maximum characters of a statement that a run shows.
const SHOWN: usize = 4_096;

impl Runs {
    pub(crate) fn new(config: RunsConfig, statements: Statements, jobs: Jobs, keys: KeyRing) -> Self {
        let (runs, gone, kept) = (Mutex::default(), Notify::new(), Mutex::new(statements.catalog().clock().now()));
        Runs { shared: Arc::new(Shared { config, statements, jobs, keys, runs, kept, gone }) }
    }

    pub fn config(&self) -> &RunsConfig {
        &self.shared.config
    }

    /// Starts a statement that continues after its caller leaves.
    ///
    /// # Errors
    /// Too many results are kept already.
    pub fn start(&self, by: &Principal, session: &Arc<Session>, ask: Ask, info: Info) -> Result<RunId, QueryError> {
        self.has_room()?;
        Ok(self.begin(by, session, ask, info, None, false))
    }

    /// Starts a statement that its caller waits for. Dropping the returned value cancels it. `connection`: the connection of the
    /// request, if any.
    pub fn attach(
        &self,
        by: &Principal,
        session: &Arc<Session>,
        ask: Ask,
        info: Info,
        connection: Option<u64>,
    ) -> Attached {
        Attached { id: self.begin(by, session, ask, info, connection, true), runs: self.clone(), left: false }
    }

    fn clock(&self) -> &Clock {
        self.shared.statements.catalog().clock()
    }

    fn has_room(&self) -> Result<(), QueryError> {
        match self.results() {
            results if results >= self.shared.config.max_results => {
                Err(QueryError::Exhausted(format!("{results} results wait to be read; read or cancel some")))
            }
            _ => Ok(()),
        }
    }

    fn begin(
        &self,
        by: &Principal,
        session: &Arc<Session>,
        ask: Ask,
        mut info: Info,
        connection: Option<u64>,
        attached: bool,
    ) -> RunId {
        let id = RunId::new(self.shared.statements.catalog().ids());
        let query = info.query.get_or_insert_with(|| id.to_string()).clone();
        let (told, of_run, runs) = (info.started.take(), id.clone(), Arc::downgrade(&self.shared));
        info.started = Some(Arc::new(move |job| {
            if let Some(shared) = runs.upgrade()
                && let Some(run) = shared.runs.lock().get_mut(&of_run)
            {
                run.job = Some(job);
            }
            if let Some(told) = &told {
                told(job);
            }
        }));
        let cancel = CancellationToken::new();
        let text = ask.text();
        let run = Run {
            by: by.clone(),
            session: Arc::downgrade(session),
            session_id: session.id.clone(),
            statement: text[..text.floor_char_boundary(SHOWN)].to_string(),
            query,
            job: None,
            cancel: cancel.clone(),
            ended: watch::Sender::new(false),
            stage: Stage::Running,
            connection,
            attached,
            expires: self.clock().now(),
            started_ms: self.clock().wall_ms(),
            ended_ms: None,
        };
        self.shared.runs.lock().insert(id.clone(), run);
        let (runs, session, of_task) = (self.clone(), Arc::clone(session), id.clone());
        self.shared.statements.tasks().spawn(async move {
            let ended = tokio::select! {
                biased;
                () = cancel.cancelled() => Err(QueryError::Cancelled("the statement was cancelled".to_string())),
                ended = execute(&runs.shared.statements, &session, ask, &info) => ended,
            };
            // The session is released before others are notified.
            drop(session);
            runs.ended(&of_task, ended);
        });
        id
    }

    fn ended(&self, id: &RunId, ended: Result<Execution, QueryError>) {
        let mut runs = self.shared.runs.lock();
        // Its caller has left.
        let Some(run) = runs.get_mut(id) else { return };
        run.ended_ms = Some(self.clock().wall_ms());
        run.expires = self.clock().now() + self.shared.config.unread;
        run.stage = match ended {
            Ok(mut execution) => {
                if !run.attached {
                    execution.is_over();
                    *self.shared.kept.lock() = self.clock().now();
                }
                Stage::Finished(Held { unread: [0].into(), reading: 0, execution: Arc::new(execution) })
            }
            Err(error @ QueryError::Cancelled(_)) => Stage::Cancelled(error),
            Err(error) => Stage::Failed(error),
        };
        run.ended.send_replace(true);
    }

    /// Returns a run. `None`: no such run, or it has expired.
    pub fn view(&self, by: &Principal, id: &RunId) -> Option<RunView> {
        let mut view = self.shared.runs.lock().get(id).map(|run| (view(id, run), run.query.clone()));
        if let Some((view, query)) = &mut view {
            view.progress = self.shared.jobs.progress(by, query);
        }
        view.map(|(view, _)| view)
    }

    /// Returns the runs of a session, in the order in which they started.
    pub fn list(&self, _: &Principal, session: &str) -> Vec<RunView> {
        let runs = self.shared.runs.lock();
        let mut views: Vec<RunView> =
            runs.iter().filter(|(_, run)| run.session_id == session).map(|(id, run)| view(id, run)).collect();
        views.sort_by_key(|view| view.started_ms);
        views
    }

    /// Waits until a run has ended, and returns it. `None`: no such run.
    pub async fn wait(&self, by: &Principal, id: &RunId) -> Option<RunView> {
        let mut ended = self.shared.runs.lock().get(id)?.ended.subscribe();
        // An error means that it is gone.
        let _ = ended.wait_for(|ended| *ended).await;
        self.view(by, id)
    }

    /// Cancels a run, and returns it when it has ended. Its durable effects stay. `None`: no such run.
    pub async fn cancel(&self, by: &Principal, id: &RunId) -> Option<RunView> {
        let (job, cancel) = {
            let runs = self.shared.runs.lock();
            let run = runs.get(id)?;
            (run.job, run.cancel.clone())
        };
        let state = match job {
            Some(job) => self.shared.jobs.cancel(by, job).await.ok().flatten(),
            None => None,
        };
        match state {
            // The statement learns of it from its job. If the job has finished, its remaining steps are carried out.
            Some(JobState::Cancelled | JobState::Finished) => {}
            // There is no job, or none any more: another job might begin.
            Some(JobState::Queued | JobState::Running | JobState::Failed) | None => cancel.cancel(),
        }
        self.wait(by, id).await
    }

    /// Removes a run with its result. A running one is cancelled. False: no such run.
    pub fn release(&self, _: &Principal, id: &RunId) -> bool {
        let released = self.shared.runs.lock().remove(id);
        if let Some(run) = &released {
            run.cancel.cancel();
            self.shared.gone.notify_waiters();
        }
        released.is_some()
    }

    /// Gives a result its full time again, independent of the client's connection. Returns that time.
    pub fn renew(&self, _: &Principal, id: &RunId) -> Option<Duration> {
        let mut runs = self.shared.runs.lock();
        let run = runs.get_mut(id)?;
        run.connection = None;
        run.expires = self.clock().now() + self.shared.config.unread;
        Some(self.shared.config.unread)
    }

    /// Returns the number of kept results.
    pub fn results(&self) -> usize {
        let runs = self.shared.runs.lock();
        runs.values().filter(|run| !run.attached && matches!(run.stage, Stage::Finished(_))).count()
    }

    /// Waits until all results have been read, or have been unread for `long`.
    pub async fn settled(&self, long: Duration) {
        let until = *self.shared.kept.lock() + long;
        let empty = async {
            loop {
                let gone = self.shared.gone.notified();
                if self.results() == 0 {
                    return;
                }
                gone.await;
            }
        };
        // Unread results do not hold up the caller longer.
        let _ = tokio::time::timeout_at(until.into(), empty).await;
    }

    /// Removes runs that have expired or whose results will not be read. Returns their number. Call it every few seconds.
    pub fn expire(&self, sessions: &Sessions) -> usize {
        self.expire_at(self.clock().now(), |connection| sessions.is_connected(connection))
    }

    fn expire_at(&self, now: Instant, is_connected: impl Fn(u64) -> bool) -> usize {
        let config = &self.shared.config;
        let mut runs = self.shared.runs.lock();
        let before = runs.len();
        runs.retain(|_, run| {
            let reading = match &run.stage {
                Stage::Running => return true,
                // Its caller is about to take it.
                _ if run.attached => return true,
                Stage::Finished(held) => held.reading > 0,
                Stage::Failed(_) | Stage::Cancelled(_) => false,
            };
            if run.connection.is_some_and(|connection| !is_connected(connection)) {
                run.expires = run.expires.min(now + config.broken_off);
            }
            let session_ended = run.session.strong_count() == 0;
            reading || run.expires > now && !session_ended
        });
        let gone = before - runs.len();
        if gone > 0 {
            self.shared.gone.notify_waiters();
        }
        gone
    }
}

async fn execute(
    statements: &Statements,
    session: &Arc<Session>,
    ask: Ask,
    info: &Info,
) -> Result<Execution, QueryError> {
    match ask {
        Ask::Sql { text, parameters } => statements.execute(session, &text, parameters, info).await,
        Ask::Plan(plan) => statements.execute_plan(session, &plan, info).await,
        Ask::Many { text, rows } => {
            let affected = statements.execute_many(session, &text, rows, info).await?;
            Ok(Execution::wrote(affected))
        }
    }
}

fn view(id: &RunId, run: &Run) -> RunView {
    let (state, error, result) = match &run.stage {
        Stage::Running => (RunState::Running, None, None),
        Stage::Finished(held) => (RunState::Finished, None, Some(result_view(&held.execution))),
        Stage::Failed(error) => (RunState::Failed, Some(error.clone()), None),
        Stage::Cancelled(error) => (RunState::Cancelled, Some(error.clone()), None),
    };
    RunView {
        id: id.clone(),
        session: run.session_id.clone(),
        user: run.by.name().to_string(),
        statement: run.statement.clone(),
        state,
        job: run.job,
        progress: None,
        error,
        result,
        started_ms: run.started_ms,
        ended_ms: run.ended_ms,
    }
}

fn result_view(execution: &Execution) -> ResultView {
    let (rows, bytes) = size(execution);
    ResultView { schema: Arc::clone(&execution.schema), rows, bytes, affected: execution.affected }
}

/// Returns the rows and bytes of a result.
pub fn size(execution: &Execution) -> (u64, u64) {
    match &execution.rows {
        Rows::Here(batches) => batches.iter().fold((0, 0), |(rows, bytes), batch| {
            (rows + batch.num_rows() as u64, bytes + batch.get_array_memory_size() as u64)
        }),
        Rows::Job(finished) => {
            finished.parts.iter().fold((0, 0), |(rows, bytes), part| (rows + part.rows, bytes + part.bytes))
        }
    }
}

/// A run whose caller waits for it. Dropping it before the end cancels the run; dropping it after the end removes the result.
pub struct Attached {
    runs: Runs,
    id: RunId,
    /// Whether the run continues without its caller.
    left: bool,
}

impl Attached {
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// Waits until the run has ended. May be dropped and called again.
    pub async fn ended(&self) -> Result<Arc<Execution>, QueryError> {
        let gone = || QueryError::Cancelled("the statement was cancelled".to_string());
        let ended = self.runs.shared.runs.lock().get(&self.id).map(|run| run.ended.subscribe());
        // An error means that it is gone.
        let _ = ended.ok_or_else(gone)?.wait_for(|ended| *ended).await;
        match self.runs.shared.runs.lock().get(&self.id).map(|run| &run.stage) {
            Some(Stage::Finished(held)) => Ok(Arc::clone(&held.execution)),
            Some(Stage::Failed(error) | Stage::Cancelled(error)) => Err(error.clone()),
            // The primary is being stopped.
            Some(Stage::Running) | None => Err(gone()),
        }
    }

    /// Keeps the result of a finished run, for readers of `parts` parts.
    ///
    /// # Errors
    /// Too many results are kept already.
    pub fn keep(mut self, parts: usize) -> Result<RunId, QueryError> {
        self.runs.has_room()?;
        let shared = &self.runs.shared;
        if let Some(run) = shared.runs.lock().get_mut(&self.id) {
            run.attached = false;
            run.expires = self.runs.clock().now() + shared.config.unread;
            if let Stage::Finished(held) = &mut run.stage {
                let mut execution = Execution::clone(&held.execution);
                execution.is_over();
                *held = Held { execution: Arc::new(execution), unread: (0..parts).collect(), reading: 0 };
            }
        }
        *shared.kept.lock() = self.runs.clock().now();
        self.left = true;
        Ok(self.id.clone())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if !self.left
            && let Some(run) = self.runs.shared.runs.lock().remove(&self.id)
        {
            run.cancel.cancel();
        }
    }
}
