//! `job/{id}`: an ended job. Keys are in the order of ids.

use super::encode as as_json;
use crate::meta::{MetaError, MetaStore, Update};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use windlass_core::ids::JobId;

const PREFIX: &str = "job/";

/// An ended job. Times are in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredJob {
    pub id: u64,
    pub name: String,
    pub statement: String,
    pub query: Option<String>,
    pub user: String,
    pub pool: String,
    pub priority: i32,
    pub state: String,
    pub error: Option<String>,
    pub submitted_ms: u64,
    pub started_ms: Option<u64>,
    pub ended_ms: Option<u64>,
    pub stages: Vec<StoredStage>,
    pub log: Vec<String>,
    #[serde(default)]
    pub part_of: Option<(u64, u32)>,
    /// Earlier releases called it a program.
    #[serde(default, alias = "program")]
    pub submission: Option<StoredSubmission>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct StoredSubmission {
    pub statements: u32,
    pub begun: u32,
    pub jobs: Vec<(u32, u64)>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct StoredStage {
    pub inputs: Vec<u32>,
    pub finished: bool,
    pub plan: String,
    pub tasks: u32,
    pub tasks_done: u32,
    pub failed_attempts: u32,
    pub rows: u64,
    pub bytes: u64,
    pub elapsed_us: u64,
    pub task_time_us: u64,
    pub metrics: Vec<(u32, String, u64)>,
}

pub(crate) fn encode(job: &StoredJob) -> Bytes {
    as_json(job).into()
}

/// Decodes a job. `None`: for example another release wrote it.
pub(crate) fn decode(value: &[u8]) -> Option<StoredJob> {
    serde_json::from_slice(value).ok()
}

/// Stores a job in the encoding of [`encode`].
pub(crate) fn put(job: JobId, encoded: Bytes) -> Update {
    Update::put(key_of(job), encoded)
}

pub(crate) fn delete(job: JobId) -> Update {
    Update::delete(key_of(job))
}

/// Returns the stored bytes of each job. The id is absent if the key has none.
pub(crate) async fn all(store: &dyn MetaStore) -> Result<Vec<(Option<JobId>, Bytes)>, MetaError> {
    let entries = store.range(PREFIX).await?.into_iter();
    Ok(entries.map(|(key, entry)| (key[PREFIX.len()..].parse().ok().map(JobId), entry.value)).collect())
}

fn key_of(job: JobId) -> String {
    format!("{PREFIX}{:020}", job.0)
}
