//! Inner joins by `=` and by IS NOT DISTINCT FROM in one tree of joins.
//!
//! DataFusion's `EliminateCrossJoin` takes nested inner joins apart and rebuilds all of them with the null equality of the outermost one: within a join by
//! `=`, rows with NULL are lost from `t join u on t.k is not distinct from u.k`; within one by IS NOT DISTINCT FROM, a join by `=` returns rows with NULL.
//! Here the keys of IS NOT DISTINCT FROM are conditions while that rule runs. DataFusion's `ExtractEquijoinPredicate` turns them back into keys afterwards.
//!
//! That rule also drops a key without a column, as in `9 in (select g from t)`. It becomes a condition too.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{NullEquality, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Filter, Join, JoinType, LogicalPlan, Operator, binary_expr};
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use std::sync::Arc;

const MENDED: &str = "eliminate_cross_join";

/// DataFusion's rules with this one corrected.
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
            // Joins that are all alike are rebuilt unchanged, unless a condition above them gives further keys.
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

/// Collects nested inner joins.
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

/// Nested inner joins, with conditions in place of keys that may be NULL or are constant.
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
