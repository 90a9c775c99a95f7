//! What it means when a service of AWS does not answer as it should, and how long to try again.

use super::causes;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use std::error::Error;
use std::time::{Duration, Instant};

/// The first pause before another try, at most; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause before another try.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a failed request means for whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The service has had too many requests.
    Throttled(String),
    /// Nobody answered, or the service had a fault of its own: another try may succeed.
    Passing(String),
    /// It will be refused again.
    Refused { code: String, message: String },
}

impl Trouble {
    pub fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            SdkError::ServiceError(refused) => {
                let (refused, status) = (refused.err(), refused.raw().status());
                match (refused.code(), refused.message()) {
                    (None, None) => Self::of_status(status.as_u16()),
                    (code, message) => Self::of_code(code.unwrap_or_default(), message.unwrap_or_default()),
                }
            }
            SdkError::TimeoutError(_) => Self::Passing("it did not answer in time".to_string()),
            SdkError::DispatchFailure(failure) => {
                let message = failure.as_connector_error().map(|error| causes(error)).unwrap_or_default();
                // A request that cannot be made is not made the second time either; a connection that is cut is.
                match failure.is_user() {
                    true => Self::Refused { code: String::new(), message },
                    false => Self::Passing(message),
                }
            }
            SdkError::ResponseError(answer) => {
                let status = answer.raw().status();
                Self::Passing(format!("its answer, of HTTP status {status}, is not understood: {}", causes(error)))
            }
            other => Self::Refused { code: String::new(), message: causes(other) },
        }
    }

    /// The trouble of an answer that says nothing more.
    fn of_status(status: u16) -> Self {
        let message = format!("it answered with HTTP status {status} and without a reason");
        match status {
            429 => Self::Throttled(message),
            500.. => Self::Passing(message),
            _ => Self::Refused { code: String::new(), message: format!("{message}: is it the right endpoint?") },
        }
    }

    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>
    pub fn of_code(code: &str, message: &str) -> Self {
        let shown = || if message.is_empty() { code.to_string() } else { format!("{code}: {message}") };
        match code {
            "ProvisionedThroughputExceededException"
            | "ProvisionedThroughputExceeded"
            | "ThrottlingException"
            | "ThrottlingError"
            | "RequestLimitExceeded"
            | "LimitExceededException"
            | "SlowDown" => Self::Throttled(shown()),
            "InternalServerError"
            | "InternalFailure"
            | "InternalError"
            | "ServiceUnavailable"
            | "ServiceUnavailableException"
            | "TransactionInProgressException"
            | "TransactionConflict"
            | "TransactionConflictException" => Self::Passing(shown()),
            _ => Self::Refused { code: code.to_string(), message: message.to_string() },
        }
    }
}

/// Tries that follow each other, with pauses that grow and that chance varies, up to an instant.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Duration,
    /// Of the first failure in a row.
    since: Option<Instant>,
    tries: u32,
}

impl Patience {
    /// `limit`: how long failures in a row are borne.
    pub fn new(limit: Duration) -> Self {
        Self { limit, since: None, tries: 0 }
    }

    /// It worked.
    pub fn reset(&mut self) {
        (self.since, self.tries) = (None, 0);
    }

    /// Waits before another try. False: it has been long enough.
    pub async fn pause(&mut self) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        let most = longest_pause(self.tries);
        self.tries += 1;
        let left = self.limit.saturating_sub(since.elapsed());
        if left.is_zero() {
            return false;
        }
        tokio::time::sleep(jittered(most).min(left)).await;
        true
    }
}

/// The longest pause after this many failures before.
fn longest_pause(tries: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << tries.min(16)).min(LONGEST_PAUSE)
}

/// Between a half of it and all of it.
fn jittered(most: Duration) -> Duration {
    let chance = uuid::Uuid::new_v4().as_u128() as u32;
    most.mul_f64(0.5 + f64::from(chance) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_whether_another_try_may_succeed() {
        assert!(
            matches!(Trouble::of_code("ThrottlingException", "slow"), Trouble::Throttled(text) if text.contains("slow"))
        );
        assert!(matches!(Trouble::of_code("InternalServerError", ""), Trouble::Passing(_)));
        assert!(matches!(Trouble::of_code("ValidationException", "x"), Trouble::Refused { .. }));
    }

    #[tokio::test]
    async fn pauses_grow_and_end() {
        assert!((0..20).all(|tries| longest_pause(tries) <= longest_pause(tries + 1)));
        assert_eq!((longest_pause(0), longest_pause(40)), (FIRST_PAUSE, LONGEST_PAUSE));
        for _ in 0..100 {
            assert!((FIRST_PAUSE / 2..=FIRST_PAUSE).contains(&jittered(FIRST_PAUSE)));
        }
        let mut patience = Patience::new(Duration::ZERO);
        assert!(!patience.pause().await);
    }
}
