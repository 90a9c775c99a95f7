//! The session in which one plan is made.

use async_trait::async_trait;
use datafusion::catalog::{CatalogProviderList, Session};
use datafusion::common::config::TableOptions;
use datafusion::common::{DFSchema, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::registry::ExtensionTypeRegistryRef;
use datafusion::logical_expr::{AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, WindowUDF};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::operator_statistics::StatisticsRegistry;
use datafusion::prelude::SessionConfig;
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) type Rules = Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>;

/// A session with some other options, rules or caches. Copying its state would copy the names of all functions.
pub struct Planning<'a> {
    session: &'a dyn Session,
    config: Option<SessionConfig>,
    rules: Option<Rules>,
    runtime: Option<Arc<RuntimeEnv>>,
    table_options: Option<TableOptions>,
}

impl<'a> Planning<'a> {
    pub fn of(session: &'a dyn Session) -> Self {
        Self { session, config: None, rules: None, runtime: None, table_options: None }
    }

    pub(crate) fn with_config(self, change: impl FnOnce(&mut SessionConfig)) -> Self {
        let mut config = self.config.unwrap_or_else(|| self.session.config().clone());
        change(&mut config);
        Self { config: Some(config), ..self }
    }

    pub(crate) fn with_rules(self, rules: Rules) -> Self {
        Self { rules: Some(rules), ..self }
    }

    pub fn with_runtime(self, runtime: Arc<RuntimeEnv>) -> Self {
        Self { runtime: Some(runtime), ..self }
    }
}

#[async_trait]
impl Session for Planning<'_> {
    fn session_id(&self) -> &str {
        self.session.session_id()
    }

    fn config(&self) -> &SessionConfig {
        self.config.as_ref().unwrap_or_else(|| self.session.config())
    }

    fn catalog_list(&self) -> Arc<dyn CatalogProviderList> {
        self.session.catalog_list()
    }

    fn query_planner(&self) -> Arc<dyn QueryPlanner + Send + Sync> {
        self.session.query_planner()
    }

    fn optimize(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        self.session.optimize(plan)
    }

    fn physical_optimizers(&self) -> &[Arc<dyn PhysicalOptimizerRule + Send + Sync>] {
        self.rules.as_deref().unwrap_or_else(|| self.session.physical_optimizers())
    }

    fn statistics_registry(&self) -> Option<&StatisticsRegistry> {
        self.session.statistics_registry()
    }

    async fn create_physical_plan(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        let optimized = self.optimize(plan)?;
        self.query_planner().create_physical_plan(&optimized, self).await
    }

    fn create_physical_expr(&self, expr: Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        self.session.create_physical_expr(expr, schema)
    }

    fn scalar_functions(&self) -> &HashMap<String, Arc<ScalarUDF>> {
        self.session.scalar_functions()
    }

    fn higher_order_functions(&self) -> &HashMap<String, Arc<HigherOrderUDF>> {
        self.session.higher_order_functions()
    }

    fn aggregate_functions(&self) -> &HashMap<String, Arc<AggregateUDF>> {
        self.session.aggregate_functions()
    }

    fn window_functions(&self) -> &HashMap<String, Arc<WindowUDF>> {
        self.session.window_functions()
    }

    fn extension_type_registry(&self) -> &ExtensionTypeRegistryRef {
        self.session.extension_type_registry()
    }

    fn runtime_env(&self) -> &Arc<RuntimeEnv> {
        self.runtime.as_ref().unwrap_or_else(|| self.session.runtime_env())
    }

    fn execution_props(&self) -> &ExecutionProps {
        self.session.execution_props()
    }

    fn as_any(&self) -> &dyn Any {
        self.session.as_any()
    }

    fn table_options(&self) -> &TableOptions {
        self.table_options.as_ref().unwrap_or_else(|| self.session.table_options())
    }

    fn table_options_mut(&mut self) -> &mut TableOptions {
        self.table_options.get_or_insert_with(|| self.session.table_options().clone())
    }

    fn task_ctx(&self) -> Arc<TaskContext> {
        let session: &dyn Session = self;
        Arc::new(TaskContext::from(session))
    }
}
