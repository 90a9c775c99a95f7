//! Rows compared with the columns of a subquery: `(a, b) IN (SELECT …)`, `(a, b) = (SELECT …)`.
//!
//! IN is true if a row of the subquery is equal. It is unknown if none is equal and a NULL leaves one undecided. WHERE only keeps rows
//! for which a condition is true, so there the subquery is read once.

use super::forms::{apart, binary, compared, nested, not};
use super::walk::outside_of_queries;
use crate::errors::QueryError;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, Select, SelectItem,
    SetExpr, Statement, TableFactor, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use std::ops::ControlFlow;

/// Rewrites conditions of WHERE, each of which must be true.
pub(super) fn conditions(expr: &mut Expr, state: &SessionState) -> Result<(), QueryError> {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conditions(left, state)?;
            conditions(right, state)
        }
        Expr::Nested(of) => conditions(of, state),
        Expr::UnaryOp { op: UnaryOperator::Not, expr: of } => {
            let Some((row, query, negated)) = membership(of) else { return Ok(()) };
            *expr = member(row, query, !negated, state)?;
            Ok(())
        }
        other => {
            let Some((row, query, negated)) = membership(other) else { return Ok(()) };
            *other = member(row, query, negated, state)?;
            Ok(())
        }
    }
}

/// Returns the parts of a row: `(a, b)`, `ROW(a, b)` or `ROW(a)`.
pub(super) fn parts(expr: &Expr) -> Option<Vec<Expr>> {
    let parts: Vec<Expr> = match expr {
        Expr::Tuple(parts) if parts.len() > 1 => parts.clone(),
        Expr::Function(Function { name, args: FunctionArguments::List(list), over: None, .. })
            if name.to_string().eq_ignore_ascii_case("row") && !list.args.is_empty() =>
        {
            let unnamed = list.args.iter().map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(part)) => Some(part.clone()),
                _ => None,
            });
            unnamed.collect::<Option<_>>()?
        }
        _ => return None,
    };
    Some(parts.into_iter().map(apart).collect())
}

/// Returns the row, the subquery, and whether it is NOT IN.
fn membership(expr: &Expr) -> Option<(Vec<Expr>, Query, bool)> {
    let row = parts;
    let query = |expr: &Expr| match expr {
        Expr::Subquery(query) => Some(query.as_ref().clone()),
        _ => None,
    };
    match expr {
        Expr::InSubquery { expr, subquery, negated } => Some((row(expr)?, subquery.as_ref().clone(), *negated)),
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => Some((row(left)?, query(right)?, false)),
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => Some((row(left)?, query(right)?, true)),
        _ => None,
    }
}

/// Returns a condition that is true if the row is in the subquery, where false may stand for unknown.
fn member(row: Vec<Expr>, query: Query, negated: bool, state: &SessionState) -> Result<Expr, QueryError> {
    let (columns, equal) = equal(row, &query, state)?;
    Ok(match negated {
        false => exists(query, &columns, equal),
        true => not(exists(query, &columns, Expr::IsNotFalse(Box::new(nested(equal))))),
    })
}

/// Rewrites a comparison of a row and a subquery as conditions on the row's parts, if `expr` is one.
pub(super) fn beside_query(expr: &Expr, state: &SessionState) -> Result<Option<Expr>, QueryError> {
    if let Some((row, query, negated)) = membership(expr) {
        let (columns, equal) = equal(row, &query, state)?;
        let unknown = exists(query.clone(), &columns, Expr::IsNull(Box::new(nested(equal.clone()))));
        let found = exists(query, &columns, equal);
        let mut case = parsed("CASE WHEN 1 THEN true WHEN 2 THEN NULL ELSE false END")?;
        if let Expr::Case { conditions, .. } = &mut case {
            for (when, condition) in conditions.iter_mut().zip([found, unknown]) {
                when.condition = condition;
            }
        }
        let case = nested(case);
        return Ok(Some(if negated { not(case) } else { case }));
    }
    let Expr::BinaryOp { left, op, right } = expr else { return Ok(None) };
    let (row, query, op) = match (parts(left), parts(right), left.as_ref(), right.as_ref()) {
        (Some(row), _, _, Expr::Subquery(query)) => (row, query, op.clone()),
        (_, Some(row), Expr::Subquery(query), _) => {
            let swapped = match op {
                BinaryOperator::Lt => BinaryOperator::Gt,
                BinaryOperator::LtEq => BinaryOperator::GtEq,
                BinaryOperator::Gt => BinaryOperator::Lt,
                BinaryOperator::GtEq => BinaryOperator::LtEq,
                other => other.clone(),
            };
            (row, query, swapped)
        }
        _ => return Ok(None),
    };
    let columns = columns(&row, query, state)?;
    let pairs: Vec<(Expr, Expr)> = row.into_iter().zip(columns.iter().cloned().map(Expr::Identifier)).collect();
    let Some(compared) = compared(&op, &pairs) else {
        return Err(QueryError::Unsupported(format!("{op} of a row and a subquery is not supported: compare columns")));
    };
    let mut of_row = parsed("(SELECT 1 FROM (SELECT 1) AS __row(__c0))")?;
    if let Some(select) = put_into(&mut of_row, query.as_ref().clone(), &columns) {
        select.projection = vec![SelectItem::UnnamedExpr(nested(compared))];
    }
    Ok(Some(of_row))
}

/// Returns names for the subquery's columns, and the condition that they are equal to the row.
fn equal(row: Vec<Expr>, query: &Query, state: &SessionState) -> Result<(Vec<Ident>, Expr), QueryError> {
    let columns = columns(&row, query, state)?;
    let pairs = row.into_iter().zip(columns.iter().cloned().map(Expr::Identifier));
    let parts = pairs.map(|(part, column)| binary(part, BinaryOperator::Eq, column));
    let all = parts.reduce(|all, part| binary(all, BinaryOperator::And, part));
    Ok((columns, all.unwrap_or_else(|| Expr::value(Value::Boolean(true)))))
}

fn columns(row: &[Expr], query: &Query, state: &SessionState) -> Result<Vec<Ident>, QueryError> {
    if let SetExpr::Select(select) = query.body.as_ref() {
        let is_star = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
        if !select.projection.iter().any(is_star) && select.projection.len() != row.len() {
            return Err(QueryError::Invalid(format!(
                "a row of {} values is compared with a subquery of {} columns: let it have as many",
                row.len(),
                select.projection.len()
            )));
        }
    }
    for part in row {
        let mut part = part.clone();
        let found = outside_of_queries(&mut part, |expr| match expr {
            Expr::Function(function)
                if function.over.is_some()
                    || state.aggregate_functions().contains_key(&function.name.to_string().to_lowercase()) =>
            {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        });
        if found.is_break() {
            return Err(QueryError::Unsupported(
                "a row with an aggregate or a window is not compared with a subquery: compute it in a subquery of FROM, and compare its columns"
                    .to_string(),
            ));
        }
    }
    Ok((0..row.len()).map(|at| Ident::new(format!("__c{at}"))).collect())
}

/// Returns `EXISTS (SELECT 1 FROM (query) AS __row(columns) WHERE condition)`.
fn exists(query: Query, columns: &[Ident], condition: Expr) -> Expr {
    // This text is valid SQL.
    let Ok(mut exists) = parsed("EXISTS (SELECT 1 FROM (SELECT 1) AS __row(__c0))") else { return condition };
    if let Some(select) = put_into(&mut exists, query, columns) {
        select.selection = Some(condition);
    }
    exists
}

/// Puts the subquery and the names of its columns into FROM. Returns the SELECT around it.
fn put_into<'a>(expr: &'a mut Expr, query: Query, columns: &[Ident]) -> Option<&'a mut Select> {
    let outer = match expr {
        Expr::Exists { subquery, .. } => subquery,
        Expr::Subquery(subquery) => subquery,
        _ => return None,
    };
    let SetExpr::Select(select) = outer.body.as_mut() else { return None };
    if let Some(from) = select.from.first_mut()
        && let TableFactor::Derived { subquery, alias: Some(alias), .. } = &mut from.relation
    {
        **subquery = query;
        let first = alias.columns.first().cloned();
        let named = columns.iter().flat_map(|name| {
            first.clone().map(|mut column| {
                column.name = name.clone();
                column
            })
        });
        alias.columns = named.collect();
    }
    Some(select)
}

fn parsed(expr: &str) -> Result<Expr, QueryError> {
    let failed = || QueryError::Internal(format!("'{expr}' cannot be parsed"));
    let mut statements = Parser::parse_sql(&GenericDialect {}, &format!("SELECT {expr}")).map_err(|_| failed())?;
    let Some(Statement::Query(query)) = statements.pop() else { return Err(failed()) };
    let SetExpr::Select(mut select) = *query.body else { return Err(failed()) };
    match select.projection.pop() {
        Some(SelectItem::UnnamedExpr(expr)) => Ok(expr),
        _ => Err(failed()),
    }
}
