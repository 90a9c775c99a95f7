//! A cluster over the network: Arrow Flight SQL for statements, gRPC for jobs and administration.

mod connection;
mod fetch;
#[cfg(feature = "files")]
mod files;
mod flight;
mod link;
mod load;
mod statement;
mod tables;
#[cfg(test)]
mod tests;
mod wire;

use crate::backend::{Answer, Backend, Body, Delivery, Request, Rows, Table, TableFilter, Target};
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
use uuid::Uuid;
#[cfg(feature = "files")]
use windlass_connectors::wfs::Wfs;
use windlass_proto::flight::Action;
use windlass_proto::session_effect::{SessionEffect, session_effect};
use windlass_proto::v1::admin_client::AdminClient;
use windlass_proto::v1::{
    ClusterStatusRequest, DrainExecutorRequest, JobRequest, ListJobsRequest, SubmitRequest, WatchQueryRequest,
};
#[cfg(feature = "embedded")]
pub(crate) use wire::Services;
pub(crate) use wire::Wire;

/// A session with the primary that leads, even when leaders change.
#[derive(Clone)]
pub(crate) struct Remote(Arc<Shared>);

pub(crate) struct Shared {
    url: String,
    /// Addresses of the cluster; empty when the connection was made elsewhere, and cannot be made again.
    members: Vec<String>,
    link: RwLock<Arc<Link>>,
    identity: Arc<Identity>,
    /// Lock that is held during a search for the leader.
    seeking: tokio::sync::Mutex<()>,
    /// Statements that set the session's options, to be repeated in a session with a new leader.
    options: Mutex<Vec<Request>>,
    /// Whether the session holds temporary tables or prepared statements, which a new leader cannot restore.
    holds_things: AtomicBool,
    /// Whether they were lost and the caller was not told yet.
    things_lost: AtomicBool,
}

type Batches = BoxStream<'static, Result<RecordBatch>>;

/// Time that a call waits for a primary that accepts it: a leaving primary first ends its running work.
const PATIENCE: Duration = Duration::from_secs(75);

/// Whether a call may reach the cluster twice.
#[derive(Clone, Copy, PartialEq)]
enum Again {
    /// The call changes nothing, or the cluster makes it happen once.
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
        Remote::connect_as(url, Identity::new(token)).await
    }

    /// Connects like [`Remote::connect`], in a session that is open.
    pub(crate) async fn join(url: &str, token: Option<String>, session: String) -> Result<Remote> {
        let remote = Remote::connect_as(url, Identity::joining(token, session)).await?;
        // A session that has ended is told of here.
        remote.action("GetSessionOptions", "joining the session").await?;
        Ok(remote)
    }

    async fn connect_as(url: &str, identity: Identity) -> Result<Remote> {
        let (members, identity) = (link::members(url), Arc::new(identity));
        let link = link::find(&members, &identity, Known::No).await?;
        Ok(Remote::with(link, url.to_owned(), members, identity))
    }

    /// Requests an action without parameters.
    async fn action(&self, name: &str, doing: &str) -> Result<()> {
        let action = self.identity.request(Action { r#type: name.to_owned(), ..Action::default() }, None);
        let link = self.link();
        let answer = link.flight().do_action(action).await;
        answer.map(drop).map_err(|status| ClientError::from_status(&status, &link.url, doing))
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

    /// Makes a call, and repeats it with a new leader if the old one did not receive it or repetition is harmless.
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
                // If a single primary does not come back, the first error says more.
                return Err(if self.members.len() > 1 { nobody } else { error });
            }
            let nothing_happened =
                matches!(error, ClientError::StandsBy { .. } | ClientError::Disconnected { sent: false, .. });
            if again == Again::Never && !nothing_happened {
                return Err(error);
            }
        }
    }

    /// Makes an administrative call. `wrong` gives the meaning of a refusal.
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
            // The next leader does not know the session that was joined.
            ClientError::StandsBy { .. } | ClientError::Disconnected { .. } => {
                !self.members.is_empty() && !self.identity.joins()
            }
            _ => false,
        }
    }

    /// Finds the leader, unless another task has done so since `link` failed.
    async fn follow(&self, link: &Arc<Link>, error: &ClientError) -> Result<()> {
        let _seeking = self.seeking.lock().await;
        if !Arc::ptr_eq(link, &self.link()) {
            return Ok(());
        }
        // The session of the old leader means nothing to the new one, which must not match it by chance.
        let found = link::find(&self.members, &self.identity, Known::Yes).await?;
        if found.url == link.url && matches!(error, ClientError::StandsBy { .. }) {
            // It still leads, but accepts nothing any more.
            tokio::time::sleep(link::PAUSE).await;
            return Ok(());
        }
        tracing::info!(leader = found.url, "the cluster's primary has changed");
        self.identity.forget();
        let options = self.options.lock().clone();
        for option in options {
            match statement::execute(&found, option).await {
                // It does not lead any more: the caller searches again.
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

    /// Streams the rows of a statement that happens once however often it is sent. It is sent again when its result breaks off before the first row was handed
    /// out.
    fn with_second_try(&self, batches: Batches, request: Request) -> Batches {
        let remote = self.clone();
        let rows = async move {
            let mut batches = batches.fuse();
            match batches.next().await {
                Some(Err(
                    ClientError::Disconnected { .. } | ClientError::ResultLost { .. } | ClientError::StandsBy { .. },
                )) => {
                    let request = Request { delivery: Delivery::Again, ..request };
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

    /// Remembers a statement that sets an option; the last one for an option counts.
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
        let effect = match &request.body {
            Body::Sql(sql) => session_effect(sql),
            Body::Plan(_) => SessionEffect::Nothing,
        };
        let may_repeat = !self.members.is_empty() && effect == SessionEffect::Nothing;
        let (again, first) = match effect {
            _ if may_repeat => (Again::Harmless, Delivery::First),
            // Setting an option twice is harmless.
            SessionEffect::Option => (Again::Harmless, Delivery::Once),
            _ => (Again::Never, Delivery::Once),
        };
        let tries = AtomicU32::new(0);
        let mut answer = self
            .call(again, |link| {
                let is_first = tries.fetch_add(1, Ordering::Relaxed) == 0;
                // The cluster knows the statement by its name, and runs it once.
                let delivery = if may_repeat && !is_first { Delivery::Again } else { first };
                let request = Request { delivery, ..request.clone() };
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
        match effect {
            _ if answer.is_err() => {}
            SessionEffect::Nothing => {}
            SessionEffect::Option => self.remember(request),
            SessionEffect::Things => self.holds_things.store(true, Ordering::Release),
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

    async fn load(&self, target: Target, rows: Rows) -> Result<u64> {
        self.tell_of_lost_things()?;
        let temporary = target.temporary;
        let loaded = load::load(self.link(), target, rows).await;
        if temporary && loaded.is_ok() {
            self.holds_things.store(true, Ordering::Release);
        }
        loaded
    }

    async fn submit(&self, sql: &str, name: &str, options: &[(String, String)]) -> Result<JobId> {
        let message = SubmitRequest {
            sql: sql.to_owned(),
            name: name.to_owned(),
            options: options.iter().cloned().collect(),
            request: Uuid::new_v4().to_string(),
        };
        let send = |mut admin: AdminClient<_>, request| async move { admin.submit(request).await };
        self.ask(Again::Harmless, message, "submitting the job", ClientError::from_status, send).await?.job.parse()
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
        if self.identity.joins() {
            return Ok(());
        }
        // CloseSessionRequest has no fields, so its body is empty.
        let action = self.identity.request(Action { r#type: "CloseSession".to_owned(), ..Action::default() }, None);
        let link = self.link();
        match link.flight().do_action(action).await {
            Ok(_) => Ok(()),
            // Sessions expire, so a server that cannot close one early loses nothing.
            Err(status) if matches!(status.code(), Code::Unimplemented | Code::InvalidArgument) => Ok(()),
            Err(status) => match ClientError::from_status(&status, &link.url, "closing the session") {
                // The session ends with its connection, or expires: all its requests have been answered.
                ClientError::Disconnected { .. } | ClientError::StandsBy { .. } => Ok(()),
                error => Err(error),
            },
        }
    }

    fn url(&self) -> &str {
        &self.url
    }
}
