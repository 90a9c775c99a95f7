//! The settings of a bucket: the environment's, and over them the options `aws.…` of a table.

use crate::archive::STORAGE_CLASSES;
#[cfg(feature = "s3")]
use crate::aws::{Access, Key, Role};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key3};
use std::collections::BTreeMap;
use url::{Position, Url};

/// The prefix of table options that configure an S3 store.
pub(crate) const AWS_PREFIX: &str = "aws.";
/// Settings of the crate that it has no public names for.
pub(crate) const SSE: &str = "aws_server_side_encryption";
pub(crate) const SSE_KMS_KEY: &str = "aws_sse_kms_key_id";
pub(crate) const SSE_BUCKET_KEY: &str = "aws_sse_bucket_key_enabled";
pub(crate) const SSE_CUSTOMER_KEY: &str = "aws_sse_customer_key_base64";
/// Bytes of a key of the customer's own.
const CUSTOMER_KEY: usize = 32;

/// How a bucket is reached, and what is said when objects are written and read.
pub(crate) struct Settings {
    pub builder: AmazonS3Builder,
    /// The storage class of what is written. Absent: as the bucket has it.
    pub class: Option<String>,
    role: BTreeMap<&'static str, String>,
}

/// What encrypts the objects of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sse {
    /// AES256, aws:kms or aws:kms:dsse.
    Server(&'static str),
    /// A key of the customer's own.
    Customer,
}

impl Settings {
    /// # Errors
    /// An option is unknown, has a wrong value, or contradicts another one. No message has the value of a secret.
    pub fn of(url: &Url, options: &BTreeMap<String, String>) -> Result<Self> {
        let builder = AmazonS3Builder::from_env().with_bucket_name(url.host_str().unwrap_or_default());
        let mut settings = Self { builder, class: None, role: BTreeMap::new() };
        let mut sse = None;
        for (option, value) in options {
            let lower = option.to_ascii_lowercase();
            let name = lower.strip_prefix(AWS_PREFIX).unwrap_or(&lower);
            let name = name.strip_prefix("aws_").unwrap_or(name);
            let set = |builder: AmazonS3Builder, key: Key3| builder.with_config(key, value);
            match name {
                "role_arn" if !value.starts_with("arn:") => {
                    return plan_err!("the option '{option}' is '{value}': expected arn:aws:iam::ACCOUNT:role/NAME");
                }
                "role_arn" => _ = settings.role.insert("role_arn", value.clone()),
                "external_id" => _ = settings.role.insert("external_id", value.clone()),
                "role_session_name" => _ = settings.role.insert("role_session_name", value.clone()),
                "endpoint_url_sts" => {
                    require_url(option, value)?;
                    settings.role.insert("endpoint_url_sts", value.clone());
                }
                "request_payer" => {
                    let Some(pays) = boolean(value).or(value.eq_ignore_ascii_case("requester").then_some(true)) else {
                        return plan_err!("the option '{option}' is '{value}': expected 'requester'");
                    };
                    settings.builder = settings.builder.with_request_payer(pays);
                }
                "sse" | "server_side_encryption" => sse = Some(Sse::parse(option, value)?),
                "sse_kms_key_id" => settings.builder = set(settings.builder, other(option, SSE_KMS_KEY)?),
                "sse_customer_key" | "sse_customer_key_base64" => {
                    let bytes = BASE64_STANDARD.decode(value).map(|bytes| bytes.len());
                    if bytes != Ok(CUSTOMER_KEY) {
                        return plan_err!("the option '{option}' is not a key of {CUSTOMER_KEY} bytes in base64");
                    }
                    settings.builder = set(settings.builder, other(option, SSE_CUSTOMER_KEY)?);
                }
                "storage_class" => settings.class = Some(storage_class(option, value)?),
                _ => {
                    let key = other(option, name)?;
                    if (is_boolean(&key) || key.as_ref() == SSE_BUCKET_KEY) && boolean(value).is_none() {
                        return plan_err!("the option '{option}' is '{value}': expected true or false");
                    }
                    settings.builder = set(settings.builder, key);
                }
            }
        }
        settings.encrypt(sse, options)?;
        settings.require_consistent_role(options)?;
        Ok(settings)
    }

    fn encrypt(&mut self, sse: Option<Sse>, options: &BTreeMap<String, String>) -> Result<()> {
        let has = |name: &str| options.keys().find(|option| named(option) == name);
        let (customer, kms) = (has("sse_customer_key").or(has("sse_customer_key_base64")), has("sse_kms_key_id"));
        let kind = match (&sse, customer, kms) {
            (Some(Sse::Server(kind)), Some(option), _) => {
                return plan_err!("the option '{option}' goes with aws.sse 'sse-c', not with '{kind}'");
            }
            (Some(Sse::Customer), None, _) => {
                return plan_err!(
                    "aws.sse 'sse-c' goes with aws.sse_customer_key: a key of {CUSTOMER_KEY} bytes in base64"
                );
            }
            (Some(Sse::Server("AES256")), _, Some(option)) => {
                return plan_err!("the option '{option}' goes with aws.sse 'aws:kms' or 'aws:kms:dsse'");
            }
            (None | Some(Sse::Customer), Some(customer), Some(option)) => {
                return plan_err!("the options '{customer}' and '{option}' are there together: leave out one of them");
            }
            (Some(Sse::Server(kind)), _, _) => kind,
            (None | Some(Sse::Customer), Some(_), None) => "sse-c",
            (None, None, Some(_)) => "aws:kms",
            (None, None, None) => return Ok(()),
        };
        let builder = std::mem::take(&mut self.builder);
        self.builder = builder.with_config(other("aws.sse", SSE)?, kind);
        Ok(())
    }

    fn require_consistent_role(&self, options: &BTreeMap<String, String>) -> Result<()> {
        let has = |name: &str| options.keys().find(|option| named(option) == name);
        let Some(role) = has("role_arn") else {
            let of_role = ["external_id", "role_session_name", "endpoint_url_sts"].iter().find_map(|name| has(name));
            return match of_role {
                Some(option) => plan_err!("the option '{option}' goes with aws.role_arn"),
                None => Ok(()),
            };
        };
        match has("skip_signature").filter(|option| options.get(*option).and_then(|is| boolean(is)) == Some(true)) {
            Some(option) => plan_err!("the options '{role}' and '{option}' are there together: leave out one of them"),
            None => Ok(()),
        }
    }

    /// As whom the bucket is asked, by what is not `object_store`.
    #[cfg(feature = "s3")]
    pub fn access(&self) -> Access {
        let keys = self.text(Key3::AccessKeyId).zip(self.text(Key3::SecretAccessKey));
        let role = self.role.get("role_arn").map(|arn| Role {
            arn: arn.clone(),
            external_id: self.role.get("external_id").cloned(),
            session: self.role.get("role_session_name").cloned(),
            endpoint: self.role.get("endpoint_url_sts").cloned(),
        });
        Access {
            region: self.text(Key3::Region),
            endpoint: self.endpoint(),
            key: keys.map(|(id, secret)| Key { id, secret, token: self.text(Key3::Token) }),
            profile: None,
            role,
            is_anonymous: self.is(Key3::SkipSignature),
        }
    }

    #[cfg(not(feature = "s3"))]
    pub fn has_role(&self) -> bool {
        !self.role.is_empty()
    }

    pub fn endpoint(&self) -> Option<String> {
        self.text(Key3::S3Endpoint).or_else(|| self.text(Key3::Endpoint))
    }

    pub fn text(&self, key: Key3) -> Option<String> {
        self.builder.get_config_value(&key).filter(|text| !text.is_empty())
    }

    /// A setting by the crate's name for it.
    pub fn named(&self, name: &str) -> Option<String> {
        self.text(name.parse().ok()?)
    }

    pub fn is(&self, key: Key3) -> bool {
        self.text(key).is_some_and(|text| boolean(&text) == Some(true))
    }

    /// Refuses endpoints that are none. The crate accepts any text, and panics at the first request when it is no URL.
    pub fn require_endpoint(&self, url: &Url) -> Result<()> {
        for key in [Key3::Endpoint, Key3::S3Endpoint] {
            let Some(endpoint) = self.text(key) else { continue };
            if !is_url(&endpoint) {
                return plan_err!(
                    "the endpoint '{endpoint}' for {} is not a URL such as https://s3.example.com or http://127.0.0.1:9000: see \
                     AWS_ENDPOINT_URL and the option aws.endpoint",
                    shown(url)
                );
            }
        }
        Ok(())
    }
}

/// A URL for people, without the name of its settings.
pub(crate) fn shown(url: &Url) -> String {
    format!("{}://{}", url.scheme(), &url[Position::BeforeHost..])
}

impl Sse {
    fn parse(option: &str, value: &str) -> Result<Self> {
        let known = ["AES256", "aws:kms", "aws:kms:dsse"].into_iter().find(|kind| kind.eq_ignore_ascii_case(value));
        match known {
            Some(kind) => Ok(Self::Server(kind)),
            None if value.eq_ignore_ascii_case("sse-c") => Ok(Self::Customer),
            None => {
                plan_err!("the option '{option}' is '{value}': expected AES256, aws:kms, aws:kms:dsse or sse-c")
            }
        }
    }
}

/// The name of an option without its prefixes.
fn named(option: &str) -> String {
    let lower = option.to_ascii_lowercase();
    let name = lower.strip_prefix(AWS_PREFIX).unwrap_or(&lower);
    name.strip_prefix("aws_").unwrap_or(name).to_string()
}

fn storage_class(option: &str, value: &str) -> Result<String> {
    match STORAGE_CLASSES.into_iter().find(|class| class.eq_ignore_ascii_case(value)) {
        Some(class) => Ok(class.to_string()),
        None => plan_err!("the option '{option}' is '{value}': expected one of {}", STORAGE_CLASSES.join(", ")),
    }
}

/// Parses the name of an option of `object_store`. `aws.access_key_id` and `aws.aws_access_key_id` are the same option.
fn other(option: &str, name: &str) -> Result<Key3> {
    let parsed = name.parse().or_else(|_| format!("aws_{name}").parse());
    parsed.map_err(|_| {
        plan_datafusion_err!(
            "unknown option '{option}': options of S3 are aws.access_key_id, aws.secret_access_key, aws.session_token, aws.region, \
             aws.endpoint, aws.allow_http, aws.virtual_hosted_style_request, aws.skip_signature, aws.request_payer, aws.role_arn, \
             aws.external_id, aws.role_session_name, aws.endpoint_url_sts, aws.sse, aws.sse_kms_key_id, aws.sse_customer_key, \
             aws.storage_class and the others of the object_store crate"
        )
    })
}

fn is_boolean(key: &Key3) -> bool {
    matches!(
        key,
        Key3::SkipSignature
            | Key3::UnsignedPayload
            | Key3::VirtualHostedStyleRequest
            | Key3::S3Express
            | Key3::ImdsV1Fallback
            | Key3::DisableTagging
            | Key3::Client(object_store::ClientConfigKey::AllowHttp)
    )
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "yes" | "y" => Some(true),
        "0" | "false" | "off" | "no" | "n" => Some(false),
        _ => None,
    }
}

fn is_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn require_url(option: &str, value: &str) -> Result<()> {
    match is_url(value) {
        true => Ok(()),
        false => plan_err!("the option '{option}' is '{value}': expected a URL such as https://sts.example.com"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(options: &[(&str, &str)]) -> Result<Settings> {
        let options = options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Settings::of(&Url::parse("s3://lake/x").unwrap(), &options)
    }

    #[test]
    fn wrong_options_are_named() {
        let key = BASE64_STANDARD.encode([7; 16]);
        for (options, words) in [
            (&[("aws.acess_key_id", "k")][..], &["aws.acess_key_id", "aws.access_key_id"][..]),
            (&[("aws.sse", "rot13")], &["'aws.sse'", "'rot13'", "aws:kms"]),
            (&[("aws.sse", "sse-c")], &["aws.sse_customer_key"]),
            (&[("aws.sse_customer_key", &key)], &["'aws.sse_customer_key'", "32 bytes"]),
            (&[("aws.sse", "AES256"), ("aws.sse_kms_key_id", "k")], &["'aws.sse_kms_key_id'", "aws:kms"]),
            (&[("aws.request_payer", "me")], &["'aws.request_payer'", "'requester'"]),
            (&[("aws.skip_signature", "maybe")], &["'aws.skip_signature'", "true or false"]),
            (&[("aws.storage_class", "cold")], &["'aws.storage_class'", "DEEP_ARCHIVE"]),
            (&[("aws.role_arn", "reader")], &["'aws.role_arn'", "arn:aws:iam"]),
            (&[("aws.external_id", "x")], &["'aws.external_id'", "aws.role_arn"]),
            (
                &[("aws.role_arn", "arn:aws:iam::1:role/r"), ("aws.skip_signature", "true")],
                &["'aws.role_arn' and 'aws.skip_signature'"],
            ),
            (
                &[("aws.role_arn", "arn:aws:iam::1:role/r"), ("aws.endpoint_url_sts", "here")],
                &["'aws.endpoint_url_sts'", "a URL"],
            ),
        ] {
            let error = settings(options).err().expect("it is refused").to_string();
            assert!(words.iter().all(|word| error.contains(word)) && !error.contains(&key), "{error}");
        }
    }

    #[test]
    fn a_key_says_how_it_encrypts() {
        let key = BASE64_STANDARD.encode([7; 32]);
        let kind = |options: &[(&str, &str)]| {
            let settings = settings(options).unwrap();
            settings.named(SSE).unwrap_or_default()
        };
        assert_eq!(kind(&[("aws.sse_customer_key", &key)]), "sse-c");
        assert_eq!(kind(&[("aws.sse_kms_key_id", "k")]), "aws:kms");
        assert_eq!(kind(&[("aws.sse_kms_key_id", "k"), ("aws.sse", "AWS:KMS:DSSE")]), "aws:kms:dsse");
        assert_eq!(kind(&[("aws.sse", "aes256")]), "AES256");
        assert_eq!(kind(&[]), "");
    }
}
