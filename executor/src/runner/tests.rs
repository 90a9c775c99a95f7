//! The runner with made-up plans: the bytes of a plan tell its tasks what to do.

use super::*;
use crate::config::ExecutorConfig;
use crate::node::Executor;
use crate::stages::Stages;
use crate::watchdog::Watchdog;
use async_trait::async_trait;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use windlass_core::ids::JobId;

/// Longer than anything here takes, so that a hang is a failure.
const SOON: Duration = Duration::from_secs(10);

static DEAF_ENDS: AtomicBool = AtomicBool::new(false);

#[derive(Default)]
struct FakeStages {
    decoded: AtomicUsize,
    instantiated: Arc<AtomicUsize>,
}

struct FakeStage {
    script: String,
    instantiated: Arc<AtomicUsize>,
}

struct FakeInstance {
    script: String,
    stopped: AtomicBool,
}

impl Stages for FakeStages {
    fn decode(&self, bytes: &[u8]) -> Result<Arc<dyn Stage>, TaskFailure> {
        self.decoded.fetch_add(1, Ordering::Relaxed);
        let script = String::from_utf8(bytes.to_vec()).unwrap();
        if script == "undecodable" {
            return Err(TaskFailure::Internal { message: "cannot decode".into() });
        }
        Ok(Arc::new(FakeStage { script, instantiated: self.instantiated.clone() }))
    }
}

impl Stage for FakeStage {
    fn instantiate(
        &self,
        _stage: StageId,
        _attempts: &[(u32, u32)],
        _inputs: TaskInputs,
        _memory: Arc<GroupPool>,
    ) -> Result<Arc<dyn Instance>, TaskFailure> {
        self.instantiated.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(FakeInstance { script: self.script.clone(), stopped: AtomicBool::new(false) }))
    }
}

#[async_trait]
impl Instance for FakeInstance {
    async fn run(self: Arc<Self>, index: usize) -> Result<TaskSummary, TaskFailure> {
        match self.script.as_str() {
            "count" => Ok(TaskSummary { rows: index as u64, bucket_bytes: vec![1], ..Default::default() }),
            "sleep" => std::future::pending().await,
            // A join that finds no rows: nothing in it waits, so it cannot be dropped before it is told to stop.
            "compute" => {
                while !self.stopped.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                Err(TaskFailure::Cancelled)
            }
            // One call of a function that takes a long time and cannot be interrupted.
            "deaf" => {
                while !DEAF_ENDS.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(TaskSummary::default())
            }
            "panic" => panic!("index {index} out of bounds"),
            other => Err(TaskFailure::UserError { message: other.into() }),
        }
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

struct Fixture {
    runner: Runner,
    stages: Arc<FakeStages>,
    _dir: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let config = ExecutorConfig { slots: 2, dir: dir.path().join("executor"), ..ExecutorConfig::default() };
    let executor = Executor::open(config).unwrap();
    let stages = Arc::new(FakeStages::default());
    let node = executor.node().with_stages(stages.clone());
    Fixture { runner: Runner::new(ExecutorId(1), node), stages, _dir: dir }
}

fn stage() -> StageId {
    JobId(1).stage(0)
}

fn order(script: Option<&'static str>, attempts: &[(u32, u32)]) -> LaunchOrder {
    LaunchOrder {
        stage: stage(),
        plan: PlanHash(1),
        plan_bytes: script.map(|script| Bytes::from_static(script.as_bytes())),
        attempts: attempts.to_vec(),
        inputs: vec![],
        executors: vec![],
        once: false,
    }
}

async fn ended(runner: &mut Runner, n: usize) -> Vec<TaskReport> {
    let mut reports = Vec::new();
    while reports.len() < n {
        let ended = tokio::time::timeout(SOON, runner.ended()).await.expect("no attempt ended");
        let Ended::Attempts(ended) = ended else { panic!("nothing is adopted here") };
        reports.extend(ended);
    }
    reports.sort_by_key(|report| report.attempt);
    reports
}

fn failure(report: &TaskReport) -> &TaskFailure {
    match &report.outcome {
        Outcome::Failed(failure) => failure,
        Outcome::Finished { .. } => panic!("it finished: {report:?}"),
    }
}

#[tokio::test]
async fn attempts_launched_together_share_one_instance_and_plans_are_decoded_once() {
    let Fixture { mut runner, stages, _dir } = fixture();
    runner.launch(order(Some("count"), &[(0, 0), (1, 0), (5, 2)]));
    let reports = ended(&mut runner, 3).await;
    assert_eq!(reports[2].attempt, stage().task(5).attempt(2));
    assert_eq!(reports[2].outcome, Outcome::Finished { rows: 2, bucket_bytes: vec![1] });
    runner.launch(order(None, &[(2, 0)]));
    ended(&mut runner, 1).await;
    assert_eq!(stages.decoded.load(Ordering::Relaxed), 1);
    assert_eq!(stages.instantiated.load(Ordering::Relaxed), 2);
    assert_eq!(runner.running(), 0);
}

#[tokio::test]
async fn a_panic_fails_its_task_and_the_executor_goes_on() {
    let Fixture { mut runner, _dir, .. } = fixture();
    runner.launch(order(Some("panic"), &[(3, 0)]));
    let reports = ended(&mut runner, 1).await;
    let message = "a task panicked: index 0 out of bounds".to_string();
    assert_eq!(failure(&reports[0]), &TaskFailure::Defect { message });
    runner.launch(LaunchOrder { plan: PlanHash(2), ..order(Some("count"), &[(0, 0)]) });
    ended(&mut runner, 1).await;
}

#[tokio::test]
async fn failures_keep_their_kind() {
    let Fixture { mut runner, _dir, .. } = fixture();
    runner.launch(order(Some("division by zero"), &[(0, 0)]));
    let reports = ended(&mut runner, 1).await;
    assert_eq!(failure(&reports[0]), &TaskFailure::UserError { message: "division by zero".into() });
}

#[tokio::test]
async fn a_plan_that_cannot_be_decoded_fails_every_attempt_with_the_reason() {
    let Fixture { mut runner, stages, _dir } = fixture();
    runner.launch(order(Some("undecodable"), &[(0, 0), (1, 0)]));
    runner.launch(order(None, &[(2, 0)]));
    for report in ended(&mut runner, 3).await {
        assert_eq!(failure(&report), &TaskFailure::Internal { message: "cannot decode".into() });
    }
    assert_eq!(stages.decoded.load(Ordering::Relaxed), 1);
    runner.drop_plans([PlanHash(1)]);
    runner.launch(order(None, &[(3, 0)]));
    let reports = ended(&mut runner, 1).await;
    assert!(failure(&reports[0]).to_string().contains("was not sent"));
}

#[tokio::test]
async fn cancelled_attempts_report_so_once_they_have_stopped() {
    let Fixture { mut runner, _dir, .. } = fixture();
    runner.launch(order(Some("sleep"), &[(0, 0), (1, 0)]));
    let unknown = stage().task(9).attempt(0);
    let at_once = runner.cancel([stage().task(0).attempt(0), unknown]);
    assert_eq!(at_once.iter().map(|report| report.attempt).collect::<Vec<_>>(), vec![unknown]);
    let reports = ended(&mut runner, 1).await;
    assert_eq!(reports[0].attempt, stage().task(0).attempt(0));
    assert_eq!(failure(&reports[0]), &TaskFailure::Cancelled);
    assert_eq!(runner.running(), 1);
    tokio::time::timeout(SOON, runner.stop()).await.expect("what sleeps was not stopped");
}

#[tokio::test]
async fn what_computes_without_a_pause_is_told_to_stop_when_no_attempt_is_wanted() {
    let Fixture { mut runner, _dir, .. } = fixture();
    let attempts = [0, 1].map(|partition| stage().task(partition).attempt(0));
    runner.launch(order(Some("compute"), &[(0, 0), (1, 0)]));
    assert_eq!(runner.cancel([attempts[0]]), []);
    // The other attempt is still wanted, and they share the instance.
    let instance = &runner.running[&attempts[1]].group;
    assert!(!instance.stopped.load(Ordering::SeqCst));
    assert_eq!(runner.cancel([attempts[1]]), []);
    for report in ended(&mut runner, 2).await {
        assert_eq!(failure(&report), &TaskFailure::Cancelled);
    }
    // The same must hold when the whole registration ends.
    runner.launch(order(None, &[(2, 0), (3, 0)]));
    tokio::time::timeout(SOON, runner.stop()).await.expect("what computes was not stopped");
}

/// Both slots, twice over: the first two attempts give theirs away, the next two keep them, because only that many may linger.
#[tokio::test]
async fn what_nobody_can_call_back_gives_its_slot_away_and_there_is_a_bound_to_that() {
    let Fixture { mut runner, _dir, .. } = fixture();
    let attempts = [0, 1, 2, 3].map(|partition| stage().task(partition).attempt(0));
    runner.launch(order(Some("deaf"), &[(0, 0), (1, 0)]));
    while runner.running.values().any(|running| running.group.instance.get().is_none()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(runner.cancel(attempts[..2].to_vec()), []);
    for report in ended(&mut runner, 2).await {
        assert_eq!(failure(&report), &TaskFailure::Cancelled);
    }
    assert_eq!(runner.running(), 0);
    // Other attempts run meanwhile.
    runner.launch(LaunchOrder { plan: PlanHash(2), ..order(Some("count"), &[(5, 0), (6, 0)]) });
    assert!(ended(&mut runner, 2).await.iter().all(|report| matches!(report.outcome, Outcome::Finished { .. })));
    runner.launch(order(None, &[(2, 0), (3, 0)]));
    assert_eq!(runner.cancel(attempts[2..].to_vec()), []);
    let more = tokio::time::timeout(LINGER_AFTER * 2, runner.ended()).await;
    // An attempt that had not begun is over.
    let stopped = more.map_or(0, |ended| match ended {
        Ended::Attempts(reports) => reports.len(),
        Ended::Adoption(..) => 0,
    });
    assert_eq!(runner.running(), 2 - stopped);
    DEAF_ENDS.store(true, Ordering::Relaxed);
    ended(&mut runner, 2 - stopped).await;
    while !runner.names.is_empty() {
        let _ = tokio::time::timeout(Duration::from_millis(50), runner.ended()).await;
    }
    assert_eq!((runner.running(), runner.worker.lingering()), (0, 0));
}

#[tokio::test]
async fn past_the_limit_the_attempts_that_hold_most_fail_as_out_of_memory() {
    let Fixture { mut runner, _dir, .. } = fixture();
    runner.launch(order(Some("sleep"), &[(0, 0)]));
    runner.launch(order(None, &[(1, 0), (2, 0)]));
    runner.launch(LaunchOrder { once: true, ..order(None, &[(3, 0)]) });
    let pool: Arc<dyn MemoryPool> = runner.running[&stage().task(1).attempt(0)].group.memory.clone();
    let held = MemoryConsumer::new("hash join").register(&pool);
    held.try_grow(1_000).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = ExecutorConfig {
        memory_bytes: 0,
        resident_allowance_bytes: Some(1),
        dir: dir.path().join("strict"),
        ..ExecutorConfig::default()
    };
    let mut watchdog = Watchdog::new(Executor::open(config).unwrap().node().clone());
    watchdog.look(&mut runner);
    for report in ended(&mut runner, 2).await {
        assert_ne!(report.attempt, stage().task(0).attempt(0));
        let TaskFailure::OutOfMemory { message } = failure(&report) else { panic!("{report:?}") };
        assert!(message.contains("1000 bytes") && message.contains("are allowed"), "{message}");
    }
    assert_eq!(runner.running(), 2);
    runner.fail_largest("full").unwrap();
    assert_eq!(ended(&mut runner, 1).await[0].attempt, stage().task(0).attempt(0));
    assert_eq!(runner.fail_largest("full"), None, "a program keeps to a limit of its own");
    runner.stop().await;
}
