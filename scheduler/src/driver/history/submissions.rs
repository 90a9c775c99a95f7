//! Submissions: consecutive statements, each of which runs as one job, as two, or as none.
//!
//! The record of a submission holds its progress and its end. What its jobs did is read from their own records, as long as those are
//! kept.

use super::{History, Inner, JobInfo, JobRecord, JobState, Log, Moment, StageRecord, brief, cut};
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use windlass_core::ids::JobId;

/// The statements and jobs of a submission.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submission {
    pub statements: u32,
    /// Number of statements that have begun.
    pub begun: u32,
    /// Jobs in the order in which they began, each with the index of its statement, from 0.
    pub jobs: Vec<(u32, JobId)>,
}

impl Submission {
    /// Returns the present job, or the last one.
    pub fn last_job(&self) -> Option<JobId> {
        self.jobs.last().map(|(_, job)| *job)
    }
}

impl History {
    /// Adds a submission. `submitted_ms`: when it was accepted, perhaps by an earlier leader.
    pub(crate) fn submission_started(&self, now: Moment, id: JobId, info: JobInfo, statements: u32, submitted_ms: u64) {
        let mut inner = self.inner.lock();
        let parts = inner.jobs.values().filter_map(|job| {
            let (submission, statement) = job.info.part_of?;
            (submission == id).then_some((statement, job.id))
        });
        let mut record = JobRecord {
            id,
            info: Arc::new(JobInfo { statement: cut(&info.statement).to_string(), ..info }),
            state: JobState::Running,
            error: None,
            submitted_ms,
            started_ms: Some(now.wall_ms),
            ended_ms: None,
            stages: Vec::new(),
            submission: Some(Submission { statements, begun: 0, jobs: parts.collect() }),
            log: Log::default(),
        };
        record.log(now, format_args!("submitted: {statements} statements"));
        if inner.jobs.insert(id, record).is_some() {
            // An earlier leader recorded it as ended and did not delete the record.
            inner.ended.retain(|ended| *ended != id);
        }
        drop(inner);
        self.changed();
    }

    pub(crate) fn submission_at(&self, now: Moment, id: JobId, statement: u32, text: &str) {
        self.inner.lock().update(id, |record| {
            let Some(submission) = &mut record.submission else { return };
            submission.begun = statement + 1;
            let (number, all) = (statement + 1, submission.statements);
            record.log(now, format_args!("statement {number} of {all}: {}", brief(text)));
        });
        self.changed();
    }

    /// Logs a wait: primaries have died of the statement.
    pub(crate) fn submission_waits(&self, now: Moment, id: JobId, statement: u32, long: Duration) {
        self.inner.lock().update(id, |record| {
            let (number, seconds) = (statement + 1, long.as_secs());
            record
                .log(now, format_args!("statement {number} waits for {seconds} s: primaries have not lived to run it"));
        });
        self.changed();
    }

    /// Returns the stored form of the record for a submission that ends in this state.
    pub(crate) fn submission_ending(
        &self,
        now: Moment,
        id: JobId,
        state: JobState,
        error: Option<String>,
    ) -> Option<Bytes> {
        let mut record = self.inner.lock().jobs.get(&id)?.clone();
        record.end(now, state, error);
        Some(record.store())
    }

    /// Ends a submission. Returns the jobs that are forgotten to make room.
    pub(crate) fn submission_ended(
        &self,
        now: Moment,
        id: JobId,
        state: JobState,
        error: Option<String>,
    ) -> Vec<JobId> {
        let mut inner = self.inner.lock();
        let Some(record) = inner.jobs.get_mut(&id) else { return Vec::new() };
        record.end(now, state, error);
        let forgotten = inner.has_ended(id);
        drop(inner);
        self.changed();
        forgotten
    }
}

impl Inner {
    /// Returns the record. For a submission it has the stages of its jobs, and no log, because lists do not show it.
    pub(super) fn whole<'a>(&'a self, record: &'a JobRecord) -> Cow<'a, JobRecord> {
        let Some(submission) = &record.submission else { return Cow::Borrowed(record) };
        Cow::Owned(JobRecord {
            id: record.id,
            info: Arc::clone(&record.info),
            state: record.state,
            error: record.error.clone(),
            submitted_ms: record.submitted_ms,
            started_ms: record.started_ms,
            ended_ms: record.ended_ms,
            stages: self.parts(submission).flat_map(|job| job.stages.iter().cloned()).collect(),
            submission: Some(submission.clone()),
            log: Log::default(),
        })
    }

    /// Returns the lines of its log. For a submission, they are merged with those of its jobs.
    pub(super) fn log(&self, record: &JobRecord) -> Vec<String> {
        let lines = record.log.lines();
        let Some(submission) = &record.submission else { return lines };
        let mut whole = Log::default();
        let mut lines: Vec<String> = lines.into_iter().chain(self.parts(submission).flat_map(lines_of_part)).collect();
        // Lines begin with their times. Lines of the same time stay in order.
        lines.sort_by(|one, other| time_of(one).cmp(time_of(other)));
        lines.into_iter().for_each(|line| whole.push(line));
        whole.lines()
    }

    /// Returns the submission's jobs that are still kept.
    fn parts<'a>(&'a self, submission: &'a Submission) -> impl Iterator<Item = &'a JobRecord> {
        submission.jobs.iter().filter_map(|(_, job)| self.jobs.get(job))
    }
}

fn lines_of_part(job: &JobRecord) -> impl Iterator<Item = String> {
    let id = job.id;
    job.log.lines().into_iter().map(move |line| match line.split_once(' ') {
        Some((time, text)) => format!("{time} {id}: {text}"),
        None => line,
    })
}

fn time_of(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

impl JobRecord {
    /// Returns the stages, without those of a submission's jobs.
    pub(crate) fn own_stages(&self) -> &[Arc<StageRecord>] {
        if self.submission.is_some() { &[] } else { &self.stages }
    }

    /// Adds a job of the submission that has begun.
    pub(super) fn part_started(&mut self, statement: u32, job: JobId) {
        if let Some(submission) = &mut self.submission
            && !submission.jobs.contains(&(statement, job))
        {
            submission.jobs.push((statement, job));
        }
    }
}
