//! The seam by which a kind of table is added from outside the engine. `docs/extending.md` shows how to write one.
//!
//! ```text
//!            primary                                             executor
//!   Connector ──table──> ConnectorTable ──scan──> Scan ──encode──> decode_scan ──> Scan ──open(split)──> rows
//!       ▲                       │
//!   Registry                    └───────sink──> Sink ──encode──> decode_sink ──> Sink ──write(attempt)──> token
//!                                                 ▲                                                         │
//!                                                 └── begin; prepare, publish(tokens of attempts that count) or abandon
//! ```
//!
//! A connector is known by its name and nothing else: whoever plans, cuts, encodes, narrows or shows a plan sees [`ScanExec`] and
//! [`SinkExec`]. The cut of the interfaces is that of Spark's DataSource V2 (a scan of input partitions, a batch write with commit
//! messages), with the splits of Trino: a split is data, so that a plan is narrowed without asking anybody.

pub(crate) mod copy_files;
mod files;
mod leaves;
mod options;
mod provider;
mod redact;
mod registry;
mod scan_exec;
mod sink_exec;
#[cfg(test)]
pub(crate) mod tests;
mod travel;

pub(crate) use leaves::{Leaf, LostOfLeaf, leaf, literal_bytes, restored};
pub use options::{OptionKind, OptionSpec, Options};
pub use provider::ConnectedTable;
pub use redact::redacted;
pub use registry::Registry;
pub use scan_exec::ScanExec;
pub use sink_exec::{PlannedSink, SinkExec, SinkToken};
pub(crate) use travel::{ScanNode, SinkNode, TableSecrets, guards_of, secrets_of};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::Session;
use datafusion::common::{Result, Statistics, not_impl_err};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A kind of table: what stands after STORED AS.
///
/// One value serves a whole process, and any number of statements at a time. The primary and every executor have the same connectors.
#[async_trait]
pub trait Connector: fmt::Debug + Send + Sync {
    /// The word after STORED AS, in upper case.
    fn name(&self) -> &'static str;

    /// All options that its tables may have.
    fn options(&self) -> &'static [OptionSpec];

    /// The table that a statement makes or that the catalog knows. On the primary.
    ///
    /// # Errors
    /// The location or the options name nothing that can be read, or the columns are not those of the table.
    async fn table(&self, request: TableRequest) -> Result<Arc<dyn ConnectorTable>>;

    /// Reads [`Scan::encode`]. On an executor; the scan is to read what the encoded one would.
    fn decode_scan(&self, encoded: Encoded<'_>) -> Result<Arc<dyn Scan>>;

    /// Reads [`Sink::encode`], on an executor and, after a primary has died, on the next one.
    fn decode_sink(&self, _: Encoded<'_>) -> Result<Arc<dyn Sink>> {
        not_impl_err!("tables stored as {} are only read", self.name())
    }
}

/// What a table is told by.
#[derive(Clone, Debug)]
pub struct TableRequest {
    pub table: Arc<TableSpec>,
    /// As the statement declares them, or as they were when the table was made. Absent: to be found out.
    pub columns: Option<SchemaRef>,
}

/// A table, as every node knows it. Its debug form has no secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSpec {
    /// The connector's name.
    pub connector: String,
    /// Given to no other table. Secrets travel under it, beside plans.
    pub id: String,
    /// What stands after LOCATION, as it was written. It is shown: no secret belongs here.
    pub location: String,
    pub options: Options,
}

/// A table of a connector, on the primary.
#[async_trait]
pub trait ConnectorTable: fmt::Debug + Send + Sync {
    fn schema(&self) -> SchemaRef;

    /// Of the whole table.
    fn statistics(&self) -> Option<Statistics> {
        None
    }

    /// What a scan does with each of these filters. A row for which an exact one is not true never comes out of the scan; the rows of an
    /// inexact one are filtered again.
    fn pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Unsupported; filters.len()])
    }

    async fn scan(&self, request: ScanRequest<'_>) -> Result<Arc<dyn Scan>>;

    /// A write of its own for one statement.
    ///
    /// # Errors
    /// It cannot be written to, or not in this way.
    async fn sink(&self, _: SinkRequest) -> Result<Arc<dyn Sink>> {
        not_impl_err!("the table is only read")
    }
}

/// What a statement reads of a table.
pub struct ScanRequest<'a> {
    pub session: &'a dyn Session,
    /// Positions of the columns, in the order in which the rows are to have them. It may be empty: then rows are counted.
    pub projection: Vec<usize>,
    /// The columns of the rows.
    pub schema: SchemaRef,
    /// Those that [`ConnectorTable::pushdown`] supports, over all columns of the table.
    pub filters: &'a [Expr],
    /// More rows than this of all splits together are not needed.
    pub limit: Option<usize>,
    /// Tasks that can read at a time. A scan may have more or fewer splits.
    pub tasks: usize,
}

/// What one statement reads of a table, cut into splits.
pub trait Scan: fmt::Debug + Send + Sync {
    /// The columns of its rows.
    fn schema(&self) -> SchemaRef;

    /// On the primary only: splits travel beside the scan.
    fn splits(&self) -> Vec<Split>;

    /// Of all splits. What is exact here answers statements without a scan.
    fn statistics(&self) -> Option<Statistics> {
        None
    }

    /// URLs of places in object stores that it reaches, whose options are to travel with it.
    fn stores(&self) -> Vec<String> {
        Vec::new()
    }

    /// What a split reads of files of `wfs://`: it goes where their blocks are.
    fn pieces(&self, _: &Split) -> Vec<crate::task::Split> {
        Vec::new()
    }

    /// How the rows of each split are sorted.
    fn ordering(&self) -> Option<LexOrdering> {
        None
    }

    /// On the primary: what must live while tasks read, such as the connection that holds a snapshot. It is kept until the job has ended, all
    /// attempts of its tasks included, and dropped then. A job that is planned and not run drops it too.
    fn guard(&self) -> Option<ScanGuard> {
        None
    }

    /// What EXPLAIN shows of it beside the connector's name, such as what was pushed down. Without secrets.
    fn describe(&self) -> String;

    /// All that it needs on an executor but the table, the columns and the splits. No secrets: those are in the table's options. Equal scans
    /// have equal bytes.
    fn encode(&self) -> Result<Vec<u8>>;

    /// Reads one split. Dropping the stream ends the reading. It may be opened again, on another executor too, and gives the same rows.
    fn open(&self, split: &Split, task: &TaskOfScan) -> Result<SendableRecordBatchStream>;
}

/// See [`Scan::guard`].
pub type ScanGuard = Arc<dyn Any + Send + Sync>;

/// A piece of a table that one task reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// To be read, about. Absent: nobody knows.
    pub bytes: Option<u64>,
    /// That are left of it, about.
    pub rows: Option<u64>,
    /// Hosts from which it is read cheaply, best first.
    pub hosts: Vec<String>,
    /// The executor that reads a split of some number reads it the next time too, and may have kept what it found. 0: no wish.
    pub affinity: u64,
    /// What only the connector understands.
    pub payload: Bytes,
}

/// The task that reads a split.
#[derive(Clone, Debug)]
pub struct TaskOfScan {
    /// Memory, object stores and the size of batches.
    pub context: Arc<TaskContext>,
    /// For what a connector measures, which EXPLAIN ANALYZE shows.
    pub metrics: ExecutionPlanMetricsSet,
    /// Number of the task among those of its stage that run together: metrics are kept for each.
    pub partition: usize,
}

/// What was encoded, and what travelled with it.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    pub table: &'a Arc<TableSpec>,
    /// The columns of the rows that are read or written.
    pub schema: &'a SchemaRef,
    pub bytes: &'a [u8],
}

/// A write of one statement.
#[derive(Clone, Debug)]
pub struct SinkRequest {
    /// Given to no other write.
    pub write: String,
    /// The columns of the rows, which are those of the table.
    pub schema: SchemaRef,
    /// The rows replace those that are there.
    pub overwrite: bool,
}

/// What one statement writes into a table. Nothing of it is to be seen before it is published, and then all of it.
///
/// ```text
///   begin ──> write, by each attempt ──> prepare(tokens) ──> publish(tokens)     once all tasks have ended; maybe more than once
///     │                                      │                                   (a primary died): the second time changes nothing
///     └──────────────────────────────────────┴─────────────> abandon             as often; also after an attempt that nobody waited for
/// ```
#[async_trait]
pub trait Sink: fmt::Debug + Send + Sync {
    /// What EXPLAIN shows of it beside the connector's name. Without secrets.
    fn describe(&self) -> String;

    /// All that it needs on an executor but the table and the columns. No secrets.
    fn encode(&self) -> Result<Vec<u8>>;

    /// Makes what must be there before any task writes. On the primary.
    async fn begin(&self, _: &Arc<RuntimeEnv>) -> Result<()> {
        Ok(())
    }

    /// Writes the rows of one task. On an executor; several attempts of a task may run at a time, and any of them may be the one that counts.
    /// Dropping the future ends it, perhaps in the middle.
    async fn write(
        &self,
        attempt: Attempt,
        rows: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> Result<Written>;

    /// Finds out whether these attempts, one for each task, can be published: the last moment at which the statement can still fail. On the
    /// primary, once, by the sink that began the write; the same sink publishes next, or abandons. What it leaves must not be seen, and must
    /// be gone if the primary dies.
    ///
    /// # Errors
    /// They can never be published as they are, such as rows whose keys are taken. The write is abandoned.
    async fn prepare(&self, _tokens: &[Vec<u8>], _: &Arc<RuntimeEnv>) -> Result<()> {
        Ok(())
    }

    /// Makes what these attempts have written, one for each task, the table's, and removes what others have. On the primary.
    ///
    /// `tokens`: see [`Written::token`], in the order of the tasks.
    async fn publish(&self, tokens: &[Vec<u8>], runtime: &Arc<RuntimeEnv>) -> Result<()>;

    /// Removes what any attempt has written. On the primary. Attempts that have not noticed may still write after it.
    async fn abandon(&self, runtime: &Arc<RuntimeEnv>) -> Result<()>;
}

/// One try to run a task. Its display form is the same for no other try of the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// Of the task.
    pub partition: u32,
    pub number: u32,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition, self.number)
    }
}

/// What one attempt leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub rows: u64,
    /// By which it can be published. It travels with the task's report and lies in the metadata store until it is published: a few hundred bytes,
    /// and no secrets.
    pub token: Vec<u8>,
}
