//! Clusters of processes, and commands that users run against them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use windlass_client::jobs::ClusterStatus;
use windlass_client::{Client, Session};

/// A primary and executors, each a process of the binary that was built with these tests.
pub(crate) struct Processes {
    pub dir: tempfile::TempDir,
    pub url: String,
    /// `http://host:port`.
    pub rest: String,
    /// Process ids.
    pub executors: Vec<u64>,
}

impl Processes {
    pub fn start() -> Self {
        Self::with("2GiB", &[])
    }

    /// Starts a cluster in which each executor has this much memory, and all processes have this environment.
    pub fn with(memory: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder can be made"), memory, environment)
    }

    pub fn start_in(dir: tempfile::TempDir, memory: &str, environment: &[(&str, &str)]) -> Self {
        Self::shaped(dir, ["2", "2", memory], environment)
    }

    /// Starts a cluster with this many executors, slots each and memory each.
    pub fn of(shape: [&str; 3]) -> Self {
        Self::shaped(tempfile::tempdir().expect("a folder can be made"), shape, &[])
    }

    pub fn shaped(dir: tempfile::TempDir, shape: [&str; 3], environment: &[(&str, &str)]) -> Self {
        let at = dir.path().display().to_string();
        let [executors, slots, memory] = shape;
        let up = ["cluster", "up", "--executors", executors, "--slots", slots, "--memory", memory];
        let up = [&up[..], &["--dir", &at, "--json"]].concat();
        let mut command = windlass(&up);
        command.envs(environment.iter().copied());
        let output = succeed(command);
        let described: serde_json::Value = serde_json::from_str(&output).expect("the cluster is described");
        let [url, rest] = ["url", "rest"].map(|key| described[key].as_str().expect("it has an address").to_owned());
        let executors = described["executors"].as_array().expect("there are executors");
        let executors = executors.iter().map(|executor| executor["pid"].as_u64().expect("each has a pid")).collect();
        Self { url, rest, dir, executors }
    }

    /// Kills an executor, like a machine that loses power.
    pub fn kill_executor(&self, number: usize) {
        let mut kill = Command::new("kill");
        kill.args(["-9", &self.executors[number].to_string()]);
        succeed(kill);
    }

    /// The process id of the primary.
    pub fn primary(&self) -> u32 {
        let state = std::fs::read_to_string(self.dir.path().join("cluster.json")).expect("there is a record");
        let state: serde_json::Value = serde_json::from_str(&state).expect("it is JSON");
        state["primaries"][0]["pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("it has a pid")
    }

    pub async fn session(&self) -> Session {
        Client::connect(&self.url).await.expect("the cluster answers")
    }

    /// Runs `windlass sql` against this cluster.
    pub fn sql(&self, statements: &[&str]) -> Result<String, String> {
        let mut command = windlass(&["sql", "--format", "csv", "--url", &self.url]);
        statements.iter().for_each(|sql| {
            command.args(["-e", sql]);
        });
        run(command)
    }

    /// Waits until no slot and no task memory is taken: only the exchange still holds results that can be read again.
    pub async fn at_rest(&self) -> ClusterStatus {
        let session = self.session().await;
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            let status = session.status().await.expect("the cluster has a state");
            let busy = status.executors.iter().find(|executor| {
                executor.running_tasks > 0 || executor.memory_used_bytes > executor.exchange_memory_bytes
            });
            match busy {
                None if status.jobs_running + status.jobs_queued == 0 => return status,
                _ if Instant::now() > patience => panic!("slots or memory did not come back: {status:?}"),
                // Executors report their memory with each heartbeat.
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let down = run(windlass(&["cluster", "down", "--dir", &self.dir.path().display().to_string()]));
        if let Err(error) = down
            && !std::thread::panicking()
        {
            panic!("the cluster does not go down: {error}");
        }
    }
}

/// A primary that is restarted with its first command line.
pub(crate) struct Restarted {
    command: Vec<String>,
    pid: u32,
    child: Option<std::process::Child>,
}

impl Restarted {
    /// `address`: the address that the primary chose for itself.
    pub fn new(pid: u32, address: &str) -> Self {
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("it runs");
        let command = command.split_terminator('\0').map(str::to_owned).collect();
        let mut restarted = Self { command, pid, child: None };
        restarted.serve("--listen", address.trim_start_matches("grpc://"));
        restarted
    }

    /// Has it serve REST where it did before.
    pub fn with_rest(mut self, address: &str) -> Self {
        self.serve("--rest", address.trim_start_matches("http://"));
        self
    }

    fn serve(&mut self, option: &str, address: &str) {
        let at = self.command.iter().position(|word| word == option).expect("it was told where to serve");
        self.command[at + 1] = address.to_owned();
    }

    pub fn restart(&mut self, signal: &str) {
        let mut kill = Command::new("kill");
        kill.args([signal, &self.pid.to_string()]);
        succeed(kill);
        if let Some(mut child) = self.child.take() {
            child.wait().expect("it has ended");
        }
        wait_until_gone(self.pid);
        let mut start = Command::new(&self.command[0]);
        start.args(&self.command[1..]).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let child = start.spawn().expect("it starts again");
        self.pid = child.id();
        self.child = Some(child);
    }
}

impl Drop for Restarted {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Builds a `windlass` command without environment variables that name a cluster.
pub(crate) fn windlass(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).env_remove("WINDLASS_URL").env_remove("WINDLASS_CONFIG");
    command
}

/// Runs a command and returns its output, or its error output.
pub(crate) fn run(mut command: Command) -> Result<String, String> {
    let Output { status, stdout, stderr } = command.output().expect("the command can be run");
    match status.success() {
        true => Ok(String::from_utf8_lossy(&stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&stderr).into_owned()),
    }
}

pub(crate) fn succeed(command: Command) -> String {
    let name = format!("{command:?}");
    run(command).unwrap_or_else(|errors| panic!("{name} failed: {errors}"))
}

/// Kills a process, like a machine that loses power, and waits until nothing is left of it.
pub(crate) fn killed(pid: u64) {
    let mut kill = Command::new("kill");
    kill.args(["-9", &pid.to_string()]);
    succeed(kill);
    wait_until_gone(pid as u32);
}

/// Waits until nothing is left of a process that was told to end. Its path in /proc may be gone, or its first thread a zombie, while other threads still hold
/// its port and its files.
pub(crate) fn wait_until_gone(pid: u32) {
    let ends_not = |thread: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
    };
    let patience = Instant::now() + Duration::from_secs(60);
    while std::fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|threads| threads.flatten().any(ends_not)) {
        assert!(Instant::now() < patience, "process {pid} does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Path of the `windlass` binary, beside the folder of the test binary; `make test` builds it first.
pub(crate) fn binary() -> PathBuf {
    beside("windlass")
}

/// Path of a binary that was built with these tests.
pub(crate) fn beside(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    let built = test.parent().and_then(Path::parent).expect("tests lie in a target folder").join(name);
    assert!(built.is_file(), "{} is missing: run 'cargo build --workspace --all-targets' first", built.display());
    built
}

/// Folder of the sources.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace")
}

/// The folder of what `make data` installs.
pub(crate) fn cache() -> PathBuf {
    let cache = std::env::var_os("WINDLASS_CACHE_DIR").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/windlass")));
    cache.expect("there is a folder for caches")
}

/// Builds a command for a script of tests/python, with the Python that `make data` installs.
pub(crate) fn python(script: &str, arguments: &[&str]) -> Command {
    let mut command = python_of("venv", script);
    command.args(arguments);
    command
}

/// Builds a command for a script of tests/python, with the packages of one of the environments that `make data` makes.
pub(crate) fn python_of(environment: &str, script: &str) -> Command {
    let python = cache().join(environment).join("bin/python");
    assert!(python.is_file(), "{} is missing: run 'make data' first", python.display());
    let mut command = Command::new(python);
    command.arg(root().join("tests/python").join(script));
    command
}
