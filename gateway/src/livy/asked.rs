//! What requests say: bodies and parameters, read as Livy reads them. A field that Livy does not know is refused.

use super::refusal::Refusal;
use axum::body::Body;
use axum::http::HeaderMap;
use futures::StreamExt;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use windlass_scheduler::services::batches::NewBatch;
use windlass_scheduler::services::interactive::{Asked, Kind, NewSession};

/// Maximum bytes of a body.
const BODY_BYTES: usize = 8 << 20;
/// Bytes of a body that are read in vain, so that its client hears that it was too large rather than that the connection is gone.
const DRAINED_BYTES: usize = 256 << 20;
/// Longest wait of a request for the end of a statement.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Reads a body as JSON.
pub(super) async fn body<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let (mut chunks, mut bytes, mut total) = (body.into_data_stream(), Vec::new(), 0);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| Refusal::bad(format!("the body ends early: {error}")))?;
        total += chunk.len();
        if total <= BODY_BYTES {
            bytes.extend_from_slice(&chunk);
        } else if total > DRAINED_BYTES {
            break;
        }
    }
    if total > BODY_BYTES {
        return Err(Refusal::too_large(format!("the body has more than {BODY_BYTES} bytes")));
    }
    serde_json::from_slice(&bytes).map_err(|error| Refusal::bad(format!("the body cannot be read: {error}")))
}

/// The body that creates a session or a batch.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Create {
    // A session.
    #[serde(default, deserialize_with = "maybe_kind")]
    kind: Option<Kind>,
    heartbeat_timeout_in_second: Option<u32>,
    ttl: Option<String>,
    idle_timeout: Option<String>,
    // A batch.
    file: Option<String>,
    class_name: Option<String>,
    args: Option<Vec<String>>,
    // Both.
    proxy_user: Option<String>,
    jars: Option<Vec<String>>,
    py_files: Option<Vec<String>>,
    files: Option<Vec<String>>,
    driver_memory: Option<String>,
    driver_cores: Option<u32>,
    executor_memory: Option<String>,
    executor_cores: Option<u32>,
    num_executors: Option<u32>,
    archives: Option<Vec<String>>,
    queue: Option<String>,
    name: Option<String>,
    conf: Option<BTreeMap<String, Value>>,
}

impl Create {
    /// Returns the session that it asks for.
    ///
    /// # Errors
    /// It has a field that sessions have not, or a time or the name is wrong.
    pub fn session(self, parameters: &Parameters) -> Result<NewSession, Refusal> {
        let foreign =
            [("file", self.file.is_some()), ("className", self.class_name.is_some()), ("args", self.args.is_some())];
        if let Some((name, _)) = foreign.iter().find(|(_, is_given)| *is_given) {
            return Err(Refusal::bad(format!("a session has no {name}: see POST /batches")));
        }
        if let Some(name) = &self.name
            && name.chars().all(|c| c.is_ascii_digit())
        {
            return Err(Refusal::bad(format!(
                "Invalid session name: \"{name}\" has digits alone, as numbers of sessions"
            )));
        }
        let heartbeat_timeout_s = self.heartbeat_timeout_in_second.unwrap_or(0);
        let times = |text: &Option<String>| text.as_deref().map(span).transpose();
        let (ttl, idle) = (times(&self.ttl)?, times(&self.idle_timeout)?);
        let heartbeat = (heartbeat_timeout_s > 0).then(|| Duration::from_secs(heartbeat_timeout_s.into()));
        Ok(NewSession { asked: self.asked(parameters)?, ttl, idle, heartbeat })
    }

    /// Returns the batch that it asks for.
    ///
    /// # Errors
    /// It names no file, or has a field that batches have not.
    pub fn batch(mut self, parameters: &Parameters) -> Result<NewBatch, Refusal> {
        let foreign = [
            ("kind", self.kind.is_some()),
            ("ttl", self.ttl.is_some()),
            ("idleTimeout", self.idle_timeout.is_some()),
            ("heartbeatTimeoutInSecond", self.heartbeat_timeout_in_second.is_some()),
        ];
        if let Some((name, _)) = foreign.iter().find(|(_, is_given)| *is_given) {
            return Err(Refusal::bad(format!("a batch has no {name}: see POST /sessions")));
        }
        let file = self.file.take().filter(|file| !file.is_empty());
        let file = file.ok_or_else(|| Refusal::bad("requirement failed: file must be specified."))?;
        let args = self.args.take().unwrap_or_default();
        Ok(NewBatch { file, args, asked: self.asked(parameters)? })
    }

    fn asked(self, parameters: &Parameters) -> Result<Asked, Refusal> {
        Ok(Asked {
            kind: self.kind.unwrap_or_default(),
            name: self.name,
            proxy_user: parameters.text("doAs").map(str::to_string).or(self.proxy_user),
            conf: texts(self.conf.unwrap_or_default())?,
            queue: self.queue,
            ttl: self.ttl,
            idle_timeout: self.idle_timeout,
            heartbeat_timeout_s: self.heartbeat_timeout_in_second.unwrap_or(0),
            driver_memory: self.driver_memory,
            driver_cores: self.driver_cores,
            executor_memory: self.executor_memory,
            executor_cores: self.executor_cores,
            num_executors: self.num_executors,
            jars: self.jars.unwrap_or_default(),
            py_files: self.py_files.unwrap_or_default(),
            files: self.files.unwrap_or_default(),
            archives: self.archives.unwrap_or_default(),
        })
    }
}

/// The body that runs a statement.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Execute {
    pub code: String,
    #[serde(default, deserialize_with = "maybe_kind")]
    pub kind: Option<Kind>,
}

/// The body that asks how code may go on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Complete {
    pub code: String,
    #[serde(default, deserialize_with = "maybe_kind")]
    #[expect(dead_code, reason = "clients send it, and there are candidates of SQL alone")]
    kind: Option<Kind>,
    pub cursor: usize,
}

fn maybe_kind<'de, D: Deserializer<'de>>(of: D) -> Result<Option<Kind>, D::Error> {
    let Some(name) = Option::<String>::deserialize(of)? else { return Ok(None) };
    Ok(Some(match name.as_str() {
        "sql" => Kind::Sql,
        "spark" | "scala" => Kind::Spark,
        "pyspark" | "python" => Kind::PySpark,
        "sparkr" | "r" => Kind::SparkR,
        "shared" => Kind::Shared,
        other => {
            let kinds = "sql, spark, pyspark, sparkr and shared";
            return Err(D::Error::custom(format!("Invalid kind: \"{other}\" is none of {kinds}")));
        }
    }))
}

/// Returns values of options as texts: clients send numbers and flags too.
fn texts(conf: BTreeMap<String, Value>) -> Result<BTreeMap<String, String>, Refusal> {
    let text = |(name, value): (String, Value)| match value {
        Value::String(text) => Ok((name, text)),
        Value::Number(_) | Value::Bool(_) => Ok((name, value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(Refusal::bad(format!("conf: the value of {name} is not a text")))
        }
    };
    conf.into_iter().map(text).collect()
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

/// Parameters of a request.
pub(super) struct Parameters(pub HashMap<String, String>);

impl Parameters {
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let number =
            |text: &str| text.trim().parse().map_err(|_| Refusal::bad(format!("{name}: \"{text}\" is not a number")));
        self.text(name).map(number).transpose()
    }

    /// Reads a number of things; a negative one is 0.
    pub fn count(&self, name: &str) -> Result<Option<usize>, Refusal> {
        Ok(self.number(name)?.map(|number| usize::try_from(number).unwrap_or(0)))
    }
}

/// Returns how long a request waits for the end of a statement: `?wait=` in milliseconds, or the header `Prefer: wait=` in seconds.
pub(super) fn wait(parameters: &Parameters, headers: &HeaderMap) -> Result<Duration, Refusal> {
    let asked = match parameters.number("wait")? {
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
    Ok(asked.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> Result<NewSession, String> {
        let create: Create = serde_json::from_str(body).map_err(|error| error.to_string())?;
        create.session(&Parameters(HashMap::new())).map_err(|refusal| refusal.message)
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
        assert_eq!((asked.kind, asked.num_executors, asked.jars.len()), (Kind::PySpark, Some(2), 0));
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
            (r#"{"file": "a.sql"}"#, "batches"),
            (r#"{"conf": {"a": [1]}}"#, "conf"),
            (r#"{"driverCores": -1}"#, "-1"),
            ("", "EOF"),
            ("[1", "integer"),
        ] {
            let error = parsed(body).unwrap_err();
            assert!(error.contains(word), "{body}: {error}");
        }
    }

    #[test]
    fn a_wait_is_a_parameter_or_a_header() {
        let of = |query: Option<&str>, header: Option<&str>| {
            let parameters = query.map(|ms| ("wait".to_string(), ms.to_string())).into_iter().collect();
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert("prefer", header.parse().unwrap());
            }
            wait(&Parameters(parameters), &headers).map(|wait| wait.as_millis()).map_err(|refusal| refusal.message)
        };
        assert_eq!(of(None, None), Ok(0));
        assert_eq!(of(Some("250"), Some("wait=10")), Ok(250));
        assert_eq!(of(None, Some("respond-async, wait=10")), Ok(10_000));
        assert_eq!(of(Some("99999999"), None), Ok(60_000));
        assert!(of(Some("soon"), None).unwrap_err().contains("soon"));
    }
}
