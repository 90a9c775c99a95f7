//! Replicas of files on this executor's disks.
//!
//! ```text
//! replica   (nothing) ──begin──> Writing ──end──> Held ──deleted, found bad──> (nothing)
//!                                  │ stream broke    ^
//!                                  v                 │ sealed by its writer
//!                                Partial ────────────┘
//!                                  └──nobody wants or seals it, or the process ends──> (nothing)
//!
//! Held ──found bad──> Damaged ──its first bytes verify, a copy takes its place──> Held
//!                        └──deleted, others were read that have all of the block──> (nothing)
//! ```
//!
//! The primary gets a list of held replicas when the executor joins, and from then on additions and removals in order.

mod chain;
mod disk;
mod make;
mod packs;
mod salvage;
mod service;
mod spread;
#[cfg(test)]
mod tests;
mod upkeep;

pub(crate) use service::BlocksService;

use crate::error::ExecutorError;
use async_trait::async_trait;
use bytes::Bytes;
use disk::{Disk, Incoming};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use upkeep::Throttle;
use windlass_connectors::wfs::{BlockNode, Local, Peers};
use windlass_core::ids::{BlockId, ExecutorId};
use windlass_core::wfs::Block;
use windlass_proto::pass::KeyRing;
use windlass_proto::v1;

/// Bytes of a replica that one read returns. Such reads run ahead of the reader, and their data stays in the processor's cache.
const READ_BYTES: u64 = 2 << 20;
const READS_AHEAD: usize = 4;
/// Maximum replicas in one report.
const REPORT_BLOCKS: usize = 50_000;

#[derive(Clone, Debug)]
pub(crate) struct BlockConfig {
    /// Folders for replicas, one for each disk.
    pub dirs: Vec<PathBuf>,
    pub host: String,
    pub rack: String,
    /// Bytes that each disk keeps free.
    pub reserve: u64,
    /// Bytes per second that the scrubber reads, and that copies for repair take. 0 turns the scrubber off; for repair it means no limit.
    pub scrub_rate: u64,
    pub repair_rate: u64,
}

/// The replicas on this executor's disks. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct BlockStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: BlockConfig,
    disks: Vec<Disk>,
    state: Mutex<State>,
    /// Wakes the reporter when there is something to report.
    news: Notify,
    /// Wakes waiters when a damaged replica is not examined any more.
    salvaged: Notify,
    /// This executor's present id; 0: none.
    me: AtomicU64,
    peers: Peers,
    /// Keys that sign tickets for work that the primary orders.
    keys: KeyRing,
    io: Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
    repair: Throttle,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<BlockId, Held>,
    /// Bytes of all held replicas.
    bytes: u64,
    incoming: BTreeMap<BlockId, Arrival>,
    /// Replicas that were found damaged, until the primary decides about them.
    damaged: BTreeMap<BlockId, Held>,
    /// Replicas that are being examined: nothing replaces them meanwhile.
    salvaging: BTreeSet<BlockId>,
    failed_disks: BTreeSet<usize>,
    news: News,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    disk: usize,
    bytes: u64,
}

/// An incomplete replica.
#[derive(Debug)]
enum Arrival {
    Writing { stop: CancellationToken, over: watch::Receiver<bool> },
    Partial { disk: usize, incoming: Incoming, since: Instant },
}

/// News that the primary has not been told.
#[derive(Debug, Default)]
struct News {
    /// Report all held replicas from this id on.
    all_from: Option<u64>,
    added: BTreeMap<BlockId, u64>,
    bad: BTreeSet<BlockId>,
    not_copied: BTreeSet<BlockId>,
    /// Replicas that were removed, or were missing when they were to be removed or looked for. They may have come, or been found bad, since.
    gone: BTreeSet<BlockId>,
    /// Replicas that were read to the end on request, and verified, with the number of the last order before that.
    verified: BTreeMap<BlockId, u64>,
}

impl BlockStore {
    /// Opens the folders and scans their replicas. A disk that cannot be used is left out while there is another one.
    pub fn open(config: BlockConfig, io: Handle, keys: KeyRing) -> Result<BlockStore, ExecutorError> {
        let (mut disks, mut state) = (Vec::new(), State::default());
        let mut failure = None;
        for dir in &config.dirs {
            match Disk::open(dir).and_then(|disk| Ok((disk.scan()?, disk))) {
                Ok((blocks, disk)) => {
                    disks.push(disk);
                    for block in blocks {
                        let twice = state.held.get(&block.id).copied();
                        let surplus = twice.map(|other| choose(&disks, block, other));
                        if surplus != Some(disks.len() - 1) {
                            state.hold(block, disks.len() - 1);
                        }
                        if let Some(surplus) = surplus {
                            let failed = |source| ExecutorError::Dir { dir: dir.clone(), source };
                            disks[surplus].remove(block.id).map_err(failed)?;
                        }
                    }
                }
                Err(source) => {
                    tracing::error!(dir = %dir.display(), error = %source, "a folder for replicas cannot be used");
                    failure = Some(ExecutorError::Dir { dir: dir.clone(), source });
                }
            }
        }
        if let (true, Some(failure)) = (disks.is_empty(), failure) {
            return Err(failure);
        }
        let repair = Throttle::new(config.repair_rate);
        let store = BlockStore(Arc::new(Shared {
            config,
            disks,
            state: Mutex::new(state),
            news: Notify::new(),
            salvaged: Notify::new(),
            me: AtomicU64::new(0),
            peers: Peers::new(io.clone()),
            keys,
            io,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            repair,
        }));
        store.keep_up();
        Ok(store)
    }

    /// Assigns the replicas to this namespace, unless they belong to another one.
    pub fn claim(&self, cluster: &[u8]) -> Result<(), String> {
        if cluster.is_empty() {
            return Ok(());
        }
        for disk in &self.0.disks {
            let dir = disk.root.display();
            match disk.cluster() {
                Ok(Some(known)) if known == cluster => {}
                Ok(Some(_)) => {
                    return Err(format!(
                        "the replicas in {dir} belong to another cluster than the primary's: start the executor with another --dir, or \
                         remove that folder if nobody needs what is in it"
                    ));
                }
                Ok(None) => disk.set_cluster(cluster).map_err(|error| format!("{dir} cannot be written: {error}"))?,
                Err(error) => return Err(format!("{dir} cannot be read: {error}")),
            }
        }
        Ok(())
    }

    /// Notes the id that the primary gave this executor. Everything has to be reported to it.
    pub fn joined(&self, id: ExecutorId) {
        let mut state = self.0.state.lock();
        self.0.me.store(id.0, Ordering::Release);
        let bad = state.damaged.keys().copied().collect();
        state.news = News { all_from: Some(0), bad, ..News::default() };
        drop(state);
        self.0.news.notify_one();
    }

    /// Waits for the next report to the primary. Cancel safe.
    pub async fn report(&self) -> v1::BlockReport {
        loop {
            if let Some(report) = self.0.state.lock().next_report() {
                return report;
            }
            self.0.news.notified().await;
        }
    }

    /// Bytes of all replicas, and bytes that the disks have left for more.
    pub fn space(&self) -> (u64, u64) {
        let (used, failed) = {
            let state = self.0.state.lock();
            (state.bytes, state.failed_disks.clone())
        };
        let healthy = self.0.disks.iter().enumerate().filter(|(at, _)| !failed.contains(at));
        let free = healthy.map(|(_, disk)| disk.free().unwrap_or(0).saturating_sub(self.0.config.reserve));
        (used, free.sum())
    }

    /// Carries out the primary's orders. Returns at once.
    pub fn obey(&self, orders: v1::BlockOrders) {
        for block in orders.delete {
            self.delete(BlockId(block));
        }
        if !orders.salvage.is_empty() {
            let store = self.clone();
            self.spawn(async move {
                for v1::SalvageBlock { block, bytes, last } in orders.salvage {
                    store.salvage(Block { id: BlockId(block), bytes }, last).await;
                }
            });
        }
        for copy in orders.copy {
            let store = self.clone();
            self.spawn(async move { store.copy(copy).await });
        }
        for piece in orders.rebuild {
            let store = self.clone();
            self.spawn(async move { store.rebuild(piece).await });
        }
        for block in orders.recode {
            let store = self.clone();
            self.spawn(async move { store.recode(block).await });
        }
        if !orders.verify.is_empty() {
            let (store, me) = (self.clone(), self.0.me.load(Ordering::Acquire));
            self.spawn(async move {
                // One after the other: parallel reads of a disk would be no faster.
                for block in orders.verify {
                    let block = BlockId(block);
                    if store.check(block, &Throttle::new(0)).await {
                        store.say_verified(me, block, orders.reading);
                    }
                }
            });
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.0.stop.clone();
        let stoppable = async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        };
        self.0.tasks.spawn_on(stoppable, &self.0.io);
    }

    /// Stops running work. Replicas stay.
    pub fn stop(&self) {
        self.0.stop.cancel();
    }

    fn delete(&self, block: BlockId) {
        let found = {
            let mut state = self.0.state.lock();
            match state.incoming.remove(&block) {
                Some(Arrival::Writing { stop, .. }) => stop.cancel(),
                // Drop removes its files.
                Some(Arrival::Partial { .. }) | None => {}
            }
            let held = state.release(block);
            // The replica may have arrived and been reported while the order was on its way. The primary counts no report of it before this one.
            state.news.say_gone(block);
            held.or(state.damaged.remove(&block))
        };
        self.0.news.notify_one();
        if let Some(found) = found {
            self.remove(found.disk, block);
        }
    }

    /// Frees the place of a replica at once.
    fn remove(&self, disk: usize, block: BlockId) {
        match self.0.disks[disk].set_aside(block) {
            Ok(aside) => {
                // A file that cannot be removed now is removed at the next start.
                let removed = move || aside.iter().for_each(|path| _ = disk::remove_path(path));
                self.0.tasks.spawn_blocking_on(removed, &self.0.io);
            }
            // It is reported, and deleted, after the next start.
            Err(error) => tracing::warn!(%block, %error, "a replica that nobody wants could not be removed"),
        }
    }

    fn add(&self, disk: usize, block: Block) {
        let mut state = self.0.state.lock();
        state.hold(block, disk);
        let damaged = state.damaged.remove(&block.id);
        state.news.bad.remove(&block.id);
        state.news.added.insert(block.id, block.bytes);
        drop(state);
        self.0.news.notify_one();
        // Otherwise the next start could not tell which of the two is right.
        if let Some(damaged) = damaged.filter(|damaged| damaged.disk != disk) {
            self.remove(damaged.disk, block.id);
        }
    }

    /// Notes that the whole replica was read and verified after the order of this number, which was given to `me`.
    fn say_verified(&self, me: u64, block: BlockId, reading: u64) {
        let mut state = self.0.state.lock();
        // Another primary's numbers are others.
        if state.held.contains_key(&block) && self.0.me.load(Ordering::Acquire) == me {
            let known = state.news.verified.entry(block).or_default();
            *known = reading.max(*known);
            drop(state);
            self.0.news.notify_one();
        }
    }

    /// Notes that a replica is gone, or does not verify.
    fn bad(&self, block: BlockId, reason: &dyn std::fmt::Display) {
        tracing::warn!(%block, %reason, "a replica is damaged or gone");
        let mut state = self.0.state.lock();
        if let Some(held) = state.release(block) {
            // It stays in place until the primary has decided: there may be no better replica.
            state.damaged.insert(block, held);
            state.news.added.remove(&block);
            state.news.bad.insert(block);
            drop(state);
            self.0.news.notify_one();
        }
    }

    /// Draws conclusions about a replica and its disk from a read error.
    fn judge(&self, block: BlockId, disk: usize, error: &io::Error) -> Status {
        match error.kind() {
            io::ErrorKind::NotFound if !self.0.disks[disk].is_there() => {
                self.fail_disk(disk, error);
                Status::data_loss("the disk of the replica is gone")
            }
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
                self.bad(block, error);
                Status::data_loss(format!("the replica is damaged or gone: {error}"))
            }
            _ => {
                self.fail_disk(disk, error);
                Status::data_loss(format!("the disk of the replica failed: {error}"))
            }
        }
    }

    /// Stops writing to the disk; all its replicas are made again elsewhere.
    fn fail_disk(&self, disk: usize, error: &io::Error) {
        let mut state = self.0.state.lock();
        if !state.failed_disks.insert(disk) {
            return;
        }
        let root = self.0.disks[disk].root.display();
        let lost: Vec<BlockId> = state.held.iter().filter(|(_, held)| held.disk == disk).map(|(id, _)| *id).collect();
        tracing::error!(dir = %root, %error, replicas = lost.len(), "a disk failed and is not used any more");
        for block in lost {
            state.release(block);
            state.news.added.remove(&block);
            state.news.bad.insert(block);
        }
        drop(state);
        self.0.news.notify_one();
    }

    /// Chooses the disk with most room.
    fn choose_disk(&self) -> Result<usize, Status> {
        let failed = self.0.state.lock().failed_disks.clone();
        let healthy = self.0.disks.iter().enumerate().filter(|(at, _)| !failed.contains(at));
        let free = healthy.map(|(at, disk)| (disk.free().unwrap_or(0).saturating_sub(self.0.config.reserve), at));
        match free.max() {
            Some((free, disk)) if free > 0 => Ok(disk),
            Some(_) => Err(Status::resource_exhausted("the disks for replicas are full")),
            None => Err(Status::resource_exhausted("no disk for replicas works")),
        }
    }

    fn held(&self, block: BlockId) -> Result<Held, Status> {
        let held = self.0.state.lock().held.get(&block).copied();
        held.ok_or_else(|| Status::not_found(format!("this executor has no replica of {block}")))
    }

    /// Finds a held replica, or a damaged one: some of its bytes may still verify.
    fn readable(&self, block: BlockId) -> Result<Held, Status> {
        let damaged = || self.0.state.lock().damaged.get(&block).copied();
        self.held(block).or_else(|status| damaged().ok_or(status))
    }

    /// Stored pieces of a replica around a range, with their checksums.
    fn pieces(&self, block: u64, range: Range<u64>) -> BoxStream<'static, Result<v1::BlockData, Status>> {
        self.units(block, range, |replica, start, end| replica.piece(start, end), 1 << 20)
    }

    /// Streams a replica in units that begin at multiples of `unit`.
    fn units<T: Send + 'static>(
        &self,
        block: u64,
        range: Range<u64>,
        read: fn(&disk::Replica, u64, u64) -> io::Result<T>,
        unit: u64,
    ) -> BoxStream<'static, Result<T, Status>> {
        let id = BlockId(block);
        let held = match self.readable(id) {
            Ok(held) => held,
            Err(status) => return stream::iter([Err(status)]).boxed(),
        };
        if range.end > held.bytes {
            let reason = format!("the replica of {id} has {} bytes, and {range:?} were asked for", held.bytes);
            return stream::iter([Err(Status::data_loss(reason))]).boxed();
        }
        let store = self.clone();
        let open = move |store: &BlockStore| store.0.disks[held.disk].replica(Block { id, bytes: held.bytes });
        let replica: Arc<std::sync::OnceLock<disk::Replica>> = Arc::default();
        let starts = std::iter::successors(Some(range.start), move |at| Some((at / unit + 1) * unit));
        let units = starts.take_while(move |at| *at < range.end).map(move |start| {
            let (store, replica) = (store.clone(), replica.clone());
            let end = ((start / unit + 1) * unit).min(range.end);
            let task = tokio::task::spawn_blocking(move || {
                let read = || {
                    let replica = match replica.get() {
                        Some(replica) => replica,
                        None => {
                            let opened = open(&store)?;
                            replica.get_or_init(|| opened)
                        }
                    };
                    read(replica, start, end)
                };
                read().map_err(|error| store.judge(id, held.disk, &error))
            });
            async move { task.await.unwrap_or_else(|_| Err(Status::unavailable("the executor is stopping"))) }
        });
        stream::iter(units).buffered(READS_AHEAD).boxed()
    }
}

/// Chooses which of two replicas of one block on two disks goes; `block` describes the later one. Such pairs come from a move between disks, or from a replica
/// that has replaced a damaged one.
fn choose(disks: &[Disk], block: Block, other: Held) -> usize {
    let this = disks.len() - 1;
    let is_better = !disks[other.disk].is_whole(Block { bytes: other.bytes, ..block }) && disks[this].is_whole(block);
    if is_better { other.disk } else { this }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Access for the code of this process, which needs no tickets.
#[async_trait]
impl BlockNode for BlockStore {
    fn write(&self, pieces: mpsc::Receiver<v1::BlockPiece>) -> BoxStream<'static, Result<v1::WriteProgress, Status>> {
        chain::write(self.clone(), ReceiverStream::new(pieces).map(Ok).boxed(), None)
    }

    async fn seal(&self, block: u64, bytes: u64, _: &Bytes) -> Result<(), Status> {
        chain::seal(self, Block { id: BlockId(block), bytes }).await
    }

    fn read(&self, block: u64, range: Range<u64>, _: &Bytes) -> BoxStream<'static, Result<Bytes, Status>> {
        let (store, id) = (self.clone(), BlockId(block));
        let disk = self.readable(id).map_or(0, |held| held.disk);
        let units = self.units(block, range, |replica, start, end| replica.read_some(start, end), READ_BYTES);
        let parts = units.flat_map(move |unit| match unit {
            Ok((bytes, wrong)) => {
                let wrong = wrong.map(|error| Err(store.judge(id, disk, &error)));
                stream::iter([Some(Ok(bytes)), wrong].into_iter().flatten())
            }
            Err(status) => stream::iter([Some(Err(status)), None].into_iter().flatten()),
        });
        // Bytes behind an error would be taken for the missing ones.
        let up_to_error = parts.scan(false, |failed, part| {
            let part = (!*failed).then_some(part);
            *failed |= part.as_ref().is_some_and(Result::is_err);
            std::future::ready(part)
        });
        up_to_error.boxed()
    }
}

impl Local for BlockStore {
    fn near(&self) -> v1::Near {
        let (host, rack) = (self.0.config.host.clone(), self.0.config.rack.clone());
        v1::Near { executor: self.0.me.load(Ordering::Acquire), host, rack }
    }

    fn node(&self, executor: u64) -> Option<Arc<dyn BlockNode>> {
        (executor != 0 && executor == self.0.me.load(Ordering::Acquire)).then(|| Arc::new(self.clone()) as Arc<_>)
    }
}

impl News {
    /// Reports that the replica is missing, instead of what was to be reported of it.
    fn say_gone(&mut self, block: BlockId) {
        self.added.remove(&block);
        self.bad.remove(&block);
        self.verified.remove(&block);
        self.gone.insert(block);
    }
}

impl State {
    fn hold(&mut self, block: Block, disk: usize) {
        self.release(block.id);
        self.held.insert(block.id, Held { disk, bytes: block.bytes });
        self.bytes += block.bytes;
    }

    fn release(&mut self, block: BlockId) -> Option<Held> {
        self.news.verified.remove(&block);
        let held = self.held.remove(&block)?;
        self.bytes -= held.bytes;
        Some(held)
    }

    fn next_report(&mut self) -> Option<v1::BlockReport> {
        let mut report = v1::BlockReport::default();
        if let Some(first) = self.news.all_from.take() {
            let ids = self.held.range(BlockId(first)..).take(REPORT_BLOCKS);
            for (id, held) in ids {
                report.blocks.push(id.0);
                report.bytes.push(held.bytes);
                // Reported here. One that came after another one went is reported again behind that.
                if !self.news.gone.contains(id) {
                    self.news.added.remove(id);
                }
            }
            let last = match report.blocks.len() {
                REPORT_BLOCKS => report.blocks[REPORT_BLOCKS - 1],
                _ => u64::MAX,
            };
            self.news.all_from = last.checked_add(1);
            report.range = Some(v1::BlockRange { first, last });
            return Some(report);
        }
        for _ in 0..REPORT_BLOCKS {
            let Some((id, bytes)) = self.news.added.pop_first() else { break };
            report.blocks.push(id.0);
            report.bytes.push(bytes);
        }
        report.bad = std::mem::take(&mut self.news.bad).into_iter().map(|id| id.0).collect();
        report.not_copied = std::mem::take(&mut self.news.not_copied).into_iter().map(|id| id.0).collect();
        report.gone = std::mem::take(&mut self.news.gone).into_iter().map(|id| id.0).collect();
        (report.verified, report.readings) =
            std::mem::take(&mut self.news.verified).into_iter().map(|(id, reading)| (id.0, reading)).unzip();
        (report != v1::BlockReport::default()).then_some(report)
    }
}
