//! Sort keys that become columns, because DataFusion does not recognise the order of rows sorted by them.
//!
//! To know an order, DataFusion computes the bounds of each part of a key. It does not know the bounds of CASE and of most functions, and gives up where an
//! operator or a function uses them: `rank() OVER (ORDER BY abs(nullif(n, 0)))` is sorted, and then refused for not being sorted. Here such keys are computed
//! below the operator that needs the order, and it sorts by their columns.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Projection, Sort, SortExpr, Window};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// Runs late: the optimizer turns functions into CASE and DISTINCT ON into orders.
#[derive(Debug)]
pub(crate) struct KeysAsColumns;

impl OptimizerRule for KeysAsColumns {
    fn name(&self) -> &str {
        "windlass_keys_as_columns"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Window(window) => of_window(window),
            LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate),
            LogicalPlan::Sort(sort) => of_sort(sort),
            node => Ok(Transformed::no(node)),
        })
    }
}

/// The expressions computed below an operator.
struct Keys {
    input: Arc<LogicalPlan>,
    computed: Vec<(Expr, Column)>,
}

impl Keys {
    fn new(input: &Arc<LogicalPlan>) -> Self {
        Self { input: Arc::clone(input), computed: Vec::new() }
    }

    /// The key, or the column in which it is computed.
    fn key(&mut self, key: Expr) -> Expr {
        let key = key.unalias();
        if !is_hidden(&key) {
            return key;
        }
        if let Some((_, column)) = self.computed.iter().find(|(computed, _)| *computed == key) {
            return Expr::Column(column.clone());
        }
        let schema = self.input.schema();
        let mut number = self.computed.len();
        let name = loop {
            let name = format!("__key{number}");
            let is_taken = |name: &str| self.computed.iter().any(|(_, column)| column.name == name);
            if !is_taken(&name) && schema.index_of_column_by_name(None, &name).is_none() {
                break name;
            }
            number += 1;
        };
        let column = Column::new_unqualified(name);
        self.computed.push((key, column.clone()));
        Expr::Column(column)
    }

    fn sort(&mut self, sort: &mut SortExpr) {
        sort.expr = self.key(std::mem::take(&mut sort.expr));
    }

    /// The input with the columns; `None` if there are none.
    fn into_input(self) -> Result<Option<Arc<LogicalPlan>>> {
        if self.computed.is_empty() {
            return Ok(None);
        }
        let columns = self.input.schema().columns().into_iter().map(Expr::Column);
        let computed = self.computed.into_iter().map(|(key, column)| key.alias(column.name));
        let all = columns.chain(computed).collect();
        Ok(Some(Arc::new(LogicalPlan::Projection(Projection::try_new(all, self.input)?))))
    }
}

/// Whether its order may not be recognised: a part of it is neither a column nor a literal, nor computed from these by operators and casts.
fn is_hidden(key: &Expr) -> bool {
    let mut hidden = false;
    let mut outer = false;
    let walked = key.apply(|part| {
        outer |= matches!(part, Expr::OuterReferenceColumn(..));
        let is_known = matches!(
            part,
            Expr::Column(_)
                | Expr::Literal(..)
                | Expr::Cast(_)
                | Expr::BinaryExpr(_)
                | Expr::Negative(_)
                | Expr::Alias(_)
        );
        hidden |= !is_known && !std::ptr::eq(part, key);
        Ok(TreeNodeRecursion::Continue)
    });
    walked.is_ok() && hidden && !outer
}

/// `plan` with only the columns of `schema`.
fn only(schema: &datafusion::common::DFSchema, plan: LogicalPlan) -> Result<LogicalPlan> {
    let columns = schema.columns().into_iter().map(Expr::Column).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
}

fn of_sort(sort: Sort) -> Result<Transformed<LogicalPlan>> {
    let mut keys = Keys::new(&sort.input);
    let mut by = sort.expr.clone();
    by.iter_mut().for_each(|by| keys.sort(by));
    let Some(input) = keys.into_input()? else { return Ok(Transformed::no(LogicalPlan::Sort(sort))) };
    let schema = Arc::clone(sort.input.schema());
    let sorted = LogicalPlan::Sort(Sort { expr: by, input, fetch: sort.fetch });
    Ok(Transformed::yes(only(&schema, sorted)?))
}

fn of_window(window: Window) -> Result<Transformed<LogicalPlan>> {
    let mut keys = Keys::new(&window.input);
    let node = LogicalPlan::Window(window);
    let names = NamePreserver::new(&node);
    let LogicalPlan::Window(window) = node else { return Ok(Transformed::no(node)) };
    let exprs = window.window_expr.iter().map(|expr| {
        let name = names.save(expr);
        let keyed = expr.clone().transform_up(|part| {
            let Expr::WindowFunction(mut function) = part else { return Ok(Transformed::no(part)) };
            function.params.order_by.iter_mut().for_each(|by| keys.sort(by));
            for by in &mut function.params.partition_by {
                *by = keys.key(std::mem::take(by));
            }
            Ok(Transformed::yes(Expr::WindowFunction(function)))
        })?;
        Ok(name.restore(keyed.data))
    });
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    let Some(input) = keys.into_input()? else { return Ok(Transformed::no(LogicalPlan::Window(window))) };
    let keyed = LogicalPlan::Window(Window::try_new(exprs, input)?);
    Ok(Transformed::yes(only(&window.schema, keyed)?))
}

fn of_aggregate(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let is_ordered = |expr: &Expr| matches!(expr, Expr::AggregateFunction(of) if !of.params.order_by.is_empty());
    if !aggregate.aggr_expr.iter().any(|expr| is_ordered(&expr.clone().unalias())) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let mut keys = Keys::new(&aggregate.input);
    let node = LogicalPlan::Aggregate(aggregate);
    let names = NamePreserver::new(&node);
    let LogicalPlan::Aggregate(aggregate) = node else { return Ok(Transformed::no(node)) };
    let exprs = aggregate.aggr_expr.iter().map(|expr| {
        let name = names.save(expr);
        let keyed = expr.clone().transform_up(|part| {
            let Expr::AggregateFunction(mut function) = part else { return Ok(Transformed::no(part)) };
            function.params.order_by.iter_mut().for_each(|by| keys.sort(by));
            Ok(Transformed::yes(Expr::AggregateFunction(function)))
        })?;
        Ok(name.restore(keyed.data))
    });
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    let Some(input) = keys.into_input()? else { return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate))) };
    let schema = Arc::clone(&aggregate.schema);
    let keyed = Aggregate::try_new_with_schema(input, aggregate.group_expr, exprs, schema)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(keyed)))
}
