//! Results of statements, and how their rows are read.

use super::gate::Inside;
use super::{Finished, Part, Statements};
use crate::errors::QueryError;
use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use std::sync::Arc;
use windlass_core::ids::JobId;

/// A statement that has run.
#[derive(Clone, Debug)]
pub struct Execution {
    pub schema: SchemaRef,
    pub rows: Rows,
    /// `None` if no job was needed.
    pub job: Option<JobId>,
    /// Rows that the statement wrote.
    pub affected: Option<u64>,
    /// Makes a stopping primary wait while it is held.
    pub(super) running: Option<Arc<Inside>>,
}

/// Where the rows of a result are.
#[derive(Clone, Debug)]
pub enum Rows {
    Here(Vec<RecordBatch>),
    /// In the job's report, or on executors. They stay there while a clone of this lives.
    Job(Arc<Finished>),
}

impl Execution {
    /// Marks the statement as ended, because its result is where readers find it.
    pub(crate) fn is_over(&mut self) {
        self.running = None;
    }

    pub(super) fn here(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { schema, rows: Rows::Here(batches), job: None, affected: None, running: None }
    }

    pub(crate) fn empty() -> Self {
        Self::here(Arc::new(Schema::empty()), Vec::new())
    }

    /// Returns the result of an update without rows.
    pub(crate) fn wrote(affected: Option<u64>) -> Self {
        Self { affected, ..Self::empty() }
    }

    /// Returns DataFusion's answer to a statement that writes.
    pub(super) fn count(rows: u64, job: Option<JobId>) -> Self {
        Self::counts(rows, None, job)
    }

    /// Returns the answer to a statement that creates a table of a query's rows. It has no columns.
    pub(super) fn created(rows: u64, job: JobId) -> Self {
        Self { job: Some(job), ..Self::wrote(Some(rows)) }
    }

    /// Returns the answer to a statement that writes, and that may set rows aside.
    pub(super) fn counts(rows: u64, rejected: Option<u64>, job: Option<JobId>) -> Self {
        let schema = count_schema(rejected.is_some());
        let columns = [Some(rows), rejected].into_iter().flatten();
        let columns = columns.map(|count| Arc::new(UInt64Array::from(vec![count])) as ArrayRef).collect();
        // The columns have the one type of the schema.
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("columns of numbers are a batch");
        Self { schema, rows: Rows::Here(vec![batch]), job, affected: Some(rows), running: None }
    }
}

/// Returns the columns of the answer to a statement that writes. `rejects`: whether it may set rows aside.
pub(super) fn count_schema(rejects: bool) -> SchemaRef {
    let names = ["count", "rejected"].into_iter().take(if rejects { 2 } else { 1 });
    Arc::new(Schema::new(names.map(|name| Field::new(name, DataType::UInt64, false)).collect::<Vec<_>>()))
}

impl Statements {
    /// Returns the rows of a result in order, wherever they are, through this process. The stream has backpressure and uses constant
    /// memory.
    pub fn read(&self, execution: &Execution) -> Result<SendableRecordBatchStream, QueryError> {
        match &execution.rows {
            Rows::Here(batches) => Ok(ready(&execution.schema, batches.clone())),
            Rows::Job(finished) => {
                let parts: Vec<_> = (0..finished.parts.len()).collect();
                self.read_parts(&execution.schema, finished, parts)
            }
        }
    }

    /// Returns the rows of some parts of a job's result, part after part.
    pub fn read_parts(
        &self,
        schema: &SchemaRef,
        finished: &Arc<Finished>,
        parts: Vec<usize>,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        let statements = self.clone();
        let (finished, of) = (Arc::clone(finished), Arc::clone(schema));
        let streams = futures::stream::iter(parts).map(move |index| match finished.parts.get(index) {
            Some(part) => hold(statements.read_part(&of, part), Arc::clone(&finished)),
            None => ready(&of, Vec::new()),
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), streams.flatten())))
    }

    fn read_part(&self, schema: &SchemaRef, part: &Part) -> SendableRecordBatchStream {
        match &part.inline {
            Some(bytes) => match StreamReader::try_new(std::io::Cursor::new(bytes.clone()), None) {
                Ok(reader) => {
                    let batches = futures::stream::iter(reader.map(|batch| batch.map_err(DataFusionError::from)));
                    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), batches))
                }
                Err(error) => {
                    let failed = futures::stream::iter([Err(DataFusionError::from(error))]);
                    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), failed))
                }
            },
            None => self.inner.runner.read(Arc::clone(schema), vec![(part.output, part.executor)]),
        }
    }
}

fn ready(schema: &SchemaRef, batches: Vec<RecordBatch>) -> SendableRecordBatchStream {
    let batches = futures::stream::iter(batches.into_iter().map(Ok));
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), batches))
}

/// Keeps `held` alive until the stream ends.
fn hold<T: Send + 'static>(stream: SendableRecordBatchStream, held: T) -> SendableRecordBatchStream {
    let schema = stream.schema();
    let held_stream = stream.map(move |batch| {
        let _held = &held;
        batch
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, held_stream))
}
