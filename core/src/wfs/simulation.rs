//! A cluster with files on a seeded queue: executors with disks, writers, a primary that dies and is followed by the next one.
//!
//! What happens is a function of the seed. Messages of one executor come in order, late, and are lost with its stream; changes that were
//! not durable when the primary died are lost, and nobody was told of them. The checkers look at disks and at what writers were told,
//! never at what the namespace believes.

use super::place::Dice;
use super::tests::Stored;
use super::*;
use std::collections::VecDeque;

/// Known bugs, to see that the checkers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    /// Writers are told before the change is durable.
    ToldEarly,
    /// Lost replicas are not made again.
    NoRepair,
    /// A report that all replicas are damaged is believed, and the last one removed.
    OrdersLost,
    /// A block number is given again after the primary died.
    NumbersAgain,
}

const EXECUTORS: u64 = 5;
const STEPS: usize = 400;

/// A replica on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OnDisk {
    bytes: u64,
    /// What was written: which writer wrote it.
    content: u128,
    damaged: bool,
}

#[derive(Debug)]
struct Executor {
    /// What the primary calls it, while it is attached.
    name: Option<ExecutorId>,
    up: bool,
    disk: BTreeMap<BlockId, OnDisk>,
    /// To the primary.
    said: VecDeque<Said>,
    /// From the primary.
    orders: VecDeque<Order>,
}

#[derive(Clone, Debug)]
enum Said {
    All(Vec<Block>),
    Added(Block),
    Bad(BlockId),
    NotCopied(BlockId),
}

/// What a writer knows of its file.
#[derive(Clone, Debug)]
struct Write {
    path: FsPath,
    writer: u128,
    file: Option<FileId>,
    blocks: Vec<Block>,
    last: Last,
    left: u64,
}

/// What a file has to have, as its writer was told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Promise {
    writer: u128,
    blocks: Vec<Block>,
}

struct World {
    seed: u64,
    defect: Defect,
    dice: Dice,
    now: Now,
    names: Namespace,
    stored: Stored,
    executors: Vec<Executor>,
    next_name: u64,
    writes: Vec<Write>,
    next_writer: u128,
    promised: BTreeMap<FsPath, Promise>,
    /// Paths about which nobody was told what happened: either is right.
    unsure: BTreeMap<FsPath, Vec<Option<Promise>>>,
    copies: u64,
    trace: Vec<String>,
}

impl World {
    fn new(seed: u64, defect: Defect) -> World {
        let executor = |_| Executor {
            name: None,
            up: true,
            disk: BTreeMap::new(),
            said: VecDeque::new(),
            orders: VecDeque::new(),
        };
        let config = WfsConfig { seed, repair_after: Duration::from_secs(3), ..WfsConfig::default() };
        World {
            seed,
            defect,
            dice: Dice(seed ^ 0x5eed),
            now: Now { at: Instant(1), wall_ms: 1 },
            names: Namespace::new(config),
            stored: Stored::default(),
            executors: (0..EXECUTORS).map(executor).collect(),
            next_name: 1,
            writes: Vec::new(),
            next_writer: 1,
            promised: BTreeMap::new(),
            unsure: BTreeMap::new(),
            copies: 0,
            trace: Vec::new(),
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice.roll() % sides
    }

    fn note(&mut self, what: String) {
        self.trace.push(format!("{} {what}", self.now.at));
    }

    /// One operation, made durable. `None`: the primary died before it was, and whoever asked hears nothing.
    fn operate<T>(&mut self, operation: impl FnOnce(&mut Namespace, Now, &mut Output) -> T) -> Option<T> {
        let mut out = Output::default();
        let result = operation(&mut self.names, self.now, &mut out);
        let dies = self.roll(300) == 0;
        if dies {
            let lost = self.roll(2) == 0;
            self.note(format!("primary dies, last change lost: {lost}"));
            if !lost {
                self.stored.apply(out, self.names.counters());
            }
            self.restart();
            return if self.defect == Defect::ToldEarly { Some(result) } else { None };
        }
        self.copies += out.orders.iter().filter(|(_, order)| matches!(order, Order::Copy { .. })).count() as u64;
        for (name, order) in self.stored.apply(out, self.names.counters()) {
            let copy = matches!(order, Order::Copy { .. });
            if (copy && self.defect == Defect::NoRepair) || (!copy && self.defect == Defect::OrdersLost) {
                continue;
            }
            if let Some(executor) = self.executors.iter_mut().find(|executor| executor.name == Some(name)) {
                executor.orders.push_back(order);
            }
        }
        Some(result)
    }

    fn restart(&mut self) {
        if self.defect == Defect::NumbersAgain {
            self.stored.counters.next_block = self.stored.counters.next_block.saturating_sub(2).max(1);
        }
        self.names = self.stored.load(self.names.config().clone(), self.now);
        for at in 0..self.executors.len() {
            self.detach(at);
        }
    }

    /// Its stream breaks: what was on the way is lost.
    fn detach(&mut self, at: usize) {
        let executor = &mut self.executors[at];
        executor.said.clear();
        executor.orders.clear();
        if let Some(name) = executor.name.take() {
            let _ = self.operate(|names, now, out| names.lost(now, name, out));
        }
    }

    fn attach(&mut self, at: usize) {
        if self.executors[at].name.is_some() || !self.executors[at].up {
            return;
        }
        let name = ExecutorId(self.next_name);
        self.next_name += 1;
        self.names.joined(name, &format!("host {at}"), if at < 3 { "near" } else { "far" });
        let executor = &mut self.executors[at];
        executor.name = Some(name);
        let held = executor.disk.iter().map(|(id, replica)| Block { id: *id, bytes: replica.bytes });
        executor.said.push_back(Said::All(held.collect()));
    }

    fn at(&self, name: ExecutorId) -> Option<usize> {
        self.executors.iter().position(|executor| executor.name == Some(name))
    }

    fn hear(&mut self, at: usize) {
        let (Some(name), Some(said)) = (self.executors[at].name, self.executors[at].said.pop_front()) else { return };
        self.note(format!("executor {at} said {said:?}"));
        let all = BlockId(0)..=BlockId(u64::MAX);
        let _ = match said {
            Said::All(blocks) => self.operate(|names, now, out| names.reported(now, name, all, &blocks, out)),
            Said::Added(block) => self.operate(|names, now, out| names.added(now, name, &[block], out)),
            Said::Bad(block) => self.operate(|names, now, out| names.bad(now, name, &[block], out)),
            Said::NotCopied(block) => self.operate(|names, now, out| names.copy_failed(now, name, block, out)),
        };
    }

    fn obey(&mut self, at: usize) {
        if !self.executors[at].up {
            return;
        }
        let Some(order) = self.executors[at].orders.pop_front() else { return };
        self.note(format!("executor {at} obeys {order:?}"));
        match order {
            Order::Delete(block) => _ = self.executors[at].disk.remove(&block),
            Order::Discard(block) => {
                if self.executors[at].disk.get(&block.id).is_some_and(|replica| replica.bytes == block.bytes) {
                    self.executors[at].disk.remove(&block.id);
                }
            }
            Order::Verify(block) => self.look(at, block),
            Order::Copy { block, from } => {
                let read = |name: &ExecutorId| {
                    let source = self.executors.get(self.at(*name)?)?;
                    source
                        .disk
                        .get(&block.id)
                        .copied()
                        .filter(|replica| source.up && !replica.damaged && replica.bytes == block.bytes)
                };
                match from.iter().find_map(read) {
                    Some(replica) => {
                        let executor = &mut self.executors[at];
                        executor.disk.insert(block.id, replica);
                        executor.said.push_back(Said::Added(block));
                    }
                    None => self.executors[at].said.push_back(Said::NotCopied(block.id)),
                }
            }
        }
    }

    /// An executor reads a replica of its own.
    fn look(&mut self, at: usize, block: BlockId) {
        let executor = &mut self.executors[at];
        if executor.disk.get(&block).is_some_and(|replica| replica.damaged) {
            executor.disk.remove(&block);
            executor.said.push_back(Said::Bad(block));
        }
    }

    // ---- writers

    fn begin_write(&mut self) {
        let path = FsPath::parse(&format!("/{}/{}", self.roll(3), self.roll(6))).unwrap();
        // One writer of a path at a time, so that what it has to have is clear.
        if self.writes.iter().any(|write| write.path == path) || self.unsure.contains_key(&path) {
            return;
        }
        let writer = self.next_writer;
        self.next_writer += 1;
        let left = self.roll(4);
        self.writes.push(Write { path, writer, file: None, blocks: Vec::new(), last: Last::Nothing, left });
    }

    fn go_on(&mut self, at: usize) {
        let mut write = self.writes.swap_remove(at);
        let (writer, path) = (write.writer, write.path.clone());
        let Some(file) = write.file else {
            let mode = CreateMode::Overwrite;
            let create = Create { path, mode, replication: Some(3), block_bytes: None, writer };
            match self.operate(|names, now, out| names.create(now, create, out)) {
                Some(Ok(created)) => write.file = Some(created.file),
                Some(Err(_)) => return,
                // Asked again.
                None => {}
            }
            return self.writes.push(write);
        };
        if write.left > 0 {
            let (index, last) = (write.blocks.len(), write.last.clone());
            let add = AddBlock { file, index, last, near: Near::default(), excluded: BTreeSet::new() };
            let added = self.operate(|names, now, out| names.add_block(now, &add, out));
            match added {
                Some(Ok(allocated)) => self.write_block(&mut write, allocated),
                Some(Err(FsError::NoTargets { .. })) | None => {}
                Some(Err(_)) => return,
            }
            return self.writes.push(write);
        }
        let last = write.last.clone();
        match self.operate(|names, now, out| names.complete(now, file, writer, &last, out)) {
            Some(Ok(_)) => {
                self.note(format!("{path} is {:?} of writer {writer}", write.blocks));
                self.unsure.remove(&path);
                self.promised.insert(path, Promise { writer, blocks: write.blocks });
            }
            Some(Err(FsError::NotDurable { .. })) => self.writes.push(write),
            // It may have been heard, and asks again.
            None => {
                self.doubt(&write);
                self.writes.push(write);
            }
            // It gives up, and may have been heard before.
            Some(Err(_)) => self.doubt(&write),
        }
    }

    fn doubt(&mut self, write: &Write) {
        let before = self.promised.remove(&write.path);
        let either = self.unsure.entry(write.path.clone()).or_insert_with(|| vec![before]);
        either.push(Some(Promise { writer: write.writer, blocks: write.blocks.clone() }));
    }

    /// The bytes go to the executors; some of them may die on the way.
    fn write_block(&mut self, write: &mut Write, allocated: Allocated) {
        let length = 100 + self.roll(1_000);
        let fails = self.roll(6) == 0;
        let kept = if fails { self.roll(length) } else { length };
        let mut durable = Vec::new();
        for (link, name) in allocated.targets.iter().enumerate() {
            let Some(at) = self.at(*name).filter(|at| self.executors[*at].up) else { continue };
            let lost = fails && link == 0;
            // Whoever loses its writer may have more than the others, and say so.
            let bytes = if lost { length } else { kept };
            if bytes == 0 || (lost && self.roll(2) == 0) {
                continue;
            }
            let replica = OnDisk { bytes, content: write.writer, damaged: false };
            let executor = &mut self.executors[at];
            executor.disk.insert(allocated.block, replica);
            executor.said.push_back(Said::Added(Block { id: allocated.block, bytes }));
            if !lost {
                durable.push(*name);
            }
        }
        self.note(format!("{allocated:?} of {} is durable with {kept} bytes on {durable:?}", write.path));
        write.last = match durable.is_empty() || kept == 0 {
            true => Last::Dropped(allocated.block),
            false => {
                let block = Block { id: allocated.block, bytes: kept };
                write.blocks.push(block);
                write.left -= 1;
                Last::Sealed { block, durable }
            }
        };
    }

    fn remove(&mut self) {
        let Some(path) = self.promised.keys().nth(self.dice.roll() as usize % self.promised.len().max(1)).cloned()
        else {
            return;
        };
        if self.writes.iter().any(|write| write.path == path) {
            return;
        }
        let deleted = self.operate(|names, now, out| names.delete(now, &path, false, out));
        self.note(format!("{path} is removed: {deleted:?}"));
        let before = self.promised.remove(&path);
        match deleted {
            Some(Ok(())) => {}
            _ => _ = self.unsure.insert(path, vec![before, None]),
        }
    }

    // ---- faults

    /// Whether all that was promised has an intact replica on another executor, which has not been told to remove it.
    fn can_spare(&self, at: usize) -> bool {
        let stays = |executor: &Executor, block: &Block| {
            !executor.orders.iter().any(|order| match order {
                Order::Delete(id) => *id == block.id,
                Order::Discard(gone) => gone == block,
                Order::Copy { .. } | Order::Verify(_) => false,
            })
        };
        let promised = self.promised.values().chain(self.unsure.values().flatten().flatten());
        let open = self.writes.iter().flat_map(|write| write.blocks.iter().map(move |block| (block, write.writer)));
        let blocks = promised.flat_map(|promise| promise.blocks.iter().map(move |block| (block, promise.writer)));
        blocks.chain(open).all(|(block, writer)| {
            let others = self.executors.iter().enumerate().filter(|(other, _)| *other != at);
            let mut intact = others.filter(|(_, executor)| is_intact(executor, block, writer));
            intact.any(|(_, executor)| stays(executor, block))
        })
    }

    fn fault(&mut self) {
        let at = self.roll(EXECUTORS) as usize;
        match self.roll(10) {
            0..=3 => self.detach(at),
            4..=6 => {
                self.note(format!("executor {at} goes down"));
                self.executors[at].up = false;
                self.detach(at);
            }
            7 if self.can_spare(at) => {
                self.note(format!("the disk of executor {at} is lost"));
                self.executors[at].disk.clear();
                self.detach(at);
            }
            8 if self.can_spare(at) => {
                let count = self.executors[at].disk.len() as u64;
                let which = self.roll(count.max(1)) as usize;
                if let Some(replica) = self.executors[at].disk.values_mut().nth(which) {
                    replica.damaged = true;
                }
            }
            _ => {
                self.note("primary dies".into());
                self.restart();
            }
        }
    }

    fn step(&mut self) {
        self.now.at = self.now.at + Duration::from_millis(self.dice.roll() % 400);
        self.now.wall_ms = self.now.at.0 / 1_000;
        for at in 0..self.executors.len() {
            if !self.executors[at].up && self.roll(10) == 0 {
                self.executors[at].up = true;
            }
            if self.roll(3) == 0 {
                self.attach(at);
            }
        }
        match self.roll(20) {
            0..=3 => self.begin_write(),
            4..=11 if !self.writes.is_empty() => {
                let at = self.roll(self.writes.len() as u64) as usize;
                self.go_on(at);
            }
            12 => self.remove(),
            13 => self.fault(),
            14 => {
                let at = self.roll(EXECUTORS) as usize;
                let block = self.executors[at].disk.keys().next().copied();
                block.inspect(|block| self.look(at, *block));
            }
            _ => {}
        }
        for _ in 0..3 {
            let at = self.roll(EXECUTORS) as usize;
            self.hear(at);
            self.obey(at);
        }
        if self.names.next_deadline().is_some_and(|due| due <= self.now.at) {
            let _ = self.operate(|names, now, out| names.tick(now, out));
        }
        self.check_always();
    }

    /// Everything comes back, and the world rests.
    fn settle(&mut self) {
        for round in 0..2_000 {
            self.now.at = self.now.at + Duration::from_millis(500);
            for at in 0..self.executors.len() {
                self.executors[at].up = true;
                self.attach(at);
                let damaged = |(id, replica): (&BlockId, &OnDisk)| replica.damaged.then_some(*id);
                let damaged: Vec<BlockId> = self.executors[at].disk.iter().filter_map(damaged).collect();
                damaged.into_iter().for_each(|block| self.look(at, block));
                while !self.executors[at].said.is_empty() {
                    self.hear(at);
                }
                while !self.executors[at].orders.is_empty() {
                    self.obey(at);
                }
            }
            if !self.writes.is_empty() {
                self.go_on(0);
            }
            if self.names.next_deadline().is_some_and(|due| due <= self.now.at) {
                let _ = self.operate(|names, now, out| names.tick(now, out));
            }
            let idle = self.executors.iter().all(|e| e.name.is_some() && e.said.is_empty() && e.orders.is_empty());
            let health = self.names.health();
            let well = health.under_replicated + health.missing + health.copying + health.surplus == 0;
            // Longer than leases, and than executors are waited for.
            if round > 700 && idle && well && self.writes.is_empty() && !health.settling {
                return;
            }
        }
        self.fail("the cluster does not come to rest");
    }

    // ---- checkers

    /// What was promised is on some disk.
    fn check_always(&self) {
        for (path, promise) in &self.promised {
            for block in &promise.blocks {
                if !self.executors.iter().any(|executor| is_intact(executor, block, promise.writer)) {
                    self.fail(&format!("{} of {path} is on no disk any more", block.id));
                }
            }
        }
    }

    fn check_at_rest(&self) {
        let files = self.names.list(&FsPath::root(), true, None, usize::MAX).unwrap();
        let mut seen = BTreeMap::new();
        for entry in files.into_iter().filter(|entry| matches!(entry.detail, Detail::File { .. })) {
            let (_, located) = self.names.locate(&entry.path, 0..u64::MAX, &Near::default()).unwrap();
            let blocks: Vec<Block> = located.iter().map(|located| located.block).collect();
            // What readers get, whichever replica they take.
            for Located { block, holders, .. } in &located {
                if holders.len() != 3 {
                    self.fail(&format!("{} of {} has {} replicas", block.id, entry.path, holders.len()));
                }
                let contents = holders.iter().map(|name| {
                    let replica = self.at(*name).and_then(|at| self.executors[at].disk.get(&block.id));
                    replica.filter(|replica| replica.bytes == block.bytes && !replica.damaged).map(|r| r.content)
                });
                let contents: BTreeSet<Option<u128>> = contents.collect();
                if contents.len() != 1 || contents.contains(&None) {
                    self.fail(&format!("replicas of {} of {} differ: {contents:?}", block.id, entry.path));
                }
                seen.entry(entry.path.clone()).or_insert(contents.into_iter().next().flatten());
            }
            let is_promise = |promise: &Promise| {
                promise.blocks == blocks && (blocks.is_empty() || seen.get(&entry.path) == Some(&Some(promise.writer)))
            };
            let right = match (self.promised.get(&entry.path), self.unsure.get(&entry.path)) {
                (_, Some(either)) => either.iter().flatten().any(is_promise),
                (Some(promise), None) => is_promise(promise),
                (None, None) => false,
            };
            if !right {
                self.fail(&format!("{} is not what was promised, or was removed: {blocks:?}", entry.path));
            }
        }
        for path in self.promised.keys().filter(|path| !self.unsure.contains_key(path)) {
            if self.names.stat(path).is_err() {
                self.fail(&format!("{path} is gone"));
            }
        }
        // Nothing is left on disks that no file has.
        let wanted: BTreeSet<BlockId> = self.stored.records.values().flat_map(blocks_of).collect();
        for executor in &self.executors {
            if let Some(leak) = executor.disk.keys().find(|block| !wanted.contains(block)) {
                self.fail(&format!("{leak} is still on a disk"));
            }
        }
        let bound = 60 + 40 * STEPS as u64;
        if self.copies > bound {
            self.fail(&format!("{} copies were ordered", self.copies));
        }
    }

    fn fail(&self, what: &str) -> ! {
        let trace = self.trace.iter().rev().take(100).rev().cloned().collect::<Vec<_>>().join("\n");
        panic!("seed {}: {what}\n{trace}", self.seed);
    }
}

fn is_intact(executor: &Executor, block: &Block, writer: u128) -> bool {
    let replica = executor.disk.get(&block.id);
    replica.is_some_and(|replica| replica.bytes == block.bytes && replica.content == writer && !replica.damaged)
}

fn blocks_of(record: &Record) -> Vec<BlockId> {
    match &record.kind {
        Kind::File(file) => file.blocks.iter().map(|block| block.id).collect(),
        Kind::Folder(_) | Kind::Writing(_) => Vec::new(),
    }
}

fn run(seed: u64, defect: Defect) -> Vec<String> {
    let mut world = World::new(seed, defect);
    for _ in 0..STEPS {
        world.step();
    }
    world.settle();
    world.check_at_rest();
    world.trace
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let count = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(default);
    let first = std::env::var("FIRST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    first..first + count
}

#[test]
fn files_survive_whatever_fails() {
    for seed in seeds(400) {
        run(seed, Defect::None);
    }
}

#[test]
fn a_seed_is_always_the_same_run() {
    for seed in 1..10 {
        assert_eq!(run(seed, Defect::None), run(seed, Defect::None));
    }
}

#[test]
fn checkers_see_planted_bugs() {
    for defect in [Defect::ToldEarly, Defect::NoRepair, Defect::OrdersLost, Defect::NumbersAgain] {
        let caught = (1..200).any(|seed| std::panic::catch_unwind(|| run(seed, defect)).is_err());
        assert!(caught, "{defect:?} was not noticed");
    }
}
