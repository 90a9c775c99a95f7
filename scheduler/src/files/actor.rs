//! The task that owns the namespace.

use super::maintenance::Maintenance;
use super::stored::{Checkpoint, Journal};
use super::{Ask, Event};
use crate::driver::Driver;
use crate::meta::{MetaError, MetaStore};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use windlass_core::ids::{BlockId, ExecutorId, FileId};
use windlass_core::time::Instant;
use windlass_core::wfs::{AddBlock, Changes, FsError, FsPath, Kind, Last, Namespace, Now, Order, Output, WfsConfig};
use windlass_proto::v1::file_reply::Reply;
use windlass_proto::v1::file_request::Ask as Asked;
use windlass_proto::v1::primary_message::Message as ToExecutor;
use windlass_proto::{files as wire, v1};

/// Requests that are answered together at most.
const BATCH: usize = 1_024;
/// Changes that are made durable together, bytes, roughly: etcd takes requests of 1.5 MiB.
const BATCH_BYTES: usize = 384 << 10;
/// A folder is listed in pages of at most so many entries.
const PAGE: usize = 10_000;
/// Orders in one message.
const ORDERS: usize = 10_000;
/// Between attempts to read the store again.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Actor {
    store: Arc<dyn MetaStore>,
    journal: Journal,
    names: Namespace,
    asks: mpsc::Receiver<Ask>,
    events: mpsc::UnboundedReceiver<Event>,
    origin: std::time::Instant,
    /// Who may be away, and until when.
    maintenance: Maintenance,
    /// Requests that came and did not fit into the last batch.
    waiting: VecDeque<Ask>,
    /// The checkpoint that is being written, if one is.
    checkpoint: JoinSet<(Checkpoint, Result<(), MetaError>)>,
}

impl Actor {
    pub async fn open(
        store: Arc<dyn MetaStore>,
        config: WfsConfig,
        asks: mpsc::Receiver<Ask>,
        events: mpsc::UnboundedReceiver<Event>,
    ) -> Result<Actor, MetaError> {
        let origin = std::time::Instant::now();
        let (journal, names, maintenance) = load(&store, config, now(origin)).await?;
        let (waiting, checkpoint) = (VecDeque::new(), JoinSet::new());
        Ok(Actor { store, journal, names, asks, events, origin, maintenance, waiting, checkpoint })
    }

    pub async fn run(mut self, driver: Driver, stop: CancellationToken) {
        let (mut asks, mut events) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        loop {
            let due = self.names.next_deadline().map(|at| self.origin + Duration::from_micros(at.0));
            let sleep = tokio::time::sleep_until(due.unwrap_or(self.origin).into());
            if self.waiting.is_empty() {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    n = self.events.recv_many(&mut events, BATCH) => if n == 0 { return },
                    n = self.asks.recv_many(&mut asks, BATCH) => if n == 0 { return },
                    () = sleep, if due.is_some() => {}
                }
            }
            while events.len() < BATCH
                && let Ok(event) = self.events.try_recv()
            {
                events.push(event);
            }
            self.waiting.extend(asks.drain(..));
            let (mut out, now) = (Output::default(), now(self.origin));
            for event in events.drain(..) {
                self.on_event(now, event, &mut out);
            }
            if self.names.next_deadline().is_some_and(|at| at <= now.at) {
                self.names.tick(now, &mut out);
            }
            let mut replies = Vec::new();
            while bytes(&out.changes) < BATCH_BYTES
                && let Some(Ask { request, reply }) = self.waiting.pop_front()
            {
                let answer = self.answer(now, request, &driver, &mut out);
                replies.push((reply, answer.unwrap_or_else(|error| Reply::Error(error.into()))));
            }
            match self.write(&out.changes, now).await {
                Ok(()) => {
                    self.send(out.orders, &driver).await;
                    for (reply, answer) in replies {
                        let _ = reply.send(v1::FileReply { reply: Some(answer) });
                    }
                    self.check();
                }
                Err(error) => {
                    tracing::warn!(%error, "files could not be changed");
                    let error = v1::FileError { kind: v1::file_error::Kind::Store.into(), message: error.to_string() };
                    for (reply, _) in replies {
                        let _ = reply.send(v1::FileReply { reply: Some(Reply::Error(error.clone())) });
                    }
                    if !self.reload(&stop).await {
                        return;
                    }
                }
            }
        }
    }

    /// Durable when it returns.
    async fn write(&mut self, changes: &Changes, now: Now) -> Result<(), MetaError> {
        if !changes.is_empty() {
            self.journal.append(changes, self.names.counters()).await?;
        }
        self.maintenance.write(now.wall_ms).await
    }

    /// Begins a checkpoint when one is due, and takes the last one's outcome.
    fn check(&mut self) {
        if let Some(Ok((checkpoint, Err(error)))) = self.checkpoint.try_join_next() {
            tracing::warn!(%error, "the namespace's checkpoint could not be written; the next one takes its place");
            self.journal.failed(checkpoint);
        }
        if self.checkpoint.is_empty()
            && let Some(checkpoint) = self.journal.checkpoint(&self.names)
        {
            // It may be cut off anywhere.
            self.checkpoint.spawn(async move {
                let written = checkpoint.write().await;
                (checkpoint, written)
            });
        }
    }

    /// Reads the store again. Who holds which replica is not in it, and is kept. False: there is nothing more to do.
    async fn reload(&mut self, stop: &CancellationToken) -> bool {
        while self.checkpoint.join_next().await.is_some() {}
        loop {
            match load(&self.store, self.names.config().clone(), now(self.origin)).await {
                Ok((journal, names, maintenance)) => {
                    self.maintenance = maintenance;
                    let before = std::mem::replace(&mut self.names, names);
                    // What it would order is ordered when it settles.
                    self.names.inherit(now(self.origin), &before, &mut Output::default());
                    self.journal = journal;
                    return true;
                }
                Err(MetaError::NotLeading { .. }) => return false,
                Err(error) => tracing::warn!(%error, "the namespace cannot be read again yet"),
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(RELOAD_PAUSE) => {}
            }
        }
    }

    fn on_event(&mut self, now: Now, event: Event, out: &mut Output) {
        match event {
            Event::Joined { id, name, host, rack } => {
                self.names.joined(id, &host, &rack);
                if let Some(time) = self.maintenance.left(&name, now.wall_ms) {
                    self.names.maintain(now, id, Some(time));
                }
            }
            Event::Lost { id } => self.names.lost(now, id, out),
            Event::Draining { id } => self.names.draining(now, id, out),
            Event::Space { id, used, free } => self.names.space(id, used, free),
            Event::HeldUp { id, reply } => _ = reply.send(self.names.held_up(id)),
            Event::Reported { id, report, heard } => {
                let blocks = wire::reported(&report);
                match &report.range {
                    Some(range) => {
                        let range = BlockId(range.first)..=BlockId(range.last);
                        self.names.reported(now, id, range, &blocks, out);
                    }
                    None => self.names.added(now, id, &blocks, out),
                }
                let bad: Vec<BlockId> = report.bad.iter().copied().map(BlockId).collect();
                if !bad.is_empty() {
                    tracing::warn!(executor = %id, replicas = bad.len(), "replicas are gone or damaged");
                    self.names.bad(now, id, &bad, out);
                }
                let gone: Vec<BlockId> = report.gone.iter().copied().map(BlockId).collect();
                if !gone.is_empty() {
                    self.names.gone(now, id, &gone, out);
                }
                for block in report.not_copied {
                    self.names.copy_failed(now, id, BlockId(block), out);
                }
                let _ = heard.send(());
            }
        }
    }

    fn answer(
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
                let (entry, located) = names.locate(&wire::path(&ask.path)?, ask.start..ask.end, &near)?;
                let blocks = located.into_iter().map(|part| wire::located(part, &|id| holder(driver, id)));
                Reply::Locate(v1::LocateReply { blocks: blocks.collect(), entry: Some(entry.into()) })
            }
            Asked::Create(ask) => Reply::Create(names.create(now, wire::create(ask)?, out)?.into()),
            Asked::AddBlock(ask) => {
                let (file, index, last) = (FileId(ask.file), ask.index as usize, wire::last(ask.last));
                let excluded: BTreeSet<ExecutorId> = ask.excluded.into_iter().map(ExecutorId).collect();
                let allocated = names.add_block(now, &AddBlock { file, index, last, near, excluded }, out)?;
                Reply::AddBlock(wire::allocated(allocated, |id| holder(driver, id)))
            }
            Asked::Complete(ask) => {
                let last: Last = wire::last(ask.last);
                Reply::Entry(names.complete(now, FileId(ask.file), wire::writer(&ask.writer), &last, out)?.into())
            }
            Asked::Abandon(ask) => {
                names.abandon(FileId(ask.file), wire::writer(&ask.writer), out);
                done()
            }
            Asked::Renew(ask) => {
                names.renew(now, FileId(ask.file), wire::writer(&ask.writer))?;
                done()
            }
            Asked::Mkdir(ask) => Reply::Entry(names.mkdir(now, &wire::path(&ask.path)?, ask.parents, out)?.into()),
            Asked::Rename(ask) => {
                let (from, to) = (wire::path(&ask.from)?, wire::path(&ask.to)?);
                let entry = names.rename(now, &from, &to, ask.overwrite, ask.parents, out)?;
                if ask.prune && from != to {
                    names.prune(&from, out);
                }
                Reply::Entry(entry.into())
            }
            Asked::Delete(ask) => {
                let path: FsPath = wire::path(&ask.path)?;
                match ask.trash {
                    true => Reply::Entry(names.trash(now, &path, ask.recursive, out)?.into()),
                    false => {
                        names.delete(now, &path, ask.recursive, out)?;
                        if ask.prune {
                            names.prune(&path, out);
                        }
                        done()
                    }
                }
            }
            Asked::SetReplication(ask) => {
                let replication = wire::replication(ask.replication)?;
                Reply::Entry(names.set_replication(now, &wire::path(&ask.path)?, replication, out)?.into())
            }
            Asked::SetQuota(ask) => {
                Reply::Entry(names.set_quota(&wire::path(&ask.path)?, wire::quota(&ask), out)?.into())
            }
            Asked::SetPolicy(ask) => {
                let policy = ask.policy.as_deref().map(wire::policy).transpose()?;
                Reply::Entry(names.set_policy(now, &wire::path(&ask.path)?, policy, out)?.into())
            }
            Asked::Suspect(ask) => {
                names.suspect(ExecutorId(ask.executor), BlockId(ask.block), out);
                done()
            }
            Asked::Verify(ask) => {
                names.verify(&wire::path(&ask.path)?, out)?;
                done()
            }
            Asked::Balance(ask) => {
                names.balance(now, ask.per_mille.into(), out);
                done()
            }
            Asked::Maintain(ask) => {
                let unknown = || FsError::Invalid {
                    reason: format!(
                        "there is no executor \"{}\": see 'windlass fs report' for names and ids",
                        ask.executor
                    ),
                };
                let time = ask.seconds.map(Duration::from_secs);
                let executor = driver.directory().find(&ask.executor);
                let entry = executor.and_then(|id| driver.directory().entry(id));
                match (executor, entry) {
                    (Some(id), Some(entry)) => {
                        names.maintain(now, id, time);
                        self.maintenance.set(entry.register.name, time, now.wall_ms);
                    }
                    // It is away, and is not to be waited for any longer.
                    _ if time.is_none() && self.maintenance.left(&ask.executor, now.wall_ms).is_some() => {
                        self.maintenance.set(ask.executor, None, now.wall_ms);
                        names.expect_no_more(now, out);
                    }
                    _ => return Err(unknown()),
                }
                done()
            }
            Asked::Health(ask) => Reply::Health(self.health(&wire::path(&ask.path)?, ask.limit as usize, driver)?),
        })
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
        })
    }

    async fn send(&self, orders: Vec<(ExecutorId, Order)>, driver: &Driver) {
        let mut messages: BTreeMap<ExecutorId, Vec<v1::BlockOrders>> = BTreeMap::new();
        for (executor, order) in orders {
            let messages = messages.entry(executor).or_default();
            let full = |message: &v1::BlockOrders| {
                message.delete.len() + message.copy.len() + message.rebuild.len() + message.recode.len() >= ORDERS
            };
            if messages.last().is_none_or(full) {
                messages.push(v1::BlockOrders::default());
            }
            let Some(message) = messages.last_mut() else { continue };
            match order {
                Order::Delete(block) => message.delete.push(block.0),
                Order::Verify(block) => message.verify.push(block.0),
                Order::Discard(block) => {
                    message.discard.push(v1::DiscardBlock { block: block.id.0, bytes: block.bytes });
                }
                Order::Copy { block, from } => message.copy.push(v1::CopyBlock {
                    block: block.id.0,
                    bytes: block.bytes,
                    from: from.into_iter().filter_map(|id| holder(driver, id)).collect(),
                }),
                Order::Rebuild(piece) => message.rebuild.push(wire::coded_piece(piece, &|id| holder(driver, id))),
                Order::Recode { old, new, coding, targets } => message.recode.push(v1::RecodeBlock {
                    old: old.into_iter().map(|part| wire::located(part, &|id| holder(driver, id))).collect(),
                    new: new.id.0,
                    bytes: new.bytes,
                    coding: wire::code(coding),
                    targets: targets.into_iter().filter_map(|id| holder(driver, id)).collect(),
                }),
            }
        }
        for (executor, messages) in messages {
            for message in messages {
                driver.tell(executor, ToExecutor::Blocks(message)).await;
            }
        }
    }
}

fn done() -> Reply {
    Reply::Done(v1::file_reply::Done {})
}

fn holder(driver: &Driver, id: ExecutorId) -> Option<v1::BlockHolder> {
    let register = driver.directory().entry(id)?.register;
    Some(v1::BlockHolder { executor: id.0, address: register.address, host: register.host, piece: 0 })
}

async fn load(
    store: &Arc<dyn MetaStore>,
    config: WfsConfig,
    now: Now,
) -> Result<(Journal, Namespace, Maintenance), MetaError> {
    let (journal, loaded) = Journal::open(store.clone()).await?;
    let (mut names, lost) = Namespace::load(config, now, loaded.counters, loaded.records);
    if !lost.is_empty() {
        tracing::error!(?lost, "files lie in folders that are not in the metadata store, and cannot be seen");
    }
    let maintenance = Maintenance::load(store.clone()).await?;
    if let Some(time) = maintenance.longest(now.wall_ms) {
        names.expect(now.at + time);
    }
    Ok((journal, names, maintenance))
}

fn now(origin: std::time::Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { at: Instant(origin.elapsed().as_micros() as u64), wall_ms: wall.as_millis() as u64 }
}

/// Roughly what the changes take when they are stored.
fn bytes(changes: &Changes) -> usize {
    let record = |kind: &Kind| match kind {
        Kind::Folder(_) => 0,
        Kind::File(file) => file.blocks.len() * 12,
        Kind::Writing(file) => file.sealed.len() * 12 + file.path.as_str().len(),
    };
    let put = changes.put.iter().map(|put| 60 + put.name.len() + record(&put.kind));
    put.sum::<usize>() + changes.removed.len() * 8
}
