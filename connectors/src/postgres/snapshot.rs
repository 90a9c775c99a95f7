//! One view of a database for all that a statement reads of it.
//!
//! The primary holds a transaction that has exported its snapshot (`pg_export_snapshot()`); each split, on whichever executor, begins a transaction of
//! its own that imports it. Scans of one statement share a snapshot, also those of several tables: they are told by the session and by the instant at which the
//! statement began. The transaction ends when the last guard of the statement's scans is dropped.
//!
//! It holds no lock on what is read: whoever waited for that, to change a table, would have splits that have not begun wait behind it. A split finds out by itself
//! whether something was changed since the snapshot ([`Snapshot::require_as_seen`]).

use super::bounds::{Bounds, Share};
use super::error::Result;
use super::relation::changed_meanwhile;
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
    async fn export(settings: &Arc<Settings>, canceller: &Canceller) -> Result<Self> {
        let mut connection = Connection::open(settings, canceller).await?;
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let rows = connection.execute("SELECT pg_catalog.pg_export_snapshot()").await?;
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

    /// Locks what a query reads, as that would, until the transaction of `connection` ends. That is one of [`Snapshot::import`].
    ///
    /// # Errors
    /// Some of it was made, renamed, rewritten or emptied since the snapshot, which would see other rows of it, or none.
    pub async fn require_as_seen(connection: &mut Connection, query: &str) -> Result<()> {
        // Functions know what is there now, and tables what the snapshot sees.
        const CHANGED: &str = "SELECT pg_catalog.min(l.relation::pg_catalog.regclass::text) FROM pg_catalog.pg_locks l \
            LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND (c.oid IS NULL OR c.relkind IN ('r', 'p', 'v', 'm', 'f') \
            AND pg_catalog.to_regclass(pg_catalog.format('%I.%I', n.nspname, c.relname)) IS DISTINCT FROM c.oid \
            OR c.relkind IN ('r', 'm') AND c.relfilenode <> 0 AND c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid))";
        // The answer is that of the last one.
        match connection.execute(&format!("EXPLAIN {query}\n; {CHANGED}")).await?.into_iter().flatten().flatten().next()
        {
            Some(name) => Err(changed_meanwhile(&name)),
            None => Ok(()),
        }
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
    pub async fn snapshot(&self, settings: &Arc<Settings>, canceller: &Canceller) -> Result<&Snapshot> {
        self.0.snapshot.get_or_try_init(|| Snapshot::export(settings, canceller)).await
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
