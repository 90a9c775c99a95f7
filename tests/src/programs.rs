//! Programs of users on a cluster of processes: batches, submissions, limits, and what is left of a program that is ended.

use crate::cluster::{Processes, Restarted, run, succeed, windlass};
use crate::livy::http::Server;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A program that leaves a process in a session of its own, which ignores SIGTERM, and says who they are.
/// Each line is one write: two processes print at a time.
const DAEMON: &str = "
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(1, f'daemon {os.getpid()}\\n'.encode())
        time.sleep(1000)
    os._exit(0)
os.write(1, f'program {os.getpid()}\\n'.encode())
time.sleep(float(sys.argv[1]))
print('slept', flush=True)
";

struct Tried {
    cluster: Processes,
    server: Server,
}

impl Tried {
    fn new(environment: &[(&str, &str)]) -> Self {
        let cluster = Processes::with("1GiB", environment);
        let server = Server::new(&cluster.rest);
        Self { cluster, server }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.cluster.dir.path().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path.display().to_string()
    }

    /// Starts a batch and returns its path.
    fn batch(&self, asked: &Value) -> String {
        let created = self.server.post("/batches", asked);
        assert_eq!(created.status, 201, "{created:?}");
        created.header("location").expect("it has a place").to_owned()
    }

    /// Waits until the process is gone, and the folders of programs.
    fn until_gone(&self, pids: &[u32]) {
        pids.iter().for_each(|pid| crate::cluster::wait_until_gone(*pid));
        let patience = Instant::now() + Duration::from_secs(10);
        let folders = || {
            let found = walk(self.cluster.dir.path());
            found
                .into_iter()
                .filter(|path| path.parent().is_some_and(|of| of.ends_with("programs")))
                .collect::<Vec<_>>()
        };
        while !folders().is_empty() {
            assert!(Instant::now() < patience, "{:?} stay", folders());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// All folders below a folder.
fn walk(dir: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let folders = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
    folders.flat_map(|path| [vec![path.clone()], walk(&path)].concat()).collect()
}

#[test]
fn batches_run_programs() {
    let tried = Tried::new(&[("SECRET_OF_EXECUTOR", "hush")]);
    let helper = tried.file("helper.py", "def double(n): return 2 * n\n");
    let binary = crate::cluster::binary().display().to_string();
    let program = tried.file(
        "program.py",
        "import os, subprocess, sys\nimport helper\n\
         print('args', sys.argv[1:], helper.double(21))\n\
         print('secret', 'SECRET_OF_EXECUTOR' in os.environ, sorted(n for n in os.listdir('.') if n.endswith('.py')))\n\
         print('rows', subprocess.run([sys.argv[1], 'sql', '--format', 'csv', '-e', 'select 40 + 2 as n'], capture_output=True, text=True))\n\
         print('ümlaut', flush=True)\n",
    );
    let batch = tried.batch(&json!({ "file": program, "args": [binary, "it's"], "pyFiles": [helper], "name": "p" }));
    tried.server.until_state(&format!("{batch}/state"), "success");
    let log = tried.server.log(&batch).join("\n");
    for words in ["\"it's\"] 42", "secret False ['helper.py', 'program.py']", "stdout='n\\n42\\n'", "ümlaut"] {
        assert!(log.contains(words), "{words} is missing in {log}");
    }

    let failing = tried.file("failing.py", "print('before')\nraise ValueError('no such thing')\n");
    let batch = tried.batch(&json!({ "file": failing }));
    tried.server.until_state(&format!("{batch}/state"), "dead");
    let log = tried.server.log(&batch).join("\n");
    assert!(log.contains("exit code 1") && log.contains("ValueError: no such thing"), "{log}");
    assert_eq!(tried.server.delete(&batch).status, 200);
    let refused = tried.server.post("/batches", &json!({ "file": "/nowhere/p.py" }));
    assert!(refused.status == 400 && refused.body.contains("p.py"), "{refused:?}");

    // The same from the command line.
    let url = &tried.cluster.url;
    let job = succeed(windlass(&["submit", &failing, "--url", url]));
    let ended = run(windlass(&["jobs", "wait", job.trim(), "--url", url])).unwrap_err();
    assert!(ended.contains("no such thing"), "{ended}");
    let args = tried.file("args.py", "import sys\nprint(sys.argv[1:])\n");
    let job = succeed(windlass(&["submit", &args, "--url", url, "--", "-x", "2"]));
    succeed(windlass(&["jobs", "wait", job.trim(), "--url", url]));
    let printed = succeed(windlass(&["fs", "cat", "/system/programs/*/output/*", "--url", url]));
    assert!(printed.contains("['-x', '2']"), "{printed}");
    tried.until_gone(&[]);
}

#[test]
fn a_program_is_ended_with_all_of_its_processes() {
    let config = tempfile::tempdir().expect("a folder can be made");
    let file = config.path().join("windlass.toml");
    std::fs::write(&file, "[primary]\nheartbeat = \"200ms\"\nexecutor_timeout = \"2s\"\n").expect("it is written");
    let tried = Tried::new(&[("WINDLASS_CONFIG", &file.display().to_string())]);
    let daemon = tried.file("daemon.py", DAEMON);
    // It ends by itself: what it left behind goes too.
    let batch = tried.batch(&json!({ "file": daemon, "args": ["0.5"] }));
    let (left, own) = (tried.server.number(&batch, "daemon "), tried.server.number(&batch, "program "));
    tried.server.until_state(&format!("{batch}/state"), "success");
    tried.until_gone(&[left, own]);
    // It is cancelled, and ignores SIGTERM.
    let batch = tried.batch(&json!({ "file": daemon, "args": ["1000"] }));
    let (left, own) = (tried.server.number(&batch, "daemon "), tried.server.number(&batch, "program "));
    assert_eq!(tried.server.delete(&batch).status, 200);
    tried.until_gone(&[left, own]);
    // Its executor dies: it does not run again.
    let batch = tried.batch(&json!({ "file": daemon, "args": ["1000"] }));
    let (left, own) = (tried.server.number(&batch, "daemon "), tried.server.number(&batch, "program "));
    let folder = std::fs::read_link(format!("/proc/{own}/cwd")).expect("it has a folder").display().to_string();
    tried.cluster.kill_executor(usize::from(folder.contains("executor-2")));
    crate::cluster::wait_until_gone(left);
    crate::cluster::wait_until_gone(own);
    tried.server.until_state(&format!("{batch}/state"), "dead");
    let log = tried.server.log(&batch).join("\n");
    assert!(log.contains("runs at most once"), "{log}");
    assert_eq!(log.matches("program ").count() - log.matches("program /").count(), 1, "{log}");
}

#[test]
fn a_program_does_not_run_again_under_another_primary() {
    let tried = Tried::new(&[]);
    let daemon = tried.file("daemon.py", DAEMON);
    let mut primary = Restarted::new(tried.cluster.primary(), &tried.cluster.url).with_rest(&tried.cluster.rest);
    let batch = tried.batch(&json!({ "file": daemon, "args": ["1000"] }));
    let (left, own) = (tried.server.number(&batch, "daemon "), tried.server.number(&batch, "program "));
    primary.restart("-KILL");
    tried.server.until_served();
    tried.server.until_state(&format!("{batch}/state"), "dead");
    tried.until_gone(&[left, own]);
    let log = tried.server.log(&batch).join("\n");
    assert!(log.contains("another primary leads since the program may have begun"), "{log}");
    assert_eq!(log.lines().filter(|line| line.starts_with("program ") && !line.contains('/')).count(), 1, "{log}");
}

#[test]
fn limits_end_programs() {
    let config = tempfile::tempdir().expect("a folder can be made");
    let file = config.path().join("windlass.toml");
    std::fs::write(&file, "[executor]\nprogram_memory = \"200MiB\"\nprogram_disk = \"20MiB\"\n")
        .expect("it is written");
    let tried = Tried::new(&[("WINDLASS_CONFIG", &file.display().to_string())]);
    for (name, text, words) in [
        (
            "memory.py",
            "held = [bytearray(1 << 20) for _ in range(1000)]\n",
            "bytes of memory, and 209715200 are allowed",
        ),
        (
            "forks.py",
            "import os, time\nif os.fork(): time.sleep(100)\nelse: held = [bytearray(1 << 20) for _ in range(1000)]; time.sleep(100)\n",
            "bytes of memory, and 209715200 are allowed",
        ),
        (
            "one_file.py",
            "import time\nopen('f', 'wb').write(b'x' * (30 << 20))\ntime.sleep(100)\n",
            "program_disk allows 20971520",
        ),
        (
            "many_files.py",
            "import time\nfor n in range(40): open(f'f{n}', 'wb').write(b'x' * (1 << 20))\ntime.sleep(100)\n",
            "program_disk allows 20971520",
        ),
        ("prints.py", "while True: print('y' * 1000)\n", "printed more than"),
        ("ends.py", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", "ended by signal 9"),
    ] {
        let file = tried.file(name, text);
        let batch = tried.batch(&json!({ "file": file }));
        tried.server.until_state(&format!("{batch}/state"), "dead");
        let log = tried.server.log(&batch).join("\n");
        assert!(log.contains(words), "{name}: {words} is missing in {}", &log[log.len().saturating_sub(3000)..]);
    }
    // Others go on.
    assert_eq!(tried.cluster.sql(&["select 1 as n"]).unwrap(), "n\n1\n");
    tried.until_gone(&[]);
}

#[test]
fn programs_can_be_forbidden() {
    let config = tempfile::tempdir().expect("a folder can be made");
    let file = config.path().join("windlass.toml");
    std::fs::write(&file, "[executor]\nprograms = \"no\"\n").expect("it is written");
    let tried = Tried::new(&[("WINDLASS_CONFIG", &file.display().to_string())]);
    let program = tried.file("p.py", "open('/tmp/never', 'w')\n");
    let refused = tried.cluster.sql(&[&format!("select * from run_program('{program}')")]).unwrap_err();
    assert!(refused.contains("programs = \"no\""), "{refused}");
}
