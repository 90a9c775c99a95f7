//! Rows that clients send.

use crate::errors::QueryError;
use crate::services::loads::Incoming;
use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use datafusion::arrow::array::RecordBatch;
use futures::{Stream, StreamExt, TryStreamExt};
use tonic::Status;

/// Returns the rows that a client sends with a statement. Messages without data only say what the rows are for.
pub(super) async fn batches(
    stream: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
) -> Result<Vec<RecordBatch>, Status> {
    decode(stream).try_collect().await.map_err(Status::from)
}

/// Returns a stream of the same batches, after the first message with its schema has arrived.
pub(super) async fn incoming(
    stream: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
) -> Result<Incoming, QueryError> {
    let sent =
        |error| QueryError::Invalid(format!("the rows of the load cannot be read: {}", Status::from(error).message()));
    let mut batches = decode(stream);
    let first = batches.try_next().await.map_err(sent)?;
    let Some(schema) = batches.schema().cloned() else {
        return Err(QueryError::Invalid("the load has no schema: send at least an empty batch".to_string()));
    };
    let batches = futures::stream::iter(first.map(Ok)).chain(batches.map_err(sent)).boxed();
    Ok(Incoming { schema, batches })
}

fn decode(stream: impl Stream<Item = Result<FlightData, Status>> + Send + 'static) -> FlightRecordBatchStream {
    let data = stream.try_filter(|data| futures::future::ready(!data.data_header.is_empty()));
    FlightRecordBatchStream::new_from_flight_data(data.map_err(FlightError::from).boxed())
}
