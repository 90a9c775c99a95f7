//! Python in sessions, on a cluster of processes whose interpreter can import the package.

use super::http::Server;
use crate::cluster::{Processes, Restarted, cache, killed, wait_until_gone};
use crate::python_package::Installed;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A cluster with an interpreter that has the package.
pub(crate) struct Pythonic {
    pub cluster: Processes,
    pub server: Server,
    _installed: Installed,
    _config: tempfile::TempDir,
}

impl Pythonic {
    pub fn new() -> Self {
        Self::with("")
    }

    /// `settings`: further lines of the section `executor`.
    pub fn with(settings: &str) -> Self {
        let (installed, config) = (Installed::new(), tempfile::tempdir().expect("a folder can be made"));
        let interpreter = cache().join("python-package/bin/python");
        let python = config.path().join("python");
        let script =
            format!("#!/bin/sh\nPYTHONPATH={} exec {} \"$@\"\n", installed.folder().display(), interpreter.display());
        std::fs::write(&python, script).expect("it is written");
        std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).expect("it can be run");
        let file = config.path().join("windlass.toml");
        let settings = format!(
            "[primary]\nheartbeat = \"200ms\"\nexecutor_timeout = \"2s\"\n[executor]\npython = \"{}\"\n{settings}\n",
            python.display()
        );
        std::fs::write(&file, settings).expect("it is written");
        let cluster = Processes::with("1GiB", &[("WINDLASS_CONFIG", &file.display().to_string())]);
        let server = Server::new(&cluster.rest);
        Self { cluster, server, _installed: installed, _config: config }
    }

    pub fn open(&self) -> Session<'_> {
        self.open_with(&json!({ "kind": "pyspark" }))
    }

    fn open_with(&self, asked: &Value) -> Session<'_> {
        Session { server: &self.server, path: self.server.open(asked) }
    }

    /// Folders of programs that run.
    fn folders(&self) -> Vec<PathBuf> {
        let executors = std::fs::read_dir(self.cluster.dir.path()).into_iter().flatten().flatten();
        let programs = executors.map(|entry| entry.path().join("programs"));
        programs.flat_map(|of| std::fs::read_dir(of).into_iter().flatten().flatten()).map(|of| of.path()).collect()
    }

    /// Waits until the process and all folders of programs are gone.
    fn until_gone(&self, pid: u32) {
        wait_until_gone(pid);
        let patience = Instant::now() + Duration::from_secs(10);
        while !self.folders().is_empty() {
            assert!(Instant::now() < patience, "{:?} stay", self.folders());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

pub(crate) struct Session<'a> {
    server: &'a Server,
    path: String,
}

impl Session<'_> {
    fn output(&self, code: &str) -> Value {
        self.server.run(&self.path, code)["output"].clone()
    }

    fn text(&self, code: &str) -> String {
        let output = self.output(code);
        assert_eq!(output["status"], "ok", "{code}: {output}");
        output["data"]["text/plain"].as_str().unwrap_or_default().to_owned()
    }

    /// Runs a statement that fails, and returns its error's name and message.
    fn error(&self, code: &str) -> (String, String) {
        let output = self.output(code);
        assert_eq!(output["status"], "error", "{code}: {output}");
        let text = |field: &str| output[field].as_str().unwrap_or_default().to_owned();
        (text("ename"), text("evalue"))
    }

    fn sql(&self, code: &str) -> Value {
        let path = format!("{}/statements?wait=60000", self.path);
        let output = self.server.post(&path, &json!({ "code": code, "kind": "sql" })).json()["output"].clone();
        assert_eq!(output["status"], "ok", "{code}: {output}");
        output["data"]["application/json"]["data"].clone()
    }

    fn post(&self, code: &str) -> u64 {
        let posted = self.server.post(&format!("{}/statements", self.path), &json!({ "code": code }));
        posted.json()["id"].as_u64().unwrap_or_else(|| panic!("{posted:?}"))
    }

    fn ended(&self, statement: u64) -> Value {
        self.server.get(&format!("{}/statements/{statement}?wait=60000", self.path)).json()
    }

    fn cancel(&self, statement: u64) {
        assert_eq!(self.server.post(&format!("{}/statements/{statement}/cancel", self.path), &json!({})).status, 200);
    }

    fn pid(&self) -> u32 {
        self.text("import os\nos.getpid()").parse().expect("it is a number")
    }

    fn log(&self) -> String {
        self.server.get(&format!("{}/log?size=-1", self.path)).body
    }
}

/// Waits until a statement has made a file.
fn until_there(file: &Path) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !file.exists() {
        assert!(Instant::now() < patience, "{} is not made", file.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn values_prints_and_errors_come_back() {
    let tried = Pythonic::new();
    let session = tried.open();
    assert_eq!(session.text("x = 20\nx + 1"), "21");
    assert_eq!(session.text("print('ä😀')\nimport sys\nprint('warned', file=sys.stderr)\nx * 2"), "ä😀\nwarned\n40");
    assert_eq!(session.text("None"), "");
    assert_eq!(session.text("def f(n):\n    return n / 0\n"), "");
    let failed = session.output("print('before')\n\nf(1)");
    assert_eq!((&failed["ename"], &failed["evalue"]), (&json!("ZeroDivisionError"), &json!("division by zero")));
    assert_eq!(failed["data"]["text/plain"], "before\n");
    let traceback: String = failed["traceback"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    for words in ["Traceback (most recent call last)", "line 3, in <module>", "line 2, in f", "return n / 0"] {
        assert!(traceback.contains(words), "{words} is missing in {traceback}");
    }
    assert!(!traceback.contains("windlass-session"), "{traceback}");
    let failed = session.output("y = 1\nif y\n    print(y)");
    assert_eq!(failed["ename"], "SyntaxError");
    assert!(failed["evalue"].as_str().unwrap().contains("line 2"), "{failed}");
    assert_eq!(session.error("input('name? ')").0, "EOFError");
    assert_eq!(session.error("exit(3)"), ("SystemExit".to_owned(), "3".to_owned()));
    assert_eq!(session.text("x"), "20", "the names are there after all of it");
    // What is too long says so.
    let cut = session.text("print('y' * 3000000)");
    assert!(cut.len() < 1 << 20 | 1 << 12 && cut.contains("bytes more were cut"), "{} bytes", cut.len());

    // Two sessions do not see each other, and a shared one says the language.
    assert_eq!(tried.open().error("x").0, "NameError");
    let shared = tried.server.open(&json!({ "kind": "shared" }));
    let asked = json!({ "code": "6 * 7", "kind": "pyspark" });
    let posted = tried.server.post(&format!("{shared}/statements?wait=60000"), &asked).json();
    assert_eq!(posted["output"]["data"]["text/plain"], "42", "{posted}");
    // A process of a session is none of its user's jobs.
    assert_eq!(tried.server.get("/api/v1/jobs").json()["jobs"], json!([]));
}

#[test]
fn magics_put_out_tables_json_and_figures() {
    let tried = Pythonic::new();
    let session = tried.open();
    let data = |code: &str| session.output(code)["data"].clone();
    let table = data("rows = [{'n': 1, 's': 'a'}, {'n': None, 's': 'b'}]\n%table rows");
    let headers = json!([{ "name": "n", "type": "BIGINT_TYPE" }, { "name": "s", "type": "STRING_TYPE" }]);
    let expected = json!({ "headers": headers, "data": [[1, "a"], [null, "b"]] });
    assert_eq!(table["application/vnd.livy.table.v1+json"], expected);
    let value = data("big = {'n': 123456789, 'l': [1, None]}\n%json big");
    assert_eq!(value["application/json"], json!({ "n": 123_456_789, "l": [1, null] }));
    let plot = "class Plot:\n    def gcf(self): return self\n    def savefig(self, file, format): file.write(b'PNG')\nplt = Plot()\n%matplot plt";
    assert_eq!(data(plot)["image/png"], "UE5H");
    assert_eq!(session.error("%json nothing").0, "NameError");
    assert!(session.error("%matplot pyplot").1.contains("matplotlib is not installed"));
    assert!(session.error("%json spark.nothing").1.contains("not defined"));
    assert!(session.error("%cat file").1.contains("%table, %json and %matplot"));
    let failed = session.output("%json big\n1 / 0");
    assert!(failed["traceback"].to_string().contains("line 2"), "{failed}");
}

#[test]
fn statements_are_cancelled() {
    let tried = Pythonic::new();
    let session = tried.open();
    let pid = session.pid();
    session.text("kept = 7");
    let begun = tried.cluster.dir.path().join("begun");
    let begin = format!("print('so far')\nopen({:?}, 'w').close()\n", begun.display().to_string());
    let cancelled = |code: &str| {
        let _ = std::fs::remove_file(&begun);
        let statement = session.post(&format!("{begin}{code}"));
        until_there(&begun);
        session.cancel(statement);
        let ended = session.ended(statement);
        assert_eq!((&ended["state"], &ended["output"]["ename"]), (&json!("cancelled"), &json!("Cancelled")), "{ended}");
        ended["output"].clone()
    };
    for code in ["while True: pass", "import time\ntime.sleep(1000)", "import threading\nthreading.Event().wait()"] {
        assert_eq!(cancelled(code)["data"]["text/plain"], "so far\n", "{code}");
        assert_eq!((session.text("kept").as_str(), session.pid()), ("7", pid), "{code}");
    }
    // One that does not listen takes the process along.
    let deaf = "import time\nwhile True:\n    try: time.sleep(1000)\n    except KeyboardInterrupt: pass";
    assert!(cancelled(deaf)["evalue"].as_str().is_some_and(|says| says.contains("names are gone")));
    assert!(session.log().contains("did not end within 2 s"), "{}", session.log());
    wait_until_gone(pid);
    assert_eq!(session.error("kept").0, "NameError");
}

#[test]
fn names_of_sql_are_seen_by_python_and_back() {
    let tried = Pythonic::new();
    let session = tried.open();
    session.sql("create temporary view numbers as select value as n from generate_series(1, 5)");
    assert_eq!(session.text("spark.table('numbers').filter('n > 2').count()"), "3");
    session.text("spark.sql('select n * 2 as m from numbers').createOrReplaceTempView('doubled')");
    assert_eq!(session.sql("select sum(m) from doubled"), json!([[30]]));
    session.text("spark.conf.set('datafusion.execution.time_zone', '+05:00')");
    let zone = "select value from information_schema.df_settings where name = 'datafusion.execution.time_zone'";
    assert_eq!(session.sql(zone), json!([["+05:00"]]));
    // What ends a program's own session leaves this one, and its tables.
    assert_eq!(session.text("spark.stop()\nspark.table('numbers').count()"), "5");
    let built = "from windlass.spark import SparkSession\nSparkSession.builder.appName('x').getOrCreate() is spark";
    assert_eq!(session.text(built), "True");
    let other = tried.open();
    assert!(other.error("spark.table('doubled').show()").1.contains("doubled"));
    // A statement of SQL ends with the Python that waits for it.
    let long = "spark.sql('select count(*) from generate_series(1, 4000000) a cross join generate_series(1, 1000000) b where a.value <> b.value').collect()";
    let statement = session.post(long);
    let running = || tried.server.get("/api/v1/cluster").json()["jobs_running"].as_u64();
    let patience = Instant::now() + Duration::from_secs(30);
    // Two processes of Python, and the statement.
    while running() < Some(3) {
        assert!(Instant::now() < patience, "the statement does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    session.cancel(statement);
    assert_eq!(session.ended(statement)["state"], "cancelled");
    assert_eq!(session.text("spark.sql('select 42 as n').first().n"), "42");
}

#[test]
fn a_process_that_ends_says_why_once() {
    let tried = Pythonic::with("program_memory = \"200MiB\"\nprogram_disk = \"20MiB\"");
    let session = tried.open();
    let held = session.error("held = [bytearray(1 << 20) for _ in range(1000)]");
    assert!(held.0 == "PythonEnded" && held.1.contains("209715200 bytes of memory"), "{held:?}");
    assert!(held.1.contains("how far that came is not known"), "{held:?}");
    assert_eq!(session.text("1 + 1"), "2");
    let full = "import time\nopen('f', 'wb').write(b'x' * (30 << 20))\ntime.sleep(100)";
    assert!(session.error(full).1.contains("program_disk allows 20971520"));
    let ended = session.error("print('so far')\nimport os\nos._exit(5)").1;
    assert!(ended.contains("exit code 5") && ended.contains("its output ends:\nso far"), "{ended}");
    // One that was killed while no statement ran: the next one says so, and the one behind it runs.
    let pid = session.pid();
    killed(pid.into());
    let told = session.error("x = 1");
    assert!(told.1.contains("ended by signal 9") && told.1.contains("this statement did not run"), "{told:?}");
    assert_eq!(session.error("x").0, "NameError");
    // A fork that comes back from a statement is no second process of the session.
    assert_eq!(session.text("import os\nif os.fork() == 0: 1 / 0\nelse: os.wait()[1]\n2"), "2");
    // A memory of its own.
    let small = tried.open_with(&json!({ "kind": "pyspark", "driverMemory": "100m" }));
    assert!(small.error("held = [bytearray(1 << 20) for _ in range(1000)]").1.contains("104857600 bytes of memory"));
    // Its executor dies.
    let folder = session.text("os.getcwd()");
    let statement = session.post("import time\ntime.sleep(1000)");
    tried.cluster.kill_executor(usize::from(folder.contains("executor-2")));
    let ended = session.ended(statement);
    assert_eq!(ended["output"]["ename"], "PythonEnded", "{ended}");
    assert_eq!(session.text("1 + 2"), "3");
}

#[test]
fn a_process_ends_with_its_session() {
    let tried = Pythonic::new();
    for body in [json!({ "kind": "pyspark" }), json!({ "kind": "pyspark", "idleTimeout": "1s" })] {
        let session = tried.open_with(&body);
        let pid = session.pid();
        match body.get("idleTimeout") {
            Some(_) => _ = tried.server.until_state(&session.path, "killed"),
            None => {
                session.post("while True: pass");
                assert_eq!(tried.server.delete(&session.path).status, 200);
            }
        }
        tried.until_gone(pid);
    }
    let files = tried.cluster.dir.path().join("helper.py");
    std::fs::write(&files, "def double(n): return 2 * n\n").expect("it is written");
    let session = tried.open_with(&json!({ "kind": "pyspark", "pyFiles": [files.display().to_string()] }));
    assert_eq!(session.text("import helper\nhelper.double(21)"), "42");
}

#[test]
fn names_go_with_their_primary() {
    let tried = Pythonic::new();
    let mut primary = Restarted::new(tried.cluster.primary(), &tried.cluster.url).with_rest(&tried.cluster.rest);
    let session = tried.open();
    session.text("x = 1");
    let pid = session.pid();
    primary.restart("-KILL");
    tried.server.until_served();
    tried.until_gone(pid);
    let told = session.error("x");
    assert!(told.0 == "PythonEnded" && told.1.contains("another primary leads"), "{told:?}");
    assert!(session.log().contains("its Python process is gone"), "{}", session.log());
    assert_eq!(session.error("x").0, "NameError");
    // One under way is lost, which says nothing of what it changed, and the next one runs.
    let begun = tried.cluster.dir.path().join("begun");
    let statement = session.post(&format!("open({:?}, 'w').close()\nwhile True: pass", begun.display().to_string()));
    until_there(&begun);
    primary.restart("-KILL");
    tried.server.until_served();
    let lost = session.ended(statement);
    assert_eq!((&lost["state"], &lost["output"]["ename"]), (&json!("error"), &json!("Lost")), "{lost}");
    let says = lost["output"]["evalue"].as_str().unwrap();
    assert!(says.contains("how far it came is not known") && !says.contains("it did not"), "{says}");
    assert_eq!(session.text("2"), "2");
    // A primary that stops does not wait for a process in which nothing runs.
    let stopped = Instant::now();
    primary.restart("-TERM");
    assert!(stopped.elapsed() < Duration::from_secs(20), "{:?}", stopped.elapsed());
    tried.server.until_served();
    assert_eq!(session.error("1").0, "PythonEnded");
}

#[test]
fn python_can_be_forbidden() {
    let tried = Pythonic::with("programs = \"no\"");
    let session = tried.open();
    let refused = session.error("1 + 1");
    assert!(refused.0 == "PythonNotStarted" && refused.1.contains("programs = \"no\""), "{refused:?}");
    assert_eq!(session.sql("select 7"), json!([[7]]));
}
