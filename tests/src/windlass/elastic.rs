//! The number of executors follows the load.

use crate::cluster::{run, succeed, windlass};
use serde_json::Value;
use std::time::{Duration, Instant};
use windlass_client::{Client, Session};

async fn executors(session: &Session) -> usize {
    session.status().await.expect("the cluster has a state").executors.len()
}

async fn until(what: &str, session: &Session, wanted: usize) -> Duration {
    let start = Instant::now();
    while executors(session).await != wanted {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}: there are {} executors", executors(session).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    start.elapsed()
}

/// Takes the cluster down, even if the test fails before it does so.
struct Down(String);

impl Drop for Down {
    fn drop(&mut self) {
        // The cluster may be down already.
        let _ = run(windlass(&["cluster", "down", "--dir", &self.0]));
    }
}

/// Sends `GET` over a new connection.
fn get(rest: &str, path: &str) -> String {
    use std::io::{Read, Write};
    let host = rest.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(host).expect("REST is served");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("a request is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer comes");
    answer.split_once("\r\n\r\n").expect("it has a body").1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn executors_come_with_the_load_and_go_when_they_are_idle() {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let config = dir.path().join("windlass.toml");
    std::fs::write(&config, "[elastic]\nbacklog = \"200ms\"\nidle = \"2s\"\n").expect("a file can be written");
    let at = dir.path().join("cluster").display().to_string();
    let up = ["cluster", "up", "--executors", "1", "--max-executors", "3", "--slots", "1", "--memory", "256MiB"];
    let mut command =
        windlass(&[&up[..], &["--dir", &at, "--json", "--config", &config.display().to_string()]].concat());
    command.env_remove("WINDLASS_CONFIG");
    let described: Value = serde_json::from_str(&succeed(command)).expect("the cluster is described");
    let _down = Down(at.clone());
    let [url, rest] = ["url", "rest"].map(|key| described[key].as_str().expect("it has an address").to_owned());
    let session = Client::connect(&url).await.expect("the cluster answers");
    let demand = || serde_json::from_str::<Value>(&get(&rest, "/api/v1/cluster")).expect("JSON")["demand"].clone();
    assert_eq!(executors(&session).await, 1);
    assert_eq!((demand()["executors"].as_u64(), demand()["reason"].as_str()), (Some(0), Some("idle")));

    // Statements of some seconds each, more than one executor has slots.
    let sql = "select count(*) as n from generate_series(1, 20000) a cross join generate_series(1, 20000) b where a.value <> b.value";
    let mut queries = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let session = Client::connect(&url).await.expect("the cluster answers");
        queries.spawn(async move {
            let batches = session.sql(sql).await.expect("it runs").collect().await.expect("it has a result");
            let column = batches[0].column(0).as_any().downcast_ref::<arrow::array::Int64Array>();
            column.expect("a count").value(0)
        });
    }
    let grown = until("under load", &session, 3).await;
    let asked = demand();
    let metrics = get(&rest, "/metrics");
    while let Some(answer) = queries.join_next().await {
        assert_eq!(answer.expect("it does not panic"), 20_000 * 20_000 - 20_000);
    }
    let ended = Instant::now();
    until("when idle", &session, 1).await;
    println!("3 executors after {grown:?}, 1 again {:?} after the last answer", ended.elapsed());
    assert!(asked["slots"].as_u64() >= Some(3) && asked["max_executors"].as_u64() == Some(3), "{asked}");
    for metric in ["windlass_wanted_slots{reason=", "windlass_wanted_executors", "windlass_pending_tasks"] {
        assert!(metrics.contains(metric), "{metric} is not in {metrics}");
    }

    // The executors that the cluster started end with it.
    run(windlass(&["cluster", "down", "--dir", &at])).expect("the cluster goes down");
    let left = std::fs::read_dir("/proc").expect("there are processes").filter_map(|entry| {
        let command = std::fs::read_to_string(entry.ok()?.path().join("cmdline")).ok()?;
        command.contains(&at).then_some(command)
    });
    assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new());
}
