//! Programs of users on a cluster of processes: batches, submissions, limits, and what is left of a program that is ended.

use crate::cluster::{Processes, Restarted, root, run, succeed, windlass};
use crate::livy::http::Server;
use crate::skipped::skipped;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
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
    _config: Option<tempfile::TempDir>,
}

impl Tried {
    fn new(environment: &[(&str, &str)]) -> Self {
        let cluster = Processes::with("1GiB", environment);
        let server = Server::new(&cluster.rest);
        Self { cluster, server, _config: None }
    }

    /// `settings`: lines of the configuration file.
    fn with(settings: &str) -> Self {
        let config = tempfile::tempdir().expect("a folder can be made");
        let file = config.path().join("windlass.toml");
        std::fs::write(&file, settings).expect("it is written");
        let tried = Self::new(&[("WINDLASS_CONFIG", &file.display().to_string())]);
        Self { _config: Some(config), ..tried }
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

    /// Runs programs, each with a name, which have to fail with one of these words.
    fn are_ended(&self, wrong: &[(&str, &str, &[&str])]) {
        for (name, text, words) in wrong {
            let batch = self.batch(&json!({ "file": self.file(name, text) }));
            self.server.until_state(&format!("{batch}/state"), "dead");
            let log = self.server.log(&batch).join("\n");
            let is_right = words.iter().any(|words| log.contains(words));
            assert!(is_right, "{name}: {words:?} is missing in {}", &log[log.len().saturating_sub(3000)..]);
        }
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

    // What is in archives can be imported.
    let module = tried.file("packed.py", "WORDS = 'out of a zip'\n");
    let archive = tried.cluster.dir.path().join("packed.zip").display().to_string();
    let mut zip = std::process::Command::new("python3");
    zip.args(["-m", "zipfile", "-c", &archive, &module]);
    succeed(zip);
    let importing = tried.file("importing.py", "import packed\nprint(packed.WORDS)\n");
    let batch = tried.batch(&json!({ "file": importing, "pyFiles": [archive] }));
    tried.server.until_state(&format!("{batch}/state"), "success");
    assert!(tried.server.log(&batch).join("\n").contains("out of a zip"));

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
    let log = succeed(windlass(&["jobs", "logs", job.trim(), "--url", url]));
    assert!(log.contains("finished\n['-x', '2']"), "{log}");
    tried.until_gone(&[]);
}

#[test]
fn a_program_is_ended_with_all_of_its_processes() {
    let tried = Tried::with("[primary]\nheartbeat = \"200ms\"\nexecutor_timeout = \"2s\"\n");
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
    // Its supervisor dies.
    let alone = tried.file("alone.py", "import os, time\nprint('program', os.getpid())\ntime.sleep(1000)\n");
    let batch = tried.batch(&json!({ "file": alone }));
    let own = tried.server.number(&batch, "program ");
    crate::cluster::killed(parent_of(own).into());
    tried.until_gone(&[own]);
    tried.server.until_state(&format!("{batch}/state"), "dead");
    assert!(tried.server.log(&batch).join("\n").contains("could not be supervised"));
    // Its executor dies: it does not run again.
    let batch = tried.batch(&json!({ "file": daemon, "args": ["1000"] }));
    let (left, own) = (tried.server.number(&batch, "daemon "), tried.server.number(&batch, "program "));
    let folder = std::fs::read_link(format!("/proc/{own}/cwd")).expect("it has a folder").display().to_string();
    tried.cluster.kill_executor(usize::from(folder.contains("executor-2")));
    tried.until_gone(&[left, own]);
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
    let tried = Tried::with("[executor]\nprogram_disk = \"20MiB\"\n");
    tried.are_ended(&[
        (
            "one_file.py",
            "import time\nopen('f', 'wb').write(b'x' * (30 << 20))\ntime.sleep(100)\n",
            &["program_disk allows 20971520"],
        ),
        (
            "many_files.py",
            "import time\nfor n in range(40): open(f'f{n}', 'wb').write(b'x' * (1 << 20))\ntime.sleep(100)\n",
            &["program_disk allows 20971520"],
        ),
        ("prints.py", "while True: print('y' * 1000)\n", &["printed more than"]),
        ("ends.py", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", &["ended by signal 9"]),
    ]);
    // Others go on.
    assert_eq!(tried.cluster.sql(&["select 1 as n"]).unwrap(), "n\n1\n");
    tried.until_gone(&[]);
}

#[test]
fn memory_of_programs_is_limited() {
    let tried = Tried::with("[executor]\nprogram_memory = \"200MiB\"\n");
    let limit = "more than the 209715200 bytes of memory";
    tried.are_ended(&[
        ("memory.py", "held = [bytearray(1 << 20) for _ in range(1000)]\n", &[limit]),
        // What a process cannot get at once, it gets an error for, unless the kernel limits all of its memory.
        ("huge.py", "held = bytearray(8 << 30)\n", &["MemoryError", limit]),
        (
            "forks.py",
            "import os, time\nif os.fork(): time.sleep(100)\nelse: held = [bytearray(1 << 20) for _ in range(1000)]; time.sleep(100)\n",
            &[limit],
        ),
        ("shared.py", "import mmap, time\nmmap.mmap(-1, 300 << 20).write(b'x' * (300 << 20))\ntime.sleep(100)\n", &[limit]),
    ]);
    // What is mapped and not used, and what several processes share, is not held several times.
    let honest = tried.file(
        "honest.py",
        "import mmap, os, threading, time\n\
         kept, unused = bytearray(120 << 20), mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE)\n\
         wait = threading.Event()\n\
         threads = [threading.Thread(target=wait.wait) for _ in range(100)]\n\
         [thread.start() for thread in threads]\n\
         children = [os.fork() or (time.sleep(1), os._exit(0)) for _ in range(4)]\n\
         [os.waitpid(child, 0) for child in children]\n\
         wait.set()\n",
    );
    let batch = tried.batch(&json!({ "file": honest }));
    tried.server.until_state(&format!("{batch}/state"), "success");
    // Others go on.
    assert_eq!(tried.cluster.sql(&["select 1 as n"]).unwrap(), "n\n1\n");
    tried.until_gone(&[]);
}

/// `make groups` runs this where there are control groups.
#[test]
fn the_kernel_limits_programs_that_have_control_groups() {
    let tried = Tried::with("[executor]\nprogram_memory = \"200MiB\"\n");
    let daemon = tried.file("daemon.py", DAEMON);
    let start = || {
        let batch = tried.batch(&json!({ "file": daemon, "args": ["1000"] }));
        let pids = [tried.server.number(&batch, "daemon "), tried.server.number(&batch, "program ")];
        (batch, pids)
    };
    let (batch, [left, own]) = start();
    let Some(group) = group_of(own) else {
        return skipped(
            "the kernel lets nobody make control groups with the memory controller here ('make groups' does)",
        );
    };
    assert_eq!(group_of(left).as_ref(), Some(&group));
    for (file, limit) in [("memory.max", "209715200"), ("memory.oom.group", "1"), ("pids.max", "4096")] {
        let found = std::fs::read_to_string(group.join(file)).expect("the group has limits");
        assert_eq!(found.trim(), limit, "{file}");
    }
    assert_eq!(tried.server.delete(&batch).status, 200);
    tried.until_gone(&[left, own]);
    until_removed(&group);
    // It starts more and more processes.
    let bomb = tried.file(
        "bomb.py",
        "import os, time\nwhile True:\n    if os.fork() == 0:\n        time.sleep(1000)\n        os._exit(0)\n",
    );
    let batch = tried.batch(&json!({ "file": bomb }));
    tried.server.until_state(&format!("{batch}/state"), "dead");
    let log = tried.server.log(&batch).join("\n");
    assert!(log.contains("more than the 209715200 bytes of memory"), "{log}");
    // Its supervisor is killed.
    let (batch, [left, own]) = start();
    let group = group_of(own).expect("it has a group");
    crate::cluster::killed(parent_of(own).into());
    tried.server.until_state(&format!("{batch}/state"), "dead");
    tried.until_gone(&[left, own]);
    until_removed(&group);
    // Its executor is killed.
    let (batch, [left, own]) = start();
    let group = group_of(own).expect("it has a group");
    crate::cluster::killed(parent_of(parent_of(own)).into());
    tried.server.until_state(&format!("{batch}/state"), "dead");
    [left, own].into_iter().for_each(crate::cluster::wait_until_gone);
    until_removed(&group);
}

/// The folder of the control group that was made for a process.
fn group_of(pid: u32) -> Option<PathBuf> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    group.contains("windlass-").then(|| Path::new("/sys/fs/cgroup").join(group))
}

fn until_removed(group: &Path) {
    let patience = Instant::now() + Duration::from_secs(10);
    while group.exists() {
        assert!(Instant::now() < patience, "{} stays", group.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn parent_of(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    parent.and_then(|parent| parent.trim().parse().ok()).expect("it has a parent")
}

/// Two executors have two places and 1 GiB each, so one program that may hold 600 MiB runs on each of them at a time.
#[test]
fn programs_together_get_no_more_memory_than_there_is() {
    let tried = Tried::with("[primary]\nheartbeat = \"100ms\"\n[executor]\nprogram_memory = \"600MiB\"\n");
    let program = tried.file(
        "holds.py",
        "import time\nheld, begun = bytearray(100 << 20), time.monotonic()\ntime.sleep(1.5)\nprint('from', begun, 'to', time.monotonic())\n",
    );
    let batches: Vec<String> = (0..3).map(|_| tried.batch(&json!({ "file": program }))).collect();
    // What they hold is shown while they run, and is a part of the executor's memory.
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let executors = tried.server.get("/api/v1/cluster").json();
        let of = |name: &str| {
            let executors = executors["executors"].as_array().expect("there are executors");
            executors.iter().map(|executor| executor[name].as_u64().expect("a number")).collect::<Vec<_>>()
        };
        let (held, used) = (of("program_memory_bytes"), of("memory_used_bytes"));
        let all_hold = |of: &[u64]| of.iter().all(|bytes| (100 << 20..200 << 20).contains(bytes));
        if all_hold(&held) && all_hold(&used) {
            break;
        }
        assert!(Instant::now() < patience, "{executors}");
    }
    let times = batches.iter().map(|batch| {
        tried.server.until_state(&format!("{batch}/state"), "success");
        let log = tried.server.log(batch);
        let line = log.iter().find_map(|line| line.strip_prefix("from ")).expect("it says when it ran");
        let (from, to) = line.split_once(" to ").expect("two times");
        [from, to].map(|time| time.parse::<f64>().expect("a time"))
    });
    let times: Vec<[f64; 2]> = times.collect();
    let at_a_time = |at: f64| times.iter().filter(|[from, to]| (*from..*to).contains(&at)).count();
    let most = times.iter().map(|[from, _]| at_a_time(*from)).max();
    assert_eq!(most, Some(2), "{times:?}");
}

/// The commands of docs/programs.md, run as written.
#[test]
fn the_commands_of_the_documentation_work() {
    let (tried, folder) = (Tried::new(&[]), tempfile::tempdir().expect("a folder can be made"));
    let text = std::fs::read_to_string(root().join("docs/programs.md")).expect("it can be read");
    let blocks: Vec<&str> = text.split("\n```").skip(1).step_by(2).collect();
    let [commands] = blocks[..] else { panic!("{blocks:?}") };
    let commands = commands.strip_prefix("bash\n").expect("it has commands");
    let binary = crate::cluster::binary();
    let own = binary.parent().expect("it has a folder").to_owned();
    let old = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(own).chain(std::env::split_paths(&old))).expect("folders");
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("set -euo pipefail\n{commands}")]).current_dir(folder.path()).env("PATH", path);
    shell.env("REST", &tried.cluster.rest).env("WINDLASS_URL", &tried.cluster.url);
    let printed = succeed(shell);
    for wanted in ["cleaned 2026-11-29", "cleaned 2026-11-30", "cleaned 2026-12-01"] {
        assert!(printed.contains(wanted), "{wanted} is missing in\n{printed}");
    }
}

#[test]
fn programs_can_be_forbidden() {
    let tried = Tried::with("[executor]\nprograms = \"no\"\n");
    let program = tried.file("p.py", "open('/tmp/never', 'w')\n");
    let refused = tried.cluster.sql(&[&format!("select * from run_program('{program}')")]).unwrap_err();
    assert!(refused.contains("programs = \"no\""), "{refused}");
}
