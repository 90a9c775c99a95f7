//! The answer of a standby: the address of the leader, to which clients of HTTP are sent on.

use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;
use windlass_scheduler::services::{Leaders, standby_message};

/// Paths by which somebody asks about this process, and not the cluster.
const OWN: [&str; 2] = ["/healthz", "/metrics"];

pub(crate) fn router(leaders: Leaders) -> Router {
    Router::new().fallback(move |uri: Uri| {
        let leaders = leaders.clone();
        async move { answer(&uri, leaders.rest().await) }
    })
}

fn answer(uri: &Uri, leader: Option<String>) -> Response {
    let message = standby_message(leader.as_deref());
    // Clients of Livy read `msg`.
    let body = Json(json!({ "error": { "kind": "standby", "message": message }, "msg": message, "leader": leader }));
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let there = leader.filter(|_| !OWN.contains(&uri.path())).map(|leader| format!("{leader}{path}"));
    match there.and_then(|there| HeaderValue::try_from(there).ok()) {
        // The method and the body go there too.
        Some(there) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, there)], body).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], body).into_response(),
    }
}
