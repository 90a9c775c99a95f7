//! The columns that USING merges: `coalesce(left, right)` for a FULL JOIN, the right column for a RIGHT JOIN.
//!
//! DataFusion uses one of the two columns as the merged one: the left one in an expression; in `*` the one of the table whose name
//! sorts first, at that column's position. In WHERE and in a further USING it finds the name ambiguous. This module rewrites USING as
//! ON, a merged column as its expression, and `*` as its columns, merged ones first as in PostgreSQL.

use super::walk::{everywhere, folded, outside_of_queries, same_name};
use crate::errors::QueryError;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, ExcludeSelectItem, Expr, Ident, JoinConstraint, JoinOperator, ObjectName, OrderByKind, Query,
    Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableFactor, TableWithJoins, VisitorMut,
    WildcardAdditionalOptions,
};
use std::ops::ControlFlow;

/// Rewrites joins with USING. Errors: a name that may belong to several tables, and NATURAL where the planner's answer would differ.
pub(super) fn write_out(statement: &mut Statement) -> Result<(), QueryError> {
    everywhere(statement, &mut Merged).map_or(Ok(()), Err)
}

struct Merged;

impl VisitorMut for Merged {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<QueryError> {
        if let SetExpr::Select(select) = query.body.as_mut() {
            let keys = match query.order_by.as_mut().map(|order| &mut order.kind) {
                Some(OrderByKind::Expressions(keys)) => keys.iter_mut().map(|key| &mut key.expr).collect(),
                _ => Vec::new(),
            };
            return as_flow(in_select(select, keys));
        }
        let mut waiting = vec![query.body.as_mut()];
        while let Some(body) = waiting.pop() {
            match body {
                SetExpr::Select(select) => as_flow(in_select(select, Vec::new()))?,
                SetExpr::SetOperation { left, right, .. } => waiting.extend([left.as_mut(), right.as_mut()]),
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }
}

fn as_flow(result: Result<(), QueryError>) -> ControlFlow<QueryError> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Inner,
    Left,
    Right,
    Full,
    Other,
}

fn kind_of(join: &JoinOperator) -> Kind {
    match join {
        JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_) => Kind::Inner,
        JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => Kind::Left,
        JoinOperator::Right(_) | JoinOperator::RightOuter(_) => Kind::Right,
        JoinOperator::FullOuter(_) => Kind::Full,
        _ => Kind::Other,
    }
}

fn constraint_of(join: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match join {
        JoinOperator::Join(of)
        | JoinOperator::Inner(of)
        | JoinOperator::Left(of)
        | JoinOperator::LeftOuter(of)
        | JoinOperator::Right(of)
        | JoinOperator::RightOuter(of)
        | JoinOperator::FullOuter(of)
        | JoinOperator::CrossJoin(of)
        | JoinOperator::Semi(of)
        | JoinOperator::LeftSemi(of)
        | JoinOperator::RightSemi(of)
        | JoinOperator::Anti(of)
        | JoinOperator::LeftAnti(of)
        | JoinOperator::RightAnti(of) => Some(of),
        _ => None,
    }
}

/// Whether a join of one of these kinds merges columns.
fn merges(from: &mut TableWithJoins, kinds: &[Kind]) -> bool {
    let nested = |factor: &mut TableFactor| match factor {
        TableFactor::NestedJoin { table_with_joins, .. } => merges(table_with_joins, kinds),
        _ => false,
    };
    if nested(&mut from.relation) {
        return true;
    }
    from.joins.iter_mut().any(|join| {
        let merging =
            matches!(constraint_of(&mut join.join_operator), Some(JoinConstraint::Using(_) | JoinConstraint::Natural));
        merging && kinds.contains(&kind_of(&join.join_operator)) || nested(&mut join.relation)
    })
}

fn in_select(select: &mut Select, keys: Vec<&mut Expr>) -> Result<(), QueryError> {
    if select.from.iter_mut().any(|from| merges(from, &[Kind::Right, Kind::Full])) {
        return written_out(select, keys);
    }
    if select.from.iter_mut().any(|from| merges(from, &[Kind::Inner, Kind::Left])) {
        let mut keys: Vec<_> = keys.into_iter().collect();
        let before = (select.clone(), keys.iter().map(|key| (**key).clone()).collect::<Vec<_>>());
        // Ambiguous names are left to the planner, if it shows the left column.
        if written_out(select, keys.iter_mut().map(|key| &mut **key).collect()).is_err() {
            *select = before.0;
            keys.into_iter().zip(before.1).for_each(|(key, before)| *key = before);
            let is_star = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_));
            if select.projection.iter().any(is_star) && select.from.iter().any(shows_the_right_side) {
                return Err(QueryError::Unsupported(
                    "* beside a NATURAL JOIN, or beside USING whose column may be of one of several tables, is not supported here: name \
                     the columns"
                        .to_string(),
                ));
            }
        }
    }
    Ok(())
}

/// Whether `*` may show the right column of a join. The planner shows that of the table whose name sorts first.
fn shows_the_right_side(from: &TableWithJoins) -> bool {
    let mut left = names(&from.relation);
    for join in &from.joins {
        let right = names(&join.relation);
        let merges = match &join.join_operator {
            JoinOperator::Join(of) | JoinOperator::Inner(of) | JoinOperator::Left(of) | JoinOperator::LeftOuter(of) => {
                matches!(of, JoinConstraint::Using(_) | JoinConstraint::Natural)
            }
            _ => false,
        };
        if merges && right.iter().any(|right| left.iter().any(|left| right < left)) {
            return true;
        }
        left.extend(right);
    }
    false
}

fn names(factor: &TableFactor) -> Vec<String> {
    match factor {
        TableFactor::NestedJoin { table_with_joins, alias: None } => {
            let joined = table_with_joins.joins.iter().flat_map(|join| names(&join.relation));
            names(&table_with_joins.relation).into_iter().chain(joined).collect()
        }
        TableFactor::Table { name, alias: None, .. } => {
            name.0.last().and_then(|part| part.as_ident()).map(folded).into_iter().collect()
        }
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::Function { alias: Some(alias), .. }
        | TableFactor::NestedJoin { alias: Some(alias), .. } => vec![folded(&alias.name)],
        _ => Vec::new(),
    }
}

/// The names that part of FROM provides.
#[derive(Default)]
struct Side {
    tables: Vec<Table>,
    merged: Vec<(Ident, Expr)>,
}

struct Table {
    /// `None`: the name is unknown.
    name: Option<Vec<Ident>>,
    /// Its columns that are merged.
    hidden: Vec<Ident>,
}

impl Side {
    fn of(factor: &mut TableFactor) -> Result<Self, QueryError> {
        let (alias, own) = match factor {
            TableFactor::Table { alias, name, .. } => {
                let own = name.0.iter().map(|part| part.as_ident().cloned()).collect::<Option<Vec<_>>>();
                (alias.as_ref(), own)
            }
            TableFactor::Derived { alias, .. }
            | TableFactor::TableFunction { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. } => (alias.as_ref(), None),
            TableFactor::NestedJoin { table_with_joins, alias: None } => return joined(table_with_joins),
            TableFactor::NestedJoin { table_with_joins, alias } => {
                joined(table_with_joins)?;
                (alias.as_ref(), None)
            }
            _ => (None, None),
        };
        let name = alias.map(|alias| vec![alias.name.clone()]).or(own);
        Ok(Self { tables: vec![Table { name, hidden: Vec::new() }], merged: Vec::new() })
    }

    fn merged(&self, name: &Ident) -> Option<&Expr> {
        self.merged.iter().find(|(merged, _)| same_name(merged, name)).map(|(_, expr)| expr)
    }

    /// Returns the column of that name, and hides it from `*`.
    fn take(&mut self, name: &Ident) -> Result<Expr, QueryError> {
        if let Some(expr) = self.merged(name) {
            return Ok(expr.clone());
        }
        match self.tables.as_mut_slice() {
            [Table { name: Some(table), hidden }] => {
                hidden.push(name.clone());
                Ok(Expr::CompoundIdentifier(table.iter().chain([name]).cloned().collect()))
            }
            _ => Err(QueryError::Unsupported(format!(
                "USING ({name}) of a RIGHT or FULL JOIN, where {name} may be of one of several tables, is not supported: write ON with the \
                 names of the tables, as in ON a.{name} = b.{name}, and coalesce(a.{name}, b.{name}) for the merged column"
            ))),
        }
    }

    fn beside(mut self, right: Self) -> Self {
        self.tables.extend(right.tables);
        for (name, expr) in right.merged {
            if self.merged(&name).is_none() {
                self.merged.push((name, expr));
            }
        }
        self
    }

    /// Replaces merged columns in `node` by their expressions.
    fn put_into(&self, node: &mut impl datafusion::sql::sqlparser::ast::VisitMut) {
        if self.merged.is_empty() {
            return;
        }
        let _: ControlFlow<()> = outside_of_queries(node, |expr| {
            if let Expr::Identifier(name) = expr
                && let Some(merged) = self.merged(name)
            {
                *expr = merged.clone();
            }
            ControlFlow::Continue(())
        });
    }
}

fn joined(from: &mut TableWithJoins) -> Result<Side, QueryError> {
    let mut left = Side::of(&mut from.relation)?;
    for join in &mut from.joins {
        let mut right = Side::of(&mut join.relation)?;
        let kind = kind_of(&join.join_operator);
        let Some(constraint) = constraint_of(&mut join.join_operator) else {
            left = left.beside(right);
            continue;
        };
        let mut merged = Vec::new();
        match constraint {
            JoinConstraint::Using(names) => {
                let names: Option<Vec<Ident>> = names.iter().map(single).collect();
                let Some(names) = names else {
                    return Err(QueryError::Invalid("USING takes names of columns without their tables".to_string()));
                };
                let mut condition = None;
                for name in names {
                    let (l, r) = (left.take(&name)?, right.take(&name)?);
                    let equal = binary(l.clone(), BinaryOperator::Eq, r.clone());
                    condition = Some(match condition {
                        None => equal,
                        Some(others) => binary(others, BinaryOperator::And, equal),
                    });
                    let value = match kind {
                        Kind::Inner | Kind::Left => l,
                        Kind::Right => r,
                        Kind::Full => super::dialect::call("coalesce", vec![l, r]),
                        Kind::Other => {
                            return Err(QueryError::Unsupported(
                                "USING of a SEMI or ANTI JOIN beside that of a RIGHT or FULL JOIN is not supported: write ON"
                                    .to_string(),
                            ));
                        }
                    };
                    merged.push((name, value));
                }
                if let Some(condition) = condition {
                    *constraint = JoinConstraint::On(condition);
                }
            }
            JoinConstraint::Natural => {
                return Err(QueryError::Unsupported(
                    "a NATURAL RIGHT or FULL JOIN, or a NATURAL JOIN beside one with USING, is not supported: name the columns with USING"
                        .to_string(),
                ));
            }
            JoinConstraint::On(_) | JoinConstraint::None => {}
        }
        let sides = left.beside(right);
        if let Some(JoinConstraint::On(condition)) = constraint_of(&mut join.join_operator)
            && merged.is_empty()
        {
            sides.put_into(condition);
        }
        left = Side { tables: sides.tables, merged }.beside(Side { tables: Vec::new(), merged: sides.merged });
    }
    Ok(left)
}

fn single(name: &ObjectName) -> Option<Ident> {
    match name.0.as_slice() {
        [part] => part.as_ident().cloned(),
        _ => None,
    }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn written_out(select: &mut Select, keys: Vec<&mut Expr>) -> Result<(), QueryError> {
    let mut all = Side::default();
    let mut stars = Vec::new();
    for from in &mut select.from {
        let side = joined(from)?;
        stars.push(side.merged.len());
        all.merged.extend(side.merged);
        stars.push(side.tables.len());
        all.tables.extend(side.tables);
    }
    let mut projection = Vec::new();
    for item in std::mem::take(&mut select.projection) {
        match item {
            SelectItem::Wildcard(options) => {
                if options
                    != (WildcardAdditionalOptions {
                        wildcard_token: options.wildcard_token.clone(),
                        ..Default::default()
                    })
                {
                    return Err(QueryError::Unsupported(
                        "EXCLUDE and the like beside USING of an outer join are not supported: name the columns"
                            .to_string(),
                    ));
                }
                star(&all, &stars, &mut projection)?;
            }
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => projection.push(match all.merged(&name) {
                Some(expr) => SelectItem::ExprWithAlias { expr: expr.clone(), alias: name },
                None => SelectItem::UnnamedExpr(Expr::Identifier(name)),
            }),
            item => projection.push(item),
        }
    }
    let shown = |name: &Ident| {
        projection.iter().any(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => same_name(alias, name),
            _ => false,
        })
    };
    for key in keys {
        // A bare name refers to a result column first.
        if !matches!(&*key, Expr::Identifier(name) if shown(name)) {
            all.put_into(key);
        }
    }
    select.projection = projection;
    all.put_into(select);
    Ok(())
}

/// Expands `*` to its columns: in each part of FROM the merged ones first.
fn star(all: &Side, counts: &[usize], projection: &mut Vec<SelectItem>) -> Result<(), QueryError> {
    let (mut merged, mut tables) = (all.merged.iter(), all.tables.iter());
    for pair in counts.chunks(2) {
        let named = merged.by_ref().take(pair[0]);
        projection
            .extend(named.map(|(name, expr)| SelectItem::ExprWithAlias { expr: expr.clone(), alias: name.clone() }));
        for table in tables.by_ref().take(pair[1]) {
            let Some(name) = &table.name else {
                return Err(QueryError::Unsupported(
                    "* beside USING of an outer join needs a name for each table: add aliases".to_string(),
                ));
            };
            let hidden: Vec<ObjectName> =
                table.hidden.iter().map(|ident| ObjectName::from(vec![ident.clone()])).collect();
            let options = WildcardAdditionalOptions {
                opt_exclude: (!hidden.is_empty()).then_some(ExcludeSelectItem::Multiple(hidden)),
                ..Default::default()
            };
            projection.push(SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(ObjectName::from(name.clone())),
                options,
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::parser::DFParser;

    fn written(sql: &str) -> String {
        let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        match write_out(&mut statement) {
            Ok(()) => statement.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_merged_column_is_that_of_the_side_that_has_it() {
        for (sql, expected) in [
            (
                "select g, x from a full join b using (g) where g > 1 group by g, x order by g, g + 1",
                "SELECT coalesce(a.g, b.g) AS g, x FROM a FULL JOIN b ON a.g = b.g WHERE coalesce(a.g, b.g) > 1 \
                 GROUP BY coalesce(a.g, b.g), x ORDER BY g, coalesce(a.g, b.g) + 1",
            ),
            ("select g from s.a right join b c using (g)", "SELECT c.g AS g FROM s.a RIGHT JOIN b c ON s.a.g = c.g"),
            (
                "select * from a full join b using (g)",
                "SELECT coalesce(a.g, b.g) AS g, a.* EXCLUDE (g), b.* EXCLUDE (g) FROM a FULL JOIN b ON a.g = b.g",
            ),
            (
                "select g from a full join b using (g) full join c using (g)",
                "SELECT coalesce(coalesce(a.g, b.g), c.g) AS g FROM a FULL JOIN b ON a.g = b.g \
                 FULL JOIN c ON coalesce(a.g, b.g) = c.g",
            ),
            (
                "select * from z left join a using (g)",
                "SELECT z.g AS g, z.* EXCLUDE (g), a.* EXCLUDE (g) FROM z LEFT JOIN a ON z.g = a.g",
            ),
            ("select g from z left join a using (g)", "SELECT z.g AS g FROM z LEFT JOIN a ON z.g = a.g"),
            (
                "select * from z join a using (g) join b using (g) where g > 0",
                "SELECT z.g AS g, z.* EXCLUDE (g), a.* EXCLUDE (g), b.* EXCLUDE (g) FROM z JOIN a ON z.g = a.g JOIN b ON z.g = b.g WHERE z.g > 0",
            ),
            ("select * from a natural join z", "SELECT * FROM a NATURAL JOIN z"),
            (
                "select (select g from d) from a right join b using (g)",
                "SELECT (SELECT g FROM d) FROM a RIGHT JOIN b ON a.g = b.g",
            ),
        ] {
            assert_eq!(written(sql), expected, "{sql}");
        }
        assert!(written("select g from a join b on a.x = b.x full join c using (g)").contains("write ON"));
        assert!(written("select g from a natural full join b").contains("USING"));
        assert!(written("select * from z natural left join a").contains("name the columns"));
        assert!(written("select * from z natural join a").contains("name the columns"));
        assert!(written("select * from a natural left join z").contains("NATURAL"));
    }
}
