//! REST: the state of the cluster and of its jobs as JSON, and the document that describes all calls but WebHDFS and those of kernels.
//!
//! Errors are `{"error": {"kind": …, "message": …}}`.

mod answers;

use crate::requests::{self, with_body};
use answers::{Cancelled, Cluster, Error, ErrorKind, Job, JobList, JobWithStages};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use described::{Invalid, NotFound, Unavailable};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use windlass_core::access::Principal;
use windlass_core::ids::JobId;
use windlass_scheduler::services::Services;
use windlass_scheduler::services::jobs::JobsFilter;

const DEFAULT_JOBS: usize = 100;

type Who = Extension<Principal>;

/// The head of the document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Windlass",
        description = "Sessions, statements and batches as Apache Livy 0.8 has them, the state of the cluster and of its jobs, and metrics. Paths may end in a \
                       slash. Bodies are JSON of at most 8 MiB. Files are served as WebHDFS under /webhdfs/v1/, as Hadoop describes it."
    ),
    components(schemas(Error)),
    tags(
        (name = "sessions", description = "Interactive sessions. A request for a session is a heartbeat of its client."),
        (name = "statements", description = "Statements of a session, which run one after the other."),
        (name = "batches", description = "Scripts of SQL and programs of Python."),
        (name = "jobs", description = "Jobs, as the history of the primary has them."),
        (name = "about", description = "The cluster."),
    )
)]
struct Described;

/// Returns the routes.
pub(crate) fn router(services: Services) -> Router {
    let (livy, description_of_livy) = crate::livy::routes(services.clone());
    let kernels = crate::kernels::routes(services.clone());
    let (router, mut description) = OpenApiRouter::with_openapi(Described::openapi())
        .routes(routes!(healthz))
        .routes(routes!(cluster))
        .routes(routes!(jobs))
        .routes(routes!(job, cancel))
        .merge(crate::metrics::routes())
        .split_for_parts();
    description.merge(description_of_livy);
    let document = serde_json::to_string(&description).unwrap_or_else(|error| {
        tracing::error!(%error, "the interface cannot be described");
        "{}".to_string()
    });
    let webhdfs = crate::webhdfs::routes(services.files.clone());
    router
        .route("/openapi.json", get(move || async move { ([(header::CONTENT_TYPE, "application/json")], document) }))
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(|request, next| {
            with_body(request, next, |status, message| error(status, ErrorKind::Invalid, message))
        }))
        .with_state(services)
        .merge(webhdfs)
        .merge(livy)
        .merge(kernels)
}

fn error(status: StatusCode, kind: ErrorKind, message: impl Into<String>) -> Response {
    (status, Json(Error::of(kind, message))).into_response()
}

/// Answers a request for a path that is not here, in the form of REST and that of Livy: it is not known for which of them it is meant.
async fn nothing(uri: Uri) -> Response {
    let message = format!(
        "there is no {}: /openapi.json describes what there is, such as /api/v1/cluster, /api/v1/jobs and /sessions; files are under /webhdfs/v1/",
        uri.path()
    );
    (StatusCode::NOT_FOUND, Json(Nothing { msg: message.clone(), error: Error::of(ErrorKind::NotFound, message) }))
        .into_response()
}

#[derive(Serialize)]
struct Nothing {
    #[serde(flatten)]
    error: Error,
    msg: String,
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, ErrorKind::Invalid, requests::wrong_method(&method, &uri))
}

/// Answers while the primary leads.
#[utoipa::path(
    get, path = "/healthz", tag = "about",
    responses((status = 200, description = "It leads.", body = String, content_type = "text/plain", example = "ok"), Unavailable)
)]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Shows executors, how many are wanted and why, sessions, results, and numbers of jobs.
#[utoipa::path(
    get, path = "/api/v1/cluster", tag = "about", operation_id = "cluster",
    responses((status = 200, description = "The state of the cluster.", body = Cluster), Unavailable)
)]
async fn cluster(State(services): State<Services>, Extension(by): Who) -> Json<Cluster> {
    Json(services.cluster.status(&by).await.into())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Listed {
    /// Maximum number of jobs.
    #[param(default = 100)]
    limit: Option<usize>,
    /// Whether to include the cluster's own jobs.
    #[serde(default)]
    #[param(default = false)]
    all: bool,
}

/// Lists jobs and submissions, newest first.
#[utoipa::path(
    get, path = "/api/v1/jobs", tag = "jobs", operation_id = "list_jobs", params(Listed),
    responses((status = 200, description = "Jobs.", body = JobList), Invalid, Unavailable)
)]
async fn jobs(
    State(services): State<Services>,
    Extension(by): Who,
    listed: Result<Query<Listed>, QueryRejection>,
) -> Response {
    let Ok(Query(Listed { limit, all })) = listed else {
        let wanted = "limit is not a number, or all neither true nor false: write ?limit=100&all=true";
        return error(StatusCode::BAD_REQUEST, ErrorKind::Invalid, wanted);
    };
    let filter = JobsFilter { limit: limit.unwrap_or(DEFAULT_JOBS), internal: all };
    let jobs = services.jobs.list(&by, filter).into_iter().map(Job::from).collect();
    Json(JobList { jobs }).into_response()
}

/// Shows a job with its stages, or a submission with its jobs.
#[utoipa::path(
    get, path = "/api/v1/jobs/{job}", tag = "jobs", operation_id = "show_job",
    params(("job" = String, Path, description = "Id of the job.", example = "job-1")),
    responses((status = 200, description = "The job.", body = JobWithStages), NotFound, Unavailable)
)]
async fn job(
    State(services): State<Services>,
    Extension(by): Who,
    job: Result<Path<String>, PathRejection>,
) -> Response {
    let Ok(Path(job)) = job else { return unknown("of that name") };
    let found = job.parse::<JobId>().ok().and_then(|id| services.jobs.show(&by, id));
    match found {
        Some(found) => Json(JobWithStages::from(found)).into_response(),
        None => unknown(&job),
    }
}

/// Cancels a job, or a submission with its current job. Nothing happens if it has ended.
#[utoipa::path(
    delete, path = "/api/v1/jobs/{job}", tag = "jobs", operation_id = "cancel_job",
    params(("job" = String, Path, description = "Id of the job.", example = "job-1")),
    responses((status = 200, description = "The state after that.", body = Cancelled), NotFound, Unavailable)
)]
async fn cancel(
    State(services): State<Services>,
    Extension(by): Who,
    job: Result<Path<String>, PathRejection>,
) -> Response {
    let Ok(Path(job)) = job else { return unknown("of that name") };
    let Ok(id) = job.parse::<JobId>() else { return unknown(&job) };
    match services.jobs.cancel(&by, id).await {
        Ok(Some(state)) => Json(Cancelled { job: id.to_string(), state: state.into() }).into_response(),
        Ok(None) => unknown(&job),
        Err(refused) => error(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::NotLeading, refused.to_string()),
    }
}

fn unknown(job: &str) -> Response {
    let message = format!("there is no job {job}: GET /api/v1/jobs lists those that are known");
    error(StatusCode::NOT_FOUND, ErrorKind::NotFound, message)
}

/// Refusals, as the calls are described.
mod described {
    #![expect(dead_code, reason = "the macro reads their types")]

    use super::answers::Error;
    use utoipa::IntoResponses;

    /// Something in the request is wrong; the message says what.
    #[derive(IntoResponses)]
    #[response(status = 400)]
    pub(super) struct Invalid(Error);

    /// There is no such job, or it ended long ago.
    #[derive(IntoResponses)]
    #[response(status = 404)]
    pub(super) struct NotFound(Error);

    /// This primary stands by, or stops. Ask again, or ask the leader.
    #[derive(IntoResponses)]
    #[response(status = 503)]
    pub(super) struct Unavailable(Error);
}

#[cfg(test)]
mod tests {
    use crate::Gateway;
    use futures::future::BoxFuture;
    use serde_json::Value;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;
    use tokio::task::JoinSet;
    use tokio_util::sync::CancellationToken;
    use windlass_core::access::Principal;
    use windlass_scheduler::primary::PrimaryConfig;
    use windlass_scheduler::primary::leading::{ProcessConfig, RestConfig};
    use windlass_scheduler::primary::member::Member;
    use windlass_scheduler::services::jobs::JobState;
    use windlass_scheduler::services::submissions::Script;
    use windlass_scheduler::services::{HttpFaces, Leaders, Services};

    /// The gateway, which also passes on the services that it receives.
    #[derive(Debug)]
    struct Told(mpsc::UnboundedSender<Services>);

    impl HttpFaces for Told {
        fn serve(&self, services: Services, listener: TcpListener, stop: CancellationToken) -> BoxFuture<'static, ()> {
            self.0.send(services.clone()).unwrap();
            Gateway.serve(services, listener, stop)
        }

        fn stand_by(
            &self,
            leaders: Leaders,
            listener: TcpListener,
            stop: CancellationToken,
        ) -> BoxFuture<'static, std::io::Result<()>> {
            Gateway.stand_by(leaders, listener, stop)
        }
    }

    /// A primary without executors.
    struct Serving {
        services: Services,
        rest: SocketAddr,
        _folder: tempfile::TempDir,
        _serving: JoinSet<()>,
    }

    impl Serving {
        async fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let primary = PrimaryConfig { listen: any, ..PrimaryConfig::default() };
            let mut config = ProcessConfig::new(primary, folder.path().join("primary"));
            let (told, mut services) = mpsc::unbounded_channel();
            config.rest = Some(RestConfig { listen: any, faces: Arc::new(Told(told)) });
            let member = Member::bind(config).await.unwrap();
            let rest = member.addresses().rest.trim_start_matches("http://").parse().unwrap();
            let mut serving = JoinSet::new();
            serving.spawn(async move { member.run(CancellationToken::new()).await.unwrap() });
            let services = services.recv().await.unwrap();
            Serving { services, rest, _folder: folder, _serving: serving }
        }

        /// Returns the status code and the body.
        async fn ask(&self, method: &str, path: &str) -> (u16, String) {
            let mut stream = TcpStream::connect(self.rest).await.unwrap();
            let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_string())
        }

        async fn json(&self, method: &str, path: &str) -> (u16, Value) {
            let (status, body) = self.ask(method, path).await;
            (status, serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}")))
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_state_of_the_cluster_and_of_a_job_until_it_is_cancelled() {
        let serving = Serving::start().await;
        let (services, by) = (&serving.services, Principal::user("ann"));
        // The statement waits, because there is no executor.
        let sql = "select count(*) from generate_series(1, 1000000)".to_string();
        let script = Script { sql, name: "nightly".into(), ..Script::default() };
        let id = services.submissions.submit(&by, script).await.unwrap().to_string();

        assert_eq!(serving.ask("GET", "/healthz").await, (200, "ok\n".to_string()));
        let (_, state) = serving.json("GET", "/api/v1/cluster").await;
        assert_eq!(
            (&state["executors"], &state["sessions"], &state["results_kept"]),
            (&Value::Array(vec![]), &0.into(), &0.into())
        );
        assert_eq!(state["jobs_running"].as_u64().unwrap() + state["jobs_queued"].as_u64().unwrap(), 1);
        assert_eq!((&state["jobs"]["finished"], &state["jobs"]["cancelled"]), (&0.into(), &0.into()));
        assert!(state["uptime_ms"].is_u64());

        let (_, list) = serving.json("GET", "/api/v1/jobs?limit=5").await;
        let names: Vec<&Value> = list["jobs"].as_array().unwrap().iter().map(|job| &job["name"]).collect();
        assert!(names.contains(&&"nightly".into()), "{names:?}");
        let (_, submission) = serving.json("GET", &format!("/api/v1/jobs/{id}")).await;
        assert_eq!((&submission["user"], &submission["submission"]["statements"]), (&"ann".into(), &1.into()));
        let part = submission["submission"]["jobs"][0]["job"].as_str().unwrap();
        let (_, job) = serving.json("GET", &format!("/api/v1/jobs/{part}")).await;
        assert_eq!((&job["part_of"], &job["user"]), (&Value::from(id.clone()), &"ann".into()));
        let stages = job["stages"].as_array().unwrap();
        assert!(!stages.is_empty() && job["tasks_done"] == 0 && job["rows"] == 0, "{job}");

        let (status, cancelled) = serving.json("DELETE", &format!("/api/v1/jobs/{id}")).await;
        assert_eq!((status, &cancelled["state"]), (200, &JobState::Cancelled.as_str().into()));
        let (_, metrics) = serving.ask("GET", "/metrics").await;
        for line in ["windlass_executors 0", "windlass_jobs{state=\"cancelled\"} 1", "windlass_sessions 0"] {
            assert!(metrics.lines().any(|of| of == line), "{line} is not in:\n{metrics}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_not_there_or_not_understood_is_an_error_in_json() {
        let serving = Serving::start().await;
        for (method, path, status, kind) in [
            ("GET", "/api/v1/jobs/job-99", 404, "not_found"),
            ("DELETE", "/api/v1/jobs/nonsense", 404, "not_found"),
            ("GET", "/api/v1/jobs?limit=many", 400, "invalid"),
            ("GET", "/nowhere", 404, "not_found"),
        ] {
            let (answered, body) = serving.json(method, path).await;
            assert_eq!((answered, &body["error"]["kind"]), (status, &kind.into()), "{path}");
            assert!(!body["error"]["message"].as_str().unwrap().is_empty());
        }
    }
}
