//! Duplicate names of columns and aggregates in one SELECT. SQL allows them and DataFusion's planner does not.
//!
//! DataFusion names an expression by its text, without parentheses, casts and the text of subqueries. It refuses a list with two equal
//! names.
//!
//! - A result column gets a unique name for planning, `id (again 1)`. [`shown`] restores `id` in what a statement returns; tables and
//!   views are refused.
//! - A cast that distinguishes two aggregates or group keys (`max(x), max(x::real)`) becomes `windlass_cast(x::real, 'x::REAL')`, which
//!   becomes the cast again when it is planned.

use super::dialect::call;
use super::walk::{everywhere, folded, outside_of_queries, taken};
use crate::errors::QueryError;
use datafusion::common::Column;
use datafusion::logical_expr::{DdlStatement, Expr as Planned, LogicalPlan, Projection};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, Distinct, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, OrderBy,
    OrderByKind, Query, Select, SelectItem, SetExpr, TableFactor, Value, Visit, VisitMut, VisitorMut,
    visit_expressions,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Which expressions count as equally named.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Alike {
    /// Those with the same text.
    Text,
    /// Any two that the planner may name equally, and every column beside `*`, because it is unknown which columns `*` stands for.
    Anything,
}

const AGAIN: &str = " (again ";

/// Splits a unique name into the shown name and its number.
fn shown_name(name: &str) -> Option<(&str, &str)> {
    let (shown, number) = name.rsplit_once(AGAIN)?;
    let number = number.strip_suffix(')')?;
    (!number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())).then_some((shown, number))
}

/// Gives unique names to all columns that the planner may name equally, for a statement that it has refused. Returns whether there were
/// any.
pub(in crate::statements) fn anything(statement: &mut Statement) -> bool {
    struct Anything {
        changed: bool,
    }
    impl VisitorMut for Anything {
        type Break = ();

        fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
            self.changed |= columns(&mut query.body, Alike::Anything);
            ControlFlow::Continue(())
        }
    }
    let mut anything = Anything { changed: false };
    // No visit breaks off.
    let _: Option<()> = everywhere(statement, &mut anything);
    anything.changed
}

/// Replaces sort keys that repeat a result column's expression by the column's position. Without this, the planner refuses
/// `SELECT DISTINCT upper(s) … ORDER BY upper(s)`, and computes `SELECT -x AS x … ORDER BY -x` from the result column.
pub(super) fn by_place(query: &mut Query) {
    let (SetExpr::Select(select), Some(OrderBy { kind: OrderByKind::Expressions(order), .. })) =
        (query.body.as_ref(), &mut query.order_by)
    else {
        return;
    };
    let aliases: Vec<String> = select.projection.iter().filter_map(alias_of).map(folded).collect();
    let is_distinct = matches!(select.distinct, Some(Distinct::Distinct));
    let has_groups = !matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty());
    // Positions after a `*` are unknown.
    let known = select.projection.iter().map_while(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    });
    let known: Vec<&Expr> = known.collect();
    for key in order {
        if let Some(place) = cast_of(&key.expr, select) {
            // Among groups the planner takes a position for the column that is cast.
            key.expr = match known.get(place).filter(|_| has_groups && !is_distinct) {
                Some(expr) => (*expr).clone(),
                None => Expr::value(Value::Number((place + 1).to_string(), false)),
            };
            continue;
        }
        if matches!(key.expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_))
            || !(is_distinct || aliases.iter().any(|alias| computes_with(&key.expr, alias)))
        {
            continue;
        }
        if let Some(place) = known.iter().position(|expr| is_same(expr, &key.expr)) {
            key.expr = Expr::value(Value::Number((place + 1).to_string(), false));
        }
    }
}

/// Returns the position of the result column that an ORDER BY names or counts, if it is the cast of a column: the cast has the column's name. The planner would
/// sort by the column, and refuse two columns of one name.
fn cast_of(key: &Expr, select: &Select) -> Option<usize> {
    let name = match key {
        Expr::Identifier(name) => name,
        Expr::Value(value) => {
            let Value::Number(place, _) = &value.value else { return None };
            let place = place.parse::<usize>().ok()?.checked_sub(1)?;
            let SelectItem::UnnamedExpr(expr) = select.projection.get(place)? else { return None };
            return column_of(expr).is_some_and(|(_, is_cast)| is_cast).then_some(place);
        }
        _ => return None,
    };
    let mut found = None;
    for (at, item) in select.projection.iter().enumerate() {
        let column = match item {
            SelectItem::UnnamedExpr(expr) => column_of(expr),
            SelectItem::ExprWithAlias { alias, .. } => Some((alias, false)),
            // What follows a `*` has no known position.
            _ => return None,
        };
        let Some((_, is_cast)) = column.filter(|(column, _)| folded(column) == folded(name)) else { continue };
        match (found, is_cast) {
            (None, true) => found = Some(at),
            // Another column has the name, too.
            _ => return None,
        }
    }
    found
}

/// Returns the column that an expression is or casts, and whether it casts it.
fn column_of(expr: &Expr) -> Option<(&Ident, bool)> {
    match expr {
        Expr::Identifier(name) => Some((name, false)),
        Expr::CompoundIdentifier(parts) => parts.last().map(|name| (name, false)),
        Expr::Nested(expr) => column_of(expr),
        Expr::Cast { expr, .. } => column_of(expr).map(|(name, _)| (name, true)),
        _ => None,
    }
}

fn alias_of(item: &SelectItem) -> Option<&Ident> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias),
        _ => None,
    }
}

/// Whether two expressions have the same text.
fn is_same(one: &Expr, other: &Expr) -> bool {
    let (one, other) = (one.to_string(), other.to_string());
    let is_folded = |text: &str| !text.contains(['"', '\'', '`']);
    one == other || (is_folded(&one) && is_folded(&other) && one.eq_ignore_ascii_case(&other))
}

/// Returns variants of the statement that rename each column whose name an ORDER BY beside it computes with, as in
/// `SELECT x * 2 AS x … ORDER BY x + 1`. The planner would use the result column in place of the table's. The likeliest comes first:
/// all queries renamed, then the outermost alone. A variant cannot be planned if no table has such a column.
pub(in crate::statements) fn ordered(statement: &Statement) -> Vec<Statement> {
    let mut outermost = statement.clone();
    let any = match &mut outermost {
        Statement::Statement(of) => match of.as_mut() {
            ast::Statement::Query(query) => named_apart(query),
            _ => false,
        },
        _ => false,
    };
    let mut all = outermost.clone();
    let mut inner = Inner { depth: 0, outermost: is_query(&all), changed: false };
    // No visit breaks off.
    let _: Option<()> = everywhere(&mut all, &mut inner);
    let mut candidates = Vec::new();
    if inner.changed {
        candidates.push(all);
    }
    if any {
        candidates.push(outermost);
    }
    candidates
}

fn is_query(statement: &Statement) -> bool {
    matches!(statement, Statement::Statement(of) if matches!(of.as_ref(), ast::Statement::Query(_)))
}

/// Renames the columns of inner queries, and restores their names in a query around each.
struct Inner {
    depth: usize,
    /// Whether the first query is the statement's own. Its names are restored after it has run.
    outermost: bool,
    changed: bool,
}

impl VisitorMut for Inner {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        if self.depth > 0 || !self.outermost {
            self.changed |= named_within(query);
        }
        ControlFlow::Continue(())
    }
}

/// Renames the columns whose names an ORDER BY computes with. Returns whether there were any.
fn named_apart(query: &mut Query) -> bool {
    let (SetExpr::Select(select), Some(OrderBy { kind: OrderByKind::Expressions(order), .. })) =
        (query.body.as_mut(), &mut query.order_by)
    else {
        return false;
    };
    let mut names = Names::default();
    let mut any = false;
    for item in &mut select.projection {
        let Some(name) = name_of(item) else { continue };
        let folded_name = folded(&name);
        if !order.iter().any(|key| computes_with(&key.expr, &folded_name)) {
            continue;
        }
        let again = names.again(&name.value);
        for key in order.iter_mut() {
            if matches!(&key.expr, Expr::Identifier(key) if folded(key) == folded_name) {
                key.expr = Expr::Identifier(again.clone());
            }
        }
        match item {
            SelectItem::ExprWithAlias { alias, .. } => *alias = again,
            SelectItem::UnnamedExpr(expr) => {
                *item = SelectItem::ExprWithAlias { expr: taken(expr), alias: again };
            }
            _ => {}
        }
        any = true;
    }
    any
}

/// Returns the name of a result column that is not a table's column: its alias, or the name of a subquery's column.
fn name_of(item: &SelectItem) -> Option<Ident> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.clone()),
        SelectItem::UnnamedExpr(Expr::Subquery(query)) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first()? {
                SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.clone()),
                SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().cloned(),
                item => name_of(item),
            },
            _ => None,
        },
        _ => None,
    }
}

/// Replaces a query that computes with the name of its column by
/// `SELECT "x (again 1)" AS x FROM (SELECT … AS "x (again 1)" … ORDER BY …)`.
fn named_within(query: &mut Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let shown = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().cloned(),
        SelectItem::UnnamedExpr(expr) => name_of(item).or_else(|| Some(Ident::with_quote('"', expr.to_string()))),
        _ => None,
    };
    let Some(shown) = select.projection.iter().map(shown).collect::<Option<Vec<Ident>>>() else { return false };
    let mut inner = query.clone();
    if !named_apart(&mut inner) {
        return false;
    }
    let SetExpr::Select(select) = inner.body.as_mut() else { return false };
    let mut outer = Vec::new();
    for (item, shown) in select.projection.iter_mut().zip(shown) {
        let name = match item {
            SelectItem::ExprWithAlias { alias, .. } => alias.clone(),
            _ => shown.clone(),
        };
        if let SelectItem::UnnamedExpr(expr) = item {
            *item = SelectItem::ExprWithAlias { expr: taken(expr), alias: name.clone() };
        }
        outer.push(SelectItem::ExprWithAlias { expr: Expr::Identifier(name), alias: shown });
    }
    let Some(mut around) = parsed("SELECT * FROM (SELECT 1) AS __ordered") else { return false };
    let SetExpr::Select(select) = around.body.as_mut() else { return false };
    select.projection = outer;
    match select.from.first_mut().map(|from| &mut from.relation) {
        Some(TableFactor::Derived { subquery, .. }) => **subquery = inner,
        _ => return false,
    }
    *query = around;
    true
}

fn parsed(query: &str) -> Option<Query> {
    match Parser::parse_sql(&GenericDialect {}, query).ok()?.pop()? {
        ast::Statement::Query(query) => Some(*query),
        _ => None,
    }
}

/// Returns one query for each `*`, for a statement that has several and that the planner has refused. The query gives the columns that
/// the `*` stands for.
pub(in crate::statements) fn stars(statement: &Statement) -> Vec<(usize, Statement)> {
    let Statement::Statement(statement) = statement else { return Vec::new() };
    let ast::Statement::Query(query) = statement.as_ref() else { return Vec::new() };
    let SetExpr::Select(select) = query.body.as_ref() else { return Vec::new() };
    let stars = select.projection.iter().enumerate().filter(|(_, item)| is_star(item));
    let stars = stars.map(|(at, item)| {
        let mut query = query.clone();
        (query.order_by, query.limit_clause) = (None, None);
        if let SetExpr::Select(of) = query.body.as_mut() {
            of.projection = vec![item.clone()];
            (of.distinct, of.selection, of.having, of.qualify) = (None, None, None, None);
            of.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
        }
        (at, Statement::Statement(Box::new(ast::Statement::Query(query))))
    });
    let stars: Vec<_> = stars.collect();
    if stars.len() > 1 { stars } else { Vec::new() }
}

fn is_star(item: &SelectItem) -> bool {
    matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
}

/// Replaces each `*` by its columns, with table and name, at the position of the `*`. Returns whether each column has a table.
pub(in crate::statements) fn write_stars_out(statement: &mut Statement, stars: Vec<(usize, Vec<Column>)>) -> bool {
    let Statement::Statement(statement) = statement else { return false };
    let ast::Statement::Query(query) = statement.as_mut() else { return false };
    let SetExpr::Select(select) = query.body.as_mut() else { return false };
    for (at, columns) in stars.into_iter().rev() {
        let mut items = Vec::new();
        for Column { relation, name, .. } in columns {
            let Some(relation) = relation else { return false };
            let parts = relation.to_vec().into_iter().chain([name]);
            let parts = parts.map(|part| Ident::with_quote('"', part)).collect();
            items.push(SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)));
        }
        select.projection.splice(at..=at, items);
    }
    true
}

/// Whether an expression contains this name and is more than the name.
fn computes_with(expr: &Expr, name: &str) -> bool {
    let is_named = |part: &Expr| match part {
        Expr::Identifier(part) => folded(part) == name,
        Expr::CompoundIdentifier(parts) => parts.last().is_some_and(|part| folded(part) == name),
        _ => false,
    };
    let find = |part: &Expr| if is_named(part) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    !matches!(expr, Expr::Identifier(_)) && visit_expressions(expr, find).is_break()
}

/// Gives unique names in every SELECT of set operations. Subqueries are visited separately. Returns whether any column was renamed.
pub(super) fn columns(body: &mut SetExpr, alike: Alike) -> bool {
    let mut changed = false;
    each_select(body, &mut |select| changed |= columns_of(select, alike));
    changed
}

#[derive(Default)]
struct Names {
    /// DataFusion's names of expressions.
    called: HashSet<String>,
    /// Names of columns, without their tables.
    columns: HashSet<String>,
    /// Names of columns that are written without a table.
    bare: HashSet<String>,
    given: HashSet<String>,
    star: bool,
}

impl Names {
    /// Whether the name of a column is free. Takes the name if it is.
    fn column(&mut self, name: String, called: Option<String>) -> bool {
        let free = match called {
            // Columns of two tables differ.
            Some(called) => self.called.insert(called) && !self.bare.contains(&name),
            None => !self.columns.contains(&name),
        } && !self.star;
        if free {
            self.columns.insert(name);
        }
        free
    }

    fn again(&mut self, shown: &str) -> Ident {
        let numbered = (1..).map(|number| format!("{shown}{AGAIN}{number})"));
        // There are more numbers than columns.
        let name = numbered.into_iter().find(|name| self.given.insert(name.to_lowercase()));
        Ident::with_quote('"', name.unwrap_or_default())
    }
}

fn columns_of(select: &mut Select, alike: Alike) -> bool {
    let star = alike == Alike::Anything && select.projection.iter().any(is_star);
    if select.projection.len() < 2 {
        return false;
    }
    let given = select.projection.iter().filter_map(|item| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.to_lowercase()),
        _ => None,
    });
    let mut names = Names { star, given: given.collect(), ..Names::default() };
    let mut changed = false;
    for item in &mut select.projection {
        match item {
            SelectItem::ExprWithAlias { alias, .. } => {
                let name = folded(alias);
                if shown_name(&name).is_some() {
                    continue;
                }
                if names.column(name.clone(), None) {
                    names.bare.insert(name);
                    continue;
                }
                *alias = names.again(&alias.value.clone());
                changed = true;
            }
            SelectItem::UnnamedExpr(expr) => {
                let free = match as_column(expr) {
                    Expr::Identifier(column) => {
                        let name = folded(column);
                        let free = names.called.insert(called(expr)) && names.column(name.clone(), None);
                        names.bare.insert(name);
                        free
                    }
                    Expr::CompoundIdentifier(parts) => {
                        names.column(parts.last().map(folded).unwrap_or_default(), Some(called(expr)))
                    }
                    _ => names.called.insert(called(expr)) && alike == Alike::Text,
                };
                if free {
                    continue;
                }
                let shown = match &expr {
                    Expr::CompoundIdentifier(parts) => parts.last().map(folded).unwrap_or_default(),
                    Expr::Identifier(column) => folded(column),
                    expr => expr.to_string(),
                };
                let alias = names.again(&shown);
                let expr = taken(expr);
                *item = SelectItem::ExprWithAlias { expr, alias };
                changed = true;
            }
            _ => {}
        }
    }
    changed
}

/// Returns the expression without parentheses and casts, which DataFusion leaves out of the name.
fn as_column(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(of) | Expr::Cast { expr: of, .. } => as_column(of),
        expr => expr,
    }
}

/// Returns a text that is equal for any two expressions that DataFusion may name equally.
fn called(expr: &Expr) -> String {
    // A cast has the name of its operand.
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

/// Names the casts that distinguish functions or group keys.
pub(super) fn casts(query: &mut Query) {
    let Query { body, order_by, .. } = query;
    match body.as_mut() {
        SetExpr::Select(select) => {
            let mut sorts = match order_by.as_mut().map(|order| &mut order.kind) {
                Some(OrderByKind::Expressions(sorts)) => sorts.iter_mut().map(|sort| &mut sort.expr).collect(),
                _ => Vec::<&mut Expr>::new(),
            };
            casts_of(select, &mut sorts);
        }
        body => each_select(body, &mut |select| casts_of(select, &mut [])),
    }
}

fn each_select(body: &mut SetExpr, change: &mut dyn FnMut(&mut Select)) {
    match body {
        SetExpr::Select(select) => change(select),
        SetExpr::SetOperation { left, right, .. } => {
            each_select(left, change);
            each_select(right, change);
        }
        _ => {}
    }
}

fn casts_of(select: &mut Select, sorts: &mut [&mut Expr]) {
    let has_cast = |expr: &Expr| matches!(expr, Expr::Cast { .. });
    let mut texts: HashMap<String, HashMap<String, Expr>> = HashMap::new();
    let mut collect = |expr: &Expr| {
        let text = expr.to_string();
        texts.entry(called(expr)).or_default().entry(text).or_insert_with(|| expr.clone());
    };
    let mut any = false;
    look(select, sorts, &mut |expr| any |= has_cast(expr));
    if !any {
        return;
    }
    look(select, sorts, &mut |expr| {
        if matches!(expr, Expr::Function(_)) {
            collect(expr);
        }
    });
    if let GroupByExpr::Expressions(keys, _) = &select.group_by {
        keys.iter().map(|key| shown_key(key, &select.projection)).for_each(&mut collect);
    }
    let mut telling = HashSet::new();
    for mut alike in texts.into_values().filter(|texts| texts.len() > 1).flat_map(HashMap::into_values) {
        let _: ControlFlow<()> = outside_of_queries(&mut alike, |part| {
            if has_cast(part) {
                telling.insert(part.to_string());
            }
            ControlFlow::Continue(())
        });
    }
    if telling.is_empty() {
        return;
    }
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) = item {
            let written = expr.to_string();
            let mut expr = taken(expr);
            *item = match name_casts(&mut expr, &telling) {
                // The column is named by the text as written.
                true => SelectItem::ExprWithAlias { alias: Ident::with_quote('"', written), expr },
                false => SelectItem::UnnamedExpr(expr),
            };
        }
    }
    name_casts(select, &telling);
    for sort in sorts {
        name_casts(*sort, &telling);
    }
}

/// Returns a group key, or the result item that it refers to by position or alias.
fn shown_key<'a>(key: &'a Expr, items: &'a [SelectItem]) -> &'a Expr {
    let of_item = |item: &'a SelectItem| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    };
    let item = match key {
        Expr::Value(place) => {
            place.value.to_string().parse::<usize>().ok().and_then(|place| items.get(place.checked_sub(1)?))
        }
        Expr::Identifier(name) => items
            .iter()
            .find(|item| matches!(item, SelectItem::ExprWithAlias { alias, .. } if folded(alias) == folded(name))),
        _ => None,
    };
    item.and_then(of_item).unwrap_or(key)
}

/// Calls `see` with each expression outside subqueries.
fn look(select: &mut Select, sorts: &mut [&mut Expr], see: &mut dyn FnMut(&Expr)) {
    let mut each = |expr: &mut Expr| {
        see(expr);
        ControlFlow::<()>::Continue(())
    };
    let _ = outside_of_queries(select, &mut each);
    for sort in sorts {
        let _ = outside_of_queries(*sort, &mut each);
    }
}

const CAST: &str = "windlass_cast";

/// Names the casts in `telling`. Returns whether any was named.
fn name_casts(node: &mut (impl VisitMut + Visit), telling: &HashSet<String>) -> bool {
    let mut changed = false;
    let _: ControlFlow<()> = outside_of_queries(node, |expr| {
        match expr {
            Expr::Cast { .. } => {
                let written = as_written(expr);
                if telling.contains(&written) {
                    let name = Expr::value(Value::SingleQuotedString(written));
                    *expr = call(CAST, vec![taken(expr), name]);
                    changed = true;
                }
            }
            // The cast was named before.
            Expr::Function(_) => {
                if let Some(inner) = named(expr).and_then(|cast| named(&cast)) {
                    *expr = call(CAST, vec![inner.clone(), Expr::value(Value::SingleQuotedString(as_written(&inner)))]);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    changed
}

/// Returns the cast that has a name.
fn named(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) if name.to_string() == CAST => {
            match list.args.first() {
                Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(cast))) => Some(cast.clone()),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Returns the text of a cast as written. Casts inside it may have names.
fn as_written(cast: &Expr) -> String {
    let mut cast = cast.clone();
    let _: ControlFlow<()> = outside_of_queries(&mut cast, |part| {
        if let Some(inner) = named(part) {
            *part = inner;
        }
        ControlFlow::Continue(())
    });
    cast.to_string()
}

/// Returns `plan` with the names that were written in its result. Errors: a table or a view that would have two columns of the same
/// name.
pub(in crate::statements) fn shown(plan: LogicalPlan) -> Result<LogicalPlan, QueryError> {
    match plan {
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(mut create)) => {
            if has_again(&create.input) {
                create.input = Arc::new(shown(Arc::unwrap_or_clone(create.input))?);
                refuse(&create.input, "table")?;
            }
            Ok(LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)))
        }
        LogicalPlan::Ddl(DdlStatement::CreateView(create)) => {
            // The view keeps its text, with the unique names in it.
            if has_again(&create.input) {
                refuse(&create.input, "view")?;
            }
            Ok(LogicalPlan::Ddl(DdlStatement::CreateView(create)))
        }
        LogicalPlan::Copy(mut copy) => {
            if has_again(&copy.input) {
                // Readers of files find columns by their names.
                let numbered = |name: &str| shown_name(name).map(|(shown, number)| format!("{shown}_{number}"));
                copy.input = Arc::new(renamed(Arc::unwrap_or_clone(copy.input), |_, name| {
                    numbered(name).map(|name| (None, name))
                })?);
            }
            Ok(LogicalPlan::Copy(copy))
        }
        LogicalPlan::Ddl(_) | LogicalPlan::Statement(_) | LogicalPlan::Dml(_) | LogicalPlan::Explain(_) => Ok(plan),
        plan if has_again(&plan) => {
            let shown = |name: &str| shown_name(name).map_or(name, |(shown, _)| shown).to_string();
            let twice: HashSet<String> = {
                let mut once = HashSet::new();
                let names = plan.schema().fields().iter().map(|field| shown(field.name()));
                names.filter(|name| !once.insert(name.clone())).collect()
            };
            renamed(plan, |at, name| {
                let shown = shown(name);
                // Names must be unique only for planning.
                twice
                    .contains(&shown)
                    .then(|| (Some(format!("{shown}{AGAIN}{at})")), shown.clone()))
                    .or_else(|| (shown != name).then_some((None, shown)))
            })
        }
        plan => Ok(plan),
    }
}

fn has_again(plan: &LogicalPlan) -> bool {
    plan.schema().fields().iter().any(|field| shown_name(field.name()).is_some())
}

fn refuse(plan: &LogicalPlan, what: &str) -> Result<(), QueryError> {
    let mut once = HashSet::new();
    let mut names = plan
        .schema()
        .fields()
        .iter()
        .map(|field| shown_name(field.name()).map_or(field.name().as_str(), |(name, _)| name));
    match names.find(|name| !once.insert(name.to_string())) {
        None => Ok(()),
        Some(name) => Err(QueryError::Invalid(format!(
            "column '{name}' is there twice: each column of a {what} needs a name of its own, as in SELECT … AS another_name"
        ))),
    }
}

/// Returns `plan` with renamed columns. `name` maps the position and name of a column to its table and name.
fn renamed(
    plan: LogicalPlan,
    name: impl Fn(usize, &str) -> Option<(Option<String>, String)>,
) -> Result<LogicalPlan, QueryError> {
    let columns = plan.schema().iter().enumerate().map(|(at, (relation, field))| {
        let column = Planned::Column(Column::new(relation.cloned(), field.name()));
        match name(at, field.name()) {
            Some((table, name)) => column.alias_qualified(table, name),
            None => column,
        }
    });
    let columns = columns.collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::parser::DFParser;

    fn apart(sql: &str) -> String {
        let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        crate::statements::parse::rewrite(&mut statement);
        statement.to_string()
    }

    #[test]
    fn columns_that_are_called_alike_get_names_apart() {
        for (sql, expected) in [
            ("select 1, 1, 1", "SELECT 1, 1 AS \"1 (again 1)\", 1 AS \"1 (again 2)\""),
            ("select 2+3*4, (2+3)*4", "SELECT 2 + 3 * 4, (2 + 3) * 4 AS \"(2 + 3) * 4 (again 1)\""),
            ("select K, t.k, K, u.k", "SELECT K, t.k AS \"k (again 1)\", K AS \"k (again 2)\", u.k AS \"k (again 3)\""),
            ("select a.k, b.k, a.k", "SELECT a.k, b.k, a.k AS \"k (again 1)\""),
            ("select a.k, b.x as k, k.k", "SELECT a.k, b.x AS \"k (again 1)\", k.k"),
            ("select f(a.k) as k, a.k", "SELECT f(a.k) AS k, a.k AS \"k (again 1)\""),
            (
                "select exists (select 1), exists (select 2)",
                "SELECT EXISTS (SELECT 1), EXISTS (SELECT 2) AS \"EXISTS (SELECT 2) (again 1)\"",
            ),
            (
                "select cast(b as int), b::text, b from t",
                "SELECT CAST(b AS INT), b::TEXT AS \"b::TEXT (again 1)\", b AS \"b (again 1)\" FROM t",
            ),
            ("select a as x, b as y, a, b from t", "SELECT a AS x, b AS y, a, b FROM t"),
        ] {
            assert_eq!(apart(sql), expected);
        }
    }

    #[test]
    fn what_the_planner_refused_gets_other_names() {
        for (sql, expected) in [
            ("select *, a.k", "SELECT *, a.k AS \"k (again 1)\""),
            ("select a, f(x, 1), x || 1", "SELECT a, f(x, 1) AS \"f(x, 1) (again 1)\", x || 1 AS \"x || 1 (again 1)\""),
            ("select a, b.c, d as e", "SELECT a, b.c, d AS e"),
        ] {
            let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
            let changes = anything(&mut statement);
            assert_eq!((statement.to_string().as_str(), changes), (expected, sql.contains(['*', 'f'])), "{sql}");
        }
    }

    #[test]
    fn casts_that_tell_aggregates_apart_get_names() {
        assert_eq!(
            apart("select max(x), max(x::real), x::real from t having max(x::real) > 2 order by max(x::real)"),
            "SELECT max(x), max(windlass_cast(x::REAL, 'x::REAL')) AS \"max(x::REAL)\", \
             windlass_cast(x::REAL, 'x::REAL') AS \"x::REAL\" FROM t HAVING max(windlass_cast(x::REAL, 'x::REAL')) > 2 \
             ORDER BY max(windlass_cast(x::REAL, 'x::REAL'))"
        );
        let alone = "SELECT max(x::REAL), x::REAL FROM t";
        assert_eq!(apart(alone), alone);
    }
}
