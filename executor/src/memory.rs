//! The executor's memory pool: one for all tasks and the exchange.
//!
//! DataFusion's `GreedyMemoryPool` lets the first operator take everything, so that the next one fails instead of spilling; its
//! `FairSpillPool` cuts the memory into as many shares as there are operators that can spill, so that a lone sort spills beside
//! memory that nobody uses. Here an operator that can spill is sure of its share, and borrows beyond it while memory is idle: the
//! last quarter of the pool is only for those that have less than their share. Operators that cannot spill are served first come,
//! first served; they are what other operators' spilling makes room for.

use datafusion::common::resources_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, human_readable_size,
};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug)]
pub(crate) struct BorrowingPool {
    limit: usize,
    used: AtomicUsize,
    /// Consumers that can spill.
    spillers: AtomicUsize,
}

impl BorrowingPool {
    pub fn new(limit: usize) -> Self {
        BorrowingPool { limit, used: AtomicUsize::new(0), spillers: AtomicUsize::new(0) }
    }

    /// What one more reservation of `additional` bytes may bring the whole pool to.
    fn ceiling(&self, reservation: &MemoryReservation, additional: usize) -> usize {
        if !reservation.consumer().can_spill() {
            return self.limit;
        }
        let share = self.limit / self.spillers.load(Ordering::Relaxed).max(1);
        match reservation.size() + additional <= share {
            true => self.limit,
            false => self.limit / 4 * 3,
        }
    }
}

impl MemoryPool for BorrowingPool {
    fn name(&self) -> &str {
        "borrowing"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            self.spillers.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            self.spillers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn grow(&self, _reservation: &MemoryReservation, additional: usize) {
        self.used.fetch_add(additional, Ordering::Relaxed);
    }

    fn shrink(&self, _reservation: &MemoryReservation, shrink: usize) {
        self.used.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let ceiling = self.ceiling(reservation, additional);
        let fits = |used: usize| used.checked_add(additional).filter(|&sum| sum <= ceiling);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map(|_| ()).map_err(|used| {
            resources_datafusion_err!(
                "{} wants {} more, has {}, and {} of the executor's {} are free for it",
                reservation.consumer().name(),
                human_readable_size(additional),
                human_readable_size(reservation.size()),
                human_readable_size(ceiling.saturating_sub(used)),
                human_readable_size(self.limit)
            )
        })
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

impl fmt::Display for BorrowingPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, limit) = (human_readable_size(self.reserved()), human_readable_size(self.limit));
        write!(f, "{}(used: {used}, limit: {limit})", self.name())
    }
}

/// Bytes of this process that lie in physical memory; 0 where the system does not tell.
pub(crate) fn resident_bytes() -> u64 {
    // Pages of 4 KiB: so on every target that has /proc and that releases are built for.
    const PAGE: u64 = 4 << 10;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn pool(limit: usize) -> Arc<dyn MemoryPool> {
        Arc::new(BorrowingPool::new(limit))
    }

    fn spiller(pool: &Arc<dyn MemoryPool>) -> MemoryReservation {
        MemoryConsumer::new("sort").with_can_spill(true).register(pool)
    }

    #[test]
    fn a_lone_spiller_has_all_and_idle_ones_do_not_take_it_away() {
        let pool = pool(1_000);
        let busy = spiller(&pool);
        busy.try_grow(1_000).unwrap();
        busy.free();
        let _idle: Vec<_> = (0..9).map(|_| spiller(&pool)).collect();
        busy.try_grow(750).unwrap();
        assert!(busy.try_grow(1).is_err(), "the last quarter is for those below their share");
    }

    #[test]
    fn who_comes_late_still_gets_a_share() {
        let pool = pool(1_000);
        let first = spiller(&pool);
        let second = spiller(&pool);
        first.try_grow(750).unwrap();
        second.try_grow(250).unwrap();
        assert!(first.try_grow(1).is_err());
        drop(second);
        first.try_grow(250).unwrap();
    }

    #[test]
    fn who_cannot_spill_takes_what_is_free_and_no_more() {
        let pool = pool(1_000);
        let table = MemoryConsumer::new("hash join").register(&pool);
        table.try_grow(1_000).unwrap();
        assert!(table.try_grow(1).is_err());
        assert!(spiller(&pool).try_grow(1).is_err());
        drop(table);
        assert_eq!(pool.reserved(), 0);
    }
}
