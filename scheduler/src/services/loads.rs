//! Loads: streams of batches that become a table, or rows of one.
//!
//! ```text
//!   batches ──> one Arrow file beside the tables ──> CREATE TABLE AS or INSERT from it ──publish──> visible
//! ```
//!
//! The file takes the rows as they come, so memory does not grow with their number. Then an ordinary statement reads the file on the
//! executors, and publishes as every other write does: a failure leaves nothing visible. The file is removed in every case.

use super::runs::{Ask, Runs};
use crate::errors::QueryError;
use crate::statements::catalog::{Catalog, TableName, check_storable, written};
use crate::statements::sessions::Session;
use crate::statements::{Execution, Info, Quotes, Statements};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::ipc::writer::FileWriter;
use datafusion::common::{DataFusionError, TableReference};
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::{ObjectStoreExt, WriteMultipart};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use windlass_core::access::Principal;
use windlass_engine::OwnFolder;

/// How long the file of a dead primary stays. No load takes longer.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);
/// Parts of the file that are written concurrently.
const PARTS_AT_A_TIME: usize = 4;

/// The table that a load fills.
#[derive(Clone, Debug)]
pub struct Target {
    /// The catalog. Absent: the session's.
    pub catalog: Option<String>,
    pub schema: Option<String>,
    pub table: String,
    /// Whether the table ends with the session.
    pub temporary: bool,
    /// What to do if the table exists, and if it does not. `None`: the client has not said.
    pub if_exists: Option<IfExists>,
    pub if_missing: Option<IfMissing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfExists {
    Fail,
    Append,
    Replace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMissing {
    Create,
    Fail,
}

/// The rows of a load.
pub struct Incoming {
    pub schema: SchemaRef,
    pub batches: BoxStream<'static, Result<RecordBatch, QueryError>>,
}

/// Loads batches. Cheap to clone.
#[derive(Clone)]
pub struct Loads {
    statements: Statements,
    runs: Runs,
}

/// What happens to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Create,
    Replace,
    Append,
}

struct Load {
    loads: Loads,
    by: Principal,
    session: Arc<Session>,
    /// The table's name in SQL.
    table: String,
    temporary: bool,
    mode: Mode,
    /// Whether rows are added to a table that is there.
    appends: bool,
    info: Info,
}

impl Loads {
    pub(crate) fn new(statements: Statements, runs: Runs) -> Self {
        Loads { statements, runs }
    }

    /// Loads rows and returns how many were written. The load is cancelled if the caller gives up.
    ///
    /// # Errors
    /// The table exists, or does not, contrary to `target`; the rows cannot be read or written. Then nothing is visible.
    pub async fn load(
        &self,
        by: &Principal,
        session: Arc<Session>,
        target: Target,
        info: Info,
        incoming: Incoming,
    ) -> Result<u64, QueryError> {
        let load = self.prepare(by, session, target, info).await?;
        let cancelled = CancellationToken::new();
        let _cancel_on_drop = cancelled.clone().drop_guard();
        let (sender, loaded) = oneshot::channel();
        // The load runs in a task of its own, because its files must be removed even if the caller is gone.
        self.statements.tasks().spawn(async move {
            // The caller may have left.
            let _ = sender.send(load.run(incoming, cancelled).await);
        });
        loaded.await.map_err(|_| QueryError::Internal("the load ended early".to_string()))?
    }

    async fn prepare(
        &self,
        by: &Principal,
        session: Arc<Session>,
        target: Target,
        info: Info,
    ) -> Result<Load, QueryError> {
        let explicit = target.catalog.is_some() || target.schema.is_some();
        if target.temporary && explicit {
            return Err(QueryError::Invalid(
                "a temporary table is the session's own: name no catalog and no schema for it".to_string(),
            ));
        }
        let own = session.resolve(TableReference::bare(target.table.as_str()));
        let name = TableName::new(
            target.catalog.as_deref().unwrap_or(&own.catalog),
            target.schema.as_deref().unwrap_or(&own.schema),
            &target.table,
        );
        let exists = match target.temporary {
            true => session.temporary().get(&target.table).is_some(),
            false => {
                session.temporary().find(&name).is_some() || self.statements.catalog().find(&name).await?.is_some()
            }
        };
        let mode = mode(&target, exists)?;
        let quotes = Quotes::of(&session.state());
        let [catalog, schema, table] = [&name.catalog, &name.schema, &name.table].map(|part| quotes.name(part));
        let table = if explicit { format!("{catalog}.{schema}.{table}") } else { table };
        let (loads, by, temporary) = (self.clone(), by.clone(), target.temporary);
        let appends = target.if_exists == Some(IfExists::Append);
        Ok(Load { loads, by, session, table, temporary, mode, appends, info })
    }
}

/// Decides what to do about the table, given whether it exists.
fn mode(target: &Target, exists: bool) -> Result<Mode, QueryError> {
    let table = &target.table;
    let unspecified = |what: &str| {
        Err(QueryError::Invalid(format!("the load does not say what to do when the table {what}: set its mode")))
    };
    match (exists, target.if_exists, target.if_missing) {
        (_, None, None) => unspecified("exists or not"),
        (true, Some(IfExists::Fail), _) => {
            Err(QueryError::AlreadyExists(format!("table '{table}' already exists: append to it, or replace it")))
        }
        (true, Some(IfExists::Append), _) => Ok(Mode::Append),
        (true, Some(IfExists::Replace), _) => Ok(Mode::Replace),
        (true, None, _) => unspecified("exists"),
        (false, _, Some(IfMissing::Create)) => Ok(Mode::Create),
        (false, _, Some(IfMissing::Fail)) => {
            Err(QueryError::NotFound(format!("there is no table '{table}' to append to: create it")))
        }
        (false, _, None) => unspecified("does not exist"),
    }
}

impl Load {
    async fn run(self, incoming: Incoming, cancelled: CancellationToken) -> Result<u64, QueryError> {
        let catalog = Arc::clone(self.loads.statements.catalog());
        let folder = OwnFolder::new_in(catalog.warehouse(), "ingest")?;
        catalog.change(None, |_| Ok(vec![catalog.discard_folder(&folder, ABANDONED)])).await?;
        let staged = folder.place().path().filename().unwrap_or_default().to_string();
        let loaded = tokio::select! {
            () = cancelled.cancelled() => Err(QueryError::Cancelled("the load was cancelled".to_string())),
            loaded = self.write_and_publish(&catalog, &folder, &staged, incoming) => loaded,
        };
        self.session.temporary().remove(&staged);
        if let Err(error) = catalog.remove_folder(&folder).await {
            tracing::warn!(%folder, %error, "the file of a load stays until tomorrow");
        }
        loaded
    }

    async fn write_and_publish(
        &self,
        catalog: &Catalog,
        folder: &OwnFolder,
        staged: &str,
        incoming: Incoming,
    ) -> Result<u64, QueryError> {
        let (schema, rows) = write(catalog, folder, incoming).await?;
        let quotes = Quotes::of(&self.session.state());
        let (from, location) = (quotes.name(staged), quotes.text(&folder.to_string()));
        let over = format!("CREATE EXTERNAL TEMPORARY TABLE {from} STORED AS ARROW LOCATION {location}");
        self.run_one(over, Info::default()).await?;
        let columns: Vec<String> = schema.fields().iter().map(|field| quotes.name(field.name())).collect();
        let (table, columns) = (&self.table, columns.join(", "));
        let temporary = if self.temporary { "TEMPORARY " } else { "" };
        let append = format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM {from}");
        let load = match self.mode {
            Mode::Create => format!("CREATE {temporary}TABLE {table} AS SELECT {columns} FROM {from}"),
            Mode::Replace => format!("CREATE OR REPLACE {temporary}TABLE {table} AS SELECT {columns} FROM {from}"),
            Mode::Append => append.clone(),
        };
        let written = match self.run_one(load, self.info.clone()).await {
            // Another load has created it since.
            Err(QueryError::AlreadyExists(_)) if self.mode == Mode::Create && self.appends => {
                self.run_one(append, self.info.clone()).await?
            }
            written => written?,
        };
        Ok(written.affected.unwrap_or(rows))
    }

    async fn run_one(&self, sql: String, info: Info) -> Result<Arc<Execution>, QueryError> {
        self.loads.runs.attach(&self.by, &self.session, Ask::sql(sql), info, None).ended().await
    }
}

/// Writes all batches to one file in `folder`. Returns the schema of the file and the number of rows.
async fn write(catalog: &Catalog, folder: &OwnFolder, incoming: Incoming) -> Result<(SchemaRef, u64), QueryError> {
    let failed = |error: object_store::Error| QueryError::from(DataFusionError::from(error));
    let arrow = |error| QueryError::from(DataFusionError::from(error));
    let Incoming { schema, mut batches } = incoming;
    let schema = plain_schema(&schema);
    check_storable(&schema)?;

    let file = folder.place().file("rows.arrow")?;
    let store = catalog.runtime().object_store(file.store())?;
    let mut upload = WriteMultipart::new(store.put_multipart(file.path()).await.map_err(failed)?);
    let mut file = FileWriter::try_new(Vec::new(), &schema).map_err(arrow)?;
    let mut rows = 0;
    while let Some(batch) = batches.try_next().await? {
        file.write(&plain(&batch, &schema)?).map_err(arrow)?;
        rows += batch.num_rows() as u64;
        upload.put(std::mem::take(file.get_mut()).into());
        upload.wait_for_capacity(PARTS_AT_A_TIME).await.map_err(failed)?;
    }
    upload.put(file.into_inner().map_err(arrow)?.into());
    upload.finish().await.map_err(failed)?;
    Ok((schema, rows))
}

/// Returns the schema without dictionaries, of which a file can have only one for each column.
fn plain_schema(schema: &SchemaRef) -> SchemaRef {
    let written = written(schema);
    let fields = written.fields().iter().map(|field| field.as_ref().clone().with_metadata(HashMap::new()));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn plain(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, QueryError> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
    let plain = columns.collect::<Result<_, _>>().and_then(|columns| RecordBatch::try_new(Arc::clone(schema), columns));
    plain.map_err(|error| QueryError::from(DataFusionError::from(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_proto::v1::ErrorKind;

    #[test]
    fn the_four_modes_of_adbc() {
        let decide = |if_exists, if_missing| {
            let target =
                Target { catalog: None, schema: None, table: "t".into(), temporary: false, if_exists, if_missing };
            let decided = |there| mode(&target, there).map_err(|error| error.kind());
            (decided(true), decided(false))
        };
        let (create, fail) = (Some(IfMissing::Create), Some(IfMissing::Fail));
        assert_eq!(decide(Some(IfExists::Fail), create), (Err(ErrorKind::AlreadyExists), Ok(Mode::Create)));
        assert_eq!(decide(Some(IfExists::Append), fail), (Ok(Mode::Append), Err(ErrorKind::NotFound)));
        assert_eq!(decide(Some(IfExists::Replace), create), (Ok(Mode::Replace), Ok(Mode::Create)));
        assert_eq!(decide(Some(IfExists::Append), create), (Ok(Mode::Append), Ok(Mode::Create)));
        assert_eq!(decide(None, None), (Err(ErrorKind::Invalid), Err(ErrorKind::Invalid)));
    }
}
