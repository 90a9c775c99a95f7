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

/// How a subquery depends on outer rows.
#[derive(PartialEq)]
enum Outer {
    Nothing,
    /// It uses columns of the rows for which it is computed.
    Here,
    /// It uses columns from further outside.
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
    // DataFusion's join has no other key, and compares the bits of this one.
    let by_bits = of.expr.get_type(schema).is_ok_and(|of| !differs(&of))
        && of.subquery.subquery.schema().fields().iter().all(|field| !differs(field.data_type()));
    if !by_bits || !place.filter || outer == Outer::Further || !of.expr.any_column_refs() || holds_subquery(&of.expr) {
        return false;
    }
    let nullable = of.expr.nullable(schema).unwrap_or(true)
        || of.subquery.subquery.schema().fields().iter().any(|field| field.is_nullable());
    let knows_nulls = match (place.conjunct, of.negated) {
        // DataFusion's null-aware anti join takes only one key.
        (true, true) => outer == Outer::Nothing || !nullable,
        (true, false) => true,
        (false, negated) => !nullable || place.null_is_false && !negated,
    };
    knows_nulls && (outer == Outer::Nothing || is_plain(&of.subquery.subquery))
}

pub(super) fn scalar(of: &Subquery, place: Place, schema: &DFSchema) -> bool {
    match Outer::of(of, schema) {
        // Elsewhere a separate stage may have to compute it.
        Outer::Nothing => place.values,
        Outer::Here => place.values && is_aggregate(&of.subquery),
        Outer::Further => false,
    }
}

/// Whether DataFusion plans a join rightly whose right side is this subquery.
pub(super) fn lateral(of: &Subquery, schema: &DFSchema) -> bool {
    match Outer::of(of, schema) {
        Outer::Nothing => true,
        Outer::Here => {
            // A condition other than an equality is pulled out of a DISTINCT together with its columns, which then distinguish more rows.
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

/// Whether outer columns are used in conditions only, and nothing above these conditions changes its rows when they are removed.
fn is_plain(plan: &LogicalPlan) -> bool {
    if outer_columns(plan).is_ok_and(|columns| columns.is_empty()) {
        return true;
    }
    match plan {
        LogicalPlan::Projection(of) => !of.expr.iter().any(Expr::contains_outer) && is_plain(&of.input),
        // Names below an alias differ from those above, which DataFusion ignores.
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

/// The plan without its limit, on which the existence of a row does not depend.
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

/// Whether it is one aggregate over rows whose columns equal values of the outer row.
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

/// Whether the condition equates a column with an outer value, and their bits decide equality. Other types are compared by a function's result.
fn is_equality(condition: &Expr, schema: &DFSchema) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return false };
    let by_bits = |side: &Expr| side.get_type(schema).is_ok_and(|of| !differs(&of));
    let column = matches!(left.as_ref(), Expr::Column(_)) && !right.any_column_refs()
        || matches!(right.as_ref(), Expr::Column(_)) && !left.any_column_refs();
    column && by_bits(left) && by_bits(right)
}
