//! VALUES in FROM.
//!
//! In an INSERT, and in CREATE TABLE with columns, DataFusion takes the values of all VALUES in the statement for values of the table's columns: in
//! `INSERT INTO t (whole) SELECT x * 10 FROM (VALUES (1.6)) v(x)`, 1.6 would be rounded before it is multiplied. Here the values in FROM have types of their own.

use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::sql::sqlparser::ast::{Query, SetExpr, TableFactor};

#[derive(Debug)]
pub(crate) struct ValueLists;

impl RelationPlanner for ValueLists {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let (query, alias) = match relation {
            TableFactor::Derived { lateral: false, subquery, alias, sample: None } if is_list(&subquery) => {
                (subquery, alias)
            }
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let rows = match *query.body {
            SetExpr::Values(values) => values.rows,
            // A list has a body of this kind.
            _ => Vec::new(),
        };
        let nothing = DFSchema::empty();
        let rows = rows.into_iter().map(|row| {
            let row = row.content.into_iter().map(|value| context.sql_to_expr(value, &nothing));
            row.collect::<Result<Vec<_>>>()
        });
        let plan = LogicalPlanBuilder::values(rows.collect::<Result<Vec<_>>>()?)?.build()?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// Whether the query is VALUES and nothing else.
fn is_list(query: &Query) -> bool {
    let has_values = matches!(query.body.as_ref(), SetExpr::Values(values) if !values.value_keyword);
    has_values
        && query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty()
        && query.for_clause.is_none()
        && query.settings.is_none()
        && query.format_clause.is_none()
        && query.pipe_operators.is_empty()
}
