//! Copies by the cluster, between its own files, an S3 store and local folders.

use super::shell::fs_command;
use crate::s3::Server;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Every file below a folder, with its content.
fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder is read").map(|entry| entry.expect("an entry is read")) {
            match entry.path().is_dir() {
                true => folders.push(entry.path()),
                false => {
                    let path = entry.path();
                    let name = path.strip_prefix(root).expect("it is below").display().to_string();
                    found.insert(name, fs::read(&path).expect("it is read"));
                }
            }
        }
    }
    found
}

/// Writes a file dated an hour ago: a store that keeps only seconds cannot order two files of one second, and such files are copied again.
fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("it is written");
    let file = fs::File::options().write(true).open(path).expect("it is there");
    file.set_modified(SystemTime::now() - Duration::from_secs(3_600)).expect("its time is set");
}

#[test]
fn trees_are_copied_between_all_kinds_of_places() {
    let server = Server::start();
    let cluster = server.cluster();
    let fs = |arguments: &[&str]| fs_command(&cluster, arguments).unwrap_or_else(|e| panic!("{arguments:?}: {e}"));
    let refused = |arguments: &[&str]| fs_command(&cluster, arguments).expect_err("it is refused");
    let local = tempfile::tempdir().unwrap();
    let source = local.path().join("source");
    fs::create_dir_all(source.join("deep er/ü")).unwrap();
    for file in 0..60u32 {
        let bytes: Vec<u8> = (0..file * file * 1_000).map(|n| (n * 31 / 7 + file) as u8).collect();
        write(&source.join(format!("deep er/{file}.bin")), &bytes);
    }
    let large: Vec<u8> = (0..30_000_000u32).map(|n| (n * 31 / 7) as u8).collect();
    write(&source.join("large.bin"), &large);
    write(&source.join("deep er/ü/it's 100 %.txt"), b"text\n");
    let all = tree(&source);
    let url = |path: &Path| format!("file://{}", path.display());

    // To the cluster, on to S3, to another place of the cluster, and back.
    let said = fs(&["distcp", &format!("{}/", url(&source)), "/in"]);
    assert!(said.starts_with("copied 62 files, "), "{said}");
    assert!(fs(&["distcp", "/in", "s3://lake/backup/"]).starts_with("copied 62 files, "));
    assert!(fs(&["distcp", "s3://lake/backup", "wfs:///again/and/again"]).starts_with("copied 62 files, "));
    let back = local.path().join("back");
    fs::create_dir(&back).unwrap();
    assert!(fs(&["distcp", "/again/and/again", &url(&back)]).starts_with("copied 62 files, "));
    assert!(tree(&back) == all, "what comes back is what was copied");

    // A second run has nothing to do, or copies only files that are missing or newer.
    for to in ["/in", "s3://lake/backup/"] {
        let said = fs(&["distcp", &url(&source), to]);
        assert!(said.starts_with("copied 0 files, 0 B; skipped 62 files, "), "{said}");
    }
    fs(&["rm", "--skip-trash", "/again/and/again/large.bin"]);
    let one = source.join("deep er/7.bin");
    fs::write(local.path().join("new"), vec![7u8; 49_000]).unwrap();
    fs(&["put", "-f", &local.path().join("new").display().to_string(), "/in/deep er/7.bin"]);
    let said = fs(&["distcp", "-v", "/in", "/again/and/again"]);
    assert!(said.contains("copied wfs:///again/and/again/large.bin") && said.contains("CRC32C "), "{said}");
    assert!(said.contains("copied 2 files, ") && said.contains("skipped 60 files"), "{said}");
    assert_ne!(fs::read(one).unwrap(), vec![7u8; 49_000]);
    assert_eq!(fs(&["cat", "/again/and/again/deep er/7.bin"]).len(), 49_000);

    // Files without a source are removed only on request.
    fs(&["rm", "-r", "--skip-trash", "/in/deep er"]);
    let dry = fs(&["distcp", "--delete", "-n", "/in", "/again/and/again"]);
    assert!(dry.contains("would remove 61 files"), "{dry}");
    assert!(fs(&["distcp", "/in", "/again/and/again"]).starts_with("copied 0 files"));
    assert_eq!(fs(&["ls", "-R", "/again/and/again/deep er"]).lines().count(), 62);
    assert!(fs(&["distcp", "--delete", "/in", "/again/and/again"]).contains("removed 61 files"));
    assert_eq!(fs(&["ls", "-R", "/again/and/again"]).lines().count(), 1);

    // One file, to a name or into a folder, also without verification.
    fs(&["distcp", "/in/large.bin", "s3://lake/one.bin"]);
    fs(&["distcp", "--no-verify", "s3://lake/one.bin", "/folder/"]);
    let sum = format!("{:08x}", crc32c::crc32c(&large));
    assert!(fs(&["checksum", "/folder/one.bin"]).contains(&sum));
    assert!(fs(&["distcp", "--overwrite", "/in/large.bin", "/folder/one.bin"]).starts_with("copied 1 file, "));

    assert!(refused(&["distcp", "/nothing", "/x"]).contains("there is nothing at wfs:///nothing"));
    assert!(refused(&["distcp", "/in", "/in/copy"]).contains("lie in each other"));
    assert!(refused(&["distcp", "/in/*", "/x"]).contains("not patterns"));
    assert!(refused(&["distcp", "/in", "s3://nosuch/x"]).contains("NoSuchBucket"));
    assert!(refused(&["distcp", "/in/large.bin", "/folder"]).contains("/folder is a folder"));
}

#[test]
fn a_copy_goes_on_when_executors_die() {
    let server = Server::start();
    let cluster = server.cluster();
    let fs = |arguments: &[&str]| fs_command(&cluster, arguments).unwrap_or_else(|e| panic!("{arguments:?}: {e}"));
    let local = tempfile::tempdir().unwrap();
    let source = local.path().join("source");
    fs::create_dir_all(&source).unwrap();
    for file in 0..48u32 {
        let bytes: Vec<u8> = (0..5_000_000u32).map(|n| (n * 31 / 7 + file) as u8).collect();
        write(&source.join(format!("{file}.bin")), &bytes);
    }
    let url = format!("file://{}", source.display());
    let said = std::thread::scope(|scope| {
        let copy = scope.spawn(|| fs(&["distcp", &url, "s3://lake/copy/"]));
        while !fs_command(&cluster, &["distcp", "-n", &url, "s3://lake/copy/"])
            .is_ok_and(|dry| dry.contains("skipped "))
        {}
        cluster.kill_executor(0);
        copy.join().expect("the copy succeeds")
    });
    assert!(said.contains("copied "), "{said}");
    let again = fs(&["distcp", &url, "s3://lake/copy/"]);
    assert!(again.starts_with("copied 0 files, 0 B; skipped 48 files"), "{again}");
    let back = local.path().join("back");
    fs::create_dir(&back).unwrap();
    fs(&["distcp", "s3://lake/copy/", &format!("file://{}", back.display())]);
    assert!(tree(&back) == tree(&source), "all of it was copied");
}
