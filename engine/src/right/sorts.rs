//! Sorts that DataFusion leaves out because it believes in an order that its own last check then does not find.
//!
//! It takes `select 1 as a, b from t union all select a, b from u` as sorted by `a` where only the first part is, or as constant in a group that a join has
//! made. The check refuses such a plan, and with it a valid statement. Here the plan gets the sort that is missing.

use super::each_node::{EachNode, over};
use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use std::sync::Arc;

/// The name of DataFusion's last rule, which checks and changes nothing.
pub(super) const CHECK: &str = "SanityCheckPlan";

/// Sorts the inputs that are not in the order that an operator requires. Runs before DataFusion's check.
pub(super) const MISSING_SORTS: EachNode = EachNode { name: "missing_sorts", change: sorted };

fn sorted(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let mut children = Vec::new();
    for (child, required) in node.children().into_iter().zip(node.required_input_ordering()) {
        let mut child = Arc::clone(child);
        if let Some(required) = required.map(|required| required.into_single())
            && !child.equivalence_properties().ordering_satisfy_requirement(required.clone())?
        {
            let many = child.output_partitioning().partition_count() > 1;
            let sort = SortExec::new(LexOrdering::from(required), child);
            child = Arc::new(sort.with_preserve_partitioning(many));
        }
        children.push(child);
    }
    over(node, children)
}
