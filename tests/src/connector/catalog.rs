//! A catalog of generated tables: the folders that there are.

use super::columns;
use async_trait::async_trait;
use datafusion::common::{Result, plan_err};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use windlass_client::connector::{CatalogSchema, CatalogTable, ConnectorCatalog, TablePlace, TableSpec};

// example: catalog
/// A folder of schemas, which are folders of tables, which are folders.
#[derive(Debug)]
pub(super) struct FolderOfTables(PathBuf);

impl FolderOfTables {
    pub fn new(catalog: &TableSpec) -> Result<Self> {
        match Path::new(&catalog.location) {
            path if path.is_absolute() => Ok(Self(path.to_owned())),
            _ => plan_err!("'{}' is not the absolute path of a folder of folders", catalog.location),
        }
    }

    fn entry(name: String, with_columns: bool) -> CatalogTable {
        CatalogTable { name, is_view: false, columns: with_columns.then(columns), keys: Default::default() }
    }
}

#[async_trait]
impl ConnectorCatalog for FolderOfTables {
    async fn schemas(&self, columns: bool) -> Result<Vec<CatalogSchema>> {
        let mut schemas = Vec::new();
        for name in folders(&self.0)? {
            let tables = folders(&self.0.join(&name))?.into_iter().map(|name| Self::entry(name, columns)).collect();
            schemas.push(CatalogSchema { name, tables });
        }
        Ok(schemas)
    }

    async fn table(&self, schema: &str, table: &str) -> Result<Option<CatalogTable>> {
        let is_there = folders(&self.0.join(schema))?.iter().any(|name| name == table);
        Ok(is_there.then(|| Self::entry(table.to_string(), true)))
    }

    fn place(&self, schema: &str, table: &str) -> TablePlace {
        TablePlace { location: self.0.join(schema).join(table).display().to_string(), options: Vec::new() }
    }
}
// end of example

/// Names of the folders in a folder. There are none in one that is gone from its own folder; where that is gone too, it is an error.
fn folders(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && path.parent().is_some_and(Path::exists) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}
