//! Walks over the expressions of whole plans.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};

/// Applies `rewrite` to the expressions of `plan`, also in subqueries, for which `concerns` is true. Names and types stay.
pub(crate) fn rewrite_expressions(
    plan: LogicalPlan,
    concerns: &dyn Fn(&Expr) -> Result<bool>,
    rewrite: &dyn Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| in_node(node, concerns, rewrite)).data()
}

/// Does the same for one node. Its names stay: the order of a window is part of its name, which functions print in their own way.
pub(crate) fn in_node(
    node: LogicalPlan,
    concerns: &dyn Fn(&Expr) -> Result<bool>,
    rewrite: &dyn Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let mut any = false;
    node.apply_expressions(|expr| {
        any = concerns(expr)?;
        Ok(if any { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if !any {
        return Ok(Transformed::no(node));
    }
    let schema = readable(&node)?;
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        if !concerns(&expr)? {
            return Ok(Transformed::no(expr));
        }
        let name = names.save(&expr);
        let rewritten = rewrite(expr, &schema)?;
        Ok(match rewritten.transformed {
            true => rewritten.update_data(|expr| name.restore(expr)),
            false => rewritten,
        })
    })
}

/// Types of expressions in a walk from the leaves up, kept while they are needed. Computing each type anew takes a time that grows with the square of the
/// length of a sum.
pub(crate) struct KnownTypes<'a> {
    /// Types of the expressions walked so far that are not part of another one.
    known: Vec<Option<DataType>>,
    schema: &'a DFSchema,
}

impl<'a> KnownTypes<'a> {
    pub fn new(schema: &'a DFSchema) -> Self {
        Self { known: Vec::new(), schema }
    }

    /// Returns a function that gives the types of the parts of `expr`, in their order. [`KnownTypes::push`] adds the type of `expr` itself.
    pub fn of_parts(&mut self, expr: &Expr) -> Result<impl FnMut(&Expr) -> DataType + use<'a>> {
        let mut parts = 0;
        expr.apply_children(|_| {
            parts += 1;
            Ok(TreeNodeRecursion::Continue)
        })?;
        let mut of_parts = self.known.split_off(self.known.len().saturating_sub(parts)).into_iter();
        let schema = self.schema;
        Ok(move |part: &Expr| match of_parts.next().flatten() {
            Some(known) => known,
            // A parameter has no type yet.
            None => part.get_type(schema).unwrap_or(DataType::Null),
        })
    }

    pub fn push(&mut self, of_expr: Option<DataType>) {
        self.known.push(of_expr);
    }
}

/// The columns that expressions of `node` may use.
pub(crate) fn readable(node: &LogicalPlan) -> Result<DFSchema> {
    let mut schema = merge_schema(&node.inputs());
    match node {
        LogicalPlan::TableScan(scan) => {
            schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
        }
        // MERGE also uses columns of its target.
        LogicalPlan::Dml(dml) => {
            schema.merge(&DFSchema::try_from_qualified_schema(dml.table_name.clone(), &dml.target.schema())?);
        }
        _ => {}
    }
    Ok(schema)
}
