//! The columns of a new table's folders.

use super::value::{decoded, is_hidden};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::{Result, plan_err};
use datafusion::datasource::listing::ListingTableUrl;
use futures::TryStreamExt;
use object_store::path::Path;
use std::sync::Arc;

/// Maximum files looked at. The scan reports any other file that differs.
const LOOKED_AT: usize = 10;

/// The names of the columns of the folders below `urls`: `named` if given, otherwise the names in the folders.
pub async fn folder_columns(session: &dyn Session, urls: &[ListingTableUrl], named: &[String]) -> Result<Vec<String>> {
    let mut found = named.to_vec();
    let mut first: Option<Path> = (!named.is_empty()).then(Path::default);
    for url in urls {
        if !named.is_empty() && !url.is_collection() {
            return plan_err!(
                "{url} is a file, and PARTITIONED BY is for tables over folders: make the table over the folder that the folders \
                 '{}=…' lie in (a location that ends with /)",
                named[0]
            );
        }
        for file in first_files(session, url).await? {
            let keys = keys(url, &file);
            let fits = |(column, key): (&String, &String)| column.eq_ignore_ascii_case(key);
            match &first {
                None => {
                    found = keys;
                    first = Some(file);
                }
                // There may be more levels of folders than named columns.
                Some(_)
                    if keys.len() >= found.len()
                        && (keys.len() == found.len() || !named.is_empty())
                        && found.iter().zip(&keys).all(fits) => {}
                Some(_) if !named.is_empty() => {
                    return plan_err!(
                        "the file /{file} lies in no folder '{}=…' below {url}, where PARTITIONED BY says that all do: move it, or name \
                         the columns as the folders do, outermost first",
                        found.join("=…/")
                    );
                }
                Some(other) => {
                    return plan_err!(
                        "the files /{other} and /{file} lie in folders with values of other columns: make a table over those of one kind, \
                         or set datafusion.execution.listing_table_factory_infer_partitions to false, which takes folders for folders"
                    );
                }
            }
        }
    }
    Ok(found)
}

async fn first_files(session: &dyn Session, url: &ListingTableUrl) -> Result<Vec<Path>> {
    let store = session.runtime_env().object_store(url)?;
    let mut files = Vec::new();
    let mut listed = url.list_all_files(session, store.as_ref(), "").await?;
    while let Some(file) = listed.try_next().await? {
        let hidden = url.strip_prefix(&file.location).is_none_or(|mut segments| segments.any(is_hidden));
        if file.size > 0 && !hidden {
            files.push(file.location);
        }
        if files.len() == LOOKED_AT {
            break;
        }
    }
    Ok(files)
}

/// Column names of the folders in which `file` lies.
fn keys(url: &ListingTableUrl, file: &Path) -> Vec<String> {
    let segments: Vec<&str> = url.strip_prefix(file).map(Iterator::collect).unwrap_or_default();
    let folders = segments.split_last().map_or(&[][..], |(_, folders)| folders);
    folders.iter().filter_map(|folder| Some(decoded(folder.split_once('=')?.0))).collect()
}

/// The columns of a table whose files have those of `in_files` and whose folders have `names`. A folder's column has the type that was `declared`, the type
/// in the files, or text.
pub fn with_folder_columns(in_files: &Schema, declared: &Schema, names: &[String]) -> SchemaRef {
    let is_read = |field: &&FieldRef| !names.contains(field.name());
    let column = |name: &String| {
        let known = declared.field_with_name(name).or_else(|_| in_files.field_with_name(name));
        let data_type = known.map_or(DataType::Utf8View, |field| field.data_type().clone());
        Arc::new(Field::new(name, data_type, true))
    };
    let fields = in_files.fields().iter().filter(is_read).cloned().chain(names.iter().map(column));
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), in_files.metadata().clone()))
}
