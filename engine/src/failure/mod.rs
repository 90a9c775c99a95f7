//! Classification of DataFusion's errors into the kinds of failure that the primary acts on. Nothing is formatted before it is classified.

mod file;

pub(crate) use file::{Blame, blame};
pub use file::{FileError, file_name};

use crate::exchange::ExchangeError;
use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use std::error::Error;
use std::io;
use tokio::task::JoinError;
use windlass_core::failure::TaskFailure;

/// The kind of failure behind `error`, anywhere in its chain of causes.
pub fn classify(error: &DataFusionError) -> TaskFailure {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    let mut in_a_file = false;
    while let Some(cause) = next {
        in_a_file |= cause.is::<FileError>();
        if let Some(kind) = kind_of(cause) {
            return describe(kind, error);
        }
        next = inner(cause);
    }
    // A decoder that only knows that its bytes are wrong: the contents of a file are not a defect of ours.
    describe(if in_a_file { Kind::User } else { Kind::Internal }, error)
}

enum Kind {
    Typed(TaskFailure),
    OutOfMemory,
    Io,
    DiskFull,
    User,
    /// The file of this path does not exist.
    Missing(String),
    Defect,
    Internal,
}

fn describe(kind: Kind, error: &DataFusionError) -> TaskFailure {
    let message = message(error);
    match kind {
        Kind::Typed(failure) => failure,
        Kind::OutOfMemory => TaskFailure::OutOfMemory { message: refusal(error).unwrap_or(message) },
        Kind::Io => TaskFailure::Io { message },
        Kind::DiskFull => TaskFailure::DiskFull { message },
        Kind::User => TaskFailure::UserError { message },
        Kind::Missing(path) => TaskFailure::FileMissing { path, message },
        Kind::Defect => TaskFailure::Defect { message },
        Kind::Internal => TaskFailure::Internal { message },
    }
}

/// The message of the memory pool. Operators wrap it in advice about DataFusion's settings, which are not those of an executor.
fn refusal(error: &DataFusionError) -> Option<String> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(DataFusionError::ResourcesExhausted(refusal)) = cause.downcast_ref::<DataFusionError>() {
            return Some(refusal.clone());
        }
        next = inner(cause);
    }
    None
}

/// The kind that this link of the chain determines; `None` when only its cause can tell.
fn kind_of(cause: &(dyn Error + 'static)) -> Option<Kind> {
    if let Some(failure) = cause.downcast_ref::<TaskFailure>() {
        return Some(Kind::Typed(failure.clone()));
    }
    if let Some(error) = cause.downcast_ref::<ExchangeError>() {
        return exchange_kind(error);
    }
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        return io_kind(error);
    }
    if let Some(error) = cause.downcast_ref::<object_store::Error>() {
        return store_kind(error);
    }
    if let Some(error) = cause.downcast_ref::<ArrowError>() {
        return match error {
            ArrowError::ExternalError(_) | ArrowError::IoError(..) => None,
            ArrowError::MemoryError(_) => Some(Kind::OutOfMemory),
            ArrowError::IpcError(_) => Some(Kind::Io),
            _ => Some(Kind::User),
        };
    }
    if let Some(error) = cause.downcast_ref::<ParquetError>() {
        return match error {
            ParquetError::External(_) => None,
            _ => Some(Kind::User),
        };
    }
    if let Some(joined) = cause.downcast_ref::<JoinError>() {
        return Some(if joined.is_panic() { Kind::Defect } else { Kind::Internal });
    }
    if let Some(error) = cause.downcast_ref::<DataFusionError>() {
        return datafusion_kind(error);
    }
    None
}

fn datafusion_kind(error: &DataFusionError) -> Option<Kind> {
    match error {
        DataFusionError::ResourcesExhausted(_) => Some(Kind::OutOfMemory),
        DataFusionError::ExecutionJoin(joined) if !joined.is_panic() => Some(Kind::Internal),
        DataFusionError::Internal(_) | DataFusionError::ExecutionJoin(_) => Some(Kind::Defect),
        DataFusionError::Plan(_)
        | DataFusionError::Configuration(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::Execution(_)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::SQL(..) => Some(Kind::User),
        _ => None,
    }
}

/// Failures of the executor's own store. A reader turns a failed fetch into `FetchFailed` before it comes here.
fn exchange_kind(error: &ExchangeError) -> Option<Kind> {
    Some(match error {
        ExchangeError::DiskFull { .. } => Kind::DiskFull,
        ExchangeError::OutOfMemory { .. } => Kind::OutOfMemory,
        ExchangeError::Io { .. } | ExchangeError::Missing { .. } | ExchangeError::Corrupt { .. } => Kind::Io,
        ExchangeError::Mismatch { .. } | ExchangeError::Arrow { .. } | ExchangeError::Internal { .. } => Kind::Internal,
    })
}

fn io_kind(error: &io::Error) -> Option<Kind> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(Kind::DiskFull),
        _ if error.get_ref().is_some() => None,
        _ => Some(Kind::Io),
    }
}

fn store_kind(error: &object_store::Error) -> Option<Kind> {
    match error {
        object_store::Error::NotFound { path, .. } => Some(Kind::Missing(path.clone())),
        // A listed file no longer exists: a retry changes nothing.
        object_store::Error::Precondition { .. }
        | object_store::Error::InvalidPath { .. }
        | object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. }
        | object_store::Error::NotSupported { .. }
        | object_store::Error::UnknownConfigurationKey { .. } => Some(Kind::User),
        _ => match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
            Some(error) => io_kind(error).or(Some(Kind::Io)),
            None => Some(Kind::Io),
        },
    }
}

/// The next link of the chain. DataFusion's and Arrow's errors do not return every cause as their `source`.
pub(crate) fn inner<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    if let Some(error) = cause.downcast_ref::<DataFusionError>() {
        return match error {
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => Some(inner.as_ref()),
            DataFusionError::Shared(inner) => Some(inner.as_ref()),
            DataFusionError::External(inner) => Some(inner.as_ref()),
            DataFusionError::ArrowError(inner, _) => Some(inner.as_ref()),
            DataFusionError::ParquetError(inner) => Some(inner.as_ref()),
            DataFusionError::ObjectStore(inner) => Some(inner.as_ref()),
            DataFusionError::IoError(inner) => Some(inner),
            DataFusionError::Collection(errors) => errors.first().map(|error| error as &(dyn Error + 'static)),
            other => other.source(),
        };
    }
    if let Some(error) = cause.downcast_ref::<ArrowError>() {
        return match error {
            ArrowError::ExternalError(inner) => Some(inner.as_ref()),
            ArrowError::IoError(_, inner) => Some(inner),
            other => other.source(),
        };
    }
    if let Some(ParquetError::External(inner)) = cause.downcast_ref::<ParquetError>() {
        return Some(inner.as_ref());
    }
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        return error.get_ref().map(|inner| inner as &(dyn Error + 'static));
    }
    cause.source()
}

/// The message without DataFusion's prefixes, which say where in DataFusion an error arose and not what to do.
pub fn message(error: &DataFusionError) -> String {
    let stripped = error.strip_backtrace();
    let mut text = stripped.as_str();
    const PREFIXES: [&str; 11] = [
        "Error during planning: ",
        "Execution error: ",
        "External error: ",
        "Arrow error: ",
        "Parquet error: ",
        "Schema error: ",
        "SQL error: ",
        "Object Store error: ",
        "Operation not supported: ",
        "IO error: ",
        "Resources exhausted: ",
    ];
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest;
    }
    // Internal errors end with a request to report them to DataFusion.
    text.split("\nThis issue was likely caused by a bug").next().unwrap_or(text).trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use windlass_core::ids::{ExecutorId, JobId};

    #[test]
    fn a_typed_failure_survives_every_wrapper() {
        let failure = TaskFailure::FetchFailed {
            output: JobId(1).stage(2).task(3).attempt(4),
            executor: ExecutorId(5),
            message: "gone".into(),
        };
        let external = DataFusionError::External(Box::new(failure.clone()));
        let arrow = ArrowError::ExternalError(Box::new(external));
        let shared = DataFusionError::Shared(Arc::new(DataFusionError::from(arrow)));
        let context = shared.context("while joining");
        assert_eq!(classify(&context), failure);
    }

    #[test]
    fn a_full_disk_and_exhausted_memory_are_told_apart_from_defects() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert!(matches!(classify(&DataFusionError::IoError(full)), TaskFailure::DiskFull { .. }));
        let memory = DataFusionError::ResourcesExhausted("sort".into()).context("set datafusion.runtime.memory_limit");
        assert_eq!(classify(&memory), TaskFailure::OutOfMemory { message: "sort".into() });
        let defect = DataFusionError::Internal("oops".into());
        assert!(matches!(classify(&defect), TaskFailure::Defect { .. }));
    }

    #[tokio::test]
    async fn a_panic_is_a_defect_wherever_it_was() {
        let panicked = tokio::spawn(async { panic!("oops") }).await.unwrap_err();
        let error = DataFusionError::External(Box::new(panicked)).context("Join Error");
        assert!(matches!(classify(&error), TaskFailure::Defect { message } if message.contains("oops")));
    }

    #[test]
    fn what_the_statement_or_its_data_caused_is_the_users() {
        let divide = DataFusionError::from(ArrowError::DivideByZero);
        assert!(matches!(classify(&divide), TaskFailure::UserError { .. }));
        let parse = DataFusionError::from(ArrowError::CsvError("line 7".into()));
        assert!(matches!(classify(&parse), TaskFailure::UserError { message } if message.contains("line 7")));
    }
}
