//! GROUPING SETS over sorted, constant or partitioned input.
//!
//! An aggregate of DataFusion claims that its groups are ordered, constant and partitioned like its input. With GROUPING SETS that is wrong: `group by
//! grouping sets ((k), ())` over rows sorted by `k` returns rows whose `k` is NULL in between, and a constant `k` gets two values. Operators above then end
//! groups too early (three rows for two groups), leave out a sort, or leave the total of each partition unmerged.
//!
//! Here none of these claims is passed on.

use super::each_node::EachNode;
use crate::ops::ForgetExec;
use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use std::sync::Arc;

/// Hides the claims of aggregates with grouping sets. Runs before DataFusion's rules, which rely on them.
pub(super) const GROUPING_SETS_ARE_UNORDERED: EachNode =
    EachNode { name: "grouping_sets_are_unordered", change: without_claims };

fn without_claims(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let of_sets = node.downcast_ref::<AggregateExec>().is_some_and(|node| !node.group_expr().is_single());
    Ok(match of_sets {
        true => Transformed::yes(Arc::new(ForgetExec::new(node)) as Arc<dyn ExecutionPlan>),
        false => Transformed::no(node),
    })
}
