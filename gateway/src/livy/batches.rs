//! `/batches`: scripts of SQL and programs of Python, in files.

use super::Answer;
use super::Who;
use super::answers::{AppInfo, Log, Message, named};
use super::asked::{CreateBatch, DoAs, Named, OfSession, Page, PageOfLog, Parameters, Sent};
use super::refusal::described::{Compressed, Invalid, NotFound, TooLarge};
use super::{Unavailable, deleted, rejected};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use windlass_scheduler::services::Services;
use windlass_scheduler::services::batches::{self as service, BatchView};

/// Lines of the log in a view of a batch.
const LINES: usize = 10;

pub(super) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::default()
        .routes(routes!(list, create))
        .routes(routes!(show, delete))
        .routes(routes!(state))
        .routes(routes!(log))
}

/// `dead`: it failed. `killed`: it was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BatchState {
    Starting,
    Running,
    Success,
    Dead,
    Killed,
}

impl From<service::BatchState> for BatchState {
    fn from(state: service::BatchState) -> Self {
        match state {
            service::BatchState::Starting => BatchState::Starting,
            service::BatchState::Running => BatchState::Running,
            service::BatchState::Success => BatchState::Success,
            service::BatchState::Dead => BatchState::Dead,
            service::BatchState::Killed => BatchState::Killed,
        }
    }
}

impl std::fmt::Display for BatchState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        named(self, f)
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Batch {
    id: u32,
    #[schema(required)]
    name: Option<String>,
    /// User that created it, if the request named one.
    #[schema(required)]
    owner: Option<String>,
    /// User for whom it acts.
    #[schema(required)]
    proxy_user: Option<String>,
    state: BatchState,
    /// Unique among all batches that ever were.
    app_id: String,
    app_info: AppInfo,
    /// The last 10 lines of its log, oldest first.
    log: Vec<String>,
}

impl From<BatchView> for Batch {
    fn from(mut view: BatchView) -> Self {
        let older = view.log.len().saturating_sub(LINES);
        Batch {
            id: view.id,
            name: view.name,
            owner: Some(view.owner).filter(|user| !user.is_empty()),
            proxy_user: view.proxy_user,
            state: view.state.into(),
            app_id: view.uid,
            app_info: AppInfo::default(),
            log: view.log.split_off(older),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct BatchList {
    /// Position of the first one, from 0.
    from: usize,
    /// Number of all batches that are known.
    total: usize,
    sessions: Vec<Batch>,
}

#[derive(Debug, Serialize, ToSchema)]
struct StateOfBatch {
    id: u32,
    state: BatchState,
}

/// Lists batches, oldest first.
#[utoipa::path(
    get, path = "/batches", tag = "batches", operation_id = "list_batches", params(Page),
    responses((status = 200, description = "Batches.", body = BatchList), Invalid, Unavailable)
)]
async fn list(State(services): State<Services>, Extension(by): Who, Parameters(page): Parameters<Page>) -> Answer {
    let (from, size) = page.bounds();
    let (total, views) = services.batches.list(&by, from, size);
    Ok(Json(BatchList { from, total, sessions: views.into_iter().map(Batch::from).collect() }).into_response())
}

/// Creates a batch. It is durable when this returns, and its script or program runs once, under whichever primary leads.
#[utoipa::path(
    post, path = "/batches", tag = "batches", operation_id = "create_batch", params(DoAs),
    request_body(content = CreateBatch, example = json!({ "file": "wfs:///jobs/nightly.sql", "args": ["2026-11-30"], "name": "nightly" })),
    responses(
        (status = 201, description = "The batch.", body = Batch, headers(("Location" = String, description = "Its path."))),
        Invalid, TooLarge, Compressed, Unavailable,
    )
)]
async fn create(
    State(services): State<Services>,
    Extension(by): Who,
    Parameters(do_as): Parameters<DoAs>,
    Sent(create): Sent<CreateBatch>,
) -> Answer {
    let view = services.batches.create(&by, create.batch(do_as)?).await.map_err(rejected)?;
    let location = [(header::LOCATION, format!("/batches/{}", view.id))];
    Ok((StatusCode::CREATED, location, Json(Batch::from(view))).into_response())
}

/// Shows a batch.
#[utoipa::path(
    get, path = "/batches/{id}", tag = "batches", operation_id = "show_batch", params(OfSession),
    responses((status = 200, description = "The batch.", body = Batch), Invalid, NotFound, Unavailable)
)]
async fn show(State(services): State<Services>, Extension(by): Who, Named(of): Named<OfSession>) -> Answer {
    Ok(Json(Batch::from(services.batches.find(&by, &of.key())?)).into_response())
}

/// Shows the state of a batch.
#[utoipa::path(
    get, path = "/batches/{id}/state", tag = "batches", operation_id = "state_of_batch", params(OfSession),
    responses((status = 200, description = "The state.", body = StateOfBatch), Invalid, NotFound, Unavailable)
)]
async fn state(State(services): State<Services>, Extension(by): Who, Named(of): Named<OfSession>) -> Answer {
    let view = services.batches.find(&by, &of.key())?;
    Ok(Json(StateOfBatch { id: view.id, state: view.state.into() }).into_response())
}

/// Returns lines of a batch's log: for a program, also what it has printed.
#[utoipa::path(
    get, path = "/batches/{id}/log", tag = "batches", operation_id = "log_of_batch", params(OfSession, PageOfLog),
    responses((status = 200, description = "Lines.", body = Log), Invalid, NotFound, Unavailable)
)]
async fn log(
    State(services): State<Services>,
    Extension(by): Who,
    Named(of): Named<OfSession>,
    Parameters(page): Parameters<PageOfLog>,
) -> Answer {
    let view = services.batches.with_log(&by, &of.key()).await?;
    let (from, log) = page.of(&view.log);
    Ok(Json(Log { id: view.id, from, total: view.log.len(), log }).into_response())
}

/// Cancels a batch that has not ended, and forgets it.
#[utoipa::path(
    delete, path = "/batches/{id}", tag = "batches", operation_id = "delete_batch", params(OfSession),
    responses((status = 200, description = "It is gone.", body = Message), Invalid, NotFound, Unavailable)
)]
async fn delete(State(services): State<Services>, Extension(by): Who, Named(of): Named<OfSession>) -> Answer {
    services.batches.delete(&by, &of.key()).await?;
    Ok(deleted())
}
