//! The configuration: one typed tree for every process, read from a TOML file and overridden by flags.
//!
//! `windlass config` prints the reference file, which is generated from the declarations below; deploy/windlass.toml is that file.

mod load;
pub mod machine;
mod section;
pub mod units;

pub use load::ConfigError;

use section::{Reference, section};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use units::{Auto, ByteSize, Count, Span};

/// Everything that can be configured. `Config::default()` is what `windlass config` prints.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub primary: Primary,
    pub executor: Executor,
    pub query: Query,
    pub exchange: Exchange,
    pub log: Log,
}

section! {
    /// The primary: plans statements, schedules tasks, keeps the catalog.
    Primary {
        /// Where gRPC and Arrow Flight SQL are served: address:port. Port 0 takes a free one. Use 0.0.0.0 to serve other machines.
        listen: String = "127.0.0.1:7077".to_owned();
        /// Where REST is served: address:port.
        rest: String = "127.0.0.1:7078".to_owned();
        /// The metadata store: the catalog and the counter of jobs.
        dir: PathBuf = PathBuf::from("windlass/primary");
        /// A session that nobody uses for this long is forgotten, with its temporary tables and its options.
        session_timeout: Span = Span::secs(30 * 60);
        /// Executors report this often.
        heartbeat: Span = Span::secs(2);
        /// An executor that is silent for this long counts as lost.
        executor_timeout: Span = Span::secs(10);
        /// A statement waits this long for a first executor before it fails.
        executor_wait: Span = Span::secs(30);
        /// Jobs that ended and are still listed.
        history: Count = Count(1000);
        /// The largest statement, and the largest message of any kind, that is accepted.
        message_limit: ByteSize = ByteSize::mib(64);
        /// A task that fails this often fails its job.
        task_attempts: Count = Count(4);
    }
}

section! {
    /// An executor: runs tasks.
    Executor {
        /// The primary to register with.
        primary: String = "grpc://127.0.0.1:7077".to_owned();
        /// What it is called in lists and logs; empty: host and process id.
        name: String = String::new();
        /// "core" also keeps replicas of files, "task" only computes.
        role: Role = Role::Core;
        /// Where exchange data and results are served: address:port. Port 0 takes a free one.
        listen: String = "127.0.0.1:0".to_owned();
        /// The host under which others reach this executor; empty: the address it listens on, or this machine's name when that is 0.0.0.0.
        advertise: String = String::new();
        /// The rack that this machine stands in, for placement; empty: none.
        rack: String = String::new();
        /// Tasks that run at the same time. "auto": one for each core.
        slots: Auto<Count> = Auto::Auto;
        /// Memory for tasks and exchange data together. "auto": three quarters of what the machine or the container has.
        memory: Auto<ByteSize> = Auto::Auto;
        /// Exchange data and spilled rows. Emptied at start.
        dir: PathBuf = PathBuf::from("windlass/executor");
        /// On SIGTERM, running tasks and outputs that others still need get this long.
        drain_timeout: Span = Span::secs(30);
    }
}

section! {
    /// Defaults of a session; a client changes them for itself with SET.
    Query {
        /// Partitions after an exchange. "auto": as many as the cluster has slots.
        partitions: Auto<Count> = Auto::Auto;
        /// A statement whose inputs are smaller than this runs as one stage in one place.
        small_query: ByteSize = ByteSize::mib(64);
        /// Rows in a batch.
        batch_rows: Count = Count(8192);
        /// The fair pool of jobs that name none.
        pool: String = "default".to_owned();
    }
}

section! {
    /// Data between stages.
    Exchange {
        /// How it is compressed: "lz4", "zstd" or "none".
        compression: Compression = Compression::Lz4;
        /// What an executor keeps of it in memory before it goes to files. "auto": a quarter of the executor's memory.
        memory: Auto<ByteSize> = Auto::Auto;
        /// What an executor keeps of it in files. "auto": as much as the disk holds.
        disk: Auto<ByteSize> = Auto::Auto;
        /// Size of a block before compression.
        block: ByteSize = ByteSize::mib(1);
        /// Threads that read and write the files.
        io_threads: Count = Count(2);
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

const SECTIONS: [&str; 5] = ["primary", "executor", "query", "exchange", "log"];

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
        Query::reference(&mut out, SECTIONS[2]);
        Exchange::reference(&mut out, SECTIONS[3]);
        Log::reference(&mut out, SECTIONS[4]);
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
