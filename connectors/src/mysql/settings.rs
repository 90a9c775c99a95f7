//! Where a server is, as whom to enter, and with what: of a table's location and options, and the [client] section of `~/.my.cnf`.

pub(super) use crate::server::SslMode;
use crate::server::{self, Form};
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use windlass_engine::connector::TableSpec;

const PORT: u16 = 3306;
const FORM: Form = Form {
    schemes: &["mysql", "mariadb"],
    example: "mysql://user@host:port/database",
    parameters: &["sslmode", "sslrootcert", "connect_timeout"],
    passwords: "OPTIONS (password '…'), a secret or ~/.my.cnf",
};

/// A server and a database, and how to reach it. Its debug form has no password.
#[derive(Clone)]
pub(super) struct Settings {
    /// A name, an address, or the path of a socket.
    pub host: String,
    pub port: u16,
    pub user: String,
    /// Of names that stand alone. Absent: there are none.
    pub database: Option<String>,
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
        let Self { host, port, user, .. } = self;
        format!("{user}@{host}:{port}/{}", self.database.as_deref().unwrap_or_default())
    }

    pub fn socket(&self) -> Option<&str> {
        self.host.starts_with('/').then_some(self.host.as_str())
    }
}

/// The server as a table names it, before any file is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    at: server::Location,
    pub database: Option<String>,
}

impl Location {
    /// # Errors
    /// It is no location of a database of MySQL, or has a password. No message shows it: it may have one where none is expected.
    pub fn parse(location: &str) -> Result<Self> {
        let at = server::Location::parse(location, &FORM)?;
        let database = at.database.clone();
        Ok(Self { at, database })
    }

    /// Reads the file that completes it, which is one of this machine.
    ///
    /// # Errors
    /// Something is missing or not understood.
    pub async fn settings(&self, table: &TableSpec) -> Result<Settings> {
        let option = |name: &str| table.options.text(name).map(str::to_string);
        let parameter = |name: &str| option(name).or_else(|| self.at.parameters.get(name).cloned());
        let file = of_option_file().await;
        let of = |said: Option<String>, name: &str| said.or_else(|| file.get(name).cloned());
        let host = of(self.at.host.clone(), "host").unwrap_or_else(|| "localhost".to_string());
        let port = match of(self.at.port.map(|port| port.to_string()), "port") {
            Some(port) => port.parse().map_err(|_| plan_datafusion_err!("'{port}' is no port"))?,
            None => PORT,
        };
        let Some(user) = of(self.at.user.clone(), "user") else {
            return plan_err!("nobody says as which user to connect: write mysql://user@host/database");
        };
        let environment = || std::env::var("MYSQL_PWD").ok().filter(|value| !value.is_empty());
        let sslmode = SslMode::parse(parameter("sslmode").map(|mode| mode.to_ascii_lowercase()).as_deref())?;
        let (password, uses_iam) = (option("password"), server::uses_iam(table));
        let password = if uses_iam {
            Some(server::token(table, sslmode, password.is_some(), (&host, port, &user)).await?)
        } else {
            of(password, "password").or_else(environment)
        };
        Ok(Settings {
            host,
            port,
            user,
            database: self.database.clone(),
            password,
            uses_iam,
            sslmode,
            sslrootcert: parameter("sslrootcert"),
            connect_timeout: server::connect_timeout(parameter("connect_timeout"))?,
            statement_timeout: server::statement_timeout(table),
        })
    }
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
        assert_eq!((location.at.host.as_deref(), location.at.port), (Some("db"), Some(3307)));
        assert_eq!((location.at.user.as_deref(), location.database.as_deref()), (Some("app"), Some("shop")));
        assert_eq!(Location::parse("mysql://app@db").unwrap().database, None);
        let socket = Location::parse("mariadb://app@%2Frun%2Fmysqld%2Fmysqld.sock/shop").unwrap();
        assert_eq!(socket.at.host.as_deref(), Some("/run/mysqld/mysqld.sock"));
        for (location, words) in [
            ("mysql://app:hunter2@db/shop", "has a password"),
            ("postgresql://app@db/shop", "of the scheme postgresql"),
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
