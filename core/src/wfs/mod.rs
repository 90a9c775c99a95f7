//! `wfs://`: the namespace of files, their blocks, and who holds replicas. A pure machine, as the scheduler is.
//!
//! ```text
//! file      Writing ──complete──> in the tree ──removed, replaced──> (gone, its blocks with it)
//!              └──abandoned, lease over──> (gone)
//!
//! block     open ──sealed with its length──> sealed; the next one is opened
//!              └──nothing of it was kept──> (gone)
//! ```
//!
//! Invariants:
//! - A file is seen when all of it is durable, whole and at once; until then what was at its path stays.
//! - What an operation changed is in its `Output`, to be durable before anybody hears of it. Orders to executors go out after that.
//! - An id of a file or block is never given twice: executors' replicas of a block that nobody knows are garbage for certain.
//! - A block that fails under its writer is closed where all surviving replicas have it, and the writer goes on in the next one.
//!
//! | story | modules |
//! | --- | --- |
//! | what is asked, answered and ordered | `request` is what clients and executors say, `order` what the shell is to do, `outcome` is about requests that are sent twice, `error` says why not |
//! | names | `path`; `tree` has files and folders, `look` finds them, `names` makes, moves and removes them, `terms` sets replicas and quotas |
//! | leases | `write` makes files, `leases` has their writers |
//! | what is removed | `trash` keeps it for a while, `graves` removes it, `departed` is about files that are gone and still read |
//! | replicas | `replicas` has blocks and their holders, `place` says where replicas go, `repair` keeps their number right, `damage` is about replicas that are not what was written, `vouch` about replicas that are read before others are removed, `going` about those that were ordered to go |
//! | codes | `coding` is about blocks that are cut into pieces, `recode` makes them so |
//! | what is durable | `record` |
//! | timers | `timers` does what is due; `config` says after which times |

mod coding;
mod config;
mod damage;
mod departed;
mod error;
mod going;
mod graves;
mod leases;
mod look;
mod names;
mod order;
mod outcome;
mod path;
mod place;
mod recode;
mod record;
mod repair;
mod replicas;
mod request;
#[cfg(test)]
mod simulation;
mod terms;
#[cfg(test)]
mod tests;
mod timers;
mod trash;
mod tree;
mod vouch;
mod write;

pub use coding::{CODED_FROM_BYTES, CODED_TOGETHER, Coding, Policy};
pub use config::WfsConfig;
pub use error::FsError;
pub use look::{CodedPiece, Detail, Entry, Holder, Located};
pub use order::{Order, Output};
pub use outcome::{Answer, Outcome};
pub use path::FsPath;
pub use place::Near;
pub use record::{Block, Changes, Counters, CreateMode, FileData, FolderTerms, Kind, Quota, Record, Writing};
pub use repair::{Health, MemberStatus};
pub use request::{Ask, Maintain, PAGE, Reply, Report, Request, Said, Troubled};
pub use terms::MAX_REPLICATION;
pub use trash::TRASH;
pub use tree::Usage;
pub use write::{AddBlock, Allocated, Create, Created, Last};

use crate::dice::Dice;
use crate::ids::FileId;
use crate::time::Instant;
use coding::Layout;
use departed::Departed;
use leases::Leases;
use outcome::Outcomes;
use recode::Recoder;
use repair::Upkeep;
use replicas::Replicas;
use tree::Tree;

/// The time of an operation, on two clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    pub at: Instant,
    /// Milliseconds since 1970-01-01T00:00:00Z, for people.
    pub wall_ms: u64,
}

#[derive(Debug)]
pub struct Namespace {
    config: WfsConfig,
    tree: Tree,
    leases: Leases,
    counters: Counters,
    replicas: Replicas,
    upkeep: Upkeep,
    recoder: Recoder,
    /// Folders that were removed and are not empty yet.
    graves: Vec<FileId>,
    /// Removed files, and replicas of theirs, until they go. Those that a restart forgets go when their executors report them.
    departed: Departed,
    trash_due: Option<Instant>,
    outcomes: Outcomes,
    dice: Dice,
}

impl Namespace {
    /// A namespace of what is stored. `records`: one for each id. Files whose folder is missing are left out, and returned: there are none
    /// unless something else wrote to the store.
    pub fn load(config: WfsConfig, now: Now, counters: Counters, records: Vec<Record>) -> (Namespace, Vec<FileId>) {
        let mut replicas = Replicas::default();
        let mut leases = Leases::default();
        let until = now.at + config.lease;
        for record in &records {
            if let Kind::Writing(file) = &record.kind {
                let blocks = file.sealed.iter().map(|block| (block.id, Some(block.bytes)));
                for (block, bytes) in blocks.chain(file.open.map(|block| (block, None))) {
                    replicas.load(block, record.id, bytes, Layout::Whole(file.replication));
                }
                leases.begin(record.id, file.clone(), until);
            }
        }
        let (tree, lost) = Tree::load(records.into_iter());
        for (id, inode) in tree.iter() {
            let Some(file) = inode.file() else { continue };
            let layout = Layout::new(file.coding, file.replication);
            file.blocks.iter().for_each(|block| replicas.load(block.id, id, Some(block.bytes), layout));
        }
        let upkeep = Upkeep::new(now.at, &config, &replicas);
        let dice = Dice(config.seed);
        let graves = tree.iter().filter(|(_, inode)| inode.parent == FileId::GRAVE).map(|(id, _)| id).collect();
        let (departed, trash_due) = (Departed::default(), Some(now.at));
        let mut namespace = Namespace {
            config,
            tree,
            leases,
            counters,
            replicas,
            upkeep,
            recoder: Recoder::default(),
            graves,
            departed,
            trash_due,
            outcomes: Outcomes::default(),
            dice,
        };
        namespace.reconsider_all(now);
        (namespace, lost)
    }

    /// Nothing but the root.
    pub fn new(config: WfsConfig) -> Namespace {
        Namespace::load(config, Now::default(), Counters::default(), Vec::new()).0
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub fn config(&self) -> &WfsConfig {
        &self.config
    }

    /// Files and folders, those that are being written included.
    pub fn len(&self) -> usize {
        self.tree.len() + self.leases.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 1
    }

    /// How a file or folder is stored, if it is there.
    pub fn record(&self, id: FileId) -> Option<Record> {
        self.tree.record(id).or_else(|| {
            let kind = Kind::Writing(Box::new(self.leases.get(id)?.clone()));
            Some(Record { id, parent: FileId::ROOT, name: "".into(), modified_ms: 0, kind })
        })
    }

    fn next_file(&mut self) -> FileId {
        let id = FileId(self.counters.next_file);
        self.counters.next_file += 1;
        id
    }

    fn put(&mut self, id: FileId, out: &mut Output) {
        let record = self.record(id);
        out.changes.put.retain(|earlier| earlier.id != id);
        out.changes.put.extend(record);
    }
}
