//! What can go wrong between Windlass and a server of MySQL or MariaDB. No error has a password in it.

use datafusion::common::DataFusionError;
use mysql_async::{DriverError, Error, IoError};
use std::io;

pub(super) type Result<T, E = MysqlError> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub(super) enum MysqlError {
    /// The connection cannot be made, or is gone: worth another try.
    #[error("{server}: {what}")]
    Lost { server: String, what: String, source: io::Error },
    /// The server refuses.
    #[error("MySQL: {message} (error {code}, SQLSTATE {state})")]
    Refused { code: u16, state: String, message: String },
    /// The server will not let us in, or we do not trust it.
    #[error("{server}: {what}")]
    Login { server: String, what: String },
    /// A value, or a name, does not fit.
    #[error("{0}")]
    Value(String),
}

/// A refusal that another try may not meet.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct Passing {
    what: String,
    source: io::Error,
}

/// Codes of refusals that pass: too many connections, a server that ends or starts, a lock that was waited for or given up to solve a deadlock, a connection
/// or a query that somebody ended.
/// <https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html>, <https://mariadb.com/kb/en/mariadb-error-codes/>
const PASSING: [u16; 14] = [1040, 1053, 1077, 1080, 1152, 1158, 1159, 1160, 1161, 1203, 1205, 1213, 1317, 1927];

impl MysqlError {
    /// `server`: as [`super::settings::Settings::server`] says it.
    pub fn of(server: &str, error: Error) -> Self {
        let server = server.to_string();
        let lost = |what: String, kind: io::ErrorKind| Self::Lost { server, what, source: io::Error::from(kind) };
        match error {
            Error::Server(error) => Self::Refused { code: error.code, state: error.state, message: error.message },
            Error::Io(IoError::Io(error)) => lost(format!("the connection is lost: {error}"), error.kind()),
            Error::Io(IoError::Tls(error)) => lost(format!("the connection is lost: {error}"), io::ErrorKind::Other),
            Error::Driver(DriverError::ConnectionClosed) => {
                lost("the server has closed the connection".to_string(), io::ErrorKind::ConnectionAborted)
            }
            error => lost(format!("the connection is lost: {error}"), io::ErrorKind::Other),
        }
    }

    /// The server's number of what it refused.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the server gave this transaction up for another one, or for rows that have changed: it may be begun again at once.
    pub fn is_deadlock(&self) -> bool {
        matches!(self.code(), Some(1020 | 1205 | 1213))
    }

    /// The same error, in other words about `from`.
    pub fn renamed(self, from: &str, to: &str) -> Self {
        match self {
            Self::Refused { code, state, message } => Self::Refused { code, state, message: message.replace(from, to) },
            error => error,
        }
    }
}

impl From<MysqlError> for DataFusionError {
    fn from(error: MysqlError) -> Self {
        match &error {
            MysqlError::Refused { code, .. } if PASSING.contains(code) => {
                let source = io::Error::from(io::ErrorKind::ConnectionAborted);
                DataFusionError::External(Box::new(Passing { what: error.to_string(), source }))
            }
            MysqlError::Lost { .. } => DataFusionError::External(Box::new(error)),
            _ => DataFusionError::Execution(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let refused = |code| MysqlError::Refused { code, state: "HY000".into(), message: "no".into() };
        assert!(matches!(DataFusionError::from(refused(1213)), DataFusionError::External(_)));
        assert!(matches!(DataFusionError::from(refused(1062)), DataFusionError::Execution(_)));
        assert_eq!(refused(1062).to_string(), "MySQL: no (error 1062, SQLSTATE HY000)");
    }
}
