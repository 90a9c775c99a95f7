//! Settings of the logs.

use serde::{Deserialize, Serialize};
use windlass_core::section;

section! {
    /// Logs of the processes, on standard error.
    Log {
        /// "error", "warn", "info", "debug" or "trace", or directives such as "info,windlass_scheduler=debug".
        level: String = "info".to_owned();
        /// "text" or "json".
        format: LogFormat = LogFormat::Text;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}
