//! Credentials of an assumed role, for `object_store`.

use crate::aws::{Access, AwsError};
use async_trait::async_trait;
use aws_credential_types::Credentials;
use object_store::aws::AwsCredential;
use object_store::{CredentialProvider, Error, Result};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// As whom a bucket is asked, if that is a role. Its credentials are those of the whole process.
#[derive(Debug)]
pub(crate) struct Assumed {
    access: Access,
    config: OnceCell<aws_config::SdkConfig>,
    /// The last credentials, in both forms.
    last: Mutex<Option<(Credentials, Arc<AwsCredential>)>>,
}

impl Assumed {
    pub fn new(access: Access) -> Self {
        Self { access, config: OnceCell::new(), last: Mutex::default() }
    }
}

#[async_trait]
impl CredentialProvider for Assumed {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        let config = self.config.get_or_init(|| self.access.load()).await;
        let failed = |error: AwsError| Error::Generic { store: "S3", source: error.into() };
        let Some(credentials) = self.access.credentials(config).await.map_err(failed)? else {
            return Err(Error::Generic { store: "S3", source: "AWS's configuration gives no credentials".into() });
        };
        let mut last = self.last.lock();
        if let Some((known, same)) = last.as_ref()
            && *known == credentials
        {
            return Ok(Arc::clone(same));
        }
        let same = Arc::new(AwsCredential {
            key_id: credentials.access_key_id().to_string(),
            secret_key: credentials.secret_access_key().to_string(),
            token: credentials.session_token().map(str::to_string),
        });
        *last = Some((credentials, Arc::clone(&same)));
        Ok(same)
    }
}
