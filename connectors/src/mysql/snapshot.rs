//! One view of a table for all that a scan reads of it.
//!
//! A snapshot of MySQL belongs to the session that began it: it has no name by which another session, on another machine, could join it (PostgreSQL's has,
//! and so have clones of snapshots in Percona's server, which neither MySQL nor Debian's MariaDB has). Sessions see the same state only if nobody commits between
//! their beginnings, that is, if a lock keeps writers out meanwhile. Tasks of executors begin when they get a slot, some perhaps much later than others, and
//! a lock for so long is none that a server in use can bear. So:
//!
//! | `snapshot` | who reads | what is seen |
//! | --- | --- | --- |
//! | `table` (default) | one task, over several connections that read ranges of the key side by side | one state: a session locks the table for the milliseconds in which all of them begin (`LOCK TABLES … READ`), and unlocks it. Without the privilege, or while a writer keeps its lock for long, one connection reads |
//! | `locked` | all tasks | one state of all tables that the statement reads so: the primary holds the lock until the statement has ended, and writers wait |
//! | `none` | all tasks | each split its own state |
//!
//! **Read again.** A split that is opened again must have the same rows, or fail. In `locked` it has. In `table`, the primary holds a session with a lock of a
//! unique name (`GET_LOCK`), the scan's *mark*. Whoever has read the table to its end removes the mark by ending that session, and whoever begins without it, or
//! ends without it, fails: somebody else may have used rows of another state. So a connection that is lost in the middle is tried again, and an
//! output that is lost afterwards fails the statement rather than mixing two states.
//!
//! ```text
//!   primary     GET_LOCK(mark)                                          job ends: the session ends
//!   executor    mark is held? ─> lock, begin, unlock ─> rows ... end ─> mark is held? ─> KILL the primary's session ─> end of stream
//! ```
//!
//! The lock is taken with `autocommit = 0`: InnoDB then waits for transactions that have written and not committed, whose rows would appear later.

use super::error::{MysqlError, Result};
use super::settings::Settings;
use super::wire::{Connection, literal};
use chrono::{DateTime, Utc};
use datafusion::catalog::Session;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Mutex as AsyncMutex;

/// How long a statement waits for the lock that it holds until its end. Seconds.
const LOCKED_WAIT: u32 = 30;
/// How long a scan waits for the lock under which its sessions begin. Writers that come later wait as long. Seconds.
const SHORT_WAIT: u32 = 1;
/// Tries of a lock that the server gives up because of a deadlock.
const TRIES: u32 = 10;
/// How long a session that was told to end may take.
const ENDING: Duration = Duration::from_secs(10);

/// Says which tasks read a table, and which state of it they see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Table,
    Locked,
    None,
}

impl Mode {
    /// Whether all tasks that read a table see one state of it.
    pub fn sees_one_state(self) -> bool {
        self != Self::None
    }

    /// Anything unknown is the safe one.
    pub fn parse(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "locked" => Self::Locked,
            "none" => Self::None,
            _ => Self::Table,
        }
    }
}

/// What the primary holds while tasks read.
pub(super) enum Guard {
    /// The session with a scan's mark, which lives until it is dropped.
    Marked {
        name: String,
        _session: Mutex<Connection>,
    },
    Locked(Arc<Locked>),
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&self.name()).finish()
    }
}

impl Guard {
    pub async fn marked(mut connection: Connection) -> Result<Self> {
        let name = new_name();
        mark(&mut connection, &name).await?;
        Ok(Self::Marked { name, _session: Mutex::new(connection) })
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Marked { name, .. } => name,
            Self::Locked(locked) => &locked.name,
        }
    }
}

fn new_name() -> String {
    format!("windlass_{}", uuid::Uuid::new_v4().simple())
}

async fn mark(connection: &mut Connection, name: &str) -> Result<()> {
    match connection.value(&format!("SELECT GET_LOCK({}, 0)", literal(name))).await?.as_deref() {
        Some("1") => Ok(()),
        _ => Err(MysqlError::Value("MySQL gives no lock of a name (GET_LOCK)".to_string())),
    }
}

/// A session that keeps writers out of all tables that a statement reads with `locked`, and has a mark by which those who read know that it does.
pub(super) struct Locked {
    name: String,
    held: AsyncMutex<Option<(Connection, Vec<String>)>>,
}

impl Locked {
    /// Locks `table`, which is quoted, beside those that the statement reads already. Nobody has read them yet: the statement is being planned. One session for all,
    /// since a writer that waits for one of its locks would be waited for by the next session.
    pub async fn add(&self, connection: Connection, table: String) -> Result<()> {
        let mut held = self.held.lock().await;
        let (session, tables) = match held.as_mut() {
            Some(held) => held,
            None => {
                let mut connection = connection;
                mark(&mut connection, &self.name).await?;
                held.insert((connection, Vec::new()))
            }
        };
        if tables.contains(&table) {
            return Ok(());
        }
        tables.push(table);
        let mut tried = 1;
        loop {
            match lock(session, tables, LOCKED_WAIT).await {
                // A transaction holds one of them and waits for another: it has its turn.
                Err(error) if error.code() == Some(1213) && tried < TRIES => tried += 1,
                locked => return locked.map_err(|error| explained(error, &tables.join(", "))),
            }
        }
    }
}

/// A statement, on one database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Statement {
    server: String,
    session: String,
    begun: DateTime<Utc>,
}

/// The locks of statements that are under way.
#[derive(Clone, Default)]
pub(super) struct Statements(Arc<Mutex<HashMap<Statement, Weak<Locked>>>>);

impl fmt::Debug for Statements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Statements").field(&self.0.lock().len()).finish()
    }
}

impl Statements {
    /// Returns what the statement holds that is planned in `session`.
    pub fn of(&self, settings: &Settings, session: &dyn Session) -> Arc<Locked> {
        let new = || Arc::new(Locked { name: new_name(), held: AsyncMutex::default() });
        let Some(begun) = session.execution_props().query_execution_start_time else { return new() };
        let statement = Statement { server: settings.server(), session: session.session_id().to_string(), begun };
        let mut known = self.0.lock();
        known.retain(|_, locked| locked.strong_count() > 0);
        if let Some(locked) = known.get(&statement).and_then(Weak::upgrade) {
            return locked;
        }
        let locked = new();
        known.insert(statement, Arc::downgrade(&locked));
        locked
    }
}

/// Keeps writers out until the session ends or unlocks.
async fn lock(connection: &mut Connection, tables: &[String], seconds: u32) -> Result<()> {
    let waits =
        format!("SET SESSION autocommit = 0, lock_wait_timeout = {seconds}, innodb_lock_wait_timeout = {seconds}");
    connection.execute(&waits).await?;
    let tables: Vec<String> = tables.iter().map(|table| format!("{table} READ")).collect();
    connection.execute(&format!("LOCK TABLES {}", tables.join(", "))).await?;
    Ok(())
}

fn explained(error: MysqlError, table: &str) -> MysqlError {
    match error.code() {
        Some(1044 | 1142) => MysqlError::Value(format!(
            "{error}: snapshot 'locked' wants the privilege LOCK TABLES on the database: grant it, or use snapshot 'table' or 'none'"
        )),
        Some(1205) => MysqlError::Value(format!(
            "{table} of MySQL could not be locked within {LOCKED_WAIT} s: a transaction that writes to it goes on, or a statement is before us; \
             run the statement again, or use snapshot 'table' or 'none'"
        )),
        _ => error,
    }
}

/// Begins a transaction that sees the present state until it ends.
pub(super) async fn begin(connection: &mut Connection) -> Result<()> {
    connection.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?;
    Ok(())
}

/// Begins transactions that see the same state. False: they could not, because the table cannot be locked by this user or at this moment; then none has begun.
pub(super) async fn begin_together(
    control: &mut Connection,
    table: &str,
    connections: &mut [Connection],
) -> Result<bool> {
    match lock(control, &[table.to_string()], SHORT_WAIT).await {
        Ok(()) => {}
        Err(error) if error.code().is_some() => {
            tracing::debug!(%error, "one connection reads a table of MySQL that could not be locked");
            control.execute("SET SESSION autocommit = 1").await?;
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    let begun = futures::future::try_join_all(connections.iter_mut().map(|connection| async move {
        begin(connection).await?;
        // Whoever would rename or rebuild the table waits from now on for all of them, not only for those that read already.
        connection.execute(&format!("SELECT 1 FROM {table} LIMIT 0")).await
    }));
    let begun = begun.await;
    let unlocked = control.execute("UNLOCK TABLES; SET SESSION autocommit = 1").await;
    begun?;
    unlocked?;
    Ok(true)
}

async fn holder(connection: &mut Connection, mark: &str) -> Result<Option<u64>> {
    let holder = connection.value(&format!("SELECT IS_USED_LOCK({})", literal(mark))).await?;
    Ok(holder.and_then(|session| session.parse().ok()))
}

/// # Errors
/// The scan's mark is gone: the table was read before, or the primary's session is lost.
pub(super) async fn check(connection: &mut Connection, mark: &str, mode: Mode) -> Result<u64> {
    let found = holder(connection, mark).await?;
    found.ok_or_else(|| {
        let server = connection.server();
        MysqlError::Value(match mode {
            Mode::Locked => {
                format!("{server}: the lock under which the statement reads is gone: its session was ended")
            }
            _ => format!(
                "{server}: the state of the table that was read before is gone, and it would have to be read again; \
                 run the statement again, or use snapshot 'locked' or 'none'"
            ),
        })
    })
}

/// Says that a table was read to its end: nobody else reads it in this scan.
pub(super) async fn end(connection: &mut Connection, mark: &str) -> Result<()> {
    // One at a time, so that only one attempt finds the mark.
    let ending = literal(&format!("{mark}_end"));
    connection.value(&format!("SELECT GET_LOCK({ending}, {})", 2 * ENDING.as_secs())).await?;
    let session = check(connection, mark, Mode::Table).await?;
    match connection.execute(&format!("KILL {session}")).await {
        Err(error) if error.code() != Some(1094) => return Err(error),
        _ => {}
    }
    let patience = Instant::now() + ENDING;
    while holder(connection, mark).await?.is_some() {
        if Instant::now() > patience {
            return Err(MysqlError::Value(format!("{}: a session does not end that was told to", connection.server())));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    connection.value(&format!("SELECT RELEASE_LOCK({ending})")).await?;
    Ok(())
}
