//! Arguments of `windlass s3`.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use windlass_connectors::archive::{DAYS, Tier};

/// Settings of S3 are AWS's own: AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL, a profile or the role of the machine.
#[derive(Debug, Subcommand)]
pub enum S3 {
    /// Ask for copies of archived objects (GLACIER, DEEP_ARCHIVE) that can be read for some days. It may be run again at any time.
    Restore(Restore),
}

#[derive(Debug, Args)]
pub struct Restore {
    /// An object, or a folder with all objects below it: s3://bucket/folder/.
    pub url: String,
    /// How fast: bulk is the cheapest; expedited is not to be had for DEEP_ARCHIVE.
    #[arg(long, value_enum, default_value = "standard")]
    pub tier: Speed,
    /// Days for which the copies stay.
    #[arg(long, value_name = "N", default_value_t = DAYS, value_parser = clap::value_parser!(u32).range(1..))]
    pub days: u32,
    /// Wait until all of them can be read.
    #[arg(long)]
    pub wait: bool,
    /// Write the objects to this file, as CSV: url, bytes, class, state, until.
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// Show no progress.
    #[arg(long)]
    pub no_progress: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Speed {
    Bulk,
    Standard,
    Expedited,
}

impl From<Speed> for Tier {
    fn from(speed: Speed) -> Self {
        match speed {
            Speed::Bulk => Self::Bulk,
            Speed::Standard => Self::Standard,
            Speed::Expedited => Self::Expedited,
        }
    }
}
