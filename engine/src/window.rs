//! The parts of window functions that DataFusion's encoding loses: FILTER, IGNORE NULLS, and whether a function runs over reversed rows.

use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::logical_expr::ReversedUDWF;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::window::{
    PlainAggregateWindowExpr, SlidingAggregateWindowExpr, StandardWindowExpr, WindowExpr,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec, WindowUDFExpr, create_udwf_window_expr};
use std::sync::Arc;

/// Prefix of the names of the columns that FILTER clauses read: planning computes each condition below the window (`plan/window_filter.rs`).
pub(crate) const FILTER_COLUMN: &str = "__windlass_filter_";

/// Flags of one window expression.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct WindowFlags {
    #[prost(bool, tag = "1")]
    pub ignore_nulls: bool,
    #[prost(bool, tag = "2")]
    pub is_reversed: bool,
    /// The column of the window's input that selects the rows of an aggregate.
    #[prost(uint32, optional, tag = "3")]
    pub filter: Option<u32>,
}

/// Flags of the expressions of `plan`, if it is a window that needs them.
pub(crate) fn window_flags(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Vec<WindowFlags>>> {
    let flags = window_exprs(plan).iter().map(flags_of).collect::<Result<Vec<_>>>()?;
    Ok(Some(flags).filter(|flags| flags.iter().any(|flags| *flags != WindowFlags::default())))
}

/// Restores the window that was encoded with these flags.
pub(crate) fn restore_window(plan: &Arc<dyn ExecutionPlan>, flags: &[WindowFlags]) -> Result<Arc<dyn ExecutionPlan>> {
    let exprs = window_exprs(plan);
    if exprs.len() != flags.len() {
        return internal_err!("an encoded window has {} expressions and {} flags", exprs.len(), flags.len());
    }
    let restored =
        exprs.iter().zip(flags).map(|(expr, flags)| restore(expr, *flags, plan)).collect::<Result<Vec<_>>>()?;
    if let Some(window) = plan.downcast_ref::<BoundedWindowAggExec>() {
        let partitioned = !window.partition_keys().is_empty();
        let mode = window.input_order_mode.clone();
        return Ok(Arc::new(BoundedWindowAggExec::try_new(restored, Arc::clone(window.input()), mode, partitioned)?));
    }
    if let Some(window) = plan.downcast_ref::<WindowAggExec>() {
        let partitioned = !window.partition_keys().is_empty();
        return Ok(Arc::new(WindowAggExec::try_new(restored, Arc::clone(window.input()), partitioned)?));
    }
    internal_err!("{} is not a window", plan.name())
}

fn window_exprs(plan: &Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn WindowExpr>> {
    if let Some(window) = plan.downcast_ref::<BoundedWindowAggExec>() {
        return window.window_expr().to_vec();
    }
    match plan.downcast_ref::<WindowAggExec>() {
        Some(window) => window.window_expr().to_vec(),
        None => Vec::new(),
    }
}

fn function(expr: &Arc<dyn WindowExpr>) -> Option<(&StandardWindowExpr, &WindowUDFExpr)> {
    let standard = expr.as_any().downcast_ref::<StandardWindowExpr>()?;
    Some((standard, standard.get_standard_func_expr().as_any().downcast_ref::<WindowUDFExpr>()?))
}

fn aggregate(expr: &Arc<dyn WindowExpr>) -> Option<&AggregateFunctionExpr> {
    if let Some(plain) = expr.as_any().downcast_ref::<PlainAggregateWindowExpr>() {
        return Some(plain.get_aggregate_expr());
    }
    expr.as_any().downcast_ref::<SlidingAggregateWindowExpr>().map(SlidingAggregateWindowExpr::get_aggregate_expr)
}

fn flags_of(expr: &Arc<dyn WindowExpr>) -> Result<WindowFlags> {
    if let Some(aggregate) = aggregate(expr) {
        let filter = filter_column(expr)?;
        return Ok(WindowFlags { is_reversed: aggregate.is_reversed(), filter, ..WindowFlags::default() });
    }
    let Some((_, function)) = function(expr) else {
        return internal_err!("the window function {} is of an unknown kind", expr.name());
    };
    // The flags are only visible in the debug form.
    let debug = format!("{function:?}");
    let flag = |name: &str| match debug.rsplit_once(&format!("{name}: ")) {
        Some((_, value)) if value.starts_with("true") => Ok(true),
        Some((_, value)) if value.starts_with("false") => Ok(false),
        _ => Err(internal_datafusion_err!("{name} of the window function {} cannot be told", expr.name())),
    };
    Ok(WindowFlags { ignore_nulls: flag("ignore_nulls")?, is_reversed: flag("is_reversed")?, filter: None })
}

/// The filter, too, is only visible in the debug form, at its end. Planning has made it a column.
fn filter_column(expr: &Arc<dyn WindowExpr>) -> Result<Option<u32>> {
    let debug = format!("{expr:?}");
    let parse = || {
        let (_, filter) = debug.rsplit_once(", filter: ")?;
        if filter == "None }" {
            return Some(None);
        }
        let column =
            filter.strip_prefix("Some(Column { name: \"")?.strip_prefix(FILTER_COLUMN)?.strip_suffix(" }) }")?;
        let (_, index) = column.split_once("\", index: ")?;
        Some(Some(index.parse().ok()?))
    };
    parse().ok_or_else(|| internal_datafusion_err!("the FILTER of the window aggregate {} cannot be told", expr.name()))
}

fn restore(
    expr: &Arc<dyn WindowExpr>,
    flags: WindowFlags,
    window: &Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn WindowExpr>> {
    if flags == WindowFlags::default() {
        return Ok(Arc::clone(expr));
    }
    if let Some(aggregate) = aggregate(expr) {
        return restore_aggregate(expr, aggregate, flags, window);
    }
    let Some((standard, function)) = function(expr) else {
        return internal_err!("the window function {} is of an unknown kind", expr.name());
    };
    let schema = window.children()[0].schema();
    let create =
        |fun: &_| create_udwf_window_expr(fun, function.args(), &schema, expr.name().to_string(), flags.ignore_nulls);
    let restored = if flags.is_reversed {
        // Reversing the original function marks the result as reversed.
        let forward = match function.fun().reverse_expr() {
            ReversedUDWF::Reversed(fun) => create(&fun)?,
            ReversedUDWF::Identical | ReversedUDWF::NotSupported => {
                return internal_err!("the window function {} cannot be reversed", expr.name());
            }
        };
        forward
            .reverse_expr()
            .ok_or_else(|| internal_datafusion_err!("the window function {} cannot be reversed", expr.name()))?
    } else {
        create(function.fun())?
    };
    let frame = Arc::clone(standard.get_window_frame());
    Ok(Arc::new(StandardWindowExpr::new(restored, standard.partition_by(), standard.order_by(), frame)))
}

fn restore_aggregate(
    expr: &Arc<dyn WindowExpr>,
    aggregate: &AggregateFunctionExpr,
    flags: WindowFlags,
    window: &Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn WindowExpr>> {
    let schema = window.children()[0].schema();
    let filter = match flags.filter {
        Some(index) => match schema.fields().get(index as usize) {
            Some(field) => Some(Arc::new(Column::new(field.name(), index as usize)) as Arc<dyn PhysicalExpr>),
            None => return internal_err!("the FILTER of {} reads column {index}, which is not there", expr.name()),
        },
        None => None,
    };
    let aggregate = AggregateExprBuilder::new(Arc::new(aggregate.fun().clone()), aggregate.expressions())
        .schema(schema)
        .alias(expr.name())
        .with_ignore_nulls(aggregate.ignore_nulls())
        .with_distinct(aggregate.is_distinct())
        .with_reversed(flags.is_reversed)
        .build()?;
    let (aggregate, frame) = (Arc::new(aggregate), Arc::clone(expr.get_window_frame()));
    Ok(match expr.as_any().is::<PlainAggregateWindowExpr>() {
        true => Arc::new(PlainAggregateWindowExpr::new(aggregate, expr.partition_by(), expr.order_by(), frame, filter)),
        false => {
            Arc::new(SlidingAggregateWindowExpr::new(aggregate, expr.partition_by(), expr.order_by(), frame, filter))
        }
    })
}
