//! Operators whose types DataFusion's planner refuses before any rule sees them.

use super::digits::Digits;
use super::{intervals, literals, operators};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, IntervalUnit};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// Operators upon operators whose types are not asked for: that takes a time that grows with the square of a long product.
const DEPTH: usize = 8;

/// Plans products and quotients of intervals and numbers, and products of more than 38 decimal places.
#[derive(Debug)]
pub(crate) struct NumbersPlanner;

impl ExprPlanner for NumbersPlanner {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let expr = of_literals(expr, schema);
        let is_product = expr.op == BinaryOperator::Multiply;
        if !(is_product || expr.op == BinaryOperator::Divide) || is_deep(&expr.left) || is_deep(&expr.right) {
            return Ok(PlannerResult::Original(expr));
        }
        let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema)) else {
            return Ok(PlannerResult::Original(expr));
        };
        let month_day_nano = DataType::Interval(IntervalUnit::MonthDayNano);
        let planned = match (&left, &right) {
            (DataType::Interval(_), number) if number.is_numeric() => {
                let interval = expr.left.cast_to(&month_day_nano, schema)?;
                intervals::scale(interval, expr.right.cast_to(&DataType::Float64, schema)?, !is_product)
            }
            (number, DataType::Interval(_)) if number.is_numeric() && is_product => {
                let interval = expr.right.cast_to(&month_day_nano, schema)?;
                intervals::scale(interval, expr.left.cast_to(&DataType::Float64, schema)?, false)
            }
            (left, right) if is_product && left.is_decimal() && right.is_decimal() => {
                let (Some(a), Some(b)) = (Digits::of(left), Digits::of(right)) else {
                    return Ok(PlannerResult::Original(expr));
                };
                let scale = i16::from(a.scale) + i16::from(b.scale);
                if scale <= i16::from(DECIMAL128_MAX_PRECISION) || operators::product(a, b).is_none() {
                    return Ok(PlannerResult::Original(expr));
                }
                let wide = operators::widths(a, b);
                let left = expr.left.cast_to(&a.data_type(wide), schema)?;
                operators::multiply(left, expr.right.cast_to(&b.data_type(wide), schema)?)
            }
            _ => return Ok(PlannerResult::Original(expr)),
        };
        Ok(PlannerResult::Planned(planned))
    }
}

/// With a decimal for a text that is written beside one, which DataFusion's planner refuses in arithmetic.
fn of_literals(expr: RawBinaryExpr, schema: &DFSchema) -> RawBinaryExpr {
    use BinaryOperator::{Divide, Minus, Modulo, Multiply, Plus};
    let beside = |written: &Expr, other: &Expr| {
        let decimal = literals::decimal(written)?;
        (!is_deep(other) && other.get_type(schema).is_ok_and(|of| of.is_decimal())).then(|| lit(decimal))
    };
    if !matches!(expr.op, Plus | Minus | Multiply | Divide | Modulo) {
        return expr;
    }
    let (left, right) = (beside(&expr.left, &expr.right), beside(&expr.right, &expr.left));
    RawBinaryExpr { op: expr.op, left: left.unwrap_or(expr.left), right: right.unwrap_or(expr.right) }
}

fn is_deep(expr: &Expr) -> bool {
    let mut expr = expr;
    for _ in 0..DEPTH {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, .. }) => expr = left,
            _ => return false,
        }
    }
    true
}
