//! Three primaries on an etcd, of which the leader is killed with sessions, statements, batches and programs in every state.

use super::http::Server;
use super::{LONG, sql};
use crate::cluster::wait_until_gone;
use crate::windlass::failover::Primaries;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// Prints its process, and stays.
const PROGRAM: &str = "import os, time\nos.write(1, f'program {os.getpid()}\\n'.encode())\ntime.sleep(1000)\n";

/// The number of the primary that leads, and its REST. All others that are alive send clients there.
fn leader(cluster: &Primaries, dead: &[usize]) -> (usize, Server) {
    let patience = Instant::now() + Duration::from_secs(60);
    let alive: Vec<usize> = (0..cluster.rest.len()).filter(|number| !dead.contains(number)).collect();
    let asks = |number: &usize| Server::new(&cluster.rest[*number]).try_call("GET", "/sessions?from=0", "", b"");
    loop {
        let leads = |number: &&usize| asks(number).is_ok_and(|answer| answer.status == 200);
        if let Some(&leads) = alive.iter().find(leads) {
            let there = format!("{}/sessions?from=0", cluster.rest[leads]);
            let sends_on = |number: &usize| {
                asks(number).is_ok_and(|answer| answer.status == 307 && answer.header("location") == Some(&there))
            };
            if alive.iter().filter(|number| **number != leads).all(sends_on) {
                return (leads, Server::new(&cluster.rest[leads]));
            }
        }
        assert!(Instant::now() < patience, "nobody leads");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a file has a line.
fn until_written(file: &Path) {
    let patience = Instant::now() + Duration::from_secs(60);
    while std::fs::metadata(file).is_ok_and(|of| of.len() == 0) {
        assert!(Instant::now() < patience, "{} stays empty", file.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_outlives_two_of_three_primaries() {
    let cluster = Primaries::start("3").await;
    let file = |name: &str, text: &str| {
        let path = cluster.dir.path().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path.display().to_string()
    };
    let program = file("program.py", PROGRAM);
    let script = file("add.sql", &["insert into t values (cast($1 as bigint))"; 4].join(";\n"));
    let mut dead = Vec::new();
    let (mut leads, mut server) = leader(&cluster, &dead);
    let session = server.open(&json!({ "kind": "sql", "name": "kept" }));
    server.rows(&session, "create table t (n bigint)");
    let kept = server.run(&session, "select 42 as answer");
    for round in 0..2 {
        let post = |session: &str, code: &str| {
            server.post(&format!("{session}/statements"), &json!({ "code": code })).json()["id"].clone()
        };
        // A session whose statement is cancelled, one that has stopped, and one that has just been asked for.
        let cancelled = server.open(&sql());
        let stopped = server.open(&sql());
        server.post(&format!("{stopped}/stop"), &json!({}));
        post(&cancelled, LONG);
        server.until_state(&format!("{cancelled}/statements/0"), "running");
        let batch =
            |asked: &Value| server.post("/batches", asked).header("location").expect("it has a place").to_owned();
        let done = batch(&json!({ "file": script, "args": [format!("1{round}")] }));
        server.until_state(&format!("{done}/state"), "success");
        let runs = batch(&json!({ "file": program }));
        let own = server.number(&runs, "program ");
        // One runs, one waits; a batch begins.
        let (long, behind) = (post(&session, LONG), post(&session, &format!("insert into t values ({round})")));
        server.until_state(&format!("{session}/statements/{long}"), "running");
        server.post(&format!("{cancelled}/statements/0/cancel"), &json!({}));
        // A session whose Python runs, with a statement that waits behind it. Both places for programs are taken then.
        let busy = server.open(&json!({ "kind": "pyspark" }));
        let plain = |server: &Server, code: &str| {
            let ended = server.run(&busy, code);
            ended["output"]["data"]["text/plain"].as_str().unwrap_or_else(|| panic!("{ended}")).to_owned()
        };
        let process = plain(&server, "import os\nos.getpid()").parse().expect("a process has a number");
        let run = file(&format!("python-{round}"), "");
        let once = format!("print('x', file=open({run:?}, 'a'), flush=True)");
        let (python, after) = (post(&busy, &format!("{once}\nwhile True: pass")), post(&busy, &once));
        server.until_state(&format!("{busy}/statements/{python}"), "running");
        until_written(Path::new(&run));
        let begun = batch(&json!({ "file": script, "args": [format!("2{round}")] }));
        let started = server.open(&sql());

        cluster.signal(leads, "-9");
        dead.push(leads);
        (leads, server) = leader(&cluster, &dead);

        assert_eq!(server.get(&format!("{session}/statements/1")).json(), kept);
        let lost = server.get(&format!("{session}/statements/{long}?wait=60000")).json();
        assert_eq!((&lost["state"], &lost["output"]["ename"]), (&json!("error"), &json!("Lost")), "{lost}");
        let ended = server.get(&format!("{session}/statements/{behind}?wait=60000")).json();
        assert_eq!(ended["output"]["data"]["application/json"]["data"], json!([[1]]), "{ended}");
        let given_up = server.get(&format!("{cancelled}/statements/0?wait=60000")).json();
        assert!(given_up["state"] == "cancelled" || given_up["output"]["ename"] == "Lost", "{given_up}");
        assert_eq!(server.get(&format!("{stopped}/state")).json()["state"], "dead");
        wait_until_gone(process);
        let lost = server.get(&format!("{busy}/statements/{python}?wait=60000")).json();
        assert_eq!((&lost["state"], &lost["output"]["ename"]), (&json!("error"), &json!("Lost")), "{lost}");
        let behind = server.get(&format!("{busy}/statements/{after}?wait=60000")).json();
        assert!(behind["state"] == "available" || behind["output"]["ename"] == "PythonEnded", "{behind}");
        let ran = 1 + usize::from(behind["output"]["status"] == "ok");
        assert_eq!(std::fs::read_to_string(&run).expect("it is there").lines().count(), ran, "{behind}");
        assert_eq!(plain(&server, "6 * 7"), "42");
        for idle in [&session, &cancelled, &started, &busy] {
            server.until_state(&format!("{idle}/state"), "idle");
        }
        assert_eq!(server.rows(&started, "select 7"), json!([[7]]));
        // Its process leaves a place to those of the next round.
        assert_eq!(server.delete(&busy).status, 200);
        server.until_state(&format!("{begun}/state"), "success");
        server.until_state(&format!("{done}/state"), "success");
        server.until_state(&format!("{runs}/state"), "dead");
        wait_until_gone(own);
        let log = server.log(&runs).join("\n");
        assert!(log.contains("how far it came is not known"), "{log}");
        for (value, rows) in [(format!("{round}"), 1), (format!("1{round}"), 4), (format!("2{round}"), 4)] {
            let count = format!("select count(*) from t where n = {value}");
            assert_eq!(server.rows(&session, &count), json!([[rows]]), "{value}");
        }
    }
}
