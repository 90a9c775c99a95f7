//! REST after Apache Livy 0.8: sessions, statements and batches of SQL and Python. `docs/livy.md` says what differs.
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

pub(crate) use answers::{SessionState, StatementState};
pub(crate) use batches::BatchState;
pub(crate) use refusal::described::Unavailable;

use crate::requests::{self, with_body};
use answers::{
    Candidates, Forms, Log, Message, Session, SessionList, StateOfSession, Statement, StatementList, Version,
};
use asked::{
    Complete, CreateSession, DoAs, Execute, Named, OfSession, OfStatement, Page, PageOfLog, PageOfStatements,
    Parameters, Sent, Wait,
};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Json, Router};
use refusal::Refusal;
use refusal::described::{Compressed, Invalid, NotFound, TooLarge};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use windlass_core::access::Principal;
use windlass_scheduler::services::Services;
use windlass_scheduler::services::interactive::{InteractiveError, Key, Kind, NewStatement};

/// The version of Livy whose calls these are.
const VERSION: &str = "0.8.0-incubating";

/// Calls of Livy that hand over code of the JVM, or files beside it.
const LACKING: [&str; 10] = [
    "submit-job",
    "run-job",
    "jobs/{job}",
    "jobs/{job}/cancel",
    "upload-jar",
    "upload-pyfile",
    "upload-file",
    "add-jar",
    "add-pyfile",
    "add-file",
];

type Who = Extension<Principal>;
type Answer = Result<Response, Refusal>;

/// Returns the routes, and their description.
pub(crate) fn routes(services: Services) -> (Router, OpenApi) {
    let described = OpenApiRouter::default()
        .routes(routes!(list, create))
        .routes(routes!(show, delete))
        .routes(routes!(state))
        .routes(routes!(log))
        .routes(routes!(connect))
        .routes(routes!(stop))
        .routes(routes!(interrupt))
        .routes(routes!(complete))
        .routes(routes!(statements, execute))
        .routes(routes!(statement))
        .routes(routes!(cancel))
        .merge(batches::routes())
        .routes(routes!(version));
    let (router, description) = described.split_for_parts();
    let add = |router: Router<Services>, call: &&str| router.route(&format!("/sessions/{{id}}/{call}"), any(lacking));
    let router = LACKING
        .iter()
        .fold(router, add)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(|request, next| {
            with_body(request, next, |status, message| Refusal { status, message }.into_response())
        }))
        .with_state(services);
    (router, description)
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    Refusal { status: StatusCode::METHOD_NOT_ALLOWED, message: requests::wrong_method(&method, &uri) }
}

async fn lacking(uri: Uri) -> Refusal {
    let message = format!(
        "{} is a call for programs of the JVM and their files, which Windlass does not run: POST statements of SQL or Python, or a program of Python to /batches",
        uri.path()
    );
    Refusal { status: StatusCode::NOT_IMPLEMENTED, message }
}

/// Shows the version of Livy whose calls these are.
#[utoipa::path(
    get, path = "/version", tag = "about",
    responses((status = 200, description = "The version.", body = Version), Unavailable)
)]
async fn version() -> Json<Version> {
    Json(Version {
        version: VERSION,
        user: "windlass",
        revision: concat!("windlass-", env!("CARGO_PKG_VERSION")),
        branch: "",
        date: "",
        url: "",
    })
}

// ---- sessions

/// Lists sessions, oldest first.
#[utoipa::path(
    get, path = "/sessions", tag = "sessions", operation_id = "list_sessions", params(Page),
    responses((status = 200, description = "Sessions.", body = SessionList), Invalid, Unavailable)
)]
async fn list(State(services): State<Services>, Extension(by): Who, Parameters(page): Parameters<Page>) -> Answer {
    let (from, size) = page.bounds();
    let (total, views) = services.interactive.list(&by, from, size);
    Ok(Json(SessionList { from, total, sessions: views.into_iter().map(Session::from).collect() }).into_response())
}

/// Opens a session. It is durable when this returns, and takes statements while it starts.
#[utoipa::path(
    post, path = "/sessions", tag = "sessions", operation_id = "create_session", params(DoAs),
    request_body(
        content = CreateSession,
        example = json!({ "kind": "sql", "name": "tour", "conf": { "spark.sql.session.timeZone": "UTC" }, "idleTimeout": "30m" })
    ),
    responses(
        (status = 201, description = "The session.", body = Session, headers(("Location" = String, description = "Its path."))),
        Invalid, TooLarge, Compressed, Unavailable,
    )
)]
async fn create(
    State(services): State<Services>,
    Extension(by): Who,
    Parameters(do_as): Parameters<DoAs>,
    Sent(create): Sent<CreateSession>,
) -> Answer {
    let view = services.interactive.create(&by, create.session(do_as)?).await.map_err(rejected)?;
    let location = [(header::LOCATION, format!("/sessions/{}", view.id))];
    Ok((StatusCode::CREATED, location, Json(Session::from(view))).into_response())
}

/// Says why a session or a batch is not created, in the words of Livy.
fn rejected(error: InteractiveError) -> Refusal {
    let refusal = Refusal::from(error);
    match refusal.status {
        StatusCode::BAD_REQUEST => Refusal::bad(format!("Rejected, Reason: {}", refusal.message)),
        _ => refusal,
    }
}

/// Shows a session.
#[utoipa::path(
    get, path = "/sessions/{id}", tag = "sessions", operation_id = "show_session", params(OfSession),
    responses((status = 200, description = "The session.", body = Session), Invalid, NotFound, Unavailable)
)]
async fn show(State(services): State<Services>, Extension(by): Who, Named(of): Named<OfSession>) -> Answer {
    let view = services.interactive.find(&by, &of.key())?;
    Ok(Json(Session::from(view)).into_response())
}

/// Ends a session and forgets it.
#[utoipa::path(
    delete, path = "/sessions/{id}", tag = "sessions", operation_id = "delete_session", params(OfSession),
    responses((status = 200, description = "It is gone.", body = Message), Invalid, NotFound, Unavailable)
)]
async fn delete(State(services): State<Services>, Extension(by): Who, Named(of): Named<OfSession>) -> Answer {
    services.interactive.delete(&by, &of.key()).await?;
    Ok(deleted())
}

fn done(what: &str) -> Response {
    Json(Message { msg: what.to_string() }).into_response()
}

fn deleted() -> Response {
    done("deleted")
}

/// Shows the state of a session.
#[utoipa::path(
    get, path = "/sessions/{id}/state", tag = "sessions", operation_id = "state_of_session", params(OfSession),
    responses((status = 200, description = "The state.", body = StateOfSession), Invalid, NotFound, Unavailable)
)]
async fn state(State(services): State<Services>, Extension(by): Who, Named(of): Named<OfSession>) -> Answer {
    let view = services.interactive.find(&by, &of.key())?;
    Ok(Json(StateOfSession { id: view.id, state: view.state.into() }).into_response())
}

/// Returns lines of a session's log, which names options that were ignored, and why the session has ended.
#[utoipa::path(
    get, path = "/sessions/{id}/log", tag = "sessions", operation_id = "log_of_session", params(OfSession, PageOfLog),
    responses((status = 200, description = "Lines.", body = Log), Invalid, NotFound, Unavailable)
)]
async fn log(
    State(services): State<Services>,
    Extension(by): Who,
    Named(of): Named<OfSession>,
    Parameters(page): Parameters<PageOfLog>,
) -> Answer {
    let (id, lines) = services.interactive.log(&by, &of.key())?;
    let (from, log) = page.of(&lines);
    Ok(Json(Log { id, from, total: lines.len(), log }).into_response())
}

/// Shows a session, and counts as use of it.
#[utoipa::path(
    post, path = "/sessions/{id}/connect", tag = "sessions", operation_id = "connect_session", params(OfSession),
    responses((status = 200, description = "The session.", body = Session), Invalid, NotFound, Unavailable)
)]
async fn connect(State(services): State<Services>, Extension(by): Who, Named(of): Named<OfSession>) -> Answer {
    let view = services.interactive.connect(&by, &of.key())?;
    Ok(Json(Session::from(view)).into_response())
}

/// Ends a session and its statements. It stays known for a while.
#[utoipa::path(
    post, path = "/sessions/{id}/stop", tag = "sessions", operation_id = "stop_session", params(OfSession),
    responses((status = 204, description = "It has ended."), Invalid, NotFound, Unavailable)
)]
async fn stop(State(services): State<Services>, Extension(by): Who, Named(of): Named<OfSession>) -> Answer {
    services.interactive.stop(&by, &of.key()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Cancels all statements of a session that have not ended.
#[utoipa::path(
    post, path = "/sessions/{id}/interrupt", tag = "sessions", operation_id = "interrupt_session", params(OfSession),
    responses((status = 200, description = "They are cancelled.", body = Message), Invalid, NotFound, Unavailable)
)]
async fn interrupt(State(services): State<Services>, Extension(by): Who, Named(of): Named<OfSession>) -> Answer {
    services.interactive.interrupt(&by, &of.key()).await?;
    Ok(done("interrupted"))
}

/// Says how the word before the cursor may go on: words of SQL, and tables that the session sees.
#[utoipa::path(
    post, path = "/sessions/{id}/completion", tag = "sessions", operation_id = "complete", params(OfSession),
    request_body = Complete,
    responses(
        (status = 200, description = "Candidates, in order.", body = Candidates),
        Invalid, NotFound, TooLarge, Compressed, Unavailable,
    )
)]
async fn complete(
    State(services): State<Services>,
    Extension(by): Who,
    Named(of): Named<OfSession>,
    Sent(Complete { code, cursor, kind }): Sent<Complete>,
) -> Answer {
    let view = services.interactive.connect(&by, &of.key())?;
    let kind = kind.map_or(view.asked.kind, Kind::from);
    let candidates = completion::candidates(&services, &by, &view, kind, (&code, cursor)).await;
    Ok(Json(Candidates { candidates }).into_response())
}

// ---- statements

/// Lists the statements of a session that are kept: those that have not ended, and the last that have.
#[utoipa::path(
    get, path = "/sessions/{id}/statements", tag = "statements", operation_id = "list_statements",
    params(OfSession, PageOfStatements),
    responses((status = 200, description = "Statements.", body = StatementList), Invalid, NotFound, Unavailable)
)]
async fn statements(
    State(services): State<Services>,
    Extension(by): Who,
    Named(of): Named<OfSession>,
    Parameters(page): Parameters<PageOfStatements>,
    headers: HeaderMap,
) -> Answer {
    let ((from, size), forms) = (page.bounds(), Forms::of(&headers));
    let (total_statements, views) =
        services.interactive.statements(&by, &of.key(), from, size, page.newest_first()).await?;
    let statements = views.into_iter().map(|view| Statement::of(view, forms)).collect();
    Ok(Json(StatementList { total_statements, statements }).into_response())
}

/// Runs a statement after those before it. It is durable when this returns.
#[utoipa::path(
    post, path = "/sessions/{id}/statements", tag = "statements", operation_id = "run_statement",
    params(OfSession, Wait, ("Prefer" = Option<String>, Header, description = "`wait=SECONDS` instead of the parameter.")),
    request_body(content = Execute, example = json!({ "code": "select 1 as one", "kind": "sql" })),
    responses(
        (status = 201, description = "The statement.", body = Statement, headers(("Location" = String, description = "Its path."))),
        Invalid, NotFound, TooLarge, Compressed, Unavailable,
    )
)]
async fn execute(
    State(services): State<Services>,
    Extension(by): Who,
    Named(of): Named<OfSession>,
    Parameters(wait): Parameters<Wait>,
    headers: HeaderMap,
    Sent(Execute { code, kind }): Sent<Execute>,
) -> Answer {
    let (wait, key) = (wait.of(&headers), of.key());
    let session = services.interactive.find(&by, &key)?;
    let kind = kind.map_or(session.asked.kind, Kind::from);
    if kind == Kind::Shared {
        return Err(Refusal::bad("Code type should be specified if session kind is shared: add \"kind\": \"sql\""));
    }
    let work = wrapped::work_of(kind, &code);
    let mut view = services.interactive.run(&by, &key, NewStatement { code, kind, work }).await?;
    if !wait.is_zero() {
        view = services.interactive.statement(&by, &Key::Id(session.id), view.id, wait).await?;
    }
    let location = [(header::LOCATION, format!("/sessions/{}/statements/{}", session.id, view.id))];
    Ok((StatusCode::CREATED, location, Json(Statement::of(view, Forms::of(&headers)))).into_response())
}

/// Shows a statement with its output. The header `Accept` may name further forms: `text/plain`, `application/vnd.livy.table.v1+json`.
#[utoipa::path(
    get, path = "/sessions/{id}/statements/{statement}", tag = "statements", operation_id = "show_statement",
    params(
        OfStatement, Wait,
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS` instead of the parameter."),
    ),
    responses((status = 200, description = "The statement.", body = Statement), Invalid, NotFound, Unavailable)
)]
async fn statement(
    State(services): State<Services>,
    Extension(by): Who,
    Named(of): Named<OfStatement>,
    Parameters(wait): Parameters<Wait>,
    headers: HeaderMap,
) -> Answer {
    let view = services.interactive.statement(&by, &of.key(), of.statement, wait.of(&headers)).await?;
    Ok(Json(Statement::of(view, Forms::of(&headers))).into_response())
}

/// Cancels a statement. Nothing happens if it has ended.
#[utoipa::path(
    post, path = "/sessions/{id}/statements/{statement}/cancel", tag = "statements", operation_id = "cancel_statement",
    params(OfStatement),
    responses((status = 200, description = "It does not run any more.", body = Message), Invalid, NotFound, Unavailable)
)]
async fn cancel(State(services): State<Services>, Extension(by): Who, Named(of): Named<OfStatement>) -> Answer {
    services.interactive.cancel(&by, &of.key(), of.statement).await?;
    Ok(done("canceled"))
}
