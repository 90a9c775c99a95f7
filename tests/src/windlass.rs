//! The suites on Windlass: embedded, and on a cluster of real processes, with and without stages.

mod cancel;
mod elastic;
pub(crate) mod failover;
mod leaving;
mod leftovers;
mod light;
mod limits;
mod lost_executor;
mod lost_result;
mod memory;
mod stragglers;
mod submissions;
mod terms;

use crate::cluster::Processes;
use crate::oracle::{awkward, statements};
use crate::{Engine, deep, demo, queries, slt, tpc};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use std::path::PathBuf;
use std::sync::Arc;
use windlass_client::{Client, EmbeddedOptions, Session};

/// Whether small statements run in one place (the default), or every statement is split into stages.
#[derive(Clone, Copy)]
enum Small {
    InOnePlace,
    InStages,
}

struct Windlass {
    name: &'static str,
    session: Session,
}

impl Windlass {
    async fn over(name: &'static str, session: Session, small: Small) -> Arc<dyn Engine> {
        if let Small::InStages = small {
            // Files are split however small they are.
            for (option, value) in
                [("windlass.small_query_bytes", "0"), ("datafusion.optimizer.repartition_file_min_size", "1")]
            {
                session.set(option, value).await.expect("the option can be set");
            }
        }
        Arc::new(Self { name, session })
    }

    async fn embedded(small: Small) -> Arc<dyn Engine> {
        let options = EmbeddedOptions { slots: Some(4), memory: Some(2 << 30), ..EmbeddedOptions::default() };
        let session = Client::embedded(options).await.expect("an embedded cluster starts");
        // Joins move the smaller input here; on processes, sizes and the defaults decide.
        for option in ["windlass.broadcast_from_bytes", "windlass.semi_join_from_bytes"] {
            session.set(option, "0").await.expect("the option can be set");
        }
        Self::over("embedded", session, small).await
    }
}

#[async_trait]
impl Engine for Windlass {
    fn name(&self) -> &str {
        self.name
    }

    async fn sql(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), String> {
        let result = self.session.sql(sql).await.map_err(|error| error.to_string())?;
        let schema = result.schema().clone();
        let batches = result.collect().await.map_err(|error| error.to_string())?;
        Ok((schema, batches))
    }
}

async fn connect(cluster: &Processes, small: Small) -> Arc<dyn Engine> {
    Windlass::over("processes", cluster.session().await, small).await
}

/// Plain files, and files about features that only Windlass has.
fn files() -> Vec<PathBuf> {
    slt::plain().into_iter().chain(slt::windlass()).collect()
}

mod embedded {
    use super::*;

    /// All files but those that open more sessions: an embedded cluster has one.
    fn files() -> Vec<PathBuf> {
        super::files().into_iter().filter(|file| !file.ends_with("sessions.slt")).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn tpch() {
        tpc::TPCH.run(Windlass::embedded(Small::InOnePlace).await.as_ref()).await;
        tpc::TPCH.run(Windlass::embedded(Small::InStages).await.as_ref()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn tpcds() {
        tpc::TPCDS.run(Windlass::embedded(Small::InOnePlace).await.as_ref()).await;
        tpc::TPCDS.run(Windlass::embedded(Small::InStages).await.as_ref()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn slt() {
        slt::run(&files(), || Windlass::embedded(Small::InOnePlace)).await;
        slt::run(&files(), || Windlass::embedded(Small::InStages)).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn deep() {
        // It takes minutes.
        if !crate::oracle::whole() {
            return crate::skipped::skipped("it takes minutes: make oracles");
        }
        for small in [Small::InOnePlace, Small::InStages] {
            deep::run(Windlass::embedded(small).await.as_ref()).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn random_queries() {
        queries::run(Windlass::embedded(Small::InStages).await.as_ref()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn statements_as_postgresql_answers_them() {
        statements::run(Windlass::embedded(Small::InStages).await.as_ref()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn awkward_files() {
        awkward::run(Windlass::embedded(Small::InStages).await.as_ref()).await;
    }
}

mod processes {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn tpch() {
        let cluster = Processes::start();
        for small in [Small::InOnePlace, Small::InStages] {
            tpc::TPCH.run(connect(&cluster, small).await.as_ref()).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn tpcds() {
        let cluster = Processes::start();
        for small in [Small::InOnePlace, Small::InStages] {
            tpc::TPCDS.run(connect(&cluster, small).await.as_ref()).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn slt() {
        let cluster = Processes::start();
        for small in [Small::InOnePlace, Small::InStages] {
            slt::run(&files(), || connect(&cluster, small)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn deep() {
        // It takes minutes.
        if !crate::oracle::whole() {
            return crate::skipped::skipped("it takes minutes: make oracles");
        }
        let cluster = Processes::start();
        for small in [Small::InOnePlace, Small::InStages] {
            deep::run(connect(&cluster, small).await.as_ref()).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn random_queries() {
        let cluster = Processes::start();
        queries::run(connect(&cluster, Small::InStages).await.as_ref()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn awkward_files() {
        let cluster = Processes::start();
        awkward::run(connect(&cluster, Small::InStages).await.as_ref()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn demo() {
        let out = tempfile::tempdir().expect("a folder can be made");
        let expected = demo::run(&crate::SingleProcess::new(), &out.path().join("datafusion")).await;
        for (small, folder) in [(Small::InOnePlace, "one-place"), (Small::InStages, "stages")] {
            let cluster = Processes::start();
            let tables = demo::run(connect(&cluster, small).await.as_ref(), &out.path().join(folder)).await;
            assert_eq!(tables, expected);
        }
    }
}
