//! One session under random faults: leaders that die or stop, commits that are refused or whose outcome is unknown, requests at any time.
//!
//! The model has the store, and keeps what was begun and what was answered. A failing run names its seed.

use super::*;
use crate::dice::Dice;
use crate::simulation::{Simulation, Verdict, check, defects_are_noticed, holds, situations_occur};
use std::collections::BTreeSet;

const LIMITS: Limits = Limits { kept: 4, waiting: 3, bytes: 100 };
const TIMES: Times = Times {
    idle: Duration::from_secs(60),
    ttl: Some(Duration::from_secs(900)),
    heartbeat: Some(Duration::from_secs(90)),
    retention: Duration::from_secs(30),
};

/// A defect planted in the model's shell, to prove that the checker notices it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    /// The next leader believes that a statement under way had not begun.
    BeginAgain,
    /// An accepted statement is not stored.
    LoseAccepted,
    /// A cancelled statement is stored as one that waits.
    Revive,
    /// Ended statements are not removed.
    KeepAll,
    /// A statement begins while another one runs.
    BeginBeside,
}

#[derive(Debug, Default)]
struct Store {
    session: Option<Option<(End, Instant)>>,
    statements: BTreeMap<u32, (StatementState, u64)>,
    next: u32,
}

#[derive(Debug)]
struct World {
    dice: Dice,
    defect: Option<Defect>,
    faulty: bool,
    now: Instant,
    created: Instant,
    store: Store,
    leader: Option<Session>,
    /// Statement that runs on the leader, and whether it was told to stop.
    running: Option<(u32, bool)>,
    opening: bool,
    requests: u64,
    asked: BTreeMap<u64, Request>,
    /// Times that each statement was begun, less those that its primary had not begun it.
    begun: BTreeMap<u32, u32>,
    last_begun: Option<u32>,
    accepted: BTreeSet<u32>,
    removed: BTreeSet<u32>,
    ended: BTreeMap<u32, StatementState>,
    took_effect: BTreeSet<u32>,
    forgotten: bool,
    seen: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(seed: u64, defect: Option<Defect>) -> Self {
        World {
            dice: Dice(seed),
            defect,
            faulty: true,
            now: Instant(0),
            created: Instant(0),
            store: Store::default(),
            leader: None,
            running: None,
            opening: false,
            requests: 0,
            asked: BTreeMap::new(),
            begun: BTreeMap::new(),
            last_begun: None,
            accepted: BTreeSet::new(),
            removed: BTreeSet::new(),
            ended: BTreeMap::new(),
            took_effect: BTreeSet::new(),
            forgotten: false,
            seen: BTreeMap::new(),
        }
    }

    fn see(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn fault(&mut self, once_in: u64) -> bool {
        self.faulty && self.dice.once_in(once_in)
    }

    fn begin(&mut self) -> Verdict {
        let session = Session::new(self.now, LIMITS, TIMES);
        self.leader = Some(session);
        self.tell(Event::Begun)
    }

    /// Another primary leads, if none does.
    fn follow(&mut self) -> Verdict {
        let (None, Some(ended)) = (&self.leader, self.store.session) else { return Ok(()) };
        self.see("found");
        let stored = |(&number, &(state, bytes)): (&u32, &(StatementState, u64))| {
            let took_effect = self.took_effect.contains(&number) && state == StatementState::Running;
            let state = match (self.defect, state) {
                (Some(Defect::BeginAgain), StatementState::Running) => StatementState::Waiting,
                (_, state) => state,
            };
            (number, Stored { state, bytes, took_effect })
        };
        let statements = self.store.statements.iter().map(stored).collect();
        let (limits, next) = (LIMITS, self.store.next);
        self.leader = Some(Session::found(self.now, self.created, limits, TIMES, next, ended, &statements));
        self.tell(Event::Begun)
    }

    fn die(&mut self) {
        self.leader = None;
        self.running = None;
        self.opening = false;
    }

    fn tell(&mut self, event: Event) -> Verdict {
        let Some(machine) = &mut self.leader else { return Ok(()) };
        let out = machine.step(self.now, event);
        self.carry_out(out)
    }

    fn carry_out(&mut self, out: Output) -> Verdict {
        if let Some(changes) = &out.persist {
            let only_stops = out.send.iter().all(|effect| matches!(effect, Effect::Stop { .. }));
            check(only_stops, || format!("{out:?} sends before it is stored"))?;
            let (unknown, refused) = (self.fault(60), self.fault(25));
            let dies = self.fault(60);
            if !refused && (!unknown || self.dice.once_in(2)) {
                self.put(changes)?;
            }
            if dies {
                self.see("died of a commit");
                self.die();
                return Ok(());
            }
            let said = match (unknown, refused) {
                (_, true) => Said::Refused,
                (true, false) => Said::LeftToNext,
                (false, false) => Said::Done,
            };
            for effect in &out.send {
                self.send(*effect)?;
            }
            self.reply(&out)?;
            self.tell(Event::Persisted(said))?;
            return self.left();
        }
        for effect in &out.send {
            self.send(*effect)?;
        }
        self.reply(&out)?;
        for fact in &out.facts {
            match fact {
                Fact::Lost { took_effect: false, .. } => self.see("lost"),
                Fact::Lost { took_effect: true, .. } => self.see("took effect"),
                Fact::Removed { .. } => self.see("removed"),
                Fact::Ended(End::Stopped) => self.see("stopped"),
                Fact::Ended(End::NotOpened) => self.see("not opened"),
                Fact::Ended(_) => self.see("timed out"),
                Fact::NotStored => self.see("not stored"),
                Fact::Left => self.see("left"),
                Fact::Open | Fact::Forgotten => {}
            }
        }
        self.left()
    }

    fn left(&mut self) -> Verdict {
        if self.leader.as_ref().is_some_and(Session::is_over) {
            self.die();
        }
        Ok(())
    }

    fn put(&mut self, changes: &[Change]) -> Verdict {
        for &change in changes {
            match change {
                Change::Session { ended } => self.store.session = Some(ended),
                Change::Statement { state: StatementState::Waiting, .. }
                    if self.defect == Some(Defect::LoseAccepted) => {}
                Change::Statement { statement, state, output } => {
                    let (was, mut bytes) = self.store.statements.get(&statement).copied().unwrap_or((state, 10));
                    bytes += if output { 30 } else { 0 };
                    check(!was.has_ended() || was == state, || {
                        format!("{statement} was {was:?} and becomes {state:?}")
                    })?;
                    let revived = self.defect == Some(Defect::Revive) && state == StatementState::Cancelled;
                    let state = if revived { StatementState::Waiting } else { state };
                    self.store.statements.insert(statement, (state, bytes));
                    self.store.next = self.store.next.max(statement + 1);
                    if state.has_ended() {
                        self.ended.insert(statement, state);
                    }
                }
                Change::ForgetStatement { .. } if self.defect == Some(Defect::KeepAll) => {}
                Change::ForgetStatement { statement } => {
                    self.store.statements.remove(&statement);
                    self.removed.insert(statement);
                }
                Change::Forget => {
                    self.store = Store { next: self.store.next, ..Store::default() };
                    self.forgotten = true;
                }
            }
        }
        let ended = self.store.statements.values().filter(|(state, _)| state.has_ended());
        let (count, bytes) = ended.fold((0, 0), |(count, bytes), (_, of)| (count + 1, bytes + of));
        check(count <= LIMITS.kept && (bytes <= LIMITS.bytes || count <= 1), || {
            format!("{count} statements of {bytes} bytes are kept")
        })?;
        let unended = self.store.statements.len() - count;
        check(unended <= LIMITS.waiting, || format!("{unended} statements wait"))
    }

    fn send(&mut self, effect: Effect) -> Verdict {
        match effect {
            Effect::Open => self.opening = true,
            Effect::Close => {
                check(self.running.is_none(), || "it is closed while a statement runs".to_string())?;
                self.opening = false;
            }
            Effect::Begin { statement } => {
                check(self.running.is_none(), || format!("{statement} begins while {:?} runs", self.running))?;
                let times = self.begun.entry(statement).or_default();
                *times += 1;
                check(*times == 1, || format!("{statement} is begun again"))?;
                check(self.last_begun < Some(statement), || format!("{statement} begins after {:?}", self.last_begun))?;
                check(!self.ended.contains_key(&statement), || format!("{statement} begins after its end"))?;
                self.last_begun = Some(statement);
                self.running = Some((statement, false));
            }
            Effect::Stop { statement } => {
                check(self.running == Some((statement, false)), || format!("{statement} is stopped and does not run"))?;
                self.running = Some((statement, true));
            }
        }
        Ok(())
    }

    fn reply(&mut self, out: &Output) -> Verdict {
        for &(number, reply) in &out.reply {
            let asked = self.asked.remove(&number);
            check(asked.is_some() || number == 0, || format!("{number} is answered twice"))?;
            match (asked, reply) {
                (Some(Request::Run { .. }), Reply::Accepted { statement: Some(statement) }) => {
                    let known = self.store.statements.contains_key(&statement) || self.removed.contains(&statement);
                    check(known || self.forgotten, || format!("{statement} is accepted, and not stored"))?;
                    self.accepted.insert(statement);
                }
                (Some(Request::Delete), Reply::Done) => {
                    self.see("deleted");
                    check(self.forgotten, || "it is deleted, and stored".to_string())?;
                }
                (Some(Request::Stop), Reply::Done) => {
                    let ended = self.store.session.is_none_or(|ended| ended.is_some());
                    check(ended, || "it is stopped, and goes on".to_string())?;
                }
                (_, Reply::TooMany) => self.see("too many"),
                _ => {}
            }
        }
        Ok(())
    }

    fn ask(&mut self, request: Request) -> Verdict {
        if self.leader.is_none() {
            return Ok(());
        }
        self.requests += 1;
        self.asked.insert(self.requests, request);
        self.tell(Event::Asked { number: self.requests, request })
    }

    fn end_one(&mut self) -> Verdict {
        let Some((statement, stopped)) = self.running else { return Ok(()) };
        let ended = match self.dice.below(20) {
            0 if self.faulty => Ended::LeftToNext,
            1 if self.faulty && !stopped => {
                self.begun.insert(statement, 0);
                self.last_begun = statement.checked_sub(1);
                Ended::NotBegun
            }
            2..8 if stopped => Ended::Stopped { bytes: 0 },
            _ => Ended::Done { bytes: 30 },
        };
        if matches!(ended, Ended::Done { .. }) && self.dice.once_in(2) {
            self.took_effect.insert(statement);
        }
        self.running = None;
        if self.defect == Some(Defect::BeginBeside) {
            self.running = Some((statement, stopped));
        }
        self.tell(Event::Ended { statement, ended })
    }

    fn pass(&mut self, seconds: u64) -> Verdict {
        self.now = self.now + Duration::from_secs(seconds);
        let due = self.leader.as_ref().and_then(Session::next_deadline).is_some_and(|at| at <= self.now);
        if due {
            self.tell(Event::Tick)?;
            let again = self.leader.as_ref().and_then(Session::next_deadline);
            let moves = self.running.is_some() || self.opening || again.is_none_or(|at| at > self.now);
            check(moves, || format!("a tick leaves its deadline: {:?}", self.leader))?;
        }
        Ok(())
    }

    fn random_step(&mut self) -> Verdict {
        match self.dice.below(40) {
            0..12 => self.ask(Request::Run { bytes: 10 }),
            12..22 => self.end_one(),
            22..24 => {
                let statement = self.dice.below(u64::from(self.store.next) + 2) as u32;
                self.ask(Request::Cancel { statement })
            }
            24 if self.dice.once_in(3) => self.ask(Request::Interrupt),
            25 if self.dice.once_in(8) => self.ask(Request::Stop),
            26 if self.dice.once_in(8) => self.ask(Request::Delete),
            27 if self.dice.once_in(2) => {
                self.see("died");
                if let Some((statement, _)) = self.running
                    && self.dice.once_in(2)
                {
                    self.took_effect.insert(statement);
                }
                self.die();
                Ok(())
            }
            28 if self.dice.once_in(3) => self.tell(Event::Leave),
            29..33 => {
                let used = self.dice.once_in(2);
                self.tell(Event::Heard { used })
            }
            33..36 => {
                let seconds = [1, 10, 20][self.dice.below(3) as usize];
                self.pass(seconds)
            }
            36..39 if self.opening => {
                self.opening = false;
                let done = !self.dice.once_in(20);
                self.tell(Event::Opened { done })
            }
            _ => self.follow(),
        }
    }

    /// Runs without faults until the session is forgotten.
    fn quiet(&mut self) -> Verdict {
        self.faulty = false;
        for _ in 0..1_000 {
            if self.store.session.is_none() {
                return Ok(());
            }
            self.follow()?;
            if self.opening {
                self.opening = false;
                self.tell(Event::Opened { done: true })?;
            }
            self.end_one()?;
            self.pass(1)?;
            let known = |statement: &u32| {
                self.store.statements.contains_key(statement) || self.removed.contains(statement) || self.forgotten
            };
            if let Some(missing) = self.accepted.iter().find(|statement| !known(statement)) {
                return Err(format!("{missing} was accepted, and is not known"));
            }
        }
        Err(format!("the session does not end: {self:?}"))
    }
}

impl Simulation for World {
    type Defect = Defect;
    const STEPS: u32 = 300;

    fn run(seed: u64, steps: u32, defect: Option<Self::Defect>) -> Result<Self, String> {
        let mut world = World::new(seed, defect);
        world.begin()?;
        for _ in 0..steps {
            world.random_step()?;
        }
        world.quiet()?;
        Ok(world)
    }

    fn seen(&self) -> &BTreeMap<&'static str, u64> {
        &self.seen
    }
}

#[test]
fn statements_run_once_and_stay() {
    holds::<World>();
}

#[test]
fn every_situation_occurs() {
    situations_occur::<World>(&[
        "found",
        "died",
        "died of a commit",
        "lost",
        "took effect",
        "removed",
        "stopped",
        "not opened",
        "timed out",
        "not stored",
        "left",
        "deleted",
        "too many",
    ]);
}

#[test]
fn the_checker_notices_planted_defects() {
    defects_are_noticed::<World>(&[
        (Defect::BeginAgain, "is begun again"),
        (Defect::LoseAccepted, "is accepted, and not stored"),
        (Defect::Revive, "begin"),
        (Defect::KeepAll, "are kept"),
        (Defect::BeginBeside, "begins while"),
    ]);
}
