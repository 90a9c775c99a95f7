//! Each row once or not at all, whoever dies, and nothing is left.

use super::*;
use crate::cluster::{Processes, killed, succeed, windlass};
use std::path::Path;
use windlass_client::Client;

const ROWS: &str = "SELECT value AS n, md5(CAST(value AS VARCHAR)) AS pad FROM generate_series(1, 200000)";
const THERE: &str = "200000|20000100000";

fn processes(executors: &str) -> Processes {
    Processes::shaped(tempfile::tempdir().expect("a folder can be made"), [executors, "2", "1GiB"], &[])
}

/// What is in the target.
fn there(server: &Server) -> String {
    let made = server.scripted("SELECT count(*) FROM pg_class WHERE relname = 'target'");
    if made == "0" { "no table".to_owned() } else { server.scripted("SELECT count(*), sum(n) FROM target") }
}

/// An executor that dies while it stages costs time, and no row.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_dies_while_it_stages() {
    let server = &Server::start();
    let cluster = processes("3");
    let session = cluster.session().await;
    for step in 0..2 {
        let load = copy(server, ROWS, "target", ", file_bytes '131072', mode 'replace'");
        let (copied, ()) = tokio::join!(
            async {
                done(&session, &[STAGES]).await;
                sql(&session, &load).await
            },
            async {
                // The mark and some files.
                let enough = || {
                    if server.staged().parse::<u32>().is_ok_and(|count| count > 4) { "yes" } else { "no" }.to_owned()
                };
                crate::asking::until("files are staged", enough, "yes", Duration::from_millis(5)).await;
                killed(cluster.executors[step]);
            }
        );
        assert!(copied.as_ref().is_ok_and(|count| count.contains("200000")), "{copied:?}");
        assert_eq!(there(server), THERE, "step {step}");
        until_nothing_is_left(server).await;
    }
}

/// A primary that dies at any step: all rows or none, and the same load again brings them once.
#[tokio::test(flavor = "multi_thread")]
async fn the_primary_dies_at_any_step() {
    the_primary_dies(false).await;
}

/// What the Data API has begun goes on without the primary.
#[tokio::test(flavor = "multi_thread")]
async fn the_primary_dies_at_any_step_of_the_data_api() {
    the_primary_dies(true).await;
}

async fn the_primary_dies(api: bool) {
    let loaded = "SET state = 'loaded'";
    let server = &Server::start();
    for (hold, is_answered, is_there) in [
        // While the write begins, before COPY and after it.
        (["", "CREATE TABLE \"public\".\"windlass_"], true, false),
        (["", "FORMAT AS PARQUET"], false, false),
        (["FORMAT AS PARQUET", "COMMIT"], true, false),
        // In the transaction that publishes, before its end and after it.
        (["", loaded], false, true),
        ([loaded, "COMMIT"], false, true),
        ([loaded, "COMMIT"], true, true),
    ] {
        let more = if api { over_api(server) } else { String::new() };
        let load = copy(server, ROWS, "target", &format!("{more}, load 'one'"));
        let dir = tempfile::tempdir().expect("a folder can be made");
        let at = dir.path().display().to_string();
        let cluster = Processes::shaped(dir, ["2", "2", "1GiB"], &[]);
        let session = cluster.session().await;
        done(&session, &[STAGES]).await;
        let mut held = server.hold(hold, is_answered);
        let first = load.clone();
        let copied = tokio::spawn(async move { sql(&session, &first).await });
        reached(&mut held).await;
        killed(cluster.primary().into());
        copied.abort();
        // Sessions of the wire have ended with their client.
        held.go_on();
        let up = ["cluster", "up", "--executors", "2", "--slots", "2", "--memory", "1GiB", "--dir", &at, "--json"];
        let described: serde_json::Value = serde_json::from_str(&succeed(windlass(&up))).expect("it is described");
        let url = described["url"].as_str().expect("it has an address").to_owned();
        let session = Client::connect(&url).await.expect("the cluster answers");
        // It ends what the first one began, one way or the other.
        until_nothing_is_left(server).await;
        assert_eq!(there(server), if is_there { THERE } else { "no table" }, "{hold:?}, {is_answered}");
        let again = sql(&session, &load).await;
        match is_there {
            true => {
                assert!(again.expect_err("it is there").contains("is in \"public\".\"target\" already"), "{hold:?}")
            }
            false => assert!(again.as_ref().is_ok_and(|count| count.contains("200000")), "{again:?}"),
        }
        assert_eq!(there(server), THERE, "{hold:?}, {is_answered}");
        nothing_is_left(server, &format!("{hold:?}"));
        server.scripted("DROP TABLE target; DROP TABLE windlass_loads");
    }
}

/// A session that is lost in the middle of the last transaction, or when its end is not heard of, is followed by another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_cancelled_or_loses_its_session() {
    let server = &Server::start();
    let session = embedded().await;
    done(&session, &[STAGES]).await;
    // A statement that is given up leaves nothing.
    let mut held = server.hold(["", "FORMAT AS PARQUET"], false);
    let load = copy(server, ROWS, "target", "");
    tokio::select! {
        ended = sql(&session, &load) => panic!("{ended:?}"),
        () = reached(&mut held) => drop(held),
    }
    until_nothing_is_left(server).await;
    assert_eq!(there(server), "no table");
    // Before the end of the last transaction, and after it: whether it was committed is found out.
    for is_answered in [false, true] {
        for more in [String::new(), over_api(server)] {
            let mut held = server.hold(["SET state = 'loaded'", "COMMIT"], is_answered);
            let load = copy(server, ROWS, "target", &more);
            let (copied, ()) = tokio::join!(sql(&session, &load), async {
                reached(&mut held).await;
                drop(held);
            });
            assert!(copied.as_ref().is_ok_and(|count| count.contains("200000")), "{copied:?}");
            assert_eq!(there(server), THERE, "{is_answered}");
            nothing_is_left(server, "a lost session");
            server.scripted("DROP TABLE target");
        }
    }
}

fn files_below(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("it can be listed").flatten() {
        match entry.path() {
            path if path.is_dir() => files_below(&path, found),
            path => found.push(path),
        }
    }
}

/// Secrets are in no plan, list, log or file of a cluster.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_a_secret() {
    let server = &Server::start();
    let cluster = processes("2");
    let session = cluster.session().await;
    let keys = ", iam_role ''";
    done(&session, &[STAGES, &copy(server, "SELECT 1 AS n", "t", keys), &create(server, "t", "t", keys)]).await;
    done(&session, &["INSERT INTO t VALUES (2)"]).await;
    refused(&session, "INSERT INTO t SELECT 1 / (n - 1) FROM (VALUES (1), (2)) AS v (n)", &["zero"]).await;
    let mut shown = Vec::new();
    for show in ["EXPLAIN VERBOSE INSERT INTO t VALUES (3)", "SHOW CREATE TABLE t", "SHOW ALL"] {
        shown.push(sql(&session, show).await.expect("it is shown"));
    }
    shown.push(
        crate::cluster::run(windlass(&["jobs", "list", "--url", &cluster.url, "--json"])).expect("they are listed"),
    );
    shown.push(server.heard("").join("\n"));
    let mut files = Vec::new();
    files_below(cluster.dir.path(), &mut files);
    assert!(files.iter().any(|file| file.ends_with("primary/log")), "{files:?}");
    shown
        .extend(files.iter().filter_map(|file| Some(String::from_utf8_lossy(&std::fs::read(file).ok()?).into_owned())));
    for text in shown {
        let found = [SECRET, BUCKET_SECRET].into_iter().find_map(|secret| text.find(secret));
        let around = |at: usize| text.chars().skip(at.saturating_sub(200)).take(400).collect::<String>();
        assert!(found.is_none(), "{:?}", found.map(around));
    }
    assert!(!server.heard("aws_secret_access_key").is_empty());
    assert!(server.heard("aws_secret_access_key").iter().all(|sql| sql.contains("=***'")), "COPY was told the keys");
    cluster.at_rest().await;
}
