//! An engine in its own process, so that its memory can be told from that of the others.
//!
//! It reads one statement per line (line breaks become spaces) and answers with one line of JSON: `{"us": …, "rows": …}` or `{"error": …}`.

use arrow::record_batch::RecordBatch;
use clap::{Args, ValueEnum};
use datafusion::prelude::{SessionConfig, SessionContext};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;
use windlass_client::{Client, EmbeddedOptions, Session};

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Kind {
    Datafusion,
    Embedded,
    Cluster,
}

#[derive(Args)]
pub struct EngineOptions {
    kind: Kind,
    /// Partitions, or slots, of an engine in one process.
    #[arg(long, default_value_t = 2)]
    partitions: usize,
    /// Address of the cluster.
    #[arg(long, default_value = "")]
    url: String,
}

enum Engine {
    DataFusion(SessionContext),
    Windlass(Session),
}

impl Engine {
    async fn open(options: &EngineOptions) -> Result<Self, String> {
        let text = |error: windlass_client::ClientError| error.to_string();
        Ok(match options.kind {
            Kind::Datafusion => {
                let config = SessionConfig::new().with_target_partitions(options.partitions);
                Self::DataFusion(SessionContext::new_with_config(config))
            }
            Kind::Embedded => {
                let slots = Some(options.partitions as u32);
                let options = EmbeddedOptions { slots, ..EmbeddedOptions::default() };
                Self::Windlass(Client::embedded(options).await.map_err(text)?)
            }
            Kind::Cluster => Self::Windlass(Client::connect(&options.url).await.map_err(text)?),
        })
    }

    async fn run(&self, sql: &str) -> Result<Vec<RecordBatch>, String> {
        match self {
            Self::DataFusion(context) => {
                let frame = context.sql(sql).await.map_err(|error| error.to_string())?;
                frame.collect().await.map_err(|error| error.to_string())
            }
            Self::Windlass(session) => {
                let result = session.sql(sql).await.map_err(|error| error.to_string())?;
                result.collect().await.map_err(|error| error.to_string())
            }
        }
    }
}

/// Answers statements until standard input ends.
pub fn serve(options: &EngineOptions) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let engine = runtime.block_on(Engine::open(options));
    for line in std::io::stdin().lock().lines() {
        let sql = line.expect("standard input is text");
        let start = Instant::now();
        let outcome = match &engine {
            Ok(engine) => runtime.block_on(engine.run(&sql)),
            Err(error) => Err(error.clone()),
        };
        let us = start.elapsed().as_micros() as u64;
        let answer = match outcome {
            Ok(batches) => json!({ "us": us, "rows": batches.iter().map(RecordBatch::num_rows).sum::<usize>() }),
            Err(error) => json!({ "error": error }),
        };
        println!("{answer}");
    }
    if let Ok(Engine::Windlass(session)) = engine {
        // The processes end with the benchmark, so a session that does not close loses nothing.
        let _ = runtime.block_on(session.close());
    }
}

/// Client of [`serve`].
pub struct Served {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Served {
    pub fn start(kind: Kind, partitions: usize, url: &str) -> Self {
        let name = kind.to_possible_value().expect("no engine is hidden");
        let this = std::env::current_exe().expect("the path of this benchmark");
        let mut child = Command::new(this)
            .args(["engine", name.get_name(), "--partitions", &partitions.to_string(), "--url", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("an engine starts");
        let input = child.stdin.take().expect("standard input is a pipe");
        let output = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        Self { child, input, output }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs a statement; returns microseconds and rows.
    pub fn run(&mut self, sql: &str) -> Result<(u64, u64), String> {
        writeln!(self.input, "{}", sql.replace('\n', " ")).map_err(|error| format!("the engine has ended: {error}"))?;
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_str(&line).map_err(|_| "the engine has ended".to_string())?;
        match (answer["us"].as_u64(), answer["rows"].as_u64()) {
            (Some(us), Some(rows)) => Ok((us, rows)),
            _ => Err(answer["error"].as_str().unwrap_or_default().to_string()),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It has nothing to save, and must not outlive a benchmark that failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
