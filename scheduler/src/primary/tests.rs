//! A primary on a real port, with a fake executor and a client of its administration.

use super::*;
use crate::admin::AdminService;
use crate::driver::history::JobInfo;
use crate::fixtures::planned;
use crate::meta::MemoryIds;
use crate::services::cluster::ClusterView;
use crate::services::jobs::Jobs;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use windlass_core::job::{Retention, Terms};
use windlass_proto::v1::admin_client::AdminClient;
use windlass_proto::v1::admin_server::AdminServer;
use windlass_proto::v1::dispatch_client::DispatchClient;
use windlass_proto::v1::executor_message::Message as ToPrimary;
use windlass_proto::v1::primary_message::Message as FromPrimary;
use windlass_proto::{v1, version};

/// Longer than any test takes, so that a hang is a failure.
const SOON: Duration = Duration::from_secs(10);

struct Serving {
    driver: Driver,
    channel: Channel,
    shutdown: CancellationToken,
    serving: JoinSet<Result<(), PrimaryError>>,
}

fn local() -> PrimaryConfig {
    PrimaryConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..PrimaryConfig::default() }
}

async fn serve() -> Serving {
    let listener = Primary::listen(local().listen).await.unwrap();
    let mut primary = Primary::on(listener, local(), Arc::new(MemoryIds::default()), None, None).unwrap();
    let (jobs, cluster) = (Jobs::new(primary.driver.clone()), ClusterView::new(primary.driver.clone(), String::new()));
    primary.services().add_service(AdminServer::new(AdminService::without_statements(jobs, cluster)));
    let (driver, address) = (primary.driver.clone(), primary.address());
    let shutdown = CancellationToken::new();
    let mut serving = JoinSet::new();
    serving.spawn(primary.serve(shutdown.clone()));
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    Serving { driver, channel, shutdown, serving }
}

struct FakeExecutor {
    to_primary: mpsc::Sender<v1::ExecutorMessage>,
    from_primary: tonic::Streaming<v1::PrimaryMessage>,
}

impl FakeExecutor {
    async fn attach(channel: &Channel, version: &str) -> Result<Self, tonic::Status> {
        let (to_primary, messages) = mpsc::channel(10);
        let register = v1::Register {
            version: version.into(),
            name: "a".into(),
            address: "a:1".into(),
            slots: 1,
            ..Default::default()
        };
        let register = v1::ExecutorMessage { message: Some(ToPrimary::Register(register)) };
        to_primary.send(register).await.unwrap();
        let mut client = DispatchClient::new(channel.clone());
        let from_primary = client.attach(ReceiverStream::new(messages)).await?.into_inner();
        Ok(FakeExecutor { to_primary, from_primary })
    }

    async fn hear(&mut self) -> FromPrimary {
        let message = tokio::time::timeout(SOON, self.from_primary.message()).await.expect("nothing was ordered");
        message.unwrap().expect("the stream ended").message.unwrap()
    }

    async fn finish(&self, launch: &v1::Launch) {
        let stage = launch.stage.unwrap();
        let tasks = launch.attempts.iter().map(|attempt| v1::TaskEnded {
            attempt: Some(v1::AttemptId {
                job: stage.job,
                stage: stage.stage,
                partition: attempt.partition,
                attempt: attempt.attempt,
            }),
            outcome: Some(v1::task_ended::Outcome::Finished(v1::TaskFinished { rows: 2, ..Default::default() })),
            ..Default::default()
        });
        let ended = ToPrimary::TasksEnded(v1::TasksEnded { tasks: tasks.collect() });
        self.to_primary.send(v1::ExecutorMessage { message: Some(ended) }).await.unwrap();
    }
}

#[tokio::test]
async fn a_query_can_be_watched_from_before_it_starts_until_it_ends() {
    let Serving { driver, channel, shutdown: _shutdown, serving: _serving } = serve().await;
    let mut admin = AdminClient::new(channel.clone());
    let watch = v1::WatchQueryRequest { query: "mine".into() };
    let mut progress = admin.watch_query(watch).await.unwrap().into_inner();

    let mut executor = FakeExecutor::attach(&channel, version::VERSION).await.unwrap();
    assert!(matches!(executor.hear().await, FromPrimary::Welcome(_)));
    let info = JobInfo { statement: "select  1".into(), query: Some("mine".into()), ..Default::default() };
    let mut handle = driver.submit(planned(&[1]), info).await;
    let FromPrimary::Launch(launch) = executor.hear().await else { panic!("not a launch") };

    let first = tokio::time::timeout(SOON, progress.message()).await.expect("no progress").unwrap().unwrap();
    assert_eq!((first.job.as_str(), first.tasks), ("job-000001", 1));
    executor.finish(&launch).await;
    handle.wait().await.unwrap();
    let mut last = first;
    while let Some(next) = tokio::time::timeout(SOON, progress.message()).await.expect("no end").unwrap() {
        last = next;
    }
    assert_eq!((last.state.as_str(), last.tasks_done, last.rows), ("finished", 1, 2));
    assert_eq!(last.stage_details[0].rows, 2);

    let jobs = admin.list_jobs(v1::ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!((jobs[0].name.as_str(), jobs[0].state.as_str(), jobs[0].rows), ("select 1", "finished", 2));
    let request = v1::JobRequest { job: "1".into() };
    let logs = admin.job_logs(request.clone()).await.unwrap().into_inner().lines;
    assert!(logs.last().unwrap().ends_with("finished"), "{logs:?}");
    let cancelled = admin.cancel_job(request).await.unwrap().into_inner();
    assert_eq!(cancelled.state, "finished", "too late to cancel");
    let unknown = admin.show_job(v1::JobRequest { job: "job-000099".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let nonsense = admin.show_job(v1::JobRequest { job: "x".into() }).await.unwrap_err();
    assert_eq!(nonsense.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_clusters_own_jobs_are_listed_when_they_are_asked_for() {
    let Serving { driver, channel, shutdown: _shutdown, serving: _serving } = serve().await;
    let mut handles = Vec::new();
    for (statement, retention) in [("a user's", Retention::User), ("its own", Retention::Internal)] {
        let terms = Terms { retention, ..Terms::default() };
        let info = JobInfo { statement: statement.into(), terms, ..Default::default() };
        handles.push(driver.submit(planned(&[1]), info).await);
    }
    let mut changes = driver.history().changes();
    while driver.history().jobs(10, true, |_| ()).len() < 2 {
        tokio::time::timeout(SOON, changes.changed()).await.expect("both wait").unwrap();
    }
    let mut admin = AdminClient::new(channel);
    let mut listed = async |internal| {
        let jobs = admin.list_jobs(v1::ListJobsRequest { limit: 0, internal }).await.unwrap().into_inner().jobs;
        jobs.into_iter().map(|job| job.name).collect::<Vec<_>>()
    };
    assert_eq!(listed(false).await, ["a user's"]);
    assert_eq!(listed(true).await, ["its own", "a user's"]);
}

#[tokio::test]
async fn executors_are_shown_drained_and_bid_farewell() {
    let Serving { channel, serving: _serving, .. } = serve().await;
    let mut executor = FakeExecutor::attach(&channel, version::VERSION).await.unwrap();
    assert!(matches!(executor.hear().await, FromPrimary::Welcome(_)));
    let mut admin = AdminClient::new(channel);
    let status = admin.cluster_status(v1::ClusterStatusRequest {}).await.unwrap().into_inner();
    let shown = &status.executors[0];
    assert_eq!((shown.name.as_str(), shown.state.as_str(), shown.slots, shown.running_tasks), ("a", "live", 1, 0));
    let unknown = admin.drain_executor(v1::DrainExecutorRequest { executor: "b".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    admin.drain_executor(v1::DrainExecutorRequest { executor: "a".into() }).await.unwrap();
    assert!(matches!(executor.hear().await, FromPrimary::Farewell(_)));
}

#[tokio::test]
async fn the_last_core_executor_keeps_its_files() {
    let Serving { channel, driver, serving: _serving, .. } = serve().await;
    let mut executor = FakeExecutor::attach(&channel, version::VERSION).await.unwrap();
    assert!(matches!(executor.hear().await, FromPrimary::Welcome(_)));
    let holds = async |block_bytes: u64| {
        let heartbeat = ToPrimary::Heartbeat(v1::Heartbeat { block_bytes, ..v1::Heartbeat::default() });
        executor.to_primary.send(v1::ExecutorMessage { message: Some(heartbeat) }).await.unwrap();
        let heard = async || driver.executors().await[0].heartbeat.block_bytes == block_bytes;
        tokio::time::timeout(SOON, async { while !heard().await {} }).await.expect("it is heard");
    };
    holds(7).await;
    let mut admin = AdminClient::new(channel);
    let decommission = v1::DrainExecutorRequest { executor: "a".into() };
    let refused = admin.drain_executor(decommission.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("7 bytes of files"), "{refused}");
    holds(0).await;
    admin.drain_executor(decommission).await.unwrap();
}

#[tokio::test]
async fn an_executor_of_another_version_is_told_both() {
    let Serving { channel, serving: _serving, .. } = serve().await;
    let status = FakeExecutor::attach(&channel, "9.9.0").await.err().unwrap();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("9.9.0") && status.message().contains(version::VERSION), "{status}");
}

#[tokio::test]
async fn stopping_does_not_wait_for_executors_to_go_and_tells_them_why() {
    let Serving { channel, shutdown, mut serving, .. } = serve().await;
    let mut executor = FakeExecutor::attach(&channel, version::VERSION).await.unwrap();
    assert!(matches!(executor.hear().await, FromPrimary::Welcome(_)));
    shutdown.cancel();
    let status = executor.from_primary.message().await.unwrap_err();
    assert!(status.message().contains("stopping"), "{status}");
    drop((executor, channel));
    let stopped = tokio::time::timeout(SOON / 4, serving.join_next()).await.expect("it goes on");
    stopped.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = held.local_addr().unwrap();
    let taken = PrimaryConfig { listen, ..PrimaryConfig::default() };
    let error = Primary::listen(taken.listen).await.err().unwrap().to_string();
    assert!(error.contains(&listen.port().to_string()) && error.contains("--listen"), "{error}");
}
