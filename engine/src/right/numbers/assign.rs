//! Types that INSERT may put into a column of another type without a written cast.

use super::rounding;
use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result, plan_err};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{DmlStatement, Expr, ExprSchemable, LogicalPlan, Projection, Values, WriteOp};
use datafusion::optimizer::AnalyzerRule;
use std::collections::HashMap;
use std::sync::Arc;

/// Refuses numbers for dates and times, since 4 is not the fifth of January 1970, and numbers and booleans for each other. `input` is as the planner made it
/// for a table: nobody wrote the casts of its columns, and of the rows of its VALUES.
///
/// # Errors
/// Names the column and the types.
pub fn check_assigned(input: &LogicalPlan) -> Result<()> {
    let LogicalPlan::Projection(projection) = input else { return Ok(()) };
    for expr in &projection.expr {
        assigned(expr, projection.input.schema(), &expr.qualified_name().1)?;
    }
    let Some(rows) = rows_of(&projection.input) else { return Ok(()) };
    let targets = targets_below(projection, &HashMap::new());
    for row in &rows.values {
        for (expr, (_, field)) in row.iter().zip(rows.schema.iter()) {
            assigned(expr, &DFSchema::empty(), targets.get(field.name()).unwrap_or(field.name()))?;
        }
    }
    Ok(())
}

/// The rows of VALUES, perhaps with ORDER BY and LIMIT.
fn rows_of(plan: &LogicalPlan) -> Option<&Values> {
    match plan {
        LogicalPlan::Values(rows) => Some(rows),
        LogicalPlan::Sort(sort) => rows_of(&sort.input),
        LogicalPlan::Limit(limit) => rows_of(&limit.input),
        _ => None,
    }
}

/// The table's column for each column of the input of a projection. `targets`: those for its own columns; others have their names.
pub(crate) fn targets_below(projection: &Projection, targets: &HashMap<String, String>) -> HashMap<String, String> {
    let each = projection.expr.iter().flat_map(|expr| {
        let (_, name) = expr.qualified_name();
        let target = targets.get(&name).cloned().unwrap_or(name);
        expr.column_refs().into_iter().map(move |column| (column.name.clone(), target.clone()))
    });
    each.collect()
}

fn assigned(expr: &Expr, schema: &DFSchema, column: &str) -> Result<()> {
    match expr {
        Expr::Alias(alias) => assigned(&alias.expr, schema, column),
        Expr::Cast(Cast { expr, field }) => assignable(&expr.get_type(schema)?, field.data_type(), column),
        _ => Ok(()),
    }
}

fn assignable(from: &DataType, to: &DataType, column: &str) -> Result<()> {
    if from.is_numeric() && matches!(to, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..)) {
        return plan_err!("a number ({from}) cannot be put into a column of {to}: write a date or a time");
    }
    let of_truth = |of: &DataType| *of == DataType::Boolean;
    if of_truth(from) && to.is_numeric() || from.is_numeric() && of_truth(to) || !can_cast_types(from, to) {
        return plan_err!("column \"{column}\" is of type {to} but expression is of type {from}: write a CAST");
    }
    Ok(())
}

/// Casts what INSERT writes to the table's types, where the planner had taken other types for granted: set operations, CASE and the like get the type of
/// all their parts after it.
#[derive(Debug)]
pub(crate) struct Assigned;

impl AnalyzerRule for Assigned {
    fn name(&self) -> &str {
        "windlass_assigned"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        match plan {
            LogicalPlan::Dml(dml) if matches!(dml.op, WriteOp::Insert(_)) => {
                let input = Arc::new(with_types(Arc::unwrap_or_clone(dml.input), &dml.target.schema())?);
                Ok(LogicalPlan::Dml(DmlStatement { input, ..dml }))
            }
            plan => Ok(plan),
        }
    }
}

fn with_types(plan: LogicalPlan, target: &Schema) -> Result<LogicalPlan> {
    let schema = Arc::clone(plan.schema());
    let differs = |from: &Field, to: &Field| !from.data_type().equals_datatype(to.data_type());
    // Columns that are left out get defaults of another system.
    let is_whole = schema.fields().len() == target.fields().len();
    if !is_whole || !schema.fields().iter().zip(target.fields()).any(|(from, to)| differs(from, to)) {
        return Ok(plan);
    }
    let columns = schema.iter().zip(target.fields()).map(|((relation, field), to)| {
        let column = Expr::Column(Column::new(relation.cloned(), field.name()));
        if !differs(field, to) {
            return Ok(column);
        }
        assignable(field.data_type(), to.data_type(), to.name())?;
        let cast = match rounding::cast(column, to.data_type(), &schema)? {
            Transformed { data, transformed: true, .. } => data,
            Transformed { data: column, .. } => crate::time::as_time(column, field.data_type(), to.data_type()),
        };
        Ok(cast.alias_qualified(relation.cloned(), field.name()))
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
}
