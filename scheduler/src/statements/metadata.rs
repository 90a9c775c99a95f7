//! Queries over the catalog itself. information_schema is on the primary, so a query that reads nothing else needs no executor.

use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{LogicalPlan, TableScan};

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

fn is_of_catalog(scan: &TableScan) -> bool {
    source_as_provider(&scan.source).is_ok_and(|provider| provider.downcast_ref::<StreamingTable>().is_some())
}
