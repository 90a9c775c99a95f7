//! Submissions: scripts that run without their client, each in a session of its own. A primary that takes over or restarts continues
//! them.
//!
//! [`windlass_core::submissions`] decides what happens and when, with one machine for each submission; `running` carries it out.
//!
//! Lists of jobs show a submission as one job, under the id that the submitter received, beside the jobs of its statements.

mod running;
#[cfg(test)]
mod tests;

use super::runs::Runs;
use crate::driver::Driver;
use crate::errors::QueryError;
use crate::meta::MetaStore;
use crate::meta::keys::submissions::{self as keys, Submission};
use crate::meta::keys::{requests, tries};
use crate::statements::Statements;
use crate::statements::sessions::Session;
use parking_lot::Mutex;
use running::Running;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use windlass_core::access::Principal;
use windlass_core::ids::JobId;
use windlass_core::submissions::Submission as Machine;

/// Returns the name of one statement of a submission.
fn query_of(id: &str, statement: u32) -> String {
    format!("{id}.{statement}")
}

/// A script to submit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Statements, with semicolons between them.
    pub sql: String,
    /// The name in lists. Empty: the beginning of the statement.
    pub name: String,
    /// Session options, as SET takes them.
    pub options: BTreeMap<String, String>,
    /// Values of `$1`, `$2`, … of the statements.
    pub parameters: Vec<String>,
    /// The client's name for this request, unique among all. The same request is accepted once. Empty: it has no name.
    pub request: String,
}

/// Limits on submissions.
#[derive(Clone, Copy, Debug)]
pub struct SubmissionsConfig {
    /// Maximum submissions that have not ended. Default 10,000.
    pub max: usize,
    /// The same for each user who gives a name. Default 1,000.
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
    /// Options with which every session begins.
    options: Vec<(String, String)>,
    /// Cancelled when the primary stops.
    stop: CancellationToken,
    /// Users of submissions that have not ended, by the submission's id.
    under_way: Mutex<BTreeMap<String, Principal>>,
}

impl Submissions {
    pub(crate) fn new(
        config: SubmissionsConfig,
        runs: Runs,
        statements: Statements,
        driver: Driver,
        store: Arc<dyn MetaStore>,
        options: Vec<(String, String)>,
        stop: CancellationToken,
    ) -> Self {
        let under_way = Mutex::default();
        Submissions { shared: Arc::new(Shared { config, runs, statements, driver, store, options, stop, under_way }) }
    }

    /// Accepts a script. Returns when its first statement runs as a job, or has ended. The returned id is that of the
    /// submission.
    ///
    /// # Errors
    /// The statements cannot be parsed, the first of them fails, or there are too many submissions.
    pub async fn submit(&self, by: &Principal, script: Script) -> Result<JobId, QueryError> {
        let request = script.request.clone();
        if let Some(job) = self.requested(&request).await? {
            return Ok(job);
        }
        let (id, job) = self.reserve();
        match self.submit_as(by, script, id, job).await {
            Ok(()) => Ok(job),
            // The same request came twice at a time.
            Err(error) => match self.requested(&request).await {
                Ok(Some(other)) if other != job => Ok(other),
                _ => Err(error),
            },
        }
    }

    /// Returns the submission that a request of this name has become.
    async fn requested(&self, request: &str) -> Result<Option<JobId>, QueryError> {
        if request.is_empty() {
            return Ok(None);
        }
        let known = requests::find(self.shared.store.as_ref(), request).await?;
        Ok(known.map(|known| JobId(known.job)))
    }

    /// Returns the ids of a submission that may be handed over later: in the store, and in lists of jobs.
    pub(crate) fn reserve(&self) -> (String, JobId) {
        (self.shared.statements.catalog().ids().name(), self.shared.driver.next_job())
    }

    /// Whether a submission with this id in the store has not ended.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.shared.under_way.lock().contains_key(id)
    }

    /// Accepts a script under ids from [`Submissions::reserve`].
    pub(crate) async fn submit_as(
        &self,
        by: &Principal,
        script: Script,
        id: String,
        job: JobId,
    ) -> Result<(), QueryError> {
        let shared = &self.shared;
        let session = shared.session(&id, by, &script.options)?;
        let texts = shared.statements.split(&session, &script.sql).await?;
        if texts.is_empty() {
            return Err(QueryError::Invalid("there is no statement to run".to_string()));
        }
        let under_way = self.enter(&id, by)?;
        let Script { name, options, parameters, request, .. } = script;
        let (user, submitted_ms) = (by.name().to_string(), shared.statements.catalog().clock().wall_ms());
        let machine = Machine::new(texts.len() as u32);
        let submission = Submission { texts, name, options, parameters, user, job: job.0, submitted_ms, request };
        let (submitter, accepted) = oneshot::channel();
        let running = Running::new(shared, under_way, submission, machine);
        running.submitted(session, submitter).start();
        match accepted.await {
            Ok(Err(error)) => Err(error),
            // Without an answer the primary is stopping, and the next one continues the submission.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    /// Continues the submissions of earlier primaries. All of them are listed and can be cancelled when this returns.
    pub(crate) async fn resume(&self) -> Result<(), QueryError> {
        let store = self.shared.store.as_ref();
        let (found, tries) = (keys::all(store).await?, tries::all(store).await?);
        for (id, (submission, position)) in found {
            let under_way = self.note(&id, &Principal::user(&submission.user));
            let tried = tries.get(&query_of(&id, position.next)).copied();
            let machine = Machine::found(submission.texts.len() as u32, position, tried);
            tracing::info!(job = %JobId(submission.job), statement = position.next, "going on with a submission");
            Running::new(&self.shared, under_way, submission, machine).start();
        }
        Ok(())
    }

    /// Counts a submission towards its user's limit.
    fn enter(&self, id: &str, by: &Principal) -> Result<UnderWay, QueryError> {
        let SubmissionsConfig { max, max_per_user } = self.shared.config;
        let under_way = self.shared.under_way.lock();
        if under_way.len() >= max {
            return Err(QueryError::Exhausted(format!(
                "{} submissions have not ended, and primary.submissions allows no more: wait until some have, or cancel some",
                under_way.len()
            )));
        }
        let own = under_way.values().filter(|user| *user == by).count();
        if !by.name().is_empty() && own >= max_per_user {
            return Err(QueryError::Exhausted(format!(
                "{own} submissions of {by} have not ended, and primary.submissions_per_user allows no more: wait until some have, or cancel \
                 some"
            )));
        }
        drop(under_way);
        Ok(self.note(id, by))
    }

    fn note(&self, id: &str, by: &Principal) -> UnderWay {
        self.shared.under_way.lock().insert(id.to_string(), by.clone());
        UnderWay { shared: Arc::clone(&self.shared), id: id.to_string() }
    }
}

impl Shared {
    /// Returns a session for a submission, with the options of its script.
    fn session(
        &self,
        id: &str,
        by: &Principal,
        options: &BTreeMap<String, String>,
    ) -> Result<Arc<Session>, QueryError> {
        let session = Session::new(format!("submit-{id}"), by.clone(), self.statements.catalog());
        for (key, value) in self.options.iter().map(|(key, value)| (key, value)).chain(options) {
            session.set_option(key, value)?;
        }
        Ok(session)
    }
}

/// A submission that has not ended. Dropping it makes room for another one.
struct UnderWay {
    shared: Arc<Shared>,
    id: String,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.shared.under_way.lock().remove(&self.id);
    }
}
