//! ORDER BY of subqueries and views.
//!
//! The order of `(SELECT … ORDER BY x)` matters where something observes it: a LIMIT above it, the result of the statement, or an aggregate over rows in
//! their order, such as `string_agg(x, ',')`. PostgreSQL, Spark and DuckDB keep it through projections and filters. Elsewhere, as below joins and groups, it
//! is dropped and costs nothing.
//!
//! DataFusion keeps only orders that are required, so operators that observe an order get one here: an aggregate or a window gets the ORDER BY of its input,
//! and a LIMIT above a filter gets a sort of its own.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, Expr, Filter, Limit, LogicalPlan, Projection, Sort, SortExpr, SubqueryAlias, Window, WindowFrame,
    WindowFrameBound, WindowFrameUnits, lit,
};
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;

/// Runs first, on plans as they are written.
#[derive(Debug)]
pub(super) struct OrderOfSubqueries;

impl AnalyzerRule for OrderOfSubqueries {
    fn name(&self) -> &str {
        "windlass_order_of_subqueries"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut sorts = false;
        plan.apply_with_subqueries(|node| {
            sorts = matches!(node, LogicalPlan::Sort(_));
            Ok(if sorts { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if sorts { kept(plan, true) } else { Ok(plan) }
    }
}

/// `plan` without the sorts that nothing observes. `ordered`: something observes its order.
fn kept(plan: LogicalPlan, ordered: bool) -> Result<LogicalPlan> {
    if let LogicalPlan::Sort(sort) = plan {
        let input = kept(Arc::unwrap_or_clone(sort.input), false)?;
        return Ok(match ordered || sort.fetch.is_some() {
            true => LogicalPlan::Sort(Sort { input: Arc::new(input), ..sort }),
            false => input,
        });
    }
    let plan = plan.map_subqueries(|subquery| Ok(Transformed::yes(kept(subquery, false)?))).data()?;
    let below = match &plan {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Dml(_)
        | LogicalPlan::Copy(_)
        | LogicalPlan::Ddl(_)
        | LogicalPlan::Explain(_)
        | LogicalPlan::Analyze(_) => ordered,
        LogicalPlan::Limit(_) => true,
        LogicalPlan::Aggregate(aggregate) => aggregate.aggr_expr.iter().any(looks_at_order),
        LogicalPlan::Window(window) => {
            window.window_expr.iter().all(is_of_all) && (ordered || window.window_expr.iter().any(looks_at_order))
        }
        _ => false,
    };
    let plan = plan.map_children(|child| Ok(Transformed::yes(kept(child, below)?))).data()?;
    match plan {
        LogicalPlan::Aggregate(aggregate)
            if below && has_order(&aggregate.input) && !aggregate.aggr_expr.iter().any(has_own_order) =>
        {
            of_aggregate(aggregate)
        }
        LogicalPlan::Window(window) if below && has_order(&window.input) => of_window(window, ordered),
        LogicalPlan::Limit(limit) if has_order(&limit.input) => {
            let limit = if ordered { limit } else { with_fetch(limit) };
            if is_hidden(&limit.input) { of_limit(limit) } else { Ok(LogicalPlan::Limit(limit)) }
        }
        plan => Ok(plan),
    }
}

/// Gives an OFFSET a LIMIT that is never reached: DataFusion drops the order below an OFFSET alone.
fn with_fetch(limit: Limit) -> Limit {
    match limit.fetch {
        None => Limit { fetch: Some(Box::new(lit(i64::MAX / 2))), ..limit },
        Some(_) => limit,
    }
}

/// Whether there is an aggregate or a window without ORDER BY whose result depends on the order of its rows.
fn looks_at_order(expr: &Expr) -> bool {
    let looks = |expr: &Expr| match expr {
        Expr::AggregateFunction(of) => {
            let params = &of.params;
            ORDERED.contains(&of.func.name()) && params.order_by.is_empty() && !params.distinct
        }
        Expr::WindowFunction(of) => numbers_rows(of.fun.name()) || ORDERED.contains(&of.fun.name()),
        _ => false,
    };
    expr.exists(|part| Ok(looks(part))).unwrap_or(false)
}

/// Whether an aggregate has an ORDER BY; DataFusion cannot compute one with another order beside it.
fn has_own_order(expr: &Expr) -> bool {
    let has = |expr: &Expr| matches!(expr, Expr::AggregateFunction(of) if !of.params.order_by.is_empty());
    expr.exists(|part| Ok(has(part))).unwrap_or(false)
}

const ORDERED: [&str; 5] = ["array_agg", "string_agg", "first_value", "last_value", "nth_value"];

/// Whether a window function counts rows rather than groups of equal rows.
fn numbers_rows(name: &str) -> bool {
    matches!(name, "row_number" | "lag" | "lead" | "ntile")
}

/// Whether a window spans all rows in their given order.
fn is_of_all(expr: &Expr) -> bool {
    match expr {
        Expr::WindowFunction(of) => {
            let params = &of.params;
            let frame = &params.window_frame;
            // Without an order all rows are peers of the current one.
            let is_whole = |bound: &WindowFrameBound| {
                bound.is_unbounded()
                    || (frame.units != WindowFrameUnits::Rows && *bound == WindowFrameBound::CurrentRow)
            };
            params.partition_by.is_empty()
                && params.order_by.is_empty()
                && is_whole(&frame.start_bound)
                && is_whole(&frame.end_bound)
        }
        Expr::Alias(of) => is_of_all(&of.expr),
        _ => false,
    }
}

/// Whether [`lifted`] finds an order of its rows.
fn has_order(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(of) => has_order(&of.input),
        LogicalPlan::Filter(of) => has_order(&of.input),
        LogicalPlan::SubqueryAlias(of) => has_order(&of.input),
        LogicalPlan::Limit(of) => has_order(&of.input),
        LogicalPlan::Window(of) => of.window_expr.iter().all(is_of_all) && has_order(&of.input),
        _ => false,
    }
}

/// Whether another operator keeps a LIMIT from the sort.
fn is_hidden(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(of) => is_hidden(&of.input),
        LogicalPlan::SubqueryAlias(of) => is_hidden(&of.input),
        LogicalPlan::Filter(_) | LogicalPlan::Window(_) => true,
        _ => false,
    }
}

/// `plan` without its order, and the keys of that order. The plan may have extra columns, for keys that it does not show.
fn lifted(plan: LogicalPlan) -> Result<(LogicalPlan, Vec<SortExpr>)> {
    Ok(match plan {
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => (Arc::unwrap_or_clone(sort.input), sort.expr),
        LogicalPlan::Sort(sort) => {
            let keys = sort.expr.clone();
            (LogicalPlan::Sort(sort), keys)
        }
        LogicalPlan::Filter(of) => {
            let (input, keys) = lifted(Arc::unwrap_or_clone(of.input))?;
            (LogicalPlan::Filter(Filter::try_new(of.predicate, Arc::new(input))?), keys)
        }
        LogicalPlan::Limit(of) => {
            let (input, keys) = lifted(Arc::unwrap_or_clone(of.input))?;
            let sorted = LogicalPlan::Sort(Sort { expr: keys.clone(), input: Arc::new(input), fetch: None });
            (LogicalPlan::Limit(Limit { input: Arc::new(sorted), ..of }), keys)
        }
        LogicalPlan::SubqueryAlias(of) => {
            let (input, mut keys) = lifted(Arc::unwrap_or_clone(of.input))?;
            let below = input.schema().columns();
            let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), of.alias)?);
            let above = plan.schema().columns();
            for key in &mut keys {
                let renamed = std::mem::take(&mut key.expr).transform_up(|part| {
                    let at = match &part {
                        Expr::Column(column) => below.iter().position(|of| of == column),
                        _ => None,
                    };
                    Ok(match at {
                        Some(at) => Transformed::yes(Expr::Column(above[at].clone())),
                        None => Transformed::no(part),
                    })
                });
                key.expr = renamed.data()?;
            }
            (plan, keys)
        }
        LogicalPlan::Projection(of) => {
            let (input, mut keys) = lifted(Arc::unwrap_or_clone(of.input))?;
            let mut exprs = of.expr;
            let shown: Vec<(Expr, Column)> =
                exprs.iter().map(|expr| expr.clone().unalias()).zip(of.schema.columns()).collect();
            for key in &mut keys {
                key.expr = through(std::mem::take(&mut key.expr), &shown, &mut exprs)?;
            }
            (LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?), keys)
        }
        LogicalPlan::Window(of) => {
            let (input, keys) = lifted(Arc::unwrap_or_clone(of.input))?;
            (LogicalPlan::Window(Window::try_new(of.window_expr, Arc::new(input))?), keys)
        }
        other => (other, Vec::new()),
    })
}

/// A key over the columns of a projection, which gets an extra column if it does not show one.
fn through(key: Expr, shown: &[(Expr, Column)], exprs: &mut Vec<Expr>) -> Result<Expr> {
    let mut hidden = false;
    let renamed = key.clone().transform_down(|part| {
        if let Some((_, column)) = shown.iter().find(|(expr, _)| *expr == part) {
            return Ok(Transformed::new(Expr::Column(column.clone()), true, TreeNodeRecursion::Jump));
        }
        hidden |= matches!(part, Expr::Column(_));
        Ok(Transformed::no(part))
    });
    if !hidden {
        return renamed.data();
    }
    let numbers = exprs.len()..;
    let is_free = |name: &String| shown.iter().all(|(_, column)| column.name != *name);
    let name = numbers.map(|number| format!("__order{number}")).find(is_free).unwrap_or_default();
    exprs.push(key.alias(&name));
    Ok(Expr::Column(Column::new_unqualified(name)))
}

/// `plan` with only these columns.
fn only(columns: Vec<Column>, plan: LogicalPlan) -> Result<LogicalPlan> {
    let columns = columns.into_iter().map(Expr::Column).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
}

fn of_limit(limit: Limit) -> Result<LogicalPlan> {
    let columns = limit.input.schema().columns();
    let (input, expr) = lifted(Arc::unwrap_or_clone(limit.input))?;
    let sorted = LogicalPlan::Sort(Sort { expr, input: Arc::new(input), fetch: None });
    Ok(LogicalPlan::Limit(Limit { input: Arc::new(only(columns, sorted)?), ..limit }))
}

fn of_aggregate(aggregate: Aggregate) -> Result<LogicalPlan> {
    let names = NamePreserver::new(&LogicalPlan::Aggregate(aggregate.clone()));
    let (input, keys) = lifted(Arc::unwrap_or_clone(aggregate.input))?;
    let exprs = aggregate.aggr_expr.into_iter().map(|expr| {
        let name = names.save(&expr);
        let ordered = expr.transform_up(|part| match part {
            Expr::AggregateFunction(mut of)
                if ORDERED.contains(&of.func.name()) && of.params.order_by.is_empty() && !of.params.distinct =>
            {
                of.params.order_by = keys.clone();
                Ok(Transformed::yes(Expr::AggregateFunction(of)))
            }
            part => Ok(Transformed::no(part)),
        })?;
        Ok(name.restore(ordered.data))
    });
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), aggregate.group_expr, exprs)?))
}

fn of_window(window: Window, ordered: bool) -> Result<LogicalPlan> {
    let columns = window.schema.columns();
    let names = NamePreserver::new(&LogicalPlan::Window(window.clone()));
    let (input, keys) = lifted(Arc::unwrap_or_clone(window.input))?;
    // All expressions of one operator must have the same order.
    let (mut others, mut numbering) = (Vec::new(), Vec::new());
    for expr in window.window_expr {
        let name = names.save(&expr);
        let ordered = expr.transform_up(|part| match part {
            Expr::WindowFunction(mut of) if numbers_rows(of.fun.name()) || ORDERED.contains(&of.fun.name()) => {
                let start = WindowFrameBound::Preceding(ScalarValue::UInt64(None));
                let end = WindowFrameBound::Following(ScalarValue::UInt64(None));
                of.params.order_by = keys.clone();
                of.params.window_frame = WindowFrame::new_bounds(WindowFrameUnits::Rows, start, end);
                Ok(Transformed::yes(Expr::WindowFunction(of)))
            }
            part => Ok(Transformed::no(part)),
        })?;
        match ordered.transformed {
            true => numbering.push(name.restore(ordered.data)),
            false => others.push(ordered.data),
        }
    }
    let mut numbered = input;
    for exprs in [others, numbering].into_iter().filter(|exprs| !exprs.is_empty()) {
        numbered = LogicalPlan::Window(Window::try_new(exprs, Arc::new(numbered))?);
    }
    if !ordered {
        return only(columns, numbered);
    }
    only(columns, LogicalPlan::Sort(Sort { expr: keys, input: Arc::new(numbered), fetch: None }))
}
