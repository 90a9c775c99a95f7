//! Where a server is, as whom to enter, and with what: of a table's location and options, and the [client] section of `~/.my.cnf`.

use datafusion::common::{Result, plan_datafusion_err, plan_err};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;
use windlass_engine::connector::TableSpec;

/// Parameters that may stand after the `?` of a location.
const PARAMETERS: [&str; 3] = ["sslmode", "sslrootcert", "connect_timeout"];
const PORT: u16 = 3306;

/// How a connection is protected, with the meanings of libpq, whose words MySQL's own clients share.
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
    /// A name, an address, or the path of a socket.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub database: String,
    pub password: Option<String>,
    /// The password is a token of AWS's IAM, which the server wants as it is.
    pub uses_iam: bool,
    pub sslmode: SslMode,
    /// A file of certificates in PEM. Absent, or `system`: those of the system.
    pub sslrootcert: Option<String>,
    pub connect_timeout: Duration,
    /// For each query that reads; zero: as long as it takes.
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

    pub fn socket(&self) -> Option<&str> {
        self.host.starts_with('/').then_some(self.host.as_str())
    }
}

/// The server as a table names it, before any file is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    pub database: String,
    parameters: BTreeMap<String, String>,
}

impl Location {
    /// # Errors
    /// It is no location of a database of MySQL, or has a password. No message shows it: it may have one where none is expected.
    pub fn parse(location: &str) -> Result<Self> {
        const EXPECTED: &str = "expected mysql://user@host:port/database";
        let Ok(url) = Url::parse(location) else { return plan_err!("the location is not a URL: {EXPECTED}") };
        if !["mysql", "mariadb"].contains(&url.scheme()) {
            return plan_err!("the location is of the scheme {}: {EXPECTED}", url.scheme());
        }
        if url.password().is_some() {
            return plan_err!(
                "the location has a password, and locations are shown: use OPTIONS (password '…'), a secret or ~/.my.cnf"
            );
        }
        let text = |text: &str| match decoded(text) {
            Some(text) if text.is_empty() => Ok(None),
            Some(text) => Ok(Some(text)),
            None => plan_err!("the location has a wrong % in it: {EXPECTED}"),
        };
        let Some(database) = text(url.path().trim_start_matches('/'))? else {
            return plan_err!("the location names no database: {EXPECTED}");
        };
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

    /// Reads the file that completes it, which is one of this machine.
    ///
    /// # Errors
    /// Something is missing or not understood.
    pub async fn settings(&self, table: &TableSpec) -> Result<Settings> {
        let option = |name: &str| table.options.text(name).map(str::to_string);
        let parameter = |name: &str| option(name).or_else(|| self.parameters.get(name).cloned());
        let file = of_option_file().await;
        let of = |said: Option<String>, name: &str| said.or_else(|| file.get(name).cloned());
        let host = of(self.host.clone(), "host").unwrap_or_else(|| "localhost".to_string());
        let port = match of(self.port.map(|port| port.to_string()), "port") {
            Some(port) => port.parse().map_err(|_| plan_datafusion_err!("'{port}' is no port"))?,
            None => PORT,
        };
        let Some(user) = of(self.user.clone(), "user") else {
            return plan_err!("nobody says as which user to connect: write mysql://user@host/database");
        };
        let environment = || std::env::var("MYSQL_PWD").ok().filter(|value| !value.is_empty());
        let sslmode = match parameter("sslmode").map(|mode| mode.to_ascii_lowercase()).as_deref() {
            None | Some("prefer") => SslMode::Prefer,
            Some("disable") => SslMode::Disable,
            Some("require") => SslMode::Require,
            Some("verify-ca") => SslMode::VerifyCa,
            Some("verify-full") => SslMode::VerifyFull,
            Some(_) => return plan_err!("sslmode is disable, prefer, require, verify-ca or verify-full"),
        };
        let uses_iam = option("auth").is_some_and(|auth| auth.eq_ignore_ascii_case("iam"));
        let password = match option("password") {
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
            password => of(password, "password").or_else(environment),
        };
        let seconds = match parameter("connect_timeout") {
            Some(text) => text.parse().map_err(|_| plan_datafusion_err!("connect_timeout is a number of seconds"))?,
            None => 10,
        };
        let statement_timeout = table.options.integer("statement_timeout").unwrap_or(0);
        Ok(Settings {
            host,
            port,
            user,
            database: self.database.clone(),
            password,
            uses_iam,
            sslmode,
            sslrootcert: parameter("sslrootcert"),
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

/// The `[client]` section of `~/.my.cnf`. A file that others may read is passed over.
async fn of_option_file() -> BTreeMap<String, String> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(|| PathBuf::from("/"));
    let file = home.join(".my.cnf");
    let Ok(known) = tokio::fs::metadata(&file).await else { return BTreeMap::new() };
    let mode = std::os::unix::fs::PermissionsExt::mode(&known.permissions());
    if !known.is_file() || mode & 0o077 != 0 {
        tracing::warn!(file = %file.display(), "the option file is passed over: it must be a file that only its owner may read");
        return BTreeMap::new();
    }
    of_client(&tokio::fs::read_to_string(&file).await.unwrap_or_default())
}

/// <https://dev.mysql.com/doc/refman/8.0/en/option-files.html>
fn of_client(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut is_client = false;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_client = section == "client";
        } else if let Some((key, value)) = line.split_once('=').filter(|_| is_client) {
            let value = value.trim();
            let quoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
            found.insert(key.trim().to_string(), quoted.unwrap_or(value).to_string());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_names_server_user_and_database() {
        let location = Location::parse("mysql://app@db:3307/shop?sslmode=require").unwrap();
        assert_eq!((location.host.as_deref(), location.port), (Some("db"), Some(3307)));
        assert_eq!((location.user.as_deref(), location.database.as_str()), (Some("app"), "shop"));
        let socket = Location::parse("mariadb://app@%2Frun%2Fmysqld%2Fmysqld.sock/shop").unwrap();
        assert_eq!(socket.host.as_deref(), Some("/run/mysqld/mysqld.sock"));
        for (location, words) in [
            ("mysql://app:hunter2@db/shop", "has a password"),
            ("postgresql://app@db/shop", "of the scheme postgresql"),
            ("mysql://app@db", "names no database"),
            ("mysql://app@db/shop?ssl=1", "parameter 'ssl'"),
            ("shop", "not a URL"),
        ] {
            let error = Location::parse(location).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_client_section_is_read() {
        let text = "[mysqld]\nport=1\n[client]\n# it\nuser = app\npassword=\"a b\"\n[other]\nuser=x\n";
        let found = of_client(text);
        assert_eq!(found.get("user").map(String::as_str), Some("app"));
        assert_eq!(found.get("password").map(String::as_str), Some("a b"));
        assert_eq!(found.get("port"), None);
    }
}
