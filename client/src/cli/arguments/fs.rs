//! Arguments of `windlass fs`.

use crate::config::units::{ByteSize, Span};
use clap::{Args, Subcommand};
use std::path::PathBuf;

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

/// Paths are /folder/file or wfs:///folder/file; *, ?, [a-z] and {a,b} match names.
#[derive(Clone, Debug, Subcommand)]
pub enum FsCommand {
    /// List files and folders: replicas, bytes, time, path.
    Ls {
        #[arg(default_value = "/", value_name = "PATH")]
        paths: Vec<String>,
        /// Include the content of folders at any depth.
        #[arg(short = 'R', long)]
        recursive: bool,
        /// Print sizes for people.
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
        /// Bytes to print.
        #[arg(short = 'c', long, default_value_t = 1024)]
        bytes: u64,
    },
    /// Print the end of a file.
    Tail {
        path: String,
        /// Bytes to print.
        #[arg(short = 'c', long, default_value_t = 1024)]
        bytes: u64,
    },
    /// Make folders.
    Mkdir {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
        /// Create missing parent folders; existing folders are no error.
        #[arg(short, long)]
        parents: bool,
    },
    /// Move files and folders, each at once, into the last path if it is a folder.
    Mv {
        #[arg(required = true, num_args = 2.., value_name = "PATH... PATH")]
        paths: Vec<String>,
        /// Replace existing files.
        #[arg(short, long)]
        force: bool,
    },
    /// Move files and folders to the trash.
    Rm {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
        /// Remove folders with their content.
        #[arg(short, long)]
        recursive: bool,
        /// Ignore missing paths.
        #[arg(short, long)]
        force: bool,
        /// Remove for good, without the trash.
        #[arg(long)]
        skip_trash: bool,
    },
    /// Print the size of folders: bytes, bytes with replicas, files, folders.
    Du {
        #[arg(default_value = "/", value_name = "PATH")]
        paths: Vec<String>,
        /// Print only the sum of each path.
        #[arg(short, long)]
        summary: bool,
        /// Print sizes for people.
        #[arg(short = 'H', long)]
        human: bool,
    },
    /// Print the space on the disks of the executors.
    Df {
        /// Print sizes for people.
        #[arg(short = 'H', long)]
        human: bool,
    },
    /// Print all metadata of files and folders as JSON.
    Stat {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Print the CRC32C of files, after reading them.
    Checksum {
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Set the number of replicas of files; for a folder, of its present and future files.
    Setrep {
        /// Number of replicas, 1 to 5.
        replicas: u32,
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
        /// Wait until the replicas exist.
        #[arg(short, long)]
        wait: bool,
    },
    /// Set the limits of a folder, or print them when none is given.
    Quota {
        path: String,
        /// Maximum files and folders, or none.
        #[arg(long, value_name = "N|none")]
        files: Option<String>,
        /// Maximum bytes of all replicas, such as 10GiB, or none.
        #[arg(long, value_name = "SIZE|none")]
        bytes: Option<String>,
    },
    /// Set how cold files in a folder are kept, or print the policy when none is given.
    Policy {
        path: String,
        /// replicate: as whole blocks, with the file's replication. rs-3-2, rs-6-3: each block is cut into this many pieces and this many more that make up for
        /// lost ones, each on a different executor. inherit: the policy of the folder around it.
        #[arg(value_name = "replicate|rs-3-2|rs-6-3|inherit")]
        policy: Option<String>,
        /// Wait until all its files are kept this way.
        #[arg(short, long)]
        wait: bool,
    },
    /// List the content of the trash, or remove all of it for good.
    Trash {
        #[arg(long)]
        empty: bool,
    },
    /// Look for blocks with too few replicas, or none. Exit code 1 when files cannot be read.
    Fsck {
        #[arg(default_value = "/")]
        path: String,
        /// Have executors read all their replicas of these files; damage is reported later: run fsck again then.
        #[arg(long)]
        verify: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Move replicas from fuller disks to emptier ones, in the background, until all are near the average.
    Balance {
        /// Allowed distance from the average, in percent of a disk.
        #[arg(long, default_value_t = 10.0)]
        threshold: f64,
        /// Stop a running balancing.
        #[arg(long)]
        stop: bool,
        /// Wait until it is done.
        #[arg(short, long)]
        wait: bool,
    },
    /// Let an executor be away for a while: meanwhile its replicas of blocks that others hold twice are not made again.
    Maintenance {
        /// Name or id of the executor, as 'windlass fs report' shows it.
        executor: String,
        /// Maximum absence, such as 30m.
        #[arg(long = "for", value_name = "TIME", default_value = "1h")]
        time: Span,
        /// End the maintenance: the executor is back, or does not leave.
        #[arg(long, conflicts_with = "time")]
        end: bool,
    },
    /// Copy files by the cluster's executors, many at a time: between the cluster's files, object stores (s3://) and the executors' local files (file://).
    ///
    /// A folder is copied with its content into the other folder. Existing files of equal length that are not older are skipped: an interrupted copy continues
    /// when it is started again. Each copy is read once more to verify it.
    Distcp {
        /// A folder or a file; without a scheme one of the cluster's.
        from: String,
        to: String,
        /// Copy existing files too.
        #[arg(long)]
        overwrite: bool,
        /// Remove files that have no source.
        #[arg(long)]
        delete: bool,
        /// Do not verify the copies by reading them.
        #[arg(long)]
        no_verify: bool,
        /// Print the actions without doing them.
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// Print a line for each file.
        #[arg(short, long)]
        verbose: bool,
        /// Show no progress bar.
        #[arg(long)]
        no_progress: bool,
    },
    /// Print the state of blocks, repair, and each executor's replicas.
    Report {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Debug, Args)]
pub struct Transfer {
    /// Replace existing files.
    #[arg(short, long)]
    pub force: bool,
    /// Skip files that exist with the same length, and continue local ones that were not copied completely.
    #[arg(long)]
    pub resume: bool,
    /// Files copied at the same time.
    #[arg(short, long, default_value_t = 4, value_name = "N")]
    pub jobs: usize,
    /// Show no progress bar.
    #[arg(long)]
    pub no_progress: bool,
}

#[derive(Clone, Debug, Args)]
pub struct WriteTerms {
    /// Replicas of the new files, 1 to 5.
    #[arg(long, value_name = "N")]
    pub replication: Option<u32>,
    /// Block size of the new files, such as 64MiB.
    #[arg(long, value_name = "SIZE")]
    pub block_size: Option<ByteSize>,
}
