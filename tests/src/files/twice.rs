//! Requests that are sent twice, files that are replaced during a read, and leftovers of a killed cluster.

use super::faults::{options, quick, text, verify, write};
use super::shell::fs_command;
use crate::cluster::{Processes, run, succeed, windlass};
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use windlass_client::wfs::WriteOptions;
use windlass_proto::v1;
use windlass_proto::v1::file_reply::Reply;
use windlass_proto::v1::file_request::Ask;
use windlass_proto::v1::files_client::FilesClient;

async fn ask(cluster: &Processes, name: &'static [u8; 16], ask: Ask) -> Reply {
    let url = cluster.url.replace("grpc://", "http://");
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        let request = v1::FileRequest { near: None, ask: Some(ask.clone()), name: name.as_slice().into() };
        if let Ok(mut files) = FilesClient::connect(url.clone()).await
            && let Ok(reply) = files.ask(request).await
        {
            return reply.into_inner().reply.expect("it is answered");
        }
        assert!(Instant::now() < patience, "the primary does not answer");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_again_happens_once_whoever_leads() {
    let cluster = quick("2", "");
    let session = cluster.session().await;
    let files = session.files();
    let delete = Ask::Delete(v1::DeleteRequest { path: "/x".into(), ..v1::DeleteRequest::default() });
    let rename = Ask::Rename(v1::RenameRequest {
        from: "/a".into(),
        to: "/b".into(),
        overwrite: true,
        ..v1::RenameRequest::default()
    });
    for path in ["/x", "/a", "/b"] {
        write(&files, path, 1, 1_000, options(2)).await;
    }
    assert!(matches!(ask(&cluster, b"remove 123456789", delete.clone()).await, Reply::Done(_)));
    assert!(matches!(ask(&cluster, b"rename 123456789", rename.clone()).await, Reply::Entry(_)));
    // Their answers are lost; meanwhile others write the paths that they removed and moved.
    for path in ["/x", "/a", "/b"] {
        write(&files, path, 2, 2_000, options(2)).await;
    }
    let again = async || {
        assert!(matches!(ask(&cluster, b"remove 123456789", delete.clone()).await, Reply::Done(_)));
        let renamed = ask(&cluster, b"rename 123456789", rename.clone()).await;
        assert!(matches!(&renamed, Reply::Entry(entry) if entry.path == "/b"), "{renamed:?}");
        for path in ["/x", "/a", "/b"] {
            verify(&files, path, 2, 2_000).await;
        }
    };
    again().await;
    let _primary = cluster.primary_again();
    again().await;
    // Under another name it is another request.
    assert!(matches!(ask(&cluster, b"remove abcdefghi", delete).await, Reply::Done(_)));
    assert!(files.stat("/x").await.is_err());
}

/// Versions of a file, each with its seed and its length.
const VERSIONS: [(u64, u64); 3] = [(3, 800_000), (4, 3_000_000), (5, 1_700_001)];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_copied_while_it_is_replaced_is_one_version_and_whole() {
    let cluster = Arc::new(quick("3", ""));
    let session = cluster.session().await;
    let files = session.files();
    let (seed, bytes) = VERSIONS[0];
    write(&files, "/f", seed, bytes, options(2)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let replacing = tokio::spawn({
        let (files, stop) = (files.clone(), Arc::clone(&stop));
        async move {
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                let (seed, bytes) = VERSIONS[written % VERSIONS.len()];
                write(&files, "/f", seed, bytes, options(2)).await;
                written += 1;
            }
            written
        }
    });
    let versions: Vec<_> = VERSIONS.iter().map(|(seed, bytes)| text(*seed, 0, *bytes as usize)).collect();
    let local = tempfile::tempdir().expect("a folder can be made");
    let at = local.path().join("f").display().to_string();
    for round in 0..15 {
        let copied = format!("/copy/{round}");
        let outcomes = [
            fs_command(&cluster, &["get", "-f", "/f", &at]).map(|_| std::fs::read(&at).expect("it is there")),
            fs_command(&cluster, &["cp", "/f", &copied]).map(|_| Vec::new()),
        ];
        for read in outcomes {
            match read {
                Ok(read) => {
                    assert!(read.is_empty() || versions.iter().any(|version| *version == read), "{}", read.len())
                }
                Err(error) => assert!(error.contains("written again"), "{error}"),
            }
        }
        if let Ok(entry) = files.stat(&copied).await {
            let bytes = entry.file_bytes().expect("it is a file");
            let (seed, _) = VERSIONS.iter().find(|version| version.1 == bytes).expect("it is as long as a version");
            verify(&files, &copied, *seed, bytes).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    assert!(replacing.await.expect("it goes on") > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_reads_one_version_of_a_file_that_is_replaced() {
    let cluster = quick("3", "");
    let session = cluster.session().await;
    let local = tempfile::tempdir().expect("a folder can be made");
    // Version k has k thousand rows with the value k.
    let versions: Vec<(String, String)> = (1..=4u64)
        .map(|k| {
            let [csv, parquet] = ["csv", "parquet"].map(|ending| local.path().join(format!("{k}.{ending}")));
            let rows = format!("SELECT {k} AS k FROM generate_series(1, {})", k * 20_000);
            let copy =
                |to: &std::path::Path, format: &str| format!("COPY ({rows}) TO '{}' STORED AS {format}", to.display());
            let copies = format!("{}; {}", copy(&csv, "CSV"), copy(&parquet, "PARQUET"));
            succeed(windlass(&["sql", "-e", &copies]));
            (csv.display().to_string(), parquet.display().to_string())
        })
        .collect();
    let put = |k: usize| {
        let (csv, parquet) = &versions[k];
        fs_command(&cluster, &["put", "-f", csv, "/c/t.csv"]).expect("it is put");
        fs_command(&cluster, &["put", "-f", parquet, "/p/t.parquet"]).expect("it is put");
    };
    put(0);
    for (name, format, options) in [("c", "CSV", " OPTIONS ('format.has_header' 'true')"), ("p", "PARQUET", "")] {
        let create = format!("CREATE EXTERNAL TABLE {name} STORED AS {format} LOCATION 'wfs:///{name}/'{options}");
        cluster.sql(&[&create]).expect("the table is made");
    }
    let stop = AtomicBool::new(false);
    let mut seen = BTreeSet::new();
    std::thread::scope(|scope| {
        let replacing = scope.spawn(|| {
            let mut at = 0;
            while !stop.load(Ordering::Relaxed) {
                at = (at + 1) % versions.len();
                put(at);
            }
        });
        let staged = ["SET windlass.small_query_bytes = 0", "SET datafusion.optimizer.repartition_file_min_size = 1"];
        for round in 0..40 {
            let table = ["c", "p"][round % 2];
            let query = format!("SELECT count(*) AS n, min(k) AS a, max(k) AS b, sum(k) AS s FROM {table} WHERE k > 0");
            match cluster.sql(&[staged[0], staged[1], &query]) {
                Ok(answer) => {
                    let row: Vec<u64> = answer
                        .trim()
                        .lines()
                        .last()
                        .expect("a row")
                        .split(',')
                        .map(|n| n.parse().expect("a number"))
                        .collect();
                    let k = row[1];
                    assert_eq!(row, [k * 20_000, k, k, k * k * 20_000], "{table} is a mixture");
                    seen.insert(k);
                }
                Err(error) => assert!(error.contains("written again"), "{error}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
        replacing.join().expect("it goes on");
    });
    session.close().await.expect("it ends");
    assert!(seen.len() > 1, "{seen:?}");
}

#[test]
fn a_cluster_whose_primary_was_killed_comes_up_again_in_its_folder() {
    let cluster = Processes::of(["2", "1", "512MiB"]);
    cluster.sql(&["CREATE TABLE kept AS SELECT 7 AS a"]).expect("a table is made");
    cluster.signal(cluster.primary().into(), "-9");
    crate::cluster::wait_until_gone(cluster.primary());
    let at = cluster.dir.path().display().to_string();
    let up = ["cluster", "up", "--executors", "2", "--slots", "1", "--memory", "512MiB", "--dir", &at, "--json"];
    let described: serde_json::Value = serde_json::from_str(&succeed(windlass(&up))).expect("it is described");
    let url = described["url"].as_str().expect("it has an address");
    let answer = succeed(windlass(&["sql", "--format", "csv", "--url", url, "-e", "SELECT a FROM kept"]));
    assert_eq!(answer, "a\n7\n");
    assert!(run(windlass(&up)).expect_err("it runs").contains("already"));
}

#[test]
fn an_embedded_process_that_is_asked_to_end_leaves_nothing() {
    let temporary = tempfile::tempdir().expect("a folder can be made");
    let folders = || std::fs::read_dir(temporary.path()).expect("it is there").count();
    let start = || {
        let mut command = windlass(&["sql", "-e", "SELECT count(*) FROM generate_series(1, 100000000000)"]);
        command.env("TMPDIR", temporary.path()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("it starts")
    };
    let begun = |count: usize| {
        let patience = Instant::now() + Duration::from_secs(30);
        while folders() < count {
            assert!(Instant::now() < patience, "no folder is made");
            std::thread::sleep(Duration::from_millis(50));
        }
        // Time to get into the statement.
        std::thread::sleep(Duration::from_millis(500));
    };
    for signal in ["-TERM", "-KILL"] {
        let mut child = start();
        begun(1);
        let mut kill = Command::new("kill");
        kill.args([signal, &child.id().to_string()]);
        succeed(kill);
        child.wait().expect("it ends");
        assert_eq!(folders(), usize::from(signal == "-KILL"), "{signal}");
    }
    // The next cluster removes the leftovers of the killed one, and then its own.
    let mut next = windlass(&["sql", "-e", "SELECT 1"]);
    next.env("TMPDIR", temporary.path());
    succeed(next);
    assert_eq!(folders(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_became_longer_are_kept_when_their_executors_start_again() {
    let cluster = quick("3", "");
    let session = cluster.session().await;
    let files = session.files();
    let bytes = 3_300_000;
    write(&files, "/f", 1, bytes, WriteOptions { block_bytes: Some(1 << 20), ..options(3) }).await;
    // Two of three replicas of each block have grown, within their last 64 KiB and beyond them.
    for (executor, more) in [(0, 5), (1, 200_000)] {
        for path in cluster.replicas(executor, ".block") {
            let mut stored = std::fs::read(&path).expect("the replica is there");
            stored.extend(std::iter::repeat_n(7, more));
            std::fs::write(&path, stored).expect("it can be written");
        }
    }
    verify(&files, "/f", 1, bytes).await;
    for pid in &cluster.executors {
        cluster.signal(*pid, "-9");
    }
    // The third replica is empty.
    for path in cluster.replicas(2, ".block") {
        std::fs::write(path, "").expect("it can be written");
    }
    let mut children = Vec::new();
    for number in 1..=3 {
        let dir = cluster.dir.path().join(format!("executor-{number}"));
        let data = [dir.join("data"), dir.clone()].into_iter().find(|dir| dir.join("blocks").exists());
        let data = data.expect("the executor has a folder");
        children.push(cluster.executor(&format!("again-{number}"), &data, "config.toml"));
    }
    super::faults::healthy(&files).await;
    verify(&files, "/f", 1, bytes).await;
    let lengths: BTreeSet<u64> = (0..3)
        .flat_map(|executor| cluster.replicas(executor, ".block"))
        .map(|path| std::fs::metadata(path).expect("it is there").len())
        .collect();
    assert_eq!(lengths, BTreeSet::from([1 << 20, bytes % (1 << 20)]));
}
