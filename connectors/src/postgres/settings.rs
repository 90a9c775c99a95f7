//! Where a server is, as whom to enter, and with what: of a table's location and options, the service file and the password file.

use datafusion::common::{Result, plan_datafusion_err, plan_err};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;
use windlass_engine::connector::TableSpec;

/// Parameters that may stand after the `?` of a location, with libpq's meanings.
const PARAMETERS: [&str; 5] = ["sslmode", "sslrootcert", "channel_binding", "connect_timeout", "service"];

/// How a connection is protected, with libpq's meanings.
/// <https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SslMode {
    Disable,
    /// With TLS where the server has it, whoever it is.
    Prefer,
    /// With TLS; whoever it is, unless there is a root certificate.
    Require,
    /// Its certificate is of an authority that is trusted.
    VerifyCa,
    /// That, and of the host's name.
    VerifyFull,
}

/// A server and a database, and how to reach it. Its debug form has no password.
#[derive(Clone)]
pub(super) struct Settings {
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
pub(super) struct Location {
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    database: Option<String>,
    parameters: BTreeMap<String, String>,
}

impl Location {
    /// # Errors
    /// It is no location of a PostgreSQL database, or has a password. No message shows it: it may have one where none is expected.
    pub fn parse(location: &str) -> Result<Self> {
        const EXPECTED: &str = "expected postgresql://user@host:port/database";
        let Ok(url) = Url::parse(location) else { return plan_err!("the location is not a URL: {EXPECTED}") };
        if !["postgresql", "postgres"].contains(&url.scheme()) {
            return plan_err!("the location is of the scheme {}: {EXPECTED}", url.scheme());
        }
        if url.password().is_some() {
            return plan_err!(
                "the location has a password, and locations are shown: use OPTIONS (password '…'), a password file or a service"
            );
        }
        let text = |text: &str| match decoded(text) {
            Some(text) if text.is_empty() => Ok(None),
            Some(text) => Ok(Some(text)),
            None => plan_err!("the location has a wrong % in it: {EXPECTED}"),
        };
        let database = text(url.path().trim_start_matches('/'))?;
        let (user, host) = (text(url.username())?, text(url.host_str().unwrap_or_default())?);
        let host = host.map(|host| host.trim_start_matches('[').trim_end_matches(']').to_string());
        let mut parameters = BTreeMap::new();
        for (name, value) in url.query_pairs() {
            if !PARAMETERS.contains(&name.as_ref()) {
                return plan_err!("the location has the parameter '{name}': expected {}", PARAMETERS.join(", "));
            }
            parameters.insert(name.into_owned(), value.into_owned());
        }
        Ok(Self { host, port: url.port(), user, database, parameters })
    }

    /// Reads the files that complete it, which are those of this machine.
    ///
    /// # Errors
    /// A file that is named cannot be read, or something is missing.
    pub async fn settings(&self, table: &TableSpec) -> Result<Settings> {
        let option = |name: &str| table.options.text(name).map(str::to_string);
        let parameter = |name: &str| option(name).or_else(|| self.parameters.get(name).cloned());
        let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let service = match parameter("service").or_else(|| environment("PGSERVICE")) {
            Some(name) => service(&name, environment("PGSERVICEFILE").map(PathBuf::from)).await?,
            None => BTreeMap::new(),
        };
        let of = |said: Option<String>, name: &str| said.or_else(|| service.get(name).cloned());
        let host = of(self.host.clone(), "host").unwrap_or_else(|| "localhost".to_string());
        let port = match of(self.port.map(|port| port.to_string()), "port") {
            Some(port) => port.parse().map_err(|_| plan_datafusion_err!("'{port}' is no port"))?,
            None => 5432,
        };
        let Some(user) = of(self.user.clone(), "user") else {
            return plan_err!("nobody says as which user to connect: write postgresql://user@host/database");
        };
        let database = of(self.database.clone(), "dbname").unwrap_or_else(|| user.clone());
        let sslmode = match of(parameter("sslmode"), "sslmode").as_deref() {
            None | Some("prefer") => SslMode::Prefer,
            Some("disable") => SslMode::Disable,
            Some("require") => SslMode::Require,
            Some("verify-ca") => SslMode::VerifyCa,
            Some("verify-full") => SslMode::VerifyFull,
            Some(_) => return plan_err!("sslmode is disable, prefer, require, verify-ca or verify-full"),
        };
        let uses_iam = option("auth").is_some_and(|auth| auth.eq_ignore_ascii_case("iam"));
        let password = match of(option("password"), "password") {
            _ if uses_iam && matches!(sslmode, SslMode::Disable | SslMode::Prefer) => {
                return plan_err!(
                    "auth 'iam' sends a token, which nobody else may see: use OPTIONS (sslmode 'verify-full', sslrootcert '…'), or 'require'"
                );
            }
            Some(_) if uses_iam => return plan_err!("auth 'iam' takes the place of a password, and there is one"),
            None if uses_iam => {
                let region = option("region");
                Some(token(&host, port, &user, region.as_deref()).await.map_err(|why| plan_datafusion_err!("{why}"))?)
            }
            Some(password) => Some(password),
            None => of_password_file(environment("PGPASSFILE").map(PathBuf::from), &host, port, &database, &user).await,
        };
        let requires_binding = match of(parameter("channel_binding"), "channel_binding").as_deref() {
            None | Some("prefer") => false,
            Some("require") => true,
            Some(_) => return plan_err!("channel_binding is prefer or require"),
        };
        let seconds = match of(parameter("connect_timeout"), "connect_timeout") {
            Some(text) => text.parse().map_err(|_| plan_datafusion_err!("connect_timeout is a number of seconds"))?,
            None => 10,
        };
        let statement_timeout = table.options.integer("statement_timeout").unwrap_or(0);
        Ok(Settings {
            host,
            port,
            user,
            database,
            password,
            sslmode,
            sslrootcert: of(parameter("sslrootcert"), "sslrootcert"),
            requires_binding,
            connect_timeout: Duration::from_secs(seconds),
            statement_timeout: Duration::from_millis(u64::try_from(statement_timeout).unwrap_or(0)),
        })
    }
}

#[cfg(feature = "aws")]
async fn token(host: &str, port: u16, user: &str, region: Option<&str>) -> Result<String, String> {
    crate::rds::Database { host, port, user, region }.token().await
}

#[cfg(not(feature = "aws"))]
async fn token(_: &str, _: u16, _: &str, _: Option<&str>) -> Result<String, String> {
    Err("auth 'iam' is not part of this program: it was built without AWS".to_string())
}

/// `%41` as `A`.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
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
async fn of_password_file(file: Option<PathBuf>, host: &str, port: u16, database: &str, user: &str) -> Option<String> {
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
        let location = Location::parse("postgresql://a%40b@db.example:5433/my%2Fshop?sslmode=require").unwrap();
        assert_eq!(location.host.as_deref(), Some("db.example"));
        assert_eq!((location.port, location.user.as_deref()), (Some(5433), Some("a@b")));
        assert_eq!(location.database.as_deref(), Some("my/shop"));
        assert_eq!(location.parameters["sslmode"], "require");
        let socket = Location::parse("postgresql://app@%2Frun%2Fpg/shop").unwrap();
        assert_eq!(socket.host.as_deref(), Some("/run/pg"));
        assert_eq!(Location::parse("postgres://u@[::1]/d").unwrap().host.as_deref(), Some("::1"));
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
