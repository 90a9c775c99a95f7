//! Watches the resident memory of the process and of its container, and sheds load before the kernel kills.
//!
//! The pool counts the reservations of operators and the exchange. Unreserved memory (decoders, hash tables that double, batches on their way, fragments of the
//! allocator) shows only in the resident memory. Close to the limit, operators that can spill must do so. Programs count as if they were part of the process. Each of
//! them keeps to a limit of its own, so none is stopped here.
//!
//! ```text
//!   within the limit ──over──> demote exchange blocks to files ──still over──> fail the largest task ──> wait ─┐
//!          ▲                                                                                    │             │
//!          └────────────────────────────────── within ──────────────────────────────────────────┘◀────────────┘
//! ```
//!
//! When memory keeps growing, the watchdog does not wait.

use crate::config::room_in;
use crate::container::Group;
use crate::memory::resident_bytes;
use crate::node::Node;
use crate::runner::Runner;
use datafusion::execution::memory_pool::human_readable_size as size;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Interval of readings: a task takes up to a gigabyte a second.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
/// Readings to skip after blocks went to files and after a task was failed: memory returns to the system with a delay.
const AFTER_DEMOTION: u32 = 10;
const AFTER_FAILURE: u32 = 30;
/// Divisor of the limit: growth that ends the wait early, and distance to the limit at which operators must spill.
const STEP: u64 = 16;

/// One reading, in bytes.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// Of this process and of programs.
    resident: u64,
    programs: u64,
    limit: u64,
    /// Memory of exchange blocks.
    exchange: u64,
    tasks: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Nothing,
    /// Write this many bytes of blocks to files, oldest first.
    Demote(u64),
    FailLargest,
}

/// Actions since the memory was last within its limit.
#[derive(Debug, Default)]
struct Pressure {
    demoted: bool,
    wait: u32,
    /// Resident memory at the last action.
    then: u64,
}

impl Reading {
    /// Lowers the limit of the process when its container holds `held` of at most `room`. A process with more than its `memory` must make the container fit.
    fn within(self, memory: u64, held: u64, room: u64) -> Self {
        let excess = held.saturating_sub(room);
        match excess > 0 && self.resident > memory {
            true => Reading { limit: self.limit.min(self.resident.saturating_sub(excess)).max(memory), ..self },
            false => self,
        }
    }

    fn is_tight(&self) -> bool {
        self.resident > self.limit - self.limit / STEP
    }
}

impl Pressure {
    fn decide(&mut self, reading: Reading) -> Action {
        let Some(excess) = reading.resident.checked_sub(reading.limit).filter(|excess| *excess > 0) else {
            *self = Pressure::default();
            return Action::Nothing;
        };
        if self.wait > 0 && reading.resident <= self.then + reading.limit / STEP {
            self.wait -= 1;
            return Action::Nothing;
        }
        let then = reading.resident;
        if !self.demoted && reading.exchange > 0 {
            *self = Pressure { demoted: true, wait: AFTER_DEMOTION, then };
            // Somewhat more than needed, so that the next block does not exceed the limit again.
            return Action::Demote((excess + reading.limit / STEP).min(reading.exchange));
        }
        if reading.tasks == 0 {
            return Action::Nothing;
        }
        *self = Pressure { demoted: false, wait: AFTER_FAILURE, then };
        Action::FailLargest
    }
}

pub(crate) struct Watchdog {
    node: Arc<Node>,
    limit: u64,
    container: Option<Group>,
    pressure: Pressure,
    demotions: JoinSet<()>,
}

impl Watchdog {
    pub fn new(node: Arc<Node>) -> Self {
        let container = Group::narrowest();
        let limit = node.config.resident_limit(container.as_ref());
        Watchdog { node, limit, container, pressure: Pressure::default(), demotions: JoinSet::new() }
    }

    /// Takes a reading and acts on it. To be called every [`INTERVAL`].
    pub fn look(&mut self, runner: &mut Runner) {
        while self.demotions.try_join_next().is_some() {}
        let programs = self.node.programs.held();
        let mut reading = Reading {
            resident: resident_bytes() + programs,
            programs,
            limit: self.limit,
            exchange: self.node.store.usage().memory_bytes as u64,
            tasks: runner.running(),
        };
        if let Some(group) = &self.container
            && let Some(held) = group.held()
        {
            reading = reading.within(self.node.config.memory_bytes, held, room_in(group.limit));
        }
        self.node.memory.press(reading.is_tight());
        self.act(reading, runner);
    }

    fn act(&mut self, reading: Reading, runner: &mut Runner) {
        let programs = match reading.programs {
            0 => String::new(),
            bytes => format!(", {} of them in programs", size(bytes as usize)),
        };
        let state = format!(
            "{} of memory are resident{programs}, {} are allowed",
            size(reading.resident as usize),
            size(reading.limit as usize)
        );
        match self.pressure.decide(reading) {
            Action::Nothing => {}
            Action::Demote(bytes) => {
                tracing::warn!("{state}: moving {} of map outputs to files", size(bytes as usize));
                let store = self.node.store.clone();
                self.demotions.spawn(async move {
                    match store.demote(bytes as usize).await {
                        Ok(moved) => tracing::info!("moved {} of map outputs to files", size(moved)),
                        Err(error) => tracing::error!(%error, "map outputs stay in memory"),
                    }
                });
            }
            Action::FailLargest => match runner.fail_largest(&state) {
                Some((name, bytes)) => {
                    tracing::warn!("{state}: failed {name}, which had reserved {}", size(bytes));
                }
                None => tracing::warn!("{state}, and nothing is left to stop"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(resident: u64, exchange: u64, tasks: usize) -> Reading {
        Reading { resident, programs: 0, limit: 1_600, exchange, tasks }
    }

    #[test]
    fn within_the_limit_nothing_is_shed() {
        assert_eq!(Pressure::default().decide(over(1_600, 500, 3)), Action::Nothing);
    }

    #[test]
    fn blocks_go_before_tasks_and_tasks_one_after_the_other() {
        let mut pressure = Pressure::default();
        assert_eq!(pressure.decide(over(1_700, 1_000, 2)), Action::Demote(200));
        for _ in 0..AFTER_DEMOTION {
            assert_eq!(pressure.decide(over(1_700, 1_000, 2)), Action::Nothing);
        }
        assert_eq!(pressure.decide(over(1_700, 800, 2)), Action::FailLargest);
        for _ in 0..AFTER_FAILURE {
            assert_eq!(pressure.decide(over(1_700, 0, 1)), Action::Nothing);
        }
        assert_eq!(pressure.decide(over(1_700, 0, 1)), Action::FailLargest);
    }

    #[test]
    fn no_more_is_demoted_than_there_is() {
        assert_eq!(Pressure::default().decide(over(1_700, 50, 1)), Action::Demote(50));
    }

    #[test]
    fn relief_starts_over() {
        let mut pressure = Pressure::default();
        pressure.decide(over(1_700, 1_000, 1));
        assert_eq!(pressure.decide(over(1_000, 1_000, 1)), Action::Nothing);
        assert_eq!(pressure.decide(over(1_700, 1_000, 1)), Action::Demote(200));
    }

    #[test]
    fn what_grows_on_is_not_waited_for() {
        let mut pressure = Pressure::default();
        assert_eq!(pressure.decide(over(1_700, 1_000, 2)), Action::Demote(200));
        assert_eq!(pressure.decide(over(1_800, 1_000, 2)), Action::Nothing);
        assert_eq!(pressure.decide(over(1_801, 800, 2)), Action::FailLargest);
        assert_eq!(pressure.decide(over(1_901, 800, 1)), Action::Nothing);
        assert_eq!(pressure.decide(over(1_902, 800, 1)), Action::Demote(402));
    }

    #[test]
    fn in_a_container_that_is_full_those_shed_load_that_hold_more_than_their_memory() {
        let of = |resident: u64| over(resident, 0, 1).within(1_000, 4_100, 4_000).limit;
        assert_eq!(of(1_500), 1_400);
        assert_eq!(of(1_050), 1_000);
        assert_eq!(of(900), 1_600);
        assert_eq!(over(1_500, 0, 1).within(1_000, 4_000, 4_000).limit, 1_600);
    }

    #[test]
    fn operators_spill_before_load_is_shed() {
        assert!(!over(1_500, 0, 1).is_tight());
        assert!(over(1_501, 0, 1).is_tight());
    }

    #[test]
    fn without_blocks_and_tasks_nothing_can_be_shed() {
        assert_eq!(Pressure::default().decide(over(9_999, 0, 0)), Action::Nothing);
    }

    #[test]
    fn this_process_has_resident_memory() {
        assert!(resident_bytes() > 1 << 20);
    }
}
