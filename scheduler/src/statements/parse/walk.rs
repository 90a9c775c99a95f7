//! Walks over parsed statements.

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{Expr, Ident, Query, SetExpr, Value, Visit, VisitMut, Visitor, VisitorMut};
use std::ops::ControlFlow;

/// Visits all of `statement` and returns the value with which the visitor breaks off.
pub(in crate::statements) fn everywhere<V: VisitorMut>(statement: &mut Statement, visitor: &mut V) -> Option<V::Break> {
    let walked = match statement {
        Statement::Statement(statement) => statement.as_mut().visit(visitor),
        Statement::Explain(explain) => return everywhere(&mut explain.statement, visitor),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => query.as_mut().visit(visitor),
            CopyToSource::Relation(_) => return None,
        },
        Statement::CreateExternalTable(_) | Statement::Reset(_) => return None,
    };
    walked.break_value()
}

/// Visits as [`everywhere`] does, without changes to the statement.
pub(in crate::statements) fn look_at<V: Visitor>(statement: &Statement, visitor: &mut V) -> Option<V::Break> {
    let walked = match statement {
        Statement::Statement(statement) => statement.as_ref().visit(visitor),
        Statement::Explain(explain) => return look_at(&explain.statement, visitor),
        Statement::CopyTo(copy) => match &copy.source {
            CopyToSource::Query(query) => query.as_ref().visit(visitor),
            CopyToSource::Relation(_) => return None,
        },
        Statement::CreateExternalTable(_) | Statement::Reset(_) => return None,
    };
    walked.break_value()
}

/// Calls `change` for the expressions of `node` from the leaves up, except those in subqueries.
pub(super) fn outside_of_queries<B>(
    node: &mut impl VisitMut,
    change: impl FnMut(&mut Expr) -> ControlFlow<B>,
) -> ControlFlow<B> {
    struct Outside<F> {
        queries: usize,
        change: F,
    }
    impl<B, F: FnMut(&mut Expr) -> ControlFlow<B>> VisitorMut for Outside<F> {
        type Break = B;

        fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<B> {
            self.queries += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<B> {
            self.queries -= 1;
            ControlFlow::Continue(())
        }

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<B> {
            if self.queries > 0 { ControlFlow::Continue(()) } else { (self.change)(expr) }
        }
    }
    node.visit(&mut Outside { queries: 0, change })
}

/// Returns the lists of VALUES among the parts of a set operation. `body` may be one itself.
pub(super) fn lists_in(body: &mut SetExpr) -> Vec<&mut SetExpr> {
    let (mut waiting, mut lists) = (vec![body], Vec::new());
    while let Some(part) = waiting.pop() {
        match part {
            SetExpr::SetOperation { left, right, .. } => waiting.extend([left.as_mut(), right.as_mut()]),
            SetExpr::Values(_) => lists.push(part),
            _ => {}
        }
    }
    lists
}

/// Takes the expression and leaves a placeholder in its place.
pub(super) fn taken(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::value(Value::Null))
}

/// Whether two identifiers are the same name. Case does not count without quotes.
pub(super) fn same_name(one: &Ident, other: &Ident) -> bool {
    folded(one) == folded(other)
}

/// Returns the name that an identifier stands for.
pub(super) fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        None => ident.value.to_lowercase(),
        Some(_) => ident.value.clone(),
    }
}
