//! Tables whose folder names hold values: `k=5/a.parquet` holds rows whose `k` is 5.
//!
//! One module ([`value`]) defines what a name means, for writers of folders ([`write`]) and readers ([`scan`]): NULL is `k=__HIVE_DEFAULT_PARTITION__`, as in
//! Hive, Spark, Arrow and DuckDB, and values are compared, not their spelling.

mod create;
mod scan;
mod value;
mod write;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
pub use create::{folder_columns, with_folder_columns};
use datafusion::catalog::TableProvider;
use datafusion::datasource::listing::ListingTable;
pub use scan::{insert, scan};
use std::sync::Arc;
pub(crate) use write::Folders;

/// The columns of `table`: those of its files, then those of its folders, any of which may be NULL.
pub fn table_schema(table: &ListingTable) -> SchemaRef {
    let (in_files, of_folders) = columns(table);
    let metadata = in_files.metadata().clone();
    let fields = in_files.fields().iter().cloned().chain(of_folders);
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), metadata))
}

/// The columns of the files, and those of the folders.
fn columns(table: &ListingTable) -> (SchemaRef, Vec<FieldRef>) {
    let schema = TableProvider::schema(table);
    let of_folders = table.options().table_partition_cols.len();
    let (in_files, of_folders) = schema.fields().split_at(schema.fields().len().saturating_sub(of_folders));
    let of_folders = of_folders.iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true))).collect();
    (Arc::new(Schema::new_with_metadata(in_files.to_vec(), schema.metadata().clone())), of_folders)
}
