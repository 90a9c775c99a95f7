//! The subqueries that DataFusion answers rightly.

use super::super::comparable::differs;
use super::values::outer_columns;
use super::{Place, holds_subquery};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, JoinType};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, ExprSchemable, FetchType, Limit, LogicalPlan, Operator, SkipType, Subquery,
};

/// How a subquery hangs on outer rows.
#[derive(PartialEq)]
enum Outer {
    Nothing,
    /// Columns of the rows that it is asked for.
    Here,
    /// Columns from further outside.
    Further,
}

impl Outer {
    fn of(subquery: &Subquery, schema: &DFSchema) -> Self {
        match outer_columns(&subquery.subquery) {
            Ok(columns) if columns.is_empty() => Self::Nothing,
            Ok(columns) if columns.iter().all(|column| schema.has_column(column)) => Self::Here,
            _ => Self::Further,
        }
    }
}

pub(super) fn exists(of: &Exists, place: Place, schema: &DFSchema) -> bool {
    place.filter
        && match Outer::of(&of.subquery, schema) {
            Outer::Nothing => true,
            Outer::Here => is_plain(without_limit(&of.subquery.subquery)),
            Outer::Further => false,
        }
}

pub(super) fn is_in(of: &InSubquery, place: Place, schema: &DFSchema) -> bool {
    let outer = Outer::of(&of.subquery, schema);
    // Its join has no other key, and compares the key's bits.
    let by_bits = of.expr.get_type(schema).is_ok_and(|of| !differs(&of))
        && of.subquery.subquery.schema().fields().iter().all(|field| !differs(field.data_type()));
    if !by_bits || !place.filter || outer == Outer::Further || !of.expr.any_column_refs() || holds_subquery(&of.expr) {
        return false;
    }
    let nullable = of.expr.nullable(schema).unwrap_or(true)
        || of.subquery.subquery.schema().fields().iter().any(|field| field.is_nullable());
    let knows_nulls = match (place.conjunct, of.negated) {
        // Its join for this one takes one key.
        (true, true) => outer == Outer::Nothing || !nullable,
        (true, false) => true,
        (false, negated) => !nullable || place.null_is_false && !negated,
    };
    knows_nulls && (outer == Outer::Nothing || is_plain(&of.subquery.subquery))
}

pub(super) fn scalar(of: &Subquery, place: Place, schema: &DFSchema) -> bool {
    match Outer::of(of, schema) {
        // Elsewhere a stage of its own may compute it.
        Outer::Nothing => place.values,
        Outer::Here => place.values && is_aggregate(&of.subquery),
        Outer::Further => false,
    }
}

/// Of a join whose right side it is.
pub(super) fn lateral(of: &Subquery, schema: &DFSchema) -> bool {
    match Outer::of(of, schema) {
        Outer::Nothing => true,
        Outer::Here => {
            // A condition that is no equality is taken out of a DISTINCT with its columns, which tell more rows apart.
            is_plain(&of.subquery) && (are_equalities(&of.subquery) || !is_distinct(&of.subquery))
                || is_aggregate(&of.subquery)
                || unnests(&of.subquery)
        }
        Outer::Further => unnests(&of.subquery),
    }
}

fn is_distinct(plan: &LogicalPlan) -> bool {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Distinct(_)))).unwrap_or(true)
}

fn unnests(plan: &LogicalPlan) -> bool {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Unnest(_)))).unwrap_or(true)
}

/// Whether outer columns are named in conditions only, and nothing above these conditions gives other rows when they are taken away.
fn is_plain(plan: &LogicalPlan) -> bool {
    if outer_columns(plan).is_ok_and(|columns| columns.is_empty()) {
        return true;
    }
    match plan {
        LogicalPlan::Projection(of) => !of.expr.iter().any(Expr::contains_outer) && is_plain(&of.input),
        // Names below an alias are not those above, which DataFusion forgets.
        LogicalPlan::SubqueryAlias(_) => false,
        LogicalPlan::Distinct(Distinct::All(input)) => is_plain(input),
        LogicalPlan::Filter(of) => {
            let conditions = split_conjunction(&of.predicate);
            let mixed = conditions.into_iter().any(|condition| condition.contains_outer() && holds_subquery(condition));
            !mixed && is_plain(&of.input)
        }
        LogicalPlan::Join(of) => {
            let mut named = of.filter.iter().chain(of.on.iter().flat_map(|(left, right)| [left, right]));
            of.join_type == JoinType::Inner
                && !named.any(Expr::contains_outer)
                && is_plain(&of.left)
                && is_plain(&of.right)
        }
        _ => false,
    }
}

/// Whether there is a row does not depend on a limit.
fn without_limit(plan: &LogicalPlan) -> &LogicalPlan {
    match plan {
        LogicalPlan::Limit(limit) if takes_the_first(limit) => &limit.input,
        plan => plan,
    }
}

fn takes_the_first(limit: &Limit) -> bool {
    matches!(limit.get_skip_type(), Ok(SkipType::Literal(0)))
        && matches!(limit.get_fetch_type(), Ok(FetchType::Literal(fetch)) if fetch != Some(0))
}

/// One aggregate of rows that are equal to the outer row in columns.
fn is_aggregate(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(of) => !of.expr.iter().any(Expr::contains_outer) && is_aggregate(&of.input),
        LogicalPlan::Aggregate(Aggregate { input, group_expr, aggr_expr, .. }) => {
            group_expr.is_empty()
                && !aggr_expr.iter().any(Expr::contains_outer)
                && is_plain(input)
                && are_equalities(input)
        }
        _ => false,
    }
}

fn are_equalities(plan: &LogicalPlan) -> bool {
    let other = plan.exists(|node| {
        let LogicalPlan::Filter(filter) = node else { return Ok(false) };
        let schema = filter.input.schema();
        Ok(split_conjunction(&filter.predicate)
            .into_iter()
            .any(|part| part.contains_outer() && !is_equality(part, schema)))
    });
    other.is_ok_and(|other| !other)
}

/// Of a column and something from outside, whose bits tell whether they are equal: others are compared by what a function makes of them.
fn is_equality(condition: &Expr, schema: &DFSchema) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return false };
    let by_bits = |side: &Expr| side.get_type(schema).is_ok_and(|of| !differs(&of));
    let column = matches!(left.as_ref(), Expr::Column(_)) && !right.any_column_refs()
        || matches!(right.as_ref(), Expr::Column(_)) && !left.any_column_refs();
    column && by_bits(left) && by_bits(right)
}
