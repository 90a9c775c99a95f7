//! What can go wrong between Windlass and a PostgreSQL server. No error has a password in it.

use datafusion::common::DataFusionError;
use std::collections::BTreeMap;
use std::{fmt, io};

pub(crate) type Result<T, E = PostgresError> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PostgresError {
    /// The connection cannot be made, or is gone: worth another try.
    #[error("{server}: {what}")]
    Lost { server: String, what: String, source: io::Error },
    /// The server refuses.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The server will not let us in, or we do not trust it.
    #[error("{server}: {what}")]
    Login { server: String, what: String },
    /// It speaks another language.
    #[error("{server}: {what}: is it a PostgreSQL server?")]
    Protocol { server: String, what: String },
    /// A value does not fit.
    #[error("{0}")]
    Value(String),
}

/// An ErrorResponse of the server.
/// <https://www.postgresql.org/docs/current/protocol-error-fields.html>
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusal {
    /// SQLSTATE.
    pub code: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Where it arose: the line and column of a COPY.
    pub context: Option<String>,
    pub column: Option<String>,
}

impl Refusal {
    /// `body`: of the message, after its length.
    pub fn read(body: &[u8]) -> Self {
        let mut fields: BTreeMap<u8, String> = BTreeMap::new();
        for field in body.split(|byte| *byte == 0) {
            if let Some((kind, text)) = field.split_first() {
                fields.insert(*kind, String::from_utf8_lossy(text).into_owned());
            }
        }
        Self {
            code: fields.remove(&b'C').unwrap_or_default(),
            message: fields.remove(&b'M').unwrap_or_default(),
            detail: fields.remove(&b'D'),
            hint: fields.remove(&b'H'),
            context: fields.remove(&b'W'),
            column: fields.remove(&b'c'),
        }
    }

    /// Whether it is about the values of rows: another row may be taken.
    pub fn is_about_rows(&self) -> bool {
        let class = self.code.get(..2).unwrap_or_default();
        // Data exceptions, violations of constraints and of views, and what triggers raise.
        matches!(class, "22" | "23" | "44") || self.code == "P0001"
    }

    /// What is wrong with a row.
    pub fn reason(&self) -> String {
        match &self.detail {
            Some(detail) => format!("{}: {}", self.message, detail.trim_end_matches('.')),
            None => self.message.clone(),
        }
    }

    /// Whether another try may succeed: the server restarts, is full, or ended the connection or a transaction that was in the way.
    fn is_passing(&self) -> bool {
        let class = self.code.get(..2).unwrap_or_default();
        matches!(class, "08" | "40") || ["57P01", "57P02", "57P03", "53300", "55006"].contains(&self.code.as_str())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL: {}", self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, ": {}", detail.trim_end_matches('.'))?;
        }
        if let Some(column) = self.column.as_ref().filter(|column| !self.message.contains(column.as_str())) {
            write!(f, ", column \"{column}\"")?;
        }
        if let Some(context) = &self.context {
            write!(f, ", in {}", context.lines().next().unwrap_or_default())?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {}", hint.trim_end_matches('.'))?;
        }
        write!(f, " (SQLSTATE {})", self.code)
    }
}

impl PostgresError {
    /// The SQLSTATE of what the server refused.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.code),
            _ => None,
        }
    }
}

impl From<PostgresError> for DataFusionError {
    fn from(error: PostgresError) -> Self {
        match error {
            PostgresError::Refused(refusal) if refusal.is_passing() => {
                let what = refusal.to_string();
                let source = io::Error::from(io::ErrorKind::ConnectionAborted);
                DataFusionError::External(Box::new(Passing { what, source }))
            }
            PostgresError::Lost { .. } => DataFusionError::External(Box::new(error)),
            _ => DataFusionError::Execution(error.to_string()),
        }
    }
}

/// A refusal that may not come again. Its cause says so to whoever decides on another try.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct Passing {
    what: String,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_what_the_server_says() {
        let body =
            b"SERROR\0C23505\0Mduplicate key value violates unique constraint \"k\"\0DKey (a)=(1) already exists.\0\
            WCOPY t, line 3\nSQL\0nk\0\0";
        let refusal = Refusal::read(body);
        assert_eq!(
            refusal.to_string(),
            "PostgreSQL: duplicate key value violates unique constraint \"k\": Key (a)=(1) already exists, in COPY t, line 3 \
             (SQLSTATE 23505)"
        );
        assert!(matches!(PostgresError::Refused(Box::new(refusal)).into(), DataFusionError::Execution(_)));
        let gone = Refusal::read(b"C57P01\0Mterminating connection\0\0");
        assert!(matches!(PostgresError::Refused(Box::new(gone)).into(), DataFusionError::External(_)));
    }
}
