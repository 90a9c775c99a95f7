//! Interactive sessions: a user opens one, runs statements in it one after the other, and asks for their outputs later, under whichever primary leads.
//!
//! [`windlass_core::interactive`] decides what happens and when, with one machine for each session; `running` carries it out. Sessions, statements and the
//! first rows of results are in the metadata store. Each statement is a run in a session of [`super::sessions`], which a primary that takes over opens anew.

mod conf;
mod done;
mod python;
mod rows;
mod running;
#[cfg(test)]
mod tests;

pub use crate::meta::keys::interactive::{Asked, Cut, Kind, Shape, Work};
pub use conf::ROWS as ROWS_OPTIONS;
pub use python::{KernelError, Kernels, Order, Orders, PythonResult};
pub use rows::Rows;
pub use windlass_core::interactive::{SessionState, StatementState};

use super::runs::{RunId, Runs};
use super::sessions::Sessions;
use crate::clock::{Clock, Ids};
use crate::errors::QueryError;
use crate::meta::MetaStore;
use crate::meta::keys::interactive::{self as keys, Output, Session as Record, Statement};
use crate::meta::keys::outcomes;
use crate::statements::Statements;
use bytes::Bytes;
use conf::Options;
use parking_lot::Mutex;
use running::{Live, Running};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use windlass_core::access::Principal;
use windlass_core::interactive::{Limits, Reply, Request, Session as Machine, Stored, Times};
use windlass_core::time;

/// Limits on interactive sessions.
#[derive(Clone, Copy, Debug)]
pub struct InteractiveConfig {
    /// Maximum sessions that are known. Default 10,000.
    pub max_sessions: usize,
    /// Time without use after which a session ends that asked for no other. Default 1 h.
    pub idle: Duration,
    /// Time that an ended session stays known. Default 10 min.
    pub retention: Duration,
    /// Bounds of one session. Default: 100 ended statements, 100 others, 8 MiB.
    pub limits: Limits,
    /// Maximum bytes of a statement's text. Default 1 MiB.
    pub text_bytes: u64,
    /// Maximum rows of an output, for a session that asked for no other number. Default 1,000.
    pub rows: u64,
    /// Maximum bytes of the rows of an output. Default 1 MiB.
    pub row_bytes: u64,
    /// Maximum bytes of the texts and outputs of all sessions. Statements are refused beyond. Default 256 MiB.
    pub all_bytes: u64,
}

impl Default for InteractiveConfig {
    fn default() -> Self {
        InteractiveConfig {
            max_sessions: 10_000,
            idle: Duration::from_secs(3_600),
            retention: Duration::from_secs(600),
            limits: Limits { kept: 100, waiting: 100, bytes: 8 << 20 },
            text_bytes: 1 << 20,
            rows: 1_000,
            row_bytes: 1 << 20,
            all_bytes: 256 << 20,
        }
    }
}

/// Lines of the log in a view of a session.
const LINES: usize = 10;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InteractiveError {
    #[error("Session '{0}' not found.")]
    NoSession(String),
    #[error("Statement not found")]
    NoStatement,
    /// What was asked for is wrong.
    #[error("{0}")]
    Invalid(String),
    #[error("Session is in state {0:?}")]
    HasEnded(SessionState),
    #[error("the statement has {bytes} bytes, and {limit} are taken")]
    TooLarge { bytes: u64, limit: u64 },
    /// A limit of the cluster is reached.
    #[error("{0}")]
    TooMany(String),
    /// This primary cannot answer. Ask again.
    #[error("{0}")]
    Unavailable(String),
}

/// A session by its number or its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Id(u32),
    Name(String),
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Id(id) => id.fmt(f),
            Key::Name(name) => name.fmt(f),
        }
    }
}

/// A session to open.
#[derive(Clone, Debug, Default)]
pub struct NewSession {
    pub asked: Asked,
    pub ttl: Option<Duration>,
    pub idle: Option<Duration>,
    pub heartbeat: Option<Duration>,
}

/// A statement to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewStatement {
    pub code: String,
    pub kind: Kind,
    pub work: Work,
}

#[derive(Clone, Debug)]
pub struct SessionView {
    pub id: u32,
    /// Unique among all sessions that ever were.
    pub uid: String,
    pub owner: String,
    pub asked: Arc<Asked>,
    pub state: SessionState,
    /// The id of the session that its statements run in, while it is open.
    pub session: Option<String>,
    /// The last lines of its log, oldest first.
    pub log: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct StatementView {
    pub id: u32,
    pub code: String,
    pub kind: Kind,
    pub state: StatementState,
    /// Present if it has ended.
    pub output: Option<OutputView>,
    /// From 0 to 1.
    pub progress: f64,
    /// Milliseconds since 1970-01-01T00:00:00Z, 0 before it began, as is `completed_ms`.
    pub started_ms: u64,
    pub completed_ms: u64,
}

#[derive(Clone, Debug)]
pub enum OutputView {
    Rows {
        rows: Rows,
        cut: Option<Cut>,
        shape: Shape,
    },
    /// Its rows are not known: only that it took effect, and how many rows it wrote.
    Wrote {
        rows: Option<u64>,
    },
    Text(String),
    /// A JSON object of the forms of an output of Python, by their media types.
    Forms(String),
    /// `traceback`: lines that say where it failed. `printed`: what was printed before.
    Failed {
        name: String,
        message: String,
        traceback: Vec<String>,
        printed: String,
    },
}

/// Sessions that are known, and statements that they keep, by state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InteractiveCounts {
    pub sessions: [(SessionState, usize); SessionState::ALL.len()],
    pub statements: [(StatementState, usize); StatementState::ALL.len()],
}

/// The interactive sessions of a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Interactive {
    shared: Arc<Shared>,
}

struct Shared {
    config: InteractiveConfig,
    runs: Runs,
    sessions: Sessions,
    statements: Statements,
    store: Arc<dyn MetaStore>,
    clock: Clock,
    ids: Ids,
    tasks: TaskTracker,
    /// Cancelled when the primary stops.
    stop: CancellationToken,
    /// Zero of the machines' clock is 1970: this moment, on both clocks.
    origin: (Instant, u64),
    known: Mutex<Known>,
    /// One session is created at a time: it has the next id.
    next: tokio::sync::Mutex<u32>,
    /// Bytes of texts and outputs of all sessions.
    bytes: AtomicU64,
    kernels: Kernels,
    /// Where kernels reach this primary.
    rest_url: String,
}

#[derive(Default)]
struct Known {
    by_id: BTreeMap<u32, Arc<Live>>,
    by_name: BTreeMap<String, u32>,
}

impl Interactive {
    pub(crate) fn new(
        config: InteractiveConfig,
        runs: Runs,
        sessions: Sessions,
        statements: &Statements,
        rest_url: String,
        stop: CancellationToken,
    ) -> Self {
        let catalog = statements.catalog();
        let (clock, ids, tasks) = (catalog.clock().clone(), catalog.ids().clone(), statements.tasks().clone());
        let store = Arc::clone(catalog.store());
        let origin = (clock.now(), clock.wall_ms() * 1_000);
        let (known, next, bytes) = (Mutex::default(), tokio::sync::Mutex::new(0), AtomicU64::new(0));
        let (statements, kernels) = (statements.clone(), Kernels::default());
        let shared = Shared {
            config,
            runs,
            sessions,
            statements,
            store,
            clock,
            ids,
            tasks,
            stop,
            origin,
            known,
            next,
            bytes,
            kernels,
            rest_url,
        };
        Interactive { shared: Arc::new(shared) }
    }

    /// Continues the sessions of earlier primaries. All of them are known when this returns.
    pub(crate) async fn resume(&self) -> Result<(), QueryError> {
        let shared = &self.shared;
        let store = shared.store.as_ref();
        let found = keys::all(store).await?;
        let mut next = shared.next.lock().await;
        *next = keys::next(store).await?.max(found.keys().last().map_or(0, |id| id + 1));
        for (id, (record, statements)) in found {
            let mut took_effect = BTreeMap::new();
            let mut stored = BTreeMap::new();
            for (&number, statement) in &statements {
                if matches!(statement.state, StatementState::Running | StatementState::Cancelling)
                    && let Some(outcome) = outcomes::find(store, &query_of(&record.uid, number)).await?
                {
                    took_effect.insert(number, outcome.affected);
                }
                let (state, bytes) = (statement.state, statement.bytes);
                stored.insert(number, Stored { state, bytes, took_effect: took_effect.contains_key(&number) });
            }
            let next = statements.keys().last().map_or(0, |number| number + 1);
            let (created, limits) = (time::Instant(record.created_us), shared.config.limits);
            let ended = record.ended.map(|(end, at)| (end, time::Instant(at)));
            let machine = Machine::found(shared.now(), created, limits, record.times, next, ended, &stored);
            let running = Running::found(shared, id, record, statements, machine, took_effect);
            shared.know(running.live());
            running.start();
        }
        Ok(())
    }

    /// Opens a session. It is stored when this returns.
    ///
    /// # Errors
    /// An option or the name is wrong, or there are too many sessions.
    pub async fn create(&self, by: &Principal, new: NewSession) -> Result<SessionView, InteractiveError> {
        let (interactive, by) = (self.clone(), by.clone());
        // A caller that leaves midway does not stop it midway.
        let created = self.shared.tasks.spawn(async move { interactive.create_whole(&by, new).await });
        created.await.unwrap_or_else(|_| Err(not_leading()))
    }

    async fn create_whole(&self, by: &Principal, new: NewSession) -> Result<SessionView, InteractiveError> {
        let shared = &self.shared;
        let mut next = shared.next.lock().await;
        shared.has_room(new.asked.name.as_deref())?;
        let options = Options::of(&new.asked).map_err(InteractiveError::Invalid)?;
        let acts = Principal::user(new.asked.proxy_user.as_deref().unwrap_or(by.name()));
        let opened = shared.sessions.open(&acts, &options.set).await;
        let session = opened.map_err(|error| InteractiveError::Invalid(error.to_string()))?;
        let (id, now) = (*next, shared.now());
        let config = &shared.config;
        let record = Record {
            uid: shared.ids.name(),
            owner: by.name().to_string(),
            rows: options.rows.unwrap_or(config.rows),
            options: options.set,
            times: Times {
                idle: new.idle.unwrap_or(config.idle),
                ttl: new.ttl,
                heartbeat: new.heartbeat,
                retention: config.retention,
            },
            asked: new.asked,
            created_us: now.0,
            ended: None,
            sets: Vec::new(),
            made_things: false,
            has_python: false,
            log: options.log,
        };
        let machine = Machine::new(now, config.limits, record.times);
        let (running, accepted) = Running::created(shared, id, record, machine, session);
        let live = running.live();
        running.start();
        match accepted.await {
            Ok(Reply::Accepted { .. }) => {}
            Ok(Reply::NotStored) => return Err(not_stored()),
            Ok(_) | Err(_) => return Err(not_leading()),
        }
        *next = id + 1;
        shared.know(Arc::clone(&live));
        Ok(live.view(LINES))
    }

    /// Returns the Python processes of sessions.
    pub fn kernels(&self) -> &Kernels {
        &self.shared.kernels
    }

    /// Returns the number of sessions, and those from position `from` on, at most `size`, oldest first.
    pub fn list(&self, _: &Principal, from: usize, size: usize) -> (usize, Vec<SessionView>) {
        let known = self.shared.known.lock();
        let views = known.by_id.values().skip(from).take(size).map(|live| live.view(LINES)).collect();
        (known.by_id.len(), views)
    }

    /// Returns how many sessions and statements there are.
    pub fn counts(&self, _: &Principal) -> InteractiveCounts {
        let lives: Vec<Arc<Live>> = self.shared.known.lock().by_id.values().cloned().collect();
        let mut sessions = SessionState::ALL.map(|state| (state, 0));
        let mut statements = StatementState::ALL.map(|state| (state, 0));
        for live in lives {
            let (of_session, of_statements) = live.states();
            sessions.iter_mut().filter(|(state, _)| *state == of_session).for_each(|(_, count)| *count += 1);
            for of_statement in of_statements {
                statements.iter_mut().filter(|(state, _)| *state == of_statement).for_each(|(_, count)| *count += 1);
            }
        }
        InteractiveCounts { sessions, statements }
    }

    /// Returns a session, and counts as a sign of its client's life.
    pub fn find(&self, _: &Principal, key: &Key) -> Result<SessionView, InteractiveError> {
        let live = self.live(key)?;
        live.heard(false);
        Ok(live.view(LINES))
    }

    /// Returns a session, and counts as use of it.
    pub fn connect(&self, _: &Principal, key: &Key) -> Result<SessionView, InteractiveError> {
        let live = self.live(key)?;
        live.heard(true);
        Ok(live.view(LINES))
    }

    /// Returns the id and the log of a session, oldest line first.
    pub fn log(&self, _: &Principal, key: &Key) -> Result<(u32, Vec<String>), InteractiveError> {
        let live = self.live(key)?;
        live.heard(false);
        Ok((live.id, live.log()))
    }

    /// Ends a session and its statements. It stays known for a while.
    pub async fn stop(&self, _: &Principal, key: &Key) -> Result<(), InteractiveError> {
        self.ask(key, Request::Stop).await.map(drop)
    }

    /// Ends a session and forgets it.
    pub async fn delete(&self, _: &Principal, key: &Key) -> Result<(), InteractiveError> {
        self.ask(key, Request::Delete).await.map(drop)
    }

    /// Cancels all statements of a session that have not ended.
    pub async fn interrupt(&self, _: &Principal, key: &Key) -> Result<(), InteractiveError> {
        self.ask(key, Request::Interrupt).await.map(drop)
    }

    /// Runs a statement after those before it. It is stored when this returns.
    ///
    /// # Errors
    /// The session has ended, a limit is reached, or the text has credentials in it.
    pub async fn run(&self, by: &Principal, key: &Key, new: NewStatement) -> Result<StatementView, InteractiveError> {
        let (live, config) = (self.live(key)?, &self.shared.config);
        let bytes = new.code.len() as u64;
        if bytes > config.text_bytes {
            return Err(InteractiveError::TooLarge { bytes, limit: config.text_bytes });
        }
        let all = self.shared.bytes.load(Ordering::Relaxed);
        if all + bytes > config.all_bytes {
            return Err(InteractiveError::TooMany(format!(
                "the outputs of all sessions have {all} bytes, and {} are kept: delete sessions that are not needed",
                config.all_bytes
            )));
        }
        let refused = self.shared.statements.refuse_credentials(&new.code, "a statement of an interactive session");
        refused.map_err(|error| InteractiveError::Invalid(error.to_string()))?;
        let statement = Statement {
            code: new.code,
            kind: new.kind,
            work: new.work,
            state: StatementState::Waiting,
            bytes,
            started_ms: 0,
            completed_ms: 0,
            output: None,
        };
        match live.ask(Request::Run { bytes }, Some(statement)).await {
            Some(Reply::Accepted { statement: Some(number) }) => self.view(by, &live, number).await,
            reply => Err(self.refusal(reply, &live)),
        }
    }

    /// Cancels a statement. Nothing happens if it has ended.
    pub async fn cancel(&self, _: &Principal, key: &Key, statement: u32) -> Result<(), InteractiveError> {
        self.ask(key, Request::Cancel { statement }).await.map(drop)
    }

    /// Returns a statement, after it has ended or `wait` is over.
    pub async fn statement(
        &self,
        by: &Principal,
        key: &Key,
        statement: u32,
        wait: Duration,
    ) -> Result<StatementView, InteractiveError> {
        let live = self.live(key)?;
        live.heard(false);
        if !wait.is_zero() {
            // The view shows how far it came. A primary that stops lets nobody wait.
            tokio::select! {
                () = live.ended(statement) => {}
                () = tokio::time::sleep(wait) => {}
                () = self.shared.stop.cancelled() => {}
            }
        }
        self.view(by, &live, statement).await
    }

    /// Returns the number of kept statements, and those from position `from` on, at most `size`.
    pub async fn statements(
        &self,
        by: &Principal,
        key: &Key,
        from: usize,
        size: Option<usize>,
        newest_first: bool,
    ) -> Result<(usize, Vec<StatementView>), InteractiveError> {
        let live = self.live(key)?;
        live.heard(false);
        let mut numbers = live.statements();
        if newest_first {
            numbers.reverse();
        }
        let total = numbers.len();
        let mut views = Vec::new();
        for number in numbers.into_iter().skip(from).take(size.unwrap_or(total)) {
            // One that was removed meanwhile is left out.
            match self.view(by, &live, number).await {
                Ok(view) => views.push(view),
                Err(InteractiveError::NoStatement) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((total, views))
    }

    async fn view(&self, by: &Principal, live: &Live, number: u32) -> Result<StatementView, InteractiveError> {
        let (statement, run) = live.statement(number).ok_or(InteractiveError::NoStatement)?;
        let output = match statement.output {
            None => None,
            Some(Output::Text { text }) => Some(OutputView::Text(text)),
            Some(Output::Failed { name, message, traceback, printed }) => {
                Some(OutputView::Failed { name, message, traceback, printed })
            }
            Some(Output::Wrote { rows }) => Some(OutputView::Wrote { rows }),
            Some(Output::Forms) => {
                let kept = self.kept(live, number).await?;
                Some(OutputView::Forms(String::from_utf8_lossy(&kept).into_owned()))
            }
            Some(Output::Rows { cut }) => {
                let rows = rows::decode(self.kept(live, number).await?);
                let rows = rows.map_err(|error| InteractiveError::Unavailable(error.to_string()))?;
                let shape = match statement.work {
                    Work::Sql { shape, .. } => shape,
                    Work::Python | Work::Say { .. } | Work::Refuse { .. } => Shape::Table,
                };
                Some(OutputView::Rows { rows, cut, shape })
            }
        };
        let progress = match statement.state {
            state if state.has_ended() => 1.0,
            _ => run.and_then(|run| self.progress(by, &run)).unwrap_or(0.0),
        };
        let Statement { code, kind, state, started_ms, completed_ms, .. } = statement;
        Ok(StatementView { id: number, code, kind, state, output, progress, started_ms, completed_ms })
    }

    /// Returns what the store keeps of an output under a key of its own.
    async fn kept(&self, live: &Live, statement: u32) -> Result<Bytes, InteractiveError> {
        let kept = keys::rows(self.shared.store.as_ref(), live.id, statement).await;
        let kept = kept.map_err(|error| InteractiveError::Unavailable(error.to_string()))?;
        // It was removed meanwhile.
        kept.ok_or(InteractiveError::NoStatement)
    }

    fn progress(&self, by: &Principal, run: &RunId) -> Option<f64> {
        let tasks = self.shared.runs.view(by, run)?.progress?.tasks;
        (tasks.all > 0).then(|| f64::from(tasks.done) / f64::from(tasks.all))
    }

    fn live(&self, key: &Key) -> Result<Arc<Live>, InteractiveError> {
        let known = self.shared.known.lock();
        let id = match key {
            Key::Id(id) => Some(*id),
            Key::Name(name) => known.by_name.get(name).copied(),
        };
        let live = id.and_then(|id| known.by_id.get(&id)).cloned();
        live.ok_or_else(|| InteractiveError::NoSession(key.to_string()))
    }

    async fn ask(&self, key: &Key, request: Request) -> Result<(), InteractiveError> {
        let live = self.live(key)?;
        match live.ask(request, None).await {
            Some(Reply::Done) => Ok(()),
            reply => Err(self.refusal(reply, &live)),
        }
    }

    fn refusal(&self, reply: Option<Reply>, live: &Live) -> InteractiveError {
        match reply {
            Some(Reply::Unknown) => InteractiveError::NoStatement,
            Some(Reply::HasEnded(state)) => InteractiveError::HasEnded(state),
            Some(Reply::TooMany) => InteractiveError::TooMany(format!(
                "{} statements of the session have not ended: wait for some, or cancel some",
                self.shared.config.limits.waiting
            )),
            Some(Reply::NotStored) => not_stored(),
            // The session was forgotten meanwhile.
            None if live.is_forgotten() => InteractiveError::NoSession(live.id.to_string()),
            Some(Reply::Accepted { .. } | Reply::Done | Reply::NotLeading) | None => not_leading(),
        }
    }
}

impl Shared {
    /// Returns the time of the machines: microseconds since 1970, as the monotonic clock counts on from the start of this primary.
    fn now(&self) -> time::Instant {
        let (origin, wall_us) = self.origin;
        time::Instant(wall_us + self.clock.since(origin).0)
    }

    /// Returns how long it is until a time of the machines.
    fn until(&self, at: time::Instant) -> Duration {
        at.since(self.now())
    }

    fn has_room(&self, name: Option<&str>) -> Result<(), InteractiveError> {
        let known = self.known.lock();
        if known.by_id.len() >= self.config.max_sessions {
            return Err(InteractiveError::TooMany(format!(
                "there are {} sessions already: delete some, or wait until idle ones end",
                known.by_id.len()
            )));
        }
        match name {
            Some(name) if known.by_name.contains_key(name) => {
                Err(InteractiveError::Invalid(format!("Duplicate session name: {name}")))
            }
            _ => Ok(()),
        }
    }

    fn know(&self, live: Arc<Live>) {
        let mut known = self.known.lock();
        if let Some(name) = &live.asked.name {
            known.by_name.insert(name.clone(), live.id);
        }
        known.by_id.insert(live.id, live);
    }

    fn forget(&self, live: &Live) {
        let mut known = self.known.lock();
        if let Some(name) = &live.asked.name
            && known.by_name.get(name) == Some(&live.id)
        {
            known.by_name.remove(name);
        }
        known.by_id.remove(&live.id);
    }
}

/// Returns the options of what was asked for, and lines for its log.
pub(super) fn options_of(asked: &Asked) -> Result<(Vec<(String, String)>, Vec<String>), InteractiveError> {
    let options = Options::of(asked).map_err(InteractiveError::Invalid)?;
    Ok((options.set, options.log))
}

/// Returns the name of a statement for its outcome, which outlives this primary.
fn query_of(uid: &str, statement: u32) -> String {
    format!("interactive-{uid}.{statement}")
}

fn not_stored() -> InteractiveError {
    InteractiveError::Unavailable("the metadata store did not take it, and nothing was changed: ask again".to_string())
}

fn not_leading() -> InteractiveError {
    InteractiveError::Unavailable("this primary does not lead any more, or stops: ask again".to_string())
}
