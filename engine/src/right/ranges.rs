//! RANGE frames of integers whose bounds exceed the type of the key, and of keys without a distance.
//!
//! For `9223372036854775807`, a frame that ends `1 FOLLOWING` ends at a number that BIGINT cannot hold. DataFusion takes it for the end of the partition,
//! where the rows with a NULL key are. Here such keys are ordered in a type that can hold the bound.
//!
//! RANGE frames without a distance also work for keys without one in DataFusion: times of day, intervals, bytes and rows. Such a frame ends at the last row
//! with an equal key, like a GROUPS frame.

use crate::expressions::rewrite_expressions;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Cast, Expr, ExprSchemable, LogicalPlan, Projection, Window, WindowFrame, WindowFrameBound, WindowFrameUnits,
};
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;

/// Converts RANGE frames to GROUPS where DataFusion has no range of the key. Runs before type coercion.
#[derive(Debug)]
pub(crate) struct PeerFrames;

impl AnalyzerRule for PeerFrames {
    fn name(&self) -> &str {
        "peer_frames"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let concerns = |expr: &Expr| {
            expr.exists(|part| {
                Ok(matches!(part, Expr::WindowFunction(function) if {
                    let frame = &function.params.window_frame;
                    frame.units == WindowFrameUnits::Range && !has_offset(frame)
                }))
            })
        };
        rewrite_expressions(plan, &concerns, &|expr, schema| expr.transform_up(|part| by_peers(part, schema)))
    }
}

fn by_peers(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::WindowFunction(mut function) = expr else { return Ok(Transformed::no(expr)) };
    let frame = &function.params.window_frame;
    let is_bare = |of: &DataType| {
        matches!(
            of,
            DataType::Time32(_)
                | DataType::Time64(_)
                | DataType::Interval(_)
                | DataType::Duration(_)
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::FixedSizeBinary(_)
                | DataType::Struct(_)
        )
    };
    let key = function.params.order_by.first().map(|key| key.expr.get_type(schema)).transpose()?;
    if frame.units != WindowFrameUnits::Range || has_offset(frame) || !key.is_some_and(|of| is_bare(&of)) {
        return Ok(Transformed::no(Expr::WindowFunction(function)));
    }
    let unbounded = ScalarValue::UInt64(None);
    let bound = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::Preceding(_) => WindowFrameBound::Preceding(unbounded.clone()),
        WindowFrameBound::CurrentRow => WindowFrameBound::CurrentRow,
        WindowFrameBound::Following(_) => WindowFrameBound::Following(unbounded.clone()),
    };
    let (start, end) = (bound(&frame.start_bound), bound(&frame.end_bound));
    function.params.window_frame = WindowFrame::new_bounds(WindowFrameUnits::Groups, start, end);
    Ok(Transformed::yes(Expr::WindowFunction(function)))
}

/// Widens the keys of RANGE frames. Runs after types are known.
#[derive(Debug)]
pub(super) struct WideRanges;

impl AnalyzerRule for WideRanges {
    fn name(&self) -> &str {
        "wide_ranges"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Window(window) => widened(window),
            node => Ok(Transformed::no(node)),
        })
        .data()
    }
}

/// All expressions of one operator have the same sort keys, so those whose keys change go into an operator of their own.
fn widened(window: Window) -> Result<Transformed<LogicalPlan>> {
    let schema = Arc::clone(&window.schema);
    let input_schema = Arc::clone(window.input.schema());
    let names = NamePreserver::new(&LogicalPlan::Window(window.clone()));
    let (mut wide, mut others) = (Vec::new(), Vec::new());
    for expr in window.window_expr {
        let name = names.save(&expr);
        let expr = expr.transform_up(|part| with_wide_key(part, &input_schema))?;
        match expr.transformed {
            true => wide.push(name.restore(expr.data)),
            false => others.push(expr.data),
        }
    }
    if wide.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Window(Window { input: window.input, window_expr: others, schema })));
    }
    let mut plan = LogicalPlan::Window(Window::try_new(wide, window.input)?);
    if !others.is_empty() {
        plan = LogicalPlan::Window(Window::try_new(others, Arc::new(plan))?);
    }
    let columns = schema.columns().into_iter().map(Expr::Column).collect();
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?)))
}

fn with_wide_key(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::WindowFunction(mut function) = expr else { return Ok(Transformed::no(expr)) };
    let params = &mut function.params;
    let wide = match params.order_by.as_slice() {
        [key] if has_offset(&params.window_frame) => wide(&key.expr.get_type(schema)?),
        _ => None,
    };
    let (Some(wide), [key]) = (wide, params.order_by.as_mut_slice()) else {
        return Ok(Transformed::no(Expr::WindowFunction(function)));
    };
    let frame = &params.window_frame;
    let (start, end) = (bound(&frame.start_bound, &wide)?, bound(&frame.end_bound, &wide)?);
    params.window_frame = WindowFrame::new_bounds(frame.units, start, end);
    key.expr = Expr::Cast(Cast::new(Box::new(key.expr.clone()), wide));
    Ok(Transformed::yes(Expr::WindowFunction(function)))
}

fn has_offset(frame: &WindowFrame) -> bool {
    let is_offset = |bound: &WindowFrameBound| matches!(bound, WindowFrameBound::Preceding(by) | WindowFrameBound::Following(by) if !by.is_null());
    frame.units == WindowFrameUnits::Range && (is_offset(&frame.start_bound) || is_offset(&frame.end_bound))
}

/// A type that can hold the sum of two keys.
fn wide(of: &DataType) -> Option<DataType> {
    match of {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => {
            Some(DataType::Int64)
        }
        // The type with the most digits: the sum of decimals has one digit more than they have.
        DataType::Int64 | DataType::UInt64 => Some(DataType::Decimal128(38, 0)),
        _ => None,
    }
}

fn bound(of: &WindowFrameBound, wide: &DataType) -> Result<WindowFrameBound> {
    let widened = |by: &ScalarValue| if by.is_null() { Ok(by.clone()) } else { by.cast_to(wide) };
    Ok(match of {
        WindowFrameBound::Preceding(by) => WindowFrameBound::Preceding(widened(by)?),
        WindowFrameBound::Following(by) => WindowFrameBound::Following(widened(by)?),
        WindowFrameBound::CurrentRow => WindowFrameBound::CurrentRow,
    })
}
