//! REST: the state of the cluster and of its jobs as JSON, and metrics for Prometheus.
//!
//! | | |
//! | --- | --- |
//! | `GET /healthz` | 200 while the primary serves |
//! | `GET /api/v1/cluster` | executors, how many are wanted and why, sessions, results, numbers of jobs |
//! | `GET /api/v1/jobs?limit=N&all=true` | newest first; `all` includes the cluster's own |
//! | `GET /api/v1/jobs/{id}` | one job with its stages |
//! | `DELETE /api/v1/jobs/{id}` | cancels it |
//! | `GET /metrics` | Prometheus text format 0.0.4 |
//! | `/webhdfs/v1/…` | files, see [`crate::webhdfs`] |
//! | `/sessions/…`, `/batches/…`, `/version` | sessions as Livy has them, see [`crate::livy`] |
//! | `/api/v1/kernels/…` | for their Python processes, see [`crate::kernels`] |
//!
//! Errors are `{"error": {"kind": …, "message": …}}`.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt::Write;
use windlass_core::access::Principal;
use windlass_core::ids::JobId;
use windlass_scheduler::services::Services;
use windlass_scheduler::services::cluster::{ExecutorView, Wanted};
use windlass_scheduler::services::jobs::{JobDetail, JobState, JobView, JobsFilter};

const DEFAULT_JOBS: usize = 100;

type Who = Extension<Principal>;

/// Returns the routes.
pub(crate) fn router(services: Services) -> Router {
    let nothing = || async {
        error(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is nothing here: see /api/v1/cluster, /api/v1/jobs, /sessions and /webhdfs/v1/",
        )
    };
    let webhdfs = crate::webhdfs::routes(services.files.clone());
    let livy = crate::livy::routes(services.clone());
    let kernels = crate::kernels::routes(services.clone());
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .route("/api/v1/cluster", get(cluster))
        .route("/api/v1/jobs", get(jobs))
        .route("/api/v1/jobs/{job}", get(job).delete(cancel))
        .fallback(nothing)
        .with_state(services)
        .merge(webhdfs)
        .merge(livy)
        .merge(kernels)
}

fn error(status: StatusCode, kind: &str, message: &str) -> Response {
    (status, Json(json!({ "error": { "kind": kind, "message": message } }))).into_response()
}

#[derive(Deserialize)]
struct Listed {
    limit: Option<usize>,
    /// Whether to include the cluster's own jobs.
    #[serde(default)]
    all: bool,
}

async fn cluster(State(services): State<Services>, Extension(by): Who) -> Json<Value> {
    let status = services.cluster.status(&by).await;
    let jobs: serde_json::Map<String, Value> =
        status.jobs.iter().map(|(state, count)| (state.as_str().to_string(), (*count).into())).collect();
    let executors = &status.executors;
    Json(json!({
        "version": status.version,
        "pid": status.pid,
        "uptime_ms": status.uptime.as_millis() as u64,
        "executors": executors.iter().map(executor).collect::<Vec<_>>(),
        "slots": executors.iter().map(|executor| u64::from(executor.slots)).sum::<u64>(),
        "memory_bytes": executors.iter().map(|executor| executor.memory_bytes).sum::<u64>(),
        "sessions": status.sessions,
        "results_kept": status.results,
        "demand": status.wanted.as_ref().map_or(Value::Null, demand),
        "jobs_running": jobs[JobState::Running.as_str()],
        "jobs_queued": jobs[JobState::Queued.as_str()],
        "jobs": jobs,
        "catalog_version": status.catalog_version,
    }))
}

fn demand(wanted: &Wanted) -> Value {
    let Wanted { load, demand, limits } = wanted;
    json!({
        "slots": demand.slots,
        "executors": demand.executors,
        "reason": demand.reason.as_str(),
        "pending_tasks": load.pending,
        "running_tasks": load.running,
        "min_executors": limits.as_ref().map(|limits| limits.min),
        "max_executors": limits.as_ref().map(|limits| limits.max),
    })
}

fn executor(executor: &ExecutorView) -> Value {
    json!({
        "id": executor.id.0,
        "name": executor.name,
        "address": executor.address,
        "host": executor.host,
        "rack": executor.rack,
        "pid": executor.pid,
        "state": executor.standing.to_string(),
        "slots": executor.slots,
        "running_tasks": executor.running,
        "memory_bytes": executor.memory_bytes,
        "memory_used_bytes": executor.memory_used_bytes,
        "memory_resident_bytes": executor.memory_resident_bytes,
        "exchange_memory_bytes": executor.exchange_memory_bytes,
        "exchange_disk_bytes": executor.exchange_disk_bytes,
    })
}

async fn jobs(
    State(services): State<Services>,
    Extension(by): Who,
    listed: Result<Query<Listed>, QueryRejection>,
) -> Response {
    let Ok(Query(Listed { limit, all })) = listed else {
        let wanted = "limit is not a number, or all neither true nor false: write ?limit=100&all=true";
        return error(StatusCode::BAD_REQUEST, "invalid", wanted);
    };
    let filter = JobsFilter { limit: limit.unwrap_or(DEFAULT_JOBS), internal: all };
    let jobs: Vec<Value> = services.jobs.list(&by, filter).iter().map(summary).collect();
    Json(json!({ "jobs": jobs })).into_response()
}

async fn job(State(services): State<Services>, Extension(by): Who, Path(job): Path<String>) -> Response {
    let found = job.parse::<JobId>().ok().and_then(|id| services.jobs.show(&by, id));
    match found {
        Some(found) => Json(detail(&found)).into_response(),
        None => unknown(&job),
    }
}

async fn cancel(State(services): State<Services>, Extension(by): Who, Path(job): Path<String>) -> Response {
    let Ok(id) = job.parse::<JobId>() else { return unknown(&job) };
    match services.jobs.cancel(&by, id).await {
        Ok(Some(state)) => Json(json!({ "job": id.to_string(), "state": state.as_str() })).into_response(),
        Ok(None) => unknown(&job),
        Err(refused) => error(StatusCode::SERVICE_UNAVAILABLE, "not_leading", &refused.to_string()),
    }
}

fn unknown(job: &str) -> Response {
    let message = format!("there is no job {job}: GET /api/v1/jobs lists those that are known");
    error(StatusCode::NOT_FOUND, "not_found", &message)
}

fn summary(job: &JobView) -> Value {
    json!({
        "job": job.id.to_string(),
        "name": job.name,
        "statement": job.statement,
        "user": job.user,
        "state": job.state.as_str(),
        "error": job.error,
        "submitted_ms": job.submitted_ms,
        "started_ms": job.started_ms,
        "ended_ms": job.ended_ms,
        "stages": job.stages,
        "tasks": job.tasks.all,
        "tasks_done": job.tasks.done,
        "tasks_running": job.tasks.running,
        "rows": job.rows,
        "bytes": job.bytes,
        "part_of": job.part_of.map(|submission| submission.to_string()),
    })
}

fn detail(detail: &JobDetail) -> Value {
    let stages: Vec<Value> = detail
        .stages
        .iter()
        .map(|stage| {
            json!({
                "index": stage.index,
                "inputs": stage.inputs,
                "state": stage.state.as_str(),
                "tasks": stage.tasks.all,
                "tasks_done": stage.tasks.done,
                "tasks_running": stage.tasks.running,
                "failed_attempts": stage.failed_attempts,
                "rows": stage.rows,
                "bytes": stage.bytes,
                "elapsed_us": stage.elapsed.as_micros() as u64,
                "task_us": stage.task_time.as_micros() as u64,
                "plan": stage.plan,
            })
        })
        .collect();
    let mut job = summary(&detail.job);
    job["stages"] = Value::Array(stages);
    if let Some(submission) = &detail.submission {
        let jobs = submission.jobs.iter();
        let jobs = jobs.map(|(statement, job)| json!({ "statement": statement, "job": job.to_string() }));
        job["submission"] = json!({
            "statements": submission.statements,
            "statement": submission.begun,
            "jobs": jobs.collect::<Vec<_>>(),
        });
    }
    job
}

async fn metrics(State(services): State<Services>, Extension(by): Who) -> Response {
    let status = services.cluster.status(&by).await;
    let executors = &status.executors;
    let mut text = Exposition::default();
    text.one("windlass_uptime_seconds", "Since the primary began to serve.", status.uptime.as_secs_f64());
    text.one("windlass_executors", "Executors that are attached.", executors.len() as f64);
    let slots: u64 = executors.iter().map(|executor| u64::from(executor.slots)).sum();
    text.one("windlass_slots", "Task slots of all executors.", slots as f64);
    if let Some(Wanted { load, demand, .. }) = &status.wanted {
        let reason = label("reason", demand.reason.as_str());
        text.gauge("windlass_wanted_slots", "Slots that the cluster wants, and why.", &[(reason, demand.slots as f64)]);
        text.one("windlass_wanted_executors", "The same in executors, within limits.", f64::from(demand.executors));
        text.one("windlass_pending_tasks", "Tasks that could start if there were slots.", load.pending as f64);
    }
    let since_it_leads = services.cluster.counts(&by);
    let failed: Vec<_> = since_it_leads.failed.iter().map(|(kind, n)| (label("kind", kind), *n as f64)).collect();
    text.counter("windlass_task_failures_total", "Attempts that failed or were stopped, by kind.", &failed);
    for (name, help, value) in [
        ("windlass_tasks_committed_total", "Tasks that have ended well.", since_it_leads.committed),
        (
            "windlass_tasks_recomputed_total",
            "Tasks that ran again because their outputs were lost.",
            since_it_leads.recomputed,
        ),
        ("windlass_tasks_speculated_total", "Second attempts of slow tasks.", since_it_leads.speculated),
        (
            "windlass_outputs_taken_over_total",
            "Outputs of earlier leaders' time that jobs went on with.",
            since_it_leads.taken_over,
        ),
        ("windlass_outputs_moved_total", "Outputs that moved off executors that left.", since_it_leads.moved),
        ("windlass_executors_lost_total", "Executors that left or were lost.", since_it_leads.executors_lost),
    ] {
        text.counter(name, help, &[(String::new(), value as f64)]);
    }
    let jobs: Vec<_> = status.jobs.iter().map(|(state, jobs)| (label("state", state.as_str()), *jobs as f64)).collect();
    text.gauge("windlass_jobs", "Jobs that the history knows, by state.", &jobs);
    text.one("windlass_sessions", "Client sessions.", status.sessions as f64);
    text.one("windlass_results_kept", "Results that wait to be read.", status.results as f64);
    text.one("windlass_catalog_version", "Grows with each change of the catalog.", status.catalog_version as f64);
    let mut each = |name: &str, help: &str, value: &dyn Fn(&ExecutorView) -> f64| {
        let values: Vec<_> =
            executors.iter().map(|executor| (label("executor", &executor.id.to_string()), value(executor))).collect();
        text.gauge(name, help, &values);
    };
    each("windlass_executor_slots", "Tasks that the executor runs at a time.", &|e| f64::from(e.slots));
    each("windlass_executor_running_tasks", "Attempts that hold a slot.", &|e| f64::from(e.running));
    each("windlass_executor_memory_bytes", "Limit of the memory pool.", &|e| e.memory_bytes as f64);
    each("windlass_executor_memory_used_bytes", "Reserved in the memory pool.", &|e| e.memory_used_bytes as f64);
    each("windlass_executor_memory_resident_bytes", "Resident memory of the process without pages of files.", &|e| {
        e.memory_resident_bytes as f64
    });
    each("windlass_executor_exchange_memory_bytes", "Map outputs in memory.", &|e| e.exchange_memory_bytes as f64);
    each("windlass_executor_exchange_disk_bytes", "Map outputs in files.", &|e| e.exchange_disk_bytes as f64);
    each("windlass_executor_block_bytes", "Replicas of files.", &|e| e.block_bytes as f64);
    each("windlass_executor_block_free_bytes", "What the disks have left for more.", &|e| e.block_free_bytes as f64);
    each("windlass_executor_file_local_bytes", "Read of files since it started, from its own replicas.", &|e| {
        e.file_local_bytes as f64
    });
    each("windlass_executor_file_remote_bytes", "The same, from replicas of others.", &|e| e.file_remote_bytes as f64);
    if let Ok(health) = services.files.health(&by).await {
        for (name, help, value) in [
            ("windlass_files", "Files and folders.", health.entries),
            ("windlass_blocks", "Blocks of files.", health.blocks),
            ("windlass_blocks_under_replicated", "Blocks with fewer replicas than they want.", health.under_replicated),
            ("windlass_blocks_missing", "Blocks without a replica.", health.missing),
            ("windlass_blocks_copying", "Copies for repair that are under way.", health.copying),
        ] {
            text.one(name, help, value as f64);
        }
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text.0).into_response()
}

fn label(name: &str, value: &str) -> String {
    format!("{{{name}=\"{value}\"}}")
}

/// Metrics in Prometheus' text format. Writing to a string does not fail.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn one(&mut self, name: &str, help: &str, value: f64) {
        self.gauge(name, help, &[(String::new(), value)]);
    }

    fn gauge(&mut self, name: &str, help: &str, values: &[(String, f64)]) {
        self.family(name, "gauge", help, values);
    }

    /// Adds counts since this primary began to lead.
    fn counter(&mut self, name: &str, help: &str, values: &[(String, f64)]) {
        self.family(name, "counter", help, values);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str, values: &[(String, f64)]) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Gateway;
    use futures::future::BoxFuture;
    use serde_json::Value;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;
    use tokio::task::JoinSet;
    use tokio_util::sync::CancellationToken;
    use windlass_core::access::Principal;
    use windlass_scheduler::primary::PrimaryConfig;
    use windlass_scheduler::primary::leading::{ProcessConfig, RestConfig};
    use windlass_scheduler::primary::member::Member;
    use windlass_scheduler::services::jobs::JobState;
    use windlass_scheduler::services::submissions::Script;
    use windlass_scheduler::services::{HttpFaces, Leaders, Services};

    /// The gateway, which also passes on the services that it receives.
    #[derive(Debug)]
    struct Told(mpsc::UnboundedSender<Services>);

    impl HttpFaces for Told {
        fn serve(&self, services: Services, listener: TcpListener, stop: CancellationToken) -> BoxFuture<'static, ()> {
            self.0.send(services.clone()).unwrap();
            Gateway.serve(services, listener, stop)
        }

        fn stand_by(
            &self,
            leaders: Leaders,
            listener: TcpListener,
            stop: CancellationToken,
        ) -> BoxFuture<'static, std::io::Result<()>> {
            Gateway.stand_by(leaders, listener, stop)
        }
    }

    /// A primary without executors.
    struct Serving {
        services: Services,
        rest: SocketAddr,
        _folder: tempfile::TempDir,
        _serving: JoinSet<()>,
    }

    impl Serving {
        async fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let primary = PrimaryConfig { listen: any, ..PrimaryConfig::default() };
            let mut config = ProcessConfig::new(primary, folder.path().join("primary"));
            let (told, mut services) = mpsc::unbounded_channel();
            config.rest = Some(RestConfig { listen: any, faces: Arc::new(Told(told)) });
            let member = Member::bind(config).await.unwrap();
            let rest = member.addresses().rest.trim_start_matches("http://").parse().unwrap();
            let mut serving = JoinSet::new();
            serving.spawn(async move { member.run(CancellationToken::new()).await.unwrap() });
            let services = services.recv().await.unwrap();
            Serving { services, rest, _folder: folder, _serving: serving }
        }

        /// Returns the status code and the body.
        async fn ask(&self, method: &str, path: &str) -> (u16, String) {
            let mut stream = TcpStream::connect(self.rest).await.unwrap();
            let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_string())
        }

        async fn json(&self, method: &str, path: &str) -> (u16, Value) {
            let (status, body) = self.ask(method, path).await;
            (status, serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}")))
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_state_of_the_cluster_and_of_a_job_until_it_is_cancelled() {
        let serving = Serving::start().await;
        let (services, by) = (&serving.services, Principal::user("ann"));
        // The statement waits, because there is no executor.
        let sql = "select count(*) from generate_series(1, 1000000)".to_string();
        let script = Script { sql, name: "nightly".into(), ..Script::default() };
        let id = services.submissions.submit(&by, script).await.unwrap().to_string();

        assert_eq!(serving.ask("GET", "/healthz").await, (200, "ok\n".to_string()));
        let (_, state) = serving.json("GET", "/api/v1/cluster").await;
        assert_eq!(
            (&state["executors"], &state["sessions"], &state["results_kept"]),
            (&Value::Array(vec![]), &0.into(), &0.into())
        );
        assert_eq!(state["jobs_running"].as_u64().unwrap() + state["jobs_queued"].as_u64().unwrap(), 1);
        assert_eq!((&state["jobs"]["finished"], &state["jobs"]["cancelled"]), (&0.into(), &0.into()));
        assert!(state["uptime_ms"].is_u64());

        let (_, list) = serving.json("GET", "/api/v1/jobs?limit=5").await;
        let names: Vec<&Value> = list["jobs"].as_array().unwrap().iter().map(|job| &job["name"]).collect();
        assert!(names.contains(&&"nightly".into()), "{names:?}");
        let (_, submission) = serving.json("GET", &format!("/api/v1/jobs/{id}")).await;
        assert_eq!((&submission["user"], &submission["submission"]["statements"]), (&"ann".into(), &1.into()));
        let part = submission["submission"]["jobs"][0]["job"].as_str().unwrap();
        let (_, job) = serving.json("GET", &format!("/api/v1/jobs/{part}")).await;
        assert_eq!((&job["part_of"], &job["user"]), (&Value::from(id.clone()), &"ann".into()));
        let stages = job["stages"].as_array().unwrap();
        assert!(!stages.is_empty() && job["tasks_done"] == 0 && job["rows"] == 0, "{job}");

        let (status, cancelled) = serving.json("DELETE", &format!("/api/v1/jobs/{id}")).await;
        assert_eq!((status, &cancelled["state"]), (200, &JobState::Cancelled.as_str().into()));
        let (_, metrics) = serving.ask("GET", "/metrics").await;
        for line in ["windlass_executors 0", "windlass_jobs{state=\"cancelled\"} 1", "windlass_sessions 0"] {
            assert!(metrics.lines().any(|of| of == line), "{line} is not in:\n{metrics}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_not_there_or_not_understood_is_an_error_in_json() {
        let serving = Serving::start().await;
        for (method, path, status, kind) in [
            ("GET", "/api/v1/jobs/job-99", 404, "not_found"),
            ("DELETE", "/api/v1/jobs/nonsense", 404, "not_found"),
            ("GET", "/api/v1/jobs?limit=many", 400, "invalid"),
            ("GET", "/nowhere", 404, "not_found"),
        ] {
            let (answered, body) = serving.json(method, path).await;
            assert_eq!((answered, &body["error"]["kind"]), (status, &kind.into()), "{path}");
            assert!(!body["error"]["message"].as_str().unwrap().is_empty());
        }
    }
}
