//! The interface through which operators read map outputs, wherever these lie.

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use std::fmt::Debug;
use std::ops::Range;
use windlass_core::ids::{AttemptId, ExecutorId};

/// Reads map outputs: from the process's own store, or from other executors.
pub trait ExchangeSource: Send + Sync + Debug {
    /// All batches of `buckets` (`None`: every bucket) of these outputs: in any order across outputs; within one, bucket after bucket and in order.
    ///
    /// An output that cannot be read ends the stream with a `TaskFailure::FetchFailed` inside `DataFusionError::External`.
    fn read(
        &self,
        schema: SchemaRef,
        outputs: Vec<(AttemptId, ExecutorId)>,
        buckets: Option<Range<u32>>,
    ) -> SendableRecordBatchStream;
}
