//! The bytes below a connection: TCP, TLS or a local socket.

use super::error::{PostgresError, Refusal, Result};
use super::settings::{Settings, SslMode};
use super::tls;
use futures::future::{Ready, ready};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream as BoundStream};
use tokio_rustls::client::TlsStream;

const TLS_REQUEST: i32 = 80_877_103;
/// Bytes that are read at a time: tokio-postgres asks for 8 KiB.
const READ: usize = 256 << 10;
/// Maximum bytes of an error that are kept.
const MOST_OF_AN_ERROR: usize = 64 << 10;

pub(super) struct Socket {
    stream: Stream,
    messages: Messages,
}

enum Stream {
    Plain(BufReader<TcpStream>),
    Tls(Box<TlsStream<TcpStream>>),
    Local(BufReader<UnixStream>),
}

impl Socket {
    /// # Errors
    /// The server is not there, has no TLS, or is not trusted, as the settings ask for it.
    pub async fn open(settings: &Settings) -> Result<Self> {
        Ok(Self { stream: Stream::open(settings).await?, messages: Messages::default() })
    }

    /// The refusals that are read from it.
    pub fn heard(&self) -> Heard {
        self.messages.heard.clone()
    }
}

impl Stream {
    async fn open(settings: &Settings) -> Result<Self> {
        let lost = |error: io::Error| PostgresError::Lost {
            server: settings.server(),
            what: format!("it cannot be reached: {error}"),
            source: io::Error::from(error.kind()),
        };
        if let Some(path) = settings.socket() {
            let stream = UnixStream::connect(path).await.map_err(lost)?;
            return Ok(Self::Local(BufReader::with_capacity(READ, stream)));
        }
        let plain = |stream| Self::Plain(BufReader::with_capacity(READ, stream));
        let mut stream = reached(&settings.host, settings.port).await.map_err(lost)?;
        if settings.sslmode == SslMode::Disable {
            return Ok(plain(stream));
        }
        stream.write_all(&[8_i32.to_be_bytes(), TLS_REQUEST.to_be_bytes()].concat()).await.map_err(lost)?;
        // One byte, and none of what an attacker may have put behind it.
        let answer = stream.read_u8().await.map_err(lost)?;
        let is_optional = settings.sslmode == SslMode::Prefer;
        match answer {
            b'S' => match tls::handshake(settings, stream).await {
                Err(error) if is_optional => {
                    tracing::debug!(%error, "without TLS, which sslmode 'prefer' allows");
                    Ok(plain(reached(&settings.host, settings.port).await.map_err(lost)?))
                }
                secured => Ok(Self::Tls(Box::new(secured?))),
            },
            b'N' if is_optional => Ok(plain(stream)),
            b'N' => Err(PostgresError::Login {
                server: settings.server(),
                what: "it has no TLS, which sslmode asks for".to_string(),
            }),
            _ => Err(PostgresError::Protocol {
                server: settings.server(),
                what: "its answer to a request for TLS is not understood".to_string(),
            }),
        }
    }
}

/// The first address of a name that answers.
async fn reached(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in tokio::net::lookup_host((host, port)).await? {
        match connected(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connected(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server whose machine is gone is noticed while a query computes.
    socket.set_keepalive(true)?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

macro_rules! of_each {
    ($socket:expr, $stream:ident => $does:expr) => {
        match &mut $socket.get_mut().stream {
            Stream::Plain($stream) => $does,
            Stream::Tls($stream) => $does,
            Stream::Local($stream) => $does,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let socket = self.get_mut();
        let read = of_each!(Pin::new(&mut *socket), stream => Pin::new(stream).poll_read(context, into));
        socket.messages.hear(&into.filled()[before..]);
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        of_each!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_each!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_each!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}

/// What tokio-postgres takes for the making of TLS, of a socket that has it already or is not to have it.
pub(super) struct Bind;

impl TlsConnect<Socket> for Bind {
    type Stream = Socket;
    type Error = Infallible;
    type Future = Ready<Result<Socket, Infallible>>;

    fn connect(self, socket: Socket) -> Self::Future {
        ready(Ok(socket))
    }
}

impl BoundStream for Socket {
    fn channel_binding(&self) -> ChannelBinding {
        let Stream::Tls(stream) = &self.stream else { return ChannelBinding::none() };
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        certificate
            .and_then(|certificate| tls::end_point(certificate))
            .map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// The error that a server said last.
///
/// tokio-postgres tells of an error when it reads the answer to a request: not while rows are sent, and not if the server hangs up while they are.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Option<Refusal>>>);

impl Heard {
    pub fn is_refused(&self) -> bool {
        self.0.lock().is_some()
    }

    pub fn refusal(&self) -> Option<Refusal> {
        self.0.lock().clone()
    }

    pub fn forget(&self) {
        *self.0.lock() = None;
    }
}

/// Follows the server's messages, each of which is a letter, a length and a body.
/// <https://www.postgresql.org/docs/current/protocol-overview.html#PROTOCOL-MESSAGE-CONCEPTS>
#[derive(Default)]
struct Messages {
    heard: Heard,
    head: [u8; 5],
    /// Bytes of `head` that are there.
    begun: usize,
    /// Bytes of the body that are still to come.
    rest: usize,
    /// The body of an error, as far as it has come.
    body: Vec<u8>,
}

impl Messages {
    fn hear(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.begun < self.head.len() {
                let (more, after) = bytes.split_at(bytes.len().min(self.head.len() - self.begun));
                self.head[self.begun..][..more.len()].copy_from_slice(more);
                self.begun += more.len();
                bytes = after;
                if self.begun < self.head.len() {
                    return;
                }
                let [_, length @ ..] = self.head;
                self.rest = (u32::from_be_bytes(length) as usize).saturating_sub(4);
                self.body.clear();
            } else {
                let (more, after) = bytes.split_at(bytes.len().min(self.rest));
                self.rest -= more.len();
                bytes = after;
                if self.head[0] == b'E' && self.body.len() + more.len() <= MOST_OF_AN_ERROR {
                    self.body.extend_from_slice(more);
                }
            }
            if self.rest == 0 {
                self.begun = 0;
                if self.head[0] == b'E' {
                    *self.heard.0.lock() = Some(Refusal::read(&self.body));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_heard_in_pieces_of_any_length() {
        let mut said = vec![b'd', 0, 0, 0, 8, b'E', 0, 0, 0];
        said.extend([b'n', 0, 0, 0, 4]);
        let error = b"SERROR\0C23505\0Mduplicate\0\0";
        said.push(b'E');
        said.extend((error.len() as u32 + 4).to_be_bytes());
        said.extend(error);
        for length in 1..said.len() {
            let mut messages = Messages::default();
            for piece in said.chunks(length) {
                assert!(!messages.heard.is_refused());
                messages.hear(piece);
            }
            let refusal = messages.heard.refusal().unwrap();
            assert_eq!((refusal.code.as_str(), refusal.message.as_str()), ("23505", "duplicate"));
            messages.heard.forget();
            messages.hear(&[b'Z', 0, 0, 0, 5, b'E']);
            assert!(!messages.heard.is_refused());
        }
    }
}
