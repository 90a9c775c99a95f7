//! The catalog over Flight SQL.

use super::flight::{self, SqlMessage};
use super::link::Link;
use super::statement::flight_info;
use crate::backend::{Delivery, Table, TableFilter};
use crate::error::{ClientError, Result};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};
use futures::TryStreamExt;
use std::sync::Arc;
use windlass_proto::flight::CommandGetTables;

pub(super) async fn list(link: &Link, filter: &TableFilter) -> Result<Vec<Table>> {
    let command = CommandGetTables {
        catalog: filter.catalog.clone(),
        // These are patterns, in which `_` means any character and nothing escapes it: read_batch filters again.
        db_schema_filter_pattern: filter.schema.clone(),
        table_name_filter_pattern: filter.name.clone(),
        table_types: Vec::new(),
        include_schema: filter.with_columns,
    };
    let info = flight_info(link, command.packed(), "", Delivery::Once).await?;
    let schema = Arc::new(Schema::empty());
    let batches: Vec<RecordBatch> = link.fetcher.read(info.endpoint, schema).try_collect().await?;
    let mut tables = Vec::new();
    for batch in &batches {
        read_batch(batch, filter, &mut tables)?;
    }
    Ok(tables)
}

fn read_batch(batch: &RecordBatch, filter: &TableFilter, out: &mut Vec<Table>) -> Result<()> {
    let text = |name: &str| -> Result<ArrayRef> { Ok(cast(column(batch, name)?, &DataType::Utf8)?) };
    let (catalogs, schemas, names, kinds) =
        (text("catalog_name")?, text("db_schema_name")?, text("table_name")?, text("table_type")?);
    let columns = match filter.with_columns {
        true => Some(cast(column(batch, "table_schema")?, &DataType::Binary)?),
        false => None,
    };
    let value = |array: &ArrayRef, row: usize| -> String {
        let array = array.as_string::<i32>();
        if array.is_null(row) { String::new() } else { array.value(row).to_owned() }
    };
    for row in 0..batch.num_rows() {
        let columns = match &columns {
            Some(columns) => Some(flight::schema(columns.as_binary::<i32>().value(row))?),
            None => None,
        };
        let table = Table {
            catalog: value(&catalogs, row),
            schema: value(&schemas, row),
            name: value(&names, row),
            kind: value(&kinds, row),
            columns,
        };
        let wanted = |filter: &Option<String>, found: &str| filter.as_deref().is_none_or(|wanted| wanted == found);
        if wanted(&filter.schema, &table.schema) && wanted(&filter.name, &table.name) {
            out.push(table);
        }
    }
    Ok(())
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch
        .column_by_name(name)
        .ok_or_else(|| ClientError::garbled(format!("the cluster's list of tables has no column {name}")))
}
