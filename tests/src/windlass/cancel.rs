//! Statements that are cancelled while they compute: their slots are free at once, whatever the operators do.

use crate::cluster::{Processes, root};
use std::path::Path;
use std::time::{Duration, Instant};
use windlass_client::{JobState, Session, StageState};

/// Statements that would compute for minutes, each in another way.
const ENDLESS: [(&str, &str); 4] = [
    (
        "an aggregate above a join that multiplies rows",
        "select count(*), sum(a.dep_delay + b.dep_delay) from f a cross join f b",
    ),
    (
        "a join in nested loops that finds nothing",
        "select count(*) from f a where exists (select 1 from f b where a.dep_delay + b.arr_delay < -100000)",
    ),
    (
        "a join of one key whose filter finds nothing",
        "select count(*) from f a join f b on a.year = b.year and a.dep_delay + b.arr_delay < -100000",
    ),
    (
        "a sort above a join that multiplies rows",
        "select a.dest, b.dest from f a cross join f b order by cast(a.dep_delay as bigint) * b.arr_delay limit 5",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn slots_come_back() {
    let cluster = Processes::start();
    let session = cluster.session().await;
    let folder = root().join("data/nycflights13/flights").display().to_string();
    let create = format!("create external table f stored as parquet location '{folder}/'");
    session.sql(create).update().await.expect("the table can be made");
    for (small_query_bytes, hash) in [("0", "true"), ("1000000000", "true"), ("0", "false")] {
        session.set("windlass.small_query_bytes", small_query_bytes).await.expect("the option can be set");
        // Without hash joins, the join of one key sorts and merges.
        session.set("datafusion.optimizer.prefer_hash_join", hash).await.expect("the option can be set");
        for (name, sql) in ENDLESS {
            let statement = session.sql(sql);
            let handle = statement.handle();
            let cancel = async {
                while session.status().await.is_ok_and(|status| status.executors.iter().all(|e| e.running_tasks == 0)) {
                    tokio::task::yield_now().await;
                }
                // Time to get into the computation.
                tokio::time::sleep(Duration::from_millis(500)).await;
                handle.cancel().await.expect("the statement can be cancelled");
                Instant::now()
            };
            let (outcome, cancelled) = tokio::join!(statement.execute(), cancel);
            let error = outcome.err().unwrap_or_else(|| panic!("{name} came to an end")).to_string();
            assert!(error.contains("cancel"), "{name}: {error}");
            cluster.at_rest().await;
            let took = cancelled.elapsed();
            println!("{name}: slots were free after {} ms", took.as_millis());
            assert!(took < Duration::from_secs(10), "{name}: slots were held for {took:?}");
        }
    }
}

/// Number of files under the folders, and of running tasks.
async fn left(cluster: &Processes, session: &Session) -> (usize, u32) {
    let folders =
        ["executor-1/data/spill", "executor-1/data/exchange", "executor-2/data/spill", "executor-2/data/exchange"];
    let files = folders.iter().map(|folder| files(&cluster.dir.path().join(folder))).sum();
    let status = session.status().await.expect("the cluster has a state");
    (files, status.executors.iter().map(|executor| executor.running_tasks).sum())
}

fn files(dir: &Path) -> usize {
    // Folders and their files come and go.
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

/// Runs a statement until `there`, then cancels it, and waits until nothing is left of it.
async fn cancel_when(cluster: &Processes, session: &Session, what: &str, sql: &str, there: impl AsyncFn() -> bool) {
    let statement = session.sql(sql);
    let handle = statement.handle();
    let cancel = async {
        let patience = Instant::now() + Duration::from_secs(30);
        while !there().await {
            assert!(Instant::now() < patience, "{what}: it never came to that");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        handle.cancel().await.expect("the statement can be cancelled");
        Instant::now()
    };
    let (outcome, cancelled) = tokio::join!(statement.execute(), cancel);
    let error = outcome.err().unwrap_or_else(|| panic!("{what}: it came to an end")).to_string();
    assert!(error.contains("cancel"), "{what}: {error}");
    while left(cluster, session).await != (0, 0) {
        let left = left(cluster, session).await;
        assert!(cancelled.elapsed() < Duration::from_secs(10), "{what}: there are (files, tasks) left: {left:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    println!("{what}: slots and files were free after {} ms", cancelled.elapsed().as_millis());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_in_the_midst_of_a_spill_and_of_a_fetch() {
    let cluster = Processes::of(["2", "1", "64MiB"]);
    let (session, other) = (cluster.session().await, cluster.session().await);
    session.set("windlass.small_query_bytes", "0").await.expect("the option can be set");
    let wide = "(select value as k, repeat(md5(value::text), 3) as text from generate_series(1, 3000000))";
    let spilled = async || {
        ["executor-1", "executor-2"].iter().any(|name| files(&cluster.dir.path().join(name).join("data/spill")) > 2)
    };
    let sort = format!("select max(r) from (select row_number() over (order by text) as r from {wide})");
    cancel_when(&cluster, &session, "in a sort that spills", &sort, spilled).await;
    let fetching = async || {
        let jobs = other.jobs(1).await.expect("jobs are listed");
        let Ok(job) = other.job(jobs[0].job).await else { return false };
        let state = |stage: StageState| job.stage_details.iter().filter(|s| s.state == stage).count();
        job.summary.state == JobState::Running && state(StageState::Finished) == 2 && state(StageState::Running) == 1
    };
    session.set("datafusion.optimizer.prefer_hash_join", "false").await.expect("the option can be set");
    let join = format!("select count(*) from {wide} a join {wide} b on a.text = b.text");
    cancel_when(&cluster, &session, "in a join that fetches its inputs", &join, fetching).await;
    cluster.at_rest().await;
}

/// A write that is cancelled during its publication happens completely, or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_publication_is_whole_or_nothing() {
    const FILES: u64 = 300;
    let cluster = Processes::start();
    let (session, other) = (cluster.session().await, cluster.session().await);
    let out = cluster.dir.path().join("out");
    let (mut whole, mut nothing) = (0, 0);
    for wait in [0, 1, 2, 4, 8, 16, 32, 64] {
        let sql = format!(
            "copy (select value % {FILES} as part, value from generate_series(1, {FILES}0)) to '{}/{wait}/' stored as parquet
                 partitioned by (part)",
            out.display()
        );
        let statement = session.sql(&sql);
        let handle = statement.handle();
        let cancel = async {
            // Its job ends, and publication begins.
            while other
                .jobs(1)
                .await
                .is_ok_and(|jobs| jobs.first().is_none_or(|job| job.statement != sql || job.ended_ms == 0))
            {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(Duration::from_millis(wait)).await;
            // It may be over.
            let _ = handle.cancel().await;
        };
        let (outcome, ()) = tokio::join!(statement.execute(), cancel);
        let there = files(&out.join(wait.to_string())) as u64;
        match outcome {
            Ok(_) => assert_eq!(there, FILES, "it was acknowledged"),
            Err(error) => assert!(there == 0 || there == FILES, "{there} files are there, after {error}"),
        }
        whole += u64::from(there == FILES);
        nothing += u64::from(there == 0);
    }
    println!("of 8 cancelled writes {whole} happened, and {nothing} did not");
}
