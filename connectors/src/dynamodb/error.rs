//! What can go wrong between Windlass and DynamoDB. No error has a secret in it.

use crate::aws::{AwsError, Trouble};
use datafusion::common::DataFusionError;
use std::io;

pub(super) type Result<T, E = DynamoError> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub(super) enum DynamoError {
    /// Nobody answers: worth another try.
    #[error("{server}: {what}")]
    Lost { server: String, what: String, source: io::Error },
    /// The service has had too many requests for too long.
    #[error(
        "{server} has had too many requests for {seconds} seconds ({what}): give the table more capacity, lower read_share or \
         write_share, or raise retry_seconds"
    )]
    Throttled { server: String, seconds: u64, what: String },
    #[error("{0}")]
    Refused(Refusal),
    #[error("{server}: {source}")]
    Aws { server: String, source: AwsError },
    /// A value does not fit, or an item is not what it should be.
    #[error("{0}")]
    Value(String),
}

/// A request that is refused, and will be refused again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Table, region and endpoint.
    pub server: String,
    pub code: String,
    pub message: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { server, code, message } = self;
        let message = message.trim_end_matches('.');
        match code.as_str() {
            "ResourceNotFoundException" => {
                write!(
                    f,
                    "{server} does not exist: check the region and the name in the location, and the account ({message})"
                )
            }
            "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "IncompleteSignatureException"
            | "SignatureDoesNotMatch"
            | "MissingAuthenticationTokenException"
            | "MissingAuthenticationToken" => {
                write!(
                    f,
                    "{server} does not accept the credentials: check access_key_id and secret_access_key, or the profile ({code}: {message})"
                )
            }
            "ExpiredTokenException" | "ExpiredToken" | "RequestExpired" => {
                write!(
                    f,
                    "the credentials for {server} have expired: give fresh ones, or a profile or a role_arn, which are renewed ({message})"
                )
            }
            "AccessDeniedException" | "AccessDenied" => {
                write!(f, "{server} is not allowed: {message}; ask for the permission that it names")
            }
            "UnknownOperationException" => {
                write!(f, "{server} does not know an operation that Windlass needs: is it a DynamoDB server?")
            }
            "" => write!(f, "{server}: {message}"),
            _ => write!(f, "{server}: {message} ({code})"),
        }
    }
}

impl DynamoError {
    /// The trouble of a request that is not sent again. `seconds`: for how long it was.
    pub fn of(server: &str, trouble: Trouble, seconds: u64) -> Self {
        let server = server.to_string();
        match trouble {
            Trouble::Throttled(what) => Self::Throttled { server, seconds, what },
            Trouble::Passing(what) => {
                let what = format!("it cannot be reached, or has a fault: {what}; check the region and the endpoint");
                Self::Lost { server, what, source: io::Error::from(io::ErrorKind::ConnectionAborted) }
            }
            Trouble::Refused { code, message } => Self::Refused(Refusal { server, code, message }),
        }
    }

    /// The service's code of what it refused.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.code),
            _ => None,
        }
    }
}

impl From<DynamoError> for DataFusionError {
    fn from(error: DynamoError) -> Self {
        match error {
            DynamoError::Lost { .. } => DataFusionError::External(Box::new(error)),
            _ => DataFusionError::Execution(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_how_to_mend_them() {
        let shown = |code: &str| {
            let trouble = Trouble::of_code(code, "Some text.");
            DataFusionError::from(DynamoError::of("the table t of DynamoDB in x", trouble, 9)).to_string()
        };
        for (code, words) in [
            ("ResourceNotFoundException", "does not exist: check the region"),
            ("UnrecognizedClientException", "check access_key_id"),
            ("ExpiredTokenException", "have expired: give fresh ones"),
            ("ThrottlingException", "for 9 seconds"),
            ("ValidationException", "Some text (ValidationException)"),
            ("InternalServerError", "cannot be reached, or has a fault"),
        ] {
            let text = shown(code);
            assert!(text.contains(words) && text.contains("table t"), "{text}");
        }
    }
}
