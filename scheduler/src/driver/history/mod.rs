//! The history of jobs: one record for each job, derived only from the scheduler's facts, and one for each submission.
//!
//! The driver writes. All others (administration, web UI, EXPLAIN ANALYZE) read here and never in the machine. The history is bounded:
//! it keeps the last `limit` ended jobs, cuts long texts, and keeps the first and last lines of each log.

mod log;
mod stage;
mod stored;
mod submissions;

pub use stage::{StageRecord, StageState};
pub use submissions::Submission;

use crate::driver::saved::Begun;
use bytes::Bytes;
use log::{Log, line};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use windlass_core::event::{Fact, JobError};
use windlass_core::failure::TaskFailure;
use windlass_core::ids::{JobId, StageId};
use windlass_core::job::{Retention, Terms};
use windlass_core::time::Instant;
use windlass_engine::{OperatorMetrics, PlannedJob};

/// Maximum bytes of a statement or plan in the history. Longer ones are cut.
const MAX_TEXT: usize = 64 << 10;
/// Maximum ended internal jobs in the history.
const MAX_INTERNAL: usize = 200;
/// Characters from the beginning of a statement that lists show.
const BRIEF: usize = 80;

/// What the history knows of a job besides the scheduler's facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobInfo {
    /// The name in lists. Empty: the beginning of the statement.
    pub name: String,
    pub statement: String,
    /// The name under which the client watches the statement's progress.
    pub query: Option<String>,
    /// The terms of the job, which name its user.
    pub terms: Terms,
    /// The submission whose statement the job runs, and the statement's index, from 0.
    pub part_of: Option<(JobId, u32)>,
    /// The statement's name, if it may be sent to another leader. Its finished stages are saved under it.
    pub saved_as: Option<String>,
    /// What an earlier leader did for the statement.
    pub begun: Option<Arc<Begun>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    Queued,
    Running,
    Finished,
    Failed,
    Cancelled,
}

impl JobState {
    pub const ALL: [JobState; 5] =
        [JobState::Queued, JobState::Running, JobState::Finished, JobState::Failed, JobState::Cancelled];

    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Finished => "finished",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }

    pub fn has_ended(self) -> bool {
        match self {
            JobState::Queued | JobState::Running => false,
            JobState::Finished | JobState::Failed | JobState::Cancelled => true,
        }
    }
}

#[derive(Clone, Debug)]
pub struct JobRecord {
    pub id: JobId,
    pub info: Arc<JobInfo>,
    pub state: JobState,
    pub error: Option<String>,
    /// Wall clock, milliseconds since 1970-01-01T00:00:00Z.
    pub submitted_ms: u64,
    pub started_ms: Option<u64>,
    pub ended_ms: Option<u64>,
    /// Shared with the outcome of the job.
    pub stages: Vec<Arc<StageRecord>>,
    /// Present if the record is a submission's.
    pub submission: Option<Submission>,
    log: Log,
}

/// When a batch of facts was derived, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub at: Instant,
    pub wall_ms: u64,
}

/// What the executor measured in an attempt, for the fact that commits it.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub elapsed: Duration,
    pub metrics: Vec<OperatorMetrics>,
}

/// The records of jobs. A reader holds the lock for the time of one copy.
#[derive(Debug)]
pub struct History {
    inner: Mutex<Inner>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    jobs: BTreeMap<JobId, JobRecord>,
    /// Ended jobs of users, in the order in which they ended.
    ended: VecDeque<JobId>,
    /// Ended internal jobs of the cluster, in the same order.
    internal: VecDeque<JobId>,
    queries: BTreeMap<String, JobId>,
    limit: usize,
    counts: Counts,
}

/// Counts of events since this primary began to lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub committed: u64,
    /// Attempts that failed, by [`TaskFailure::kind`].
    pub failed: BTreeMap<&'static str, u64>,
    /// Tasks that ran again because their outputs were lost.
    pub recomputed: u64,
    /// Second attempts of slow tasks.
    pub speculated: u64,
    /// Outputs that moved off leaving executors.
    pub moved: u64,
    /// Outputs from earlier leaders that jobs took over.
    pub taken_over: u64,
    pub executors_lost: u64,
}

impl Counts {
    fn count(&mut self, fact: &Fact) {
        match fact {
            Fact::TaskCommitted { .. } => self.committed += 1,
            Fact::TaskFailed { failure, .. } => *self.failed.entry(failure.kind()).or_default() += 1,
            Fact::StageReopened { partitions, .. } => self.recomputed += partitions.len() as u64,
            Fact::TaskSpeculated { .. } => self.speculated += 1,
            Fact::OutputMoved { .. } => self.moved += 1,
            Fact::OutputTakenOver { .. } => self.taken_over += 1,
            Fact::ExecutorLost { .. } => self.executors_lost += 1,
            _ => {}
        }
    }
}

impl History {
    pub fn new(limit: usize) -> Self {
        let inner = Inner {
            jobs: BTreeMap::new(),
            ended: VecDeque::new(),
            internal: VecDeque::new(),
            queries: BTreeMap::new(),
            limit: limit.max(1),
            counts: Counts::default(),
        };
        History { inner: Mutex::new(inner), changes: watch::Sender::new(0) }
    }

    /// Returns a receiver that wakes after each change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub fn job<T>(&self, id: JobId, read: impl FnOnce(&JobRecord) -> T) -> Option<T> {
        let inner = self.inner.lock();
        inner.jobs.get(&id).map(|record| read(&inner.whole(record)))
    }

    /// Reads the latest job of the statement that a client gave this name.
    pub fn query<T>(&self, query: &str, read: impl FnOnce(&JobRecord) -> T) -> Option<T> {
        let inner = self.inner.lock();
        let id = inner.queries.get(query)?;
        inner.jobs.get(id).map(read)
    }

    /// Reads jobs, newest first. `internal`: includes the cluster's own.
    pub fn jobs<T>(&self, limit: usize, internal: bool, mut read: impl FnMut(&JobRecord) -> T) -> Vec<T> {
        let inner = self.inner.lock();
        let shown = inner.jobs.values().rev().filter(|record| internal || !record.is_internal());
        shown.take(limit).map(|record| read(&inner.whole(record))).collect()
    }

    /// Returns the record of a job in its stored form. `None`: no such job, or an internal one.
    pub(crate) fn stored(&self, id: JobId) -> Option<Bytes> {
        let inner = self.inner.lock();
        inner.jobs.get(&id).filter(|record| !record.is_internal()).map(JobRecord::store)
    }

    pub fn counts(&self) -> Counts {
        self.inner.lock().counts.clone()
    }

    /// Returns the number of jobs in a state. It counts the jobs of a submission, not the submission itself.
    pub fn count(&self, state: JobState) -> usize {
        let inner = self.inner.lock();
        inner.jobs.values().filter(|job| job.state == state && job.submission.is_none()).count()
    }

    pub fn log(&self, id: JobId) -> Option<Vec<String>> {
        let inner = self.inner.lock();
        inner.jobs.get(&id).map(|record| inner.log(record))
    }

    pub(crate) fn submitted(&self, now: Moment, id: JobId, info: Arc<JobInfo>, plan: &PlannedJob) {
        let stages = plan
            .stages
            .iter()
            .enumerate()
            .map(|(index, stage)| Arc::new(StageRecord::new(index as u32, stage)))
            .collect();
        let mut info = info;
        if info.statement.len() > MAX_TEXT {
            Arc::make_mut(&mut info).statement = cut(&info.statement).to_string();
        }
        let mut record = JobRecord {
            id,
            info,
            state: JobState::Queued,
            error: None,
            submitted_ms: now.wall_ms,
            started_ms: None,
            ended_ms: None,
            stages,
            submission: None,
            log: Log::default(),
        };
        let tasks: u64 = plan.stages.iter().map(|stage| u64::from(stage.tasks)).sum();
        record.log(now, format_args!("submitted: {} stages, {tasks} tasks", plan.stages.len()));
        let mut inner = self.inner.lock();
        if let Some(query) = &record.info.query {
            inner.queries.insert(query.clone(), id);
        }
        if let Some((submission, statement)) = record.info.part_of {
            inner.update(submission, |record| record.part_started(statement, id));
        }
        if inner.jobs.insert(id, record).is_some() {
            // The job ended under an earlier leader, and runs again.
            inner.ended.retain(|ended| *ended != id);
        }
        drop(inner);
        self.changed();
    }

    /// Applies a fact. `measured` belongs to the attempt that a fact of this batch commits. Returns the jobs that are forgotten to make
    /// room for an ended one.
    pub(crate) fn apply(&self, now: Moment, fact: &Fact, measured: Option<Measured>) -> Vec<JobId> {
        let mut inner = self.inner.lock();
        inner.counts.count(fact);
        match fact {
            Fact::JobEnded { job, error } => return inner.end(now, *job, error.as_ref()),
            Fact::ExecutorJoined { .. }
            | Fact::ExecutorLost { .. }
            | Fact::ExecutorExcluded { .. }
            | Fact::ExecutorReadmitted { .. }
            | Fact::OutputTakenOver { .. }
            | Fact::OutputMoved { .. }
            | Fact::OutputNotMoved { .. } => {}
            Fact::JobStarted { job } => inner.update(*job, |job| job.start(now)),
            Fact::StageStarted { stage } => inner.stage(*stage, |job, index| job.start_stage(now, index)),
            Fact::StageFinished { stage, rows, bytes } => {
                inner.stage(*stage, |job, index| job.finish_stage(now, index, *rows, *bytes));
            }
            Fact::StageReopened { stage, partitions } => inner.stage(*stage, |job, index| {
                job.log(
                    now,
                    format_args!("stage {index} runs again for partitions {partitions:?}: their outputs are lost"),
                );
                let stage = job.stage(index);
                stage.state = StageState::Running;
                stage.tasks_done = stage.tasks_done.min(stage.tasks.saturating_sub(partitions.len() as u32));
            }),
            Fact::TaskStarted { attempt, .. } => inner.stage(attempt.stage(), |job, index| {
                let stage = job.stage(index);
                stage.tasks_running += 1;
                stage.attempts += 1;
                stage.started.get_or_insert(now.at);
            }),
            Fact::TaskSpeculated { attempt, executor } => inner.update(attempt.job(), |job| {
                job.log(now, format_args!("{} takes long: {attempt} starts on {executor} too", attempt.task));
            }),
            Fact::StageTakenOver { stage, outputs, rows, bytes } => inner.stage(*stage, |job, index| {
                let stage = job.stage(index);
                (stage.tasks_done, stage.rows, stage.bytes) = (*outputs, *rows, *bytes);
                let tasks = stage.tasks;
                job.log(
                    now,
                    format_args!("under an earlier leader, stage {index} had left {outputs} of {tasks} outputs"),
                );
            }),
            Fact::TaskCommitted { attempt, rows, bytes, .. } => inner.stage(attempt.stage(), |job, index| {
                job.stage(index).commit(now, *rows, *bytes, measured);
            }),
            Fact::TaskFailed { attempt, executor, failure } => inner.stage(attempt.stage(), |job, index| {
                job.log(now, format_args!("{attempt} failed on {executor} ({}): {failure}", failure.kind()));
                let stage = job.stage(index);
                stage.tasks_running = stage.tasks_running.saturating_sub(1);
                // A stopped attempt has not failed.
                stage.failed_attempts += u32::from(*failure != TaskFailure::Cancelled);
            }),
            Fact::ReportFenced { attempt, executor } => inner.update(attempt.job(), |job| {
                job.log(now, format_args!("a late report about {attempt} from {executor} was refused"));
            }),
        }
        Vec::new()
    }

    /// Adds a line to the logs of all jobs that have not ended, for example about the loss of an executor.
    pub(crate) fn note_live(&self, now: Moment, line: &str) {
        let mut inner = self.inner.lock();
        for job in inner.jobs.values_mut().filter(|job| !job.state.has_ended() && job.submission.is_none()) {
            job.log(now, format_args!("{line}"));
        }
    }

    /// Wakes the receivers of [`History::changes`]. Call it once after a batch of facts.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|version| *version += 1);
    }
}

impl Inner {
    fn update(&mut self, id: JobId, change: impl FnOnce(&mut JobRecord)) {
        if let Some(job) = self.jobs.get_mut(&id) {
            change(job);
        }
    }

    fn stage(&mut self, id: StageId, change: impl FnOnce(&mut JobRecord, usize)) {
        let index = id.index as usize;
        self.update(id.job, |job| {
            if index < job.stages.len() {
                change(job, index);
            }
        });
    }

    fn end(&mut self, now: Moment, id: JobId, error: Option<&JobError>) -> Vec<JobId> {
        let Some(job) = self.jobs.get_mut(&id) else { return Vec::new() };
        if job.state.has_ended() {
            return Vec::new();
        }
        let state = match error {
            None => JobState::Finished,
            Some(JobError::Cancelled { .. }) => JobState::Cancelled,
            Some(_) => JobState::Failed,
        };
        job.end(now, state, error.map(ToString::to_string));
        self.has_ended(id)
    }

    /// Makes room for an ended job. Returns the jobs that are forgotten.
    fn has_ended(&mut self, id: JobId) -> Vec<JobId> {
        let (ended, limit) = match self.jobs.get(&id).is_some_and(JobRecord::is_internal) {
            true => (&mut self.internal, MAX_INTERNAL),
            false => (&mut self.ended, self.limit),
        };
        ended.push_back(id);
        let mut all = Vec::new();
        while ended.len() > limit {
            let Some(oldest) = ended.pop_front() else { break };
            let Some(forgotten) = self.jobs.remove(&oldest) else { continue };
            all.push(oldest);
            if let Some(query) = &forgotten.info.query
                && self.queries.get(query) == Some(&oldest)
            {
                self.queries.remove(query);
            }
        }
        all
    }
}

impl JobRecord {
    pub fn is_internal(&self) -> bool {
        self.info.terms.retention == Retention::Internal
    }

    /// Returns the tasks of all stages: (all, done, running).
    pub fn tasks(&self) -> (u32, u32, u32) {
        self.stages.iter().fold((0, 0, 0), |(all, done, running), stage| {
            (all + stage.tasks, done + stage.tasks_done, running + stage.tasks_running)
        })
    }

    /// Returns the output of all stages so far: (rows, bytes).
    pub fn produced(&self) -> (u64, u64) {
        self.stages.iter().fold((0, 0), |(rows, bytes), stage| (rows + stage.rows, bytes + stage.bytes))
    }

    fn stage(&mut self, index: usize) -> &mut StageRecord {
        Arc::make_mut(&mut self.stages[index])
    }

    fn log(&mut self, now: Moment, text: std::fmt::Arguments<'_>) {
        self.log.push(line(now, text));
    }

    fn start(&mut self, now: Moment) {
        if self.state == JobState::Queued {
            self.state = JobState::Running;
        }
        self.started_ms.get_or_insert(now.wall_ms);
        self.log(now, format_args!("started"));
    }

    fn end(&mut self, now: Moment, state: JobState, error: Option<String>) {
        self.state = state;
        self.error = error.map(|error| cut(&error).to_string());
        self.ended_ms = Some(now.wall_ms);
        for stage in self.stages.iter_mut().map(Arc::make_mut) {
            stage.tasks_running = 0;
            if stage.state != StageState::Finished {
                stage.state = StageState::Stopped;
            }
        }
        self.log.push(match &self.error {
            None => line(now, format_args!("{}", state.as_str())),
            // The error already says that the job was cancelled.
            Some(error) if state == JobState::Cancelled => line(now, format_args!("{error}")),
            Some(error) => line(now, format_args!("{}: {error}", state.as_str())),
        });
    }

    fn start_stage(&mut self, now: Moment, index: usize) {
        let stage = self.stage(index);
        stage.state = StageState::Running;
        stage.started.get_or_insert(now.at);
        let tasks = stage.tasks;
        self.log(now, format_args!("stage {index} started: {tasks} tasks"));
    }

    fn finish_stage(&mut self, now: Moment, index: usize, rows: u64, bytes: u64) {
        let stage = self.stage(index);
        stage.state = StageState::Finished;
        stage.tasks_running = 0;
        (stage.rows, stage.bytes) = (rows, bytes);
        if let Some(started) = stage.started {
            stage.elapsed = now.at.since(started);
        }
        let ms = stage.elapsed.as_millis();
        self.log(now, format_args!("stage {index} finished: {rows} rows, {bytes} bytes in {ms} ms"));
    }
}

/// Returns the beginning of a statement, on one line, for lists.
pub fn brief(statement: &str) -> String {
    let words = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(BRIEF) {
        Some((end, _)) => format!("{}...", &words[..end]),
        None => words,
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

#[cfg(test)]
mod tests {
    use super::log::{LOG_LINES, rfc3339};
    use super::*;
    use crate::fixtures;
    use windlass_core::ids::ExecutorId;

    fn at(us: u64) -> Moment {
        Moment { at: Instant(us), wall_ms: us / 1_000 }
    }

    fn submit(history: &History, id: u64) -> JobId {
        let info = JobInfo { query: Some(format!("q{id}")), ..Default::default() };
        history.submitted(at(0), JobId(id), Arc::new(info), &fixtures::planned(&[2]));
        JobId(id)
    }

    fn measured(rows: u64, peak: u64) -> Measured {
        let values = vec![("output_rows".to_string(), rows), ("peak_mem_used".to_string(), peak)];
        Measured { elapsed: Duration::from_micros(7), metrics: vec![OperatorMetrics { operator: 1, values }] }
    }

    #[test]
    fn committed_tasks_add_up_and_failed_ones_do_not() {
        let history = History::new(10);
        let job = submit(&history, 1);
        let stage = job.stage(0);
        let executor = ExecutorId(1);
        history.apply(at(10), &Fact::JobStarted { job }, None);
        history.apply(at(10), &Fact::StageStarted { stage }, None);
        for partition in 0..2 {
            let attempt = stage.task(partition).attempt(0);
            history.apply(at(20), &Fact::TaskStarted { attempt, executor }, None);
        }
        let ran_once = || history.job(job, |job| job.stages[0].ran_once());
        assert_eq!(ran_once(), Some(true));
        let failed = stage.task(1).attempt(0);
        let failure = TaskFailure::Io { message: "disk".into() };
        history.apply(at(30), &Fact::TaskFailed { attempt: failed, executor, failure }, None);
        history.apply(at(30), &Fact::TaskStarted { attempt: stage.task(1).attempt(1), executor }, None);
        assert_eq!(ran_once(), Some(false));
        for (partition, rows, peak) in [(0, 5, 100), (1, 6, 40)] {
            let attempt = stage.task(partition).attempt(partition);
            let fact = Fact::TaskCommitted { attempt, executor, rows, bytes: 10 };
            history.apply(at(40), &fact, Some(measured(rows, peak)));
        }
        history.apply(at(60), &Fact::StageFinished { stage, rows: 11, bytes: 20 }, None);
        history.apply(at(61), &Fact::JobEnded { job, error: None }, None);
        let record = history.job(job, Clone::clone).unwrap();
        let stage = &record.stages[0];
        assert_eq!(record.state, JobState::Finished);
        assert_eq!((stage.tasks_done, stage.failed_attempts, stage.rows, stage.bytes), (2, 1, 11, 20));
        assert_eq!((stage.elapsed, stage.task_time), (Duration::from_micros(50), Duration::from_micros(14)));
        let text = stage.plan_with_metrics();
        assert_eq!(text, "SortExec\n  DataSourceExec, metrics=[output_rows=11, peak_mem_used=100]\n");
        assert!(history.log(job).unwrap().iter().any(|line| line.contains("(io)")));
    }

    #[test]
    fn only_the_last_ended_jobs_are_kept_and_live_ones_always() {
        let history = History::new(2);
        let live = submit(&history, 1);
        for id in 2..6 {
            let job = submit(&history, id);
            let error = Some(JobError::Cancelled { reason: "test".into() });
            history.apply(at(1), &Fact::JobEnded { job, error }, None);
        }
        let ids = history.jobs(10, false, |job| job.id);
        assert_eq!(ids, vec![JobId(5), JobId(4), live]);
        assert_eq!(history.query("q2", |job| job.id), None);
        assert_eq!(history.query("q5", |job| job.state), Some(JobState::Cancelled));
    }

    #[test]
    fn internal_jobs_take_no_place_of_users_jobs() {
        let history = History::new(3);
        let end = |id: u64, retention| {
            let terms = Terms { retention, ..Terms::default() };
            let info = JobInfo { query: Some(format!("q{id}")), terms, ..Default::default() };
            history.submitted(at(0), JobId(id), Arc::new(info), &fixtures::planned(&[1]));
            history.apply(at(1), &Fact::JobEnded { job: JobId(id), error: None }, None)
        };
        let mut forgotten = Vec::new();
        for id in 1..=5_000 {
            let retention = if id % 2_000 == 1 { Retention::User } else { Retention::Internal };
            forgotten.extend(end(id, retention));
        }
        let users = [4_001, 2_001, 1].map(JobId);
        assert_eq!(history.jobs(10, false, |job| job.id), users);
        assert!(users.iter().all(|job| !forgotten.contains(job)));
        assert!(users.iter().all(|job| history.stored(*job).is_some()));
        assert_eq!(history.jobs(10, true, |job| job.id)[..2], [5_000, 4_999].map(JobId));
        assert_eq!(history.jobs(10_000, true, |job| job.id).len(), 3 + MAX_INTERNAL);
        assert_eq!(history.stored(JobId(5_000)), None, "nothing of it is written");
        // A kept internal job is found by its id and by its statement's name.
        assert!(history.job(JobId(5_000), |_| ()).is_some() && history.query("q5000", |_| ()).is_some());
        assert!(history.job(JobId(2), |_| ()).is_none() && history.query("q2", |_| ()).is_none());
        // Users' jobs still make room for one another.
        assert_eq!(end(5_001, Retention::User), [JobId(1)]);
    }

    #[test]
    fn a_submission_is_as_far_as_its_jobs() {
        let (history, submission) = (History::new(10), JobId(1));
        let info = JobInfo { name: "nightly".into(), statement: "a;\nb".into(), ..Default::default() };
        history.submission_started(at(0), submission, info, 2, 0);
        for number in 0..2 {
            history.submission_at(at(1_000), submission, number, "select 1");
            let part_of = Some((submission, number));
            let job = JobId(2 + u64::from(number));
            let info = Arc::new(JobInfo { part_of, ..Default::default() });
            history.submitted(at(2_000), job, info, &fixtures::planned(&[2]));
            let attempt = job.stage(0).task(0).attempt(0);
            let fact = Fact::TaskCommitted { attempt, executor: ExecutorId(1), rows: 5, bytes: 10 };
            history.apply(at(3_000), &fact, None);
        }
        history.apply(at(4_000), &Fact::JobEnded { job: JobId(2), error: None }, None);
        assert_eq!((history.count(JobState::Running), history.count(JobState::Queued)), (0, 1), "its jobs count");
        history.note_live(at(5_000), "an executor was lost");
        let (state, error) = (JobState::Failed, Some("b is wrong".to_string()));
        let stored = history.submission_ending(at(6_000), submission, state, error.clone()).unwrap();
        assert_eq!(history.job(submission, |record| record.state), Some(JobState::Running), "the store comes first");
        history.submission_ended(at(6_000), submission, state, error);
        let show = |record: &JobRecord| {
            assert!(record.own_stages().is_empty());
            (record.state, record.tasks(), record.submission.clone(), record.error.clone())
        };
        let parts = Submission { statements: 2, begun: 2, jobs: vec![(0, JobId(2)), (1, JobId(3))] };
        let expected = (JobState::Failed, (4, 2, 0), Some(parts), Some("b is wrong".to_string()));
        assert_eq!(history.job(submission, show), Some(expected.clone()));
        let log: Vec<String> = history.log(submission).unwrap();
        let log: Vec<&str> = log.iter().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(
            log,
            [
                "submitted: 2 statements",
                "statement 1 of 2: select 1",
                "statement 2 of 2: select 1",
                "job-000002: submitted: 1 stages, 2 tasks",
                "job-000003: submitted: 1 stages, 2 tasks",
                "job-000002: finished",
                "job-000003: an executor was lost",
                "failed: b is wrong",
            ]
        );
        let job = history.job(JobId(2), JobRecord::store).unwrap();
        let next = History::new(10);
        next.restore(&[stored.clone(), job]);
        let (state, tasks, parts, error) = next.job(submission, show).unwrap();
        assert_eq!((state, tasks, parts, error), (expected.0, (2, 1, 0), expected.2, expected.3));
        let earlier = String::from_utf8(stored.to_vec()).unwrap().replace("\"submission\":", "\"program\":");
        let of_earlier = History::new(10);
        of_earlier.restore(&[earlier.into()]);
        let statements = of_earlier.job(submission, |record| record.submission.as_ref().map(|of| of.statements));
        assert_eq!(statements, Some(Some(2)), "as earlier releases called it");
        // After the next leader continues the submission, its job is that of the ended statement.
        next.submission_started(at(7_000), submission, JobInfo::default(), 2, 0);
        assert_eq!(next.job(submission, |record| record.submission.clone().unwrap().jobs), Some(vec![(0, JobId(2))]));
    }

    #[test]
    fn what_is_stored_is_listed_again() {
        let history = History::new(10);
        for id in 1..4 {
            let job = submit(&history, id);
            let stage = job.stage(0);
            history.apply(at(5), &Fact::StageStarted { stage }, None);
            let attempt = stage.task(0).attempt(0);
            let fact = Fact::TaskCommitted { attempt, executor: ExecutorId(1), rows: 5, bytes: 10 };
            history.apply(at(10), &fact, Some(measured(5, 100)));
            let error = (id == 2).then(|| JobError::Cancelled { reason: "test".into() });
            history.apply(at(id * 1_000), &Fact::JobEnded { job, error }, None);
        }
        let stored = history.jobs(10, false, JobRecord::store);
        let next = History::new(2);
        let bad = [stored, vec!["{}".into()]].concat();
        assert_eq!(next.restore(&bad), [JobId(1)]);
        for id in [2, 3].map(JobId) {
            let show = |job: &JobRecord| format!("{job:?} {:?}", job.stages[0].plan_with_metrics());
            let without_clock = |text: String| text.replace("started: Some(Instant(5))", "started: None");
            assert_eq!(next.job(id, show), history.job(id, show).map(without_clock));
        }
        assert_eq!(next.query("q3", |job| job.state), Some(JobState::Finished));
    }

    #[test]
    fn a_record_that_is_too_long_is_stored_in_short() {
        let history = History::new(10);
        let job = submit(&history, 1);
        let executor = ExecutorId(1);
        for number in 0..3_000 {
            let failure = TaskFailure::Io { message: "disk ".repeat(20) };
            let attempt = job.stage(0).task(0).attempt(number);
            history.apply(at(1), &Fact::TaskFailed { attempt, executor, failure }, None);
        }
        history.apply(at(2), &Fact::JobEnded { job, error: None }, None);
        let stored = history.job(job, JobRecord::store).unwrap();
        assert!(stored.len() < 64 << 10, "{}", stored.len());
        let next = History::new(2);
        next.restore(&[stored]);
        let log = next.log(job).unwrap();
        assert!(log.len() == 40 && log[39].ends_with("finished"), "{log:?}");
    }

    #[test]
    fn long_logs_keep_both_ends() {
        let mut log = Log::default();
        (0..5_000).for_each(|line| log.push(line.to_string()));
        let lines = log.lines();
        assert_eq!((lines.len(), lines[0].as_str(), lines.last().unwrap().as_str()), (2 * LOG_LINES + 1, "0", "4999"));
        assert!(lines[LOG_LINES].contains("4000 lines"));
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_709_210_096_007), "2024-02-29T12:34:56.007Z");
    }
}
