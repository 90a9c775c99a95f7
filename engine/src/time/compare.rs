//! Comparisons of times of different types, in a unit in which both have a value.
//!
//! DataFusion converts both to nanoseconds, which end in 2262: `until = '9999-12-31'` fails, as do comparisons of dates and of timestamps of other units with
//! those of nanoseconds. It also compares a date with the UTC digits of an instant.
//!
//! A value known at planning is converted to the other side's type, rounded down where that type is coarser, with an equivalent operator. Columns of two
//! types are compared in microseconds, rounded in the direction that the operator needs.

use super::nanos::nanoseconds;
use super::unit::{in_unit, nanos_of, per_second};
use super::zone::Zone;
use arrow::array::types::IntervalMonthDayNano;
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use chrono::{DateTime, NaiveDateTime};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Between, BinaryExpr, Case, Cast, InList, InSubquery, ScalarFunction};
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, Projection, lit};
use std::sync::Arc;

type ZoneName = Option<Arc<str>>;

/// Functions whose arguments all have one type.
const OF_ONE_TYPE: [&str; 7] = ["coalesce", "nvl", "ifnull", "nvl2", "nullif", "greatest", "least"];

/// Whether [`rewrite`] may change the expression.
pub(super) fn concerns(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(binary) => is_comparison(binary.op) || matches!(binary.op, Operator::Plus | Operator::Minus),
        Expr::ScalarFunction(function) => OF_ONE_TYPE.contains(&function.name()),
        Expr::Between(_) | Expr::InList(_) | Expr::InSubquery(_) | Expr::Case(_) => true,
        _ => false,
    }
}

/// The time of day in which those of all units have a value.
pub(super) const TIME_OF_DAY: DataType = DataType::Time64(TimeUnit::Nanosecond);

pub(super) fn is_time_of_day(of: &DataType) -> bool {
    matches!(of, DataType::Time32(_) | DataType::Time64(_))
}

/// Rewrites the root of `expr`; its children are already rewritten.
pub(super) fn rewrite(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(binary) if is_comparison(binary.op) => {
            Ok(changed(comparison(&binary.left, binary.op, &binary.right, schema), Expr::BinaryExpr(binary)))
        }
        Expr::BinaryExpr(binary) if super::interval::is_date_and_hours(&binary, schema) => {
            Ok(Transformed::yes(super::interval::of_timestamp(binary, schema)))
        }
        Expr::BinaryExpr(binary) if binary.op == Operator::Minus => {
            Ok(changed(difference(&binary, schema), Expr::BinaryExpr(binary)))
        }
        Expr::Between(between) => Ok(changed(bounds(&between, schema)?, Expr::Between(between))),
        Expr::InList(list) => Ok(changed(members(&list, schema), Expr::InList(list))),
        Expr::InSubquery(within) => among(within, schema),
        Expr::ScalarFunction(function) if OF_ONE_TYPE.contains(&function.name()) => {
            let args = of_one_type(function.args.iter(), schema);
            let call = |args| Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&function.func), args));
            Ok(changed(args.map(call), Expr::ScalarFunction(function)))
        }
        Expr::Case(case) => Ok(changed(branches(&case, schema), Expr::Case(case))),
        other => Ok(Transformed::no(other)),
    }
}

fn changed(new: Option<Expr>, old: Expr) -> Transformed<Expr> {
    new.map_or_else(|| Transformed::no(old), Transformed::yes)
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn swapped(op: Operator) -> Operator {
    op.swap().unwrap_or(op)
}

fn comparison(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> Option<Expr> {
    let (of_left, of_right) = (left.get_type(schema).ok()?, right.get_type(schema).ok()?);
    if of_left == of_right {
        return None;
    }
    let is_span = |of: &DataType| matches!(of, DataType::Interval(_) | DataType::Duration(_));
    if is_span(&of_left) && is_written(right) || is_span(&of_right) && is_written(left) {
        let [left, right] = <[Expr; 2]>::try_from(of_one_type([left, right].into_iter(), schema)?).ok()?;
        return Some(binary(left, op, right));
    }
    if is_time_of_day(&of_left) && is_time_of_day(&of_right) {
        return Some(binary(cast(left, TIME_OF_DAY), op, cast(right, TIME_OF_DAY)));
    }
    one_way((left, &of_left), op, (right, &of_right))
        .or_else(|| one_way((right, &of_right), swapped(op), (left, &of_left)))
}

/// Rewrites `time op other`, where `time` is a timestamp.
fn one_way((time, of_time): (&Expr, &DataType), op: Operator, (other, of_other): (&Expr, &DataType)) -> Option<Expr> {
    let DataType::Timestamp(unit, zone) = of_time else { return None };
    if let Some(nanos) = known(other, zone) {
        return Some(with_known(time, op, nanos, *unit, zone));
    }
    let to = |expr: &Expr, unit, zone: &ZoneName| cast(expr, DataType::Timestamp(unit, zone.clone()));
    let fine = *unit == TimeUnit::Nanosecond;
    match of_other {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View if !fine => {
            let micros = TimeUnit::Microsecond;
            Some(binary(to(time, micros, zone), op, to(other, micros, zone)))
        }
        DataType::Date32 | DataType::Date64 if !fine => Some(binary(time.clone(), op, to(other, *unit, zone))),
        DataType::Date32 | DataType::Date64 => match in_micros(time, op, zone) {
            Some(time) => Some(binary(time, op, to(other, TimeUnit::Microsecond, zone))),
            None => Some(binary(time.clone(), op, nanoseconds(to(other, TimeUnit::Microsecond, zone)))),
        },
        DataType::Timestamp(other_unit, other_zone) if fine && *other_unit != *unit => {
            match in_micros(time, op, zone) {
                Some(time) => Some(binary(time, op, to(other, TimeUnit::Microsecond, other_zone))),
                None => Some(binary(time.clone(), op, nanoseconds(other.clone()))),
            }
        }
        _ => None,
    }
}

/// Converts a time of nanoseconds to microseconds such that it compares in the same way with times of microseconds. `None`: the operator needs the exact
/// nanosecond.
fn in_micros(time: &Expr, op: Operator, zone: &ZoneName) -> Option<Expr> {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
    if is_constant(time) {
        // For example now(), whose nanoseconds do not matter.
        return Some(cast(time, micros));
    }
    let down = |time: Expr| cast(&super::trunc::to_microseconds(time), micros.clone());
    match op {
        Operator::GtEq | Operator::Lt => Some(down(time.clone())),
        Operator::Gt | Operator::LtEq => {
            let rest = ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, 0, 999)));
            Some(down(binary(time.clone(), Operator::Plus, lit(rest))))
        }
        _ => None,
    }
}

/// Whether the expression has one value for all rows.
fn is_constant(expr: &Expr) -> bool {
    use datafusion::common::tree_node::TreeNode;
    let varies = |expr: &Expr| {
        Ok(matches!(
            expr,
            Expr::Column(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::ScalarSubquery(_)
                | Expr::AggregateFunction(_)
                | Expr::WindowFunction(_)
                | Expr::Lambda(_)
                | Expr::LambdaVariable(_)
        ))
    };
    !expr.exists(varies).unwrap_or(true)
}

/// `time op nanos`, with `nanos` as a value of the type of `time`.
fn with_known(time: &Expr, op: Operator, nanos: i128, unit: TimeUnit, zone: &ZoneName) -> Expr {
    let value = |value| lit(timestamp(value, unit, zone));
    let step = 1_000_000_000 / i128::from(per_second(unit));
    match in_unit(nanos, unit) {
        Some(exact) if nanos.rem_euclid(step) == 0 => binary(time.clone(), op, value(exact)),
        // Between two values of the type, or outside its range.
        below => {
            let is_low = below.is_none() && nanos < 0;
            let never = || binary(time.clone(), Operator::Lt, value(i64::MIN));
            let always = || binary(time.clone(), Operator::GtEq, value(i64::MIN));
            match op {
                Operator::IsDistinctFrom => lit(true),
                Operator::IsNotDistinctFrom => lit(false),
                Operator::NotEq => always(),
                Operator::Lt | Operator::LtEq if is_low => never(),
                Operator::Gt | Operator::GtEq if is_low => always(),
                Operator::Lt | Operator::LtEq => binary(time.clone(), Operator::LtEq, value(below.unwrap_or(i64::MAX))),
                Operator::Gt | Operator::GtEq => binary(time.clone(), Operator::Gt, value(below.unwrap_or(i64::MAX))),
                _ => never(),
            }
        }
    }
}

/// A time or a text written in the statement, in nanoseconds since 1970: as an instant if `zone` names a zone, else as local digits.
fn known(expr: &Expr, zone: &ZoneName) -> Option<i128> {
    match expr {
        Expr::Literal(value, _) => known_value(value, zone),
        Expr::Cast(Cast { expr, field }) => {
            let Expr::Literal(text, _) = expr.as_ref() else { return None };
            let text = text.try_as_str()??;
            match field.data_type() {
                DataType::Date32 => local(midnight(i64::from(super::read::date(text).ok()?))?, zone),
                DataType::Timestamp(unit, of) => {
                    let time = written(text, of)?;
                    let step = 1_000_000_000 / i128::from(per_second(*unit));
                    as_of(time - time.rem_euclid(step), of, zone)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// A text as an instant if `zone` names a zone, else as local digits.
fn written(text: &str, zone: &ZoneName) -> Option<i128> {
    let written = super::read::written(text)?;
    Some(nanos_of(match zone {
        Some(zone) => written.utc(&zone.parse().ok()?),
        None => written.local,
    }))
}

fn known_value(value: &ScalarValue, zone: &ZoneName) -> Option<i128> {
    let (value, unit, of) = match value {
        ScalarValue::Date32(Some(days)) => return local(midnight(i64::from(*days))?, zone),
        ScalarValue::TimestampSecond(Some(value), of) => (value, TimeUnit::Second, of),
        ScalarValue::TimestampMillisecond(Some(value), of) => (value, TimeUnit::Millisecond, of),
        ScalarValue::TimestampMicrosecond(Some(value), of) => (value, TimeUnit::Microsecond, of),
        ScalarValue::TimestampNanosecond(Some(value), of) => (value, TimeUnit::Nanosecond, of),
        text => {
            let text = text.try_as_str()??;
            return written(text, zone);
        }
    };
    as_of(i128::from(*value) * (1_000_000_000 / i128::from(per_second(unit))), of, zone)
}

/// Converts a timestamp of the zone `of` to one of `zone`. `None`: local digits cannot stand for an instant.
fn as_of(nanos: i128, of: &ZoneName, zone: &ZoneName) -> Option<i128> {
    match (of, zone) {
        (Some(_), None) => None,
        (None, Some(_)) => {
            let time = DateTime::from_timestamp(i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?, 0)?.naive_utc();
            Some(local(time, zone)? + nanos.rem_euclid(1_000_000_000))
        }
        _ => Some(nanos),
    }
}

fn local(time: NaiveDateTime, zone: &ZoneName) -> Option<i128> {
    let offset = match zone {
        Some(zone) => zone.parse::<Zone>().ok()?.offset_of(&time),
        None => 0,
    };
    Some(nanos_of(time) - i128::from(offset) * 1_000_000_000)
}

fn midnight(days: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp(days.checked_mul(86_400)?, 0).map(|time| time.naive_utc())
}

fn bounds(between: &Between, schema: &DFSchema) -> Result<Option<Expr>> {
    let of = |expr: &Expr| expr.get_type(schema).ok();
    let types = [of(&between.expr), of(&between.low), of(&between.high)];
    let any_written = is_written(&between.low) || is_written(&between.high);
    if any_written && matches!(types[0], Some(DataType::Interval(_) | DataType::Duration(_))) {
        let parts = [between.expr.as_ref(), between.low.as_ref(), between.high.as_ref()];
        let parts = of_one_type(parts.into_iter(), schema).and_then(|parts| <[Expr; 3]>::try_from(parts).ok());
        return Ok(parts.map(|parts| {
            let [expr, low, high] = parts.map(Box::new);
            Expr::Between(Between::new(expr, between.negated, low, high))
        }));
    }
    let is_time = |of: &DataType| matches!(of, DataType::Timestamp(..)) || is_time_of_day(of);
    let is_time = types.iter().flatten().any(is_time);
    if !is_time || types.iter().all(|data_type| *data_type == types[0]) || between.expr.is_volatile() {
        return Ok(None);
    }
    let low = binary(between.expr.as_ref().clone(), Operator::GtEq, between.low.as_ref().clone());
    let high = binary(between.expr.as_ref().clone(), Operator::LtEq, between.high.as_ref().clone());
    let within = rewrite(low, schema)?.data.and(rewrite(high, schema)?.data);
    Ok(Some(if between.negated { Expr::Not(Box::new(within)) } else { within }))
}

/// Rewrites the list to values of the type. A member that is no value of the type is left out, since it never matches.
fn members(list: &InList, schema: &DFSchema) -> Option<Expr> {
    let DataType::Timestamp(unit, zone) = list.expr.get_type(schema).ok()? else {
        let mut all = of_one_type(std::iter::once(list.expr.as_ref()).chain(&list.list), schema)?;
        let members = all.split_off(1);
        return Some(Expr::InList(InList::new(Box::new(all.pop()?), members, list.negated)));
    };
    let step = 1_000_000_000 / i128::from(per_second(unit));
    let of_type = DataType::Timestamp(unit, zone.clone());
    if list.list.iter().all(|member| member.get_type(schema).is_ok_and(|member| member == of_type)) {
        return None;
    }
    let members = list.list.iter().filter_map(|member| match known(member, &zone) {
        Some(nanos) if nanos.rem_euclid(step) != 0 => None,
        Some(nanos) => in_unit(nanos, unit).map(|value| lit(timestamp(value, unit, &zone))),
        None => Some(member.clone()),
    });
    let members: Vec<Expr> = members.collect();
    if members.is_empty() {
        let never = if list.negated { Operator::GtEq } else { Operator::Lt };
        return Some(binary(list.expr.as_ref().clone(), never, lit(timestamp(i64::MIN, unit, &zone))));
    }
    Some(Expr::InList(InList::new(list.expr.clone(), members, list.negated)))
}

/// Rewrites IN with a subquery of times of another type.
fn among(mut within: InSubquery, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Ok(of_time) = within.expr.get_type(schema) else { return Ok(Transformed::no(Expr::InSubquery(within))) };
    let schema = Arc::clone(within.subquery.subquery.schema());
    let (relation, field) = schema.qualified_field(0);
    let column = Expr::Column(Column::new(relation.cloned(), field.name()));
    let (ours, theirs) =
        (beside(&within.expr, &of_time, field.data_type()), beside(&column, field.data_type(), &of_time));
    if ours.is_none() && theirs.is_none() {
        return Ok(Transformed::no(Expr::InSubquery(within)));
    }
    if let Some(ours) = ours {
        *within.expr = ours;
    }
    if let Some(theirs) = theirs {
        let named = theirs.alias_qualified(relation.cloned(), field.name());
        let subquery = Projection::try_new(vec![named], Arc::clone(&within.subquery.subquery))?;
        within.subquery.subquery = Arc::new(LogicalPlan::Projection(subquery));
    }
    Ok(Transformed::yes(Expr::InSubquery(within)))
}

/// Casts a time such that it can be compared with one of the type `other`. `None`: it can, or the other one is cast.
fn beside(time: &Expr, of_time: &DataType, other: &DataType) -> Option<Expr> {
    if is_time_of_day(of_time) && is_time_of_day(other) {
        return (of_time != other).then(|| cast(time, TIME_OF_DAY));
    }
    let DataType::Timestamp(unit, zone) = other else { return None };
    if *unit != TimeUnit::Nanosecond {
        let is_date = matches!(of_time, DataType::Date32 | DataType::Date64);
        return is_date.then(|| cast(time, other.clone()));
    }
    match of_time {
        DataType::Date32 | DataType::Date64 => {
            Some(nanoseconds(cast(time, DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))))
        }
        DataType::Timestamp(unit, _) if *unit != TimeUnit::Nanosecond => Some(nanoseconds(time.clone())),
        _ => None,
    }
}

/// Rewrites a difference between a known timestamp and one of a coarser unit.
fn difference(minus: &BinaryExpr, schema: &DFSchema) -> Option<Expr> {
    let sides = of_one_type([minus.left.as_ref(), minus.right.as_ref()].into_iter(), schema)?;
    let are_times = sides.iter().all(|side| matches!(side.get_type(schema), Ok(DataType::Timestamp(..))));
    let [left, right] = <[Expr; 2]>::try_from(sides).ok()?;
    are_times.then(|| binary(left, Operator::Minus, right))
}

/// Gives the results of a CASE one type, and its operand and the values compared with it one type.
fn branches(case: &Case, schema: &DFSchema) -> Option<Expr> {
    let values = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
    let values = of_one_type(values.chain(case.else_expr.as_deref()), schema);
    let asked = case.expr.as_deref().and_then(|asked| {
        let answers = case.when_then_expr.iter().map(|(when, _)| when.as_ref());
        of_one_type(std::iter::once(asked).chain(answers), schema)
    });
    if values.is_none() && asked.is_none() {
        return None;
    }
    let mut case = case.clone();
    if let Some(values) = values {
        let mut values = values.into_iter();
        for (_, then) in &mut case.when_then_expr {
            **then = values.next()?;
        }
        if case.else_expr.is_some() {
            case.else_expr = Some(Box::new(values.next()?));
        }
    }
    if let Some(asked) = asked {
        let mut asked = asked.into_iter();
        case.expr = Some(Box::new(asked.next()?));
        for (when, _) in &mut case.when_then_expr {
            **when = asked.next()?;
        }
    }
    Some(Expr::Case(case))
}

/// Casts dates and times to one type: text written in the statement takes the type of the others, and dates beside timestamps become timestamps of a unit in
/// which all have a value. `None`: nothing changes.
fn of_one_type<'a>(exprs: impl Iterator<Item = &'a Expr>, schema: &DFSchema) -> Option<Vec<Expr>> {
    let typed = exprs.map(|expr| expr.get_type(schema).map(|of| (expr, of)));
    let typed: Vec<(&Expr, DataType)> = typed.collect::<Result<_>>().ok()?;
    let to = one_type(&typed)?;
    if typed.iter().all(|(_, of)| *of == to) {
        return None;
    }
    // If a text cannot be read as the type, all stay texts.
    let is_readable = |expr: &Expr| match (expr, &to) {
        (Expr::Literal(text, _), DataType::Interval(_)) => {
            text.try_as_str().flatten().is_some_and(|text| super::read_interval::interval(text).is_ok())
        }
        (Expr::Literal(text, _), to) if to.is_numeric() || *to == DataType::Boolean => text.cast_to(to).is_ok(),
        (expr, to) => super::cast::cast_literal(expr, to, false).is_some(),
    };
    if typed.iter().any(|(expr, _)| is_written(expr) && !is_readable(expr)) {
        return None;
    }
    Some(typed.iter().map(|(expr, of)| as_type(expr, of, &to)).collect())
}

/// The type that all of them get. `None`: they are not all dates and times, nor all numbers or all booleans beside written texts.
fn one_type(typed: &[(&Expr, DataType)]) -> Option<DataType> {
    let not_written = typed.iter().filter(|(expr, of)| !is_written(expr) && *of != DataType::Null);
    let not_written: Vec<_> = not_written.collect();
    let (_, first) = not_written.first()?;
    let all = |is: fn(&DataType) -> bool| not_written.iter().all(|(_, of)| is(of));
    if all(is_time_of_day) {
        let alike = not_written.iter().all(|(_, of)| of == first);
        return Some(if alike { first.clone() } else { TIME_OF_DAY });
    }
    if all(|of| matches!(of, DataType::Interval(_) | DataType::Duration(_))) {
        let alike = not_written.len() == typed.len() && not_written.iter().all(|(_, of)| of == first);
        return (!alike).then_some(DataType::Interval(IntervalUnit::MonthDayNano));
    }
    if all(|of| *of == DataType::Date32) {
        return Some(DataType::Date32);
    }
    if not_written.len() < typed.len() && (all(DataType::is_numeric) || all(|of| *of == DataType::Boolean)) {
        let types: Vec<DataType> = not_written.iter().map(|(_, of)| of.clone()).collect();
        return type_union_resolution(&types);
    }
    let types: Vec<DataType> = not_written.iter().map(|(_, of)| of.clone()).collect();
    let DataType::Timestamp(any_unit, zone) = common(&types)? else { return None };
    // Known values take the unit of the unknown ones.
    let unknown = not_written.iter().filter(|(expr, _)| known(expr, &zone).is_none());
    let unknown: Vec<DataType> = unknown.map(|(_, of)| of.clone()).collect();
    let values: Vec<i128> = typed.iter().filter_map(|(expr, _)| known(expr, &zone)).collect();
    let fits = |unit: TimeUnit| {
        let step = 1_000_000_000 / i128::from(per_second(unit));
        values.iter().all(|nanos| nanos.rem_euclid(step) == 0 && in_unit(*nanos, unit).is_some())
    };
    let unit = match common(&unknown) {
        Some(DataType::Timestamp(unit, _)) => unit,
        // Dates of any year fit.
        _ if any_unit == TimeUnit::Nanosecond && fits(TimeUnit::Microsecond) => TimeUnit::Microsecond,
        _ => any_unit,
    };
    if fits(unit) {
        return Some(DataType::Timestamp(unit, zone));
    }
    let others = match unit {
        // For years out of the range of nanoseconds.
        TimeUnit::Nanosecond => vec![TimeUnit::Microsecond],
        _ => vec![TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond],
    };
    let is_other = |other: &TimeUnit| per_second(*other) > per_second(unit) || unit == TimeUnit::Nanosecond;
    let better = others.into_iter().filter(is_other).find(|other| fits(*other));
    Some(DataType::Timestamp(better.unwrap_or(unit), zone))
}

/// Whether it is a text written in the statement, which takes its type from the expressions beside it.
fn is_written(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(text, _) if matches!(text.try_as_str(), Some(Some(_))))
}

fn as_type(expr: &Expr, of: &DataType, to: &DataType) -> Expr {
    if of == to || *of == DataType::Null {
        return expr.clone();
    }
    if let DataType::Timestamp(unit, zone) = to
        && let Some(value) = known(expr, zone).and_then(|nanos| in_unit(nanos, *unit))
    {
        return lit(timestamp(value, *unit, zone));
    }
    match super::cast::narrows(of, to) || super::cast::rounds(of, to) && !is_written(expr) {
        true => super::cast::cast_expr(expr.clone(), to, false),
        false => cast(expr, to.clone()),
    }
}

/// The type in which all these dates and timestamps have a value: that of the finest unit, with a zone if one has it. `None`: some are neither, or all have
/// the same type.
pub(super) fn common(types: &[DataType]) -> Option<DataType> {
    let (mut unit, mut of_zone, mut any) = (TimeUnit::Second, None, false);
    for of in types {
        match of {
            DataType::Timestamp(finer, zone) => {
                any = true;
                if per_second(*finer) > per_second(unit) {
                    unit = *finer;
                }
                of_zone = of_zone.or_else(|| zone.clone());
            }
            DataType::Date32 | DataType::Null => {}
            _ => return None,
        }
    }
    any.then_some(DataType::Timestamp(unit, of_zone))
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

fn cast(expr: &Expr, to: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expr.clone()), to))
}

fn timestamp(value: i64, unit: TimeUnit, zone: &ZoneName) -> ScalarValue {
    let zone = zone.clone();
    match unit {
        TimeUnit::Second => ScalarValue::TimestampSecond(Some(value), zone),
        TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(value), zone),
        TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(value), zone),
        TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(value), zone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, Schema};
    use datafusion::logical_expr::col;

    fn schema() -> DFSchema {
        let time = |name: &str, unit, zone: Option<&str>| {
            Field::new(name, DataType::Timestamp(unit, zone.map(Into::into)), true)
        };
        let fields = vec![
            time("us", TimeUnit::Microsecond, None),
            time("s", TimeUnit::Second, None),
            time("ns", TimeUnit::Nanosecond, None),
            time("ny", TimeUnit::Microsecond, Some("America/New_York")),
            Field::new("d", DataType::Date32, true),
            Field::new("t", DataType::Utf8, true),
        ];
        Schema::new(fields).try_into().unwrap()
    }

    fn rewritten(expr: Expr) -> String {
        rewrite(expr, &schema()).unwrap().data.to_string()
    }

    fn day(date: &str) -> Expr {
        cast(&lit(date), DataType::Date32)
    }

    #[test]
    fn what_is_known_becomes_a_value_of_the_column() {
        assert_eq!(rewritten(col("us").eq(lit("9999-12-31"))), "us = TimestampMicrosecond(253402214400000000, None)");
        assert_eq!(rewritten(lit("0001-01-01").lt(col("us"))), "us > TimestampMicrosecond(-62135596800000000, None)");
        assert_eq!(rewritten(col("us").gt(day("2500-01-01"))), "us > TimestampMicrosecond(16725225600000000, None)");
        // Midnight in New York.
        let new_york = "ny >= TimestampMicrosecond(1705294800000000, Some(\"America/New_York\"))";
        assert_eq!(rewritten(col("ny").gt_eq(day("2024-01-15"))), new_york);
        assert_eq!(rewritten(col("ny").gt_eq(lit("2024-01-15"))), new_york);
    }

    #[test]
    fn what_is_no_value_of_the_column_keeps_its_place_between_two() {
        let half = || lit("1970-01-01T00:00:01.5");
        assert_eq!(rewritten(col("s").gt_eq(half())), "s > TimestampSecond(1, None)");
        assert_eq!(rewritten(col("s").lt(half())), "s <= TimestampSecond(1, None)");
        assert!(rewritten(col("s").eq(half())).starts_with("s < TimestampSecond(-9223372036854775808"));
        assert!(rewritten(col("s").not_eq(half())).starts_with("s >= TimestampSecond(-9223372036854775808"));
        let last = "ns <= TimestampNanosecond(9223372036854775807, None)";
        assert_eq!(rewritten(col("ns").lt(lit("9999-12-31"))), last);
        assert!(rewritten(col("ns").gt(day("0001-01-01"))).starts_with("ns >= TimestampNanosecond(-92233"));
        let two = rewritten(col("s").in_list(vec![half(), lit("1970-01-01")], false));
        assert_eq!(two, "s IN ([TimestampSecond(0, None)])");
    }

    #[test]
    fn columns_of_two_types_meet_where_both_have_values() {
        assert_eq!(rewritten(col("us").lt(col("d"))), "us < CAST(d AS Timestamp(µs))");
        assert_eq!(rewritten(col("us").lt(col("t"))), "CAST(us AS Timestamp(µs)) < CAST(t AS Timestamp(µs))");
        assert!(rewritten(col("d").gt(col("ns"))).ends_with(" < CAST(d AS Timestamp(µs))"));
        assert!(rewritten(col("us").gt_eq(col("ns"))).contains("999"));
        let between = Expr::Between(Between::new(Box::new(col("ns")), false, Box::new(col("d")), Box::new(col("us"))));
        assert_eq!(rewritten(between).matches("Timestamp(µs)").count(), 4);
    }

    #[test]
    fn the_arguments_of_a_function_have_one_type() {
        let coalesce = datafusion::functions::core::coalesce();
        let call = coalesce.call(vec![col("us"), day("9999-12-31")]);
        assert_eq!(rewritten(call), "coalesce(us, TimestampMicrosecond(253402214400000000, None))");
        let untouched = coalesce.call(vec![col("us"), lit("text")]);
        assert_eq!(rewritten(untouched.clone()), untouched.to_string());
    }
}
