//! CSV files: RFC 4180, extended by the options of a table.

mod dialect;
mod edges;
mod format;
mod header;
mod infer;
mod records;
mod scan;
mod values;
mod write;

pub(crate) use format::CsvFilesFactory;
pub use format::{HEADER_NAMES, renamed_columns};
pub(super) use infer::{FILES, sampled};
pub(crate) use scan::{CsvReading, CsvScan};
pub use write::CsvFilesSink;
