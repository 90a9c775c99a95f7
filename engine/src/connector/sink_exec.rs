//! The root of a stage that writes to a table of a connector.

use super::travel::SinkNode;
use super::{Attempt, Registry, Sink, TableSpec};
use crate::ops::of_one_input;
use crate::task::TaskScope;
use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Distribution, EquivalenceProperties};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::StreamExt;
use prost::Message;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Each partition writes its rows and returns one row: the number written.
#[derive(Debug)]
pub struct SinkExec {
    input: Arc<dyn ExecutionPlan>,
    write: PlannedSink,
    properties: Arc<PlanProperties>,
}

/// The planned write of one statement.
#[derive(Clone, Debug)]
pub struct PlannedSink {
    pub table: Arc<TableSpec>,
    pub sink: Arc<dyn Sink>,
    /// The columns of the rows.
    pub schema: SchemaRef,
    /// Unique id of the write.
    pub write: String,
}

impl PlannedSink {
    /// Encodes the write for whoever must end it when this process is gone. Without secrets.
    pub fn encode(&self) -> Result<Vec<u8>> {
        Ok(SinkNode::of(self)?.encode_to_vec())
    }

    /// Decodes [`PlannedSink::encode`]. `secrets`: options of the table.
    pub fn decode(bytes: &[u8], connectors: &Registry, secrets: BTreeMap<String, String>) -> Result<Self> {
        let node = SinkNode::decode(bytes).map_err(|e| internal_datafusion_err!("a write cannot be decoded: {e}"))?;
        node.planned(connectors, secrets)
    }
}

/// The part of a task's report that the sink needs.
#[derive(Clone, PartialEq, Message)]
pub struct SinkToken {
    #[prost(uint64, tag = "1")]
    pub rows: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub token: Vec<u8>,
}

impl SinkToken {
    /// Decodes the report of a task that wrote.
    pub fn of_report(bytes: &[u8]) -> Result<Self> {
        Self::decode(bytes).map_err(|e| internal_datafusion_err!("a token of a write cannot be decoded: {e}"))
    }
}

impl SinkExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, write: PlannedSink) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(count_schema()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { input, write, properties: Arc::new(properties) }
    }

    pub fn write(&self) -> &PlannedSink {
        &self.write
    }

    pub(crate) fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    pub(crate) fn node(&self) -> Result<SinkNode> {
        SinkNode::of(&self.write)
    }
}

/// The columns of the answer of a statement that writes.
pub fn count_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]))
}

impl DisplayAs for SinkExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SinkExec: {}", self.write.table.connector)?;
        let described = self.write.sink.describe();
        if described.is_empty() { Ok(()) } else { write!(f, ", {described}") }
    }
}

impl ExecutionPlan for SinkExec {
    fn name(&self) -> &str {
        "SinkExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    /// The distribution of a single writer; cutting the plan into stages makes all partitions write.
    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    of_one_input!(|this, input| Self::new(input, this.write.clone()));

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let scope = context
            .session_config()
            .get_extension::<TaskScope>()
            .ok_or_else(|| internal_datafusion_err!("a table is written outside of a task"))?;
        let attempt = scope.attempts[partition];
        let attempt = Attempt { partition: attempt.task.partition, number: attempt.attempt };
        let sink = Arc::clone(&self.write.sink);
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let output = futures::stream::once(async move {
            let written = sink.write(attempt, input, &context).await?;
            let token = SinkToken { rows: written.rows, token: written.token }.encode_to_vec();
            scope.staged.lock().insert(partition, token);
            Ok(RecordBatch::try_new(count_schema(), vec![Arc::new(UInt64Array::from(vec![written.rows]))])?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(count_schema(), output.boxed())))
    }
}
