//! Room on the stack.
//!
//! Plans and expressions are walked, rewritten, encoded, run and freed by functions that call themselves, as deep as a statement is
//! nested. Threads that plan and threads that run tasks have [`STACK_BYTES`] for that, of which they touch what they need. What is
//! freed elsewhere is [`Roomy`].

use std::fmt;
use std::ops::Deref;

/// The stack of a thread that plans or that runs tasks: address space, not memory. It holds what statements of the greatest depth that
/// a primary accepts need, many times over.
pub const STACK_BYTES: usize = 256 << 20;

/// Threads with less left go on elsewhere.
const LEAST_BYTES: usize = 128 << 20;

/// Calls `work` where it may call itself as often as a statement is deep.
pub fn with_room<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(LEAST_BYTES, STACK_BYTES, work)
}

/// A value that is freed with room, on whatever thread its last owner is.
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
