//! A whole primary: metadata, catalog, sessions, statements and their faces, on top of the shell of the scheduling machine.
//!
//! ```text
//!   MetaStore ── Catalog ── Sessions ─┐
//!       │                             ├── Flight SQL ─┐
//!       └────── Journal ── Statements ┤               ├── one gRPC port   (embedded: pipes in memory)
//!                              │      └── Submit ─────┤
//!                            Driver ── Dispatch, Admin┘── REST
//! ```

use crate::admin::AdminService;
use crate::clock::{Clock, Ids};
use crate::driver::Driver;
use crate::driver::elastic::Elasticity;
use crate::driver::results::ResultSource;
use crate::driver::saved::SavedJobs;
use crate::errors::QueryError;
use crate::files::{Files, FilesService, Opened, Tickets};
use crate::flight::FlightFace;
use crate::meta::keys::{cluster, outcomes, requests, tries};
use crate::meta::{DurableIds, EmbeddedStore, EtcdConfig, EtcdStore, MetaError, MetaStore, SealError, Sealer};
use crate::primary::{Primary, PrimaryConfig, PrimaryError, member};
use crate::services::batches::Batches;
use crate::services::catalog::Catalog as CatalogView;
use crate::services::cluster::ClusterView;
use crate::services::files::Files as FilesView;
use crate::services::interactive::{Interactive, InteractiveConfig};
use crate::services::jobs::Jobs;
use crate::services::loads::Loads;
use crate::services::runs::{Runs, RunsConfig};
use crate::services::sessions::Sessions;
use crate::services::submissions::{Submissions, SubmissionsConfig};
use crate::services::{HttpFaces, Services};
use crate::statements::catalog::{Catalog, CatalogConfig};
use crate::statements::sessions::{Registry, SessionConfig};
use crate::statements::{ClusterRunner, Journal, StatementConfig, Statements};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use windlass_connectors::StoreRegistry;
use windlass_connectors::wfs::Wfs;
use windlass_core::wfs::WfsConfig;
use windlass_proto::MAX_MESSAGE_BYTES;
use windlass_proto::pass::KeyRing;
use windlass_proto::v1::admin_server::AdminServer;
use windlass_proto::v1::files_server::FilesServer;

/// Interval between searches for expired sessions, results and dropped files.
const UPKEEP: Duration = Duration::from_secs(10);
/// Interval between searches for expired outcomes of statements that may have been sent twice.
const FORGET_OUTCOMES: Duration = Duration::from_secs(60);

/// How long a stopping primary keeps results that clients have not begun to read.
const LAST_RESULTS: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub struct ProcessConfig {
    pub primary: PrimaryConfig,
    /// The primary's folder: the metadata store unless `etcd` is set, and managed tables unless `warehouse` is set.
    pub dir: PathBuf,
    /// The metadata store of several primaries, one of which leads.
    pub etcd: Option<EtcdConfig>,
    /// The host under which others reach this primary, if it differs from the listen address.
    pub advertise: Option<String>,
    /// Path or URL of the folder for managed tables. Every executor must reach it.
    pub warehouse: Option<String>,
    /// Absent: no HTTP is served.
    pub rest: Option<RestConfig>,
    pub sessions: SessionConfig,
    pub statements: StatementConfig,
    pub runs: RunsConfig,
    pub submissions: SubmissionsConfig,
    pub interactive: InteractiveConfig,
    pub files: WfsConfig,
    /// How long a ticket for blocks is valid.
    pub ticket: Duration,
    /// Settings for starting and stopping executors with the load.
    pub elastic: Option<Elasticity>,
    /// How long files of dropped and overwritten tables stay for statements that still read them.
    pub grace: Duration,
    /// The time, for the whole primary, and unique names.
    pub clock: Clock,
    pub ids: Ids,
}

/// HTTP of a primary.
#[derive(Clone, Debug)]
pub struct RestConfig {
    pub listen: SocketAddr,
    /// The faces that answer there.
    pub faces: Arc<dyn HttpFaces>,
}

impl ProcessConfig {
    pub fn new(primary: PrimaryConfig, dir: PathBuf) -> Self {
        Self {
            primary,
            dir,
            etcd: None,
            advertise: None,
            warehouse: None,
            rest: None,
            sessions: SessionConfig::default(),
            statements: StatementConfig::default(),
            runs: RunsConfig::default(),
            submissions: SubmissionsConfig::default(),
            interactive: InteractiveConfig::default(),
            files: WfsConfig::default(),
            ticket: Tickets::VALID,
            elastic: None,
            grace: Duration::from_secs(600),
            clock: Clock::system(),
            ids: Ids::random(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Primary(#[from] PrimaryError),
    #[error(transparent)]
    Store(MetaError),
    #[error("the folder {}: {reason}", path.display())]
    Folder { path: PathBuf, reason: String },
    #[error("{0}")]
    Secrets(#[from] SealError),
    #[error("the catalog cannot be opened: {0}")]
    Catalog(#[from] QueryError),
    #[error("cannot start: {0}")]
    Start(String),
}

/// A primary with all its services for clients. It does not serve yet.
pub struct LeadingPrimary {
    pub primary: Primary,
    /// The address of REST.
    pub rest: Option<SocketAddr>,
}

impl LeadingPrimary {
    /// Builds all parts of a leading primary from the store, on ports that are already bound.
    pub(crate) async fn over(
        config: &ProcessConfig,
        store: Arc<dyn MetaStore>,
        listener: TcpListener,
        rest_listener: Option<TcpListener>,
    ) -> Result<LeadingPrimary, StartError> {
        let rest = rest_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let rest_url = rest.map(|address| format!("http://{}", reached(address, config))).unwrap_or_default();
        let (ids_tasks, ids_stop) = (TaskTracker::new(), CancellationToken::new());
        let ids = DurableIds::open(&store, &ids_tasks, &ids_stop).await?;
        let (saved, ended) = SavedJobs::open(store.clone()).await?;
        let key = cluster::key(store.as_ref(), &config.ids).await?;
        let keys = KeyRing::new(key);
        let tickets = Tickets::new(keys.clone(), config.ticket);
        let (clock, unique) = (config.clock.clone(), &config.ids);
        let opened = Opened::open(store.clone(), config.files.clone(), tickets, clock, unique).await?;
        let mut settings = config.primary.clone();
        settings.driver.key = Some(key);
        settings.driver.clock = config.clock.clone();
        let mut primary = Primary::on(listener, settings, ids, Some(saved.clone()), Some(opened.files.clone()))?;
        primary.driver.history().restore(&ended).into_iter().for_each(|job| saved.forget(job));
        let (tasks, stop) = primary.background();
        tasks.spawn(saved.write(stop.clone()));
        stop_with(&primary, ids_stop);
        let (stores, runtime) = planning_runtime()?;
        stores.set_wfs(Wfs::new(Arc::new(opened.files.clone()), Handle::current(), None));
        let files = opened.files.clone();
        serve_files(&mut primary, opened);
        let results = ResultSource::remote(
            primary.driver.directory().clone(),
            Handle::current(),
            runtime.memory_pool.clone(),
            keys.clone(),
        );
        let services = assemble(&mut primary, config, store, stores, runtime, results, files, keys, rest_url).await?;
        if let (Some(listener), Some(rest)) = (rest_listener, &config.rest) {
            let (tasks, stop) = primary.background();
            tasks.spawn(rest.faces.serve(services, listener, stop.clone()));
        }
        Ok(LeadingPrimary { primary, rest })
    }

    /// Builds a primary without a port whose only executor lives in this process. `executor` creates it from the driver and returns the
    /// source of results, and the runtime that plans share with tasks.
    pub async fn embedded<E>(
        config: ProcessConfig,
        executor: impl FnOnce(
            &Driver,
            Arc<dyn windlass_connectors::wfs::Primary>,
        ) -> Result<(ResultSource, Arc<RuntimeEnv>, Arc<StoreRegistry>), E>,
    ) -> Result<LeadingPrimary, StartError>
    where
        E: std::fmt::Display,
    {
        let store = open_store(&config).await?;
        let (ids_tasks, ids_stop) = (TaskTracker::new(), CancellationToken::new());
        let ids = DurableIds::open(&store, &ids_tasks, &ids_stop).await?;
        let tickets = Tickets::new(KeyRing::default(), config.ticket);
        let (clock, unique) = (config.clock.clone(), &config.ids);
        let opened = Opened::open(store.clone(), config.files.clone(), tickets, clock, unique).await?;
        let mut settings = config.primary.clone();
        settings.driver.clock = config.clock.clone();
        let mut primary = Primary::detached(settings, ids, Some(opened.files.clone()));
        let names = opened.files.clone();
        let files: Arc<dyn windlass_connectors::wfs::Primary> = Arc::new(names.clone());
        serve_files(&mut primary, opened);
        stop_with(&primary, ids_stop);
        let (results, runtime, stores) =
            executor(&primary.driver, files).map_err(|error| StartError::Start(error.to_string()))?;
        assemble(&mut primary, &config, store, stores, runtime, results, names, KeyRing::default(), String::new())
            .await?;
        Ok(LeadingPrimary { primary, rest: None })
    }
}

/// Ends the writes of an embedded primary that is gone, and removes their staged files wherever they are. Its folder will be removed,
/// and with it the store that knows them.
///
/// # Errors
/// The store cannot be read. Files that cannot be removed are logged.
pub async fn end_writes(dir: &Path) -> Result<(), StartError> {
    let path = dir.join("meta.redb");
    // The primary died before it had a store.
    if !path.exists() {
        return Ok(());
    }
    let store: Arc<dyn MetaStore> = Arc::new(EmbeddedStore::open(&path)?);
    // Its writes may have reached stores with settings, which are sealed.
    let sealer = Sealer::open(dir, false)?;
    let (stores, runtime) = planning_runtime()?;
    let journal = Journal::new(store, runtime, stores, Clock::system(), Ids::random()).sealing(sealer);
    let failed = |error: QueryError| StartError::Start(error.to_string());
    let (abandoned, published) = journal.recover().await.map_err(failed)?;
    let removed = journal.collect_all().await.map_err(failed)?;
    if abandoned + published + removed > 0 {
        tracing::info!(abandoned, published, removed, "ended the writes of an embedded cluster that is gone");
    }
    Ok(())
}

/// Returns where others reach what listens on an address: on all of them, under the name of this primary, or else on its own machine.
fn reached(address: SocketAddr, config: &ProcessConfig) -> String {
    match &config.advertise {
        Some(host) if address.ip().is_unspecified() => format!("{host}:{}", address.port()),
        _ => member::reachable(address).to_string(),
    }
}

fn serve_files(primary: &mut Primary, opened: Opened) {
    primary.services().add_service(FilesServer::new(FilesService(opened.files.clone())));
    let (tasks, stop) = primary.background();
    opened.serve(Arc::new(primary.driver.clone()), stop.clone(), tasks);
}

fn stop_with(primary: &Primary, token: CancellationToken) {
    let (tasks, stop) = primary.background();
    let stop = stop.clone();
    tasks.spawn(async move {
        stop.cancelled().await;
        token.cancel();
    });
}

pub(crate) async fn open_store(config: &ProcessConfig) -> Result<Arc<dyn MetaStore>, StartError> {
    std::fs::create_dir_all(&config.dir)
        .map_err(|error| StartError::Folder { path: config.dir.clone(), reason: error.to_string() })?;
    Ok(match &config.etcd {
        Some(etcd) => Arc::new(EtcdStore::connect(etcd).await?),
        None => Arc::new(EmbeddedStore::open(&config.dir.join("meta.redb"))?),
    })
}

pub(crate) async fn bind_rest(address: SocketAddr) -> Result<TcpListener, StartError> {
    windlass_engine::remote::listen(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => StartError::Start(format!(
            "port {} on {} is in use: stop what listens there, or choose another with --rest (port 0 takes a free one)",
            address.port(),
            address.ip()
        )),
        _ => StartError::Start(format!("REST cannot listen on {address}: {error}")),
    })
}

/// Returns the runtime for planning. Folders are listed again for each statement, because others may add files.
fn planning_runtime() -> Result<(Arc<StoreRegistry>, Arc<RuntimeEnv>), StartError> {
    let stores = StoreRegistry::new();
    let runtime = RuntimeEnvBuilder::new()
        .with_object_store_registry(stores.clone())
        .with_object_list_cache_limit(0)
        .build_arc()
        .map_err(|error| StartError::Start(error.to_string()))?;
    Ok((stores, runtime))
}

#[expect(clippy::too_many_arguments, reason = "what a primary is put together from")]
async fn assemble(
    primary: &mut Primary,
    config: &ProcessConfig,
    store: Arc<dyn MetaStore>,
    stores: Arc<StoreRegistry>,
    runtime: Arc<RuntimeEnv>,
    results: ResultSource,
    files: Files,
    keys: KeyRing,
    rest_url: String,
) -> Result<Services, StartError> {
    let warehouse = match &config.warehouse {
        Some(warehouse) => warehouse.clone(),
        None => {
            let folder = config.dir.join("warehouse");
            std::fs::create_dir_all(&folder).map_err(|e| StartError::Start(format!("{}: {e}", folder.display())))?;
            let folder = folder.canonicalize().map_err(|e| StartError::Start(format!("{}: {e}", folder.display())))?;
            folder.display().to_string()
        }
    };
    let (clock, unique) = (config.clock.clone(), config.ids.clone());
    let (of_catalog, sealer) = (store.clone(), Sealer::open(&config.dir, config.etcd.is_some())?);
    let journal = Journal::new(store.clone(), runtime.clone(), stores.clone(), clock.clone(), unique.clone());
    let journal = journal.sealing(sealer.clone());
    journal.recover().await?;
    let (grace, limits, connectors) = (config.grace, config.statements.limits, config.statements.connectors.clone());
    let (tasks, stop) = primary.background();
    let (tasks, stop) = (tasks.clone(), stop.clone());
    let of_catalog = CatalogConfig {
        store: of_catalog,
        sealer,
        stores,
        connectors,
        runtime,
        warehouse,
        grace,
        limits,
        clock,
        ids: unique.clone(),
        tasks: tasks.clone(),
    };
    let catalog = Catalog::open(of_catalog).await?;
    let registry = Registry::new(config.sessions.clone(), catalog.clone());
    let driver = primary.driver.clone();
    let runner = Arc::new(ClusterRunner::new(driver.clone(), results, files.clone()));
    let statements = Statements::new(config.statements.clone(), catalog.clone(), runner, journal, tasks.clone());
    let jobs = Jobs::new(driver.clone());
    let runs = Runs::new(config.runs.clone(), statements.clone(), jobs.clone(), keys);
    let sessions = Sessions::new(registry.clone(), statements.clone());
    let limits = config.elastic.as_ref().map(|elastic| elastic.config.clone());
    let view = ClusterView::new(driver.clone(), rest_url.clone());
    let view = view.with(sessions.clone(), runs.clone(), catalog.clone(), limits);
    let (options, tickets) = (config.sessions.options.clone(), files.tickets().clone());
    let (gate, of_submissions) = (statements.gate().clone(), statements.clone());
    let (settings, stopped) = (config.submissions, stop.clone());
    let (of_runs, of_sessions) = (runs.clone(), sessions.clone());
    let interactive = Interactive::new(config.interactive, of_runs, of_sessions, &statements, rest_url, stop.clone());
    let submissions = Submissions::new(settings, runs.clone(), of_submissions, driver, store, options, stopped);
    let batches = Batches::new(submissions.clone(), jobs.clone(), statements.clone(), stop.clone());
    let services = Services {
        batches,
        loads: Loads::new(statements.clone(), runs.clone()),
        submissions,
        interactive,
        catalog: CatalogView::new(statements),
        files: FilesView::new(Wfs::new(Arc::new(files), Handle::current(), None), view.clone(), tickets, unique),
        runs,
        sessions,
        jobs,
        cluster: view,
    };
    tasks.spawn(upkeep(catalog, registry.clone(), services.clone(), stop));
    primary.services().add_service(FlightFace::new(services.clone()).into_server());
    primary
        .services()
        .add_service(AdminServer::new(AdminService::new(&services)).max_decoding_message_size(MAX_MESSAGE_BYTES));
    let results = services.runs.clone();
    primary.finish_with(Box::pin(async move {
        gate.close().await;
        results.settled(LAST_RESULTS).await;
    }));
    services.submissions.resume().await?;
    services.interactive.resume().await?;
    services.batches.resume().await?;
    primary.sessions(registry);
    if let Some(elastic) = config.elastic.clone() {
        let (tasks, stop) = primary.background();
        tasks.spawn(elastic.run(primary.driver.clone(), stop.clone()));
    }
    Ok(services)
}

async fn upkeep(catalog: Arc<Catalog>, registry: Arc<Registry>, services: Services, stop: CancellationToken) {
    let mut outcomes_forgotten = tokio::time::Instant::now();
    let mut every = tokio::time::interval(UPKEEP);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        registry.expire().await;
        services.runs.expire(&services.sessions);
        if outcomes_forgotten.elapsed() >= FORGET_OUTCOMES {
            outcomes_forgotten = tokio::time::Instant::now();
            let (store, now_ms) = (catalog.store().as_ref(), catalog.clock().wall_ms());
            let forgotten = async {
                outcomes::forget_old(store, now_ms).await?;
                requests::forget_old(store, now_ms).await?;
                tries::forget_old(store, now_ms).await
            };
            if let Err(error) = forgotten.await {
                tracing::warn!(%error, "outcomes, requests and tries could not be forgotten; they will be tried again");
            }
        }
        if let Err(error) = catalog.collect_garbage().await {
            tracing::warn!(%error, "files of dropped tables could not be removed; they will be tried again");
        }
    }
}
