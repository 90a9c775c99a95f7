//! Columns become lines of LOAD DATA, or rows of INSERT.
//! <https://dev.mysql.com/doc/refman/8.0/en/load-data.html>

use super::types::Wire;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Decimal256Array, LargeBinaryArray, LargeStringArray,
    PrimitiveArray, RecordBatch,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Float64Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, Time64NanosecondType,
    TimeUnit, TimestampMicrosecondType, TimestampNanosecondType, UInt64Type,
};
use chrono::{DateTime, Datelike};
use datafusion::arrow;
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use std::fmt::Display;
use std::io::Write;

/// Bytes that are sent at a time, about.
const PIECE: usize = 256 << 10;
/// Microseconds of the longest TIME, 838:59:59.
const LONGEST: i64 = (838 * 3600 + 59 * 60 + 59) * 1_000_000;
const SECOND_MICROS: i64 = 1_000_000;

/// Who reads what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// LOAD DATA: a line for each row, a tab between columns.
    Lines,
    /// INSERT: after VALUES.
    Rows,
}

/// A column of the target.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub name: String,
    pub wire: Wire,
    pub not_null: bool,
    /// Digits of a second's fraction that the target keeps.
    pub fraction: u32,
}

impl Column {
    /// What LOAD DATA makes of the field of a line, if not what it is: an expression over `variable`.
    pub fn expression(&self, variable: &str) -> Option<String> {
        match self.wire {
            Wire::Bytes => Some(format!("UNHEX({variable})")),
            Wire::Geometry => Some(format!("ST_GeomFromWKB(UNHEX({variable}))")),
            Wire::Bit => Some(format!("CAST({variable} AS UNSIGNED)")),
            _ => None,
        }
    }
}

/// Writes rows into pieces of a text.
pub(super) struct Encoder {
    columns: Vec<Column>,
    form: Form,
    buffer: Vec<u8>,
    /// Rows of the piece.
    pending: u64,
    rows: u64,
    /// Rows of a batch that cannot be sent, with the reasons. `None`: such a row is an error.
    aside: Option<Vec<(usize, String)>>,
}

impl Encoder {
    pub fn new(columns: Vec<Column>, form: Form) -> Self {
        Self { columns, form, buffer: Vec::new(), pending: 0, rows: 0, aside: None }
    }

    /// Passes over rows that cannot be sent. [`Encoder::passed_over`] gives them.
    pub fn setting_aside(self) -> Self {
        Self { aside: Some(Vec::new()), ..self }
    }

    /// Returns the rows, of the batch that was taken last, that were passed over, with the reasons.
    pub fn passed_over(&mut self) -> Vec<(usize, String)> {
        self.aside.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Returns the number of rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes rows of `batch` from `from` on, until a piece is full. Returns the first that it did not take.
    ///
    /// # Errors
    /// A value cannot be what the column is: the message names column and row.
    pub fn take(&mut self, batch: &Prepared, from: usize) -> Result<usize> {
        let mut at = from;
        while at < batch.rows && self.buffer.len() < PIECE {
            let start = self.buffer.len();
            match (self.put(batch, at), &mut self.aside) {
                (Ok(()), _) => {
                    self.rows += 1;
                    self.pending += 1;
                }
                (Err((column, why)), Some(aside)) => {
                    self.buffer.truncate(start);
                    aside.push((at, format!("the column {}: {why}", self.columns[column].name)));
                }
                (Err((column, why)), None) => {
                    let (name, row) = (&self.columns[column].name, self.rows + 1);
                    return exec_err!("the column {name} of MySQL does not take row {row}: {why}");
                }
            }
            at += 1;
        }
        Ok(at)
    }

    /// Puts one row into the buffer. An error has the position of the column.
    fn put(&mut self, batch: &Prepared, at: usize) -> Result<(), (usize, String)> {
        if self.form == Form::Rows {
            self.buffer.extend_from_slice(if self.pending == 0 { b"(" } else { b",(" });
        }
        for (number, (values, column)) in batch.columns.iter().zip(&self.columns).enumerate() {
            if number > 0 {
                self.buffer.push(if self.form == Form::Rows { b',' } else { b'\t' });
            }
            values.put(at, column, self.form, &mut self.buffer).map_err(|why| (number, why))?;
        }
        self.buffer.push(if self.form == Form::Rows { b')' } else { b'\n' });
        Ok(())
    }

    pub fn is_full(&self) -> bool {
        self.buffer.len() >= PIECE
    }

    pub fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// The piece so far. The next rows are of the next one.
    pub fn piece(&mut self) -> Vec<u8> {
        self.pending = 0;
        std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE + PIECE / 8))
    }

    /// # Errors
    /// A column is of a type that is not written so.
    pub fn prepared(&self, batch: &RecordBatch) -> Result<Prepared> {
        let pairs = batch.columns().iter().zip(&self.columns);
        let columns = pairs.map(|(values, column)| {
            let prepared = Values::new(values, column.wire);
            prepared.map_err(|why| exec_datafusion_err!("the column {} of MySQL {why}", column.name))
        });
        Ok(Prepared { rows: batch.num_rows(), columns: columns.collect::<Result<_>>()? })
    }
}

/// A batch whose values are ready to be written.
pub(super) struct Prepared {
    pub rows: usize,
    columns: Vec<Values>,
}

enum Values {
    Bool(BooleanArray),
    Signed(PrimitiveArray<Int64Type>),
    Unsigned(PrimitiveArray<UInt64Type>),
    Float(PrimitiveArray<Float64Type>),
    Decimal128(Decimal128Array, usize),
    Decimal256(Decimal256Array, usize),
    Date(PrimitiveArray<Date32Type>),
    Micros(PrimitiveArray<TimestampMicrosecondType>),
    Nanos(PrimitiveArray<TimestampNanosecondType>),
    TimeOfDay(PrimitiveArray<Time64NanosecondType>),
    Interval(PrimitiveArray<IntervalMonthDayNanoType>),
    Text(LargeStringArray),
    Bytes(LargeBinaryArray),
}

macro_rules! each {
    ($values:expr, $array:ident => $what:expr) => {
        match $values {
            Values::Bool($array) => $what,
            Values::Signed($array) => $what,
            Values::Unsigned($array) => $what,
            Values::Float($array) => $what,
            Values::Decimal128($array, _) => $what,
            Values::Decimal256($array, _) => $what,
            Values::Date($array) => $what,
            Values::Micros($array) => $what,
            Values::Nanos($array) => $what,
            Values::TimeOfDay($array) => $what,
            Values::Interval($array) => $what,
            Values::Text($array) => $what,
            Values::Bytes($array) => $what,
        }
    };
}

impl Values {
    fn new(column: &ArrayRef, wire: Wire) -> Result<Self, String> {
        let kind = column.data_type();
        let to = |wanted: DataType| cast(column, &wanted).map_err(|error| format!("does not take {kind}: {error}"));
        let places = |scale: i8| usize::try_from(scale).map_err(|_| format!("does not take {kind}"));
        Ok(match kind {
            DataType::Boolean => Self::Bool(column.as_boolean().clone()),
            kind if kind.is_unsigned_integer() => Self::Unsigned(to(DataType::UInt64)?.as_primitive().clone()),
            kind if kind.is_signed_integer() => Self::Signed(to(DataType::Int64)?.as_primitive().clone()),
            // Doubles hold all floats, and are written with all their digits.
            kind if kind.is_floating() => Self::Float(to(DataType::Float64)?.as_primitive().clone()),
            DataType::Decimal128(_, scale) => Self::Decimal128(column.as_primitive().clone(), places(*scale)?),
            DataType::Decimal256(_, scale) => Self::Decimal256(column.as_primitive().clone(), places(*scale)?),
            DataType::Date32 => Self::Date(column.as_primitive().clone()),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                Self::Nanos(to(DataType::Timestamp(TimeUnit::Nanosecond, None))?.as_primitive().clone())
            }
            DataType::Timestamp(..) => {
                Self::Micros(to(DataType::Timestamp(TimeUnit::Microsecond, None))?.as_primitive().clone())
            }
            DataType::Time64(_) => Self::TimeOfDay(to(DataType::Time64(TimeUnit::Nanosecond))?.as_primitive().clone()),
            DataType::Interval(IntervalUnit::MonthDayNano) => Self::Interval(column.as_primitive().clone()),
            DataType::Binary | DataType::BinaryView | DataType::LargeBinary
                if matches!(wire, Wire::Bytes | Wire::Geometry) =>
            {
                Self::Bytes(to(DataType::LargeBinary)?.as_binary().clone())
            }
            DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => {
                Self::Text(to(DataType::LargeUtf8)?.as_string().clone())
            }
            kind => return Err(format!("does not take {kind}")),
        })
    }

    fn put(&self, at: usize, column: &Column, form: Form, out: &mut Vec<u8>) -> Result<(), String> {
        if each!(self, array => array.is_null(at)) {
            if column.not_null {
                return Err("it is NULL, and the column is NOT NULL".to_string());
            }
            out.extend_from_slice(if form == Form::Rows { b"NULL" } else { b"\\N" });
            return Ok(());
        }
        match self {
            Self::Bool(values) => out.push(if values.value(at) { b'1' } else { b'0' }),
            Self::Signed(values) if column.wire == Wire::Year => {
                quoted(out, form, format_args!("{:04}", values.value(at)))
            }
            Self::Unsigned(values) if column.wire == Wire::Year => {
                quoted(out, form, format_args!("{:04}", values.value(at)))
            }
            Self::Signed(values) => plain(out, values.value(at)),
            Self::Unsigned(values) => plain(out, values.value(at)),
            Self::Float(values) => {
                let value = values.value(at);
                if !value.is_finite() {
                    return Err(format!("MySQL has no {value}"));
                }
                plain(out, format_args!("{value:e}"));
            }
            Self::Decimal128(values, places) => decimal(out, &values.value(at).to_string(), *places),
            Self::Decimal256(values, places) => decimal(out, &values.value(at).to_string(), *places),
            Self::Date(values) => {
                let date = values.value_as_date(at).filter(|date| (0..=9999).contains(&date.year()));
                let date = date.ok_or("the date is before the year 0 or after 9999")?;
                quoted(out, form, date.format("%Y-%m-%d"));
            }
            Self::Micros(values) => timestamp(out, form, column, values.value(at), 0)?,
            Self::Nanos(values) => {
                let nanos = values.value(at);
                timestamp(out, form, column, nanos.div_euclid(1000), nanos.rem_euclid(1000))?;
            }
            Self::TimeOfDay(values) => {
                let nanos = values.value(at);
                time(out, form, column, nanos / 1000, nanos % 1000)?;
            }
            Self::Interval(values) => {
                let value = values.value(at);
                if value.months != 0 {
                    return Err("MySQL's TIME has no months".to_string());
                }
                let nanos = i128::from(value.days) * 86_400_000_000_000 + i128::from(value.nanoseconds);
                let micros = i64::try_from(nanos / 1000).map_err(|_| "the interval is too long".to_string())?;
                time(out, form, column, micros, (nanos % 1000) as i64)?;
            }
            Self::Text(values) => text(out, form, values.value(at)),
            Self::Bytes(values) => {
                let of = if column.wire == Wire::Geometry { "ST_GeomFromWKB(X'" } else { "X'" };
                if form == Form::Rows {
                    out.extend_from_slice(of.as_bytes());
                }
                for byte in values.value(at) {
                    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                    out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
                }
                if form == Form::Rows {
                    out.extend_from_slice(if column.wire == Wire::Geometry { b"')" } else { b"'" });
                }
            }
        }
        Ok(())
    }
}

fn plain(out: &mut Vec<u8>, value: impl Display) {
    // Writing into memory cannot fail.
    let _ = write!(out, "{value}");
}

fn quoted(out: &mut Vec<u8>, form: Form, value: impl Display) {
    let _ = match form {
        Form::Rows => write!(out, "'{value}'"),
        Form::Lines => write!(out, "{value}"),
    };
}

fn decimal(out: &mut Vec<u8>, digits: &str, places: usize) {
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits),
    };
    let padded = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = padded.split_at(padded.len() - places);
    let point = if places == 0 { "" } else { "." };
    plain(out, format_args!("{sign}{whole}{point}{fraction}"));
}

/// `rest`: nanoseconds beside the microseconds.
///
/// # Errors
/// The target would round it.
fn check_fraction(column: &Column, micros: i64, rest: i64) -> Result<(), String> {
    let unit = 10_i64.pow(6_u32.saturating_sub(column.fraction));
    match rest == 0 && micros % unit == 0 {
        true => Ok(()),
        false => {
            Err(format!("its second has a fraction of more than the {} digits that the column keeps", column.fraction))
        }
    }
}

fn timestamp(out: &mut Vec<u8>, form: Form, column: &Column, micros: i64, rest: i64) -> Result<(), String> {
    check_fraction(column, micros, rest)?;
    let instant = DateTime::from_timestamp_micros(micros).filter(|instant| (0..=9999).contains(&instant.year()));
    let instant = instant.ok_or("the timestamp is before the year 0 or after 9999")?;
    quoted(out, form, instant.format("%Y-%m-%d %H:%M:%S%.6f"));
    Ok(())
}

fn time(out: &mut Vec<u8>, form: Form, column: &Column, micros: i64, rest: i64) -> Result<(), String> {
    check_fraction(column, micros, rest)?;
    if micros.abs() > LONGEST {
        return Err("MySQL's TIME ends at 838:59:59".to_string());
    }
    let sign = if micros < 0 { "-" } else { "" };
    let (seconds, fraction) = (micros.abs() / SECOND_MICROS, micros.abs() % SECOND_MICROS);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    quoted(out, form, format_args!("{sign}{hours:02}:{minutes:02}:{seconds:02}.{fraction:06}"));
    Ok(())
}

fn text(out: &mut Vec<u8>, form: Form, value: &str) {
    let quote = if form == Form::Rows { &b"'"[..] } else { b"" };
    out.extend_from_slice(quote);
    for byte in value.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\0' => out.extend_from_slice(b"\\0"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\'' if form == Form::Rows => out.extend_from_slice(b"''"),
            byte => out.push(byte),
        }
    }
    out.extend_from_slice(quote);
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BinaryArray, Float32Array, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::{Field, Schema};
    use std::sync::Arc;

    fn written(array: ArrayRef, wire: Wire, fraction: u32, form: Form) -> Result<String, String> {
        let schema = Arc::new(Schema::new(vec![Field::new("a", array.data_type().clone(), true)]));
        let batch = RecordBatch::try_new(schema, vec![array]).unwrap();
        let column = Column { name: "a".into(), wire, not_null: false, fraction };
        let mut encoder = Encoder::new(vec![column], form);
        let prepared = encoder.prepared(&batch).map_err(|error| error.to_string())?;
        encoder.take(&prepared, 0).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(encoder.piece()).unwrap())
    }

    #[test]
    fn texts_are_escaped() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("it's\ta\\N\n\0"), None, Some("")]));
        let lines = written(Arc::clone(&texts), Wire::Text, 0, Form::Lines).unwrap();
        assert_eq!(lines, "it's\\ta\\\\N\\n\\0\n\\N\n\n");
        let rows = written(texts, Wire::Text, 0, Form::Rows).unwrap();
        assert_eq!(rows, "('it''s\\ta\\\\N\\n\\0'),(NULL),('')");
    }

    #[test]
    fn bytes_are_hex() {
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"\x00\xff"[..], b""]));
        assert_eq!(written(Arc::clone(&bytes), Wire::Bytes, 0, Form::Lines).unwrap(), "00FF\n\n");
        assert_eq!(written(bytes, Wire::Bytes, 0, Form::Rows).unwrap(), "(X'00FF'),(X'')");
    }

    #[test]
    fn what_the_target_would_round_is_an_error_with_column_and_row() {
        let stamps: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0, -1_500_000]));
        assert_eq!(
            written(Arc::clone(&stamps), Wire::DateTime, 1, Form::Lines).unwrap(),
            "1970-01-01 00:00:00.000000\n1969-12-31 23:59:58.500000\n"
        );
        let error = written(stamps, Wire::DateTime, 0, Form::Lines).unwrap_err();
        assert!(error.contains("column a") && error.contains("row 2") && error.contains("0 digits"), "{error}");
        let floats: ArrayRef = Arc::new(Float32Array::from(vec![0.1, f32::NAN]));
        assert!(written(floats, Wire::Float, 0, Form::Lines).unwrap_err().contains("MySQL has no NaN"));
    }

    #[test]
    fn decimals_have_their_point() {
        for (digits, places, expected) in [("-5", 2, "-0.05"), ("1234", 2, "12.34"), ("7", 0, "7"), ("0", 1, "0.0")] {
            let mut out = Vec::new();
            decimal(&mut out, digits, places);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
