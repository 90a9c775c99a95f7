//! Reading a file: from the nearest replica, and from another one in the middle of a read when that fails or is slow.

use super::{Wfs, WfsError, is_away};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Status};
use windlass_proto::v1;
use windlass_proto::v1::file_request::Ask;

/// A replica whose next bytes take longer is raced against another one.
const HEDGE_AFTER: Duration = Duration::from_millis(800);
/// When no replica can be read, executors may be on their way back.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(250);

/// Bytes of a file, in order. `located`: what [`Wfs::locate`] answered for a range that has `range`.
pub fn read(wfs: &Wfs, located: v1::LocateReply, range: Range<u64>) -> BoxStream<'static, Result<Bytes, WfsError>> {
    let path = located.entry.map(|entry| entry.path).unwrap_or_default();
    let mut reader = Reader {
        wfs: wfs.clone(),
        path,
        blocks: located.blocks.into_iter(),
        current: None,
        at: range.start,
        end: range.end,
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
    blocks: std::vec::IntoIter<v1::LocatedBlock>,
    current: Option<BlockReader>,
    /// Of the next byte, in the file.
    at: u64,
    end: u64,
    failed: bool,
}

impl Reader {
    async fn next(mut self) -> Option<(Result<Bytes, WfsError>, Self)> {
        if self.failed || self.at >= self.end {
            return None;
        }
        let item = self.step().await;
        match &item {
            Ok(bytes) => self.at += bytes.len() as u64,
            Err(_) => self.failed = true,
        }
        Some((item, self))
    }

    async fn step(&mut self) -> Result<Bytes, WfsError> {
        loop {
            if self.current.is_none() {
                let Some(block) = self.blocks.next() else {
                    return Err(self.unreadable("no block has it; the file was written again or removed".into()));
                };
                if block.offset + block.bytes <= self.at {
                    continue;
                }
                let to = self.end.min(block.offset + block.bytes) - block.offset;
                self.current = Some(BlockReader::new(block, self.at, to));
            }
            let Some(current) = &mut self.current else { continue };
            match current.next(&self.wfs, &self.path).await {
                Ok(Some(bytes)) => return Ok(bytes),
                Ok(None) => self.current = None,
                Err(reason) => return Err(self.unreadable(reason)),
            }
        }
    }

    fn unreadable(&self, reason: String) -> WfsError {
        WfsError::Unreadable { path: self.path.clone(), offset: self.at, reason }
    }
}

struct BlockReader {
    block: v1::LocatedBlock,
    /// Of the next byte in the block, and of the first that is not wanted.
    at: u64,
    to: u64,
    stream: Option<(u64, BoxStream<'static, Result<Bytes, Status>>)>,
    /// Executors that are not asked again, with what they said.
    failed: Vec<(u64, Status)>,
    /// Since when no replica can be read.
    stuck: Option<Instant>,
}

impl BlockReader {
    fn new(block: v1::LocatedBlock, at_in_file: u64, to: u64) -> Self {
        let at = at_in_file - block.offset;
        BlockReader { block, at, to, stream: None, failed: Vec::new(), stuck: None }
    }

    /// `None` at its end; an error says why no replica can be read.
    async fn next(&mut self, wfs: &Wfs, path: &str) -> Result<Option<Bytes>, String> {
        if self.at >= self.to {
            return Ok(None);
        }
        loop {
            let (executor, mut stream) = match self.stream.take() {
                Some(stream) => stream,
                None => match self.open(wfs, &[]) {
                    Some(stream) => stream,
                    None => {
                        self.look_again(wfs, path).await?;
                        continue;
                    }
                },
            };
            let first = tokio::time::timeout(HEDGE_AFTER, stream.next()).await;
            let (executor, stream, item) = match first {
                Ok(item) => (executor, stream, item),
                Err(_) => match self.open(wfs, &[executor]) {
                    // Whoever answers first goes on.
                    Some((other, mut raced)) => tokio::select! {
                        item = stream.next() => (executor, stream, item),
                        item = raced.next() => (other, raced, item),
                    },
                    None => {
                        let item = stream.next().await;
                        (executor, stream, item)
                    }
                },
            };
            match item {
                Some(Ok(bytes)) if !bytes.is_empty() => {
                    self.at += bytes.len() as u64;
                    wfs.count(executor, bytes.len());
                    self.stuck = None;
                    self.stream = Some((executor, stream));
                    return Ok(Some(bytes));
                }
                Some(Ok(_)) => self.stream = Some((executor, stream)),
                Some(Err(status)) => self.fail(wfs, executor, status).await,
                None => self.fail(wfs, executor, Status::data_loss("it has less of the block than was written")).await,
            }
        }
    }

    /// The next replica that was not tried.
    fn open(&mut self, wfs: &Wfs, but: &[u64]) -> Option<(u64, BoxStream<'static, Result<Bytes, Status>>)> {
        let failed: BTreeSet<u64> = self.failed.iter().map(|(executor, _)| *executor).collect();
        let mut holders = self.block.holders.iter();
        let holder = holders.find(|holder| !failed.contains(&holder.executor) && !but.contains(&holder.executor))?;
        match wfs.node(holder) {
            Ok(node) => Some((holder.executor, node.read(self.block.block, self.at..self.to))),
            Err(status) => {
                let executor = holder.executor;
                self.failed.push((executor, status));
                self.open(wfs, but)
            }
        }
    }

    async fn fail(&mut self, wfs: &Wfs, executor: u64, status: Status) {
        tracing::debug!(executor, block = self.block.block, %status, "a replica could not be read");
        if matches!(status.code(), Code::DataLoss | Code::NotFound) {
            let suspect = v1::SuspectRequest { block: self.block.block, executor };
            if let Err(error) = wfs.act(Ask::Suspect(suspect)).await {
                tracing::debug!(%error, "the primary could not be told of it");
            }
        }
        self.failed.push((executor, status));
    }

    /// All replicas were tried: others may have been made, or executors come back.
    async fn look_again(&mut self, wfs: &Wfs, path: &str) -> Result<(), String> {
        let since = *self.stuck.get_or_insert_with(Instant::now);
        // What every replica says that it has not, no waiting brings back; what is away may return.
        let hopeless = !self.failed.is_empty() && self.failed.iter().all(|(_, status)| !is_away(status));
        let patience = if hopeless { PAUSE * 8 } else { PATIENCE };
        if since.elapsed() >= patience {
            return Err(self.why());
        }
        tokio::time::sleep(PAUSE).await;
        let start = self.block.offset + self.at;
        match wfs.locate(path, start..start + 1).await {
            Ok(located) => {
                let found = located.blocks.into_iter().find(|block| block.block == self.block.block);
                let Some(block) = found else {
                    return Err("the file was removed, or written again, while it was read".into());
                };
                self.block.holders = block.holders;
                self.failed.clear();
                Ok(())
            }
            Err(WfsError::Refused(error)) => Err(format!("it was removed while it was read: {}", error.message)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn why(&self) -> String {
        if self.failed.is_empty() {
            return format!("no executor that is attached has a replica of block {}", self.block.block);
        }
        let said = self.failed.iter().map(|(executor, status)| format!("executor-{executor}: {}", status.message()));
        format!("no replica of block {} can be read ({})", self.block.block, said.collect::<Vec<_>>().join("; "))
    }
}
