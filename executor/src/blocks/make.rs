//! Replicas made on the primary's orders: copied from other executors, computed from other pieces, and blocks that are cut into pieces or put together again.
//! The orders have no tickets: this executor signs its own.

use super::BlockStore;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::try_join_all;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Status;
use windlass_connectors::wfs::{BlockNode, CHECKSUM_BYTES, Local, PIECE_BYTES, parity, read_extent, read_rebuilt};
use windlass_core::ids::BlockId;
use windlass_core::wfs::{Block, Coding};
use windlass_engine::checksum::crc32c;
use windlass_proto::ticket::Access;
use windlass_proto::v1;
use windlass_proto::v1::block_piece::{Piece, WriteEnd};

/// Bytes of each piece that are computed at a time: a multiple of [`CHECKSUM_BYTES`], and of the unit of coding.
const STEP: u64 = PIECE_BYTES as u64;

impl BlockStore {
    fn node(&self, holder: &v1::BlockHolder) -> Result<Arc<dyn BlockNode>, Status> {
        match Local::node(self, holder.executor) {
            Some(node) => Ok(node),
            None => self.0.peers.node(&holder.address),
        }
    }

    /// Fetches a replica from one of its holders.
    pub(super) async fn copy(&self, copy: v1::CopyBlock) {
        let block = Block { id: BlockId(copy.block), bytes: copy.bytes };
        if self.says_again(block) {
            return;
        }
        let mut said = Status::unavailable("nobody has it");
        for holder in &copy.from {
            match self.copy_from(block, holder).await {
                Ok(()) => return,
                Err(status) => said = status,
            }
        }
        self.not_made(block.id, &said);
    }

    async fn copy_from(&self, block: Block, holder: &v1::BlockHolder) -> Result<(), Status> {
        let ticket = self.0.keys.ticket_of_request(Access::Read, block.id.0..block.id.0 + 1);
        let mut bytes = self.node(holder)?.read(block.id.0, 0..block.bytes, &ticket);
        let mut outgoing = Outgoing::begin(self, block.id.0, &[self.me()]).await?;
        let mut buffer = BytesMut::new();
        while let Some(more) = bytes.next().await.transpose()? {
            buffer.extend_from_slice(&more);
            while buffer.len() >= PIECE_BYTES {
                let piece = buffer.split_to(PIECE_BYTES).freeze();
                self.0.repair.pass(piece.len() as u64).await;
                outgoing.send(piece).await?;
            }
        }
        if outgoing.offset + buffer.len() as u64 != block.bytes {
            return Err(Status::data_loss("it has less of the block than was written"));
        }
        if !buffer.is_empty() {
            outgoing.send(buffer.freeze()).await?;
        }
        outgoing.finish().await
    }

    /// Whether the replica is here. If so, it is reported to the primary once more.
    fn says_again(&self, block: Block) -> bool {
        let held = self.held(block.id).ok().filter(|held| held.bytes == block.bytes);
        held.is_some_and(|held| {
            self.add(held.disk, block);
            true
        })
    }

    /// Computes a piece from others, and keeps it.
    pub(super) async fn rebuild(&self, piece: v1::CodedPiece) {
        let block = Block { id: BlockId(piece.first + u64::from(piece.piece)), bytes: piece.piece_bytes };
        if self.says_again(block) {
            return;
        }
        if let Err(status) = self.try_rebuild(&piece, block.id).await {
            self.not_made(block.id, &status);
        }
    }

    async fn try_rebuild(&self, piece: &v1::CodedPiece, id: BlockId) -> Result<(), Status> {
        let mut outgoing = Outgoing::begin(self, id.0, &[self.me()]).await?;
        let mut at = 0;
        while at < piece.piece_bytes {
            let end = (at + STEP).min(piece.piece_bytes);
            let ticket = self.0.keys.ticket_of_request(Access::Read, piece.replicas());
            let bytes = read_rebuilt(&|holder| self.node(holder), piece, &ticket, at..end, &mut Vec::new()).await?;
            self.0.repair.pass(bytes.len() as u64).await;
            outgoing.send(bytes).await?;
            at = end;
        }
        outgoing.finish().await
    }

    /// Writes the bytes of a block as another block.
    pub(super) async fn recode(&self, order: v1::RecodeBlock) {
        let made = match order.coding.as_str() {
            "" => self.put_together(&order).await,
            code => match Coding::parse(code) {
                Some(coding) => self.cut_up(&order, coding).await,
                None => Err(Status::unimplemented(format!("\"{code}\" is a code of another release"))),
            },
        };
        if let Err(status) = made {
            self.not_made(BlockId(order.new), &status);
        }
    }

    fn not_made(&self, block: BlockId, status: &Status) {
        tracing::info!(%block, reason = status.message(), "a replica could not be made");
        self.0.state.lock().news.not_copied.insert(block);
        self.0.news.notify_one();
    }

    async fn put_together(&self, order: &v1::RecodeBlock) -> Result<(), Status> {
        let mut outgoing = Outgoing::begin(self, order.new, &order.targets).await?;
        let mut at = 0;
        while at < order.bytes {
            let end = (at + STEP).min(order.bytes);
            let bytes = self.read_range(&order.old, at..end).await?;
            self.0.repair.pass(bytes.len() as u64).await;
            outgoing.send(bytes).await?;
            at = end;
        }
        outgoing.finish().await
    }

    async fn cut_up(&self, order: &v1::RecodeBlock, coding: Coding) -> Result<(), Status> {
        if order.targets.len() != usize::from(coding.pieces()) {
            return Err(Status::unavailable("an executor that a piece was to go to is gone"));
        }
        let targets = order.targets.iter().zip(order.new..);
        let begun = targets.map(|(target, id)| Outgoing::begin(self, id, std::slice::from_ref(target)));
        let mut outgoing = try_join_all(begun).await?;
        let piece_bytes = coding.piece_bytes(order.bytes);
        let mut at = 0;
        while at < piece_bytes {
            let length = STEP.min(piece_bytes - at);
            let reads = (0..coding.data()).map(|piece| {
                let extent = coding.extent(order.bytes, piece);
                let range = (extent.start + at).min(extent.end)..(extent.start + at + length).min(extent.end);
                async { Ok::<_, Status>(padded(self.read_range(&order.old, range).await?, length)) }
            });
            let mut pieces = try_join_all(reads).await?;
            let data = pieces.clone();
            let computed = tokio::task::spawn_blocking(move || parity(coding, &data)).await;
            pieces.extend(computed.map_err(|_| Status::unavailable("the executor is stopping"))??);
            self.0.repair.pass(length * u64::from(coding.pieces())).await;
            let sends = outgoing.iter_mut().zip(pieces).map(|(outgoing, bytes)| outgoing.send(bytes));
            try_join_all(sends).await?;
            at += length;
        }
        try_join_all(outgoing.into_iter().map(Outgoing::finish)).await.map(drop)
    }

    /// Reads a range of a block that lies in these parts.
    async fn read_range(&self, parts: &[v1::LocatedBlock], range: std::ops::Range<u64>) -> Result<Bytes, Status> {
        let concerned = parts.iter().filter(|part| part.offset < range.end && part.offset + part.bytes > range.start);
        let reads = concerned.map(|part| {
            let start = range.start.max(part.offset) - part.offset;
            let end = range.end.min(part.offset + part.bytes) - part.offset;
            let ticket = self.0.keys.ticket_of_request(Access::Read, part.replicas());
            let part = v1::LocatedBlock { ticket, ..part.clone() };
            async move { read_extent(&|holder| self.node(holder), &part, start..end).await }
        });
        let mut read = try_join_all(reads).await?;
        Ok(if read.len() == 1 { read.swap_remove(0) } else { read.concat().into() })
    }

    /// This executor as a holder of replicas.
    fn me(&self) -> v1::BlockHolder {
        v1::BlockHolder { executor: self.near().executor, ..v1::BlockHolder::default() }
    }
}

/// Pads the bytes to `length` with zeros.
fn padded(bytes: Bytes, length: u64) -> Bytes {
    if bytes.len() as u64 == length {
        return bytes;
    }
    let mut padded = BytesMut::zeroed(length as usize);
    padded[..bytes.len()].copy_from_slice(&bytes);
    padded.freeze()
}

/// A replica on its way to others. Given up on drop.
struct Outgoing {
    pieces: mpsc::Sender<v1::BlockPiece>,
    offset: u64,
    durable: JoinSet<Result<(), Status>>,
}

impl Outgoing {
    async fn begin(store: &BlockStore, block: u64, chain: &[v1::BlockHolder]) -> Result<Outgoing, Status> {
        let first = chain.first().ok_or_else(|| Status::unavailable("the executors that it was to go to are gone"))?;
        let node = store.node(first)?;
        let (pieces, incoming) = mpsc::channel(4);
        let ticket = store.0.keys.ticket_of_request(Access::Write, block..block + 1);
        let header = v1::WriteHeader { block, rest: chain[1..].to_vec(), ticket };
        // The channel has room for it.
        let _ = pieces.send(v1::BlockPiece { piece: Some(Piece::Header(header)) }).await;
        let mut durable = JoinSet::new();
        durable.spawn_on(
            async move {
                let mut progress = node.write(incoming);
                while let Some(said) = progress.next().await {
                    let said = said?;
                    if let Some(lost) = said.lost {
                        return Err(Status::unavailable(lost.reason));
                    }
                    if !said.durable.is_empty() {
                        return Ok(());
                    }
                }
                Err(Status::unavailable("the stream ended before the replica was durable"))
            },
            &store.0.io,
        );
        Ok(Outgoing { pieces, offset: 0, durable })
    }

    async fn send(&mut self, data: Bytes) -> Result<(), Status> {
        let checksums = data.chunks(CHECKSUM_BYTES).map(crc32c).collect();
        let (offset, length) = (self.offset, data.len() as u64);
        let piece = Piece::Data(v1::BlockData { offset, data, checksums });
        if self.pieces.send(v1::BlockPiece { piece: Some(piece) }).await.is_err() {
            return self.outcome().await;
        }
        self.offset += length;
        Ok(())
    }

    async fn finish(mut self) -> Result<(), Status> {
        // A receiver that fails reports the reason.
        let _ = self.pieces.send(v1::BlockPiece { piece: Some(Piece::End(WriteEnd {})) }).await;
        self.outcome().await
    }

    async fn outcome(&mut self) -> Result<(), Status> {
        match self.durable.join_next().await {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) | None => Err(Status::unavailable("the executor is stopping")),
        }
    }
}
