//! The `windlass` command.

mod arguments;
mod cluster;
mod complete;
mod copy;
mod embedding;
mod fs;
mod jobs;
mod leaving;
mod local_file;
mod meta;
mod output;
mod progress;
mod repl;
mod run;
mod s3;
mod script;
pub(crate) mod serve;
mod splitter;
mod sql;
mod stages;

use crate::config::{Config, ConfigError};
use crate::error::{ClientError, ErrorKind};
use arguments::{Arguments, Command, Executor, ExecutorCommand};
use clap::Parser;
use embedding::Embedding;
use std::fmt;
use std::io;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};
use windlass_engine::connector::Registry;

/// How a command failed, with its exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A statement or a job failed: 1.
    Failed(String),
    /// The command line, the configuration or a name in them is wrong: 2.
    Usage(String),
    /// No cluster answers, or it has another release: 3.
    Unreachable(String),
    /// Ctrl-C: 130.
    Interrupted,
    /// The reader of the output is gone (`windlass … | head`): there is nothing to report.
    OutputClosed,
}

pub(crate) type Outcome = Result<(), Failure>;

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        if let ClientError::Io { source, .. } = &error
            && source.kind() == io::ErrorKind::BrokenPipe
        {
            return Failure::OutputClosed;
        }
        let message = error.to_string();
        match error.kind() {
            ErrorKind::Usage => Failure::Usage(message),
            ErrorKind::Unreachable | ErrorKind::Version | ErrorKind::NotLeading => Failure::Unreachable(message),
            ErrorKind::Syntax
            | ErrorKind::Invalid
            | ErrorKind::UnknownOption
            | ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Unsupported
            | ErrorKind::Cancelled
            | ErrorKind::TimedOut
            | ErrorKind::OutOfMemory
            | ErrorKind::Exhausted
            | ErrorKind::Busy
            | ErrorKind::OutcomeUnknown
            | ErrorKind::Unavailable
            | ErrorKind::Denied
            | ErrorKind::ResultLost
            | ErrorKind::Internal
            | ErrorKind::UnknownJob
            | ErrorKind::SessionLost
            | ErrorKind::Decode
            | ErrorKind::Io => Failure::Failed(message),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::Usage(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Failed(message) | Failure::Usage(message) | Failure::Unreachable(message) => f.write_str(message),
            Failure::Interrupted => f.write_str("interrupted"),
            Failure::OutputClosed => f.write_str("nobody reads the output any more"),
        }
    }
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Failed(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unreachable(_) => 3,
            Failure::Interrupted => 130,
            Failure::OutputClosed => 0,
        }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match crate::connectors() {
        Ok(connectors) => main_with(connectors),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs the command line with more kinds of tables: for primaries and executors of this binary, and for embedded clusters.
pub fn main_with(connectors: Registry) -> ExitCode {
    let arguments = Arguments::parse();
    if matches!(arguments.command, Command::SuperviseProgram) {
        return windlass_executor::programs::supervisor::run();
    }
    match dispatch(arguments, &connectors) {
        _ if leaving::is_asked() => ExitCode::from(leaving::code() as u8),
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            match failure {
                Failure::Failed(_) | Failure::Usage(_) | Failure::Unreachable(_) => eprintln!("error: {failure}"),
                Failure::Interrupted => eprintln!("{failure}"),
                Failure::OutputClosed => {}
            }
            ExitCode::from(failure.code())
        }
    }
}

fn dispatch(arguments: Arguments, connectors: &Registry) -> Outcome {
    let file = arguments.config.as_deref();
    let config = Config::load(file)?;
    let embedding = |config| Embedding { config, file, connectors: connectors.clone() };
    match arguments.command {
        Command::Sql(command) => sql::run(command, embedding(config), &runtime()?),
        Command::Copy(command) => sql::run(copy::statements(command)?, embedding(config), &runtime()?),
        Command::Submit(command) => runtime()?.block_on(jobs::submit(command)),
        Command::Jobs(command) => runtime()?.block_on(jobs::run(command)),
        Command::Fs(command) => fs::run(command, embedding(config), &runtime()?),
        Command::S3(command) => runtime()?.block_on(s3::run(command)),
        Command::Primary(flags) => serve::primary(config, flags, file, connectors),
        Command::Executor(Executor { command: None, flags }) => serve::executor(config, flags, connectors),
        Command::Executor(Executor { command: Some(ExecutorCommand::Decommission(command)), .. }) => {
            runtime()?.block_on(cluster::decommission(command))
        }
        Command::Cluster(command) => runtime()?.block_on(cluster::run(command, file)),
        Command::Demo(command) => sql::demo(command, embedding(config), &runtime()?),
        Command::Config => print(&Config::reference()),
        // It was looked for before.
        Command::SuperviseProgram => Ok(()),
        Command::Version => print(&format!("windlass {}\n", env!("CARGO_PKG_VERSION"))),
    }
}

fn runtime() -> Result<Runtime, Failure> {
    client_logging();
    let runtime = Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::Failed(format!("cannot start the threads of this process: {e}")))?;
    leaving::listen(&runtime)?;
    Ok(runtime)
}

/// Keeps a client command silent unless WINDLASS_LOG asks for more.
fn client_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WINDLASS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    // A second call (in tests) changes nothing.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).try_init();
}

/// Formats a count: "1 file", "2 files".
pub(crate) fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Prints to standard output, whose reader may be gone.
pub(crate) fn print(text: &str) -> Outcome {
    use io::Write;
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| ClientError::Io { doing: "write to standard output".to_owned(), source: e }.into())
}
