//! Resources of the machine or the container for this process.

use super::units::{ByteSize, Count};
use windlass_executor::ExecutorConfig;

/// Cores that this process may run on, at least one.
pub fn cores() -> Count {
    Count(ExecutorConfig::default().slots)
}

/// Memory that an executor takes by default.
pub fn memory() -> ByteSize {
    ByteSize(windlass_executor::default_memory())
}

/// Total memory, in bytes.
pub fn total_memory() -> u64 {
    windlass_executor::total_memory()
}
