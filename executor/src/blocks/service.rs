//! The Blocks service.

use super::{BlockStore, chain};
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};
use windlass_connectors::wfs::BlockNode;
use windlass_core::ids::BlockId;
use windlass_proto::pass::KeyRing;
use windlass_proto::ticket::Access;
use windlass_proto::v1;
use windlass_proto::v1::blocks_server::Blocks;

/// Parts of a block with their checksums.
type Pieces = BoxStream<'static, Result<v1::BlockData, Status>>;

/// The service for replicas: every read and write needs a ticket.
#[derive(Clone)]
pub(crate) struct BlocksService {
    /// The replicas; `None` on a task executor.
    pub store: Option<BlockStore>,
    pub keys: KeyRing,
}

impl BlocksService {
    /// Answers [`bulk::READ_BLOCK`](windlass_proto::bulk::READ_BLOCK).
    pub fn read(&self, request: Request<v1::ReadBlockRequest>) -> Result<Pieces, Status> {
        let v1::ReadBlockRequest { block, start, end, ticket } = request.into_inner();
        self.keys.check_ticket(&ticket, Access::Read, BlockId(block))?;
        Ok(self.store()?.pieces(block, start..end))
    }

    fn store(&self) -> Result<&BlockStore, Status> {
        self.store.as_ref().ok_or_else(|| Status::unimplemented("this executor only computes: it keeps no replicas"))
    }
}

#[tonic::async_trait]
impl Blocks for BlocksService {
    type WriteStream = BoxStream<'static, Result<v1::WriteProgress, Status>>;

    async fn write(&self, request: Request<Streaming<v1::BlockPiece>>) -> Result<Response<Self::WriteStream>, Status> {
        Ok(Response::new(chain::write(self.store()?.clone(), request.into_inner().boxed(), Some(self.keys.clone()))))
    }

    async fn seal(&self, request: Request<v1::SealRequest>) -> Result<Response<v1::SealReply>, Status> {
        let v1::SealRequest { block, bytes, ticket } = request.into_inner();
        self.keys.check_ticket(&ticket, Access::Write, BlockId(block))?;
        self.store()?.seal(block, bytes, &ticket).await?;
        Ok(Response::new(v1::SealReply {}))
    }
}
