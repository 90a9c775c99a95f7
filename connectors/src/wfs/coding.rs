//! Pieces of coded blocks: computed from the block, and from each other.
//!
//! The code is systematic: the first pieces hold the bytes of the block. Computed pieces depend on the library's code and are stored: a test notices a version
//! that computes something else.

use super::peers::BlockNode;
use bytes::{Bytes, BytesMut};
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;
use windlass_core::wfs::{CODED_TOGETHER, Coding};
use windlass_proto::v1;

/// Computes the parity pieces from these data pieces: the same range of each, all of one length, a multiple of [`CODED_TOGETHER`].
pub fn parity(coding: Coding, data: &[Bytes]) -> Result<Vec<Bytes>, Status> {
    let length = data.first().map_or(0, Bytes::len);
    let mut encoder = ReedSolomonEncoder::new(coding.data().into(), coding.parity().into(), length).map_err(wrong)?;
    for piece in data {
        encoder.add_original_shard(piece).map_err(wrong)?;
    }
    let encoded = encoder.encode().map_err(wrong)?;
    Ok(encoded.recovery_iter().map(Bytes::copy_from_slice).collect())
}

/// Computes a range of one piece from the same range of as many others as the code needs.
pub fn rebuild(coding: Coding, others: &[(u8, Bytes)], wanted: u8) -> Result<Bytes, Status> {
    let length = others.first().map_or(0, |(_, bytes)| bytes.len());
    let mut decoder = ReedSolomonDecoder::new(coding.data().into(), coding.parity().into(), length).map_err(wrong)?;
    for (piece, bytes) in others {
        match piece.checked_sub(coding.data()) {
            None => decoder.add_original_shard((*piece).into(), bytes),
            Some(further) => decoder.add_recovery_shard(further.into(), bytes),
        }
        .map_err(wrong)?;
    }
    let decoded = decoder.decode().map_err(wrong)?;
    let original = |piece: u8| match others.iter().find(|(other, _)| *other == piece) {
        Some((_, bytes)) => Some(bytes.clone()),
        None => decoded.restored_original(piece.into()).map(Bytes::copy_from_slice),
    };
    let missing = || Status::internal("the code gave back less than all pieces");
    match wanted.checked_sub(coding.data()) {
        None => original(wanted).ok_or_else(missing),
        Some(further) => {
            let data: Option<Vec<Bytes>> = (0..coding.data()).map(original).collect();
            parity(coding, &data.ok_or_else(missing)?)?.into_iter().nth(further.into()).ok_or_else(missing)
        }
    }
}

fn wrong(error: reed_solomon_simd::Error) -> Status {
    Status::internal(format!("pieces of a block cannot be computed: {error}"))
}

/// Time after which one more piece is read, when the others are slow.
const HEDGE_AFTER: Duration = Duration::from_millis(800);

/// Function that finds the replicas of an executor.
pub type Nodes<'a> = dyn Fn(&v1::BlockHolder) -> Result<Arc<dyn BlockNode>, Status> + Send + Sync + 'a;

/// A failed read: the holder, the replica that was wanted, and the error.
#[derive(Clone, Debug)]
pub struct Unread {
    pub executor: u64,
    pub replica: u64,
    pub status: Status,
}

/// A range of a piece, computed from pieces on other executors. `ticket` lets the caller read all of them; `failed` collects the failed reads.
///
/// # Errors
/// Fewer pieces than needed can be read.
pub async fn read_rebuilt(
    nodes: &Nodes<'_>,
    coded: &v1::CodedPiece,
    ticket: &Bytes,
    range: Range<u64>,
    failed: &mut Vec<Unread>,
) -> Result<Bytes, Status> {
    let coding = Coding::parse(&coded.coding)
        .ok_or_else(|| Status::unimplemented(format!("\"{}\" is a code of another release", coded.coding)))?;
    // Bytes that were coded together must be read together.
    let start = range.start / CODED_TOGETHER * CODED_TOGETHER;
    let end = range.end.next_multiple_of(CODED_TOGETHER).min(coded.piece_bytes);
    let mut holders = coded.holders.iter().filter(|holder| holder.piece != coded.piece);
    let read = |holder: &v1::BlockHolder| {
        let (replica, executor) = (coded.first + u64::from(holder.piece), holder.executor);
        let (piece, node) = (holder.piece as u8, nodes(holder));
        async move {
            let bytes = async { read_all(&*node?, replica, start..end, ticket).await };
            (piece, bytes.await.map_err(|status| Unread { executor, replica, status }))
        }
    };
    let needed = usize::from(coding.data());
    let mut reads: FuturesUnordered<_> = holders.by_ref().take(needed).map(read).collect();
    let mut others: Vec<(u8, Bytes)> = Vec::with_capacity(needed);
    while others.len() < needed {
        match tokio::time::timeout(HEDGE_AFTER, reads.next()).await {
            Ok(Some((piece, Ok(bytes)))) if !others.iter().any(|(other, _)| *other == piece) => {
                others.push((piece, bytes));
                continue;
            }
            Ok(Some((_, Ok(_)))) => {}
            Ok(Some((_, Err(unread)))) => failed.push(unread),
            Ok(None) => break,
            // One more piece may arrive before the slowest of them.
            Err(_) => {}
        }
        reads.extend(holders.next().map(read));
    }
    if others.len() < needed {
        let reason = format!("{} pieces of a block can be read, and it takes {needed}", others.len());
        return Err(Status::unavailable(reason));
    }
    let piece = coded.piece as u8;
    let computed = tokio::task::spawn_blocking(move || rebuild(coding, &others, piece)).await;
    let bytes = computed.map_err(|_| Status::unavailable("the process is stopping"))??;
    Ok(bytes.slice((range.start - start) as usize..(range.end - start) as usize))
}

/// A range of a block or of a piece, from one of its holders, or computed from other pieces. `part` has the ticket for it.
pub async fn read_extent(nodes: &Nodes<'_>, part: &v1::LocatedBlock, range: Range<u64>) -> Result<Bytes, Status> {
    let mut said = Status::unavailable("no executor has it");
    for holder in &part.holders {
        let read = async { read_all(&*nodes(holder)?, part.block, range.clone(), &part.ticket).await };
        match read.await {
            Ok(bytes) => return Ok(bytes),
            Err(status) => said = status,
        }
    }
    match &part.coded {
        Some(coded) => read_rebuilt(nodes, coded, &part.ticket, range, &mut Vec::new()).await,
        None => Err(said),
    }
}

async fn read_all(node: &dyn BlockNode, replica: u64, range: Range<u64>, ticket: &Bytes) -> Result<Bytes, Status> {
    let wanted = (range.end - range.start) as usize;
    let mut parts: Vec<Bytes> = node.read(replica, range, ticket).try_collect().await?;
    let bytes = match parts.len() {
        1 => parts.swap_remove(0),
        _ => {
            let mut joined = BytesMut::with_capacity(wanted);
            parts.iter().for_each(|part| joined.extend_from_slice(part));
            joined.freeze()
        }
    };
    match bytes.len() == wanted {
        true => Ok(bytes),
        false => Err(Status::data_loss("it has less of the block than was written")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_engine::checksum::crc32c_append;

    fn pieces(coding: Coding, length: usize) -> Vec<Bytes> {
        let byte =
            |piece: u8, at: usize| (at as u8).wrapping_mul(31).wrapping_add(piece.wrapping_mul(97)) ^ (at >> 8) as u8;
        let data: Vec<Bytes> =
            (0..coding.data()).map(|piece| (0..length).map(|at| byte(piece, at)).collect()).collect();
        let further = parity(coding, &data).unwrap();
        [data, further].concat()
    }

    #[test]
    fn any_pieces_that_are_enough_give_all_others() {
        for coding in Coding::ALL {
            let all = pieces(coding, 192);
            let count = coding.pieces();
            for lost in 0_u16..1 << count {
                if lost.count_ones() != u32::from(coding.parity()) {
                    continue;
                }
                let is_lost = |piece: u8| lost & (1 << piece) != 0;
                let others: Vec<(u8, Bytes)> = (0..count)
                    .filter(|piece| !is_lost(*piece))
                    .map(|piece| (piece, all[usize::from(piece)].clone()))
                    .collect();
                for wanted in (0..count).filter(|piece| is_lost(*piece)) {
                    assert_eq!(
                        rebuild(coding, &others, wanted).unwrap(),
                        all[usize::from(wanted)],
                        "{wanted} of {lost:b}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_coded_together_is_all_that_matters() {
        let coding = Coding::Rs6Plus3;
        let all = pieces(coding, 1_024);
        for start in [0, 64, 512, 960] {
            let data: Vec<Bytes> = all[..6].iter().map(|piece| piece.slice(start..start + 64)).collect();
            let further: Vec<Bytes> = all[6..].iter().map(|piece| piece.slice(start..start + 64)).collect();
            assert_eq!(parity(coding, &data).unwrap(), further);
        }
    }

    /// Pieces lie on disks for years: the computed bytes must never change.
    #[test]
    fn the_code_is_the_one_that_it_always_was() {
        let sums = Coding::ALL.map(|coding| {
            pieces(coding, 4_096).iter().skip(coding.data().into()).fold(0, |sum, piece| crc32c_append(sum, piece))
        });
        assert_eq!(sums, [2_311_053_025, 3_622_677_355]);
    }
}
