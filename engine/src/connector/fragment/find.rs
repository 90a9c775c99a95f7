//! Finds parts of a plan that are fragments, and says what stands in their place.

use super::{ColumnId, Computed, First, Fragment, FragmentJoin, FragmentOutput, Part, SortKey, Source};
use crate::connector::ConnectedTable;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, DFSchema, NullEquality, Result};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, NullTreatment};
use datafusion::logical_expr::{
    Aggregate, AggregateUDF, Expr, ExprSchemable, Join, LogicalPlan, LogicalPlanBuilder, Projection, ScalarUDF, Sort,
    TableScan, cast, lit, when,
};
use std::collections::HashSet;
use std::sync::Arc;

/// Most digits of decimals whose sum over any number of rows has at most 38.
const MOST_DIGITS: u8 = 28;

/// The functions that put the parts of groups together.
pub(super) struct Functions {
    pub sum: Arc<AggregateUDF>,
    /// Computes an average from a sum, a count and the text of its type.
    pub average: Arc<ScalarUDF>,
}

/// A fragment, and the part of the plan that it stands for.
pub(super) struct Candidate {
    pub fragment: Fragment,
    node: LogicalPlan,
    /// The number of the column at each position of the part's input, or of the part itself.
    columns: Vec<ColumnId>,
}

/// The columns at a node's positions, and what they come from.
struct Found {
    source: Source,
    columns: Vec<Position>,
}

/// A column at a position of a node.
#[derive(Clone, Copy, Debug)]
struct Position {
    column: ColumnId,
    /// Whether it is a narrow whole number as BIGINT. Sums are told that way.
    is_widened: bool,
}

/// The columns, if none is widened.
fn plain(columns: &[Position]) -> Option<Vec<ColumnId>> {
    columns.iter().map(|at| (!at.is_widened).then_some(at.column)).collect()
}

/// Whether the plan reads a table whose connector computes fragments.
pub(super) fn concerns(plan: &LogicalPlan) -> Result<bool> {
    let mut concerns = false;
    plan.apply_with_subqueries(|node| {
        concerns = matches!(node, LogicalPlan::TableScan(scan) if computes(scan));
        Ok(if concerns { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(concerns)
}

fn computes(scan: &TableScan) -> bool {
    let provider = source_as_provider(&scan.source);
    provider.is_ok_and(|provider| provider.downcast_ref::<ConnectedTable>().is_some_and(ConnectedTable::computes))
}

/// Whether [`candidate`] returns one.
pub(super) fn is_candidate(node: &LogicalPlan) -> Result<bool> {
    Ok(candidate(node)?.is_some())
}

pub(super) fn candidate(node: &LogicalPlan) -> Result<Option<Candidate>> {
    let made = match node {
        LogicalPlan::Sort(sort) => of_sort(sort),
        LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate)?,
        LogicalPlan::Join(_) => found(node, &mut 0).and_then(|found| {
            let columns = plain(&found.columns)?;
            let output = FragmentOutput::Rows { columns: columns.clone(), first: None };
            let schema = schema_of(node, &columns);
            // Rows without columns are counted by whoever needs their number.
            (!columns.is_empty()).then_some((Fragment { source: found.source, output, schema }, columns))
        }),
        _ => None,
    };
    Ok(made.map(|(fragment, columns)| Candidate { fragment, columns, node: node.clone() }))
}

fn of_sort(sort: &Sort) -> Option<(Fragment, Vec<ColumnId>)> {
    let rows = sort.fetch?;
    let Found { source, columns } = found(&sort.input, &mut 0)?;
    let columns = plain(&columns)?;
    let key = |key: &datafusion::logical_expr::SortExpr| {
        let column = *columns.get(position(&key.expr, &sort.input)?)?;
        Some(SortKey { column, descending: !key.asc, nulls_first: key.nulls_first })
    };
    let keys = sort.expr.iter().map(key).collect::<Option<Vec<_>>>()?;
    let schema = schema_of(&sort.input, &columns);
    let output = FragmentOutput::Rows { columns: columns.clone(), first: Some(First { keys, rows }) };
    (!columns.is_empty()).then_some((Fragment { source, output, schema }, columns))
}

fn of_aggregate(aggregate: &Aggregate) -> Result<Option<(Fragment, Vec<ColumnId>)>> {
    let Some(Found { source, columns }) = found(&aggregate.input, &mut 0) else { return Ok(None) };
    let input = aggregate.input.schema();
    let any = |expr: &Expr| Some(columns.get(position(narrow(expr, input), &aggregate.input)?)?.column);
    let at = |expr: &Expr| {
        let at = columns.get(position(expr, &aggregate.input)?)?;
        (!at.is_widened).then_some(at.column)
    };
    let Some(keys) = aggregate.group_expr.iter().map(at).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let (mut parts, mut fields) = (Vec::new(), Vec::new());
    for key in &aggregate.group_expr {
        let (_, field) = key.to_field(input)?;
        fields.push(Field::new(field.name(), field.data_type().clone(), field.is_nullable()));
    }
    let calls = aggregate.aggr_expr.iter().map(|call| parts_of(call, &at, &any)).collect::<Option<Vec<_>>>();
    let Some(calls) = calls else { return Ok(None) };
    for (part, of) in calls.into_iter().flatten() {
        let kind = match (part, of) {
            (Part::Rows | Part::Values(_), _) => DataType::Int64,
            (Part::Sum(_), Some(of)) => {
                let is_widened = position(of, &aggregate.input).is_none_or(|at| columns[at].is_widened);
                let kind = if is_widened { DataType::Int32 } else { of.get_type(input)? };
                match partial_sum(&kind) {
                    Some(kind) => kind,
                    None => return Ok(None),
                }
            }
            (_, Some(of)) => of.get_type(input)?,
            (_, None) => return Ok(None),
        };
        fields.push(Field::new(part_name(part, of), kind, true));
        parts.push(part);
    }
    let (schema, output) = (told_apart(fields), FragmentOutput::Groups { keys, parts });
    Ok(Some((Fragment { source, output, schema }, Vec::new())))
}

/// The type of the sum of some rows, which holds every such sum.
fn partial_sum(of: &DataType) -> Option<DataType> {
    match of {
        DataType::Int16 | DataType::Int32 => Some(DataType::Int64),
        DataType::Int64 => Some(DataType::Decimal128(38, 0)),
        DataType::Decimal128(digits, scale) if *digits <= MOST_DIGITS => Some(DataType::Decimal128(38, *scale)),
        _ => None,
    }
}

fn called(call: &Expr) -> Option<&AggregateFunction> {
    match call {
        Expr::Alias(alias) => called(&alias.expr),
        Expr::AggregateFunction(call) => Some(call),
        _ => None,
    }
}

/// The parts of an aggregate, with their arguments: two of an average, one of any other. `any`: also columns that are widened.
fn parts_of<'a>(
    call: &'a Expr,
    at: &dyn Fn(&Expr) -> Option<ColumnId>,
    any: &dyn Fn(&Expr) -> Option<ColumnId>,
) -> Option<Vec<(Part, Option<&'a Expr>)>> {
    let AggregateFunction { func, params } = called(call)?;
    let AggregateFunctionParams { args, distinct: false, filter: None, order_by, null_treatment } = params else {
        return None;
    };
    if !order_by.is_empty() || null_treatment.is_some_and(|of| of == NullTreatment::IgnoreNulls) {
        return None;
    }
    match (func.name(), args.as_slice()) {
        ("count", [Expr::Literal(value, _)]) if !value.is_null() => Some(vec![(Part::Rows, None)]),
        ("count", [of]) => Some(vec![(Part::Values(any(of)?), Some(of))]),
        ("min", [of]) => Some(vec![(Part::Min(at(of)?), Some(of))]),
        ("max", [of]) => Some(vec![(Part::Max(at(of)?), Some(of))]),
        ("sum", [of]) => Some(vec![(Part::Sum(any(of)?), Some(of))]),
        ("avg", [of]) => Some(vec![(Part::Sum(any(of)?), Some(of)), (Part::Values(any(of)?), Some(of))]),
        _ => None,
    }
}

/// What errors call a part.
fn part_name(part: Part, of: Option<&Expr>) -> String {
    let function = match part {
        Part::Rows => return "count(*)".to_string(),
        Part::Values(_) => "count",
        Part::Sum(_) => "sum",
        Part::Min(_) => "min",
        Part::Max(_) => "max",
    };
    format!("{function}({})", of.map(|of| of.human_display().to_string()).unwrap_or_default())
}

/// The columns of the rows of `node`.
fn schema_of(node: &LogicalPlan, columns: &[ColumnId]) -> SchemaRef {
    told_apart(node.schema().fields().iter().take(columns.len()).map(|field| Field::clone(field)).collect())
}

/// Fields under names that none shares: a further one of a name has its position too. Metadata are left out.
fn told_apart(fields: Vec<Field>) -> SchemaRef {
    let mut names = HashSet::new();
    let told_apart = fields.into_iter().enumerate().map(|(at, field)| {
        let mut name = field.name().clone();
        while !names.insert(name.clone()) {
            name = format!("{name} {}", at + 1);
        }
        Field::new(name, field.data_type().clone(), field.is_nullable())
    });
    Arc::new(Schema::new(told_apart.collect::<Vec<_>>()))
}

/// The position of a column in the rows of `input`.
fn position(expr: &Expr, input: &LogicalPlan) -> Option<usize> {
    match expr {
        Expr::Column(column) => input.schema().maybe_index_of_column(column),
        Expr::Alias(alias) => position(&alias.expr, input),
        _ => None,
    }
}

/// The narrow whole number that `expr` casts to BIGINT, or `expr`.
fn narrow<'a>(expr: &'a Expr, input: &DFSchema) -> &'a Expr {
    match expr {
        Expr::Alias(alias) => narrow(&alias.expr, input),
        Expr::Cast(cast) if *cast.field.data_type() == DataType::Int64 => match cast.expr.get_type(input) {
            Ok(DataType::Int16 | DataType::Int32) => &cast.expr,
            _ => expr,
        },
        _ => expr,
    }
}

/// What a node's columns come from, if that is tables of one connector.
fn found(node: &LogicalPlan, next: &mut ColumnId) -> Option<Found> {
    match node {
        LogicalPlan::TableScan(scan) => of_scan(scan, next),
        LogicalPlan::SubqueryAlias(alias) => found(&alias.input, next),
        LogicalPlan::Projection(projection) => {
            let Found { source, columns } = found(&projection.input, next)?;
            let column = |expr: &Expr| {
                let expr = match expr {
                    Expr::Alias(alias) => alias.expr.as_ref(),
                    expr => expr,
                };
                let of = narrow(expr, projection.input.schema());
                let at = *columns.get(position(of, &projection.input)?)?;
                Some(Position { is_widened: at.is_widened || of != expr, ..at })
            };
            let columns = projection.expr.iter().map(column).collect::<Option<Vec<_>>>()?;
            Some(Found { source, columns })
        }
        LogicalPlan::Join(join) => of_join(join, next),
        _ => None,
    }
}

fn of_scan(scan: &TableScan, next: &mut ColumnId) -> Option<Found> {
    let provider = source_as_provider(&scan.source).ok()?;
    let connected = provider.downcast_ref::<ConnectedTable>()?;
    if scan.fetch.is_some() || !connected.computes() {
        return None;
    }
    let filters: Vec<&Expr> = scan.filters.iter().collect();
    if !connected.takes(&filters) {
        return None;
    }
    let positions = match &scan.projection {
        Some(positions) => positions.clone(),
        None => (0..scan.source.schema().fields().len()).collect(),
    };
    let columns: Vec<(ColumnId, usize)> = positions.into_iter().zip(*next..).map(|(at, id)| (id, at)).collect();
    *next += columns.len();
    let ids = columns.iter().map(|(id, _)| Position { column: *id, is_widened: false }).collect();
    Some(Found { source: Source::Table(connected.in_fragment(columns, scan.filters.clone())), columns: ids })
}

fn of_join(join: &Join, next: &mut ColumnId) -> Option<Found> {
    use datafusion::common::JoinType::{Full, Inner, Left, LeftAnti, LeftSemi, Right, RightAnti, RightSemi};
    let matches_nulls = join.null_equality != NullEquality::NullEqualsNothing;
    if join.on.is_empty() || join.filter.is_some() || join.null_aware || matches_nulls {
        return None;
    }
    let (left, right) = (found(&join.left, next)?, found(&join.right, next)?);
    if first_connector(&left.source) != first_connector(&right.source) {
        return None;
    }
    let pair = |(of_left, of_right): &(Expr, Expr)| {
        let left = *left.columns.get(position(of_left, &join.left)?)?;
        let right = *right.columns.get(position(of_right, &join.right)?)?;
        (!left.is_widened && !right.is_widened).then_some((left.column, right.column))
    };
    let on = join.on.iter().map(pair).collect::<Option<Vec<_>>>()?;
    let columns = match join.join_type {
        Inner | Left | Right | Full => [left.columns, right.columns].concat(),
        LeftSemi | LeftAnti => left.columns,
        RightSemi | RightAnti => right.columns,
        _ => return None,
    };
    let join = FragmentJoin { kind: join.join_type, left: left.source, right: right.source, on };
    Some(Found { source: Source::Join(Box::new(join)), columns })
}

fn first_connector(source: &Source) -> Option<String> {
    source.tables().first().map(|table| table.spec.connector.clone())
}

impl Candidate {
    /// Returns what stands in the place of the part, with the same columns.
    ///
    /// `functions`: those that put parts together.
    pub fn replaced(self, provider: Arc<Computed>, functions: &Functions) -> Result<LogicalPlan> {
        let scan = LogicalPlanBuilder::scan("fragment", provider_as_source(provider), None)?.build()?;
        match self.node {
            LogicalPlan::Sort(sort) => {
                let input = Arc::new(named(&sort.input, scan, self.columns.len())?);
                Ok(LogicalPlan::Sort(Sort { input, ..sort }))
            }
            LogicalPlan::Aggregate(aggregate) => together(&aggregate, scan, functions),
            node => named(&node, scan, self.columns.len()),
        }
    }
}

/// The rows of `scan`, under the names of the columns of `node`.
fn named(node: &LogicalPlan, scan: LogicalPlan, columns: usize) -> Result<LogicalPlan> {
    let named = node
        .schema()
        .iter()
        .take(columns)
        .zip(columns_of(&scan))
        .map(|((qualifier, field), column)| column.alias_qualified(qualifier.cloned(), field.name()));
    Ok(LogicalPlan::Projection(Projection::try_new(named.collect(), Arc::new(scan))?))
}

fn columns_of(scan: &LogicalPlan) -> Vec<Expr> {
    scan.schema().columns().into_iter().map(Expr::Column).collect()
}

/// The aggregate of the parts of `scan`.
fn together(aggregate: &Aggregate, scan: LogicalPlan, functions: &Functions) -> Result<LogicalPlan> {
    let mut keys = columns_of(&scan);
    let mut of_parts = keys.split_off(aggregate.group_expr.len()).into_iter();
    let (mut calls, mut results) = (Vec::new(), Vec::new());
    let mut outputs = aggregate.schema.iter();
    for (key, (qualifier, field)) in keys.iter().zip(outputs.by_ref()) {
        results.push(key.clone().alias_qualified(qualifier.cloned(), field.name()));
    }
    for (call, (qualifier, field)) in aggregate.aggr_expr.iter().zip(outputs) {
        let Some((parts, called)) = parts_of(call, &|_| Some(0), &|_| Some(0)).zip(called(call)) else { continue };
        let mut values = Vec::new();
        for (part, _) in &parts {
            let function = match part {
                Part::Rows | Part::Values(_) | Part::Sum(_) => Arc::clone(&functions.sum),
                Part::Min(_) | Part::Max(_) => Arc::clone(&called.func),
            };
            let args = of_parts.next().into_iter().collect();
            let call = Expr::AggregateFunction(AggregateFunction::new_udf(function, args, false, None, vec![], None));
            values.push(Expr::Column(Column::new_unqualified(call.schema_name().to_string())));
            calls.push(call);
        }
        let result = match (parts.as_slice(), values.as_slice()) {
            // No optimizer comes after this to do away with coalesce().
            ([(Part::Rows | Part::Values(_), _)], [count]) => {
                when(count.clone().is_not_null(), count.clone()).otherwise(lit(0_i64))?
            }
            ([(Part::Sum(_), _)], [sum]) => cast(sum.clone(), field.data_type().clone()),
            ([_, _], [sum, count]) => {
                let kind = lit(field.data_type().to_string());
                functions.average.call(vec![sum.clone(), count.clone(), kind])
            }
            (_, values) => values[0].clone(),
        };
        results.push(result.alias_qualified(qualifier.cloned(), field.name()));
    }
    let grouped = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(scan), keys, calls)?);
    Ok(LogicalPlan::Projection(Projection::try_new(results, Arc::new(grouped))?))
}
