//! `x IS [NOT] DISTINCT FROM y AND z` is `(x IS DISTINCT FROM y) AND z`.
//!
//! The parser takes everything that follows as the right side. Its trees keep parentheses, so an AND or OR on a right side without
//! parentheses does not belong there: it is moved up.

use super::walk::{everywhere, taken};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, VisitorMut};
use std::ops::ControlFlow;

/// Regroups a statement. It must run before the steps that build trees without parentheses.
pub(super) fn regroup(statement: &mut Statement) {
    let _: Option<()> = everywhere(statement, &mut Regroup);
}

struct Regroup;

impl VisitorMut for Regroup {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        regroup_expr(expr);
        ControlFlow::Continue(())
    }
}

/// Returns the binding strength of an operator, and its right operand.
fn right_side(expr: &mut Expr) -> Option<(u8, &mut Box<Expr>)> {
    match expr {
        Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right) => Some((3, right)),
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => Some((2, expr)),
        Expr::BinaryOp { op: BinaryOperator::And, right, .. } => Some((1, right)),
        Expr::BinaryOp { op: BinaryOperator::Or, right, .. } => Some((0, right)),
        _ => None,
    }
}

fn regroup_expr(expr: &mut Expr) {
    let mut above = Vec::new();
    while let Some(part) = looser_part(expr) {
        above.push(part);
    }
    if above.is_empty() {
        return;
    }
    if matches!(expr, Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..)) {
        // The parentheses keep the meaning when the expression is printed, as in the text of a view.
        let apart = taken(expr);
        *expr = Expr::Nested(Box::new(apart));
    }
    for (op, right) in above.into_iter().rev() {
        let left = Box::new(taken(expr));
        *expr = Expr::BinaryOp { left, op, right };
    }
}

/// Leaves `expr` with the left part of its right side. Returns the operator after that part, and what follows.
fn looser_part(expr: &mut Expr) -> Option<(BinaryOperator, Box<Expr>)> {
    let (binds, right) = right_side(expr)?;
    let looser = match right.as_ref() {
        Expr::BinaryOp { op: BinaryOperator::And, .. } => binds >= 1,
        Expr::BinaryOp { op: BinaryOperator::Or, .. } => true,
        _ => false,
    };
    if !looser {
        return None;
    }
    match taken(right) {
        Expr::BinaryOp { left, op, right: rest } => {
            **right = *left;
            Some((op, rest))
        }
        // The match above has shown that it is one.
        other => {
            **right = other;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::parser::DFParser;

    /// Prints the expression with parentheses around each operator.
    fn shown(expr: &Expr) -> String {
        match expr {
            Expr::BinaryOp { left, op, right } => format!("({} {op} {})", shown(left), shown(right)),
            Expr::UnaryOp { op, expr } => format!("({op} {})", shown(expr)),
            Expr::Nested(inner) if matches!(**inner, Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..)) => {
                shown(inner)
            }
            Expr::IsDistinctFrom(left, right) => format!("({} <> {})", shown(left), shown(right)),
            Expr::IsNotDistinctFrom(left, right) => format!("({} == {})", shown(left), shown(right)),
            other => other.to_string(),
        }
    }

    fn regrouped(condition: &str) -> String {
        struct Found(String);
        impl VisitorMut for Found {
            type Break = ();

            fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
                self.0 = shown(expr);
                ControlFlow::Break(())
            }
        }
        let mut statement = DFParser::parse_sql(&format!("SELECT {condition}")).unwrap().pop_front().unwrap();
        regroup(&mut statement);
        let mut found = Found(String::new());
        let _: Option<()> = everywhere(&mut statement, &mut found);
        found.0
    }

    #[test]
    fn and_or_and_not_bind_less_than_is_distinct_from() {
        for (condition, expected) in [
            ("a is distinct from b and c", "((a <> b) AND c)"),
            ("a is not distinct from b or c and d", "((a == b) OR (c AND d))"),
            ("a and b is distinct from c and d or e", "(((a AND (b <> c)) AND d) OR e)"),
            ("a or b is distinct from c and d or e", "((a OR ((b <> c) AND d)) OR e)"),
            ("not a is distinct from b and c", "((NOT (a <> b)) AND c)"),
            ("a is distinct from b and c is distinct from d or e", "(((a <> b) AND (c <> d)) OR e)"),
            ("a is distinct from (b and c)", "(a <> (b AND c))"),
            ("a is distinct from b = c and d", "((a <> (b = c)) AND d)"),
            ("a is distinct from not b and c", "((a <> (NOT b)) AND c)"),
            ("a and (b or c) or d and not e or f", "(((a AND (b or c)) OR (d AND (NOT e))) OR f)"),
        ] {
            assert_eq!(regrouped(condition).to_lowercase(), expected.to_lowercase(), "{condition}");
        }
    }
}
