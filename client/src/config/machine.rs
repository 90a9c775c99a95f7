//! What the machine, or the container, gives this process.

use super::units::{ByteSize, Count};
use windlass_executor::ExecutorConfig;

/// Cores that this process may run on, at least one.
pub fn cores() -> Count {
    Count(ExecutorConfig::default().slots)
}

/// What an executor takes of its memory.
pub fn memory() -> ByteSize {
    ByteSize(windlass_executor::default_memory())
}

/// All of its memory, in bytes.
pub fn total_memory() -> u64 {
    windlass_executor::total_memory()
}
