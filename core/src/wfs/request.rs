//! What is asked of the namespace and what executors say to it, each in one step.
//!
//! ```text
//! client ── Request ──> step ──> Reply or error ─┐
//! executor ── Said ───> hear ────────────────────┴──> Output: made durable, then orders go out, then the client is answered
//! ```
//!
//! A request changes everything that it asks for or, with an error, nothing. Those that move, remove or set something happen once under the
//! name that their client gave them.

use super::{
    AddBlock, Allocated, Answer, Block, Create, Created, Entry, FsError, FsPath, Health, Last, Located, Namespace,
    Near, Now, Output, Policy, Quota,
};
use crate::ids::{BlockId, ExecutorId, FileId};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

/// Entries in one answer of a listing at most.
pub const PAGE: usize = 10_000;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// That its client gave it, and gives it again when it asks again. Counts for changes.
    pub name: Option<u128>,
    pub ask: Ask,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    Stat {
        path: FsPath,
    },
    /// In the order of their paths, from behind `after` on. At least one and at most [`PAGE`] entries.
    List {
        path: FsPath,
        recursive: bool,
        after: Option<FsPath>,
        limit: usize,
    },
    /// Where these bytes lie of the file, or of the version of it that is named and may have been replaced or removed since.
    Locate {
        path: FsPath,
        version: Option<FileId>,
        range: Range<u64>,
        near: Near,
    },
    /// What is wrong with files under `path`, and of at most so many blocks in detail.
    Health {
        path: FsPath,
        limit: usize,
    },
    Create(Create),
    AddBlock(AddBlock),
    Complete {
        file: FileId,
        writer: u128,
        last: Last,
    },
    Abandon {
        file: FileId,
        writer: u128,
    },
    Renew {
        file: FileId,
        writer: u128,
    },
    /// A reader found the executor's replica of the block missing or damaged.
    Suspect {
        executor: ExecutorId,
        block: BlockId,
    },
    Verify {
        path: FsPath,
    },
    Balance {
        per_mille: u64,
    },
    Maintain(Maintain),
    Mkdir {
        path: FsPath,
        parents: bool,
    },
    /// `prune`: folders that become empty by that go too.
    Rename {
        from: FsPath,
        to: FsPath,
        overwrite: bool,
        parents: bool,
        prune: bool,
    },
    /// What goes to the trash can be had back for a while; its folder stays.
    Delete {
        path: FsPath,
        recursive: bool,
        trash: bool,
        prune: bool,
    },
    SetReplication {
        path: FsPath,
        replication: u8,
    },
    SetQuota {
        path: FsPath,
        quota: Quota,
    },
    SetPolicy {
        path: FsPath,
        policy: Option<Policy>,
    },
}

/// An executor is to be away for a while, or is not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maintain {
    /// For so long its replicas are not made again elsewhere. `None`: it is treated like any other.
    Member { executor: ExecutorId, time: Option<Duration> },
    /// One that is away already is not waited for any longer.
    GivenUp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Done,
    Entry(Entry),
    Entries(Vec<Entry>),
    Located {
        entry: Entry,
        parts: Vec<Located>,
    },
    Health {
        health: Health,
        troubled: Vec<Troubled>,
        /// Files and folders, those that are being written included.
        entries: usize,
        /// Replicas under the path that are still to be read.
        unread: usize,
    },
    Created(Created),
    Allocated(Allocated),
    /// `open`: the block that is being written.
    Renewed {
        open: Option<BlockId>,
    },
}

/// A block that has not the replicas that it is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Troubled {
    pub path: FsPath,
    pub block: BlockId,
    pub replicas: u8,
    pub wanted: u8,
    pub damaged: bool,
}

/// What an executor says, or what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is attached. `away`: it was announced to be away for so much longer.
    Joined {
        host: String,
        rack: String,
        away: Option<Duration>,
    },
    Lost,
    Draining,
    Space {
        used: u64,
        free: u64,
    },
    Report(Report),
}

/// What an executor has found about its replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// `Some`: of the blocks in this range it has those of `held` and no others. `None`: it has got those of `held`.
    pub range: Option<RangeInclusive<BlockId>>,
    pub held: Vec<Block>,
    /// It has read them from end to end after it got the orders of these numbers, and they are right.
    pub verified: Vec<(BlockId, u64)>,
    /// They are not what was written.
    pub bad: Vec<BlockId>,
    /// They are missing, and were to be removed or verified. Those that are in `held` or `bad` too came, or were found damaged, since.
    pub gone: Vec<BlockId>,
    /// It could not make them.
    pub not_copied: Vec<BlockId>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Done => Reply::Done,
            Answer::Entry(entry) => Reply::Entry(entry),
        }
    }
}

impl Namespace {
    /// Does what a request asks for, and says what it is answered with once `out` is durable.
    ///
    /// # Errors
    /// Those of the operation. Nothing has changed then.
    pub fn step(&mut self, now: Now, request: Request, out: &mut Output) -> Result<Reply, FsError> {
        let Request { name, ask } = request;
        Ok(match ask {
            Ask::Stat { path } => Reply::Entry(self.stat(&path)?),
            Ask::List { path, recursive, after, limit } => {
                Reply::Entries(self.list(&path, recursive, after.as_ref(), limit.clamp(1, PAGE))?)
            }
            Ask::Locate { path, version, range, near } => {
                let (entry, parts) = match version {
                    Some(file) => self.locate_version(&path, file, range, &near)?,
                    None => self.locate(&path, range, &near)?,
                };
                Reply::Located { entry, parts }
            }
            Ask::Health { path, limit } => self.examine(&path, limit)?,
            Ask::Create(create) => Reply::Created(self.create(now, create, out)?),
            Ask::AddBlock(add) => Reply::Allocated(self.add_block(now, &add, out)?),
            Ask::Complete { file, writer, last } => Reply::Entry(self.complete(now, file, writer, &last, out)?),
            Ask::Abandon { file, writer } => {
                self.abandon(file, writer, out);
                Reply::Done
            }
            Ask::Renew { file, writer } => Reply::Renewed { open: self.renew(now, file, writer)? },
            Ask::Suspect { executor, block } => {
                self.suspect(executor, block, out);
                Reply::Done
            }
            Ask::Verify { path } => {
                self.verify(&path, out)?;
                Reply::Done
            }
            Ask::Balance { per_mille } => {
                self.balance(now, per_mille, out);
                Reply::Done
            }
            Ask::Maintain(maintain) => {
                match maintain {
                    Maintain::Member { executor, time } => self.maintain(now, executor, time),
                    Maintain::GivenUp => self.expect_no_more(now, out),
                }
                Reply::Done
            }
            Ask::Mkdir { .. }
            | Ask::Rename { .. }
            | Ask::Delete { .. }
            | Ask::SetReplication { .. }
            | Ask::SetQuota { .. }
            | Ask::SetPolicy { .. } => {
                return self.once(now, name, out, |names, out| names.change(now, ask, out)).map(Reply::from);
            }
        })
    }

    /// What happens once, by the name of its request.
    fn change(&mut self, now: Now, ask: Ask, out: &mut Output) -> Result<Answer, FsError> {
        Ok(match ask {
            Ask::Mkdir { path, parents } => Answer::Entry(self.mkdir(now, &path, parents, out)?),
            Ask::Rename { from, to, overwrite, parents, prune } => {
                let entry = self.rename(now, &from, &to, overwrite, parents, out)?;
                if prune && from != to {
                    self.prune(&from, out);
                }
                Answer::Entry(entry)
            }
            Ask::Delete { path, recursive, trash: true, .. } => Answer::Entry(self.trash(now, &path, recursive, out)?),
            Ask::Delete { path, recursive, trash: false, prune } => {
                self.delete(now, &path, recursive, out)?;
                if prune {
                    self.prune(&path, out);
                }
                Answer::Done
            }
            Ask::SetReplication { path, replication } => {
                Answer::Entry(self.set_replication(now, &path, replication, out)?)
            }
            Ask::SetQuota { path, quota } => Answer::Entry(self.set_quota(&path, quota, out)?),
            Ask::SetPolicy { path, policy } => Answer::Entry(self.set_policy(now, &path, policy, out)?),
            other => return Err(FsError::Invalid { reason: format!("{other:?} changes no names") }),
        })
    }

    fn examine(&self, path: &FsPath, limit: usize) -> Result<Reply, FsError> {
        let troubled = self.troubled(path, limit)?.into_iter();
        let troubled = troubled.map(|(path, block, replicas, wanted, damaged)| Troubled {
            path,
            block,
            replicas,
            wanted,
            damaged,
        });
        let (entries, unread) = (self.len(), self.unread(path)?);
        Ok(Reply::Health { health: self.health(), troubled: troubled.collect(), entries, unread })
    }

    /// Takes what an executor says.
    pub fn hear(&mut self, now: Now, id: ExecutorId, said: Said, out: &mut Output) {
        match said {
            Said::Joined { host, rack, away } => {
                self.joined(id, &host, &rack);
                if let Some(time) = away {
                    self.maintain(now, id, Some(time));
                }
            }
            Said::Lost => self.lost(now, id, out),
            Said::Draining => self.draining(now, id, out),
            Said::Space { used, free } => self.space(id, used, free),
            Said::Report(report) => self.hear_report(now, id, report, out),
        }
    }

    fn hear_report(&mut self, now: Now, id: ExecutorId, report: Report, out: &mut Output) {
        let Report { range, held, verified, bad, gone, not_copied } = report;
        // The other lists say what came since.
        if !gone.is_empty() {
            self.gone(now, id, &gone, out);
        }
        match range {
            Some(range) => self.reported(now, id, range, &held, out),
            None => self.added(now, id, &held, out),
        }
        // What is bad was found later.
        if !verified.is_empty() {
            self.verified(now, id, &verified, out);
        }
        if !bad.is_empty() {
            self.bad(now, id, &bad, out);
        }
        for block in not_copied {
            self.copy_failed(now, id, block, out);
        }
    }
}
