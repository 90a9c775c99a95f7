//! Carries out the machine's output: orders to executors, replies to submitters, records in the store.

use super::{Actor, Part};
use crate::driver::directory::{ExecutorEntry, Standing};
use crate::driver::history::Moment;
use crate::driver::saved::BegunStage;
use crate::driver::{JobOutcome, Release, ResultPart};
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::mpsc;
use windlass_core::event::{Command, Event, JobError, Launch, Persist, Reply};
use windlass_core::ids::{ExecutorId, JobId};
use windlass_core::job::MapLocation;
use windlass_core::scheduler::ExecutorState;
use windlass_proto::v1::primary_message::Message as ToExecutor;
use windlass_proto::{MAX_MESSAGE_BYTES, convert, v1};

const STOPPING: &str = "the primary is stopping";

impl Actor {
    pub(super) fn flush(&mut self, now: Moment) {
        // An order that cannot be sent becomes an event, which may cause further orders.
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
                // A stage is saved once, in its state at the end of the batch.
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
                // If the executor is gone, the machine learns of that next.
                let Some(address) = self.directory.address(from) else { return };
                let outputs = outputs.into_iter().map(Into::into).collect();
                ToExecutor::AdoptOutputs(v1::AdoptOutputs { outputs, from: from.0, address })
            }
            Command::Farewell => ToExecutor::Farewell(v1::Farewell {}),
        };
        self.order(now, executor, message);
    }

    /// Sends an order. An executor whose queue is full is overloaded and is given up; others take over.
    pub(super) fn order(&mut self, now: Moment, executor: ExecutorId, message: ToExecutor) {
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
        // A detached job has no waiter. Its outcome is dropped here, which frees the result.
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

    pub(super) fn executors(&self) -> Vec<ExecutorEntry> {
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

    pub(super) fn stop(mut self) {
        for (_, job) in std::mem::take(&mut self.jobs) {
            let _ = job.reply.send(Err(JobError::Stopping));
        }
        for (_, link) in std::mem::take(&mut self.links) {
            link.ended.end(STOPPING);
        }
    }
}

/// Merges an order into the one before it if that keeps their meaning, to send one message instead of one for each event of a batch.
pub(super) fn push(commands: &mut Vec<Command>, next: Command) {
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
