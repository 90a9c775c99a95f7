//! JSON files: one object on each line, or one array of objects.

#![allow(clippy::result_large_err, reason = "errors end a scan, and are as large as those of DataFusion around them")]

mod array;
mod format;
mod infer;
mod numbers;
mod sample;
mod scan;

pub(crate) use format::JsonFilesFactory;
pub(crate) use scan::JsonScan;
