//! Transport to a primary.

#[cfg(feature = "embedded")]
mod here;

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::transport::Channel;
use tower::{BoxError, Service};

#[cfg(feature = "embedded")]
pub(crate) use here::Services;

/// Transport of requests: a network or a primary of this process.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    Network(Channel),
    #[cfg(feature = "embedded")]
    Here(Services),
}

impl Service<Request<Body>> for Wire {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Wire::Network(channel) => channel.poll_ready(cx).map_err(BoxError::from),
            #[cfg(feature = "embedded")]
            Wire::Here(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self {
            Wire::Network(channel) => channel.call(request).map_err(BoxError::from).boxed(),
            #[cfg(feature = "embedded")]
            Wire::Here(services) => services.call(request).boxed(),
        }
    }
}
