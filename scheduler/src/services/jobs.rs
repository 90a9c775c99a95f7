//! Ended and running jobs.

use crate::driver::Driver;
use crate::driver::history::{History, JobRecord, StageRecord, Submission, brief};
pub use crate::driver::history::{JobState, StageState};
use crate::errors::QueryError;
use futures::{Stream, stream};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use windlass_core::access::Principal;
use windlass_core::ids::JobId;

/// Minimum time between two progress messages. The end of a job is sent at once.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// The jobs of a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    driver: Driver,
}

/// Selects the jobs of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobsFilter {
    /// Maximum jobs. The newest are returned.
    pub limit: usize,
    /// Whether to include the cluster's own jobs, which no user asked for.
    pub internal: bool,
}

/// A job, or a submission with its jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobView {
    pub id: JobId,
    /// The given name, or else the beginning of the statement.
    pub name: String,
    /// The statement's text. Long ones are cut.
    pub statement: String,
    pub user: String,
    pub state: JobState,
    /// Why it failed or was cancelled.
    pub error: Option<String>,
    /// Milliseconds since 1970-01-01T00:00:00Z, as are the two below.
    pub submitted_ms: u64,
    pub started_ms: Option<u64>,
    pub ended_ms: Option<u64>,
    pub stages: u32,
    pub tasks: TaskCounts,
    /// Rows that the last stage has put out so far: rows of the result or, for a statement that writes, rows of its report.
    pub rows: u64,
    /// Bytes of these rows.
    pub bytes: u64,
    /// The submission to which its statement belongs.
    pub part_of: Option<JobId>,
}

/// Tasks of all stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskCounts {
    pub all: u32,
    pub done: u32,
    pub running: u32,
}

/// A job with its stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobDetail {
    pub job: JobView,
    /// Empty for a submission, whose jobs have stages.
    pub stages: Vec<StageView>,
    /// Present for a submission.
    pub submission: Option<SubmissionView>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageView {
    pub index: u32,
    /// Indexes of the stages that it reads.
    pub inputs: Vec<u32>,
    pub state: StageState,
    /// The operators, one to a line, each with its metrics.
    pub plan: String,
    pub tasks: TaskCounts,
    pub failed_attempts: u32,
    pub rows: u64,
    pub bytes: u64,
    /// Time from the first task's start to the last one's end.
    pub elapsed: Duration,
    /// Sum over committed attempts.
    pub task_time: Duration,
}

/// The statements of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmissionView {
    /// Number of its statements.
    pub statements: u32,
    /// Number of its statements that have begun.
    pub begun: u32,
    /// Each job with the number of its statement, from 1.
    pub jobs: Vec<(u32, JobId)>,
}

/// The progress of a statement's latest job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressView {
    pub job: JobId,
    pub state: JobState,
    pub stages: u32,
    pub stages_done: u32,
    pub tasks: TaskCounts,
    /// Rows that all stages have put out so far: a measure of work, not of the result.
    pub rows_moved: u64,
    /// Bytes of these rows.
    pub bytes_moved: u64,
    /// Present if the job has ended.
    pub detail: Vec<StageView>,
}

impl Jobs {
    pub(crate) fn new(driver: Driver) -> Self {
        Jobs { driver }
    }

    fn history(&self) -> &Arc<History> {
        self.driver.history()
    }

    /// Returns jobs and submissions, newest first.
    pub fn list(&self, _: &Principal, filter: JobsFilter) -> Vec<JobView> {
        self.history().jobs(filter.limit, filter.internal, view)
    }

    /// Returns a job with its stages. `None`: no such job, or it ended long ago.
    pub fn show(&self, _: &Principal, id: JobId) -> Option<JobDetail> {
        self.history().job(id, |job| JobDetail {
            job: view(job),
            stages: job.own_stages().iter().map(|stage| stage_view(stage)).collect(),
            submission: job.submission.as_ref().map(submission_view),
        })
    }

    /// Returns the lines of its log. `None`: no such job.
    pub fn log(&self, _: &Principal, id: JobId) -> Option<Vec<String>> {
        self.history().log(id)
    }

    /// Cancels a job, or a submission with its current job, and returns the state after that. A submission ends with each of its jobs.
    /// `None`: no such job.
    ///
    /// # Errors
    /// The cancellation of a submission could not be made durable, so it may continue.
    pub async fn cancel(&self, by: &Principal, id: JobId) -> Result<Option<JobState>, QueryError> {
        let reason = match by.name() {
            "" => "by request".to_string(),
            name => format!("by request of {name}"),
        };
        // The client can ask the next leader.
        self.driver.cancel(id, &reason).await.map_err(|error| QueryError::NotLeading(error.to_string()))
    }

    /// Returns the number of jobs in each state. It counts the jobs of a submission, not the submission itself.
    pub fn counts(&self, _: &Principal) -> [(JobState, usize); JobState::ALL.len()] {
        JobState::ALL.map(|state| (state, self.history().count(state)))
    }

    /// Returns the progress of the latest job of the statement `query`. `None`: no job of it has begun.
    pub fn progress(&self, _: &Principal, query: &str) -> Option<ProgressView> {
        self.history().query(query, progress)
    }

    /// Waits until a job is listed.
    pub(crate) async fn listed(&self, id: JobId) {
        let mut changes = self.history().changes();
        // An error means that the primary stops.
        while self.history().job(id, |_| ()).is_none() && changes.changed().await.is_ok() {}
    }

    /// Waits until a job or a submission has ended, and returns it. `None`: no such job.
    pub(crate) async fn ended(&self, by: &Principal, id: JobId) -> Option<JobView> {
        let mut changes = self.history().changes();
        while !self.history().job(id, |job| job.state.has_ended())? && changes.changed().await.is_ok() {}
        self.show(by, id).map(|detail| detail.job)
    }

    /// Follows the jobs of the statement that its client named `query`, until the latest one has ended.
    pub fn watch(&self, _: &Principal, query: String) -> impl Stream<Item = ProgressView> + Send + use<> {
        stream::unfold(Watch::new(self.history().clone(), query), Watch::next)
    }
}

/// A client that watches a statement. It wakes when the history changes, and reads it at most every [`PROGRESS_EVERY`].
struct Watch {
    history: Arc<History>,
    changes: watch::Receiver<u64>,
    query: String,
    last: Option<ProgressView>,
    /// When the last message was sent.
    sent: Option<tokio::time::Instant>,
    ended: bool,
}

impl Watch {
    fn new(history: Arc<History>, query: String) -> Self {
        let changes = history.changes();
        Watch { history, changes, query, last: None, sent: None, ended: false }
    }

    async fn next(mut self) -> Option<(ProgressView, Self)> {
        if self.ended {
            return None;
        }
        loop {
            self.changes.mark_unchanged();
            if self.history.query(&self.query, |job| job.state.has_ended()).unwrap_or(false) {
                self.ended = true;
                let last = self.history.query(&self.query, |job| ProgressView {
                    detail: job.stages.iter().map(|stage| stage_view(stage)).collect(),
                    ..progress(job)
                })?;
                return Some((last, self));
            }
            let quiet =
                self.sent.map(|sent| sent + PROGRESS_EVERY).filter(|until| *until > tokio::time::Instant::now());
            if quiet.is_none()
                && let Some(now) = self.history.query(&self.query, progress)
                && self.last.as_ref() != Some(&now)
            {
                self.sent = Some(tokio::time::Instant::now());
                self.last = Some(now.clone());
                return Some((now, self));
            }
            let pause = async {
                match quiet {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = pause => {}
            }
        }
    }
}

fn tasks(job: &JobRecord) -> TaskCounts {
    let (all, done, running) = job.tasks();
    TaskCounts { all, done, running }
}

fn progress(job: &JobRecord) -> ProgressView {
    let (rows_moved, bytes_moved) = job.produced();
    ProgressView {
        job: job.id,
        state: job.state,
        stages: job.stages.len() as u32,
        stages_done: job.stages.iter().filter(|stage| stage.state.is_finished()).count() as u32,
        tasks: tasks(job),
        rows_moved,
        bytes_moved,
        detail: Vec::new(),
    }
}

fn view(job: &JobRecord) -> JobView {
    let result = job.stages.last();
    JobView {
        id: job.id,
        name: match job.info.name.as_str() {
            "" => brief(&job.info.statement),
            name => name.to_string(),
        },
        statement: job.info.statement.clone(),
        user: job.info.terms.user.clone(),
        state: job.state,
        error: job.error.clone(),
        submitted_ms: job.submitted_ms,
        started_ms: job.started_ms,
        ended_ms: job.ended_ms,
        stages: job.stages.len() as u32,
        tasks: tasks(job),
        rows: result.map_or(0, |stage| stage.rows),
        bytes: result.map_or(0, |stage| stage.bytes),
        part_of: job.info.part_of.map(|(submission, _)| submission),
    }
}

fn submission_view(submission: &Submission) -> SubmissionView {
    SubmissionView {
        statements: submission.statements,
        begun: submission.begun,
        jobs: submission.jobs.iter().map(|(statement, job)| (statement + 1, *job)).collect(),
    }
}

fn stage_view(stage: &StageRecord) -> StageView {
    StageView {
        index: stage.index,
        inputs: stage.inputs.clone(),
        state: stage.state,
        plan: stage.plan_with_metrics(),
        tasks: TaskCounts { all: stage.tasks, done: stage.tasks_done, running: stage.tasks_running },
        failed_attempts: stage.failed_attempts,
        rows: stage.rows,
        bytes: stage.bytes,
        elapsed: stage.elapsed,
        task_time: stage.task_time,
    }
}
