//! Livy's REST on a cluster of processes: a statement against Flight SQL in turns, the start of a session, and many sessions under load.
//!
//! ```text
//!   statement   POST …/statements?wait=10000 to its answer, over one connection, against the same statement over a warm Flight SQL connection
//!   session     POST /sessions to its answer
//!   program     run_program() of a program that does nothing, against the interpreter itself; a session's first statement of Python, and later ones
//!   load        1,000 open sessions, 200 requests a second: GET …/state and, each tenth, a statement that waits for its result
//! ```
//! `make bench`, or `windlass-bench livy`

use crate::tpch::Cluster;
use clap::Args;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use windlass_client::Client;

#[derive(Args)]
pub struct Options {
    /// Statements of each kind.
    #[arg(long, default_value_t = 500)]
    statements: usize,
    /// Sessions that are open under load.
    #[arg(long, default_value_t = 1_000)]
    sessions: usize,
    /// Requests a second under load.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Seconds of load.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// Connections that send requests under load.
const CONNECTIONS: usize = 8;
const STATEMENT: &str = "select 1 as one";

pub fn run(options: &Options) {
    let cluster = Cluster::of("512MiB");
    let mut http = Http::new(&cluster.rest);
    let opened = (0..options.sessions.min(200)).map(|_| timed(|| open(&mut http)).1).collect();
    report("a session is open after", opened);

    let session = open(&mut http);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let flight = runtime.block_on(Client::connect(&cluster.url)).expect("the cluster answers");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..options.statements {
        let asked = async || flight.sql(STATEMENT).await?.collect().await;
        theirs.push(timed(|| runtime.block_on(asked()).expect("it is answered")).1);
        ours.push(timed(|| run_statement(&mut http, session)).1);
    }
    report("a statement over Flight SQL", theirs);
    report("a statement over Livy", ours);

    programs(&mut http, &runtime, &flight, options.statements.min(50));

    let mut sessions: Vec<u64> = (0..options.sessions).map(|_| open(&mut http)).collect();
    sessions.push(session);
    let before = cluster.primary_bytes();
    let begun = Instant::now();
    let pause = Duration::from_secs(1) / options.rate * CONNECTIONS as u32;
    let workers: Vec<_> = (0..CONNECTIONS)
        .map(|worker| {
            let (rest, sessions) = (cluster.rest.clone(), sessions.clone());
            let until = begun + Duration::from_secs(options.seconds);
            std::thread::spawn(move || load(&rest, &sessions, worker, pause, until))
        })
        .collect();
    let (mut states, mut statements) = (Vec::new(), Vec::new());
    for worker in workers {
        let (some, others) = worker.join().expect("its requests are answered");
        states.extend(some);
        statements.extend(others);
    }
    let sent = states.len() + statements.len();
    let rate = sent as f64 / begun.elapsed().as_secs_f64();
    println!("{} open sessions, {rate:.0} requests a second for {} s:", sessions.len(), options.seconds);
    report("  state of a session", states);
    report("  a statement", statements);
    let after = cluster.primary_bytes();
    println!("  the primary had {} MiB resident before, and {} MiB after", before >> 20, after >> 20);
}

/// Programs and sessions of Python, in turns with the interpreter that executors start.
fn programs(http: &mut Http, runtime: &tokio::runtime::Runtime, flight: &windlass_client::Session, rounds: usize) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let program = folder.path().join("nothing.py");
    std::fs::write(&program, "").expect("a file can be written");
    let statement = format!("select seconds from run_program('{}')", program.display());
    let (mut bare, mut ours, mut first, mut later) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let interpreter = || std::process::Command::new("python3").arg(&program).status();
        bare.push(timed(|| assert!(interpreter().is_ok_and(|status| status.success()))).1);
        let asked = async || flight.sql(statement.clone()).await?.collect().await;
        ours.push(timed(|| runtime.block_on(asked()).expect("the program ends")).1);
        let session = http.call("POST", "/sessions", &json!({"kind": "pyspark"}))["id"].as_u64();
        let session = session.expect("a session has a number");
        first.push(timed(|| run_python(http, session)).1);
        later.push(timed(|| run_python(http, session)).1);
        http.call("DELETE", &format!("/sessions/{session}"), &Value::Null);
    }
    report("the interpreter of Python", bare);
    report("a program of Python", ours);
    report("a session's first Python", first);
    report("a later statement of Python", later);
}

fn run_python(http: &mut Http, session: u64) {
    let path = format!("/sessions/{session}/statements?wait=10000");
    let answer = http.call("POST", &path, &json!({"code": "40 + 2"}));
    assert_eq!(answer["output"]["data"]["text/plain"], "42", "{answer}");
}

/// Sends requests at a pace until the end. Returns how long calls of the state and statements took.
fn load(
    rest: &str,
    sessions: &[u64],
    worker: usize,
    pause: Duration,
    until: Instant,
) -> (Vec<Duration>, Vec<Duration>) {
    let mut http = Http::new(rest);
    let (mut states, mut statements) = (Vec::new(), Vec::new());
    let mut next = Instant::now();
    for number in 0.. {
        next += pause;
        if next > until {
            break;
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let session = sessions[(worker * 7919 + number * 104_729) % sessions.len()];
        match number % 10 {
            0 => statements.push(timed(|| run_statement(&mut http, session)).1),
            _ => states.push(timed(|| http.call("GET", &format!("/sessions/{session}/state"), &Value::Null)).1),
        }
    }
    (states, statements)
}

fn open(http: &mut Http) -> u64 {
    http.call("POST", "/sessions", &json!({"kind": "sql"}))["id"].as_u64().expect("a session has a number")
}

fn run_statement(http: &mut Http, session: u64) {
    let path = format!("/sessions/{session}/statements?wait=10000");
    let answer = http.call("POST", &path, &json!({"code": STATEMENT}));
    assert_eq!(answer["output"]["data"]["application/json"]["data"], json!([[1]]), "{answer}");
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let done = work();
    (done, begun.elapsed())
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
    let ms = |percent| at(percent).map_or(0.0, Duration::as_secs_f64) * 1e3;
    println!("{name:28} median {:.2} ms, 99 of 100 within {:.2} ms ({} of them)", ms(50), ms(99), times.len());
}

/// One connection of HTTP/1.1.
struct Http {
    host: String,
    stream: BufReader<TcpStream>,
}

impl Http {
    fn new(rest: &str) -> Self {
        let host = rest.trim_start_matches("http://").to_string();
        let stream = TcpStream::connect(&host).expect("the primary listens");
        stream.set_nodelay(true).expect("it is a socket");
        Self { host, stream: BufReader::new(stream) }
    }

    fn call(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nX-Requested-By: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        self.stream.get_mut().write_all((head + &body).as_bytes()).expect("it is sent");
        let (mut status, mut length, mut line) = (String::new(), 0, String::new());
        loop {
            line.clear();
            let read = self.stream.read_line(&mut line).expect("there is an answer");
            assert!(read > 0, "{method} {path}: the connection has ended");
            if status.is_empty() {
                status.clone_from(&line);
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().expect("a length is a number");
                }
                None if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).expect("the answer has its length");
        assert!(status.contains(" 20"), "{method} {path}: {status}{}", String::from_utf8_lossy(&answer));
        serde_json::from_slice(&answer).unwrap_or_default()
    }
}
