//! Rows of binary COPY become columns.
//! <https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4>

use super::numeric::{Numeric, scaled_128, scaled_256};
use super::types::Wire;
use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BinaryViewBuilder, BooleanBuilder, LargeBinaryBuilder,
    LargeStringBuilder, ListArray, PrimitiveBuilder, RecordBatch, RecordBatchOptions, StringBuilder, StringViewBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, FieldRef, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, SchemaRef, Time64MicrosecondType, Time64NanosecondType,
    TimeUnit, TimestampMicrosecondType, TimestampNanosecondType, i256,
};
use datafusion::arrow;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err, internal_err};
use std::fmt::Write;
use std::sync::Arc;

/// What a stream begins with.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Days and microseconds from 1970 to 2000.
pub(super) const EPOCH_DAYS: i32 = 10_957;
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;
const DAY_MICROS: i64 = 86_400_000_000;

/// Collects the rows of one batch.
pub(super) struct Decoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
    /// Received for these rows.
    bytes: usize,
    /// The header has been read, and its trailer.
    begun: bool,
    ended: bool,
}

struct Column {
    values: Values,
    is_nullable: bool,
    infinity_as_null: bool,
}

/// Why a value cannot be taken.
type Taken = Result<(), String>;

enum Values {
    Bool(BooleanBuilder),
    Int16(PrimitiveBuilder<Int16Type>),
    Int32(PrimitiveBuilder<Int32Type>),
    Int64(PrimitiveBuilder<Int64Type>),
    Oid(PrimitiveBuilder<Int64Type>),
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
    Text(Texts, Form),
    Bytes(BinaryBuilder),
    BytesView(BinaryViewBuilder),
    LargeBytes(LargeBinaryBuilder),
    List(Box<Lists>),
}

/// How a text is made of what is received.
#[derive(Clone, Copy)]
enum Form {
    Plain,
    /// Behind a byte that says the version.
    Jsonb,
    Uuid,
}

enum Texts {
    Utf8(StringBuilder),
    View(StringViewBuilder),
    Large(LargeStringBuilder),
}

struct Lists {
    field: FieldRef,
    values: Values,
    offsets: Vec<i32>,
    validity: Vec<bool>,
    infinity_as_null: bool,
}

impl Decoder {
    /// `wires`: how the values of each column of `schema` travel.
    pub fn new(schema: &SchemaRef, wires: &[Wire], infinity_as_null: bool) -> Result<Self> {
        if schema.fields().len() != wires.len() {
            return internal_err!("a scan of PostgreSQL has other columns than it says");
        }
        let column = |(field, wire): (&FieldRef, &Wire)| {
            let values = Values::new(wire, field.data_type(), infinity_as_null)?;
            Ok(Column { values, is_nullable: field.is_nullable(), infinity_as_null })
        };
        let columns = schema.fields().iter().zip(wires).map(column).collect::<Result<_>>()?;
        Ok(Self { schema: Arc::clone(schema), columns, rows: 0, bytes: 0, begun: false, ended: false })
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes one row. The first piece also has the header, and the last one is the trailer.
    pub fn take(&mut self, mut piece: &[u8]) -> Result<()> {
        if !self.begun {
            let rest = piece.strip_prefix(SIGNATURE).and_then(|rest| rest.get(4..));
            let extension = rest.and_then(|rest| rest.split_first_chunk::<4>());
            let Some((length, rest)) = extension else { return exec_err!("PostgreSQL sends no binary COPY") };
            piece = rest.get(u32::from_be_bytes(*length) as usize..).unwrap_or_default();
            self.begun = true;
            if piece.is_empty() {
                return Ok(());
            }
        }
        let Some((count, mut rest)) = piece.split_first_chunk::<2>() else { return cut_off() };
        let count = i16::from_be_bytes(*count);
        if count == -1 {
            self.ended = true;
            return Ok(());
        }
        if usize::try_from(count) != Ok(self.columns.len()) {
            return exec_err!("PostgreSQL sends {count} columns, and {} were asked for", self.columns.len());
        }
        for (at, column) in self.columns.iter_mut().enumerate() {
            let Some(value) = next(&mut rest) else { return cut_off() };
            let taken = match value {
                Some(value) => column.values.push(value, column.infinity_as_null),
                None if column.is_nullable => {
                    column.values.push_null();
                    Ok(())
                }
                None => Err("is NULL, and was NOT NULL when the table was created: create it again".to_string()),
            };
            taken.map_err(|why| {
                exec_datafusion_err!("the column {} of PostgreSQL {why}", self.schema.field(at).name())
            })?;
        }
        self.rows += 1;
        self.bytes += piece.len();
        Ok(())
    }

    /// # Errors
    /// The trailer has not come.
    pub fn end(&self) -> Result<()> {
        if self.ended { Ok(()) } else { cut_off() }
    }

    /// The rows so far.
    pub fn batch(&mut self) -> Result<RecordBatch> {
        let columns = self.columns.iter_mut().map(|column| column.values.finish()).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

fn cut_off<T>() -> Result<T> {
    // The connection ended well, so it is not to be tried again.
    Err(DataFusionError::Execution("what PostgreSQL copies out is cut off".to_string()))
}

/// A value behind its length. The outer `None`: it is cut off.
fn next<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    match usize::try_from(i32::from_be_bytes(*length)) {
        Ok(length) => {
            let (value, after) = after.split_at_checked(length)?;
            *rest = after;
            Some(Some(value))
        }
        Err(_) => {
            *rest = after;
            Some(None)
        }
    }
}

fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], String> {
    value
        .try_into()
        .map_err(|_| format!("has a value of {} bytes, where {N} belong: was its type changed?", value.len()))
}

fn put<T: ArrowPrimitiveType>(into: &mut PrimitiveBuilder<T>, value: T::Native) -> Taken {
    into.append_value(value);
    Ok(())
}

impl Values {
    fn new(wire: &Wire, kind: &DataType, infinity_as_null: bool) -> Result<Self> {
        let typed = |builder: PrimitiveBuilder<TimestampMicrosecondType>| builder.with_data_type(kind.clone());
        Ok(match (wire, kind) {
            (Wire::Bool, DataType::Boolean) => Self::Bool(BooleanBuilder::new()),
            (Wire::Int2, DataType::Int16) => Self::Int16(PrimitiveBuilder::new()),
            (Wire::Int4, DataType::Int32) => Self::Int32(PrimitiveBuilder::new()),
            (Wire::Int8, DataType::Int64) => Self::Int64(PrimitiveBuilder::new()),
            (Wire::Oid, DataType::Int64) => Self::Oid(PrimitiveBuilder::new()),
            (Wire::Float4, DataType::Float32) => Self::Float32(PrimitiveBuilder::new()),
            (Wire::Float8, DataType::Float64) => Self::Float64(PrimitiveBuilder::new()),
            (Wire::Numeric, DataType::Decimal128(precision, scale)) => {
                Self::Decimal128(PrimitiveBuilder::new().with_data_type(kind.clone()), *precision, *scale)
            }
            (Wire::Numeric, DataType::Decimal256(precision, scale)) => {
                Self::Decimal256(PrimitiveBuilder::new().with_data_type(kind.clone()), *precision, *scale)
            }
            (Wire::Date, DataType::Date32) => Self::Date(PrimitiveBuilder::new()),
            (Wire::Time, DataType::Time64(TimeUnit::Microsecond)) => Self::TimeMicros(PrimitiveBuilder::new()),
            (Wire::Time, DataType::Time64(TimeUnit::Nanosecond)) => Self::TimeNanos(PrimitiveBuilder::new()),
            (Wire::Timestamp | Wire::TimestampTz, DataType::Timestamp(TimeUnit::Microsecond, _)) => {
                Self::TimestampMicros(typed(PrimitiveBuilder::new()))
            }
            (Wire::Timestamp | Wire::TimestampTz, DataType::Timestamp(TimeUnit::Nanosecond, _)) => {
                Self::TimestampNanos(PrimitiveBuilder::new().with_data_type(kind.clone()))
            }
            (Wire::Interval, DataType::Interval(_)) => Self::Interval(PrimitiveBuilder::new()),
            (Wire::Bytea, DataType::Binary) => Self::Bytes(BinaryBuilder::new()),
            (Wire::Bytea, DataType::BinaryView) => Self::BytesView(BinaryViewBuilder::new()),
            (Wire::Bytea, DataType::LargeBinary) => Self::LargeBytes(LargeBinaryBuilder::new()),
            (Wire::Array(element), DataType::List(field)) => Self::List(Box::new(Lists {
                field: Arc::clone(field),
                values: Self::new(element, field.data_type(), infinity_as_null)?,
                offsets: vec![0],
                validity: Vec::new(),
                infinity_as_null,
            })),
            (wire, kind) => {
                let form = match wire {
                    Wire::Text | Wire::Char | Wire::AsText => Form::Plain,
                    Wire::Jsonb => Form::Jsonb,
                    Wire::Uuid => Form::Uuid,
                    _ => return internal_err!("{wire} of PostgreSQL is not read as {kind}"),
                };
                let texts = match kind {
                    DataType::Utf8 => Texts::Utf8(StringBuilder::new()),
                    DataType::Utf8View => Texts::View(StringViewBuilder::new()),
                    DataType::LargeUtf8 => Texts::Large(LargeStringBuilder::new()),
                    kind => return internal_err!("{wire} of PostgreSQL is not read as {kind}"),
                };
                Self::Text(texts, form)
            }
        })
    }

    fn push(&mut self, value: &[u8], infinity_as_null: bool) -> Taken {
        match self {
            Self::Bool(into) => {
                into.append_value(fixed::<1>(value)? != [0]);
                Ok(())
            }
            Self::Int16(into) => put(into, i16::from_be_bytes(fixed(value)?)),
            Self::Int32(into) => put(into, i32::from_be_bytes(fixed(value)?)),
            Self::Int64(into) => put(into, i64::from_be_bytes(fixed(value)?)),
            Self::Oid(into) => put(into, u32::from_be_bytes(fixed(value)?).into()),
            // One NaN, as everywhere.
            Self::Float32(into) => {
                let number = f32::from_be_bytes(fixed(value)?);
                put(into, if number.is_nan() { f32::NAN } else { number })
            }
            Self::Float64(into) => {
                let number = f64::from_be_bytes(fixed(value)?);
                put(into, if number.is_nan() { f64::NAN } else { number })
            }
            Self::Decimal128(into, precision, scale) => {
                let numeric = numeric(value)?;
                let number = scaled_128(&numeric, *scale).filter(|number| fits(number.unsigned_abs(), *precision));
                put(into, number.ok_or_else(|| not_decimal(&numeric, *precision, *scale))?)
            }
            Self::Decimal256(into, precision, scale) => {
                let numeric = numeric(value)?;
                let most = i256::from_i128(10).checked_pow(u32::from(*precision));
                let holds =
                    |number: &i256| most.is_none_or(|most| number.checked_abs().is_some_and(|number| number < most));
                let number = scaled_256(&numeric, *scale).filter(holds);
                put(into, number.ok_or_else(|| not_decimal(&numeric, *precision, *scale))?)
            }
            Self::Date(into) => match i32::from_be_bytes(fixed(value)?) {
                i32::MAX | i32::MIN if infinity_as_null => {
                    into.append_null();
                    Ok(())
                }
                i32::MAX | i32::MIN => Err(infinite()),
                days => {
                    put(into, days.checked_add(EPOCH_DAYS).ok_or_else(|| "has a date that is too late".to_string())?)
                }
            },
            Self::TimeMicros(into) => put(into, time(value)?),
            Self::TimeNanos(into) => put(into, time(value)? * 1000),
            Self::TimestampMicros(into) => match instant(value, infinity_as_null)? {
                Some(micros) => put(into, micros),
                None => {
                    into.append_null();
                    Ok(())
                }
            },
            Self::TimestampNanos(into) => match instant(value, infinity_as_null)? {
                Some(micros) => {
                    let nanos = micros.checked_mul(1000);
                    put(into, nanos.ok_or("has a timestamp that nanoseconds do not reach: declare it TIMESTAMP(6)")?)
                }
                None => {
                    into.append_null();
                    Ok(())
                }
            },
            Self::Interval(into) => {
                let bytes: [u8; 16] = fixed(value)?;
                let (micros, rest) = bytes.split_at(8);
                let (days, months) = rest.split_at(4);
                let micros = i64::from_be_bytes(fixed(micros)?);
                let (days, months) = (i32::from_be_bytes(fixed(days)?), i32::from_be_bytes(fixed(months)?));
                let nanos = micros.checked_mul(1000).ok_or("has an interval of more than 292 years of hours")?;
                put(into, IntervalMonthDayNano::new(months, days, nanos))
            }
            Self::Text(into, form) => into.push(value, *form),
            Self::Bytes(into) => {
                into.append_value(value);
                Ok(())
            }
            Self::BytesView(into) => {
                into.append_value(value);
                Ok(())
            }
            Self::LargeBytes(into) => {
                into.append_value(value);
                Ok(())
            }
            Self::List(into) => into.push(value),
        }
    }

    fn push_null(&mut self) {
        match self {
            Self::Bool(into) => into.append_null(),
            Self::Int16(into) => into.append_null(),
            Self::Int32(into) => into.append_null(),
            Self::Int64(into) | Self::Oid(into) => into.append_null(),
            Self::Float32(into) => into.append_null(),
            Self::Float64(into) => into.append_null(),
            Self::Decimal128(into, ..) => into.append_null(),
            Self::Decimal256(into, ..) => into.append_null(),
            Self::Date(into) => into.append_null(),
            Self::TimeMicros(into) => into.append_null(),
            Self::TimeNanos(into) => into.append_null(),
            Self::TimestampMicros(into) => into.append_null(),
            Self::TimestampNanos(into) => into.append_null(),
            Self::Interval(into) => into.append_null(),
            Self::Text(Texts::Utf8(into), _) => into.append_null(),
            Self::Text(Texts::View(into), _) => into.append_null(),
            Self::Text(Texts::Large(into), _) => into.append_null(),
            Self::Bytes(into) => into.append_null(),
            Self::BytesView(into) => into.append_null(),
            Self::LargeBytes(into) => into.append_null(),
            Self::List(into) => into.close(false),
        }
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Bool(values) => Arc::new(values.finish()),
            Self::Int16(values) => Arc::new(values.finish()),
            Self::Int32(values) => Arc::new(values.finish()),
            Self::Int64(values) | Self::Oid(values) => Arc::new(values.finish()),
            Self::Float32(values) => Arc::new(values.finish()),
            Self::Float64(values) => Arc::new(values.finish()),
            Self::Decimal128(values, ..) => Arc::new(values.finish()),
            Self::Decimal256(values, ..) => Arc::new(values.finish()),
            Self::Date(values) => Arc::new(values.finish()),
            Self::TimeMicros(values) => Arc::new(values.finish()),
            Self::TimeNanos(values) => Arc::new(values.finish()),
            Self::TimestampMicros(values) => Arc::new(values.finish()),
            Self::TimestampNanos(values) => Arc::new(values.finish()),
            Self::Interval(values) => Arc::new(values.finish()),
            Self::Text(Texts::Utf8(values), _) => Arc::new(values.finish()),
            Self::Text(Texts::View(values), _) => Arc::new(values.finish()),
            Self::Text(Texts::Large(values), _) => Arc::new(values.finish()),
            Self::Bytes(values) => Arc::new(values.finish()),
            Self::BytesView(values) => Arc::new(values.finish()),
            Self::LargeBytes(values) => Arc::new(values.finish()),
            Self::List(values) => values.finish()?,
        })
    }
}

impl Texts {
    fn push(&mut self, value: &[u8], form: Form) -> Taken {
        let mut uuid = String::new();
        let value = match form {
            Form::Plain => text(value)?,
            Form::Jsonb => match value.split_first() {
                Some((1, json)) => text(json)?,
                _ => return Err("has jsonb of an unknown version".to_string()),
            },
            Form::Uuid => {
                for (at, byte) in fixed::<16>(value)?.iter().enumerate() {
                    let hyphen = if [4, 6, 8, 10].contains(&at) { "-" } else { "" };
                    // A string takes all that is written to it.
                    let _ = write!(uuid, "{hyphen}{byte:02x}");
                }
                &uuid
            }
        };
        match self {
            Self::Utf8(into) => into.append_value(value),
            Self::View(into) => into.append_value(value),
            Self::Large(into) => into.append_value(value),
        }
        Ok(())
    }
}

fn text(value: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(value)
        .map_err(|_| "has a text that is not UTF-8: the server's encoding is SQL_ASCII?".to_string())
}

fn numeric(value: &[u8]) -> Result<Numeric<'_>, String> {
    Numeric::read(value).ok_or_else(|| "has a number that is not understood: was its type changed?".to_string())
}

fn fits(number: u128, precision: u8) -> bool {
    10_u128.checked_pow(precision.into()).is_none_or(|most| number < most)
}

fn not_decimal(numeric: &Numeric<'_>, precision: u8, scale: i8) -> String {
    format!(
        "has the value {}, which DECIMAL({precision}, {scale}) does not hold: declare the column VARCHAR or another DECIMAL, or \
         set the option numeric to 'text'",
        numeric.text()
    )
}

fn infinite() -> String {
    "has the value infinity, for which there is no date or timestamp: set the option infinity to 'null', or declare the column VARCHAR"
        .to_string()
}

fn time(value: &[u8]) -> Result<i64, String> {
    match i64::from_be_bytes(fixed(value)?) {
        micros @ 0..DAY_MICROS => Ok(micros),
        _ => Err("has the value 24:00:00, which is no time here: declare the column VARCHAR".to_string()),
    }
}

fn instant(value: &[u8], infinity_as_null: bool) -> Result<Option<i64>, String> {
    match i64::from_be_bytes(fixed(value)?) {
        i64::MAX | i64::MIN if infinity_as_null => Ok(None),
        i64::MAX | i64::MIN => Err(infinite()),
        micros => match micros.checked_add(EPOCH_MICROS) {
            Some(micros) => Ok(Some(micros)),
            None => Err("has a timestamp after the year 294246: declare the column VARCHAR".to_string()),
        },
    }
}

impl Lists {
    /// One array: its dimensions, whether it has NULLs, the type of its elements; of each dimension the length and the first index; the elements.
    fn push(&mut self, value: &[u8]) -> Taken {
        let wrong = || "has an array that is not understood".to_string();
        let (dimensions, rest) = value.split_first_chunk::<4>().ok_or_else(wrong)?;
        let mut rest = rest.get(8..).ok_or_else(wrong)?;
        match i32::from_be_bytes(*dimensions) {
            0 => {}
            1 => {
                let (length, after) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
                rest = after.get(4..).ok_or_else(wrong)?;
                for _ in 0..i32::from_be_bytes(*length) {
                    match next(&mut rest).ok_or_else(wrong)? {
                        Some(element) => self.values.push(element, self.infinity_as_null)?,
                        None => self.values.push_null(),
                    }
                }
                self.add(i32::from_be_bytes(*length))?;
                self.validity.push(true);
                return Ok(());
            }
            more => {
                return Err(format!(
                    "has an array of {more} dimensions, and lists have one: declare the column VARCHAR"
                ));
            }
        }
        self.close(true);
        Ok(())
    }

    fn add(&mut self, length: i32) -> Taken {
        let last = self.offsets.last().copied().unwrap_or(0);
        let end = last.checked_add(length).ok_or("has arrays of more than 2^31 elements together")?;
        self.offsets.push(end);
        Ok(())
    }

    /// An empty list, or NULL.
    fn close(&mut self, is_valid: bool) {
        self.offsets.push(self.offsets.last().copied().unwrap_or(0));
        self.validity.push(is_valid);
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let validity = std::mem::take(&mut self.validity);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let values = self.values.finish()?;
        Ok(Arc::new(ListArray::try_new(Arc::clone(&self.field), offsets, values, Some(NullBuffer::from(validity)))?))
    }
}
