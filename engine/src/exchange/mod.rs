//! The exchange: the outputs of map tasks, and how readers on this and other executors get them.
//!
//! A map task pushes batches into the buckets of a [`MapOutputWriter`]. Its finished output is one entry of the process's [`ExchangeStore`], whole in one of
//! two tiers:
//!
//! - **memory**: the coalesced batches themselves, reserved against the store's budget and the executor's memory pool. A local reader gets the very same
//!   arrays.
//! - **files**: one data file and one index per task attempt, see [`format`]. Used when a reservation is refused, or later when [`ExchangeStore::demote`] is
//!   asked for memory. An output is demoted, never dropped.
//!
//! A remote reader gets the frames of the data file as stored ([`ExchangeStore::serve`]), and [`FrameDecoder`] turns them into batches again. Local readers
//! of the file tier use the same decoder, so there is only one way to read a file.
//!
//! ```text
//! push ─► coalesce ─► blocks ──finish──► memory tier ──────────────► read (the same arrays)
//!                       │ refused           │ demote   └─ encode ──┐
//!                       ▼                   ▼                      ├─► serve ─► network ─► FrameDecoder
//!                    run file ──finish──► file tier ── as stored ──┘
//!                                           └────────────────────────► read (FrameDecoder)
//! ```
//!
//! Rules for everything in this module:
//!
//! - Rows of one bucket are read in the order in which they were pushed, in every tier. Batch boundaries are not kept, nor are batches without rows.
//! - Disk, compression and encoding happen on the store's own I/O threads ([`io`]), never on the caller's.
//! - Unfinished outputs are not visible, and leave nothing when they are dropped.
//! - A byte that changed on disk or on the way gives [`ExchangeError::Corrupt`], never other data.

mod block;
mod budget;
mod error;
mod files;
mod format;
mod frame;
mod io;
mod ipc;
mod read;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use block::trim;
pub use error::ExchangeError;
pub use frame::FrameDecoder;
pub use read::OutputStream;
pub use store::{Compression, ExchangeStore, StoreConfig, Usage};
pub use writer::{MapOutputSummary, MapOutputWriter};

/// The wanted buckets of a map output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BucketSel {
    One(u32),
    /// All buckets, one after another.
    All,
}

impl BucketSel {
    /// The range selected out of `buckets` buckets; `None` when there is no such bucket.
    fn range(self, buckets: u32) -> Option<std::ops::Range<u32>> {
        match self {
            BucketSel::All => Some(0..buckets),
            BucketSel::One(bucket) => (bucket < buckets).then(|| bucket..bucket + 1),
        }
    }
}
