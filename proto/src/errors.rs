//! Errors between a cluster and its clients: the kind travels in the details of a gRPC status, and the message is for people.

use crate::v1;
use prost::Message;
use std::error::Error;
use tonic::{Code, Status};

const DETAIL_TYPE_URL: &str = "type.googleapis.com/windlass.v1.ErrorDetail";

/// Builds a status that carries the kind of the error.
pub fn status(code: Code, message: String, kind: v1::ErrorKind) -> Status {
    let value = v1::ErrorDetail { kind: kind.into() }.encode_to_vec().into();
    let detail = v1::status_details::Detail { type_url: DETAIL_TYPE_URL.to_owned(), value };
    // Go clients take the message of the details for that of the status.
    let details = v1::StatusDetails { code: code.into(), message: message.clone(), details: vec![detail] };
    Status::with_details(code, message, details.encode_to_vec().into())
}

/// The kind that the sender gave to `status`. `None`: the sender gave none, or the status was made locally.
pub fn kind(status: &Status) -> Option<v1::ErrorKind> {
    let details = v1::StatusDetails::decode(status.details()).ok()?.details;
    let detail = details.into_iter().find(|detail| detail.type_url == DETAIL_TYPE_URL)?;
    let kind = v1::ErrorDetail::decode(detail.value).ok()?.kind;
    Some(v1::ErrorKind::try_from(kind).unwrap_or(v1::ErrorKind::Unknown))
}

/// The first cause of type `E` in the chain that begins with `error`.
pub fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Explains a status from a peer that speaks HTTP and not gRPC, or lacks the service; `None` for a status of gRPC.
pub fn not_grpc(status: &Status) -> Option<String> {
    // Between HTTP/1 and HTTP/2, the bytes of the other side look like a broken frame.
    let broken =
        |error: &h2::Error| matches!(error.reason(), Some(h2::Reason::FRAME_SIZE_ERROR | h2::Reason::PROTOCOL_ERROR));
    let is_http = match status.source() {
        Some(source) => {
            cause::<h2::Error>(source).is_some_and(broken)
                || cause::<hyper::Error>(source).is_some_and(|error| error.is_parse())
        }
        // An answer without a gRPC status, for which tonic made one from the HTTP status.
        None => kind(status).is_none() && matches!(status.code(), Code::Unimplemented | Code::Unknown),
    };
    is_http.then(|| {
        let said = crate::describe(status);
        format!(
            "what listens there does not speak gRPC ({said}): the port of a primary's gRPC is needed, not that of REST"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn the_kind_of_an_error_survives_the_trip() {
        let sent = status(Code::InvalidArgument, "no such option".into(), v1::ErrorKind::UnknownOption);
        let received = Status::from_header_map(&sent.into_http::<tonic::body::Body>().into_parts().0.headers).unwrap();
        assert_eq!(kind(&received), Some(v1::ErrorKind::UnknownOption));
        assert_eq!((received.code(), received.message()), (Code::InvalidArgument, "no such option"));
        let details = v1::StatusDetails::decode(received.details()).unwrap();
        assert_eq!((details.code, details.message.as_str()), (Code::InvalidArgument as i32, "no such option"));
    }

    #[test]
    fn a_status_of_another_server_has_no_kind() {
        assert_eq!(kind(&Status::not_found("gone")), None);
        assert_eq!(kind(&Status::with_details(Code::NotFound, "gone", vec![1, 2, 3].into())), None);
    }

    #[test]
    fn causes_are_found_by_their_type() {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "no");
        let status = Status::from_error(Box::new(refused));
        assert_eq!(cause::<io::Error>(&status).unwrap().kind(), io::ErrorKind::ConnectionRefused);
        assert!(cause::<h2::Error>(&status).is_none());
    }
}
