//! Statements that write the rows of their query into a table of a connector: CREATE EXTERNAL TABLE … AS, COPY … TO and COPY … INTO. The
//! write creates the table when its rows are published, unless it is there.

use super::Execution;
use super::catalog::{OnExists, TableName, at_place, connected_record};
use super::ddl::{already_exists, with_secret};
use super::explain::analyzed;
use super::kept::as_created;
use super::parse::target::{PlaceOfTable, WriteTo};
use super::run::StatementRun;
use super::write::{Destination, NewTable};
use crate::errors::{QueryError, explain};
use datafusion::catalog::TableProvider;
use datafusion::catalog::default_table_source::provider_as_source;
use datafusion::common::TableReference;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{
    Analyze, CreateExternalTable, CreateMemoryTable, DdlStatement, DmlStatement, Explain, LogicalPlan, WriteOp,
};
use datafusion::sql::parser::Statement;
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_engine::connector::{ConnectedTable, Target};

impl StatementRun<'_> {
    /// Writes the rows of `plan` to the target, or explains that.
    pub(super) async fn write_to(self, target: WriteTo, plan: LogicalPlan) -> Result<Execution, QueryError> {
        match plan {
            LogicalPlan::Explain(explain) => match self.planned_target(target, Arc::clone(&explain.plan)).await? {
                Some((plan, _)) => self.explain_planned(Explain { plan: Arc::new(plan), ..explain }).await,
                None => Ok(Execution::empty()),
            },
            LogicalPlan::Analyze(Analyze { input, .. }) => match self.planned_target(target, input).await? {
                Some((plan, destination)) => analyzed(&self.write(plan, destination).await?.stages),
                None => Ok(Execution::empty()),
            },
            plan => {
                let is_new = matches!(target, WriteTo::New(_));
                let Some((plan, destination)) = self.planned_target(target, Arc::new(plan)).await? else {
                    return Ok(Execution::empty());
                };
                let written = self.write(plan, destination).await?;
                Ok(match is_new {
                    true => Execution::created(written.rows, written.job),
                    false => Execution::counts(written.rows, written.rejected, Some(written.job)),
                })
            }
        }
    }

    /// Returns the plan of the write. `None`: the table is there already, and that is fine.
    async fn planned_target(
        self,
        target: WriteTo,
        input: Arc<LogicalPlan>,
    ) -> Result<Option<(LogicalPlan, Destination)>, QueryError> {
        match target {
            WriteTo::New(create) => {
                let statement = Statement::CreateExternalTable(*create);
                match self.state.statement_to_plan(statement).await.map_err(|e| explain(&e, self.sql))? {
                    LogicalPlan::Ddl(DdlStatement::CreateExternalTable(command)) => {
                        self.new_table(with_secret(*command), input).await
                    }
                    other => Err(QueryError::Internal(format!("CREATE EXTERNAL TABLE is planned as {other}"))),
                }
            }
            WriteTo::Place(place) => Ok(Some(self.table_at(place, input, Target::Any).await?)),
            WriteTo::Table { name, options } => {
                let place = self.place_of(name, options).await?;
                Ok(Some(self.table_at(place, input, Target::Any).await?))
            }
        }
    }

    async fn new_table(
        self,
        command: CreateExternalTable,
        input: Arc<LogicalPlan>,
    ) -> Result<Option<(LogicalPlan, Destination)>, QueryError> {
        let catalog = &self.statements.inner.catalog;
        let exists = OnExists::of(command.if_not_exists, command.or_replace)?;
        let name = self.session.resolve(command.name.clone());
        if !self.is_wanted(&name, exists, command.temporary)? {
            return Ok(None);
        }
        let (input, rows) = self.rows_for_table(input)?;
        let lent = catalog.lent(&command.options.clone().into_iter().collect())?;
        let record = connected_record(catalog.connectors(), &command, &lent, self.shown, catalog.ids(), Some(rows));
        let Some((record, table)) = record.await? else {
            return Err(QueryError::Internal(format!("{} is no connector", command.file_type)));
        };
        let plan = insert(name.reference(), table, &name.table, input)?;
        let temporary = command.temporary.then(|| Arc::clone(self.session.temporary()));
        Ok(Some((plan, Destination::Connected(Some(NewTable { name, record, exists, temporary })))))
    }

    /// Runs CREATE TABLE AS in a catalog of another system.
    pub(super) async fn create_in_foreign(
        self,
        name: TableName,
        exists: OnExists,
        command: CreateMemoryTable,
    ) -> Result<Execution, QueryError> {
        let catalog = &self.statements.inner.catalog;
        let what = match exists {
            _ if !command.constraints.is_empty() => Some("a key in CREATE TABLE AS"),
            _ if !command.column_defaults.is_empty() => Some("DEFAULT in CREATE TABLE AS"),
            OnExists::Replace => Some("CREATE OR REPLACE TABLE"),
            OnExists::Keep | OnExists::Fail => None,
        };
        if let Some(what) = what {
            catalog.snapshot().refuse_foreign(&name.catalog, what)?;
        }
        match (catalog.find(&name).await?, exists) {
            (Some(_), OnExists::Keep) => return Ok(Execution::empty()),
            (Some(_), _) => return Err(already_exists(&name)),
            (None, _) => {}
        }
        let place = catalog.place_of(&name, None).await?;
        let (plan, destination) = self.table_at(place, command.input, Target::New).await?;
        let written = self.write(plan, destination).await?;
        Ok(Execution::created(written.rows, written.job))
    }

    /// Returns the place of a table that COPY … INTO names. `options`: of the statement.
    async fn place_of(
        self,
        name: TableReference,
        options: BTreeMap<String, String>,
    ) -> Result<PlaceOfTable, QueryError> {
        let name = self.session.resolve(name);
        let in_session = self.session.temporary().find(&name);
        let mut place = self.statements.inner.catalog.place_of(&name, in_session).await?;
        for (key, value) in options {
            if place.options.contains_key(&key) {
                return Err(QueryError::Invalid(format!(
                    "'{key}' is an option of the table '{}' itself: leave it out",
                    name.table
                )));
            }
            place.options.insert(key, value);
        }
        Ok(place)
    }

    async fn table_at(
        self,
        place: PlaceOfTable,
        input: Arc<LogicalPlan>,
        target: Target,
    ) -> Result<(LogicalPlan, Destination), QueryError> {
        let catalog = &self.statements.inner.catalog;
        let (input, rows) = self.rows_for_table(input)?;
        let lent = catalog.lent(&place.options)?;
        let table = at_place(catalog.connectors(), &place, lent, catalog.ids(), rows, target).await?;
        let name = place.options.get("table").cloned().unwrap_or_else(|| place.connector.to_lowercase());
        Ok((insert(TableReference::bare(name.as_str()), table, &name, input)?, Destination::Connected(None)))
    }
}

/// Returns the plan that writes the rows of `input` into `table`.
fn insert(
    reference: TableReference,
    table: ConnectedTable,
    name: &str,
    input: Arc<LogicalPlan>,
) -> Result<LogicalPlan, QueryError> {
    let input = as_created(&table.schema(), name, input)?;
    let target = provider_as_source(Arc::new(table));
    Ok(LogicalPlan::Dml(DmlStatement::new(reference, target, WriteOp::Insert(InsertOp::Append), input)))
}
