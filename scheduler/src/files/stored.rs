//! The namespace in the metadata store: a log of changes, and segments of records that replace the log from time to time.
//!
//! A checkpoint writes the segments that changed since the last one, then moves the beginning of the log. If it fails midway, some
//! segments are newer than others and the log keeps its length: the last record of each id counts, wherever it is.

use crate::meta::keys::files as keys;
use crate::meta::{MetaError, MetaStore, Transaction, Update};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use windlass_core::ids::FileId;
use windlass_core::wfs::{Changes, Counters, Namespace, Outcome, Record};

/// Ids in a segment, and numbers of outcomes in a segment.
const SEGMENT_IDS: u64 = 256;
/// Growth of the log, in bytes, after which a checkpoint is due.
const CHECKPOINT_BYTES: usize = 8 << 20;
/// Maximum bytes and keys of one transaction. etcd takes requests of 1.5 MiB and of 128 operations.
const TRANSACTION_BYTES: usize = 512 << 10;
const TRANSACTION_KEYS: usize = 100;

pub(super) struct Journal {
    store: Arc<dyn MetaStore>,
    /// Number of the next entry.
    next: u64,
    /// Number of the first entry that counts.
    first: u64,
    log_bytes: usize,
    /// Segments with records that changed since the last checkpoint began.
    dirty: BTreeSet<u64>,
    /// Segments of outcomes that changed since then. `stored_outcomes` holds all of them in the store.
    new_outcomes: BTreeSet<u64>,
    stored_outcomes: BTreeSet<u64>,
}

/// The contents of the store.
pub(super) struct Loaded {
    pub counters: Counters,
    pub records: Vec<Record>,
    /// Oldest first.
    pub outcomes: Vec<Outcome>,
}

/// Segments as they were when the log ended at `until`.
pub(super) struct Checkpoint {
    store: Arc<dyn MetaStore>,
    segments: Vec<(u64, Update)>,
    outcomes: Vec<(u64, Update)>,
    first: u64,
    until: u64,
    head: Update,
}

impl Journal {
    pub async fn open(store: Arc<dyn MetaStore>) -> Result<(Journal, Loaded), MetaError> {
        let (log, mut counters) = keys::head(store.as_ref()).await?;
        let segments = keys::segments(store.as_ref()).await?;
        let mut records: BTreeMap<FileId, Record> = segments.into_iter().map(|record| (record.id, record)).collect();
        let mut journal = Journal::empty(store.clone(), log);
        let mut outcomes: BTreeMap<u64, Outcome> = BTreeMap::new();
        for (number, kept) in keys::outcomes(store.as_ref()).await? {
            journal.stored_outcomes.insert(number);
            outcomes.extend(kept.into_iter().map(|outcome| (outcome.number, outcome)));
        }
        for change in keys::log(store.as_ref(), log).await? {
            journal.next += 1;
            journal.log_bytes += change.bytes;
            counters = change.counters;
            for id in change.removed {
                journal.dirty.insert(id.0 / SEGMENT_IDS);
                records.remove(&id);
            }
            for record in change.put {
                journal.dirty.insert(record.id.0 / SEGMENT_IDS);
                records.insert(record.id, record);
            }
            for outcome in change.outcomes {
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

    /// Appends an entry to the log. It is durable when this returns.
    pub async fn append(&mut self, changes: &Changes, counters: Counters) -> Result<(), MetaError> {
        let entry = keys::entry(self.next, changes, counters);
        let bytes = entry.bytes();
        self.store.commit(keys::append(self.next, entry)).await?;
        self.next += 1;
        self.log_bytes += bytes;
        let ids = changes.put.iter().map(|record| record.id).chain(changes.removed.iter().copied());
        self.dirty.extend(ids.map(|id| id.0 / SEGMENT_IDS));
        self.new_outcomes.extend(changes.outcomes.iter().map(|outcome| outcome.number / SEGMENT_IDS));
        Ok(())
    }

    /// Returns a checkpoint of the durable state, if one is due. Only one may be in progress.
    pub fn checkpoint(&mut self, names: &Namespace) -> Option<Checkpoint> {
        if self.log_bytes < CHECKPOINT_BYTES {
            return None;
        }
        self.log_bytes = 0;
        let segments = std::mem::take(&mut self.dirty).into_iter().map(|number| {
            let ids = number * SEGMENT_IDS..(number + 1) * SEGMENT_IDS;
            let records: Vec<Record> = ids.filter_map(|id| names.record(FileId(id))).collect();
            (number, keys::put_segment(number, &records))
        });
        let segments = segments.collect();
        let outcomes = self.outcomes(names);
        let (first, until) = (std::mem::replace(&mut self.first, self.next), self.next);
        let head = keys::put_head(until, names.counters());
        Some(Checkpoint { store: self.store.clone(), segments, outcomes, first, until, head })
    }

    /// Returns the segments of outcomes that are new, and those in the store that have become empty.
    fn outcomes(&mut self, names: &Namespace) -> Vec<(u64, Update)> {
        let kept = |number: u64| names.outcomes(number * SEGMENT_IDS..(number + 1) * SEGMENT_IDS);
        let new = std::mem::take(&mut self.new_outcomes);
        let old =
            self.stored_outcomes.iter().copied().filter(|number| !new.contains(number) && kept(*number).is_empty());
        let changed: Vec<u64> = old.chain(new.iter().copied()).collect();
        let segments = changed.into_iter().map(|number| {
            let outcomes = kept(number);
            match outcomes.is_empty() {
                false => self.stored_outcomes.insert(number),
                true => self.stored_outcomes.remove(&number),
            };
            (number, keys::put_outcomes(number, &outcomes))
        });
        segments.collect()
    }

    /// Undoes a failed checkpoint, so that the next one also writes its segments.
    pub fn failed(&mut self, checkpoint: Checkpoint) {
        self.dirty.extend(checkpoint.segments.into_iter().map(|(number, _)| number));
        self.new_outcomes.extend(checkpoint.outcomes.into_iter().map(|(number, _)| number));
        self.first = checkpoint.first;
    }
}

impl Checkpoint {
    pub async fn write(&self) -> Result<(), MetaError> {
        let mut transaction = Batches::new(&self.store);
        for (_, update) in self.segments.iter().chain(&self.outcomes) {
            transaction.write(update.clone()).await?;
        }
        transaction.flush().await?;
        // From here on the entries before it do not count.
        self.store.commit(Transaction::default().with(self.head.clone())).await?;
        for number in self.first..self.until {
            transaction.write(keys::delete_entry(number)).await?;
        }
        transaction.flush().await
    }
}

/// Writes in transactions of a size that every store accepts.
struct Batches<'a> {
    store: &'a Arc<dyn MetaStore>,
    transaction: Transaction,
    bytes: usize,
}

impl<'a> Batches<'a> {
    fn new(store: &'a Arc<dyn MetaStore>) -> Self {
        Batches { store, transaction: Transaction::default(), bytes: 0 }
    }

    async fn write(&mut self, update: Update) -> Result<(), MetaError> {
        self.bytes += update.bytes();
        self.transaction = std::mem::take(&mut self.transaction).with(update);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryStore;
    use windlass_core::time::Instant;
    use windlass_core::wfs::{CreateMode, FsPath, Last, Now, Output, WfsConfig};

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
            // This is enough for a checkpoint, with changes spread over all segments.
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
            // Further changes happen during the write.
            let mut out = Output::default();
            names.delete(Now::default(), &FsPath::parse("/3").unwrap(), true, &mut out).unwrap();
            create(&mut names, "/late", &mut out);
            journal.append(&out.changes, names.counters()).await.unwrap();
            match round {
                // Half of the segments were written, and the primary died.
                0 | 2 => {
                    let mut batches = Batches::new(&store);
                    for (_, update) in checkpoint.segments.iter().take(checkpoint.segments.len() / 2) {
                        batches.write(update.clone()).await.unwrap();
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
        // The outcomes have expired.
        names.tick(at(3_600), &mut Output::default());
        assert_eq!(names.outcomes(0..u64::MAX), []);
        journal.log_bytes = CHECKPOINT_BYTES;
        journal.checkpoint(&names).unwrap().write().await.unwrap();
        assert_eq!(keys::outcomes(store.as_ref()).await.unwrap(), []);
        assert!(keys::log_length(store.as_ref()).await < 10, "the log is cut");
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
        let cluster = async || keys::cluster(store.as_ref(), &crate::clock::Ids::random()).await.unwrap();
        assert_eq!(cluster().await, cluster().await);
    }
}
