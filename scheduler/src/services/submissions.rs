//! Statements that nobody waits for, each submission in a session of its own. A primary that takes over, or starts again, goes on with them.
//!
//! ```text
//!   accepted ──> statement 0 ──> statement 1 ──> … ──> over, failed or cancelled: recorded, and forgotten
//!                     │ this primary stops, dies, or does not lead any more
//!                     └──> the next one begins with the statement that had not ended; what that one had done is not done again, and what
//!                          primaries die of is not begun again for ever (`statements/tries.rs`)
//! ```
//!
//! To those who list jobs a submission is one, under the id that the submitter was given, and its statements are jobs besides.

use crate::admin::{DetachedStatement, SubmitError, SubmitStatement};
use crate::driver::history::{JobInfo, JobState, wall_ms};
use crate::driver::{Driver, RunningProgram};
use crate::errors::QueryError;
use crate::meta::{MetaStore, Transaction};
use crate::statements::sessions::Session;
use crate::statements::{Info, Leaves, Sent, Statements, leaves, tries};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use windlass_core::ids::JobId;

const SUBMISSIONS: &str = "submission/";
/// How long a submission waits that an earlier primary went on with in vain.
const HESITATION: Duration = Duration::from_secs(10);

/// The name of one statement of a submission.
fn query_of(id: &str, number: usize) -> String {
    format!("{id}.{number}")
}

/// As the metadata store knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Submission {
    texts: Vec<String>,
    name: String,
    options: BTreeMap<String, String>,
    /// The first statement that has not ended.
    next: usize,
    /// What the submitter calls it.
    job: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    submitted_ms: u64,
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

/// Tells the one who submitted, once, that the first job runs or why none will.
type Announce = Arc<Mutex<Option<oneshot::Sender<Result<(), QueryError>>>>>;

fn tell(submitter: &Announce, accepted: Result<(), QueryError>) {
    if let Some(submitter) = submitter.lock().take() {
        // Nobody waits when the caller has left.
        let _ = submitter.send(accepted);
    }
}

#[async_trait]
impl SubmitStatement for Submissions {
    async fn submit(&self, request: DetachedStatement) -> Result<JobId, SubmitError> {
        let refused = |error: QueryError| match error {
            QueryError::NotLeading(message) | QueryError::Exhausted(message) | QueryError::Busy(message) => {
                SubmitError::Busy(message)
            }
            QueryError::Internal(message) | QueryError::OutcomeUnknown(message) => SubmitError::Internal(message),
            error => SubmitError::Invalid(error.to_string()),
        };
        let options: BTreeMap<String, String> = request.options.into_iter().collect();
        let id = uuid::Uuid::new_v4().simple().to_string();
        let session = self.session(&id, &options).map_err(refused)?;
        let texts = self.statements.split(&session, &request.sql).await.map_err(refused)?;
        if texts.is_empty() {
            return Err(SubmitError::Invalid("there is no statement to run".to_string()));
        }
        let (job, submitted_ms) = (self.driver.next_job(), wall_ms());
        let submission = Submission { texts, name: request.name, options, next: 0, job: job.0, submitted_ms };
        self.remember(&id, &submission).await.map_err(refused)?;
        let (started, accepted) = oneshot::channel();
        let started = Arc::new(Mutex::new(Some(started)));
        let submissions = self.clone();
        let program = self.begin(&submission);
        self.tasks.spawn(async move {
            submissions.run(&id, session, submission, Sent::First, &program, &started).await;
        });
        match accepted.await {
            Ok(Err(error)) => Err(refused(error)),
            // Without an answer the primary is being stopped, and the next one goes on with it.
            Ok(Ok(())) | Err(_) => Ok(job),
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
            let program = self.begin(&submission);
            self.tasks.spawn(async move {
                match submissions.prepare(&id, &submission).await {
                    Ok(session) => {
                        tracing::info!(job = %program.id, statement = submission.next, "going on with a submission");
                        submissions.run(&id, session, submission, Sent::Again, &program, &Announce::default()).await;
                    }
                    Err(error) => submissions.over(&id, &program, &submission, Some(&error)).await,
                }
            });
        }
        Ok(())
    }

    fn begin(&self, submission: &Submission) -> RunningProgram {
        let info =
            JobInfo { name: submission.name.clone(), statement: submission.texts.join(";\n"), ..JobInfo::default() };
        let (id, statements) = (JobId(submission.job), submission.texts.len() as u32);
        self.driver.begin_program(id, info, statements, submission.submitted_ms)
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

    async fn run(
        &self,
        id: &str,
        session: Arc<Session>,
        mut submission: Submission,
        sent: Sent,
        program: &RunningProgram,
        started: &Announce,
    ) {
        let outcome = tokio::select! {
            biased;
            reason = program.cancelled() => Err(QueryError::Cancelled(format!("cancelled: {reason}"))),
            outcome = async {
                if sent == Sent::Again {
                    self.hesitate(id, &submission).await?;
                }
                self.run_all(id, &session, &mut submission, sent, program, started).await
            } => outcome,
        };
        let accepted = match outcome {
            // The next leader, or this primary after its next start, goes on.
            Err(error @ (QueryError::NotLeading(_) | QueryError::OutcomeUnknown(_))) => {
                tracing::info!(job = %program.id, %error, "a submission waits for the next leader");
                Ok(())
            }
            outcome => {
                self.over(id, program, &submission, outcome.as_ref().err()).await;
                outcome
            }
        };
        tell(started, accepted);
        // Temporary tables go with the session.
        let catalog = self.statements.catalog();
        let held = session.temporary().drain();
        let edits: Vec<_> = held.iter().flat_map(|held| catalog.discard_temporary(&held.record)).collect();
        if let Err(error) = catalog.change(|_| Ok(edits)).await {
            tracing::warn!(%error, "temporary tables of a submission stay until the primary starts again");
        }
    }

    /// A statement that a primary began again and did not live to run may be what it died of: there is time to cancel it first.
    async fn hesitate(&self, id: &str, submission: &Submission) -> Result<(), QueryError> {
        if tries::was_begun_again(&self.store, &query_of(id, submission.next)).await? {
            tracing::warn!(
                id,
                wait_s = HESITATION.as_secs(),
                "a submission that primaries have not lived to run waits"
            );
            tokio::time::sleep(HESITATION).await;
        }
        Ok(())
    }

    /// One statement after the other, up to the first that fails.
    async fn run_all(
        &self,
        id: &str,
        session: &Arc<Session>,
        submission: &mut Submission,
        mut sent: Sent,
        program: &RunningProgram,
        started: &Announce,
    ) -> Result<(), QueryError> {
        while let Some(text) = submission.texts.get(submission.next) {
            let (number, all) = (submission.next as u32, submission.texts.len());
            program.at(number, text);
            let announce = Arc::clone(started);
            let info = Info {
                name: match submission.name.as_str() {
                    "" => String::new(),
                    name => format!("{name} ({} of {all})", number + 1),
                },
                query: Some(query_of(id, submission.next)),
                sent,
                part_of: Some((program.id, number)),
                started: Some(Arc::new(move |_| tell(&announce, Ok(())))),
            };
            self.statements.execute(session, text, None, &info).await?;
            submission.next += 1;
            sent = Sent::First;
            if submission.next < submission.texts.len() {
                self.remember(id, submission).await?;
            }
        }
        Ok(())
    }

    /// Nothing of it is left to be done.
    async fn over(&self, id: &str, program: &RunningProgram, submission: &Submission, error: Option<&QueryError>) {
        let (number, all) = (submission.next + 1, submission.texts.len());
        let (state, error) = match error {
            None => (JobState::Finished, None),
            Some(error @ QueryError::Cancelled(_)) => (JobState::Cancelled, Some(error.to_string())),
            Some(error) if all == 1 => (JobState::Failed, Some(error.to_string())),
            Some(error) => (JobState::Failed, Some(format!("statement {number} of {all}: {error}"))),
        };
        if let Some(error) = &error {
            tracing::info!(job = %program.id, error, "a submission has failed");
        }
        program.ended(state, error);
        // Last: what is recorded twice does no harm, and what is neither recorded nor known any more is lost.
        self.forget(id).await;
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
