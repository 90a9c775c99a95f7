//! Coded files: read whole and in parts, through lost pieces, and during recoding.

use super::faults::{healthy, options, quick, text, until, verify, write};
use crate::cluster::{run, succeed, windlass};
use futures::TryStreamExt;
use windlass_client::wfs::{self, Wfs, WriteOptions};
use windlass_proto::v1;

/// Checks random parts of the file.
async fn verify_parts(files: &Wfs, path: &str, seed: u64, bytes: u64) {
    for part in 0..40 {
        let start = (part * 0x9e37_79b9) % bytes;
        let end = (start + 1 + (part * 77_777) % 3_000_000).min(bytes);
        let located = files.locate(path, start..end).await.expect("the file is there");
        let read: Vec<bytes::Bytes> = wfs::read(files, located, start..end).try_collect().await.expect("it is read");
        assert!(read.concat() == text(seed, start, (end - start) as usize), "{path} has other bytes in {start}..{end}");
    }
}

fn coding(entry: &v1::FileEntry) -> &str {
    match &entry.detail {
        Some(v1::file_entry::Detail::File(file)) => &file.coding,
        _ => panic!("{} is a folder", entry.path),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cold_files_are_read_through_lost_pieces() {
    let cluster = quick("7", "code_after = \"0s\"");
    let session = cluster.session().await;
    let files = session.files();
    let fs = |arguments: &[&str]| succeed(windlass(&[&["fs"], arguments, &["--url", &cluster.url]].concat()));
    let block_bytes = Some(4 << 20);
    let bytes = 21_234_567;
    write(&files, "/cold/f", 1, bytes, WriteOptions { block_bytes, ..options(3) }).await;
    write(&files, "/cold/small", 2, 1_000, options(3)).await;
    let said = fs(&["policy", "-w", "/cold", "rs-3-2"]);
    assert_eq!(said, "/cold: rs-3-2; files kept so: 1, others: 1\n");
    assert_eq!(fs(&["policy", "/cold/f"]), "/cold/f: rs-3-2 as /cold has it; files kept so: 1, others: 0\n");
    assert_eq!(coding(&files.stat("/cold/f").await.expect("it is there")), "rs-3-2");
    assert!(fs(&["ls", "/cold"]).contains("rs-3-2"));
    let folder = files.stat("/cold").await.expect("it is there").folder().cloned().expect("a folder");
    let overhead = folder.replicated_bytes as f64 / folder.bytes as f64;
    assert!(overhead < 1.67, "{overhead}");
    // Except for the replicas of the small file, which lie in packs.
    let on_disks = || (0..7).map(|executor| cluster.replicas(executor, ".block").len()).sum::<usize>();
    until("the former replicas are gone", async || on_disks() == 6 * 5).await;
    verify(&files, "/cold/f", 1, bytes).await;
    verify_parts(&files, "/cold/f", 1, bytes).await;

    // A byte on a disk is changed: the damaged piece is not used, and is computed again.
    for executor in 0..7 {
        let Some(path) = cluster.replicas(executor, ".block").into_iter().next() else { continue };
        let mut stored = std::fs::read(&path).expect("the piece is there");
        let middle = stored.len() / 2;
        stored[middle] ^= 0x10;
        std::fs::write(&path, stored).expect("a byte can be flipped");
        verify(&files, "/cold/f", 1, bytes).await;
        fs(&["fsck", "--verify", "/cold"]);
        let made = executor as u64 + 1;
        until("it is made again", async || files.health("/", 0).await.expect("a report").copied >= made).await;
        healthy(&files).await;
    }

    // A hanging executor is not waited for, neither for its own pieces nor for those that help to compute others.
    cluster.signal(cluster.executors[0], "-STOP");
    verify(&files, "/cold/f", 1, bytes).await;
    cluster.signal(cluster.executors[0], "-CONT");
    healthy(&files).await;

    // Kills the maximum number of executors that the code tolerates.
    for pid in &cluster.executors[..2] {
        cluster.signal(*pid, "-9");
    }
    verify(&files, "/cold/f", 1, bytes).await;
    verify_parts(&files, "/cold/f", 1, bytes).await;
    healthy(&files).await;
    assert!(on_disks() >= 6 * 5);
    // A query reads coded files like any others.
    let csv = cluster.dir.path().join("t.csv");
    let rows: String = (0..200_000).map(|row| format!("{row},{}\n", row % 7)).collect();
    std::fs::write(&csv, format!("a,b\n{rows}")).expect("a file is written");
    fs(&["put", &csv.display().to_string(), "/cold/t/t.csv"]);
    fs(&["policy", "-w", "/cold", "rs-3-2"]);
    assert_eq!(coding(&files.stat("/cold/t/t.csv").await.expect("it is there")), "rs-3-2");
    cluster.signal(cluster.executors[2], "-9");
    let sql = "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'wfs:///cold/t/' OPTIONS ('format.has_header' 'true'); \
               SELECT b, count(*) AS n, sum(a) AS s FROM t GROUP BY b ORDER BY b LIMIT 1";
    let answer = succeed(windlass(&["sql", "--url", &cluster.url, "--format", "csv", "-e", sql]));
    assert!(answer.contains("0,28572,"), "{answer}");

    // The files become whole again. Four executors are left, too few for the code.
    fs(&["policy", "-w", "/cold", "replicate"]);
    assert_eq!(coding(&files.stat("/cold/f").await.expect("it is there")), "");
    healthy(&files).await;
    verify(&files, "/cold/f", 1, bytes).await;
    fs(&["policy", "/cold", "rs-6-3"]);
    let waiting = run(windlass(&["fs", "policy", "-w", "/cold", "rs-6-3", "--url", &cluster.url]));
    assert!(waiting.expect_err("it would wait for ever").contains("rs-6-3 takes 9 executors, and 4 are there"));
    let report: serde_json::Value = serde_json::from_str(&fs(&["report", "--json"])).expect("a report");
    assert_eq!(report["to_recode"], 2, "nine executors are not there: {report}");
    assert_eq!(fs(&["policy", "/cold", "inherit"]), "/cold: replicate as / has it; files kept so: 3, others: 0\n");

    let refused = |arguments: &[&str]| run(windlass(&[&["fs"], arguments, &["--url", &cluster.url]].concat()));
    assert!(
        refused(&["policy", "/cold", "rs-9-9"])
            .expect_err("no such code")
            .contains("there are replicate, rs-3-2, rs-6-3")
    );
    assert!(refused(&["policy", "/cold/f", "rs-3-2"]).expect_err("a file").contains("/cold/f is a file"));
}

#[tokio::test(flavor = "multi_thread")]
async fn six_and_three_pieces_do_without_any_three() {
    let cluster = quick("9", "code_after = \"0s\"");
    let session = cluster.session().await;
    let files = session.files();
    let block_bytes = Some(6 << 20);
    let bytes = 23_456_789;
    write(&files, "/cold/f", 1, bytes, WriteOptions { block_bytes, ..options(3) }).await;
    succeed(windlass(&["fs", "policy", "-w", "/cold", "rs-6-3", "--url", &cluster.url]));
    assert_eq!(coding(&files.stat("/cold/f").await.expect("it is there")), "rs-6-3");
    let on_disks = || (0..9).map(|executor| cluster.replicas(executor, ".block").len()).collect::<Vec<_>>();
    until("each has one piece of each block", async || on_disks() == [4; 9]).await;
    verify(&files, "/cold/f", 1, bytes).await;
    for pid in &cluster.executors[3..6] {
        cluster.signal(*pid, "-9");
    }
    verify(&files, "/cold/f", 1, bytes).await;
    verify_parts(&files, "/cold/f", 1, bytes).await;
    until("they are missed", async || files.health("/", 0).await.expect("a report").members.len() == 6).await;
    let fsck = succeed(windlass(&["fs", "fsck", "/cold", "--url", &cluster.url]));
    assert!(fsck.contains("under-replicated") && fsck.contains("healthy"), "{fsck}");
    let started: Vec<_> = (0..3)
        .map(|number| {
            let name = format!("new-{number}");
            cluster.executor(&name, &cluster.dir.path().join(&name), "config.toml")
        })
        .collect();
    healthy(&files).await;
    assert_eq!(files.health("/", 0).await.expect("a report").copied, 3 * 4);
    // Computed pieces are as good as written ones: three of the others are lost next.
    for pid in &cluster.executors[..3] {
        cluster.signal(*pid, "-9");
    }
    verify(&files, "/cold/f", 1, bytes).await;
    drop(started);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_files_are_cut_up() {
    let cluster = quick("7", "code_after = \"0s\"");
    let session = cluster.session().await;
    let files = session.files();
    let bytes = 12_345_678;
    for file in 0..12 {
        write(&files, &format!("/cold/{file}"), file, bytes, options(3)).await;
    }
    // The read begins before the recoding and ends after it.
    let located = files.locate("/cold/0", 0..u64::MAX).await.expect("the file is there");
    let mut reading = wfs::read(&files, located, 0..bytes);
    let first = reading.try_next().await.expect("it can be read").expect("there is more");
    let policy = v1::SetPolicyRequest { path: "/cold".into(), policy: Some("rs-3-2".into()) };
    files.act(v1::file_request::Ask::SetPolicy(policy)).await.expect("it is set");
    // An executor that recodes or receives pieces dies, and so does the primary that ordered it.
    until("it has begun", async || files.health("/", 0).await.expect("a report").recoding > 0).await;
    cluster.signal(cluster.executors[3], "-9");
    let _primary = cluster.primary_again();
    healthy(&files).await;
    until("all is cut up, and nothing else is left", async || {
        let on_disks: usize = (0..7).map(|executor| cluster.replicas(executor, ".block").len()).sum();
        // One executor is gone with its replicas.
        let gone = cluster.replicas(3, ".block").len();
        let listed = files.list("/cold", false, None, 100).await.expect("it is listed");
        listed.iter().all(|entry| coding(entry) == "rs-3-2") && on_disks - gone == 12 * 12 * 5
    })
    .await;
    for file in 0..12 {
        verify(&files, &format!("/cold/{file}"), file, bytes).await;
    }
    let mut at = first.len() as u64;
    while let Some(part) = reading.try_next().await.expect("it goes on where the blocks are now") {
        assert!(part == text(0, at, part.len()), "other bytes from {at} on");
        at += part.len() as u64;
    }
    assert_eq!(at, bytes);
}
