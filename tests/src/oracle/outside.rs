//! Foreign engines, each in a Python process (`tests/python/engine.py`).

use crate::Engine;
use crate::cluster::python;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use std::process::Stdio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

pub(super) struct Outside {
    name: String,
    pipes: Mutex<(ChildStdin, ChildStdout)>,
    /// The process, which ends on drop.
    _process: Child,
}

impl Outside {
    /// Starts the engine that `arguments` of the script select.
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::from(python("engine.py", arguments));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("the engine starts");
        let stdin = process.stdin.take().expect("its input is ours");
        let stdout = process.stdout.take().expect("its output is ours");
        Self { name: name.to_owned(), pipes: Mutex::new((stdin, stdout)), _process: process }
    }

    /// DuckDB in the version of the tests' Python environment.
    pub fn duckdb() -> Self {
        Self::start("duckdb", &["duckdb"])
    }

    /// DuckDB in the other version that `make data` installs.
    pub fn newer_duckdb() -> Self {
        let folder = crate::data().with_file_name("duckdb-2");
        assert!(folder.is_dir(), "no second DuckDB in {}: run `make data`", folder.display());
        Self::start("duckdb 2", &["duckdb", &folder.display().to_string()])
    }

    /// Stock ADBC against a cluster.
    pub fn adbc(url: &str) -> Self {
        Self::start("adbc", &["adbc", url])
    }

    async fn ask(&self, sql: &str) -> std::io::Result<(u8, Vec<u8>)> {
        let mut pipes = self.pipes.lock().await;
        let (stdin, stdout) = &mut *pipes;
        stdin.write_u32(u32::try_from(sql.len()).expect("a statement is shorter than 4 GiB")).await?;
        stdin.write_all(sql.as_bytes()).await?;
        stdin.flush().await?;
        let letter = stdout.read_u8().await?;
        let mut body = vec![0; stdout.read_u32().await? as usize];
        stdout.read_exact(&mut body).await?;
        Ok((letter, body))
    }
}

#[async_trait]
impl Engine for Outside {
    fn name(&self) -> &str {
        &self.name
    }

    async fn sql(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), String> {
        let (letter, body) = self.ask(sql).await.unwrap_or_else(|error| panic!("{} ends: {error}\n{sql}", self.name));
        match letter {
            b'R' => {
                let reader = StreamReader::try_new(std::io::Cursor::new(body), None).map_err(|e| e.to_string())?;
                let schema = reader.schema();
                let batches = reader.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
                Ok((schema, batches))
            }
            _ => Err(String::from_utf8_lossy(&body).into_owned()),
        }
    }
}
