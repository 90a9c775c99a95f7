//! Tables STORED AS REDSHIFT, each test against a server of its own that stands in for it ([`server`] says as far as what).

mod api;
mod copy;
mod faults;
mod load;
mod server;

use crate::asking::{SECRET, STAGES, done, embedded, refused, sql};
use server::{BUCKET_SECRET, ROLE, Server, reached};
use std::time::Duration;

/// What is left of writes that have ended: staging tables, and loads that go on.
const LEFT: &str = "SELECT (SELECT count(*) FROM pg_class WHERE relname LIKE 'windlass\\_%' AND relname <> 'windlass_loads'), \
    (SELECT count(*) FROM windlass_loads WHERE state <> 'loaded')";

fn location(server: &Server) -> String {
    format!("redshift://postgres@127.0.0.1:{}/postgres", server.port)
}

/// `more`: further options, each after a comma.
fn options(server: &Server, table: &str, more: &str) -> String {
    let role = if more.contains("iam_role") { String::new() } else { format!(", iam_role '{ROLE}'") };
    format!(
        "OPTIONS (table '{table}', staging 's3://lake/staging/', password '{SECRET}', aws_endpoint '{}', aws_allow_http 'true', \
         aws_region 'us-east-1', aws_access_key_id 'key', aws_secret_access_key '{BUCKET_SECRET}'{role}{more})",
        server.shared.s3
    )
}

/// The same over the Data API.
fn over_api(server: &Server) -> String {
    format!(
        ", via 'data-api', cluster_identifier '{}', region 'us-east-1', endpoint 'http://127.0.0.1:{}', access_key_id 'key', \
         secret_access_key '{SECRET}'",
        api::CLUSTER,
        server.api
    )
}

fn create(server: &Server, name: &str, table: &str, more: &str) -> String {
    let options = options(server, table, more);
    format!("CREATE EXTERNAL TABLE {name} STORED AS REDSHIFT LOCATION '{}' {options}", location(server))
}

fn copy(server: &Server, query: &str, table: &str, more: &str) -> String {
    format!("COPY ({query}) TO '{}' STORED AS REDSHIFT {}", location(server), options(server, table, more))
}

/// Waits until nothing is left of writes.
async fn until_nothing_is_left(server: &Server) {
    let left = || {
        let made = "SELECT count(*) FROM pg_class WHERE relname = 'windlass_loads'";
        let tables = if server.scripted(made) == "0" { "0|0".to_owned() } else { server.scripted(LEFT) };
        format!("{tables} {}", server.staged())
    };
    crate::asking::until("what is left", left, "0|0 0", Duration::from_millis(50)).await;
}

/// Expects that nothing is left of writes now.
fn nothing_is_left(server: &Server, after: &str) {
    assert_eq!(server.staged(), "0", "{after}");
    assert_eq!(server.scripted(LEFT), "0|0", "{after}");
}
