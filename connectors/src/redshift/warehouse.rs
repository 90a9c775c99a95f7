//! A session of a warehouse, over the wire or over the Data API.

use super::api;
use super::settings::Via;
use crate::postgres::error::PostgresError;
use crate::postgres::wire::{Canceller, Connection, Rows};
use datafusion::common::{DataFusionError, Result, plan_err};
use std::sync::Arc;

/// A session.
pub(super) enum Warehouse {
    Wire(Box<Connection>),
    Api(Box<api::Session>),
}

impl Warehouse {
    /// # Errors
    /// The warehouse is not there, is not trusted, or does not let us in.
    pub async fn open(via: Via, canceller: &Canceller) -> Result<Self> {
        Ok(match via {
            Via::Wire(settings) => {
                let connection = Connection::open(&Arc::new(*settings), canceller).await;
                Self::Wire(Box::new(connection.map_err(of_redshift)?))
            }
            Via::Api(at) => Self::Api(Box::new(api::Session::open(at).await?)),
        })
    }

    /// Runs a statement by itself, and gives its rows as text.
    pub async fn query(&mut self, sql: &str) -> Result<Rows> {
        match self {
            Self::Wire(connection) => connection.execute(sql).await.map_err(of_redshift),
            Self::Api(session) => session.query(sql).await,
        }
    }

    /// Runs statements as one transaction. Over the Data API the statements of one `token` run once, and whoever comes later waits for them.
    ///
    /// # Errors
    /// One is refused: none has happened. Or the connection was lost, and whether they have happened is not known.
    pub async fn transaction(&mut self, statements: &[String], token: &str) -> Result<()> {
        let connection = match self {
            Self::Wire(connection) => connection,
            Self::Api(session) => return session.transaction(statements, token).await,
        };
        let run = async {
            connection.execute("BEGIN").await?;
            for statement in statements {
                connection.execute(statement).await?;
            }
            connection.execute("COMMIT").await.map(|_| ())
        };
        let ran: Result<(), PostgresError> = run.await;
        let Err(error) = ran else { return Ok(()) };
        if error.code().is_some() {
            // It is rolled back in any case.
            _ = connection.execute("ROLLBACK").await;
        }
        Err(of_redshift(error))
    }
}

/// The same error, of the server that it is.
fn of_redshift(error: PostgresError) -> DataFusionError {
    match DataFusionError::from(error) {
        DataFusionError::Execution(text) => DataFusionError::Execution(
            text.replacen("PostgreSQL: ", "Redshift: ", 1)
                .replace("is it a PostgreSQL server?", "is it a Redshift warehouse?"),
        ),
        other => other,
    }
}

/// `text` as a literal of SQL.
///
/// # Errors
/// It has a backslash, which Redshift reads in another way than PostgreSQL, or a control character.
pub(super) fn literal(text: &str) -> Result<String> {
    match text.chars().find(|c| *c == '\\' || c.is_control()) {
        Some(odd) => plan_err!("'{}' has the character {odd:?}, which is in no text for Redshift", text.escape_debug()),
        None => Ok(format!("'{}'", text.replace('\'', "''"))),
    }
}

/// `name` as a quoted name of SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
