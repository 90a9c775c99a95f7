//! Walks over the expressions of whole plans.

use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan};

/// `plan` with each of its expressions, also those of subqueries, as `rewrite` makes it. Names and types stay.
pub(super) fn rewrite_expressions(
    plan: LogicalPlan,
    rewrite: &dyn Fn(Expr, &DFSchema) -> Result<Expr>,
) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        let schema = readable(&node)?;
        node.map_expressions(|expr| rewrite(expr, &schema).map(Transformed::yes))
    })
    .data()
}

/// The columns that expressions of `node` may name.
pub(super) fn readable(node: &LogicalPlan) -> Result<DFSchema> {
    let mut schema = merge_schema(&node.inputs());
    match node {
        LogicalPlan::TableScan(scan) => {
            schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
        }
        // MERGE names columns of its target too.
        LogicalPlan::Dml(dml) => {
            schema.merge(&DFSchema::try_from_qualified_schema(dml.table_name.clone(), &dml.target.schema())?);
        }
        _ => {}
    }
    Ok(schema)
}
