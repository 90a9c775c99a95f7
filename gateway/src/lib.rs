//! The HTTP faces of a primary: REST, metrics and WebHDFS. They translate requests to the scheduler's services, and know nothing below
//! those.

mod rest;
mod standby;
mod webhdfs;

use futures::FutureExt;
use futures::future::BoxFuture;
use std::io;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use windlass_scheduler::services::{HttpFaces, Leaders, Services};

/// All of them, on one port.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gateway;

impl HttpFaces for Gateway {
    fn serve(&self, services: Services, listener: TcpListener, stop: CancellationToken) -> BoxFuture<'static, ()> {
        let router = rest::router(services);
        async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
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
        async move { axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await }.boxed()
    }
}
