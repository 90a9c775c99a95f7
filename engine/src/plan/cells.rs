//! Errors in the rows of VALUES that a statement writes, which name the column and the row: rows of literals are computed while the statement is planned.

use crate::failure::message;
use crate::right::numbers::targets_below;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, DataFusionError, Result, plan_datafusion_err};
use datafusion::logical_expr::{Expr, LogicalPlan, Values};
use std::collections::HashMap;
use std::sync::Arc;

/// Says which value of a statement was wrong, if `error` is of one that it writes.
pub(super) fn explained(session: &dyn Session, plan: &LogicalPlan, error: DataFusionError) -> DataFusionError {
    if !matches!(plan, LogicalPlan::Dml(_) | LogicalPlan::Copy(_)) {
        return error;
    }
    match written(plan).and_then(|(rows, columns)| failing(session, rows, &columns)) {
        Some(what) => plan_datafusion_err!("{} ({what})", message(&error)),
        None => error,
    }
}

/// The rows that are written, and what the written columns are called.
fn written(plan: &LogicalPlan) -> Option<(&Values, Vec<String>)> {
    let (mut node, mut names) = (plan, HashMap::<String, String>::new());
    loop {
        match node {
            LogicalPlan::Values(rows) => {
                let fields = rows.schema.fields().iter();
                let called = |name: &String| names.get(name).unwrap_or(name).clone();
                return Some((rows, fields.map(|field| called(field.name())).collect()));
            }
            LogicalPlan::Projection(projection) => names = targets_below(projection, &names),
            _ => {}
        }
        let inputs = node.inputs();
        let [input] = inputs.as_slice() else { return None };
        node = input;
    }
}

/// The first value that cannot be computed.
fn failing(session: &dyn Session, rows: &Values, columns: &[String]) -> Option<String> {
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).ok()?;
    let nothing = DFSchema::empty();
    let fails = |expr: &Expr| -> Result<bool> {
        Ok(session.create_physical_expr(expr.clone(), &nothing)?.evaluate(&row).is_err())
    };
    let mut cells =
        rows.values.iter().enumerate().flat_map(|(at, row)| row.iter().zip(columns).map(move |of| (at, of)));
    cells.find_map(|(at, (expr, column))| {
        fails(expr).unwrap_or(false).then(|| format!("column '{column}' of row {}", at + 1))
    })
}
