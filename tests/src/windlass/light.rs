//! Small statements on a cluster that is full of long tasks.

use crate::cluster::Processes;
use std::time::{Duration, Instant};
use windlass_client::JobState;

const ENDLESS: &str =
    "select count(*) as n from generate_series(1, 10000000) a cross join generate_series(1, 1000000) b";

#[tokio::test(flavor = "multi_thread")]
async fn what_does_little_does_not_wait_for_slots() {
    let cluster = Processes::of(["2", "1", "512MiB"]);
    let session = cluster.session().await;
    let table = "create table t as select value as k, 'n' || value as name from generate_series(1, 1000)";
    session.sql(table).await.expect("the table is made");
    let mut long = Vec::new();
    for _ in 0..4 {
        long.push(session.submit(ENDLESS, "", &[]).await.expect("the job is accepted"));
    }
    let full = async || {
        let status = session.status().await.expect("the cluster has a state");
        status.executors.iter().map(|executor| executor.running_tasks).sum::<u32>() == 2
    };
    let patience = Instant::now() + Duration::from_secs(20);
    while !full().await {
        assert!(Instant::now() < patience, "the long jobs do not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let statements = [
        "select 1",
        "select cast('7' as int) + 1, current_date is not null",
        "select * from (values (1, 'a'), (2, 'b')) t(x, y) where x > 1",
        "select count(*) from information_schema.tables where table_schema = 'public'",
        "describe t",
        "select name from t where k = 7",
        "select count(*), count(distinct name), max(k) from t",
        "select a.name from t a join t b on a.k = b.k + 1 order by a.k limit 3",
        "insert into t values (0, 'zero')",
    ];
    for sql in statements {
        let started = Instant::now();
        let answer = async { session.sql(sql).await?.collect().await };
        let answer = tokio::time::timeout(Duration::from_secs(20), answer).await;
        answer.unwrap_or_else(|_| panic!("{sql} waits")).unwrap_or_else(|error| panic!("{sql}: {error}"));
        println!("{:>5} ms  {sql}", started.elapsed().as_millis());
    }
    // A statement that may do more waits for its turn.
    let waits =
        tokio::time::timeout(Duration::from_secs(1), session.sql("select count(*) from generate_series(1, 10)"));
    assert!(waits.await.is_err(), "the slots were not full");
    let jobs = session.jobs(100).await.expect("jobs are listed");
    let running = jobs.iter().filter(|job| job.state == JobState::Running).count();
    assert!(running >= 2, "the long jobs were to run meanwhile: {jobs:?}");
    for job in long {
        session.cancel_job(job).await.expect("the job can be cancelled");
    }
    cluster.at_rest().await;
}
