//! What INSERT may put into a column of another type without a cast that is written.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{DmlStatement, Expr, ExprSchemable, LogicalPlan, WriteOp};

/// Refuses numbers for dates and times: 4 is not the fifth of January 1970.
///
/// # Errors
/// Names the types.
pub(super) fn check(node: &LogicalPlan) -> Result<()> {
    let LogicalPlan::Dml(DmlStatement { op: WriteOp::Insert(_), input, .. }) = node else { return Ok(()) };
    let LogicalPlan::Projection(projection) = input.as_ref() else { return Ok(()) };
    for expr in &projection.expr {
        assigned(expr, projection.input.schema())?;
    }
    if let LogicalPlan::Values(rows) = projection.input.as_ref() {
        let nothing = DFSchema::empty();
        for expr in rows.values.iter().flatten() {
            assigned(expr, &nothing)?;
        }
    }
    Ok(())
}

fn assigned(expr: &Expr, schema: &DFSchema) -> Result<()> {
    let expr = match expr {
        Expr::Alias(alias) => alias.expr.as_ref(),
        expr => expr,
    };
    let Expr::Cast(Cast { expr, field }) = expr else { return Ok(()) };
    let (from, to) = (expr.get_type(schema)?, field.data_type());
    if from.is_numeric() && matches!(to, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..)) {
        return plan_err!("a number ({from}) cannot be put into a column of {to}: write a date or a time");
    }
    Ok(())
}
