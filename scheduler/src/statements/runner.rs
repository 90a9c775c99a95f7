//! The way from a logical plan to a finished job.

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

/// Plans and runs jobs: the cluster in production, this process in tests of what lies above.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// For the executors that there are, or for a cluster of the given shape.
    async fn plan(
        &self,
        state: &SessionState,
        plan: &LogicalPlan,
        shape: Option<ClusterShape>,
    ) -> Result<PlannedJob, DataFusionError>;

    /// What an earlier leader did of a statement that is sent again.
    async fn begun(&self, statement: &str) -> Result<Option<Begun>, QueryError>;

    /// Runs a job to its end. Dropping the future cancels it.
    async fn run(&self, job: PlannedJob, info: JobInfo, started: Option<Started>) -> Result<Finished, QueryError>;

    /// Waits until nothing of a job runs any more.
    async fn quiet(&self, job: JobId);

    /// What executors hold of a result.
    fn read(&self, schema: SchemaRef, outputs: Vec<(AttemptId, ExecutorId)>) -> SendableRecordBatchStream;
}

/// Called with a job's id once it has one.
pub type Started = Arc<dyn Fn(JobId) + Send + Sync>;

/// A job that ended well.
pub struct Finished {
    pub job: JobId,
    /// In the order of the result.
    pub parts: Vec<Part>,
    /// What ran, for EXPLAIN ANALYZE.
    pub stages: Vec<Arc<StageRecord>>,
    /// Executors keep the result while this lives.
    pub hold: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finished").field("job", &self.job).field("parts", &self.parts.len()).finish()
    }
}

/// What one task of the result stage left.
#[derive(Clone, Debug)]
pub struct Part {
    pub output: AttemptId,
    pub executor: ExecutorId,
    /// host:port of the executor's Flight service; empty when it is gone.
    pub address: String,
    pub rows: u64,
    pub bytes: u64,
    /// The rows, when they are few, as an Arrow IPC stream.
    pub inline: Option<Bytes>,
    /// Files that the task staged.
    pub staged: Option<Bytes>,
}
