//! What requests say: paths, parameters and bodies, read as Livy reads them. A field of a body that Livy does not know is refused.

use super::answers::Kind;
use super::refusal::Refusal;
use crate::requests::BODY_BYTES;
use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};
use windlass_scheduler::services::batches::NewBatch;
use windlass_scheduler::services::interactive::{Asked, Key, NewSession};

/// Longest wait of a request for the end of a statement.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

// ---- paths

/// What a path names.
pub(super) struct Named<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let named = Path::from_request_parts(parts, state).await;
        named.map(|Path(named)| Named(named)).map_err(|error| Refusal::bad(error.body_text()))
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfSession {
    /// Number of the session or the batch, or else its name.
    #[param(example = "0")]
    id: String,
}

impl OfSession {
    pub fn key(&self) -> Key {
        key(&self.id)
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfStatement {
    /// Number of the session, or else its name.
    #[param(example = "0")]
    id: String,
    /// Number of the statement in its session, from 0.
    #[serde(deserialize_with = "number")]
    pub statement: u32,
}

impl OfStatement {
    pub fn key(&self) -> Key {
        key(&self.id)
    }
}

/// Returns the session that a path names: a number, or else a name.
fn key(text: &str) -> Key {
    match text.parse() {
        Ok(id) if text.bytes().all(|c| c.is_ascii_digit()) => Key::Id(id),
        _ => Key::Name(text.to_string()),
    }
}

/// Reads a number, and says which text is none.
fn number<'de, D: Deserializer<'de>, N: std::str::FromStr>(of: D) -> Result<N, D::Error> {
    let text = String::deserialize(of)?;
    text.trim().parse().map_err(|_| D::Error::custom(format!("\"{text}\" is not a number that can be here")))
}

fn maybe_number<'de, D: Deserializer<'de>>(of: D) -> Result<Option<i64>, D::Error> {
    number(of).map(Some)
}

// ---- parameters

/// Parameters of a request.
pub(super) struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let asked = Query::try_from_uri(&parts.uri);
        asked.map(|Query(asked)| Parameters(asked)).map_err(|error| Refusal::bad(error.body_text()))
    }
}

/// A part of a list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// Position of the first one, from 0.
    #[serde(default, deserialize_with = "maybe_number")]
    #[param(default = 0)]
    from: Option<i64>,
    /// Maximum length of the list; a negative one is 0.
    #[serde(default, deserialize_with = "maybe_number")]
    #[param(default = 100)]
    size: Option<i64>,
}

/// Sessions and batches in a list that asks for no number, and lines of a log.
const PAGE: usize = 100;

impl Page {
    /// Returns the position of the first one, and the maximum length.
    pub fn bounds(&self) -> (usize, usize) {
        (count(self.from).unwrap_or(0), count(self.size).unwrap_or(PAGE))
    }
}

fn count(number: Option<i64>) -> Option<usize> {
    number.map(|number| usize::try_from(number).unwrap_or(0))
}

/// A part of a log.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageOfLog {
    /// Position of the first line, from 0. Without one, or with a negative one, the last lines are returned.
    #[serde(default, deserialize_with = "maybe_number")]
    from: Option<i64>,
    /// Maximum number of lines; a negative one is no limit.
    #[serde(default, deserialize_with = "maybe_number")]
    #[param(default = 100)]
    size: Option<i64>,
}

impl PageOfLog {
    /// Returns the position of the first line, and the lines.
    pub fn of(&self, lines: &[String]) -> (usize, Vec<String>) {
        let unsigned = |number: i64| usize::try_from(number).ok();
        let size = self.size.map_or(PAGE, |size| unsigned(size).unwrap_or(lines.len()));
        let from = self.from.and_then(unsigned).unwrap_or(lines.len().saturating_sub(size));
        (from, lines.iter().skip(from).take(size).cloned().collect())
    }
}

/// A part of the statements of a session.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageOfStatements {
    /// `desc`: newest first. Anything else: oldest first.
    #[param(example = "desc")]
    order: Option<String>,
    /// Position of the first one in this order, from 0.
    #[serde(default, deserialize_with = "maybe_number")]
    #[param(default = 0)]
    from: Option<i64>,
    /// Maximum length of the list; a negative one is 0. Without one, all are returned.
    #[serde(default, deserialize_with = "maybe_number")]
    size: Option<i64>,
}

impl PageOfStatements {
    pub fn newest_first(&self) -> bool {
        self.order.as_deref().is_some_and(|order| order.trim().eq_ignore_ascii_case("desc"))
    }

    /// Returns the position of the first one, and the maximum length.
    pub fn bounds(&self) -> (usize, Option<usize>) {
        (count(self.from).unwrap_or(0), count(self.size))
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DoAs {
    /// User for whom the session or the batch acts. It counts before `proxyUser` of the body.
    #[serde(rename = "doAs")]
    do_as: Option<String>,
}

/// A wait for the end of a statement.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wait {
    /// Maximum milliseconds to wait for the end of the statement. More than a minute counts as a minute.
    #[serde(default, deserialize_with = "maybe_number")]
    #[param(default = 0)]
    wait: Option<i64>,
}

impl Wait {
    /// Returns how long a request waits: as the parameter says, or else the header `Prefer: wait=`, in seconds.
    pub fn of(&self, headers: &HeaderMap) -> Duration {
        let asked = match self.wait {
            Some(ms) => Duration::from_millis(u64::try_from(ms).unwrap_or(0)),
            None => {
                let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
                let mut waits = preferences.flat_map(|value| value.split([',', ';'])).filter_map(|one| {
                    let (name, value) = one.split_once('=')?;
                    let seconds = value.trim().trim_matches('"').parse().ok()?;
                    name.trim().eq_ignore_ascii_case("wait").then(|| Duration::from_secs(seconds))
                });
                waits.next().unwrap_or_default()
            }
        };
        asked.min(LONGEST_WAIT)
    }
}

// ---- bodies

/// A body in JSON, whatever its content type says.
pub(super) struct Sent<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let unreadable = |error: &dyn std::fmt::Display| Refusal::bad(format!("the body cannot be read: {error}"));
        // It has been read from the connection.
        let bytes = to_bytes(request.into_body(), BODY_BYTES).await.map_err(|error| unreadable(&error))?;
        serde_json::from_slice(&bytes).map(Sent).map_err(|error| unreadable(&error))
    }
}

/// Defines the body that creates a session or a batch: its own fields and those of both.
macro_rules! creates {
    ($(#[$about:meta])* $name:ident { $($own:tt)* }) => {
        $(#[$about])*
        #[derive(Deserialize, ToSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub(super) struct $name {
            $($own)*
            /// Name, by which calls find it too. It is unique among those that are known.
            name: Option<String>,
            /// User for whom it acts.
            proxy_user: Option<String>,
            /// Pool of its jobs: `windlass.pool`.
            queue: Option<String>,
            /// Options of Windlass and DataFusion, and some of Spark's. The log names those that are ignored.
            conf: Option<Conf>,
            /// Files of Python, which the Python of a session, or a batch's program, imports.
            py_files: Option<Vec<String>>,
            /// Further files beside it.
            files: Option<Vec<String>>,
            /// Memory of a session's Python, such as `2g`. Otherwise ignored.
            driver_memory: Option<String>,
            /// Ignored, as are the fields below.
            driver_cores: Option<u32>,
            executor_memory: Option<String>,
            executor_cores: Option<u32>,
            num_executors: Option<u32>,
            jars: Option<Vec<String>>,
            archives: Option<Vec<String>>,
        }

        impl $name {
            /// Returns what sessions and batches have in common.
            fn common(self, by: DoAs) -> Asked {
                Asked {
                    name: self.name,
                    proxy_user: by.do_as.or(self.proxy_user),
                    conf: self.conf.map(|conf| conf.0).unwrap_or_default(),
                    queue: self.queue,
                    driver_memory: self.driver_memory,
                    driver_cores: self.driver_cores,
                    executor_memory: self.executor_memory,
                    executor_cores: self.executor_cores,
                    num_executors: self.num_executors,
                    jars: self.jars.unwrap_or_default(),
                    py_files: self.py_files.unwrap_or_default(),
                    files: self.files.unwrap_or_default(),
                    archives: self.archives.unwrap_or_default(),
                    ..Asked::default()
                }
            }
        }
    };
}

creates! {
    /// A session to open. No field is required.
    CreateSession {
        /// Kind of statements that name none. Default: `shared`.
        kind: Option<Kind>,
        /// Seconds without a request after which the session ends. 0, the default: no limit.
        heartbeat_timeout_in_second: Option<u32>,
        /// Life of the session: a number with a unit (`us`, `ms`, `s`, `m`, `min`, `h`, `d`), or milliseconds. Default: no limit.
        #[schema(example = "10h")]
        ttl: Option<String>,
        /// Time without a statement after which the session ends. Default: `interactive_idle` of the configuration, an hour.
        #[schema(example = "30m")]
        idle_timeout: Option<String>,
    }
}

creates! {
    /// A batch to run.
    CreateBatch {
        /// Path on the primary's machine, or URL, of a script of SQL (`.sql`) or a program of Python (`.py`).
        #[schema(example = "wfs:///jobs/nightly.sql")]
        file: String,
        /// Values of `$1`, `$2`, … of the script, or arguments of the program.
        args: Option<Vec<String>>,
        /// Ignored.
        #[expect(dead_code, reason = "clients send it")]
        class_name: Option<String>,
    }
}

impl CreateSession {
    /// Returns the session that it asks for.
    ///
    /// # Errors
    /// A time or the name is wrong.
    pub fn session(mut self, by: DoAs) -> Result<NewSession, Refusal> {
        if let Some(name) = &self.name
            && name.chars().all(|c| c.is_ascii_digit())
        {
            return Err(Refusal::bad(format!(
                "Invalid session name: \"{name}\" has digits alone, as numbers of sessions"
            )));
        }
        let kind = self.kind.map(Into::into).unwrap_or_default();
        let heartbeat_timeout_s = self.heartbeat_timeout_in_second.unwrap_or(0);
        let heartbeat = (heartbeat_timeout_s > 0).then(|| Duration::from_secs(heartbeat_timeout_s.into()));
        let (ttl, idle_timeout) = (self.ttl.take(), self.idle_timeout.take());
        let times = |text: &Option<String>| text.as_deref().map(span).transpose();
        let (life, idle) = (times(&ttl)?, times(&idle_timeout)?);
        let asked = Asked { kind, ttl, idle_timeout, heartbeat_timeout_s, ..self.common(by) };
        Ok(NewSession { asked, ttl: life, idle, heartbeat })
    }
}

impl CreateBatch {
    /// Returns the batch that it asks for.
    ///
    /// # Errors
    /// It names no file.
    pub fn batch(mut self, by: DoAs) -> Result<NewBatch, Refusal> {
        let file = std::mem::take(&mut self.file);
        if file.is_empty() {
            return Err(Refusal::bad("requirement failed: file must be specified."));
        }
        let args = self.args.take().unwrap_or_default();
        Ok(NewBatch { file, args, asked: self.common(by) })
    }
}

/// A statement to run.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Execute {
    /// At most 1 MiB.
    #[schema(example = "select 1 as one")]
    pub code: String,
    /// Kind of the code. Default: the kind of the session. A `shared` session has none.
    pub kind: Option<Kind>,
}

/// Code that is being written.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Complete {
    #[schema(example = "sel")]
    pub code: String,
    /// Kind of the code. Default: the kind of the session. In code of other kinds than `sql` there are candidates for the SQL in its texts.
    pub kind: Option<Kind>,
    /// Characters before the cursor. More than there are count as all.
    #[schema(example = 3)]
    pub cursor: usize,
}

/// Values of options by name. Numbers and flags are read as their texts.
#[derive(Default, ToSchema)]
#[schema(value_type = BTreeMap<String, Setting>, example = json!({ "spark.sql.session.timeZone": "UTC" }))]
struct Conf(BTreeMap<String, String>);

/// A value of an option.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what is read as a text")]
enum Setting {
    Text(String),
    Number(f64),
    Flag(bool),
}

impl<'de> Deserialize<'de> for Conf {
    fn deserialize<D: Deserializer<'de>>(of: D) -> Result<Self, D::Error> {
        let text = |(name, value): (String, Value)| match value {
            Value::String(text) => Ok((name, text)),
            Value::Number(_) | Value::Bool(_) => Ok((name, value.to_string())),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                Err(D::Error::custom(format!("conf: the value of {name} is not a text")))
            }
        };
        BTreeMap::<String, Value>::deserialize(of)?.into_iter().map(text).collect::<Result<_, _>>().map(Conf)
    }
}

/// Reads a time as Livy does: a number with a unit, or milliseconds.
fn span(text: &str) -> Result<Duration, Refusal> {
    let lower = text.trim().to_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let wrong = || Refusal::bad(format!("Invalid time string: \"{text}\" is not a time such as \"10m\""));
    let number: u64 = lower[..digits].parse().map_err(|_| wrong())?;
    let of = |scale: u64| number.checked_mul(scale).ok_or_else(wrong);
    Ok(match &lower[digits..] {
        "us" => Duration::from_micros(number),
        "" | "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" | "min" => Duration::from_secs(of(60)?),
        "h" => Duration::from_secs(of(3_600)?),
        "d" => Duration::from_secs(of(86_400)?),
        _ => return Err(wrong()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> Result<NewSession, String> {
        let create: CreateSession = serde_json::from_str(body).map_err(|error| error.to_string())?;
        create.session(DoAs { do_as: None }).map_err(|refusal| refusal.message)
    }

    #[test]
    fn bodies_are_read_as_livy_does() {
        let new = parsed(
            r#"{"kind": "python", "name": "Ünï", "conf": {"a": 1, "b": true, "c": "x"}, "ttl": "10m", "idleTimeout": "90s",
                "heartbeatTimeoutInSecond": 5, "numExecutors": 2, "jars": null, "driverMemory": "1g"}"#,
        );
        let NewSession { asked, ttl, idle, heartbeat } = new.unwrap();
        let conf: Vec<(&str, &str)> = asked.conf.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(conf, [("a", "1"), ("b", "true"), ("c", "x")]);
        assert_eq!((Kind::from(asked.kind), asked.num_executors, asked.jars.len()), (Kind::PySpark, Some(2), 0));
        let seconds = [ttl, idle, heartbeat].map(|time| time.map(|time| time.as_secs()));
        assert_eq!(seconds, [Some(600), Some(90), Some(5)]);
        assert_eq!(parsed("{}").unwrap().asked, Asked::default());
        for (body, word) in [
            (r#"{"kind": "cobol"}"#, "cobol"),
            (r#"{"kinds": "sql"}"#, "kinds"),
            (r#"{"name": "12"}"#, "\"12\""),
            (r#"{"name": ""}"#, "Invalid session name"),
            (r#"{"ttl": "soon"}"#, "soon"),
            (r#"{"ttl": "99999999999999999999d"}"#, "Invalid time"),
            (r#"{"file": "a.sql"}"#, "file"),
            (r#"{"conf": {"a": [1]}}"#, "conf"),
            (r#"{"driverCores": -1}"#, "-1"),
            ("", "EOF"),
            ("[1", "expected value"),
        ] {
            let error = parsed(body).unwrap_err();
            assert!(error.contains(word), "{body}: {error}");
        }
    }

    #[test]
    fn a_wait_is_a_parameter_or_a_header() {
        let of = |query: &str, header: Option<&str>| {
            let uri = format!("/sessions/0/statements/0?{query}").parse().unwrap();
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert("prefer", header.parse().unwrap());
            }
            let asked = Query::<Wait>::try_from_uri(&uri).map_err(|error| error.body_text());
            asked.map(|Query(wait)| wait.of(&headers).as_millis())
        };
        assert_eq!(of("", None), Ok(0));
        assert_eq!(of("wait=250", Some("wait=10")), Ok(250));
        assert_eq!(of("wait=-1", None), Ok(0));
        assert_eq!(of("", Some("respond-async, wait=10")), Ok(10_000));
        assert_eq!(of("wait=99999999", None), Ok(60_000));
        assert!(of("wait=soon", None).unwrap_err().contains("wait: \"soon\" is not a number"));
    }

    #[test]
    fn a_page_of_a_log_is_its_end_unless_it_is_said_where_it_begins() {
        let lines: Vec<String> = (0..300).map(|line| line.to_string()).collect();
        let of = |from, size| {
            let (at, lines) = PageOfLog { from, size }.of(&lines);
            (at, lines.len())
        };
        assert_eq!(of(None, None), (200, 100));
        assert_eq!(of(None, Some(7)), (293, 7));
        assert_eq!(of(Some(-1), Some(7)), (293, 7));
        assert_eq!(of(Some(10), None), (10, 100));
        assert_eq!(of(None, Some(-1)), (0, 300));
        assert_eq!(of(Some(i64::MAX), Some(i64::MAX)), (i64::MAX as usize, 0));
        assert_eq!(of(Some(0), Some(0)), (0, 0));
    }
}
