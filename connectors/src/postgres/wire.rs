//! A connection: the messages of PostgreSQL's protocol 3.0, as far as tables need them. There is no task behind it: whoever reads, reads the socket.
//! <https://www.postgresql.org/docs/current/protocol.html>
//!
//! ```text
//!   open ──> idle ──execute──> idle
//!             │ ──copy_out──> copying ──next_row … None──> idle
//!             └ ──copy_in───> copying ──send … finish────> idle
//! ```
//!
//! It is an ordinary client of libpq's protocol, rather than tokio-postgres, whose dependencies would have all of DataFusion built with other
//! features, which needs a task for each connection, and whose errors may have statements in them.

use super::error::{PostgresError, Refusal, Result};
use super::login::{self, Scram};
use super::settings::{Settings, SslMode};
use super::tls;
use futures::future::poll_immediate;
use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

const PROTOCOL: i32 = 196_608;
const TLS_REQUEST: i32 = 80_877_103;
const CANCEL_REQUEST: i32 = 80_877_102;
/// Bytes that are read at a time, at least.
const READ: usize = 256 << 10;
/// No message is larger: the server's own limit of a value is 1 GiB.
const MOST: usize = 0x7fff_ffff;
/// How long a request to end a query may take.
const CANCELLING: Duration = Duration::from_secs(5);
/// The oldest server that tables are read from.
const OLDEST: u32 = 12;

/// One session of a server. Dropping it ends what runs in it.
pub(super) struct Connection {
    settings: Arc<Settings>,
    stream: Socket,
    read: Received,
    write: Vec<u8>,
    /// Its major version.
    pub version: u32,
    /// Texts are kept in UTF-8.
    pub is_utf8: bool,
    /// By which the server knows the session.
    process: i32,
    key: Vec<u8>,
    canceller: Canceller,
    /// The server has not said yet that it waits for the next query.
    is_busy: bool,
}

/// Rows of a query, as text.
pub(super) type Rows = Vec<Vec<Option<String>>>;

impl Connection {
    /// # Errors
    /// The server is not there, is not trusted, or does not let us in.
    pub async fn open(settings: &Arc<Settings>, canceller: &Canceller) -> Result<Self> {
        let opened = tokio::time::timeout(settings.connect_timeout, Self::login(settings, canceller)).await;
        let late = |_| PostgresError::Lost {
            server: settings.server(),
            what: format!("it did not answer within {} s", settings.connect_timeout.as_secs()),
            source: io::Error::from(io::ErrorKind::TimedOut),
        };
        let mut connection = opened.map_err(late)??;
        // What texts and instants look like, and what this session may take.
        let mut session = format!(
            "SET TimeZone TO 'UTC'; SET DateStyle TO 'ISO, MDY'; SET IntervalStyle TO 'postgres'; SET extra_float_digits TO 3; \
             SET bytea_output TO 'hex'; SET standard_conforming_strings TO on; SET idle_in_transaction_session_timeout TO 0; \
             SET synchronize_seqscans TO off; \
             SET statement_timeout TO {}",
            settings.statement_timeout.as_millis()
        );
        if connection.version >= 14 {
            session.push_str("; SET idle_session_timeout TO 0; SET client_connection_check_interval TO '5s'");
        }
        connection.execute(&session).await?;
        Ok(connection)
    }

    async fn login(settings: &Arc<Settings>, canceller: &Canceller) -> Result<Self> {
        let mut connection = Self {
            settings: Arc::clone(settings),
            stream: Socket::open(settings).await?,
            read: Received::default(),
            write: Vec::new(),
            version: 0,
            is_utf8: false,
            process: 0,
            key: Vec::new(),
            canceller: canceller.clone(),
            is_busy: false,
        };
        let mut startup = PROTOCOL.to_be_bytes().to_vec();
        let (user, database) = (settings.user.as_str(), settings.database.as_str());
        for text in ["user", user, "database", database, "application_name", "windlass", "client_encoding", "UTF8", ""]
        {
            startup.extend_from_slice(text.as_bytes());
            startup.push(0);
        }
        connection.put(None, &startup);
        connection.flush().await?;
        connection.authenticate().await?;
        loop {
            let (tag, body) = connection.message().await?;
            match tag {
                b'K' => {
                    let body = connection.read.bytes(body);
                    connection.process = int(body).unwrap_or_default();
                    connection.key = body.get(4..).unwrap_or_default().to_vec();
                }
                b'Z' => break,
                _ => {}
            }
        }
        match connection.version {
            0 => Err(connection.unexpected("it does not say its version")),
            version if version < OLDEST => Err(PostgresError::Login {
                server: settings.server(),
                what: format!("PostgreSQL {version} is too old: {OLDEST} and later are read"),
            }),
            _ => Ok(connection),
        }
    }

    async fn authenticate(&mut self) -> Result<()> {
        let settings = Arc::clone(&self.settings);
        let login = |what: String| PostgresError::Login { server: settings.server(), what };
        let password = || {
            let missing =
                || login("it wants a password: use OPTIONS (password '…'), a password file or a service".into());
            settings.password.as_deref().ok_or_else(missing)
        };
        let mut scram: Option<Scram> = None;
        loop {
            let (tag, body) = self.message().await?;
            if tag != b'R' {
                return Err(self.unexpected("it does not ask who we are"));
            }
            let body = self.read.bytes(body).to_vec();
            let (kind, rest) = (int(&body).unwrap_or(-1), body.get(4..).unwrap_or_default());
            let text = || String::from_utf8_lossy(rest).into_owned();
            match kind {
                0 if scram.as_ref().is_some_and(|scram| !scram.is_verified()) => {
                    return Err(login("it did not show that it knows the password".into()));
                }
                0 => return Ok(()),
                3 => self.send_text(b'p', password()?).await?,
                5 => self.send_text(b'p', &login::md5(&settings.user, password()?, rest)).await?,
                10 => {
                    if !rest.split(|byte| *byte == 0).any(|name| name == b"SCRAM-SHA-256") {
                        return Err(login("it wants a login other than SCRAM-SHA-256".into()));
                    }
                    let begun = Scram::new(password()?).map_err(login)?;
                    let first = begun.first();
                    let mut body = b"SCRAM-SHA-256\0".to_vec();
                    body.extend_from_slice(&(first.len() as i32).to_be_bytes());
                    body.extend_from_slice(first.as_bytes());
                    scram = Some(begun);
                    self.put(Some(b'p'), &body);
                    self.flush().await?;
                }
                11 => {
                    let scram = scram.as_mut().ok_or_else(|| login("its login makes no sense".into()))?;
                    let answer = scram.answer(&text()).map_err(login)?;
                    self.put(Some(b'p'), answer.as_bytes());
                    self.flush().await?;
                }
                12 => {
                    let scram = scram.as_mut().ok_or_else(|| login("its login makes no sense".into()))?;
                    scram.verify(&text()).map_err(login)?;
                }
                other => return Err(login(format!("it wants a login of kind {other}, which is not supported"))),
            }
        }
    }

    /// Runs statements, and gives the rows of the last one that has some.
    ///
    /// # Errors
    /// The server refuses one: those behind it are not run.
    pub async fn execute(&mut self, sql: &str) -> Result<Rows> {
        self.begin(sql).await?;
        let mut rows = Rows::new();
        let mut refused = None;
        loop {
            let (tag, body) = self.received().await?;
            match tag {
                b'T' => rows.clear(),
                b'D' => rows.push(row(self.read.bytes(body)).ok_or_else(|| self.unexpected("a row is cut off"))?),
                b'E' => {
                    let refusal = Refusal::read(self.read.bytes(body));
                    if refusal.is_fatal {
                        return self.refused(refusal).await;
                    }
                    refused = Some(refusal);
                }
                b'G' | b'H' | b'W' => return Err(self.unexpected("it copies what was not to be copied")),
                b'Z' => break,
                _ => {}
            }
        }
        match refused {
            Some(refusal) => Err(PostgresError::Refused(Box::new(refusal))),
            None => Ok(rows),
        }
    }

    /// Begins `COPY … TO STDOUT`, whose rows [`Connection::next_row`] gives.
    pub async fn copy_out(&mut self, sql: &str) -> Result<()> {
        self.begin(sql).await?;
        self.until(b'H').await
    }

    /// Begins `COPY … FROM STDIN`, which [`Connection::finish`] ends.
    pub async fn copy_in(&mut self, sql: &str) -> Result<()> {
        self.begin(sql).await?;
        self.until(b'G').await
    }

    /// The next piece of what is copied out, which [`Connection::bytes`] shows until the next call. `None`: that was all.
    pub async fn next_row(&mut self) -> Result<Option<Range<usize>>> {
        loop {
            let (tag, body) = match self.read.message() {
                Ok(Some(message)) => message,
                Ok(None) => {
                    self.fill().await?;
                    continue;
                }
                Err(what) => return Err(self.unexpected(what)),
            };
            match tag {
                b'd' => return Ok(Some(body)),
                b'E' => {
                    let refusal = Refusal::read(self.read.bytes(body));
                    return self.refused(refusal).await;
                }
                b'Z' => {
                    self.is_busy = false;
                    return Ok(None);
                }
                _ => self.noted(tag, body),
            }
        }
    }

    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.read.bytes(range)
    }

    /// Sends a piece of what is copied in.
    ///
    /// # Errors
    /// The server has refused something of what was sent before.
    pub async fn send(&mut self, piece: &[u8]) -> Result<()> {
        self.put(Some(b'd'), piece);
        self.flush().await?;
        while let Some(filled) = poll_immediate(self.stream.read_more(&mut self.read)).await {
            self.filled(filled)?;
            while let Some((tag, body)) = self.read.message().map_err(|what| self.unexpected(what))? {
                match tag {
                    b'E' => {
                        let refusal = Refusal::read(self.read.bytes(body));
                        return self.refused(refusal).await;
                    }
                    _ => self.noted(tag, body),
                }
            }
        }
        Ok(())
    }

    /// Ends what is copied in.
    pub async fn finish(&mut self) -> Result<()> {
        self.put(Some(b'c'), &[]);
        self.flush().await?;
        while self.next_row().await?.is_some() {}
        Ok(())
    }

    async fn begin(&mut self, sql: &str) -> Result<()> {
        if sql.contains('\0') {
            return Err(PostgresError::Value("a zero byte cannot be in a statement for PostgreSQL".to_string()));
        }
        self.is_busy = true;
        self.send_text(b'Q', sql).await
    }

    async fn until(&mut self, wanted: u8) -> Result<()> {
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                _ if tag == wanted => return Ok(()),
                b'Z' => return Err(self.unexpected("it copies nothing")),
                _ => self.noted(tag, body),
            }
        }
    }

    /// Waits until the server is ready again after an error.
    async fn refused<T>(&mut self, refusal: Refusal) -> Result<T> {
        // A session that is ended says so, and nothing more.
        match refusal.is_fatal {
            true => self.is_busy = false,
            false => while self.received().await?.0 != b'Z' {},
        }
        Err(PostgresError::Refused(Box::new(refusal)))
    }

    /// The next message; an error if it is one.
    async fn message(&mut self) -> Result<(u8, Range<usize>)> {
        match self.received().await? {
            (b'E', body) => {
                let refusal = Refusal::read(self.read.bytes(body));
                // Nothing follows where a login is refused.
                if self.is_busy { self.refused(refusal).await } else { Err(self.refused_login(refusal)) }
            }
            message => Ok(message),
        }
    }

    fn refused_login(&self, refusal: Refusal) -> PostgresError {
        match refusal.code.get(..2) {
            Some("28" | "3D") => PostgresError::Login { server: self.settings.server(), what: refusal.message },
            _ => PostgresError::Refused(Box::new(refusal)),
        }
    }

    async fn received(&mut self) -> Result<(u8, Range<usize>)> {
        loop {
            match self.read.message() {
                Ok(Some((tag, body))) => {
                    self.noted(tag, body.clone());
                    return Ok((tag, body));
                }
                Ok(None) => self.fill().await?,
                Err(what) => return Err(self.unexpected(what)),
            }
        }
    }

    /// What comes at any time.
    fn noted(&mut self, tag: u8, body: Range<usize>) {
        if tag == b'Z' {
            self.is_busy = false;
        }
        if tag != b'S' {
            return;
        }
        let mut words = self.read.bytes(body).split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let (name, value) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match name.as_ref() {
            "server_version" => {
                let major: String = value.chars().take_while(char::is_ascii_digit).collect();
                self.version = major.parse().unwrap_or(0);
            }
            "server_encoding" => self.is_utf8 = value == "UTF8",
            _ => {}
        }
    }

    fn put(&mut self, tag: Option<u8>, body: &[u8]) {
        self.write.extend(tag);
        self.write.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
        self.write.extend_from_slice(body);
    }

    async fn send_text(&mut self, tag: u8, text: &str) -> Result<()> {
        self.put(Some(tag), text.as_bytes());
        // The text ends with a zero byte.
        let at = self.write.len() - text.len() - 4;
        self.write.push(0);
        self.write[at..at + 4].copy_from_slice(&(text.len() as i32 + 5).to_be_bytes());
        self.flush().await
    }

    async fn flush(&mut self) -> Result<()> {
        let sent = async {
            self.stream.write_all(&self.write).await?;
            self.stream.flush().await
        };
        let sent = sent.await;
        self.write.clear();
        match sent {
            Ok(()) => Ok(()),
            Err(error) => {
                // Why it hung up is often in what it said last.
                while let Ok(Some((tag, body))) = self.read.message() {
                    if tag == b'E' {
                        self.is_busy = false;
                        return Err(PostgresError::Refused(Box::new(Refusal::read(self.read.bytes(body)))));
                    }
                }
                Err(self.lost(&error))
            }
        }
    }

    async fn fill(&mut self) -> Result<()> {
        let filled = self.stream.read_more(&mut self.read).await;
        self.filled(filled)
    }

    fn filled(&mut self, filled: io::Result<usize>) -> Result<()> {
        match filled {
            Ok(0) => Err(self.lost(&io::Error::from(io::ErrorKind::UnexpectedEof))),
            Ok(_) => Ok(()),
            Err(error) => Err(self.lost(&error)),
        }
    }

    fn lost(&mut self, error: &io::Error) -> PostgresError {
        self.is_busy = false;
        PostgresError::Lost {
            server: self.settings.server(),
            what: format!("the connection was lost: {error}"),
            source: io::Error::from(error.kind()),
        }
    }

    fn unexpected(&self, what: &str) -> PostgresError {
        PostgresError::Protocol { server: self.settings.server(), what: what.to_string() }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_busy && self.process != 0 {
            self.canceller.cancel(Arc::clone(&self.settings), self.process, std::mem::take(&mut self.key));
        } else {
            self.stream.goodbye();
        }
    }
}

/// Tells servers to end queries whose connections were dropped: a backend that computes looks at its socket late, or never. One for a process.
#[derive(Clone, Debug, Default)]
pub(super) struct Canceller(Arc<Mutex<JoinSet<()>>>);

impl Canceller {
    fn cancel(&self, settings: Arc<Settings>, process: i32, key: Vec<u8>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut requests = self.0.lock();
        while requests.try_join_next().is_some() {}
        let request = async move {
            let mut stream = Socket::open(&settings).await?;
            let mut message = (key.len() as i32 + 12).to_be_bytes().to_vec();
            message.extend_from_slice(&CANCEL_REQUEST.to_be_bytes());
            message.extend_from_slice(&process.to_be_bytes());
            message.extend_from_slice(&key);
            let asked = async {
                stream.write_all(&message).await?;
                stream.flush().await?;
                // It hangs up when it has passed the request on.
                stream.read(&mut [0]).await
            };
            asked.await.map_err(|error| PostgresError::Protocol {
                server: settings.server(),
                what: format!("a query could not be cancelled: {error}"),
            })
        };
        requests.spawn_on(
            async move {
                match tokio::time::timeout(CANCELLING, request).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "a query of PostgreSQL may run on"),
                    Err(_) => tracing::debug!("a query of PostgreSQL may run on: the server does not answer"),
                }
            },
            &runtime,
        );
    }
}

/// What was received and not read yet.
#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Received {
    fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// The kind of the next message that is here as a whole, and where its body lies until more is received.
    fn message(&mut self) -> Result<Option<(u8, Range<usize>)>, &'static str> {
        match self.length()? {
            Some(length) if self.end - self.start > length => {
                let body = self.start + 5..self.start + 1 + length;
                let tag = self.bytes[self.start];
                self.start = body.end;
                Ok(Some((tag, body)))
            }
            _ => Ok(None),
        }
    }

    /// Of the next message, without its kind.
    fn length(&self) -> Result<Option<usize>, &'static str> {
        let Some(head) = self.bytes[self.start..self.end].get(1..5) else { return Ok(None) };
        let length = int(head).unwrap_or_default();
        match usize::try_from(length) {
            Ok(length @ 4..=MOST) => Ok(Some(length)),
            _ => Err("a message has an impossible length"),
        }
    }

    /// Room for more: as much as the next message still wants, and [`READ`] bytes at least.
    fn room(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let wanted = self.length().ok().flatten().map_or(0, |length| length + 1);
        let size = wanted.max(self.end + READ);
        if self.bytes.len() < size || self.bytes.len() > 4 * size {
            self.bytes.resize(size, 0);
            self.bytes.shrink_to(2 * size);
        }
        &mut self.bytes[self.end..]
    }
}

enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Local(UnixStream),
}

impl Socket {
    async fn open(settings: &Settings) -> Result<Self> {
        let lost = |error: io::Error| PostgresError::Lost {
            server: settings.server(),
            what: format!("it cannot be reached: {error}"),
            source: io::Error::from(error.kind()),
        };
        if let Some(path) = settings.socket() {
            return Ok(Self::Local(UnixStream::connect(path).await.map_err(lost)?));
        }
        let mut stream = reached(&settings.host, settings.port).await.map_err(lost)?;
        if settings.sslmode == SslMode::Disable {
            return Ok(Self::Plain(stream));
        }
        stream.write_all(&[8_i32.to_be_bytes(), TLS_REQUEST.to_be_bytes()].concat()).await.map_err(lost)?;
        // One byte, and none of what an attacker may have put behind it.
        let answer = stream.read_u8().await.map_err(lost)?;
        let is_optional = settings.sslmode == SslMode::Prefer;
        match answer {
            b'S' => match tls::handshake(settings, stream).await {
                Err(error) if is_optional => {
                    tracing::debug!(%error, "without TLS, which sslmode 'prefer' allows");
                    Ok(Self::Plain(reached(&settings.host, settings.port).await.map_err(lost)?))
                }
                secured => Ok(Self::Tls(Box::new(secured?))),
            },
            b'N' if is_optional => Ok(Self::Plain(stream)),
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

    async fn read_more(&mut self, into: &mut Received) -> io::Result<usize> {
        let read = self.read(into.room()).await?;
        into.end += read;
        Ok(read)
    }

    /// Says that the session ends, if that takes no time: a server that finds out for itself writes it into its log.
    fn goodbye(&self) {
        let message = [b'X', 0, 0, 0, 4];
        // It is over either way.
        let _ = match self {
            Self::Plain(stream) => stream.try_write(&message),
            Self::Local(stream) => stream.try_write(&message),
            Self::Tls(_) => Ok(0),
        };
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
        match $socket.get_mut() {
            Socket::Plain($stream) => $does,
            Socket::Tls($stream) => $does,
            Socket::Local($stream) => $does,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        of_each!(self, stream => Pin::new(stream).poll_read(context, into))
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

fn int(bytes: &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(*bytes.first_chunk()?))
}

/// A DataRow of texts.
fn row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let count = u16::from_be_bytes(*body.first_chunk()?);
    let mut rest = &body[2..];
    let mut values = Vec::with_capacity(count.into());
    for _ in 0..count {
        let length = int(rest)?;
        rest = &rest[4..];
        let Ok(length) = usize::try_from(length) else {
            values.push(None);
            continue;
        };
        values.push(Some(String::from_utf8_lossy(rest.get(..length)?).into_owned()));
        rest = &rest[length..];
    }
    Some(values)
}

/// `text` as a literal of SQL, for sessions with standard_conforming_strings.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `name` as a quoted name of SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_in_pieces() {
        let mut received = Received::default();
        let whole = [b'd', 0, 0, 0, 7, 1, 2, 3, b'Z', 0, 0, 0, 5, b'I'];
        let mut found = Vec::new();
        for byte in whole {
            received.room()[0] = byte;
            received.end += 1;
            while let Some((tag, body)) = received.message().unwrap() {
                found.push((tag, received.bytes(body).to_vec()));
            }
        }
        assert_eq!(found, [(b'd', vec![1, 2, 3]), (b'Z', vec![b'I'])]);
        assert!(received.message().unwrap().is_none());
        received.room()[..5].copy_from_slice(&[b'd', 0, 0, 0, 3]);
        received.end += 5;
        assert!(received.message().is_err());
    }

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!((literal("it's"), quoted("a\"b")), ("'it''s'".to_string(), "\"a\"\"b\"".to_string()));
    }
}
