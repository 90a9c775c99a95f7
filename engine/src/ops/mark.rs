//! Messages from the optimizer's rules to the cutting of stages.

use datafusion::common::{Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::Distribution;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputDistributionRequirements, Partitioning, PlanProperties,
};
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The input is one partition, for an operator that must see all rows.
    Gather,
    /// The plan of this number occurs more than once. One stage runs it for all readers.
    Shared(u32),
}

/// A marker that passes its input through. Cutting the plan removes it.
#[derive(Debug)]
pub struct MarkExec {
    mark: Mark,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl MarkExec {
    pub fn new(mark: Mark, input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = match mark {
            Mark::Gather => {
                let gathered = Partitioning::UnknownPartitioning(1);
                Arc::new(input.properties().as_ref().clone().with_partitioning(gathered))
            }
            Mark::Shared(_) => Arc::clone(input.properties()),
        };
        Self { mark, input, properties }
    }

    pub fn mark(&self) -> Mark {
        self.mark
    }

    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }
}

impl DisplayAs for MarkExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MarkExec: {:?}", self.mark)
    }
}

impl ExecutionPlan for MarkExec {
    fn name(&self) -> &str {
        "MarkExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![match self.mark {
            Mark::Gather => Distribution::SinglePartition,
            Mark::Shared(_) => Distribution::UnspecifiedDistribution,
        }])
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    of_one_input!(|this, input| Self::new(this.mark, input));

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(Arc::clone(&inputs[0]))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}
