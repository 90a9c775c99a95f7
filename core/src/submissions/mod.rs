//! Submissions: scripts of statements that go on without their submitter. One machine for each submission.
//!
//! ```text
//!     texts are stored       job runs, or it has ended: the submitter hears     ended, not the last: position is stored
//! storing ──────────────────> running n ──────────────────────────> running n ──────────────────────> running n + 1
//!                                 │ ended: the last, failed, cancelled                 │ this leader stops leading
//!                                 v                                                    v
//!                             recording ──listed as ended, and forgotten──> over     leaving: it is stored that planning was survived
//!                                 ^   │ the store refuses                              │
//!                                 │   v                                                v
//!                            10 s └─ unrecorded                                      left: the next leader finds it
//!
//! found ──session as earlier statements left it──> restoring ──(primaries died while they planned it)──> hesitating
//!             │ it cannot be had again                 │                                                     │ 10 s
//!             v                                        v                                                     v
//!         recording (failed)                     counting: one more try is stored <──────────────────────────┘
//!                                                      │ enough tries: recording (failed)
//!                                                      v
//!                                                  running n, as one that may have happened already
//! ```
//!
//! The shell persists, then sends, then replies, and reports the outcome to the machine with the next event. The texts are stored once; each step stores only
//! its position.
//!
//! Invariants, each held by `simulation`:
//! - A statement begins after the end of the statement before it is durable. A statement that an earlier leader may have begun is begun with `again`, so that
//!   its effect does not happen twice.
//! - A statement whose planning kills primaries is begun by at most [`UNPLANNED`] of them in a row, and no statement by more than [`BEGUN`].
//! - A primary that survives a statement does not count against it: a statement is given up only when [`UNPLANNED`] primaries died of it, or when the store
//!   failed them.
//! - After a cancellation was answered, no leader begins another statement.
//! - A submission is listed as ended in the transaction that forgets it.

#[cfg(test)]
mod simulation;

use crate::time::Instant;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Maximum primaries in a row that may die while they plan one statement.
pub const UNPLANNED: u32 = 3;
/// Maximum primaries that may begin one statement.
pub const BEGUN: u32 = 100;
/// Wait before a statement is begun again that no primary has lived to run: the statement may kill primaries, and the wait leaves time to cancel it.
pub const HESITATION: Duration = Duration::from_secs(10);

/// Time until the store is asked again to record the end of a submission, after it has refused.
pub const RECORDED_AGAIN: Duration = Duration::from_secs(10);

/// Number of times that a repeated statement was begun. Stored under the statement's name before it is begun again; a statement that is begun for the first
/// time has no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// Primaries that have begun the statement.
    pub begun: u32,
    /// Primaries in a row, of those that began it, that ended before its job ran.
    pub unplanned: u32,
}

impl Tries {
    /// Tries of a statement whose first try left no record.
    const FIRST: Tries = Tries { begun: 1, unplanned: 1 };

    /// Counts one more try. The result must be durable before the statement is begun again.
    ///
    /// # Errors
    /// The tries so far, when no more are allowed.
    pub fn again(before: Option<Tries>) -> Result<Tries, Tries> {
        let before = before.unwrap_or(Tries::FIRST);
        match before.unplanned >= UNPLANNED || before.begun >= BEGUN {
            true => Err(before),
            false => Ok(Tries { begun: before.begun + 1, unplanned: before.unplanned + 1 }),
        }
    }

    /// Notes that this primary has lived to run the statement. Later failures are the scheduler's to survive, and leaders may change for other reasons while a
    /// long statement runs.
    pub fn planned(self) -> Tries {
        Tries { unplanned: 0, ..self }
    }

    /// Whether a primary has begun the statement again and no job of it has run since.
    pub fn is_suspect(before: Option<Tries>) -> bool {
        before.is_some_and(|tries| tries.unplanned > 0)
    }
}

/// Progress of a submission: all that one step stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Index of the first statement that has not ended, from 0.
    pub next: u32,
    /// Whether no further statement may begin.
    pub cancelled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The submission was handed over, or this leader has found one of an earlier leader.
    Begun,
    /// Outcome of [`Output::persist`].
    Persisted(Said),
    /// Outcome of [`Effect::Restore`].
    Restored(Restored),
    /// The job of the begun statement runs, or the statement needs none.
    Planned,
    /// Outcome of [`Effect::Begin`].
    Ended(Ended),
    /// A request to cancel. May come at any time, and more than once.
    Cancel,
    /// This primary stops. Must be sent when nothing is being stored.
    Leave,
    /// The time returned by [`Submission::next_deadline`] has come.
    Tick,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// The session is as the earlier statements left it.
    Done,
    /// The session cannot be restored.
    Lost,
    /// Another primary leads, or this one stops.
    LeftToNext,
}

/// How a statement ended on this primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Done,
    Failed,
    /// The statement was stopped, as [`Effect::Stop`] asks, or its job was cancelled.
    Stopped,
    /// Another primary leads, or the outcome cannot be found out.
    LeftToNext,
}

/// Work that a step asks the shell to do, in this order after the facts. At most one of `persist` and `send` is present; a step without both waits for an
/// event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub persist: Option<Vec<Change>>,
    pub send: Option<Effect>,
    pub reply: Vec<Reply>,
    pub facts: Vec<Fact>,
}

/// One change in a transaction. Statements have numbers here; the shell gives them names that are unique among all submissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Store the texts and the submitter.
    Put,
    Position(Position),
    Tries {
        statement: u32,
        tries: Tries,
    },
    ForgetTries {
        statement: u32,
    },
    /// List the submission as ended.
    Record(Outcome),
    /// Remove the texts and the position.
    Forget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Restore the session that the statements before this one have left: the options that they set. It cannot be restored if they made things that went with
    /// their primary.
    Restore { before: u32 },
    /// Run a statement. `again`: a leader may have begun it, so check first whether it has happened.
    Begin { statement: u32, again: bool },
    /// Stop the running statement. It ends in any case.
    Stop { statement: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Finished,
    Cancelled,
    /// This statement failed, or could not be begun.
    Failed {
        statement: u32,
        why: Why,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The statement ended with an error.
    Statement,
    /// Things that earlier statements made went with their primary.
    SessionLost,
    /// The maximum number of primaries have begun the statement without ending it.
    Exhausted(Tries),
    /// The store refused to record that the statement is begun again, or that it has ended.
    NotNoted,
}

/// Answers to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To the submitter, once: the submission goes on under any leader.
    Accepted,
    /// To the submitter, once: the submission does not go on. The outcome is present when some of its statements were tried.
    Refused(Option<Outcome>),
    /// To a request to cancel: no further statement begins, under any leader.
    Cancelling,
    /// To a request to cancel: the submission ended before.
    HasEnded,
    /// To a request to cancel: this primary cannot answer; ask the leader.
    NotCancelled,
}

/// Observations for logs and lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The submission is stored: list it from here on.
    Stored,
    /// The statement's turn has come.
    At { statement: u32 },
    /// The statement waits, because primaries have not lived to run it.
    Hesitates { statement: u32 },
    /// The next leader goes on with the submission.
    Left,
    /// The submission has ended, and its end is stored.
    Ended(Outcome),
    /// The submission has ended, and the store refused to record it.
    NotRecorded(Outcome),
}

/// One submission. See the module for its states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    statements: u32,
    position: Position,
    /// Tries of the statement at `position.next`.
    tries: Option<Tries>,
    state: State,
    /// Whether the submitter still waits for an answer.
    submitter_waits: bool,
    /// Requests to cancel that wait until the cancellation is durable.
    cancels_waiting: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Found,
    Storing,
    Restoring,
    Hesitating {
        until: Instant,
    },
    Counting,
    Running {
        planned: bool,
        stopping: bool,
    },
    /// Stores that the statement's job runs. `ended`: how the statement ended meanwhile.
    Noting {
        ended: Option<Ended>,
    },
    Advancing,
    /// Stores that the submission is cancelled.
    Cancelling(Before),
    Recording(Outcome),
    Unrecorded {
        outcome: Outcome,
        until: Instant,
    },
    /// Stores that this leader has survived the statement and leaves it.
    Leaving,
    Over,
    Left,
}

/// State that goes on while a cancellation is stored, or resumes if the store refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Found,
    /// `done`: the outcome that arrived meanwhile.
    Restoring {
        done: Option<Restored>,
    },
    Hesitating {
        until: Instant,
    },
    Beginning {
        again: bool,
    },
    /// `ended`: how the statement ended meanwhile.
    Running {
        planned: bool,
        ended: Option<Ended>,
    },
}

impl Submission {
    /// Creates a submission of this many statements, at least one, that was just handed over.
    pub fn new(statements: u32) -> Self {
        Submission { submitter_waits: true, ..Submission::at(statements, Position::default(), None, State::New) }
    }

    /// Creates a submission that an earlier leader left. `tries`: the stored tries of the statement at `position.next`.
    pub fn found(statements: u32, position: Position, tries: Option<Tries>) -> Self {
        Submission::at(statements, position, tries, State::Found)
    }

    fn at(statements: u32, position: Position, tries: Option<Tries>, state: State) -> Self {
        Submission { statements, position, tries, state, submitter_waits: false, cancels_waiting: 0 }
    }

    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether the machine will ask for nothing more.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over | State::Left)
    }

    /// Time at which the machine needs an [`Event::Tick`], if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Hesitating { until } | State::Unrecorded { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Takes one event and returns its consequences. An event that fits no state changes nothing.
    pub fn step(&mut self, now: Instant, event: Event) -> Output {
        let mut out = Output::default();
        if event == Event::Cancel {
            self.cancel(&mut out);
            return out;
        }
        match (self.state, event) {
            (State::New, Event::Begun) => self.persist(State::Storing, vec![Change::Put], &mut out),
            (State::Storing, Event::Persisted(Said::Done)) => {
                out.facts.push(Fact::Stored);
                self.begin(false, &mut out);
            }
            (State::Storing, Event::Persisted(Said::Refused)) => {
                self.tell_submitter(Reply::Refused(None), &mut out);
                self.over(&mut out);
            }
            // The submission goes on if the store has it.
            (State::Storing, Event::Persisted(Said::LeftToNext)) => {
                self.tell_submitter(Reply::Refused(None), &mut out);
                self.leave(&mut out);
            }

            (State::Found, Event::Begun) => {
                out.facts.push(Fact::Stored);
                self.follow(&mut out);
            }
            (State::Restoring, Event::Restored(done)) => self.restored(now, done, &mut out),
            (State::Hesitating { until }, Event::Tick) if until <= now => self.count(&mut out),
            (State::Counting, Event::Persisted(Said::Done)) => self.begin(true, &mut out),
            (State::Advancing, Event::Persisted(Said::Done)) => {
                self.position.next += 1;
                self.tries = None;
                self.begin(false, &mut out);
            }
            (State::Counting | State::Advancing, Event::Persisted(Said::Refused)) => self.fail(Why::NotNoted, &mut out),
            (State::Counting | State::Advancing, Event::Persisted(Said::LeftToNext)) => self.leave(&mut out),

            (State::Running { planned: false, stopping }, Event::Planned) => self.planned(stopping, &mut out),
            (State::Running { stopping, .. }, Event::Ended(ended)) => self.ended(ended, stopping, &mut out),
            (State::Running { .. }, Event::Leave) => self.lived_to_leave(&mut out),
            (State::Restoring | State::Hesitating { .. } | State::Unrecorded { .. }, Event::Leave) => {
                self.leave(&mut out);
            }
            // The primary leaves, whether or not the record was stored.
            (State::Leaving, Event::Persisted(_)) => self.leave(&mut out),
            (State::Noting { ended: None }, Event::Ended(ended)) => self.state = State::Noting { ended: Some(ended) },
            // The statement has ended, whether or not its run was recorded: the next leader counts what it finds.
            (State::Noting { ended: Some(ended) }, Event::Persisted(_)) => self.ended(ended, false, &mut out),
            (State::Noting { ended: None }, Event::Persisted(_)) => {
                self.state = State::Running { planned: true, stopping: false };
                self.take_up_cancels(&mut out);
            }

            (State::Cancelling(Before::Restoring { done: None }), Event::Restored(done)) => {
                self.state = State::Cancelling(Before::Restoring { done: Some(done) });
            }
            (State::Cancelling(Before::Running { ended, .. }), Event::Planned) => {
                self.tell_submitter(Reply::Accepted, &mut out);
                self.state = State::Cancelling(Before::Running { planned: true, ended });
            }
            (State::Cancelling(Before::Running { planned, ended: None }), Event::Ended(ended)) => {
                self.state = State::Cancelling(Before::Running { planned, ended: Some(ended) });
            }
            (State::Cancelling(before), Event::Persisted(said)) => self.cancelled(now, before, said, &mut out),

            (State::Recording(outcome), Event::Persisted(said)) => self.recorded(now, outcome, said, &mut out),
            (State::Unrecorded { outcome, until }, Event::Tick) if until <= now => self.record(outcome, &mut out),
            _ => {}
        }
        out
    }

    fn persist(&mut self, state: State, changes: Vec<Change>, out: &mut Output) {
        self.state = state;
        out.persist = Some(changes);
    }

    fn follow(&mut self, out: &mut Output) {
        if self.position.cancelled {
            return self.record(Outcome::Cancelled, out);
        }
        if self.position.next >= self.statements {
            return self.record(Outcome::Finished, out);
        }
        if self.cancels_waiting > 0 {
            return self.store_cancellation(Before::Found, out);
        }
        self.state = State::Restoring;
        out.send = Some(Effect::Restore { before: self.position.next });
    }

    fn restored(&mut self, now: Instant, done: Restored, out: &mut Output) {
        match done {
            Restored::Done => {}
            Restored::Lost => return self.fail(Why::SessionLost, out),
            Restored::LeftToNext => return self.leave(out),
        }
        if !Tries::is_suspect(self.tries) {
            return self.count(out);
        }
        self.state = State::Hesitating { until: now + HESITATION };
        out.facts.push(Fact::Hesitates { statement: self.position.next });
    }

    fn begin(&mut self, again: bool, out: &mut Output) {
        if self.cancels_waiting > 0 {
            return self.store_cancellation(Before::Beginning { again }, out);
        }
        let statement = self.position.next;
        self.state = State::Running { planned: false, stopping: false };
        out.facts.push(Fact::At { statement });
        out.send = Some(Effect::Begin { statement, again });
    }

    /// Counts a try of a statement that an earlier leader may have begun.
    fn count(&mut self, out: &mut Output) {
        match Tries::again(self.tries) {
            Ok(tries) => {
                self.tries = Some(tries);
                let statement = self.position.next;
                self.persist(State::Counting, vec![Change::Tries { statement, tries }], out);
            }
            Err(tries) => self.fail(Why::Exhausted(tries), out),
        }
    }

    fn planned(&mut self, stopping: bool, out: &mut Output) {
        self.tell_submitter(Reply::Accepted, out);
        self.state = State::Running { planned: true, stopping };
        if Tries::is_suspect(self.tries) && !stopping {
            let tries = self.tries.map_or(Tries::FIRST, Tries::planned);
            self.tries = Some(tries);
            let statement = self.position.next;
            self.persist(State::Noting { ended: None }, vec![Change::Tries { statement, tries }], out);
        }
    }

    fn ended(&mut self, ended: Ended, stopping: bool, out: &mut Output) {
        match ended {
            Ended::Done => self.advance(stopping, out),
            Ended::Failed if !stopping => self.fail(Why::Statement, out),
            Ended::Failed | Ended::Stopped => self.record(Outcome::Cancelled, out),
            Ended::LeftToNext => self.lived_to_leave(out),
        }
    }

    fn advance(&mut self, stopping: bool, out: &mut Output) {
        let statement = self.position.next;
        if statement + 1 >= self.statements {
            return self.record(Outcome::Finished, out);
        }
        if stopping {
            return self.record(Outcome::Cancelled, out);
        }
        self.tell_submitter(Reply::Accepted, out);
        let position = Position { next: statement + 1, ..self.position };
        let tried = self.tries.map(|_| Change::ForgetTries { statement });
        let changes = [Change::Position(position)].into_iter().chain(tried).collect();
        self.persist(State::Advancing, changes, out);
    }

    fn fail(&mut self, why: Why, out: &mut Output) {
        self.record(Outcome::Failed { statement: self.position.next, why }, out);
    }

    fn record(&mut self, outcome: Outcome, out: &mut Output) {
        let statement = self.position.next;
        let changes = vec![Change::Record(outcome), Change::Forget, Change::ForgetTries { statement }];
        self.persist(State::Recording(outcome), changes, out);
    }

    fn recorded(&mut self, now: Instant, outcome: Outcome, said: Said, out: &mut Output) {
        let told = if outcome == Outcome::Finished { Reply::Accepted } else { Reply::Refused(Some(outcome)) };
        match said {
            Said::Done => {
                out.facts.push(Fact::Ended(outcome));
                self.tell_submitter(told, out);
                self.over(out);
            }
            Said::Refused => {
                self.state = State::Unrecorded { outcome, until: now + RECORDED_AGAIN };
                out.facts.push(Fact::NotRecorded(outcome));
                self.tell_submitter(told, out);
                self.tell_cancels(Reply::NotCancelled, out);
            }
            Said::LeftToNext => self.leave(out),
        }
    }

    fn over(&mut self, out: &mut Output) {
        self.state = State::Over;
        self.tell_cancels(Reply::HasEnded, out);
    }

    /// Leaves a begun statement, and records that it did not kill this primary.
    fn lived_to_leave(&mut self, out: &mut Output) {
        let tries = self.tries.unwrap_or(Tries::FIRST);
        if tries.unplanned == 0 {
            return self.leave(out);
        }
        let (statement, tries) = (self.position.next, tries.planned());
        self.persist(State::Leaving, vec![Change::Tries { statement, tries }], out);
    }

    fn leave(&mut self, out: &mut Output) {
        self.state = State::Left;
        out.facts.push(Fact::Left);
        self.tell_submitter(Reply::Accepted, out);
        self.tell_cancels(Reply::NotCancelled, out);
    }

    // ---- cancellation

    fn cancel(&mut self, out: &mut Output) {
        self.cancels_waiting += 1;
        if self.position.cancelled {
            return self.tell_cancels(Reply::Cancelling, out);
        }
        match self.state {
            State::Over => self.over(out),
            State::Left => self.tell_cancels(Reply::NotCancelled, out),
            // The pending transaction comes first.
            _ => self.take_up_cancels(out),
        }
    }

    /// Stores that the submission is cancelled, unless something is being stored.
    fn take_up_cancels(&mut self, out: &mut Output) {
        if self.cancels_waiting == 0 {
            return;
        }
        match self.state {
            State::Restoring => self.store_cancellation(Before::Restoring { done: None }, out),
            State::Hesitating { until } => self.store_cancellation(Before::Hesitating { until }, out),
            State::Running { planned, stopping: false } => {
                self.store_cancellation(Before::Running { planned, ended: None }, out);
            }
            State::Unrecorded { outcome, .. } => self.record(outcome, out),
            _ => {}
        }
    }

    fn store_cancellation(&mut self, before: Before, out: &mut Output) {
        let position = Position { cancelled: true, ..self.position };
        self.persist(State::Cancelling(before), vec![Change::Position(position)], out);
    }

    fn cancelled(&mut self, now: Instant, before: Before, said: Said, out: &mut Output) {
        match said {
            Said::Done => {
                self.position.cancelled = true;
                self.tell_cancels(Reply::Cancelling, out);
            }
            // The submission goes on as if nobody had asked.
            Said::Refused => self.tell_cancels(Reply::NotCancelled, out),
            Said::LeftToNext => return self.leave(out),
        }
        let stopping = self.position.cancelled;
        match before {
            Before::Running { ended: Some(ended), .. } => self.ended(ended, stopping, out),
            Before::Running { planned, ended: None } if stopping => {
                self.state = State::Running { planned, stopping };
                out.send = Some(Effect::Stop { statement: self.position.next });
            }
            Before::Running { planned: true, ended: None } => self.planned(false, out),
            Before::Running { planned: false, ended: None } => self.state = State::Running { planned: false, stopping },
            _ if stopping => self.record(Outcome::Cancelled, out),
            Before::Found => self.follow(out),
            Before::Restoring { done: None } => self.state = State::Restoring,
            Before::Restoring { done: Some(done) } => self.restored(now, done, out),
            Before::Hesitating { until } => self.state = State::Hesitating { until },
            Before::Beginning { again } => self.begin(again, out),
        }
    }

    fn tell_submitter(&mut self, reply: Reply, out: &mut Output) {
        if std::mem::take(&mut self.submitter_waits) {
            out.reply.push(reply);
        }
    }

    fn tell_cancels(&mut self, reply: Reply, out: &mut Output) {
        out.reply.extend((0..std::mem::take(&mut self.cancels_waiting)).map(|_| reply));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_primaries_die_of_is_not_begun_for_ever() {
        let second = Tries::again(None).unwrap();
        let third = Tries::again(Some(second)).unwrap();
        assert_eq!((second.unplanned, third.unplanned), (2, UNPLANNED));
        assert_eq!(Tries::again(Some(third)), Err(third));
        assert!(
            Tries::is_suspect(Some(third)) && !Tries::is_suspect(Some(third.planned())) && !Tries::is_suspect(None)
        );
    }

    #[test]
    fn what_was_planned_may_be_begun_many_times() {
        let mut tries = Tries::again(None).unwrap();
        while let Ok(next) = Tries::again(Some(tries)) {
            tries = next.planned();
        }
        assert_eq!(tries, Tries { begun: BEGUN, unplanned: 0 });
    }
}
