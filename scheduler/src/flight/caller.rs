//! The sender of a request: cookie, token, connection.

use crate::services::sessions::Caller;
use crate::statements::Delivery;
use crate::statements::sessions::{Connection, SESSION_COOKIE};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use windlass_core::access::Principal;
use windlass_proto::door::{Credentials, Unreadable, credentials};
use windlass_proto::{JOIN_HEADER, ROWS_HEADER, SENT_HEADER};

/// Names the statement of a request, for its progress and its cancellation.
pub(super) const QUERY_HEADER: &str = "x-windlass-query";

/// Returns the principal of a request, and the information that identifies its session.
pub(super) fn caller_of<T>(request: &Request<T>) -> Result<(Principal, Caller), Status> {
    let metadata = request.metadata();
    let authorization = metadata.get("authorization").map(|value| value.to_str());
    let unreadable = || Status::unauthenticated(Unreadable.to_string());
    let authorization = authorization.transpose().map_err(|_| unreadable())?;
    let found = authorization.map(credentials).transpose().map_err(|_| unreadable())?;
    let Credentials { principal, token } = found.unwrap_or_default();
    let connection = request.extensions().get::<Connection>().map(|connection| connection.id);
    let joins = metadata.get(JOIN_HEADER).and_then(|id| id.to_str().ok()).map(str::to_string);
    Ok((principal, Caller { joins, cookie: cookie_of(metadata), token, connection }))
}

fn cookie_of(metadata: &MetadataMap) -> Option<String> {
    let cookies = metadata.get_all("cookie").iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == SESSION_COOKIE).map(|(_, id)| id.trim_matches('"').to_string()).next_back()
}

pub(super) fn set_cookie(metadata: &mut MetadataMap, id: &str) {
    // A session's id consists of hexadecimal digits.
    if let Ok(value) = format!("{SESSION_COOKIE}={id}; Path=/; HttpOnly").parse() {
        metadata.append("set-cookie", value);
    }
}

/// Returns the name that the client gave the statement.
pub(super) fn query_of(metadata: &MetadataMap) -> Option<String> {
    let name = metadata.get(QUERY_HEADER)?.to_str().ok()?.trim();
    (!name.is_empty()).then(|| name.to_string())
}

/// Returns whether the client may send the statement again, or does.
pub(super) fn delivery_of(metadata: &MetadataMap) -> Delivery {
    match metadata.get(SENT_HEADER).and_then(|value| value.to_str().ok()) {
        Some("first") => Delivery::First,
        Some("again") => Delivery::Again,
        _ => Delivery::Once,
    }
}

/// Whether the client accepts rows with the answer.
pub(super) fn takes_rows(metadata: &MetadataMap) -> bool {
    metadata.contains_key(ROWS_HEADER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_and_credentials_are_found() {
        let mut request = Request::new(());
        request.metadata_mut().insert("cookie", format!("a=b; {SESSION_COOKIE}=s1; c=d").parse().unwrap());
        request.metadata_mut().insert("authorization", "Basic YW5uOnNlY3JldA==".parse().unwrap());
        let (by, caller) = caller_of(&request).unwrap();
        assert_eq!((caller.cookie.as_deref(), by.name(), caller.token), (Some("s1"), "ann", None));
        request.metadata_mut().insert("authorization", "bearer t1".parse().unwrap());
        assert_eq!(caller_of(&request).unwrap().1.token.as_deref(), Some("t1"));
        request.metadata_mut().insert("authorization", "Negotiate x".parse().unwrap());
        assert!(caller_of(&request).is_err());
    }
}
