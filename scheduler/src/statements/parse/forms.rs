//! Rewrites expressions that the planner misunderstands into forms that it understands.
//!
//! ```text
//!   (a, b) < (c, d)              a < c OR (a = c AND b < d)
//!   (a, b) IN ((c, d), …)        a = c AND b = d OR …
//!   (a, b) IS NULL               a IS NULL AND b IS NULL; ROW(a, b) is the same as (a, b)
//!   (a, b) IN (SELECT …)         EXISTS (SELECT 1 FROM (SELECT …) q(c, d) WHERE a = c AND b = d), or NULL: see rows.rs
//!   x = ANY (ARRAY[a, b])        x IN (a, b); of another array a function that knows NULLs
//!   ARRAY(SELECT …)              (SELECT coalesce(array_agg(…), …) FROM (SELECT …))
//!   x LIKE p ESCAPE '!'          x LIKE p, with backslashes in the pattern instead
//!   x SIMILAR TO p               x ~ p, as a regular expression; so is x RLIKE p
//!   TIMESTAMP '… 10:00+02'       TIMESTAMP '… 10:00:00'
//!   INTERVAL '1-2'               INTERVAL '14 months 0 days 0 nanoseconds'
//!   CAST(x AS TIME(2))           a function that rounds
//!   x AT TIME ZONE z             a function that knows local times and instants
//!   SET TIME ZONE 'UTC'          SET TIMEZONE = 'UTC'
//! ```

use super::balance::tree;
use super::dialect::call;
use super::rows;
use super::walk::{everywhere, outside_of_queries, same_name, taken};
use crate::errors::QueryError;
use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, Array, BinaryOperator, CastKind, DataType, DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArguments, Ident, ObjectName, OrderByExpr, OrderByKind, Query, Select, SelectItem,
    Set, SetExpr, TableFactor, TimezoneInfo, TypedString, Value, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use std::ops::ControlFlow;
use windlass_engine::{interval_in_parts, timestamp_in_full};

/// Rewrites `statement` in place. Errors: comparisons of rows of different lengths, and expressions without such a form.
pub(super) fn rewrite(state: &SessionState, statement: &mut Statement) -> Result<(), QueryError> {
    set_time_zone(statement)?;
    let has_zone = state.config_options().execution.time_zone.is_some();
    everywhere(statement, &mut Forms { has_zone, state }).map_or(Ok(()), Err)
}

struct Forms<'a> {
    state: &'a SessionState,
    /// Whether the session has a time zone. Without one, now() and to_timestamp() return UTC in a type without a time zone.
    has_zone: bool,
}

impl VisitorMut for Forms<'_> {
    type Break = QueryError;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<QueryError> {
        if let Some(condition) = &mut select.selection
            && let Err(error) = rows::conditions(condition, self.state)
        {
            return ControlFlow::Break(error);
        }
        for item in &mut select.projection {
            let SelectItem::UnnamedExpr(expr) = item else { continue };
            let mut expr = taken(expr);
            let changes = outside_of_queries(&mut expr, |part| match is_changed(part) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            });
            // A column is named by its text as written.
            *item = match changes.is_break() {
                true => SelectItem::ExprWithAlias { alias: Ident::with_quote('"', expr.to_string()), expr },
                false => SelectItem::UnnamedExpr(expr),
            };
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
        match self.changed(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

impl Forms<'_> {
    fn changed(&self, expr: &mut Expr) -> Result<(), QueryError> {
        if let Some(rows) = of_rows(expr)? {
            *expr = rows;
            return Ok(());
        }
        if let Some(rows) = rows::beside_query(expr, self.state)? {
            *expr = rows;
            return Ok(());
        }
        match expr {
            Expr::AnyOp { left, compare_op, right, .. } if !is_query(right) => {
                let (left, right) = (taken(left), taken(right));
                *expr = any(left, compare_op, right)?;
            }
            Expr::AllOp { left, compare_op, right } if !is_query(right) => {
                let op = text(&compare_op.to_string());
                *expr = call("windlass_all", vec![taken(left), taken(right), op]);
            }
            Expr::Like { any: false, pattern, escape_char: escape @ Some(_), .. }
            | Expr::ILike { any: false, pattern, escape_char: escape @ Some(_), .. } => {
                let mut args = vec![as_text(taken(pattern))];
                args.extend(escape.take().map(|escape| as_text(Expr::Value(escape))));
                **pattern = call("windlass_like_pattern", args);
            }
            Expr::SimilarTo { negated, expr: of, pattern, escape_char } => {
                let mut args = vec![as_text(taken(pattern))];
                args.extend(escape_char.take().map(|escape| as_text(Expr::Value(escape))));
                let op = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
                *expr = nested(binary(apart(taken(of)), op, call("windlass_similar_pattern", args)));
            }
            Expr::RLike { negated, expr: of, pattern, .. } => {
                let op = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
                *expr = nested(binary(apart(taken(of)), op, apart(taken(pattern))));
            }
            Expr::Value(value) => {
                if let Value::UnicodeStringLiteral(written) = &mut value.value {
                    value.value = Value::SingleQuotedString(std::mem::take(written));
                }
            }
            Expr::Function(Function { name, args: FunctionArguments::Subquery(query), .. }) => {
                if !name.to_string().eq_ignore_ascii_case("array") {
                    return Err(QueryError::Unsupported(format!(
                        "a subquery as the argument of {name}() is not supported: put it in parentheses of its own, {name}((SELECT …))"
                    )));
                }
                // The parentheses matter: ANY (ARRAY(SELECT …)) is about the elements of a value.
                *expr = nested(array_of(query.as_mut().clone())?);
            }
            Expr::AtTimeZone { timestamp, time_zone } => {
                let (mut time, zone) = (taken(timestamp), taken(time_zone));
                if !self.has_zone && is_instant(&time) {
                    time = call("arrow_cast", vec![time, text("Timestamp(Nanosecond, Some(\"UTC\"))")]);
                }
                *expr = call("windlass_at_time_zone", vec![time, zone]);
            }
            Expr::TypedString(TypedString { data_type, value, .. }) => {
                as_written(data_type, &mut value.value);
                as_digits(data_type, &mut value.value);
                if let Some(digits) = without_digits(data_type) {
                    *expr = call("windlass_time_digits", vec![taken(expr), digits]);
                }
            }
            Expr::Cast { kind, expr: of, data_type, .. } => {
                if let Expr::Value(value) = of.as_mut() {
                    as_written(data_type, &mut value.value);
                    as_digits(data_type, &mut value.value);
                }
                if matches!(kind, CastKind::Cast | CastKind::DoubleColon)
                    && let Some(digits) = without_digits(data_type)
                {
                    *expr = call("windlass_time_digits", vec![taken(expr), digits]);
                }
            }
            Expr::Interval(interval) => in_parts(interval),
            Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right }
                if is_placeholder(left) && is_placeholder(right) =>
            {
                for side in [left, right] {
                    **side = as_text(taken(side));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether rewriting an expression changes DataFusion's name of it.
fn is_changed(expr: &Expr) -> bool {
    match expr {
        Expr::AnyOp { .. } | Expr::AllOp { .. } | Expr::SimilarTo { .. } | Expr::AtTimeZone { .. } => true,
        Expr::Like { escape_char, .. } | Expr::ILike { escape_char, .. } => escape_char.is_some(),
        Expr::Function(function) => matches!(function.args, FunctionArguments::Subquery(_)),
        Expr::Cast { data_type, .. } | Expr::TypedString(TypedString { data_type, .. }) => has_digits(data_type),
        Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
            is_placeholder(left) && is_placeholder(right)
        }
        Expr::BinaryOp { right, .. } if rows::parts(right).is_some() => true,
        Expr::BinaryOp { left: of, .. }
        | Expr::InSubquery { expr: of, .. }
        | Expr::IsNull(of)
        | Expr::IsNotNull(of)
        | Expr::InList { expr: of, .. }
        | Expr::Between { expr: of, .. }
        | Expr::IsDistinctFrom(of, _)
        | Expr::IsNotDistinctFrom(of, _) => rows::parts(of).is_some(),
        _ => false,
    }
}

fn set_time_zone(statement: &mut Statement) -> Result<(), QueryError> {
    let Statement::Statement(statement) = statement else { return Ok(()) };
    let ast::Statement::Set(set @ Set::SetTimeZone { .. }) = statement.as_mut() else { return Ok(()) };
    let Set::SetTimeZone { local, value } = &set else { return Ok(()) };
    let zone = match value {
        Expr::Identifier(word) if word.quote_style.is_none() => word.value.to_lowercase(),
        Expr::Identifier(word) => word.value.clone(),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(zone) | Value::DoubleQuotedString(zone) => zone.clone(),
            _ => String::new(),
        },
        _ => String::new(),
    };
    if *local || zone.is_empty() || ["local", "default"].contains(&zone.as_str()) {
        return Err(QueryError::Unsupported(
            "of SET TIME ZONE only the name of a zone or an offset is supported, as in SET TIME ZONE 'Europe/Berlin' or '+02:00'; \
             RESET TIMEZONE takes it back"
                .to_string(),
        ));
    }
    *set = Set::SingleAssignment {
        scope: None,
        hivevar: false,
        variable: ObjectName::from(vec![Ident::new("timezone")]),
        values: vec![text(&zone)],
    };
    Ok(())
}

/// Rewrites a comparison of rows as comparisons of their parts.
fn of_rows(expr: &mut Expr) -> Result<Option<Expr>, QueryError> {
    let row = |expr: &Expr| rows::parts(expr);
    Ok(Some(match expr {
        Expr::BinaryOp { left, op, right } => {
            let (Some(left), Some(right)) = (row(left), row(right)) else { return Ok(None) };
            let Some(compared) = compared(op, &pairs(left, right)?) else { return Ok(None) };
            nested(compared)
        }
        Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
            let (Some(l), Some(r)) = (row(left), row(right)) else { return Ok(None) };
            let same = pairs(l, r)?.into_iter().map(|(l, r)| {
                // Without the parentheses, the parser would add what follows to the right side.
                nested(Expr::IsNotDistinctFrom(Box::new(l), Box::new(r)))
            });
            let same = nested(tree(same.collect(), &BinaryOperator::And));
            match expr {
                Expr::IsDistinctFrom(..) => not(same),
                _ => same,
            }
        }
        Expr::IsNull(of) | Expr::IsNotNull(of) => {
            let Some(parts) = row(of) else { return Ok(None) };
            let is_null = matches!(expr, Expr::IsNull(_));
            let parts = parts.into_iter().map(|part| match is_null {
                true => Expr::IsNull(Box::new(part)),
                false => Expr::IsNotNull(Box::new(part)),
            });
            nested(tree(parts.collect(), &BinaryOperator::And))
        }
        Expr::InList { expr: of, list, negated } => {
            let Some(of) = row(of) else { return Ok(None) };
            let Some(list) = list.iter().map(row).collect::<Option<Vec<_>>>() else { return Ok(None) };
            let mut any = Vec::new();
            for listed in list {
                any.extend(compared(&BinaryOperator::Eq, &pairs(of.clone(), listed)?));
            }
            let any = nested(tree(any, &BinaryOperator::Or));
            if *negated { not(any) } else { any }
        }
        Expr::Between { expr: of, low, high, negated } => {
            let (Some(of), Some(low), Some(high)) = (row(of), row(low), row(high)) else { return Ok(None) };
            let from = compared(&BinaryOperator::GtEq, &pairs(of.clone(), low)?);
            let to = compared(&BinaryOperator::LtEq, &pairs(of, high)?);
            let (Some(from), Some(to)) = (from, to) else { return Ok(None) };
            let within = nested(binary(nested(from), BinaryOperator::And, nested(to)));
            if *negated { not(within) } else { within }
        }
        _ => return Ok(None),
    }))
}

fn pairs(left: Vec<Expr>, right: Vec<Expr>) -> Result<Vec<(Expr, Expr)>, QueryError> {
    match left.len() == right.len() {
        true => Ok(left.into_iter().zip(right).collect()),
        false => Err(QueryError::Invalid(format!(
            "a row of {} values is compared with one of {}: rows that are compared have as many values",
            left.len(),
            right.len()
        ))),
    }
}

/// Compares rows as the standard does: the first parts that differ decide, and a NULL before them makes the result unknown.
pub(super) fn compared(op: &BinaryOperator, pairs: &[(Expr, Expr)]) -> Option<Expr> {
    let each = |op: &BinaryOperator| {
        let parts = pairs.iter().map(|(l, r)| binary(l.clone(), op.clone(), r.clone()));
        parts.collect::<Vec<_>>()
    };
    let strict = match op {
        BinaryOperator::Eq => return Some(tree(each(op), &BinaryOperator::And)),
        BinaryOperator::NotEq => return Some(tree(each(op), &BinaryOperator::Or)),
        BinaryOperator::Lt | BinaryOperator::LtEq => BinaryOperator::Lt,
        BinaryOperator::Gt | BinaryOperator::GtEq => BinaryOperator::Gt,
        _ => return None,
    };
    let ((l, r), before) = pairs.split_last()?;
    let last = binary(l.clone(), op.clone(), r.clone());
    Some(before.iter().rev().fold(last, |rest, (l, r)| {
        let equal = binary(l.clone(), BinaryOperator::Eq, r.clone());
        let further = nested(binary(equal, BinaryOperator::And, nested(rest)));
        binary(binary(l.clone(), strict.clone(), r.clone()), BinaryOperator::Or, further)
    }))
}

fn any(left: Expr, op: &BinaryOperator, right: Expr) -> Result<Expr, QueryError> {
    let plain = |elem: &Expr| !matches!(elem, Expr::Array(_) | Expr::Tuple(_));
    match right {
        Expr::Array(Array { elem, .. }) if *op == BinaryOperator::Eq && !elem.is_empty() && elem.iter().all(plain) => {
            Ok(nested(Expr::InList { expr: Box::new(apart(left)), list: elem, negated: false }))
        }
        right => Ok(call("windlass_any", vec![left, right, text(&op.to_string())])),
    }
}

/// Returns the array of the rows of `query`, in their order.
fn array_of(mut query: Query) -> Result<Expr, QueryError> {
    let failed = |why: &str| QueryError::Internal(format!("an array of a query: {why}"));
    let mut sorts = Vec::new();
    if let Some(order) = &query.order_by {
        let OrderByKind::Expressions(keys) = &order.kind else {
            return Err(QueryError::Unsupported(
                "ORDER BY ALL in ARRAY(SELECT …) is not supported: name the columns".to_string(),
            ));
        };
        let keys = keys.clone();
        for (at, key) in keys.into_iter().enumerate() {
            let column = match query.body.as_mut() {
                SetExpr::Select(select) if select.distinct.is_none() && !is_value(select, &key.expr) => {
                    let name = format!("__by{at}");
                    let alias = Ident::with_quote('"', name.clone());
                    select.projection.push(SelectItem::ExprWithAlias { expr: key.expr.clone(), alias });
                    name
                }
                _ => "__value".to_string(),
            };
            sorts.push(OrderByExpr { expr: Expr::Identifier(Ident::with_quote('"', column)), ..key });
        }
    }
    if query.limit_clause.is_none() && query.fetch.is_none() {
        query.order_by = None;
    }
    let columns: Vec<String> = std::iter::once("\"__value\"".to_string())
        .chain(sorts.iter().map(|sort| sort.expr.to_string()).filter(|name| name != "\"__value\""))
        .collect();
    let sql =
        format!("SELECT windlass_array(array_agg(\"__value\")) FROM (SELECT 1) AS __rows({})", columns.join(", "));
    let mut parsed = Parser::parse_sql(&GenericDialect {}, &sql).map_err(|error| failed(&error.to_string()))?;
    let Some(ast::Statement::Query(mut outer)) = parsed.pop() else { return Err(failed("no query")) };
    let SetExpr::Select(select) = outer.body.as_mut() else { return Err(failed("no SELECT")) };
    if let Some(from) = select.from.first_mut()
        && let TableFactor::Derived { subquery, .. } = &mut from.relation
    {
        **subquery = query;
    }
    if !sorts.is_empty() {
        let Some(SelectItem::UnnamedExpr(Expr::Function(whole))) = select.projection.first_mut() else {
            return Err(failed("no function"));
        };
        if let FunctionArguments::List(list) = &mut whole.args
            && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(agg)))) = list.args.first_mut()
            && let FunctionArguments::List(list) = &mut agg.args
        {
            list.clauses.push(FunctionArgumentClause::OrderBy(sorts));
        }
    }
    Ok(Expr::Subquery(outer))
}

/// Whether ORDER BY refers to the one column of a SELECT by number, by alias or by its expression.
fn is_value(select: &Select, key: &Expr) -> bool {
    let by_number =
        matches!(key, Expr::Value(value) if matches!(&value.value, Value::Number(number, _) if number == "1"));
    by_number
        || match select.projection.first() {
            Some(SelectItem::UnnamedExpr(expr)) => expr == key,
            Some(SelectItem::ExprWithAlias { expr, alias }) => {
                expr == key || matches!(key, Expr::Identifier(name) if same_name(name, alias))
            }
            _ => false,
        }
}

/// Whether an expression is an instant in UTC whose type has no time zone.
fn is_instant(expr: &Expr) -> bool {
    match expr {
        Expr::Function(function) => {
            let name = function.name.to_string().to_lowercase();
            ["now", "current_timestamp", "transaction_timestamp", "from_unixtime"].contains(&name.as_str())
                || name.starts_with("to_timestamp")
        }
        Expr::Nested(of) => is_instant(of),
        Expr::BinaryOp { left, op: BinaryOperator::Plus | BinaryOperator::Minus, .. } => is_instant(left),
        _ => false,
    }
}

/// Removes the fractional digits from a time type that the planner lacks, and returns them. The remaining type has room for as many.
fn without_digits(data_type: &mut DataType) -> Option<Expr> {
    let digits = match data_type {
        DataType::Time(digits @ Some(0..=6), TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => digits.take()?,
        DataType::Timestamp(digits @ Some(1 | 2 | 4 | 5), _) => digits.replace(6)?,
        _ => return None,
    };
    Some(Expr::value(Value::Number(digits.to_string(), false)))
}

/// Whether [`without_digits`] would change the type.
fn has_digits(data_type: &DataType) -> bool {
    without_digits(&mut data_type.clone()).is_some()
}

/// Writes a timestamp literal in full, as the planner folds it, in arguments of table functions.
fn as_written(data_type: &DataType, value: &mut Value) {
    let (DataType::Timestamp(_, zone), Value::SingleQuotedString(written)) = (data_type, value) else { return };
    let keeps_zone = matches!(zone, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz);
    if let Some(full) = timestamp_in_full(written, keeps_zone) {
        *written = full;
    }
}

/// Rewrites an interval in words that the planner reads: `1 day 02:00`, `1-2`, and `1:30` HOUR TO MINUTE.
fn in_parts(interval: &mut ast::Interval) {
    let Expr::Value(value) = interval.value.as_mut() else { return };
    let Value::SingleQuotedString(written) = &mut value.value else { return };
    let text = match (&interval.leading_field, &interval.last_field) {
        // The number means seconds or, in a window frame, rows.
        (None, None) if written.parse::<f64>().is_ok() => return,
        (None, None) => written.clone(),
        // With one field, the planner takes a number.
        (Some(_), None) | (None, Some(_)) => return,
        (Some(first), Some(last)) => {
            let numbers: Vec<&str> = written.split_whitespace().collect();
            let is_number = |text: &str| text.parse::<f64>().is_ok();
            match (numbers.as_slice(), last) {
                ([number], last) if is_number(number) => format!("{number} {last}"),
                ([days, hours], DateTimeField::Hour) if is_number(days) && is_number(hours) => {
                    format!("{days} {first} {hours} {last}")
                }
                // MINUTE TO SECOND has no hours.
                ([time], DateTimeField::Second)
                    if *first == DateTimeField::Minute && time.matches(':').count() == 1 =>
                {
                    match time.strip_prefix('-') {
                        Some(time) => format!("-0:{time}"),
                        None => format!("0:{time}"),
                    }
                }
                _ => written.clone(),
            }
        }
    };
    if let Some(parts) = interval_in_parts(&text) {
        *written = parts;
        (interval.leading_field, interval.last_field) = (None, None);
    }
}

/// Writes a decimal literal with an exponent as its digits.
fn as_digits(data_type: &DataType, value: &mut Value) {
    let (DataType::Numeric(_) | DataType::Decimal(_) | DataType::Dec(_), Value::SingleQuotedString(written)) =
        (data_type, value)
    else {
        return;
    };
    let Some((number, exponent)) = written.trim().split_once(['e', 'E']) else { return };
    let (sign, number) = match number.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let are_digits = |text: &str| text.bytes().all(|letter| letter.is_ascii_digit());
    // No decimal has more digits.
    let Some(exponent) = exponent.parse::<i16>().ok().filter(|exponent| exponent.unsigned_abs() <= 100) else { return };
    if !are_digits(whole) || !are_digits(fraction) || whole.len() + fraction.len() == 0 {
        return;
    }
    let point = whole.len() as i16 + exponent;
    let mut digits = format!("{}{whole}{fraction}", "0".repeat((1 - point).max(0) as usize));
    let point = point.max(1) as usize;
    digits.push_str(&"0".repeat(point.saturating_sub(digits.len())));
    digits.insert(point, '.');
    *written = format!("{sign}{}", digits.trim_end_matches('.'));
}

fn is_query(expr: &Expr) -> bool {
    matches!(expr, Expr::Subquery(_))
}

fn is_placeholder(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::Placeholder(_)))
}

/// Gives a parameter a type, which the planner cannot infer from where it stands.
fn as_text(expr: Expr) -> Expr {
    if is_placeholder(&expr) { call("arrow_cast", vec![expr, text("Utf8")]) } else { expr }
}

pub(super) fn nested(expr: Expr) -> Expr {
    Expr::Nested(Box::new(expr))
}

/// Puts `expr` in parentheses unless it needs none beside any operator. A view is stored as text.
pub(super) fn apart(expr: Expr) -> Expr {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_) | Expr::Function(_) | Expr::Nested(_) => {
            expr
        }
        other => nested(other),
    }
}

pub(super) fn not(expr: Expr) -> Expr {
    Expr::UnaryOp { op: ast::UnaryOperator::Not, expr: Box::new(expr) }
}

pub(super) fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn text(value: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exponent_moves_the_point() {
        let numeric = DataType::Numeric(ast::ExactNumberInfo::None);
        for (written, expected) in [
            ("1e3", "1000"),
            (" -1.25E1 ", "-12.5"),
            ("1.25e-1", "0.125"),
            ("125e-5", "0.00125"),
            (".5e1", "5"),
            ("+12e-2", "0.12"),
            ("1e", "1e"),
            ("1.5", "1.5"),
            ("e5", "e5"),
        ] {
            let mut value = Value::SingleQuotedString(written.to_string());
            as_digits(&numeric, &mut value);
            assert_eq!(value, Value::SingleQuotedString(expected.to_string()), "{written}");
        }
    }
}
