//! Tables of PostgreSQL against psql and connectorx, on TPC-H's lineitem, in alternating rounds.
//!
//! The server is a process of the bench's own, in a temporary folder, without fsync. Windlass is the binary beside this one, embedded, with as many slots as
//! there are cores; its times include its start. psql reads and writes CSV, so Windlass does too, and Parquet besides.

use super::{Options, Runs, succeed, watched, windlass};
use crate::process::free_port;
use crate::tpch::data;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ways to read the table.
const READS: [&str; 4] = ["psql \\copy to a CSV file", "windlass to CSV", "windlass to Parquet", "connectorx to Arrow"];
/// Ways to load it.
const LOADS: [&str; 3] = ["psql \\copy, one stream", "psql \\copy, two streams", "windlass, all or nothing"];

pub fn run(options: &Options) {
    let lineitem = data::tables(&options.cache, options.scale).join("lineitem");
    let server = Server::start();
    let work = tempfile::tempdir().expect("a folder can be made");
    let bench = Bench { server, work: work.path().to_path_buf(), lineitem, python: options.python.clone() };
    bench.windlass_load("source");
    let rows: u64 = bench.server.psql("SELECT count(*) FROM source").trim().parse().expect("a number");
    bench.server.psql("VACUUM ANALYZE source");
    println!("lineitem of scale factor {}: {rows} rows", options.scale);
    let (mut reads, mut loads) = (READS.map(|_| Runs::default()), LOADS.map(|_| Runs::default()));
    for _ in 0..options.rounds {
        for (at, runs) in reads.iter_mut().enumerate() {
            if let Some(measured) = bench.read(at) {
                runs.add(measured);
            }
        }
        for (at, runs) in loads.iter_mut().enumerate() {
            runs.add(bench.load(at));
        }
    }
    let first = reads[0].median();
    for (name, runs) in READS.iter().zip(&reads) {
        runs.report(name, rows, ("psql", first));
    }
    let best = loads.iter().take(2).filter_map(Runs::median).min();
    for (name, runs) in LOADS.iter().zip(&loads) {
        runs.report(name, rows, ("the best psql", best));
    }
}

struct Bench {
    server: Server,
    work: PathBuf,
    lineitem: PathBuf,
    python: Option<PathBuf>,
}

impl Bench {
    fn csv(&self) -> PathBuf {
        self.work.join("lineitem.csv")
    }

    fn windlass_load(&self, table: &str) -> (Duration, u64) {
        let files = format!("CREATE EXTERNAL TABLE l STORED AS PARQUET LOCATION '{}/'", self.lineitem.display());
        let copy = format!("COPY l TO '{}' STORED AS POSTGRES OPTIONS (table 'public.{table}')", self.server.url());
        watched(windlass(&[files, copy]))
    }

    /// `None`: what it needs is not there.
    fn read(&self, way: usize) -> Option<(Duration, u64)> {
        let to = self.work.join("out");
        let _ = std::fs::remove_dir_all(&to);
        Some(match way {
            0 => watched(self.server.asking(&format!("\\copy source TO '{}' (FORMAT csv)", self.csv().display()))),
            1 | 2 => {
                let table = format!(
                    "CREATE EXTERNAL TABLE t STORED AS POSTGRES LOCATION '{}' OPTIONS (table 'public.source')",
                    self.server.url()
                );
                let format = if way == 1 { "CSV" } else { "PARQUET" };
                watched(windlass(&[table, format!("COPY t TO '{}/' STORED AS {format}", to.display())]))
            }
            _ => {
                let mut command = Command::new(self.python.as_ref()?);
                let read = "connectorx.read_sql(sys.argv[1], 'SELECT * FROM source', return_type='arrow', partition_on='l_orderkey', partition_num=2)";
                command.args(["-c", &format!("import connectorx, sys; {read}"), &self.server.url()]);
                watched(command)
            }
        })
    }

    fn load(&self, way: usize) -> (Duration, u64) {
        self.server.psql("DROP TABLE IF EXISTS target; CHECKPOINT");
        if way < 2 {
            self.server.psql("CREATE TABLE target (LIKE source)");
        }
        let pieces: Vec<PathBuf> = match way {
            1 => {
                let mut split = Command::new("split");
                split.args(["-n", "l/2"]).arg(self.csv()).arg(self.work.join("piece."));
                succeed(split);
                ["piece.aa", "piece.ab"].map(|name| self.work.join(name)).into()
            }
            _ => vec![self.csv()],
        };
        if way == 2 {
            return self.windlass_load("target");
        }
        std::thread::scope(|scope| {
            let copying = pieces.iter().map(|piece| {
                let copy = self.server.asking(&format!("\\copy target FROM '{}' (FORMAT csv)", piece.display()));
                scope.spawn(move || watched(copy))
            });
            let copying: Vec<_> = copying.collect();
            let ended = copying.into_iter().map(|copy| copy.join().expect("it is copied"));
            ended.reduce(|one, other| (one.0.max(other.0), one.1 + other.1)).expect("there is a piece")
        })
    }
}

/// A PostgreSQL server in a temporary folder.
struct Server {
    process: Child,
    port: u16,
    /// Removed after the process has ended.
    _folder: tempfile::TempDir,
}

/// The newest version that is installed.
fn binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    found.retain(|folder| folder.join("initdb").is_file());
    found.sort();
    found.pop().expect("PostgreSQL is installed: run `make data`")
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("a folder can be made");
        for at in [folder.path(), &data] {
            std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o777)).expect("it can be opened");
        }
        let data = data.join("cluster");
        let mut initdb = as_postgres("initdb");
        initdb
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--locale=C", "--encoding=UTF8", "-D"])
            .arg(&data);
        succeed(initdb);
        let port = free_port();
        let mut server = as_postgres("postgres");
        let settings = ["fsync=off", "unix_socket_directories=", "max_wal_size=4GB", "shared_buffers=512MB"];
        server.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-D"]).arg(&data);
        settings.iter().for_each(|setting| {
            server.args(["-c", setting]);
        });
        let process = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the server starts");
        let started = Self { process, port, _folder: folder };
        let patience = Instant::now() + Duration::from_secs(60);
        let mut ready = Command::new(binaries().join("pg_isready"));
        ready.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
        while !ready.status().is_ok_and(|status| status.success()) {
            assert!(Instant::now() < patience, "the server does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        started
    }

    fn url(&self) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn psql(&self, sql: &str) -> String {
        succeed(self.asking(sql))
    }

    fn asking(&self, sql: &str) -> Command {
        let mut psql = Command::new(binaries().join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url()]);
        sql.split("; ").for_each(|statement| {
            psql.args(["-c", statement]);
        });
        psql
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The server refuses to run as root, which has a user for it.
fn as_postgres(program: &str) -> Command {
    let root = std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    let program = binaries().join(program);
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}
