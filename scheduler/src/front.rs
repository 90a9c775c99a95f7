//! The front of the primary: catalog, sessions, statements and their faces, put together.

use crate::admin::SubmitStatement;
use crate::catalog::{Catalog, CatalogConfig};
use crate::errors::QueryError;
use crate::flight::{FlightFace, Kept, KeptConfig};
use crate::meta::MetaStore;
use crate::session::{SessionConfig, Sessions};
use crate::statement::{Journal, Runner, StatementConfig, Statements};
use crate::submit::Submitter;
use arrow_flight::flight_service_server::FlightServiceServer;
use datafusion::common::DataFusionError;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use windlass_connectors::StoreRegistry;

/// Sessions and results are looked over this often, unneeded files are removed every few rounds.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
const GARBAGE_EVERY: u32 = 6;

#[derive(Clone, Debug)]
pub struct FrontConfig {
    /// Path or URL of the folder for tables that CREATE TABLE makes. Every executor must reach it under the same name.
    pub warehouse: String,
    /// How long files of dropped and overwritten tables stay for statements that still read them. Default 10 min.
    pub grace: Duration,
    pub sessions: SessionConfig,
    pub results: KeptConfig,
    pub statements: StatementConfig,
}

impl FrontConfig {
    pub fn new(warehouse: impl Into<String>) -> Self {
        Self {
            warehouse: warehouse.into(),
            grace: Duration::from_secs(600),
            sessions: SessionConfig::default(),
            results: KeptConfig::default(),
            statements: StatementConfig::default(),
        }
    }
}

/// Everything between clients and the driver. Cheap to clone.
#[derive(Clone)]
pub struct Front {
    pub catalog: Arc<Catalog>,
    pub sessions: Arc<Sessions>,
    pub statements: Statements,
    pub kept: Arc<Kept>,
    tasks: TaskTracker,
}

impl Front {
    /// Loads the catalog, ends what an earlier primary had begun to write, and starts the upkeep, which ends with `stop`.
    pub async fn open(
        config: FrontConfig,
        store: Arc<dyn MetaStore>,
        runtime: Arc<RuntimeEnv>,
        runner: Arc<dyn Runner>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, QueryError> {
        let FrontConfig { warehouse, grace, sessions, results, statements } = config;
        let journal = Journal::new(Arc::clone(&store), Arc::clone(&runtime));
        let (abandoned, published) = journal.recover().await?;
        if abandoned + published > 0 {
            tracing::info!(abandoned, published, "writes of an earlier primary were ended");
        }
        let stores = StoreRegistry::shared();
        let catalog = Catalog::open(CatalogConfig { store, stores, runtime, warehouse, grace }).await?;
        let sessions = Sessions::new(sessions, Arc::clone(&catalog));
        let statements = Statements::new(statements, Arc::clone(&catalog), runner, journal, tasks.clone());
        let front = Self { catalog, sessions, statements, kept: Kept::new(results), tasks: tasks.clone() };
        let (upkeep, stop) = (front.clone(), stop.clone());
        tasks.spawn(async move { upkeep.keep_up(stop).await });
        Ok(front)
    }

    /// The Flight SQL service.
    pub fn flight(&self) -> FlightServiceServer<FlightFace> {
        FlightFace::new(self.statements.clone(), Arc::clone(&self.sessions), Arc::clone(&self.kept)).into_server()
    }

    /// What `Admin.Submit` calls.
    pub fn submit(&self) -> Arc<dyn SubmitStatement> {
        Arc::new(Submitter::new(self.clone(), self.tasks.clone()))
    }

    async fn keep_up(&self, stop: CancellationToken) {
        let mut round: u32 = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(UPKEEP_EVERY) => {}
            }
            self.sessions.expire().await;
            self.kept.expire();
            round = round.wrapping_add(1);
            if round % GARBAGE_EVERY == 0
                && let Err(error) = self.catalog.collect_garbage().await
            {
                tracing::warn!(%error, "files that are not needed any more could not be looked for");
            }
        }
    }
}

/// What a primary plans with: object stores on demand, and caches of what is known of files. Which files there are is asked anew for
/// each statement, because others write them.
pub fn planning_runtime(pool: Option<Arc<dyn MemoryPool>>) -> Result<Arc<RuntimeEnv>, DataFusionError> {
    let builder = RuntimeEnvBuilder::new()
        .with_object_store_registry(StoreRegistry::shared())
        .with_object_list_cache_limit(0);
    match pool {
        Some(pool) => builder.with_memory_pool(pool).build_arc(),
        None => builder.build_arc(),
    }
}
