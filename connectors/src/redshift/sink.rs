//! Writing: attempts stage Parquet files in S3, COPY reads those that count into a staging table, and one transaction moves its rows.
//!
//! ```text
//!   begin      the folder of the write gets its mark; windlass_loads gets the write, as 'writing', and its name is taken; the staging table
//!              windlass_WRITE is made, with the columns of the rows
//!   attempt    Parquet files in a folder of its own
//!   prepare    the manifest is written; one transaction: COPY into the staging table. What the warehouse refuses fails the statement here
//!   publish    one transaction: the rows of the staging table go into the target, which they may become, the staging table is dropped, and the write becomes
//!              'loaded'. A second time it fails, as there is no staging table, and 'loaded' says why
//!   abandon    the staging table is dropped, and the write is forgotten
//! ```
//!
//! In the end the folder is emptied. The staging table lives as long as the write may be published, so the primary that comes next needs neither COPY nor what the
//! dead one's session had. Over the Data API nobody else could hold a transaction open.

use super::Redshift;
use super::files::{Files, Shape};
use super::fit::Fitter;
use super::kinds::{Kind, Lengths};
use super::relation::{Name, ServerColumn};
use super::settings::Settings;
use super::staging::Staging;
use super::target::{Target, TargetColumn, key, server_names};
use super::warehouse::{Warehouse, literal};
use crate::load::{ANALYZED, Mode};
use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result, exec_err, internal_datafusion_err, plan_datafusion_err, plan_err};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use futures::TryStreamExt;
use prost::Message;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use windlass_engine::connector::{Attempt, Encoded, Sink, SinkRequest, TableSpec, Written};

/// How often a transaction that is to publish is tried, where another writer of the target was in its way.
const TRIES: u32 = 4;
/// The pause before the second try.
const PAUSE: Duration = Duration::from_millis(200);

/// One write.
#[derive(Clone)]
pub(super) struct RedshiftSink {
    redshift: Redshift,
    table: Arc<TableSpec>,
    target: Target,
    /// The columns of the rows.
    rows: SchemaRef,
}

impl fmt::Debug for RedshiftSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedshiftSink").field("target", &self.target.qualified()).finish_non_exhaustive()
    }
}

/// The files of an attempt that counts.
#[derive(Clone, PartialEq, Message)]
struct Staged {
    #[prost(string, tag = "1")]
    attempt: String,
    #[prost(uint64, tag = "2")]
    rows: u64,
    #[prost(uint64, tag = "3")]
    files: u64,
    #[prost(uint64, tag = "4")]
    bytes: u64,
}

/// What a write does to its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writes {
    /// Adds rows to a table that is there.
    Into,
    /// Creates it, with the rows.
    New,
}

impl RedshiftSink {
    /// `kept`: the columns of the table, which say where there are no NULLs.
    ///
    /// # Errors
    /// The target cannot take rows of these columns, or not in this way; or it is to be created, and there is one.
    pub async fn new(
        redshift: Redshift,
        table: Arc<TableSpec>,
        request: SinkRequest,
        (writes, kept): (Writes, &Schema),
    ) -> Result<Self> {
        let options = &table.options;
        let mode = if request.overwrite { Mode::Replace } else { Mode::of(options) };
        let mut warehouse = redshift.warehouse(&table).await?;
        let name = Name::resolved(super::name(&table), &mut warehouse).await?;
        let rows = request.schema;
        let mut columns = match writes {
            Writes::New => {
                require_new(&name, &mut warehouse).await?;
                new_columns(&rows, kept, super::lengths(&table))?
            }
            Writes::Into => known_columns(&name, &rows, &name.columns(&mut warehouse).await?)?,
        };
        let key = key(options, mode, &columns)?;
        // A key has a value in each of its columns.
        columns.iter_mut().filter(|column| key.contains(&column.name)).for_each(|column| column.not_null = true);
        let load = options.text("load").unwrap_or_default().to_string();
        literal(&load)?;
        let target = Target {
            write: request.write,
            schema: name.schema,
            table: name.table,
            columns,
            is_new: writes == Writes::New,
            mode: mode.into(),
            key,
            load,
            slices: slices(&mut warehouse).await,
            planned: now(),
        };
        // What a column does not take is an error of the statement, before anything is done.
        target.ways(&rows)?;
        Ok(Self { redshift, table, target, rows })
    }

    pub fn decode(redshift: Redshift, encoded: Encoded<'_>) -> Result<Self> {
        let target = Target::decode(encoded.bytes);
        let target = target.map_err(|error| internal_datafusion_err!("a write cannot be decoded: {error}"))?;
        Ok(Self { redshift, table: Arc::clone(encoded.table), target, rows: Arc::clone(encoded.schema) })
    }

    async fn warehouse(&self) -> Result<Warehouse> {
        self.redshift.warehouse(&self.table).await
    }

    fn staging(&self, runtime: &RuntimeEnv) -> Result<Staging> {
        let settings = Settings::of(&self.table)?;
        let place = settings.staging()?;
        let store = self.redshift.stores.of(&place, settings.store_options(), runtime)?;
        Ok(Staging::new(store, place.folder(&self.target.write)?))
    }

    fn shape(&self) -> Shape {
        let options = &self.table.options;
        let bytes = options.integer("file_bytes").and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(32 << 20);
        Shape::new(bytes, self.target.slices as usize, options.text("compression").unwrap_or_default())
    }

    /// The name under which the Data API knows a transaction of the write.
    fn token(&self, step: &str) -> String {
        format!("{}-{step}", self.target.write)
    }

    /// The same error, without the secrets that a warehouse may repeat.
    fn without_secrets(&self, error: DataFusionError) -> DataFusionError {
        let DataFusionError::Execution(mut text) = error else { return error };
        for secret in self.table.options.secrets().values().filter(|secret| !secret.is_empty()) {
            text = text.replace(secret.as_str(), "***");
        }
        DataFusionError::Execution(text)
    }

    /// Refuses a load whose name is in the target already, or is being loaded.
    async fn refuse_twice(&self, warehouse: &mut Warehouse) -> Result<()> {
        let Target { load, .. } = &self.target;
        let target = self.target.qualified();
        let found = warehouse.query(&self.target.asks_for_load()?).await?;
        match found.first().map(Vec::as_slice) {
            Some([Some(state), Some(rows), Some(at)]) if state == "loaded" => {
                plan_err!("the load '{load}' is in {target} already: {rows} rows, at {at}; nothing was written")
            }
            Some(_) => plan_err!(
                "the load '{load}' of {target} is under way already, and nothing was written: wait for the other statement, or see its row in {}",
                self.target.loads().quoted()
            ),
            None => Ok(()),
        }
    }

    /// Whether the rows of the write are in the target.
    async fn is_loaded(&self) -> Result<bool> {
        Ok(!self.warehouse().await?.query(&self.target.asks_for_write()?).await?.is_empty())
    }

    /// Has COPY read the files of these attempts.
    async fn copy(&self, warehouse: &mut Warehouse, staged: &[Staged], staging: &Staging) -> Result<()> {
        let mut entries = Vec::new();
        for Staged { attempt, files, bytes, .. } in staged {
            let found = staging.files(attempt).await?;
            let there: u64 = found.iter().map(|entry| entry.meta.content_length).sum();
            if (found.len() as u64, there) != (*files, *bytes) {
                return exec_err!(
                    "the staged files of the attempt {attempt} are {} of {there} bytes, and it wrote {files} of {bytes}: somebody has changed the \
                     staging folder; run the statement again",
                    found.len()
                );
            }
            entries.extend(found);
        }
        if entries.is_empty() {
            return Ok(());
        }
        let manifest = staging.put_manifest(entries).await?;
        let reader = Settings::of(&self.table)?.reader()?.sql();
        let statements = self.target.copies(&manifest, &self.target.ways(&self.rows)?, &reader)?;
        if let Err(error) = warehouse.transaction(&statements, &self.token("copy")).await {
            let error = self.without_secrets(error);
            let why = self.load_error().await;
            return match (why, error) {
                (Some(why), DataFusionError::Execution(text)) => exec_err!("{why} ({text})"),
                (_, error) => Err(error),
            };
        }
        Ok(())
    }

    /// Moves the staged rows, unless that has happened, and removes what is left.
    async fn published(&self, rows: u64, runtime: &RuntimeEnv) -> Result<()> {
        let mut tries = 0;
        loop {
            let statements = self.target.publishes(rows, &now())?;
            let token = uuid::Uuid::new_v4().simple().to_string();
            let published = match self.warehouse().await {
                Ok(mut warehouse) => warehouse.transaction(&statements, &token).await,
                Err(error) => Err(error),
            };
            let Err(error) = published else { break };
            tries += 1;
            // It may have been committed, by this primary or the one before.
            match self.is_loaded().await {
                Ok(true) => break,
                _ if tries == TRIES => return Err(self.without_secrets(error)),
                _ => {}
            }
            tracing::debug!(%error, "a load of Redshift is published anew");
            tokio::time::sleep(PAUSE * (1 << tries)).await;
        }
        self.staging(runtime)?.remove().await?;
        if (self.target.is_new || rows >= ANALYZED) && self.table.options.boolean("analyze").unwrap_or(true) {
            let analyzed =
                async { self.warehouse().await?.query(&format!("ANALYZE {}", self.target.qualified())).await };
            if let Err(error) = analyzed.await {
                tracing::debug!(%error, "the warehouse has no statistics of what was loaded");
            }
        }
        Ok(())
    }

    /// What the warehouse notes of a COPY that failed: of files of this write, whose names nobody else has.
    async fn load_error(&self) -> Option<String> {
        let mut warehouse = self.warehouse().await.ok()?;
        let write = &self.target.write;
        // Serverless warehouses have only the first, and old clusters only the second.
        let asked = [
            format!(
                "SELECT trim(file_name), line_number, trim(column_name), trim(column_type), trim(error_message) FROM sys_load_error_detail \
                 WHERE file_name LIKE '%{write}%' ORDER BY start_time DESC LIMIT 1"
            ),
            format!(
                "SELECT trim(filename), line_number, trim(colname), trim(type), trim(err_reason) FROM stl_load_errors \
                 WHERE filename LIKE '%{write}%' ORDER BY starttime DESC LIMIT 1"
            ),
        ];
        for sql in asked {
            let Ok(found) = warehouse.query(&sql).await else { continue };
            if let Some([Some(file), row, column, kind, Some(why)]) = found.first().map(Vec::as_slice) {
                let column = column.as_ref().filter(|column| !column.is_empty());
                let column = column.map(|column| format!(" in the column {column}")).unwrap_or_default();
                let kind = kind.as_ref().filter(|kind| !kind.is_empty());
                let kind = kind.map(|kind| format!(" of type {kind}")).unwrap_or_default();
                let row = row.as_ref().map(|row| format!(", row {row}")).unwrap_or_default();
                let why = why.trim_end_matches('.');
                return Some(format!("Redshift does not load the rows: {why}{column}{kind}{row} of {file}"));
            }
        }
        let sql = format!(
            "SELECT trim(message) FROM svl_s3log WHERE message LIKE '%{write}%' ORDER BY eventtime DESC LIMIT 1"
        );
        let found = warehouse.query(&sql).await.ok()?.into_iter().flatten().flatten().next()?;
        Some(format!("Redshift does not load the rows: {}", found.trim_end_matches('.')))
    }
}

fn now() -> String {
    chrono::Utc::now().format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

/// Slices of a cluster. Zero: it does not say, as a serverless warehouse.
async fn slices(warehouse: &mut Warehouse) -> u32 {
    let found = warehouse.query("SELECT count(*) FROM stv_slices").await.unwrap_or_default();
    found.into_iter().flatten().flatten().next().and_then(|count| count.parse().ok()).unwrap_or(0)
}

async fn require_new(name: &Name, warehouse: &mut Warehouse) -> Result<()> {
    match name.is_there(warehouse).await? {
        true => {
            plan_err!("Redshift has a table {} already: INSERT INTO adds rows to it, or drop it there", name.quoted())
        }
        false => Ok(()),
    }
}

/// The columns of a table that is created.
fn new_columns(rows: &Schema, kept: &Schema, lengths: Lengths) -> Result<Vec<TargetColumn>> {
    let names = server_names(rows)?;
    let column = |(field, name): (&Arc<datafusion::arrow::datatypes::Field>, String)| {
        let given = field.name().clone();
        let kind = Kind::created(field.data_type(), lengths);
        let kind = kind.map_err(|why| plan_datafusion_err!("the column {given} {why}"))?.to_string();
        let not_null = kept.field_with_name(&given).is_ok_and(|kept| !kept.is_nullable());
        Ok(TargetColumn { given, name, kind, not_null })
    };
    rows.fields().iter().zip(names).map(column).collect()
}

/// The columns of a table that is there, for these rows.
fn known_columns(name: &Name, rows: &Schema, known: &[ServerColumn]) -> Result<Vec<TargetColumn>> {
    if known.is_empty() {
        return plan_err!("Redshift has no table {}, or does not show it to this user", name.quoted());
    }
    let names = server_names(rows)?;
    // Nobody gives it a value, and the statement would fail at its end.
    let missing = known
        .iter()
        .find(|column| column.not_null && !column.has_default && !names.contains(&column.name.to_lowercase()));
    if let Some(column) = missing {
        return plan_err!(
            "the column {} of {} is NOT NULL and has no default, and the rows do not have it",
            column.name,
            name.quoted()
        );
    }
    let column = |(field, of): (&Arc<datafusion::arrow::datatypes::Field>, String)| {
        let given = field.name().clone();
        let Some(column) = known.iter().find(|column| column.name.to_lowercase() == of) else {
            return plan_err!("{} of Redshift has no column {given}", name.quoted());
        };
        let (kind, not_null) = (column.kind()?.to_string(), column.not_null);
        Ok(TargetColumn { given, name: column.name.clone(), kind, not_null })
    };
    rows.fields().iter().zip(names).map(column).collect()
}

fn staged(tokens: &[Vec<u8>]) -> Result<Vec<Staged>> {
    let staged = tokens.iter().map(|token| Staged::decode(token.as_slice()));
    staged
        .collect::<Result<_, _>>()
        .map_err(|error| internal_datafusion_err!("what was staged cannot be decoded: {error}"))
}

fn rows_of(staged: &[Staged]) -> u64 {
    staged.iter().map(|staged| staged.rows).sum()
}

#[async_trait]
impl Sink for RedshiftSink {
    fn describe(&self) -> String {
        let Target { key, is_new, .. } = &self.target;
        let is_new = if *is_new { ", new" } else { "" };
        let mode = self.target.mode().shown(key);
        let staging = Settings::of(&self.table).and_then(|settings| settings.staging());
        let staging = staging.map(|place| format!(", staging={place}")).unwrap_or_default();
        format!("table={}{is_new}{mode}{staging}", self.target.qualified())
    }

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.target.encode_to_vec())
    }

    fn stores(&self) -> Vec<String> {
        let settings = Settings::of(&self.table);
        let place = settings.and_then(|settings| Ok((settings.staging()?, settings.store_options().is_empty())));
        place.ok().filter(|(_, is_engines)| *is_engines).map(|(place, _)| place.url()).into_iter().collect()
    }

    async fn begin(&self, runtime: &Arc<RuntimeEnv>) -> Result<()> {
        self.staging(runtime)?.begin().await?;
        let mut warehouse = self.warehouse().await?;
        if let Err(error) = warehouse.query(&self.target.creates_loads()).await
            // Somebody else makes it at the same time.
            && !self.target.loads().is_there(&mut warehouse).await?
        {
            return Err(error);
        }
        if self.target.is_named() {
            self.refuse_twice(&mut warehouse).await?;
        }
        let begun = warehouse.transaction(&self.target.begins()?, &self.token("begin")).await;
        if begun.is_err() && self.target.is_named() {
            // Another load of this name was faster.
            self.refuse_twice(&mut self.warehouse().await?).await?;
        }
        begun
    }

    async fn write(
        &self,
        attempt: Attempt,
        mut rows: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> Result<Written> {
        let staging = self.staging(&context.runtime_env())?;
        let mut fitter = Fitter::new(self.target.columns()?, &self.rows)?;
        let attempt = attempt.to_string();
        let mut files = Files::new(&staging, attempt.clone(), fitter.schema(), self.shape(), context);
        let mut count = 0;
        while let Some(batch) = rows.try_next().await? {
            if batch.num_rows() > 0 {
                files.write(&fitter.fitted(&batch)?).await?;
                count += batch.num_rows() as u64;
            }
        }
        files.end().await?;
        let token = Staged { attempt, rows: count, files: files.written as u64, bytes: files.bytes };
        Ok(Written { rows: count, token: token.encode_to_vec() })
    }

    async fn prepare(&self, tokens: &[Vec<u8>], runtime: &Arc<RuntimeEnv>) -> Result<()> {
        let staged = staged(tokens)?;
        let mut warehouse = self.warehouse().await?;
        if self.target.is_new {
            require_new(&Name { schema: self.target.schema.clone(), table: self.target.table.clone() }, &mut warehouse)
                .await?;
        }
        self.copy(&mut warehouse, &staged, &self.staging(runtime)?).await?;
        let counted = warehouse.query(&format!("SELECT count(*) FROM {}", self.target.staging().quoted())).await?;
        let counted: Option<u64> = counted.into_iter().flatten().flatten().next().and_then(|count| count.parse().ok());
        let rows = rows_of(&staged);
        if counted != Some(rows) {
            return exec_err!("Redshift has read {} rows of {rows} that were staged", counted.unwrap_or(0));
        }
        let Some(twins) = self.target.asks_for_twins() else { return Ok(()) };
        match warehouse.query(&twins).await?.into_iter().next() {
            Some(row) => {
                let values: Vec<&str> = row.iter().take(self.target.key.len()).flatten().map(String::as_str).collect();
                exec_err!(
                    "two rows of the load have the same key ({})=({}): which one is to stay?",
                    self.target.key.join(", "),
                    values.join(", ")
                )
            }
            None => Ok(()),
        }
    }

    async fn publish(&self, tokens: &[Vec<u8>], runtime: &Arc<RuntimeEnv>) -> Result<()> {
        let (this, rows, runtime) = (self.clone(), rows_of(&staged(tokens)?), Arc::clone(runtime));
        let published = async move { this.published(rows, &runtime).await };
        self.redshift.publications.of(&self.target.write, published).await
    }

    async fn abandon(&self, runtime: &Arc<RuntimeEnv>) -> Result<()> {
        let mut warehouse = self.warehouse().await?;
        if let Warehouse::Api(_) = &warehouse {
            // What was to begin the write may still be under way. Under the same name it is waited for; whether it succeeded does not matter.
            _ = warehouse.transaction(&self.target.begins()?, &self.token("begin")).await;
        }
        if self.target.loads().is_there(&mut warehouse).await? {
            warehouse.transaction(&self.target.abandons()?, &uuid::Uuid::new_v4().simple().to_string()).await?;
        }
        self.staging(runtime)?.remove().await
    }
}
