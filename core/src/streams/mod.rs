//! Streaming jobs: one statement, run again and again over what is new in its input, so that each record counts once. One machine for each job.
//!
//! ```text
//!              what there is           something new: stored      the run ended: published, with
//!           ┌─────────────> looking ──────────────> planning ──> running ──> committing ──┐ the new positions
//!           │  (timer, woken)  │ nothing new                      │ ^ │            │      │
//!           └── waiting <──────┘                          failed: │ │ │ for good   │ refused, or nobody knows
//!                  ^                                        wait  v │ v            v      │
//!                  │                                         retrying  ending ──> over   reading: what the store has decides
//!                  └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! An *epoch* reads each partition of the input from where the last one ended to an end that is stored before it runs. What ran and was not committed runs again
//! over the same records with the same watermark, so sinks that cannot take part in a transaction can recognise an epoch by its number. Positions, watermarks, the
//! version of the state and the output of an epoch become durable in one transaction.
//!
//! A partition whose parents have not been read to their ends waits for them, so that records with one key keep their order when a partition was split or merged.
//!
//! The shell persists, then sends, then replies, and reports the outcome to the machine with the next event.
//!
//! Invariants, each held by `simulation`:
//! - Each record is published in one epoch, whatever dies, and no epoch is published twice.
//! - Records of a partition are published in order, and after all records of its parents.
//! - An epoch that runs again has the input and the watermark of its first run.
//! - Watermarks do not go back, and no record that a partition has yet to give makes them wait once it has been idle long enough.
//! - Nothing is published between the answer to a pause and the next resume, or after the answer to a drop.
//! - A job that ends when it has read what is there has read all that was there when it began.

#[cfg(test)]
mod simulation;
mod watermarks;

pub use watermarks::Watermarks;

use crate::time::Instant;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Waits before a failed epoch runs again: the first, and the longest. Each is twice the one before.
pub const RETRY: Duration = Duration::from_secs(1);
pub const RETRY_MOST: Duration = Duration::from_secs(60);
/// Wait before sources are asked again that had nothing new, and have not said since that they have.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A partition of an input: a shard, a table, an index of files. Inputs of a job have names of their own in front.
pub type Partition = String;

/// How far a partition was read. Only its source knows what it means.
pub type Position = String;

/// When a job looks for new records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Until it has read what is there when it begins.
    AvailableNow,
    /// Every so many milliseconds, counted from the beginning of an epoch.
    Every(u64),
    /// As soon as there are some.
    Continuous,
}

/// Where the reading of a partition stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub position: Position,
    /// Whether it is read to its end, after which nothing comes.
    #[serde(default)]
    pub is_done: bool,
}

/// Where an epoch stops reading a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// `is_end`: nothing comes after it.
    At { position: Position, is_end: bool },
    /// Where the run has read enough. It says where that is.
    Enough,
}

/// What a source says about one of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Where it begins, for a job that has not read of it.
    pub start: Position,
    /// Where it ends at this time. `None`: the source cannot tell.
    pub end: Option<Position>,
    /// Whether nothing comes after that end.
    pub is_closed: bool,
    /// Partitions that have to be read to their ends before this one.
    pub parents: BTreeSet<Partition>,
}

/// The input and the watermark of an epoch, durable before it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub until: BTreeMap<Partition, Until>,
    /// The event time up to which rows are complete, in microseconds. Late rows, and what is emitted, are measured against it.
    pub watermark: Option<i64>,
    /// Where partitions begin that no epoch has read.
    pub starts: BTreeMap<Partition, Position>,
}

/// What must survive of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Grows by one with each change. The store takes a record only after the one before it, so a change whose answer was lost cannot come
    /// late.
    pub version: u64,
    pub trigger: Trigger,
    /// Whether emission waits for watermarks, so that one that advances is worth an epoch without records.
    pub is_timed: bool,
    pub is_paused: bool,
    /// Why it does not go on by itself.
    pub ended: Option<Ended>,
    /// Number of the next epoch.
    pub epoch: u64,
    /// How often it began with new positions.
    pub restarts: u32,
    pub at: BTreeMap<Partition, Place>,
    pub watermarks: Watermarks,
    /// The version of the state that the last epoch left.
    pub state: Option<String>,
    /// The epoch that is under way.
    pub planned: Option<Plan>,
    /// What an `AvailableNow` job has to read.
    pub goal: Option<BTreeMap<Partition, Until>>,
}

impl Record {
    pub fn new(trigger: Trigger, is_timed: bool, idle_after: Option<Duration>) -> Self {
        Self {
            version: 0,
            trigger,
            is_timed,
            is_paused: false,
            ended: None,
            epoch: 0,
            restarts: 0,
            at: BTreeMap::new(),
            watermarks: Watermarks::new(idle_after),
            state: None,
            planned: None,
            goal: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// An `AvailableNow` job has read what was there.
    Done,
    Failed {
        reason: String,
    },
}

/// A run of an epoch, for the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    pub number: u64,
    /// From where to where each partition is read.
    pub input: BTreeMap<Partition, (Position, Until)>,
    pub watermark: Option<i64>,
    pub state: Option<String>,
}

/// What a run has read and left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How far partitions were read whose end was [`Until::Enough`].
    pub reached: BTreeMap<Partition, Place>,
    /// Those of them that had nothing more at that time.
    pub caught_up: BTreeSet<Partition>,
    /// The latest event time of each partition that had records, less the delay that the stream declares, in microseconds.
    pub times: BTreeMap<Partition, i64>,
    /// The version of the state that it has left.
    pub state: Option<String>,
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: String,
    /// Whether it may succeed later without anybody's help.
    pub may_pass: bool,
}

/// Answer of the metadata store to [`Output::persist`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Done,
    /// Nothing was changed, nor will be.
    Refused(Failure),
    /// It may have been done, or may be done later, or another change came first.
    Unknown,
    /// Another primary leads, and goes on with the job.
    NotLeading,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Pause,
    /// Goes on, also after it has ended.
    Resume,
    /// Begins with epochs of new positions, without state. Partitions that are not named begin where their source begins.
    Restart {
        from: BTreeMap<Partition, Position>,
    },
    Drop,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The job was created, or this leader has found it.
    Begun,
    /// Outcome of [`Effect::Look`].
    Looked(Result<BTreeMap<Partition, Offer>, Failure>),
    /// Outcome of [`Effect::Run`]. Its output waits: it is published by this step's [`Change::Publish`], or removed if the step has none. Of a run that failed
    /// or was stopped nothing is left.
    Ran(Result<Report, Failure>),
    /// Outcome of [`Output::persist`].
    Persisted(Said),
    /// Outcome of [`Effect::Read`]. `None`: there is no such job any more.
    Read(Option<Box<Record>>),
    Asked {
        number: u64,
        request: Request,
    },
    /// A source has something new.
    Woken,
    /// The time of [`Job::next_deadline`] has come.
    Tick,
}

/// What becomes durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put(Box<Record>),
    /// In the transaction that publishes the output of the run that has just ended. If that is refused the output is removed; if its outcome is unknown the
    /// output stays until [`Effect::Abandon`].
    Publish(Box<Record>),
    Forget,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the sources what there is.
    Look,
    Run(Epoch),
    /// Stop the run. It ends in any case.
    Stop,
    /// Remove the output whose publication had an unknown outcome: it is not published, and cannot be any more.
    Abandon,
    /// Read the job's record from the store.
    Read,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Done,
    NotStored(String),
    /// Ask the leader.
    NotLeading,
    /// There is no such job any more.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Committed {
        epoch: u64,
    },
    /// It is tried again at this time.
    Trouble {
        reason: String,
        again: Instant,
    },
    Ended(Ended),
    Forgotten,
    /// The next leader goes on with it.
    Left,
}

/// Work that a step asks the shell to do, in the order of the fields. There is at most one of `persist` and `send`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub persist: Option<Change>,
    pub send: Option<Effect>,
    pub reply: Vec<(u64, Reply)>,
    pub facts: Vec<Fact>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is under way. `until`: it looks again then at the latest; `None`: it needs a request.
    Waiting {
        until: Option<Instant>,
    },
    Looking,
    /// A change is being stored: the record that it leaves, and what it is.
    Persisting {
        record: Box<Record>,
        what: Stored,
    },
    Running {
        is_stopping: bool,
    },
    /// Nobody knows what the store has.
    Reading,
    Over(Reply),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    Plan,
    Commit,
    /// The record as it was, with a version after which no earlier change is taken.
    Fence,
    /// What a request asked for, or `None`: an end.
    Wish(Option<u64>),
    Forget(u64),
}

/// The machine of one job.
#[derive(Clone, Debug)]
pub struct Job {
    record: Record,
    phase: Phase,
    /// Requests that wait for the phase to end, oldest first.
    asked: Vec<(u64, Request)>,
    /// The request that is being stored.
    requested: Option<Request>,
    /// Whether the output of a run may be published, or waits for a change after which that cannot be done any more.
    is_unfenced: bool,
    /// Failures of the present epoch in a row.
    failures: u32,
    /// When the last epoch began here, with a look at what there is.
    began: Option<Instant>,
    is_woken: bool,
    /// Whether the last run found nothing in partitions whose ends nobody knows.
    found_nothing: bool,
    /// When this leader first saw each partition, or planned its first epoch after one that had records of it.
    heard: BTreeMap<Partition, Instant>,
}

impl Job {
    pub fn new(record: Record) -> Self {
        Self {
            record,
            phase: Phase::Waiting { until: None },
            asked: Vec::new(),
            requested: None,
            is_unfenced: false,
            failures: 0,
            began: None,
            is_woken: false,
            found_nothing: false,
            heard: BTreeMap::new(),
        }
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until } => until,
            _ => None,
        }
    }

    /// Takes an event. `now` does not go back.
    pub fn step(&mut self, now: Instant, event: Event) -> Output {
        let mut out = Output::default();
        match event {
            Event::Asked { number, request } => match &self.phase {
                Phase::Over(reply) => out.reply.push((number, reply.clone())),
                _ => self.asked.push((number, request)),
            },
            Event::Woken => self.is_woken = true,
            Event::Begun | Event::Tick => {}
            Event::Looked(_) if self.phase != Phase::Looking => {}
            Event::Looked(Ok(offers)) => self.looked(now, offers, &mut out),
            Event::Looked(Err(failure)) => self.failed(now, failure, &mut out),
            Event::Ran(ran) => {
                if let Phase::Running { is_stopping } = self.phase {
                    self.ran(now, ran, is_stopping, &mut out);
                }
            }
            Event::Persisted(said) => self.persisted(now, said, &mut out),
            Event::Read(found) if self.phase == Phase::Reading => self.found(now, found, &mut out),
            Event::Read(_) => {}
        }
        self.go_on(now, &mut out);
        out
    }

    /// Begins what is due, if nothing is under way.
    fn go_on(&mut self, now: Instant, out: &mut Output) {
        if out.persist.is_some() || out.send.is_some() {
            return;
        }
        match self.phase {
            Phase::Waiting { until } => match self.asked.is_empty() {
                false => self.carry_out(out),
                true => self.begin(now, until, out),
            },
            // Requests do not wait for a run, which may take long.
            Phase::Running { is_stopping: false } if !self.asked.is_empty() => {
                self.phase = Phase::Running { is_stopping: true };
                out.send = Some(Effect::Stop);
            }
            _ => {}
        }
    }

    fn begin(&mut self, now: Instant, until: Option<Instant>, out: &mut Output) {
        if self.is_unfenced {
            if until.is_none_or(|until| until <= now) {
                self.persist(self.record.clone(), Stored::Fence, out);
            }
            return;
        }
        if self.record.is_paused || self.record.ended.is_some() {
            self.phase = Phase::Waiting { until: None };
            return;
        }
        let is_due = until.is_none_or(|until| until <= now);
        let is_woken = self.is_woken && self.failures == 0 && !matches!(self.record.trigger, Trigger::Every(_));
        if !is_due && !is_woken {
            return;
        }
        self.is_woken = false;
        match self.record.planned {
            Some(_) => self.run(now, out),
            None => {
                self.began = Some(now);
                self.phase = Phase::Looking;
                out.send = Some(Effect::Look);
            }
        }
    }

    fn run(&mut self, now: Instant, out: &mut Output) {
        let Some(plan) = &self.record.planned else { return };
        let from = |partition: &Partition| {
            let known = self.record.at.get(partition).map(|place| &place.position);
            known.or_else(|| plan.starts.get(partition)).cloned().unwrap_or_default()
        };
        let input = plan.until.iter().map(|(of, until)| (of.clone(), (from(of), until.clone()))).collect();
        let epoch =
            Epoch { number: self.record.epoch, input, watermark: plan.watermark, state: self.record.state.clone() };
        self.began.get_or_insert(now);
        self.phase = Phase::Running { is_stopping: false };
        out.send = Some(Effect::Run(epoch));
    }

    /// Plans the next epoch over what the sources offer.
    fn looked(&mut self, now: Instant, offers: BTreeMap<Partition, Offer>, out: &mut Output) {
        self.phase = Phase::Waiting { until: Some(now) };
        if !self.asked.is_empty() {
            return;
        }
        let mut next = self.record.clone();
        next.at.retain(|partition, place| !place.is_done || offers.contains_key(partition));
        if next.trigger == Trigger::AvailableNow {
            let all = || offers.iter().map(|(partition, offer)| (partition.clone(), offer.until())).collect();
            let goal = next.goal.get_or_insert_with(all);
            goal.retain(|partition, until| match (next.at.get(partition), offers.get(partition)) {
                (Some(place), Some(_)) => !place.is_done && !until.is_at(&place.position),
                (None, Some(offer)) => !until.is_at(&offer.start),
                // What its source has forgotten can no longer be read.
                (_, None) => false,
            });
        }
        let is_done = |next: &Record, partition: &Partition| next.at.get(partition).is_some_and(|place| place.is_done);
        let mut plan = Plan::default();
        for (partition, offer) in &offers {
            let is_free = offer.parents.iter().all(|of| is_done(&next, of) || !offers.contains_key(of));
            let until = match &next.goal {
                Some(goal) => goal.get(partition).cloned(),
                None => Some(offer.until()),
            };
            let Some(until) = until.filter(|_| is_free && !is_done(&next, partition)) else { continue };
            let at = next.at.get(partition).map(|place| &place.position);
            if until.is_at(at.unwrap_or(&offer.start)) {
                continue;
            }
            if at.is_none() {
                plan.starts.insert(partition.clone(), offer.start.clone());
                next.watermarks.inherit(partition, &offer.parents);
            }
            plan.until.insert(partition.clone(), until);
        }
        let open = offers.keys().filter(|partition| !is_done(&next, partition));
        plan.watermark = next.watermarks.now(now, open, &mut self.heard);
        let advances = next.is_timed && plan.watermark > next.watermarks.used();
        if plan.until.is_empty() && !advances {
            if next.goal.as_ref().is_some_and(BTreeMap::is_empty) {
                return self.end(Ended::Done, out);
            }
            let again = match next.trigger {
                Trigger::Every(ms) => self.began.unwrap_or(now) + Duration::from_millis(ms),
                Trigger::AvailableNow | Trigger::Continuous => now + LOOK_AGAIN,
            };
            self.phase = Phase::Waiting { until: Some(again) };
            return;
        }
        next.planned = Some(plan);
        self.persist(next, Stored::Plan, out);
    }

    fn ran(&mut self, now: Instant, ran: Result<Report, Failure>, is_stopping: bool, out: &mut Output) {
        if let Ok(report) = &ran {
            self.heard.retain(|partition, _| !report.times.contains_key(partition));
            self.found_nothing = self.record.planned.as_ref().is_some_and(|plan| {
                let mut partitions = plan.until.keys();
                let all_caught_up = partitions.all(|partition| report.caught_up.contains(partition));
                !plan.until.is_empty() && all_caught_up && report.times.is_empty()
            });
        }
        match ran {
            // Its output is there, so a request that came meanwhile can wait.
            Ok(report) => match self.record.clone().after(report) {
                Ok(next) => self.persist(next, Stored::Commit, out),
                Err(reason) => self.failed(now, Failure { reason, may_pass: false }, out),
            },
            Err(_) if is_stopping => self.phase = Phase::Waiting { until: Some(now) },
            Err(failure) => self.failed(now, failure, out),
        }
    }

    fn failed(&mut self, now: Instant, failure: Failure, out: &mut Output) {
        let Failure { reason, may_pass } = failure;
        if !may_pass {
            return self.end(Ended::Failed { reason }, out);
        }
        let wait = RETRY.saturating_mul(1 << self.failures.min(16)).min(RETRY_MOST);
        self.failures += 1;
        self.phase = Phase::Waiting { until: Some(now + wait) };
        out.facts.push(Fact::Trouble { reason, again: now + wait });
    }

    fn end(&mut self, ended: Ended, out: &mut Output) {
        let goal = self.record.goal.clone().filter(|_| ended != Ended::Done);
        let next = Record { ended: Some(ended), goal, ..self.record.clone() };
        self.persist(next, Stored::Wish(None), out);
    }

    fn persist(&mut self, mut next: Record, what: Stored, out: &mut Output) {
        next.version = self.record.version + 1;
        let record = Box::new(next);
        out.persist = Some(match what {
            Stored::Commit => Change::Publish(record.clone()),
            Stored::Forget(_) => Change::Forget,
            Stored::Plan | Stored::Fence | Stored::Wish(_) => Change::Put(record.clone()),
        });
        self.phase = Phase::Persisting { record, what };
    }

    /// Begins with the oldest request.
    fn carry_out(&mut self, out: &mut Output) {
        let (number, request) = self.asked.remove(0);
        let mut next = self.record.clone();
        match &request {
            Request::Pause => next.is_paused = true,
            Request::Resume => (next.is_paused, next.ended) = (false, None),
            Request::Restart { from } => next.restart(from),
            Request::Drop => {}
        }
        self.requested = Some(request);
        let what = match self.requested {
            Some(Request::Drop) => Stored::Forget(number),
            _ => Stored::Wish(Some(number)),
        };
        self.persist(next, what, out);
    }

    fn persisted(&mut self, now: Instant, said: Said, out: &mut Output) {
        let before = std::mem::replace(&mut self.phase, Phase::Waiting { until: Some(now) });
        let Phase::Persisting { record, what } = before else {
            self.phase = before;
            return;
        };
        let requested = self.requested.take();
        let number = match what {
            Stored::Wish(number) => number,
            Stored::Forget(number) => Some(number),
            Stored::Plan | Stored::Commit | Stored::Fence => None,
        };
        match (said, what) {
            (Said::Done, Stored::Forget(_)) => self.over(Reply::Gone, number.map(|number| (number, Reply::Done)), out),
            (Said::Done, _) => self.stored(now, *record, what, out),
            (Said::NotLeading, _) => {
                out.facts.push(Fact::Left);
                self.over(Reply::NotLeading, number.map(|number| (number, Reply::NotLeading)), out);
            }
            (Said::Unknown, _) => {
                // It may be asked for twice.
                self.asked.splice(0..0, number.zip(requested));
                self.is_unfenced |= what == Stored::Commit;
                self.phase = Phase::Reading;
                out.send = Some(Effect::Read);
            }
            (Said::Refused(failure), Stored::Commit) => self.failed(now, failure, out),
            (Said::Refused(failure), _) => match number {
                Some(number) => out.reply.push((number, Reply::NotStored(failure.reason))),
                None => self.failed(now, Failure { may_pass: true, ..failure }, out),
            },
        }
    }

    /// Goes on with a record that is durable.
    fn stored(&mut self, now: Instant, record: Record, what: Stored, out: &mut Output) {
        self.record = record;
        if std::mem::take(&mut self.is_unfenced) {
            out.send = Some(Effect::Abandon);
        }
        match what {
            Stored::Commit => self.committed(now, out),
            Stored::Wish(Some(number)) => {
                self.failures = 0;
                out.reply.push((number, Reply::Done));
            }
            Stored::Wish(None) => out.facts.extend(self.record.ended.clone().map(Fact::Ended)),
            Stored::Plan | Stored::Fence | Stored::Forget(_) => {}
        }
    }

    fn committed(&mut self, now: Instant, out: &mut Output) {
        self.failures = 0;
        out.facts.push(Fact::Committed { epoch: self.record.epoch - 1 });
        let again = match (self.record.trigger, self.began) {
            (Trigger::Every(ms), Some(began)) => now.max(began + Duration::from_millis(ms)),
            (Trigger::Continuous, _) if self.found_nothing => now + LOOK_AGAIN,
            _ => now,
        };
        self.phase = Phase::Waiting { until: Some(again) };
    }

    /// Goes on with what the store has.
    fn found(&mut self, now: Instant, found: Option<Box<Record>>, out: &mut Output) {
        self.phase = Phase::Waiting { until: Some(now) };
        let Some(record) = found else {
            let dropped = self.asked.iter().position(|(_, request)| *request == Request::Drop);
            let dropped = dropped.map(|at| (self.asked.remove(at).0, Reply::Done));
            return self.over(Reply::Gone, dropped, out);
        };
        let is_committed = record.epoch > self.record.epoch;
        self.record = *record;
        if self.is_unfenced && is_committed {
            self.is_unfenced = false;
            self.committed(now, out);
        }
    }

    fn over(&mut self, reply: Reply, first: Option<(u64, Reply)>, out: &mut Output) {
        out.reply.extend(first);
        out.reply.extend(self.asked.drain(..).map(|(number, _)| (number, reply.clone())));
        if reply == Reply::Gone {
            out.facts.push(Fact::Forgotten);
        }
        self.phase = Phase::Over(reply);
    }
}

impl Until {
    /// Whether nothing is left to read, nor to note, of a partition that was read to `position`.
    fn is_at(&self, position: &Position) -> bool {
        matches!(self, Until::At { position: end, is_end: false } if end == position)
    }
}

impl Offer {
    fn until(&self) -> Until {
        match &self.end {
            Some(end) => Until::At { position: end.clone(), is_end: self.is_closed },
            None => Until::Enough,
        }
    }
}

impl Record {
    /// Returns the record after the planned epoch.
    ///
    /// # Errors
    /// The report lacks a partition.
    fn after(mut self, report: Report) -> Result<Self, String> {
        let plan = self.planned.take().unwrap_or_default();
        for (partition, until) in plan.until {
            let place = match until {
                Until::At { position, is_end } => Place { position, is_done: is_end },
                Until::Enough => report.reached.get(&partition).cloned().ok_or_else(|| {
                    format!("a defect: epoch {} does not say how far it has read {partition}", self.epoch)
                })?,
            };
            if let Some(goal) = &mut self.goal
                && goal.get(&partition).is_some_and(|until| match until {
                    Until::At { position, is_end } => *position == place.position && *is_end == place.is_done,
                    Until::Enough => place.is_done || report.caught_up.contains(&partition),
                })
            {
                goal.remove(&partition);
            }
            self.at.insert(partition, place);
        }
        self.watermarks.take(&report.times, plan.watermark);
        self.state = report.state;
        self.epoch += 1;
        Ok(self)
    }

    fn restart(&mut self, from: &BTreeMap<Partition, Position>) {
        let place = |position: &Position| Place { position: position.clone(), is_done: false };
        self.at = from.iter().map(|(partition, position)| (partition.clone(), place(position))).collect();
        self.watermarks.restart();
        self.restarts += 1;
        (self.planned, self.goal, self.state, self.ended) = (None, None, None, None);
    }
}
