//! What an operation of the namespace leaves for its shell to do.

use super::{Block, Changes, CodedPiece, Coding, Located};
use crate::ids::{BlockId, ExecutorId};

/// What an operation asks the shell to do: make the changes durable, then send the orders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub changes: Changes,
    pub orders: Vec<(ExecutorId, Order)>,
}

/// An order to an executor about its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nobody wants the replica.
    Delete(BlockId),
    /// The replica is not what it is to be. If its first bytes, as many as these, verify, it is made so long and is one again; else it is
    /// removed, unless it is the last.
    Salvage { block: Block, last: bool },
    /// Fetch a replica from one of these executors.
    Copy { block: Block, from: Vec<ExecutorId> },
    /// Compute a piece of a block from others, and keep it.
    Rebuild(CodedPiece),
    /// Write what a block has as another one, on these executors: for a code the pieces in their order.
    Recode { old: Vec<Located>, new: Block, coding: Option<Coding>, targets: Vec<ExecutorId> },
    /// Read all of the replica, and say whether it is what was written. `reading`: greater than that of every order before it.
    Verify { replica: BlockId, reading: u64 },
}
