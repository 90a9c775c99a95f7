//! The executor's ports over real sockets, with a made-up primary at the other end.

use super::*;
use crate::server::Server;
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::{FlightClient, IpcMessage, SchemaAsIpc, Ticket};
use bytes::Bytes;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use prost::Message;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming};
use windlass_core::access::Principal;
use windlass_core::failure::TaskFailure;
use windlass_core::ids::{AttemptId, ExecutorId, JobId};
use windlass_engine::session::session_config;
use windlass_engine::{Connections, ExchangeSource, Local, RemoteExchange};
use windlass_proto::pass::{ClusterKey, KeyRing};
use windlass_proto::v1::dispatch_server::{Dispatch, DispatchServer};
use windlass_proto::v1::executor_message::Message as ToPrimary;
use windlass_proto::v1::primary_message::Message as FromPrimary;
use windlass_proto::{bulk, v1};

/// Longer than anything here takes, so that a hang is a failure.
const SOON: Duration = Duration::from_secs(10);

fn config(dir: &tempfile::TempDir) -> ExecutorConfig {
    ExecutorConfig {
        slots: 1,
        memory_bytes: 64 << 20,
        dir: dir.path().join("executor"),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        join_timeout: Duration::from_millis(200),
        leave_timeout: SOON,
        ..ExecutorConfig::default()
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

fn output(partition: u32) -> AttemptId {
    JobId(1).stage(0).task(partition).attempt(0)
}

/// An executor that serves two outputs of two buckets: bucket b of output p holds p * 10 + b.
async fn serving(dir: &tempfile::TempDir, tasks: &mut JoinSet<()>) -> (Executor, String) {
    let executor = Executor::open(config(dir)).unwrap();
    for partition in 0..2 {
        let mut writer = executor.store().writer(output(partition), schema(), 2);
        for bucket in 0..2 {
            let values = Int64Array::from(vec![i64::from(partition * 10 + bucket)]);
            let batch = RecordBatch::try_new(schema(), vec![Arc::new(values)]).unwrap();
            writer.push(bucket, batch).await.unwrap();
        }
        writer.finish().await.unwrap();
    }
    executor.node().keys.set(keys().key().unwrap());
    let server = Server::bind(&executor).await.unwrap();
    let address = server.address().to_string();
    let served = executor.clone();
    tasks.spawn(async move { server.run(&served, CancellationToken::new()).await.unwrap() });
    (executor, address)
}

/// The keys of these tests' cluster.
fn keys() -> KeyRing {
    KeyRing::new(ClusterKey::from_bytes(&[7; ClusterKey::LENGTH]).unwrap())
}

fn reader(address: &str) -> RemoteExchange {
    let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
    let addresses = BTreeMap::from([(ExecutorId(1), address.to_string())]);
    RemoteExchange::new(Connections::new(Handle::current(), pool, keys()), Arc::new(addresses), Local::Nothing)
}

async fn numbers(
    source: &RemoteExchange,
    outputs: &[(u32, u64)],
    bucket: Option<u32>,
) -> Result<Vec<i64>, DataFusionError> {
    let outputs = outputs.iter().map(|&(partition, executor)| (output(partition), ExecutorId(executor))).collect();
    let read = source.read(schema(), outputs, bucket.map(|bucket| bucket..bucket + 1)).try_collect::<Vec<_>>();
    let batches = tokio::time::timeout(SOON, read).await.expect("the fetch hangs")?;
    let column = |batch: &RecordBatch| batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec();
    let mut numbers: Vec<i64> = batches.iter().flat_map(column).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn fetch_failed(error: &DataFusionError) -> (AttemptId, ExecutorId, String) {
    let DataFusionError::External(error) = error.find_root() else { panic!("not from outside: {error}") };
    match error.downcast_ref::<TaskFailure>() {
        Some(TaskFailure::FetchFailed { output, executor, message }) => (*output, *executor, message.clone()),
        other => panic!("not a failed fetch: {other:?}"),
    }
}

#[tokio::test]
async fn outputs_are_fetched_from_other_executors_by_bucket_or_whole() {
    let (dir, mut tasks) = (tempfile::tempdir().unwrap(), JoinSet::new());
    let (_executor, address) = serving(&dir, &mut tasks).await;
    let source = reader(&address);
    assert_eq!(numbers(&source, &[(0, 1), (1, 1)], Some(1)).await.unwrap(), vec![1, 11]);
    assert_eq!(numbers(&source, &[(0, 1), (1, 1)], None).await.unwrap(), vec![0, 1, 10, 11]);
}

#[tokio::test]
async fn what_cannot_be_fetched_is_named() {
    let (dir, mut tasks) = (tempfile::tempdir().unwrap(), JoinSet::new());
    let (_executor, address) = serving(&dir, &mut tasks).await;
    let missing = numbers(&reader(&address), &[(0, 1), (7, 1)], None).await.unwrap_err();
    let (lost, executor, _) = fetch_failed(&missing);
    assert_eq!((lost, executor), (output(7), ExecutorId(1)));

    let unknown = numbers(&reader(&address), &[(0, 9)], None).await.unwrap_err();
    assert_eq!(fetch_failed(&unknown).1, ExecutorId(9));

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let refused = numbers(&reader(&nobody), &[(0, 1)], None).await.unwrap_err();
    let (lost, _, message) = fetch_failed(&refused);
    assert_eq!(lost, output(0));
    assert!(message.contains(&nobody), "{message}");
}

#[tokio::test]
async fn results_are_served_over_flight_in_the_order_of_the_ticket() {
    let (dir, mut tasks) = (tempfile::tempdir().unwrap(), JoinSet::new());
    let (_executor, address) = serving(&dir, &mut tasks).await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = FlightClient::new(channel.connect().await.unwrap());
    let IpcMessage(schema) = SchemaAsIpc::new(&schema(), &Default::default()).try_into().unwrap();
    let ticket = |partitions: &[u32]| {
        let outputs = partitions.iter().map(|&partition| output(partition).into()).collect();
        let pass = keys().sign(output(0).job(), &Principal::anonymous(), SOON);
        Ticket::new(v1::ResultTicket { outputs, schema: schema.clone(), pass }.encode_to_vec())
    };
    let batches: Vec<RecordBatch> = client.do_get(ticket(&[1, 0])).await.unwrap().try_collect().await.unwrap();
    let all = arrow::compute::concat_batches(&self::schema(), &batches).unwrap();
    assert_eq!(all.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values(), &[10, 11, 0, 1]);

    let gone = client.do_get(ticket(&[5])).await.unwrap().try_collect::<Vec<_>>().await.unwrap_err();
    assert!(gone.to_string().contains("run the statement again"), "{gone}");
}

/// Ids of jobs and attempts can be guessed by counting.
#[tokio::test]
async fn nobody_reads_outputs_without_a_pass_for_their_job() {
    let (dir, mut tasks) = (tempfile::tempdir().unwrap(), JoinSet::new());
    let (executor, address) = serving(&dir, &mut tasks).await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = channel.connect().await.unwrap();
    let IpcMessage(ipc) = SchemaAsIpc::new(&schema(), &Default::default()).try_into().unwrap();
    let stranger = KeyRing::new(ClusterKey::from_bytes(&[8; ClusterKey::LENGTH]).unwrap());
    let (job, nobody) = (output(0).job(), Principal::anonymous());
    let of_another_job = JobId(job.0 + 1);
    for pass in [
        Bytes::new(),
        stranger.sign(job, &nobody, SOON),
        keys().sign(of_another_job, &nobody, SOON),
        keys().sign(job, &nobody, Duration::ZERO),
    ] {
        let ticket = v1::ResultTicket { outputs: vec![output(0).into()], schema: ipc.clone(), pass: pass.clone() };
        let refused = FlightClient::new(channel.clone()).do_get(Ticket::new(ticket.encode_to_vec())).await;
        assert!(refused.err().unwrap().to_string().contains("pass"));
        let wanted = v1::FetchOutput { output: Some(output(0).into()), bucket: None };
        let request = v1::FetchRequest { outputs: vec![wanted], pass };
        let fetched = bulk::call::<_, v1::FetchChunk>(channel.clone(), bulk::FETCH, request, 1 << 20).await;
        let refused = fetched.err().unwrap();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    drop(executor);
}

#[tokio::test]
async fn a_port_in_use_is_named_and_a_folder_in_use_too() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let held = std::net::TcpListener::bind(taken).unwrap();
    let first = Executor::open(ExecutorConfig { listen: taken, ..config(&dir) }).unwrap();
    let error = Server::bind(&first).await.err().unwrap().to_string();
    assert!(error.contains(&taken.port().to_string()) && error.contains("--listen"), "{error}");
    drop(held);
    let error = Executor::open(config(&dir)).err().unwrap().to_string();
    assert!(error.contains("--dir"), "{error}");
}

#[tokio::test]
async fn a_primary_that_is_not_there_is_an_error_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let config = ExecutorConfig { primaries: vec![nobody.clone()], ..config(&dir) };
    let error = run(config, CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.contains(&nobody) && error.contains("windlass primary"), "{error}");
}

/// A primary that forwards messages of executors to the test, and sends the test's orders.
struct FakePrimary {
    refuse: bool,
    heard: mpsc::Sender<ToPrimary>,
    orders: tokio::sync::Mutex<Vec<mpsc::Receiver<Result<v1::PrimaryMessage, Status>>>>,
}

#[tonic::async_trait]
impl Dispatch for FakePrimary {
    type AttachStream = BoxStream<'static, Result<v1::PrimaryMessage, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::ExecutorMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut inbound = request.into_inner();
        let register = inbound.message().await?.unwrap().message.unwrap();
        self.heard.send(register).await.unwrap();
        if self.refuse {
            return Err(Status::failed_precondition("wrong version"));
        }
        let heard = self.heard.clone();
        let orders = ReceiverStream::new(self.orders.lock().await.remove(0));
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                let _ = heard.send(message.message.unwrap()).await;
            }
        });
        let orders = futures::StreamExt::inspect(orders, move |_| _ = &reading);
        Ok(Response::new(Box::pin(orders)))
    }
}

struct Primary {
    address: String,
    heard: mpsc::Receiver<ToPrimary>,
    /// Order channels, one for each registration.
    orders: Vec<mpsc::Sender<Result<v1::PrimaryMessage, Status>>>,
    _serving: JoinSet<()>,
}

async fn primary(refuse: bool) -> Primary {
    let (sender, heard) = mpsc::channel(100);
    let (first, first_orders) = mpsc::channel(100);
    let (second, second_orders) = mpsc::channel(100);
    let orders = tokio::sync::Mutex::new(vec![first_orders, second_orders]);
    let service = DispatchServer::new(FakePrimary { refuse, heard: sender, orders });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let server = tonic::transport::Server::builder().add_service(service);
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
    Primary { address, heard, orders: vec![first, second], _serving: serving }
}

impl Primary {
    async fn order(&self, registration: usize, message: FromPrimary) {
        self.orders[registration].send(Ok(v1::PrimaryMessage { message: Some(message) })).await.unwrap();
    }

    async fn welcome(&self, registration: usize, executor: u64) {
        self.order(
            registration,
            FromPrimary::Welcome(v1::Welcome {
                executor,
                heartbeat_ms: 60_000,
                cluster: Default::default(),
                key: Default::default(),
            }),
        )
        .await;
    }

    /// The next message that is not a heartbeat.
    async fn hear(&mut self) -> ToPrimary {
        loop {
            let next = tokio::time::timeout(SOON, self.heard.recv()).await.expect("nothing was said").unwrap();
            if !matches!(next, ToPrimary::Heartbeat(_) | ToPrimary::Blocks(_)) {
                return next;
            }
        }
    }
}

#[tokio::test]
async fn a_refused_executor_says_why_and_does_not_try_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut primary = primary(true).await;
    let config = ExecutorConfig { primaries: vec![format!("grpc://{}", primary.address)], ..config(&dir) };
    let error = run(config, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(&error, ExecutorError::Refused { reason, .. } if reason == "wrong version"), "{error}");
    assert!(matches!(primary.hear().await, ToPrimary::Register(_)));
}

#[tokio::test]
async fn an_executor_reports_joins_again_after_a_loss_and_leaves_after_the_farewell() {
    let dir = tempfile::tempdir().unwrap();
    let mut primary = primary(false).await;
    let config = ExecutorConfig { primaries: vec![primary.address.clone()], ..config(&dir) };
    let shutdown = CancellationToken::new();
    let mut running = JoinSet::new();
    running.spawn(run(config, shutdown.clone()));

    let ToPrimary::Register(register) = primary.hear().await else { panic!("it did not register") };
    assert_eq!((register.slots, register.version.as_str()), (1, windlass_proto::version::VERSION));
    assert_eq!(register.name, register.address);
    primary.welcome(0, 5).await;
    let launch = v1::Launch {
        stage: Some(JobId(1).stage(0).into()),
        plan_hash: vec![0; 16].into(),
        attempts: vec![v1::LaunchedAttempt { partition: 3, attempt: 1 }],
        ..Default::default()
    };
    primary.order(0, FromPrimary::Launch(launch)).await;
    let ToPrimary::TasksEnded(ended) = primary.hear().await else { panic!("it did not report") };
    assert_eq!(AttemptId::from(ended.tasks[0].attempt.unwrap()), JobId(1).stage(0).task(3).attempt(1));

    // The primary drops the executor.
    primary.orders[0].send(Err(Status::aborted("not heard from"))).await.unwrap();
    assert!(matches!(primary.hear().await, ToPrimary::Register(_)));
    primary.welcome(1, 6).await;
    // A heartbeat shows that the welcome arrived.
    while !matches!(primary.heard.recv().await, Some(ToPrimary::Heartbeat(_))) {}

    shutdown.cancel();
    assert!(matches!(primary.hear().await, ToPrimary::Leaving(_)));
    primary.order(1, FromPrimary::Farewell(v1::Farewell {})).await;
    let left = tokio::time::timeout(SOON, running.join_next()).await.expect("it did not leave");
    left.unwrap().unwrap().unwrap();
}

/// Bytes that plans of this executor spilled, over all operators.
fn spilled(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let own = plan.metrics().and_then(|metrics| metrics.spilled_bytes()).unwrap_or(0);
    own + plan.children().into_iter().map(spilled).sum::<usize>()
}

fn files(dir: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

/// Runs `sql` over about 80 MB, two partitions at a time, in a pool of a tenth of that. Returns the number of rows; no memory is left reserved.
async fn in_little_memory(sql: &str) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let executor = Executor::open(ExecutorConfig { memory_bytes: 8 << 20, ..config(&dir) }).unwrap();
    // Batches are in proportion to the pool.
    let mut options = session_config().with_target_partitions(2).with_batch_size(1024);
    options.options_mut().execution.sort_spill_reservation_bytes = 256 << 10;
    let session = SessionContext::new_with_config_rt(options, executor.runtime_env().clone());
    let plan = session.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    let mut stream = datafusion::physical_plan::execute_stream(plan.clone(), session.task_ctx()).unwrap();
    let mut rows = 0;
    while let Some(batch) = stream.try_next().await.unwrap() {
        rows += batch.num_rows();
    }
    drop(stream);
    assert!(spilled(&plan) > 16 << 20, "it spilled {} bytes", spilled(&plan));
    drop(plan);
    assert_eq!(files(&dir.path().join("executor/spill")), 0);
    assert_eq!(executor.node().memory.used(), 0);
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_by_of_ten_times_the_memory_spills_and_leaves_nothing() {
    let sql = "SELECT wide, count(*), max(value) FROM \
               (SELECT value, repeat(md5(value::text), 2) AS wide FROM generate_series(1, 800000)) GROUP BY wide";
    assert_eq!(in_little_memory(sql).await, 800_000);
}
