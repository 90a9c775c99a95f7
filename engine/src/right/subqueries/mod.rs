//! Subqueries in expressions.
//!
//! DataFusion turns subqueries into joins by pulling the conditions on outer columns up to the join. That is right for a plain subquery of tables, conditions
//! and joins, and for one aggregate over it. Elsewhere it drops the operators in between:
//!
//! - `7 not in (select …)` is unknown if the list has a NULL. With a condition on an outer column, or under OR, it gives true.
//! - an aggregate without GROUP BY always has a row, so EXISTS over it is true, and `0 in (select count(*) …)` may be true.
//! - HAVING without GROUP BY decides whether there is a row. Where it is true for an empty input, the row is lost.
//! - a condition below an outer join, a window, a LIMIT or an OFFSET means something else above it.
//! - IN and EXISTS in a SELECT list, in GROUP BY or in an aggregate cannot be planned at all.
//! - a window or a limit in a LATERAL subquery spans the rows of all outer rows.
//! - a scalar subquery without rows is NULL, though its column may say that it never is.
//!
//! Here those subqueries are computed for all values of the outer columns at once: the subquery is joined with these values at its leaves, below its
//! conditions ([`values`]), and the outer rows are joined with the result by these values. Subqueries that DataFusion answers rightly ([`trusted`]) are left
//! to it, since its plan is cheaper. (T. Neumann and A. Kemper, 'Unnesting Arbitrary Queries', BTW 2015.)

mod no_fewer;
mod trusted;
mod values;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType, Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::functions_aggregate::first_last::first_value;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder, Operator, Projection, Sort,
    Subquery, SubqueryAlias, Window, lit, when,
};
use datafusion::optimizer::AnalyzerRule;
use std::cell::Cell;
use std::sync::Arc;
use values::{Values, null_safe_join, outer_columns};

/// Plans the subqueries that DataFusion would answer wrongly or not at all.
#[derive(Debug)]
pub(super) struct Subqueries;

impl AnalyzerRule for Subqueries {
    fn name(&self) -> &str {
        "subqueries"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let names = Names::default();
        plan.transform_up_with_subqueries(|node| answered(node, &names)).data()
    }
}

/// Numbers that make the names of generated columns distinct. The same statement always gets the same ones.
#[derive(Default)]
struct Names(Cell<usize>);

impl Names {
    fn next(&self, of: &str) -> String {
        self.0.set(self.0.get() + 1);
        format!("__{of}{}", self.0.get())
    }
}

/// The position of an expression in a plan.
#[derive(Clone, Copy)]
struct Place {
    /// Whether it is in WHERE or HAVING.
    filter: bool,
    /// Whether it is in WHERE, HAVING or SELECT.
    values: bool,
    /// Whether it is one of the conditions that all must hold.
    conjunct: bool,
    /// Whether NULL and false have the same effect.
    null_is_false: bool,
}

const SELECT: Place = Place { filter: false, values: true, conjunct: false, null_is_false: false };
const CONDITION: Place = Place { filter: true, values: true, conjunct: true, null_is_false: true };
const ELSEWHERE: Place = Place { filter: false, values: false, conjunct: false, null_is_false: false };

fn answered(node: LogicalPlan, names: &Names) -> Result<Transformed<LogicalPlan>> {
    let node = match node {
        LogicalPlan::Join(join) => match lateral(&join, names)? {
            Some(plan) => return Ok(Transformed::yes(plan)),
            None => LogicalPlan::Join(join),
        },
        node => node,
    };
    let mut found = false;
    node.apply_expressions(|expr| {
        found |= expr.exists(|part| Ok(is_subquery(part)))?;
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    })?;
    if !found {
        return Ok(Transformed::no(node));
    }
    match node {
        LogicalPlan::Filter(filter) => filtered(filter, names),
        LogicalPlan::Projection(Projection { expr, input, .. }) => {
            let mut rows = Rows::of(&input, names);
            let expr = expr.into_iter().map(|expr| rows.named(expr, SELECT)).collect::<Result<Vec<_>>>()?;
            rows.changed_to(|input| Ok(LogicalPlan::Projection(Projection::try_new(expr, input)?)))
        }
        LogicalPlan::Aggregate(Aggregate { group_expr, aggr_expr, input, .. }) => {
            let mut rows = Rows::of(&input, names);
            let group_expr =
                group_expr.into_iter().map(|expr| rows.named(expr, ELSEWHERE)).collect::<Result<Vec<_>>>()?;
            let aggr_expr =
                aggr_expr.into_iter().map(|expr| rows.named(expr, ELSEWHERE)).collect::<Result<Vec<_>>>()?;
            rows.changed_to(|input| Ok(LogicalPlan::Aggregate(Aggregate::try_new(input, group_expr, aggr_expr)?)))
        }
        LogicalPlan::Window(Window { input, window_expr, schema }) => {
            let mut rows = Rows::of(&input, names);
            let window_expr =
                window_expr.into_iter().map(|expr| rows.named(expr, ELSEWHERE)).collect::<Result<Vec<_>>>()?;
            rows.changed_to(|input| columns_of(&schema, LogicalPlan::Window(Window::try_new(window_expr, input)?)))
        }
        LogicalPlan::Sort(Sort { expr, input, fetch }) => {
            let mut rows = Rows::of(&input, names);
            let mut sorts = Vec::with_capacity(expr.len());
            for mut sort in expr {
                sort.expr = rows.without(sort.expr, ELSEWHERE)?;
                sorts.push(sort);
            }
            let schema = Arc::clone(input.schema());
            rows.changed_to(|input| columns_of(&schema, LogicalPlan::Sort(Sort { expr: sorts, input, fetch })))
        }
        LogicalPlan::Join(join) => joined(join, names),
        node => Ok(Transformed::no(node)),
    }
}

fn filtered(filter: Filter, names: &Names) -> Result<Transformed<LogicalPlan>> {
    let schema = Arc::clone(filter.input.schema());
    let mut rows = Rows::of(&filter.input, names);
    let mut conditions = Vec::new();
    for condition in split_conjunction_owned(filter.predicate) {
        conditions.push(rows.without(condition, CONDITION)?);
    }
    rows.changed_to(|input| {
        let filter = conjunction(conditions).map_or(Ok(input.as_ref().clone()), |condition| {
            Filter::try_new(condition, Arc::clone(&input)).map(LogicalPlan::Filter)
        });
        columns_of(&schema, filter?)
    })
}

/// Plans a LATERAL subquery; its windows, limits and aggregates apply to each outer row.
fn lateral(join: &Join, names: &Names) -> Result<Option<LogicalPlan>> {
    let (subquery, alias) = match join.right.as_ref() {
        LogicalPlan::Subquery(of) => (of, None),
        LogicalPlan::SubqueryAlias(of) => match of.input.as_ref() {
            LogicalPlan::Subquery(subquery) => (subquery, Some(of.alias.clone())),
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    if !matches!(join.join_type, JoinType::Inner | JoinType::Left)
        || trusted::lateral(subquery, join.left.schema())
        || join.filter.as_ref().is_some_and(holds_subquery)
    {
        return Ok(None);
    }
    let values = Rows::of(&join.left, names).values(subquery)?;
    if values.is_empty() {
        return Ok(None);
    }
    let rows = values.joined_with(&subquery.subquery)?;
    let (keys, on) = values.keys(&names.next("lateral"));
    let columns = subquery.subquery.schema().columns().into_iter().map(Expr::Column).chain(keys);
    let mut right = LogicalPlanBuilder::from(rows).project(columns)?.build()?;
    if let Some(alias) = &alias {
        right = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(right), alias.clone())?);
    }
    let on = on.into_iter().map(|(outer, key)| match (key, &alias) {
        (Expr::Column(key), Some(alias)) => (outer, Expr::Column(Column::new(Some(alias.clone()), key.name))),
        (key, _) => (outer, key),
    });
    let equal = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
    let filter = conjunction(equal.chain(join.filter.clone()));
    let joined = null_safe_join(join.left.as_ref().clone(), right, join.join_type, on.collect(), filter)?;
    columns_of(&join.schema, joined).map(Some)
}

/// Plans an inner join whose conditions have subqueries: the conditions are checked on its rows.
fn joined(mut join: Join, names: &Names) -> Result<Transformed<LogicalPlan>> {
    if join.on.iter().any(|(left, right)| holds_subquery(left) || holds_subquery(right)) {
        return plan_err!("a subquery in a key of a join is not supported: compute it in a derived table first");
    }
    let conditions = join.filter.take().map_or(Vec::new(), split_conjunction_owned);
    let (with, without): (Vec<_>, Vec<_>) = conditions.into_iter().partition(holds_subquery);
    if join.join_type != JoinType::Inner {
        return plan_err!(
            "a subquery in the condition of a {} JOIN is not supported: compute it in a derived table, and join that",
            join.join_type
        );
    }
    let joined = LogicalPlan::Join(Join { filter: conjunction(without), ..join });
    let Some(condition) = conjunction(with) else { return Ok(Transformed::no(joined)) };
    let answered = filtered(Filter::try_new(condition, Arc::new(joined))?, names)?;
    Ok(Transformed::yes(answered.data))
}

/// `plan` with only the columns of `schema`.
fn columns_of(schema: &DFSchema, plan: LogicalPlan) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

/// Marks the value as nullable: a subquery without rows is NULL, whatever its column says.
fn may_be_null(mut of: Subquery) -> Result<Subquery> {
    let schema = Arc::clone(of.subquery.schema());
    if schema.fields().len() != 1 || schema.field(0).is_nullable() || always_has_a_row(&of.subquery) {
        return Ok(of);
    }
    let columns = schema.columns().into_iter().map(|column| {
        let (relation, name) = (column.relation.clone(), column.name.clone());
        super::only_row::only_row(Expr::Column(column), lit(1_i64)).alias_qualified(relation, name)
    });
    let plan = LogicalPlan::Projection(Projection::try_new(columns.collect(), Arc::clone(&of.subquery))?);
    of.subquery = Arc::new(plan);
    Ok(of)
}

fn always_has_a_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(of) => always_has_a_row(&of.input),
        LogicalPlan::SubqueryAlias(of) => always_has_a_row(&of.input),
        LogicalPlan::Aggregate(of) => of.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(of) => of.produce_one_row,
        _ => false,
    }
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_))
}

fn holds_subquery(expr: &Expr) -> bool {
    expr.exists(|part| Ok(is_subquery(part))).unwrap_or(true)
}

/// The rows over which expressions are computed, joined with columns that hold the answers to their subqueries.
struct Rows<'a> {
    /// The original rows.
    rows: Arc<LogicalPlan>,
    answered: LogicalPlan,
    changed: bool,
    names: &'a Names,
}

impl<'a> Rows<'a> {
    fn of(rows: &Arc<LogicalPlan>, names: &'a Names) -> Self {
        Self { rows: Arc::clone(rows), answered: rows.as_ref().clone(), changed: false, names }
    }

    fn changed_to(
        self,
        plan: impl FnOnce(Arc<LogicalPlan>) -> Result<LogicalPlan>,
    ) -> Result<Transformed<LogicalPlan>> {
        let changed = self.changed;
        let plan = plan(Arc::new(self.answered))?;
        Ok(if changed { Transformed::yes(plan) } else { Transformed::no(plan) })
    }

    /// `expr` with the subqueries answered here replaced, under its old name.
    fn named(&mut self, expr: Expr, place: Place) -> Result<Expr> {
        let (relation, name) = expr.qualified_name();
        let answered = self.without(expr, place)?;
        Ok(match answered.qualified_name() == (relation.clone(), name.clone()) {
            true => answered,
            false => answered.alias_qualified(relation, name),
        })
    }

    /// `expr` with the subqueries answered here replaced.
    fn without(&mut self, expr: Expr, place: Place) -> Result<Expr> {
        let inside = Place { conjunct: false, null_is_false: false, ..place };
        match expr {
            Expr::Not(of) => match *of {
                Expr::InSubquery(of) => {
                    self.without(Expr::InSubquery(InSubquery { negated: !of.negated, ..of }), place)
                }
                Expr::Exists(of) => self.without(Expr::Exists(Exists { negated: !of.negated, ..of }), place),
                of => Ok(Expr::Not(Box::new(self.without(of, inside)?))),
            },
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
                let place = Place { conjunct: false, ..place };
                let (left, right) = (self.without(*left, place)?, self.without(*right, place)?);
                Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
            }
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                let expr = Box::new(self.without(*expr, inside)?);
                let of = InSubquery { expr, subquery, negated };
                match trusted::is_in(&of, place, self.rows.schema()) {
                    true => Ok(Expr::InSubquery(of)),
                    false => self.is_in(of, place),
                }
            }
            Expr::Exists(of) => match trusted::exists(&of, place, self.rows.schema()) {
                true => Ok(Expr::Exists(of)),
                false => self.exists(of),
            },
            Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => {
                let expr = Box::new(self.without(*expr, inside)?);
                match (op, quantifier) {
                    (Operator::Eq, SetQuantifier::Any) | (Operator::NotEq, SetQuantifier::All) => {
                        let negated = op == Operator::NotEq;
                        self.without(Expr::InSubquery(InSubquery { expr, subquery, negated }), place)
                    }
                    _ => self.compared(*expr, op, quantifier, subquery),
                }
            }
            Expr::ScalarSubquery(of) => match trusted::scalar(&of, place, self.rows.schema()) {
                true => Ok(Expr::ScalarSubquery(may_be_null(of)?)),
                false => self.scalar(of),
            },
            expr => expr.map_children(|part| self.without(part, inside).map(Transformed::yes)).data(),
        }
    }

    fn join(&mut self, right: LogicalPlan, on: Vec<(Expr, Expr)>) -> Result<()> {
        let left = std::mem::take(&mut self.answered);
        self.answered = null_safe_join(left, right, JoinType::Left, on, None)?;
        self.changed = true;
        Ok(())
    }

    /// The outer columns in `of` and their values.
    fn values(&self, of: &Subquery) -> Result<Values<'a>> {
        let schema = self.rows.schema();
        let columns = outer_columns(&of.subquery)?.into_iter().filter(|column| schema.has_column(column)).collect();
        Values::of(columns, &self.rows, self.names)
    }

    fn scalar(&mut self, of: Subquery) -> Result<Expr> {
        let [value] = of.subquery.schema().columns().try_into().map_err(|columns: Vec<Column>| {
            plan_datafusion_err!("a subquery in an expression has one column, and this one has {}", columns.len())
        })?;
        let values = self.values(&of)?;
        let rows = values.joined_with(&of.subquery)?;
        let name = self.names.next("value");
        let (keys, on) = values.keys(&name);
        if values::is_one_row(&of.subquery) {
            let columns = keys.into_iter().chain([Expr::Column(value).alias(&name)]);
            let rows = LogicalPlanBuilder::from(rows).project(columns)?.build()?;
            self.join(rows, on)?;
            return Ok(Expr::Column(Column::new_unqualified(name)));
        }
        let several = self.names.next("rows");
        let answers = [first_value(Expr::Column(value), vec![]).alias(&name), count(lit(1_i64)).alias(&several)];
        let rows = LogicalPlanBuilder::from(rows).aggregate(keys, answers)?.build()?;
        self.join(rows, on)?;
        let column = |name| Expr::Column(Column::new_unqualified(name));
        Ok(super::only_row::only_row(column(name), column(several)))
    }

    /// Compares with ANY or ALL. The bounds of a list tell whether a value is less than one member, or than all.
    fn compared(&mut self, expr: Expr, op: Operator, quantifier: SetQuantifier, of: Subquery) -> Result<Expr> {
        let values = self.values(&of)?;
        let rows = values.joined_with(&of.subquery)?;
        let [listed] = of.subquery.schema().columns().try_into().map_err(|columns: Vec<Column>| {
            plan_datafusion_err!("a subquery of ANY and ALL has one column, and this one has {}", columns.len())
        })?;
        let listed = Expr::Column(listed);
        let [all, known, low, high] = ["all", "known", "low", "high"].map(|name| self.names.next(name));
        let (keys, on) = values.keys(&all);
        let found = [
            count(lit(1_i64)).alias(&all),
            count(listed.clone()).alias(&known),
            min(listed.clone()).alias(&low),
            max(listed).alias(&high),
        ];
        self.join(LogicalPlanBuilder::from(rows).aggregate(keys, found)?.build()?, on)?;
        let [all, known, low, high] = [all, known, low, high].map(|name| Expr::Column(Column::new_unqualified(name)));
        let of_all = quantifier == SetQuantifier::All;
        // The case that decides: the comparison is true for one member (ANY), or not true for one (ALL).
        let decides = match (op, of_all) {
            (Operator::Gt, false) => expr.clone().gt(low),
            (Operator::GtEq, false) => expr.clone().gt_eq(low),
            (Operator::Lt, false) => expr.clone().lt(high),
            (Operator::LtEq, false) => expr.clone().lt_eq(high),
            (Operator::Gt, true) => expr.clone().lt_eq(high),
            (Operator::GtEq, true) => expr.clone().lt(high),
            (Operator::Lt, true) => expr.clone().gt_eq(low),
            (Operator::LtEq, true) => expr.clone().gt(low),
            (Operator::NotEq, false) | (Operator::Eq, true) => expr.clone().not_eq(low).or(expr.clone().not_eq(high)),
            _ => return plan_err!("{op} with ANY and ALL is not supported: use =, <>, <, <=, > or >="),
        };
        let empty = all.clone().is_null().or(all.clone().eq(lit(0_i64)));
        when(empty, lit(of_all))
            .when(decides, lit(!of_all))
            .when(expr.is_null().or(known.lt(all)), lit(ScalarValue::Boolean(None)))
            .otherwise(lit(of_all))
    }

    fn exists(&mut self, of: Exists) -> Result<Expr> {
        let values = self.values(&of.subquery)?;
        let name = self.names.next("exists");
        let column = Expr::Column(Column::new_unqualified(&name));
        let there = match values.is_empty() {
            true => {
                let rows = LogicalPlanBuilder::from(of.subquery.subquery.as_ref().clone());
                let rows = rows.aggregate(Vec::<Expr>::new(), [count(lit(1_i64)).alias(&name)])?.build()?;
                self.join(rows, vec![])?;
                column.gt(lit(0_i64))
            }
            false => {
                let rows = values.joined_with(&of.subquery.subquery)?;
                let (keys, on) = values.keys(&name);
                let rows = LogicalPlanBuilder::from(rows).aggregate(keys, [count(lit(1_i64)).alias(&name)])?.build()?;
                self.join(rows, on)?;
                column.is_not_null()
            }
        };
        Ok(if of.negated { !there } else { there })
    }

    /// A value is in a list if one member equals it. It is not in it if the list is empty, or if no member equals it and neither the value nor a member is
    /// NULL.
    fn is_in(&mut self, InSubquery { expr, subquery, negated }: InSubquery, place: Place) -> Result<Expr> {
        let values = self.values(&subquery)?;
        let rows = values.joined_with(&subquery.subquery)?;
        let Some(listed) = subquery.subquery.schema().columns().into_iter().next().map(Expr::Column) else {
            return plan_err!("the subquery of IN has no column");
        };
        let name = self.names.next("in");
        let (keys, mut on) = values.keys(&name);
        let distinct = LogicalPlanBuilder::from(rows.clone())
            .filter(listed.clone().is_not_null())?
            .project(keys.into_iter().chain([listed.clone().alias(&name)]))?
            .build()?;
        let found = Expr::Column(Column::new_unqualified(&name));
        on.push((expr.as_ref().clone(), found.clone()));
        self.join(LogicalPlan::Distinct(Distinct::All(Arc::new(distinct))), on)?;
        let found = found.is_not_null();
        if place.null_is_false && !negated {
            return Ok(found);
        }
        let (all, known) = (self.names.next("all"), self.names.next("known"));
        let (keys, on) = values.keys(&all);
        let counts = [count(lit(1_i64)).alias(&all), count(listed).alias(&known)];
        self.join(LogicalPlanBuilder::from(rows).aggregate(keys, counts)?.build()?, on)?;
        let [all, known] = [all, known].map(|name| Expr::Column(Column::new_unqualified(name)));
        let empty = all.clone().is_null().or(all.clone().eq(lit(0_i64)));
        when(found, lit(!negated))
            .when(empty, lit(negated))
            .when(expr.is_null().or(known.lt(all)), lit(ScalarValue::Boolean(None)))
            .otherwise(lit(negated))
    }
}
