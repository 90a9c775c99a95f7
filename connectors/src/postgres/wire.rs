//! A connection, over tokio-postgres.
//!
//! ```text
//!   open ──> idle ──execute──> idle
//!             │ ──copy_out──> copying ──next_row … None──> idle
//!             └ ──copy_in───> copying ──send … finish────> idle
//! ```
//!
//! There is no task behind a connection: whoever waits for an answer polls the socket. So a dropped future reads and writes nothing more, and what it began is
//! cancelled.

use super::error::{PostgresError, Result};
use super::settings::{Dialect, Settings};
use super::socket::{Bind, Heard, Socket};
use crate::after_work::AfterWork;
use bytes::Bytes;
use futures::{FutureExt, SinkExt, StreamExt};
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};
use tokio_postgres::{CancelToken, Client, Config, CopyInSink, CopyOutStream, Error, SimpleQueryMessage};

/// How long a request to end a query may take.
const CANCELLING: Duration = Duration::from_secs(5);
/// The oldest server that tables are read from.
const OLDEST: u32 = 12;

/// One session of a server. Dropping it ends what runs in it.
pub(crate) struct Connection {
    settings: Arc<Settings>,
    /// Absent while it is dropped.
    client: Option<Client>,
    link: Link,
    copying: Copying,
    /// Its major version.
    pub version: u32,
    /// Texts are kept in UTF-8.
    pub is_utf8: bool,
    canceller: Canceller,
    /// The server has not said yet that it waits for the next query.
    is_busy: bool,
}

enum Copying {
    Nothing,
    Out(Pin<Box<CopyOutStream>>),
    In(Pin<Box<CopyInSink<Bytes>>>),
}

/// Rows of a query, as text.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

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
        let timeout = settings.statement_timeout.as_millis();
        if settings.dialect == Dialect::Redshift {
            let session =
                format!("SET TimeZone TO 'UTC'; SET DateStyle TO 'ISO, MDY'; SET statement_timeout TO {timeout}");
            connection.execute(&session).await?;
            return Ok(connection);
        }
        let mut session = format!(
            "SET TimeZone TO 'UTC'; SET DateStyle TO 'ISO, MDY'; SET IntervalStyle TO 'postgres'; SET extra_float_digits TO 3; \
             SET bytea_output TO 'hex'; SET standard_conforming_strings TO on; SET idle_in_transaction_session_timeout TO 0; \
             SET synchronize_seqscans TO off; \
             SET statement_timeout TO {timeout}"
        );
        if connection.version >= 14 {
            session.push_str("; SET idle_session_timeout TO 0; SET client_connection_check_interval TO '5s'");
        }
        connection.execute(&session).await?;
        Ok(connection)
    }

    async fn login(settings: &Arc<Settings>, canceller: &Canceller) -> Result<Self> {
        let socket = Socket::open(settings).await?;
        let heard = socket.heard();
        let mut config = Config::new();
        config.user(&settings.user).dbname(&settings.database).application_name("windlass");
        // The socket has its TLS already, if it is to have it.
        config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        config.channel_binding(if settings.requires_binding {
            ChannelBinding::Require
        } else {
            ChannelBinding::Prefer
        });
        if let Some(password) = &settings.password {
            config.password(password);
        }
        let entered = config.connect_raw(socket, Bind).await;
        let (client, connection) = entered.map_err(|error| refused_login(settings, &heard, &error))?;
        let said = |name: &str| connection.parameter(name).unwrap_or_default();
        let major: String = said("server_version").chars().take_while(char::is_ascii_digit).collect();
        let version = major.parse().unwrap_or(0);
        if version < OLDEST && settings.dialect == Dialect::Postgres {
            let what = match version {
                0 => "it does not say its version".to_string(),
                _ => format!("PostgreSQL {version} is too old: {OLDEST} and later are read"),
            };
            return Err(PostgresError::Login { server: settings.server(), what });
        }
        Ok(Self {
            settings: Arc::clone(settings),
            client: Some(client),
            version,
            is_utf8: said("server_encoding") == "UTF8",
            link: Link { connection, heard, ended: None },
            copying: Copying::Nothing,
            canceller: canceller.clone(),
            is_busy: false,
        })
    }

    /// Runs statements, and gives the rows of the last one that has some.
    ///
    /// # Errors
    /// The server refuses one: those behind it are not run.
    pub async fn execute(&mut self, sql: &str) -> Result<Rows> {
        self.begin(sql)?;
        let (client, link) = self.parts();
        let answered = async {
            let mut answers = pin!(client.simple_query_raw(sql).await?);
            let (mut rows, mut refused) = (Rows::new(), None);
            // Until the server waits for the next query, also after an error.
            while let Some(answer) = answers.next().await {
                match answer {
                    Ok(SimpleQueryMessage::RowDescription(_)) => rows.clear(),
                    Ok(SimpleQueryMessage::Row(row)) => {
                        let value = |at| Ok(row.try_get(at)?.map(str::to_string));
                        rows.push((0..row.len()).map(value).collect::<Result<_, Error>>()?);
                    }
                    Ok(_) => {}
                    Err(error) if refused.is_none() && error.as_db_error().is_some() => refused = Some(error),
                    Err(error) => return Err(refused.unwrap_or(error)),
                }
            }
            refused.map_or(Ok(rows), Err)
        };
        let rows = link.while_waiting(answered).await;
        self.done(rows)
    }

    /// Executes a query in the transaction that is open, and gives up the locks that it takes.
    pub async fn look(&mut self, sql: &str) -> Result<Rows> {
        const PART: &str = "windlass_look";
        let back = format!("ROLLBACK TO SAVEPOINT {PART}; RELEASE SAVEPOINT {PART}");
        self.execute(&format!("SAVEPOINT {PART}; {sql}\n; {back}")).await
    }

    /// Begins `COPY … TO STDOUT`, whose rows [`Connection::next_row`] gives.
    pub async fn copy_out(&mut self, sql: &str) -> Result<()> {
        self.begin(sql)?;
        let (client, link) = self.parts();
        let begun = link.while_waiting(client.copy_out(sql)).await;
        self.copying = Copying::Out(Box::pin(self.going_on(begun)?));
        Ok(())
    }

    /// Begins `COPY … FROM STDIN`, which [`Connection::finish`] ends.
    pub async fn copy_in(&mut self, sql: &str) -> Result<()> {
        self.begin(sql)?;
        let (client, link) = self.parts();
        let begun = link.while_waiting(client.copy_in(sql)).await;
        self.copying = Copying::In(Box::pin(self.going_on(begun)?));
        Ok(())
    }

    /// The next piece of what is copied out. `None`: that was all.
    pub async fn next_row(&mut self) -> Result<Option<Bytes>> {
        let Copying::Out(rows) = &mut self.copying else { return Err(self.misused("nothing is copied out")) };
        // Most rows are here already.
        let row = match rows.next().now_or_never() {
            Some(row) => Some(row),
            None => self.link.while_waiting(rows.next()).await,
        };
        match self.going_on(row.map(Option::transpose))? {
            Some(row) => Ok(Some(row)),
            None => {
                self.copying = Copying::Nothing;
                self.settle().await?;
                Ok(None)
            }
        }
    }

    /// Sends a piece of what is copied in.
    ///
    /// # Errors
    /// The server has refused something of what was sent before.
    pub async fn send(&mut self, piece: &[u8]) -> Result<()> {
        let Copying::In(sink) = &mut self.copying else { return Err(self.misused("nothing is copied in")) };
        let sent = self.link.while_waiting(sink.send(Bytes::copy_from_slice(piece))).await;
        // The server refuses while it is being sent to, and then reads on and on: tokio-postgres looks only at the end.
        if self.link.heard.is_refused() {
            return self.finish().await;
        }
        self.going_on(sent)
    }

    /// Ends what is copied in.
    pub async fn finish(&mut self) -> Result<()> {
        let Copying::In(mut sink) = std::mem::replace(&mut self.copying, Copying::Nothing) else {
            return Err(self.misused("nothing is copied in"));
        };
        let finished = self.link.while_waiting(sink.as_mut().finish()).await;
        self.going_on(finished)?;
        self.settle().await
    }

    /// Waits until the server is ready for the next query. What tokio-postgres gives of a COPY ends before that.
    async fn settle(&mut self) -> Result<()> {
        let (client, link) = self.parts();
        let settled = link.while_waiting(client.batch_execute("")).await;
        self.done(settled)
    }

    fn parts(&mut self) -> (&Client, &mut Link) {
        (self.client.as_ref().expect("it is there until it is dropped"), &mut self.link)
    }

    fn begin(&mut self, sql: &str) -> Result<()> {
        if sql.contains('\0') {
            return Err(PostgresError::Value("a zero byte cannot be in a statement for PostgreSQL".to_string()));
        }
        // The last words of a connection that has ended stand for all that is asked of it.
        if self.link.ended.is_none() {
            self.link.heard.forget();
        }
        self.is_busy = true;
        Ok(())
    }

    /// The result of the last step of what was begun.
    fn done<T>(&mut self, result: Option<Result<T, Error>>) -> Result<T> {
        let result = self.going_on(result);
        if result.is_ok() {
            self.is_busy = false;
        }
        result
    }

    /// The result of a step; after an error nothing goes on. `None`: the connection has ended.
    fn going_on<T>(&mut self, result: Option<Result<T, Error>>) -> Result<T> {
        let error = match result {
            Some(Ok(value)) => return Ok(value),
            Some(Err(error)) => Some(error),
            None => None,
        };
        self.is_busy = false;
        self.copying = Copying::Nothing;
        // The server often says why it hangs up before it does.
        if let Some(refusal) = self.link.heard.refusal() {
            return Err(PostgresError::Refused(Box::new(refusal)));
        }
        // A request that finds the connection closed does not know why.
        let error = error.filter(|error| !error.is_closed()).or(self.link.ended.as_mut().and_then(Option::take));
        Err(failure(&self.settings, error.as_ref()))
    }

    fn misused(&self, what: &str) -> PostgresError {
        PostgresError::Value(format!("{}: {what}", self.settings.server()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        if self.is_busy {
            self.canceller.cancel(Arc::clone(&self.settings), client.cancel_token());
            return;
        }
        // Says that the session ends, if that takes no time: a server that finds out for itself writes it into its log.
        drop(client);
        self.link.poll(&mut Context::from_waker(Waker::noop()));
    }
}

/// The half of a connection that reads and writes.
struct Link {
    connection: tokio_postgres::Connection<Socket, Socket>,
    heard: Heard,
    /// It has ended, perhaps with an error that nobody has seen yet.
    ended: Option<Option<Error>>,
}

impl Link {
    fn poll(&mut self, context: &mut Context<'_>) {
        while self.ended.is_none() {
            match self.connection.poll_message(context) {
                // Notices are for people.
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => self.ended = Some(Some(error)),
                Poll::Ready(None) => self.ended = Some(None),
                Poll::Pending => return,
            }
        }
    }

    /// Moves bytes until `request` is answered. `None`: the connection has ended before that.
    async fn while_waiting<T>(&mut self, request: impl Future<Output = T>) -> Option<T> {
        let mut request = pin!(request);
        poll_fn(|context| {
            if let Poll::Ready(answer) = request.as_mut().poll(context) {
                return Poll::Ready(Some(answer));
            }
            self.poll(context);
            match request.as_mut().poll(context) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending if self.ended.is_some() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

/// What happened to a connection that the server did not refuse in words. None: it has ended.
fn failure(settings: &Settings, error: Option<&Error>) -> PostgresError {
    let server = settings.server();
    let lost = |kind: io::ErrorKind, what: &dyn std::fmt::Display| PostgresError::Lost {
        server: settings.server(),
        what: format!("the connection was lost: {what}"),
        source: io::Error::from(kind),
    };
    let Some(error) = error.filter(|error| !error.is_closed()) else {
        let end = io::Error::from(io::ErrorKind::UnexpectedEof);
        return lost(end.kind(), &end);
    };
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        // It does not understand what it has read.
        Some(source) if source.kind() == io::ErrorKind::InvalidInput => {
            PostgresError::Protocol { server, what: format!("{error}: {source}") }
        }
        Some(source) => lost(source.kind(), source),
        None => PostgresError::Protocol { server, what: error.to_string() },
    }
}

fn refused_login(settings: &Settings, heard: &Heard, error: &Error) -> PostgresError {
    let login = |what: String| PostgresError::Login { server: settings.server(), what };
    if let Some(refusal) = heard.refusal() {
        return match refusal.code.get(..2) {
            Some("28" | "3D") => login(refusal.message),
            _ => PostgresError::Refused(Box::new(refusal)),
        };
    }
    match failure(settings, Some(error)) {
        // Such as a password that it wants and does not get, or a server that does not know the password itself.
        PostgresError::Protocol { .. } => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            let advice = match settings.password {
                Some(_) => "",
                None => "; if it wants a password, use OPTIONS (password '…'), a password file or a service",
            };
            login(format!("{error}{cause}{advice}"))
        }
        other => other,
    }
}

/// Tells servers to end queries whose connections were dropped: a backend that computes looks at its socket late, or never. One for a process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Canceller(AfterWork);

impl Canceller {
    /// Waits until all servers were told, or have had their time.
    pub async fn settle(&self) {
        self.0.settle().await;
    }

    fn cancel(&self, settings: Arc<Settings>, token: CancelToken) {
        let request = async move {
            let socket = Socket::open(&settings).await?;
            token.cancel_query_raw(socket, Bind).await.map_err(|error| failure(&settings, Some(&error)))
        };
        self.0.begin(async move {
            match tokio::time::timeout(CANCELLING, request).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a query of PostgreSQL may run on"),
                Err(_) => tracing::debug!("a query of PostgreSQL may run on: the server does not answer"),
            }
        });
    }
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
    fn names_and_texts_are_quoted() {
        assert_eq!((literal("it's"), quoted("a\"b")), ("'it''s'".to_string(), "\"a\"\"b\"".to_string()));
    }
}
