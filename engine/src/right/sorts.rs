//! Sorts that DataFusion leaves out because it believes in an order that its own last check then does not find.
//!
//! It takes `select 1 as a, b from t union all select a, b from u` as sorted by `a` where only the first part is, or as constant in a group that a join has
//! made. The check refuses such a plan, and with it a valid statement. Here the plan gets the sort that is missing.

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use std::sync::Arc;

/// The name of DataFusion's last rule, which checks and changes nothing.
pub(super) const CHECK: &str = "SanityCheckPlan";

/// Sorts the inputs that are not in the order that an operator requires. Runs before DataFusion's check.
#[derive(Debug)]
pub(super) struct MissingSorts;

impl PhysicalOptimizerRule for MissingSorts {
    fn name(&self) -> &str {
        "missing_sorts"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let (mut children, mut changed) = (Vec::new(), false);
            for (child, required) in node.children().into_iter().zip(node.required_input_ordering()) {
                let mut child = Arc::clone(child);
                if let Some(required) = required.map(|required| required.into_single())
                    && !child.equivalence_properties().ordering_satisfy_requirement(required.clone())?
                {
                    let order = LexOrdering::from(required);
                    let many = child.output_partitioning().partition_count() > 1;
                    child = Arc::new(SortExec::new(order, child).with_preserve_partitioning(many));
                    changed = true;
                }
                children.push(child);
            }
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
