//! Errors in the values of written rows, which name the column and the row. Executors put this into a plan that is about to run; it is never encoded or shown.

use super::SinkExec;
use crate::failure;
use crate::ops::{of_one_expr, with_children};
use arrow::array::{BooleanArray, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use windlass_core::failure::TaskFailure;

/// Maximum letters of a row, and of one of its values, in an error.
const ROW: usize = 300;
const VALUE: usize = 60;

/// Returns `plan`, the root of a stage, with expressions that name their column in errors, if it writes rows.
pub(crate) fn named(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(sink) = plan.downcast_ref::<SinkExec>() {
        return match rows(sink.input())? {
            Some(rows) => with_children(plan, vec![rows]),
            None => Ok(plan),
        };
    }
    // Stages that need scalar subqueries have them above their own root.
    match plan.downcast_ref::<ScalarSubqueryExec>() {
        Some(node) => {
            let mut children: Vec<_> = plan.children().into_iter().cloned().collect();
            children[0] = named(Arc::clone(node.input()))?;
            with_children(plan, children)
        }
        None => Ok(plan),
    }
}

/// The rows that `plan` computes, with such expressions. `None`: they are computed elsewhere, or not at all.
fn rows(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(computed) = plan.downcast_ref::<ProjectionExec>() {
        let exprs = computed.expr().iter().map(|of| ProjectionExpr {
            expr: NamedExpr::around(&of.expr, Arc::clone(&of.expr), &of.alias),
            alias: of.alias.clone(),
        });
        let computed = ProjectionExec::try_new(exprs.collect::<Vec<_>>(), Arc::clone(computed.input()))?;
        return Ok(Some(Arc::new(computed)));
    }
    if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
        return scanned(scan);
    }
    let passes = plan.is::<CoalescePartitionsExec>() || plan.is::<RepartitionExec>();
    match plan.children().as_slice() {
        [input] if passes => rows(input)?.map(|input| with_children(Arc::clone(plan), vec![input])).transpose(),
        _ => Ok(None),
    }
}

/// A scan of files that computes columns.
fn scanned(scan: &DataSourceExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(files) = scan.data_source().downcast_ref::<FileScanConfig>() else { return Ok(None) };
    let Some(computed) = files.file_source().projection() else { return Ok(None) };
    // It is merged with the projection that is there.
    let again = computed.iter().enumerate().map(|(at, of)| ProjectionExpr {
        expr: NamedExpr::around(&of.expr, Arc::new(Column::new(&of.alias, at)), &of.alias),
        alias: of.alias.clone(),
    });
    let source = files.file_source().try_pushdown_projection(&ProjectionExprs::new(again))?;
    let files = |source| FileScanConfigBuilder::from(files.clone()).with_source(source).build();
    Ok(source.map(|source| DataSourceExec::from_data_source(files(source)) as Arc<dyn ExecutionPlan>))
}

/// A value of a column.
#[derive(Debug)]
struct NamedExpr {
    inner: Arc<dyn PhysicalExpr>,
    column: String,
}

impl NamedExpr {
    /// `inner`, which `computed` computes, under the name of its column where it can fail.
    fn around(computed: &Arc<dyn PhysicalExpr>, inner: Arc<dyn PhysicalExpr>, column: &str) -> Arc<dyn PhysicalExpr> {
        match computed.is::<Column>() || computed.is::<Literal>() {
            true => inner,
            false => Arc::new(NamedExpr { inner, column: column.to_string() }),
        }
    }

    /// Says which row of `batch` fails, and its values.
    fn explained(&self, error: DataFusionError, batch: &RecordBatch) -> DataFusionError {
        let TaskFailure::UserError { message } = failure::classify(&error) else { return error };
        let fails = |row: &usize| self.inner.evaluate(&batch.slice(*row, 1)).is_err();
        let failing = (0..batch.num_rows()).find(fails).map(|row| shown(&batch.slice(row, 1))).unwrap_or_default();
        exec_datafusion_err!("{} (column '{}'{failing})", message, self.column)
    }
}

/// The first row of `batch` as an error shows it.
fn shown(batch: &RecordBatch) -> String {
    let options = FormatOptions::default().with_null("NULL");
    let mut text = String::new();
    for (field, values) in batch.schema().fields().iter().zip(batch.columns()) {
        let Ok(formatter) = ArrayFormatter::try_new(values, &options) else { continue };
        let value: String = formatter.value(0).to_string().chars().take(VALUE).collect();
        let before = if text.is_empty() { " of the row with " } else { ", " };
        text.push_str(&format!("{before}{} = {value}", field.name()));
        if text.chars().count() > ROW {
            text.push_str(", …");
            break;
        }
    }
    text
}

impl fmt::Display for NamedExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PartialEq for NamedExpr {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner) && self.column == other.column
    }
}

impl Eq for NamedExpr {}

impl Hash for NamedExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
        self.column.hash(state);
    }
}

impl PhysicalExpr for NamedExpr {
    of_one_expr!(|this, inner| Self { inner, column: this.column.clone() });

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.inner.evaluate(batch).map_err(|error| self.explained(error, batch))
    }

    fn evaluate_selection(&self, batch: &RecordBatch, selection: &BooleanArray) -> Result<ColumnarValue> {
        self.inner.evaluate_selection(batch, selection).map_err(|error| self.explained(error, batch))
    }
}
