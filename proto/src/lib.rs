//! The wire: generated types, their only conversion to core types and back, and the conventions that both sides share.
//!
//! The modules, lowest first. Each imports only from those before it:
//!
//! | layer | modules |
//! | --- | --- |
//! | words | `address`, `version`, `errors` |
//! | messages | `convert`, `files`, `session_effect` |
//! | connections | `pass`, `ticket`, `door`, `bulk` |

pub mod address;
pub mod bulk;
pub mod convert;
pub mod door;
pub mod errors;
pub mod files;
pub mod pass;
pub mod session_effect;
pub mod ticket;
pub mod version;

pub use convert::WireError;

/// Generated from `proto/windlass/v1`.
pub mod v1 {
    tonic::include_proto!("windlass.v1");
}

/// The part of Arrow Flight and Flight SQL that a client needs, generated from `proto/arrow/flight.proto`.
pub mod flight {
    tonic::include_proto!("arrow.flight.protocol");
}

/// Type URL of [`v1::PlanStatement`] in a Flight SQL command.
pub const PLAN_STATEMENT_TYPE_URL: &str = "type.googleapis.com/windlass.v1.PlanStatement";

/// Maximum bytes of a message that either side of a stream sends or accepts. A larger plan or report is refused by its sender with a clear error: it must never
/// look like the loss of a node.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Header with which a client marks a statement that it may send again ("first") or sends again ("again").
pub const SENT_HEADER: &str = "x-windlass-sent";

/// Header with which a client accepts the rows of a small result inside the answer to its statement: each endpoint without a ticket has rows in its metadata,
/// as an Arrow IPC stream.
pub const ROWS_HEADER: &str = "x-windlass-rows";

/// Header with the id of an open session that a client joins. Its requests are refused when that session has ended.
pub const JOIN_HEADER: &str = "x-windlass-join";

/// Header with which a standby names the leader in an answer of status UNAVAILABLE; empty when nobody leads.
pub const LEADER_HEADER: &str = "x-windlass-leader";

/// Formats an error with its causes on one line. tonic says "transport error" and keeps the reason in the sources; of a status only the message is for people.
pub fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let one = |error: &(dyn std::error::Error + 'static)| match error.downcast_ref::<tonic::Status>() {
        Some(status) if status.message().is_empty() => status.code().to_string(),
        Some(status) => status.message().to_string(),
        None => error.to_string(),
    };
    let mut text = one(error);
    let mut source = error.source();
    while let Some(cause) = source {
        let next = one(cause);
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = cause.source();
    }
    text
}
