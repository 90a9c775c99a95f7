//! Local files of the command line: their places, and leftovers after its process was ended.

use crate::cluster::{run, succeed, windlass};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ONE: &str = "select 1 as a";

fn write(to: &Path) {
    succeed(windlass(&["sql", "--format", "csv", "-o", &to.display().to_string(), "-e", ONE]));
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn results_go_through_links_and_into_fifos_and_devices() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("d")).expect("a folder");
    std::fs::write(at("d/file"), "old").expect("a file");
    symlink("d/file", at("link")).expect("a link");
    symlink("d/new", at("dangling")).expect("a link");
    for (name, file) in [("link", "d/file"), ("dangling", "d/new")] {
        write(&at(name));
        assert!(std::fs::symlink_metadata(at(name)).expect("it is there").is_symlink());
        assert_eq!(std::fs::read_to_string(at(file)).expect("it is written"), "a\n1\n");
    }
    let mut fifo = Command::new("mkfifo");
    fifo.arg(at("fifo"));
    succeed(fifo);
    let reader = std::thread::spawn({
        let fifo = at("fifo");
        move || std::fs::read_to_string(fifo).expect("it can be read")
    });
    write(&at("fifo"));
    assert_eq!(reader.join().expect("it reads"), "a\n1\n");
    // The target keeps its type, and the output arrives.
    write(Path::new("/dev/null"));
    assert!(!std::fs::metadata("/dev/null").expect("it is there").is_file());
    let printed = succeed(windlass(&["sql", "--format", "csv", "-o", "/dev/stdout", "-e", ONE]));
    assert_eq!(printed, "a\n1\n");
    // A dead client has left this file.
    std::fs::write(at("d/file.99999999.partial"), "half").expect("a file");
    write(&at("link"));
    assert_eq!(names(&at("d")), ["file", "new"]);
    let refused = run(windlass(&["sql", "-o", &at("d").display().to_string(), "-e", ONE])).unwrap_err();
    assert!(refused.contains("not a folder"), "{refused}");
}

/// The hidden folder of a running write.
fn staged(folder: &Path) -> Option<PathBuf> {
    names(folder).into_iter().find(|name| name.contains(".windlass-")).map(|name| folder.join(name))
}

#[test]
fn nothing_that_was_staged_outlives_its_process_for_long() {
    let (folder, temporary) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    for signal in ["-TERM", "-KILL"] {
        let target = folder.path().join("t.parquet");
        let copy = format!(
            "copy (select a, repeat('x', 50) as b from generate_series(1, 300000000) t(a)) to '{}' stored as parquet",
            target.display()
        );
        let mut command = windlass(&["sql", "--memory", "512MiB", "--slots", "2", "-e", &copy]);
        command.env("TMPDIR", temporary.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut writer = command.spawn().expect("it starts");
        let patience = Instant::now() + Duration::from_secs(60);
        while staged(folder.path()).is_none() {
            assert!(Instant::now() < patience, "nothing is staged");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut kill = Command::new("kill");
        kill.args([signal, &writer.id().to_string()]);
        succeed(kill);
        let status = writer.wait().expect("it ends");
        if signal == "-TERM" {
            assert_eq!(status.code(), Some(143));
            assert_eq!(names(temporary.path()), [""; 0], "of the embedded cluster");
        } else {
            assert!(staged(folder.path()).is_some(), "nobody was there to remove it");
            let mut next = windlass(&["sql", "-e", ONE]);
            next.env("TMPDIR", temporary.path());
            succeed(next);
        }
        assert_eq!(names(folder.path()), [""; 0], "{signal}");
        assert_eq!(names(temporary.path()), [""; 0], "{signal}");
    }
}

#[test]
fn what_cannot_be_is_refused_at_once() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let dir = folder.path().join("never").display().to_string();
    for (arguments, named) in [
        (&["executor", "--dir", &dir, "--memory", "10"][..], "too little"),
        (&["executor", "--dir", &dir, "--memory", "1000TiB"], "more than this machine"),
        (&["executor", "--dir", &dir, "--slots", "1000000"], "executor.slots"),
        (&["executor", "--dir", &dir, "--name", "a\nb"], "executor.name"),
        (&["executor", "--dir", &dir, "--advertise", "a b"], "executor.advertise"),
        (&["primary", "--dir", &dir, "--warehouse", "foo://bar"], "foo://"),
        (&["cluster", "up", "--dir", &dir, "--memory", "0"], "--memory"),
        (&["cluster", "up", "--dir", &dir, "--slots", "1000000"], "--slots"),
        (&["sql", "--memory", "10", "-e", ONE], "too little"),
    ] {
        let refused = windlass(arguments).output().expect("it runs");
        let complaint = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {complaint}");
        assert!(complaint.contains(named), "{arguments:?}: {complaint}");
    }
    assert!(!folder.path().join("never").exists(), "nothing was begun");
}
