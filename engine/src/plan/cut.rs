//! Cuts a physical plan into stages where rows change partitions.

use super::range_sort;
use super::size::scanned_bytes;
use crate::codec::refers_to_subquery;
use crate::config::WindlassOptions;
use crate::connector::{Leaf, PlannedSink, ScanGuard, SinkExec, guards_of, leaf, staged_write};
use crate::envelope::{Envelope, OutputSpec, content_hash};
use crate::ops::{ExchangeReadExec, Mark, MarkExec, ReadMode, with_children};
use crate::restrict::whole_children;
use crate::room::Roomy;
use crate::session::changed_options;
use crate::stage::{ClusterShape, Planned, PlannedJob, PlannedStage};
use crate::stores::Stores;
use crate::task::Split;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::scalar_subquery::{ScalarSubqueryExec, ScalarSubqueryLink};
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning, displayable};
use datafusion::prelude::SessionConfig;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_core::job::{Once, Preference, Read, StageInput};

/// If the collected side of a join reads fewer bytes than this, every task reads it again instead of a stage of its own.
const SMALL_BUILD_BYTES: u64 = 1024 * 1024;

pub(super) struct Cutter {
    config: SessionConfig,
    options: BTreeMap<String, String>,
    stores: Option<Arc<Stores>>,
    inline_bytes: u64,
    range_sort_rows: usize,
    stages: Vec<PlannedStage>,
    /// For each shared plan, the stage that runs it.
    shared: BTreeMap<u32, u32>,
    /// The scalar subqueries that the plan being cut may refer to.
    subqueries: Option<ScalarSubqueryExec>,
    sink: Option<PlannedSink>,
    guards: Vec<ScanGuard>,
    shape: ClusterShape,
}

impl Cutter {
    pub(super) fn new(session: &dyn Session, options: &WindlassOptions, shape: ClusterShape) -> Self {
        Self {
            config: session.config().clone(),
            options: changed_options(session.config().options()),
            stores: session.config().get_extension(),
            inline_bytes: options.inline_result_bytes as u64,
            range_sort_rows: options.range_sort_rows,
            stages: Vec::new(),
            shared: BTreeMap::new(),
            subqueries: None,
            sink: None,
            guards: Vec::new(),
            shape,
        }
    }

    /// The whole plan as one stage of one task.
    pub(super) fn whole(mut self, plan: Arc<dyn ExecutionPlan>) -> Result<PlannedJob> {
        let plan = self.take_over_write(plan, false)?;
        let plan = match plan.output_partitioning().partition_count() {
            1 => plan,
            _ => Arc::new(CoalescePartitionsExec::new(plan)),
        };
        self.finish(plan)
    }

    pub(super) fn stages(mut self, plan: Arc<dyn ExecutionPlan>) -> Result<PlannedJob> {
        let plan = self.take_over_write(plan, true)?;
        let plan = self.cut_top(plan)?;
        self.finish(plan)
    }

    fn finish(mut self, plan: Arc<dyn ExecutionPlan>) -> Result<PlannedJob> {
        let schema: SchemaRef = plan.schema();
        let row_limit = None;
        self.add_stage(plan, OutputSpec::Result { inline_bytes: self.inline_bytes }, row_limit)?;
        Ok(PlannedJob {
            schema,
            stages: self.stages,
            sink: self.sink,
            guards: self.guards,
            holds_sides: false,
            shape: self.shape,
            light: false,
            constant: None,
        })
    }

    /// Turns a sink into an operator that writes under attempt paths: in parallel, unless rows must be in one order or one file.
    fn take_over_write(&mut self, plan: Arc<dyn ExecutionPlan>, parallel: bool) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(node) = plan.downcast_ref::<ScalarSubqueryExec>() {
            // The rows that are written need their results.
            let input = self.take_over_write(Arc::clone(node.input()), parallel)?;
            return Ok(Arc::new(ScalarSubqueryExec::new(input, node.subqueries().to_vec(), node.results().clone())));
        }
        let staged = staged_write(&plan)?;
        let Some(sink) = staged.as_ref().or_else(|| plan.downcast_ref::<SinkExec>()) else { return Ok(plan) };
        let write = sink.write().clone();
        let parallel = parallel && write.sink.is_parallel();
        let input = if parallel { ungathered(sink.input()) } else { Arc::clone(sink.input()) };
        self.sink = Some(write.clone());
        Ok(Arc::new(SinkExec::new(input, write)))
    }

    /// Like `cut`, above the sort of a whole result. That sort may output several partitions, which follow each other in the order.
    fn cut_top(&mut self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>()
            && merge.input().output_partitioning().partition_count() > 1
            && range_sort::pays(merge, self.range_sort_rows)?
        {
            return self.cut_ranges(merge);
        }
        let several_writers = self.sink.as_ref().is_none_or(|write| write.sink.is_parallel());
        if several_writers && is_above_sort(&plan) {
            let child = self.cut_top(Arc::clone(plan.children()[0]))?;
            return with_children(plan, vec![child]);
        }
        self.cut(plan)
    }

    /// Stages of sorted runs, and a stage of as many tasks, each of which merges one range of the key.
    fn cut_ranges(&mut self, merge: &SortPreservingMergeExec) -> Result<Arc<dyn ExecutionPlan>> {
        let runs = self.cut(Arc::clone(merge.input()))?;
        let ranges = runs.output_partitioning().partition_count() as u32;
        let equivalence = runs.properties().eq_properties.clone();
        let stage = self.add_stage(runs, OutputSpec::SortedRun, None)?;
        let (mode, parts) = (ReadMode::Range(ranges), (0..ranges).collect());
        let partitioning = Partitioning::UnknownPartitioning(ranges as usize);
        Ok(Arc::new(ExchangeReadExec::new(stage, mode, parts, Some(merge.expr().clone()), partitioning, equivalence)))
    }

    /// `plan` with readers in place of the parts that other stages run.
    fn cut(&mut self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(marked) = plan.downcast_ref::<MarkExec>() {
            return self.cut(Arc::clone(marked.input()));
        }
        if plan.is::<RecursiveQueryExec>() {
            // The terms of a recursive query share a table in memory: they run in one place, with in-process exchanges.
            let unmarked = |node: Arc<dyn ExecutionPlan>| {
                Ok(match node.downcast_ref::<MarkExec>() {
                    Some(marked) => Transformed::yes(Arc::clone(marked.input())),
                    None => Transformed::no(node),
                })
            };
            return plan.transform_up(unmarked).data();
        }
        if let Some(subqueries) = plan.downcast_ref::<ScalarSubqueryExec>() {
            return self.cut_subqueries(subqueries);
        }
        if let Some(repartition) = plan.downcast_ref::<RepartitionExec>() {
            return self.cut_repartition(repartition);
        }
        if plan.is::<CoalescePartitionsExec>() || plan.is::<SortPreservingMergeExec>() {
            return self.cut_gather(plan);
        }
        let plan = without_dynamic_filter(plan)?;
        let probe_partitions = plan.output_partitioning().partition_count();
        let whole = whole_children(&plan);
        let mut children = Vec::with_capacity(plan.children().len());
        for (index, child) in plan.children().into_iter().enumerate() {
            let child = self.cut(Arc::clone(child))?;
            let alone = whole.contains(&index) && probe_partitions > 1 && is_costly(&child);
            children.push(if alone { self.exchange_whole(child, None)? } else { child });
        }
        with_children(plan, children)
    }

    fn cut_repartition(&mut self, repartition: &RepartitionExec) -> Result<Arc<dyn ExecutionPlan>> {
        let input = self.cut(Arc::clone(repartition.input()))?;
        let partitioning = repartition.partitioning().clone();
        let output = match &partitioning {
            Partitioning::Hash(exprs, buckets) => OutputSpec::Hash(exprs.clone(), *buckets as u32),
            other => OutputSpec::RoundRobin(other.partition_count() as u32),
        };
        let buckets = output.buckets();
        let ordering = match repartition.preserve_order() {
            true => input.output_ordering().cloned(),
            false => None,
        };
        let equivalence = repartition.properties().eq_properties.clone();
        let stage = self.add_stage(input, output, None)?;
        if let Some(number) = shared(repartition.input()) {
            self.shared.insert(number, stage);
        }
        let parts = (0..buckets).collect();
        Ok(Arc::new(ExchangeReadExec::new(stage, ReadMode::Bucket, parts, ordering, partitioning, equivalence)))
    }

    /// The reader gathers: it takes the outputs of all tasks, in parallel or merged.
    fn cut_gather(&mut self, gather: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = gather.children()[0];
        if let Some(stage) = shared(input).and_then(|number| self.shared.get(&number)) {
            let reader = self.read_maps(*stage, input.equivalence_properties().clone());
            return with_children(gather, vec![reader]);
        }
        let child = self.cut(Arc::clone(input))?;
        if child.output_partitioning().partition_count() == 1 {
            return with_children(gather, vec![child]);
        }
        let row_limit = match gather.downcast_ref::<CoalescePartitionsExec>() {
            Some(gather) => gather.fetch().map(|rows| rows as u64),
            None => None,
        };
        let reader = self.exchange_whole(child, row_limit)?;
        with_children(gather, vec![reader])
    }

    fn cut_subqueries(&mut self, node: &ScalarSubqueryExec) -> Result<Arc<dyn ExecutionPlan>> {
        let mut links = Vec::with_capacity(node.subqueries().len());
        let outer = self.subqueries.take();
        for link in node.subqueries() {
            let plan = self.cut(Arc::clone(&link.plan))?;
            links.push(ScalarSubqueryLink { plan: self.exchange_whole(plan, None)?, index: link.index });
        }
        self.subqueries =
            Some(ScalarSubqueryExec::new(Arc::clone(node.input()), links.clone(), node.results().clone()));
        let input = self.cut(Arc::clone(node.input()))?;
        self.subqueries = outer;
        Ok(Arc::new(ScalarSubqueryExec::new(input, links, node.results().clone())))
    }

    /// Adds a stage that runs `plan`; returns the reader of all of its output, with one partition per task.
    fn exchange_whole(
        &mut self,
        plan: Arc<dyn ExecutionPlan>,
        row_limit: Option<u64>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let equivalence = plan.equivalence_properties().clone();
        let stage = self.add_stage(plan, OutputSpec::Single, row_limit)?;
        Ok(self.read_maps(stage, equivalence))
    }

    /// The reader of all of a stage's output, with one partition per task.
    fn read_maps(&self, stage: u32, equivalence: EquivalenceProperties) -> Arc<dyn ExecutionPlan> {
        let tasks = self.stages[stage as usize].tasks;
        let partitioning = Partitioning::UnknownPartitioning(tasks as usize);
        Arc::new(ExchangeReadExec::new(stage, ReadMode::Map, (0..tasks).collect(), None, partitioning, equivalence))
    }

    fn add_stage(&mut self, plan: Arc<dyn ExecutionPlan>, output: OutputSpec, row_limit: Option<u64>) -> Result<u32> {
        let plan = self.with_subqueries(plan)?;
        let tasks = plan.output_partitioning().partition_count() as u32;
        if tasks == 0 {
            return internal_err!("a stage without partitions was planned");
        }
        let bytes = Envelope::new(&plan, &output, &self.options, self.stores.as_deref())?.encode_to_vec();
        let inputs = self.inputs(&plan, tasks)?;
        self.guards.extend(guards_of(&plan)?);
        let display = displayable(plan.as_ref()).indent(false).to_string();
        let (preferences, splits) = (preferences(&plan, tasks), splits(&plan, tasks));
        let once = once(&plan)?;
        self.stages.push(PlannedStage {
            hash: content_hash(&bytes),
            bytes: bytes.into(),
            display,
            tasks,
            buckets: output.buckets(),
            inputs,
            preferences,
            splits,
            row_limit,
            once,
            planned: Some(Planned { plan: Roomy::new(plan), output: Roomy::new(output), config: self.config.clone() }),
        });
        Ok(self.stages.len() as u32 - 1)
    }

    /// Adds the scalar subqueries: a stage below the operator that runs them needs their results as well.
    fn with_subqueries(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        match &self.subqueries {
            Some(node) if reads_subquery(&plan)? => {
                Ok(Arc::new(ScalarSubqueryExec::new(plan, node.subqueries().to_vec(), node.results().clone())))
            }
            _ => Ok(plan),
        }
    }

    fn inputs(&self, plan: &Arc<dyn ExecutionPlan>, tasks: u32) -> Result<Vec<StageInput>> {
        let mut inputs: BTreeMap<u32, Read> = BTreeMap::new();
        plan.apply(|node| {
            if let Some(read) = node.downcast_ref::<ExchangeReadExec>() {
                let by_bucket = read.mode() == ReadMode::Bucket && read.parts().len() as u32 == tasks;
                let read_as = if by_bucket { Read::Bucket } else { Read::All };
                inputs
                    .entry(read.stage())
                    .and_modify(|known| *known = if *known == read_as { read_as } else { Read::All })
                    .or_insert(read_as);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(inputs.into_iter().map(|(stage, read)| StageInput { stage, read }).collect())
    }
}

/// Whether `plan` may stand above the sort of a whole result whose partitions follow each other.
fn is_above_sort(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<ProjectionExec>() || plan.is::<CooperativeExec>() || plan.is::<SinkExec>()
}

/// The input of a writer whose partitions write side by side.
fn ungathered(input: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    match input.downcast_ref::<CoalescePartitionsExec>().filter(|gather| gather.fetch().is_none()) {
        Some(gather) => Arc::clone(gather.input()),
        None => Arc::clone(input),
    }
}

/// The number of `plan`, if it occurs in the plan more than once.
fn shared(plan: &Arc<dyn ExecutionPlan>) -> Option<u32> {
    match plan.downcast_ref::<MarkExec>()?.mark() {
        Mark::Shared(number) => Some(number),
        Mark::Gather => None,
    }
}

/// Whether it is cheaper to run `plan` once and send its rows than to run it in every task, or cannot be run in more than one.
fn is_costly(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if plan.exists(|node| Ok(leaf(node).is_some_and(|leaf| leaf.is_read_once()))).unwrap_or(true) {
        return true;
    }
    let reads_exchange = plan.exists(|node| Ok(node.is::<ExchangeReadExec>())).unwrap_or(true);
    if !reads_exchange {
        return scanned_bytes(plan) > SMALL_BUILD_BYTES;
    }
    // A gathered exchange with nothing but cheap row-wise operators above it is already computed once.
    let mut node = plan;
    while let [child] = node.children()[..] {
        let cheap = ["CoalescePartitionsExec", "ProjectionExec", "FilterExec", "CooperativeExec"];
        if !cheap.contains(&node.name()) {
            return true;
        }
        node = child;
    }
    !node.is::<ExchangeReadExec>()
}

/// A join of two sides that are partitioned alike, without the dynamic filter that it derives for one side from the built part of the other.
///
/// DataFusion finds a row's part of the filter by the row's hash and the number of partitions. An instance of a task has fewer partitions than the exchange,
/// so it would drop rows that have a match.
fn without_dynamic_filter(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(join) = plan.downcast_ref::<HashJoinExec>().filter(|join| join.mode == PartitionMode::Partitioned) else {
        return Ok(plan);
    };
    let filters = join.dynamic_expressions_produced();
    let filters: Vec<u64> = filters.iter().filter_map(|filter| filter.expression_id()).collect();
    if filters.is_empty() {
        return Ok(plan);
    }
    let probe = Arc::clone(join.right()).transform_down(|node| {
        let only = node.downcast_ref::<FilterExec>().filter(|only| {
            let is_one = only.predicate().expression_id().is_some_and(|id| filters.contains(&id));
            is_one && only.projection().is_none() && only.fetch().is_none()
        });
        Ok(match only.map(|only| Arc::clone(only.input())) {
            Some(input) => Transformed::yes(input),
            None => Transformed::no(node),
        })
    });
    join.builder().reset_state().with_new_children(vec![Arc::clone(join.left()), probe.data()?])?.build_exec()
}

fn reads_subquery(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let mut found = false;
    plan.apply(|node| {
        node.apply_expressions(&mut |expr: &Arc<dyn PhysicalExpr>| {
            found |= refers_to_subquery(expr);
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// The preferred places of a stage's tasks, from the first leaf that has a partition for each task.
fn preferences(plan: &Arc<dyn ExecutionPlan>, tasks: u32) -> Vec<Preference> {
    of_leaves(plan, tasks, |leaf| leaf.preferences())
}

/// The needs of a task if it may begin only once: those of the largest of its programs. Others of the same task wait for memory on their executor.
fn once(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Once>> {
    let mut needs: Vec<Once> = vec![];
    plan.apply(|node| {
        needs.extend(leaf(node).and_then(|leaf| leaf.once()));
        Ok(TreeNodeRecursion::Continue)
    })?;
    // 0 is as many bytes as an executor allows, which is most.
    Ok(needs.into_iter().max_by_key(|once| once.memory_bytes.wrapping_sub(1)))
}

/// The parts of the cluster's own files that the tasks read.
fn splits(plan: &Arc<dyn ExecutionPlan>, tasks: u32) -> Vec<Vec<Split>> {
    of_leaves(plan, tasks, |leaf| leaf.pieces())
}

/// The answer of the first leaf that has an entry for each task.
fn of_leaves<T>(plan: &Arc<dyn ExecutionPlan>, tasks: u32, said: impl Fn(&dyn Leaf) -> Vec<T>) -> Vec<T> {
    let mut found = vec![];
    let walked = plan.apply(|node| {
        let of_leaf = leaf(node).map(&said).unwrap_or_default();
        if of_leaf.len() != tasks as usize {
            return Ok(TreeNodeRecursion::Continue);
        }
        found = of_leaf;
        Ok(TreeNodeRecursion::Stop)
    });
    debug_assert!(walked.is_ok(), "the closure does not fail");
    found
}
