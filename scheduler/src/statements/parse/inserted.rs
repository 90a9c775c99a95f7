//! Rows that INSERT writes, and CREATE TABLE with columns.
//!
//! ```text
//!   INSERT INTO t VALUES (CAST(a AS b))           CAST(CAST(a AS b) AS b): a single cast may be the planner's own
//!   INSERT INTO t SELECT … IN (VALUES (1), (2))   … IN (SELECT * FROM (VALUES (1), (2)))
//! ```
//!
//! The planner takes all VALUES of such a statement for rows of the table, except those in FROM (`right::value_lists` of the engine).

use super::walk::{lists_in, taken};
use crate::errors::QueryError;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, CastKind, Expr, Query, SetExpr, TableFactor, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use std::ops::ControlFlow;

/// Rewrites `statement` in place.
pub(super) fn rewrite(statement: &mut Statement) -> Result<(), QueryError> {
    let query = match statement {
        Statement::Explain(explain) => return rewrite(&mut explain.statement),
        Statement::Statement(statement) => written(statement),
        _ => None,
    };
    match query.map(|query| query.visit(&mut Lists { depth: 0 })) {
        Some(ControlFlow::Break(error)) => Err(error),
        _ => Ok(()),
    }
}

/// Returns the query whose rows go into columns of known types.
fn written(statement: &mut ast::Statement) -> Option<&mut Query> {
    match statement {
        ast::Statement::Insert(insert) => insert.source.as_deref_mut(),
        ast::Statement::CreateTable(create) if !create.columns.is_empty() => create.query.as_deref_mut(),
        ast::Statement::Prepare { statement, .. } => written(statement),
        _ => None,
    }
}

/// Whether it is CREATE TABLE that names the types of its columns.
pub(in crate::statements) fn has_columns(statement: &Statement) -> bool {
    match statement {
        Statement::Explain(explain) => has_columns(&explain.statement),
        Statement::Statement(statement) => {
            matches!(statement.as_ref(), ast::Statement::CreateTable(create) if !create.columns.is_empty())
        }
        _ => false,
    }
}

struct Lists {
    /// How many queries are around the present place.
    depth: usize,
}

impl VisitorMut for Lists {
    type Break = QueryError;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<QueryError> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<QueryError> {
        self.depth -= 1;
        match query.body.as_mut() {
            SetExpr::Values(rows) if self.depth == 0 => {
                rows.rows.iter_mut().flat_map(|row| &mut row.content).for_each(mark_cast);
                ControlFlow::Continue(())
            }
            body => match in_from(body) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            },
        }
    }
}

/// Doubles a written cast.
fn mark_cast(value: &mut Expr) {
    let mut inner = &*value;
    while let Expr::Nested(nested) = inner {
        inner = nested;
    }
    if let Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, data_type, .. } = inner {
        let data_type = data_type.clone();
        let expr = Box::new(taken(value));
        *value = Expr::Cast { kind: CastKind::Cast, expr, data_type, array: false, format: None };
    }
}

/// Puts VALUES that are a query, or a part of a set operation, into FROM.
fn in_from(body: &mut SetExpr) -> Result<(), QueryError> {
    for list in lists_in(body) {
        let failed = || QueryError::Internal("VALUES as a subquery".to_string());
        let mut around = Parser::parse_sql(&GenericDialect {}, "SELECT * FROM (SELECT 1)").map_err(|_| failed())?;
        let Some(ast::Statement::Query(around)) = around.pop() else { return Err(failed()) };
        let values = std::mem::replace(list, *around.body);
        let SetExpr::Select(select) = list else { return Err(failed()) };
        if let Some(from) = select.from.first_mut()
            && let TableFactor::Derived { subquery, .. } = &mut from.relation
        {
            *subquery.body = values;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::parser::DFParser;

    #[test]
    fn only_the_rows_of_the_table_stay_values() {
        for (sql, expected) in [
            (
                "insert into t values (cast(1 as boolean), (2::int), 3)",
                "INSERT INTO t VALUES (CAST(CAST(1 AS BOOLEAN) AS BOOLEAN), CAST((2::INT) AS INT), 3)",
            ),
            ("insert into t values (try_cast(1 as int))", "INSERT INTO t VALUES (TRY_CAST(1 AS INT))"),
            (
                "insert into t values (1), (2 in (values (2)))",
                "INSERT INTO t VALUES (1), (2 IN (SELECT * FROM (VALUES (2))))",
            ),
            (
                "insert into t select 1 union all values (2)",
                "INSERT INTO t SELECT 1 UNION ALL SELECT * FROM (VALUES (2))",
            ),
            (
                "insert into t with v as (values (1)) select * from v",
                "INSERT INTO t WITH v AS (SELECT * FROM (VALUES (1))) SELECT * FROM v",
            ),
            (
                "explain create table t (x int) as select 1 where 1 in (values (2))",
                "EXPLAIN CREATE TABLE t (x INT) AS SELECT 1 WHERE 1 IN (SELECT * FROM (VALUES (2)))",
            ),
            (
                "create table t as select 1 where 1 in (values (2))",
                "CREATE TABLE t AS SELECT 1 WHERE 1 IN (VALUES (2))",
            ),
        ] {
            let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
            rewrite(&mut statement).unwrap();
            assert_eq!(statement.to_string(), expected, "{sql}");
        }
    }
}
