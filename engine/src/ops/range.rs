//! Sorts that no single task finishes: sorted runs, and tasks that each merge one range of the sort key from all runs.
//!
//! ```text
//!   sort ──> run = [sample | chunk 0 | chunk 1 | ...]     one for each task of the sorting stage
//!                      │         └──────┬──────┘
//!                      └─> bounds ──> merge of the chunks that overlap the range, and of their rows within it
//! ```
//!
//! A run's first bucket holds the first row of each chunk. From these rows of all runs, every reading task finds the same bounds by itself: keys that cut the
//! rows into about equal ranges. Equal keys lie in one range, so ranges neither overlap nor leave anything out.
//!
//! The positions of chunks depend on ranks alone, and the keys at those ranks on the sorted rows alone. So a run that was lost and computed again gives the
//! same bounds, as long as it gives the same keys: the planner uses ranges only for such plans.

use crate::exchange::{ExchangeError, MapOutputSummary, MapOutputWriter};
use crate::exchange_source::ExchangeSource;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::metrics::BaselineMetrics;
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use std::sync::Arc;
use windlass_core::ids::{AttemptId, ExecutorId};

/// Number of chunks of a run. They grow, so that a short run has many chunks and a long one not too many.
const CHUNKS: u32 = 256;
const CHUNKS_OF_ONE_SIZE: u32 = 64;
const FIRST_CHUNK_ROWS: u64 = 8_192;
/// The sample and the chunks.
pub(crate) const BUCKETS: u32 = 1 + CHUNKS;

/// The last chunk takes the remaining rows.
fn chunk_rows(chunk: u32) -> u64 {
    FIRST_CHUNK_ROWS << (2 * (chunk / CHUNKS_OF_ONE_SIZE))
}

/// Writes one run.
pub(crate) struct RunWriter {
    writer: MapOutputWriter,
    /// Number of chunks begun.
    chunks: u32,
    /// Number of rows that the last chunk still takes.
    left: u64,
}

impl RunWriter {
    pub fn new(writer: MapOutputWriter) -> Self {
        Self { writer, chunks: 0, left: 0 }
    }

    /// Adds sorted rows, none of which sorts before an earlier row.
    pub async fn push(&mut self, batch: RecordBatch) -> Result<(), ExchangeError> {
        let mut offset = 0;
        while offset < batch.num_rows() {
            if self.left == 0 {
                self.writer.push(0, batch.slice(offset, 1)).await?;
                self.left = if self.chunks + 1 == CHUNKS { u64::MAX } else { chunk_rows(self.chunks) };
                self.chunks += 1;
            }
            let rows = self.left.min((batch.num_rows() - offset) as u64) as usize;
            self.writer.push(self.chunks, batch.slice(offset, rows)).await?;
            self.left -= rows as u64;
            offset += rows;
        }
        Ok(())
    }

    pub async fn finish(self) -> Result<MapOutputSummary, ExchangeError> {
        self.writer.finish().await
    }
}

/// Number of rows of a run, without its sample.
pub(crate) fn run_rows(run: &MapOutputSummary) -> u64 {
    run.rows - run.bucket_rows[0]
}

/// Reads one range of the sort key from all runs, merged.
pub(super) struct RangeReader {
    pub schema: SchemaRef,
    pub ordering: LexOrdering,
    pub source: Arc<dyn ExchangeSource>,
    pub runs: Vec<(AttemptId, ExecutorId)>,
    /// Index of the range, below `ranges`.
    pub part: u32,
    pub ranges: u32,
    pub batch_size: usize,
    pub metrics: BaselineMetrics,
    pub reservation: MemoryReservation,
}

impl RangeReader {
    pub fn read(self) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(self.open()).try_flatten()))
    }

    async fn open(self) -> Result<SendableRecordBatchStream> {
        let keys = Arc::new(Keys::new(&self.ordering, &self.schema)?);
        let samples = try_join_all(self.runs.iter().map(|run| self.sample(*run, &keys))).await?;
        let Some(range) = KeyRange::of(&samples, self.part, self.ranges) else {
            return Ok(Box::pin(MemoryStream::try_new(vec![], self.schema, None)?));
        };
        let range = Arc::new(range);
        let mut streams = Vec::with_capacity(self.runs.len());
        for (run, sample) in self.runs.iter().zip(&samples) {
            let chunks = range.chunks(sample);
            if chunks.is_empty() {
                continue;
            }
            let buckets = 1 + chunks.start as u32..1 + chunks.end as u32;
            let batches = self.source.read(Arc::clone(&self.schema), vec![*run], Some(buckets));
            let (range, keys) = (Arc::clone(&range), Arc::clone(&keys));
            let within = batches.try_filter_map(move |batch| {
                let rows = range.rows(&keys, &batch);
                async move { Ok(rows?.map(|rows| batch.slice(rows.start, rows.len()))) }
            });
            let within: SendableRecordBatchStream =
                Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), within.boxed()));
            streams.push(within);
        }
        if streams.is_empty() {
            return Ok(Box::pin(MemoryStream::try_new(vec![], self.schema, None)?));
        }
        StreamingMergeBuilder::new()
            .with_streams(streams)
            .with_schema(self.schema)
            .with_expressions(&self.ordering)
            .with_metrics(self.metrics)
            .with_batch_size(self.batch_size)
            .with_reservation(self.reservation)
            .build()
    }

    /// The first key of each chunk of a run.
    async fn sample(&self, run: (AttemptId, ExecutorId), keys: &Keys) -> Result<Vec<Key>> {
        let mut batches = self.source.read(Arc::clone(&self.schema), vec![run], Some(0..1));
        let mut sample = Vec::new();
        while let Some(batch) = batches.next().await {
            sample.extend(keys.of(&batch?)?.iter().map(|row| Key::from(row.as_ref())));
        }
        Ok(sample)
    }
}

/// Bytes that compare as the sort does.
type Key = Box<[u8]>;

struct Keys {
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    converter: RowConverter,
}

impl Keys {
    fn new(ordering: &LexOrdering, schema: &Schema) -> Result<Self> {
        let exprs = ordering.iter().map(|key| Arc::clone(&key.expr)).collect();
        Ok(Self { exprs, converter: RowConverter::new(sort_fields(ordering, schema)?)? })
    }

    fn of(&self, batch: &RecordBatch) -> Result<Rows> {
        let columns = self.exprs.iter().map(|expr| expr.evaluate(batch)?.into_array(batch.num_rows()));
        Ok(self.converter.convert_columns(&columns.collect::<Result<Vec<_>>>()?)?)
    }
}

pub(crate) fn sort_fields(ordering: &LexOrdering, schema: &Schema) -> Result<Vec<SortField>> {
    ordering.iter().map(|key| Ok(SortField::new_with_options(key.expr.data_type(schema)?, key.options))).collect()
}

/// The keys from `from` on and before `to`; a missing bound is open.
#[derive(Debug, PartialEq)]
struct KeyRange {
    from: Option<Key>,
    to: Option<Key>,
}

impl KeyRange {
    /// One of `ranges` ranges with about equal numbers of rows. `None`: there are fewer ranges, and this one has no rows.
    fn of(samples: &[Vec<Key>], part: u32, ranges: u32) -> Option<Self> {
        let weighed = |sample: &'_ Vec<Key>| -> Vec<(Key, u64)> {
            (0..).zip(sample).map(|(chunk, key)| (key.clone(), chunk_rows(chunk))).collect()
        };
        let mut all: Vec<(Key, u64)> = samples.iter().flat_map(weighed).collect();
        all.sort();
        let total: u64 = all.iter().map(|(_, rows)| rows).sum();
        let mut bounds: Vec<Key> = Vec::new();
        let mut before = 0;
        let least = all.first().map(|(key, _)| key.clone());
        for (key, rows) in all {
            // Nothing sorts before the smallest key, and nothing lies between equal keys.
            let splits = bounds.last().or(least.as_ref()) != Some(&key) && bounds.len() + 1 < ranges as usize;
            if splits && before >= total * (bounds.len() as u64 + 1) / u64::from(ranges) {
                bounds.push(key);
            }
            before += rows;
        }
        let part = part as usize;
        if part > bounds.len() {
            return None;
        }
        let from = part.checked_sub(1).map(|lower| bounds[lower].clone());
        Some(Self { from, to: bounds.get(part).cloned() })
    }

    /// The chunks of a run that may hold rows of the range. A chunk ends where the next one begins, sometimes with an equal key.
    fn chunks(&self, sample: &[Key]) -> std::ops::Range<usize> {
        let first = match &self.from {
            Some(from) => sample.partition_point(|key| key < from).saturating_sub(1),
            None => 0,
        };
        let end = match &self.to {
            Some(to) => sample.partition_point(|key| key < to),
            None => sample.len(),
        };
        first..end.max(first)
    }

    /// The range of rows of a sorted batch that lie in the key range, if any.
    fn rows(&self, keys: &Keys, batch: &RecordBatch) -> Result<Option<std::ops::Range<usize>>> {
        let last = match batch.num_rows() {
            0 => return Ok(None),
            rows => rows - 1,
        };
        let (first_row, last_row) = (keys.of(&batch.slice(0, 1))?, keys.of(&batch.slice(last, 1))?);
        let from = |key: &[u8]| self.from.as_deref().is_none_or(|from| key >= from);
        let before = |key: &[u8]| self.to.as_deref().is_none_or(|to| key < to);
        let (first_key, last_key) = (first_row.row(0), last_row.row(0));
        if !from(last_key.as_ref()) || !before(first_key.as_ref()) {
            return Ok(None);
        }
        if from(first_key.as_ref()) && before(last_key.as_ref()) {
            return Ok(Some(0..batch.num_rows()));
        }
        let all = keys.of(batch)?;
        let place = |holds: &dyn Fn(&[u8]) -> bool| {
            let (mut low, mut high) = (0, all.num_rows());
            while low < high {
                let middle = low.midpoint(high);
                if holds(all.row(middle).as_ref()) { low = middle + 1 } else { high = middle }
            }
            low
        };
        let rows = place(&|key| !from(key))..place(&before);
        Ok((!rows.is_empty()).then_some(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Key {
        Box::from(number.to_be_bytes())
    }

    /// Samples of runs: the keys at the beginnings of chunks.
    fn samples(runs: &[&[u32]]) -> Vec<Vec<Key>> {
        runs.iter().map(|run| run.iter().map(|number| key(*number)).collect()).collect()
    }

    fn ranges(samples: &[Vec<Key>], count: u32) -> Vec<Option<KeyRange>> {
        (0..count).map(|part| KeyRange::of(samples, part, count)).collect()
    }

    #[test]
    fn ranges_follow_each_other_and_leave_nothing_out() {
        for count in 1..9 {
            let samples = samples(&[&[1, 5, 9, 9, 9, 12], &[2, 3, 9, 20], &[], &[7]]);
            let found: Vec<_> = ranges(&samples, count).into_iter().flatten().collect();
            assert_eq!(found[0].from, None);
            assert_eq!(found[found.len() - 1].to, None);
            for pair in found.windows(2) {
                assert_eq!(pair[0].to, pair[1].from);
                assert!(pair[0].from < pair[0].to);
            }
        }
    }

    #[test]
    fn ranges_are_about_equal() {
        let even: Vec<u32> = (0..32).map(|n| 2 * n).collect();
        let odd: Vec<u32> = (0..32).map(|n| 2 * n + 1).collect();
        let found = ranges(&samples(&[&even, &odd]), 4);
        let bounds: Vec<_> = found.iter().flatten().filter_map(|range| range.from.clone()).collect();
        assert_eq!(bounds, vec![key(16), key(32), key(48)]);
    }

    #[test]
    fn one_key_is_one_range() {
        let found = ranges(&samples(&[&[4, 4, 4], &[4, 4]]), 3);
        assert_eq!(found, vec![Some(KeyRange { from: None, to: None }), None, None]);
        assert_eq!(ranges(&samples(&[&[], &[]]), 2), vec![Some(KeyRange { from: None, to: None }), None]);
    }

    #[test]
    fn chunks_that_end_with_the_key_of_the_bound_are_read() {
        let sample = &samples(&[&[1, 5, 5, 9]])[0];
        let range = |from: Option<u32>, to: Option<u32>| KeyRange { from: from.map(key), to: to.map(key) };
        assert_eq!(range(None, None).chunks(sample), 0..4);
        assert_eq!(range(Some(5), None).chunks(sample), 0..4);
        assert_eq!(range(None, Some(5)).chunks(sample), 0..1);
        assert_eq!(range(Some(6), Some(9)).chunks(sample), 2..3);
        assert_eq!(range(Some(100), None).chunks(sample), 3..4);
        assert!(range(None, Some(1)).chunks(sample).is_empty());
    }
}
