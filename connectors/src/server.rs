//! A server of databases as a table names it, before the files of one kind of server are read: its location, how the connection to it is protected,
//! and the token that may take the place of a password.

use datafusion::common::{Result, plan_datafusion_err, plan_err};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use std::collections::BTreeMap;
use std::time::Duration;
use url::Url;
use windlass_engine::connector::{OptionKind, OptionSpec, TableSpec};

pub(crate) const AUTH: OptionSpec = OptionSpec::new(
    "auth",
    OptionKind::Choice(&["password", "iam"]),
    "Whether the password is given, or a token of AWS's IAM for a database of RDS or Aurora.",
)
.or("password");
pub(crate) const REGION: OptionSpec = OptionSpec::new(
    "region",
    OptionKind::Text,
    "AWS's region, for auth 'iam'; else that in the host's name, or of AWS's configuration.",
);
pub(crate) const SSLMODE: OptionSpec = OptionSpec::new(
    "sslmode",
    OptionKind::Choice(&["disable", "prefer", "require", "verify-ca", "verify-full"]),
    "How the connection is protected, as in libpq; prefer where nothing says otherwise.",
);
pub(crate) const SSLROOTCERT: OptionSpec =
    OptionSpec::new("sslrootcert", OptionKind::Text, "File of root certificates in PEM on every node, or system.");
pub(crate) const CONNECT_TIMEOUT: OptionSpec = OptionSpec::new(
    "connect_timeout",
    OptionKind::Integer,
    "Seconds that the server may take to let us in; 10 by default.",
);
pub(crate) const STATEMENT_TIMEOUT: OptionSpec = OptionSpec::new(
    "statement_timeout",
    OptionKind::Integer,
    "Milliseconds that a query of the server may take; 0: any.",
)
.or("0");
pub(crate) const CONNECTIONS: OptionSpec = OptionSpec::new(
    "connections",
    OptionKind::Integer,
    "Most connections of one scan, that of its snapshot among them.",
)
.or("8");
pub(crate) const QUERY: OptionSpec =
    OptionSpec::new("query", OptionKind::Text, "A query whose rows the table has, in place of a table.").names_table();
pub(crate) const PUSHDOWN: OptionSpec =
    OptionSpec::new("pushdown", OptionKind::Choice(&["on", "off"]), "Whether the server filters and limits rows.")
        .or("on");

/// Whether the server filters and limits the rows of a table.
pub(crate) fn pushes_down(table: &TableSpec) -> bool {
    !table.options.text(PUSHDOWN.name).is_some_and(|text| text.eq_ignore_ascii_case("off"))
}

/// Says of each filter what a scan does with it. `is_sent`: whether the server has the same answer to it.
pub(crate) fn pushdown(
    table: &TableSpec,
    filters: &[&Expr],
    is_sent: impl Fn(&Expr) -> bool,
) -> Vec<TableProviderFilterPushDown> {
    let of = |filter: &&Expr| match pushes_down(table) && is_sent(filter) {
        true => TableProviderFilterPushDown::Exact,
        false => TableProviderFilterPushDown::Unsupported,
    };
    filters.iter().map(of).collect()
}

/// # Errors
/// An option is less than the number beside it.
pub(crate) fn check_numbers(table: &TableSpec, least: &[(&str, i64)]) -> Result<()> {
    for (option, least) in least {
        if table.options.integer(option).is_some_and(|number| number < *least) {
            return plan_err!("the option '{option}' is less than {least}");
        }
    }
    Ok(())
}

/// How a connection is protected, with the meanings of libpq, whose words MySQL's own clients share.
/// <https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SslMode {
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

impl SslMode {
    /// # Errors
    /// It is none of libpq's words.
    pub fn parse(mode: Option<&str>) -> Result<Self> {
        match mode {
            None | Some("prefer") => Ok(Self::Prefer),
            Some("disable") => Ok(Self::Disable),
            Some("require") => Ok(Self::Require),
            Some("verify-ca") => Ok(Self::VerifyCa),
            Some("verify-full") => Ok(Self::VerifyFull),
            Some(_) => plan_err!("sslmode is disable, prefer, require, verify-ca or verify-full"),
        }
    }
}

/// The locations that one kind of server has.
pub(crate) struct Form {
    pub schemes: &'static [&'static str],
    /// An example, behind `expected`.
    pub example: &'static str,
    /// Parameters that may stand after the `?`.
    pub parameters: &'static [&'static str],
    /// Where a password may be, as it cannot be in the location.
    pub passwords: &'static str,
}

/// What a location says. Absent: that part is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub database: Option<String>,
    pub parameters: BTreeMap<String, String>,
}

impl Location {
    /// # Errors
    /// It is no location of this form, or has a password. No message shows it: it may have one where none is expected.
    pub fn parse(location: &str, form: &Form) -> Result<Self> {
        let expected = format!("expected {}", form.example);
        let Ok(url) = Url::parse(location) else { return plan_err!("the location is not a URL: {expected}") };
        if !form.schemes.contains(&url.scheme()) {
            return plan_err!("the location is of the scheme {}: {expected}", url.scheme());
        }
        if url.password().is_some() {
            return plan_err!("the location has a password, and locations are shown: use {}", form.passwords);
        }
        let text = |text: &str| match decoded(text) {
            Some(text) if text.is_empty() => Ok(None),
            Some(text) => Ok(Some(text)),
            None => plan_err!("the location has a wrong % in it: {expected}"),
        };
        let database = text(url.path().trim_start_matches('/'))?;
        let (user, host) = (text(url.username())?, text(url.host_str().unwrap_or_default())?);
        let host = host.map(|host| host.trim_start_matches('[').trim_end_matches(']').to_string());
        let mut parameters = BTreeMap::new();
        for (name, value) in url.query_pairs() {
            if !form.parameters.contains(&name.as_ref()) {
                return plan_err!("the location has the parameter '{name}': expected {}", form.parameters.join(", "));
            }
            parameters.insert(name.into_owned(), value.into_owned());
        }
        Ok(Self { host, port: url.port(), user, database, parameters })
    }
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

/// Whether a token of AWS's IAM takes the place of the password.
pub(crate) fn uses_iam(table: &TableSpec) -> bool {
    table.options.text("auth").is_some_and(|auth| auth.eq_ignore_ascii_case("iam"))
}

/// Returns the token of AWS's IAM with which `user` may enter.
///
/// # Errors
/// Others might see it, there is a password too, or AWS gives none.
pub(crate) async fn token(
    table: &TableSpec,
    sslmode: SslMode,
    has_password: bool,
    (host, port, user): (&str, u16, &str),
) -> Result<String> {
    if matches!(sslmode, SslMode::Disable | SslMode::Prefer) {
        return plan_err!(
            "auth 'iam' sends a token, which nobody else may see: use OPTIONS (sslmode 'verify-full', sslrootcert '…'), or 'require'"
        );
    }
    if has_password {
        return plan_err!("auth 'iam' takes the place of a password, and there is one");
    }
    let made = of_iam(host, port, user, table.options.text("region")).await;
    made.map_err(|why| plan_datafusion_err!("{why}"))
}

#[cfg(feature = "aws")]
async fn of_iam(host: &str, port: u16, user: &str, region: Option<&str>) -> Result<String, String> {
    crate::rds::Database { host, port, user, region }.token().await
}

#[cfg(not(feature = "aws"))]
async fn of_iam(_: &str, _: u16, _: &str, _: Option<&str>) -> Result<String, String> {
    Err("auth 'iam' is not part of this program: it was built without AWS".to_string())
}

/// Returns how long the server may take to let us in: 10 s where nothing is said.
///
/// # Errors
/// It is no number of seconds.
pub(crate) fn connect_timeout(said: Option<String>) -> Result<Duration> {
    let seconds = match said {
        Some(text) => text.parse().map_err(|_| plan_datafusion_err!("connect_timeout is a number of seconds"))?,
        None => 10,
    };
    Ok(Duration::from_secs(seconds))
}

/// Returns how long a query of the server may take. Zero: as long as it takes.
pub(crate) fn statement_timeout(table: &TableSpec) -> Duration {
    let milliseconds = table.options.integer("statement_timeout").unwrap_or(0);
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
}
