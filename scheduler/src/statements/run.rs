//! One statement on its way, after it is planned.

use super::outcome::{Effect, Entered, Sent};
use super::planning::Planned;
use super::{Execution, Info, Rows, Statements, metadata};
use crate::driver::history::JobInfo;
use crate::driver::saved::Begun;
use crate::errors::{QueryError, explain};
use crate::statements::catalog::Listings;
use crate::statements::sessions::Session;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;
use std::time::Duration;
use windlass_core::job::{Retention, Terms};
use windlass_engine::ClusterShape;

/// A statement with what it runs in. Each kind of statement adds what it does: `ddl.rs`, `write.rs`, `settings.rs`, `explain.rs`.
#[derive(Clone, Copy)]
pub(super) struct StatementRun<'a> {
    pub statements: &'a Statements,
    pub session: &'a Arc<Session>,
    /// The session's state when the statement began.
    pub state: &'a SessionState,
    /// What lists of jobs show, and where errors point into.
    pub sql: &'a str,
    pub info: &'a Info,
}

impl StatementRun<'_> {
    pub(super) async fn execute(self, planned: Planned) -> Result<Execution, QueryError> {
        let parsed = planned.parsed.as_ref();
        if let Some(rename) = parsed.and_then(|parsed| parsed.rename.clone()) {
            return self.rename(rename).await;
        }
        if let Some(secret) = parsed.and_then(|parsed| parsed.secret.clone()) {
            return self.secret(secret).await;
        }
        if !matches!(planned.plan, LogicalPlan::Statement(_)) {
            Listings::begin(self.state, &planned.plan);
        }
        match planned.plan {
            LogicalPlan::Ddl(ddl) => self.ddl(parsed, ddl).await,
            LogicalPlan::Statement(statement) => self.session_statement(parsed, statement).await,
            LogicalPlan::Dml(dml) => self.insert(dml).await,
            plan @ LogicalPlan::Copy(_) => self.copy(plan).await,
            LogicalPlan::Explain(explain) => self.explain(explain).await,
            LogicalPlan::Analyze(analyze) => self.analyze(analyze).await,
            plan => self.query(plan).await,
        }
    }

    pub(super) async fn query(self, plan: LogicalPlan) -> Result<Execution, QueryError> {
        if metadata::reads_only_the_catalog(&plan) {
            return self.run_here(&plan).await;
        }
        let runner = &self.statements.inner.runner;
        let begun = self.begun().await?;
        let job = runner.plan(self.state, &plan, shape_of(&begun)).await.map_err(|e| explain(&e, self.sql, &[]))?;
        if let Some(constant) = job.constant {
            return self.collect_here(constant).await;
        }
        let (schema, holds_sides) = (Arc::clone(&job.schema), job.holds_sides);
        let again = self.job_info();
        let job_info = JobInfo { begun, ..again.clone() };
        let finished = match runner.run(job, job_info, self.info.started.clone()).await {
            Err(error @ QueryError::OutOfMemory(_)) if holds_sides => {
                let job = self.statements.plan_spilling(self.state, &plan, error).await?;
                runner.run(job, again, self.info.started.clone()).await?
            }
            ended => ended?,
        };
        let job = Some(finished.job);
        Ok(Execution { schema, rows: Rows::Job(Arc::new(finished)), job, affected: None, running: None })
    }

    /// What an earlier leader did of a statement that is sent again.
    pub(super) async fn begun(self) -> Result<Option<Arc<Begun>>, QueryError> {
        match (&self.info.query, self.info.sent) {
            (Some(query), Sent::Again) => Ok(self.statements.inner.runner.begun(query).await?.map(Arc::new)),
            _ => Ok(None),
        }
    }

    /// Held by a write, which goes on when its client has left.
    pub(super) async fn under_way(self) -> Option<Entered> {
        match (&self.info.query, self.info.sent) {
            // One that was sent again is under way since before it looked for its outcome.
            (Some(query), Sent::First) => Some(self.statements.inner.under_way.enter(query).await),
            _ => None,
        }
    }

    /// Runs a plan over the catalog's own tables in this process: it needs no executor and reads no file.
    pub(super) async fn run_here(self, plan: &LogicalPlan) -> Result<Execution, QueryError> {
        let plan = self.state.create_physical_plan(plan).await.map_err(|e| explain(&e, self.sql, &[]))?;
        self.collect_here(plan).await
    }

    async fn collect_here(self, plan: Arc<dyn ExecutionPlan>) -> Result<Execution, QueryError> {
        let schema = plan.schema();
        let run = async {
            let plan = windlass_engine::interruptible(plan)?;
            datafusion::physical_plan::collect(plan, self.state.task_ctx()).await
        };
        Ok(Execution::here(schema, run.await.map_err(|e| explain(&e, self.sql, &[]))?))
    }

    /// The job of it that is tried first, or again from the beginning.
    pub(super) fn job_info(self) -> JobInfo {
        let options = windlass_engine::config::of(self.state.config());
        let terms = Terms {
            pool: options.pool.clone(),
            user: self.session.user.name().to_string(),
            priority: options.priority,
            max_attempts: options.max_attempts,
            timeout: Some(options.statement_timeout_ms).filter(|&ms| ms > 0).map(Duration::from_millis),
            retention: self.info.retention,
        };
        let info = self.info;
        JobInfo {
            name: info.name.clone(),
            statement: self.sql.to_string(),
            query: info.query.clone(),
            terms,
            part_of: info.part_of,
            saved_as: info.query.clone().filter(|_| info.sent != Sent::Once && info.retention == Retention::User),
            begun: None,
        }
    }

    /// What is recorded when the statement has its effect. `None`: its client will not send it again.
    pub(super) fn effect(self) -> Option<Effect> {
        Effect::of(&self.info.query, self.info.sent)
    }
}

/// The same statement for the same cluster is the same stages.
pub(super) fn shape_of(begun: &Option<Arc<Begun>>) -> Option<ClusterShape> {
    begun.as_ref().map(|begun| begun.shape)
}
