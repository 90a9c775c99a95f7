//! JSON files: one object on each line, or one array of objects.

mod array;
mod format;
mod infer;
mod numbers;
mod sample;
mod scan;

pub(crate) use format::JsonFilesFactory;
pub(crate) use scan::JsonScan;
