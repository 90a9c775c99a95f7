//! The operators that Windlass adds to DataFusion's.

mod exchange_read;
mod gather;
mod inserted;
pub(crate) mod range;
mod sink;
mod write;

pub use exchange_read::{ExchangeReadExec, ReadMode};
pub use gather::GatherExec;
pub(crate) use inserted::{InsertedExec, Stop, insert};
pub(crate) use sink::{Sink, planned_sink, unused_session};
pub use write::{StagedFile, StagedFiles, WriteExec};
