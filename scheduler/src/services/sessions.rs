//! Sessions of clients, and the statements that they prepare in them.

use crate::errors::QueryError;
pub use crate::statements::prepared::PreparedHandle;
use crate::statements::sessions::Registry;
pub use crate::statements::sessions::{Caller, Session};
use crate::statements::{Described, Statements};
use std::sync::Arc;
use std::time::Duration;
use windlass_core::access::Principal;

/// The sessions of a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    registry: Arc<Registry>,
    statements: Statements,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    pub id: String,
    pub user: String,
    /// Time since its last request.
    pub idle: Duration,
}

impl Sessions {
    pub(crate) fn new(registry: Arc<Registry>, statements: Statements) -> Self {
        Sessions { registry, statements }
    }

    /// Returns the session of a request, and begins one if necessary. The flag says that the session is new to the client, which must
    /// be told its id.
    ///
    /// # Errors
    /// There are too many sessions.
    pub fn enter(&self, by: &Principal, caller: &Caller) -> Result<(Arc<Session>, bool), QueryError> {
        self.registry.find_or_begin(by, caller)
    }

    /// Begins a session that lives until it is closed or has been idle too long, independent of connections. `options`: as SET takes
    /// them.
    ///
    /// # Errors
    /// There are too many sessions, or an option is wrong.
    pub async fn open(&self, by: &Principal, options: &[(String, String)]) -> Result<Arc<Session>, QueryError> {
        let (session, _) = self.registry.find_or_begin(by, &Caller::default())?;
        for (name, value) in options {
            if let Err(error) = session.set_option(name, value) {
                self.registry.close(&session.id).await;
                return Err(error);
            }
        }
        Ok(session)
    }

    /// Returns the session with this id and marks it as used. `None`: no such session.
    pub fn find(&self, _: &Principal, id: &str) -> Option<Arc<Session>> {
        self.registry.find(id)
    }

    pub fn list(&self, _: &Principal) -> Vec<SessionView> {
        let view = |session: &Arc<Session>, idle| SessionView {
            id: session.id.clone(),
            user: session.user.name().to_string(),
            idle,
        };
        self.registry.list(view)
    }

    pub fn count(&self, _: &Principal) -> usize {
        self.registry.len()
    }

    /// Ends a session, with its temporary tables. False: no such session.
    pub async fn close(&self, _: &Principal, id: &str) -> bool {
        self.registry.close(id).await
    }

    /// Returns a token for a client that authenticates. Its session begins with its first request.
    pub fn issue_token(&self) -> String {
        self.registry.issue_token()
    }

    /// Whether a client still has this connection.
    pub fn is_connected(&self, connection: u64) -> bool {
        self.registry.is_connected(connection)
    }

    /// Returns the result schema and the parameters of a statement without running it.
    pub async fn describe(&self, _: &Principal, session: &Arc<Session>, sql: &str) -> Result<Described, QueryError> {
        self.statements.describe(session, sql).await
    }

    /// Prepares a statement and returns its name in the session.
    ///
    /// # Errors
    /// It cannot be planned, or the session has too many.
    pub async fn prepare(
        &self,
        by: &Principal,
        session: &Arc<Session>,
        sql: &str,
    ) -> Result<(String, Arc<PreparedHandle>), QueryError> {
        let described = self.describe(by, session, sql).await?;
        session.keep_handle(PreparedHandle::new(sql.to_string(), described))
    }
}
