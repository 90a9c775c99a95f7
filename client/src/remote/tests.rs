//! The client against a Flight SQL server that answers with canned rows and records its requests.

use super::connection::{QUERY_HEADER, connect};
use super::*;
use crate::backend::Body;
use crate::error::ErrorKind;
use crate::params::{Param, Params};
use arrow::array::{ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::ipc::writer::StreamWriter;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    Command, CommandGetTables, CommandPreparedStatementQuery, CommandStatementQuery, DoPutPreparedStatementResult,
    ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{Action, FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc, Ticket};
use bytes::Bytes;
use futures::TryStreamExt;
use parking_lot::Mutex;
use prost::Message;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataMap;
use tonic::{Request as TonicRequest, Response};
use windlass_proto::v1::PlanStatement;

type Log = Arc<Mutex<Vec<String>>>;

/// A primary or an executor, depending on its name.
#[derive(Clone)]
struct Server {
    name: &'static str,
    log: Log,
    /// Locations of the endpoints of `split`, in order; empty: no location.
    places: Vec<String>,
}

impl Server {
    fn note(&self, what: &str, metadata: &MetadataMap) {
        let header = |key: &str| metadata.get(key).and_then(|v| v.to_str().ok()).unwrap_or("-").to_owned();
        self.log.lock().push(format!(
            "{}: {what} cookie={} query={}",
            self.name,
            header("cookie"),
            header(QUERY_HEADER)
        ));
    }

    fn info(&self, numbers: &[i64]) -> Result<Response<FlightInfo>, Status> {
        let mut info = FlightInfo::new().try_with_schema(&numbers_schema()).unwrap().with_app_metadata("job-000007");
        for (index, number) in numbers.iter().enumerate() {
            let ticket = TicketStatementQuery { statement_handle: number.to_string().into() };
            let mut endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket.as_any().encode_to_vec()));
            if let Some(place) = self.places.get(index).filter(|place| !place.is_empty()) {
                endpoint = endpoint.with_location(place.clone());
            }
            info = info.with_endpoint(endpoint);
        }
        let mut response = Response::new(info);
        response.metadata_mut().insert("set-cookie", "sid=42; Path=/".parse().unwrap());
        Ok(response)
    }
}

fn numbers_schema() -> Schema {
    Schema::new(vec![Field::new("n", DataType::Int64, true)])
}

/// An answer that contains its rows.
fn along(numbers: &[i64]) -> FlightInfo {
    let schema = Arc::new(numbers_schema());
    let column = Arc::new(Int64Array::from(numbers.to_vec()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
    writer.write(&batch.slice(0, 0)).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    let rows = writer.into_inner().unwrap();
    let info = FlightInfo::new().try_with_schema(&schema).unwrap();
    info.with_endpoint(FlightEndpoint::new().with_app_metadata(rows))
}

fn stream_of(batch: RecordBatch) -> Response<<Server as FlightService>::DoGetStream> {
    let messages = FlightDataEncoderBuilder::new()
        .with_schema(batch.schema())
        .build(stream::iter([Ok(batch)]))
        .map_err(|e: FlightError| Status::internal(e.to_string()));
    Response::new(Box::pin(messages))
}

#[tonic::async_trait]
impl FlightSqlService for Server {
    type FlightService = Server;

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: TonicRequest<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.note(&query.query, request.metadata());
        match query.query.as_str() {
            "fail" => Err(Status::invalid_argument("line 1, column 1: no such thing")),
            "nothing" => Ok(Response::new(FlightInfo::new())),
            "hang" => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                self.info(&[])
            }
            "along" => Ok(Response::new(along(&[5, 6]))),
            "mixed" => {
                let mut answer = self.info(&[0, 2])?;
                answer.get_mut().endpoint.insert(1, along(&[5, 6]).endpoint.remove(0));
                Ok(answer)
            }
            _ => self.info(&[0, 1, 2]),
        }
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: TonicRequest<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.note("run prepared", request.metadata());
        let handle = String::from_utf8_lossy(&query.prepared_statement_handle).into_owned();
        self.info(&[handle.strip_prefix("bound ").unwrap().parse().unwrap()])
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: TonicRequest<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.note("tables", request.metadata());
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(query.as_any().encode_to_vec()));
        Ok(Response::new(FlightInfo::new().with_endpoint(endpoint)))
    }

    async fn get_flight_info_fallback(
        &self,
        command: Command,
        request: TonicRequest<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let Command::Unknown(any) = command else { return Err(Status::unimplemented("")) };
        assert_eq!(any.type_url, windlass_proto::PLAN_STATEMENT_TYPE_URL);
        let plan = PlanStatement::decode(any.value).unwrap().logical_plan;
        self.note(&format!("plan of {} bytes", plan.len()), request.metadata());
        self.info(&[9])
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: TonicRequest<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let number: i64 = String::from_utf8_lossy(&ticket.statement_handle).parse().unwrap();
        self.note(&format!("get {number}"), request.metadata());
        let column: ArrayRef = Arc::new(Int64Array::from(vec![number * 10, number * 10 + 1]));
        Ok(stream_of(RecordBatch::try_new(Arc::new(numbers_schema()), vec![column]).unwrap()))
    }

    async fn do_get_tables(
        &self,
        _: CommandGetTables,
        _: TonicRequest<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let text = |values: [&str; 2]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
        let IpcMessage(schema) = SchemaAsIpc::new(&numbers_schema(), &Default::default()).try_into().unwrap();
        let schemas: ArrayRef = Arc::new(BinaryArray::from(vec![schema.as_ref(), schema.as_ref()]));
        Ok(stream_of(
            RecordBatch::try_from_iter([
                ("catalog_name", text(["windlass", "windlass"])),
                ("db_schema_name", text(["public", "public"])),
                ("table_name", text(["a_b", "axb"])),
                ("table_type", text(["BASE TABLE", "VIEW"])),
                ("table_schema", schemas),
            ])
            .unwrap(),
        ))
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: TonicRequest<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        self.note(&format!("prepare {}", query.query), request.metadata());
        let IpcMessage(parameter_schema) = SchemaAsIpc::new(&numbers_schema(), &Default::default()).try_into().unwrap();
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: "unbound".into(),
            dataset_schema: Bytes::new(),
            parameter_schema,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        request: TonicRequest<Action>,
    ) -> Result<(), Status> {
        self.note(&format!("close {}", String::from_utf8_lossy(&query.prepared_statement_handle)), request.metadata());
        Ok(())
    }

    async fn do_put_prepared_statement_query(
        &self,
        _: CommandPreparedStatementQuery,
        request: TonicRequest<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let batches: Vec<RecordBatch> =
            FlightRecordBatchStream::new_from_flight_data(request.into_inner().map_err(FlightError::from))
                .try_collect()
                .await
                .map_err(|e| Status::internal(e.to_string()))?;
        let value = batches[0].column(0).as_primitive::<Int64Type>().value(0);
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(format!("bound {value}").into()) })
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

/// Starts servers that run until the set is dropped.
async fn serve(servers: &mut JoinSet<()>, name: &'static str, log: &Log, places: Vec<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("grpc://{}", listener.local_addr().unwrap());
    let service = FlightServiceServer::new(Server { name, log: log.clone(), places });
    servers.spawn(async move {
        let incoming = TcpListenerStream::new(listener);
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
    });
    url
}

struct Cluster {
    remote: Remote,
    log: Log,
    _servers: JoinSet<()>,
}

/// A primary with three endpoints: on an executor, on an executor that is gone, and on the primary itself.
async fn cluster() -> Cluster {
    let (log, mut servers) = (Log::default(), JoinSet::new());
    let executor = serve(&mut servers, "executor", &log, Vec::new()).await;
    // A port that was free a moment ago.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let places = vec![executor, format!("grpc://{gone}"), String::new()];
    let url = serve(&mut servers, "primary", &log, places).await;
    let channel = connect(&url, connection::CONNECT_TIMEOUT).await.unwrap();
    Cluster { remote: Remote::over(channel, url, None), log, _servers: servers }
}

fn sql(text: &str) -> Request {
    Request {
        query: "q-1".to_owned(),
        body: Body::Sql(text.to_owned()),
        params: Params::default(),
        delivery: Delivery::Once,
    }
}

async fn numbers(answer: Answer) -> Vec<i64> {
    let batches: Vec<RecordBatch> = answer.batches.try_collect().await.unwrap();
    batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[tokio::test]
async fn endpoints_are_read_in_order_and_the_primary_stands_in_for_an_executor_out_of_reach() {
    let cluster = cluster().await;
    let answer = cluster.remote.execute(sql("split")).await.unwrap();
    assert_eq!((answer.job, answer.schema.fields().len()), (Some("job-000007".parse().unwrap()), 1));
    assert_eq!(numbers(answer).await, [0, 1, 10, 11, 20, 21]);
    let log = cluster.log.lock().clone();
    assert_eq!(
        log,
        [
            "primary: split cookie=- query=q-1",
            "executor: get 0 cookie=sid=42 query=-",
            "primary: get 1 cookie=sid=42 query=-",
            "primary: get 2 cookie=sid=42 query=-",
        ]
    );
    // The second time, the lost executor is not tried, and the cookie names the session from the start.
    assert_eq!(numbers(cluster.remote.execute(sql("split")).await.unwrap()).await.len(), 6);
    assert_eq!(cluster.log.lock()[4], "primary: split cookie=sid=42 query=q-1");
}

#[tokio::test]
async fn rows_that_come_with_an_answer_are_not_asked_for() {
    let cluster = cluster().await;
    assert_eq!(numbers(cluster.remote.execute(sql("along")).await.unwrap()).await, [5, 6]);
    assert_eq!(cluster.log.lock().len(), 1);
    // Results for several rows of parameters may mix rows inside and outside of endpoints.
    assert_eq!(numbers(cluster.remote.execute(sql("mixed")).await.unwrap()).await, [0, 1, 5, 6, 20, 21]);
}

#[tokio::test]
async fn parameters_are_bound_by_a_prepared_statement_that_is_closed_again() {
    let cluster = cluster().await;
    let mut request = sql("select $n");
    request.params.set("n", Param::Text("7".to_owned()));
    assert_eq!(numbers(cluster.remote.execute(request).await.unwrap()).await, [70, 71]);
    let log = cluster.log.lock().clone();
    assert!(log[0].starts_with("primary: prepare select $n"), "{log:?}");
    assert!(log.iter().any(|line| line.starts_with("primary: run prepared") && line.ends_with("query=q-1")), "{log:?}");
    assert!(log.iter().any(|line| line.starts_with("primary: close bound 7")), "{log:?}");
}

#[tokio::test]
async fn a_missing_parameter_is_told_before_the_statement_runs() {
    let cluster = cluster().await;
    let mut request = sql("select $n");
    request.params.set("other", 1_i64);
    let error = cluster.remote.execute(request).await.err().unwrap().to_string();
    assert!(error.contains("placeholder $n has no value"), "{error}");
    assert!(!cluster.log.lock().iter().any(|line| line.contains("run prepared")));
}

#[tokio::test]
async fn a_plan_travels_as_a_command_of_its_own() {
    let cluster = cluster().await;
    let request = Request { body: Body::Plan(Bytes::from_static(b"plan")), ..sql("") };
    // The only endpoint lies on the executor.
    assert_eq!(numbers(cluster.remote.execute(request).await.unwrap()).await, [90, 91]);
    assert_eq!(cluster.log.lock()[0], "primary: plan of 4 bytes cookie=- query=q-1");
}

#[tokio::test]
async fn errors_and_empty_answers_come_through() {
    let cluster = cluster().await;
    let error = cluster.remote.execute(sql("fail")).await.err().unwrap();
    assert!(
        matches!(&error, ClientError::Statement { kind: ErrorKind::Invalid, message } if message == "line 1, column 1: no such thing"),
        "{error}"
    );
    let answer = cluster.remote.execute(sql("nothing")).await.unwrap();
    assert!(answer.schema.fields().is_empty() && answer.job.is_none());
    assert_eq!(answer.batches.count().await, 0);
}

#[tokio::test]
async fn a_server_that_goes_away_is_a_broken_connection_and_not_a_wrong_statement() {
    // In a separate runtime, whose end also closes the connections.
    let elsewhere = tokio::runtime::Runtime::new().unwrap();
    let started = elsewhere.spawn(async {
        let mut servers = JoinSet::new();
        (serve(&mut servers, "primary", &Log::default(), Vec::new()).await, servers)
    });
    let (url, _servers) = started.await.unwrap();
    let remote = Remote::over(connect(&url, connection::CONNECT_TIMEOUT).await.unwrap(), url, None);
    let ends = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        elsewhere.shutdown_background();
    };
    let (answer, ()) = tokio::join!(remote.execute(sql("hang")), ends);
    let error = answer.err().unwrap();
    assert!(matches!(error, ClientError::Disconnected { .. }), "{error:?}");
}

#[tokio::test]
async fn tables_are_listed_with_their_columns_and_names_are_no_patterns() {
    let cluster = cluster().await;
    let filter = TableFilter { name: Some("a_b".to_owned()), with_columns: true, ..TableFilter::default() };
    let tables = cluster.remote.tables(&filter).await.unwrap();
    assert_eq!(tables.len(), 1);
    assert_eq!((tables[0].name.as_str(), tables[0].kind.as_str()), ("a_b", "BASE TABLE"));
    assert_eq!(tables[0].columns.as_deref(), Some(&numbers_schema()));
}
