//! Interactive sessions: statements of a user that run one after the other, and whose results stay. One machine for each session.
//!
//! ```text
//!   session:    (created) ──stored──> starting ──opened──> idle <──────> busy
//!                                        │                   │ stop, delete, a time limit  │
//!                             not opened │                   │            ┌────────────────┘
//!                                        v                   v            v
//!                                      error         dead, killed <── shutting down   (its statement is stopped first)
//!                                        │                   │
//!                                        └──── retention ────┴──> forgotten
//!
//!   statement:  waiting ──> running ──> available          (it has an output: rows, or the error of the statement)
//!                  │           │  └──────> error           (it was lost with its primary, or its output could not be stored)
//!                  │           v
//!                  │       cancelling ──> cancelled, available
//!                  └─────────────────────> cancelled
//!
//!   another primary finds:  waiting ──> waiting, and it runs there      running, cancelling ──> error, or available if it took effect
//! ```
//!
//! A step that changes what must survive computes the book of the session as it will be, and asks the shell to store the difference. The shell tells the
//! outcome before anything else. Only then the new book counts, statements begin and answers go out.
//!
//! Invariants, each held by `simulation`:
//! - At most one statement of a session runs, and statements begin in the order of their numbers.
//! - A statement is begun once. It is begun again only if its primary said that it had not begun it.
//! - A statement that was answered as accepted is known until bounds or the end of its session remove it, whoever leads.
//! - A statement that has ended stays as it ended.
//! - Statements and their bytes stay within [`Limits`].

#[cfg(test)]
mod simulation;

use crate::time::Instant;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Time until the store is asked again, after it has refused a step that nobody asked for.
pub const STORED_AGAIN: Duration = Duration::from_secs(10);

/// Bounds of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum statements that have ended and are kept. Older ones are removed.
    pub kept: usize,
    /// Maximum statements that have not ended. More are refused.
    pub waiting: usize,
    /// Maximum bytes of the texts and outputs of kept statements. Older statements are removed, but the last one stays.
    pub bytes: u64,
}

/// Time limits of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// Time without a statement or another use after which the session ends. A busy session is in use.
    pub idle: Duration,
    /// Life of the session.
    pub ttl: Option<Duration>,
    /// Time without any request after which the session ends.
    pub heartbeat: Option<Duration>,
    /// Time that an ended session stays known.
    pub retention: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    Starting,
    Idle,
    Busy,
    ShuttingDown,
    /// It could not be opened.
    Error,
    /// Somebody stopped it.
    Dead,
    /// A time limit ended it.
    Killed,
}

impl SessionState {
    pub const ALL: [SessionState; 7] = [
        SessionState::Starting,
        SessionState::Idle,
        SessionState::Busy,
        SessionState::ShuttingDown,
        SessionState::Error,
        SessionState::Dead,
        SessionState::Killed,
    ];

    pub fn has_ended(self) -> bool {
        matches!(self, SessionState::Error | SessionState::Dead | SessionState::Killed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatementState {
    Waiting,
    Running,
    Cancelling,
    /// It has ended, and its output says how.
    Available,
    /// It has ended, and has no output of its own.
    Error,
    Cancelled,
}

impl StatementState {
    pub const ALL: [StatementState; 6] = [
        StatementState::Waiting,
        StatementState::Running,
        StatementState::Cancelling,
        StatementState::Available,
        StatementState::Error,
        StatementState::Cancelled,
    ];

    pub fn has_ended(self) -> bool {
        matches!(self, StatementState::Available | StatementState::Error | StatementState::Cancelled)
    }
}

/// Why a session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Stopped,
    NotOpened,
    Idle,
    Ttl,
    Heartbeat,
}

impl End {
    pub fn state(self) -> SessionState {
        match self {
            End::Stopped => SessionState::Dead,
            End::NotOpened => SessionState::Error,
            End::Idle | End::Ttl | End::Heartbeat => SessionState::Killed,
        }
    }
}

/// How a begun statement ended on this primary. `bytes`: the size of its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Done {
        bytes: u64,
    },
    /// The statement was stopped, as [`Effect::Stop`] asks, or its job was cancelled. `bytes`: the size of its output.
    Stopped {
        bytes: u64,
    },
    /// This primary stops and has not begun it: the next one can.
    NotBegun,
    /// Another primary leads, or the outcome cannot be found out.
    LeftToNext,
}

/// Answer of the metadata store to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Done,
    /// Nothing was changed.
    Refused,
    /// Another primary leads, or the outcome cannot be found out: the next leader finds what is stored.
    LeftToNext,
}

/// A request. Its answer has the number that the shell gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Run a statement whose text has this many bytes.
    Run {
        bytes: u64,
    },
    Cancel {
        statement: u32,
    },
    /// Cancel all statements that have not ended.
    Interrupt,
    Stop,
    /// Stop it, and forget it with its statements.
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The session was asked for, or this leader has found one of an earlier leader.
    Begun,
    /// Outcome of [`Output::persist`]. It comes before any other event.
    Persisted(Said),
    /// Outcome of [`Effect::Open`].
    Opened {
        done: bool,
    },
    /// Outcome of [`Effect::Begin`].
    Ended {
        statement: u32,
        ended: Ended,
    },
    Asked {
        number: u64,
        request: Request,
    },
    /// Somebody asked for the session. `used`: in a way that counts as use.
    Heard {
        used: bool,
    },
    /// This primary stops.
    Leave,
    /// The time returned by [`Session::next_deadline`] has come.
    Tick,
}

/// Work that a step asks the shell to do, in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// One transaction.
    pub persist: Option<Vec<Change>>,
    pub send: Vec<Effect>,
    pub reply: Vec<(u64, Reply)>,
    pub facts: Vec<Fact>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Store the session, and why and when it ended.
    Session { ended: Option<(End, Instant)> },
    /// Store the statement with its state. `output`: and its output.
    Statement { statement: u32, state: StatementState, output: bool },
    /// Remove the statement with its output.
    ForgetStatement { statement: u32 },
    /// Remove the session with everything in it.
    Forget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Open what statements run in.
    Open,
    /// Run a statement.
    Begin { statement: u32 },
    /// Stop the running statement. It ends in any case.
    Stop { statement: u32 },
    /// Close what statements ran in, if it is open or being opened.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The session or its statement is stored, and goes on under any leader.
    Accepted { statement: Option<u32> },
    /// What was asked for is done, or under way.
    Done,
    /// There is no such statement.
    Unknown,
    /// The session takes no statements.
    HasEnded(SessionState),
    /// [`Limits::waiting`] statements have not ended.
    TooMany,
    /// The store refused it.
    NotStored,
    /// This primary cannot answer; ask the leader.
    NotLeading,
}

/// Observations for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// It takes statements.
    Open,
    /// The statement was under way when an earlier primary ended.
    Lost {
        statement: u32,
        took_effect: bool,
    },
    /// Older statements were removed because of the limits.
    Removed {
        statement: u32,
    },
    Ended(End),
    Forgotten,
    /// The next leader goes on with the session.
    Left,
    /// The store refused to record what happened; it is asked again.
    NotStored,
}

/// A statement as the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub state: StatementState,
    /// Bytes of its text and its output.
    pub bytes: u64,
    /// Whether it is known to have taken effect, though its end is not stored.
    pub took_effect: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Statement {
    state: StatementState,
    bytes: u64,
}

/// What must survive, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Book {
    statements: BTreeMap<u32, Statement>,
    /// Number of the next statement.
    next: u32,
    ended: Option<(End, Instant)>,
}

/// The book as it will be, and what follows when it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Proposal {
    book: Book,
    then: Output,
    next: Phase,
    refused: Refused,
}

/// What to do if the store refuses a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// Tell the requester; nothing has changed.
    Tell(u64),
    /// Tell the requester; there is no session.
    Over(u64),
    /// Do it again later.
    Again(Redo),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Redo {
    Settle,
    Begin,
    /// Store the end of the statement, without its output.
    End {
        statement: u32,
        state: StatementState,
    },
    Close(End),
    Forget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Found,
    Opening,
    /// Takes statements, or has ended and is kept.
    Open,
    /// Waits for the running statement before it ends.
    Closing(End),
    Over,
    Left,
}

/// One session. See the module for its states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    limits: Limits,
    times: Times,
    created: Instant,
    used: Instant,
    heard: Instant,
    phase: Phase,
    book: Book,
    proposal: Option<Box<Proposal>>,
    again: Option<(Instant, Redo)>,
    /// Statements of an earlier primary that took effect.
    took_effect: Vec<u32>,
    /// Requests to stop or delete that wait until it is stored, and whether one of them deletes.
    closers: Vec<u64>,
    forget: bool,
}

impl Session {
    /// Creates a session that was just asked for. The request has the number 0.
    pub fn new(now: Instant, limits: Limits, times: Times) -> Self {
        let book = Book { statements: BTreeMap::new(), next: 0, ended: None };
        Session::at(now, now, limits, times, book, Phase::New)
    }

    /// Creates a session that an earlier leader left. `next`: the number of its next statement.
    pub fn found(
        now: Instant,
        created: Instant,
        limits: Limits,
        times: Times,
        next: u32,
        ended: Option<(End, Instant)>,
        stored: &BTreeMap<u32, Stored>,
    ) -> Self {
        let statement = |stored: &Stored| Statement { state: stored.state, bytes: stored.bytes };
        let statements = stored.iter().map(|(&number, stored)| (number, statement(stored))).collect();
        let took_effect = stored.iter().filter(|(_, stored)| stored.took_effect).map(|(&number, _)| number).collect();
        let book = Book { statements, next, ended };
        Session { took_effect, ..Session::at(now, created, limits, times, book, Phase::Found) }
    }

    fn at(now: Instant, created: Instant, limits: Limits, times: Times, book: Book, phase: Phase) -> Self {
        Session {
            limits,
            times,
            created,
            used: now,
            heard: now,
            phase,
            book,
            proposal: None,
            again: None,
            took_effect: Vec::new(),
            closers: Vec::new(),
            forget: false,
        }
    }

    pub fn state(&self) -> SessionState {
        match (self.phase, self.book.ended) {
            (_, Some((end, _))) => end.state(),
            (Phase::New | Phase::Found | Phase::Opening, None) => SessionState::Starting,
            (Phase::Closing(_) | Phase::Over, None) => SessionState::ShuttingDown,
            (Phase::Open | Phase::Left, None) if self.book.unended().next().is_some() => SessionState::Busy,
            (Phase::Open | Phase::Left, None) => SessionState::Idle,
        }
    }

    /// States of its statements, by number.
    pub fn statements(&self) -> impl Iterator<Item = (u32, StatementState)> + '_ {
        self.book.statements.iter().map(|(&number, statement)| (number, statement.state))
    }

    /// Number of the next statement.
    pub fn next_statement(&self) -> u32 {
        self.book.next
    }

    /// Whether the machine will ask for nothing more.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over | Phase::Left)
    }

    /// Time at which the machine needs an [`Event::Tick`], if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        let again = self.again.map(|(at, _)| at);
        let ended = self.book.ended.map(|(_, at)| at + self.times.retention);
        let limit = self.limit().map(|(at, _)| at);
        match self.phase {
            Phase::Over | Phase::Left => None,
            _ if again.is_some() => again,
            _ if ended.is_some() => ended,
            _ => limit,
        }
    }

    /// The time limit that comes first.
    fn limit(&self) -> Option<(Instant, End)> {
        // A session that is not open yet ends when it is.
        if self.book.ended.is_some() || self.phase != Phase::Open {
            return None;
        }
        let idle = (self.state() == SessionState::Idle).then_some((self.used + self.times.idle, End::Idle));
        let ttl = self.times.ttl.map(|ttl| (self.created + ttl, End::Ttl));
        let heartbeat = self.times.heartbeat.map(|heartbeat| (self.heard + heartbeat, End::Heartbeat));
        [ttl, heartbeat, idle].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Takes one event and returns its consequences. An event that fits no state changes nothing.
    pub fn step(&mut self, now: Instant, event: Event) -> Output {
        let mut out = Output::default();
        match (self.phase, event) {
            (_, Event::Persisted(said)) => self.persisted(now, said, &mut out),
            (Phase::Over | Phase::Left, Event::Asked { number, .. }) => out.reply.push((number, Reply::NotLeading)),
            (Phase::Over | Phase::Left, _) => {}
            (Phase::New, Event::Begun) => self.create(&mut out),
            (Phase::Found, Event::Begun) => self.settle(&mut out),
            (Phase::Opening, Event::Opened { done: true }) => self.opened(now, &mut out),
            (Phase::Opening, Event::Opened { done: false }) => self.close(now, End::NotOpened, &mut out),
            (_, Event::Ended { statement, ended }) => self.ended(now, statement, ended, &mut out),
            (_, Event::Asked { number, request }) => self.asked(now, number, request, &mut out),
            (_, Event::Heard { used }) => {
                self.heard = now;
                self.used = if used { now } else { self.used };
            }
            (_, Event::Leave) => self.leave(&mut out),
            (_, Event::Tick) => self.tick(now, &mut out),
            _ => {}
        }
        out
    }

    // ---- the store

    fn propose(
        &mut self,
        book: Book,
        changes: Vec<Change>,
        then: Output,
        next: Phase,
        refused: Refused,
        out: &mut Output,
    ) {
        self.proposal = Some(Box::new(Proposal { book, then, next, refused }));
        self.again = None;
        out.persist = Some(changes);
    }

    fn persisted(&mut self, now: Instant, said: Said, out: &mut Output) {
        let Some(proposal) = self.proposal.take() else { return };
        match said {
            Said::Done => {
                self.book = proposal.book;
                self.phase = proposal.next;
                *out = proposal.then;
                if self.book.ended.is_some() || self.phase == Phase::Over {
                    self.tell_closers(Reply::Done, out);
                }
            }
            Said::Refused => match proposal.refused {
                Refused::Tell(number) => out.reply.push((number, Reply::NotStored)),
                Refused::Over(number) => {
                    self.phase = Phase::Over;
                    out.reply.push((number, Reply::NotStored));
                }
                Refused::Again(redo) => {
                    self.again = Some((now + STORED_AGAIN, redo));
                    out.facts.push(Fact::NotStored);
                    self.tell_closers(Reply::NotStored, out);
                }
            },
            Said::LeftToNext => {
                if let Refused::Tell(number) | Refused::Over(number) = proposal.refused {
                    out.reply.push((number, Reply::NotLeading));
                }
                self.leave(out);
            }
        }
    }

    fn leave(&mut self, out: &mut Output) {
        self.phase = Phase::Left;
        self.tell_closers(Reply::NotLeading, out);
        out.facts.push(Fact::Left);
    }

    fn tell_closers(&mut self, reply: Reply, out: &mut Output) {
        out.reply.extend(std::mem::take(&mut self.closers).into_iter().map(|number| (number, reply)));
    }

    // ---- the session

    fn create(&mut self, out: &mut Output) {
        let then = Output {
            send: vec![Effect::Open],
            reply: vec![(0, Reply::Accepted { statement: None })],
            ..Output::default()
        };
        let changes = vec![Change::Session { ended: None }];
        self.propose(self.book.clone(), changes, then, Phase::Opening, Refused::Over(0), out);
    }

    /// Ends the statements that were under way when the primary before ended.
    fn settle(&mut self, out: &mut Output) {
        let (mut book, mut changes, mut then) = (self.book.clone(), Vec::new(), Output::default());
        for (&statement, of) in &mut book.statements {
            let was_cancelled = match of.state {
                StatementState::Running => false,
                StatementState::Cancelling => true,
                _ => continue,
            };
            let took_effect = self.took_effect.contains(&statement);
            of.state = match (took_effect, was_cancelled) {
                (true, _) => StatementState::Available,
                (false, true) => StatementState::Cancelled,
                (false, false) => StatementState::Error,
            };
            changes.push(Change::Statement { statement, state: of.state, output: false });
            then.facts.push(Fact::Lost { statement, took_effect });
        }
        let next = match book.ended {
            Some(_) => Phase::Open,
            None => {
                then.send.push(Effect::Open);
                Phase::Opening
            }
        };
        book.trim(&self.limits, &mut changes, &mut then.facts);
        if changes.is_empty() {
            self.phase = next;
            *out = then;
            return;
        }
        self.propose(book, changes, then, next, Refused::Again(Redo::Settle), out);
    }

    fn opened(&mut self, now: Instant, out: &mut Output) {
        self.phase = Phase::Open;
        self.used = now;
        out.facts.push(Fact::Open);
        self.begin(out);
    }

    /// Begins the first waiting statement, if none runs.
    fn begin(&mut self, out: &mut Output) {
        let mut book = self.book.clone();
        let Some((change, effect)) = book.begin_next() else { return };
        let then = Output { send: vec![effect], ..Output::default() };
        self.propose(book, vec![change], then, Phase::Open, Refused::Again(Redo::Begin), out);
    }

    fn close(&mut self, now: Instant, end: End, out: &mut Output) {
        self.close_after(now, end, self.book.clone(), Vec::new(), out);
    }

    /// Ends the session after these changes of its book, with the statements that have not ended.
    fn close_after(&mut self, now: Instant, end: End, mut book: Book, mut changes: Vec<Change>, out: &mut Output) {
        self.phase = Phase::Closing(end);
        let mut then = Output { send: vec![Effect::Close], facts: vec![Fact::Ended(end)], ..Output::default() };
        for (&statement, of) in book.statements.iter_mut().filter(|(_, of)| !of.state.has_ended()) {
            of.state = StatementState::Cancelled;
            changes.push(Change::Statement { statement, state: of.state, output: false });
        }
        let ended = Some((end, now));
        book.ended = ended;
        if self.forget {
            then.facts.push(Fact::Forgotten);
            return self.propose(book, vec![Change::Forget], then, Phase::Over, Refused::Again(Redo::Close(end)), out);
        }
        book.trim(&self.limits, &mut changes, &mut then.facts);
        changes.push(Change::Session { ended });
        self.propose(book, changes, then, Phase::Open, Refused::Again(Redo::Close(end)), out);
    }

    /// Ends the session, after its running statement.
    fn end(&mut self, now: Instant, end: End, out: &mut Output) {
        if self.runs().is_none() {
            return self.close(now, end, out);
        }
        self.phase = Phase::Closing(end);
        self.stop_running(out);
    }

    /// The statement that runs here. None does while a step is to be stored again: the book may name one that has ended.
    fn runs(&self) -> Option<u32> {
        self.book.running().filter(|_| self.again.is_none())
    }

    fn stop_running(&mut self, out: &mut Output) {
        if let Some(statement) = self.runs()
            && let Some(of) = self.book.statements.get_mut(&statement)
            && of.state == StatementState::Running
        {
            of.state = StatementState::Cancelling;
            out.send.push(Effect::Stop { statement });
        }
    }

    fn forget(&mut self, out: &mut Output) {
        let then = Output { facts: vec![Fact::Forgotten], ..Output::default() };
        self.propose(self.book.clone(), vec![Change::Forget], then, Phase::Over, Refused::Again(Redo::Forget), out);
    }

    fn tick(&mut self, now: Instant, out: &mut Output) {
        if let Some((at, redo)) = self.again {
            if now < at {
                return;
            }
            self.again = None;
            return match redo {
                Redo::Settle => self.settle(out),
                Redo::Begin => self.begin(out),
                Redo::End { statement, state } => self.end_statement(now, statement, state, 0, out),
                Redo::Close(end) => self.close(now, end, out),
                Redo::Forget => self.forget(out),
            };
        }
        if let Some((_, at)) = self.book.ended {
            if at + self.times.retention <= now {
                self.forget(out);
            }
            return;
        }
        if let Some((at, end)) = self.limit()
            && at <= now
        {
            self.end(now, end, out);
        }
    }

    // ---- statements

    fn ended(&mut self, now: Instant, statement: u32, ended: Ended, out: &mut Output) {
        if self.book.running() != Some(statement) {
            return;
        }
        self.used = now;
        match ended {
            Ended::Done { bytes } => self.end_statement(now, statement, StatementState::Available, bytes, out),
            Ended::Stopped { bytes } => self.end_statement(now, statement, StatementState::Cancelled, bytes, out),
            Ended::LeftToNext => self.leave(out),
            Ended::NotBegun if matches!(self.phase, Phase::Closing(_)) => {
                self.end_statement(now, statement, StatementState::Cancelled, 0, out);
            }
            Ended::NotBegun => {
                let mut book = self.book.clone();
                let state = StatementState::Waiting;
                book.statements.entry(statement).and_modify(|of| of.state = state);
                let then = Output { facts: vec![Fact::Left], ..Output::default() };
                let changes = vec![Change::Statement { statement, state, output: false }];
                // If the store refuses it, the statement counts as lost.
                let again = Refused::Again(Redo::End { statement, state: StatementState::Error });
                self.propose(book, changes, then, Phase::Left, again, out);
            }
        }
    }

    fn end_statement(&mut self, now: Instant, statement: u32, state: StatementState, bytes: u64, out: &mut Output) {
        let (mut book, mut then) = (self.book.clone(), Output::default());
        let output = bytes > 0;
        book.statements.entry(statement).and_modify(|of| {
            of.state = state;
            of.bytes += bytes;
        });
        let mut changes = vec![Change::Statement { statement, state, output }];
        if let Phase::Closing(end) = self.phase {
            return self.close_after(now, end, book, changes, out);
        }
        let without = if state == StatementState::Cancelled { state } else { StatementState::Error };
        let again = Refused::Again(Redo::End { statement, state: without });
        book.trim(&self.limits, &mut changes, &mut then.facts);
        if let Some((change, effect)) = book.begin_next() {
            changes.push(change);
            then.send.push(effect);
        }
        self.propose(book, changes, then, self.phase, again, out);
    }

    fn asked(&mut self, now: Instant, number: u64, request: Request, out: &mut Output) {
        self.heard = now;
        self.used = now;
        match request {
            Request::Run { bytes } => self.run(number, bytes, out),
            Request::Cancel { statement } => match self.book.statements.get(&statement).map(|of| of.state) {
                None => out.reply.push((number, Reply::Unknown)),
                Some(StatementState::Waiting) => self.cancel_waiting(number, Some(statement), out),
                Some(state) => {
                    if !state.has_ended() {
                        self.stop_running(out);
                    }
                    out.reply.push((number, Reply::Done));
                }
            },
            Request::Interrupt => {
                self.stop_running(out);
                match self.book.waiting().count() {
                    0 => out.reply.push((number, Reply::Done)),
                    _ => self.cancel_waiting(number, None, out),
                }
            }
            Request::Stop | Request::Delete => {
                self.forget |= request == Request::Delete;
                match (self.book.ended, self.phase) {
                    (Some(_), _) if request == Request::Stop => out.reply.push((number, Reply::Done)),
                    (Some(_), _) => {
                        self.closers.push(number);
                        self.forget(out);
                    }
                    // Its statement is being stopped.
                    (None, Phase::Closing(_)) => self.closers.push(number),
                    (None, _) => {
                        self.closers.push(number);
                        self.end(now, End::Stopped, out);
                    }
                }
            }
        }
    }

    fn run(&mut self, number: u64, bytes: u64, out: &mut Output) {
        match self.state() {
            SessionState::Starting | SessionState::Idle | SessionState::Busy => {}
            state => return out.reply.push((number, Reply::HasEnded(state))),
        }
        if self.book.unended().count() >= self.limits.waiting {
            return out.reply.push((number, Reply::TooMany));
        }
        let mut book = self.book.clone();
        let statement = book.next;
        book.next += 1;
        book.statements.insert(statement, Statement { state: StatementState::Waiting, bytes });
        let mut then =
            Output { reply: vec![(number, Reply::Accepted { statement: Some(statement) })], ..Output::default() };
        let mut state = StatementState::Waiting;
        if self.phase == Phase::Open
            && self.again.is_none()
            && let Some((_, effect)) = book.begin_next()
        {
            state = StatementState::Running;
            then.send.push(effect);
        }
        let changes = vec![Change::Statement { statement, state, output: false }];
        self.propose_beside(book, changes, then, number, out);
    }

    fn cancel_waiting(&mut self, number: u64, only: Option<u32>, out: &mut Output) {
        let (mut book, mut changes) = (self.book.clone(), Vec::new());
        let mut then = Output { reply: vec![(number, Reply::Done)], ..Output::default() };
        let state = StatementState::Cancelled;
        for (&statement, of) in &mut book.statements {
            if of.state == StatementState::Waiting && only.is_none_or(|only| only == statement) {
                of.state = state;
                changes.push(Change::Statement { statement, state, output: false });
            }
        }
        book.trim(&self.limits, &mut changes, &mut then.facts);
        self.propose_beside(book, changes, then, number, out);
    }

    /// Proposes what somebody asked for, beside what is to be stored again.
    fn propose_beside(&mut self, book: Book, changes: Vec<Change>, then: Output, number: u64, out: &mut Output) {
        let again = self.again;
        self.propose(book, changes, then, self.phase, Refused::Tell(number), out);
        self.again = again;
    }
}

impl Book {
    fn waiting(&self) -> impl Iterator<Item = u32> + '_ {
        self.statements.iter().filter(|(_, of)| of.state == StatementState::Waiting).map(|(&number, _)| number)
    }

    fn unended(&self) -> impl Iterator<Item = u32> + '_ {
        self.statements.iter().filter(|(_, of)| !of.state.has_ended()).map(|(&number, _)| number)
    }

    fn running(&self) -> Option<u32> {
        let runs = |of: &Statement| matches!(of.state, StatementState::Running | StatementState::Cancelling);
        self.statements.iter().find(|(_, of)| runs(of)).map(|(&number, _)| number)
    }

    fn begin_next(&mut self) -> Option<(Change, Effect)> {
        if self.running().is_some() {
            return None;
        }
        let statement = self.waiting().next()?;
        let state = StatementState::Running;
        self.statements.entry(statement).and_modify(|of| of.state = state);
        Some((Change::Statement { statement, state, output: false }, Effect::Begin { statement }))
    }

    /// Removes the oldest ended statements until the rest is within the limits.
    fn trim(&mut self, limits: &Limits, changes: &mut Vec<Change>, facts: &mut Vec<Fact>) {
        let ended: Vec<u32> =
            self.statements.iter().filter(|(_, of)| of.state.has_ended()).map(|(&number, _)| number).collect();
        let mut bytes: u64 = ended.iter().map(|number| self.statements[number].bytes).sum();
        let mut kept = ended.len();
        for statement in ended {
            if kept <= 1 || (kept <= limits.kept && bytes <= limits.bytes) {
                return;
            }
            if let Some(of) = self.statements.remove(&statement) {
                bytes -= of.bytes;
                kept -= 1;
            }
            changes.retain(|change| !matches!(change, Change::Statement { statement: of, .. } if *of == statement));
            changes.push(Change::ForgetStatement { statement });
            facts.push(Fact::Removed { statement });
        }
    }
}
