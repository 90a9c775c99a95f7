//! Stages of jobs: their progress, and the measurements of their operators.

use super::{Measured, Moment, cut};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;
use windlass_core::time::Instant;
use windlass_engine::scan::{LOCAL_BYTES, REMOTE_BYTES};
use windlass_engine::{OperatorMetrics, PlannedStage};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageState {
    Waiting,
    Running,
    Finished,
    /// The job ended before the stage did.
    Stopped,
}

impl StageState {
    pub fn is_finished(self) -> bool {
        matches!(self, StageState::Finished)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            StageState::Waiting => "waiting",
            StageState::Running => "running",
            StageState::Finished => "finished",
            StageState::Stopped => "stopped",
        }
    }
}

#[derive(Clone, Debug)]
pub struct StageRecord {
    pub index: u32,
    /// Indexes of the stages that it reads.
    pub inputs: Vec<u32>,
    pub state: StageState,
    /// The operators, one to a line, in pre-order.
    pub plan: Arc<str>,
    pub tasks: u32,
    pub tasks_done: u32,
    pub tasks_running: u32,
    pub failed_attempts: u32,
    /// Rows and bytes of the stage's output.
    pub rows: u64,
    pub bytes: u64,
    /// Time from the first task's start to the last one's end.
    pub elapsed: Duration,
    /// Sum over committed attempts.
    pub task_time: Duration,
    pub(super) metrics: BTreeMap<(u32, String), u64>,
    pub(super) started: Option<Instant>,
    /// Attempts that this primary has started. A record of an earlier primary has none.
    pub(super) attempts: u32,
}

impl StageRecord {
    /// Whether this primary has started each task exactly once.
    pub(crate) fn ran_once(&self) -> bool {
        self.attempts == self.tasks
    }

    /// Returns the record of a waiting stage.
    pub(crate) fn new(index: u32, stage: &PlannedStage) -> Self {
        Self {
            index,
            inputs: stage.inputs.iter().map(|input| input.stage).collect(),
            state: StageState::Waiting,
            plan: cut(&stage.display).into(),
            tasks: stage.tasks,
            tasks_done: 0,
            tasks_running: 0,
            failed_attempts: 0,
            rows: 0,
            bytes: 0,
            elapsed: Duration::ZERO,
            task_time: Duration::ZERO,
            metrics: BTreeMap::new(),
            started: None,
            attempts: 0,
        }
    }

    /// Returns the metrics of the stage's operators, over all committed attempts.
    pub fn metrics(&self) -> Vec<OperatorMetrics> {
        let mut operators: Vec<OperatorMetrics> = Vec::new();
        for ((operator, name), value) in &self.metrics {
            if operators.last().is_none_or(|last| last.operator != *operator) {
                operators.push(OperatorMetrics { operator: *operator, values: Vec::new() });
            }
            if let Some(last) = operators.last_mut() {
                last.values.push((name.clone(), *value));
            }
        }
        operators
    }

    /// Returns the plan as EXPLAIN ANALYZE prints it, with each operator's metrics at the end of its line.
    pub fn plan_with_metrics(&self) -> String {
        let mut text = String::with_capacity(self.plan.len() * 2);
        for (position, line) in self.plan.lines().enumerate() {
            text.push_str(line);
            let position = position as u32;
            let values = self.metrics.range((position, String::new())..(position + 1, String::new()));
            let mut values: Vec<String> = values.map(|((_, name), value)| show(name, *value)).collect();
            let read = |name: &str| self.metrics.get(&(position, name.to_string())).copied();
            if let (Some(local), Some(remote)) = (read(LOCAL_BYTES), read(REMOTE_BYTES))
                && local + remote > 0
            {
                values.push(format!("local={:.1}%", 100.0 * local as f64 / (local + remote) as f64));
            }
            if !values.is_empty() {
                text.push_str(&format!(", metrics=[{}]", values.join(", ")));
            }
            text.push('\n');
        }
        text
    }

    pub(super) fn commit(&mut self, now: Moment, rows: u64, bytes: u64, measured: Option<Measured>) {
        self.tasks_done += 1;
        self.tasks_running = self.tasks_running.saturating_sub(1);
        self.rows += rows;
        self.bytes += bytes;
        if let Some(started) = self.started {
            self.elapsed = now.at.since(started);
        }
        let Some(measured) = measured else { return };
        self.task_time += measured.elapsed;
        for OperatorMetrics { operator, values } in measured.metrics {
            for (name, value) in values {
                match self.metrics.entry((operator, name)) {
                    Entry::Vacant(entry) => _ = entry.insert(value),
                    Entry::Occupied(mut entry) => {
                        let total = merge(&entry.key().1, *entry.get(), value);
                        entry.insert(total);
                    }
                }
            }
        }
    }
}

/// Merges metrics of tasks: adds them up, except those whose name says that they are a minimum or maximum.
fn merge(name: &str, a: u64, b: u64) -> u64 {
    if name == "start_timestamp" || name.starts_with("min_") {
        a.min(b)
    } else if name == "end_timestamp" || name.contains("peak") || name.starts_with("max_") || name.ends_with("_max") {
        a.max(b)
    } else {
        a.saturating_add(b)
    }
}

/// Formats a metric. DataFusion counts time in nanoseconds, in metrics whose names say so.
fn show(name: &str, value: u64) -> String {
    if name.contains("elapsed") || name.contains("time") && !name.contains("timestamp") {
        format!("{name}={:?}", Duration::from_nanos(value))
    } else {
        format!("{name}={value}")
    }
}
