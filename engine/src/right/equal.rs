//! Filters that equate an expression with a part of itself, such as `coalesce(c, 0) = 0`.
//!
//! DataFusion takes the left side as the name of both, and substitutes it wherever it finds the right side: also inside the left side, again and again. A
//! sort by an expression with a `0` in it then sorts by another expression than required, and the plan is refused. The part can safely be substituted
//! anywhere, so it goes to the left.

use super::each_node::EachNode;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::BinaryExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use std::sync::Arc;

/// Turns such conditions around. Runs before DataFusion's rules, which use equalities.
pub(super) const PARTS_GO_FIRST: EachNode = EachNode { name: "parts_go_first", change: with_parts_first };

fn with_parts_first(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let Some(filter) = node.downcast_ref::<FilterExec>() else { return Ok(Transformed::no(node)) };
    let turned = Arc::clone(filter.predicate()).transform_down(|condition| Ok(turned(condition)))?;
    if !turned.transformed {
        return Ok(Transformed::no(node));
    }
    let filter = FilterExecBuilder::from(filter).with_predicate(turned.data).build()?;
    Ok(Transformed::yes(Arc::new(filter) as Arc<dyn ExecutionPlan>))
}

fn turned(condition: Arc<dyn PhysicalExpr>) -> Transformed<Arc<dyn PhysicalExpr>> {
    match condition.downcast_ref::<BinaryExpr>() {
        Some(equal) if *equal.op() == Operator::Eq && is_part(equal.right(), equal.left()) => {
            let (part, whole) = (Arc::clone(equal.right()), Arc::clone(equal.left()));
            Transformed::yes(Arc::new(BinaryExpr::new(part, Operator::Eq, whole)))
        }
        _ => Transformed::no(condition),
    }
}

/// Whether `whole` contains `part` and is not `part` itself.
fn is_part(part: &Arc<dyn PhysicalExpr>, whole: &Arc<dyn PhysicalExpr>) -> bool {
    part != whole && whole.exists(|expr| Ok(expr == part)).unwrap_or_default()
}
