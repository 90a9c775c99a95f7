//! `/batches`: scripts of SQL in files.
//!
//! | | |
//! | --- | --- |
//! | `GET /batches?from=&size=`, `POST /batches` | |
//! | `GET /batches/{id}`, `DELETE` | |
//! | `GET /batches/{id}/state`, `/log?from=&size=` | |

use super::asked::{self, Create, Parameters};
use super::{Answer, Asked, PAGE, Who, answers, key, page_of_log, rejected};
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use windlass_scheduler::services::Services;
use windlass_scheduler::services::batches::{BatchState, BatchView};

/// Lines of the log in a view of a batch.
const LINES: usize = 10;

pub(super) fn routes() -> Router<Services> {
    Router::new()
        .route("/batches", get(list).post(create))
        .route("/batches/", get(list).post(create))
        .route("/batches/{id}", get(show).delete(delete))
        .route("/batches/{id}/state", get(state))
        .route("/batches/{id}/log", get(log))
}

fn state_name(state: BatchState) -> &'static str {
    match state {
        BatchState::Starting => "starting",
        BatchState::Running => "running",
        BatchState::Success => "success",
        BatchState::Dead => "dead",
        BatchState::Killed => "killed",
    }
}

fn batch(view: &BatchView) -> Value {
    let older = view.log.len().saturating_sub(LINES);
    json!({
        "id": view.id,
        "name": view.name,
        "owner": answers::named(&view.owner),
        "proxyUser": view.proxy_user,
        "state": state_name(view.state),
        "appId": view.uid,
        "appInfo": { "driverLogUrl": null, "sparkUiUrl": null },
        "log": view.log[older..],
    })
}

async fn list(State(services): State<Services>, Extension(by): Who, Query(asked): Asked) -> Answer {
    let asked = Parameters(asked);
    let (from, size) = (asked.count("from")?.unwrap_or(0), asked.count("size")?.unwrap_or(PAGE));
    let (total, views) = services.batches.list(&by, from, size);
    let sessions: Vec<Value> = views.iter().map(batch).collect();
    Ok(Json(json!({ "from": from, "total": total, "sessions": sessions })).into_response())
}

async fn create(State(services): State<Services>, Extension(by): Who, Query(parameters): Asked, body: Body) -> Answer {
    let create: Create = asked::body(body).await?;
    let new = create.batch(&Parameters(parameters))?;
    let view = services.batches.create(&by, new).await.map_err(rejected)?;
    let location = [(header::LOCATION, format!("/batches/{}", view.id))];
    Ok((StatusCode::CREATED, location, Json(batch(&view))).into_response())
}

async fn show(State(services): State<Services>, Extension(by): Who, Path(id): Path<String>) -> Answer {
    Ok(Json(batch(&services.batches.find(&by, &key(&id))?)).into_response())
}

async fn state(State(services): State<Services>, Extension(by): Who, Path(id): Path<String>) -> Answer {
    let view = services.batches.find(&by, &key(&id))?;
    Ok(Json(json!({ "id": view.id, "state": state_name(view.state) })).into_response())
}

async fn log(
    State(services): State<Services>,
    Extension(by): Who,
    Path(id): Path<String>,
    Query(asked): Asked,
) -> Answer {
    let view = services.batches.with_log(&by, &key(&id)).await?;
    Ok(Json(page_of_log(view.id, &view.log, &Parameters(asked))?).into_response())
}

async fn delete(State(services): State<Services>, Extension(by): Who, Path(id): Path<String>) -> Answer {
    services.batches.delete(&by, &key(&id)).await?;
    Ok(Json(json!({ "msg": "deleted" })).into_response())
}
