//! The options by which tables say as whom a service of AWS is asked.

use super::{Access, Key, Role};
use datafusion::common::{Result, plan_err};
use windlass_engine::connector::{OptionKind, OptionSpec, Options};

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

/// Reads the options.
///
/// # Errors
/// The options contradict each other. No message has the value of one that is secret.
pub(crate) fn access(region: Option<String>, options: &Options) -> Result<Access> {
    let text = |spec: OptionSpec| options.text(spec.name).filter(|text| !text.is_empty()).map(str::to_string);
    let (key, secret, token) = (text(ACCESS_KEY_ID), text(SECRET_ACCESS_KEY), text(SESSION_TOKEN));
    let profile = text(PROFILE);
    let key = match (key, secret) {
        (Some(_), Some(_)) if profile.is_some() => {
            return plan_err!("there are an access_key_id and a profile: leave out one of them");
        }
        (Some(key), Some(secret)) => Some(Key { id: key, secret, token }),
        (None, None) if token.is_some() => {
            return plan_err!("a session_token goes with an access_key_id and a secret_access_key");
        }
        (None, None) => None,
        (Some(_), None) => return plan_err!("an access_key_id goes with a secret_access_key"),
        (None, Some(_)) => return plan_err!("a secret_access_key goes with an access_key_id"),
    };
    let role = match (text(ROLE_ARN), text(EXTERNAL_ID)) {
        (Some(arn), external_id) => Some(Role { arn, external_id, ..Role::default() }),
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
    Ok(Access { region, endpoint, key, profile, role, is_anonymous: false })
}
