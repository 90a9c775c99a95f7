//! Cluster membership: the executors, their running attempts, their outputs and their free slots.
//!
//! ```text
//!   joined ──> Live ──draining──> Draining ──farewell──> Leaving ──gone──> (forgotten)
//!               └───────── gone, silent or superseded ──────┴──────────────> (forgotten, as lost)
//! ```
//!
//! An attempt holds its slot from its launch until its executor reports its end, wanted or not. Beside full slots there is one place for an attempt of a light
//! job. When another attempt of the executor ends, the light attempt takes its slot, and the place is free again.
//!
//! Attempts of stages that run once, which are users' programs, hold no slots: most of their time they wait for what their own statements compute in
//! slots. There are as many places for them as there are slots, and the memory that they may hold together is no more than the executor has.

use crate::event::ExecutorSpec;
use crate::ids::{AttemptId, ExecutorId, JobId, StageId};
use crate::job::Once;
use crate::time::Instant;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// State of an executor in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutorState {
    /// Gets tasks.
    Live,
    /// Gets no tasks; stays until nobody needs its attempts and outputs, or until the deadline.
    Draining { deadline: Instant },
    /// Was told farewell.
    Leaving,
}

#[derive(Debug)]
pub(super) struct Executor {
    pub spec: ExecutorSpec,
    pub state: ExecutorState,
    pub heard: Instant,
    /// Attempts that have not ended. False: the attempt was cancelled, and its end is awaited.
    pub running: BTreeMap<AttemptId, bool>,
    /// Those of them that hold a place of a program and no slot, each with the bytes of memory that its program may hold.
    programs: BTreeMap<AttemptId, u64>,
    /// Stages that ran here and whose outputs were not dropped yet.
    pub stages: BTreeMap<StageId, Share>,
    /// Seed of the executor's weights in rendezvous hashing, made from the name, so that caches survive a restart.
    pub name_hash: u64,
}

/// Attempts and outputs of one stage on one executor.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    /// Attempts that have not ended.
    pub running: u32,
    /// Committed outputs.
    pub committed: u32,
    /// Outputs on their way here from an executor that is leaving.
    pub coming: u32,
}

impl Executor {
    pub fn free_slots(&self) -> u32 {
        self.spec.slots.saturating_sub((self.running.len() - self.programs.len()) as u32)
    }

    /// Free places of programs.
    pub fn free_places(&self) -> u32 {
        match self.state {
            ExecutorState::Live => self.spec.slots.saturating_sub(self.programs.len() as u32),
            ExecutorState::Draining { .. } | ExecutorState::Leaving => 0,
        }
    }

    /// Bytes of memory that no program was promised.
    pub fn free_memory(&self) -> u64 {
        self.spec.memory_bytes.saturating_sub(self.programs.values().sum())
    }

    /// Bytes of memory that a program may hold here.
    fn allowed(&self, once: Once) -> u64 {
        let most = self.spec.program_memory_bytes.min(self.spec.memory_bytes);
        if once.memory_bytes == 0 { most } else { once.memory_bytes.min(most) }
    }

    fn has_place(&self, once: Once) -> bool {
        self.free_places() > 0 && self.allowed(once) <= self.free_memory()
    }

    /// Slots on offer for new tasks.
    fn offer(&self) -> u32 {
        match self.state {
            ExecutorState::Live => self.free_slots(),
            ExecutorState::Draining { .. } | ExecutorState::Leaving => 0,
        }
    }

    /// Whether all slots are taken and the place beside them is free.
    fn is_full(&self) -> bool {
        let taken = self.running.len() - self.programs.len();
        self.state == ExecutorState::Live && self.spec.slots > 0 && taken == self.spec.slots as usize
    }

    pub fn has_any_of(&self, job: JobId) -> bool {
        self.stages_of(job).next().is_some()
    }

    fn stages_of(&self, job: JobId) -> impl Iterator<Item = (StageId, Share)> {
        self.stages.range(job.stage(0)..=job.stage(u32::MAX)).map(|(&stage, &share)| (stage, share))
    }
}

/// Executors with slots on offer, most slots first, then by id.
type Offers = BTreeSet<(Reverse<u32>, ExecutorId)>;

#[derive(Debug, Default)]
pub(super) struct Executors {
    all: BTreeMap<ExecutorId, Executor>,
    names: BTreeMap<String, ExecutorId>,
    offers: Offers,
    /// Executors that have offered a slot since every waiting stage was last asked.
    fresh: BTreeSet<ExecutorId>,
    /// Hosts with at least one live executor.
    hosts: BTreeMap<String, Host>,
    /// Live executors whose slots are all taken, and whose place beside them is free.
    full: BTreeSet<ExecutorId>,
    draining: BTreeSet<ExecutorId>,
    live: usize,
}

#[derive(Debug, Default)]
struct Host {
    live: usize,
    offers: Offers,
}

impl Executors {
    pub fn get(&self, id: ExecutorId) -> Option<&Executor> {
        self.all.get(&id)
    }

    pub fn named(&self, name: &str) -> Option<ExecutorId> {
        self.names.get(name).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Executor> {
        self.all.values()
    }

    /// Whether no executor exists that may still advance jobs.
    pub fn none_working(&self) -> bool {
        self.live == 0 && self.draining.is_empty()
    }

    pub fn live(&self) -> usize {
        self.live
    }

    pub fn draining(&self) -> impl Iterator<Item = &Executor> {
        self.draining.iter().filter_map(|id| self.all.get(id))
    }

    pub fn any_draining(&self) -> bool {
        !self.draining.is_empty()
    }

    /// Live executors with a free slot, most free slots first, then by id.
    pub fn offers(&self) -> impl Iterator<Item = &Executor> {
        self.offers.iter().filter_map(|(_, id)| self.all.get(id))
    }

    /// Live executors whose slots are all taken, and that may run an attempt of a light job beside them, by id.
    pub fn full(&self) -> impl Iterator<Item = &Executor> {
        self.full.iter().filter_map(|id| self.all.get(id))
    }

    /// Whether any of the executors that suit has a free place of a program.
    pub fn any_place(&self, suits: impl Fn(&Executor) -> bool) -> bool {
        self.all.values().any(|executor| executor.free_places() > 0 && suits(executor))
    }

    /// The live executor with most free places of programs among those that suit and have the memory, if one has any.
    pub fn most_places(&self, once: Once, suits: impl Fn(&Executor) -> bool) -> Option<&Executor> {
        let free = self.all.values().filter(|executor| executor.has_place(once) && suits(executor));
        free.max_by_key(|executor| (executor.free_places(), executor.free_slots(), Reverse(executor.spec.id)))
    }

    /// The live executor with most memory that no program was promised among those that suit.
    pub fn most_memory(&self, suits: impl Fn(&Executor) -> bool) -> Option<&Executor> {
        let live = self.all.values().filter(|executor| executor.state == ExecutorState::Live && suits(executor));
        live.max_by_key(|executor| (executor.free_memory(), Reverse(executor.spec.id)))
    }

    pub fn offer_count(&self) -> usize {
        self.offers.len()
    }

    /// Offers that are new since `seen_by_all`, by executor id.
    pub fn fresh_offers(&self) -> impl Iterator<Item = &Executor> {
        self.fresh.iter().filter_map(|id| self.all.get(id)).filter(|executor| executor.offer() > 0)
    }

    /// Marks all offers as seen: every waiting stage was asked about each of them.
    pub fn seen_by_all(&mut self) {
        self.fresh.clear();
    }

    /// Live executors with a free slot on one host, most free slots first, then by id.
    pub fn offers_on(&self, host: &str) -> impl Iterator<Item = &Executor> {
        self.hosts.get(host).into_iter().flat_map(|host| &host.offers).filter_map(|(_, id)| self.all.get(id))
    }

    pub fn is_live_host(&self, host: &str) -> bool {
        self.hosts.contains_key(host)
    }

    pub fn is_live(&self, id: ExecutorId) -> bool {
        self.all.get(&id).is_some_and(|e| e.state == ExecutorState::Live)
    }

    /// Adds an executor, whose id and name must be free.
    pub fn join(&mut self, now: Instant, spec: ExecutorSpec) {
        let id = spec.id;
        let host = self.hosts.entry(spec.host.clone()).or_default();
        host.live += 1;
        if spec.slots > 0 {
            host.offers.insert((Reverse(spec.slots), id));
            self.offers.insert((Reverse(spec.slots), id));
            self.fresh.insert(id);
        }
        self.live += 1;
        self.names.insert(spec.name.clone(), id);
        let name_hash = hash_name(&spec.name);
        let executor = Executor {
            spec,
            state: ExecutorState::Live,
            heard: now,
            running: BTreeMap::new(),
            programs: BTreeMap::new(),
            stages: BTreeMap::new(),
            name_hash,
        };
        self.all.insert(id, executor);
    }

    /// Notes a sign of life and returns the time of the previous one, or `None` when the executor is unknown.
    pub fn hear(&mut self, now: Instant, id: ExecutorId) -> Option<Instant> {
        let executor = self.all.get_mut(&id)?;
        let before = executor.heard;
        executor.heard = before.max(now);
        Some(before)
    }

    pub fn drain(&mut self, id: ExecutorId, deadline: Instant) {
        if self.is_live(id) {
            self.update(id, |e| e.state = ExecutorState::Draining { deadline });
            self.draining.insert(id);
        }
    }

    pub fn leave(&mut self, id: ExecutorId) {
        self.update(id, |e| e.state = ExecutorState::Leaving);
        self.draining.remove(&id);
    }

    /// Removes an executor and returns it.
    pub fn remove(&mut self, id: ExecutorId) -> Option<Executor> {
        let state = self.get(id)?.state;
        self.leave(id);
        let executor = Executor { state, ..self.all.remove(&id)? };
        if self.names.get(&executor.spec.name) == Some(&id) {
            self.names.remove(&executor.spec.name);
        }
        Some(executor)
    }

    /// `once`: it takes a place of a program, and no slot.
    pub fn launch(&mut self, id: ExecutorId, attempt: AttemptId, once: Option<Once>) {
        self.update(id, |e| {
            e.running.insert(attempt, true);
            if let Some(once) = once {
                e.programs.insert(attempt, e.allowed(once));
            }
            e.stages.entry(attempt.stage()).or_default().running += 1;
        });
    }

    /// Ends an attempt and returns whether it was still wanted; `None` when it does not run.
    pub fn end(&mut self, id: ExecutorId, attempt: AttemptId) -> Option<bool> {
        self.update(id, |e| {
            let wanted = e.running.remove(&attempt)?;
            e.programs.remove(&attempt);
            if let Some(share) = e.stages.get_mut(&attempt.stage()) {
                share.running -= 1;
            }
            Some(wanted)
        })
        .flatten()
    }

    pub fn committed(&mut self, id: ExecutorId, stage: StageId) {
        if let Some(e) = self.all.get_mut(&id) {
            e.stages.entry(stage).or_default().committed += 1;
        }
    }

    /// Uncounts an output that must not be read again; it goes from the executor with the others of its stage.
    pub fn uncommitted(&mut self, id: ExecutorId, stage: StageId) {
        if let Some(share) = self.all.get_mut(&id).and_then(|e| e.stages.get_mut(&stage)) {
            share.committed -= 1;
        }
    }

    /// Notes that the executor has kept outputs of these stages, of which none counts yet.
    pub fn keeps(&mut self, id: ExecutorId, stages: Vec<StageId>) {
        if let Some(e) = self.all.get_mut(&id) {
            stages.into_iter().for_each(|stage| _ = e.stages.entry(stage).or_default());
        }
    }

    /// Notes an output on its way here from an executor that is leaving.
    pub fn coming(&mut self, id: ExecutorId, stage: StageId) {
        if let Some(e) = self.all.get_mut(&id) {
            // Cancelled attempts may have outlived the record of their stage.
            let running = || e.running.keys().filter(|attempt| attempt.stage() == stage).count() as u32;
            e.stages.entry(stage).or_insert_with(|| Share { running: running(), ..Share::default() }).coming += 1;
        }
    }

    /// Notes that an expected output has arrived, or will not come.
    pub fn not_coming(&mut self, id: ExecutorId, stage: StageId) {
        if let Some(share) = self.all.get_mut(&id).and_then(|e| e.stages.get_mut(&stage)) {
            share.coming = share.coming.saturating_sub(1);
        }
    }

    pub fn is_wanted(&self, id: ExecutorId, attempt: AttemptId) -> bool {
        self.all.get(&id).is_some_and(|e| e.running.get(&attempt) == Some(&true))
    }

    /// Marks the attempt as not wanted; it keeps its place. Returns whether it was wanted before.
    pub fn unwant(&mut self, id: ExecutorId, attempt: AttemptId) -> bool {
        let wanted = self.all.get_mut(&id).and_then(|e| e.running.get_mut(&attempt));
        wanted.is_some_and(|wanted| std::mem::replace(wanted, false))
    }

    /// Marks all attempts of a job as not wanted and returns those that were wanted.
    pub fn unwant_job(&mut self, id: ExecutorId, job: JobId) -> Vec<AttemptId> {
        let Some(executor) = self.all.get_mut(&id) else { return Vec::new() };
        let attempts = executor.running.range_mut(job.attempts());
        attempts.filter_map(|(&attempt, wanted)| std::mem::replace(wanted, false).then_some(attempt)).collect()
    }

    /// Forgets the job's stages on the executor, except outputs of stage `keep`, committed or on their way, and returns the stages to drop.
    pub fn drop_job(&mut self, id: ExecutorId, job: JobId, keep: Option<u32>) -> Vec<StageId> {
        let Some(executor) = self.all.get_mut(&id) else { return Vec::new() };
        let kept = |stage: StageId, share: Share| Some(stage.index) == keep && share.committed + share.coming > 0;
        let drop: Vec<_> = executor.stages_of(job).filter(|&(s, share)| !kept(s, share)).map(|(s, _)| s).collect();
        for stage in &drop {
            executor.stages.remove(stage);
        }
        drop
    }

    /// Changes an executor and updates the offers accordingly.
    fn update<R>(&mut self, id: ExecutorId, change: impl FnOnce(&mut Executor) -> R) -> Option<R> {
        let executor = self.all.get_mut(&id)?;
        let (was_live, before) = (executor.state == ExecutorState::Live, executor.offer());
        let result = change(executor);
        let (is_live, after) = (executor.state == ExecutorState::Live, executor.offer());
        if executor.is_full() {
            self.full.insert(id);
        } else {
            self.full.remove(&id);
        }
        if before == after && was_live == is_live {
            return Some(result);
        }
        replace(&mut self.offers, id, before, after);
        if after > before {
            self.fresh.insert(id);
        }
        if let Some(host) = self.hosts.get_mut(&executor.spec.host) {
            replace(&mut host.offers, id, before, after);
            if was_live && !is_live {
                self.live -= 1;
                host.live -= 1;
                if host.live == 0 {
                    self.hosts.remove(&executor.spec.host);
                }
            }
        }
        Some(result)
    }
}

fn replace(offers: &mut Offers, id: ExecutorId, before: u32, after: u32) {
    if before > 0 {
        offers.remove(&(Reverse(before), id));
    }
    if after > 0 {
        offers.insert((Reverse(after), id));
    }
}

/// FNV-1a hash of 64 bits.
fn hash_name(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
