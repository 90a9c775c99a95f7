//! CREATE, DROP and ALTER: one transaction of the catalog, or a change of the session.

use super::Execution;
use super::parse::Parsed;
use super::run::StatementRun;
use crate::errors::{QueryError, explain};
use crate::statements::catalog::{
    Edit, OnExists, Record, SECRET, TableName, check_storable, connected_record, external_record, make_folder,
    parse_view, refuse_cycle, require_format, view_provider, written,
};
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::{Column, SchemaReference, TableReference};
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{
    CreateExternalTable, CreateMemoryTable, CreateView, DdlStatement, DropCatalogSchema, Expr, LogicalPlan, Projection,
};
use datafusion::sql::parser::Statement;
use std::collections::BTreeSet;
use std::sync::Arc;
use windlass_engine::Place;

impl StatementRun<'_> {
    pub(super) async fn ddl(self, parsed: Option<&Parsed>, ddl: DdlStatement) -> Result<Execution, QueryError> {
        let catalog = &self.statements.inner.catalog;
        match ddl {
            DdlStatement::CreateExternalTable(command) => self.create_external(&command).await?,
            DdlStatement::CreateMemoryTable(command) => {
                let temporary = command.temporary || parsed.is_some_and(|parsed| parsed.temporary);
                return self.create_table(parsed, command, temporary).await;
            }
            DdlStatement::CreateView(command) => {
                let parsed = parsed.ok_or_else(|| QueryError::Internal("a view without its text".to_string()))?;
                self.create_view(command, &parsed.statement).await?;
            }
            DdlStatement::CreateCatalogSchema(command) => {
                let (in_catalog, schema) = match command.schema_name.split_once('.') {
                    Some((in_catalog, schema)) => (in_catalog.to_string(), schema.to_string()),
                    None => (self.session.resolve("x").catalog, command.schema_name.clone()),
                };
                catalog.create_schema(self.effect(), &in_catalog, &schema, command.if_not_exists).await?;
            }
            DdlStatement::CreateCatalog(command) => {
                catalog.create_catalog(self.effect(), &command.catalog_name, command.if_not_exists).await?;
            }
            DdlStatement::DropTable(command) => self.drop(command.name, false, command.if_exists).await?,
            DdlStatement::DropView(command) => self.drop(command.name, true, command.if_exists).await?,
            DdlStatement::DropCatalogSchema(command) => self.drop_schema(command).await?,
            DdlStatement::CreateIndex(_) => {
                return Err(QueryError::Unsupported(
                    "indexes are not supported: sort or partition the files".to_string(),
                ));
            }
            DdlStatement::CreateFunction(_) | DdlStatement::DropFunction(_) => {
                return Err(QueryError::Unsupported("functions defined in SQL are not supported".to_string()));
            }
        }
        Ok(Execution::empty())
    }

    async fn create_external(self, command: &CreateExternalTable) -> Result<(), QueryError> {
        let catalog = &self.statements.inner.catalog;
        let exists = OnExists::of(command.if_not_exists, command.or_replace)?;
        let name = self.session.resolve(command.name.clone());
        // Whether the files are needed is decided before they are inspected.
        if !self.is_wanted(&name, exists, command.temporary)? {
            return Ok(());
        }
        let command = &with_secret(command.clone());
        let lent = catalog.lent(&command.options.clone().into_iter().collect())?;
        let connected = connected_record(catalog.connectors(), command, &lent, self.shown, catalog.ids(), None);
        if let Some((record, _)) = connected.await? {
            return match command.temporary {
                true => self.put_temporary(name, Record::Table(record)).await,
                false => catalog.create(self.effect(), &name, Record::Table(record), exists).await.map(|_| ()),
            };
        }
        require_format(self.state, &command.file_type)?;
        let locations: Vec<ListingTableUrl> =
            command.locations.iter().map(ListingTableUrl::parse).collect::<Result<_, _>>()?;
        locations.iter().try_for_each(require_local_path)?;
        let mut record = external_record(self.state, catalog.stores(), command, &lent, catalog.ids()).await?;
        record.definition = Some(self.shown.trim().trim_end_matches(';').trim_end().to_string());
        for location in locations.iter().filter(|location| location.get_glob().is_none()) {
            make_folder(catalog.stores(), &Place::from_url(location.as_str())?).await?;
        }
        if command.temporary {
            self.put_temporary(name, Record::Table(record)).await
        } else {
            catalog.create(self.effect(), &name, Record::Table(record), exists).await.map(|_| ())
        }
    }

    async fn create_table(
        self,
        parsed: Option<&Parsed>,
        command: CreateMemoryTable,
        temporary: bool,
    ) -> Result<Execution, QueryError> {
        let catalog = &self.statements.inner.catalog;
        let exists = OnExists::of(command.if_not_exists, command.or_replace)?;
        let name = self.session.resolve(command.name.clone());
        if !temporary && !is_empty(&command.input) && catalog.snapshot().foreign(&name.catalog).is_some() {
            return self.create_in_foreign(name, exists, command).await;
        }
        if !self.is_wanted(&name, exists, temporary)? {
            return Ok(Execution::empty());
        }
        let (input, schema) = self.rows_for_table(command.input)?;
        let command = CreateMemoryTable { input, ..command };
        check_storable(&schema)?;
        let schema = match is_empty(&command.input) {
            true => written(&schema),
            // The present rows have no NULL, but later ones may.
            false => with_nulls_but_in(&written(&schema), parsed.map_or(&[], |parsed| &parsed.not_null)),
        };
        let definition = Some(self.sql.trim().trim_end_matches(';').trim_end().to_string());
        let mut record = Record::managed(
            catalog.warehouse(),
            &name,
            schema,
            &command.constraints,
            &command.column_defaults,
            definition,
            catalog.ids(),
        )?;
        record.lengths = parsed.map(|parsed| parsed.lengths.clone()).unwrap_or_default();
        if is_empty(&command.input) {
            let record = Record::Table(record);
            match temporary {
                true => self.put_temporary(name, record).await?,
                false => catalog.create(self.effect(), &name, record, exists).await.map(|_| ())?,
            }
            return Ok(Execution::empty());
        }
        let written = self.create_table_as(name, record, exists, temporary, command.input).await?;
        Ok(Execution::created(written.rows, written.job))
    }

    /// Whether a table is to be created.
    ///
    /// # Errors
    /// There is one of its name, or its schema does not exist.
    pub(super) fn is_wanted(self, name: &TableName, exists: OnExists, temporary: bool) -> Result<bool, QueryError> {
        let snapshot = self.statements.inner.catalog.snapshot();
        snapshot.require_schema(&name.catalog, &name.schema)?;
        let taken = match temporary {
            true => self.session.temporary().get(&name.table).is_some(),
            false => snapshot.table(name).is_some(),
        };
        match exists {
            OnExists::Keep if taken => Ok(false),
            OnExists::Fail if taken => Err(already_exists(name)),
            _ => Ok(true),
        }
    }

    /// Returns the query of a statement that creates a table, without columns that have no type, and the columns of its rows.
    pub(super) fn rows_for_table(self, input: Arc<LogicalPlan>) -> Result<(Arc<LogicalPlan>, SchemaRef), QueryError> {
        let input = nulls_as_text(input)?;
        let schema = Arc::clone(self.state.optimize(&input).map_err(|e| explain(&e, self.sql))?.schema().inner());
        let mut seen = BTreeSet::new();
        match schema.fields().iter().find(|field| !seen.insert(field.name())) {
            Some(twice) => {
                Err(QueryError::Invalid(format!("column '{}' appears twice: name it with AS", twice.name())))
            }
            None => Ok((input, schema)),
        }
    }

    async fn create_view(self, command: CreateView, statement: &Statement) -> Result<(), QueryError> {
        let catalog = &self.statements.inner.catalog;
        let exists = OnExists::of(false, command.or_replace)?;
        let name = self.session.resolve(command.name.clone());
        catalog.snapshot().require_schema(&name.catalog, &name.schema)?;
        let definition = self.sql.trim().trim_end_matches(';').trim_end();
        let view = parse_view(self.state, definition, statement, catalog.ids())?;
        if command.temporary {
            if exists == OnExists::Fail && self.session.temporary().get(&name.table).is_some() {
                return Err(already_exists(&name));
            }
            refuse_cycle(&name, &view, |name| self.session.temporary().find(name))?;
            return self.put_temporary(name, Record::View(view)).await;
        }
        if let Some(temporary) =
            view.references.iter().find(|reference| self.session.temporary().find(reference).is_some())
        {
            return Err(QueryError::Invalid(format!(
                "view '{}' reads the temporary {} '{}', which other sessions do not see: make it a TEMPORARY VIEW",
                name.table,
                self.session.temporary().find(temporary).map_or("table", |held| held.record.kind()),
                temporary.table
            )));
        }
        // A view that cannot be planned for everyone is refused at once.
        view_provider(&catalog.view_planner(None)?, &view, catalog.limits()).await?;
        catalog.create(self.effect(), &name, Record::View(view), exists).await.map(|_| ())
    }

    async fn drop(self, reference: TableReference, view: bool, if_exists: bool) -> Result<(), QueryError> {
        let name = self.session.resolve(reference);
        let is_view = |record: &Record| matches!(record, Record::View(_));
        let _changing = self.session.temporary().changing().await;
        if let Some(held) = self.session.temporary().find(&name)
            && is_view(&held.record) == view
        {
            self.session.temporary().remove(&name.table);
            let edits = self.statements.inner.catalog.discard_temporary(&held.record);
            return self.statements.inner.catalog.change(self.effect(), |_| Ok(edits)).await.map(|_| ());
        }
        self.statements.inner.catalog.drop_table(self.effect(), &name, view, if_exists).await.map(|_| ())
    }

    async fn drop_schema(self, command: DropCatalogSchema) -> Result<(), QueryError> {
        let (in_catalog, schema) = match &command.name {
            SchemaReference::Bare { schema } => (self.session.resolve("x").catalog, schema.to_string()),
            SchemaReference::Full { schema, catalog } => (catalog.to_string(), schema.to_string()),
        };
        self.statements
            .inner
            .catalog
            .drop_schema(self.effect(), &in_catalog, &schema, command.if_exists, command.cascade)
            .await
    }

    pub(super) async fn rename(self, (from, to): (TableReference, TableReference)) -> Result<Execution, QueryError> {
        let from = self.session.resolve(from);
        // An unqualified new name stays in the table's schema.
        let to: TableName = to.resolve(&from.catalog, &from.schema).into();
        let _changing = self.session.temporary().changing().await;
        match self.session.temporary().find(&from) {
            Some(held) => {
                if self.session.temporary().get(&to.table).is_some() {
                    return Err(already_exists(&to));
                }
                if let Record::View(view) = &held.record {
                    refuse_cycle(&to, view, |name| self.session.temporary().find(name))?;
                }
                self.session.temporary().remove(&from.table);
                self.session.temporary().put(to, held.record.clone());
            }
            None => self.statements.inner.catalog.rename_table(self.effect(), &from, &to).await?,
        }
        Ok(Execution::empty())
    }

    /// Adds a table without rows, or a view, to the session. Replaces and discards the one with the same name.
    async fn put_temporary(self, name: TableName, record: Record) -> Result<(), QueryError> {
        let catalog = &self.statements.inner.catalog;
        let _changing = self.session.temporary().changing().await;
        let mut edits: Vec<Edit> = catalog.note_temporary(&record);
        if let Some(replaced) = self.session.temporary().put(name, record) {
            edits.extend(catalog.discard_temporary(&replaced.record));
        }
        catalog.change(self.effect(), |_| Ok(edits)).await.map(|_| ())
    }
}

/// Returns the command with the name of its secret where it is looked for. The planner treats a name without a dot as an option of the
/// format.
pub(super) fn with_secret(mut command: CreateExternalTable) -> CreateExternalTable {
    if let Some(secret) = command.options.remove(&format!("format.{SECRET}")) {
        command.options.insert(SECRET.to_string(), secret);
    }
    command
}

/// Whether the input is that of a table that is not created AS a query.
fn is_empty(input: &LogicalPlan) -> bool {
    matches!(input, LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row)
}

fn with_nulls_but_in(schema: &SchemaRef, not_null: &[String]) -> SchemaRef {
    let kept = |field: &FieldRef| Arc::new(field.as_ref().clone().with_nullable(!not_null.contains(field.name())));
    let fields: Vec<FieldRef> = schema.fields().iter().map(kept).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

pub(super) fn already_exists(name: &TableName) -> QueryError {
    QueryError::AlreadyExists(format!("table '{}' already exists", name.table))
}

/// Refuses a local path without a file, which is most likely a mistake. DataFusion's message about it speaks of schemas.
fn require_local_path(location: &ListingTableUrl) -> Result<(), QueryError> {
    if location.is_collection() || location.get_glob().is_some() {
        return Ok(());
    }
    match Place::from_url(location.as_str())?.local_path() {
        Some(path) if !path.exists() => Err(QueryError::NotFound(format!(
            "there is no file or folder at {} on the primary; write a trailing / for a folder that is yet to be filled",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Makes columns that are only NULL columns of text, as in PostgreSQL. No type could be written into them later.
fn nulls_as_text(input: Arc<LogicalPlan>) -> Result<Arc<LogicalPlan>, QueryError> {
    if !input.schema().fields().iter().any(|field| field.data_type().is_null()) {
        return Ok(input);
    }
    let columns = input.schema().iter().map(|(relation, field)| {
        let column = Expr::Column(Column::new(relation.cloned(), field.name()));
        match field.data_type().is_null() {
            true => Expr::Cast(Cast::new(Box::new(column), DataType::Utf8View)).alias(field.name()),
            false => column,
        }
    });
    let columns = columns.collect();
    Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, input).map_err(QueryError::from)?)))
}
