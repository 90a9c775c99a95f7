//! Bulk ingest of Flight SQL: a stream of batches becomes a table, or rows of one.
//!
//! ```text
//!   batches ──> one Arrow file beside the tables ──> CREATE TABLE AS or INSERT from it ──publish──> visible
//! ```
//!
//! The file takes the rows as they come, so memory stays flat whatever their number. Then an ordinary statement reads it, on the
//! executors, and publishes as every other writer does: what fails leaves nothing visible. The file goes in any case.

use super::service::SqlService;
use super::{internal, prepared};
use crate::errors::QueryError;
use crate::statements::catalog::{Catalog, TableName, check_storable, written};
use crate::statements::sessions::Session;
use crate::statements::{Info, Statements};
use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::sql::CommandStatementIngest;
use arrow_flight::sql::TableDefinitionOptions;
use arrow_flight::sql::{TableExistsOption, TableNotExistOption};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::ipc::writer::FileWriter;
use datafusion::common::DataFusionError;
use futures::{Stream, TryStreamExt};
use object_store::{ObjectStoreExt, WriteMultipart};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use windlass_engine::OwnFolder;

/// A file whose primary dies goes after this long. No load takes longer.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);
/// Parts of the file that are written at a time.
const PARTS_AT_A_TIME: usize = 4;

/// What becomes of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Create,
    Replace,
    Append,
}

/// One load.
struct Load {
    statements: Statements,
    session: Arc<Session>,
    /// As the statement names it.
    table: String,
    temporary: bool,
    mode: Mode,
    info: Info,
}

impl SqlService {
    /// Loads `stream`; the rows that were written. When the caller gives up the load is cancelled.
    pub(super) async fn ingest(
        &self,
        session: Arc<Session>,
        command: CommandStatementIngest,
        info: Info,
        stream: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
    ) -> Result<u64, Status> {
        let load = self.load(session, command, info)?;
        let batches = prepared::decode(stream);
        let cancelled = CancellationToken::new();
        let _cancel_on_drop = cancelled.clone().drop_guard();
        let (sender, loaded) = oneshot::channel();
        // A task of its own: what the load leaves has to be removed when the caller is gone, too.
        self.statements.tasks().spawn(async move {
            // Nobody waits when the caller has left.
            let _ = sender.send(load.run(batches, cancelled).await);
        });
        let loaded = loaded.await.map_err(|_| internal("the load ended early"))?;
        Ok(loaded?)
    }

    fn load(&self, session: Arc<Session>, command: CommandStatementIngest, info: Info) -> Result<Load, QueryError> {
        let explicit = command.catalog.is_some() || command.schema.is_some();
        if command.temporary && explicit {
            return Err(QueryError::Invalid(
                "a temporary table is the session's own: name no catalog and no schema for it".to_string(),
            ));
        }
        let own = session.resolve(quote(&command.table));
        let name = TableName::new(
            command.catalog.as_deref().unwrap_or(&own.catalog),
            command.schema.as_deref().unwrap_or(&own.schema),
            &command.table,
        );
        let exists = match command.temporary {
            true => session.temporary().get(&command.table).is_some(),
            false => {
                self.statements.catalog().snapshot().table(&name).is_some() || session.temporary().find(&name).is_some()
            }
        };
        let mode = mode(command.table_definition_options.as_ref(), exists, &command.table)?;
        let table = match explicit {
            true => format!("{}.{}.{}", quote(&name.catalog), quote(&name.schema), quote(&name.table)),
            false => quote(&name.table),
        };
        let statements = self.statements.clone();
        Ok(Load { statements, session, table, temporary: command.temporary, mode, info })
    }
}

/// What to do about a table that is there, or is not.
fn mode(options: Option<&TableDefinitionOptions>, exists: bool, table: &str) -> Result<Mode, QueryError> {
    let unspecified = |what: &str| {
        QueryError::Invalid(format!("the load does not say what to do when the table {what}: set its mode"))
    };
    let options = options.ok_or_else(|| unspecified("exists or not"))?;
    match (exists, options.if_exists(), options.if_not_exist()) {
        (true, TableExistsOption::Fail, _) => {
            Err(QueryError::AlreadyExists(format!("table '{table}' already exists: append to it, or replace it")))
        }
        (true, TableExistsOption::Append, _) => Ok(Mode::Append),
        (true, TableExistsOption::Replace, _) => Ok(Mode::Replace),
        (true, TableExistsOption::Unspecified, _) => Err(unspecified("exists")),
        (false, _, TableNotExistOption::Create) => Ok(Mode::Create),
        (false, _, TableNotExistOption::Fail) => {
            Err(QueryError::NotFound(format!("there is no table '{table}' to append to: create it")))
        }
        (false, _, TableNotExistOption::Unspecified) => Err(unspecified("does not exist")),
    }
}

impl Load {
    async fn run(self, batches: FlightRecordBatchStream, cancelled: CancellationToken) -> Result<u64, QueryError> {
        let catalog = Arc::clone(self.statements.catalog());
        let folder = OwnFolder::new_in(catalog.warehouse(), "ingest")?;
        catalog.change(|_| Ok(vec![catalog.discard_folder(&folder, ABANDONED)])).await?;
        let staged = folder.place().path().filename().unwrap_or_default().to_string();
        let loaded = tokio::select! {
            () = cancelled.cancelled() => Err(QueryError::Cancelled("the load was cancelled".to_string())),
            loaded = self.write_and_publish(&catalog, &folder, &staged, batches) => loaded,
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
        batches: FlightRecordBatchStream,
    ) -> Result<u64, QueryError> {
        let Some((schema, rows)) = write(catalog, folder, batches).await? else {
            return Err(QueryError::Invalid("the load has no schema: send at least an empty batch".to_string()));
        };
        let (from, location) = (quote(staged), folder.to_string().replace('\'', "''"));
        let here = Info::default();
        let over = format!("CREATE EXTERNAL TEMPORARY TABLE {from} STORED AS ARROW LOCATION '{location}'");
        self.statements.execute(&self.session, &over, None, &here).await?;
        let columns: Vec<String> = schema.fields().iter().map(|field| quote(field.name())).collect();
        let (table, columns) = (&self.table, columns.join(", "));
        let temporary = if self.temporary { "TEMPORARY " } else { "" };
        let load = match self.mode {
            Mode::Create => format!("CREATE {temporary}TABLE {table} AS SELECT {columns} FROM {from}"),
            Mode::Replace => format!("CREATE OR REPLACE {temporary}TABLE {table} AS SELECT {columns} FROM {from}"),
            Mode::Append => format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM {from}"),
        };
        let written = self.statements.execute(&self.session, &load, None, &self.info).await?;
        Ok(written.affected.unwrap_or(rows))
    }
}

/// Writes all batches to one file in `folder`; their schema and number of rows, `None` when not even a schema was sent.
async fn write(
    catalog: &Catalog,
    folder: &OwnFolder,
    mut batches: FlightRecordBatchStream,
) -> Result<Option<(SchemaRef, u64)>, QueryError> {
    let sent =
        |error| QueryError::Invalid(format!("the rows of the load cannot be read: {}", Status::from(error).message()));
    let failed = |error: object_store::Error| QueryError::from(DataFusionError::from(error));
    let arrow = |error| QueryError::from(DataFusionError::from(error));
    let first = batches.try_next().await.map_err(sent)?;
    let Some(schema) = batches.schema().map(plain_schema) else { return Ok(None) };
    check_storable(&schema)?;

    let file = folder.place().file("rows.arrow")?;
    let store = catalog.runtime().object_store(file.store())?;
    let mut upload = WriteMultipart::new(store.put_multipart(file.path()).await.map_err(failed)?);
    let mut file = FileWriter::try_new(Vec::new(), &schema).map_err(arrow)?;
    let (mut rows, mut next) = (0, first);
    while let Some(batch) = next {
        file.write(&plain(&batch, &schema)?).map_err(arrow)?;
        rows += batch.num_rows() as u64;
        upload.put(std::mem::take(file.get_mut()).into());
        upload.wait_for_capacity(PARTS_AT_A_TIME).await.map_err(failed)?;
        next = batches.try_next().await.map_err(sent)?;
    }
    upload.put(file.into_inner().map_err(arrow)?.into());
    upload.finish().await.map_err(failed)?;
    Ok(Some((schema, rows)))
}

/// Without dictionaries, of which a file can have one for each column only.
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

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(exists: TableExistsOption, not_exist: TableNotExistOption) -> TableDefinitionOptions {
        TableDefinitionOptions { if_exists: exists.into(), if_not_exist: not_exist.into() }
    }

    #[test]
    fn the_four_modes_of_adbc() {
        use {TableExistsOption as Exists, TableNotExistOption as Not, windlass_proto::v1::ErrorKind};
        let decide = |exists, not_exist| {
            let options = options(exists, not_exist);
            let decided = |there| mode(Some(&options), there, "t").map_err(|error| error.kind());
            (decided(true), decided(false))
        };
        assert_eq!(decide(Exists::Fail, Not::Create), (Err(ErrorKind::AlreadyExists), Ok(Mode::Create)));
        assert_eq!(decide(Exists::Append, Not::Fail), (Ok(Mode::Append), Err(ErrorKind::NotFound)));
        assert_eq!(decide(Exists::Replace, Not::Create), (Ok(Mode::Replace), Ok(Mode::Create)));
        assert_eq!(decide(Exists::Append, Not::Create), (Ok(Mode::Append), Ok(Mode::Create)));
        assert_eq!(decide(Exists::Unspecified, Not::Unspecified), (Err(ErrorKind::Invalid), Err(ErrorKind::Invalid)));
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quote("a \"b\""), "\"a \"\"b\"\"\"");
    }
}
