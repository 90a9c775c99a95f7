//! Casts that do not keep the order of their values, such as from text to numbers or from a timestamp to the time of day.
//!
//! DataFusion casts the smallest and the largest value of a file and takes the results as bounds of the cast: `max(s::int)` of '100' and '9' is 9, and
//! `t::time > '22:00'` skips files. Here such casts apply to `windlass_value(x)` ([`itself`]), which has no known bounds or order.
//!
//! A number is true if it is not zero: `x::boolean` becomes `x <> 0`.

use super::itself;
use crate::expressions::rewrite_expressions;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Cast, TryCast};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, lit};
use datafusion::optimizer::AnalyzerRule;

/// Runs when types are known and implicit casts are inserted.
#[derive(Debug)]
pub(super) struct UnorderedCasts;

impl AnalyzerRule for UnorderedCasts {
    fn name(&self) -> &str {
        "windlass_unordered_casts"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let is_cast = |expr: &Expr| matches!(expr, Expr::Cast(_) | Expr::TryCast(_));
        rewrite_expressions(plan, &|expr| expr.exists(|part| Ok(is_cast(part))), &|expr, schema| {
            expr.transform_up(|expr| unordered(expr, schema))
        })
    }
}

fn unordered(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (of, to) = match &expr {
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => (expr, field.data_type()),
        _ => return Ok(Transformed::no(expr)),
    };
    if matches!(**of, Expr::Literal(..)) || itself::is_value(of) {
        return Ok(Transformed::no(expr));
    }
    let Ok(from) = of.get_type(schema) else { return Ok(Transformed::no(expr)) };
    if keeps_order(&from, to) {
        return Ok(Transformed::no(expr));
    }
    if *to == DataType::Boolean && from.is_numeric() {
        let zero = lit(ScalarValue::new_zero(&from)?);
        return Ok(Transformed::yes(of.as_ref().clone().not_eq(zero)));
    }
    Ok(Transformed::yes(match expr {
        Expr::Cast(Cast { expr, field }) => Expr::Cast(Cast { expr: Box::new(itself::value(*expr)), field }),
        Expr::TryCast(TryCast { expr, field }) => {
            Expr::TryCast(TryCast { expr: Box::new(itself::value(*expr)), field })
        }
        other => other,
    }))
}

/// Whether a larger value never becomes a smaller one.
fn keeps_order(from: &DataType, to: &DataType) -> bool {
    use DataType::{Binary, BinaryView, Boolean, LargeBinary, LargeUtf8, Null, Time32, Time64, Utf8, Utf8View};
    let is_text = |of: &DataType| matches!(of, Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView);
    let is_clock = |of: &DataType| matches!(of, Time32(_) | Time64(_));
    match (from, to) {
        (from, to) if from == to => true,
        (DataType::Dictionary(_, from), to) => keeps_order(from, to),
        (from, DataType::Dictionary(_, to)) => keeps_order(from, to),
        (Null, _) => true,
        (from, to) if is_text(from) || is_text(to) => is_text(from) && is_text(to),
        (from, to) if is_clock(to) => is_clock(from) || from.is_integer(),
        (from, Boolean) => !from.is_numeric(),
        _ => true,
    }
}
