//! Where a server is, as whom to enter, and with what: of a table's location and options, the service file and the password file.

pub(crate) use crate::server::SslMode;
use crate::server::{self, Form};
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use windlass_engine::connector::TableSpec;

const PORT: u16 = 5432;
const FORM: Form = Form {
    schemes: &["postgresql", "postgres"],
    example: "postgresql://user@host:port/database",
    parameters: &["sslmode", "sslrootcert", "channel_binding", "connect_timeout", "service"],
    passwords: "OPTIONS (password '…'), a password file or a service",
};

/// The kind of server behind the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    /// Speaks as PostgreSQL 8 did, and has few of its settings.
    #[cfg_attr(not(feature = "redshift"), expect(dead_code, reason = "nobody else asks for it"))]
    Redshift,
}

/// A server and a database, and how to reach it. Its debug form has no password.
#[derive(Clone)]
pub(crate) struct Settings {
    pub dialect: Dialect,
    /// A name, an address, or the folder of a socket.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub database: String,
    pub password: Option<String>,
    pub sslmode: SslMode,
    /// A file of certificates in PEM, or `system`.
    pub sslrootcert: Option<String>,
    /// Nobody is let in whose password is not bound to the server's certificate.
    pub requires_binding: bool,
    pub connect_timeout: Duration,
    /// For each statement that is sent; zero: as long as it takes.
    pub statement_timeout: Duration,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings({})", self.server())
    }
}

impl Settings {
    /// Returns user, server and database, as errors show them.
    pub fn server(&self) -> String {
        let Self { host, port, user, database, .. } = self;
        format!("{user}@{host}:{port}/{database}")
    }

    pub fn socket(&self) -> Option<PathBuf> {
        self.host.starts_with('/').then(|| Path::new(&self.host).join(format!(".s.PGSQL.{}", self.port)))
    }
}

/// The server as a table names it, before any file is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location(server::Location);

impl Location {
    /// # Errors
    /// It is no location of a PostgreSQL database, or has a password. No message shows it: it may have one where none is expected.
    pub fn parse(location: &str) -> Result<Self> {
        server::Location::parse(location, &FORM).map(Self)
    }

    /// Reads the files that complete it, which are those of this machine.
    ///
    /// # Errors
    /// A file that is named cannot be read, or something is missing.
    pub async fn settings(&self, table: &TableSpec) -> Result<Settings> {
        let at = &self.0;
        let option = |name: &str| table.options.text(name).map(str::to_string);
        let parameter = |name: &str| option(name).or_else(|| at.parameters.get(name).cloned());
        let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let service = match parameter("service").or_else(|| environment("PGSERVICE")) {
            Some(name) => service(&name, environment("PGSERVICEFILE").map(PathBuf::from)).await?,
            None => BTreeMap::new(),
        };
        let of = |said: Option<String>, name: &str| said.or_else(|| service.get(name).cloned());
        let host = of(at.host.clone(), "host").unwrap_or_else(|| "localhost".to_string());
        let port = match of(at.port.map(|port| port.to_string()), "port") {
            Some(port) => port.parse().map_err(|_| plan_datafusion_err!("'{port}' is no port"))?,
            None => PORT,
        };
        let Some(user) = of(at.user.clone(), "user") else {
            return plan_err!("nobody says as which user to connect: write postgresql://user@host/database");
        };
        let database = of(at.database.clone(), "dbname").unwrap_or_else(|| user.clone());
        let sslmode = SslMode::parse(of(parameter("sslmode"), "sslmode").as_deref())?;
        let password = match of(option("password"), "password") {
            said if server::uses_iam(table) => {
                Some(server::token(table, sslmode, said.is_some(), (&host, port, &user)).await?)
            }
            Some(password) => Some(password),
            None => of_password_file(environment("PGPASSFILE").map(PathBuf::from), &host, port, &database, &user).await,
        };
        let requires_binding = match of(parameter("channel_binding"), "channel_binding").as_deref() {
            None | Some("prefer") => false,
            Some("require") => true,
            Some(_) => return plan_err!("channel_binding is prefer or require"),
        };
        let connect_timeout = server::connect_timeout(of(parameter("connect_timeout"), "connect_timeout"))?;
        Ok(Settings {
            dialect: Dialect::Postgres,
            host,
            port,
            user,
            database,
            password,
            sslmode,
            sslrootcert: of(parameter("sslrootcert"), "sslrootcert"),
            requires_binding,
            connect_timeout,
            statement_timeout: server::statement_timeout(table),
        })
    }
}

pub(super) fn home() -> PathBuf {
    std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(|| PathBuf::from("/"))
}

/// <https://www.postgresql.org/docs/current/libpq-pgservice.html>
async fn service(name: &str, file: Option<PathBuf>) -> Result<BTreeMap<String, String>> {
    let file = file.unwrap_or_else(|| home().join(".pg_service.conf"));
    let shown = file.display();
    let text = tokio::fs::read_to_string(&file).await;
    let text = text.map_err(|error| plan_datafusion_err!("the service file {shown} cannot be read: {error}"))?;
    of_service(&text, name).ok_or_else(|| plan_datafusion_err!("the service file {shown} has no [{name}]"))
}

fn of_service(text: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut lines =
        lines.skip_while(|line| line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) != Some(name));
    lines.next()?;
    let of_section = lines.take_while(|line| !line.starts_with('['));
    let pair = |line: &str| line.split_once('=').map(|(key, value)| (key.trim().to_string(), value.trim().to_string()));
    Some(of_section.filter_map(pair).collect())
}

/// <https://www.postgresql.org/docs/current/libpq-pgpass.html>. As libpq does, it passes over a file that others may read.
pub(crate) async fn of_password_file(
    file: Option<PathBuf>,
    host: &str,
    port: u16,
    database: &str,
    user: &str,
) -> Option<String> {
    let file = file.unwrap_or_else(|| home().join(".pgpass"));
    let known = tokio::fs::metadata(&file).await.ok()?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&known.permissions());
    if !known.is_file() || mode & 0o077 != 0 {
        tracing::warn!(file = %file.display(), "the password file is passed over: it must be a file that only its owner may read");
        return None;
    }
    let text = tokio::fs::read_to_string(&file).await.ok()?;
    let host = if host.starts_with('/') { "localhost" } else { host };
    let wanted = [host, &port.to_string(), database, user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let [of @ .., password] = fields.as_slice() else { return None };
        let fits = of.len() == 4 && of.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted);
        fits.then(|| password.clone())
    })
}

/// Splits a line of a password file at its colons; `\:` and `\\` are a colon and a backslash. The fifth field may have colons.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let last = fields.len() - 1;
        match character {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields[last].extend(characters.next()),
            character => fields[last].push(character),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_libpqs_without_passwords() {
        let location = Location::parse("postgresql://a%40b@db.example:5433/my%2Fshop?sslmode=require").unwrap().0;
        assert_eq!(location.host.as_deref(), Some("db.example"));
        assert_eq!((location.port, location.user.as_deref()), (Some(5433), Some("a@b")));
        assert_eq!(location.database.as_deref(), Some("my/shop"));
        assert_eq!(location.parameters["sslmode"], "require");
        let socket = Location::parse("postgresql://app@%2Frun%2Fpg/shop").unwrap().0;
        assert_eq!(socket.host.as_deref(), Some("/run/pg"));
        assert_eq!(Location::parse("postgres://u@[::1]/d").unwrap().0.host.as_deref(), Some("::1"));
        for (wrong, words) in [
            ("postgresql://app:hunter2@host/shop", "has a password"),
            ("postgresql://app@host/shop?password=hunter2", "the parameter 'password'"),
            ("mysql://app@host/shop", "scheme mysql"),
            ("hunter2", "not a URL"),
            ("postgresql://app@host/%zz", "wrong %"),
        ] {
            let error = Location::parse(wrong).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn files_are_read_as_libpq_reads_them() {
        let services = "# shops\n[other]\nhost=x\n\n[shop]\nhost = db\nport=5433\nuser=app\n[last]\nuser=z\n";
        let shop = of_service(services, "shop").unwrap();
        assert_eq!((shop["host"].as_str(), shop["port"].as_str(), shop.len()), ("db", "5433", 3));
        assert!(of_service(services, "none").is_none());
        assert_eq!(fields(r"a\:b:1:d:u:p:w\\"), ["a:b", "1", "d", "u", r"p:w\"]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgpass");
        std::fs::write(&file, "#c\nother:*:*:*:no\n*:5432:shop:app:yes\n").unwrap();
        let set = |mode| std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let read = || of_password_file(Some(file.clone()), "db", 5432, "shop", "app");
        set(0o600);
        assert_eq!(read().await.as_deref(), Some("yes"));
        set(0o644);
        assert_eq!(read().await, None);
    }
}
