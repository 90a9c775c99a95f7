//! Guards for conditions that may fail, such as `10 / x > 4`: they are computed only for rows that the other conditions leave.
//!
//! DataFusion computes each part of AND and OR for all rows, and filter pushdown reorders the parts.
//!
//! - All conditions of WHERE, HAVING and ON must be true, in whatever order they are written ([`GuardedConditions`]): `x <> 0 AND 10 / x > 4` becomes `x <> 0
//!   AND CASE WHEN x <> 0 THEN 10 / x > 4 ELSE false END`.
//! - Everywhere else AND and OR are computed from left to right, as in PostgreSQL ([`LeftToRight`]): `x = 0 OR 10 / x > 4` becomes `CASE WHEN x = 0 THEN true
//!   ELSE x = 0 OR 10 / x > 4 END`; its ELSE gives the right result for a NULL on the left.
//!
//! DataFusion turns a CASE of conditions, also one written in the statement, back into AND and OR. So such a CASE becomes one of the numbers 0 and 1.

use super::digits::{Digits, is_float};
use crate::expressions::in_node;
use crate::right::itself;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality, Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::{BinaryExpr, Case, Cast, Exists, InSubquery};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Join, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::optimizer::{AnalyzerRule, OptimizerConfig, OptimizerRule};
use datafusion::physical_expr_common::datum::apply;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

/// Must be the last rule: an optimizer that sees its result takes it for the plain conjunction.
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
                    let sources = Sources::of(&filter.input);
                    let schema = filter.input.schema();
                    let guarded = guarded(split_conjunction_owned(filter.predicate.clone()), schema, &sources);
                    let changed = guarded.is_some();
                    if let Some(predicate) = guarded.and_then(conjunction) {
                        filter.predicate = predicate;
                    }
                    Transformed::new_transformed(LogicalPlan::Filter(filter), changed)
                }
                LogicalPlan::TableScan(mut scan) if scan.filters.len() > 1 => {
                    let schema = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?;
                    let guarded = guarded(scan.filters.clone(), &schema, &Sources::default());
                    let changed = guarded.is_some();
                    if let Some(filters) = guarded {
                        scan.filters = filters;
                    }
                    Transformed::new_transformed(LogicalPlan::TableScan(scan), changed)
                }
                LogicalPlan::Join(mut join) => {
                    let changed = guard_join(&mut join)?;
                    Transformed::new_transformed(LogicalPlan::Join(join), changed)
                }
                node => Transformed::no(node),
            })
        })
    }
}

/// Guards the conditions and the keys of a join. A key that is NULL equals none.
fn guard_join(join: &mut Join) -> Result<bool> {
    let Some(filter) = join.filter.clone() else { return Ok(false) };
    let mut schema = join.left.schema().as_ref().clone();
    schema.merge(join.right.schema());
    let conditions = split_conjunction_owned(filter);
    let of_none = Sources::default();
    let mut changed = false;
    let is_plain = matches!(join.join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full);
    if is_plain && join.null_equality == NullEquality::NullEqualsNothing {
        for key in join.on.iter_mut().flat_map(|(left, right)| [left, right]) {
            if !may_fail(key, &schema) {
                continue;
            }
            let columns = of_none.columns(key);
            let guards = conditions
                .iter()
                .filter(|guard| is_guard(guard) && !may_fail(guard, &schema) && concern(guard, &columns, &of_none));
            let Some(guard) = conjunction(guards.cloned()) else { continue };
            let guarded = vec![(Box::new(guard), Box::new(key.clone()))];
            *key = Expr::Case(Case::new(None, guarded, None));
            changed = true;
        }
    }
    let conditions = match guarded(conditions.clone(), &schema, &of_none) {
        Some(guarded) => {
            changed = true;
            guarded
        }
        None => conditions,
    };
    let mut kept = Vec::new();
    for condition in conditions {
        let is_guarded = condition.exists(|expr| Ok(is_of_numbers(expr)))?;
        let kept_together = is_guarded && !condition.exists(|expr| Ok(itself::is_beside(expr)))?;
        changed |= kept_together;
        kept.push(if kept_together { together(condition, join)? } else { condition });
    }
    join.filter = conjunction(kept);
    Ok(changed)
}

/// A condition whose parts all refer to both sides. For nested loops DataFusion computes parts of one side for all rows of that side, even inside CASE.
fn together(condition: Expr, join: &Join) -> Result<Expr> {
    let (left, right) = (join.left.schema(), join.right.schema());
    let first = |schema: &DFSchema| schema.columns().into_iter().next();
    condition
        .transform_up(|expr| {
            let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
            let other = if left.has_column(column) { first(right) } else { first(left) };
            Ok(match other {
                Some(other) => Transformed::yes(itself::beside(expr, Expr::Column(other))),
                None => Transformed::no(expr),
            })
        })
        .data()
}

/// Maximum levels of AND in OR in AND that are guarded: each level computes its left part twice.
const LEVELS: usize = 6;

/// Runs before the optimizer, and skips conditions that must be true as a whole: see [`GuardedConditions`].
#[derive(Debug)]
pub(crate) struct LeftToRight;

impl AnalyzerRule for LeftToRight {
    fn name(&self) -> &str {
        "windlass_left_to_right"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let of_conditions = matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Join(_));
            let concerns =
                |expr: &Expr| Ok(may_have_to_be_guarded(expr)? || expr.exists(|part| Ok(filter_of(part).is_some()))?);
            in_node(node, &concerns, &|expr, schema| {
                Ok(Transformed::yes(match of_conditions {
                    true => {
                        let parts = split_conjunction_owned(expr).into_iter();
                        let parts = parts.map(|part| left_to_right(part, schema, LEVELS));
                        chain(parts.collect::<Result<Vec<_>>>()?, Operator::And)
                    }
                    false => {
                        let expr = expr.transform_up(|expr| filtered(expr, schema)).data()?;
                        left_to_right(expr, schema, LEVELS)?
                    }
                }))
            })
        })
        .data()
    }
}

/// The FILTER of an aggregate.
fn filter_of(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::AggregateFunction(function) => function.params.filter.as_deref(),
        Expr::WindowFunction(function) => function.params.filter.as_deref(),
        _ => None,
    }
}

/// Guards an aggregate: its arguments and keys are computed only for rows that pass its FILTER.
fn filtered(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Some(filter) = filter_of(&expr).filter(|filter| is_guard(filter) && !may_fail(filter, schema)).cloned() else {
        return Ok(Transformed::no(expr));
    };
    let mut changed = false;
    let mut guard = |part: &mut Expr| -> Result<()> {
        if !may_fail(part, schema) {
            return Ok(());
        }
        changed = true;
        let of_conditions = part.get_type(schema)? == DataType::Boolean;
        let when = vec![(Box::new(filter.clone()), Box::new(std::mem::take(part)))];
        let case = Case::new(None, when, None);
        *part = if of_conditions { of_numbers(case) } else { Expr::Case(case) };
        Ok(())
    };
    let expr = match expr {
        Expr::AggregateFunction(mut function) => {
            function.params.args.iter_mut().try_for_each(&mut guard)?;
            function.params.order_by.iter_mut().try_for_each(|by| guard(&mut by.expr))?;
            Expr::AggregateFunction(function)
        }
        Expr::WindowFunction(mut function) => {
            function.params.args.iter_mut().try_for_each(&mut guard)?;
            Expr::WindowFunction(function)
        }
        other => other,
    };
    Ok(Transformed::new_transformed(expr, changed))
}

/// Whether the expression has AND or OR above a part that fails for some values.
fn may_have_to_be_guarded(expr: &Expr) -> Result<bool> {
    let fails = |expr: &Expr| {
        Ok(match expr {
            Expr::BinaryExpr(binary) => matches!(binary.op, Operator::Divide | Operator::Modulo),
            Expr::ScalarFunction(call) => {
                let name = call.func.name();
                DIVIDES.contains(&name) || CASTS.contains(&name) || OF_SOME_VALUES.contains(&name)
            }
            Expr::Cast(_) => true,
            _ => false,
        })
    };
    Ok(expr.exists(|expr| Ok(is_chain(expr)))? && expr.exists(fails)?)
}

fn is_chain(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryExpr(BinaryExpr { op: Operator::And | Operator::Or, .. }))
}

/// `expr` with guards in its chains of AND and OR.
fn left_to_right(expr: Expr, schema: &DFSchema, levels: usize) -> Result<Expr> {
    if levels == 0 {
        return Ok(expr);
    }
    expr.transform_down(|expr| {
        let op = match &expr {
            Expr::BinaryExpr(BinaryExpr { op: op @ (Operator::And | Operator::Or), .. }) => *op,
            _ => return Ok(Transformed::no(expr)),
        };
        if !may_fail(&expr, schema) {
            return Ok(Transformed::new(expr, false, TreeNodeRecursion::Jump));
        }
        let mut parts = Vec::new();
        let mut open = vec![expr];
        while let Some(next) = open.pop() {
            match next {
                Expr::BinaryExpr(BinaryExpr { left, op: of, right }) if of == op => open.extend([*right, *left]),
                part => parts.push(left_to_right(part, schema, levels - 1)?),
            }
        }
        Ok(Transformed::new(in_order(parts, op, schema), true, TreeNodeRecursion::Jump))
    })
    .data()
}

/// Joins the parts with `op` as a shallow tree.
fn chain(mut parts: Vec<Expr>, op: Operator) -> Expr {
    let binary = |left, right| Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
    while parts.len() > 1 {
        let mut pairs = parts.into_iter();
        let mut combined = Vec::new();
        while let Some(left) = pairs.next() {
            combined.push(match pairs.next() {
                Some(right) => binary(left, right),
                None => left,
            });
        }
        parts = combined;
    }
    parts.pop().unwrap_or_else(|| lit(op == Operator::And))
}

/// A chain of parts. If one of them may fail, each is computed only where the parts before it do not decide.
fn in_order(parts: Vec<Expr>, op: Operator, schema: &DFSchema) -> Expr {
    let failing = parts.iter().enumerate().skip(1).filter(|(_, part)| may_fail(part, schema));
    let failing: Vec<usize> = failing.map(|(at, _)| at).collect();
    let last = failing.last().copied().unwrap_or(0);
    if last == 0 || !parts[..last].iter().all(is_guard) {
        return chain(parts, op);
    }
    // The parts before one that may fail decide together.
    let mut whens = Vec::new();
    let mut from = 0;
    for at in failing {
        let before = chain(parts[from..at].to_vec(), op);
        let decides = if op == Operator::And { Expr::Not(Box::new(before)) } else { before };
        whens.push((Box::new(decides), Box::new(lit(op == Operator::Or))));
        from = at;
    }
    of_numbers(Case::new(None, whens, Some(Box::new(chain(parts, op)))))
}

/// The conditions, each that may fail with guards before it; `None` if none is guarded.
fn guarded(conditions: Vec<Expr>, schema: &DFSchema, sources: &Sources) -> Option<Vec<Expr>> {
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
        let columns = sources.columns(condition);
        let guards = safe.iter().filter(|guard| concern(guard, &columns, sources)).map(|guard| (*guard).clone());
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

/// A CASE of conditions as a condition that DataFusion leaves a CASE.
pub(super) fn of_numbers(case: Case) -> Expr {
    let number = |condition: Box<Expr>| Box::new(Expr::Cast(Cast::new(condition, DataType::Int8)));
    let Case { expr, when_then_expr, else_expr } = case;
    let branches = when_then_expr.into_iter().map(|(when, then)| (when, number(then)));
    IS_ONE.call(vec![Expr::Case(Case::new(expr, branches.collect(), else_expr.map(number)))])
}

/// Whether [`of_numbers`] made it.
fn is_of_numbers(condition: &Expr) -> bool {
    itself::is_call(condition, &IS_ONE)
}

static IS_ONE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let signature = Signature::exact(vec![DataType::Int8], Volatility::Immutable);
    Arc::new(ScalarUDF::from(IsOne { signature }))
});

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![Arc::clone(&IS_ONE)]
}

/// DataFusion also turns `CASE … END = 1` with constant branches into AND and OR.
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

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Boolean, args.arg_fields[0].is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [number] = args.args.as_slice() else { return internal_err!("is_one takes a number") };
        apply(number, &ColumnarValue::Scalar(ScalarValue::Int8(Some(1))), |number, one| {
            Ok(Arc::new(arrow::compute::kernels::cmp::eq(number, one)?))
        })
    }
}

/// Whether a condition refers to some of the columns and to no other table.
fn concern(guard: &Expr, columns: &HashSet<Column>, sources: &Sources) -> bool {
    let theirs = sources.columns(guard);
    let tables: HashSet<_> = columns.iter().map(|column| &column.relation).collect();
    theirs.iter().any(|column| columns.contains(column))
        && theirs.iter().all(|column| tables.contains(&column.relation))
}

/// The source columns of projected columns: the optimizer moves shared parts of several conditions into projections.
#[derive(Default)]
struct Sources(HashMap<Column, HashSet<Column>>);

impl Sources {
    fn of(input: &LogicalPlan) -> Self {
        let LogicalPlan::Projection(projection) = input else { return Self::default() };
        let below = Self::of(&projection.input);
        let computed = projection.expr.iter().zip(projection.schema.columns());
        Self(computed.map(|(expr, column)| (column, below.columns(expr))).collect())
    }

    /// The columns that an expression is computed from.
    fn columns(&self, of: &Expr) -> HashSet<Column> {
        let columns = of.column_refs().into_iter().flat_map(|column| match self.0.get(column) {
            Some(sources) => sources.iter().cloned().collect(),
            None => vec![column.clone()],
        });
        columns.collect()
    }
}

/// Whether the condition may be computed twice.
fn is_guard(condition: &Expr) -> bool {
    let has_subquery = condition.exists(|expr| {
        Ok(matches!(expr, Expr::Exists(Exists { .. }) | Expr::InSubquery(InSubquery { .. }) | Expr::ScalarSubquery(_)))
    });
    !condition.is_volatile() && !has_subquery.unwrap_or(true)
}

/// Whether the condition may fail on a row that other conditions would remove.
pub(super) fn may_fail(condition: &Expr, schema: &DFSchema) -> bool {
    if condition.is_volatile() {
        return false;
    }
    // Already guarded, except the part that is computed first.
    match condition {
        Expr::Case(Case { expr, when_then_expr, .. }) => {
            let first = when_then_expr.first().map(|(when, _)| when.as_ref());
            return expr.as_deref().into_iter().chain(first).any(|first| may_fail(first, schema));
        }
        Expr::ScalarFunction(call) if is_of_numbers(condition) => {
            return call.args.iter().any(|case| may_fail(case, schema));
        }
        _ => {}
    }
    let is_safe = |divisor: &Expr| matches!(divisor, Expr::Literal(value, _) if !value.to_string().trim_matches(['0', '.', '-']).is_empty());
    let found = condition.exists(|expr| {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { op: Operator::Divide | Operator::Modulo, right, .. }) => {
                !is_safe(right) && expr.get_type(schema).is_ok_and(|of| of.is_integer() || of.is_decimal())
            }
            Expr::ScalarFunction(call) if DIVIDES.contains(&call.func.name()) => {
                call.args.get(1).is_none_or(|divisor| !is_safe(divisor))
            }
            Expr::ScalarFunction(call) if CASTS.contains(&call.func.name()) => {
                let of = |at: usize| match call.args.get(at)? {
                    // The name of the type.
                    Expr::Literal(ScalarValue::Utf8(_), _) if at == 1 => Some(DataType::Date32),
                    part => part.get_type(schema).ok(),
                };
                of(0).zip(of(1)).is_none_or(|(from, to)| match (Digits::of(&from), Digits::of(&to)) {
                    // Rounding may add a digit.
                    (Some(from), Some(to)) => from.whole() >= to.whole(),
                    _ => cast_may_fail(&from, &to),
                })
            }
            Expr::ScalarFunction(call) if OF_SOME_VALUES.contains(&call.func.name()) => {
                let is_square = |exponent: &Expr| matches!(exponent, Expr::Literal(value, _) if is_whole(value));
                let is_power = call.func.name() == "power";
                call.args.iter().any(|arg| !matches!(arg, Expr::Literal(..)))
                    && !(is_power && call.args.get(1).is_some_and(is_square))
            }
            Expr::Cast(Cast { expr, field }) => {
                !matches!(**expr, Expr::Literal(..))
                    && expr.get_type(schema).is_ok_and(|from| cast_may_fail(&from, field.data_type()))
            }
            _ => false,
        })
    });
    found.unwrap_or(false)
}

/// Divisions; the divisor is the second argument.
const DIVIDES: [&str; 2] = ["decimal_divide", "checked_divide"];
/// Functions that fail for some values.
const OF_SOME_VALUES: [&str; 23] = [
    "acos",
    "acosh",
    "asin",
    "atanh",
    "chr",
    "decode",
    "factorial",
    "ln",
    "log",
    "log10",
    "log2",
    "make_date",
    "make_time",
    "power",
    "repeat",
    "split_part",
    "sqrt",
    "to_date",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
];

/// Whether the value is a non-negative integer: as an exponent it suits every base.
fn is_whole(value: &ScalarValue) -> bool {
    matches!(value.cast_to(&DataType::Float64), Ok(ScalarValue::Float64(Some(value))) if value >= 0.0 && value.fract() == 0.0)
}

/// Casts of the first argument to the type of the second.
const CASTS: [&str; 4] = ["round_decimal", "decimal_of_float", "windlass_cast_time", "windlass_read_text"];

/// Whether a value of one type may not fit the other.
fn cast_may_fail(from: &DataType, to: &DataType) -> bool {
    if from.is_string() {
        return !to.is_string() && !matches!(to, DataType::Dictionary(..));
    }
    match (Digits::of(from), Digits::of(to)) {
        _ if is_float(from) => to.is_integer() || to.is_decimal(),
        // Not every number of that many digits fits the integer type.
        (Some(from), Some(digits)) if to.is_integer() => from.whole() >= digits.whole(),
        (Some(from), Some(to)) => from.whole() > to.whole(),
        _ => false,
    }
}
