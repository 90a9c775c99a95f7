//! What keeps replicas right: a slow walk that reads all of them, and moves between disks.

use super::{Arrival, BlockStore};
use futures::StreamExt;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;
use windlass_core::ids::BlockId;

/// What a writer left behind that never came back is removed after this time: that of the default lease. Mostly the primary has it
/// removed when the lease ends.
const KEEP_PARTIAL: Duration = Duration::from_secs(300);
/// Between looks at what was left behind.
const LOOK: Duration = Duration::from_secs(10);
/// Between two walks through all replicas, at least.
const REST: Duration = Duration::from_secs(60);
/// Bytes that are read at a time.
const STEP: u64 = 1 << 20;

/// So many bytes a second.
#[derive(Debug)]
pub(super) struct Throttle {
    /// 0: any number.
    rate: u64,
    free_at: Mutex<Option<Instant>>,
}

impl Throttle {
    pub fn new(rate: u64) -> Self {
        Throttle { rate, free_at: Mutex::default() }
    }

    /// Returns when so many more may go.
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
    /// Begins what goes on for as long as the store is open.
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
        // The executor is stopping, if it does not end.
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

    /// Reads all of a replica. What is wrong with it is reported; false: something is.
    pub(super) async fn check(&self, block: BlockId, throttle: &Throttle) -> bool {
        let Ok(held) = self.held(block) else {
            // Whoever asks thinks that it is here, or it is said already.
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
                    // It was judged where it was read.
                    return false;
                }
            }
            at = end;
        }
        true
    }
}
