//! A cluster over the network: Arrow Flight SQL for statements, gRPC for jobs and administration.

mod connection;
mod fetch;
mod statement;
mod tables;
#[cfg(test)]
mod tests;

use crate::backend::{Answer, Backend, Request, Table, TableFilter};
use crate::error::{ClientError, Result};
use crate::jobs::{ClusterStatus, Job, JobDetail, Progress};
use arrow_flight::Action;
use arrow_flight::flight_service_client::FlightServiceClient;
use async_trait::async_trait;
use connection::{CONNECT_TIMEOUT, Identity};
use fetch::Fetcher;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use std::fmt;
use std::sync::Arc;
use tonic::transport::Channel;
use tonic::{Code, Status};
use windlass_proto::v1::admin_client::AdminClient;
use windlass_proto::v1::{ClusterStatusRequest, JobRequest, ListJobsRequest, SubmitRequest, WatchQueryRequest};

/// A connection to a primary. One of these is one session.
pub(crate) struct Remote {
    url: String,
    channel: Channel,
    identity: Arc<Identity>,
    fetcher: Arc<Fetcher>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Remote {
    /// Connects, and makes sure that a primary of a matching release answers.
    pub(crate) async fn connect(url: &str, token: Option<String>) -> Result<Remote> {
        let channel = connection::connect(url, CONNECT_TIMEOUT).await?;
        let remote = Remote::over(channel, url.to_owned(), token);
        let status = remote.status().await.map_err(|error| match error {
            ClientError::Disconnected { reason, .. } => ClientError::Version {
                url: url.to_owned(),
                reason: format!("what listens there does not speak gRPC ({reason}): the port of a primary's gRPC is needed, not that of REST"),
            },
            other => other,
        })?;
        windlass_proto::version::check("the cluster", &status.version)
            .map_err(|reason| ClientError::Version { url: url.to_owned(), reason })?;
        Ok(remote)
    }

    pub(crate) fn over(channel: Channel, url: String, token: Option<String>) -> Remote {
        let identity = Arc::new(Identity::new(token));
        let fetcher = Arc::new(Fetcher::new(channel.clone(), url.clone(), Arc::clone(&identity)));
        Remote { url, channel, identity, fetcher }
    }

    fn flight(&self) -> FlightServiceClient<Channel> {
        FlightServiceClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    fn failed<'a>(&'a self, doing: &'a str) -> impl FnOnce(Status) -> ClientError + 'a {
        move |status| ClientError::from_status(&status, &self.url, doing)
    }

    fn of_job<'a>(&'a self, doing: &'a str) -> impl FnOnce(Status) -> ClientError + 'a {
        move |status| match status.code() {
            Code::NotFound => ClientError::UnknownJob(status.message().to_owned()),
            Code::InvalidArgument => ClientError::Invalid(status.message().to_owned()),
            _ => ClientError::from_status(&status, &self.url, doing),
        }
    }
}

#[async_trait]
impl Backend for Remote {
    async fn execute(&self, request: Request) -> Result<Answer> {
        statement::execute(self, request).await
    }

    fn watch(&self, query: &str) -> BoxStream<'static, Result<Progress>> {
        let mut admin = self.admin();
        let request = self.identity.request(WatchQueryRequest { query: query.to_owned() }, None);
        let url = self.url.clone();
        stream::once(async move {
            let failed = |status: Status| ClientError::from_status(&status, &url, "watching the statement");
            let progress = admin.watch_query(request).await.map_err(failed)?.into_inner();
            Ok(progress.map(move |item| {
                item.map(Progress::from)
                    .map_err(|status| ClientError::from_status(&status, &url, "watching the statement"))
            }))
        })
        .flat_map(|opened: Result<_>| match opened {
            Ok(progress) => progress.boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        })
        .boxed()
    }

    async fn tables(&self, filter: &TableFilter) -> Result<Vec<Table>> {
        tables::list(self, filter).await
    }

    async fn submit(&self, sql: &str, name: &str, options: &[(String, String)]) -> Result<String> {
        let message =
            SubmitRequest { sql: sql.to_owned(), name: name.to_owned(), options: options.iter().cloned().collect() };
        let request = self.identity.request(message, None);
        Ok(self.admin().submit(request).await.map_err(self.failed("submitting the job"))?.into_inner().job)
    }

    async fn jobs(&self, limit: u32) -> Result<Vec<Job>> {
        let request = self.identity.request(ListJobsRequest { limit }, None);
        let answer = self.admin().list_jobs(request).await.map_err(self.failed("listing jobs"))?;
        Ok(answer.into_inner().jobs.into_iter().map(Job::from).collect())
    }

    async fn job(&self, job: &str) -> Result<JobDetail> {
        let request = self.identity.request(JobRequest { job: job.to_owned() }, None);
        Ok(self.admin().show_job(request).await.map_err(self.of_job("looking up the job"))?.into_inner().into())
    }

    async fn cancel(&self, job: &str) -> Result<String> {
        let request = self.identity.request(JobRequest { job: job.to_owned() }, None);
        Ok(self.admin().cancel_job(request).await.map_err(self.of_job("cancelling the job"))?.into_inner().state)
    }

    async fn job_logs(&self, job: &str) -> Result<Vec<String>> {
        let request = self.identity.request(JobRequest { job: job.to_owned() }, None);
        Ok(self.admin().job_logs(request).await.map_err(self.of_job("reading the job's log"))?.into_inner().lines)
    }

    async fn status(&self) -> Result<ClusterStatus> {
        let request = self.identity.request(ClusterStatusRequest {}, None);
        let answer =
            self.admin().cluster_status(request).await.map_err(self.failed("asking for the cluster's state"))?;
        Ok(answer.into_inner().into())
    }

    async fn close(&self) -> Result<()> {
        // CloseSessionRequest has no fields.
        let action = self.identity.request(Action::new("CloseSession", Vec::new()), None);
        match self.flight().do_action(action).await {
            Ok(_) => Ok(()),
            // Sessions expire; a server that cannot close one early is none the worse.
            Err(status) if matches!(status.code(), Code::Unimplemented | Code::InvalidArgument) => Ok(()),
            Err(status) => Err(ClientError::from_status(&status, &self.url, "closing the session")),
        }
    }

    fn url(&self) -> &str {
        &self.url
    }
}
