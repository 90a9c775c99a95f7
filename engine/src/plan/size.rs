//! Estimates of the bytes that a plan reads and outputs.

use crate::connector::leaf;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ScalarValue, Statistics};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use std::sync::Arc;

/// Bytes of a hash table entry besides its row.
const ENTRY_BYTES: usize = 16;
/// Assumed bytes of a value of a type without a fixed width.
const VALUE_BYTES: usize = 20;
/// Target bytes of a batch of wide rows.
const BATCH_BYTES: usize = 4 << 20;
/// Assumed bytes of a text that is repeated.
const SHORT_TEXT: usize = 16;
/// Bytes from which a constant counts; a smaller one is part of any row.
const LARGE_CONSTANT: usize = 256;

pub(super) fn statistics(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<Statistics>> {
    StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new()).ok()
}

/// Rows per batch, at most `most`, such that batches of the rows that `plan` scans, with constants of `constants` bytes, hold a few MiB. Operators hold
/// several batches, and a sort that merges spilled runs holds two of each run. Rows of files that do not state the bytes of their columns count as narrow.
pub(super) fn rows_at_once(plan: &Arc<dyn ExecutionPlan>, constants: usize, most: usize) -> usize {
    let fitting = |width: usize| (BATCH_BYTES / width.max(1)).max(1);
    let mut rows = most.min(fitting(constants));
    let walked = plan.apply(|node| {
        if leaf(node).is_some()
            && let Some(width) = row_bytes(node)
        {
            rows = rows.min(fitting(width));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok(), "the closure does not fail");
    rows
}

/// Approximate bytes of the texts that a function makes, where its arguments say so.
fn text_bytes(function: &str, args: &[Expr]) -> usize {
    let (count, of_one) = match function {
        "repeat" => (args.get(1), SHORT_TEXT),
        "lpad" | "rpad" => (args.get(1), 1),
        "space" => (args.first(), 1),
        _ => return 0,
    };
    match count {
        Some(Expr::Literal(count, _)) => match count.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(Some(count))) => usize::try_from(count).unwrap_or(0).saturating_mul(of_one),
            _ => 0,
        },
        _ => 0,
    }
}

/// Bytes of the largest values that expressions of `plan` hold or make. Each output row has them.
pub(super) fn constant_bytes(plan: &LogicalPlan) -> usize {
    let mut most = 0;
    let walked = plan.apply(|node| {
        if matches!(node, LogicalPlan::Values(_)) {
            return Ok(TreeNodeRecursion::Jump);
        }
        let mut bytes = 0;
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                let made = match expr {
                    Expr::Literal(value, _) => value.size(),
                    Expr::ScalarFunction(call) => text_bytes(call.func.name(), &call.args),
                    _ => 0,
                };
                bytes += if made >= LARGE_CONSTANT { made } else { 0 };
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        most = most.max(bytes);
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok(), "the closure does not fail");
    most
}

/// Average bytes of a row of a scan in memory.
fn row_bytes(scan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    let statistics = statistics(scan)?;
    let rows = *statistics.num_rows.get_value()?;
    let columns = statistics.column_statistics.iter().filter_map(|column| column.byte_size.get_value());
    columns.sum::<usize>().checked_div(rows)
}

/// Bytes of a hash table of all rows. `None`: the number of rows is unknown.
pub(super) fn estimated_bytes(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    table_bytes(plan, *statistics(plan)?.num_rows.get_value()?)
}

/// Bytes of a hash table of `rows` rows.
pub(super) fn table_bytes(plan: &Arc<dyn ExecutionPlan>, rows: usize) -> Option<usize> {
    let schema = plan.schema();
    let width = schema.fields().iter().map(|field| field.data_type().primitive_width().unwrap_or(VALUE_BYTES));
    rows.checked_mul(width.sum::<usize>() + ENTRY_BYTES)
}

/// Bytes that the scans of `plan` cover, before projection and pruning inside files.
pub(crate) fn scanned_bytes(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let mut bytes = 0;
    let walked = plan.apply(|node| {
        bytes += leaf(node).map_or(0, |leaf| leaf.bytes());
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok(), "the closure does not fail");
    bytes
}
