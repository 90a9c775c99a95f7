//! Catalogs of other systems: the tables that are there, whoever made them.

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::common::{Constraints, Result};
use std::fmt;

/// The tables of another system, on the primary: CREATE CATALOG … STORED AS.
///
/// The engine asks when a statement names a table, and when tables are listed, and keeps each answer for a few seconds. Each question is bounded in time by
/// the engine too; dropping the future must end it.
#[async_trait]
pub trait ConnectorCatalog: fmt::Debug + Send + Sync {
    /// All schemas that lists show, with their tables, in any order. Names are those of the other system, in its upper and lower case.
    ///
    /// `columns`: whether each table is to have its columns. Without them, the answer should come quickly also for many thousands of tables.
    async fn schemas(&self, columns: bool) -> Result<Vec<CatalogSchema>>;

    /// One table, with its columns. `None`: there is none of exactly these names, or it is not for this user.
    async fn table(&self, schema: &str, table: &str) -> Result<Option<CatalogTable>>;

    /// The location and the options of a table, besides those of the catalog. [`super::Connector::table`] opens it by them, and by the columns.
    fn place(&self, schema: &str, table: &str) -> TablePlace;
}

/// A schema of another system.
#[derive(Clone, Debug)]
pub struct CatalogSchema {
    pub name: String,
    pub tables: Vec<CatalogTable>,
}

/// A table or view of another system.
#[derive(Clone, Debug)]
pub struct CatalogTable {
    pub name: String,
    pub is_view: bool,
    /// `None`: nobody asked for them.
    pub columns: Option<SchemaRef>,
    /// Keys that the other system enforces, also on its own writers. Plans rely on them.
    pub keys: Constraints,
}

/// Where a table of a catalog is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TablePlace {
    pub location: String,
    pub options: Vec<(String, String)>,
}
