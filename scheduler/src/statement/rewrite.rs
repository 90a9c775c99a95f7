//! What is said in another way to DataFusion's planner, which knows the meaning and not the form.
//!
//! - `FETCH FIRST n ROWS ONLY` is `LIMIT n`.
//! - Columns of one SELECT may have the same name. DataFusion calls an expression by a text without its parentheses and without the text
//!   of its subqueries, and refuses a list in which two are called alike (`select 2 + 3 * 4, (2 + 3) * 4`): the later one gets its own
//!   text as its name, with a number if that is taken too.

use super::walk::{everywhere, outside_of_queries, taken};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, Fetch, Ident, LimitClause, Query, Select, SelectItem, SetExpr, Value, VisitorMut,
};
use std::collections::HashSet;
use std::ops::ControlFlow;

pub(super) fn rewrite(statement: &mut Statement) {
    // Nothing here breaks off.
    let _: Option<()> = everywhere(statement, &mut Forms);
}

struct Forms;

impl VisitorMut for Forms {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        fetch_as_limit(query);
        name_apart(&mut query.body);
        ControlFlow::Continue(())
    }
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
        // Two limits, which the planner refuses.
        Some(_) => query.fetch = Some(Fetch { with_ties: false, percent: false, quantity: Some(quantity) }),
    }
}

/// Every SELECT of set operations; those of subqueries are visited by themselves.
fn name_apart(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => name_columns_apart(select),
        SetExpr::SetOperation { left, right, .. } => {
            name_apart(left);
            name_apart(right);
        }
        _ => {}
    }
}

fn name_columns_apart(select: &mut Select) {
    if select.projection.len() < 2 {
        return;
    }
    let mut names = HashSet::new();
    for item in &mut select.projection {
        match item {
            SelectItem::ExprWithAlias { alias, .. } => {
                names.insert(alias.value.to_lowercase());
            }
            SelectItem::UnnamedExpr(expr) => {
                if names.insert(called(expr)) {
                    continue;
                }
                let text = match &expr {
                    Expr::CompoundIdentifier(parts) => {
                        parts.last().map(|ident| ident.value.clone()).unwrap_or_default()
                    }
                    Expr::Identifier(ident) => ident.value.clone(),
                    expr => expr.to_string(),
                };
                let numbered = (1..).map(|number| format!("{text}_{number}"));
                // There are more numbers than columns.
                let name = std::iter::once(text.clone()).chain(numbered).find(|name| names.insert(name.to_lowercase()));
                let alias = Ident::with_quote('"', name.unwrap_or(text));
                let expr = taken(expr);
                *item = SelectItem::ExprWithAlias { expr, alias };
            }
            _ => {}
        }
    }
}

/// The same for two expressions that DataFusion may call alike. Columns are called by their last name only where both have no other: those
/// of two tables are told apart.
fn called(expr: &Expr) -> String {
    // A cast is called by what it casts.
    let mut uncast = expr.clone();
    let _: ControlFlow<()> = outside_of_queries(&mut uncast, |part| {
        match part {
            Expr::Cast { expr, .. } => *part = taken(expr),
            Expr::TypedString(of) => *part = Expr::Value(of.value.clone()),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    let text = uncast.to_string().to_lowercase();
    if text.contains("select ") {
        return "(<subquery>)".to_string();
    }
    text.chars().filter(|letter| !letter.is_whitespace() && !matches!(letter, '(' | ')' | '"')).collect()
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
    fn fetch_is_limit() {
        assert_eq!(rewritten("select x from t offset 1 fetch first 2 rows only"), "SELECT x FROM t LIMIT 2 OFFSET 1");
        assert_eq!(rewritten("select x from t fetch first row only"), "SELECT x FROM t LIMIT 1");
        let ties = "SELECT x FROM t FETCH FIRST 2 ROWS WITH TIES";
        assert_eq!(rewritten(ties), ties, "the planner refuses it");
        let both = "SELECT x FROM t LIMIT 1 FETCH FIRST 2 ROWS ONLY";
        assert_eq!(rewritten(both), both);
    }

    #[test]
    fn columns_that_are_called_alike_get_names_apart() {
        assert_eq!(rewritten("select 1, 1, 1"), "SELECT 1, 1 AS \"1_1\", 1 AS \"1_2\"");
        assert_eq!(rewritten("select 2+3*4, (2+3)*4"), "SELECT 2 + 3 * 4, (2 + 3) * 4 AS \"(2 + 3) * 4\"");
        assert_eq!(rewritten("select k, t.k, K, u.k from t, u"), "SELECT k, t.k, K AS \"K_1\", u.k FROM t, u");
        let twice = "select exists (select 1), exists (select 2)";
        assert_eq!(rewritten(twice), "SELECT EXISTS (SELECT 1), EXISTS (SELECT 2) AS \"EXISTS (SELECT 2)\"");
        assert_eq!(
            rewritten("select cast(b as int), b::text, b from t"),
            "SELECT CAST(b AS INT), b::TEXT AS \"b::TEXT\", b AS \"b_1\" FROM t"
        );
        let apart = "SELECT a AS x, b AS y, a, b FROM t";
        assert_eq!(rewritten(apart), apart);
    }
}
