//! Tables STORED AS MYSQL, each test against a MariaDB server of its own.

mod catalog;
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
use crate::oracle::mariadb::{MariaDb, USER};
use std::time::Duration;
use windlass_client::{Client, Session};

/// The sessions of Windlass.
const SESSIONS: &str = "FROM information_schema.PROCESSLIST WHERE USER = 'app'";

fn scripted(server: &MariaDb, script: &str) -> String {
    server.sql(script).unwrap_or_else(|error| panic!("{script}: {error}"))
}

fn location(server: &MariaDb) -> String {
    format!("mysql://{USER}@127.0.0.1:{}/shop", server.port())
}

/// `more`: further options, each after a comma.
fn create(server: &MariaDb, name: &str, table: &str, more: &str) -> String {
    format!(
        "CREATE EXTERNAL TABLE {name} STORED AS MYSQL LOCATION '{}' OPTIONS (table '{table}', split_rows '500'{more})",
        location(server)
    )
}

/// Waits until a query of the server has this answer.
async fn until(server: &MariaDb, query: &str, answer: &str) {
    // The server's lists of transactions are made anew only when nobody has asked for 100 ms.
    crate::asking::until(query, || scripted(server, query), answer, Duration::from_millis(150)).await;
}

fn processes(executors: &str, environment: &[(&str, &str)]) -> Processes {
    Processes::shaped(tempfile::tempdir().expect("a folder can be made"), [executors, "2", "1GiB"], environment)
}
