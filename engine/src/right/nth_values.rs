//! Aggregates with nth_value in different orders.
//!
//! DataFusion's nth_value reads its rows in its order, so it refuses `nth_value(a, 2 order by b), nth_value(a, 2 order by c)`. Here each becomes the nth
//! element of an array: array_agg sorts its values itself.

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_nested::expr_fn::array_element;
use datafusion::logical_expr::expr::{AggregateFunction, Sort};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Projection};
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct NthValues;

impl AnalyzerRule for NthValues {
    fn name(&self) -> &str {
        "windlass_nth_values"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let elements = |node| match node {
            LogicalPlan::Aggregate(of) if differ(&of) => Ok(Transformed::yes(as_elements(&of)?)),
            node => Ok(Transformed::no(node)),
        };
        plan.transform_up_with_subqueries(elements).data()
    }
}

/// Whether the aggregate has such calls in more than one order.
fn differ(aggregate: &Aggregate) -> bool {
    let mut orders = aggregate.aggr_expr.iter().filter_map(nth_value).map(|(_, order)| order);
    let first = orders.next();
    orders.any(|order| Some(order) != first)
}

fn nth_value(call: &Expr) -> Option<(&AggregateFunction, &[Sort])> {
    match call {
        Expr::Alias(alias) => nth_value(&alias.expr),
        Expr::AggregateFunction(of) if of.func.name() == "nth_value" && !of.params.order_by.is_empty() => {
            Some((of, &of.params.order_by))
        }
        _ => None,
    }
}

fn as_elements(aggregate: &Aggregate) -> Result<LogicalPlan> {
    let groups = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
    let mut results: Vec<Expr> = aggregate.schema.columns().into_iter().map(Expr::Column).collect();
    let mut calls = aggregate.aggr_expr.clone();
    for (at, call) in calls.iter_mut().enumerate() {
        let Some((of, _)) = nth_value(call) else { continue };
        let [value, position] = of.params.args.as_slice() else { continue };
        let (value, position) = (value.clone(), position.clone());
        let mut params = of.params.clone();
        params.args = vec![value];
        let name = format!("__windlass_values_{at}");
        let values = Expr::AggregateFunction(AggregateFunction { func: array_agg_udaf(), params });
        *call = values.alias(&name);
        let (relation, field) = aggregate.schema.qualified_field(groups + at);
        let element = array_element(Expr::Column(name.into()), position);
        results[groups + at] = element.alias_qualified(relation.cloned(), field.name());
    }
    let arrays = Aggregate::try_new(Arc::clone(&aggregate.input), aggregate.group_expr.clone(), calls)?;
    Ok(LogicalPlan::Projection(Projection::try_new(results, Arc::new(LogicalPlan::Aggregate(arrays)))?))
}
