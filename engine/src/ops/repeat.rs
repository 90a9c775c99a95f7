//! The operator that repeats rows as often as one of their columns says.

use arrow::array::{AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Int64Type, Schema};
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionMapping;
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::{StreamExt, TryStreamExt};
use std::fmt;
use std::sync::Arc;

/// Repeats each row of its input as often as the last column says, an integer above zero, and drops that column.
#[derive(Debug)]
pub struct RepeatExec {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl RepeatExec {
    pub fn try_new(input: Arc<dyn ExecutionPlan>) -> Result<Self> {
        let from = input.schema();
        let Some((DataType::Int64, kept)) = from.fields().split_last().map(|(last, kept)| (last.data_type(), kept))
        else {
            return internal_err!("rows are repeated by an integer in their last column, not by {from}");
        };
        let schema = Arc::new(Schema::new_with_metadata(kept.to_vec(), from.metadata().clone()));
        let columns = kept.iter().enumerate().map(|(at, field)| {
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), at));
            (column, field.name().clone())
        });
        let mapping = ProjectionMapping::try_new(columns.collect::<Vec<_>>(), &from)?;
        let equivalence = input.equivalence_properties();
        let properties = PlanProperties::new(
            equivalence.project(&mapping, schema),
            input.output_partitioning().project(&mapping, equivalence),
            EmissionType::Incremental,
            input.boundedness(),
        );
        Ok(Self { input, properties: Arc::new(properties) })
    }
}

impl DisplayAs for RepeatExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepeatExec")
    }
}

impl ExecutionPlan for RepeatExec {
    fn name(&self) -> &str {
        "RepeatExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    of_one_input!(|_this, input| Self::try_new(input)?);

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = context.session_config().batch_size();
        let input = self.input.execute(partition, context)?;
        let repeated = input.map_ok(move |batch| futures::stream::iter(Repeated::of(batch, rows))).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), repeated.boxed())))
    }
}

/// The batches into which one batch is repeated.
struct Repeated {
    rows: RecordBatch,
    counts: Int64Array,
    /// Maximum rows of a batch.
    most: usize,
    at: usize,
    /// Number of times that the row at `at` was returned.
    given: i64,
}

impl Repeated {
    fn of(mut batch: RecordBatch, most: usize) -> Self {
        let counts = batch.remove_column(batch.num_columns() - 1);
        Self { rows: batch, counts: counts.as_primitive::<Int64Type>().clone(), most: most.max(1), at: 0, given: 0 }
    }

    fn given_rows(&self, indices: Vec<u32>) -> Result<RecordBatch> {
        if self.rows.num_columns() == 0 {
            let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
            return Ok(RecordBatch::try_new_with_options(self.rows.schema(), vec![], &options)?);
        }
        Ok(take_record_batch(&self.rows, &UInt32Array::from(indices))?)
    }

    fn indices(&mut self) -> Vec<u32> {
        let mut indices = Vec::new();
        while self.at < self.counts.values().len() && indices.len() < self.most {
            let left = self.counts.value(self.at) - self.given;
            let room = (self.most - indices.len()) as i64;
            let now = left.min(room);
            indices.extend(std::iter::repeat_n(self.at as u32, now.max(0) as usize));
            if now == left {
                (self.at, self.given) = (self.at + 1, 0);
            } else {
                self.given += now;
            }
        }
        indices
    }
}

impl Iterator for Repeated {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let indices = self.indices();
        (!indices.is_empty()).then(|| self.given_rows(indices))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, StringArray};

    #[test]
    fn a_row_is_given_as_often_as_it_says_in_batches_of_the_size() {
        let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        let counts: ArrayRef = Arc::new(Int64Array::from(vec![2, 5, 1]));
        let batch = RecordBatch::try_from_iter([("name", names), ("n", counts)]).unwrap();
        let batches: Vec<RecordBatch> = Repeated::of(batch, 3).collect::<Result<_>>().unwrap();
        let shown: Vec<String> = batches
            .iter()
            .map(|batch| batch.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>().concat())
            .collect();
        assert_eq!(shown, ["aab", "bbb", "bc"]);
    }

    #[test]
    fn rows_without_columns_are_repeated_too() {
        let counts: ArrayRef = Arc::new(Int64Array::from(vec![2, 5]));
        let batch = RecordBatch::try_from_iter([("n", counts)]).unwrap();
        let batches: Vec<RecordBatch> = Repeated::of(batch, 4).collect::<Result<_>>().unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [4, 3]);
    }
}
