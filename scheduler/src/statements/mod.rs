//! Statements: from text in a session to rows, or to a change of the catalog or of files.
//!
//! ```text
//!   text ──parse──> statement ──plan──> logical plan ─┬─ query ──────────> job ──> result, inline or on executors
//!                                                     ├─ INSERT, COPY, ──> job ──> staged files ──publish──> visible
//!                                                     │  CREATE TABLE AS
//!                                                     ├─ DDL ────────────> one transaction of the catalog
//!                                                     ├─ SET, PREPARE ───> the session
//!                                                     └─ SHOW, DESCRIBE, EXPLAIN, information_schema: here, without a job
//! ```

pub(crate) mod catalog;
mod catalogs;
mod cluster;
mod ddl;
mod erased;
mod explain;
mod garbage;
mod gate;
#[cfg(test)]
pub(crate) mod in_process;
pub(crate) mod instants;
mod kept;
mod metadata;
pub(crate) mod outcome;
mod params;
mod parse;
mod patience;
mod places;
mod planners;
mod planning;
pub(crate) mod prepared;
mod publish;
mod result;
mod run;
mod runner;
mod secrets;
pub mod sessions;
mod settings;
mod sinks;
mod target;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod tries;
mod turns;
mod write;

pub use cluster::ClusterRunner;
pub use gate::Gate;
pub use outcome::Delivery;
pub use params::{ParameterNames, Parameters};
pub use prepared::Described;
pub use publish::Journal;
pub use result::{Execution, Rows};
pub use runner::{Finished, Part, Runner, Started};
pub use windlass_proto::session_effect::{SessionEffect, session_effect};

use crate::errors::{QueryError, explain};
use crate::meta::keys::outcomes;
use crate::statements::catalog::Catalog;
use crate::statements::planners::Planners;
use crate::statements::sessions::Session;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{LogicalPlan, Statement as PlanStatement};
use futures::FutureExt;
use futures::future::BoxFuture;
use outcome::UnderWay;
pub(crate) use parse::quotes::Quotes;
use parse::target::WriteTo;
use patience::Patience;
use planning::Planned;
use result::count_schema;
use run::StatementRun;
pub(crate) use settings::no_transactions;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use turns::{Alone, Turns};
use windlass_core::ids::JobId;
use windlass_core::job::Retention;
use windlass_engine::connector::Registry;
use windlass_engine::extent::Limits;

/// Bytes above which a statement is large. Planning a large one takes much memory, so large ones are planned one at a time.
const LARGE: usize = 1 << 20;

/// Limits and places of statement execution.
#[derive(Clone, Debug)]
pub struct StatementConfig {
    /// Maximum bytes of a statement. Default 16 MiB.
    pub max_statement_bytes: usize,
    /// Maximum depth and size of a statement, as written and as planned.
    pub limits: Limits,
    /// Maximum planning time of a statement, without its waits. Default 60 s.
    pub planning_timeout: Duration,
    /// Maximum bytes that the planning of a statement holds. Default 1 GiB.
    pub planning_memory: u64,
    /// Kinds of tables besides files: the same as every executor's. Default: none.
    pub connectors: Registry,
}

impl Default for StatementConfig {
    fn default() -> Self {
        Self {
            max_statement_bytes: 16 << 20,
            limits: Limits::default(),
            planning_timeout: Duration::from_secs(60),
            planning_memory: 1 << 30,
            connectors: Registry::default(),
        }
    }
}

/// Executes statements. Cheap to clone.
#[derive(Clone)]
pub struct Statements {
    inner: Arc<Inner>,
}

struct Inner {
    config: StatementConfig,
    catalog: Arc<Catalog>,
    runner: Arc<dyn Runner>,
    journal: Journal,
    tasks: TaskTracker,
    gate: Gate,
    under_way: UnderWay,
    turns: Turns,
    planners: Planners,
    /// Has room for one large statement.
    large: Arc<Semaphore>,
}

/// Facts about a statement besides its text.
#[derive(Clone, Default)]
pub struct Info {
    /// The name in lists of jobs. Empty: the beginning of the statement.
    pub name: String,
    /// The name under which the client watches and cancels the statement.
    pub query: Option<String>,
    /// Called with the statement's job when it starts, and again if another job replaces it.
    pub started: Option<Started>,
    /// Whether the client may send the statement again, or does.
    pub delivery: Delivery,
    /// The submission to which the statement belongs, and the statement's index, from 0.
    pub part_of: Option<(JobId, u32)>,
    /// Whether its jobs are a user's.
    pub retention: Retention,
    /// Whether the sender counts the tries of the statement.
    pub is_counted: bool,
    /// Maximum rows of a query that are wanted. `None`: all.
    pub first_rows: Option<usize>,
}

impl Statements {
    pub fn new(
        config: StatementConfig,
        catalog: Arc<Catalog>,
        runner: Arc<dyn Runner>,
        journal: Journal,
        tasks: TaskTracker,
    ) -> Self {
        let planners = Planners::new(config.planning_memory);
        Self {
            inner: Arc::new(Inner {
                config,
                catalog,
                runner,
                journal,
                tasks,
                gate: Gate::default(),
                under_way: UnderWay::default(),
                turns: Turns::default(),
                planners,
                large: Arc::new(Semaphore::new(1)),
            }),
        }
    }

    /// Returns the tracker of tasks that end with the primary.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    /// Returns the gate that admits statements.
    pub fn gate(&self) -> &Gate {
        &self.inner.gate
    }

    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.inner.catalog
    }

    /// Runs one statement to its end. Dropping the future cancels it.
    pub fn execute<'a>(
        &'a self,
        session: &'a Arc<Session>,
        sql: &'a str,
        parameters: Option<Parameters>,
        info: &'a Info,
    ) -> BoxFuture<'a, Result<Execution, QueryError>> {
        let (statements, session, sql) = (self.clone(), Arc::clone(session), sql.to_string());
        let (info, patience) = self.patience(&session, info);
        self.on_planners_for(patience, sql.len(), async move {
            let inside = statements.inner.gate.enter()?;
            let run = |info| statements.run(&session, &sql, parameters, info);
            let execution = statements.once(&info, run).await?;
            Ok(Execution { running: Some(Arc::new(inside)), ..execution })
        })
    }

    /// Runs the work of a statement on the planners' threads, where it may take long and recurse deeply. Dropping the future ends it.
    pub(crate) fn on_planners<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, QueryError>> {
        let (planners, work) = (self.inner.planners.clone(), work.boxed());
        Box::pin(async move { planners.run(work).await.unwrap_or_else(|unfinished| Err(unfinished.into())) })
    }

    /// Runs work as [`Statements::on_planners`] does, within the planning time of a statement of `length` bytes. Large ones take turns.
    fn on_planners_for<T: Send + 'static>(
        &self,
        patience: Patience,
        length: usize,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, QueryError>> {
        let (planners, work) = (self.inner.planners.clone(), work.boxed());
        let turn = (length > LARGE).then(|| patience.wait_for_turn(&self.inner.large));
        let work = async move {
            if let Some(turn) = turn {
                turn.await;
            }
            work.await
        };
        Box::pin(async move { planners.run_unless(work, |computed| patience.is_over(computed)).await?? })
    }

    /// Returns the planning time of the statement, and an `Info` whose `started` ends that time.
    fn patience(&self, session: &Arc<Session>, info: &Info) -> (Info, Patience) {
        let patience = Patience::new(self.inner.config.planning_timeout, session.statement_timeout());
        (Info { started: Some(patience.until_started(info.started.clone())), ..info.clone() }, patience)
    }

    /// Runs a statement, unless an earlier try of it has taken effect, or it has been tried as often as is allowed. This counts the
    /// tries only if the sender does not.
    async fn once<'a, R>(&'a self, info: &Info, run: R) -> Result<Execution, QueryError>
    where
        R: FnOnce(Info) -> BoxFuture<'a, Result<Execution, QueryError>>,
    {
        let Some(query) = info.query.as_deref().filter(|_| info.delivery == Delivery::Again) else {
            return run(info.clone()).await;
        };
        let _entered = self.inner.under_way.enter(query).await;
        if let Some(done) = self.done(query).await? {
            return Ok(done);
        }
        let ended = match info.is_counted {
            true => run(info.clone()).await,
            false => {
                let catalog = &self.inner.catalog;
                tries::counted(catalog.store(), catalog.clock(), query, info, run).await
            }
        };
        match ended {
            // The error may come from an earlier try whose effect became durable in the meantime.
            Err(error) => self.done(query).await?.ok_or(error),
            done => done,
        }
    }

    /// Returns the answer of a statement that has taken effect.
    async fn done(&self, query: &str) -> Result<Option<Execution>, QueryError> {
        let done = outcomes::find(self.inner.catalog.store().as_ref(), query).await?;
        Ok(done.map(|done| match (done.affected, done.counted) {
            (Some(rows), true) => Execution::count(rows, None),
            (affected, _) => Execution::wrote(affected),
        }))
    }

    /// Runs a statement, and once more from its text if a table that it read and replaces has changed meanwhile. That table stays as
    /// it is during the second time.
    async fn unchanged<'a>(
        &'a self,
        run: impl Fn(Option<Alone>) -> BoxFuture<'a, Result<Execution, QueryError>>,
    ) -> Result<Execution, QueryError> {
        match run(None).await {
            Err(QueryError::Changed { table, message }) => {
                tracing::info!(message, "the statement runs again");
                run(Some(self.inner.turns.alone(&table).await)).await
            }
            ended => ended,
        }
    }

    fn run<'a>(
        &'a self,
        session: &'a Arc<Session>,
        sql: &'a str,
        parameters: Option<Parameters>,
        info: Info,
    ) -> BoxFuture<'a, Result<Execution, QueryError>> {
        Box::pin(self.unchanged(move |turn| self.run_once(session, sql, parameters.clone(), info.clone(), turn)))
    }

    fn run_once<'a>(
        &'a self,
        session: &'a Arc<Session>,
        sql: &'a str,
        parameters: Option<Parameters>,
        info: Info,
        turn: Option<Alone>,
    ) -> BoxFuture<'a, Result<Execution, QueryError>> {
        Box::pin(async move {
            let state = session.state();
            let planned = self.plan(session, &state, sql).await?;
            let plan = match parameters {
                Some(parameters) => {
                    let zone = state.config_options().execution.time_zone.as_deref();
                    let bound = parameters.bind(planned.plan, &planned.names, zone);
                    bound.map_err(|e| explain(&e, sql))?
                }
                None => {
                    planned.names.require_none()?;
                    planned.plan
                }
            };
            let statement = Planned { plan, ..planned }.with_assignable_values().map_err(|e| explain(&e, sql))?;
            let hidden = statement.without_credentials(sql);
            let (sql, shown) = hidden.as_ref().map_or((sql, sql), |(masked, shown)| (masked.as_str(), shown.as_str()));
            let inserts = statement.parsed.as_ref().map(|parsed| parsed.inserts.clone()).unwrap_or_default();
            let (state, inserts, info, is_alone) = (&state, &inserts[..], &info, turn.is_some());
            let run = StatementRun { statements: self, session, state, sql, shown, inserts, info, is_alone };
            let executed = Box::pin(run.execute(statement)).await;
            executed.map_err(about_files)
        })
    }

    /// Runs a plan that a client built, in the encoding of [`windlass_engine::logical::encode`].
    pub fn execute_plan<'a>(
        &'a self,
        session: &'a Arc<Session>,
        encoded: &'a [u8],
        info: &'a Info,
    ) -> BoxFuture<'a, Result<Execution, QueryError>> {
        let (statements, session, encoded) = (self.clone(), Arc::clone(session), encoded.to_vec());
        let (info, patience) = self.patience(&session, info);
        self.on_planners_for(patience, encoded.len(), async move {
            let inside = statements.inner.gate.enter()?;
            let run = |info| statements.run_plan(&session, &encoded, info);
            let execution = statements.once(&info, run).await.map_err(about_files)?;
            Ok(Execution { running: Some(Arc::new(inside)), ..execution })
        })
    }

    fn run_plan<'a>(
        &'a self,
        session: &'a Arc<Session>,
        encoded: &'a [u8],
        info: Info,
    ) -> BoxFuture<'a, Result<Execution, QueryError>> {
        Box::pin(self.unchanged(move |turn| self.run_plan_once(session, encoded, info.clone(), turn)))
    }

    fn run_plan_once<'a>(
        &'a self,
        session: &'a Arc<Session>,
        encoded: &'a [u8],
        info: Info,
        turn: Option<Alone>,
    ) -> BoxFuture<'a, Result<Execution, QueryError>> {
        Box::pin(async move {
            let state = session.state();
            let plan = windlass_engine::logical::decode(encoded, &state, &self.inner.config.limits).await?;
            let plan = places::put_in_plan(plan)?;
            // Lists of jobs show this text in place of a statement.
            let shown = plan.display_indent().to_string();
            let planned = Planned { plan, names: ParameterNames::default(), parsed: None };
            let sql = &shown;
            let (state, info, is_alone) = (&state, &info, turn.is_some());
            let run = StatementRun { statements: self, session, state, sql, shown: sql, inserts: &[], info, is_alone };
            run.execute(planned).await
        })
    }

    /// Runs one statement for each row of parameters, in one job if it inserts literal rows. Returns the rows written.
    pub fn execute_many<'a>(
        &'a self,
        session: &'a Arc<Session>,
        sql: &'a str,
        rows: Vec<Parameters>,
        info: &'a Info,
    ) -> BoxFuture<'a, Result<Option<u64>, QueryError>> {
        let (statements, session, sql) = (self.clone(), Arc::clone(session), sql.to_string());
        let (info, patience) = self.patience(&session, info);
        self.on_planners_for(patience, sql.len(), async move {
            let (session, sql) = (&session, sql.as_str());
            let _inside = statements.inner.gate.enter()?;
            let state = session.state();
            let planned = statements.plan(session, &state, sql).await?;
            if rows.len() > 1
                && let Some(plan) = params::all_rows(
                    &planned.plan,
                    &planned.names,
                    &rows,
                    state.config_options().execution.time_zone.as_deref(),
                )?
            {
                let statement = Planned { plan, names: ParameterNames::default(), ..planned };
                let statement = statement.with_assignable_values().map_err(|e| explain(&e, sql))?;
                let inserts = statement.parsed.as_ref().map(|parsed| parsed.inserts.clone()).unwrap_or_default();
                let (state, inserts, info) = (&state, &inserts[..], &info);
                let run = StatementRun {
                    statements: &statements,
                    session,
                    state,
                    sql,
                    shown: sql,
                    inserts,
                    info,
                    is_alone: false,
                };
                let execution = Box::pin(run.execute(statement)).await?;
                return Ok(execution.affected);
            }
            let mut affected = None;
            for parameters in rows {
                let execution = statements.run(session, sql, Some(parameters), info.clone()).await?;
                affected = match (affected, execution.affected) {
                    (Some(sum), Some(rows)) => Some(sum + rows),
                    (sum, rows) => sum.or(rows),
                };
            }
            Ok(affected)
        })
    }

    /// Returns the result schema and the parameters of a statement without running it.
    pub fn describe<'a>(
        &'a self,
        session: &'a Arc<Session>,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<Described, QueryError>> {
        let (statements, session, sql) = (self.clone(), Arc::clone(session), sql.to_string());
        let (_, patience) = self.patience(&session, &Info::default());
        self.on_planners_for(patience, sql.len(), async move {
            let (session, sql) = (&session, sql.as_str());
            let state = session.state();
            let planned = statements.plan(session, &state, sql).await?;
            let types = params::types_of(&planned.plan).map_err(|e| explain(&e, sql))?;
            let parameters = planned.names.fields(&types);
            let target = planned.target();
            let is_update = target.is_some() || is_update(&planned.plan);
            let schema = match &planned.plan {
                _ if matches!(target, Some(WriteTo::New(_))) => Arc::new(Schema::empty()),
                _ if target.is_some() => count_schema(target.is_some_and(WriteTo::may_reject)),
                LogicalPlan::Statement(PlanStatement::Execute(_)) => Arc::new(Schema::empty()),
                plan if is_update => match plan {
                    LogicalPlan::Dml(_) | LogicalPlan::Copy(_) => Arc::clone(plan.schema().inner()),
                    _ => Arc::new(Schema::empty()),
                },
                plan => match plan.get_parameter_names().is_ok_and(|names| names.is_empty()) {
                    // The result has the schema of the optimised plan.
                    true => Arc::clone(state.optimize(plan).map_err(|e| explain(&e, sql))?.schema().inner()),
                    false => Arc::clone(plan.schema().inner()),
                },
            };
            Ok(Described { schema: without_qualifiers(&schema), parameters, names: planned.names, is_update })
        })
    }

    /// Refuses a text that is to be kept and shown, if it has credentials in it. `what`: whose text it is.
    pub fn refuse_credentials(&self, text: &str, what: &str) -> Result<(), QueryError> {
        parse::refuse_credentials(self.catalog().connectors(), text, what)
    }

    /// Returns the statements of `sql`, without the semicolons between them.
    pub fn split<'a>(
        &'a self,
        session: &'a Arc<Session>,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, QueryError>> {
        let (statements, session, sql) = (self.clone(), Arc::clone(session), sql.to_string());
        self.on_planners(async move { parse::split(&session.state(), &sql, statements.inner.config.limits) })
    }
}

fn is_update(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Dml(_) | LogicalPlan::Copy(_) | LogicalPlan::Ddl(_) => true,
        LogicalPlan::Statement(statement) => !matches!(statement, PlanStatement::Execute(_)),
        _ => false,
    }
}

/// Adds to the error whether the primary sees the local file that an executor did not find.
fn about_files(error: QueryError) -> QueryError {
    let QueryError::FileMissing { path, message } = error else { return error };
    let file = Path::new(&path);
    let advice = match file.exists() {
        // A path of an object store has no root.
        _ if !file.is_absolute() => "",
        true => {
            "\nthe primary sees this file, but an executor does not: tables over local files need the same path on every executor (a \
             shared file system), or files in an object store"
        }
        false => "\nit was there when the statement was planned, and is gone: run it again",
    };
    QueryError::FileMissing { message: message + advice, path }
}

pub(crate) fn without_qualifiers(schema: &SchemaRef) -> SchemaRef {
    match DFSchema::try_from(Arc::clone(schema)) {
        Ok(schema) => Arc::clone(schema.inner()),
        Err(_) => Arc::clone(schema),
    }
}
