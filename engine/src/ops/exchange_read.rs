//! The operator that reads map outputs of another stage.

use super::range::RangeReader;
use crate::task::TaskInputs;
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::TryStreamExt;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use windlass_core::ids::{AttemptId, ExecutorId};
use windlass_core::job::MapLocation;

/// The input of each partition of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// Partition i reads one bucket of every map output.
    Bucket,
    /// Partition i reads one map output whole.
    Map,
    /// Partition i merges the rows of one range of the sort key from every map output. The outputs are sorted runs; the number is that of the ranges.
    Range(u32),
}

/// A leaf that reads the stage below, where a stage's plan was cut.
#[derive(Debug)]
pub struct ExchangeReadExec {
    /// Index of the producing stage within the job.
    stage: u32,
    mode: ReadMode,
    /// The bucket, the map or the range that each partition of this operator reads.
    parts: Vec<u32>,
    /// The sort order of every map output, and so of each partition.
    merge: Option<LexOrdering>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ExchangeReadExec {
    /// `partitioning` and `equivalence` describe the whole exchange, of which `parts` are read.
    pub fn new(
        stage: u32,
        mode: ReadMode,
        parts: Vec<u32>,
        merge: Option<LexOrdering>,
        partitioning: Partitioning,
        equivalence: EquivalenceProperties,
    ) -> Self {
        let partitioning = match partitioning {
            Partitioning::Hash(exprs, _) => Partitioning::Hash(exprs, parts.len()),
            _ => Partitioning::UnknownPartitioning(parts.len()),
        };
        let properties =
            PlanProperties::new(equivalence, partitioning, EmissionType::Incremental, Boundedness::Bounded)
                .with_scheduling_type(SchedulingType::Cooperative);
        Self { stage, mode, parts, merge, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    /// Returns the reader with only the partitions `keep`.
    pub fn restrict(&self, keep: &[usize]) -> Self {
        let parts = keep.iter().map(|&i| self.parts[i]).collect();
        Self::new(
            self.stage,
            self.mode,
            parts,
            self.merge.clone(),
            self.properties.partitioning.clone(),
            self.properties.eq_properties.clone(),
        )
    }

    pub fn stage(&self) -> u32 {
        self.stage
    }

    pub fn mode(&self) -> ReadMode {
        self.mode
    }

    pub fn parts(&self) -> &[u32] {
        &self.parts
    }

    pub fn merge(&self) -> Option<&LexOrdering> {
        self.merge.as_ref()
    }

    fn read_range(
        &self,
        runs: Vec<(AttemptId, ExecutorId)>,
        part: u32,
        ranges: u32,
        inputs: &TaskInputs,
        partition: usize,
        context: &Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let Some(ordering) = self.merge.clone() else {
            return internal_err!("ranges of runs without an order are read");
        };
        let reservation =
            MemoryConsumer::new(format!("ExchangeRead[{partition}]")).register(&context.runtime_env().memory_pool);
        let reader = RangeReader {
            schema: self.schema(),
            ordering,
            source: Arc::clone(&inputs.source),
            runs,
            part,
            ranges,
            batch_size: context.session_config().batch_size(),
            metrics: BaselineMetrics::new(&self.metrics, partition),
            reservation,
        };
        Ok(reader.read())
    }

    fn read_merged(
        &self,
        ordering: &LexOrdering,
        outputs: Vec<(AttemptId, ExecutorId)>,
        buckets: Option<Range<u32>>,
        inputs: &TaskInputs,
        partition: usize,
        context: &Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let streams = outputs
            .into_iter()
            .map(|output| inputs.source.read(self.schema(), vec![output], buckets.clone()))
            .collect();
        let reservation =
            MemoryConsumer::new(format!("ExchangeRead[{partition}]")).register(&context.runtime_env().memory_pool);
        StreamingMergeBuilder::new()
            .with_streams(streams)
            .with_schema(self.schema())
            .with_expressions(ordering)
            .with_metrics(BaselineMetrics::new(&self.metrics, partition))
            .with_batch_size(context.session_config().batch_size())
            .with_reservation(reservation)
            .build()
    }
}

impl DisplayAs for ExchangeReadExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.mode {
            ReadMode::Bucket => "buckets",
            ReadMode::Map => "maps",
            ReadMode::Range(_) => "ranges",
        };
        write!(f, "ExchangeReadExec: stage={}, {what}={}", self.stage, self.parts.len())?;
        match &self.merge {
            Some(ordering) => write!(f, ", merge=[{ordering}]"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for ExchangeReadExec {
    fn name(&self) -> &str {
        "ExchangeReadExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    of_no_input!();

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let inputs = context
            .session_config()
            .get_extension::<TaskInputs>()
            .ok_or_else(|| internal_datafusion_err!("an exchange is read outside of a task"))?;
        let maps = inputs
            .stages
            .iter()
            .find(|input| input.stage == self.stage)
            .map(|input| input.maps.as_slice())
            .ok_or_else(|| internal_datafusion_err!("stage {} is not among the task's inputs", self.stage))?;
        let part = self.parts[partition];
        let locate =
            |map: &MapLocation| (inputs.job.stage(self.stage).task(map.partition).attempt(map.attempt), map.executor);
        let (outputs, buckets): (Vec<_>, _) = match self.mode {
            ReadMode::Bucket => (maps.iter().map(locate).collect(), Some(part..part + 1)),
            ReadMode::Range(ranges) => {
                let runs = maps.iter().map(locate).collect();
                return self.read_range(runs, part, ranges, &inputs, partition, &context);
            }
            // A map that a row limit made unnecessary has no location: it is empty.
            ReadMode::Map => (maps.iter().filter(|map| map.partition == part).map(locate).collect(), None),
        };
        if outputs.is_empty() {
            return Ok(Box::pin(MemoryStream::try_new(vec![], self.schema(), None)?));
        }
        match &self.merge {
            Some(ordering) if outputs.len() > 1 => {
                self.read_merged(ordering, outputs, buckets, &inputs, partition, &context)
            }
            _ => {
                let stream = inputs.source.read(self.schema(), outputs, buckets);
                let metrics = BaselineMetrics::new(&self.metrics, partition);
                let observed = stream.inspect_ok(move |batch| metrics.record_output(batch.num_rows()));
                Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), observed)))
            }
        }
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
