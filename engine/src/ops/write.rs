//! Writes part files under the path of a task attempt. Nothing is visible until the primary publishes what committed attempts staged.

use crate::stage::TaskScope;
use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_datafusion_err, internal_err, plan_err};
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::datasource::sink::DataSinkExec;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use datafusion_proto::physical_plan::{AsExecutionPlan, DefaultPhysicalExtensionCodec};
use datafusion_proto::protobuf::physical_plan_node::PhysicalPlanType;
use datafusion_proto::protobuf::{FileSinkConfig, PhysicalPlanNode};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What one attempt staged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFiles {
    /// URL of the attempt's folder, with a trailing slash.
    pub folder: String,
    pub files: Vec<StagedFile>,
    pub rows: u64,
}

/// One part file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Below the attempt's folder, and below the target once published.
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

/// The root of a writing stage. Each partition writes files of its own and yields one row: how many rows it wrote.
#[derive(Debug)]
pub struct WriteExec {
    input: Arc<dyn ExecutionPlan>,
    /// DataFusion's sink over no input, encoded: format, options, schema, partition columns and the final path.
    sink: PhysicalPlanNode,
    /// URL of the folder under which attempts stage, with a trailing slash.
    staging: String,
    properties: Arc<PlanProperties>,
}

impl WriteExec {
    /// Takes over what `sink` would write, reading from `input`, which may have any number of partitions.
    pub fn try_new(sink: &DataSinkExec, input: Arc<dyn ExecutionPlan>, staging: String) -> Result<Self> {
        let empty = Arc::new(EmptyExec::new(sink.input().schema()));
        let template = Arc::new(sink.clone()).replace_children(
            vec![empty],
            ReplaceChildrenOptions::new(datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute),
        )?;
        let mut template = PhysicalPlanNode::try_from_physical_plan(template, &DefaultPhysicalExtensionCodec {})?;
        sink_config(&mut template)?;
        Ok(Self::from_parts(input, template, staging))
    }

    pub(crate) fn from_parts(input: Arc<dyn ExecutionPlan>, sink: PhysicalPlanNode, staging: String) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(count_schema()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { input, sink, staging, properties: Arc::new(properties) }
    }

    pub(crate) fn sink(&self) -> &PhysicalPlanNode {
        &self.sink
    }

    pub fn staging(&self) -> &str {
        &self.staging
    }

    /// URL of the folder (with a trailing slash) or of the single file that is written.
    pub fn target(&self) -> Result<String> {
        let mut sink = self.sink.clone();
        match sink_config(&mut sink)?.table_paths.first() {
            Some(path) => Ok(path.clone()),
            None => internal_err!("an encoded sink has no target"),
        }
    }

    /// The sink as it writes below `folder`: to the same file name when the target is a single file.
    fn sink_at(&self, folder: &str, context: &TaskContext) -> Result<Arc<dyn ExecutionPlan>> {
        let mut node = self.sink.clone();
        let config = sink_config(&mut node)?;
        let target = config.table_paths.first().cloned().unwrap_or_default();
        let name = if target.ends_with('/') { "" } else { target.rsplit('/').next().unwrap_or_default() };
        let single = !name.is_empty() && name.contains('.');
        config.table_paths = vec![if single { format!("{folder}{name}") } else { folder.to_string() }];
        config.file_groups.clear();
        node.try_into_physical_plan(context, &DefaultPhysicalExtensionCodec {})
    }
}

/// The part of an encoded sink that says where it writes.
fn sink_config(node: &mut PhysicalPlanNode) -> Result<&mut FileSinkConfig> {
    let config = match node.physical_plan_type.as_mut() {
        Some(PhysicalPlanType::ParquetSink(sink)) => sink.sink.as_mut().and_then(|sink| sink.config.as_mut()),
        Some(PhysicalPlanType::CsvSink(sink)) => sink.sink.as_mut().and_then(|sink| sink.config.as_mut()),
        Some(PhysicalPlanType::JsonSink(sink)) => sink.sink.as_mut().and_then(|sink| sink.config.as_mut()),
        _ => return plan_err!("only Parquet, CSV and JSON files can be written: choose one with STORED AS"),
    };
    match config {
        Some(config) => Ok(config),
        None => internal_err!("an encoded sink has no configuration"),
    }
}

fn count_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]))
}

/// The files that lie below `folder`.
async fn staged_files(folder: &str, rows: u64, context: &TaskContext) -> Result<StagedFiles> {
    let url = ListingTableUrl::parse(folder)?;
    let store = context.runtime_env().object_store(&url)?;
    let mut files: Vec<StagedFile> = store
        .list(Some(url.prefix()))
        .map_ok(|meta| {
            let path = meta.location.as_ref().strip_prefix(url.prefix().as_ref()).unwrap_or(meta.location.as_ref());
            StagedFile { path: path.trim_start_matches('/').to_string(), bytes: meta.size }
        })
        .try_collect()
        .await?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(StagedFiles { folder: folder.to_string(), files, rows })
}

impl DisplayAs for WriteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sink = self.sink.clone();
        let (target, format) = match sink_config(&mut sink) {
            Ok(config) => (config.table_paths.join(", "), config.file_extension.clone()),
            Err(_) => Default::default(),
        };
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

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::from_parts(children.swap_remove(0), self.sink.clone(), self.staging.clone())))
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::from_parts(children.swap_remove(0), self.sink.clone(), self.staging.clone())))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let scope = context
            .session_config()
            .get_extension::<TaskScope>()
            .ok_or_else(|| internal_datafusion_err!("a table is written outside of a task"))?;
        let attempt = scope.attempts[partition];
        let folder = format!("{}{}-{}/", self.staging, attempt.task.partition, attempt.attempt);
        let sink = self.sink_at(&folder, &context)?;
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let output = futures::stream::once(async move {
            let Some(sink) = sink.downcast_ref::<DataSinkExec>() else {
                return internal_err!("an encoded sink did not decode to a sink");
            };
            let rows = sink.sink().write_all(input, &context).await?;
            let staged = staged_files(&folder, rows, &context).await?;
            scope.staged.lock().insert(partition, staged);
            Ok(RecordBatch::try_new(count_schema(), vec![Arc::new(UInt64Array::from(vec![rows]))])?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(count_schema(), output.boxed())))
    }
}
