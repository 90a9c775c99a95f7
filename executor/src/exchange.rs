//! Serves the stored bytes of map outputs.

use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;
use tonic::{Request, Status};
use windlass_core::ids::AttemptId;
use windlass_engine::exchange::{BucketSel, ExchangeStore};
use windlass_proto::pass::KeyRing;
use windlass_proto::v1;
use windlass_proto::v1::fetch_chunk::Chunk;

/// Answers [`bulk::FETCH`](windlass_proto::bulk::FETCH).
pub(crate) fn fetch(
    store: &Arc<ExchangeStore>,
    keys: &KeyRing,
    request: Request<v1::FetchRequest>,
) -> Result<BoxStream<'static, Result<v1::FetchChunk, Status>>, Status> {
    let plain = is_of_this_host(&request);
    let v1::FetchRequest { outputs, pass } = request.into_inner();
    let outputs = outputs.into_iter().map(|wanted| {
        let output = wanted.output.ok_or_else(|| Status::invalid_argument("a wanted output has no name"))?;
        Ok((AttemptId::from(output), wanted.bucket.map_or(BucketSel::All, BucketSel::One)))
    });
    let outputs: Vec<_> = outputs.collect::<Result<_, Status>>()?;
    keys.check_outputs(&pass, outputs.iter().map(|(output, _)| *output))?;
    let chunks = store.serve(outputs, plain).map(|chunk| {
        let chunk = match chunk {
            Ok(bytes) => Chunk::Frame(bytes),
            // A failure is sent as data: the reader has to know which output to have computed again.
            Err(error) => {
                Chunk::Error(v1::FetchError { output: error.output().map(Into::into), message: error.to_string() })
            }
        };
        Ok(v1::FetchChunk { chunk: Some(chunk) })
    });
    Ok(chunks.boxed())
}

/// Whether the request comes from this host: a peer that uses the host's own address is on it, and compression would gain nothing.
fn is_of_this_host<T>(request: &Request<T>) -> bool {
    let ends = request.remote_addr().zip(request.local_addr());
    ends.is_some_and(|(theirs, ours)| theirs.ip() == ours.ip())
}
