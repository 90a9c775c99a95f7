//! Errors of the exchange.

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;
use windlass_core::ids::AttemptId;

/// An operation of the exchange failed. Recovery distinguishes the variants, so the type must survive: it travels through DataFusion as
/// [`DataFusionError::External`].
#[derive(Debug, Error)]
pub enum ExchangeError {
    /// The store has no such output: it was never finished here, was removed, or its files were deleted from outside.
    #[error("map output {output} is not on this executor")]
    Missing { output: AttemptId },
    /// Bytes of the output are missing or differ from those written.
    #[error("map output {output} is corrupt: {detail}")]
    Corrupt { output: AttemptId, detail: String },
    /// The disk, a quota or the store's disk budget is full.
    #[error("no space for exchange file {}: {detail}", path.display())]
    DiskFull { path: PathBuf, detail: String },
    #[error("cannot {action} {}: {source}", path.display())]
    Io { output: Option<AttemptId>, action: &'static str, path: PathBuf, source: io::Error },
    #[error("out of memory for map output {output}: {detail}")]
    OutOfMemory { output: AttemptId, detail: String },
    /// A pushed batch does not fit the declared schema.
    #[error("batch does not fit the schema that map output {output} declares: {detail}")]
    Mismatch { output: AttemptId, detail: String },
    /// Arrow failed to encode, decode or combine batches whose bytes are known to be right.
    #[error("map output {output}: {source}")]
    Arrow { output: AttemptId, source: ArrowError },
    /// A defect of the engine.
    #[error("exchange: {detail}")]
    Internal { detail: String },
}

impl ExchangeError {
    /// The map output that the failure is about, if it is about one.
    pub fn output(&self) -> Option<AttemptId> {
        match self {
            ExchangeError::Missing { output }
            | ExchangeError::Corrupt { output, .. }
            | ExchangeError::OutOfMemory { output, .. }
            | ExchangeError::Mismatch { output, .. }
            | ExchangeError::Arrow { output, .. } => Some(*output),
            ExchangeError::Io { output, .. } => *output,
            ExchangeError::DiskFull { .. } | ExchangeError::Internal { .. } => None,
        }
    }

    pub(super) fn corrupt(output: AttemptId, detail: impl Into<String>) -> Self {
        ExchangeError::Corrupt { output, detail: detail.into() }
    }

    pub(super) fn arrow(output: AttemptId, source: ArrowError) -> Self {
        match source {
            ArrowError::MemoryError(detail) => ExchangeError::OutOfMemory { output, detail },
            source => ExchangeError::Arrow { output, source },
        }
    }

    pub(super) fn io(output: Option<AttemptId>, action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                ExchangeError::DiskFull { path: path.to_owned(), detail: source.to_string() }
            }
            _ => ExchangeError::Io { output, action, path: path.to_owned(), source },
        }
    }
}

impl From<ExchangeError> for DataFusionError {
    fn from(error: ExchangeError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}
