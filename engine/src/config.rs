//! Windlass's own session options, in addition to DataFusion's: `SET windlass.small_query_bytes = 0`.

use datafusion::common::{Result, extensions_options};
use datafusion::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::prelude::SessionConfig;
use std::any::Any;
use std::ops::{Deref, DerefMut};

extensions_options! {
    /// The values of [`WindlassOptions`].
    pub struct Options {
        /// A statement that scans fewer bytes than this runs as one stage in one place. 0: always cut into stages.
        pub small_query_bytes: usize, default = 8 * 1024 * 1024
        /// Tasks of a distributed stage per slot of the cluster.
        pub tasks_per_slot: usize, default = 1
        /// Maximum bytes of a join's build side that goes to every task whole, instead of shuffling both sides.
        pub broadcast_bytes: usize, default = 8 * 1024 * 1024
        /// Maximum rows of a build side of unknown size that is broadcast as well.
        pub broadcast_rows: usize, default = 256 * 1024
        /// Maximum estimated bytes of a larger build side that is broadcast, if that moves fewer bytes than shuffling both sides and both have at least
        /// `broadcast_from_bytes` together.
        pub broadcast_max_bytes: usize, default = 128 * 1024 * 1024
        /// Minimum estimated bytes of both sides together for such a broadcast: fewer bytes are shuffled in memory, which costs less than a table for each
        /// task.
        pub broadcast_from_bytes: usize, default = 384 * 1024 * 1024
        /// Maximum estimated bytes of a build side that goes to the tasks that scan the other side: they drop the rows without a match before they are
        /// shuffled.
        pub semi_join_max_bytes: usize, default = 64 * 1024 * 1024
        /// Minimum estimated bytes of the other side for that: the tasks that scan it wait for the build side.
        pub semi_join_from_bytes: usize, default = 64 * 1024 * 1024
        /// Maximum bytes of a task's result that travels with its report and is not kept on the executor.
        pub inline_result_bytes: usize, default = 1024 * 1024
        /// Minimum estimated rows of a sort of the whole result that ends in ranges of its key, one task per range. 0: every such sort.
        pub range_sort_rows: usize, default = 256 * 1024
        /// Counted failures of one task before its job fails.
        pub max_attempts: u32, default = 4
        /// The fair pool that jobs of the session are admitted to.
        pub pool: String, default = "default".to_string()
        /// Priority of the session's jobs in their pool: jobs with a higher one go first.
        pub priority: i32, default = 0
        /// Maximum milliseconds from the start of a statement's job to its end; then it fails. 0: no limit but the cluster's.
        pub statement_timeout_ms: u64, default = 0
        /// Files that lie beside the programs of the session: URLs or paths with commas between them.
        pub program_files: String, default = String::new()
        /// Maximum bytes of memory of a program with all of its processes. 0: as many as its executor allows.
        pub program_memory_bytes: usize, default = 0
        /// Folder in which the output of the session's programs is kept, such as 'wfs:///logs/etl/'. Empty: only its end is returned.
        pub program_log: String, default = String::new()
    }
}

/// Options under the prefix `windlass`.
#[derive(Clone, Debug, Default)]
pub struct WindlassOptions(Options);

impl ConfigExtension for WindlassOptions {
    const PREFIX: &'static str = "windlass";
}

/// Equals the macro's implementation except for the names: SHOW and information_schema list these options under the names that SET takes.
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

/// Windlass's options in a session's configuration.
pub fn of(config: &SessionConfig) -> WindlassOptions {
    config.options().extensions.get::<WindlassOptions>().cloned().unwrap_or_default()
}

/// The value to which RESET sets one of Windlass's own options; `None` when no option has this name.
pub fn default_of(name: &str) -> Option<String> {
    WindlassOptions::default().entries().into_iter().find(|entry| entry.key == name)?.value
}

/// Windlass's options in a session's configuration with their values, as SET takes them.
pub fn entries(config: &SessionConfig) -> Vec<(String, String)> {
    of(config).entries().into_iter().filter_map(|entry| Some((entry.key, entry.value?))).collect()
}
