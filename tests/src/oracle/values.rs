//! Rows of two engines, compared by value and not by type: 2, 2.00 and 2e0 are one number.

use arrow::array::Array;
use arrow::datatypes::{DataType, TimeUnit};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// Maximum difference of two equal floating point numbers, relative to the larger one (absolute below 1): sums depend on the order.
const TOLERANCE: f64 = 1e-9;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    /// A whole number with all of its digits, a text, a date, and so on.
    Exact(String),
    Fraction(f64),
}

pub(super) type Row = Vec<Value>;

/// Converts batches to rows.
///
/// # Errors
/// A column has a type that cannot be shown.
pub(super) fn rows(batches: &[RecordBatch]) -> Result<Vec<Row>, String> {
    let options = FormatOptions::default().with_null("NULL").with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.f"));
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        for at in 0..batch.num_rows() {
            let cell = |(column, formatter): (&std::sync::Arc<dyn Array>, &ArrayFormatter)| {
                if column.is_null(at) {
                    return Ok(Value::Null);
                }
                let text = formatter.value(at).try_to_string().map_err(|error| error.to_string())?;
                Ok(value(column.data_type(), text))
            };
            rows.push(batch.columns().iter().zip(&columns).map(cell).collect::<Result<Row, String>>()?);
        }
    }
    Ok(rows)
}

fn value(kind: &DataType, text: String) -> Value {
    match kind {
        DataType::Dictionary(_, of) => value(of, text),
        kind if kind.is_numeric() => number(&text),
        // Midnight, for an engine whose function returns dates.
        DataType::Timestamp(
            TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond,
            _,
        ) => Value::Exact(text.strip_suffix("T00:00:00").map_or(text.clone(), str::to_owned)),
        _ => Value::Exact(text),
    }
}

fn number(text: &str) -> Value {
    let plain = match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole,
        _ => text,
    };
    match plain {
        "-0" => Value::Exact("0".to_owned()),
        whole if whole.trim_start_matches('-').bytes().all(|digit| digit.is_ascii_digit()) => {
            Value::Exact(whole.to_owned())
        }
        other => match other.parse::<f64>() {
            Ok(float) if float.is_finite() && float.fract() == 0.0 && float.abs() < 1e15 => {
                Value::Exact(format!("{}", float + 0.0))
            }
            Ok(float) => Value::Fraction(float),
            Err(_) => Value::Exact(other.to_owned()),
        },
    }
}

impl Value {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fraction(a), Self::Fraction(b)) => {
                a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0)
            }
            // A sum of fractions may differ from a whole number in its last digit.
            (Self::Fraction(a), Self::Exact(text)) | (Self::Exact(text), Self::Fraction(a)) => {
                text.parse::<f64>().is_ok_and(|b| (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0))
            }
            (a, b) => a == b,
        }
    }
}

fn equal(a: &Row, b: &Row) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is(b))
}

/// Whether both have the same rows, in the same order if `ordered`.
///
/// # Errors
/// The first row that differs.
pub(super) fn compare(actual: &[Row], expected: &[Row], ordered: bool) -> Result<(), String> {
    if actual.len() != expected.len() {
        return Err(format!("{} rows instead of {}", actual.len(), expected.len()));
    }
    let (mut actual, mut expected) = (actual.to_vec(), expected.to_vec());
    if !ordered {
        // Equal rows sort alike: rows that differ by a rounding error are placed side by side by their first digits.
        let key = |row: &Row| row.iter().map(coarse).collect::<Vec<_>>();
        actual.sort_by_cached_key(key);
        expected.sort_by_cached_key(key);
    }
    match actual.iter().zip(&expected).position(|(a, b)| !equal(a, b)) {
        None => Ok(()),
        Some(at) => Err(format!("row {}: {:?}\n instead of {:?}", at + 1, actual[at], expected[at])),
    }
}

fn coarse(value: &Value) -> String {
    match value {
        // NULL sorts before all texts, even the empty one.
        Value::Null => String::new(),
        Value::Exact(text) => match text.parse::<f64>() {
            // Whole numbers keep all digits.
            Ok(number) if text.parse::<i128>().is_ok() => format!("{number:.6e} {text}"),
            Ok(number) => format!("{number:.6e}"),
            Err(_) => format!("'{text}"),
        },
        Value::Fraction(number) => format!("{number:.6e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(texts: &[&str]) -> Vec<Row> {
        texts.iter().map(|text| vec![number(text)]).collect()
    }

    #[test]
    fn numbers_are_equal_whatever_their_type() {
        compare(&numbers(&["2", "2.00", "-0.0"]), &numbers(&["2.0", "2e0", "0"]), true).unwrap();
        compare(&numbers(&["0.30000000000000004"]), &numbers(&["0.3"]), true).unwrap();
        compare(&numbers(&["9007199254740993"]), &numbers(&["9007199254740992"]), true).unwrap_err();
        compare(&numbers(&["NaN"]), &numbers(&["1"]), true).unwrap_err();
        compare(&numbers(&["NaN", "1"]), &numbers(&["1", "NaN"]), false).unwrap();
        compare(&numbers(&["1", "2"]), &numbers(&["2", "1"]), true).unwrap_err();
    }
}
