//! Makes batches own their data, below operators that hold many of them and account for what each one pins.
//!
//! A batch of views (strings that point into the buffers of a scan or of a join's collected side) pins all these buffers, and a sort
//! reserves what each batch pins, once for each column and again for each reference to a buffer. A few thousand rows out of a join
//! then ask for many times the memory of the whole table, and no spilling helps. So views that pin much more than they use are
//! copied first.

use crate::exchange::trim;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{CardinalityEffect, ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use std::fmt;
use std::sync::Arc;

/// Only ever part of a plan that is about to run: it is never encoded, shown or counted among a stage's operators.
#[derive(Debug)]
pub(crate) struct CompactExec {
    input: Arc<dyn ExecutionPlan>,
}

/// `plan` with compacted inputs for all sorts that keep every row. A top-k compacts what it keeps by itself.
pub(crate) fn compact_sorts(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let Some(sort) = node.downcast_ref::<SortExec>().filter(|sort| sort.fetch().is_none()) else {
            return Ok(Transformed::no(node));
        };
        let input: Arc<dyn ExecutionPlan> = Arc::new(CompactExec { input: Arc::clone(sort.input()) });
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        Ok(Transformed::yes(node.replace_children(vec![input], options)?))
    })
    .data()
}

impl DisplayAs for CompactExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompactExec")
    }
}

impl ExecutionPlan for CompactExec {
    fn name(&self) -> &str {
        "CompactExec"
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

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self { input: children.swap_remove(0) }))
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self { input: children.swap_remove(0) }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let compacted = input.map(|batch| Ok(trim(batch?, 1).map_err(DataFusionError::from)?.0));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), compacted)))
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
    use futures::TryStreamExt;

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
        let plan = compact_sorts(Arc::new(SortExec::new(by, input))).unwrap();
        let compact = Arc::clone(plan.children()[0]);
        assert_eq!(compact.name(), "CompactExec");
        let batches: Vec<RecordBatch> = compact.execute(0, Arc::default()).unwrap().try_collect().await.unwrap();
        assert_eq!(batches, vec![pinning()]);
        assert!(pinning().column(0).get_buffer_memory_size() > 100_000);
        let buffers = batches[0].column(0).as_string_view().data_buffers();
        assert!(buffers.iter().map(|buffer| buffer.capacity()).sum::<usize>() < 1_000);
    }
}
