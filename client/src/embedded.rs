//! A cluster inside this process.

use crate::backend::{Answer, Backend, Request, Table, TableFilter};
use crate::error::{ClientError, Result};
use crate::jobs::{ClusterStatus, Job, JobDetail, Progress};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use std::path::PathBuf;

/// What an embedded cluster may use.
#[derive(Clone, Debug, Default)]
pub struct EmbeddedOptions {
    /// Tasks that run at the same time; absent: one for each core.
    pub slots: Option<u32>,
    /// Memory for tasks and exchange data, bytes; absent: three fifths of the machine's or the container's.
    pub memory: Option<u64>,
    /// Where the catalog lives: tables created here are there again the next time. Absent: a temporary folder, removed at the end.
    pub dir: Option<PathBuf>,
}

/// One primary and one executor, joined by channels.
#[derive(Debug)]
pub(crate) struct Embedded {}

impl Embedded {
    pub(crate) async fn start(_: EmbeddedOptions) -> Result<Embedded> {
        Err(ClientError::invalid("this build has no embedded cluster yet: name a cluster with --url"))
    }
}

fn absent<T>() -> Result<T> {
    Err(ClientError::invalid("this build has no embedded cluster yet"))
}

#[async_trait]
impl Backend for Embedded {
    async fn execute(&self, _: Request) -> Result<Answer> {
        absent()
    }
    fn watch(&self, _: &str) -> BoxStream<'static, Result<Progress>> {
        stream::empty().boxed()
    }
    async fn tables(&self, _: &TableFilter) -> Result<Vec<Table>> {
        absent()
    }
    async fn submit(&self, _: &str, _: &str, _: &[(String, String)]) -> Result<String> {
        absent()
    }
    async fn jobs(&self, _: u32) -> Result<Vec<Job>> {
        absent()
    }
    async fn job(&self, _: &str) -> Result<JobDetail> {
        absent()
    }
    async fn cancel(&self, _: &str) -> Result<String> {
        absent()
    }
    async fn job_logs(&self, _: &str) -> Result<Vec<String>> {
        absent()
    }
    async fn status(&self) -> Result<ClusterStatus> {
        absent()
    }
    async fn close(&self) -> Result<()> {
        Ok(())
    }
    fn url(&self) -> &str {
        "embedded"
    }
}
