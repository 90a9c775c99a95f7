//! Statements that change the session: SET, RESET, PREPARE, DEALLOCATE; and EXECUTE, which runs a prepared statement.

use super::parse::inserted;
use super::parse::{Parsed, apart};
use super::planning::Planned;
use super::run::StatementRun;
use super::{Execution, ParameterNames, instants, params};
use crate::errors::{QueryError, explain_planning, of_option};
use crate::statements::catalog::with_queries;
use crate::statements::sessions::{option_value, refuse_runtime_option};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{Execute, LogicalPlan, Prepare, Statement as PlanStatement};
use std::sync::Arc;

impl StatementRun<'_> {
    pub(super) async fn session_statement(
        self,
        parsed: Option<&Parsed>,
        statement: PlanStatement,
    ) -> Result<Execution, QueryError> {
        match statement {
            PlanStatement::SetVariable(mut set) => {
                refuse_runtime_option(&set.variable)?;
                set.value = option_value(&set.variable, &set.value)?;
                if let Err(error) =
                    self.session.context().execute_logical_plan(plan_of(PlanStatement::SetVariable(set.clone()))).await
                {
                    return Err(of_option(self.state, &set.variable, Some(&set.value), &error));
                }
                self.session.options_changed();
                Ok(Execution::empty())
            }
            PlanStatement::ResetVariable(reset) => {
                refuse_runtime_option(&reset.variable)?;
                // DataFusion resets only its own options.
                if let Some(default) = windlass_engine::config::default_of(&reset.variable) {
                    self.session.set_option(&reset.variable, &default)?;
                    return Ok(Execution::empty());
                }
                let plan = plan_of(PlanStatement::ResetVariable(reset.clone()));
                if let Err(error) = self.session.context().execute_logical_plan(plan).await {
                    return Err(of_option(self.state, &reset.variable, None, &error));
                }
                self.session.options_changed();
                Ok(Execution::empty())
            }
            PlanStatement::Prepare(prepare) => {
                let parsed = parsed.ok_or_else(|| QueryError::Internal("a PREPARE without its text".to_string()))?;
                if params::are_declared(&parsed.statement) {
                    check_parameters(&prepare)?;
                }
                // The text is kept and planned at each EXECUTE, because tables change in between.
                self.session.store_prepared(&prepare.name, parsed.statement.clone())?;
                Ok(Execution::empty())
            }
            PlanStatement::Execute(execute) => self.execute_prepared(execute).await,
            PlanStatement::Deallocate(deallocate) => {
                self.session.remove_prepared(&deallocate.name)?;
                Ok(Execution::empty())
            }
            PlanStatement::TransactionStart(_) | PlanStatement::TransactionEnd(_) => Err(no_transactions()),
        }
    }

    async fn execute_prepared(self, execute: Execute) -> Result<Execution, QueryError> {
        let statement = self.session.prepared(&execute.name)?;
        let declared = params::are_declared(&statement);
        let references = self.state.resolve_table_references(&statement).unwrap_or_default();
        let bind = async {
            let zoned = instants::zoned(self.state, &statement.to_string());
            let plan = with_queries(&zoned, &statement).await?.statement_to_plan(statement.clone()).await?;
            let LogicalPlan::Statement(PlanStatement::Prepare(Prepare { fields, input, .. })) = plan else {
                return Ok(Err(QueryError::Internal(format!("'{}' is not a prepared statement", execute.name))));
            };
            params::bind_execute(self.state, Arc::unwrap_or_clone(input), &fields, declared, execute.parameters).map(Ok)
        };
        let bound: Result<Result<LogicalPlan, QueryError>, DataFusionError> = bind.await;
        let plan = match bound {
            Ok(plan) => plan?,
            Err(error) => {
                // Positions are those of the text that was prepared.
                return Err(explain_planning(self.state, references, &error, "", &[]).await);
            }
        };
        self.statements.inner.config.limits.check(&plan)?;
        let plan = apart::shown(plan)?;
        let planned = Planned { plan, names: ParameterNames::default(), parsed: None }.with_assignable_values()?;
        let inserts = inserted(self.state, &statement);
        Box::pin(StatementRun { inserts: &inserts, ..self }.execute(planned)).await
    }
}

fn plan_of(statement: PlanStatement) -> LogicalPlan {
    LogicalPlan::Statement(statement)
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
