//! `wfs://`: files in replicated blocks on the cluster's core executors, for all readers and writers: tasks, planners, the command line.
//!
//! ```text
//!   WfsStore (object_store) ──> FileReader, FileWriter ──> Wfs::ask ──> the primary: names, where blocks lie
//!                                         └──> BlockNode: a replica's executor, over the network or in this process
//! ```

mod coding;
pub mod hadoop;
mod peers;
mod read;
mod store;
mod write;

pub use coding::{Unread, parity, read_extent, read_rebuilt};
pub use peers::{BlockNode, Peers, verify};
pub use read::read;
pub use store::WfsStore;
pub use write::{FileWriter, WriteOptions};

use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;
use tokio::runtime::Handle;
use tonic::{Code, Status};
use windlass_engine::stores::ReadBytes;
use windlass_proto::v1::file_error::Kind;
use windlass_proto::v1::file_reply::Reply;
use windlass_proto::v1::file_request::Ask;
use windlass_proto::{describe, v1};

/// Bytes covered by one checksum.
pub const CHECKSUM_BYTES: usize = 64 << 10;
/// Bytes of a block that travel together: a multiple of [`CHECKSUM_BYTES`].
pub const PIECE_BYTES: usize = 1 << 20;

/// Connection to the leading primary. Delivers a request to whichever primary leads.
#[async_trait]
pub trait Primary: Send + Sync + fmt::Debug {
    async fn ask(&self, request: v1::FileRequest) -> Result<v1::FileReply, Status>;
}

/// Access to replicas in this process.
pub trait Local: Send + Sync + fmt::Debug {
    fn near(&self) -> v1::Near;

    /// The replicas, if this process is that executor.
    fn node(&self, executor: u64) -> Option<Arc<dyn BlockNode>>;
}

/// Files of one cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Wfs {
    shared: Arc<Shared>,
    /// Counter of the bytes that this handle's reader reads.
    counted: Option<ReadBytes>,
}

#[derive(Debug)]
struct Shared {
    primary: Arc<dyn Primary>,
    local: Option<Arc<dyn Local>>,
    peers: Peers,
    local_bytes: AtomicU64,
    remote_bytes: AtomicU64,
}

#[derive(Clone, Debug, Error)]
pub enum WfsError {
    /// The primary refused the request.
    #[error("{}", .0.message)]
    Refused(v1::FileError),
    #[error("the cluster's primary cannot be asked about files: {0}")]
    Primary(String),
    #[error("{path} cannot be read at byte {offset}: {reason}")]
    Unreadable { path: String, offset: u64, reason: String },
    #[error("{path} cannot be written: {reason}")]
    Unwritable { path: String, reason: String },
}

impl WfsError {
    pub fn kind(&self) -> Option<Kind> {
        match self {
            WfsError::Refused(error) => Some(error.kind()),
            _ => None,
        }
    }
}

impl Wfs {
    /// Creates a handle. Network work runs on `io`.
    pub fn new(primary: Arc<dyn Primary>, io: Handle, local: Option<Arc<dyn Local>>) -> Wfs {
        let (local_bytes, remote_bytes) = Default::default();
        let shared = Shared { primary, local, peers: Peers::new(io), local_bytes, remote_bytes };
        Wfs { shared: Arc::new(shared), counted: None }
    }

    /// Returns the same files, with the reader's bytes counted.
    pub fn counting(self, bytes: ReadBytes) -> Wfs {
        Wfs { counted: Some(bytes), ..self }
    }

    pub async fn ask(&self, ask: Ask) -> Result<Reply, WfsError> {
        let near = self.shared.local.as_ref().map(|local| local.near());
        let name = uuid::Uuid::new_v4();
        // Requests that only read, or that have their own name, need none.
        let name = match &ask {
            Ask::Mkdir(_) | Ask::Rename(_) | Ask::Delete(_) => Bytes::copy_from_slice(name.as_bytes()),
            Ask::SetReplication(_) | Ask::SetQuota(_) | Ask::SetPolicy(_) => Bytes::copy_from_slice(name.as_bytes()),
            _ => Bytes::new(),
        };
        let request = v1::FileRequest { near, ask: Some(ask), name };
        let reply = self.shared.primary.ask(request).await.map_err(|status| WfsError::Primary(describe(&status)))?;
        match reply.reply {
            Some(Reply::Error(error)) => Err(WfsError::Refused(error)),
            Some(reply) => Ok(reply),
            None => Err(WfsError::Primary("its answer says nothing; is it of another release?".into())),
        }
    }

    pub async fn stat(&self, path: &str) -> Result<v1::FileEntry, WfsError> {
        self.entry(Ask::Stat(v1::PathRequest { path: path.into() })).await
    }

    /// Sends a request whose reply is a file or folder.
    pub async fn entry(&self, ask: Ask) -> Result<v1::FileEntry, WfsError> {
        match self.ask(ask).await? {
            Reply::Entry(entry) => Ok(entry),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a request whose reply is empty.
    pub async fn act(&self, ask: Ask) -> Result<(), WfsError> {
        match self.ask(ask).await? {
            Reply::Done(_) | Reply::Entry(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a request whose reply may hold a file or folder.
    pub async fn entry_or_nothing(&self, ask: Ask) -> Result<Option<v1::FileEntry>, WfsError> {
        match self.ask(ask).await? {
            Reply::Entry(entry) => Ok(Some(entry)),
            Reply::Done(_) => Ok(None),
            other => Err(unexpected(&other)),
        }
    }

    /// One page of a folder.
    pub async fn list(
        &self,
        path: &str,
        recursive: bool,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<v1::FileEntry>, WfsError> {
        match self.ask(Ask::List(v1::ListRequest { path: path.into(), recursive, after, limit })).await? {
            Reply::List(list) => Ok(list.entries),
            other => Err(unexpected(&other)),
        }
    }

    pub async fn locate(&self, path: &str, range: std::ops::Range<u64>) -> Result<v1::LocateReply, WfsError> {
        self.locate_version(path, None, range).await
    }

    /// Locates the file with this id that is at `path`, or was there a short while ago.
    pub async fn locate_version(
        &self,
        path: &str,
        file: Option<u64>,
        range: std::ops::Range<u64>,
    ) -> Result<v1::LocateReply, WfsError> {
        let ask = v1::LocateRequest { path: path.into(), start: range.start, end: range.end, file };
        match self.ask(Ask::Locate(ask)).await? {
            Reply::Locate(located) => Ok(located),
            other => Err(unexpected(&other)),
        }
    }

    /// Renews the lease of a writer. Returns a ticket for the block that it writes.
    pub async fn renew(&self, request: v1::WriterRequest) -> Result<v1::RenewReply, WfsError> {
        match self.ask(Ask::Renew(request)).await? {
            Reply::Renew(renewed) => Ok(renewed),
            other => Err(unexpected(&other)),
        }
    }

    pub async fn health(&self, path: &str, limit: u32) -> Result<v1::HealthReply, WfsError> {
        match self.ask(Ask::Health(v1::HealthRequest { path: path.into(), limit })).await? {
            Reply::Health(health) => Ok(health),
            other => Err(unexpected(&other)),
        }
    }

    /// Bytes read from replicas of this process, and from those of others.
    pub fn bytes_read(&self) -> (u64, u64) {
        (self.shared.local_bytes.load(Ordering::Relaxed), self.shared.remote_bytes.load(Ordering::Relaxed))
    }

    fn count(&self, executor: u64, bytes: usize) {
        let is_local = self.shared.local.as_ref().is_some_and(|local| local.near().executor == executor);
        let counter = if is_local { &self.shared.local_bytes } else { &self.shared.remote_bytes };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(counted) = &self.counted {
            if is_local { &counted.local } else { &counted.remote }.add(bytes);
        }
    }

    /// The replicas of an executor.
    fn node(&self, holder: &v1::BlockHolder) -> Result<Arc<dyn BlockNode>, Status> {
        match self.shared.local.as_ref().and_then(|local| local.node(holder.executor)) {
            Some(node) => Ok(node),
            None => self.shared.peers.node(&holder.address),
        }
    }

    fn io(&self) -> &Handle {
        self.shared.peers.io()
    }
}

fn unexpected(reply: &Reply) -> WfsError {
    WfsError::Primary(format!("it answered what was not asked for: {reply:?}"))
}

/// Whether a retry elsewhere or later may succeed: the executor is away, rather than refusing with an error.
fn is_away(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown)
}
