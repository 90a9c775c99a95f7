//! Turns a logical plan into a finished job.

use crate::driver::history::{JobInfo, StageRecord};
use crate::driver::saved::Begun;
use crate::errors::QueryError;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use windlass_core::ids::{AttemptId, ExecutorId, JobId};
use windlass_engine::{ClusterShape, PlannedJob};

/// Plans and runs jobs: on the cluster in production, in this process in tests of the layers above.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Plans for the present executors, or for a cluster of the given shape.
    async fn plan(
        &self,
        state: &SessionState,
        plan: &LogicalPlan,
        shape: Option<ClusterShape>,
    ) -> Result<PlannedJob, DataFusionError>;

    /// Returns what an earlier leader did for a statement that is sent again.
    async fn begun(&self, statement: &str) -> Result<Option<Begun>, QueryError>;

    /// Runs a job to its end. Dropping the future cancels it.
    async fn run(&self, job: PlannedJob, info: JobInfo, started: Option<Started>) -> Result<Finished, QueryError>;

    /// Waits until no attempt of a job runs.
    async fn quiet(&self, job: JobId);

    /// Reads the parts of a result that executors hold.
    fn read(&self, schema: SchemaRef, outputs: Vec<(AttemptId, ExecutorId)>) -> SendableRecordBatchStream;
}

/// Called with a job's id once it has one.
pub type Started = Arc<dyn Fn(JobId) + Send + Sync>;

/// A job that succeeded.
pub struct Finished {
    pub job: JobId,
    /// In the order of the result.
    pub parts: Vec<Part>,
    /// The stages, for EXPLAIN ANALYZE.
    pub stages: Vec<Arc<StageRecord>>,
    /// Executors keep the result while this lives.
    pub hold: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finished").field("job", &self.job).field("parts", &self.parts.len()).finish()
    }
}

/// The output of one task of the result stage.
#[derive(Clone, Debug)]
pub struct Part {
    pub output: AttemptId,
    pub executor: ExecutorId,
    /// host:port of the executor's Flight service. Empty if the executor is gone.
    pub address: String,
    pub rows: u64,
    pub bytes: u64,
    /// The rows as an Arrow IPC stream, if they are few.
    pub inline: Option<Bytes>,
    /// Files that the task staged.
    pub staged: Option<Bytes>,
}
