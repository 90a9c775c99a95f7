//! Conditions that may fail, such as `10 / x > 4`, are computed only for rows that the other conditions of a WHERE leave.
//!
//! DataFusion computes each part of a conjunction for all rows, and a filter that was pushed down moves parts of it about, so
//! `x <> 0 AND 10 / x > 4` divides by zero. Here it becomes `x <> 0 AND CASE WHEN x <> 0 THEN 10 / x > 4 ELSE false END`.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::{BinaryExpr, Case, Cast, Exists, InSubquery};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, lit};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use std::collections::HashSet;

/// The last rule: an optimizer that sees its result takes it for the plain conjunction.
#[derive(Debug)]
pub(crate) struct GuardedConditions;

impl OptimizerRule for GuardedConditions {
    fn name(&self) -> &str {
        "windlass_guarded_conditions"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.transform_down_with_subqueries(|node| {
            Ok(match node {
                LogicalPlan::Filter(mut filter) => {
                    let schema = filter.input.schema();
                    let guarded = guarded(split_conjunction_owned(filter.predicate.clone()), schema);
                    let changed = guarded.is_some();
                    if let Some(predicate) = guarded.and_then(conjunction) {
                        filter.predicate = predicate;
                    }
                    Transformed::new_transformed(LogicalPlan::Filter(filter), changed)
                }
                LogicalPlan::TableScan(mut scan) if scan.filters.len() > 1 => {
                    let schema = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?;
                    let guarded = guarded(scan.filters.clone(), &schema);
                    let changed = guarded.is_some();
                    if let Some(filters) = guarded {
                        scan.filters = filters;
                    }
                    Transformed::new_transformed(LogicalPlan::TableScan(scan), changed)
                }
                node => Transformed::no(node),
            })
        })
    }
}

/// The conditions, with guards before those that may fail; `None` if none is guarded.
fn guarded(conditions: Vec<Expr>, schema: &DFSchema) -> Option<Vec<Expr>> {
    let may_fail: Vec<bool> = conditions.iter().map(|condition| may_fail(condition, schema)).collect();
    if !may_fail.contains(&true) || !may_fail.contains(&false) {
        return None;
    }
    let safe: Vec<&Expr> = conditions
        .iter()
        .zip(&may_fail)
        .filter(|(condition, may_fail)| !**may_fail && is_guard(condition))
        .map(|(condition, _)| condition)
        .collect();
    let mut changed = false;
    let guarded = conditions.iter().zip(&may_fail).map(|(condition, may_fail)| {
        if !may_fail {
            return condition.clone();
        }
        let columns = condition.column_refs();
        let guards = safe.iter().filter(|guard| concern(guard, &columns)).map(|guard| (*guard).clone());
        match conjunction(guards) {
            None => condition.clone(),
            Some(guard) => {
                changed = true;
                let case =
                    Case::new(None, vec![(Box::new(guard), Box::new(condition.clone()))], Some(Box::new(lit(false))));
                Expr::Case(case)
            }
        }
    });
    let guarded = guarded.collect();
    changed.then_some(guarded)
}

/// Whether a condition speaks of some of the columns, and of no other table.
fn concern(guard: &Expr, columns: &HashSet<&Column>) -> bool {
    let theirs = guard.column_refs();
    let tables: HashSet<_> = columns.iter().map(|column| &column.relation).collect();
    theirs.iter().any(|column| columns.contains(column))
        && theirs.iter().all(|column| tables.contains(&column.relation))
}

/// Whether it may be computed twice.
fn is_guard(condition: &Expr) -> bool {
    let has_subquery = condition.exists(|expr| {
        Ok(matches!(expr, Expr::Exists(Exists { .. }) | Expr::InSubquery(InSubquery { .. }) | Expr::ScalarSubquery(_)))
    });
    !condition.is_volatile() && !has_subquery.unwrap_or(true)
}

/// Whether a row may make it an error that the rows which other conditions leave do not.
fn may_fail(condition: &Expr, schema: &DFSchema) -> bool {
    // Guarded already, by whoever wrote it.
    if matches!(condition, Expr::Case(_)) || condition.is_volatile() {
        return false;
    }
    let is_safe = |divisor: &Expr| matches!(divisor, Expr::Literal(value, _) if !value.to_string().trim_matches(['0', '.', '-']).is_empty());
    let found = condition.exists(|expr| {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { op: Operator::Divide | Operator::Modulo, right, .. }) => {
                !is_safe(right) && expr.get_type(schema).is_ok_and(|of| of.is_integer() || of.is_decimal())
            }
            Expr::ScalarFunction(call) if matches!(call.func.name(), "decimal_divide" | "checked_divide") => {
                call.args.get(1).is_none_or(|divisor| !is_safe(divisor))
            }
            Expr::Cast(Cast { expr, field }) => {
                !matches!(**expr, Expr::Literal(..))
                    && !matches!(field.data_type(), DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
                    && expr
                        .get_type(schema)
                        .is_ok_and(|from| matches!(from, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8))
            }
            _ => false,
        })
    });
    found.unwrap_or(false)
}
