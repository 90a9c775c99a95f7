//! Evaluation of subqueries for all values of outer columns at once.

use super::Names;
use super::no_fewer::no_fewer;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{
    Column, ExprSchema, JoinConstraint, JoinType, NullEquality, Result, ScalarValue, not_impl_err,
};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::functions_window::row_number::row_number;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, ExprFunctionExt, FetchType, Filter, Join, Limit, LogicalPlan, LogicalPlanBuilder,
    Projection, SkipType, SortExpr, SubqueryAlias, Union, Window, lit, when,
};
use std::sync::Arc;

/// The values of the outer columns of a subquery.
pub(super) struct Values<'a> {
    /// The outer columns, and their names here.
    columns: Vec<(Column, Column)>,
    rows: LogicalPlan,
    names: &'a Names,
}

/// The distinct outer columns that a plan uses. Columns used inside its own subqueries, which are answered separately, are not included.
pub(super) fn outer_columns(plan: &LogicalPlan) -> Result<Vec<Column>> {
    let mut columns = Vec::new();
    plan.apply(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::OuterReferenceColumn(_, column) = part
                    && !columns.contains(column)
                {
                    columns.push(column.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(columns)
}

/// A join for which NULLs are equal.
pub(super) fn null_safe_join(
    left: LogicalPlan,
    right: LogicalPlan,
    kind: JoinType,
    on: Vec<(Expr, Expr)>,
    filter: Option<Expr>,
) -> Result<LogicalPlan> {
    let filter = if on.is_empty() && kind != JoinType::Inner { Some(filter.unwrap_or(lit(true))) } else { filter };
    let (left, right, equality) = (Arc::new(left), Arc::new(right), NullEquality::NullEqualsNull);
    Ok(LogicalPlan::Join(Join::try_new(left, right, on, filter, kind, JoinConstraint::On, equality, false)?))
}

/// Whether a subquery cannot have two rows for one outer row.
pub(super) fn is_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(of) => is_one_row(&of.input),
        LogicalPlan::SubqueryAlias(of) => is_one_row(&of.input),
        LogicalPlan::Filter(of) => is_one_row(&of.input),
        LogicalPlan::Sort(of) => is_one_row(&of.input),
        LogicalPlan::Distinct(of) => is_one_row(of.input()),
        LogicalPlan::Aggregate(of) => of.group_expr.is_empty(),
        LogicalPlan::Limit(of) => {
            matches!(of.get_fetch_type(), Ok(FetchType::Literal(Some(0 | 1)))) || is_one_row(&of.input)
        }
        LogicalPlan::EmptyRelation(_) => true,
        _ => false,
    }
}

impl<'a> Values<'a> {
    pub fn of(columns: Vec<Column>, rows: &LogicalPlan, names: &'a Names) -> Result<Self> {
        let prefix = names.next("outer");
        let named = |(at, column): (usize, Column)| (column, Column::new_unqualified(format!("{prefix}_{at}")));
        let columns: Vec<_> = columns.into_iter().enumerate().map(named).collect();
        if columns.is_empty() {
            return Ok(Self { columns, rows: LogicalPlanBuilder::empty(true).build()?, names });
        }
        let outer: Vec<Column> = columns.iter().map(|(of, _)| of.clone()).collect();
        let renamed = columns.iter().map(|(of, name)| Expr::Column(of.clone()).alias(&name.name));
        let rows = LogicalPlanBuilder::from(no_fewer(rows, &outer)?).project(renamed)?.distinct()?.build()?;
        Ok(Self { columns, rows, names })
    }

    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// The values under names that begin with `prefix`, paired with the outer columns that they equal.
    pub fn keys(&self, prefix: &str) -> (Vec<Expr>, Vec<(Expr, Expr)>) {
        let named = self.columns.iter().enumerate().map(|(at, (outer, value))| {
            let name = format!("{prefix}_{at}");
            let key = Expr::Column(value.clone()).alias(&name);
            (key, (Expr::Column(outer.clone()), Expr::Column(Column::new_unqualified(name))))
        });
        named.unzip()
    }

    /// The rows of `plan` for each of the values, with the values as columns.
    pub fn joined_with(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        if self.is_empty() { Ok(plan.clone()) } else { self.push(plan) }
    }

    fn value_columns(&self) -> impl Iterator<Item = Expr> {
        self.columns.iter().map(|(_, value)| Expr::Column(value.clone()))
    }

    fn depends(&self, plan: &LogicalPlan) -> Result<bool> {
        Ok(outer_columns(plan)?.iter().any(|column| self.value_of(column).is_some()))
    }

    fn value_of(&self, column: &Column) -> Option<&Column> {
        self.columns.iter().find(|(outer, _)| outer == column).map(|(_, value)| value)
    }

    fn is_named_in(&self, expr: &Expr) -> Result<bool> {
        expr.exists(|part| Ok(matches!(part, Expr::OuterReferenceColumn(_, column) if self.value_of(column).is_some())))
    }

    /// `expr` with values in place of outer columns.
    fn within(&self, expr: Expr) -> Result<Expr> {
        expr.transform(|part| {
            Ok(match &part {
                Expr::OuterReferenceColumn(_, column) => match self.value_of(column) {
                    Some(value) => Transformed::yes(Expr::Column(value.clone())),
                    None => Transformed::no(part),
                },
                _ => Transformed::no(part),
            })
        })
        .data()
    }

    /// Does the same and keeps the name.
    fn named_within(&self, expr: &Expr) -> Result<Expr> {
        match self.is_named_in(expr)? {
            false => Ok(expr.clone()),
            true => {
                let (relation, name) = expr.qualified_name();
                Ok(self.within(expr.clone())?.alias_qualified(relation, name))
            }
        }
    }

    fn all_within(&self, exprs: &[Expr]) -> Result<Vec<Expr>> {
        exprs.iter().map(|expr| self.named_within(expr)).collect()
    }

    fn push(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        if !self.depends(plan)? {
            return LogicalPlanBuilder::from(plan.clone()).cross_join(self.rows.clone())?.build();
        }
        match plan {
            LogicalPlan::Projection(of) => {
                let columns = self.all_within(&of.expr)?.into_iter().chain(self.value_columns()).collect();
                Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(self.push(&of.input)?))?))
            }
            LogicalPlan::Filter(of) => {
                let condition = self.within(of.predicate.clone())?;
                Ok(LogicalPlan::Filter(Filter::try_new(condition, Arc::new(self.push(&of.input)?))?))
            }
            LogicalPlan::SubqueryAlias(of) => {
                let aliased = SubqueryAlias::try_new(Arc::new(self.push(&of.input)?), of.alias.clone())?;
                self.unaliased(LogicalPlan::SubqueryAlias(aliased), of)
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                Ok(LogicalPlan::Distinct(Distinct::All(Arc::new(self.push(input)?))))
            }
            // The order of a subquery's rows matters only to a limit.
            LogicalPlan::Sort(of) if of.fetch.is_none() => self.push(&of.input),
            LogicalPlan::Aggregate(of) => self.aggregate(of),
            // A LATERAL subquery that uses columns from further outside.
            LogicalPlan::Subquery(of) => self.push(&of.subquery),
            LogicalPlan::Join(of) => self.join(of),
            LogicalPlan::Union(of) => self.union(of),
            LogicalPlan::Window(of) => self.window(of),
            LogicalPlan::Limit(of) => self.limit(of),
            other => not_impl_err!(
                "a subquery that names the outer column {} within {}: compute that part in a derived table, and join it",
                outer_columns(other)?.first().map_or(String::new(), |column| column.flat_name()),
                other.display()
            ),
        }
    }

    /// Removes the alias from the values, since it qualifies them too.
    fn unaliased(&self, plan: LogicalPlan, of: &SubqueryAlias) -> Result<LogicalPlan> {
        let value = |column: Column| {
            let is_value = self.columns.iter().any(|(_, value)| value.name == column.name);
            let name = column.name.clone();
            if is_value { Expr::Column(column).alias(name) } else { Expr::Column(column) }
        };
        debug_assert_eq!(of.schema.fields().len() + self.columns.len(), plan.schema().fields().len());
        let columns = plan.schema().columns().into_iter().map(value).collect();
        Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
    }

    fn aggregate(&self, of: &Aggregate) -> Result<LogicalPlan> {
        if of.group_expr.iter().any(|by| matches!(by, Expr::GroupingSet(_))) {
            return not_impl_err!("a subquery with GROUPING SETS that names outer columns");
        }
        let input = Arc::new(self.push(&of.input)?);
        let group: Vec<Expr> = self.all_within(&of.group_expr)?.into_iter().chain(self.value_columns()).collect();
        let aggregates = self.all_within(&of.aggr_expr)?;
        if !of.group_expr.is_empty() {
            return Ok(LogicalPlan::Aggregate(Aggregate::try_new(input, group, aggregates)?));
        }
        // Each value has a row, though there may be no rows to count.
        let counted = self.names.next("counted");
        let aggregates = aggregates.into_iter().chain([count(lit(1_i64)).alias(&counted)]).collect();
        let found = LogicalPlan::Aggregate(Aggregate::try_new(input, group, aggregates)?);
        let (found, on) = self.renamed(found, &counted)?;
        let joined = null_safe_join(self.rows.clone(), found, JoinType::Left, on, None)?;
        let none = Expr::Column(Column::new_unqualified(&counted)).is_null();
        let mut columns = Vec::new();
        for (column, aggregate) in of.schema.columns().into_iter().zip(&of.aggr_expr) {
            let of_none = of_no_rows(aggregate, of.schema.data_type(&column)?)?;
            let value = Expr::Column(column.clone());
            columns.push(match of_none.is_null() {
                true => value,
                false => {
                    when(none.clone(), lit(of_none)).otherwise(value)?.alias_qualified(column.relation, column.name)
                }
            });
        }
        columns.extend(self.value_columns());
        Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(joined))?))
    }

    /// `plan` with new names for its values, and the equalities between these and the values here.
    fn renamed(&self, plan: LogicalPlan, prefix: &str) -> Result<(LogicalPlan, Vec<(Expr, Expr)>)> {
        let mut on = Vec::new();
        let columns = plan.schema().columns().into_iter().map(|column| {
            match self.columns.iter().position(|(_, value)| *value == column) {
                None => Expr::Column(column),
                Some(at) => {
                    let name = format!("{prefix}_{at}");
                    on.push((Expr::Column(column.clone()), Expr::Column(Column::new_unqualified(&name))));
                    Expr::Column(column).alias(name)
                }
            }
        });
        let columns = columns.collect();
        Ok((LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?), on))
    }

    fn join(&self, of: &Join) -> Result<LogicalPlan> {
        let mut named = false;
        for expr in of.on.iter().flat_map(|(left, right)| [left, right]).chain(&of.filter) {
            named |= self.is_named_in(expr)?;
        }
        let mut on = Vec::new();
        for (left, right) in &of.on {
            on.push((self.within(left.clone())?, self.within(right.clone())?));
        }
        let filter = of.filter.clone().map(|filter| self.within(filter)).transpose()?;
        let (mut left, mut right) = (of.left.as_ref(), of.right.as_ref());
        let mut kind = of.join_type;
        let mirrored =
            matches!(kind, JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark);
        if mirrored {
            kind = kind.swap();
            (left, right) = (right, left);
            on = on.into_iter().map(|(left, right)| (right, left)).collect();
        }
        if kind == JoinType::Full {
            return not_impl_err!(
                "a FULL JOIN in a subquery that names outer columns in it: compute the join in a derived table"
            );
        }
        let inner = kind == JoinType::Inner;
        let (of_left, of_right) = (self.depends(left)?, self.depends(right)?);
        let joined = |left: LogicalPlan, right: LogicalPlan| {
            let (left, right) = (Arc::new(left), Arc::new(right));
            let join = Join::try_new(
                left,
                right,
                on.clone(),
                filter.clone(),
                kind,
                JoinConstraint::On,
                of.null_equality,
                false,
            )?;
            Ok(LogicalPlan::Join(join))
        };
        // The key of a set operation is all columns, so it includes the values.
        let one_side = !super::super::sets::is_set_operation(of);
        if inner && one_side && of_right && !of_left && !named {
            return joined(left.clone(), self.push(right)?);
        }
        if one_side && !of_right {
            return joined(self.push(left)?, right.clone());
        }
        let left = self.push(left)?;
        let (mut right, values) = self.renamed(self.push(right)?, &self.names.next("side"))?;
        if of.null_equality == NullEquality::NullEqualsNothing
            && let Some(known) = conjunction(on.iter().map(|(_, right)| right.clone().is_not_null()))
        {
            right = LogicalPlanBuilder::from(right).filter(known)?.build()?;
        }
        let on = on.iter().cloned().chain(values).collect();
        null_safe_join(left, right, kind, on, filter)
    }

    fn union(&self, of: &Union) -> Result<LogicalPlan> {
        let names: Vec<Column> = of.schema.columns();
        let mut inputs = Vec::new();
        for input in &of.inputs {
            let columns = input.schema().columns().into_iter().zip(&names);
            let columns = columns.map(|(column, name)| Expr::Column(column).alias(&name.name));
            let columns = columns.chain(self.value_columns()).collect();
            let input = Arc::new(self.push(input)?);
            inputs.push(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, input)?)));
        }
        let union = LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?);
        let named = names.into_iter().chain(self.columns.iter().map(|(_, value)| value.clone()));
        let columns = union.schema().columns().into_iter().zip(named);
        let columns = columns.map(|(column, named)| Expr::Column(column).alias_qualified(named.relation, named.name));
        Ok(LogicalPlan::Projection(Projection::try_new(columns.collect(), Arc::new(union))?))
    }

    fn window(&self, of: &Window) -> Result<LogicalPlan> {
        let mut windows = Vec::new();
        for expr in &of.window_expr {
            let (relation, name) = expr.qualified_name();
            // DataFusion allows at most one alias on a window.
            let expr = self.within(expr.clone().unalias_nested().data)?.transform(|part| {
                Ok(match part {
                    Expr::WindowFunction(mut function) => {
                        function.params.partition_by.extend(self.value_columns());
                        Transformed::yes(Expr::WindowFunction(function))
                    }
                    part => Transformed::no(part),
                })
            });
            windows.push(expr.data()?.alias_qualified(relation, name));
        }
        Ok(LogicalPlan::Window(Window::try_new(windows, Arc::new(self.push(&of.input)?))?))
    }

    fn limit(&self, of: &Limit) -> Result<LogicalPlan> {
        let (Ok(SkipType::Literal(skip)), Ok(FetchType::Literal(fetch))) = (of.get_skip_type(), of.get_fetch_type())
        else {
            return not_impl_err!("a LIMIT that is not a number, in a subquery that names outer columns");
        };
        let name = self.names.next("rank");
        let rank = Expr::Column(Column::new_unqualified(&name));
        let skip = skip as u64;
        let from = (skip > 0).then(|| rank.clone().gt(lit(skip)));
        let to = fetch.map(|fetch| rank.lt_eq(lit(skip.saturating_add(fetch as u64))));
        let ranked = self.ranked(&of.input, &name)?;
        let rows = match conjunction(from.into_iter().chain(to)) {
            Some(within) => LogicalPlan::Filter(Filter::try_new(within, Arc::new(ranked))?),
            None => ranked,
        };
        let columns = of.input.schema().columns().into_iter().map(Expr::Column).chain(self.value_columns()).collect();
        Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(rows))?))
    }

    /// The rows, numbered within equal values in the order in which a limit sees them.
    fn ranked(&self, plan: &LogicalPlan, name: &str) -> Result<LogicalPlan> {
        match plan {
            LogicalPlan::Projection(of) if is_sorted(&of.input) => {
                let input = Arc::new(self.ranked(&of.input, name)?);
                let rank = Expr::Column(Column::new_unqualified(name));
                let columns =
                    self.all_within(&of.expr)?.into_iter().chain(self.value_columns()).chain([rank]).collect();
                Ok(LogicalPlan::Projection(Projection::try_new(columns, input)?))
            }
            LogicalPlan::Sort(of) => {
                let mut order = Vec::new();
                for sort in &of.expr {
                    order.push(SortExpr { expr: self.within(sort.expr.clone())?, ..sort.clone() });
                }
                self.numbered(&of.input, order, name)
            }
            other => self.numbered(other, Vec::new(), name),
        }
    }

    fn numbered(&self, plan: &LogicalPlan, order: Vec<SortExpr>, name: &str) -> Result<LogicalPlan> {
        let number = row_number().partition_by(self.value_columns().collect());
        let number = if order.is_empty() { number } else { number.order_by(order) };
        let number = number.build()?.alias(name);
        Ok(LogicalPlan::Window(Window::try_new(vec![number], Arc::new(self.push(plan)?))?))
    }
}

fn is_sorted(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(of) => is_sorted(&of.input),
        plan => matches!(plan, LogicalPlan::Sort(_)),
    }
}

/// The result of an aggregate over no rows.
fn of_no_rows(aggregate: &Expr, data_type: &arrow::datatypes::DataType) -> Result<ScalarValue> {
    match aggregate {
        Expr::Alias(alias) => of_no_rows(&alias.expr, data_type),
        Expr::AggregateFunction(AggregateFunction { func, .. }) => func.default_value(data_type),
        _ => ScalarValue::try_from(data_type),
    }
}
