//! Analyzer rules that run around DataFusion's type coercion.
//!
//! ```text
//!   BeforeCoercion   columns of tables in the session's zone; casts that round (cast.rs); comparisons of times (compare.rs)
//!   (DataFusion's)   types of operands and arguments
//!   ZonedCasts       casts between local times and instants (cast.rs), instants and intervals (interval.rs)
//! ```

use super::cast::{asks_a_zone, cast_expr, cast_literal, is_utc, narrows, reads_text, rounds};
use super::interval::shift_expr;
use super::{compare, session_zone};
use crate::expressions::in_node;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::{BinaryExpr, Cast, TryCast};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, Projection, TableScan};
use datafusion::optimizer::AnalyzerRule;
use std::cell::Cell;
use std::sync::Arc;

/// Gives stored instants the session's time zone, and compared times a unit in which all have a value.
#[derive(Debug)]
pub(crate) struct BeforeCoercion;

/// Replaces Arrow's casts by casts that handle skipped and repeated hours.
#[derive(Debug)]
pub(crate) struct ZonedCasts;

impl AnalyzerRule for BeforeCoercion {
    fn name(&self) -> &str {
        "windlass_times"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let zone = session_zone(config);
        let types_changed = Cell::new(false);
        let rewritten = plan.transform_up_with_subqueries(|node| {
            let node =
                expressions(node, &types_changed, is_outer_cast_or_compared, |expr, schema| match (expr, &zone) {
                    (Expr::OuterReferenceColumn(field, column), Some(zone)) if of_other_zone(&field, zone) => {
                        Ok(Transformed::yes(Expr::OuterReferenceColumn(in_zone(&field, zone), column)))
                    }
                    (expr @ (Expr::Cast(_) | Expr::TryCast(_)), _) => Ok(rounded(expr, schema)),
                    (expr, _) => compare::rewrite(expr, schema),
                })?;
            let Some(zone) = &zone else { return Ok(node) };
            Ok(match node.data {
                LogicalPlan::TableScan(scan)
                    if scan.projected_schema.fields().iter().any(|f| of_other_zone(f, zone)) =>
                {
                    types_changed.set(true);
                    Transformed::yes(scan_in_zone(scan, zone)?)
                }
                data => Transformed { data, ..node },
            })
        });
        Ok(rewritten?.data)
    }
}

impl AnalyzerRule for ZonedCasts {
    fn name(&self) -> &str {
        "windlass_zoned_casts"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let types_changed = Cell::new(false);
        Ok(plan.transform_up_with_subqueries(|node| expressions(node, &types_changed, is_cast_or_sum, zoned))?.data)
    }
}

/// Rewrites those expressions of one node for which `concerns` is true, from their leaves up. Types above a changed node are recomputed.
fn expressions(
    node: LogicalPlan,
    types_changed: &Cell<bool>,
    concerns: fn(&Expr) -> bool,
    rewrite: impl Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let node = in_node(node, &|expr| expr.exists(|part| Ok(concerns(part))), &|expr, schema| {
        expr.transform_up(|expr| match concerns(&expr) {
            true => rewrite(expr, schema),
            false => Ok(Transformed::no(expr)),
        })
    })?;
    types_changed.set(types_changed.get() || node.transformed);
    match types_changed.get() {
        true => Ok(Transformed::yes(node.data.recompute_schema()?)),
        false => Ok(node),
    }
}

fn is_cast_or_sum(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Cast(_) | Expr::TryCast(_) | Expr::BinaryExpr(BinaryExpr { op: Operator::Plus | Operator::Minus, .. })
    )
}

fn is_outer_cast_or_compared(expr: &Expr) -> bool {
    let is_time = |to: &DataType| matches!(to, DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_));
    match expr {
        Expr::OuterReferenceColumn(..) => true,
        Expr::Cast(Cast { field, .. }) | Expr::TryCast(TryCast { field, .. }) => is_time(field.data_type()),
        expr => compare::concerns(expr),
    }
}

/// Replaces a cast to a coarser unit by one that rounds.
fn rounded(cast: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let (Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field })) = &cast else {
        return Transformed::no(cast);
    };
    let (to, or_null) = (field.data_type(), matches!(cast, Expr::TryCast(_)));
    if !expr.get_type(schema).is_ok_and(|from| rounds(&from, to)) {
        return Transformed::no(cast);
    }
    let literal = cast_literal(expr, to, or_null);
    Transformed::yes(literal.unwrap_or_else(|| cast_expr(expr.as_ref().clone(), to, or_null)))
}

fn zoned(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Cast(Cast { expr, field }) if reads_interval(&expr, &field, schema) => {
            Ok(Transformed::yes(super::interval::of_text(*expr, false)))
        }
        Expr::TryCast(TryCast { expr, field }) if reads_interval(&expr, &field, schema) => {
            Ok(Transformed::yes(super::interval::of_text(*expr, true)))
        }
        Expr::Cast(Cast { expr, field }) => match of_zone(&expr, &field, schema) {
            true => Ok(Transformed::yes(cast_once(*expr, field.data_type(), false))),
            false => Ok(Transformed::no(Expr::Cast(Cast { expr, field }))),
        },
        Expr::TryCast(TryCast { expr, field }) => match of_zone(&expr, &field, schema) {
            true => Ok(Transformed::yes(cast_once(*expr, field.data_type(), true))),
            false => Ok(Transformed::no(Expr::TryCast(TryCast { expr, field }))),
        },
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Plus | Operator::Minus), right }) => {
            let is_interval = |expr: &Expr| matches!(expr.get_type(schema), Ok(DataType::Interval(_)));
            let is_instant = |expr: &Expr| match expr.get_type(schema) {
                Ok(DataType::Timestamp(_, Some(zone))) => !is_utc(&zone),
                _ => false,
            };
            if is_interval(&right) && is_instant(&left) {
                return Ok(Transformed::yes(shift_expr(*left, *right, op == Operator::Minus)));
            }
            if op == Operator::Plus && is_instant(&right) && is_interval(&left) {
                return Ok(Transformed::yes(shift_expr(*right, *left, false)));
            }
            Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// `input` of an INSERT. Its casts of dates and timestamps to nanoseconds fail with an error that names the years that these reach.
///
/// # Errors
/// An expression has no type.
pub fn within_nanoseconds(input: Arc<LogicalPlan>) -> Result<Arc<LogicalPlan>> {
    let LogicalPlan::Projection(projection) = input.as_ref() else { return Ok(input) };
    let below = within_nanoseconds(Arc::clone(&projection.input))?;
    let mut changed = !Arc::ptr_eq(&below, &projection.input);
    let columns = projection.expr.iter().map(|expr| {
        let (relation, name) = expr.qualified_name();
        match expr.clone().unalias() {
            Expr::Cast(Cast { expr: of, field })
                if of.get_type(below.schema()).is_ok_and(|from| narrows(&from, field.data_type())) =>
            {
                changed = true;
                cast_expr(*of, field.data_type(), false).alias_qualified(relation, name)
            }
            _ => expr.clone(),
        }
    });
    let columns: Vec<Expr> = columns.collect();
    if !changed {
        return Ok(input);
    }
    Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, below)?)))
}

/// Casts with the function that handles more than Arrow's cast; returns the value if it is known.
fn cast_once(expr: Expr, to: &DataType, or_null: bool) -> Expr {
    cast_literal(&expr, to, or_null).unwrap_or_else(|| cast_expr(expr, to, or_null))
}

fn reads_interval(expr: &Expr, to: &Field, schema: &DFSchema) -> bool {
    matches!(to.data_type(), DataType::Interval(IntervalUnit::MonthDayNano))
        && expr.get_type(schema).is_ok_and(|from| super::unit::is_text(&from))
}

fn of_zone(expr: &Expr, to: &Field, schema: &DFSchema) -> bool {
    let to = to.data_type();
    // Most casts are of other types.
    (to.is_temporal() || super::unit::is_text(to))
        && expr.get_type(schema).is_ok_and(|from| {
            asks_a_zone(&from, to) || reads_text(&from, to) || matches!(expr, Expr::Literal(..)) && narrows(&from, to)
        })
}

fn of_other_zone(field: &Field, zone: &Arc<str>) -> bool {
    matches!(field.data_type(), DataType::Timestamp(_, Some(of)) if of != zone)
}

fn in_zone(field: &FieldRef, zone: &Arc<str>) -> FieldRef {
    match field.data_type() {
        DataType::Timestamp(unit, Some(_)) => {
            let data_type = DataType::Timestamp(*unit, Some(Arc::clone(zone)));
            Arc::new(field.as_ref().clone().with_data_type(data_type))
        }
        _ => Arc::clone(field),
    }
}

/// Gives stored instants the session's zone: the instants stay, but their days, hours and text are the session's.
fn scan_in_zone(scan: TableScan, zone: &Arc<str>) -> Result<LogicalPlan> {
    let schema = Arc::clone(&scan.projected_schema);
    let columns = schema.iter().map(|(relation, field)| {
        let column = Expr::Column(Column::new(relation.cloned(), field.name()));
        match of_other_zone(field, zone) {
            true => Expr::Cast(Cast::new(Box::new(column), in_zone(field, zone).data_type().clone()))
                .alias_qualified(relation.cloned(), field.name()),
            false => column,
        }
    });
    let columns = columns.collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(LogicalPlan::TableScan(scan)))?))
}
