//! A primary process, from its start to its end. Of several that share an etcd, one leads and the others stand by.
//!
//! ```text
//!                 ┌── lease lost ───┐
//!                 ▼                 │
//!   bound ──> standing by ──> leading ──SIGTERM──> resigned
//! ```
//!
//! The ports are bound once. The leader builds all parts of a primary again from the store. Connections that arrive meanwhile wait.

use crate::driver::elastic::Elasticity;
use crate::meta::{Leader, MetaStore, Term};
use crate::primary::Primary;
use crate::primary::leading::{LeadingPrimary, ProcessConfig, StartError, bind_rest, open_store};
use crate::primary::standby;
use crate::services::Leaders;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long connections to a standby may stay open when it begins to lead.
const HANG_UP: Duration = Duration::from_millis(100);

pub struct Member {
    config: ProcessConfig,
    store: Arc<dyn MetaStore>,
    grpc: TcpListener,
    rest: Option<TcpListener>,
    leader: Leader,
}

impl Member {
    /// Connects to the store and binds the ports.
    pub async fn bind(config: ProcessConfig) -> Result<Self, StartError> {
        let store = open_store(&config).await?;
        let rest = match &config.rest {
            Some(rest) => Some(std_listener(bind_rest(rest.listen).await?)?),
            None => None,
        };
        let grpc = std_listener(Primary::listen(config.primary.listen).await?)?;
        let address_of = |listener: &TcpListener| listener.local_addr().map_err(|e| start(&e));
        let address = address_of(&grpc)?;
        let host = config.advertise.clone();
        if host.is_none() && config.etcd.is_some() && address.ip().is_unspecified() {
            return Err(StartError::Start(format!(
                "it listens on every address ({address}), and the other processes of the cluster have to be told one of them: set \
                 primary.advertise"
            )));
        }
        let at = |address: SocketAddr| match &host {
            Some(host) => format!("{host}:{}", address.port()),
            None => reachable(address).to_string(),
        };
        let rest_url = match &rest {
            Some(listener) => format!("http://{}", at(address_of(listener)?)),
            None => String::new(),
        };
        let leader = Leader { url: format!("grpc://{}", at(address)), rest: rest_url };
        Ok(Self { config, store, grpc, rest, leader })
    }

    /// Lets the number of executors follow the load while this primary leads.
    pub fn follow_load(&mut self, elasticity: Elasticity) {
        self.config.elastic = Some(elasticity);
    }

    /// Returns the addresses of this primary, leading or not.
    pub fn addresses(&self) -> &Leader {
        &self.leader
    }

    /// Stands by and leads, in turn, until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), StartError> {
        while let Some(term) = self.stand_by(&shutdown).await? {
            tracing::info!(epoch = term.epoch, "this primary leads the cluster");
            let ended = self.lead(&term, &shutdown).await;
            self.store.resign().await;
            match ended {
                Err(error) if term.lost.is_cancelled() => tracing::warn!(%error, "the time as leader ended early"),
                ended => ended?,
            }
            if shutdown.is_cancelled() {
                break;
            }
            tracing::warn!("this primary does not lead any more, and stands by");
        }
        Ok(())
    }

    /// Stands by until this primary leads. `None`: a stop was requested.
    async fn stand_by(&self, shutdown: &CancellationToken) -> Result<Option<Term>, StartError> {
        let elected = self.store.lead(&self.leader);
        tokio::pin!(elected);
        // A primary that can lead at once does not answer as a standby.
        if let Ok(term) = tokio::time::timeout(HANG_UP, &mut elected).await {
            return Ok(Some(term?));
        }
        let stop = CancellationToken::new();
        let (grpc, rest) = self.listeners()?;
        let rest = rest.zip(self.config.rest.as_ref().map(|rest| rest.faces.clone()));
        let standing = standby::serve(Leaders::new(self.store.clone()), grpc, rest, stop.clone());
        tokio::pin!(standing);
        tracing::info!("another primary leads: this one stands by");
        let term = tokio::select! {
            () = shutdown.cancelled() => None,
            term = &mut elected => Some(term?),
            served = &mut standing => {
                served.map_err(StartError::Start)?;
                return Err(StartError::Start("its ports were closed".to_string()));
            }
        };
        stop.cancel();
        // Connections that do not close are closed.
        let _ = tokio::time::timeout(HANG_UP, standing).await;
        Ok(term)
    }

    async fn lead(&self, term: &Term, shutdown: &CancellationToken) -> Result<(), StartError> {
        let (grpc, rest) = self.listeners()?;
        let cluster = LeadingPrimary::over(&self.config, self.store.clone(), grpc, rest).await?;
        let stop = cluster.primary.background().1.clone();
        let serving = cluster.primary.serve(shutdown.clone());
        tokio::pin!(serving);
        tokio::select! {
            served = &mut serving => return Ok(served?),
            // Jobs that cannot publish any more are not awaited.
            () = term.lost.cancelled() => stop.cancel(),
        }
        Ok(serving.await?)
    }

    fn listeners(&self) -> Result<(tokio::net::TcpListener, Option<tokio::net::TcpListener>), StartError> {
        let again = |listener: &TcpListener| tokio::net::TcpListener::from_std(listener.try_clone()?);
        let rest = self.rest.as_ref().map(again).transpose().map_err(|e| start(&e))?;
        Ok((again(&self.grpc).map_err(|e| start(&e))?, rest))
    }
}

fn std_listener(listener: tokio::net::TcpListener) -> Result<TcpListener, StartError> {
    listener.into_std().map_err(|error| start(&error))
}

fn start(error: &std::io::Error) -> StartError {
    StartError::Start(error.to_string())
}

/// Returns the address under which a process can be reached. One that listens on all interfaces is reached from its own machine at the
/// local address.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        let local = if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        address.set_ip(local);
    }
    address
}

impl From<crate::meta::MetaError> for StartError {
    fn from(error: crate::meta::MetaError) -> Self {
        StartError::Store(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_listens_everywhere_is_reached_locally() {
        assert_eq!(reachable("0.0.0.0:70".parse().unwrap()).to_string(), "127.0.0.1:70");
        assert_eq!(reachable("[::]:70".parse().unwrap()).to_string(), "[::1]:70");
        assert_eq!(reachable("10.0.0.1:70".parse().unwrap()).to_string(), "10.0.0.1:70");
    }
}
