//! Livy's answer to a request that fails: `{"msg": …}`.

use super::answers::{Message, SessionState};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use utoipa::IntoResponses;
use windlass_scheduler::services::interactive::InteractiveError;

#[derive(Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    pub message: String,
}

impl Refusal {
    pub fn bad(message: impl Into<String>) -> Self {
        Refusal { status: StatusCode::BAD_REQUEST, message: message.into() }
    }
}

impl From<InteractiveError> for Refusal {
    fn from(error: InteractiveError) -> Self {
        let status = match &error {
            InteractiveError::NoSession(_) | InteractiveError::NoStatement => StatusCode::NOT_FOUND,
            InteractiveError::Invalid(_) | InteractiveError::HasEnded(_) | InteractiveError::TooMany(_) => {
                StatusCode::BAD_REQUEST
            }
            InteractiveError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            InteractiveError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let message = match &error {
            InteractiveError::HasEnded(state) => format!("Session is in state {}", SessionState::from(*state)),
            error => error.to_string(),
        };
        Refusal { status, message }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(Message { msg: self.message })).into_response()
    }
}

/// Refusals, as the calls are described.
pub(super) mod described {
    #![expect(dead_code, reason = "the macro reads their types")]

    use super::{IntoResponses, Message};

    /// Something in the request is wrong; the message says what.
    #[derive(IntoResponses)]
    #[response(status = 400)]
    pub(crate) struct Invalid(Message);

    /// There is no such session, statement or batch.
    #[derive(IntoResponses)]
    #[response(status = 404)]
    pub(crate) struct NotFound(Message);

    /// The body, or the code in it, is too large; the message names the limit in bytes.
    #[derive(IntoResponses)]
    #[response(status = 413)]
    pub(crate) struct TooLarge(Message);

    /// The body is compressed.
    #[derive(IntoResponses)]
    #[response(status = 415)]
    pub(crate) struct Compressed(Message);

    /// This primary stands by, or stops, or cannot write to its metadata store. Ask again, or ask the leader.
    #[derive(IntoResponses)]
    #[response(status = 503)]
    pub(crate) struct Unavailable(Message);
}
