//! Spreads replicas over the disks of one executor. New replicas go to the disk with most room; replicas move off a disk that is much fuller than another one,
//! for example because the other disk is new.

use super::{BlockStore, Held};
use std::io;
use windlass_core::ids::BlockId;
use windlass_core::wfs::Block;

/// Allowed difference in use between disks, per mille of their size.
const MAY_DIFFER: u64 = 100;
/// Bytes that are moved at a time: a multiple of the range of one checksum.
const STEP: u64 = 1 << 20;

/// A replica to move.
struct Move {
    block: Block,
    from: usize,
    to: usize,
}

impl BlockStore {
    /// Moves replicas until the disks differ by less than allowed, or no move would help.
    pub(super) async fn even_out(&self) {
        while let Some(Move { block, from, to }) = self.next_move() {
            self.0.repair.pass(block.bytes).await;
            let store = self.clone();
            let moved = tokio::task::spawn_blocking(move || store.move_replica(block, from, to)).await;
            match moved {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(block = %block.id, %error, "a replica could not move to another disk");
                    return;
                }
                // The executor is stopping.
                Err(_) => return,
            }
        }
    }

    fn next_move(&self) -> Option<Move> {
        let failed = self.0.state.lock().failed_disks.clone();
        let healthy = self.0.disks.iter().enumerate().filter(|(at, _)| !failed.contains(at));
        let mut disks: Vec<(u64, u64, usize)> = healthy
            .filter_map(|(at, disk)| {
                let (size, free) = disk.space().ok()?;
                Some(((size - free).saturating_mul(1_000).checked_div(size)?, size, at))
            })
            .collect();
        disks.sort_unstable();
        let ((least, smallest, to), (most, size, from)) = (*disks.first()?, *disks.last()?);
        // There may be a million replicas: they are searched only when one has to move.
        if most - least <= MAY_DIFFER {
            return None;
        }
        // A replica larger than half of the difference would only swap the two disks.
        let largest = (most - least) * size.min(smallest) / 2_000;
        let state = self.0.state.lock();
        let movable = |(_, replica): &(&BlockId, &Held)| replica.disk == from && replica.bytes <= largest;
        let (id, replica) = state.held.iter().find(movable)?;
        Some(Move { block: Block { id: *id, bytes: replica.bytes }, from, to })
    }

    /// Moves a replica; readers go on undisturbed. Blocks.
    fn move_replica(&self, block: Block, from: usize, to: usize) -> io::Result<()> {
        let replica = self.0.disks[from].replica(block)?;
        let mut incoming = self.0.disks[to].begin(block.id);
        let mut at = 0;
        while at < block.bytes {
            let end = (at + STEP).min(block.bytes);
            // A damaged replica stays in place, for the scrubber to find.
            incoming.write(&replica.verified(at, end)?)?;
            at = end;
        }
        incoming.finish(block.bytes)?;
        let mut state = self.0.state.lock();
        let is_there = |held: &&mut Held| held.disk == from && held.bytes == block.bytes;
        let old = match state.held.get_mut(&block.id).filter(is_there) {
            Some(held) => {
                held.disk = to;
                from
            }
            // The replica was removed or replaced meanwhile.
            None => to,
        };
        let aside = self.0.disks[old].set_aside(block.id)?;
        drop(state);
        aside.iter().for_each(|path| _ = std::fs::remove_file(path));
        Ok(())
    }
}
