//! The command line.

mod cluster;
mod copy;
mod fs;
mod s3;
mod serve;

pub use cluster::{Add, Cluster, Down, Status, Up, Url};
pub use copy::{Copy, Mode};
pub use fs::{Fs, FsCommand, FsTarget, Transfer, WriteTerms};
pub use s3::{Restore, S3};
pub use serve::{Decommission, Executor, ExecutorCommand, ExecutorFlags, PrimaryFlags, Role};

use super::output::Format;
use crate::config::units::{ByteSize, Count};
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
    /// Load a query or files into a database, or write them to files.
    Copy(Copy),
    /// Submit a file of statements or a Python program, which run without you, and print the id of the submission.
    Submit(Submit),
    /// List, show and cancel jobs, and read their logs.
    Jobs(Jobs),
    /// List, read, write and maintain the files of the cluster: wfs://.
    Fs(Fs),
    /// Restore archived objects of S3.
    #[command(subcommand)]
    S3(S3),
    /// Run the demonstration on data that comes with the source.
    Demo(Demo),
    /// Run a primary: plans statements, schedules tasks, keeps the catalog.
    Primary(PrimaryFlags),
    /// Run an executor, or let one go.
    Executor(Executor),
    /// Start, extend, inspect and stop a cluster of processes on this machine.
    #[command(subcommand)]
    Cluster(Cluster),
    /// Print the reference configuration file.
    Config,
    /// Run a program for an executor, which says what on standard input.
    #[command(hide = true)]
    SuperviseProgram,
    /// Print the version.
    Version,
}

/// The cluster to use, or the limits of an embedded one.
#[derive(Clone, Debug, Default, Args)]
pub struct Target {
    /// Primary of the cluster: grpc://HOST:PORT. None: a cluster inside this process.
    #[arg(long, env = "WINDLASS_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Bearer token for the cluster.
    #[arg(long, env = "WINDLASS_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Embedded: tasks at the same time [default: number of cores].
    #[arg(long, value_name = "N")]
    pub slots: Option<Count>,
    /// Embedded: memory for tasks, such as 4GiB [default: three fifths of the available memory].
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
    /// Format of results.
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
    /// Show no progress bar.
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
    /// Folder for the job's table [default: a new folder under the temporary one].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Submit {
    /// File of statements, or a program of Python, whose name ends in .py; '-' is statements from standard input.
    pub file: PathBuf,
    /// Arguments of a program, after '--'.
    #[arg(last = true, value_name = "ARGUMENT")]
    pub args: Vec<String>,
    #[arg(long, env = "WINDLASS_URL", value_name = "URL")]
    pub url: String,
    #[arg(long, env = "WINDLASS_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Name shown by 'windlass jobs' [default: the file's name].
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
    /// List jobs, newest first.
    List {
        /// Maximum jobs to list.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Include the cluster's own jobs, which no user asked for.
        #[arg(long)]
        all: bool,
    },
    /// Show one job with its stages.
    Show {
        job: JobId,
        /// Include the operators of each stage.
        #[arg(long)]
        plan: bool,
    },
    /// Cancel a job.
    Cancel { job: JobId },
    /// Wait until a job has ended; exit code 1 unless it finished.
    Wait { job: JobId },
    /// Print the log of a job.
    Logs { job: JobId },
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
