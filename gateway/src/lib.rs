//! The HTTP faces of a primary: REST, metrics, Livy and WebHDFS. They translate requests to the scheduler's services, and know nothing below
//! them.
//!
//! The modules, lowest first. Each imports from those before it and from none behind it:
//!
//! | layer | modules |
//! | --- | --- |
//! | what they share | `requests` |
//! | faces | `webhdfs`, `kernels`, `livy`, `metrics`, `standby`, `rest` |

mod kernels;
mod livy;
mod metrics;
mod requests;
mod rest;
mod standby;
mod webhdfs;

use axum::Router;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::io;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tower::Layer;
use tower::util::MapRequestLayer;
use windlass_proto::door::{Serves, serve};
use windlass_scheduler::services::{HttpFaces, Leaders, Services};

/// All HTTP faces, on one port.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gateway;

impl HttpFaces for Gateway {
    fn serve(&self, services: Services, listener: TcpListener, stop: CancellationToken) -> BoxFuture<'static, ()> {
        let router = rest::router(services);
        async move {
            let served = answer(listener, router, stop).await;
            if let Err(error) = served {
                tracing::error!(%error, "REST ended");
            }
        }
        .boxed()
    }

    fn stand_by(
        &self,
        leaders: Leaders,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> BoxFuture<'static, io::Result<()>> {
        let router = standby::router(leaders);
        async move { answer(listener, router, stop).await.map_err(io::Error::other) }.boxed()
    }
}

async fn answer(listener: TcpListener, router: Router, stop: CancellationToken) -> Result<(), tonic::transport::Error> {
    // Routes are found by the path without a slash, so it goes before they are looked for.
    let router = Router::new().fallback_service(MapRequestLayer::new(requests::without_slash).layer(router));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    serve(incoming, Routes::from(router), Serves::Http, stop.cancelled_owned()).await
}
