//! The exchange: what map tasks leave behind, and how readers on this and other executors get it.
//!
//! A map task pushes batches into the buckets of a [`MapOutputWriter`]. Finished, its output is one entry of the process's
//! [`ExchangeStore`], in one of two tiers, whole:
//!
//! - **memory**: the coalesced batches themselves, reserved against the store's budget and the executor's memory pool. A local
//!   reader is handed the very same arrays.
//! - **files**: one data file and one index for each task attempt, see [`format`]. Taken when a reservation is refused, or later
//!   when [`ExchangeStore::demote`] is asked for memory. An output is demoted, never dropped.
//!
//! A remote reader gets the frames of the data file as they are stored ([`ExchangeStore::serve`]), and [`FrameDecoder`] turns
//! them into batches again. Local readers of the file tier go through the same decoder, so there is one way to read a file.
//!
//! ```text
//! push ─► coalesce ─► blocks ──finish──► memory tier ──────────────► read (the same arrays)
//!                       │ refused           │ demote   └─ encode ──┐
//!                       ▼                   ▼                      ├─► serve ─► network ─► FrameDecoder
//!                    run file ──finish──► file tier ── as stored ──┘
//!                                           └────────────────────────► read (FrameDecoder)
//! ```
//!
//! Rules that hold everywhere in this module:
//!
//! - Rows of one bucket are read in the order in which they were pushed, in every tier. Batch boundaries are not kept, and
//!   batches without rows are not kept.
//! - Disk, compression and encoding happen on the store's own I/O threads ([`io`]), never on the caller's.
//! - What is not finished is not visible, and leaves nothing when it is dropped.
//! - A byte that changed on disk or on the way is [`ExchangeError::Corrupt`], never other data.

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

/// Which buckets of a map output are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BucketSel {
    One(u32),
    /// All of them, bucket after bucket.
    All,
}

impl BucketSel {
    /// The selected ones of `buckets` buckets; `None` when there is no such bucket.
    fn range(self, buckets: u32) -> Option<std::ops::Range<u32>> {
        match self {
            BucketSel::All => Some(0..buckets),
            BucketSel::One(bucket) => (bucket < buckets).then(|| bucket..bucket + 1),
        }
    }
}
