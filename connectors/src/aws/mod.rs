//! Services of AWS: as whom to ask them, over what, and what it means when they do not answer.

#[cfg(feature = "dynamodb")]
mod options;
mod role;
#[cfg(feature = "dynamodb")]
mod trouble;

#[cfg(feature = "dynamodb")]
pub(crate) use options::{
    ACCESS_KEY_ID, ENDPOINT, EXTERNAL_ID, PROFILE, ROLE_ARN, SECRET_ACCESS_KEY, SESSION_TOKEN, access,
};
pub(crate) use role::Role;
#[cfg(feature = "dynamodb")]
pub(crate) use trouble::{Patience, Trouble};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// The region of servers that have none.
const DEFAULT_REGION: &str = "us-east-1";
/// Until a connection is made.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until one request is answered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// As whom to ask a service, and where. Its debug form has no secrets.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Access {
    /// Absent: the one that AWS's chain names.
    pub region: Option<String>,
    pub endpoint: Option<String>,
    /// Absent: credentials come from the profile, or from AWS's chain: environment, files, web identity, container or instance.
    pub key: Option<Key>,
    pub profile: Option<String>,
    /// A role that is assumed with these credentials.
    pub role: Option<Role>,
    /// Requests are not signed.
    pub is_anonymous: bool,
}

/// An access key with its secret, and the token of temporary ones.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("region", &self.region).field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Access {
    /// The beginning of an error of its credentials.
    fn identity(&self) -> String {
        match (&self.role, &self.profile) {
            (Some(role), _) => format!("the role {} cannot be assumed", role.arn),
            (None, Some(profile)) => format!("the profile {profile} gives no credentials"),
            (None, None) => "there are no credentials for AWS".to_string(),
        }
    }

    /// Returns what all clients of AWS's services need, without the endpoint. Nobody is asked for credentials before the first request.
    pub async fn load(&self) -> SdkConfig {
        let config = self.load_without_role().await;
        match &self.role {
            Some(_) => config.clone().into_builder().credentials_provider(role::assumed(self, &config).await).build(),
            None => config,
        }
    }

    async fn load_without_role(&self) -> SdkConfig {
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(ANSWER_TIMEOUT);
        // With the workspace's cryptography and the roots of the system.
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            // Requests are tried again by those who know what they cost.
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts.build());
        if let Some(region) = &self.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(Key { id, secret, token }) = &self.key {
            loader = loader.credentials_provider(Credentials::new(id, secret, token.clone(), None, "windlass"));
        }
        if self.is_anonymous {
            loader = loader.no_credentials();
        }
        loader.load().await
    }

    pub fn region_or_default(&self) -> Region {
        Region::new(self.region.clone().unwrap_or_else(|| DEFAULT_REGION.to_string()))
    }

    /// Returns the same as [`Access::load`], after credentials were had.
    ///
    /// # Errors
    /// Nobody says which region it is, there are no credentials, or the role cannot be assumed.
    #[cfg(feature = "dynamodb")]
    pub async fn config(&self) -> Result<SdkConfig, AwsError> {
        let config = self.load().await;
        if config.region().is_none() {
            return Err(AwsError::Region);
        }
        self.credentials(&config).await.map(|_| config)
    }

    /// Returns credentials, while it can be said what is missing.
    pub async fn credentials(&self, config: &SdkConfig) -> Result<Option<Credentials>, AwsError> {
        let Some(provider) = config.credentials_provider() else { return Ok(None) };
        let provided = provider.provide_credentials().await;
        provided.map(Some).map_err(|error| AwsError::Credentials { what: self.identity(), why: causes(&error) })
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AwsError {
    #[cfg(feature = "dynamodb")]
    #[error("nobody says in which region: write it into the location, or set AWS_REGION")]
    Region,
    #[error(
        "{what}: {why}; set access_key_id and secret_access_key, a profile or a secret of the table, or AWS's usual variables on every node"
    )]
    Credentials { what: String, why: String },
}

/// The innermost causes of an error, from the outside in, each once.
pub(crate) fn causes(error: &dyn Error) -> String {
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
