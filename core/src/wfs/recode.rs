//! Files whose blocks are kept in another way than their folders ask for: they are made anew, in the background, by executors that hold them.
//!
//! ```text
//!   file    ──due, and enough executors──> its blocks, one by one:  waiting ──ordered──> ordered ──all replicas reported──> formed
//!                                                                      ^──failed, late, executor lost──┘
//!           ──all blocks formed, and read──> the file has the new blocks; the old ones go after `grace`
//!           ──removed, moved to where something else is asked for──> the new blocks go
//!           ──no quota around has room for what it takes more──> looked at again after [`FULL`]
//! ```
//!
//! Readers see the one or the other. Blocks that are formed are kept whole like any other, also before their file has them. None of this is
//! durable: after a restart it begins anew, and what executors have of it is garbage. Lost replicas are made again before anything else.

use super::coding::{CODED_FROM_BYTES, Layout, Policy};
use super::place::{self, Near};
use super::repair::ROUND;
use super::tree::{Inode, Node};
use super::{Block, Coding, Entry, FsError, FsPath, Namespace, Now, Order, Output, TRASH, Usage};
use crate::ids::{BlockId, ExecutorId, FileId};
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// When a file is looked at again for which a quota had no room.
const FULL: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Recoder {
    /// A folder has asked for something, at some time.
    asked: bool,
    /// Files whose turn comes then.
    due: BTreeSet<(Instant, FileId)>,
    queued: BTreeMap<FileId, Instant>,
    /// Their code has more pieces than there are executors.
    blocked: BTreeSet<FileId>,
    pub active: BTreeMap<FileId, Recoding>,
    /// What is due and could not be begun is looked at again then.
    next_try: Instant,
}

#[derive(Debug)]
pub(super) struct Recoding {
    coding: Option<Coding>,
    /// Places of blocks in the file, and from when on they may be ordered.
    waiting: BTreeSet<(Instant, usize)>,
    ordered: BTreeMap<usize, Ordered>,
    formed: BTreeMap<usize, BlockId>,
}

#[derive(Debug)]
struct Ordered {
    block: BlockId,
    coder: ExecutorId,
    targets: Vec<ExecutorId>,
    until: Instant,
}

impl Recoder {
    pub fn waiting(&self) -> usize {
        self.queued.len() + self.blocked.len()
    }

    pub fn more_members(&mut self) {
        let blocked = std::mem::take(&mut self.blocked);
        blocked.into_iter().for_each(|file| self.queue(Instant::default(), file));
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let due = self.due.first().map(|(at, _)| *at);
        let waiting = self.active.values().filter_map(|recoding| Some(recoding.waiting.first()?.0));
        let begin = due.into_iter().chain(waiting).map(|at| at.max(self.next_try));
        let ordered = self.active.values().flat_map(|recoding| recoding.ordered.values().map(|ordered| ordered.until));
        begin.chain(ordered).min()
    }

    fn queue(&mut self, at: Instant, file: FileId) {
        self.dequeue(file);
        self.due.insert((at, file));
        self.queued.insert(file, at);
    }

    fn dequeue(&mut self, file: FileId) {
        self.blocked.remove(&file);
        if let Some(at) = self.queued.remove(&file) {
            self.due.remove(&(at, file));
        }
    }
}

impl Namespace {
    /// How files in a folder are to be kept from here on, those that are there included; `None`: as the folder around it says.
    pub fn set_policy(
        &mut self,
        now: Now,
        path: &FsPath,
        policy: Option<Policy>,
        out: &mut Output,
    ) -> Result<Entry, FsError> {
        let (id, _) = self.tree.resolve_folder(path)?;
        self.tree.change(id, |inode| {
            if let Node::Folder(folder) = &mut inode.node {
                folder.terms.policy = policy;
            }
        });
        self.put(id, out);
        self.recoder.asked = true;
        self.reconsider(now, id);
        self.repair(now, out);
        Ok(self.entry(path.clone(), id))
    }

    /// After a start: who asked for what is in the tree.
    pub(super) fn reconsider_all(&mut self, now: Now) {
        self.recoder.asked = self.tree.iter().any(|(_, inode)| match &inode.node {
            Node::Folder(folder) => folder.terms.policy.is_some(),
            Node::File(file) => file.coding.is_some(),
        });
        self.reconsider(now, FileId::ROOT);
    }

    /// Whether `id`, or what is in it, is kept as is asked for there.
    pub(super) fn reconsider(&mut self, now: Now, id: FileId) {
        if !self.recoder.asked {
            return;
        }
        for id in self.tree.ids_below(id) {
            let Some(inode) = self.tree.get(id).filter(|inode| inode.file().is_some()) else { continue };
            let due_ms = inode.modified_ms + self.config.code_after.as_millis() as u64;
            let is_active = self.recoder.active.contains_key(&id);
            match self.wanted_coding(id) {
                Some(_) if !is_active => {
                    let wait = Duration::from_millis(due_ms.saturating_sub(now.wall_ms));
                    self.recoder.queue(now.at + wait, id);
                }
                // What is under way is given up when it ends, if it is not wanted any more.
                _ => self.recoder.dequeue(id),
            }
        }
    }

    /// How the file is to be kept, if that is not how it is kept.
    fn wanted_coding(&self, id: FileId) -> Option<Option<Coding>> {
        let file = self.tree.get(id)?.file()?;
        let coding = self.policy_around(id)?.coding();
        let worth_it = file.coding.is_some() || file.bytes() >= CODED_FROM_BYTES;
        (worth_it && coding != file.coding).then_some(coding)
    }

    /// Whether the quotas around a file have room for what it takes more in this way.
    fn has_room_as(&self, id: FileId, coding: Option<Coding>) -> bool {
        let Some((inode, file)) = self.tree.get(id).and_then(|inode| Some((inode, inode.file()?))) else {
            return false;
        };
        let more = file.replicated_bytes_as(coding).saturating_sub(file.replicated_bytes());
        self.tree.check_quota(inode.parent, Usage { replicated_bytes: more, ..Usage::default() }, None).is_ok()
    }

    /// What the nearest folder around that says something asks for. Nothing is asked for what was removed.
    fn policy_around(&self, id: FileId) -> Option<Policy> {
        let mut at = self.tree.get(id)?.parent;
        loop {
            let Inode { parent, name, .. } = self.tree.get(at)?;
            if let Some(policy) = self.tree.get(at).and_then(Inode::folder).and_then(|folder| folder.terms.policy) {
                return Some(policy);
            }
            match () {
                () if at == FileId::ROOT => return Some(Policy::Replicate),
                () if *parent == FileId::ROOT && TRASH[1..] == **name => return None,
                () => at = *parent,
            }
        }
    }

    /// Begins and orders what there is room for.
    pub(super) fn recode(&mut self, now: Now, out: &mut Output) {
        if self.recoder.due.is_empty() && self.recoder.active.is_empty() {
            return;
        }
        let late = |(file, recoding): (&FileId, &Recoding)| {
            let late = recoding.ordered.iter().find(|(_, ordered)| ordered.until <= now.at);
            late.map(|(at, _)| (*file, *at))
        };
        while let Some((file, at)) = self.recoder.active.iter().find_map(late) {
            self.order_again(now, file, at, out);
        }
        let ended = |(_, recoding): &(&FileId, &Recoding)| recoding.waiting.is_empty() && recoding.ordered.is_empty();
        let ended: Vec<FileId> = self.recoder.active.iter().filter(ended).map(|(file, _)| *file).collect();
        ended.into_iter().for_each(|file| self.end_recoding(now, file, out));
        if self.replicas.wanting.is_empty() {
            self.begin_files(now);
            let files: Vec<FileId> = self.recoder.active.keys().copied().collect();
            files.into_iter().for_each(|file| self.order_parts(now, file, out));
        }
        self.recoder.next_try = now.at + ROUND;
    }

    fn begin_files(&mut self, now: Now) {
        let staying = self.replicas.members.values().filter(|member| !member.draining).count();
        while self.recoder.active.len() < staying * 2
            && let Some((at, file)) = self.recoder.due.first().copied()
            && at <= now.at
        {
            self.recoder.dequeue(file);
            let Some(coding) = self.wanted_coding(file) else { continue };
            if !self.has_room_as(file, coding) {
                self.recoder.queue(now.at + FULL, file);
                continue;
            }
            if usize::from(coding.map_or(1, Coding::pieces)) > staying {
                self.recoder.blocked.insert(file);
                continue;
            }
            let blocks = self.tree.get(file).and_then(Inode::file).map_or(0, |data| data.blocks.len());
            let waiting = (0..blocks).map(|at| (now.at, at)).collect();
            let (ordered, formed) = Default::default();
            self.recoder.active.insert(file, Recoding { coding, waiting, ordered, formed });
        }
    }

    fn order_parts(&mut self, now: Now, file: FileId, out: &mut Output) {
        while let Some(recoding) = self.recoder.active.get(&file)
            && let Some((from, at)) = recoding.waiting.first().copied()
            && from <= now.at
            && self.order_part(now, file, at, out)
        {}
    }

    /// False when no executor has room.
    fn order_part(&mut self, now: Now, file: FileId, at: usize, out: &mut Output) -> bool {
        let Some(data) = self.tree.get(file).and_then(Inode::file) else { return false };
        let (Some(recoding), Some(old)) = (self.recoder.active.get(&file), data.blocks.get(at).copied()) else {
            return false;
        };
        let (coding, was) = (recoding.coding, data.coding);
        let layout = Layout::new(coding, data.replication);
        let holders = self.replicas.all_holders(old.id);
        let is_idle = |id: &ExecutorId| {
            self.replicas.member(*id).is_some_and(|m| !m.draining && m.recoding == 0 && m.incoming < self.config.copies)
        };
        let Some(coder) = holders.iter().map(|(id, _)| *id).find(is_idle) else { return false };
        let near = Near { executor: Some(coder), ..Near::default() };
        let (reserve, count) = (layout.replica_bytes(old.bytes), usize::from(layout.pieces()));
        let count = if coding.is_some() { count } else { usize::from(data.replication) };
        let targets = place::choose(&self.replicas, &mut self.dice, &near, &[], &BTreeSet::new(), reserve, count);
        if targets.is_empty() || (coding.is_some() && targets.len() < count) {
            return false;
        }
        let block = Block { id: BlockId(self.counters.next_block), bytes: old.bytes };
        self.counters.next_block += u64::from(layout.pieces());
        self.replicas.form(block.id, file, block.bytes, layout);
        if let Some(member) = self.replicas.member_mut(coder) {
            member.recoding += 1;
        }
        // The numbers are given for good: a later primary must not give them again.
        self.put(file, out);
        let old = self.extents(old, was, 0, &near, self.holders_of(old.id));
        out.orders.push((coder, Order::Recode { old, new: block, coding, targets: targets.clone() }));
        let until = now.at + self.config.copy_timeout;
        if let Some(recoding) = self.recoder.active.get_mut(&file) {
            recoding.waiting.retain(|(_, waits)| *waits != at);
            recoding.ordered.insert(at, Ordered { block: block.id, coder, targets, until });
        }
        true
    }

    /// A replica of a block was reported. It may be the last one that was missing.
    pub(super) fn formed(&mut self, now: Now, block: BlockId, out: &mut Output) {
        let Some(state) = self.replicas.blocks.get(&block).filter(|state| state.forming) else { return };
        let (file, layout) = (state.file, state.layout);
        let staying = self.replicas.members.values().filter(|member| !member.draining).count();
        let enough = match layout {
            Layout::Whole(wanted) => wanted.min(staying.max(1) as u8),
            Layout::Coded(_) => layout.wanted(),
        };
        if !self.replicas.formed(block, enough) {
            return;
        }
        let Some((at, ordered)) = self.ordered(file, block) else { return };
        if let Some(member) = self.replicas.member_mut(ordered.coder) {
            member.recoding = member.recoding.saturating_sub(1);
        }
        let Some(recoding) = self.recoder.active.get_mut(&file) else { return };
        recoding.formed.insert(at, block);
        if recoding.waiting.is_empty() && recoding.ordered.is_empty() {
            self.end_recoding(now, file, out);
        }
    }

    /// Takes out the order that `block` is to come of.
    fn ordered(&mut self, file: FileId, block: BlockId) -> Option<(usize, Ordered)> {
        let recoding = self.recoder.active.get_mut(&file)?;
        let at = *recoding.ordered.iter().find(|(_, ordered)| ordered.block == block)?.0;
        Some((at, recoding.ordered.remove(&at)?))
    }

    /// All blocks are formed: the file has them from here on, if that is still asked for.
    fn end_recoding(&mut self, now: Now, file: FileId, out: &mut Output) {
        let Some(recoding) = self.recoder.active.get(&file) else { return };
        let (coding, formed) = (recoding.coding, recoding.formed.clone());
        if self.wanted_coding(file) != Some(coding) {
            self.give_up_recoding(file, out);
            return self.reconsider(now, file);
        }
        if !self.has_room_as(file, coding) {
            // Something else has taken it meanwhile.
            self.give_up_recoding(file, out);
            return self.recoder.queue(now.at + FULL, file);
        }
        let unreadable =
            |block: &BlockId| self.replicas.blocks.get(block).is_none_or(|state| self.replicas.staying(state) == 0);
        let unreadable: Vec<(usize, BlockId)> =
            formed.iter().filter(|(_, block)| unreadable(block)).map(|(at, block)| (*at, *block)).collect();
        if !unreadable.is_empty() {
            for (at, block) in unreadable {
                self.forget_block(block, out);
                if let Some(recoding) = self.recoder.active.get_mut(&file) {
                    recoding.formed.remove(&at);
                    recoding.waiting.insert((now.at, at));
                }
            }
            return;
        }
        let short = |block: &BlockId| {
            let state = self.replicas.blocks.get(block);
            state.is_none_or(|state| self.replicas.staying(state) < state.layout.wanted().min(2))
        };
        if formed.values().any(short) {
            // What is lost of them is being made again.
            return;
        }
        // The old ones go for them: they are read first.
        let unread = formed.values().filter(|block| !self.upkeep.vouching.is_vouched(**block)).count();
        if unread > 0 {
            return;
        }
        let Some(old) = self.tree.get(file).and_then(Inode::file).map(|data| data.blocks.clone()) else { return };
        formed.values().for_each(|block| self.upkeep.vouching.forget(*block));
        self.recoder.active.remove(&file);
        self.tree.change(file, |inode| {
            if let Node::File(data) = &mut inode.node {
                data.coding = coding;
                for (at, block) in &formed {
                    data.blocks[*at].id = *block;
                }
            }
        });
        self.put(file, out);
        self.forget_later(now, &old, out);
    }

    /// Nothing of what was made for it stays.
    pub(super) fn give_up_recoding(&mut self, file: FileId, out: &mut Output) {
        let Some(recoding) = self.recoder.active.remove(&file) else { return };
        for ordered in recoding.ordered.values() {
            if let Some(member) = self.replicas.member_mut(ordered.coder) {
                member.recoding = member.recoding.saturating_sub(1);
            }
        }
        let ordered = recoding.ordered.values().map(|ordered| ordered.block);
        ordered.chain(recoding.formed.values().copied()).for_each(|block| self.forget_block(block, out));
    }

    /// What was ordered came to nothing.
    pub(super) fn recode_failed(&mut self, now: Now, block: BlockId, out: &mut Output) {
        let Some(state) = self.replicas.blocks.get(&block).filter(|state| state.forming) else { return };
        let file = state.file;
        let ordered = self.recoder.active.get(&file).map(|recoding| &recoding.ordered);
        let at =
            ordered.and_then(|ordered| ordered.iter().find(|(_, ordered)| ordered.block == block)).map(|(at, _)| *at);
        if let Some(at) = at {
            self.order_again(now, file, at, out);
        }
    }

    /// An executor is gone that was making a block, or that a replica was to go to.
    pub(super) fn recoder_lost(&mut self, now: Now, id: ExecutorId, out: &mut Output) {
        let concerned = self.recoder.active.iter().flat_map(|(file, recoding)| {
            let ordered = recoding.ordered.iter();
            let concerned = ordered.filter(|(_, ordered)| ordered.coder == id || ordered.targets.contains(&id));
            concerned.map(|(at, _)| (*file, *at))
        });
        let concerned: Vec<(FileId, usize)> = concerned.collect();
        concerned.into_iter().for_each(|(file, at)| self.order_again(now, file, at, out));
    }

    fn order_again(&mut self, now: Now, file: FileId, at: usize, out: &mut Output) {
        let Some(recoding) = self.recoder.active.get_mut(&file) else { return };
        let Some(ordered) = recoding.ordered.remove(&at) else { return };
        recoding.waiting.insert((now.at + ROUND, at));
        if let Some(member) = self.replicas.member_mut(ordered.coder) {
            member.recoding = member.recoding.saturating_sub(1);
        }
        self.forget_block(ordered.block, out);
    }
}
