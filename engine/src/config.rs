//! Windlass's own session options, beside DataFusion's: `SET windlass.small_query_bytes = 0`.

use datafusion::common::{Result, extensions_options};
use datafusion::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::prelude::SessionConfig;
use std::any::Any;
use std::ops::{Deref, DerefMut};

extensions_options! {
    /// What [`WindlassOptions`] holds.
    pub struct Options {
        /// A statement that scans fewer bytes than this runs as one stage in one place. 0: always cut into stages.
        pub small_query_bytes: usize, default = 8 * 1024 * 1024
        /// Tasks of a distributed stage for each slot of the cluster.
        pub tasks_per_slot: usize, default = 1
        /// The build side of a join up to this size goes to every task whole, instead of shuffling both sides.
        pub broadcast_bytes: usize, default = 8 * 1024 * 1024
        /// A build side whose size is not known, but with at most this many rows, is broadcast as well.
        pub broadcast_rows: usize, default = 256 * 1024
        /// A larger one too, up to this size by estimate, where that moves fewer bytes than shuffling both sides, and those are many.
        pub broadcast_max_bytes: usize, default = 128 * 1024 * 1024
        /// So many, by estimate: less is shuffled in memory, and costs less than a table for each task.
        pub broadcast_from_bytes: usize, default = 384 * 1024 * 1024
        /// A build side up to this size, by estimate, goes to the tasks that scan the other side, which drop the rows that match none of
        /// it before they are shuffled.
        pub semi_join_max_bytes: usize, default = 64 * 1024 * 1024
        /// Where the other side has so many, by estimate: the tasks that scan it wait for the build side.
        pub semi_join_from_bytes: usize, default = 64 * 1024 * 1024
        /// A task's result up to this size travels with its report, and is not kept on the executor.
        pub inline_result_bytes: usize, default = 1024 * 1024
        /// A sort of the whole result that has this many rows or more, by estimate, ends in ranges of its key, a task for each. 0: every
        /// such sort.
        pub range_sort_rows: usize, default = 256 * 1024
        /// Counted failures of one task before its job fails.
        pub max_attempts: u32, default = 4
        /// The fair pool that jobs of the session are admitted to.
        pub pool: String, default = "default".to_string()
        /// Inside their pool, jobs of the session go before all of lower priority.
        pub priority: i32, default = 0
        /// From the start of a statement's job to its end, in milliseconds, above which it fails. 0: no limit but the cluster's.
        pub statement_timeout_ms: u64, default = 0
    }
}

/// Options under the prefix `windlass`.
#[derive(Clone, Debug, Default)]
pub struct WindlassOptions(Options);

impl ConfigExtension for WindlassOptions {
    const PREFIX: &'static str = "windlass";
}

/// As the macro has it, but for the names: SHOW and information_schema list these options under the names that SET takes.
impl ExtensionOptions for WindlassOptions {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        self.0.set(key, value)
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let named = |entry: ConfigEntry| ConfigEntry { key: format!("{}.{}", Self::PREFIX, entry.key), ..entry };
        self.0.entries().into_iter().map(named).collect()
    }
}

impl Deref for WindlassOptions {
    type Target = Options;

    fn deref(&self) -> &Options {
        &self.0
    }
}

impl DerefMut for WindlassOptions {
    fn deref_mut(&mut self) -> &mut Options {
        &mut self.0
    }
}

/// Windlass's options within a session's.
pub fn of(config: &SessionConfig) -> WindlassOptions {
    config.options().extensions.get::<WindlassOptions>().cloned().unwrap_or_default()
}

/// The value that RESET gives to one of Windlass's own options; `None` when there is no option of this name.
pub fn default_of(name: &str) -> Option<String> {
    WindlassOptions::default().entries().into_iter().find(|entry| entry.key == name)?.value
}
