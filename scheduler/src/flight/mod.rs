//! Arrow Flight SQL: the entry point of statements.
//!
//! GetFlightInfo runs a statement to the end of its last stage and returns the locations of the rows. A small result has one endpoint
//! without a location, and is read from here. A large one has an endpoint for each part, in order, on the executor that holds it. A
//! client that cannot reach executors reads the same tickets from here, and the rows are streamed through. Unread rows expire after
//! some minutes. A client that gives up the call cancels the job.
//!
//! [`FlightFace`] is the gRPC service. It finds the session of each request, and handles what arrow-flight's `FlightSqlService` does
//! not pass on (GetSchema, tickets of executors, cookies).

mod actions;
mod caller;
mod ingest;
mod metadata;
mod results;
mod rows;
mod service;
#[cfg(test)]
mod tests;

use crate::errors::QueryError;
use crate::services::Services;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::{Any, Command};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use caller::{caller_of, set_cookie};
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::ipc::writer::IpcWriteOptions;
use futures::stream::BoxStream;
use prost::Message;
use service::SqlService;
use tonic::{Request, Response, Status, Streaming};

/// Maximum bytes of a message with statements or parameters.
const MAX_DECODED: usize = 64 << 20;
/// Prefix of the types of Flight SQL's own messages.
const FLIGHT_SQL: &str = "type.googleapis.com/arrow.flight.protocol.sql.";

/// The Flight SQL service of a primary.
pub struct FlightFace {
    sql: SqlService,
}

impl FlightFace {
    pub fn new(services: Services) -> Self {
        Self { sql: SqlService { services } }
    }

    /// Returns a service for a tonic server.
    pub fn into_server(self) -> FlightServiceServer<Self> {
        FlightServiceServer::new(self).max_decoding_message_size(MAX_DECODED).max_encoding_message_size(usize::MAX)
    }

    /// Puts the session into the request. Returns the cookie for the reply.
    fn enter<T>(&self, request: &mut Request<T>) -> Result<Option<String>, Status> {
        let (by, caller) = caller_of(request)?;
        let (session, new) = self.sql.services.sessions.enter(&by, &caller)?;
        let cookie = new.then(|| session.id.clone());
        request.extensions_mut().insert(session);
        request.extensions_mut().insert(by);
        Ok(cookie)
    }
}

fn leave<T>(mut response: Response<T>, cookie: Option<String>) -> Response<T> {
    if let Some(id) = cookie {
        set_cookie(response.metadata_mut(), &id);
    }
    response
}

/// Adds the cookie to an error too, because a client's first statement may fail.
fn leave_failed(mut status: Status, cookie: Option<String>) -> Status {
    if let Some(id) = cookie {
        set_cookie(status.metadata_mut(), &id);
    }
    status
}

macro_rules! in_session {
    ($face:ident, $request:ident, $method:ident) => {{
        let mut request = $request;
        let cookie = $face.enter(&mut request)?;
        match FlightService::$method(&$face.sql, request).await {
            Ok(response) => Ok(leave(response, cookie)),
            Err(status) => Err(leave_failed(status, cookie)),
        }
    }};
}

#[tonic::async_trait]
impl FlightService for FlightFace {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        FlightService::handshake(&self.sql, request).await
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Status::unimplemented("flights are not listed: they are results of statements"))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        in_session!(self, request, get_flight_info)
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented("statements are not polled: GetFlightInfo returns when the result is there"))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let mut request = request;
        let cookie = self.enter(&mut request)?;
        let schema = self.sql.schema_of(&request).await.map_err(|status| leave_failed(status, cookie.clone()))?;
        Ok(leave(Response::new(schema_result(&schema)?), cookie))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        // Executors' tickets do not have Flight SQL's types.
        let ticket = &request.get_ref().ticket;
        let of_flight_sql = Any::decode(ticket.as_ref()).is_ok_and(|any| any.type_url.starts_with(FLIGHT_SQL));
        if !of_flight_sql {
            return self.sql.read_for_executor(&caller_of(&request)?.0, ticket);
        }
        in_session!(self, request, do_get)
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        in_session!(self, request, do_put)
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        in_session!(self, request, do_action)
    }

    async fn list_actions(&self, request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        FlightService::list_actions(&self.sql, request).await
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Status::unimplemented("DoExchange is not part of Flight SQL"))
    }
}

fn schema_result(schema: &Schema) -> Result<SchemaResult, Status> {
    let options = IpcWriteOptions::default();
    SchemaAsIpc::new(schema, &options).try_into().map_err(internal)
}

fn command_of(descriptor: &FlightDescriptor) -> Result<Command, Status> {
    let any = Any::decode(descriptor.cmd.as_ref());
    let any =
        any.map_err(|e| Status::invalid_argument(format!("the descriptor is not a command of Flight SQL: {e}")))?;
    Command::try_from(any).map_err(|e| Status::invalid_argument(e.to_string()))
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::from(QueryError::Internal(error.to_string()))
}
