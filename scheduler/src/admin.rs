//! The Admin service: jobs and executors, for the command line and for programs.

use crate::driver::history::{History, JobInfo, JobRecord, JobState, Program, StageRecord, brief};
use crate::driver::{Driver, ExecutorEntry, Standing};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use windlass_core::event::Role;
use windlass_core::ids::{ExecutorId, JobId};
use windlass_proto::v1::admin_server::Admin;
use windlass_proto::{v1, version};

/// Progress is sent at most this often; the end of a job is sent at once.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
const DEFAULT_JOBS: usize = 100;

/// Runs statements that nobody waits for. Implemented where statements are planned.
#[async_trait]
pub trait SubmitStatement: Send + Sync {
    /// Starts the statements in a session of their own, and returns when the first job among theirs runs, or there was no need for one.
    /// The id is that of all together.
    async fn submit(&self, request: DetachedStatement) -> Result<JobId, SubmitError>;
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DetachedStatement {
    pub sql: String,
    /// Empty: the beginning of the statement.
    pub name: String,
    /// Session options, as SET takes them.
    pub options: HashMap<String, String>,
}

#[derive(Debug, Error)]
pub enum SubmitError {
    /// The statement is at fault.
    #[error("{0}")]
    Invalid(String),
    /// The cluster cannot take it at this time.
    #[error("{0}")]
    Busy(String),
    #[error("{0}")]
    Internal(String),
}

pub struct AdminService {
    driver: Driver,
    submit: Option<Arc<dyn SubmitStatement>>,
    /// Where the REST interface answers; empty: nowhere.
    rest_url: String,
    started: Instant,
}

impl AdminService {
    /// `submit`: without one, `Submit` is refused.
    pub fn new(driver: Driver, submit: Option<Arc<dyn SubmitStatement>>, rest_url: String) -> Self {
        AdminService { driver, submit, rest_url, started: Instant::now() }
    }

    fn history(&self) -> &History {
        self.driver.history()
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    type WatchQueryStream = BoxStream<'static, Result<v1::QueryProgress, Status>>;

    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Result<Response<v1::SubmitResponse>, Status> {
        let v1::SubmitRequest { sql, name, options } = request.into_inner();
        let Some(submit) = &self.submit else {
            return Err(Status::unimplemented("this primary does not take detached statements"));
        };
        let job = submit.submit(DetachedStatement { sql, name, options }).await.map_err(|error| match error {
            SubmitError::Invalid(message) => Status::invalid_argument(message),
            SubmitError::Busy(message) => Status::resource_exhausted(message),
            SubmitError::Internal(message) => Status::internal(message),
        })?;
        Ok(Response::new(v1::SubmitResponse { job: job.to_string() }))
    }

    async fn list_jobs(&self, request: Request<v1::ListJobsRequest>) -> Result<Response<v1::ListJobsResponse>, Status> {
        let limit = match request.into_inner().limit {
            0 => DEFAULT_JOBS,
            limit => limit as usize,
        };
        Ok(Response::new(v1::ListJobsResponse { jobs: self.history().jobs(limit, summary) }))
    }

    async fn show_job(&self, request: Request<v1::JobRequest>) -> Result<Response<v1::JobDetail>, Status> {
        let id = job_id(&request.into_inner())?;
        let detail = self.history().job(id, |job| v1::JobDetail {
            summary: Some(summary(job)),
            stages: job.own_stages().iter().map(|stage| stage_detail(stage)).collect(),
            program: job.program.as_ref().map(program),
        });
        detail.map(Response::new).ok_or_else(|| unknown(id))
    }

    async fn cancel_job(&self, request: Request<v1::JobRequest>) -> Result<Response<v1::CancelJobResponse>, Status> {
        let id = job_id(&request.into_inner())?;
        let state = self.driver.cancel(id, "by request").await.ok_or_else(|| unknown(id))?;
        Ok(Response::new(v1::CancelJobResponse { state: state.as_str().into() }))
    }

    async fn job_logs(&self, request: Request<v1::JobRequest>) -> Result<Response<v1::JobLogsResponse>, Status> {
        let id = job_id(&request.into_inner())?;
        let lines = self.history().log(id).ok_or_else(|| unknown(id))?;
        Ok(Response::new(v1::JobLogsResponse { lines }))
    }

    async fn watch_query(
        &self,
        request: Request<v1::WatchQueryRequest>,
    ) -> Result<Response<Self::WatchQueryStream>, Status> {
        let query = request.into_inner().query;
        if query.is_empty() {
            return Err(Status::invalid_argument("name the query as the statement did in its header x-windlass-query"));
        }
        let watch = Watch::new(self.driver.history().clone(), query);
        Ok(Response::new(stream::unfold(watch, Watch::next).map(Ok).boxed()))
    }

    async fn cluster_status(
        &self,
        _: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatusResponse>, Status> {
        let [jobs_running, jobs_queued] =
            [JobState::Running, JobState::Queued].map(|state| self.history().count(state) as u32);
        Ok(Response::new(v1::ClusterStatusResponse {
            version: version::VERSION.into(),
            pid: std::process::id(),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            rest_url: self.rest_url.clone(),
            executors: self.driver.executors().await.into_iter().map(executor_status).collect(),
            jobs_running,
            jobs_queued,
        }))
    }

    async fn drain_executor(
        &self,
        request: Request<v1::DrainExecutorRequest>,
    ) -> Result<Response<v1::DrainExecutorResponse>, Status> {
        let wanted = request.into_inner().executor;
        let executor = self
            .driver
            .directory()
            .find(&wanted)
            .map_err(|why| Status::not_found(format!("{why}; 'windlass cluster status' shows names and ids")))?;
        self.refuse_last_holder(executor).await?;
        self.driver.decommission(executor);
        Ok(Response::new(v1::DrainExecutorResponse { executor: executor.to_string() }))
    }
}

impl AdminService {
    /// Nobody could take the replicas of the last core executor.
    async fn refuse_last_holder(&self, leaving: ExecutorId) -> Result<(), Status> {
        let mut core = self.driver.executors().await;
        core.retain(|entry| entry.register.role == i32::from(v1::Role::Core));
        let Some(at) = core.iter().position(|entry| entry.id == leaving) else { return Ok(()) };
        let last = core.swap_remove(at);
        let stays = |entry: &ExecutorEntry| matches!(entry.state, Standing::Live | Standing::Excluded);
        match last.heartbeat.block_bytes {
            bytes if bytes > 0 && !core.iter().any(stays) => Err(Status::failed_precondition(format!(
                "{} is the last core executor, and holds {bytes} bytes of files that no other could take: add a core executor first, or \
                 end it with SIGTERM, which leaves the files in its folder for its next start",
                last.register.name
            ))),
            _ => Ok(()),
        }
    }
}

fn job_id(request: &v1::JobRequest) -> Result<JobId, Status> {
    request.job.parse().map_err(Status::invalid_argument)
}

fn unknown(id: JobId) -> Status {
    Status::not_found(format!("there is no job {id}, or it ended long ago: see 'windlass jobs list'"))
}

/// One client that watches one query. Wakes when the history changes, looks at most every [`PROGRESS_EVERY`].
struct Watch {
    history: Arc<History>,
    changes: watch::Receiver<u64>,
    query: String,
    last: v1::QueryProgress,
    /// When the last message went out.
    sent: Option<tokio::time::Instant>,
    ended: bool,
}

impl Watch {
    fn new(history: Arc<History>, query: String) -> Self {
        let changes = history.changes();
        let last = v1::QueryProgress::default();
        Watch { history, changes, query, last, sent: None, ended: false }
    }

    async fn next(mut self) -> Option<(v1::QueryProgress, Self)> {
        if self.ended {
            return None;
        }
        loop {
            self.changes.mark_unchanged();
            if self.history.query(&self.query, |job| job.state.has_ended()).unwrap_or(false) {
                self.ended = true;
                let last = self.history.query(&self.query, |job| v1::QueryProgress {
                    stage_details: job.stages.iter().map(|stage| stage_detail(stage)).collect(),
                    ..progress(job)
                })?;
                return Some((last, self));
            }
            let quiet =
                self.sent.map(|sent| sent + PROGRESS_EVERY).filter(|until| *until > tokio::time::Instant::now());
            if quiet.is_none()
                && let Some(now) = self.history.query(&self.query, progress)
                && now != self.last
            {
                self.sent = Some(tokio::time::Instant::now());
                self.last = now.clone();
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

fn progress(job: &JobRecord) -> v1::QueryProgress {
    let (tasks, tasks_done, tasks_running) = job.tasks();
    let (rows, bytes) = job.produced();
    v1::QueryProgress {
        job: job.id.to_string(),
        state: job.state.as_str().into(),
        stages: job.stages.len() as u32,
        stages_done: job.stages.iter().filter(|stage| stage.state.is_finished()).count() as u32,
        tasks,
        tasks_done,
        tasks_running,
        rows,
        bytes,
        stage_details: Vec::new(),
    }
}

fn summary(job: &JobRecord) -> v1::JobSummary {
    let (tasks, tasks_done, _) = job.tasks();
    let result = job.stages.last();
    v1::JobSummary {
        job: job.id.to_string(),
        name: name(&job.info),
        statement: job.info.statement.clone(),
        state: job.state.as_str().into(),
        error: job.error.clone().unwrap_or_default(),
        user: job.info.terms.user.clone(),
        submitted_ms: job.submitted_ms,
        started_ms: job.started_ms.unwrap_or(0),
        ended_ms: job.ended_ms.unwrap_or(0),
        stages: job.stages.len() as u32,
        tasks,
        tasks_done,
        rows: result.map_or(0, |stage| stage.rows),
        bytes: result.map_or(0, |stage| stage.bytes),
        part_of: job.info.part_of.map(|(program, _)| program.to_string()).unwrap_or_default(),
    }
}

fn name(info: &JobInfo) -> String {
    match info.name.as_str() {
        "" => brief(&info.statement),
        name => name.to_string(),
    }
}

fn program(program: &Program) -> v1::Program {
    let jobs = program.jobs.iter();
    v1::Program {
        statements: program.statements,
        statement: program.begun,
        jobs: jobs.map(|(statement, job)| v1::ProgramJob { statement: statement + 1, job: job.to_string() }).collect(),
    }
}

/// A stage as clients see it, its plan with what the operators measured.
pub fn stage_detail(stage: &StageRecord) -> v1::StageDetail {
    v1::StageDetail {
        index: stage.index,
        inputs: stage.inputs.clone(),
        state: stage.state.as_str().into(),
        plan: stage.plan_with_metrics(),
        tasks: stage.tasks,
        tasks_done: stage.tasks_done,
        failed_attempts: stage.failed_attempts,
        rows: stage.rows,
        bytes: stage.bytes,
        elapsed_us: stage.elapsed.as_micros() as u64,
        task_us: stage.task_time.as_micros() as u64,
    }
}

fn executor_status(entry: ExecutorEntry) -> v1::ExecutorStatus {
    let ExecutorEntry { id, register, heartbeat, state, running, beats: _ } = entry;
    // An unknown role did not register.
    let role = match v1::Role::try_from(register.role).map(Role::from).unwrap_or(Role::Task) {
        Role::Core => "core",
        Role::Task => "task",
    };
    v1::ExecutorStatus {
        id: id.0,
        name: register.name,
        address: register.address,
        host: register.host,
        rack: register.rack,
        role: role.into(),
        state: state.to_string(),
        slots: register.slots,
        running_tasks: running,
        memory_bytes: register.memory_bytes,
        memory_used_bytes: heartbeat.memory_used_bytes,
        memory_resident_bytes: heartbeat.memory_resident_bytes,
        exchange_memory_bytes: heartbeat.exchange_memory_bytes,
        exchange_disk_bytes: heartbeat.exchange_disk_bytes,
        pid: register.pid,
        dir: register.dir,
    }
}
