//! The primary: everything of this crate, put together and listening.

use crate::admin::{AdminService, SubmitStatement};
use crate::dispatch::DispatchService;
use crate::driver::{Driver, DriverConfig, IdSource};
use crate::errors::QueryError;
use crate::front::{Front, FrontConfig, planning_runtime};
use crate::meta::{DurableIds, EmbeddedStore, MemoryStore, MetaStore};
use crate::results::ResultSource;
use crate::session::{Sessions, incoming};
use crate::statement::ClusterRunner;
use datafusion::execution::runtime_env::RuntimeEnv;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::RoutesBuilder;
use windlass_engine::Connections;
use windlass_engine::exchange::ExchangeStore;
use windlass_engine::remote::{CONNECTION_WINDOW, STREAM_WINDOW};
use windlass_proto::MAX_MESSAGE_BYTES;
use windlass_proto::v1::admin_server::AdminServer;
use windlass_proto::v1::dispatch_server::DispatchServer;

#[derive(Clone, Debug)]
pub struct PrimaryConfig {
    /// Where executors, clients and tools connect. Default 127.0.0.1:7070.
    pub listen: SocketAddr,
    /// Where the REST interface listens. Default: nowhere.
    pub rest: Option<SocketAddr>,
    /// Where the REST interface answers; empty: nowhere. Set by [`Primary::open`].
    pub rest_url: String,
    /// The folder of the catalog and, unless `front` says otherwise, of the tables that are made here. Default: none, and everything is
    /// forgotten when the primary ends.
    pub dir: Option<PathBuf>,
    /// Default: tables lie in `dir`/warehouse.
    pub front: Option<FrontConfig>,
    pub driver: DriverConfig,
    /// How long open streams may go on after a request to stop. Default 5 s.
    pub stop_timeout: Duration,
}

impl Default for PrimaryConfig {
    fn default() -> Self {
        PrimaryConfig {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070),
            rest: None,
            rest_url: String::new(),
            dir: None,
            front: None,
            driver: DriverConfig::default(),
            stop_timeout: Duration::from_secs(5),
        }
    }
}

#[derive(Debug, Error)]
pub enum PrimaryError {
    #[error("port {} on {} is in use: stop what listens there, or choose another with --listen (port 0 takes a free one)", address.port(), address.ip())]
    AddressInUse { address: SocketAddr },
    #[error("cannot listen on {address}: {source}; see --listen")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("the primary cannot start: {0}")]
    Front(#[from] QueryError),
    #[error("serving on {address} failed: {reason}")]
    Serve { address: SocketAddr, reason: String },
}

/// A primary that is bound to its port and not serving yet: the port is known, and other services can be added.
pub struct Primary {
    pub driver: Driver,
    config: PrimaryConfig,
    listener: TcpListener,
    address: SocketAddr,
    submit: Option<Arc<dyn SubmitStatement>>,
    services: RoutesBuilder,
    sessions: Option<Arc<Sessions>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Primary {
    pub async fn bind(config: PrimaryConfig, ids: Arc<dyn IdSource>) -> Result<Primary, PrimaryError> {
        Self::bind_with(config, ids, TaskTracker::new(), CancellationToken::new()).await
    }

    async fn bind_with(
        config: PrimaryConfig,
        ids: Arc<dyn IdSource>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Primary, PrimaryError> {
        let address = config.listen;
        let listener = listen(address).await?;
        let address = listener.local_addr().map_err(|source| PrimaryError::Listen { address, source })?;
        let driver = Driver::start(config.driver.clone(), ids, stop.clone(), &tasks);
        let services = RoutesBuilder::default();
        Ok(Primary { driver, config, listener, address, submit: None, services, sessions: None, stop, tasks })
    }

    /// A whole primary: durable identifiers and catalog, Flight SQL, detached statements, REST.
    pub async fn open(config: PrimaryConfig) -> Result<Primary, PrimaryError> {
        let Foundation { store, ids, front, tasks, stop } = Foundation::lay(&config).await?;
        let rest = config.rest;
        let mut primary = Primary::bind_with(config, ids, tasks, stop).await?;
        let runtime = planning_runtime(None).map_err(QueryError::from)?;
        let pool = Arc::clone(&runtime.memory_pool);
        let results = ResultSource::remote(Arc::clone(primary.driver.directory()), tokio::runtime::Handle::current(), pool);
        let runner = Arc::new(ClusterRunner::new(primary.driver.clone(), results));
        let front = Front::open(front, store, runtime, runner, &primary.tasks, &primary.stop).await?;
        primary.services.add_service(front.flight());
        primary.submit_with(front.submit());
        primary.sessions = Some(Arc::clone(&front.sessions));
        if let Some(address) = rest {
            primary.serve_rest(address, front).await?;
        }
        Ok(primary)
    }

    async fn serve_rest(&mut self, address: SocketAddr, front: Front) -> Result<(), PrimaryError> {
        let listener = listen(address).await?;
        let bound = listener.local_addr().map_err(|source| PrimaryError::Listen { address, source })?;
        self.config.rest_url = format!("http://{bound}");
        let serving = crate::rest::serve(listener, crate::rest::router(self.driver.clone(), front), self.stop.clone());
        self.tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the REST interface stopped");
            }
        });
        Ok(())
    }

    /// Where the REST interface answers; empty: nowhere.
    pub fn rest_url(&self) -> &str {
        &self.config.rest_url
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who runs what `Admin.Submit` is given.
    pub fn submit_with(&mut self, submit: Arc<dyn SubmitStatement>) {
        self.submit = Some(submit);
    }

    /// Other gRPC services of the same port, Flight SQL first among them.
    pub fn services(&mut self) -> &mut RoutesBuilder {
        &mut self.services
    }

    /// Where other tasks of the primary belong, such as its HTTP server; they end when the token is cancelled.
    pub fn background(&self) -> (&TaskTracker, &CancellationToken) {
        (&self.tasks, &self.stop)
    }

    /// Serves until `shutdown` is cancelled.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), PrimaryError> {
        let Primary { driver, config, listener, address, submit, mut services, sessions, stop, tasks } = self;
        let _stop_on_return = stop.clone().drop_guard();
        let dispatch = DispatchServer::new(DispatchService::new(driver.clone()))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        services.add_service(dispatch);
        services.add_service(AdminServer::new(AdminService::new(driver, submit, config.rest_url)));
        let stopping = stop.clone();
        let serving = tonic::transport::Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .http2_keepalive_timeout(Some(Duration::from_secs(20)))
            .add_routes(services.routes())
            .serve_with_incoming_shutdown(incoming(listener, sessions), stop.clone().cancelled_owned());
        tracing::info!(%address, "the primary listens");
        let mut serving = std::pin::pin!(serving);
        let failed =
            |error: tonic::transport::Error| PrimaryError::Serve { address, reason: windlass_proto::describe(&error) };
        tokio::select! {
            served = &mut serving => return served.map_err(failed),
            () = shutdown.cancelled() => {}
        }
        stopping.cancel();
        tasks.close();
        let ended = async { tokio::join!(serving, tasks.wait()).0 };
        match tokio::time::timeout(config.stop_timeout, ended).await {
            Ok(served) => served.map_err(failed),
            Err(_) => {
                tracing::warn!("connections are still open after the time to stop, closing them");
                Ok(())
            }
        }
    }
}

/// A primary without a port, for a process that is the executor and the client as well. The executor is joined with
/// [`Driver::attach_local`].
pub struct Embedded {
    pub driver: Driver,
    pub front: Front,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What an embedded primary shares with the executor of its process.
pub struct SharedParts {
    /// Plans are made with the caches that tasks read with.
    pub runtime: Arc<RuntimeEnv>,
    pub connections: Arc<Connections>,
    /// Results are read from here, without a copy.
    pub store: Arc<ExchangeStore>,
}

impl Embedded {
    /// As [`Primary::open`]: `dir`, `front` and `driver` of `config` count here.
    pub async fn open(config: PrimaryConfig, shared: SharedParts) -> Result<Embedded, PrimaryError> {
        let foundation = Foundation::lay(&config).await?;
        let Foundation { store, ids, front, tasks, stop } = foundation;
        let driver = Driver::start(config.driver, ids, stop.clone(), &tasks);
        let results = ResultSource::embedded(Arc::clone(driver.directory()), shared.connections, shared.store);
        let runner = Arc::new(ClusterRunner::new(driver.clone(), results));
        let front = Front::open(front, store, shared.runtime, runner, &tasks, &stop).await?;
        Ok(Embedded { driver, front, stop, tasks })
    }

    /// Cancels what runs and waits for it, up to `timeout`.
    pub async fn stop(self, timeout: Duration) {
        self.stop.cancel();
        self.tasks.close();
        // What has not ended by then ends with the process.
        let _ = tokio::time::timeout(timeout, self.tasks.wait()).await;
    }
}

/// What every kind of primary starts from.
struct Foundation {
    store: Arc<dyn MetaStore>,
    ids: Arc<DurableIds>,
    front: FrontConfig,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Foundation {
    async fn lay(config: &PrimaryConfig) -> Result<Self, PrimaryError> {
        let store: Arc<dyn MetaStore> = match &config.dir {
            Some(dir) => Arc::new(EmbeddedStore::open(&dir.join("meta.redb")).map_err(QueryError::from)?),
            None => Arc::new(MemoryStore::default()),
        };
        let front = match (&config.front, &config.dir) {
            (Some(front), _) => front.clone(),
            (None, Some(dir)) => FrontConfig::new(dir.join("warehouse").display().to_string()),
            (None, None) => {
                let process = format!("windlass-warehouse-{}", std::process::id());
                FrontConfig::new(std::env::temp_dir().join(process).display().to_string())
            }
        };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let ids = DurableIds::open(&store, &tasks, &stop).await.map_err(QueryError::from)?;
        Ok(Self { store, ids, front, tasks, stop })
    }
}

/// Runs a primary process until `shutdown` is cancelled.
pub async fn run(config: PrimaryConfig, shutdown: CancellationToken) -> Result<(), PrimaryError> {
    Primary::open(config).await?.serve(shutdown).await
}

async fn listen(address: SocketAddr) -> Result<TcpListener, PrimaryError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => PrimaryError::AddressInUse { address },
        _ => PrimaryError::Listen { address, source },
    })
}

#[cfg(test)]
mod tests;
