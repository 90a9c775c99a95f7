//! `stage/{statement}/{index}`: a finished stage of a running job, by the name of the job's statement. `stage/{statement}/takeovers`:
//! the number of leaders that took it over.

use crate::meta::{Key, MetaError, MetaStore, Update, segment, unsegment};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use windlass_core::ids::{ExecutorId, JobId, PlanHash};
use windlass_core::job::{FinishedOutput, MapLocation, Takeovers};
use windlass_engine::ClusterShape;

const PREFIX: &str = "stage/";
const TAKEOVERS: &str = "takeovers";

/// A job that an earlier leader began, and its finished stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    pub job: JobId,
    /// The cluster shape for which it was planned.
    pub shape: ClusterShape,
    /// The number of leaders that took it over.
    pub takeovers: Takeovers,
    pub stages: Vec<BegunStage>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BegunStage {
    pub index: u32,
    /// See [`windlass_engine::PlannedJob::lineages`].
    pub lineage: PlanHash,
    /// Executors have the ids that the earlier leader gave them.
    pub outputs: Vec<FinishedOutput>,
}

/// A stage in the store. The fields of its outputs are stored in columns.
#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(uint64, tag = "1")]
    job: u64,
    #[prost(bytes = "vec", tag = "2")]
    lineage: Vec<u8>,
    #[prost(uint32, repeated, tag = "3")]
    shape: Vec<u32>,
    #[prost(uint32, repeated, tag = "4")]
    partitions: Vec<u32>,
    #[prost(uint32, repeated, tag = "5")]
    attempts: Vec<u32>,
    #[prost(uint64, repeated, tag = "6")]
    executors: Vec<u64>,
    #[prost(uint64, repeated, tag = "7")]
    rows: Vec<u64>,
    #[prost(uint64, repeated, tag = "8")]
    bytes: Vec<u64>,
}

pub(crate) fn put(statement: &str, job: JobId, shape: ClusterShape, stage: &BegunStage) -> Update {
    let key = format!("{}{:06}", prefix_of(statement), stage.index);
    Update::put(key, Record::new(job, shape, stage).encode_to_vec())
}

pub(crate) fn put_takeovers(statement: &str, takeovers: Takeovers) -> Update {
    Update::put(format!("{}{TAKEOVERS}", prefix_of(statement)), takeovers.0.to_string().into_bytes())
}

/// Returns all stored keys, by statement.
pub(crate) async fn all(store: &dyn MetaStore) -> Result<BTreeMap<String, BTreeSet<Key>>, MetaError> {
    let mut all = BTreeMap::<String, BTreeSet<Key>>::new();
    for (key, _) in store.range(PREFIX).await? {
        if let Some((statement, _)) = key[PREFIX.len()..].split_once('/') {
            all.entry(unsegment(statement)).or_default().insert(Key(key));
        }
    }
    Ok(all)
}

/// Returns the saved stages of a statement, if any.
pub(crate) async fn find(store: &dyn MetaStore, statement: &str) -> Result<Option<Begun>, MetaError> {
    let prefix = prefix_of(statement);
    let mut takeovers = Takeovers::default();
    let mut begun: Option<Begun> = None;
    for (key, entry) in store.range(&prefix).await? {
        let corrupt = |reason: &str| MetaError::Corrupt { key: key.clone(), reason: reason.to_string() };
        let name = &key[prefix.len()..];
        if name == TAKEOVERS {
            let number = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse::<u32>().ok());
            takeovers = Takeovers(number.ok_or_else(|| corrupt("not a number"))?);
            continue;
        }
        let index = name.parse().map_err(|_| corrupt("not the number of a stage"))?;
        let record = Record::decode(entry.value).map_err(|error| corrupt(&error.to_string()))?;
        let (job, shape, stage) = record.read(index).ok_or_else(|| corrupt("its columns do not fit"))?;
        let begun = begun.get_or_insert(Begun { job, shape, takeovers, stages: Vec::new() });
        if begun.job == job {
            begun.stages.push(stage);
        }
    }
    Ok(begun.map(|begun| Begun { takeovers, ..begun }))
}

/// Returns the bytes of each stored stage.
#[cfg(test)]
pub(crate) async fn sizes(store: &dyn MetaStore) -> Vec<usize> {
    store.range(PREFIX).await.unwrap().iter().map(|(_, entry)| entry.value.len()).collect()
}

fn prefix_of(statement: &str) -> String {
    format!("{PREFIX}{}/", segment(statement))
}

impl Record {
    fn new(job: JobId, shape: ClusterShape, stage: &BegunStage) -> Self {
        let outputs = || stage.outputs.iter();
        Record {
            job: job.0,
            lineage: stage.lineage.0.to_be_bytes().to_vec(),
            shape: vec![shape.executors, shape.slots, shape.max_slots],
            partitions: outputs().map(|output| output.location.partition).collect(),
            attempts: outputs().map(|output| output.location.attempt).collect(),
            executors: outputs().map(|output| output.location.executor.0).collect(),
            rows: outputs().map(|output| output.rows).collect(),
            bytes: outputs().map(|output| output.bytes).collect(),
        }
    }

    fn read(self, index: u32) -> Option<(JobId, ClusterShape, BegunStage)> {
        let &[executors, slots, max_slots] = self.shape.as_slice() else { return None };
        let lineage = PlanHash(u128::from_be_bytes(self.lineage.as_slice().try_into().ok()?));
        let count = self.partitions.len();
        let lengths = [self.attempts.len(), self.executors.len(), self.rows.len(), self.bytes.len()];
        if lengths.iter().any(|&length| length != count) {
            return None;
        }
        let output = |at: usize| FinishedOutput {
            location: MapLocation {
                partition: self.partitions[at],
                attempt: self.attempts[at],
                executor: ExecutorId(self.executors[at]),
            },
            rows: self.rows[at],
            bytes: self.bytes[at],
        };
        let outputs = (0..count).map(output).collect();
        Some((JobId(self.job), ClusterShape { executors, slots, max_slots }, BegunStage { index, lineage, outputs }))
    }
}
