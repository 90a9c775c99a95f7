//! Tables STORED AS DYNAMODB. Each test has a server of its own: dynalite, which is as strict as DynamoDB and has faults on demand, or moto, which has
//! transactions and the service that lends roles.

mod files;
mod login;
mod pushdown;
mod read;
mod server;
mod write;

use crate::asking::{SECRET, STAGES, answers, done, embedded, rows, sql};
use serde_json::{Value, json};
use server::Server;
use windlass_client::{Client, Session};

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

async fn refused(session: &Session, statement: &str, words: &[&str]) {
    let error = crate::asking::refused(session, statement, words).await;
    assert!(!error.contains('\n'), "{error}");
}
