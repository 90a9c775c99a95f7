//! Stack space for deep recursion.
//!
//! Plans and expressions are walked, rewritten, encoded, run and freed by functions that recurse as deeply as a statement is nested. Threads that plan and
//! threads that run tasks have [`STACK_BYTES`] for that, of which they touch what they need. Values freed on other threads are wrapped in [`Roomy`].

use std::fmt;
use std::ops::Deref;

/// The stack of a thread that plans or runs tasks. This is address space, not memory. It is many times what statements of the maximum depth that a primary
/// accepts need.
pub const STACK_BYTES: usize = 256 << 20;

/// Threads with fewer bytes left continue on another stack.
const LEAST_BYTES: usize = 128 << 20;

/// Calls `work` with enough stack to recurse as deeply as a statement may be nested.
pub fn with_room<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(LEAST_BYTES, STACK_BYTES, work)
}

/// A value that is freed with enough stack, on whatever thread its last owner is.
#[derive(Clone)]
pub struct Roomy<T>(Option<T>);

impl<T> Roomy<T> {
    pub fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for Roomy<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("the value is there until it is freed")
    }
}

impl<T> Drop for Roomy<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        with_room(|| drop(value));
    }
}

impl<T: fmt::Debug> fmt::Debug for Roomy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nested(#[expect(dead_code, reason = "it is only there to be freed")] Option<Box<Nested>>);

    #[test]
    fn what_is_nested_deeply_is_freed_on_a_small_thread() {
        let free = || {
            let deep = (0..1_000_000).fold(Nested(None), |inner, _| Nested(Some(Box::new(inner))));
            drop(Roomy::new(deep));
        };
        std::thread::Builder::new().stack_size(64 << 10).spawn(free).unwrap().join().unwrap();
    }
}
