//! Operations that a session needs from a cluster, remote or in this process.

use crate::error::Result;
use crate::jobs::{ClusterStatus, Job, JobDetail, JobId, JobState, Progress};
use crate::params::Params;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::fmt::Debug;
#[cfg(feature = "files")]
use windlass_connectors::wfs::Wfs;

/// A statement on its way to a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Name of the statement before it runs, so that it can be watched and cancelled from elsewhere.
    pub query: String,
    pub body: Body,
    pub params: Params,
    pub delivery: Delivery,
}

/// Delivery of a statement: whether it may be sent again to the next leader, or is being sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Delivery {
    #[default]
    Once,
    First,
    Again,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Sql(String),
    /// A logical plan, as `windlass_engine::logical` encodes it.
    #[cfg_attr(not(feature = "dataframe"), expect(dead_code, reason = "DataFrames make plans"))]
    Plan(Bytes),
}

/// The answer to a statement that has run; its rows are still to be read.
pub(crate) struct Answer {
    pub schema: SchemaRef,
    pub batches: BoxStream<'static, Result<RecordBatch>>,
    /// Job of the statement; `None` when it was no job.
    pub job: Option<JobId>,
}

/// A table or view of the cluster's catalog.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub catalog: String,
    pub schema: String,
    pub name: String,
    /// Kind as the cluster names it: BASE TABLE, VIEW, …
    pub kind: String,
    /// Columns, when they were requested.
    pub columns: Option<SchemaRef>,
}

/// Selects the tables to list. An absent part matches all.
#[derive(Clone, Debug, Default)]
pub struct TableFilter {
    pub catalog: Option<String>,
    pub schema: Option<String>,
    pub name: Option<String>,
    pub with_columns: bool,
}

/// The table that [`Session::load`](crate::Session::load) fills.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// The catalog, and the schema; the session's if absent.
    pub catalog: Option<String>,
    pub schema: Option<String>,
    pub table: String,
    /// Whether the table ends with the session. It has no catalog and no schema.
    pub temporary: bool,
    pub if_there: IfThere,
}

/// What a load does if its table is there. If the table is missing, the load creates it, but for [`IfThere::AppendOnly`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfThere {
    #[default]
    Fail,
    Append,
    /// Appends, and fails if the table is missing.
    AppendOnly,
    Replace,
}

/// Rows of this process.
pub(crate) struct Rows {
    pub schema: SchemaRef,
    pub batches: BoxStream<'static, Result<RecordBatch>>,
}

#[async_trait]
pub(crate) trait Backend: Debug + Send + Sync {
    /// Runs the statement to its end. Dropping the future cancels it.
    async fn execute(&self, request: Request) -> Result<Answer>;

    /// Progress from before the statement starts until it ends.
    fn watch(&self, query: &str) -> BoxStream<'static, Result<Progress>>;

    async fn tables(&self, filter: &TableFilter) -> Result<Vec<Table>>;

    /// Loads rows into a table, all or none. Returns how many. Dropping the future cancels the load.
    async fn load(&self, target: Target, rows: Rows) -> Result<u64>;

    async fn submit(&self, sql: &str, name: &str, options: &[(String, String)]) -> Result<JobId>;
    /// Lists jobs. `internal`: include the cluster's own.
    async fn jobs(&self, limit: u32, internal: bool) -> Result<Vec<Job>>;
    async fn job(&self, job: JobId) -> Result<JobDetail>;
    /// Cancels a job and returns the state in which it was found.
    async fn cancel(&self, job: JobId) -> Result<JobState>;
    async fn job_logs(&self, job: JobId) -> Result<Vec<String>>;
    async fn status(&self) -> Result<ClusterStatus>;
    /// Asks an executor, by name or id, to leave. Returns its id, before it has left.
    async fn decommission(&self, executor: &str) -> Result<String>;

    /// The files of the cluster.
    #[cfg(feature = "files")]
    fn files(&self) -> Wfs;

    /// Ends the session. Embedded: stops the cluster.
    async fn close(&self) -> Result<()>;

    /// The cluster's address, or "embedded".
    fn url(&self) -> &str;
}
