//! `interactive/session/{id}`: an interactive session. `interactive/statement/{id}/{n}`: one of its statements, without the rows or forms of its output, which
//! are `interactive/rows/{id}/{n}`. `interactive/next`: the id of the next session.

use super::{decode, encode};
use crate::meta::{MetaError, MetaStore, Transaction};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use windlass_core::interactive::{End, StatementState, Times};

const SESSION: &str = "interactive/session/";
const STATEMENT: &str = "interactive/statement/";
const ROWS: &str = "interactive/rows/";
const NEXT: &str = "interactive/next";

/// The language that code of a session or of a statement is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Sql,
    Spark,
    PySpark,
    SparkR,
    /// Each statement says its own.
    #[default]
    Shared,
}

/// What a session was asked for with, in the words of its client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    pub kind: Kind,
    pub name: Option<String>,
    pub proxy_user: Option<String>,
    pub conf: BTreeMap<String, String>,
    pub queue: Option<String>,
    pub ttl: Option<String>,
    pub idle_timeout: Option<String>,
    pub heartbeat_timeout_s: u32,
    pub driver_memory: Option<String>,
    pub driver_cores: Option<u32>,
    pub executor_memory: Option<String>,
    pub executor_cores: Option<u32>,
    pub num_executors: Option<u32>,
    pub jars: Vec<String>,
    pub py_files: Vec<String>,
    pub files: Vec<String>,
    pub archives: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// Unique among all sessions that ever were.
    pub uid: String,
    pub asked: Asked,
    /// Name of the user who asked for it. Empty if none was given.
    pub owner: String,
    /// Options with which it began, as SET takes them.
    pub options: Vec<(String, String)>,
    /// Maximum rows of an output.
    pub rows: u64,
    pub times: Times,
    /// Microseconds since 1970-01-01T00:00:00Z, as is the time in `ended`.
    pub created_us: u64,
    pub ended: Option<(End, u64)>,
    /// Statements that set its options since, in order.
    pub sets: Vec<String>,
    /// Whether its statements may have made things that go with their primary.
    pub made_things: bool,
    /// Whether its Python process has names, which go with it.
    #[serde(default)]
    pub has_python: bool,
    pub log: Vec<String>,
}

/// What a statement does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Runs SQL. `text`: absent if it is the code itself. `rows`: the rows that the code asks for.
    Sql { text: Option<String>, rows: Option<u64>, shape: Shape },
    /// Runs code in the Python process of the session.
    Python,
    /// Says what is known without running anything.
    Say { text: String },
    /// Fails, because this version does not run such code.
    Refuse { message: String },
}

/// The form in which the code of a statement puts out rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Columns and rows.
    Table,
    /// Text: a JSON object for each row, each on a line.
    Lines,
    /// Text: an array of JSON objects.
    Array,
}

/// How much of a result was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// There were more rows than this limit.
    Rows(u64),
    /// The rows were larger than this number of bytes.
    Bytes(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Output {
    /// The rows are under a key of their own.
    Rows {
        cut: Option<Cut>,
    },
    /// The number of rows that were written is all that is known.
    Wrote {
        rows: Option<u64>,
    },
    Text {
        text: String,
    },
    /// A JSON object of its forms, by their media types, is under the key of rows.
    Forms,
    Failed {
        name: String,
        message: String,
        /// Lines that say where it failed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        traceback: Vec<String>,
        /// What was printed before.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        printed: String,
    },
}

impl Output {
    /// A failure that names no place.
    pub fn failed(name: &str, message: impl Into<String>) -> Self {
        Output::Failed {
            name: name.to_string(),
            message: message.into(),
            traceback: Vec::new(),
            printed: String::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Statement {
    pub code: String,
    pub kind: Kind,
    pub work: Work,
    pub state: StatementState,
    /// Bytes of code and output.
    pub bytes: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z, 0 before it began, as is `completed_ms`.
    pub started_ms: u64,
    pub completed_ms: u64,
    pub output: Option<Output>,
}

fn session_key(id: u32) -> String {
    format!("{SESSION}{id:010}")
}

fn statement_key(id: u32, statement: u32) -> String {
    format!("{STATEMENT}{id:010}/{statement:010}")
}

fn rows_key(id: u32, statement: u32) -> String {
    format!("{ROWS}{id:010}/{statement:010}")
}

pub(crate) fn put_next(transaction: Transaction, next: u32) -> Transaction {
    transaction.put(NEXT, encode(&next))
}

pub(crate) fn put_session(transaction: Transaction, id: u32, session: &Session) -> Transaction {
    transaction.put(session_key(id), encode(session))
}

pub(crate) fn put_statement(transaction: Transaction, id: u32, number: u32, statement: &Statement) -> Transaction {
    transaction.put(statement_key(id, number), encode(statement))
}

pub(crate) fn put_rows(transaction: Transaction, id: u32, statement: u32, rows: Bytes) -> Transaction {
    transaction.put(rows_key(id, statement), rows)
}

pub(crate) fn delete_statement(transaction: Transaction, id: u32, statement: u32) -> Transaction {
    transaction.delete(statement_key(id, statement)).delete(rows_key(id, statement))
}

pub(crate) fn delete_session(transaction: Transaction, id: u32) -> Transaction {
    transaction.delete(session_key(id))
}

/// Returns the rows of a statement's output. `None`: it has none.
pub(crate) async fn rows(store: &dyn MetaStore, id: u32, statement: u32) -> Result<Option<Bytes>, MetaError> {
    Ok(store.get(&rows_key(id, statement)).await?.map(|entry| entry.value))
}

/// Returns the id of the next session.
pub(crate) async fn next(store: &dyn MetaStore) -> Result<u32, MetaError> {
    store.get(NEXT).await?.map_or(Ok(0), |entry| decode(NEXT, &entry.value))
}

/// Returns all sessions with their statements, by id.
pub(crate) async fn all(
    store: &dyn MetaStore,
) -> Result<BTreeMap<u32, (Session, BTreeMap<u32, Statement>)>, MetaError> {
    let mut all = BTreeMap::new();
    for (key, entry) in store.range(SESSION).await? {
        all.insert(number(&key, &key[SESSION.len()..])?, (decode(&key, &entry.value)?, BTreeMap::new()));
    }
    for (key, entry) in store.range(STATEMENT).await? {
        let (id, statement) = key[STATEMENT.len()..].split_once('/').unwrap_or_default();
        if let Some((_, statements)) = all.get_mut(&number(&key, id)?) {
            statements.insert(number(&key, statement)?, decode(&key, &entry.value)?);
        }
    }
    Ok(all)
}

fn number(key: &str, text: &str) -> Result<u32, MetaError> {
    text.parse().map_err(|_| MetaError::Corrupt { key: key.to_string(), reason: format!("{text} is not a number") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryStore;
    use std::time::Duration;

    fn session() -> Session {
        let hour = Duration::from_secs(3_600);
        Session {
            uid: "u".into(),
            asked: Asked::default(),
            owner: "ann".into(),
            options: Vec::new(),
            rows: 1_000,
            times: Times { idle: hour, ttl: None, heartbeat: None, retention: hour },
            created_us: 7,
            ended: None,
            sets: Vec::new(),
            made_things: false,
            has_python: false,
            log: Vec::new(),
        }
    }

    fn statement() -> Statement {
        let work = Work::Sql { text: None, rows: None, shape: Shape::Table };
        Statement {
            code: "select 1".into(),
            kind: Kind::Sql,
            work,
            state: StatementState::Available,
            bytes: 8,
            started_ms: 1,
            completed_ms: 2,
            output: Some(Output::Rows { cut: Some(Cut::Rows(1_000)) }),
        }
    }

    #[tokio::test]
    async fn sessions_are_found_with_their_statements() {
        let store = MemoryStore::default();
        assert_eq!(next(&store).await.unwrap(), 0);
        let written = put_next(put_session(Transaction::default(), 3, &session()), 4);
        let written = put_session(written, 11, &session());
        let written = put_statement(written, 3, 0, &statement());
        let written = put_statement(put_statement(written, 3, 12, &statement()), 11, 1, &statement());
        store.commit(put_rows(written, 3, 12, Bytes::from("rows"))).await.unwrap();
        let found = all(&store).await.unwrap();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [3, 11]);
        assert_eq!(found[&3].0, session());
        assert_eq!(found[&3].1, BTreeMap::from([(0, statement()), (12, statement())]));
        assert_eq!((next(&store).await.unwrap(), rows(&store, 3, 12).await.unwrap()), (4, Some(Bytes::from("rows"))));
        let gone = delete_statement(delete_statement(Transaction::default(), 3, 0), 3, 12);
        store.commit(delete_session(gone, 3)).await.unwrap();
        assert_eq!(all(&store).await.unwrap().keys().copied().collect::<Vec<_>>(), [11]);
        assert_eq!(rows(&store, 3, 12).await.unwrap(), None);
    }

    /// Keys and records stay what they are: the store of an earlier release is read.
    #[test]
    fn records_stay_what_they_are() {
        let written = put_session(put_next(Transaction::default(), 4), 3, &session());
        let written = put_rows(put_statement(written, 3, 12, &statement()), 3, 12, Bytes::from("rows"));
        let written: BTreeMap<String, String> = written
            .writes
            .into_iter()
            .map(|(key, value)| (key, String::from_utf8_lossy(&value.unwrap()).into_owned()))
            .collect();
        assert_eq!(written["interactive/next"], "4");
        assert!(
            written["interactive/session/0000000003"]
                .starts_with(r#"{"uid":"u","asked":{"kind":"shared","name":null,"#)
        );
        let expected = concat!(
            r#"{"code":"select 1","kind":"sql","work":{"sql":{"text":null,"rows":null,"shape":"table"}},"state":"available","#,
            r#""bytes":8,"started_ms":1,"completed_ms":2,"output":{"rows":{"cut":{"rows":1000}}}}"#
        );
        assert_eq!(written["interactive/statement/0000000003/0000000012"], expected);
        assert_eq!(written["interactive/rows/0000000003/0000000012"], "rows");
    }
}
