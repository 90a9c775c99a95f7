//! The driver with fake executors at the other end of its channels.

use super::*;
use crate::fixtures::planned;
use crate::meta::MemoryIds;
use windlass_core::event::Outcome;
use windlass_core::failure::TaskFailure;
use windlass_core::ids::AttemptId;
use windlass_proto::convert::TaskReport;
use windlass_proto::v1::executor_message::Message as ToPrimary;
use windlass_proto::v1::primary_message::Message as FromPrimary;

/// Longer than any test takes, so that a hang is a failure.
const SOON: Duration = Duration::from_secs(10);

struct Cluster {
    driver: Driver,
    stop: CancellationToken,
    tasks: TaskTracker,
}

fn cluster(config: DriverConfig) -> Cluster {
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let driver = Driver::start(config, Arc::new(MemoryIds::default()), None, None, stop.clone(), &tasks);
    Cluster { driver, stop, tasks }
}

struct FakeExecutor {
    to_primary: mpsc::Sender<v1::ExecutorMessage>,
    from_primary: mpsc::Receiver<v1::PrimaryMessage>,
    id: u64,
}

fn register(name: &str, slots: u32) -> v1::Register {
    v1::Register {
        version: version::VERSION.into(),
        name: name.into(),
        host: "host".into(),
        address: format!("{name}:1"),
        slots,
        ..Default::default()
    }
}

impl FakeExecutor {
    async fn join(driver: &Driver, name: &str, slots: u32) -> Self {
        let (to_primary, from_primary) = driver.attach_local(&Handover::default());
        let mut executor = FakeExecutor { to_primary, from_primary, id: 0 };
        executor.say(ToPrimary::Register(register(name, slots))).await;
        let FromPrimary::Welcome(welcome) = executor.hear().await else { panic!("no welcome") };
        executor.id = welcome.executor;
        executor
    }

    async fn say(&self, message: ToPrimary) {
        // The driver does not read messages of an executor that was given up.
        let _ = self.to_primary.send(v1::ExecutorMessage { message: Some(message) }).await;
    }

    async fn hear(&mut self) -> FromPrimary {
        let message = tokio::time::timeout(SOON, self.from_primary.recv()).await.expect("nothing was ordered");
        message.expect("the primary ended the stream").message.unwrap()
    }

    async fn launch(&mut self) -> v1::Launch {
        match self.hear().await {
            FromPrimary::Launch(launch) => launch,
            other => panic!("not a launch: {other:?}"),
        }
    }

    async fn report(&self, attempts: &[AttemptId], outcome: Outcome, inline: Option<&'static [u8]>) {
        let metrics = vec![v1::OperatorMetrics {
            operator: 0,
            values: vec![v1::Metric { name: "output_rows".into(), value: 7 }],
        }];
        let task = |&attempt: &AttemptId| {
            let inline_result = inline.map(Bytes::from_static);
            let (outcome, metrics) = (outcome.clone(), metrics.clone());
            TaskReport { attempt, outcome, inline_result, staged: None, elapsed_us: 5, metrics }.into()
        };
        let tasks = attempts.iter().map(task).collect();
        self.say(ToPrimary::TasksEnded(v1::TasksEnded { tasks })).await;
    }

    async fn finish(&self, attempts: &[AttemptId]) {
        self.report(attempts, finished(), None).await;
    }
}

fn finished() -> Outcome {
    Outcome::Finished { rows: 3, bucket_bytes: vec![30] }
}

fn attempts(launch: &v1::Launch) -> Vec<AttemptId> {
    let stage = windlass_core::ids::StageId::from(launch.stage.unwrap());
    launch.attempts.iter().map(|a| stage.task(a.partition).attempt(a.attempt)).collect()
}

async fn wait(handle: &mut JobHandle) -> Result<JobOutcome, JobError> {
    tokio::time::timeout(SOON, handle.wait()).await.expect("the job did not end")
}

#[tokio::test]
async fn a_job_runs_stage_after_stage_and_its_outcome_has_what_the_tasks_sent_along() {
    let Cluster { driver, .. } = cluster(DriverConfig::default());
    let mut executor = FakeExecutor::join(&driver, "a", 2).await;
    let info = JobInfo { statement: "select 1".into(), ..Default::default() };
    let mut handle = driver.submit(planned(&[2, 1]), info).await;

    let first = executor.launch().await;
    assert_eq!((first.plan.as_deref(), first.attempts.len()), (Some(&b"plan 0"[..]), 2));
    executor.finish(&attempts(&first)).await;

    let second = executor.launch().await;
    assert_eq!(second.inputs[0].maps.len(), 2);
    assert_eq!(second.executors[0].address, "a:1");
    executor.report(&attempts(&second), finished(), Some(b"rows")).await;

    let outcome = wait(&mut handle).await.unwrap();
    let part = &outcome.outputs[0];
    assert_eq!((part.rows, part.bytes, part.inline.as_deref()), (3, 30, Some(&b"rows"[..])));
    assert_eq!(part.address, "a:1");
    assert_eq!(outcome.stages[0].metrics()[0].values, vec![("output_rows".to_string(), 14)]);
    let job = handle.id;
    assert_eq!(driver.history().job(job, |record| record.state), Some(JobState::Finished));

    drop(outcome);
    loop {
        let FromPrimary::DropOutputs(drop) = executor.hear().await else { panic!("outputs were not dropped") };
        if drop.stages.iter().any(|stage| stage.stage == 1) {
            break;
        }
    }
}

#[tokio::test]
async fn a_plan_goes_to_an_executor_once() {
    let Cluster { driver, .. } = cluster(DriverConfig::default());
    let mut executor = FakeExecutor::join(&driver, "a", 1).await;
    for run in 0..3 {
        let mut handle = driver.submit(planned(&[1]), JobInfo::default()).await;
        let launch = loop {
            match executor.hear().await {
                FromPrimary::Launch(launch) => break launch,
                FromPrimary::DropOutputs(_) => {}
                other => panic!("not a launch: {other:?}"),
            }
        };
        assert_eq!(launch.plan.is_some(), run == 0);
        executor.finish(&attempts(&launch)).await;
        wait(&mut handle).await.unwrap();
    }
}

#[tokio::test]
async fn cancelling_stops_the_tasks_and_ends_the_job() {
    let Cluster { driver, .. } = cluster(DriverConfig::default());
    let mut executor = FakeExecutor::join(&driver, "a", 1).await;
    let mut handle = driver.submit(planned(&[1]), JobInfo::default()).await;
    let launch = executor.launch().await;
    assert_eq!(driver.cancel(handle.id, "by request").await, Ok(Some(JobState::Cancelled)));
    let FromPrimary::Cancel(cancel) = executor.hear().await else { panic!("not cancelled") };
    assert_eq!(cancel.attempts, attempts(&launch).into_iter().map(v1::AttemptId::from).collect::<Vec<_>>());
    let error = wait(&mut handle).await.unwrap_err();
    assert_eq!(error, JobError::Cancelled { reason: "by request".into() });
    assert_eq!(driver.executors().await[0].running, 1, "the slot is taken until the executor says otherwise");
    executor.report(&attempts(&launch), Outcome::Failed(TaskFailure::Cancelled), None).await;
    while driver.executors().await[0].running > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(driver.cancel(JobId(99), "by request").await, Ok(None));
}

#[tokio::test]
async fn dropping_the_handle_cancels_the_job_and_detaching_does_not() {
    let Cluster { driver, .. } = cluster(DriverConfig::default());
    let mut executor = FakeExecutor::join(&driver, "a", 2).await;
    let detached = driver.submit(planned(&[1]), JobInfo::default()).await.detach();
    let kept = executor.launch().await;
    let dropped = driver.submit(planned(&[1]), JobInfo::default()).await;
    let launch = executor.launch().await;
    drop(dropped);
    let FromPrimary::Cancel(cancel) = executor.hear().await else { panic!("not cancelled") };
    assert_eq!(AttemptId::from(cancel.attempts[0]), attempts(&launch)[0]);
    executor.finish(&attempts(&kept)).await;
    let mut changes = driver.history().changes();
    while driver.history().job(detached, |job| job.state) != Some(JobState::Finished) {
        changes.changed().await.unwrap();
    }
}

#[tokio::test]
async fn the_tasks_of_an_executor_whose_stream_ends_run_elsewhere() {
    let Cluster { driver, .. } = cluster(DriverConfig::default());
    let mut first = FakeExecutor::join(&driver, "a", 1).await;
    let mut handle = driver.submit(planned(&[1]), JobInfo::default()).await;
    let lost = first.launch().await;
    drop(first);
    let mut second = FakeExecutor::join(&driver, "b", 1).await;
    let again = second.launch().await;
    assert_ne!(attempts(&lost), attempts(&again));
    assert_eq!(again.plan.as_deref(), Some(&b"plan 0"[..]), "the new executor has no plans");
    second.finish(&attempts(&again)).await;
    let outcome = wait(&mut handle).await.unwrap();
    assert_eq!(outcome.outputs[0].location.executor, ExecutorId(second.id));
}

#[tokio::test]
async fn a_report_about_an_attempt_that_runs_elsewhere_is_refused() {
    let Cluster { driver, .. } = cluster(DriverConfig::default());
    let mut first = FakeExecutor::join(&driver, "a", 1).await;
    let mut handle = driver.submit(planned(&[1]), JobInfo::default()).await;
    let launch = first.launch().await;
    let zombie = FakeExecutor::join(&driver, "b", 1).await;
    zombie.report(&attempts(&launch), finished(), Some(b"wrong")).await;
    let mut changes = driver.history().changes();
    let refused = || driver.history().log(handle.id).unwrap().iter().any(|line| line.contains("refused"));
    while !refused() {
        changes.changed().await.unwrap();
    }
    first.report(&attempts(&launch), finished(), Some(b"right")).await;
    let outcome = wait(&mut handle).await.unwrap();
    assert_eq!(outcome.outputs[0].inline.as_deref(), Some(&b"right"[..]));
}

#[tokio::test]
async fn an_executor_that_does_not_read_is_given_up_and_blocks_nobody() {
    let config = DriverConfig { orders: 3, ..DriverConfig::default() };
    let Cluster { driver, .. } = cluster(config);
    let deaf = FakeExecutor::join(&driver, "deaf", 1).await;
    let mut jobs = Vec::new();
    while driver.directory().find("deaf").is_ok() {
        let handle = driver.submit(planned(&[1]), JobInfo::default()).await;
        driver.cancel(handle.id, "test").await.unwrap();
        // The slot is free again, so the next job is launched too.
        let attempt = handle.id.stage(0).task(0).attempt(0);
        deaf.report(&[attempt], Outcome::Failed(TaskFailure::Cancelled), None).await;
        jobs.push(handle);
        assert!(jobs.len() < 100, "it was never given up");
    }
    let mut other = FakeExecutor::join(&driver, "other", 1).await;
    let mut handle = driver.submit(planned(&[1]), JobInfo::default()).await;
    let launch = other.launch().await;
    other.finish(&attempts(&launch)).await;
    wait(&mut handle).await.unwrap();
}

#[tokio::test]
async fn a_second_executor_of_the_same_name_takes_the_place_of_the_first() {
    let Cluster { driver, .. } = cluster(DriverConfig::default());
    let mut first = FakeExecutor::join(&driver, "a", 1).await;
    let second = FakeExecutor::join(&driver, "a", 1).await;
    assert_eq!(driver.directory().find("a"), Ok(ExecutorId(second.id)));
    let ended = tokio::time::timeout(SOON, first.from_primary.recv()).await.expect("the stream goes on");
    assert!(ended.is_none());
}

#[tokio::test]
async fn registrations_of_other_versions_are_refused_by_name() {
    let Cluster { driver, .. } = cluster(DriverConfig::default());
    let (orders, _outbound) = mpsc::channel(1);
    let old = v1::Register { version: "0.0.9".into(), ..register("a", 1) };
    let error = driver.attach(old, orders).await.err().unwrap().to_string();
    assert!(error.contains("0.0.9") && error.contains(version::VERSION), "{error}");
}

#[tokio::test]
async fn a_plan_that_is_too_large_to_send_fails_its_job_and_nothing_else() {
    let Cluster { driver, .. } = cluster(DriverConfig::default());
    let mut plan = planned(&[1]);
    plan.stages[0].bytes = Bytes::from(vec![0; MAX_PLAN_BYTES + 1]);
    let mut handle = driver.submit(plan, JobInfo::default()).await;
    let error = wait(&mut handle).await.unwrap_err();
    assert!(matches!(&error, JobError::Invalid { reason } if reason.contains("48 MiB")), "{error}");
}

#[tokio::test]
async fn stopping_cancels_jobs_and_lets_executors_go() {
    let Cluster { driver, stop, tasks } = cluster(DriverConfig::default());
    let mut executor = FakeExecutor::join(&driver, "a", 1).await;
    let mut handle = driver.submit(planned(&[1]), JobInfo::default()).await;
    executor.launch().await;
    stop.cancel();
    assert!(matches!(wait(&mut handle).await, Err(JobError::Stopping)));
    assert!(executor.from_primary.recv().await.is_none());
    tasks.close();
    tokio::time::timeout(SOON, tasks.wait()).await.expect("a task goes on");
    let mut late = driver.submit(planned(&[1]), JobInfo::default()).await;
    assert!(matches!(wait(&mut late).await, Err(JobError::Stopping)));
}

#[tokio::test]
async fn one_can_wait_for_executors() {
    let Cluster { driver, .. } = cluster(DriverConfig::default());
    let missing = driver.wait_for_executors(1, Duration::from_millis(1)).await.unwrap_err();
    assert_eq!((missing.joined, missing.wanted), (0, 1));
    let executor = FakeExecutor::join(&driver, "a", 1).await;
    driver.wait_for_executors(1, SOON).await.unwrap();
    let mut count = driver.directory().count();
    drop(executor);
    count.wait_for(|&n| n == 0).await.unwrap();
}

#[tokio::test]
async fn of_two_executors_of_one_name_the_second_is_refused_while_the_first_one_lives() {
    let cluster = cluster(DriverConfig { heartbeat: Duration::from_millis(100), ..DriverConfig::default() });
    let named = |instance: &'static [u8]| v1::Register { instance: instance.into(), ..register("a", 1) };
    let orders = || mpsc::channel(16).0;
    let first = cluster.driver.attach(named(b"1"), orders()).await.expect("it is the only one");
    let beats = first.id;
    let inbox = cluster.driver.shared.inbox.clone();
    let beating = tokio::spawn(async move {
        loop {
            let message = ToPrimary::Heartbeat(v1::Heartbeat::default());
            let _ = inbox.send(actor::Message::Heard { executor: beats, message }).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let refused = cluster.driver.attach(named(b"2"), orders()).await.err().expect("two of one name");
    assert!(matches!(&refused, AttachError::Refused(reason) if reason.contains("--name")), "{refused}");
    assert_eq!(cluster.driver.directory().entries().len(), 1);
    // The same process attaches again after its connection broke.
    let again = cluster.driver.attach(named(b"1"), orders()).await.expect("it is the same one");
    assert_ne!(again.id, beats);
    // An executor that hangs, or whose machine is gone, is replaced.
    beating.abort();
    let next = cluster.driver.attach(named(b"3"), orders()).await.expect("the other one says nothing");
    let entries = cluster.driver.directory().entries();
    assert_eq!(entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), [next.id]);
}
