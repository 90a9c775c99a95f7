//! Writing: each attempt copies its rows into a staging table of its own, and one transaction moves those that count.
//!
//! ```text
//!   begin      windlass_loads gets the write, as 'writing'
//!   attempt    one transaction: CREATE TABLE windlass_WRITE_ATTEMPT, COPY, then looks that the write is still 'writing', and commits
//!   prepare    one transaction, left open: the target is created, if the write does that, or its rows are deleted, if the write replaces them;
//!              the rows of the staging tables go into it, and the write becomes 'loaded'
//!   publish    it is committed; where it is gone with the primary, the next one does it anew, unless the write is 'loaded'
//!   abandon    the write is forgotten, and every staging table of it dropped
//! ```
//!
//! Rows of a table that the write creates, and that need no cast, are not moved: all attempts copy into one table, which gets the target's name.
//!
//! ```text
//!   begin      CREATE TABLE windlass_WRITE_rows, and windlass_WRITE_parts, which has a row for each partition
//!   attempt    one transaction: COPY into the former, a row in the latter. If another attempt of the partition was faster, it is rolled back
//!   prepare    the sessions of attempts that nobody waits for are ended, and the table is renamed
//! ```
//!
//! An attempt that nobody waits for can commit a staging table only while it holds the write's record, and the record changes only when nobody
//! holds it: whoever publishes or abandons sees all staging tables that there will ever be.

use super::aside::{self, Aside, lenient};
use super::create::Created;
use super::encode::{Encoder, Fit, base_type, staged_type};
use super::error::PostgresError;
use super::load::{self, Keyed, quoted_all};
use super::relation::{self, Relation};
use super::settings::{Location, Settings};
use super::types::Wire;
use super::wire::{Canceller, Connection, literal, quoted};
use crate::load::{self as load_options, ANALYZED, Mode};
use crate::rejects::{self, BESIDE, ROW, Rejects};
use async_trait::async_trait;
use datafusion::arrow::datatypes::{FieldRef, Schema};
use datafusion::common::{Result, exec_err, internal_datafusion_err, plan_datafusion_err, plan_err};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use futures::TryStreamExt;
use prost::Message;
use std::fmt;
use std::sync::Arc;
use tokio::sync::Mutex;
use windlass_engine::Place;
use windlass_engine::connector::{Attempt, Encoded, Rejected, Sink, SinkRequest, TableSpec, Written};

/// Names the loads of a schema, each once.
const LOADS: &str = "windlass_loads";
/// More rows than a block has.
const PLACES: u64 = 2048;
/// Letters of a row that an error shows.
const SHOWN: usize = 300;
/// A sink as every node knows it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Target {
    /// Given to no other write.
    #[prost(string, tag = "1")]
    write: String,
    #[prost(string, tag = "2")]
    schema: String,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(message, repeated, tag = "4")]
    columns: Vec<TargetColumn>,
    /// Whether the write creates it.
    #[prost(bool, tag = "5")]
    is_new: bool,
    /// Whether a value that would lose digits is an error.
    #[prost(bool, tag = "6")]
    is_exact: bool,
    #[prost(enumeration = "Mode", tag = "7")]
    mode: i32,
    /// Columns by which rows are replaced.
    #[prost(string, repeated, tag = "8")]
    key: Vec<String>,
    /// The user's name of the load. Empty: it has none.
    #[prost(string, tag = "9")]
    load: String,
    /// URL of the file for rows that the target does not take. Empty: such a row fails the load.
    #[prost(string, tag = "10")]
    rejects: String,
    #[prost(uint64, tag = "11")]
    max_rejects: u64,
}

/// What a write does to its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writes {
    /// Inserts rows, as INSERT does on the server.
    Into,
    /// Adds rows whose values lose nothing.
    Added,
    /// Creates it, with the rows.
    New,
}

#[derive(Clone, PartialEq, Message)]
struct TargetColumn {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    wire: String,
    /// As SQL writes its type.
    #[prost(string, tag = "3")]
    kind: String,
    #[prost(bool, tag = "4")]
    not_null: bool,
}

/// The staging table that an attempt left.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Staged {
    #[prost(string, tag = "1")]
    pub table: String,
    #[prost(uint64, tag = "2")]
    pub rows: u64,
    /// Rows that were set aside.
    #[prost(uint64, tag = "3")]
    pub rejected: u64,
}

/// The transaction that has moved the rows.
struct Moved {
    connection: Connection,
    rejected: Option<Rejected>,
}

/// One write.
pub(super) struct PostgresSink {
    table: Arc<TableSpec>,
    pub target: Target,
    canceller: Canceller,
    /// On the primary, between [`Sink::prepare`] and [`Sink::publish`].
    prepared: Mutex<Option<Moved>>,
}

impl fmt::Debug for PostgresSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSink").field("target", &self.target.qualified()).finish_non_exhaustive()
    }
}

impl Target {
    fn qualified(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    pub fn in_schema(&self, table: &str) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(table))
    }

    fn loads(&self) -> String {
        self.in_schema(LOADS)
    }

    /// All staging tables of the write begin so.
    pub fn prefix(&self) -> String {
        format!("windlass_{}_", self.write)
    }

    /// The table of rows that are set aside.
    pub fn aside(&self) -> String {
        format!("{}no", self.prefix())
    }

    /// Whether all attempts copy into the table that becomes the target.
    fn is_direct(&self) -> Result<bool> {
        let is_cast =
            |(column, (_, wire)): (&TargetColumn, &(String, Wire))| staged_type(wire, &column.kind) != column.kind;
        let any_cast = self.columns.iter().zip(&self.columns()?).any(is_cast);
        Ok(self.is_new && !self.mode().has_key() && !self.is_lenient() && !any_cast)
    }

    /// That table, by its name.
    fn becoming(&self) -> String {
        format!("{}rows", self.prefix())
    }

    /// The table of the partitions whose rows are in it.
    fn parts(&self) -> String {
        self.in_schema(&format!("{}parts", self.prefix()))
    }

    /// `None`: a row that the target does not take fails the load.
    pub fn rejects(&self) -> Result<Option<Rejects>> {
        match self.rejects.is_empty() {
            true => Ok(None),
            false => Ok(Some(Rejects { place: Place::from_url(&self.rejects)?, most: self.max_rejects })),
        }
    }

    /// Whether staging tables take what the target may not take.
    fn is_lenient(&self) -> bool {
        !self.rejects.is_empty()
    }

    fn columns(&self) -> Result<Vec<(String, Wire)>> {
        let column = |column: &TargetColumn| {
            let wire = Wire::parse(&column.wire);
            let wire = wire.ok_or_else(|| internal_datafusion_err!("'{}' is no type of PostgreSQL", column.wire))?;
            Ok((column.name.clone(), wire))
        };
        self.columns.iter().map(column).collect()
    }

    pub fn names(&self) -> String {
        self.columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ")
    }

    fn staging(&self, staging: &str) -> Result<String> {
        let wires = self.columns()?;
        let column = |(column, (name, wire)): (&TargetColumn, &(String, Wire))| {
            if self.is_lenient() {
                return format!("{} {}", quoted(name), base_type(wire));
            }
            let not_null = if column.not_null { " NOT NULL" } else { "" };
            format!("{} {}{not_null}", quoted(name), staged_type(wire, &column.kind))
        };
        let mut columns: Vec<String> = self.columns.iter().zip(&wires).map(column).collect();
        if self.is_lenient() {
            columns.push(format!("{ROW} bigint GENERATED ALWAYS AS IDENTITY"));
        }
        // It lives for minutes: nobody is to vacuum it.
        Ok(format!("CREATE TABLE {staging} ({}) WITH (autovacuum_enabled = false)", columns.join(", ")))
    }

    fn created(&self) -> String {
        let column = |column: &TargetColumn| {
            let not_null = if column.not_null { " NOT NULL" } else { "" };
            format!("{} {}{not_null}", quoted(&column.name), column.kind)
        };
        let mut columns: Vec<String> = self.columns.iter().map(column).collect();
        if !self.key.is_empty() {
            columns.push(format!("PRIMARY KEY ({})", quoted_all(&self.key)));
        }
        format!("CREATE TABLE {} ({})", self.qualified(), columns.join(", "))
    }

    /// Positions of the columns that are NOT NULL.
    fn not_null(&self) -> Vec<usize> {
        let columns = self.columns.iter().enumerate();
        columns.filter(|(_, column)| column.not_null).map(|(position, _)| position).collect()
    }

    fn fit(&self) -> Fit {
        if self.is_exact { Fit::Exact } else { Fit::Nearest }
    }

    /// The columns of a staging table as the target wants them.
    fn moved(&self) -> Result<String> {
        let wires = self.columns()?;
        let column = |(column, (name, wire)): (&TargetColumn, &(String, Wire))| match staged_type(wire, &column.kind) {
            // Where it is assigned, a text that is too long is an error; a cast would cut it.
            _ if self.is_lenient() && !wire.is_cast() => quoted(name),
            kind if kind == column.kind => quoted(name),
            _ => format!("{}::{}", quoted(name), column.kind),
        };
        Ok(self.columns.iter().zip(&wires).map(column).collect::<Vec<_>>().join(", "))
    }
}

/// The first row of a table for which a query fails, as an error shows it. `None`: it cannot be found.
async fn first_failing(connection: &mut Connection, table: &str, query: &str) -> Option<String> {
    async fn number(connection: &mut Connection, sql: &str) -> Option<u32> {
        connection.execute(sql).await.ok()?.into_iter().flatten().flatten().next()?.parse().ok()
    }
    let blocks = format!("SELECT pg_catalog.pg_relation_size({}::regclass) / 8192", literal(table));
    let blocks = number(connection, &blocks).await?;
    let place = |at: u64| format!("'({},{})'", at / PLACES, at % PLACES);
    // It succeeds for the rows before `low`, and fails for those before `high`.
    let (mut low, mut high) = (0, u64::from(blocks) * PLACES);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match connection.execute(&format!("{query} WHERE ctid < {}", place(middle))).await {
            Ok(_) => low = middle,
            Err(_) => high = middle,
        }
    }
    let row = format!("SELECT pg_catalog.left(t::text, {SHOWN}) FROM {table} t WHERE ctid = {}", place(low));
    let row = connection.execute(&row).await.ok()?.into_iter().flatten().flatten().next()?;
    Some(format!(" of the row {row}"))
}

/// A key has a value in each of its columns.
fn require_values(columns: &mut [TargetColumn], key: &[String]) {
    columns.iter_mut().filter(|column| key.contains(&column.name)).for_each(|column| column.not_null = true);
}

impl PostgresSink {
    /// `kept`: the columns of the table.
    ///
    /// # Errors
    /// The table cannot take rows of these columns, or not in this way; or it is to be created, and there is one.
    pub async fn new(
        table: Arc<TableSpec>,
        request: SinkRequest,
        (writes, kept): (Writes, &Schema),
        settings: &Arc<Settings>,
        canceller: Canceller,
    ) -> Result<Self> {
        let mode = match request.overwrite {
            true => Mode::Replace,
            false => Mode::of(&table.options),
        };
        let load = table.options.text("load").unwrap_or_default().to_string();
        let given = load_options::key(&table.options, &request.schema)?;
        let rejects = Rejects::of(&table.options, &request.write, &request.schema)?;
        let max_rejects = rejects.as_ref().map_or(0, |rejects| rejects.most);
        let staged = |wire| if rejects.is_some() { lenient(wire) } else { wire };
        let mut connection = Connection::open(settings, &canceller).await?;
        if writes == Writes::New {
            let (schema, name) = relation::free(&mut connection, super::name(&table)).await?;
            let column = |field: &FieldRef| {
                let created = Created::of(field.data_type());
                let created = created.map_err(|why| plan_datafusion_err!("the column {} {why}", field.name()))?;
                let not_null = kept.field_with_name(field.name()).is_ok_and(|kept| !kept.is_nullable());
                Ok(TargetColumn {
                    name: field.name().clone(),
                    wire: staged(created.wire).to_string(),
                    kind: created.kind,
                    not_null,
                })
            };
            let mut columns: Vec<TargetColumn> = request.schema.fields().iter().map(column).collect::<Result<_>>()?;
            let key = load_options::key_of_new(mode, given)?;
            require_values(&mut columns, &key);
            let (mode, is_new) = (mode.into(), true);
            let rejects = rejects.map(|rejects| rejects.place.url()).unwrap_or_default();
            let (write, is_exact) = (request.write, true);
            let target =
                Target { write, schema, name, columns, is_new, is_exact, mode, key, load, rejects, max_rejects };
            return Ok(Self { table, target, canceller, prepared: Mutex::default() });
        }
        let relation = Relation::find(&mut connection, super::name(&table)).await?;
        if !relation.is_table {
            return plan_err!("{} of PostgreSQL is no table, so nothing is inserted into it", super::name(&table));
        }
        let column = |field: &FieldRef| {
            let name = field.name();
            let known = relation.column(name);
            let known = known
                .ok_or_else(|| plan_datafusion_err!("{} of PostgreSQL has no column {name}", super::name(&table)))?;
            if known.is_generated {
                return plan_err!(
                    "the column {name} of PostgreSQL is computed by the server: leave it out of the table's columns"
                );
            }
            let wire = known.kind.written_as(field.data_type());
            let wire = wire.map_err(|why| plan_datafusion_err!("the column {name} {why}"))?;
            Ok(TargetColumn {
                name: name.clone(),
                wire: staged(wire).to_string(),
                kind: known.kind.name.clone(),
                not_null: known.not_null,
            })
        };
        let columns = request.schema.fields().iter().map(column).collect::<Result<_>>()?;
        let key = match mode {
            Mode::Upsert | Mode::Merge => load::key_of(&mut connection, &relation, given, &request.schema).await?,
            Mode::Append | Mode::Replace => Vec::new(),
        };
        let target = Target {
            write: request.write,
            schema: relation.schema,
            name: relation.name,
            columns,
            is_new: false,
            is_exact: writes != Writes::Into,
            mode: mode.into(),
            key,
            load,
            rejects: rejects.map(|rejects| rejects.place.url()).unwrap_or_default(),
            max_rejects,
        };
        Ok(Self { table, target, canceller, prepared: Mutex::default() })
    }

    pub fn decode(encoded: Encoded<'_>, canceller: Canceller) -> Result<Self> {
        let target = Target::decode(encoded.bytes);
        let target = target.map_err(|error| internal_datafusion_err!("a write cannot be decoded: {error}"))?;
        Ok(Self { table: Arc::clone(encoded.table), target, canceller, prepared: Mutex::default() })
    }

    async fn connection(&self) -> Result<Connection> {
        let settings = Arc::new(Location::parse(&self.table.location)?.settings(&self.table).await?);
        Ok(Connection::open(&settings, &self.canceller).await?)
    }

    /// The same error, of the target.
    pub fn of_target(&self, staging: &str, error: PostgresError) -> PostgresError {
        match error {
            PostgresError::Refused(mut refusal) => {
                let renamed = |text: &String| text.replace(staging, &self.target.name);
                refusal.context = refusal.context.as_ref().map(renamed);
                refusal.message = refusal.message.replace(staging, &self.target.name);
                PostgresError::Refused(refusal)
            }
            other => other,
        }
    }

    /// The same error, with the column and the first row whose value the server does not cast to the target's type. The transaction has failed.
    async fn of_column(&self, connection: &mut Connection, staging: &str, error: PostgresError) -> PostgresError {
        // A data exception: <https://www.postgresql.org/docs/current/errcodes-appendix.html>
        let is_of_values = error.code().is_some_and(|code| code.starts_with("22"));
        let mut refusal = match error {
            PostgresError::Refused(refusal) if is_of_values => refusal,
            error => return error,
        };
        let (of, Ok(wires)) = (self.target.in_schema(staging), self.target.columns()) else {
            return PostgresError::Refused(refusal);
        };
        if connection.execute("ROLLBACK").await.is_err() {
            return PostgresError::Refused(refusal);
        }
        for (column, (name, wire)) in self.target.columns.iter().zip(&wires) {
            let name = quoted(name);
            if staged_type(wire, &column.kind) == column.kind {
                continue;
            }
            // What is counted is computed.
            let cast = format!("SELECT pg_catalog.count({name}::{}) FROM {of}", column.kind);
            if connection.execute(&cast).await.is_err_and(|other| other.code() == Some(&refusal.code)) {
                let row = first_failing(connection, &of, &cast).await.unwrap_or_default();
                refusal.message = format!("{}, in column {name}{row}", refusal.message);
                break;
            }
        }
        PostgresError::Refused(refusal)
    }

    /// Copies rows into a staging table, which is new unless it becomes the target. Returns how many there were, and the lines of those that were set aside.
    async fn copy(
        &self,
        connection: &mut Connection,
        staging: &str,
        mut rows: SendableRecordBatchStream,
    ) -> Result<(u64, Vec<String>)> {
        let refused = |error| self.of_target(staging, error);
        let (of, names) = (self.target.in_schema(staging), self.target.names());
        connection.execute("BEGIN").await?;
        let frozen = match self.target.is_direct()? {
            true => "",
            false => {
                connection.execute(&self.target.staging(&of)?).await?;
                // Only a table of the same transaction can be.
                ", FREEZE"
            }
        };
        connection.copy_in(&format!("COPY {of} ({names}) FROM STDIN (FORMAT binary{frozen})")).await?;
        let mut encoder = Encoder::new(self.target.columns()?, self.target.fit());
        if self.target.is_lenient() {
            encoder = encoder.setting_aside(self.target.not_null());
        }
        let mut aside = Vec::new();
        while let Some(batch) = rows.try_next().await? {
            let prepared = encoder.prepared(&batch)?;
            let mut from = 0;
            while from < prepared.rows {
                from = encoder.take(&prepared, from)?;
                if encoder.is_full() {
                    connection.send(encoder.piece()).await.map_err(refused)?;
                    encoder.clear();
                }
            }
            for (row, reason) in encoder.passed_over() {
                aside.push(rejects::line(&batch, row, &reason)?);
                if aside.len() as u64 > self.target.max_rejects {
                    // The load has failed: what comes behind does not count.
                    encoder.end();
                    connection.send(encoder.piece()).await.map_err(refused)?;
                    connection.finish().await.map_err(refused)?;
                    return Ok((encoder.rows(), aside));
                }
            }
        }
        encoder.end();
        connection.send(encoder.piece()).await.map_err(refused)?;
        connection.finish().await.map_err(refused)?;
        Ok((encoder.rows(), aside))
    }

    /// Moves the rows, in a transaction that is left open. `None`: that was done before.
    async fn moved(&self, tokens: &[Vec<u8>], runtime: &RuntimeEnv) -> Result<Option<Moved>> {
        let staged = tokens.iter().map(|token| Staged::decode(token.as_slice()));
        let staged: Vec<Staged> =
            staged.collect::<Result<_, _>>().map_err(|error| internal_datafusion_err!("{error}"))?;
        let (target, write) = (&self.target, literal(&self.target.write));
        let mut connection = self.connection().await?;
        // What others have committed before a lock is had is seen behind it.
        connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        // If nobody comes to commit it, it is not to stand in the way of who tries again.
        connection.execute("SET LOCAL idle_in_transaction_session_timeout TO '60s'").await?;
        let state = format!("SELECT state FROM {} WHERE write = {write} FOR UPDATE", target.loads());
        match connection.execute(&state).await?.into_iter().flatten().flatten().next().as_deref() {
            Some("writing") => {}
            Some(_) => return Ok(None),
            None => return exec_err!("{} does not know of the load {}", target.loads(), target.write),
        }
        load::take_turn(&mut connection, &target.loads(), &target.qualified(), &target.load).await?;
        if target.is_direct()? {
            self.become_target(&mut connection, &staged).await?;
        } else if target.is_new {
            self.appear(&mut connection, &target.created()).await?;
        } else if target.mode() == Mode::Replace {
            // TRUNCATE would empty it for older snapshots too.
            connection.execute(&format!("DELETE FROM {}", target.qualified())).await?;
        }
        let rejects = target.rejects()?;
        let mut aside = rejects.as_ref().map(|rejects| Aside { sink: self, rejects, runtime, count: 0 });
        if let Some(aside) = &mut aside {
            aside.begin(&mut connection, &staged).await?;
        }
        let mut staged_and_refused = 0;
        let (names, moved) = (target.names(), target.moved()?);
        let mut selects = Vec::new();
        let apart = if target.is_direct()? { &[] } else { staged.as_slice() };
        for Staged { table, rows, .. } in apart {
            let of = target.in_schema(table);
            // Somebody may have emptied it.
            let found = connection.execute(&format!("SELECT 1 FROM {of} LIMIT 1")).await?;
            if found.is_empty() && *rows > 0 {
                return exec_err!(
                    "the staged rows of {} are gone from the server: somebody has removed them; run the statement again",
                    target.qualified()
                );
            }
            selects.push((table, *rows, format!("SELECT {moved} FROM {of}")));
        }
        if target.mode().has_key() {
            let keyed = Keyed {
                mode: target.mode(),
                table: &target.qualified(),
                columns: target.columns.iter().map(|column| column.name.clone()).collect(),
                key: &target.key,
                gathered: &target.in_schema(&format!("{}all", target.prefix())),
            };
            let selects: Vec<String> = selects.into_iter().map(|(_, _, select)| select).collect();
            keyed.moved(&mut connection, &selects).await?;
        } else {
            for (table, rows, select) in selects {
                let insert = format!("INSERT INTO {} ({names}) {select}", target.qualified());
                match &mut aside {
                    Some(aside) => {
                        staged_and_refused += aside.move_table(&mut connection, table, (&insert, rows)).await?;
                    }
                    None => {
                        if let Err(error) = connection.execute(&insert).await {
                            let error = self.of_target(table, error);
                            return Err(self.of_column(&mut connection, table, error).await.into());
                        }
                    }
                }
            }
        }
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
        for Staged { table, .. } in apart {
            connection.execute(&format!("DROP TABLE {}", target.in_schema(table))).await?;
        }
        let rows = staged.iter().map(|staged| staged.rows).sum::<u64>() - staged_and_refused;
        let rejected = aside.map(|aside| Rejected { rows: aside.count, written: staged_and_refused });
        let named = if target.load.is_empty() { String::new() } else { format!(", load = {}", literal(&target.load)) };
        let loaded = format!(
            "UPDATE {} SET state = 'loaded', rows = {rows}, changed = pg_catalog.now(){named} WHERE write = {write}",
            target.loads()
        );
        match connection.execute(&loaded).await {
            // Another load of this name was faster.
            Err(error) if error.code() == Some("23505") => {
                let mut other = self.connection().await?;
                load::refuse_twice(&mut other, &target.loads(), &target.qualified(), &target.load).await?;
                Err(error.into())
            }
            loaded => loaded.map(|_| Some(Moved { connection, rejected })).map_err(Into::into),
        }
    }

    /// Gives the table of all rows the target's name, if the rows in it are those of these attempts.
    async fn become_target(&self, connection: &mut Connection, staged: &[Staged]) -> Result<()> {
        let target = &self.target;
        let table = target.in_schema(&target.becoming());
        self.end_attempts(connection).await?;
        let found = connection.execute(&format!("SELECT attempt FROM {} ORDER BY 1", target.parts())).await?;
        let found: Vec<String> = found.into_iter().flatten().flatten().collect();
        let mut wanted: Vec<String> = staged.iter().map(|staged| staged.table.clone()).collect();
        wanted.sort();
        let is_empty = connection.execute(&format!("SELECT 1 FROM {table} LIMIT 1")).await?.is_empty();
        if found != wanted || is_empty && staged.iter().any(|staged| staged.rows > 0) {
            return exec_err!(
                "the staged rows of {} are not those that were written: somebody has changed them; run the statement again",
                target.qualified()
            );
        }
        connection.execute(&format!("ALTER TABLE {table} RESET (autovacuum_enabled)")).await?;
        self.appear(connection, &format!("ALTER TABLE {table} RENAME TO {}", quoted(&target.name))).await?;
        connection.execute(&format!("DROP TABLE {}", target.parts())).await?;
        Ok(())
    }

    /// Carries out the statement that gives the target its name.
    async fn appear(&self, connection: &mut Connection, sql: &str) -> Result<()> {
        match connection.execute(sql).await {
            Err(error) if error.code() == Some("42P07") => exec_err!(
                "PostgreSQL has a table {} by now, which was not there when this load began; nothing was written: run it again to add the rows",
                self.target.qualified()
            ),
            made => made.map(drop).map_err(Into::into),
        }
    }

    /// Ends the sessions of attempts that nobody waits for: they hold the table that becomes the target, or is dropped.
    async fn end_attempts(&self, connection: &mut Connection) -> Result<()> {
        let end = format!(
            "SELECT pg_catalog.pg_terminate_backend(l.pid) FROM pg_catalog.pg_locks l \
             JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
             AND n.nspname = {} AND c.relname = {} AND l.mode = 'RowExclusiveLock' AND l.pid <> pg_catalog.pg_backend_pid()",
            literal(&self.target.schema),
            literal(&self.target.becoming())
        );
        connection.execute(&end).await?;
        Ok(())
    }

    /// Notes that the rows of a partition are there. Returns the attempt that has written them, and how many: this one, or a faster one.
    async fn note(
        &self,
        connection: &mut Connection,
        attempt: Attempt,
        name: &str,
        rows: u64,
    ) -> Result<(String, u64)> {
        let parts = self.target.parts();
        let note = format!(
            "INSERT INTO {parts} (partition, attempt, rows) VALUES ({}, {}, {rows})",
            attempt.partition,
            literal(name)
        );
        // Another attempt of the partition waits for the end of this transaction: it is not to wait for a process that is stopped.
        connection.execute("SET LOCAL idle_in_transaction_session_timeout TO '10s'").await?;
        match connection.execute(&note).await {
            Err(error) if error.code() == Some("23505") => {
                connection.execute("ROLLBACK").await?;
                connection.execute("BEGIN").await?;
                let sql = format!("SELECT attempt, rows::text FROM {parts} WHERE partition = {}", attempt.partition);
                let found = connection.execute(&sql).await?.into_iter().next().unwrap_or_default();
                let [Some(name), Some(rows)] = <[_; 2]>::try_from(found).unwrap_or_default() else {
                    return exec_err!("the load {} has ended without this attempt", self.target.write);
                };
                Ok((name, rows.parse().unwrap_or(0)))
            }
            noted => {
                noted?;
                Ok((name.to_string(), rows))
            }
        }
    }

    /// The staging tables of the write, and those beside them.
    pub async fn staged_tables(&self, connection: &mut Connection) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = {} AND pg_catalog.starts_with(c.relname, {}) AND c.relkind = 'r' ORDER BY 1",
            literal(&self.target.schema),
            literal(&self.target.prefix())
        );
        Ok(connection.execute(&sql).await?.into_iter().flatten().flatten().collect())
    }

    /// Drops what staging tables there are of the write.
    async fn drop_staged(&self, connection: &mut Connection) -> Result<()> {
        if self.target.is_direct()? {
            self.end_attempts(connection).await?;
        }
        for table in self.staged_tables(connection).await? {
            connection.execute(&format!("DROP TABLE IF EXISTS {}", self.target.in_schema(&table))).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for PostgresSink {
    fn describe(&self) -> String {
        let is_new = if self.target.is_new { ", new" } else { "" };
        let mode = self.target.mode().shown(&self.target.key);
        let rejects = self.target.rejects().ok().flatten().map(|rejects| rejects.shown()).unwrap_or_default();
        format!("table={}{is_new}{mode}{rejects}", self.target.qualified())
    }

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.target.encode_to_vec())
    }

    async fn begin(&self, runtime: &Arc<RuntimeEnv>) -> Result<()> {
        if let Some(rejects) = self.target.rejects()? {
            rejects.check(runtime).await?;
        }
        let mut connection = self.connection().await?;
        let loads = self.target.loads();
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {loads} (write text PRIMARY KEY, target text NOT NULL, state text NOT NULL, rows bigint, \
             changed timestamptz NOT NULL DEFAULT pg_catalog.now(), load text)"
        );
        match connection.execute(&create).await {
            // Somebody else makes it at the same time: it is there.
            Err(error) if matches!(error.code(), Some("23505" | "42P07")) => {}
            created => drop(created?),
        }
        if !self.target.load.is_empty() {
            load::know_names(&mut connection, &self.target.schema, LOADS).await?;
            load::refuse_twice(&mut connection, &loads, &self.target.qualified(), &self.target.load).await?;
        }
        let (write, target) = (literal(&self.target.write), literal(&self.target.qualified()));
        let insert = format!(
            "INSERT INTO {loads} (write, target, state) VALUES ({write}, {target}, 'writing') ON CONFLICT DO NOTHING"
        );
        connection.execute(&insert).await?;
        if self.target.is_direct()? {
            connection.execute(&self.target.staging(&self.target.in_schema(&self.target.becoming()))?).await?;
            let parts = self.target.parts();
            let create = format!(
                "CREATE TABLE {parts} (partition int PRIMARY KEY, attempt text NOT NULL, rows bigint NOT NULL)"
            );
            connection.execute(&create).await?;
        }
        Ok(())
    }

    async fn write(&self, attempt: Attempt, rows: SendableRecordBatchStream, _: &Arc<TaskContext>) -> Result<Written> {
        let mut staging = format!("{}{}", self.target.prefix(), attempt.to_string().replace('-', "_"));
        let is_direct = self.target.is_direct()?;
        let becoming = self.target.becoming();
        let table = if is_direct { &becoming } else { &staging };
        let mut connection = self.connection().await?;
        let (mut rows, aside) = self.copy(&mut connection, table, rows).await?;
        if is_direct {
            (staging, rows) = self.note(&mut connection, attempt, &staging, rows).await?;
        }
        if !aside.is_empty() {
            aside::put(&mut connection, &self.target.in_schema(&format!("{staging}{BESIDE}")), &aside).await?;
        }
        let (loads, write) = (self.target.loads(), literal(&self.target.write));
        let still = format!("SELECT 1 FROM {loads} WHERE write = {write} AND state = 'writing' FOR SHARE");
        if connection.execute(&still).await?.is_empty() {
            return exec_err!("the load {} has ended without this attempt", self.target.write);
        }
        connection.execute("COMMIT").await?;
        let rejected = aside.len() as u64;
        if let Some(rejects) = self.target.rejects()?.filter(|rejects| rejected > rejects.most) {
            return Err(rejects.exceeded(&aside));
        }
        Ok(Written { rows, token: Staged { table: staging, rows, rejected }.encode_to_vec() })
    }

    async fn prepare(&self, tokens: &[Vec<u8>], runtime: &Arc<RuntimeEnv>) -> Result<()> {
        *self.prepared.lock().await = self.moved(tokens, runtime).await?;
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
            None => Err(PostgresError::Value("nothing was prepared".to_string())),
        };
        let mut connection = match committed {
            Ok(connection) => connection,
            // Whether it was committed is found in the target.
            Err(error) => {
                tracing::debug!(%error, "a load of PostgreSQL is published anew");
                match self.moved(tokens, runtime).await? {
                    Some(Moved { mut connection, .. }) => {
                        connection.execute("COMMIT").await?;
                        connection
                    }
                    None => self.connection().await?,
                }
            }
        };
        // The rows are there: what is left over does not undo that.
        self.publish_rejects(&mut connection, runtime).await?;
        self.drop_staged(&mut connection).await?;
        let rows: u64 =
            tokens.iter().filter_map(|token| Staged::decode(token.as_slice()).ok()).map(|staged| staged.rows).sum();
        if (self.target.is_new || rows >= ANALYZED)
            && let Err(error) = connection.execute(&format!("ANALYZE {}", self.target.qualified())).await
        {
            tracing::debug!(%error, "the server has no statistics of what was loaded");
        }
        Ok(())
    }

    async fn abandon(&self, runtime: &Arc<RuntimeEnv>) -> Result<()> {
        // It rolls back where it is dropped.
        drop(self.prepared.lock().await.take());
        let mut connection = self.connection().await?;
        let known = format!("SELECT pg_catalog.to_regclass({})", literal(&self.target.loads()));
        if connection.execute(&known).await?.into_iter().flatten().flatten().next().is_some() {
            let (loads, write) = (self.target.loads(), literal(&self.target.write));
            connection.execute(&format!("DELETE FROM {loads} WHERE write = {write} AND state = 'writing'")).await?;
        }
        if let Err(error) = self.keep_failed(&mut connection, runtime).await {
            tracing::warn!(%error, "the rejects of a load that has failed are lost");
        }
        self.drop_staged(&mut connection).await
    }
}
