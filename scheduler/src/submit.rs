//! Statements that nobody waits for.

use crate::admin::{DetachedStatement, SubmitError, SubmitStatement};
use crate::errors::QueryError;
use crate::session::Session;
use crate::statement::{Info, Statements, split};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use windlass_core::ids::JobId;

/// Runs each submission in a session of its own.
pub(crate) struct Submitter {
    pub statements: Statements,
    /// Options that every session begins with.
    pub options: Vec<(String, String)>,
    pub tasks: TaskTracker,
}

#[async_trait]
impl SubmitStatement for Submitter {
    async fn submit(&self, request: DetachedStatement) -> Result<JobId, SubmitError> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let session = Session::new(id, String::new(), self.statements.catalog());
        let of_cluster = self.options.iter().map(|(name, value)| (name, value));
        for (name, value) in of_cluster.chain(&request.options) {
            session.set_option(name, value).map_err(failed)?;
        }
        let statements: Vec<String> = split(&session.state(), &request.sql).map_err(failed)?;
        if statements.is_empty() {
            return Err(SubmitError::Invalid("there is no statement in the text".to_string()));
        }
        let (report, first) = oneshot::channel();
        let report = Arc::new(Mutex::new(Some(report)));
        let (runner, started) = (self.statements.clone(), Arc::clone(&report));
        self.tasks.spawn(async move {
            let ended = run(&runner, &session, &statements, &request.name, &started).await;
            if let Err(error) = &ended {
                tracing::info!(%error, "a detached statement failed");
            }
            // Nobody was told of a job: either the statement failed before it had one, or it needed none.
            if let Some(report) = started.lock().take() {
                let needless = || SubmitError::Invalid("the statements have run: they needed no job".to_string());
                let _ = report.send(Err(ended.err().map_or_else(needless, failed)));
            }
            // Temporary tables go with the session.
            let (catalog, tables) = (runner.catalog(), session.temporary().drain());
            let edits: Vec<_> = tables.iter().flat_map(|held| catalog.discard_temporary(&held.record)).collect();
            if let Err(error) = catalog.change(|_| Ok(edits)).await {
                tracing::warn!(%error, "temporary tables of a detached statement stay until the primary starts again");
            }
        });
        first.await.unwrap_or_else(|_| Err(SubmitError::Internal("the statement ended unexpectedly".to_string())))
    }
}

type Report = Arc<Mutex<Option<oneshot::Sender<Result<JobId, SubmitError>>>>>;

async fn run(
    runner: &Statements,
    session: &Arc<Session>,
    statements: &[String],
    name: &str,
    report: &Report,
) -> Result<(), QueryError> {
    for (index, sql) in statements.iter().enumerate() {
        let report = Arc::clone(report);
        let info = Info {
            name: match index {
                0 => name.to_string(),
                _ if name.is_empty() => String::new(),
                n => format!("{name} ({})", n + 1),
            },
            query: None,
            started: Some(Arc::new(move |job| {
                if let Some(report) = report.lock().take() {
                    let _ = report.send(Ok(job));
                }
            })),
        };
        // Rows are not kept: whoever wants them has them written.
        runner.execute(session, sql, None, &info).await?;
    }
    Ok(())
}

fn failed(error: QueryError) -> SubmitError {
    match error {
        QueryError::Unavailable(message) | QueryError::Exhausted(message) => SubmitError::Busy(message),
        QueryError::Internal(message) => SubmitError::Internal(message),
        error => SubmitError::Invalid(error.to_string()),
    }
}
