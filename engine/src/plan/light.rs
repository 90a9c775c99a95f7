//! Statements that need no slot: constants, which the primary computes, and single tasks that do little, which may run beside those that fill an executor.

use super::size::scanned_bytes;
use crate::connector::literal_bytes;
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NegativeExpr,
    NotExpr, TryCastExpr,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{CrossJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::memory::LazyMemoryExec;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::unnest::UnnestExec;
use std::sync::Arc;

/// Maximum bytes of literal rows and values that the primary computes with: about what a screen shows.
const CONSTANT_BYTES: usize = 64 << 10;
/// Maximum number of operators and expressions together.
const CONSTANT_NODES: usize = 1_000;
/// A task that scans more bytes than this waits for a slot.
const LIGHT_BYTES: u64 = 8 << 20;
/// Functions that are fast and whose results are no larger than their arguments.
const BRIEF: [&str; 15] = [
    "abs",
    "arrow_cast",
    "arrow_typeof",
    "coalesce",
    "date_part",
    "date_trunc",
    "length",
    "lower",
    "now",
    "nullif",
    "random",
    "upper",
    "uuid",
    "version",
    "windlass_cast_time",
];

/// Whether the plan reads nothing and its rows are few, whatever they hold.
pub(super) fn is_constant(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let (mut nodes, mut bytes, mut all) = (0, 0, true);
    let walked = plan.apply(|node| {
        nodes += 1;
        all &= match literal_bytes(node) {
            Some(size) => {
                bytes += size as usize;
                true
            }
            None => makes_no_rows(node),
        };
        node.apply_expressions(&mut |expr: &Arc<dyn PhysicalExpr>| {
            expr.apply(|expr| {
                nodes += 1;
                bytes += expr.downcast_ref::<Literal>().map_or(0, |literal| literal.value().size());
                all &= is_brief(expr);
                Ok(go_on(all))
            })
        })?;
        Ok(go_on(all && nodes <= CONSTANT_NODES && bytes <= CONSTANT_BYTES))
    });
    walked.is_ok() && all && nodes <= CONSTANT_NODES && bytes <= CONSTANT_BYTES
}

fn go_on(on: bool) -> TreeNodeRecursion {
    if on { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop }
}

/// Whether the operator outputs at most as many rows as its inputs have together, or one.
fn makes_no_rows(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.is::<PlaceholderRowExec>()
        || node.is::<EmptyExec>()
        || node.is::<ProjectionExec>()
        || node.is::<FilterExec>()
        || node.is::<UnionExec>()
        || node.is::<GlobalLimitExec>()
        || node.is::<LocalLimitExec>()
        || node.is::<CoalescePartitionsExec>()
        || node.is::<CooperativeExec>()
}

fn is_brief(expr: &Arc<dyn PhysicalExpr>) -> bool {
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        // Texts that are concatenated again and again grow without bound.
        return *binary.op() != Operator::StringConcat;
    }
    if let Some(function) = expr.downcast_ref::<ScalarFunctionExpr>() {
        return BRIEF.contains(&function.fun().name());
    }
    expr.is::<Column>()
        || expr.is::<Literal>()
        || expr.is::<CastExpr>()
        || expr.is::<TryCastExpr>()
        || expr.is::<CaseExpr>()
        || expr.is::<InListExpr>()
        || expr.is::<LikeExpr>()
        || expr.is::<NotExpr>()
        || expr.is::<NegativeExpr>()
        || expr.is::<IsNullExpr>()
        || expr.is::<IsNotNullExpr>()
}

/// Whether one task of the plan scans little, and has no operator that makes many rows from few.
pub(super) fn does_little(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let expands = plan.exists(|node| {
        Ok(node.is::<LazyMemoryExec>()
            || node.is::<RecursiveQueryExec>()
            || node.is::<CrossJoinExec>()
            || node.is::<NestedLoopJoinExec>()
            || node.is::<UnnestExec>())
    })?;
    Ok(!expands && scanned_bytes(plan) <= LIGHT_BYTES)
}
