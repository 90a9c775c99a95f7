//! Limits on short statements that grow large before there is a plan whose size can be measured.
//!
//! - Common table expressions are copied wherever they are named. If each of forty names the one before it twice, DataFusion plans 2 to
//!   the 40th copies of the first.
//! - CUBE of 25 columns is 2 to the 25th grouping sets.

use super::walk::look_at;
use crate::errors::QueryError;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, GroupByWithModifier, Query, SetExpr, Visitor, visit_relations,
};
use std::collections::HashMap;
use std::ops::ControlFlow;
use windlass_engine::extent::Limits;

/// Maximum grouping sets of one GROUP BY, as in PostgreSQL.
const MOST_GROUPING_SETS: usize = 4_096;

/// Returns an error for a statement whose common table expressions would be copied more often than a plan may have operators, or that
/// has too many grouping sets.
pub(super) fn check(statement: &Statement, limits: Limits) -> Result<(), QueryError> {
    let mut multiplied = Multiplied { most: limits.size };
    match look_at(statement, &mut multiplied) {
        None => Ok(()),
        Some(Many::Copies) => Err(QueryError::Exhausted(limits.too_large())),
        Some(Many::GroupingSets) => Err(QueryError::Exhausted(format!(
            "the statement groups in more than {MOST_GROUPING_SETS} ways: CUBE of n columns is 2 to the power of n grouping sets, and several in one \
             GROUP BY are multiplied; name the sets that are needed in GROUPING SETS"
        ))),
    }
}

enum Many {
    Copies,
    GroupingSets,
}

struct Multiplied {
    /// Maximum copies of common table expressions.
    most: usize,
}

impl Visitor for Multiplied {
    type Break = Many;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Many> {
        if most_grouping_sets(&query.body) > MOST_GROUPING_SETS {
            return ControlFlow::Break(Many::GroupingSets);
        }
        let Some(with) = &query.with else { return ControlFlow::Continue(()) };
        // Copies that each name stands for: its own, and those of the names in it.
        let mut sizes: HashMap<String, usize> = HashMap::new();
        for shared in &with.cte_tables {
            let mut size = 1_usize;
            let _ = visit_relations(&shared.query, |name| {
                size = size.saturating_add(sizes.get(&name.to_string().to_lowercase()).copied().unwrap_or(0));
                ControlFlow::<()>::Continue(())
            });
            if size > self.most {
                return ControlFlow::Break(Many::Copies);
            }
            sizes.insert(shared.alias.name.to_string().to_lowercase(), size);
        }
        ControlFlow::Continue(())
    }
}

/// Returns the largest number of grouping sets in one SELECT of set operations. Subqueries are visited separately.
fn most_grouping_sets(body: &SetExpr) -> usize {
    let mut most = 0;
    let mut waiting = vec![body];
    while let Some(body) = waiting.pop() {
        match body {
            SetExpr::Select(select) => most = most.max(grouping_sets(&select.group_by)),
            SetExpr::SetOperation { left, right, .. } => waiting.extend([left.as_ref(), right.as_ref()]),
            _ => {}
        }
    }
    most
}

fn grouping_sets(group_by: &GroupByExpr) -> usize {
    let power = |of: usize| 1_usize.checked_shl(u32::try_from(of).unwrap_or(u32::MAX)).unwrap_or(usize::MAX);
    let (exprs, modifiers) = match group_by {
        GroupByExpr::All(modifiers) => (&[][..], modifiers),
        GroupByExpr::Expressions(exprs, modifiers) => (&exprs[..], modifiers),
    };
    let of_expr = |expr: &Expr| match expr {
        Expr::Cube(sets) => power(sets.len()),
        Expr::Rollup(sets) => sets.len() + 1,
        Expr::GroupingSets(sets) => sets.len().max(1),
        _ => 1,
    };
    let of_modifier = |modifier: &GroupByWithModifier| match modifier {
        GroupByWithModifier::Cube => power(exprs.len()),
        GroupByWithModifier::Rollup => exprs.len() + 1,
        _ => 1,
    };
    exprs.iter().map(of_expr).chain(modifiers.iter().map(of_modifier)).fold(1, usize::saturating_mul)
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

    #[test]
    fn grouping_sets_are_counted() {
        let check = |group_by: &str| {
            let sql = format!("select 1 union all select count(*) from (select a from t group by {group_by})");
            check(&DFParser::parse_sql(&sql).unwrap().pop_front().unwrap(), Limits::default())
        };
        let columns = |n: usize| (0..n).map(|n| format!("a{n}")).collect::<Vec<_>>().join(", ");
        check(&format!("cube ({})", columns(12))).unwrap();
        check(&format!("rollup ({}), cube(a, b)", columns(100))).unwrap();
        for many in [
            format!("cube ({})", columns(13)),
            format!("cube ({}), rollup ({0})", columns(10)),
            format!("cube ({})", columns(99)),
        ] {
            let error = check(&many).unwrap_err();
            assert!(error.to_string().contains("4096 ways"), "{error}");
        }
    }
}
