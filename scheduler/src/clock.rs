//! What time it is, and names that nothing else has. Made where a primary is put together, and passed down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Both clocks of a primary. Cheap to clone: clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    /// How far tests have moved it, in microseconds.
    ahead_us: Arc<AtomicU64>,
}

impl Clock {
    /// The clocks of the machine.
    pub fn system() -> Self {
        Clock { ahead_us: Arc::default() }
    }

    /// What never goes back, for spans of time.
    pub fn now(&self) -> Instant {
        Instant::now() + self.ahead()
    }

    /// Milliseconds since 1970-01-01T00:00:00Z, for what people read and for what outlives the process.
    pub fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (since + self.ahead()).as_millis() as u64
    }

    /// Microseconds since `origin`, which it showed before, as the machines of `core` count time.
    pub fn since(&self, origin: Instant) -> windlass_core::time::Instant {
        windlass_core::time::Instant(self.now().saturating_duration_since(origin).as_micros() as u64)
    }

    /// Moves both clocks on, as tests do that would have to wait otherwise. Timers of the runtime are not moved.
    pub fn advance(&self, by: Duration) {
        self.ahead_us.fetch_add(by.as_micros() as u64, Ordering::Relaxed);
    }

    fn ahead(&self) -> Duration {
        Duration::from_micros(self.ahead_us.load(Ordering::Relaxed))
    }
}

/// Names that nothing else has. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ids {
    /// The last number that was given. `None`: names are random.
    counted: Option<Arc<AtomicU64>>,
}

impl Ids {
    /// Names that nobody can guess, and that no other process gives.
    pub fn random() -> Self {
        Ids { counted: None }
    }

    /// 1, 2 and so on, for tests that look at names.
    pub fn counted() -> Self {
        Ids { counted: Some(Arc::default()) }
    }

    pub fn number(&self) -> u128 {
        match &self.counted {
            None => uuid::Uuid::new_v4().as_u128(),
            Some(last) => u128::from(last.fetch_add(1, Ordering::Relaxed) + 1),
        }
    }

    /// 32 hexadecimal digits.
    pub fn name(&self) -> String {
        format!("{:032x}", self.number())
    }

    /// Random whatever names are.
    pub fn secret(&self) -> [u8; 32] {
        // Random, from the operating system.
        let parts = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
        *blake3::hash(&parts.map(uuid::Uuid::into_bytes).concat()).as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_show_the_same_time() {
        let clock = Clock::system();
        let (origin, wall_ms) = (clock.now(), clock.wall_ms());
        clock.clone().advance(Duration::from_secs(3_600));
        assert!(clock.since(origin).0 >= 3_600_000_000);
        assert!(clock.wall_ms() >= wall_ms + 3_600_000);
    }

    #[test]
    fn names_have_one_form() {
        let counted = Ids::counted();
        assert_eq!([counted.name(), counted.clone().name()], [format!("{:032x}", 1), format!("{:032x}", 2)]);
        let random = Ids::random();
        assert!(random.name().len() == 32 && random.name() != random.name());
        assert_ne!(counted.secret(), counted.secret());
    }
}
