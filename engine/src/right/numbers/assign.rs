//! Types that INSERT may put into a column of another type without a written cast.

use super::align;
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{DmlStatement, Expr, ExprSchemable, LogicalPlan, Projection, WriteOp};
use std::collections::HashMap;
use std::sync::Arc;

/// Refuses numbers for dates and times, since 4 is not the fifth of January 1970, and numbers and booleans for each other.
///
/// # Errors
/// Names the types.
pub(super) fn check(node: &LogicalPlan) -> Result<()> {
    let LogicalPlan::Dml(DmlStatement { op: WriteOp::Insert(_), input, .. }) = node else { return Ok(()) };
    let mut input = input;
    // The table's column for each column of the input.
    let mut targets: HashMap<String, String> = HashMap::new();
    while let LogicalPlan::Projection(projection) = input.as_ref() {
        for expr in &projection.expr {
            assigned(expr, projection.input.schema(), &target_of(expr, &targets))?;
        }
        (input, targets) = (&projection.input, targets_below(projection, &targets));
    }
    if let LogicalPlan::Values(rows) = input.as_ref() {
        let nothing = DFSchema::empty();
        for row in &rows.values {
            for (expr, (_, field)) in row.iter().zip(rows.schema.iter()) {
                assigned(expr, &nothing, targets.get(field.name()).unwrap_or(field.name()))?;
            }
        }
    }
    Ok(())
}

/// The table's column for each column of the input of a projection. `targets`: those for its own columns; others have their names.
pub(crate) fn targets_below(projection: &Projection, targets: &HashMap<String, String>) -> HashMap<String, String> {
    let each = projection.expr.iter().flat_map(|expr| {
        let target = target_of(expr, targets);
        expr.column_refs().into_iter().map(move |column| (column.name.clone(), target.clone()))
    });
    each.collect()
}

fn target_of(expr: &Expr, targets: &HashMap<String, String>) -> String {
    let (_, name) = expr.qualified_name();
    targets.get(&name).cloned().unwrap_or(name)
}

/// `node` with numbers cast to the table's types, if types below it have changed.
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

fn assigned(expr: &Expr, schema: &DFSchema, column: &str) -> Result<()> {
    let expr = match expr {
        Expr::Alias(alias) => alias.expr.as_ref(),
        expr => expr,
    };
    let Expr::Cast(Cast { expr, field }) = expr else { return Ok(()) };
    let (from, to) = (expr.get_type(schema)?, field.data_type());
    if from.is_numeric() && matches!(to, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..)) {
        return plan_err!("a number ({from}) cannot be put into a column of {to}: write a date or a time");
    }
    let of_truth = |of: &DataType| *of == DataType::Boolean;
    if of_truth(&from) && to.is_numeric() || from.is_numeric() && of_truth(to) {
        return plan_err!("column \"{column}\" is of type {to} but expression is of type {from}: write a CAST");
    }
    Ok(())
}
