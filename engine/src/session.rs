//! Sessions: one set of functions, rules and options for everything that plans or runs a statement.

use crate::aggregates;
use crate::arrow_files::ArrowFilesFactory;
use crate::config::WindlassOptions;
use crate::connector::Registry;
use crate::connector::copy_files::COPY_FILES;
use crate::constants::bounded;
use crate::copy_files::CopyFilesFunction;
use crate::interrupt;
use crate::parquet_files::ParquetFilesFactory;
use crate::programs::{RUN_PROGRAM, RunProgramFunction};
use crate::right;
use crate::right::estimates::NoFalseEstimates;
use crate::right::instead::OurAggregates;
use crate::right::key_columns::KeysAsColumns;
use crate::right::numbers::{self, Assigned, GuardedConditions, Numbers, NumbersPlanner};
use crate::right::value_lists::ValueLists;
use crate::text_files::csv::CsvFilesFactory;
use crate::text_files::json::JsonFilesFactory;
use crate::text_files::lines::LineFilesFactory;
use datafusion::catalog::{CatalogProviderList, TableFunction};
use datafusion::common::Result;
use datafusion::config::{ConfigNonZeroUsize, ConfigOptions};
use datafusion::datasource::file_format::FileFormatFactory;
use datafusion::datasource::provider::DefaultTableFactory;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{SessionStateDefaults, TaskContext};
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use datafusion::optimizer::analyzer::Analyzer;
use datafusion::optimizer::{AnalyzerRule, Optimizer, OptimizerRule};
use datafusion::prelude::SessionConfig;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock};

/// Options of a new session.
pub fn session_config() -> SessionConfig {
    let mut config =
        SessionConfig::new().with_information_schema(true).with_option_extension(WindlassOptions::default());
    // The results of a session's statements must not depend on the number of the primary's cores; the planner sets the number of partitions.
    config.options_mut().execution.target_partitions = 1;
    config.options_mut().catalog.default_catalog = "windlass".to_string();
    // A number with a point is exact, as in the SQL standard, PostgreSQL and Spark.
    config.options_mut().sql_parser.parse_float_as_decimal = true;
    // The order of a subquery matters where a LIMIT is above it: see `right::subquery_order`, which drops the orders that nothing observes.
    config.options_mut().sql_parser.enable_subquery_sort_elimination = false;
    // DataFusion's planner assumes that coalesce(x, 1) is never NULL, but its expressions do not: a statement grouped by it is refused.
    config.options_mut().execution.skip_physical_aggregate_schema_check = true;
    // If the first rows of min(x) are all NULL, DataFusion 55 keeps NULL as its bound, and filters the rest of the scan by max(x) alone.
    config.options_mut().optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    // One file per spilled batch: with several batches per file, RepartitionExec of DataFusion 55 waits for ever when two of its inputs spill at once
    // (apache/datafusion#24883, fixed after 55.2).
    config.options_mut().execution.max_spill_file_size_bytes = ConfigNonZeroUsize::try_new(1).expect("one is not zero");
    // The tasks of a statement write in parallel. DataFusion would make each spread its rows over four files, whose open row groups cannot spill.
    config.options_mut().execution.minimum_parallel_output_files =
        ConfigNonZeroUsize::try_new(1).expect("one is not zero");
    // Nanoseconds, in which DataFusion reads INT96, wrap after 2262. Spark writes microseconds, and PostgreSQL uses them.
    config.options_mut().execution.parquet.coerce_int96 = Some("us".to_string());
    config
}

/// All functions of DataFusion and datafusion-spark. A name that both define belongs to DataFusion's function, so that a statement means the same as in
/// DataFusion.
pub fn session_state(
    config: SessionConfig,
    runtime: Arc<RuntimeEnv>,
    catalogs: Option<Arc<dyn CatalogProviderList>>,
) -> SessionState {
    let functions = Functions::all();
    let connectors = Registry::of(&config);
    let mut builder = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_file_formats(file_formats(&connectors))
        .with_table_function_list(table_functions())
        .with_scalar_functions(functions.scalar.clone())
        .with_aggregate_functions(functions.aggregate.clone())
        .with_window_functions(functions.window.clone())
        .with_analyzer_rules(right::analyzer_rules())
        .with_optimizer_rules(optimizer_rules())
        .with_physical_optimizer_rules(interrupt::physical_rules(right::physical_rules()))
        .with_query_planner(right::planner())
        .with_expr_planners(expr_planners())
        .with_relation_planners(vec![Arc::new(interrupt::Relations), Arc::new(ValueLists)]);
    for format in connectors.formats() {
        builder = builder.with_table_factory(format.name().to_string(), Arc::new(DefaultTableFactory::new()));
    }
    if let Some(catalogs) = catalogs {
        builder = builder.with_catalog_list(catalogs);
    }
    builder.build()
}

/// DataFusion alone, except that numbers have the types of Windlass. Tests compare results with it.
pub fn reference_state(mut config: SessionConfig) -> SessionState {
    config.options_mut().sql_parser.parse_float_as_decimal = true;
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![Arc::new(Numbers)];
    rules.extend(Analyzer::new().rules);
    rules.push(Arc::new(Assigned));
    let functions = [SessionStateDefaults::default_scalar_functions(), numbers::functions()].concat();
    let aggregates = [SessionStateDefaults::default_aggregate_functions(), right::aggregate_functions()].concat();
    SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_scalar_functions(functions)
        .with_aggregate_functions(aggregates)
        .with_analyzer_rules(rules)
        // It sums DISTINCT decimals twice; the second sum has more digits than sum() allows.
        .with_optimizer_rules(aggregates::without_replaced(Optimizer::new().rules))
        .with_expr_planners(expr_planners())
        .build()
}

/// DataFusion's planners, and before them ours.
fn expr_planners() -> Vec<Arc<dyn ExprPlanner>> {
    let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(NumbersPlanner)];
    planners.extend(SessionStateDefaults::default_expr_planners());
    planners
}

/// Sets the time zone and recreates the functions that depend on it.
pub fn set_time_zone(state: &mut SessionState, zone: Option<String>) -> Result<()> {
    state.config_mut().options_mut().execution.time_zone = zone;
    update_functions(state)
}

/// Recreates functions that depend on options, after an option was set otherwise than by SET.
pub fn update_functions(state: &mut SessionState) -> Result<()> {
    let options = state.config().options();
    let update = |function: &Arc<ScalarUDF>| function.inner().with_updated_config(options).map(Arc::new);
    let updated: Vec<Arc<ScalarUDF>> = state.scalar_functions().values().filter_map(update).collect();
    for function in updated {
        state.register_udf(function)?;
    }
    Ok(())
}

/// DataFusion's rules, with ours among them.
fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = right::cross_joins::mended(aggregates::instead(Optimizer::new().rules));
    rules.push(Arc::new(OurAggregates));
    rules.push(Arc::new(KeysAsColumns));
    rules.push(Arc::new(GuardedConditions));
    rules.push(Arc::new(NoFalseEstimates));
    interrupt::logical_rules(rules)
}

/// DataFusion's formats, with a sink for Arrow files that executors can run, readers of text files that change no value, and Parquet files whose metadata is
/// checked; and those that connectors know.
fn file_formats(connectors: &Registry) -> Vec<Arc<dyn FileFormatFactory>> {
    let ours: [Arc<dyn FileFormatFactory>; 4] = [
        Arc::new(ArrowFilesFactory),
        Arc::new(CsvFilesFactory),
        Arc::new(JsonFilesFactory),
        Arc::new(ParquetFilesFactory),
    ];
    let mut formats = SessionStateDefaults::default_file_formats();
    formats.retain(|format| ours.iter().all(|other| format.get_ext() != other.get_ext()));
    formats.extend(ours);
    formats.extend(connectors.formats().map(|format| Arc::new(LineFilesFactory(Arc::clone(format))) as Arc<_>));
    formats
}

/// DataFusion's table functions, and ours.
fn table_functions() -> Vec<Arc<TableFunction>> {
    let mut functions = crate::time::table_functions(SessionStateDefaults::default_table_functions());
    functions.push(Arc::new(TableFunction::new(COPY_FILES.to_string(), Arc::new(CopyFilesFunction))));
    functions.push(Arc::new(TableFunction::new(RUN_PROGRAM.to_string(), Arc::new(RunProgramFunction))));
    functions
}

/// The functions that a plan may call, the same on the primary and on executors.
struct Functions {
    scalar: Vec<Arc<ScalarUDF>>,
    aggregate: Vec<Arc<AggregateUDF>>,
    window: Vec<Arc<WindowUDF>>,
}

impl Functions {
    fn all() -> &'static Functions {
        static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
        FUNCTIONS.get_or_init(|| Functions {
            scalar: merge(
                [instead(SessionStateDefaults::default_scalar_functions(), our_functions()), right::scalar_functions()]
                    .concat(),
                datafusion_spark::all_default_scalar_functions(),
                |f| (f.name().to_string(), f.aliases().to_vec()),
            )
            .into_iter()
            // It becomes a column that cannot be encoded in a plan.
            .filter(|function| function.name() != "file_row_index")
            .map(bounded)
            .collect(),
            aggregate: merge(
                // The last function of a name wins.
                [SessionStateDefaults::default_aggregate_functions(), right::aggregate_functions()].concat(),
                datafusion_spark::all_default_aggregate_functions(),
                |f| (f.name().to_string(), f.aliases().to_vec()),
            ),
            window: merge(
                SessionStateDefaults::default_window_functions(),
                datafusion_spark::all_default_window_functions(),
                |f| (f.name().to_string(), f.aliases().to_vec()),
            ),
        })
    }
}

/// The context in which a task runs: the functions of [`session_state`], without a catalog and a planner.
pub(crate) fn task_context(
    task: String,
    session: String,
    config: SessionConfig,
    runtime: Arc<RuntimeEnv>,
) -> Arc<TaskContext> {
    static TEMPLATE: OnceLock<TaskContext> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| TaskContext::from(&session_state(session_config(), Arc::default(), None)));
    // Some functions depend on the session's options, such as its time zone.
    let updated = |function: &Arc<ScalarUDF>| match function.inner().with_updated_config(config.options()) {
        Some(updated) => Arc::new(updated),
        None => Arc::clone(function),
    };
    let scalar = template.scalar_functions().iter().map(|(name, function)| (name.clone(), updated(function))).collect();
    Arc::new(TaskContext::new(
        Some(task),
        session,
        config,
        scalar,
        template.higher_order_functions().clone(),
        template.aggregate_functions().clone(),
        template.window_functions().clone(),
        runtime,
    ))
}

/// `builtin`, and those of `extra` whose own name is free. Built-ins come last, because a later registration takes over the aliases of an earlier one.
fn merge<F>(builtin: Vec<Arc<F>>, extra: Vec<Arc<F>>, names: impl Fn(&F) -> (String, Vec<String>)) -> Vec<Arc<F>> {
    let mut taken = HashSet::new();
    for function in &builtin {
        let (name, aliases) = names(function);
        taken.insert(name);
        taken.extend(aliases);
    }
    let mut all: Vec<Arc<F>> = extra.into_iter().filter(|function| !taken.contains(&names(function).0)).collect();
    all.extend(builtin);
    all
}

fn our_functions() -> Vec<Arc<ScalarUDF>> {
    let mut functions = crate::time::functions();
    functions.extend(crate::checks::functions());
    functions
}

/// `builtin`, with `ours` in place of those of the same names.
fn instead(builtin: Vec<Arc<ScalarUDF>>, ours: Vec<Arc<ScalarUDF>>) -> Vec<Arc<ScalarUDF>> {
    let names: HashSet<String> = ours.iter().map(|function| function.name().to_string()).collect();
    let kept = builtin.into_iter().filter(|function| !names.contains(function.name()));
    kept.chain(ours).collect()
}

/// The options that differ from a new session's, in the form in which they travel with a stage.
pub(crate) fn changed_options(options: &ConfigOptions) -> BTreeMap<String, String> {
    static DEFAULTS: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    let defaults = DEFAULTS.get_or_init(|| entries(session_config().options()));
    entries(options).into_iter().filter(|(key, value)| defaults.get(key) != Some(value)).collect()
}

/// Every option that has a value, under the key that `set` takes.
fn entries(options: &ConfigOptions) -> BTreeMap<String, String> {
    options.entries().into_iter().filter_map(|entry| entry.value.map(|value| (entry.key, value))).collect()
}
