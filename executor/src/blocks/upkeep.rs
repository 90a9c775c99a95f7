//! Background upkeep of replicas: a slow scrubber that reads all of them, and moves between disks.

use super::{Arrival, BlockStore};
use futures::StreamExt;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;
use windlass_core::ids::BlockId;

/// Time after which data of a writer that never came back is removed: that of the default lease. Usually the primary has it removed when the lease ends.
const KEEP_PARTIAL: Duration = Duration::from_secs(300);
/// Time between looks for such data.
const LOOK: Duration = Duration::from_secs(10);
/// Minimum time between two scrubs of all replicas.
const REST: Duration = Duration::from_secs(60);
/// Bytes that are read at a time.
const STEP: u64 = 1 << 20;

/// Limit in bytes per second.
#[derive(Debug)]
pub(super) struct Throttle {
    /// Bytes per second; 0: no limit.
    rate: u64,
    free_at: Mutex<Option<Instant>>,
}

impl Throttle {
    pub fn new(rate: u64) -> Self {
        Throttle { rate, free_at: Mutex::default() }
    }

    /// Returns when this many more bytes may pass.
    pub async fn pass(&self, bytes: u64) {
        if self.rate == 0 {
            return;
        }
        let until = {
            let mut free_at = self.free_at.lock();
            let now = Instant::now();
            let from = free_at.map_or(now, |at| at.max(now));
            *free_at = Some(from + Duration::from_secs_f64(bytes as f64 / self.rate as f64));
            from
        };
        tokio::time::sleep_until(until).await;
    }
}

impl BlockStore {
    /// Starts the background tasks, which run as long as the store is open.
    pub(super) fn keep_up(&self) {
        let weak = std::sync::Arc::downgrade(&self.0);
        let walked = weak.clone();
        let looks = async move {
            while let Some(store) = weak.upgrade().map(BlockStore) {
                store.forget_partial();
                drop(store);
                tokio::time::sleep(LOOK).await;
            }
        };
        let scrub = Throttle::new(self.0.config.scrub_rate);
        let (stop, io) = (self.0.stop.clone(), self.0.io.clone());
        let walks = async move {
            loop {
                let Some(store) = walked.upgrade().map(BlockStore) else { return };
                store.even_out().await;
                store.compact().await;
                if scrub.rate > 0 {
                    store.walk(&scrub).await;
                }
                drop(store);
                tokio::time::sleep(REST).await;
            }
        };
        self.0.tasks.spawn_on(
            async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = walks => {}
                    () = looks => {}
                }
            },
            &io,
        );
    }

    fn forget_partial(&self) {
        let mut state = self.0.state.lock();
        state.incoming.retain(|_, arrival| match arrival {
            Arrival::Partial { since, .. } => since.elapsed() < KEEP_PARTIAL,
            Arrival::Writing { .. } => true,
        });
    }

    async fn compact(&self) {
        let store = self.clone();
        let compacted = tokio::task::spawn_blocking(move || {
            for disk in &store.0.disks {
                if let Err(error) = disk.compact() {
                    tracing::warn!(dir = %disk.root.display(), %error, "packs of small replicas could not be written anew");
                }
            }
        });
        // An error means that the executor is stopping.
        let _ = compacted.await;
    }

    async fn walk(&self, throttle: &Throttle) {
        let mut at = BlockId(0);
        loop {
            let next = self.0.state.lock().held.range(at..).next().map(|(id, _)| *id);
            let Some(block) = next else { return };
            self.check(block, throttle).await;
            at = BlockId(block.0 + 1);
        }
    }

    /// Reads and verifies a whole replica. Reports a damaged one and returns false.
    pub(super) async fn check(&self, block: BlockId, throttle: &Throttle) -> bool {
        let Ok(held) = self.held(block) else {
            // The caller expects the replica here, so its loss is reported, perhaps once more.
            let mut state = self.0.state.lock();
            match state.damaged.contains_key(&block) {
                true => _ = state.news.bad.insert(block),
                false => state.news.say_gone(block),
            }
            drop(state);
            self.0.news.notify_one();
            return false;
        };
        let mut at = 0;
        while at < held.bytes {
            let end = (at + STEP).min(held.bytes);
            throttle.pass(end - at).await;
            let mut read = self.units(block.0, at..end, |replica, start, end| replica.read(start, end).map(drop), STEP);
            while let Some(item) = read.next().await {
                if item.is_err() {
                    // The error was judged where the replica was read.
                    return false;
                }
            }
            at = end;
        }
        true
    }
}
