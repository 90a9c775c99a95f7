//! Flight SQL commands without a network, on a primary whose jobs run in this process.

use super::service::SqlService;
use crate::statements::tests::Bench;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::sql::server::FlightSqlService;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, Any, Command, CommandPreparedStatementQuery, CommandStatementIngest,
    CommandStatementQuery, TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, FlightInfo, Ticket};
use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::Int64Type;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use std::sync::Arc;
use tonic::{Code, Request, Status};
use windlass_core::access::Principal;

fn service(bench: &Bench) -> SqlService {
    SqlService { services: bench.services() }
}

fn in_session<T>(bench: &Bench, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Arc::clone(&bench.session));
    request
}

fn batch(numbers: &[i64]) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from(numbers.to_vec()));
    RecordBatch::try_from_iter([("n", column)]).unwrap()
}

fn sent(batches: Vec<RecordBatch>) -> impl futures::Stream<Item = Result<FlightData, Status>> + Send + 'static {
    let batches = futures::stream::iter(batches.into_iter().map(Ok::<_, FlightError>));
    FlightDataEncoderBuilder::new().build(batches).map_err(Status::from)
}

async fn prepare(service: &SqlService, bench: &Bench, sql: &str) -> CommandPreparedStatementQuery {
    let request = ActionCreatePreparedStatementRequest { query: sql.into(), transaction_id: None };
    let made = service.do_action_create_prepared_statement(request, in_session(bench, Action::default())).await;
    CommandPreparedStatementQuery { prepared_statement_handle: made.unwrap().prepared_statement_handle }
}

fn bind(bench: &Bench, query: &CommandPreparedStatementQuery, numbers: &[i64]) {
    let handle = bench.session.handle(std::str::from_utf8(&query.prepared_statement_handle).unwrap()).unwrap();
    handle.bind(vec![batch(numbers)]);
}

/// Returns the numbers of all endpoints, in order.
async fn numbers(service: &SqlService, bench: &Bench, info: FlightInfo) -> Vec<i64> {
    let mut all = Vec::new();
    for endpoint in info.endpoint {
        let any = Any::decode(endpoint.ticket.unwrap().ticket.as_ref()).unwrap();
        let Ok(Command::TicketStatementQuery(ticket)) = Command::try_from(any) else { panic!("not a ticket") };
        let rows = service.do_get_statement(ticket, in_session(bench, Ticket::default())).await.unwrap().into_inner();
        let rows = FlightRecordBatchStream::new_from_flight_data(rows.map_err(FlightError::from).boxed());
        let batches: Vec<RecordBatch> = rows.try_collect().await.unwrap();
        all.extend(batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()));
    }
    all
}

#[tokio::test]
async fn a_query_runs_once_for_each_row_that_is_bound_in_their_order() {
    let bench = Bench::new().await;
    let service = service(&bench);
    let query = prepare(&service, &bench, "SELECT v FROM (VALUES (1), (2), (3)) t(v) WHERE v >= $1 ORDER BY v").await;
    bind(&bench, &query, &[3, 1, 9, 2]);
    let descriptor = in_session(&bench, FlightDescriptor::default());
    let info = service.get_flight_info_prepared_statement(query, descriptor).await.unwrap().into_inner();
    assert_eq!((info.total_records, info.ordered), (6, true));
    assert_eq!(numbers(&service, &bench, info).await, [3, 1, 2, 3, 2, 3]);
    assert!(service.services.runs.results() == 0, "all of it was read");
}

#[tokio::test]
async fn when_one_of_the_rows_fails_nothing_is_kept() {
    let bench = Bench::new().await;
    let service = service(&bench);
    let query = prepare(&service, &bench, "SELECT 10 / v FROM (VALUES ($1::bigint)) t(v)").await;
    bind(&bench, &query, &[5, 0]);
    let descriptor = in_session(&bench, FlightDescriptor::default());
    let error = service.get_flight_info_prepared_statement(query, descriptor).await.unwrap_err();
    assert!(error.message().to_lowercase().contains("divide by zero"), "{error}");
    assert!(service.services.runs.results() == 0);
}

#[tokio::test]
async fn rows_of_a_small_result_go_along_with_the_answer_to_whoever_takes_them() {
    let bench = Bench::new().await;
    let service = service(&bench);
    let ask = async |sql: &str, takes: bool| {
        let mut request = in_session(&bench, FlightDescriptor::default());
        if takes {
            request.metadata_mut().insert(windlass_proto::ROWS_HEADER, "along".parse().unwrap());
        }
        let query = CommandStatementQuery { query: sql.into(), transaction_id: None };
        service.get_flight_info_statement(query, request).await.unwrap().into_inner()
    };
    let sql = "select v from (values (2), (1)) t(v) order by v";
    let info = ask(sql, true).await;
    assert_eq!((info.endpoint.len(), info.total_records, info.app_metadata.as_ref()), (1, 2, b"job-000001".as_slice()));
    assert_eq!(info.endpoint[0].ticket, None);
    let rows = windlass_engine::decode_batches(&info.endpoint[0].app_metadata).unwrap();
    assert_eq!(rows[0].column(0).as_primitive::<Int64Type>().values(), &[1, 2]);
    assert!(ask("set datafusion.execution.batch_size = 100", true).await.endpoint.is_empty());
    assert!(service.services.runs.results() == 0, "nothing is left to be read");

    assert_eq!(numbers(&service, &bench, ask(sql, false).await).await, [1, 2]);
    // Clients read the executors' parts from the executors.
    *bench.runner.inline.lock() = Some(0);
    assert_eq!(numbers(&service, &bench, ask(sql, true).await).await, [1, 2]);
}

fn into(table: &str, exists: TableExistsOption, not_exist: TableNotExistOption) -> CommandStatementIngest {
    CommandStatementIngest {
        table: table.into(),
        table_definition_options: Some(TableDefinitionOptions {
            if_exists: exists.into(),
            if_not_exist: not_exist.into(),
        }),
        ..CommandStatementIngest::default()
    }
}

async fn ingest(
    bench: &Bench,
    command: CommandStatementIngest,
    stream: impl futures::Stream<Item = Result<FlightData, Status>> + Send + 'static,
) -> Result<u64, Status> {
    let incoming = super::rows::incoming(stream).await?;
    let (by, session, target) = (Principal::anonymous(), Arc::clone(&bench.session), super::ingest::target(command));
    Ok(bench.services().loads.load(&by, session, target, Default::default(), incoming).await?)
}

/// Counts folders of loads that are in progress or were left behind.
fn left(bench: &Bench) -> usize {
    let entries = std::fs::read_dir(bench.path("warehouse")).into_iter().flatten();
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("ingest-")).count()
}

#[tokio::test]
async fn batches_become_a_table_are_added_to_it_and_replace_it() {
    use {TableExistsOption as Exists, TableNotExistOption as Not};
    let bench = Bench::new().await;
    let sum = "SELECT count(*), sum(n) FROM \"New \"\"Table\"";
    let create = || into("New \"Table", Exists::Fail, Not::Create);
    assert_eq!(ingest(&bench, create(), sent(vec![batch(&[1, 2]), batch(&[3])])).await.unwrap(), 3);
    assert_eq!(bench.in_session(&bench.session, sum).await.unwrap(), "3 6");
    assert_eq!(ingest(&bench, create(), sent(vec![batch(&[1])])).await.unwrap_err().code(), Code::AlreadyExists);

    let append = into("New \"Table", Exists::Append, Not::Fail);
    assert_eq!(ingest(&bench, append, sent(vec![batch(&[10])])).await.unwrap(), 1);
    assert_eq!(bench.in_session(&bench.session, sum).await.unwrap(), "4 16");
    let replace = into("New \"Table", Exists::Replace, Not::Create);
    assert_eq!(ingest(&bench, replace, sent(vec![batch(&[7])])).await.unwrap(), 1);
    assert_eq!(bench.in_session(&bench.session, sum).await.unwrap(), "1 7");
    assert_eq!((left(&bench), bench.session.temporary().names().len()), (0, 0));
}

#[tokio::test]
async fn a_temporary_table_is_the_sessions() {
    let bench = Bench::new().await;
    let create = into("mine", TableExistsOption::Fail, TableNotExistOption::Create);
    ingest(&bench, CommandStatementIngest { temporary: true, ..create }, sent(vec![batch(&[4])])).await.unwrap();
    assert_eq!(bench.session.temporary().names(), ["mine"]);
    assert_eq!(bench.in_session(&bench.session, "SELECT n FROM mine").await.unwrap(), "4");
}

#[tokio::test]
async fn a_load_that_breaks_off_or_does_not_fit_leaves_nothing() {
    use {TableExistsOption as Exists, TableNotExistOption as Not};
    let bench = Bench::new().await;
    let broken =
        sent(vec![batch(&[1]), batch(&[2])]).take(2).chain(futures::stream::iter([Err(Status::aborted("gone"))]));
    let error = ingest(&bench, into("t", Exists::Fail, Not::Create), broken).await.unwrap_err();
    assert!(error.message().contains("gone"), "{error}");
    assert!(bench.in_session(&bench.session, "SELECT * FROM t").await.is_err());

    ingest(&bench, into("t", Exists::Fail, Not::Create), sent(vec![batch(&[1])])).await.unwrap();
    let column: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let other = RecordBatch::try_from_iter([("other", column)]).unwrap();
    let error = ingest(&bench, into("t", Exists::Append, Not::Fail), sent(vec![other])).await.unwrap_err();
    assert!(error.message().contains("other"), "{error}");
    assert_eq!(bench.in_session(&bench.session, "SELECT count(*) FROM t").await.unwrap(), "1");
    assert_eq!((left(&bench), bench.session.temporary().names().len()), (0, 0));
}
