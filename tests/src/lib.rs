//! Answers that every way of running SQL must give, and their checks.
//!
//! An [`Engine`] is anything that takes a statement and returns rows: DataFusion in this process ([`SingleProcess`], the reference), Windlass embedded, a
//! cluster of processes over Flight SQL. Each suite takes an engine and compares:
//!
//! - [`tpc`] holds TPC-H and TPC-DS, each query value by value against the reference ([`answer`]);
//! - [`slt`] runs the sqllogictest files under `tests/slt`, whose answers are part of the files.
//!
//! `make data` generates their input in the cache folder.

use std::path::PathBuf;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::prelude::{SessionConfig, SessionContext};
use windlass_engine::session::reference_state;

pub mod answer;
pub mod connector;
pub mod deep;
pub mod demo;
pub mod queries;
pub mod skipped;
pub mod slt;
pub mod tpc;

#[cfg(test)]
mod adbc;
#[cfg(test)]
mod asking;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod chaos;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod dbt;
#[cfg(test)]
mod dynamodb;
#[cfg(test)]
mod etcd;
#[cfg(test)]
mod files;
#[cfg(test)]
mod fragments;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod livy;
#[cfg(test)]
mod meta_stores;
#[cfg(test)]
mod mysql;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod paths;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod programs;
#[cfg(test)]
mod prompt;
#[cfg(test)]
mod python_package;
#[cfg(test)]
mod redshift;
#[cfg(test)]
mod s3;
#[cfg(test)]
mod single_process;
#[cfg(test)]
mod small_client;
#[cfg(test)]
mod tour;
#[cfg(test)]
mod windlass;

/// One connection to something that runs SQL.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Name of the engine in messages.
    fn name(&self) -> &str;

    /// Runs one statement to its end. The schema is that of the result even without a batch; the error is the text that a user would see.
    async fn sql(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), String>;
}

/// DataFusion alone in this process, with Windlass's types of numbers: the reference.
pub struct SingleProcess {
    context: SessionContext,
}

impl SingleProcess {
    /// Uses four partitions on any machine, so that plans, and the answers where SQL leaves them open, are the same everywhere.
    pub fn new() -> Self {
        Self::with_partitions(4)
    }

    pub fn with_partitions(partitions: usize) -> Self {
        let config = SessionConfig::new().with_target_partitions(partitions).with_information_schema(true);
        Self { context: SessionContext::new_with_state(reference_state(config)) }
    }

    pub fn context(&self) -> &SessionContext {
        &self.context
    }
}

impl Default for SingleProcess {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Engine for SingleProcess {
    fn name(&self) -> &str {
        "datafusion"
    }

    async fn sql(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), String> {
        let run = async {
            let frame = self.context.sql(sql).await?;
            let plan = frame.create_physical_plan().await?;
            let batches = datafusion::physical_plan::collect(plan.clone(), self.context.task_ctx()).await?;
            Ok::<_, datafusion::error::DataFusionError>((plan.schema(), batches))
        };
        run.await.map_err(|error| error.strip_backtrace())
    }
}

/// Folder of the input that `make data` generates.
///
/// # Panics
/// When it is missing; the message gives the remedy.
pub fn data() -> PathBuf {
    let cache = std::env::var_os("WINDLASS_CACHE_DIR").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/windlass");
    let data = cache.unwrap_or_else(home).join("data");
    assert!(data.is_dir(), "no test data in {}: run `make data`", data.display());
    data
}

/// The root of the workspace, where `data/` and `demo/` are.
pub fn workspace() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests crate lies inside the workspace").to_path_buf()
}
