//! REST: the state of the cluster and of its jobs as JSON, and metrics for Prometheus.

use crate::driver::Driver;
use crate::history::{JobRecord, JobState};
use axum::Json;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt::Write;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use windlass_core::ids::JobId;

const DEFAULT_JOBS: usize = 100;

/// Serves until `stop` is cancelled.
pub(crate) async fn serve(listener: TcpListener, driver: Driver, stop: CancellationToken) {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .route("/api/v1/cluster", get(cluster))
        .route("/api/v1/jobs", get(jobs))
        .route("/api/v1/jobs/{job}", get(job).delete(cancel))
        .with_state(driver);
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "REST ended");
    }
}

#[derive(Deserialize)]
struct Limit {
    limit: Option<usize>,
}

async fn cluster(State(driver): State<Driver>) -> Json<Value> {
    let executors: Vec<Value> = driver
        .executors()
        .await
        .iter()
        .map(|entry| {
            json!({
                "id": entry.id.0,
                "name": entry.register.name,
                "address": entry.register.address,
                "host": entry.register.host,
                "rack": entry.register.rack,
                "slots": entry.register.slots,
                "memory_bytes": entry.register.memory_bytes,
                "pid": entry.register.pid,
                "state": entry.state,
                "running_tasks": entry.running,
            })
        })
        .collect();
    Json(json!({ "version": windlass_proto::version::VERSION, "executors": executors }))
}

async fn jobs(State(driver): State<Driver>, Query(limit): Query<Limit>) -> Json<Value> {
    let jobs: Vec<Value> = driver.history().jobs(limit.limit.unwrap_or(DEFAULT_JOBS), summary);
    Json(json!({ "jobs": jobs }))
}

async fn job(State(driver): State<Driver>, Path(job): Path<String>) -> Response {
    let found = job.parse::<JobId>().ok().and_then(|id| driver.history().job(id, detail));
    match found {
        Some(detail) => Json(detail).into_response(),
        None => unknown(&job),
    }
}

async fn cancel(State(driver): State<Driver>, Path(job): Path<String>) -> Response {
    let Ok(id) = job.parse::<JobId>() else { return unknown(&job) };
    match driver.cancel(id, "cancelled over REST").await {
        Some(state) => Json(json!({ "job": id.to_string(), "state": state.as_str() })).into_response(),
        None => unknown(&job),
    }
}

fn unknown(job: &str) -> Response {
    let error = format!("there is no job {job}: GET /api/v1/jobs lists those that are known");
    (StatusCode::NOT_FOUND, Json(json!({ "error": error }))).into_response()
}

fn summary(record: &JobRecord) -> Value {
    json!({
        "job": record.id.to_string(),
        "name": record.info.name,
        "statement": record.info.statement,
        "user": record.info.user,
        "state": record.state.as_str(),
        "error": record.error,
        "submitted_ms": record.submitted_ms,
        "started_ms": record.started_ms,
        "ended_ms": record.ended_ms,
        "stages": record.stages.len(),
        "tasks": record.stages.iter().map(|stage| stage.tasks).sum::<u32>(),
    })
}

fn detail(record: &JobRecord) -> Value {
    let stages: Vec<Value> = record
        .stages
        .iter()
        .map(|stage| {
            json!({
                "index": stage.index,
                "inputs": stage.inputs,
                "tasks": stage.tasks,
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
    job
}

async fn metrics(State(driver): State<Driver>) -> String {
    let executors = driver.executors().await;
    let states = driver.history().jobs(usize::MAX, |record| record.state);
    let mut text = String::new();
    gauge(&mut text, "windlass_executors", "Executors that are attached.", executors.len() as u64);
    let slots = executors.iter().map(|entry| u64::from(entry.register.slots)).sum();
    gauge(&mut text, "windlass_slots", "Task slots of all executors.", slots);
    let _ = writeln!(text, "# HELP windlass_jobs Jobs that the history knows, by state.\n# TYPE windlass_jobs gauge");
    for state in [JobState::Queued, JobState::Running, JobState::Finished, JobState::Failed, JobState::Cancelled] {
        let count = states.iter().filter(|&&of| of == state).count();
        let _ = writeln!(text, "windlass_jobs{{state=\"{}\"}} {count}", state.as_str());
    }
    text
}

/// Writing to a string does not fail.
fn gauge(text: &mut String, name: &str, help: &str, value: u64) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
}
