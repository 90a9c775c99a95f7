//! Runs attempts: decodes each plan once, starts launches on the CPU runtime, stops cancelled attempts, and reports the end of each attempt.
//! `windlass_core::worker` decides; this module has the tasks and the disk.
//!
//! One runner lives as long as one registration. The task that serves the primary's stream owns it, so it needs no locks.

use crate::memory::GroupPool;
use crate::node::Node;
use crate::stages::{Instance, Stage};
use bytes::Bytes;
use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use windlass_core::event::Outcome;
use windlass_core::failure::TaskFailure;
use windlass_core::ids::{AttemptId, ExecutorId, PlanHash, StageId};
use windlass_core::worker::{Action, Worker};
use windlass_engine::remote;
use windlass_engine::{InputLocations, Local, RemoteExchange, TaskInputs, TaskSummary};
use windlass_proto::convert::{LaunchOrder, TaskReport};
use windlass_proto::v1;

pub(crate) struct Runner {
    executor: ExecutorId,
    node: Arc<Node>,
    worker: Worker,
    plans: BTreeMap<PlanHash, Arc<Sent>>,
    tasks: JoinSet<Result<TaskSummary, TaskFailure>>,
    /// Attempt of each member of `tasks`.
    names: HashMap<Id, Named>,
    running: BTreeMap<AttemptId, Running>,
    /// Outputs on their way here from executors that are leaving.
    adoptions: JoinSet<(AttemptId, Result<(), String>)>,
    adopting: BTreeMap<AttemptId, AbortHandle>,
}

/// Something that has ended.
pub(crate) enum Ended {
    /// All attempts that have ended since the last call.
    Attempts(Vec<TaskReport>),
    /// An output that has arrived here, or the reason why it has not.
    Adoption(AttemptId, Result<(), String>),
}

/// Time that a cancelled attempt may still compute before others get its slot. Usually an attempt stops within milliseconds.
const LINGER_AFTER: Duration = Duration::from_secs(2);

#[derive(Clone, Copy)]
struct Named {
    attempt: AttemptId,
    started: Instant,
    threads: Threads,
}

/// Threads on which an attempt runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Threads {
    Slots,
    Spare,
    Beside,
}

struct Running {
    task: AbortHandle,
    /// Time at which it was told to stop.
    aborted: Option<Instant>,
    /// The launch that it belongs to.
    group: Arc<Group>,
}

/// A plan, decoded by the first task that needs it.
struct Sent {
    bytes: Bytes,
    decoded: OnceCell<Result<Arc<dyn Stage>, TaskFailure>>,
}

/// State shared by attempts that were launched together; the first of them to run builds it.
struct Group {
    node: Arc<Node>,
    executor: ExecutorId,
    order: LaunchOrder,
    memory: Arc<GroupPool>,
    plan: Option<Arc<Sent>>,
    instance: OnceCell<Result<Arc<dyn Instance>, TaskFailure>>,
    /// Whether none of the attempts is wanted any more.
    stopped: AtomicBool,
}

impl Runner {
    /// Creates a runner that knows the outputs in the exchange store from earlier registrations.
    pub fn new(executor: ExecutorId, node: Arc<Node>) -> Self {
        Runner {
            executor,
            worker: Worker::new(node.store.stages()),
            node,
            plans: BTreeMap::new(),
            tasks: JoinSet::new(),
            names: HashMap::new(),
            running: BTreeMap::new(),
            adoptions: JoinSet::new(),
            adopting: BTreeMap::new(),
        }
    }

    pub fn running(&self) -> usize {
        self.names.len() - self.worker.lingering()
    }

    pub fn launch(&mut self, mut order: LaunchOrder) {
        if let Some(bytes) = order.plan_bytes.take() {
            self.plans.insert(order.plan, Arc::new(Sent { bytes, decoded: OnceCell::new() }));
        }
        self.worker.launch(order.stage, &order.attempts);
        let memory = self.node.memory.group(format!("stage {}", order.stage), order.attempts.len());
        let group = Arc::new(Group {
            memory: memory.clone(),
            node: self.node.clone(),
            executor: self.executor,
            plan: self.plans.get(&order.plan).cloned(),
            order,
            instance: OnceCell::new(),
            stopped: AtomicBool::new(false),
        });
        for (index, &(partition, attempt)) in group.order.attempts.iter().enumerate() {
            let name = group.order.stage.task(partition).attempt(attempt);
            // The task of a program only waits for its process.
            let threads = if group.order.once { Threads::Beside } else { self.threads() };
            let handle = match threads {
                Threads::Slots => self.node.cpu(),
                Threads::Spare => self.node.spare(),
                Threads::Beside => self.node.beside(),
            };
            let task = self.tasks.spawn_on(group.clone().run(index), handle);
            self.names.insert(task.id(), Named { attempt: name, started: Instant::now(), threads });
            self.running.insert(name, Running { task, aborted: None, group: group.clone() });
        }
    }

    /// Threads for the next attempt.
    fn threads(&self) -> Threads {
        let on = |threads: Threads| self.names.values().filter(|named| named.threads == threads).count();
        match () {
            () if on(Threads::Slots) < self.node.config.slots as usize => Threads::Slots,
            () if on(Threads::Spare) < self.worker.lingering() => Threads::Spare,
            () => Threads::Beside,
        }
    }

    /// Time at which the next cancelled attempt has computed for too long. At most as many attempts linger as there are slots.
    fn next_linger(&self) -> Option<Instant> {
        if self.worker.lingering() >= self.node.config.slots as usize {
            return None;
        }
        self.running.values().filter_map(|running| running.aborted).min().map(|at| at + LINGER_AFTER)
    }

    /// Reports cancelled attempts that have computed for too long. A thread ends with its attempt.
    fn linger(&mut self) -> Vec<TaskReport> {
        let now = Instant::now();
        let late = |running: &Running| running.aborted.is_some_and(|at| at + LINGER_AFTER <= now);
        let late: Vec<AttemptId> =
            self.running.iter().filter(|(_, running)| late(running)).map(|(attempt, _)| *attempt).collect();
        let mut reports = Vec::new();
        for attempt in late {
            if self.worker.lingering() >= self.node.config.slots as usize {
                break;
            }
            let actions = self.worker.linger(attempt);
            if actions.is_empty() {
                // This executor wants the attempt stopped for its memory, which is not free before its end.
                self.running.entry(attempt).and_modify(|running| running.aborted = None);
            } else {
                self.running.remove(&attempt);
                let lingering = self.worker.lingering();
                tracing::warn!(%attempt, lingering, "a cancelled task computes on; others take its slot meanwhile");
            }
            reports.extend(self.act(actions));
        }
        reports
    }

    /// Stops these attempts and returns the reports that can be sent at once.
    pub fn cancel(&mut self, attempts: impl IntoIterator<Item = AttemptId>) -> Vec<TaskReport> {
        let actions = self.worker.cancel(attempts);
        self.act(actions)
    }

    fn act(&mut self, actions: Vec<Action>) -> Vec<TaskReport> {
        let mut reports = Vec::new();
        for action in actions {
            match action {
                Action::Abort { attempt, last } => {
                    let Some(running) = self.running.get_mut(&attempt) else { continue };
                    running.aborted.get_or_insert_with(Instant::now);
                    running.task.abort();
                    if last {
                        running.group.stop();
                    }
                }
                Action::StopFetching(output) => {
                    if let Some(task) = self.adopting.remove(&output) {
                        task.abort();
                    }
                }
                Action::Remove(attempt) => self.node.store.remove_attempt(attempt),
                Action::RemoveStages(stages) => self.node.store.remove(&stages),
                Action::Cancelled(attempt) => reports.push(failed(attempt, TaskFailure::Cancelled)),
            }
        }
        reports
    }

    /// Stops the launched attempts that have reserved the most memory together. They fail as out of memory, for the reason in `state`, once they have stopped.
    /// Returns their description and their reserved bytes; `None` when nothing runs.
    pub fn fail_largest(&mut self, state: &str) -> Option<(String, usize)> {
        let memory = |attempt: &AttemptId| self.running.get(attempt).map_or(0, |running| running.group.memory.used());
        let is_program =
            |attempt: &AttemptId| self.running.get(attempt).is_some_and(|running| running.group.order.once);
        let tasks = self.worker.going().filter(|(attempt, _)| !is_program(attempt));
        let (attempt, group) = tasks.max_by_key(|(attempt, _)| memory(attempt))?;
        let bytes = memory(&attempt);
        let held = self.running.get(&attempt).and_then(|running| running.group.held_whole());
        let held = held.map_or_else(String::new, |held| format!("; {held}"));
        let actions = self.worker.shed(group, |attempt| TaskFailure::OutOfMemory {
            message: format!(
                "the executor stopped {attempt}, the largest of its tasks, which had reserved {bytes} bytes: {state}{held}; give \
                 executors more memory or fewer slots (--memory, --slots)"
            ),
        });
        let stopped = actions.iter().filter_map(|action| match action {
            Action::Abort { attempt, .. } => Some(attempt.to_string()),
            _ => None,
        });
        let stopped: Vec<String> = stopped.collect();
        self.act(actions);
        Some((stopped.join(", "), bytes))
    }

    pub fn drop_outputs(&mut self, stages: Vec<StageId>) {
        let actions = self.worker.drop_outputs(stages);
        self.act(actions);
    }

    pub fn drop_plans(&mut self, plans: impl IntoIterator<Item = PlanHash>) {
        for plan in plans {
            self.plans.remove(&plan);
        }
    }

    /// Fetches outputs of an executor that is leaving.
    pub fn adopt(&mut self, outputs: Vec<AttemptId>, from: ExecutorId, address: &str) {
        self.worker.adopt(&outputs);
        for output in outputs {
            let (node, address) = (self.node.clone(), address.to_string());
            let fetch = async move {
                let adopted = remote::adopt(node.connections.clone(), &node.store, output, from, address).await;
                (output, adopted.map_err(|error| error.strip_backtrace()))
            };
            let handle = self.adoptions.spawn_on(fetch, self.node.cpu());
            self.adopting.insert(output, handle);
        }
    }

    /// Waits until something ends. Never returns while nothing runs. Cancel safe.
    pub async fn ended(&mut self) -> Ended {
        loop {
            let linger = self.next_linger();
            tokio::select! {
                Some(first) = self.tasks.join_next_with_id() => {
                    let mut reports: Vec<TaskReport> = self.report(first).into_iter().collect();
                    while let Some(next) = self.tasks.try_join_next_with_id() {
                        reports.extend(self.report(next));
                    }
                    if !reports.is_empty() {
                        return Ended::Attempts(reports);
                    }
                }
                () = tokio::time::sleep_until(linger.unwrap_or_else(Instant::now).into()), if linger.is_some() => {
                    let reports = self.linger();
                    if !reports.is_empty() {
                        return Ended::Attempts(reports);
                    }
                }
                Some(ended) = self.adoptions.join_next() => match ended {
                    Ok((output, adopted)) => {
                        self.adopting.remove(&output);
                        let (wanted, actions) = self.worker.adopted(output);
                        self.act(actions);
                        if wanted {
                            return Ended::Adoption(output, adopted);
                        }
                    }
                    // The fetch was stopped. A panic is logged only here.
                    Err(error) if error.is_panic() => tracing::error!(%error, "adopting a map output failed"),
                    Err(_) => {}
                },
                else => return std::future::pending().await,
            }
        }
    }

    /// Stops everything: the primary does not know this registration any more. Finished outputs stay for the next one.
    pub async fn stop(&mut self) {
        self.running.values().for_each(|running| running.group.stop());
        self.tasks.shutdown().await;
        self.adoptions.shutdown().await;
    }

    /// Returns the report of an ended attempt; `None` when it was reported before it ended.
    fn report(&mut self, ended: Result<(Id, Result<TaskSummary, TaskFailure>), JoinError>) -> Option<TaskReport> {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => (error.id(), Err(interrupted(error))),
        };
        let Named { attempt, started, .. } = self.names.remove(&id).expect("every task was named when it was spawned");
        if let Some(action) = self.worker.lingered(attempt) {
            tracing::info!(%attempt, seconds = started.elapsed().as_secs(), "a cancelled task has ended");
            self.act(vec![action]);
            return None;
        }
        self.running.remove(&attempt);
        let report = match outcome {
            Ok(summary) => finished(attempt, summary),
            Err(failure) => failed(attempt, failure),
        };
        let (outcome, actions) = self.worker.ended(attempt, report.outcome);
        self.act(actions);
        if let Outcome::Failed(failure) = &outcome {
            tracing::debug!(%attempt, kind = failure.kind(), %failure, "attempt failed");
        }
        Some(TaskReport { outcome, elapsed_us: started.elapsed().as_micros() as u64, ..report })
    }
}

impl Group {
    async fn run(self: Arc<Self>, index: usize) -> Result<TaskSummary, TaskFailure> {
        let instance = self.instance.get_or_init(|| self.instantiate()).await.clone()?;
        // The attempt may have been stopped before there was an instance to tell.
        if self.stopped.load(Ordering::SeqCst) {
            instance.stop();
        }
        instance.run(index).await
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(Ok(instance)) = self.instance.get() {
            instance.stop();
        }
    }

    fn held_whole(&self) -> Option<String> {
        self.instance.get()?.as_ref().ok()?.held_whole()
    }

    async fn instantiate(&self) -> Result<Arc<dyn Instance>, TaskFailure> {
        let order = &self.order;
        let Some(plan) = &self.plan else {
            return Err(TaskFailure::Internal {
                message: format!("plan {} was not sent to this executor", order.plan),
            });
        };
        let stage = match self.node.stages.take(order.stage) {
            Some(stage) => stage,
            None => plan.decoded.get_or_init(|| async { self.node.stages.decode(&plan.bytes) }).await.clone()?,
        };
        let addresses: BTreeMap<ExecutorId, String> = order.executors.iter().cloned().collect();
        let source = RemoteExchange::new(
            self.node.connections.clone(),
            Arc::new(addresses),
            Local::Of(self.executor, self.node.store.clone()),
        );
        let stages = order.inputs.iter().map(|(stage, maps)| InputLocations { stage: *stage, maps: maps.clone() });
        let inputs = TaskInputs { job: order.stage.job, stages: stages.collect(), source: Arc::new(source) };
        stage.instantiate(order.stage, &order.attempts, inputs, self.memory.clone())
    }
}

fn finished(attempt: AttemptId, summary: TaskSummary) -> TaskReport {
    let metrics = summary.metrics.into_iter().map(|metrics| v1::OperatorMetrics {
        operator: metrics.operator,
        values: metrics.values.into_iter().map(|(name, value)| v1::Metric { name, value }).collect(),
    });
    TaskReport {
        attempt,
        outcome: Outcome::Finished { rows: summary.rows, bucket_bytes: summary.bucket_bytes },
        inline_result: summary.inline_result,
        staged: summary.staged,
        elapsed_us: 0,
        metrics: metrics.collect(),
    }
}

pub(crate) fn failed(attempt: AttemptId, failure: TaskFailure) -> TaskReport {
    TaskReport {
        attempt,
        outcome: Outcome::Failed(failure),
        inline_result: None,
        staged: None,
        elapsed_us: 0,
        metrics: Vec::new(),
    }
}

fn interrupted(error: JoinError) -> TaskFailure {
    match error.try_into_panic() {
        Ok(panic) => TaskFailure::Defect { message: format!("a task panicked: {}", panic_message(&*panic)) },
        Err(_) => TaskFailure::Cancelled,
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests;
