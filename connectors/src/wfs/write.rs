//! Writing a file: block after block, each through a chain of executors.
//!
//! ```text
//!   bytes ──pieces of 1 MiB──> first executor ──> second ──> third
//!     ^                             │ what all of them have
//!     └── kept until then <─────────┘
//!
//!   a link fails: the survivors close the block where all have it, and the remaining bytes go into the next block
//! ```

use super::{CHECKSUM_BYTES, PIECE_BYTES, Wfs, WfsError};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::join_all;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use windlass_engine::checksum::crc32c;
use windlass_proto::v1;
use windlass_proto::v1::block_piece::{Piece, WriteEnd};
use windlass_proto::v1::create_request::{Mode, New, Overwrite};
use windlass_proto::v1::file_error::Kind;
use windlass_proto::v1::file_reply::Reply;
use windlass_proto::v1::file_request::Ask;
use windlass_proto::v1::last_block::Last;

/// Maximum bytes in flight that not all replicas have.
const WINDOW: u64 = 8 << 20;
/// Time without progress after which a chain counts as broken: one of its links hangs.
const STALLED: Duration = Duration::from_secs(20);
/// Maximum blocks of one file that may fail in a row without any progress.
const FAILURES: u32 = 8;
/// Interval at which a writer renews its lease.
const RENEW_EVERY: Duration = Duration::from_secs(60);
/// Time limit for finding executors for a block.
const PLACED_WITHIN: Duration = Duration::from_secs(15);
/// Time limit for the last replicas to become durable.
const DURABLE_WITHIN: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct WriteOptions {
    pub mode: Mode,
    pub replication: Option<u32>,
    pub block_bytes: Option<u64>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        WriteOptions { mode: Mode::Overwrite(Overwrite {}), replication: None, block_bytes: None }
    }
}

impl WriteOptions {
    /// Options that append to the file with this id and replace it.
    pub fn append_to(file: u64) -> Self {
        WriteOptions { mode: Mode::Append(file), ..WriteOptions::default() }
    }

    /// Options that require that no file exists at the path.
    pub fn new_file() -> Self {
        WriteOptions { mode: Mode::New(New {}), ..WriteOptions::default() }
    }
}

/// A file that is being written. It becomes visible when [`FileWriter::finish`] has returned; an earlier drop leaves nothing of it.
#[derive(Debug)]
pub struct FileWriter {
    wfs: Wfs,
    path: String,
    file: u64,
    writer: Bytes,
    block_bytes: u64,
    /// Number of closed blocks.
    index: u32,
    last: Option<Last>,
    excluded: BTreeSet<u64>,
    failures: u32,
    buffer: Buffer,
    open: Option<OpenBlock>,
    renewing: JoinSet<()>,
    finished: bool,
}

/// A block that is being written.
#[derive(Debug)]
struct OpenBlock {
    block: u64,
    /// Ticket to write it.
    ticket: Bytes,
    chain: Vec<v1::BlockHolder>,
    pieces: mpsc::Sender<v1::BlockPiece>,
    state: watch::Receiver<Progress>,
    sent: u64,
    /// Pieces that some replicas may not have.
    kept: VecDeque<(u64, Bytes)>,
    _task: JoinSet<()>,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    written: u64,
    /// Executors with a durable replica; present when the whole block is durable.
    durable: Option<Vec<u64>>,
    /// The executor that failed (`None`: the first one), and the error.
    failed: Option<(Option<u64>, String)>,
}

impl FileWriter {
    pub async fn create(wfs: &Wfs, path: &str, options: WriteOptions) -> Result<FileWriter, WfsError> {
        let writer = Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        let request = v1::CreateRequest {
            path: path.into(),
            writer: writer.clone(),
            mode: Some(options.mode),
            replication: options.replication,
            block_bytes: options.block_bytes,
        };
        let created = match wfs.ask(Ask::Create(request)).await? {
            Reply::Create(created) => created,
            other => return Err(super::unexpected(&other)),
        };
        let file = created.file;
        let mut renewing = JoinSet::new();
        let renew = v1::WriterRequest { file, writer: writer.clone() };
        let of_renewal = wfs.clone();
        renewing.spawn_on(
            async move {
                loop {
                    tokio::time::sleep(RENEW_EVERY).await;
                    if let Err(error) = of_renewal.renew(renew.clone()).await {
                        tracing::debug!(file, %error, "the lease of a file could not be renewed");
                    }
                }
            },
            wfs.io(),
        );
        Ok(FileWriter {
            wfs: wfs.clone(),
            path: path.into(),
            file,
            writer,
            block_bytes: created.block_bytes,
            index: 0,
            last: None,
            excluded: BTreeSet::new(),
            failures: 0,
            buffer: Buffer::default(),
            open: None,
            renewing,
            finished: false,
        })
    }

    /// Takes the bytes, and sends whole pieces. Waits while too much is in flight.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), WfsError> {
        self.buffer.push(bytes);
        while self.buffer.len >= PIECE_BYTES {
            self.send_piece().await?;
        }
        Ok(())
    }

    /// Sends the rest, waits until all is durable, and makes the file visible.
    pub async fn finish(mut self) -> Result<v1::FileEntry, WfsError> {
        loop {
            while self.buffer.len > 0 {
                self.send_piece().await?;
            }
            if self.close_block().await? {
                break;
            }
        }
        let last = self.last.clone().map(|last| v1::LastBlock { last: Some(last) });
        let complete = v1::CompleteRequest { file: self.file, writer: self.writer.clone(), last };
        let until = tokio::time::Instant::now() + DURABLE_WITHIN;
        loop {
            match self.wfs.entry(Ask::Complete(complete.clone())).await {
                Err(error) if error.kind() == Some(Kind::NotDurable) && tokio::time::Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error),
                Ok(entry) => {
                    self.finished = true;
                    self.renewing.abort_all();
                    return Ok(entry);
                }
            }
        }
    }

    /// Abandons the file and removes its blocks.
    pub async fn abort(mut self) -> Result<(), WfsError> {
        self.finished = true;
        self.open = None;
        let abandon = v1::WriterRequest { file: self.file, writer: self.writer.clone() };
        self.wfs.act(Ask::Abandon(abandon)).await
    }

    /// Sends the next piece of the buffer: a whole piece, the rest of the block, or all that is left.
    async fn send_piece(&mut self) -> Result<(), WfsError> {
        if self.open.as_ref().is_some_and(|open| open.sent >= self.block_bytes) && !self.close_block().await? {
            return Ok(());
        }
        if self.open.is_none() {
            self.open_block().await?;
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let room = (self.block_bytes - open.sent).min(PIECE_BYTES as u64) as usize;
        let data = self.buffer.take(room);
        let offset = open.sent;
        open.sent += data.len() as u64;
        open.kept.push_back((offset, data.clone()));
        let checksums = data.chunks(CHECKSUM_BYTES).map(crc32c).collect();
        let piece = Piece::Data(v1::BlockData { offset, data, checksums });
        let sent = open.pieces.send(v1::BlockPiece { piece: Some(piece) }).await;
        let open_is_fine = sent.is_ok() && open.make_room(WINDOW).await;
        if !open_is_fine {
            self.recover().await?;
        }
        Ok(())
    }

    async fn open_block(&mut self) -> Result<(), WfsError> {
        let request = v1::AddBlockRequest {
            file: self.file,
            index: self.index,
            last: self.last.clone().map(|last| v1::LastBlock { last: Some(last) }),
            excluded: self.excluded.iter().copied().collect(),
        };
        let added = self.add_block(request).await?;
        self.last = None;
        let chain = added.targets;
        let Some(first) = chain.first() else {
            return Err(self.unwritable("the executors that were to hold it are gone".into()));
        };
        let (pieces, incoming) = mpsc::channel(4);
        let (block, ticket) = (added.block, added.ticket);
        let header = v1::WriteHeader { block, rest: chain[1..].to_vec(), ticket: ticket.clone() };
        // The channel has room for it.
        let _ = pieces.send(v1::BlockPiece { piece: Some(Piece::Header(header)) }).await;
        let node = self.wfs.node(first);
        let (report, state) = watch::channel(Progress::default());
        let mut task = JoinSet::new();
        task.spawn_on(follow(node, incoming, report), self.wfs.io());
        let kept = VecDeque::new();
        self.open = Some(OpenBlock { block, ticket, chain, pieces, state, sent: 0, kept, _task: task });
        Ok(())
    }

    async fn add_block(&mut self, mut request: v1::AddBlockRequest) -> Result<v1::AddBlockReply, WfsError> {
        let until = tokio::time::Instant::now() + PLACED_WITHIN;
        loop {
            match self.wfs.ask(Ask::AddBlock(request.clone())).await {
                Ok(Reply::AddBlock(added)) => return Ok(added),
                Ok(other) => return Err(super::unexpected(&other)),
                // A new primary waits for its executors, and failed ones may come back.
                Err(error) if error.kind() == Some(Kind::NoTargets) && tokio::time::Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                    self.excluded.clear();
                    request.excluded.clear();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends the open block. False: it failed, and some of it must be sent again.
    async fn close_block(&mut self) -> Result<bool, WfsError> {
        let Some(open) = &mut self.open else { return Ok(true) };
        let ended = open.pieces.send(v1::BlockPiece { piece: Some(Piece::End(WriteEnd {})) }).await.is_ok();
        let durable = if ended { open.durable().await } else { None };
        let Some(durable) = durable else {
            self.recover().await?;
            return Ok(false);
        };
        self.last = Some(Last::Sealed(v1::SealedBlock { block: open.block, bytes: open.sent, durable }));
        self.index += 1;
        self.failures = 0;
        self.open = None;
        Ok(true)
    }

    /// Handles a failed link: the survivors close the block where all of them have it.
    async fn recover(&mut self) -> Result<(), WfsError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let OpenBlock { block, ticket, chain, pieces, state, kept, _task, .. } = open;
        drop(pieces);
        let Progress { written, failed, .. } = state.borrow().clone();
        let (at, reason) = match failed {
            Some((Some(executor), reason)) => {
                (chain.iter().position(|holder| holder.executor == executor).unwrap_or(0), reason)
            }
            Some((None, reason)) => (0, reason),
            None => (0, "it made no progress".to_string()),
        };
        let lost = chain.get(at).map_or(0, |holder| holder.executor);
        tracing::info!(
            path = self.path,
            block,
            executor = lost,
            reason,
            written,
            "a replica failed while it was written"
        );
        self.excluded.insert(lost);
        self.failures = if written > 0 { 1 } else { self.failures + 1 };
        if self.failures > FAILURES {
            return Err(
                self.unwritable(format!("{FAILURES} blocks failed one after the other, the last one because {reason}"))
            );
        }
        // The bytes that all survivors have are kept; the rest is in `kept` here.
        let survivors: Vec<&v1::BlockHolder> = chain.iter().filter(|holder| holder.executor != lost).collect();
        let durable = if written == 0 { Vec::new() } else { self.seal(block, written, &ticket, &survivors).await };
        if durable.is_empty() && written > 0 {
            return Err(self.unwritable(format!(
                "all executors that had the first {written} bytes of a block are gone (executor-{lost}: {reason}); write the file again"
            )));
        }
        self.last = Some(match durable.is_empty() {
            true => Last::Dropped(block),
            false => {
                self.index += 1;
                Last::Sealed(v1::SealedBlock { block, bytes: written, durable })
            }
        });
        let again = kept.into_iter().filter_map(|(offset, data)| {
            let end = offset + data.len() as u64;
            (end > written).then(|| data.slice(written.saturating_sub(offset) as usize..))
        });
        self.buffer.push_front(again.collect());
        Ok(())
    }

    async fn seal(&mut self, block: u64, bytes: u64, ticket: &Bytes, survivors: &[&v1::BlockHolder]) -> Vec<u64> {
        let this = &*self;
        let sealed = join_all(survivors.iter().map(|holder| async move {
            let mut sealed = this.seal_at(holder, block, bytes, ticket).await;
            // A block may have been open for longer than its ticket is valid.
            if sealed.as_ref().is_err_and(|status| status.code() == Code::PermissionDenied)
                && let Some(fresh) = this.fresh_ticket(block).await
            {
                sealed = this.seal_at(holder, block, bytes, &fresh).await;
            }
            if let Err(status) = &sealed {
                tracing::info!(
                    block,
                    executor = holder.executor,
                    reason = status.message(),
                    "a replica was not closed"
                );
            }
            (holder.executor, sealed.is_ok())
        }))
        .await;
        self.excluded.extend(sealed.iter().filter(|(_, sealed)| !sealed).map(|(executor, _)| *executor));
        sealed.into_iter().filter(|(_, sealed)| *sealed).map(|(executor, _)| executor).collect()
    }

    async fn seal_at(&self, holder: &v1::BlockHolder, block: u64, bytes: u64, ticket: &Bytes) -> Result<(), Status> {
        let node = self.wfs.node(holder)?;
        let hangs = |_| Err(Status::deadline_exceeded("it does not answer"));
        tokio::time::timeout(STALLED, node.seal(block, bytes, ticket)).await.unwrap_or_else(hangs)
    }

    /// A new ticket for the block that is being written.
    async fn fresh_ticket(&self, block: u64) -> Option<Bytes> {
        let renew = v1::WriterRequest { file: self.file, writer: self.writer.clone() };
        match self.wfs.renew(renew).await {
            Ok(renewed) if renewed.block == Some(block) => Some(renewed.ticket),
            Ok(_) => None,
            Err(error) => {
                tracing::info!(path = self.path, block, %error, "there is no other ticket for a block");
                None
            }
        }
    }

    fn unwritable(&self, reason: String) -> WfsError {
        WfsError::Unwritable { path: self.path.clone(), reason }
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let abandon = v1::WriterRequest { file: self.file, writer: self.writer.clone() };
        let (wfs, file) = (self.wfs.clone(), self.file);
        // If this does not arrive, the lease expires.
        self.wfs.io().spawn(async move {
            if let Err(error) = wfs.act(Ask::Abandon(abandon)).await {
                tracing::debug!(file, %error, "a file that was given up could not be abandoned");
            }
        });
    }
}

impl OpenBlock {
    /// Waits until at most `window` bytes are in flight. False: the chain failed.
    async fn make_room(&mut self, window: u64) -> bool {
        let sent = self.sent;
        let settled = self.state.wait_for(|progress| progress.failed.is_some() || progress.written + window >= sent);
        let fine = match tokio::time::timeout(STALLED, settled).await {
            Ok(Ok(progress)) => progress.failed.is_none(),
            // Nobody reports any more, or there was no progress for too long.
            Ok(Err(_)) | Err(_) => false,
        };
        let written = self.state.borrow().written;
        while self.kept.front().is_some_and(|(offset, data)| offset + data.len() as u64 <= written) {
            self.kept.pop_front();
        }
        fine
    }

    /// Waits until the whole block is durable. `None`: the chain failed.
    async fn durable(&mut self) -> Option<Vec<u64>> {
        let settled = self.state.wait_for(|progress| progress.failed.is_some() || progress.durable.is_some());
        // A sync may take longer.
        let progress = tokio::time::timeout(STALLED * 3, settled).await.ok()?.ok()?;
        match progress.failed {
            None => progress.durable.clone(),
            Some(_) => None,
        }
    }
}

/// Sends the pieces to the first executor, and reports the progress of the chain.
async fn follow(
    node: Result<Arc<dyn super::BlockNode>, Status>,
    pieces: mpsc::Receiver<v1::BlockPiece>,
    report: watch::Sender<Progress>,
) {
    let failed = |status: Status| {
        report.send_modify(|progress| progress.failed = Some((None, status.message().to_string())));
    };
    let node = match node {
        Ok(node) => node,
        Err(status) => return failed(status),
    };
    let mut progress = node.write(pieces);
    while let Some(item) = progress.next().await {
        let said = match item {
            Ok(said) => said,
            Err(status) => return failed(status),
        };
        report.send_modify(|progress| {
            progress.written = progress.written.max(said.written);
            if let Some(lost) = said.lost {
                progress.failed = Some((Some(lost.executor), lost.reason));
            } else if !said.durable.is_empty() {
                progress.durable = Some(said.durable);
            }
        });
    }
    if report.borrow().durable.is_none() && report.borrow().failed.is_none() {
        failed(Status::unavailable("it ended the stream before the block was durable"));
    }
}

/// Bytes that were not sent yet.
#[derive(Debug, Default)]
struct Buffer {
    parts: VecDeque<Bytes>,
    len: usize,
}

impl Buffer {
    fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.parts.push_back(bytes);
        }
    }

    fn push_front(&mut self, parts: Vec<Bytes>) {
        for part in parts.into_iter().rev() {
            self.len += part.len();
            self.parts.push_front(part);
        }
    }

    /// At most `wanted` bytes from the front; copied only where they lie in several parts.
    fn take(&mut self, wanted: usize) -> Bytes {
        let wanted = wanted.min(self.len);
        self.len -= wanted;
        match self.parts.front_mut() {
            Some(front) if front.len() > wanted => front.split_to(wanted),
            Some(front) if front.len() == wanted => self.parts.pop_front().unwrap_or_default(),
            _ => {
                let mut joined = BytesMut::with_capacity(wanted);
                while joined.len() < wanted
                    && let Some(mut front) = self.parts.pop_front()
                {
                    let rest = front.split_off(front.len().min(wanted - joined.len()));
                    joined.extend_from_slice(&front);
                    if !rest.is_empty() {
                        self.parts.push_front(rest);
                    }
                }
                joined.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_across_what_was_written() {
        let mut buffer = Buffer::default();
        ["abc", "", "defg", "h"].into_iter().for_each(|part| buffer.push(Bytes::from(part)));
        assert_eq!(buffer.take(2), "ab");
        assert_eq!(buffer.take(4), "cdef");
        buffer.push_front(vec![Bytes::from("xy"), Bytes::from("z")]);
        assert_eq!(buffer.take(2), "xy");
        assert_eq!((buffer.take(100), buffer.len), (Bytes::from("zgh"), 0));
    }
}
