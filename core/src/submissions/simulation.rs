//! Submissions under random faults: leaders that die between any two effects, stop in good order or do not notice their successor, commits that are refused or
//! whose outcome is unknown, statements that kill primaries, cancellations at any time.
//!
//! The model has the store, with the list of ended submissions, and the effects of statements. A statement's effect becomes durable once, under the leader of
//! that time, together with its name. Then the faults stop, and every submission has to end. A failing run names its seed.

use super::*;
use crate::dice::Dice;
use crate::simulation::{Simulation, Verdict, check, defects_are_noticed, holds, situations_occur};
use std::collections::BTreeMap;

/// A defect planted in the model's shell, to prove that the checker notices it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    /// A statement begins before the end of the one before it is durable.
    BeginEarly,
    /// A statement that may have happened is begun as if it had not.
    BeginAfresh,
    /// Tries are not stored.
    CountNothing,
    /// A statement that kills primaries is begun again at once.
    NoHesitation,
    /// A cancellation is answered before it is durable.
    CancelEarly,
    /// The store forgets a submission that is not listed yet.
    ForgetFirst,
    /// A primary that lived to leave a statement, or to run it, does not record that.
    LeaveUnnoted,
    /// A session that this primary cannot restore, because it stops, is reported as lost.
    LoseSessions,
    /// The texts are stored with each step.
    StoreTexts,
}

/// Facts about a submission that only the model knows.
#[derive(Debug)]
struct Truth {
    statements: u32,
    /// Statement whose planning kills leaders.
    deadly: Option<u32>,
    // In the store.
    stored: bool,
    position: Position,
    tries: BTreeMap<u32, Tries>,
    /// Statements whose effects are durable.
    happened: Vec<u32>,
    listed: Option<Outcome>,
    /// Times that its end was listed.
    listings: u32,
    /// Whether things that its statements made went with their primary.
    session_lost: bool,
    /// Times that its texts were written.
    puts: u32,
    /// Primaries that began each statement, and primaries in a row that died while they planned it.
    begun: BTreeMap<u32, u32>,
    died: BTreeMap<u32, u32>,
    /// Failures at each statement: primaries that did not leave it in good order, and commits that may not have been made.
    mishaps: BTreeMap<u32, u32>,
    /// Whether a cancellation was answered.
    cancelled: bool,
    told: Option<Reply>,
    found_at: Option<Instant>,
}

#[derive(Debug)]
struct Process {
    machine: Submission,
    output: Output,
    /// The running statement, whether it may have happened, and whether its job runs.
    running: Option<(u32, bool, bool)>,
    stopped: bool,
}

#[derive(Debug)]
struct Leader {
    epoch: u64,
    processes: BTreeMap<u64, Process>,
}

#[derive(Debug)]
struct World {
    dice: Dice,
    defect: Option<Defect>,
    faulty: bool,
    now: Instant,
    epoch: u64,
    leader: Option<Leader>,
    former: Option<Leader>,
    truths: BTreeMap<u64, Truth>,
    seen: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(seed: u64, defect: Option<Defect>) -> Self {
        World {
            dice: Dice(seed),
            defect,
            faulty: true,
            now: Instant(0),
            epoch: 0,
            leader: None,
            former: None,
            truths: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    fn see(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn fault(&mut self, once_in: u64) -> bool {
        self.faulty && self.dice.once_in(once_in)
    }

    fn faults(&mut self, steps: u32) -> Verdict {
        for _ in 0..steps {
            match self.dice.below(40) {
                0..2 => self.submit()?,
                2..28 => self.go_on_somewhere()?,
                28..31 => {
                    let ms = [1, 500, 3_000][self.dice.below(3) as usize];
                    self.pass(Duration::from_millis(ms))?;
                }
                31..33 => self.cancel()?,
                33 if self.dice.once_in(2) => self.die(),
                34 if self.dice.once_in(2) => self.be_followed()?,
                35 if self.dice.once_in(2) => self.stop()?,
                _ => self.follow()?,
            }
        }
        Ok(())
    }

    /// Runs without faults, except for deadly statements.
    fn quiet(&mut self) -> Verdict {
        self.faulty = false;
        self.former = None;
        self.die();
        for _ in 0..10_000 {
            self.follow()?;
            self.pass(Duration::from_secs(1))?;
            let ids: Vec<u64> = self.leader.iter().flat_map(|leader| leader.processes.keys().copied()).collect();
            for id in ids {
                self.go_on(id, false)?;
            }
            if self.truths.values().all(|truth| !truth.stored) {
                return self.at_rest();
            }
        }
        Err(format!("submissions do not end: {:?}", self.truths))
    }

    fn submit(&mut self) -> Verdict {
        if self.leader.is_none() {
            return Ok(());
        }
        let id = self.truths.len() as u64;
        let statements = 1 + self.dice.below(4) as u32;
        let deadly = self.dice.once_in(6).then(|| self.dice.below(u64::from(statements)) as u32);
        let truth = Truth {
            statements,
            deadly,
            stored: false,
            position: Position::default(),
            tries: BTreeMap::new(),
            happened: Vec::new(),
            listed: None,
            listings: 0,
            session_lost: false,
            puts: 0,
            begun: BTreeMap::new(),
            died: BTreeMap::new(),
            mishaps: BTreeMap::new(),
            cancelled: false,
            told: None,
            found_at: None,
        };
        self.truths.insert(id, truth);
        self.start(id, Submission::new(statements))
    }

    fn start(&mut self, id: u64, machine: Submission) -> Verdict {
        let process = Process { machine, output: Output::default(), running: None, stopped: false };
        if let Some(leader) = &mut self.leader {
            leader.processes.insert(id, process);
        }
        self.tell(id, false, Event::Begun)
    }

    fn follow(&mut self) -> Verdict {
        if self.leader.is_some() {
            return Ok(());
        }
        self.epoch += 1;
        self.leader = Some(Leader { epoch: self.epoch, processes: BTreeMap::new() });
        let now = self.now;
        let mut found = Vec::new();
        for (&id, truth) in self.truths.iter_mut().filter(|(_, truth)| truth.stored) {
            truth.found_at = Some(now);
            let tries = truth.tries.get(&truth.position.next).copied();
            found.push((id, Submission::found(truth.statements, truth.position, tries)));
        }
        for (id, machine) in found {
            self.see("found");
            self.start(id, machine)?;
        }
        Ok(())
    }

    fn die(&mut self) {
        let Some(leader) = self.leader.take() else { return };
        for (id, process) in leader.processes {
            if let Some(changes) = &process.output.persist
                && self.fault(2)
            {
                self.store(id, changes);
            }
            self.lost(id, &process);
        }
    }

    /// Counts a lost leader that had the submission.
    fn lost(&mut self, id: u64, process: &Process) {
        let (at, changes) = (process.machine.position().next, process.output.persist.as_deref());
        self.mishap(id, at, changes.unwrap_or_default());
        if let (Some((statement, _, false)), Some(truth)) = (process.running, self.truths.get_mut(&id)) {
            *truth.died.entry(statement).or_default() += 1;
        }
    }

    /// Counts a failure of a leader at this statement, or at the next one if `changes` were stored.
    fn mishap(&mut self, id: u64, at: u32, changes: &[Change]) {
        let Some(truth) = self.truths.get_mut(&id) else { return };
        let last = changes.iter().map(|change| match change {
            Change::Position(position) => position.next,
            _ => at,
        });
        for statement in at..=last.max().unwrap_or(at) {
            *truth.mishaps.entry(statement).or_default() += 1;
        }
    }

    /// Notes that a leader has planned the statement, or has left it in good order.
    fn survived(&mut self, id: u64, statement: u32) {
        self.truths.entry(id).and_modify(|truth| _ = truth.died.remove(&statement));
    }

    /// Stops the leader in good order: each submission is told when nothing of it is being stored.
    fn stop(&mut self) -> Verdict {
        let ids: Vec<u64> = self.leader.iter().flat_map(|leader| leader.processes.keys().copied()).collect();
        for id in ids {
            let mut steps = 0;
            while let Some(process) = self.process(id, false) {
                let (storing, running) = (process.output.persist.is_some(), process.running);
                if let Some((statement, ..)) = running {
                    self.survived(id, statement);
                }
                if storing {
                    self.go_on(id, false)?
                } else {
                    self.tell(id, false, Event::Leave)?
                }
                steps += 1;
                check(steps < 10, || format!("{id} does not leave a leader that stops"))?;
            }
            self.see("left in good order");
        }
        self.leader = None;
        Ok(())
    }

    fn be_followed(&mut self) -> Verdict {
        if self.leader.is_none() {
            return Ok(());
        }
        let former = self.leader.take();
        for (&id, process) in former.iter().flat_map(|leader| &leader.processes) {
            self.lost(id, process);
        }
        self.former = former;
        self.see("two leaders");
        self.follow()
    }

    fn pass(&mut self, time: Duration) -> Verdict {
        self.now = self.now + time;
        let due = |leader: &Leader, now: Instant| -> Vec<u64> {
            let is_due = |process: &&Process| process.machine.next_deadline().is_some_and(|at| at <= now);
            leader.processes.iter().filter(|(_, process)| is_due(process)).map(|(&id, _)| id).collect()
        };
        for former in [false, true] {
            let leader = if former { &self.former } else { &self.leader };
            for id in leader.as_ref().map(|leader| due(leader, self.now)).unwrap_or_default() {
                self.tell(id, former, Event::Tick)?;
            }
        }
        Ok(())
    }

    fn cancel(&mut self) -> Verdict {
        let former = self.former.is_some() && self.dice.once_in(3);
        let Some(id) = self.some_process(former) else { return Ok(()) };
        if self.dice.once_in(3) {
            self.see("cancel");
            if self.defect == Some(Defect::CancelEarly) {
                self.truths.entry(id).and_modify(|truth| truth.cancelled = true);
            }
            return self.tell(id, former, Event::Cancel);
        }
        Ok(())
    }

    fn some_process(&mut self, former: bool) -> Option<u64> {
        let leader = if former { &self.former } else { &self.leader };
        let ids: Vec<u64> = leader.as_ref()?.processes.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[self.dice.below(ids.len() as u64) as usize])
    }

    fn process(&mut self, id: u64, former: bool) -> Option<&mut Process> {
        let leader = if former { &mut self.former } else { &mut self.leader };
        leader.as_mut()?.processes.get_mut(&id)
    }

    fn tell(&mut self, id: u64, former: bool, event: Event) -> Verdict {
        let now = self.now;
        let defect = self.defect;
        let Some(process) = self.process(id, former) else { return Ok(()) };
        let mut output = process.machine.step(now, event);
        let asks = usize::from(output.persist.is_some()) + usize::from(output.send.is_some());
        let waiting = usize::from(process.output.persist.is_some());
        check(asks <= 1, || format!("two things at a time: {output:?}"))?;
        check(asks == 0 || output.send.is_some() || waiting == 0, || {
            format!("{output:?} is asked for, and {:?} has not been answered", process.output)
        })?;
        let hesitates = output.facts.iter().any(|fact| matches!(fact, Fact::Hesitates { .. }));
        if hesitates && defect == Some(Defect::NoHesitation) {
            output = process.machine.step(now + HESITATION, Event::Tick);
        }
        if output.persist.is_some() {
            process.output.persist = output.persist.take();
        }
        if let Some(effect) = output.send.take() {
            match effect {
                Effect::Begin { statement, again } => {
                    process.running = Some((statement, again && defect != Some(Defect::BeginAfresh), false));
                    process.stopped = false;
                    self.begun(id, former, statement)?;
                }
                Effect::Stop { .. } => process.stopped = true,
                other => process.output.send = Some(other),
            }
        }
        for reply in output.reply {
            self.replied(id, former, reply)?;
        }
        if hesitates {
            self.see("hesitates");
        }
        for fact in output.facts {
            self.told_of(id, former, fact)?;
        }
        let is_over = self.process(id, former).is_some_and(|process| process.machine.is_over());
        if is_over {
            let leader = if former { &mut self.former } else { &mut self.leader };
            leader.as_mut().and_then(|leader| leader.processes.remove(&id));
        }
        Ok(())
    }

    fn told_of(&mut self, id: u64, former: bool, fact: Fact) -> Verdict {
        let Some(truth) = self.truths.get(&id) else { return Ok(()) };
        match fact {
            Fact::Stored => check(truth.puts > 0, || format!("{id} is listed, and not stored"))?,
            Fact::Ended(outcome) => {
                check(truth.listed == Some(outcome), || format!("{id} is said to be {outcome:?}: {:?}", truth.listed))?;
            }
            Fact::NotRecorded(_) if !former => {
                check(truth.stored, || format!("{id} is to be recorded again, and is not stored"))?;
                self.see("not recorded");
            }
            Fact::At { .. } | Fact::Hesitates { .. } | Fact::Left | Fact::NotRecorded(_) => {}
        }
        Ok(())
    }

    /// Begins a statement on a leader.
    fn begun(&mut self, id: u64, former: bool, statement: u32) -> Verdict {
        let (now, defect) = (self.now, self.defect);
        let Some(truth) = self.truths.get_mut(&id) else { return Ok(()) };
        if former {
            return Ok(());
        }
        check(!truth.cancelled, || format!("{id}.{statement} begins, and was cancelled"))?;
        check(truth.stored, || format!("{id}.{statement} begins, and the next leader would not know of it"))?;
        check(truth.position.next == statement || defect.is_none() && truth.position.next > statement, || {
            format!("{id}.{statement} begins at {:?}", truth.position)
        })?;
        *truth.begun.entry(statement).or_default() += 1;
        let died = truth.died.get(&statement).copied().unwrap_or_default();
        check(died < UNPLANNED, || format!("{id}.{statement} begins, and {died} primaries in a row died of it"))?;
        check(truth.begun[&statement] <= BEGUN, || format!("{id}.{statement} was begun too often"))?;
        if let Some(found_at) = truth.found_at
            && died >= 2
            && truth.position.next == statement
        {
            let waited = now.since(found_at);
            check(waited >= HESITATION, || {
                format!("{id}.{statement} begins after {waited:?}, and primaries died of it")
            })?;
            self.see("begun after deaths");
        }
        Ok(())
    }

    fn go_on_somewhere(&mut self) -> Verdict {
        let former = self.former.is_some() && self.dice.once_in(3);
        match self.some_process(former) {
            Some(id) => self.go_on(id, former),
            None => Ok(()),
        }
    }

    fn go_on(&mut self, id: u64, former: bool) -> Verdict {
        let epoch = if former { &self.former } else { &self.leader }.as_ref().map(|leader| leader.epoch);
        let leads = epoch == Some(self.epoch);
        let Some(process) = self.process(id, former) else { return Ok(()) };
        if let Some(changes) = process.output.persist.take() {
            let said = self.commit(id, former, leads, &changes)?;
            return self.tell(id, former, Event::Persisted(said));
        }
        if let Some(Effect::Restore { .. }) = process.output.send.take() {
            let restored = match self.dice.below(24) {
                0 | 1 if self.faulty => Restored::Lost,
                2 if self.faulty => Restored::LeftToNext,
                _ => Restored::Done,
            };
            if let (Restored::Lost, Some(truth)) = (restored, self.truths.get_mut(&id)) {
                truth.session_lost = true;
            }
            let said = match restored {
                Restored::LeftToNext if self.defect == Some(Defect::LoseSessions) => Restored::Lost,
                restored => restored,
            };
            return self.tell(id, former, Event::Restored(said));
        }
        match process.running {
            Some((statement, again, planned)) => self.run(id, former, leads, statement, again, planned),
            None => Ok(()),
        }
    }

    /// Runs one step of a statement.
    fn run(&mut self, id: u64, former: bool, leads: bool, statement: u32, again: bool, planned: bool) -> Verdict {
        let Some(truth) = self.truths.get_mut(&id) else { return Ok(()) };
        let end = |world: &mut World, ended: Ended| {
            if let Some(process) = world.process(id, former) {
                process.running = None;
            }
            world.tell(id, former, Event::Ended(ended))
        };
        // A leader that asks first gets the answer from the durable effects.
        if again && truth.happened.contains(&statement) {
            self.see("answered from its outcome");
            return end(self, Ended::Done);
        }
        // The gate is closed before the primary stops, and then a next one follows.
        if !planned && !former && self.fault(20) {
            self.see("not let in");
            self.survived(id, statement);
            return end(self, Ended::LeftToNext);
        }
        let Some(truth) = self.truths.get_mut(&id) else { return Ok(()) };
        if !planned {
            if truth.deadly == Some(statement) && !former {
                self.see("died of a statement");
                self.die();
                return Ok(());
            }
            if let Some(process) = self.process(id, former) {
                process.running = Some((statement, again, true));
            }
            if !former {
                self.survived(id, statement);
            }
            return self.tell(id, former, Event::Planned);
        }
        if self.process(id, former).is_some_and(|process| process.stopped) {
            return end(self, Ended::Stopped);
        }
        if self.fault(15) {
            return end(self, Ended::Failed);
        }
        if self.fault(40) {
            self.see("its job was cancelled");
            return end(self, Ended::Stopped);
        }
        if !leads {
            return end(self, Ended::LeftToNext);
        }
        if self.fault(12) {
            if self.dice.once_in(2) {
                self.happens(id, statement)?;
            }
            return end(self, Ended::LeftToNext);
        }
        self.happens(id, statement)?;
        end(self, Ended::Done)
    }

    fn happens(&mut self, id: u64, statement: u32) -> Verdict {
        let Some(truth) = self.truths.get_mut(&id) else { return Ok(()) };
        check(!truth.happened.contains(&statement), || format!("{id}.{statement} happens twice"))?;
        let before = truth.happened.len() as u32;
        check(before == statement, || format!("{id}.{statement} happens after {before} others"))?;
        truth.happened.push(statement);
        Ok(())
    }

    fn commit(&mut self, id: u64, former: bool, leads: bool, changes: &[Change]) -> Result<Said, String> {
        let is_refused = leads && self.fault(30);
        let is_unknown = !leads || !is_refused && self.fault(12);
        if is_refused {
            self.see("refused");
        }
        let at = self.process(id, former).map(|process| process.machine.position().next).unwrap_or_default();
        if is_refused || is_unknown {
            self.mishap(id, at, changes);
        }
        if leads && !is_refused && (!is_unknown || self.dice.once_in(2)) {
            self.store(id, changes);
            let truth = &self.truths[&id];
            check(truth.stored || truth.listed.is_some(), || format!("{id} is forgotten, and is not listed"))?;
            if let Some(Outcome::Failed { statement, why }) = truth.listed {
                let mishaps = truth.mishaps.get(&statement).copied().unwrap_or_default();
                let right = match why {
                    Why::Exhausted(tries) => mishaps >= UNPLANNED || tries.begun >= BEGUN,
                    Why::SessionLost => truth.session_lost,
                    Why::Statement | Why::NotNoted => true,
                };
                check(right, || format!("{id}.{statement} is given up for {why:?} after {mishaps} mishaps"))?;
            }
        }
        Ok(if is_refused {
            Said::Refused
        } else if is_unknown {
            Said::LeftToNext
        } else {
            Said::Done
        })
    }

    fn store(&mut self, id: u64, changes: &[Change]) {
        let defect = self.defect;
        let Some(truth) = self.truths.get_mut(&id) else { return };
        for &change in changes {
            match change {
                Change::Put => {
                    truth.stored = true;
                    truth.puts += 1;
                }
                // The defect: the statement being begun has begun already.
                Change::Position(_) if defect == Some(Defect::BeginEarly) => {}
                Change::Position(position) => {
                    truth.position = position;
                    truth.puts += u32::from(defect == Some(Defect::StoreTexts));
                }
                Change::Tries { .. } if defect == Some(Defect::CountNothing) => {}
                Change::Tries { tries, .. } if tries.unplanned == 0 && defect == Some(Defect::LeaveUnnoted) => {}
                Change::Tries { statement, tries } => _ = truth.tries.insert(statement, tries),
                Change::ForgetTries { statement } => _ = truth.tries.remove(&statement),
                // The defect: the listing happens a moment later, elsewhere.
                Change::Record(_) if defect == Some(Defect::ForgetFirst) => {}
                Change::Record(outcome) => {
                    truth.listed = Some(outcome);
                    truth.listings += 1;
                }
                Change::Forget => truth.stored = false,
            }
        }
        if let Some(outcome) = self.truths.get(&id).and_then(|truth| truth.listed) {
            self.see(match outcome {
                Outcome::Finished => "finished",
                Outcome::Cancelled => "listed as cancelled",
                Outcome::Failed { why: Why::Exhausted(_), .. } => "exhausted",
                Outcome::Failed { why: Why::SessionLost, .. } => "session lost",
                Outcome::Failed { .. } => "failed",
            });
        }
    }

    fn replied(&mut self, id: u64, former: bool, reply: Reply) -> Verdict {
        let Some(truth) = self.truths.get_mut(&id) else { return Ok(()) };
        match reply {
            Reply::Accepted | Reply::Refused(_) => {
                check(truth.told.is_none(), || {
                    format!("the submitter of {id} hears {reply:?} after {:?}", truth.told)
                })?;
                check(reply != Reply::Accepted || truth.puts > 0, || format!("{id} is accepted, and not stored"))?;
                truth.told = Some(reply);
            }
            Reply::Cancelling => {
                check(truth.position.cancelled || former || !truth.stored, || {
                    format!("{id} is said to be cancelled, and the next leader goes on with it")
                })?;
                truth.cancelled = true;
                self.see("cancelled");
            }
            Reply::HasEnded => check(former || !truth.stored, || format!("{id} is said to have ended, and is stored"))?,
            Reply::NotCancelled => self.see("not cancelled"),
        }
        Ok(())
    }

    fn at_rest(&self) -> Verdict {
        for (id, truth) in &self.truths {
            check(truth.puts <= 1, || format!("the texts of {id} were stored {} times", truth.puts))?;
            if truth.puts == 0 {
                continue;
            }
            let Some(listed) = truth.listed else { return Err(format!("{id} has ended, and nobody knows how")) };
            check(truth.listings == 1, || format!("{id} was listed as ended {} times", truth.listings))?;
            let is_as_told = !truth.cancelled || matches!(listed, Outcome::Cancelled | Outcome::Finished);
            check(is_as_told, || format!("{id} is listed as {listed:?}, and a cancellation was answered"))?;
            let done = truth.happened.len() as u32;
            let right = match listed {
                Outcome::Finished => done == truth.statements,
                // The statement at the stored position may have happened without being recorded.
                Outcome::Failed { statement, .. } => done == statement || done == statement + 1,
                Outcome::Cancelled => true,
            };
            check(right, || format!("{id} is listed as {listed:?}, and {done} of its statements happened"))?;
            check(truth.tries.is_empty(), || format!("tries of {id} stay: {:?}", truth.tries))?;
        }
        Ok(())
    }
}

impl Simulation for World {
    type Defect = Defect;
    const STEPS: u32 = 400;

    fn run(seed: u64, steps: u32, defect: Option<Defect>) -> Result<Self, String> {
        let mut world = World::new(seed, defect);
        world.follow()?;
        world.faults(steps)?;
        world.quiet()?;
        Ok(world)
    }

    fn seen(&self) -> &BTreeMap<&'static str, u64> {
        &self.seen
    }
}

#[test]
fn submissions_come_to_their_end_once() {
    holds::<World>();
}

#[test]
fn every_situation_occurs() {
    situations_occur::<World>(&[
        "answered from its outcome",
        "begun after deaths",
        "cancel",
        "cancelled",
        "died of a statement",
        "exhausted",
        "failed",
        "finished",
        "found",
        "hesitates",
        "its job was cancelled",
        "left in good order",
        "listed as cancelled",
        "not cancelled",
        "not let in",
        "not recorded",
        "refused",
        "session lost",
        "two leaders",
    ]);
}

#[test]
fn the_checker_notices_planted_defects() {
    defects_are_noticed::<World>(&[
        (Defect::BeginEarly, "begins at"),
        (Defect::BeginAfresh, "happens twice"),
        (Defect::CountNothing, "died of it"),
        (Defect::NoHesitation, "and primaries died of it"),
        (Defect::CancelEarly, "and was cancelled"),
        (Defect::ForgetFirst, "is not listed"),
        (Defect::LeaveUnnoted, "is given up for Exhausted"),
        (Defect::LoseSessions, "is given up for SessionLost"),
        (Defect::StoreTexts, "were stored"),
    ]);
}
