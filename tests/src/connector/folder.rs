//! Writing to a generated table: each attempt writes a file, and each published write has a manifest that lists the files that count.
//!
//! | name | what it is |
//! | --- | --- |
//! | `WRITE.ATTEMPT.rows` | the rows of one attempt, a line of JSON for each |
//! | `WRITE.manifest` | the files of a write that is published; it appears whole, by a rename |
//! | `lock` | the word needed to read or write, if the folder has one |

use super::scan::Rows;
use async_trait::async_trait;
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err, plan_err};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use futures::TryStreamExt;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::sync::Arc;
use windlass_client::connector::{Attempt, Encoded, Sink, SinkRequest, Written};

/// A folder that all nodes share.
#[derive(Clone)]
pub(super) struct Folder {
    pub path: PathBuf,
    pub token: String,
}

/// Hides the token.
impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Folder({})", self.path.display())
    }
}

impl Folder {
    /// Checks that the token opens the folder.
    ///
    /// # Errors
    /// The folder has a lock that differs from the token.
    pub fn unlock(&self) -> Result<()> {
        match fs::read_to_string(self.path.join("lock")) {
            Ok(lock) if lock.trim() != self.token => {
                plan_err!("{} is locked, and the option 'token' of the table does not open it", self.path.display())
            }
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Checks that no write has been published to the folder.
    pub fn require_new(&self) -> Result<()> {
        match self.names(".manifest")?.is_empty() {
            true => Ok(()),
            false => plan_err!("there is a generated table in {} already", self.path.display()),
        }
    }

    /// Names of files with this ending.
    fn names(&self, ending: &str) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names: Vec<String> = names.collect::<Result<_>>()?;
        names.retain(|name| name.ends_with(ending));
        names.sort();
        Ok(names)
    }

    /// Files of all published writes.
    pub fn published(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for manifest in self.names(".manifest")? {
            let names = fs::read_to_string(self.path.join(manifest))?;
            files.extend(names.lines().map(|name| self.path.join(name)));
        }
        Ok(files)
    }

    pub fn read(&self, file: &str) -> Result<Rows> {
        let mut rows = Rows::default();
        for line in fs::read_to_string(file)?.lines() {
            let row: (Option<i64>, Option<i64>, Option<String>) =
                serde_json::from_str(line).map_err(|error| exec_datafusion_err!("{file}: {error}"))?;
            rows.ids.push(row.0);
            rows.keys.push(row.1);
            rows.names.push(row.2);
        }
        Ok(rows)
    }

    fn remove(&self, name: &str) -> Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

// example: sink
/// One write.
#[derive(Debug)]
pub(super) struct FolderSink {
    folder: Folder,
    write: String,
    /// Whether the write creates the table.
    is_new: bool,
}

impl FolderSink {
    pub fn new(folder: Folder, request: SinkRequest, is_new: bool) -> Result<Self> {
        match request.overwrite {
            true => plan_err!("rows of a generated table are not replaced: use INSERT INTO"),
            false => Ok(Self { folder, write: request.write, is_new }),
        }
    }

    /// Who decodes a sink does not prepare it.
    pub fn decode(folder: Folder, encoded: Encoded<'_>) -> Result<Self> {
        Ok(Self { folder, write: String::from_utf8_lossy(encoded.bytes).into_owned(), is_new: false })
    }

    fn file(&self, attempt: Attempt) -> String {
        format!("{}.{attempt}.rows", self.write)
    }
}

#[async_trait]
impl Sink for FolderSink {
    fn describe(&self) -> String {
        format!("folder={}", self.folder.path.display())
    }

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.write.clone().into_bytes())
    }

    async fn begin(&self, _: &Arc<RuntimeEnv>) -> Result<()> {
        Ok(fs::create_dir_all(&self.folder.path)?)
    }

    async fn write(
        &self,
        attempt: Attempt,
        mut rows: SendableRecordBatchStream,
        _: &Arc<TaskContext>,
    ) -> Result<Written> {
        self.folder.unlock()?;
        let name = self.file(attempt);
        let mut file = fs::File::create(self.folder.path.join(&name))?;
        let mut written = 0;
        while let Some(batch) = rows.try_next().await? {
            written += batch.num_rows() as u64;
            file.write_all(lines(&batch)?.as_bytes())?;
        }
        Ok(Written { rows: written, token: name.into_bytes() })
    }

    async fn prepare(&self, _: &[Vec<u8>], _: &Arc<RuntimeEnv>) -> Result<()> {
        if self.is_new { self.folder.require_new() } else { Ok(()) }
    }

    async fn publish(&self, tokens: &[Vec<u8>], _: &Arc<RuntimeEnv>) -> Result<()> {
        let names: Vec<String> = tokens.iter().map(|token| String::from_utf8_lossy(token).into_owned()).collect();
        if let Some(missing) = names.iter().find(|name| !self.folder.path.join(name).exists()) {
            return exec_err!("{missing} is gone from {}", self.folder.path.display());
        }
        let manifest = self.folder.path.join(format!("{}.manifest", self.write));
        let unfinished = self.folder.path.join(format!("{}.new", self.write));
        fs::write(&unfinished, names.join("\n"))?;
        fs::rename(&unfinished, &manifest)?;
        let of_write = |name: &&String| name.starts_with(&self.write) && !names.contains(name);
        self.folder.names(".rows")?.iter().filter(of_write).try_for_each(|name| self.folder.remove(name))
    }

    async fn abandon(&self, _: &Arc<RuntimeEnv>) -> Result<()> {
        let of_write = |name: &&String| name.starts_with(&self.write);
        let left = [self.folder.names(".rows")?, self.folder.names(".new")?].concat();
        left.iter().filter(of_write).try_for_each(|name| self.folder.remove(name))
    }
}
// end of example

fn lines(batch: &RecordBatch) -> Result<String> {
    let ids = batch.column(0).as_primitive::<Int64Type>();
    let keys = batch.column(1).as_primitive::<Int64Type>();
    let names = cast(batch.column(2), &DataType::Utf8)?;
    let names = names.as_string::<i32>();
    let mut text = String::new();
    for at in 0..batch.num_rows() {
        let number = |column: &datafusion::arrow::array::Int64Array| column.is_valid(at).then(|| column.value(at));
        let row = (number(ids), number(keys), names.is_valid(at).then(|| names.value(at)));
        let line = serde_json::to_string(&row).map_err(|error| DataFusionError::External(Box::new(error)))?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}
