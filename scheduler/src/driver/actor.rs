//! The task that owns the scheduling machine.

use super::directory::{Directory, ExecutorEntry, Standing};
use super::plans::Plans;
use super::{DriverConfig, Ended, JobOutcome, Release, ResultPart};
use crate::driver::history::{History, JobInfo, JobRecord, Measured, Moment};
use crate::driver::saved::{BegunStage, SavedJobs};
use crate::files::Files;
use bytes::Bytes;
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use windlass_core::elastic::Load;
use windlass_core::event::{Command, Event, Fact, JobError, Launch, Persist, Reply};
use windlass_core::ids::{AttemptId, ExecutorId, JobId, PlanHash};
use windlass_core::job::{JobSpec, MapLocation};
use windlass_core::scheduler::{ExecutorState, Scheduler};
use windlass_core::time::Instant;
use windlass_engine::{ClusterShape, Handover, OperatorMetrics, PlannedJob};
use windlass_proto::convert::{self, TaskReport};
use windlass_proto::pass::ClusterKey;
use windlass_proto::v1::executor_message::Message as FromExecutor;
use windlass_proto::v1::primary_message::Message as ToExecutor;
use windlass_proto::{MAX_MESSAGE_BYTES, v1};

/// Events that are stepped before orders go out.
const BATCH: usize = 1_024;
const STOPPING: &str = "the primary is stopping";

pub(super) enum Message {
    Attach {
        id: ExecutorId,
        register: Box<v1::Register>,
        orders: mpsc::Sender<v1::PrimaryMessage>,
        ended: Ended,
        reply: oneshot::Sender<Result<(), String>>,
    },
    Heard {
        executor: ExecutorId,
        message: FromExecutor,
    },
    Submit(Box<Submission>),
    Cancel {
        job: JobId,
        reason: String,
        done: oneshot::Sender<()>,
    },
    Drain {
        executor: ExecutorId,
    },
    /// An order that is not the machine's.
    Tell {
        executor: ExecutorId,
        message: ToExecutor,
    },
    /// Answered when no attempt of the job runs any more.
    Quiet {
        job: JobId,
        done: oneshot::Sender<()>,
    },
    Executors {
        reply: oneshot::Sender<Vec<ExecutorEntry>>,
    },
    Load {
        reply: oneshot::Sender<Load>,
    },
}

pub(super) struct Submission {
    pub spec: Arc<JobSpec>,
    pub plan: PlannedJob,
    pub info: Arc<JobInfo>,
    pub reply: oneshot::Sender<Result<JobOutcome, JobError>>,
    /// The handle was dropped.
    pub abandoned: Arc<AtomicBool>,
}

/// What was said by dropping something.
#[derive(Debug)]
pub(super) enum Dropped {
    Handle(JobId),
    Result(JobId),
    Attachment(ExecutorId, String),
}

pub(super) struct Actor {
    scheduler: Scheduler,
    jobs: BTreeMap<JobId, Job>,
    links: BTreeMap<ExecutorId, Link>,
    plans: Plans,
    history: Arc<History>,
    directory: Arc<Directory>,
    dropped: mpsc::UnboundedSender<Dropped>,
    heartbeat: Duration,
    key: Option<ClusterKey>,
    origin: std::time::Instant,
    /// What the steps of this batch ask for.
    batch: Batch,
    saved: Option<Arc<SavedJobs>>,
    files: Option<Files>,
    handover: Arc<OnceLock<Handover>>,
    /// Jobs that run longer than this are recorded for the next leader.
    record_after: Duration,
    /// Who waits until a job's attempts have ended.
    quiet: Vec<(JobId, oneshot::Sender<()>)>,
}

/// A job that has not ended.
struct Job {
    spec: Arc<JobSpec>,
    /// What the tasks of the result stage left, by partition.
    parts: BTreeMap<u32, Part>,
    reply: oneshot::Sender<Result<JobOutcome, JobError>>,
    submitted: Instant,
    /// Somebody who does not wait may ask for it.
    of_submission: bool,
    shape: ClusterShape,
    /// Of each stage, when its finished stages are saved.
    lineages: Vec<PlanHash>,
}

impl Job {
    /// Whether later leaders are to list it: not every little query is worth a write to the store.
    fn is_recorded(&self, now: Moment, after: Duration) -> bool {
        self.of_submission || now.at.since(self.submitted) >= after
    }
}

struct Part {
    attempt: u32,
    rows: u64,
    bytes: u64,
    inline: Option<Bytes>,
    staged: Option<Bytes>,
}

/// The way to one executor.
struct Link {
    orders: mpsc::Sender<v1::PrimaryMessage>,
    ended: Ended,
}

#[derive(Default)]
struct Batch {
    send: BTreeMap<ExecutorId, Vec<Command>>,
    drop_plans: BTreeMap<ExecutorId, Vec<Bytes>>,
    reply: Vec<Reply>,
    cancelled: Vec<oneshot::Sender<()>>,
    persist: Vec<Persist>,
    changed: bool,
}

impl Actor {
    pub fn new(
        config: &DriverConfig,
        history: Arc<History>,
        directory: Arc<Directory>,
        saved: Option<Arc<SavedJobs>>,
        files: Option<Files>,
        handover: Arc<OnceLock<Handover>>,
        dropped: mpsc::UnboundedSender<Dropped>,
    ) -> Self {
        Actor {
            scheduler: Scheduler::new(config.scheduler.clone()),
            jobs: BTreeMap::new(),
            links: BTreeMap::new(),
            plans: Plans::new(config.idle_plan_bytes),
            history,
            directory,
            dropped,
            heartbeat: config.heartbeat,
            key: config.key,
            origin: std::time::Instant::now(),
            batch: Batch::default(),
            saved,
            files,
            handover,
            record_after: config.scheduler.save_stages_after,
            quiet: Vec::new(),
        }
    }

    pub async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Message>,
        mut drops: mpsc::UnboundedReceiver<Dropped>,
        stop: CancellationToken,
    ) {
        let mut messages = Vec::with_capacity(BATCH);
        let mut gone = Vec::new();
        loop {
            let deadline = self.scheduler.next_deadline().map(|at| self.origin + Duration::from_micros(at.0));
            let due = tokio::time::sleep_until(deadline.unwrap_or(self.origin).into());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                n = inbox.recv_many(&mut messages, BATCH) => if n == 0 { break },
                n = drops.recv_many(&mut gone, BATCH) => if n == 0 { break },
                () = due, if deadline.is_some() => {}
            }
            while gone.len() < BATCH
                && let Ok(drop) = drops.try_recv()
            {
                gone.push(drop);
            }
            let now = self.now();
            let caught_up = messages.len() < BATCH;
            messages.drain(..).for_each(|message| self.on_message(now, message));
            gone.drain(..).for_each(|drop| self.on_drop(now, drop));
            // What waits comes first: a heartbeat among it saves its executor from the deadline.
            if caught_up && self.scheduler.next_deadline().is_some_and(|at| at <= now.at) {
                self.step(now, Event::Tick, None);
            }
            self.flush(now);
            let scheduler = &self.scheduler;
            for (_, done) in self.quiet.extract_if(.., |(job, _)| !scheduler.holds_slots(*job)) {
                let _ = done.send(());
            }
        }
        self.stop();
    }

    fn now(&self) -> Moment {
        Moment::new(Instant(self.origin.elapsed().as_micros() as u64))
    }

    // ---- events in

    fn on_message(&mut self, now: Moment, message: Message) {
        match message {
            Message::Attach { id, register, orders, ended, reply } => {
                let attached = self.attach(now, id, *register, orders, ended);
                let _ = reply.send(attached);
            }
            Message::Heard { executor, message } => self.on_heard(now, executor, message),
            Message::Submit(submission) => self.on_submit(now, *submission),
            Message::Cancel { job, reason, done } => {
                self.step(now, Event::JobCancelled { job, reason }, None);
                self.batch.cancelled.push(done);
            }
            Message::Tell { executor, message } => self.order(now, executor, message),
            Message::Drain { executor } => self.step(now, Event::ExecutorDraining { executor }, None),
            Message::Quiet { job, done } => self.quiet.push((job, done)),
            Message::Executors { reply } => {
                let _ = reply.send(self.executors());
            }
            Message::Load { reply } => _ = reply.send(self.scheduler.load()),
        }
    }

    fn attach(
        &mut self,
        now: Moment,
        id: ExecutorId,
        register: v1::Register,
        orders: mpsc::Sender<v1::PrimaryMessage>,
        ended: Ended,
    ) -> Result<(), String> {
        let spec = convert::executor_spec(id, &register).map_err(|error| error.to_string())?;
        let cluster = self.files.as_ref().map(Files::cluster).unwrap_or_default();
        let key = self.key.map(|key| Bytes::copy_from_slice(key.as_bytes())).unwrap_or_default();
        let welcome = v1::Welcome { executor: id.0, heartbeat_ms: self.heartbeat.as_millis() as u64, cluster, key };
        self.links.insert(id, Link { orders, ended });
        self.order(now, id, ToExecutor::Welcome(welcome));
        tracing::info!(
            executor = %id, name = %spec.name, address = %register.address, slots = spec.slots, "executor attached"
        );
        self.directory.joined(id, register);
        self.step(now, Event::ExecutorJoined(spec), None);
        Ok(())
    }

    fn on_heard(&mut self, now: Moment, executor: ExecutorId, message: FromExecutor) {
        match message {
            FromExecutor::Heartbeat(heartbeat) => {
                if let Some(files) = &self.files {
                    files.space(executor, &heartbeat);
                }
                self.directory.heard(executor, heartbeat);
                self.step(now, Event::Heartbeat { executor }, None);
            }
            FromExecutor::TasksEnded(ended) => {
                for task in ended.tasks {
                    match TaskReport::try_from(task) {
                        Ok(report) => self.on_report(now, executor, report),
                        Err(error) => return self.executor_gone(now, executor, &format!("it sent nonsense: {error}")),
                    }
                }
            }
            FromExecutor::OutputsMoved(said) => {
                let moved = said.moved.into_iter().map(AttemptId::from).collect();
                let failed = said.failed.into_iter().filter_map(|f| Some((AttemptId::from(f.output?), f.reason)));
                self.step(now, Event::OutputsMoved { executor, moved, failed: failed.collect() }, None);
            }
            FromExecutor::Leaving(leaving) => {
                tracing::info!(%executor, reason = %leaving.reason, "executor wants to leave");
                self.step(now, Event::ExecutorDraining { executor }, None);
            }
            // Attachments bring these to the namespace.
            FromExecutor::Blocks(_) => {}
            FromExecutor::Register(_) => self.executor_gone(now, executor, "it registered twice on one stream"),
        }
    }

    fn on_report(&mut self, now: Moment, executor: ExecutorId, mut report: TaskReport) {
        let outcome = std::mem::replace(&mut report.outcome, CANCELLED);
        let event = Event::TaskEnded { executor, attempt: report.attempt, outcome };
        self.step(now, event, Some(report));
    }

    fn on_submit(&mut self, now: Moment, submission: Submission) {
        let Submission { spec, mut plan, info, reply, abandoned } = submission;
        if abandoned.load(Ordering::Acquire) {
            return;
        }
        if let Some(handover) = self.handover.get() {
            handover.offer(spec.id, &mut plan);
        }
        for stage in &plan.stages {
            self.plans.retain(stage.hash, &stage.bytes);
        }
        let (shape, lineages) = (plan.shape, spec.statement.as_ref().map(|_| plan.lineages()).unwrap_or_default());
        self.history.submitted(now, spec.id, info.clone(), &plan);
        let job = Job {
            spec: spec.clone(),
            parts: BTreeMap::new(),
            reply,
            submitted: now.at,
            of_submission: info.part_of.is_some(),
            shape,
            lineages,
        };
        self.jobs.insert(spec.id, job);
        self.step(now, Event::JobSubmitted(spec), None);
    }

    fn on_drop(&mut self, now: Moment, drop: Dropped) {
        match drop {
            Dropped::Handle(job) if self.jobs.contains_key(&job) => {
                let reason = "the client went away".to_string();
                self.step(now, Event::JobCancelled { job, reason }, None);
            }
            Dropped::Handle(_) => {}
            Dropped::Result(job) => {
                self.directory.forget_moves(job);
                self.step(now, Event::JobReleased { job }, None);
            }
            Dropped::Attachment(executor, reason) => self.executor_gone(now, executor, &reason),
        }
    }

    fn executor_gone(&mut self, now: Moment, executor: ExecutorId, reason: &str) {
        if self.links.contains_key(&executor) {
            self.unlink(executor, reason);
            self.step(now, Event::ExecutorGone { executor, reason: reason.to_string() }, None);
        }
    }

    fn unlink(&mut self, executor: ExecutorId, reason: &str) {
        if let Some(link) = self.links.remove(&executor) {
            tracing::info!(%executor, reason, "executor detached");
            link.ended.end(reason);
        }
        if let Some(files) = &self.files {
            files.lost(executor);
        }
        self.plans.executor_gone(executor);
        self.directory.gone(executor);
    }

    // ---- one step of the machine

    /// `report` comes with the end of a task: what the machine need not know is kept only if the machine commits the attempt.
    fn step(&mut self, now: Moment, event: Event, mut report: Option<TaskReport>) {
        let output = self.scheduler.step(now.at, event);
        self.batch.persist.extend(output.persist);
        for (executor, command) in output.send {
            push(self.batch.send.entry(executor).or_default(), command);
        }
        for fact in &output.facts {
            let committed = match (fact, &report) {
                (Fact::TaskCommitted { attempt, .. }, Some(said)) if *attempt == said.attempt => report.take(),
                _ => None,
            };
            self.on_fact(now, fact, committed);
        }
        self.batch.changed |= !output.facts.is_empty();
        self.batch.reply.extend(output.reply);
    }

    fn on_fact(&mut self, now: Moment, fact: &Fact, mut report: Option<TaskReport>) {
        tracing::debug!(?fact);
        if let Fact::ExecutorLost { executor, reason } = fact {
            tracing::warn!(%executor, reason, "executor lost");
            self.unlink(*executor, reason);
            self.history.note_live(now, &format!("{executor} was lost: {reason}"));
        }
        match fact {
            Fact::ExecutorExcluded { executor, failures } => {
                tracing::warn!(%executor, failures, "too many tasks failed here: excluded for a time");
                self.history
                    .note_live(now, &format!("{executor} is excluded for a time: {failures} tasks failed there"));
            }
            Fact::ExecutorReadmitted { executor } => tracing::info!(%executor, "gets tasks again"),
            Fact::OutputMoved { output, to, .. } => self.directory.moved(*output, *to),
            Fact::OutputNotMoved { output, from, to, reason } => {
                tracing::info!(%output, %from, %to, reason, "a map output could not be moved");
            }
            _ => {}
        }
        let forgotten = self.history.apply(now, fact, report.as_mut().map(measured));
        if let (Fact::JobEnded { job, .. }, Some(saved)) = (fact, &self.saved) {
            if self.jobs.get(job).is_some_and(|running| running.is_recorded(now, self.record_after))
                && let Some(record) = self.history.job(*job, JobRecord::store)
            {
                saved.record(*job, record);
            }
            forgotten.into_iter().for_each(|job| saved.forget(job));
        }
        if let (Fact::TaskCommitted { attempt, rows, bytes, .. }, Some(report)) = (fact, report) {
            self.keep(*attempt, *rows, *bytes, report);
        }
    }

    /// Keeps what a committed task of a result stage sent along.
    fn keep(&mut self, attempt: AttemptId, rows: u64, bytes: u64, report: TaskReport) {
        let Some(job) = self.jobs.get_mut(&attempt.job()) else { return };
        if attempt.stage().index as usize + 1 == job.spec.stages.len() {
            let TaskReport { inline_result: inline, staged, .. } = report;
            let part = Part { attempt: attempt.attempt, rows, bytes, inline, staged };
            job.parts.insert(attempt.task.partition, part);
        }
    }

    // ---- orders and replies out

    fn flush(&mut self, now: Moment) {
        // An order that cannot be sent is an event, and may ask for further orders.
        while !self.batch.send.is_empty() || !self.batch.reply.is_empty() || !self.batch.drop_plans.is_empty() {
            for (executor, commands) in std::mem::take(&mut self.batch.send) {
                commands.into_iter().for_each(|command| self.command(now, executor, command));
            }
            for reply in std::mem::take(&mut self.batch.reply) {
                self.reply(reply);
            }
            for (executor, plan_hashes) in std::mem::take(&mut self.batch.drop_plans) {
                self.order(now, executor, ToExecutor::DropPlans(v1::DropPlans { plan_hashes }));
            }
        }
        self.persist();
        if std::mem::take(&mut self.batch.changed) {
            self.history.changed();
        }
        for done in self.batch.cancelled.drain(..) {
            let _ = done.send(());
        }
    }

    fn persist(&mut self) {
        let Some(saved) = &self.saved else { return self.batch.persist.clear() };
        let mut written = BTreeSet::new();
        for persist in self.batch.persist.drain(..) {
            match persist {
                // As it is at the end of the batch, so once.
                Persist::Stage { statement, stage } if written.insert(stage) => {
                    let Some(job) = self.jobs.get(&stage.job) else { continue };
                    let lineage = job.lineages.get(stage.index as usize).copied();
                    if let (Some(lineage), Some(outputs)) = (lineage, self.scheduler.kept(stage)) {
                        let finished = BegunStage { index: stage.index, lineage, outputs };
                        saved.save(&statement, stage.job, job.shape, finished);
                    }
                }
                Persist::Stage { .. } => {}
                Persist::Forget { statement, .. } => saved.ended(&statement),
            }
        }
    }

    fn command(&mut self, now: Moment, executor: ExecutorId, command: Command) {
        if !self.links.contains_key(&executor) {
            return;
        }
        let message = match command {
            Command::Launch(launch) => match self.launch(executor, &launch) {
                Ok(launch) => ToExecutor::Launch(launch),
                Err(reason) => {
                    return self.step(now, Event::JobCancelled { job: launch.stage.job, reason }, None);
                }
            },
            Command::Cancel { attempts } => {
                ToExecutor::Cancel(v1::Cancel { attempts: attempts.into_iter().map(Into::into).collect() })
            }
            Command::DropOutputs { stages } => {
                ToExecutor::DropOutputs(v1::DropOutputs { stages: stages.into_iter().map(Into::into).collect() })
            }
            Command::AdoptOutputs { outputs, from } => {
                // When it is gone, the machine learns of that next.
                let Some(address) = self.directory.address(from) else { return };
                let outputs = outputs.into_iter().map(Into::into).collect();
                ToExecutor::AdoptOutputs(v1::AdoptOutputs { outputs, from: from.0, address })
            }
            Command::Farewell => ToExecutor::Farewell(v1::Farewell {}),
        };
        self.order(now, executor, message);
    }

    /// An executor that lets its orders pile up is overloaded: the others take over.
    fn order(&mut self, now: Moment, executor: ExecutorId, message: ToExecutor) {
        let Some(link) = self.links.get(&executor) else { return };
        match link.orders.try_send(v1::PrimaryMessage { message: Some(message) }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                let waiting = link.orders.max_capacity();
                let reason = format!("it is overloaded or its network is stuck: it left {waiting} orders unread");
                self.executor_gone(now, executor, &reason);
            }
            Err(mpsc::error::TrySendError::Closed(_)) => self.executor_gone(now, executor, "its stream was closed"),
        }
    }

    fn launch(&mut self, executor: ExecutorId, launch: &Launch) -> Result<v1::Launch, String> {
        let stage = launch.stage;
        let job = self.jobs.get(&stage.job).ok_or_else(|| format!("{} is launched but has ended", stage.job))?;
        let spec = job.spec.stages.get(stage.index as usize).ok_or_else(|| format!("there is no stage {stage}"))?;
        let inputs: Vec<u32> = spec.inputs.iter().map(|input| input.stage).collect();
        let holders: BTreeSet<ExecutorId> =
            launch.inputs.iter().flat_map(|maps| maps.iter()).map(|at| at.executor).collect();
        let addresses = holders.into_iter().filter_map(|id| Some((id, self.directory.address(id)?))).collect();
        let plan = self.plans.send_to(executor, launch.plan);
        let message = convert::launch_to_wire(launch, &inputs, plan, addresses);
        let bytes = message.encoded_len();
        if bytes >= MAX_MESSAGE_BYTES {
            self.plans.not_sent(executor, launch.plan);
            return Err(format!(
                "starting tasks of stage {stage} takes a message of {} MiB and at most {} MiB can be sent: use fewer \
                 partitions",
                bytes >> 20,
                MAX_MESSAGE_BYTES >> 20
            ));
        }
        Ok(message)
    }

    fn reply(&mut self, reply: Reply) {
        let (Reply::JobFinished { job: id, .. } | Reply::JobFailed { job: id, .. }) = reply;
        let Some(job) = self.jobs.remove(&id) else { return };
        if let Some(handover) = self.handover.get() {
            handover.withdraw(id);
        }
        for stage in &job.spec.stages {
            for (executor, hash) in self.plans.release(stage.plan) {
                self.batch.drop_plans.entry(executor).or_default().push(convert::plan_hash_to_wire(hash));
            }
        }
        let outcome = match reply {
            Reply::JobFinished { outputs, .. } => Ok(self.outcome(id, job.parts, outputs)),
            Reply::JobFailed { error, .. } => {
                self.directory.forget_moves(id);
                Err(error)
            }
        };
        // Nobody waits for a detached job; its outcome is dropped here and frees the result.
        let _ = job.reply.send(outcome);
    }

    fn outcome(&self, job: JobId, mut parts: BTreeMap<u32, Part>, outputs: Vec<MapLocation>) -> JobOutcome {
        let part = |location: MapLocation| {
            let kept = parts.remove(&location.partition).filter(|part| part.attempt == location.attempt);
            let Part { rows, bytes, inline, staged, .. } =
                kept.unwrap_or(Part { attempt: 0, rows: 0, bytes: 0, inline: None, staged: None });
            let address = self.directory.address(location.executor).unwrap_or_default();
            ResultPart { location, address, rows, bytes, inline, staged }
        };
        JobOutcome {
            job,
            outputs: outputs.into_iter().map(part).collect(),
            stages: self.history.job(job, |record| record.stages.clone()).unwrap_or_default(),
            release: Arc::new(Release { job, dropped: self.dropped.clone() }),
        }
    }

    fn executors(&self) -> Vec<ExecutorEntry> {
        let mut entries = self.directory.entries();
        for status in self.scheduler.executors() {
            if let Some(entry) = entries.iter_mut().find(|entry| entry.id == status.spec.id) {
                entry.running = status.running as u32;
                entry.state = match status.state {
                    ExecutorState::Live if status.excluded => Standing::Excluded,
                    ExecutorState::Live => Standing::Live,
                    ExecutorState::Draining { .. } => Standing::Draining,
                    ExecutorState::Leaving => Standing::Leaving,
                };
            }
        }
        entries
    }

    fn stop(mut self) {
        for (_, job) in std::mem::take(&mut self.jobs) {
            let _ = job.reply.send(Err(JobError::Stopping));
        }
        for (_, link) in std::mem::take(&mut self.links) {
            link.ended.end(STOPPING);
        }
    }
}

const CANCELLED: windlass_core::event::Outcome =
    windlass_core::event::Outcome::Failed(windlass_core::failure::TaskFailure::Cancelled);

/// Joins an order to the one before it where that keeps their meaning: one message instead of one for each event of a batch.
fn push(commands: &mut Vec<Command>, next: Command) {
    let next = match (commands.last_mut(), next) {
        (Some(Command::Launch(last)), Command::Launch(next))
            if last.stage == next.stage && last.plan == next.plan && last.inputs == next.inputs =>
        {
            last.attempts.extend(next.attempts);
            return last.attempts.sort_unstable();
        }
        (Some(Command::Cancel { attempts: last }), Command::Cancel { attempts: next }) => return last.extend(next),
        (Some(Command::DropOutputs { stages: last }), Command::DropOutputs { stages: next }) => {
            return last.extend(next);
        }
        (_, next) => next,
    };
    commands.push(next);
}

/// Takes what was measured out of a report.
fn measured(report: &mut TaskReport) -> Measured {
    let metrics = std::mem::take(&mut report.metrics).into_iter().map(|operator| OperatorMetrics {
        operator: operator.operator,
        values: operator.values.into_iter().map(|metric| (metric.name, metric.value)).collect(),
    });
    Measured { elapsed: Duration::from_micros(report.elapsed_us), metrics: metrics.collect() }
}
