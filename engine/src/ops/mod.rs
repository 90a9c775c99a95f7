//! The operators that Windlass adds to DataFusion's.

mod compact;
mod exchange_read;
mod gather;
pub(crate) mod range;
mod sink;
mod write;

pub(crate) use compact::{CompactExec, compact_sorts};
pub use exchange_read::{ExchangeReadExec, ReadMode};
pub use gather::GatherExec;
pub(crate) use sink::{Sink, planned_sink, unused_session};
pub use write::{StagedFile, StagedFiles, WriteExec};
