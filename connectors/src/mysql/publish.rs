//! Publishing: one transaction moves the rows of the attempts that count, and the tables that loads made are dropped.

use super::aside::{self, Aside};
use super::error::{MysqlError, Result as MysqlResult};
use super::load::Before;
use super::sink::MysqlSink;
use super::target::{PREFIX, Staged};
use super::wire::{Connection, literal};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err, internal_datafusion_err};
use datafusion::execution::runtime_env::RuntimeEnv;
use prost::Message;
use windlass_engine::connector::Rejected;

/// Letters of a write's id.
const ID: usize = 32;
/// Tries of a transaction that the server gives up because of a deadlock.
const TRIES: u32 = 5;
/// Seconds that a definition waits for sessions that use its table, and a load for others into the same new table.
pub(super) const WAIT: u32 = 20;

impl MysqlSink {
    /// Moves the rows, in a transaction that is left open, unless that was done before.
    pub(super) async fn moved(&self, tokens: &[Vec<u8>], runtime: &RuntimeEnv) -> Result<Moved> {
        let staged = tokens.iter().map(|token| Staged::decode(token.as_slice()));
        let staged: Vec<Staged> =
            staged.collect::<Result<_, _>>().map_err(|error| internal_datafusion_err!("{error}"))?;
        let load = &self.load;
        let mut connection = self.connection().await?;
        if load.creates {
            // Two that make the same table come one after the other.
            let got = connection.value(&format!("SELECT GET_LOCK({}, {WAIT})", load.lock_name())).await?;
            if got.as_deref() != Some("1") {
                return exec_err!("another load makes {} of MySQL", load.qualified());
            }
        }
        for tried in 1.. {
            match self.move_once(&mut connection, &staged, runtime).await {
                Ok(rejected) => return Ok(Moved { connection, rejected }),
                Err(Moving::Refused(error)) if error.is_deadlock() && tried < TRIES => {
                    connection.execute("ROLLBACK").await?;
                }
                Err(Moving::Refused(error)) => return Err(error.into()),
                Err(Moving::Failed(error)) => return Err(error),
            }
        }
        unreachable!("tries have no end before the last one")
    }

    async fn move_once(
        &self,
        connection: &mut Connection,
        staged: &[Staged],
        runtime: &RuntimeEnv,
    ) -> Result<Option<Rejected>, Moving> {
        let (load, write) = (&self.load, literal(&self.load.write));
        let gone = || Moving::Failed(exec_datafusion_err!("{} does not know of the load {}", load.loads(), load.write));
        let state = self.state(connection, "").await?.ok_or_else(gone)?;
        if state != "writing" {
            return Ok(None);
        }
        self.take_turn(connection).await.map_err(Moving::Failed)?;
        let into = if load.creates {
            if self.is_there(connection, &load.name).await? {
                let what = exec_datafusion_err!(
                    "MySQL has a table {} by now, which was not there when this load began; nothing was written: run it again to add the rows",
                    load.qualified()
                );
                return Err(Moving::Failed(what));
            }
            let new = load.in_database(&load.new_name());
            connection.execute(&format!("DROP TABLE IF EXISTS {new}")).await?;
            connection.execute(&load.creation()).await?;
            new
        } else {
            load.qualified()
        };
        let rejects = load.rejects().map_err(Moving::Failed)?;
        if rejects.is_some() {
            let all = load.in_database(&load.aside_name());
            connection.execute(&format!("DROP TABLE IF EXISTS {all}")).await?;
            connection.execute(&aside::create(&all)).await?;
        }
        self.check_keys(connection, staged).await.map_err(Moving::Failed)?;
        let before = Before::of(connection, load).await.map_err(Moving::Failed)?;
        connection.execute("START TRANSACTION").await?;
        if self.state(connection, " FOR UPDATE").await?.ok_or_else(gone)? != "writing" {
            connection.execute("ROLLBACK").await?;
            return Ok(None);
        }
        if matches!(before, Before::Empty) {
            // TRUNCATE would commit, and swapping tables by RENAME would too, and leave their foreign keys and triggers behind.
            connection.execute(&format!("DELETE FROM {into}")).await?;
        }
        let mut aside = rejects.as_ref().map(|rejects| Aside { sink: self, rejects, runtime, count: 0 });
        if let Some(aside) = &mut aside {
            aside.begin(connection, staged).await?;
        }
        let mut refused = 0;
        for Staged { table, rows, .. } in staged.iter().filter(|staged| staged.rows > 0) {
            let (moved, left) = match &mut aside {
                Some(aside) if !load.mode().has_key() => {
                    let names = load.names();
                    let (moved, of) = (load.moved(), load.in_database(table));
                    let insert = format!("INSERT INTO {into} ({names}) SELECT {moved} FROM {of}");
                    aside.move_table(connection, (table, &insert)).await?
                }
                _ => (self.move_table(connection, &before, (&into, table)).await?, 0),
            };
            refused += left;
            if moved + left != *rows {
                return Err(Moving::Failed(exec_datafusion_err!(
                    "the staged rows of {} are gone from the server: somebody has removed them; run the statement again",
                    load.qualified()
                )));
            }
        }
        let rows = staged.iter().map(|staged| staged.rows).sum::<u64>() - refused;
        let loaded = format!(
            "UPDATE {} SET `state` = 'loaded', `rows` = {rows}{} WHERE `write` = {write}",
            load.loads(),
            load.named()
        );
        if let Err(error) = connection.execute(&loaded).await {
            return Err(self.not_noted(connection, error).await.map_or_else(Moving::Failed, Moving::Refused));
        }
        // If nobody comes to commit it, it is not to stand in the way of who tries again.
        connection.execute("SET SESSION wait_timeout = 60").await?;
        Ok(aside.map(|aside| Rejected { rows: aside.count, written: refused }))
    }

    pub(super) async fn is_there(&self, connection: &mut Connection, table: &str) -> MysqlResult<bool> {
        let sql = format!(
            "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            literal(&self.load.database),
            literal(table)
        );
        Ok(connection.value(&sql).await?.is_some())
    }

    /// Tables of the database whose names begin so.
    pub(super) async fn tables(&self, connection: &mut Connection, prefix: &str) -> MysqlResult<Vec<String>> {
        let sql = format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND LEFT(TABLE_NAME, {}) = {}",
            literal(&self.load.database),
            prefix.chars().count(),
            literal(prefix)
        );
        Ok(connection.rows(&sql).await?.into_iter().flatten().flatten().collect())
    }

    /// Drops the tables that the write has made. Attempts that still write into them do not count, and are ended.
    pub(super) async fn drop_staged(&self, connection: &mut Connection) -> Result<()> {
        let prefix = self.load.prefix();
        for table in self.tables(connection, &prefix).await? {
            let users = format!(
                "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND LOCATE({}, INFO) > 0",
                literal(&table)
            );
            for session in connection.rows(&users).await?.into_iter().flatten().flatten() {
                match connection.execute(&format!("KILL {session}")).await {
                    // It has ended by itself.
                    Err(error) if error.code() != Some(1094) => return Err(error.into()),
                    _ => {}
                }
            }
            connection.execute(&format!("DROP TABLE IF EXISTS {}", self.load.in_database(&table))).await?;
        }
        Ok(())
    }

    /// Drops the tables of writes that nobody knows any more.
    pub(super) async fn drop_forgotten(&self, connection: &mut Connection) -> MysqlResult<()> {
        // The tables first: a write is known before it makes one.
        let tables = self.tables(connection, PREFIX).await?;
        let known = connection.rows(&format!("SELECT `write` FROM {}", self.load.loads())).await?;
        let known: Vec<String> = known.into_iter().flatten().flatten().collect();
        for table in tables {
            let id = table.get(PREFIX.len()..).and_then(|rest| rest.split_at_checked(ID));
            let Some((id, rest)) = id else { continue };
            let is_ours = rest.starts_with('_') && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            if is_ours && !known.iter().any(|write| write == id) {
                connection.execute(&format!("DROP TABLE IF EXISTS {}", self.load.in_database(&table))).await?;
            }
        }
        Ok(())
    }
}

/// The transaction that has moved the rows.
pub(super) struct Moved {
    pub connection: Connection,
    pub rejected: Option<Rejected>,
}

/// Why rows were not moved.
pub(super) enum Moving {
    Refused(MysqlError),
    Failed(DataFusionError),
}

impl From<MysqlError> for Moving {
    fn from(error: MysqlError) -> Self {
        Self::Refused(error)
    }
}
