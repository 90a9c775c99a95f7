//! Computation of a window aggregate's FILTER below the window, as a column.
//!
//! DataFusion's encoding of plans loses the filter, and a physical window does not expose it. A column is recognised by its name, and only its position must
//! travel beside the plan (`window.rs`).

use crate::window::FILTER_COLUMN;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Window};
use std::sync::Arc;

/// `plan` with a column in each FILTER of a window aggregate; its rows and columns stay the same. Must be called on an optimized plan: the optimizer would
/// take the columns apart again.
pub(super) fn filters_as_columns(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Window(window) if window.window_expr.iter().any(has_filter) => {
            rewrite(window).map(Transformed::yes)
        }
        node => Ok(Transformed::no(node)),
    });
    Ok(rewritten?.data)
}

fn rewrite(window: Window) -> Result<LogicalPlan> {
    let mut below: Vec<Expr> = window.input.schema().columns().into_iter().map(Expr::Column).collect();
    let columns = below.len();
    let mut exprs = Vec::with_capacity(window.window_expr.len());
    for expr in window.window_expr {
        let name = expr.schema_name().to_string();
        let Some(mut function) = function(&expr).filter(|function| function.params.filter.is_some()).cloned() else {
            exprs.push(expr);
            continue;
        };
        let column = format!("{FILTER_COLUMN}{}", below.len() - columns);
        let filter = function.params.filter.replace(Box::new(Expr::Column(Column::new_unqualified(&column))));
        below.extend(filter.map(|filter| filter.alias(column)));
        exprs.push(Expr::WindowFunction(Box::new(function)).alias(name));
    }
    let input = LogicalPlan::Projection(Projection::try_new(below, window.input)?);
    let filtered = LogicalPlan::Window(Window::try_new(exprs, Arc::new(input))?);
    let above = window.schema.columns().into_iter().map(Expr::Column).collect();
    Ok(LogicalPlan::Projection(Projection::try_new_with_schema(above, Arc::new(filtered), window.schema)?))
}

fn has_filter(expr: &Expr) -> bool {
    function(expr).is_some_and(|function| function.params.filter.is_some())
}

fn function(expr: &Expr) -> Option<&WindowFunction> {
    match expr {
        Expr::WindowFunction(function) => Some(function),
        Expr::Alias(alias) => function(&alias.expr),
        _ => None,
    }
}
