//! Reading a file: from the nearest replica, and from another one when that fails or is slow in the middle of a read. Missing bytes of a coded block are
//! computed from its other pieces.

use super::coding::{Unread, read_rebuilt};
use super::{Wfs, WfsError, is_away};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Status};
use windlass_proto::v1;
use windlass_proto::v1::file_request::Ask;

/// Time after which a slow replica is raced against another one.
const HEDGE_AFTER: Duration = Duration::from_millis(800);
/// Time to retry when no replica can be read: executors may be on their way back.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(250);
/// Bytes left of the current block when the next one is begun.
const BEGIN_NEXT: u64 = 8 << 20;
/// Bytes that are computed at a time.
const REBUILT_BYTES: u64 = 1 << 20;

/// Bytes of a file, in order. `located`: the reply of [`Wfs::locate`] for a range that includes `range`.
pub fn read(wfs: &Wfs, located: v1::LocateReply, range: Range<u64>) -> BoxStream<'static, Result<Bytes, WfsError>> {
    let (file, path) = located.entry.map(|entry| (entry.id, entry.path)).unwrap_or_default();
    let mut reader = Reader {
        wfs: wfs.clone(),
        path,
        file,
        parts: located.blocks.into_iter(),
        current: None,
        next: None,
        at: range.start,
        end: range.end,
        stuck: None,
        failed: false,
    };
    if range.is_empty() {
        reader.at = reader.end;
    }
    stream::unfold(reader, Reader::next).fuse().boxed()
}

struct Reader {
    wfs: Wfs,
    path: String,
    file: u64,
    parts: std::vec::IntoIter<v1::LocatedBlock>,
    current: Option<PartReader>,
    /// The next part, begun while the last bytes of the current one arrive.
    next: Option<PartReader>,
    /// Offset of the next byte in the file.
    at: u64,
    end: u64,
    /// Time since which the read has been stuck.
    stuck: Option<Instant>,
    failed: bool,
}

impl Reader {
    async fn next(mut self) -> Option<(Result<Bytes, WfsError>, Self)> {
        if self.failed || self.at >= self.end {
            return None;
        }
        let item = self.step().await;
        match &item {
            Ok(bytes) => {
                self.at += bytes.len() as u64;
                self.stuck = None;
            }
            Err(_) => self.failed = true,
        }
        Some((item, self))
    }

    async fn step(&mut self) -> Result<Bytes, WfsError> {
        loop {
            if self.current.is_none() {
                self.current = self.next.take().or_else(|| self.next_part(self.at));
            }
            let Some(current) = &mut self.current else {
                return Err(self.unreadable("no block has it; the file was written again or removed".into()));
            };
            match current.next(&self.wfs).await {
                Ok(Some(bytes)) => {
                    self.begin_next();
                    return Ok(bytes);
                }
                Ok(None) => self.current = None,
                Err(stuck) => self.look_again(stuck).await?,
            }
        }
    }

    /// The part with the byte at `at`, or the first part behind it.
    fn next_part(&mut self, at: u64) -> Option<PartReader> {
        let part = self.parts.find(|part| part.offset + part.bytes > at)?;
        let to = self.end.min(part.offset + part.bytes) - part.offset;
        Some(PartReader::new(part, at, to))
    }

    /// Begins the next part while the current one ends.
    fn begin_next(&mut self) {
        let Some(current) = &self.current else { return };
        let end = current.part.offset + current.to;
        if self.next.is_none() && current.to - current.at <= BEGIN_NEXT && end < self.end {
            self.next = self.next_part(end);
            if let Some(next) = &mut self.next {
                next.begin(&self.wfs);
            }
        }
    }

    /// Locates the file again after all replicas failed: new replicas may exist, executors may be back, and the block may be stored in another way. The reply
    /// also renews expired tickets.
    async fn look_again(&mut self, stuck: Stuck) -> Result<(), WfsError> {
        // The reply brings new tickets, so there is nothing to wait for.
        let is_overdue = stuck.is_refused && self.stuck.is_none();
        let since = *self.stuck.get_or_insert_with(Instant::now);
        let patience = if stuck.is_hopeless { PAUSE * 8 } else { PATIENCE };
        if since.elapsed() >= patience {
            return Err(self.unreadable(stuck.reason));
        }
        if !is_overdue {
            tokio::time::sleep(PAUSE).await;
        }
        // The same file id, even when another file has replaced it at this path.
        match self.wfs.locate_version(&self.path, Some(self.file), self.at..self.end).await {
            Ok(located) if located.entry.as_ref().is_some_and(|entry| entry.id == self.file) => {
                self.parts = located.blocks.into_iter();
                (self.current, self.next) = (None, None);
                Ok(())
            }
            Ok(_) => Err(self.unreadable("the file was removed, or written again, while it was read".into())),
            Err(WfsError::Refused(error)) => {
                Err(self.unreadable(format!("it was removed or written again while it was read: {}", error.message)))
            }
            Err(error) => Err(self.unreadable(error.to_string())),
        }
    }

    fn unreadable(&self, reason: String) -> WfsError {
        WfsError::Unreadable { path: self.path.clone(), offset: self.at, reason }
    }
}

/// The state in which no replica can be read.
struct Stuck {
    reason: String,
    /// Whether every replica is reported missing, so that waiting is useless; an executor that is away may return.
    is_hopeless: bool,
    /// Whether an executor refused the ticket.
    is_refused: bool,
}

/// Reads a block, or a piece of a coded one.
struct PartReader {
    part: v1::LocatedBlock,
    /// Offset of the next byte in it, and of the first that is not wanted.
    at: u64,
    to: u64,
    stream: Option<(u64, BoxStream<'static, Result<Bytes, Status>>)>,
    /// First result of the stream, if it came when the stream was begun.
    begun: Option<Option<Result<Bytes, Status>>>,
    /// Executors that are not asked again for bytes from an offset on, with their errors.
    failed: Vec<(u64, u64, Status)>,
}

impl PartReader {
    fn new(part: v1::LocatedBlock, at_in_file: u64, to: u64) -> Self {
        let at = at_in_file - part.offset;
        PartReader { part, at, to, stream: None, begun: None, failed: Vec::new() }
    }

    /// Starts the first read. Returns at once.
    fn begin(&mut self, wfs: &Wfs) {
        if self.stream.is_none()
            && let Some((executor, mut stream)) = self.open(wfs, &[])
        {
            // This poll registers no waker: the reader polls again when it wants the bytes.
            self.begun = stream.next().now_or_never();
            self.stream = Some((executor, stream));
        }
    }

    /// The next bytes; `None` at the end of the part.
    async fn next(&mut self, wfs: &Wfs) -> Result<Option<Bytes>, Stuck> {
        if self.at >= self.to {
            return Ok(None);
        }
        loop {
            let (executor, mut stream) = match self.stream.take() {
                Some(stream) => stream,
                None => match self.open(wfs, &[]) {
                    Some(stream) => stream,
                    None => return self.rebuild(wfs).await.map(Some),
                },
            };
            let first = match self.begun.take() {
                Some(item) => Ok(item),
                None => tokio::time::timeout(HEDGE_AFTER, stream.next()).await,
            };
            let (executor, stream, item) = match first {
                Ok(item) => (executor, stream, item),
                Err(_) => match self.open(wfs, &[executor]) {
                    // The faster replica continues.
                    Some((other, mut raced)) => tokio::select! {
                        item = stream.next() => (executor, stream, item),
                        item = raced.next() => (other, raced, item),
                    },
                    None => {
                        let (part, window) = (self.part.clone(), self.window());
                        let raced = tokio::select! {
                            item = stream.next() => Some(item),
                            Some(bytes) = rebuilt(wfs, part, window) => {
                                // The slow replica is not waited for again.
                                self.failed.push((executor, u64::MAX, Status::deadline_exceeded("it is slow")));
                                return Ok(Some(self.take(bytes)));
                            }
                        };
                        (executor, stream, raced.flatten())
                    }
                },
            };
            match item {
                Some(Ok(bytes)) if !bytes.is_empty() => {
                    wfs.count(executor, bytes.len());
                    self.stream = Some((executor, stream));
                    return Ok(Some(self.take(bytes)));
                }
                Some(Ok(_)) => self.stream = Some((executor, stream)),
                Some(Err(status)) => self.fail(wfs, self.part.block, executor, status).await,
                None => {
                    let status = Status::data_loss("it has less of the block than was written");
                    self.fail(wfs, self.part.block, executor, status).await;
                }
            }
        }
    }

    fn take(&mut self, bytes: Bytes) -> Bytes {
        self.at += bytes.len() as u64;
        bytes
    }

    /// Opens the next replica that was not tried.
    fn open(&mut self, wfs: &Wfs, but: &[u64]) -> Option<(u64, BoxStream<'static, Result<Bytes, Status>>)> {
        let failed: BTreeSet<u64> = self.failed.iter().map(|(executor, ..)| *executor).collect();
        let mut holders = self.part.holders.iter();
        let fresh = holders.find(|holder| !failed.contains(&holder.executor) && !but.contains(&holder.executor));
        // A replica that was damaged further ahead may still have these bytes.
        let again = |holder: &&v1::BlockHolder| {
            let mut said = self.failed.iter().filter(|(executor, ..)| *executor == holder.executor);
            but.is_empty() && said.all(|(_, at, status)| *at < self.at && status.code() == Code::DataLoss)
        };
        let holder = fresh.or_else(|| self.part.holders.iter().find(again))?;
        match wfs.node(holder) {
            Ok(node) => Some((holder.executor, node.read(self.part.block, self.at..self.to, &self.part.ticket))),
            Err(status) => {
                let executor = holder.executor;
                self.failed.push((executor, u64::MAX, status));
                self.open(wfs, but)
            }
        }
    }

    /// The next bytes, computed from other pieces.
    async fn rebuild(&mut self, wfs: &Wfs) -> Result<Bytes, Stuck> {
        let mut unread = Vec::new();
        let computed = match &self.part.coded {
            None => None,
            Some(coded) => {
                let (nodes, ticket) = (|holder: &v1::BlockHolder| wfs.node(holder), &self.part.ticket);
                Some(read_rebuilt(&nodes, coded, ticket, self.window(), &mut unread).await)
            }
        };
        for Unread { executor, replica, status } in unread {
            self.fail(wfs, replica, executor, status).await;
        }
        match computed {
            Some(Ok(bytes)) => {
                // These bytes count as remote, even if a piece came from here.
                wfs.count(0, bytes.len());
                Ok(self.take(bytes))
            }
            Some(Err(status)) => Err(self.stuck(Some(status))),
            None => Err(self.stuck(None)),
        }
    }

    fn window(&self) -> Range<u64> {
        self.at..self.to.min(self.at + REBUILT_BYTES)
    }

    async fn fail(&mut self, wfs: &Wfs, replica: u64, executor: u64, status: Status) {
        tracing::debug!(executor, replica, %status, "a replica could not be read");
        if matches!(status.code(), Code::DataLoss | Code::NotFound) {
            let suspect = v1::SuspectRequest { block: replica, executor };
            if let Err(error) = wfs.act(Ask::Suspect(suspect)).await {
                tracing::debug!(%error, "the primary could not be told of it");
            }
        }
        self.failed.push((executor, self.at, status));
    }

    fn stuck(&self, computing: Option<Status>) -> Stuck {
        let is_hopeless = !self.failed.is_empty() && self.failed.iter().all(|(_, _, status)| !is_away(status));
        let is_refused = self.failed.iter().any(|(_, _, status)| status.code() == Code::PermissionDenied);
        let said = self.failed.iter().map(|(executor, _, status)| format!("executor-{executor}: {}", status.message()));
        let computing = computing.iter().map(|status| status.message().to_string());
        let said: Vec<String> = said.chain(computing).collect();
        let reason = match said.is_empty() {
            true => format!("no executor that is attached has a replica of block {}", self.part.block),
            false => format!("no replica of block {} can be read ({})", self.part.block, said.join("; ")),
        };
        Stuck { reason, is_hopeless, is_refused }
    }
}

/// The bytes of a slow replica, computed from other pieces. Failed reads are not reported.
async fn rebuilt(wfs: &Wfs, part: v1::LocatedBlock, window: Range<u64>) -> Option<Bytes> {
    read_rebuilt(&|holder| wfs.node(holder), &part.coded?, &part.ticket, window, &mut Vec::new()).await.ok()
}
