//! Conditions that the server computes. An allow-list: what is here has the answer that Windlass gives, whatever the server's collations, encodings and
//! types are; the rest stays above the scan.
//!
//! | columns | what is sent | why |
//! | --- | --- | --- |
//! | numbers, dates, times, instants | comparisons with literals of the same type | total orders on both sides. Not with 0.0 and NaN, whose signs count in one of them |
//! | texts | `=`, `<>`, IN as they are, if equal texts are equal bytes; `<` and the like, LIKE with COLLATE "C" | Windlass compares bytes of UTF-8 |
//! | char(n), uuid, enum, what is read as text | the same of what is read | padding counts here, and the order of an enum does not |
//! | infinite dates as NULL | nothing | they are not NULL there |
//!
//! Whether a condition is sent depends on it and the types of columns alone, so that it is known before the server is asked.

use super::types::{Wire, is_text};
use super::wire::{literal, quoted};
use crate::conditions::{MOST_VALUES, column, not, value};
use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use datafusion::arrow;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Like, Operator};
use datafusion::scalar::ScalarValue;

/// A column that conditions are about.
pub(super) struct Known {
    pub name: String,
    /// The column's type in Windlass.
    pub kind: DataType,
    pub wire: Wire,
    pub is_deterministic: bool,
    /// The server's texts are in UTF-8.
    pub is_utf8: bool,
}

/// Facts about columns that decide, before the server is asked, whether a condition is sent.
pub(super) trait Columns: Sync {
    fn column(&self, name: &str) -> Option<Known>;
}

/// `filter` for PostgreSQL, which has the same answer for each row. `None`: it is not sent.
pub(super) fn sent(filter: &Expr, columns: &dyn Columns) -> Option<String> {
    let of = |filter: &Expr| sent(filter, columns);
    Some(match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            format!("({} {op} {})", of(left)?, of(right)?)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (column, op, value) = match (value(left), value(right)) {
                (None, Some(value)) => (left, *op, value),
                (Some(value), None) => (right, op.swap()?, value),
                _ => return None,
            };
            let (column, value) = compared(column, value, columns, is_equality(op)?)?;
            format!("({column} {op} {value})")
        }
        Expr::Not(inner) => format!("(NOT {})", of(inner)?),
        Expr::IsTrue(inner) => format!("({} IS TRUE)", of(inner)?),
        Expr::IsFalse(inner) => format!("({} IS FALSE)", of(inner)?),
        Expr::IsNotTrue(inner) => format!("({} IS NOT TRUE)", of(inner)?),
        Expr::IsNotFalse(inner) => format!("({} IS NOT FALSE)", of(inner)?),
        Expr::IsNull(inner) => format!("({} IS NULL)", any(inner, columns)?),
        Expr::IsNotNull(inner) => format!("({} IS NOT NULL)", any(inner, columns)?),
        Expr::Column(column) => {
            let known = columns.column(&column.name)?;
            if known.kind != DataType::Boolean {
                return None;
            }
            quoted(&known.name)
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            let (column, low) = compared(expr, value(low)?, columns, false)?;
            let (_, high) = compared(expr, value(high)?, columns, false)?;
            format!("({column} {}BETWEEN {low} AND {high})", not(*negated))
        }
        Expr::InList(list) if !list.list.is_empty() && list.list.len() <= MOST_VALUES => {
            let pairs = |is_equality: bool| -> Option<Vec<(String, String)>> {
                list.list.iter().map(|item| compared(&list.expr, value(item)?, columns, is_equality)).collect()
            };
            // Values that want the column in several forms are compared as texts.
            let equal = pairs(true)?;
            let pairs = if equal.iter().all(|(of, _)| *of == equal[0].0) { equal } else { pairs(false)? };
            let column = pairs.first()?.0.clone();
            let values: Vec<String> = pairs.into_iter().map(|(_, value)| value).collect();
            format!("({column} {}IN ({}))", not(list.negated), values.join(", "))
        }
        Expr::Like(Like { negated, expr, pattern, escape_char: None, case_insensitive: false }) => {
            let pattern = text(value(pattern)?)?;
            let (name, _) = column(expr)?;
            let known = columns.column(name).filter(|known| is_text(&known.kind))?;
            // A backslash escapes, in ways that differ where nothing follows; other alphabets may not be the server's.
            if !pattern.is_ascii() || pattern.contains(['\\', '\0']) {
                return None;
            }
            let column = known.wire.text(&quoted(&known.name));
            format!("({column} COLLATE \"C\" {}LIKE {})", not(*negated), literal(pattern))
        }
        _ => return None,
    })
}

fn is_equality(op: Operator) -> Option<bool> {
    match op {
        Operator::Eq | Operator::NotEq => Some(true),
        Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => Some(false),
        _ => None,
    }
}

/// A column of which only is asked whether it is there.
fn any(expr: &Expr, columns: &dyn Columns) -> Option<String> {
    match expr {
        Expr::Column(column) => Some(quoted(&columns.column(&column.name)?.name)),
        _ => None,
    }
}

fn text(value: &ScalarValue) -> Option<&str> {
    value.try_as_str().flatten()
}

/// Both sides of a comparison.
fn compared(expr: &Expr, value: &ScalarValue, columns: &dyn Columns, is_equality: bool) -> Option<(String, String)> {
    let (name, cast) = column(expr)?;
    let known = columns.column(name)?;
    let column = quoted(&known.name);
    if let Some(cast) = cast {
        use DataType::{Int16, Int32, Int64};
        let is_wider = matches!((&known.kind, cast), (Int16, Int32 | Int64) | (Int32, Int64));
        let is_text = is_text(&known.kind) && is_text(cast);
        if !is_wider && !is_text {
            return None;
        }
    }
    if is_text(&known.kind) {
        return compared_text(&known, text(value)?, is_equality);
    }
    let kind = cast.unwrap_or(&known.kind);
    let value = match (kind, value) {
        (DataType::Boolean, ScalarValue::Boolean(Some(value))) => value.to_string(),
        (DataType::Int16, ScalarValue::Int16(Some(value))) => format!("'{value}'::pg_catalog.int2"),
        (DataType::Int32, ScalarValue::Int32(Some(value))) => format!("'{value}'::pg_catalog.int4"),
        (DataType::Int64, ScalarValue::Int64(Some(value))) => format!("'{value}'::pg_catalog.int8"),
        (DataType::Float32, ScalarValue::Float32(Some(value))) if *value != 0.0 && !value.is_nan() => {
            format!("'{value:e}'::pg_catalog.float4")
        }
        (DataType::Float64, ScalarValue::Float64(Some(value))) if *value != 0.0 && !value.is_nan() => {
            format!("'{value:e}'::pg_catalog.float8")
        }
        (DataType::Decimal128(_, scale), ScalarValue::Decimal128(Some(value), _, of)) if scale == of && *of >= 0 => {
            format!("'{value}e-{scale}'::pg_catalog.numeric")
        }
        (DataType::Decimal256(_, scale), ScalarValue::Decimal256(Some(value), _, of)) if scale == of && *of >= 0 => {
            format!("'{value}e-{scale}'::pg_catalog.numeric")
        }
        (DataType::Date32, ScalarValue::Date32(Some(days))) => {
            let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
            let date = epoch.checked_add_signed(TimeDelta::try_days((*days).into())?)?;
            is_plain(date.year()).then(|| format!("'{}'::pg_catalog.date", date.format("%Y-%m-%d")))?
        }
        (DataType::Time64(TimeUnit::Microsecond), ScalarValue::Time64Microsecond(Some(micros))) => time(*micros)?,
        (DataType::Time64(TimeUnit::Nanosecond), ScalarValue::Time64Nanosecond(Some(nanos))) => time(whole(*nanos)?)?,
        (DataType::Timestamp(TimeUnit::Microsecond, zone), ScalarValue::TimestampMicrosecond(Some(micros), of))
            if zone.is_some() == of.is_some() =>
        {
            instant(*micros, zone.is_some())?
        }
        (DataType::Timestamp(TimeUnit::Nanosecond, zone), ScalarValue::TimestampNanosecond(Some(nanos), of))
            if zone.is_some() == of.is_some() =>
        {
            instant(whole(*nanos)?, zone.is_some())?
        }
        _ => return None,
    };
    let column = match known.wire {
        Wire::Oid => format!("{column}::pg_catalog.int8"),
        _ => column,
    };
    Some((column, value))
}

fn compared_text(known: &Known, value: &str, is_equality: bool) -> Option<(String, String)> {
    if value.contains('\0') {
        return None;
    }
    let column = quoted(&known.name);
    if !known.is_utf8 {
        // Bytes as Windlass has them, whatever the server's are.
        let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        let bytes = format!("pg_catalog.convert_to({}, 'UTF8')", known.wire.text(&column));
        return Some((bytes, format!("'\\x{hex}'::pg_catalog.bytea")));
    }
    Some(match known.wire {
        // As they are, so that the server finds an index.
        Wire::Text if is_equality && known.is_deterministic => (column, literal(value)),
        Wire::Uuid if is_equality && is_uuid(value) => (column, format!("'{value}'::pg_catalog.uuid")),
        _ => (format!("{} COLLATE \"C\"", known.wire.text(&column)), literal(value)),
    })
}

/// As it is read.
fn is_uuid(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let fits = |(at, byte): (usize, u8)| if [8, 13, 18, 23].contains(&at) { byte == b'-' } else { is_digit(byte) };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}

/// Whether both sides read the text of a year in the same way.
fn is_plain(year: i32) -> bool {
    (1..=9999).contains(&year)
}

fn whole(nanos: i64) -> Option<i64> {
    (nanos % 1000 == 0).then_some(nanos / 1000)
}

fn time(micros: i64) -> Option<String> {
    let seconds = u32::try_from(micros.div_euclid(1_000_000)).ok()?;
    let time = NaiveTime::from_num_seconds_from_midnight_opt(seconds, micros.rem_euclid(1_000_000) as u32 * 1000)?;
    Some(format!("'{}'::pg_catalog.time", time.format("%H:%M:%S%.6f")))
}

fn instant(micros: i64, has_zone: bool) -> Option<String> {
    let instant: NaiveDateTime = DateTime::from_timestamp_micros(micros)?.naive_utc();
    let (zone, kind) = if has_zone { ("+00", "timestamptz") } else { ("", "timestamp") };
    let shown = instant.format("%Y-%m-%d %H:%M:%S%.6f");
    is_plain(instant.year()).then(|| format!("'{shown}{zone}'::pg_catalog.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::{col, lit};

    struct Shop;

    impl Columns for Shop {
        fn column(&self, name: &str) -> Option<Known> {
            let (kind, wire) = match name {
                "id" => (DataType::Int32, Wire::Int4),
                "name" => (DataType::Utf8, Wire::Text),
                "code" => (DataType::Utf8, Wire::Char),
                "price" => (DataType::Float64, Wire::Float8),
                "amount" => (DataType::Decimal128(10, 2), Wire::Numeric),
                "paid" => (DataType::Boolean, Wire::Bool),
                "day" => (DataType::Date32, Wire::Date),
                _ => return None,
            };
            Some(Known { name: name.to_string(), kind, wire, is_deterministic: true, is_utf8: true })
        }
    }

    #[test]
    fn only_what_has_the_same_answer_is_sent() {
        for (filter, expected) in [
            (col("id").gt(lit(-5_i32)), Some(r#"("id" > '-5'::pg_catalog.int4)"#)),
            (lit(5_i32).gt(col("id")), Some(r#"("id" < '5'::pg_catalog.int4)"#)),
            (col("name").eq(lit("it's")), Some(r#"("name" = 'it''s')"#)),
            (col("name").lt(lit("b")), Some(r#"("name"::pg_catalog.text COLLATE "C" < 'b')"#)),
            (col("code").eq(lit("a")), Some(r#"(pg_catalog.textin(pg_catalog.bpcharout("code")) COLLATE "C" = 'a')"#)),
            (col("name").like(lit("a%")), Some(r#"("name"::pg_catalog.text COLLATE "C" LIKE 'a%')"#)),
            (col("price").gt(lit(1.5)), Some(r#"("price" > '1.5e0'::pg_catalog.float8)"#)),
            (
                col("paid").and(col("id").is_null()).or(!col("paid")),
                Some(r#"(("paid" AND ("id" IS NULL)) OR (NOT "paid"))"#),
            ),
            (col("day").eq(lit(ScalarValue::Date32(Some(19_723)))), Some(r#"("day" = '2024-01-01'::pg_catalog.date)"#)),
            (
                col("amount").lt(lit(ScalarValue::Decimal128(Some(-150), 10, 2))),
                Some(r#"("amount" < '-150e-2'::pg_catalog.numeric)"#),
            ),
            (col("price").eq(lit(0.0)), None),
            (col("price").gt(lit(f64::NAN)), None),
            (col("name").like(lit("a\\%")), None),
            (col("name").eq(lit("a\0")), None),
            (col("other").eq(lit(1)), None),
            (col("id").gt(lit(1.5)), None),
            (col("id").eq(lit(ScalarValue::Int32(None))), None),
            (col("day").gt(lit(ScalarValue::Date32(Some(i32::MAX)))), None),
            ((col("id") + lit(1_i32)).gt(lit(1_i32)), None),
        ] {
            assert_eq!(sent(&filter, &Shop).as_deref(), expected, "{filter}");
        }
    }
}
