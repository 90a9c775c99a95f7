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
