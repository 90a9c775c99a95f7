//! Runs stages on an executor: decodes each once, instantiates it for the partitions that are launched together, runs each to its end.

use crate::codec::WindlassCodec;
use crate::connector::named::named;
use crate::connector::programs::{Programs, ProgramsHere};
use crate::connector::{Registry, TableSecrets};
use crate::envelope::{Envelope, OutputSpec};
use crate::exchange::{ExchangeStore, MapOutputWriter};
use crate::failure::classify;
use crate::held::held_whole;
use crate::ops::range::{self, RunWriter, run_rows};
use crate::ops::{InsertedExec, Stop, insert};
use crate::restrict::{SkippedExec, restrict};
use crate::room::Roomy;
use crate::scan::prepare;
use crate::session::{session_config, task_context};
use crate::stage::Planned;
use crate::stores::{CountedFiles, StoreConfig};
use crate::task::{OperatorMetrics, TaskInputs, TaskScope, TaskSummary};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::metrics::{MetricValue, Time};
use datafusion::physical_plan::repartition::BatchPartitioner;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use datafusion::prelude::SessionConfig;
use datafusion_proto::physical_plan::{PhysicalPlanDecodeContext, PhysicalProtoConverterExtension};
use futures::StreamExt;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use windlass_core::failure::TaskFailure;
use windlass_core::ids::{AttemptId, StageId};

/// Divisor of the memory: the largest part that a sort reserves for merging its spilled runs.
const MERGE_SHARE: usize = 32;

/// A stage's plan as an executor holds it.
#[derive(Debug)]
pub struct StagePlan {
    envelope: Roomy<Envelope>,
    config: SessionConfig,
    runtime: Arc<RuntimeEnv>,
    files: Option<Arc<dyn CountedFiles>>,
}

/// One executable instance of a stage's plan, for partitions launched together.
#[derive(Debug)]
pub struct StageInstance {
    plan: Roomy<Arc<dyn ExecutionPlan>>,
    output: Roomy<OutputSpec>,
    context: Arc<TaskContext>,
    scope: Arc<TaskScope>,
    stop: Stop,
    /// Number of attempts that have not ended. The last one reports the operators' metrics, which all attempts share.
    running: AtomicUsize,
}

impl StagePlan {
    /// `connectors`: those of this process, which must be the ones that the plan was made with.
    pub fn decode(bytes: &[u8], runtime: Arc<RuntimeEnv>, connectors: &Registry) -> Result<Self, TaskFailure> {
        let decode = || {
            let envelope = Roomy::new(Envelope::decode(bytes)?);
            let mut config = TableSecrets::within(&envelope.secrets, connectors.within(session_config()));
            for (key, value) in &envelope.options {
                config.options_mut().set(key, value)?;
            }
            Ok(Self { envelope, config, runtime, files: None })
        };
        decode().map_err(|e: DataFusionError| classify(&e))
    }

    /// Scans of the cluster's own files count what they read.
    pub fn with_files(self, files: Arc<dyn CountedFiles>) -> Self {
        Self { files: Some(files), ..self }
    }

    /// Programs run here.
    pub fn with_programs(mut self, programs: &Arc<dyn Programs>) -> Self {
        self.config = with_programs(self.config, programs);
        self
    }

    /// The object stores that the plan needs and that the environment alone cannot reach.
    pub fn stores(&self) -> &[StoreConfig] {
        &self.envelope.stores
    }

    /// Creates an instance for these (partition, attempt) pairs, sorted by partition. Each instance has its own state: dynamic filters of one must not see
    /// the build sides of another.
    pub fn instantiate(
        &self,
        stage: StageId,
        attempts: &[(u32, u32)],
        inputs: TaskInputs,
    ) -> Result<Arc<StageInstance>, TaskFailure> {
        self.instantiate_in(Arc::clone(&self.runtime), stage, attempts, inputs)
    }

    /// Like [`Self::instantiate`], with memory and spill files from `runtime` instead of those that the plan was decoded with.
    pub fn instantiate_in(
        &self,
        runtime: Arc<RuntimeEnv>,
        stage: StageId,
        attempts: &[(u32, u32)],
        inputs: TaskInputs,
    ) -> Result<Arc<StageInstance>, TaskFailure> {
        self.try_instantiate(runtime, stage, attempts, inputs).map_err(|e| classify(&e))
    }

    fn try_instantiate(
        &self,
        runtime: Arc<RuntimeEnv>,
        stage: StageId,
        attempts: &[(u32, u32)],
        inputs: TaskInputs,
    ) -> Result<Arc<StageInstance>> {
        let scope = scope(stage, attempts);
        let config = config_of(self.config.clone(), &scope, inputs, &runtime);
        let context = task_context(stage.to_string(), stage.job.to_string(), config, runtime);
        let decode_context = PhysicalPlanDecodeContext::new(&context, &WindlassCodec);
        let plan = self.plan(&decode_context)?;
        let output = self.output_spec(&plan.schema(), &decode_context)?;
        StageInstance::of(plan, Roomy::new(output), context, scope, attempts, self.files.clone())
    }

    #[cfg(test)]
    pub(crate) fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// The whole plan, with all of its partitions.
    pub(crate) fn plan(&self, context: &PhysicalPlanDecodeContext<'_>) -> Result<Arc<dyn ExecutionPlan>> {
        self.envelope.unfolder().proto_to_execution_plan(&self.envelope.plan, context)
    }

    fn output_spec(&self, schema: &SchemaRef, context: &PhysicalPlanDecodeContext<'_>) -> Result<OutputSpec> {
        if let Some(inline_bytes) = self.envelope.inline_bytes {
            return Ok(OutputSpec::Result { inline_bytes });
        }
        if !self.envelope.hash.is_empty() {
            let converter = self.envelope.unfolder();
            let exprs = self
                .envelope
                .hash
                .iter()
                .map(|node| converter.proto_to_physical_expr(node, schema, context))
                .collect::<Result<_>>()?;
            return Ok(OutputSpec::Hash(exprs, self.envelope.buckets));
        }
        Ok(match self.envelope.buckets {
            _ if self.envelope.sorted_run => OutputSpec::SortedRun,
            1 => OutputSpec::Single,
            buckets => OutputSpec::RoundRobin(buckets),
        })
    }
}

impl Planned {
    /// Like [`StagePlan::instantiate_in`], for the plan itself.
    pub fn instantiate(
        &self,
        runtime: Arc<RuntimeEnv>,
        files: Option<Arc<dyn CountedFiles>>,
        programs: Option<Arc<dyn Programs>>,
        stage: StageId,
        attempts: &[(u32, u32)],
        inputs: TaskInputs,
    ) -> Result<Arc<StageInstance>, TaskFailure> {
        let Planned { plan, output, config } = self.clone();
        let config = match &programs {
            Some(programs) => with_programs(config, programs),
            None => config,
        };
        let scope = scope(stage, attempts);
        let config = config_of(config, &scope, inputs, &runtime);
        // Only decoding looks functions up.
        let context = Arc::new(TaskContext::new(
            Some(stage.to_string()),
            stage.job.to_string(),
            config,
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            runtime,
        ));
        StageInstance::of(Arc::clone(&plan), output, context, scope, attempts, files).map_err(|e| classify(&e))
    }
}

fn with_programs(config: SessionConfig, programs: &Arc<dyn Programs>) -> SessionConfig {
    config.with_extension(Arc::new(ProgramsHere(Arc::clone(programs))))
}

fn scope(stage: StageId, attempts: &[(u32, u32)]) -> Arc<TaskScope> {
    let attempts = attempts.iter().map(|&(partition, attempt)| stage.task(partition).attempt(attempt)).collect();
    Arc::new(TaskScope { attempts, staged: Mutex::default() })
}

/// `config` for the attempts of `scope`.
fn config_of(config: SessionConfig, scope: &Arc<TaskScope>, inputs: TaskInputs, runtime: &RuntimeEnv) -> SessionConfig {
    let mut config = config.with_extension(Arc::new(inputs)).with_extension(Arc::clone(scope));
    if let MemoryLimit::Finite(memory) = runtime.memory_pool.memory_limit() {
        // Every sorting partition reserves this before it has read a row.
        let execution = &mut config.options_mut().execution;
        execution.sort_spill_reservation_bytes = execution.sort_spill_reservation_bytes.min(memory / MERGE_SHARE);
    }
    // A scan that takes over files of a sibling makes the output of its attempt depend on that sibling. If one of them fails, is stopped or loses to a second
    // attempt, and the other is committed, rows would be lost or doubled.
    if scope.attempts.len() > 1 {
        config.options_mut().execution.enable_file_stream_work_stealing = false;
    }
    config
}

impl StageInstance {
    fn of(
        plan: Arc<dyn ExecutionPlan>,
        output: Roomy<OutputSpec>,
        context: Arc<TaskContext>,
        scope: Arc<TaskScope>,
        attempts: &[(u32, u32)],
        files: Option<Arc<dyn CountedFiles>>,
    ) -> Result<Arc<Self>> {
        let footers = context.runtime_env().cache_manager.get_file_metadata_cache();
        let keep: Vec<usize> = attempts.iter().map(|&(partition, _)| partition as usize).collect();
        let stop = Stop::default();
        let plan = Roomy::new(insert(named(restrict(&prepare(plan, files.as_ref(), &footers)?, &keep)?)?, &stop)?);
        let running = AtomicUsize::new(attempts.len());
        Ok(Arc::new(Self { plan, output, context, scope, stop, running }))
    }

    /// Stops all its attempts. The caller drops their futures as well; this ends loops that never yield, so that they can be dropped.
    pub fn stop(&self) {
        self.stop.set();
    }

    /// The operators of the plan that hold their whole input and cannot spill it.
    pub fn held_whole(&self) -> Option<String> {
        held_whole(&self.plan)
    }

    /// Runs attempt `index` of the instance to its end and puts its map output into `store`. CPU-bound: must be polled on the runtime for tasks. Dropping the
    /// future cancels the attempt and removes its output.
    pub async fn run(self: Arc<Self>, index: usize, store: &Arc<ExchangeStore>) -> Result<TaskSummary, TaskFailure> {
        let attempt = self.scope.attempts[index];
        let result = self.try_run(index, attempt, store).await;
        let last = self.running.fetch_sub(1, Ordering::AcqRel) == 1;
        let mut summary = result.map_err(|e| self.classified(&e))?;
        if last {
            summary.metrics = operator_metrics(&self.plan);
        }
        let staged = self.scope.staged.lock().remove(&index);
        summary.staged = staged.map(Into::into);
        Ok(summary)
    }

    fn classified(&self, error: &DataFusionError) -> TaskFailure {
        match (classify(error), self.held_whole()) {
            (TaskFailure::OutOfMemory { message }, Some(held)) => {
                TaskFailure::OutOfMemory { message: format!("{held}: {message}") }
            }
            (failure, _) => failure,
        }
    }

    async fn try_run(&self, index: usize, attempt: AttemptId, store: &Arc<ExchangeStore>) -> Result<TaskSummary> {
        let mut input = self.plan.execute(index, Arc::clone(&self.context))?;
        let schema = self.plan.schema();
        match &*self.output {
            OutputSpec::Result { inline_bytes } => {
                self.run_result(input, attempt, store, schema, *inline_bytes as usize).await
            }
            OutputSpec::Single => {
                let mut writer = store.writer(attempt, schema, 1);
                while let Some(batch) = input.next().await {
                    writer.push(0, batch?).await?;
                }
                finish(writer).await
            }
            OutputSpec::SortedRun => {
                let mut run = RunWriter::new(store.writer(attempt, schema, range::BUCKETS));
                while let Some(batch) = input.next().await {
                    run.push(batch?).await?;
                }
                let output = run.finish().await?;
                // The buckets of a sorted run are positions in it, and each reader reads several of them.
                let bucket_bytes = vec![output.bucket_bytes.iter().sum()];
                Ok(TaskSummary { rows: run_rows(&output), bucket_bytes, ..TaskSummary::default() })
            }
            OutputSpec::Hash(..) | OutputSpec::RoundRobin(_) => {
                let mut writer = store.writer(attempt, schema, self.output.buckets());
                let mut partitioner = self.partitioner(index)?;
                while let Some(batch) = input.next().await {
                    for part in partitioner.partition_iter(batch?)? {
                        let (bucket, batch) = part?;
                        writer.push(bucket as u32, batch).await?;
                    }
                }
                finish(writer).await
            }
        }
    }

    fn partitioner(&self, index: usize) -> Result<BatchPartitioner> {
        let partitioning = match &*self.output {
            OutputSpec::Hash(exprs, buckets) => Partitioning::Hash(exprs.clone(), *buckets as usize),
            other => Partitioning::RoundRobinBatch(other.buckets() as usize),
        };
        BatchPartitioner::try_new(partitioning, Time::new(), index, self.scope.attempts.len())
    }

    /// Returns a small result inline; puts a larger one into the store whole.
    async fn run_result(
        &self,
        mut input: SendableRecordBatchStream,
        attempt: AttemptId,
        store: &Arc<ExchangeStore>,
        schema: SchemaRef,
        inline_bytes: usize,
    ) -> Result<TaskSummary> {
        let mut small = Vec::new();
        let mut bytes = 0;
        while let Some(batch) = input.next().await {
            let batch = batch?;
            bytes += batch.get_array_memory_size();
            small.push(batch);
            if bytes > inline_bytes {
                let mut writer = store.writer(attempt, schema, 1);
                for batch in small {
                    writer.push(0, batch).await?;
                }
                while let Some(batch) = input.next().await {
                    writer.push(0, batch?).await?;
                }
                return finish(writer).await;
            }
        }
        let rows = small.iter().map(|batch| batch.num_rows() as u64).sum();
        let encoded = encode_batches(&schema, &small)?;
        let bucket_bytes = vec![encoded.len() as u64];
        Ok(TaskSummary { rows, bucket_bytes, inline_result: Some(encoded), ..TaskSummary::default() })
    }
}

async fn finish(writer: MapOutputWriter) -> Result<TaskSummary> {
    let output = writer.finish().await?;
    Ok(TaskSummary { rows: output.rows, bucket_bytes: output.bucket_bytes, ..TaskSummary::default() })
}

/// Encodes batches as an Arrow IPC stream.
pub fn encode_batches(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Bytes> {
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), schema, IpcWriteOptions::default())?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    Ok(writer.into_inner()?.into())
}

/// Decodes an Arrow IPC stream.
pub fn decode_batches(bytes: &[u8]) -> Result<Vec<RecordBatch>> {
    let reader = arrow_ipc::reader::StreamReader::try_new(bytes, None)?;
    Ok(reader.collect::<Result<_, _>>()?)
}

/// Metrics of the operators in pre-order, each summed over partitions.
fn operator_metrics(plan: &Arc<dyn ExecutionPlan>) -> Vec<OperatorMetrics> {
    let mut all = Vec::new();
    collect_metrics(plan, &mut 0, &mut all);
    all
}

fn collect_metrics(plan: &Arc<dyn ExecutionPlan>, position: &mut u32, all: &mut Vec<OperatorMetrics>) {
    if let Some(set) = plan.metrics() {
        let mut values: BTreeMap<&str, u64> = BTreeMap::new();
        for metric in set.iter() {
            match metric.value() {
                MetricValue::StartTimestamp(_) | MetricValue::EndTimestamp(_) => {}
                value => *values.entry(value.name()).or_default() += value.as_usize() as u64,
            }
        }
        if !values.is_empty() {
            let values = values.into_iter().map(|(name, value)| (name.to_string(), value));
            all.push(OperatorMetrics { operator: *position, values: values.collect() });
        }
    }
    *position += match plan.downcast_ref::<SkippedExec>() {
        Some(skipped) => skipped.operators,
        None if plan.is::<InsertedExec>() => 0,
        None => 1,
    };
    for child in plan.children() {
        collect_metrics(child, position, all);
    }
}
