//! REST after Apache Livy 0.8: sessions, statements and batches of SQL and Python. `docs/livy.md` says what differs.
//!
//! | | |
//! | --- | --- |
//! | `GET /sessions?from=&size=`, `POST /sessions` | |
//! | `GET /sessions/{id or name}`, `DELETE` | |
//! | `GET /sessions/{id}/state`, `/log?from=&size=` | |
//! | `POST /sessions/{id}/connect`, `/stop`, `/interrupt`, `/completion` | |
//! | `GET /sessions/{id}/statements?order=&from=&size=`, `POST` | |
//! | `GET /sessions/{id}/statements/{n}?wait=MS`, `POST …/cancel` | |
//! | `/batches…` | see [`batches`] |
//! | `GET /version` | |
//!
//! A request for one session is a heartbeat of its client. `?wait=` and the header `Prefer: wait=` make a request wait for the end of its statement.
//! Errors are `{"msg": …}`.

mod answers;
mod asked;
mod batches;
mod completion;
mod refusal;
mod values;
mod wrapped;

use answers::Forms;
use asked::{Complete, Create, Execute, Parameters};
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use refusal::Refusal;
use serde_json::{Value, json};
use std::collections::HashMap;
use windlass_core::access::Principal;
use windlass_scheduler::services::Services;
use windlass_scheduler::services::interactive::{InteractiveError, Key, Kind, NewStatement};

/// The version of Livy whose calls these are.
const VERSION: &str = "0.8.0-incubating";

/// Sessions in a list that asks for no number.
const PAGE: usize = 100;

type Who = Extension<Principal>;
type Answer = Result<Response, Refusal>;
type Asked = Query<HashMap<String, String>>;

pub(crate) fn routes(services: Services) -> Router {
    Router::new()
        .route("/sessions", get(list).post(create))
        .route("/sessions/", get(list).post(create))
        .route("/sessions/{id}", get(show).delete(delete))
        .route("/sessions/{id}/state", get(state))
        .route("/sessions/{id}/log", get(log))
        .route("/sessions/{id}/connect", post(connect))
        .route("/sessions/{id}/stop", post(stop))
        .route("/sessions/{id}/interrupt", post(interrupt))
        .route("/sessions/{id}/completion", post(complete))
        .route("/sessions/{id}/statements", get(statements).post(execute))
        .route("/sessions/{id}/statements/{statement}", get(statement))
        .route("/sessions/{id}/statements/{statement}/cancel", post(cancel))
        .route("/version", get(version))
        .merge(batches::routes())
        .with_state(services)
}

/// Returns the session that a path names: a number, or else a name.
fn key(text: &str) -> Key {
    match text.parse() {
        Ok(id) if text.bytes().all(|c| c.is_ascii_digit()) => Key::Id(id),
        _ => Key::Name(text.to_string()),
    }
}

fn number(text: &str) -> Result<u32, Refusal> {
    text.parse().map_err(|_| Refusal::bad(format!("\"{text}\" is not a number of a statement")))
}

/// Answers with JSON that is written already.
fn written(status: StatusCode, json: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], json).into_response()
}

async fn version() -> Json<Value> {
    Json(json!({
        "version": VERSION,
        "user": "windlass",
        "revision": concat!("windlass-", env!("CARGO_PKG_VERSION")),
        "branch": "",
        "date": "",
        "url": "",
    }))
}

// ---- sessions

async fn list(State(services): State<Services>, Extension(by): Who, Query(asked): Asked) -> Answer {
    let asked = Parameters(asked);
    let (from, size) = (asked.count("from")?.unwrap_or(0), asked.count("size")?.unwrap_or(PAGE));
    let (total, views) = services.interactive.list(&by, from, size);
    let sessions: Vec<Value> = views.iter().map(answers::session).collect();
    Ok(Json(json!({ "from": from, "total": total, "sessions": sessions })).into_response())
}

async fn create(State(services): State<Services>, Extension(by): Who, Query(parameters): Asked, body: Body) -> Answer {
    let create: Create = asked::body(body).await?;
    let new = create.session(&Parameters(parameters))?;
    let view = services.interactive.create(&by, new).await.map_err(rejected)?;
    let location = [(header::LOCATION, format!("/sessions/{}", view.id))];
    Ok((StatusCode::CREATED, location, Json(answers::session(&view))).into_response())
}

/// Says why a session or a batch is not created, in the words of Livy.
fn rejected(error: InteractiveError) -> Refusal {
    let refusal = Refusal::from(error);
    match refusal.status {
        StatusCode::BAD_REQUEST => Refusal::bad(format!("Rejected, Reason: {}", refusal.message)),
        _ => refusal,
    }
}

async fn show(State(services): State<Services>, Extension(by): Who, Path(id): Path<String>) -> Answer {
    let view = services.interactive.find(&by, &key(&id))?;
    Ok(Json(answers::session(&view)).into_response())
}

async fn delete(State(services): State<Services>, Extension(by): Who, Path(id): Path<String>) -> Answer {
    services.interactive.delete(&by, &key(&id)).await?;
    Ok(Json(json!({ "msg": "deleted" })).into_response())
}

async fn state(State(services): State<Services>, Extension(by): Who, Path(id): Path<String>) -> Answer {
    let view = services.interactive.find(&by, &key(&id))?;
    Ok(Json(json!({ "id": view.id, "state": answers::state_name(view.state) })).into_response())
}

async fn log(
    State(services): State<Services>,
    Extension(by): Who,
    Path(id): Path<String>,
    Query(asked): Asked,
) -> Answer {
    let asked = Parameters(asked);
    let (id, lines) = services.interactive.log(&by, &key(&id))?;
    Ok(Json(page_of_log(id, &lines, &asked)?).into_response())
}

/// Returns lines of a log: the last ones, unless it is said where to begin.
fn page_of_log(id: u32, lines: &[String], asked: &Parameters) -> Result<Value, Refusal> {
    let size = asked.number("size")?.and_then(|size| usize::try_from(size).ok());
    let size = if asked.number("size")?.is_none() { PAGE } else { size.unwrap_or(lines.len()) };
    let from = asked.number("from")?.and_then(|from| usize::try_from(from).ok());
    let from = from.unwrap_or(lines.len().saturating_sub(size));
    let shown: Vec<&String> = lines.iter().skip(from).take(size).collect();
    Ok(json!({ "id": id, "from": from, "total": lines.len(), "log": shown }))
}

async fn connect(State(services): State<Services>, Extension(by): Who, Path(id): Path<String>) -> Answer {
    let view = services.interactive.connect(&by, &key(&id))?;
    Ok(Json(answers::session(&view)).into_response())
}

async fn stop(State(services): State<Services>, Extension(by): Who, Path(id): Path<String>) -> Answer {
    services.interactive.stop(&by, &key(&id)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn interrupt(State(services): State<Services>, Extension(by): Who, Path(id): Path<String>) -> Answer {
    services.interactive.interrupt(&by, &key(&id)).await?;
    Ok(Json(json!({ "msg": "interrupted" })).into_response())
}

async fn complete(State(services): State<Services>, Extension(by): Who, Path(id): Path<String>, body: Body) -> Answer {
    let Complete { code, cursor, .. } = asked::body(body).await?;
    let view = services.interactive.connect(&by, &key(&id))?;
    let candidates = completion::candidates(&services, &by, &view, &code, cursor).await;
    Ok(Json(json!({ "candidates": candidates })).into_response())
}

// ---- statements

async fn statements(
    State(services): State<Services>,
    Extension(by): Who,
    Path(id): Path<String>,
    Query(asked): Asked,
    headers: HeaderMap,
) -> Answer {
    let (asked, forms) = (Parameters(asked), Forms::of(&headers));
    let newest_first = asked.text("order").is_some_and(|order| order.trim().eq_ignore_ascii_case("desc"));
    let (from, size) = (asked.count("from")?.unwrap_or(0), asked.count("size")?);
    let (total, views) = services.interactive.statements(&by, &key(&id), from, size, newest_first).await?;
    let shown: Vec<String> = views.iter().map(|view| answers::statement(view, forms)).collect();
    let json = format!(r#"{{"total_statements":{total},"statements":[{}]}}"#, shown.join(","));
    Ok(written(StatusCode::OK, json))
}

async fn execute(
    State(services): State<Services>,
    Extension(by): Who,
    Path(id): Path<String>,
    Query(asked): Asked,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let (wait, key) = (asked::wait(&Parameters(asked), &headers)?, key(&id));
    let Execute { code, kind } = asked::body(body).await?;
    let session = services.interactive.find(&by, &key)?;
    let kind = kind.unwrap_or(session.asked.kind);
    if kind == Kind::Shared {
        return Err(Refusal::bad("Code type should be specified if session kind is shared: add \"kind\": \"sql\""));
    }
    let work = wrapped::work_of(kind, &code);
    let mut view = services.interactive.run(&by, &key, NewStatement { code, kind, work }).await?;
    if !wait.is_zero() {
        view = services.interactive.statement(&by, &Key::Id(session.id), view.id, wait).await?;
    }
    let location = format!("/sessions/{}/statements/{}", session.id, view.id);
    let response = written(StatusCode::CREATED, answers::statement(&view, Forms::of(&headers)));
    Ok(([(header::LOCATION, location)], response).into_response())
}

async fn statement(
    State(services): State<Services>,
    Extension(by): Who,
    Path((id, statement)): Path<(String, String)>,
    Query(asked): Asked,
    headers: HeaderMap,
) -> Answer {
    let wait = asked::wait(&Parameters(asked), &headers)?;
    let view = services.interactive.statement(&by, &key(&id), number(&statement)?, wait).await?;
    Ok(written(StatusCode::OK, answers::statement(&view, Forms::of(&headers))))
}

async fn cancel(
    State(services): State<Services>,
    Extension(by): Who,
    Path((id, statement)): Path<(String, String)>,
) -> Answer {
    services.interactive.cancel(&by, &key(&id), number(&statement)?).await?;
    Ok(Json(json!({ "msg": "canceled" })).into_response())
}
