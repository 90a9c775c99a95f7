//! Every call of Livy with good and bad input, and what is answered.

use super::http::{Answer, Server};
use super::{LONG, sql};
use crate::cluster::{Processes, python_of, succeed};
use serde_json::{Value, json};

/// A request, the status of its answer, and a word that its message has to have.
type Case<'a> = (&'a str, &'a str, &'a str, u16, &'a str);

/// A cluster with sessions in each state.
///
/// | session | |
/// | --- | --- |
/// | 0, `naïve 会话` | idle, with statement 0 |
/// | 1 | idle, `shared` |
/// | 2 | dead, with statement 0 |
/// | 3 | busy with statement 0; 1 waits |
/// | 4 | gone |
struct Sessions {
    server: Server,
    _cluster: Processes,
}

/// The name of session 0 in a path.
const NAMED: &str = "/sessions/na%C3%AFve%20%E4%BC%9A%E8%AF%9D";

impl Sessions {
    fn open() -> Self {
        let cluster = Processes::start();
        let server = Server::new(&cluster.rest);
        let named = server.open(&json!({ "kind": "sql", "name": "naïve 会话" }));
        server.run(&named, "select 1 as one");
        server.open(&json!({}));
        let dead = server.open(&sql());
        server.run(&dead, "select 2 as two");
        assert_eq!(server.post(&format!("{dead}/stop"), &json!({})).status, 204);
        let busy = server.open(&sql());
        for code in [LONG, "select 3"] {
            assert_eq!(server.post(&format!("{busy}/statements"), &json!({ "code": code })).status, 201);
        }
        let gone = server.open(&sql());
        assert_eq!(server.delete(&gone).status, 200);
        Sessions { server, _cluster: cluster }
    }

    fn check(&self, cases: &[Case]) {
        for &(method, path, body, status, word) in cases {
            let answer = self.server.call(method, path, "", body.as_bytes());
            let said = format!("{method} {path} {body}: {answer:?}");
            assert_eq!(answer.status, status, "{said}");
            if status == 204 {
                assert_eq!(answer.body, "", "{said}");
                continue;
            }
            assert_eq!(answer.header("content-type"), Some("application/json"), "{said}");
            match status {
                200..300 => assert!(answer.body.contains(word), "{word} is missing in {said}"),
                _ => {
                    assert!(answer.msg().contains(word), "{word} is missing in {said}");
                }
            }
        }
    }
}

#[test]
fn calls_are_answered_in_each_state_of_a_session() {
    let sessions = Sessions::open();
    sessions.check(&[
        // By number and by name.
        ("GET", "/sessions/0", "", 200, "\"state\":\"idle\""),
        ("GET", NAMED, "", 200, "\"id\":0"),
        ("GET", "/sessions/1/state", "", 200, "{\"id\":1,\"state\":\"idle\"}"),
        ("GET", "/sessions/2/state", "", 200, "{\"id\":2,\"state\":\"dead\"}"),
        ("GET", "/sessions/3/state", "", 200, "{\"id\":3,\"state\":\"busy\"}"),
        ("GET", "/sessions/4/state", "", 404, "Session '4' not found."),
        ("GET", "/sessions/4", "", 404, "Session '4' not found."),
        ("DELETE", "/sessions/4", "", 404, "Session '4' not found."),
        ("GET", "/sessions/99999999999/state", "", 404, "Session '99999999999' not found."),
        ("GET", "/sessions/-1", "", 404, "Session '-1' not found."),
        ("GET", "/sessions/%E4%BC%9A", "", 404, "Session '会' not found."),
        ("GET", "/sessions/%FF", "", 400, "UTF-8"),
        // Logs.
        ("GET", "/sessions/2/log", "", 200, "\"id\":2"),
        ("GET", "/sessions/0/log?from=-5&size=-1", "", 200, "\"from\":0"),
        ("GET", "/sessions/0/log?from=9223372036854775807&size=9223372036854775807", "", 200, "\"log\":[]"),
        ("GET", "/sessions/0/log?size=1.5", "", 400, "size: \"1.5\" is not a number"),
        ("GET", "/sessions/4/log", "", 404, "Session '4' not found."),
        // Sessions that have ended take nothing, and show what they have.
        ("POST", "/sessions/0/connect", "", 200, "\"id\":0"),
        ("POST", "/sessions/2/connect", "{}", 200, "\"state\":\"dead\""),
        ("POST", "/sessions/4/connect", "", 404, "Session '4' not found."),
        ("POST", "/sessions/2/stop", "", 204, ""),
        ("POST", "/sessions/2/interrupt", "", 200, "interrupted"),
        ("POST", "/sessions/4/interrupt", "", 404, "Session '4' not found."),
        ("POST", "/sessions/2/statements", r#"{"code": "select 1"}"#, 400, "Session is in state dead"),
        ("GET", "/sessions/2/statements/0", "", 200, "\"data\":[[2]]"),
        ("POST", "/sessions/2/statements/0/cancel", "", 200, "canceled"),
        ("POST", "/sessions/4/statements", r#"{"code": "select 1"}"#, 404, "Session '4' not found."),
        ("GET", "/sessions/4/statements/0", "", 404, "Session '4' not found."),
        // Statements.
        ("GET", "/sessions/3/statements/0", "", 200, "\"output\":null"),
        ("GET", "/sessions/3/statements/1", "", 200, "\"state\":\"waiting\""),
        ("GET", "/sessions/0/statements/1", "", 404, "Statement not found"),
        ("GET", "/sessions/1/statements/0", "", 404, "Statement not found"),
        ("POST", "/sessions/0/statements/7/cancel", "", 404, "Statement not found"),
        ("GET", "/sessions/0/statements/x", "", 400, "\"x\""),
        ("GET", "/sessions/0/statements/-1", "", 400, "\"-1\""),
        ("POST", "/sessions/0/statements/4294967296/cancel", "", 400, "\"4294967296\""),
        ("GET", "/sessions/0/statements/0?wait=long", "", 400, "wait: \"long\" is not a number"),
        ("GET", "/sessions/0/statements?from=x", "", 400, "from: \"x\" is not a number"),
        ("GET", "/sessions/0/statements?order=sideways", "", 200, "\"total_statements\":1"),
        ("GET", "/sessions/0/statements?from=1", "", 200, "\"statements\":[]"),
        ("GET", "/sessions/0/statements?from=-1&size=9223372036854775807", "", 200, "\"id\":0"),
        ("GET", "/sessions/0/statements?size=-1", "", 200, "\"statements\":[]"),
        ("GET", "/sessions/4/statements", "", 404, "Session '4' not found."),
        // Lists.
        ("GET", "/sessions?from=99", "", 200, "{\"from\":99,\"total\":4,\"sessions\":[]}"),
        ("GET", "/sessions?from=-1&size=1", "", 200, "\"from\":0"),
        ("GET", "/sessions?size=-1", "", 200, "\"sessions\":[]"),
        ("GET", "/sessions?from=9223372036854775807&size=9223372036854775807", "", 200, "\"sessions\":[]"),
        ("GET", "/sessions?size=many", "", 400, "size: \"many\" is not a number"),
        ("GET", "/sessions?size=", "", 400, "size: \"\" is not a number"),
        ("GET", "/sessions?size=99999999999999999999", "", 400, "99999999999999999999"),
        ("GET", "/batches?from=99&size=-1", "", 200, "{\"from\":99,\"total\":0,\"sessions\":[]}"),
        ("GET", "/batches?from=%00", "", 400, "from"),
        ("GET", "/batches/0", "", 404, "Session '0' not found."),
        ("GET", "/batches/0/state", "", 404, "Session '0' not found."),
        ("GET", "/batches/nobody/log", "", 404, "Session 'nobody' not found."),
        ("DELETE", "/batches/0", "", 404, "Session '0' not found."),
        ("GET", "/version", "", 200, "0.8.0"),
    ]);
    // A statement is taken while its session starts.
    let created = sessions.server.post("/sessions", &sql()).json();
    let early =
        sessions.server.post(&format!("/sessions/{}/statements", created["id"]), &json!({ "code": "select 4" }));
    assert_eq!(early.status, 201, "{early:?}");
    // What has the fields of Livy's documentation.
    let has = |object: &Value, fields: &str| {
        let missing: Vec<&str> = fields.split(' ').filter(|field| object.get(field).is_none()).collect();
        assert_eq!(missing, [""; 0], "{object}");
    };
    let session = "id appId owner proxyUser kind log state appInfo ttl idleTimeout jars pyFiles files driverMemory driverCores executorMemory \
                   executorCores numExecutors archives queue name conf heartbeatTimeoutInSecond";
    has(&created, session);
    has(&early.json(), "id code state output progress started completed");
    has(&sessions.server.get("/sessions/0/log").json(), "id from total log");
}

#[test]
fn bodies_are_refused_by_what_is_wrong_with_them() {
    let sessions = Sessions::open();
    let long = format!(r#"{{"code": "{}"}}"#, "x".repeat((1 << 20) + 1));
    let deep = format!(r#"{{"conf": {{"a": {}1{}}}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    sessions.check(&[
        ("POST", "/sessions", r#"{"kind": "cobol"}"#, 400, "cobol"),
        ("POST", "/sessions", r#"{"kind": "#, 400, "EOF"),
        ("POST", "/sessions", "", 400, "EOF"),
        ("POST", "/sessions", "[]", 400, "the body cannot be read"),
        ("POST", "/sessions", "null", 400, "the body cannot be read"),
        ("POST", "/sessions", "{} {}", 400, "trailing characters"),
        ("POST", "/sessions", r#"{"color": 1}"#, 400, "unknown field `color`"),
        ("POST", "/sessions", r#"{"file": "a.sql"}"#, 400, "unknown field `file`"),
        ("POST", "/sessions", r#"{"name": "a", "name": "b"}"#, 400, "duplicate field `name`"),
        ("POST", "/sessions", r#"{"name": "17"}"#, 400, "17"),
        ("POST", "/sessions", r#"{"name": ""}"#, 400, "Invalid session name"),
        ("POST", "/sessions", r#"{"name": 17}"#, 400, "expected a string"),
        ("POST", "/sessions", r#"{"name": "naïve 会话"}"#, 400, "Rejected, Reason: Duplicate session name: naïve 会话"),
        ("POST", "/sessions", r#"{"ttl": "soon"}"#, 400, "soon"),
        ("POST", "/sessions", r#"{"ttl": 10}"#, 400, "expected a string"),
        ("POST", "/sessions", r#"{"numExecutors": "2"}"#, 400, "expected u32"),
        ("POST", "/sessions", r#"{"driverCores": -1}"#, 400, "-1"),
        ("POST", "/sessions", r#"{"heartbeatTimeoutInSecond": 1e3}"#, 400, "1000.0"),
        ("POST", "/sessions", r#"{"jars": "a.jar"}"#, 400, "expected a sequence"),
        ("POST", "/sessions", r#"{"conf": {"a": [1]}}"#, 400, "conf: the value of a is not a text"),
        ("POST", "/sessions", r#"{"conf": {"windlass.nothing": "1"}}"#, 400, "windlass.nothing"),
        ("POST", "/sessions", r#"{"conf": {"spark.sql.session.timeZone": "Mars/Base"}}"#, 400, "Mars/Base"),
        ("POST", "/sessions", &deep, 400, "recursion limit"),
        ("POST", "/sessions/0/statements", "{}", 400, "missing field `code`"),
        ("POST", "/sessions/0/statements", r#"{"code": 1}"#, 400, "expected a string"),
        ("POST", "/sessions/0/statements", r#"{"code": null}"#, 400, "expected a string"),
        ("POST", "/sessions/0/statements", r#"{"code": "select 1", "kind": "cobol"}"#, 400, "cobol"),
        ("POST", "/sessions/0/statements?wait=soon", r#"{"code": "select 1"}"#, 400, "soon"),
        ("POST", "/sessions/1/statements", r#"{"code": "select 1"}"#, 400, "shared"),
        ("POST", "/sessions/1/statements", r#"{"code": "select 1", "kind": "shared"}"#, 400, "shared"),
        ("POST", "/sessions/0/statements", &long, 413, "1048576"),
        ("POST", "/sessions/0/completion", r#"{"code": "sel"}"#, 400, "missing field `cursor`"),
        ("POST", "/sessions/0/completion", r#"{"code": "sel", "cursor": -1}"#, 400, "-1"),
        ("POST", "/sessions/0/completion", r#"{"code": "sel", "cursor": 1.5}"#, 400, "1.5"),
        ("POST", "/sessions/0/completion", r#"{"code": "sel", "cursor": 99999999999999999999}"#, 400, "1e+20"),
        ("POST", "/sessions/0/completion", r#"{"code": "sel", "cursor": 0}"#, 200, r#"{"candidates":[]}"#),
        ("POST", "/sessions/0/completion", r#"{"code": "sel", "cursor": 1000}"#, 200, r#"{"candidates":["select"]}"#),
        ("POST", "/sessions/0/completion", r#"{"code": "会话sel", "cursor": 2, "kind": "sql"}"#, 200, "[]"),
        ("POST", "/sessions/3/completion", r#"{"code": "sel", "cursor": 3}"#, 200, "select"),
        ("POST", "/sessions/4/completion", r#"{"code": "sel", "cursor": 3}"#, 404, "Session '4' not found."),
        ("POST", "/batches", "{}", 400, "missing field `file`"),
        ("POST", "/batches", r#"{"file": ""}"#, 400, "file must be specified"),
        ("POST", "/batches", r#"{"file": "a.sql", "kind": "sql"}"#, 400, "unknown field `kind`"),
        ("POST", "/batches", r#"{"file": "a.sql", "args": [1]}"#, 400, "expected a string"),
        ("POST", "/batches", r#"{"file": "a.sql", "args": "1"}"#, 400, "expected a sequence"),
        ("POST", "/batches", r#"{"file": "/nowhere/会.sql"}"#, 400, "/nowhere/会.sql"),
        ("POST", "/batches", r#"{"file": "nonsense://a/b.sql"}"#, 400, "nonsense"),
        ("POST", "/batches", r#"{"file": "/a/b.jar", "className": "A"}"#, 400, "scripts of SQL and programs of Python"),
    ]);
    let server = &sessions.server;
    let refused = server.call("POST", "/sessions", "", b"{\"name\": \"\xff\"}");
    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(server.get("/sessions").json()["total"], 4, "a request that was refused opened a session");

    // The content type says nothing, and a coding is not undone.
    let send = |headers: &str| {
        let headers = format!("Content-Length: 15\r\n{headers}");
        server.send("POST", "/sessions", &headers, br#"{"kind": "sql"}"#).expect("it is answered")
    };
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"] {
        assert_eq!(send(kind).status, 201, "{kind}");
    }
    assert_eq!(send("Content-Encoding: identity\r\n").status, 201);
    let coded = send("Content-Encoding: gzip\r\n");
    assert_eq!((coded.status, coded.msg().contains("\"gzip\"")), (415, true), "{coded:?}");
}

#[test]
fn methods_and_paths_that_are_not_there_are_named() {
    let sessions = Sessions::open();
    let jvm = |call: &'static str| ("POST", call, "{}", 501, "programs of the JVM");
    sessions.check(&[
        ("PUT", "/sessions", "{}", 405, "PUT is no method of /sessions"),
        ("DELETE", "/sessions", "", 405, "DELETE is no method of /sessions"),
        ("POST", "/sessions/0", "{}", 405, "POST"),
        ("POST", "/sessions/0/state", "", 405, "POST"),
        ("POST", "/sessions/0/log", "", 405, "POST"),
        ("GET", "/sessions/0/connect", "", 405, "GET"),
        ("GET", "/sessions/0/stop", "", 405, "GET"),
        ("GET", "/sessions/0/interrupt", "", 405, "GET"),
        ("GET", "/sessions/0/completion", "", 405, "GET"),
        ("DELETE", "/sessions/0/statements", "", 405, "DELETE"),
        ("POST", "/sessions/0/statements/0", "", 405, "POST"),
        ("GET", "/sessions/0/statements/0/cancel", "", 405, "GET"),
        ("PATCH", "/batches", "{}", 405, "PATCH"),
        ("POST", "/batches/0", "{}", 405, "POST"),
        ("POST", "/version", "{}", 405, "POST"),
        ("GET", "/sessions/0/nothing", "", 404, "/sessions/0/nothing"),
        ("GET", "/batches/0/statements", "", 404, "/batches/0/statements"),
        jvm("/sessions/0/submit-job"),
        jvm("/sessions/0/run-job"),
        jvm("/sessions/0/upload-jar"),
        jvm("/sessions/0/upload-pyfile"),
        jvm("/sessions/0/upload-file"),
        jvm("/sessions/0/add-jar"),
        jvm("/sessions/0/add-pyfile"),
        jvm("/sessions/0/add-file"),
        jvm("/sessions/0/jobs/1/cancel"),
        ("GET", "/sessions/0/jobs/1", "", 501, "programs of the JVM"),
        // A slash at the end means nothing.
        ("GET", "/sessions/", "", 200, "\"total\":4"),
        ("GET", "/sessions/?size=0", "", 200, "\"sessions\":[]"),
        ("POST", "/sessions/0/statements/", r#"{"code": "select 1"}"#, 201, "\"id\":1"),
        ("GET", "/sessions/0/statements/0/", "", 200, "\"id\":0"),
        ("GET", "/sessions/0/state//", "", 200, "\"id\":0"),
        ("GET", "/batches/", "", 200, "\"total\":0"),
        ("GET", "/version/", "", 200, "0.8.0"),
    ]);
    let server = &sessions.server;
    let allowed = |method: &str, path: &str| {
        let allow = server.call(method, path, "", b"").header("allow").expect("a header Allow").to_owned();
        let mut methods: Vec<&str> = allow.split(',').collect();
        methods.sort_unstable();
        methods.join(" ")
    };
    assert_eq!(allowed("PUT", "/sessions"), "GET HEAD POST");
    assert_eq!(allowed("PUT", "/sessions/0"), "DELETE GET HEAD");
    assert_eq!(allowed("GET", "/sessions/0/stop"), "POST");
    assert_eq!(allowed("OPTIONS", "/api/v1/jobs/job-1"), "DELETE GET HEAD");
    // HEAD is GET without a body.
    for path in
        ["/sessions", "/sessions/0", "/sessions/4", "/sessions/0/statements/0", "/batches", "/version", "/metrics"]
    {
        let (head, get) = (server.call("HEAD", path, "", b""), server.get(path));
        assert_eq!((head.status, head.body.as_str()), (get.status, ""), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
    // Other calls have the errors of REST, and where there is no call, there are both.
    let elsewhere = server.get("/sessions/0/nothing").json();
    assert_eq!(elsewhere["error"]["message"], elsewhere["msg"], "{elsewhere}");
    let wrong = server.call("POST", "/api/v1/cluster", "", b"{}");
    assert_eq!((wrong.status, &wrong.json()["error"]["kind"]), (405, &json!("invalid")));
}

/// Whoever sends too much reads why, whatever the call, and the primary keeps nothing of it.
#[test]
fn bodies_that_are_too_large_are_refused_and_not_kept() {
    let cluster = Processes::start();
    let server = Server::new(&cluster.rest);
    let session = server.open(&sql());
    let huge = format!(r#"{{"code": "{}"}}"#, "x".repeat(100 << 20)).into_bytes();
    // The peak begins anew.
    let process = format!("/proc/{}", cluster.primary());
    std::fs::write(format!("{process}/clear_refs"), "5").expect("the peak of one's own process can be reset");
    let peak_kib = || -> u64 {
        let status = std::fs::read_to_string(format!("{process}/status")).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it has a peak");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    let before = peak_kib();
    let named = |answer: &Answer| {
        let json = answer.json();
        let message = json["msg"].as_str().or(json["error"]["message"].as_str()).expect("a message").to_owned();
        assert!(answer.status == 413 && message.contains("8388608 bytes"), "{answer:?}");
    };
    std::thread::scope(|threads| {
        for (method, path) in [
            ("POST", "/sessions"),
            ("POST", &*format!("{session}/statements")),
            ("POST", &*format!("{session}/statements?wait=soon")),
            ("POST", &*format!("{session}/completion")),
            ("POST", &*format!("{session}/stop")),
            ("POST", "/sessions/99/connect"),
            ("POST", "/batches"),
            ("PUT", "/batches"),
            ("POST", "/api/v1/cluster"),
            ("POST", "/nowhere"),
        ] {
            let (server, huge, named) = (&server, &huge, &named);
            let path = path.to_owned();
            threads.spawn(move || named(&server.call(method, &path, "", huge)));
        }
    });
    let grown = peak_kib() - before;
    println!("10 bodies of 100 MiB at a time: the primary's peak grew by {grown} KiB");
    assert!(grown < 48 << 10, "the primary took {grown} KiB for bodies that it refused");

    // In pieces, so that nobody knows how long it will be.
    let mut pieces = Vec::new();
    for piece in huge.chunks(1 << 20) {
        pieces.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        pieces.extend_from_slice(piece);
        pieces.extend_from_slice(b"\r\n");
    }
    pieces.extend_from_slice(b"0\r\n\r\n");
    named(&server.send("POST", "/sessions", "Transfer-Encoding: chunked\r\n", &pieces).expect("it is answered"));
    // A client that waits for leave to send is told before it sends.
    let head = "Expect: 100-continue\r\nContent-Length: 104857600\r\n";
    named(&server.send("POST", "/sessions", head, b"").expect("it is answered"));
    // At the limit nothing is lost.
    let limit = 8 << 20;
    let padded = |bytes: usize| {
        let mut body = br#"{"code": "select 5"}"#.to_vec();
        body.resize(bytes, b' ');
        body
    };
    let statements = format!("{session}/statements");
    assert_eq!(server.call("POST", &statements, "", &padded(limit)).status, 201);
    named(&server.call("POST", &statements, "", &padded(limit + 1)));
    assert_eq!(server.rows(&session, "select 6"), json!([[6]]));
}

#[test]
fn metrics_count_sessions_statements_and_batches() {
    let sessions = Sessions::open();
    let server = &sessions.server;
    let script = sessions._cluster.dir.path().join("wrong.sql");
    std::fs::write(&script, "selec 1").expect("a file can be written");
    let batch = server.post("/batches", &json!({ "file": script })).json();
    server.until_state(&format!("/batches/{}", batch["id"]), "dead");
    server.run("/sessions/0", "select count(*) from generate_series(1, 1000000)");
    let metrics = server.get("/metrics");
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4"));
    for line in [
        "# TYPE windlass_interactive_sessions gauge",
        "windlass_interactive_sessions{state=\"idle\"} 2",
        "windlass_interactive_sessions{state=\"busy\"} 1",
        "windlass_interactive_sessions{state=\"dead\"} 1",
        "windlass_interactive_sessions{state=\"killed\"} 0",
        "windlass_statements{state=\"available\"} 3",
        "windlass_statements{state=\"running\"} 1",
        "windlass_statements{state=\"waiting\"} 1",
        "windlass_statements{state=\"cancelled\"} 0",
        "windlass_batches{state=\"dead\"} 1",
        "windlass_batches{state=\"running\"} 0",
        "windlass_executors 2",
    ] {
        assert!(metrics.body.lines().any(|of| of == line), "{line} is not in:\n{}", metrics.body);
    }
    // Where Livy has its own.
    let all = server.get("/metrics/metrics").json();
    assert_eq!(all["gauges"]["windlass_interactive_sessions.idle"], json!({ "value": 2.0 }));
    assert_eq!(all["gauges"]["windlass_executors"], json!({ "value": 2.0 }));
    assert!(all["counters"]["windlass_tasks_committed_total"]["count"].as_u64() > Some(0), "{all}");
    let kinds: Vec<&String> = all.as_object().expect("an object").keys().collect();
    assert_eq!(kinds, ["counters", "gauges", "histograms", "meters", "timers", "version"]);
    assert_eq!(server.get("/metrics/ping").body, "pong\n");
}

/// The document is valid, real answers are as it says, and whatever a fuzzer makes of it is answered as it says too.
#[test]
fn the_interface_is_as_it_is_described() {
    let cluster = Processes::start();
    let mut check = python_of("openapi", "openapi.py");
    check.arg(&cluster.rest).arg(cluster.dir.path());
    assert_eq!(succeed(check), "openapi: ok\n");
    let mut fuzzer = python_of("openapi", "openapi_fuzz.py");
    fuzzer.arg(&cluster.rest);
    assert_eq!(succeed(fuzzer), "fuzz: ok\n");
    let server = Server::new(&cluster.rest);
    assert_eq!(server.rows(&server.open(&sql()), "select 7"), json!([[7]]));
}
