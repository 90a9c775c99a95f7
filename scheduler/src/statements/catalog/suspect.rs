//! Finds the file of a table that an error is about. DataFusion reads many files together to plan a statement, and names none.

use datafusion::arrow::datatypes::Schema;
use datafusion::catalog::Session;
use datafusion::common::DataFusionError;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::ListingTableUrl;
use futures::{StreamExt, TryStreamExt};
use windlass_engine::failure::{FileError, file_name};

/// Maximum files that are read again to find the faulty one.
const SUSPECTS: usize = 1_000;

/// Returns an error that names the faulty file, if it can be found: the first file that cannot be read alone, or else the first whose
/// columns do not fit those of the files before it. Otherwise returns `error`.
pub(super) async fn named(
    error: DataFusionError,
    state: &dyn Session,
    format: &dyn FileFormat,
    paths: &[ListingTableUrl],
    extension: &str,
) -> DataFusionError {
    // Files that are read by their own column names may have different columns.
    let by_schema = !FileError::is_named(&error);
    for path in paths {
        if let Ok(Some(file_error)) = first_at_fault(state, format, path, extension, by_schema).await {
            return file_error;
        }
    }
    error
}

async fn first_at_fault(
    state: &dyn Session,
    format: &dyn FileFormat,
    path: &ListingTableUrl,
    extension: &str,
    by_schema: bool,
) -> Result<Option<DataFusionError>, DataFusionError> {
    let store = state.runtime_env().object_store(path)?;
    let files: Vec<_> = path.list_all_files(state, &store, extension).await?.take(SUSPECTS).try_collect().await?;
    let mut columns = Schema::empty();
    for file in files.iter().filter(|file| file.size > 0) {
        let name = file_name(path.object_store().as_str(), &file.location);
        match format.infer_schema(state, &store, std::slice::from_ref(file)).await {
            Err(error) => return Ok(Some(FileError::of(&name, FileError::cause(error)))),
            Ok(_) if !by_schema => {}
            Ok(schema) => match Schema::try_merge([columns, schema.as_ref().clone()]) {
                Ok(merged) => columns = merged,
                Err(error) => {
                    let text = format!("the columns of {name} are not those of the files before it: {error}");
                    return Ok(Some(FileError::described(text, error.into())));
                }
            },
        }
    }
    Ok(None)
}
