//! A cluster with files on a seeded queue: executors with disks, writers, a primary that dies and is followed by the next one, or that does
//! not know that it is followed.
//!
//! What happens is a function of the seed. Messages of one executor come in order, late, and are lost with its stream; changes that were
//! not durable when the primary died are lost, and nobody was told of them. A write that breaks off may leave torn bytes of the right
//! length. The checkers look at disks and at what writers were told, never at what the namespace believes.

use super::tests::Stored;
use super::*;
use crate::ids::{BlockId, ExecutorId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

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
    /// Whoever cuts a block up says that all pieces are there when the first one is.
    CodedEarly,
    /// A piece is computed from fewer others than it takes.
    RebuiltFromTooFew,
    /// A replica that has become longer is thrown away.
    LongerIsGarbage,
    /// A request that is sent again is done again.
    DoneTwice,
    /// Executors say that their replicas are right, and have not read them.
    NotRead,
}

const EXECUTORS: u64 = 7;
const STEPS: usize = 400;
const CODING: Coding = Coding::Rs3Plus2;

/// A replica on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OnDisk {
    bytes: u64,
    content: Content,
    /// Which piece of that.
    piece: Option<(Coding, u8)>,
    damaged: bool,
    /// Its executor has seen that it is.
    found: bool,
}

/// What was written: by whom, and as which block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Content {
    writer: u128,
    block: BlockId,
    bytes: u64,
}

#[derive(Debug)]
struct Executor {
    /// What the primary calls it, while it is attached.
    name: Option<ExecutorId>,
    /// It is attached to a primary that does not lead any more.
    to_old: bool,
    up: bool,
    disk: BTreeMap<BlockId, OnDisk>,
    /// To the primary.
    said: VecDeque<Says>,
    /// From the primary.
    orders: VecDeque<Order>,
}

#[derive(Clone, Debug)]
enum Says {
    All(Vec<Block>),
    Added(Block),
    Bad(BlockId),
    Gone(BlockId),
    Verified(BlockId),
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
    mode: CreateMode,
}

/// A client that removes a file or moves it, and asks again until it hears that it is done.
#[derive(Clone, Debug)]
struct Removal {
    path: FsPath,
    to: Option<FsPath>,
    name: u128,
}

/// What a file has to have, as its writers were told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Promise(Vec<Content>);

struct World {
    seed: u64,
    defect: Defect,
    dice: Dice,
    now: Now,
    names: Namespace,
    /// A primary that was followed and has not noticed.
    old: Option<Namespace>,
    stored: Stored,
    executors: Vec<Executor>,
    next_name: u64,
    writes: Vec<Write>,
    next_writer: u128,
    removals: Vec<Removal>,
    /// What has become durable and was not removed since.
    promised: BTreeMap<FsPath, Promise>,
    copies: u64,
    rebuilt: u64,
    moved: u64,
    trace: Vec<String>,
}

impl World {
    fn new(seed: u64, defect: Defect) -> World {
        let executor = |_| Executor {
            name: None,
            to_old: false,
            up: true,
            disk: BTreeMap::new(),
            said: VecDeque::new(),
            orders: VecDeque::new(),
        };
        let (repair_after, code_after) = (Duration::from_secs(3), Duration::from_secs(8));
        let config = WfsConfig { seed, repair_after, code_after, ..WfsConfig::default() };
        World {
            seed,
            defect,
            dice: Dice(seed ^ 0x5eed),
            now: Now { at: Instant(1), wall_ms: 1 },
            names: Namespace::new(config),
            old: None,
            stored: Stored::default(),
            executors: (0..EXECUTORS).map(executor).collect(),
            next_name: 1,
            writes: Vec::new(),
            next_writer: 1,
            removals: Vec::new(),
            promised: BTreeMap::new(),
            copies: 0,
            rebuilt: 0,
            moved: 0,
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
        self.operate_at_risk(300, operation)
    }

    /// What a client asks for, without a name of its own.
    fn ask(&mut self, ask: Ask) -> Option<Result<Reply, FsError>> {
        self.operate(|names, now, out| names.step(now, Request { name: None, ask }, out))
    }

    /// The primary dies in one of so many.
    fn operate_at_risk<T>(
        &mut self,
        risk: u64,
        operation: impl FnOnce(&mut Namespace, Now, &mut Output) -> T,
    ) -> Option<T> {
        let mut out = Output::default();
        let result = operation(&mut self.names, self.now, &mut out);
        let dies = self.roll(risk) == 0;
        if dies {
            let lost = self.roll(2) == 0;
            self.note(format!("primary dies, last change lost: {lost}"));
            if !lost {
                self.stored.apply(out, self.names.counters());
            }
            self.restart();
            return if self.defect == Defect::ToldEarly { Some(result) } else { None };
        }
        let orders = self.stored.apply(out, self.names.counters());
        self.send(orders, false);
        Some(result)
    }

    /// The same for the primary that was followed: what it would make durable is refused, and it sees that its time is over.
    fn operate_old(&mut self, operation: impl FnOnce(&mut Namespace, Now, &mut Output)) {
        let mut out = Output::default();
        let Some(old) = &mut self.old else { return };
        operation(old, self.now, &mut out);
        match out.changes.is_empty() {
            true => self.send(out.orders, true),
            false => self.end_old(),
        }
    }

    fn end_old(&mut self) {
        self.note("the former primary stops".into());
        for at in 0..self.executors.len() {
            if self.executors[at].to_old {
                self.detach(at);
            }
        }
        self.old = None;
    }

    fn send(&mut self, orders: Vec<(ExecutorId, Order)>, by_old: bool) {
        let makes = |order: &Order| matches!(order, Order::Copy { .. } | Order::Rebuild { .. } | Order::Recode { .. });
        self.copies += orders.iter().filter(|(_, order)| makes(order)).count() as u64;
        for (name, order) in orders {
            let skipped = match self.defect {
                Defect::NoRepair => makes(&order),
                Defect::OrdersLost => !makes(&order),
                _ => false,
            };
            let mut executors = self.executors.iter_mut();
            let executor = executors.find(|executor| executor.name == Some(name) && executor.to_old == by_old);
            if let Some(executor) = executor.filter(|_| !skipped) {
                executor.orders.push_back(order);
            }
        }
    }

    fn restart(&mut self) {
        if self.defect == Defect::NumbersAgain {
            self.stored.counters.next_block = self.stored.counters.next_block.saturating_sub(2).max(1);
        }
        self.end_old();
        let next = self.stored.load(self.names.config().clone(), self.now);
        let before = std::mem::replace(&mut self.names, next);
        // Some of its executors have not heard of the new one either.
        let lives_on = self.roll(3) == 0;
        self.old = lives_on.then_some(before);
        for at in 0..self.executors.len() {
            match lives_on && self.roll(2) == 0 {
                true => self.executors[at].to_old = self.executors[at].name.is_some(),
                false => self.detach(at),
            }
        }
    }

    /// Its stream breaks: what was on the way is lost.
    fn detach(&mut self, at: usize) {
        let executor = &mut self.executors[at];
        executor.said.clear();
        executor.orders.clear();
        let by_old = std::mem::take(&mut executor.to_old);
        match executor.name.take() {
            Some(name) if by_old => self.operate_old(|names, now, out| names.hear(now, name, Said::Lost, out)),
            Some(name) => _ = self.operate(|names, now, out| names.hear(now, name, Said::Lost, out)),
            None => {}
        }
    }

    fn attach(&mut self, at: usize) {
        if self.executors[at].to_old && self.roll(4) == 0 {
            self.detach(at);
        }
        if self.executors[at].name.is_some() || !self.executors[at].up {
            return;
        }
        let name = ExecutorId(self.next_name);
        self.next_name += 1;
        let rack = if at < 3 { "near" } else { "far" };
        let joined = Said::Joined { host: format!("host {at}"), rack: rack.to_string(), away: None };
        self.names.hear(self.now, name, joined, &mut Output::default());
        let executor = &mut self.executors[at];
        executor.name = Some(name);
        let held = executor.disk.iter().filter(|(_, replica)| !replica.found);
        let held = held.map(|(id, replica)| Block { id: *id, bytes: replica.bytes });
        executor.said.push_back(Says::All(held.collect()));
        let found = executor.disk.iter().filter(|(_, replica)| replica.found).map(|(id, _)| Says::Bad(*id));
        executor.said.extend(found);
    }

    fn at(&self, name: ExecutorId) -> Option<usize> {
        self.executors.iter().position(|executor| executor.name == Some(name))
    }

    fn hear(&mut self, at: usize) {
        let (Some(name), Some(said)) = (self.executors[at].name, self.executors[at].said.pop_front()) else { return };
        self.note(format!("executor {at} said {said:?}"));
        let all = BlockId(0)..=BlockId(u64::MAX);
        let report = match said {
            Says::All(held) => Report { range: Some(all), held, ..Report::default() },
            Says::Added(block) => Report { held: vec![block], ..Report::default() },
            Says::Bad(block) => Report { bad: vec![block], ..Report::default() },
            Says::Gone(block) => Report { gone: vec![block], ..Report::default() },
            Says::Verified(block) => Report { verified: vec![block], ..Report::default() },
            Says::NotCopied(block) => Report { not_copied: vec![block], ..Report::default() },
        };
        let tell = move |names: &mut Namespace, now: Now, out: &mut Output| {
            names.hear(now, name, Said::Report(report), out);
        };
        match self.executors[at].to_old {
            true => self.operate_old(tell),
            false => _ = self.operate(tell),
        }
    }

    fn obey(&mut self, at: usize) {
        if !self.executors[at].up {
            return;
        }
        let Some(order) = self.executors[at].orders.pop_front() else { return };
        self.note(format!("executor {at} obeys {order:?}"));
        match order {
            Order::Delete(block) => self.delete(at, block),
            Order::Salvage { block, last } => self.salvage(at, block, last),
            Order::Verify(block) => self.verify(at, block),
            Order::Copy { block, from } => {
                let replica = from.iter().find_map(|name| self.read(*name, block.id, block.bytes));
                self.keep(at, block, replica);
            }
            Order::Rebuild(CodedPiece { coding, piece, first, piece_bytes: bytes, holders }) => {
                let others = holders.iter().filter_map(|Holder { executor, piece }| {
                    Some((*piece, self.read(*executor, replicas::replica(first, *piece), bytes)?))
                });
                let too_few = self.defect == Defect::RebuiltFromTooFew;
                let enough = usize::from(coding.data() - u8::from(too_few));
                let others: BTreeMap<u8, OnDisk> = others.take(enough).collect();
                let content = others.values().next().map(|replica| replica.content);
                let content = content.filter(|_| others.len() >= enough);
                // Of fewer something else comes out, and no checksum tells.
                let wrong = u128::from(others.len() < usize::from(coding.data())) << 64;
                let content = content.map(|content| Content { writer: content.writer | wrong, ..content });
                let piece_of = Some((coding, piece));
                let made = content.map(|content| OnDisk::new(bytes, content, piece_of, false));
                self.rebuilt += u64::from(made.is_some());
                self.keep(at, Block { id: replicas::replica(first, piece), bytes }, made);
            }
            Order::Recode { old, new, coding, targets } => self.cut_up(at, &old, new, coding, &targets),
        }
    }

    fn delete(&mut self, at: usize, block: BlockId) {
        let executor = &mut self.executors[at];
        if executor.disk.remove(&block).is_some() {
            executor.said.push_back(Says::Gone(block));
        }
    }

    /// What an executor reads from another one.
    fn read(&self, name: ExecutorId, replica: BlockId, bytes: u64) -> Option<OnDisk> {
        let source = self.executors.get(self.at(name)?)?;
        let found = source.disk.get(&replica).copied();
        found.filter(|replica| source.up && !replica.damaged && replica.bytes == bytes)
    }

    fn keep(&mut self, at: usize, block: Block, replica: Option<OnDisk>) {
        let executor = &mut self.executors[at];
        match replica {
            Some(replica) => {
                executor.disk.insert(block.id, replica);
                executor.said.push_back(Says::Added(block));
            }
            None => executor.said.push_back(Says::NotCopied(block.id)),
        }
    }

    fn cut_up(&mut self, at: usize, old: &[Located], new: Block, coding: Option<Coding>, targets: &[ExecutorId]) {
        let Located { block, holders, coded, .. } = &old[0];
        let (read, enough): (BTreeMap<u8, OnDisk>, u8) = match coded {
            None => {
                let whole = holders.iter().find_map(|name| self.read(*name, block.id, block.bytes));
                (whole.map(|replica| (0, replica)).into_iter().collect(), 1)
            }
            Some(CodedPiece { coding, first, piece_bytes, holders, .. }) => {
                let pieces = holders.iter().filter_map(|Holder { executor, piece }| {
                    Some((*piece, self.read(*executor, replicas::replica(*first, *piece), *piece_bytes)?))
                });
                (pieces.collect(), coding.data())
            }
        };
        let content = read.values().next().map(|replica| replica.content);
        let Some(content) = content.filter(|_| read.len() >= usize::from(enough)) else {
            return self.executors[at].said.push_back(Says::NotCopied(new.id));
        };
        let breaks_off = if self.roll(5) == 0 { self.roll(targets.len() as u64) as usize } else { targets.len() };
        let mut failed = breaks_off < targets.len();
        for (place, name) in targets.iter().enumerate().take(breaks_off) {
            let Some(target) = self.at(*name).filter(|at| self.executors[*at].up) else {
                failed = true;
                continue;
            };
            let piece = coding.map(|coding| (coding, place as u8));
            let block = Block {
                id: replicas::replica(new.id, piece.map_or(0, |(_, piece)| piece)),
                bytes: coding.map_or(new.bytes, |coding| coding.piece_bytes(new.bytes)),
            };
            let lied = self.defect == Defect::CodedEarly && place > 0;
            let replica = OnDisk::new(block.bytes, content, piece, lied);
            self.keep(target, block, Some(replica));
        }
        if failed {
            self.executors[at].said.push_back(Says::NotCopied(new.id));
        }
    }

    /// An executor reads a replica of its own.
    fn look(&mut self, at: usize, block: BlockId) {
        let executor = &mut self.executors[at];
        if let Some(replica) = executor.disk.get_mut(&block).filter(|replica| replica.damaged && !replica.found) {
            replica.found = true;
            executor.said.push_back(Says::Bad(block));
        }
    }

    /// The same, as it was told.
    fn verify(&mut self, at: usize, block: BlockId) {
        let not_read = self.defect == Defect::NotRead;
        let executor = &mut self.executors[at];
        match executor.disk.get(&block) {
            None => executor.said.push_back(Says::Gone(block)),
            Some(replica) if replica.found => executor.said.push_back(Says::Bad(block)),
            Some(replica) if replica.damaged && !not_read => self.look(at, block),
            Some(_) => executor.said.push_back(Says::Verified(block)),
        }
    }

    /// Makes a replica as long as it is to be, if its first bytes are right.
    fn salvage(&mut self, at: usize, block: Block, last: bool) {
        let garbage = self.defect == Defect::LongerIsGarbage;
        let Some(replica) = self.executors[at].disk.get_mut(&block.id) else { return };
        let fits = !replica.damaged && replica.bytes >= block.bytes && !(garbage && replica.bytes > block.bytes);
        if fits {
            replica.bytes = block.bytes;
            if replica.piece.is_none() {
                replica.content.bytes = replica.content.bytes.min(block.bytes);
            }
            self.executors[at].said.push_back(Says::Added(block));
        } else if !last || garbage {
            self.delete(at, block.id);
        } else if !std::mem::replace(&mut replica.found, true) {
            self.executors[at].said.push_back(Says::Bad(block.id));
        }
    }

    // ---- writers

    fn begin_write(&mut self) {
        let path = FsPath::parse(&format!("/{}/{}", self.roll(3), self.roll(6))).unwrap();
        // One writer of a path at a time, so that what it has to have is clear.
        if self.writes.iter().any(|write| write.path == path) {
            return;
        }
        let writer = self.next_writer;
        self.next_writer += 1;
        let (left, appends) = (self.roll(4), self.roll(4) == 0);
        let there = self.names.stat(&path).ok().filter(|_| appends);
        let mode = there.map_or(CreateMode::Overwrite, |entry| CreateMode::Append(entry.id));
        let (blocks, last) = (Vec::new(), Last::Nothing);
        self.writes.push(Write { path, writer, file: None, blocks, last, left, mode });
    }

    fn go_on(&mut self, at: usize) {
        let mut write = self.writes.swap_remove(at);
        let (writer, path) = (write.writer, write.path.clone());
        let Some(file) = write.file else {
            let mode = write.mode;
            let create = Create { path, mode, replication: Some(3), block_bytes: None, writer };
            match self.ask(Ask::Create(create)) {
                Some(Ok(Reply::Created(created))) => write.file = Some(created.file),
                Some(Ok(other)) => self.fail(&format!("whoever creates a file is answered {other:?}")),
                Some(Err(_)) => return,
                // Asked again.
                None => {}
            }
            return self.writes.push(write);
        };
        if write.left > 0 {
            let (index, last) = (write.blocks.len(), write.last.clone());
            let add = AddBlock { file, index, last, near: Near::default(), excluded: BTreeSet::new() };
            match self.ask(Ask::AddBlock(add)) {
                Some(Ok(Reply::Allocated(allocated))) => self.write_block(&mut write, allocated),
                Some(Ok(other)) => self.fail(&format!("whoever adds a block is answered {other:?}")),
                Some(Err(FsError::NoTargets { .. })) | None => {}
                Some(Err(_)) => return,
            }
            return self.writes.push(write);
        }
        let last = write.last.clone();
        let before = self.has_happened(writer);
        let completed = self.ask(Ask::Complete { file, writer, last });
        if !before && (self.has_happened(writer) || matches!(completed, Some(Ok(_)))) {
            self.note(format!("{path} is {:?} of writer {writer}", write.blocks));
            let before = self.promised.remove(&path).filter(|_| matches!(write.mode, CreateMode::Append(_)));
            let all = before.unwrap_or_default().0.into_iter().chain(contents(writer, &write.blocks));
            self.promised.insert(path, Promise(all.collect()));
        }
        match completed {
            Some(Ok(_)) => {}
            Some(Err(error)) if before => self.fail(&format!("a file that was complete is not: {error}")),
            // It asks again.
            Some(Err(FsError::NotDurable { .. })) | None => self.writes.push(write),
            Some(Err(_)) => {}
        }
    }

    /// Whether what was asked for under this name is durable, whoever was told of it.
    fn has_happened(&self, name: u128) -> bool {
        self.stored.outcomes.iter().any(|outcome| outcome.name == name)
    }

    /// The bytes go to the executors; some of them may die on the way.
    fn write_block(&mut self, write: &mut Write, allocated: Allocated) {
        // Some files are large enough to be cut up.
        let length = (100 + self.roll(1_000)) << 12;
        let fails = self.roll(6) == 0;
        let kept = if fails { self.roll(length) } else { length };
        let mut durable = Vec::new();
        for (link, name) in allocated.targets.iter().enumerate() {
            let Some(at) = self.at(*name).filter(|at| self.executors[*at].up) else { continue };
            let lost = fails && link == 0;
            // Whoever loses its writer may have more than the others, and say so; or as much, but torn.
            let torn = lost && self.roll(3) == 0;
            let bytes = if lost && !torn { length } else { kept };
            if bytes == 0 || (lost && self.roll(2) == 0) {
                continue;
            }
            let content = Content { writer: write.writer, block: allocated.block, bytes };
            let replica = OnDisk::new(bytes, content, None, torn);
            let executor = &mut self.executors[at];
            executor.disk.insert(allocated.block, replica);
            executor.said.push_back(Says::Added(Block { id: allocated.block, bytes }));
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
        let moves = self.roll(3) == 0;
        let to = FsPath::parse(&format!("/{}/{}", self.roll(3), self.roll(6))).unwrap();
        let to = moves.then_some(to).filter(|to| *to != path);
        if self.writes.iter().any(|write| write.path == path || Some(&write.path) == to.as_ref()) {
            return;
        }
        let name = (1 << 64) + self.next_writer;
        self.next_writer += 1;
        self.removals.push(Removal { path, to, name });
        self.go_on_removing(self.removals.len() - 1);
    }

    fn go_on_removing(&mut self, at: usize) {
        let Removal { path, to, name } = self.removals.swap_remove(at);
        let before = self.has_happened(name);
        let defect = self.defect;
        // Mostly nothing comes of it: what is removed once more has to be seen nonetheless.
        let removed = self.operate_at_risk(30, |names, now, out| {
            let name = (defect != Defect::DoneTwice || !before).then_some(name);
            let ask = match to.clone() {
                Some(to) => Ask::Rename { from: path.clone(), to, overwrite: false, parents: true, prune: false },
                None => Ask::Delete { path: path.clone(), recursive: false, trash: false, prune: false },
            };
            names.step(now, Request { name, ask }, out)
        });
        self.note(format!("{path} is removed, to {to:?}: {removed:?}, and was before: {before}"));
        if !before && (self.has_happened(name) || matches!(removed, Some(Ok(_)))) {
            let promise = self.promised.remove(&path);
            if let Some((to, promise)) = to.clone().zip(promise) {
                self.moved += 1;
                self.promised.insert(to, promise);
            }
        }
        match removed {
            Some(Err(error)) if before => self.fail(&format!("{path} was removed, and that is said to fail: {error}")),
            Some(_) => {}
            None => self.removals.push(Removal { path, to, name }),
        }
    }

    // ---- faults

    /// A folder wants its files kept in another way.
    fn ask_for_policy(&mut self) {
        let path = FsPath::parse(&format!("/{}", self.roll(3))).unwrap();
        let policy = [None, Some(Policy::Replicate), Some(Policy::Code(CODING)), Some(Policy::Code(CODING))];
        let policy = policy[self.roll(4) as usize];
        let set = self.ask(Ask::SetPolicy { path: path.clone(), policy }).map(|set| set.is_ok());
        self.note(format!("{path} is to be kept as {policy:?}: {set:?}"));
    }

    /// A file is to have more replicas, or fewer.
    fn set_replication(&mut self) {
        let path = FsPath::parse(&format!("/{}/{}", self.roll(3), self.roll(6))).unwrap();
        let replication = 1 + self.roll(3) as u8;
        let set = self.ask(Ask::SetReplication { path: path.clone(), replication }).map(|set| set.is_ok());
        self.note(format!("{path} is to have {replication} replicas: {set:?}"));
    }

    /// Whether what was written can be had from these executors.
    fn is_on<'a>(&self, content: Content, executors: impl Iterator<Item = &'a Executor>) -> bool {
        let mut pieces: BTreeMap<(BlockId, Coding), BTreeSet<u8>> = BTreeMap::new();
        for (id, replica) in executors.flat_map(|executor| executor.disk.iter()) {
            match replica.piece {
                _ if replica.damaged || replica.content != content => {}
                None => return true,
                Some((coding, piece)) => {
                    let first = BlockId(id.0 - u64::from(piece));
                    pieces.entry((first, coding)).or_default().insert(piece);
                }
            }
        }
        pieces.iter().any(|((_, coding), pieces)| pieces.len() >= usize::from(coding.data()))
    }

    /// Whether all that was promised can be had without an executor, from replicas that others have, that files have, and that nobody was
    /// told to remove.
    fn can_spare(&self, at: usize) -> bool {
        let wanted: BTreeSet<BlockId> = self.stored.records.values().flat_map(replicas_of).collect();
        let going = |executor: &Executor, id: &BlockId| {
            executor.orders.iter().any(|order| matches!(order, Order::Delete(gone) if gone == id))
        };
        let others = self.executors.iter().enumerate().filter(|(other, _)| *other != at);
        let others = others.map(|(_, executor)| {
            let stays = |(id, _): &(&BlockId, &OnDisk)| wanted.contains(id) && !going(executor, id);
            let disk = executor.disk.iter().filter(stays).map(|(id, replica)| (*id, *replica)).collect();
            let (said, orders) = Default::default();
            Executor { name: None, to_old: false, up: true, disk, said, orders }
        });
        let others: Vec<Executor> = others.collect();
        let promised = self.promised.values().flat_map(|promise| promise.0.iter().copied());
        let open = self.writes.iter().flat_map(|write| contents(write.writer, &write.blocks));
        promised.chain(open).all(|content| self.is_on(content, others.iter()))
    }

    /// Whether others may be about to go because this replica was read.
    fn is_relied_on(&self, replica: BlockId) -> bool {
        let relies = |names: &Namespace| {
            names.replicas.block_of(replica).is_some_and(|(block, _)| names.upkeep.vouching.is_relied_on(block))
        };
        relies(&self.names) || self.old.as_ref().is_some_and(relies)
    }

    fn fault(&mut self) {
        let at = self.roll(EXECUTORS) as usize;
        match self.roll(12) {
            0..=3 => self.detach(at),
            4..=6 => self.go_down(at),
            // No replica is lost by that, however many there are of it.
            10 => {
                self.note(format!("replicas of executor {at} become longer"));
                let more = 1 + self.roll(100);
                self.executors[at].disk.values_mut().for_each(|replica| replica.bytes += more);
                self.go_down(at);
            }
            11 if self.can_spare(at) => {
                self.note(format!("replicas of executor {at} become shorter"));
                let left = self.roll(2);
                for replica in self.executors[at].disk.values_mut() {
                    (replica.bytes, replica.damaged) = (replica.bytes / 2 * left, true);
                }
                self.go_down(at);
            }
            7 if self.can_spare(at) => {
                self.note(format!("the disk of executor {at} is lost"));
                self.executors[at].disk.clear();
                self.detach(at);
            }
            8 if self.can_spare(at) => {
                let count = self.executors[at].disk.len() as u64;
                let which = self.roll(count.max(1)) as usize;
                let which = self.executors[at].disk.keys().nth(which).copied();
                if let Some(which) = which.filter(|which| !self.is_relied_on(*which)) {
                    self.note(format!("{which} on executor {at} is damaged"));
                    self.executors[at].disk.entry(which).and_modify(|replica| replica.damaged = true);
                }
            }
            _ => {
                self.note("primary dies".into());
                self.restart();
            }
        }
    }

    /// What its process knew of its replicas is forgotten.
    fn go_down(&mut self, at: usize) {
        self.note(format!("executor {at} goes down"));
        self.executors[at].up = false;
        self.executors[at].disk.values_mut().for_each(|replica| replica.found = false);
        self.detach(at);
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
            12 => match self.roll(3) {
                0 => self.ask_for_policy(),
                1 if !self.removals.is_empty() => self.go_on_removing(0),
                _ => self.remove(),
            },
            13 => self.fault(),
            15 => self.set_replication(),
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
        if self.old.as_ref().and_then(Namespace::next_deadline).is_some_and(|due| due <= self.now.at) {
            self.operate_old(|names, now, out| names.tick(now, out));
        }
        self.check_always();
    }

    /// Everything comes back, and the world rests.
    fn settle(&mut self) {
        self.end_old();
        for round in 0..2_000 {
            self.now.at = self.now.at + Duration::from_millis(500);
            self.now.wall_ms = self.now.at.0 / 1_000;
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
            if !self.removals.is_empty() {
                self.go_on_removing(0);
            }
            if self.names.next_deadline().is_some_and(|due| due <= self.now.at) {
                let _ = self.operate(|names, now, out| names.tick(now, out));
            }
            let idle = self.executors.iter().all(|e| e.name.is_some() && e.said.is_empty() && e.orders.is_empty());
            let health = self.names.health();
            let well = health.under_replicated + health.missing + health.copying + health.surplus == 0
                && health.recoding + health.to_recode == 0;
            // Longer than leases, and than executors are waited for.
            let writing = self.stored.records.values().any(|record| matches!(record.kind, Kind::Writing(_)));
            let told = self.writes.is_empty() && self.removals.is_empty() && !writing;
            if round > 700 && idle && well && told && !health.settling {
                return;
            }
        }
        self.fail("the cluster does not come to rest");
    }

    // ---- checkers

    /// What was promised is on some disk.
    fn check_always(&self) {
        for (path, promise) in &self.promised {
            for &content in &promise.0 {
                if !self.is_on(content, self.executors.iter()) {
                    self.fail(&format!("{content:?} of {path} is on no disk any more"));
                }
            }
        }
    }

    fn check_at_rest(&self) {
        let files = self.names.list(&FsPath::root(), true, None, usize::MAX).unwrap();
        for entry in files {
            let Detail::File { bytes, coding, .. } = entry.detail else { continue };
            let folder = self.names.stat(&entry.path.parent().unwrap()).unwrap();
            let Detail::Folder { policy, .. } = folder.detail else { continue };
            let wanted = policy.and_then(Policy::coding).filter(|_| bytes >= CODED_FROM_BYTES);
            if coding != wanted {
                self.fail(&format!("{} is kept as {coding:?} and not as {wanted:?}", entry.path));
            }
            let found = self.readable_contents(&entry.path);
            let is_promise = |promise: &Promise| promise.0 == found;
            if !self.promised.get(&entry.path).is_some_and(is_promise) {
                self.fail(&format!("{} is not what was promised, or was removed: {found:?}", entry.path));
            }
        }
        for path in self.promised.keys() {
            if self.names.stat(path).is_err() {
                self.fail(&format!("{path} is gone"));
            }
        }
        // Nothing is left on disks that no file has.
        let wanted: BTreeSet<BlockId> = self.stored.records.values().flat_map(replicas_of).collect();
        for executor in &self.executors {
            if let Some(leak) = executor.disk.keys().find(|block| !wanted.contains(block)) {
                self.fail(&format!("{leak} is still on a disk"));
            }
            if let Some((damaged, _)) = executor.disk.iter().find(|(_, replica)| replica.damaged) {
                self.fail(&format!("a damaged replica of {damaged} is still on a disk"));
            }
        }
        let bound = 60 + 40 * STEPS as u64;
        if self.copies > bound {
            self.fail(&format!("{} copies were ordered", self.copies));
        }
    }

    /// What readers get of a file, whichever replica they take, block by block. All replicas are there.
    fn readable_contents(&self, path: &FsPath) -> Vec<Content> {
        let Detail::File { replication, .. } = self.names.stat(path).unwrap().detail else { return Vec::new() };
        let (_, located) = self.names.locate(path, 0..u64::MAX, &Near::default()).unwrap();
        let mut contents: Vec<Content> = Vec::new();
        for Located { block, holders, coded, .. } in &located {
            let (first, replicas, wanted) = match coded {
                None => {
                    let whole = holders.iter().map(|name| (*name, block.id, block.bytes, None));
                    (block.id, whole.collect::<Vec<_>>(), usize::from(replication))
                }
                Some(coded) => {
                    let all = coded.holders.iter().map(|Holder { executor, piece }| {
                        let piece_of = Some((coded.coding, *piece));
                        (*executor, replicas::replica(coded.first, *piece), coded.piece_bytes, piece_of)
                    });
                    (coded.first, all.collect(), usize::from(coded.coding.pieces()))
                }
            };
            let executors: BTreeSet<ExecutorId> = replicas.iter().map(|(name, ..)| *name).collect();
            let pieces: BTreeSet<Option<u8>> =
                replicas.iter().map(|(.., piece)| piece.map(|(_, piece)| piece)).collect();
            if executors.len() != wanted || (coded.is_some() && pieces.len() != wanted) {
                self.fail(&format!("{first} of {path} has replicas {replicas:?}"));
            }
            let found = replicas.iter().map(|(name, id, bytes, piece)| {
                let replica = self.at(*name).and_then(|at| self.executors[at].disk.get(id));
                let intact = |r: &&OnDisk| r.bytes == *bytes && r.piece == *piece && !r.damaged;
                replica.filter(intact).map(|replica| replica.content)
            });
            let found: BTreeSet<Option<Content>> = found.collect();
            match found.first() {
                Some(Some(content)) if found.len() == 1 => {
                    if coded.as_ref().is_none_or(|coded| coded.piece == 0) {
                        contents.push(*content);
                    }
                }
                _ => self.fail(&format!("replicas of {first} of {path} differ: {found:?}")),
            }
        }
        contents
    }

    fn fail(&self, what: &str) -> ! {
        let trace = self.trace.iter().rev().take(100).rev().cloned().collect::<Vec<_>>().join("\n");
        panic!("seed {}: {what}\n{trace}", self.seed);
    }
}

impl OnDisk {
    fn new(bytes: u64, content: Content, piece: Option<(Coding, u8)>, damaged: bool) -> OnDisk {
        OnDisk { bytes, content, piece, damaged, found: false }
    }
}

fn contents(writer: u128, blocks: &[Block]) -> impl Iterator<Item = Content> {
    blocks.iter().map(move |block| Content { writer, block: block.id, bytes: block.bytes })
}

fn replicas_of(record: &Record) -> Vec<BlockId> {
    match &record.kind {
        Kind::File(file) => {
            let pieces = file.coding.map_or(1, Coding::pieces);
            let all = |block: &Block| (0..pieces).map(|piece| replicas::replica(block.id, piece)).collect::<Vec<_>>();
            file.blocks.iter().flat_map(all).collect()
        }
        Kind::Writing(file) => file.sealed.iter().map(|block| block.id).chain(file.open).collect(),
        Kind::Folder(_) => Vec::new(),
    }
}

fn run(seed: u64, defect: Defect) -> World {
    let mut world = World::new(seed, defect);
    for _ in 0..STEPS {
        world.step();
    }
    world.settle();
    world.check_at_rest();
    world
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let count = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(default);
    let first = std::env::var("FIRST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    first..first + count
}

#[test]
fn files_survive_whatever_fails() {
    let (mut rebuilt, mut coded, mut moved) = (0, 0, 0);
    for seed in seeds(400) {
        let world = run(seed, Defect::None);
        rebuilt += world.rebuilt;
        moved += world.moved;
        let is_coded = |record: &&Record| matches!(&record.kind, Kind::File(file) if file.coding.is_some());
        coded += world.stored.records.values().filter(is_coded).count();
    }
    // It would prove nothing about them otherwise.
    let seen = format!("{rebuilt} pieces were rebuilt, {coded} files cut up, {moved} moved");
    assert!(rebuilt > 100 && coded > 100 && moved > 100, "{seen}");
}

#[test]
fn a_seed_is_always_the_same_run() {
    for seed in 1..10 {
        assert_eq!(run(seed, Defect::None).trace, run(seed, Defect::None).trace);
    }
}

#[test]
fn checkers_see_planted_bugs() {
    let shells = [Defect::ToldEarly, Defect::NoRepair, Defect::OrdersLost, Defect::NumbersAgain];
    let disks = [Defect::CodedEarly, Defect::RebuiltFromTooFew, Defect::LongerIsGarbage];
    for defect in shells.into_iter().chain(disks).chain([Defect::DoneTwice, Defect::NotRead]) {
        let caught = (1..400).any(|seed| std::panic::catch_unwind(|| run(seed, defect)).is_err());
        assert!(caught, "{defect:?} was not noticed");
    }
}
