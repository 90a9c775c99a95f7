//! The calls of Apache Livy 0.8, over HTTP against a cluster of processes.

mod clients;
mod conformance;
mod failover;
pub(crate) mod http;
pub(crate) mod python;

use crate::cluster::{Processes, Restarted, succeed, windlass};
use http::Server;
use serde_json::{Value, json};

/// A query that takes much longer than any test, in tasks whose end is seen.
const LONG: &str = "select count(*) as n from generate_series(1, 4000000) a cross join generate_series(1, 1000000) b where a.value <> b.value";

fn sql() -> Value {
    json!({ "kind": "sql" })
}

#[test]
fn sessions_are_opened_shown_and_ended() {
    let cluster = Processes::start();
    let server = Server::new(&cluster.rest);
    let version = server.get("/version").json();
    assert!(version["version"].as_str().is_some_and(|version| version.starts_with("0.8.")), "{version}");
    assert_eq!(server.get("/sessions").json(), json!({ "from": 0, "total": 0, "sessions": [] }));

    let conf =
        json!({ "spark.sql.session.timeZone": "Europe/Berlin", "spark.executor.memory": "4g", "spark.ui.port": 4040 });
    let asked = json!({
        "kind": "sql", "name": "Müller's 会话", "proxyUser": "ann", "conf": conf, "numExecutors": 3, "ttl": "10h",
        "idleTimeout": "30m", "heartbeatTimeoutInSecond": 600, "queue": "default", "jars": ["a.jar"],
    });
    let created = server.post("/sessions", &asked);
    assert_eq!((created.status, created.header("location")), (201, Some("/sessions/0")));
    let session = created.json();
    for (field, value) in [
        ("id", json!(0)),
        ("name", json!("Müller's 会话")),
        ("kind", json!("sql")),
        ("proxyUser", json!("ann")),
        ("owner", Value::Null),
        ("appInfo", json!({ "driverLogUrl": null, "sparkUiUrl": null })),
        ("ttl", json!("10h")),
        ("idleTimeout", json!("30m")),
        ("heartbeatTimeoutInSecond", json!(600)),
        ("numExecutors", json!(3)),
        ("driverMemory", Value::Null),
        ("driverCores", json!(0)),
        ("queue", json!("default")),
        ("jars", json!(["a.jar"])),
        ("archives", json!([])),
        (
            "conf",
            json!({
                "spark.sql.session.timeZone": "Europe/Berlin", "spark.executor.memory": "4g", "spark.ui.port": "4040",
            }),
        ),
    ] {
        assert_eq!(session[field], value, "{field} of {session}");
    }
    let by_name = "/sessions/M%C3%BCller%27s%20%E4%BC%9A%E8%AF%9D";
    server.until_state(&format!("{by_name}/state"), "idle");
    assert_eq!(server.get(by_name).json()["id"], 0);
    assert_eq!(server.get("/sessions/0/state").json(), json!({ "id": 0, "state": "idle" }));
    let zone = "select value from information_schema.df_settings where name = 'datafusion.execution.time_zone'";
    assert_eq!(server.rows("/sessions/0", zone), json!([["Europe/Berlin"]]));

    let log = server.get("/sessions/0/log").json();
    let lines: Vec<&str> = log["log"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    for ignored in
        ["spark.executor.memory is ignored", "spark.ui.port is ignored", "numExecutors is ignored", "jars is ignored"]
    {
        assert!(lines.iter().any(|line| line.starts_with(ignored)), "{ignored}: {lines:?}");
    }
    let total = log["total"].as_u64().unwrap();
    assert_eq!((log["from"].as_u64(), lines.len() as u64), (Some(0), total));
    let page = server.get("/sessions/0/log?from=1&size=2").json();
    assert_eq!((&page["from"], page["log"].as_array().unwrap().len()), (&json!(1), 2));
    assert_eq!(server.get("/sessions/0/log?size=1").json()["from"], json!(total - 1));
    assert_eq!(server.get("/sessions/0/log?from=99").json()["log"], json!([]));

    for _ in 0..4 {
        server.open(&sql());
    }
    let ids = |path: &str| -> Vec<u64> {
        let listed = server.get(path).json();
        assert_eq!(listed["total"], 5, "{listed}");
        listed["sessions"].as_array().unwrap().iter().map(|session| session["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids("/sessions?from=1&size=2"), [1, 2]);
    assert_eq!(ids("/sessions?from=4&size=20"), [4]);
    assert_eq!(ids("/sessions?from=5"), [0; 0]);
    assert_eq!(ids("/sessions?size=0"), [0; 0]);

    assert_eq!(server.post("/sessions/1/connect", &json!({})).json()["id"], 1);
    assert_eq!(server.post("/sessions/1/stop", &json!({})).status, 204);
    assert_eq!(server.get("/sessions/1/state").json()["state"], "dead");
    let refused = server.post("/sessions/1/statements", &json!({ "code": "select 1" }));
    assert_eq!((refused.status, refused.msg()), (400, "Session is in state dead".to_owned()));
    let deleted = server.delete("/sessions/1");
    assert_eq!((deleted.status, deleted.json()), (200, json!({ "msg": "deleted" })));
    for gone in [server.get("/sessions/1"), server.delete("/sessions/1"), server.post("/sessions/1/stop", &json!({}))] {
        assert_eq!((gone.status, gone.msg()), (404, "Session '1' not found.".to_owned()));
    }
    // Numbers are not given twice, and names can be.
    assert_eq!(server.delete(by_name).status, 200);
    assert_eq!(server.open(&json!({ "kind": "sql", "name": "Müller's 会话" })), "/sessions/5");
}

#[test]
fn statements_run_in_order_and_give_typed_rows() {
    let cluster = Processes::start();
    let server = Server::new(&cluster.rest);
    let session = server.open(&sql());
    let posted = server.post(&format!("{session}/statements"), &json!({ "code": "select 1 as one" }));
    assert_eq!((posted.status, posted.header("location")), (201, Some("/sessions/0/statements/0")));
    let ended = server.get("/sessions/0/statements/0?wait=60000").json();
    assert_eq!((&ended["state"], &ended["progress"]), (&json!("available"), &json!(1.0)));
    assert!(
        ended["started"].as_u64() <= ended["completed"].as_u64() && ended["started"].as_u64() > Some(1_600_000_000_000)
    );
    let schema =
        json!({ "type": "struct", "fields": [{ "name": "one", "type": "long", "nullable": false, "metadata": {} }] });
    let expected = json!({
        "status": "ok", "execution_count": 0, "data": { "application/json": { "schema": schema, "data": [[1]] } },
    });
    assert_eq!(ended["output"], expected);

    // All kinds of statements, and what the session keeps.
    assert_eq!(server.rows(&session, "create table t (a bigint, b varchar)"), json!([]));
    assert_eq!(server.rows(&session, "insert into t values (9007199254740993, 'ä😀'), (2, null)"), json!([[2]]));
    assert_eq!(
        server.rows(&session, "select a, b from t order by a"),
        json!([[2, null], [9_007_199_254_740_993_i64, "ä😀"]])
    );
    server.rows(&session, "create temporary view v as select a from t");
    server.rows(&session, "set datafusion.execution.time_zone = 'Asia/Tokyo'");
    let values = server.run(
        &session,
        "select cast(12.340 as decimal(10, 3)) d, 'NaN'::double n, date '2013-01-31' day, timestamp '2013-01-31 12:00:00' at,
                X'00ff' bin, [1, null] l, {'k': 1} s, (select count(*) from v) c",
    );
    // All digits are there, which are lost when the text is read as JSON.
    let written = server.get(&format!("{session}/statements/{}", values["id"])).body;
    assert!(written.contains("\"data\":[[12.340,"), "{written}");
    let row = &values["output"]["data"]["application/json"]["data"][0];
    let rest = json!(["NaN", "2013-01-31", "2013-01-31T12:00:00", "AP8=", [1, null], { "k": 1 }, 2]);
    assert_eq!(row.as_array().unwrap()[1..], rest.as_array().unwrap()[..]);

    // Errors are outputs, and the session goes on.
    let failed = server.run(&session, "select nothing from t");
    assert_eq!((&failed["state"], &failed["output"]["status"]), (&json!("available"), &json!("error")));
    assert!(failed["output"]["evalue"].as_str().unwrap().contains("nothing"), "{failed}");
    assert_eq!((&failed["output"]["ename"], &failed["output"]["traceback"]), (&json!("Error"), &json!([])));

    // Large results are cut, and say so.
    let cut = server.run(&session, "select value from generate_series(1, 100000) order by value");
    let cut = &cut["output"]["data"]["application/json"];
    assert_eq!((cut["data"].as_array().unwrap().len(), &cut["data"][999]), (1_000, &json!([1_000])));
    assert_eq!(cut["cut"], json!({ "by": "rows", "limit": 1_000, "option": "livy.rsc.sql.num-rows" }));
    let wide = server.run(&session, "select repeat('x', 100000) as x from generate_series(1, 100)");
    let wide = &wide["output"]["data"]["application/json"];
    assert_eq!(wide["cut"], json!({ "by": "bytes", "limit": 1 << 20 }));
    assert_eq!(wide["data"].as_array().unwrap().len(), 10);

    // Other forms are given to requests that name them.
    let accept = "Accept: text/plain, application/vnd.livy.table.v1+json\r\n";
    let data = server.call("GET", "/sessions/0/statements/0", accept, b"").json()["output"]["data"].clone();
    let headers = json!([{ "name": "one", "type": "BIGINT_TYPE" }]);
    assert_eq!(data["application/vnd.livy.table.v1+json"], json!({ "headers": headers, "data": [[1]] }));
    assert!(data["text/plain"].as_str().unwrap().contains("| one |"), "{data}");

    let numbers = |path: &str| -> Vec<u64> {
        let listed = server.get(&format!("{session}/statements{path}")).json();
        assert_eq!(listed["total_statements"], 10, "{listed}");
        listed["statements"].as_array().unwrap().iter().map(|one| one["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(""), (0..10).collect::<Vec<_>>());
    assert_eq!(numbers("?order=desc&size=2"), [9, 8]);
    assert_eq!(numbers("?from=8&size=5"), [8, 9]);
    assert_eq!(numbers("?from=10"), [0; 0]);

    let candidates =
        server.post(&format!("{session}/completion"), &json!({ "code": "sel", "kind": "sql", "cursor": 3 }));
    assert_eq!(candidates.json(), json!({ "candidates": ["select"] }));
    server.rows(&session, "create table selections (a bigint)");
    let candidates =
        server.post(&format!("{session}/completion"), &json!({ "code": "sel", "kind": "sql", "cursor": 3 }));
    assert_eq!(candidates.json(), json!({ "candidates": ["select", "selections"] }));
}

#[test]
fn a_statement_waits_for_the_one_before_and_can_be_cancelled() {
    let cluster = Processes::start();
    let server = Server::new(&cluster.rest);
    let session = server.open(&sql());
    let run = |code: &str| server.post(&format!("{session}/statements"), &json!({ "code": code })).json()["id"].clone();
    let states = || -> Vec<String> {
        let listed = server.get(&format!("{session}/statements")).json();
        let states =
            listed["statements"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap().to_owned());
        states.collect()
    };
    for code in [LONG, "select 1", "select 2"] {
        run(code);
    }
    assert_eq!(server.get(&format!("{session}/state")).json()["state"], "busy");
    assert_eq!(states(), ["running", "waiting", "waiting"]);
    let cancel = |number: u32| server.post(&format!("{session}/statements/{number}/cancel"), &json!({}));
    assert_eq!(cancel(1).json(), json!({ "msg": "canceled" }));
    assert_eq!(states(), ["running", "cancelled", "waiting"]);
    // A wait that is too short returns what there is.
    let running = server.get(&format!("{session}/statements/0?wait=20")).json();
    assert_eq!((&running["state"], &running["output"]), (&json!("running"), &Value::Null));
    assert_eq!(cancel(0).status, 200);
    let ended = server.get(&format!("{session}/statements/2?wait=60000")).json();
    assert_eq!(ended["output"]["data"]["application/json"]["data"], json!([[2]]));
    assert_eq!(states(), ["cancelled", "cancelled", "available"]);
    // What has ended stays as it is.
    assert_eq!(cancel(2).status, 200);
    assert_eq!(states()[2], "available");
    assert_eq!((cancel(7).status, cancel(7).msg()), (404, "Statement not found".to_owned()));
    server.until_state(&format!("{session}/state"), "idle");

    // An interrupt cancels all, and the session goes on.
    for code in [LONG, "select 1"] {
        run(code);
    }
    assert_eq!(server.post(&format!("{session}/interrupt"), &json!({})).json(), json!({ "msg": "interrupted" }));
    server.until_state(&format!("{session}/state"), "idle");
    assert_eq!(states()[3..], ["cancelled", "cancelled"]);
    assert_eq!(server.rows(&session, "select 3"), json!([[3]]));

    // A session that ends takes its statements along.
    run(LONG);
    run("select 4");
    assert_eq!(server.post(&format!("{session}/stop"), &json!({})).status, 204);
    assert_eq!(states()[6..], ["cancelled", "cancelled"]);
    let jobs = || server.get("/api/v1/cluster").json()["jobs_running"].clone();
    assert_eq!(jobs(), 0, "the job of a cancelled statement goes on");
}

#[test]
fn code_of_other_languages_runs_as_far_as_it_is_sql() {
    let cluster = Processes::start();
    let server = Server::new(&cluster.rest);
    let session = server.open(&json!({ "kind": "pyspark" }));
    let text = |statement: &Value| statement["output"]["data"]["text/plain"].as_str().unwrap_or_default().to_owned();
    assert!(text(&server.run(&session, "spark")).contains("SparkSession"));
    let wrapped = "import sys\nfor x in spark.sql(u\"\"\"select value as n, null as z from generate_series(1, 9) order by value \"\"\").toJSON(use_unicode=(sys.version_info.major > 2)).take(2): print(x)";
    assert_eq!(text(&server.run(&session, wrapped)), "{\"n\":1}\n{\"n\":2}");
    assert_eq!(text(&server.run(&session, "print(1 + 1)")), "2");
    let posted =
        server.post(&format!("{session}/statements?wait=60000"), &json!({ "code": "select 7", "kind": "sql" }));
    assert_eq!(posted.json()["output"]["data"]["application/json"]["data"], json!([[7]]));
    let scala = server.open(&json!({ "kind": "spark" }));
    let refused = server.run(&scala, "val x = 1");
    assert_eq!((&refused["output"]["status"], &refused["output"]["ename"]), (&json!("error"), &json!("NotRun")));
    assert!(refused["output"]["evalue"].as_str().unwrap().contains("no Scala"), "{refused}");
    let wrapped = "spark.sql(\"\"\"select 'a' as a\"\"\").toJSON.take(2500).foreach(println)";
    assert_eq!(text(&server.run(&scala, wrapped)), "{\"a\":\"a\"}");
    let r = server.open(&json!({ "kind": "sparkr" }));
    let wrapped = "for (x in (jsonlite:::toJSON(take(sql(\"select 'a' as a\"),2500)))) {cat(x)}";
    assert_eq!(text(&server.run(&r, wrapped)), "[{\"a\":\"a\"}]");
}

#[test]
fn sessions_end_at_their_time_limits() {
    let cluster = Processes::start();
    let server = Server::new(&cluster.rest);
    let until_killed = |session: &str| {
        let seen = server.until_state(session, "killed");
        let refused = server.post(&format!("{session}/statements"), &json!({ "code": "select 1" }));
        assert_eq!((refused.status, refused.msg()), (400, "Session is in state killed".to_owned()));
        seen["log"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned()
    };
    let idle = server.open(&json!({ "kind": "sql", "idleTimeout": "300ms" }));
    server.run(&idle, "select 1");
    let ttl = server.open(&json!({ "kind": "sql", "ttl": "1s" }));
    let posted = server.post(&format!("{ttl}/statements"), &json!({ "code": LONG }));
    assert_eq!(posted.status, 201);
    assert!(until_killed(&idle).contains("for its idleTimeout"));
    assert!(until_killed(&ttl).contains("its ttl is over"));
    assert_eq!(server.get(&format!("{ttl}/statements/0")).json()["state"], "cancelled");
    // Outputs of an ended session stay readable.
    let kept = server.get(&format!("{idle}/statements/0")).json();
    assert_eq!(kept["output"]["data"]["application/json"]["data"], json!([[1]]));
    // Each request for the session is a heartbeat; a list of sessions is none.
    let beating = server.open(&json!({ "kind": "sql", "heartbeatTimeoutInSecond": 1 }));
    for _ in 0..8 {
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(server.get(&format!("{beating}/state")).json()["state"], "idle");
    }
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    assert_eq!(server.get(&format!("{beating}/state")).json()["state"], "killed");
}

/// The primary is killed while a statement runs, and while none does.
#[test]
fn sessions_and_outputs_outlive_their_primary() {
    let cluster = Processes::start();
    let server = Server::new(&cluster.rest);
    let mut primary = Restarted::new(cluster.primary(), &cluster.url).with_rest(&cluster.rest);
    let session = server.open(&json!({ "kind": "sql", "name": "kept", "conf": { "windlass.priority": "3" } }));
    server.rows(&session, "create table t (n bigint)");
    server.rows(&session, "set datafusion.execution.time_zone = 'Asia/Tokyo'");
    server.rows(&session, "create temporary view v as select 1 as a");
    let kept = server.run(&session, "select 42 as answer");

    primary.restart("-KILL");
    server.until_served();
    server.until_state("/sessions/kept/state", "idle");
    assert_eq!(server.get(&format!("{session}/statements/3")).json(), kept);
    let options = "select value from information_schema.df_settings where name in ('datafusion.execution.time_zone', 'windlass.priority') order by 1";
    assert_eq!(server.rows(&session, options), json!([["3"], ["Asia/Tokyo"]]));
    let log = server.get(&format!("{session}/log")).body;
    assert!(log.contains("temporary tables, views and prepared statements are gone"), "{log}");
    let gone = server.run(&session, "select * from v");
    assert_eq!(gone["output"]["status"], "error", "{gone}");

    // A statement under way is lost, one behind it runs, and none runs twice.
    let post =
        |code: &str| server.post(&format!("{session}/statements"), &json!({ "code": code })).json()["id"].clone();
    let (long, behind) = (post(LONG), post("insert into t values (1)"));
    primary.restart("-KILL");
    server.until_served();
    let lost = server.get(&format!("{session}/statements/{long}?wait=60000")).json();
    assert_eq!((&lost["state"], &lost["output"]["ename"]), (&json!("error"), &json!("Lost")), "{lost}");
    let ended = server.get(&format!("{session}/statements/{behind}?wait=60000")).json();
    assert_eq!(ended["output"]["data"]["application/json"]["data"], json!([[1]]), "{ended}");
    assert_eq!(server.rows(&session, "select count(*) from t"), json!([[1]]));

    // Writes happen once or not at all, as their statements say, whenever the primary is killed.
    let mut told = 1;
    for round in 0..6_u64 {
        let statements: Vec<Value> = (0..4).map(|_| post("insert into t values (1)")).collect();
        std::thread::sleep(std::time::Duration::from_millis(15 * round));
        primary.restart("-KILL");
        server.until_served();
        for number in statements {
            let ended = server.get(&format!("{session}/statements/{number}?wait=60000")).json();
            match ended["state"].as_str() {
                Some("available") => {
                    assert_eq!(ended["output"]["status"], "ok", "{ended}");
                    told += 1;
                }
                _ => assert_eq!(ended["output"]["ename"], "Lost", "{ended}"),
            }
        }
        assert_eq!(server.rows(&session, "select count(*) from t"), json!([[told]]), "round {round}");
    }

    // A primary that stops in good order loses nothing.
    let number = post("select 7");
    primary.restart("-TERM");
    server.until_served();
    let ended = server.get(&format!("{session}/statements/{number}?wait=60000")).json();
    assert_eq!(ended["output"]["data"]["application/json"]["data"], json!([[7]]), "{ended}");
    assert_eq!(server.delete(&session).status, 200);
    primary.restart("-KILL");
    server.until_served();
    assert_eq!(server.get(&session).status, 404);
    assert_eq!(server.open(&sql()), "/sessions/1", "numbers are not given twice");
}

#[test]
fn batches_run_scripts_of_sql() {
    let cluster = Processes::start();
    let server = Server::new(&cluster.rest);
    let session = server.open(&sql());
    server.rows(&session, "create table t (n bigint)");
    let script = |name: &str, text: &str| {
        let path = cluster.dir.path().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path.display().to_string()
    };
    assert_eq!(server.get("/batches").json(), json!({ "from": 0, "total": 0, "sessions": [] }));
    let file = script("add.sql", "insert into t values (cast($1 as bigint));\ninsert into t select cast($2 as bigint)");
    let asked = json!({
        "file": file, "args": ["1", "it's 2"], "name": "nächtlich", "proxyUser": "ann", "conf": { "spark.ui.port": 1 },
        "numExecutors": 2,
    });
    let created = server.post("/batches", &asked);
    assert_eq!((created.status, created.header("location")), (201, Some("/batches/0")));
    let batch = created.json();
    assert_eq!((&batch["id"], &batch["name"], &batch["proxyUser"]), (&json!(0), &json!("nächtlich"), &json!("ann")));
    let failed = server.until_state("/batches/0", "dead");
    assert!(failed["log"].to_string().contains("it's 2"), "{failed}");
    assert_eq!(server.rows(&session, "select n from t"), json!([[1]]), "statements before the one that fails are done");
    let log = server.get("/batches/0/log?size=-1").body;
    assert!(log.contains("spark.ui.port is ignored") && log.contains("numExecutors is ignored"), "{log}");

    // In the files of the cluster.
    succeed(windlass(&["fs", "put", &file, "/add.sql", "--url", &cluster.url]));
    let created = server.post("/batches", &json!({ "file": "wfs:///add.sql", "args": ["2", "3"] }));
    assert_eq!(created.status, 201, "{created:?}");
    server.until_state("/batches/1/state", "success");
    assert_eq!(server.rows(&session, "select n from t order by n"), json!([[1], [2], [3]]));
    assert_eq!(server.get("/batches?from=1&size=5").json()["sessions"][0]["state"], "success");

    // A batch that is deleted while it runs is cancelled.
    let long = script("long.sql", LONG);
    assert_eq!(server.post("/batches", &json!({ "file": long })).status, 201);
    assert_eq!(server.delete("/batches/2").json(), json!({ "msg": "deleted" }));
    assert_eq!(server.get("/batches/2").status, 404);
    assert_eq!(server.get("/api/v1/cluster").json()["jobs_running"], 0);
    assert_eq!(server.get("/batches").json()["total"], 2);

    let refused = |asked: &Value, word: &str| {
        let answer = server.post("/batches", asked);
        assert!(answer.status == 400 && answer.msg().contains(word), "{word} is missing in {answer:?}");
    };
    refused(&asked, "Duplicate session name: nächtlich");
    refused(&json!({}), "file");
    refused(&json!({ "file": "/nowhere/a.sql" }), "/nowhere/a.sql");
    refused(&json!({ "file": script("job.r", "print(1)") }), "scripts of SQL and programs of Python");
    refused(&json!({ "file": file, "kind": "sql" }), "kind");
    refused(&json!({ "file": file, "conf": { "spark.task.maxFailures": "x" }, "ttl": "1h" }), "ttl");
    let wrong = server.post("/batches", &json!({ "file": script("wrong.sql", "selec 1") })).json();
    let dead = server.until_state(&format!("/batches/{}", wrong["id"]), "dead");
    assert!(dead["log"].to_string().contains("selec"), "{dead}");
}

/// The primary is killed at any moment of a batch, and each of its statements happens once.
#[test]
fn batches_outlive_their_primary() {
    let cluster = Processes::start();
    let server = Server::new(&cluster.rest);
    let mut primary = Restarted::new(cluster.primary(), &cluster.url).with_rest(&cluster.rest);
    let session = server.open(&sql());
    server.rows(&session, "create table t (n bigint)");
    let path = cluster.dir.path().join("add.sql");
    let statements: Vec<String> = (0..6).map(|_| "insert into t values (cast($1 as bigint))".to_owned()).collect();
    std::fs::write(&path, statements.join(";\n")).expect("a file can be written");
    for round in 0..5_u64 {
        let asked = json!({ "file": path, "args": [round.to_string()] });
        assert_eq!(server.post("/batches", &asked).status, 201);
        std::thread::sleep(std::time::Duration::from_millis(12 * round));
        primary.restart("-KILL");
        server.until_served();
        server.until_state(&format!("/batches/{round}/state"), "success");
        let count = format!("select count(*) from t where n = {round}");
        assert_eq!(server.rows(&session, &count), json!([[6]]), "round {round}");
    }
    primary.restart("-KILL");
    server.until_served();
    assert_eq!(server.get("/batches/0/state").json()["state"], "success");
    assert_eq!(server.get("/batches").json()["total"], 5);
}

/// A client that waits in a long poll has an answer at once.
#[test]
fn a_long_poll_ends_with_its_statement() {
    let cluster = Processes::start();
    let server = Server::new(&cluster.rest);
    let session = server.open(&sql());
    let mut late = Vec::new();
    for _ in 0..50 {
        let statement = server.run(&session, "select 1");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
        late.push(now.as_millis() as u64 - statement["completed"].as_u64().expect("it has ended"));
    }
    late.sort_unstable();
    // The end is written to the store before it is told.
    println!("from the end of a statement to its answer, in ms: median {}, most {}", late[25], late[49]);
    assert!(late[25] <= 50, "{late:?}");
}

/// The text of a statement is kept and shown.
#[test]
fn credentials_are_no_part_of_a_statement() {
    let cluster = Processes::start();
    let server = Server::new(&cluster.rest);
    let session = server.post("/sessions", &sql()).json()["id"].clone();
    let path = format!("/sessions/{session}/statements");
    for (kind, code) in [
        ("sql", "create secret mine options (password 'hunter2')"),
        ("sql", "create or replace secret mine options (password 'hunter2')"),
        ("sql", "create external table t stored as postgres location 'postgresql://a:hunter2@h/d' options (table 't')"),
        ("sql", "copy (select 1) to 's3://b/x/' stored as csv options ('aws.secret_access_key' 'hunter2')"),
        ("pyspark", "spark.sql(\"create secret mine options (password 'hunter2')\").show()"),
    ] {
        let refused = server.post(&path, &json!({ "kind": kind, "code": code }));
        assert_eq!(refused.status, 400, "{code}");
        assert!(refused.msg().contains("credentials cannot be part of a statement"), "{code}: {}", refused.msg());
        assert!(!refused.body.contains("hunter2"), "{}", refused.body);
    }
    assert_eq!(server.get(&path).json()["total_statements"], 0);
    let allowed = server.post(&path, &json!({ "code": "select 'create a secretary' as words" }));
    assert_eq!(allowed.status, 201, "{}", allowed.body);
}

#[test]
fn limits_are_settings() {
    let config = tempfile::tempdir().expect("a folder can be made");
    let file = config.path().join("windlass.toml");
    let settings = "[primary]\ninteractive_sessions = 2\ninteractive_statements = 3\noutput_rows = 5\n";
    std::fs::write(&file, settings).expect("a file can be written");
    let cluster = Processes::with("512MiB", &[("WINDLASS_CONFIG", &file.display().to_string())]);
    let server = Server::new(&cluster.rest);
    let session = server.open(&sql());
    let cut = server.run(&session, "select value from generate_series(1, 100)");
    assert_eq!(cut["output"]["data"]["application/json"]["data"].as_array().map(Vec::len), Some(5), "{cut}");
    for _ in 0..4 {
        server.run(&session, "select 1");
    }
    let known = server.get(&format!("{session}/statements")).json();
    assert_eq!(known["total_statements"], 3, "{known}");
    server.open(&sql());
    assert_ne!(server.post("/sessions", &sql()).status, 201, "a third session is refused");
}
