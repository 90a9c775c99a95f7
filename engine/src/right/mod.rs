//! Right answers where DataFusion 55 differs from the SQL standard and PostgreSQL.
//!
//! | module | subject |
//! | --- | --- |
//! | `subqueries` | NOT IN, EXISTS and scalar subqueries that use outer columns |
//! | `subquery_order` | ORDER BY of subqueries and views |
//! | `sets` | INTERSECT ALL and EXCEPT ALL |
//! | `grouping` | GROUPING SETS over sorted, constant or partitioned input |
//! | `outer` | constants on the side of an outer join whose rows may be missing |
//! | `cross_joins` | joins by `=` and by IS NOT DISTINCT FROM next to each other |
//! | `equal` | conditions that equate an expression with a part of itself |
//! | `sorts`, `nth_values` | orders that aggregates and operators need |
//! | `names` | filters where two columns have the same name |
//! | `arithmetic`, `sum` | results that do not fit their type |
//! | `numbers` | decimals, numbers of different types in one expression, and types that INSERT may put into a column |
//! | `value_lists` | VALUES in FROM, whose types do not depend on the table that is written |
//! | `keys`, `comparable` | comparisons of zeros, NaN and intervals |
//! | `instead` | max, min and corr of groups of floating point numbers |
//! | `frames` | sums, averages and statistics over moving frames |
//! | `domains` | functions that have no value for some numbers |
//! | `arrays`, `elements`, `texts` | functions of arrays and texts |
//! | `itself` | functions that hide a value from the planner |
//! | `unordered` | casts that do not keep the order of their values |
//! | `key_columns` | keys whose order DataFusion does not find |
//! | `estimates` | conditions whose row counts cannot be estimated |
//! | `ranges` | RANGE frames whose bounds exceed the type of their key, or whose key has no distance |
//!
//! All of them are rules over plans, and functions that plans call, so they apply however a statement is run.

mod arithmetic;
mod arrays;
mod comparable;
pub(crate) mod cross_joins;
mod domains;
mod each_node;
mod elements;
mod equal;
pub(crate) mod estimates;
mod frames;
mod grouping;
mod here;
pub(crate) mod instead;
mod itself;
pub(crate) mod key_columns;
mod keys;
mod names;
mod nth_values;
pub(crate) mod numbers;
mod only_row;
mod outer;
pub(crate) mod ranges;
mod repeat;
mod sets;
mod sorts;
mod subqueries;
mod subquery_order;
mod sum;
mod texts;
mod unordered;
pub(crate) mod value_lists;

use crate::time::{BeforeCoercion, ZonedCasts};
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::resolve_grouping_function::ResolveGroupingFunction;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use std::sync::Arc;

/// DataFusion's analysis, with the rules that must run before and after it.
pub(crate) fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> =
        vec![Arc::new(subquery_order::OrderOfSubqueries), Arc::new(subqueries::Subqueries)];
    rules.extend(coercion_rules());
    // Needs known types.
    rules.push(Arc::new(nth_values::NthValues));
    rules.push(Arc::new(texts::Patterns));
    rules.push(Arc::new(sets::CountedSets));
    rules.push(Arc::new(keys::ComparableKeys));
    rules.push(Arc::new(ranges::WideRanges));
    rules.push(Arc::new(arithmetic::CheckedArithmetic));
    rules.push(Arc::new(unordered::UnorderedCasts));
    rules.push(Arc::new(numbers::LeftToRight));
    rules
}

/// DataFusion's analysis, with our rules for times around its type coercion.
pub fn coercion_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    vec![
        Arc::new(ResolveGroupingFunction::new()),
        Arc::new(numbers::Numbers),
        Arc::new(BeforeCoercion),
        Arc::new(ranges::PeerFrames),
        Arc::new(TypeCoercion::new()),
        Arc::new(numbers::Assigned),
        Arc::new(ZonedCasts),
    ]
}

/// DataFusion's rules, and before them our rules that hide what they must not rely on.
pub(crate) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let pushes = |rule: &Arc<dyn PhysicalOptimizerRule + Send + Sync>| rule.name().starts_with("FilterPushdown");
    let rules = PhysicalOptimizer::new().rules.into_iter();
    let mut rules: Vec<_> =
        rules.map(|rule| if pushes(&rule) { Arc::new(names::ByName(rule)) as _ } else { rule }).collect();
    rules.insert(0, Arc::new(equal::PARTS_GO_FIRST));
    rules.insert(0, Arc::new(outer::CONSTANTS_END_AT_OUTER_JOINS));
    rules.insert(0, Arc::new(grouping::GROUPING_SETS_ARE_UNORDERED));
    let check = rules.iter().position(|rule| rule.name() == sorts::CHECK).unwrap_or(rules.len());
    rules.insert(check, Arc::new(sorts::MISSING_SORTS));
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
    functions.extend(sum::scalar_functions());
    functions.extend(here::functions());
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

/// Functions that replace DataFusion's of the same name.
pub(crate) fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    [sum::functions(), instead::functions()].concat()
}
