//! A cluster over the network: Arrow Flight SQL for statements, gRPC for jobs and administration.

mod connection;
mod fetch;
#[cfg(feature = "files")]
mod files;
mod flight;
mod link;
mod statement;
mod tables;
#[cfg(test)]
mod tests;
mod wire;

use crate::backend::{Answer, Backend, Body, Request, Sent, Table, TableFilter};
use crate::error::{ClientError, Result};
use crate::jobs::{ClusterStatus, Job, JobDetail, JobId, JobState, Progress, job_state};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use connection::Identity;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use link::{Known, Link};
use parking_lot::{Mutex, RwLock};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tonic::{Code, Status};
#[cfg(feature = "files")]
use windlass_connectors::wfs::Wfs;
use windlass_proto::flight::Action;
use windlass_proto::leaves::{Leaves, leaves};
use windlass_proto::v1::admin_client::AdminClient;
use windlass_proto::v1::{
    ClusterStatusRequest, DrainExecutorRequest, JobRequest, ListJobsRequest, SubmitRequest, WatchQueryRequest,
};
#[cfg(feature = "embedded")]
pub(crate) use wire::Services;
pub(crate) use wire::Wire;

/// A session with whichever primary leads.
#[derive(Clone)]
pub(crate) struct Remote(Arc<Shared>);

pub(crate) struct Shared {
    url: String,
    /// Empty when the connection was made by others, and cannot be made again.
    members: Vec<String>,
    link: RwLock<Arc<Link>>,
    identity: Arc<Identity>,
    /// Held while the leader is looked for.
    seeking: tokio::sync::Mutex<()>,
    /// The statements that gave the session its options, for a session with a new leader.
    options: Mutex<Vec<Request>>,
    /// The session holds temporary tables or prepared statements, which a new leader cannot be given.
    holds_things: AtomicBool,
    /// They are gone, and nobody was told yet.
    things_lost: AtomicBool,
}

type Batches = BoxStream<'static, Result<RecordBatch>>;

/// How long a call waits for a primary that takes it: one that is asked to leave ends first what it runs.
const PATIENCE: Duration = Duration::from_secs(75);

/// Whether a call may reach the cluster twice.
#[derive(Clone, Copy, PartialEq)]
enum Again {
    /// It changes nothing, or the cluster sees to it that it happens once.
    Harmless,
    Never,
}

impl Deref for Remote {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Remote {
    /// Connects to the primary that leads, and makes sure that its release matches.
    pub(crate) async fn connect(url: &str, token: Option<String>) -> Result<Remote> {
        let (members, identity) = (link::members(url), Arc::new(Identity::new(token)));
        let link = link::find(&members, &identity, Known::No).await?;
        Ok(Remote::with(link, url.to_owned(), members, identity))
    }

    #[cfg(any(test, feature = "embedded"))]
    pub(crate) fn over(wire: Wire, url: String, token: Option<String>) -> Remote {
        let identity = Arc::new(Identity::new(token));
        Remote::with(Link::new(wire, url.clone(), &identity), url, Vec::new(), identity)
    }

    fn with(link: Link, url: String, members: Vec<String>, identity: Arc<Identity>) -> Remote {
        Remote(Arc::new(Shared {
            url,
            members,
            link: RwLock::new(Arc::new(link)),
            identity,
            seeking: tokio::sync::Mutex::default(),
            options: Mutex::default(),
            holds_things: AtomicBool::default(),
            things_lost: AtomicBool::default(),
        }))
    }

    fn link(&self) -> Arc<Link> {
        Arc::clone(&self.link.read())
    }

    /// Makes a call, and makes it again with a new leader where the old one did not get it or it does no harm.
    async fn call<T, F>(&self, again: Again, call: impl Fn(Arc<Link>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let started = Instant::now();
        loop {
            let link = self.link();
            let error = match call(Arc::clone(&link)).await {
                Err(error) if self.may_have_moved(&error) && started.elapsed() < PATIENCE => error,
                outcome => return outcome,
            };
            if let Err(nobody) = self.follow(&link, &error).await {
                // Of a primary that does not come back, what happened first says more.
                return Err(if self.members.len() > 1 { nobody } else { error });
            }
            let nothing_happened =
                matches!(error, ClientError::StandsBy { .. } | ClientError::Disconnected { sent: false, .. });
            if again == Again::Never && !nothing_happened {
                return Err(error);
            }
        }
    }

    /// Makes a call of the administration. `wrong` says what a refusal means.
    async fn ask<M, R, F>(
        &self,
        again: Again,
        message: M,
        doing: &str,
        wrong: fn(&Status, &str, &str) -> ClientError,
        send: impl Fn(AdminClient<Wire>, tonic::Request<M>) -> F,
    ) -> Result<R>
    where
        M: Clone,
        F: Future<Output = Result<tonic::Response<R>, Status>>,
    {
        let call = |link: Arc<Link>| {
            let answer = send(link.admin(), self.identity.request(message.clone(), None));
            async move { Ok(answer.await.map_err(|status| wrong(&status, &link.url, doing))?.into_inner()) }
        };
        self.call(again, call).await
    }

    fn may_have_moved(&self, error: &ClientError) -> bool {
        match error {
            ClientError::StandsBy { .. } | ClientError::Disconnected { .. } => !self.members.is_empty(),
            _ => false,
        }
    }

    /// Looks for the leader, unless somebody has since `link` turned out not to be it.
    async fn follow(&self, link: &Arc<Link>, error: &ClientError) -> Result<()> {
        let _seeking = self.seeking.lock().await;
        if !Arc::ptr_eq(link, &self.link()) {
            return Ok(());
        }
        // The session of the old leader means nothing to the new one, and may not be found there by chance.
        let found = link::find(&self.members, &self.identity, Known::Yes).await?;
        if found.url == link.url && matches!(error, ClientError::StandsBy { .. }) {
            // It still leads, and takes nothing any more.
            tokio::time::sleep(link::PAUSE).await;
            return Ok(());
        }
        tracing::info!(leader = found.url, "the cluster's primary has changed");
        self.identity.forget();
        let options = self.options.lock().clone();
        for option in options {
            match statement::execute(&found, option).await {
                // It does not lead any more: whoever called looks again.
                Err(error) if self.may_have_moved(&error) => return Ok(()),
                answer => _ = answer?,
            }
        }
        if self.holds_things.swap(false, Ordering::AcqRel) {
            self.things_lost.store(true, Ordering::Release);
        }
        *self.link.write() = Arc::new(found);
        Ok(())
    }

    /// The rows of a statement that happens once however often it is sent. It is sent again when its result breaks off before the
    /// first row was handed out.
    fn with_second_try(&self, batches: Batches, request: Request) -> Batches {
        let remote = self.clone();
        let rows = async move {
            let mut batches = batches.fuse();
            match batches.next().await {
                Some(Err(
                    ClientError::Disconnected { .. } | ClientError::ResultLost { .. } | ClientError::StandsBy { .. },
                )) => {
                    let request = Request { sent: Sent::Again, ..request };
                    let call = |link: Arc<Link>| {
                        let request = request.clone();
                        async move { statement::execute(&link, request).await }
                    };
                    match remote.call(Again::Harmless, call).await {
                        Ok(answer) => answer.batches,
                        Err(error) => stream::iter([Err(error)]).boxed(),
                    }
                }
                first => stream::iter(first).chain(batches).boxed(),
            }
        };
        rows.into_stream().flatten().boxed()
    }

    /// The last statement for an option is the one that counts.
    fn remember(&self, request: Request) {
        let option = |request: &Request| match &request.body {
            Body::Sql(sql) => sql.split('=').next().unwrap_or_default().trim().to_lowercase(),
            Body::Plan(_) => String::new(),
        };
        let of = option(&request);
        let mut options = self.options.lock();
        options.retain(|earlier| option(earlier) != of);
        options.push(request);
    }

    fn tell_of_lost_things(&self) -> Result<()> {
        match self.things_lost.swap(false, Ordering::AcqRel) {
            true => Err(ClientError::SessionLost { leader: self.link().url.clone() }),
            false => Ok(()),
        }
    }
}

fn of_job(status: &Status, peer: &str, doing: &str) -> ClientError {
    match status.code() {
        Code::NotFound => ClientError::UnknownJob(status.message().to_owned()),
        Code::InvalidArgument => ClientError::Invalid(status.message().to_owned()),
        _ => ClientError::from_status(status, peer, doing),
    }
}

#[async_trait]
impl Backend for Remote {
    async fn execute(&self, request: Request) -> Result<Answer> {
        let leaves = match &request.body {
            Body::Sql(sql) => leaves(sql),
            Body::Plan(_) => Leaves::Nothing,
        };
        let may_repeat = !self.members.is_empty() && leaves == Leaves::Nothing;
        let (again, first) = match leaves {
            _ if may_repeat => (Again::Harmless, Sent::First),
            // Setting an option twice is setting it.
            Leaves::Option => (Again::Harmless, Sent::Once),
            _ => (Again::Never, Sent::Once),
        };
        let tries = AtomicU32::new(0);
        let mut answer = self
            .call(again, |link| {
                let is_first = tries.fetch_add(1, Ordering::Relaxed) == 0;
                // The cluster knows it by its name, and runs it once.
                let sent = if may_repeat && !is_first { Sent::Again } else { first };
                let request = Request { sent, ..request.clone() };
                async move {
                    self.tell_of_lost_things()?;
                    statement::execute(&link, request).await
                }
            })
            .await;
        if may_repeat && let Ok(answer) = &mut answer {
            let batches = std::mem::replace(&mut answer.batches, stream::empty().boxed());
            answer.batches = self.with_second_try(batches, request.clone());
        }
        match leaves {
            _ if answer.is_err() => {}
            Leaves::Nothing => {}
            Leaves::Option => self.remember(request),
            Leaves::Things => self.holds_things.store(true, Ordering::Release),
        }
        answer
    }

    fn watch(&self, query: &str) -> BoxStream<'static, Result<Progress>> {
        let link = self.link();
        let mut admin = link.admin();
        let request = self.identity.request(WatchQueryRequest { query: query.to_owned() }, None);
        let url = link.url.clone();
        stream::once(async move {
            let failed = |status: Status| ClientError::from_status(&status, &url, "watching the statement");
            let progress = admin.watch_query(request).await.map_err(failed)?.into_inner();
            Ok(progress.map(move |item| {
                item.map_err(|status| ClientError::from_status(&status, &url, "watching the statement"))
                    .and_then(Progress::try_from)
            }))
        })
        .flat_map(|opened: Result<_>| match opened {
            Ok(progress) => progress.boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        })
        .boxed()
    }

    async fn tables(&self, filter: &TableFilter) -> Result<Vec<Table>> {
        self.call(Again::Harmless, |link| async move { tables::list(&link, filter).await }).await
    }

    async fn submit(&self, sql: &str, name: &str, options: &[(String, String)]) -> Result<JobId> {
        let message =
            SubmitRequest { sql: sql.to_owned(), name: name.to_owned(), options: options.iter().cloned().collect() };
        let send = |mut admin: AdminClient<_>, request| async move { admin.submit(request).await };
        self.ask(Again::Never, message, "submitting the job", ClientError::from_status, send).await?.job.parse()
    }

    async fn jobs(&self, limit: u32, internal: bool) -> Result<Vec<Job>> {
        let send = |mut admin: AdminClient<_>, request| async move { admin.list_jobs(request).await };
        let message = ListJobsRequest { limit, internal };
        let answer = self.ask(Again::Harmless, message, "listing jobs", ClientError::from_status, send).await?;
        answer.jobs.into_iter().map(Job::try_from).collect()
    }

    async fn job(&self, job: JobId) -> Result<JobDetail> {
        let send = |mut admin: AdminClient<_>, request| async move { admin.show_job(request).await };
        let message = JobRequest { job: job.to_string() };
        self.ask(Again::Harmless, message, "looking up the job", of_job, send).await?.try_into()
    }

    async fn cancel(&self, job: JobId) -> Result<JobState> {
        let send = |mut admin: AdminClient<_>, request| async move { admin.cancel_job(request).await };
        let message = JobRequest { job: job.to_string() };
        job_state(&self.ask(Again::Harmless, message, "cancelling the job", of_job, send).await?.state)
    }

    async fn job_logs(&self, job: JobId) -> Result<Vec<String>> {
        let send = |mut admin: AdminClient<_>, request| async move { admin.job_logs(request).await };
        let message = JobRequest { job: job.to_string() };
        Ok(self.ask(Again::Harmless, message, "reading the job's log", of_job, send).await?.lines)
    }

    async fn status(&self) -> Result<ClusterStatus> {
        let send = |mut admin: AdminClient<_>, request| async move { admin.cluster_status(request).await };
        let doing = "asking for the cluster's state";
        Ok(self.ask(Again::Harmless, ClusterStatusRequest {}, doing, ClientError::from_status, send).await?.into())
    }

    async fn decommission(&self, executor: &str) -> Result<String> {
        let send = |mut admin: AdminClient<_>, request| async move { admin.drain_executor(request).await };
        let message = DrainExecutorRequest { executor: executor.to_owned() };
        let failed = |status: &Status, peer: &str, doing: &str| match status.code() {
            Code::NotFound => ClientError::invalid(status.message().to_owned()),
            _ => ClientError::from_status(status, peer, doing),
        };
        Ok(self.ask(Again::Harmless, message, "asking an executor to leave", failed, send).await?.executor)
    }

    #[cfg(feature = "files")]
    fn files(&self) -> Wfs {
        files::of(self)
    }

    async fn close(&self) -> Result<()> {
        // CloseSessionRequest has no fields.
        let action = self.identity.request(Action { r#type: "CloseSession".to_owned(), ..Action::default() }, None);
        let link = self.link();
        match link.flight().do_action(action).await {
            Ok(_) => Ok(()),
            // Sessions expire; a server that cannot close one early is none the worse.
            Err(status) if matches!(status.code(), Code::Unimplemented | Code::InvalidArgument) => Ok(()),
            Err(status) => match ClientError::from_status(&status, &link.url, "closing the session") {
                // It ends with its connection, or expires: all that was asked of it has been answered.
                ClientError::Disconnected { .. } | ClientError::StandsBy { .. } => Ok(()),
                error => Err(error),
            },
        }
    }

    fn url(&self) -> &str {
        &self.url
    }
}
