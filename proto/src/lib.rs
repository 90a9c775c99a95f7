//! The wire: generated types, the only place where wire types become core types and back, and what both of its ends have to agree on.
//!
//! The modules, lowest first. Each imports from those before it and from none behind it:
//!
//! | layer | modules |
//! | --- | --- |
//! | words | `address`, `version`, `errors` |
//! | messages | `convert`, `files`, `leaves` |
//! | connections | `pass`, `ticket`, `door`, `bulk` |

pub mod address;
pub mod bulk;
pub mod convert;
pub mod door;
pub mod errors;
pub mod files;
pub mod leaves;
pub mod pass;
pub mod ticket;
pub mod version;

pub use convert::WireError;

/// Generated from `proto/windlass/v1`.
pub mod v1 {
    tonic::include_proto!("windlass.v1");
}

/// What a client speaks of Arrow Flight and Flight SQL, generated from `proto/arrow/flight.proto`.
pub mod flight {
    tonic::include_proto!("arrow.flight.protocol");
}

/// What names [`v1::PlanStatement`] in a Flight SQL command.
pub const PLAN_STATEMENT_TYPE_URL: &str = "type.googleapis.com/windlass.v1.PlanStatement";

/// Neither side of any stream sends or accepts a message larger than this many bytes. A plan or a report that would be larger is
/// refused where it is made, with an error that says so: it must never look like the loss of a node.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// With it a client says of a statement whether it may be sent again ("first") or is ("again").
pub const SENT_HEADER: &str = "x-windlass-sent";

/// With it a client says that it takes the rows of a small result with the answer to its statement: each endpoint without a ticket
/// has rows in its metadata, as an Arrow IPC stream.
pub const ROWS_HEADER: &str = "x-windlass-rows";

/// With it a primary that stands by says who leads, in an answer of status UNAVAILABLE; empty when nobody does.
pub const LEADER_HEADER: &str = "x-windlass-leader";

/// An error with its causes, on one line. tonic says "transport error" and keeps the reason in the sources; of a status only the
/// message is for people.
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
