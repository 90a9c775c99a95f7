//! The Admin service: jobs and executors, for the command line and for programs.

use crate::services::Services;
use crate::services::cluster::{ClusterView, DrainError, ExecutorView};
use crate::services::jobs::{JobDetail, JobState, JobView, Jobs, JobsFilter, ProgressView, StageView, SubmissionView};
use crate::services::submissions::{Script, Submissions};
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};
use windlass_core::event::Role;
use windlass_core::ids::JobId;
use windlass_proto::door::principal_of;
use windlass_proto::v1;
use windlass_proto::v1::admin_server::Admin;

const DEFAULT_JOBS: usize = 100;

/// The Admin service of a primary.
pub struct AdminService {
    jobs: Jobs,
    cluster: ClusterView,
    /// Absent in tests of the layers below statements.
    submissions: Option<Submissions>,
}

impl AdminService {
    pub fn new(services: &Services) -> Self {
        let submissions = Some(services.submissions.clone());
        AdminService { jobs: services.jobs.clone(), cluster: services.cluster.clone(), submissions }
    }

    /// Creates the service for tests of the layers below statements.
    #[cfg(test)]
    pub(crate) fn without_statements(jobs: Jobs, cluster: ClusterView) -> Self {
        AdminService { jobs, cluster, submissions: None }
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    type WatchQueryStream = BoxStream<'static, Result<v1::QueryProgress, Status>>;

    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Result<Response<v1::SubmitResponse>, Status> {
        let by = principal_of(&request);
        let v1::SubmitRequest { sql, name, options, request } = request.into_inner();
        let Some(submissions) = &self.submissions else {
            return Err(Status::unimplemented("this primary does not take submissions"));
        };
        let script = Script { sql, name, options: options.into_iter().collect(), request, ..Script::default() };
        let job = submissions.submit(&by, script).await?;
        Ok(Response::new(v1::SubmitResponse { job: job.to_string() }))
    }

    async fn list_jobs(&self, request: Request<v1::ListJobsRequest>) -> Result<Response<v1::ListJobsResponse>, Status> {
        let by = principal_of(&request);
        let v1::ListJobsRequest { limit, internal } = request.into_inner();
        let limit = match limit {
            0 => DEFAULT_JOBS,
            limit => limit as usize,
        };
        let jobs = self.jobs.list(&by, JobsFilter { limit, internal }).into_iter().map(summary).collect();
        Ok(Response::new(v1::ListJobsResponse { jobs }))
    }

    async fn show_job(&self, request: Request<v1::JobRequest>) -> Result<Response<v1::JobDetail>, Status> {
        let (by, id) = (principal_of(&request), job_id(request.get_ref())?);
        let JobDetail { job, stages, submission: of } = self.jobs.show(&by, id).ok_or_else(|| unknown(id))?;
        Ok(Response::new(v1::JobDetail {
            summary: Some(summary(job)),
            stages: stages.into_iter().map(stage_detail).collect(),
            submission: of.map(submission),
        }))
    }

    async fn cancel_job(&self, request: Request<v1::JobRequest>) -> Result<Response<v1::CancelJobResponse>, Status> {
        let (by, id) = (principal_of(&request), job_id(request.get_ref())?);
        let state = self.jobs.cancel(&by, id).await?.ok_or_else(|| unknown(id))?;
        Ok(Response::new(v1::CancelJobResponse { state: state.as_str().into() }))
    }

    async fn job_logs(&self, request: Request<v1::JobRequest>) -> Result<Response<v1::JobLogsResponse>, Status> {
        let (by, id) = (principal_of(&request), job_id(request.get_ref())?);
        let lines = self.jobs.log(&by, id).ok_or_else(|| unknown(id))?;
        Ok(Response::new(v1::JobLogsResponse { lines }))
    }

    async fn watch_query(
        &self,
        request: Request<v1::WatchQueryRequest>,
    ) -> Result<Response<Self::WatchQueryStream>, Status> {
        let by = principal_of(&request);
        let query = request.into_inner().query;
        if query.is_empty() {
            return Err(Status::invalid_argument("name the query as the statement did in its header x-windlass-query"));
        }
        Ok(Response::new(self.jobs.watch(&by, query).map(|now| Ok(progress(now))).boxed()))
    }

    async fn cluster_status(
        &self,
        request: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatusResponse>, Status> {
        let status = self.cluster.status(&principal_of(&request)).await;
        let jobs_in =
            |wanted| status.jobs.iter().find(|(state, _)| *state == wanted).map_or(0, |(_, jobs)| *jobs as u32);
        Ok(Response::new(v1::ClusterStatusResponse {
            version: status.version.into(),
            pid: status.pid,
            uptime_ms: status.uptime.as_millis() as u64,
            rest_url: status.rest_url.clone(),
            jobs_running: jobs_in(JobState::Running),
            jobs_queued: jobs_in(JobState::Queued),
            executors: status.executors.into_iter().map(executor_status).collect(),
        }))
    }

    async fn drain_executor(
        &self,
        request: Request<v1::DrainExecutorRequest>,
    ) -> Result<Response<v1::DrainExecutorResponse>, Status> {
        let drained = self.cluster.drain(&principal_of(&request), &request.get_ref().executor).await;
        let executor = drained.map_err(|error| match error {
            DrainError::Unknown(_) => Status::not_found(error.to_string()),
            DrainError::LastHolder { .. } => Status::failed_precondition(error.to_string()),
        })?;
        Ok(Response::new(v1::DrainExecutorResponse { executor: executor.to_string() }))
    }
}

fn job_id(request: &v1::JobRequest) -> Result<JobId, Status> {
    request.job.parse().map_err(Status::invalid_argument)
}

fn unknown(id: JobId) -> Status {
    Status::not_found(format!("there is no job {id}, or it ended long ago: see 'windlass jobs list'"))
}

fn progress(now: ProgressView) -> v1::QueryProgress {
    v1::QueryProgress {
        job: now.job.to_string(),
        state: now.state.as_str().into(),
        stages: now.stages,
        stages_done: now.stages_done,
        tasks: now.tasks.all,
        tasks_done: now.tasks.done,
        tasks_running: now.tasks.running,
        rows: now.rows_moved,
        bytes: now.bytes_moved,
        stage_details: now.detail.into_iter().map(stage_detail).collect(),
    }
}

fn summary(job: JobView) -> v1::JobSummary {
    v1::JobSummary {
        job: job.id.to_string(),
        name: job.name,
        statement: job.statement,
        state: job.state.as_str().into(),
        error: job.error.unwrap_or_default(),
        user: job.user,
        submitted_ms: job.submitted_ms,
        started_ms: job.started_ms.unwrap_or(0),
        ended_ms: job.ended_ms.unwrap_or(0),
        stages: job.stages,
        tasks: job.tasks.all,
        tasks_done: job.tasks.done,
        rows: job.rows,
        bytes: job.bytes,
        part_of: job.part_of.map(|submission| submission.to_string()).unwrap_or_default(),
    }
}

fn submission(submission: SubmissionView) -> v1::Submission {
    let jobs = submission.jobs.into_iter();
    v1::Submission {
        statements: submission.statements,
        statement: submission.begun,
        jobs: jobs.map(|(statement, job)| v1::SubmissionJob { statement, job: job.to_string() }).collect(),
    }
}

fn stage_detail(stage: StageView) -> v1::StageDetail {
    v1::StageDetail {
        index: stage.index,
        inputs: stage.inputs,
        state: stage.state.as_str().into(),
        plan: stage.plan,
        tasks: stage.tasks.all,
        tasks_done: stage.tasks.done,
        failed_attempts: stage.failed_attempts,
        rows: stage.rows,
        bytes: stage.bytes,
        elapsed_us: stage.elapsed.as_micros() as u64,
        task_us: stage.task_time.as_micros() as u64,
    }
}

fn executor_status(executor: ExecutorView) -> v1::ExecutorStatus {
    let role = match executor.role {
        Role::Core => "core",
        Role::Task => "task",
    };
    v1::ExecutorStatus {
        id: executor.id.0,
        name: executor.name,
        address: executor.address,
        host: executor.host,
        rack: executor.rack,
        role: role.into(),
        state: executor.standing.to_string(),
        slots: executor.slots,
        running_tasks: executor.running,
        memory_bytes: executor.memory_bytes,
        memory_used_bytes: executor.memory_used_bytes,
        memory_resident_bytes: executor.memory_resident_bytes,
        exchange_memory_bytes: executor.exchange_memory_bytes,
        exchange_disk_bytes: executor.exchange_disk_bytes,
        program_memory_bytes: executor.program_memory_bytes,
        pid: executor.pid,
        dir: executor.dir,
    }
}
