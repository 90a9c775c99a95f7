//! A session of a server, by `mysql_async`.

use super::error::{MysqlError, Result};
use super::settings::{Settings, SslMode};
use crate::after_work::AfterWork;
use futures::{FutureExt, Stream, StreamExt};
use mysql_async::Value;
use mysql_async::prelude::Queryable;
use mysql_async::{
    BinaryProtocol, Column, Conn, DriverError, Error, IoError, Opts, OptsBuilder, QueryResult, Row, SslOpts,
};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The time that a server may take to end a query whose connection was dropped.
const KILLING: Duration = Duration::from_secs(10);
/// Seconds that a session may wait for us: for a statement that computes, or for slow readers of its rows.
const PATIENCE: u32 = 31_536_000;
/// Bytes of a packet that we take; the server has a bound of its own for those that we send.
const PACKET: usize = 1 << 30;

/// One session of a server. Dropping it ends what runs in it.
pub(super) struct Connection {
    settings: Arc<Settings>,
    /// Absent: it is lost.
    conn: Option<Conn>,
    killer: Killer,
    pub is_mariadb: bool,
    /// Whether it joins by a table of hashes where no index serves, rather than compare each row with each.
    pub hashes_joins: bool,
    /// Whether it takes LOAD DATA LOCAL.
    pub takes_files: bool,
    /// Bytes of a statement that it takes, at most.
    pub max_statement: usize,
    /// Whether it tells names of tables apart by the case of their letters.
    pub has_case: bool,
    /// The answer of a query has not been read to its end.
    is_busy: bool,
}

/// Rows of a query, as text.
pub(super) type Rows = Vec<Vec<Option<String>>>;

/// What every session has, whatever the server's defaults are. Nothing is cut off silently, 0 is a number like others, and snapshots are possible.
fn session(settings: &Settings, is_mariadb: bool) -> String {
    let millis = settings.statement_timeout.as_millis();
    let timeout = match is_mariadb {
        true => format!("max_statement_time = {}.{:03}", millis / 1000, millis % 1000),
        false => format!("max_execution_time = {millis}"),
    };
    format!(
        "SET NAMES utf8mb4; SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
         SET SESSION autocommit = 1, time_zone = '+00:00', sql_auto_is_null = 0, sql_safe_updates = 0, \
         sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION', \
         sql_select_limit = DEFAULT, wait_timeout = {PATIENCE}, net_write_timeout = {PATIENCE}, net_read_timeout = {PATIENCE}, \
         {timeout}"
    )
}

/// Whether a MySQL of this version has hash joins: since 8.0.18.
fn hashes_joins(version: &str) -> bool {
    let numbers: Vec<u32> = version.split(['.', '-']).map_while(|part| part.parse().ok()).collect();
    numbers.as_slice() >= [8, 0, 18].as_slice()
}

impl Connection {
    /// # Errors
    /// The server is not there, is not trusted, or does not let us in.
    pub async fn open(settings: &Arc<Settings>, killer: &Killer) -> Result<Self> {
        let opened = tokio::time::timeout(settings.connect_timeout, login(settings)).await;
        let late = |_| MysqlError::Lost {
            server: settings.server(),
            what: format!("it did not answer within {} s", settings.connect_timeout.as_secs()),
            source: io::Error::from(io::ErrorKind::TimedOut),
        };
        let conn = opened.map_err(late)??;
        let mut connection = Self {
            settings: Arc::clone(settings),
            conn: Some(conn),
            killer: killer.clone(),
            is_mariadb: false,
            hashes_joins: false,
            takes_files: false,
            max_statement: usize::MAX,
            has_case: true,
            is_busy: false,
        };
        let known =
            connection.rows("SELECT @@version, @@local_infile, @@lower_case_table_names, @@max_allowed_packet").await?;
        let known = known.into_iter().next().unwrap_or_default();
        let text = |at: usize| known.get(at).and_then(Option::as_deref).unwrap_or_default();
        connection.is_mariadb = text(0).contains("MariaDB");
        connection.hashes_joins = !connection.is_mariadb && hashes_joins(text(0));
        connection.takes_files = text(1) == "1";
        connection.has_case = text(2) == "0";
        connection.max_statement = text(3).parse().unwrap_or(usize::MAX);
        let session = session(settings, connection.is_mariadb);
        connection.execute(&session).await?;
        Ok(connection)
    }

    pub fn server(&self) -> String {
        self.settings.server()
    }

    fn conn(&mut self) -> Result<&mut Conn> {
        let lost = || MysqlError::of(&self.settings.server(), DriverError::ConnectionClosed.into());
        self.conn.as_mut().ok_or_else(lost)
    }

    /// Ends what was begun. A connection that has failed is not used again.
    fn ended<T>(&mut self, result: Result<T, Error>) -> Result<T> {
        self.is_busy = false;
        result.map_err(|error| {
            if error.is_fatal()
                && let Some(conn) = self.conn.take()
            {
                hung_up(conn);
            }
            MysqlError::of(&self.settings.server(), error)
        })
    }

    /// All rows of a query.
    pub async fn rows(&mut self, sql: &str) -> Result<Rows> {
        let conn = self.conn.as_mut();
        let Some(conn) = conn else { return self.conn().map(|_| Vec::new()) };
        self.is_busy = true;
        let found: Result<Vec<Row>, Error> = conn.query(sql).await;
        let text = |value: Value| match value {
            Value::NULL => None,
            Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            other => Some(other.as_sql(true).trim_matches('\'').to_string()),
        };
        let found = self.ended(found)?;
        Ok(found.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
    }

    /// The columns of a statement that is prepared, and not run. Empty: it has no rows.
    pub async fn prepared(&mut self, sql: &str) -> Result<Vec<Column>> {
        let conn = self.conn.as_mut();
        let Some(conn) = conn else { return self.conn().map(|_| Vec::new()) };
        self.is_busy = true;
        let prepared = async {
            let statement = conn.prep(sql).await?;
            let columns = statement.columns().to_vec();
            conn.close(statement).await?;
            Ok(columns)
        };
        let prepared: Result<Vec<Column>, Error> = prepared.await;
        self.ended(prepared)
    }

    /// The first value of a query's first row.
    pub async fn value(&mut self, sql: &str) -> Result<Option<String>> {
        Ok(self.rows(sql).await?.into_iter().flatten().next().flatten())
    }

    /// Carries out statements that have no rows. Returns how many rows they changed.
    pub async fn execute(&mut self, sql: &str) -> Result<u64> {
        let conn = self.conn.as_mut();
        let Some(conn) = conn else { return self.conn().map(|_| 0) };
        self.is_busy = true;
        let done = conn.query_drop(sql).await;
        let changed = conn.affected_rows();
        self.ended(done)?;
        Ok(changed)
    }

    /// Warnings of the last statement.
    pub fn warnings(&self) -> u16 {
        self.conn.as_ref().map_or(0, Conn::get_warnings)
    }

    /// Begins a query whose rows [`Connection::next`] gives, by the binary protocol.
    pub async fn begin(&mut self, sql: &str) -> Result<()> {
        let conn = self.conn.as_mut();
        let Some(conn) = conn else { return self.conn().map(|_| ()) };
        self.is_busy = true;
        let begun = conn.exec_iter(sql, ()).await.map(drop);
        match begun {
            Ok(()) => Ok(()),
            failed => self.ended(failed),
        }
    }

    /// The next row of the query that was begun.
    pub async fn next(&mut self) -> Result<Option<Row>> {
        let conn = self.conn()?;
        let next = QueryResult::<'_, '_, BinaryProtocol>::new(&mut *conn).next().await;
        match next {
            Ok(Some(row)) => Ok(Some(row)),
            over => self.ended(over),
        }
    }

    /// LOAD DATA LOCAL INFILE of these pieces, each of which the server takes as a packet. Returns the rows that were loaded, and how many warnings there are.
    pub async fn load(
        &mut self,
        sql: &str,
        pieces: impl Stream<Item = io::Result<bytes::Bytes>> + Send + Sync + 'static,
    ) -> Result<(u64, u16)> {
        let conn = self.conn.as_mut();
        let Some(conn) = conn else { return self.conn().map(|_| (0, 0)) };
        self.is_busy = true;
        conn.set_infile_handler(async move { Ok(pieces.boxed()) });
        let loaded = conn.query_drop(sql).await;
        let counted = (conn.affected_rows(), conn.get_warnings());
        self.ended(loaded)?;
        Ok(counted)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        // A connection that waits says goodbye where it is dropped.
        if self.is_busy {
            let id = conn.id();
            hung_up(conn);
            self.killer.kill(Arc::clone(&self.settings), id);
        }
    }
}

/// Closes a connection without reading what the server still sends.
fn hung_up(conn: Conn) {
    // Its first step marks it as gone, so that nobody else reads on.
    let _ = conn.disconnect().now_or_never();
}

async fn login(settings: &Settings) -> Result<Conn> {
    let base = || {
        let builder = OptsBuilder::default()
            .user(Some(&settings.user))
            .pass(settings.password.as_ref())
            .db_name(settings.database.as_ref())
            .prefer_socket(false)
            // Over TLS alone: see the settings.
            .enable_cleartext_plugin(settings.uses_iam)
            .tcp_keepalive(Some(Duration::from_secs(60)))
            .stmt_cache_size(0)
            .max_allowed_packet(Some(PACKET))
            .wait_timeout(Some(PATIENCE as usize));
        match settings.socket() {
            Some(socket) => builder.socket(Some(socket)),
            None => builder.ip_or_hostname(&settings.host).tcp_port(settings.port),
        }
    };
    let plain = || Opts::from(base());
    if settings.sslmode == SslMode::Disable || settings.socket().is_some() {
        return Conn::new(plain()).await.map_err(|error| refused(settings, error));
    }
    let trust = trust(settings).await.map_err(|what| MysqlError::Login { server: settings.server(), what })?;
    let mut opened = Conn::new(base().ssl_opts(trust.clone())).await;
    if let (Err(error), true) = (&opened, checks_chain_alone(settings))
        && let Some(name) = name_of_certificate(error)
    {
        // The chain was found good before the name was looked at. Under the name that it has, it is looked at again.
        opened = Conn::new(base().ssl_opts(trust.with_danger_tls_hostname_override(Some(name)))).await;
    }
    match opened {
        Err(Error::Driver(DriverError::NoClientSslFlagFromServer)) if settings.sslmode == SslMode::Prefer => {
            Conn::new(plain()).await.map_err(|error| refused(settings, error))
        }
        opened => opened.map_err(|error| refused(settings, error)),
    }
}

/// Whether certificates must be of a trusted authority, of whatever name.
fn checks_chain_alone(settings: &Settings) -> bool {
    match settings.sslmode {
        SslMode::VerifyCa => true,
        SslMode::Require => settings.sslrootcert.is_some(),
        _ => false,
    }
}

async fn trust(settings: &Settings) -> Result<SslOpts, String> {
    let trusts_all = match settings.sslmode {
        SslMode::Disable | SslMode::Prefer => true,
        SslMode::Require => settings.sslrootcert.is_none(),
        SslMode::VerifyCa | SslMode::VerifyFull => false,
    };
    if trusts_all {
        return Ok(SslOpts::default().with_danger_accept_invalid_certs(true));
    }
    let options = SslOpts::default().with_disable_built_in_roots(true);
    Ok(match settings.sslrootcert.as_deref() {
        None | Some("system") => {
            let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
            let found = found.map_err(|error| error.to_string())?.certs;
            if found.is_empty() {
                return Err("the system has no root certificates: name a file of them with sslrootcert".to_string());
            }
            options.with_root_certs(found.into_iter().map(|certificate| certificate.to_vec().into()).collect())
        }
        Some(file) => {
            let read = tokio::fs::read(PathBuf::from(file)).await;
            let read = read.map_err(|error| format!("the root certificates {file} cannot be read: {error}"))?;
            if read.is_empty() {
                return Err(format!("the root certificates {file} are an empty file"));
            }
            options.with_root_certs(vec![read.into()])
        }
    })
}

/// A failed handshake, as the library of TLS says it.
fn handshake(error: &Error) -> Option<String> {
    match error {
        Error::Io(IoError::Tls(error)) => Some(error.to_string()),
        Error::Io(IoError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => Some(error.to_string()),
        _ => None,
    }
}

/// A name for which a certificate is valid whose name, and nothing else, was not the expected one.
fn name_of_certificate(error: &Error) -> Option<String> {
    let text = handshake(error)?;
    let names = text.split_once("certificate is only valid for ")?.1;
    let name = names.split(['"']).nth(1)?;
    Some(name.strip_prefix("*.").map_or_else(|| name.to_string(), |rest| format!("any.{rest}")))
}

fn refused(settings: &Settings, error: Error) -> MysqlError {
    let server = settings.server();
    if let Some(what) = handshake(&error) {
        return MysqlError::Login { server, what: format!("the TLS handshake failed: {what}") };
    }
    match error {
        // The user, the database, the host, the plugin.
        Error::Server(error) if [1044, 1045, 1049, 1130, 1251, 1524, 1698, 3118, 4151].contains(&error.code) => {
            let missing = if settings.password.is_none() { " (no password was given)" } else { "" };
            MysqlError::Login { server, what: format!("{}{missing}", error.message) }
        }
        Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            MysqlError::Login { server, what: "the server has no TLS, and sslmode demands it".to_string() }
        }
        Error::Driver(error @ (DriverError::UnknownAuthPlugin { .. } | DriverError::CleartextPluginDisabled)) => {
            MysqlError::Login { server, what: error.to_string() }
        }
        Error::Io(IoError::Io(error)) => MysqlError::Lost {
            what: format!("the server cannot be reached: {error}"),
            source: io::Error::from(error.kind()),
            server,
        },
        error => MysqlError::of(&server, error),
    }
}

/// Tells servers to end queries whose connections were dropped: a session that computes looks at its socket late, or never. One for a process.
#[derive(Clone, Debug, Default)]
pub(super) struct Killer(AfterWork);

impl Killer {
    /// Waits until all of them were told, or have had their time.
    pub async fn settle(&self) {
        self.0.settle().await;
    }

    fn kill(&self, settings: Arc<Settings>, session: u32) {
        let request = async move {
            let mut conn = login(&settings).await?;
            let killed = conn.query_drop(format!("KILL {session}")).await;
            killed.map_err(|error| MysqlError::of(&settings.server(), error))
        };
        self.0.begin(async move {
            match tokio::time::timeout(KILLING, request).await {
                // It has ended by itself.
                Ok(Ok(()) | Err(MysqlError::Refused { code: 1094, .. })) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a query of MySQL may run on"),
                Err(_) => tracing::debug!("a query of MySQL may run on: the server does not answer"),
            }
        });
    }
}

/// An identifier, as SQL writes it.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text, as SQL writes it in our sessions.
pub(super) fn literal(text: &str) -> String {
    let mut written = String::with_capacity(text.len() + 2);
    written.push('\'');
    for character in text.chars() {
        match character {
            '\'' => written.push_str("''"),
            '\\' => written.push_str("\\\\"),
            '\0' => written.push_str("\\0"),
            character => written.push(character),
        }
    }
    written.push('\'');
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_joins_came_with_a_version() {
        let with = ["8.0.18", "8.0.36-28", "8.4.0", "9.1.0-log"];
        let without = ["8.0.17", "5.7.44-log", "8.0", ""];
        assert!(with.into_iter().all(hashes_joins) && !without.into_iter().any(hashes_joins));
    }

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(quoted("a`b"), "`a``b`");
        assert_eq!(literal("it's \\ \0"), "'it''s \\\\ \\0'");
    }
}
