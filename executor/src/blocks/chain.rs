//! One link of the chain through which a block is written.
//!
//! ```text
//!   pieces ──verify──┬──> disk thread ──written──┐
//!                    └──> next link ──written────┴──> progress: what both have
//! ```
//!
//! A link whose successor fails reports it and accepts the remaining pieces: its sender decides. A link that loses its sender keeps what it has for [`seal`].

use super::disk::Incoming;
use super::{Arrival, BlockStore};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use windlass_connectors::wfs::verify;
use windlass_core::ids::BlockId;
use windlass_core::wfs::Block;
use windlass_proto::pass::KeyRing;
use windlass_proto::ticket::Access;
use windlass_proto::v1;
use windlass_proto::v1::block_piece::{Piece, WriteEnd};

/// Maximum pieces that wait for the disk, and for the next link.
const AHEAD: usize = 4;
/// Maximum unread progress messages. A writer has fewer pieces on their way.
const PROGRESS: usize = 256;

type Pieces = BoxStream<'static, Result<v1::BlockPiece, Status>>;

enum Event {
    /// Bytes written to the disk.
    Written(u64),
    Durable(u64),
    /// The sender went away before the end of the block.
    Partial(Incoming),
    DiskFailed(Status),
    Next(v1::WriteProgress),
    NextFailed(Status),
}

enum ToDisk {
    Data(v1::BlockData),
    End,
}

/// Writes a block from its pieces. `door` checks the ticket in the header; absent for this process's own blocks.
pub(super) fn write(
    store: BlockStore,
    pieces: Pieces,
    door: Option<KeyRing>,
) -> BoxStream<'static, Result<v1::WriteProgress, Status>> {
    let (progress, said) = mpsc::channel(PROGRESS);
    let of_task = store.clone();
    store.spawn(async move {
        if let Err(status) = receive(of_task, pieces, door, &progress).await {
            tracing::debug!(%status, "a block could not be written");
            let _ = progress.send(Err(status)).await;
        }
    });
    ReceiverStream::new(said).boxed()
}

/// The entry of an arriving block in the store. Given up on drop.
struct Arriving {
    store: BlockStore,
    block: BlockId,
    stop: CancellationToken,
    over: watch::Sender<bool>,
}

impl Arriving {
    fn begin(store: &BlockStore, block: BlockId) -> Result<Arriving, Status> {
        let mut state = store.0.state.lock();
        if state.held.contains_key(&block) {
            return Err(Status::already_exists(format!("this executor has a replica of {block} already")));
        }
        if state.salvaging.contains(&block) {
            return Err(Status::unavailable(format!("a damaged replica of {block} is being looked at")));
        }
        // This is another attempt at the same block: the writer of the earlier one is gone, or nobody would have asked again.
        if let Some(Arrival::Writing { stop, .. }) = state.incoming.remove(&block) {
            stop.cancel();
        }
        let (stop, (over, is_over)) = (CancellationToken::new(), watch::channel(false));
        state.incoming.insert(block, Arrival::Writing { stop: stop.clone(), over: is_over });
        drop(state);
        Ok(Arriving { store: store.clone(), block, stop, over })
    }

    /// Whether the store's entry is still this one.
    fn is_current(&self, arrival: Option<&Arrival>) -> bool {
        matches!(arrival, Some(Arrival::Writing { over, .. }) if over.same_channel(&self.over.subscribe()))
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let mut state = self.store.0.state.lock();
        if self.is_current(state.incoming.get(&self.block)) {
            state.incoming.remove(&self.block);
        }
        drop(state);
        self.over.send_replace(true);
    }
}

async fn receive(
    store: BlockStore,
    mut pieces: Pieces,
    door: Option<KeyRing>,
    progress: &mpsc::Sender<Result<v1::WriteProgress, Status>>,
) -> Result<(), Status> {
    let header = match pieces.next().await.transpose()?.and_then(|piece| piece.piece) {
        Some(Piece::Header(header)) => header,
        _ => return Err(Status::invalid_argument("a block begins with its header")),
    };
    let block = BlockId(header.block);
    if let Some(keys) = door {
        keys.check_ticket(&header.ticket, Access::Write, block)?;
    }
    let disk = store.choose_disk()?;
    let arriving = Arriving::begin(&store, block)?;
    let (to_disk, for_disk) = mpsc::channel(AHEAD);
    // The channel is unbounded, but each piece causes only a few events.
    let (events, mut happened) = mpsc::unbounded_channel();
    let of_disk = (store.clone(), events.clone());
    store.0.tasks.spawn_blocking_on(move || keep(&of_disk.0, disk, block, for_disk, &of_disk.1), &store.0.io);
    let mut to_disk = Some(to_disk);
    let mut next = forward(&store, &header, events).await;
    let me = store.0.me.load(std::sync::atomic::Ordering::Acquire);

    let (mut here, mut there) = (0, if next.is_some() { 0 } else { u64::MAX });
    let mut durable_here = false;
    let mut durable_there = (next.is_none()).then(Vec::new);
    loop {
        tokio::select! {
            () = arriving.stop.cancelled(), if to_disk.is_some() => {
                // The block is sealed with what has come so far, or is not wanted.
                to_disk = None;
                next = None;
            }
            piece = pieces.next(), if to_disk.is_some() => match piece.and_then(Result::ok).and_then(|piece| piece.piece) {
                Some(Piece::Data(data)) => {
                    verify(&data)?;
                    if let Some(next) = &next {
                        // A failure of the next link arrives as an event.
                        let _ = next.send(v1::BlockPiece { piece: Some(Piece::Data(data.clone())) }).await;
                    }
                    if let Some(disk) = &to_disk {
                        let _ = disk.send(ToDisk::Data(data)).await;
                    }
                }
                Some(Piece::End(_)) => {
                    if let Some(next) = next.take() {
                        let _ = next.send(v1::BlockPiece { piece: Some(Piece::End(WriteEnd {})) }).await;
                    }
                    if let Some(disk) = to_disk.take() {
                        let _ = disk.send(ToDisk::End).await;
                    }
                }
                Some(Piece::Header(_)) => return Err(Status::invalid_argument("a block has one header")),
                None => (to_disk, next) = (None, None),
            },
            event = happened.recv() => match event {
                None => return Err(Status::unavailable("the executor is stopping")),
                Some(Event::Written(bytes)) => here = bytes,
                Some(Event::Durable(bytes)) => {
                    here = bytes;
                    durable_here = true;
                    store.add(disk, Block { id: block, bytes });
                }
                Some(Event::DiskFailed(status)) => return Err(status),
                Some(Event::Partial(incoming)) => {
                    let mut state = store.0.state.lock();
                    if arriving.is_current(state.incoming.get(&block)) {
                        state.incoming.insert(block, Arrival::Partial { disk, incoming, since: Instant::now() });
                    }
                    return Ok(());
                }
                Some(Event::Next(said)) => {
                    if let Some(lost) = said.lost {
                        let lost = v1::WriteProgress { written: here.min(there), durable: Vec::new(), lost: Some(lost) };
                        let _ = progress.send(Ok(lost)).await;
                        durable_there.get_or_insert_default();
                    }
                    there = there.max(said.written);
                    if !said.durable.is_empty() {
                        durable_there = Some(said.durable);
                    }
                }
                Some(Event::NextFailed(status)) => {
                    if durable_there.is_none() {
                        let executor = header.rest.first().map_or(0, |holder| holder.executor);
                        let lost = Some(v1::LostLink { executor, reason: status.message().to_string() });
                        let lost = v1::WriteProgress { written: here.min(there), durable: Vec::new(), lost };
                        let _ = progress.send(Ok(lost)).await;
                        durable_there = Some(Vec::new());
                    }
                    next = None;
                }
            },
        }
        let written = here.min(there);
        if durable_here && let Some(others) = &durable_there {
            let durable = [&[me], others.as_slice()].concat();
            let _ = progress.send(Ok(v1::WriteProgress { written: here, durable, lost: None })).await;
            return Ok(());
        }
        // Progress beyond the channel's room may be lost without harm.
        let _ = progress.try_send(Ok(v1::WriteProgress { written, durable: Vec::new(), lost: None }));
    }
}

/// Forwards pieces to the next link, and returns its answers as events.
async fn forward(
    store: &BlockStore,
    header: &v1::WriteHeader,
    events: mpsc::UnboundedSender<Event>,
) -> Option<mpsc::Sender<v1::BlockPiece>> {
    let (next, rest) = header.rest.split_first()?;
    let (pieces, incoming) = mpsc::channel(AHEAD);
    // The ticket is the writer's own: one signed here would be valid for longer, wherever the header sends it.
    let ticket = header.ticket.clone();
    let header = v1::WriteHeader { block: header.block, rest: rest.to_vec(), ticket };
    // The channel has room for it.
    let _ = pieces.send(v1::BlockPiece { piece: Some(Piece::Header(header)) }).await;
    let node = store.0.peers.node(&next.address);
    store.spawn(async move {
        let ended = match node {
            Err(status) => status,
            Ok(node) => {
                let mut said = node.write(incoming);
                loop {
                    match said.next().await {
                        Some(Ok(progress)) => _ = events.send(Event::Next(progress)),
                        Some(Err(status)) => break status,
                        None => break Status::unavailable("it ended before the block was durable"),
                    }
                }
            }
        };
        let _ = events.send(Event::NextFailed(ended));
    });
    Some(pieces)
}

/// Runs the disk thread of one arrival.
fn keep(
    store: &BlockStore,
    disk: usize,
    block: BlockId,
    mut pieces: mpsc::Receiver<ToDisk>,
    events: &mpsc::UnboundedSender<Event>,
) {
    let failed = |error: io::Error| {
        let status = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Status::resource_exhausted(format!("the disk for replicas is full: {error}"))
            }
            io::ErrorKind::InvalidInput => Status::invalid_argument(error.to_string()),
            _ => {
                store.fail_disk(disk, &error);
                Status::unavailable(format!("the disk for replicas failed: {error}"))
            }
        };
        let _ = events.send(Event::DiskFailed(status));
    };
    let mut incoming = store.0.disks[disk].begin(block);
    let mut early = EarlySync::default();
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            ToDisk::Data(data) => match incoming.write(&data).and_then(|()| early.written(&mut incoming)) {
                Ok(()) => _ = events.send(Event::Written(incoming.written)),
                Err(error) => return failed(error),
            },
            ToDisk::End => {
                let bytes = incoming.written;
                match early.end().and_then(|()| incoming.finish(bytes)) {
                    Ok(()) => _ = events.send(Event::Durable(bytes)),
                    Err(error) => failed(error),
                }
                return;
            }
        }
    }
    match early.end() {
        // The block is not kept when the task that would keep it is gone.
        Ok(()) => _ = events.send(Event::Partial(incoming)),
        Err(error) => failed(error),
    }
}

/// Syncs written data while more arrives, so that little is left to sync at the end.
#[derive(Default)]
struct EarlySync {
    asked_at: u64,
    thread: Option<(SyncSender<()>, JoinHandle<io::Result<()>>)>,
}

impl EarlySync {
    const EVERY: u64 = 16 << 20;

    fn written(&mut self, incoming: &mut Incoming) -> io::Result<()> {
        if incoming.written < self.asked_at + Self::EVERY {
            return Ok(());
        }
        self.asked_at = incoming.written;
        let (ask, _) = match &mut self.thread {
            Some(thread) => thread,
            None => {
                let data = incoming.data()?;
                let (ask, asked) = sync_channel(1);
                let sync = move || asked.into_iter().try_for_each(|()| data.sync_data());
                self.thread.insert((ask, std::thread::Builder::new().name("windlass-sync".into()).spawn(sync)?))
            }
        };
        // A request that already waits covers this data too. A failed thread reports its error at the end.
        let _ = ask.try_send(());
        Ok(())
    }

    /// Waits for the thread. An error that was reported before is not returned again.
    fn end(&mut self) -> io::Result<()> {
        let Some((ask, thread)) = self.thread.take() else { return Ok(()) };
        drop(ask);
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that has the disk take bytes is gone")))
    }
}

/// Makes a complete replica of the block's length from what has arrived.
pub(super) async fn seal(store: &BlockStore, block: Block) -> Result<(), Status> {
    loop {
        enum Found {
            Held(usize, u64),
            Writing(CancellationToken, watch::Receiver<bool>),
            Partial(usize, Incoming),
        }
        let found = {
            let mut state = store.0.state.lock();
            let held = state.held.get(&block.id).map(|held| Found::Held(held.disk, held.bytes));
            held.or_else(|| match state.incoming.remove(&block.id)? {
                Arrival::Partial { disk, incoming, .. } => Some(Found::Partial(disk, incoming)),
                Arrival::Writing { stop, over } => {
                    let found = Found::Writing(stop.clone(), over.clone());
                    state.incoming.insert(block.id, Arrival::Writing { stop, over });
                    Some(found)
                }
            })
        };
        match found {
            None => return Err(Status::not_found(format!("this executor has nothing of {}", block.id))),
            Some(Found::Writing(stop, mut over)) => {
                stop.cancel();
                // An error means that the write is over as well.
                let _ = over.wait_for(|over| *over).await;
            }
            Some(Found::Held(_, bytes)) if bytes == block.bytes => return Ok(()),
            Some(Found::Held(_, bytes)) if bytes < block.bytes => {
                return Err(Status::data_loss(format!("the replica here has {bytes} bytes, and not {}", block.bytes)));
            }
            Some(Found::Held(disk, _)) => {
                let of_task = store.clone();
                let cut = move || of_task.0.disks[disk].truncate(block.id, block.bytes);
                return settle(store, disk, block, cut).await;
            }
            Some(Found::Partial(disk, incoming)) => {
                return settle(store, disk, block, move || incoming.finish(block.bytes)).await;
            }
        }
    }
}

async fn settle(
    store: &BlockStore,
    disk: usize,
    block: Block,
    finish: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<(), Status> {
    let stopping = |_| Err(io::Error::other("the executor is stopping"));
    let finished = tokio::task::spawn_blocking(finish).await.unwrap_or_else(stopping);
    finished.map_err(|error| Status::data_loss(format!("the replica could not be closed: {error}")))?;
    store.add(disk, block);
    Ok(())
}
