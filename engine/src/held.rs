//! Parts of a plan that hold their whole input and cannot spill it.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::windows::WindowAggExec;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Functions whose state is all values of a group.
const WHOLE_GROUPS: [&str; 6] = ["array_agg", "string_agg", "median", "percentile_cont", "collect_list", "collect_set"];

/// The explanation for `plan` when memory has run out: the aggregates that hold all values of a group, or the windows that hold all rows of a partition.
/// `None`: there are none, so memory ran out for another reason.
pub(crate) fn held_whole(plan: &Arc<dyn ExecutionPlan>) -> Option<String> {
    let mut held = BTreeSet::new();
    let walked = plan.apply(|node| {
        if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
            let calls = aggregate.aggr_expr().iter().filter(|call| holds_groups(call));
            held.extend(calls.map(|call| format!("{} holds all values of a group in memory", shown(call))));
        }
        if let Some(window) = node.downcast_ref::<WindowAggExec>() {
            let names = window.window_expr().iter();
            held.extend(names.map(|call| format!("{} holds all rows of a partition in memory", call.name())));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok(), "the closure does not fail");
    let held: Vec<String> = held.into_iter().collect();
    (!held.is_empty()).then(|| format!("{}, and cannot spill them", held.join("; ")))
}

fn holds_groups(call: &AggregateFunctionExpr) -> bool {
    call.is_distinct() || WHOLE_GROUPS.contains(&call.fun().name())
}

fn shown(call: &AggregateFunctionExpr) -> &str {
    call.human_display().filter(|shown| !shown.is_empty()).unwrap_or(call.name())
}
