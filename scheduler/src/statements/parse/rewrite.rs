//! Rewrites forms that DataFusion's planner lacks into forms with the same meaning.
//!
//! - `FETCH FIRST n ROWS ONLY` is `LIMIT n`, and so is `SELECT TOP n`.
//! - `SEMI JOIN` is `LEFT SEMI JOIN`, as in Spark, and `ANTI JOIN` likewise.
//! - `current_schema` is a function, without parentheses too.
//! - Duplicate names become unique, and ORDER BY refers by position to a result column that it repeats: see [`super::apart`].

use super::apart::{self, Alike};
use super::walk::everywhere;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, Fetch, Function, FunctionArgumentList, FunctionArguments, JoinOperator, LimitClause, ObjectName, Query,
    Select, SetExpr, TopQuantity, Value, VisitorMut,
};
use std::ops::ControlFlow;

pub(super) fn rewrite(statement: &mut Statement) {
    // No visit breaks off.
    let _: Option<()> = everywhere(statement, &mut Forms);
}

struct Forms;

impl VisitorMut for Forms {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        fetch_as_limit(query);
        top_as_limit(query);
        apart::by_place(query);
        apart::casts(query);
        apart::columns(&mut query.body, Alike::Text);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        named_value(expr);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
            let of = std::mem::replace(&mut join.join_operator, JoinOperator::CrossApply);
            join.join_operator = match of {
                JoinOperator::Semi(on) => JoinOperator::LeftSemi(on),
                JoinOperator::Anti(on) => JoinOperator::LeftAnti(on),
                of => of,
            };
        }
        ControlFlow::Continue(())
    }
}

/// The reserved word of the standard for a value that the parser takes for a column.
fn named_value(expr: &mut Expr) {
    let Expr::Identifier(name) = expr else { return };
    if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("current_schema") {
        *expr = Expr::Function(Function {
            name: ObjectName::from(vec![name.clone()]),
            uses_odbc_syntax: false,
            parameters: FunctionArguments::None,
            args: FunctionArguments::List(FunctionArgumentList {
                duplicate_treatment: None,
                args: Vec::new(),
                clauses: Vec::new(),
            }),
            filter: None,
            null_treatment: None,
            over: None,
            within_group: Vec::new(),
        });
    }
}

fn top_as_limit(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    if query.limit_clause.is_some() {
        return;
    }
    let Some(top) = select.top.take_if(|top| !top.with_ties && !top.percent && top.quantity.is_some()) else { return };
    let limit = top.quantity.map(|quantity| match quantity {
        TopQuantity::Expr(rows) => rows,
        TopQuantity::Constant(rows) => Expr::value(Value::Number(rows.to_string(), false)),
    });
    query.limit_clause = Some(LimitClause::LimitOffset { limit, offset: None, limit_by: Vec::new() });
}

fn fetch_as_limit(query: &mut Query) {
    let Some(fetch) = query.fetch.take_if(|fetch| !fetch.with_ties && !fetch.percent) else { return };
    // FETCH FIRST ROW is one row.
    let quantity = fetch.quantity.unwrap_or_else(|| Expr::value(Value::Number("1".to_string(), false)));
    match &mut query.limit_clause {
        None => {
            query.limit_clause =
                Some(LimitClause::LimitOffset { limit: Some(quantity), offset: None, limit_by: Vec::new() });
        }
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(quantity),
        // There are two limits, which the planner refuses.
        Some(_) => query.fetch = Some(Fetch { with_ties: false, percent: false, quantity: Some(quantity) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::parser::DFParser;

    fn rewritten(sql: &str) -> String {
        let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        rewrite(&mut statement);
        statement.to_string()
    }

    #[test]
    fn reserved_words_are_values() {
        assert_eq!(
            rewritten("select Current_Schema, \"current_schema\" as a from t where x = current_catalog"),
            "SELECT Current_Schema(), \"current_schema\" AS a FROM t WHERE x = current_catalog"
        );
    }

    #[test]
    fn fetch_is_limit() {
        assert_eq!(rewritten("select x from t offset 1 fetch first 2 rows only"), "SELECT x FROM t LIMIT 2 OFFSET 1");
        assert_eq!(rewritten("select x from t fetch first row only"), "SELECT x FROM t LIMIT 1");
        let ties = "SELECT x FROM t FETCH FIRST 2 ROWS WITH TIES";
        assert_eq!(rewritten(ties), ties, "the planner refuses it");
        let both = "SELECT x FROM t LIMIT 1 FETCH FIRST 2 ROWS ONLY";
        assert_eq!(rewritten(both), both);
    }
}
