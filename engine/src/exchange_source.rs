//! How operators read map outputs, wherever those lie.

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use std::fmt::Debug;
use std::ops::Range;
use windlass_core::ids::{AttemptId, ExecutorId};

/// Reads map outputs: from the process's own store, or from other executors.
pub trait ExchangeSource: Send + Sync + Debug {
    /// All batches of `buckets` (`None`: of every bucket) of these outputs: in any order across outputs, bucket after bucket and in
    /// order within one.
    ///
    /// An output that cannot be read ends the stream with a `TaskFailure::FetchFailed` inside `DataFusionError::External`.
    fn read(
        &self,
        schema: SchemaRef,
        outputs: Vec<(AttemptId, ExecutorId)>,
        buckets: Option<Range<u32>>,
    ) -> SendableRecordBatchStream;
}
