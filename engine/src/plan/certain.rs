//! Checks whether a plan that runs again, because its output was lost, gives the same output.

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use std::sync::Arc;

/// Aggregates whose result does not depend on the order of their rows, unless it is a floating point number.
const ORDERLESS: [&str; 5] = ["count", "sum", "min", "max", "avg"];

/// Whether a second run of `plan` gives the same rows.
pub(super) fn rows_are_certain(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    are_certain(plan, |aggregate| {
        // All aggregates count, also those not in the output: a filter may have used them.
        aggregate.aggr_expr().iter().all(|aggr| is_exact(aggr.field().data_type()))
    })
}

/// Whether a second run of `plan` gives the same values of `keys`.
pub(super) fn keys_are_certain<'a>(
    plan: &Arc<dyn ExecutionPlan>,
    keys: impl Iterator<Item = &'a Arc<dyn PhysicalExpr>>,
) -> Result<bool> {
    let schema = plan.schema();
    let exact = keys.map(|key| Ok(is_exact(&key.data_type(&schema)?))).collect::<Result<Vec<_>>>()?;
    let exact = exact.into_iter().all(|exact| exact);
    are_certain(plan, |_| exact)
}

/// `exact`: whether the used results of an aggregate do not depend on an order of floating point numbers.
fn are_certain(plan: &Arc<dyn ExecutionPlan>, exact: impl Fn(&AggregateExec) -> bool) -> Result<bool> {
    let mut certain = true;
    plan.apply(|node| {
        certain &= node.fetch().is_none() && !is_volatile(node)?;
        certain &= match node.downcast_ref::<AggregateExec>() {
            Some(aggregate) => {
                let named = |name: &str| ORDERLESS.contains(&name);
                exact(aggregate)
                    && aggregate.limit_options().is_none()
                    && aggregate.aggr_expr().iter().all(|aggr| named(aggr.fun().name()))
            }
            None => is_known(node),
        };
        Ok(if certain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(certain)
}

/// Whether the operator's rows depend only on its input's rows, and not on their order.
fn is_known(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.children().is_empty()
        || node.is::<SortExec>()
        || node.is::<FilterExec>()
        || node.is::<ProjectionExec>()
        || node.is::<HashJoinExec>()
        || node.is::<SortMergeJoinExec>()
        || node.is::<NestedLoopJoinExec>()
        || node.is::<CrossJoinExec>()
        || [
            "RepartitionExec",
            "CoalescePartitionsExec",
            "MarkExec",
            "UnionExec",
            "CooperativeExec",
            "ForgetExec",
            "RepeatExec",
        ]
        .contains(&node.name())
}

fn is_exact(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_exact(values),
        other => !other.is_floating() && !other.is_nested(),
    }
}

fn is_volatile(node: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let mut found = false;
    node.apply_expressions(&mut |expr: &Arc<dyn PhysicalExpr>| {
        found |= expr.exists(|e| Ok(e.is_volatile_node()))?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}
