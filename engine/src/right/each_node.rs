//! Rules over physical plans that change one operator at a time.

use crate::ops::with_children;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;

type Node = Arc<dyn ExecutionPlan>;

/// Applies `change` to each operator, the lowest first.
#[derive(Debug)]
pub(super) struct EachNode {
    pub name: &'static str,
    pub change: fn(Node) -> Result<Transformed<Node>>,
}

impl PhysicalOptimizerRule for EachNode {
    fn name(&self) -> &str {
        self.name
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Node, _: &ConfigOptions) -> Result<Node> {
        plan.transform_up(self.change).data()
    }
}

/// `node` over these inputs. It counts as changed if they are others.
pub(super) fn over(node: Node, inputs: Vec<Node>) -> Result<Transformed<Node>> {
    let before = Arc::clone(&node);
    let after = with_children(node, inputs)?;
    let changed = !Arc::ptr_eq(&before, &after);
    Ok(Transformed::new_transformed(after, changed))
}
