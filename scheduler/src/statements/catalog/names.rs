//! Full names, and where the metadata store keeps what they name.

use crate::meta::{segment, unsegment};
use datafusion::common::{ResolvedTableReference, TableReference};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The catalog of a new cluster, and its schema.
pub const DEFAULT_CATALOG: &str = "windlass";
pub const DEFAULT_SCHEMA: &str = "public";

pub(super) const CATALOGS: &str = "catalog/catalog/";
pub(super) const SCHEMAS: &str = "catalog/schema/";
pub(super) const TABLES: &str = "catalog/table/";
/// Written by every change of the catalog, so that two changes cannot pass each other.
pub(super) const VERSION: &str = "catalog/version";

/// Catalog, schema and table (or view).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    pub catalog: String,
    pub schema: String,
    pub table: String,
}

impl TableName {
    pub fn new(catalog: &str, schema: &str, table: &str) -> Self {
        Self { catalog: catalog.to_string(), schema: schema.to_string(), table: table.to_string() }
    }

    pub(super) fn key(&self) -> String {
        format!("{TABLES}{}/{}/{}", segment(&self.catalog), segment(&self.schema), segment(&self.table))
    }

    pub(super) fn from_key(key: &str) -> Option<Self> {
        let mut parts = key.strip_prefix(TABLES)?.split('/').map(unsegment);
        Some(Self { catalog: parts.next()?, schema: parts.next()?, table: parts.next()? })
    }

    pub fn reference(&self) -> TableReference {
        TableReference::full(self.catalog.as_str(), self.schema.as_str(), self.table.as_str())
    }
}

impl From<ResolvedTableReference> for TableName {
    fn from(name: ResolvedTableReference) -> Self {
        Self::new(&name.catalog, &name.schema, &name.table)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.catalog, self.schema, self.table)
    }
}

pub(super) fn catalog_key(catalog: &str) -> String {
    format!("{CATALOGS}{}", segment(catalog))
}

pub(super) fn schema_key(catalog: &str, schema: &str) -> String {
    format!("{SCHEMAS}{}/{}", segment(catalog), segment(schema))
}
