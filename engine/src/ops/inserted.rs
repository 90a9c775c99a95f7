//! Operators that executors insert into a plan that is about to run. They are never encoded, shown or counted among a stage's operators.
//!
//! - Below and above sorts: batches that own their data. A batch of views (strings that point into the buffers of a scan or of a join's collected side) pins
//!   all these buffers, and a sort reserves what each batch pins, once for each column and again for each reference to a buffer. A few thousand rows from a
//!   join then reserve many times the memory of the whole table, and no spilling helps. So views that pin much more than they use are copied first. The
//!   output of a sort points into everything that it has sorted, and a merge of several sorts reserves that again for each batch.
//! - Above operators that may output many batches for one input batch: a pause now and then. A cancelled task stops where its future is pending, and
//!   DataFusion's futures are pending where files and exchanges are read. So an aggregate above a join that multiplies rows would hold its slot, and a whole
//!   thread, until the join's next batch. Pauses take from the budget that tokio gives a task for each poll, and only for batches that they have passed on:
//!   any number of them may be nested. If they took it before they poll their input, as DataFusion's cooperative streams do, 128 of them would always use it
//!   up before the scan has its turn.
//! - Above generated series: slices of the statement's batch size. A series is generated in batches of the usual size.
//! - Around filters of joins: a check whether the task is still wanted. One batch against a large collected side may take minutes without a single row that
//!   passes.

use super::with_children;
use crate::exchange::trim;
use crate::interrupt;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{CardinalityEffect, EmissionType};
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec,
};
use datafusion::physical_plan::memory::LazyMemoryExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::task::coop;
use windlass_core::failure::TaskFailure;

/// Passes its input's batches through.
#[derive(Debug)]
pub(crate) struct InsertedExec {
    input: Arc<dyn ExecutionPlan>,
    purpose: Purpose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Copies views that pin much more than they use.
    Compact,
    /// Lets the runtime do something else, such as stop the task.
    Pause,
    /// Cuts batches that have more rows than the statement's batch size.
    Slice,
}

/// Signals that nothing that runs is wanted any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(DataFusionError::External(Box::new(TaskFailure::Cancelled))),
            false => Ok(()),
        }
    }
}

/// `plan` with all operators that it needs to run beside others and to be stopped.
pub(crate) fn insert(plan: Arc<dyn ExecutionPlan>, stop: &Stop) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| Ok(Transformed::yes(pausing(stoppable(sliced(compacted(node)?), stop)?)))).data()
}

/// `plan` with all operators that it needs to be given up, for a planning thread that runs it by itself.
pub fn interruptible(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| Ok(Transformed::yes(pausing(node)))).data()
}

fn pausing(node: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    match multiplies(&node) {
        true => Arc::new(InsertedExec { input: node, purpose: Purpose::Pause }),
        false => node,
    }
}

/// Gives compacted input to a sort that keeps every row, and to its reader. A top-k compacts its rows by itself.
fn compacted(node: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(sort) = node.downcast_ref::<SortExec>().filter(|sort| sort.fetch().is_none()) else {
        return Ok(node);
    };
    let input = Arc::new(InsertedExec { input: Arc::clone(sort.input()), purpose: Purpose::Compact });
    let sort = with_children(node, vec![input])?;
    Ok(Arc::new(InsertedExec { input: sort, purpose: Purpose::Compact }))
}

fn sliced(node: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    match node.is::<LazyMemoryExec>() {
        true => Arc::new(InsertedExec { input: node, purpose: Purpose::Slice }),
        false => node,
    }
}

fn stoppable(node: Arc<dyn ExecutionPlan>, stop: &Stop) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
        && let Some(filter) = join.filter()
    {
        let filter = Some(StopExpr::around(filter, stop));
        return Ok(Arc::new(NestedLoopJoinExecBuilder::from(join).with_filter(filter).build()?));
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>()
        && let Some(filter) = join.filter()
    {
        return join.builder().with_filter(Some(StopExpr::around(filter, stop))).build_exec();
    }
    if let Some(join) = node.downcast_ref::<SortMergeJoinExec>()
        && let Some(filter) = &join.filter
    {
        return Ok(Arc::new(SortMergeJoinExec::try_new(
            Arc::clone(&join.left),
            Arc::clone(&join.right),
            join.on.clone(),
            Some(StopExpr::around(filter, stop)),
            join.join_type,
            join.sort_options.clone(),
            join.null_equality,
        )?));
    }
    Ok(node)
}

/// Is pending when the task has used up its budget, from which each batch takes. Planning threads have no such budget and no other task.
struct Pausing {
    input: SendableRecordBatchStream,
}

impl Stream for Pausing {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !coop::has_budget_remaining() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Err(given_up) = interrupt::check() {
            return Poll::Ready(Some(Err(given_up)));
        }
        let polled = self.input.poll_next_unpin(context);
        if polled.is_ready() {
            // An exhausted budget is seen at the next poll: a ready batch is not held back.
            let _ = pin!(coop::consume_budget()).poll(context);
        }
        polled
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.input.size_hint()
    }
}

impl RecordBatchStream for Pausing {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}

/// Whether one input batch may lead to many output batches.
fn multiplies(node: &Arc<dyn ExecutionPlan>) -> bool {
    let passes_rows = matches!(node.cardinality_effect(), CardinalityEffect::Equal | CardinalityEffect::LowerEqual);
    let at_once = node.properties().emission_type == EmissionType::Incremental;
    let reads = !node.children().is_empty();
    reads && (!passes_rows || !at_once)
}

/// The condition of a join, which fails once it is told to stop.
#[derive(Debug)]
struct StopExpr {
    inner: Arc<dyn PhysicalExpr>,
    stop: Stop,
}

impl StopExpr {
    fn around(filter: &JoinFilter, stop: &Stop) -> JoinFilter {
        let condition = Arc::new(Self { inner: Arc::clone(filter.expression()), stop: stop.clone() });
        JoinFilter::new(condition, filter.column_indices().to_vec(), Arc::clone(filter.schema()))
    }
}

impl fmt::Display for StopExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PartialEq for StopExpr {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for StopExpr {}

impl Hash for StopExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl PhysicalExpr for StopExpr {
    of_one_expr!(|this, inner| Self { inner, stop: this.stop.clone() });

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.stop.check()?;
        self.inner.evaluate(batch)
    }

    fn evaluate_selection(&self, batch: &RecordBatch, selection: &BooleanArray) -> Result<ColumnarValue> {
        self.stop.check()?;
        self.inner.evaluate_selection(batch, selection)
    }
}

impl DisplayAs for InsertedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InsertedExec: {:?}", self.purpose)
    }
}

impl ExecutionPlan for InsertedExec {
    fn name(&self) -> &str {
        "InsertedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    of_one_input!(|this, input| Self { input, purpose: this.purpose });

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        Ok(match self.purpose {
            Purpose::Compact => {
                let compacted = input.map(|batch| Ok(trim(batch?, 1).map_err(DataFusionError::from)?.0));
                Box::pin(RecordBatchStreamAdapter::new(self.schema(), compacted))
            }
            Purpose::Pause => Box::pin(Pausing { input }),
            Purpose::Slice => {
                let most = context.session_config().batch_size();
                let slices = move |batch: RecordBatch| {
                    let begins = (0..batch.num_rows()).step_by(most);
                    stream::iter(begins.map(move |begin| Ok(batch.slice(begin, most.min(batch.num_rows() - begin)))))
                };
                let sliced = input.map_ok(slices).try_flatten();
                Box::pin(RecordBatchStreamAdapter::new(self.schema(), sliced))
            }
        })
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, RecordBatch, StringViewArray};
    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::physical_expr::expressions::Column;
    use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
    use datafusion::physical_plan::coop::make_cooperative;
    use std::time::Duration;

    /// Ten rows that point into the text of ten thousand.
    fn pinning() -> RecordBatch {
        let all = StringViewArray::from_iter_values((0..10_000).map(|n| format!("a text that is not inlined, {n}")));
        let column: ArrayRef = Arc::new(all.slice(5_000, 10));
        RecordBatch::try_from_iter([("text", column)]).unwrap()
    }

    #[tokio::test]
    async fn what_is_sorted_does_not_pin_more_than_it_uses() {
        let input = MemorySourceConfig::try_new_exec(&[vec![pinning()]], pinning().schema(), None).unwrap();
        let by = LexOrdering::new([PhysicalSortExpr::new_default(Arc::new(Column::new("text", 0)))]).unwrap();
        let plan = insert(Arc::new(SortExec::new(by, input)), &Stop::default()).unwrap();
        let below = |plan: &Arc<dyn ExecutionPlan>| Arc::clone(plan.children()[0]);
        let [above, compact] = [below(&plan), below(&below(&below(&plan)))];
        for compact in [&above, &compact] {
            assert_eq!(compact.downcast_ref::<InsertedExec>().unwrap().purpose, Purpose::Compact);
        }
        let batches: Vec<RecordBatch> = compact.execute(0, Arc::default()).unwrap().try_collect().await.unwrap();
        assert_eq!(batches, vec![pinning()]);
        assert!(pinning().column(0).get_buffer_memory_size() > 100_000);
        let buffers = batches[0].column(0).as_string_view().data_buffers();
        assert!(buffers.iter().map(|buffer| buffer.capacity()).sum::<usize>() < 1_000);
    }

    /// `depth` pauses above 1,000 batches of a scan that takes from the budget before it gives a batch.
    fn nested(depth: usize) -> SendableRecordBatchStream {
        let batches = vec![pinning(); 1_000];
        let scan = MemorySourceConfig::try_new_exec(&[batches], pinning().schema(), None).unwrap();
        let scan = make_cooperative(scan.execute(0, Arc::default()).unwrap());
        (0..depth).fold(scan, |input, _| Box::pin(Pausing { input }))
    }

    #[tokio::test]
    async fn any_number_of_pauses_may_be_nested() {
        for depth in [1, 127, 128, 129, 1_000] {
            let read = tokio::spawn(nested(depth).try_collect::<Vec<_>>());
            let read = tokio::time::timeout(Duration::from_secs(60), read).await;
            assert_eq!(read.expect("it comes to an end").unwrap().unwrap().len(), 1_000, "of {depth}");
        }
    }

    #[tokio::test]
    async fn a_task_pauses_after_so_many_batches() {
        let other = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&other);
        // It runs when the first task pauses: there is one thread.
        let reading = tokio::spawn(async move {
            let mut input = nested(1);
            let mut read = 0;
            while !seen.load(Ordering::Relaxed) && input.next().await.is_some() {
                read += 1;
            }
            read
        });
        tokio::spawn(async move { other.store(true, Ordering::Relaxed) });
        assert!(reading.await.unwrap() <= 128);
    }
}
