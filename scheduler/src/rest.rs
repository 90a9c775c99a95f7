//! REST: the state of the cluster and of its jobs as JSON, and metrics for Prometheus.
//!
//! | | |
//! | --- | --- |
//! | `GET /healthz` | 200 while the primary serves |
//! | `GET /api/v1/cluster` | executors, how many are wanted and why, sessions, results, numbers of jobs |
//! | `GET /api/v1/jobs?limit=N` | newest first |
//! | `GET /api/v1/jobs/{id}` | one job with its stages |
//! | `DELETE /api/v1/jobs/{id}` | cancels it |
//! | `GET /metrics` | Prometheus text format 0.0.4 |
//! | `/webhdfs/v1/…` | files, see [`crate::webhdfs`] |
//!
//! Errors are `{"error": {"kind": …, "message": …}}`.

use crate::driver::history::{JobRecord, JobState};
use crate::driver::{Driver, ExecutorEntry};
use crate::flight::Kept;
use crate::statements::catalog::Catalog;
use crate::statements::sessions::Sessions;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use windlass_connectors::wfs::Wfs;
use windlass_core::elastic::{Demand, ElasticConfig, Load};
use windlass_core::ids::JobId;

const DEFAULT_JOBS: usize = 100;
const STATES: [JobState; 5] =
    [JobState::Queued, JobState::Running, JobState::Finished, JobState::Failed, JobState::Cancelled];

/// What stands in front of the driver.
pub(crate) struct Front {
    pub sessions: Arc<Sessions>,
    pub kept: Arc<Kept>,
    pub catalog: Arc<Catalog>,
    pub wfs: Wfs,
    /// Of the number of executors, where it follows the load.
    pub limits: Option<ElasticConfig>,
}

struct Rest {
    driver: Driver,
    front: Front,
    started: Instant,
}

type Shared = State<Arc<Rest>>;

/// The routes. Uptime counts from here.
pub(crate) fn router(driver: Driver, front: Front) -> Router {
    let nothing = || async {
        error(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is nothing here: see /api/v1/cluster, /api/v1/jobs and /webhdfs/v1/",
        )
    };
    let webhdfs = crate::webhdfs::routes(front.wfs.clone(), driver.clone());
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .route("/api/v1/cluster", get(cluster))
        .route("/api/v1/jobs", get(jobs))
        .route("/api/v1/jobs/{job}", get(job).delete(cancel))
        .fallback(nothing)
        .with_state(Arc::new(Rest { driver, front, started: Instant::now() }))
        .merge(webhdfs)
}

/// Serves until `stop` is cancelled.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "REST ended");
    }
}

fn error(status: StatusCode, kind: &str, message: &str) -> Response {
    (status, Json(json!({ "error": { "kind": kind, "message": message } }))).into_response()
}

#[derive(Deserialize)]
struct Limit {
    limit: Option<usize>,
}

async fn cluster(State(rest): Shared) -> Json<Value> {
    let executors = rest.driver.executors().await;
    let counts = counts(&rest.driver);
    let jobs: serde_json::Map<String, Value> =
        STATES.iter().zip(counts).map(|(state, count)| (state.as_str().to_string(), count.into())).collect();
    Json(json!({
        "version": windlass_proto::version::VERSION,
        "pid": std::process::id(),
        "uptime_ms": rest.started.elapsed().as_millis() as u64,
        "executors": executors.iter().map(executor).collect::<Vec<_>>(),
        "slots": executors.iter().map(|entry| u64::from(entry.register.slots)).sum::<u64>(),
        "memory_bytes": executors.iter().map(|entry| entry.register.memory_bytes).sum::<u64>(),
        "sessions": rest.front.sessions.len(),
        "results_kept": rest.front.kept.len(),
        "demand": demand(&rest).await,
        "jobs_running": jobs[JobState::Running.as_str()],
        "jobs_queued": jobs[JobState::Queued.as_str()],
        "jobs": jobs,
        "catalog_version": rest.front.catalog.version(),
    }))
}

/// What the cluster wants; without limits of its own, as if there were none.
async fn wanted(rest: &Rest) -> Option<(Load, Demand)> {
    let load = rest.driver.load().await?;
    let typical = load.executors.iter().map(|member| member.slots).max().unwrap_or(1);
    let demand = match &rest.front.limits {
        Some(limits) => load.demand(limits.min, limits.max, limits.slots),
        None => load.demand(0, u32::MAX, typical),
    };
    Some((load, demand))
}

async fn demand(rest: &Rest) -> Value {
    let Some((load, demand)) = wanted(rest).await else { return Value::Null };
    json!({
        "slots": demand.slots,
        "executors": demand.executors,
        "reason": demand.reason.as_str(),
        "pending_tasks": load.pending,
        "running_tasks": load.running,
        "min_executors": rest.front.limits.as_ref().map(|limits| limits.min),
        "max_executors": rest.front.limits.as_ref().map(|limits| limits.max),
    })
}

fn executor(entry: &ExecutorEntry) -> Value {
    let (register, heartbeat) = (&entry.register, &entry.heartbeat);
    json!({
        "id": entry.id.0,
        "name": register.name,
        "address": register.address,
        "host": register.host,
        "rack": register.rack,
        "pid": register.pid,
        "state": entry.state.to_string(),
        "slots": register.slots,
        "running_tasks": entry.running,
        "memory_bytes": register.memory_bytes,
        "memory_used_bytes": heartbeat.memory_used_bytes,
        "memory_resident_bytes": heartbeat.memory_resident_bytes,
        "exchange_memory_bytes": heartbeat.exchange_memory_bytes,
        "exchange_disk_bytes": heartbeat.exchange_disk_bytes,
    })
}

/// Jobs that the history knows, for each of [`STATES`].
fn counts(driver: &Driver) -> [usize; STATES.len()] {
    STATES.map(|state| driver.history().count(state))
}

async fn jobs(State(rest): Shared, limit: Result<Query<Limit>, QueryRejection>) -> Response {
    let Ok(Query(Limit { limit })) = limit else {
        return error(StatusCode::BAD_REQUEST, "invalid", "limit is not a number: write ?limit=100");
    };
    let jobs: Vec<Value> = rest.driver.history().jobs(limit.unwrap_or(DEFAULT_JOBS), summary);
    Json(json!({ "jobs": jobs })).into_response()
}

async fn job(State(rest): Shared, Path(job): Path<String>) -> Response {
    let found = job.parse::<JobId>().ok().and_then(|id| rest.driver.history().job(id, detail));
    match found {
        Some(detail) => Json(detail).into_response(),
        None => unknown(&job),
    }
}

async fn cancel(State(rest): Shared, Path(job): Path<String>) -> Response {
    let Ok(id) = job.parse::<JobId>() else { return unknown(&job) };
    match rest.driver.cancel(id, "cancelled over REST").await {
        Some(state) => Json(json!({ "job": id.to_string(), "state": state.as_str() })).into_response(),
        None => unknown(&job),
    }
}

fn unknown(job: &str) -> Response {
    let message = format!("there is no job {job}: GET /api/v1/jobs lists those that are known");
    error(StatusCode::NOT_FOUND, "not_found", &message)
}

fn summary(record: &JobRecord) -> Value {
    let (tasks, tasks_done, tasks_running) = record.tasks();
    let (rows, bytes) = record.produced();
    json!({
        "job": record.id.to_string(),
        "name": record.info.name,
        "statement": record.info.statement,
        "user": record.info.terms.user,
        "state": record.state.as_str(),
        "error": record.error,
        "submitted_ms": record.submitted_ms,
        "started_ms": record.started_ms,
        "ended_ms": record.ended_ms,
        "stages": record.stages.len(),
        "tasks": tasks,
        "tasks_done": tasks_done,
        "tasks_running": tasks_running,
        "rows": rows,
        "bytes": bytes,
        "part_of": record.info.part_of.map(|(program, _)| program.to_string()),
    })
}

fn detail(record: &JobRecord) -> Value {
    let stages: Vec<Value> = record
        .own_stages()
        .iter()
        .map(|stage| {
            json!({
                "index": stage.index,
                "inputs": stage.inputs,
                "state": stage.state.as_str(),
                "tasks": stage.tasks,
                "tasks_done": stage.tasks_done,
                "tasks_running": stage.tasks_running,
                "failed_attempts": stage.failed_attempts,
                "rows": stage.rows,
                "bytes": stage.bytes,
                "elapsed_us": stage.elapsed.as_micros() as u64,
                "task_us": stage.task_time.as_micros() as u64,
                "plan": stage.plan_with_metrics(),
            })
        })
        .collect();
    let mut job = summary(record);
    job["stages"] = Value::Array(stages);
    if let Some(program) = &record.program {
        let jobs =
            program.jobs.iter().map(|(statement, job)| json!({ "statement": statement + 1, "job": job.to_string() }));
        job["program"] = json!({
            "statements": program.statements,
            "statement": program.begun,
            "jobs": jobs.collect::<Vec<_>>(),
        });
    }
    job
}

async fn metrics(State(rest): Shared) -> Response {
    let executors = rest.driver.executors().await;
    let mut text = Exposition::default();
    text.one("windlass_uptime_seconds", "Since the primary began to serve.", rest.started.elapsed().as_secs_f64());
    text.one("windlass_executors", "Executors that are attached.", executors.len() as f64);
    let slots: u64 = executors.iter().map(|entry| u64::from(entry.register.slots)).sum();
    text.one("windlass_slots", "Task slots of all executors.", slots as f64);
    if let Some((load, demand)) = wanted(&rest).await {
        let reason = label("reason", demand.reason.as_str());
        text.gauge("windlass_wanted_slots", "Slots that the cluster wants, and why.", &[(reason, demand.slots as f64)]);
        text.one("windlass_wanted_executors", "The same in executors, within limits.", f64::from(demand.executors));
        text.one("windlass_pending_tasks", "Tasks that could start if there were slots.", load.pending as f64);
    }
    let since_it_leads = rest.driver.history().counts();
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
    let jobs: Vec<_> =
        STATES.iter().zip(counts(&rest.driver)).map(|(state, n)| (label("state", state.as_str()), n as f64)).collect();
    text.gauge("windlass_jobs", "Jobs that the history knows, by state.", &jobs);
    text.one("windlass_sessions", "Client sessions.", rest.front.sessions.len() as f64);
    text.one("windlass_results_kept", "Results that wait to be read.", rest.front.kept.len() as f64);
    let version = rest.front.catalog.version() as f64;
    text.one("windlass_catalog_version", "Grows with each change of the catalog.", version);
    let mut each = |name: &str, help: &str, value: &dyn Fn(&ExecutorEntry) -> f64| {
        let values: Vec<_> =
            executors.iter().map(|entry| (label("executor", &entry.id.to_string()), value(entry))).collect();
        text.gauge(name, help, &values);
    };
    each("windlass_executor_slots", "Tasks that the executor runs at a time.", &|e| f64::from(e.register.slots));
    each("windlass_executor_running_tasks", "Attempts that hold a slot.", &|e| f64::from(e.running));
    each("windlass_executor_memory_bytes", "Limit of the memory pool.", &|e| e.register.memory_bytes as f64);
    each("windlass_executor_memory_used_bytes", "Reserved in the memory pool.", &|e| {
        e.heartbeat.memory_used_bytes as f64
    });
    each("windlass_executor_memory_resident_bytes", "Resident memory of the process.", &|e| {
        e.heartbeat.memory_resident_bytes as f64
    });
    each("windlass_executor_exchange_memory_bytes", "Map outputs in memory.", &|e| {
        e.heartbeat.exchange_memory_bytes as f64
    });
    each("windlass_executor_exchange_disk_bytes", "Map outputs in files.", &|e| e.heartbeat.exchange_disk_bytes as f64);
    each("windlass_executor_block_bytes", "Replicas of files.", &|e| e.heartbeat.block_bytes as f64);
    each("windlass_executor_block_free_bytes", "What the disks have left for more.", &|e| {
        e.heartbeat.block_free_bytes as f64
    });
    each("windlass_executor_file_local_bytes", "Read of files since it started, from its own replicas.", &|e| {
        e.heartbeat.file_local_bytes as f64
    });
    each("windlass_executor_file_remote_bytes", "The same, from replicas of others.", &|e| {
        e.heartbeat.file_remote_bytes as f64
    });
    if let Ok(health) = rest.front.wfs.health("/", 0).await {
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

    /// Of what has happened since this primary began to lead.
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
    use crate::driver::history::{JobInfo, JobState};
    use crate::fixtures::planned;
    use crate::primary::PrimaryConfig;
    use crate::primary::cluster::{Cluster, ClusterConfig};
    use serde_json::Value;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    /// The status line's code and the body.
    async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_string())
    }

    async fn json(address: SocketAddr, method: &str, path: &str) -> (u16, Value) {
        let (status, body) = ask(address, method, path).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}")))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_state_of_the_cluster_and_of_a_job_until_it_is_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config =
            ClusterConfig::new(PrimaryConfig { listen: any, ..PrimaryConfig::default() }, dir.path().join("primary"));
        config.rest = Some(any);
        let cluster = Cluster::bind(config).await.unwrap();
        let rest = cluster.rest.unwrap();
        let info = JobInfo { name: "nightly".into(), statement: "SELECT 1".into(), ..JobInfo::default() };
        // Without an executor it waits.
        let mut waiting = cluster.primary.driver.submit(planned(&[2, 1]), info).await;
        let id = waiting.id.to_string();

        assert_eq!(ask(rest, "GET", "/healthz").await, (200, "ok\n".to_string()));
        let (_, state) = json(rest, "GET", "/api/v1/cluster").await;
        assert_eq!(
            (&state["executors"], &state["sessions"], &state["results_kept"]),
            (&Value::Array(vec![]), &0.into(), &0.into())
        );
        assert_eq!(state["jobs_running"].as_u64().unwrap() + state["jobs_queued"].as_u64().unwrap(), 1);
        assert_eq!((&state["jobs"]["finished"], &state["jobs"]["cancelled"]), (&0.into(), &0.into()));
        assert!(state["uptime_ms"].is_u64());

        let (_, list) = json(rest, "GET", "/api/v1/jobs?limit=5").await;
        assert_eq!((&list["jobs"][0]["job"], &list["jobs"][0]["name"]), (&Value::from(id.clone()), &"nightly".into()));
        let (_, job) = json(rest, "GET", &format!("/api/v1/jobs/{id}")).await;
        assert_eq!(
            (&job["tasks"], &job["tasks_done"], job["stages"].as_array().unwrap().len()),
            (&3.into(), &0.into(), 2)
        );
        assert_eq!(job["stages"][1]["inputs"], Value::from(vec![0]));

        let (status, cancelled) = json(rest, "DELETE", &format!("/api/v1/jobs/{id}")).await;
        assert_eq!((status, &cancelled["state"]), (200, &JobState::Cancelled.as_str().into()));
        assert!(waiting.wait().await.is_err());
        let (_, metrics) = ask(rest, "GET", "/metrics").await;
        for line in ["windlass_executors 0", "windlass_jobs{state=\"cancelled\"} 1", "windlass_sessions 0"] {
            assert!(metrics.lines().any(|of| of == line), "{line} is not in:\n{metrics}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_not_there_or_not_understood_is_an_error_in_json() {
        let dir = tempfile::tempdir().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config =
            ClusterConfig::new(PrimaryConfig { listen: any, ..PrimaryConfig::default() }, dir.path().join("primary"));
        config.rest = Some(any);
        let cluster = Cluster::bind(config).await.unwrap();
        let rest = cluster.rest.unwrap();
        for (method, path, status, kind) in [
            ("GET", "/api/v1/jobs/job-99", 404, "not_found"),
            ("DELETE", "/api/v1/jobs/nonsense", 404, "not_found"),
            ("GET", "/api/v1/jobs?limit=many", 400, "invalid"),
            ("GET", "/nowhere", 404, "not_found"),
        ] {
            let (answered, body) = json(rest, method, path).await;
            assert_eq!((answered, &body["error"]["kind"]), (status, &kind.into()), "{path}");
            assert!(!body["error"]["message"].as_str().unwrap().is_empty());
        }
    }
}
