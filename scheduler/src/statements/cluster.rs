//! Jobs on the cluster.

use super::runner::{Finished, Part, Runner, Started};
use crate::driver::history::JobInfo;
use crate::driver::results::ResultSource;
use crate::driver::saved::Begun;
use crate::driver::{Driver, JobOutcome};
use crate::errors::QueryError;
use crate::files::Files;
use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use futures::{StreamExt, stream};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use windlass_core::ids::{AttemptId, ExecutorId, JobId};
use windlass_core::job::Preference;
use windlass_engine::{ClusterShape, PlannedJob, Split, plan_job};
use windlass_proto::v1;

/// How long a statement waits for the first executor. After that it is planned as if there were one, and the scheduler waits.
const FIRST_EXECUTOR: Duration = Duration::from_secs(5);

/// How long the tasks of a job that ran out of memory may take to end before the error is reported.
const FREED: Duration = Duration::from_secs(10);

/// Maximum files of one statement whose blocks are looked up.
const LOOKED_UP: usize = 2_000;
/// Maximum preferred executors of a task.
const WISHES: usize = 3;

pub struct ClusterRunner {
    driver: Driver,
    results: ResultSource,
    files: Files,
}

impl ClusterRunner {
    pub fn new(driver: Driver, results: ResultSource, files: Files) -> Self {
        Self { driver, results, files }
    }

    /// Sets tasks that read files of the cluster to prefer executors that hold the blocks.
    async fn follow_blocks(&self, job: &mut PlannedJob) {
        for stage in job.stages.iter_mut().filter(|stage| !stage.splits.is_empty()) {
            let paths: BTreeSet<String> = stage.splits.iter().flatten().map(|split| split.path.clone()).collect();
            if paths.len() > LOOKED_UP {
                continue;
            }
            let located = stream::iter(paths).map(|path| self.files.clone().locate(path));
            let located: BTreeMap<String, Vec<v1::LocatedBlock>> = located.buffer_unordered(64).collect().await;
            let executors = stage.splits.iter().map(|splits| holders(splits, &located));
            stage.preferences = executors.map(|executors| Preference { executors, ..Preference::default() }).collect();
        }
    }

    async fn shape(&self) -> ClusterShape {
        let directory = self.driver.directory();
        if *directory.count().borrow() == 0 {
            // The scheduler reports the lack of executors when the job's own wait is over.
            let _ = self.driver.wait_for_executors(1, FIRST_EXECUTOR).await;
        }
        directory.settled().await;
        let slots: Vec<u32> = directory.entries().iter().map(|entry| entry.register.slots).collect();
        ClusterShape {
            executors: slots.len().max(1) as u32,
            slots: slots.iter().sum::<u32>().max(1),
            max_slots: slots.iter().copied().max().unwrap_or(1),
        }
    }
}

#[async_trait]
impl Runner for ClusterRunner {
    async fn plan(
        &self,
        state: &SessionState,
        plan: &LogicalPlan,
        shape: Option<ClusterShape>,
    ) -> Result<PlannedJob, DataFusionError> {
        let shape = match shape {
            Some(shape) => shape,
            None => self.shape().await,
        };
        let mut job = plan_job(state, plan, shape).await?;
        self.follow_blocks(&mut job).await;
        Ok(job)
    }

    async fn begun(&self, statement: &str) -> Result<Option<Begun>, QueryError> {
        Ok(self.driver.begun(statement).await?)
    }

    async fn run(&self, mut job: PlannedJob, info: JobInfo, started: Option<Started>) -> Result<Finished, QueryError> {
        // The guards are released when this future is dropped or the job ends.
        let _guards = std::mem::take(&mut job.guards);
        let mut handle = self.driver.submit(job, info).await;
        if let Some(started) = started {
            started(handle.id);
        }
        match handle.wait().await.map_err(QueryError::from) {
            Ok(outcome) => Ok(finished(outcome)),
            Err(error) => {
                if let QueryError::OutOfMemory(_) = error {
                    // A second job, planned differently, must find the memory of the first job's tasks free.
                    let _ = tokio::time::timeout(FREED, self.driver.quiet(handle.id)).await;
                }
                Err(error)
            }
        }
    }

    async fn quiet(&self, job: JobId) {
        self.driver.quiet(job).await;
    }

    fn read(&self, schema: SchemaRef, outputs: Vec<(AttemptId, ExecutorId)>) -> SendableRecordBatchStream {
        self.results.exchange().read(schema, outputs, None)
    }
}

/// Returns the executors that hold most of a task's input, best first.
fn holders(splits: &[Split], located: &BTreeMap<String, Vec<v1::LocatedBlock>>) -> Vec<ExecutorId> {
    let mut bytes_on: BTreeMap<u64, u64> = BTreeMap::new();
    for split in splits {
        for block in located.get(split.path.as_str()).into_iter().flatten() {
            let end = split.range.end.min(block.offset + block.bytes);
            let bytes = end.saturating_sub(split.range.start.max(block.offset));
            for holder in &block.holders {
                *bytes_on.entry(holder.executor).or_default() += bytes;
            }
        }
    }
    let mut holders: Vec<(u64, u64)> = bytes_on.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
    holders.sort_unstable_by_key(|(executor, bytes)| (Reverse(*bytes), *executor));
    holders.into_iter().take(WISHES).map(|(executor, _)| ExecutorId(executor)).collect()
}

fn finished(outcome: JobOutcome) -> Finished {
    let stage = outcome.job.stage((outcome.stages.len() as u32).saturating_sub(1));
    let parts = outcome.outputs.iter().map(|part| Part {
        output: stage.task(part.location.partition).attempt(part.location.attempt),
        executor: part.location.executor,
        address: part.address.clone(),
        rows: part.rows,
        bytes: part.bytes,
        inline: part.inline.clone(),
        staged: part.staged.clone(),
    });
    Finished { job: outcome.job, parts: parts.collect(), stages: outcome.stages, hold: Arc::new(outcome.release) }
}
