//! A connection to a primary or an executor: the channel, and the headers of every request (session cookies, token, query id).

use super::wire::Wire;
use crate::backend::Delivery;
use crate::error::{ClientError, Result};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;
use tonic::codegen::http::Uri;
use tonic::codegen::http::uri::InvalidUri;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::Endpoint;
use tonic::{Request, Response};
use windlass_proto::door::{Purpose, dial};
use windlass_proto::{JOIN_HEADER, ROWS_HEADER, SENT_HEADER};

/// Time limit for connecting to a primary.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for connecting to an executor. It is shorter, because the primary can also serve an executor's results.
pub(crate) const EXECUTOR_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Header that names a statement before it runs.
pub(crate) const QUERY_HEADER: &str = "x-windlass-query";

/// Parses `grpc://host:port`, also written `grpc+tcp://`, `http://` or without a scheme.
pub(crate) fn endpoint(url: &str, connect_timeout: Duration) -> Result<Endpoint> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("grpc", url));
    let wrong = |why: &str| {
        ClientError::invalid(format!("\"{url}\" is not the address of a cluster: {why}; write grpc://HOST:PORT"))
    };
    match scheme {
        "grpc" | "grpc+tcp" | "http" => {}
        "grpcs" | "grpc+tls" | "https" => return Err(wrong("this release does not speak TLS")),
        other => return Err(wrong(&format!("the scheme \"{other}\" is unknown"))),
    }
    let authority = rest.trim_end_matches('/');
    if authority.is_empty() || authority.contains(['/', ' ']) {
        return Err(wrong("no host and port"));
    }
    let uri: Uri = format!("http://{authority}").parse().map_err(|e: InvalidUri| wrong(&e.to_string()))?;
    if uri.port_u16().is_none() {
        return Err(wrong("no port"));
    }
    dial(authority, Purpose::Statements, connect_timeout).map_err(|e| wrong(&e.to_string()))
}

pub(crate) async fn connect(url: &str, timeout: Duration) -> Result<Wire> {
    let endpoint = endpoint(url, timeout)?;
    match endpoint.connect().await {
        Ok(channel) => Ok(Wire::Network(channel)),
        Err(error) => {
            let resolves = resolves(endpoint.uri()).await;
            Err(ClientError::unreachable(url, &error, timeout, resolves))
        }
    }
}

/// Whether the host has an address.
async fn resolves(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    tokio::net::lookup_host((host, 0)).await.is_ok_and(|mut found| found.next().is_some())
}

/// Headers that make the requests of one client one session.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    token: Option<String>,
    /// The open session that they join.
    joins: Option<String>,
    cookies: Mutex<BTreeMap<String, String>>,
}

impl Identity {
    pub(crate) fn new(token: Option<String>) -> Identity {
        Identity { token, ..Identity::default() }
    }

    pub(crate) fn joining(token: Option<String>, session: String) -> Identity {
        Identity { token, joins: Some(session), ..Identity::default() }
    }

    /// Whether the session is somebody else's.
    pub(crate) fn joins(&self) -> bool {
        self.joins.is_some()
    }

    /// Builds a request with cookies, token and, for a statement, its id.
    pub(crate) fn request<T>(&self, message: T, query: Option<&str>) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        let cookies: Vec<String> = self.cookies.lock().iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            put(metadata, "cookie", &cookies.join("; "));
        }
        if let Some(token) = &self.token {
            put(metadata, "authorization", &format!("Bearer {token}"));
        }
        if let Some(session) = &self.joins {
            put(metadata, JOIN_HEADER, session);
        }
        if let Some(query) = query {
            put(metadata, QUERY_HEADER, query);
        }
        request
    }

    /// Builds a statement's request, marked with its delivery. Rows of a small result may come with its answer.
    pub(crate) fn statement<T>(&self, message: T, query: Option<&str>, delivery: Delivery) -> Request<T> {
        let mut request = self.request(message, query);
        put(request.metadata_mut(), ROWS_HEADER, "along");
        match delivery {
            Delivery::Once => {}
            Delivery::First => put(request.metadata_mut(), SENT_HEADER, "first"),
            Delivery::Again => put(request.metadata_mut(), SENT_HEADER, "again"),
        }
        request
    }

    /// Forgets the session.
    pub(crate) fn forget(&self) {
        self.cookies.lock().clear();
    }

    /// Takes the cookies that a response sets.
    pub(crate) fn learn<T>(&self, response: &Response<T>) {
        let mut cookies = self.cookies.lock();
        for value in response.metadata().get_all("set-cookie") {
            let Ok(value) = value.to_str() else { continue };
            let mut parts = value.split(';').map(str::trim);
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { continue };
            let expired = parts.any(|attribute| {
                attribute.split_once('=').is_some_and(|(key, age)| {
                    key.eq_ignore_ascii_case("max-age") && age.parse::<i64>().is_ok_and(|age| age <= 0)
                })
            });
            if expired {
                cookies.remove(name);
            } else {
                cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

fn put(metadata: &mut MetadataMap, key: &'static str, value: &str) {
    // A value that no header can carry (control characters in a token) is omitted: the cluster then reports what is missing.
    if let Ok(value) = AsciiMetadataValue::try_from(value) {
        metadata.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_every_usual_form() {
        for url in ["grpc://127.0.0.1:7077", "grpc+tcp://h:1", "http://h:80/", "localhost:7077", "grpc://[::1]:7077"] {
            assert!(endpoint(url, CONNECT_TIMEOUT).is_ok(), "{url}");
        }
        for (url, why) in [
            ("grpc://127.0.0.1", "no port"),
            ("grpc://", "no host"),
            ("spark://h:7077", "\"spark\" is unknown"),
            ("grpcs://h:1", "TLS"),
            ("grpc://h:99999", "port"),
        ] {
            let error = endpoint(url, CONNECT_TIMEOUT).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(url), "{error}");
        }
    }

    #[test]
    fn cookies_are_kept_replaced_and_dropped() {
        let identity = Identity::new(None);
        let answer = |cookie: &str| {
            let mut response = Response::new(());
            response.metadata_mut().append("set-cookie", cookie.parse().unwrap());
            response
        };
        identity.learn(&answer("session=a; Path=/; HttpOnly"));
        identity.learn(&answer("other=1"));
        let sent = |identity: &Identity| {
            identity.request((), None).metadata().get("cookie").map(|v| v.to_str().unwrap().to_owned())
        };
        assert_eq!(sent(&identity).as_deref(), Some("other=1; session=a"));
        identity.learn(&answer("session=b"));
        identity.learn(&answer("other=; Max-Age=0"));
        assert_eq!(sent(&identity).as_deref(), Some("session=b"));
    }

    #[test]
    fn a_request_carries_token_query_and_the_session_that_it_joins() {
        let joining = Identity::joining(None, "s1".to_owned()).request((), None);
        assert_eq!(joining.metadata().get(JOIN_HEADER).unwrap(), "s1");
        let request = Identity::new(Some("secret".to_owned())).request((), Some("q1"));
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer secret");
        assert_eq!(request.metadata().get(QUERY_HEADER).unwrap(), "q1");
    }
}
