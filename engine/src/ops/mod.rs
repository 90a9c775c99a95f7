//! The operators that Windlass adds to DataFusion's.

mod copy_files;
mod exchange_read;
mod forget;
mod inserted;
mod mark;
pub(crate) mod range;
mod repeat;
mod sink;
mod write;

pub use copy_files::{CopyFiles, CopyFilesExec, CopyItem, CopyPart, copy_schema};
pub use exchange_read::{ExchangeReadExec, ReadMode};
pub use forget::ForgetExec;
pub use inserted::interruptible;
pub(crate) use inserted::{InsertedExec, Stop, insert};
pub use mark::{Mark, MarkExec};
pub use repeat::RepeatExec;
pub(crate) use sink::{Sink, planned_sink, unused_session};
pub use write::{StagedFile, StagedFiles, WriteExec};
