//! Departure of an executor without loss: its outputs move to the others, its tasks end or are handed back.
//!
//! ```text
//! output    Held ──adopt──> Moving ──moved──> Held by the adopter
//!             ^               │
//!             └───────────────┘ refused, adopter lost          (source lost: lost, like all that a lost executor holds)
//!
//! executor  Draining: outputs move, tasks end (later: are handed back) ──nothing needed──> last readers end ──> Farewell
//! ```
//!
//! Invariants:
//! - The source holds a moving output until the adopter has all of it; readers are sent to the source until then.
//! - An output moves to one executor at a time. A report about a move that is not under way changes nothing.
//! - A move ends with its job, or with the release of its result.
//!
//! A round each second asks again for outputs that could not be moved before: an adopter may have room, another may have joined, and an output may have become
//! needed.

use super::Scheduler;
use super::executors::{Executor, Executors};
use super::jobs::TaskState;
#[cfg(test)]
use super::simulation::Defect;
use super::timers::Timer;
use crate::event::{Fact, Output};
use crate::failure::TaskFailure;
use crate::ids::{AttemptId, ExecutorId, JobId, StageId};
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Maximum outputs that move from one executor at a time, and to one executor at a time.
const AT_A_TIME: u32 = 16;
const ROUND: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Departures {
    /// Executors that drain, or that were told farewell.
    leaving: BTreeMap<ExecutorId, Departure>,
    /// Outputs on their way.
    moving: BTreeMap<AttemptId, Move>,
    adopters: BTreeMap<ExecutorId, Adopter>,
}

#[derive(Debug)]
struct Departure {
    since: Instant,
    round: Instant,
    /// Outputs that are needed and are not moving yet.
    waiting: BTreeSet<AttemptId>,
    /// Outputs on their way from here.
    moving: u32,
    /// Stages with outputs that have moved. Readers launched before still come here for them.
    moved: BTreeSet<StageId>,
    /// Those readers, listed when nothing else is needed any more.
    readers: Option<BTreeSet<(ExecutorId, AttemptId)>>,
    /// Executors that refused an output in this round.
    refused: BTreeSet<ExecutorId>,
}

#[derive(Clone, Copy, Debug)]
struct Move {
    from: ExecutorId,
    to: ExecutorId,
    bytes: u64,
}

/// Outputs that one executor takes over from those that leave.
#[derive(Clone, Copy, Debug, Default)]
struct Adopter {
    /// Outputs on their way to it.
    moving: u32,
    /// Bytes that it was asked to adopt and did not refuse.
    bytes: u64,
}

impl Departures {
    pub fn is_empty(&self) -> bool {
        self.leaving.is_empty() && self.moving.is_empty()
    }

    /// Notes an output that was committed on an executor. It will move if that executor drains.
    pub fn committed(&mut self, executor: ExecutorId, output: AttemptId) {
        if let Some(departure) = self.leaving.get_mut(&executor) {
            departure.waiting.insert(output);
        }
    }

    /// Executors that adopt outputs of the job at present.
    pub fn adopters_of(&self, job: JobId) -> impl Iterator<Item = ExecutorId> {
        self.moving.range(job.attempts()).map(|(_, on_its_way)| on_its_way.to)
    }

    /// Forgets moves of the job's outputs, except for those of stage `keep`.
    pub fn forget_job(&mut self, job: JobId, keep: Option<u32>) {
        let moving = self.moving.range(job.attempts()).map(|(&output, _)| output);
        let over: Vec<_> = moving.filter(|output| Some(output.stage().index) != keep).collect();
        over.into_iter().for_each(|output| _ = self.end_move(output));
    }

    fn begin_move(&mut self, output: AttemptId, on_its_way: Move) {
        let adopter = self.adopters.entry(on_its_way.to).or_default();
        adopter.moving += 1;
        adopter.bytes = adopter.bytes.saturating_add(on_its_way.bytes);
        if let Some(departure) = self.leaving.get_mut(&on_its_way.from) {
            departure.moving += 1;
        }
        self.moving.insert(output, on_its_way);
    }

    fn end_move(&mut self, output: AttemptId) -> Option<Move> {
        let ended = self.moving.remove(&output)?;
        if let Some(adopter) = self.adopters.get_mut(&ended.to) {
            adopter.moving -= 1;
        }
        if let Some(departure) = self.leaving.get_mut(&ended.from) {
            departure.moving -= 1;
        }
        Some(ended)
    }

    fn end_failed_move(&mut self, output: AttemptId) -> Option<Move> {
        let ended = self.end_move(output)?;
        if let Some(adopter) = self.adopters.get_mut(&ended.to) {
            adopter.bytes = adopter.bytes.saturating_sub(ended.bytes);
        }
        Some(ended)
    }

    /// The executor with the fewest bytes to adopt, among those that have not refused.
    fn adopter(&self, departure: &Departure, executors: &Executors) -> Option<ExecutorId> {
        let candidates = executors.iter().filter(|e| executors.is_live(e.spec.id)).filter_map(|executor| {
            let id = executor.spec.id;
            let Adopter { moving, bytes } = self.adopters.get(&id).copied().unwrap_or_default();
            (moving < AT_A_TIME && !departure.refused.contains(&id)).then_some((bytes, moving, id))
        });
        candidates.min().map(|(_, _, id)| id)
    }
}

impl Scheduler {
    pub(super) fn drain_executor(&mut self, now: Instant, id: ExecutorId) {
        if !self.hear(now, id) || !self.executors.is_live(id) {
            return;
        }
        let deadline = now + self.config.drain_deadline;
        self.executors.drain(id, deadline);
        self.unstick_all();
        self.timers.set(deadline, Timer::Drain(id));
        let departure = Departure {
            since: now,
            round: now + ROUND,
            waiting: self.needed_outputs_on(id),
            moving: 0,
            moved: BTreeSet::new(),
            readers: None,
            refused: BTreeSet::new(),
        };
        self.timers.set(departure.round, Timer::Round(id));
        self.departures.leaving.insert(id, departure);
    }

    /// Ends a drain that took too long: the executor may go, and its outputs are computed again afterwards.
    pub(super) fn end_drain(&mut self, now: Instant, id: ExecutorId) {
        self.executors.leave(id);
        self.orders.farewell(id);
        if let Some(departure) = self.departures.leaving.get_mut(&id) {
            self.timers.clear(departure.round, Timer::Round(id));
            departure.waiting.clear();
        }
        self.strand_jobs(now);
    }

    /// Asks again for outputs that could not be moved, and hands back tasks that take too long.
    pub(super) fn next_round(&mut self, now: Instant, id: ExecutorId, output: &mut Output) {
        let needed = self.needed_outputs_on(id);
        let Some(departure) = self.departures.leaving.get_mut(&id) else { return };
        departure.waiting = needed;
        departure.refused.clear();
        departure.round = now + ROUND;
        self.timers.set(departure.round, Timer::Round(id));
        if now.since(departure.since) >= self.config.hand_back_after && self.executors.live() > 0 {
            self.hand_back(id, output);
        }
    }

    /// Stops the attempts on the executor; the others start them again.
    fn hand_back(&mut self, id: ExecutorId, output: &mut Output) {
        let Some(executor) = self.executors.get(id) else { return };
        let running: Vec<_> = executor.running.iter().filter(|&(_, &wanted)| wanted).map(|(&a, _)| a).collect();
        let mut touched = BTreeMap::new();
        // What runs once has until the executor leaves.
        for attempt in running.into_iter().filter(|attempt| !self.is_once(attempt.stage())).collect::<Vec<_>>() {
            self.executors.unwant(id, attempt);
            self.orders.cancel(id, attempt);
            let error = self.retry_uncounted(attempt, TaskFailure::ExecutorLost { executor: id });
            let failed = touched.entry(attempt.job()).or_insert(None);
            *failed = failed.take().or(error);
        }
        for (job, failed) in touched {
            match failed {
                Some(error) => self.fail_job(job, error, output),
                None => self.settle(job, output),
            }
        }
    }

    /// Committed outputs on the executor that are read later, or are kept, and that are not moving.
    fn needed_outputs_on(&self, id: ExecutorId) -> BTreeSet<AttemptId> {
        let Some(executor) = self.executors.get(id) else { return BTreeSet::new() };
        let stages = executor.stages.iter().filter(|(stage, share)| share.committed > 0 && self.is_read_later(**stage));
        let outputs = stages.flat_map(|(stage, _)| self.outputs_of(*stage));
        let here = outputs.filter(|&(at, output)| at == id && !self.departures.moving.contains_key(&output));
        here.map(|(_, output)| output).collect()
    }

    fn outputs_of(&self, stage: StageId) -> Vec<(ExecutorId, AttemptId)> {
        let kept = self.retained.get(&stage.job).filter(|kept| kept.stage == stage).map(|kept| &kept.outputs);
        let locations = match self.jobs.get(&stage.job) {
            Some(job) => job.outputs(stage.index),
            None => kept.cloned().unwrap_or_default(),
        };
        locations.iter().map(|at| (at.executor, stage.task(at.partition).attempt(at.attempt))).collect()
    }

    /// Whether unfinished work reads the outputs of the stage, or they are a result that was not released.
    fn is_read_later(&self, stage: StageId) -> bool {
        match self.jobs.get(&stage.job) {
            Some(job) => job.needs(stage.index),
            None => self.retained.get(&stage.job).is_some_and(|kept| kept.stage == stage),
        }
    }

    /// Starts moves of outputs from leaving executors, up to the limit.
    pub(super) fn move_outputs(&mut self) {
        if self.departures.is_empty() || self.executors.live() == 0 {
            return;
        }
        let leaving: Vec<_> = self.departures.leaving.keys().copied().collect();
        for from in leaving {
            while let Some(output) = self.next_to_move(from)
                && let Some(departure) = self.departures.leaving.get_mut(&from)
            {
                departure.waiting.remove(&output);
                let Some(bytes) = self.bytes_of(output, from).filter(|_| self.is_read_later(output.stage())) else {
                    continue;
                };
                let departure = &self.departures.leaving[&from];
                let Some(to) = self.departures.adopter(departure, &self.executors) else {
                    self.departures.committed(from, output);
                    break;
                };
                self.departures.begin_move(output, Move { from, to, bytes });
                self.executors.coming(to, output.stage());
                self.orders.adopt(to, from, output);
                #[cfg(test)]
                if self.config.defect == Some(Defect::LeakAdoptions) {
                    continue;
                }
                if let Some(job) = self.jobs.get_mut(&output.job()) {
                    job.executors.insert(to);
                }
            }
        }
    }

    fn next_to_move(&self, from: ExecutorId) -> Option<AttemptId> {
        let departure = self.departures.leaving.get(&from)?;
        departure.waiting.first().copied().filter(|_| departure.moving < AT_A_TIME)
    }

    /// Size of an output that is committed on the executor; `None` when it is not committed there. The size of kept results is not known.
    fn bytes_of(&self, output: AttemptId, executor: ExecutorId) -> Option<u64> {
        if !self.is_committed(executor, output) {
            return None;
        }
        let task = self.jobs.get(&output.job()).and_then(|job| job.task(output.stage().index, output.task.partition));
        match task.map(|task| task.state) {
            Some(TaskState::Committed { bytes, .. }) => Some(bytes),
            _ => Some(0),
        }
    }

    /// Handles a report about moves from a member. The one place where such reports are fenced.
    pub(super) fn outputs_moved(
        &mut self,
        id: ExecutorId,
        moved: Vec<AttemptId>,
        failed: Vec<(AttemptId, String)>,
        output: &mut Output,
    ) {
        for adopted in moved {
            let expected = self.departures.moving.get(&adopted).is_some_and(|on_its_way| on_its_way.to == id);
            #[cfg(test)]
            let expected = expected || self.config.defect == Some(Defect::TrustAdopters);
            let ended = if expected { self.departures.end_move(adopted) } else { None };
            #[cfg(test)]
            let ended = ended.map(|ended| Move { to: id, ..ended });
            let arrived = ended.is_some_and(|Move { from, to, .. }| {
                self.executors.not_coming(to, adopted.stage());
                self.relocate(adopted, from, to, output)
            });
            // An output that nobody waits for is dropped, unless readers are sent to it.
            if arrived || self.is_committed(id, adopted) {
                continue;
            }
            output.facts.push(Fact::ReportFenced { attempt: adopted, executor: id });
            #[cfg(test)]
            if self.config.defect == Some(Defect::LeakAdoptions) {
                continue;
            }
            self.orders.cancel(id, adopted);
        }
        for (refused, reason) in failed {
            if self.departures.moving.get(&refused).is_none_or(|on_its_way| on_its_way.to != id) {
                continue;
            }
            let Some(Move { from, to, .. }) = self.departures.end_failed_move(refused) else { continue };
            self.not_coming(to, refused);
            output.facts.push(Fact::OutputNotMoved { output: refused, from, to, reason });
            if let Some(departure) = self.departures.leaving.get_mut(&from) {
                departure.waiting.insert(refused);
                departure.refused.insert(to);
            }
        }
    }

    /// Sends readers of the output to `to` from here on. Returns whether the output at `from` still counted.
    fn relocate(&mut self, moved: AttemptId, from: ExecutorId, to: ExecutorId, output: &mut Output) -> bool {
        if !self.is_committed(from, moved) {
            return false;
        }
        let (stage, partition) = (moved.stage(), moved.task.partition);
        if let Some(job) = self.jobs.get_mut(&stage.job) {
            job.relocate(stage.index, partition, to);
            self.unsaved.insert(stage.job);
        } else if let Some(kept) = self.retained.get_mut(&stage.job)
            && let Ok(at) = kept.outputs.binary_search_by_key(&partition, |output| output.partition)
        {
            kept.outputs[at].executor = to;
        }
        self.executors.uncommitted(from, stage);
        self.executors.committed(to, stage);
        output.facts.push(Fact::OutputMoved { output: moved, from, to });
        if let Some(departure) = self.departures.leaving.get_mut(&from) {
            departure.moved.insert(stage);
        }
        self.departures.committed(to, moved);
        true
    }

    /// Forgets an executor that is gone. Outputs on their way to it must go elsewhere; outputs on their way from it are lost.
    pub(super) fn forget_departure(&mut self, id: ExecutorId) {
        if let Some(departure) = self.departures.leaving.remove(&id) {
            self.timers.clear(departure.round, Timer::Round(id));
        }
        let of_it = self.departures.moving.iter().filter(|(_, m)| m.from == id || m.to == id);
        let stopped: Vec<_> = of_it.map(|(&output, _)| output).collect();
        for output in stopped {
            let Some(Move { from, to, .. }) = self.departures.end_failed_move(output) else { continue };
            self.not_coming(to, output);
            self.departures.committed(from, output);
        }
        self.departures.adopters.remove(&id);
    }

    /// Notes that an output will not arrive. For a running job, all its outputs on the adopter are dropped when the job ends; for a kept result, an adopter
    /// that has none of it is not asked to drop it.
    fn not_coming(&mut self, to: ExecutorId, output: AttemptId) {
        let (job, stage) = (output.job(), output.stage());
        self.executors.not_coming(to, stage);
        if !self.jobs.contains_key(&job) {
            self.orders.drop_outputs(to, self.executors.drop_job(to, job, Some(stage.index)));
        }
    }

    /// Lets draining executors go once nobody needs them.
    pub(super) fn bid_farewell(&mut self, now: Instant) {
        if !self.executors.any_draining() {
            return;
        }
        let draining: Vec<_> = self.executors.draining().map(|e| (e.spec.id, e.state, self.is_needed(e))).collect();
        for (id, state, is_needed) in draining {
            if is_needed {
                self.departures.leaving.entry(id).and_modify(|departure| departure.readers = None);
            } else if !self.has_readers(id) {
                if let super::ExecutorState::Draining { deadline } = state {
                    self.timers.clear(deadline, Timer::Drain(id));
                }
                self.end_drain(now, id);
            }
        }
    }

    fn is_needed(&self, executor: &Executor) -> bool {
        #[cfg(test)]
        if self.config.defect == Some(Defect::FarewellBeforeMoved) && executor.running.is_empty() {
            return false;
        }
        !executor.running.is_empty()
            || executor.stages.iter().any(|(&stage, share)| share.committed > 0 && self.is_read_later(stage))
    }

    /// Whether attempts still run that may have been told that the executor holds an output which has moved since. They would lose their work if it left.
    fn has_readers(&mut self, id: ExecutorId) -> bool {
        let Some(departure) = self.departures.leaving.get(&id) else { return false };
        let readers = match &departure.readers {
            Some(_) => None,
            None if departure.moved.is_empty() => return false,
            None => Some(self.readers_of(&departure.moved)),
        };
        let Some(departure) = self.departures.leaving.get_mut(&id) else { return false };
        let readers = match readers {
            Some(readers) => departure.readers.insert(readers),
            None => departure.readers.get_or_insert_default(),
        };
        while let Some(&(executor, reader)) = readers.first() {
            if self.executors.is_wanted(executor, reader) {
                return true;
            }
            readers.pop_first();
        }
        false
    }

    /// Wanted attempts of stages that read one of these.
    fn readers_of(&self, producers: &BTreeSet<StageId>) -> BTreeSet<(ExecutorId, AttemptId)> {
        let reads = |attempt: &AttemptId| {
            let stage = attempt.stage();
            let spec = self.jobs.get(&stage.job).and_then(|job| job.spec.stages.get(stage.index as usize));
            spec.is_some_and(|spec| spec.inputs.iter().any(|input| producers.contains(&stage.job.stage(input.stage))))
        };
        let running = self.executors.iter().flat_map(|executor| {
            let wanted = executor.running.iter().filter(|&(_, &wanted)| wanted);
            wanted.map(|(&attempt, _)| (executor.spec.id, attempt))
        });
        running.filter(|(_, attempt)| reads(attempt)).collect()
    }
}
