//! The executor's end of the dispatch stream.
//!
//! ```text
//!   connecting ──Register──> joined ──stream ends──> connecting (what ran is stopped, finished outputs are kept for the next leader)
//!       ▲  │ refused             │ shutdown
//!       └──┘ unreachable         ▼
//!                             leaving ──Farewell or deadline──> done (nothing is kept)
//! ```

use crate::error::ExecutorError;
use crate::node::Executor;
use crate::runner::{Ended, Runner, failed};
use crate::watchdog::{self, Watchdog};
use futures::future::BoxFuture;
use prost::Message as _;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use windlass_core::failure::TaskFailure;
use windlass_core::ids::{AttemptId, ExecutorId, StageId};
use windlass_proto::convert::{self, LaunchOrder, TaskReport};
use windlass_proto::door::{Purpose, dial};
use windlass_proto::errors::not_grpc;
use windlass_proto::pass::ClusterKey;
use windlass_proto::v1::dispatch_client::DispatchClient;
use windlass_proto::v1::executor_message::Message as ToPrimary;
use windlass_proto::v1::primary_message::Message as FromPrimary;
use windlass_proto::{MAX_MESSAGE_BYTES, describe, v1};

/// Maximum queued messages to the primary, above which the executor waits.
const OUTGOING: usize = 64;
/// Maximum bytes of reports that are sent together.
const REPORT_BYTES: usize = 4 << 20;
/// First and longest pause between rounds of attempts to reach each primary.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// Time to keep map outputs for the next leader when none is found.
const KEEP_WITHOUT_PRIMARY: Duration = Duration::from_secs(120);
/// Time limit for connecting to a primary.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Minimum time between two log lines with the same reason.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Channels between an executor and a primary in one process. They carry the same messages as the network.
pub struct LocalLink {
    pub to_primary: mpsc::Sender<v1::ExecutorMessage>,
    pub from_primary: mpsc::Receiver<v1::PrimaryMessage>,
}

impl Executor {
    /// Serves a primary of this process (embedded mode) until it ends the stream, or until `shutdown` and its farewell.
    pub async fn run_local(&self, link: LocalLink, shutdown: CancellationToken) {
        let (outgoing, incoming) = (Outgoing(link.to_primary), Incoming::Local(link.from_primary));
        let link = Link { outgoing, incoming, channel: None };
        let mut kept = Kept::default();
        if let End::Lost(reason) = join(self, "local", link, &shutdown, &mut kept).await {
            tracing::debug!(reason, "the primary of this process went away");
        }
        kept.drop_all(self);
        if let Some(blocks) = &self.node().blocks {
            blocks.stop();
        }
        self.settle().await;
    }
}

/// Stays with a primary until asked to leave.
pub(crate) async fn attach(
    executor: &Executor,
    address: &str,
    shutdown: &CancellationToken,
) -> Result<(), ExecutorError> {
    let config = &executor.node().config;
    for primary in &config.primaries {
        authority(primary).map_err(|reason| ExecutorError::Config { setting: "--primary", reason })?;
    }
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        () = look_up(&config.primaries, config.join_timeout) => {}
    }
    let mut waiting = Waiting::new(config.join_timeout);
    let mut kept = Kept::default();
    for primary in config.primaries.iter().cycle() {
        let connected = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            connected = connect(primary) => connected,
        };
        let ended = match connected {
            Ok(link) => join(executor, address, link, shutdown, &mut kept).await,
            Err(reason) => End::Lost(reason),
        };
        let reason = match ended {
            End::Left => return Ok(()),
            End::Refused(reason) => return Err(ExecutorError::Refused { primary: primary.clone(), reason }),
            End::Broken(reason) => {
                waiting = Waiting::for_ever();
                reason
            }
            End::Lost(reason) => reason,
        };
        if waiting.is_over() {
            let waited_s = config.join_timeout.as_secs();
            return Err(ExecutorError::Unreachable { primaries: config.primaries.join(", "), waited_s, reason });
        }
        kept.expire(executor);
        waiting.complain(primary, &reason);
        // The next leader is found in one round over all primaries.
        if config.primaries.last() != Some(primary) {
            continue;
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(waiting.pause()) => {}
        }
    }
    Err(ExecutorError::Config { setting: "--primary", reason: "no primary is named".into() })
}

/// Map outputs in the exchange store after their primary is gone.
#[derive(Default)]
struct Kept {
    /// Ids of this executor when it wrote them, the latest last.
    formerly: Vec<ExecutorId>,
    since: Option<Instant>,
}

impl Kept {
    /// Notes that the registration under this id has ended.
    fn note(&mut self, executor: &Executor, name: ExecutorId) {
        if executor.store().stages().is_empty() {
            self.formerly.clear();
        } else {
            self.formerly.push(name);
        }
        self.since = Some(Instant::now());
    }

    /// Drops the outputs once no leader can be expected to come for them.
    fn expire(&mut self, executor: &Executor) {
        if self.since.is_some_and(|since| since.elapsed() >= KEEP_WITHOUT_PRIMARY) {
            self.drop_all(executor);
        }
    }

    fn drop_all(&mut self, executor: &Executor) {
        let stages: Vec<StageId> = executor.store().stages().into_iter().collect();
        executor.store().remove(&stages);
        *self = Kept::default();
    }
}

/// Pauses between attempts, and the limit of the whole wait.
struct Waiting {
    next: Duration,
    until: Option<Instant>,
    /// Logged reasons, and the time of each.
    complained: BTreeMap<String, Instant>,
}

impl Waiting {
    fn new(limit: Duration) -> Self {
        Waiting { next: FIRST_PAUSE, until: Instant::now().checked_add(limit), complained: BTreeMap::new() }
    }

    fn for_ever() -> Self {
        Waiting { next: FIRST_PAUSE, until: None, complained: BTreeMap::new() }
    }

    /// Logs a reason, but not too often: several primaries are tried in turn, many times a second.
    fn complain(&mut self, primary: &str, reason: &str) {
        let complaint = format!("{primary}: {reason}");
        let now = Instant::now();
        if self.complained.get(&complaint).is_none_or(|last| now.duration_since(*last) >= COMPLAIN_EVERY) {
            tracing::warn!(primary, reason, "not attached to a primary, trying again");
            self.complained.insert(complaint, now);
        }
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

/// How one stream ended.
enum End {
    /// The executor left on purpose.
    Left,
    /// The primary refuses this executor for good.
    Refused(String),
    /// The stream broke after the executor had joined.
    Broken(String),
    /// The stream broke before the executor had joined.
    Lost(String),
}

struct Link {
    outgoing: Outgoing,
    incoming: Incoming,
    /// Channel for requests beside the stream.
    channel: Option<Channel>,
}

struct Outgoing(mpsc::Sender<v1::ExecutorMessage>);

enum Incoming {
    /// A stream whose reply comes after the primary has read the registration.
    Dialled(BoxFuture<'static, Result<Streaming<v1::PrimaryMessage>, Status>>),
    Remote(Box<Streaming<v1::PrimaryMessage>>),
    Local(mpsc::Receiver<v1::PrimaryMessage>),
}

impl Incoming {
    /// The next message; `Ok(None)` at the end of the stream. Cancel safe.
    async fn next(&mut self) -> Result<Option<FromPrimary>, Status> {
        loop {
            let message = match self {
                Incoming::Dialled(answer) => {
                    *self = Incoming::Remote(Box::new(answer.await?));
                    continue;
                }
                Incoming::Remote(stream) => stream.message().await?,
                Incoming::Local(channel) => channel.recv().await,
            };
            match message {
                None => return Ok(None),
                Some(v1::PrimaryMessage { message: None }) => {}
                Some(v1::PrimaryMessage { message: Some(message) }) => return Ok(Some(message)),
            }
        }
    }
}

/// host:port of a primary, with or without a scheme.
fn authority(primary: &str) -> Result<&str, String> {
    let address = primary.rsplit("://").next().unwrap_or(primary).trim_end_matches('/');
    let wrong =
        |why: &str| format!("\"{primary}\" is not the address of a primary, {why}: write HOST:PORT, such as db1:7077");
    let Some((host, port)) = address.rsplit_once(':') else { return Err(wrong("it has no port")) };
    if host.is_empty() {
        return Err(wrong("it has no host"));
    }
    match port.parse::<u16>() {
        Ok(1..) => {}
        Ok(0) | Err(_) => return Err(wrong(&format!("\"{port}\" is no port"))),
    }
    let parsed = format!("http://{address}").parse::<tonic::transport::Uri>();
    parsed.map(|_| address).map_err(|error| wrong(&error.to_string()))
}

/// Logs at once which names do not resolve. They may resolve later: all parts of a cluster often start together.
async fn look_up(primaries: &[String], patience: Duration) {
    for primary in primaries {
        let Ok(address) = authority(primary) else { continue };
        let found = tokio::time::timeout(Duration::from_secs(2), tokio::net::lookup_host(address)).await;
        if let Ok(Err(error)) = found {
            let waits_s = patience.as_secs();
            tracing::error!(primary, %error, waits_s, "the name of the primary does not resolve: see --primary; trying on");
        }
    }
}

async fn connect(primary: &str) -> Result<Link, String> {
    let address = authority(primary)?;
    let channel = dial(address, Purpose::Orders, CONNECT_TIMEOUT)
        .map_err(|error| format!("\"{primary}\" is not an address like host:7077: {error}"))?
        .connect()
        .await
        .map_err(|error| describe(&error))?;
    let (outgoing, messages) = mpsc::channel(OUTGOING);
    let mut client = DispatchClient::new(channel.clone())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let answer = Box::pin(async move {
        let response = client.attach(ReceiverStream::new(messages)).await?;
        Ok(response.into_inner())
    });
    Ok(Link { outgoing: Outgoing(outgoing), incoming: Incoming::Dialled(answer), channel: Some(channel) })
}

/// Registers and serves one stream to its end, then stops what runs.
async fn join(
    executor: &Executor,
    address: &str,
    mut link: Link,
    shutdown: &CancellationToken,
    kept: &mut Kept,
) -> End {
    let register = executor.node().register(address, &kept.formerly);
    if link.outgoing.send(ToPrimary::Register(register)).await.is_err() {
        return End::Lost("the primary closed the stream".into());
    }
    let welcome = tokio::select! {
        () = shutdown.cancelled() => return End::Left,
        welcome = link.incoming.next() => welcome,
    };
    let welcome = match welcome {
        Ok(Some(FromPrimary::Welcome(welcome))) => welcome,
        Ok(Some(_)) => return End::Lost("the primary did not begin with a welcome".into()),
        Ok(None) => return End::Lost("the primary ended the stream".into()),
        Err(status) if status.code() == Code::FailedPrecondition => return End::Refused(status.message().into()),
        Err(status) => return End::Lost(not_grpc(&status).unwrap_or_else(|| describe(&status))),
    };
    let id = ExecutorId(welcome.executor);
    if let Some(key) = ClusterKey::from_bytes(&welcome.key) {
        executor.node().keys.set(key);
    }
    if let Some(blocks) = &executor.node().blocks {
        if let Err(reason) = blocks.claim(&welcome.cluster) {
            return End::Refused(reason);
        }
        blocks.joined(id);
    }
    executor.node().leader.set(link.channel.clone());
    kept.since = None;
    tracing::info!(executor = %id, "joined the primary");
    let heartbeat = Duration::from_millis(welcome.heartbeat_ms.max(10));
    let leave_timeout = executor.node().config.leave_timeout;
    let mut served = Served { runner: Runner::new(id, executor.node().clone()), link, heartbeat, leave_timeout };
    let end = served.run(executor, shutdown).await;
    executor.node().leader.set(None);
    served.runner.stop().await;
    kept.note(executor, id);
    end
}

/// State of one registration.
struct Served {
    runner: Runner,
    link: Link,
    heartbeat: Duration,
    leave_timeout: Duration,
}

impl Served {
    async fn run(&mut self, executor: &Executor, shutdown: &CancellationToken) -> End {
        let mut beat = tokio::time::interval(self.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(watchdog::INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watchdog = Watchdog::new(executor.node().clone());
        let mut leave_by: Option<tokio::time::Instant> = None;
        loop {
            let deadline = leave_by.unwrap_or_else(tokio::time::Instant::now);
            let step = tokio::select! {
                message = self.link.incoming.next() => match message {
                    Ok(Some(FromPrimary::Farewell(_))) => return End::Left,
                    Ok(Some(FromPrimary::Blocks(orders))) => {
                        if let Some(blocks) = &executor.node().blocks {
                            blocks.obey(orders);
                        }
                        Ok(())
                    }
                    Ok(Some(message)) => self.obey(message).await,
                    Ok(None) if leave_by.is_some() => return End::Left,
                    Ok(None) => return End::Broken("the primary ended the stream".into()),
                    Err(status) => return End::Broken(describe(&status)),
                },
                ended = self.runner.ended() => match ended {
                    Ended::Attempts(reports) => self.report(reports).await,
                    Ended::Adoption(output, adopted) => self.say_adopted(output, adopted).await,
                },
                _ = beat.tick() => {
                    let heartbeat = executor.node().heartbeat(self.runner.running() as u32);
                    self.link.outgoing.send(ToPrimary::Heartbeat(heartbeat)).await
                }
                report = block_report(executor) => self.link.outgoing.send(ToPrimary::Blocks(report)).await,
                _ = look.tick() => {
                    watchdog.look(&mut self.runner);
                    Ok(())
                }
                () = shutdown.cancelled(), if leave_by.is_none() => {
                    tracing::info!("asked to stop: leaving the cluster");
                    leave_by = Some(tokio::time::Instant::now() + self.leave_timeout);
                    let reason = "asked to stop".to_string();
                    self.link.outgoing.send(ToPrimary::Leaving(v1::Leaving { reason })).await
                }
                () = tokio::time::sleep_until(deadline), if leave_by.is_some() => {
                    tracing::warn!(waited_s = self.leave_timeout.as_secs(), "the primary did not say farewell, going");
                    return End::Left;
                }
            };
            if let Err(Broken(reason)) = step {
                return End::Broken(reason);
            }
        }
    }

    async fn obey(&mut self, message: FromPrimary) -> Result<(), Broken> {
        match message {
            FromPrimary::Launch(launch) => {
                let order = LaunchOrder::try_from(launch)
                    .map_err(|error| Broken(format!("the primary sent nonsense: {error}")))?;
                self.runner.launch(order);
            }
            FromPrimary::Cancel(cancel) => {
                let ended = self.runner.cancel(cancel.attempts.into_iter().map(AttemptId::from));
                self.report(ended).await?;
            }
            FromPrimary::DropOutputs(drop) => {
                self.runner.drop_outputs(drop.stages.into_iter().map(StageId::from).collect());
            }
            FromPrimary::AdoptOutputs(adopt) => {
                let outputs = adopt.outputs.into_iter().map(AttemptId::from).collect();
                self.runner.adopt(outputs, ExecutorId(adopt.from), &adopt.address);
            }
            FromPrimary::DropPlans(drop) => {
                self.runner
                    .drop_plans(drop.plan_hashes.iter().filter_map(|hash| convert::plan_hash_from_wire(hash).ok()));
            }
            FromPrimary::Welcome(_) => return Err(Broken("the primary welcomed twice".into())),
            // These are handled in the loop that can end, and where the replicas are.
            FromPrimary::Farewell(_) | FromPrimary::Blocks(_) => {}
        }
        Ok(())
    }

    async fn say_adopted(&mut self, output: AttemptId, adopted: Result<(), String>) -> Result<(), Broken> {
        let mut said = v1::OutputsMoved::default();
        match adopted {
            Ok(()) => said.moved.push(output.into()),
            Err(reason) => {
                tracing::warn!(%output, reason, "a map output of a leaving executor could not be taken over");
                said.failed.push(v1::OutputNotMoved { output: Some(output.into()), reason });
            }
        }
        self.link.outgoing.send(ToPrimary::OutputsMoved(said)).await
    }

    /// Sends reports, as many together as fit.
    async fn report(&mut self, reports: Vec<TaskReport>) -> Result<(), Broken> {
        let mut tasks = Vec::with_capacity(reports.len());
        let mut bytes = 0;
        for report in reports {
            let task = encode(report);
            let more = task.encoded_len();
            if bytes + more > REPORT_BYTES && !tasks.is_empty() {
                let full = std::mem::take(&mut tasks);
                self.link.outgoing.send(ToPrimary::TasksEnded(v1::TasksEnded { tasks: full })).await?;
                bytes = 0;
            }
            bytes += more;
            tasks.push(task);
        }
        match tasks.is_empty() {
            true => Ok(()),
            false => self.link.outgoing.send(ToPrimary::TasksEnded(v1::TasksEnded { tasks })).await,
        }
    }
}

/// Waits for the next report about replicas to the primary. Cancel safe.
async fn block_report(executor: &Executor) -> v1::BlockReport {
    match &executor.node().blocks {
        Some(blocks) => blocks.report().await,
        None => std::future::pending().await,
    }
}

/// Encodes a report. A report that cannot be sent fails its task, not the stream.
fn encode(report: TaskReport) -> v1::TaskEnded {
    let attempt = report.attempt;
    let task = v1::TaskEnded::from(report);
    let bytes = task.encoded_len();
    if bytes < MAX_MESSAGE_BYTES - REPORT_BYTES {
        return task;
    }
    let message =
        format!("its report takes {} MiB and at most {} MiB can be sent", bytes >> 20, MAX_MESSAGE_BYTES >> 20);
    failed(attempt, TaskFailure::Internal { message }).into()
}

/// The stream cannot go on, for this reason.
struct Broken(String);

impl Outgoing {
    async fn send(&self, message: ToPrimary) -> Result<(), Broken> {
        let sent = self.0.send(v1::ExecutorMessage { message: Some(message) }).await;
        sent.map_err(|_| Broken("the primary closed the stream".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_primaries_are_checked_before_they_are_tried() {
        for (primary, address) in
            [("db1:7070", "db1:7070"), ("grpc://10.0.0.1:7070/", "10.0.0.1:7070"), ("http://[::1]:1", "[::1]:1")]
        {
            assert_eq!(authority(primary), Ok(address));
        }
        for primary in ["nonsense", "", ":7070", "db1:", "db1:0", "db1:70700", "a b:1", "db1:7070/x"] {
            let error = authority(primary).unwrap_err();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
    }
}
