//! The suites on DataFusion alone: what the reference answers is what the files and the checks expect.

use std::sync::Arc;

use crate::{Engine, SingleProcess, slt, tpc};

#[tokio::test(flavor = "multi_thread")]
async fn slt() {
    slt::run(&slt::plain(), || async { Arc::new(SingleProcess::new()) as Arc<dyn Engine> }).await;
}

/// Guards the comparison itself: the reference must be a right answer to its own queries, ties and limits included.
#[tokio::test(flavor = "multi_thread")]
async fn tpch() {
    tpc::TPCH.run(&SingleProcess::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tpcds() {
    tpc::TPCDS.run(&SingleProcess::new()).await;
}
