//! Plans the text of a statement to its logical plan.

use super::parse::target::WriteTo;
use super::parse::{Parsed, apart, inserted};
use super::{ParameterNames, Statements, instants, metadata, parse};
use crate::errors::{QueryError, explain, explain_planning};
use crate::statements::catalog::{BrokenView, with_queries};
use crate::statements::sessions::{Session, Versions};
use datafusion::common::{DataFusionError, TableReference};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, WriteOp};
use std::sync::Arc;
use windlass_engine::connector::{masked, redacted};
use windlass_engine::{PlannedJob, check_assigned};

/// A planned statement.
pub(super) struct Planned {
    pub plan: LogicalPlan,
    pub names: ParameterNames,
    /// `None` if the plan was cached, which only happens for queries.
    pub parsed: Option<Parsed>,
}

impl Planned {
    /// Refuses values that go into a column of another type only with a written cast. The plan is that of a text, with its parameters.
    pub fn with_assignable_values(self) -> Result<Self, DataFusionError> {
        fn check(plan: &LogicalPlan, has_columns: bool) -> Result<(), DataFusionError> {
            match plan {
                LogicalPlan::Dml(dml) if matches!(dml.op, WriteOp::Insert(_)) => check_assigned(&dml.input),
                LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) if has_columns => {
                    check_assigned(&create.input)
                }
                LogicalPlan::Explain(explain) => check(&explain.plan, has_columns),
                LogicalPlan::Analyze(analyze) => check(&analyze.input, has_columns),
                _ => Ok(()),
            }
        }
        check(&self.plan, self.parsed.as_ref().is_some_and(|parsed| inserted::has_columns(&parsed.statement)))?;
        Ok(self)
    }

    /// The table of a connector to which the rows of the statement go, unless it is only explained.
    pub fn target(&self) -> Option<&WriteTo> {
        let is_explained = matches!(self.plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_));
        self.parsed.as_ref().and_then(|parsed| parsed.write_to.as_ref()).filter(|_| !is_explained)
    }

    /// Returns the text without the credentials in it, for errors that point at places in it, and for lists of jobs. `None`: it has none.
    pub fn without_credentials(&self, sql: &str) -> Option<(String, String)> {
        let parsed = self.parsed.as_ref().filter(|parsed| !parsed.credentials.is_empty())?;
        let credentials = || parsed.credentials.iter().map(String::as_str);
        Some((masked(sql, credentials()), redacted(sql, credentials())))
    }
}

impl Statements {
    /// Parses and plans, or returns the cached plan of the same text under the same versions.
    pub(super) async fn plan(
        &self,
        session: &Arc<Session>,
        state: &SessionState,
        sql: &str,
    ) -> Result<Planned, QueryError> {
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
        let zoned = instants::zoned(state, sql);
        let state = &*with_queries(&zoned, &parsed.statement).await.map_err(|error| explain(&error, sql))?;
        if let Some((catalog, schema)) = &parsed.listed {
            self.inner.catalog.require_listed(catalog, schema).await?;
        }
        let plan = match plan_parsed(state, &mut parsed).await {
            Ok(plan) => plan,
            Err(error) => {
                let sql = &masked(sql, parsed.credentials.iter().map(String::as_str));
                return Err(self.planning_error(session, state, sql, &parsed, error).await);
            }
        };
        self.inner.config.limits.check(&plan)?;
        let plan = apart::shown(plan)?;
        if parsed.is_query && parsed.names.is_empty() && !metadata::reads_changing_tables(&plan) {
            session.plans.lock().put(sql, versions, &plan);
        }
        let names = parsed.names.clone();
        Ok(Planned { plan, names, parsed: Some(parsed) })
    }

    /// Plans again with positions, to show where in the text the error is.
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
        let references = state.resolve_table_references(&parsed.statement).unwrap_or_default();
        for name in &references {
            // A view that cannot be planned has no columns, and so another error than its own.
            if let Ok(schema) = state.schema_for_ref(name.clone())
                && let Ok(Some(table)) = schema.table(name.table()).await
                && let Some(broken) = table.downcast_ref::<BrokenView>()
            {
                return broken.error();
            }
        }
        let here = session.resolve("x");
        let mut known = self.inner.catalog.names_beside(&here).await;
        known.extend(session.temporary().names());
        let catalog = &self.inner.catalog;
        for name in references.iter().map(|reference| session.resolve(reference.clone())) {
            let is_elsewhere = (&name.catalog, &name.schema) != (&here.catalog, &here.schema);
            if is_elsewhere && matches!(catalog.find(&name).await, Ok(None)) {
                known.extend(catalog.names_beside(&name).await);
            }
        }
        // A statement that makes a table or a view names that as well.
        let is_read = |name: &TableReference| parsed.makes.as_ref() != Some(name);
        explain_planning(&state, references.into_iter().filter(is_read), &error, sql, &known).await
    }

    /// Plans a job whose joins, aggregates and limited sorts spill. It replaces one that did not fit into memory.
    pub(super) async fn plan_spilling(
        &self,
        state: &SessionState,
        plan: &LogicalPlan,
        error: QueryError,
    ) -> Result<PlannedJob, QueryError> {
        tracing::info!(%error, "an operator did not fit into memory: the statement runs again in a way that spills");
        Ok(self.inner.runner.plan(&windlass_engine::spilling(state), plan, None).await?)
    }
}

/// Plans a statement, with columns of the same name apart where the planner needs that.
pub(in crate::statements) async fn plan_parsed(
    state: &SessionState,
    parsed: &mut Parsed,
) -> Result<LogicalPlan, DataFusionError> {
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
    // Only the planner knows which columns `*` stands for, and how it names an expression.
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
