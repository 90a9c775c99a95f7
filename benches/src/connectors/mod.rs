//! Tables of other systems against what people use without Windlass, in alternating rounds: `make bench`, or `windlass-bench connectors`.

mod dynamodb;
mod postgres;

use crate::process;
use clap::Args;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Time between two looks at the memory of a process.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Args)]
pub struct Options {
    /// TPC-H scale factor.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Folder for generated data.
    #[arg(long, env = "WINDLASS_CACHE_DIR", default_value_os_t = std::env::temp_dir())]
    cache: PathBuf,
    /// A Python that has connectorx and pyarrow; without it, connectorx is left out.
    #[arg(long, env = "CONNECTORX_PYTHON")]
    python: Option<PathBuf>,
    /// A Python that has boto3; without it, boto3 is left out.
    #[arg(long, env = "BOTO3_PYTHON")]
    boto3: Option<PathBuf>,
}

pub fn run(options: &Options) {
    postgres::run(options);
    dynamodb::run(options);
}

/// Runs of one way to do the work.
#[derive(Default)]
struct Runs {
    times: Vec<Duration>,
    /// Bytes of the largest process.
    peak: u64,
}

impl Runs {
    fn add(&mut self, (time, peak): (Duration, u64)) {
        self.times.push(time);
        self.peak = self.peak.max(peak);
    }

    /// `None`: what it needs is not there.
    fn median(&self) -> Option<Duration> {
        let mut sorted = self.times.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).copied()
    }

    /// Prints a rate, and its ratio to that of `other`.
    fn report(&self, name: &str, rows: u64, (other, its): (&str, Option<Duration>)) {
        let Some(time) = self.median() else { return println!("{name:28} not measured") };
        let ratio = its.map(|its| format!("  {:.2} x {other}", its.as_secs_f64() / time.as_secs_f64()));
        println!(
            "{name:28} {:6.2} s  {:>9.0} rows/s{}  {:>5} MiB at the peak",
            time.as_secs_f64(),
            rows as f64 / time.as_secs_f64(),
            ratio.unwrap_or_default(),
            self.peak >> 20
        );
    }
}

/// Statements on an embedded cluster, in a process of their own.
fn windlass(statements: &[String]) -> Command {
    let mut command = Command::new(beside("windlass"));
    command.arg("sql").env_remove("WINDLASS_URL");
    statements.iter().for_each(|sql| {
        command.args(["-e", sql]);
    });
    command
}

/// Runs a command to its end. Returns how long that took, and the most bytes that were resident.
fn watched(mut command: Command) -> (Duration, u64) {
    let begun = Instant::now();
    let name = format!("{command:?}");
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{name}: {error}"));
    let (pid, ended) = (child.id(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut peak = 0;
            while !ended.load(Ordering::Relaxed) {
                // The highest so far, as the kernel counts it. A process that has ended has none.
                peak = process::bytes(pid, "VmHWM").unwrap_or(peak);
                std::thread::sleep(LOOK);
            }
            peak
        });
        let output = child.wait_with_output().unwrap_or_else(|error| panic!("{name}: {error}"));
        let time = begun.elapsed();
        ended.store(true, Ordering::Relaxed);
        assert!(output.status.success(), "{name} failed: {}", String::from_utf8_lossy(&output.stderr));
        (time, watching.join().expect("it only looks"))
    })
}

fn beside(name: &str) -> PathBuf {
    std::env::current_exe().expect("this program has a path").with_file_name(name)
}

fn succeed(mut command: Command) -> String {
    let name = format!("{command:?}");
    let output = command.output().unwrap_or_else(|error| panic!("{name}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} failed: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
