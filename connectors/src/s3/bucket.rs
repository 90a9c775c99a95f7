//! A bucket, through AWS's own library.

use super::settings::{SSE, SSE_BUCKET_KEY, SSE_CUSTOMER_KEY, SSE_KMS_KEY, Settings};
use crate::archive::{AT_A_TIME, Archive, ArchivedObject, Asked, Class, State, Tier};
use crate::aws::{Access, CONNECT_TIMEOUT};
use async_trait::async_trait;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder as Config;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_s3::types::{
    GlacierJobParameters, Object, OptionalObjectAttributes, RequestPayer, RestoreRequest, ServerSideEncryption,
    Tier as OfS3,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use futures::{StreamExt, TryStreamExt, stream};
use md5::{Digest, Md5};
use object_store::aws::AmazonS3ConfigKey as Key;
use std::fmt;
use tokio::sync::OnceCell;
use url::form_urlencoded::byte_serialize;

/// The settings of an object store's bucket, and the client that is made of them when it is first asked.
pub(crate) struct Bucket {
    name: String,
    access: Access,
    is_virtual_hosted: bool,
    is_express: bool,
    payer: Option<RequestPayer>,
    sse: Sse,
    client: OnceCell<Client>,
    /// The storage class of what is written. Absent: as the bucket has it.
    pub class: Option<String>,
}

/// How objects are encrypted.
enum Sse {
    /// As the bucket has it.
    Bucket,
    Server {
        kind: ServerSideEncryption,
        key: Option<String>,
        uses_bucket_key: Option<bool>,
    },
    Customer(CustomerKey),
}

/// A key of the customer's own.
struct CustomerKey {
    /// In base64.
    key: String,
    md5: String,
}

/// Shows no keys.
impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("name", &self.name).field("access", &self.access).finish_non_exhaustive()
    }
}

impl Sse {
    fn of(settings: &Settings) -> Self {
        match (settings.named(SSE).as_deref(), settings.named(SSE_CUSTOMER_KEY)) {
            (Some("sse-c"), Some(key)) => {
                let bytes = BASE64_STANDARD.decode(&key).unwrap_or_default();
                Self::Customer(CustomerKey { md5: BASE64_STANDARD.encode(Md5::digest(bytes)), key })
            }
            (None | Some("sse-c"), _) => Self::Bucket,
            (Some(kind), _) => Self::Server {
                kind: kind.into(),
                key: settings.named(SSE_KMS_KEY),
                uses_bucket_key: settings.named(SSE_BUCKET_KEY).and_then(|uses| uses.parse().ok()),
            },
        }
    }
}

/// How often a request is sent, at most.
const TRIES: u32 = 8;
/// What S3 calls the cipher of customers' keys.
const CIPHER: &str = "AES256";

impl Bucket {
    pub fn of(settings: &Settings) -> Self {
        Self {
            name: settings.text(Key::Bucket).unwrap_or_default(),
            access: settings.access(),
            is_virtual_hosted: settings.is(Key::VirtualHostedStyleRequest),
            is_express: settings.is(Key::S3Express),
            payer: settings.is(Key::RequestPayer).then_some(RequestPayer::Requester),
            sse: Sse::of(settings),
            client: OnceCell::new(),
            class: settings.class.clone(),
        }
    }

    /// Whether keys are listed in their order, and from any of them on.
    pub fn is_ordered(&self) -> bool {
        !self.is_express
    }

    /// As whom it is asked.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Returns the ids of the uploads of an object that are neither completed nor aborted.
    pub async fn unfinished_uploads(&self, key: &str) -> Result<Vec<String>> {
        let request = self.client().await.list_multipart_uploads().bucket(&self.name).prefix(key);
        let request = request.set_request_payer(self.payer.clone());
        let (mut ids, mut after) = (Vec::new(), (None, None));
        loop {
            let page = request.clone().set_key_marker(after.0.take()).set_upload_id_marker(after.1.take()).send().await;
            let page = page.map_err(|error| self.failed(key, error))?;
            let of_key = page.uploads().iter().filter(|upload| upload.key() == Some(key));
            ids.extend(of_key.filter_map(|upload| upload.upload_id().map(str::to_string)));
            if !page.is_truncated().unwrap_or(false) {
                return Ok(ids);
            }
            after = (page.next_key_marker, page.next_upload_id_marker);
        }
    }

    /// Begins an upload of an object of a storage class, and returns its id.
    pub async fn create_upload(&self, key: &str, class: &str) -> Result<String> {
        let mut request =
            self.client().await.create_multipart_upload().bucket(&self.name).key(key).storage_class(class.into());
        match &self.sse {
            Sse::Bucket => {}
            Sse::Server { kind, key, uses_bucket_key } => {
                request = request.server_side_encryption(kind.clone()).set_ssekms_key_id(key.clone());
                request = request.set_bucket_key_enabled(*uses_bucket_key);
            }
            Sse::Customer(CustomerKey { key, md5 }) => {
                request = request.sse_customer_algorithm(CIPHER).sse_customer_key(key).sse_customer_key_md5(md5);
            }
        }
        let created = request.set_request_payer(self.payer.clone()).send().await;
        let created = created.map_err(|error| self.failed(key, error))?;
        created.upload_id.ok_or_else(|| exec_datafusion_err!("s3://{}/{key}: S3 gives the upload no id", self.name))
    }

    /// Copies an object, which is replaced if it is there, with another storage class.
    pub async fn copy(&self, from: &str, to: &str, class: &str) -> Result<()> {
        let encoded: Vec<String> = from
            .split('/')
            .map(|part| byte_serialize(part.as_bytes()).collect::<String>().replace('+', "%20"))
            .collect();
        let request = self.client().await.copy_object().bucket(&self.name).key(to).storage_class(class.into());
        let mut request = request.copy_source(format!("{}/{}", self.name, encoded.join("/")));
        match &self.sse {
            Sse::Bucket => {}
            Sse::Server { kind, key, uses_bucket_key } => {
                request = request.server_side_encryption(kind.clone()).set_ssekms_key_id(key.clone());
                request = request.set_bucket_key_enabled(*uses_bucket_key);
            }
            Sse::Customer(CustomerKey { key, md5 }) => {
                request = request.sse_customer_algorithm(CIPHER).sse_customer_key(key).sse_customer_key_md5(md5);
                request = request.copy_source_sse_customer_algorithm(CIPHER).copy_source_sse_customer_key(key);
                request = request.copy_source_sse_customer_key_md5(md5);
            }
        }
        let copied = request.set_request_payer(self.payer.clone()).send().await;
        copied.map(|_| ()).map_err(|error| self.failed(to, error))
    }

    async fn client(&self) -> &Client {
        let client = async || {
            let chain = self.access.load().await;
            // A large object may take long to be copied.
            let patient = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build();
            let mut config = Config::from(&chain).force_path_style(!self.is_virtual_hosted);
            config = config.retry_config(RetryConfig::standard().with_max_attempts(TRIES)).timeout_config(patient);
            if chain.region().is_none() {
                config = config.region(self.access.region_or_default());
            }
            if let Some(endpoint) = &self.access.endpoint {
                config = config.endpoint_url(endpoint);
            }
            Client::from_conf(config.build())
        };
        self.client.get_or_init(client).await
    }

    /// Returns an object, if it is archived.
    pub async fn one(&self, key: &str) -> Result<Option<ArchivedObject>> {
        let mut request = self.client().await.head_object().bucket(&self.name).key(key);
        if let Sse::Customer(CustomerKey { key, md5 }) = &self.sse {
            request = request.sse_customer_algorithm(CIPHER).sse_customer_key(key).sse_customer_key_md5(md5);
        }
        let found = request.set_request_payer(self.payer.clone()).send().await;
        let found = found.map_err(|error| self.failed(key, error))?;
        let Some(class) = found.storage_class().and_then(|class| Class::parse(class.as_str())) else { return Ok(None) };
        let bytes = found.content_length().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
        Ok(Some(ArchivedObject { key: key.to_string(), bytes, class, state: state(found.restore()) }))
    }

    /// Returns the archived objects, in the order of their keys. `most`: of objects that are looked at.
    pub async fn listed(&self, prefix: &str, most: usize) -> Result<Vec<ArchivedObject>> {
        let request = self.client().await.list_objects_v2().bucket(&self.name).prefix(prefix);
        let request = request.optional_object_attributes(OptionalObjectAttributes::RestoreStatus);
        let mut pages = request.set_request_payer(self.payer.clone()).into_paginator().send();
        let (mut found, mut seen) = (Vec::new(), 0);
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.failed(prefix, error))?;
            found.extend(page.contents().iter().filter_map(archived));
            seen += page.contents().len();
            if seen >= most {
                break;
            }
        }
        // Other servers may not know that they are asked for states in a list.
        if self.access.endpoint.is_some() {
            let asked = stream::iter(found).map(async |object: ArchivedObject| match object.state {
                State::Archived => Ok::<_, DataFusionError>(self.one(&object.key).await?.unwrap_or(object)),
                _ => Ok(object),
            });
            found = asked.buffered(AT_A_TIME).try_collect().await?;
        }
        Ok(found)
    }

    fn failed(&self, of: &str, error: impl std::error::Error + ProvideErrorMetadata) -> DataFusionError {
        let bucket = &self.name;
        match (error.code(), error.message()) {
            (Some(code), message) => {
                exec_datafusion_err!("s3://{bucket}/{of}: {code}: {}", message.unwrap_or("S3 says no more"))
            }
            (None, _) => exec_datafusion_err!("s3://{bucket}/{of}: {}", DisplayErrorContext(&error)),
        }
    }
}

#[async_trait]
impl Archive for Bucket {
    async fn archived(&self, prefix: &str) -> Result<Vec<ArchivedObject>> {
        self.listed(prefix, usize::MAX).await
    }

    async fn restore(&self, key: &str, tier: Tier, days: u32) -> Result<Asked> {
        let tier = match tier {
            Tier::Bulk => OfS3::Bulk,
            Tier::Standard => OfS3::Standard,
            Tier::Expedited => OfS3::Expedited,
        };
        let job = GlacierJobParameters::builder().tier(tier).build();
        let job = job.map_err(|error| exec_datafusion_err!("{error}"))?;
        let wanted =
            RestoreRequest::builder().days(i32::try_from(days).unwrap_or(i32::MAX)).glacier_job_parameters(job).build();
        let request = self.client().await.restore_object().bucket(&self.name).key(key).restore_request(wanted);
        match request.set_request_payer(self.payer.clone()).send().await {
            Ok(_) => Ok(Asked::Begun),
            Err(error) if error.code() == Some("RestoreAlreadyInProgress") => Ok(Asked::UnderWay),
            Err(error) => Err(self.failed(key, error)),
        }
    }
}

fn archived(object: &Object) -> Option<ArchivedObject> {
    let class = Class::parse(object.storage_class()?.as_str())?;
    let state = match object.restore_status() {
        Some(status) if status.is_restore_in_progress() == Some(true) => State::Restoring,
        Some(status) if status.is_restore_in_progress() == Some(false) => {
            let until = status.restore_expiry_date().and_then(|until| DateTime::from_timestamp(until.secs(), 0));
            State::Restored(until)
        }
        _ => State::Archived,
    };
    let bytes = object.size().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
    Some(ArchivedObject { key: object.key()?.to_string(), bytes, class, state })
}

/// Reads the header x-amz-restore: `ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"`.
fn state(header: Option<&str>) -> State {
    match header {
        Some(header) if header.contains("ongoing-request=\"true\"") => State::Restoring,
        Some(header) if header.contains("ongoing-request=\"false\"") => {
            let until = header.split("expiry-date=\"").nth(1).and_then(|rest| rest.split('"').next());
            let until = until.and_then(|until| DateTime::parse_from_rfc2822(until).ok());
            State::Restored(until.map(|until| until.with_timezone(&Utc)))
        }
        _ => State::Archived,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_a_restore_is_understood() {
        assert_eq!(state(None), State::Archived);
        assert_eq!(state(Some("ongoing-request=\"true\"")), State::Restoring);
        let State::Restored(Some(until)) =
            state(Some("ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\""))
        else {
            panic!("it is restored")
        };
        assert_eq!(until.timestamp(), 1_356_048_000);
        assert_eq!(state(Some("ongoing-request=\"false\"")), State::Restored(None));
    }
}
