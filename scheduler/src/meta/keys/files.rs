//! The namespace of `wfs://`: a log of changes, and segments of records that replace the log from time to time.
//!
//! ```text
//!   wfs/head             where the log begins, and the counters
//!   wfs/segment/N        records of files N x 256 and on, at some time since the log began
//!   wfs/log/N            records that were put, ids that were removed, counters, outcomes of requests; later entries count
//!   wfs/outcome/N        outcomes N x 256 and on that were kept at some time since the log began
//!   wfs/cluster          which namespace this is: 16 bytes
//! ```

use crate::clock::Ids;
use crate::meta::{Expectation, MetaError, MetaStore, Transaction, Update};
use bytes::Bytes;
use prost::Message;
use windlass_core::ids::{BlockId, FileId};
use windlass_core::wfs::{
    Answer, Block, Changes, Coding, Counters, CreateMode, FileData, FolderTerms, FsPath, Kind, Outcome, Quota, Record,
    Writing,
};
use windlass_proto::{files as wire, v1};

const HEAD: &str = "wfs/head";
const LOG: &str = "wfs/log/";
const SEGMENT: &str = "wfs/segment/";
const OUTCOME: &str = "wfs/outcome/";
const CLUSTER: &str = "wfs/cluster";

/// An entry of the log.
pub(crate) struct Logged {
    /// Bytes of the entry.
    pub bytes: usize,
    pub counters: Counters,
    pub removed: Vec<FileId>,
    pub put: Vec<Record>,
    pub outcomes: Vec<Outcome>,
}

/// Returns the number of the first entry of the log that counts, and the counters at that point.
pub(crate) async fn head(store: &dyn MetaStore) -> Result<(u64, Counters), MetaError> {
    let Some(entry) = store.get(HEAD).await? else { return Ok((0, Counters::default())) };
    let Head { log, next_file, next_block } = Head::decode(entry.value).map_err(|error| corrupt(HEAD, &error))?;
    Ok((log, Counters { next_file, next_block }))
}

/// Writes the head of the log. Entries before `log` do not count any more.
pub(crate) fn put_head(log: u64, Counters { next_file, next_block }: Counters) -> Update {
    Update::put(HEAD, Head { log, next_file, next_block }.encode_to_vec())
}

/// Returns the records of all segments.
pub(crate) async fn segments(store: &dyn MetaStore) -> Result<Vec<Record>, MetaError> {
    let mut all = Vec::new();
    for (key, entry) in store.range(SEGMENT).await? {
        let segment = Segment::decode(entry.value).map_err(|error| corrupt(&key, &error))?;
        for record in segment.records {
            all.push(record.read().ok_or_else(|| corrupt(&key, &"a record is not complete"))?);
        }
    }
    Ok(all)
}

/// Writes a segment, or deletes one without records.
pub(crate) fn put_segment(number: u64, records: &[Record]) -> Update {
    let key = format!("{SEGMENT}{number:016}");
    match records.is_empty() {
        true => Update::delete(key),
        false => {
            Update::put(key, Segment { records: records.iter().map(StoredRecord::from).collect() }.encode_to_vec())
        }
    }
}

/// Returns the outcomes of each segment with its number. Outcomes that another release wrote are omitted.
pub(crate) async fn outcomes(store: &dyn MetaStore) -> Result<Vec<(u64, Vec<Outcome>)>, MetaError> {
    let segments = store.range(OUTCOME).await?.into_iter().map(|(key, entry)| {
        let number = key[OUTCOME.len()..].parse().map_err(|error| corrupt(&key, &error))?;
        let stored = Outcomes::decode(entry.value).map_err(|error| corrupt(&key, &error))?.outcomes;
        Ok((number, stored.into_iter().filter_map(StoredOutcome::read).collect()))
    });
    segments.collect()
}

/// Writes a segment of outcomes, or deletes an empty one.
pub(crate) fn put_outcomes(number: u64, outcomes: &[Outcome]) -> Update {
    let key = format!("{OUTCOME}{number:016}");
    match outcomes.is_empty() {
        true => Update::delete(key),
        false => {
            Update::put(key, Outcomes { outcomes: outcomes.iter().map(StoredOutcome::from).collect() }.encode_to_vec())
        }
    }
}

/// Returns the log from entry `first` on, in order.
///
/// # Errors
/// The store's errors, and a missing entry among the others.
pub(crate) async fn log(store: &dyn MetaStore, first: u64) -> Result<Vec<Logged>, MetaError> {
    let (mut log, mut next) = (Vec::new(), first);
    for (key, entry) in store.range(LOG).await? {
        let number: u64 = key[LOG.len()..].parse().map_err(|error| corrupt(&key, &error))?;
        if number < first {
            // The entry remains from a checkpoint that was interrupted while it removed obsolete entries.
            continue;
        }
        if number != next {
            return Err(corrupt(&key, &format!("entry {next} of the log is missing before it")));
        }
        next += 1;
        let bytes = entry.value.len();
        let change = Change::decode(entry.value).map_err(|error| corrupt(&key, &error))?;
        let put = change.put.into_iter().map(StoredRecord::read).collect::<Option<Vec<Record>>>();
        log.push(Logged {
            bytes,
            counters: Counters { next_file: change.next_file, next_block: change.next_block },
            removed: change.removed.into_iter().map(FileId).collect(),
            put: put.ok_or_else(|| corrupt(&key, &"a record is not complete"))?,
            outcomes: change.outcomes.into_iter().filter_map(StoredOutcome::read).collect(),
        });
    }
    Ok(log)
}

pub(crate) fn entry(number: u64, changes: &Changes, counters: Counters) -> Update {
    let Counters { next_file, next_block } = counters;
    let put = changes.put.iter().map(StoredRecord::from).collect();
    let removed = changes.removed.iter().map(|id| id.0).collect();
    let outcomes = changes.outcomes.iter().map(StoredOutcome::from).collect();
    Update::put(log_key(number), Change { put, removed, next_file, next_block, outcomes }.encode_to_vec())
}

/// Adds `entry` with that number, unless one exists.
pub(crate) fn append(number: u64, entry: Update) -> Transaction {
    Transaction::default().expect(log_key(number), Expectation::Absent).with(entry)
}

pub(crate) fn delete_entry(number: u64) -> Update {
    Update::delete(log_key(number))
}

/// Returns the number of log entries, including those that do not count any more.
#[cfg(test)]
pub(crate) async fn log_length(store: &dyn MetaStore) -> usize {
    store.range(LOG).await.unwrap().len()
}

/// Returns the id of the store's namespace. Creates it if there is none.
pub(crate) async fn cluster(store: &dyn MetaStore, ids: &Ids) -> Result<Bytes, MetaError> {
    loop {
        if let Some(entry) = store.get(CLUSTER).await? {
            return Ok(entry.value);
        }
        let made = Bytes::copy_from_slice(&ids.number().to_be_bytes());
        match store.commit(Transaction::default().expect(CLUSTER, Expectation::Absent).put(CLUSTER, made.clone())).await
        {
            Ok(()) => return Ok(made),
            Err(MetaError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

fn log_key(number: u64) -> String {
    format!("{LOG}{number:016}")
}

fn corrupt(key: &str, reason: &dyn ToString) -> MetaError {
    MetaError::Corrupt { key: key.to_string(), reason: reason.to_string() }
}

#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(uint64, tag = "1")]
    log: u64,
    #[prost(uint64, tag = "2")]
    next_file: u64,
    #[prost(uint64, tag = "3")]
    next_block: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Segment {
    #[prost(message, repeated, tag = "1")]
    records: Vec<StoredRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct Change {
    #[prost(message, repeated, tag = "1")]
    put: Vec<StoredRecord>,
    #[prost(uint64, repeated, tag = "2")]
    removed: Vec<u64>,
    #[prost(uint64, tag = "3")]
    next_file: u64,
    #[prost(uint64, tag = "4")]
    next_block: u64,
    #[prost(message, repeated, tag = "5")]
    outcomes: Vec<StoredOutcome>,
}

#[derive(Clone, PartialEq, Message)]
struct Outcomes {
    #[prost(message, repeated, tag = "1")]
    outcomes: Vec<StoredOutcome>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredOutcome {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(bytes = "vec", tag = "2")]
    name: Vec<u8>,
    /// Absent: the request returned no entry.
    #[prost(message, optional, tag = "3")]
    entry: Option<v1::FileEntry>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRecord {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    parent: u64,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(uint64, tag = "4")]
    modified_ms: u64,
    #[prost(oneof = "StoredKind", tags = "5, 6, 7")]
    kind: Option<StoredKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum StoredKind {
    #[prost(message, tag = "5")]
    Folder(StoredFolder),
    #[prost(message, tag = "6")]
    File(StoredFile),
    #[prost(message, tag = "7")]
    Writing(StoredWriting),
}

#[derive(Clone, PartialEq, Message)]
struct StoredFolder {
    #[prost(uint64, optional, tag = "1")]
    quota_files: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    quota_bytes: Option<u64>,
    #[prost(uint32, optional, tag = "3")]
    replication: Option<u32>,
    #[prost(string, optional, tag = "4")]
    policy: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredFile {
    #[prost(uint32, tag = "1")]
    replication: u32,
    #[prost(uint64, repeated, tag = "2")]
    blocks: Vec<u64>,
    #[prost(uint64, repeated, tag = "3")]
    bytes: Vec<u64>,
    /// Empty: the blocks are whole.
    #[prost(string, tag = "4")]
    coding: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredWriting {
    #[prost(string, tag = "1")]
    path: String,
    /// 0: overwrite. 1: create. 2 and more: replace the file whose id is this number minus 2.
    #[prost(uint64, tag = "2")]
    mode: u64,
    #[prost(bytes = "vec", tag = "3")]
    writer: Vec<u8>,
    #[prost(uint64, tag = "4")]
    block_bytes: u64,
    #[prost(message, optional, tag = "5")]
    sealed: Option<StoredFile>,
    /// 0: none.
    #[prost(uint64, tag = "6")]
    open: u64,
    /// Whether the new file continues the replaced one.
    #[prost(bool, tag = "7")]
    append: bool,
}

impl StoredFile {
    fn new(replication: u8, coding: Option<Coding>, blocks: &[Block]) -> Self {
        StoredFile {
            replication: replication.into(),
            coding: wire::code(coding),
            blocks: blocks.iter().map(|block| block.id.0).collect(),
            bytes: blocks.iter().map(|block| block.bytes).collect(),
        }
    }

    fn read(self) -> Option<(u8, Option<Coding>, Vec<Block>)> {
        if self.blocks.len() != self.bytes.len() {
            return None;
        }
        let pairs = self.blocks.into_iter().zip(self.bytes);
        let blocks = pairs.map(|(id, bytes)| Block { id: BlockId(id), bytes }).collect();
        Some((u8::try_from(self.replication).ok()?, wire::coding(&self.coding).ok()?, blocks))
    }
}

impl From<&Outcome> for StoredOutcome {
    fn from(outcome: &Outcome) -> Self {
        let entry = match &outcome.answer {
            Answer::Done => None,
            Answer::Entry(entry) => Some(entry.clone().into()),
        };
        StoredOutcome { number: outcome.number, name: outcome.name.to_be_bytes().into(), entry }
    }
}

impl StoredOutcome {
    /// `None`: another release wrote it.
    fn read(self) -> Option<Outcome> {
        let answer = match self.entry {
            None => Answer::Done,
            Some(entry) => Answer::Entry(wire::entry(entry).ok()?),
        };
        let name = u128::from_be_bytes(self.name.try_into().ok()?);
        Some(Outcome { number: self.number, name, answer })
    }
}

impl From<&Record> for StoredRecord {
    fn from(record: &Record) -> Self {
        let kind = match &record.kind {
            Kind::Folder(FolderTerms { quota, replication, policy }) => StoredKind::Folder(StoredFolder {
                quota_files: quota.files,
                quota_bytes: quota.bytes,
                replication: replication.map(u32::from),
                policy: policy.map(|policy| policy.name().into()),
            }),
            Kind::File(file) => StoredKind::File(StoredFile::new(file.replication, file.coding, &file.blocks)),
            Kind::Writing(file) => StoredKind::Writing(StoredWriting {
                path: file.path.as_str().into(),
                mode: match file.mode {
                    CreateMode::Overwrite => 0,
                    CreateMode::New => 1,
                    CreateMode::Replace(id) | CreateMode::Append(id) => id.0 + 2,
                },
                append: matches!(file.mode, CreateMode::Append(_)),
                writer: file.writer.to_be_bytes().into(),
                block_bytes: file.block_bytes,
                sealed: Some(StoredFile::new(file.replication, None, &file.sealed)),
                open: file.open.map_or(0, |block| block.0),
            }),
        };
        StoredRecord {
            id: record.id.0,
            parent: record.parent.0,
            name: record.name.to_string(),
            modified_ms: record.modified_ms,
            kind: Some(kind),
        }
    }
}

impl StoredRecord {
    fn read(self) -> Option<Record> {
        let kind = match self.kind? {
            StoredKind::Folder(folder) => Kind::Folder(FolderTerms {
                quota: Quota { files: folder.quota_files, bytes: folder.quota_bytes },
                replication: folder.replication.map(u8::try_from).transpose().ok()?,
                policy: folder.policy.as_deref().map(wire::policy).transpose().ok()?,
            }),
            StoredKind::File(file) => {
                let (replication, coding, blocks) = file.read()?;
                Kind::File(FileData { replication, coding, blocks: blocks.into() })
            }
            StoredKind::Writing(file) => {
                let (replication, _, sealed) = file.sealed?.read()?;
                Kind::Writing(Box::new(Writing {
                    path: FsPath::parse(&file.path).ok()?,
                    mode: match file.mode {
                        0 => CreateMode::Overwrite,
                        1 => CreateMode::New,
                        id if file.append => CreateMode::Append(FileId(id - 2)),
                        id => CreateMode::Replace(FileId(id - 2)),
                    },
                    writer: u128::from_be_bytes(file.writer.try_into().ok()?),
                    replication,
                    block_bytes: file.block_bytes,
                    sealed,
                    open: (file.open != 0).then_some(BlockId(file.open)),
                }))
            }
        };
        let name = self.name.into();
        Some(Record { id: FileId(self.id), parent: FileId(self.parent), name, modified_ms: self.modified_ms, kind })
    }
}
