//! Constant columns on the side of an outer join whose rows may be missing.
//!
//! DataFusion takes them as constant above the join too: in `a left join b on a.g = b.g and b.g = 4` it leaves out a sort by `b.g`, computes ranks as if
//! there were one partition, and groups by `b.g` in each task separately, which returns a group twice. Above the join they may also be NULL.

use crate::ops::ForgetExec;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::JoinType;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use std::sync::Arc;

/// Hides the constants of such sides. Runs before DataFusion's rules, which rely on them.
#[derive(Debug)]
pub(super) struct ConstantsEndAtOuterJoins;

impl PhysicalOptimizerRule for ConstantsEndAtOuterJoins {
    fn name(&self) -> &str {
        "constants_end_at_outer_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some([left, right]) = may_be_missing(&node) else { return Ok(Transformed::no(node)) };
            let mut changed = false;
            let children = node.children().into_iter().zip([left, right]).map(|(child, missing)| {
                let forget = missing && !child.equivalence_properties().constants().is_empty();
                changed |= forget;
                match forget {
                    true => Arc::new(ForgetExec::new(Arc::clone(child))) as Arc<dyn ExecutionPlan>,
                    false => Arc::clone(child),
                }
            });
            let children = children.collect();
            Ok(match changed {
                true => Transformed::yes(
                    node.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))?,
                ),
                false => Transformed::no(node),
            })
        })
        .data()
    }
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
