//! Conditions that the server computes. An allow-list: what is here has the answer that Windlass gives, whatever the server's collations, modes and types
//! are; the rest stays above the scan.
//!
//! | columns | what is sent | why |
//! | --- | --- | --- |
//! | numbers | comparisons with literals of the same type | total orders on both sides. Not with 0.0, whose signs count in Windlass, and not with what MySQL lacks: NaN and infinities |
//! | dates, timestamps | the same, from the year 1000 on (TIMESTAMP: between 1971 and 2037) | literals outside are understood in other ways. IS NULL of a NOT NULL column finds zero dates there |
//! | texts | comparisons of the bytes of UTF-8 | collations fold case, accents and trailing blanks. `=` with ASCII is sent twice, once so that the server finds an index |
//! | texts | LIKE by code points | in a binary collation; not with a backslash, which escapes in ways that differ |
//! | BIT, YEAR | as numbers | YEAR takes 5 for 2005 |
//! | times, bytes, geometry | IS NULL | their orders differ |
//! | zero dates as NULL | nothing | they are not NULL there |
//!
//! Whether a condition is sent depends on it and the types of columns alone, so that it is known before the server is asked.

use super::types::is_text;
use super::wire::{literal, quoted};
use crate::conditions::{MOST_VALUES, column, not, value};
use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, Datelike, NaiveDate, TimeDelta};
use datafusion::arrow;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Like, Operator};
use datafusion::scalar::ScalarValue;

/// A column that conditions are about.
pub(super) struct Known {
    pub name: String,
    /// The column's type in Windlass.
    pub kind: DataType,
    pub not_null: bool,
    /// Its values as numbers or texts, as they are read.
    pub expression: String,
    /// Texts that the server stores as they are, so that it may have an index of them.
    pub is_stored: bool,
}

/// Facts about columns that decide whether a condition is sent.
pub(super) trait Columns {
    fn column(&self, name: &str) -> Option<Known>;
}

/// `filter` for MySQL, which has the same answer for each row. `None`: it is not sent.
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
            compared(column, op, value, columns)?
        }
        Expr::Not(inner) => format!("(NOT {})", of(inner)?),
        Expr::IsTrue(inner) => format!("({} IS TRUE)", of(inner)?),
        Expr::IsFalse(inner) => format!("({} IS FALSE)", of(inner)?),
        Expr::IsNotTrue(inner) => format!("({} IS NOT TRUE)", of(inner)?),
        Expr::IsNotFalse(inner) => format!("({} IS NOT FALSE)", of(inner)?),
        Expr::IsNull(inner) => format!("({} IS NULL)", any(inner, columns)?),
        Expr::IsNotNull(inner) => format!("({} IS NOT NULL)", any(inner, columns)?),
        Expr::Column(column) => {
            let known = columns.column(&column.name).filter(|known| known.kind == DataType::Boolean)?;
            format!("({} <> 0)", known.expression)
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            let low = compared(expr, Operator::GtEq, value(low)?, columns)?;
            let high = compared(expr, Operator::LtEq, value(high)?, columns)?;
            format!("({}({low} AND {high}))", if *negated { "NOT " } else { "" })
        }
        Expr::InList(list) if !list.list.is_empty() && list.list.len() <= MOST_VALUES => {
            let sides: Option<Vec<(String, String)>> =
                list.list.iter().map(|item| sides(&list.expr, value(item)?, columns)).collect();
            let sides = sides?;
            let column = sides.first()?.0.clone();
            let values: Vec<String> = sides.into_iter().map(|(_, value)| value).collect();
            format!("({column} {}IN ({}))", not(list.negated), values.join(", "))
        }
        Expr::Like(Like { negated, expr, pattern, escape_char: None, case_insensitive: false }) => {
            let pattern = value(pattern)?.try_as_str().flatten()?;
            let (name, _) = column(expr)?;
            let known = columns.column(name).filter(|known| is_text(&known.kind))?;
            if pattern.contains(['\\', '\0']) || !pattern.is_ascii() {
                return None;
            }
            let text = format!("CONVERT({} USING utf8mb4) COLLATE utf8mb4_bin", known.expression);
            format!("({text} {}LIKE {})", not(*negated), literal(pattern))
        }
        _ => return None,
    })
}

/// A column of which only is asked whether it is there.
fn any(expr: &Expr, columns: &dyn Columns) -> Option<String> {
    let Expr::Column(column) = expr else { return None };
    let known = columns.column(&column.name)?;
    let is_temporal = matches!(known.kind, DataType::Date32 | DataType::Timestamp(..));
    (!(is_temporal && known.not_null)).then(|| quoted(&known.name))
}

/// Bytes of UTF-8.
fn bytes_of(text: &str) -> String {
    format!("CAST(CONVERT({text} USING utf8mb4) AS BINARY)")
}

fn compared(expr: &Expr, op: Operator, value: &ScalarValue, columns: &dyn Columns) -> Option<String> {
    if !matches!(op, Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq) {
        return None;
    }
    let (left, right) = sides(expr, value, columns)?;
    let op = if op == Operator::NotEq { "<>".to_string() } else { op.to_string() };
    if let (Some(text), "=") = (value.try_as_str().flatten(), op.as_str())
        && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    {
        let (name, _) = column(expr)?;
        let known = columns.column(name)?;
        if known.is_stored {
            return Some(format!("({} = {} AND {left} = {right})", known.expression, literal(text)));
        }
    }
    Some(format!("({left} {op} {right})"))
}

/// Both sides of a comparison.
fn sides(expr: &Expr, value: &ScalarValue, columns: &dyn Columns) -> Option<(String, String)> {
    let (name, cast) = column(expr)?;
    let known = columns.column(name)?;
    if let Some(cast) = cast {
        let is_wider = match (width(&known.kind), width(cast)) {
            (Some((from, from_signed)), Some((to, to_signed))) => match (from_signed, to_signed) {
                (true, true) | (false, false) => to >= from,
                (false, true) => to > from,
                (true, false) => false,
            },
            _ => false,
        };
        if !(is_wider || is_text(&known.kind) && is_text(cast)) {
            return None;
        }
    }
    if is_text(&known.kind) {
        let text = value.try_as_str().flatten()?;
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        return Some((bytes_of(&known.expression), format!("X'{hex}'")));
    }
    let kind = cast.unwrap_or(&known.kind);
    let value = match (kind, value) {
        (DataType::Boolean, ScalarValue::Boolean(Some(value))) => i32::from(*value).to_string(),
        (DataType::Int8, ScalarValue::Int8(Some(value))) => value.to_string(),
        (DataType::Int16, ScalarValue::Int16(Some(value))) => value.to_string(),
        (DataType::Int32, ScalarValue::Int32(Some(value))) => value.to_string(),
        (DataType::Int64, ScalarValue::Int64(Some(value))) => value.to_string(),
        (DataType::UInt8, ScalarValue::UInt8(Some(value))) => value.to_string(),
        (DataType::UInt16, ScalarValue::UInt16(Some(value))) => value.to_string(),
        (DataType::UInt32, ScalarValue::UInt32(Some(value))) => value.to_string(),
        (DataType::UInt64, ScalarValue::UInt64(Some(value))) => value.to_string(),
        (DataType::Float32, ScalarValue::Float32(Some(value))) if *value != 0.0 && value.is_finite() => {
            format!("{:e}", f64::from(*value))
        }
        (DataType::Float64, ScalarValue::Float64(Some(value))) if *value != 0.0 && value.is_finite() => {
            format!("{value:e}")
        }
        (DataType::Decimal128(_, scale), ScalarValue::Decimal128(Some(value), _, of)) if scale == of && *of >= 0 => {
            decimal(&value.to_string(), *scale)?
        }
        (DataType::Decimal256(_, scale), ScalarValue::Decimal256(Some(value), _, of)) if scale == of && *of >= 0 => {
            decimal(&value.to_string(), *scale)?
        }
        (DataType::Date32, ScalarValue::Date32(Some(days))) => {
            let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
            let date = epoch.checked_add_signed(TimeDelta::try_days((*days).into())?)?;
            (1000..=9999).contains(&date.year()).then(|| format!("DATE'{}'", date.format("%Y-%m-%d")))?
        }
        (DataType::Timestamp(TimeUnit::Microsecond, zone), ScalarValue::TimestampMicrosecond(Some(micros), of))
            if zone.is_some() == of.is_some() =>
        {
            instant(*micros, zone.is_some())?
        }
        (DataType::Timestamp(TimeUnit::Nanosecond, zone), ScalarValue::TimestampNanosecond(Some(nanos), of))
            if zone.is_some() == of.is_some() && nanos % 1000 == 0 =>
        {
            instant(nanos / 1000, zone.is_some())?
        }
        _ => return None,
    };
    Some((known.expression, value))
}

/// Bytes of a whole number, and whether it has a sign.
fn width(kind: &DataType) -> Option<(usize, bool)> {
    kind.is_integer().then(|| Some((kind.primitive_width()?, kind.is_signed_integer())))?
}

/// A whole number with `scale` places behind its point, of at most as many digits as the server's have.
fn decimal(digits: &str, scale: i8) -> Option<String> {
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits),
    };
    let scale = usize::try_from(scale).ok()?;
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    let point = if scale == 0 { "" } else { "." };
    // Places behind the point of the server's literals.
    (scale <= 30 && padded.len() <= 65).then(|| format!("{sign}{whole}{point}{fraction}"))
}

fn instant(micros: i64, has_zone: bool) -> Option<String> {
    let instant = DateTime::from_timestamp_micros(micros)?.naive_utc();
    let years = if has_zone { 1971..=2037 } else { 1000..=9999 };
    years.contains(&instant.year()).then(|| format!("TIMESTAMP'{}'", instant.format("%Y-%m-%d %H:%M:%S%.6f")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::{col, lit};

    struct Shop;

    impl Columns for Shop {
        fn column(&self, name: &str) -> Option<Known> {
            let kind = match name {
                "id" => DataType::Int32,
                "big" => DataType::UInt64,
                "name" | "document" => DataType::Utf8,
                "price" => DataType::Float64,
                "amount" => DataType::Decimal128(10, 2),
                "paid" => DataType::Boolean,
                "day" => DataType::Date32,
                _ => return None,
            };
            let (not_null, is_stored) = (name == "day", name != "document");
            Some(Known { name: name.to_string(), kind, not_null, expression: quoted(name), is_stored })
        }
    }

    #[test]
    fn only_what_has_the_same_answer_is_sent() {
        for (filter, expected) in [
            (col("id").gt(lit(-5_i32)), Some("(`id` > -5)")),
            (lit(5_i32).gt(col("id")), Some("(`id` < 5)")),
            (col("big").eq(lit(u64::MAX)), Some("(`big` = 18446744073709551615)")),
            (
                col("name").eq(lit("it's")),
                Some("(`name` = 'it''s' AND CAST(CONVERT(`name` USING utf8mb4) AS BINARY) = X'69742773')"),
            ),
            (col("name").not_eq(lit("é")), Some("(CAST(CONVERT(`name` USING utf8mb4) AS BINARY) <> X'c3a9')")),
            (col("name").lt(lit("b")), Some("(CAST(CONVERT(`name` USING utf8mb4) AS BINARY) < X'62')")),
            (col("name").like(lit("a%")), Some("(CONVERT(`name` USING utf8mb4) COLLATE utf8mb4_bin LIKE 'a%')")),
            (col("price").gt(lit(1.5)), Some("(`price` > 1.5e0)")),
            (
                col("paid").and(col("id").is_null()).or(!col("paid")),
                Some("(((`paid` <> 0) AND (`id` IS NULL)) OR (NOT (`paid` <> 0)))"),
            ),
            (col("day").eq(lit(ScalarValue::Date32(Some(19_723)))), Some("(`day` = DATE'2024-01-01')")),
            (col("amount").lt(lit(ScalarValue::Decimal128(Some(-150), 10, 2))), Some("(`amount` < -1.50)")),
            (col("amount").lt(lit(ScalarValue::Decimal128(Some(5), 10, 2))), Some("(`amount` < 0.05)")),
            (col("id").between(lit(1_i32), lit(2_i32)), Some("(((`id` >= 1) AND (`id` <= 2)))")),
            (col("id").in_list(vec![lit(1_i32), lit(2_i32)], true), Some("(`id` NOT IN (1, 2))")),
            (col("price").eq(lit(0.0)), None),
            (col("price").gt(lit(f64::NAN)), None),
            (col("price").gt(lit(f64::INFINITY)), None),
            (col("name").like(lit("a\\%")), None),
            (col("document").eq(lit("{}")), Some("(CAST(CONVERT(`document` USING utf8mb4) AS BINARY) = X'7b7d')")),
            (col("day").is_null(), None),
            (col("other").eq(lit(1)), None),
            (col("id").gt(lit(1.5)), None),
            (col("day").gt(lit(ScalarValue::Date32(Some(i32::MAX)))), None),
            (col("day").gt(lit(ScalarValue::Date32(Some(-700_000)))), None),
            ((col("id") + lit(1_i32)).gt(lit(1_i32)), None),
        ] {
            assert_eq!(sent(&filter, &Shop).as_deref(), expected, "{filter}");
        }
    }
}
