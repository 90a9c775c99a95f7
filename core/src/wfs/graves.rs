//! What was removed goes: the entries of a folder over several ticks, the replicas of a file after those who read it.

use super::tree::{Inode, Node};
use super::{Block, Namespace, Now, Order, Output};
use crate::ids::{BlockId, FileId};

impl Namespace {
    pub(super) fn bury(&mut self, now: Now, folder: FileId, out: &mut Output) {
        self.tree.relink(folder, FileId::GRAVE, "".into());
        self.graves.push(folder);
        self.put(folder, out);
        self.decay(now, out);
    }

    /// Removes some of what lies in graves, children before their folders.
    pub(super) fn decay(&mut self, now: Now, out: &mut Output) {
        const AT_A_TIME: usize = 5_000;
        let mut removed = 0;
        while removed < AT_A_TIME
            && let Some(grave) = self.graves.pop()
        {
            let mut walk = vec![grave];
            while let Some(id) = walk.last().copied()
                && removed < AT_A_TIME
            {
                let inode = self.tree.get(id);
                if let Some(child) = inode.and_then(Inode::folder).and_then(|folder| folder.children.values().next()) {
                    walk.push(*child);
                    continue;
                }
                walk.pop();
                removed += 1;
                match inode.is_some_and(|inode| inode.file().is_some()) {
                    true => self.remove_file(now, id, out),
                    false => {
                        self.tree.remove(id);
                        out.changes.put.retain(|record| record.id != id);
                        out.changes.removed.push(id);
                    }
                }
            }
            if !walk.is_empty() {
                self.graves.push(grave);
            }
        }
    }

    /// Its replicas go later: who has begun to read it reads it to its end.
    pub(super) fn remove_file(&mut self, now: Now, id: FileId, out: &mut Output) {
        self.remove_file_but(now, id, &[], out);
    }

    /// The same, but for blocks that another file goes on with.
    pub(super) fn remove_file_but(&mut self, now: Now, id: FileId, kept: &[Block], out: &mut Output) {
        let Some(Inode { node: Node::File(file), modified_ms, .. }) = self.tree.remove(id) else { return };
        out.changes.put.retain(|record| record.id != id);
        out.changes.removed.push(id);
        self.give_up_recoding(id, out);
        let holders = file.blocks.iter().map(|block| self.holders_of(block.id)).collect();
        let gone = if kept.is_empty() { &file.blocks[..] } else { &[] };
        self.forget_later(now, gone, out);
        if !self.config.grace.is_zero() {
            self.departed.keep(id, modified_ms, file, holders);
        }
    }

    pub(super) fn forget_later(&mut self, now: Now, blocks: &[Block], out: &mut Output) {
        let mut orders = Output::default();
        blocks.iter().for_each(|block| self.forget_block(block.id, &mut orders));
        match self.config.grace.is_zero() {
            true => out.orders.extend(orders.orders),
            false => self.departed.later(now.at + self.config.grace, orders.orders),
        }
    }

    pub(super) fn forget_block(&mut self, block: BlockId, out: &mut Output) {
        self.upkeep.forget(block, &mut self.replicas);
        self.forget_damaged(block, out);
        let holders = self.replicas.forget(block);
        out.orders.extend(holders.into_iter().map(|(executor, replica)| (executor, Order::Delete(replica))));
    }
}
