//! TPC-H on DataFusion alone, on Windlass embedded, and on a cluster of processes over Flight SQL.
//!
//! Each engine is a process, and all run together. Each query runs on one engine after the other before the next round begins, so that other load of the
//! machine affects all of them. The client measures the time from the statement's text to the last row.

pub mod data;
mod engine;
mod memory;

pub use engine::{EngineOptions, serve};

use crate::process;
use clap::Args;
use engine::{Kind, Served};
use serde_json::Value;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ENGINES: [Kind; 3] = [Kind::Datafusion, Kind::Embedded, Kind::Cluster];
/// Number of executions of `select 1`.
const SELECTS: usize = 1_000;

#[derive(Args)]
pub struct Options {
    /// Scale factor: 1 is about 1 GB of text.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Measured rounds, after one unmeasured round.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Queries to run, such as 1,6,18 [default: all].
    #[arg(long, value_delimiter = ',')]
    queries: Vec<usize>,
    /// Memory of each of the two executors.
    #[arg(long, default_value = "4GiB")]
    memory: String,
    /// Options of the sessions on Windlass, as SET takes them: key=value.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Folder of generated data, with the queries that `make data` puts there.
    #[arg(long, env = "WINDLASS_CACHE_DIR")]
    cache: PathBuf,
}

#[derive(Args)]
pub struct FilesOptions {
    #[command(flatten)]
    options: Options,
    /// The program s3s-fs, a server of S3 over files: the tables are read from it instead of from wfs://.
    #[arg(long, env = "S3S_FS")]
    s3: Option<PathBuf>,
}

/// A server of S3 over files.
struct S3(Child);

impl S3 {
    /// Serves a folder whose folders are buckets.
    fn start(program: &Path, root: &Path, port: u16) -> Self {
        let mut server = Command::new(program);
        server.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        server.args(["--access-key", "key", "--secret-key", "secret"]).arg(root).stdout(Stdio::null());
        let server = Self(server.spawn().expect("s3s-fs starts"));
        let patience = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < patience, "s3s-fs does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Compares the same cluster over the same Parquet: in local files, and in `wfs://` with a replica on each of its two executors, or on a server of S3 that
/// reads the same local files.
pub fn run_files(files: &FilesOptions) {
    let options = &files.options;
    let tables = data::tables(&options.cache.join("data"), options.scale);
    let queries = queries(&options.cache, &options.queries);
    let cluster = Cluster::start(&options.memory, &tables);
    let local = tables.display().to_string();
    let port = process::free_port();
    let _server = files.s3.as_ref().map(|program| S3::start(program, &options.cache.join("data"), port));
    let other = match &files.s3 {
        Some(_) => {
            let bucket = tables.file_name().expect("it has a name").to_string_lossy();
            let settings = format!(
                " OPTIONS (aws.endpoint 'http://127.0.0.1:{port}', aws.allow_http 'true', aws.region 'us-east-1', aws.access_key_id 'key', \
                 aws.secret_access_key 'secret')"
            );
            ("s3", format!("s3://{bucket}"), settings)
        }
        None => {
            windlass(&["fs", "put", "--url", &cluster.url, "--replication", "2", "--no-progress", &local, "/tpch"]);
            ("wfs", "wfs:///tpch".to_owned(), String::new())
        }
    };
    let name = other.0;
    let places = [("local", local, String::new()), other];
    let mut sessions = places.map(|(name, folder, settings)| {
        let mut session = Served::start(Kind::Cluster, 2, &cluster.url);
        for sql in [format!("CREATE SCHEMA {name}"), format!("SET datafusion.catalog.default_schema = '{name}'")] {
            must(session.run(&sql), &sql);
        }
        for table in data::TABLES {
            let create =
                format!("CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{folder}/{table}/'{settings}");
            must(session.run(&create), &create);
        }
        session
    });
    println!("\n{:<6} {:>14} {:>10}", "query", "local ms", format!("{name}://"));
    let mut logarithm = 0.0;
    for (name, sql) in &queries {
        let mut times = [vec![], vec![]];
        for round in 0..=options.rounds {
            for turn in 0..2 {
                let at = (round + turn) % 2;
                let (us, _) = must(sessions[at].run(sql), name);
                if round > 0 {
                    times[at].push(us);
                }
            }
        }
        let [local, other] = times.each_mut().map(|times| median(times) as f64);
        println!("{name:<6} {:>14.1} {:>10.2}", local / 1e3, other / local);
        logarithm += (other / local).ln() / queries.len() as f64;
    }
    println!("{:<6} {:>14} {:>10.2}   geometric mean", "", "", logarithm.exp());
}

pub fn run(options: &Options) {
    let tables = data::tables(&options.cache.join("data"), options.scale);
    let queries = queries(&options.cache, &options.queries);
    let cluster = Cluster::start(&options.memory, &tables);
    println!(
        "a cluster of processes answers its first query {} ms after the command that starts it",
        cluster.first.as_millis()
    );
    let mut engines = ENGINES.map(|kind| Served::start(kind, 2, &cluster.url));
    for (engine, kind) in engines.iter_mut().zip(ENGINES) {
        for table in data::TABLES {
            let folder = tables.join(table);
            let create = format!(
                "CREATE EXTERNAL TABLE IF NOT EXISTS {table} STORED AS PARQUET LOCATION '{}/'",
                folder.display()
            );
            must(engine.run(&create), &create);
        }
        for setting in options.settings.iter().filter(|_| kind != Kind::Datafusion) {
            let (key, value) = setting.split_once('=').expect("--set takes KEY=VALUE");
            must(engine.run(&format!("SET {key} = '{value}'")), setting);
        }
    }
    let mut times = vec![[const { Vec::new() }; ENGINES.len()]; queries.len()];
    for round in 0..=options.rounds {
        for (query, (name, sql)) in queries.iter().enumerate() {
            // Turns change, so that an engine's work after its answer does not always slow the same other engine.
            for (at, us) in in_turn(&mut engines, round, name, sql) {
                if round > 0 {
                    times[query][at].push(us);
                }
            }
        }
    }
    report(&queries, &mut times);

    println!("\nselect 1 over a warm connection, {SELECTS} times:");
    for (engine, kind) in engines.iter_mut().zip(ENGINES) {
        let mut times: Vec<u64> = (0..SELECTS).map(|_| must(engine.run("select 1"), "select 1").0).collect();
        println!("  {kind:<12?} median {:.2} ms", median(&mut times) as f64 / 1e3);
    }

    // In a separate round: sampling takes processor time and delays the sampled processes.
    let memory = memory::Peaks::watch(ENGINES.map(|kind| match kind {
        Kind::Cluster => [&cluster.pids[..], &[engines[2].pid()]].concat(),
        Kind::Datafusion => vec![engines[0].pid()],
        Kind::Embedded => vec![engines[1].pid()],
    }));
    for (name, sql) in &queries {
        in_turn(&mut engines, 0, name, sql);
    }
    println!("\npeak memory of an engine's processes together, pages that they share counted once, MiB:");
    let peaks = memory.end();
    for (kind, bytes) in ENGINES.into_iter().zip(&peaks) {
        println!("  {kind:<12?} {:>6}   {:.2} x", bytes >> 20, *bytes as f64 / peaks[0] as f64);
    }
}

/// Runs a query on each engine; returns the engine and its microseconds. The first engine changes, in turns forwards and backwards, so that each engine follows
/// each of the others.
fn in_turn(engines: &mut [Served], round: usize, name: &str, sql: &str) -> Vec<(usize, u64)> {
    let count = engines.len();
    let mut rows = None;
    let mut run = |at: usize| {
        let (us, counted) = must(engines[at].run(sql), name);
        let expected = *rows.get_or_insert(counted);
        assert_eq!(expected, counted, "{name}: {:?} returns another number of rows", ENGINES[at]);
        (at, us)
    };
    let turns = (0..count).map(|turn| if round.is_multiple_of(2) { turn } else { count - turn });
    turns.map(|turn| run((round / 2 + turn) % count)).collect()
}

fn report(queries: &[(String, String)], times: &mut [[Vec<u64>; ENGINES.len()]]) {
    println!("\n{:<6} {:>14} {:>10} {:>10}", "query", "DataFusion ms", "embedded", "cluster");
    let mut logarithms = [0.0; ENGINES.len()];
    let mut total = [0; ENGINES.len()];
    for ((name, _), times) in queries.iter().zip(times) {
        let medians = times.each_mut().map(|times| median(times));
        let ratios = medians.map(|time| time as f64 / medians[0] as f64);
        println!("{name:<6} {:>14.1} {:>10.2} {:>10.2}", medians[0] as f64 / 1e3, ratios[1], ratios[2]);
        for at in 0..ENGINES.len() {
            logarithms[at] += ratios[at].ln() / queries.len() as f64;
            total[at] += medians[at];
        }
    }
    let [_, embedded, cluster] = logarithms.map(f64::exp);
    println!("{:<6} {:>14} {embedded:>10.2} {cluster:>10.2}   geometric mean", "", "");
    let sums = total.map(|sum| sum as f64 / total[0] as f64);
    println!("{:<6} {:>14.1} {:>10.2} {:>10.2}   sum", "", total[0] as f64 / 1e3, sums[1], sums[2]);
}

fn median(times: &mut [u64]) -> u64 {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Names and texts of the queries that `make data` generated.
fn queries(cache: &Path, wanted: &[usize]) -> Vec<(String, String)> {
    let folder = cache.join("data/tpch-sf0.05/queries");
    let wanted: Vec<usize> = if wanted.is_empty() { (1..=22).collect() } else { wanted.to_vec() };
    let read = |number: usize| {
        let path = folder.join(format!("q{number:02}.sql"));
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}: run 'make data'", path.display()));
        (format!("q{number:02}"), text)
    };
    wanted.into_iter().map(read).collect()
}

fn must<T>(outcome: Result<T, String>, what: &str) -> T {
    outcome.unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// A primary and two executors with one slot each.
pub struct Cluster {
    dir: tempfile::TempDir,
    pub url: String,
    pub rest: String,
    /// The primary's first.
    pids: Vec<u32>,
    /// Time from the command to the first answer.
    first: Duration,
}

impl Cluster {
    fn start(memory: &str, tables: &Path) -> Self {
        let start = Instant::now();
        let mut cluster = Self::of(memory);
        let first = format!(
            "CREATE EXTERNAL TABLE first_nation STORED AS PARQUET LOCATION '{}/'; \
             SELECT count(*) FROM first_nation; DROP TABLE first_nation",
            tables.join("nation").display()
        );
        windlass(&["sql", "--url", &cluster.url, "-e", &first]);
        cluster.first = start.elapsed();
        cluster
    }

    pub fn of(memory: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder for the cluster");
        let at = dir.path().display().to_string();
        let up = ["cluster", "up", "--executors", "2", "--slots", "1", "--memory", memory, "--dir", &at, "--json"];
        let described: Value = serde_json::from_str(&windlass(&up)).expect("the cluster is described in JSON");
        let [url, rest] = ["url", "rest"].map(|key| described[key].as_str().expect("it has an address").to_string());
        let processes =
            ["primaries", "executors"].into_iter().flat_map(|key| described[key].as_array().into_iter().flatten());
        let pids = processes.filter_map(|process| process["pid"].as_u64()).map(|pid| pid as u32).collect();
        Self { dir, url, rest, pids, first: Duration::ZERO }
    }

    /// Resident bytes of the primary.
    pub fn primary_bytes(&self) -> u64 {
        process::bytes(self.pids[0], "VmRSS").expect("it runs")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        windlass(&["cluster", "down", "--dir", &self.dir.path().display().to_string()]);
    }
}

fn windlass(arguments: &[&str]) -> String {
    let this = std::env::current_exe().expect("the path of this benchmark");
    let output =
        Command::new(this.with_file_name("windlass")).args(arguments).output().expect("the windlass binary runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "windlass {}: {errors}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
