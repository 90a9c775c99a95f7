//! The answer of a standby: the address of the leader.

use crate::services::{HttpFaces, Leaders, standby_message};
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
use windlass_proto::door::{self, Serves};

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
    let incoming = TcpIncoming::from(grpc).with_nodelay(Some(true));
    let grpc = door::serve(incoming, Routes::from(answer), Serves::Standby, stop.clone().cancelled_owned());
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

fn status(leader: Option<String>) -> Status {
    let mut metadata = MetadataMap::new();
    // An address is ASCII. Without a leader the header is present and empty, which identifies a standby.
    if let Ok(value) = AsciiMetadataValue::try_from(leader.as_deref().unwrap_or_default()) {
        metadata.insert(LEADER_HEADER, value);
    }
    Status::with_metadata(Code::Unavailable, standby_message(leader.as_deref()), metadata)
}
