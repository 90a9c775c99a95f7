//! Reads map outputs of other executors and of this one through one [`ExchangeSource`].
//!
//! ```text
//!            I/O runtime                                  caller's runtime
//!   peer ══> fetch task ──> frames, a bounded channel ──> FrameDecoder ──┐
//!   peer ══> fetch task ──> frames ...                ──> FrameDecoder ──┼──> batches
//!   own store ───────────────────────────────────────────────────────────┘
//! ```
//!
//! Each reader sends one request to each host, and reads from a few hosts at a time. A slow reader exerts backpressure on its peers through the channels and
//! HTTP/2 flow control. Every failure names the map output at fault, so that it can be computed again.

use crate::exchange::{BucketSel, ExchangeError, ExchangeStore, FrameDecoder};
use crate::exchange_source::ExchangeSource;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use windlass_core::failure::TaskFailure;
use windlass_core::ids::{AttemptId, ExecutorId};
use windlass_proto::door::{Purpose, dial};
use windlass_proto::pass::KeyRing;
use windlass_proto::v1::fetch_chunk::Chunk;
use windlass_proto::{bulk, describe, v1};

/// Maximum hosts that one reader fetches from at a time.
const HOSTS_AT_A_TIME: usize = 4;
/// Maximum chunks (of at most [`FRAME_BYTES`](windlass_proto::door::FRAME_BYTES) each) of one host that wait for the reader to decode them.
const CHUNKS_AHEAD: usize = 8;
/// Maximum bytes of a chunk and its envelope.
const MAX_CHUNK_BYTES: usize = 8 << 20;
/// Maximum peers whose connections are kept.
const MAX_PEERS: usize = 1_024;
/// Pauses before the retries of a fetch that failed before its first chunk.
const RETRY_AFTER: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(300)];

/// Connections that the kernel holds until they are accepted, if its limit allows it (net.core.somaxconn). A thousand clients that connect at once are let
/// in; the usual 1,024 places are too few when more come while others are served.
const BACKLOG: u32 = 4_096;

/// Listens for gRPC. Must be called on the runtime that serves.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted server finds its port free, whatever connections of the last one remain.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A connection for bulk data to an executor's services, opened on first use. It lives on the runtime on which this is called.
pub fn executor_channel(
    address: &str,
    connect_timeout: Duration,
) -> std::result::Result<Channel, tonic::transport::Error> {
    Ok(dial(address, Purpose::Bulk, connect_timeout)?.connect_lazy())
}

/// Connections to other executors, one per address, shared by everything in the process that fetches.
pub struct Connections {
    /// Keys that sign requests.
    keys: KeyRing,
    io: Handle,
    pool: Arc<dyn MemoryPool>,
    peers: Mutex<BTreeMap<String, Channel>>,
}

/// Addresses of executors.
pub trait AddressBook: fmt::Debug + Send + Sync {
    /// host:port of the executor's exchange service; `None` when it has left the cluster.
    fn address(&self, executor: ExecutorId) -> Option<String>;

    /// The executor that holds an output said to be on `executor`: another one, if the output has moved.
    fn holder(&self, _output: AttemptId, executor: ExecutorId) -> ExecutorId {
        executor
    }
}

impl AddressBook for BTreeMap<ExecutorId, String> {
    fn address(&self, executor: ExecutorId) -> Option<String> {
        self.get(&executor).cloned()
    }
}

/// The outputs that are read from a store of this process, not over the network.
#[derive(Clone, Debug)]
pub enum Local {
    Nothing,
    /// Outputs of this executor.
    Of(ExecutorId, Arc<ExchangeStore>),
    /// All outputs: the process is the whole cluster.
    Everything(Arc<ExchangeStore>),
}

/// Reads map outputs from the executors in `addresses` and from a store of this process.
#[derive(Debug)]
pub struct RemoteExchange {
    connections: Arc<Connections>,
    addresses: Arc<dyn AddressBook>,
    local: Local,
}

impl Connections {
    /// Network work runs on `io`, never where batches are decoded. Fetched data that is not yet decoded is accounted in `pool`.
    pub fn new(io: Handle, pool: Arc<dyn MemoryPool>, keys: KeyRing) -> Arc<Self> {
        Arc::new(Connections { keys, io, pool, peers: Mutex::default() })
    }

    /// Must be called on the I/O runtime: the connection lives there.
    fn peer(&self, address: &str) -> std::result::Result<Channel, tonic::transport::Error> {
        let mut peers = self.peers.lock();
        if let Some(peer) = peers.get(address) {
            return Ok(peer.clone());
        }
        if peers.len() >= MAX_PEERS {
            peers.clear();
        }
        let peer = executor_channel(address, Duration::from_secs(5))?;
        peers.insert(address.to_string(), peer.clone());
        Ok(peer)
    }

    fn forget(&self, address: &str) {
        self.peers.lock().remove(address);
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("peers", &self.peers.lock().len()).finish_non_exhaustive()
    }
}

impl RemoteExchange {
    pub fn new(connections: Arc<Connections>, addresses: Arc<dyn AddressBook>, local: Local) -> Self {
        RemoteExchange { connections, addresses, local }
    }

    fn read_local(
        store: Arc<ExchangeStore>,
        executor: ExecutorId,
        requests: Vec<(AttemptId, BucketSel)>,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let read_one = move |(output, select): (AttemptId, BucketSel)| {
            let failed = move |error| unreadable(error, output, executor);
            let batches = store.read(output, select).map_err(failed);
            stream::iter([batches.map(|batches| batches.map_err(failed))]).try_flatten()
        };
        stream::iter(requests).flat_map(read_one).boxed()
    }

    fn read_remote(
        connections: Arc<Connections>,
        executor: ExecutorId,
        address: Option<String>,
        requests: Vec<(AttemptId, BucketSel)>,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let Some(address) = address else {
            let message = "it is not in the cluster any more".to_string();
            let lost = TaskFailure::FetchFailed { output: requests[0].0, executor, message };
            return stream::once(async { Err(external(lost)) }).boxed();
        };
        let reader = HostReader::start(connections, executor, address, requests);
        stream::try_unfold(reader, |mut reader| async { Ok(reader.next().await?.map(|batch| (batch, reader))) }).boxed()
    }
}

impl ExchangeSource for RemoteExchange {
    fn read(
        &self,
        schema: SchemaRef,
        outputs: Vec<(AttemptId, ExecutorId)>,
        buckets: Option<Range<u32>>,
    ) -> SendableRecordBatchStream {
        let selected: Vec<BucketSel> = match buckets {
            Some(buckets) => buckets.map(BucketSel::One).collect(),
            None => vec![BucketSel::All],
        };
        let mut hosts: BTreeMap<ExecutorId, Vec<(AttemptId, BucketSel)>> = BTreeMap::new();
        for (output, executor) in outputs {
            let executor = self.addresses.holder(output, executor);
            hosts.entry(executor).or_default().extend(selected.iter().map(|select| (output, *select)));
        }
        hosts.retain(|_, requests| !requests.is_empty());
        let (connections, addresses, local) = (self.connections.clone(), self.addresses.clone(), self.local.clone());
        let readers = hosts.into_iter().map(move |(executor, requests)| match &local {
            Local::Everything(store) => Self::read_local(store.clone(), executor, requests),
            Local::Of(own, store) if *own == executor => Self::read_local(store.clone(), executor, requests),
            Local::Of(..) | Local::Nothing => {
                Self::read_remote(connections.clone(), executor, addresses.address(executor), requests)
            }
        });
        let batches = stream::iter(readers).flatten_unordered(HOSTS_AT_A_TIME);
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }
}

/// Fetches a whole map output from another executor into `store`, under the same name. Dropping the future leaves nothing.
pub async fn adopt(
    connections: Arc<Connections>,
    store: &Arc<ExchangeStore>,
    output: AttemptId,
    from: ExecutorId,
    address: String,
) -> Result<()> {
    let mut reader = HostReader::start(connections, from, address, vec![(output, BucketSel::All)]);
    let mut begun = None;
    loop {
        let batch = reader.next().await?;
        let Some(schema) = reader.decoder.schema() else {
            return Err(reader.corrupt(ExchangeError::Missing { output }));
        };
        let (bucket, buckets) = reader.decoder.place();
        let mut writer = match begun.take() {
            Some(writer) => writer,
            None => store.writer(output, Arc::clone(schema), buckets),
        };
        let Some(batch) = batch else {
            writer.finish().await?;
            return Ok(());
        };
        writer.push(bucket, batch).await?;
        begun = Some(writer);
    }
}

/// The decoding end of one fetch.
struct HostReader {
    executor: ExecutorId,
    first: AttemptId,
    chunks: mpsc::Receiver<std::result::Result<Bytes, v1::FetchError>>,
    decoder: FrameDecoder,
    /// Memory of received data that is not yet decoded.
    memory: Arc<MemoryReservation>,
    fed: usize,
    ended: bool,
    /// The fetch itself; it stops when the reader is dropped.
    _task: JoinSet<()>,
}

impl HostReader {
    fn start(
        connections: Arc<Connections>,
        executor: ExecutorId,
        address: String,
        requests: Vec<(AttemptId, BucketSel)>,
    ) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let memory = Arc::new(MemoryConsumer::new(format!("ExchangeFetch[{executor}]")).register(&connections.pool));
        let first = requests[0].0;
        let decoder = FrameDecoder::new(requests.clone());
        let mut task = JoinSet::new();
        let io = connections.io.clone();
        let fetch = Fetch { connections, address, requests, memory: memory.clone(), sender };
        task.spawn_on(fetch.run(), &io);
        HostReader { executor, first, chunks, decoder, memory, fed: 0, ended: false, _task: task }
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let decoded = self.decoder.next_batch().map_err(|error| self.corrupt(error))?;
            if let Some((_, batch)) = decoded {
                return Ok(Some(batch));
            }
            let buffered = self.decoder.buffered_bytes();
            self.memory.shrink(self.fed.saturating_sub(buffered));
            self.fed = self.fed.min(buffered);
            if self.ended {
                return Ok(None);
            }
            match self.chunks.recv().await {
                Some(Ok(chunk)) => {
                    self.fed += chunk.len();
                    self.decoder.feed(chunk);
                }
                Some(Err(error)) => {
                    let output = error.output.map_or(self.first, AttemptId::from);
                    let (executor, message) = (self.executor, error.message);
                    return Err(external(TaskFailure::FetchFailed { output, executor, message }));
                }
                None => {
                    self.decoder.finish().map_err(|error| self.corrupt(error))?;
                    self.ended = true;
                }
            }
        }
    }

    fn corrupt(&self, error: ExchangeError) -> DataFusionError {
        let output = error.output().unwrap_or(self.first);
        unreadable(error, output, self.executor)
    }
}

/// The network end of one fetch.
struct Fetch {
    connections: Arc<Connections>,
    address: String,
    requests: Vec<(AttemptId, BucketSel)>,
    memory: Arc<MemoryReservation>,
    sender: mpsc::Sender<std::result::Result<Bytes, v1::FetchError>>,
}

struct Broken {
    /// Whether the reader was already given chunks.
    delivered: bool,
    message: String,
}

impl Fetch {
    async fn run(self) {
        let mut pauses = RETRY_AFTER.iter();
        let failure = loop {
            match self.once().await {
                Ok(()) => return,
                // Delivered chunks cannot be taken back.
                Err(broken) if broken.delivered => break broken.message,
                Err(broken) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => break broken.message,
                },
            }
        };
        let message = format!("{failure} (at {})", self.address);
        let _ = self.sender.send(Err(v1::FetchError { output: None, message })).await;
    }

    async fn once(&self) -> std::result::Result<(), Broken> {
        let mut delivered = false;
        let broken =
            |delivered, error: &(dyn std::error::Error + 'static)| Broken { delivered, message: describe(error) };
        let peer = self.connections.peer(&self.address).map_err(|error| broken(false, &error))?;
        let called = bulk::call::<_, v1::FetchChunk>(peer, bulk::FETCH, self.request(), MAX_CHUNK_BYTES);
        let mut chunks = match called.await {
            Ok(chunks) => chunks,
            Err(status) => {
                self.connections.forget(&self.address);
                return Err(broken(false, &status));
            }
        };
        loop {
            let chunk = match chunks.message().await {
                Ok(None) => return Ok(()),
                Ok(Some(message)) => message.chunk,
                Err(status) => return Err(broken(delivered, &status)),
            };
            let item = match chunk {
                None => continue,
                Some(Chunk::Frame(bytes)) => {
                    self.memory.grow(bytes.len());
                    Ok(bytes)
                }
                Some(Chunk::Error(error)) => Err(error),
            };
            delivered = true;
            if self.sender.send(item).await.is_err() {
                return Ok(());
            }
        }
    }

    fn request(&self) -> v1::FetchRequest {
        let output = |&(output, select): &(AttemptId, BucketSel)| v1::FetchOutput {
            output: Some(output.into()),
            bucket: match select {
                BucketSel::One(bucket) => Some(bucket),
                BucketSel::All => None,
            },
        };
        let pass = self.connections.keys.sign_request(self.requests[0].0.job());
        v1::FetchRequest { outputs: self.requests.iter().map(output).collect(), pass }
    }
}

/// Outputs that are gone or damaged must be computed again; other failures are the reader's own.
fn unreadable(error: ExchangeError, output: AttemptId, executor: ExecutorId) -> DataFusionError {
    match error {
        ExchangeError::Missing { .. } | ExchangeError::Corrupt { .. } | ExchangeError::Io { .. } => {
            external(TaskFailure::FetchFailed { output, executor, message: error.to_string() })
        }
        ExchangeError::DiskFull { .. }
        | ExchangeError::OutOfMemory { .. }
        | ExchangeError::Mismatch { .. }
        | ExchangeError::Arrow { .. }
        | ExchangeError::Internal { .. } => error.into(),
    }
}

fn external(failure: TaskFailure) -> DataFusionError {
    DataFusionError::External(Box::new(failure))
}
