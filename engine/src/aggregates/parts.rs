//! An aggregate taken apart.

use super::column;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Aggregate, AggregateUDF, Expr, ExprSchemable, GroupingSet};
use std::collections::HashSet;
use std::sync::Arc;

/// Functions whose result does not change when a value is repeated.
const SAME_WHEN_REPEATED: [&str; 6] = ["min", "max", "bool_and", "bool_or", "bit_and", "bit_or"];
/// Functions that DataFusion computes with DISTINCT. For others it fails or ignores DISTINCT.
const DISTINCT: [&str; 9] =
    ["count", "sum", "avg", "median", "percentile_cont", "array_agg", "string_agg", "collect_list", "collect_set"];
/// Maximum columns of all groupings together: the identifier of a grouping set has a bit for each.
const MAX_COLUMNS: usize = 60;
/// Maximum columns of a CUBE, which has one set per subset.
const MAX_CUBE: usize = 6;
const KEY: &str = "__windlass_key_";

pub(super) struct Parts {
    /// Distinct grouping expressions of the statement.
    pub groups: Vec<Expr>,
    /// The statement's grouping sets as positions in `groups`, or `None` if it has none.
    pub sets: Option<Vec<Vec<usize>>>,
    pub keys: Vec<Key>,
    pub calls: Vec<Part>,
}

/// Values that become groups: the arguments of one or more DISTINCT aggregates, or the argument of a median.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub number: usize,
    pub exprs: Vec<Expr>,
    /// Whether positions in the order of values are needed.
    pub sorted: bool,
    /// For sorted values: the condition for rows to count.
    pub filter: Option<Box<Expr>>,
    /// For sorted values: whether equal values count once.
    pub distinct: bool,
}

impl Key {
    fn name(&self, at: usize) -> String {
        format!("{KEY}{}_{at}", self.number)
    }

    pub fn column(&self, at: usize) -> Expr {
        column(&self.name(at))
    }

    pub fn columns(&self) -> impl Iterator<Item = Expr> {
        (0..self.exprs.len()).map(|at| self.column(at))
    }

    pub fn named(&self) -> impl Iterator<Item = Expr> {
        self.exprs.iter().enumerate().map(|(at, expr)| expr.clone().alias(self.name(at)))
    }
}

pub(super) enum Part {
    /// An aggregate over the distinct values of this key.
    Distinct(AggregateFunction, usize),
    Median(Arc<AggregateUDF>, usize),
    /// The fraction of the values that is below the result, and the key.
    Percentile(f64, usize),
    Plain(AggregateFunction),
}

impl Part {
    fn distinct(&self) -> Option<&AggregateFunction> {
        match self {
            Part::Distinct(call, _) => Some(call),
            _ => None,
        }
    }

    pub fn plain(&self) -> Option<&AggregateFunction> {
        match self {
            Part::Plain(call) => Some(call),
            _ => None,
        }
    }
}

impl Parts {
    /// Takes an aggregate apart. `None`: it stays as it is. With `sorts`, medians and percentiles are taken apart too.
    pub fn of(aggregate: &Aggregate, sorts: bool) -> Result<Option<Self>> {
        let groups: Vec<Expr> = grouping_set_to_exprlist(&aggregate.group_expr)?.into_iter().cloned().collect();
        let mut parts = Parts { groups, sets: None, keys: Vec::new(), calls: Vec::new() };
        for expr in &aggregate.aggr_expr {
            match unaliased(expr) {
                Expr::AggregateFunction(call) if parts.add(call.clone(), sorts) => {}
                _ => return Ok(None),
            }
        }
        let columns = parts.groups.len() + parts.keys.iter().map(|key| key.exprs.len()).sum::<usize>();
        if parts.keys.is_empty() || columns > MAX_COLUMNS || !parts.can_be_grouped(aggregate.input.schema())? {
            return Ok(None);
        }
        if aggregate.group_expr.iter().any(|by| matches!(by, Expr::GroupingSet(_))) {
            let Some(sets) = sets(&aggregate.group_expr, &parts.groups) else { return Ok(None) };
            parts.sets = Some(sets);
        }
        Ok(Some(parts))
    }

    /// Whether DataFusion would refuse it or answer wrongly, as it does for DISTINCT aggregates beside others with another order.
    pub fn only_as_groups(&self) -> bool {
        let mut distinct = self.calls.iter().filter_map(Part::distinct);
        let ordered =
            |call: &&AggregateFunction| !call.params.order_by.is_empty() && !call.func.supports_within_group_clause();
        let plain = self.calls.iter().filter_map(Part::plain).filter(ordered).count();
        let of_distinct = distinct.clone().filter(ordered).count();
        distinct.any(|call| !DISTINCT.contains(&call.func.name())) || of_distinct > 0 && of_distinct + plain > 1
    }

    /// Adds a call; returns whether it can be computed over groups of values.
    fn add(&mut self, mut call: AggregateFunction, sorts: bool) -> bool {
        let (name, params) = (call.func.name(), &call.params);
        if sorts && let Some(part) = self.sorted(&call) {
            self.calls.push(part);
            return true;
        }
        if params.distinct && !SAME_WHEN_REPEATED.contains(&name) {
            let Some(exprs) = values(&params.args) else { return false };
            if !params.order_by.iter().all(|sort| reads_only(&sort.expr, &exprs)) {
                return false;
            }
            let key = self.key(Key { number: 0, exprs, sorted: false, filter: None, distinct: true });
            self.calls.push(Part::Distinct(call, key));
            return true;
        }
        call.params.distinct = false;
        self.calls.push(Part::Plain(call));
        true
    }

    fn sorted(&mut self, call: &AggregateFunction) -> Option<Part> {
        let params = &call.params;
        let value = params.args.first()?;
        // A median of the middle values is already one that this rule has made.
        let is_own = matches!(value, Expr::Column(column) if column.name.starts_with(KEY));
        if is_own || !matches!(params.null_treatment, None | Some(NullTreatment::RespectNulls)) {
            return None;
        }
        let fraction = match (call.func.name(), &params.args[1..]) {
            ("median", []) => None,
            ("percentile_cont", [Expr::Literal(fraction, _)]) => {
                let ScalarValue::Float64(Some(fraction)) = fraction.cast_to(&DataType::Float64).ok()? else {
                    return None;
                };
                let descending = params.order_by.first().is_some_and(|sort| !sort.asc);
                Some(if descending { 1.0 - fraction } else { fraction })
            }
            _ => return None,
        };
        let (exprs, filter) = (vec![value.clone()], params.filter.clone());
        let key = self.key(Key { number: 0, exprs, sorted: true, filter, distinct: params.distinct });
        Some(match fraction {
            Some(fraction) => Part::Percentile(fraction, key),
            None => Part::Median(Arc::clone(&call.func), key),
        })
    }

    /// The number of `key`, which is added if missing.
    fn key(&mut self, key: Key) -> usize {
        let alike = |known: &Key| {
            known.exprs == key.exprs
                && known.sorted == key.sorted
                && known.filter == key.filter
                && known.distinct == key.distinct
        };
        let number = self.keys.iter().position(alike).unwrap_or(self.keys.len());
        if number == self.keys.len() {
            self.keys.push(Key { number, ..key });
        }
        number
    }

    fn can_be_grouped(&self, schema: &DFSchema) -> Result<bool> {
        for expr in self.keys.iter().flat_map(|key| &key.exprs) {
            if !RowConverter::supports_fields(&[SortField::new(expr.get_type(schema)?)]) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The positions in `groups` of each grouping set. `None`: there are too many, or a set is repeated.
fn sets(group_expr: &[Expr], groups: &[Expr]) -> Option<Vec<Vec<usize>>> {
    let [Expr::GroupingSet(of)] = group_expr else { return None };
    let sets: Vec<Vec<&Expr>> = match of {
        GroupingSet::Rollup(by) => (0..=by.len()).rev().map(|end| by[..end].iter().collect()).collect(),
        GroupingSet::Cube(by) if by.len() > MAX_CUBE => return None,
        GroupingSet::Cube(by) => {
            let subset = |bits: usize| by.iter().enumerate().filter(move |(at, _)| bits >> at & 1 == 1);
            (0..1 << by.len()).map(|bits| subset(bits).map(|(_, by)| by).collect()).collect()
        }
        GroupingSet::GroupingSets(sets) => sets.iter().map(|set| set.iter().collect()).collect(),
    };
    let mut seen = HashSet::new();
    let mut places = Vec::with_capacity(sets.len());
    for set in sets {
        let mut of: Vec<usize> =
            set.into_iter().map(|by| groups.iter().position(|group| group == by)).collect::<Option<_>>()?;
        of.sort_unstable();
        of.dedup();
        if !seen.insert(of.clone()) {
            return None;
        }
        places.push(of);
    }
    Some(places)
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// The arguments whose values must be distinct; constants, such as a separator, are left out.
fn values(args: &[Expr]) -> Option<Vec<Expr>> {
    let (first, others) = args.split_first()?;
    let varies = |arg: &&Expr| !matches!(arg, Expr::Literal(..));
    Some(std::iter::once(first).chain(others.iter().filter(varies)).cloned().collect())
}

/// Whether all columns of `expr` are within expressions of a key.
fn reads_only(expr: &Expr, key: &[Expr]) -> bool {
    if key.contains(expr) {
        return true;
    }
    let mut children = Vec::new();
    let walked = expr.apply_children(|child| {
        children.push(reads_only(child, key));
        Ok(TreeNodeRecursion::Continue)
    });
    walked.is_ok() && !matches!(expr, Expr::Column(_)) && children.into_iter().all(|child| child)
}
