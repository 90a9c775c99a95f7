//! Filters that say of an expression that it is equal to a part of itself, as `coalesce(c, 0) = 0` does.
//!
//! DataFusion takes the left side for the name of both, and puts it wherever it meets the right side: also into the left side, again and again.
//! A sort by an expression with a `0` in it is then by another one than was asked for, and the plan is refused. The part is a name that can be
//! put anywhere, so it goes to the left.

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::BinaryExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use std::sync::Arc;

/// Turns such conditions around. Comes before DataFusion's rules, which look at what is equal.
#[derive(Debug)]
pub(super) struct PartsGoFirst;

impl PhysicalOptimizerRule for PartsGoFirst {
    fn name(&self) -> &str {
        "parts_go_first"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some(filter) = node.downcast_ref::<FilterExec>() else { return Ok(Transformed::no(node)) };
            let turned = Arc::clone(filter.predicate()).transform_down(|condition| Ok(turned(condition)))?;
            if !turned.transformed {
                return Ok(Transformed::no(node));
            }
            let filter = FilterExecBuilder::from(filter).with_predicate(turned.data).build()?;
            Ok(Transformed::yes(Arc::new(filter) as Arc<dyn ExecutionPlan>))
        })
        .data()
    }
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

/// Whether `whole` has `part` in it, and is not that itself.
fn is_part(part: &Arc<dyn PhysicalExpr>, whole: &Arc<dyn PhysicalExpr>) -> bool {
    part != whole && whole.exists(|expr| Ok(expr == part)).unwrap_or_default()
}
