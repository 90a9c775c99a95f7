//! Opening a session with a cluster.

use crate::error::Result;
use crate::remote::Remote;
use crate::session::Session;

/// Opens sessions.
pub struct Client;

impl Client {
    /// Connects to the primary at `url` (`grpc://host:port`) and opens a session there.
    ///
    /// Fails with [`ClientError::Unreachable`](crate::ClientError::Unreachable) when nobody answers, and with
    /// [`ClientError::Version`](crate::ClientError::Version) when the primary has another release.
    pub async fn connect(url: &str) -> Result<Session> {
        Client::connect_with_token(url, None).await
    }

    /// Connects like [`Client::connect_with_token`], in the open session with this id, which closing does not end.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when there is no such session, then or later.
    pub async fn join(url: &str, token: Option<String>, session: &str) -> Result<Session> {
        Ok(Session::new(Remote::join(url, token, session.to_owned()).await?))
    }

    /// Connects like [`Client::connect`], with a bearer token.
    pub async fn connect_with_token(url: &str, token: Option<String>) -> Result<Session> {
        Ok(Session::new(Remote::connect(url, token).await?))
    }
}
