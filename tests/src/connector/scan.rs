//! Reading a generated table.

use super::GeneratedTable;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use windlass_client::connector::{Encoded, Scan, ScanRequest, Split, TaskOfScan};

/// Rows in a batch.
const BATCH: u64 = 1_000;
/// Approximate bytes of a row.
const ROW_BYTES: u64 = 32;

// example: scan
/// What one statement reads.
#[derive(Debug)]
pub(super) struct GeneratedScan {
    table: GeneratedTable,
    projection: Vec<usize>,
    schema: SchemaRef,
    /// Rows with smaller ids are not wanted.
    from: u64,
    /// Files of rows that were inserted.
    files: Vec<PathBuf>,
}

impl GeneratedScan {
    pub fn of(table: GeneratedTable, request: ScanRequest<'_>) -> Result<Self> {
        let from = request.filters.iter().filter_map(least_id).max().unwrap_or(0);
        let files = table.folder.published()?;
        Ok(Self { table, projection: request.projection, schema: request.schema, from, files })
    }

    /// The columns travel by themselves, and the splits too.
    pub fn decode(table: GeneratedTable, encoded: Encoded<'_>) -> Result<Self> {
        let projection = encoded.bytes.iter().map(|&at| at.into()).collect();
        Ok(Self { table, projection, schema: Arc::clone(encoded.schema), from: 0, files: Vec::new() })
    }
}

impl Scan for GeneratedScan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn splits(&self) -> Vec<Split> {
        let each = self.table.rows.div_ceil(self.table.splits).max(1);
        let starts = (0..self.table.rows).step_by(each as usize);
        let ranges = starts.map(|start| start.max(self.from)..self.table.rows.min(start + each));
        let of_range = |range: Range<u64>| Split {
            bytes: Some((range.end - range.start) * ROW_BYTES),
            rows: Some(range.end - range.start),
            affinity: range.start + 1,
            payload: format!("rows {} {}", range.start, range.end).into(),
            ..Split::default()
        };
        let of_file = |file: &PathBuf| Split {
            bytes: std::fs::metadata(file).ok().map(|file| file.len()),
            payload: format!("file {}", file.display()).into(),
            ..Split::default()
        };
        let made_up = ranges.filter(|range| range.start < range.end).map(of_range);
        made_up.chain(self.files.iter().map(of_file)).collect()
    }

    fn describe(&self) -> String {
        format!("rows={}, from={}, columns={:?}", self.table.rows, self.from, self.projection)
    }

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.projection.iter().map(|&at| at as u8).collect())
    }

    fn open(&self, split: &Split, _: &TaskOfScan) -> Result<SendableRecordBatchStream> {
        self.table.folder.unlock()?;
        let (projection, schema) = (self.projection.clone(), Arc::clone(&self.schema));
        let select = move |rows: Rows| rows.batch(&projection, &schema);
        let text = String::from_utf8_lossy(&split.payload).into_owned();
        if let Some(file) = text.strip_prefix("file ") {
            let batch = self.table.folder.read(file).and_then(select);
            return Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::iter([batch]))));
        }
        let range = range_of(&text).ok_or_else(|| exec_datafusion_err!("'{text}' is no split of a generated table"))?;
        let (seed, pace) = (self.table.seed, Duration::from_millis(self.table.pace));
        let batches = stream::iter(range.clone().step_by(BATCH as usize)).then(move |start| {
            let rows = Rows::made_up(seed, start..range.end.min(start + BATCH));
            let batch = select(rows);
            async move {
                if !pace.is_zero() {
                    tokio::time::sleep(pace).await;
                }
                batch
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}
// end of example

fn range_of(text: &str) -> Option<Range<u64>> {
    let (start, end) = text.strip_prefix("rows ")?.split_once(' ')?;
    Some(start.parse().ok()?..end.parse().ok()?)
}

/// Returns N of `id >= N`.
pub(super) fn least_id(filter: &Expr) -> Option<u64> {
    let Expr::BinaryExpr(comparison) = filter else { return None };
    let (Expr::Column(column), Expr::Literal(ScalarValue::Int64(Some(least)), _)) =
        (comparison.left.as_ref(), comparison.right.as_ref())
    else {
        return None;
    };
    (comparison.op == Operator::GtEq && column.name == "id").then_some((*least).max(0) as u64)
}

/// Columns of some rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    pub ids: Vec<Option<i64>>,
    pub keys: Vec<Option<i64>>,
    pub names: Vec<Option<String>>,
}

impl Rows {
    fn made_up(seed: u64, ids: Range<u64>) -> Self {
        let key = |id: u64| (id.wrapping_mul(2_654_435_761).wrapping_add(seed) % 1_000) as i64;
        Self {
            ids: ids.clone().map(|id| Some(id as i64)).collect(),
            keys: ids.clone().map(|id| Some(key(id))).collect(),
            names: ids.map(|id| (id % 7 != 0).then(|| format!("name-{}", key(id) % 10))).collect(),
        }
    }

    fn batch(self, projection: &[usize], schema: &SchemaRef) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.ids.len()));
        let all: [ArrayRef; 3] = [
            Arc::new(Int64Array::from(self.ids)),
            Arc::new(Int64Array::from(self.keys)),
            Arc::new(StringArray::from(self.names)),
        ];
        let columns = projection.iter().map(|&at| Arc::clone(&all[at])).collect();
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
    }
}
