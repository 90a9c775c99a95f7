//! The time, and unique names. Created where a primary is assembled, and passed down.

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
    /// Returns the clocks of the machine.
    pub fn system() -> Self {
        Clock { ahead_us: Arc::default() }
    }

    /// Returns the monotonic time, for durations.
    pub fn now(&self) -> Instant {
        Instant::now() + self.ahead()
    }

    /// Returns milliseconds since 1970-01-01T00:00:00Z, for people and for data that outlives the process.
    pub fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (since + self.ahead()).as_millis() as u64
    }

    /// Returns microseconds since `origin`, an earlier time of this clock, in the form of the machines in `core`.
    pub fn since(&self, origin: Instant) -> windlass_core::time::Instant {
        windlass_core::time::Instant(self.now().saturating_duration_since(origin).as_micros() as u64)
    }

    /// Moves both clocks forward, for tests that would otherwise have to wait. Timers of the runtime are not moved.
    pub fn advance(&self, by: Duration) {
        self.ahead_us.fetch_add(by.as_micros() as u64, Ordering::Relaxed);
    }

    fn ahead(&self) -> Duration {
        Duration::from_micros(self.ahead_us.load(Ordering::Relaxed))
    }
}

/// A source of unique names. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ids {
    /// The last number that was given. `None`: names are random.
    counted: Option<Arc<AtomicU64>>,
}

impl Ids {
    /// Gives random names, which cannot be guessed and are unique across processes.
    pub fn random() -> Self {
        Ids { counted: None }
    }

    /// Gives 1, 2 and so on, for tests that check names.
    pub fn counted() -> Self {
        Ids { counted: Some(Arc::default()) }
    }

    pub fn number(&self) -> u128 {
        match &self.counted {
            None => uuid::Uuid::new_v4().as_u128(),
            Some(last) => u128::from(last.fetch_add(1, Ordering::Relaxed) + 1),
        }
    }

    /// Returns 32 hexadecimal digits.
    pub fn name(&self) -> String {
        format!("{:032x}", self.number())
    }

    /// Returns random bytes, even if names are counted.
    pub fn secret(&self) -> [u8; 32] {
        // UUIDs take their random bits from the operating system.
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
