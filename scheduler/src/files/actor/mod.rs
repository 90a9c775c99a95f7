//! The task that owns the namespace.

mod answer;

use super::maintenance::Maintenance;
use super::stored::{Checkpoint, Journal};
use super::{Ask, Event};
use crate::clock::Clock;
use crate::files::Executors;
use crate::meta::{MetaError, MetaStore};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use windlass_core::ids::ExecutorId;
use windlass_core::wfs::{Answer, Changes, Kind, Namespace, Now, Order, Outcome, Output, Said, WfsConfig};
use windlass_proto::v1::file_reply::Reply;
use windlass_proto::{files as wire, v1};

/// Maximum requests that are answered together.
const BATCH: usize = 1_024;
/// Maximum bytes of changes in one transaction, roughly. etcd takes requests of 1.5 MiB.
const BATCH_BYTES: usize = 384 << 10;
/// Maximum orders in one message.
const ORDERS: usize = 10_000;
/// Interval between attempts to read the store again.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Actor {
    store: Arc<dyn MetaStore>,
    journal: Journal,
    names: Namespace,
    asks: mpsc::Receiver<Ask>,
    events: mpsc::UnboundedReceiver<Event>,
    clock: Clock,
    origin: std::time::Instant,
    /// Executors in maintenance, and its end.
    maintenance: Maintenance,
    /// Requests that did not fit into the last batch.
    waiting: VecDeque<Ask>,
    /// The checkpoint that is being written, if any.
    checkpoint: JoinSet<(Checkpoint, Result<(), MetaError>)>,
}

impl Actor {
    pub async fn open(
        store: Arc<dyn MetaStore>,
        config: WfsConfig,
        clock: Clock,
        asks: mpsc::Receiver<Ask>,
        events: mpsc::UnboundedReceiver<Event>,
    ) -> Result<Actor, MetaError> {
        let origin = clock.now();
        let (journal, names, maintenance) = load(&store, config, now(&clock, origin)).await?;
        let (waiting, checkpoint) = (VecDeque::new(), JoinSet::new());
        Ok(Actor { store, journal, names, asks, events, clock, origin, maintenance, waiting, checkpoint })
    }

    pub async fn run(mut self, executors: Arc<dyn Executors>, stop: CancellationToken) {
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
            let (mut out, now) = (Output::default(), now(&self.clock, self.origin));
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
                let answer = self.answer(now, request, executors.as_ref(), &mut out);
                replies.push((reply, answer.unwrap_or_else(|error| Reply::Error(error.into()))));
            }
            match self.write(&out.changes, now).await {
                Ok(()) => {
                    self.send(out.orders, executors.as_ref()).await;
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

    /// Writes changes. They are durable when this returns.
    async fn write(&mut self, changes: &Changes, now: Now) -> Result<(), MetaError> {
        if !changes.is_empty() {
            self.journal.append(changes, self.names.counters()).await?;
        }
        self.maintenance.write(now.wall_ms).await
    }

    /// Takes the outcome of the last checkpoint, and begins a new one if it is due.
    fn check(&mut self) {
        if let Some(Ok((checkpoint, Err(error)))) = self.checkpoint.try_join_next() {
            tracing::warn!(%error, "the namespace's checkpoint could not be written; the next one takes its place");
            self.journal.failed(checkpoint);
        }
        if self.checkpoint.is_empty()
            && let Some(checkpoint) = self.journal.checkpoint(&self.names)
        {
            // The checkpoint may be interrupted at any point.
            self.checkpoint.spawn(async move {
                let written = checkpoint.write().await;
                (checkpoint, written)
            });
        }
    }

    /// Reads the store again. The locations of replicas are not in it, and are kept. False: the actor must end.
    async fn reload(&mut self, stop: &CancellationToken) -> bool {
        while self.checkpoint.join_next().await.is_some() {}
        loop {
            match load(&self.store, self.names.config().clone(), now(&self.clock, self.origin)).await {
                Ok((journal, names, maintenance)) => {
                    self.maintenance = maintenance;
                    let before = std::mem::replace(&mut self.names, names);
                    // Its orders are issued again when it settles.
                    self.names.inherit(now(&self.clock, self.origin), &before, &mut Output::default());
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
                let away = self.maintenance.left(&name, now.wall_ms);
                self.names.hear(now, id, Said::Joined { host, rack, away }, out);
            }
            Event::Lost { id } => self.names.hear(now, id, Said::Lost, out),
            Event::Draining { id } => self.names.hear(now, id, Said::Draining, out),
            Event::Space { id, used, free } => self.names.hear(now, id, Said::Space { used, free }, out),
            Event::HeldUp { id, reply } => _ = reply.send(self.names.held_up(id)),
            Event::Reported { id, report, heard } => {
                let report = answer::report(report);
                if !report.bad.is_empty() {
                    tracing::warn!(executor = %id, replicas = report.bad.len(), "replicas are gone or damaged");
                }
                self.names.hear(now, id, Said::Report(report), out);
                let _ = heard.send(());
            }
        }
    }

    async fn send(&self, orders: Vec<(ExecutorId, Order)>, executors: &dyn Executors) {
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
                Order::Verify { replica, reading } => {
                    message.verify.push(replica.0);
                    message.reading = message.reading.max(reading);
                }
                Order::Salvage { block, last } => {
                    message.salvage.push(v1::SalvageBlock { block: block.id.0, bytes: block.bytes, last });
                }
                Order::Copy { block, from } => message.copy.push(v1::CopyBlock {
                    block: block.id.0,
                    bytes: block.bytes,
                    from: from.into_iter().filter_map(|id| holder(executors, id)).collect(),
                }),
                Order::Rebuild(piece) => message.rebuild.push(wire::coded_piece(piece, &|id| holder(executors, id))),
                Order::Recode { old, new, coding, targets } => message.recode.push(v1::RecodeBlock {
                    old: old.into_iter().map(|part| wire::located(part, &|id| holder(executors, id))).collect(),
                    new: new.id.0,
                    bytes: new.bytes,
                    coding: wire::code(coding),
                    targets: targets.into_iter().filter_map(|id| holder(executors, id)).collect(),
                }),
            }
        }
        for (executor, messages) in messages {
            for message in messages {
                executors.order(executor, message).await;
            }
        }
    }
}

fn holder(executors: &dyn Executors, id: ExecutorId) -> Option<v1::BlockHolder> {
    let register = executors.register(id)?;
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
    names.recall(now, loaded.outcomes);
    let maintenance = Maintenance::load(store.clone()).await?;
    if let Some(time) = maintenance.longest(now.wall_ms) {
        names.expect(now.at + time);
    }
    Ok((journal, names, maintenance))
}

fn now(clock: &Clock, origin: std::time::Instant) -> Now {
    Now { at: clock.since(origin), wall_ms: clock.wall_ms() }
}

/// Returns the approximate bytes of the changes in the store.
fn bytes(changes: &Changes) -> usize {
    let record = |kind: &Kind| match kind {
        Kind::Folder(_) => 0,
        Kind::File(file) => file.blocks.len() * 12,
        Kind::Writing(file) => file.sealed.len() * 12 + file.path.as_str().len(),
    };
    let put = changes.put.iter().map(|put| 60 + put.name.len() + record(&put.kind));
    let outcome = |outcome: &Outcome| match &outcome.answer {
        Answer::Done => 30,
        Answer::Entry(entry) => 80 + entry.path.as_str().len(),
    };
    let outcomes = changes.outcomes.iter().map(outcome);
    put.sum::<usize>() + changes.removed.len() * 8 + outcomes.sum::<usize>()
}
