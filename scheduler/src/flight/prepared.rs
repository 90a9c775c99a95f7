//! Prepared statements of Flight SQL.

use crate::errors::QueryError;
use crate::statements::sessions::Session;
use crate::statements::{Described, Parameters};
use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use datafusion::arrow::array::RecordBatch;
use futures::{Stream, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use std::sync::Arc;
use tonic::Status;

/// Prepared statements of one session at a time.
const MAX_PREPARED: usize = 1_000;

/// A statement that a client has prepared. It is planned again for each execution, because tables change in between.
#[derive(Debug)]
pub(crate) struct PreparedHandle {
    pub sql: String,
    pub described: Described,
    /// What the client has bound to its parameters for the next execution.
    bound: Mutex<Vec<RecordBatch>>,
}

impl PreparedHandle {
    pub fn new(sql: String, described: Described) -> Self {
        Self { sql, described, bound: Mutex::default() }
    }

    pub fn bind(&self, batches: Vec<RecordBatch>) {
        *self.bound.lock() = batches;
    }

    /// The bound rows: one set of values for each execution.
    pub fn parameters(&self) -> Result<Vec<Parameters>, QueryError> {
        rows(&self.bound.lock(), &self.described)
    }
}

/// Values for each execution. A statement without parameters runs once whatever was bound.
pub(super) fn rows(batches: &[RecordBatch], described: &Described) -> Result<Vec<Parameters>, QueryError> {
    if described.names.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = Vec::new();
    for batch in batches {
        rows.extend(Parameters::rows(batch, &described.names)?);
    }
    Ok(rows)
}

pub(super) fn store(session: &Session, handle: PreparedHandle) -> Result<String, QueryError> {
    let mut handles = session.handles.lock();
    if handles.len() >= MAX_PREPARED {
        return Err(QueryError::Exhausted(format!("the session has {MAX_PREPARED} prepared statements; close some")));
    }
    let id = uuid::Uuid::new_v4().simple().to_string();
    handles.insert(id.clone(), Arc::new(handle));
    Ok(id)
}

pub(super) fn find(session: &Session, id: &[u8]) -> Result<Arc<PreparedHandle>, QueryError> {
    let id = String::from_utf8_lossy(id);
    session.handles.lock().get(id.as_ref()).cloned().ok_or_else(|| {
        QueryError::NotFound(
            "the prepared statement was closed, or is of another session: prepare it again".to_string(),
        )
    })
}

pub(super) fn close(session: &Session, id: &[u8]) {
    session.handles.lock().remove(String::from_utf8_lossy(id).as_ref());
}

/// The rows that a client sends along. Messages without data only say what the rows are for.
pub(super) async fn batches(
    stream: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
) -> Result<Vec<RecordBatch>, Status> {
    decode(stream).try_collect().await.map_err(Status::from)
}

/// As [`batches`], one after the other.
pub(super) fn decode(
    stream: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
) -> FlightRecordBatchStream {
    let data = stream.try_filter(|data| futures::future::ready(!data.data_header.is_empty()));
    FlightRecordBatchStream::new_from_flight_data(data.map_err(FlightError::from).boxed())
}
