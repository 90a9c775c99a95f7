//! The primary: all parts of this crate, assembled and listening.

pub mod leading;
pub mod member;
mod standby;

use crate::driver::dispatch::DispatchService;
use crate::driver::saved::SavedJobs;
use crate::driver::{Directory, Driver, DriverConfig};
use crate::files::Files;
use crate::meta::IdSource;
use crate::statements::sessions::{Registry, incoming};
use futures::Stream;
use futures::future::BoxFuture;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::server::{Connected, TcpIncoming};
use windlass_engine::remote;
use windlass_proto::MAX_MESSAGE_BYTES;
use windlass_proto::door::{Serves, identified, serve};
use windlass_proto::v1::dispatch_server::DispatchServer;

#[derive(Clone, Debug)]
pub struct PrimaryConfig {
    /// Address for executors, clients and tools. Default: a free port of 127.0.0.1.
    pub listen: SocketAddr,
    pub driver: DriverConfig,
    /// How long running jobs may take to end after a request to stop. Default 60 s.
    pub finish_timeout: Duration,
    /// How long open streams may continue after that. Default 5 s.
    pub stop_timeout: Duration,
}

impl Default for PrimaryConfig {
    fn default() -> Self {
        PrimaryConfig {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            driver: DriverConfig::default(),
            finish_timeout: Duration::from_secs(60),
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
    #[error("serving on {address} failed: {reason}")]
    Serve { address: SocketAddr, reason: String },
}

/// A primary that is bound to its port and does not serve yet. The port is known, and other services can be added.
pub struct Primary {
    pub driver: Driver,
    config: PrimaryConfig,
    listener: Option<TcpListener>,
    address: SocketAddr,
    /// Notified when a connection ends. Absent in tests of the layers below sessions.
    sessions: Option<Arc<Registry>>,
    services: RoutesBuilder,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Refuses new statements and waits for the running ones.
    finish: Option<BoxFuture<'static, ()>>,
}

impl Primary {
    /// Binds a port.
    pub async fn listen(address: SocketAddr) -> Result<TcpListener, PrimaryError> {
        remote::listen(address).map_err(|source| match source.kind() {
            std::io::ErrorKind::AddrInUse => PrimaryError::AddressInUse { address },
            _ => PrimaryError::Listen { address, source },
        })
    }

    /// Returns a primary on a port from [`Primary::listen`].
    pub(crate) fn on(
        listener: TcpListener,
        config: PrimaryConfig,
        ids: Arc<dyn IdSource>,
        saved: Option<Arc<SavedJobs>>,
        files: Option<Files>,
    ) -> Result<Primary, PrimaryError> {
        let address = config.listen;
        let address = listener.local_addr().map_err(|source| PrimaryError::Listen { address, source })?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let driver = Driver::start(config.driver.clone(), ids, saved, files, stop.clone(), &tasks);
        let services = RoutesBuilder::default();
        Ok(Primary {
            driver,
            config,
            listener: Some(listener),
            address,
            sessions: None,
            services,
            stop,
            tasks,
            finish: None,
        })
    }

    /// Returns a primary without a port, for [`Primary::serve_here`].
    pub(crate) fn detached(config: PrimaryConfig, ids: Arc<dyn IdSource>, files: Option<Files>) -> Primary {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let driver = Driver::start(config.driver.clone(), ids, None, files, stop.clone(), &tasks);
        let (address, services) = (config.listen, RoutesBuilder::default());
        let (sessions, finish) = (None, None);
        Primary { driver, config, listener: None, address, sessions, services, stop, tasks, finish }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the first step of a stop, which may take [`PrimaryConfig::finish_timeout`].
    pub fn finish_with(&mut self, finish: BoxFuture<'static, ()>) {
        self.finish = Some(finish);
    }

    /// Sets the sessions to which the connections belong.
    pub fn sessions(&mut self, sessions: Arc<Registry>) {
        self.sessions = Some(sessions);
    }

    /// Returns the builder for other gRPC services of the same port, such as Flight SQL.
    pub fn services(&mut self) -> &mut RoutesBuilder {
        &mut self.services
    }

    /// Returns the tracker for other tasks of the primary, such as its HTTP server. They end when the token is cancelled.
    pub fn background(&self) -> (&TaskTracker, &CancellationToken) {
        (&self.tasks, &self.stop)
    }

    /// Serves its port until `shutdown` is cancelled and running jobs have ended. Stops at once when [`Primary::background`]'s token is
    /// cancelled.
    pub async fn serve(mut self, shutdown: CancellationToken) -> Result<(), PrimaryError> {
        let Some(listener) = self.listener.take() else {
            let reason = "it has no port".to_string();
            return Err(PrimaryError::Serve { address: self.address, reason });
        };
        tracing::info!(address = %self.address, "the primary listens");
        match self.sessions.clone() {
            Some(sessions) => self.serve_incoming(incoming(listener, sessions), shutdown).await,
            None => self.serve_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)), shutdown).await,
        }
    }

    /// Serves connections from `incoming` until `shutdown` is cancelled.
    pub async fn serve_incoming<I, IO>(self, incoming: I, shutdown: CancellationToken) -> Result<(), PrimaryError>
    where
        I: Stream<Item = io::Result<IO>> + Send,
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let (routes, running) = self.start();
        let address = running.address;
        let serving = serve(incoming, routes, Serves::Primary, running.stop.clone().cancelled_owned());
        let failed =
            |error: tonic::transport::Error| PrimaryError::Serve { address, reason: windlass_proto::describe(&error) };
        running.until(async { serving.await.map_err(failed) }, shutdown).await
    }

    /// Returns its services for clients of this process, and a future that must run until `shutdown` is cancelled.
    pub fn serve_here(
        self,
        shutdown: CancellationToken,
    ) -> (Routes, impl Future<Output = Result<(), PrimaryError>> + Send) {
        let (routes, running) = self.start();
        let stopped = running.stop.clone().cancelled_owned();
        let serving = async {
            stopped.await;
            Ok(())
        };
        (identified(routes).prepare(), running.until(serving, shutdown))
    }

    fn start(self) -> (Routes, Running) {
        let Primary { driver, config, address, mut services, stop, tasks, finish, .. } = self;
        let directory = driver.directory().clone();
        let dispatch = DispatchServer::new(DispatchService::new(driver))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        services.add_service(dispatch);
        (services.routes(), Running { config, address, directory, stop, tasks, finish })
    }
}

/// A serving primary.
struct Running {
    config: PrimaryConfig,
    address: SocketAddr,
    directory: Arc<Directory>,
    stop: CancellationToken,
    tasks: TaskTracker,
    finish: Option<BoxFuture<'static, ()>>,
}

impl Running {
    /// Waits until `serving` fails or `shutdown` is cancelled, then ends everything in order.
    async fn until(
        self,
        serving: impl Future<Output = Result<(), PrimaryError>>,
        shutdown: CancellationToken,
    ) -> Result<(), PrimaryError> {
        let Running { config, directory, stop, tasks, finish, .. } = self;
        let _stop_on_return = stop.clone().drop_guard();
        let mut serving = std::pin::pin!(serving);
        let finished = async {
            shutdown.cancelled().await;
            let (Some(finish), mut executors) = (finish, directory.count()) else { return };
            // Nothing ends without executors. An error means that the driver has ended.
            let deserted = async { drop(executors.wait_for(|count| *count == 0).await) };
            tokio::select! {
                () = finish => {}
                () = deserted => {}
                () = tokio::time::sleep(config.finish_timeout) => {
                    let waited_s = config.finish_timeout.as_secs();
                    tracing::warn!(waited_s, "statements are still running, stopping them");
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            served = &mut serving => return served,
            () = finished => {}
        }
        stop.cancel();
        tasks.close();
        let ended = async { tokio::join!(serving, tasks.wait()).0 };
        match tokio::time::timeout(config.stop_timeout, ended).await {
            Ok(served) => served,
            Err(_) => {
                tracing::warn!("connections are still open after the time to stop, closing them");
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
