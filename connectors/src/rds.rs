//! Tokens of AWS's IAM, which are passwords of databases of RDS and Aurora for a quarter of an hour.
//! <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.Connecting.html>

use crate::aws::{Access, causes};
use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use parking_lot::Mutex;
use std::time::{Duration, SystemTime};
use tokio::sync::OnceCell;
use url::form_urlencoded::byte_serialize;

/// How long a token lets in.
const VALID: Duration = Duration::from_secs(900);
/// Credentials that end sooner are not used again.
const FRESH: Duration = Duration::from_secs(300);

static CHAIN: OnceCell<SdkConfig> = OnceCell::const_new();
static LAST: Mutex<Option<Credentials>> = Mutex::new(None);

/// The place of a database, and who wants to enter.
pub(crate) struct Database<'a> {
    pub host: &'a str,
    pub port: u16,
    pub user: &'a str,
    /// Absent: that in the host's name, else that of AWS's configuration.
    pub region: Option<&'a str>,
}

impl Database<'_> {
    /// Returns a token, with the credentials of AWS's chain: environment, profile, web identity, container or instance.
    ///
    /// # Errors
    /// There are no credentials, or nothing says the region.
    pub async fn token(&self) -> Result<String, String> {
        let chain = CHAIN.get_or_init(async || Access::default().load().await).await;
        let known = self.region.or_else(|| region_of(self.host));
        let Some(region) = known.map(str::to_string).or_else(|| chain.region().map(ToString::to_string)) else {
            return Err("nothing says in which region the database is: use OPTIONS (region '…')".to_string());
        };
        let now = SystemTime::now();
        let last = LAST.lock().clone();
        let is_fresh = |credentials: &Credentials| credentials.expiry().is_some_and(|end| end > now + FRESH);
        let credentials = match last.filter(is_fresh) {
            Some(credentials) => credentials,
            None => {
                let provided = Access::default().credentials(chain).await.map_err(|error| error.to_string())?;
                let credentials = provided.ok_or("AWS's configuration gives no credentials")?;
                *LAST.lock() = Some(credentials.clone());
                credentials
            }
        };
        self.signed(credentials, &region, now)
    }

    fn signed(&self, credentials: Credentials, region: &str, now: SystemTime) -> Result<String, String> {
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(VALID);
        let identity = credentials.into();
        let parameters = v4::SigningParams::builder().identity(&identity).region(region).name("rds-db");
        let parameters = parameters.time(now).settings(settings).build().map_err(|error| error.to_string())?;
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_string() };
        let mut token = format!("{host}:{}/?Action=connect&DBUser={}", self.port, encoded(self.user));
        let url = format!("https://{token}");
        let request = SignableRequest::new("GET", url, std::iter::empty(), SignableBody::Bytes(&[]));
        let request = request.map_err(|error| format!("no token can be made for {host}: {}", causes(&error)))?;
        let signed = sign(request, &parameters.into()).map_err(|error| causes(&error))?;
        for (name, value) in signed.into_parts().0.params() {
            token.push_str(&format!("&{name}={}", encoded(value)));
        }
        Ok(token)
    }
}

/// `name.id.REGION.rds.amazonaws.com`
fn region_of(host: &str) -> Option<&str> {
    let host = host.strip_suffix(".cn").unwrap_or(host);
    host.strip_suffix(".rds.amazonaws.com")?.rsplit('.').next()
}

fn encoded(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The expected tokens are those of botocore 1.44, which computes `aws rds generate-db-auth-token`.
    #[test]
    fn tokens_are_those_of_awss_own_tools() {
        let host = "db.abc.eu-central-1.rds.amazonaws.com";
        let database = Database { host, port: 5432, user: "app/one", region: None };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_704_164_645);
        let token = |session: Option<&str>| {
            let key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
            let credentials = Credentials::new("AKIDEXAMPLE", key, session.map(str::to_string), None, "test");
            database.signed(credentials, region_of(host).unwrap(), now).unwrap()
        };
        let parts = |token: &str| token.split('&').map(str::to_string).collect::<BTreeSet<_>>();
        let expected = "db.abc.eu-central-1.rds.amazonaws.com:5432/?Action=connect&DBUser=app%2Fone&X-Amz-Algorithm=AWS4-HMAC-SHA256\
            &X-Amz-Credential=AKIDEXAMPLE%2F20240102%2Feu-central-1%2Frds-db%2Faws4_request&X-Amz-Date=20240102T030405Z\
            &X-Amz-Expires=900&X-Amz-SignedHeaders=host";
        let without = "&X-Amz-Signature=066307451cf39015132a4b6112113973b498b29752adc1bcd3e2363941550947";
        assert_eq!(parts(&token(None)), parts(&format!("{expected}{without}")));
        let with = "&X-Amz-Security-Token=session%2Ftoken%2B%3D\
            &X-Amz-Signature=ee2ad5e55211ff85ccad349c134f94248620a5f7a1e5de96328206b3cb2a9b98";
        assert_eq!(parts(&token(Some("session/token+="))), parts(&format!("{expected}{with}")));
        assert!(token(None).starts_with("db.abc.eu-central-1.rds.amazonaws.com:5432/?Action=connect&"));
    }

    #[test]
    fn regions_are_in_names_of_hosts() {
        assert_eq!(region_of("db.abc.us-east-1.rds.amazonaws.com"), Some("us-east-1"));
        assert_eq!(region_of("db.cluster-abc.cn-north-1.rds.amazonaws.com.cn"), Some("cn-north-1"));
        assert_eq!(region_of("localhost"), None);
    }
}
