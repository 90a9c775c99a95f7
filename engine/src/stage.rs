//! Planned stages.

use crate::connector::{PlannedSink, ScanGuard};
use crate::envelope::{OutputSpec, content_hash};
use crate::room::Roomy;
use crate::task::Split;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use std::fmt;
use std::sync::Arc;
use windlass_core::ids::{JobId, PlanHash};
use windlass_core::job::{JobSpec, Once, Preference, StageInput, StageSpec, Terms};

/// A statement cut into stages, in topological order. The last stage produces the result.
#[derive(Clone, Debug)]
pub struct PlannedJob {
    /// The columns of the result.
    pub schema: SchemaRef,
    pub stages: Vec<PlannedStage>,
    /// The write to publish when the job is done.
    pub sink: Option<PlannedSink>,
    /// Guards that scans need until the job has ended.
    pub guards: Vec<ScanGuard>,
    /// Whether it has joins that hold all of one side, or medians that hold all values of a group. These must fit into memory; if they do not,
    /// [`crate::spilling`] plans the job instead.
    pub holds_sides: bool,
    /// The cluster that it was planned for.
    pub shape: ClusterShape,
    /// Whether it is one task that does little work.
    pub light: bool,
    /// A plan that reads nothing and returns few rows: its holder may run it without a job.
    pub constant: Option<Arc<dyn ExecutionPlan>>,
}

/// A stage, encoded once. Its debug form omits its bytes, which may contain secrets.
#[derive(Clone)]
pub struct PlannedStage {
    pub hash: PlanHash,
    /// The encoded plan; executors decode it with [`crate::StagePlan::decode`].
    pub bytes: Bytes,
    /// The operators in pre-order, one per line, indented.
    pub display: String,
    pub tasks: u32,
    pub buckets: u32,
    pub inputs: Vec<StageInput>,
    pub preferences: Vec<Preference>,
    /// The parts of `wfs://` files that each task reads: empty, or one entry per task.
    pub splits: Vec<Vec<Split>>,
    pub row_limit: Option<u64>,
    /// See [`crate::connector::Scan::once`].
    pub once: Option<Once>,
    /// The plan before encoding, for an executor of this process.
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

/// The plan of a stage before encoding.
#[derive(Clone, Debug)]
pub struct Planned {
    pub(crate) plan: Roomy<Arc<dyn ExecutionPlan>>,
    pub(crate) output: Roomy<OutputSpec>,
    /// The configuration that it was planned with.
    pub(crate) config: SessionConfig,
}

/// Size of the cluster that a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterShape {
    pub executors: u32,
    /// Slots of all executors together.
    pub slots: u32,
    /// Slots of the executor that has most.
    pub max_slots: u32,
}

impl ClusterShape {
    /// One executor with one slot.
    pub const ONE: ClusterShape = ClusterShape { executors: 1, slots: 1, max_slots: 1 };
}

impl PlannedJob {
    /// Whether a task of it may begin only once.
    pub fn runs_once(&self) -> bool {
        self.stages.iter().any(|stage| stage.once.is_some())
    }

    /// The job as it is run if it has a program: never a second time in another way, and beside full slots, since a program may wait for statements of its own.
    pub(crate) fn for_programs(self) -> Self {
        match self.runs_once() {
            true => Self { holds_sides: false, light: self.stages.len() == 1, ..self },
            false => self,
        }
    }

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
                once: stage.once,
            })
            .collect();
        JobSpec { id, stages, terms, light: self.light, statement: None, earlier: None }
    }

    /// For each stage, a hash of everything that determines its outputs: its plan, its number of tasks and the lineages of all stages that it reads. Stages
    /// of two jobs with equal lineages may stand in for each other.
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
