//! The task that owns the scheduling machine.

mod events;
mod orders;

use super::directory::{Directory, ExecutorEntry};
use super::plans::Plans;
use super::{DriverConfig, Ended, JobOutcome};
use crate::clock::Clock;
use crate::driver::history::{History, JobInfo, Measured, Moment};
use crate::driver::saved::SavedJobs;
use crate::files::Files;
use bytes::Bytes;
use orders::push;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use windlass_core::elastic::Load;
use windlass_core::event::{Command, Event, Fact, JobError, Persist, Reply};
use windlass_core::ids::{AttemptId, ExecutorId, JobId, PlanHash};
use windlass_core::job::JobSpec;
use windlass_core::scheduler::Scheduler;
use windlass_core::time::Instant;
use windlass_engine::{ClusterShape, Handover, OperatorMetrics, PlannedJob};
use windlass_proto::convert::TaskReport;
use windlass_proto::pass::ClusterKey;
use windlass_proto::v1;
use windlass_proto::v1::executor_message::Message as FromExecutor;
use windlass_proto::v1::primary_message::Message as ToExecutor;

/// Maximum events that are stepped before orders go out.
const BATCH: usize = 1_024;

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
    Submit(Box<NewJob>),
    Cancel {
        job: JobId,
        reason: String,
        done: oneshot::Sender<()>,
    },
    Drain {
        executor: ExecutorId,
    },
    /// An order that does not come from the machine.
    Tell {
        executor: ExecutorId,
        message: ToExecutor,
    },
    /// Answered when no attempt of the job runs.
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

pub(super) struct NewJob {
    pub spec: Arc<JobSpec>,
    pub plan: PlannedJob,
    pub info: Arc<JobInfo>,
    pub reply: oneshot::Sender<Result<JobOutcome, JobError>>,
    /// Whether the handle was dropped.
    pub abandoned: Arc<AtomicBool>,
}

/// Notices that are sent by dropping something.
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
    clock: Clock,
    origin: std::time::Instant,
    /// Output of the steps of this batch.
    batch: Batch,
    saved: Option<Arc<SavedJobs>>,
    files: Option<Files>,
    handover: Arc<OnceLock<Handover>>,
    /// Jobs that run longer than this are recorded for the next leader.
    record_after: Duration,
    /// Callers that wait for a job's attempts to end.
    quiet: Vec<(JobId, oneshot::Sender<()>)>,
}

/// A job that has not ended.
struct Job {
    spec: Arc<JobSpec>,
    /// Output of the tasks of the result stage, by partition.
    parts: BTreeMap<u32, Part>,
    reply: oneshot::Sender<Result<JobOutcome, JobError>>,
    submitted: Instant,
    /// Whether the job belongs to a submission, whose job may be asked for later.
    of_submission: bool,
    shape: ClusterShape,
    /// The lineage of each stage, if finished stages are saved.
    lineages: Vec<PlanHash>,
}

impl Job {
    /// Whether later leaders list the job. A short query is not worth a write to the store.
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

/// The connection to one executor.
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
            origin: config.clock.now(),
            clock: config.clock.clone(),
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
            // Waiting events come first: a heartbeat among them saves its executor from the deadline.
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
        Moment { at: self.clock.since(self.origin), wall_ms: self.clock.wall_ms() }
    }

    // ---- one step of the machine

    /// Steps the machine with an event. `report` comes with the end of a task. The parts that the machine does not need are kept only
    /// if it commits the attempt.
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
                && let Some(record) = self.history.stored(*job)
            {
                saved.record(*job, record);
            }
            forgotten.into_iter().for_each(|job| saved.forget(job));
        }
        if let (Fact::TaskCommitted { attempt, rows, bytes, .. }, Some(report)) = (fact, report) {
            self.keep(*attempt, *rows, *bytes, report);
        }
    }

    /// Keeps the result-stage output that a committed task reported.
    fn keep(&mut self, attempt: AttemptId, rows: u64, bytes: u64, report: TaskReport) {
        let Some(job) = self.jobs.get_mut(&attempt.job()) else { return };
        if attempt.stage().index as usize + 1 == job.spec.stages.len() {
            let TaskReport { inline_result: inline, staged, .. } = report;
            let part = Part { attempt: attempt.attempt, rows, bytes, inline, staged };
            job.parts.insert(attempt.task.partition, part);
        }
    }
}

/// Moves the measurements out of a report.
fn measured(report: &mut TaskReport) -> Measured {
    let metrics = std::mem::take(&mut report.metrics).into_iter().map(|operator| OperatorMetrics {
        operator: operator.operator,
        values: operator.values.into_iter().map(|metric| (metric.name, metric.value)).collect(),
    });
    Measured { elapsed: Duration::from_micros(report.elapsed_us), metrics: metrics.collect() }
}
