//! An executor's handling of the work from its leader. One machine lives as long as one registration.
//!
//! ```text
//!   attempt   launch ──> running ──ended──> reported, exactly once
//!                           └─cancel, shed─> aborted ──ended──┘
//!                                    cancelled └─late─> lingering: reported ──ended──> what it wrote is removed
//!   output    adopt ──> fetching ──adopted──> here, reported
//!                           └─cancel, drop─> not wanted ──adopted──> removed
//!   stage     launch, adopt ──> may have outputs here ──drop──> what arrives or ends later is removed
//! ```

use crate::event::Outcome;
use crate::failure::TaskFailure;
use crate::ids::{AttemptId, StageId};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub struct Worker {
    running: BTreeMap<AttemptId, Running>,
    /// Attempts that were reported and have not stopped.
    lingering: BTreeSet<AttemptId>,
    /// Stages that may have left outputs here.
    stages: BTreeSet<StageId>,
    adopting: BTreeSet<AttemptId>,
    next_group: Group,
    /// A planted defect: outputs that arrive after their fetch was called off stay.
    #[cfg(test)]
    pub(crate) keeps_unwanted: bool,
}

/// The attempts of one launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group(u64);

#[derive(Debug)]
struct Running {
    group: Group,
    /// Whether it was told to stop.
    aborted: bool,
    /// Reason, when this executor itself stopped it.
    shed: Option<TaskFailure>,
}

/// Actions to carry out, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Stop this attempt. It is `ended` when it has stopped, or when it ended before. `last`: no attempt that was launched with it is wanted any more.
    Abort { attempt: AttemptId, last: bool },
    /// Stop fetching this output. It is still `adopted` if the fetch ended before.
    StopFetching(AttemptId),
    /// Remove what this attempt wrote, if anything.
    Remove(AttemptId),
    /// Remove all outputs of these stages.
    RemoveStages(Vec<StageId>),
    /// Report that this attempt is cancelled.
    Cancelled(AttemptId),
}

impl Worker {
    /// Creates the machine with outputs of these stages, kept from an earlier registration.
    pub fn new(kept: BTreeSet<StageId>) -> Self {
        Worker { stages: kept, ..Worker::default() }
    }

    /// Attempts that were launched and have not ended.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    pub fn launch(&mut self, stage: StageId, attempts: &[(u32, u32)]) {
        let group = self.next_group;
        self.next_group = Group(group.0 + 1);
        self.stages.insert(stage);
        let attempts = attempts.iter().map(|&(partition, attempt)| stage.task(partition).attempt(attempt));
        self.running.extend(attempts.map(|attempt| (attempt, Running { group, aborted: false, shed: None })));
    }

    /// Cancels attempts. Each is reported when it has stopped, or at once if it is not running: a report may already be on its way, and the primary refuses the
    /// second one.
    pub fn cancel(&mut self, attempts: impl IntoIterator<Item = AttemptId>) -> Vec<Action> {
        let mut actions = Vec::new();
        for attempt in attempts {
            if self.adopting.remove(&attempt) {
                actions.extend([Action::StopFetching(attempt), Action::Remove(attempt)]);
            } else if let Some(running) = self.running.get_mut(&attempt) {
                // The reason of this executor is not needed any more, and the slot is wanted: the attempt may linger.
                running.shed = None;
                self.abort(attempt, &mut actions);
            } else {
                actions.extend([Action::Remove(attempt), Action::Cancelled(attempt)]);
            }
        }
        actions
    }

    fn abort(&mut self, attempt: AttemptId, actions: &mut Vec<Action>) {
        let Some(running) = self.running.get_mut(&attempt) else { return };
        running.aborted = true;
        let group = running.group;
        let last = !self.running.values().any(|other| other.group == group && !other.aborted);
        actions.push(Action::Abort { attempt, last });
    }

    /// Handles an attempt that was told to stop a while ago and still computes where nobody can stop it. If the primary wanted it stopped, it is reported
    /// before it ends, because nobody waits for it any longer.
    pub fn linger(&mut self, attempt: AttemptId) -> Vec<Action> {
        let is_cancelled = |running: &Running| running.aborted && running.shed.is_none();
        if !self.running.get(&attempt).is_some_and(is_cancelled) {
            return Vec::new();
        }
        self.running.remove(&attempt);
        self.lingering.insert(attempt);
        vec![Action::Cancelled(attempt)]
    }

    pub fn lingering(&self) -> usize {
        self.lingering.len()
    }

    /// Notes the end of an attempt that was reported before; its writes are not wanted. `None` when it was not reported before.
    pub fn lingered(&mut self, attempt: AttemptId) -> Option<Action> {
        self.lingering.remove(&attempt).then_some(Action::Remove(attempt))
    }

    /// Attempts that this executor has not stopped itself, each with its launch.
    pub fn going(&self) -> impl Iterator<Item = (AttemptId, Group)> {
        let going = self.running.iter().filter(|(_, running)| running.shed.is_none());
        going.map(|(&attempt, running)| (attempt, running.group))
    }

    /// Stops the attempts of one launch to free memory: each fails with the failure from `why`, once it has stopped.
    pub fn shed(&mut self, group: Group, why: impl Fn(AttemptId) -> TaskFailure) -> Vec<Action> {
        let together: Vec<AttemptId> =
            self.going().filter(|(_, other)| *other == group).map(|(attempt, _)| attempt).collect();
        let mut actions = Vec::new();
        for attempt in together {
            self.abort(attempt, &mut actions);
            self.running.entry(attempt).and_modify(|running| running.shed = Some(why(attempt)));
        }
        actions
    }

    /// Returns the report for an attempt that has ended.
    pub fn ended(&mut self, attempt: AttemptId, outcome: Outcome) -> (Outcome, Vec<Action>) {
        let shed = self.running.remove(&attempt).and_then(|running| running.shed);
        let outcome = match (outcome, shed) {
            (Outcome::Failed(TaskFailure::Cancelled), Some(shed)) => Outcome::Failed(shed),
            (outcome, _) => outcome,
        };
        let dropped = !self.stages.contains(&attempt.stage());
        // The stage's outputs were dropped while the attempt ran: nobody will ask for this one.
        (outcome, if dropped { vec![Action::Remove(attempt)] } else { vec![] })
    }

    /// Notes outputs to fetch from an executor that is leaving.
    pub fn adopt(&mut self, outputs: &[AttemptId]) {
        self.stages.extend(outputs.iter().map(|output| output.stage()));
        self.adopting.extend(outputs);
    }

    /// Notes that an output has arrived, or will not arrive. Returns whether to report it; otherwise it was not wanted any more.
    pub fn adopted(&mut self, output: AttemptId) -> (bool, Vec<Action>) {
        let wanted = self.adopting.remove(&output);
        let keep = wanted;
        #[cfg(test)]
        let keep = keep || self.keeps_unwanted;
        (wanted, if keep { vec![] } else { vec![Action::Remove(output)] })
    }

    pub fn drop_outputs(&mut self, stages: Vec<StageId>) -> Vec<Action> {
        let mut actions = Vec::new();
        for stage in &stages {
            self.stages.remove(stage);
            let unwanted: Vec<_> = self.adopting.extract_if(stage.attempts(), |_| true).collect();
            actions.extend(unwanted.into_iter().map(Action::StopFetching));
        }
        actions.push(Action::RemoveStages(stages));
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::JobId;

    #[test]
    fn what_was_stopped_for_its_memory_lingers_only_where_it_is_cancelled_too() {
        let mut worker = Worker::default();
        let stage = JobId(1).stage(0);
        let attempt = stage.task(0).attempt(0);
        worker.launch(stage, &[(0, 0)]);
        let (_, group) = worker.going().next().expect("it runs");
        let shed = worker.shed(group, |_| TaskFailure::OutOfMemory { message: String::new() });
        assert_eq!(shed, [Action::Abort { attempt, last: true }]);
        assert_eq!(worker.linger(attempt), [], "its memory is waited for");
        assert_eq!(worker.cancel([attempt]), [Action::Abort { attempt, last: true }]);
        assert_eq!(worker.linger(attempt), [Action::Cancelled(attempt)]);
        assert_eq!((worker.running(), worker.lingering()), (0, 1));
        assert_eq!(worker.lingered(attempt), Some(Action::Remove(attempt)));
    }
}
