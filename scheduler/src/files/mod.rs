//! `wfs://` on the primary: the shell around [`windlass_core::wfs`].
//!
//! ```text
//!   clients, executors ──Ask──┐                                ┌──> replies, when what was asked for is durable
//!   joined, lost, reports ────┼──> actor: operations ──> log ──┼──> orders to executors
//!   deadlines ────────────────┘    (all that wait, together)   └──> checkpoint, now and then
//! ```
//!
//! Requests that arrive during a commit go into the next one, so one transaction serves many operations. An answer is sent only after
//! its change is durable. When a commit fails, the memory is ahead of the store, and is read from it again.

mod actor;
mod maintenance;
mod stored;
mod tickets;

pub(crate) use tickets::Tickets;

use crate::clock::{Clock, Ids};
use crate::meta::{MetaError, MetaStore, keys};
use actor::Actor;
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use windlass_connectors::wfs::Primary;
use windlass_core::access::Principal;
use windlass_core::ids::ExecutorId;
use windlass_core::wfs::WfsConfig;
use windlass_proto::door::principal_of;
use windlass_proto::v1;

/// Maximum waiting requests. Callers wait when it is reached.
const WAITING: usize = 4_096;

/// A handle to the namespace. Cheap to clone.
#[derive(Clone)]
pub struct Files {
    asks: mpsc::Sender<Ask>,
    /// Unbounded by type, bounded in use: an executor sends one event and waits until it is handled.
    events: mpsc::UnboundedSender<Event>,
    cluster: Bytes,
    tickets: Tickets,
}

struct Ask {
    request: v1::FileRequest,
    reply: oneshot::Sender<v1::FileReply>,
}

enum Event {
    Joined { id: ExecutorId, name: String, host: String, rack: String },
    Lost { id: ExecutorId },
    Draining { id: ExecutorId },
    Reported { id: ExecutorId, report: v1::BlockReport, heard: oneshot::Sender<()> },
    Space { id: ExecutorId, used: u64, free: u64 },
    HeldUp { id: ExecutorId, reply: oneshot::Sender<usize> },
}

/// The attached executors, as the namespace sees them.
#[async_trait]
pub(crate) trait Executors: Send + Sync {
    /// Returns the executor with this id or name. Errors: none matches, or two do.
    fn find(&self, wanted: &str) -> Result<ExecutorId, String>;

    /// Returns an executor's registration. `None`: it is gone.
    fn register(&self, id: ExecutorId) -> Option<v1::Register>;

    /// Sends an executor orders about its replicas.
    async fn order(&self, id: ExecutorId, orders: v1::BlockOrders);
}

/// A namespace that is not served yet.
pub(crate) struct Opened {
    pub files: Files,
    actor: Actor,
}

impl Opened {
    pub async fn open(
        store: Arc<dyn MetaStore>,
        config: WfsConfig,
        tickets: Tickets,
        clock: Clock,
        ids: &Ids,
    ) -> Result<Opened, MetaError> {
        let cluster = keys::files::cluster(store.as_ref(), ids).await?;
        let (asks, asked) = mpsc::channel(WAITING);
        let (events, happened) = mpsc::unbounded_channel();
        let actor = Actor::open(store, config, clock, asked, happened).await?;
        Ok(Opened { files: Files { asks, events, cluster, tickets }, actor })
    }

    /// Serves the namespace until `stop`. Orders go out through `executors`.
    pub fn serve(self, executors: Arc<dyn Executors>, stop: CancellationToken, tasks: &TaskTracker) {
        tasks.spawn(self.actor.run(executors, stop));
    }
}

impl Files {
    /// Returns the id of the namespace.
    pub(crate) fn cluster(&self) -> Bytes {
        self.cluster.clone()
    }

    /// Returns the signer of the tickets that clients show to executors.
    pub(crate) fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    pub(crate) fn joined(&self, id: ExecutorId, register: &v1::Register) {
        if register.role == i32::from(v1::Role::Core) {
            let (name, host, rack) = (register.name.clone(), register.host.clone(), register.rack.clone());
            self.tell(Event::Joined { id, name, host, rack });
        }
    }

    pub(crate) fn lost(&self, id: ExecutorId) {
        self.tell(Event::Lost { id });
    }

    /// Reports an executor's replicas. Returns when the report is handled; the executor's next message waits until then.
    pub(crate) async fn reported(&self, id: ExecutorId, report: v1::BlockReport) {
        let (heard, answer) = oneshot::channel();
        self.tell(Event::Reported { id, report, heard });
        // A stopping primary does not answer.
        let _ = answer.await;
    }

    pub(crate) fn space(&self, id: ExecutorId, heartbeat: &v1::Heartbeat) {
        self.tell(Event::Space { id, used: heartbeat.block_bytes, free: heartbeat.block_free_bytes });
    }

    /// Copies the executor's replicas to others. Returns when it may leave without loss, as far as the others have room.
    pub(crate) async fn drain(&self, id: ExecutorId) {
        const LOOK: std::time::Duration = std::time::Duration::from_millis(200);
        self.tell(Event::Draining { id });
        loop {
            let (reply, answer) = oneshot::channel();
            self.tell(Event::HeldUp { id, reply });
            match answer.await {
                Ok(0) | Err(_) => return,
                Ok(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Returns a file and the locations of its blocks, without tickets. Returns no blocks if the file does not exist.
    pub(crate) async fn locate(self, path: String) -> (String, Vec<v1::LocatedBlock>) {
        let ask = v1::LocateRequest { path: path.clone(), start: 0, end: u64::MAX, file: None };
        let ask = Some(v1::file_request::Ask::Locate(ask));
        let request = v1::FileRequest { ask, ..v1::FileRequest::default() };
        match self.answer(request).await.ok().and_then(|reply| reply.reply) {
            Some(v1::file_reply::Reply::Locate(located)) => (path, located.blocks),
            _ => (path, Vec::new()),
        }
    }

    fn tell(&self, event: Event) {
        // A stopping primary drops the event.
        let _ = self.events.send(event);
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}

impl Files {
    /// Asks on behalf of `by`. The tickets in the answer name this principal.
    pub(crate) async fn ask_for(&self, by: &Principal, request: v1::FileRequest) -> Result<v1::FileReply, Status> {
        let mut reply = self.answer(request).await?;
        self.tickets.add_to(&mut reply, by);
        Ok(reply)
    }

    async fn answer(&self, request: v1::FileRequest) -> Result<v1::FileReply, Status> {
        let stopping = || Status::unavailable("the primary is stopping");
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask { request, reply }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

/// Serves code of this process.
#[async_trait]
impl Primary for Files {
    async fn ask(&self, request: v1::FileRequest) -> Result<v1::FileReply, Status> {
        self.ask_for(&Principal::anonymous(), request).await
    }
}

pub(crate) struct FilesService(pub Files);

#[tonic::async_trait]
impl v1::files_server::Files for FilesService {
    async fn ask(&self, request: Request<v1::FileRequest>) -> Result<Response<v1::FileReply>, Status> {
        let by = principal_of(&request);
        self.0.ask_for(&by, request.into_inner()).await.map(Response::new)
    }
}
