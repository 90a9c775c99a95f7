//! Conditions that may fail, such as `10 / x > 4`, are computed only for rows that the other conditions of a WHERE leave.
//!
//! DataFusion computes each part of a conjunction for all rows, and a filter that was pushed down moves parts of it about, so
//! `x <> 0 AND 10 / x > 4` divides by zero. Here it becomes `x <> 0 AND CASE WHEN x <> 0 THEN 10 / x > 4 ELSE false END`.
//!
//! Of a CASE of conditions, also one that was written, DataFusion makes AND and OR again. So it becomes one of the numbers 0 and 1.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::{BinaryExpr, Case, Cast, Exists, InSubquery};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, lit,
};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::physical_expr_common::datum::apply;
use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

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
                let guarded = vec![(Box::new(guard), Box::new(condition.clone()))];
                of_numbers(Case::new(None, guarded, Some(Box::new(lit(false)))))
            }
        }
    });
    let guarded = guarded.collect();
    changed.then_some(guarded)
}

/// A CASE of conditions as a condition that stays one of a CASE.
pub(super) fn of_numbers(case: Case) -> Expr {
    let number = |condition: Box<Expr>| Box::new(Expr::Cast(Cast::new(condition, DataType::Int8)));
    let Case { expr, when_then_expr, else_expr } = case;
    let branches = when_then_expr.into_iter().map(|(when, then)| (when, number(then)));
    IS_ONE.call(vec![Expr::Case(Case::new(expr, branches.collect(), else_expr.map(number)))])
}

/// Whether it is what [`of_numbers`] makes.
fn is_of_numbers(condition: &Expr) -> bool {
    matches!(condition, Expr::ScalarFunction(call) if call.func.name() == IS_ONE.name())
}

static IS_ONE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let signature = Signature::exact(vec![DataType::Int8], Volatility::Immutable);
    Arc::new(ScalarUDF::from(IsOne { signature }))
});

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![Arc::clone(&IS_ONE)]
}

/// Of `CASE … END = 1` with branches that are constants, DataFusion makes AND and OR too.
#[derive(Debug, PartialEq, Eq, Hash)]
struct IsOne {
    signature: Signature,
}

impl ScalarUDFImpl for IsOne {
    fn name(&self) -> &str {
        "is_one"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [number] = args.args.as_slice() else { return internal_err!("is_one takes a number") };
        apply(number, &ColumnarValue::Scalar(ScalarValue::Int8(Some(1))), |number, one| {
            Ok(Arc::new(arrow::compute::kernels::cmp::eq(number, one)?))
        })
    }
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
pub(super) fn may_fail(condition: &Expr, schema: &DFSchema) -> bool {
    // Guarded already, by whoever wrote it.
    if matches!(condition, Expr::Case(_)) || is_of_numbers(condition) || condition.is_volatile() {
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
