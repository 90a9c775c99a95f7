//! The values of some columns of a plan's rows, the same each time that they are computed.
//!
//! A subquery is answered for the values of outer columns, and the answers are joined with the outer rows. So the outer rows are computed twice, and rows below
//! a LIMIT or random() may be others the second time. Values of more rows than there are do no harm: here such operators let all rows through, and the side
//! of a join that has none of the columns is left out.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ExprSchema, JoinType, Result, ScalarValue, not_impl_err};
use datafusion::logical_expr::{Distinct, Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder, Projection, Union, lit};
use std::sync::Arc;

/// Returns a plan that has, in columns of these names, at least the values that `plan` has in them. It may lack the other columns.
///
/// # Errors
/// The values may be others each time.
pub(super) fn no_fewer(plan: &LogicalPlan, columns: &[Column]) -> Result<LogicalPlan> {
    if !varies(plan)? {
        return Ok(plan.clone());
    }
    if columns.is_empty() {
        // Only whether there are rows may differ.
        return LogicalPlanBuilder::empty(true).build();
    }
    match plan {
        LogicalPlan::Limit(of) => no_fewer(&of.input, columns),
        LogicalPlan::Sort(of) => no_fewer(&of.input, columns),
        LogicalPlan::Distinct(Distinct::All(input)) => no_fewer(input, columns),
        LogicalPlan::Window(of) if are_in(columns, &of.input) => no_fewer(&of.input, columns),
        LogicalPlan::Filter(of) => {
            let input = no_fewer(&of.input, columns)?;
            let used: Vec<Column> = of.predicate.column_refs().into_iter().cloned().collect();
            match are_in(&used, &input) && !may_differ(&of.predicate)? {
                true => Ok(LogicalPlan::Filter(Filter::try_new(of.predicate.clone(), Arc::new(input))?)),
                false => Ok(input),
            }
        }
        LogicalPlan::Projection(of) => computed(plan, &of.expr, &of.input, columns),
        // Groups of one grouping are the values of their expressions.
        LogicalPlan::Aggregate(of) if !matches!(of.group_expr.as_slice(), [Expr::GroupingSet(_)]) => {
            computed(plan, &of.group_expr, &of.input, columns)
        }
        LogicalPlan::SubqueryAlias(of) => renamed(plan, &of.input, columns),
        LogicalPlan::Union(of) => {
            let inputs = of.inputs.iter().map(|input| renamed(plan, input, columns)).collect::<Result<_>>()?;
            union(inputs, columns)
        }
        LogicalPlan::Join(of) => joined(of, columns),
        _ => refused(),
    }
}

fn refused<T>() -> Result<T> {
    not_impl_err!(
        "a subquery that names columns of rows which may be others each time, as with random() or LIMIT: write them to a table first"
    )
}

fn varies(plan: &LogicalPlan) -> Result<bool> {
    let mut varies = false;
    plan.apply_with_subqueries(|node| {
        varies = matches!(node, LogicalPlan::Limit(_)) || node.expressions().iter().any(Expr::is_volatile);
        Ok(if varies { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(varies)
}

/// Whether an expression may have another value for the same row.
fn may_differ(expr: &Expr) -> Result<bool> {
    expr.exists(|part| {
        Ok(match part {
            Expr::ScalarSubquery(of) => varies(&of.subquery)?,
            Expr::Exists(of) => varies(&of.subquery.subquery)?,
            Expr::InSubquery(of) => varies(&of.subquery.subquery)?,
            Expr::SetComparison(of) => varies(&of.subquery.subquery)?,
            part => part.is_volatile_node(),
        })
    })
}

/// Adds the columns of `expr` that are not yet there.
fn add_refs(expr: &Expr, columns: &mut Vec<Column>) {
    for column in expr.column_refs() {
        if !columns.contains(column) {
            columns.push(column.clone());
        }
    }
}

fn are_in(columns: &[Column], plan: &LogicalPlan) -> bool {
    columns.iter().all(|column| plan.schema().has_column(column))
}

/// The columns of a plan that computes each of its columns, or its first ones, from its input.
fn computed(plan: &LogicalPlan, exprs: &[Expr], input: &LogicalPlan, columns: &[Column]) -> Result<LogicalPlan> {
    let (mut selected, mut used) = (Vec::new(), Vec::new());
    for column in columns {
        let at = plan.schema().index_of_column(column)?;
        let Some(expr) = exprs.get(at) else { return refused() };
        if may_differ(expr)? {
            return refused();
        }
        add_refs(expr, &mut used);
        selected.push(named(expr.clone(), column));
    }
    let input = no_fewer(input, &used)?;
    Ok(LogicalPlan::Projection(Projection::try_new(selected, Arc::new(input))?))
}

/// The columns of a plan whose columns are those of its input, under other names.
fn renamed(plan: &LogicalPlan, input: &LogicalPlan, columns: &[Column]) -> Result<LogicalPlan> {
    let exprs: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    computed(plan, &exprs, input, columns)
}

fn named(expr: Expr, column: &Column) -> Expr {
    match &expr {
        Expr::Column(of) if of == column => expr,
        _ => expr.unalias().alias_qualified(column.relation.clone(), &column.name),
    }
}

fn union(inputs: Vec<LogicalPlan>, columns: &[Column]) -> Result<LogicalPlan> {
    let union = LogicalPlan::Union(Union::try_new_with_loose_types(inputs.into_iter().map(Arc::new).collect())?);
    let selected = union.schema().columns().into_iter().zip(columns);
    let selected = selected.map(|(of, column)| named(Expr::Column(of), column)).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(selected, Arc::new(union))?))
}

fn joined(join: &Join, columns: &[Column]) -> Result<LogicalPlan> {
    let (left, right) = (join.left.as_ref(), join.right.as_ref());
    let (of_left, of_right): (Vec<_>, Vec<_>) =
        columns.iter().cloned().partition(|column| left.schema().has_column(column));
    let [left_is_kept, right_is_kept] = match join.join_type {
        JoinType::Inner => [false, false],
        JoinType::Left => [true, false],
        JoinType::Right => [false, true],
        JoinType::Full => [true, true],
        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark if of_right.is_empty() => {
            return no_fewer(left, columns);
        }
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark if of_left.is_empty() => {
            return no_fewer(right, columns);
        }
        _ => return refused(),
    };
    let mut parts = vec![match (of_left.is_empty(), of_right.is_empty()) {
        (_, true) => no_fewer(left, columns)?,
        (true, false) => no_fewer(right, columns)?,
        (false, false) => matched(join, columns)?,
    }];
    if left_is_kept && !of_right.is_empty() {
        parts.push(no_fewer(left, &of_left)?);
    }
    if right_is_kept && !of_left.is_empty() {
        parts.push(no_fewer(right, &of_right)?);
    }
    if parts.len() == 1 {
        return Ok(parts.remove(0));
    }
    let selected = parts.into_iter().map(|part| {
        let selected = columns.iter().map(|column| match part.schema().has_column(column) {
            true => Ok(Expr::Column(column.clone())),
            false => Ok(named(lit(ScalarValue::try_from(join.schema.data_type(column)?)?), column)),
        });
        let selected = selected.collect::<Result<_>>()?;
        Ok(LogicalPlan::Projection(Projection::try_new(selected, Arc::new(part))?))
    });
    union(selected.collect::<Result<_>>()?, columns)
}

/// The rows of both sides that match.
fn matched(join: &Join, columns: &[Column]) -> Result<LogicalPlan> {
    let conditions = || join.on.iter().flat_map(|(left, right)| [left, right]).chain(&join.filter);
    for condition in conditions() {
        if may_differ(condition)? {
            return refused();
        }
    }
    let mut used = columns.to_vec();
    conditions().for_each(|condition| add_refs(condition, &mut used));
    let side = |input: &LogicalPlan| {
        let used: Vec<Column> = used.iter().filter(|column| input.schema().has_column(column)).cloned().collect();
        Ok(Arc::new(no_fewer(input, &used)?))
    };
    let (on, filter) = (join.on.clone(), join.filter.clone());
    let (kind, constraint) = (JoinType::Inner, join.join_constraint);
    let (left, right): (Result<_>, Result<_>) = (side(&join.left), side(&join.right));
    let equality = join.null_equality;
    Ok(LogicalPlan::Join(Join::try_new(left?, right?, on, filter, kind, constraint, equality, join.null_aware)?))
}
