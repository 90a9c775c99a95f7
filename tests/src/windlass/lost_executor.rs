//! Executors that die while jobs run: the answers are the same.

use super::{Small, connect};
use crate::cluster::Processes;
use crate::{Engine, tpc};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Kills an executor during the query after this many others: its stages have left outputs by then, or are about to.
struct Killing<'a> {
    engine: Arc<dyn Engine>,
    cluster: &'a Processes,
    before: AtomicUsize,
}

#[async_trait]
impl Engine for Killing<'_> {
    fn name(&self) -> &str {
        "processes, of which one is killed"
    }

    async fn sql(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), String> {
        let is_query = !sql.starts_with("CREATE");
        if is_query && self.before.fetch_sub(1, Ordering::Relaxed) == 0 {
            let session = self.cluster.session().await;
            let kill = async {
                // Waits until the primary reports a running job.
                while session.status().await.is_ok_and(|status| status.jobs_running == 0) {
                    tokio::task::yield_now().await;
                }
                self.cluster.kill_executor(0);
            };
            tokio::pin!(kill);
            loop {
                let query = self.engine.sql(sql);
                tokio::pin!(query);
                tokio::select! {
                    biased;
                    () = &mut kill => return query.await,
                    // It has ended before it was seen.
                    answer = &mut query => {
                        answer?;
                    }
                }
            }
        }
        self.engine.sql(sql).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_go_on_with_the_others() {
    for before in [4, 8, 20] {
        let cluster = Processes::of(["3", "2", "1GiB"]);
        let engine = connect(&cluster, Small::InStages).await;
        let killing = Killing { engine, cluster: &cluster, before: AtomicUsize::new(before) };
        tpc::TPCH.run(&killing).await;
        let executors = cluster.session().await.status().await.expect("the cluster has a state").executors;
        assert_eq!(executors.iter().filter(|executor| executor.state == "live").count(), 2, "{executors:?}");
    }
}
