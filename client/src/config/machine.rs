//! What "auto" stands for: the cores and the memory that this process may use, container limits respected.

use super::units::{ByteSize, Count};
use std::thread;

/// Cores that this process may run on, at least one.
pub fn cores() -> Count {
    Count(thread::available_parallelism().map_or(1, |n| n.get() as u32))
}

/// What planning one statement may take of the machine, or of the container.
pub fn planning_memory() -> ByteSize {
    ByteSize(windlass_executor::total_memory() / 4)
}

/// What an executor takes of the machine, or of the container.
pub fn memory() -> ByteSize {
    ByteSize(windlass_executor::default_memory())
}
