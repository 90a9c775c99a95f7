//! Joins that send the keys of the build side to the scan of the probe side, across stages.
//!
//! Within one process, the scan of a hash join's probe side drops rows whose keys are not in the hash table. In stages, that scan ends before the table is
//! built. Where the build side has few rows, they go to the scan first, which keeps only rows that match one of them:
//!
//! ```text
//!   HashJoin, partitioned             HashJoin, partitioned
//!     Repartition                       Repartition
//!       build              ──>            build ────────────────┐ one stage, read by both
//!     Repartition                       Repartition             │
//!       probe                             HashJoin, right semi  │
//!                                           build ──────────────┘
//!                                           probe
//! ```

use super::certain::rows_are_certain;
use super::size::{statistics, table_bytes};
use crate::connector::leaf;
use crate::ops::{Mark, MarkExec, with_children};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result, ScalarValue, Statistics};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::joins::{HashJoinExec, HashJoinExecBuilder, PartitionMode};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use std::sync::Arc;

/// Must run when distribution is enforced, before dynamic filters are pushed down.
#[derive(Debug)]
pub(crate) struct SemiJoinFirst {
    /// Number of tasks of a stage.
    pub tasks: usize,
    /// Maximum bytes of a hash table of the build side.
    pub max_bytes: usize,
    /// Minimum bytes of the probe side.
    pub from_bytes: usize,
}

impl PhysicalOptimizerRule for SemiJoinFirst {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let mut shared = 0;
        plan.transform_up(|node| {
            let Some(join) = node.downcast_ref::<HashJoinExec>() else { return Ok(Transformed::no(node)) };
            let (Some(build), Some(probe)) = (hash_exchange(join.left()), hash_exchange(join.right())) else {
                return Ok(Transformed::no(node));
            };
            if !may_drop_probe_rows(join) || !self.pays(join, build.input(), probe.input())? {
                return Ok(Transformed::no(node));
            }
            let build: Arc<dyn ExecutionPlan> =
                Arc::new(MarkExec::new(Mark::Shared(shared), Arc::clone(build.input())));
            shared += 1;
            let collected = Arc::new(CoalescePartitionsExec::new(Arc::clone(&build)));
            let on = join.on().to_vec();
            let kept = HashJoinExecBuilder::new(collected, Arc::clone(probe.input()), on, JoinType::RightSemi)
                .with_partition_mode(PartitionMode::CollectLeft)
                .with_null_equality(join.null_equality())
                .build_exec()?;
            let left = with_children(Arc::clone(join.left()), vec![build])?;
            let right = with_children(Arc::clone(join.right()), vec![kept])?;
            Ok(Transformed::yes(with_children(node, vec![left, right])?))
        })
        .data()
    }

    fn name(&self) -> &str {
        "semi_join_first"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl SemiJoinFirst {
    /// Whether the semi join pays: the build side is small compared with the probe side, keeps at most half of the rows of its own largest scan, and has at
    /// most half of the probe side's keys, if their number is known. The probe side must be scanned directly: the outputs of joins and aggregates are
    /// estimated too badly.
    fn pays(
        &self,
        join: &HashJoinExec,
        build: &Arc<dyn ExecutionPlan>,
        probe: &Arc<dyn ExecutionPlan>,
    ) -> Result<bool> {
        if !is_scanned(probe) {
            return Ok(false);
        }
        let (Some(of_build), Some(of_probe)) = (statistics(build), statistics(probe)) else { return Ok(false) };
        let (Some(&rows), Some(&probe_rows)) = (of_build.num_rows.get_value(), of_probe.num_rows.get_value()) else {
            return Ok(false);
        };
        let (Some(build_bytes), Some(probe_bytes)) = (table_bytes(build, rows), table_bytes(probe, probe_rows)) else {
            return Ok(false);
        };
        let is_small = build_bytes <= self.max_bytes && build_bytes.saturating_mul(self.tasks) <= probe_bytes / 2;
        if !is_small || probe_bytes < self.from_bytes {
            return Ok(false);
        }
        let is_few = |of: usize| rows.saturating_mul(2) <= of;
        let mut keys = join.on().iter().filter_map(|(_, key)| distinct_values(key, &of_probe)).peekable();
        let has_few = is_few(largest_scan(build)?) && (keys.peek().is_none() || keys.any(is_few));
        // When an output is lost and the build side runs again, it must have the same rows: the scan has already dropped rows that others would match.
        Ok(has_few && rows_are_certain(build)?)
    }
}

/// Whether rows of the probe side without a match do not affect the result.
fn may_drop_probe_rows(join: &HashJoinExec) -> bool {
    use JoinType::{Full, Right, RightAnti, RightMark};
    let shows_them = matches!(join.join_type(), Right | RightAnti | RightMark | Full);
    join.mode == PartitionMode::Partitioned && !shows_them && !join.null_aware
}

fn hash_exchange(plan: &Arc<dyn ExecutionPlan>) -> Option<&RepartitionExec> {
    plan.downcast_ref::<RepartitionExec>().filter(|exchange| matches!(exchange.partitioning(), Partitioning::Hash(..)))
}

fn is_scanned(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let row_by_row = ["FilterExec", "ProjectionExec", "UnionExec", "CooperativeExec"];
    leaf(plan).is_some() || (row_by_row.contains(&plan.name()) && plan.children().into_iter().all(is_scanned))
}

/// An upper bound on the distinct values of a key, from the column's statistics. `None`: unknown.
fn distinct_values(key: &Arc<dyn PhysicalExpr>, of: &Statistics) -> Option<usize> {
    let column = of.column_statistics.get(key.downcast_ref::<Column>()?.index())?;
    if let Some(distinct) = column.distinct_count.get_value() {
        return Some(*distinct);
    }
    let whole = |value: Option<&ScalarValue>| value?.cast_to(&arrow::datatypes::DataType::Int64).ok();
    match (whole(column.min_value.get_value())?, whole(column.max_value.get_value())?) {
        (ScalarValue::Int64(Some(min)), ScalarValue::Int64(Some(max))) => {
            usize::try_from(max.checked_sub(min)?).ok()?.checked_add(1)
        }
        _ => None,
    }
}

/// Number of rows of the largest leaf.
fn largest_scan(plan: &Arc<dyn ExecutionPlan>) -> Result<usize> {
    let mut largest = 0;
    plan.apply(|node| {
        if node.children().is_empty() {
            let rows = statistics(node).and_then(|of| of.num_rows.get_value().copied());
            largest = largest.max(rows.unwrap_or(0));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(largest)
}
