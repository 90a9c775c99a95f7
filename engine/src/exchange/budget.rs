//! Budgets of the exchange in memory and on disk. Leases count both, and return what they hold when dropped.

use datafusion::execution::memory_pool::MemoryReservation;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Growing leases take memory from the pool in steps of this many bytes, so that a push rarely takes the pool's lock.
const STEP: usize = 256 << 10;

/// A share of the executor's memory; a lease needs room in this limit and in the pool.
pub(super) struct MemoryBudget {
    limit: usize,
    used: AtomicUsize,
    /// An empty reservation; all leases share its registration with the pool.
    consumer: MemoryReservation,
}

impl MemoryBudget {
    pub(super) fn new(limit: usize, consumer: MemoryReservation) -> Arc<Self> {
        Arc::new(MemoryBudget { limit, used: AtomicUsize::new(0), consumer })
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn lease(self: &Arc<Self>) -> MemoryLease {
        MemoryLease { reservation: self.consumer.new_empty(), budget: Arc::clone(self) }
    }
}

pub(super) struct MemoryLease {
    budget: Arc<MemoryBudget>,
    reservation: MemoryReservation,
}

impl MemoryLease {
    pub(super) fn bytes(&self) -> usize {
        self.reservation.size()
    }

    /// Grows the lease to at least `bytes`. Returns false, with nothing changed, when the budget or the pool refuses.
    pub(super) fn cover(&mut self, bytes: usize) -> bool {
        let held = self.reservation.size();
        bytes <= held
            || self.grow(bytes.next_multiple_of(STEP).saturating_sub(held))
            || self.grow(bytes.saturating_sub(held))
    }

    /// Shrinks the lease to at most `bytes`.
    pub(super) fn trim(&mut self, bytes: usize) {
        let surplus = self.reservation.size().saturating_sub(bytes);
        self.reservation.shrink(surplus);
        self.budget.used.fetch_sub(surplus, Ordering::Relaxed);
    }

    /// Moves everything held into a new lease; this one is empty afterwards.
    pub(super) fn take(&mut self) -> MemoryLease {
        MemoryLease { budget: Arc::clone(&self.budget), reservation: self.reservation.take() }
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let admit = |used: usize| used.checked_add(bytes).filter(|&total| total <= self.budget.limit);
        if self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit).is_err() {
            return false;
        }
        let granted = self.reservation.try_grow(bytes).is_ok();
        if !granted {
            self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        granted
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        self.trim(0);
    }
}

/// The bytes of all files of the store, with an optional limit.
pub(super) struct DiskBudget {
    limit: Option<u64>,
    used: AtomicU64,
}

impl DiskBudget {
    pub(super) fn new(limit: Option<u64>) -> Arc<Self> {
        Arc::new(DiskBudget { limit, used: AtomicU64::new(0) })
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn lease(self: &Arc<Self>) -> DiskLease {
        DiskLease { budget: Arc::clone(self), bytes: 0 }
    }
}

pub(super) struct DiskLease {
    budget: Arc<DiskBudget>,
    bytes: u64,
}

impl DiskLease {
    /// Adds `bytes`.
    ///
    /// # Errors
    /// The limit in bytes that this would exceed.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), u64> {
        let limit = self.budget.limit.unwrap_or(u64::MAX);
        let admit = |used: u64| used.checked_add(bytes).filter(|&total| total <= limit);
        self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit).map_err(|_| limit)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for DiskLease {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
