//! The rows of a statement.

use crate::errors::{in_stream, raised};
use crate::waiting::{runtime, wait};
use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow_pyarrow::{IntoPyArrow, ToPyArrow};
use futures::StreamExt;
use parking_lot::Mutex;
use pyo3::prelude::*;
use tokio::runtime::Runtime;
use windlass_client::{ClientError, ResultStream};

/// Rows that are read on demand, once.
#[pyclass(frozen)]
pub struct Rows {
    schema: SchemaRef,
    job: Option<String>,
    /// Absent: they were handed over.
    stream: Mutex<Option<ResultStream>>,
}

impl Rows {
    pub fn new(stream: ResultStream) -> Self {
        let (schema, job) = (stream.schema().clone(), stream.job().map(|job| job.to_string()));
        Rows { schema, job, stream: Mutex::new(Some(stream)) }
    }

    fn take(&self) -> PyResult<ResultStream> {
        let taken = self.stream.lock().take();
        taken.ok_or_else(|| Python::attach(|py| raised(py, &read_already())))
    }
}

#[pymethods]
impl Rows {
    /// The columns, as a pyarrow schema.
    #[getter]
    fn schema<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.schema.to_pyarrow(py)
    }

    #[getter]
    fn job(&self) -> Option<&str> {
        self.job.as_deref()
    }

    /// Returns the next rows. `None`: there are no more.
    fn next_batch<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut stream = self.take()?;
        let Some(batch) = wait(py, async { stream.next().await.transpose() })? else { return Ok(None) };
        *self.stream.lock() = Some(stream);
        batch.to_pyarrow(py).map(Some)
    }

    /// Hands the rows over as a pyarrow reader.
    fn reader<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let reader = Reader { schema: self.schema.clone(), stream: self.take()?, runtime: runtime()? };
        (Box::new(reader) as Box<dyn RecordBatchReader + Send>).into_pyarrow(py)
    }

    /// Lets rows that were not read go.
    fn close(&self) {
        self.stream.lock().take();
    }
}

fn read_already() -> ClientError {
    ClientError::Invalid("the rows of this result were read already: run the statement again".to_owned())
}

/// Rows for readers that wait, outside the module's runtime.
struct Reader {
    schema: SchemaRef,
    stream: ResultStream,
    runtime: &'static Runtime,
}

impl Iterator for Reader {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.runtime.block_on(self.stream.next()).map(|batch| batch.map_err(in_stream))
    }
}

impl RecordBatchReader for Reader {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}
