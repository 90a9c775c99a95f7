//! Stages as they are planned.

use crate::connector::{PlannedSink, ScanGuard};
use crate::envelope::{OutputSpec, content_hash};
use crate::place::{OwnFolder, Place};
use crate::room::Roomy;
use crate::task::Split;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use std::fmt;
use std::sync::Arc;
use windlass_core::ids::{JobId, PlanHash};
use windlass_core::job::{JobSpec, Preference, StageInput, StageSpec, Terms};

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

/// A stage's plan as it was made.
#[derive(Clone, Debug)]
pub struct Planned {
    pub(crate) plan: Roomy<Arc<dyn ExecutionPlan>>,
    pub(crate) output: Roomy<OutputSpec>,
    /// That it was made with.
    pub(crate) config: SessionConfig,
}

/// The executors that a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterShape {
    pub executors: u32,
    /// Of all executors together.
    pub slots: u32,
    /// Of the executor that has most.
    pub max_slots: u32,
}

impl ClusterShape {
    /// One executor with one slot.
    pub const ONE: ClusterShape = ClusterShape { executors: 1, slots: 1, max_slots: 1 };
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
