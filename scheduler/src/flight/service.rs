//! Commands of Flight SQL.

use super::caller::{delivery_of, query_of, takes_rows};
use super::results::{encode, encode_batch, info_of, ipc_schema, parse_handle};
use super::{command_of, ingest, internal, metadata, rows};
use crate::errors::QueryError;
use crate::services::Services;
use crate::services::runs::{Ask, Attached};
use crate::services::sessions::{PreparedHandle, Session};
use crate::statements::sessions::Connection;
use crate::statements::{Delivery, Info, Parameters, no_transactions};
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionBeginSavepointRequest, ActionBeginSavepointResult, ActionBeginTransactionRequest,
    ActionBeginTransactionResult, ActionCancelQueryRequest, ActionCancelQueryResult,
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    ActionEndSavepointRequest, ActionEndTransactionRequest, Command, CommandGetCatalogs, CommandGetCrossReference,
    CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo,
    CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo, CommandPreparedStatementQuery,
    CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery, CommandStatementUpdate,
    DoPutPreparedStatementResult, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{Action, ActionType, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, Ticket};
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use futures::{Stream, StreamExt};
use prost::Message;
use std::pin::Pin;
use std::sync::Arc;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};
use windlass_proto::door::{basic, principal_of};
use windlass_proto::{PLAN_STATEMENT_TYPE_URL, v1};

pub(super) struct SqlService {
    pub(super) services: Services,
}

impl SqlService {
    /// Returns the columns of the result that a descriptor describes.
    pub(super) async fn schema_of(&self, request: &Request<FlightDescriptor>) -> Result<SchemaRef, Status> {
        let (by, session) = (principal_of(request), session_of(request)?);
        match command_of(request.get_ref())? {
            Command::CommandStatementQuery(query) => {
                Ok(self.services.sessions.describe(&by, &session, &query.query).await?.schema)
            }
            Command::CommandPreparedStatementQuery(query) => {
                Ok(Arc::clone(&prepared(&session, &query.prepared_statement_handle)?.described.schema))
            }
            command => metadata::schema(&command)
                .ok_or_else(|| Status::unimplemented(format!("GetSchema of {} is not supported", command.type_url()))),
        }
    }

    /// Starts the statement of a request.
    fn start<T>(&self, request: &Request<T>, ask: Ask, info: Info) -> Result<Attached, Status> {
        let connection = request.extensions().get::<Connection>().map(|connection| connection.id);
        Ok(self.services.runs.attach(&principal_of(request), &session_of(request)?, ask, info, connection))
    }

    /// Runs an update to its end. Returns the rows that it wrote, or -1 if that is not known.
    async fn update<T>(&self, request: &Request<T>, ask: Ask, info: Info) -> Result<i64, Status> {
        let execution = self.start(request, ask, info)?.ended().await?;
        Ok(execution.affected.map_or(-1, |rows| rows as i64))
    }
}

fn prepared(session: &Arc<Session>, handle: &[u8]) -> Result<Arc<PreparedHandle>, QueryError> {
    session.handle(&String::from_utf8_lossy(handle))
}

/// Returns the information in a request about its statement.
fn statement_info(metadata: &MetadataMap) -> Info {
    Info { query: query_of(metadata), delivery: delivery_of(metadata), ..Info::default() }
}

/// Returns the session that the face has found.
pub(super) fn session_of<T>(request: &Request<T>) -> Result<Arc<Session>, Status> {
    request.extensions().get::<Arc<Session>>().cloned().ok_or_else(|| internal("a request without a session"))
}

#[tonic::async_trait]
impl FlightSqlService for SqlService {
    type FlightService = SqlService;

    /// Gives a token to any user with any password, because there is no user database.
    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>>, Status> {
        if let Some(authorization) = request.metadata().get("authorization") {
            let text = authorization.to_str().map_err(|_| Status::unauthenticated("the credentials are not text"))?;
            let (_, credentials) = text.split_once(' ').unwrap_or_default();
            basic(credentials).map_err(|error| Status::unauthenticated(error.to_string()))?;
        }
        let token = self.services.sessions.issue_token();
        let answer = HandshakeResponse { protocol_version: 0, payload: token.clone().into() };
        let stream: Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(futures::stream::iter([Ok(answer)]));
        let mut response = Response::new(stream);
        // A token consists of hexadecimal digits.
        if let Ok(value) = format!("Bearer {token}").parse() {
            response.metadata_mut().insert("authorization", value);
        }
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        refuse_transaction(query.transaction_id.as_ref())?;
        let run = self.start(&request, Ask::sql(query.query), statement_info(request.metadata()))?;
        let (by, along) = (principal_of(&request), takes_rows(request.metadata()));
        Ok(Response::new(self.flight_info(&by, run, request.into_inner(), along).await?))
    }

    async fn get_flight_info_fallback(
        &self,
        command: Command,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let plan = match command {
            Command::Unknown(any) if any.type_url == PLAN_STATEMENT_TYPE_URL => any.value,
            other => return Err(Status::unimplemented(format!("the command {} is not supported", other.type_url()))),
        };
        let plan =
            v1::PlanStatement::decode(plan).map_err(|error| Status::invalid_argument(format!("a plan: {error}")))?;
        let run = self.start(&request, Ask::Plan(plan.logical_plan), statement_info(request.metadata()))?;
        let (by, along) = (principal_of(&request), takes_rows(request.metadata()));
        Ok(Response::new(self.flight_info(&by, run, request.into_inner(), along).await?))
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let statement = prepared(&session_of(&request)?, &query.prepared_statement_handle)?;
        let mut named = statement_info(request.metadata());
        let rows = statement.parameters()?;
        if rows.len() > 1 {
            // Several statements under one name have no common outcome.
            named.delivery = Delivery::Once;
        }
        let ask = |parameters: Option<Parameters>| Ask::Sql { text: statement.sql.clone(), parameters };
        let (by, along) = (principal_of(&request), takes_rows(request.metadata()));
        let mut rows = rows.into_iter();
        let run = self.start(&request, ask(rows.next()), named.clone())?;
        let mut info = self.flight_info(&by, run, request.get_ref().clone(), along).await?;
        // Results are computed one after the other. A failure releases the results before it.
        for row in rows {
            let run = self.start(&request, ask(Some(row)), named.clone())?;
            match self.flight_info(&by, run, FlightDescriptor::default(), along).await {
                Ok(next) => {
                    info.total_records += next.total_records;
                    info.total_bytes += next.total_bytes;
                    info.endpoint.extend(next.endpoint);
                }
                Err(error) => {
                    self.cancel(&by, &info);
                    return Err(error);
                }
            }
        }
        Ok(Response::new(info))
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let (id, part) = parse_handle(&ticket.statement_handle)?;
        let (rows, mut reading) = self.services.runs.read(&principal_of(&request), &id, part)?;
        // The stream ends after its last message, which shows that the client has taken everything.
        let end = futures::stream::once(async move {
            reading.done();
            drop(reading);
            None
        });
        let messages = encode(rows).map(Some).chain(end).filter_map(futures::future::ready);
        Ok(Response::new(messages.boxed()))
    }

    async fn do_put_statement_update(
        &self,
        query: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        refuse_transaction(query.transaction_id.as_ref())?;
        self.update(&request, Ask::sql(query.query), statement_info(request.metadata())).await
    }

    async fn do_put_statement_ingest(
        &self,
        command: CommandStatementIngest,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        refuse_transaction(command.transaction_id.as_ref())?;
        let (by, session) = (principal_of(&request), session_of(&request)?);
        let name = format!("load {}", command.table);
        let info = Info { name, query: query_of(request.metadata()), ..Info::default() };
        let incoming = rows::incoming(request.into_inner()).await?;
        Ok(self.services.loads.load(&by, session, ingest::target(command), info, incoming).await? as i64)
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        refuse_transaction(query.transaction_id.as_ref())?;
        let (by, session) = (principal_of(&request), session_of(&request)?);
        let (handle, prepared) = self.services.sessions.prepare(&by, &session, &query.query).await?;
        let described = &prepared.described;
        let dataset_schema = match described.is_update {
            // Drivers take a statement with columns for a query.
            true => Bytes::new(),
            false => ipc_schema(&described.schema)?,
        };
        let parameter_schema = ipc_schema(&Schema::new(described.parameters.clone()))?;
        let prepared_statement_handle = handle.into();
        Ok(ActionCreatePreparedStatementResult { prepared_statement_handle, dataset_schema, parameter_schema })
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        session_of(&request)?.close_handle(&String::from_utf8_lossy(&query.prepared_statement_handle));
        Ok(())
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let statement = prepared(&session_of(&request)?, &query.prepared_statement_handle)?;
        statement.bind(rows::batches(request.into_inner()).await?);
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(query.prepared_statement_handle) })
    }

    async fn do_put_prepared_statement_update(
        &self,
        query: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let (metadata, extensions, stream) = request.into_parts();
        let request = Request::from_parts(metadata, extensions, ());
        let info = Info { query: query_of(request.metadata()), ..Info::default() };
        let statement = prepared(&session_of(&request)?, &query.prepared_statement_handle)?;
        let sent = rows::batches(stream).await?;
        let rows = match sent.iter().all(|batch| batch.num_rows() == 0) {
            true => statement.parameters()?,
            false => statement.described.rows(&sent)?,
        };
        let text = statement.sql.clone();
        let ask = if rows.is_empty() { Ask::sql(text) } else { Ask::Many { text, rows } };
        self.update(&request, ask, info).await
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info_of(query, query.into_builder().schema().as_ref(), request.into_inner())
    }

    async fn do_get_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        Ok(encode_batch(metadata::catalogs(self.services.catalog.catalogs(&principal_of(&request)), query)?))
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = query.clone().into_builder().schema();
        info_of(query, schema.as_ref(), request.into_inner())
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let schemas = self.services.catalog.schemas(&principal_of(&request)).await;
        Ok(encode_batch(metadata::schemas(schemas, query)?))
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = query.clone().into_builder().schema();
        info_of(query, schema.as_ref(), request.into_inner())
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let (by, session) = (principal_of(&request), session_of(&request)?);
        let within = query.catalog.clone();
        let tables = self.services.catalog.tables(&by, &session, within, query.include_schema).await?;
        Ok(encode_batch(metadata::tables(tables, query)?))
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info_of(query, query.into_builder().schema().as_ref(), request.into_inner())
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        _: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        Ok(encode_batch(metadata::table_types(query)?))
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = query.clone().into_builder(metadata::sql_info()).schema();
        info_of(query, schema.as_ref(), request.into_inner())
    }

    async fn do_get_sql_info(
        &self,
        query: CommandGetSqlInfo,
        _: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        Ok(encode_batch(query.into_builder(metadata::sql_info()).build().map_err(internal)?))
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = query.into_builder(metadata::xdbc_types()).schema();
        info_of(query, schema.as_ref(), request.into_inner())
    }

    async fn do_get_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        _: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        Ok(encode_batch(query.into_builder(metadata::xdbc_types()).build().map_err(internal)?))
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info_of(query, &metadata::primary_keys(), request.into_inner())
    }

    async fn do_get_primary_keys(
        &self,
        _: CommandGetPrimaryKeys,
        _: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        Ok(encode_batch(RecordBatch::new_empty(Arc::new(metadata::primary_keys()))))
    }

    async fn get_flight_info_exported_keys(
        &self,
        query: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info_of(query, &metadata::foreign_keys(), request.into_inner())
    }

    async fn do_get_exported_keys(
        &self,
        _: CommandGetExportedKeys,
        _: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        Ok(encode_batch(RecordBatch::new_empty(Arc::new(metadata::foreign_keys()))))
    }

    async fn get_flight_info_imported_keys(
        &self,
        query: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info_of(query, &metadata::foreign_keys(), request.into_inner())
    }

    async fn do_get_imported_keys(
        &self,
        _: CommandGetImportedKeys,
        _: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        Ok(encode_batch(RecordBatch::new_empty(Arc::new(metadata::foreign_keys()))))
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info_of(query, &metadata::foreign_keys(), request.into_inner())
    }

    async fn do_get_cross_reference(
        &self,
        _: CommandGetCrossReference,
        _: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        Ok(encode_batch(RecordBatch::new_empty(Arc::new(metadata::foreign_keys()))))
    }

    async fn do_action_begin_transaction(
        &self,
        _: ActionBeginTransactionRequest,
        _: Request<Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        Err(no_transactions().into())
    }

    async fn do_action_end_transaction(
        &self,
        _: ActionEndTransactionRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        Err(no_transactions().into())
    }

    async fn do_action_begin_savepoint(
        &self,
        _: ActionBeginSavepointRequest,
        _: Request<Action>,
    ) -> Result<ActionBeginSavepointResult, Status> {
        Err(no_transactions().into())
    }

    async fn do_action_end_savepoint(&self, _: ActionEndSavepointRequest, _: Request<Action>) -> Result<(), Status> {
        Err(no_transactions().into())
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        let info = FlightInfo::decode(query.info).map_err(|e| Status::invalid_argument(e.to_string()))?;
        Ok(ActionCancelQueryResult { result: self.cancel(&principal_of(&request), &info) })
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Result<Response<<Self as FlightService>::DoActionStream>, Status> {
        self.other_action(request).await
    }

    async fn list_custom_actions(&self) -> Option<Vec<Result<ActionType, Status>>> {
        Some(Self::other_actions().map(Ok).collect())
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

fn refuse_transaction(transaction: Option<&Bytes>) -> Result<(), Status> {
    match transaction {
        Some(id) if !id.is_empty() => Err(no_transactions().into()),
        _ => Ok(()),
    }
}
