//! The command line.

use super::output::Format;
use crate::config::Role;
use crate::config::units::{Auto, ByteSize, Count, Span};
use crate::jobs::JobId;
use crate::params::{Param, Params};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Windlass: SQL over a cluster.
///
/// Client commands run against the cluster named with --url or WINDLASS_URL, and in this process when none is named.
#[derive(Debug, Parser)]
#[command(name = "windlass", version, arg_required_else_help = true, max_term_width = 110)]
pub struct Arguments {
    /// Configuration file; 'windlass config' prints one with every setting.
    #[arg(long, global = true, env = "WINDLASS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run SQL: interactively, or with -e, -f or standard input as a script.
    Sql(Sql),
    /// Run a file of statements detached, and print the id of its job.
    Submit(Submit),
    /// List, show and cancel jobs, and read their logs.
    Jobs(Jobs),
    /// List, read, write and look after the files of the cluster: wfs://.
    Fs(Fs),
    /// Run the demonstration on data that comes with the source.
    Demo(Demo),
    /// Be a primary: plans statements, schedules tasks, keeps the catalog.
    Primary(PrimaryFlags),
    /// Be an executor: runs tasks. Or let one go.
    Executor(Executor),
    /// Start, extend, inspect and stop a cluster of processes on this machine.
    #[command(subcommand)]
    Cluster(Cluster),
    /// Print the reference configuration file.
    Config,
    /// Print the version.
    Version,
}

/// The cluster to talk to, or what an embedded one may use.
#[derive(Clone, Debug, Default, Args)]
pub struct Target {
    /// Primary of the cluster: grpc://HOST:PORT. None: a cluster inside this process.
    #[arg(long, env = "WINDLASS_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Bearer token for the cluster.
    #[arg(long, env = "WINDLASS_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Embedded: tasks at the same time [default: cores].
    #[arg(long, value_name = "N")]
    pub slots: Option<Count>,
    /// Embedded: memory for tasks, such as 4GiB [default: three fifths of what there is].
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,
    /// Embedded: keep the catalog in this folder [default: a temporary one].
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Sql {
    #[command(flatten)]
    pub target: Target,
    /// Statements to run; may be given several times.
    #[arg(short = 'e', long = "execute", value_name = "SQL", allow_hyphen_values = true)]
    pub execute: Vec<String>,
    /// File of statements to run, after those of -e; may be given several times, '-' is standard input.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: Vec<PathBuf>,
    /// How results are written.
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
    /// Write results to this file, which appears when all statements have succeeded.
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Value of the placeholder $name in the statements; may be given several times.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub params: Vec<(String, String)>,
    /// Option of the session, as SET does; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub set: Vec<(String, String)>,
    /// After each statement, print the stages that ran, with rows, bytes, tasks and time (scripts: on standard error).
    #[arg(long)]
    pub stats: bool,
    /// Print the time that each statement took (scripts: on standard error).
    #[arg(long)]
    pub timing: bool,
    /// No progress bar.
    #[arg(long)]
    pub no_progress: bool,
}

#[derive(Debug, Args)]
pub struct Demo {
    #[command(flatten)]
    pub target: Target,
    /// The job [default: demo/demo.sql in the source tree].
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Where the job writes its table [default: a new folder under the temporary one].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Submit {
    /// File of statements; '-' is standard input.
    pub file: PathBuf,
    #[arg(long, env = "WINDLASS_URL", value_name = "URL")]
    pub url: String,
    #[arg(long, env = "WINDLASS_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// What 'windlass jobs' shows [default: the file's name].
    #[arg(long)]
    pub name: Option<String>,
    /// Option of the job's session, as SET does; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub struct Jobs {
    #[arg(long, global = true, env = "WINDLASS_URL", value_name = "URL")]
    pub url: Option<String>,
    #[arg(long, global = true, env = "WINDLASS_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Option<JobsCommand>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum JobsCommand {
    /// The newest jobs first.
    List {
        /// At most this many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// One job with its stages.
    Show {
        job: JobId,
        /// Also the operators of each stage.
        #[arg(long)]
        plan: bool,
    },
    /// End a job.
    Cancel { job: JobId },
    /// Wait until a job has ended; exit code 1 unless it finished.
    Wait { job: JobId },
    /// What a job wrote to its log.
    Logs { job: JobId },
}

#[derive(Debug, Args)]
pub struct Fs {
    #[command(flatten)]
    pub target: FsTarget,
    #[command(subcommand)]
    pub command: FsCommand,
}

#[derive(Clone, Debug, Default, Args)]
pub struct FsTarget {
    /// Primary of the cluster: grpc://HOST:PORT. None: the files of an embedded cluster in --dir.
    #[arg(long, global = true, env = "WINDLASS_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Bearer token for the cluster.
    #[arg(long, global = true, env = "WINDLASS_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Embedded: the folder of the catalog and the files.
    #[arg(long, global = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Paths are /folder/file or wfs:///folder/file; *, ?, [a-z] and {a,b} stand for names.
#[derive(Clone, Debug, Subcommand)]
pub enum FsCommand {
    /// List files and folders: replicas, bytes, time, path.
    Ls {
        #[arg(default_value = "/", value_name = "PATH")]
        paths: Vec<String>,
        /// Also what is in folders, at any depth.
        #[arg(short = 'R', long)]
        recursive: bool,
        /// Sizes for people.
        #[arg(short = 'H', long)]
        human: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Copy local files and folders to the cluster; '-' is standard input.
    Put {
        #[arg(required = true, num_args = 2.., value_name = "LOCAL... PATH")]
        paths: Vec<String>,
        #[command(flatten)]
        transfer: Transfer,
        #[command(flatten)]
        terms: WriteTerms,
    },
    /// Copy files and folders of the cluster to local ones.
    Get {
        #[arg(required = true, num_args = 2.., value_name = "PATH... LOCAL")]
        paths: Vec<String>,
        #[command(flatten)]
        transfer: Transfer,
    },
    /// Copy files and folders inside the cluster.
    Cp {
        #[arg(required = true, num_args = 2.., value_name = "PATH... PATH")]
        paths: Vec<String>,
        #[command(flatten)]
        transfer: Transfer,
        #[command(flatten)]
        terms: WriteTerms,
    },
    /// Print files.
    Cat {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Print the beginning of a file.
    Head {
        path: String,
        /// So many bytes.
        #[arg(short = 'c', long, default_value_t = 1024)]
        bytes: u64,
    },
    /// Print the end of a file.
    Tail {
        path: String,
        /// So many bytes.
        #[arg(short = 'c', long, default_value_t = 1024)]
        bytes: u64,
    },
    /// Make folders.
    Mkdir {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
        /// Also those around them; they may be there already.
        #[arg(short, long)]
        parents: bool,
    },
    /// Move files and folders, each at once. Into the last path if it is a folder.
    Mv {
        #[arg(required = true, num_args = 2.., value_name = "PATH... PATH")]
        paths: Vec<String>,
        /// Files may take the place of files.
        #[arg(short, long)]
        force: bool,
    },
    /// Move files and folders to the trash.
    Rm {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
        /// Folders with all that is in them.
        #[arg(short, long)]
        recursive: bool,
        /// What is not there is no error.
        #[arg(short, long)]
        force: bool,
        /// For good, at once.
        #[arg(long)]
        skip_trash: bool,
    },
    /// What folders hold: bytes, bytes with replicas, files, folders.
    Du {
        #[arg(default_value = "/", value_name = "PATH")]
        paths: Vec<String>,
        /// Just the sum of each path.
        #[arg(short, long)]
        summary: bool,
        /// Sizes for people.
        #[arg(short = 'H', long)]
        human: bool,
    },
    /// Space on the disks of the executors.
    Df {
        /// Sizes for people.
        #[arg(short = 'H', long)]
        human: bool,
    },
    /// All that is known of files and folders, as JSON.
    Stat {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// CRC32C of files, by reading them.
    Checksum {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// How many replicas files are to have; for a folder, all files in it and those that are written from then on.
    Setrep {
        /// 1 to 5.
        replicas: u32,
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
        /// Until they have.
        #[arg(short, long)]
        wait: bool,
    },
    /// What a folder may hold; without limits named: print them.
    Quota {
        path: String,
        /// Files and folders, or none.
        #[arg(long, value_name = "N|none")]
        files: Option<String>,
        /// Bytes of all replicas, such as 10GiB, or none.
        #[arg(long, value_name = "SIZE|none")]
        bytes: Option<String>,
    },
    /// How files in a folder are kept once they are cold; without a policy named: print it.
    Policy {
        path: String,
        /// replicate: whole, as often as their replication says. rs-3-2, rs-6-3: cut into so many pieces, with so many more to make up for
        /// lost ones, each on an executor of its own. inherit: as the folder around it says.
        #[arg(value_name = "replicate|rs-3-2|rs-6-3|inherit")]
        policy: Option<String>,
        /// Wait until all its files are kept so.
        #[arg(short, long)]
        wait: bool,
    },
    /// List what is in the trash, or remove all of it for good.
    Trash {
        #[arg(long)]
        empty: bool,
    },
    /// Look for blocks with too few replicas, or none. Exit code 1 when files cannot be read.
    Fsck {
        #[arg(default_value = "/")]
        path: String,
        /// Have executors read all their replicas of these files, and say later what is damaged: look again then.
        #[arg(long)]
        verify: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Move replicas from fuller disks to emptier ones, in the background, until all are near the average.
    Balance {
        /// How near, in per cent of a disk.
        #[arg(long, default_value_t = 10.0)]
        threshold: f64,
        /// End a balancing that is under way.
        #[arg(long)]
        stop: bool,
        /// Until it is done.
        #[arg(short, long)]
        wait: bool,
    },
    /// Let an executor be away for a while: its replicas are not made again meanwhile, as far as others have each block twice.
    Maintenance {
        /// Its name or id, as 'windlass fs report' shows them.
        executor: String,
        /// For how long, such as 30m.
        #[arg(long = "for", value_name = "TIME", default_value = "1h")]
        time: Span,
        /// It is back, or does not go.
        #[arg(long, conflicts_with = "time")]
        end: bool,
    },
    /// Copy files by the cluster's executors, many at a time: between its own, object stores (s3://) and their local ones (file://).
    ///
    /// A folder is copied with all that is in it, to below the other folder. Files that are there, as long and not older, are passed over:
    /// a copy that broke off goes on when it is begun again. Each copy is read once more, to see that it is one.
    Distcp {
        /// A folder or a file; without a scheme one of the cluster's.
        from: String,
        to: String,
        /// Copy what is there already, too.
        #[arg(long)]
        overwrite: bool,
        /// Remove files that have no source.
        #[arg(long)]
        delete: bool,
        /// Do not read the copies.
        #[arg(long)]
        no_verify: bool,
        /// Say what would be done.
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// A line for each file.
        #[arg(short, long)]
        verbose: bool,
        /// No progress bar.
        #[arg(long)]
        no_progress: bool,
    },
    /// Blocks, repair, and each executor's replicas.
    Report {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Debug, Args)]
pub struct Transfer {
    /// Files may take the place of files.
    #[arg(short, long)]
    pub force: bool,
    /// Pass over files that are there with the same length, and go on with local ones that were not copied to their end.
    #[arg(long)]
    pub resume: bool,
    /// Files at the same time.
    #[arg(short, long, default_value_t = 4, value_name = "N")]
    pub jobs: usize,
    /// No progress bar.
    #[arg(long)]
    pub no_progress: bool,
}

#[derive(Clone, Debug, Args)]
pub struct WriteTerms {
    /// Replicas of the new files, 1 to 5.
    #[arg(long, value_name = "N")]
    pub replication: Option<u32>,
    /// Bytes in a block of the new files, such as 64MiB.
    #[arg(long, value_name = "SIZE")]
    pub block_size: Option<ByteSize>,
}

#[derive(Clone, Debug, Default, Args)]
pub struct PrimaryFlags {
    /// Where gRPC and Flight SQL are served: address:port; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Where REST is served: address:port.
    #[arg(long, value_name = "ADDRESS")]
    pub rest: Option<String>,
    /// The metadata store: catalog and counters.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// An etcd in its place, for a cluster with several primaries: the addresses of its members, with commas between.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub etcd: Option<Vec<String>>,
    /// With --etcd: the name of the cluster.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Folder for the tables that Windlass writes, as a path or URL that every process reaches.
    #[arg(long, value_name = "URL")]
    pub warehouse: Option<String>,
    #[command(flatten)]
    pub elastic: ElasticFlags,
    /// When everything serves, write the addresses to this file as JSON, and one line of the same to standard output.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// Executors that come and go with the load.
#[derive(Clone, Debug, Default, Args)]
pub struct ElasticFlags {
    /// Start executors on this machine when tasks wait, up to this many in all, and let them go when they are idle; 0: none.
    #[arg(long, value_name = "N")]
    pub max_executors: Option<u32>,
    /// With --max-executors: keep at least so many.
    #[arg(long, value_name = "N")]
    pub min_executors: Option<u32>,
    /// With --max-executors: tasks at the same time on each.
    #[arg(long, value_name = "S")]
    pub executor_slots: Option<Count>,
    /// With --max-executors: memory of each.
    #[arg(long, value_name = "SIZE")]
    pub executor_memory: Option<ByteSize>,
    /// With --max-executors: where their folders are.
    #[arg(long, value_name = "DIR")]
    pub executor_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Executor {
    #[command(subcommand)]
    pub command: Option<ExecutorCommand>,
    #[command(flatten)]
    pub flags: ExecutorFlags,
}

#[derive(Debug, Subcommand)]
pub enum ExecutorCommand {
    /// Let executors go: they get no further tasks, what they hold moves to the others, and their processes end.
    Decommission(Decommission),
}

#[derive(Debug, Args)]
pub struct Decommission {
    /// Names or ids, as 'windlass cluster status' shows them.
    #[arg(required = true, value_name = "EXECUTOR")]
    pub executors: Vec<String>,
    #[arg(long, env = "WINDLASS_URL", value_name = "URL")]
    pub url: String,
    #[arg(long, env = "WINDLASS_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Do not wait until they have left.
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Clone, Debug, Default, Args)]
pub struct ExecutorFlags {
    /// The primary to register with: grpc://HOST:PORT; of several primaries all, with commas between.
    #[arg(long, value_name = "URL")]
    pub primary: Option<String>,
    /// Whether this executor also keeps replicas of files.
    #[arg(long, value_enum)]
    pub role: Option<Role>,
    /// Name in lists and logs.
    #[arg(long)]
    pub name: Option<String>,
    /// Where exchange data is served: address:port; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The host under which others reach this executor.
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,
    /// Rack, for placement.
    #[arg(long)]
    pub rack: Option<String>,
    /// Tasks at the same time, or auto.
    #[arg(long, value_name = "N")]
    pub slots: Option<Auto<Count>>,
    /// Memory for tasks and exchange data, such as 4GiB, or auto.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Auto<ByteSize>>,
    /// Exchange data and spilled rows.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Start a primary and some executors in the background.
    Up(Up),
    /// Add executors to a cluster that 'up' started.
    Add(Add),
    /// Stop a cluster that 'up' started. Its catalog stays in the folder.
    Down(Down),
    /// The primary and the executors with their load.
    Status(Status),
    /// The address of a cluster that 'up' started, and nothing else: export WINDLASS_URL=$(windlass cluster url --dir DIR)
    Url(Url),
}

#[derive(Debug, Args)]
pub struct Up {
    /// Executors to start.
    #[arg(long, default_value = "2", value_name = "N")]
    pub executors: Count,
    /// Tasks at the same time on each executor [default: cores divided by executors, at least 1].
    #[arg(long, value_name = "S")]
    pub slots: Option<Count>,
    /// Memory of each executor, such as 2GiB [default: three fifths of the machine's, divided by executors].
    #[arg(long, value_name = "M")]
    pub memory: Option<ByteSize>,
    /// Let further executors come with the load, up to this many in all, and go when they are idle.
    #[arg(long, value_name = "N")]
    pub max_executors: Option<Count>,
    /// Primaries to start: one leads, the others stand by. More than one need --etcd.
    #[arg(long, default_value = "1", value_name = "N")]
    pub primaries: Count,
    /// The etcd that keeps the catalog and decides who leads: the addresses of its members, with commas between.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub etcd: Vec<String>,
    /// Everything that the cluster writes, logs included.
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Address of gRPC and Flight SQL [default: a free port on 127.0.0.1].
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Address of REST [default: a free port on 127.0.0.1].
    #[arg(long, value_name = "ADDRESS")]
    pub rest: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Add {
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    #[arg(long, default_value = "1", value_name = "N")]
    pub executors: Count,
    /// Tasks at the same time on each new executor [default: as 'up' was told].
    #[arg(long, value_name = "S")]
    pub slots: Option<Count>,
    /// Memory of each new executor [default: as 'up' was told].
    #[arg(long, value_name = "M")]
    pub memory: Option<ByteSize>,
    #[arg(long, value_enum, default_value = "core")]
    pub role: Role,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Down {
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Url {
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// That of REST.
    #[arg(long)]
    pub rest: bool,
}

#[derive(Debug, Args)]
pub struct Status {
    /// A cluster that 'up' started.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Any cluster.
    #[arg(long, env = "WINDLASS_URL", value_name = "URL")]
    pub url: Option<String>,
    #[arg(long, env = "WINDLASS_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    #[arg(long)]
    pub json: bool,
}

impl Sql {
    pub fn params(&self) -> Params {
        let mut params = Params::default();
        for (name, value) in &self.params {
            params.set(name, Param::Text(value.clone()));
        }
        params
    }
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim_start_matches('$').is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("\"{text}\" has no name and value: write NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn parameters_may_hold_equal_signs() {
        assert_eq!(parse_pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(parse_pair("a").is_err());
        assert!(parse_pair("$=1").is_err());
    }
}
