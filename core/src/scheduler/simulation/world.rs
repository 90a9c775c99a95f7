//! Model executors, a network that delays, and faults, all driven by one seed.

use super::Defect;
use super::checker::Checker;
use crate::event::{Command, Event, ExecutorSpec, Launch, Outcome, Output, Persist, Reply, Role};
use crate::failure::TaskFailure;
use crate::ids::{AttemptId, ExecutorId, JobId, PlanHash, StageId, TaskId};
use crate::job::{
    Earlier, FinishedOutput, FinishedStage, JobSpec, MapLocation, Once, Preference, Read, StageInput, StageSpec,
    Takeovers, Terms,
};
use crate::scheduler::{Scheduler, SchedulerConfig};
use crate::time::Instant;
use crate::worker::{Action, Worker};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(super) struct World {
    config: SchedulerConfig,
    leader: Leader,
    /// A former leader that has not noticed its successor.
    former: Option<Leader>,
    now: Instant,
    random: Random,
    nodes: BTreeMap<ExecutorId, Node>,
    ids: u64,
    jobs: u64,
    specs: BTreeMap<JobId, Arc<JobSpec>>,
    /// Digest of all outputs, in order.
    pub digest: u64,
    /// Delivered reports, to be repeated.
    delivered: Vec<Event>,
    /// Finished stages of running jobs, as the metadata store has them.
    saved: BTreeMap<StageId, Vec<FinishedOutput>>,
    /// Takeovers of each job.
    takeovers: BTreeMap<JobId, Takeovers>,
    /// Jobs of a former leader that will be submitted again.
    orphans: Vec<JobId>,
    /// The executor's next id, by its previous one.
    renamed: BTreeMap<ExecutorId, ExecutorId>,
    /// Every attempt that an executor was told to run, under any leader.
    launched: BTreeSet<AttemptId>,
    /// Tasks of stages that run once, which have begun somewhere.
    begun_once: BTreeSet<TaskId>,
    /// Jobs whose end is in the metadata store.
    ended: BTreeSet<JobId>,
    /// Whether the former leader's next change is refused, so that it stops.
    ousted: bool,
}

/// The machine, and the checker that watches it.
struct Leader {
    scheduler: Scheduler,
    checker: Checker,
}

/// The leader that an executor follows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follows {
    Present,
    Former,
}

/// An executor process. Its messages travel in order, with delays.
struct Node {
    name: String,
    slots: usize,
    alive: bool,
    follows: Follows,
    /// Whether it is cut off: it hears nothing and is not heard.
    silent: bool,
    inbox: VecDeque<Command>,
    outbox: VecDeque<Event>,
    worker: Worker,
    running: BTreeMap<AttemptId, Running>,
    /// Outputs on its disk.
    outputs: BTreeSet<AttemptId>,
    /// Outputs that it fetches, and their sources.
    adopting: BTreeMap<AttemptId, ExecutorId>,
}

struct Running {
    inputs: Arc<[Arc<[MapLocation]>]>,
    aborted: bool,
    once: bool,
}

impl Node {
    /// Registers the process with a new machine, which knows the outputs on the disk.
    fn register(&mut self, defect: Option<Defect>) {
        self.worker = Worker::new(self.outputs.iter().map(|output| output.stage()).collect());
        self.worker.keeps_unwanted = defect == Some(Defect::KeepUnwanted);
        self.running.clear();
        self.adopting.clear();
        self.inbox.clear();
        self.outbox.clear();
        self.silent = false;
        self.follows = Follows::Present;
    }

    fn act(&mut self, id: ExecutorId, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Abort { attempt, .. } => {
                    self.running.entry(attempt).and_modify(|running| running.aborted = true);
                }
                // The fetch goes on to its end, as if it had been faster than the order.
                Action::StopFetching(_) => {}
                Action::Remove(attempt) => {
                    self.outputs.remove(&attempt);
                }
                Action::RemoveStages(stages) => self.outputs.retain(|output| !stages.contains(&output.stage())),
                Action::Cancelled(attempt) => self.say_ended(id, attempt, Outcome::Failed(TaskFailure::Cancelled)),
            }
        }
    }

    fn say_ended(&mut self, executor: ExecutorId, attempt: AttemptId, outcome: Outcome) {
        self.outbox.push_back(Event::TaskEnded { executor, attempt, outcome });
    }

    /// Whether the attempt runs, or the order to start it is on its way.
    fn has_ahead(&self, attempt: AttemptId) -> bool {
        let starts = |command: &Command| match command {
            Command::Launch(launch) => {
                let task = attempt.task;
                launch.stage == task.stage && launch.attempts.contains(&(task.partition, attempt.attempt))
            }
            _ => false,
        };
        self.running.contains_key(&attempt) || self.inbox.iter().any(starts)
    }

    /// Whether it fetches the output, or the order to do so is on its way.
    fn is_to_adopt(&self, output: AttemptId) -> bool {
        let asks =
            |command: &Command| matches!(command, Command::AdoptOutputs { outputs, .. } if outputs.contains(&output));
        self.adopting.contains_key(&output) || self.inbox.iter().any(asks)
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[self.below(from.len() as u64) as usize]) }
    }
}

type Progress = Result<(), String>;

impl World {
    pub fn new(seed: u64, config: SchedulerConfig) -> Self {
        World {
            leader: Leader { scheduler: Scheduler::new(config.clone()), checker: Checker::default() },
            former: None,
            config,
            now: Instant(0),
            random: Random(seed),
            nodes: BTreeMap::new(),
            ids: 0,
            jobs: 0,
            specs: BTreeMap::new(),
            digest: 0,
            delivered: Vec::new(),
            saved: BTreeMap::new(),
            takeovers: BTreeMap::new(),
            orphans: Vec::new(),
            renamed: BTreeMap::new(),
            launched: BTreeSet::new(),
            begun_once: BTreeSet::new(),
            ended: BTreeSet::new(),
            ousted: false,
        }
    }

    /// How often each situation occurred.
    pub fn occurred(&self) -> &BTreeMap<&'static str, u64> {
        &self.leader.checker.seen
    }

    /// Runs work and faults, in random order.
    pub fn faulty(&mut self, steps: u32) -> Progress {
        self.join(None)?;
        self.submit()?;
        for _ in 0..steps {
            match self.random.below(100) {
                0..30 => {
                    if let Some(id) = self.some_node() {
                        self.deliver_command(id)?;
                    }
                }
                30..60 => {
                    if let Some(id) = self.some_node() {
                        self.deliver_report(id)?;
                    }
                }
                60..78 => {
                    self.end_some_attempt(true);
                    if self.random.one_in(20) {
                        self.shed_some();
                    }
                    if self.random.one_in(3) {
                        self.end_some_adoption(true);
                    }
                }
                78..86 => {
                    if self.ousted && self.random.one_in(2) {
                        self.stop_former();
                    }
                    let millis = [1, 20, 500, 2_000][self.random.below(4) as usize];
                    self.pass(Duration::from_millis(millis))?;
                }
                86..89 => self.submit()?,
                90..92 => self.join(None)?,
                92 if self.random.one_in(3) => self.change_leader()?,
                92 if self.random.one_in(2) => {
                    self.some_comes_back()?;
                    self.submit_again()?;
                }
                92 => {
                    let whom = self.some_leader();
                    if let Some(job) = self.some_job() {
                        self.tell(whom, Event::JobCancelled { job, reason: "why not".to_string() })?;
                    }
                }
                93..95 => {
                    let whom = self.some_leader();
                    if let Some(job) = self.some_job() {
                        self.tell(whom, Event::JobReleased { job })?;
                    }
                }
                95 => self.repeat_report()?,
                96 => self.kill()?,
                97 => {
                    if let Some(id) = self.some_node() {
                        self.node(id).silent ^= true;
                    }
                }
                89 | 98 => {
                    if let Some(id) = self.some_node() {
                        let whom = self.node(id).follows;
                        self.tell(whom, Event::ExecutorDraining { executor: id })?;
                    }
                }
                _ => {
                    let name = self.some_node().map(|id| self.node(id).name.clone());
                    self.join(name)?;
                }
            }
        }
        Ok(())
    }

    /// Runs without faults until every job has ended, every slot is free and every output is gone.
    pub fn quiet(&mut self) -> Progress {
        self.stop_former();
        while self.some_comes_back()? {}
        while self.submit_again()? {}
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            if self.node(id).silent || !self.node(id).alive {
                self.nodes.remove(&id);
                self.step(Event::ExecutorGone { executor: id, reason: "end of faults".to_string() })?;
            }
        }
        self.join(None)?;
        self.join(None)?;
        for _ in 0..2_000 {
            self.end_some_attempt(false);
            self.end_some_adoption(false);
            self.exchange_messages()?;
            if self.random.one_in(10) {
                self.pass(Duration::from_millis(50))?;
            }
            let idle = self.nodes.values().all(|node| !node.alive || node.running.is_empty() && node.inbox.is_empty());
            if idle && self.leader.checker.running_jobs().is_empty() {
                break;
            }
        }
        for job in self.leader.checker.finished_jobs() {
            self.step(Event::JobReleased { job })?;
        }
        // Cancellations caused by the release of jobs that failed just now are reported in the second round.
        self.exchange_messages()?;
        self.exchange_messages()?;
        for _ in 0..=self.config.keep_unclaimed.as_secs() {
            self.pass(Duration::from_secs(1))?;
        }
        self.exchange_messages()?;
        self.leader.checker.at_rest()?;
        for (id, node) in &self.nodes {
            if !node.outputs.is_empty() && self.leader.scheduler.is_member(*id) {
                return Err(format!("{id} still holds {:?}", node.outputs));
            }
        }
        let scheduler = &self.leader.scheduler;
        let totals = scheduler.totals();
        if totals.free_slots != totals.slots || totals.jobs + totals.retained > 0 || !scheduler.pools.is_empty() {
            return Err(format!("at rest there are {totals:?}, {:?}", scheduler.pools));
        }
        Ok(())
    }

    fn step(&mut self, event: Event) -> Progress {
        self.tell(Follows::Present, event)
    }

    fn tell(&mut self, whom: Follows, event: Event) -> Progress {
        let mut output = Output::default();
        let Leader { scheduler, checker } = match (whom, &mut self.former) {
            (Follows::Present, _) => &mut self.leader,
            (Follows::Former, Some(former)) => former,
            (Follows::Former, None) => return Ok(()),
        };
        scheduler.step_into(self.now, event.clone(), &mut output);
        for byte in format!("{output:?}").bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let verdict = checker.observe(self.now, &event, &output);
        verdict.map_err(|complaint| format!("{complaint}\n  after {event:?}\n  in {output:?}"))?;
        // The write happens some time later, with the state at that time.
        let persist = output.persist.iter().filter_map(|persist| match persist {
            Persist::Stage { stage, .. } => Some((stage.job, Some((*stage, scheduler.kept(*stage)?)))),
            Persist::Forget { job, .. } => Some((*job, None)),
        });
        let persist: Vec<_> = persist.collect();
        for (stage, outputs) in persist.iter().filter_map(|(_, kept)| kept.as_ref()) {
            let saved: Vec<MapLocation> = outputs.iter().map(|output| output.location).collect();
            let there = checker.outputs(*stage);
            if saved != there {
                return Err(format!("{stage} is saved as {saved:?}, and is {there:?}\n  after {event:?}"));
            }
        }
        let ended = output.reply.iter().map(|reply| {
            let (Reply::JobFinished { job, .. } | Reply::JobFailed { job, .. }) = reply;
            *job
        });
        let ended: Vec<_> = ended.collect();
        for (executor, command) in output.send {
            if let Some(node) = self.nodes.get_mut(&executor).filter(|node| node.follows == whom) {
                node.inbox.push_back(command);
            }
        }
        if whom == Follows::Present || self.config.defect == Some(Defect::TrustFormer) {
            for (job, kept) in persist {
                match kept {
                    Some((stage, outputs)) => _ = self.saved.insert(stage, outputs),
                    None => self.saved.retain(|stage, _| stage.job != job),
                }
            }
            for job in ended {
                if self.saved.keys().any(|stage| stage.job == job) {
                    return Err(format!("{job} is still saved, and has ended\n  after {event:?}"));
                }
                if !self.ended.insert(job) {
                    return Err(format!("{job} ended under two leaders\n  after {event:?}"));
                }
            }
        } else if !ended.is_empty() || !persist.is_empty() {
            // Stages are saved on the side: the leader may do more before it hears of the refusal. The end of a job is not announced before it is stored.
            self.ousted |= !ended.is_empty() || self.random.one_in(3);
        }
        Ok(())
    }

    /// Chooses the leader that hears a client or an administrator.
    fn some_leader(&mut self) -> Follows {
        if self.random.one_in(3) { Follows::Former } else { Follows::Present }
    }

    /// Stops the former leader, which notices that its time is over.
    fn stop_former(&mut self) {
        self.ousted = false;
        let Some(former) = self.former.take() else { return };
        self.leader.checker.learn(former.checker);
        for node in self.nodes.values_mut().filter(|node| node.follows == Follows::Former) {
            node.follows = Follows::Present;
            node.silent = true;
        }
    }

    /// Advances time, with deadlines and heartbeats on the way.
    fn pass(&mut self, time: Duration) -> Progress {
        let end = self.now + time;
        loop {
            for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                if self.node(id).alive && !self.node(id).silent {
                    let whom = self.node(id).follows;
                    self.tell(whom, Event::Heartbeat { executor: id })?;
                }
            }
            let present = self.leader.scheduler.next_deadline().map(|at| (at, Follows::Present));
            let former = self.former.as_ref().and_then(|former| former.scheduler.next_deadline());
            let former = former.map(|at| (at, Follows::Former));
            match present.into_iter().chain(former).min_by_key(|(at, _)| *at) {
                Some((at, whom)) if at <= end => {
                    self.now = at.max(self.now);
                    self.tell(whom, Event::Tick)?;
                }
                _ => break,
            }
        }
        self.now = end;
        Ok(())
    }

    fn node(&mut self, id: ExecutorId) -> &mut Node {
        self.nodes.get_mut(&id).expect("the id comes from the map")
    }

    fn some_node(&mut self) -> Option<ExecutorId> {
        let ids: Vec<_> = self.nodes.keys().copied().collect();
        self.random.pick(&ids)
    }

    fn some_job(&mut self) -> Option<JobId> {
        if self.jobs == 0 { None } else { Some(JobId(self.random.below(self.jobs + 1))) }
    }

    /// Starts a new process; with a name, it is a restart of an old one.
    fn join(&mut self, name: Option<String>) -> Progress {
        self.ids += 1;
        let id = ExecutorId(self.ids);
        let name = name.unwrap_or_else(|| format!("node {id}"));
        let slots = 1 + self.random.below(3) as u32;
        for node in self.nodes.values_mut().filter(|node| node.name == name) {
            node.alive = false;
        }
        let mut node = Node {
            name: name.clone(),
            slots: slots as usize,
            alive: true,
            follows: Follows::Present,
            silent: false,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            worker: Worker::default(),
            running: BTreeMap::new(),
            outputs: BTreeSet::new(),
            adopting: BTreeMap::new(),
        };
        node.register(self.config.defect);
        self.nodes.insert(id, node);
        self.join_as(id, name, slots, Vec::new())
    }

    fn join_as(&mut self, id: ExecutorId, name: String, slots: u32, kept: Vec<StageId>) -> Progress {
        let host = format!("host{}", self.random.below(3));
        let rack = "rack".to_string();
        let memory_bytes = 10 * u64::from(slots);
        let program_memory_bytes = 1 + self.random.below(memory_bytes);
        self.step(Event::ExecutorJoined(ExecutorSpec {
            id,
            name,
            host,
            rack,
            role: Role::Task,
            slots,
            memory_bytes,
            program_memory_bytes,
            kept,
        }))
    }

    /// Kills a process. Its last reports may still arrive; the primary may or may not be told.
    fn kill(&mut self) -> Progress {
        let Some(id) = self.some_node() else { return Ok(()) };
        self.node(id).alive = false;
        if self.random.one_in(2) {
            let whom = self.node(id).follows;
            self.tell(whom, Event::ExecutorGone { executor: id, reason: "killed".to_string() })?;
        }
        Ok(())
    }

    /// Changes the leader, which dies or loses its lease without noticing. Executors join the next one now, later or never, with their outputs; most jobs are
    /// submitted again.
    fn change_leader(&mut self) -> Progress {
        self.stop_former();
        let running = self.leader.checker.running_jobs();
        // Writes that wait are lost with their leader.
        let random = &mut self.random;
        self.saved.retain(|_, _| !random.one_in(5));
        let is_named = |job: &JobId| self.specs[job].statement.is_some();
        self.orphans.extend(running.into_iter().filter(is_named).filter(|_| !self.random.one_in(4)));
        let next = Leader { scheduler: Scheduler::new(self.config.clone()), checker: self.leader.checker.next() };
        let before = std::mem::replace(&mut self.leader, next);
        let lives_on = self.random.one_in(2);
        self.former = lives_on.then_some(before);
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            if lives_on && self.random.one_in(2) {
                self.node(id).follows = Follows::Former;
                continue;
            }
            let fate = self.random.below(6);
            let node = self.node(id);
            node.alive &= fate > 0;
            node.silent = true;
            if fate > 2 && self.node(id).alive {
                self.come_back(id)?;
            }
        }
        if self.random.one_in(2) { self.submit_again().map(|_| ()) } else { Ok(()) }
    }

    /// Registers a live process anew that is not a member. Returns whether there was one.
    fn some_comes_back(&mut self) -> Result<bool, String> {
        let away: Vec<_> = self
            .nodes
            .iter()
            .filter(|(id, n)| n.alive && !self.leader.scheduler.is_member(**id))
            .map(|(&id, _)| id)
            .collect();
        let Some(id) = self.random.pick(&away) else { return Ok(false) };
        self.come_back(id)?;
        Ok(true)
    }

    fn come_back(&mut self, old: ExecutorId) -> Progress {
        let Some(mut node) = self.nodes.remove(&old) else { return Ok(()) };
        self.ids += 1;
        let id = ExecutorId(self.ids);
        self.renamed.insert(old, id);
        node.register(self.config.defect);
        let kept: BTreeSet<StageId> = node.outputs.iter().map(|output| output.stage()).collect();
        let (name, slots) = (node.name.clone(), node.slots as u32);
        // A later process of the same name was told that it is the only one.
        for twin in self.nodes.values_mut().filter(|twin| twin.name == name) {
            twin.alive = false;
        }
        self.nodes.insert(id, node);
        self.leader.checker.came_back();
        self.join_as(id, name, slots, kept.into_iter().collect())
    }

    /// Submits an orphaned job again. Returns whether there was one.
    fn submit_again(&mut self) -> Result<bool, String> {
        let Some(job) = self.orphans.pop() else { return Ok(false) };
        // The takeover is durable from here on, even if this leader dies next.
        let takeovers = self.takeovers.entry(job).or_default();
        *takeovers = takeovers.next();
        let takeovers = *takeovers;
        if self.random.one_in(6) {
            self.orphans.push(job);
            return Ok(true);
        }
        let present = |mut id: ExecutorId| {
            while let Some(&next) = self.renamed.get(&id) {
                id = next;
            }
            id
        };
        let saved = self.saved.range(job.stage(0)..=job.stage(u32::MAX));
        let stages = saved.map(|(stage, outputs)| {
            let mut outputs = outputs.clone();
            outputs.iter_mut().for_each(|output| output.location.executor = present(output.location.executor));
            FinishedStage { stage: stage.index, outputs }
        });
        let earlier = Some(Earlier { takeovers, stages: stages.collect() });
        let spec = Arc::new(JobSpec { earlier, ..JobSpec::clone(&self.specs[&job]) });
        self.step(Event::JobSubmitted(spec))?;
        Ok(true)
    }

    fn deliver_command(&mut self, id: ExecutorId) -> Progress {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.alive && !node.silent) else { return Ok(()) };
        match node.inbox.pop_front() {
            Some(Command::Launch(Launch { stage, attempts, inputs, once, .. })) => {
                node.worker.launch(stage, &attempts);
                for (partition, attempt) in attempts {
                    let attempt = stage.task(partition).attempt(attempt);
                    node.running.insert(attempt, Running { inputs: inputs.clone(), aborted: false, once });
                    if !self.launched.insert(attempt) {
                        return Err(format!("{attempt} runs a second time"));
                    }
                    let spec = self.specs.get(&stage.job).map(|spec| &spec.stages[stage.index as usize]);
                    if spec.is_some_and(|stage| stage.once.is_some()) && !self.begun_once.insert(attempt.task) {
                        return Err(format!("{} may begin only once, and begins again", attempt.task));
                    }
                }
                let is_light = self.specs.get(&stage.job).is_some_and(|spec| spec.light);
                let programs = node.running.values().filter(|running| running.once).count();
                let (taken, places) = match once {
                    true => (programs, node.slots),
                    false => (node.running.len() - programs, node.slots + usize::from(is_light)),
                };
                if taken > places {
                    return Err(format!("{id} has no free slot left for what it was told to run"));
                }
            }
            Some(Command::Cancel { attempts }) => {
                let actions = node.worker.cancel(attempts);
                node.act(id, actions);
            }
            Some(Command::DropOutputs { stages }) => {
                let actions = node.worker.drop_outputs(stages);
                node.act(id, actions);
            }
            Some(Command::AdoptOutputs { outputs, from }) => {
                node.worker.adopt(&outputs);
                node.adopting.extend(outputs.into_iter().map(|output| (output, from)));
            }
            Some(Command::Farewell) => {
                node.alive = false;
                node.outbox.push_back(Event::ExecutorGone { executor: id, reason: "farewell".to_string() });
            }
            None => {}
        }
        Ok(())
    }

    fn deliver_report(&mut self, id: ExecutorId) -> Progress {
        if self.node(id).silent {
            return Ok(());
        }
        let Some(report) = self.node(id).outbox.pop_front() else { return Ok(()) };
        self.delivered.push(report.clone());
        let whom = self.node(id).follows;
        self.tell(whom, report)
    }

    /// Exchanges messages until none is on its way.
    fn exchange_messages(&mut self) -> Progress {
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            while self.node(id).alive && !self.node(id).inbox.is_empty() {
                self.deliver_command(id)?;
            }
            while !self.node(id).outbox.is_empty() {
                self.deliver_report(id)?;
            }
        }
        Ok(())
    }

    /// Repeats a report: doubled, late, or from the wrong executor.
    fn repeat_report(&mut self) -> Progress {
        if self.random.one_in(3) {
            return self.claim_an_adoption();
        }
        let all: Vec<_> = (0..self.delivered.len()).collect();
        let Some(index) = self.random.pick(&all) else { return Ok(()) };
        let mut report = self.delivered[index].clone();
        if let Event::TaskEnded { executor, attempt, .. } = &mut report {
            match self.random.below(4) {
                0 => *executor = ExecutorId(1 + self.random.below(self.ids)),
                1 => attempt.attempt += 1,
                _ => {}
            }
            // A number that no attempt gets: the order to cancel it would meet a later attempt of that number, which no real report can bring about.
            if !self.launched.contains(attempt) {
                attempt.attempt += 1_000_000;
            }
            // Made-up reports must not end attempts that still run or have to start.
            let real = self.nodes.get(executor).is_some_and(|node| node.has_ahead(*attempt));
            if real {
                return Ok(());
            }
        }
        if let Event::OutputsMoved { executor, moved, .. } = &mut report {
            if self.random.one_in(2) {
                *executor = ExecutorId(1 + self.random.below(self.ids));
            }
            // Made-up reports must not claim outputs that are still to be fetched.
            let node = self.nodes.get(executor);
            if node.is_some_and(|node| moved.iter().any(|output| node.is_to_adopt(*output))) {
                return Ok(());
            }
        }
        self.step(report)
    }

    /// Makes an executor claim outputs that another one was told to adopt.
    fn claim_an_adoption(&mut self) -> Progress {
        let on_their_way: Vec<_> = self.nodes.values().flat_map(|node| node.adopting.keys().copied()).collect();
        let Some(output) = self.random.pick(&on_their_way) else { return Ok(()) };
        let others: Vec<_> = self.nodes.iter().filter(|(_, n)| !n.is_to_adopt(output)).map(|(&id, _)| id).collect();
        let Some(executor) = self.random.pick(&others) else { return Ok(()) };
        self.step(Event::OutputsMoved { executor, moved: vec![output], failed: vec![] })
    }

    fn end_some_attempt(&mut self, faults: bool) {
        let running: Vec<_> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.alive)
            .flat_map(|(&id, node)| node.running.keys().map(move |&attempt| (id, attempt)))
            .collect();
        let Some((id, attempt)) = self.random.pick(&running) else { return };
        let Running { inputs, aborted, .. } = self.node(id).running.remove(&attempt).expect("picked from the map");
        let outcome = match self.unreadable(attempt, &inputs) {
            // The attempt may have ended before the abort.
            _ if aborted && !self.random.one_in(4) => Outcome::Failed(TaskFailure::Cancelled),
            Some(failure) => Outcome::Failed(failure),
            None if faults && self.random.one_in(6) => Outcome::Failed(self.some_failure(attempt, &inputs)),
            None => {
                self.node(id).outputs.insert(attempt);
                let bucket_bytes = (0..3).map(|_| self.random.below(100)).collect();
                Outcome::Finished { rows: self.random.below(10), bucket_bytes }
            }
        };
        let node = self.node(id);
        let (outcome, actions) = node.worker.ended(attempt, outcome);
        node.act(id, actions);
        node.say_ended(id, attempt, outcome);
    }

    /// Makes an executor short of memory stop some of its attempts.
    fn shed_some(&mut self) {
        let Some(id) = self.some_node() else { return };
        let node = self.node(id);
        let Some((_, group)) = node.worker.going().next() else { return };
        let actions = node.worker.shed(group, |_| TaskFailure::OutOfMemory { message: "shed".to_string() });
        node.act(id, actions);
    }

    fn end_some_adoption(&mut self, faults: bool) {
        let nodes = self.nodes.iter().filter(|(_, node)| node.alive);
        let adopting =
            nodes.flat_map(|(&id, node)| node.adopting.iter().map(move |(&output, &from)| (id, output, from)));
        let adopting: Vec<_> = adopting.collect();
        let Some((id, output, from)) = self.random.pick(&adopting) else { return };
        let readable = self.nodes.get(&from).is_some_and(|n| n.alive && !n.silent && n.outputs.contains(&output));
        let succeeds = readable && !(faults && self.random.one_in(6));
        let node = self.node(id);
        node.adopting.remove(&output);
        let (moved, failed) = if succeeds {
            node.outputs.insert(output);
            (vec![output], vec![])
        } else {
            (vec![], vec![(output, "bad luck".to_string())])
        };
        let (wanted, actions) = node.worker.adopted(output);
        node.act(id, actions);
        if !wanted {
            return;
        }
        node.outbox.push_back(Event::OutputsMoved { executor: id, moved, failed });
    }

    /// Returns the failure to read the first input that is not where the order said.
    fn unreadable(&self, reader: AttemptId, inputs: &[Arc<[MapLocation]>]) -> Option<TaskFailure> {
        let mut wanted = self.read(reader, inputs);
        wanted.find_map(|(output, executor)| {
            let there = self.nodes.get(&executor).is_some_and(|n| n.alive && !n.silent && n.outputs.contains(&output));
            (!there).then(|| TaskFailure::FetchFailed { output, executor, message: "not there".to_string() })
        })
    }

    fn read(&self, reader: AttemptId, inputs: &[Arc<[MapLocation]>]) -> impl Iterator<Item = (AttemptId, ExecutorId)> {
        let spec = self.specs.get(&reader.job()).cloned();
        let stages = spec.map_or_else(Vec::new, |spec| spec.stages[reader.stage().index as usize].inputs.clone());
        let outputs: Vec<_> = stages
            .iter()
            .zip(inputs)
            .flat_map(|(input, locations)| locations.iter().map(move |l| (input.stage, l)))
            .map(|(stage, l)| (reader.job().stage(stage).task(l.partition).attempt(l.attempt), l.executor))
            .collect();
        outputs.into_iter()
    }

    fn some_failure(&mut self, reader: AttemptId, inputs: &[Arc<[MapLocation]>]) -> TaskFailure {
        let message = "bad luck".to_string();
        let reads: Vec<_> = self.read(reader, inputs).collect();
        match self.random.below(16) {
            0..3 => TaskFailure::Io { message },
            3..5 => TaskFailure::OutOfMemory { message },
            5..7 => TaskFailure::DiskFull { message },
            7 => TaskFailure::Internal { message },
            8 => TaskFailure::Cancelled,
            9 if self.random.below(2) == 0 => TaskFailure::Defect { message },
            9 => TaskFailure::UserError { message },
            10 => {
                let nonsense = JobId(self.random.below(5)).stage(self.random.below(5) as u32).task(0).attempt(0);
                TaskFailure::FetchFailed { output: nonsense, executor: ExecutorId(self.random.below(5)), message }
            }
            _ => match self.random.pick(&reads) {
                Some((output, executor)) => TaskFailure::FetchFailed { output, executor, message },
                None => TaskFailure::Io { message },
            },
        }
    }

    fn submit(&mut self) -> Progress {
        let id = JobId(self.jobs);
        self.jobs += 1;
        let mut stages: Vec<StageSpec> = Vec::new();
        let is_light = self.random.one_in(6);
        for index in 0..if is_light { 1 } else { 1 + self.random.below(4) as u32 } {
            let tasks = if is_light { 1 } else { 1 + self.random.below(5) as u32 };
            let mut inputs = Vec::new();
            for stage in 0..index {
                // Mostly chains, some joins, some stages that no other stage reads.
                if !self.random.one_in(if stage + 1 == index { 8 } else { 3 }) {
                    let producer = &mut stages[stage as usize];
                    let by_bucket = self.random.one_in(2) && (producer.buckets == 1 || producer.buckets == tasks);
                    if by_bucket {
                        producer.buckets = tasks;
                    }
                    inputs.push(StageInput { stage, read: if by_bucket { Read::Bucket } else { Read::All } });
                }
            }
            let preference = |random: &mut Random| Preference {
                hosts: (0..random.below(3)).map(|_| format!("host{}", random.below(4))).collect(),
                executors: Vec::new(),
                affinity: random.below(3),
            };
            let wishes = if self.random.one_in(3) { tasks } else { 0 };
            stages.push(StageSpec {
                plan: PlanHash(u128::from(index)),
                tasks,
                buckets: 1,
                inputs,
                preferences: (0..wishes).map(|_| preference(&mut self.random)).collect(),
                row_limit: if self.random.one_in(4) { Some(self.random.below(20)) } else { None },
                once: self
                    .random
                    .one_in(10)
                    .then(|| Once { memory_bytes: self.random.below(3) * self.random.below(20) }),
            });
        }
        let terms = Terms {
            pool: format!("pool{}", self.random.below(3)),
            user: format!("user{}", self.random.below(2)),
            priority: self.random.below(2) as i32,
            max_attempts: 1 + self.random.below(4) as u32,
            timeout: self.random.one_in(8).then(|| Duration::from_millis(self.random.below(20_000))),
            ..Terms::default()
        };
        let light = stages.len() == 1 && stages[0].tasks == 1;
        // A job without a statement is never submitted again.
        let statement = (!self.random.one_in(6)).then(|| format!("statement of {id}").into());
        let spec = Arc::new(JobSpec { id, stages, terms, light, statement, earlier: None });
        self.specs.insert(id, spec.clone());
        self.step(Event::JobSubmitted(spec))
    }
}
