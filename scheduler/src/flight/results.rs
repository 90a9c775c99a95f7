//! The locations of a result's rows, and the rows as Flight data.

use super::internal;
use super::service::SqlService;
use crate::errors::QueryError;
use crate::services::runs::{Attached, RunId, size};
use crate::statements::{Execution, Rows};
use arrow_flight::error::FlightError;
use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, SchemaAsIpc, Ticket};
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::ipc::writer::IpcWriteOptions;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use std::sync::Arc;
use tonic::{Response, Status};
use windlass_core::access::Principal;
use windlass_core::failure::TaskFailure;
use windlass_core::ids::AttemptId;
use windlass_engine::messages;
use windlass_proto::v1;

/// A location that means "or here": a client that cannot reach the others reads over its present connection.
const HERE: &str = "arrow-flight-reuse-connection://?";

/// Maximum bytes of rows that an answer carries.
const ALONG_BYTES: u64 = 1 << 20;

pub(super) type DataStream = BoxStream<'static, Result<FlightData, Status>>;

impl SqlService {
    /// Waits for a run and returns where its rows are. Rows of a small result come `along`, if the client wants that.
    pub(super) async fn flight_info(
        &self,
        by: &Principal,
        run: Attached,
        descriptor: FlightDescriptor,
        along: bool,
    ) -> Result<FlightInfo, Status> {
        let execution = run.ended().await?;
        let schema = Arc::clone(&execution.schema);
        let (rows, bytes) = size(&execution);
        let info = FlightInfo::new().try_with_schema(&schema).map_err(internal)?;
        let job = execution.job.map(|job| job.to_string()).unwrap_or_default();
        let info = info.with_descriptor(descriptor).with_app_metadata(job).with_ordered(true);
        let info = info.with_total_records(rows as i64).with_total_bytes(bytes as i64);
        if along
            && bytes <= ALONG_BYTES
            && let Some(endpoints) = rows_along(&execution)?
        {
            return Ok(info.with_endpoints(endpoints));
        }
        let finished = match &execution.rows {
            Rows::Job(finished) if bytes > self.services.runs.config().small_bytes => Some(Arc::clone(finished)),
            _ => None,
        };
        let Some(finished) = finished else {
            let id = run.keep(1)?;
            return Ok(info.with_endpoint(FlightEndpoint::new().with_ticket(ticket(&id, None))));
        };
        let ipc_schema = ipc_schema(&schema)?;
        let parts: Vec<usize> = (0..finished.parts.len()).filter(|part| finished.parts[*part].rows > 0).collect();
        let id = run.keep(parts.len())?;
        let pass = self.services.runs.pass(by, finished.job);
        let mut endpoints = Vec::with_capacity(parts.len());
        for (position, index) in parts.into_iter().enumerate() {
            let part = &finished.parts[index];
            let from_executors = self.services.runs.config().from_executors;
            let on_executor = part.inline.is_none() && !part.address.is_empty() && from_executors;
            endpoints.push(match on_executor {
                true => {
                    let outputs = vec![part.output.into()];
                    let of_executor = v1::ResultTicket { outputs, schema: ipc_schema.clone(), pass: pass.clone() };
                    FlightEndpoint::new()
                        .with_ticket(Ticket::new(of_executor.encode_to_vec()))
                        .with_location(format!("grpc+tcp://{}", part.address))
                        .with_location(HERE)
                        .with_app_metadata(id.to_string().into_bytes())
                }
                false => FlightEndpoint::new().with_ticket(ticket(&id, Some((position, index)))),
            });
        }
        Ok(info.with_endpoints(endpoints))
    }

    /// Reads map outputs on executors by ticket, for a client that cannot reach the executors.
    pub(super) fn read_for_executor(&self, by: &Principal, ticket: &Bytes) -> Result<Response<DataStream>, Status> {
        let ticket = v1::ResultTicket::decode(ticket.as_ref())
            .map_err(|e| Status::invalid_argument(format!("this is not a ticket of this cluster: {e}")))?;
        let outputs: Vec<AttemptId> = ticket.outputs.into_iter().map(Into::into).collect();
        let first = outputs.first().ok_or_else(|| Status::invalid_argument("the ticket names no output"))?;
        let schema = Arc::new(Schema::try_from(arrow_flight::IpcMessage(ticket.schema)).map_err(internal)?);
        let rows = self.services.runs.read_outputs(by, &ticket.pass, first.job(), &outputs, &schema)?;
        Ok(Response::new(encode(rows)))
    }
}

/// Returns endpoints that contain the rows. `None`: some rows are on executors.
fn rows_along(execution: &Execution) -> Result<Option<Vec<FlightEndpoint>>, Status> {
    let rows: Option<Vec<Bytes>> = match &execution.rows {
        Rows::Here(batches) if batches.is_empty() => Some(Vec::new()),
        Rows::Here(batches) => {
            Some(vec![windlass_engine::encode_batches(&execution.schema, batches).map_err(internal)?])
        }
        Rows::Job(finished) => {
            finished.parts.iter().filter(|part| part.rows > 0).map(|part| part.inline.clone()).collect()
        }
    };
    Ok(rows.map(|rows| rows.into_iter().map(|rows| FlightEndpoint::new().with_app_metadata(rows)).collect()))
}

/// Returns the ticket of a kept result: for all of it, or for one part (its position among the parts to read, and its index in the
/// job).
fn ticket(id: &RunId, part: Option<(usize, usize)>) -> Ticket {
    let handle = match part {
        None => id.to_string(),
        Some((position, index)) => format!("{id}/{position}/{index}"),
    };
    Ticket::new(TicketStatementQuery { statement_handle: handle.into() }.as_any().encode_to_vec())
}

/// Returns the run and the part that a ticket is for.
pub(super) fn parse_handle(handle: &[u8]) -> Result<(RunId, Option<(usize, usize)>), Status> {
    let invalid = || Status::invalid_argument("this is not a ticket of this cluster");
    let handle = std::str::from_utf8(handle).map_err(|_| invalid())?;
    let mut fields = handle.split('/');
    let id = RunId::from(fields.next().unwrap_or_default());
    let part = match (fields.next(), fields.next()) {
        (None, _) => None,
        (Some(position), Some(index)) => {
            Some((position.parse().map_err(|_| invalid())?, index.parse().map_err(|_| invalid())?))
        }
        (Some(_), None) => return Err(invalid()),
    };
    Ok((id, part))
}

pub(super) fn ipc_schema(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let arrow_flight::IpcMessage(bytes) = SchemaAsIpc::new(schema, &options).try_into().map_err(internal)?;
    Ok(bytes)
}

/// Encodes rows as Flight data, with the schema from [`SqlService::flight_info`] and the others.
pub(super) fn encode(rows: SendableRecordBatchStream) -> DataStream {
    let schema = rows.schema();
    let rows = rows.map_err(|error| FlightError::from(Status::from(unreadable(error))));
    messages(schema, rows).map_ok(FlightData::from).map_err(Status::from).boxed()
}

/// Converts a reader's error. A result is not computed again if its executor dies after the job has ended, so the reader must know.
fn unreadable(error: DataFusionError) -> QueryError {
    match windlass_engine::failure::classify(&error) {
        TaskFailure::FetchFailed { executor, message, .. } => QueryError::Lost(format!(
            "the result is lost: {executor}, which held it, cannot be read from any more ({message}); run the statement again"
        )),
        _ => QueryError::from(error),
    }
}

pub(super) fn encode_batch(batch: RecordBatch) -> Response<DataStream> {
    let encoded = messages(batch.schema(), futures::stream::iter([Ok::<_, FlightError>(batch)]));
    Response::new(encoded.map_ok(FlightData::from).map_err(Status::from).boxed())
}

/// Returns the description of a command that DoGet answers by itself.
pub(super) fn info_of(
    command: impl ProstMessageExt,
    schema: &Schema,
    descriptor: FlightDescriptor,
) -> Result<Response<FlightInfo>, Status> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(command.as_any().encode_to_vec()));
    let info = FlightInfo::new().try_with_schema(schema).map_err(internal)?;
    Ok(Response::new(info.with_endpoint(endpoint).with_descriptor(descriptor)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_core::ids::{ExecutorId, JobId};

    #[test]
    fn a_result_that_went_with_its_executor_has_a_kind_of_its_own() {
        let message = "connection refused (at 10.0.0.7:7071)".to_string();
        let output = JobId(1).stage(2).task(0).attempt(0);
        let lost = TaskFailure::FetchFailed { output, executor: ExecutorId(3), message };
        let status = Status::from(unreadable(DataFusionError::External(Box::new(lost))));
        assert_eq!(status.code(), tonic::Code::DataLoss);
        assert!(
            status.message().contains("run the statement again") && status.message().contains("10.0.0.7"),
            "{status}"
        );
        let other = Status::from(unreadable(DataFusionError::ResourcesExhausted("memory".into())));
        assert_ne!(other.code(), tonic::Code::DataLoss);
    }
}
