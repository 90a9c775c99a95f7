//! Reports of executors about their attempts: commits, failures, and reports that come too late.

use super::Scheduler;
use super::jobs::{TaskState, Trouble};
#[cfg(test)]
use super::simulation::Defect;
use crate::event::{Fact, JobError, Outcome, Output};
use crate::failure::{Recovery, TaskFailure};
use crate::ids::{AttemptId, ExecutorId, JobId, StageId};
use crate::time::Instant;

impl Scheduler {
    /// Handles the end of an attempt, reported by a member. The one place where such reports are fenced.
    pub(super) fn task_ended(
        &mut self,
        now: Instant,
        id: ExecutorId,
        attempt: AttemptId,
        outcome: Outcome,
        output: &mut Output,
    ) {
        let wanted = self.executors.end(id, attempt);
        #[cfg(test)]
        let wanted = if self.plants_zombie(attempt, &outcome) { Some(true) } else { wanted };
        match (wanted, outcome) {
            (Some(true), Outcome::Finished { rows, bucket_bytes }) => {
                self.commit(now, id, attempt, rows, &bucket_bytes, output);
            }
            (Some(true), Outcome::Failed(failure)) => {
                output.facts.push(Fact::TaskFailed { attempt, executor: id, failure: failure.clone() });
                self.recover(now, id, attempt, failure, output);
            }
            (Some(false), Outcome::Failed(failure)) => {
                output.facts.push(Fact::TaskFailed { attempt, executor: id, failure });
            }
            (Some(false) | None, Outcome::Finished { .. }) => {
                output.facts.push(Fact::ReportFenced { attempt, executor: id });
                // A repeated report of the committed output must not remove it.
                let is_committed = self.is_committed(id, attempt);
                #[cfg(test)]
                let is_committed = is_committed && self.config.defect != Some(Defect::RemoveRepeated);
                if !is_committed {
                    self.orders.cancel(id, attempt);
                }
            }
            (None, Outcome::Failed(_)) => output.facts.push(Fact::ReportFenced { attempt, executor: id }),
        }
    }

    pub(super) fn is_committed(&self, executor: ExecutorId, attempt: AttemptId) -> bool {
        let AttemptId { task, attempt: number } = attempt;
        if let Some(job) = self.jobs.get(&attempt.job()) {
            let state = job.task(task.stage.index, task.partition).map(|task| task.state);
            return matches!(state, Some(TaskState::Committed { attempt, executor: e, .. }) if attempt == number && e == executor);
        }
        self.retained.get(&attempt.job()).is_some_and(|retained| {
            let found = retained.outputs.binary_search_by_key(&task.partition, |output| output.partition);
            let is_it = |i: usize| retained.outputs[i].attempt == number && retained.outputs[i].executor == executor;
            retained.stage == task.stage && found.is_ok_and(is_it)
        })
    }

    fn commit(
        &mut self,
        now: Instant,
        id: ExecutorId,
        attempt: AttemptId,
        rows: u64,
        bucket_bytes: &[u64],
        output: &mut Output,
    ) {
        let Some(job) = self.jobs.get_mut(&attempt.job()) else { return };
        let committed = job.commit(now, attempt, id, rows, bucket_bytes);
        self.executors.committed(id, attempt.stage());
        self.departures.committed(id, attempt);
        self.pools.ended(&job.pool, attempt.job(), 1 + committed.superfluous.len() as u32);
        let bytes = bucket_bytes.iter().fold(0u64, |sum, &b| sum.saturating_add(b));
        output.facts.push(Fact::TaskCommitted { attempt, executor: id, rows, bytes });
        for (executor, attempt) in committed.superfluous {
            let unwanted = self.executors.unwant(executor, attempt);
            #[cfg(test)]
            let unwanted = unwanted && self.config.defect != Some(Defect::ForgetSuperfluous);
            if unwanted {
                self.orders.cancel(executor, attempt);
            }
        }
        if committed.stage_done {
            self.settle(attempt.job(), output);
        } else {
            self.watch_stragglers(now, attempt.stage());
        }
    }

    /// Carries out the recovery for the kind of failure.
    fn recover(&mut self, now: Instant, id: ExecutorId, attempt: AttemptId, failure: TaskFailure, output: &mut Output) {
        let job = attempt.job();
        if matches!(failure.recovery(), Recovery::RetryAnywhere | Recovery::RetryElsewhere) {
            self.blame(now, id, attempt, output);
        }
        let error = match failure.recovery() {
            recovery if recovery != Recovery::FailJob && self.is_once(attempt.stage()) => {
                self.requeue(attempt, |_| {});
                Some(JobError::Once { stage: attempt.stage(), reason: failure.to_string() })
            }
            Recovery::RetryAnywhere => self.retry_counted(attempt, failure, u32::MAX, |_| {}),
            Recovery::RetryElsewhere => self.retry_counted(attempt, failure, u32::MAX, |trouble| trouble.avoid(id)),
            Recovery::RetryWithLessConcurrency => {
                // An attempt that was alone on its executor already had all the memory.
                let was_alone = self.executors.get(id).is_none_or(|executor| executor.running.is_empty());
                self.lower_concurrency(id, attempt);
                self.retry_counted(attempt, failure, if was_alone { 1 } else { u32::MAX }, |_| {})
            }
            Recovery::RecomputeInput { output, executor } => self.recompute(attempt, output, executor, failure),
            // An executor may give up a wanted attempt, for example when it shuts down.
            Recovery::RetryUncounted | Recovery::Ignore => self.retry_uncounted(attempt, failure),
            Recovery::FailJob => {
                let attempts = self.requeue(attempt, |trouble| trouble.counted + 1).unwrap_or(1);
                Some(JobError::Task { attempt, attempts, failure })
            }
        };
        match error {
            Some(error) => self.fail_job(job, error, output),
            None => self.settle(job, output),
        }
    }

    /// Retries the task, unless it has failed `most` times or as often as the job allows.
    fn retry_counted(
        &mut self,
        attempt: AttemptId,
        failure: TaskFailure,
        most: u32,
        learn: impl FnOnce(&mut Trouble),
    ) -> Option<JobError> {
        let attempts = self.requeue(attempt, |trouble| {
            learn(trouble);
            trouble.counted += 1;
            trouble.counted
        })?;
        let limit = self.jobs.get(&attempt.job())?.spec.terms.max_attempts.min(most);
        (attempts >= limit).then_some(JobError::Task { attempt, attempts, failure })
    }

    /// Halves the number of tasks of the stage that may run together on one executor, counted from those that ran beside the failed one. Failures of tasks that
    /// started before the last cut do not cut again.
    fn lower_concurrency(&mut self, id: ExecutorId, attempt: AttemptId) {
        let beside = self.executors.get(id).and_then(|e| e.stages.get(&attempt.stage())).map_or(0, |s| s.running);
        let Some(job) = self.jobs.get_mut(&attempt.job()) else { return };
        let stage = &mut job.stages[attempt.stage().index as usize];
        let ran = beside + 1;
        if ran <= stage.cap {
            stage.cap = (ran / 2).max(1);
        }
    }

    /// Lets the reader wait until the output that it could not fetch exists again. If that output has moved since, nothing needs to be computed again.
    fn recompute(
        &mut self,
        reader: AttemptId,
        output: AttemptId,
        holder: ExecutorId,
        failure: TaskFailure,
    ) -> Option<JobError> {
        let is_current = self.jobs.get(&reader.job()).is_some_and(|job| {
            let inputs = &job.spec.stages[reader.stage().index as usize].inputs;
            output.job() == reader.job() && inputs.iter().any(|input| input.stage == output.stage().index)
        }) && self.is_committed(holder, output);
        if !is_current {
            return self.retry_uncounted(reader, failure);
        }
        self.requeue(reader, |_| {});
        self.executors.uncommitted(holder, output.stage());
        let job = self.jobs.get_mut(&reader.job())?;
        job.lose_output(output.stage().index, output.task.partition);
        let trouble = job.stages[output.stage().index as usize].trouble(output.task.partition);
        trouble.avoid(holder);
        trouble.recomputes += 1;
        let recomputes = trouble.recomputes - 1;
        (recomputes >= self.config.max_recomputes).then_some(JobError::InputLost { output, recomputes, failure })
    }

    /// Puts the task of a wanted attempt back in the queue. `note` may change and read its history; it is not called when the attempt was only a copy of one
    /// that goes on.
    pub(super) fn requeue<R>(&mut self, attempt: AttemptId, note: impl FnOnce(&mut Trouble) -> R) -> Option<R> {
        let job = self.jobs.get_mut(&attempt.job())?;
        let stage = attempt.stage().index;
        let was_copy = job.requeue(attempt);
        self.pools.ended(&job.pool, attempt.job(), 1);
        if was_copy {
            return None;
        }
        Some(note(job.stages[stage as usize].trouble(attempt.task.partition)))
    }

    /// Whether tasks of the stage begin only once.
    pub(super) fn is_once(&self, stage: StageId) -> bool {
        self.jobs.get(&stage.job).is_some_and(|job| job.is_once(stage.index))
    }

    /// Propagates a change through the stages of a job, and finishes the job when its result is complete.
    pub(super) fn settle(&mut self, id: JobId, output: &mut Output) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.settle(&mut output.facts);
        if let Some(error) = job.lost_for_good() {
            return self.fail_job(id, error, output);
        }
        if !job.unsaved.is_empty() {
            self.unsaved.insert(id);
        }
        if job.done() {
            self.finish_job(id, output);
        } else {
            self.sync_hunger(id);
        }
    }

    #[cfg(test)]
    fn plants_zombie(&self, attempt: AttemptId, outcome: &Outcome) -> bool {
        let job = self.jobs.get(&attempt.job());
        let task = job.and_then(|job| job.task(attempt.stage().index, attempt.task.partition));
        let state = task.map(|task| task.state);
        self.config.defect == Some(Defect::CommitZombies)
            && matches!(outcome, Outcome::Finished { .. })
            && matches!(state, Some(TaskState::Running { .. }))
    }
}
