//! The Redshift Data API: statements over HTTP, which run without their client, and are asked about until they have ended.
//! <https://docs.aws.amazon.com/redshift/latest/mgmt/data-api.html>

use super::settings::Api;
use crate::aws::{Patience, Trouble};
use crate::postgres::wire::Rows;
use aws_sdk_redshiftdata::Client;
use aws_sdk_redshiftdata::config::Builder;
use aws_sdk_redshiftdata::types::{Field, StatusString};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use std::future::Future;
use std::io;
use std::time::Duration;

/// How long a request that fails or is throttled is sent again.
const PATIENCE: Duration = Duration::from_secs(60);
/// The first pause before a statement is asked about again; it grows with each.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A database over the Data API.
pub(super) struct Session {
    client: Client,
    at: Api,
}

impl Session {
    /// # Errors
    /// There are no credentials, or nobody says the region.
    pub async fn open(at: Api) -> Result<Self> {
        let config = at.access.config().await;
        let config = config.map_err(|error| exec_datafusion_err!("the Redshift Data API: {error}"))?;
        let mut builder = Builder::from(&config);
        if let Some(endpoint) = &at.access.endpoint {
            builder = builder.endpoint_url(endpoint);
        }
        Ok(Self { client: Client::from_conf(builder.build()), at })
    }

    /// Runs a query and reads its rows.
    pub async fn query(&self, sql: &str) -> Result<Rows> {
        let id = self.submit(&[sql.to_string()], &uuid::Uuid::new_v4().simple().to_string()).await?;
        match self.ended(&id).await? {
            true => self.rows(&id).await,
            false => Ok(Rows::new()),
        }
    }

    /// Runs statements as one transaction. `token`: the same one is not run twice, but waited for.
    pub async fn transaction(&self, statements: &[String], token: &str) -> Result<()> {
        let id = self.submit(statements, token).await?;
        self.ended(&id).await.map(|_| ())
    }

    async fn submit(&self, statements: &[String], token: &str) -> Result<String> {
        let Api { cluster, workgroup, database, user, secret, .. } = &self.at;
        let id = match statements {
            [sql] => {
                let request = self.client.execute_statement().sql(sql).database(database).client_token(token);
                let request = request.set_cluster_identifier(cluster.clone()).set_workgroup_name(workgroup.clone());
                let request = request.set_db_user(user.clone()).set_secret_arn(secret.clone());
                self.answer(|| async { request.clone().send().await.map_err(|error| Trouble::of(&error)) }).await?.id
            }
            many => {
                let request = self.client.batch_execute_statement().set_sqls(Some(many.to_vec())).database(database);
                let request = request.set_cluster_identifier(cluster.clone()).set_workgroup_name(workgroup.clone());
                let request = request.set_db_user(user.clone()).set_secret_arn(secret.clone()).client_token(token);
                self.answer(|| async { request.clone().send().await.map_err(|error| Trouble::of(&error)) }).await?.id
            }
        };
        id.ok_or_else(|| exec_datafusion_err!("the Redshift Data API gives no id of a statement"))
    }

    /// Waits until a statement has ended. Whether it has rows.
    async fn ended(&self, id: &str) -> Result<bool> {
        let mut pause = FIRST_PAUSE;
        loop {
            let request = self.client.describe_statement().id(id);
            let described =
                self.answer(|| async { request.clone().send().await.map_err(|error| Trouble::of(&error)) }).await?;
            match described.status() {
                Some(StatusString::Finished) => return Ok(described.has_result_set().unwrap_or(false)),
                Some(StatusString::Failed | StatusString::Aborted) => {
                    let why = described.error().unwrap_or("the statement was aborted").trim_end_matches('.');
                    return Err(exec_datafusion_err!("Redshift: {}", why.trim_start_matches("ERROR: ")));
                }
                _ => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }

    async fn rows(&self, id: &str) -> Result<Rows> {
        let (mut rows, mut next) = (Rows::new(), None);
        loop {
            let request = self.client.get_statement_result().id(id).set_next_token(next);
            let page =
                self.answer(|| async { request.clone().send().await.map_err(|error| Trouble::of(&error)) }).await?;
            rows.extend(page.records().iter().map(|row| row.iter().map(text).collect::<Vec<_>>()));
            next = page.next_token;
            if next.as_ref().is_none_or(String::is_empty) {
                return Ok(rows);
            }
        }
    }

    /// Sends a request until it succeeds, is refused, or has failed for too long.
    async fn answer<T, F>(&self, mut send: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let mut patience = Patience::new(PATIENCE);
        loop {
            let trouble = match send().await {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            match trouble {
                Trouble::Refused { code, message } => {
                    let code = if code.is_empty() { code } else { format!(" ({code})") };
                    let message = message.trim_end_matches('.');
                    return Err(exec_datafusion_err!("the Redshift Data API refuses a request: {message}{code}"));
                }
                Trouble::Throttled(what) | Trouble::Passing(what) => {
                    if !patience.pause().await {
                        let lost = format!("the Redshift Data API does not answer: {what}");
                        return Err(DataFusionError::from(io::Error::new(io::ErrorKind::ConnectionAborted, lost)));
                    }
                }
            }
        }
    }
}

fn text(field: &Field) -> Option<String> {
    match field {
        Field::StringValue(text) => Some(text.clone()),
        Field::LongValue(number) => Some(number.to_string()),
        Field::DoubleValue(number) => Some(number.to_string()),
        Field::BooleanValue(is) => Some(if *is { "t" } else { "f" }.to_string()),
        _ => None,
    }
}
