//! A session while this primary leads. This carries out the requests of its machine and reports the results to the machine. It decides nothing, and sends the
//! store one request at a time.

use super::done::Done;
use super::python::Python;
use super::{Asked, SessionState, SessionView, Shared, StatementState, Work, query_of, rows};
use crate::errors::QueryError;
use crate::meta::keys::interactive::{self as keys, Cut, Output, Session as Record, Statement};
use crate::meta::{MetaError, Transaction};
use crate::services::runs::{Ask, RunId};
use crate::statements::sessions::Session;
use crate::statements::{Delivery, Info, SessionEffect, session_effect};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use windlass_core::access::Principal;
use windlass_core::interactive::{
    Change, Effect, End, Ended, Event, Fact, Output as Out, Reply, Request, Said, Session as Machine,
};
use windlass_core::job::Retention;

/// Maximum lines of a session's log. The oldest go first.
const LOG: usize = 1_000;
/// Requests to one session that wait. Further callers wait too.
const REQUESTS: usize = 64;

/// What others see of a session.
pub(super) struct Live {
    pub id: u32,
    pub asked: Arc<Asked>,
    uid: String,
    owner: String,
    shown: Mutex<Shown>,
    /// Changes with each step.
    changed: watch::Sender<()>,
    requests: mpsc::Sender<Call>,
    is_forgotten: AtomicBool,
    /// Bytes of its texts and outputs.
    bytes: AtomicU64,
}

struct Shown {
    state: SessionState,
    statements: BTreeMap<u32, Statement>,
    /// The id of the session that statements run in.
    session: Option<String>,
    /// The run of the running statement.
    run: Option<RunId>,
    log: VecDeque<String>,
}

enum Call {
    Asked { request: Request, statement: Option<Statement>, answer: oneshot::Sender<Reply> },
    Heard { used: bool },
}

impl Live {
    /// Returns the session with this many lines of its log.
    pub fn view(&self, lines: usize) -> SessionView {
        let shown = self.shown.lock();
        let older = shown.log.len().saturating_sub(lines);
        SessionView {
            id: self.id,
            uid: self.uid.clone(),
            owner: self.owner.clone(),
            asked: Arc::clone(&self.asked),
            state: shown.state,
            session: shown.session.clone(),
            log: shown.log.iter().skip(older).cloned().collect(),
        }
    }

    pub fn log(&self) -> Vec<String> {
        self.shown.lock().log.iter().cloned().collect()
    }

    pub fn statements(&self) -> Vec<u32> {
        self.shown.lock().statements.keys().copied().collect()
    }

    /// Returns the states of the session and of its statements.
    pub fn states(&self) -> (SessionState, Vec<StatementState>) {
        let shown = self.shown.lock();
        (shown.state, shown.statements.values().map(|statement| statement.state).collect())
    }

    /// Returns a statement, and its run if it runs.
    pub fn statement(&self, number: u32) -> Option<(Statement, Option<RunId>)> {
        let shown = self.shown.lock();
        let statement = shown.statements.get(&number)?.clone();
        let run = shown.run.clone().filter(|_| statement.state != StatementState::Waiting);
        Some((statement, run))
    }

    /// Waits until a statement has ended or is gone.
    pub async fn ended(&self, number: u32) {
        let mut changed = self.changed.subscribe();
        let has_ended = || self.shown.lock().statements.get(&number).is_none_or(|of| of.state.has_ended());
        // An error means that it is gone.
        while !has_ended() && changed.changed().await.is_ok() {}
    }

    /// Asks the session, and returns its answer. `None`: it has ended here.
    pub async fn ask(&self, request: Request, statement: Option<Statement>) -> Option<Reply> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Call::Asked { request, statement, answer }).await.ok()?;
        answered.await.ok()
    }

    /// Notes that somebody asked for the session. With many requests waiting, one sign of life more does not matter.
    pub fn heard(&self, used: bool) {
        let _ = self.requests.try_send(Call::Heard { used });
    }

    pub fn is_forgotten(&self) -> bool {
        self.is_forgotten.load(Ordering::Acquire)
    }
}

pub(super) struct Running {
    shared: Arc<Shared>,
    live: Arc<Live>,
    machine: Machine,
    record: Record,
    /// Whether the store has the session, as far as is known.
    is_stored: bool,
    /// Whether an earlier primary had it.
    is_found: bool,
    /// Whether the record has changed since it was stored.
    is_changed: bool,
    session: Option<Arc<Session>>,
    opening: Option<BoxFuture<'static, Result<Arc<Session>, QueryError>>>,
    /// The running statement, which ends with its output.
    work: Option<(u32, BoxFuture<'static, Done>)>,
    stop_work: CancellationToken,
    python: Arc<Python>,
    /// Whether an earlier primary had a Python process for it.
    lost_python: bool,
    requests: mpsc::Receiver<Call>,
    answers: BTreeMap<u64, oneshot::Sender<Reply>>,
    last_number: u64,
    /// The statement of the request that is being answered.
    arriving: Option<Statement>,
    /// The output of the statement that has ended last.
    finished: Option<(Output, Option<Bytes>)>,
    /// Statements as they will be when the pending transaction is made. `None`: removed.
    staged: Vec<(u32, Option<Statement>)>,
    /// Statements of an earlier primary that took effect, with the rows that they wrote.
    took_effect: BTreeMap<u32, Option<u64>>,
}

enum Heard {
    Call(Call),
    Opened(Result<Arc<Session>, QueryError>),
    Done(Done),
    Stopping,
    Due,
}

impl Running {
    /// Returns a session that was just asked for, and the answer to that.
    pub fn created(
        shared: &Arc<Shared>,
        id: u32,
        record: Record,
        machine: Machine,
        session: Arc<Session>,
    ) -> (Self, oneshot::Receiver<Reply>) {
        let (answer, accepted) = oneshot::channel();
        let mut running = Running::found(shared, id, record, BTreeMap::new(), machine, BTreeMap::new());
        running.answers.insert(0, answer);
        running.opening = Some(std::future::ready(Ok(session)).boxed());
        running.is_stored = false;
        running.is_found = false;
        (running, accepted)
    }

    /// Returns a session that an earlier primary left.
    pub fn found(
        shared: &Arc<Shared>,
        id: u32,
        mut record: Record,
        statements: BTreeMap<u32, Statement>,
        machine: Machine,
        took_effect: BTreeMap<u32, Option<u64>>,
    ) -> Self {
        let (sender, requests) = mpsc::channel(REQUESTS);
        // A statement that was under way says that names are gone. Otherwise the next one does.
        let says = |of: &Statement| of.work == Work::Python && of.state == StatementState::Running;
        let is_said = statements.values().any(says);
        let lost_python = record.has_python || is_said;
        record.has_python &= !is_said;
        let lost = record.has_python.then(|| "another primary leads since".to_string());
        let python = Python::new(shared, lost);
        let shown = Shown {
            state: machine.state(),
            statements,
            session: None,
            run: None,
            log: record.log.iter().cloned().collect(),
        };
        let live = Live {
            id,
            asked: Arc::new(record.asked.clone()),
            uid: record.uid.clone(),
            owner: record.owner.clone(),
            shown: Mutex::new(shown),
            changed: watch::Sender::new(()),
            requests: sender,
            is_forgotten: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
        };
        let running = Running {
            shared: Arc::clone(shared),
            live: Arc::new(live),
            machine,
            record,
            is_stored: true,
            is_found: true,
            is_changed: is_said,
            session: None,
            opening: None,
            work: None,
            stop_work: CancellationToken::new(),
            python,
            lost_python,
            requests,
            answers: BTreeMap::new(),
            last_number: 0,
            arriving: None,
            finished: None,
            staged: Vec::new(),
            took_effect,
        };
        running.count_bytes();
        running
    }

    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// Runs it until it is forgotten, or this primary stops.
    pub fn start(self) {
        let tasks = self.shared.tasks.clone();
        tasks.spawn(self.run());
    }

    async fn run(mut self) {
        self.tell(Event::Begun).await;
        while !self.machine.is_over() {
            let heard = self.hear().await;
            let event = self.event_of(heard);
            self.tell(event).await;
        }
        if self.live.is_forgotten() {
            self.shared.forget(&self.live);
        }
        self.shared.bytes.fetch_sub(self.live.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.close().await;
    }

    /// Tells the machine what happened, and carries out what it asks for.
    async fn tell(&mut self, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let out = self.machine.step(self.shared.now(), event);
            if let Some(changes) = &out.persist {
                next = Some(Event::Persisted(self.persist(changes).await));
            }
            self.show();
            self.carry_out(out).await;
        }
        self.arriving = None;
    }

    async fn carry_out(&mut self, out: Out) {
        for effect in out.send {
            match effect {
                Effect::Open => {
                    if self.opening.is_none() {
                        self.opening = Some(open(Arc::clone(&self.shared), self.record.clone()));
                    }
                }
                Effect::Begin { statement } => self.begin(statement),
                Effect::Stop { .. } => self.stop_work.cancel(),
                Effect::Close => self.close().await,
            }
        }
        for (number, reply) in out.reply {
            if let Some(answer) = self.answers.remove(&number) {
                // The caller may have left.
                let _ = answer.send(reply);
            }
        }
        out.facts.into_iter().for_each(|fact| self.note(fact));
    }

    async fn hear(&mut self) -> Heard {
        let is_idle = self.work.is_none();
        // A primary that stops waits for programs, so one in which no statement runs ends first.
        let deserted = async {
            self.shared.statements.gate().closed().await;
            self.python.end();
            std::future::pending().await
        };
        let deadline = self.machine.next_deadline().map(|at| self.shared.until(at));
        let due = async {
            match deadline {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let opened = async {
            match &mut self.opening {
                Some(opening) => opening.await,
                None => std::future::pending().await,
            }
        };
        let done = async {
            match &mut self.work {
                Some((_, work)) => work.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            done = done => Heard::Done(done),
            opened = opened => Heard::Opened(opened),
            // The session holds a sender, so it ends with the primary alone.
            Some(call) = self.requests.recv() => Heard::Call(call),
            () = self.shared.stop.cancelled() => Heard::Stopping,
            () = due => Heard::Due,
            heard = deserted, if is_idle => heard,
        }
    }

    fn event_of(&mut self, heard: Heard) -> Event {
        match heard {
            Heard::Call(Call::Heard { used }) => Event::Heard { used },
            Heard::Call(Call::Asked { request, statement, answer }) => {
                self.last_number += 1;
                self.answers.insert(self.last_number, answer);
                self.arriving = statement;
                Event::Asked { number: self.last_number, request }
            }
            Heard::Opened(opened) => {
                self.opening = None;
                let done = match opened {
                    Ok(session) => {
                        self.live.shown.lock().session = Some(session.id.clone());
                        self.session = Some(session);
                        true
                    }
                    Err(error) => {
                        self.log(format!("the session cannot be opened: {error}"));
                        false
                    }
                };
                Event::Opened { done }
            }
            Heard::Done(done) => {
                let statement = self.work.take().map_or(0, |(statement, _)| statement);
                self.live.shown.lock().run = None;
                Event::Ended { statement, ended: self.ended(statement, done) }
            }
            Heard::Stopping => Event::Leave,
            Heard::Due => Event::Tick,
        }
    }

    /// Puts the state where others see it.
    fn show(&self) {
        {
            let mut shown = self.live.shown.lock();
            shown.state = self.machine.state();
            // What is not stored yet is not shown, but that a statement is being cancelled is.
            for (number, state) in self.machine.statements() {
                if state == StatementState::Cancelling
                    && let Some(statement) = shown.statements.get_mut(&number)
                    && statement.state == StatementState::Running
                {
                    statement.state = state;
                }
            }
        }
        self.live.changed.send_replace(());
    }

    fn log(&self, line: String) {
        let mut shown = self.live.shown.lock();
        if shown.log.len() >= LOG {
            shown.log.pop_front();
        }
        shown.log.push_back(line);
    }

    // ---- the store

    async fn persist(&mut self, changes: &[Change]) -> Said {
        let mut transaction = Transaction::default();
        for &change in changes {
            transaction = self.write(transaction, change);
        }
        if self.is_changed {
            transaction = keys::put_session(transaction, self.live.id, &self.record);
        }
        match self.shared.store.commit(transaction).await {
            Ok(()) => {
                self.is_stored = true;
                self.is_changed = false;
                self.apply();
                Said::Done
            }
            Err(error) => {
                self.staged.clear();
                tracing::info!(session = self.live.id, %error, "a step of an interactive session could not be stored");
                match error {
                    MetaError::NotLeading { .. } | MetaError::Unknown { .. } => Said::LeftToNext,
                    MetaError::Conflict { .. } | MetaError::Store { .. } | MetaError::Corrupt { .. } => Said::Refused,
                }
            }
        }
    }

    fn write(&mut self, transaction: Transaction, change: Change) -> Transaction {
        let id = self.live.id;
        match change {
            Change::Session { ended } => {
                self.record.ended = ended.map(|(end, at)| (end, at.0));
                self.record.log = self.live.shown.lock().log.iter().cloned().collect();
                self.is_changed = true;
                if self.is_stored { transaction } else { keys::put_next(transaction, id + 1) }
            }
            Change::Statement { statement, state, output } => {
                let known = self.live.shown.lock().statements.get(&statement).cloned();
                let Some(mut of) = known.or_else(|| self.arriving.clone()) else { return transaction };
                let now_ms = self.shared.clock.wall_ms();
                let mut transaction = transaction;
                of.state = state;
                if state == StatementState::Running {
                    of.started_ms = now_ms;
                }
                if state.has_ended() {
                    of.completed_ms = now_ms;
                    of.output = Some(self.output_of(statement, state, &of.work));
                }
                if output && let Some((output, rows)) = &self.finished {
                    of.bytes += size(output, rows.as_ref());
                    of.output = Some(output.clone());
                    if let Some(rows) = rows {
                        transaction = keys::put_rows(transaction, id, statement, rows.clone());
                    }
                }
                let transaction = keys::put_statement(transaction, id, statement, &of);
                self.staged.push((statement, Some(of)));
                transaction
            }
            Change::ForgetStatement { statement } => {
                self.staged.push((statement, None));
                keys::delete_statement(transaction, id, statement)
            }
            Change::Forget => {
                self.is_changed = false;
                let numbers = self.live.statements();
                let all = numbers.iter().fold(transaction, |all, &number| {
                    self.staged.push((number, None));
                    keys::delete_statement(all, id, number)
                });
                keys::delete_session(all, id)
            }
        }
    }

    /// Returns the output of a statement that has none of its own.
    fn output_of(&self, statement: u32, state: StatementState, work: &Work) -> Output {
        match (state, self.took_effect.get(&statement)) {
            (StatementState::Available, rows) => Output::Wrote { rows: rows.copied().flatten() },
            (StatementState::Cancelled, _) => Output::failed("Cancelled", "the statement was cancelled"),
            _ if self.finished.is_some() => Output::failed(
                "NotKept",
                "the statement has ended, and the metadata store did not take its output: run it again",
            ),
            _ if *work == Work::Python => Output::failed(
                "Lost",
                "the statement was under way when its primary ended, and how far it came is not known. The Python process of this session has ended too, with \
                 its names: see what the statement changed before you run it again",
            ),
            _ => Output::failed(
                "Lost",
                "the statement was under way when its primary ended, and its result is lost; if it was to change something, it did not: run it again",
            ),
        }
    }

    /// Shows what was stored.
    fn apply(&mut self) {
        if self.staged.iter().any(|(_, of)| of.as_ref().is_some_and(|of| of.state.has_ended())) {
            self.finished = None;
        }
        {
            let mut shown = self.live.shown.lock();
            for (number, statement) in self.staged.drain(..) {
                match statement {
                    Some(statement) => _ = shown.statements.insert(number, statement),
                    None => _ = shown.statements.remove(&number),
                }
            }
        }
        self.count_bytes();
    }

    fn count_bytes(&self) {
        let now: u64 = self.live.shown.lock().statements.values().map(|statement| statement.bytes).sum();
        let before = self.live.bytes.swap(now, Ordering::Relaxed);
        self.shared.bytes.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    // ---- statements

    fn begin(&mut self, number: u32) {
        self.stop_work = CancellationToken::new();
        let statement = self.live.shown.lock().statements.get(&number).cloned();
        let Some(statement) = statement else { return };
        let work = match (statement.work, &self.session) {
            (Work::Say { text }, _) => done(Output::Text { text }),
            (Work::Refuse { message }, _) => done(Output::failed("NotRun", message)),
            (Work::Sql { text, rows, .. }, Some(session)) => {
                let text = text.unwrap_or(statement.code);
                let rows = rows.unwrap_or(self.record.rows);
                self.sql(number, session, &text, rows)
            }
            (Work::Python, Some(session)) => self.python(number, session, statement.code),
            (Work::Sql { .. } | Work::Python, None) => done(Output::failed("Error", "the session is not open")),
        };
        self.work = Some((number, work));
    }

    fn sql(&self, number: u32, session: &Arc<Session>, text: &str, max_rows: u64) -> BoxFuture<'static, Done> {
        let info = Info {
            query: Some(query_of(&self.live.uid, number)),
            delivery: Delivery::First,
            retention: Retention::User,
            // One more shows whether there are more.
            first_rows: u32::try_from(max_rows).ok().map(|rows| rows as usize + 1),
            ..Info::default()
        };
        let (runs, by) = (self.shared.runs.clone(), session.user.clone());
        let run = runs.attach(&by, session, Ask::sql(text), info, None);
        self.live.shown.lock().run = Some(run.id().clone());
        let (stop, max_bytes) = (self.stop_work.clone(), self.shared.config.row_bytes);
        async move {
            let ended = tokio::select! {
                biased;
                ended = run.ended() => ended.map(drop),
                () = stop.cancelled() => {
                    runs.cancel(&by, run.id()).await;
                    run.ended().await.map(drop)
                }
            };
            let first = usize::try_from(max_rows).unwrap_or(usize::MAX).saturating_add(1);
            let read = match ended {
                Ok(()) => runs.page(&by, run.id(), 0, first).await,
                Err(error) => Err(error),
            };
            let encoded = read.and_then(|page| rows::encode(&page.schema, &page.batches, max_rows, max_bytes));
            match encoded {
                Ok((rows, cut)) => Done::with(Output::Rows { cut }, rows),
                Err(QueryError::NotLeading(_)) => Done::NotBegun,
                Err(QueryError::OutcomeUnknown(_)) => Done::LeftToNext,
                Err(error @ QueryError::Cancelled(_)) => Done::stopped(error.to_string(), None),
                Err(error) => Done::of(Output::failed("Error", error.to_string())),
            }
        }
        .boxed()
    }

    fn python(&self, number: u32, session: &Arc<Session>, code: String) -> BoxFuture<'static, Done> {
        let (python, session, stop) = (Arc::clone(&self.python), Arc::clone(session), self.stop_work.clone());
        async move { python.run(&session, number, code, stop).await }.boxed()
    }

    fn ended(&mut self, number: u32, done: Done) -> Ended {
        match done {
            Done::NotBegun => Ended::NotBegun,
            Done::LeftToNext => Ended::LeftToNext,
            Done::Output { output, content, stopped, log } => {
                self.note_end(number, &output);
                log.into_iter().for_each(|line| self.log(line));
                let has_python = self.python.has_names();
                self.is_changed |= has_python != self.record.has_python;
                self.record.has_python = has_python;
                let bytes = size(&output, content.as_ref());
                self.finished = Some((output, content));
                if stopped { Ended::Stopped { bytes } } else { Ended::Done { bytes } }
            }
        }
    }

    /// Notes what a statement leaves in its session, and what its output leaves out.
    fn note_end(&mut self, number: u32, output: &Output) {
        let shown = self.live.shown.lock();
        let Some(Statement { code, work, .. }) = shown.statements.get(&number) else { return };
        let text = match work {
            Work::Sql { text, .. } => text.as_ref().unwrap_or(code).clone(),
            Work::Python | Work::Say { .. } | Work::Refuse { .. } => return,
        };
        drop(shown);
        match output {
            Output::Rows { cut: Some(cut) } => {
                let at = match cut {
                    Cut::Rows(rows) => format!("{rows} rows"),
                    Cut::Bytes(bytes) => format!("{bytes} bytes"),
                };
                self.log(format!("the output of statement {number} was cut at {at}"));
            }
            Output::Rows { cut: None } | Output::Wrote { .. } | Output::Text { .. } | Output::Forms => {}
            Output::Failed { .. } => return,
        }
        match session_effect(&text) {
            SessionEffect::Nothing => return,
            SessionEffect::Option => {
                let option = option_of(&text);
                self.record.sets.retain(|before| option_of(before) != option);
                self.record.sets.push(text);
            }
            SessionEffect::Things => self.record.made_things = true,
        }
        self.is_changed = true;
    }

    async fn close(&mut self) {
        self.python.end();
        self.live.shown.lock().session = None;
        // A session that is being opened is dropped with the future.
        let opening = self.opening.take().and_then(FutureExt::now_or_never).and_then(Result::ok);
        for session in [self.session.take(), opening].into_iter().flatten() {
            self.shared.sessions.close(&session.user, &session.id).await;
        }
    }

    // ---- people

    fn note(&self, fact: Fact) {
        let session = self.live.id;
        match fact {
            Fact::Open if self.is_found => {
                self.log("the session goes on under another primary".to_string());
                if self.record.made_things {
                    let gone = "its temporary tables, views and prepared statements are gone";
                    self.log(format!("its options are as they were, and {gone}"));
                }
                if self.lost_python {
                    self.log(
                        "its Python process is gone, with its names and what it set or made in the session".to_string(),
                    );
                }
            }
            Fact::Open => self.log("the session is open".to_string()),
            Fact::Lost { statement, took_effect: true } => {
                self.log(format!("statement {statement} took effect, and its primary ended before it could answer"));
            }
            Fact::Lost { statement, took_effect: false } => {
                self.log(format!("statement {statement} was under way when its primary ended, and is lost"));
            }
            Fact::Removed { statement } => self.log(format!("statement {statement} was removed to make room")),
            Fact::Ended(end) => {
                tracing::info!(session, ?end, "an interactive session has ended");
                let why = match end {
                    End::Stopped => "somebody stopped it",
                    End::NotOpened => "it could not be opened",
                    End::Idle => "nobody used it for its idleTimeout",
                    End::Ttl => "its ttl is over",
                    End::Heartbeat => "nobody asked for it for its heartbeatTimeoutInSecond",
                };
                self.log(format!("the session has ended: {why}"));
            }
            Fact::Forgotten => self.live.is_forgotten.store(true, Ordering::Release),
            Fact::Left => tracing::info!(session, "an interactive session waits for the next leader"),
            Fact::NotStored => {
                tracing::warn!(session, "a step of an interactive session could not be stored; it will be tried again");
            }
        }
    }
}

fn done(output: Output) -> BoxFuture<'static, Done> {
    std::future::ready(Done::of(output)).boxed()
}

/// Returns the size of an output, which is at least 1.
fn size(output: &Output, rows: Option<&Bytes>) -> u64 {
    let text = match output {
        Output::Text { text } => text.len(),
        Output::Failed { name, message, traceback, printed } => {
            name.len() + message.len() + traceback.iter().map(String::len).sum::<usize>() + printed.len()
        }
        Output::Rows { .. } | Output::Wrote { .. } | Output::Forms => 1,
    };
    text.max(1) as u64 + rows.map_or(0, |rows| rows.len() as u64)
}

/// Returns the name of the option that SET or RESET names.
fn option_of(sql: &str) -> String {
    let name = sql.trim_start().split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim_start());
    let end = name.find(|c: char| c == '=' || c == ';' || c.is_whitespace()).unwrap_or(name.len());
    name[..end].to_lowercase()
}

/// Opens what the statements of a session run in, as its earlier statements left its options.
fn open(shared: Arc<Shared>, record: Record) -> BoxFuture<'static, Result<Arc<Session>, QueryError>> {
    async move {
        let by = Principal::user(record.asked.proxy_user.as_deref().unwrap_or(&record.owner));
        let session = shared.sessions.open(&by, &record.options).await?;
        for text in &record.sets {
            let run = shared.runs.attach(&by, &session, Ask::sql(text), Info::default(), None);
            if let Err(error) = run.ended().await {
                shared.sessions.close(&by, &session.id).await;
                return Err(error);
            }
        }
        Ok(session)
    }
    .boxed()
}
