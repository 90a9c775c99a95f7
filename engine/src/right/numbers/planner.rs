//! Planning of operators that DataFusion's planner refuses for their types, before any rule sees them.

use super::digits::Digits;
use super::{intervals, literals, operators};
use crate::right::elements;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, IntervalUnit};
use datafusion::common::utils::list_ndims;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{BinaryExpr, Cast};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use std::cmp::Ordering;

/// Maximum nesting of operators whose types are computed: for a long product that takes a time that grows with the square of its length.
const DEPTH: usize = 8;

/// Plans comparisons of times of day of different units, products and quotients of intervals and numbers, products of more than 38 decimal places, `list || 0.5`, and texts written beside booleans, dates,
/// times and intervals.
#[derive(Debug)]
pub(crate) struct NumbersPlanner;

impl ExprPlanner for NumbersPlanner {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if expr.op == BinaryOperator::StringConcat {
            return lists(expr, schema);
        }
        if matches!(
            expr.op,
            BinaryOperator::Eq
                | BinaryOperator::NotEq
                | BinaryOperator::Lt
                | BinaryOperator::LtEq
                | BinaryOperator::Gt
                | BinaryOperator::GtEq
        ) {
            return Ok(PlannerResult::Original(of_one_unit(beside_text(expr, schema), schema)));
        }
        if matches!(expr.op, BinaryOperator::Plus | BinaryOperator::Minus) {
            return Ok(PlannerResult::Original(beside_text(of_literals(expr, schema), schema)));
        }
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

/// Converts times of day of different units to one unit.
fn of_one_unit(expr: RawBinaryExpr, schema: &DFSchema) -> RawBinaryExpr {
    if is_deep(&expr.left) || is_deep(&expr.right) {
        return expr;
    }
    let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema)) else { return expr };
    let Some(to) = crate::time::time_of_day(&[left, right]) else { return expr };
    let cast = |side: Expr| Expr::Cast(Cast::new(Box::new(side), to.clone()));
    RawBinaryExpr { op: expr.op, left: cast(expr.left), right: cast(expr.right) }
}

/// Converts a text written beside a decimal to a decimal: DataFusion's planner refuses it in arithmetic.
fn of_literals(expr: RawBinaryExpr, schema: &DFSchema) -> RawBinaryExpr {
    use BinaryOperator::{Divide, Minus, Modulo, Multiply, Plus};
    let beside = |written: &Expr, other: &Expr| {
        let decimal = literals::decimal(written)?;
        (!is_deep(other) && other.get_type(schema).is_ok_and(|of| of.is_decimal())).then(|| lit(decimal))
    };
    if !matches!(expr.op, Plus | Minus | Multiply | Divide | Modulo) {
        return expr;
    }
    let beside =
        |written: &Expr, other: &Expr| beside(written, other).or_else(|| as_other(written, &expr.op, other, schema));
    let (left, right) = (beside(&expr.left, &expr.right), beside(&expr.right, &expr.left));
    RawBinaryExpr { op: expr.op, left: left.unwrap_or(expr.left), right: right.unwrap_or(expr.right) }
}

/// A written text as PostgreSQL reads it beside a value: as the value's type, but as an interval where a time is added to it.
fn as_other(written: &Expr, op: &BinaryOperator, other: &Expr, schema: &DFSchema) -> Option<Expr> {
    let Expr::Literal(ScalarValue::Utf8(Some(_)) | ScalarValue::Utf8View(Some(_)), _) = written else { return None };
    if is_deep(other) {
        return None;
    }
    let of = other.get_type(schema).ok()?;
    let is_difference = *op == BinaryOperator::Minus;
    let is_sum = *op == BinaryOperator::Plus;
    let to = match &of {
        of if of.is_integer() || of.is_floating() => of.clone(),
        DataType::Date32 | DataType::Timestamp(..) if is_difference => of.clone(),
        DataType::Timestamp(..) | DataType::Time64(_) if is_sum => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Interval(_) if is_sum || is_difference => of.clone(),
        DataType::Interval(_) => DataType::Float64,
        _ => return None,
    };
    Some(Expr::Cast(Cast::new(Box::new(written.clone()), to)))
}

/// Needed because DataFusion's planner calls its own functions, not those of the session.
fn lists(expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
    if is_deep(&expr.left) || is_deep(&expr.right) {
        return Ok(PlannerResult::Original(expr));
    }
    let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema)) else {
        return Ok(PlannerResult::Original(expr));
    };
    let name = match list_ndims(&left).cmp(&list_ndims(&right)) {
        Ordering::Equal if list_ndims(&left) == 0 => return Ok(PlannerResult::Original(expr)),
        Ordering::Equal => "array_concat",
        Ordering::Greater => "array_append",
        Ordering::Less => "array_prepend",
    };
    Ok(match elements::function(name) {
        Some(function) => PlannerResult::Planned(function.call(vec![expr.left, expr.right])),
        None => PlannerResult::Original(expr),
    })
}

/// Reads a text written beside a boolean, a date, a time or an interval as PostgreSQL does.
fn beside_text(mut expr: RawBinaryExpr, schema: &DFSchema) -> RawBinaryExpr {
    let is_text =
        |side: &Expr| matches!(side, Expr::Literal(ScalarValue::Utf8(Some(_)) | ScalarValue::Utf8View(Some(_)), _));
    let (text, other) = match (is_text(&expr.left), is_text(&expr.right)) {
        (true, false) => (&mut expr.left, &expr.right),
        (false, true) => (&mut expr.right, &expr.left),
        _ => return expr,
    };
    let Some(of) = (!is_deep(other)).then(|| other.get_type(schema).ok()).flatten() else { return expr };
    let interval = DataType::Interval(IntervalUnit::MonthDayNano);
    let to = match (&expr.op, &of) {
        (BinaryOperator::Plus, DataType::Timestamp(..) | DataType::Time64(_) | DataType::Interval(_))
        | (BinaryOperator::Minus, DataType::Interval(_)) => interval,
        (BinaryOperator::Minus, DataType::Timestamp(..) | DataType::Time64(_) | DataType::Date32) => of,
        (BinaryOperator::Plus | BinaryOperator::Minus, _) => return expr,
        (_, DataType::Boolean) => {
            *text = as_truth(std::mem::take(text));
            return expr;
        }
        (_, DataType::Interval(_) | DataType::Duration(_)) => interval,
        _ => return expr,
    };
    *text = Expr::Cast(Cast::new(Box::new(std::mem::take(text)), to));
    expr
}

/// The boolean that a text means in PostgreSQL: a digit or the beginning of a word. Any other text becomes a cast, whose error says what is allowed.
pub(super) fn as_truth(text: Expr) -> Expr {
    let word = match &text {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(|word| word.trim().to_lowercase()),
        _ => None,
    };
    let Some(word) = word else { return text };
    let begins = |whole: &str, least: usize| word.len() >= least && whole.starts_with(&word);
    if begins("true", 1) || begins("yes", 1) || begins("on", 2) || word == "1" {
        lit(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || word == "0" {
        lit(false)
    } else {
        Expr::Cast(Cast::new(Box::new(text), DataType::Boolean))
    }
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
