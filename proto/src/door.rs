//! The door: every server of the project starts in [`serve`], and every connection starts in [`dial`].

use std::time::Duration;
use tonic::transport::{Endpoint, Error};

#[cfg(feature = "server")]
pub use server::{Credentials, Serves, Unreadable, basic, credentials, identified, principal_of, serve};

/// HTTP/2 windows: maximum bytes in flight that the reader has not acknowledged, for one call and for all calls on one connection.
pub const STREAM_WINDOW: u32 = 8 << 20;
pub const CONNECTION_WINDOW: u32 = 16 << 20;
/// Maximum HTTP/2 frame for bulk reads: with the usual 16 KiB, framing a chunk costs more than sending it. A chunk of a map output and a piece of a block fit
/// into one frame, and then are not copied on arrival.
pub const FRAME_BYTES: u32 = 1 << 20;

/// Use of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A client's statements, and their results.
    Statements,
    /// An executor's stream of orders from its primary: a primary that hangs, or whose machine is gone, is given up soon.
    Orders,
    /// Map outputs and blocks, from executors.
    Bulk,
}

/// Prepares a connection to the server at `authority`, host:port. The loss of the peer's machine is noticed while a request waits.
///
/// # Errors
/// `authority` is not a valid address.
pub fn dial(authority: &str, purpose: Purpose, connect_timeout: Duration) -> Result<Endpoint, Error> {
    let (alive, patience, stream_window) = match purpose {
        // Results are large: with the default windows of 64 KiB a connection would be idle half of the time.
        Purpose::Statements => (5, 10, 4 << 20),
        Purpose::Orders => (2, 4, STREAM_WINDOW),
        // The answer may queue behind megabytes of blocks.
        Purpose::Bulk => (3, 8, STREAM_WINDOW),
    };
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))?
        .tcp_nodelay(true)
        .connect_timeout(connect_timeout)
        .http2_keep_alive_interval(Duration::from_secs(alive))
        .keep_alive_timeout(Duration::from_secs(patience))
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .user_agent(concat!("windlass/", env!("CARGO_PKG_VERSION")))?;
    Ok(match purpose {
        Purpose::Bulk => endpoint.max_frame_size(FRAME_BYTES),
        Purpose::Statements | Purpose::Orders => endpoint,
    })
}

#[cfg(feature = "server")]
mod server {
    use super::{CONNECTION_WINDOW, FRAME_BYTES, STREAM_WINDOW};
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
    use futures::Stream;
    use http::{HeaderMap, Request, header};
    use std::io;
    use std::time::Duration;
    use thiserror::Error;
    use tokio::io::{AsyncRead, AsyncWrite};
    use tonic::service::Routes;
    use tonic::transport::Server;
    use tonic::transport::server::Connected;
    use tower::util::MapRequestLayer;
    use windlass_core::access::Principal;

    /// Content of a server.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Serves {
        /// The services of a primary.
        Primary,
        /// Map outputs, results, blocks, and files over HTTP/1.1.
        Executor,
        /// HTTP for people and tools.
        Http,
        /// The address of the leader.
        Standby,
    }

    /// Serves `routes` on incoming connections until `stop`, then finishes the requests that have begun. Each request carries its principal.
    ///
    /// # Errors
    /// The listener failed.
    pub async fn serve<I, IO>(
        incoming: I,
        routes: Routes,
        serves: Serves,
        stop: impl Future<Output = ()>,
    ) -> Result<(), tonic::transport::Error>
    where
        I: Stream<Item = io::Result<IO>> + Send,
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let alive = (Some(Duration::from_secs(10)), Some(Duration::from_secs(20)));
        let bulk = |server: Server| {
            let server = server.initial_stream_window_size(STREAM_WINDOW);
            let server = server.initial_connection_window_size(CONNECTION_WINDOW);
            server.http2_keepalive_interval(alive.0).http2_keepalive_timeout(alive.1)
        };
        let mut server = match serves {
            Serves::Primary => bulk(Server::builder()),
            Serves::Executor => bulk(Server::builder()).accept_http1(true).max_frame_size(FRAME_BYTES),
            Serves::Http => Server::builder().accept_http1(true),
            Serves::Standby => Server::builder(),
        };
        server.add_routes(identified(routes)).serve_with_incoming_shutdown(incoming, stop).await
    }

    /// Adds a [`Principal`] to the extensions of each request.
    pub fn identified(routes: Routes) -> Routes {
        Routes::from(routes.into_axum_router().layer(MapRequestLayer::new(identify)))
    }

    /// Returns the principal of a request that came in through the door.
    pub fn principal_of<T>(request: &tonic::Request<T>) -> Principal {
        request.extensions().get::<Principal>().cloned().unwrap_or_default()
    }

    fn identify<B>(mut request: Request<B>) -> Request<B> {
        // A service that needs to reject an unreadable header reads it again.
        let principal = of_headers(request.headers()).map(|credentials| credentials.principal).unwrap_or_default();
        request.extensions_mut().insert(principal);
        request
    }

    fn of_headers(headers: &HeaderMap) -> Result<Credentials, Unreadable> {
        match headers.get(header::AUTHORIZATION) {
            None => Ok(Credentials::default()),
            Some(value) => credentials(value.to_str().map_err(|_| Unreadable)?),
        }
    }

    /// Credentials in a request.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Credentials {
        pub principal: Principal,
        /// Token of a session.
        pub token: Option<String>,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
    #[error("the authorization header is not understood: send 'Bearer TOKEN' or 'Basic CREDENTIALS'")]
    pub struct Unreadable;

    /// Parses the value of an authorization header.
    ///
    /// # Errors
    /// It is neither `Bearer` nor `Basic`, or cannot be decoded.
    pub fn credentials(authorization: &str) -> Result<Credentials, Unreadable> {
        match authorization.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Ok(Credentials { token: Some(token.trim().to_string()), ..Credentials::default() })
            }
            Some((scheme, encoded)) if scheme.eq_ignore_ascii_case("basic") => {
                Ok(Credentials { principal: Principal::user(basic(encoded)?), token: None })
            }
            _ => Err(Unreadable),
        }
    }

    /// Returns the user of `Basic` credentials. Without authentication any password is accepted.
    ///
    /// # Errors
    /// The credentials cannot be decoded.
    pub fn basic(encoded: &str) -> Result<String, Unreadable> {
        let encoded = encoded.trim();
        let decoded = STANDARD.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded)).map_err(|_| Unreadable)?;
        let text = String::from_utf8(decoded).map_err(|_| Unreadable)?;
        Ok(text.split_once(':').map_or(text.as_str(), |(user, _)| user).to_string())
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_request_is_made_by_whom_its_header_names() {
            let by = |authorization: Option<&str>| {
                let mut request = Request::new(());
                if let Some(value) = authorization {
                    request.headers_mut().insert(header::AUTHORIZATION, value.parse().unwrap());
                }
                identify(request).extensions().get::<Principal>().cloned()
            };
            assert_eq!(by(Some("Basic YW5uOnNlY3JldA==")), Some(Principal::user("ann")));
            for anonymous in [None, Some("Bearer t1"), Some("Negotiate x"), Some("Basic ???")] {
                assert_eq!(by(anonymous), Some(Principal::anonymous()), "{anonymous:?}");
            }
            assert_eq!(credentials("bearer t1").unwrap().token.as_deref(), Some("t1"));
            assert_eq!(credentials("Negotiate x"), Err(Unreadable));
        }
    }
}
