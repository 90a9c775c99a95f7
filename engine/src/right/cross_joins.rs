//! Inner joins by `=` and by IS NOT DISTINCT FROM next to each other.
//!
//! DataFusion's `EliminateCrossJoin` takes all inner joins upon each other apart and puts them together anew, each in the way in which the
//! outermost one takes NULLs: rows with NULL are lost from `t join u on t.k is not distinct from u.k` within a join by `=`, and come from a join by
//! `=` within one by IS NOT DISTINCT FROM. Here the keys of the latter are conditions while that rule runs. What is to be a key again is found
//! by DataFusion's `ExtractEquijoinPredicate` afterwards.
//!
//! A key that names no column, as in `9 in (select g from t)`, that rule forgets. It is a condition too.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{NullEquality, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Filter, Join, JoinType, LogicalPlan, Operator, binary_expr};
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use std::sync::Arc;

const MENDED: &str = "eliminate_cross_join";

/// DataFusion's rules, of which that one is mended.
pub(crate) fn mended(
    mut rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    for rule in rules.iter_mut().filter(|rule| rule.name() == MENDED) {
        *rule = Arc::new(NullsApart(Arc::clone(rule)));
    }
    rules.push(Arc::new(ExtractEquijoinPredicate::new()));
    rules
}

#[derive(Debug)]
struct NullsApart(Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for NullsApart {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let apart = plan.transform_down_with_subqueries(|node| {
            let (joins, is_filtered) = match &node {
                LogicalPlan::Filter(Filter { input, .. }) => (input.as_ref(), true),
                joins => (joins, false),
            };
            let mut inner = Vec::new();
            inner_joins(joins, &mut inner);
            let takes_nulls = |join: &&Join| join.null_equality == NullEquality::NullEqualsNull;
            // Alike all of them are put together as they were, unless a condition above them gives further keys.
            let are_alike = !inner.iter().any(takes_nulls) || (inner.iter().all(takes_nulls) && !is_filtered);
            if are_alike && !inner.iter().any(|join| join.on.iter().any(has_constant)) {
                return Ok(Transformed::no(node));
            }
            Ok(Transformed::yes(match node {
                LogicalPlan::Filter(Filter { predicate, input, .. }) => {
                    let input = Arc::new(with_conditions(Arc::unwrap_or_clone(input)));
                    LogicalPlan::Filter(Filter::try_new(predicate, input)?)
                }
                joins => with_conditions(joins),
            }))
        })?;
        let changed = apart.transformed;
        let eliminated = self.0.rewrite(apart.data, config)?;
        Ok(Transformed::new_transformed(eliminated.data, changed | eliminated.transformed))
    }
}

/// Inner joins upon each other.
fn inner_joins<'a>(plan: &'a LogicalPlan, found: &mut Vec<&'a Join>) {
    if let LogicalPlan::Join(join) = plan
        && join.join_type == JoinType::Inner
    {
        found.push(join);
        inner_joins(&join.left, found);
        inner_joins(&join.right, found);
    }
}

fn has_constant((left, right): &(Expr, Expr)) -> bool {
    !left.any_column_refs() || !right.any_column_refs()
}

/// Inner joins upon each other, none of which has keys that may be NULL, or that are constant.
fn with_conditions(plan: LogicalPlan) -> LogicalPlan {
    match plan {
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner => {
            let Join { left, right, mut on, mut filter, mut null_equality, .. } = join;
            let (way, may_be_null) = match null_equality {
                NullEquality::NullEqualsNull => (Operator::IsNotDistinctFrom, true),
                NullEquality::NullEqualsNothing => (Operator::Eq, false),
            };
            let moved: Vec<_> = on.extract_if(.., |key| may_be_null || has_constant(key)).collect();
            let keys = moved.into_iter().map(|(left, right)| binary_expr(left, way, right));
            filter = conjunction(keys.chain(filter));
            null_equality = NullEquality::NullEqualsNothing;
            let side = |side: Arc<LogicalPlan>| Arc::new(with_conditions(Arc::unwrap_or_clone(side)));
            LogicalPlan::Join(Join {
                left: side(left),
                right: side(right),
                on,
                filter,
                null_equality,
                join_type: join.join_type,
                join_constraint: join.join_constraint,
                schema: join.schema,
                null_aware: join.null_aware,
            })
        }
        plan => plan,
    }
}
