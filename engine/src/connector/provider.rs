//! A connector's table in the form with which DataFusion plans.

use super::{
    ColumnId, ConnectorTable, FragmentTable, PlannedSink, ScanExec, ScanRequest, SinkExec, SinkRequest, TableSpec,
};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Constraints, Result, Statistics, internal_err, plan_err, project_schema};
use datafusion::datasource::TableType;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use std::collections::HashMap;
use std::sync::Arc;

/// A connector's table in the catalog.
#[derive(Clone, Debug)]
pub struct ConnectedTable {
    spec: Arc<TableSpec>,
    table: Arc<dyn ConnectorTable>,
    constraints: Constraints,
    defaults: Arc<HashMap<String, Expr>>,
    definition: Option<String>,
    overwrites: bool,
    changes: bool,
}

impl ConnectedTable {
    pub fn new(spec: Arc<TableSpec>, table: Arc<dyn ConnectorTable>) -> Self {
        let (constraints, defaults) = Default::default();
        Self { spec, table, constraints, defaults, definition: None, overwrites: false, changes: false }
    }

    pub fn with_constraints(self, constraints: Constraints) -> Self {
        Self { constraints, ..self }
    }

    /// Default values by column.
    pub fn with_defaults(self, defaults: HashMap<String, Expr>) -> Self {
        Self { defaults: Arc::new(defaults), ..self }
    }

    /// The statement that created the table, without secrets.
    pub fn with_definition(self, definition: Option<String>) -> Self {
        Self { definition, ..self }
    }

    /// The same table, whose columns others may change at any time, as those of a catalog's tables.
    pub fn changing(self) -> Self {
        Self { changes: true, ..self }
    }

    /// Whether its columns may be others for the next statement.
    pub fn changes(&self) -> bool {
        self.changes
    }

    /// See [`ConnectorTable::computes`].
    pub(super) fn computes(&self) -> bool {
        self.table.computes()
    }

    /// Whether a scan returns only rows for which these filters are true.
    pub(super) fn takes(&self, filters: &[&Expr]) -> bool {
        let exact = |pushdown: Vec<_>| pushdown.iter().all(|of| *of == TableProviderFilterPushDown::Exact);
        self.supports_filters_pushdown(filters).is_ok_and(exact)
    }

    /// The table as a part of a fragment.
    pub(super) fn in_fragment(&self, columns: Vec<(ColumnId, usize)>, filters: Vec<Expr>) -> FragmentTable {
        let (spec, table, keys) = (Arc::clone(&self.spec), Arc::clone(&self.table), self.keys().cloned());
        FragmentTable { spec, table, keys, columns, filters }
    }

    /// Keys that others may drop at any time.
    fn keys(&self) -> Option<&Constraints> {
        Some(&self.constraints).filter(|keys| self.changes && keys.iter().next().is_some())
    }

    /// See [`ConnectorTable::has_defaults`].
    pub fn has_defaults(&self) -> bool {
        self.table.has_defaults()
    }

    /// The same table, with inserts that replace its rows.
    pub fn overwriting(&self) -> Self {
        Self { overwrites: true, ..self.clone() }
    }
}

#[async_trait]
impl TableProvider for ConnectedTable {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_table_definition(&self) -> Option<&str> {
        self.definition.as_deref()
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.defaults.get(column)
    }

    fn statistics(&self) -> Option<Statistics> {
        self.table.statistics()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let pushdown = self.table.pushdown(filters)?;
        match pushdown.len() == filters.len() {
            true => Ok(pushdown),
            false => internal_err!("{} speaks of {} filters of {}", self.spec.connector, pushdown.len(), filters.len()),
        }
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = self.table.schema();
        let schema = project_schema(&all, projection)?;
        let tasks = session.config().target_partitions().max(1);
        let request = ScanRequest {
            session,
            projection: projection.cloned().unwrap_or_else(|| (0..all.fields().len()).collect()),
            schema: Arc::clone(&schema),
            filters,
            limit,
            tasks,
            keys: self.keys(),
        };
        let scan = self.table.scan(request).await?;
        if scan.schema().fields() != schema.fields() {
            return internal_err!("a scan of {} has other columns than it was asked for", self.spec.connector);
        }
        Ok(Arc::new(ScanExec::new(Arc::clone(&self.spec), scan, tasks)))
    }

    async fn insert_into(
        &self,
        _: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if op == InsertOp::Replace {
            return plan_err!("tables stored as {} cannot be written to with REPLACE INTO", self.spec.connector);
        }
        let write = uuid::Uuid::new_v4().simple().to_string();
        let schema = input.schema();
        let overwrite = self.overwrites || op == InsertOp::Overwrite;
        let request = SinkRequest { write: write.clone(), schema: Arc::clone(&schema), overwrite };
        let sink = self.table.sink(request).await?;
        let write = PlannedSink { table: Arc::clone(&self.spec), sink, schema, write };
        Ok(Arc::new(SinkExec::new(input, write)))
    }
}
