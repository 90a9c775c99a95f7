//! Calls whose answer is a stream of messages with a large payload each.
//!
//! On the wire they follow the services in `proto/`, so a generated client or server works as the peer. But tonic's codec copies each message into one buffer
//! at the sender, and once or twice more at the receiver. Here a payload goes out as its own HTTP/2 frame and is taken from the frame in which it came; only a
//! payload that was split on its way is joined by a copy.
//!
//! ```text
//! message ──> [length, small fields, key of the payload] [payload] ══ HTTP/2 ══> Arrived ──> message
//! ```

use crate::v1;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use http_body_util::BodyExt;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codec::{Codec, Streaming};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

/// Path of `Exchange.Fetch`.
pub const FETCH: &str = "/windlass.v1.Exchange/Fetch";
/// Path of `BlockReads.Read`.
pub const READ_BLOCK: &str = "/windlass.v1.BlockReads/Read";

/// Length of the prefix of a gRPC message: a flag, 0 when it is not compressed, and the message's length in four bytes.
const PREFIX: usize = 5;
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
/// Space for the key and the length of a payload.
const HEAD_SPARE: usize = 16;

/// A message with one large field.
pub trait Bulk: Message + Default + 'static {
    /// Number of the field.
    const PAYLOAD: u32;

    /// Takes the payload out of the message. `None` when it has none.
    fn take_payload(&mut self) -> Option<Bytes>;
}

impl Bulk for v1::BlockData {
    const PAYLOAD: u32 = 2;

    fn take_payload(&mut self) -> Option<Bytes> {
        Some(std::mem::take(&mut self.data))
    }
}

impl Bulk for v1::FetchChunk {
    const PAYLOAD: u32 = 1;

    fn take_payload(&mut self) -> Option<Bytes> {
        match self.chunk.take() {
            Some(v1::fetch_chunk::Chunk::Frame(bytes)) => Some(bytes),
            other => {
                self.chunk = other;
                None
            }
        }
    }
}

/// Answers a call: reads its one request, and sends the stream that `answer` returns for it.
pub async fn serve<Q, T, B>(
    call: http::Request<B>,
    answer: impl FnOnce(Request<Q>) -> Result<BoxStream<'static, Result<T, Status>>, Status>,
) -> http::Response<Body>
where
    Q: Message + Default + 'static,
    T: Bulk,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (parts, body) = call.into_parts();
    let request = async {
        let decoder = ProstCodec::<Q, Q>::default().decoder();
        let mut requests = Streaming::new_request(decoder, body, None, Some(crate::MAX_MESSAGE_BYTES));
        let request = requests.message().await?;
        request.ok_or_else(|| Status::invalid_argument("the call came without a request"))
    };
    let answered =
        request.await.and_then(|request| answer(Request::from_http(http::Request::from_parts(parts, request))));
    match answered {
        Ok(messages) => {
            let mut response =
                http::Response::new(Body::new(Answer { messages: messages.fuse(), payload: None, ended: false }));
            response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
            response
        }
        Err(status) => status.into_http(),
    }
}

/// The body of an answer.
struct Answer<T> {
    messages: futures::stream::Fuse<BoxStream<'static, Result<T, Status>>>,
    /// Payload of the message whose head went out.
    payload: Option<Bytes>,
    ended: bool,
}

impl<T: Bulk> http_body::Body for Answer<T> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(payload) = self.payload.take() {
            return Poll::Ready(Some(Ok(Frame::data(payload))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let sent = match ready!(self.messages.poll_next_unpin(context)) {
            Some(Ok(message)) => split(message),
            Some(Err(status)) => Err(status),
            None => Err(Status::ok("")),
        };
        Poll::Ready(Some(match sent {
            Ok((head, payload)) => {
                self.payload = payload;
                Ok(Frame::data(head))
            }
            Err(status) => {
                self.ended = true;
                let mut trailers = HeaderMap::new();
                status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))
            }
        }))
    }
}

/// Splits a message into its head and its payload; the payload's field comes last.
fn split<T: Bulk>(mut message: T) -> Result<(Bytes, Option<Bytes>), Status> {
    let payload = message.take_payload();
    let mut head = framed(&message);
    if let Some(payload) = &payload {
        encode_key(T::PAYLOAD, WireType::LengthDelimited, &mut head);
        encode_varint(payload.len() as u64, &mut head);
    }
    let length = head.len() - PREFIX + payload.as_ref().map_or(0, Bytes::len);
    let length = u32::try_from(length).map_err(|_| Status::internal(format!("a message of {length} bytes")))?;
    head[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    Ok((head.into(), payload.filter(|payload| !payload.is_empty())))
}

/// Frames a message without compression.
fn framed(message: &impl Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut bytes = Vec::with_capacity(PREFIX + length + HEAD_SPARE);
    bytes.put_u8(0);
    bytes.put_u32(length as u32);
    message.encode_raw(&mut bytes);
    bytes
}

/// Calls a method that [`serve`] or any server of the same service answers. `limit`: maximum bytes of a message.
pub async fn call<Q, T>(
    mut channel: Channel,
    method: &'static str,
    request: Q,
    limit: usize,
) -> Result<Messages<T>, Status>
where
    Q: Message,
    T: Bulk,
{
    let mut call = http::Request::new(Body::new(http_body_util::Full::from(framed(&request))));
    *call.method_mut() = http::Method::POST;
    *call.uri_mut() = http::Uri::from_static(method);
    *call.version_mut() = http::Version::HTTP_2;
    call.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    call.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    let failed = |error: tonic::transport::Error| Status::from_error(error.into());
    futures::future::poll_fn(|context| channel.poll_ready(context)).await.map_err(failed)?;
    let (parts, body) = GrpcService::call(&mut channel, call).await.map_err(failed)?.into_parts();
    if let Some(status) = Status::from_header_map(&parts.headers) {
        return match status.code() {
            // There is no message, and no status will follow.
            Code::Ok => Ok(Messages { ended: true, ..Messages::new(body, limit) }),
            _ => Err(status),
        };
    }
    // gRPC's mapping of HTTP statuses.
    let code = match parts.status.as_u16() {
        200 => return Ok(Messages::new(body, limit)),
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    Err(Status::new(code, format!("the server answered with HTTP status {}", parts.status)))
}

/// The messages of an answer, in order of arrival.
#[derive(Debug)]
pub struct Messages<T> {
    body: Body,
    arrived: Arrived,
    /// Bytes of the message whose prefix was read.
    awaited: Option<usize>,
    limit: usize,
    ended: bool,
    message: std::marker::PhantomData<fn() -> T>,
}

impl<T: Bulk> Messages<T> {
    fn new(body: Body, limit: usize) -> Self {
        let message = std::marker::PhantomData;
        Messages { body, arrived: Arrived::default(), awaited: None, limit, ended: false, message }
    }

    /// The next message; `None` at the end. After an error there is nothing more.
    pub async fn message(&mut self) -> Result<Option<T>, Status> {
        loop {
            match self.decode() {
                Ok(None) if self.ended => return Ok(None),
                Ok(None) => {}
                Ok(message) => return Ok(message),
                Err(status) => return Err(self.end(status)),
            }
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.arrived.push(data),
                    Err(frame) => {
                        let status = frame.trailers_ref().and_then(Status::from_header_map);
                        let status = status.unwrap_or_else(|| Status::unknown("the answer ended without a status"));
                        match status.code() {
                            Code::Ok if self.is_in_message() => {
                                return Err(self.end(Status::internal("the answer ended inside a message")));
                            }
                            Code::Ok => self.ended = true,
                            _ => return Err(self.end(status)),
                        }
                    }
                },
                Some(Err(status)) => return Err(self.end(status)),
                None => return Err(self.end(Status::unavailable("the answer broke off"))),
            }
        }
    }

    fn is_in_message(&self) -> bool {
        self.awaited.is_some() || self.arrived.len() > 0
    }

    fn end(&mut self, status: Status) -> Status {
        (self.ended, self.awaited, self.arrived) = (true, None, Arrived::default());
        status
    }

    fn decode(&mut self) -> Result<Option<T>, Status> {
        let length = match self.awaited {
            Some(length) => length,
            None if self.arrived.len() < PREFIX => return Ok(None),
            None => {
                if self.arrived.get_u8() != 0 {
                    return Err(Status::internal("a message came compressed, which was not asked for"));
                }
                *self.awaited.insert(self.arrived.get_u32() as usize)
            }
        };
        if length > self.limit {
            return Err(Status::out_of_range(format!("a message of {length} bytes, and {} is the limit", self.limit)));
        }
        if self.arrived.len() < length {
            return Ok(None);
        }
        self.awaited = None;
        let message = T::decode((&mut self.arrived).take(length));
        message.map(Some).map_err(|error| Status::internal(format!("a message cannot be decoded: {error}")))
    }

    pub fn into_stream(self) -> BoxStream<'static, Result<T, Status>> {
        let next = |mut messages: Self| async { Ok(messages.message().await?.map(|message| (message, messages))) };
        futures::stream::try_unfold(self, next).boxed()
    }
}

/// Bytes that arrived in pieces and were not taken yet. A range inside one piece is taken without a copy. No memory is allocated for bytes that have not
/// arrived, whatever a length says.
#[derive(Debug, Default)]
pub struct Arrived {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl Arrived {
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.pieces.push_back(bytes);
        }
    }

    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Buf for Arrived {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len, "{count} bytes taken of {}", self.len);
        self.len -= count;
        while let Some(first) = self.pieces.front_mut() {
            let part = count.min(first.len());
            first.advance(part);
            count -= part;
            if !first.is_empty() {
                break;
            }
            self.pieces.pop_front();
        }
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        assert!(len <= self.len, "{len} bytes taken of {}", self.len);
        match self.pieces.front_mut() {
            Some(first) if first.len() > len => {
                self.len -= len;
                first.split_to(len)
            }
            Some(first) if first.len() == len => {
                self.len -= len;
                self.pieces.pop_front().unwrap_or_default()
            }
            _ => {
                let mut gathered = BytesMut::with_capacity(len);
                gathered.put(self.take(len));
                gathered.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests;
