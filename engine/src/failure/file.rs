//! Errors of files, with the name of the file.

use super::{inner, message};
use crate::stores::without_settings;
use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use object_store::path::Path;
use std::error::Error;
use std::fmt;

/// An error in one file. Its kind is that of its source.
#[derive(Debug)]
pub struct FileError {
    text: String,
    source: DataFusionError,
}

impl FileError {
    /// `file`: a path or a URL.
    pub fn of(file: &str, source: DataFusionError) -> DataFusionError {
        Self::described(format!("cannot read {file}: {}", message(&source)), source)
    }

    /// The cause of a file's error, without the name of the file.
    pub fn cause(error: DataFusionError) -> DataFusionError {
        match error {
            DataFusionError::External(external) => match external.downcast::<Self>() {
                Ok(error) => error.source,
                Err(external) => DataFusionError::External(external),
            },
            error => error,
        }
    }

    /// Whether an error is about a file but does not name it.
    pub fn is_due(error: &DataFusionError) -> bool {
        blame(error) == Blame::File
    }

    /// Whether an error names its file.
    pub fn is_named(error: &DataFusionError) -> bool {
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(cause) = next {
            if cause.is::<Self>() {
                return true;
            }
            next = inner(cause);
        }
        false
    }

    /// An error whose `text` says what is wrong and in which file.
    pub fn described(text: String, source: DataFusionError) -> DataFusionError {
        DataFusionError::External(Box::new(Self { text, source }))
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for FileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// The name of a file for people: a local path, or a URL.
pub fn file_name(store: &str, location: &Path) -> String {
    match store.trim_end_matches('/') {
        "file:" => format!("/{location}"),
        // A store without a host.
        scheme if scheme.ends_with(':') => format!("{scheme}///{location}"),
        store => format!("{}/{location}", without_settings(store)),
    }
}

#[derive(PartialEq)]
pub(crate) enum Blame {
    /// The file's bytes are wrong, or cannot be read.
    File,
    /// A value cannot be converted, in an expression or to the type of the table's column.
    Values,
    Nobody,
}

pub(crate) fn blame(error: &DataFusionError) -> Blame {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    let mut blame = Blame::Nobody;
    while let Some(cause) = next {
        if cause.is::<FileError>() {
            // The error names the file.
            return Blame::Nobody;
        }
        let decoder = matches!(
            cause.downcast_ref::<DataFusionError>(),
            Some(DataFusionError::ParquetError(_) | DataFusionError::ObjectStore(_) | DataFusionError::IoError(_))
        );
        if decoder || cause.is::<ParquetError>() || cause.is::<object_store::Error>() || cause.is::<std::io::Error>() {
            blame = Blame::File;
        }
        match cause.downcast_ref::<ArrowError>() {
            Some(ArrowError::CastError(_) | ArrowError::ParseError(_)) if blame == Blame::Nobody => {
                blame = Blame::Values;
            }
            Some(
                ArrowError::ParquetError(_)
                | ArrowError::IpcError(_)
                | ArrowError::AvroError(_)
                | ArrowError::CsvError(_)
                | ArrowError::JsonError(_)
                | ArrowError::SchemaError(_)
                | ArrowError::IoError(..),
            ) => blame = Blame::File,
            _ => {}
        }
        next = inner(cause);
    }
    blame
}
