//! Requests and answers of the namespace in their wire format.

use super::{Actor, holder};
use crate::files::Executors;
use std::time::Duration;
use windlass_core::ids::{BlockId, ExecutorId, FileId};
use windlass_core::wfs::{
    AddBlock, Answer, Ask, FsError, Health, Maintain, Now, Output, Reply, Report, Request, Troubled,
};
use windlass_proto::v1::file_reply::Reply as WireReply;
use windlass_proto::v1::file_request::Ask as WireAsk;
use windlass_proto::{files as wire, v1};

impl Actor {
    pub(super) fn answer(
        &mut self,
        now: Now,
        request: v1::FileRequest,
        executors: &dyn Executors,
        out: &mut Output,
    ) -> Result<WireReply, FsError> {
        let request = match request.ask {
            Some(WireAsk::Maintain(ask)) => {
                Request { name: None, ask: Ask::Maintain(self.maintain(now, ask, executors)?) }
            }
            ask => self::request(v1::FileRequest { ask, ..request })?,
        };
        Ok(reply(self.names.step(now, request, out)?, executors))
    }

    /// Records how long an executor may be away, by name, for its next registration.
    fn maintain(&mut self, now: Now, ask: v1::MaintainRequest, executors: &dyn Executors) -> Result<Maintain, FsError> {
        let time = ask.seconds.map(Duration::from_secs);
        let found = executors.find(&ask.executor);
        let register = found.as_ref().ok().and_then(|id| executors.register(*id));
        match (found, register) {
            (Ok(executor), Some(register)) => {
                self.maintenance.set(register.name, time, now.wall_ms);
                Ok(Maintain::Member { executor, time })
            }
            // The executor is away, and the cluster stops waiting for it.
            _ if time.is_none() && self.maintenance.left(&ask.executor, now.wall_ms).is_some() => {
                self.maintenance.set(ask.executor, None, now.wall_ms);
                Ok(Maintain::GivenUp)
            }
            (found, _) => {
                let why = found.err().unwrap_or_else(|| format!("executor \"{}\" has just gone", ask.executor));
                Err(FsError::Invalid { reason: format!("{why}; 'windlass fs report' shows names and ids") })
            }
        }
    }
}

fn request(request: v1::FileRequest) -> Result<Request, FsError> {
    let near = request.near.map(Into::into).unwrap_or_default();
    let asked = request.ask.ok_or_else(|| FsError::Invalid { reason: "the request asks for nothing".into() })?;
    let ask = match asked {
        WireAsk::Stat(ask) => Ask::Stat { path: wire::path(&ask.path)? },
        WireAsk::List(ask) => Ask::List {
            path: wire::path(&ask.path)?,
            recursive: ask.recursive,
            after: ask.after.as_deref().map(wire::path).transpose()?,
            limit: ask.limit as usize,
        },
        WireAsk::Locate(ask) => {
            Ask::Locate { path: wire::path(&ask.path)?, version: ask.file.map(FileId), range: ask.start..ask.end, near }
        }
        WireAsk::Create(ask) => Ask::Create(wire::create(ask)?),
        WireAsk::AddBlock(ask) => Ask::AddBlock(AddBlock {
            file: FileId(ask.file),
            index: ask.index as usize,
            last: wire::last(ask.last),
            near,
            excluded: ask.excluded.into_iter().map(ExecutorId).collect(),
        }),
        WireAsk::Complete(ask) => {
            Ask::Complete { file: FileId(ask.file), writer: wire::writer(&ask.writer), last: wire::last(ask.last) }
        }
        WireAsk::Abandon(ask) => Ask::Abandon { file: FileId(ask.file), writer: wire::writer(&ask.writer) },
        WireAsk::Renew(ask) => Ask::Renew { file: FileId(ask.file), writer: wire::writer(&ask.writer) },
        WireAsk::Suspect(ask) => Ask::Suspect { executor: ExecutorId(ask.executor), block: BlockId(ask.block) },
        WireAsk::Verify(ask) => Ask::Verify { path: wire::path(&ask.path)? },
        WireAsk::Balance(ask) => Ask::Balance { per_mille: ask.per_mille.into() },
        WireAsk::Health(ask) => Ask::Health { path: wire::path(&ask.path)?, limit: ask.limit as usize },
        WireAsk::Mkdir(ask) => Ask::Mkdir { path: wire::path(&ask.path)?, parents: ask.parents },
        WireAsk::Rename(ask) => Ask::Rename {
            from: wire::path(&ask.from)?,
            to: wire::path(&ask.to)?,
            overwrite: ask.overwrite,
            parents: ask.parents,
            prune: ask.prune,
        },
        WireAsk::Delete(ask) => {
            Ask::Delete { path: wire::path(&ask.path)?, recursive: ask.recursive, trash: ask.trash, prune: ask.prune }
        }
        WireAsk::SetReplication(ask) => {
            Ask::SetReplication { replication: wire::replication(ask.replication)?, path: wire::path(&ask.path)? }
        }
        WireAsk::SetQuota(ask) => Ask::SetQuota { path: wire::path(&ask.path)?, quota: wire::quota(&ask) },
        WireAsk::SetPolicy(ask) => Ask::SetPolicy {
            policy: ask.policy.as_deref().map(wire::policy).transpose()?,
            path: wire::path(&ask.path)?,
        },
        other => {
            let reason = format!("this release does not know how to do that: {other:?}");
            return Err(FsError::Invalid { reason });
        }
    };
    Ok(Request { name: wire::name(&request.name), ask })
}

/// Converts an executor's report of its replicas.
pub(super) fn report(report: v1::BlockReport) -> Report {
    let held = wire::reported(&report);
    let blocks = |ids: Vec<u64>| ids.into_iter().map(BlockId).collect::<Vec<_>>();
    Report {
        range: report.range.map(|range| BlockId(range.first)..=BlockId(range.last)),
        held,
        verified: blocks(report.verified).into_iter().zip(report.readings).collect(),
        bad: blocks(report.bad),
        gone: blocks(report.gone),
        not_copied: blocks(report.not_copied),
    }
}

fn reply(reply: Reply, executors: &dyn Executors) -> WireReply {
    match reply {
        Reply::Done => Answer::Done.into(),
        Reply::Entry(entry) => WireReply::Entry(entry.into()),
        Reply::Entries(entries) => {
            WireReply::List(v1::ListReply { entries: entries.into_iter().map(Into::into).collect() })
        }
        Reply::Located { entry, parts } => {
            let blocks = parts.into_iter().map(|part| wire::located(part, &|id| holder(executors, id)));
            WireReply::Locate(v1::LocateReply { blocks: blocks.collect(), entry: Some(entry.into()) })
        }
        Reply::Health { health, troubled, entries, unread } => {
            WireReply::Health(health_reply(health, troubled, entries, unread, executors))
        }
        Reply::Created(created) => WireReply::Create(created.into()),
        Reply::Allocated(allocated) => WireReply::AddBlock(wire::allocated(allocated, |id| holder(executors, id))),
        Reply::Renewed { open } => {
            WireReply::Renew(v1::RenewReply { block: open.map(|block| block.0), ..v1::RenewReply::default() })
        }
    }
}

fn health_reply(
    health: Health,
    troubled: Vec<Troubled>,
    entries: usize,
    unread: usize,
    executors: &dyn Executors,
) -> v1::HealthReply {
    let members = health.members.into_iter().map(|member| {
        let register = executors.register(member.id).unwrap_or_default();
        v1::BlockMember {
            executor: member.id.0,
            name: register.name,
            address: register.address,
            rack: register.rack,
            draining: member.draining,
            maintenance: member.maintenance,
            replicas: member.replicas as u64,
            used_bytes: member.used,
            free_bytes: member.free,
        }
    });
    let troubled = troubled.into_iter().map(|block| v1::TroubledBlock {
        path: block.path.as_str().into(),
        block: block.block.0,
        replicas: block.replicas.into(),
        wanted: block.wanted.into(),
        damaged: block.damaged,
    });
    v1::HealthReply {
        settling: health.settling,
        blocks: health.blocks as u64,
        under_replicated: health.under_replicated as u64,
        missing: health.missing as u64,
        surplus: health.surplus as u64,
        damaged: health.damaged as u64,
        copying: health.copying as u64,
        copied: health.copied,
        pruned: health.pruned,
        members: members.collect(),
        troubled: troubled.collect(),
        entries: entries as u64,
        balancing: health.balancing,
        recoding: health.recoding as u64,
        to_recode: health.to_recode as u64,
        unread: unread as u64,
    }
}
