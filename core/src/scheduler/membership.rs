//! Arrival and loss of executors, and the consequences for jobs.

use super::Scheduler;
use super::executors::ExecutorState;
use super::timers::Timer;
use crate::event::{ExecutorSpec, Fact, JobError, Output};
use crate::failure::TaskFailure;
use crate::ids::{AttemptId, ExecutorId};
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};

impl Scheduler {
    /// Adds an executor. A name belongs to its last registration. A known id is taken for a repeated message.
    pub(super) fn executor_joined(&mut self, now: Instant, mut spec: ExecutorSpec, output: &mut Output) {
        let (id, kept) = (spec.id, std::mem::take(&mut spec.kept));
        if self.hear(now, id) {
            return;
        }
        if let Some(old) = self.executors.named(&spec.name) {
            self.lose_executor(now, old, format!("superseded by {id}, which has the same name"), output);
        }
        output.facts.push(Fact::ExecutorJoined { executor: id });
        self.timers.set(now + self.config.heartbeat_timeout, Timer::Heartbeat(id));
        self.executors.join(now, spec);
        self.keep_for_later(now, id, kept);
        for (&id, job) in &mut self.jobs {
            if let Some(since) = job.stranded.take() {
                self.timers.clear(since + self.config.no_executor_timeout, Timer::NoExecutors(id));
            }
        }
    }

    /// Notes a sign of life and returns whether the executor is a member.
    pub(super) fn hear(&mut self, now: Instant, executor: ExecutorId) -> bool {
        let Some(before) = self.executors.hear(now, executor) else { return false };
        if before < now {
            self.timers.clear(before + self.config.heartbeat_timeout, Timer::Heartbeat(executor));
            self.timers.set(now + self.config.heartbeat_timeout, Timer::Heartbeat(executor));
        }
        true
    }

    /// Removes a lost executor: its running attempts start again elsewhere, and its outputs are computed again where readers need them.
    pub(super) fn lose_executor(&mut self, now: Instant, id: ExecutorId, reason: String, output: &mut Output) {
        let Some(executor) = self.executors.remove(id) else { return };
        self.forget_blame(id);
        self.orders.forget(id);
        self.unstick_all();
        output.facts.push(Fact::ExecutorLost { executor: id, reason });
        self.timers.clear(executor.heard + self.config.heartbeat_timeout, Timer::Heartbeat(id));
        if let ExecutorState::Draining { deadline } = executor.state {
            self.timers.clear(deadline, Timer::Drain(id));
        }
        self.forget_departure(id);
        let mut touched = BTreeSet::new();
        let mut failed = BTreeMap::new();
        for (&attempt, &wanted) in &executor.running {
            let failure = TaskFailure::ExecutorLost { executor: id };
            output.facts.push(Fact::TaskFailed { attempt, executor: id, failure: failure.clone() });
            if wanted {
                touched.insert(attempt.job());
                if let Some(error) = self.retry_uncounted(attempt, failure) {
                    failed.entry(attempt.job()).or_insert(error);
                }
            }
        }
        for (&stage, share) in &executor.stages {
            if let Some(job) = self.jobs.get_mut(&stage.job) {
                job.executors.remove(&id);
                #[cfg(test)]
                if self.config.defect == Some(super::simulation::Defect::ForgetLostOutputs) {
                    continue;
                }
                if share.committed > 0 {
                    touched.insert(stage.job);
                    job.lose_outputs_on(stage.index, id);
                }
            }
        }
        for job in touched {
            match failed.remove(&job) {
                Some(error) => self.fail_job(job, error, output),
                None => self.settle(job, output),
            }
        }
        self.strand_jobs(now);
    }

    /// Lets stages look for places again: their tasks may have waited for an executor that gets no tasks any more.
    pub(super) fn unstick_all(&mut self) {
        self.jobs.values_mut().flat_map(|job| &mut job.stages).for_each(|stage| stage.stuck = false);
    }

    /// Starts the timeout of jobs that have no executor to wait for.
    pub(super) fn strand_jobs(&mut self, now: Instant) {
        if !self.executors.none_working() {
            return;
        }
        for (&id, job) in &mut self.jobs {
            if job.stranded.is_none() {
                job.stranded = Some(now);
                self.timers.set(now + self.config.no_executor_timeout, Timer::NoExecutors(id));
            }
        }
    }

    /// Puts the task of a wanted attempt back in the queue without blame. Returns the reason why its job fails, if the retries are too many.
    pub(super) fn retry_uncounted(&mut self, attempt: AttemptId, failure: TaskFailure) -> Option<JobError> {
        let limit = self.config.max_uncounted_retries;
        let once = self.is_once(attempt.stage());
        let retries = self.requeue(attempt, |trouble| {
            trouble.uncounted += 1;
            trouble.uncounted
        })?;
        if once {
            return Some(JobError::Once { stage: attempt.stage(), reason: failure.to_string() });
        }
        (retries > limit).then_some(JobError::TooManyRetries { attempt, retries: limit, failure })
    }
}
