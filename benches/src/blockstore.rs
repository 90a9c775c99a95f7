//! `wfs://` against the bare disk and the bare network of the same machine, in alternating rounds: `make bench`, or
//! `windlass-bench blockstore`.
//!
//! Clusters are processes of the `windlass` binary beside this one, with their folders under the given one. Ratios are medians over rounds. Every round writes
//! new files, and none is removed before the end: in a virtual machine, a file in recently used memory pages is written several times as fast as one in fresh
//! pages.

use bytes::Bytes;
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use windlass_client::wfs::{self, FileWriter, Wfs, WriteOptions};
use windlass_client::{Client, EmbeddedOptions, Session};
use windlass_proto::v1;
use windlass_proto::v1::file_request::Ask;

#[derive(Args)]
pub struct Options {
    /// Folder of the clusters and the plain files.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Size of the file that is written and read.
    #[arg(long, default_value_t = 512)]
    mebibytes: u64,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Files in the largest namespace.
    #[arg(long, default_value_t = 1_000_000)]
    files: usize,
}

const PART: usize = 4 << 20;
/// Reads in each round of a cached local file, and of one on another executor.
const READS: u32 = 16;
const FAR_READS: u32 = 8;

pub fn run(options: &Options) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be built");
    runtime.block_on(async {
        throughput(options).await;
        coded(options).await;
        names(options).await;
    });
}

struct Cluster {
    dir: PathBuf,
    url: String,
    executors: Vec<u64>,
}

impl Cluster {
    fn start(dir: PathBuf, executors: &str, config: &str) -> Cluster {
        let at = dir.display().to_string();
        let up = ["cluster", "up", "--executors", executors, "--slots", "1", "--memory", "1GiB", "--json", "--dir"];
        std::fs::create_dir_all(&dir).expect("a folder can be made");
        let settings = dir.join("settings.toml");
        std::fs::write(&settings, config).expect("the configuration is written");
        let mut command = windlass();
        let output = command.args(up).arg(&at).env("WINDLASS_CONFIG", &settings).output().expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let up: serde_json::Value = serde_json::from_slice(&output.stdout).expect("the cluster is described");
        let executors = up["executors"].as_array().expect("it has executors");
        let executors = executors.iter().map(|executor| executor["pid"].as_u64().expect("each has a pid")).collect();
        Cluster { dir, url: up["url"].as_str().expect("it has an address").to_owned(), executors }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = windlass().args(["cluster", "down", "--dir"]).arg(&self.dir).output();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn windlass() -> Command {
    let beside = std::env::current_exe().ok().and_then(|bench| Some(bench.parent()?.join("windlass")));
    let mut command = Command::new(beside.expect("this program has a folder"));
    command.env_remove("WINDLASS_URL").env_remove("WINDLASS_CONFIG");
    command
}

fn part(seed: u64) -> Bytes {
    let mut at = seed;
    let mut next = || {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (at >> 33).to_le_bytes()
    };
    (0..PART / 8).flat_map(|_| next()).collect::<Vec<u8>>().into()
}

/// Runs something and returns its result and its seconds.
async fn timed<T>(what: impl Future<Output = T>) -> (f64, T) {
    let start = Instant::now();
    let done = what.await;
    (start.elapsed().as_secs_f64(), done)
}

async fn write(files: &Wfs, path: &str, part: &Bytes, bytes: u64, replication: u32) {
    let options = WriteOptions { replication: Some(replication), ..WriteOptions::default() };
    let mut writer = FileWriter::create(files, path, options).await.expect("a file begins");
    for _ in 0..bytes / PART as u64 {
        writer.write(part.clone()).await.expect("bytes are taken");
    }
    writer.finish().await.expect("the file is complete");
}

async fn read(files: &Wfs, path: &str, bytes: u64) {
    let located = files.locate(path, 0..bytes).await.expect("the file is there");
    let read = wfs::read(files, located, 0..bytes);
    let count = read.try_fold(0, |sum, part| async move { Ok(sum + part.len() as u64) }).await.expect("it is read");
    assert_eq!(count, bytes);
}

fn plain_write(path: &Path, part: &Bytes, bytes: u64) {
    let mut file = File::create(path).expect("a file can be made");
    for _ in 0..bytes / PART as u64 {
        file.write_all(part).expect("the disk takes it");
    }
    file.sync_all().expect("the disk keeps it");
}

/// Reads a file like a program that uses it: each byte is looked at once.
fn plain_read(path: &Path, bytes: u64) {
    let mut file = File::open(path).expect("the file is there");
    let (mut buffer, mut count) = (vec![0; PART], 0);
    loop {
        let read = file.read(&mut buffer).expect("it is read");
        if read == 0 {
            break;
        }
        count += read as u64;
    }
    assert_eq!(count, bytes);
}

/// Sends bytes from one task to another over a socket of this machine.
async fn loopback(part: &Bytes, bytes: u64) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    let part = part.clone();
    let sender = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("it connects");
        for _ in 0..bytes / PART as u64 {
            socket.write_all(&part).await.expect("it is sent");
        }
    });
    let mut socket = tokio::net::TcpStream::connect(address).await.expect("it connects");
    let (mut buffer, mut count) = (vec![0; 1 << 20], 0);
    while count < bytes {
        count += socket.read(&mut buffer).await.expect("it comes") as u64;
    }
    sender.await.expect("all was sent");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn throughput(options: &Options) {
    let bytes = options.mebibytes << 20;
    let home = options.dir.join(format!("windlass-blockstore-{}", std::process::id()));
    std::fs::create_dir_all(&home).expect("a folder can be made");
    let cluster = Cluster::start(home.join("cluster"), "2", "");
    let remote: Session = Client::connect(&cluster.url).await.expect("the cluster answers");
    let embedded = EmbeddedOptions { dir: Some(home.join("embedded")), ..EmbeddedOptions::default() };
    let embedded = Client::embedded(embedded).await.expect("an embedded cluster starts");
    let (far, near) = (remote.files(), embedded.files());
    let part = part(7);
    let mut rows: Vec<(&str, &str, Vec<f64>, Vec<f64>)> = vec![
        ("write, 1 replica", "plain file with fsync", vec![], vec![]),
        ("write, 2 replicas", "plain file with fsync", vec![], vec![]),
        ("read, local", "plain file", vec![], vec![]),
        ("read, remote", "loopback socket", vec![], vec![]),
        ("repair, 1 to 2 replicas", "plain copy with fsync", vec![], vec![]),
    ];
    write(&near, "/local", &part, bytes, 1).await;
    for round in 0..options.rounds {
        let plain = home.join(format!("plain-{round}"));
        let (one, two) = (format!("/one/{round}"), format!("/two/{round}"));
        let (of_plain, ()) = timed(async { plain_write(&plain, &part, bytes) }).await;
        let (of_one, ()) = timed(write(&far, &one, &part, bytes, 1)).await;
        let (of_two, ()) = timed(write(&far, &two, &part, bytes, 2)).await;
        rows[0].2.push(of_one);
        rows[0].3.push(of_plain);
        rows[1].2.push(of_two);
        rows[1].3.push(of_plain);
        // A plain read takes some 20 ms, one through a socket some 200, and times vary much: so they alternate, many times.
        let (mut of_plain, mut of_local) = (0.0, 0.0);
        for _ in 0..READS {
            of_plain += timed(async { plain_read(&plain, bytes) }).await.0;
            of_local += timed(read(&near, "/local", bytes)).await.0;
        }
        rows[2].2.push(of_local / f64::from(READS));
        rows[2].3.push(of_plain / f64::from(READS));
        let (mut of_socket, mut of_remote) = (0.0, 0.0);
        for _ in 0..FAR_READS {
            of_socket += timed(loopback(&part, bytes)).await.0;
            of_remote += timed(read(&far, &one, bytes)).await.0;
        }
        rows[3].2.push(of_remote / f64::from(FAR_READS));
        rows[3].3.push(of_socket / f64::from(FAR_READS));
        let copy = async {
            let to = home.join(format!("copy-{round}"));
            std::fs::copy(&plain, &to).expect("it is copied");
            File::open(&to).and_then(|copy| copy.sync_all()).expect("the disk keeps it");
        };
        let (of_copy, ()) = timed(copy).await;
        let repair = async {
            let more = v1::SetReplicationRequest { path: one.clone(), replication: 2 };
            far.entry(Ask::SetReplication(more)).await.expect("more are wanted");
            while !far.health(&one, 1).await.expect("a report").troubled.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let (of_repair, ()) = timed(repair).await;
        rows[4].2.push(of_repair);
        rows[4].3.push(of_copy);
    }
    let rate = |seconds: f64| options.mebibytes as f64 / seconds;
    println!("{:<26} {:>9}   {:<24} {:>9} {:>7}", "MiB/s", "wfs", "against", "", "ratio");
    for (name, against, ours, theirs) in rows {
        let ratio = median(ours.iter().zip(&theirs).map(|(ours, theirs)| theirs / ours).collect());
        let (ours, theirs) = (rate(median(ours)), rate(median(theirs)));
        println!("{name:<26} {ours:>9.0}   {against:<24} {theirs:>9.0} {ratio:>7.2}");
    }
    embedded.close().await.expect("it ends");
    drop(cluster);
    let _ = std::fs::remove_dir_all(&home);
}

/// Measures coded files against whole ones: read in alternating rounds, and with the maximum number of executors lost.
async fn coded(options: &Options) {
    let bytes = (options.mebibytes / 2) << 20;
    let home = options.dir.join(format!("windlass-coded-{}", std::process::id()));
    let config = "[files]\ncode_after = \"0s\"\nrepair_after = \"1h\"\n[executor]\nrepair_rate = \"0B\"\n";
    let cluster = Cluster::start(home.clone(), "7", config);
    let session: Session = Client::connect(&cluster.url).await.expect("the cluster answers");
    let files = session.files();
    let part = part(8);
    write(&files, "/whole/file", &part, bytes, 3).await;
    write(&files, "/cold/file", &part, bytes, 3).await;
    let policy = v1::SetPolicyRequest { path: "/cold".into(), policy: Some("rs-3-2".into()) };
    let recode = async {
        files.act(Ask::SetPolicy(policy)).await.expect("it is set");
        loop {
            let health = files.health("/", 0).await.expect("a report");
            if health.recoding + health.to_recode == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (of_recode, ()) = timed(recode).await;
    let compare = async |rounds: usize| {
        let (mut ours, mut theirs) = (vec![], vec![]);
        for _ in 0..rounds {
            theirs.push(timed(read(&files, "/whole/file", bytes)).await.0);
            ours.push(timed(read(&files, "/cold/file", bytes)).await.0);
        }
        let ratio = median(ours.iter().zip(&theirs).map(|(ours, theirs)| theirs / ours).collect());
        (median(ours), median(theirs), ratio)
    };
    let whole = compare(options.rounds).await;
    // Two executors that hold pieces of the file, and not only data pieces.
    for pid in &cluster.executors[..2] {
        let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
        assert!(killed.is_ok_and(|status| status.success()), "the executor can be killed");
    }
    while files.health("/", 0).await.expect("a report").members.len() > 5 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let degraded = compare(options.rounds).await;
    let rate = |seconds: f64| (bytes >> 20) as f64 / seconds;
    println!();
    println!("{:<26} {:>9}   {:<24} {:>9} {:>7}", "MiB/s", "rs-3-2", "against", "", "ratio");
    println!("{:<26} {:>9.0}", "cut into pieces", rate(of_recode));
    for (name, (ours, theirs, ratio)) in [("read", whole), ("read, 2 of 7 lost", degraded)] {
        println!("{name:<26} {:>9.0}   {:<24} {:>9.0} {ratio:>7.2}", rate(ours), "3 replicas", rate(theirs));
    }
    drop(cluster);
}

/// Resident memory of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Measures the namespace of an embedded cluster, in redb: 64 requests at a time.
async fn names(options: &Options) {
    println!();
    println!(
        "{:>10} {:>10} {:>12} {:>10} {:>10} {:>10} {:>12} {:>12}",
        "files", "create/s", "with 1 KiB/s", "stat/s", "rename/s", "list, ms", "bytes/file", "start, ms"
    );
    for files in [10_000, 100_000, 1_000_000].into_iter().filter(|files| *files <= options.files) {
        let home = options.dir.join(format!("windlass-names-{}-{files}", std::process::id()));
        let open = || Client::embedded(EmbeddedOptions { dir: Some(home.clone()), ..EmbeddedOptions::default() });
        let session = open().await.expect("an embedded cluster starts");
        let wfs = session.files();
        let before = resident();
        let path = |at: usize| format!("/folder-{}/file-{at:07}", at / 100_000);
        let (created, ()) = timed(each(files, async |at| {
            let writer = FileWriter::create(&wfs, &path(at), WriteOptions::new_file()).await.expect("a file begins");
            writer.finish().await.expect("the file is complete");
        }))
        .await;
        let memory = resident().saturating_sub(before) / files as u64;
        let some = files.min(20_000);
        let content = part(9).slice(..1_024);
        let (with_content, ()) = timed(each(some, async |at| {
            let path = format!("/small/{at:07}");
            let mut writer = FileWriter::create(&wfs, &path, WriteOptions::new_file()).await.expect("a file begins");
            writer.write(content.clone()).await.expect("bytes are taken");
            writer.finish().await.expect("the file is complete");
        }))
        .await;
        let (stated, ()) = timed(each(some, async |at| _ = wfs.stat(&path(at)).await.expect("it is there"))).await;
        let (renamed, ()) = timed(each(some, async |at| {
            let (from, to) = (path(at), format!("{}-new", path(at)));
            let rename = v1::RenameRequest { from, to, overwrite: false, parents: false, prune: false };
            wfs.act(Ask::Rename(rename)).await.expect("it is renamed");
        }))
        .await;
        let (listed, count) = timed(async {
            let (mut count, mut after) = (0, None);
            loop {
                let page = wfs.list("/folder-0", false, after, 10_000).await.expect("it is listed");
                count += page.len();
                match page.last() {
                    Some(last) if page.len() == 10_000 => after = Some(last.path.clone()),
                    _ => return count,
                }
            }
        })
        .await;
        assert_eq!(count, files.min(100_000));
        session.close().await.expect("it ends");
        drop(wfs);
        let (started, session) = timed(open()).await;
        let session = session.expect("it starts again");
        session.files().stat(&format!("{}-new", path(0))).await.expect("it is still there");
        session.close().await.expect("it ends");
        println!(
            "{files:>10} {:>10.0} {:>12.0} {:>10.0} {:>10.0} {:>10.0} {memory:>12} {:>12.0}",
            files as f64 / created,
            some as f64 / with_content,
            some as f64 / stated,
            some as f64 / renamed,
            listed * 1e3,
            started * 1e3,
        );
        let _ = std::fs::remove_dir_all(&home);
    }
}

async fn each<F: AsyncFn(usize)>(count: usize, operation: F) {
    stream::iter(0..count).map(|at| operation(at)).buffer_unordered(64).for_each(|()| async {}).await;
}
