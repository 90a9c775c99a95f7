//! Actions beyond those of arrow-flight's `FlightSqlService`: cancel and renew results, set session options.

use super::results::parse_handle;
use super::service::{SqlService, session_of};
use crate::errors::QueryError;
use crate::services::runs::RunId;
use crate::services::sessions::Session;
use crate::statements::catalog::{DEFAULT_CATALOG, DEFAULT_SCHEMA};
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{Any, Command};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo,
    RenewFlightEndpointRequest,
};
use futures::StreamExt;
use prost::Message;
use std::collections::HashMap;
use std::sync::Arc;
use tonic::{Request, Response, Status};
use windlass_core::access::Principal;
use windlass_proto::door::principal_of;

const ACTIONS: [(&str, &str); 5] = [
    (
        "CancelFlightInfo",
        "Lets the result of a statement go. Request: CancelFlightInfoRequest, response: CancelFlightInfoResult",
    ),
    (
        "RenewFlightEndpoint",
        "Keeps a result for some minutes more. Request: RenewFlightEndpointRequest, response: FlightEndpoint",
    ),
    (
        "SetSessionOptions",
        "Sets options of the session, as SET does. Request: SetSessionOptionsRequest, response: SetSessionOptionsResult",
    ),
    (
        "GetSessionOptions",
        "The options of the session. Request: GetSessionOptionsRequest, response: GetSessionOptionsResult",
    ),
    ("CloseSession", "Ends the session. Request: CloseSessionRequest, response: CloseSessionResult"),
];

/// Generic clients' names for the options that every database has.
const CATALOG: (&str, &str) = ("catalog", "datafusion.catalog.default_catalog");
const SCHEMA: (&str, &str) = ("schema", "datafusion.catalog.default_schema");

impl SqlService {
    pub(super) fn other_actions() -> impl Iterator<Item = ActionType> {
        ACTIONS
            .into_iter()
            .map(|(name, description)| ActionType { r#type: name.to_string(), description: description.to_string() })
    }

    pub(super) async fn other_action(
        &self,
        request: Request<Action>,
    ) -> Result<Response<<Self as FlightService>::DoActionStream>, Status> {
        let (by, session) = (principal_of(&request), session_of(&request)?);
        let action = request.into_inner();
        let body = action.body.as_ref();
        let invalid = |e: prost::DecodeError| Status::invalid_argument(format!("{}: {e}", action.r#type));
        let answer = match action.r#type.as_str() {
            "CancelFlightInfo" => {
                let cancel = CancelFlightInfoRequest::decode(body).map_err(invalid)?;
                let info = cancel.info.ok_or_else(|| Status::invalid_argument("nothing to cancel was named"))?;
                CancelFlightInfoResult { status: self.cancel(&by, &info) }.encode_to_vec()
            }
            "RenewFlightEndpoint" => {
                let renew = RenewFlightEndpointRequest::decode(body).map_err(invalid)?;
                let endpoint = renew.endpoint.ok_or_else(|| Status::invalid_argument("no endpoint was named"))?;
                let renewed = result_of(&endpoint).and_then(|id| self.services.runs.renew(&by, &id));
                renewed.ok_or_else(|| Status::not_found("the result was read already, or its time is over"))?;
                endpoint.encode_to_vec()
            }
            "SetSessionOptions" => {
                let options = SetSessionOptionsRequest::decode(body).map_err(invalid)?;
                set_options(&session, options).encode_to_vec()
            }
            "GetSessionOptions" => options_of(&session).encode_to_vec(),
            "CloseSession" => {
                // The request releases its own hold on the session before the session is closed.
                let id = session.id.clone();
                drop(session);
                self.services.sessions.close(&by, &id).await;
                CloseSessionResult { status: CloseStatus::Closed.into() }.encode_to_vec()
            }
            other => {
                return Err(Status::unimplemented(format!("the action '{other}' is not supported: see ListActions")));
            }
        };
        let answer = futures::stream::iter([Ok(arrow_flight::Result { body: answer.into() })]);
        Ok(Response::new(answer.boxed()))
    }

    /// Releases a result. A running statement is cancelled by giving up its call.
    pub(super) fn cancel(&self, by: &Principal, info: &FlightInfo) -> i32 {
        let results = info.endpoint.iter().filter_map(result_of);
        let released = results.filter(|id| self.services.runs.release(by, id)).count();
        match released {
            0 => CancelStatus::NotCancellable.into(),
            _ => CancelStatus::Cancelled.into(),
        }
    }
}

/// Returns the kept result to which an endpoint belongs.
fn result_of(endpoint: &arrow_flight::FlightEndpoint) -> Option<RunId> {
    // An endpoint without a ticket contains its rows.
    let ticket = endpoint.ticket.as_ref()?;
    // Endpoints on executors have the result's id beside their ticket.
    if !endpoint.app_metadata.is_empty() {
        return std::str::from_utf8(&endpoint.app_metadata).ok().map(RunId::from);
    }
    let any = Any::decode(ticket.ticket.as_ref()).ok()?;
    match Command::try_from(any).ok()? {
        Command::TicketStatementQuery(ticket) => parse_handle(&ticket.statement_handle).ok().map(|(id, _)| id),
        _ => None,
    }
}

fn set_options(session: &Arc<Session>, request: SetSessionOptionsRequest) -> SetSessionOptionsResult {
    let mut errors = HashMap::new();
    for (name, value) in request.session_options {
        let option = match name.as_str() {
            name if name == CATALOG.0 => CATALOG.1,
            name if name == SCHEMA.0 => SCHEMA.1,
            name => name,
        };
        let value = value.value.map(OptionValue::text).unwrap_or_else(|| match option {
            option if option == CATALOG.1 => DEFAULT_CATALOG.to_string(),
            option if option == SCHEMA.1 => DEFAULT_SCHEMA.to_string(),
            _ => String::new(),
        });
        let error = match session.set_option(option, &value) {
            Ok(()) => continue,
            Err(QueryError::UnknownOption(_)) => ErrorValue::InvalidName,
            Err(QueryError::Unsupported(_)) => ErrorValue::Error,
            Err(_) => ErrorValue::InvalidValue,
        };
        errors.insert(name, SessionError { value: error.into() });
    }
    SetSessionOptionsResult { errors }
}

fn options_of(session: &Arc<Session>) -> GetSessionOptionsResult {
    let state = session.state();
    let text = |value: String| SessionOptionValue { value: Some(OptionValue::StringValue(value)) };
    let names = &state.config_options().catalog;
    let mut session_options = HashMap::from([
        (CATALOG.0.to_string(), text(names.default_catalog.clone())),
        (SCHEMA.0.to_string(), text(names.default_schema.clone())),
    ]);
    for entry in state.config_options().entries() {
        session_options.insert(entry.key, text(entry.value.unwrap_or_default()));
    }
    GetSessionOptionsResult { session_options }
}

// Messages of Flight.proto about sessions, which arrow-flight 59 does not generate.

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SessionOptionValue {
    #[prost(oneof = "OptionValue", tags = "1, 2, 3, 4, 5")]
    pub value: Option<OptionValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum OptionValue {
    #[prost(string, tag = "1")]
    StringValue(String),
    #[prost(bool, tag = "2")]
    BoolValue(bool),
    #[prost(sfixed64, tag = "3")]
    Int64Value(i64),
    #[prost(double, tag = "4")]
    DoubleValue(f64),
    #[prost(message, tag = "5")]
    StringListValue(StringList),
}

impl OptionValue {
    fn text(self) -> String {
        match self {
            OptionValue::StringValue(value) => value,
            OptionValue::BoolValue(value) => value.to_string(),
            OptionValue::Int64Value(value) => value.to_string(),
            OptionValue::DoubleValue(value) => value.to_string(),
            OptionValue::StringListValue(list) => list.values.join(","),
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StringList {
    #[prost(string, repeated, tag = "1")]
    pub values: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SetSessionOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    pub session_options: HashMap<String, SessionOptionValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    pub errors: HashMap<String, SessionError>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SessionError {
    #[prost(enumeration = "ErrorValue", tag = "1")]
    pub value: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum ErrorValue {
    Unspecified = 0,
    InvalidName = 1,
    InvalidValue = 2,
    Error = 3,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    pub session_options: HashMap<String, SessionOptionValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CloseSessionResult {
    #[prost(enumeration = "CloseStatus", tag = "1")]
    pub status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum CloseStatus {
    Unspecified = 0,
    Closed = 1,
    Closing = 2,
    NotCloseable = 3,
}
