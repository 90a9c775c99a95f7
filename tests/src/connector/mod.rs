//! A connector from outside the engine: rows that are computed from their numbers, and a sink into a shared folder.
//!
//! ```sql
//! CREATE EXTERNAL TABLE g STORED AS GENERATED LOCATION '/shared/g' OPTIONS (rows '1000', splits '7', seed '3', token 'secret')
//! ```
//!
//! Its first rows are computed; inserted rows lie in the folder, with a manifest for each published write.

mod folder;
mod scan;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, Statistics, plan_err};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use folder::{Folder, FolderSink};
use scan::{GeneratedScan, least_id};
use std::path::PathBuf;
use std::sync::Arc;
use windlass_client::connector::{
    Connector, ConnectorTable, Encoded, OptionKind, OptionSpec, Scan, ScanRequest, Sink, SinkRequest, TableRequest,
    TableSpec, Target,
};

// example: connector
/// Tables of rows that nobody wrote.
#[derive(Debug)]
pub struct Generated;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("rows", OptionKind::Integer, "Number of rows that are made up.").or("0"),
    OptionSpec::new("splits", OptionKind::Integer, "Number of tasks that make them up side by side, at most.").or("4"),
    OptionSpec::new("seed", OptionKind::Integer, "Tables of different seeds have different values.").or("0"),
    OptionSpec::new("pace", OptionKind::Integer, "Milliseconds that each thousand rows take.").or("0"),
    OptionSpec::new("token", OptionKind::Text, "Opens the table: the word that its folder was locked with.").secret(),
];

#[async_trait]
impl Connector for Generated {
    fn name(&self) -> &'static str {
        "GENERATED"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    async fn table(&self, request: TableRequest) -> Result<Arc<dyn ConnectorTable>> {
        let table = GeneratedTable { target: request.target, ..GeneratedTable::new(request.table)? };
        let fits = |columns: &SchemaRef| match request.target {
            Target::Present => columns.fields() == table.schema().fields(),
            // The rows of a write are cast to the table's types.
            Target::New | Target::Any => names(columns) == names(&table.schema()),
        };
        if request.target == Target::New {
            table.folder.require_new()?;
        }
        match request.columns {
            Some(columns) if !fits(&columns) => {
                plan_err!("a generated table has the columns id BIGINT, key BIGINT and name VARCHAR: leave them out")
            }
            _ => Ok(Arc::new(table)),
        }
    }

    fn creates(&self) -> bool {
        true
    }

    fn decode_scan(&self, encoded: Encoded<'_>) -> Result<Arc<dyn Scan>> {
        Ok(Arc::new(GeneratedScan::decode(GeneratedTable::new(Arc::clone(encoded.table))?, encoded)?))
    }

    fn decode_sink(&self, encoded: Encoded<'_>) -> Result<Arc<dyn Sink>> {
        let folder = GeneratedTable::new(Arc::clone(encoded.table))?.folder;
        Ok(Arc::new(FolderSink::decode(folder, encoded)?))
    }
}
// end of example

/// The options of a table.
#[derive(Clone, Debug)]
struct GeneratedTable {
    rows: u64,
    splits: u64,
    seed: u64,
    /// Milliseconds for each thousand rows.
    pace: u64,
    folder: Folder,
    target: Target,
}

impl GeneratedTable {
    fn new(table: Arc<TableSpec>) -> Result<Self> {
        let number = |name: &str| match u64::try_from(table.options.integer(name).unwrap_or(0)) {
            Ok(number) => Ok(number),
            Err(_) => plan_err!("the option '{name}' is negative"),
        };
        let path = PathBuf::from(&table.location);
        if !path.is_absolute() {
            return plan_err!("'{}' is not the absolute path of a folder that all executors share", table.location);
        }
        let token = table.options.text("token").unwrap_or_default().to_string();
        Ok(Self {
            rows: number("rows")?,
            splits: number("splits")?.max(1),
            seed: number("seed")?,
            pace: number("pace")?,
            folder: Folder { path, token },
            target: Target::Present,
        })
    }
}

fn names(columns: &SchemaRef) -> Vec<&String> {
    columns.fields().iter().map(|field| field.name()).collect()
}

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("key", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
    ]))
}

#[async_trait]
impl ConnectorTable for GeneratedTable {
    fn schema(&self) -> SchemaRef {
        columns()
    }

    fn statistics(&self) -> Option<Statistics> {
        None
    }

    // example: pushdown
    /// `id >= N` means fewer splits. Rows of the last one that is left may still be smaller.
    fn pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let of = |filter: &&Expr| match least_id(filter) {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(of).collect())
    }
    // end of example

    async fn scan(&self, request: ScanRequest<'_>) -> Result<Arc<dyn Scan>> {
        self.folder.unlock()?;
        Ok(Arc::new(GeneratedScan::of(self.clone(), request)?))
    }

    async fn sink(&self, request: SinkRequest) -> Result<Arc<dyn Sink>> {
        self.folder.unlock()?;
        Ok(Arc::new(FolderSink::new(self.folder.clone(), request, self.target == Target::New)?))
    }
}
