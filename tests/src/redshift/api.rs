//! The Redshift Data API in front of the server: the operations that Windlass uses, over HTTP and JSON, each statement in a session of its own.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// The name of the cluster.
pub(super) const CLUSTER: &str = "warehouse";

type Rows = Vec<Vec<Option<String>>>;

struct Statement {
    sqls: Vec<String>,
    /// Absent: it runs.
    ended: Option<Result<Option<Rows>, String>>,
}

#[derive(Clone)]
struct State {
    /// Of the server.
    port: u16,
    statements: Arc<Mutex<Vec<Statement>>>,
    /// The statements of client tokens.
    tokens: Arc<Mutex<HashMap<String, usize>>>,
    running: Arc<Mutex<JoinSet<()>>>,
}

pub(super) async fn serve(listener: TcpListener, port: u16) {
    let state = State { port, statements: Arc::default(), tokens: Arc::default(), running: Arc::default() };
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let state = state.clone();
        connections.spawn(async move { _ = connection(stream, state).await });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, state: State) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut operation, mut length, mut is_signed) = (String::new(), 0, false);
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        loop {
            line.clear();
            stream.read_line(&mut line).await?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            match name.to_lowercase().as_str() {
                "x-amz-target" => value.trim().trim_start_matches("RedshiftData.").clone_into(&mut operation),
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "authorization" => is_signed = value.contains("/redshift-data/aws4_request"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let request: Value = serde_json::from_slice(&body)?;
        let answer = match is_signed {
            true => answer(&state, &operation, &request),
            false => Err(("AccessDeniedException", "the request is not signed".to_owned())),
        };
        let (status, body) = match answer {
            Ok(body) => ("200 OK", body),
            Err((kind, message)) => ("400 Bad Request", json!({"__type": kind, "message": message})),
        };
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all([head, body].concat().as_bytes()).await?;
    }
}

type Refused = (&'static str, String);

fn answer(state: &State, operation: &str, request: &Value) -> Result<Value, Refused> {
    let invalid = |why: &str| ("ValidationException", why.to_owned());
    let id = || {
        let number = request["Id"].as_str().and_then(|id| id.parse::<usize>().ok());
        number.ok_or_else(|| ("ResourceNotFoundException", "there is no such statement".to_owned()))
    };
    match operation {
        "ExecuteStatement" | "BatchExecuteStatement" => {
            if request["ClusterIdentifier"].as_str() != Some(CLUSTER) {
                return Err(invalid("Redshift endpoint doesn't exist in this region"));
            }
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let sqls: Vec<String> = match operation {
                "ExecuteStatement" => text(&request["Sql"]).into_iter().collect(),
                _ => request["Sqls"].as_array().into_iter().flatten().filter_map(text).collect(),
            };
            if sqls.is_empty() || sqls.len() > 40 {
                return Err(invalid("a batch has 1 to 40 statements"));
            }
            let token = text(&request["ClientToken"]).filter(|token| token.len() <= 64);
            let token = token.ok_or_else(|| invalid("ClientToken has up to 64 characters"))?;
            let id = state.submitted(sqls, token).map_err(|why| invalid(&why))?;
            Ok(json!({"Id": id.to_string(), "Database": request["Database"]}))
        }
        "DescribeStatement" => {
            let statements = state.statements.lock().expect("nobody has panicked");
            let statement = statements.get(id()?).ok_or_else(|| invalid("there is no such statement"))?;
            Ok(match &statement.ended {
                None => json!({"Id": request["Id"], "Status": "STARTED"}),
                Some(Ok(rows)) => json!({"Id": request["Id"], "Status": "FINISHED", "HasResultSet": rows.is_some()}),
                Some(Err(why)) => json!({"Id": request["Id"], "Status": "FAILED", "Error": why, "HasResultSet": false}),
            })
        }
        "GetStatementResult" => {
            let statements = state.statements.lock().expect("nobody has panicked");
            let statement = statements.get(id()?).and_then(|statement| statement.ended.as_ref());
            let Some(Ok(Some(rows))) = statement else { return Err(invalid("the statement has no rows")) };
            // A page has two rows.
            let from: usize = request["NextToken"].as_str().and_then(|token| token.parse().ok()).unwrap_or(0);
            let field = |value: &Option<String>| match value {
                Some(text) => json!({"stringValue": text}),
                None => json!({"isNull": true}),
            };
            let records: Vec<Vec<Value>> =
                rows.iter().skip(from).take(2).map(|row| row.iter().map(field).collect()).collect();
            let mut page = json!({"Records": records, "TotalNumRows": rows.len()});
            if from + 2 < rows.len() {
                page["NextToken"] = json!((from + 2).to_string());
            }
            Ok(page)
        }
        other => Err(("UnknownOperationException", format!("{other} is not carried out here"))),
    }
}

impl State {
    /// Returns the number of the statement of a token.
    fn submitted(&self, sqls: Vec<String>, token: String) -> Result<usize, String> {
        let mut statements = self.statements.lock().expect("nobody has panicked");
        let mut tokens = self.tokens.lock().expect("nobody has panicked");
        if let Some(id) = tokens.get(&token) {
            return match statements[*id].sqls == sqls {
                true => Ok(*id),
                false => Err("the client token belongs to another statement".to_owned()),
            };
        }
        let id = statements.len();
        tokens.insert(token, id);
        statements.push(Statement { sqls: sqls.clone(), ended: None });
        let (of, port) = (Arc::clone(&self.statements), self.port);
        self.running.lock().expect("nobody has panicked").spawn(async move {
            let ended = run(port, &sqls).await;
            of.lock().expect("nobody has panicked")[id].ended = Some(ended);
        });
        Ok(id)
    }
}

/// Runs statements, several of them as one transaction. The rows are those of the last one that has some.
async fn run(port: u16, sqls: &[String]) -> Result<Option<Rows>, String> {
    let shown = |error: tokio_postgres::Error| match error.as_db_error() {
        Some(refused) => format!("ERROR: {}", refused.message()),
        None => format!("ERROR: {error}"),
    };
    let target = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
    let (client, connection) = tokio_postgres::connect(&target, NoTls).await.map_err(shown)?;
    let statements = async {
        let mut rows = None;
        let one = sqls.len() == 1;
        let around = |sql: &str| if one { Vec::new() } else { vec![sql.to_owned()] };
        for sql in around("BEGIN").iter().chain(sqls).chain(&around("COMMIT")) {
            for message in client.simple_query(sql).await.map_err(shown)? {
                match message {
                    SimpleQueryMessage::RowDescription(_) => rows = Some(Rows::new()),
                    SimpleQueryMessage::Row(row) => {
                        let values = (0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect();
                        rows.get_or_insert_default().push(values);
                    }
                    _ => {}
                }
            }
        }
        Ok(rows)
    };
    tokio::select! {
        ran = statements => ran,
        _ = connection => Err("ERROR: the connection was lost".to_owned()),
    }
}
