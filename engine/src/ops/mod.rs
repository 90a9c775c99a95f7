//! The operators that Windlass adds to DataFusion's.

mod exchange_read;
mod gather;
pub(crate) mod range;
mod write;

pub use exchange_read::{ExchangeReadExec, ReadMode};
pub use gather::GatherExec;
pub use write::{StagedFile, StagedFiles, WriteExec};
