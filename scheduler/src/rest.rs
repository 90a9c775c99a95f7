//! REST: the state of the cluster and its jobs, as JSON, and metrics for Prometheus.
//!
//! | | |
//! | --- | --- |
//! | `GET /healthz` | 200 while the primary serves |
//! | `GET /api/v1/cluster` | executors, sessions, jobs |
//! | `GET /api/v1/jobs?limit=N` | newest first |
//! | `GET /api/v1/jobs/{id}` | one job with its stages |
//! | `DELETE /api/v1/jobs/{id}` | cancels it |
//! | `GET /metrics` | Prometheus text format 0.0.4 |

use crate::catalog::Catalog;
use crate::driver::Driver;
use crate::flight::Kept;
use crate::history::{JobRecord, JobState};
use crate::session::Sessions;
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
use windlass_core::ids::JobId;

const DEFAULT_JOBS: usize = 100;

/// What is counted of what stands before the driver.
pub(crate) struct Counted {
    pub catalog: Arc<Catalog>,
    pub sessions: Arc<Sessions>,
    pub kept: Arc<Kept>,
}

struct Rest {
    driver: Driver,
    counted: Counted,
    started: Instant,
}

type Shared = State<Arc<Rest>>;

/// The routes.
pub(crate) fn router(driver: Driver, counted: Counted) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/api/v1/cluster", get(cluster))
        .route("/api/v1/jobs", get(jobs))
        .route("/api/v1/jobs/{id}", get(job).delete(cancel))
        .route("/metrics", get(metrics))
        .fallback(|| async {
            error(StatusCode::NOT_FOUND, "not_found", "there is nothing here; see /api/v1/cluster and /api/v1/jobs")
        })
        .with_state(Arc::new(Rest { driver, counted, started: Instant::now() }))
}

/// Serves until `stop` is cancelled.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await {
        tracing::error!(%error, "REST ended");
    }
}

fn error(status: StatusCode, kind: &str, message: &str) -> Response {
    (status, Json(json!({ "error": { "kind": kind, "message": message } }))).into_response()
}

async fn cluster(State(rest): Shared) -> Json<Value> {
    let executors: Vec<Value> = rest
        .driver
        .executors()
        .await
        .into_iter()
        .map(|entry| {
            json!({
                "id": entry.id.to_string(),
                "name": entry.register.name,
                "address": entry.register.address,
                "host": entry.register.host,
                "rack": entry.register.rack,
                "state": entry.state,
                "slots": entry.register.slots,
                "running_tasks": entry.running,
                "memory_bytes": entry.register.memory_bytes,
                "memory_used_bytes": entry.heartbeat.memory_used_bytes,
                "memory_resident_bytes": entry.heartbeat.memory_resident_bytes,
                "exchange_memory_bytes": entry.heartbeat.exchange_memory_bytes,
                "exchange_disk_bytes": entry.heartbeat.exchange_disk_bytes,
                "pid": entry.register.pid,
            })
        })
        .collect();
    let (running, queued) = rest.driver.history().live();
    Json(json!({
        "version": windlass_proto::version::VERSION,
        "pid": std::process::id(),
        "uptime_ms": rest.started.elapsed().as_millis() as u64,
        "executors": executors,
        "sessions": rest.counted.sessions.len(),
        "results_kept": rest.counted.kept.len(),
        "jobs_running": running,
        "jobs_queued": queued,
        "catalog_version": rest.counted.catalog.version(),
    }))
}

#[derive(Deserialize)]
struct Limit {
    limit: Option<usize>,
}

async fn jobs(State(rest): Shared, Query(Limit { limit }): Query<Limit>) -> Json<Value> {
    Json(json!({ "jobs": rest.driver.history().jobs(limit.unwrap_or(DEFAULT_JOBS), summary) }))
}

async fn job(State(rest): Shared, Path(id): Path<String>) -> Response {
    let id = match id.parse::<JobId>() {
        Ok(id) => id,
        Err(message) => return error(StatusCode::BAD_REQUEST, "invalid", &message),
    };
    match rest.driver.history().job(id, detail) {
        Some(detail) => Json(detail).into_response(),
        None => unknown(id),
    }
}

async fn cancel(State(rest): Shared, Path(id): Path<String>) -> Response {
    let id = match id.parse::<JobId>() {
        Ok(id) => id,
        Err(message) => return error(StatusCode::BAD_REQUEST, "invalid", &message),
    };
    match rest.driver.cancel(id, "by request over REST").await {
        Some(state) => Json(json!({ "job": id.to_string(), "state": state.as_str() })).into_response(),
        None => unknown(id),
    }
}

fn unknown(id: JobId) -> Response {
    error(StatusCode::NOT_FOUND, "not_found", &format!("there is no job {id}, or it ended long ago"))
}

fn summary(job: &JobRecord) -> Value {
    let (tasks, tasks_done, tasks_running) = job.tasks();
    json!({
        "job": job.id.to_string(),
        "name": job.info.name,
        "statement": job.info.statement,
        "user": job.info.user,
        "state": job.state.as_str(),
        "error": job.error,
        "submitted_ms": job.submitted_ms,
        "started_ms": job.started_ms,
        "ended_ms": job.ended_ms,
        "stages": job.stages.len(),
        "tasks": tasks,
        "tasks_done": tasks_done,
        "tasks_running": tasks_running,
    })
}

fn detail(job: &JobRecord) -> Value {
    let stages: Vec<Value> = job
        .stages
        .iter()
        .map(|stage| {
            json!({
                "index": stage.index,
                "inputs": stage.inputs,
                "state": stage.state.as_str(),
                "plan": stage.plan_with_metrics(),
                "tasks": stage.tasks,
                "tasks_done": stage.tasks_done,
                "tasks_running": stage.tasks_running,
                "failed_attempts": stage.failed_attempts,
                "rows": stage.rows,
                "bytes": stage.bytes,
                "elapsed_us": stage.elapsed.as_micros() as u64,
                "task_us": stage.task_time.as_micros() as u64,
            })
        })
        .collect();
    let mut summary = summary(job);
    summary["stages"] = Value::Array(stages);
    summary
}

async fn metrics(State(rest): Shared) -> Response {
    let executors = rest.driver.executors().await;
    let (running, queued) = rest.driver.history().live();
    let ended = rest.driver.history().jobs(usize::MAX, |job| job.state);
    let ended = |state: JobState| ended.iter().filter(|of| **of == state).count() as f64;
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, values: &[(String, f64)]| {
        // Writing to a string does not fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
        for (labels, value) in values {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let one = |value: f64| vec![(String::new(), value)];
    let per_executor = |value: &dyn Fn(&crate::driver::ExecutorEntry) -> f64| -> Vec<(String, f64)> {
        executors.iter().map(|entry| (format!("{{executor=\"{}\"}}", entry.id), value(entry))).collect()
    };
    gauge("windlass_executors", "Executors that are attached.", &one(executors.len() as f64));
    gauge("windlass_jobs_running", "Jobs that run.", &one(f64::from(running)));
    gauge("windlass_jobs_queued", "Jobs that wait to start.", &one(f64::from(queued)));
    let outcomes = [JobState::Finished, JobState::Failed, JobState::Cancelled];
    let outcomes: Vec<_> =
        outcomes.into_iter().map(|state| (format!("{{state=\"{}\"}}", state.as_str()), ended(state))).collect();
    gauge("windlass_jobs_ended", "Ended jobs that the history keeps, by outcome.", &outcomes);
    gauge("windlass_sessions", "Client sessions.", &one(rest.counted.sessions.len() as f64));
    gauge("windlass_results_kept", "Results that wait to be read.", &one(rest.counted.kept.len() as f64));
    gauge(
        "windlass_catalog_version",
        "Grows with each change of the catalog.",
        &one(rest.counted.catalog.version() as f64),
    );
    gauge(
        "windlass_executor_slots",
        "Tasks that the executor runs at a time.",
        &per_executor(&|e| f64::from(e.register.slots)),
    );
    gauge("windlass_executor_running_tasks", "Attempts that hold a slot.", &per_executor(&|e| f64::from(e.running)));
    gauge(
        "windlass_executor_memory_used_bytes",
        "Reserved in the memory pool.",
        &per_executor(&|e| e.heartbeat.memory_used_bytes as f64),
    );
    gauge(
        "windlass_executor_memory_resident_bytes",
        "Resident memory of the process.",
        &per_executor(&|e| e.heartbeat.memory_resident_bytes as f64),
    );
    gauge(
        "windlass_executor_exchange_disk_bytes",
        "Map outputs in files.",
        &per_executor(&|e| e.heartbeat.exchange_disk_bytes as f64),
    );
    gauge("windlass_uptime_seconds", "Since the primary began to serve.", &one(rest.started.elapsed().as_secs_f64()));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
