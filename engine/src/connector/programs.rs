//! Programs of users: a scan of one split that runs a program and returns a row when it has ended. [`crate::programs`] has the function that plans it.

use super::{
    Connector, ConnectorTable, Encoded, OptionSpec, Options, Scan, ScanExec, Split, TableRequest, TableSpec, TaskOfScan,
};
use crate::place::Place;
use crate::task::TaskScope;
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::{Result, exec_err, internal_datafusion_err, plan_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use prost::Message;
use std::fmt;
use std::sync::Arc;
use windlass_core::ids::JobId;
use windlass_core::job::Once;

/// The function that runs programs.
pub const RUN_PROGRAM: &str = "run_program";
/// The program that every executor has: the Python process of an interactive session. It is named where others name a file.
pub const PYTHON_SESSION: &str = "windlass:python-session";
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

impl Program {
    /// Its files, and the folder of its output, as they were named.
    pub(crate) fn places(&self) -> impl Iterator<Item = &String> {
        let file = Some(&self.file).filter(|file| *file != PYTHON_SESSION);
        file.into_iter().chain(&self.files).chain(Some(&self.log).filter(|log| !log.is_empty()))
    }
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
pub(crate) struct ProgramScan(Program);

impl ProgramScan {
    /// The leaf that runs `program`.
    pub fn planned(program: Program) -> ScanExec {
        let (location, options) = (program.file.clone(), Options::default());
        let table = TableSpec { connector: NAME.into(), id: String::new(), location, options };
        ScanExec::of(Arc::new(table), Arc::new(Self(program)), vec![vec![Split::default()]])
    }
}

/// The columns of the row.
pub(crate) fn program_schema() -> SchemaRef {
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
        program_schema()
    }

    /// The split is created where the program is planned.
    fn splits(&self) -> Vec<Split> {
        Vec::new()
    }

    fn stores(&self) -> Vec<String> {
        self.0
            .places()
            .filter_map(|file| Place::parse(file).ok())
            .map(|place| place.store().as_str().to_string())
            .collect()
    }

    fn is_read_once(&self) -> bool {
        true
    }

    fn once(&self) -> Option<Once> {
        Some(Once { memory_bytes: self.0.memory })
    }

    fn describe(&self) -> String {
        self.0.file.clone()
    }

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.0.encode_to_vec())
    }

    fn open(&self, _: &Split, task: &TaskOfScan) -> Result<SendableRecordBatchStream> {
        let config = task.context.session_config();
        let scope = config.get_extension::<TaskScope>();
        let job = scope.and_then(|scope| scope.attempts.first().map(|attempt| attempt.job()));
        let (Some(here), Some(job)) = (config.get_extension::<ProgramsHere>(), job) else {
            return exec_err!("programs run on executors alone");
        };
        let (program, context) = (self.0.clone(), Arc::clone(&task.context));
        let ran = async move {
            let Ended { seconds, output } = here.0.run(program, job, context).await?;
            let columns: Vec<ArrayRef> =
                vec![Arc::new(Float64Array::from(vec![seconds])), Arc::new(StringArray::from(vec![output]))];
            Ok(RecordBatch::try_new(program_schema(), columns)?)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(program_schema(), Box::pin(futures::stream::once(ran)))))
    }
}
