//! Joins that collect one side: where that is cheaper than partitioning both, and made safe to run as several tasks.
//!
//! DataFusion's partitions share the collected side's bitmap of matched rows, so that the last one to end emits the rows without a
//! match. Tasks on other executors cannot share it: each would emit rows that matched elsewhere. Where that would happen, both sides
//! are partitioned, or swapped, or the probing side is gathered.

use super::cut::with_children;
use super::size::estimated_bytes;
use crate::ops::{Mark, MarkExec};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, PartitionMode};
use std::sync::Arc;

/// Has a join collect its build side where to send that to every task moves less than to partition both sides. Besides, the probing side
/// is then scanned beside the table, by whose keys its scan leaves rows out.
///
/// To run after join selection, which knows sizes and not how many tasks there are, and before [`SafeBroadcast`].
#[derive(Debug)]
pub(crate) struct CheaperBroadcast {
    /// Tasks of a stage.
    pub tasks: usize,
    /// A larger build side would not be held by each task.
    pub max_bytes: usize,
    /// Where both sides are smaller, they are shuffled in memory.
    pub from_bytes: usize,
}

impl PhysicalOptimizerRule for CheaperBroadcast {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some(join) = node.downcast_ref::<HashJoinExec>() else { return Ok(Transformed::no(node)) };
            let may_collect =
                join.mode == PartitionMode::Partitioned && !emits_collected_side(*join.join_type()) && !join.null_aware;
            let (Some(build), Some(probe)) = (estimated_bytes(join.left()), estimated_bytes(join.right())) else {
                return Ok(Transformed::no(node));
            };
            let shuffled = build.saturating_add(probe);
            let pays =
                build <= self.max_bytes && shuffled >= self.from_bytes && build.saturating_mul(self.tasks) <= shuffled;
            match may_collect && pays {
                true => {
                    Ok(Transformed::yes(join.builder().with_partition_mode(PartitionMode::CollectLeft).build_exec()?))
                }
                false => Ok(Transformed::no(node)),
            }
        })
        .data()
    }

    fn name(&self) -> &str {
        "cheaper_broadcast"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// To run after join selection, before distribution is enforced.
#[derive(Debug)]
pub(crate) struct SafeBroadcast;

impl PhysicalOptimizerRule for SafeBroadcast {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let safe = if let Some(join) = node.downcast_ref::<HashJoinExec>() {
                safe_hash_join(join, &node)?
            } else if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
                safe_nested_loop(join, &node)?
            } else {
                None
            };
            Ok(match safe {
                Some(join) => Transformed::yes(join),
                None => Transformed::no(node),
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "safe_broadcast"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The collected (left) side has rows to emit that depend on what every partition of the other side matched.
fn emits_collected_side(join_type: JoinType) -> bool {
    match join_type {
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark | JoinType::Full => true,
        JoinType::Inner | JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => false,
    }
}

fn safe_hash_join(join: &HashJoinExec, node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if join.mode == PartitionMode::Partitioned || !emits_collected_side(*join.join_type()) {
        return Ok(None);
    }
    if join.null_aware {
        // Whether any row of the probing side is NULL decides for all rows, so one task must see them all.
        return gather_right(node).map(Some);
    }
    join.builder().with_partition_mode(PartitionMode::Partitioned).build_exec().map(Some)
}

fn safe_nested_loop(
    join: &NestedLoopJoinExec,
    node: &Arc<dyn ExecutionPlan>,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    match join.join_type() {
        JoinType::Full => gather_right(node).map(Some),
        join_type if emits_collected_side(*join_type) => join.swap_inputs().map(Some),
        _ => Ok(None),
    }
}

fn gather_right(join: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let children = join.children();
    let (left, right) = (Arc::clone(children[0]), Arc::clone(children[1]));
    with_children(Arc::clone(join), vec![left, Arc::new(MarkExec::new(Mark::Gather, right))])
}
