//! The namespace in the metadata store: a log of what changed, and segments of records that take its place from time to time.
//!
//! ```text
//!   wfs/head             where the log begins, and the counters
//!   wfs/segment/N        records of files N x 256 and on, at some time since the log began
//!   wfs/log/N            records that were put, ids that were removed, counters, outcomes of requests; later entries count
//!   wfs/outcome/N        outcomes N x 256 and on that were kept at some time since the log began
//!   wfs/cluster          which namespace this is: 16 bytes
//! ```
//!
//! A checkpoint writes the segments that changed since the last one, then moves the beginning of the log. When it breaks off, some
//! segments are newer than others, and the log is still as long as it was: the last record of each id counts, wherever it stands.

use crate::meta::{Expectation, MetaError, MetaStore, Transaction};
use bytes::Bytes;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use windlass_core::ids::{BlockId, FileId};
use windlass_core::wfs::{
    Answer, Block, Changes, Coding, Counters, CreateMode, FileData, FolderTerms, FsPath, Kind, Namespace, Outcome,
    Quota, Record, Writing,
};
use windlass_proto::{files as wire, v1};

const HEAD: &str = "wfs/head";
const LOG: &str = "wfs/log/";
const SEGMENT: &str = "wfs/segment/";
const OUTCOME: &str = "wfs/outcome/";
const CLUSTER: &str = "wfs/cluster";
/// Ids in a segment, and numbers of outcomes.
const SEGMENT_IDS: u64 = 256;
/// A checkpoint is due when the log has grown by so much.
const CHECKPOINT_BYTES: usize = 8 << 20;
/// Of one transaction. etcd takes requests of 1.5 MiB and of 128 operations.
const TRANSACTION_BYTES: usize = 512 << 10;
const TRANSACTION_KEYS: usize = 100;

pub(super) struct Journal {
    store: Arc<dyn MetaStore>,
    /// Of the next entry.
    next: u64,
    /// Of the first entry that counts.
    first: u64,
    log_bytes: usize,
    /// Segments with records that changed since the last checkpoint began.
    dirty: BTreeSet<u64>,
    /// The same of outcomes, and all segments of them that the store has.
    new_outcomes: BTreeSet<u64>,
    stored_outcomes: BTreeSet<u64>,
}

/// What the store has.
pub(super) struct Loaded {
    pub counters: Counters,
    pub records: Vec<Record>,
    /// The oldest first.
    pub outcomes: Vec<Outcome>,
}

/// Segments as they were when the log was as long as `until`.
pub(super) struct Checkpoint {
    store: Arc<dyn MetaStore>,
    segments: Vec<(u64, Option<Bytes>)>,
    outcomes: Vec<(u64, Option<Bytes>)>,
    first: u64,
    until: u64,
    head: Head,
}

impl Journal {
    pub async fn open(store: Arc<dyn MetaStore>) -> Result<(Journal, Loaded), MetaError> {
        let corrupt =
            |key: &str, reason: &dyn ToString| MetaError::Corrupt { key: key.into(), reason: reason.to_string() };
        let head = match store.get(HEAD).await? {
            Some(entry) => Head::decode(entry.value).map_err(|error| corrupt(HEAD, &error))?,
            None => Head::new(0, Counters::default()),
        };
        let mut counters = head.counters();
        let mut records: BTreeMap<FileId, Record> = BTreeMap::new();
        for (key, entry) in store.range(SEGMENT).await? {
            let segment = Segment::decode(entry.value).map_err(|error| corrupt(&key, &error))?;
            for record in segment.records {
                let record = record.read().ok_or_else(|| corrupt(&key, &"a record is not complete"))?;
                records.insert(record.id, record);
            }
        }
        let mut journal = Journal::empty(store.clone(), head.log);
        let mut outcomes: BTreeMap<u64, Outcome> = BTreeMap::new();
        for (key, entry) in store.range(OUTCOME).await? {
            let number = key[OUTCOME.len()..].parse().map_err(|error| corrupt(&key, &error))?;
            journal.stored_outcomes.insert(number);
            let stored = Outcomes::decode(entry.value).map_err(|error| corrupt(&key, &error))?.outcomes;
            outcomes
                .extend(stored.into_iter().filter_map(StoredOutcome::read).map(|outcome| (outcome.number, outcome)));
        }
        for (key, entry) in store.range(LOG).await? {
            let number: u64 = key[LOG.len()..].parse().map_err(|error| corrupt(&key, &error))?;
            if number < head.log {
                // Left by a checkpoint that broke off while it removed what it had made superfluous.
                continue;
            }
            if number != journal.next {
                return Err(corrupt(&key, &format!("entry {} of the log is missing before it", journal.next)));
            }
            journal.next += 1;
            journal.log_bytes += entry.value.len();
            let change = Change::decode(entry.value).map_err(|error| corrupt(&key, &error))?;
            counters = Counters { next_file: change.next_file, next_block: change.next_block };
            for id in change.removed {
                journal.dirty.insert(id / SEGMENT_IDS);
                records.remove(&FileId(id));
            }
            for record in change.put {
                let record = record.read().ok_or_else(|| corrupt(&key, &"a record is not complete"))?;
                journal.dirty.insert(record.id.0 / SEGMENT_IDS);
                records.insert(record.id, record);
            }
            for outcome in change.outcomes.into_iter().filter_map(StoredOutcome::read) {
                journal.new_outcomes.insert(outcome.number / SEGMENT_IDS);
                outcomes.insert(outcome.number, outcome);
            }
        }
        let (records, outcomes) = (records.into_values().collect(), outcomes.into_values().collect());
        Ok((journal, Loaded { counters, records, outcomes }))
    }

    fn empty(store: Arc<dyn MetaStore>, first: u64) -> Journal {
        let (dirty, new_outcomes, stored_outcomes) = Default::default();
        Journal { store, next: first, first, log_bytes: 0, dirty, new_outcomes, stored_outcomes }
    }

    /// Durable when it returns.
    pub async fn append(&mut self, changes: &Changes, counters: Counters) -> Result<(), MetaError> {
        let Counters { next_file, next_block } = counters;
        let put = changes.put.iter().map(StoredRecord::from).collect();
        let removed = changes.removed.iter().map(|id| id.0).collect();
        let outcomes = changes.outcomes.iter().map(StoredOutcome::from).collect();
        let value = Change { put, removed, next_file, next_block, outcomes }.encode_to_vec();
        let (key, bytes) = (log_key(self.next), value.len());
        self.store.commit(Transaction::default().expect(&key, Expectation::Absent).put(key, value)).await?;
        self.next += 1;
        self.log_bytes += bytes;
        let ids = changes.put.iter().map(|record| record.id).chain(changes.removed.iter().copied());
        self.dirty.extend(ids.map(|id| id.0 / SEGMENT_IDS));
        self.new_outcomes.extend(changes.outcomes.iter().map(|outcome| outcome.number / SEGMENT_IDS));
        Ok(())
    }

    /// A checkpoint of what is durable, when one is due. Only one at a time may be under way.
    pub fn checkpoint(&mut self, names: &Namespace) -> Option<Checkpoint> {
        if self.log_bytes < CHECKPOINT_BYTES {
            return None;
        }
        self.log_bytes = 0;
        let segments = std::mem::take(&mut self.dirty).into_iter().map(|number| {
            let ids = number * SEGMENT_IDS..(number + 1) * SEGMENT_IDS;
            let records: Vec<_> =
                ids.filter_map(|id| names.record(FileId(id))).map(|r| StoredRecord::from(&r)).collect();
            (number, (!records.is_empty()).then(|| Segment { records }.encode_to_vec().into()))
        });
        let segments = segments.collect();
        let outcomes = self.outcomes(names);
        let (first, until) = (std::mem::replace(&mut self.first, self.next), self.next);
        let head = Head::new(until, names.counters());
        Some(Checkpoint { store: self.store.clone(), segments, outcomes, first, until, head })
    }

    /// Segments of outcomes that are new, and those that the store has and nobody needs.
    fn outcomes(&mut self, names: &Namespace) -> Vec<(u64, Option<Bytes>)> {
        let kept = |number: u64| names.outcomes(number * SEGMENT_IDS..(number + 1) * SEGMENT_IDS);
        let new = std::mem::take(&mut self.new_outcomes);
        let old =
            self.stored_outcomes.iter().copied().filter(|number| !new.contains(number) && kept(*number).is_empty());
        let changed: Vec<u64> = old.chain(new.iter().copied()).collect();
        let segments = changed.into_iter().map(|number| {
            let outcomes: Vec<StoredOutcome> = kept(number).iter().map(StoredOutcome::from).collect();
            (number, (!outcomes.is_empty()).then(|| Outcomes { outcomes }.encode_to_vec().into()))
        });
        let segments: Vec<(u64, Option<Bytes>)> = segments.collect();
        for (number, value) in &segments {
            match value {
                Some(_) => self.stored_outcomes.insert(*number),
                None => self.stored_outcomes.remove(number),
            };
        }
        segments
    }

    /// It came to nothing: the next one is to write its segments too.
    pub fn failed(&mut self, checkpoint: Checkpoint) {
        self.dirty.extend(checkpoint.segments.into_iter().map(|(number, _)| number));
        self.new_outcomes.extend(checkpoint.outcomes.into_iter().map(|(number, _)| number));
        self.first = checkpoint.first;
    }
}

impl Checkpoint {
    pub async fn write(&self) -> Result<(), MetaError> {
        let mut transaction = Batches::new(&self.store);
        for (number, records) in &self.segments {
            transaction.write(format!("{SEGMENT}{number:016}"), records.clone()).await?;
        }
        for (number, outcomes) in &self.outcomes {
            transaction.write(format!("{OUTCOME}{number:016}"), outcomes.clone()).await?;
        }
        transaction.flush().await?;
        // From here on the entries before it do not count.
        self.store.commit(Transaction::default().put(HEAD, self.head.encode_to_vec())).await?;
        for number in self.first..self.until {
            transaction.write(log_key(number), None).await?;
        }
        transaction.flush().await
    }
}

/// Writes in transactions of a size that every store takes.
struct Batches<'a> {
    store: &'a Arc<dyn MetaStore>,
    transaction: Transaction,
    bytes: usize,
}

impl<'a> Batches<'a> {
    fn new(store: &'a Arc<dyn MetaStore>) -> Self {
        Batches { store, transaction: Transaction::default(), bytes: 0 }
    }

    async fn write(&mut self, key: String, value: Option<Bytes>) -> Result<(), MetaError> {
        self.bytes += value.as_ref().map_or(0, Bytes::len);
        self.transaction.writes.push((key, value));
        match self.bytes >= TRANSACTION_BYTES || self.transaction.writes.len() >= TRANSACTION_KEYS {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<(), MetaError> {
        self.bytes = 0;
        let transaction = std::mem::take(&mut self.transaction);
        match transaction.writes.is_empty() {
            true => Ok(()),
            false => self.store.commit(transaction).await,
        }
    }
}

fn log_key(number: u64) -> String {
    format!("{LOG}{number:016}")
}

/// Which namespace the store has. Made when there is none.
pub(super) async fn cluster(store: &Arc<dyn MetaStore>) -> Result<Bytes, MetaError> {
    loop {
        if let Some(entry) = store.get(CLUSTER).await? {
            return Ok(entry.value);
        }
        let made = Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        match store.commit(Transaction::default().expect(CLUSTER, Expectation::Absent).put(CLUSTER, made.clone())).await
        {
            Ok(()) => return Ok(made),
            Err(MetaError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
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
    /// Absent: it was just done.
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
    /// 0: overwrite, 1: new, else 2 and more: replace the file of this id less 2.
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
    /// The file that is replaced is gone on with.
    #[prost(bool, tag = "7")]
    append: bool,
}

impl Head {
    fn new(log: u64, counters: Counters) -> Self {
        Head { log, next_file: counters.next_file, next_block: counters.next_block }
    }

    fn counters(&self) -> Counters {
        Counters { next_file: self.next_file, next_block: self.next_block }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryStore;
    use windlass_core::time::Instant;
    use windlass_core::wfs::{Last, Now, Output, WfsConfig};

    fn at(seconds: u64) -> Now {
        Now { at: Instant(seconds * 1_000_000), wall_ms: seconds * 1_000 }
    }

    async fn reopen(store: &Arc<dyn MetaStore>) -> (Journal, Namespace) {
        let (journal, loaded) = Journal::open(store.clone()).await.unwrap();
        let (mut names, lost) = Namespace::load(WfsConfig::default(), Now::default(), loaded.counters, loaded.records);
        assert_eq!(lost, []);
        names.recall(Now::default(), loaded.outcomes);
        (journal, names)
    }

    fn paths(names: &Namespace) -> Vec<String> {
        let all = names.list(&FsPath::root(), true, None, usize::MAX).unwrap();
        all.into_iter().map(|entry| format!("{entry:?}")).collect()
    }

    fn create(names: &mut Namespace, path: &str, out: &mut Output) {
        let create = windlass_core::wfs::Create {
            path: FsPath::parse(path).unwrap(),
            mode: CreateMode::Overwrite,
            replication: None,
            block_bytes: None,
            writer: (1 << 100) + u128::from(names.counters().next_file),
        };
        let writer = create.writer;
        let file = names.create(Now::default(), create, out).unwrap().file;
        names.complete(Now::default(), file, writer, &Last::Nothing, out).unwrap();
    }

    #[tokio::test]
    async fn a_namespace_is_what_it_was_whenever_a_checkpoint_breaks_off() {
        let store: Arc<dyn MetaStore> = Arc::new(MemoryStore::default());
        let (mut journal, mut names) = reopen(&store).await;
        let mut step = 0;
        for round in 0..4 {
            // Enough for a checkpoint: what changes lies all over the segments.
            let mut checkpoint = None;
            while checkpoint.is_none() {
                let mut out = Output::default();
                for _ in 0..300 {
                    step += 1;
                    let long = "x".repeat(200);
                    create(&mut names, &format!("/{}/{long}{}", step % 7, step % 911), &mut out);
                }
                journal.append(&out.changes, names.counters()).await.unwrap();
                checkpoint = journal.checkpoint(&names);
            }
            let checkpoint = checkpoint.unwrap();
            // Something more happens while it is written.
            let mut out = Output::default();
            names.delete(Now::default(), &FsPath::parse("/3").unwrap(), true, &mut out).unwrap();
            create(&mut names, "/late", &mut out);
            journal.append(&out.changes, names.counters()).await.unwrap();
            match round {
                // Half of the segments were written, and the primary died.
                0 | 2 => {
                    let segments = checkpoint.segments.iter().take(checkpoint.segments.len() / 2).cloned().collect();
                    let mut batches = Batches::new(&store);
                    let half: Vec<(u64, Option<Bytes>)> = segments;
                    for (number, records) in half {
                        batches.write(format!("{SEGMENT}{number:016}"), records).await.unwrap();
                    }
                    batches.flush().await.unwrap();
                }
                _ => checkpoint.write().await.unwrap(),
            }
            let (again, loaded) = reopen(&store).await;
            assert_eq!(paths(&loaded), paths(&names));
            assert_eq!(loaded.counters(), names.counters());
            assert_eq!(loaded.outcomes(0..u64::MAX), names.outcomes(0..u64::MAX));
            (journal, names) = (again, loaded);
        }
        // Nobody asks for them any more.
        names.tick(at(3_600), &mut Output::default());
        assert_eq!(names.outcomes(0..u64::MAX), []);
        journal.log_bytes = CHECKPOINT_BYTES;
        journal.checkpoint(&names).unwrap().write().await.unwrap();
        assert_eq!(store.range(OUTCOME).await.unwrap().len(), 0);
        assert!(store.range(LOG).await.unwrap().len() < 10, "the log is cut");
    }

    #[tokio::test]
    async fn files_that_are_written_are_there_after_a_restart() {
        let store: Arc<dyn MetaStore> = Arc::new(MemoryStore::default());
        let (mut journal, mut names) = reopen(&store).await;
        names.joined(windlass_core::ids::ExecutorId(1), "a", "r");
        let mut out = Output::default();
        let create = windlass_core::wfs::Create {
            path: FsPath::parse("/a b/ü").unwrap(),
            mode: CreateMode::Replace(FileId(77)),
            replication: Some(2),
            block_bytes: Some(1 << 20),
            writer: u128::MAX,
        };
        assert!(names.create(Now::default(), create.clone(), &mut out).is_err(), "there is nothing to replace");
        let create = windlass_core::wfs::Create { mode: CreateMode::New, ..create };
        let file = names.create(Now::default(), create, &mut out).unwrap().file;
        let add = windlass_core::wfs::AddBlock {
            file,
            index: 0,
            last: Last::Nothing,
            near: windlass_core::wfs::Near::default(),
            excluded: BTreeSet::new(),
        };
        names.add_block(Now::default(), &add, &mut out).unwrap();
        journal.append(&out.changes, names.counters()).await.unwrap();
        let (_, loaded) = reopen(&store).await;
        assert_eq!(loaded.record(file), names.record(file));
        assert!(loaded.record(file).is_some());
        assert_eq!(cluster(&store).await.unwrap(), cluster(&store).await.unwrap());
    }
}
