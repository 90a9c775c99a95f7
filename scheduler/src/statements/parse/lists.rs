//! VALUES with subqueries, which the planner evaluates before the subqueries have run.
//!
//! ```text
//!   VALUES (1, (SELECT max(a) FROM t)), (2, 3)
//!   SELECT 1 AS column1, (SELECT max(a) FROM t) AS column2 UNION ALL SELECT 2 AS column1, 3 AS column2
//! ```

use super::walk::{everywhere, lists_in};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Query, SelectItem, SetExpr, SetOperator, SetQuantifier, Visit, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use std::convert::Infallible;
use std::ops::ControlFlow;

/// Rewrites `statement` in place.
pub(super) fn rewrite(statement: &mut Statement) {
    let _never = everywhere(statement, &mut Lists);
}

struct Lists;

impl VisitorMut for Lists {
    type Break = Infallible;

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Infallible> {
        for list in lists_in(query.body.as_mut()) {
            let SetExpr::Values(values) = list else { continue };
            if has_subquery(&*values) {
                let rows = std::mem::take(&mut values.rows).into_iter().map(|row| row.content);
                if let Some(selects) = united(rows.filter_map(selected).collect()) {
                    *list = selects;
                }
            }
        }
        ControlFlow::Continue(())
    }
}

fn has_subquery(values: &impl Visit) -> bool {
    struct Found;
    impl Visitor for Found {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    values.visit(&mut Found).is_break()
}

/// Returns a row as SELECT.
fn selected(row: Vec<Expr>) -> Option<SetExpr> {
    let mut query = Parser::new(&GenericDialect {}).try_with_sql("SELECT 1").ok()?.parse_query().ok()?;
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let named = |(at, expr)| SelectItem::ExprWithAlias { expr, alias: Ident::new(format!("column{}", at + 1)) };
    select.projection = row.into_iter().enumerate().map(named).collect();
    Some(*query.body)
}

/// Returns all rows of several queries, as a balanced tree.
fn united(mut queries: Vec<SetExpr>) -> Option<SetExpr> {
    if queries.len() <= 1 {
        return queries.pop();
    }
    let right = queries.split_off(queries.len() / 2);
    Some(SetExpr::SetOperation {
        op: SetOperator::Union,
        set_quantifier: SetQuantifier::All,
        left: Box::new(united(queries)?),
        right: Box::new(united(right)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::parser::DFParser;

    #[test]
    fn rows_with_subqueries_are_selected() {
        for (sql, expected) in [
            ("VALUES (1), (2)", "VALUES (1), (2)"),
            (
                "INSERT INTO t VALUES (1, (SELECT 2)), (3, 4)",
                "INSERT INTO t SELECT 1 AS column1, (SELECT 2) AS column2 UNION ALL SELECT 3 AS column1, 4 AS column2",
            ),
            (
                "SELECT * FROM (VALUES (EXISTS (SELECT 1))) AS v (x)",
                "SELECT * FROM (SELECT EXISTS (SELECT 1) AS column1) AS v (x)",
            ),
        ] {
            let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
            rewrite(&mut statement);
            assert_eq!(statement.to_string(), expected, "{sql}");
        }
    }
}
