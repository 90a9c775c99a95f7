//! Constant columns on the side of an outer join whose rows may be missing.
//!
//! DataFusion takes them as constant above the join too: in `a left join b on a.g = b.g and b.g = 4` it leaves out a sort by `b.g`, computes ranks as if
//! there were one partition, and groups by `b.g` in each task separately, which returns a group twice. Above the join they may also be NULL.

use super::each_node::{EachNode, over};
use crate::ops::ForgetExec;
use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::JoinType;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use std::sync::Arc;

/// Hides the constants of such sides. Runs before DataFusion's rules, which rely on them.
pub(super) const CONSTANTS_END_AT_OUTER_JOINS: EachNode =
    EachNode { name: "constants_end_at_outer_joins", change: without_constants };

fn without_constants(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let Some([left, right]) = may_be_missing(&node) else { return Ok(Transformed::no(node)) };
    let children = node.children().into_iter().zip([left, right]).map(|(child, missing)| {
        match missing && !child.equivalence_properties().constants().is_empty() {
            true => Arc::new(ForgetExec::new(Arc::clone(child))) as Arc<dyn ExecutionPlan>,
            false => Arc::clone(child),
        }
    });
    let children = children.collect();
    over(node, children)
}

/// Whether rows of the left and of the right side may be missing in a join's output.
fn may_be_missing(node: &Arc<dyn ExecutionPlan>) -> Option<[bool; 2]> {
    let hash = node.downcast_ref::<HashJoinExec>().map(|join| *join.join_type());
    let nested = node.downcast_ref::<NestedLoopJoinExec>().map(|join| *join.join_type());
    let sorted = node.downcast_ref::<SortMergeJoinExec>().map(|join| join.join_type());
    match hash.or(nested).or(sorted)? {
        JoinType::Left => Some([false, true]),
        JoinType::Right => Some([true, false]),
        JoinType::Full => Some([true, true]),
        _ => None,
    }
}
