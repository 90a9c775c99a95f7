//! Requests before a handler sees them: their bodies, and slashes at the ends of their paths.

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt;

/// Maximum bytes of a body.
pub(crate) const BODY_BYTES: usize = 8 << 20;
/// Bytes of a body that are read in vain. A client that still sends when the connection closes may lose the answer.
const DRAINED_BYTES: usize = 256 << 20;

/// Writes an error in the form of a face.
pub(crate) type Refuse = fn(StatusCode, String) -> Response;

/// Reads the body of a request before its handler runs, so that its client is ready to read the answer, whatever the answer is.
pub(crate) async fn with_body(request: Request, next: Next, refuse: Refuse) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    match read(&parts.headers, body).await {
        Ok(bytes) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Err((status, message)) => refuse(status, message),
    }
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, (StatusCode, String)> {
    let too_large = || {
        let message = format!("the body has more than {BODY_BYTES} bytes, and no more are taken");
        (StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    // A body in pieces announces nothing.
    let is_announced_too_large = body.size_hint().lower() > BODY_BYTES as u64;
    if is_announced_too_large && headers.contains_key(header::EXPECT) {
        // The client waits for an answer before it sends the body.
        return Err(too_large());
    }
    let (mut chunks, mut bytes, mut total) = (body.into_data_stream(), Vec::new(), 0);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| (StatusCode::BAD_REQUEST, format!("the body ends early: {error}")))?;
        total += chunk.len();
        if total > DRAINED_BYTES {
            break;
        }
        if total > BODY_BYTES || is_announced_too_large {
            bytes = Vec::new();
        } else {
            bytes.extend_from_slice(&chunk);
        }
    }
    if total > BODY_BYTES {
        return Err(too_large());
    }
    let coding = headers.get(header::CONTENT_ENCODING).map(|coding| String::from_utf8_lossy(coding.as_bytes()));
    match coding.filter(|coding| !bytes.is_empty() && !coding.eq_ignore_ascii_case("identity")) {
        Some(coding) => {
            let message = format!("the body has the encoding \"{coding}\": send it without Content-Encoding");
            Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
        None => Ok(bytes.into()),
    }
}

/// Says that a path is there, and the method is not.
pub(crate) fn wrong_method(method: &Method, uri: &Uri) -> String {
    format!("{method} is no method of {}: the header Allow names those that are", uri.path())
}

/// Removes slashes from the end of a path, except for WebHDFS, whose paths are those of files.
pub(crate) fn without_slash(mut request: Request) -> Request {
    let path = request.uri().path();
    let kept = path.trim_end_matches('/');
    if kept.len() == path.len() || kept.is_empty() || path.starts_with("/webhdfs/") {
        return request;
    }
    let kept = match request.uri().query() {
        Some(query) => format!("{kept}?{query}"),
        None => kept.to_string(),
    };
    let mut parts = request.uri().clone().into_parts();
    // A part of a valid path is one too, so neither fails.
    if let Ok(path) = PathAndQuery::try_from(kept) {
        parts.path_and_query = Some(path);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_at_the_end_are_dropped() {
        for (asked, kept) in [
            ("/sessions/", "/sessions"),
            ("/sessions//?from=1", "/sessions?from=1"),
            ("/sessions/a%2F/", "/sessions/a%2F"),
            ("/", "/"),
            ("//", "//"),
            ("/sessions", "/sessions"),
            ("/webhdfs/v1/a/?op=LISTSTATUS", "/webhdfs/v1/a/?op=LISTSTATUS"),
            ("http://host/version/", "http://host/version"),
        ] {
            let request = Request::builder().uri(asked).body(Body::empty()).unwrap();
            assert_eq!(without_slash(request).uri().to_string(), kept, "{asked}");
        }
    }
}
