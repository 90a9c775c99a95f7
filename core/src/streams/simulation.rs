//! Streaming jobs under random faults: leaders that die between any two effects or do not notice their successor, changes whose outcome is unknown, that are done
//! late or not at all, runs that fail, partitions that split, sources that cannot say where they end, and users who pause, resume, restart and drop.
//!
//! The model has sources and a metadata store with what it publishes. Then the faults stop, one more leader follows, and every record has to be published.

use super::*;
use crate::dice::Dice;
use crate::simulation::{Simulation, Verdict, check, defects_are_noticed, holds, situations_occur};

/// A defect planted in the model's shell or store, to prove that the checker notices it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    /// The output of a publication with an unknown outcome is removed at once.
    AbandonUnknown,
    /// The store takes any record.
    AnyVersion,
    /// Sources do not say which partitions come before others.
    NoParents,
    /// The next leader does not find the epoch that was under way.
    ForgetPlan,
    /// A run says that its records are later than they are.
    Hurried,
    /// A run reads one record less than it says.
    SkipOne,
    /// A pause is answered before it is stored.
    PauseEarly,
    /// A run that has not reached the end of a partition says that it has.
    EarlyEnd,
}

#[derive(Debug, Default)]
struct Shard {
    parents: BTreeSet<Partition>,
    /// The latest event time of its parents.
    from: i64,
    /// Event time of each record.
    times: Vec<i64>,
    is_closed: bool,
}

/// The output of a run.
#[derive(Clone, Debug)]
struct Staged {
    id: u64,
    epoch: u64,
    records: BTreeMap<Partition, (usize, usize)>,
    watermark: Option<i64>,
}

#[derive(Debug)]
struct Leader {
    number: u64,
    followed_at: Option<u64>,
    job: Job,
    output: Output,
    run: Option<Epoch>,
    staged: Option<Staged>,
    /// What was there when it last looked without knowing what an `AvailableNow` job has to read.
    goal: BTreeMap<Partition, usize>,
}

/// A change on its way to the store.
#[derive(Clone, Debug)]
struct Late {
    leader: u64,
    change: Change,
    staged: Option<Staged>,
    goal: BTreeMap<Partition, usize>,
}

#[derive(Debug)]
struct World {
    dice: Dice,
    defect: Option<Defect>,
    faulty: bool,
    now: u64,
    shards: BTreeMap<Partition, Shard>,
    /// Whether sources say where partitions end.
    has_ends: bool,
    is_idle_counted: bool,
    leaders: u64,
    leader: Option<Leader>,
    former: Vec<Leader>,
    late: Vec<Late>,
    record: Option<Record>,
    is_dropped: bool,
    /// Records published since the last restart, by partition: from, and to.
    published: BTreeMap<Partition, (usize, usize)>,
    /// The input of each epoch when it first ran, since the last restart.
    plans: BTreeMap<(u32, u64), (BTreeMap<Partition, (Position, Until)>, Option<i64>)>,
    abandoned: BTreeSet<u64>,
    /// What the goal in the record stands for.
    goal: BTreeMap<Partition, usize>,
    asked: BTreeMap<u64, Request>,
    /// Whether a pause was answered, and nobody has asked to go on since the pause was asked for.
    is_still: bool,
    /// The last request to go on.
    resume: u64,
    next: u64,
    seen: BTreeMap<&'static str, u64>,
}

fn number(position: &str) -> usize {
    position.parse().unwrap_or_default()
}

impl World {
    fn new(seed: u64, defect: Option<Defect>) -> Self {
        let mut dice = Dice(seed);
        let shards = (0..=dice.below(3)).map(|n| (format!("p{n}"), Shard::default())).collect();
        let (has_ends, is_idle_counted) = (dice.once_in(2), dice.once_in(3));
        let trigger = match dice.below(3) {
            0 => Trigger::AvailableNow,
            1 => Trigger::Every(10_000),
            _ => Trigger::Continuous,
        };
        let record = Record::new(trigger, dice.once_in(2), is_idle_counted.then_some(Duration::from_secs(30)));
        World {
            dice,
            defect,
            faulty: true,
            now: 0,
            shards,
            has_ends,
            is_idle_counted,
            leaders: 0,
            leader: None,
            former: Vec::new(),
            late: Vec::new(),
            record: Some(record),
            is_dropped: false,
            published: BTreeMap::new(),
            plans: BTreeMap::new(),
            abandoned: BTreeSet::new(),
            goal: BTreeMap::new(),
            asked: BTreeMap::new(),
            is_still: false,
            resume: 0,
            next: 0,
            seen: BTreeMap::new(),
        }
    }

    fn see(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn fault(&mut self, once_in: u64) -> bool {
        self.faulty && self.dice.once_in(once_in)
    }

    fn now(&self) -> Instant {
        Instant(self.now * 1_000)
    }

    fn faults(&mut self, steps: u32) -> Verdict {
        for _ in 0..steps {
            match self.dice.below(40) {
                0..10 => self.append(),
                10 if self.dice.once_in(4) => self.split(),
                11..28 => self.go_on_somewhere()?,
                28..31 => self.now += [1, 300, 1_000, 5_000, 40_000][self.dice.below(5) as usize],
                31..33 => self.land_late()?,
                33 if self.dice.once_in(3) => self.ask()?,
                34 if self.dice.once_in(2) => self.die(),
                35 if self.dice.once_in(2) => self.be_followed()?,
                36 => self.event(None, Event::Woken)?,
                _ => self.follow()?,
            }
        }
        Ok(())
    }

    fn append(&mut self) {
        let open: Vec<Partition> =
            self.shards.iter().filter(|(_, shard)| !shard.is_closed).map(|(name, _)| name.clone()).collect();
        let name = &open[self.dice.below(open.len() as u64) as usize];
        let shard = &self.shards[name];
        let from = shard.times.last().copied().unwrap_or(shard.from);
        let by = self.dice.below(10) as i64;
        if let Some(shard) = self.shards.get_mut(name) {
            shard.times.push(from + by);
        }
    }

    fn split(&mut self) {
        let open: Vec<Partition> =
            self.shards.iter().filter(|(_, shard)| !shard.is_closed).map(|(name, _)| name.clone()).collect();
        let mut parents = BTreeSet::from([open[self.dice.below(open.len() as u64) as usize].clone()]);
        let children = match open.len() > 1 && self.dice.once_in(2) {
            true => {
                parents.insert(open[self.dice.below(open.len() as u64) as usize].clone());
                1
            }
            false => 2,
        };
        // A child goes on where the latest of its parents has come to, so that no record of it is late.
        let mut from = 0;
        for name in &parents {
            if let Some(shard) = self.shards.get_mut(name) {
                shard.is_closed = true;
                from = from.max(shard.times.last().copied().unwrap_or(shard.from));
            }
        }
        for _ in 0..children {
            let name = format!("p{}", self.shards.len());
            self.shards.insert(name, Shard { parents: parents.clone(), from, ..Shard::default() });
        }
        self.see("split");
    }

    fn follow(&mut self) -> Verdict {
        if self.leader.is_some() {
            return Ok(());
        }
        let Some(mut record) = self.record.clone() else { return Ok(()) };
        if self.defect == Some(Defect::ForgetPlan) {
            record.planned = None;
        }
        if record.planned.is_some() {
            self.see("found under way");
        }
        self.leaders += 1;
        let job = Job::new(record);
        self.leader = Some(Leader {
            number: self.leaders,
            followed_at: None,
            job,
            output: Output::default(),
            run: None,
            staged: None,
            goal: BTreeMap::new(),
        });
        self.asked.clear();
        self.event(None, Event::Begun)
    }

    fn die(&mut self) {
        if let Some(leader) = self.leader.take() {
            self.see(if leader.staged.is_some() { "died with an output" } else { "died" });
        }
    }

    fn be_followed(&mut self) -> Verdict {
        if let Some(mut leader) = self.leader.take() {
            leader.followed_at = Some(self.now);
            self.former.push(leader);
            self.see("two leaders");
        }
        self.follow()
    }

    fn ask(&mut self) -> Verdict {
        if self.leader.is_none() {
            return Ok(());
        }
        let request = match self.dice.below(20) {
            0 if self.faulty => Request::Drop,
            1 => Request::Restart { from: BTreeMap::new() },
            2..10 => Request::Pause,
            _ => Request::Resume,
        };
        let number = self.number();
        if self.defect == Some(Defect::PauseEarly) && request == Request::Pause {
            self.is_still = true;
        }
        if request == Request::Resume {
            (self.is_still, self.resume) = (false, number);
        }
        self.asked.insert(number, request.clone());
        self.event(None, Event::Asked { number, request })
    }

    /// Gives an event to the leader, or to a former one.
    fn event(&mut self, former: Option<usize>, event: Event) -> Verdict {
        let now = self.now();
        let leader = match former {
            Some(at) => self.former.get_mut(at),
            None => self.leader.as_mut(),
        };
        let Some(leader) = leader else { return Ok(()) };
        let is_ran = matches!(event, Event::Ran(Ok(_)));
        let mut output = leader.job.step(now, event);
        let is_abandoning = output.send == Some(Effect::Abandon);
        if is_abandoning {
            output.send = None;
        }
        if is_ran && !matches!(output.persist, Some(Change::Publish(_))) {
            leader.staged = None;
        }
        let earlier = std::mem::take(&mut leader.output);
        let pending = earlier.persist.is_some() || earlier.send.is_some();
        leader.output = match pending {
            // Something is under way, so the step may not begin anything.
            true if output.persist.is_none() && output.send.is_none() => {
                Output { reply: Vec::new(), facts: Vec::new(), ..earlier }
            }
            true if matches!(output.send, Some(Effect::Stop)) => output.clone(),
            true => return Err(format!("two things at a time: {earlier:?} and {output:?}")),
            false => output.clone(),
        };
        if is_abandoning {
            self.abandon(former);
        }
        for fact in &output.facts {
            self.see(match fact {
                Fact::Committed { .. } => "committed",
                Fact::Trouble { .. } => "trouble",
                Fact::Ended(Ended::Done) => "done",
                Fact::Ended(Ended::Failed { .. }) => "failed",
                Fact::Forgotten => "forgotten",
                Fact::Left => "left",
            });
        }
        for (number, reply) in output.reply {
            let request = self.asked.remove(&number);
            if former.is_none() && reply == Reply::Done {
                match request {
                    Some(Request::Pause) => self.is_still = number > self.resume,
                    Some(Request::Drop) => self.is_dropped = true,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn go_on_somewhere(&mut self) -> Verdict {
        let now = self.now;
        self.former.retain(|leader| leader.followed_at.is_some_and(|at| now < at + 60_000));
        let former = match self.former.is_empty() || self.dice.once_in(2) {
            true => None,
            false => Some(self.dice.below(self.former.len() as u64) as usize),
        };
        self.go_on(former)
    }

    fn of(&mut self, former: Option<usize>) -> Option<&mut Leader> {
        match former {
            Some(at) => self.former.get_mut(at),
            None => self.leader.as_mut(),
        }
    }

    /// Carries out what a leader's machine asks for, or ends what it has begun.
    fn go_on(&mut self, former: Option<usize>) -> Verdict {
        let Some(leader) = self.of(former) else { return Ok(()) };
        let (number, output) = (leader.number, std::mem::take(&mut leader.output));
        if let Some(change) = output.persist {
            let staged = match &change {
                Change::Publish(_) => leader.staged.clone(),
                _ => None,
            };
            let goal = leader.goal.clone();
            let said = self.store(Late { leader: number, change: change.clone(), staged, goal })?;
            let Some(leader) = self.of(former) else { return Ok(()) };
            if matches!((&change, &said), (Change::Publish(_), Said::Done | Said::Refused(_) | Said::NotLeading)) {
                leader.staged = None;
            }
            if self.defect == Some(Defect::AbandonUnknown) && said == Said::Unknown {
                self.abandon(former);
            }
            return self.event(former, Event::Persisted(said));
        }
        match output.send {
            Some(Effect::Look) => {
                let looked = match self.fault(10) {
                    true => Err(Failure { reason: "no answer".to_string(), may_pass: true }),
                    false => Ok(self.offers(former)),
                };
                self.event(former, Event::Looked(looked))
            }
            Some(Effect::Run(epoch)) => self.begin(former, epoch),
            Some(Effect::Stop) => self.end_run(former, true),
            Some(Effect::Read) => {
                let found = self.record.clone().map(Box::new);
                self.see("read again");
                self.event(former, Event::Read(found))
            }
            // The former is done at once.
            Some(Effect::Abandon) | None => {
                let now = self.now();
                let Some(leader) = self.of(former) else { return Ok(()) };
                let (runs, due) = (leader.run.is_some(), leader.job.next_deadline().is_some_and(|at| at <= now));
                match runs {
                    true => self.end_run(former, false),
                    false if due => self.event(former, Event::Tick),
                    false => Ok(()),
                }
            }
        }
    }

    fn abandon(&mut self, former: Option<usize>) {
        let staged = self.of(former).and_then(|leader| leader.staged.take());
        if let Some(staged) = staged {
            self.abandoned.insert(staged.id);
            self.see("abandoned");
        }
    }

    fn offers(&mut self, former: Option<usize>) -> BTreeMap<Partition, Offer> {
        let parents = self.defect != Some(Defect::NoParents);
        let there = self.shards.iter().map(|(name, shard)| (name.clone(), shard.times.len())).collect();
        if let Some(leader) = self.of(former).filter(|leader| leader.job.record().goal.is_none()) {
            leader.goal = there;
        }
        let offer = |shard: &Shard| Offer {
            start: "0".to_string(),
            end: self.has_ends.then(|| shard.times.len().to_string()),
            is_closed: shard.is_closed,
            parents: if parents { shard.parents.clone() } else { BTreeSet::new() },
        };
        self.shards.iter().map(|(name, shard)| (name.clone(), offer(shard))).collect()
    }

    fn begin(&mut self, former: Option<usize>, epoch: Epoch) -> Verdict {
        let Some(leader) = self.of(former) else { return Ok(()) };
        let key = (leader.job.record().restarts, epoch.number);
        let now = (epoch.input.clone(), epoch.watermark);
        leader.run = Some(epoch);
        // The plan is durable, so it is the same under any leader that may publish.
        if former.is_some() {
            return Ok(());
        }
        match self.plans.get(&key) {
            Some(first) => {
                check(*first == now, || {
                    format!("epoch {key:?} runs again with another input: {first:?}, then {now:?}")
                })?;
                self.see("ran again");
            }
            None => _ = self.plans.insert(key, now),
        }
        Ok(())
    }

    fn end_run(&mut self, former: Option<usize>, is_stopped: bool) -> Verdict {
        let Some(epoch) = self.of(former).and_then(|leader| leader.run.take()) else { return Ok(()) };
        if is_stopped && self.dice.once_in(2) || self.fault(8) {
            self.see(if is_stopped { "stopped" } else { "run failed" });
            // Only a fault of the input or the statement needs somebody's help.
            let may_pass = !self.faulty || !self.dice.once_in(5);
            return self.event(former, Event::Ran(Err(Failure { reason: "a fault".to_string(), may_pass })));
        }
        let mut report = Report::default();
        let mut records = BTreeMap::new();
        for (partition, (from, until)) in &epoch.input {
            let shard = &self.shards[partition];
            let from = number(from);
            let to = match until {
                Until::At { position, .. } => number(position),
                Until::Enough => {
                    let left = (shard.times.len() - from) as u64;
                    let to = from + self.dice.below(left.min(5) + 1) as usize;
                    let shard = &self.shards[partition];
                    let is_end = to == shard.times.len() || self.defect == Some(Defect::EarlyEnd);
                    let place = Place { position: to.to_string(), is_done: shard.is_closed && is_end };
                    report.reached.insert(partition.clone(), place);
                    if is_end {
                        report.caught_up.insert(partition.clone());
                    }
                    to
                }
            };
            let shard = &self.shards[partition];
            let latest = shard.times[from..to].last().copied();
            let hurry = if self.defect == Some(Defect::Hurried) { 100 } else { 0 };
            report.times.extend(latest.map(|time| (partition.clone(), time + hurry)));
            let skip = usize::from(self.defect == Some(Defect::SkipOne) && to > from);
            records.insert(partition.clone(), (from + skip, to));
        }
        let id = self.number();
        let staged = Staged { id, epoch: epoch.number, records, watermark: epoch.watermark };
        report.state = Some(id.to_string());
        if let Some(leader) = self.of(former) {
            leader.staged = Some(staged);
        }
        self.event(former, Event::Ran(Ok(report)))
    }

    /// Returns what a store says, which may not be what it does.
    fn store(&mut self, change: Late) -> Result<Said, String> {
        if self.fault(12) {
            self.see("refused");
            return Ok(Said::Refused(Failure { reason: "no room".to_string(), may_pass: true }));
        }
        if self.fault(8) {
            self.see("unknown");
            match self.dice.below(3) {
                0 => _ = self.apply(change)?,
                1 => self.late.push(change),
                _ => {}
            }
            return Ok(Said::Unknown);
        }
        self.apply(change)
    }

    fn land_late(&mut self) -> Verdict {
        if self.late.is_empty() {
            return Ok(());
        }
        let at = self.dice.below(self.late.len() as u64) as usize;
        let change = self.late.remove(at);
        if self.apply(change)? == Said::Done {
            self.see("done late");
        }
        Ok(())
    }

    fn apply(&mut self, Late { leader, change, staged, goal }: Late) -> Result<Said, String> {
        if leader != self.leaders {
            self.see("not leading");
            return Ok(Said::NotLeading);
        }
        let Some(before) = &self.record else { return Ok(Said::Unknown) };
        let (restarts, was, had_goal) = (before.restarts, before.version, before.goal.is_some());
        let had_ended = before.ended.is_some();
        match change {
            Change::Forget => {
                self.record = None;
                return Ok(Said::Done);
            }
            Change::Put(next) | Change::Publish(next)
                if next.version != was + 1 && self.defect != Some(Defect::AnyVersion) =>
            {
                self.see("out of turn");
                drop(next);
                return Ok(Said::Unknown);
            }
            Change::Publish(next) => {
                self.publish(staged.ok_or("nothing was staged")?)?;
                self.record = Some(*next);
            }
            Change::Put(next) => {
                if next.restarts > restarts {
                    self.published.clear();
                    self.see("restarted");
                }
                if !had_goal {
                    self.goal = goal;
                }
                if next.ended == Some(Ended::Done) && !had_ended {
                    self.is_complete()?;
                }
                self.record = Some(*next);
            }
        }
        Ok(Said::Done)
    }

    /// What an `AvailableNow` job had to read is published.
    fn is_complete(&self) -> Verdict {
        let is_published = |(name, &to): (&Partition, &usize)| {
            to == 0 || self.published.get(name).is_some_and(|&(_, published)| published >= to)
        };
        check(self.goal.iter().all(is_published), || format!("it ended before {:?}: {:?}", self.goal, self.published))
    }

    fn publish(&mut self, staged: Staged) -> Verdict {
        let Staged { id, epoch, records, watermark } = staged;
        check(!self.abandoned.contains(&id), || format!("the output of epoch {epoch} is published and removed"))?;
        check(!self.is_still, || format!("epoch {epoch} is published during a pause"))?;
        check(!self.is_dropped, || format!("epoch {epoch} is published after the drop"))?;
        for (partition, (from, to)) in records {
            let shard = &self.shards[&partition];
            let before = self.published.get(&partition).map_or(0, |&(_, to)| to);
            check(from >= before || from == to, || {
                format!("epoch {epoch} publishes {partition} from {from}, and {before} were published: twice")
            })?;
            check(from <= before || from == to, || {
                format!("epoch {epoch} publishes {partition} from {from}, and {before} were published: skipped")
            })?;
            for parent in &shard.parents {
                let all = self.shards[parent].times.len();
                let done = self.published.get(parent).map_or(0, |&(_, to)| to);
                check(from == to || done == all, || {
                    format!(
                        "epoch {epoch} publishes {partition} before its parent {parent}, of which {done} of {all} are published"
                    )
                })?;
            }
            let late = shard.times[from..to].iter().find(|&&time| watermark.is_some_and(|watermark| time < watermark));
            check(self.is_idle_counted || late.is_none(), || {
                format!("a record of {late:?} in epoch {epoch} is late for the watermark {watermark:?}")
            })?;
            if late.is_some() {
                self.see("late behind an idle partition");
            }
            if from < to {
                self.published.insert(partition, (from, to));
            }
        }
        Ok(())
    }

    /// Runs without faults until all is read.
    fn quiet(&mut self) -> Verdict {
        self.faulty = false;
        for leader in std::mem::take(&mut self.former) {
            drop(leader);
        }
        self.late.clear();
        self.die();
        self.now += 1_000_000;
        self.follow()?;
        if self.record.is_none() {
            return Ok(());
        }
        for round in 0..2 {
            self.settle()?;
            let number = self.number();
            self.is_still = false;
            // What came after an `AvailableNow` job began is read when it goes on.
            if round == 0 {
                self.asked.insert(number, Request::Resume);
                self.event(None, Event::Asked { number, request: Request::Resume })?;
                self.settle()?;
            }
        }
        if self.record.is_none() {
            return Ok(());
        }
        let number = self.number();
        self.event(None, Event::Asked { number, request: Request::Resume })?;
        self.settle()?;
        for (name, shard) in &self.shards {
            let done = self.published.get(name).map_or(0, |&(_, to)| to);
            check(done == shard.times.len(), || {
                format!("{done} of {} records of {name} are published: skipped by {:?}", shard.times.len(), self.record)
            })?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Verdict {
        for _ in 0..5_000 {
            self.go_on(None)?;
            let now = self.now();
            let Some(leader) = &self.leader else { return Ok(()) };
            let is_quiet = leader.output.persist.is_none() && leader.output.send.is_none() && leader.run.is_none();
            if is_quiet {
                match leader.job.next_deadline() {
                    None => return Ok(()),
                    Some(at) if at > now => {
                        let all_read = self.shards.iter().all(|(name, shard)| {
                            self.published.get(name).map_or(0, |&(_, to)| to) == shard.times.len()
                        });
                        if all_read {
                            return Ok(());
                        }
                        self.now = at.0.div_ceil(1_000);
                    }
                    Some(_) => {}
                }
            }
        }
        Err(format!("it does not come to rest: {:?}", self.leader))
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
fn each_record_is_published_once_and_in_order() {
    holds::<World>();
}

#[test]
fn every_situation_occurs() {
    situations_occur::<World>(&[
        "abandoned",
        "committed",
        "died",
        "died with an output",
        "done",
        "done late",
        "failed",
        "forgotten",
        "found under way",
        "late behind an idle partition",
        "left",
        "not leading",
        "out of turn",
        "ran again",
        "read again",
        "refused",
        "restarted",
        "run failed",
        "split",
        "stopped",
        "trouble",
        "two leaders",
        "unknown",
    ]);
}

#[test]
fn the_checker_notices_planted_defects() {
    defects_are_noticed::<World>(&[
        (Defect::AbandonUnknown, "published and removed"),
        (Defect::AnyVersion, "twice"),
        (Defect::NoParents, "before its parent"),
        (Defect::ForgetPlan, "with another input"),
        (Defect::Hurried, "is late"),
        (Defect::SkipOne, "skipped"),
        (Defect::PauseEarly, "during a pause"),
        (Defect::EarlyEnd, "before its parent"),
    ]);
}
