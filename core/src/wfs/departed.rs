//! Files that were replaced or removed, while their replicas stay for those who are reading them.
//!
//! Whoever has begun to read a file asks for it by its id, and is told where it lies until then: what a reader gets is one file, whole. None
//! of this is durable. After a restart such a file cannot be found, and its replicas go when their executors report them.

use super::coding::Layout;
use super::record::FileData;
use super::replicas::replica;
use super::{Block, Holder, Order, Output};
use crate::ids::{ExecutorId, FileId};
use crate::time::Instant;
use std::collections::{BTreeMap, VecDeque};

/// Files that can be found, at most: of more that go in the time of a grace, further ones cannot.
const MOST: usize = 50_000;

#[derive(Debug, Default)]
pub(super) struct Departed {
    files: BTreeMap<FileId, File>,
    leaving: VecDeque<Leaving>,
}

#[derive(Debug)]
struct File {
    modified_ms: u64,
    data: FileData,
    /// Holders of each block when the file went.
    holders: Vec<Vec<Holder>>,
}

/// Replicas that go together.
#[derive(Debug)]
struct Leaving {
    at: Instant,
    file: Option<FileId>,
    orders: Vec<(ExecutorId, Order)>,
}

impl Departed {
    /// These orders go out then.
    pub fn later(&mut self, at: Instant, orders: Vec<(ExecutorId, Order)>) {
        self.leaving.push_back(Leaving { at, file: None, orders });
    }

    /// The file that the last orders are about can be found until then.
    pub fn keep(&mut self, id: FileId, modified_ms: u64, data: FileData, holders: Vec<Vec<Holder>>) {
        if self.files.len() < MOST
            && let Some(leaving) = self.leaving.back_mut()
        {
            leaving.file = Some(id);
            self.files.insert(id, File { modified_ms, data, holders });
        }
    }

    /// When it was written, what it had, and who held each of its blocks.
    pub fn file(&self, id: FileId) -> Option<(u64, &FileData, &[Vec<Holder>])> {
        let File { modified_ms, data, holders } = self.files.get(&id)?;
        Some((*modified_ms, data, holders))
    }

    /// Replicas of these files that an executor held when they went.
    pub fn held_by(&self, executor: ExecutorId) -> Vec<Block> {
        let of_file = |File { data, holders, .. }: &File| {
            let layout = Layout::new(data.coding, data.replication);
            let of_block = |(block, holders): (&Block, &Vec<Holder>)| {
                let holder = holders.iter().find(|holder| holder.executor == executor)?;
                Some(Block { id: replica(block.id, holder.piece), bytes: layout.replica_bytes(block.bytes) })
            };
            data.blocks.iter().zip(holders).filter_map(of_block).collect::<Vec<Block>>()
        };
        self.files.values().flat_map(of_file).collect()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.leaving.front().map(|leaving| leaving.at)
    }

    pub fn go(&mut self, now: Instant, out: &mut Output) {
        while let Some(Leaving { file, orders, .. }) = self.leaving.pop_front_if(|leaving| leaving.at <= now) {
            file.map(|id| self.files.remove(&id));
            out.orders.extend(orders);
        }
    }
}
