//! A client's session with a cluster.

use crate::backend::{Backend, Body, Rows, Table, TableFilter, Target};
use crate::error::{ClientError, Result};
use crate::jobs::{ClusterStatus, Job, JobDetail, JobId, JobState};
use crate::statement::Statement;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::{Stream, StreamExt};
use std::sync::Arc;
#[cfg(feature = "files")]
use windlass_connectors::wfs::Wfs;

/// A session: its options and its temporary tables live on the cluster. Clones are the same session.
#[derive(Clone, Debug)]
pub struct Session {
    backend: Arc<dyn Backend>,
}

impl Session {
    pub(crate) fn new(backend: impl Backend + 'static) -> Session {
        Session { backend: Arc::new(backend) }
    }

    /// Creates a statement: await it for its rows.
    ///
    /// ```no_run
    /// # async fn f(session: windlass_client::Session) -> windlass_client::Result<()> {
    /// let rows = session.sql("select * from flights where dest = $dest").param("dest", "MIA").await?.collect().await?;
    /// # Ok(()) }
    /// ```
    pub fn sql(&self, sql: impl Into<String>) -> Statement {
        self.statement(Body::Sql(sql.into()))
    }

    #[cfg(feature = "dataframe")]
    pub(crate) fn encoded_plan(&self, plan: bytes::Bytes) -> Statement {
        self.statement(Body::Plan(plan))
    }

    fn statement(&self, body: Body) -> Statement {
        Statement::new(Arc::clone(&self.backend), body)
    }

    /// Sets an option for this session, as `SET key = value` does.
    pub async fn set(&self, key: &str, value: &str) -> Result<()> {
        let well_formed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if key.is_empty() || !key.chars().all(well_formed) {
            return Err(ClientError::invalid(format!("\"{key}\" is not the name of an option: see 'show all'")));
        }
        self.sql(format!("SET {key} = '{}'", value.replace('\'', "''"))).update().await.map(|_| ())
    }

    /// Returns the files of the cluster, `wfs://`; [`windlass_connectors::wfs::WfsStore`] turns them into an object store.
    ///
    /// To be called on the runtime that carries their bytes.
    #[cfg(feature = "files")]
    pub fn files(&self) -> Wfs {
        self.backend.files()
    }

    pub async fn tables(&self, filter: TableFilter) -> Result<Vec<Table>> {
        self.backend.tables(&filter).await
    }

    /// Loads rows of this process into a table: all of them, or none if an error ends the load. Returns how many.
    ///
    /// # Errors
    /// The error of a batch, or the cluster's: the table is there or missing contrary to `target`, or cannot take the rows.
    pub async fn load(
        &self,
        target: Target,
        schema: SchemaRef,
        batches: impl Stream<Item = Result<RecordBatch>> + Send + 'static,
    ) -> Result<u64> {
        self.backend.load(target, Rows { schema, batches: batches.boxed() }).await
    }

    /// Submits statements, which run without this client, in their own session. Returns the id of the submission.
    pub async fn submit(&self, sql: &str, name: &str, options: &[(String, String)]) -> Result<JobId> {
        self.backend.submit(sql, name, options).await
    }

    /// Lists the newest jobs of users first, at most `limit`.
    pub async fn jobs(&self, limit: u32) -> Result<Vec<Job>> {
        self.backend.jobs(limit, false).await
    }

    /// Lists the newest jobs first, at most `limit`, including the cluster's own, which no user asked for.
    pub async fn all_jobs(&self, limit: u32) -> Result<Vec<Job>> {
        self.backend.jobs(limit, true).await
    }

    pub async fn job(&self, job: JobId) -> Result<JobDetail> {
        self.backend.job(job).await
    }

    /// Requests the end of a job, and returns its present state.
    pub async fn cancel_job(&self, job: JobId) -> Result<JobState> {
        self.backend.cancel(job).await
    }

    pub async fn job_logs(&self, job: JobId) -> Result<Vec<String>> {
        self.backend.job_logs(job).await
    }

    pub async fn status(&self) -> Result<ClusterStatus> {
        self.backend.status().await
    }

    /// Asks an executor, by name or id, to leave: it gets no further tasks, and its outputs and replicas move to the others. Returns its id before it has left;
    /// [`status`](Self::status) shows it until then.
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

    /// Ends the session. Otherwise a session on a cluster ends when it was unused for a while.
    pub async fn close(self) -> Result<()> {
        self.backend.close().await
    }
}
