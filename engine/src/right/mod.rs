//! Right answers where DataFusion 55 gives others than the SQL standard and PostgreSQL do.
//!
//! | module | what it is about |
//! | --- | --- |
//! | `subqueries` | NOT IN, EXISTS and scalar subqueries that name columns from outside |
//! | `subquery_order` | ORDER BY of subqueries and views |
//! | `sets` | INTERSECT ALL and EXCEPT ALL |
//! | `grouping` | GROUPING SETS over input that is sorted, constant or partitioned |
//! | `outer` | constants of the side of an outer join whose rows may be missing |
//! | `cross_joins` | joins by `=` and by IS NOT DISTINCT FROM next to each other |
//! | `equal` | conditions by which an expression is equal to a part of itself |
//! | `names` | filters where two columns have one name |
//! | `arithmetic`, `sum` | results that leave their type |
//! | `numbers` | decimals, and numbers of different types that meet |
//! | `keys`, `comparable` | zeros, NaN and intervals where they are compared |
//! | `instead` | max, min and corr of groups of floating point numbers |
//! | `frames` | sums, averages and statistics over frames that move |
//! | `domains` | functions that have no value for some numbers |
//! | `arrays`, `elements`, `texts` | functions of arrays and texts |
//! | `itself` | functions that hide a value from the planner |
//! | `unordered` | casts that do not keep the order of their values |
//! | `key_columns` | keys whose order DataFusion does not find |
//! | `estimates` | conditions whose rows cannot be estimated |
//! | `ranges` | RANGE frames whose bounds leave the type of their key, or whose key has no distance |
//!
//! All of it is rules over plans and functions that plans name, so it holds however a statement is run.

mod arithmetic;
mod arrays;
mod comparable;
pub(crate) mod cross_joins;
mod domains;
mod elements;
mod equal;
pub(crate) mod estimates;
mod frames;
mod grouping;
pub(crate) mod instead;
mod itself;
pub(crate) mod key_columns;
mod keys;
mod names;
pub(crate) mod numbers;
mod only_row;
mod outer;
pub(crate) mod ranges;
mod repeat;
mod sets;
mod subqueries;
mod subquery_order;
mod sum;
mod texts;
mod unordered;

use crate::time::{BeforeCoercion, ZonedCasts};
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::resolve_grouping_function::ResolveGroupingFunction;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use std::sync::Arc;

/// DataFusion's analysis, with what must come before it and after it.
pub(crate) fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> =
        vec![Arc::new(subquery_order::OrderOfSubqueries), Arc::new(subqueries::Subqueries)];
    rules.extend(coercion_rules());
    // They must know types.
    rules.push(Arc::new(texts::Patterns));
    rules.push(Arc::new(sets::CountedSets));
    rules.push(Arc::new(keys::ComparableKeys));
    rules.push(Arc::new(ranges::WideRanges));
    rules.push(Arc::new(arithmetic::CheckedArithmetic));
    rules.push(Arc::new(unordered::UnorderedCasts));
    rules.push(Arc::new(numbers::LeftToRight));
    rules
}

/// DataFusion's analysis, with ours about time around its coercion of types.
pub fn coercion_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    vec![
        Arc::new(ResolveGroupingFunction::new()),
        Arc::new(numbers::Numbers),
        Arc::new(BeforeCoercion),
        Arc::new(ranges::PeerFrames),
        Arc::new(TypeCoercion::new()),
        Arc::new(ZonedCasts),
    ]
}

/// DataFusion's rules, and before them what they must not believe.
pub(crate) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let pushes = |rule: &Arc<dyn PhysicalOptimizerRule + Send + Sync>| rule.name().starts_with("FilterPushdown");
    let rules = PhysicalOptimizer::new().rules.into_iter();
    let mut rules: Vec<_> =
        rules.map(|rule| if pushes(&rule) { Arc::new(names::ByName(rule)) as _ } else { rule }).collect();
    rules.insert(0, Arc::new(equal::PartsGoFirst));
    rules.insert(0, Arc::new(outer::ConstantsEndAtOuterJoins));
    rules.insert(0, Arc::new(grouping::GroupingSetsAreUnordered));
    rules
}

pub(crate) fn planner() -> Arc<dyn QueryPlanner + Send + Sync> {
    Arc::new(repeat::Planner)
}

pub(crate) fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let mut functions = arithmetic::functions();
    functions.extend(comparable::functions());
    functions.extend(numbers::functions());
    functions.push(only_row::function());
    functions.extend(itself::functions());
    functions.extend(arrays::functions());
    functions.extend(elements::functions());
    functions.extend(texts::functions());
    functions.extend(domains::functions());
    functions
}

/// The function that plans call `sum`.
pub(crate) fn sum_function() -> Arc<AggregateUDF> {
    sum::function()
}

/// The function that plans call `max`.
pub(crate) fn max_function() -> Arc<AggregateUDF> {
    instead::max_function()
}

/// Those that take the place of DataFusion's of the same name.
pub(crate) fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    [sum::functions(), instead::functions()].concat()
}
