//! What keeps replicas right: copies that the primary orders, and a slow walk that reads all of them.

use super::disk::Incoming;
use super::{Arrival, BlockStore};
use futures::StreamExt;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;
use windlass_connectors::wfs::{CHECKSUM_BYTES, PIECE_BYTES};
use windlass_core::ids::BlockId;
use windlass_core::wfs::Block;
use windlass_proto::v1;

/// What a writer left behind that never came back is removed after this time, which is longer than its lease.
const KEEP_PARTIAL: Duration = Duration::from_secs(900);
/// Between two walks through all replicas, at least, and between looks at what was left behind.
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
        let scrub = Throttle::new(self.0.config.scrub_rate);
        let (stop, io) = (self.0.stop.clone(), self.0.io.clone());
        let walks = async move {
            loop {
                let Some(store) = weak.upgrade().map(BlockStore) else { return };
                store.forget_partial();
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

    async fn walk(&self, throttle: &Throttle) {
        let mut at = BlockId(0);
        loop {
            let next = self.0.state.lock().held.range(at..).next().map(|(id, _)| *id);
            let Some(block) = next else { return };
            self.check(block, throttle).await;
            at = BlockId(block.0 + 1);
        }
    }

    /// Reads all of a replica. What is wrong with it is reported.
    pub(super) async fn check(&self, block: BlockId, throttle: &Throttle) {
        let Ok(held) = self.held(block) else { return };
        let mut at = 0;
        while at < held.bytes {
            let end = (at + STEP).min(held.bytes);
            throttle.pass(end - at).await;
            let mut read = self.units(block.0, at..end, |replica, start, end| replica.read(start, end).map(drop), STEP);
            while let Some(item) = read.next().await {
                if item.is_err() {
                    // It was judged where it was read.
                    return;
                }
            }
            at = end;
        }
    }

    /// Fetches a replica from one of its holders.
    pub(super) async fn copy(&self, copy: v1::CopyBlock) {
        let block = Block { id: BlockId(copy.block), bytes: copy.bytes };
        for holder in &copy.from {
            match self.copy_from(block, holder).await {
                Ok(()) => return,
                Err(status) => {
                    tracing::info!(block = %block.id, from = holder.address, reason = status.message(), "a replica could not be copied");
                }
            }
        }
        self.0.state.lock().news.not_copied.insert(block.id);
        self.0.news.notify_one();
    }

    async fn copy_from(&self, block: Block, holder: &v1::BlockHolder) -> Result<(), Status> {
        if self.held(block.id).is_ok_and(|held| held.bytes == block.bytes) {
            // It is here: said again.
            let held = self.held(block.id)?;
            self.add(held.disk, block);
            return Ok(());
        }
        let disk = self.choose_disk()?;
        let failed = |error: std::io::Error| Status::unavailable(error.to_string());
        let mut incoming: Incoming = self.0.disks[disk].begin(block.id).map_err(failed)?;
        let mut bytes = self.0.peers.node(&holder.address)?.read(block.id.0, 0..block.bytes);
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let mut ended = false;
        while !ended {
            match bytes.next().await {
                Some(more) => piece.extend_from_slice(&more?),
                None => ended = true,
            }
            let ready = if ended { piece.len() } else { piece.len() / CHECKSUM_BYTES * CHECKSUM_BYTES };
            if ready == 0 || (ready < PIECE_BYTES && !ended) {
                continue;
            }
            let rest = piece.split_off(ready);
            let data = std::mem::replace(&mut piece, rest);
            self.0.repair.pass(data.len() as u64).await;
            let checksums = data.chunks(CHECKSUM_BYTES).map(crc32c::crc32c).collect();
            let data = v1::BlockData { offset: incoming.written, data: data.into(), checksums };
            let written = tokio::task::spawn_blocking(move || incoming.write(&data).map(|()| incoming)).await;
            incoming = written.map_err(|_| Status::unavailable("the executor is stopping"))?.map_err(failed)?;
        }
        if incoming.written != block.bytes {
            return Err(Status::data_loss(format!("{} bytes came, and not {}", incoming.written, block.bytes)));
        }
        let finished = tokio::task::spawn_blocking(move || incoming.finish(block.bytes)).await;
        finished.map_err(|_| Status::unavailable("the executor is stopping"))?.map_err(failed)?;
        self.add(disk, block);
        Ok(())
    }
}
