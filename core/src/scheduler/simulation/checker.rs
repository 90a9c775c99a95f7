//! The invariants, judged from events and outputs alone.

use crate::event::{Command, Event, Fact, JobError, Launch, Outcome, Output, Persist, Reply};
use crate::failure::TaskFailure;
use crate::ids::{AttemptId, ExecutorId, JobId, StageId, TaskId};
use crate::job::{JobSpec, MapLocation, Once};
use crate::simulation::{Verdict, check};
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Checker {
    members: BTreeMap<ExecutorId, Member>,
    jobs: BTreeMap<JobId, JobModel>,
    attempts: BTreeMap<AttemptId, (ExecutorId, Life)>,
    live: BTreeMap<TaskId, AttemptId>,
    /// Attempts announced as copies, until they start.
    speculated: BTreeSet<AttemptId>,
    /// Second attempts of stragglers.
    copies: BTreeMap<TaskId, AttemptId>,
    committed: BTreeMap<TaskId, Committed>,
    /// Outputs on their way, each with its source and its destination.
    moving: BTreeMap<AttemptId, (ExecutorId, ExecutorId)>,
    /// Inputs that each live attempt was told to read, with their executors.
    reading: BTreeMap<AttemptId, BTreeSet<(AttemptId, ExecutorId)>>,
    /// Outputs that were moved, each with its former executor.
    moved: BTreeSet<(AttemptId, ExecutorId)>,
    /// Rows of every output that was ever committed.
    wrote: BTreeMap<AttemptId, u64>,
    /// Stages that were saved in the store.
    saved: BTreeSet<StageId>,
    /// How often each situation occurred.
    pub seen: BTreeMap<&'static str, u64>,
}

struct Member {
    slots: usize,
    /// Bytes of memory, and bytes of one program.
    memory: [u64; 2],
    /// Attempts that were launched and whose end was not reported.
    holding: BTreeSet<AttemptId>,
    draining_since: Option<Instant>,
}

struct JobModel {
    spec: Arc<JobSpec>,
    submitted: Instant,
    state: JobState,
}

#[derive(Clone, Copy, PartialEq)]
enum JobState {
    Running,
    Finished,
    Gone,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Life {
    Live,
    Cancelled,
    Ended,
}

#[derive(Clone, Copy)]
struct Committed {
    attempt: u32,
    executor: ExecutorId,
    rows: u64,
}

impl Member {
    /// Bytes that a program may hold.
    fn part(&self, once: Once) -> u64 {
        match once.memory_bytes {
            0 => self.memory[1],
            declared => declared.min(self.memory[1]),
        }
    }
}

impl Checker {
    pub fn observe(&mut self, now: Instant, event: &Event, output: &Output) -> Verdict {
        self.event(now, event);
        let reopened = output.facts.iter().any(|fact| matches!(fact, Fact::StageReopened { .. }));
        if reopened && matches!(event, Event::JobSubmitted(_)) {
            self.see("reopened at takeover");
        }
        output.facts.iter().try_for_each(|fact| self.fact(fact))?;
        output.persist.iter().try_for_each(|persist| self.persist(now, persist))?;
        output.reply.iter().try_for_each(|reply| self.reply(reply))?;
        for (executor, command) in &output.send {
            check(self.members.contains_key(executor), || format!("{command:?} for {executor}, which is no member"))?;
            self.command(now, *executor, command)?;
        }
        let runs_on = self.live.values().find(|attempt| self.jobs[&attempt.job()].state != JobState::Running);
        check(runs_on.is_none(), || format!("{runs_on:?} still runs, and its job has ended"))?;
        let in_vain = self.live.values().chain(self.copies.values()).find(|at| self.committed.contains_key(&at.task));
        check(in_vain.is_none(), || format!("{in_vain:?} still runs, and its output is there"))
    }

    /// Returns the checker for the next leader, which knows only what it is told.
    pub fn next(&mut self) -> Checker {
        let mut seen = std::mem::take(&mut self.seen);
        *seen.entry("leader changed").or_default() += 1;
        let gone =
            |job: &JobModel| JobModel { spec: job.spec.clone(), submitted: job.submitted, state: JobState::Gone };
        Checker {
            jobs: self.jobs.iter().map(|(&id, job)| (id, gone(job))).collect(),
            attempts: self.attempts.iter().map(|(&attempt, &(at, _))| (attempt, (at, Life::Ended))).collect(),
            wrote: self.wrote.clone(),
            seen,
            ..Checker::default()
        }
    }

    /// Takes over the counts of a former leader's checker.
    pub fn learn(&mut self, former: Checker) {
        self.see("two leaders");
        let ended = ["job finished", "job failed", "timed out"].iter().filter_map(|what| former.seen.get(what));
        *self.seen.entry("ended in vain").or_default() += ended.sum::<u64>();
        for (what, times) in former.seen {
            *self.seen.entry(what).or_default() += times;
        }
    }

    pub fn came_back(&mut self) {
        self.see("executor came back");
    }

    fn see(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub fn running_jobs(&self) -> Vec<JobId> {
        self.jobs.iter().filter(|(_, job)| job.state == JobState::Running).map(|(&id, _)| id).collect()
    }

    pub fn finished_jobs(&self) -> Vec<JobId> {
        self.jobs.iter().filter(|(_, job)| job.state == JobState::Finished).map(|(&id, _)| id).collect()
    }

    fn event(&mut self, now: Instant, event: &Event) {
        match event {
            Event::ExecutorJoined(spec) => {
                let member = Member {
                    slots: spec.slots as usize,
                    memory: [spec.memory_bytes, spec.program_memory_bytes],
                    holding: BTreeSet::new(),
                    draining_since: None,
                };
                self.members.entry(spec.id).or_insert(member);
            }
            Event::ExecutorDraining { executor } => {
                if let Some(member) = self.members.get_mut(executor) {
                    member.draining_since.get_or_insert(now);
                }
            }
            Event::JobSubmitted(spec) => {
                self.jobs.insert(spec.id, JobModel { spec: spec.clone(), submitted: now, state: JobState::Running });
            }
            Event::JobReleased { job } | Event::JobCancelled { job, .. } => {
                if let Some(model) = self.jobs.get_mut(job).filter(|model| model.state == JobState::Finished) {
                    model.state = JobState::Gone;
                    self.forget_outputs(*job, |_| true);
                }
            }
            Event::OutputsMoved { executor, failed, .. } => {
                for (output, _) in failed {
                    if self.moving.get(output).is_some_and(|(_, to)| to == executor) {
                        self.see("output not moved");
                        self.moving.remove(output);
                    }
                }
            }
            Event::TaskEnded { executor, attempt, outcome: Outcome::Failed(failure) } => {
                let TaskFailure::FetchFailed { output, executor: holder, .. } = failure else { return };
                let at = self.committed.get(&output.task).map(|c| (c.attempt, c.executor));
                let heard = self.attempts.get(attempt) == Some(&(*executor, Life::Live));
                let is_input = self.reads(attempt.stage(), output.stage());
                if heard && is_input && self.members.contains_key(executor) && at == Some((output.attempt, *holder)) {
                    self.see("fetch failed");
                    self.committed.remove(&output.task);
                }
            }
            _ => {}
        }
    }

    fn fact(&mut self, fact: &Fact) -> Verdict {
        match fact {
            Fact::ExecutorExcluded { executor, .. } => {
                check(self.members.contains_key(executor), || format!("{executor} is excluded and not there"))?;
                self.see("excluded");
            }
            Fact::ExecutorLost { executor, .. } => {
                if self.moving.values().any(|(_, to)| to == executor) {
                    self.see("lost while adopting");
                }
                self.moving.retain(|_, (from, to)| from != executor && to != executor);
                let held = self.committed.values().filter(|c| c.executor == *executor).count();
                self.committed.retain(|_, c| c.executor != *executor);
                let member = self.members.remove(executor);
                check(member.is_some(), || format!("{executor} was lost twice"))?;
                if held > 0 {
                    self.see("lost with outputs");
                }
            }
            Fact::TaskSpeculated { attempt, .. } => {
                self.see("speculated");
                self.speculated.insert(*attempt);
            }
            Fact::TaskCommitted { attempt, executor, rows, .. } => {
                if self.copies.get(&attempt.task) == Some(attempt) {
                    self.see("copy committed");
                }
                let life = self.attempts.get(attempt).copied();
                check(life == Some((*executor, Life::Live)), || {
                    format!("committed {attempt}, which is not live: {life:?}")
                })?;
                self.ended(*attempt, *executor)?;
                self.see("commit");
                self.wrote.insert(*attempt, *rows);
                let output = Committed { attempt: attempt.attempt, executor: *executor, rows: *rows };
                let before = self.committed.insert(attempt.task, output);
                check(before.is_none(), || format!("{} was committed twice", attempt.task))?;
            }
            Fact::OutputTakenOver { output, executor, rows, .. } => {
                self.see("taken over");
                check(self.members.contains_key(executor), || {
                    format!("{output} is on {executor}, which is no member")
                })?;
                let wrote = self.wrote.get(output).copied();
                check(wrote == Some(*rows), || format!("{output} is taken over with {rows} rows, it has {wrote:?}"))?;
                let taken = Committed { attempt: output.attempt, executor: *executor, rows: *rows };
                let before = self.committed.insert(output.task, taken);
                check(before.is_none(), || format!("{} is taken over, and was there", output.task))?;
            }
            Fact::OutputMoved { output, from, to } => {
                let asked = self.moving.remove(output);
                check(asked == Some((*from, *to)), || {
                    format!("{to} was not to adopt {output} from {from}: {asked:?}")
                })?;
                let Some(committed) = self.committed.get_mut(&output.task) else {
                    return Err(format!("moved {output}, which is not there"));
                };
                let was = (committed.attempt, committed.executor);
                check(was == (output.attempt, *from), || format!("moved {output} from {from}, and it is {was:?}"))?;
                committed.executor = *to;
                self.moved.insert((*output, *from));
                let finished = self.jobs[&output.job()].state == JobState::Finished;
                self.see(if finished { "result moved" } else { "output moved" });
            }
            Fact::TaskFailed { attempt, executor, failure } => {
                if matches!(failure, TaskFailure::ExecutorLost { executor: e } if e == executor) {
                    self.see("lost with attempts");
                }
                self.ended(*attempt, *executor)?;
            }
            Fact::ReportFenced { attempt, executor } => {
                self.see("report fenced");
                if let Some(&(owner, life)) = self.attempts.get(attempt)
                    && owner == *executor
                    && life != Life::Ended
                {
                    check(life == Life::Cancelled, || format!("fenced {attempt}, which is live"))?;
                    self.see("cancelled attempt finished");
                    self.ended(*attempt, *executor)?;
                }
            }
            Fact::StageReopened { stage, partitions } => {
                self.see("reopened");
                for &partition in partitions {
                    let there = self.committed.contains_key(&stage.task(partition));
                    check(!there, || format!("reopened {}, whose output is there", stage.task(partition)))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn persist(&mut self, now: Instant, persist: &Persist) -> Verdict {
        let (statement, id) = match persist {
            Persist::Stage { statement, stage } => (statement, stage.job),
            Persist::Forget { statement, job } => (statement, *job),
        };
        let job = self.jobs.get(&id).ok_or_else(|| format!("{persist:?} of a job that nobody submitted"))?;
        check(job.spec.statement.as_ref() == Some(statement), || format!("{persist:?} under another's name"))?;
        let Persist::Stage { stage, .. } = persist else { return Ok(()) };
        let age = now.since(job.submitted);
        check(age >= std::time::Duration::from_secs(1), || format!("{stage} is saved, and its job is {age:?} old"))?;
        check(self.is_complete(*stage), || format!("{stage} is saved, and is not complete"))?;
        check((stage.index as usize) + 1 < job.spec.stages.len(), || format!("{stage} is saved, and is a result"))?;
        let before = self.saved.insert(*stage);
        self.see(if before { "saved" } else { "saved again" });
        Ok(())
    }

    fn ended(&mut self, attempt: AttemptId, executor: ExecutorId) -> Verdict {
        let Some((owner, life)) = self.attempts.get_mut(&attempt) else { return Err(format!("{attempt} never began")) };
        check(*owner == executor && *life != Life::Ended, || format!("{attempt} ended twice or elsewhere"))?;
        if std::mem::replace(life, Life::Ended) == Life::Live {
            self.not_live(attempt);
        }
        if let Some(member) = self.members.get_mut(&executor) {
            member.holding.remove(&attempt);
        }
        Ok(())
    }

    fn not_live(&mut self, attempt: AttemptId) {
        self.reading.remove(&attempt);
        let copy = self.copies.remove(&attempt.task);
        if copy != Some(attempt) {
            self.live.remove(&attempt.task);
            self.live.extend(copy.map(|copy| (attempt.task, copy)));
        }
    }

    fn command(&mut self, now: Instant, executor: ExecutorId, command: &Command) -> Verdict {
        match command {
            Command::Launch(launch) => self.launch(executor, launch),
            Command::Cancel { attempts } => attempts.iter().try_for_each(|&attempt| self.cancel(executor, attempt)),
            Command::DropOutputs { stages } => stages.iter().try_for_each(|&stage| self.drop_outputs(executor, stage)),
            Command::AdoptOutputs { outputs, from } => {
                outputs.iter().try_for_each(|&output| self.adopt(executor, *from, output))
            }
            Command::Farewell => {
                self.see("farewell");
                let member = &self.members[&executor];
                let Some(since) = member.draining_since else { return Err(format!("farewell to {executor}")) };
                let patient = now.since(since) < std::time::Duration::from_secs(60);
                let needed = !member.holding.is_empty() || self.holds_needed(executor);
                check(!(patient && needed), || format!("farewell to {executor}, which is needed"))?;
                let left =
                    |&(output, at): &(AttemptId, ExecutorId)| at == executor && self.moved.contains(&(output, at));
                let reader = self.reading.iter().find(|(_, inputs)| inputs.iter().any(left));
                check(!patient || reader.is_none(), || format!("farewell to {executor}, which {reader:?} reads"))
            }
        }
    }

    fn launch(&mut self, executor: ExecutorId, launch: &Launch) -> Verdict {
        let stage = launch.stage;
        let job = &self.jobs[&stage.job];
        check(job.state == JobState::Running, || format!("launch of {stage}, whose job has ended"))?;
        let spec = job.spec.stages[stage.index as usize].clone();
        check(launch.inputs.len() == spec.inputs.len(), || format!("{} inputs for {stage}", launch.inputs.len()))?;
        for (input, locations) in spec.inputs.iter().zip(launch.inputs.iter()) {
            let producer = stage.job.stage(input.stage);
            let outputs = self.outputs(producer);
            check(self.is_complete(producer), || format!("inputs of {stage} from {producer} are not complete"))?;
            check(outputs == **locations, || {
                format!("inputs of {stage} are {locations:?}, and there are {outputs:?}")
            })?;
            let members = locations.iter().all(|l| self.members.contains_key(&l.executor));
            check(members, || format!("inputs of {stage} on lost executors: {locations:?}"))?;
        }
        let inputs = spec.inputs.iter().zip(launch.inputs.iter()).flat_map(|(input, locations)| {
            let stage = stage.job.stage(input.stage);
            locations.iter().map(move |l| (stage.task(l.partition).attempt(l.attempt), l.executor))
        });
        let inputs: BTreeSet<_> = inputs.collect();
        for &(partition, number) in &launch.attempts {
            let task = stage.task(partition);
            let attempt = task.attempt(number);
            check(partition < spec.tasks, || format!("{task} does not exist"))?;
            check(!self.committed.contains_key(&task), || format!("{attempt} of a committed task"))?;
            if self.speculated.remove(&attempt) {
                let first = self.live.get(&task).copied();
                let elsewhere = first.is_some_and(|first| self.attempts[&first].0 != executor);
                check(elsewhere, || format!("{attempt} is a copy on {executor} of {first:?}"))?;
                let twice = self.copies.insert(task, attempt);
                check(twice.is_none(), || format!("{attempt} is a second copy"))?;
            } else {
                let twin = self.live.insert(task, attempt);
                check(twin.is_none(), || format!("{attempt} beside {twin:?}"))?;
            }
            let old = self.attempts.insert(attempt, (executor, Life::Live));
            check(old.is_none(), || format!("{attempt} was launched twice"))?;
            let member = self.members.get_mut(&executor).ok_or("no member")?;
            let once = |of: &AttemptId| self.jobs[&of.job()].spec.stages[of.stage().index as usize].once;
            let of_programs: Vec<u64> = member.holding.iter().filter_map(once).map(|once| member.part(once)).collect();
            let programs = of_programs.len();
            if let Some(once) = spec.once {
                check(programs < member.slots, || {
                    format!("{attempt} on {executor}, which has no place for a program")
                })?;
                let promised = of_programs.iter().sum::<u64>() + member.part(once);
                check(promised <= member.memory[0], || {
                    format!("{attempt} on {executor}, whose programs may then hold more memory than it has")
                })?;
                if programs + 1 < member.slots && promised + member.part(Once::default()) > member.memory[0] {
                    *self.seen.entry("memory full before places").or_default() += 1;
                }
                if member.holding.len() - programs >= member.slots {
                    *self.seen.entry("program beside full slots").or_default() += 1;
                }
            } else {
                let (taken, light) = (member.holding.len() - programs, self.jobs[&attempt.job()].spec.light);
                let places = member.slots + usize::from(light);
                check(taken < places, || format!("{attempt} on {executor}, which has no free slot"))?;
                if taken == member.slots {
                    *self.seen.entry("beside full slots").or_default() += 1;
                }
            }
            check(member.draining_since.is_none(), || format!("{attempt} on {executor}, which drains"))?;
            member.holding.insert(attempt);
            self.reading.insert(attempt, inputs.clone());
        }
        Ok(())
    }

    fn adopt(&mut self, to: ExecutorId, from: ExecutorId, output: AttemptId) -> Verdict {
        let draining = |id| self.members.get(&id).is_some_and(|member: &Member| member.draining_since.is_some());
        check(draining(from), || format!("{output} is to move from {from}, which does not drain"))?;
        check(!draining(to), || format!("{output} is to move to {to}, which drains"))?;
        let at = self.committed.get(&output.task).map(|c| (c.attempt, c.executor));
        check(at == Some((output.attempt, from)), || format!("{output} is to move from {from}, and it is {at:?}"))?;
        let twice = self.moving.insert(output, (from, to));
        check(twice.is_none(), || format!("{output} is to move to {to}, and is on its way: {twice:?}"))
    }

    fn cancel(&mut self, executor: ExecutorId, attempt: AttemptId) -> Verdict {
        let at = self.committed.get(&attempt.task).map(|c| (c.attempt, c.executor));
        check(at != Some((attempt.attempt, executor)), || format!("cancel removes {attempt}, which is needed"))?;
        if let Some((owner, life)) = self.attempts.get_mut(&attempt)
            && *owner == executor
            && *life == Life::Live
        {
            *life = Life::Cancelled;
            self.not_live(attempt);
            if self.jobs[&attempt.job()].state == JobState::Running {
                let (stopped, limited) = (at.is_some(), self.is_complete(attempt.stage()));
                self.see(if stopped {
                    "copy stopped"
                } else if limited {
                    "row limit"
                } else {
                    "handed back"
                });
            }
        }
        Ok(())
    }

    fn drop_outputs(&mut self, executor: ExecutorId, stage: StageId) -> Verdict {
        let job = &self.jobs[&stage.job];
        let is_result = stage.index as usize + 1 == job.spec.stages.len();
        if is_result && job.state == JobState::Finished {
            let holds = self.committed.iter().any(|(task, c)| task.stage == stage && c.executor == executor);
            return check(!holds, || format!("drop of {stage}, whose result is needed"));
        }
        Ok(())
    }

    fn reply(&mut self, reply: &Reply) -> Verdict {
        let (&job, finished) = match reply {
            Reply::JobFinished { job, .. } => (job, true),
            Reply::JobFailed { job, .. } => (job, false),
        };
        let Some(model) = self.jobs.get(&job) else {
            return Err(format!("a reply about {job}, which nobody submitted"));
        };
        check(model.state == JobState::Running, || format!("{job} ended twice"))?;
        let result = job.stage(model.spec.stages.len() as u32 - 1);
        if let Reply::JobFinished { outputs, .. } = reply {
            check(self.is_complete(result), || format!("{job} finished without its result"))?;
            check(self.outputs(result) == *outputs, || format!("the result of {job} is not where {outputs:?} says"))?;
        }
        self.see(match reply {
            Reply::JobFinished { .. } => "job finished",
            Reply::JobFailed { error: JobError::TimedOut { .. }, .. } => "timed out",
            Reply::JobFailed { .. } => "job failed",
        });
        self.forget_outputs(job, |stage| !finished || stage != result);
        let state = if finished { JobState::Finished } else { JobState::Gone };
        self.jobs.entry(job).and_modify(|model| model.state = state);
        Ok(())
    }

    fn forget_outputs(&mut self, job: JobId, which: impl Fn(StageId) -> bool) {
        self.committed.retain(|task, _| task.stage.job != job || !which(task.stage));
        self.moving.retain(|output, _| output.job() != job || !which(output.stage()));
    }

    /// Locations of the committed outputs of a stage.
    pub fn outputs(&self, stage: StageId) -> Vec<MapLocation> {
        let outputs = self.committed.range(stage.task(0)..=stage.task(u32::MAX));
        let location = |(task, c): (&TaskId, &Committed)| MapLocation {
            partition: task.partition,
            attempt: c.attempt,
            executor: c.executor,
        };
        outputs.map(location).collect()
    }

    fn reads(&self, reader: StageId, producer: StageId) -> bool {
        let Some(stage) = self.jobs.get(&reader.job).and_then(|job| job.spec.stages.get(reader.index as usize)) else {
            return false;
        };
        reader.job == producer.job && stage.inputs.iter().any(|input| input.stage == producer.index)
    }

    fn is_complete(&self, stage: StageId) -> bool {
        let spec = &self.jobs[&stage.job].spec.stages[stage.index as usize];
        let outputs = self.committed.range(stage.task(0)..=stage.task(u32::MAX));
        let rows: u64 = outputs.clone().map(|(_, c)| c.rows).sum();
        outputs.count() == spec.tasks as usize || spec.row_limit.is_some_and(|limit| rows >= limit)
    }

    /// Whether the executor holds a result that was not released, or an output whose reader is not complete.
    fn holds_needed(&self, executor: ExecutorId) -> bool {
        let held = self.committed.iter().filter(|(_, c)| c.executor == executor);
        let mut stages = held.map(|(task, _)| task.stage);
        stages.any(|stage| {
            let job = &self.jobs[&stage.job];
            let is_result = stage.index as usize + 1 == job.spec.stages.len();
            let readers = (0..job.spec.stages.len() as u32).map(|r| stage.job.stage(r));
            let mut works = readers.filter(|&reader| self.reads(reader, stage));
            is_result || works.any(|reader| self.live.keys().any(|task| task.stage == reader))
        })
    }

    /// Checks that nothing is left after the last fault and the last job.
    pub fn at_rest(&self) -> Verdict {
        let running = self.running_jobs();
        check(running.is_empty(), || format!("{running:?} did not end"))?;
        for (id, member) in &self.members {
            check(member.holding.is_empty(), || format!("{id} never reported {:?}", member.holding))?;
        }
        Ok(())
    }
}
