//! Equality and order of floats and intervals: GROUP BY, DISTINCT, joins, set operations, windows, ORDER BY, comparisons.
//!
//! DataFusion compares and hashes their bits. So 0.0 and -0.0 are two groups, a NaN from a division (its sign is set on x86) sorts below all numbers and
//! another NaN above, and an interval of 24 hours is not one of a day. In PostgreSQL both zeros are equal, all NaNs are equal and above all numbers, and an
//! interval is as long as its parts, with months of 30 days and days of 24 hours. Across stages the bits decide where a row goes, so equal values would not
//! even meet.
//!
//! Here such values go through [`comparable`] before they are compared. A group of floats shows its normalized value; a group of intervals shows an interval
//! as it was written. A column of files that is compared with a number stays unchanged, since files are skipped by it; only a zero on the other side gets the
//! sign that lets both zeros through. Written files have one NaN.

use super::arrays;
use super::comparable::{comparable, differs, holds_floats, holds_intervals, quiet};
use crate::expressions::readable;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::expr::{
    AggregateFunction, AggregateFunctionParams, Between, Case, InList, NullTreatment, WindowFunction,
};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, DistinctOn, Expr, ExprSchemable, GroupingSet, Join, LogicalPlan, Operator,
    Projection, Sort, SortExpr, WindowFunctionDefinition, WriteOp, lit,
};
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;

/// Makes floats and intervals comparable wherever a plan compares them.
#[derive(Debug)]
pub(super) struct ComparableKeys;

impl AnalyzerRule for ComparableKeys {
    fn name(&self) -> &str {
        "comparable_keys"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let schema = readable(&node)?;
            let names = NamePreserver::new(&node);
            let of_file = matches!(&node, LogicalPlan::Filter(filter) if is_scan(&filter.input));
            let node = node.map_expressions(|expr| {
                let name = names.save(&expr);
                let expr = expr.transform_up(|expr| inside(expr, &schema, of_file))?;
                Ok(expr.update_data(|expr| name.restore(expr)))
            })?;
            node.transform_data(|node| keys(node, &schema))
        })
        .data()
    }
}

/// An expression without a type yet, such as a parameter, is compared as in DataFusion.
fn is_compared(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|of| differs(&of))
}

/// `expr` in the form in which it is compared.
fn key(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    Ok(match differs(&expr.get_type(schema)?) {
        true => comparable(expr),
        false => expr,
    })
}

/// A sort key. An array whose NULLs sort elsewhere than NULLs among elements has a second key before it: whether it is NULL. Structs are ordered by their
/// fields, in which NULL is above all other values.
fn key_of_sort(sort: SortExpr, schema: &DFSchema) -> Result<Vec<SortExpr>> {
    let of = sort.expr.get_type(schema)?;
    if let DataType::Struct(fields) = &of {
        let mut keys = vec![sort.expr.clone().is_null().sort(!sort.nulls_first, true)];
        for field in fields {
            let part = get_field(sort.expr.clone(), field.name()).sort(sort.asc, !sort.asc);
            keys.extend(key_of_sort(part, schema)?);
        }
        return Ok(keys);
    }
    let expr = key(sort.expr, schema)?;
    // NULL among elements is above all other values, so it comes first in descending order.
    if arrays::are_arrays(&of, &of) && sort.nulls_first == sort.asc {
        let nulls = expr.clone().is_null().sort(!sort.nulls_first, true);
        return Ok(vec![nulls, SortExpr { expr, nulls_first: !sort.asc, ..sort }]);
    }
    Ok(vec![SortExpr { expr, ..sort }])
}

/// Removes repeated keys: they order nothing, and DataFusion's ordered aggregates keep only one position for them.
fn keys_of_sort(sorts: Vec<SortExpr>, schema: &DFSchema) -> Result<Vec<SortExpr>> {
    let mut keys: Vec<SortExpr> = Vec::with_capacity(sorts.len());
    for sort in sorts {
        for key in key_of_sort(sort, schema)? {
            if keys.iter().all(|before| before.expr != key.expr) {
                keys.push(key);
            }
        }
    }
    Ok(keys)
}

/// Whether the rows come from files, whose bounds a filter may be compared with.
fn is_scan(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::SubqueryAlias(of) => is_scan(&of.input),
        LogicalPlan::Filter(of) => is_scan(&of.input),
        LogicalPlan::Projection(of) => {
            of.expr.iter().all(|expr| matches!(expr.clone().unalias(), Expr::Column(_))) && is_scan(&of.input)
        }
        _ => false,
    }
}

/// Rewrites comparisons within an expression; `of_files` if files may be skipped by them.
fn inside(expr: Expr, schema: &DFSchema, of_files: bool) -> Result<Transformed<Expr>> {
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if orders(op) && are_arrays(&left, &right, schema) => {
            Transformed::yes(arrays::ordered(*left, op, *right))
        }
        Expr::Between(Between { expr, negated, low, high })
            if are_arrays(&expr, &low, schema) && are_arrays(&expr, &high, schema) =>
        {
            let (expr, low, high) = (*expr, *low, *high);
            let low = arrays::ordered(expr.clone(), Operator::GtEq, low);
            let within = low.and(arrays::ordered(expr, Operator::LtEq, high));
            Transformed::yes(if negated { !within } else { within })
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) && is_compared(&left, schema) => {
            Transformed::yes(comparison(*left, op, *right, of_files))
        }
        Expr::Between(between) if is_compared(&between.expr, schema) => {
            let Between { expr, negated, low, high } = between;
            let low = bound(*low, &expr, false, of_files);
            let high = bound(*high, &expr, true, of_files);
            let (expr, low, high) = match (low, high) {
                (Ok(low), Ok(high)) => (*expr, low, high),
                (Ok(low) | Err(low), Ok(high) | Err(high)) => (comparable(*expr), comparable(low), comparable(high)),
            };
            Transformed::yes(Expr::Between(Between::new(Box::new(expr), negated, Box::new(low), Box::new(high))))
        }
        Expr::InList(InList { expr, list, negated }) if is_compared(&expr, schema) => {
            if of_files && is_column(&expr) && list.iter().all(is_plain_number) {
                return Ok(Transformed::no(Expr::InList(InList { expr, list, negated })));
            }
            let list = list.into_iter().map(comparable).collect();
            Transformed::yes(Expr::InList(InList::new(Box::new(comparable(*expr)), list, negated)))
        }
        Expr::Case(Case { expr: Some(of), when_then_expr, else_expr }) if is_compared(&of, schema) => {
            let when_then_expr =
                when_then_expr.into_iter().map(|(when, then)| (Box::new(comparable(*when)), then)).collect();
            Transformed::yes(Expr::Case(Case { expr: Some(Box::new(comparable(*of))), when_then_expr, else_expr }))
        }
        Expr::ScalarFunction(call) if matches!(call.func.name(), "greatest" | "least") => {
            let arrays = call.args.iter().all(|arg| are_arrays(arg, &call.args[0], schema));
            match arrays && call.args.len() > 1 {
                true => Transformed::yes(arrays::extreme(call.func.name() == "greatest", call.args)),
                false => Transformed::no(Expr::ScalarFunction(call)),
            }
        }
        Expr::AggregateFunction(function) => aggregate(function, schema)?,
        Expr::WindowFunction(function) => Transformed::yes(Expr::WindowFunction(Box::new(window(*function, schema)?))),
        expr => Transformed::no(expr),
    })
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn orders(op: Operator) -> bool {
    matches!(op, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
}

/// Whether arrays are compared. DataFusion sorts their NULLs below all elements.
fn are_arrays(left: &Expr, right: &Expr, schema: &DFSchema) -> bool {
    matches!((left.get_type(schema), right.get_type(schema)), (Ok(left), Ok(right)) if arrays::are_arrays(&left, &right))
}

fn comparison(left: Expr, op: Operator, right: Expr, of_files: bool) -> Expr {
    let of = |left, op, right| Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
    if of_files && is_column(&left) {
        if is_plain_number(&right) {
            return of(left, op, right);
        }
        if let Some(zeros) = zeros(&right) {
            return with_zeros(left, op, zeros);
        }
    }
    match op.swap() {
        Some(swapped) if of_files && is_column(&right) && !is_column(&left) => {
            comparison(right, swapped, left, of_files)
        }
        _ => of(comparable(left), op, comparable(right)),
    }
}

/// `column` compared with both zeros. The negative zero is the first and sorts below the other.
fn with_zeros(column: Expr, op: Operator, [below, above]: [Expr; 2]) -> Expr {
    match op {
        Operator::Lt => column.lt(below),
        Operator::LtEq => column.lt_eq(above),
        Operator::Gt => column.gt(above),
        Operator::GtEq => column.gt_eq(below),
        Operator::Eq => column.clone().gt_eq(below).and(column.lt_eq(above)),
        Operator::NotEq => column.clone().lt(below).or(column.gt(above)),
        op => Expr::BinaryExpr(BinaryExpr::new(Box::new(comparable(column)), op, Box::new(above))),
    }
}

/// `Ok` for a bound of BETWEEN that an unchanged column of files may be compared with.
fn bound(bound: Expr, of: &Expr, upper: bool, of_files: bool) -> std::result::Result<Expr, Expr> {
    if !of_files || !is_column(of) {
        return Err(bound);
    }
    match zeros(&bound) {
        Some([below, above]) => Ok(if upper { above } else { below }),
        None if is_plain_number(&bound) => Ok(bound),
        None => Err(bound),
    }
}

/// Whether it is a column, with or without casts.
fn is_column(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Cast(cast) => is_column(&cast.expr),
        _ => false,
    }
}

/// The number that a literal stands for, after its casts.
fn number(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(cast) => number(&cast.expr)?.cast_to(cast.field.data_type()).ok(),
        _ => None,
    }
    .filter(|value| value.is_null() || value.data_type().is_floating() || value.data_type().is_numeric())
}

/// NULL, or a number that is neither zero nor NaN.
fn is_plain_number(expr: &Expr) -> bool {
    let value = number(expr).and_then(|value| value.cast_to(&arrow::datatypes::DataType::Float64).ok());
    match value {
        Some(ScalarValue::Float64(Some(value))) => value != 0.0 && !value.is_nan(),
        Some(value) => value.is_null(),
        None => false,
    }
}

/// The two zeros of the type, if the expression is a literal zero.
fn zeros(expr: &Expr) -> Option<[Expr; 2]> {
    Some(match number(expr)? {
        ScalarValue::Float32(Some(0.0)) => [lit(-0.0_f32), lit(0.0_f32)],
        ScalarValue::Float64(Some(0.0)) => [lit(-0.0_f64), lit(0.0_f64)],
        _ => return None,
    })
}

/// Rewrites aggregates that compare their values, and the order that some take.
fn aggregate(function: AggregateFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let AggregateFunction { func, params } = function;
    let AggregateFunctionParams { mut args, distinct, filter, order_by, null_treatment } = params;
    let order_by = keys_of_sort(order_by, schema)?;
    let extreme = match func.name() {
        "min" => Some(true),
        "max" => Some(false),
        _ => None,
    };
    if let (Some(ascending), [of]) = (extreme, args.as_slice())
        && holds_intervals(&of.get_type(schema)?)
    {
        // Returns the interval as it was written, not another of the same length.
        let order_by = vec![comparable(of.clone()).sort(ascending, false)];
        let ignore = Some(NullTreatment::IgnoreNulls);
        let first = AggregateFunction::new_udf(first_value_udaf(), args, false, filter, order_by, ignore);
        return Ok(Transformed::yes(Expr::AggregateFunction(first)));
    }
    const ORDERED: [&str; 6] =
        ["min", "max", "median", "percentile_cont", "approx_percentile_cont", "approx_percentile_cont_with_weight"];
    if distinct || ORDERED.contains(&func.name()) || func.name() == "approx_distinct" {
        args = args.into_iter().map(|arg| key(arg, schema)).collect::<Result<_>>()?;
    }
    let params = AggregateFunctionParams { args, distinct, filter, order_by, null_treatment };
    Ok(Transformed::yes(Expr::AggregateFunction(AggregateFunction { func, params })))
}

fn window(mut function: WindowFunction, schema: &DFSchema) -> Result<WindowFunction> {
    let params = &mut function.params;
    for by in &mut params.partition_by {
        *by = key(std::mem::take(by), schema)?;
    }
    params.order_by = keys_of_sort(std::mem::take(&mut params.order_by), schema)?;
    let compares = matches!(&function.fun, WindowFunctionDefinition::AggregateUDF(of) if ["min", "max", "median"].contains(&of.name()));
    if params.distinct || compares {
        for arg in &mut params.args {
            *arg = key(std::mem::take(arg), schema)?;
        }
    }
    Ok(function)
}

/// Rewrites the operators that compare or hash columns.
fn keys(node: LogicalPlan, schema: &DFSchema) -> Result<Transformed<LogicalPlan>> {
    Ok(match node {
        LogicalPlan::Sort(Sort { expr, input, fetch }) => {
            let expr = keys_of_sort(expr, schema)?;
            Transformed::yes(LogicalPlan::Sort(Sort { expr, input, fetch }))
        }
        LogicalPlan::Join(join) => {
            let on = join.on.into_iter().map(|(left, right)| Ok((key(left, schema)?, key(right, schema)?)));
            Transformed::yes(LogicalPlan::Join(Join { on: on.collect::<Result<_>>()?, ..join }))
        }
        LogicalPlan::Aggregate(of) => grouped(of, schema)?,
        LogicalPlan::Dml(mut of) if matches!(of.op, WriteOp::Insert(_)) => {
            of.input = written(of.input)?;
            Transformed::yes(LogicalPlan::Dml(of))
        }
        LogicalPlan::Copy(mut of) => {
            of.input = written(of.input)?;
            Transformed::yes(LogicalPlan::Copy(of))
        }
        LogicalPlan::Distinct(Distinct::All(input)) => distinct(input)?,
        LogicalPlan::Distinct(Distinct::On(on)) => {
            let on_expr = on.on_expr.into_iter().map(|expr| key(expr, schema)).collect::<Result<_>>()?;
            let sort_expr = match on.sort_expr {
                Some(sorts) => Some(keys_of_sort(sorts, schema)?),
                None => None,
            };
            Transformed::yes(LogicalPlan::Distinct(Distinct::On(DistinctOn { on_expr, sort_expr, ..on })))
        }
        node => Transformed::no(node),
    })
}

/// The rows with one bit pattern for all NaNs, so that filters over files find them where NaN belongs.
fn written(input: Arc<LogicalPlan>) -> Result<Arc<LogicalPlan>> {
    if !input.schema().fields().iter().any(|field| holds_floats(field.data_type())) {
        return Ok(input);
    }
    let columns = input.schema().iter().map(|(relation, field)| {
        let column = Expr::Column(Column::new(relation.cloned(), field.name()));
        match holds_floats(field.data_type()) {
            true => quiet(column).alias_qualified(relation.cloned(), field.name()),
            false => column,
        }
    });
    let columns = columns.collect();
    Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, input)?)))
}

fn grouped(of: Aggregate, schema: &DFSchema) -> Result<Transformed<LogicalPlan>> {
    let sets = of.group_expr.iter().any(|by| matches!(by, Expr::GroupingSet(_)));
    let mut columns: Vec<Expr> = of.schema.columns().into_iter().map(Expr::Column).collect();
    let mut aggr_expr = of.aggr_expr;
    let mut changed = false;
    for (at, by) in grouping_set_to_exprlist(&of.group_expr)?.into_iter().enumerate() {
        let of_type = by.get_type(schema)?;
        if !differs(&of_type) {
            continue;
        }
        changed = true;
        let shown = match holds_intervals(&of_type) && !sets {
            true => {
                let shown = format!("__shown{at}");
                let any = AggregateFunction::new_udf(first_value_udaf(), vec![by.clone()], false, None, vec![], None);
                aggr_expr.push(Expr::AggregateFunction(any).alias(&shown));
                shown
            }
            // A row of a total shows NULL, not an interval of its group.
            false => comparable(by.clone()).schema_name().to_string(),
        };
        let (relation, name) = by.qualified_name();
        columns[at] = Expr::Column(Column::new_unqualified(shown)).alias_qualified(relation, name);
    }
    let group_expr = match changed {
        true => of.group_expr.into_iter().map(|by| keys_of_group(by, schema)).collect::<Result<_>>()?,
        false => of.group_expr,
    };
    let aggregate = LogicalPlan::Aggregate(Aggregate::try_new(of.input, group_expr, aggr_expr)?);
    Ok(Transformed::yes(match changed {
        true => LogicalPlan::Projection(Projection::try_new(columns, Arc::new(aggregate))?),
        false => aggregate,
    }))
}

fn keys_of_group(by: Expr, schema: &DFSchema) -> Result<Expr> {
    let all = |by: Vec<Expr>| by.into_iter().map(|by| key(by, schema)).collect::<Result<Vec<_>>>();
    Ok(match by {
        Expr::GroupingSet(GroupingSet::GroupingSets(sets)) => {
            Expr::GroupingSet(GroupingSet::GroupingSets(sets.into_iter().map(all).collect::<Result<_>>()?))
        }
        Expr::GroupingSet(GroupingSet::Cube(by)) => Expr::GroupingSet(GroupingSet::Cube(all(by)?)),
        Expr::GroupingSet(GroupingSet::Rollup(by)) => Expr::GroupingSet(GroupingSet::Rollup(all(by)?)),
        by => key(by, schema)?,
    })
}

/// DISTINCT as the groups of an aggregate, if rows must be shown as they were written.
fn distinct(input: Arc<LogicalPlan>) -> Result<Transformed<LogicalPlan>> {
    let schema = Arc::clone(input.schema());
    let types = || schema.fields().iter().map(|field| field.data_type());
    if !types().any(differs) {
        return Ok(Transformed::no(LogicalPlan::Distinct(Distinct::All(input))));
    }
    if types().any(holds_intervals) {
        let by = schema.columns().into_iter().map(Expr::Column).collect();
        return grouped(Aggregate::try_new(input, by, vec![])?, &schema);
    }
    let columns = schema.columns().into_iter().map(|column| {
        let (relation, name) = (column.relation.clone(), column.name.clone());
        Ok(key(Expr::Column(column), &schema)?.alias_qualified(relation, name))
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let input = LogicalPlan::Projection(Projection::try_new(columns, input)?);
    Ok(Transformed::yes(LogicalPlan::Distinct(Distinct::All(Arc::new(input)))))
}
