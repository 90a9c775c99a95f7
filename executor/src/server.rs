//! The executor's port: Exchange, Blocks, Flight and the data side of WebHDFS.

use crate::blocks::BlocksService;
use crate::error::ExecutorError;
use crate::exchange::fetch;
use crate::flight::ResultService;
use crate::node::Executor;
use crate::webhdfs;
use arrow_flight::flight_service_server::FlightServiceServer;
use axum::Router;
use axum::routing::post;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use windlass_engine::remote::listen;
use windlass_proto::bulk;
use windlass_proto::door::{Serves, serve};
use windlass_proto::v1::blocks_server::BlocksServer;

/// Maximum bytes of a piece of a block with its envelope.
const MAX_PIECE_BYTES: usize = 8 << 20;

pub(crate) struct Server {
    listener: TcpListener,
    address: String,
}

impl Server {
    pub async fn bind(executor: &Executor) -> Result<Server, ExecutorError> {
        let config = &executor.node().config;
        let address = config.listen;
        let listener = listen(address).map_err(|source| match source.kind() {
            std::io::ErrorKind::AddrInUse => ExecutorError::AddressInUse { address },
            _ => ExecutorError::Listen { address, source },
        })?;
        let bound = listener.local_addr().map_err(|source| ExecutorError::Listen { address, source })?;
        let address = match &config.advertise {
            Some(advertise) if advertise.contains(':') => advertise.clone(),
            Some(host) => format!("{host}:{}", bound.port()),
            None => SocketAddr::new(reachable(bound.ip(), &config.primaries), bound.port()).to_string(),
        };
        Ok(Server { listener, address })
    }

    /// host:port under which others reach this executor.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub async fn run(self, executor: &Executor, stop: CancellationToken) -> Result<(), ExecutorError> {
        let (store, keys) = (executor.store().clone(), executor.node().keys.clone());
        let blocks = BlocksService { store: executor.node().blocks.clone(), keys: keys.clone() };
        let results = FlightServiceServer::new(ResultService { store: store.clone(), keys: keys.clone() });
        let read = blocks.clone();
        let router = executor.stores().wfs().map_or_else(Router::new, |wfs| webhdfs::routes(wfs, keys.clone()));
        let router = router
            .route(
                bulk::FETCH,
                post(async move |call| bulk::serve(call, |request| fetch(&store, &keys, request)).await),
            )
            .route(bulk::READ_BLOCK, post(async move |call| bulk::serve(call, |request| read.read(request)).await));
        let routes = Routes::from(router)
            .add_service(BlocksServer::new(blocks).max_decoding_message_size(MAX_PIECE_BYTES))
            .add_service(results);
        let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true));
        let served = serve(incoming, routes, Serves::Executor, stop.cancelled_owned()).await;
        served.map_err(|error| ExecutorError::Serve { address: self.address, reason: error.to_string() })
    }
}

/// The address of the interface that leads to the first primary, when the service listens on all of them.
fn reachable(bound: IpAddr, primaries: &[String]) -> IpAddr {
    if !bound.is_unspecified() {
        return bound;
    }
    let towards = |primary: &String| {
        let primary = primary.rsplit("://").next().unwrap_or(primary);
        let socket = UdpSocket::bind(SocketAddr::new(bound, 0)).ok()?;
        // Connecting only chooses a route; nothing is sent.
        socket.connect(primary).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
    };
    primaries.iter().find_map(towards).unwrap_or(IpAddr::from([127, 0, 0, 1]))
}
