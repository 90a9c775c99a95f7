//! Watching and cancelling a statement while it runs.

use crate::backend::Backend;
use crate::error::{ClientError, Result};
use crate::jobs::{JobState, Progress};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A statement that was sent, or soon will be.
#[derive(Clone)]
pub struct QueryHandle {
    backend: Arc<dyn Backend>,
    query: String,
}

impl fmt::Debug for QueryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QueryHandle").field(&self.query).finish()
    }
}

/// Time in which [`QueryHandle::cancel`] looks for the statement's job.
const CANCEL_LOOKUP: Duration = Duration::from_secs(2);

impl QueryHandle {
    pub(crate) fn new(backend: Arc<dyn Backend>, query: String) -> QueryHandle {
        QueryHandle { backend, query }
    }

    /// Id that the client gave the statement.
    pub fn id(&self) -> &str {
        &self.query
    }

    /// Progress, from this call until the statement ends. The last message lists the stages that ran.
    pub fn progress(&self) -> BoxStream<'static, Result<Progress>> {
        self.backend.watch(&self.query)
    }

    /// Cancels the statement on the cluster, if it runs. Its caller gets [`ClientError::Cancelled`].
    ///
    /// A statement that is no job yet (during planning) ends when the future that runs it is dropped.
    pub async fn cancel(&self) -> Result<()> {
        self.cancel_job().await.map(drop)
    }

    /// Does the same and returns the state of the statement's job. A finished one cannot be cancelled: if the statement writes, its rows are being published.
    /// `None`: there is no job.
    pub async fn cancel_job(&self) -> Result<Option<JobState>> {
        let mut progress = self.progress();
        let found = tokio::time::timeout(CANCEL_LOOKUP, async {
            while let Some(item) = progress.next().await {
                let item = item?;
                // The last one comes with the end of the job; what the job wrote may not be published yet.
                if item.job.is_some() || item.is_last() {
                    return Ok(item.job);
                }
            }
            Ok::<_, ClientError>(None)
        })
        .await;
        match found {
            Ok(Ok(Some(job))) => self.backend.cancel(job).await.map(Some),
            Ok(Err(error)) => Err(error),
            Ok(Ok(None)) | Err(_) => Ok(None),
        }
    }
}
