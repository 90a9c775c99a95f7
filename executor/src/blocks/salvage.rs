//! Damaged replicas: those whose length differs from their block's, or whose bytes do not verify.

use super::{Arrival, BlockStore, Held};
use std::io;
use windlass_core::wfs::Block;

/// A replica that is being examined. Nothing replaces it until this is dropped.
struct Claim {
    store: BlockStore,
    block: Block,
    found: Held,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.store.0.state.lock().salvaging.remove(&self.block.id);
        self.store.0.salvaged.notify_waiters();
    }
}

impl BlockStore {
    /// Makes a replica of this length from what is here, if its first bytes verify. Otherwise removes it, unless it is the last.
    pub(super) async fn salvage(&self, block: Block, last: bool) {
        let Some(claim) = self.begin_salvage(block).await else { return };
        let (store, disk) = (self.clone(), claim.found.disk);
        let salvaged = tokio::task::spawn_blocking(move || store.0.disks[disk].salvage(block)).await;
        // An error means that the executor is stopping.
        let Ok(salvaged) = salvaged else { return };
        let mut state = self.0.state.lock();
        let held = state.held.contains_key(&block.id);
        if !held && !state.damaged.contains_key(&block.id) {
            // The replica is not wanted any more.
            return;
        }
        match salvaged {
            Ok(()) => {
                drop(state);
                tracing::info!(block = %block.id, bytes = block.bytes, "a replica is what it is to be again");
                self.add(disk, block);
            }
            Err(error) if is_damage(&error) => {
                state.release(block.id);
                if last {
                    state.news.added.remove(&block.id);
                    if state.damaged.insert(block.id, claim.found).is_none() {
                        state.news.bad.insert(block.id);
                    }
                } else {
                    state.damaged.remove(&block.id);
                    state.news.say_gone(block.id);
                }
                drop(state);
                tracing::warn!(block = %block.id, %error, last, "a replica is damaged");
                self.0.news.notify_one();
                if !last {
                    self.remove(disk, block.id);
                }
            }
            Err(error) => {
                drop(state);
                self.fail_disk(disk, &error);
            }
        }
    }

    /// Waits for a replica that is arriving in its place, and for another examination of it: an order to remove it may come meanwhile. `None`: there is no
    /// replica.
    async fn begin_salvage(&self, block: Block) -> Option<Claim> {
        loop {
            let salvaged = self.0.salvaged.notified();
            let over = {
                let mut state = self.0.state.lock();
                match state.incoming.get(&block.id) {
                    Some(Arrival::Writing { over, .. }) => Some(over.clone()),
                    Some(Arrival::Partial { .. }) | None => {
                        let found = state.held.get(&block.id).or(state.damaged.get(&block.id)).copied()?;
                        if state.salvaging.insert(block.id) {
                            return Some(Claim { store: self.clone(), block, found });
                        }
                        None
                    }
                }
            };
            match over {
                // An error means that the write is over as well.
                Some(mut over) => _ = over.wait_for(|over| *over).await,
                None => salvaged.await,
            }
        }
    }
}

fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound)
}
