//! Planning of logical plans as stages.
//!
//! A statement is first planned for one executor. If it scans little, or if there is only one executor, that plan is the job: one stage, one task, with
//! DataFusion's own exchanges inside. Otherwise it is planned again for the slots of the whole cluster and cut where rows change partitions.

mod broadcast;
mod cells;
mod certain;
mod cut;
mod fieldless;
mod light;
mod not_in;
mod range_sort;
mod semi_join;
mod size;
mod window_filter;

use crate::aggregates::holds_values;
use crate::config::WindlassOptions;
use crate::connector::computed_elsewhere;
use crate::interrupt;
use crate::planning::{Planning, Rules};
use crate::stage::{ClusterShape, PlannedJob};
use arrow::datatypes::{DataType, Field, Schema};
use broadcast::{CheaperBroadcast, SafeBroadcast};
use cut::Cutter;
use datafusion::catalog::Session;
use datafusion::common::config::ConfigNonZeroUsize;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::memory::LazyMemoryExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::streaming::StreamingTableExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, collect};
use datafusion::prelude::SessionConfig;
pub use fieldless::has_fieldless;
use not_in::not_in_as_counts;
use semi_join::SemiJoinFirst;
use std::sync::Arc;
use window_filter::filters_as_columns;

/// Plans `logical`, which is a query, an INSERT or a COPY, for the available executors.
pub async fn plan_job(state: &SessionState, logical: &LogicalPlan, shape: ClusterShape) -> Result<PlannedJob> {
    planned(state, logical, shape).await.map_err(|error| cells::explained(state, logical, error))
}

async fn planned(state: &SessionState, logical: &LogicalPlan, shape: ClusterShape) -> Result<PlannedJob> {
    let options = crate::config::of(state.config());
    let optimized = filters_as_columns(state.optimize(logical)?)?;
    fieldless::refuse_groups(&optimized)?;
    let optimized = if joins_hash(state.config()) { optimized } else { not_in_as_counts(optimized)? };

    let tasks = shape.slots as usize * options.tasks_per_slot.max(1);
    let optimized = computed_elsewhere(optimized, state, tasks.max(1)).await?;

    let constants = size::constant_bytes(&optimized);
    let partitions = partitions(state.config(), shape.max_slots as usize);
    let local = Planning::of(state).with_config(|config| plan_for(config, partitions));
    // The session already has DataFusion's rules, so they are not created for every small statement.
    let local = if joins_hash(state.config()) {
        local
    } else {
        local.with_rules(interrupt::physical_rules(rules(state.config())))
    };
    let plan = physical_plan(&local, &optimized).await?;
    if is_small(&plan, &options, shape) {
        let holds_sides = holds_sides(&plan) || holds_values(&plan);
        let light = light::does_little(&plan)?;
        let constant = light::is_constant(&plan).then(|| Arc::clone(&plan));
        let local = in_batches_for(local, &plan, constants);
        let job = Cutter::new(&local, &options, shape).whole(plan)?;
        return Ok(PlannedJob { light, constant, holds_sides, ..job }.for_programs());
    }
    let distributed = distributed(state, &options, shape);
    let plan = physical_plan(&distributed, &optimized).await?;
    let holds_sides = holds_sides(&plan) || holds_values(&plan);
    let distributed = in_batches_for(distributed, &plan, constants);
    let job = Cutter::new(&distributed, &options, shape).stages(plan)?;
    Ok(PlannedJob { holds_sides, ..job }.for_programs())
}

/// The same session, with fewer rows per batch if rows are wide.
fn in_batches_for<'a>(session: Planning<'a>, plan: &Arc<dyn ExecutionPlan>, constants: usize) -> Planning<'a> {
    let most = session.config().batch_size();
    match ConfigNonZeroUsize::try_new(size::rows_at_once(plan, constants, most)) {
        Ok(rows) if rows.get() < most => session.with_config(|config| config.options_mut().execution.batch_size = rows),
        _ => session,
    }
}

/// The same session for a plan one of whose operators did not fit into memory. Joins sort their inputs or run nested loops; values of DISTINCT aggregates,
/// medians and percentiles are grouped and sorted; a top-k sorts all rows. All of these spill.
pub fn spilling(state: &SessionState) -> SessionState {
    let mut state = state.clone();
    state.config_mut().options_mut().optimizer.prefer_hash_join = false;
    state
}

fn joins_hash(config: &SessionConfig) -> bool {
    config.options().optimizer.prefer_hash_join
}

/// Whether the plan has a join that holds all of one side, or a sort that holds its first rows.
fn holds_sides(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let holds = plan.is::<HashJoinExec>() || plan.is::<CrossJoinExec>() || top_k(plan).is_some();
    holds || plan.children().into_iter().any(holds_sides)
}

fn partitions(config: &SessionConfig, wanted: usize) -> usize {
    // DataFusion sorts and merges two partitions or more, but never a single one.
    wanted.max(if joins_hash(config) { 1 } else { 2 })
}

fn plan_for(config: &mut SessionConfig, partitions: usize) {
    let settings = config.options_mut();
    settings.execution.target_partitions = partitions;
    // An experiment of DataFusion: its operator cannot be encoded, and its partitions wait for each other.
    settings.optimizer.enable_piecewise_merge_join = false;
    // DataFusion takes folders of one value each for the hash partition of that value, and joins them with rows that are hashed: some miss their match.
    settings.optimizer.preserve_file_partitions = 0;
}

/// DataFusion's rules, without those that cannot be trusted.
fn rules(config: &SessionConfig) -> Rules {
    let mut rules = crate::right::physical_rules();
    if !joins_hash(config) {
        // When it removes columns below a sort-merge join, the join's condition reads others in their place (apache/datafusion#24414, fixed after 55.2).
        rules.retain(|rule| rule.name() != "ProjectionPushdown");
    }
    rules
}

/// The session for a plan over all slots.
fn distributed<'a>(session: &'a dyn Session, options: &WindlassOptions, shape: ClusterShape) -> Planning<'a> {
    let partitions = partitions(session.config(), shape.slots as usize * options.tasks_per_slot.max(1));
    let mut rules = rules(session.config());
    let after = rules.iter().position(|rule| rule.name() == "join_selection").map_or(0, |at| at + 1);
    rules.insert(after, Arc::new(SafeBroadcast));
    rules.insert(
        after,
        Arc::new(CheaperBroadcast {
            tasks: partitions,
            max_bytes: options.broadcast_max_bytes,
            from_bytes: options.broadcast_from_bytes,
        }),
    );
    let distributed =
        rules.iter().position(|rule| rule.name() == "EnsureRequirements").map_or(rules.len(), |at| at + 1);
    rules.insert(
        distributed,
        Arc::new(SemiJoinFirst {
            tasks: partitions,
            max_bytes: options.semi_join_max_bytes,
            from_bytes: options.semi_join_from_bytes,
        }),
    );
    let set = |config: &mut SessionConfig| {
        plan_for(config, partitions);
        let settings = config.options_mut();
        // An exchange that only spreads a few rows costs more than it saves.
        settings.optimizer.enable_round_robin_repartition = false;
        settings.optimizer.hash_join_single_partition_threshold = options.broadcast_bytes;
        settings.optimizer.hash_join_single_partition_threshold_rows = options.broadcast_rows;
    };
    Planning::of(session).with_config(set).with_rules(interrupt::physical_rules(rules))
}

async fn physical_plan(session: &Planning<'_>, optimized: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = session.query_planner().create_physical_plan(optimized, session).await?;
    let plan = if joins_hash(session.config()) {
        plan
    } else {
        sorts_before_limits(nullable_conditions(cross_joins_as_loops(plan)?)?)?
    };
    materialize_local_tables(session, count_series(plan)?).await
}

/// Replaces top-k operators, which hold their rows, by sorts, which spill.
fn sorts_before_limits(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let Some((sort, fetch)) = top_k(&node) else { return Ok(Transformed::no(node)) };
        let whole = SortExec::new(sort.expr().clone(), Arc::clone(sort.input()))
            .with_preserve_partitioning(sort.preserve_partitioning());
        Ok(Transformed::yes(Arc::new(LocalLimitExec::new(Arc::new(whole), fetch)) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

fn top_k(plan: &Arc<dyn ExecutionPlan>) -> Option<(&SortExec, usize)> {
    let sort = plan.downcast_ref::<SortExec>()?;
    sort.fetch().map(|fetch| (sort, fetch))
}

/// A cross join holds all of one side; a nested loop join has the same rows and spills it.
fn cross_joins_as_loops(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let Some(cross) = node.downcast_ref::<CrossJoinExec>() else { return Ok(Transformed::no(node)) };
        let (left, right) = (Arc::clone(cross.left()), Arc::clone(cross.right()));
        let join = NestedLoopJoinExec::try_new(left, right, None, &JoinType::Inner, None)?;
        Ok(Transformed::yes(Arc::new(join) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

/// Makes the columns of join conditions nullable. DataFusion also evaluates the condition of a full sort-merge join over rows without a match, whose columns
/// are NULL, and refuses them if the input's columns are not nullable.
fn nullable_conditions(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let join = node.downcast_ref::<SortMergeJoinExec>().filter(|join| join.join_type() == JoinType::Full);
        let Some((join, condition)) = join.and_then(|join| Some((join, join.filter().as_ref()?))) else {
            return Ok(Transformed::no(node));
        };
        let fields = condition.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let condition =
            JoinFilter::new(Arc::clone(condition.expression()), condition.column_indices().to_vec(), schema);
        let join = SortMergeJoinExec::try_new(
            Arc::clone(join.left()),
            Arc::clone(join.right()),
            join.on().to_vec(),
            Some(condition),
            join.join_type(),
            join.sort_options().to_vec(),
            join.null_equality(),
        )?;
        Ok(Transformed::yes(Arc::new(join) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

/// DataFusion's encoding of a generated series without columns, as `count(*)` reads it, decodes to a series with a column. So the series keeps its column,
/// and a projection drops it.
fn count_series(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let Some(series) = node.downcast_ref::<LazyMemoryExec>().filter(|series| series.schema().fields().is_empty())
        else {
            return Ok(Transformed::no(node));
        };
        let column = Field::new("value", DataType::Int64, false);
        let series = LazyMemoryExec::try_new(Arc::new(Schema::new(vec![column])), series.generators().clone())?;
        let columns: Vec<ProjectionExpr> = Vec::new();
        Ok(Transformed::yes(Arc::new(ProjectionExec::try_new(columns, Arc::new(series))?) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

fn is_small(plan: &Arc<dyn ExecutionPlan>, options: &WindlassOptions, shape: ClusterShape) -> bool {
    if options.small_query_bytes == 0 {
        return false;
    }
    shape.executors <= 1 || size::scanned_bytes(plan) < options.small_query_bytes as u64
}

/// Puts tables that exist on the primary only (those of information_schema) into the plan.
async fn materialize_local_tables(
    session: &dyn Session,
    plan: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut found = Vec::new();
    plan.apply(|node| {
        if node.is::<StreamingTableExec>() {
            found.push(Arc::clone(node));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if found.is_empty() {
        return Ok(plan);
    }
    let mut tables = Vec::with_capacity(found.len());
    for table in found {
        let batches = collect(Arc::clone(&table), session.task_ctx()).await?;
        let mut partitions = vec![batches];
        partitions.resize(table.output_partitioning().partition_count().max(1), vec![]);
        tables.push((table.clone(), MemorySourceConfig::try_new_exec(&partitions, table.schema(), None)?));
    }
    let transformed = plan.transform(|node| {
        let replacement = tables.iter().find(|(table, _)| Arc::ptr_eq(table, &node));
        Ok(match replacement {
            Some((_, memory)) => Transformed::yes(Arc::clone(memory) as Arc<dyn ExecutionPlan>),
            None => Transformed::no(node),
        })
    })?;
    Ok(transformed.data)
}
