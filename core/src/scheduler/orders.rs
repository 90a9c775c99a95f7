//! Commands of one step to the executors, collected singly and sent together: one command of a kind for each executor and stage.

use super::jobs::Job;
use crate::event::{Command, Launch, Output};
use crate::ids::{AttemptId, ExecutorId, JobId, StageId};
use crate::job::StageSpec;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Orders {
    cancels: Vec<(ExecutorId, AttemptId)>,
    drops: Vec<(ExecutorId, StageId)>,
    adoptions: Vec<(ExecutorId, ExecutorId, AttemptId)>,
    launches: Vec<(ExecutorId, AttemptId)>,
    /// Attempts that run beside full slots, and so start after those that fill the slots.
    beside: Vec<(ExecutorId, AttemptId)>,
    farewells: Vec<ExecutorId>,
}

impl Orders {
    pub fn cancel(&mut self, executor: ExecutorId, attempt: AttemptId) {
        self.cancels.push((executor, attempt));
    }

    pub fn drop_outputs(&mut self, executor: ExecutorId, stages: impl IntoIterator<Item = StageId>) {
        self.drops.extend(stages.into_iter().map(|stage| (executor, stage)));
    }

    pub fn adopt(&mut self, executor: ExecutorId, from: ExecutorId, output: AttemptId) {
        self.adoptions.push((executor, from, output));
    }

    pub fn launch(&mut self, executor: ExecutorId, attempt: AttemptId) {
        self.launches.push((executor, attempt));
    }

    pub fn launch_beside(&mut self, executor: ExecutorId, attempt: AttemptId) {
        self.beside.push((executor, attempt));
    }

    pub fn farewell(&mut self, executor: ExecutorId) {
        self.farewells.push(executor);
    }

    /// Forgets the orders to an executor that was lost in the same step.
    pub fn forget(&mut self, executor: ExecutorId) {
        self.cancels.retain(|&(to, _)| to != executor);
        self.drops.retain(|&(to, _)| to != executor);
        self.farewells.retain(|&to| to != executor);
    }

    /// Sends the orders, cancellations first: what a cancelled attempt wrote is gone before the outputs of its stage are dropped.
    pub fn send(&mut self, jobs: &mut BTreeMap<JobId, Job>, output: &mut Output) {
        self.cancels.sort_unstable();
        for group in self.cancels.chunk_by(|a, b| a.0 == b.0) {
            let attempts = group.iter().map(|&(_, attempt)| attempt).collect();
            output.send.push((group[0].0, Command::Cancel { attempts }));
        }
        self.cancels.clear();

        self.drops.sort_unstable();
        for group in self.drops.chunk_by(|a, b| a.0 == b.0) {
            let stages = group.iter().map(|&(_, stage)| stage).collect();
            output.send.push((group[0].0, Command::DropOutputs { stages }));
        }
        self.drops.clear();

        self.adoptions.sort_unstable();
        for group in self.adoptions.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (executor, from, _) = group[0];
            let outputs = group.iter().map(|&(_, _, output)| output).collect();
            output.send.push((executor, Command::AdoptOutputs { outputs, from }));
        }
        self.adoptions.clear();

        self.launches.sort_unstable();
        self.launches.append(&mut self.beside);
        for group in self.launches.chunk_by(|a, b| a.0 == b.0 && a.1.stage() == b.1.stage()) {
            let (executor, stage) = (group[0].0, group[0].1.stage());
            // Tasks start at the end of a step, after everything that may end their job.
            let Some(job) = jobs.get_mut(&stage.job) else { continue };
            let StageSpec { plan, once, .. } = job.spec.stages[stage.index as usize];
            let attempts = group.iter().map(|(_, a)| (a.task.partition, a.attempt)).collect();
            let once = once.is_some();
            let launch = Launch { stage, plan, once, attempts, inputs: job.inputs(stage.index) };
            output.send.push((executor, Command::Launch(launch)));
        }
        self.launches.clear();

        output.send.extend(self.farewells.drain(..).map(|executor| (executor, Command::Farewell)));
    }
}
