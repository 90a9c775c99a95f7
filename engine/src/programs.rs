//! `run_program(file, arguments…)`: a user's program as the one task of a statement, which returns a row when the program has ended.
//!
//! ```text
//!   run_program('wfs:///etl.py', 'a')  ──plan──> ProgramScan, one split ──task──> Programs::run ──> a row, or the program's failure
//! ```
//!
//! A program does more than compute rows, so its task begins only once ([`Scan::runs_once`]). The executor that gets the task brings along [`Programs`]: what
//! starts, limits and ends processes.

use crate::connector::{
    Connector, ConnectorTable, Encoded, OptionSpec, Options, Scan, ScanExec, Split, TableRequest, TableSpec, TaskOfScan,
};
use crate::failure::message;
use crate::place::Place;
use arrow::array::{Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, exec_err, internal_datafusion_err, plan_datafusion_err, plan_err};
use datafusion::datasource::TableType;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use prost::Message;
use std::fmt;
use std::sync::Arc;
use windlass_core::ids::JobId;

/// The function that runs programs.
pub const RUN_PROGRAM: &str = "run_program";
const NAME: &str = "PROGRAM";

/// A program to run.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Program {
    /// URL or path of its file.
    #[prost(string, tag = "1")]
    pub file: String,
    #[prost(string, repeated, tag = "2")]
    pub args: Vec<String>,
    /// URLs or paths of further files, which lie beside it.
    #[prost(string, repeated, tag = "3")]
    pub files: Vec<String>,
    /// Maximum bytes of memory of all of its processes. 0: as many as the executor allows.
    #[prost(uint64, tag = "4")]
    pub memory: u64,
    /// URL of the folder in which its output is kept. Empty: nowhere.
    #[prost(string, tag = "5")]
    pub log: String,
}

/// The end of a program that did what it was to do.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    pub seconds: f64,
    /// The end of what it printed.
    pub output: String,
}

/// Runs programs on this executor.
#[async_trait]
pub trait Programs: fmt::Debug + Send + Sync {
    /// Runs a program to its end. Dropping the future ends it with all of its processes.
    ///
    /// # Errors
    /// Programs are not allowed here, the program cannot be started, ends with an error, or exceeds a limit.
    async fn run(&self, program: Program, job: JobId, context: Arc<TaskContext>) -> Result<Ended>;
}

/// The programs of a task's executor.
#[derive(Clone, Debug)]
pub(crate) struct ProgramsHere(pub Arc<dyn Programs>);

/// Programs as tables of the engine's own; no statement can name this connector.
#[derive(Debug)]
pub(crate) struct ProgramConnector;

/// A scan that runs a program.
#[derive(Debug)]
struct ProgramScan(Program);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("seconds", DataType::Float64, false),
        Field::new("output", DataType::Utf8, false),
    ]))
}

#[async_trait]
impl Connector for ProgramConnector {
    fn name(&self) -> &'static str {
        NAME
    }

    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }

    async fn table(&self, _: TableRequest) -> Result<Arc<dyn ConnectorTable>> {
        plan_err!("a program is no table: use {RUN_PROGRAM}('file', 'argument', …)")
    }

    fn decode_scan(&self, encoded: Encoded<'_>) -> Result<Arc<dyn Scan>> {
        let program = Program::decode(encoded.bytes);
        let program = program.map_err(|e| internal_datafusion_err!("a program cannot be decoded: {e}"))?;
        Ok(Arc::new(ProgramScan(program)))
    }
}

impl Scan for ProgramScan {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    /// The split is created where the program is planned.
    fn splits(&self) -> Vec<Split> {
        Vec::new()
    }

    fn stores(&self) -> Vec<String> {
        let files =
            std::iter::once(&self.0.file).chain(&self.0.files).chain(Some(&self.0.log).filter(|log| !log.is_empty()));
        files.filter_map(|file| Place::parse(file).ok()).map(|place| place.store().as_str().to_string()).collect()
    }

    fn is_read_once(&self) -> bool {
        true
    }

    fn runs_once(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        self.0.file.clone()
    }

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.0.encode_to_vec())
    }

    fn open(&self, _: &Split, task: &TaskOfScan) -> Result<SendableRecordBatchStream> {
        let config = task.context.session_config();
        let scope = config.get_extension::<crate::task::TaskScope>();
        let job = scope.and_then(|scope| scope.attempts.first().map(|attempt| attempt.job()));
        let (Some(here), Some(job)) = (config.get_extension::<ProgramsHere>(), job) else {
            return exec_err!("programs run on executors alone");
        };
        let (program, context) = (self.0.clone(), Arc::clone(&task.context));
        let ran = async move {
            let Ended { seconds, output } = here.0.run(program, job, context).await?;
            let columns: Vec<arrow::array::ArrayRef> =
                vec![Arc::new(Float64Array::from(vec![seconds])), Arc::new(StringArray::from(vec![output]))];
            Ok(RecordBatch::try_new(schema(), columns)?)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema(), Box::pin(futures::stream::once(ran)))))
    }
}

#[derive(Debug)]
pub(crate) struct RunProgramFunction;

impl TableFunctionImpl for RunProgramFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let words = args.exprs().iter().map(|expr| match expr {
            Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_string),
            _ => None,
        });
        let words = words.collect::<Option<Vec<String>>>();
        let words = words.ok_or_else(|| plan_datafusion_err!("{RUN_PROGRAM}() takes literal strings"))?;
        let Some((file, args)) = words.split_first() else {
            return plan_err!("{RUN_PROGRAM}() wants a program: {RUN_PROGRAM}('wfs:///program.py', 'argument', …)");
        };
        Ok(Arc::new(ProgramTable { file: file.clone(), args: args.to_vec() }))
    }
}

/// A call in a statement.
#[derive(Debug)]
struct ProgramTable {
    file: String,
    args: Vec<String>,
}

#[async_trait]
impl TableProvider for ProgramTable {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = crate::config::of(state.config());
        let files = options.program_files.split(',').map(str::trim).filter(|file| !file.is_empty());
        let files: Vec<String> = files.map(str::to_string).collect();
        let log = options.program_log.clone();
        for file in std::iter::once(&self.file).chain(&files).chain(Some(&log).filter(|log| !log.is_empty())) {
            Place::parse(file).map_err(|error| plan_datafusion_err!("{file}: {}", message(&error)))?;
        }
        let (file, args, memory) = (self.file.clone(), self.args.clone(), options.program_memory_bytes as u64);
        let scan = ProgramScan(Program { file: file.clone(), args, files, memory, log });
        let table =
            TableSpec { connector: NAME.into(), id: String::new(), location: file, options: Options::default() };
        let exec: Arc<dyn ExecutionPlan> =
            Arc::new(ScanExec::of(Arc::new(table), Arc::new(scan), vec![vec![Split::default()]]));
        let Some(projection) = projection else { return Ok(exec) };
        let columns = projection.iter().map(|&at| {
            let name = schema().field(at).name().clone();
            ProjectionExpr { expr: Arc::new(Column::new(&name, at)), alias: name }
        });
        Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), exec)?))
    }
}

/// The call of a program as SQL, for faces that run programs.
pub fn run_program_sql(file: &str, args: &[String]) -> String {
    let words = std::iter::once(file).chain(args.iter().map(String::as_str));
    let words = words.map(|word| ScalarValue::from(word).to_string().replace('\'', "''"));
    let words: Vec<String> = words.map(|word| format!("'{word}'")).collect();
    format!("SELECT seconds, output FROM {RUN_PROGRAM}({})", words.join(", "))
}
