//! Failures while files are written, read and kept: nothing that was acknowledged is lost, and no wrong byte is read.

use crate::cluster::{Processes, run, succeed, wait_until_gone, windlass};
use bytes::Bytes;
use futures::TryStreamExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use windlass_client::wfs::{self, FileWriter, Wfs, WriteOptions};
use windlass_proto::v1;

/// Bytes that are a function of their position and of `seed`.
pub(crate) fn text(seed: u64, from: u64, length: usize) -> Bytes {
    let at = |n: u64| ((n + seed * 7_919).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
    (from..from + length as u64).map(at).collect::<Vec<u8>>().into()
}

pub(crate) async fn write(files: &Wfs, path: &str, seed: u64, bytes: u64, options: WriteOptions) -> v1::FileEntry {
    let mut writer = FileWriter::create(files, path, options).await.expect("a file begins");
    let mut at = 0;
    while at < bytes {
        let length = (bytes - at).min(300_000) as usize;
        writer.write(text(seed, at, length)).await.expect("bytes are taken");
        at += length as u64;
    }
    writer.finish().await.expect("the file is complete")
}

/// Checks the whole file.
pub(crate) async fn verify(files: &Wfs, path: &str, seed: u64, bytes: u64) {
    let located = files.locate(path, 0..u64::MAX).await.expect("the file is there");
    assert_eq!(located.entry.as_ref().and_then(v1::FileEntry::file_bytes), Some(bytes), "{path}");
    let mut read = wfs::read(files, located, 0..bytes);
    let mut at = 0;
    while let Some(part) = read.try_next().await.unwrap_or_else(|error| panic!("{path} at {at}: {error}")) {
        assert!(part == text(seed, at, part.len()), "{path} has other bytes from {at} on");
        at += part.len() as u64;
    }
    assert_eq!(at, bytes, "{path}");
}

pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < patience, "it does not come: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub(super) async fn healthy(files: &Wfs) {
    until("every block has its replicas", async || {
        let health = files.health("/", 10).await.expect("there is a report");
        let wanting = health.under_replicated + health.missing + health.copying + health.recoding + health.to_recode;
        !health.settling && wanting == 0 && health.troubled.is_empty()
    })
    .await;
}

/// A cluster whose silent executors are soon lost, and whose lost replicas are made again at once.
pub(super) fn quick(executors: &str, files: &str) -> Processes {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let config = dir.path().join("config.toml");
    let text = format!(
        "[primary]\nheartbeat = \"200ms\"\nexecutor_timeout = \"1s\"\n[executor]\nblock_reserve = \"1MiB\"\nrepair_rate = \"0B\"\n\
         [files]\ngrace = \"1s\"\nrepair_after = \"500ms\"\nblock = \"1MiB\"\n{files}\n"
    );
    std::fs::write(&config, text).expect("the configuration is written");
    let config = config.display().to_string();
    Processes::shaped(dir, [executors, "1", "512MiB"], &[("WINDLASS_CONFIG", &config)])
}

pub(crate) fn options(replication: u32) -> WriteOptions {
    WriteOptions { replication: Some(replication), ..WriteOptions::default() }
}

/// Files of complete replicas at any depth, except those in packs.
fn replicas_below(root: &Path, ending: &str) -> Vec<PathBuf> {
    files_below(root, &|path| path.contains("/replicas/") && !path.contains("/incoming/") && path.ends_with(ending))
}

fn files_below(root: &Path, wanted: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let text = path.to_string_lossy();
            if path.is_dir() {
                folders.push(path);
            } else if wanted(&text) {
                found.push(path);
            }
        }
    }
    found
}

impl Processes {
    /// The replica files of one executor.
    pub(super) fn replicas(&self, number: usize, ending: &str) -> Vec<PathBuf> {
        replicas_below(&self.dir.path().join(format!("executor-{}", number + 1)), ending)
    }

    /// Starts one more executor.
    pub(super) fn executor(&self, name: &str, dir: &Path, config: &str) -> Child {
        let (shape, dir) = (["--slots", "1", "--memory", "512MiB"], dir.display().to_string());
        let arguments = ["executor", "--primary", &self.url, "--name", name, "--dir", &dir];
        self.child(windlass(&[&arguments[..], &shape].concat()), name, config)
    }

    /// Kills the primary and starts it again.
    pub(super) fn primary_again(&self) -> Child {
        let killed = self.primary();
        self.signal(killed.into(), "-9");
        wait_until_gone(killed);
        let port = self.url.rsplit(':').next().expect("the address has a port");
        let (listen, dir) = (format!("127.0.0.1:{port}"), self.dir.path().join("primary/data").display().to_string());
        let command = windlass(&["primary", "--listen", &listen, "--rest", "", "--dir", &dir]);
        self.child(command, "primary", "config.toml")
    }

    fn child(&self, mut command: Command, name: &str, config: &str) -> Child {
        command.env("WINDLASS_CONFIG", self.dir.path().join(config));
        let log = std::fs::File::create(self.dir.path().join(format!("{name}.log"))).expect("a log is made");
        Child(command.stdout(log.try_clone().expect("twice")).stderr(log).spawn().expect("it starts"))
    }

    pub(super) fn signal(&self, pid: u64, signal: &str) {
        let mut kill = Command::new("kill");
        kill.args([signal, &pid.to_string()]);
        succeed(kill);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_dies_while_it_is_written_to_is_replaced() {
    let cluster = quick("4", "");
    let session = cluster.session().await;
    let files = session.files();
    // One executor dies, and one hangs, in the middle of a block.
    for (round, signal) in ["-9", "-STOP"].into_iter().enumerate() {
        let path = format!("/written/{signal}");
        let block_bytes = Some(8 << 20);
        let options = WriteOptions { block_bytes, ..options(3) };
        let mut writer = FileWriter::create(&files, &path, options).await.expect("a file begins");
        let bytes = 31_500_000;
        let mut at = 0u64;
        while at < bytes {
            writer.write(text(round as u64, at, 500_000)).await.expect("bytes are taken");
            at += 500_000;
            if at == 11_000_000 {
                cluster.signal(cluster.executors[round], signal);
            }
        }
        let entry = writer.finish().await.expect("the file is complete");
        assert_eq!(entry.file_bytes(), Some(at));
        verify(&files, &path, round as u64, at).await;
        if signal == "-STOP" {
            cluster.signal(cluster.executors[round], "-CONT");
        }
    }
    // Three are left, and the one that hung comes back with its replicas.
    healthy(&files).await;
    verify(&files, "/written/-9", 0, 31_500_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_dies_while_it_is_read_is_passed_over() {
    let cluster = quick("3", "");
    let session = cluster.session().await;
    let files = session.files();
    let bytes = 40 << 20;
    write(&files, "/f", 1, bytes, WriteOptions { block_bytes: Some(32 << 20), ..options(2) }).await;
    let located = files.locate("/f", 0..u64::MAX).await.expect("the file is there");
    let first = located.blocks[0].holders[0].executor;
    let status = session.status().await.expect("the cluster has a state");
    let pid = status
        .executors
        .iter()
        .find(|executor| executor.id == format!("executor-{first}"))
        .expect("it is attached")
        .pid;
    let mut read = wfs::read(&files, located, 0..bytes);
    let mut at = 0;
    while let Some(part) = read.try_next().await.expect("another replica goes on") {
        assert!(part == text(1, at, part.len()), "other bytes from {at} on");
        if at == 0 {
            cluster.signal(pid.into(), "-9");
        }
        at += part.len() as u64;
    }
    assert_eq!(at, bytes);
    healthy(&files).await;
    verify(&files, "/f", 1, bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_flips_on_a_disk_is_never_read_and_its_replica_is_made_again() {
    let cluster = quick("3", "");
    let session = cluster.session().await;
    let files = session.files();
    write(&files, "/f", 1, 3_500_000, options(2)).await;
    // A byte of either file is changed, or the file is removed.
    let mut damaged = 0;
    for (ending, gone) in [(".block", false), (".sums", false), (".block", true), (".sums", true)] {
        for executor in 0..3 {
            let Some(path) = cluster.replicas(executor, ending).into_iter().next() else { continue };
            let mut stored = std::fs::read(&path).expect("the replica is there");
            let middle = stored.len() / 2;
            stored[middle] ^= 0x10;
            match gone {
                true => std::fs::remove_file(&path).expect("it can be removed"),
                false => std::fs::write(&path, stored).expect("a byte can be flipped"),
            }
            damaged += 1;
            println!("{damaged}: {} gone: {gone}", path.display());
            verify(&files, "/f", 1, 3_500_000).await;
            // The reader may have used the other replica; fsck reads all of them.
            succeed(windlass(&["fs", "fsck", "--verify", "/f", "--url", &cluster.url]));
            until("it is made again", async || files.health("/", 0).await.expect("a report").copied >= damaged).await;
            healthy(&files).await;
        }
    }
    assert!(damaged >= 8, "{damaged}");

    // Small replicas lie together in packs.
    write(&files, "/small", 2, 1_000, options(2)).await;
    for gone in [false, true, false, true] {
        let located = files.locate("/small", 0..1_000).await.expect("it is there");
        let holder = located.blocks[0].holders[damaged as usize % 2].executor;
        let health = files.health("/", 0).await.expect("a report");
        let member = health.members.iter().find(|member| member.executor == holder).expect("the holder is a member");
        let number: usize = member.name.trim_start_matches("executor-").parse().expect("executors are numbered");
        let packs = cluster.dir.path().join(format!("executor-{number}"));
        for pack in files_below(&packs, &|path| path.ends_with(".pack")) {
            let stored = std::fs::read(&pack).expect("the pack is there");
            match gone {
                true => std::fs::remove_file(&pack).expect("it can be removed"),
                false => std::fs::write(&pack, stored.iter().map(|byte| byte ^ 0x10).collect::<Vec<_>>())
                    .expect("bytes can be flipped"),
            }
        }
        verify(&files, "/small", 2, 1_000).await;
        succeed(windlass(&["fs", "fsck", "--verify", "/small", "--url", &cluster.url]));
        damaged += 1;
        until("it is made again", async || files.health("/", 0).await.expect("a report").copied >= damaged).await;
        healthy(&files).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn executors_that_all_start_again_have_what_they_had() {
    let cluster = quick("3", "");
    let session = cluster.session().await;
    let files = session.files();
    for file in 0..20 {
        write(&files, &format!("/d/{file}"), file, 200_000 * file, options(3)).await;
    }
    for pid in &cluster.executors {
        cluster.signal(*pid, "-9");
    }
    // A file that is removed before they come back.
    let gone = v1::DeleteRequest { path: "/d/7".into(), recursive: false, trash: false, prune: false };
    files.act(v1::file_request::Ask::Delete(gone)).await.expect("it is removed");
    let described = cluster.dir.path().join("cluster.json");
    let described = std::fs::read_to_string(described).expect("there is a record");
    let mut children = Vec::new();
    for number in 1..=3 {
        let dir = cluster.dir.path().join(format!("executor-{number}"));
        assert!(described.contains(&dir.display().to_string()));
        let data = [dir.join("data"), dir.clone()].into_iter().find(|dir| dir.join("blocks").exists());
        let data = data.expect("the executor has a folder");
        children.push(cluster.executor(&format!("again-{number}"), &data, "config.toml"));
    }
    healthy(&files).await;
    for file in (0..20).filter(|file| *file != 7) {
        verify(&files, &format!("/d/{file}"), file, 200_000 * file).await;
    }
    // Except for small last blocks, which lie in packs.
    let in_files = |bytes: u64| (bytes >> 20) + u64::from(bytes % (1 << 20) > 64 << 10);
    let wanted: u64 = (0..20u64).filter(|file| *file != 7).map(|file| in_files(200_000 * file)).sum();
    until("what nobody wants is removed", async || {
        let found: usize = (0..3).map(|executor| cluster.replicas(executor, ".block").len()).sum();
        found as u64 == 3 * wanted
    })
    .await;
}

pub(super) struct Child(pub std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_dies_while_a_file_is_written_is_followed_by_one_that_goes_on() {
    let cluster = quick("3", "");
    let session = cluster.session().await;
    let files = session.files();
    write(&files, "/before", 1, 2_500_000, options(3)).await;
    let mut writer = FileWriter::create(&files, "/during", options(3)).await.expect("a file begins");
    writer.write(text(2, 0, 1_500_000)).await.expect("bytes are taken");
    let _primary = cluster.primary_again();
    // The open block goes on; the next one comes from the new primary.
    let mut at = 1_500_000;
    while at < 6_000_000 {
        writer.write(text(2, at, 500_000)).await.expect("bytes are taken");
        at += 500_000;
    }
    writer.finish().await.expect("the file is complete");
    verify(&files, "/before", 1, 2_500_000).await;
    verify(&files, "/during", 2, 6_000_000).await;
    healthy(&files).await;
    let names: Vec<String> =
        files.list("/", true, None, 100).await.expect("it is listed").into_iter().map(|entry| entry.path).collect();
    assert_eq!(names, ["/before", "/during"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_passed_over() {
    let Some(disk) = mount(12) else { return };
    let cluster = quick("2", "");
    let _small = cluster.executor("small", &disk.path().join("executor"), "config.toml");
    let session = cluster.session().await;
    let files = session.files();
    until("three executors", async || files.health("/", 0).await.expect("there is a report").members.len() == 3).await;
    // Writes before the small disk's first heartbeat with less space, with blocks larger than its space.
    let options = WriteOptions { block_bytes: Some(16 << 20), ..options(3) };
    write(&files, "/f", 3, 40 << 20, options).await;
    verify(&files, "/f", 3, 40 << 20).await;
    let health = files.health("/", 10).await.expect("there is a report");
    assert_eq!(health.missing, 0);
    assert_eq!(health.members.len(), 3, "the executor goes on");
}

/// Mounts a small disk. `None`, with a message: nothing can be mounted here.
fn mount(megabytes: u32) -> Option<Mounted> {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut tmpfs = Command::new("mount");
    tmpfs.args(["-t", "tmpfs", "-o", &format!("size={megabytes}M"), "tmpfs"]).arg(folder.path());
    if tmpfs.status().is_ok_and(|status| status.success()) {
        return Some(Mounted(folder));
    }
    crate::skipped::skipped("this process may not mount a small disk");
    None
}

struct Mounted(tempfile::TempDir);

impl Mounted {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn unmount(&self) -> bool {
        let mut umount = Command::new("umount");
        umount.arg("-l").arg(self.path()).stderr(std::process::Stdio::null());
        umount.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.unmount();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_taken_away_costs_its_replicas_and_nothing_else() {
    let (Some(one), Some(other)) = (mount(64), mount(64)) else { return };
    let cluster = quick("2", "");
    let config = std::fs::read_to_string(cluster.dir.path().join("config.toml")).expect("there is one");
    let dirs =
        format!("[executor]\nblock_dirs = [{:?}, {:?}]", one.path().join("replicas"), other.path().join("replicas"));
    std::fs::write(cluster.dir.path().join("disks.toml"), config.replace("[executor]", &dirs)).expect("it is written");
    let _disks = cluster.executor("disks", &cluster.dir.path().join("disks"), "disks.toml");
    let session = cluster.session().await;
    let files = session.files();
    until("three executors", async || files.health("/", 0).await.expect("there is a report").members.len() == 3).await;
    for file in 0..10 {
        write(&files, &format!("/d/{file}"), file, 2_500_000, options(3)).await;
    }
    let on = |disk: &Mounted| replicas_below(&disk.path().join("replicas"), ".block").len();
    let before = (on(&one), on(&other));
    assert!(before.0 > 5 && before.1 > 5, "both disks have replicas: {before:?}");
    assert!(one.unmount(), "the disk can be taken away");
    // fsck notices it, and the other disk gets the lost replicas; writers do not notice.
    succeed(windlass(&["fs", "fsck", "--verify", "/d", "--url", &cluster.url]));
    let restored = before.0 + before.1;
    until("the other disk has all replicas", async || on(&other) == restored).await;
    healthy(&files).await;
    write(&files, "/d/new", 99, 2_500_000, options(3)).await;
    for file in 0..10 {
        verify(&files, &format!("/d/{file}"), file, 2_500_000).await;
    }
    verify(&files, "/d/new", 99, 2_500_000).await;
    let health = files.health("/", 0).await.expect("there is a report");
    assert_eq!((health.members.len(), health.missing, on(&other)), (3, 0, restored + 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_in_maintenance_comes_back_to_what_it_had() {
    let cluster = quick("3", "");
    let dir = cluster.dir.path().join("extra");
    let mut extra = Some(cluster.executor("extra", &dir, "config.toml"));
    let session = cluster.session().await;
    let files = session.files();
    until("four executors", async || files.health("/", 0).await.expect("there is a report").members.len() == 4).await;
    for file in 0..12 {
        write(&files, &format!("/d/{file}"), file, 1_500_000, options(3)).await;
    }
    let held = replicas_below(&dir, ".block").len();
    assert!(held > 0);
    let fs = |arguments: &[&str]| succeed(windlass(&[&["fs"], arguments, &["--url", &cluster.url]].concat()));
    assert_eq!(fs(&["maintenance", "extra", "--for", "10m"]), "extra may be away for 10m 00s\n");
    assert!(fs(&["report"]).contains("maintenance"));
    extra.take();
    until("it is away", async || files.health("/", 0).await.expect("there is a report").members.len() == 3).await;
    // Longer than the time after which a silent executor is lost: 500 ms, and rounds of 5 s.
    let away = Instant::now();
    until("six seconds are over", async || away.elapsed() > Duration::from_secs(6)).await;
    let health = files.health("/", 100).await.expect("there is a report");
    assert_eq!((health.copied, health.under_replicated), (0, held as u64), "nothing is made again");
    for file in 0..12 {
        verify(&files, &format!("/d/{file}"), file, 1_500_000).await;
    }
    // The next primary, which finds nine tenths of the replicas and not that one, does not either.
    let _primary = cluster.primary_again();
    until("it has settled", async || {
        files.health("/", 0).await.is_ok_and(|health| !health.settling && health.members.len() == 3)
    })
    .await;
    let away = Instant::now();
    until("two seconds are over", async || away.elapsed() > Duration::from_secs(2)).await;
    let health = files.health("/", 100).await.expect("there is a report");
    assert_eq!((health.copied, health.under_replicated), (0, held as u64), "nothing is made again");
    let extra = cluster.executor("extra", &dir, "config.toml");
    healthy(&files).await;
    let health = files.health("/", 100).await.expect("there is a report");
    assert_eq!((health.copied, health.pruned), (0, 0));
    // It may go once more; after the end of maintenance its replicas are made again.
    assert!(fs(&["report"]).contains("maintenance"));
    drop(extra);
    until("it is away", async || files.health("/", 0).await.expect("there is a report").members.len() == 3).await;
    fs(&["maintenance", "extra", "--end"]);
    healthy(&files).await;
    assert_eq!(files.health("/", 0).await.expect("there is a report").copied, held as u64);
    assert!(
        run(windlass(&["fs", "maintenance", "nobody", "--url", &cluster.url])).expect_err("unknown").contains("nobody")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_added_takes_replicas_of_the_others() {
    let (Some(one), Some(other)) = (mount(96), mount(96)) else { return };
    let cluster = quick("1", "");
    let config = std::fs::read_to_string(cluster.dir.path().join("config.toml")).expect("there is one");
    let (first, second) = (one.path().join("replicas"), other.path().join("replicas"));
    for (name, dirs) in [("one.toml", vec![&first]), ("two.toml", vec![&first, &second])] {
        let dirs = format!("[executor]\nblock_dirs = {dirs:?}");
        std::fs::write(cluster.dir.path().join(name), config.replace("[executor]", &dirs)).expect("it is written");
    }
    let dir = cluster.dir.path().join("disks");
    let with_one = cluster.executor("disks", &dir, "one.toml");
    let session = cluster.session().await;
    let files = session.files();
    until("two executors", async || files.health("/", 0).await.expect("there is a report").members.len() == 2).await;
    for file in 0..60 {
        write(&files, &format!("/d/{file}"), file, 1 << 20, options(2)).await;
    }
    drop(with_one);
    let _with_two = cluster.executor("disks", &dir, "two.toml");
    let on = |disk: &Path| replicas_below(disk, ".block").len();
    // Disks of 96 MiB each, even within a tenth.
    until("both disks have replicas", async || on(&first) <= 36 && on(&second) >= 24).await;
    healthy(&files).await;
    assert_eq!(on(&first) + on(&second), 60);
    succeed(windlass(&["fs", "fsck", "--verify", "/d", "--url", &cluster.url]));
    for file in 0..60 {
        verify(&files, &format!("/d/{file}"), file, 1 << 20).await;
    }
    let health = files.health("/", 0).await.expect("there is a report");
    assert_eq!((health.missing, health.under_replicated, health.damaged), (0, 0, 0));
}

/// Two executors with full disks and two with empty ones.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_move_from_full_disks_to_empty_ones() {
    let disks: Vec<Mounted> = (0..4).map_while(|_| mount(96)).collect();
    if disks.len() < 4 {
        return;
    }
    let cluster = quick("1", "");
    let fs = |arguments: &[&str]| succeed(windlass(&[&["fs"], arguments, &["--url", &cluster.url]].concat()));
    let session = cluster.session().await;
    let files = session.files();
    let start = |number: usize| {
        cluster.executor(&format!("disk-{number}"), &disks[number].path().join("executor"), "config.toml")
    };
    let members = async || files.health("/", 0).await.expect("there is a report").members;
    let mut executors = vec![start(0), start(1)];
    until("three executors", async || members().await.len() == 3).await;
    // The executor on the large disk must not take part.
    succeed(windlass(&["executor", "decommission", "executor-1", "--url", &cluster.url]));
    until("two executors", async || members().await.len() == 2).await;
    for file in 0..15 {
        write(&files, &format!("/d/{file}"), file, 4 << 20, options(2)).await;
    }
    executors.extend([start(2), start(3)]);
    until("four executors with heartbeats", async || {
        let members = members().await;
        members.len() == 4 && members.iter().all(|member| member.free_bytes < 200 << 20)
    })
    .await;
    assert_eq!(fs(&["balance", "--threshold", "5", "-w"]), "balanced\n");
    healthy(&files).await;
    let members = members().await;
    let used: Vec<u64> =
        members.iter().map(|member| member.used_bytes * 100 / (member.used_bytes + member.free_bytes)).collect();
    let (least, most) = (used.iter().min().expect("four"), used.iter().max().expect("four"));
    assert!(most - least <= 12, "the disks are {used:?} per cent full");
    for file in 0..15 {
        verify(&files, &format!("/d/{file}"), file, 4 << 20).await;
    }
}

/// Writers and readers run while executors die and are replaced, for a bounded time; then every file is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_soak_of_kills_loses_nothing() {
    let cluster = quick("6", "code_after = \"0s\"");
    let session = cluster.session().await;
    let files = session.files();
    // The files of one of the writers are coded at once.
    succeed(windlass(&["fs", "mkdir", "-p", "/soak/1", "--url", &cluster.url]));
    succeed(windlass(&["fs", "policy", "/soak/1", "rs-3-2", "--url", &cluster.url]));
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(12);
    let end = Instant::now() + Duration::from_secs(seconds);
    let writers = futures::future::join_all((0..3u64).map(|writer| {
        let files = files.clone();
        async move {
            let mut written = Vec::new();
            let mut number = 0;
            while Instant::now() < end {
                number += 1;
                let (path, seed) = (format!("/soak/{writer}/{number}"), writer * 1_000 + number);
                let bytes = (seed * 977_777) % 4_000_000;
                write(&files, &path, seed, bytes, options(3)).await;
                written.push((path, seed, bytes));
                let (path, seed, bytes) = &written[written.len() / 2];
                verify(&files, path, *seed, *bytes).await;
            }
            written
        }
    }));
    let kills = async {
        let mut killed = 0;
        let dir = cluster.dir.path().display().to_string();
        let mut pids = cluster.executors.clone();
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let pid = pids.remove(0);
            cluster.signal(pid, "-9");
            killed += 1;
            let added = tokio::task::block_in_place(|| {
                let mut add = windlass(&["cluster", "add", "--slots", "1", "--dir", &dir, "--json"]);
                add.env("WINDLASS_CONFIG", cluster.dir.path().join("config.toml"));
                succeed(add)
            });
            let added: serde_json::Value = serde_json::from_str(&added).expect("the executor is described");
            let newest = added["executors"].as_array().and_then(|all| all.last()).and_then(|e| e["pid"].as_u64());
            pids.push(newest.expect("it has a pid"));
            // Replicas are made again before the next executor dies: at most one holder is lost at a time.
            healthy_enough(&files).await;
        }
        killed
    };
    let (written, killed) = tokio::join!(writers, kills);
    healthy(&files).await;
    let written: Vec<_> = written.into_iter().flatten().collect();
    for (path, seed, bytes) in &written {
        verify(&files, path, *seed, *bytes).await;
    }
    let health = files.health("/", 0).await.expect("there is a report");
    println!(
        "soak: {} files, {killed} executors killed, {} copies, 0 wrong or lost bytes",
        written.len(),
        health.copied
    );
    assert!(written.len() > 10 && killed > 1);
    assert_eq!(health.damaged + health.missing, 0);
}

/// Waits until no block is down to one replica.
async fn healthy_enough(files: &Wfs) {
    until("no block has a single replica", async || {
        let health = files.health("/", 1_000).await.expect("there is a report");
        health.troubled.iter().all(|block| block.replicas > 1)
    })
    .await;
}
