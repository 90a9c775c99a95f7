//! Statements that nobody waits for, each submission in a session of its own. A primary that takes over, or starts again, goes on with them.
//!
//! What happens when is decided by [`windlass_core::submissions`], one machine for each submission; `running` does what it asks for.
//!
//! To those who list jobs a submission is one, under the id that the submitter was given, and its statements are jobs besides.

mod running;
#[cfg(test)]
mod tests;

use super::runs::Runs;
use crate::driver::Driver;
use crate::errors::QueryError;
use crate::meta::MetaStore;
use crate::meta::keys::submissions::{self as keys, Submission};
use crate::meta::keys::tries;
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

/// The name of one statement of a submission.
fn query_of(id: &str, statement: u32) -> String {
    format!("{id}.{statement}")
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
    /// Cancelled when the primary stops.
    stop: CancellationToken,
    /// Users of those that have not ended, by id.
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

    /// Takes statements that nobody waits for, and returns when the first job among theirs runs, or there was no need for one. The id that it
    /// returns is that of all together.
    ///
    /// # Errors
    /// The statements cannot be read, the first of them fails, or there are too many submissions.
    pub async fn submit(&self, by: &Principal, script: Script) -> Result<JobId, QueryError> {
        let shared = &self.shared;
        let id = shared.statements.catalog().ids().name();
        let session = shared.session(&id, by, &script.options)?;
        let texts = shared.statements.split(&session, &script.sql).await?;
        if texts.is_empty() {
            return Err(QueryError::Invalid("there is no statement to run".to_string()));
        }
        let under_way = self.enter(&id, by)?;
        let job = shared.driver.next_job();
        let Script { name, options, .. } = script;
        let (user, submitted_ms) = (by.name().to_string(), shared.statements.catalog().clock().wall_ms());
        let machine = Machine::new(texts.len() as u32);
        let submission = Submission { texts, name, options, user, job: job.0, submitted_ms };
        let (submitter, accepted) = oneshot::channel();
        let running = Running::new(shared, under_way, submission, machine);
        running.submitted(session, submitter).start();
        match accepted.await {
            Ok(Err(error)) => Err(error),
            // Without an answer the primary is being stopped, and the next one goes on with it.
            Ok(Ok(())) | Err(_) => Ok(job),
        }
    }

    /// Goes on with what earlier primaries have left. All of it is listed, and can be cancelled, when this returns.
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

    /// Counts a submission among those of its user.
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
    /// The session of a submission, with the options that it was submitted with.
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
