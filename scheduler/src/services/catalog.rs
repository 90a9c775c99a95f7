//! The catalog for its readers: its contents, as a session sees them.

use crate::errors::QueryError;
use crate::statements::Statements;
use crate::statements::catalog::{self, Record, TableName};
use crate::statements::sessions::Session;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::logical_expr::TableType;
use std::sync::Arc;
use windlass_core::access::Principal;

/// Catalogs, schemas and tables. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    catalog: Arc<catalog::Catalog>,
    statements: Statements,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    Table,
    View,
    /// A table of its session.
    Temporary,
}

#[derive(Clone, Debug)]
pub struct TableView {
    pub catalog: String,
    pub schema: String,
    pub name: String,
    pub kind: TableKind,
    /// Its columns, if requested. `None`: a view that cannot be planned any more.
    pub columns: Option<SchemaRef>,
}

impl Catalog {
    pub(crate) fn new(statements: Statements) -> Self {
        Catalog { catalog: Arc::clone(statements.catalog()), statements }
    }

    /// Returns the names of all catalogs.
    pub fn catalogs(&self, _: &Principal) -> Vec<String> {
        self.catalog.snapshot().catalogs().map(str::to_string).collect()
    }

    /// Returns all schemas as (catalog, schema).
    pub async fn schemas(&self, _: &Principal) -> Vec<(String, String)> {
        let _listing = self.catalog.list_foreign(false, |_| true).await;
        let snapshot = self.catalog.snapshot();
        let schemas = |catalog: &str| match snapshot.foreign(catalog) {
            Some(foreign) => foreign.schemas(),
            None => snapshot.schemas(catalog).map(str::to_string).collect::<Vec<_>>(),
        };
        let all = snapshot.catalogs().map(|catalog| (catalog.to_string(), schemas(catalog)));
        all.flat_map(|(catalog, schemas)| schemas.into_iter().map(move |schema| (catalog.clone(), schema))).collect()
    }

    /// Returns the tables that a session sees, including its temporary ones. `columns`: also returns their columns, for which views
    /// must be planned. `within`: of one catalog.
    pub async fn tables(
        &self,
        _: &Principal,
        session: &Arc<Session>,
        within: Option<String>,
        columns: bool,
    ) -> Result<Vec<TableView>, QueryError> {
        let (catalog, session) = (Arc::clone(&self.catalog), Arc::clone(session));
        self.statements.on_planners(async move { tables(&catalog, &session, within, columns).await }).await
    }
}

async fn tables(
    catalog: &catalog::Catalog,
    session: &Arc<Session>,
    within: Option<String>,
    with_columns: bool,
) -> Result<Vec<TableView>, QueryError> {
    let is_wanted = |name: &str| within.as_ref().is_none_or(|within| within == name);
    let _listing = catalog.list_foreign(with_columns, is_wanted).await;
    let state = session.state();
    let catalogs = state.catalog_list();
    let mut all = Vec::new();
    for catalog_name in catalogs.catalog_names().into_iter().filter(|name| is_wanted(name)) {
        let Some(catalog) = catalogs.catalog(&catalog_name) else { continue };
        for schema_name in catalog.schema_names() {
            let Some(schema) = catalog.schema(&schema_name) else { continue };
            for table in schema.table_names() {
                let name = TableName::new(&catalog_name, &schema_name, &table);
                let temporary = session.temporary().find(&name).map(|held| match held.record {
                    Record::Table(_) => TableKind::Temporary,
                    Record::View(_) => TableKind::View,
                });
                let kind = match temporary {
                    Some(kind) => kind,
                    None => match schema.table_type(&table).await? {
                        Some(TableType::View) => TableKind::View,
                        _ => TableKind::Table,
                    },
                };
                let columns = match with_columns {
                    // A view whose tables are gone is listed without columns.
                    true => schema.table(&table).await.ok().flatten().map(|table| table.schema()),
                    false => None,
                };
                let (catalog, schema) = (catalog_name.clone(), schema_name.clone());
                all.push(TableView { catalog, schema, name: table, kind, columns });
            }
        }
    }
    Ok(all)
}
