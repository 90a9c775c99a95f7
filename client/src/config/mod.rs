//! The configuration: one typed tree for every process, read from a TOML file and overridden by flags.
//!
//! `windlass config` prints the reference file, which is generated from the declarations below; deploy/windlass.toml is that file.

pub mod check;
mod load;
pub mod machine;
mod section;
pub mod units;

pub use load::ConfigError;

use section::{Reference, section};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use units::{Auto, ByteSize, Count, Span};
use windlass_core::wfs::WfsConfig;

/// Everything that can be configured. `Config::default()` is what `windlass config` prints.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub primary: Primary,
    pub executor: Executor,
    pub elastic: Elastic,
    pub files: Files,
    pub exchange: Exchange,
    pub query: Query,
    pub log: Log,
}

section! {
    /// The primary: plans statements, schedules tasks, keeps the catalog.
    Primary {
        /// Where gRPC and Arrow Flight SQL are served: address:port. Port 0 takes a free one. Use 0.0.0.0 to serve other machines.
        listen: String = "127.0.0.1:7077".to_owned();
        /// Where REST is served: address:port.
        rest: String = "127.0.0.1:7078".to_owned();
        /// The metadata store (the catalog and the counter of jobs), unless it is an etcd.
        dir: PathBuf = PathBuf::from("windlass/primary");
        /// The etcd of a cluster with several primaries, one of which leads while the others stand by: the address of each member, such
        /// as ["http://10.0.0.1:2379"]. Empty: one primary, with its store in dir.
        etcd: Vec<String> = Vec::new();
        /// With etcd: the name of the cluster. Clusters with different names can share an etcd.
        cluster: String = "windlass".to_owned();
        /// With etcd: a leader that is silent for this long is replaced. Whole seconds, at least 2.
        lease: Span = Span::secs(3);
        /// The host under which others reach this primary; empty: the address that it listens on.
        advertise: String = String::new();
        /// Folder for the tables that Windlass writes, as a path or URL that every process reaches; empty: one in dir.
        warehouse: String = String::new();
        /// A session that nobody uses for this long is forgotten, with its temporary tables and its options.
        session_timeout: Span = Span::secs(30 * 60);
        /// The longest statement that is accepted.
        statement_limit: ByteSize = ByteSize::mib(16);
        /// Operators and expressions of a statement on top of each other: a chain of OR is as deep as it is long. At most 6,000, for which
        /// threads have room.
        depth_limit: Count = Count(6_000);
        /// Operators and expressions of a statement in all, those of what is named twice (a view, a common table expression) twice.
        size_limit: Count = Count(1_000_000);
        /// A statement that is planned for longer, not counting what it waits for, fails.
        planning_timeout: Span = Span::secs(60);
        /// So does one whose planning takes more memory. "auto": a quarter of what the machine or the container has.
        planning_memory: Auto<ByteSize> = Auto::Auto;
        /// Executors report this often.
        heartbeat: Span = Span::secs(2);
        /// An executor that is silent for this long counts as lost.
        executor_timeout: Span = Span::secs(6);
        /// A job waits this long for a first executor before it fails.
        executor_wait: Span = Span::secs(30);
        /// An executor on which exclude_after tasks have failed within this time, through no fault of their statement, gets no tasks for as
        /// long, while there are others. After two failures in one stage it gets no more of that stage.
        exclusion: Span = Span::secs(60);
        /// See exclusion.
        exclude_after: Count = Count(6);
        /// Whether a task that takes much longer than others of its stage starts once more, on a slot that nobody else wants.
        speculation: bool = true;
        /// So many of a hundred tasks of the stage have to be done before.
        speculation_quantile: Count = Count(75);
        /// The task runs for so many times the median of those.
        speculation_multiplier: f64 = 3.0;
        /// The task runs for at least this long.
        speculation_after: Span = Span::secs(2);
        /// On an executor that leaves, tasks may go on this long before they start again on others.
        hand_back_after: Span = Span::secs(30);
        /// A leaving executor may stay this long because its outputs are needed.
        drain_timeout: Span = Span::secs(60);
        /// On SIGTERM, how long running jobs may take to end.
        finish_timeout: Span = Span::secs(60);
        /// Finished stages of jobs that run longer than this are saved, so that the next primary that leads, or this one after its next
        /// start, goes on behind them.
        save_stages_after: Span = Span::secs(1);
        /// Outputs that executors have kept since they lost another primary go after this, unless a job goes on with them.
        keep_unclaimed: Span = Span::secs(60);
        /// Jobs that may wait for their first task. More are refused.
        queued_jobs: Count = Count(10_000);
        /// The same for the jobs of one user.
        queued_jobs_per_user: Count = Count(1_000);
        /// A statement whose job takes longer fails, whatever its session asks for. "0s": no limit.
        statement_timeout: Span = Span::secs(0);
        /// Fair pools: slots by weight among those that have work, after a minimum share of slots. Inside a pool jobs share its slots in
        /// equal parts ("fair"), or the first takes what it can use ("fifo"). Pools that are not named here have weight 1, no minimum share
        /// and are fair: { etl = { weight = 3, min_share = 2, order = "fifo" } }
        pools: BTreeMap<String, Pool> = BTreeMap::new();
        /// Jobs that ended and are still listed.
        history: Count = Count(1000);
    }
}

section! {
    /// An executor: runs tasks.
    Executor {
        /// The primary to register with; where there are several, all of them: "grpc://a:7077,grpc://b:7077".
        primary: String = "grpc://127.0.0.1:7077".to_owned();
        /// What it is called in lists and logs, unique in its cluster; empty: its address.
        name: String = String::new();
        /// "core" also keeps replicas of files, "task" only computes.
        role: Role = Role::Core;
        /// Where exchange data and results are served: address:port. Port 0 takes a free one.
        listen: String = "127.0.0.1:0".to_owned();
        /// host:port under which others reach this executor; empty: the address of the interface that leads to the primary.
        advertise: String = String::new();
        /// The rack that this machine stands in, for placement.
        rack: String = "default".to_owned();
        /// Tasks that run at the same time. "auto": one for each core.
        slots: Auto<Count> = Auto::Auto;
        /// Memory for tasks and exchange data together. "auto": three fifths of what the machine or the container has, and of a small one what
        /// leaves 512 MiB.
        memory: Auto<ByteSize> = Auto::Auto;
        /// Exchange data and spilled rows, which go at the next start, and replicas of files, which stay. For this executor alone.
        dir: PathBuf = PathBuf::from("windlass/executor");
        /// What spilled rows may take on disk.
        spill_disk: ByteSize = ByteSize(100 << 30);
        /// Folders for replicas of files, one for each disk; empty: "blocks" in dir.
        block_dirs: Vec<PathBuf> = Vec::new();
        /// What each of their disks keeps free.
        block_reserve: ByteSize = ByteSize::mib(1024);
        /// Bytes of replicas that are read in a second to find what is damaged; "0B": none.
        scrub_rate: ByteSize = ByteSize::mib(4);
        /// Bytes in a second that copies of replicas may take when executors were lost; "0B": no limit.
        repair_rate: ByteSize = ByteSize::mib(64);
        /// How long to try to reach the primary at the start. Once it was there, the executor waits for it for ever.
        join_timeout: Span = Span::secs(60);
        /// On SIGTERM, how long running tasks and outputs that others still need may take.
        leave_timeout: Span = Span::secs(60);
    }
}

section! {
    /// Executors that the primary starts on its own machine, and lets go, as the load wants.
    Elastic {
        /// Executors in all, those that were started otherwise included. 0: the primary starts none.
        max_executors: u32 = 0;
        /// At least so many.
        min_executors: u32 = 0;
        /// Slots of each one that is started.
        slots: Count = Count(1);
        /// Memory of each one that is started.
        memory: ByteSize = ByteSize::mib(1024);
        /// A folder for each is made in it.
        dir: PathBuf = PathBuf::from("windlass/elastic");
        /// How long tasks wait before executors are started for them.
        backlog: Span = Span::secs(1);
        /// How long an executor runs nothing before it is let go.
        idle: Span = Span::secs(60);
    }
}

section! {
    /// wfs://, the files of the cluster, in blocks on its core executors.
    Files {
        /// Replicas of a file whose writer and folder ask for nothing else: 1 to 5.
        replication: Count = Count(3);
        /// Bytes in a block.
        block: ByteSize = ByteSize::mib(128);
        /// Replicas of every block that are on disks before a file is complete, where the file wants and the cluster has as many.
        min_replicas: Count = Count(2);
        /// A writer that is silent for so long has given up its file.
        lease: Span = Span::secs(300);
        /// How long an executor may be away before its replicas are made again elsewhere. Blocks with one replica left do not wait.
        repair_after: Span = Span::secs(30);
        /// Copies at a time to one executor, and from one.
        copies: Count = Count(2);
        /// How long the replicas of a removed file stay for those who are reading it.
        grace: Span = Span::secs(30);
        /// How long what is moved to the trash can be had back.
        trash: Span = Span::secs(24 * 3600);
        /// A file that was written so long ago is cold: if its folder has such a policy, its blocks are cut into pieces.
        code_after: Span = Span::secs(3600);
    }
}

section! {
    /// Data between stages.
    Exchange {
        /// How it is compressed in files, and from memory on the way to other hosts: "lz4", "zstd" or "none".
        compression: Compression = Compression::Lz4;
        /// What an executor keeps of it in memory before it goes to files. "auto": 64 MiB for each slot.
        memory: Auto<ByteSize> = Auto::Auto;
        /// What an executor keeps of it in files. "auto": as much as the disk holds.
        disk: Auto<ByteSize> = Auto::Auto;
    }
}

section! {
    /// What sessions start with. A client changes it for itself with SET.
    Query {
        /// A statement that scans less than this runs as one stage in one place. SET windlass.small_query_bytes
        small_query: ByteSize = ByteSize::mib(8);
        /// Tasks of a stage for each slot of the cluster. SET windlass.tasks_per_slot
        tasks_per_slot: Count = Count(1);
        /// The smaller side of a join up to this size goes to every task whole. SET windlass.broadcast_bytes
        broadcast: ByteSize = ByteSize::mib(8);
        /// Where sizes are not known, the same with at most this many rows. SET windlass.broadcast_rows
        broadcast_rows: Count = Count(256 * 1024);
        /// A sort of a whole result with this many rows or more, by estimate, ends in a task for each range of its key. SET
        /// windlass.range_sort_rows
        range_sort_rows: Count = Count(256 * 1024);
        /// A task's result up to this size travels with its report. SET windlass.inline_result_bytes
        inline_result: ByteSize = ByteSize::mib(1);
        /// A task that fails this often fails its job. SET windlass.max_attempts
        attempts: Count = Count(4);
        /// The fair pool of jobs. SET windlass.pool
        pool: String = "default".to_owned();
        /// Inside their pool, jobs of higher priority go first. SET windlass.priority
        priority: i32 = 0;
        /// A statement whose job takes longer fails. "0s": no limit but the primary's. SET windlass.statement_timeout_ms
        statement_timeout: Span = Span::secs(0);
        /// Rows in a batch. SET datafusion.execution.batch_size
        batch_rows: Count = Count(8192);
        /// Any other option by its name: { "datafusion.execution.time_zone" = "Europe/Berlin" }
        options: BTreeMap<String, String> = BTreeMap::new();
    }
}

section! {
    /// What the processes say on standard error.
    Log {
        /// "error", "warn", "info", "debug" or "trace", or directives such as "info,windlass_scheduler=debug".
        level: String = "info".to_owned();
        /// "text" or "json".
        format: LogFormat = LogFormat::Text;
    }
}

/// What a pool of jobs is entitled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// Relative to the other pools that have work.
    pub weight: Count,
    /// Slots that it gets before weights count.
    pub min_share: u32,
    pub order: PoolOrder,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolOrder {
    #[default]
    Fair,
    Fifo,
}

impl Default for Pool {
    fn default() -> Self {
        Pool { weight: Count(1), min_share: 0, order: PoolOrder::default() }
    }
}

impl From<&Pool> for windlass_core::scheduler::PoolConfig {
    fn from(pool: &Pool) -> Self {
        let order = match pool.order {
            PoolOrder::Fair => windlass_core::scheduler::PoolOrder::Fair,
            PoolOrder::Fifo => windlass_core::scheduler::PoolOrder::Fifo,
        };
        Self { weight: pool.weight.0, min_share: pool.min_share, order }
    }
}

/// Whether an executor keeps replicas of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs tasks and keeps replicas of files.
    Core,
    /// Only runs tasks.
    Task,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    Lz4,
    Zstd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

impl Files {
    pub fn settings(&self) -> WfsConfig {
        let small = |count: Count| u8::try_from(count.0).unwrap_or(u8::MAX);
        WfsConfig {
            replication: small(self.replication),
            block_bytes: self.block.bytes(),
            min_replicas: small(self.min_replicas),
            lease: self.lease.duration(),
            repair_after: self.repair_after.duration(),
            copies: self.copies.0,
            grace: self.grace.duration(),
            trash: self.trash.duration(),
            code_after: self.code_after.duration(),
            // Where replicas go is not to be the same on every cluster.
            seed: uuid::Uuid::new_v4().as_u64_pair().0,
            ..WfsConfig::default()
        }
    }
}

impl Query {
    /// As the options of a session, by the names that SET takes.
    pub fn session_options(&self) -> Vec<(String, String)> {
        let own = [
            ("windlass.small_query_bytes", self.small_query.bytes().to_string()),
            ("windlass.tasks_per_slot", self.tasks_per_slot.to_string()),
            ("windlass.broadcast_bytes", self.broadcast.bytes().to_string()),
            ("windlass.broadcast_rows", self.broadcast_rows.to_string()),
            ("windlass.range_sort_rows", self.range_sort_rows.to_string()),
            ("windlass.inline_result_bytes", self.inline_result.bytes().to_string()),
            ("windlass.max_attempts", self.attempts.to_string()),
            ("windlass.pool", self.pool.clone()),
            ("windlass.priority", self.priority.to_string()),
            ("windlass.statement_timeout_ms", self.statement_timeout.duration().as_millis().to_string()),
            ("datafusion.execution.batch_size", self.batch_rows.to_string()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(self.options.iter().map(|(name, value)| (name.clone(), value.clone()))).collect()
    }
}

const SECTIONS: [&str; 7] = ["primary", "executor", "elastic", "files", "exchange", "query", "log"];

impl Config {
    /// The file at `path`, or the defaults when there is none to read.
    pub fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
        path.map_or_else(|| Ok(Config::default()), load::load)
    }

    /// The reference file: every key with its default and what it means.
    pub fn reference() -> String {
        let mut out = Reference {
            text: "# Windlass: every setting with its default. Print this file with 'windlass config'; name yours with --config FILE or\n\
                   # WINDLASS_CONFIG. Leave out what you do not change. Flags win over the file. Sizes: \"512MiB\", \"1.5GiB\", \"10GB\";\n\
                   # durations: \"500ms\", \"2s\", \"1h30m\".\n"
                .to_owned(),
        };
        Primary::reference(&mut out, SECTIONS[0]);
        Executor::reference(&mut out, SECTIONS[1]);
        Elastic::reference(&mut out, SECTIONS[2]);
        Files::reference(&mut out, SECTIONS[3]);
        Exchange::reference(&mut out, SECTIONS[4]);
        Query::reference(&mut out, SECTIONS[5]);
        Log::reference(&mut out, SECTIONS[6]);
        out.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_reads_back_as_the_defaults() {
        let path = Path::new("reference");
        assert_eq!(load::parse(path, &Config::reference()).unwrap(), Config::default());
    }

    #[test]
    fn the_reference_names_every_section_and_documents_every_key() {
        let reference = Config::reference();
        for section in SECTIONS {
            assert!(reference.contains(&format!("\n[{section}]\n")), "{section} is missing");
        }
        let lines: Vec<&str> = reference.lines().collect();
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| line.contains(" = ")) {
            assert!(lines[index - 1].starts_with("# ") || line.starts_with('#'), "{line} has no documentation");
        }
    }

    #[test]
    fn the_file_under_deploy_is_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/windlass.toml");
        let file = std::fs::read_to_string(path).unwrap_or_default();
        assert!(file == Config::reference(), "write it again: windlass config > deploy/windlass.toml");
    }
}
