//! What a primary answers while another one leads: who that is.

use crate::meta::{Leader, MetaStore};
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Status};
use windlass_proto::LEADER_HEADER;

/// Answers every call on both ports until `stop` is cancelled.
pub(crate) async fn serve(
    store: Arc<dyn MetaStore>,
    grpc: TcpListener,
    rest: Option<TcpListener>,
    stop: CancellationToken,
) -> Result<(), String> {
    let (of_grpc, of_rest) = (store.clone(), store);
    let answer = Router::new().fallback(move || {
        let store = of_grpc.clone();
        async move { status(&leader(store.as_ref()).await).into_http::<Body>() }
    });
    let grpc = tonic::transport::Server::builder()
        .add_routes(Routes::from(answer))
        .serve_with_incoming_shutdown(TcpIncoming::from(grpc).with_nodelay(Some(true)), stop.clone().cancelled_owned());
    let rest = async {
        let Some(rest) = rest else { return Ok(()) };
        let answer = Router::new().fallback(move || {
            let store = of_rest.clone();
            async move { refusal(&leader(store.as_ref()).await) }
        });
        axum::serve(rest, answer).with_graceful_shutdown(stop.clone().cancelled_owned()).await
    };
    let (grpc, rest) = tokio::join!(grpc, rest);
    grpc.map_err(|error| windlass_proto::describe(&error))?;
    rest.map_err(|error| error.to_string())
}

async fn leader(store: &dyn MetaStore) -> Option<Leader> {
    // A store that cannot be read knows no leader either.
    store.leader().await.ok().flatten()
}

fn message(leader: Option<&str>) -> String {
    match leader {
        Some(leader) => format!("this primary stands by; the leader is {leader}"),
        None => "this primary stands by, and nobody leads at the moment; try again in a few seconds".to_string(),
    }
}

fn status(leader: &Option<Leader>) -> Status {
    let url = leader.as_ref().map(|leader| leader.url.as_str());
    let mut metadata = MetadataMap::new();
    // An address is ASCII. Without a leader the header is there and empty: that is how a primary that stands by is known.
    if let Ok(value) = AsciiMetadataValue::try_from(url.unwrap_or_default()) {
        metadata.insert(LEADER_HEADER, value);
    }
    Status::with_metadata(Code::Unavailable, message(url), metadata)
}

fn refusal(leader: &Option<Leader>) -> Response {
    let rest = leader.as_ref().map(|leader| leader.rest.as_str()).filter(|rest| !rest.is_empty());
    let body = json!({ "error": { "kind": "standby", "message": message(rest) }, "leader": rest });
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], Json(body)).into_response()
}
