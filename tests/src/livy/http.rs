//! Requests over HTTP/1.1, each on a connection of its own.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A server, by its host and port.
#[derive(Clone)]
pub(crate) struct Server(String);

#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    /// What Livy says of a request that fails.
    pub fn msg(&self) -> String {
        self.json()["msg"].as_str().unwrap_or_else(|| panic!("no msg: {self:?}")).to_owned()
    }
}

impl Server {
    pub fn new(rest: &str) -> Self {
        Server(rest.trim_start_matches("http://").to_owned())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "", b"")
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, "", b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, "X-Requested-By: tests\r\n", body.to_string().as_bytes())
    }

    pub fn call(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        self.try_call(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub fn try_call(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> std::io::Result<Answer> {
        let headers = format!("Content-Type: application/json\r\nContent-Length: {}\r\n{headers}", body.len());
        self.send(method, path, &headers, body)
    }

    /// Sends a request with these headers alone, and reads the answer after the whole body is sent.
    pub fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> std::io::Result<Answer> {
        let host = &self.0;
        let mut stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8(answer).expect("an answer is text");
        let ended = || std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "no whole answer");
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(ended)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(ended)?;
        Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
    }

    /// Waits until the server answers.
    pub fn until_served(&self) {
        let patience = Instant::now() + Duration::from_secs(60);
        while !self.try_call("GET", "/healthz", "", b"").is_ok_and(|answer| answer.status == 200) {
            assert!(Instant::now() < patience, "{} does not answer", self.0);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Opens a session and returns its path.
    pub fn open(&self, body: &Value) -> String {
        let created = self.post("/sessions", body);
        assert_eq!(created.status, 201, "{created:?}");
        created.header("location").expect("it has a place").to_owned()
    }

    /// Runs a statement to its end and returns it.
    pub fn run(&self, session: &str, code: &str) -> Value {
        let posted = self.post(&format!("{session}/statements?wait=60000"), &serde_json::json!({ "code": code }));
        assert_eq!(posted.status, 201, "{posted:?}");
        posted.json()
    }

    /// Runs a statement and returns the rows of its result.
    pub fn rows(&self, session: &str, code: &str) -> Value {
        let statement = self.run(session, code);
        assert_eq!(statement["output"]["status"], "ok", "{statement}");
        statement["output"]["data"]["application/json"]["data"].clone()
    }

    /// The lines of a session's or a batch's log.
    pub fn log(&self, path: &str) -> Vec<String> {
        let log = self.get(&format!("{path}/log?size=-1")).json();
        let lines = log["log"].as_array().cloned().unwrap_or_default();
        lines.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect()
    }

    /// Waits until the log has a line that begins with `word`, and returns the number behind it.
    pub fn number(&self, path: &str, word: &str) -> u32 {
        let patience = Instant::now() + Duration::from_secs(30);
        loop {
            let log = self.log(path);
            let number = log.iter().find_map(|line| line.strip_prefix(word)?.trim().parse().ok());
            if let Some(number) = number {
                return number;
            }
            assert!(Instant::now() < patience, "{word} is not in {log:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn until_state(&self, path: &str, state: &str) -> Value {
        let patience = Instant::now() + Duration::from_secs(30);
        loop {
            let seen = self.get(path).json();
            if seen["state"] == state {
                return seen;
            }
            assert!(Instant::now() < patience, "{path} does not become {state}: {seen}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
