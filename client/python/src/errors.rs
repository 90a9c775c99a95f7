//! Errors of the client as exceptions of `windlass._errors`.

use arrow::error::ArrowError;
use pyo3::prelude::*;
use windlass_client::{ClientError, ErrorKind};

/// Returns the exception for an error.
pub fn raised(py: Python<'_>, error: &ClientError) -> PyErr {
    let made = py
        .import("windlass._errors")
        .and_then(|module| module.call_method1("made", (name(error.kind()), error.to_string(), error.is_retryable())));
    match made {
        Ok(made) => PyErr::from_value(made),
        Err(broken) => broken,
    }
}

/// Returns the error for the C interface of streams, whose errors are text.
pub fn in_stream(error: ClientError) -> ArrowError {
    match error {
        ClientError::Decode(error) => error,
        other => ArrowError::ExternalError(Box::new(other)),
    }
}

fn name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Syntax => "syntax",
        ErrorKind::Invalid => "invalid",
        ErrorKind::UnknownOption => "unknown_option",
        ErrorKind::NotFound => "not_found",
        ErrorKind::AlreadyExists => "already_exists",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::TimedOut => "timed_out",
        ErrorKind::OutOfMemory => "out_of_memory",
        ErrorKind::Exhausted => "exhausted",
        ErrorKind::Busy => "busy",
        ErrorKind::NotLeading => "not_leading",
        ErrorKind::OutcomeUnknown => "outcome_unknown",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Denied => "denied",
        ErrorKind::ResultLost => "result_lost",
        ErrorKind::UnknownJob => "unknown_job",
        ErrorKind::Usage => "usage",
        ErrorKind::Unreachable => "unreachable",
        ErrorKind::Version => "version",
        ErrorKind::SessionLost => "session_lost",
        ErrorKind::Decode => "decode",
        ErrorKind::Io => "io",
        // Kinds that come later are defects until this module knows them.
        _ => "internal",
    }
}
