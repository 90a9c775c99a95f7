//! Medians and percentiles of groups that do not fit into memory, from sorted values.
//!
//! ```text
//!   select g, median(x) from t group by g
//!
//!   Aggregate: by g       median(x) filter (where one of the middle places is the value's)
//!     Window: from = sum(n) over (partition by g order by x desc, all rows so far)
//!       Window: upto = sum(n) over (partition by g order by x, all rows so far)
//!         Aggregate: by grouping sets ((g, x), (g))  count(x) as n
//! ```
//!
//! A group has `upto + from - n` rows, known at each of its values, so each value shows by itself whether it is in the middle. Groupings, sorts and running
//! sums spill or hold a few rows. A percentile takes the two values around its position.

use super::parts::Key;
use super::{as_count, called, column};
use crate::right::{max_function, sum_function};
use arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Result, ScalarValue};
use datafusion::functions::expr_fn::{ceil, floor};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::{
    AggregateUDF, Expr, LogicalPlan, Window, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
    cast, lit, when,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use std::sync::Arc;

/// DataFusion weighs the two values around a percentile in steps of a millionth.
const STEPS: f64 = 1_000_000.0;

/// Whether a plan has aggregates that hold all values of a group, which a plan of [`crate::spilling`] would not.
pub(crate) fn holds_values(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let holds = |plan: &Arc<dyn ExecutionPlan>| {
        let calls = plan.downcast_ref::<AggregateExec>().map_or(&[][..], |aggregate| aggregate.aggr_expr());
        Ok(calls.iter().any(|call| call.is_distinct() || ["median", "percentile_cont"].contains(&call.fun().name())))
    };
    plan.exists(holds).unwrap_or(false)
}

fn name(key: &Key, what: &str) -> String {
    format!("__windlass_{what}_{}", key.number)
}

fn named(key: &Key, what: &str) -> Expr {
    column(&name(key, what))
}

/// The number of rows with a value.
pub(super) fn count(key: &Key) -> Expr {
    let value = key.exprs[0].clone();
    let filter = key.filter.as_deref().cloned();
    let count = match key.distinct {
        // One, if any row counts.
        true => called(max_function(), vec![as_count(value.is_not_null())], filter),
        false => called(count_udaf(), vec![value], filter),
    };
    count.alias(name(key, "count"))
}

/// The groupings of `plan`, with running counts that give positions.
pub(super) fn with_places(plan: LogicalPlan, key: &Key, partitions: &[Expr]) -> Result<LogicalPlan> {
    let upto = running(key, partitions, true).alias(name(key, "upto"));
    let plan = LogicalPlan::Window(Window::try_new(vec![upto], Arc::new(plan))?);
    let from = running(key, partitions, false).alias(name(key, "from"));
    Ok(LogicalPlan::Window(Window::try_new(vec![from], Arc::new(plan))?))
}

/// Number of rows of the group with values up to that of the row, or from it on.
fn running(key: &Key, partitions: &[Expr], ascending: bool) -> Expr {
    let function = WindowFunctionDefinition::AggregateUDF(sum_function());
    let mut window = WindowFunction::new(function, vec![named(key, "count")]);
    window.params.partition_by = partitions.to_vec();
    let by = |expr| Sort { expr, asc: ascending, nulls_first: !ascending };
    // Each value of a set occurs once. Its count keeps DataFusion from reversing one of the two sums, which would hold all rows of a group.
    window.params.order_by = vec![by(key.column(0))];
    if !ascending {
        window.params.order_by.push(by(named(key, "count")));
    }
    let before = WindowFrameBound::Preceding(ScalarValue::UInt64(None));
    window.params.window_frame = WindowFrame::new_bounds(WindowFrameUnits::Rows, before, WindowFrameBound::CurrentRow);
    Expr::WindowFunction(Box::new(window))
}

/// Number of rows of the group.
fn total(key: &Key) -> Expr {
    as_count(named(key, "upto")) + as_count(named(key, "from")) - as_count(named(key, "count"))
}

/// Whether some position from `low` to `high`, counted from 0 in the order of values, belongs to the value.
fn covers(key: &Key, low: Expr, high: Expr, is_of: Option<Expr>) -> Expr {
    let (upto, count) = (as_count(named(key, "upto")), as_count(named(key, "count")));
    let counts = count.clone().gt(lit(0_i64));
    let covers = counts.and((upto.clone() - count).lt_eq(high)).and(low.lt(upto));
    match is_of {
        Some(is_of) => is_of.and(covers),
        None => covers,
    }
}

pub(super) fn median(function: Arc<AggregateUDF>, key: &Key, is_of: Option<Expr>) -> Expr {
    let (low, high) = ((total(key) - lit(1_i64)) / lit(2_i64), total(key) / lit(2_i64));
    called(function, vec![key.column(0)], Some(covers(key, low, high, is_of)))
}

/// The value at `fraction` of the order, as an expression of calls that it adds to `above`.
pub(super) fn percentile(
    fraction: f64,
    key: &Key,
    is_of: Option<Expr>,
    prefix: &str,
    of: &DataType,
    above: &mut Vec<Expr>,
) -> Result<Expr> {
    let place = || lit(fraction) * cast(total(key) - lit(1_i64), DataType::Float64);
    for (what, end) in [("low", floor(place())), ("high", ceil(place()))] {
        let end = as_count(end);
        let covers = covers(key, end.clone(), end, is_of.clone());
        above.push(called(max_function(), vec![key.column(0)], Some(covers)).alias(format!("{prefix}_{what}")));
    }
    let counts = as_count(named(key, "count")).gt(lit(0_i64));
    let counts = match is_of {
        Some(is_of) => is_of.and(counts),
        None => counts,
    };
    above.push(called(max_function(), vec![place()], Some(counts)).alias(format!("{prefix}_at")));
    let [low, high, at] = ["low", "high", "at"].map(|what| column(&format!("{prefix}_{what}")));
    let double = |expr: Expr| cast(expr, DataType::Float64);
    let weight = floor((at.clone() - floor(at.clone())) * lit(STEPS)) / lit(STEPS);
    let (low_value, high_value) = (double(low.clone()), double(high));
    let mixed = cast(low_value.clone() + (high_value - low_value) * weight, of.clone());
    when(floor(at.clone()).eq(at), low).otherwise(mixed)
}
