//! Services of AWS: as whom to ask them, over what, and what it means when they do not answer.

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use datafusion::common::{Result, plan_err};
use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};
use windlass_engine::connector::{OptionKind, OptionSpec, Options};

/// Until a connection is made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until one request is answered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The first pause before another try, at most; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause before another try.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(crate) const ENDPOINT: OptionSpec =
    OptionSpec::new("endpoint", OptionKind::Text, "URL of the service; else that of AWS in the region.");
pub(crate) const ACCESS_KEY_ID: OptionSpec =
    OptionSpec::new("access_key_id", OptionKind::Text, "Access key; else AWS's usual chain serves.");
pub(crate) const SECRET_ACCESS_KEY: OptionSpec =
    OptionSpec::new("secret_access_key", OptionKind::Text, "Secret that belongs to the access key.").secret();
pub(crate) const SESSION_TOKEN: OptionSpec =
    OptionSpec::new("session_token", OptionKind::Text, "Token of temporary credentials.").secret();
pub(crate) const PROFILE: OptionSpec =
    OptionSpec::new("profile", OptionKind::Text, "A profile of AWS's configuration files; else that of AWS_PROFILE.");
pub(crate) const ROLE_ARN: OptionSpec =
    OptionSpec::new("role_arn", OptionKind::Text, "A role that is assumed with these credentials.");
pub(crate) const EXTERNAL_ID: OptionSpec =
    OptionSpec::new("external_id", OptionKind::Text, "What the owner of the role wants to hear before it is assumed.");

/// As whom to ask a service, and where. Its debug form has no secrets.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Access {
    /// Absent: the one that AWS's chain names.
    pub region: Option<String>,
    pub endpoint: Option<String>,
    key: Option<(String, String, Option<String>)>,
    profile: Option<String>,
    role: Option<(String, Option<String>)>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("region", &self.region).field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Access {
    /// # Errors
    /// The options contradict each other. No message has the value of one that is secret.
    pub fn of(region: Option<String>, options: &Options) -> Result<Self> {
        let text = |spec: OptionSpec| options.text(spec.name).filter(|text| !text.is_empty()).map(str::to_string);
        let (key, secret, token) = (text(ACCESS_KEY_ID), text(SECRET_ACCESS_KEY), text(SESSION_TOKEN));
        let profile = text(PROFILE);
        let key = match (key, secret) {
            (Some(_), Some(_)) if profile.is_some() => {
                return plan_err!("there are an access_key_id and a profile: leave out one of them");
            }
            (Some(key), Some(secret)) => Some((key, secret, token)),
            (None, None) if token.is_some() => {
                return plan_err!("a session_token goes with an access_key_id and a secret_access_key");
            }
            (None, None) => None,
            (Some(_), None) => return plan_err!("an access_key_id goes with a secret_access_key"),
            (None, Some(_)) => return plan_err!("a secret_access_key goes with an access_key_id"),
        };
        let role = match (text(ROLE_ARN), text(EXTERNAL_ID)) {
            (Some(role), external) => Some((role, external)),
            (None, Some(_)) => return plan_err!("an external_id goes with a role_arn"),
            (None, None) => None,
        };
        let endpoint = text(ENDPOINT);
        if let Some(endpoint) = &endpoint {
            let url = url::Url::parse(endpoint).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
            let Some(url) = url else { return plan_err!("the endpoint is no URL: expected http://host:port") };
            if !url.username().is_empty() || url.password().is_some() {
                return plan_err!("the endpoint has a password, and it is shown: use secret_access_key");
            }
        }
        Ok(Self { region, endpoint, key, profile, role })
    }

    /// The beginning of an error of its credentials.
    fn identity(&self) -> String {
        match (&self.role, &self.profile) {
            (Some((role, _)), _) => format!("the role {role} cannot be assumed"),
            (None, Some(profile)) => format!("the profile {profile} gives no credentials"),
            (None, None) => "there are no credentials for AWS".to_string(),
        }
    }

    /// Returns what all clients of AWS's services need, without the endpoint.
    ///
    /// # Errors
    /// Nobody says which region it is, there are no credentials, or the role cannot be assumed.
    pub async fn config(&self) -> Result<SdkConfig, AwsError> {
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(ANSWER_TIMEOUT);
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http_client())
            // Requests are tried again by those who know what they cost.
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts.build());
        if let Some(region) = &self.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        if let Some((key, secret, token)) = &self.key {
            loader = loader.credentials_provider(Credentials::new(key, secret, token.clone(), None, "windlass"));
        }
        let mut config = loader.load().await;
        if config.region().is_none() {
            return Err(AwsError::Region);
        }
        if let Some((role, external)) = &self.role {
            let mut provider = AssumeRoleProvider::builder(role).session_name("windlass").configure(&config);
            if let Some(external) = external {
                provider = provider.external_id(external);
            }
            let provider = SharedCredentialsProvider::new(provider.build().await);
            config = config.into_builder().credentials_provider(provider).build();
        }
        // Now, where it can be said what is missing.
        if let Some(provider) = config.credentials_provider()
            && let Err(error) = provider.provide_credentials().await
        {
            return Err(AwsError::Credentials { what: self.identity(), why: causes(&error) });
        }
        Ok(config)
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AwsError {
    #[error("nobody says in which region: write it into the location, or set AWS_REGION")]
    Region,
    #[error(
        "{what}: {why}; set access_key_id and secret_access_key, a profile or a secret of the table, or AWS's usual variables on every node"
    )]
    Credentials { what: String, why: String },
}

/// With the workspace's cryptography and the roots of the system.
fn http_client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// The innermost causes of an error, from the outside in, each once.
fn causes(error: &dyn Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string().trim_end_matches('.').to_string();
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    // The first only says that something failed.
    let from = texts.len().saturating_sub(2);
    texts[from..].join(": ")
}

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
    pub fn of<E, R>(error: &SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
        R: fmt::Debug + 'static,
    {
        match error {
            SdkError::ServiceError(refused) => {
                let refused = refused.err();
                Self::of_code(refused.code().unwrap_or_default(), refused.message().unwrap_or_default())
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
            SdkError::ResponseError(_) => Self::Passing("its answer is not understood".to_string()),
            other => Self::Refused { code: String::new(), message: causes(other) },
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
