//! What a primary answers while another one leads: who that is.

use crate::meta::MetaStore;
use crate::services::HttpFaces;
use axum::Router;
use axum::body::Body;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Status};
use windlass_proto::LEADER_HEADER;

/// Knows who leads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leaders {
    store: Arc<dyn MetaStore>,
}

impl Leaders {
    pub(crate) fn new(store: Arc<dyn MetaStore>) -> Self {
        Leaders { store }
    }

    /// Returns `grpc://host:port` of the primary that leads. `None`: nobody does at the moment.
    pub async fn grpc(&self) -> Option<String> {
        // A store that cannot be read knows no leader either.
        self.store.leader().await.ok().flatten().map(|leader| leader.url)
    }

    /// Returns `http://host:port` of the primary that leads. `None`: nobody does at the moment, or it serves no HTTP.
    pub async fn rest(&self) -> Option<String> {
        self.store.leader().await.ok().flatten().map(|leader| leader.rest).filter(|rest| !rest.is_empty())
    }
}

/// Answers every call on both ports until `stop` is cancelled.
pub(crate) async fn serve(
    leaders: Leaders,
    grpc: TcpListener,
    rest: Option<(TcpListener, Arc<dyn HttpFaces>)>,
    stop: CancellationToken,
) -> Result<(), String> {
    let of_grpc = leaders.clone();
    let answer = Router::new().fallback(move || {
        let leaders = of_grpc.clone();
        async move { status(leaders.grpc().await).into_http::<Body>() }
    });
    let grpc = tonic::transport::Server::builder()
        .add_routes(Routes::from(answer))
        .serve_with_incoming_shutdown(TcpIncoming::from(grpc).with_nodelay(Some(true)), stop.clone().cancelled_owned());
    let rest = async {
        match rest {
            Some((listener, faces)) => faces.stand_by(leaders, listener, stop.clone()).await,
            None => Ok(()),
        }
    };
    let (grpc, rest) = tokio::join!(grpc, rest);
    grpc.map_err(|error| windlass_proto::describe(&error))?;
    rest.map_err(|error| error.to_string())
}

/// Says who leads, in words.
pub fn standby_message(leader: Option<&str>) -> String {
    match leader {
        Some(leader) => format!("this primary stands by; the leader is {leader}"),
        None => "this primary stands by, and nobody leads at the moment; try again in a few seconds".to_string(),
    }
}

fn status(leader: Option<String>) -> Status {
    let mut metadata = MetadataMap::new();
    // An address is ASCII. Without a leader the header is there and empty: that is how a primary that stands by is known.
    if let Ok(value) = AsciiMetadataValue::try_from(leader.as_deref().unwrap_or_default()) {
        metadata.insert(LEADER_HEADER, value);
    }
    Status::with_metadata(Code::Unavailable, standby_message(leader.as_deref()), metadata)
}
