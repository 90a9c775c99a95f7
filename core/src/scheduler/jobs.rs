//! The state of one running job: its stages, their tasks, and how a lost output travels up the lineage.
//!
//! A job settles after every change that may open or close a stage. First backward, from the result to the scans: lost outputs that unfinished readers need
//! return to the queue. Then forward: stages finish and their readers become ready.

use super::pending::Pending;
use super::speculation::{Copy, Times};
use crate::event::{Fact, JobError};
use crate::ids::{AttemptId, ExecutorId, JobId, StageId};
use crate::job::{FinishedOutput, JobSpec, MapLocation, Once, Read, StageSpec};
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Outputs times buckets above which the primary does not track where the bytes of a bucket lie.
const WEIGHED_BUCKETS: u64 = 10_000;

#[derive(Debug)]
pub(super) struct Job {
    pub spec: Arc<JobSpec>,
    pub pool: Arc<str>,
    pub submitted: Instant,
    /// Time at which the job fails unless it has ended, and the time limit that led to it.
    pub deadline: Option<(Instant, Duration)>,
    pub started: bool,
    pub stages: Vec<Stage>,
    /// Running attempts that are wanted.
    pub running: u32,
    /// Stages with tasks that could start.
    pub runnable: BTreeSet<u32>,
    /// Executors that may hold outputs or run attempts.
    pub executors: BTreeSet<ExecutorId>,
    /// Stages that have finished, or some of whose outputs have moved, since they were last saved.
    pub unsaved: BTreeSet<u32>,
    /// Whether anything of the job is saved.
    pub saved: bool,
    /// Time since which no executor could run it.
    pub stranded: Option<Instant>,
    /// Whether tasks of a stage that runs once may begin again: only a planted defect says so.
    #[cfg(test)]
    pub runs_twice: bool,
}

#[derive(Debug)]
pub(super) struct Stage {
    pub id: StageId,
    pub tasks: Vec<Task>,
    pub pending: Pending,
    pub running: u32,
    pub committed: u32,
    pub spared: u32,
    /// Tasks in `TaskState::Lost`.
    pub lost: BTreeSet<u32>,
    /// Sum over committed tasks.
    pub rows: u64,
    pub bytes: u64,
    pub started: bool,
    /// Whether all inputs are complete.
    pub ready: bool,
    /// Whether every output that readers need exists.
    pub finished: bool,
    /// Stages that read this one.
    readers: Vec<u32>,
    /// Maximum tasks of the stage that may run together on one executor.
    pub cap: u32,
    /// Tasks that have failed before.
    pub trouble: BTreeMap<u32, Trouble>,
    /// Failures that speak against an executor, by executor.
    pub failed_on: BTreeMap<ExecutorId, u32>,
    /// Executors with too many such failures.
    pub excluded: BTreeSet<ExecutorId>,
    /// Executor that holds most of each task's input, by partition; empty when not known.
    pub near: Vec<Option<ExecutorId>>,
    /// Second attempts of running tasks.
    pub copies: BTreeMap<u32, Copy>,
    /// Durations of committed tasks.
    pub times: Times,
    /// Whether a timer for stragglers is set.
    pub watched: bool,
    /// Whether no executor with a free slot suits the waiting tasks, except perhaps those that have offered slots since.
    pub stuck: bool,
    /// Time at which the stage first waited for a preferred host.
    pub holding_out: Option<Instant>,
    locations: Option<Arc<[MapLocation]>>,
    inputs: Option<Arc<[Arc<[MapLocation]>]>>,
    /// Bytes by (partition, bucket), until the stage first finishes; empty when they are not tracked.
    bucket_bytes: Vec<u64>,
    /// The executor with more than half of the bytes of each bucket, from when the stage first finished.
    majority: Vec<Option<ExecutorId>>,
}

/// One task. There may be hundreds of thousands, so state that few tasks have stands in `Stage::trouble`.
#[derive(Debug)]
pub(super) struct Task {
    pub state: TaskState,
    /// Attempts launched so far.
    pub attempts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskState {
    Pending,
    Running {
        attempt: u32,
        executor: ExecutorId,
        since: Instant,
    },
    Committed {
        attempt: u32,
        executor: ExecutorId,
        rows: u64,
        bytes: u64,
    },
    /// Its output was lost. The task runs again when a reader needs it.
    Lost,
    /// Not needed: other tasks reached the row limit of the stage.
    Spared,
}

#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Failures that count against the task.
    pub counted: u32,
    /// Retries for reasons outside the task.
    pub uncounted: u32,
    /// Times that readers could not fetch its output.
    pub recomputes: u32,
    /// Executors to avoid while there are others.
    pub avoid: Vec<ExecutorId>,
}

impl Trouble {
    pub fn avoid(&mut self, executor: ExecutorId) {
        if !self.avoid.contains(&executor) {
            self.avoid.push(executor);
        }
    }
}

/// Consequences of a commit.
pub(super) struct Committed {
    /// Attempts that became superfluous: the other attempt of the task, and all others when the row limit is reached.
    pub superfluous: Vec<(ExecutorId, AttemptId)>,
    /// Whether the stage is done, so that the job has to settle.
    pub stage_done: bool,
}

impl Job {
    pub fn new(spec: Arc<JobSpec>, pool: Arc<str>, submitted: Instant, deadline: Option<(Instant, Duration)>) -> Self {
        let mut stages: Vec<_> =
            spec.stages.iter().enumerate().map(|(i, s)| Stage::new(spec.id.stage(i as u32), s)).collect();
        for (reader, stage) in spec.stages.iter().enumerate() {
            for input in &stage.inputs {
                let readers = &mut stages[input.stage as usize].readers;
                if readers.last() != Some(&(reader as u32)) {
                    readers.push(reader as u32);
                }
                let producer = &spec.stages[input.stage as usize];
                let weighed = u64::from(producer.tasks) * u64::from(producer.buckets);
                if input.read == Read::Bucket && stage.tasks > 1 && weighed <= WEIGHED_BUCKETS {
                    stages[input.stage as usize].bucket_bytes = vec![0; weighed as usize];
                }
            }
        }
        Job {
            spec,
            pool,
            submitted,
            deadline,
            started: false,
            stages,
            running: 0,
            runnable: BTreeSet::new(),
            executors: BTreeSet::new(),
            unsaved: BTreeSet::new(),
            saved: false,
            stranded: None,
            #[cfg(test)]
            runs_twice: false,
        }
    }

    pub fn id(&self) -> JobId {
        self.spec.id
    }

    pub fn task(&self, stage: u32, partition: u32) -> Option<&Task> {
        self.stages.get(stage as usize)?.tasks.get(partition as usize)
    }

    /// Whether the job's only task waits, has no history of failures, and does little. After a failure of any kind it needs a slot.
    pub fn may_run_beside(&self) -> bool {
        let [stage] = &self.stages[..] else { return false };
        self.spec.light
            && !self.is_once(0)
            && stage.tasks.len() == 1
            && stage.trouble.is_empty()
            && !self.runnable.is_empty()
    }

    /// Whether a task waits for a slot.
    pub fn wants_slots(&self) -> bool {
        self.runnable.iter().any(|&stage| !self.is_once(stage))
    }

    /// The first stage with a task that waits for a place of a program.
    pub fn waiting_program(&self) -> Option<u32> {
        self.runnable.iter().copied().find(|&stage| self.is_once(stage))
    }

    /// Whether the result stage is complete.
    pub fn done(&self) -> bool {
        self.stages.last().is_some_and(|stage| stage.finished)
    }

    /// Committed outputs of the result stage, by partition.
    pub fn result(&self) -> Vec<MapLocation> {
        self.stages.last().map_or_else(Vec::new, |stage| stage.committed_outputs().collect())
    }

    /// Whether unfinished work still reads the outputs of the stage.
    pub fn needs(&self, stage: u32) -> bool {
        let is_result = stage as usize + 1 == self.stages.len();
        is_result || self.stages[stage as usize].readers.iter().any(|&r| self.stages[r as usize].has_work())
    }

    /// Sets the first attempt number of all tasks. To be called before the first task starts.
    pub fn number_attempts_from(&mut self, first: u32) {
        self.stages.iter_mut().flat_map(|stage| &mut stage.tasks).for_each(|task| task.attempts = first);
    }

    /// Takes over these outputs for the stage, marks the others as lost, and returns those taken. To be called before the first task starts.
    pub fn take_over(&mut self, stage: u32, there: &[FinishedOutput]) -> Vec<FinishedOutput> {
        let s = &mut self.stages[stage as usize];
        // Bytes by bucket are not saved, so they do not affect the placement of readers.
        s.bucket_bytes = Vec::new();
        s.lost = s.pending.take();
        s.tasks.iter_mut().for_each(|task| task.state = TaskState::Lost);
        let mut taken = Vec::with_capacity(there.len());
        for &kept in there {
            let FinishedOutput { location: MapLocation { partition, attempt, executor }, rows, bytes } = kept;
            if s.lost.remove(&partition) {
                s.tasks[partition as usize].state = TaskState::Committed { attempt, executor, rows, bytes };
                s.committed += 1;
                s.rows = s.rows.saturating_add(rows);
                s.bytes = s.bytes.saturating_add(bytes);
                taken.push(kept);
            }
        }
        taken
    }

    /// The committed outputs of a stage, by partition.
    pub fn kept(&self, stage: u32) -> Vec<FinishedOutput> {
        self.stages[stage as usize].committed().collect()
    }

    /// Starts a pending task on `executor`.
    pub fn launch(&mut self, stage: u32, partition: u32, executor: ExecutorId, now: Instant) -> AttemptId {
        let s = &mut self.stages[stage as usize];
        let task = &mut s.tasks[partition as usize];
        debug_assert_eq!(task.state, TaskState::Pending);
        let attempt = s.id.task(partition).attempt(task.attempts);
        task.state = TaskState::Running { attempt: task.attempts, executor, since: now };
        task.attempts += 1;
        s.pending.remove(partition, &self.spec.stages[stage as usize]);
        s.running += 1;
        if s.pending.is_empty() {
            s.holding_out = None;
            self.runnable.remove(&stage);
        }
        self.running += 1;
        self.executors.insert(executor);
        attempt
    }

    /// Starts a second attempt of a running task on `executor`.
    pub fn launch_copy(&mut self, stage: u32, partition: u32, executor: ExecutorId, now: Instant) -> AttemptId {
        let s = &mut self.stages[stage as usize];
        let task = &mut s.tasks[partition as usize];
        let number = task.attempts;
        task.attempts += 1;
        s.copies.insert(partition, Copy { attempt: number, executor, since: now });
        s.running += 1;
        self.running += 1;
        self.executors.insert(executor);
        s.id.task(partition).attempt(number)
    }

    /// Ends a running attempt without an output: its task waits again, unless another attempt of it runs. Returns whether the other one is the first attempt,
    /// so that the ended one was only a copy.
    pub fn requeue(&mut self, attempt: AttemptId) -> bool {
        let (stage, partition) = (attempt.stage().index, attempt.task.partition);
        self.running -= 1;
        let s = &mut self.stages[stage as usize];
        s.running -= 1;
        if let Some(Copy { attempt: number, executor, since }) = s.copies.remove(&partition) {
            if number == attempt.attempt {
                return true;
            }
            s.tasks[partition as usize].state = TaskState::Running { attempt: number, executor, since };
            return false;
        }
        s.wait(partition, &self.spec.stages[stage as usize]);
        if s.ready {
            self.runnable.insert(stage);
        }
        false
    }

    /// Makes the output of a running attempt the task's output.
    pub fn commit(
        &mut self,
        now: Instant,
        attempt: AttemptId,
        executor: ExecutorId,
        rows: u64,
        bucket_bytes: &[u64],
    ) -> Committed {
        let stage = attempt.stage().index;
        self.invalidate_locations(stage);
        let spec = &self.spec.stages[stage as usize];
        let s = &mut self.stages[stage as usize];
        let partition = attempt.task.partition;
        let bytes = bucket_bytes.iter().fold(0u64, |sum, &b| sum.saturating_add(b));
        let mut superfluous: Vec<_> = s.other_attempt(now, attempt).into_iter().collect();
        s.tasks[partition as usize].state = TaskState::Committed { attempt: attempt.attempt, executor, rows, bytes };
        s.running -= 1 + superfluous.len() as u32;
        s.committed += 1;
        s.rows = s.rows.saturating_add(rows);
        s.bytes = s.bytes.saturating_add(bytes);
        s.weigh(partition, spec.buckets, bucket_bytes);
        if !s.is_complete() && s.enough_rows(spec) {
            superfluous.extend(s.spare());
            self.runnable.remove(&stage);
        }
        self.running -= 1 + superfluous.len() as u32;
        Committed { superfluous, stage_done: self.stages[stage as usize].is_complete() }
    }

    /// Marks the outputs of a stage on `executor` as lost. The job has to settle.
    pub fn lose_outputs_on(&mut self, stage: u32, executor: ExecutorId) {
        let tasks = &self.stages[stage as usize].tasks;
        let is_there = |task: &Task| matches!(task.state, TaskState::Committed { executor: e, .. } if e == executor);
        let lost: Vec<_> = (0u32..).zip(tasks).filter(|(_, task)| is_there(task)).map(|(p, _)| p).collect();
        for partition in lost {
            self.lose_output(stage, partition);
        }
    }

    /// Locations of the committed outputs of a stage, by partition.
    pub fn outputs(&self, stage: u32) -> Vec<MapLocation> {
        self.stages[stage as usize].committed_outputs().collect()
    }

    /// Notes that a committed output has moved to another executor.
    pub fn relocate(&mut self, stage: u32, partition: u32, to: ExecutorId) {
        self.invalidate_locations(stage);
        let task = &mut self.stages[stage as usize].tasks[partition as usize];
        if let TaskState::Committed { executor, .. } = &mut task.state {
            *executor = to;
            self.executors.insert(to);
            self.unsaved.insert(stage);
        }
    }

    /// Marks a committed output as lost. The job has to settle.
    pub fn lose_output(&mut self, stage: u32, partition: u32) {
        self.invalidate_locations(stage);
        let s = &mut self.stages[stage as usize];
        let task = &mut s.tasks[partition as usize];
        if let TaskState::Committed { rows, bytes, .. } = task.state {
            task.state = TaskState::Lost;
            s.rows = s.rows.saturating_sub(rows);
            s.bytes = s.bytes.saturating_sub(bytes);
            s.committed -= 1;
            s.lost.insert(partition);
        }
    }

    /// Reopens, finishes and readies stages until nothing changes any more.
    pub fn settle(&mut self, facts: &mut Vec<Fact>) {
        for stage in (0..self.stages.len() as u32).rev() {
            if !self.stages[stage as usize].lost.is_empty() && self.needs(stage) && !self.is_once(stage) {
                let spec = &self.spec.stages[stage as usize];
                self.stages[stage as usize].reopen(spec, facts);
            }
        }
        for stage in 0..self.stages.len() {
            let complete = self.stages[stage].is_complete();
            if complete && !self.stages[stage].finished {
                self.stages[stage].finish(&self.spec.stages[stage], facts);
                self.unsaved.insert(stage as u32);
            }
            self.stages[stage].finished = complete;
            let inputs = &self.spec.stages[stage].inputs;
            let ready = inputs.iter().all(|input| self.stages[input.stage as usize].finished);
            if ready && !self.stages[stage].ready {
                self.stages[stage].near = self.near(stage);
                self.stages[stage].stuck = false;
            }
            self.stages[stage].ready = ready;
            if ready && !self.stages[stage].pending.is_empty() {
                self.runnable.insert(stage as u32);
            } else {
                self.runnable.remove(&(stage as u32));
            }
        }
    }

    /// Whether tasks of the stage begin only once.
    pub fn is_once(&self, stage: u32) -> bool {
        self.once(stage).is_some()
    }

    pub fn once(&self, stage: u32) -> Option<Once> {
        #[cfg(test)]
        if self.runs_twice {
            return None;
        }
        self.spec.stages.get(stage as usize)?.once
    }

    /// The reason why the job cannot go on under this leader: tasks of a stage that runs only once may have begun under an earlier one, and did not end.
    pub fn begun_before(&self) -> Option<JobError> {
        let unfinished = |stage: &u32| self.is_once(*stage) && !self.stages[*stage as usize].is_complete();
        let stage = (0..self.stages.len() as u32).find(unfinished)?;
        let reason = "another primary leads since it may have begun".to_string();
        Some(JobError::Once { stage: self.id().stage(stage), reason })
    }

    /// The reason why the job must fail: needed outputs of a stage that runs only once are gone.
    pub fn lost_for_good(&self) -> Option<JobError> {
        let lost =
            |stage: &u32| self.is_once(*stage) && !self.stages[*stage as usize].lost.is_empty() && self.needs(*stage);
        let stage = (0..self.stages.len() as u32).find(lost)?;
        Some(JobError::Once { stage: self.id().stage(stage), reason: "its output was lost".to_string() })
    }

    /// Locations of the inputs of a stage. Shared by all launches until an output moves.
    pub fn inputs(&mut self, stage: u32) -> Arc<[Arc<[MapLocation]>]> {
        if let Some(inputs) = &self.stages[stage as usize].inputs {
            return inputs.clone();
        }
        let spec = &self.spec.stages[stage as usize];
        let inputs = spec.inputs.iter().map(|input| self.stages[input.stage as usize].locations()).collect();
        self.stages[stage as usize].inputs.insert(inputs).clone()
    }

    fn invalidate_locations(&mut self, stage: u32) {
        self.stages[stage as usize].locations = None;
        for i in 0..self.stages[stage as usize].readers.len() {
            let reader = self.stages[stage as usize].readers[i];
            self.stages[reader as usize].inputs = None;
        }
    }

    /// The executor that holds most of the input, for each task of a stage that has become ready.
    fn near(&self, stage: usize) -> Vec<Option<ExecutorId>> {
        let spec = &self.spec.stages[stage];
        if !spec.preferences.is_empty() {
            return Vec::new();
        }
        let producers = || spec.inputs.iter().map(|input| &self.stages[input.stage as usize]);
        if spec.tasks == 1 {
            if producers().map(|p| p.tasks.len() as u64).sum::<u64>() > WEIGHED_BUCKETS {
                return Vec::new();
            }
            let mut bytes_on = BTreeMap::<ExecutorId, u64>::new();
            for task in producers().flat_map(|p| &p.tasks) {
                if let TaskState::Committed { executor, bytes, .. } = task.state {
                    add(&mut bytes_on, executor, bytes);
                }
            }
            return vec![heaviest(&bytes_on)];
        }
        let largest = producers().filter(|p| p.majority.len() == spec.tasks as usize).max_by_key(|p| p.bytes);
        largest.map_or_else(Vec::new, |p| p.majority.clone())
    }
}

impl Stage {
    fn new(id: StageId, spec: &StageSpec) -> Self {
        Stage {
            id,
            tasks: (0..spec.tasks).map(|_| Task { state: TaskState::Pending, attempts: 0 }).collect(),
            pending: Pending::new(spec),
            running: 0,
            committed: 0,
            spared: 0,
            lost: BTreeSet::new(),
            rows: 0,
            bytes: 0,
            started: false,
            ready: false,
            finished: false,
            readers: Vec::new(),
            cap: u32::MAX,
            trouble: BTreeMap::new(),
            near: Vec::new(),
            failed_on: BTreeMap::new(),
            excluded: BTreeSet::new(),
            copies: BTreeMap::new(),
            times: Times::default(),
            watched: false,
            stuck: false,
            holding_out: None,
            locations: None,
            inputs: None,
            bucket_bytes: Vec::new(),
            majority: Vec::new(),
        }
    }

    /// Whether tasks wait or run.
    pub fn has_work(&self) -> bool {
        self.running > 0 || !self.pending.is_empty()
    }

    fn is_complete(&self) -> bool {
        self.committed as usize + self.spared as usize == self.tasks.len()
    }

    fn enough_rows(&self, spec: &StageSpec) -> bool {
        spec.row_limit.is_some_and(|limit| self.rows >= limit)
    }

    pub fn trouble(&mut self, partition: u32) -> &mut Trouble {
        self.trouble.entry(partition).or_default()
    }

    fn wait(&mut self, partition: u32, spec: &StageSpec) {
        self.tasks[partition as usize].state = TaskState::Pending;
        self.pending.insert(partition, spec);
        self.stuck = false;
    }

    /// Notes the duration of a finished attempt, and returns the other attempt of its task, if there is one.
    fn other_attempt(&mut self, now: Instant, finished: AttemptId) -> Option<(ExecutorId, AttemptId)> {
        let partition = finished.task.partition;
        let TaskState::Running { attempt, executor, since } = self.tasks[partition as usize].state else { return None };
        let copy = self.copies.remove(&partition);
        let (since, other) = match copy {
            Some(copy) if copy.attempt == finished.attempt => (copy.since, Some((executor, attempt))),
            copy => (since, copy.map(|copy| (copy.executor, copy.attempt))),
        };
        self.times.note(now.since(since));
        other.map(|(executor, attempt)| (executor, finished.task.attempt(attempt)))
    }

    /// Spares all tasks that are not committed and returns their running attempts, which are superfluous.
    fn spare(&mut self) -> Vec<(ExecutorId, AttemptId)> {
        let mut superfluous = Vec::new();
        for (task, partition) in self.tasks.iter_mut().zip(0..) {
            match task.state {
                TaskState::Committed { .. } | TaskState::Spared => continue,
                TaskState::Pending | TaskState::Lost => {}
                TaskState::Running { attempt, executor, .. } => {
                    superfluous.push((executor, self.id.task(partition).attempt(attempt)));
                }
            }
            task.state = TaskState::Spared;
            self.spared += 1;
        }
        let copies = std::mem::take(&mut self.copies).into_iter();
        superfluous.extend(copies.map(|(at, copy)| (copy.executor, self.id.task(at).attempt(copy.attempt))));
        self.pending.take();
        self.lost.clear();
        self.running = 0;
        self.holding_out = None;
        superfluous
    }

    /// Puts lost tasks back in the queue, unless the remaining rows suffice.
    fn reopen(&mut self, spec: &StageSpec, facts: &mut Vec<Fact>) {
        let lost = std::mem::take(&mut self.lost);
        if self.enough_rows(spec) {
            for &partition in &lost {
                self.tasks[partition as usize].state = TaskState::Spared;
            }
            self.spared += lost.len() as u32;
            return;
        }
        for &partition in &lost {
            self.wait(partition, spec);
        }
        if self.spared > 0 {
            self.spared = 0;
            for partition in 0..spec.tasks {
                if self.tasks[partition as usize].state == TaskState::Spared {
                    self.wait(partition, spec);
                }
            }
        }
        facts.push(Fact::StageReopened { stage: self.id, partitions: lost.into_iter().collect() });
    }

    fn finish(&mut self, spec: &StageSpec, facts: &mut Vec<Fact>) {
        facts.push(Fact::StageFinished { stage: self.id, rows: self.rows, bytes: self.bytes });
        let bucket_bytes = std::mem::take(&mut self.bucket_bytes);
        if bucket_bytes.is_empty() {
            return;
        }
        let buckets = spec.buckets as usize;
        self.majority = (0..buckets)
            .map(|bucket| {
                let mut bytes_on = BTreeMap::<ExecutorId, u64>::new();
                for (task, bytes) in self.tasks.iter().zip(bucket_bytes.chunks(buckets)) {
                    if let TaskState::Committed { executor, .. } = task.state {
                        add(&mut bytes_on, executor, bytes[bucket]);
                    }
                }
                let total = bytes_on.values().fold(0u64, |sum, &bytes| sum.saturating_add(bytes));
                heaviest(&bytes_on).filter(|executor| bytes_on[executor] > total / 2)
            })
            .collect();
    }

    fn weigh(&mut self, partition: u32, buckets: u32, bytes: &[u64]) {
        if !self.bucket_bytes.is_empty() {
            let first = partition as usize * buckets as usize;
            let row = &mut self.bucket_bytes[first..first + buckets as usize];
            row.fill(0);
            row.iter_mut().zip(bytes).for_each(|(to, &from)| *to = from);
        }
    }

    fn locations(&mut self) -> Arc<[MapLocation]> {
        if let Some(locations) = &self.locations {
            return locations.clone();
        }
        let locations = self.committed_outputs().collect();
        self.locations.insert(locations).clone()
    }

    fn committed_outputs(&self) -> impl Iterator<Item = MapLocation> {
        self.committed().map(|output| output.location)
    }

    /// Committed outputs with their sizes and rows, by partition.
    fn committed(&self) -> impl Iterator<Item = FinishedOutput> {
        (0..).zip(&self.tasks).filter_map(|(partition, task)| match task.state {
            TaskState::Committed { attempt, executor, rows, bytes } => {
                Some(FinishedOutput { location: MapLocation { partition, attempt, executor }, rows, bytes })
            }
            _ => None,
        })
    }
}

fn add(bytes_on: &mut BTreeMap<ExecutorId, u64>, executor: ExecutorId, bytes: u64) {
    let sum = bytes_on.entry(executor).or_default();
    *sum = sum.saturating_add(bytes);
}

/// The executor with most bytes, the lowest id among equals; `None` when there are no bytes.
fn heaviest(bytes_on: &BTreeMap<ExecutorId, u64>) -> Option<ExecutorId> {
    let most = bytes_on.values().copied().max().filter(|&bytes| bytes > 0)?;
    bytes_on.iter().find(|&(_, &bytes)| bytes == most).map(|(&executor, _)| executor)
}
