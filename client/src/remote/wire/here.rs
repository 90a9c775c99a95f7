//! A primary of this process.

use futures::FutureExt;
use parking_lot::RwLock;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::service::Routes;
use tower::{BoxError, Service};

/// The services of a primary of this process: the task that makes a request also runs it, like a function call.
#[derive(Clone, Debug)]
pub(crate) struct Services(Arc<RwLock<Option<Routes>>>);

impl Services {
    pub fn new(services: Routes) -> Self {
        Self(Arc::new(RwLock::new(Some(services))))
    }

    /// Drops the services. Later requests fail.
    pub fn stop(&self) {
        *self.0.write() = None;
    }

    pub(super) fn call(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, BoxError>> + Send + 'static {
        answer(self.0.read().clone(), request)
    }
}

async fn answer(services: Option<Routes>, request: Request<Body>) -> Result<Response<Body>, BoxError> {
    let mut services = services.ok_or_else(|| Status::unavailable("the embedded cluster has stopped"))?;
    // As over a network, a panic of the service is an error here.
    match AssertUnwindSafe(services.call(request)).catch_unwind().await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(never)) => match never {},
        Err(_) => Err(Status::internal("the request panicked: this is a defect of Windlass").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Wire;
    use super::*;
    use futures::future::BoxFuture;
    use std::convert::Infallible;
    use std::task::{Context, Poll};
    use tonic::Code;
    use tonic::server::NamedService;
    use windlass_proto::v1::ClusterStatusRequest;
    use windlass_proto::v1::admin_client::AdminClient;

    /// A service that panics at every request.
    #[derive(Clone)]
    struct Panics;

    impl NamedService for Panics {
        const NAME: &'static str = "windlass.v1.Admin";
    }

    impl Service<Request<Body>> for Panics {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            async { panic!("on purpose") }.boxed()
        }
    }

    #[tokio::test]
    async fn a_panic_and_a_stop_are_errors() {
        let here = Services::new(Routes::new(Panics));
        let ask = async || AdminClient::new(Wire::Here(here.clone())).cluster_status(ClusterStatusRequest {}).await;
        let panicked = ask().await.unwrap_err();
        assert_eq!((panicked.code(), panicked.message().contains("panicked")), (Code::Internal, true));
        here.stop();
        let stopped = ask().await.unwrap_err();
        assert_eq!((stopped.code(), stopped.message().contains("stopped")), (Code::Unavailable, true));
    }
}
