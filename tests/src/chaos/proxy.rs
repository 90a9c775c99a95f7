//! Links that are slow or break: TCP through this process, to one address.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Treatment of bytes on their way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Link {
    Sound,
    /// Delays each piece by this time.
    Slow(Duration),
    /// Lets this many bytes through per second.
    Narrow(u64),
    /// Drops everything silently: affected connections stay half open for good.
    Silent,
}

#[derive(Clone, Copy, Debug)]
struct State {
    link: Link,
    /// Counts resets: connections are reset when it changes.
    resets: u32,
}

/// A proxy that ends with its connections on drop.
pub(super) struct Proxy {
    pub address: SocketAddr,
    state: watch::Sender<State>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port of an address of this machine.
    pub async fn start(at: &str, target: String) -> Self {
        let listener = TcpListener::bind((at, 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let state = watch::Sender::new(State { link: Link::Sound, resets: 0 });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, state.subscribe()));
        Self { address, state, _tasks: tasks }
    }

    pub fn set(&self, link: Link) {
        self.state.send_modify(|state| state.link = link);
    }

    /// Resets every connection, at both ends.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }
}

async fn accept(listener: TcpListener, target: String, state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                connections.spawn(connect(client, target.clone(), state.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(mut client: TcpStream, target: String, mut state: watch::Receiver<State>) {
    let resets = state.borrow().resets;
    let Ok(mut server) = TcpStream::connect(&target).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    let (there, back) = (state.clone(), state.clone());
    let reset = tokio::select! {
        () = carry(from_client, to_server, there) => false,
        () = carry(from_server, to_client, back) => false,
        _ = state.wait_for(|state| state.resets != resets) => true,
    };
    if reset {
        // Without it, the data in flight would arrive, and the end would be orderly.
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

async fn carry(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, state: watch::Receiver<State>) {
    let (mut buffer, mut lost) = (vec![0; 64 << 10], false);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let link = state.borrow().link;
        match link {
            Link::Sound => {}
            Link::Slow(time) => sleep(time).await,
            Link::Narrow(rate) => sleep(Duration::from_micros(read as u64 * 1_000_000 / rate)).await,
            Link::Silent => lost = true,
        }
        if !lost && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    if lost {
        // The end does not get through either.
        std::future::pending().await
    }
}
