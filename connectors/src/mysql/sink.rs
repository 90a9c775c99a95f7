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

use super::encode::{Column, Encoder, Form};
use super::error::{MysqlError, Result as MysqlResult};
use super::relation::{Relation, qualified};
use super::settings::{Location, Settings};
use super::types::{Wire, created};
use super::wire::{Connection, Killer, literal, quoted};
use async_trait::async_trait;
use datafusion::arrow::datatypes::Field;
use datafusion::common::{
    Result, exec_datafusion_err, exec_err, internal_datafusion_err, plan_datafusion_err, plan_err,
};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use futures::{TryStreamExt, stream};
use prost::Message;
use std::fmt;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc};
use windlass_engine::connector::{Attempt, Encoded, Sink, SinkRequest, TableSpec, Target, Written};

/// Names the loads of a database, each once.
const LOADS: &str = "windlass_loads";
/// The beginning of the names of all tables that loads make.
const PREFIX: &str = "windlass_";
/// Letters of a write's id.
const ID: usize = 32;
/// Tries of a transaction that the server gives up because of a deadlock.
const TRIES: u32 = 5;
/// Seconds that a definition waits for sessions that use its table, and a load for others into the same new table.
const WAIT: u32 = 20;
/// The row's number in a staging table: some servers want a primary key.
const ROW: &str = "windlass_row";

/// A sink as every node knows it.
#[derive(Clone, PartialEq, Message)]
struct Load {
    /// Given to no other write.
    #[prost(string, tag = "1")]
    write: String,
    #[prost(string, tag = "2")]
    database: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(message, repeated, tag = "4")]
    columns: Vec<LoadColumn>,
    /// Whether it makes the target.
    #[prost(bool, tag = "5")]
    creates: bool,
}

#[derive(Clone, PartialEq, Message)]
struct LoadColumn {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    wire: String,
    /// As SQL writes its type.
    #[prost(string, tag = "3")]
    kind: String,
    #[prost(bool, tag = "4")]
    not_null: bool,
    /// Digits of a second's fraction.
    #[prost(uint32, tag = "5")]
    fraction: u32,
}

/// The staging table that an attempt left.
#[derive(Clone, PartialEq, Message)]
struct Staged {
    #[prost(string, tag = "1")]
    table: String,
    #[prost(uint64, tag = "2")]
    rows: u64,
}

/// One write.
pub(super) struct MysqlSink {
    table: Arc<TableSpec>,
    load: Load,
    killer: Killer,
    /// On the primary, between [`Sink::prepare`] and [`Sink::publish`]: the transaction that has moved the rows.
    prepared: Mutex<Option<Connection>>,
}

impl fmt::Debug for MysqlSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlSink").field("target", &self.load.qualified()).finish_non_exhaustive()
    }
}

impl Load {
    fn qualified(&self) -> String {
        self.in_database(&self.name)
    }

    fn in_database(&self, table: &str) -> String {
        format!("{}.{}", quoted(&self.database), quoted(table))
    }

    fn loads(&self) -> String {
        self.in_database(LOADS)
    }

    /// All tables that the write makes begin so.
    fn prefix(&self) -> String {
        format!("{PREFIX}{}_", self.write)
    }

    /// The new target until it is published.
    fn new_name(&self) -> String {
        format!("{}new", self.prefix())
    }

    fn columns(&self) -> Result<Vec<Column>> {
        let column = |column: &LoadColumn| {
            let wire = Wire::parse(&column.wire);
            let wire = wire.ok_or_else(|| internal_datafusion_err!("'{}' is no type of MySQL", column.wire))?;
            let LoadColumn { name, not_null, fraction, .. } = column.clone();
            Ok(Column { name, wire, not_null, fraction })
        };
        self.columns.iter().map(column).collect()
    }

    fn names(&self) -> String {
        self.columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ")
    }

    fn definitions(&self) -> String {
        let column = |column: &LoadColumn| {
            let null = if column.not_null { "NOT NULL" } else { "NULL" };
            format!("{} {} {null}", quoted(&column.name), column.kind)
        };
        self.columns.iter().map(column).collect::<Vec<_>>().join(", ")
    }

    fn staging(&self, table: &str) -> String {
        format!(
            "CREATE TABLE {} ({}, {} bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY) ENGINE = InnoDB",
            self.in_database(table),
            self.definitions(),
            quoted(ROW)
        )
    }

    fn loading(&self, table: &str, columns: &[Column]) -> String {
        let (mut fields, mut made) = (Vec::new(), Vec::new());
        for (at, column) in columns.iter().enumerate() {
            let variable = format!("@windlass_{at}");
            match column.expression(&variable) {
                Some(expression) => {
                    made.push(format!("{} = {expression}", quoted(&column.name)));
                    fields.push(variable);
                }
                None => fields.push(quoted(&column.name)),
            }
        }
        let made = if made.is_empty() { String::new() } else { format!(" SET {}", made.join(", ")) };
        format!(
            "LOAD DATA LOCAL INFILE 'windlass' INTO TABLE {} CHARACTER SET utf8mb4 \
             FIELDS TERMINATED BY '\\t' ENCLOSED BY '' ESCAPED BY '\\\\' LINES STARTING BY '' TERMINATED BY '\\n' ({}){made}",
            self.in_database(table),
            fields.join(", ")
        )
    }

    /// An expression: the name of the lock of who makes this target.
    fn lock_name(&self) -> String {
        format!("CONCAT('{PREFIX}', SHA1({}))", literal(&self.qualified()))
    }
}

impl MysqlSink {
    /// # Errors
    /// The table cannot take rows of these columns, or not in this way.
    pub async fn new(
        table: Arc<TableSpec>,
        database: &str,
        target: Target,
        request: SinkRequest,
        settings: &Arc<Settings>,
        killer: Killer,
    ) -> Result<Self> {
        if request.overwrite {
            return plan_err!("rows of a table of MySQL are not replaced: use INSERT INTO");
        }
        let name = super::name(&table);
        let mut connection = Connection::open(settings, &killer).await?;
        let relation = match target {
            Target::Present => Some(Relation::find(&mut connection, name, database).await?),
            Target::New | Target::Any => Relation::look(&mut connection, name, database).await?,
        };
        let load = match relation {
            Some(_) if target == Target::New => return plan_err!("MySQL has a table {name} already"),
            Some(relation) => into_present(&relation, name, request)?,
            None => into_new(name, database, request)?,
        };
        Ok(Self { table, load, killer, prepared: Mutex::default() })
    }

    pub fn decode(encoded: Encoded<'_>, killer: Killer) -> Result<Self> {
        let load = Load::decode(encoded.bytes);
        let load = load.map_err(|error| internal_datafusion_err!("a write cannot be decoded: {error}"))?;
        Ok(Self { table: Arc::clone(encoded.table), load, killer, prepared: Mutex::default() })
    }

    async fn connection(&self) -> Result<Connection> {
        let settings = Arc::new(Location::parse(&self.table.location)?.settings(&self.table).await?);
        let mut connection = Connection::open(&settings, &self.killer).await?;
        connection.execute(&format!("SET SESSION lock_wait_timeout = {WAIT}")).await?;
        Ok(connection)
    }

    /// The same error, of the target.
    fn of_target(&self, table: &str, error: MysqlError) -> MysqlError {
        error.renamed(table, &self.load.name)
    }

    /// State of the write, whose record this transaction then holds as `how` says.
    async fn state(&self, connection: &mut Connection, how: &str) -> MysqlResult<Option<String>> {
        let (loads, write) = (self.load.loads(), literal(&self.load.write));
        connection.value(&format!("SELECT `state` FROM {loads} WHERE `write` = {write}{how}")).await
    }

    /// Loads rows into a staging table, in the transaction that is open. Returns their number.
    async fn stage(&self, connection: &mut Connection, staging: &str, rows: SendableRecordBatchStream) -> Result<u64> {
        match connection.takes_files {
            true => self.stage_lines(connection, staging, rows).await,
            // It is slower, and needs nothing of the server.
            false => self.stage_rows(connection, staging, rows).await,
        }
    }

    async fn stage_lines(
        &self,
        connection: &mut Connection,
        staging: &str,
        mut rows: SendableRecordBatchStream,
    ) -> Result<u64> {
        let columns = self.load.columns()?;
        let sql = self.load.loading(staging, &columns);
        let mut encoder = Encoder::new(columns, Form::Lines);
        let (sender, mut receiver) = mpsc::channel(1);
        let loading = async {
            let pieces = stream::poll_fn(move |context| receiver.poll_recv(context));
            let loaded = connection.load(&sql, pieces).await;
            loaded.map_err(|error| match error.code() {
                Some(1148 | 3948 | 4166) => exec_datafusion_err!(
                    "{error}: MySQL takes no LOAD DATA LOCAL: set local_infile = ON, or OFF so that rows are inserted instead"
                ),
                _ => self.of_target(staging, error).into(),
            })
        };
        let feeding = async {
            while let Some(batch) = rows.try_next().await? {
                let batch = encoder.prepared(&batch)?;
                let mut from = 0;
                while from < batch.rows {
                    from = encoder.take(&batch, from)?;
                    // Who does not listen any more says why.
                    if encoder.is_full() && sender.send(Ok(encoder.piece().into())).await.is_err() {
                        return Ok(());
                    }
                }
            }
            if !encoder.is_empty() {
                let _ = sender.send(Ok(encoder.piece().into())).await;
            }
            drop(sender);
            Ok::<_, datafusion::common::DataFusionError>(())
        };
        // If one of them fails, the other one is dropped, and with it the connection.
        let ((loaded, warnings), ()) = futures::future::try_join(loading, feeding).await?;
        let sent = encoder.rows();
        if warnings > 0 || loaded != sent {
            self.complain(connection, staging, "").await?;
            return exec_err!("MySQL has loaded {loaded} of {sent} rows into {}", self.load.qualified());
        }
        Ok(sent)
    }

    async fn stage_rows(
        &self,
        connection: &mut Connection,
        staging: &str,
        mut rows: SendableRecordBatchStream,
    ) -> Result<u64> {
        let mut encoder = Encoder::new(self.load.columns()?, Form::Rows);
        let insert = format!("INSERT INTO {} ({}) VALUES ", self.load.in_database(staging), self.load.names());
        let mut done = 0;
        loop {
            let batch = rows.try_next().await?;
            let batch = batch.as_ref().map(|batch| encoder.prepared(batch)).transpose()?;
            let mut from = 0;
            loop {
                if let Some(batch) = &batch {
                    from = encoder.take(batch, from)?;
                }
                if encoder.is_full() || (batch.is_none() && !encoder.is_empty()) {
                    // Values are escaped, so that they are UTF-8 as they were.
                    let values = String::from_utf8_lossy(&encoder.piece()).into_owned();
                    let inserted = connection.execute(&format!("{insert}{values}")).await;
                    inserted.map_err(|error| self.of_target(staging, error))?;
                    if connection.warnings() > 0 {
                        self.complain(connection, staging, &format!(", behind row {done}")).await?;
                    }
                    done = encoder.rows();
                }
                if batch.as_ref().is_none_or(|batch| from >= batch.rows) {
                    break;
                }
            }
            if batch.is_none() {
                return Ok(encoder.rows());
            }
        }
    }

    /// The first warning of the last statement, as an error: with LOCAL, the server warns where it would refuse, and changes the value.
    async fn complain(&self, connection: &mut Connection, staging: &str, place: &str) -> Result<()> {
        let warnings = connection.rows("SHOW WARNINGS LIMIT 1").await?;
        let Some([_, code, Some(message)]) = warnings.first().map(Vec::as_slice) else { return Ok(()) };
        let code = code.as_deref().unwrap_or_default();
        exec_err!("MySQL: {}{place} (warning {code})", message.replace(staging, &self.load.name))
    }

    /// Moves the rows, in a transaction that is left open. False: that was done before.
    async fn moved(&self, tokens: &[Vec<u8>]) -> Result<(Connection, bool)> {
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
            match self.move_once(&mut connection, &staged).await {
                Ok(is_new) => return Ok((connection, is_new)),
                Err(Moving::Refused(error)) if error.is_deadlock() && tried < TRIES => {
                    connection.execute("ROLLBACK").await?;
                }
                Err(Moving::Refused(error)) => return Err(error.into()),
                Err(Moving::Failed(error)) => return Err(error),
            }
        }
        unreachable!("tries have no end before the last one")
    }

    async fn move_once(&self, connection: &mut Connection, staged: &[Staged]) -> Result<bool, Moving> {
        let (load, write) = (&self.load, literal(&self.load.write));
        let gone = || Moving::Failed(exec_datafusion_err!("{} does not know of the load {}", load.loads(), load.write));
        let state = self.state(connection, "").await?.ok_or_else(gone)?;
        if state != "writing" {
            return Ok(false);
        }
        let into = if load.creates {
            if self.is_there(connection, &load.name).await? {
                let what = exec_datafusion_err!("MySQL has a table {} already", load.qualified());
                return Err(Moving::Failed(what));
            }
            let new = load.in_database(&load.new_name());
            connection.execute(&format!("DROP TABLE IF EXISTS {new}")).await?;
            let charset = "ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4";
            connection.execute(&format!("CREATE TABLE {new} ({}) {charset}", load.definitions())).await?;
            new
        } else {
            load.qualified()
        };
        connection.execute("START TRANSACTION").await?;
        if self.state(connection, " FOR UPDATE").await?.ok_or_else(gone)? != "writing" {
            connection.execute("ROLLBACK").await?;
            return Ok(false);
        }
        let names = load.names();
        for Staged { table, rows } in staged.iter().filter(|staged| staged.rows > 0) {
            let insert = format!("INSERT INTO {into} ({names}) SELECT {names} FROM {}", load.in_database(table));
            let moved = connection.execute(&insert).await.map_err(|error| self.of_target(table, error))?;
            if moved != *rows {
                return Err(Moving::Failed(exec_datafusion_err!(
                    "the staged rows of {} are gone from the server: somebody has removed them; run the statement again",
                    load.qualified()
                )));
            }
        }
        let rows: u64 = staged.iter().map(|staged| staged.rows).sum();
        let loaded = format!("UPDATE {} SET `state` = 'loaded', `rows` = {rows} WHERE `write` = {write}", load.loads());
        connection.execute(&loaded).await?;
        // If nobody comes to commit it, it is not to stand in the way of who tries again.
        connection.execute("SET SESSION wait_timeout = 60").await?;
        Ok(true)
    }

    async fn is_there(&self, connection: &mut Connection, table: &str) -> MysqlResult<bool> {
        let sql = format!(
            "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            literal(&self.load.database),
            literal(table)
        );
        Ok(connection.value(&sql).await?.is_some())
    }

    /// Tables of the database whose names begin so.
    async fn tables(&self, connection: &mut Connection, prefix: &str) -> MysqlResult<Vec<String>> {
        let sql = format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND LEFT(TABLE_NAME, {}) = {}",
            literal(&self.load.database),
            prefix.chars().count(),
            literal(prefix)
        );
        Ok(connection.rows(&sql).await?.into_iter().flatten().flatten().collect())
    }

    /// Drops the tables that the write has made. Attempts that still write into them do not count, and are ended.
    async fn drop_staged(&self, connection: &mut Connection) -> Result<()> {
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
    async fn drop_forgotten(&self, connection: &mut Connection) -> MysqlResult<()> {
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

/// Why rows were not moved.
enum Moving {
    Refused(MysqlError),
    Failed(datafusion::common::DataFusionError),
}

impl From<MysqlError> for Moving {
    fn from(error: MysqlError) -> Self {
        Self::Refused(error)
    }
}

fn into_present(relation: &Relation, name: &str, request: SinkRequest) -> Result<Load> {
    if relation.is_view {
        return plan_err!("{name} of MySQL is a view, so nothing is inserted into it");
    }
    if !relation.is_transactional {
        return plan_err!(
            "the engine of {name} of MySQL has no transactions, so rows cannot be written all or nothing: use InnoDB"
        );
    }
    let column = |field: &Arc<Field>| {
        let known = relation.column(field.name());
        let known = known.ok_or_else(|| plan_datafusion_err!("{name} of MySQL has no column {}", field.name()))?;
        if known.is_generated {
            return plan_err!(
                "the column {} of MySQL is computed by the server: leave it out of the table's columns",
                field.name()
            );
        }
        let wire = known.kind.written_as(field.data_type());
        let wire = wire.map_err(|why| plan_datafusion_err!("the column {} of MySQL {why}", field.name()))?;
        Ok(LoadColumn {
            name: known.name.clone(),
            wire: wire.to_string(),
            kind: known.kind.definition(),
            not_null: known.not_null,
            fraction: known.kind.fraction.unwrap_or(0),
        })
    };
    let columns = request.schema.fields().iter().map(column).collect::<Result<_>>()?;
    let (database, name) = (relation.database.clone(), relation.name.clone());
    Ok(Load { write: request.write, database, name, columns, creates: false })
}

fn into_new(name: &str, database: &str, request: SinkRequest) -> Result<Load> {
    let (database, name) = qualified(name, database)?;
    let column = |field: &Arc<Field>| {
        let made = created(field.data_type()).and_then(|kind| Ok((kind.written_as(field.data_type())?, kind)));
        let (wire, kind) =
            made.map_err(|why| plan_datafusion_err!("the column {} cannot be created: {why}", field.name()))?;
        Ok(LoadColumn {
            name: field.name().clone(),
            wire: wire.to_string(),
            kind: kind.definition(),
            not_null: false,
            fraction: kind.fraction.unwrap_or(0),
        })
    };
    let columns = request.schema.fields().iter().map(column).collect::<Result<_>>()?;
    Ok(Load { write: request.write, database, name, columns, creates: true })
}

#[async_trait]
impl Sink for MysqlSink {
    fn describe(&self) -> String {
        format!("table={}", self.load.qualified())
    }

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.load.encode_to_vec())
    }

    async fn begin(&self, _: &Arc<RuntimeEnv>) -> Result<()> {
        let mut connection = self.connection().await?;
        let loads = self.load.loads();
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {loads} (`write` varchar(64) CHARACTER SET ascii PRIMARY KEY, \
             `target` text CHARACTER SET utf8mb4 NOT NULL, `state` varchar(16) CHARACTER SET ascii NOT NULL, `rows` bigint, \
             `changed` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP) ENGINE = InnoDB"
        );
        connection.execute(&create).await?;
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
        connection.execute(&self.load.staging(&staging)).await?;
        connection.execute("START TRANSACTION").await?;
        let rows = self.stage(&mut connection, &staging, rows).await?;
        if self.state(&mut connection, " LOCK IN SHARE MODE").await?.as_deref() != Some("writing") {
            connection.execute("ROLLBACK").await?;
            connection.execute(&format!("DROP TABLE IF EXISTS {}", self.load.in_database(&staging))).await?;
            return over();
        }
        connection.execute("COMMIT").await?;
        Ok(Written { rows, token: Staged { table: staging, rows }.encode_to_vec() })
    }

    async fn prepare(&self, tokens: &[Vec<u8>], _: &Arc<RuntimeEnv>) -> Result<()> {
        *self.prepared.lock().await = Some(self.moved(tokens).await?.0);
        Ok(())
    }

    async fn publish(&self, tokens: &[Vec<u8>], _: &Arc<RuntimeEnv>) -> Result<()> {
        let prepared = self.prepared.lock().await.take();
        let committed = match prepared {
            Some(mut connection) => connection.execute("COMMIT").await.map(|_| connection),
            None => Err(MysqlError::Value("nothing was prepared".to_string())),
        };
        let mut connection = match committed {
            Ok(connection) => connection,
            // Whether it was committed is found in the target.
            Err(error) => {
                tracing::debug!(%error, "a load of MySQL is published anew");
                let (mut connection, _) = self.moved(tokens).await?;
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
        self.drop_staged(&mut connection).await
    }

    async fn abandon(&self, _: &Arc<RuntimeEnv>) -> Result<()> {
        // It rolls back where it is dropped.
        drop(self.prepared.lock().await.take());
        let mut connection = self.connection().await?;
        if self.is_there(&mut connection, LOADS).await? {
            let (loads, write) = (self.load.loads(), literal(&self.load.write));
            connection.execute(&format!("DELETE FROM {loads} WHERE `write` = {write} AND `state` = 'writing'")).await?;
        }
        self.drop_staged(&mut connection).await
    }
}
