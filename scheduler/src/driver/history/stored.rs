//! Ended jobs in the metadata store, from which the next leader can list and show them.

use super::{History, JobInfo, JobRecord, JobState, Log, StageRecord, StageState, Submission};
use crate::meta::keys::jobs::{StoredJob, StoredStage, StoredSubmission, decode, encode};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use windlass_core::ids::JobId;
use windlass_core::job::Terms;

/// Maximum bytes of a complete record. A larger one is stored without plans and metrics, and with only the ends of its log.
const MAX_BYTES: usize = 64 << 10;
const LINES: usize = 20;
const JOBS: usize = 1_000;

impl JobRecord {
    pub(crate) fn store(&self) -> Bytes {
        let mut stored = StoredJob {
            id: self.id.0,
            name: self.info.name.clone(),
            statement: self.info.statement.clone(),
            query: self.info.query.clone(),
            user: self.info.terms.user.clone(),
            pool: self.info.terms.pool.clone(),
            priority: self.info.terms.priority,
            state: self.state.as_str().to_string(),
            error: self.error.clone(),
            submitted_ms: self.submitted_ms,
            started_ms: self.started_ms,
            ended_ms: self.ended_ms,
            stages: self.stages.iter().map(|stage| store_stage(stage)).collect(),
            log: self.log.lines(),
            part_of: self.info.part_of.map(|(submission, statement)| (submission.0, statement)),
            submission: self.submission.as_ref().map(|submission| StoredSubmission {
                statements: submission.statements,
                begun: submission.begun,
                jobs: submission.jobs.iter().map(|(statement, job)| (*statement, job.0)).collect(),
            }),
        };
        let whole = encode(&stored);
        if whole.len() <= MAX_BYTES {
            return whole;
        }
        for stage in &mut stored.stages {
            stage.plan.clear();
            stage.metrics.clear();
        }
        stored.statement.truncate(stored.statement.floor_char_boundary(MAX_BYTES / 4));
        if stored.log.len() > 2 * LINES {
            stored.log.drain(LINES..stored.log.len() - LINES);
        }
        if let Some(submission) = &mut stored.submission {
            submission.jobs.truncate(JOBS);
        }
        encode(&stored)
    }
}

fn store_stage(stage: &StageRecord) -> StoredStage {
    let metrics = stage.metrics.iter().map(|((operator, name), &value)| (*operator, name.clone(), value));
    StoredStage {
        inputs: stage.inputs.clone(),
        finished: stage.state.is_finished(),
        plan: stage.plan.to_string(),
        tasks: stage.tasks,
        tasks_done: stage.tasks_done,
        failed_attempts: stage.failed_attempts,
        rows: stage.rows,
        bytes: stage.bytes,
        elapsed_us: stage.elapsed.as_micros() as u64,
        task_time_us: stage.task_time.as_micros() as u64,
        metrics: metrics.collect(),
    }
}

fn restore(stored: StoredJob) -> Option<JobRecord> {
    let ended = [JobState::Finished, JobState::Failed, JobState::Cancelled];
    let state = ended.into_iter().find(|state| state.as_str() == stored.state)?;
    let terms = Terms { pool: stored.pool, user: stored.user, priority: stored.priority, ..Terms::default() };
    let info = JobInfo {
        name: stored.name,
        statement: stored.statement,
        query: stored.query,
        terms,
        part_of: stored.part_of.map(|(submission, statement)| (JobId(submission), statement)),
        ..JobInfo::default()
    };
    let mut log = Log::default();
    stored.log.into_iter().for_each(|line| log.push(line));
    let stages = (0..).zip(stored.stages).map(|(index, stage)| StageRecord {
        index,
        inputs: stage.inputs,
        state: if stage.finished { StageState::Finished } else { StageState::Stopped },
        plan: stage.plan.into(),
        tasks: stage.tasks,
        tasks_done: stage.tasks_done,
        tasks_running: 0,
        failed_attempts: stage.failed_attempts,
        rows: stage.rows,
        bytes: stage.bytes,
        elapsed: Duration::from_micros(stage.elapsed_us),
        task_time: Duration::from_micros(stage.task_time_us),
        metrics: stage.metrics.into_iter().map(|(operator, name, value)| ((operator, name), value)).collect(),
        started: None,
        attempts: 0,
    });
    Some(JobRecord {
        id: JobId(stored.id),
        info: Arc::new(info),
        state,
        error: stored.error,
        submitted_ms: stored.submitted_ms,
        started_ms: stored.started_ms,
        ended_ms: stored.ended_ms,
        stages: stages.map(Arc::new).collect(),
        submission: stored.submission.map(|submission| Submission {
            statements: submission.statements,
            begun: submission.begun,
            jobs: submission.jobs.into_iter().map(|(statement, job)| (statement, JobId(job))).collect(),
        }),
        log,
    })
}

impl History {
    /// Restores jobs that ended under earlier leaders, in the form of [`JobRecord::store`]. Returns those for which there is no room.
    pub(crate) fn restore(&self, stored: &[Bytes]) -> Vec<JobId> {
        let mut records: Vec<JobRecord> = Vec::with_capacity(stored.len());
        for bytes in stored {
            match decode(bytes).and_then(restore) {
                Some(record) => records.push(record),
                // For example another release wrote it. Nothing depends on it.
                None => tracing::warn!("a job of an earlier leader cannot be read, and is not listed"),
            }
        }
        records.sort_by_key(|record| record.ended_ms);
        let mut inner = self.inner.lock();
        let forgotten = records.into_iter().flat_map(|record| {
            let id = record.id;
            if let Some(query) = &record.info.query {
                inner.queries.insert(query.clone(), id);
            }
            inner.jobs.insert(id, record);
            inner.has_ended(id)
        });
        forgotten.collect()
    }
}
