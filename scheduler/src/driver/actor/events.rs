//! Input of the machine: messages of services and executors, and dropped handles.

use super::{Actor, Dropped, Job, Link, Message, NewJob};
use crate::driver::Ended;
use crate::driver::history::Moment;
use crate::files::Files;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use windlass_core::event::{Event, Outcome};
use windlass_core::failure::TaskFailure;
use windlass_core::ids::{AttemptId, ExecutorId};
use windlass_proto::convert::{self, TaskReport};
use windlass_proto::v1;
use windlass_proto::v1::executor_message::Message as FromExecutor;
use windlass_proto::v1::primary_message::Message as ToExecutor;

impl Actor {
    pub(super) fn on_message(&mut self, now: Moment, message: Message) {
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
            // Attachments pass these to the namespace.
            FromExecutor::Blocks(_) => {}
            FromExecutor::Register(_) => self.executor_gone(now, executor, "it registered twice on one stream"),
        }
    }

    fn on_report(&mut self, now: Moment, executor: ExecutorId, mut report: TaskReport) {
        let outcome = std::mem::replace(&mut report.outcome, CANCELLED);
        let event = Event::TaskEnded { executor, attempt: report.attempt, outcome };
        self.step(now, event, Some(report));
    }

    fn on_submit(&mut self, now: Moment, job: NewJob) {
        let NewJob { spec, mut plan, info, reply, abandoned } = job;
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

    pub(super) fn on_drop(&mut self, now: Moment, drop: Dropped) {
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

    pub(super) fn executor_gone(&mut self, now: Moment, executor: ExecutorId, reason: &str) {
        if self.links.contains_key(&executor) {
            self.unlink(executor, reason);
            self.step(now, Event::ExecutorGone { executor, reason: reason.to_string() }, None);
        }
    }

    pub(super) fn unlink(&mut self, executor: ExecutorId, reason: &str) {
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
}

const CANCELLED: Outcome = Outcome::Failed(TaskFailure::Cancelled);
