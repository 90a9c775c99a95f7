//! Inputs and results of the tasks of a stage.

use crate::exchange_source::ExchangeSource;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_core::ids::{AttemptId, JobId};
use windlass_core::job::MapLocation;

/// A part of a file of `wfs://` that a task reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub path: String,
    /// Range in bytes.
    pub range: std::ops::Range<u64>,
}

/// Locations of the input of an instance of a stage.
#[derive(Clone, Debug)]
pub struct TaskInputs {
    pub job: JobId,
    pub stages: Vec<InputLocations>,
    pub source: Arc<dyn ExchangeSource>,
}

/// The map outputs of one producing stage, sorted by partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputLocations {
    pub stage: u32,
    pub maps: Vec<MapLocation>,
}

/// The result of one attempt.
#[derive(Clone, Debug, Default)]
pub struct TaskSummary {
    pub rows: u64,
    pub bucket_bytes: Vec<u64>,
    /// A small result, as an Arrow IPC stream.
    pub inline_result: Option<Bytes>,
    /// Files that a writing task staged, for the primary to publish.
    pub staged: Option<Bytes>,
    pub metrics: Vec<OperatorMetrics>,
}

/// Metrics of one operator of a stage plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorMetrics {
    /// Position in a pre-order walk of the stage's plan.
    pub operator: u32,
    pub values: Vec<(String, u64)>,
}

/// The attempts that an instance of a stage runs, by its partitions, and what they staged.
#[derive(Debug)]
pub(crate) struct TaskScope {
    pub attempts: Vec<AttemptId>,
    pub staged: Mutex<BTreeMap<usize, Vec<u8>>>,
}
