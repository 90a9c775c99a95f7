//! A finished result whose executors die before it is read.

use crate::cluster::Processes;
use arrow_flight::Ticket;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::{StreamExt, TryStreamExt};
use std::time::Duration;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use windlass_client::{Client, ClientError};

/// Longer than the reader needs to notice, so that a hang is a failure.
const SOON: Duration = Duration::from_secs(30);
/// A result of about 20 MB, in several parts.
const LARGE: &str = "SELECT value, repeat(md5(value::text), 3) AS wide FROM generate_series(1, 200000) ORDER BY wide";

fn start() -> Processes {
    Processes::of(["2", "1", "512MiB"])
}

fn kill_executors(cluster: &Processes) {
    (0..cluster.executors.len()).for_each(|number| cluster.kill_executor(number));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_told_to_run_the_statement_again() {
    let cluster = start();
    let session = Client::connect(&cluster.url).await.expect("the cluster answers");
    session.set("windlass.inline_result_bytes", "0").await.expect("the option can be set");
    let mut result = session.sql(LARGE).await.expect("the statement runs");
    // Rows that were handed out cannot be taken back.
    assert!(result.next().await.expect("there is a first batch").expect("it can be read").num_rows() > 0);
    kill_executors(&cluster);
    let error = tokio::time::timeout(SOON, result.collect()).await.expect("reading hangs").expect_err("it is gone");
    assert!(matches!(&error, ClientError::ResultLost { .. }), "{error:?}");
    assert!(error.to_string().contains("run the statement again"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_row_the_client_runs_the_statement_again_by_itself() {
    let cluster = start();
    let session = Client::connect(&cluster.url).await.expect("the cluster answers");
    session.set("windlass.inline_result_bytes", "0").await.expect("the option can be set");
    let result = session.sql(LARGE).await.expect("the statement runs");
    cluster.kill_executor(0);
    let batches = tokio::time::timeout(SOON, result.collect()).await.expect("reading hangs").expect("it runs again");
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 200_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_answers_with_data_loss() {
    let cluster = start();
    let channel: Channel =
        Endpoint::from_shared(cluster.url.replace("grpc://", "http://")).unwrap().connect().await.unwrap();
    let mut sql = FlightSqlServiceClient::new(channel.clone());
    sql.execute_update("SET windlass.inline_result_bytes = 0".into(), None).await.unwrap();
    let info = sql.execute(LARGE.into(), None).await.unwrap();
    let tickets: Vec<Ticket> = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.clone()).collect();
    assert!(info.endpoint.iter().all(|endpoint| !endpoint.location.is_empty()), "it lies on executors: {info:?}");
    kill_executors(&cluster);
    for ticket in tickets {
        let mut flight = FlightServiceClient::new(channel.clone());
        let read = async { flight.do_get(ticket).await?.into_inner().try_collect::<Vec<_>>().await };
        let status = tokio::time::timeout(SOON, read).await.expect("reading hangs").expect_err("it is gone");
        assert_eq!(status.code(), Code::DataLoss, "{status}");
        assert!(status.message().contains("run the statement again"), "{status}");
    }
}
