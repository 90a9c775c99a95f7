//! CSV and JSON files, and lines of kinds that connectors know, with our own readers and writers. DataFusion's change values without a warning: they cut CSV
//! records at line ends inside quotes, take columns by position whatever the header says, read and write '' and NULL alike, and drop fractions of JSON
//! numbers.

pub(crate) mod bytes;
pub mod csv;
pub(crate) mod json;
pub mod lines;
pub(crate) mod place;

use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::datasource::listing::PartitionedFile;

/// The bytes of `file` that a scan reads; `None` for all of them.
fn range_of(file: &PartitionedFile) -> Result<Option<(u64, u64)>> {
    let Some(range) = &file.range else { return Ok(None) };
    let at = |byte: i64| {
        u64::try_from(byte).map_err(|_| exec_datafusion_err!("a range of a file begins or ends at byte {byte}"))
    };
    Ok(Some((at(range.start)?, at(range.end)?)))
}

/// The error for reading a part of a file whose parts cannot be read alone.
fn not_in_parts(what: &str) -> DataFusionError {
    exec_datafusion_err!("{what} cannot be read in parts")
}
