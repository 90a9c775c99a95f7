//! Tables STORED AS POSTGRES, each test against a server of its own.

mod catalog;
mod create;
mod fragments;
mod load;
mod login;
mod pushdown;
mod query;
mod read;
mod rejects;
mod write;

use crate::asking::{SECRET, STAGES, answers, done, embedded, loaded_once, refused, rows, sql};
use crate::cluster::Processes;
use crate::oracle::postgres::Postgres;
use std::time::Duration;
use windlass_client::{Client, Session};

fn scripted(server: &Postgres, script: &str) -> String {
    server.psql(script).unwrap_or_else(|error| panic!("{script}: {error}"))
}

fn location(server: &Postgres) -> String {
    format!("postgresql://postgres@127.0.0.1:{}/postgres", server.port())
}

/// `more`: further options, each after a comma.
fn create(server: &Postgres, name: &str, table: &str, more: &str) -> String {
    format!(
        "CREATE EXTERNAL TABLE {name} STORED AS POSTGRES LOCATION '{}' OPTIONS (table '{table}', split_bytes '8192'{more})",
        location(server)
    )
}

/// Waits until a query of the server has this answer.
async fn until(server: &Postgres, query: &str, answer: &str) {
    crate::asking::until(query, || scripted(server, query), answer, Duration::from_millis(10)).await;
}

fn processes(executors: &str, environment: &[(&str, &str)]) -> Processes {
    Processes::shaped(tempfile::tempdir().expect("a folder can be made"), [executors, "2", "1GiB"], environment)
}
