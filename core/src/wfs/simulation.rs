//! A cluster with files on a seeded queue: executors with disks, writers, a primary that dies and is followed by the next one, or that does
//! not know that it is followed.
//!
//! What happens is a function of the seed. Messages of one executor come in order, late, and are lost with its stream; changes that were
//! not durable when the primary died are lost, and nobody was told of them. A write that breaks off may leave torn bytes of the right
//! length. The checkers look at disks and at what writers were told, never at what the namespace believes.

mod checkers;
mod clients;
mod executors;
mod primary;

use super::tests::Stored;
use super::*;
use crate::ids::{BlockId, ExecutorId};
use crate::simulation::{Simulation, defects_are_noticed, holds, repeats, situations_occur};
use checkers::{contents, replicas_of};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Known bugs, to see that the checkers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    /// Writers are told before the change is durable.
    ToldEarly,
    /// Lost replicas are not made again.
    NoRepair,
    /// Orders to remove replicas, and to read them, do not arrive.
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
    /// What a folder may hold is not stored.
    QuotaForgotten,
    /// The clock by which people know the time stands still.
    ClockStands,
    /// A writer hears that its lease goes on, and nobody notes it.
    RenewedInVain,
    /// What is said of a replica that is going counts, and what was read before that was asked for.
    GoingCounts,
}

const EXECUTORS: u64 = 7;
/// In the end the primary does not die any more from this round on: what does not go on by itself is seen.
const QUIET_FROM: u32 = 350;
const STEPS: u32 = 400;
/// Of one executor.
const DISK_BYTES: u64 = 1 << 30;
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
    Verified(BlockId, u64),
    NotCopied(BlockId),
    Space { used: u64 },
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
    /// Until when it was told that it has the lease.
    held_until: Option<Instant>,
}

/// What a client wants to happen once, and asks for until it hears that it has.
#[derive(Clone, Debug)]
struct Errand {
    ask: Ask,
    name: u128,
}

/// What a file has to have, as its writers were told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Promise(Vec<Content>);

/// A file in the trash.
#[derive(Clone, Debug)]
struct Trashed {
    since_ms: u64,
    promise: Promise,
}

/// What a folder holds: of each entry the bytes of all replicas.
#[derive(Debug)]
struct Held {
    of: BTreeMap<FileId, u64>,
}

struct World {
    seed: u64,
    defect: Option<Defect>,
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
    /// The writers of all blocks that were ever written.
    given: BTreeMap<BlockId, u128>,
    errands: Vec<Errand>,
    /// What has become durable and was not removed since.
    promised: BTreeMap<FsPath, Promise>,
    trashed: BTreeMap<FsPath, Trashed>,
    /// Folders that were made, and nothing is put into.
    folders: BTreeSet<FsPath>,
    quotas: BTreeMap<FsPath, Quota>,
    /// What folders with quotas held the last time that was looked.
    held: BTreeMap<FsPath, Held>,
    copies: u64,
    is_quiet: bool,
    /// How many executors are heard in a step, and obey: what is on the way is more or less, and crosses more or less.
    pace: (u64, u64),
    seen: BTreeMap<&'static str, u64>,
    trace: Vec<String>,
}

impl World {
    fn new(seed: u64, defect: Option<Defect>) -> World {
        let executor = |_| Executor {
            name: None,
            to_old: false,
            up: true,
            disk: BTreeMap::new(),
            said: VecDeque::new(),
            orders: VecDeque::new(),
        };
        let (repair_after, code_after) = (Duration::from_secs(3), Duration::from_secs(8));
        let (lease, trash) = (Duration::from_secs(20), Duration::from_secs(70));
        let config = WfsConfig { seed, repair_after, code_after, lease, trash, ..WfsConfig::default() };
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
            given: BTreeMap::new(),
            errands: Vec::new(),
            promised: BTreeMap::new(),
            trashed: BTreeMap::new(),
            folders: BTreeSet::new(),
            quotas: BTreeMap::new(),
            held: BTreeMap::new(),
            copies: 0,
            is_quiet: false,
            pace: (1 + seed % 4, 1 + seed / 4 % 4),
            seen: BTreeMap::new(),
            trace: Vec::new(),
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice.roll() % sides
    }

    fn see_without_room(&mut self) {
        (0..self.without_room()).for_each(|_| self.see("kept as it is for want of room"));
    }

    fn note(&mut self, what: String) {
        self.trace.push(format!("{} {what}", self.now.at));
    }

    fn see(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
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
        match self.roll(24) {
            0..=3 => self.begin_write(),
            4..=11 if !self.writes.is_empty() => {
                let at = self.roll(self.writes.len() as u64) as usize;
                self.go_on(at);
            }
            12 => self.ask_for_policy(),
            13 => self.fault(),
            15 => self.set_replication(),
            16..=18 => match self.roll(3) {
                0 if !self.errands.is_empty() => self.go_on_with_errand(0),
                _ => self.begin_errand(),
            },
            19 if !self.writes.is_empty() => {
                let at = self.roll(self.writes.len() as u64) as usize;
                self.hold_or_give_up(at);
            }
            20 => self.run_the_cluster(),
            14 => {
                let at = self.roll(EXECUTORS) as usize;
                let block = self.executors[at].disk.keys().next().copied();
                block.inspect(|block| self.look(at, *block));
            }
            _ => {}
        }
        let (heard, obeyed) = self.pace;
        for round in 0..heard.max(obeyed) {
            let at = self.roll(EXECUTORS) as usize;
            if round < heard {
                self.hear(at);
            }
            if round < obeyed {
                self.obey(at);
            }
        }
        let at = self.roll(4 * EXECUTORS) as usize;
        if self.executors.get(at).is_some_and(|executor| executor.name.is_some()) {
            self.measure(at);
        }
        self.tick();
        self.check_always();
    }

    /// Everything comes back, and the world rests.
    fn settle(&mut self) {
        self.end_old();
        self.see_without_room();
        for round in 0..2_000 {
            self.is_quiet = round > QUIET_FROM;
            self.now.at = self.now.at + Duration::from_millis(500);
            self.now.wall_ms = self.now.at.0 / 1_000;
            for at in 0..self.executors.len() {
                self.executors[at].up = true;
                self.attach(at);
                let damaged = |(id, replica): (&BlockId, &OnDisk)| replica.damaged.then_some(*id);
                let damaged: Vec<BlockId> = self.executors[at].disk.iter().filter_map(damaged).collect();
                damaged.into_iter().for_each(|block| self.look(at, block));
                self.measure(at);
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
            if !self.errands.is_empty() {
                self.go_on_with_errand(0);
            }
            self.tick();
            self.check_always();
            let idle = self.executors.iter().all(|e| e.name.is_some() && e.said.is_empty() && e.orders.is_empty());
            let health = self.names.health();
            let well =
                health.under_replicated + health.missing + health.copying + health.surplus == 0 && health.recoding == 0;
            // Counted when there is nothing else to wait for.
            let recoded = || health.to_recode == 0 || health.to_recode <= self.without_room();
            // Longer than leases, and than executors are waited for.
            let writing = self.stored.records.values().any(|record| matches!(record.kind, Kind::Writing(_)));
            let told = self.writes.is_empty() && self.errands.is_empty() && self.trashed.is_empty() && !writing;
            if round > 2 * QUIET_FROM && idle && well && told && !health.settling && recoded() {
                self.see_without_room();
                return;
            }
        }
        let (health, troubled) = (self.names.health(), self.names.troubled(&FsPath::root(), 5));
        let waiting = (&self.writes, &self.errands, &self.trashed);
        let what = match () {
            () if health.under_replicated + health.missing > 0 => "replicas are missing",
            () if health.surplus > 0 => "replicas are too many",
            () if health.recoding > 0 => "files are still made anew",
            () => "it goes on",
        };
        self.fail(&format!("the cluster does not come to rest, {what}: {waiting:?}, {troubled:?}, {health:?}"));
    }
}

impl OnDisk {
    fn new(bytes: u64, content: Content, piece: Option<(Coding, u8)>, damaged: bool) -> OnDisk {
        OnDisk { bytes, content, piece, damaged, found: false }
    }
}

impl Simulation for World {
    type Defect = Defect;
    const STEPS: u32 = STEPS;
    const RUNS: u32 = 400;

    fn run(seed: u64, steps: u32, defect: Option<Defect>) -> Result<Self, String> {
        let run = || {
            let mut world = World::new(seed, defect);
            (0..steps).for_each(|_| world.step());
            world.settle();
            world.check_at_rest();
            let cut_up = |record: &&Record| matches!(&record.kind, Kind::File(file) if file.coding.is_some());
            let cut_up = world.stored.records.values().filter(cut_up).count();
            (0..cut_up).for_each(|_| world.see("file cut up"));
            world
        };
        // Whichever checker sees something says so by a panic, or the namespace itself does.
        std::panic::catch_unwind(run).map_err(|panic| match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => panic.downcast_ref::<&str>().map_or("a panic without words".into(), |text| text.to_string()),
        })
    }

    fn seen(&self) -> &BTreeMap<&'static str, u64> {
        &self.seen
    }
}

#[test]
fn files_survive_whatever_fails() {
    holds::<World>();
}

#[test]
fn a_seed_is_always_the_same_run() {
    repeats(|world: World| world.trace);
}

#[test]
fn every_situation_occurs() {
    situations_occur::<World>(&[
        "abandoned",
        "answer lost",
        "balanced",
        "change beyond a quota",
        "change lost",
        "file cut up",
        "folder made",
        "folder removed",
        "kept as it is for want of room",
        "former primary refused",
        "lease over",
        "maintained",
        "moved",
        "piece rebuilt",
        "purged",
        "quota set",
        "read again",
        "renewed",
        "restored",
        "silent writer",
        "trashed",
        "write beyond a quota",
    ]);
}

/// Each defect, and words of the complaint about it.
const DEFECTS: &[(Defect, &str)] = &[
    (Defect::ToldEarly, "which is not durable"),
    (Defect::NoRepair, "replicas are missing"),
    (Defect::OrdersLost, "is still on a disk"),
    (Defect::NumbersAgain, "and again to writer"),
    (Defect::CodedEarly, "files are still made anew"),
    (Defect::RebuiltFromTooFew, "differ"),
    (Defect::LongerIsGarbage, "on no disk any more"),
    (Defect::DoneTwice, "is said to fail"),
    (Defect::NotRead, "on no disk any more"),
    (Defect::QuotaForgotten, "and may hold"),
    (Defect::ClockStands, "stays in the trash"),
    (Defect::RenewedInVain, "ended before its time"),
    (Defect::GoingCounts, "on no disk any more"),
];

#[test]
fn checkers_see_planted_bugs() {
    defects_are_noticed::<World>(DEFECTS);
}
