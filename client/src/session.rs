//! A client's session with a cluster.

use crate::backend::{Answer, Backend, Body, Request, Sent, Table, TableFilter};
use crate::dataframe;
use crate::embedded::{Embedded, EmbeddedOptions};
use crate::error::{ClientError, Result};
use crate::jobs::{ClusterStatus, Job, JobDetail, Progress};
use crate::params::{Param, Params};
use crate::remote::Remote;
use crate::result::ResultStream;
use bytes::Bytes;
use datafusion::dataframe::DataFrame;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;
use windlass_connectors::wfs::Wfs;

/// Where sessions come from.
pub struct Client;

impl Client {
    /// Connects to the primary at `url` (`grpc://host:port`) and opens a session there.
    ///
    /// Fails with [`ClientError::Unreachable`] when nobody answers and with [`ClientError::Version`] when it is another release.
    pub async fn connect(url: &str) -> Result<Session> {
        Client::connect_with_token(url, None).await
    }

    /// The same, with a bearer token.
    pub async fn connect_with_token(url: &str, token: Option<String>) -> Result<Session> {
        Ok(Session { backend: Arc::new(Remote::connect(url, token).await?) })
    }

    /// Starts a cluster inside this process, a primary and an executor, and opens a session with it. It ends with [`Session::close`].
    pub async fn embedded(options: EmbeddedOptions) -> Result<Session> {
        Ok(Session { backend: Arc::new(Embedded::start(options).await?) })
    }
}

/// A session: its options and its temporary tables live on the cluster. Clones are the same session.
#[derive(Clone, Debug)]
pub struct Session {
    backend: Arc<dyn Backend>,
}

impl Session {
    /// A statement to run: await it for its rows.
    ///
    /// ```no_run
    /// # async fn f(session: windlass_client::Session) -> windlass_client::Result<()> {
    /// let rows = session.sql("select * from flights where dest = $dest").param("dest", "MIA").await?.collect().await?;
    /// # Ok(()) }
    /// ```
    pub fn sql(&self, sql: impl Into<String>) -> Statement {
        self.statement(Body::Sql(sql.into()))
    }

    /// A DataFrame as a statement, for its [`QueryHandle`]; `DataFrame::collect` and its like need no more than the DataFrame.
    pub fn dataframe(&self, dataframe: DataFrame) -> Result<Statement> {
        let (state, plan) = dataframe.into_parts();
        let plan = state.optimize(&plan)?;
        Ok(self.encoded_plan(windlass_engine::logical::encode(&plan)?))
    }

    pub(crate) fn encoded_plan(&self, plan: Bytes) -> Statement {
        self.statement(Body::Plan(plan))
    }

    fn statement(&self, body: Body) -> Statement {
        Statement { session: self.clone(), body, params: Params::default(), query: Uuid::new_v4().to_string() }
    }

    /// A DataFusion context over the cluster: its DataFrames read the cluster's tables and run on the cluster.
    pub fn context(&self) -> SessionContext {
        dataframe::context(self)
    }

    /// A table or view of the cluster as a DataFrame.
    pub async fn table(&self, name: &str) -> Result<DataFrame> {
        Ok(self.context().table(name).await?)
    }

    /// Sets an option for this session, as `SET key = value` does.
    pub async fn set(&self, key: &str, value: &str) -> Result<()> {
        let well_formed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if key.is_empty() || !key.chars().all(well_formed) {
            return Err(ClientError::invalid(format!("\"{key}\" is not the name of an option: see 'show all'")));
        }
        self.sql(format!("SET {key} = '{}'", value.replace('\'', "''"))).update().await.map(|_| ())
    }

    /// The files of the cluster, `wfs://`; [`windlass_connectors::wfs::WfsStore`] makes an object store of them.
    ///
    /// To be called on the runtime that is to carry their bytes.
    pub fn files(&self) -> Wfs {
        self.backend.files()
    }

    pub async fn tables(&self, filter: TableFilter) -> Result<Vec<Table>> {
        self.backend.tables(&filter).await
    }

    /// Runs statements detached from this client, in a session of their own. Returns the job's id.
    pub async fn submit(&self, sql: &str, name: &str, options: &[(String, String)]) -> Result<String> {
        self.backend.submit(sql, name, options).await
    }

    /// The newest jobs first, at most `limit`.
    pub async fn jobs(&self, limit: u32) -> Result<Vec<Job>> {
        self.backend.jobs(limit).await
    }

    pub async fn job(&self, job: &str) -> Result<JobDetail> {
        self.backend.job(job).await
    }

    /// Asks for the end of a job, and returns the state that it is in.
    pub async fn cancel_job(&self, job: &str) -> Result<String> {
        self.backend.cancel(job).await
    }

    pub async fn job_logs(&self, job: &str) -> Result<Vec<String>> {
        self.backend.job_logs(job).await
    }

    pub async fn status(&self) -> Result<ClusterStatus> {
        self.backend.status().await
    }

    /// Asks an executor, by name or id, to leave: it gets no further tasks, and what it holds moves to the others. Returns its id, before
    /// it has left; [`status`](Self::status) shows it for as long as it is there.
    ///
    /// # Errors
    /// [`ClientError::Invalid`](crate::ClientError::Invalid) when there is no such executor, and for an embedded cluster.
    pub async fn decommission(&self, executor: &str) -> Result<String> {
        self.backend.decommission(executor).await
    }

    /// The cluster's address, or "embedded".
    pub fn url(&self) -> &str {
        self.backend.url()
    }

    /// Ends the session. Without it, a session on a cluster ends when nobody uses it for a while.
    pub async fn close(self) -> Result<()> {
        self.backend.close().await
    }
}

/// A statement that has not run yet.
#[must_use = "a statement runs when it is awaited"]
pub struct Statement {
    session: Session,
    body: Body,
    params: Params,
    query: String,
}

impl Statement {
    /// The value of the placeholder `$name`.
    pub fn param(mut self, name: &str, value: impl Into<Param>) -> Statement {
        self.params.set(name, value);
        self
    }

    pub fn params(mut self, params: Params) -> Statement {
        self.params = params;
        self
    }

    /// To watch and to cancel the statement from elsewhere while it runs.
    pub fn handle(&self) -> QueryHandle {
        QueryHandle { session: self.session.clone(), query: self.query.clone() }
    }

    /// Runs the statement to its end. Rows are read as the stream is polled. Dropping the future cancels the statement.
    pub async fn execute(self) -> Result<ResultStream> {
        let handle = self.handle();
        let request = Request { query: self.query, body: self.body, params: self.params, sent: Sent::Once };
        let Answer { schema, batches, job } = self.session.backend.execute(request).await?;
        Ok(ResultStream::new(schema, batches, job, handle))
    }

    /// Runs the statement for its effect; returns the rows that it wrote, for statements that count them.
    pub async fn update(self) -> Result<u64> {
        self.execute().await?.into_count().await
    }
}

impl IntoFuture for Statement {
    type Output = Result<ResultStream>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.execute())
    }
}

/// A statement that was sent, or soon will be.
#[derive(Clone)]
pub struct QueryHandle {
    session: Session,
    query: String,
}

impl fmt::Debug for QueryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QueryHandle").field(&self.query).finish()
    }
}

/// How long [`QueryHandle::cancel`] looks for the statement's job.
const CANCEL_LOOKUP: Duration = Duration::from_secs(2);

impl QueryHandle {
    /// The id that the client gave the statement.
    pub fn id(&self) -> &str {
        &self.query
    }

    /// Progress, from now until the statement ends. The last message says what ran.
    pub fn progress(&self) -> BoxStream<'static, Result<Progress>> {
        self.session.backend.watch(&self.query)
    }

    /// Cancels the statement on the cluster, if it runs. Whoever awaits it gets [`ClientError::Cancelled`].
    ///
    /// A statement that is no job yet (it is being planned) ends when the future that runs it is dropped.
    pub async fn cancel(&self) -> Result<()> {
        let mut progress = self.progress();
        let found = tokio::time::timeout(CANCEL_LOOKUP, async {
            while let Some(item) = progress.next().await {
                let item = item?;
                if item.is_last() {
                    return Ok(None);
                }
                if !item.job.is_empty() {
                    return Ok(Some(item.job));
                }
            }
            Ok::<_, ClientError>(None)
        })
        .await;
        match found {
            Ok(Ok(Some(job))) => self.session.cancel_job(&job).await.map(|_| ()),
            Ok(Err(error)) => Err(error),
            Ok(Ok(None)) | Err(_) => Ok(()),
        }
    }
}
