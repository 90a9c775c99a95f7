//! The primary's scheduling machine: jobs, stages, tasks and the executors that run them.
//!
//! ```text
//! task      Pending ──launch──> Running(attempt, executor) ──finished──> Committed(attempt, executor)
//!              ^ ^                  │failed, executor lost                  │executor lost, fetch failed
//!              │ └──────────────────┘                                       v
//!              └───────────────────────── a reader needs it ────────────── Lost
//!           Pending, Running, Lost ──row limit reached──> Spared ──rows lost──> Pending
//!
//! stage     Waiting ──inputs finished──> Runnable ──all committed or spared──> Finished
//!              ^───────── inputs lost ───────┘  ^────────── outputs lost ─────────┘ (reopened)
//!
//! job       Queued ──first launch──> Running ──result stage finished──> Finished (keeps its result) ──> Released
//!              └──────────────────────┴──> Failed | Cancelled
//!
//! executor  Live ──> Draining ──> Leaving ──> (gone); lost from each of them
//! ```
//!
//! Invariants:
//! - A task has at most one live attempt, a straggler two (`speculation`), and at most one committed output. Reports about other attempts are fenced, once, at
//!   entry.
//! - An attempt holds its slot until its executor reports its end or is lost, even when it was cancelled. An executor runs at most one attempt more than it has
//!   slots: an attempt of a light job that was launched when the slots were full.
//! - A stage starts tasks only when every output of every input is committed on an executor that is a member.
//! - Only members of the cluster are sent commands.
//! - A report needs no walk over the tasks of its stage, over all jobs or over all executors, unless it opens or closes a stage.
//!
//! The modules: `executors` tracks executors and free slots; `jobs` holds stages and tasks; `pools` chooses the next job; `placement` chooses the task and its
//! executor; `admission`, `membership`, `leaving`, `takeover` and `reports` handle the events; `orders` collects the commands to send.

mod admission;
mod config;
mod exclusion;
mod executors;
mod jobs;
mod leaving;
mod membership;
mod orders;
mod pending;
mod placement;
mod pools;
mod reports;
#[cfg(test)]
mod simulation;
mod speculation;
mod status;
mod takeover;
mod timers;

pub use config::{PoolConfig, PoolOrder, SchedulerConfig};
pub use executors::ExecutorState;
pub use speculation::SpeculationConfig;
pub use status::{ExecutorStatus, JobStatus, StageState, StageStatus, Totals};

use crate::event::{Event, Fact, Output};
use crate::ids::{AttemptId, ExecutorId, JobId, StageId};
use crate::job::MapLocation;
use crate::time::Instant;
use exclusion::Exclusions;
use executors::{Executor, Executors};
use jobs::Job;
use leaving::Departures;
use orders::Orders;
use placement::{Placement, Question};
use pools::Pools;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use timers::{Timer, Timers};

/// The scheduling machine. Pass it events with [`Scheduler::step`], and an [`Event::Tick`] at the time of [`Scheduler::next_deadline`].
///
/// Only a tick lets deadlines pass, so a shell that was held up should hand over the waiting events before the tick: heartbeats among them save their
/// executors.
#[derive(Debug)]
pub struct Scheduler {
    config: SchedulerConfig,
    executors: Executors,
    exclusions: Exclusions,
    /// Jobs that have not ended.
    jobs: BTreeMap<JobId, Job>,
    /// Results of finished jobs that were not released: the stage and its outputs, by partition.
    retained: BTreeMap<JobId, Retained>,
    pools: Pools,
    timers: Timers,
    orders: Orders,
    departures: Departures,
    /// Tasks that start a second attempt when slots are left.
    stragglers: BTreeSet<(StageId, u32)>,
    /// Light jobs whose task waits.
    light: BTreeSet<JobId>,
    /// Jobs of which a task of a stage that runs once waits.
    programs: BTreeSet<JobId>,
    /// The job of each statement whose stages are saved; the first, when several run at the same time.
    saved_for: BTreeMap<Arc<str>, JobId>,
    /// Jobs with stages that this step has to save.
    unsaved: BTreeSet<JobId>,
    submitted: u64,
    /// Number of jobs that have not started a task.
    queued: usize,
    /// Number of jobs that have not started a task, by user; a user without any is absent.
    queued_by_user: BTreeMap<String, usize>,
}

enum ProgramPlace {
    Start { stage: u32, partition: u32, executor: ExecutorId },
    WaitFor(ExecutorId),
}

#[derive(Debug)]
struct Retained {
    stage: StageId,
    outputs: Vec<MapLocation>,
}

impl Scheduler {
    pub fn new(config: SchedulerConfig) -> Self {
        Scheduler {
            config,
            executors: Executors::default(),
            exclusions: Exclusions::default(),
            jobs: BTreeMap::new(),
            retained: BTreeMap::new(),
            pools: Pools::default(),
            timers: Timers::default(),
            orders: Orders::default(),
            departures: Departures::default(),
            stragglers: BTreeSet::new(),
            light: BTreeSet::new(),
            programs: BTreeSet::new(),
            saved_for: BTreeMap::new(),
            unsaved: BTreeSet::new(),
            submitted: 0,
            queued: 0,
            queued_by_user: BTreeMap::new(),
        }
    }

    /// Takes one event and returns its consequences. `now` must not run backward.
    pub fn step(&mut self, now: Instant, event: Event) -> Output {
        let mut output = Output::default();
        self.step_into(now, event, &mut output);
        output
    }

    /// Like [`Scheduler::step`], and appends to `output`, which then holds the outputs of several events in their order.
    pub fn step_into(&mut self, now: Instant, event: Event, output: &mut Output) {
        match event {
            Event::ExecutorJoined(spec) => self.executor_joined(now, spec, output),
            Event::Heartbeat { executor } => _ = self.hear(now, executor),
            Event::ExecutorGone { executor, reason } => self.lose_executor(now, executor, reason, output),
            Event::ExecutorDraining { executor } => self.drain_executor(now, executor),
            Event::JobSubmitted(spec) => self.submit(now, spec, output),
            Event::JobCancelled { job, reason } => self.cancel_job(job, reason, output),
            Event::JobReleased { job } => self.release_job(job),
            Event::TaskEnded { executor, attempt, outcome } => {
                if self.hear(now, executor) {
                    self.task_ended(now, executor, attempt, outcome, output);
                } else {
                    output.facts.push(Fact::ReportFenced { attempt, executor });
                }
            }
            Event::OutputsMoved { executor, moved, failed } => {
                if self.hear(now, executor) {
                    self.outputs_moved(executor, moved, failed, output);
                }
            }
            Event::Tick => self.tick(now, output),
        }
        self.dispatch(now, output);
        self.move_outputs();
        self.bid_farewell(now);
        self.save_stages(now, output);
        self.orders.send(&mut self.jobs, output);
    }

    /// Time at which the machine needs an [`Event::Tick`], if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    fn tick(&mut self, now: Instant, output: &mut Output) {
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Heartbeat(executor) => {
                    let silence = self.config.heartbeat_timeout;
                    let reason = format!("not heard from for {} s", silence.as_secs_f64());
                    self.lose_executor(now, executor, reason, output);
                }
                Timer::Drain(executor) => self.end_drain(now, executor),
                Timer::Round(executor) => self.next_round(now, executor, output),
                Timer::NoExecutors(job) => self.give_up_waiting(job, output),
                Timer::Exclusion(executor) => self.readmit(executor, output),
                Timer::TimeOut(job) => self.time_out(job, output),
                Timer::Unclaimed(executor) => self.drop_unclaimed(executor),
                Timer::Stragglers(stage) => self.look_for_stragglers(now, stage),
                Timer::Locality(stage) => {
                    let job = self.jobs.get_mut(&stage.job);
                    if let Some(stage) = job.and_then(|job| job.stages.get_mut(stage.index as usize)) {
                        stage.stuck = false;
                    }
                }
            }
        }
    }

    /// Fills free slots: chooses the next job, then its first stage that can place a task.
    fn dispatch(&mut self, now: Instant, output: &mut Output) {
        if self.executors.offer_count() > 0 {
            self.pools.begin_round();
        }
        // Slots only fill up during this loop, so a job that found no place does not find one later in the round.
        while self.executors.offer_count() > 0 {
            let Some(id) = self.pools.next() else { break };
            let Some(job) = self.jobs.get_mut(&id) else { break };
            match place(job, now, &self.config, &self.executors, &self.exclusions, &mut self.timers) {
                Some((stage, partition, executor)) => self.launch(now, id, stage, partition, executor, output),
                None => self.pools.pass(&job.pool, id),
            }
        }
        self.executors.seen_by_all();
        if !self.programs.is_empty() {
            self.start_programs(now, output);
        }
        if !self.light.is_empty() {
            self.start_light(now, output);
        }
        if !self.stragglers.is_empty() {
            self.start_copies(now, output);
        }
    }

    /// Starts tasks of stages that run once, which have places of their own, first come, first served. Where one waits for memory, the executor that has most of
    /// it starts no later one, so that memory which is freed adds up.
    fn start_programs(&mut self, now: Instant, output: &mut Output) {
        let mut kept = BTreeSet::new();
        for id in self.programs.clone() {
            if !self.executors.any_place(|executor| !kept.contains(&executor.spec.id)) {
                return;
            }
            loop {
                match self.place_of_program(now, id, &kept) {
                    Some(ProgramPlace::Start { stage, partition, executor }) => {
                        self.launch(now, id, stage, partition, executor, output);
                    }
                    Some(ProgramPlace::WaitFor(executor)) => {
                        kept.insert(executor);
                        break;
                    }
                    None => break,
                }
            }
        }
    }

    /// Finds a place for the job's next task of a stage that runs once, on an executor that is not `kept` for another job. `None`: no task waits, or no executor
    /// suits it.
    fn place_of_program(&self, now: Instant, id: JobId, kept: &BTreeSet<ExecutorId>) -> Option<ProgramPlace> {
        let job = self.jobs.get(&id)?;
        let stage = job.waiting_program()?;
        let question = self.question(now, job, stage);
        let partition = question.stage.pending.iter().next()?;
        let suits = |executor: &Executor| !kept.contains(&executor.spec.id) && question.suits(partition, executor);
        match self.executors.most_places(job.once(stage)?, suits) {
            Some(executor) => Some(ProgramPlace::Start { stage, partition, executor: executor.spec.id }),
            None => self.executors.most_memory(suits).map(|executor| ProgramPlace::WaitFor(executor.spec.id)),
        }
    }

    fn question<'a>(&'a self, now: Instant, job: &'a Job, stage: u32) -> Question<'a> {
        Question {
            now,
            locality_wait: self.config.locality_wait,
            spec: &job.spec.stages[stage as usize],
            stage: &job.stages[stage as usize],
            executors: &self.executors,
            exclusions: &self.exclusions,
        }
    }

    /// Starts tasks of light jobs beside full slots, first come, first served.
    fn start_light(&mut self, now: Instant, output: &mut Output) {
        let waiting: Vec<_> = self.light.iter().copied().collect();
        for id in waiting {
            if self.executors.full().next().is_none() {
                return;
            }
            let Some(job) = self.jobs.get(&id) else { continue };
            if let Some((partition, executor)) = self.question(now, job, 0).beside() {
                let attempt = self.start(now, id, 0, partition, executor, output);
                attempt.into_iter().for_each(|attempt| self.orders.launch_beside(executor, attempt));
            }
        }
    }

    fn launch(
        &mut self,
        now: Instant,
        id: JobId,
        stage: u32,
        partition: u32,
        executor: ExecutorId,
        output: &mut Output,
    ) {
        let attempt = self.start(now, id, stage, partition, executor, output);
        attempt.into_iter().for_each(|attempt| self.orders.launch(executor, attempt));
    }

    fn start(
        &mut self,
        now: Instant,
        id: JobId,
        stage: u32,
        partition: u32,
        executor: ExecutorId,
        output: &mut Output,
    ) -> Option<AttemptId> {
        let job = self.jobs.get_mut(&id)?;
        if !job.started {
            job.started = true;
            self.queued -= 1;
            leave_queue(&mut self.queued_by_user, &job.spec.terms.user);
            output.facts.push(Fact::JobStarted { job: job.id() });
        }
        let attempt = job.launch(stage, partition, executor, now);
        let s = &mut job.stages[stage as usize];
        if !s.started {
            s.started = true;
            output.facts.push(Fact::StageStarted { stage: s.id });
        }
        let once = job.once(stage);
        #[cfg(test)]
        let once = match self.config.defect {
            Some(simulation::Defect::ForgetMemory) => once.map(|_| crate::job::Once { memory_bytes: 1 }),
            _ => once,
        };
        self.executors.launch(executor, attempt, once);
        self.pools.started(&job.pool, id);
        if job.runnable.is_empty() {
            self.light.remove(&id);
        }
        if !job.wants_slots() {
            self.pools.set_hungry(&job.pool, id, false);
        }
        if job.waiting_program().is_none() {
            self.programs.remove(&id);
        }
        output.facts.push(Fact::TaskStarted { attempt, executor });
        Some(attempt)
    }

    /// Lets the job take part in dispatch while it has tasks that could start.
    fn sync_hunger(&mut self, job: JobId) {
        if let Some(job) = self.jobs.get(&job) {
            self.pools.set_hungry(&job.pool, job.id(), job.wants_slots());
            if job.waiting_program().is_some() {
                self.programs.insert(job.id());
            } else {
                self.programs.remove(&job.id());
            }
            if job.may_run_beside() {
                self.light.insert(job.id());
            } else {
                self.light.remove(&job.id());
            }
        }
    }
}

/// Uncounts a job of the user that does not wait for its first task any more.
fn leave_queue(queued: &mut BTreeMap<String, usize>, user: &str) {
    if let Some(count) = queued.get_mut(user) {
        *count -= 1;
        if *count == 0 {
            queued.remove(user);
        }
    }
}

/// Chooses the next task of the job and its executor. A stage that finds no place is not asked about the same offers again.
fn place(
    job: &mut Job,
    now: Instant,
    config: &SchedulerConfig,
    executors: &Executors,
    exclusions: &Exclusions,
    timers: &mut Timers,
) -> Option<(u32, u32, ExecutorId)> {
    for &index in &job.runnable {
        if job.is_once(index) {
            continue;
        }
        let stage = &job.stages[index as usize];
        let question = Question {
            now,
            locality_wait: config.locality_wait,
            spec: &job.spec.stages[index as usize],
            stage,
            executors,
            exclusions,
        };
        let placement = question.solve();
        let stage = &mut job.stages[index as usize];
        match placement {
            Placement::Start { partition, executor } => return Some((index, partition, executor)),
            Placement::HoldOut { until } => {
                if stage.holding_out.is_none() {
                    stage.holding_out = Some(now);
                    timers.set(until, Timer::Locality(stage.id));
                }
            }
            Placement::Nowhere => {}
        }
        stage.stuck = true;
    }
    None
}
