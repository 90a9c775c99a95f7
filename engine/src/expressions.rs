//! Walks over the expressions of whole plans.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};

/// `plan` with those of its expressions, also of subqueries, that `concerns` tells, as `rewrite` makes them. Names and types stay.
pub(crate) fn rewrite_expressions(
    plan: LogicalPlan,
    concerns: &dyn Fn(&Expr) -> Result<bool>,
    rewrite: &dyn Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| in_node(node, concerns, rewrite)).data()
}

/// The same for one node, whose names stay: the order of a window is part of its name, and is printed as functions call themselves.
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

/// The types of expressions that are walked from their leaves up, kept while they are known: asking each for its own takes a time that grows
/// with the square of a long sum.
pub(crate) struct KnownTypes<'a> {
    /// Of what the walk has come through, and not of what is part of that.
    known: Vec<Option<DataType>>,
    schema: &'a DFSchema,
}

impl<'a> KnownTypes<'a> {
    pub fn new(schema: &'a DFSchema) -> Self {
        Self { known: Vec::new(), schema }
    }

    /// What gives the types of the parts of `expr`, asked for in their order. [`KnownTypes::push`] is for that of `expr` itself.
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

/// The columns that expressions of `node` may name.
pub(crate) fn readable(node: &LogicalPlan) -> Result<DFSchema> {
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
