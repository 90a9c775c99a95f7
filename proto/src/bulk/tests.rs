use super::*;
use crate::v1::exchange_client::ExchangeClient;
use crate::v1::exchange_server::{Exchange, ExchangeServer};
use crate::v1::fetch_chunk::Chunk;
use crate::v1::{BlockData, FetchChunk, FetchError, FetchOutput, FetchRequest};
use axum::Router;
use axum::routing::post;
use futures::TryStreamExt;
use futures::stream;
use std::net::SocketAddr;
use tokio::task::JoinSet;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};

const LIMIT: usize = 8 << 20;

fn frame(length: usize) -> FetchChunk {
    let bytes = vec![length as u8; length];
    FetchChunk { chunk: Some(Chunk::Frame(bytes.into())) }
}

/// Chunks of many lengths, among them an empty one and an error, then perhaps a malformed end.
fn answer(request: &FetchRequest) -> Vec<Result<FetchChunk, Status>> {
    let error = FetchError { output: None, message: "gone".into() };
    let lengths = [0, 1, 3, 100, 16_384, 65_536, 1 << 20, (1 << 20) + 1, 3_000_000, 5];
    let mut chunks: Vec<_> = lengths.into_iter().map(frame).collect();
    chunks.insert(3, FetchChunk { chunk: None });
    chunks.push(FetchChunk { chunk: Some(Chunk::Error(error)) });
    let mut items: Vec<_> = chunks.into_iter().map(Ok).collect();
    if request.outputs[0].bucket == Some(1) {
        items.push(Err(Status::data_loss("a disk (ü) broke")));
    }
    items
}

fn begin(request: Request<FetchRequest>) -> Result<BoxStream<'static, Result<FetchChunk, Status>>, Status> {
    let request = request.into_inner();
    match request.outputs.len() {
        0 => Err(Status::invalid_argument("nothing is asked for")),
        _ => Ok(stream::iter(answer(&request)).boxed()),
    }
}

/// A generated server.
struct Generated;

#[tonic::async_trait]
impl Exchange for Generated {
    type FetchStream = BoxStream<'static, Result<FetchChunk, Status>>;

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<tonic::Response<Self::FetchStream>, Status> {
        begin(request).map(tonic::Response::new)
    }
}

/// Serves until the set is dropped. A small frame limit splits payloads on their way.
async fn server(routes: Routes, frame_bytes: u32) -> (Channel, JoinSet<()>) {
    let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port is free");
    let address = incoming.local_addr().expect("it has an address");
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let server = Server::builder().max_frame_size(1 << 20).add_routes(routes);
        server.serve_with_incoming(incoming).await.expect("it serves");
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("it is an address");
    (endpoint.max_frame_size(frame_bytes).connect_lazy(), serving)
}

fn bulk() -> Routes {
    Routes::from(Router::new().route(FETCH, post(async |request| serve(request, begin).await)))
}

fn request(bucket: Option<u32>) -> FetchRequest {
    FetchRequest { outputs: vec![FetchOutput { output: None, bucket }], pass: Bytes::new() }
}

/// The received messages, and the error at the end.
type Answered = (Vec<FetchChunk>, Option<(Code, String)>);

async fn gather(messages: impl futures::Stream<Item = Result<FetchChunk, Status>>) -> Answered {
    let mut messages = std::pin::pin!(messages);
    let mut chunks = Vec::new();
    loop {
        match messages.try_next().await {
            Ok(Some(chunk)) => chunks.push(chunk),
            Ok(None) => return (chunks, None),
            Err(status) => return (chunks, Some((status.code(), status.message().to_string()))),
        }
    }
}

async fn by_bulk(channel: &Channel, request: FetchRequest) -> Answered {
    match call::<_, FetchChunk>(channel.clone(), FETCH, request, LIMIT).await {
        Ok(messages) => gather(messages.into_stream()).await,
        Err(status) => (vec![], Some((status.code(), status.message().to_string()))),
    }
}

async fn by_generated(channel: &Channel, request: FetchRequest) -> Answered {
    match ExchangeClient::new(channel.clone()).max_decoding_message_size(LIMIT).fetch(request).await {
        Ok(response) => gather(response.into_inner()).await,
        Err(status) => (vec![], Some((status.code(), status.message().to_string()))),
    }
}

#[tokio::test]
async fn both_sides_speak_with_generated_ones() {
    let asked = [request(None), request(Some(1)), FetchRequest { outputs: vec![], pass: Bytes::new() }];
    for frame_bytes in [16_384, 1 << 20] {
        let (ours, _serving) = server(bulk(), frame_bytes).await;
        let (theirs, _serving) = server(Routes::new(ExchangeServer::new(Generated)), frame_bytes).await;
        for request in &asked {
            let expected = by_generated(&theirs, request.clone()).await;
            let ended_well = expected.1.is_none();
            assert_eq!(ended_well, request.outputs.first().is_some_and(|output| output.bucket.is_none()));
            assert!(by_generated(&ours, request.clone()).await == expected, "our server, their client");
            assert!(by_bulk(&theirs, request.clone()).await == expected, "their server, our client");
            assert!(by_bulk(&ours, request.clone()).await == expected, "both ours");
        }
    }
}

#[tokio::test]
async fn what_is_no_answer_is_an_error() {
    let (channel, _serving) = server(bulk(), 1 << 20).await;
    let unknown = call::<_, FetchChunk>(channel.clone(), READ_BLOCK, request(None), LIMIT).await;
    assert_eq!(unknown.map(drop).expect_err("it is not served").code(), Code::Unimplemented);
    let mut small = call::<_, FetchChunk>(channel.clone(), FETCH, request(None), 100_000).await.expect("it answers");
    let refused = loop {
        match small.message().await {
            Ok(message) => assert!(message.is_some(), "a message is over the limit"),
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    assert!(matches!(small.message().await, Ok(None)), "after an error there is nothing more");
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let nobody = Endpoint::from_shared(format!("http://{}", free.expect("a port is free"))).expect("it is an address");
    let gone = by_bulk(&nobody.connect_lazy(), request(None)).await;
    assert!(gone.0.is_empty() && gone.1.is_some_and(|(code, _)| code == Code::Unavailable));
}

/// Reads the messages of an answer whose body consists of these frames.
async fn of_frames(frames: Vec<Frame<Bytes>>) -> Answered {
    let body = http_body_util::StreamBody::new(stream::iter(frames.into_iter().map(Ok::<_, Status>)));
    gather(Messages::<FetchChunk>::new(Body::new(body), LIMIT).into_stream()).await
}

#[tokio::test]
async fn an_answer_is_whole_or_an_error_wherever_it_is_cut() {
    let messages = [frame(40), FetchChunk { chunk: None }, frame(300)];
    let mut sent = Vec::new();
    let mut ends = vec![];
    for message in &messages {
        let (head, payload) = split(message.clone()).expect("it is small");
        sent.extend_from_slice(&head);
        sent.extend_from_slice(&payload.unwrap_or_default());
        ends.push(sent.len());
    }
    let sent = Bytes::from(sent);
    let mut well = HeaderMap::new();
    Status::ok("").add_header(&mut well).expect("it is a status");
    for cut in 0..=sent.len() {
        let (first, second) = (sent.slice(..cut), sent.slice(cut..));
        let whole = vec![Frame::data(first.clone()), Frame::data(second), Frame::trailers(well.clone())];
        assert_eq!(of_frames(whole).await, (messages.to_vec(), None), "cut at {cut}");
        let before = ends.iter().filter(|end| **end <= cut).count();
        let at_end = cut == 0 || ends.contains(&cut);
        let (came, error) = of_frames(vec![Frame::data(first.clone())]).await;
        assert_eq!(came, messages[..before], "broken off at {cut}");
        assert_eq!(error.map(|(code, _)| code), Some(Code::Unavailable), "broken off at {cut}");
        let (came, error) = of_frames(vec![Frame::data(first), Frame::trailers(well.clone())]).await;
        assert_eq!(came, messages[..before], "ended at {cut}");
        assert_eq!(error.is_none(), at_end, "ended at {cut}");
    }
    let mut compressed = sent.to_vec();
    compressed[0] = 1;
    let (_, error) = of_frames(vec![Frame::data(compressed.into())]).await;
    assert_eq!(error.map(|(code, _)| code), Some(Code::Internal));
}

#[tokio::test]
async fn a_payload_is_not_copied() {
    let data = Bytes::from(vec![7; 1 << 20]);
    let message = BlockData { offset: 65_536, data: data.clone(), checksums: (0..16).collect() };
    let (head, payload) = split(message.clone()).expect("it is small");
    let payload = payload.expect("it has one");
    assert_eq!(payload.as_ptr(), data.as_ptr());
    let body =
        http_body_util::StreamBody::new(stream::iter([head, payload].map(|bytes| Ok::<_, Status>(Frame::data(bytes)))));
    let came = Messages::<BlockData>::new(Body::new(body), LIMIT).message().await.expect("it came");
    let came = came.expect("it is whole");
    assert_eq!(came, message);
    assert_eq!(came.data.as_ptr(), data.as_ptr());
}
