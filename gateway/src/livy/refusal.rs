//! Livy's answer to a request that fails: `{"msg": …}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
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

    pub fn too_large(message: impl Into<String>) -> Self {
        Refusal { status: StatusCode::PAYLOAD_TOO_LARGE, message: message.into() }
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
            InteractiveError::HasEnded(state) => format!("Session is in state {}", super::answers::state_name(*state)),
            error => error.to_string(),
        };
        Refusal { status, message }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "msg": self.message }))).into_response()
    }
}
