//! Transport connections, identified by number. The connection identifies the session of a client that sends neither cookie nor token.

use super::Registry;
use futures::Stream;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::Connected;

/// The connection of a request, stored in the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Unique in this process.
    pub id: u64,
    pub peer: Option<SocketAddr>,
}

/// An accepted connection. Dropping it ends the session that only this connection identifies.
#[derive(Debug)]
pub struct Tracked<T> {
    io: T,
    connection: Connection,
    sessions: Arc<Registry>,
}

impl<T> Tracked<T> {
    pub fn new(io: T, peer: Option<SocketAddr>, sessions: Arc<Registry>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let connection = Connection { id: NEXT.fetch_add(1, Ordering::Relaxed), peer };
        sessions.connection_began(connection.id);
        Self { io, connection, sessions }
    }
}

impl<T> Drop for Tracked<T> {
    fn drop(&mut self) {
        self.sessions.connection_ended(self.connection.id);
    }
}

impl<T> Connected for Tracked<T> {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection
    }
}

/// Accepts connections for `tonic::transport::server::Router::serve_with_incoming`.
pub fn incoming(
    listener: TcpListener,
    sessions: Arc<Registry>,
) -> impl Stream<Item = io::Result<Tracked<TcpStream>>> + Send + 'static {
    futures::stream::unfold((listener, sessions), |(listener, sessions)| async move {
        let accepted = match listener.accept().await {
            Ok((stream, peer)) => {
                // Small replies must not wait for more data. If the socket is closed, reading reports it.
                let _ = stream.set_nodelay(true);
                Ok(Tracked::new(stream, Some(peer), Arc::clone(&sessions)))
            }
            Err(error) => {
                // The likely cause is a lack of file descriptors. The pause gives connections time to close.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                Err(error)
            }
        };
        Some((accepted, (listener, sessions)))
    })
}

impl<T: AsyncRead + Unpin> AsyncRead for Tracked<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Tracked<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
