//! How a statement of an interactive session ended on this primary.

use crate::meta::keys::interactive::Output;
use bytes::Bytes;

pub(super) enum Done {
    Output {
        output: Output,
        /// Its rows, or its forms, which are stored apart.
        content: Option<Bytes>,
        stopped: bool,
        /// A line for the session's log.
        log: Option<String>,
    },
    NotBegun,
    LeftToNext,
}

impl Done {
    pub fn of(output: Output) -> Self {
        Done::Output { output, content: None, stopped: false, log: None }
    }

    pub fn with(output: Output, content: Bytes) -> Self {
        Done::Output { output, content: Some(content), stopped: false, log: None }
    }

    /// A statement that was cancelled after it had printed something.
    pub fn stopped_after(printed: String) -> Self {
        let (name, message) = ("Cancelled".to_string(), "the statement was cancelled".to_string());
        let output = Output::Failed { name, message, traceback: Vec::new(), printed };
        Done::Output { output, content: None, stopped: true, log: None }
    }

    pub fn stopped(message: impl Into<String>, log: Option<String>) -> Self {
        Done::Output { output: Output::failed("Cancelled", message), content: None, stopped: true, log }
    }
}
