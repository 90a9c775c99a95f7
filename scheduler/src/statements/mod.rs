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
pub(crate) mod prepared;
mod publish;
mod runner;
pub mod sessions;
mod sinks;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod tries;
mod write;

pub use cluster::ClusterRunner;
pub use gate::Gate;
pub use outcome::Sent;
pub use params::{ParameterNames, Parameters};
pub use prepared::Described;
pub use publish::Journal;
pub use runner::{Finished, Part, Runner, Started};
pub use windlass_proto::leaves::{Leaves, leaves};

use crate::driver::history::JobInfo;
use crate::driver::saved::Begun;
use crate::errors::{QueryError, explain, of_option};
use crate::meta::keys::outcomes;
use crate::statements::catalog::{BrokenView, Catalog, Listings};
use crate::statements::planners::Planners;
use crate::statements::sessions::{Session, Versions, option_value, refuse_runtime_option};
use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::common::DFSchema;
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::{Execute, LogicalPlan, Prepare, Statement as PlanStatement};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use gate::Inside;
pub(crate) use outcome::Effect;
use outcome::{Entered, UnderWay};
use parse::{Parsed, apart};
use patience::Patience;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use windlass_core::ids::JobId;
use windlass_engine::connector::Registry;
use windlass_engine::extent::Limits;
use windlass_engine::{ClusterShape, PlannedJob};

/// A longer statement takes much memory to plan, and waits until no other of its kind is planned.
const LARGE: usize = 1 << 20;

/// Limits and places of statement execution.
#[derive(Clone, Debug)]
pub struct StatementConfig {
    /// A longer statement is refused. Default 16 MiB.
    pub max_statement_bytes: usize,
    /// So is one that is deeper or larger, as it is written or as it is planned.
    pub limits: Limits,
    /// A statement that is planned for longer, not counting what it waits for, fails. Default 60 s.
    pub planning_timeout: Duration,
    /// So does one whose planning holds more bytes. Default 1 GiB.
    pub planning_memory: u64,
    /// Kinds of tables beside files: the same as every executor's. Default: none.
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
    planners: Planners,
    /// Has room for one large statement.
    large: Arc<Semaphore>,
}

/// What is said of a statement besides its text.
#[derive(Clone, Default)]
pub struct Info {
    /// Shown in lists of jobs; empty: the beginning of the statement.
    pub name: String,
    /// The name under which the client watches and cancels it.
    pub query: Option<String>,
    /// Called with the statement's job once there is one, and again if another one takes its place.
    pub started: Option<Started>,
    /// Whether the client may send it again, or does.
    pub sent: Sent,
    /// The submission that it is a statement of, and which of them, from 0.
    pub part_of: Option<(JobId, u32)>,
    /// Whether whoever sends it again counts how often it was begun.
    pub is_counted: bool,
}

/// A statement that has run.
#[derive(Clone, Debug)]
pub struct Execution {
    pub schema: SchemaRef,
    pub rows: Rows,
    /// `None` when none was needed.
    pub job: Option<JobId>,
    /// Rows that the statement wrote.
    pub affected: Option<u64>,
    /// While this lives, a primary that is asked to stop waits.
    running: Option<Arc<Inside>>,
}

/// Where the rows of a result are.
#[derive(Clone, Debug)]
pub enum Rows {
    Here(Vec<RecordBatch>),
    /// With the job's report, or on executors. They stay there while a clone of this lives.
    Job(Arc<Finished>),
}

impl Info {
    /// What is recorded when the statement has its effect. `None`: its client will not send it again.
    fn effect(&self) -> Option<Effect> {
        Effect::of(&self.query, self.sent)
    }
}

impl Execution {
    /// It has run, and its result lies where readers find it.
    pub(crate) fn is_over(&mut self) {
        self.running = None;
    }

    fn here(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { schema, rows: Rows::Here(batches), job: None, affected: None, running: None }
    }

    pub(crate) fn empty() -> Self {
        Self::here(Arc::new(Schema::empty()), Vec::new())
    }

    /// Of an update without an answer.
    pub(crate) fn wrote(affected: Option<u64>) -> Self {
        Self { affected, ..Self::empty() }
    }

    /// DataFusion's answer to a statement that writes.
    fn count(rows: u64, job: Option<JobId>) -> Self {
        let schema = Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]));
        let column: ArrayRef = Arc::new(UInt64Array::from(vec![rows]));
        // One column of the schema's one type.
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).expect("a column of numbers is a batch");
        Self { schema, rows: Rows::Here(vec![batch]), job, affected: Some(rows), running: None }
    }
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
                planners,
                large: Arc::new(Semaphore::new(1)),
            }),
        }
    }

    /// Tasks that end with the primary.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    /// What lets statements in.
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

    /// Does the work of a statement where it may take long and be deep. Dropping the future ends it.
    pub(crate) fn on_planners<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, QueryError>> {
        let (planners, work) = (self.inner.planners.clone(), work.boxed());
        Box::pin(async move { planners.run(work).await.unwrap_or_else(|unfinished| Err(unfinished.into())) })
    }

    /// As [`Statements::on_planners`], for as long as a statement of `length` bytes may be planned. Large ones take turns.
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

    /// How long the statement may be planned, and its information, through which that learns of its end.
    fn patience(&self, session: &Arc<Session>, info: &Info) -> (Info, Patience) {
        let patience = Patience::new(self.inner.config.planning_timeout, session.statement_timeout());
        (Info { started: Some(patience.until_started(info.started.clone())), ..info.clone() }, patience)
    }

    /// Runs a statement unless an earlier try of it has had its effect, or as many primaries as may have died of it where nobody else counts
    /// them.
    async fn once<'a, R>(&'a self, info: &Info, run: R) -> Result<Execution, QueryError>
    where
        R: FnOnce(Info) -> BoxFuture<'a, Result<Execution, QueryError>>,
    {
        let Some(query) = info.query.as_deref().filter(|_| info.sent == Sent::Again) else {
            return run(info.clone()).await;
        };
        let _entered = self.inner.under_way.enter(query).await;
        if let Some(done) = self.done(query).await? {
            return Ok(done);
        }
        let ended = match info.is_counted {
            true => run(info.clone()).await,
            false => tries::counted(self.inner.catalog.store(), query, info, run).await,
        };
        match ended {
            // An earlier try that was just being made durable here is what it met.
            Err(error) => self.done(query).await?.ok_or(error),
            done => done,
        }
    }

    /// The answer of a statement that has had its effect.
    async fn done(&self, query: &str) -> Result<Option<Execution>, QueryError> {
        let done = outcomes::find(self.inner.catalog.store().as_ref(), query).await?;
        Ok(done.map(|done| match (done.affected, done.counted) {
            (Some(rows), true) => Execution::count(rows, None),
            (affected, _) => Execution::wrote(affected),
        }))
    }

    /// Held by a write, which goes on when its client has left.
    async fn under_way(&self, info: &Info) -> Option<Entered> {
        match (&info.query, info.sent) {
            // One that was sent again is under way since before it looked for its outcome.
            (Some(query), Sent::First) => Some(self.inner.under_way.enter(query).await),
            _ => None,
        }
    }

    fn run<'a>(
        &'a self,
        session: &'a Arc<Session>,
        sql: &'a str,
        parameters: Option<Parameters>,
        info: Info,
    ) -> BoxFuture<'a, Result<Execution, QueryError>> {
        Box::pin(async move {
            let state = session.state();
            let planned = self.plan(session, &state, sql).await?;
            let plan = match parameters {
                Some(parameters) => {
                    let zone = state.config_options().execution.time_zone.as_deref();
                    let bound = parameters.bind(planned.plan, &planned.names, zone);
                    bound.map_err(|e| explain(&e, sql, &[]))?
                }
                None => {
                    planned.names.require_none()?;
                    planned.plan
                }
            };
            let statement = Planned { plan, ..planned };
            let executed = Box::pin(self.execute_planned(session, &state, sql, statement, &info)).await;
            executed.map_err(about_files)
        })
    }

    /// Runs a plan that a client built, as [`windlass_engine::logical::encode`] leaves it.
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
        Box::pin(async move {
            let state = session.state();
            let plan = windlass_engine::logical::decode(encoded, &state, &self.inner.config.limits).await?;
            let plan = places::put_in_plan(plan)?;
            // What lists of jobs show in the place of a text.
            let shown = plan.display_indent().to_string();
            let planned = Planned { plan, names: ParameterNames::default(), parsed: None };
            self.execute_planned(session, &state, &shown, planned, &info).await
        })
    }

    /// Runs one statement for each row of parameters: in one job when it inserts literal rows. Returns the rows written.
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
                let execution = Box::pin(statements.execute_planned(session, &state, sql, statement, &info)).await?;
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

    /// What a statement returns and needs, without running it.
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
            let types = params::types_of(&planned.plan).map_err(|e| explain(&e, sql, &[]))?;
            let parameters = planned.names.fields(&types);
            let is_update = is_update(&planned.plan);
            let schema = match &planned.plan {
                LogicalPlan::Statement(PlanStatement::Execute(_)) => Arc::new(Schema::empty()),
                plan if is_update => match plan {
                    LogicalPlan::Dml(_) | LogicalPlan::Copy(_) => Arc::clone(plan.schema().inner()),
                    _ => Arc::new(Schema::empty()),
                },
                plan => match plan.get_parameter_names().is_ok_and(|names| names.is_empty()) {
                    // What the optimiser makes of it is what the result will have.
                    true => Arc::clone(state.optimize(plan).map_err(|e| explain(&e, sql, &[]))?.schema().inner()),
                    false => Arc::clone(plan.schema().inner()),
                },
            };
            Ok(Described { schema: without_qualifiers(&schema), parameters, names: planned.names, is_update })
        })
    }

    /// The texts of the statements of `sql`, without the semicolons between them.
    pub fn split<'a>(
        &'a self,
        session: &'a Arc<Session>,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, QueryError>> {
        let (statements, session, sql) = (self.clone(), Arc::clone(session), sql.to_string());
        self.on_planners(async move { parse::split(&session.state(), &sql, statements.inner.config.limits) })
    }

    /// The rows of a result, from wherever they are, through this process: in order, with back-pressure, in flat memory.
    pub fn read(&self, execution: &Execution) -> Result<SendableRecordBatchStream, QueryError> {
        match &execution.rows {
            Rows::Here(batches) => Ok(ready(&execution.schema, batches.clone())),
            Rows::Job(finished) => {
                let parts: Vec<_> = (0..finished.parts.len()).collect();
                self.read_parts(&execution.schema, finished, parts)
            }
        }
    }

    /// The rows of some parts of a job's result, one part after the other.
    pub fn read_parts(
        &self,
        schema: &SchemaRef,
        finished: &Arc<Finished>,
        parts: Vec<usize>,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        let statements = self.clone();
        let (finished, of) = (Arc::clone(finished), Arc::clone(schema));
        let streams = futures::stream::iter(parts).map(move |index| match finished.parts.get(index) {
            Some(part) => hold(statements.read_part(&of, part), Arc::clone(&finished)),
            None => ready(&of, Vec::new()),
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), streams.flatten())))
    }

    fn read_part(&self, schema: &SchemaRef, part: &Part) -> SendableRecordBatchStream {
        match &part.inline {
            Some(bytes) => match StreamReader::try_new(std::io::Cursor::new(bytes.clone()), None) {
                Ok(reader) => {
                    let batches = futures::stream::iter(reader.map(|batch| batch.map_err(DataFusionError::from)));
                    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), batches))
                }
                Err(error) => {
                    let failed = futures::stream::iter([Err(DataFusionError::from(error))]);
                    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), failed))
                }
            },
            None => self.inner.runner.read(Arc::clone(schema), vec![(part.output, part.executor)]),
        }
    }

    /// Parses and plans, or takes the plan of the same text in the same circumstances.
    async fn plan(&self, session: &Arc<Session>, state: &SessionState, sql: &str) -> Result<Planned, QueryError> {
        let limit = self.inner.config.max_statement_bytes;
        if sql.len() > limit {
            return Err(QueryError::Exhausted(format!(
                "the statement is {} bytes long, and at most {limit} are accepted: load literal rows from a file, or raise \
                 primary.statement_limit",
                sql.len()
            )));
        }
        let versions = Versions::of(session, &self.inner.catalog);
        if let Some(plan) = session.plans.lock().get(sql, versions) {
            let names = ParameterNames::default();
            return Ok(Planned { plan, names, parsed: None });
        }
        let mut parsed = parse::parse(state, sql, self.inner.config.limits)?;
        let state = &*instants::zoned(state, sql);
        let plan = match self.plan_parsed(state, &mut parsed).await {
            Ok(plan) => plan,
            Err(error) => return Err(self.planning_error(session, state, sql, &parsed, error).await),
        };
        self.inner.config.limits.check(&plan)?;
        let plan = apart::shown(plan)?;
        if parsed.is_query && parsed.names.is_empty() {
            session.plans.lock().put(sql, versions, &plan);
        }
        let names = parsed.names.clone();
        Ok(Planned { plan, names, parsed: Some(parsed) })
    }

    async fn plan_parsed(&self, state: &SessionState, parsed: &mut Parsed) -> Result<LogicalPlan, DataFusionError> {
        for ordered in apart::ordered(&parsed.statement) {
            if let Ok(plan) = state.statement_to_plan(ordered.clone()).await {
                parsed.statement = ordered;
                return Ok(plan);
            }
        }
        let error = match state.statement_to_plan(parsed.statement.clone()).await {
            Ok(plan) => return Ok(plan),
            Err(error) => error,
        };
        // Only the planner knows which columns `*` stands for, and what it calls an expression.
        let mut statement = parsed.statement.clone();
        let mut stars = Vec::new();
        for (at, star) in apart::stars(&statement) {
            match state.statement_to_plan(star).await {
                Ok(plan) => stars.push((at, plan.schema().columns())),
                Err(_) => return Err(error),
            }
        }
        if !stars.is_empty() && !apart::write_stars_out(&mut statement, stars) {
            return Err(error);
        }
        if !apart::anything(&mut statement) {
            return Err(error);
        }
        match state.statement_to_plan(statement.clone()).await {
            Ok(plan) => {
                parsed.statement = statement;
                Ok(plan)
            }
            Err(_) => Err(error),
        }
    }

    /// Plans again, keeping track of positions, to say where in the text the error lies.
    async fn planning_error(
        &self,
        session: &Arc<Session>,
        state: &SessionState,
        sql: &str,
        parsed: &Parsed,
        error: DataFusionError,
    ) -> QueryError {
        let mut state = state.clone();
        state.config_mut().options_mut().sql_parser.collect_spans = true;
        let error = match state.statement_to_plan(parsed.statement.clone()).await {
            Err(again) if again.diagnostic().is_some() => again,
            _ => error,
        };
        // A view that cannot be planned has no columns, and so another error than its own.
        for name in state.resolve_table_references(&parsed.statement).unwrap_or_default() {
            let found = match state.schema_for_ref(name.clone()) {
                Ok(schema) => schema.table(name.table()).await,
                Err(_) => continue,
            };
            if let Ok(Some(table)) = found
                && let Some(broken) = table.downcast_ref::<BrokenView>()
            {
                return broken.error();
            }
        }
        let names = &state.config_options().catalog;
        let mut tables = self.inner.catalog.snapshot().names_in(&names.default_catalog, &names.default_schema);
        tables.extend(session.temporary().names());
        explain(&error, sql, &tables)
    }

    async fn execute_planned(
        &self,
        session: &Arc<Session>,
        state: &SessionState,
        sql: &str,
        planned: Planned,
        info: &Info,
    ) -> Result<Execution, QueryError> {
        let parsed = planned.parsed.as_ref();
        if let Some(rename) = parsed.and_then(|parsed| parsed.rename.clone()) {
            return self.rename(session, rename, info).await;
        }
        if !matches!(planned.plan, LogicalPlan::Statement(_)) {
            Listings::begin(state, &planned.plan);
        }
        match planned.plan {
            LogicalPlan::Ddl(ddl) => self.ddl(session, state, sql, parsed, ddl, info).await,
            LogicalPlan::Statement(statement) => {
                self.session_statement(session, state, sql, parsed, statement, info).await
            }
            LogicalPlan::Dml(dml) => self.insert(session, state, sql, dml, info).await,
            plan @ LogicalPlan::Copy(_) => self.copy(session, state, sql, plan, info).await,
            LogicalPlan::Explain(explain) => self.explain(session, state, sql, explain).await,
            LogicalPlan::Analyze(analyze) => self.analyze(session, state, sql, analyze, info).await,
            plan => self.query(session, state, sql, plan, info).await,
        }
    }

    async fn query(
        &self,
        session: &Arc<Session>,
        state: &SessionState,
        sql: &str,
        plan: LogicalPlan,
        info: &Info,
    ) -> Result<Execution, QueryError> {
        if metadata::reads_only_the_catalog(&plan) {
            return self.run_here(state, sql, &plan).await;
        }
        let runner = &self.inner.runner;
        let begun = self.begun(info).await?;
        let job = runner.plan(state, &plan, shape_of(&begun)).await.map_err(|e| explain(&e, sql, &[]))?;
        if let Some(constant) = job.constant {
            return self.collect_here(state, sql, constant).await;
        }
        let (schema, holds_sides) = (Arc::clone(&job.schema), job.holds_sides);
        let again = runner::job_info(session, state, sql, info);
        let job_info = JobInfo { begun, ..again.clone() };
        let finished = match runner.run(job, job_info, info.started.clone()).await {
            Err(error @ QueryError::OutOfMemory(_)) if holds_sides => {
                let job = self.plan_spilling(state, &plan, error).await?;
                runner.run(job, again, info.started.clone()).await?
            }
            ended => ended?,
        };
        let job = Some(finished.job);
        Ok(Execution { schema, rows: Rows::Job(Arc::new(finished)), job, affected: None, running: None })
    }

    /// A job whose joins, aggregates and limited sorts spill, in the place of one that did not fit into memory.
    async fn plan_spilling(
        &self,
        state: &SessionState,
        plan: &LogicalPlan,
        error: QueryError,
    ) -> Result<PlannedJob, QueryError> {
        tracing::info!(%error, "an operator did not fit into memory: the statement runs again in a way that spills");
        Ok(self.inner.runner.plan(&windlass_engine::spilling(state), plan, None).await?)
    }

    /// What an earlier leader did of a statement that is sent again.
    async fn begun(&self, info: &Info) -> Result<Option<Arc<Begun>>, QueryError> {
        match (&info.query, info.sent) {
            (Some(query), Sent::Again) => Ok(self.inner.runner.begun(query).await?.map(Arc::new)),
            _ => Ok(None),
        }
    }

    /// Runs a plan over the catalog's own tables in this process: it needs no executor and reads no file.
    async fn run_here(&self, state: &SessionState, sql: &str, plan: &LogicalPlan) -> Result<Execution, QueryError> {
        let plan = state.create_physical_plan(plan).await.map_err(|e| explain(&e, sql, &[]))?;
        self.collect_here(state, sql, plan).await
    }

    async fn collect_here(
        &self,
        state: &SessionState,
        sql: &str,
        plan: Arc<dyn ExecutionPlan>,
    ) -> Result<Execution, QueryError> {
        let schema = plan.schema();
        let run = async {
            let plan = windlass_engine::interruptible(plan)?;
            datafusion::physical_plan::collect(plan, state.task_ctx()).await
        };
        Ok(Execution::here(schema, run.await.map_err(|e| explain(&e, sql, &[]))?))
    }

    async fn session_statement(
        &self,
        session: &Arc<Session>,
        state: &SessionState,
        sql: &str,
        parsed: Option<&Parsed>,
        statement: PlanStatement,
        info: &Info,
    ) -> Result<Execution, QueryError> {
        match statement {
            PlanStatement::SetVariable(mut set) => {
                refuse_runtime_option(&set.variable)?;
                set.value = option_value(&set.variable, &set.value)?;
                if let Err(error) =
                    session.context().execute_logical_plan(plan_of(PlanStatement::SetVariable(set.clone()))).await
                {
                    return Err(of_option(state, &set.variable, Some(&set.value), &error));
                }
                session.options_changed();
                Ok(Execution::empty())
            }
            PlanStatement::ResetVariable(reset) => {
                refuse_runtime_option(&reset.variable)?;
                // DataFusion resets only options of its own.
                if let Some(default) = windlass_engine::config::default_of(&reset.variable) {
                    session.set_option(&reset.variable, &default)?;
                    return Ok(Execution::empty());
                }
                let plan = plan_of(PlanStatement::ResetVariable(reset.clone()));
                if let Err(error) = session.context().execute_logical_plan(plan).await {
                    return Err(of_option(state, &reset.variable, None, &error));
                }
                session.options_changed();
                Ok(Execution::empty())
            }
            PlanStatement::Prepare(prepare) => {
                let parsed = parsed.ok_or_else(|| QueryError::Internal("a PREPARE without its text".to_string()))?;
                if params::are_declared(&parsed.statement) {
                    check_parameters(&prepare)?;
                }
                // The text is kept and planned at each EXECUTE: tables change in between.
                session.store_prepared(&prepare.name, parsed.statement.clone())?;
                Ok(Execution::empty())
            }
            PlanStatement::Execute(execute) => self.execute_prepared(session, state, sql, execute, info).await,
            PlanStatement::Deallocate(deallocate) => {
                session.remove_prepared(&deallocate.name)?;
                Ok(Execution::empty())
            }
            PlanStatement::TransactionStart(_) | PlanStatement::TransactionEnd(_) => Err(no_transactions()),
        }
    }

    async fn execute_prepared(
        &self,
        session: &Arc<Session>,
        state: &SessionState,
        sql: &str,
        execute: Execute,
        info: &Info,
    ) -> Result<Execution, QueryError> {
        let statement = session.prepared(&execute.name)?;
        let declared = params::are_declared(&statement);
        let bind = async {
            let zoned = instants::zoned(state, &statement.to_string());
            let plan = zoned.statement_to_plan(statement).await?;
            let LogicalPlan::Statement(PlanStatement::Prepare(Prepare { fields, input, .. })) = plan else {
                return Ok(Err(QueryError::Internal(format!("'{}' is not a prepared statement", execute.name))));
            };
            params::bind_execute(state, Arc::unwrap_or_clone(input), &fields, declared, execute.parameters).map(Ok)
        };
        let plan = bind.await.map_err(|e: DataFusionError| explain(&e, sql, &[]))??;
        self.inner.config.limits.check(&plan)?;
        let plan = apart::shown(plan)?;
        let planned = Planned { plan, names: ParameterNames::default(), parsed: None };
        Box::pin(self.execute_planned(session, state, sql, planned, info)).await
    }
}

/// A statement, planned.
struct Planned {
    plan: LogicalPlan,
    names: ParameterNames,
    /// `None` when the plan was at hand: only queries are.
    parsed: Option<Parsed>,
}

/// The same statement for the same cluster is the same stages.
fn shape_of(begun: &Option<Arc<Begun>>) -> Option<ClusterShape> {
    begun.as_ref().map(|begun| begun.shape)
}

fn plan_of(statement: PlanStatement) -> LogicalPlan {
    LogicalPlan::Statement(statement)
}

fn is_update(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Dml(_) | LogicalPlan::Copy(_) | LogicalPlan::Ddl(_) => true,
        LogicalPlan::Statement(statement) => !matches!(statement, PlanStatement::Execute(_)),
        _ => false,
    }
}

fn check_parameters(prepare: &Prepare) -> Result<(), QueryError> {
    let used = prepare.input.get_parameter_names()?.len();
    if !prepare.fields.is_empty() && used != prepare.fields.len() {
        return Err(QueryError::Invalid(format!(
            "'{}' is prepared with {} types, but its statement has {used} parameters",
            prepare.name,
            prepare.fields.len()
        )));
    }
    Ok(())
}

pub(crate) fn no_transactions() -> QueryError {
    QueryError::Unsupported("transactions are not supported: each statement is committed by itself".to_string())
}

/// Adds what only the primary knows: whether it sees the local file that an executor did not find.
fn about_files(error: QueryError) -> QueryError {
    let QueryError::FileMissing { path, message } = error else { return error };
    let file = Path::new(&path);
    let advice = match file.exists() {
        // One of an object store has no root.
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

fn ready(schema: &SchemaRef, batches: Vec<RecordBatch>) -> SendableRecordBatchStream {
    let batches = futures::stream::iter(batches.into_iter().map(Ok));
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), batches))
}

/// The stream, keeping `held` alive until it ends.
fn hold<T: Send + 'static>(stream: SendableRecordBatchStream, held: T) -> SendableRecordBatchStream {
    let schema = stream.schema();
    let held_stream = stream.map(move |batch| {
        let _held = &held;
        batch
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, held_stream))
}
