//! A statement in progress, after planning.

use super::outcome::{Delivery, Effect, Entered};
use super::planning::Planned;
use super::{Execution, Info, Rows, Statements, metadata};
use crate::driver::history::JobInfo;
use crate::driver::saved::Begun;
use crate::errors::{QueryError, explain};
use crate::statements::catalog::Listings;
use crate::statements::sessions::Session;
use datafusion::execution::SessionState;
use datafusion::logical_expr::dml::{CopyTo, InsertOp};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, WriteOp};
use datafusion::physical_plan::ExecutionPlan;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use url::Url;
use windlass_core::job::{Retention, Terms};
use windlass_engine::stores::with_settings;
use windlass_engine::{ClusterShape, PlannedJob};

/// A statement with its environment. Each kind of statement adds its own methods: `ddl.rs`, `write.rs`, `settings.rs`, `explain.rs`.
#[derive(Clone, Copy)]
pub(super) struct StatementRun<'a> {
    pub statements: &'a Statements,
    pub session: &'a Arc<Session>,
    /// The session's state when the statement began.
    pub state: &'a SessionState,
    /// The text to which positions in errors refer.
    pub sql: &'a str,
    /// The text without credentials, which lists of jobs show.
    pub shown: &'a str,
    /// The columns that an INSERT lists. Empty: all.
    pub inserts: &'a [String],
    pub info: &'a Info,
    /// Whether its table waits for it: see [`super::turns`].
    pub is_alone: bool,
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
        if let Some(catalog) = parsed.and_then(|parsed| parsed.catalog.clone()) {
            return self.catalog(catalog).await;
        }
        if !matches!(planned.plan, LogicalPlan::Statement(_)) && !lists_for_itself(&planned.plan) {
            Listings::begin(self.state, &planned.plan);
        }
        let _listing = match metadata::lists_tables(&planned.plan) {
            Some(columns) => self.statements.inner.catalog.list_foreign(columns, |_| true).await,
            None => Vec::new(),
        };
        let write_to = parsed.and_then(|parsed| parsed.write_to.clone());
        let plan = match parsed.and_then(|parsed| parsed.store.as_ref()) {
            Some((place, options)) => self.with_store(planned.plan, place, options)?,
            None => planned.plan,
        };
        if let Some(target) = write_to {
            return self.write_to(target, plan).await;
        }
        let manifest = parsed.is_some_and(|parsed| parsed.manifest);
        match plan {
            LogicalPlan::Ddl(ddl) => self.ddl(parsed, ddl).await,
            LogicalPlan::Statement(statement) => self.session_statement(parsed, statement).await,
            LogicalPlan::Dml(dml) => self.insert(dml).await,
            plan @ LogicalPlan::Copy(_) => self.copy(plan, manifest).await,
            LogicalPlan::Explain(explain) => self.explain(explain).await,
            LogicalPlan::Analyze(analyze) => self.analyze(analyze, manifest).await,
            plan => self.query(plan).await,
        }
    }

    /// Has COPY reach its object store as its options say.
    fn with_store(
        self,
        plan: LogicalPlan,
        place: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<LogicalPlan, QueryError> {
        let catalog = &self.statements.inner.catalog;
        let mut all = catalog.lent(options)?;
        all.extend(options.clone());
        let url = Url::parse(place).map_err(|error| QueryError::Invalid(format!("{place}: {error}")))?;
        let name = catalog.stores().named(&url, &all, || catalog.ids().name())?;
        Ok(match (plan, name) {
            (LogicalPlan::Copy(copy), Some(name)) => {
                LogicalPlan::Copy(CopyTo { output_url: with_settings(&copy.output_url, &name), ..copy })
            }
            (plan, _) => plan,
        })
    }

    pub(super) async fn query(self, plan: LogicalPlan) -> Result<Execution, QueryError> {
        let plan = match self.info.first_rows {
            Some(_) => LogicalPlanBuilder::from(plan).limit(0, self.info.first_rows)?.build()?,
            None => plan,
        };
        if metadata::reads_only_the_catalog(&plan) {
            return self.run_here(&plan).await;
        }
        let runner = &self.statements.inner.runner;
        let begun = self.begun().await?;
        let job = runner.plan(self.state, &plan, shape_of(&begun)).await.map_err(|e| explain(&e, self.sql))?;
        if let Some(constant) = job.constant {
            return self.collect_here(constant).await;
        }
        self.check_once(&job)?;
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

    /// Refuses a job that may have begun under another primary, and must not begin twice.
    pub(super) fn check_once(self, job: &PlannedJob) -> Result<(), QueryError> {
        match self.info.delivery == Delivery::Again && job.runs_once() {
            true => Err(QueryError::Lost(
                "the statement runs a program, and another primary leads since the program may have begun: how far it came is not known".to_string(),
            )),
            false => Ok(()),
        }
    }

    /// Returns what an earlier leader did for the statement, if it is sent again.
    pub(super) async fn begun(self) -> Result<Option<Arc<Begun>>, QueryError> {
        match (&self.info.query, self.info.delivery) {
            (Some(query), Delivery::Again) => Ok(self.statements.inner.runner.begun(query).await?.map(Arc::new)),
            _ => Ok(None),
        }
    }

    /// Returns the guard of a write, which continues after its client has left.
    pub(super) async fn under_way(self) -> Option<Entered> {
        match (&self.info.query, self.info.delivery) {
            // A statement that is sent again has had its guard since before it looked for its outcome.
            (Some(query), Delivery::First) => Some(self.statements.inner.under_way.enter(query).await),
            _ => None,
        }
    }

    /// Runs a plan over the catalog's own tables in this process. It needs no executor and reads no file.
    pub(super) async fn run_here(self, plan: &LogicalPlan) -> Result<Execution, QueryError> {
        let plan = self.state.create_physical_plan(plan).await.map_err(|e| explain(&e, self.sql))?;
        self.collect_here(plan).await
    }

    async fn collect_here(self, plan: Arc<dyn ExecutionPlan>) -> Result<Execution, QueryError> {
        let schema = plan.schema();
        let run = async {
            let plan = windlass_engine::interruptible(plan)?;
            datafusion::physical_plan::collect(plan, self.state.task_ctx()).await
        };
        Ok(Execution::here(schema, run.await.map_err(|e| explain(&e, self.sql))?))
    }

    /// Returns the `JobInfo` of the statement's first job, or of a second one that starts from the beginning.
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
            statement: self.shown.to_string(),
            query: info.query.clone(),
            terms,
            part_of: info.part_of,
            saved_as: info
                .query
                .clone()
                .filter(|_| info.delivery != Delivery::Once && info.retention == Retention::User),
            begun: None,
        }
    }

    /// Returns the effect to record when the statement takes effect. `None`: its client will not send it again.
    pub(super) fn effect(self) -> Option<Effect> {
        Effect::of(&self.info.query, self.info.delivery)
    }
}

/// Whether a plan may replace files that it reads: it must list them after those that it replaces.
fn lists_for_itself(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Dml(dml) => matches!(dml.op, WriteOp::Insert(InsertOp::Overwrite)),
        LogicalPlan::Analyze(analyze) => lists_for_itself(&analyze.input),
        _ => false,
    }
}

/// Returns the cluster shape that an earlier leader planned for. The same statement planned for the same shape has the same stages.
pub(super) fn shape_of(begun: &Option<Arc<Begun>>) -> Option<ClusterShape> {
    begun.as_ref().map(|begun| begun.shape)
}
