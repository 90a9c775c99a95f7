//! A PostgreSQL server of the test's own, in a temporary folder.

use super::outside::Outside;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) struct Postgres {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

/// The newest that is installed.
fn binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").map(|versions| versions.flatten().collect::<Vec<_>>());
    let mut found: Vec<PathBuf> =
        versions.unwrap_or_default().iter().map(|version| version.path().join("bin")).collect();
    found.retain(|folder| folder.join("initdb").is_file());
    found.sort();
    found.pop().expect("PostgreSQL is installed: run `make data`")
}

/// The server refuses to run as root, which has a user for it.
fn command(program: &Path) -> Command {
    let root = std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

fn serve(data: &Path, port: u16, settings: &[&str]) -> Child {
    let mut server = command(&binaries().join("postgres"));
    server.args([
        "-h",
        "127.0.0.1",
        "-c",
        "fsync=off",
        "-c",
        "unix_socket_directories=",
        "-p",
        &port.to_string(),
        "-D",
    ]);
    server.arg(data);
    settings.iter().for_each(|setting| {
        server.args(["-c", setting]);
    });
    let process = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the server starts");
    let patience = Instant::now() + Duration::from_secs(60);
    let ready = || {
        let mut asks = Command::new(binaries().join("pg_isready"));
        asks.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
        asks.status().is_ok_and(|status| status.success())
    };
    while !ready() {
        assert!(Instant::now() < patience, "PostgreSQL does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    process
}

/// The processes that a process has started, as the kernel lists them.
fn children(of: u32) -> Vec<u32> {
    let tasks = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).expect("the server runs");
    tasks.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

impl Postgres {
    pub fn start() -> Self {
        Self::with(&[], |_| {})
    }

    /// With these settings, and what `prepare` makes of the folder of its data before it starts.
    pub fn with(settings: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::Builder::new().prefix("postgres-").tempdir().expect("a folder can be made");
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("a folder can be made");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        for at in [folder.path(), &data] {
            std::fs::set_permissions(at, std::fs::Permissions::clone(&open))
                .expect("it can be opened to the server's user");
        }
        let data = data.join("cluster");
        let mut initdb = command(&binaries().join("initdb"));
        initdb
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--locale=C", "--encoding=UTF8", "-D"])
            .arg(&data);
        crate::cluster::succeed(initdb);
        prepare(&data);
        let free = TcpListener::bind("127.0.0.1:0").expect("a port can be had");
        let port = free.local_addr().expect("it has an address").port();
        drop(free);
        let process = serve(&data, port, settings);
        Self { process, port, folder }
    }

    /// Kills it as a crash of its machine would, at once and all of it, and starts it again with these settings.
    pub fn crash(&mut self, settings: &[&str]) {
        let all = [vec![self.process.id()], children(self.process.id())].concat();
        let mut kill = Command::new("kill");
        kill.arg("-9").args(all.iter().map(ToString::to_string));
        // Some may have ended already.
        let _ = kill.stderr(Stdio::null()).status();
        let _ = self.process.wait();
        all.into_iter().for_each(crate::cluster::wait_until_gone);
        self.process = serve(&self.folder.path().join("data/cluster"), self.port, settings);
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A folder that ends with the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What `psql` prints of a script, as the superuser: a line for each row, with a `|` between columns.
    pub fn psql(&self, script: &str) -> Result<String, String> {
        let mut psql = Command::new(binaries().join("psql"));
        let port = self.port.to_string();
        psql.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", "postgres", "-X", "-q", "-A", "-t"]);
        psql.args(["-v", "ON_ERROR_STOP=1", "-c", script]).env("PGTZ", "UTC");
        Ok(crate::cluster::run(psql)?.trim_end().to_owned())
    }

    pub(super) fn connect(&self) -> Outside {
        let dsn = format!("host=127.0.0.1 port={} user=postgres dbname=postgres options='-c timezone=UTC'", self.port);
        Outside::start("postgres", &["postgres", &dsn])
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An immediate end; whether it has ended already is the same.
        let _ = Command::new("kill").args(["-QUIT", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
    }
}
