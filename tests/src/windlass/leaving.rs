//! Executors that are asked to leave: nothing runs twice, and their outputs are read from the others.

use super::{Small, connect};
use crate::cluster::{Processes, succeed, windlass};
use crate::tpc;
use futures::StreamExt;
use std::sync::atomic::{AtomicBool, Ordering};
use windlass_client::JobState;
use windlass_client::jobs::ClusterStatus;

impl Processes {
    /// Asks the executor of this name to leave; the name may be the id of another one.
    fn decommission(&self, status: &ClusterStatus, name: &str) {
        let named = status.executors.iter().find(|executor| executor.name == name).expect("it is there");
        let number = named.id.trim_start_matches("executor-");
        let said = succeed(windlass(&["executor", "decommission", number, "--url", &self.url]));
        assert_eq!(said, format!("{number} has left\n"));
    }

    fn add(&self, slots: &str) {
        let dir = self.dir.path().display().to_string();
        succeed(windlass(&["cluster", "add", "--slots", slots, "--dir", &dir]));
    }
}

fn names(status: &ClusterStatus) -> Vec<String> {
    status.executors.iter().map(|executor| executor.name.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_runs_nothing_twice() {
    let cluster = Processes::of(["3", "2", "1GiB"]);
    let engine = connect(&cluster, Small::InStages).await;
    let restarted = AtomicBool::new(false);
    let queries = async {
        while !restarted.load(Ordering::Relaxed) {
            tpc::TPCH.run(engine.as_ref()).await;
        }
    };
    let restart = async {
        let status = cluster.session().await.status().await.expect("the cluster has a state");
        for name in names(&status) {
            tokio::task::block_in_place(|| {
                cluster.add("2");
                cluster.decommission(&status, &name);
            });
        }
        restarted.store(true, Ordering::Relaxed);
    };
    tokio::join!(queries, restart);

    let session = cluster.session().await;
    let status = cluster.at_rest().await;
    // Those that had left come back under their names.
    let ids: Vec<&str> = status.executors.iter().map(|executor| executor.id.as_str()).collect();
    assert_eq!(ids, ["executor-4", "executor-5", "executor-6"]);
    for job in session.jobs(10_000).await.expect("jobs are listed") {
        let detail = session.job(job.job).await.expect("the job is known");
        assert_eq!(job.state, JobState::Finished, "{detail:?}");
        let failed: u32 = detail.stage_details.iter().map(|stage| stage.failed_attempts).sum();
        assert_eq!(failed, 0, "{}: {:?}", job.statement, session.job_logs(job.job).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_read_from_where_it_moved_to() {
    let cluster = Processes::of(["2", "2", "1GiB"]);
    let session = cluster.session().await;
    session.sql("SET windlass.small_query_bytes = 0").await.expect("an option is set");
    let rows = 2_000_000u64;
    let sql = format!("SELECT value, md5(value::text) AS text FROM generate_series(1, {rows})");
    let result = session.sql(&sql).await.expect("the statement runs");
    let status = session.status().await.expect("the cluster has a state");
    tokio::task::block_in_place(|| {
        cluster.add("2");
        for name in ["executor-1", "executor-2"] {
            cluster.decommission(&status, name);
        }
    });
    assert_eq!(names(&session.status().await.expect("the cluster has a state")), ["executor-3"]);
    let (mut seen, mut batches) = (0, result);
    while let Some(batch) = batches.next().await {
        seen += batch.expect("the rows are still there").num_rows() as u64;
    }
    assert_eq!(seen, rows);
    drop(batches);
    cluster.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_there_cannot_leave() {
    let cluster = Processes::start();
    let mut command = windlass(&["executor", "decommission", "nobody", "--url", &cluster.url]);
    let output = command.output().expect("the command runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("nobody") && errors.contains("cluster status"), "{errors}");
}
