//! Roles that are assumed, and their credentials: one set for each role in a process, renewed before it ends.

use super::Access;
use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

/// Roles that are remembered. Credentials that are lent for a while make a new entry each time.
const MOST: usize = 1000;
/// Credentials are renewed this long before they end, if a new set is to be had.
const FRESH: Duration = Duration::from_secs(300);
/// The name under which a role is assumed, for the records of its owner.
const SESSION: &str = "windlass";

static ROLES: LazyLock<Mutex<HashMap<Access, SharedCredentialsProvider>>> = LazyLock::new(Mutex::default);

/// A role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Role {
    pub arn: String,
    pub external_id: Option<String>,
    /// Absent: `windlass`.
    pub session: Option<String>,
    /// URL of the service that lends it; else that of AWS in the region.
    pub endpoint: Option<String>,
}

/// Returns the credentials of the role of `access`. `config`: of whom assumes it.
pub(super) async fn assumed(access: &Access, config: &SdkConfig) -> SharedCredentialsProvider {
    // The endpoint of the service that is asked with the role changes nothing.
    let key = Access { endpoint: None, ..access.clone() };
    if let Some(known) = ROLES.lock().get(&key) {
        return known.clone();
    }
    let role = access.role.clone().unwrap_or_default();
    let region = config.region().cloned();
    let mut config = config.clone().into_builder().retry_config(RetryConfig::standard());
    if region.is_none() {
        config = config.region(access.region_or_default());
    }
    if let Some(endpoint) = &role.endpoint {
        config = config.endpoint_url(endpoint);
    }
    let mut provider = AssumeRoleProvider::builder(&role.arn)
        .session_name(role.session.as_deref().unwrap_or(SESSION))
        .configure(&config.build());
    if let Some(external) = role.external_id {
        provider = provider.external_id(external);
    }
    let provider = SharedCredentialsProvider::new(Renewed::new(provider.build().await));
    let mut roles = ROLES.lock();
    if roles.len() >= MOST {
        roles.clear();
    }
    // Another thread may have been faster.
    roles.entry(key).or_insert(provider).clone()
}

/// Credentials that are asked for again before they end.
#[derive(Debug)]
struct Renewed<P> {
    provider: P,
    last: tokio::sync::Mutex<Option<Credentials>>,
}

impl<P: ProvideCredentials> Renewed<P> {
    fn new(provider: P) -> Self {
        Self { provider, last: tokio::sync::Mutex::new(None) }
    }

    async fn get(&self, now: SystemTime) -> Result<Credentials, CredentialsError> {
        let mut last = self.last.lock().await;
        if let Some(fresh) = last.as_ref().filter(|last| lasts(last, now + FRESH)) {
            return Ok(fresh.clone());
        }
        match self.provider.provide_credentials().await {
            Ok(credentials) => Ok(last.insert(credentials).clone()),
            Err(error) => match last.as_ref().filter(|last| lasts(last, now)) {
                Some(still) => Ok(still.clone()),
                None => Err(error),
            },
        }
    }
}

impl<P: ProvideCredentials> ProvideCredentials for Renewed<P> {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.get(SystemTime::now()))
    }
}

fn lasts(credentials: &Credentials, until: SystemTime) -> bool {
    credentials.expiry().is_none_or(|end| end > until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Lends credentials for a quarter of an hour, twice.
    #[derive(Debug)]
    struct Lender {
        begin: SystemTime,
        asked: AtomicU32,
    }

    impl ProvideCredentials for Lender {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let number = self.asked.fetch_add(1, Ordering::Relaxed);
            let end = self.begin + Duration::from_secs(900 * u64::from(number + 1));
            future::ProvideCredentials::ready(match number {
                0 | 1 => Ok(Credentials::new(number.to_string(), "secret", None, Some(end), "test")),
                _ => Err(CredentialsError::not_loaded("no more")),
            })
        }
    }

    #[tokio::test]
    async fn credentials_are_renewed_before_they_end() {
        let begin = SystemTime::UNIX_EPOCH;
        let renewed = Renewed::new(Lender { begin, asked: AtomicU32::new(0) });
        let at = async |seconds| {
            let got = renewed.get(begin + Duration::from_secs(seconds)).await;
            got.map(|credentials| credentials.access_key_id().to_string())
        };
        assert_eq!(at(0).await.unwrap(), "0");
        assert_eq!(at(599).await.unwrap(), "0");
        assert_eq!(renewed.provider.asked.load(Ordering::Relaxed), 1, "one set serves all");
        assert_eq!(at(601).await.unwrap(), "1");
        assert_eq!(at(1799).await.unwrap(), "1", "these are still valid, though no others are to be had");
        at(1800).await.unwrap_err();
    }
}
