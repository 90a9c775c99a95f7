//! Runs jobs in this process with DataFusion alone, for tests of the layers above the cluster.

use super::runner::{Finished, Part, Runner, Started};
use crate::driver::history::{JobInfo, StageRecord};
use crate::driver::saved::Begun;
use crate::errors::QueryError;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use futures::TryStreamExt;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use windlass_core::ids::{AttemptId, ExecutorId, JobId, PlanHash};
use windlass_engine::connector::{SinkToken, StagedFile, StagedFiles, WriteTarget, staged_write};
use windlass_engine::{ClusterShape, PlannedJob, PlannedStage};

#[derive(Default)]
pub(crate) struct InProcess {
    next: AtomicU64,
    plans: Mutex<BTreeMap<PlanHash, (Arc<dyn ExecutionPlan>, Arc<TaskContext>)>>,
    /// Maximum bytes of an inline result. A larger one is kept as if on an executor.
    pub inline: Mutex<Option<usize>>,
    kept: Mutex<BTreeMap<AttemptId, Bytes>>,
    pub jobs: AtomicU64,
    /// Whether the next job is planned to hold a join's side in memory and then runs out of it.
    pub tight: AtomicBool,
    /// Whether jobs begin and do not end.
    held: AtomicBool,
}

impl InProcess {
    /// Lets no job end from here on.
    pub fn hold(&self) {
        self.held.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Runner for InProcess {
    async fn begun(&self, _: &str) -> Result<Option<Begun>, QueryError> {
        Ok(None)
    }

    async fn plan(
        &self,
        state: &SessionState,
        plan: &LogicalPlan,
        _: Option<ClusterShape>,
    ) -> Result<PlannedJob, DataFusionError> {
        let physical = state.create_physical_plan(plan).await?;
        let hash = PlanHash(self.next.fetch_add(1, Ordering::Relaxed).into());
        let sink = staged_write(&physical)?.map(|sink| sink.write().clone());
        let stage = PlannedStage {
            hash,
            bytes: Bytes::new(),
            display: displayable(physical.as_ref()).indent(false).to_string(),
            tasks: 1,
            buckets: 1,
            inputs: vec![],
            preferences: vec![],
            splits: Vec::new(),
            row_limit: None,
            once: None,
            planned: None,
        };
        let schema = physical.schema();
        self.plans.lock().insert(hash, (physical, state.task_ctx()));
        let holds_sides = self.tight.load(Ordering::Relaxed);
        let (shape, light, constant) = (ClusterShape::ONE, false, None);
        Ok(PlannedJob { schema, stages: vec![stage], sink, guards: Vec::new(), holds_sides, shape, light, constant })
    }

    async fn quiet(&self, _: JobId) {}

    async fn run(&self, job: PlannedJob, _: JobInfo, started: Option<Started>) -> Result<Finished, QueryError> {
        let id = JobId(self.jobs.fetch_add(1, Ordering::Relaxed) + 1);
        if let Some(started) = started {
            started(id);
        }
        if self.held.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.tight.swap(false, Ordering::Relaxed) {
            return Err(QueryError::OutOfMemory("a side of a join does not fit".to_string()));
        }
        let (plan, context) = self.plans.lock().remove(&job.stages[0].hash).unwrap();
        let before = files(&job, &context).await?;
        let batches = collect(Arc::clone(&plan), Arc::clone(&context)).await?;
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let staged = match target(&job) {
            None => None,
            Some(write) => {
                let after = files(&job, &context).await?;
                let new = after.difference(&before).map(|path| StagedFile { path: path.clone(), bytes: 1 }).collect();
                let count = datafusion::arrow::array::AsArray::as_primitive::<datafusion::arrow::datatypes::UInt64Type>(
                    batches[0].column(0),
                );
                let staged = StagedFiles { folder: write.target, files: new };
                let token = SinkToken { rows: count.value(0), token: staged.encode()? };
                Some(prost::Message::encode_to_vec(&token).into())
            }
        };
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &plan.schema()).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
        let bytes = Bytes::from(bytes);
        let output = id.stage(0).task(0).attempt(0);
        let large = self.inline.lock().is_some_and(|limit| bytes.len() > limit);
        if large {
            self.kept.lock().insert(output, bytes.clone());
        }
        let part = Part {
            output,
            executor: ExecutorId(1),
            address: String::new(),
            rows,
            bytes: bytes.len() as u64,
            inline: (!large).then_some(bytes),
            staged,
        };
        let mut stage = StageRecord::new(0, &job.stages[0]);
        (stage.rows, stage.bytes) = (rows, part.bytes);
        Ok(Finished { job: id, parts: vec![part], stages: vec![Arc::new(stage)], hold: Arc::new(()) })
    }

    fn read(&self, schema: SchemaRef, outputs: Vec<(AttemptId, ExecutorId)>) -> SendableRecordBatchStream {
        let bytes = self.kept.lock()[&outputs[0].0].clone();
        let reader = datafusion::arrow::ipc::reader::StreamReader::try_new(std::io::Cursor::new(bytes), None).unwrap();
        let batches = futures::stream::iter(reader.map(|batch| batch.map_err(DataFusionError::from)));
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }
}

async fn files(job: &PlannedJob, context: &TaskContext) -> Result<BTreeSet<String>, QueryError> {
    let Some(write) = target(job) else { return Ok(BTreeSet::new()) };
    let target = &write.target;
    let store = context.runtime_env().object_store(target.store())?;
    let listed: Vec<_> = store.list(Some(target.path())).try_collect().await.map_err(DataFusionError::from)?;
    Ok(listed.iter().filter_map(|meta| target.relative(&meta.location)).map(str::to_string).collect())
}

/// Returns where a job writes files.
fn target(job: &PlannedJob) -> Option<WriteTarget> {
    job.sink.as_ref()?.sink.files()
}
