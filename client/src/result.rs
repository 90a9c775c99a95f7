//! The rows of a statement, as a stream.

use crate::error::Result;
use crate::handle::QueryHandle;
use crate::jobs::{JobId, Progress};

use arrow::array::AsArray;
use arrow::datatypes::{SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;
use futures::stream::BoxStream;
use futures::{Stream, TryStreamExt};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Rows, read from the cluster on demand. Drop ends the reading.
pub struct ResultStream {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch>>,
    job: Option<JobId>,
    handle: QueryHandle,
}

impl ResultStream {
    pub(crate) fn new(
        schema: SchemaRef,
        batches: BoxStream<'static, Result<RecordBatch>>,
        job: Option<JobId>,
        handle: QueryHandle,
    ) -> ResultStream {
        ResultStream { schema, batches, job, handle }
    }

    /// Columns; none for statements that return nothing, such as `CREATE TABLE`.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Job that ran, for [`crate::Session::job`]; `None` for statements without a job, such as `SET`.
    pub fn job(&self) -> Option<JobId> {
        self.job
    }

    /// See [`QueryHandle::progress`].
    pub fn progress(&self) -> BoxStream<'static, Result<Progress>> {
        self.handle.progress()
    }

    /// See [`QueryHandle::cancel`].
    pub async fn cancel(self) -> Result<()> {
        self.handle.cancel().await
    }

    /// Collects all rows in memory.
    pub async fn collect(self) -> Result<Vec<RecordBatch>> {
        self.batches.try_collect().await
    }

    /// Returns the count that a statement such as `INSERT` answers with, and 0 for any other.
    pub(crate) async fn into_count(self) -> Result<u64> {
        let counts = self.schema.fields().len() == 1 && self.schema.field(0).name() == "count";
        let batches = self.collect().await?;
        let count = batches
            .first()
            .filter(|batch| counts && batch.num_rows() == 1)
            .and_then(|batch| batch.column(0).as_primitive_opt::<UInt64Type>().map(|column| column.value(0)));
        Ok(count.unwrap_or(0))
    }
}

impl Stream for ResultStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for ResultStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResultStream").field("schema", &self.schema).field("job", &self.job).finish_non_exhaustive()
    }
}
