//! An executor that hangs: its tasks run elsewhere too, and each counts once.

use crate::cluster::{Processes, succeed};
use std::process::Command;
use std::time::Duration;

fn signal(pid: u64, name: &str) {
    let mut kill = Command::new("kill");
    kill.args([format!("-{name}"), pid.to_string()]);
    succeed(kill);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_an_executor_that_hangs_run_elsewhere_too() {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let config = dir.path().join("windlass.toml");
    // The executor does not count as lost, so only a second attempt helps.
    let settings = "[primary]\nexecutor_timeout = \"10m\"\nspeculation_after = \"500ms\"\n";
    std::fs::write(&config, settings).expect("a file can be written");
    let config = config.display().to_string();
    let cluster = Processes::with("512MiB", &[("WINDLASS_CONFIG", &config)]);
    let tasks = ["set windlass.small_query_bytes = 0", "set windlass.tasks_per_slot = 6"];
    let write = "create table target as select value, value % 7 as rest from source";
    let count = "select count(*) as n, count(distinct value) as d, sum(rest) as r from target";
    let expected = format!("n,d,r\n240000,240000,{}\n", (1..=240_000u64).map(|value| value % 7).sum::<u64>());
    // Several files, so that there are several tasks.
    cluster.sql(&["create table source (value bigint)"]).unwrap();
    for file in 0..24 {
        let rows = format!("generate_series({}, {})", file * 10_000 + 1, (file + 1) * 10_000);
        cluster.sql(&[&format!("insert into source select value from {rows}")]).unwrap();
    }

    let hanging = cluster.executors[0];
    signal(hanging, "STOP");
    let written = tokio::task::block_in_place(|| cluster.sql(&[tasks[0], tasks[1], write]));
    signal(hanging, "CONT");
    written.expect("the statement ends although an executor hangs");
    let session = cluster.session().await;
    let job = session.jobs(1).await.expect("jobs are listed").remove(0);
    let log = session.job_logs(job.job).await.expect("the job has a log").join("\n");
    assert!(job.statement == write && log.contains("takes long"), "{job:?}: {log}");
    assert_eq!(cluster.sql(&[count]).unwrap(), expected);
    // The attempts that the hung executor resumes are stopped, and add nothing.
    cluster.at_rest().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.sql(&[count]).unwrap(), expected);
}
