//! Arguments of the processes of a cluster: `windlass primary` and `windlass executor`.

use crate::config;
use crate::config::units::{Auto, ByteSize, Count};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Clone, Debug, Default, Args)]
pub struct PrimaryFlags {
    /// Address of gRPC and Flight SQL: address:port; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Address of REST: address:port.
    #[arg(long, value_name = "ADDRESS")]
    pub rest: Option<String>,
    /// Folder of the metadata store: catalog and counters.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Addresses of an etcd that replaces the folder in a cluster with several primaries, separated by commas.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub etcd: Option<Vec<String>>,
    /// With --etcd: the name of the cluster.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Folder for the tables that Windlass writes: a path or URL that every process reaches.
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
    /// With --max-executors: minimum executors to keep.
    #[arg(long, value_name = "N")]
    pub min_executors: Option<u32>,
    /// With --max-executors: tasks at the same time on each.
    #[arg(long, value_name = "S")]
    pub executor_slots: Option<Count>,
    /// With --max-executors: memory of each.
    #[arg(long, value_name = "SIZE")]
    pub executor_memory: Option<ByteSize>,
    /// With --max-executors: parent folder of their folders.
    #[arg(long, value_name = "DIR")]
    pub executor_dir: Option<PathBuf>,
}

/// Whether an executor keeps replicas of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Runs tasks and keeps replicas of files.
    Core,
    /// Only runs tasks.
    Task,
}

impl From<Role> for config::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Core => config::Role::Core,
            Role::Task => config::Role::Task,
        }
    }
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
    /// Let executors go: they get no further tasks, their outputs and replicas move to the others, and their processes end.
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
    /// The primary to register with: grpc://HOST:PORT; several are separated by commas.
    #[arg(long, value_name = "URL")]
    pub primary: Option<String>,
    /// Whether this executor also keeps replicas of files.
    #[arg(long, value_enum)]
    pub role: Option<Role>,
    /// Name in lists and logs.
    #[arg(long)]
    pub name: Option<String>,
    /// Address for exchange data: address:port; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The host under which others reach this executor.
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,
    /// Rack of this machine, for placement.
    #[arg(long)]
    pub rack: Option<String>,
    /// Maximum tasks at the same time, or auto.
    #[arg(long, value_name = "N")]
    pub slots: Option<Auto<Count>>,
    /// Memory for tasks and exchange data, such as 4GiB, or auto.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Auto<ByteSize>>,
    /// Folder for exchange data and spilled rows.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
