//! Full names.

use datafusion::common::{ResolvedTableReference, TableReference};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The catalog of a new cluster, and its schema.
pub const DEFAULT_CATALOG: &str = "windlass";
pub const DEFAULT_SCHEMA: &str = "public";

/// A full name: catalog, schema and table (or view).
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

    pub(super) fn parts(&self) -> [&str; 3] {
        [&self.catalog, &self.schema, &self.table]
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
