//! What INSERT may put into a column of another type without a cast that is written.

use super::align;
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{DmlStatement, Expr, ExprSchemable, LogicalPlan, WriteOp};
use std::sync::Arc;

/// Refuses numbers for dates and times: 4 is not the fifth of January 1970.
///
/// # Errors
/// Names the types.
pub(super) fn check(node: &LogicalPlan) -> Result<()> {
    let LogicalPlan::Dml(DmlStatement { op: WriteOp::Insert(_), input, .. }) = node else { return Ok(()) };
    let mut input = input;
    while let LogicalPlan::Projection(projection) = input.as_ref() {
        for expr in &projection.expr {
            assigned(expr, projection.input.schema())?;
        }
        input = &projection.input;
    }
    if let LogicalPlan::Values(rows) = input.as_ref() {
        let nothing = DFSchema::empty();
        for expr in rows.values.iter().flatten() {
            assigned(expr, &nothing)?;
        }
    }
    Ok(())
}

/// `node` with numbers of the types that the table has, if types below it have changed.
pub(super) fn cast_input(node: LogicalPlan, types_changed: bool) -> Result<LogicalPlan> {
    let LogicalPlan::Dml(dml) = node else { return Ok(node) };
    if !types_changed || !matches!(dml.op, WriteOp::Insert(_)) {
        return Ok(LogicalPlan::Dml(dml));
    }
    let target = dml.target.schema();
    let wanted = target.fields().iter().zip(dml.input.schema().fields()).map(|(to, from)| {
        let differs =
            from.data_type() != to.data_type() && from.data_type().is_numeric() && to.data_type().is_numeric();
        differs.then(|| to.data_type().clone())
    });
    let wanted: Vec<_> = wanted.collect();
    if wanted.len() != dml.input.schema().fields().len() {
        return Ok(LogicalPlan::Dml(dml));
    }
    let input = align::cast_columns(Arc::unwrap_or_clone(dml.input), &wanted)?;
    Ok(LogicalPlan::Dml(DmlStatement { input: Arc::new(input), ..dml }))
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
