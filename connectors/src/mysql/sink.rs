//! Writing: each attempt loads its rows into a staging table of its own, and one transaction moves those that count. Definitions of tables commit by themselves
//! in MySQL, so a target that is made is filled under another name, and renamed at the end.
//!
//! ```text
//!   begin      windlass_loads gets the write, as 'writing'
//!   attempt    CREATE TABLE windlass_WRITE_ATTEMPT; one transaction: LOAD DATA LOCAL, then looks that the write is still 'writing', and commits
//!   prepare    new target: CREATE TABLE windlass_WRITE_new
//!              one transaction, left open: the rows of the staging tables go into the target (or into _new), the write becomes 'loaded'
//!   publish    it is committed
//!              new target: RENAME TABLE windlass_WRITE_new TO target
//!              the staging tables are dropped
//!   abandon    the write is forgotten, and every table of it dropped
//! ```
//!
//! Whoever publishes after a crash finds how far it came:
//!
//! | `windlass_loads` | `windlass_WRITE_new` | what is left to do |
//! | --- | --- | --- |
//! | 'writing' | missing, or whatever is in it | all of prepare, anew |
//! | 'loaded' | is there | rename, drop |
//! | 'loaded' | missing | drop |
//!
//! An attempt that nobody waits for can commit rows only while it holds the write's record, and the record changes only when nobody holds it. A staging table
//! that it makes after the write was abandoned is empty; it drops it, or the next load of this database does.

use super::aside;
use super::error::{MysqlError, Result as MysqlResult};
use super::publish::{Moved, WAIT};
use super::relation::Relation;
use super::settings::{Location, Settings};
use super::target::{LOADS, Load, Staged, Way, into_new, into_present};
use super::wire::{Connection, Killer, literal, quoted};
use crate::load::{self, ANALYZED, Mode};
use crate::rejects::{BESIDE, Rejects};
use async_trait::async_trait;
use datafusion::common::{Result, exec_err, internal_datafusion_err, plan_err};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use prost::Message;
use std::fmt;
use std::sync::Arc;
use tokio::sync::Mutex;
use windlass_engine::connector::{Attempt, Encoded, Rejected, Sink, SinkRequest, TableSpec, Target, Written};

/// One write.
pub(super) struct MysqlSink {
    table: Arc<TableSpec>,
    pub load: Load,
    killer: Killer,
    /// On the primary, between [`Sink::prepare`] and [`Sink::publish`]: the transaction that has moved the rows.
    prepared: Mutex<Option<Moved>>,
}

impl fmt::Debug for MysqlSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlSink").field("target", &self.load.qualified()).finish_non_exhaustive()
    }
}

impl MysqlSink {
    /// # Errors
    /// The table cannot take rows of these columns, or not in this way.
    pub async fn new(
        table: Arc<TableSpec>,
        database: Option<&str>,
        target: Target,
        request: SinkRequest,
        settings: &Arc<Settings>,
        killer: Killer,
    ) -> Result<Self> {
        let mode = match request.overwrite {
            true => Mode::Replace,
            false => Mode::of(&table.options),
        };
        let given = load::key(&table.options, &request.schema)?;
        let load = table.options.text("load").unwrap_or_default().to_string();
        let rejects = Rejects::of(&table.options, &request.write, &request.schema)?;
        let name = super::name(&table);
        let mut connection = Connection::open(settings, &killer).await?;
        let relation = match target {
            Target::Present => Some(Relation::find(&mut connection, name, database).await?),
            Target::New | Target::Any => Relation::look(&mut connection, name, database).await?,
        };
        let load = match relation {
            Some(_) if target == Target::New => return plan_err!("MySQL has a table {name} already"),
            Some(relation) => {
                let key = match mode.has_key() {
                    true => super::load::key_of(&mut connection, &relation, given, &request.schema).await?,
                    false => Vec::new(),
                };
                into_present(&relation, name, request, Way { mode, key, load, rejects })?
            }
            None => {
                let key = load::key_of_new(mode, given)?;
                into_new(name, database, request, Way { mode, key, load, rejects })?
            }
        };
        Ok(Self { table, load, killer, prepared: Mutex::default() })
    }

    pub fn decode(encoded: Encoded<'_>, killer: Killer) -> Result<Self> {
        let load = Load::decode(encoded.bytes);
        let load = load.map_err(|error| internal_datafusion_err!("a write cannot be decoded: {error}"))?;
        Ok(Self { table: Arc::clone(encoded.table), load, killer, prepared: Mutex::default() })
    }

    pub async fn connection(&self) -> Result<Connection> {
        let settings = Arc::new(Location::parse(&self.table.location)?.settings(&self.table).await?);
        let mut connection = Connection::open(&settings, &self.killer).await?;
        connection.execute(&format!("SET SESSION lock_wait_timeout = {WAIT}")).await?;
        // A DELETE that names a table twice wants one.
        connection.execute(&format!("USE {}", quoted(&self.load.database))).await?;
        Ok(connection)
    }

    /// The same error, of the target.
    pub fn of_target(&self, table: &str, error: MysqlError) -> MysqlError {
        error.renamed(table, &self.load.name)
    }

    /// State of the write, whose record this transaction then holds as `how` says.
    pub async fn state(&self, connection: &mut Connection, how: &str) -> MysqlResult<Option<String>> {
        let (loads, write) = (self.load.loads(), literal(&self.load.write));
        connection.value(&format!("SELECT `state` FROM {loads} WHERE `write` = {write}{how}")).await
    }
}

#[async_trait]
impl Sink for MysqlSink {
    fn describe(&self) -> String {
        let is_new = if self.load.creates { ", new" } else { "" };
        let mode = self.load.mode().shown(&self.load.key);
        let rejects = self.load.rejects().ok().flatten().map(|rejects| rejects.shown()).unwrap_or_default();
        format!("table={}{is_new}{mode}{rejects}", self.load.qualified())
    }

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.load.encode_to_vec())
    }

    async fn begin(&self, runtime: &Arc<RuntimeEnv>) -> Result<()> {
        if let Some(rejects) = self.load.rejects()? {
            rejects.check(runtime).await?;
        }
        let mut connection = self.connection().await?;
        let loads = self.load.loads();
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {loads} (`write` varchar(64) CHARACTER SET ascii PRIMARY KEY, \
             `target` text CHARACTER SET utf8mb4 NOT NULL, `state` varchar(16) CHARACTER SET ascii NOT NULL, `rows` bigint, \
             `changed` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, \
             `load` text CHARACTER SET utf8mb4, `once` char(40) CHARACTER SET ascii UNIQUE) ENGINE = InnoDB"
        );
        connection.execute(&create).await?;
        self.check_name(&mut connection).await?;
        let (write, target) = (literal(&self.load.write), literal(&self.load.qualified()));
        let insert =
            format!("INSERT IGNORE INTO {loads} (`write`, `target`, `state`) VALUES ({write}, {target}, 'writing')");
        connection.execute(&insert).await?;
        if let Err(error) = self.drop_forgotten(&mut connection).await {
            tracing::debug!(%error, "staging tables of earlier loads of MySQL are left");
        }
        Ok(())
    }

    async fn write(&self, attempt: Attempt, rows: SendableRecordBatchStream, _: &Arc<TaskContext>) -> Result<Written> {
        let staging = format!("{}{}", self.load.prefix(), attempt.to_string().replace('-', "_"));
        let mut connection = self.connection().await?;
        let over = || exec_err!("the load {} has ended without this attempt", self.load.write);
        if self.state(&mut connection, "").await?.as_deref() != Some("writing") {
            return over();
        }
        let beside = self.load.in_database(&format!("{staging}{BESIDE}"));
        connection.execute(&self.load.staging(&staging)).await?;
        if self.load.sets_aside() {
            connection.execute(&aside::create(&beside)).await?;
        }
        connection.execute("START TRANSACTION").await?;
        let (rows, aside) = self.stage(&mut connection, &staging, rows).await?;
        aside::put(&mut connection, &beside, &aside).await?;
        if self.state(&mut connection, " LOCK IN SHARE MODE").await?.as_deref() != Some("writing") {
            connection.execute("ROLLBACK").await?;
            connection.execute(&format!("DROP TABLE IF EXISTS {}, {beside}", self.load.in_database(&staging))).await?;
            return over();
        }
        connection.execute("COMMIT").await?;
        let rejected = aside.len() as u64;
        if let Some(rejects) = self.load.rejects()?.filter(|rejects| rejected > rejects.most) {
            return Err(rejects.exceeded(&aside));
        }
        Ok(Written { rows, token: Staged { table: staging, rows, rejected }.encode_to_vec() })
    }

    async fn prepare(&self, tokens: &[Vec<u8>], runtime: &Arc<RuntimeEnv>) -> Result<()> {
        *self.prepared.lock().await = Some(self.moved(tokens, runtime).await?);
        Ok(())
    }

    fn rejected(&self) -> Option<Rejected> {
        // Nobody holds it but one step of the write at a time.
        self.prepared.try_lock().ok()?.as_ref()?.rejected
    }

    async fn publish(&self, tokens: &[Vec<u8>], runtime: &Arc<RuntimeEnv>) -> Result<()> {
        let prepared = self.prepared.lock().await.take();
        let committed = match prepared {
            Some(Moved { mut connection, .. }) => connection.execute("COMMIT").await.map(|_| connection),
            None => Err(MysqlError::Value("nothing was prepared".to_string())),
        };
        let mut connection = match committed {
            Ok(connection) => connection,
            // Whether it was committed is found in the target.
            Err(error) => {
                tracing::debug!(%error, "a load of MySQL is published anew");
                let Moved { mut connection, .. } = self.moved(tokens, runtime).await?;
                connection.execute("COMMIT").await?;
                connection
            }
        };
        let new = self.load.new_name();
        if self.load.creates && self.is_there(&mut connection, &new).await? {
            let rename = format!("RENAME TABLE {} TO {}", self.load.in_database(&new), self.load.qualified());
            connection.execute(&rename).await?;
        }
        // The rows are there: what is left over does not undo that.
        self.publish_rejects(&mut connection, runtime).await?;
        self.drop_staged(&mut connection).await?;
        let staged = tokens.iter().filter_map(|token| Staged::decode(token.as_slice()).ok());
        let rows: u64 = staged.map(|staged| staged.rows).sum();
        if (self.load.creates || rows >= ANALYZED)
            && let Err(error) = connection.rows(&format!("ANALYZE TABLE {}", self.load.qualified())).await
        {
            tracing::debug!(%error, "the server has no statistics of what was loaded");
        }
        Ok(())
    }

    async fn abandon(&self, runtime: &Arc<RuntimeEnv>) -> Result<()> {
        // It rolls back where it is dropped.
        drop(self.prepared.lock().await.take());
        let mut connection = self.connection().await?;
        if self.is_there(&mut connection, LOADS).await? {
            let (loads, write) = (self.load.loads(), literal(&self.load.write));
            connection.execute(&format!("DELETE FROM {loads} WHERE `write` = {write} AND `state` = 'writing'")).await?;
        }
        if let Err(error) = self.keep_failed(&mut connection, runtime).await {
            tracing::warn!(%error, "the rejects of a load that has failed are lost");
        }
        self.drop_staged(&mut connection).await
    }
}
