//! Aggregates larger than memory, memory beyond an executor's limit, and results that nobody reads.

use crate::cluster::Processes;
use futures::StreamExt;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// Peak resident memory of a process, in bytes.
fn peak(pid: u64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it tells its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregate_that_cannot_spill_fails_once_and_says_why() {
    const MEMORY: u64 = 128;
    let cluster = Processes::of(["1", "1", "128MiB"]);
    let gather = "select length(string_agg(md5(value::text), ',')) as l from generate_series(1, 100000000)";
    let error = cluster.sql(&[gather]).unwrap_err();
    for part in
        ["out of memory", "string_agg(", "holds all values of a group in memory, and cannot spill them", "--memory"]
    {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    let session = cluster.session().await;
    let jobs = session.jobs(100).await.expect("jobs are listed");
    assert_eq!(jobs.len(), 1, "it was not to run again: {jobs:?}");
    // 512 MiB are for uncounted memory; a task that grows beyond is stopped within a moment.
    let peak = peak(cluster.executors[0]);
    println!("the executor took up to {} MiB", peak / MIB);
    assert!(peak < (MEMORY + 512 + 256) * MIB, "the executor took {} MiB", peak / MIB);
    assert_eq!(cluster.sql(&["select count(*) as n from generate_series(1, 10)"]).unwrap(), "n\n10\n");
}

/// Each aggregate needs two or three times the memory of the executor.
#[tokio::test(flavor = "multi_thread")]
async fn aggregates_of_more_values_than_memory_holds_spill() {
    let cluster = Processes::of(["1", "1", "64MiB"]);
    let texts = "select count(distinct md5(value::text)) as d, avg(value) as a, count(*) filter (where value < 11) as c from generate_series(1, 1200000) s(value)";
    assert_eq!(cluster.sql(&[texts]).unwrap(), "d,a,c\n1200000,600000.5,10\n");
    let middle = "select median(x) as m, percentile_cont(0.75) within group (order by x) as p from (select (value * 7919 % 600011)::double as x from generate_series(1, 6000110) s(value)) t";
    assert_eq!(cluster.sql(&[middle]).unwrap(), "m,p\n300005.0,450008.0\n");
    let session = cluster.session().await;
    let jobs = session.jobs(100).await.expect("jobs are listed");
    assert_eq!(jobs.len(), 3, "the median was to run once more: {jobs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_reading_a_result_leaves_nothing_of_it() {
    let cluster = Processes::of(["1", "2", "512MiB"]);
    let session = cluster.session().await;
    let rows = "select value, md5(value::text) as text from generate_series(1, 1000000)";
    for to_the_end in [false, true] {
        let mut result = session.sql(rows).await.expect("the statement runs");
        result.next().await.expect("there are rows").expect("they can be read");
        if to_the_end {
            while let Some(batch) = result.next().await {
                batch.expect("the rows can be read");
            }
        }
        drop(result);
        let patience = Instant::now() + Duration::from_secs(8);
        loop {
            let status = session.status().await.expect("the cluster has a state");
            let kept: u64 = status.executors.iter().map(|of| of.exchange_memory_bytes + of.exchange_disk_bytes).sum();
            if kept == 0 {
                break;
            }
            assert!(Instant::now() < patience, "{kept} bytes are kept for nobody");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
