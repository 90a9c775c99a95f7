//! Joins that collect one side: chosen where that is cheaper than partitioning both, and made safe for several tasks.
//!
//! DataFusion's partitions share a bitmap of the collected side's matched rows, so that the last one to end emits the rows without a match. Tasks on other
//! executors cannot share it: each would emit rows that matched elsewhere. Where that would happen, both sides are partitioned, or swapped, or the probe side
//! is gathered.

use super::size::estimated_bytes;
use crate::ops::{Mark, MarkExec, with_children};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, PartitionMode};
use std::sync::Arc;

/// Makes a join collect its build side where sending that to every task moves fewer bytes than partitioning both sides. The probe side is then also scanned
/// in the same stage, and its scan skips rows by the keys of the build side.
///
/// Must run after join selection, which knows sizes but not the number of tasks, and before [`SafeBroadcast`].
#[derive(Debug)]
pub(crate) struct CheaperBroadcast {
    /// Number of tasks of a stage.
    pub tasks: usize,
    /// Maximum bytes of the build side, which each task holds.
    pub max_bytes: usize,
    /// Minimum bytes of both sides together: fewer bytes are shuffled in memory.
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

/// Must run after join selection and before distribution is enforced.
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

/// Whether the collected (left) side emits rows depending on what every partition of the other side matched.
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
        // Whether any probe row is NULL decides for all rows, so one task must see them all.
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
