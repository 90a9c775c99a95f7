//! The namespace against a model, with a restart after any operation; and what single operations promise.

use super::*;
use crate::ids::{BlockId, ExecutorId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn path(text: &str) -> FsPath {
    FsPath::parse(text).unwrap()
}

fn at(seconds: u64) -> Now {
    Now { at: Instant(seconds * 1_000_000), wall_ms: seconds * 1_000 }
}

/// What the shell makes durable.
#[derive(Default)]
pub(super) struct Stored {
    pub records: BTreeMap<FileId, Record>,
    pub counters: Counters,
    pub outcomes: Vec<Outcome>,
}

impl Stored {
    pub fn apply(&mut self, out: Output, counters: Counters) -> Vec<(ExecutorId, Order)> {
        for record in out.changes.put {
            self.records.insert(record.id, record);
        }
        for id in out.changes.removed {
            self.records.remove(&id);
        }
        self.outcomes.extend(out.changes.outcomes);
        self.counters = counters;
        out.orders
    }

    pub fn load(&self, config: WfsConfig, now: Now) -> Namespace {
        let records = self.records.values().cloned().collect();
        let (mut namespace, lost) = Namespace::load(config, now, self.counters, records);
        assert_eq!(lost, []);
        namespace.recall(now, self.outcomes.iter().cloned());
        namespace
    }
}

/// Whether it orders to read a replica of the block.
fn is_read(order: &Order, block: Block) -> bool {
    matches!(order, Order::Verify { replica, .. } if *replica == block.id)
}

struct Bench {
    names: Namespace,
    stored: Stored,
    orders: Vec<(ExecutorId, Order)>,
    now: Now,
    writer: u128,
}

impl Bench {
    fn new(executors: u64) -> Bench {
        Bench::with(executors, WfsConfig { grace: Duration::ZERO, ..WfsConfig::default() })
    }

    fn with(executors: u64, config: WfsConfig) -> Bench {
        let mut names = Namespace::new(config);
        (1..=executors).for_each(|id| names.joined(ExecutorId(id), &format!("host {id}"), "rack"));
        Bench { names, stored: Stored::default(), orders: Vec::new(), now: at(1), writer: 0 }
    }

    fn run<T>(&mut self, operation: impl FnOnce(&mut Namespace, Now, &mut Output) -> T) -> T {
        let mut out = Output::default();
        let result = operation(&mut self.names, self.now, &mut out);
        self.orders.extend(self.stored.apply(out, self.names.counters()));
        result
    }

    /// A file with blocks of these lengths, each on all its targets.
    fn write(&mut self, to: &str, mode: CreateMode, blocks: &[u64]) -> Result<Entry, FsError> {
        self.writer += 1;
        let writer = self.writer;
        let (replication, block_bytes) = (None, None);
        let create = Create { path: path(to), mode, replication, block_bytes, writer };
        let Created { file, .. } = self.run(|names, now, out| names.create(now, create, out))?;
        let mut last = Last::Nothing;
        for (index, bytes) in blocks.iter().enumerate() {
            let add = AddBlock { file, index, last, near: Near::default(), excluded: BTreeSet::new() };
            let allocated = self.run(|names, now, out| names.add_block(now, &add, out))?;
            last = Last::Sealed { block: Block { id: allocated.block, bytes: *bytes }, durable: allocated.targets };
        }
        self.run(|names, now, out| names.complete(now, file, writer, &last, out))
    }

    fn restart(&mut self) {
        self.names = self.stored.load(self.names.config().clone(), self.now);
    }

    fn tick_until_quiet(&mut self) {
        let end = self.now.at + Duration::from_secs(100);
        while let Some(due) = self.names.next_deadline().filter(|due| *due <= end) {
            self.now.at = self.now.at.max(due);
            self.run(|names, now, out| names.tick(now, out));
        }
    }

    fn all(&self) -> Vec<(String, Detail)> {
        let listed = self.names.list(&FsPath::root(), true, None, usize::MAX).unwrap();
        listed.into_iter().map(|entry| (entry.path.as_str().to_string(), entry.detail)).collect()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Write(String, bool, Vec<u64>),
    Mkdir(String, bool),
    Rename(String, String, bool),
    Delete(String, bool),
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let path = || proptest::collection::vec("[a-c]", 1..4).prop_map(|names| names.join("/"));
    prop_oneof![
        4 => (path(), any::<bool>(), proptest::collection::vec(1..1_000u64, 0..3)).prop_map(|(p, n, b)| Op::Write(p, n, b)),
        2 => (path(), any::<bool>()).prop_map(|(p, parents)| Op::Mkdir(p, parents)),
        3 => (path(), path(), any::<bool>()).prop_map(|(a, b, o)| Op::Rename(a, b, o)),
        2 => (path(), any::<bool>()).prop_map(|(p, r)| Op::Delete(p, r)),
        1 => Just(Op::Restart),
    ]
}

/// Paths, and for files their length. Folders are entries of their own.
type Model = BTreeMap<String, Option<u64>>;

fn parents(path: &str) -> Vec<String> {
    path.match_indices('/').map(|(at, _)| path[..at].to_string()).collect()
}

/// What the operation does to the model; `None`: it is refused.
fn apply(model: &Model, op: &Op) -> Option<Model> {
    let mut next = model.clone();
    let below = |path: &str| format!("{path}/");
    let is_file = |path: &str| matches!(model.get(path), Some(Some(_)));
    let make_parents = |next: &mut Model, path: &str| {
        if parents(path).iter().any(|parent| is_file(parent)) {
            return None;
        }
        parents(path).into_iter().for_each(|parent| _ = next.entry(parent).or_insert(None));
        Some(())
    };
    match op {
        Op::Restart => {}
        Op::Write(path, new, blocks) => {
            if model.get(path) == Some(&None) || (*new && model.contains_key(path)) {
                return None;
            }
            make_parents(&mut next, path)?;
            next.insert(path.clone(), Some(blocks.iter().sum()));
        }
        Op::Mkdir(path, with_parents) => {
            if is_file(path) || (!with_parents && model.contains_key(path)) {
                return None;
            }
            if !with_parents && parents(path).last().is_some_and(|parent| !model.contains_key(parent)) {
                return None;
            }
            make_parents(&mut next, path)?;
            next.insert(path.clone(), None);
        }
        Op::Rename(from, to, overwrite) => {
            let moved = *model.get(from)?;
            if from == to {
                return Some(next);
            }
            if to.starts_with(&below(from)) || parents(from).iter().any(|parent| is_file(parent)) {
                return None;
            }
            match (moved, model.get(to)) {
                (_, None) => {}
                (Some(_), Some(Some(_))) if *overwrite => {}
                _ => return None,
            }
            make_parents(&mut next, to)?;
            let inside: Vec<_> = model.iter().filter(|(path, _)| path.starts_with(&below(from))).collect();
            for (path, value) in inside {
                next.remove(path);
                next.insert(format!("{to}{}", &path[from.len()..]), *value);
            }
            next.remove(from);
            next.insert(to.clone(), moved);
        }
        Op::Delete(path, recursive) => {
            model.get(path)?;
            let inside = |other: &String| other.starts_with(&below(path));
            if model.keys().any(inside) && !recursive {
                return None;
            }
            next.retain(|other, _| other != path && !inside(other));
        }
    }
    Some(next)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]
    #[test]
    fn it_does_what_the_model_does(ops in proptest::collection::vec(op(), 1..40)) {
        let mut bench = Bench::new(3);
        let mut model = Model::new();
        for op in &ops {
            let done = match op {
                Op::Write(to, new, blocks) => {
                    let mode = if *new { CreateMode::New } else { CreateMode::Overwrite };
                    bench.write(to, mode, blocks).map(drop)
                }
                Op::Mkdir(at, parents) => bench.run(|names, now, out| names.mkdir(now, &path(at), *parents, out)).map(drop),
                Op::Rename(from, to, overwrite) => bench
                    .run(|names, now, out| names.rename(now, &path(from), &path(to), *overwrite, true, out))
                    .map(drop),
                Op::Delete(at, recursive) => bench.run(|names, now, out| names.delete(now, &path(at), *recursive, out)),
                Op::Restart => {
                    bench.restart();
                    (1..=3).for_each(|id| bench.names.joined(ExecutorId(id), &format!("host {id}"), "rack"));
                    Ok(())
                }
            };
            let expected = apply(&model, op);
            prop_assert_eq!(done.is_ok(), expected.is_some(), "{:?}: {:?}", op, done);
            model = expected.unwrap_or(model);
            let seen: Model = bench.all().into_iter().map(|(path, detail)| (path[1..].to_string(), match detail {
                Detail::File { bytes, .. } => Some(bytes),
                Detail::Folder { .. } => None,
            })).collect();
            prop_assert_eq!(&seen, &model, "{:?}", op);
            // What folders say that they hold is what is in them.
            for (folder, detail) in bench.all() {
                if let Detail::Folder { usage, .. } = detail {
                    let inside = || model.iter().filter(|(path, _)| path.starts_with(&format!("{}/", &folder[1..])));
                    prop_assert_eq!(usage.files as usize, inside().filter(|(_, value)| value.is_some()).count());
                    prop_assert_eq!(usage.folders as usize, inside().filter(|(_, value)| value.is_none()).count());
                    prop_assert_eq!(usage.bytes, inside().filter_map(|(_, value)| *value).sum::<u64>());
                }
            }
            // Nothing is kept of what is gone.
            let blocks: usize = bench.stored.records.values().map(|record| match &record.kind {
                Kind::File(file) => file.blocks.len(),
                _ => 0,
            }).sum();
            prop_assert_eq!(bench.names.health().blocks, blocks);
            let records = bench.stored.records.keys().filter(|id| **id != FileId::ROOT).count();
            prop_assert_eq!(records, model.len() + bench.names.leases.len());
        }
    }

    #[test]
    fn pages_are_the_list(names in proptest::collection::btree_set("[a-b]{1,2}(/[a-b]{1,2}){0,3}", 0..30), page in 1..5usize, recursive: bool) {
        let mut bench = Bench::new(0);
        for name in &names {
            let _ = bench.run(|tree, now, out| tree.mkdir(now, &path(name), true, out));
        }
        let all = bench.names.list(&FsPath::root(), recursive, None, usize::MAX).unwrap();
        let mut paged: Vec<Entry> = Vec::new();
        loop {
            let after = paged.last().map(|entry| entry.path.clone());
            let more = bench.names.list(&FsPath::root(), recursive, after.as_ref(), page).unwrap();
            prop_assert!(more.len() <= page);
            if more.is_empty() {
                break;
            }
            paged.extend(more);
        }
        prop_assert_eq!(paged, all);
    }
}

#[test]
fn a_file_is_seen_when_it_is_complete_and_not_before() {
    let mut bench = Bench::new(3);
    let old = bench.write("/a/f", CreateMode::Overwrite, &[5]).unwrap();
    let create =
        Create { path: path("/a/f"), mode: CreateMode::Overwrite, replication: None, block_bytes: None, writer: 99 };
    let begun = bench.run(|names, now, out| names.create(now, create.clone(), out)).unwrap();
    assert_eq!(bench.names.stat(&path("/a/f")).unwrap(), old);
    // The same request again is the same file, also for the next leader.
    bench.restart();
    bench.now = at(200);
    assert_eq!(bench.run(|names, now, out| names.create(now, create.clone(), out)).unwrap(), begun);
    // It has the lease from then on.
    bench.now = at(400);
    bench.run(|names, now, out| names.tick(now, out));
    assert_eq!(bench.run(|names, now, out| names.create(now, create, out)).unwrap(), begun);
    // Its writer is silent for too long.
    bench.now = at(10_000);
    bench.run(|names, now, out| names.tick(now, out));
    let done = bench.run(|names, now, out| names.complete(now, begun.file, 99, &Last::Nothing, out));
    assert_eq!(done, Err(FsError::NotWriting { file: begun.file }));
    assert_eq!(bench.names.stat(&path("/a/f")).unwrap(), old);
}

#[test]
fn conditions_hold_when_the_file_is_complete() {
    let mut bench = Bench::new(1);
    let first = bench.write("/f", CreateMode::New, &[]).unwrap();
    assert_eq!(bench.write("/f", CreateMode::New, &[]), Err(FsError::AlreadyExists { path: path("/f") }));
    let second = bench.write("/f", CreateMode::Replace(first.id), &[7]).unwrap();
    assert_ne!(first.id, second.id);
    let late = bench.write("/f", CreateMode::Replace(first.id), &[7]);
    assert_eq!(late, Err(FsError::Changed { path: path("/f") }));
    assert_eq!(bench.write("/f/g", CreateMode::New, &[]), Err(FsError::NotFolder { path: path("/f") }));
}

#[test]
fn a_file_that_was_replaced_is_found_by_its_id_for_a_while() {
    let mut bench = Bench::with(3, WfsConfig::default());
    let first = bench.write("/f", CreateMode::New, &[5, 6]).unwrap();
    let before = bench.names.locate(&first.path, 0..20, &Near::default()).unwrap();
    let version = |bench: &Bench, id| bench.names.locate_version(&path("/f"), id, 0..20, &Near::default());
    assert_eq!(version(&bench, first.id), Ok(before.clone()));
    let second = bench.write("/f", CreateMode::Overwrite, &[7]).unwrap();
    assert_eq!(version(&bench, first.id), Ok(before));
    assert_eq!(version(&bench, second.id).unwrap().1.len(), 1);
    // It is the same file where it was moved to.
    bench.run(|names, now, out| names.rename(now, &path("/f"), &path("/g"), false, false, out)).unwrap();
    assert_eq!(version(&bench, second.id).unwrap().0.id, second.id);
    assert!(bench.orders.is_empty());
    bench.now = at(32);
    bench.run(|names, now, out| names.tick(now, out));
    assert_eq!(bench.orders.len(), 6);
    assert_eq!(version(&bench, first.id), Err(FsError::NotFound { path: path("/f") }));
    bench.write("/f", CreateMode::New, &[7]).unwrap();
    assert_eq!(version(&bench, first.id), Err(FsError::Changed { path: path("/f") }));
}

#[test]
fn what_is_asked_for_twice_happens_once() {
    let mut bench = Bench::new(3);
    let remove = |bench: &mut Bench, name| {
        bench.run(|names, now, out| {
            names.once(now, Some(name), out, |names, out| {
                names.delete(now, &path("/f"), false, out).map(|()| Answer::Done)
            })
        })
    };
    // What failed has changed nothing: it may go well the next time.
    assert_eq!(remove(&mut bench, 101), Err(FsError::NotFound { path: path("/f") }));
    let first = bench.write("/f", CreateMode::New, &[5]).unwrap();
    assert_eq!(remove(&mut bench, 101), Ok(Answer::Done));
    // The answer is lost, and another client writes a file of that name.
    let second = bench.write("/f", CreateMode::New, &[7]).unwrap();
    for _ in 0..2 {
        assert_eq!(remove(&mut bench, 101), Ok(Answer::Done));
        assert_eq!(bench.names.stat(&path("/f")).unwrap(), second);
        // The next primary knows it too.
        bench.restart();
    }
    // Whoever has finished a file hears that it has, also when the file is gone since.
    let writer = bench.writer - 1;
    let again = bench.run(|names, now, out| names.complete(now, first.id, writer, &Last::Nothing, out)).unwrap();
    assert_eq!((again.id, again.path), (first.id, path("/f")));
    assert_eq!(remove(&mut bench, 102), Ok(Answer::Done));
    // Nobody asks again after so long.
    bench.now = at(1_000);
    bench.run(|names, now, out| names.tick(now, out));
    assert_eq!(bench.names.outcomes(0..u64::MAX), []);
}

#[test]
fn what_is_appended_comes_behind_the_blocks_that_are_there() {
    let mut bench = Bench::new(3);
    let first = bench.write("/f", CreateMode::New, &[5, 6]).unwrap();
    let blocks = |bench: &Bench| -> Vec<Block> {
        let (_, located) = bench.names.locate(&path("/f"), 0..100, &Near::default()).unwrap();
        assert!(located.iter().all(|part| part.holders.len() == 3), "{located:?}");
        located.iter().map(|part| part.block).collect()
    };
    let before = blocks(&bench);
    let second = bench.write("/f", CreateMode::Append(first.id), &[7]).unwrap();
    assert!(matches!(second.detail, Detail::File { bytes: 18, blocks: 3, .. }) && second.id != first.id);
    assert_eq!(blocks(&bench)[..2], before);
    assert_eq!(bench.orders, [], "nothing of it goes");
    // Of two who append to one version one succeeds.
    let late = bench.write("/f", CreateMode::Append(first.id), &[7]);
    assert_eq!(late, Err(FsError::Changed { path: path("/f") }));
    assert_eq!(blocks(&bench).len(), 3);
    bench.restart();
    (1..=3).for_each(|id| bench.names.joined(ExecutorId(id), &format!("host {id}"), "rack"));
    assert_eq!(bench.names.health().blocks, 3);
    // One that is given up takes nothing along.
    let create = Create {
        path: path("/f"),
        mode: CreateMode::Append(second.id),
        replication: None,
        block_bytes: None,
        writer: 99,
    };
    let file = bench.run(|names, now, out| names.create(now, create, out)).unwrap().file;
    bench.run(|names, _, out| names.abandon(file, 99, out));
    bench.run(|names, now, out| names.delete(now, &path("/f"), false, out)).unwrap();
    assert_eq!(bench.names.health().blocks, 0);
}

#[test]
fn quotas_count_replicas_and_what_is_replaced_makes_room() {
    let mut bench = Bench::new(3);
    bench.run(|names, now, out| names.mkdir(now, &path("/q"), true, out)).unwrap();
    let quota = Quota { files: Some(2), bytes: Some(300) };
    bench.run(|names, _, out| names.set_quota(&path("/q"), quota, out)).unwrap();
    bench.write("/q/a", CreateMode::New, &[100]).unwrap();
    let full = bench.write("/q/b", CreateMode::New, &[1]).unwrap_err();
    assert!(matches!(full, FsError::QuotaExceeded { used: 300, limit: 300, wanted: 3, .. }), "{full}");
    // Overwritten, it has the room of what was there. It is refused before the first block is written only if there is none at all.
    bench.run(|names, _, out| names.set_quota(&path("/q"), Quota { bytes: Some(600), ..quota }, out)).unwrap();
    bench.write("/q/a", CreateMode::Overwrite, &[200]).unwrap();
    bench.write("/q/b", CreateMode::New, &[]).unwrap();
    let full = bench.write("/q/c", CreateMode::New, &[]).unwrap_err();
    assert!(matches!(full, FsError::QuotaExceeded { unit: "files and folders", .. }), "{full}");
    bench.write("/q/b", CreateMode::Overwrite, &[]).unwrap();
    bench.write("/c", CreateMode::New, &[]).unwrap();
    let into = bench.run(|names, now, out| names.rename(now, &path("/c"), &path("/q/c"), false, true, out));
    assert!(matches!(into, Err(FsError::QuotaExceeded { .. })));
    bench.run(|names, now, out| names.rename(now, &path("/q/a"), &path("/q/d"), false, true, out)).unwrap();
    // Folders that are made for what moves are new to the folders around both places.
    let deeper = bench.run(|names, now, out| names.rename(now, &path("/q/d"), &path("/q/n/d"), false, true, out));
    assert!(matches!(deeper, Err(FsError::QuotaExceeded { used: 2, limit: 2, wanted: 1, .. })), "{deeper:?}");
    // What is removed is not refused for want of room.
    let root = Quota { files: Some(1), bytes: None };
    bench.run(|names, _, out| names.set_quota(&FsPath::root(), root, out)).unwrap();
    bench.run(|names, now, out| names.trash(now, &path("/q/d"), false, out)).unwrap();
}

#[test]
fn replicas_that_went_are_made_again_after_a_while_and_the_last_ones_at_once() {
    let mut bench = Bench::new(4);
    let entry = bench.write("/f", CreateMode::New, &[10]).unwrap();
    let (_, located) = bench.names.locate(&entry.path, 0..10, &Near::default()).unwrap();
    let holders = located[0].holders.clone();
    assert_eq!(holders.len(), 3);
    let block = located[0].block;
    bench.run(|names, now, out| names.lost(now, holders[0], out));
    assert_eq!(bench.orders, [], "it may come back");
    bench.run(|names, now, out| names.lost(now, holders[1], out));
    let [(target, Order::Copy { from, .. })] = &bench.orders[..] else { panic!("{:?}", bench.orders) };
    assert_eq!(from, &[holders[2]]);
    assert!(!holders.contains(target));
    let target = *target;
    bench.run(|names, now, out| names.added(now, target, &[block], out));
    bench.tick_until_quiet();
    assert_eq!(bench.names.health().under_replicated, 1, "no third executor is there");
    // Both come back: one replica is too many.
    for (back, id) in [(holders[0], 11), (holders[1], 12)] {
        let id = ExecutorId(id);
        bench.names.joined(id, &format!("host {}", back.0), "rack");
        let all = BlockId(0)..=BlockId(u64::MAX);
        bench.run(|names, now, out| names.reported(now, id, all, &[block], out));
    }
    let asked: Vec<ExecutorId> =
        bench.orders.iter().filter(|(_, order)| is_read(order, block)).map(|(id, _)| *id).collect();
    assert_eq!((asked.len(), bench.orders.len()), (3, 4), "{:?}", bench.orders);
    asked.into_iter().for_each(|id| bench.run(|names, now, out| names.verified(now, id, &[(block.id, u64::MAX)], out)));
    assert!(matches!(bench.orders.last(), Some((_, Order::Delete(_)))), "{:?}", bench.orders);
    let health = bench.names.health();
    assert_eq!((health.under_replicated, health.surplus, health.copied, health.pruned), (0, 0, 1, 1));
}

#[test]
fn it_is_known_when_all_that_was_to_be_read_was_read() {
    let mut bench = Bench::new(5);
    let entry = bench.write("/f", CreateMode::New, &[10]).unwrap();
    bench.write("/g", CreateMode::New, &[10]).unwrap();
    let (_, located) = bench.names.locate(&entry.path, 0..10, &Near::default()).unwrap();
    let (block, holders) = (located[0].block, located[0].holders.clone());
    let unread = |bench: &Bench, at: &str| bench.names.unread(&path(at)).unwrap();
    assert_eq!(unread(&bench, "/f"), 0);
    bench.run(|names, _, out| names.verify(&path("/f"), out).unwrap());
    assert_eq!((unread(&bench, "/f"), unread(&bench, "/g")), (3, 0));
    bench.run(|names, now, out| names.verified(now, holders[0], &[(block.id, u64::MAX)], out));
    assert_eq!(unread(&bench, "/f"), 2);
    bench.run(|names, now, out| names.bad(now, holders[1], &[block.id], out));
    assert_eq!(unread(&bench, "/f"), 1);
    bench.run(|names, now, out| names.lost(now, holders[2], out));
    assert_eq!(unread(&bench, "/f"), 0);
}

#[test]
fn what_is_damaged_is_made_again_from_what_is_not_and_the_last_of_it_stays() {
    let mut bench = Bench::new(4);
    let entry = bench.write("/f", CreateMode::New, &[10]).unwrap();
    let (_, located) = bench.names.locate(&entry.path, 0..10, &Near::default()).unwrap();
    let (block, holders) = (located[0].block, located[0].holders.clone());
    bench.run(|names, now, out| names.bad(now, holders[0], &[block.id], out));
    assert!(bench.orders.contains(&(holders[0], Order::Salvage { block, last: true })));
    assert!(bench.orders.iter().any(|(id, order)| *id == holders[1] && is_read(order, block)), "{:?}", bench.orders);
    bench.run(|names, now, out| names.bad(now, holders[1], &[block.id], out));
    bench.orders.clear();
    bench.run(|names, now, out| names.bad(now, holders[2], &[block.id], out));
    assert_eq!(bench.orders, [(holders[2], Order::Salvage { block, last: true })]);
    let (_, located) = bench.names.locate(&entry.path, 0..10, &Near::default()).unwrap();
    assert_eq!(located[0].holders.len(), 3, "what is left of each may make up for what is not of the others");
    let health = bench.names.health();
    assert_eq!((health.missing, health.damaged), (1, 1));
    assert_eq!(bench.names.troubled(&FsPath::root(), 10).unwrap(), [(path("/f"), block.id, 0, 3, true)]);
    assert_eq!(bench.names.troubled(&FsPath::root(), 0).unwrap(), []);
    // It can be read again: what is damaged may go.
    bench.orders.clear();
    bench.names.joined(ExecutorId(9), "host 9", "rack");
    bench.run(|names, now, out| names.added(now, ExecutorId(9), &[block], out));
    assert!(bench.orders[0].0 == ExecutorId(9) && is_read(&bench.orders[0].1, block));
    assert!(!bench.orders.iter().any(|(_, order)| matches!(order, Order::Salvage { .. })), "{:?}", bench.orders);
    bench.run(|names, now, out| names.verified(now, ExecutorId(9), &[(block.id, u64::MAX)], out));
    assert!(bench.orders.contains(&(holders[2], Order::Salvage { block, last: false })), "{:?}", bench.orders);
    assert_eq!(bench.names.health().damaged, 0);
    bench.run(|names, now, out| names.bad(now, ExecutorId(9), &[block.id], out));
    bench.orders.clear();
    // And so it may when nobody wants the file any more.
    bench.run(|names, now, out| names.delete(now, &entry.path, false, out)).unwrap();
    assert!(bench.orders.contains(&(ExecutorId(9), Order::Delete(block.id))), "{:?}", bench.orders);
    bench.orders.clear();
    bench.run(|names, now, out| names.bad(now, holders[2], &[block.id], out));
    assert_eq!(bench.orders, [(holders[2], Order::Delete(block.id))], "found when its file was gone already");
}

#[test]
fn a_surplus_goes_after_what_stays_was_read() {
    let mut bench = Bench::new(4);
    let entry = bench.write("/f", CreateMode::New, &[10]).unwrap();
    let (_, located) = bench.names.locate(&entry.path, 0..10, &Near::default()).unwrap();
    let (block, holders) = (located[0].block, located[0].holders.clone());
    bench.run(|names, now, out| names.set_replication(now, &entry.path, 1, out)).unwrap();
    let asked: Vec<ExecutorId> = bench.orders.iter().map(|(id, _)| *id).collect();
    assert!(asked.len() == 2 && bench.orders.iter().all(|(_, order)| is_read(order, block)));
    let goes = *holders.iter().find(|id| !asked.contains(id)).unwrap();
    // Whoever was not asked has not read it since.
    bench.run(|names, now, out| names.verified(now, goes, &[(block.id, u64::MAX)], out));
    bench.orders.clear();
    // Of one nothing is left: the other one is not removed, whatever was to go.
    bench.run(|names, now, out| names.bad(now, asked[0], &[block.id], out));
    assert!(!bench.orders.iter().any(|(_, order)| matches!(order, Order::Delete(_))), "{:?}", bench.orders);
    bench.orders.clear();
    bench.run(|names, now, out| names.verified(now, asked[1], &[(block.id, u64::MAX)], out));
    assert!(bench.orders.contains(&(goes, Order::Delete(block.id))), "{:?}", bench.orders);
    assert!(bench.orders.contains(&(asked[0], Order::Salvage { block, last: false })), "{:?}", bench.orders);
    // All but the one that was to go are damaged: it stays.
    let entry = bench.write("/g", CreateMode::New, &[10]).unwrap();
    let (_, located) = bench.names.locate(&entry.path, 0..10, &Near::default()).unwrap();
    let (block, holders) = (located[0].block, located[0].holders.clone());
    bench.orders.clear();
    bench.run(|names, now, out| names.set_replication(now, &entry.path, 1, out)).unwrap();
    let asked: Vec<ExecutorId> = bench.orders.iter().map(|(id, _)| *id).collect();
    let stays = *holders.iter().find(|id| !asked.contains(id)).unwrap();
    bench.orders.clear();
    asked.iter().for_each(|id| bench.run(|names, now, out| names.bad(now, *id, &[block.id], out)));
    let gone = |(id, order): &&(ExecutorId, Order)| *id == stays && !is_read(order, block);
    assert_eq!(bench.orders.iter().find(gone), None);
    assert!(
        bench.orders.iter().any(|(id, order)| *id == stays && is_read(order, block)),
        "what is damaged goes when it was read"
    );
    assert!(!bench.orders.iter().any(|(_, order)| matches!(order, Order::Salvage { last: false, .. })));
}

#[test]
fn what_was_read_before_it_was_asked_for_does_not_count() {
    let mut bench = Bench::new(3);
    let entry = bench.write("/f", CreateMode::New, &[10]).unwrap();
    let (_, located) = bench.names.locate(&entry.path, 0..10, &Near::default()).unwrap();
    let (block, holders) = (located[0].block, located[0].holders.clone());
    // A reader and somebody who checks the file have all of its replicas read.
    holders.iter().for_each(|id| bench.run(|names, _, out| names.suspect(*id, block.id, out)));
    bench.run(|names, _, out| names.verify(&entry.path, out).unwrap());
    let readings = |bench: &mut Bench| -> Vec<(ExecutorId, u64)> {
        let reading = |(id, order)| match order {
            Order::Verify { reading, .. } => (id, reading),
            order => panic!("{order:?}"),
        };
        bench.orders.drain(..).map(reading).collect()
    };
    let before = readings(&mut bench);
    assert_eq!(before.len(), 6);
    bench.run(|names, now, out| names.set_replication(now, &entry.path, 1, out)).unwrap();
    let asked = readings(&mut bench);
    assert_eq!(asked.len(), 2);
    // Their replicas may have been damaged since.
    for (id, reading) in before {
        bench.run(|names, now, out| names.verified(now, id, &[(block.id, reading)], out));
    }
    assert_eq!((bench.orders.as_slice(), bench.names.unread(&entry.path).unwrap()), (&[][..], 0));
    let (id, reading) = asked[0];
    bench.run(|names, now, out| names.verified(now, id, &[(block.id, reading)], out));
    assert_eq!(bench.orders.iter().filter(|(_, order)| matches!(order, Order::Delete(_))).count(), 1);
}

/// A file of one block with a replica that stays and one that its executor was told to remove: the names of both, and the block.
fn one_stays_and_one_goes() -> (Bench, ExecutorId, ExecutorId, Block) {
    let mut bench = Bench::new(2);
    let entry = bench.write("/f", CreateMode::New, &[10]).unwrap();
    let block = bench.names.locate(&entry.path, 0..10, &Near::default()).unwrap().1[0].block;
    // Somebody has all replicas read: the answers take a while.
    bench.run(|names, _, out| names.verify(&entry.path, out).unwrap());
    bench.orders.clear();
    bench.run(|names, now, out| names.set_replication(now, &entry.path, 1, out)).unwrap();
    let [(stays, Order::Verify { .. })] = bench.orders[..] else { panic!("{:?}", bench.orders) };
    let goes = ExecutorId(3 - stays.0);
    bench.orders.clear();
    bench.run(|names, now, out| names.verified(now, stays, &[(block.id, u64::MAX)], out));
    assert_eq!(bench.orders, [(goes, Order::Delete(block.id))]);
    bench.orders.clear();
    // It is the other one that would go if there were one too many.
    bench.names.space(stays, 99, 1);
    (bench, stays, goes, block)
}

#[test]
fn what_is_going_does_not_count() {
    let (mut bench, stays, goes, block) = one_stays_and_one_goes();
    let holders =
        |bench: &Bench| bench.names.locate(&path("/f"), 0..10, &Near::default()).unwrap().1[0].holders.clone();
    // All of this was said before the order came: that a copy or what was made of it is there, that it is right, and that it is not.
    bench.run(|names, now, out| names.added(now, goes, &[block], out));
    bench.run(|names, now, out| names.verified(now, goes, &[(block.id, u64::MAX)], out));
    assert_eq!((bench.orders.as_slice(), holders(&bench)), (&[][..], vec![stays]));
    bench.run(|names, now, out| names.bad(now, goes, &[block.id], out));
    bench.run(|names, now, out| names.added(now, goes, &[Block { bytes: 12, ..block }], out));
    assert_eq!((bench.orders.as_slice(), bench.names.health().surplus), (&[][..], 0));
    // No copy is sent after it, which could not be told from what goes.
    bench.run(|names, now, out| names.set_replication(now, &path("/f"), 2, out)).unwrap();
    bench.tick_until_quiet();
    assert_eq!((bench.orders.as_slice(), bench.names.health().under_replicated), (&[][..], 1));
    // It is gone, and what comes then counts.
    bench.run(|names, now, out| names.gone(now, goes, &[block.id], out));
    assert_eq!(bench.orders, [(goes, Order::Copy { block, from: vec![stays] })]);
    bench.run(|names, now, out| names.added(now, goes, &[block], out));
    assert_eq!((holders(&bench).len(), bench.names.health().under_replicated), (2, 0));
}

#[test]
fn what_is_going_counts_when_its_executor_comes_back_with_it() {
    let (mut bench, stays, goes, block) = one_stays_and_one_goes();
    bench.run(|names, now, out| names.lost(now, goes, out));
    bench.run(|names, now, out| names.lost(now, stays, out));
    bench.names.joined(ExecutorId(9), "host 9", "rack");
    let all = BlockId(0)..=BlockId(u64::MAX);
    bench.run(|names, now, out| names.reported(now, ExecutorId(9), all, &[block], out));
    assert_eq!(bench.names.health().missing, 0);
}

#[test]
fn who_takes_the_place_of_a_namespace_knows_what_is_going() {
    let (mut bench, stays, goes, block) = one_stays_and_one_goes();
    let before = std::mem::replace(&mut bench.names, Namespace::new(WfsConfig::default()));
    bench.restart();
    bench.run(|names, now, out| names.inherit(now, &before, out));
    bench.run(|names, now, out| names.added(now, goes, &[block], out));
    bench.run(|names, now, out| names.verified(now, goes, &[(block.id, u64::MAX)], out));
    let (_, located) = bench.names.locate(&path("/f"), 0..10, &Near::default()).unwrap();
    assert_eq!(located[0].holders, [stays]);
    // Whether it was told is not known.
    bench.now = at(30);
    bench.run(|names, now, out| names.tick(now, out));
    assert_eq!(bench.orders, [(goes, Order::Delete(block.id))]);
}

#[test]
fn a_file_whose_removal_did_not_become_durable_is_there_with_its_replicas() {
    let mut bench = Bench::with(3, WfsConfig::default());
    let entry = bench.write("/f", CreateMode::New, &[10, 20]).unwrap();
    bench.write("/g", CreateMode::New, &[10]).unwrap();
    bench.run(|names, now, out| names.delete(now, &path("/g"), false, out)).unwrap();
    let before = bench.names.locate(&entry.path, 0..30, &Near::default()).unwrap();
    bench.names.delete(bench.now, &entry.path, false, &mut Output::default()).unwrap();
    let failed = std::mem::replace(&mut bench.names, Namespace::new(WfsConfig::default()));
    bench.restart();
    bench.run(|names, now, out| names.inherit(now, &failed, out));
    assert_eq!(bench.names.locate(&entry.path, 0..30, &Near::default()).unwrap(), before);
    bench.tick_until_quiet();
    assert_eq!((bench.names.health().missing, bench.orders.as_slice()), (0, &[][..]));
}

#[test]
fn nothing_that_is_left_of_a_block_goes_for_an_empty_replica() {
    let mut bench = Bench::new(3);
    let entry = bench.write("/f", CreateMode::New, &[10]).unwrap();
    let (_, located) = bench.names.locate(&entry.path, 0..10, &Near::default()).unwrap();
    let (block, holders) = (located[0].block, located[0].holders.clone());
    // The others are thought to be right, and are not.
    bench.run(|names, now, out| names.bad(now, holders[2], &[block.id], out));
    bench.run(|names, now, out| names.bad(now, holders[0], &[block.id], out));
    bench.run(|names, now, out| names.bad(now, holders[1], &[block.id], out));
    let removes =
        |(_, order): &(ExecutorId, Order)| matches!(order, Order::Salvage { last: false, .. } | Order::Delete(_));
    assert!(!bench.orders.iter().any(removes), "{:?}", bench.orders);
    // What is asked and does not answer is asked again.
    let entry = bench.write("/g", CreateMode::New, &[10]).unwrap();
    let block = bench.names.locate(&entry.path, 0..10, &Near::default()).unwrap().1[0].block;
    bench.run(|names, now, out| names.bad(now, holders[2], &[block.id], out));
    bench.orders.clear();
    bench.now = at(302);
    bench.run(|names, now, out| names.tick(now, out));
    let asked = bench.orders.iter().filter(|(_, order)| is_read(order, block)).count();
    assert_eq!(asked, 2, "{:?}", bench.orders);
}

#[test]
fn longer_replicas_are_cut_back_and_not_thrown_away() {
    let mut bench = Bench::new(3);
    let entry = bench.write("/f", CreateMode::New, &[10]).unwrap();
    let block = bench.names.locate(&entry.path, 0..10, &Near::default()).unwrap().1[0].block;
    bench.restart();
    let all = BlockId(0)..=BlockId(u64::MAX);
    // Two have grown, and of one nothing is left.
    for (id, bytes) in [(11, 12), (12, 17), (13, 0)] {
        bench.names.joined(ExecutorId(id), &format!("host {id}"), "rack");
        let held = [Block { bytes, ..block }];
        bench.run(|names, now, out| names.reported(now, ExecutorId(id), all.clone(), &held, out));
    }
    let salvage = |id: u64, last| (ExecutorId(id), Order::Salvage { block, last });
    assert_eq!(bench.orders, [salvage(11, true), salvage(12, true), salvage(13, true)]);
    assert_eq!((bench.names.health().missing, bench.names.health().damaged), (1, 1));
    bench.orders.clear();
    for id in [11, 12] {
        bench.run(|names, now, out| names.added(now, ExecutorId(id), &[block], out));
    }
    assert_eq!(bench.orders, [], "others may still come back");
    bench.now = at(12);
    bench.run(|names, now, out| names.tick(now, out));
    assert!(
        bench.orders.iter().any(|(id, order)| *id == ExecutorId(11) && is_read(order, block)),
        "{:?}",
        bench.orders
    );
    bench.run(|names, now, out| names.verified(now, ExecutorId(11), &[(block.id, u64::MAX)], out));
    assert!(bench.orders.contains(&salvage(13, false)), "{:?}", bench.orders);
    assert_eq!((bench.names.health().missing, bench.names.health().damaged), (0, 0));
}

#[test]
fn parts_of_a_block_go_with_the_lease_of_its_writer() {
    let mut bench = Bench::new(3);
    let create = Create { path: path("/f"), mode: CreateMode::New, replication: None, block_bytes: None, writer: 1 };
    let file = bench.run(|names, now, out| names.create(now, create, out)).unwrap().file;
    let add = AddBlock { file, index: 0, last: Last::Nothing, near: Near::default(), excluded: BTreeSet::new() };
    let added = bench.run(|names, now, out| names.add_block(now, &add, out)).unwrap();
    bench.run(|names, now, out| names.lost(now, added.targets[0], out));
    bench.now = at(301);
    bench.run(|names, now, out| names.tick(now, out));
    let mut left: Vec<ExecutorId> = added.targets[1..].to_vec();
    left.sort_unstable();
    assert_eq!(bench.orders, left.into_iter().map(|id| (id, Order::Delete(added.block))).collect::<Vec<_>>());
}

#[test]
fn a_block_that_failed_goes_on_in_the_next_one() {
    let mut bench = Bench::new(3);
    let create = Create { path: path("/f"), mode: CreateMode::New, replication: Some(2), block_bytes: None, writer: 1 };
    let file = bench.run(|names, now, out| names.create(now, create, out)).unwrap().file;
    let add = |bench: &mut Bench, index, last: &Last, bad: &[ExecutorId]| {
        let (last, excluded) = (last.clone(), bad.iter().copied().collect());
        let add = AddBlock { file, index, last, near: Near::default(), excluded };
        bench.run(|names, now, out| names.add_block(now, &add, out)).unwrap()
    };
    let first = add(&mut bench, 0, &Last::Nothing, &[]);
    // Sent again, it is the same block.
    assert_eq!(add(&mut bench, 0, &Last::Nothing, &[]).block, first.block);
    // Its first link died, and nothing was kept; then the second executor had 7 bytes when the other one died.
    let second = add(&mut bench, 0, &Last::Dropped(first.block), &first.targets[..1]);
    assert!(!second.targets.contains(&first.targets[0]));
    let block = Block { id: second.block, bytes: 7 };
    let sealed = Last::Sealed { block, durable: second.targets[1..].to_vec() };
    // A report of what the dead one has written comes late: it is longer.
    bench.run(|names, now, out| names.added(now, second.targets[0], &[Block { bytes: 9, ..block }], out));
    let third = add(&mut bench, 1, &sealed, &second.targets[..1]);
    assert!(bench.orders.contains(&(second.targets[0], Order::Salvage { block, last: true })), "{:?}", bench.orders);
    let last = Last::Sealed { block: Block { id: third.block, bytes: 3 }, durable: third.targets.clone() };
    // Two are wanted of the second block, and there is one.
    let early = bench.run(|names, now, out| names.complete(now, file, 1, &last, out));
    assert!(matches!(early, Err(FsError::NotDurable { durable: 1, wanted: 2, .. })), "{early:?}");
    let copy = bench.orders.iter().find_map(|(to, order)| match order {
        Order::Copy { block: copied, .. } if *copied == block => Some(*to),
        _ => None,
    });
    bench.run(|names, now, out| names.added(now, copy.unwrap(), &[block], out));
    let entry = bench.run(|names, now, out| names.complete(now, file, 1, &last, out)).unwrap();
    assert!(matches!(entry.detail, Detail::File { bytes: 10, blocks: 2, replication: 2, coding: None, .. }));
    // Sent again, it is complete as well.
    assert_eq!(bench.run(|names, now, out| names.complete(now, file, 1, &last, out)).unwrap(), entry);
}

#[test]
fn a_balancer_moves_replicas_off_full_disks_and_stops() {
    let mut bench = Bench::new(2);
    for file in 0..20 {
        let create = Create {
            path: path(&format!("/{file}")),
            mode: CreateMode::New,
            replication: Some(2),
            block_bytes: None,
            writer: 100 + file,
        };
        let writer = create.writer;
        let file = bench.run(|names, now, out| names.create(now, create, out)).unwrap().file;
        let add = AddBlock { file, index: 0, last: Last::Nothing, near: Near::default(), excluded: BTreeSet::new() };
        let added = bench.run(|names, now, out| names.add_block(now, &add, out)).unwrap();
        let last = Last::Sealed { block: Block { id: added.block, bytes: 10 }, durable: added.targets };
        bench.run(|names, now, out| names.complete(now, file, writer, &last, out)).unwrap();
    }
    bench.names.joined(ExecutorId(3), "host 3", "rack");
    let space = |bench: &mut Bench| {
        for id in 1..=3 {
            let held = bench.names.replicas.member(ExecutorId(id)).unwrap().replicas.len() as u64 * 10;
            bench.names.space(ExecutorId(id), held, 400 - held);
        }
    };
    space(&mut bench);
    bench.run(|names, now, out| names.balance(now, 50, out));
    while let Some((to, order)) = bench.orders.pop() {
        match order {
            Order::Copy { block, .. } => {
                // No heartbeat says so meanwhile.
                bench.run(|names, now, out| names.added(now, to, &[block], out));
                bench.run(|names, now, out| names.tick(now, out));
            }
            Order::Verify { replica: block, .. } => {
                bench.run(|names, now, out| names.verified(now, to, &[(block, u64::MAX)], out))
            }
            _ => {}
        }
    }
    let health = bench.names.health();
    let held: Vec<usize> = health.members.iter().map(|member| member.replicas).collect();
    assert!(!health.balancing && health.under_replicated + health.surplus == 0, "{health:?}");
    // Of forty replicas in all, within 5 % of a disk of forty.
    assert!(held.iter().all(|held| (11..=15).contains(held)), "{held:?}");
}

#[test]
fn unknown_replicas_go_when_executors_have_had_time_to_come_back() {
    let mut bench = Bench::new(3);
    bench.write("/f", CreateMode::New, &[10]).unwrap();
    bench.write("/g", CreateMode::New, &[10]).unwrap();
    let gone = bench.names.locate(&path("/g"), 0..10, &Near::default()).unwrap().1[0].block;
    let kept = bench.names.locate(&path("/f"), 0..10, &Near::default()).unwrap().1[0].block;
    bench.run(|names, now, out| names.delete(now, &path("/g"), false, out)).unwrap();
    bench.orders.clear();
    bench.restart();
    bench.names.joined(ExecutorId(7), "host", "rack");
    // An id that was never given is of another namespace, or of a later time than the store's.
    let unheard = Block { id: BlockId(1_000), bytes: 10 };
    let all = BlockId(0)..=BlockId(u64::MAX);
    bench.run(|names, now, out| names.reported(now, ExecutorId(7), all, &[kept, gone, unheard], out));
    assert_eq!(bench.orders, []);
    assert!(bench.names.health().settling);
    bench.now = at(12);
    bench.run(|names, now, out| names.tick(now, out));
    assert_eq!(bench.orders, [(ExecutorId(7), Order::Delete(gone.id))]);
    assert!(!bench.names.health().settling);
}

#[test]
fn racks_are_spread_over_and_the_writer_is_near() {
    let mut names = Namespace::new(WfsConfig::default());
    for id in 0..6 {
        names.joined(ExecutorId(id), &format!("host {}", id / 2), &format!("rack {}", id / 4));
    }
    let near = Near { executor: Some(ExecutorId(1)), host: "host 0".into(), rack: "rack 0".into() };
    for seed in 0..50 {
        let mut dice = Dice(seed);
        let chosen = place::choose(&names.replicas, &mut dice, &near, &[], &BTreeSet::new(), 0, 3);
        assert_eq!(chosen[0], ExecutorId(1));
        assert!(chosen[1].0 >= 4, "another rack: {chosen:?}");
        assert!([2, 3].contains(&chosen[2].0), "a third host, and no third crossing: {chosen:?}");
    }
}

#[test]
fn a_large_folder_is_gone_at_once_and_its_entries_over_time() {
    let mut bench = Bench::new(0);
    for at in 0..12_000 {
        bench.run(|names, now, out| names.mkdir(now, &path(&format!("/d/{}/{at}", at % 7)), true, out)).unwrap();
    }
    bench.run(|names, now, out| names.delete(now, &path("/d"), true, out)).unwrap();
    assert_eq!(bench.all(), []);
    bench.restart();
    assert_eq!(bench.all(), []);
    assert!(bench.names.len() > 5_000);
    bench.tick_until_quiet();
    assert_eq!((bench.names.len(), bench.stored.records.len()), (1, 0));
}

#[test]
fn the_trash_gives_back_until_it_is_emptied() {
    let mut bench = Bench::new(1);
    bench.now = at(86_400);
    for _ in 0..2 {
        bench.write("/a/f", CreateMode::New, &[5]).unwrap();
        bench.run(|names, now, out| names.trash(now, &path("/a/f"), false, out)).unwrap();
    }
    let trashed: Vec<String> = bench.all().into_iter().map(|(path, _)| path).filter(|p| p.ends_with("/f")).collect();
    assert_eq!(trashed.len(), 2);
    assert!(trashed.contains(&"/.trash/86400000/a/f".to_string()), "{trashed:?}");
    let back = bench.run(|names, now, out| names.rename(now, &path(&trashed[0]), &path("/a/f"), false, true, out));
    back.unwrap();
    assert!(bench.run(|names, now, out| names.trash(now, &path("/.trash"), true, out)).is_err());
    bench.now = at(3 * 86_400);
    bench.run(|names, now, out| names.tick(now, out));
    let left: Vec<String> = bench.all().into_iter().map(|(path, _)| path).collect();
    assert_eq!(left, ["/.trash", "/a", "/a/f"]);
}

/// A cluster whose executors do as they are told, with what they hold.
struct Obedient {
    bench: Bench,
    disks: BTreeMap<ExecutorId, BTreeMap<BlockId, u64>>,
}

impl Obedient {
    fn new(executors: u64) -> Obedient {
        let disks = (1..=executors).map(|id| (ExecutorId(id), BTreeMap::new())).collect();
        Obedient { bench: Bench::new(executors), disks }
    }

    fn write(&mut self, to: &str, blocks: &[u64]) {
        self.bench.write(to, CreateMode::New, blocks).unwrap();
        let (_, located) = self.bench.names.locate(&path(to), 0..u64::MAX, &Near::default()).unwrap();
        for Located { block, holders, .. } in located {
            holders.iter().for_each(|holder| _ = self.disks.get_mut(holder).unwrap().insert(block.id, block.bytes));
        }
    }

    fn set_policy(&mut self, folder: &str, policy: Option<Policy>) {
        self.bench.run(|names, now, out| names.set_policy(now, &path(folder), policy, out)).unwrap();
    }

    /// Carries out all orders, and lets time pass, until nothing is left to do.
    fn rest(&mut self) {
        for _ in 0..2_000 {
            for (id, order) in std::mem::take(&mut self.bench.orders) {
                self.obey(id, order);
            }
            self.bench.now.at = self.bench.now.at + Duration::from_secs(10);
            self.bench.now.wall_ms += 10_000;
            if self.bench.names.next_deadline().is_some_and(|due| due <= self.bench.now.at) {
                self.bench.run(|names, now, out| names.tick(now, out));
            }
        }
        assert_eq!(self.bench.orders, []);
    }

    fn obey(&mut self, id: ExecutorId, order: Order) {
        match order {
            Order::Delete(block) => {
                self.disks.get_mut(&id).unwrap().remove(&block);
                self.bench.run(|names, now, out| names.gone(now, id, &[block], out));
            }
            Order::Copy { block, .. } => self.keep(id, block),
            Order::Rebuild(CodedPiece { coding, piece, first, piece_bytes, holders }) => {
                assert!(holders.len() >= usize::from(coding.data()));
                self.keep(id, Block { id: replicas::replica(first, piece), bytes: piece_bytes });
            }
            Order::Recode { new, coding, targets, .. } => {
                for (place, target) in targets.into_iter().enumerate() {
                    let piece = coding.map_or(0, |_| place as u8);
                    let bytes = coding.map_or(new.bytes, |coding| coding.piece_bytes(new.bytes));
                    self.keep(target, Block { id: replicas::replica(new.id, piece), bytes });
                }
            }
            Order::Verify { replica: block, .. } => {
                self.bench.run(|names, now, out| names.verified(now, id, &[(block, u64::MAX)], out));
            }
            Order::Salvage { .. } => {}
        }
    }

    fn keep(&mut self, id: ExecutorId, block: Block) {
        self.disks.get_mut(&id).unwrap().insert(block.id, block.bytes);
        self.bench.run(|names, now, out| names.added(now, id, &[block], out));
    }

    fn lose(&mut self, id: ExecutorId) {
        self.disks.insert(id, BTreeMap::new());
        self.bench.run(|names, now, out| names.lost(now, id, out));
    }

    fn join(&mut self, id: ExecutorId) {
        self.bench.names.joined(id, &format!("host {}", id.0), "rack");
        let held = self.disks.entry(id).or_default().iter().map(|(id, bytes)| Block { id: *id, bytes: *bytes });
        let held: Vec<Block> = held.collect();
        let all = BlockId(0)..=BlockId(u64::MAX);
        self.bench.run(|names, now, out| names.reported(now, id, all, &held, out));
    }

    fn coding(&self, of: &str) -> Option<Coding> {
        match self.bench.names.stat(&path(of)).unwrap().detail {
            Detail::File { coding, .. } => coding,
            Detail::Folder { .. } => panic!("{of} is a folder"),
        }
    }

    fn pieces(&self, of: &str) -> BTreeSet<Holder> {
        let (_, located) = self.bench.names.locate(&path(of), 0..u64::MAX, &Near::default()).unwrap();
        located[0].coded.as_ref().map(|coded| coded.holders.iter().copied().collect()).unwrap_or_default()
    }

    fn replicas(&self) -> usize {
        self.disks.values().map(BTreeMap::len).sum()
    }
}

const CODED: Option<Policy> = Some(Policy::Code(Coding::Rs3Plus2));

#[test]
fn cold_files_are_cut_up_where_their_folder_asks_for_it() {
    let mut cluster = Obedient::new(6);
    cluster.write("/cold/big", &[4 << 20, 3 << 20]);
    cluster.write("/cold/small", &[1_000]);
    cluster.write("/warm", &[4 << 20]);
    cluster.set_policy("/cold", CODED);
    cluster.rest();
    assert_eq!(cluster.coding("/cold/big"), Some(Coding::Rs3Plus2));
    // It would take more, not less.
    assert_eq!((cluster.coding("/cold/small"), cluster.coding("/warm")), (None, None));
    // Nothing of the former replicas is left, and no executor has two pieces of a block.
    assert_eq!(cluster.replicas(), 2 * 5 + 3 + 3);
    let holders: BTreeSet<ExecutorId> = cluster.pieces("/cold/big").iter().map(|holder| holder.executor).collect();
    assert_eq!(holders.len(), 5);
    let (entry, located) = cluster.bench.names.locate(&path("/cold/big"), 0..u64::MAX, &Near::default()).unwrap();
    let lengths: Vec<u64> = located.iter().map(|located| located.block.bytes).collect();
    assert_eq!(lengths, [1_398_144, 1_398_144, 1_398_016, 1_048_576, 1_048_576, 1_048_576]);
    assert!(matches!(entry.detail, Detail::File { bytes, .. } if bytes == 7 << 20));
    let Detail::Folder { usage, .. } = cluster.bench.names.stat(&path("/cold")).unwrap().detail else { panic!() };
    assert_eq!(usage.replicated_bytes, 5 * (1_398_144 + 1_048_576) + 3 * 1_000);

    // A later primary knows it, and makes lost pieces again.
    cluster.bench.restart();
    (1..=6).for_each(|id| cluster.join(ExecutorId(id)));
    let lost = cluster.pieces("/cold/big").first().unwrap().executor;
    cluster.lose(lost);
    assert_eq!(cluster.pieces("/cold/big").len(), 4);
    cluster.rest();
    let now: BTreeSet<u8> = cluster.pieces("/cold/big").iter().map(|holder| holder.piece).collect();
    assert_eq!(now, (0..5).collect());

    // What is asked for no more is undone.
    cluster.set_policy("/cold", None);
    cluster.rest();
    assert_eq!((cluster.coding("/cold/big"), cluster.replicas()), (None, 2 * 3 + 3 + 3));
}

/// The last of its replicas to be read is also the last that anybody says anything of.
#[test]
fn a_file_is_made_whole_where_nothing_else_happens() {
    for replication in 1..=3 {
        let mut cluster = Obedient::new(5);
        cluster.write("/cold/file", &[4 << 20]);
        cluster.bench.run(|names, now, out| names.set_replication(now, &path("/cold/file"), replication, out)).unwrap();
        cluster.set_policy("/cold", CODED);
        cluster.rest();
        assert_eq!(cluster.coding("/cold/file"), CODED.unwrap().coding());
        cluster.set_policy("/cold", None);
        cluster.rest();
        assert_eq!((cluster.coding("/cold/file"), cluster.replicas()), (None, usize::from(replication)));
    }
}

#[test]
fn a_file_is_not_kept_in_a_way_for_which_a_quota_has_no_room() {
    let mut cluster = Obedient::new(6);
    cluster.write("/cold/file", &[3 << 20]);
    cluster.bench.run(|names, now, out| names.set_replication(now, &path("/cold/file"), 1, out)).unwrap();
    let quota = |cluster: &mut Obedient, bytes| {
        let quota = Quota { files: None, bytes };
        cluster.bench.run(|names, _, out| names.set_quota(&path("/cold"), quota, out)).unwrap();
    };
    let held = |cluster: &Obedient| match cluster.bench.names.stat(&path("/cold")).unwrap().detail {
        Detail::Folder { usage, .. } => usage.replicated_bytes,
        Detail::File { .. } => panic!("it is a folder"),
    };
    // Five pieces of 1 MiB take more than one replica.
    quota(&mut cluster, Some(4 << 20));
    cluster.set_policy("/cold", CODED);
    cluster.rest();
    assert_eq!((cluster.coding("/cold/file"), held(&cluster)), (None, 3 << 20));
    assert_eq!(cluster.bench.names.health().to_recode, 1);
    quota(&mut cluster, Some(6 << 20));
    cluster.rest();
    assert_eq!((cluster.coding("/cold/file"), held(&cluster)), (CODED.unwrap().coding(), 5 * 1_048_576));
    assert_eq!(cluster.bench.names.health().to_recode, 0);
    // Nor do whole replicas take the place of pieces, when more are wanted than there is room for.
    cluster.bench.run(|names, now, out| names.set_replication(now, &path("/cold/file"), 3, out)).unwrap();
    cluster.set_policy("/cold", None);
    cluster.rest();
    assert_eq!((cluster.coding("/cold/file"), held(&cluster)), (CODED.unwrap().coding(), 5 * 1_048_576));
    // What takes the room while a file is being made anew takes it.
    quota(&mut cluster, Some(9 << 20));
    cluster.bench.now.at = cluster.bench.now.at + Duration::from_secs(60);
    cluster.bench.run(|names, now, out| names.tick(now, out));
    let orders = std::mem::take(&mut cluster.bench.orders);
    assert!(matches!(orders.as_slice(), [(_, Order::Recode { .. })]), "{orders:?}");
    cluster.write("/cold/other", &[1_000]);
    orders.into_iter().for_each(|(id, order)| cluster.obey(id, order));
    cluster.rest();
    assert_eq!((cluster.coding("/cold/file"), cluster.replicas()), (CODED.unwrap().coding(), 5 + 3));
    quota(&mut cluster, None);
    cluster.rest();
    assert_eq!((cluster.coding("/cold/file"), cluster.replicas()), (None, 3 + 3));
}

#[test]
fn a_code_waits_for_as_many_executors_as_it_has_pieces() {
    let mut cluster = Obedient::new(4);
    cluster.write("/cold/file", &[4 << 20]);
    cluster.set_policy("/cold", CODED);
    cluster.rest();
    assert_eq!((cluster.coding("/cold/file"), cluster.bench.names.health().to_recode), (None, 1));
    cluster.join(ExecutorId(5));
    cluster.rest();
    assert_eq!((cluster.coding("/cold/file"), cluster.bench.names.health().to_recode), (CODED.unwrap().coding(), 0));
}

#[test]
fn files_that_move_are_kept_as_is_asked_for_there() {
    let mut cluster = Obedient::new(5);
    cluster.write("/cold/file", &[4 << 20]);
    cluster.write("/warm/file", &[4 << 20]);
    cluster.set_policy("/cold", CODED);
    cluster.rest();
    let moves = [("/cold/file", "/warm/other"), ("/warm/file", "/cold/other")];
    for (from, to) in moves {
        cluster.bench.run(|names, now, out| names.rename(now, &path(from), &path(to), false, false, out)).unwrap();
    }
    cluster.rest();
    assert_eq!((cluster.coding("/warm/other"), cluster.coding("/cold/other")), (None, CODED.unwrap().coding()));
    // In the trash nothing changes.
    let trashed = cluster.bench.run(|names, now, out| names.trash(now, &path("/cold/other"), false, out)).unwrap();
    cluster.rest();
    let entry = cluster.bench.names.stat(&trashed.path).unwrap();
    assert!(matches!(entry.detail, Detail::File { coding: Some(_), .. }), "{entry:?}");
}

#[test]
fn what_is_being_cut_up_can_be_removed_and_may_fail() {
    let mut cluster = Obedient::new(5);
    cluster.write("/cold/file", &[4 << 20]);
    cluster.bench.now = at(4_000);
    cluster.set_policy("/cold", CODED);
    let orders = std::mem::take(&mut cluster.bench.orders);
    let [(coder, Order::Recode { new, .. })] = orders.as_slice() else { panic!("{orders:?}") };
    // Two of five pieces come, then it fails: they go, and it is tried again under other numbers.
    cluster.keep(ExecutorId(1), Block { id: new.id, bytes: 1_398_144 });
    cluster.keep(ExecutorId(2), Block { id: BlockId(new.id.0 + 1), bytes: 1_398_144 });
    cluster.bench.run(|names, now, out| names.copy_failed(now, *coder, new.id, out));
    assert_eq!(cluster.bench.orders.len(), 2);
    cluster.rest();
    assert_eq!((cluster.coding("/cold/file"), cluster.replicas()), (CODED.unwrap().coding(), 5));

    cluster.set_policy("/cold", None);
    let orders = std::mem::take(&mut cluster.bench.orders);
    assert!(matches!(orders.as_slice(), [(_, Order::Recode { .. })]), "{orders:?}");
    cluster.bench.run(|names, now, out| names.delete(now, &path("/cold/file"), false, out)).unwrap();
    cluster.rest();
    // A replica that is late has no place.
    orders.into_iter().for_each(|(id, order)| cluster.obey(id, order));
    cluster.rest();
    assert_eq!(cluster.replicas(), 0);
}

#[test]
fn an_executor_that_is_expected_back_is_waited_for() {
    let mut cluster = Obedient::new(5);
    cluster.write("/f", &[10]);
    let holders = |cluster: &Obedient| {
        let (_, located) = cluster.bench.names.locate(&path("/f"), 0..10, &Near::default()).unwrap();
        located[0].holders.clone()
    };
    let [first, second, third] = holders(&cluster)[..] else { panic!("three replicas") };
    let hour = Some(Duration::from_secs(3_600));
    cluster.bench.run(|names, now, _| names.maintain(now, first, hour));
    // It is read as before, and nothing new goes there.
    assert_eq!(holders(&cluster).len(), 3);
    (0..20).for_each(|file| cluster.write(&format!("/new/{file}"), &[10]));
    assert_eq!(cluster.disks[&first].len(), 1);
    let kept = cluster.disks[&first].clone();
    cluster.lose(first);
    cluster.bench.now.at = cluster.bench.now.at + Duration::from_secs(3_000);
    cluster.bench.run(|names, now, out| names.tick(now, out));
    assert_eq!(cluster.bench.orders, [], "it is expected back");
    // Back in time, under another name, it has what it had.
    cluster.disks.insert(ExecutorId(9), kept);
    cluster.join(ExecutorId(9));
    assert_eq!((holders(&cluster).len(), cluster.bench.orders.len()), (3, 0));

    // One more is lost meanwhile: the last replica does not wait. And who does not come back is done without.
    cluster.bench.run(|names, now, _| names.maintain(now, ExecutorId(9), hour));
    cluster.lose(ExecutorId(9));
    cluster.lose(second);
    assert!(
        cluster.bench.orders.iter().any(|(_, order)| matches!(order, Order::Copy { from, .. } if *from == [third]))
    );
    cluster.rest();
    assert_eq!(holders(&cluster).len(), 3);
    // Its time is over before it has left: it is one like the others.
    cluster.bench.run(|names, now, _| names.maintain(now, third, hour));
    assert!(cluster.bench.names.health().members.iter().any(|member| member.maintenance));
    cluster.rest();
    assert!(!cluster.bench.names.health().members.iter().any(|member| member.maintenance));
}

#[test]
fn a_new_primary_waits_for_whom_the_last_one_waited_for() {
    let mut cluster = Obedient::new(4);
    cluster.write("/f", &[10]);
    let (_, located) = cluster.bench.names.locate(&path("/f"), 0..10, &Near::default()).unwrap();
    let away = located[0].holders[0];
    let kept = cluster.disks.remove(&away).unwrap();
    let executors: Vec<ExecutorId> = cluster.disks.keys().copied().collect();
    let restart = |cluster: &mut Obedient| {
        let now = cluster.bench.now;
        cluster.bench.names = cluster.bench.stored.load(cluster.bench.names.config().clone(), now);
        cluster.bench.names.expect(now.at + Duration::from_secs(3_600));
        executors.iter().for_each(|id| cluster.join(*id));
        cluster.bench.now.at = now.at + Duration::from_secs(600);
        cluster.bench.run(|names, now, out| names.tick(now, out));
        assert_eq!((cluster.bench.names.health().settling, cluster.bench.orders.len()), (false, 0));
        assert_eq!(cluster.bench.names.health().under_replicated, 1);
    };
    restart(&mut cluster);
    cluster.disks.insert(ExecutorId(9), kept);
    cluster.join(ExecutorId(9));
    assert_eq!((cluster.bench.names.health().under_replicated, cluster.bench.orders.len()), (0, 0));
    cluster.disks.remove(&ExecutorId(9));
    // Who does not come back in time is done without, and so is who is not expected any more.
    restart(&mut cluster);
    cluster.bench.now.at = cluster.bench.now.at + Duration::from_secs(3_600);
    cluster.rest();
    assert_eq!(cluster.bench.names.health().under_replicated, 0);
}
