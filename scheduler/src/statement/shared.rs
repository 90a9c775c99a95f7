//! How often common table expressions are copied where they are named. DataFusion plans a copy for each name: of forty of which each is
//! named twice in the next one there would be 2 to the 40th of the first.

use crate::errors::QueryError;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Query, Visit, Visitor, visit_relations};
use std::collections::HashMap;
use std::ops::ControlFlow;
use windlass_engine::extent::Limits;

/// An error for a statement whose common table expressions would be copied more often than a plan may have operators.
pub(super) fn check(statement: &Statement, limits: Limits) -> Result<(), QueryError> {
    let mut copies = Copies { most: limits.size };
    let refused = match statement {
        Statement::Statement(statement) => statement.visit(&mut copies).is_break(),
        Statement::Explain(explain) => return check(&explain.statement, limits),
        Statement::CopyTo(copy) => match &copy.source {
            datafusion::sql::parser::CopyToSource::Query(query) => query.visit(&mut copies).is_break(),
            datafusion::sql::parser::CopyToSource::Relation(_) => false,
        },
        _ => false,
    };
    match refused {
        true => Err(QueryError::Exhausted(limits.too_large())),
        false => Ok(()),
    }
}

struct Copies {
    most: usize,
}

impl Visitor for Copies {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let Some(with) = &query.with else { return ControlFlow::Continue(()) };
        // What each stands for: itself, and what it names.
        let mut sizes: HashMap<String, usize> = HashMap::new();
        for shared in &with.cte_tables {
            let mut size = 1_usize;
            let _ = visit_relations(&shared.query, |name| {
                size = size.saturating_add(sizes.get(&name.to_string().to_lowercase()).copied().unwrap_or(0));
                ControlFlow::<()>::Continue(())
            });
            if size > self.most {
                return ControlFlow::Break(());
            }
            sizes.insert(shared.alias.name.to_string().to_lowercase(), size);
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::parser::DFParser;

    fn checked(depth: usize, from: &str) -> Result<(), QueryError> {
        let layers =
            (1..depth).map(|n| format!(", c{n} as (select * from {})", from.replace('#', &(n - 1).to_string())));
        let sql = format!("with c0 as (select 1){} select * from c{}", layers.collect::<String>(), depth - 1);
        check(&DFParser::parse_sql(&sql).unwrap().pop_front().unwrap(), Limits::default())
    }

    #[test]
    fn what_is_doubled_again_and_again_is_refused() {
        checked(40, "c#").unwrap();
        checked(15, "c# a, c# b").unwrap();
        let error = checked(40, "c# a, C# b").unwrap_err();
        assert!(error.to_string().contains("primary.size_limit"), "{error}");
    }
}
