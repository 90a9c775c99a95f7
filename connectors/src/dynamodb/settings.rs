//! Which table of which region, and the client that reaches it.

use super::error::{DynamoError, Result as Answer};
use super::pace::Share;
use crate::aws::{Access, Patience, Trouble, access};
use aws_sdk_dynamodb::Client;
use datafusion::common::{Result, plan_err};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use windlass_engine::connector::{Options, TableSpec};

/// Clients that a process keeps: each has connections and credentials.
const MOST_CLIENTS: usize = 64;
/// How long a request about the table itself is sent again: somebody waits for an error of a wrong region.
const SHORT_PATIENCE: Duration = Duration::from_secs(10);

/// A table as its location names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// Absent: the one that AWS's chain names.
    pub region: Option<String>,
    pub table: String,
}

impl Location {
    /// # Errors
    /// It is no location of a table. No message shows it: it may have a password.
    pub fn parse(location: &str) -> Result<Self> {
        const EXPECTED: &str = "expected dynamodb://region/table";
        let Some(rest) = location.strip_prefix("dynamodb://") else {
            return plan_err!("the location of a table of DynamoDB is of another kind: {EXPECTED}");
        };
        if rest.contains(['@', '?', '#']) {
            return plan_err!(
                "the location has more than a region and a table, and locations are shown: use OPTIONS; {EXPECTED}"
            );
        }
        let Some((region, table)) = rest.split_once('/') else {
            return plan_err!("the location has no table: {EXPECTED}");
        };
        let table = table.trim_end_matches('/');
        let is_of = |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
        if !is_of(region, "-") {
            return plan_err!("the region in the location has other characters than a region: {EXPECTED}");
        }
        if !is_of(table, "_.-") || !(3..=255).contains(&table.len()) {
            return plan_err!("names of tables of DynamoDB have 3 to 255 letters, digits and _ - . : {EXPECTED}");
        }
        Ok(Self { region: Some(region.to_string()).filter(|region| !region.is_empty()), table: table.to_string() })
    }
}

/// What a table's location and options say. Its debug form has no secrets.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub location: Location,
    access: Access,
    pub consistent: bool,
    /// Maximum segments of a scan.
    pub segments: usize,
    pub sample_rows: usize,
    pub read_share: Share,
    pub write_share: Share,
    pub misfits_are_null: bool,
    pub pushes_down: bool,
    pub inserts: bool,
    pub transacts: bool,
    /// How long requests that fail or are throttled are sent again.
    pub patience: Duration,
}

impl Settings {
    /// # Errors
    /// The location or an option is wrong.
    pub fn of(spec: &TableSpec) -> Result<Self> {
        let options = &spec.options;
        let location = Location::parse(&spec.location)?;
        let access = access(location.region.clone(), options)?;
        let is = |option: &str, word: &str| options.text(option).is_some_and(|text| text.eq_ignore_ascii_case(word));
        let segments = number(options, "segments", 1, 100_000)?;
        let sample_rows = number(options, "sample_rows", 1, 10_000_000)?;
        let seconds = number(options, "retry_seconds", 0, 86_400)?;
        Ok(Self {
            location,
            access,
            consistent: options.boolean("consistent").unwrap_or(false),
            segments,
            sample_rows,
            read_share: share(options, "read_share")?,
            write_share: share(options, "write_share")?,
            misfits_are_null: is("mismatch", "null"),
            pushes_down: !is("pushdown", "off"),
            inserts: is("write_mode", "insert"),
            transacts: options.boolean("transactions").unwrap_or(true),
            patience: Duration::from_secs(seconds as u64),
        })
    }

    /// Returns table, region and endpoint, as errors show them.
    pub fn server(&self) -> String {
        let Location { region, table } = &self.location;
        let region = region.as_ref().map(|region| format!(" in {region}")).unwrap_or_default();
        let endpoint = self.access.endpoint.as_ref().map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        format!("the table {table} of DynamoDB{region}{endpoint}")
    }
}

fn number(options: &Options, name: &str, least: i64, most: i64) -> Result<usize> {
    let value = options.integer(name).unwrap_or(least);
    match usize::try_from(value) {
        Ok(number) if (least..=most).contains(&value) => Ok(number),
        _ => plan_err!("the option '{name}' is {value}: expected {least} to {most}"),
    }
}

fn share(options: &Options, name: &str) -> Result<Share> {
    let text = options.text(name).unwrap_or_default();
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(Share(share)),
        _ => plan_err!("the option '{name}' is '{text}': expected a share of the capacity, more than 0 and up to 1"),
    }
}

/// A client, with what is known of its table.
#[derive(Clone)]
pub(super) struct Dynamo {
    pub client: Client,
    pub settings: Arc<Settings>,
}

impl fmt::Debug for Dynamo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dynamo").field(&self.settings.server()).finish()
    }
}

impl Dynamo {
    pub fn table(&self) -> &str {
        &self.settings.location.table
    }

    pub fn patience(&self) -> Patience {
        Patience::new(self.settings.patience)
    }

    /// Sends a request about the table itself until it succeeds, is refused, or has failed for too long.
    pub async fn until_answered<T, F>(&self, send: impl FnMut() -> F) -> Answer<T>
    where
        F: Future<Output = std::result::Result<T, Trouble>>,
    {
        self.within(self.settings.patience.min(SHORT_PATIENCE), send).await
    }

    /// Sends a request until it succeeds, is refused, or has failed for `limit`.
    pub async fn within<T, F>(&self, limit: Duration, mut send: impl FnMut() -> F) -> Answer<T>
    where
        F: Future<Output = std::result::Result<T, Trouble>>,
    {
        let mut patience = Patience::new(limit);
        loop {
            let trouble = match send().await {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            if matches!(trouble, Trouble::Refused { .. }) || !patience.pause().await {
                return Err(DynamoError::of(&self.settings.server(), trouble, limit.as_secs()));
            }
        }
    }

    /// The error of a request that is not sent again.
    pub fn error(&self, trouble: Trouble) -> DynamoError {
        DynamoError::of(&self.settings.server(), trouble, self.settings.patience.as_secs())
    }
}

type Opened = Arc<OnceCell<Client>>;

/// The clients of a process, one for each place and identity.
#[derive(Clone, Default)]
pub(super) struct Clients(Arc<Mutex<HashMap<Access, Opened>>>);

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("count", &self.0.lock().len()).finish()
    }
}

impl Clients {
    /// Returns the client of a table.
    ///
    /// # Errors
    /// There is no region, or there are no credentials.
    pub async fn of(&self, settings: &Arc<Settings>) -> Answer<Dynamo> {
        let opened = {
            let mut clients = self.0.lock();
            if clients.len() >= MOST_CLIENTS && !clients.contains_key(&settings.access) {
                // They are opened again where they are needed.
                clients.clear();
            }
            Arc::clone(clients.entry(settings.access.clone()).or_default())
        };
        let client = opened.get_or_try_init(|| open(&settings.access)).await;
        let client = client.map_err(|source| DynamoError::Aws { server: settings.server(), source })?.clone();
        Ok(Dynamo { client, settings: Arc::clone(settings) })
    }
}

async fn open(access: &Access) -> std::result::Result<Client, crate::aws::AwsError> {
    let config = access.config().await?;
    let mut builder = aws_sdk_dynamodb::config::Builder::from(&config);
    if let Some(endpoint) = &access.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    Ok(Client::from_conf(builder.build()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_have_a_region_and_a_table() {
        let location = Location::parse("dynamodb://eu-central-1/Orders.v2").unwrap();
        assert_eq!((location.region.as_deref(), location.table.as_str()), (Some("eu-central-1"), "Orders.v2"));
        assert_eq!(Location::parse("dynamodb:///orders").unwrap().region, None);
        for (wrong, words) in [
            ("dynamodb://key:hunter2@eu-central-1/orders", "more than a region"),
            ("dynamodb://eu-central-1/orders?secret=hunter2", "more than a region"),
            ("dynamodb://eu-central-1", "no table"),
            ("dynamodb://eu-central-1/x", "3 to 255"),
            ("dynamodb://eu-central-1/a/hunter2", "3 to 255"),
            ("postgresql://hunter2/x", "of another kind"),
        ] {
            let error = Location::parse(wrong).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("hunter2"), "{error}");
        }
    }
}
