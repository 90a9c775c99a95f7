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

use super::jobs::JobState;
use super::runs::{Ask, Runs};
use crate::driver::history::JobInfo;
use crate::driver::{Driver, RunningProgram};
use crate::errors::QueryError;
use crate::meta::keys::submissions::{self as keys, Submission};
use crate::meta::{MetaStore, Transaction};
use crate::statements::sessions::Session;
use crate::statements::{Info, Leaves, Sent, Statements, leaves, tries};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use windlass_core::access::Principal;
use windlass_core::ids::JobId;
use windlass_core::job::{Retention, Terms};

/// How long a submission waits that an earlier primary went on with in vain.
const HESITATION: Duration = Duration::from_secs(10);

/// The name of one statement of a submission.
fn query_of(id: &str, number: usize) -> String {
    format!("{id}.{number}")
}

/// What is submitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Statements, with semicolons between them.
    pub sql: String,
    /// Shown in lists; empty: the beginning of the statement.
    pub name: String,
    /// Session options, as SET takes them.
    pub options: BTreeMap<String, String>,
}

/// Limits to what is accepted.
#[derive(Clone, Copy, Debug)]
pub struct SubmissionsConfig {
    /// Submissions that have not ended, at a time. Default 10,000.
    pub max: usize,
    /// The same of one user who gives a name. Default 1,000.
    pub max_per_user: usize,
}

impl Default for SubmissionsConfig {
    fn default() -> Self {
        SubmissionsConfig { max: 10_000, max_per_user: 1_000 }
    }
}

/// The submissions of a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Submissions {
    shared: Arc<Shared>,
}

struct Shared {
    config: SubmissionsConfig,
    runs: Runs,
    statements: Statements,
    driver: Driver,
    store: Arc<dyn MetaStore>,
    /// Options that every session begins with.
    options: Vec<(String, String)>,
    tasks: TaskTracker,
    /// Users of those that have not ended, by id.
    under_way: Mutex<BTreeMap<String, Principal>>,
}

/// Tells the one who submitted, once, that the first job runs or why none will.
type Announce = Arc<Mutex<Option<oneshot::Sender<Result<(), QueryError>>>>>;

fn tell(submitter: &Announce, accepted: Result<(), QueryError>) {
    if let Some(submitter) = submitter.lock().take() {
        // Nobody waits when the caller has left.
        let _ = submitter.send(accepted);
    }
}

impl Submissions {
    pub(crate) fn new(
        config: SubmissionsConfig,
        runs: Runs,
        statements: Statements,
        driver: Driver,
        store: Arc<dyn MetaStore>,
        options: Vec<(String, String)>,
    ) -> Self {
        let (tasks, under_way) = (statements.tasks().clone(), Mutex::default());
        Submissions { shared: Arc::new(Shared { config, runs, statements, driver, store, options, tasks, under_way }) }
    }

    /// Takes statements that nobody waits for, and returns when the first job among theirs runs, or there was no need for one. The id that it
    /// returns is that of all together.
    ///
    /// # Errors
    /// The statements cannot be read, the first of them fails, or there are too many submissions.
    pub async fn submit(&self, by: &Principal, script: Script) -> Result<JobId, QueryError> {
        let shared = &self.shared;
        let id = shared.statements.catalog().ids().name();
        let session = self.session(&id, by, &script.options)?;
        let texts = shared.statements.split(&session, &script.sql).await?;
        if texts.is_empty() {
            return Err(QueryError::Invalid("there is no statement to run".to_string()));
        }
        let under_way = self.enter(&id, by)?;
        let job = shared.driver.next_job();
        let Script { name, options, .. } = script;
        let (user, submitted_ms) = (by.name().to_string(), shared.statements.catalog().clock().wall_ms());
        let submission = Submission { texts, name, options, user, next: 0, job: job.0, submitted_ms };
        shared.store.commit(keys::put(Transaction::default(), &id, &submission)).await?;
        let (started, accepted) = oneshot::channel();
        let started = Arc::new(Mutex::new(Some(started)));
        let (submissions, program) = (self.clone(), self.begin(&submission));
        shared.tasks.spawn(async move {
            submissions.run(&id, session, submission, Sent::First, &program, &started).await;
            drop(under_way);
        });
        match accepted.await {
            Ok(Err(error)) => Err(error),
            // Without an answer the primary is being stopped, and the next one goes on with it.
            Ok(Ok(())) | Err(_) => Ok(job),
        }
    }

    /// Goes on with what an earlier primary had begun.
    pub(crate) async fn resume(&self) -> Result<(), QueryError> {
        for (id, submission) in keys::all(self.shared.store.as_ref()).await? {
            let by = Principal::user(&submission.user);
            let under_way = self.note(&id, &by);
            let (submissions, program) = (self.clone(), self.begin(&submission));
            self.shared.tasks.spawn(async move {
                match submissions.prepare(&id, &by, &submission).await {
                    Ok(session) => {
                        tracing::info!(job = %program.id, statement = submission.next, "going on with a submission");
                        submissions.run(&id, session, submission, Sent::Again, &program, &Announce::default()).await;
                    }
                    Err(error) => submissions.over(&id, &program, &submission, Some(&error)).await,
                }
                drop(under_way);
            });
        }
        Ok(())
    }

    /// Counts a submission among those of its user.
    fn enter(&self, id: &str, by: &Principal) -> Result<UnderWay, QueryError> {
        let SubmissionsConfig { max, max_per_user } = self.shared.config;
        let under_way = self.shared.under_way.lock();
        if under_way.len() >= max {
            return Err(QueryError::Exhausted(format!(
                "{} submissions have not ended: wait until some have, or cancel some",
                under_way.len()
            )));
        }
        let own = under_way.values().filter(|user| *user == by).count();
        if !by.name().is_empty() && own >= max_per_user {
            return Err(QueryError::Exhausted(format!(
                "{own} submissions of {by} have not ended: wait until some have, or cancel some"
            )));
        }
        drop(under_way);
        Ok(self.note(id, by))
    }

    fn note(&self, id: &str, by: &Principal) -> UnderWay {
        self.shared.under_way.lock().insert(id.to_string(), by.clone());
        UnderWay { submissions: self.clone(), id: id.to_string() }
    }

    fn begin(&self, submission: &Submission) -> RunningProgram {
        let terms = Terms { user: submission.user.clone(), ..Terms::default() };
        let (name, statement) = (submission.name.clone(), submission.texts.join(";\n"));
        let info = JobInfo { name, statement, terms, ..JobInfo::default() };
        let (id, statements) = (JobId(submission.job), submission.texts.len() as u32);
        self.shared.driver.begin_program(id, info, statements, submission.submitted_ms)
    }

    fn session(
        &self,
        id: &str,
        by: &Principal,
        options: &BTreeMap<String, String>,
    ) -> Result<Arc<Session>, QueryError> {
        let session = Session::new(format!("submit-{id}"), by.clone(), self.shared.statements.catalog());
        for (key, value) in self.shared.options.iter().map(|(key, value)| (key, value)).chain(options) {
            session.set_option(key, value)?;
        }
        Ok(session)
    }

    /// A session with the options that earlier statements have set.
    async fn prepare(&self, id: &str, by: &Principal, submission: &Submission) -> Result<Arc<Session>, QueryError> {
        let session = self.session(id, by, &submission.options)?;
        for text in &submission.texts[..submission.next.min(submission.texts.len())] {
            match leaves(text) {
                Leaves::Nothing => {}
                Leaves::Option => self.run_one(&session, text, Info::default()).await?,
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
        let catalog = self.shared.statements.catalog();
        let held = session.temporary().drain();
        let edits: Vec<_> = held.iter().flat_map(|held| catalog.discard_temporary(&held.record)).collect();
        if let Err(error) = catalog.change(None, |_| Ok(edits)).await {
            tracing::warn!(%error, "temporary tables of a submission stay until the primary starts again");
        }
    }

    /// A statement that a primary began again and did not live to run may be what it died of: there is time to cancel it first.
    async fn hesitate(&self, id: &str, submission: &Submission) -> Result<(), QueryError> {
        if tries::was_begun_again(&self.shared.store, &query_of(id, submission.next)).await? {
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
                retention: Retention::User,
            };
            self.run_one(session, text, info).await?;
            submission.next += 1;
            sent = Sent::First;
            if submission.next < submission.texts.len() {
                self.shared.store.commit(keys::put_next(Transaction::default(), id, submission.next)).await?;
            }
        }
        Ok(())
    }

    async fn run_one(&self, session: &Arc<Session>, text: &str, info: Info) -> Result<(), QueryError> {
        let run = self.shared.runs.attach(&session.user, session, Ask::sql(text), info, None);
        run.ended().await.map(drop)
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

    async fn forget(&self, id: &str) {
        if let Err(error) = self.shared.store.commit(keys::delete(Transaction::default(), id)).await {
            tracing::warn!(%error, "a submission that is over could not be forgotten, and may be gone on with");
        }
    }
}

/// A submission that has not ended. Dropping it makes room for another one.
struct UnderWay {
    submissions: Submissions,
    id: String,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.submissions.shared.under_way.lock().remove(&self.id);
    }
}
