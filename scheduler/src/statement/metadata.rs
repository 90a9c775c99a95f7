//! Queries over the catalog itself. information_schema lives on the primary: what reads nothing else runs here, and what joins it
//! with tables takes a copy of its rows along.

use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, TableScan};
use std::sync::Arc;

pub(super) enum Place {
    /// On the primary, in this process.
    Here(LogicalPlan),
    Cluster(LogicalPlan),
}

pub(super) async fn split(state: &SessionState, plan: LogicalPlan) -> Result<Place> {
    let mut of_catalog: Vec<(String, Arc<dyn TableProvider>)> = Vec::new();
    let mut others = false;
    let mut describes = false;
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) => match catalog_table(scan) {
                Some(table) => of_catalog.push((scan.table_name.to_string(), table)),
                None => others = true,
            },
            LogicalPlan::DescribeTable(_) => describes = true,
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if describes || (!of_catalog.is_empty() && !others) {
        return Ok(Place::Here(plan));
    }
    if of_catalog.is_empty() {
        return Ok(Place::Cluster(plan));
    }
    let mut copies: Vec<(String, Arc<dyn TableProvider>)> = Vec::new();
    for (name, table) in of_catalog {
        copies.push((name, copy(state, table).await?));
    }
    let replaced = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::TableScan(mut scan) if catalog_table(&scan).is_some() => {
            let name = scan.table_name.to_string();
            if let Some((_, copy)) = copies.iter().find(|(of, _)| *of == name) {
                scan.source = provider_as_source(Arc::clone(copy));
            }
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        }
        node => Ok(Transformed::no(node)),
    })?;
    Ok(Place::Cluster(replaced.data))
}

/// The provider, when it is one of information_schema.
fn catalog_table(scan: &TableScan) -> Option<Arc<dyn TableProvider>> {
    let provider = source_as_provider(&scan.source).ok()?;
    provider.downcast_ref::<StreamingTable>().is_some().then_some(provider)
}

async fn copy(state: &SessionState, table: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
    let schema = table.schema();
    let scan = LogicalPlanBuilder::scan("copied", provider_as_source(table), None)?.build()?;
    let plan = state.create_physical_plan(&scan).await?;
    let rows = datafusion::physical_plan::collect(plan, state.task_ctx()).await?;
    Ok(Arc::new(MemTable::try_new(schema, vec![rows])?))
}
