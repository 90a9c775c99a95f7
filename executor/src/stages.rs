//! Plans of stages: from encoded bytes to instances that run attempts.

use crate::memory::GroupPool;
use async_trait::async_trait;
use datafusion::execution::runtime_env::RuntimeEnv;
use std::sync::Arc;
use url::Url;
use windlass_connectors::StoreRegistry;
use windlass_core::failure::TaskFailure;
use windlass_core::ids::StageId;
use windlass_engine::connector::Registry;
use windlass_engine::exchange::ExchangeStore;
use windlass_engine::programs::Programs;
use windlass_engine::stores::StoreConfig;
use windlass_engine::{Handover, Planned, StageInstance, StagePlan, TaskInputs, TaskSummary};

/// Decodes plans. The engine in production; tests use tasks that sleep, fail and panic.
pub(crate) trait Stages: Send + Sync {
    fn decode(&self, bytes: &[u8]) -> Result<Arc<dyn Stage>, TaskFailure>;

    /// The plan of a stage as an object, if it was made in this process and nobody has taken it.
    fn take(&self, _stage: StageId) -> Option<Arc<dyn Stage>> {
        None
    }
}

/// A decoded plan.
pub(crate) trait Stage: Send + Sync {
    fn instantiate(
        &self,
        stage: StageId,
        attempts: &[(u32, u32)],
        inputs: TaskInputs,
        memory: Arc<GroupPool>,
    ) -> Result<Arc<dyn Instance>, TaskFailure>;
}

/// State shared by attempts that were launched together.
#[async_trait]
pub(crate) trait Instance: Send + Sync {
    /// Runs one attempt. Dropping the future cancels it.
    async fn run(self: Arc<Self>, index: usize) -> Result<TaskSummary, TaskFailure>;

    /// Tells code that computes without a pause that none of the attempts is wanted any more.
    fn stop(&self);

    /// Names an operator of the plan that holds its whole input, for messages about memory.
    fn held_whole(&self) -> Option<String> {
        None
    }
}

/// Decoder of the engine's plans.
#[derive(Clone)]
pub(crate) struct EngineStages {
    pub runtime_env: Arc<RuntimeEnv>,
    pub store: Arc<ExchangeStore>,
    pub object_stores: Arc<StoreRegistry>,
    /// Plans made by a primary of this process.
    pub handover: Handover,
    pub connectors: Registry,
    pub programs: Arc<dyn Programs>,
}

struct EngineStage {
    stages: EngineStages,
    plan: Plan,
}

enum Plan {
    Decoded(StagePlan),
    AsPlanned(Planned),
}

struct EngineInstance {
    instance: Arc<StageInstance>,
    store: Arc<ExchangeStore>,
}

impl Stages for EngineStages {
    fn decode(&self, bytes: &[u8]) -> Result<Arc<dyn Stage>, TaskFailure> {
        let plan = StagePlan::decode(bytes, self.runtime_env.clone(), &self.connectors)?;
        let plan = plan.with_files(self.object_stores.clone()).with_programs(&self.programs);
        for StoreConfig { url, options } in plan.stores() {
            let internal =
                |reason: String| TaskFailure::Internal { message: format!("the object store {url}: {reason}") };
            let url = Url::parse(url).map_err(|error| internal(error.to_string()))?;
            self.object_stores.configure(&url, options).map_err(|error| internal(error.to_string()))?;
        }
        Ok(Arc::new(EngineStage { stages: self.clone(), plan: Plan::Decoded(plan) }))
    }

    fn take(&self, stage: StageId) -> Option<Arc<dyn Stage>> {
        let planned = self.handover.take(stage)?;
        Some(Arc::new(EngineStage { stages: self.clone(), plan: Plan::AsPlanned(planned) }))
    }
}

impl Stage for EngineStage {
    fn instantiate(
        &self,
        stage: StageId,
        attempts: &[(u32, u32)],
        inputs: TaskInputs,
        memory: Arc<GroupPool>,
    ) -> Result<Arc<dyn Instance>, TaskFailure> {
        let EngineStages { runtime_env, store, object_stores, programs, .. } = &self.stages;
        let runtime = Arc::new(RuntimeEnv { memory_pool: memory, ..runtime_env.as_ref().clone() });
        let instance = match &self.plan {
            Plan::Decoded(plan) => plan.instantiate_in(runtime, stage, attempts, inputs)?,
            Plan::AsPlanned(planned) => {
                let (files, programs) = (Some(object_stores.clone() as _), Some(Arc::clone(programs)));
                planned.instantiate(runtime, files, programs, stage, attempts, inputs)?
            }
        };
        Ok(Arc::new(EngineInstance { instance, store: store.clone() }))
    }
}

#[async_trait]
impl Instance for EngineInstance {
    async fn run(self: Arc<Self>, index: usize) -> Result<TaskSummary, TaskFailure> {
        self.instance.clone().run(index, &self.store).await
    }

    fn stop(&self) {
        self.instance.stop();
    }

    fn held_whole(&self) -> Option<String> {
        self.instance.held_whole()
    }
}
