//! The answer of a standby: the address of the leader.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;
use windlass_scheduler::services::{Leaders, standby_message};

pub(crate) fn router(leaders: Leaders) -> Router {
    Router::new().fallback(move || {
        let leaders = leaders.clone();
        async move { refusal(leaders.rest().await) }
    })
}

fn refusal(leader: Option<String>) -> Response {
    let message = standby_message(leader.as_deref());
    // Clients of Livy read `msg`.
    let body = json!({ "error": { "kind": "standby", "message": message }, "msg": message, "leader": leader });
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], Json(body)).into_response()
}
