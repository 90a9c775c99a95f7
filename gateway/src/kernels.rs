//! Python processes of interactive sessions, as they reach their primary.
//!
//! | | |
//! | --- | --- |
//! | `GET /api/v1/kernels/{name}` | what the process is to do, a line of JSON each, as long as its session wants it |
//! | `POST /api/v1/kernels/{name}/results/{statement}` | the result of the running statement |
//!
//! Both have a secret as their bearer token: the first one that with which the process was started, which serves once; the others that of the first line.

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;
use windlass_scheduler::services::Services;
use windlass_scheduler::services::interactive::{KernelError, Order, Orders, PythonResult};

/// Time without an order after which a process is told that this primary lives.
const PING: Duration = Duration::from_secs(5);
/// Maximum bytes of a result. Processes keep to the limit of outputs, which is much smaller.
const RESULT_BYTES: usize = 64 << 20;

pub(crate) fn routes(services: Services) -> Router {
    Router::new()
        .route("/api/v1/kernels/{name}", get(connect))
        .route("/api/v1/kernels/{name}/results/{statement}", post(ended))
        .layer(DefaultBodyLimit::max(RESULT_BYTES))
        .with_state(services)
}

async fn connect(State(services): State<Services>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    match services.interactive.kernels().connect(&name, bearer(&headers)) {
        Ok(orders) => Body::from_stream(futures::stream::unfold(orders, next_line)).into_response(),
        Err(error) => refused(error),
    }
}

async fn next_line(mut orders: Orders) -> Option<(Result<String, Infallible>, Orders)> {
    let line = match tokio::time::timeout(PING, orders.next()).await {
        Ok(order) => line_of(order?),
        Err(_) => json!({ "ping": true }),
    };
    Some((Ok(format!("{line}\n")), orders))
}

fn line_of(order: Order) -> Value {
    match order {
        Order::Begin { secret, session, limit } => json!({ "secret": secret, "session": session, "limit": limit }),
        Order::Run { statement, code } => json!({ "run": statement, "code": code }),
        Order::Interrupt { statement } => json!({ "interrupt": statement }),
    }
}

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Sent {
    /// `data`: a JSON object of forms.
    Ok {
        data: String,
    },
    Error {
        ename: String,
        evalue: String,
        traceback: Vec<String>,
        printed: String,
    },
}

async fn ended(
    State(services): State<Services>,
    Path((name, statement)): Path<(String, u32)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let result = match serde_json::from_slice(&body) {
        Ok(Sent::Ok { data }) => serde_json::from_str::<BTreeMap<String, IgnoredAny>>(&data)
            .map(|_| PythonResult::Done { forms: data.into() }),
        Ok(Sent::Error { ename, evalue, traceback, printed }) => {
            Ok(PythonResult::Failed { name: ename, message: evalue, traceback, printed })
        }
        Err(error) => Err(error),
    };
    let result = match result {
        Ok(result) => result,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, &format!("the result cannot be read: {wrong}")),
    };
    match services.interactive.kernels().ended(&name, bearer(&headers), statement, result) {
        Ok(()) => Json(json!({})).into_response(),
        Err(error) => refused(error),
    }
}

fn bearer(headers: &HeaderMap) -> &str {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    header.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default()
}

fn refused(why: KernelError) -> Response {
    let status = match why {
        KernelError::NotKnown => StatusCode::NOT_FOUND,
        KernelError::Denied => StatusCode::FORBIDDEN,
        KernelError::NotRunning => StatusCode::CONFLICT,
    };
    error(status, &why.to_string())
}

fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": { "kind": "kernel", "message": message } }))).into_response()
}
