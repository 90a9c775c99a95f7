//! What is asked of the namespace, and its answers.

use super::{Actor, PAGE, holder};
use crate::driver::Driver;
use std::collections::BTreeSet;
use std::time::Duration;
use windlass_core::ids::{BlockId, ExecutorId, FileId};
use windlass_core::wfs::{AddBlock, Answer, FsError, FsPath, Namespace, Near, Now, Output};
use windlass_proto::v1::file_reply::Reply;
use windlass_proto::v1::file_request::Ask as Asked;
use windlass_proto::{files as wire, v1};

impl Actor {
    pub(super) fn answer(
        &mut self,
        now: Now,
        request: v1::FileRequest,
        driver: &Driver,
        out: &mut Output,
    ) -> Result<Reply, FsError> {
        let near = request.near.map(Into::into).unwrap_or_default();
        let names = &mut self.names;
        let asked = request.ask.ok_or_else(|| FsError::Invalid { reason: "the request asks for nothing".into() })?;
        Ok(match asked {
            Asked::Stat(ask) => Reply::Entry(names.stat(&wire::path(&ask.path)?)?.into()),
            Asked::List(ask) => {
                let after = ask.after.as_deref().map(wire::path).transpose()?;
                let limit = (ask.limit as usize).clamp(1, PAGE);
                let listed = names.list(&wire::path(&ask.path)?, ask.recursive, after.as_ref(), limit)?;
                Reply::List(v1::ListReply { entries: listed.into_iter().map(Into::into).collect() })
            }
            Asked::Locate(ask) => {
                let (path, range) = (wire::path(&ask.path)?, ask.start..ask.end);
                let (entry, located) = match ask.file {
                    Some(file) => names.locate_version(&path, FileId(file), range, &near)?,
                    None => names.locate(&path, range, &near)?,
                };
                let blocks = located.into_iter().map(|part| wire::located(part, &|id| holder(driver, id)));
                Reply::Locate(v1::LocateReply { blocks: blocks.collect(), entry: Some(entry.into()) })
            }
            Asked::Create(ask) => Reply::Create(names.create(now, wire::create(ask)?, out)?.into()),
            Asked::AddBlock(ask) => Reply::AddBlock(add_block(names, now, ask, near, driver, out)?),
            Asked::Complete(ask) => {
                let (file, writer, last) = (FileId(ask.file), wire::writer(&ask.writer), wire::last(ask.last));
                Reply::Entry(names.complete(now, file, writer, &last, out)?.into())
            }
            Asked::Abandon(ask) => {
                names.abandon(FileId(ask.file), wire::writer(&ask.writer), out);
                Answer::Done.into()
            }
            Asked::Renew(ask) => {
                names.renew(now, FileId(ask.file), wire::writer(&ask.writer))?;
                Answer::Done.into()
            }
            Asked::Suspect(ask) => {
                names.suspect(ExecutorId(ask.executor), BlockId(ask.block), out);
                Answer::Done.into()
            }
            Asked::Verify(ask) => {
                names.verify(&wire::path(&ask.path)?, out)?;
                Answer::Done.into()
            }
            Asked::Balance(ask) => {
                names.balance(now, ask.per_mille.into(), out);
                Answer::Done.into()
            }
            Asked::Maintain(ask) => {
                self.maintain(now, ask, driver, out)?;
                Answer::Done.into()
            }
            Asked::Health(ask) => Reply::Health(self.health(&wire::path(&ask.path)?, ask.limit as usize, driver)?),
            asked => {
                let name = wire::name(&request.name);
                names.once(now, name, out, |names, out| change(names, now, asked, out))?.into()
            }
        })
    }

    fn maintain(
        &mut self,
        now: Now,
        ask: v1::MaintainRequest,
        driver: &Driver,
        out: &mut Output,
    ) -> Result<(), FsError> {
        let time = ask.seconds.map(Duration::from_secs);
        let found = driver.directory().find(&ask.executor);
        let entry = found.as_ref().ok().and_then(|id| driver.directory().entry(*id));
        match (found, entry) {
            (Ok(id), Some(entry)) => {
                self.names.maintain(now, id, time);
                self.maintenance.set(entry.register.name, time, now.wall_ms);
            }
            // It is away, and is not to be waited for any longer.
            _ if time.is_none() && self.maintenance.left(&ask.executor, now.wall_ms).is_some() => {
                self.maintenance.set(ask.executor, None, now.wall_ms);
                self.names.expect_no_more(now, out);
            }
            (found, _) => {
                let why = found.err().unwrap_or_else(|| format!("executor \"{}\" has just gone", ask.executor));
                return Err(FsError::Invalid { reason: format!("{why}; 'windlass fs report' shows names and ids") });
            }
        }
        Ok(())
    }

    fn health(&self, path: &FsPath, limit: usize, driver: &Driver) -> Result<v1::HealthReply, FsError> {
        let health = self.names.health();
        let members = health.members.into_iter().map(|member| {
            let entry = driver.directory().entry(member.id);
            let register = entry.map(|entry| entry.register).unwrap_or_default();
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
        let troubled = self.names.troubled(path, limit)?.into_iter().map(|(path, block, replicas, wanted, damaged)| {
            let (replicas, wanted) = (replicas.into(), wanted.into());
            v1::TroubledBlock { path: path.as_str().into(), block: block.0, replicas, wanted, damaged }
        });
        Ok(v1::HealthReply {
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
            entries: self.names.len() as u64,
            balancing: health.balancing,
            recoding: health.recoding as u64,
            to_recode: health.to_recode as u64,
            unread: self.names.unread(path)? as u64,
        })
    }
}

fn add_block(
    names: &mut Namespace,
    now: Now,
    ask: v1::AddBlockRequest,
    near: Near,
    driver: &Driver,
    out: &mut Output,
) -> Result<v1::AddBlockReply, FsError> {
    let (file, index, last) = (FileId(ask.file), ask.index as usize, wire::last(ask.last));
    let excluded: BTreeSet<ExecutorId> = ask.excluded.into_iter().map(ExecutorId).collect();
    let allocated = names.add_block(now, &AddBlock { file, index, last, near, excluded }, out)?;
    Ok(wire::allocated(allocated, |id| holder(driver, id)))
}

/// What happens once, by the name of its request.
fn change(names: &mut Namespace, now: Now, asked: Asked, out: &mut Output) -> Result<Answer, FsError> {
    Ok(match asked {
        Asked::Mkdir(ask) => Answer::Entry(names.mkdir(now, &wire::path(&ask.path)?, ask.parents, out)?),
        Asked::Rename(ask) => {
            let (from, to) = (wire::path(&ask.from)?, wire::path(&ask.to)?);
            let entry = names.rename(now, &from, &to, ask.overwrite, ask.parents, out)?;
            if ask.prune && from != to {
                names.prune(&from, out);
            }
            Answer::Entry(entry)
        }
        Asked::Delete(ask) => {
            let path = wire::path(&ask.path)?;
            match ask.trash {
                true => Answer::Entry(names.trash(now, &path, ask.recursive, out)?),
                false => {
                    names.delete(now, &path, ask.recursive, out)?;
                    if ask.prune {
                        names.prune(&path, out);
                    }
                    Answer::Done
                }
            }
        }
        Asked::SetReplication(ask) => {
            let replication = wire::replication(ask.replication)?;
            Answer::Entry(names.set_replication(now, &wire::path(&ask.path)?, replication, out)?)
        }
        Asked::SetQuota(ask) => Answer::Entry(names.set_quota(&wire::path(&ask.path)?, wire::quota(&ask), out)?),
        Asked::SetPolicy(ask) => {
            let policy = ask.policy.as_deref().map(wire::policy).transpose()?;
            Answer::Entry(names.set_policy(now, &wire::path(&ask.path)?, policy, out)?)
        }
        other => {
            let reason = format!("this release does not know how to do that: {other:?}");
            return Err(FsError::Invalid { reason });
        }
    })
}
