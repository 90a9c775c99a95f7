//! Writes under random faults: leaders that die between any two effects or do not notice their successor, commits with unknown outcome, attempts that stage
//! files long after the end, folders that cannot be removed, tables that are replaced meanwhile.
//!
//! The model has disks, a metadata store and jobs; it counts a write as published when that is durable in the store, not when a machine believes so. Then the
//! faults stop, one more leader follows, and every write has to end. A failing run names its seed.

use super::*;
use crate::dice::Dice;
use crate::simulation::{Simulation, Verdict, check, defects_are_noticed, holds, situations_occur};
use std::collections::{BTreeMap, BTreeSet};

/// A defect planted in the model's shell or the machine's outputs, to prove that the checker notices it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    /// A write with an unknown commit outcome is abandoned.
    AbandonUnknown,
    /// Staged folders are removed only once.
    NoStragglers,
    /// The next leader abandons a write that must be published.
    AbandonPublishing,
    /// Files move before the decision to move them is durable.
    MoveEarly,
    /// Replaced files go before the new ones are in place.
    RemoveFirst,
    /// Attempts that lost the race count as gone.
    TrustSlower,
    /// A commit does not remove its staged folders.
    CommitAlone,
    /// A folder that cannot be removed is forgotten.
    ForgetLeft,
    /// A file that another write has replaced meanwhile stops the next leader.
    StopAtMissing,
}

type Folder = u64;
type WriteId = u64;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// Time in which cut-off attempts may stage files after the end of their job or leader, at most.
const LATEST: u64 = 23 * HOUR;
/// Time in which a former leader notices its successor, at most.
const NOTICED: u64 = 30 * MINUTE;
const TABLES: u64 = 2;

/// Facts about a write that only the model knows.
#[derive(Debug)]
struct Truth {
    staging: Folder,
    own: Option<Folder>,
    table: u64,
    /// The attempt that counts, by task, once the job has finished.
    counted: BTreeMap<u64, u64>,
    publication: Option<Publication>,
    /// Whether the write is published in the store, which is what counts.
    durable: bool,
    told: Option<Reply>,
    /// Attempts that may stage files, and their deadline.
    writers: u64,
    until: u64,
}

/// A write in progress on one leader.
#[derive(Debug)]
struct Process {
    machine: Write<Folder>,
    output: Output<Folder>,
    /// Number of begun attempts, by task.
    attempts: Option<BTreeMap<u64, u64>>,
}

#[derive(Debug)]
struct Leader {
    epoch: u64,
    followed_at: Option<u64>,
    processes: BTreeMap<WriteId, Process>,
}

#[derive(Debug)]
struct World {
    dice: Dice,
    defect: Option<Defect>,
    faulty: bool,
    now: u64,
    epoch: u64,
    leader: Option<Leader>,
    former: Vec<Leader>,
    // The store.
    records: BTreeMap<WriteId, Record<Folder>>,
    garbage: BTreeSet<(u64, u64, Folder)>,
    catalog: BTreeSet<Folder>,
    // The disks: contents by `folder/name` or `table/name`.
    disk: BTreeMap<String, String>,
    writes: BTreeMap<WriteId, Truth>,
    next: u64,
    seen: BTreeMap<&'static str, u64>,
}

fn content(write: WriteId, task: u64) -> String {
    format!("rows of {write}/{task}")
}

impl World {
    fn new(seed: u64, defect: Option<Defect>) -> Self {
        World {
            dice: Dice(seed),
            defect,
            faulty: true,
            now: 0,
            epoch: 0,
            leader: None,
            former: Vec::new(),
            records: BTreeMap::new(),
            garbage: BTreeSet::new(),
            catalog: BTreeSet::new(),
            disk: BTreeMap::new(),
            writes: BTreeMap::new(),
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

    fn faults(&mut self, steps: u32) -> Verdict {
        for _ in 0..steps {
            match self.dice.below(60) {
                0..6 => self.begin(),
                6..40 => self.go_on_somewhere()?,
                40..46 => self.write_late(),
                46..49 => self.collect()?,
                49..53 => {
                    let by = [1, 1_000, 6_000, MINUTE, 10 * MINUTE][self.dice.below(5) as usize];
                    self.pass(by)?;
                }
                53 if self.dice.once_in(3) => self.pass(5 * HOUR)?,
                54 if self.dice.once_in(2) => self.die()?,
                55 if self.dice.once_in(2) => self.be_followed(),
                _ => self.follow(),
            }
        }
        Ok(())
    }

    /// Runs without faults: one more leader follows, and ends all writes.
    fn quiet(&mut self) -> Verdict {
        self.faulty = false;
        self.die()?;
        self.pass(NOTICED + 1)?;
        self.follow();
        for _ in 0..2 {
            while let Some(write) = self.leader.as_ref().and_then(|leader| leader.processes.keys().next().copied()) {
                self.go_on(write, None)?;
            }
            self.pass(LATEST)?;
            while self.writes.values().any(|truth| truth.writers > 0 && truth.until > self.now) {
                self.write_late();
            }
            self.pass(25 * HOUR)?;
            self.collect()?;
        }
        self.at_rest()
    }

    fn pass(&mut self, ms: u64) -> Verdict {
        self.now += ms;
        let now = self.now;
        self.former.retain(|leader| leader.followed_at.is_some_and(|at| now < at + NOTICED));
        Ok(())
    }

    fn begin(&mut self) {
        if self.leader.is_none() {
            return;
        }
        let (id, staging) = (self.number(), self.number());
        let own = self.dice.once_in(2).then(|| self.number());
        let mut machine = Write::new(vec![staging], own.into_iter().collect());
        let output = machine.step(Event::Begun);
        let table = self.dice.below(TABLES);
        let truth = Truth {
            staging,
            own,
            table,
            counted: BTreeMap::new(),
            publication: None,
            durable: false,
            told: None,
            writers: 0,
            until: u64::MAX,
        };
        self.writes.insert(id, truth);
        if let Some(leader) = &mut self.leader {
            leader.processes.insert(id, Process { machine, output, attempts: None });
        }
    }

    fn follow(&mut self) {
        if self.leader.is_some() {
            return;
        }
        self.epoch += 1;
        let mut processes = BTreeMap::new();
        for (&id, record) in &self.records {
            let record = match self.defect {
                Some(Defect::AbandonPublishing) => Record { publication: None, ..record.clone() },
                _ => record.clone(),
            };
            let was_publishing = record.publication.is_some();
            let mut machine = Write::found(record);
            let output = machine.step(Event::Begun);
            *self
                .seen
                .entry(if was_publishing { "carried through" } else { "abandoned by a follower" })
                .or_default() += 1;
            processes.insert(id, Process { machine, output, attempts: None });
        }
        self.leader = Some(Leader { epoch: self.epoch, followed_at: None, processes });
    }

    /// Kills the leader between two effects.
    fn die(&mut self) -> Verdict {
        let Some(leader) = self.leader.take() else { return Ok(()) };
        for (id, process) in leader.processes {
            if let Some(persist) = &process.output.persist
                && self.faulty
                && self.dice.once_in(2)
            {
                self.store(id, &persist.clone())?;
                self.see("died behind a commit");
            }
            if let Some(effect) = process.output.send.clone() {
                let part = if self.faulty { self.dice.below(4) } else { 0 };
                self.carry_out(&effect, part)?;
                self.see("died in an effect");
            }
            self.cut_off(id, process);
        }
        Ok(())
    }

    fn be_followed(&mut self) {
        if let Some(mut leader) = self.leader.take() {
            leader.followed_at = Some(self.now);
            self.former.push(leader);
            self.see("two leaders");
            self.follow();
        }
    }

    /// Lets the attempts of the write's job go on without a leader.
    fn cut_off(&mut self, id: WriteId, process: Process) {
        if let Some(attempts) = process.attempts
            && let Some(truth) = self.writes.get_mut(&id)
        {
            truth.writers = attempts.values().sum();
            truth.until = self.now + LATEST;
        }
    }

    fn go_on_somewhere(&mut self) -> Verdict {
        let former = (!self.former.is_empty() && self.dice.once_in(3))
            .then(|| self.dice.below(self.former.len() as u64) as usize);
        let leader = match former {
            Some(at) => self.former.get(at),
            None => self.leader.as_ref(),
        };
        let ids: Vec<WriteId> = leader.map_or_else(Vec::new, |leader| leader.processes.keys().copied().collect());
        if ids.is_empty() {
            return Ok(());
        }
        let id = ids[self.dice.below(ids.len() as u64) as usize];
        self.go_on(id, former)
    }

    /// Runs one step of one write on one leader.
    fn go_on(&mut self, id: WriteId, former: Option<usize>) -> Verdict {
        let leader = match former {
            Some(at) => self.former.get_mut(at),
            None => self.leader.as_mut(),
        };
        let Some(leader) = leader else { return Ok(()) };
        let epoch = leader.epoch;
        let Some(mut process) = leader.processes.remove(&id) else { return Ok(()) };
        let event = if let Some(persist) = process.output.persist.take() {
            let mut said = self.commit(id, epoch, &persist)?;
            if said == Said::Unknown && persist.with != With::Nothing && self.defect == Some(Defect::AbandonUnknown) {
                said = Said::Refused;
            }
            Some(Event::Persisted(said))
        } else if let Some(effect) = process.output.send.take() {
            let part = if self.fault(6) { self.dice.below(4) } else { u64::MAX };
            Some(self.carry_out(&effect, part)?)
        } else if process.output.reply == Some(Reply::Staging) {
            self.work(id, &mut process)
        } else {
            None
        };
        if let Some(event) = event {
            process.output = process.machine.step(event);
            self.plant(&mut process.output)?;
        }
        match process.output.reply {
            Some(reply) if reply != Reply::Staging => self.told(id, reply)?,
            _ => {
                let leader = match former {
                    Some(at) => self.former.get_mut(at),
                    None => self.leader.as_mut(),
                };
                if let Some(leader) = leader {
                    leader.processes.insert(id, process);
                }
            }
        }
        Ok(())
    }

    fn plant(&mut self, output: &mut Output<Folder>) -> Verdict {
        if let Some(persist) = &mut output.persist {
            match self.defect {
                Some(Defect::NoStragglers) => persist.changes.retain(
                    |change| !matches!(change, Change::RemoveLater { after, .. } if STRAGGLERS.contains(after)),
                ),
                Some(Defect::ForgetLeft) => persist
                    .changes
                    .retain(|change| !matches!(change, Change::RemoveLater { after, .. } if *after == Duration::ZERO)),
                Some(Defect::CommitAlone) if persist.with == With::Catalog => {
                    persist.changes.retain(|change| !matches!(change, Change::RemoveLater { .. }));
                }
                Some(Defect::MoveEarly) => {
                    if let [Change::Put(Record { publication: Some(publication), .. })] = &persist.changes[..] {
                        let effect = Effect::Move(publication.clone());
                        self.carry_out(&effect, u64::MAX)?;
                    }
                }
                _ => {}
            }
        }
        if let (Some(Defect::RemoveFirst), Some(Effect::Move(publication))) = (self.defect, &output.send) {
            let effect = Effect::RemoveReplaced(publication.clone());
            self.carry_out(&effect, u64::MAX)?;
        }
        Ok(())
    }

    /// Runs the write's job: attempts begin and stage files, until it fails or each task has an attempt that counts.
    fn work(&mut self, id: WriteId, process: &mut Process) -> Option<Event<Folder>> {
        let staging = self.writes[&id].staging;
        self.disk.insert(format!("{staging}/"), "a folder".to_string());
        let attempts = match &mut process.attempts {
            Some(attempts) => attempts,
            None => {
                let tasks = self.dice.below(4);
                process.attempts.insert((0..tasks).map(|task| (task, 1)).collect())
            }
        };
        for (&task, count) in attempts.iter_mut() {
            if self.faulty && self.dice.once_in(4) {
                *count += 1;
            }
            if self.dice.once_in(2) {
                let attempt = self.dice.below(*count);
                self.disk.insert(format!("{staging}/{attempt}-{task}"), content(id, task));
            }
        }
        let attempts = attempts.clone();
        match self.dice.below(6) {
            0 if self.faulty => {
                self.see("job failed");
                // Its attempts may have ended, or have been cut off.
                if self.dice.once_in(2)
                    && let Some(truth) = self.writes.get_mut(&id)
                {
                    truth.writers = attempts.values().sum();
                    truth.until = self.now + LATEST;
                }
                process.attempts = None;
                Some(Event::JobFailed)
            }
            0..3 => {
                process.attempts = None;
                Some(self.finish(id, &attempts))
            }
            _ => None,
        }
    }

    fn finish(&mut self, id: WriteId, attempts: &BTreeMap<u64, u64>) -> Event<Folder> {
        let table = self.writes[&id].table;
        let overwrites = self.dice.once_in(3);
        let in_table = format!("t{table}/");
        let replaced = self.disk.keys().filter(|path| overwrites && path.starts_with(&in_table)).cloned().collect();
        let Truth { staging, own, .. } = self.writes[&id];
        let mut moves = Vec::new();
        let mut counted = BTreeMap::new();
        for (&task, &count) in attempts {
            let attempt = self.dice.below(count);
            counted.insert(task, attempt);
            let from = format!("{staging}/{attempt}-{task}");
            self.disk.insert(from.clone(), content(id, task));
            let to = match own {
                Some(own) => format!("{own}/{task}"),
                None => format!("t{table}/{id}-{task}"),
            };
            moves.push((from, to));
        }
        let slower = attempts.values().any(|&count| count > 1) && self.dice.once_in(2);
        let ran_once = attempts.values().all(|&count| count == 1);
        // A job may be quiet although attempts were cut off; then one of its tasks ran more than once.
        let quiet = !slower || self.dice.once_in(2);
        let (visible, replaced) = match own {
            Some(_) => (Visible::ByCatalog, Vec::new()),
            None => (Visible::ByMoving, replaced),
        };
        let publication = Publication::new("store".to_string(), moves, replaced);
        if !publication.removes.is_empty() {
            self.see("replaces");
        }
        let now = self.now;
        if let Some(truth) = self.writes.get_mut(&id) {
            truth.counted = counted;
            truth.publication = Some(publication.clone());
            truth.writers = if slower { attempts.values().sum() } else { 0 };
            truth.until = now + LATEST;
        }
        let writers = match self.defect {
            Some(Defect::TrustSlower) => Writers::Gone,
            _ => Writers::of_finished(quiet, ran_once),
        };
        Event::JobFinished { publication, visible, writers }
    }

    /// Lets an attempt that nobody waits for stage a file.
    fn write_late(&mut self) {
        let may: Vec<WriteId> = self
            .writes
            .iter()
            .filter(|(_, truth)| truth.writers > 0 && self.now < truth.until)
            .map(|(&id, _)| id)
            .collect();
        if may.is_empty() {
            return;
        }
        let id = may[self.dice.below(may.len() as u64) as usize];
        if let Some(truth) = self.writes.get_mut(&id) {
            truth.writers -= 1;
            let (staging, number) = (truth.staging, truth.writers);
            self.disk.insert(format!("{staging}/late-{number}"), "late".to_string());
            self.see("late");
        }
    }

    fn commit(&mut self, id: WriteId, epoch: u64, persist: &Persist<Folder>) -> Result<Said, String> {
        if epoch != self.epoch {
            self.see("not leading");
            return Ok(Said::NotLeading);
        }
        if self.fault(15) {
            self.see("refused");
            return Ok(Said::Refused);
        }
        if self.fault(8) {
            if self.dice.once_in(2) {
                self.store(id, persist)?;
            }
            self.see("unknown");
            return Ok(Said::Unknown);
        }
        self.store(id, persist)?;
        Ok(Said::Done)
    }

    /// Makes the transaction durable.
    fn store(&mut self, id: WriteId, persist: &Persist<Folder>) -> Verdict {
        for change in &persist.changes {
            match change {
                Change::Put(record) => _ = self.records.insert(id, record.clone()),
                Change::Forget => _ = self.records.remove(&id),
                Change::RemoveLater { folder, after } => {
                    let number = self.number();
                    self.garbage.insert((self.now + after.as_millis() as u64, number, *folder));
                }
            }
        }
        if persist.with != With::Nothing {
            let truth = self.writes.get_mut(&id).ok_or("no such write")?;
            check(truth.publication.is_some(), || format!("write {id} is published before its job has finished"))?;
            check(!truth.durable, || format!("write {id} is published twice"))?;
            truth.durable = true;
            if persist.with == With::Catalog {
                self.catalog.extend(truth.own);
            }
            self.see(if persist.with == With::Catalog { "committed" } else { "published" });
            self.nothing_is_lost(id)?;
        }
        Ok(())
    }

    /// Carries out up to `part` steps of the effect.
    fn carry_out(&mut self, effect: &Effect<Folder>, part: u64) -> Result<Event<Folder>, String> {
        let enough = |at: usize| at as u64 >= part;
        match effect {
            Effect::Move(publication) => {
                let mut moved = Moved::All;
                for (at, (from, to)) in publication.moves.iter().enumerate() {
                    if enough(at) {
                        return Ok(Event::Moved(Moved::NotAll));
                    }
                    match self.disk.remove(from) {
                        Some(content) => {
                            let there = self.disk.insert(to.clone(), content);
                            check(there.is_none(), || format!("{to} was there already"))?;
                        }
                        None if self.disk.contains_key(to) => self.see("moved before"),
                        None => {
                            self.see("missing");
                            let stops = self.defect == Some(Defect::StopAtMissing);
                            moved = if stops { Moved::NotAll } else { Moved::Missing };
                        }
                    }
                }
                Ok(Event::Moved(moved))
            }
            Effect::RemoveReplaced(publication) => {
                for (at, path) in publication.removes.iter().enumerate() {
                    if enough(at) {
                        return Ok(Event::ReplacedRemoved(false));
                    }
                    self.remove_replaced(path)?;
                }
                Ok(Event::ReplacedRemoved(true))
            }
            Effect::RemoveFolders(folders) => {
                let mut left = Vec::new();
                for (at, &folder) in folders.iter().enumerate() {
                    if enough(at) {
                        self.see("folder left");
                        left.push(folder);
                    } else {
                        self.remove_folder(folder)?;
                    }
                }
                Ok(Event::FoldersRemoved { left })
            }
        }
    }

    fn collect(&mut self) -> Verdict {
        if self.leader.is_none() {
            return Ok(());
        }
        let due: Vec<_> = self.garbage.iter().filter(|(due, ..)| *due <= self.now).copied().collect();
        for entry in due {
            if !self.fault(5) {
                self.remove_folder(entry.2)?;
                self.garbage.remove(&entry);
            }
        }
        Ok(())
    }

    fn remove_folder(&mut self, folder: Folder) -> Verdict {
        check(!self.catalog.contains(&folder), || format!("folder {folder} of a table is removed"))?;
        let prefix = format!("{folder}/");
        self.disk.retain(|path, _| !path.starts_with(&prefix));
        let of = self.writes.iter().find(|(_, truth)| truth.staging == folder || truth.own == Some(folder));
        let Some((&id, _)) = of else { return Err(format!("folder {folder} is nobody's")) };
        self.nothing_is_lost(id)
    }

    fn remove_replaced(&mut self, path: &String) -> Verdict {
        let replaces = |truth: &&Truth| {
            truth.durable && truth.publication.as_ref().is_some_and(|publication| publication.removes.contains(path))
        };
        let by: Vec<&Truth> = self.writes.values().filter(replaces).collect();
        check(!by.is_empty(), || format!("{path} is removed, and nothing replaces it"))?;
        let is_whole = |truth: &&Truth| {
            let moves = truth.publication.iter().flat_map(|publication| &publication.moves);
            moves.into_iter().all(|(_, to)| self.disk.contains_key(to) || self.is_replaced(to))
        };
        check(by.iter().any(is_whole), || format!("{path} is removed before what replaces it is there"))?;
        self.disk.remove(path);
        Ok(())
    }

    fn is_replaced(&self, path: &String) -> bool {
        self.writes
            .values()
            .filter(|truth| truth.durable)
            .any(|truth| truth.publication.as_ref().is_some_and(|publication| publication.removes.contains(path)))
    }

    /// Checks that each file of a published write is staged or in place.
    fn nothing_is_lost(&self, id: WriteId) -> Verdict {
        let truth = &self.writes[&id];
        let Some(publication) = truth.publication.as_ref().filter(|_| truth.durable) else { return Ok(()) };
        for (from, to) in &publication.moves {
            let there = self.disk.contains_key(to) || truth.own.is_none() && self.disk.contains_key(from);
            check(there || self.is_replaced(to), || format!("{to} of published write {id} is lost"))?;
        }
        Ok(())
    }

    fn told(&mut self, id: WriteId, reply: Reply) -> Verdict {
        let truth = self.writes.get_mut(&id).ok_or("no such write")?;
        truth.told = Some(reply);
        let (durable, is_whole) = (truth.durable, matches!(reply, Reply::Published));
        match reply {
            Reply::Published => check(durable, || format!("write {id} is said to be published, and is not"))?,
            Reply::Abandoned | Reply::NotBegun => {
                check(!durable, || format!("write {id} is said to be abandoned, and is published"))?;
            }
            Reply::Staging | Reply::Unfinished | Reply::Left => {}
        }
        self.see(match reply {
            Reply::Published => "told of the publication",
            Reply::Abandoned => "told of the end",
            Reply::NotBegun => "not begun",
            Reply::Unfinished => "unfinished",
            Reply::Left | Reply::Staging => "left",
        });
        if is_whole {
            self.is_whole(id)?;
        }
        Ok(())
    }

    fn is_whole(&self, id: WriteId) -> Verdict {
        let truth = &self.writes[&id];
        let moves = truth.publication.iter().flat_map(|publication| &publication.moves);
        for ((_, to), (&task, _)) in moves.zip(&truth.counted) {
            let found = self.disk.get(to);
            let right = found == Some(&content(id, task)) || found.is_none() && self.is_replaced(to);
            check(right, || format!("{to} of published write {id} is {found:?}"))?;
        }
        Ok(())
    }

    fn at_rest(&self) -> Verdict {
        check(self.records.is_empty(), || format!("records stay: {:?}", self.records))?;
        check(self.garbage.is_empty(), || format!("folders are still to be removed: {:?}", self.garbage))?;
        for (&id, truth) in &self.writes {
            if truth.durable {
                self.is_whole(id)?;
            }
        }
        let mut once = BTreeSet::new();
        for (path, content) in &self.disk {
            let (folder, name) = path.split_once('/').ok_or("no path")?;
            let of = match folder.strip_prefix('t') {
                Some(_) => name.split_once('-').and_then(|(id, _)| id.parse().ok()),
                None => {
                    self.writes.iter().find(|(_, t)| t.own.is_some_and(|own| own.to_string() == folder)).map(|w| *w.0)
                }
            };
            let Some(id) = of else { return Err(format!("{path} stays, which was staged")) };
            check(self.writes[&id].durable, || format!("{path} is visible, and write {id} was abandoned"))?;
            check(once.insert(content), || format!("{content} is there twice"))?;
        }
        Ok(())
    }
}

impl Simulation for World {
    type Defect = Defect;
    const STEPS: u32 = 500;

    fn run(seed: u64, steps: u32, defect: Option<Defect>) -> Result<Self, String> {
        let mut world = World::new(seed, defect);
        world.follow();
        world.faults(steps)?;
        world.quiet()?;
        Ok(world)
    }

    fn seen(&self) -> &BTreeMap<&'static str, u64> {
        &self.seen
    }
}

#[test]
fn writes_are_published_whole_or_not_at_all() {
    holds::<World>();
}

#[test]
fn every_situation_occurs() {
    situations_occur::<World>(&[
        "abandoned by a follower",
        "carried through",
        "committed",
        "died behind a commit",
        "died in an effect",
        "folder left",
        "job failed",
        "late",
        "left",
        "missing",
        "moved before",
        "not begun",
        "not leading",
        "published",
        "refused",
        "replaces",
        "told of the end",
        "told of the publication",
        "two leaders",
        "unfinished",
        "unknown",
    ]);
}

#[test]
fn the_checker_notices_planted_defects() {
    defects_are_noticed::<World>(&[
        (Defect::AbandonUnknown, "is removed"),
        (Defect::NoStragglers, "which was staged"),
        (Defect::AbandonPublishing, "is lost"),
        (Defect::MoveEarly, "was abandoned"),
        (Defect::RemoveFirst, "before what replaces it is there"),
        (Defect::TrustSlower, "which was staged"),
        (Defect::CommitAlone, "which was staged"),
        (Defect::ForgetLeft, "which was staged"),
        (Defect::StopAtMissing, "records stay"),
    ]);
}
