//! Statements that nobody waits for, each submission in a session of its own. A primary that takes over, or starts again, goes on with them.
//!
//! ```text
//!   accepted ──> statement 0 ──> statement 1 ──> … ──> over, or failed: forgotten
//!                     │ this primary stops, dies, or does not lead any more
//!                     └──> the next one begins with the statement that had not ended; what that one had done is not done again
//! ```

use crate::admin::{DetachedStatement, SubmitError, SubmitStatement};
use crate::driver::Driver;
use crate::errors::QueryError;
use crate::meta::{MetaStore, Transaction};
use crate::session::Session;
use crate::statement::{Info, Leaves, Sent, Statements, leaves, split};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use windlass_core::ids::JobId;

const SUBMISSIONS: &str = "submission/";

/// As the metadata store knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Submission {
    texts: Vec<String>,
    name: String,
    options: BTreeMap<String, String>,
    /// The first statement that has not ended.
    next: usize,
    /// What the submitter calls it: the id of its first job.
    job: u64,
    /// A statement that has ended was that job.
    job_ran: bool,
}

#[derive(Clone)]
pub(crate) struct Submissions {
    pub statements: Statements,
    pub driver: Driver,
    pub store: Arc<dyn MetaStore>,
    /// Options that every session begins with.
    pub options: Vec<(String, String)>,
    pub tasks: TaskTracker,
}

/// Tells a job to the one who submitted, once.
type Announce = Arc<Mutex<Option<oneshot::Sender<Result<JobId, QueryError>>>>>;

#[async_trait]
impl SubmitStatement for Submissions {
    async fn submit(&self, request: DetachedStatement) -> Result<JobId, SubmitError> {
        let refused = |error: QueryError| match error {
            QueryError::NotLeading(message) | QueryError::Exhausted(message) => SubmitError::Busy(message),
            QueryError::Internal(message) | QueryError::OutcomeUnknown(message) => SubmitError::Internal(message),
            error => SubmitError::Invalid(error.to_string()),
        };
        let options: BTreeMap<String, String> = request.options.into_iter().collect();
        let id = uuid::Uuid::new_v4().simple().to_string();
        let session = self.session(&id, &options).map_err(refused)?;
        let texts = split(&session.state(), &request.sql).map_err(refused)?;
        if texts.is_empty() {
            return Err(SubmitError::Invalid("there is no statement to run".to_string()));
        }
        let job = self.driver.next_job().0;
        let submission = Submission { texts, name: request.name, options, next: 0, job, job_ran: false };
        self.remember(&id, &submission).await.map_err(refused)?;
        let (started, job) = oneshot::channel();
        let started = Arc::new(Mutex::new(Some(started)));
        let submissions = self.clone();
        self.tasks.spawn(async move { submissions.run(&id, session, submission, Sent::First, &started).await });
        match job.await {
            Ok(Ok(job)) => Ok(job),
            Ok(Err(error)) => Err(refused(error)),
            Err(_) => Err(SubmitError::Invalid(
                "the statements have run, and none of them needed a job: use 'windlass sql' to see their answers"
                    .to_string(),
            )),
        }
    }
}

impl Submissions {
    /// Goes on with what an earlier primary had begun.
    pub async fn resume(&self) -> Result<(), QueryError> {
        for (key, entry) in self.store.range(SUBMISSIONS).await? {
            let id = key[SUBMISSIONS.len()..].to_string();
            let submission: Submission = serde_json::from_slice(&entry.value)
                .map_err(|e| QueryError::Internal(format!("the metadata under \"{key}\" cannot be read: {e}")))?;
            let submissions = self.clone();
            self.tasks.spawn(async move {
                match submissions.prepare(&id, &submission).await {
                    Ok(session) => {
                        tracing::info!(job = %JobId(submission.job), statement = submission.next, "going on with a submission");
                        submissions.run(&id, session, submission, Sent::Again, &Announce::default()).await;
                    }
                    Err(error) => {
                        tracing::warn!(job = %JobId(submission.job), %error, "a submission cannot be gone on with");
                        submissions.forget(&id).await;
                    }
                }
            });
        }
        Ok(())
    }

    fn session(&self, id: &str, options: &BTreeMap<String, String>) -> Result<Arc<Session>, QueryError> {
        let session = Session::new(format!("submit-{id}"), String::new(), self.statements.catalog());
        for (key, value) in self.options.iter().map(|(key, value)| (key, value)).chain(options) {
            session.set_option(key, value)?;
        }
        Ok(session)
    }

    /// A session with the options that earlier statements have set.
    async fn prepare(&self, id: &str, submission: &Submission) -> Result<Arc<Session>, QueryError> {
        let session = self.session(id, &submission.options)?;
        for text in &submission.texts[..submission.next.min(submission.texts.len())] {
            match leaves(text) {
                Leaves::Nothing => {}
                Leaves::Option => _ = self.statements.execute(&session, text, None, &Info::default()).await?,
                Leaves::Things => {
                    let gone = "its temporary tables and prepared statements went with the primary that it ran on";
                    return Err(QueryError::Lost(gone.to_string()));
                }
            }
        }
        Ok(session)
    }

    async fn run(&self, id: &str, session: Arc<Session>, mut submission: Submission, sent: Sent, started: &Announce) {
        match self.run_all(id, &session, &mut submission, sent, started).await {
            Ok(()) => self.forget(id).await,
            // The next leader, or this primary after its next start, goes on.
            Err(error @ (QueryError::NotLeading(_) | QueryError::OutcomeUnknown(_))) => {
                tracing::info!(job = %JobId(submission.job), %error, "a submission waits for the next leader");
                if let Some(started) = started.lock().take() {
                    // It is accepted, and that is its job wherever it runs.
                    let _ = started.send(Ok(JobId(submission.job)));
                }
            }
            Err(error) => {
                self.forget(id).await;
                match started.lock().take() {
                    Some(started) => _ = started.send(Err(error)),
                    None => tracing::info!(job = %JobId(submission.job), %error, "a submitted statement failed"),
                }
            }
        }
        // Temporary tables go with the session.
        let catalog = self.statements.catalog();
        let held = session.temporary().drain();
        let edits: Vec<_> = held.iter().flat_map(|held| catalog.discard_temporary(&held.record)).collect();
        if let Err(error) = catalog.change(|_| Ok(edits)).await {
            tracing::warn!(%error, "temporary tables of a submission stay until the primary starts again");
        }
    }

    /// One statement after the other, up to the first that fails.
    async fn run_all(
        &self,
        id: &str,
        session: &Arc<Session>,
        submission: &mut Submission,
        mut sent: Sent,
        started: &Announce,
    ) -> Result<(), QueryError> {
        while let Some(text) = submission.texts.get(submission.next) {
            let (announce, job) = (Arc::clone(started), JobId(submission.job));
            let unused = Arc::new(Mutex::new(Some(job).filter(|_| !submission.job_ran)));
            let info = Info {
                name: submission.name.clone(),
                query: Some(format!("{id}.{}", submission.next)),
                sent,
                job: Arc::clone(&unused),
                started: Some(Arc::new(move |job| {
                    if let Some(started) = announce.lock().take() {
                        // Nobody waits when the caller has left.
                        let _ = started.send(Ok(job));
                    }
                })),
            };
            self.statements.execute(session, text, None, &info).await?;
            submission.job_ran = unused.lock().is_none();
            submission.next += 1;
            sent = Sent::First;
            if submission.next < submission.texts.len() {
                self.remember(id, submission).await?;
            }
        }
        Ok(())
    }

    async fn remember(&self, id: &str, submission: &Submission) -> Result<(), QueryError> {
        // Texts, numbers and a map of texts.
        let value = serde_json::to_vec(submission).expect("a submission can be written as JSON");
        Ok(self.store.commit(Transaction::default().put(format!("{SUBMISSIONS}{id}"), value)).await?)
    }

    async fn forget(&self, id: &str) {
        if let Err(error) = self.store.commit(Transaction::default().delete(format!("{SUBMISSIONS}{id}"))).await {
            tracing::warn!(%error, "a submission that is over could not be forgotten, and may be gone on with");
        }
    }
}
