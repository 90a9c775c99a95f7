//! Narrowing of a stage's plan to some of its partitions.
//!
//! A task cannot just run partition i of the whole plan: operators coordinate across the partitions that they believe to run beside them (dynamic filters
//! wait for every build side, file streams steal files from each other). So an instance of a plan has exactly the partitions that were launched together.

use crate::connector::leaf;
use crate::ops::ExchangeReadExec;
use crate::ops::of_no_input;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode};
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use std::fmt;
use std::sync::Arc;

/// `plan` with only the partitions `keep`, in that order.
pub(crate) fn restrict(plan: &Arc<dyn ExecutionPlan>, keep: &[usize]) -> Result<Arc<dyn ExecutionPlan>> {
    let count = plan.output_partitioning().partition_count();
    if keep.len() == count && keep.iter().enumerate().all(|(i, &k)| i == k) {
        return Ok(Arc::clone(plan));
    }
    if let Some(read) = plan.downcast_ref::<ExchangeReadExec>() {
        return Ok(Arc::new(read.restrict(keep)));
    }
    if let Some(leaf) = leaf(plan) {
        return leaf.narrowed(keep);
    }
    if keep.is_empty() {
        return Ok(Arc::new(SkippedExec::new(plan)));
    }
    if plan.is::<EmptyExec>() {
        return Ok(Arc::new(EmptyExec::new(plan.schema()).with_partitions(keep.len())));
    }
    if let Some(union) = plan.downcast_ref::<UnionExec>() {
        return restrict_union(plan, union, keep);
    }
    let children = plan.children();
    if children.is_empty() {
        return internal_err!("{} cannot be narrowed to some of its partitions", plan.name());
    }
    let whole = whole_children(plan);
    let mut narrowed = Vec::with_capacity(children.len());
    for (index, child) in children.iter().enumerate() {
        if whole.contains(&index) {
            narrowed.push(Arc::clone(child));
            continue;
        }
        if child.output_partitioning().partition_count() != count {
            return internal_err!("partitions of {} do not follow those of its input", plan.name());
        }
        narrowed.push(restrict(child, keep)?);
    }
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    Arc::clone(plan).replace_children(narrowed, options)
}

/// The children that every partition of `plan` reads whole.
pub(crate) fn whole_children(plan: &Arc<dyn ExecutionPlan>) -> Vec<usize> {
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        return if join.mode == PartitionMode::CollectLeft { vec![0] } else { vec![] };
    }
    if plan.is::<NestedLoopJoinExec>() || plan.is::<CrossJoinExec>() {
        return vec![0];
    }
    if plan.is::<ScalarSubqueryExec>() {
        return (1..plan.children().len()).collect();
    }
    vec![]
}

/// The partitions of a union are those of its inputs, one input after the other.
fn restrict_union(plan: &Arc<dyn ExecutionPlan>, union: &UnionExec, keep: &[usize]) -> Result<Arc<dyn ExecutionPlan>> {
    let mut first = 0;
    let mut narrowed = Vec::new();
    for input in union.inputs() {
        let count = input.output_partitioning().partition_count();
        let local: Vec<usize> =
            keep.iter().filter(|&&k| (first..first + count).contains(&k)).map(|k| k - first).collect();
        narrowed.push(restrict(input, &local)?);
        first += count;
    }
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    Arc::clone(plan).replace_children(narrowed, options)
}

/// Replaces an input of which no partition is kept.
#[derive(Debug)]
pub(crate) struct SkippedExec {
    /// Number of operators that it replaces: later operators keep their positions in the stage's plan.
    pub operators: u32,
    properties: Arc<PlanProperties>,
}

impl SkippedExec {
    fn new(plan: &Arc<dyn ExecutionPlan>) -> Self {
        let properties = plan.properties().as_ref().clone().with_partitioning(Partitioning::UnknownPartitioning(0));
        Self { operators: operators(plan), properties: Arc::new(properties) }
    }
}

fn operators(plan: &Arc<dyn ExecutionPlan>) -> u32 {
    1 + plan.children().into_iter().map(operators).sum::<u32>()
}

impl DisplayAs for SkippedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SkippedExec")
    }
}

impl ExecutionPlan for SkippedExec {
    fn name(&self) -> &str {
        "SkippedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    of_no_input!();

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        internal_err!("partition {partition} of a skipped input was asked for")
    }
}
