//! Named windows: replaces `OVER w` and `OVER (w ORDER BY …)` by the definition of `w` in the WINDOW clause.

use super::walk::{everywhere, outside_of_queries, same_name};
use crate::errors::QueryError;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, NamedWindowDefinition, NamedWindowExpr, Query, Select, SetExpr, VisitMut, VisitorMut, WindowSpec,
    WindowType,
};
use std::ops::ControlFlow;

/// Replaces each named window. Errors: a window that is undefined or defined twice, or that repeats a clause of the window it names.
pub(super) fn write_out(statement: &mut Statement) -> Result<(), QueryError> {
    everywhere(statement, &mut Windows).map_or(Ok(()), Err)
}

struct Windows;

impl VisitorMut for Windows {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<QueryError> {
        let mut order = query.order_by.as_mut();
        let mut waiting = vec![query.body.as_mut()];
        let mut windows = Vec::new();
        while let Some(body) = waiting.pop() {
            match body {
                SetExpr::Select(select) => windows = in_select(select)?,
                SetExpr::SetOperation { left, right, .. } => {
                    order = None;
                    waiting.extend([left.as_mut(), right.as_mut()]);
                }
                _ => {}
            }
        }
        match order {
            Some(order) => resolve(order, &windows),
            None => ControlFlow::Continue(()),
        }
    }
}

fn in_select(select: &mut Select) -> ControlFlow<QueryError, Vec<(Ident, WindowSpec)>> {
    let mut windows: Vec<(Ident, WindowSpec)> = Vec::new();
    for NamedWindowDefinition(name, window) in std::mem::take(&mut select.named_window) {
        let spec = match window {
            NamedWindowExpr::NamedWindow(of) => defined(&windows, &of)?.clone(),
            NamedWindowExpr::WindowSpec(mut spec) => {
                inherit(&mut spec, &windows)?;
                spec
            }
        };
        if windows.iter().any(|(known, _)| same_name(known, &name)) {
            return ControlFlow::Break(QueryError::Invalid(format!(
                "window {name} is already defined: give each window of the WINDOW clause a name of its own"
            )));
        }
        windows.push((name, spec));
    }
    resolve(&mut select.projection, &windows)?;
    resolve(&mut select.qualify, &windows)?;
    resolve(&mut select.distinct, &windows)?;
    ControlFlow::Continue(windows)
}

fn resolve<V: VisitMut>(node: &mut V, windows: &[(Ident, WindowSpec)]) -> ControlFlow<QueryError> {
    outside_of_queries(node, |expr| {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        match &mut function.over {
            Some(WindowType::WindowSpec(spec)) => inherit(spec, windows),
            Some(over @ WindowType::NamedWindow(_)) => {
                if let WindowType::NamedWindow(name) = &over {
                    let spec = defined(windows, name)?.clone();
                    *over = WindowType::WindowSpec(spec);
                }
                ControlFlow::Continue(())
            }
            None => ControlFlow::Continue(()),
        }
    })
}

fn inherit(spec: &mut WindowSpec, windows: &[(Ident, WindowSpec)]) -> ControlFlow<QueryError> {
    let Some(name) = spec.window_name.take() else { return ControlFlow::Continue(()) };
    let of = defined(windows, &name)?;
    let refused = |why: String| ControlFlow::Break(QueryError::Invalid(why));
    if !spec.partition_by.is_empty() {
        return refused(format!("the PARTITION BY of window {name} cannot be replaced: define another window"));
    }
    if !of.order_by.is_empty() && !spec.order_by.is_empty() {
        return refused(format!("the ORDER BY of window {name} cannot be replaced: define another window"));
    }
    if of.window_frame.is_some() {
        return refused(format!(
            "window {name} has a frame, so another window cannot be made of it: write OVER {name} without parentheses"
        ));
    }
    spec.partition_by.clone_from(&of.partition_by);
    if spec.order_by.is_empty() {
        spec.order_by.clone_from(&of.order_by);
    }
    ControlFlow::Continue(())
}

fn defined<'a>(windows: &'a [(Ident, WindowSpec)], name: &Ident) -> ControlFlow<QueryError, &'a WindowSpec> {
    match windows.iter().find(|(known, _)| same_name(known, name)) {
        Some((_, spec)) => ControlFlow::Continue(spec),
        None => ControlFlow::Break(QueryError::Invalid(format!(
            "window {name} does not exist: define it in the WINDOW clause of the same SELECT, as in WINDOW {name} AS (PARTITION BY …)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::parser::DFParser;

    fn written_out(sql: &str) -> String {
        let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        match write_out(&mut statement) {
            Ok(()) => statement.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_window_that_names_another_has_what_that_has() {
        assert_eq!(
            written_out("select sum(x) over (w order by y), max(x) over W from t window w as (partition by g)"),
            "SELECT sum(x) OVER (PARTITION BY g ORDER BY y), max(x) OVER (PARTITION BY g) FROM t"
        );
        assert_eq!(
            written_out(
                "select sum(x) over v from t window w as (partition by g), v as (w order by y) order by max(x) over w"
            ),
            "SELECT sum(x) OVER (PARTITION BY g ORDER BY y) FROM t ORDER BY max(x) OVER (PARTITION BY g)"
        );
        assert!(written_out("select count(*) over (nosuch) from t").contains("nosuch does not exist"));
        assert!(written_out("select count(*) over nosuch from t").contains("nosuch does not exist"));
        for refused in [
            "select count(*) over (w order by x) from t window w as (order by y)",
            "select count(*) over (w partition by x) from t window w as (order by y)",
            "select count(*) over w from t window W as (order by y), w as (order by x)",
            "select count(*) over (w) from t window w as (order by y rows 1 preceding)",
            "select (select count(*) over w from u) from t window w as (order by y)",
        ] {
            assert!(written_out(refused).contains("window w"), "{refused}");
        }
    }
}
