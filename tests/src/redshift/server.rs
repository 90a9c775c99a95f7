//! A server that stands in for Redshift where Windlass loads it. It is a PostgreSQL server of the test's own behind a proxy for its protocol, and no more than
//! that.
//!
//! - It calls itself PostgreSQL 8.0.2, as Redshift does, and refuses words of later versions that Redshift does not know ([`MISSING`]).
//! - COPY … FROM 's3://…' … FORMAT AS PARQUET MANIFEST is carried out by the proxy ([`super::copy`]), in the session and the transaction that asked for it.
//! - SUPER is JSONB, and VARBYTE of any length BYTEA. `stl_load_errors` and `stv_slices` are tables.
//!
//! All else is PostgreSQL: plans, locks, isolation and the errors of other statements are not Redshift's.

use super::copy::{self, Reader};
use crate::oracle::postgres::Postgres;
use crate::s3;
use regex::Regex;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// The role that may read the staging folder.
pub(super) const ROLE: &str = "arn:aws:iam::123456789012:role/loader";
/// The secret of the bucket's key.
pub(super) const BUCKET_SECRET: &str = "marked-secret-of-the-bucket";
/// Words that Redshift does not know.
const MISSING: [&str; 10] = [
    "ON CONFLICT",
    "FORMAT binary",
    "to_regclass",
    "txid_",
    "xmax",
    "IntervalStyle",
    "bytea_output",
    "idle_in_transaction_session_timeout",
    "RETURNING",
    "jsonb",
];

/// Where a session stops. It ends when the test drops this, or its client leaves.
pub(super) struct Held {
    reached: oneshot::Receiver<()>,
    release: oneshot::Sender<()>,
}

impl Held {
    /// Lets the session go on.
    pub fn go_on(self) {
        // Its client may have left.
        _ = self.release.send(());
    }
}

/// The server's end of it.
struct Hold {
    /// Words of an earlier statement of the session.
    after: &'static str,
    words: &'static str,
    /// After the statement was carried out, and before its answer; else before it.
    is_answered: bool,
    reached: oneshot::Sender<()>,
    released: oneshot::Receiver<()>,
}

/// What all sessions share.
pub(super) struct Shared {
    pub postgres: Postgres,
    /// URL of the server of S3.
    pub s3: String,
    holds: Mutex<Vec<Hold>>,
    /// Texts of statements, but for the secrets of COPY.
    pub heard: Mutex<Vec<String>>,
}

pub(super) struct Server {
    pub shared: Arc<Shared>,
    s3: Mutex<s3::Server>,
    pub port: u16,
    /// Of the Data API.
    pub api: u16,
    end: Option<oneshot::Sender<()>>,
    serving: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Self {
        let (postgres, s3) = (Postgres::start(), s3::Server::start());
        let made = postgres.psql(
            "CREATE DOMAIN super AS jsonb; CREATE DOMAIN varbyte AS bytea;
             CREATE FUNCTION json_parse(text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT $1::jsonb';
             CREATE TABLE stv_slices AS SELECT n AS node, n AS slice FROM generate_series(0, 3) n;
             CREATE TABLE stl_load_errors (starttime timestamp DEFAULT now(), session int, filename char(256), line_number bigint,
             colname char(127), type char(10), err_reason char(100))",
        );
        made.unwrap_or_else(|error| panic!("{error}"));
        let shared = Shared { postgres, s3: s3.url().to_owned(), holds: Mutex::default(), heard: Mutex::default() };
        let shared = Arc::new(shared);
        let (ready, started) = std::sync::mpsc::channel();
        let (end, ended) = oneshot::channel();
        let of_sessions = Arc::clone(&shared);
        // On a thread of its own: tests block theirs.
        let serving = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it can be made");
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port can be had");
                let api = TcpListener::bind("127.0.0.1:0").await.expect("a port can be had");
                let port = |listener: &TcpListener| listener.local_addr().expect("it has an address").port();
                let at = (port(&listener), port(&api));
                ready.send(at).expect("it is waited for");
                let mut sessions = JoinSet::new();
                sessions.spawn(super::api::serve(api, at.0));
                tokio::select! {
                    () = accept(listener, of_sessions, &mut sessions) => {}
                    _ = ended => {}
                }
            });
        });
        let (port, api) = started.recv().expect("it starts");
        Self { shared, s3: Mutex::new(s3), port, api, end: Some(end), serving: Some(serving) }
    }

    /// What `psql` prints of a script.
    pub fn scripted(&self, script: &str) -> String {
        self.shared.postgres.psql(script).unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Lets the next session go no further that had a statement with the first words, and has one with the others.
    pub fn hold(&self, [after, words]: [&'static str; 2], is_answered: bool) -> Held {
        let ((reached, at), (release, released)) = (oneshot::channel(), oneshot::channel());
        let hold = Hold { after, words, is_answered, reached, released };
        self.shared.holds.lock().expect("nobody has panicked").push(hold);
        Held { reached: at, release }
    }

    /// Number of objects in the staging folder.
    pub fn staged(&self) -> String {
        self.s3.lock().expect("nobody has panicked").ask("objects staging/")
    }

    /// The statements that have these words.
    pub fn heard(&self, words: &str) -> Vec<String> {
        let heard = self.shared.heard.lock().expect("nobody has panicked");
        heard.iter().filter(|sql| sql.contains(words)).cloned().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(serving) = self.serving.take()
            && serving.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the server has panicked");
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, sessions: &mut JoinSet<()>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        sessions.spawn(async move {
            // A client that leaves ends its session.
            _ = session(client, shared).await;
        });
        while sessions.try_join_next().is_some() {}
    }
}

/// The connection to PostgreSQL behind a session.
pub(super) struct Backend {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    pub pid: i32,
}

/// A message: its letter, and what follows its length.
type Message = (u8, Vec<u8>);

/// The last answer to a statement.
pub(super) struct Answered {
    pub rows: Vec<Vec<Option<String>>>,
    /// Message and context of an error.
    pub error: Option<(String, String)>,
    /// The state of the transaction, as ReadyForQuery has it.
    pub state: u8,
}

async fn read(from: &mut OwnedReadHalf) -> io::Result<Message> {
    let (kind, length) = (from.read_u8().await?, from.read_u32().await?);
    let mut body = vec![0; (length as usize).saturating_sub(4)];
    from.read_exact(&mut body).await?;
    Ok((kind, body))
}

fn encoded(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// The fields of an ErrorResponse.
fn field(body: &[u8], of: u8) -> String {
    let found = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&of));
    found.map(|field| String::from_utf8_lossy(&field[1..]).into_owned()).unwrap_or_default()
}

impl Backend {
    pub async fn send(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        self.to.write_all(&encoded(kind, body)).await
    }

    async fn query(&mut self, sql: &str) -> io::Result<()> {
        self.send(b'Q', &[sql.as_bytes(), b"\0"].concat()).await
    }

    /// Runs a statement of the proxy's own in the session.
    pub async fn ask(&mut self, sql: &str) -> io::Result<Answered> {
        self.query(sql).await?;
        self.answered(|_| true).await
    }

    /// Begins COPY … FROM STDIN. The error of a refusal.
    pub async fn copy_in(&mut self, sql: &str) -> io::Result<Option<Answered>> {
        self.query(sql).await?;
        let (kind, body) = read(&mut self.from).await?;
        match kind {
            b'G' => Ok(None),
            _ => {
                let mut answered = self.answered(|_| true).await?;
                answered.error = Some((field(&body, b'M'), field(&body, b'W')));
                Ok(Some(answered))
            }
        }
    }

    /// Reads until the next statement is waited for.
    pub async fn answered(&mut self, mut seen: impl FnMut(&Message) -> bool) -> io::Result<Answered> {
        let mut answered = Answered { rows: Vec::new(), error: None, state: b'I' };
        loop {
            let message = read(&mut self.from).await?;
            if !seen(&message) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (kind, body) = message;
            match kind {
                b'D' => answered.rows.push(row(&body)),
                b'E' if answered.error.is_none() => {
                    answered.error = Some((field(&body, b'M'), field(&body, b'W')));
                }
                b'K' => self.pid = i32::from_be_bytes(body[..4].try_into().expect("it has eight bytes")),
                b'Z' => {
                    answered.state = body[0];
                    return Ok(answered);
                }
                _ => {}
            }
        }
    }
}

/// The columns of a DataRow.
fn row(body: &[u8]) -> Vec<Option<String>> {
    let (mut columns, mut at) = (Vec::new(), 2);
    while at < body.len() {
        let length = i32::from_be_bytes(body[at..at + 4].try_into().expect("four bytes"));
        at += 4;
        let Ok(length) = usize::try_from(length) else {
            columns.push(None);
            continue;
        };
        columns.push(Some(String::from_utf8_lossy(&body[at..at + length]).into_owned()));
        at += length;
    }
    columns
}

fn refusal(code: &str, message: &str) -> Vec<u8> {
    let fields = format!("SERROR\0C{code}\0M{message}\0\0");
    encoded(b'E', fields.as_bytes())
}

async fn session(mut client: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let startup = loop {
        let length = client.read_u32().await?;
        let mut body = vec![0; length as usize - 4];
        client.read_exact(&mut body).await?;
        match u32::from_be_bytes(body[..4].try_into().expect("a code")) {
            // A request for TLS.
            80_877_103 => client.write_all(b"N").await?,
            _ => break [&length.to_be_bytes()[..], &body].concat(),
        }
    };
    let backend = TcpStream::connect(("127.0.0.1", shared.postgres.port())).await?;
    let (from, mut to) = backend.into_split();
    to.write_all(&startup).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let mut backend = Backend { from, to, pid: 0 };
    let mut said = Vec::new();
    backend
        .answered(|(kind, body)| {
            let version: &[u8] = b"server_version\0";
            match (*kind, body.starts_with(version)) {
                (b'S', true) => said.extend(encoded(b'S', &[version, b"8.0.2\0"].concat())),
                _ => said.extend(encoded(*kind, body)),
            }
            true
        })
        .await?;
    to_client.write_all(&said).await?;
    let mut next = [0];
    // The statements of the session so far.
    let mut before = String::new();
    loop {
        let (kind, body) = read(&mut from_client).await?;
        if kind != b'Q' {
            return Ok(());
        }
        let sql = String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(&body)).into_owned();
        let is_held = |hold: &Hold| sql.contains(hold.words) && before.contains(hold.after);
        let hold = {
            let mut holds = shared.holds.lock().expect("nobody has panicked");
            let at = holds.iter().position(is_held);
            at.map(|at| holds.remove(at))
        };
        let mut answered = None;
        if let Some(Hold { is_answered, reached, released, .. }) = hold {
            if is_answered {
                answered = Some(answer(&mut backend, &shared, &sql).await?);
            }
            _ = reached.send(());
            tokio::select! {
                left = gone(&mut from_client) => return left,
                go_on = released => if go_on.is_err() { return Ok(()) },
            }
        }
        if answered.is_none() {
            answered = tokio::select! {
                answer = answer(&mut backend, &shared, &sql) => Some(answer?),
                // Nothing is sent before an answer: it leaves.
                _ = from_client.peek(&mut next) => return Ok(()),
            };
        }
        to_client.write_all(&answered.unwrap_or_default()).await?;
        before.push_str(&sql);
    }
}

/// Waits until a client has left.
async fn gone(from: &mut OwnedReadHalf) -> io::Result<()> {
    let mut rest = [0; 64];
    while from.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Carries out a statement, and gives the messages of the answer.
async fn answer(backend: &mut Backend, shared: &Arc<Shared>, sql: &str) -> io::Result<Vec<u8>> {
    let shown = sql.replace(BUCKET_SECRET, "***");
    shared.heard.lock().expect("nobody has panicked").push(shown);
    if let Some(word) = MISSING.iter().find(|word| sql.contains(*word)) {
        let state = backend.ask("SELECT 1 / 0").await?.state;
        return Ok([refusal("42601", &format!("syntax error at or near \"{word}\"")), encoded(b'Z', &[state])].concat());
    }
    let copy = Regex::new(
        r"^COPY (\S+) FROM '(s3://[^']+)' (?:IAM_ROLE (?:'([^']*)'|(default))|CREDENTIALS 'aws_access_key_id=([^';]*);aws_secret_access_key=([^';]*)') FORMAT AS PARQUET( SERIALIZETOJSON)? MANIFEST$",
    )
    .expect("it is one");
    if let Some(found) = copy.captures(sql) {
        let text = |at: usize| found.get(at).map(|text| text.as_str());
        let reader = match (text(3), text(4), text(5), text(6)) {
            (Some(role), ..) => Reader::Role(role.to_owned()),
            (_, Some(_), ..) => Reader::Role(ROLE.to_owned()),
            (_, _, Some(key), Some(secret)) => Reader::Keys(key.to_owned(), secret.to_owned()),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let (table, manifest) = (text(1).unwrap_or_default(), text(2).unwrap_or_default());
        let (copied, state) = copy::carried_out(backend, shared, table, manifest, reader, text(7).is_some()).await?;
        let answer = match copied {
            Ok(rows) => encoded(b'C', format!("COPY {rows}\0").as_bytes()),
            Err(why) => refusal("XX000", &why),
        };
        return Ok([answer, encoded(b'Z', &[state])].concat());
    }
    let lengths = Regex::new(r"varbyte\(\d+\)").expect("it is one");
    backend.query(&lengths.replace_all(sql, "varbyte")).await?;
    let mut answer = Vec::new();
    backend
        .answered(|(kind, body)| {
            answer.extend(encoded(*kind, body));
            true
        })
        .await?;
    Ok(answer)
}

/// Waits until a session is held.
pub(super) async fn reached(held: &mut Held) {
    let reached = tokio::time::timeout(Duration::from_secs(60), &mut held.reached).await;
    reached.expect("it comes to that").expect("the server runs");
}
