//! Rows of the binary protocol become columns.

use super::types::Wire;
use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BinaryViewBuilder, BooleanBuilder, LargeBinaryBuilder,
    LargeStringBuilder, PrimitiveBuilder, RecordBatch, RecordBatchOptions, StringBuilder, StringViewBuilder,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, SchemaRef, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type, i256,
};
use chrono::NaiveDate;
use datafusion::arrow;
use datafusion::common::{Result, exec_datafusion_err, internal_err};
use mysql_async::{Row, Value};
use std::sync::Arc;

const DAY_SECONDS: i64 = 86_400;
const SECOND_MICROS: i64 = 1_000_000;

/// Collects the rows of one batch.
pub(super) struct Decoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
    /// Approximate bytes of the values of these rows.
    bytes: usize,
}

struct Column {
    wire: Wire,
    values: Values,
    zero_dates_as_null: bool,
}

/// Why a value cannot be taken.
type Taken = Result<(), String>;

enum Values {
    Bool(BooleanBuilder),
    Int8(PrimitiveBuilder<Int8Type>),
    Int16(PrimitiveBuilder<Int16Type>),
    Int32(PrimitiveBuilder<Int32Type>),
    Int64(PrimitiveBuilder<Int64Type>),
    UInt8(PrimitiveBuilder<UInt8Type>),
    UInt16(PrimitiveBuilder<UInt16Type>),
    UInt32(PrimitiveBuilder<UInt32Type>),
    UInt64(PrimitiveBuilder<UInt64Type>),
    Float32(PrimitiveBuilder<Float32Type>),
    Float64(PrimitiveBuilder<Float64Type>),
    Decimal128(PrimitiveBuilder<Decimal128Type>, u8, i8),
    Decimal256(PrimitiveBuilder<Decimal256Type>, u8, i8),
    Date(PrimitiveBuilder<Date32Type>),
    TimeMicros(PrimitiveBuilder<Time64MicrosecondType>),
    TimeNanos(PrimitiveBuilder<Time64NanosecondType>),
    TimestampMicros(PrimitiveBuilder<TimestampMicrosecondType>),
    TimestampNanos(PrimitiveBuilder<TimestampNanosecondType>),
    Interval(PrimitiveBuilder<IntervalMonthDayNanoType>),
    Utf8(StringBuilder),
    Utf8View(StringViewBuilder),
    LargeUtf8(LargeStringBuilder),
    Bytes(BinaryBuilder),
    BytesView(BinaryViewBuilder),
    LargeBytes(LargeBinaryBuilder),
}

impl Decoder {
    /// `wires`: what the values of each column of `schema` are.
    pub fn new(schema: &SchemaRef, wires: &[Wire], zero_dates_as_null: bool) -> Result<Self> {
        if schema.fields().len() != wires.len() {
            return internal_err!("a scan of MySQL has other columns than it says");
        }
        let column = |(field, wire): (&FieldRef, &Wire)| {
            let values = Values::new(field.data_type())?;
            Ok(Column { wire: *wire, values, zero_dates_as_null })
        };
        let columns = schema.fields().iter().zip(wires).map(column).collect::<Result<_>>()?;
        Ok(Self { schema: Arc::clone(schema), columns, rows: 0, bytes: 0 })
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// # Errors
    /// A value is none of its column's type; the message names column and value.
    pub fn take(&mut self, row: Row) -> Result<()> {
        let values = row.unwrap();
        if values.len() != self.columns.len() {
            return internal_err!("MySQL sends {} columns, and {} were asked for", values.len(), self.columns.len());
        }
        for (at, (column, value)) in self.columns.iter_mut().zip(values).enumerate() {
            self.bytes += if let Value::Bytes(bytes) = &value { bytes.len() + 8 } else { 8 };
            column.take(value).map_err(|why| {
                let name = self.schema.field(at).name();
                exec_datafusion_err!("the column {name} of MySQL {why}")
            })?;
        }
        self.rows += 1;
        Ok(())
    }

    /// The rows so far. The next ones are of the next batch.
    pub fn batch(&mut self) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = self.columns.iter_mut().map(|column| column.values.finish()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        // NULL in a column that has none is an error here: what is NOT NULL there may have changed.
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// A date without a day, a month or a year; no error shows more of it than the server does.
fn shown(value: &Value) -> String {
    match value {
        Value::Date(year, month, day, 0, 0, 0, 0) => format!("'{year:04}-{month:02}-{day:02}'"),
        Value::Bytes(bytes) => format!("'{}'", String::from_utf8_lossy(&bytes[..bytes.len().min(80)])),
        value => value.as_sql(true),
    }
}

impl Column {
    fn take(&mut self, value: Value) -> Taken {
        if value == Value::NULL {
            self.values.push_null();
            return Ok(());
        }
        if let (Value::Date(_, month, day, ..), true) = (&value, self.wire.is_temporal())
            && (*month == 0 || *day == 0)
        {
            if self.zero_dates_as_null {
                self.values.push_null();
                return Ok(());
            }
            return Err(format!(
                "has {}, which is no date: read it as NULL with OPTIONS (zero_dates 'null'), or declare the column as VARCHAR",
                shown(&value)
            ));
        }
        let value = match (self.wire, value) {
            (Wire::Bit, Value::Bytes(bytes)) => {
                Value::UInt(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
            }
            (_, value) => value,
        };
        self.values.push(value)
    }
}

fn number(value: &Value) -> Option<i128> {
    match value {
        Value::Int(number) => Some((*number).into()),
        Value::UInt(number) => Some((*number).into()),
        _ => None,
    }
}

fn push_number<T: ArrowPrimitiveType>(builder: &mut PrimitiveBuilder<T>, value: &Value) -> Taken
where
    T::Native: TryFrom<i128>,
{
    let found = number(value).and_then(|number| T::Native::try_from(number).ok());
    builder.append_value(found.ok_or_else(|| format!("has {}, which is no {}", shown(value), T::DATA_TYPE))?);
    Ok(())
}

fn date(value: &Value) -> Result<(NaiveDate, i64), String> {
    let Value::Date(year, month, day, hour, minute, second, micros) = value else {
        return Err(format!("has {}, which is no date", shown(value)));
    };
    let date = NaiveDate::from_ymd_opt((*year).into(), (*month).into(), (*day).into());
    let date = date.ok_or_else(|| format!("has {}, which is no date", shown(value)))?;
    let seconds = i64::from(*hour) * 3600 + i64::from(*minute) * 60 + i64::from(*second);
    Ok((date, seconds * SECOND_MICROS + i64::from(*micros)))
}

fn days(date: NaiveDate) -> i64 {
    date.signed_duration_since(NaiveDate::default()).num_days()
}

/// Microseconds since 1970.
fn micros(value: &Value) -> Result<i64, String> {
    let (date, micros) = date(value)?;
    Ok(days(date) * DAY_SECONDS * SECOND_MICROS + micros)
}

fn nanos(value: &Value, micros: i64) -> Result<i64, String> {
    micros.checked_mul(1000).ok_or_else(|| format!("has {}, which is beyond the years of nanoseconds", shown(value)))
}

/// Microseconds of a TIME, which has a sign.
fn time(value: &Value) -> Result<i64, String> {
    let Value::Time(is_negative, days, hours, minutes, seconds, micros) = value else {
        return Err(format!("has {}, which is no time", shown(value)));
    };
    let seconds =
        i64::from(*days) * DAY_SECONDS + i64::from(*hours) * 3600 + i64::from(*minutes) * 60 + i64::from(*seconds);
    let micros = seconds * SECOND_MICROS + i64::from(*micros);
    Ok(if *is_negative { -micros } else { micros })
}

fn time_of_day(value: &Value) -> Result<i64, String> {
    let micros = time(value)?;
    let is_one = (0..DAY_SECONDS * SECOND_MICROS).contains(&micros);
    is_one.then_some(micros).ok_or_else(|| format!("has {}, which is no time of a day", shown(value)))
}

/// The digits of a decimal number without its point, with `scale` digits behind it. `None`: it has more of them.
fn scaled(text: &str, scale: i8) -> Option<String> {
    let scale = usize::try_from(scale).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (kept, rest) = fraction.split_at(fraction.len().min(scale));
    let is_exact = rest.bytes().all(|digit| digit == b'0');
    is_exact.then(|| format!("{whole}{kept:0<scale$}"))
}

fn text(value: Value) -> Result<String, String> {
    match value {
        Value::Bytes(bytes) => String::from_utf8(bytes).map_err(|_| "has a text that is not UTF-8".to_string()),
        value => Err(format!("has {}, which is no text", shown(&value))),
    }
}

fn bytes(value: Value) -> Result<Vec<u8>, String> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        value => Err(format!("has {}, which are no bytes", shown(&value))),
    }
}

macro_rules! each {
    ($values:expr, $builder:ident => $what:expr) => {
        match $values {
            Values::Bool($builder) => $what,
            Values::Int8($builder) => $what,
            Values::Int16($builder) => $what,
            Values::Int32($builder) => $what,
            Values::Int64($builder) => $what,
            Values::UInt8($builder) => $what,
            Values::UInt16($builder) => $what,
            Values::UInt32($builder) => $what,
            Values::UInt64($builder) => $what,
            Values::Float32($builder) => $what,
            Values::Float64($builder) => $what,
            Values::Decimal128($builder, ..) => $what,
            Values::Decimal256($builder, ..) => $what,
            Values::Date($builder) => $what,
            Values::TimeMicros($builder) => $what,
            Values::TimeNanos($builder) => $what,
            Values::TimestampMicros($builder) => $what,
            Values::TimestampNanos($builder) => $what,
            Values::Interval($builder) => $what,
            Values::Utf8($builder) => $what,
            Values::Utf8View($builder) => $what,
            Values::LargeUtf8($builder) => $what,
            Values::Bytes($builder) => $what,
            Values::BytesView($builder) => $what,
            Values::LargeBytes($builder) => $what,
        }
    };
}

impl Values {
    fn new(kind: &DataType) -> Result<Self> {
        Ok(match kind {
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::Int8 => Self::Int8(PrimitiveBuilder::new()),
            DataType::Int16 => Self::Int16(PrimitiveBuilder::new()),
            DataType::Int32 => Self::Int32(PrimitiveBuilder::new()),
            DataType::Int64 => Self::Int64(PrimitiveBuilder::new()),
            DataType::UInt8 => Self::UInt8(PrimitiveBuilder::new()),
            DataType::UInt16 => Self::UInt16(PrimitiveBuilder::new()),
            DataType::UInt32 => Self::UInt32(PrimitiveBuilder::new()),
            DataType::UInt64 => Self::UInt64(PrimitiveBuilder::new()),
            DataType::Float32 => Self::Float32(PrimitiveBuilder::new()),
            DataType::Float64 => Self::Float64(PrimitiveBuilder::new()),
            DataType::Decimal128(digits, scale) => {
                Self::Decimal128(PrimitiveBuilder::new().with_data_type(kind.clone()), *digits, *scale)
            }
            DataType::Decimal256(digits, scale) => {
                Self::Decimal256(PrimitiveBuilder::new().with_data_type(kind.clone()), *digits, *scale)
            }
            DataType::Date32 => Self::Date(PrimitiveBuilder::new()),
            DataType::Time64(TimeUnit::Microsecond) => Self::TimeMicros(PrimitiveBuilder::new()),
            DataType::Time64(TimeUnit::Nanosecond) => Self::TimeNanos(PrimitiveBuilder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Self::TimestampMicros(PrimitiveBuilder::new().with_data_type(kind.clone()))
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                Self::TimestampNanos(PrimitiveBuilder::new().with_data_type(kind.clone()))
            }
            DataType::Interval(_) => Self::Interval(PrimitiveBuilder::new()),
            DataType::Utf8 => Self::Utf8(StringBuilder::new()),
            DataType::Utf8View => Self::Utf8View(StringViewBuilder::new()),
            DataType::LargeUtf8 => Self::LargeUtf8(LargeStringBuilder::new()),
            DataType::Binary => Self::Bytes(BinaryBuilder::new()),
            DataType::BinaryView => Self::BytesView(BinaryViewBuilder::new()),
            DataType::LargeBinary => Self::LargeBytes(LargeBinaryBuilder::new()),
            other => return internal_err!("no type of MySQL is read as {other}"),
        })
    }

    fn push_null(&mut self) {
        each!(self, builder => builder.append_null());
    }

    fn finish(&mut self) -> ArrayRef {
        each!(self, builder => Arc::new(builder.finish()))
    }

    fn push(&mut self, value: Value) -> Taken {
        match self {
            Self::Bool(builder) => match number(&value) {
                Some(number @ (0 | 1)) => builder.append_value(number == 1),
                _ => {
                    return Err(format!(
                        "has {}, which is neither true nor false: read TINYINT(1) as numbers with OPTIONS (tinyint1 'integer')",
                        shown(&value)
                    ));
                }
            },
            Self::Int8(builder) => push_number(builder, &value)?,
            Self::Int16(builder) => push_number(builder, &value)?,
            Self::Int32(builder) => push_number(builder, &value)?,
            Self::Int64(builder) => push_number(builder, &value)?,
            Self::UInt8(builder) => push_number(builder, &value)?,
            Self::UInt16(builder) => push_number(builder, &value)?,
            Self::UInt32(builder) => push_number(builder, &value)?,
            Self::UInt64(builder) => push_number(builder, &value)?,
            Self::Float32(builder) => match value {
                Value::Float(number) => builder.append_value(number),
                other => return Err(format!("has {}, which is no REAL", shown(&other))),
            },
            Self::Float64(builder) => match value {
                Value::Double(number) => builder.append_value(number),
                other => return Err(format!("has {}, which is no DOUBLE", shown(&other))),
            },
            Self::Decimal128(builder, digits, scale) => {
                let (digits, scale, number) = (*digits, *scale, text(value)?);
                let found = scaled(&number, scale).and_then(|digits| digits.parse::<i128>().ok());
                let fits = found.filter(|found| found.unsigned_abs() < 10_u128.pow(digits.into()));
                builder
                    .append_value(fits.ok_or_else(|| format!("has {number}, which is no DECIMAL({digits}, {scale})"))?);
            }
            Self::Decimal256(builder, digits, scale) => {
                let (digits, scale, number) = (*digits, *scale, text(value)?);
                let found =
                    scaled(&number, scale).filter(|found| found.trim_start_matches(['-', '0']).len() <= digits.into());
                let found = found.and_then(|digits| i256::from_string(&digits));
                builder.append_value(
                    found.ok_or_else(|| format!("has {number}, which is no DECIMAL({digits}, {scale})"))?,
                );
            }
            Self::Date(builder) => builder.append_value(days(date(&value)?.0) as i32),
            Self::TimeMicros(builder) => builder.append_value(time_of_day(&value)?),
            Self::TimeNanos(builder) => builder.append_value(time_of_day(&value)? * 1000),
            Self::TimestampMicros(builder) => builder.append_value(micros(&value)?),
            Self::TimestampNanos(builder) => builder.append_value(nanos(&value, micros(&value)?)?),
            Self::Interval(builder) => {
                builder.append_value(IntervalMonthDayNano::new(0, 0, time(&value)? * 1000));
            }
            Self::Utf8(builder) => builder.append_value(text(value)?),
            Self::Utf8View(builder) => builder.append_value(text(value)?),
            Self::LargeUtf8(builder) => builder.append_value(text(value)?),
            Self::Bytes(builder) => builder.append_value(bytes(value)?),
            Self::BytesView(builder) => builder.append_value(bytes(value)?),
            Self::LargeBytes(builder) => builder.append_value(bytes(value)?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;

    fn taken(kind: DataType, wire: Wire, value: Value) -> Result<ArrayRef, String> {
        let mut column = Column { wire, values: Values::new(&kind).unwrap(), zero_dates_as_null: false };
        column.take(value)?;
        Ok(column.values.finish())
    }

    #[test]
    fn decimals_are_exact() {
        let of = |text: &str, digits, scale| {
            let taken = taken(DataType::Decimal128(digits, scale), Wire::Decimal, Value::Bytes(text.into()))?;
            Ok::<_, String>(taken.as_primitive::<Decimal128Type>().value(0))
        };
        assert_eq!(of("-12.340", 10, 3), Ok(-12_340));
        assert_eq!(of("-0.05", 4, 2), Ok(-5));
        assert_eq!(of("7", 4, 2), Ok(700));
        assert_eq!(of("1.500", 4, 1), Ok(15));
        assert!(of("1.55", 4, 1).unwrap_err().contains("1.55"));
        assert!(of("12345", 4, 0).is_err());
    }

    #[test]
    fn values_out_of_range_are_errors_that_name_them() {
        let error = taken(DataType::Boolean, Wire::Bool, Value::Int(2)).unwrap_err();
        assert!(error.contains("has 2") && error.contains("tinyint1"), "{error}");
        let error = taken(DataType::Date32, Wire::Date, Value::Date(0, 0, 0, 0, 0, 0, 0)).unwrap_err();
        assert!(error.contains("'0000-00-00'") && error.contains("zero_dates"), "{error}");
        let error = taken(DataType::Time64(TimeUnit::Microsecond), Wire::Time, Value::Time(true, 1, 0, 0, 0, 0));
        assert!(error.unwrap_err().contains("no time of a day"));
        assert!(taken(DataType::Int8, Wire::Int, Value::Int(200)).is_err());
    }

    #[test]
    fn times_have_signs_and_days() {
        let kind = DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano);
        let found = taken(kind, Wire::Time, Value::Time(true, 34, 22, 59, 59, 5)).unwrap();
        let expected = IntervalMonthDayNano::new(0, 0, -(838 * 3600 + 59 * 60 + 59) * 1_000_000_000 - 5000);
        assert_eq!(found.as_primitive::<IntervalMonthDayNanoType>().value(0), expected);
    }
}
