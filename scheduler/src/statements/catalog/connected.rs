//! Tables of connectors: their records and their providers.

use super::build::defaults;
use super::record::{Connected, Storage, StoredConstraint, StoredSchema, TableRecord};
use super::{Catalog, Held, build};
use crate::clock::Ids;
use crate::errors::QueryError;
use crate::statements::parse::target::PlaceOfTable;
use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{CreateExternalTable, Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::unparser::expr_to_sql;
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_engine::connector::{
    ConnectedTable, Connector, ConnectorTable, Registry, TableRequest, TableSpec, Target, redacted,
};

/// Returns the record for CREATE EXTERNAL TABLE, if it is for a connector, and the table. `lent`: options of the secret that it names;
/// `sql`: its text. `rows`: the columns of the query whose rows will create the table.
pub(crate) async fn record(
    connectors: &Registry,
    command: &CreateExternalTable,
    lent: &BTreeMap<String, String>,
    sql: &str,
    ids: &Ids,
    rows: Option<SchemaRef>,
) -> Result<Option<(TableRecord, ConnectedTable)>, QueryError> {
    let Some(connector) = connectors.get(&command.file_type) else { return Ok(None) };
    let name = connector.name();
    let unsupported = |what: &str| {
        Err(QueryError::Unsupported(format!(
            "{what} is for tables over files, and tables stored as {name} are none: leave it out"
        )))
    };
    if command.unbounded {
        return Err(QueryError::Unsupported("unbounded tables are not supported".to_string()));
    }
    if !command.table_partition_cols.is_empty() {
        return unsupported("PARTITIONED BY");
    }
    if !command.order_exprs.is_empty() {
        return unsupported("WITH ORDER");
    }
    let [location] = command.locations.as_slice() else {
        return Err(QueryError::Invalid(format!("tables stored as {name} have one LOCATION")));
    };
    let id = ids.name();
    let spec = Arc::new(connectors.spec(name, id.clone(), location.clone(), command.options.clone(), lent.clone())?);
    let declared = Arc::clone(command.schema.inner());
    let table = match rows {
        Some(rows) => created(connector, &spec, rows, Target::New).await?,
        None => {
            let columns = (!declared.fields().is_empty()).then_some(declared);
            connector.table(TableRequest { table: Arc::clone(&spec), columns, target: Target::Present }).await?
        }
    };
    if table.schema().fields().is_empty() {
        return Err(QueryError::Invalid(format!(
            "the columns of '{}' cannot be told: name them",
            command.name.table()
        )));
    }
    let mut defaults = Vec::new();
    for (column, default) in &command.column_defaults {
        defaults.push((column.clone(), expr_to_sql(default)?.to_string()));
    }
    defaults.sort();
    let secrets = connectors.secrets(name, &command.options);
    let record = TableRecord {
        id,
        definition: Some(redacted(sql.trim().trim_end_matches(';').trim_end(), secrets)),
        schema: StoredSchema(table.schema()),
        constraints: StoredConstraint::of(&command.constraints),
        defaults,
        lengths: Vec::new(),
        storage: Storage::Connected(Connected {
            connector: name.to_string(),
            location: location.clone(),
            options: spec.options.given().clone(),
            sealed: None,
            is_changing: false,
        }),
    };
    Ok(Some((record, ConnectedTable::new(spec, table))))
}

/// Returns the table at a place that the catalog does not know, for a write that creates it. `rows`: the columns of the rows; `target`:
/// whether it may be there already.
pub(in crate::statements) async fn at_place(
    connectors: &Registry,
    place: &PlaceOfTable,
    lent: BTreeMap<String, String>,
    ids: &Ids,
    rows: SchemaRef,
    target: Target,
) -> Result<ConnectedTable, QueryError> {
    let PlaceOfTable { connector, location, options } = place;
    let spec = Arc::new(connectors.spec(connector, ids.name(), location.clone(), options.clone(), lent)?);
    let table = created(connectors.require(connector)?, &spec, rows, target).await?;
    Ok(ConnectedTable::new(spec, table))
}

/// Returns a table that a write creates.
async fn created(
    connector: &Arc<dyn Connector>,
    spec: &Arc<TableSpec>,
    rows: SchemaRef,
    target: Target,
) -> Result<Arc<dyn ConnectorTable>, QueryError> {
    let name = connector.name();
    if !connector.creates() {
        return Err(QueryError::Unsupported(format!(
            "no statement creates tables stored as {name}: create the table in the other system, then here with CREATE EXTERNAL TABLE \
             without AS, and use INSERT INTO"
        )));
    }
    let request = TableRequest { table: Arc::clone(spec), columns: Some(Arc::clone(&rows)), target };
    let table = connector.table(request).await?;
    let names = |schema: &SchemaRef| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    let (there, told) = (names(&table.schema()), names(&rows));
    match told.iter().find(|column| !there.contains(column)) {
        None if there == told => Ok(table),
        Some(column) => Err(QueryError::Invalid(format!(
            "the table of {name} has no column \"{column}\"; it has {}",
            there.iter().map(|column| format!("\"{column}\"")).collect::<Vec<_>>().join(", ")
        ))),
        None => Err(QueryError::Internal(format!("{name} gives a table other columns than it was told"))),
    }
}

impl Catalog {
    /// Returns the provider with which statements read and write a table. The provider depends only on the record and is kept. Each
    /// statement lists the files again, or asks the connector what there is to read.
    pub(super) async fn table_provider(
        &self,
        held: &Held,
        record: &TableRecord,
    ) -> Result<Arc<dyn TableProvider>, QueryError> {
        let build = || async {
            Ok::<_, QueryError>(match &record.storage {
                Storage::Connected(_) => Arc::new(self.connected(record).await?) as Arc<dyn TableProvider>,
                Storage::External(_) | Storage::Managed(_) => {
                    self.require_opened(record)?;
                    build::table_provider(self.planner(), record)?
                }
            })
        };
        match held.provider.get_or_try_init(build).await {
            // Lists of tables and columns must still show the other tables.
            Err(error) if !matches!(record.storage, Storage::Managed(_)) => Ok(Arc::new(Unreachable {
                schema: Arc::clone(&record.schema.0),
                definition: record.definition.clone(),
                error: error.to_string(),
            })),
            found => found.cloned(),
        }
    }

    /// Returns a table of a connector.
    pub(crate) async fn connected(&self, record: &TableRecord) -> Result<ConnectedTable, QueryError> {
        let Storage::Connected(Connected { connector, location, options, is_changing, .. }) = &record.storage else {
            return Err(QueryError::Internal("the table is not of a connector".to_string()));
        };
        self.require_opened(record)?;
        let lent = self.lent(options)?;
        let spec = self.connectors().spec(connector, record.id.clone(), location.clone(), options.clone(), lent)?;
        let (spec, columns) = (Arc::new(spec), Some(Arc::clone(&record.schema.0)));
        let request = TableRequest { table: Arc::clone(&spec), columns, target: Target::Present };
        let table = self.connectors().require(connector)?.table(request).await?;
        let table = ConnectedTable::new(spec, table)
            .with_constraints(record.constraints())
            .with_defaults(defaults(self.planner(), record)?)
            .with_definition(record.definition.clone());
        Ok(if *is_changing { table.changing() } else { table })
    }
}

/// A table whose connector is missing, or does not know the table any more.
#[derive(Debug)]
struct Unreachable {
    schema: SchemaRef,
    definition: Option<String>,
    error: String,
}

#[async_trait]
impl TableProvider for Unreachable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_table_definition(&self) -> Option<&str> {
        self.definition.as_deref()
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan_err!("{}", self.error)
    }
}
