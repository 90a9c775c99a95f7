//! Reads the result of a finished job on the primary: inline parts from the reports, the others from the executors.

use crate::driver::{Directory, JobOutcome, ResultPart};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use std::sync::Arc;
use tokio::runtime::Handle;
use windlass_core::ids::{AttemptId, ExecutorId};
use windlass_engine::exchange::ExchangeStore;
use windlass_engine::{AddressBook, Connections, ExchangeSource, Local, RemoteExchange, decode_batches};
use windlass_proto::pass::KeyRing;

impl AddressBook for Directory {
    fn address(&self, executor: ExecutorId) -> Option<String> {
        Directory::address(self, executor)
    }

    fn holder(&self, output: AttemptId, executor: ExecutorId) -> ExecutorId {
        Directory::holder(self, output, executor)
    }
}

/// Where the primary reads map outputs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ResultSource {
    source: Arc<RemoteExchange>,
}

impl ResultSource {
    /// Reads over the network. Fetched bytes that are not decoded yet are accounted in `pool`.
    pub fn remote(directory: Arc<Directory>, io: Handle, pool: Arc<dyn MemoryPool>, keys: KeyRing) -> Self {
        let source = RemoteExchange::new(Connections::new(io, pool, keys), directory, Local::Nothing);
        ResultSource { source: Arc::new(source) }
    }

    /// Reads from the store of the only executor, which lives in this process.
    pub fn embedded(directory: Arc<Directory>, connections: Arc<Connections>, store: Arc<ExchangeStore>) -> Self {
        let source = RemoteExchange::new(connections, directory, Local::Everything(store));
        ResultSource { source: Arc::new(source) }
    }

    /// Returns the source for operators that read map outputs.
    pub fn exchange(&self) -> Arc<dyn ExchangeSource> {
        self.source.clone()
    }

    /// Returns the rows of a result, partition after partition, so that a sorted result stays sorted.
    ///
    /// While the stream lives, executors do not free the result. It may be polled on any runtime, and decodes there.
    pub fn read(&self, schema: SchemaRef, outcome: JobOutcome) -> SendableRecordBatchStream {
        let JobOutcome { job, outputs, stages, release } = outcome;
        let stage = job.stage((stages.len() as u32).saturating_sub(1));
        let (this, part_schema) = (self.clone(), schema.clone());
        let parts = stream::iter(outputs).map(move |part| {
            let output = stage.task(part.location.partition).attempt(part.location.attempt);
            this.read_part(part_schema.clone(), output, part)
        });
        let batches = parts.flatten().inspect(move |_| _ = &release);
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }

    fn read_part(
        &self,
        schema: SchemaRef,
        output: AttemptId,
        part: ResultPart,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        match part.inline {
            Some(inline) => {
                let batches = decode_batches(&inline);
                stream::once(async { batches }).map_ok(|batches| stream::iter(batches).map(Ok)).try_flatten().boxed()
            }
            None if part.rows == 0 && part.bytes == 0 => stream::empty().boxed(),
            None => self.source.read(schema, vec![(output, part.location.executor)], None),
        }
    }
}
