//! Queries over the catalog itself. information_schema is on the primary, so a query that reads nothing else needs no executor.

use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{LogicalPlan, TableScan};
use windlass_engine::connector::ConnectedTable;

/// Whether the plan only reads tables of information_schema or describes a table.
pub(super) fn reads_only_the_catalog(plan: &LogicalPlan) -> bool {
    let (mut of_catalog, mut others) = (false, false);
    let visited = plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) if is_of_catalog(scan) => of_catalog = true,
            LogicalPlan::TableScan(_) => others = true,
            LogicalPlan::DescribeTable(_) => of_catalog = true,
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.is_ok() && of_catalog && !others
}

/// Whether the plan reads a table whose columns may be others for the next statement.
pub(super) fn reads_changing_tables(plan: &LogicalPlan) -> bool {
    let mut changing = false;
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && provider.downcast_ref::<ConnectedTable>().is_some_and(ConnectedTable::changes)
        {
            changing = true;
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.is_err() || changing
}

/// Whether the plan lists tables (`Some(false)`), or their columns too.
pub(super) fn lists_tables(plan: &LogicalPlan) -> Option<bool> {
    let mut lists: Option<bool> = None;
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && is_of_catalog(scan)
        {
            let columns = ["columns", "views"].contains(&scan.table_name.table());
            lists = Some(columns || lists.unwrap_or(false));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.ok().and(lists)
}

fn is_of_catalog(scan: &TableScan) -> bool {
    source_as_provider(&scan.source).is_ok_and(|provider| provider.downcast_ref::<StreamingTable>().is_some())
}
