//! Submission, cancellation and end of jobs.

use super::jobs::Job;
#[cfg(test)]
use super::simulation::Defect;
use super::timers::Timer;
use super::{Retained, Scheduler, leave_queue};
use crate::event::{Fact, JobError, Output, Persist, Reply};
use crate::ids::JobId;
use crate::job::{JobSpec, Read};
use crate::time::Instant;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Scheduler {
    /// Admits a job. A known job id is taken for a repeated message.
    pub(super) fn submit(&mut self, now: Instant, spec: Arc<JobSpec>, output: &mut Output) {
        let id = spec.id;
        if self.jobs.contains_key(&id) || self.retained.contains_key(&id) {
            return;
        }
        if let Err(error) = self.admit(&spec) {
            if let (Some(statement), Some(_)) = (&spec.statement, &spec.earlier) {
                output.persist.push(Persist::Forget { statement: statement.clone(), job: id });
            }
            output.facts.push(Fact::JobEnded { job: id, error: Some(error.clone()) });
            output.reply.push(Reply::JobFailed { job: id, error });
            return;
        }
        let terms = &spec.terms;
        let pool = self.pools.admit(&terms.pool, &self.config.pools, id, self.submitted, terms.priority);
        self.submitted += 1;
        self.queued += 1;
        if !terms.user.is_empty() {
            *self.queued_by_user.entry(terms.user.clone()).or_default() += 1;
        }
        let limit = [terms.timeout, self.config.max_job_time].into_iter().flatten().min();
        let mut job = Job::new(spec.clone(), pool, now, limit.map(|limit| (now + limit, limit)));
        if let Some((deadline, _)) = job.deadline {
            self.timers.set(deadline, Timer::TimeOut(id));
        }
        #[cfg(test)]
        {
            job.runs_twice = self.config.defect == Some(Defect::RunTwice);
        }
        let mut begun = None;
        if let Some(earlier) = &spec.earlier {
            self.take_over(&mut job, earlier, output);
            begun = job.begun_before();
        }
        if let Some(statement) = &spec.statement {
            self.saved_for.entry(statement.clone()).or_insert(id);
        }
        job.settle(&mut output.facts);
        if self.executors.none_working() {
            job.stranded = Some(now);
            self.timers.set(now + self.config.no_executor_timeout, Timer::NoExecutors(id));
        }
        self.jobs.insert(id, job);
        self.unsaved.insert(id);
        match begun {
            Some(error) => self.fail_job(id, error, output),
            None => self.sync_hunger(id),
        }
    }

    fn admit(&self, spec: &JobSpec) -> Result<(), JobError> {
        if let Some(limit) = self.config.max_queued_jobs
            && self.queued >= limit
        {
            return Err(JobError::Busy { queued: self.queued });
        }
        let user = &spec.terms.user;
        if let Some(limit) = self.config.max_queued_jobs_per_user
            && let Some(&queued) = self.queued_by_user.get(user)
            && queued >= limit
        {
            return Err(JobError::UserBusy { user: user.clone(), queued });
        }
        validate(spec, self.config.max_tasks_per_job).map_err(|reason| JobError::Invalid { reason })
    }

    /// Cancels a running job, and releases a finished one.
    pub(super) fn cancel_job(&mut self, job: JobId, reason: String, output: &mut Output) {
        self.fail_job(job, JobError::Cancelled { reason }, output);
        self.release_job(job);
    }

    pub(super) fn release_job(&mut self, job: JobId) {
        let Some(Retained { outputs, .. }) = self.retained.remove(&job) else { return };
        #[cfg(test)]
        if self.config.defect == Some(Defect::LeakResults) {
            return;
        }
        let mut executors: BTreeSet<_> = outputs.iter().map(|output| output.executor).collect();
        executors.extend(self.departures.adopters_of(job));
        self.departures.forget_job(job, None);
        for executor in executors {
            self.orders.drop_outputs(executor, self.executors.drop_job(executor, job, None));
        }
    }

    pub(super) fn fail_job(&mut self, id: JobId, error: JobError, output: &mut Output) {
        if self.end_job(id, None, output).is_some() {
            output.facts.push(Fact::JobEnded { job: id, error: Some(error.clone()) });
            output.reply.push(Reply::JobFailed { job: id, error });
        }
    }

    pub(super) fn finish_job(&mut self, id: JobId, output: &mut Output) {
        let Some(result) = self.jobs.get(&id).map(|job| job.stages.len() as u32 - 1) else { return };
        let Some(job) = self.end_job(id, Some(result), output) else { return };
        let outputs = job.result();
        output.facts.push(Fact::JobEnded { job: id, error: None });
        output.reply.push(Reply::JobFinished { job: id, outputs: outputs.clone() });
        self.retained.insert(id, Retained { stage: id.stage(result), outputs });
    }

    /// Fails the job because no executor joined in time.
    pub(super) fn give_up_waiting(&mut self, job: JobId, output: &mut Output) {
        let waited_s = self.config.no_executor_timeout.as_secs();
        self.fail_job(job, JobError::NoExecutors { waited_s }, output);
    }

    pub(super) fn time_out(&mut self, id: JobId, output: &mut Output) {
        if let Some((_, limit)) = self.jobs.get(&id).and_then(|job| job.deadline) {
            self.fail_job(id, JobError::TimedOut { limit }, output);
        }
    }

    /// Takes the job off the executors, except for committed outputs of the stage `keep`. Its attempts keep their slots until they report their end.
    fn end_job(&mut self, id: JobId, keep: Option<u32>, output: &mut Output) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        self.forget_saved(&job, output);
        self.light.remove(&id);
        self.programs.remove(&id);
        self.departures.forget_job(id, keep);
        for &executor in &job.executors {
            for attempt in self.executors.unwant_job(executor, id) {
                self.orders.cancel(executor, attempt);
                #[cfg(test)]
                if self.config.defect == Some(Defect::FreeSlotsEarly) {
                    self.executors.end(executor, attempt);
                }
            }
            self.orders.drop_outputs(executor, self.executors.drop_job(executor, id, keep));
        }
        self.pools.dismiss(&job.pool, id);
        if !job.started {
            self.queued -= 1;
            leave_queue(&mut self.queued_by_user, &job.spec.terms.user);
        }
        if let Some((deadline, _)) = job.deadline {
            self.timers.clear(deadline, Timer::TimeOut(id));
        }
        if let Some(since) = job.stranded {
            self.timers.clear(since + self.config.no_executor_timeout, Timer::NoExecutors(id));
        }
        Some(job)
    }
}

fn validate(spec: &JobSpec, max_tasks: u64) -> Result<(), String> {
    if spec.stages.is_empty() {
        return Err("it has no stages".to_string());
    }
    if spec.terms.max_attempts == 0 {
        return Err("its tasks may not be attempted even once: max_attempts must be at least 1".to_string());
    }
    let tasks: u64 = spec.stages.iter().map(|stage| u64::from(stage.tasks)).sum();
    if tasks > max_tasks {
        return Err(format!("it has {tasks} tasks and the limit is {max_tasks}: use fewer partitions"));
    }
    for (index, stage) in spec.stages.iter().enumerate() {
        if stage.tasks == 0 {
            return Err(format!("stage {index} has no tasks"));
        }
        if stage.buckets == 0 {
            return Err(format!("stage {index} has no buckets"));
        }
        let wishes = stage.preferences.len();
        if wishes != 0 && wishes != stage.tasks as usize {
            return Err(format!("stage {index} has {wishes} placement preferences for {} tasks", stage.tasks));
        }
        for input in &stage.inputs {
            if input.stage as usize >= index {
                return Err(format!("stage {index} reads stage {}, which does not come before it", input.stage));
            }
            let buckets = spec.stages[input.stage as usize].buckets;
            if input.read == Read::Bucket && buckets != stage.tasks {
                let (tasks, producer) = (stage.tasks, input.stage);
                return Err(format!("stage {index} has {tasks} tasks to read {buckets} buckets of stage {producer}"));
            }
        }
    }
    Ok(())
}
