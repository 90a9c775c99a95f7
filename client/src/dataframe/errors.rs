//! Conversions between DataFusion's errors and the client's.

use crate::error::{ClientError, ErrorKind};
use datafusion::error::DataFusionError;

/// Converts DataFusion's own errors, in the DataFrame API.
impl From<DataFusionError> for ClientError {
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(inner) => match inner.downcast::<ClientError>() {
                Ok(error) => *error,
                Err(inner) => ClientError::Statement { kind: ErrorKind::Invalid, message: inner.to_string() },
            },
            other => ClientError::Statement { kind: ErrorKind::Invalid, message: other.strip_backtrace() },
        }
    }
}

impl From<ClientError> for DataFusionError {
    fn from(error: ClientError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_error_survives_the_trip_through_datafusion() {
        let inner: DataFusionError = ClientError::Cancelled.into();
        assert!(matches!(ClientError::from(inner), ClientError::Cancelled));
    }
}
