//! A finished result whose executors die before it is read.

use super::windlass;
use arrow_flight::Ticket;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use std::process::Command;
use std::time::Duration;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use windlass_client::{Client, ClientError};

/// More than the reader may take to find out, so that a hang is a failure.
const SOON: Duration = Duration::from_secs(30);
/// About 20 MB, in several parts.
const LARGE: &str = "SELECT value, repeat(md5(value::text), 3) AS wide FROM generate_series(1, 200000) ORDER BY wide";

struct Killable {
    dir: tempfile::TempDir,
    url: String,
    executors: Vec<u64>,
}

impl Killable {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder can be made");
        let at = dir.path().display().to_string();
        let up = ["cluster", "up", "--executors", "2", "--slots", "1", "--memory", "512MiB", "--dir", &at, "--json"];
        let described: serde_json::Value = serde_json::from_slice(&windlass(&up).stdout).expect("it is described");
        let executors = described["executors"].as_array().expect("there are executors");
        let executors = executors.iter().map(|executor| executor["pid"].as_u64().expect("each has a pid")).collect();
        Self { url: described["url"].as_str().expect("there is an address").to_owned(), executors, dir }
    }

    fn kill_executors(&self) {
        for pid in &self.executors {
            let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill runs");
            assert!(killed.success());
        }
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        windlass(&["cluster", "down", "--dir", &self.dir.path().display().to_string()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_told_to_run_the_statement_again() {
    let cluster = Killable::start();
    let session = Client::connect(&cluster.url).await.expect("the cluster answers");
    session.set("windlass.inline_result_bytes", "0").await.expect("the option can be set");
    let result = session.sql(LARGE).await.expect("the statement runs");
    cluster.kill_executors();
    let error = tokio::time::timeout(SOON, result.collect()).await.expect("reading hangs").expect_err("it is gone");
    assert!(matches!(&error, ClientError::ResultLost { .. }), "{error:?}");
    assert!(error.to_string().contains("run the statement again"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_answers_with_data_loss() {
    let cluster = Killable::start();
    let channel: Channel =
        Endpoint::from_shared(cluster.url.replace("grpc://", "http://")).unwrap().connect().await.unwrap();
    let mut sql = FlightSqlServiceClient::new(channel.clone());
    sql.execute_update("SET windlass.inline_result_bytes = 0".into(), None).await.unwrap();
    let info = sql.execute(LARGE.into(), None).await.unwrap();
    let tickets: Vec<Ticket> = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.clone()).collect();
    assert!(info.endpoint.iter().all(|endpoint| !endpoint.location.is_empty()), "it lies on executors: {info:?}");
    cluster.kill_executors();
    for ticket in tickets {
        let mut flight = FlightServiceClient::new(channel.clone());
        let read = async { flight.do_get(ticket).await?.into_inner().try_collect::<Vec<_>>().await };
        let status = tokio::time::timeout(SOON, read).await.expect("reading hangs").expect_err("it is gone");
        assert_eq!(status.code(), Code::DataLoss, "{status}");
        assert!(status.message().contains("run the statement again"), "{status}");
    }
}
