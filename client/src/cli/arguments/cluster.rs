//! Arguments of `windlass cluster`.

use super::serve::Role;
use crate::config::units::{ByteSize, Count};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Start a primary and some executors in the background.
    Up(Up),
    /// Add executors to a cluster that 'up' started.
    Add(Add),
    /// Stop a cluster that 'up' started. Its catalog stays in the folder.
    Down(Down),
    /// Show the primary and the executors with their load.
    Status(Status),
    /// Print only the address of a cluster that 'up' started: export WINDLASS_URL=$(windlass cluster url --dir DIR)
    Url(Url),
}

#[derive(Debug, Args)]
pub struct Up {
    /// Executors to start.
    #[arg(long, default_value = "2", value_name = "N")]
    pub executors: Count,
    /// Maximum tasks at the same time on each executor [default: cores divided by executors, at least 1].
    #[arg(long, value_name = "S")]
    pub slots: Option<Count>,
    /// Memory of each executor, such as 2GiB [default: three fifths of the machine's, divided by executors].
    #[arg(long, value_name = "M")]
    pub memory: Option<ByteSize>,
    /// Start more executors with the load, up to this many in all, and let them go when they are idle.
    #[arg(long, value_name = "N")]
    pub max_executors: Option<Count>,
    /// Primaries to start: one leads, the others stand by. More than one needs --etcd.
    #[arg(long, default_value = "1", value_name = "N")]
    pub primaries: Count,
    /// Addresses of the etcd that keeps the catalog and decides who leads, separated by commas.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub etcd: Vec<String>,
    /// Folder for everything that the cluster writes, logs included.
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Address of gRPC and Flight SQL [default: a free port on 127.0.0.1; the same one after a primary that has died].
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Address of REST [default: as with --listen].
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
    /// Executors to start: first those that have ended, in their folders, then new ones.
    #[arg(long, default_value = "1", value_name = "N")]
    pub executors: Count,
    /// Maximum tasks at the same time on each new executor [default: as given to 'up'].
    #[arg(long, value_name = "S")]
    pub slots: Option<Count>,
    /// Memory of each new executor [default: as given to 'up'].
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
    /// Print the address of REST.
    #[arg(long)]
    pub rest: bool,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Folder of a cluster that 'up' started.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Address of any cluster.
    #[arg(long, env = "WINDLASS_URL", value_name = "URL")]
    pub url: Option<String>,
    #[arg(long, env = "WINDLASS_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    #[arg(long)]
    pub json: bool,
}
