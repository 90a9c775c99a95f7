//! The seam through which a kind of table is added from outside the engine. `docs/extending.md` shows how to write one.
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
//! The engine knows a connector only by its name: the code that plans, cuts, encodes, narrows or shows a plan sees [`ScanExec`] and [`SinkExec`]. The
//! interfaces are cut as in Spark's DataSource V2 (a scan of input partitions, a batch write with commit messages), with Trino's splits: a split is data, so
//! a plan can be narrowed without asking the connector.

mod catalog;
pub(crate) mod copy_files;
mod file_sink;
mod file_writer;
mod files;
mod fragment;
mod leaves;
pub(crate) mod named;
mod options;
pub(crate) mod programs;
mod provider;
mod redact;
mod registry;
mod scan_exec;
mod sink_exec;
#[cfg(test)]
pub(crate) mod tests;
mod travel;
mod written;

pub use catalog::{CatalogSchema, CatalogTable, ConnectorCatalog, TablePlace};
pub use file_sink::{StagedFile, StagedFiles, WriteTarget, staged_write};
pub(crate) use fragment::computed_elsewhere;
pub use fragment::{
    ColumnId, First, Fragment, FragmentJoin, FragmentOutput, FragmentRequest, FragmentTable, Part, SortKey, Source,
};
pub(crate) use leaves::{Leaf, LostOfLeaf, leaf, literal_bytes, restored};
pub use options::{OptionKind, OptionSpec, Options};
pub use provider::ConnectedTable;
pub use redact::{masked, masked_options, redacted};
pub use registry::Registry;
pub use scan_exec::ScanExec;
pub use sink_exec::{PlannedSink, SinkExec, SinkToken, count_schema};
pub(crate) use travel::{ScanNode, SinkNode, TableSecrets, guards_of, secrets_of};

pub use crate::text_files::lines::{LineFormat, LineSample, WrongRow};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::Session;
use datafusion::common::{Constraints, Result, Statistics, not_impl_err};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use windlass_core::job::Once;

/// A kind of table: the word after STORED AS.
///
/// One value serves a whole process and any number of concurrent statements. The primary and every executor have the same connectors.
#[async_trait]
pub trait Connector: fmt::Debug + Send + Sync {
    /// The word after STORED AS, in upper case.
    fn name(&self) -> &'static str;

    /// All options that its tables accept.
    fn options(&self) -> &'static [OptionSpec];

    /// Returns the table that a statement creates or that the catalog holds. Runs on the primary.
    ///
    /// # Errors
    /// The location or the options name nothing readable, or the declared columns are not those of the table.
    async fn table(&self, request: TableRequest) -> Result<Arc<dyn ConnectorTable>>;

    /// Whether a write can create its target: see [`Target`].
    fn creates(&self) -> bool {
        false
    }

    /// Whether [`Connector::catalog`] returns catalogs.
    fn has_catalogs(&self) -> bool {
        false
    }

    /// Returns the catalog that a statement creates or that is kept: its location and options, without those of a single table. Runs on the primary, and
    /// talks to nobody.
    ///
    /// # Errors
    /// The location or the options cannot be those of a catalog.
    fn catalog(&self, _: Arc<TableSpec>) -> Result<Arc<dyn ConnectorCatalog>> {
        not_impl_err!("{} has no catalogs", self.name())
    }

    /// The option of a table whose rows are those of a query, which the other system runs. With it there is a table function: that of STORED AS X is
    /// `x_query(place, query)`, where the place is a catalog of this connector, or a location. Such a table is only read, and [`Connector::table`] finds out its
    /// columns without running the query.
    fn query_option(&self) -> Option<&'static str> {
        None
    }

    /// Decodes [`Scan::encode`] on an executor. The decoded scan must read what the encoded one would.
    fn decode_scan(&self, encoded: Encoded<'_>) -> Result<Arc<dyn Scan>>;

    /// Decodes [`Sink::encode`], on an executor and, after a primary has died, on the next primary.
    fn decode_sink(&self, _: Encoded<'_>) -> Result<Arc<dyn Sink>> {
        not_impl_err!("tables stored as {} are only read", self.name())
    }

    /// Waits until other systems were told to end what nobody waits for any more, or for some seconds. A process that ends calls it behind its last task.
    async fn settle(&self) {}
}

/// The description from which a connector opens a table.
#[derive(Clone, Debug)]
pub struct TableRequest {
    pub table: Arc<TableSpec>,
    /// The columns that the statement declares, or those that the table had when it was created. `None`: the connector finds them out.
    pub columns: Option<SchemaRef>,
    pub target: Target,
}

/// Whether the other system already has the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// It has.
    #[default]
    Present,
    /// It must not have it: the write of a CREATE EXTERNAL TABLE … AS creates the table. `columns` are those of the rows, all named. The columns of the
    /// returned table are as a later read gives them, in the same order. Its sink creates the table when it is published, and not before; a table of that
    /// name is an error of `prepare`, or an earlier one.
    New,
    /// It may have it: the write of a COPY … TO creates the table as with `New` if it is missing, and adds rows to it otherwise.
    Any,
}

/// A table as every node knows it, or a catalog. Its debug form has no secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSpec {
    pub connector: String,
    /// Unique id of the table. Secrets travel under it, beside plans.
    pub id: String,
    /// The text after LOCATION, as it was written. It is shown, so no secret belongs here.
    pub location: String,
    pub options: Options,
}

/// A table of a connector, on the primary.
#[async_trait]
pub trait ConnectorTable: Any + fmt::Debug + Send + Sync {
    fn schema(&self) -> SchemaRef;

    /// Statistics of the whole table.
    fn statistics(&self) -> Option<Statistics> {
        None
    }

    /// Says for each filter what a scan does with it. An exact filter: the scan returns only rows for which it is true. An inexact one: the rows are filtered
    /// again.
    fn pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Unsupported; filters.len()])
    }

    async fn scan(&self, request: ScanRequest<'_>) -> Result<Arc<dyn Scan>>;

    /// Whether the other system may compute more than filters and limits: then it is asked by [`ConnectorTable::scan_fragment`].
    fn computes(&self) -> bool {
        false
    }

    /// Returns the scan of a fragment, which the other system computes. `self` is its first table; the others are of the same connector, and may lie in other
    /// places.
    ///
    /// `None`: for some rows its answer would not be that of Windlass, or it is not worth it.
    async fn scan_fragment(&self, _: FragmentRequest<'_>) -> Result<Option<Arc<dyn Scan>>> {
        Ok(None)
    }

    /// Whether the other system has defaults for columns that a write leaves out. INSERT with a list of columns then writes only these:
    /// [`SinkRequest::schema`] lacks the others. Otherwise they are NULL, or what CREATE EXTERNAL TABLE says.
    fn has_defaults(&self) -> bool {
        false
    }

    /// Returns a new write for one statement.
    ///
    /// # Errors
    /// The table cannot be written to, or not in this way.
    async fn sink(&self, _: SinkRequest) -> Result<Arc<dyn Sink>> {
        not_impl_err!("the table is only read")
    }
}

/// The part of a table that a statement reads.
pub struct ScanRequest<'a> {
    pub session: &'a dyn Session,
    /// Positions of the columns, in the order of the columns of the rows. May be empty: then rows are only counted.
    pub projection: Vec<usize>,
    /// The columns of the rows.
    pub schema: SchemaRef,
    /// The filters that [`ConnectorTable::pushdown`] supports, over all columns of the table.
    pub filters: &'a [Expr],
    /// Maximum rows needed from all splits together.
    pub limit: Option<usize>,
    /// Number of tasks that can read at a time. A scan may have more or fewer splits.
    pub tasks: usize,
    /// Keys on which the plan relies, because a catalog said that the other system enforces them ([`CatalogTable::keys`]). A scan that sees a state of the table
    /// in which it does not must fail.
    pub keys: Option<&'a Constraints>,
}

/// The part of a table that one statement reads, cut into splits.
pub trait Scan: fmt::Debug + Send + Sync {
    /// The columns of its rows.
    fn schema(&self) -> SchemaRef;

    /// Returns the splits. On the primary only: splits travel beside the scan.
    fn splits(&self) -> Vec<Split>;

    /// Statistics of all splits. Exact ones answer statements without a scan.
    fn statistics(&self) -> Option<Statistics> {
        None
    }

    /// URLs of places in object stores that the scan reaches; the options of these stores travel with it.
    fn stores(&self) -> Vec<String> {
        Vec::new()
    }

    /// The parts of `wfs://` files that a split reads. Its task is placed where their blocks are.
    fn pieces(&self, _: &Split) -> Vec<crate::task::Split> {
        Vec::new()
    }

    /// The sort order of the rows of each split.
    fn ordering(&self) -> Option<LexOrdering> {
        None
    }

    /// Whether the rows of a split are there for one reader alone, besides attempts that failed before their end. A stage of its own then reads them, and other
    /// tasks read what it has read.
    fn is_read_once(&self) -> bool {
        false
    }

    /// Present if reading a split does something, so that it may begin only once: the statement fails where another would read the split again.
    fn once(&self) -> Option<Once> {
        None
    }

    /// A value that must live while tasks read, such as the connection that holds a snapshot. On the primary. It is kept until the job and all attempts of
    /// its tasks have ended, then dropped. A job that is planned and not run drops it too.
    fn guard(&self) -> Option<ScanGuard> {
        None
    }

    /// The text that EXPLAIN shows beside the connector's name, such as the filters pushed down. Without secrets.
    fn describe(&self) -> String;

    /// Everything that the scan needs on an executor except the table, the columns and the splits. No secrets: those are in the table's options. Equal scans
    /// have equal bytes.
    fn encode(&self) -> Result<Vec<u8>>;

    /// Reads one split. Dropping the stream ends the read. A split may be opened again, also on another executor, and gives the same rows.
    fn open(&self, split: &Split, task: &TaskOfScan) -> Result<SendableRecordBatchStream>;
}

/// See [`Scan::guard`].
pub type ScanGuard = Arc<dyn Any + Send + Sync>;

/// A piece of a table that one task reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Approximate bytes to read. `None`: unknown.
    pub bytes: Option<u64>,
    /// Approximate rows after filters. `None`: unknown.
    pub rows: Option<u64>,
    /// Hosts that read it cheaply, best first.
    pub hosts: Vec<String>,
    /// Affinity number: the executor that reads a split with some number reads it again next time, and may have cached data of it. 0: no preference.
    pub affinity: u64,
    /// Data that only the connector understands.
    pub payload: Bytes,
}

/// The task that reads a split, as the connector sees it.
#[derive(Clone, Debug)]
pub struct TaskOfScan {
    /// Memory pool, object stores and batch size.
    pub context: Arc<TaskContext>,
    /// Metrics of the connector, which EXPLAIN ANALYZE shows.
    pub metrics: ExecutionPlanMetricsSet,
    /// Number of the task among the tasks of its stage that run together. Metrics are kept for each.
    pub partition: usize,
}

/// An encoded scan or sink, with what travelled beside it.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    pub table: &'a Arc<TableSpec>,
    /// The columns of the rows read or written.
    pub schema: &'a SchemaRef,
    pub bytes: &'a [u8],
}

/// The parameters of one statement's write.
#[derive(Clone, Debug)]
pub struct SinkRequest {
    /// Unique id of the write.
    pub write: String,
    /// The columns of the rows; they are the table's.
    pub schema: SchemaRef,
    /// Whether the rows replace the existing ones.
    pub overwrite: bool,
}

/// The write of one statement into a table. Nothing of it is visible before it is published; then all of it is.
///
/// ```text
///   begin ──> write, by each attempt ──> prepare(tokens) ──> publish(tokens)     once all tasks have ended; maybe more than once
///     │                                      │                                   (a primary died): the second time changes nothing
///     └──────────────────────────────────────┴─────────────> abandon             as often; also after an attempt that nobody waited for
/// ```
#[async_trait]
pub trait Sink: fmt::Debug + Send + Sync {
    /// The text that EXPLAIN shows beside the connector's name. Without secrets.
    fn describe(&self) -> String;

    /// Everything that the sink needs on an executor except the table and the columns. No secrets.
    fn encode(&self) -> Result<Vec<u8>>;

    /// URLs of places in object stores that attempts reach; the options of these stores travel with the sink.
    fn stores(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether several tasks may write. Otherwise one task writes all rows, in their order.
    fn is_parallel(&self) -> bool {
        true
    }

    /// The target and the staging folder of a sink whose tokens are [`StagedFiles`]. The primary's journal of writes begins, publishes and abandons those:
    /// they move into a folder that a transaction of the catalog shows, or replace other files. `None`: the sink does all of that itself.
    fn files(&self) -> Option<WriteTarget> {
        None
    }

    /// Prepares the target before any task writes. On the primary.
    async fn begin(&self, _: &Arc<RuntimeEnv>) -> Result<()> {
        Ok(())
    }

    /// Writes the rows of one task. On an executor; several attempts of a task may run at a time, and any of them may be the one that counts. Dropping the
    /// future ends the write, perhaps in the middle.
    async fn write(
        &self,
        attempt: Attempt,
        rows: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> Result<Written>;

    /// Checks whether these attempts, one for each task, can be published. This is the last moment at which the statement can still fail. Called once, on the
    /// primary, by the sink that began the write; the same sink then publishes or abandons. Its effects must not be visible, and must vanish if the primary
    /// dies.
    ///
    /// # Errors
    /// These attempts can never be published, for example because the keys of their rows are taken. The write is then abandoned.
    async fn prepare(&self, _tokens: &[Vec<u8>], _: &Arc<RuntimeEnv>) -> Result<()> {
        Ok(())
    }

    /// The rows that were set aside, between [`Sink::prepare`] and [`Sink::publish`]. `None`: such a row fails the write.
    fn rejected(&self) -> Option<Rejected> {
        None
    }

    /// Makes the output of these attempts, one for each task, part of the table and removes the output of all others. On the primary.
    ///
    /// `tokens`: see [`Written::token`], in the order of the tasks.
    async fn publish(&self, tokens: &[Vec<u8>], runtime: &Arc<RuntimeEnv>) -> Result<()>;

    /// Removes the output of all attempts. On the primary. Attempts that have not noticed may still write after it.
    async fn abandon(&self, runtime: &Arc<RuntimeEnv>) -> Result<()>;
}

/// One attempt of a task. Its display form is unique within the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// Number of the task.
    pub partition: u32,
    pub number: u32,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition, self.number)
    }
}

/// Rows that the target of a write does not take, and that were set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// All of them.
    pub rows: u64,
    /// Those among them that attempts had counted as written.
    pub written: u64,
}

/// The result of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub rows: u64,
    /// The token by which the attempt can be published. It travels with the task's report and stays in the metadata store until it is published: at most a
    /// few hundred bytes, and no secrets.
    pub token: Vec<u8>,
}
