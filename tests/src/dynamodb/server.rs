//! Servers of DynamoDB's API, each a process that ends with the test.

use crate::cluster::python;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

pub(super) struct Server {
    process: Child,
    url: String,
    lines: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Server {
    /// As strict as DynamoDB; without transactions.
    pub fn dynalite() -> Self {
        let cache = std::env::var_os("WINDLASS_CACHE_DIR").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/windlass");
        let modules = cache.unwrap_or_else(home).join("dynalite");
        assert!(modules.is_dir(), "{} is missing: run 'make data' first", modules.display());
        let mut command = Command::new("node");
        command.arg(crate::workspace().join("tests/node/dynalite_server.js")).arg(modules);
        Self::start(command)
    }

    /// With transactions, and other services of AWS.
    pub fn moto() -> Self {
        Self::start(python("moto_server.py", &[]))
    }

    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("the server starts");
        let input = process.stdin.take().expect("it takes commands");
        let mut output = BufReader::new(process.stdout.take().expect("its output is read"));
        let mut url = String::new();
        output.read_line(&mut url).expect("it says where it serves");
        assert!(url.starts_with("http://"), "the server did not start");
        Self { process, url: url.trim().to_owned(), lines: Mutex::new((input, output)) }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// See the scripts of the servers.
    pub fn command(&self, command: &Value) -> Value {
        let mut lines = self.lines.lock().expect("nobody has panicked");
        let (input, output) = &mut *lines;
        writeln!(input, "{command}").expect("it takes commands");
        let mut answer = String::new();
        output.read_line(&mut answer).expect("it answers");
        serde_json::from_str(&answer).expect("its answer is JSON")
    }

    /// Calls an operation of DynamoDB.
    pub fn call(&self, operation: &str, body: Value) -> Value {
        let mut answer = self.command(&json!({"call": operation, "body": body}));
        assert_eq!(answer["status"], 200, "{operation}: {answer}");
        answer["body"].take()
    }

    /// Creates a table, and waits until it is active.
    pub fn create(&self, table: Value) {
        let name = json!({"TableName": table["TableName"]});
        self.call("CreateTable", table);
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while self.call("DescribeTable", name.clone())["Table"]["TableStatus"] != "ACTIVE" {
            assert!(std::time::Instant::now() < patience, "the table is not active");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    pub fn put(&self, table: &str, items: impl IntoIterator<Item = Value>) {
        let items: Vec<Value> = items.into_iter().map(|item| json!({"PutRequest": {"Item": item}})).collect();
        for items in items.chunks(25) {
            self.call("BatchWriteItem", json!({"RequestItems": {table: items}}));
        }
    }

    /// All items, in no order.
    pub fn items(&self, table: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut ask = json!({"TableName": table, "ConsistentRead": true});
        loop {
            let answer = self.call("Scan", ask.clone());
            items.extend(answer["Items"].as_array().cloned().unwrap_or_default());
            match answer.get("LastEvaluatedKey") {
                Some(key) => ask["ExclusiveStartKey"] = key.clone(),
                None => return items,
            }
        }
    }

    /// Bodies of the requests of this kind since the last question, of dynalite.
    pub fn requests(&self, target: &str) -> Vec<Value> {
        let all = self.command(&json!({"requests": true}));
        let of = |request: &Value| (request["target"] == target).then(|| request["body"].clone());
        all.as_array().expect("it is a list").iter().filter_map(of).collect()
    }

    /// The next `count` requests of these kinds are refused, of dynalite.
    pub fn fault(&self, code: &str, status: u16, count: u32, targets: &[&str]) {
        let fault = json!({"code": code, "status": status, "count": count, "targets": targets, "after": 1});
        self.command(&json!({"fault": fault}));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
