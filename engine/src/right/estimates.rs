//! Conditions whose row counts DataFusion fails to estimate, with an error.
//!
//! It estimates from the bounds of columns how many rows a filter leaves. The difference of two dates has another type there than when it is computed; and
//! the bounds of `ts::date`, mapped back to `ts`, are wider than before, so that more than all rows are left. Either fails the statement. Here such a filter
//! gets a further condition that is always true and that DataFusion cannot analyse, so it assumes that a fifth of the rows is left. The other conditions
//! still skip files.

use super::itself;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, lit};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// Runs last: rows are estimated from the final plan.
#[derive(Debug)]
pub(crate) struct NoFalseEstimates;

impl OptimizerRule for NoFalseEstimates {
    fn name(&self) -> &str {
        "windlass_no_false_estimates"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.transform_up_with_subqueries(|node| {
            let LogicalPlan::Filter(mut filter) = node else { return Ok(Transformed::no(node)) };
            let schema = filter.input.schema();
            let conditions = split_conjunction(&filter.predicate);
            if !conditions.iter().all(|condition| is_estimated(condition, schema)) {
                return Ok(Transformed::no(LogicalPlan::Filter(filter)));
            }
            let unsafe_one = conditions.into_iter().find(|condition| !is_safe(condition, schema));
            let Some(column) = unsafe_one.and_then(|condition| condition.column_refs().into_iter().min().cloned())
            else {
                return Ok(Transformed::no(LogicalPlan::Filter(filter)));
            };
            filter.predicate = filter.predicate.and(itself::beside(lit(true), Expr::Column(column)));
            Ok(Transformed::yes(LogicalPlan::Filter(filter)))
        })
    }
}

/// Whether DataFusion estimates it from bounds: `check_support` of its physical expressions.
fn is_estimated(expr: &Expr, schema: &DFSchema) -> bool {
    use DataType::{Date32, Date64, Float32, Float64, Timestamp};
    let has_bounds =
        |of: &DataType| of.is_integer() || matches!(of, Float32 | Float64 | Date32 | Date64 | Timestamp(..));
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            (compares(*op) || computes(*op) || *op == Operator::And)
                && is_estimated(left, schema)
                && is_estimated(right, schema)
        }
        Expr::Column(_) | Expr::Literal(..) => expr.get_type(schema).is_ok_and(|of| has_bounds(&of)),
        Expr::Cast(cast) => is_estimated(&cast.expr, schema),
        Expr::Negative(of) => is_estimated(of, schema),
        Expr::Alias(of) => is_estimated(&of.expr, schema),
        _ => false,
    }
}

/// Whether bounds are computed as values are, and do not get wider when they are mapped back.
fn is_safe(expr: &Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let same = || match (left.get_type(schema), right.get_type(schema)) {
                (Ok(left), Ok(right)) => left == right && (!computes(*op) || left.is_integer() || left.is_floating()),
                _ => false,
            };
            is_safe(left, schema) && is_safe(right, schema) && same()
        }
        Expr::Cast(cast) => {
            let from = cast.expr.get_type(schema);
            is_safe(&cast.expr, schema) && from.is_ok_and(|from| keeps_values(&from, cast.field.data_type()))
        }
        Expr::Negative(of) => is_safe(of, schema),
        Expr::Alias(of) => is_safe(&of.expr, schema),
        _ => true,
    }
}

/// Whether each value has a value of its own in the other type.
fn keeps_values(from: &DataType, to: &DataType) -> bool {
    use DataType::{Date32, Float32, Float64, Int8, Int16, Int32, Int64, Timestamp, UInt8, UInt16, UInt32};
    match (from, to) {
        (from, to) if from == to => true,
        (Int8, Int16 | Int32 | Int64 | Float32 | Float64) | (Int16, Int32 | Int64 | Float32 | Float64) => true,
        (Int32, Int64 | Float64) | (Float32, Float64) => true,
        (UInt8, UInt16 | UInt32 | Int16 | Int32 | Int64 | Float32 | Float64) => true,
        (UInt16, UInt32 | Int32 | Int64 | Float32 | Float64) | (UInt32, Int64 | Float64) => true,
        (Date32, Timestamp(..)) => true,
        // From a coarser unit to a finer one.
        (Timestamp(from, a), Timestamp(to, b)) => a == b && from <= to,
        _ => false,
    }
}

fn compares(op: Operator) -> bool {
    matches!(op, Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
}

fn computes(op: Operator) -> bool {
    matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide)
}
