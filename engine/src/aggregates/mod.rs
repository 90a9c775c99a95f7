//! Aggregates that spill in places where DataFusion's hold all their input values.
//!
//! A table of groups spills; the set of values of one group does not. So values become groups, and a second grouping aggregates them:
//!
//! ```text
//!   select g, count(distinct d) from t group by g
//!
//!   Aggregate: by g       count(d)
//!     Aggregate: by g, d
//! ```
//!
//! DISTINCT over other columns, and all other aggregates, become further grouping sets. The set without values has one row per group, which holds the result:
//!
//! ```text
//!   select g, count(distinct d), count(distinct e), avg(x) from t group by g
//!
//!   Aggregate: by g       count(d) filter (where set = 1), count(e) filter (where set = 2), max(a) filter (where set = 3)
//!     Aggregate: by grouping sets ((g, d), (g, e), (g))  avg(x) as a
//! ```
//!
//! Each row is then grouped once for each set, which takes two or three times as long as sets of values that fit into memory. So grouping sets, and medians
//! and percentiles from sorted values (see [`sorted`]), are only for texts and for plans of [`crate::spilling`]; one grouping over another, as in the first
//! example, is for all. The plans consist of DataFusion's own operators, so they are encoded, cut into stages and explained as any other.

mod parts;
mod sorted;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ScalarValue};
use datafusion::functions::expr_fn::coalesce;
use datafusion::functions_aggregate::bool_and_or::bool_or_udaf;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, Sort};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{
    Aggregate, AggregateUDF, Expr, ExprSchemable, GroupingSet, LogicalPlan, Projection, case, cast, lit,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use parts::{Key, Part, Parts};
pub(crate) use sorted::holds_values;
use std::sync::Arc;

/// The name of DataFusion's rule for the simplest case; this rule replaces it.
const REPLACED: &str = "single_distinct_aggregation_to_group_by";

/// DataFusion's rules, with this one in place of the replaced one.
pub(crate) fn instead(
    mut rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let ours: Arc<dyn OptimizerRule + Send + Sync> = Arc::new(ValuesAsGroups);
    match rules.iter_mut().find(|rule| rule.name() == REPLACED) {
        Some(rule) => *rule = ours,
        None => rules.push(ours),
    }
    rules
}

/// DataFusion's rules without the replaced one.
pub(crate) fn without_replaced(
    mut rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    rules.retain(|rule| rule.name() != REPLACED);
    rules
}

#[derive(Debug, Default)]
struct ValuesAsGroups;

impl OptimizerRule for ValuesAsGroups {
    fn name(&self) -> &str {
        "values_as_groups"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let spills = !config.options().optimizer.prefer_hash_join;
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        match Parts::of(aggregate, spills)? {
            Some(parts)
                if spills
                    || parts.only_as_groups()
                    || holds_texts(aggregate, &parts)?
                    || !needs_sets(aggregate, &parts) =>
            {
                Ok(Transformed::yes(grouped_twice(aggregate, parts)?))
            }
            _ => Ok(Transformed::no(plan)),
        }
    }
}

/// Whether grouping sets are needed: for values of different keys, or values beside whole groups. Sorted values need them too. In a single grouping,
/// DataFusion knows that no value comes twice, and would reverse a running sum rather than sort: that holds all rows of a group.
fn needs_sets(aggregate: &Aggregate, parts: &Parts) -> bool {
    let mut plain = parts.calls.iter().filter_map(Part::plain);
    parts.sets.is_some()
        || parts.keys.len() > 1
        || parts.keys.iter().any(|key| key.sorted)
        || plain.any(|call| over(call, aggregate).is_none())
}

/// Whether values have no fixed width. Sets of such values take far more memory than they report to the pool. The task is then stopped for the memory of its
/// process, and its second run begins beside what the first has not yet freed.
fn holds_texts(aggregate: &Aggregate, parts: &Parts) -> Result<bool> {
    for expr in parts.keys.iter().flat_map(|key| &key.exprs) {
        if expr.get_type(aggregate.input.schema())?.primitive_width().is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn grouped_twice(aggregate: &Aggregate, parts: Parts) -> Result<LogicalPlan> {
    let mut below = Below::of(aggregate, &parts)?;
    let (mut above, mut results) = (Vec::new(), Vec::new());
    for (position, part) in parts.calls.into_iter().enumerate() {
        let name = format!("__windlass_result_{position}");
        results.push(match part {
            Part::Distinct(call, key) => {
                above.push(below.distinct(call, key)?.alias(&name));
                column(&name)
            }
            Part::Plain(call) => {
                let (over, result) = below.plain(call, column(&name), aggregate)?;
                above.push(over.alias(&name));
                result
            }
            Part::Median(function, key) => {
                above.push(sorted::median(function, &below.keys[key], below.is_of(key)).alias(&name));
                column(&name)
            }
            Part::Percentile(fraction, key) => {
                let of = below.keys[key].exprs[0].get_type(aggregate.input.schema())?;
                let key = &below.keys[key];
                sorted::percentile(fraction, key, below.is_of(key.number), &name, &of, &mut above)?
            }
        });
    }
    let columns: Vec<Expr> = below.groups.iter().map(above_grouping).collect();
    let by_set = below.user_id(aggregate)?;
    let partitions: Vec<Expr> = columns.iter().cloned().chain(below.sets.as_ref().map(|_| grouping_id())).collect();
    let Below { keys, sets, groups, calls, .. } = below;
    let mut plan = grouped(aggregate, &groups, &keys, sets, calls)?;
    for key in keys.iter().filter(|key| key.sorted) {
        plan = sorted::with_places(plan, key, &partitions)?;
    }
    let mut by = columns.clone();
    if let Some(id) = by_set {
        let mut all: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        all.push(id.alias(USER_ID));
        plan = LogicalPlan::Projection(Projection::try_new(all, Arc::new(plan))?);
        by.push(column(USER_ID));
    }
    let above = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(plan), by.clone(), above)?);
    let named = by.into_iter().chain(results).enumerate().map(|(position, result)| {
        let (qualifier, field) = aggregate.schema.qualified_field(position);
        match &result {
            Expr::Column(column) if column.relation.as_ref() == qualifier && column.name == *field.name() => result,
            _ => result.alias_qualified(qualifier.cloned(), field.name()),
        }
    });
    Ok(LogicalPlan::Projection(Projection::try_new(named.collect(), Arc::new(above))?))
}

/// Column above: the statement's own grouping set of a row.
const USER_ID: &str = "__windlass_grouping_id";

/// The lower grouping, by groups and values.
struct Below {
    /// The groups, under the names that they have above.
    groups: Vec<Expr>,
    keys: Vec<Key>,
    calls: Vec<Expr>,
    /// `None`: one grouping by all groups and the only key.
    sets: Option<Sets>,
}

struct Sets {
    /// Grouping sets of the statement, as columns above.
    users: Vec<Vec<Expr>>,
    /// Whether each of them also has a set without values.
    plain: bool,
    /// Columns in the order of the identifier's bits, highest first.
    columns: Vec<Expr>,
    all: Vec<Vec<Expr>>,
}

impl Sets {
    fn of(users: Vec<Vec<Expr>>, keys: &[Key], plain: bool) -> Result<Self> {
        let mut all = Vec::new();
        for user in &users {
            let of_keys = keys.iter().map(|key| user.iter().cloned().chain(key.columns()).collect());
            all.extend(of_keys);
            all.extend(plain.then(|| user.clone()));
        }
        let set = [Expr::GroupingSet(GroupingSet::GroupingSets(all.clone()))];
        let columns = grouping_set_to_exprlist(&set)?.into_iter().cloned().collect();
        Ok(Self { users, plain, columns, all })
    }

    /// The identifier of rows of this set, as a literal.
    fn id(&self, set: &[Expr]) -> Result<Expr> {
        identifier(&self.columns, set)
    }

    fn of_user(&self, user: &[Expr], keys: &[Key]) -> Vec<Vec<Expr>> {
        let of_keys = keys.iter().map(|key| user.iter().cloned().chain(key.columns()).collect());
        of_keys.chain(self.plain.then(|| user.to_vec())).collect()
    }
}

fn identifier(columns: &[Expr], set: &[Expr]) -> Result<Expr> {
    let id = columns.iter().fold(0_u64, |id, column| id << 1 | u64::from(!set.contains(column)));
    Ok(lit(ScalarValue::UInt64(Some(id)).cast_to(&Aggregate::grouping_id_type(columns.len(), 0))?))
}

fn grouping_id() -> Expr {
    column(Aggregate::INTERNAL_GROUPING_ID)
}

impl Below {
    fn of(aggregate: &Aggregate, parts: &Parts) -> Result<Self> {
        let named = |position: usize, group: &Expr| match group {
            Expr::Column(_) => group.clone(),
            other => other.clone().alias(format!("__windlass_group_{position}")),
        };
        let groups: Vec<Expr> = parts.groups.iter().enumerate().map(|(at, group)| named(at, group)).collect();
        let keys = parts.keys.clone();
        let sets = match &parts.sets {
            None if !needs_sets(aggregate, parts) => None,
            users => {
                let all = vec![(0..groups.len()).collect()];
                let users = users.as_ref().unwrap_or(&all).iter();
                let users = users.map(|set| set.iter().map(|at| above_grouping(&groups[*at])).collect()).collect();
                // A set without columns has a row even if the input is empty.
                let plain = parts.calls.iter().any(|part| part.plain().is_some()) || keys.iter().any(|key| key.sorted);
                Some(Sets::of(users, &keys, parts.sets.is_some() || plain)?)
            }
        };
        let mut calls = Vec::new();
        for key in keys.iter().filter(|key| key.sorted) {
            calls.push(sorted::count(key));
        }
        Ok(Self { groups, keys, calls, sets })
    }

    /// Adds a call to the lower grouping; returns its column above.
    fn add(&mut self, call: AggregateFunction) -> Expr {
        let name = format!("__windlass_partial_{}", self.calls.len());
        self.calls.push(Expr::AggregateFunction(call).alias(&name));
        column(&name)
    }

    /// The call above for an aggregate without DISTINCT, and its result as an expression of `named`, the column of that call.
    fn plain(&mut self, call: AggregateFunction, named: Expr, aggregate: &Aggregate) -> Result<(Expr, Expr)> {
        let default =
            call.func.default_value(&Expr::AggregateFunction(call.clone()).get_type(aggregate.input.schema())?)?;
        let result = if default.is_null() { named } else { coalesce(vec![named, lit(default)]) };
        let function = match &self.sets {
            None => over(&call, aggregate),
            Some(_) => Some(the_only(&Expr::AggregateFunction(call.clone()).get_type(aggregate.input.schema())?)),
        };
        let Some(function) = function else {
            return datafusion::common::internal_err!("{} is not computed from parts", call.func.name());
        };
        let partial = self.add(call);
        let filter = match &self.sets {
            None => None,
            Some(sets) => Some(is_one_of(sets.users.iter().map(|user| sets.id(user)).collect::<Result<_>>()?)),
        };
        Ok((called(function, vec![partial], filter), result))
    }

    fn distinct(&mut self, call: AggregateFunction, key: usize) -> Result<Expr> {
        let AggregateFunction { func, mut params } = call;
        // Whether any row of the value passes the filter.
        let passes = params.filter.take().map(|filter| {
            self.add(AggregateFunction::new_udf(bool_or_udaf(), vec![*filter], false, None, vec![], None))
        });
        let filter = match (self.is_of(key), passes) {
            (Some(of), Some(passes)) => Some(of.and(passes)),
            (of, passes) => of.or(passes),
        };
        let key = &self.keys[key];
        let args = params.args.into_iter().map(|arg| keyed(arg, key)).collect::<Result<_>>()?;
        let order_by = params.order_by.into_iter().map(|sort| Ok(Sort { expr: keyed(sort.expr, key)?, ..sort }));
        let order_by = order_by.collect::<Result<_>>()?;
        let filter = filter.map(Box::new);
        let params = AggregateFunctionParams { args, distinct: false, filter, order_by, ..params };
        Ok(Expr::AggregateFunction(AggregateFunction { func, params }))
    }

    /// Whether a row belongs to a grouping set with this key; `None` where all do.
    fn is_of(&self, key: usize) -> Option<Expr> {
        let sets = self.sets.as_ref()?;
        let of_user = |user: &Vec<Expr>| {
            let set: Vec<Expr> = user.iter().cloned().chain(self.keys[key].columns()).collect();
            sets.id(&set)
        };
        // An identifier of at most 60 bits fits some integer type.
        sets.users.iter().map(of_user).collect::<Result<_>>().ok().map(is_one_of)
    }

    /// The identifier of the statement's own grouping set to which a row belongs.
    fn user_id(&self, aggregate: &Aggregate) -> Result<Option<Expr>> {
        let (Some(sets), true) = (&self.sets, has_sets(aggregate)) else { return Ok(None) };
        let groups: Vec<Expr> = self.groups.iter().map(above_grouping).collect();
        let mut when = Vec::new();
        for user in &sets.users {
            let id = identifier(&groups, user)?;
            for set in sets.of_user(user, &self.keys) {
                when.push((sets.id(&set)?, id.clone()));
            }
        }
        let Some((_, last)) = when.pop() else { return Ok(None) };
        let Some(((first, then), others)) = when.split_first() else { return Ok(Some(last)) };
        let mut ids = case(grouping_id()).when(first.clone(), then.clone());
        for (set, id) in others {
            ids = ids.when(set.clone(), id.clone());
        }
        Ok(Some(ids.otherwise(last)?))
    }
}

fn has_sets(aggregate: &Aggregate) -> bool {
    matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)])
}

fn grouped(
    aggregate: &Aggregate,
    groups: &[Expr],
    keys: &[Key],
    sets: Option<Sets>,
    calls: Vec<Expr>,
) -> Result<LogicalPlan> {
    let input = Arc::clone(&aggregate.input);
    let Some(sets) = sets else {
        let by = groups.iter().cloned().chain(keys.iter().flat_map(Key::named)).collect();
        return Ok(LogicalPlan::Aggregate(Aggregate::try_new(input, by, calls)?));
    };
    let mut named: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    named.extend(groups.iter().filter(|group| matches!(group, Expr::Alias(_))).cloned());
    named.extend(keys.iter().flat_map(Key::named));
    let named = LogicalPlan::Projection(Projection::try_new(named, input)?);
    let by = vec![Expr::GroupingSet(GroupingSet::GroupingSets(sets.all))];
    Ok(LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(named), by, calls)?))
}

/// The function that combines the results of parts of a group, if that gives the result of the group.
fn over(call: &AggregateFunction, aggregate: &Aggregate) -> Option<Arc<AggregateUDF>> {
    let params = &call.params;
    if params.null_treatment.is_some() || !params.order_by.is_empty() {
        return None;
    }
    match call.func.name() {
        "min" | "max" | "bool_and" | "bool_or" | "bit_and" | "bit_or" => Some(Arc::clone(&call.func)),
        "count" => Some(crate::right::sum_function()),
        // A sum of part of the integers may overflow where the whole sum does not.
        "sum" => {
            let of = params.args.first()?.get_type(aggregate.input.schema()).ok()?;
            of.is_floating().then(|| Arc::clone(&call.func))
        }
        _ => None,
    }
}

/// The function that returns the only value of a group, fast where there are many groups.
fn the_only(of: &arrow::datatypes::DataType) -> Arc<AggregateUDF> {
    use arrow::datatypes::DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Utf8, Utf8View};
    let ordered = of.is_numeric()
        || of.is_temporal() && !matches!(of, arrow::datatypes::DataType::Interval(_))
        || matches!(of, Binary | BinaryView | LargeBinary | LargeUtf8 | Utf8 | Utf8View);
    if ordered { crate::right::max_function() } else { first_value_udaf() }
}

fn is_one_of(mut ids: Vec<Expr>) -> Expr {
    match ids.len() {
        1 => grouping_id().eq(ids.remove(0)),
        _ => grouping_id().in_list(ids, false),
    }
}

/// `expr` over the columns of a key.
fn keyed(expr: Expr, key: &Key) -> Result<Expr> {
    let keyed = expr.transform_down(|expr| match key.exprs.iter().position(|of| *of == expr) {
        Some(at) => Ok(Transformed::new(key.column(at), true, TreeNodeRecursion::Jump)),
        None => Ok(Transformed::no(expr)),
    });
    Ok(keyed?.data)
}

/// The column of a group above the grouping.
fn above_grouping(group: &Expr) -> Expr {
    match group {
        Expr::Alias(alias) => column(&alias.name),
        other => other.clone(),
    }
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

fn as_count(expr: Expr) -> Expr {
    cast(expr, arrow::datatypes::DataType::Int64)
}

fn called(function: Arc<AggregateUDF>, args: Vec<Expr>, filter: Option<Expr>) -> Expr {
    let filter = filter.map(Box::new);
    Expr::AggregateFunction(AggregateFunction::new_udf(function, args, false, filter, vec![], None))
}
