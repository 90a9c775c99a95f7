//! Long chains of AND and OR in conditions, as balanced trees.
//!
//! A parser reads `a or b or c` as `(a or b) or c`. A planner asks each node for its type, and each node asks all nodes below it: a
//! chain of thousands takes a thousand times as long as a balanced tree of the same conditions. Both operators are associative, the
//! conditions stay in order, and nothing depends on the name of a condition. Short chains stay as they are, because EXPLAIN shows them.

use super::walk::everywhere;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Select, VisitorMut};
use std::ops::ControlFlow;

/// Maximum conditions of a chain that stays as it is.
const SHORT: usize = 64;

pub(super) fn balance(statement: &mut Statement) {
    // No visit breaks off.
    let _: Option<()> = everywhere(statement, &mut Conditions);
}

struct Conditions;

impl VisitorMut for Conditions {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let conditions = [&mut select.selection, &mut select.having, &mut select.qualify];
        conditions.into_iter().flatten().for_each(balance_condition);
        ControlFlow::Continue(())
    }
}

fn balance_condition(condition: &mut Expr) {
    let mut waiting = vec![condition];
    while let Some(expr) = waiting.pop() {
        if let Expr::BinaryOp { op, .. } = expr
            && let Some(op) = associative(op)
        {
            let mut chain = chain(expr, &op);
            if chain.len() > SHORT {
                chain.iter_mut().for_each(balance_condition);
                *expr = tree(chain, &op);
                continue;
            }
            *expr = left_deep(chain, &op);
        }
        match expr {
            Expr::BinaryOp { left, op, right } if associative(op).is_some() => {
                waiting.extend([left.as_mut(), right.as_mut()]);
            }
            Expr::Nested(inner) | Expr::UnaryOp { expr: inner, .. } => waiting.push(inner),
            _ => {}
        }
    }
}

fn associative(op: &BinaryOperator) -> Option<BinaryOperator> {
    matches!(op, BinaryOperator::And | BinaryOperator::Or).then(|| op.clone())
}

/// Takes the conditions out of a chain, in order.
fn chain(expr: &mut Expr, of: &BinaryOperator) -> Vec<Expr> {
    let mut conditions = Vec::new();
    let mut next = std::mem::replace(expr, nothing());
    loop {
        match next {
            Expr::BinaryOp { left, op, right } if op == *of => {
                conditions.push(*right);
                next = *left;
            }
            first => {
                conditions.push(first);
                break;
            }
        }
    }
    conditions.reverse();
    conditions
}

fn nothing() -> Expr {
    Expr::Tuple(Vec::new())
}

fn left_deep(chain: Vec<Expr>, op: &BinaryOperator) -> Expr {
    let both = |left, right| Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) };
    chain.into_iter().reduce(both).unwrap_or_else(nothing)
}

/// Builds a balanced tree of a chain of conditions.
pub(super) fn tree(mut chain: Vec<Expr>, op: &BinaryOperator) -> Expr {
    if chain.len() <= 2 {
        return left_deep(chain, op);
    }
    let right = chain.split_off(chain.len() / 2);
    Expr::BinaryOp { left: Box::new(tree(chain, op)), op: op.clone(), right: Box::new(tree(right, op)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::parser::DFParser;

    fn parsed(sql: &str) -> Statement {
        DFParser::parse_sql(sql).unwrap().pop_front().unwrap()
    }

    fn condition(statement: &mut Statement) -> Expr {
        struct Found(Option<Expr>);
        impl VisitorMut for Found {
            type Break = ();

            fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
                self.0 = select.selection.clone();
                ControlFlow::Break(())
            }
        }
        let mut found = Found(None);
        let _: Option<()> = everywhere(statement, &mut found);
        found.0.unwrap()
    }

    fn depth(expr: &Expr) -> usize {
        match expr {
            Expr::BinaryOp { left, right, .. } => 1 + depth(left).max(depth(right)),
            Expr::Nested(inner) => 1 + depth(inner),
            _ => 0,
        }
    }

    #[test]
    fn a_long_chain_becomes_a_tree_of_the_same_conditions_in_their_order() {
        let chain: Vec<String> = (0..1_000).map(|n| format!("(a = {n} OR b <> {n})")).collect();
        let sql = format!("SELECT 1 FROM t WHERE c = 1 OR ({})", chain.join(" AND "));
        let mut statement = parsed(&sql);
        balance(&mut statement);
        assert!(depth(&condition(&mut statement)) < 20);
        assert_eq!(statement.to_string(), sql, "without parentheses it reads as before");
    }

    #[test]
    fn a_short_chain_stays_as_it_is() {
        let sql = "SELECT a AND b AND c FROM t WHERE a = 1 AND NOT (b OR c OR d AND e) AND f HAVING g OR h OR i";
        let (mut statement, before) = (parsed(sql), parsed(sql));
        balance(&mut statement);
        assert_eq!(statement, before);
    }
}
