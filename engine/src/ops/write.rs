//! The operator that writes part files under the path of a task attempt. Nothing is visible until the primary publishes the staged files of committed
//! attempts.

use super::Sink;
use crate::place::{OwnFolder, Place};
use crate::task::TaskScope;
use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The files that one attempt staged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFiles {
    /// The attempt's folder.
    pub folder: Place,
    pub files: Vec<StagedFile>,
    pub rows: u64,
}

/// One part file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Path below the attempt's folder, and below the target once published.
    pub path: String,
    pub bytes: u64,
}

impl StagedFiles {
    pub fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| internal_datafusion_err!("staged files cannot be encoded: {e}"))
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|e| internal_datafusion_err!("staged files cannot be decoded: {e}"))
    }
}

/// The root of a writing stage. Each partition writes its own files and returns one row: the number of rows written.
#[derive(Debug)]
pub struct WriteExec {
    input: Arc<dyn ExecutionPlan>,
    sink: Sink,
    /// The staging folder, in which each attempt has a folder of its own.
    staging: OwnFolder,
    properties: Arc<PlanProperties>,
}

impl WriteExec {
    /// Writes what `sink` would write, from `input`, which may have any number of partitions.
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, sink: Sink, staging: OwnFolder) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(count_schema()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { input, sink, staging, properties: Arc::new(properties) }
    }

    pub(crate) fn sink(&self) -> &Sink {
        &self.sink
    }

    pub fn staging(&self) -> &OwnFolder {
        &self.staging
    }

    /// The folder or the single file to write.
    pub fn target(&self) -> Result<Place> {
        self.sink.target()
    }
}

pub(crate) fn count_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]))
}

/// The files below `folder`.
async fn staged_files(folder: Place, rows: u64, context: &TaskContext) -> Result<StagedFiles> {
    let store = context.runtime_env().object_store(folder.store())?;
    let found: Vec<_> = store.list(Some(folder.path())).try_collect().await?;
    let staged = found.iter().map(|meta| match folder.relative(&meta.location) {
        Some(path) => Ok(StagedFile { path: path.to_string(), bytes: meta.size }),
        None => internal_err!("{} was listed in {folder}", meta.location),
    });
    let mut files: Vec<StagedFile> = staged.collect::<Result<_>>()?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(StagedFiles { folder, files, rows })
}

impl DisplayAs for WriteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target().map(|target| target.to_string()).unwrap_or_default();
        let format = self.sink.clone().config().map(|config| config.file_extension.clone()).unwrap_or_default();
        write!(f, "WriteExec: format={format}, target={target}")
    }
}

impl ExecutionPlan for WriteExec {
    fn name(&self) -> &str {
        "WriteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    of_one_input!(|this, input| Self::new(input, this.sink.clone(), this.staging.clone()));

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let scope = context
            .session_config()
            .get_extension::<TaskScope>()
            .ok_or_else(|| internal_datafusion_err!("a table is written outside of a task"))?;
        let attempt = scope.attempts[partition];
        let folder = self.staging.place().folder(&format!("{}-{}", attempt.task.partition, attempt.attempt))?;
        let sink = self.sink.clone().at(&folder)?;
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let output = futures::stream::once(async move {
            let rows = sink.write_all(input, &context).await?;
            let staged = staged_files(folder, rows, &context).await?;
            scope.staged.lock().insert(partition, staged.encode()?);
            Ok(RecordBatch::try_new(count_schema(), vec![Arc::new(UInt64Array::from(vec![rows]))])?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(count_schema(), output.boxed())))
    }
}
