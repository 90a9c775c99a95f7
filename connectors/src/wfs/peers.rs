//! Replicas on other executors, over the network.

use super::CHECKSUM_BYTES;
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use windlass_engine::checksum::crc32c;
use windlass_engine::remote::executor_channel;
use windlass_proto::bulk::{self, Messages};
use windlass_proto::v1;
use windlass_proto::v1::blocks_client::BlocksClient;

/// Maximum bytes of a piece of a block with its envelope.
const MAX_PIECE_BYTES: usize = 8 << 20;
/// Maximum executors whose connections are kept.
const MAX_PEERS: usize = 1_024;

/// The replicas of one executor. Another process needs a ticket ([`windlass_proto::ticket`]), or gets PERMISSION_DENIED.
#[async_trait]
pub trait BlockNode: Send + Sync + fmt::Debug {
    /// Writes a block here and on the executors that the header names; see the Blocks service.
    fn write(&self, pieces: mpsc::Receiver<v1::BlockPiece>) -> BoxStream<'static, Result<v1::WriteProgress, Status>>;

    async fn seal(&self, block: u64, bytes: u64, ticket: &Bytes) -> Result<(), Status>;

    /// Exactly these bytes of the block, verified.
    fn read(&self, block: u64, range: Range<u64>, ticket: &Bytes) -> BoxStream<'static, Result<Bytes, Status>>;
}

/// Connections to executors, one for each address.
#[derive(Debug)]
pub struct Peers {
    io: Handle,
    peers: Mutex<BTreeMap<String, Arc<Peer>>>,
}

impl Peers {
    pub fn new(io: Handle) -> Self {
        Peers { io, peers: Mutex::default() }
    }

    pub(super) fn io(&self) -> &Handle {
        &self.io
    }

    pub fn node(&self, address: &str) -> Result<Arc<dyn BlockNode>, Status> {
        let mut peers = self.peers.lock();
        if let Some(peer) = peers.get(address) {
            return Ok(peer.clone());
        }
        if peers.len() >= MAX_PEERS {
            peers.clear();
        }
        // A connection belongs to the runtime that creates it.
        let _io = self.io.enter();
        let channel = executor_channel(address, Duration::from_secs(3))
            .map_err(|error| Status::unavailable(format!("\"{address}\" is no address: {error}")))?;
        let client = BlocksClient::new(channel.clone())
            .max_decoding_message_size(MAX_PIECE_BYTES)
            .max_encoding_message_size(MAX_PIECE_BYTES);
        let peer = Arc::new(Peer { channel, client });
        peers.insert(address.into(), peer.clone());
        Ok(peer)
    }
}

#[derive(Clone, Debug)]
struct Peer {
    channel: Channel,
    client: BlocksClient<Channel>,
}

#[async_trait]
impl BlockNode for Peer {
    fn write(&self, pieces: mpsc::Receiver<v1::BlockPiece>) -> BoxStream<'static, Result<v1::WriteProgress, Status>> {
        let mut client = self.client.clone();
        let called: BoxFuture<'static, Result<Streaming<v1::WriteProgress>, Status>> =
            async move { Ok(client.write(ReceiverStream::new(pieces)).await?.into_inner()) }.boxed();
        called.into_stream().try_flatten().boxed()
    }

    async fn seal(&self, block: u64, bytes: u64, ticket: &Bytes) -> Result<(), Status> {
        self.client.clone().seal(v1::SealRequest { block, bytes, ticket: ticket.clone() }).await.map(drop)
    }

    fn read(&self, block: u64, range: Range<u64>, ticket: &Bytes) -> BoxStream<'static, Result<Bytes, Status>> {
        let channel = self.channel.clone();
        let request = v1::ReadBlockRequest { block, start: range.start, end: range.end, ticket: ticket.clone() };
        let called = async move { bulk::call(channel, bulk::READ_BLOCK, request, MAX_PIECE_BYTES).await };
        let pieces = stream::once(called).map_ok(Messages::into_stream).try_flatten();
        let mut at = range.start;
        let mut take = move |piece: v1::BlockData, intact: u64| {
            let end = piece.offset + intact;
            if piece.offset > at || end <= at {
                return Err(Status::data_loss(format!("bytes from {} on came in place of {at}", piece.offset)));
            }
            let from = (at - piece.offset) as usize;
            let to = (end.min(range.end) - piece.offset) as usize;
            at = end.min(range.end);
            Ok(piece.data.slice(from..to))
        };
        let parts = pieces.flat_map(move |piece: Result<v1::BlockData, Status>| {
            let parts = match piece.map(|piece| (verify(&piece), piece)) {
                Err(status) => [Some(Err(status)), None],
                Ok((Ok(()), piece)) => {
                    let all = piece.data.len() as u64;
                    [Some(take(piece, all)), None]
                }
                Ok((Err(status), piece)) => {
                    let intact = intact(&piece);
                    [take(piece, intact).ok().map(Ok), Some(Err(status))]
                }
            };
            stream::iter(parts.into_iter().flatten())
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

/// Number of bytes before the first 64 KiB that do not verify.
fn intact(piece: &v1::BlockData) -> u64 {
    let chunks = piece.data.chunks(CHECKSUM_BYTES).zip(&piece.checksums);
    let intact = chunks.take_while(|(chunk, checksum)| crc32c(chunk) == **checksum).count() * CHECKSUM_BYTES;
    intact.min(piece.data.len()) as u64
}

/// Verifies the bytes against their checksums.
pub fn verify(piece: &v1::BlockData) -> Result<(), Status> {
    let chunks = piece.data.chunks(CHECKSUM_BYTES);
    if chunks.len() != piece.checksums.len() || !piece.offset.is_multiple_of(CHECKSUM_BYTES as u64) {
        return Err(Status::data_loss("a piece has not as many checksums as it needs"));
    }
    for (at, (chunk, checksum)) in chunks.zip(&piece.checksums).enumerate() {
        if crc32c(chunk) != *checksum {
            let offset = piece.offset + (at * CHECKSUM_BYTES) as u64;
            return Err(Status::data_loss(format!("the bytes from {offset} on are not those that were written")));
        }
    }
    Ok(())
}
