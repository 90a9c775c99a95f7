//! Jobs that an earlier leader began, and the outputs that executors have kept of them.
//!
//! ```text
//! kept output   joined with its executor ──its job is submitted again──> Committed, like any other
//!                     └── its job goes on already, or nobody asks within `keep_unclaimed` ──> dropped
//!
//! stage         finished, or outputs of it moved ──its job is old enough──> saved ──its job ended──> forgotten
//! ```
//!
//! Only outputs of finished stages are taken over. Missing ones count as lost, like the outputs of a lost executor: they are computed again where unfinished
//! stages need them.

use super::Scheduler;
use super::executors::{ExecutorState, Executors};
use super::jobs::Job;
#[cfg(test)]
use super::simulation::Defect;
use super::timers::Timer;
use crate::event::{Fact, Output, Persist};
use crate::ids::{ExecutorId, StageId};
use crate::job::{Earlier, FinishedOutput};
use crate::time::Instant;

impl Scheduler {
    /// Notes outputs that a joining executor kept from another leader, or from this one before the executor was lost.
    pub(super) fn keep_for_later(&mut self, now: Instant, id: ExecutorId, stages: Vec<StageId>) {
        let is_known = |stage: &StageId| self.jobs.contains_key(&stage.job) || self.retained.contains_key(&stage.job);
        let (given_up, kept): (Vec<_>, Vec<_>) = stages.into_iter().partition(is_known);
        self.orders.drop_outputs(id, given_up);
        if !kept.is_empty() {
            self.executors.keeps(id, kept);
            self.timers.set(now + self.config.keep_unclaimed, Timer::Unclaimed(id));
        }
    }

    /// Drops kept outputs that no job has claimed.
    pub(super) fn drop_unclaimed(&mut self, id: ExecutorId) {
        #[cfg(test)]
        if self.config.defect == Some(Defect::LeakUnclaimed) {
            return;
        }
        let Some(executor) = self.executors.get(id) else { return };
        let jobs = executor.stages.keys().map(|stage| stage.job);
        let mut unclaimed: Vec<_> =
            jobs.filter(|job| !self.jobs.contains_key(job) && !self.retained.contains_key(job)).collect();
        unclaimed.dedup();
        for job in unclaimed {
            let dropped = self.executors.drop_job(id, job, None);
            self.orders.drop_outputs(id, dropped);
        }
    }

    /// Commits the remaining outputs of the job's finished stages, before its first task starts.
    pub(super) fn take_over(&mut self, job: &mut Job, earlier: &Earlier, output: &mut Output) {
        let first_attempt = earlier.takeovers.first_attempt();
        #[cfg(test)]
        let first_attempt = if self.config.defect == Some(Defect::RepeatAttempts) { 0 } else { first_attempt };
        job.number_attempts_from(first_attempt);
        let id = job.id();
        job.executors.extend(self.executors.iter().filter(|e| e.has_any_of(id)).map(|e| e.spec.id));
        // The result stage ends with the job, so nothing could follow it.
        let before_result = job.stages.len().saturating_sub(1);
        for kept in earlier.stages.iter().filter(|kept| (kept.stage as usize) < before_result) {
            let stage = job.id().stage(kept.stage);
            let is_there = |kept: &&FinishedOutput| keeps(&self.executors, kept.location.executor, stage);
            #[cfg(test)]
            let is_there = |kept: &&FinishedOutput| is_there(kept) || self.config.defect == Some(Defect::TakeOverLost);
            let there: Vec<FinishedOutput> = kept.outputs.iter().filter(is_there).copied().collect();
            for FinishedOutput { location, rows, .. } in job.take_over(kept.stage, &there) {
                let executor = location.executor;
                let taken = stage.task(location.partition).attempt(location.attempt);
                self.executors.committed(executor, stage);
                self.departures.committed(executor, taken);
                output.facts.push(Fact::OutputTakenOver { output: taken, executor, rows });
            }
            let left = &job.stages[kept.stage as usize];
            let (outputs, rows, bytes) = (left.committed, left.rows, left.bytes);
            output.facts.push(Fact::StageTakenOver { stage, outputs, rows, bytes });
        }
    }

    /// Asks the shell to save stages that have finished, of jobs that have run long enough. The result stage ends with its job and is not saved.
    pub(super) fn save_stages(&mut self, now: Instant, output: &mut Output) {
        for id in std::mem::take(&mut self.unsaved) {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            let Some(statement) = job.spec.statement.clone() else { continue };
            if self.saved_for.get(&statement) != Some(&id) || now.since(job.submitted) < self.config.save_stages_after {
                continue;
            }
            let result = job.stages.len() as u32 - 1;
            for index in std::mem::take(&mut job.unsaved) {
                if index < result && job.stages[index as usize].finished {
                    job.saved = true;
                    output.persist.push(Persist::Stage { statement: statement.clone(), stage: id.stage(index) });
                }
            }
        }
    }

    /// Removes the saved stages of a job that has ended.
    pub(super) fn forget_saved(&mut self, job: &Job, output: &mut Output) {
        let (id, Some(statement)) = (job.id(), &job.spec.statement) else { return };
        if self.saved_for.get(statement) != Some(&id) {
            return;
        }
        self.saved_for.remove(statement);
        #[cfg(test)]
        if self.config.defect == Some(Defect::LeakSaved) {
            return;
        }
        if job.saved || job.spec.earlier.is_some() {
            output.persist.push(Persist::Forget { statement: statement.clone(), job: id });
        }
    }

    /// Outputs of a finished stage of a running job, for the next leader. `None` when the stage has not finished.
    pub fn kept(&self, stage: StageId) -> Option<Vec<FinishedOutput>> {
        let job = self.jobs.get(&stage.job)?;
        job.stages.get(stage.index as usize).filter(|stage| stage.finished)?;
        Some(job.kept(stage.index))
    }
}

fn keeps(executors: &Executors, id: ExecutorId, stage: StageId) -> bool {
    executors.get(id).is_some_and(|e| e.state != ExecutorState::Leaving && e.stages.contains_key(&stage))
}
