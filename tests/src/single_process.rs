//! The suites on DataFusion alone: the reference must give the answers that the files and the checks expect.

use std::sync::Arc;

use crate::{Engine, SingleProcess, demo, slt, tpc};

/// The answers in the files must not depend on the distribution of rows.
#[tokio::test(flavor = "multi_thread")]
async fn slt() {
    for partitions in [4, 1, 7] {
        slt::run(
            &slt::plain(),
            || async move { Arc::new(SingleProcess::with_partitions(partitions)) as Arc<dyn Engine> },
        )
        .await;
    }
}

/// Checks the comparison itself: the reference must give a right answer to its own queries, ties and limits included.
#[tokio::test(flavor = "multi_thread")]
async fn tpch() {
    tpc::TPCH.run(&SingleProcess::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tpcds() {
    tpc::TPCDS.run(&SingleProcess::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn demo() {
    let out = tempfile::tempdir().expect("a folder can be made");
    let engine = SingleProcess::new();
    let tables = demo::run(&engine, out.path()).await;
    let [written, weather, months] = tables.as_slice() else { panic!("three results, not {}", tables.len()) };
    assert!(written.contains(" 327346 "), "every flight that arrived is written: {written}");
    assert!(weather.contains("heavy rain") && weather.contains("fair"), "{weather}");
    assert_eq!(months.lines().count(), 12 + 4, "a line for each month: {months}");
    let folders = std::fs::read_dir(out.path().join("departures")).expect("the job wrote a table").count();
    assert_eq!(folders, 12, "a folder for each month");
}
