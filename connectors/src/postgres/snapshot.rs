//! One view of a database for all that a statement reads of it.
//!
//! The primary holds a transaction that has exported its snapshot (`pg_export_snapshot()`); each split, on whichever executor, begins a transaction of
//! its own that imports it. Scans of one statement share a snapshot, also those of several tables: they are told by the session and by the instant at which the
//! statement began. The transaction also holds all tables that are read (`relation::hold`), because a split may begin when others have ended, and a snapshot does
//! not show what a table was before it was rewritten or emptied. It ends when the last guard of the statement's scans is dropped.

use super::bounds::{Bounds, Share};
use super::error::{PostgresError, Result};
use super::relation;
use super::settings::Settings;
use super::wire::{Canceller, Connection, literal};
use chrono::{DateTime, Utc};
use datafusion::catalog::Session;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard, OnceCell};

/// A transaction on the primary whose snapshot others import.
pub(super) struct Snapshot {
    id: String,
    connection: AsyncMutex<Connection>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Snapshot").field(&self.id).finish()
    }
}

impl Snapshot {
    /// `first`: a table that is held from before the snapshot on, so that what changes it is seen whole or not at all.
    async fn export(settings: &Arc<Settings>, canceller: &Canceller, first: Option<&str>) -> Result<Self> {
        const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        const EXPORT: &str = "SELECT pg_catalog.pg_export_snapshot()";
        let mut connection = Connection::open(settings, canceller).await?;
        let name = match first {
            Some(table) => relation::named(&mut connection, table).await?,
            None => None,
        };
        let held = match &name {
            Some(name) => {
                connection.execute(&format!("{BEGIN}; LOCK TABLE {name} IN ACCESS SHARE MODE; {EXPORT}")).await
            }
            None => connection.execute(&format!("{BEGIN}; {EXPORT}")).await,
        };
        let rows = match held {
            // Some kinds of tables cannot be locked so, and some users may not: `relation::hold` does it, behind the snapshot.
            Err(PostgresError::Refused(refusal)) if name.is_some() => {
                tracing::debug!(?refusal, "a table of PostgreSQL is not held from before the snapshot on");
                connection.execute("ROLLBACK").await?;
                connection.execute(&format!("{BEGIN}; {EXPORT}")).await?
            }
            rows => rows?,
        };
        let id = rows.into_iter().flatten().flatten().next().unwrap_or_default();
        Ok(Self { id, connection: AsyncMutex::new(connection) })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// The transaction itself.
    pub async fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().await
    }

    /// Begins a transaction that sees what the snapshot of this id sees.
    pub async fn import(connection: &mut Connection, id: &str) -> Result<()> {
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        connection.execute(&format!("SET TRANSACTION SNAPSHOT {}", literal(id))).await?;
        Ok(())
    }
}

/// A statement, on one database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reader {
    server: String,
    session: String,
    begun: DateTime<Utc>,
}

/// The snapshot of a statement, once it is there.
#[derive(Debug, Default)]
struct Exported {
    snapshot: OnceCell<Snapshot>,
    /// The statement's shares of the server's connections, by table: a statement may be planned more than once.
    shares: AsyncMutex<HashMap<String, Share>>,
}

/// The snapshots of statements that are under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshots(Arc<Mutex<HashMap<Reader, Weak<Exported>>>>);

/// Keeps a snapshot while it lives.
#[derive(Clone, Debug)]
pub(super) struct Held(Arc<Exported>);

impl Held {
    /// `table`: one that the statement reads.
    pub async fn snapshot(
        &self,
        settings: &Arc<Settings>,
        canceller: &Canceller,
        table: Option<&str>,
    ) -> Result<&Snapshot> {
        self.0.snapshot.get_or_try_init(|| Snapshot::export(settings, canceller, table)).await
    }

    /// Returns how many of `most` connections the statement has for a table: up to `wanted`.
    ///
    /// # Errors
    /// It waits for other statements, and waits for too long.
    pub async fn connections(
        &self,
        bounds: &Bounds,
        settings: &Settings,
        table: &str,
        most: u32,
        wanted: u32,
    ) -> datafusion::common::Result<usize> {
        let mut shares = self.0.shares.lock().await;
        if let Some(share) = shares.get(table) {
            return Ok(share.connections);
        }
        let share = bounds.share(settings, most, wanted, shares.is_empty()).await?;
        let connections = share.connections;
        shares.insert(table.to_string(), share);
        Ok(connections)
    }
}

impl Snapshots {
    /// Returns the snapshot of the statement that is planned in `session`.
    pub fn of(&self, settings: &Settings, session: &dyn Session) -> Held {
        let Some(begun) = session.execution_props().query_execution_start_time else { return Held(Arc::default()) };
        let reader = Reader { server: settings.server(), session: session.session_id().to_string(), begun };
        let mut known = self.0.lock();
        known.retain(|_, snapshot| snapshot.strong_count() > 0);
        if let Some(exported) = known.get(&reader).and_then(Weak::upgrade) {
            return Held(exported);
        }
        let exported = Arc::new(Exported::default());
        known.insert(reader, Arc::downgrade(&exported));
        Held(exported)
    }
}
