//! Conditions under which statements run beside each other: time-outs, and jobs of many tasks beside jobs of one.

use crate::cluster::{Processes, windlass};
use std::time::{Duration, Instant};
use windlass_client::{JobState, Session};

const ENDLESS: &str =
    "select count(*) as n from generate_series(1, 10000000) a cross join generate_series(1, 1000000) b";

async fn failure(session: &Session, sql: &str) -> String {
    let outcome = session.sql(sql).await;
    outcome.err().unwrap_or_else(|| panic!("{sql} came to an end")).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_fails_and_leaves_nothing() {
    let cluster = Processes::start();
    let session = cluster.session().await;
    session.set("windlass.statement_timeout_ms", "500").await.expect("the option can be set");
    for sql in [ENDLESS, &format!("create table t as {ENDLESS}")] {
        let error = failure(&session, sql).await;
        assert!(error.contains("timed out: it may take 0.5 s"), "{error}");
        let ended = Instant::now();
        cluster.at_rest().await;
        println!("slots were free after {} ms", ended.elapsed().as_millis());
    }
    let error = failure(&session, "select * from t").await;
    assert!(error.contains("table 't' not found"), "{error}");
    assert!(cluster.sql(&["set windlass.statement_timeout_ms = 500", ENDLESS]).unwrap_err().contains("timed out"));
    // A statement of another session has its own time limit.
    cluster.sql(&["select 1"]).expect("the cluster goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_ten_thousand_tasks_does_not_starve_a_query_of_one() {
    let cluster = Processes::start();
    let (large, small) = (cluster.session().await, cluster.session().await);
    let query = async || {
        let start = Instant::now();
        small.sql("select 1").await.expect("a small query runs").collect().await.expect("it has a result");
        start.elapsed()
    };
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(query().await);
    }
    let sql = "create table t as select value, count(*) as n from generate_series(1, 100000) group by value";
    let options = [("windlass.small_query_bytes", "0"), ("windlass.tasks_per_slot", "2500")];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let job = large.submit(sql, "", &options).await.expect("the job is accepted");
    let progress = async || large.job(job).await.expect("the job is known");
    while progress().await.summary.tasks_done < 100 {
        tokio::task::yield_now().await;
    }
    let mut beside = Vec::new();
    for _ in 0..20 {
        beside.push(query().await);
    }
    let summary = progress().await.summary;
    assert!(
        summary.tasks > 10_000 && summary.state == JobState::Running,
        "the large job was over too early: {summary:?}"
    );
    println!(
        "a query of one task takes {:?} alone and {:?} beside a job of {} tasks, {} of which are done",
        median(idle),
        median(beside),
        summary.tasks,
        summary.tasks_done
    );
    large.cancel_job(job).await.expect("the job can be cancelled");
    cluster.at_rest().await;
}

#[test]
fn what_is_wrong_in_a_pool_is_said() {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let file = dir.path().join("windlass.toml");
    std::fs::write(&file, "[primary]\npools = { etl = { wight = 3 } }\n").expect("a file can be written");
    let mut command = windlass(&["primary", "--listen", "127.0.0.1:0", "--rest", "127.0.0.1:0", "--config"]);
    command.arg(&file);
    let error = crate::cluster::run(command).expect_err("the pool has no weight of this name");
    assert!(error.contains("wight") && error.contains("weight"), "{error}");
}
