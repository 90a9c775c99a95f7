//! GROUPING SETS over input that is sorted, constant or partitioned.
//!
//! An aggregate of DataFusion says that its groups are ordered, constant and partitioned as its input is. With GROUPING SETS that is not so: for
//! `group by grouping sets ((k), ())` over rows sorted by `k` it gives rows whose `k` is NULL in between, and with a constant `k` two values. What
//! reads it then ends groups too early (three rows for two groups), leaves out a sort, or leaves the total of each partition as it is.
//!
//! Here nothing of that is believed.

use crate::ops::ForgetExec;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use std::sync::Arc;

/// Hides what aggregates with grouping sets say of their rows. Comes before DataFusion's rules, which believe it.
#[derive(Debug)]
pub(super) struct GroupingSetsAreUnordered;

impl PhysicalOptimizerRule for GroupingSetsAreUnordered {
    fn name(&self) -> &str {
        "grouping_sets_are_unordered"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let of_sets = node.downcast_ref::<AggregateExec>().is_some_and(|node| !node.group_expr().is_single());
            Ok(match of_sets {
                true => Transformed::yes(Arc::new(ForgetExec::new(node)) as Arc<dyn ExecutionPlan>),
                false => Transformed::no(node),
            })
        })
        .data()
    }
}
