//! Serves large results as Arrow Flight, straight from the executor that computed them: `DoGet` of a [`v1::ResultTicket`].

use arrow::datatypes::Schema;
use arrow::datatypes::SchemaRef;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    IpcMessage, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};
use windlass_core::ids::AttemptId;
use windlass_engine::exchange::{BucketSel, ExchangeError, ExchangeStore};
use windlass_engine::messages;
use windlass_proto::pass::KeyRing;
use windlass_proto::v1;

pub(crate) struct ResultService {
    pub store: Arc<ExchangeStore>,
    pub keys: KeyRing,
}

impl ResultService {
    fn batches(&self, schema: SchemaRef, outputs: Vec<AttemptId>) -> BoxStream<'static, Result<FlightData, Status>> {
        let store = self.store.clone();
        let read_one = move |output| stream::iter([store.read(output, BucketSel::All)]).try_flatten();
        let batches = stream::iter(outputs).flat_map(read_one).map_err(|error| FlightError::from(gone(&error)));
        messages(schema, batches).map_ok(FlightData::from).map_err(Status::from).boxed()
    }
}

fn gone(error: &ExchangeError) -> Status {
    match error {
        ExchangeError::Missing { .. } => {
            Status::not_found(format!("{error}: the result was freed or its time is over, run the statement again"))
        }
        _ => Status::internal(format!("reading the result failed: {error}")),
    }
}

fn only_results() -> Status {
    Status::unimplemented("an executor only serves DoGet of result tickets: send statements to the primary")
}

#[tonic::async_trait]
impl FlightService for ResultService {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let invalid = |why: &dyn std::fmt::Display| {
            Status::invalid_argument(format!("this is not a ticket for a result of this cluster: {why}"))
        };
        let ticket = v1::ResultTicket::decode(request.into_inner().ticket).map_err(|error| invalid(&error))?;
        let schema = Schema::try_from(IpcMessage(ticket.schema)).map_err(|error| invalid(&error))?;
        let outputs: Vec<AttemptId> = ticket.outputs.into_iter().map(AttemptId::from).collect();
        self.keys.check_outputs(&ticket.pass, outputs.iter().copied())?;
        Ok(Response::new(self.batches(Arc::new(schema), outputs)))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(only_results())
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(only_results())
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        Err(only_results())
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(only_results())
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        Err(only_results())
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        Err(only_results())
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        Err(only_results())
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(only_results())
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(only_results())
    }
}
