//! Tables STORED AS POSTGRES, each test against a server of its own.

mod catalog;
mod create;
mod load;
mod login;
mod pushdown;
mod query;
mod read;
mod write;

use crate::cluster::Processes;
use crate::oracle::postgres::Postgres;
use windlass_client::{Client, EmbeddedOptions, Session};

/// Statements are cut into stages, however little they read.
const STAGES: &str = "SET windlass.small_query_bytes = 0";
/// A password, which is to be seen nowhere.
const SECRET: &str = "marked-secret-4711";

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

async fn embedded() -> Session {
    let connectors = windlass_client::connectors().expect("their names differ");
    let options = EmbeddedOptions { slots: Some(4), connectors, ..EmbeddedOptions::default() };
    Client::embedded(options).await.expect("an embedded cluster starts")
}

async fn sql(session: &Session, sql: &str) -> Result<String, String> {
    let result = session.sql(sql).await.map_err(|error| error.to_string())?;
    let batches = result.collect().await.map_err(|error| error.to_string())?;
    Ok(arrow::util::pretty::pretty_format_batches(&batches).map_err(|error| error.to_string())?.to_string())
}

/// The rows, a line each, with a `|` between columns, as `psql` prints them.
async fn rows(session: &Session, query: &str) -> Result<String, String> {
    let table = sql(session, query).await?;
    // Behind the names, which may have several lines, and before the last line.
    let rows = table
        .lines()
        .skip(1)
        .skip_while(|line| !line.starts_with('+'))
        .skip(1)
        .take_while(|line| !line.starts_with('+'));
    let row = |line: &str| {
        let cells = line.trim_matches('|').split('|').map(str::trim);
        cells.collect::<Vec<_>>().join("|")
    };
    Ok(rows.map(row).collect::<Vec<_>>().join("\n"))
}

async fn done(session: &Session, statements: &[&str]) {
    for statement in statements {
        sql(session, statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

async fn answers(session: &Session, query: &str) -> String {
    rows(session, query).await.unwrap_or_else(|error| panic!("{query}: {error}"))
}

async fn refused(session: &Session, statement: &str, words: &[&str]) {
    let error = sql(session, statement).await.expect_err(statement);
    for word in words {
        assert!(error.contains(word), "{word:?} is missing in: {error}");
    }
    assert!(!error.contains(SECRET), "{error}");
}

/// Waits until a query of the server has this answer.
async fn until(server: &Postgres, query: &str, answer: &str) {
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let found = scripted(server, query);
        if found == answer {
            return;
        }
        assert!(std::time::Instant::now() < patience, "{query}: {found}, and not {answer}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

fn processes(executors: &str, environment: &[(&str, &str)]) -> Processes {
    Processes::shaped(tempfile::tempdir().expect("a folder can be made"), [executors, "2", "1GiB"], environment)
}
