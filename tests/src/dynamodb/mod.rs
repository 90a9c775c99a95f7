//! Tables STORED AS DYNAMODB. Each test has a server of its own: dynalite, which is as strict as DynamoDB and has faults on demand, or moto, which has
//! transactions and the service that lends roles.

mod login;
mod pushdown;
mod read;
mod server;
mod write;

use serde_json::{Value, json};
use server::Server;
use windlass_client::{Client, EmbeddedOptions, Session};

/// Statements are cut into stages, however little they read.
const STAGES: &str = "SET windlass.small_query_bytes = 0";
/// A secret, which is to be seen nowhere.
const SECRET: &str = "marked-secret-4711";
const TOKEN: &str = "marked-token-4711";

/// `columns`: empty, or in parentheses. `more`: further options, each after a comma.
fn create(server: &Server, name: &str, columns: &str, more: &str) -> String {
    create_of(server, name, name, columns, more)
}

fn create_of(server: &Server, name: &str, table: &str, columns: &str, more: &str) -> String {
    format!(
        "CREATE EXTERNAL TABLE {name} {columns} STORED AS DYNAMODB LOCATION 'dynamodb://eu-central-1/{table}' \
         OPTIONS (endpoint '{}', access_key_id 'key', secret_access_key '{SECRET}'{more})",
        server.url()
    )
}

/// A table of the server, paid by the request. `keys`: `id:S at:N`, the partition key and the sort key.
fn keyed(table: &str, keys: &str) -> Value {
    let keys: Vec<(&str, &str)> = keys.split(' ').filter_map(|key| key.split_once(':')).collect();
    let schema: Vec<Value> = keys
        .iter()
        .zip(["HASH", "RANGE"])
        .map(|((name, _), kind)| json!({"AttributeName": name, "KeyType": kind}))
        .collect();
    let definitions: Vec<Value> =
        keys.iter().map(|(name, kind)| json!({"AttributeName": name, "AttributeType": kind})).collect();
    json!({"TableName": table, "KeySchema": schema, "AttributeDefinitions": definitions, "BillingMode": "PAY_PER_REQUEST"})
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

/// The rows, a line each, with a `|` between columns.
async fn rows(session: &Session, query: &str) -> Result<String, String> {
    let table = sql(session, query).await?;
    let rows = table.lines().skip(3).take_while(|line| !line.starts_with('+'));
    let row = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|");
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
    assert!(!error.contains(SECRET) && !error.contains('\n'), "{error}");
}
