//! Plans the text of a statement to its logical plan.

use super::parse::target::WriteTo;
use super::parse::{Parsed, apart};
use super::{ParameterNames, Statements, instants, parse};
use crate::errors::{QueryError, explain_planning};
use crate::statements::catalog::BrokenView;
use crate::statements::sessions::{Session, Versions};
use datafusion::common::{DataFusionError, TableReference};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use std::sync::Arc;
use windlass_engine::PlannedJob;
use windlass_engine::connector::{masked, redacted};

/// A planned statement.
pub(super) struct Planned {
    pub plan: LogicalPlan,
    pub names: ParameterNames,
    /// `None` if the plan was cached, which only happens for queries.
    pub parsed: Option<Parsed>,
}

impl Planned {
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
        let state = &*instants::zoned(state, sql);
        let plan = match self.plan_parsed(state, &mut parsed).await {
            Ok(plan) => plan,
            Err(error) => {
                let sql = &masked(sql, parsed.credentials.iter().map(String::as_str));
                return Err(self.planning_error(session, state, sql, &parsed, error).await);
            }
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
        let names = &state.config_options().catalog;
        let mut known = self.inner.catalog.snapshot().names_in(&names.default_catalog, &names.default_schema);
        known.extend(session.temporary().names());
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
