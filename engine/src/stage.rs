//! Stages as they are planned, and what running one of their tasks leaves.

use crate::connector::{PlannedSink, ScanGuard};
use crate::envelope::content_hash;
use crate::exchange_source::ExchangeSource;
use crate::handover::Planned;
use crate::place::{OwnFolder, Place};
use crate::plan::ClusterShape;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::physical_plan::ExecutionPlan;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use windlass_core::ids::{AttemptId, JobId, PlanHash};
use windlass_core::job::{JobSpec, MapLocation, Preference, StageInput, StageSpec, Terms};

/// A statement cut into stages, in topological order; the last stage leaves the result.
#[derive(Clone, Debug)]
pub struct PlannedJob {
    /// Of the result.
    pub schema: SchemaRef,
    pub stages: Vec<PlannedStage>,
    /// What to publish when the job is done.
    pub write: Option<WriteTarget>,
    /// The same of a write into a table of a connector.
    pub sink: Option<PlannedSink>,
    /// What scans need until the job has ended.
    pub guards: Vec<ScanGuard>,
    /// It has joins that hold all of one side, or medians that hold all values of a group, which have to fit into memory:
    /// [`crate::spilling`] is for when they do not.
    pub holds_sides: bool,
    /// What it was planned for.
    pub shape: ClusterShape,
    /// It is one task that does little.
    pub light: bool,
    /// A plan that reads nothing and leaves few rows: whoever has it may run it without a job.
    pub constant: Option<Arc<dyn ExecutionPlan>>,
}

/// Where a writing job's files belong once it has ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteTarget {
    /// The folder or the single file.
    pub target: Place,
    /// Attempts have folders of their own in it. To be removed in any case.
    pub staging: OwnFolder,
    /// The new files replace what lies at the target.
    pub overwrite: bool,
}

/// A stage, encoded once. Its debug form is without its bytes, which may have secrets in them.
#[derive(Clone)]
pub struct PlannedStage {
    pub hash: PlanHash,
    /// What executors decode: [`crate::StagePlan::decode`].
    pub bytes: Bytes,
    /// The operators, one to a line, indented, in the order of a pre-order walk.
    pub display: String,
    pub tasks: u32,
    pub buckets: u32,
    pub inputs: Vec<StageInput>,
    pub preferences: Vec<Preference>,
    /// What each task reads of `wfs://`; empty, or one entry for each task.
    pub splits: Vec<Vec<Split>>,
    pub row_limit: Option<u64>,
    /// What was encoded, for an executor of this process.
    pub planned: Option<Planned>,
}

impl fmt::Debug for PlannedStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hash, display, tasks, buckets, inputs, .. } = self;
        f.debug_struct("PlannedStage")
            .field("hash", hash)
            .field("display", display)
            .field("tasks", tasks)
            .field("buckets", buckets)
            .field("inputs", inputs)
            .finish_non_exhaustive()
    }
}

/// A part of a file of `wfs://` that a task reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub path: String,
    /// In bytes.
    pub range: std::ops::Range<u64>,
}

impl PlannedJob {
    /// The job as the scheduling machine sees it.
    pub fn spec(&self, id: JobId, terms: Terms) -> JobSpec {
        let stages = self
            .stages
            .iter()
            .map(|stage| StageSpec {
                plan: stage.hash,
                tasks: stage.tasks,
                buckets: stage.buckets,
                inputs: stage.inputs.clone(),
                preferences: stage.preferences.clone(),
                row_limit: stage.row_limit,
            })
            .collect();
        JobSpec { id, stages, terms, light: self.light, statement: None, earlier: None }
    }

    /// For each stage, a name of everything that its outputs come from: its plan, how many tasks it has, and the same of all that it reads.
    /// Stages of two jobs that agree in it may stand in for each other.
    pub fn lineages(&self) -> Vec<PlanHash> {
        let mut lineages: Vec<PlanHash> = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            let mut text = format!("{} {} {} {:?}", stage.hash, stage.tasks, stage.buckets, stage.row_limit);
            for input in &stage.inputs {
                let producer = lineages.get(input.stage as usize);
                text.push_str(&format!(" {} {:?} {producer:?}", input.stage, input.read));
            }
            lineages.push(content_hash(text.as_bytes()));
        }
        lineages
    }
}

/// Where an instance of a stage finds what it reads.
#[derive(Clone, Debug)]
pub struct TaskInputs {
    pub job: JobId,
    pub stages: Vec<InputLocations>,
    pub source: Arc<dyn ExchangeSource>,
}

/// The map outputs of one producing stage, sorted by partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputLocations {
    pub stage: u32,
    pub maps: Vec<MapLocation>,
}

/// What one attempt left.
#[derive(Clone, Debug, Default)]
pub struct TaskSummary {
    pub rows: u64,
    pub bucket_bytes: Vec<u64>,
    /// A small result, as an Arrow IPC stream.
    pub inline_result: Option<Bytes>,
    /// What a writing task staged, for the primary to publish.
    pub staged: Option<Bytes>,
    pub metrics: Vec<OperatorMetrics>,
}

/// Metrics of one operator of a stage plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorMetrics {
    /// Position in a pre-order walk of the stage's plan.
    pub operator: u32,
    pub values: Vec<(String, u64)>,
}

/// The attempts that an instance of a stage runs, by its partitions, and what they staged.
#[derive(Debug)]
pub(crate) struct TaskScope {
    pub attempts: Vec<AttemptId>,
    pub staged: Mutex<BTreeMap<usize, Vec<u8>>>,
}
