//! Columns become rows of binary COPY.

use super::decode::{EPOCH_DAYS, EPOCH_MICROS};
use super::numeric;
use super::types::Wire;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Decimal256Array, ListArray, PrimitiveArray, RecordBatch,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, IntervalMonthDayNanoType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use datafusion::arrow;
use datafusion::common::{Result, exec_datafusion_err, exec_err};

/// Signature, flags, and the length of an extension of the header.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: &[u8] = &[0xff, 0xff];
/// Bytes that are sent at a time, about.
const PIECE: usize = 256 << 10;

/// Writes rows into pieces of a stream.
pub(super) struct Encoder {
    columns: Vec<(String, Wire)>,
    fit: Fit,
    buffer: Vec<u8>,
    rows: u64,
    /// Rows that cannot be sent are passed over.
    aside: Option<Aside>,
}

/// What is known of rows that are passed over.
#[derive(Default)]
struct Aside {
    /// Positions of columns that are NOT NULL.
    not_null: Vec<usize>,
    /// Rows of batches, with the reasons.
    rows: Vec<(usize, String)>,
}

/// How a nanosecond becomes microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// To the nearest one, of two that are as near the one further from zero, as the server rounds.
    Nearest,
    /// A value that would lose digits is an error.
    Exact,
}

impl Encoder {
    pub fn new(columns: Vec<(String, Wire)>, fit: Fit) -> Self {
        Self { columns, fit, buffer: HEADER.to_vec(), rows: 0, aside: None }
    }

    /// Passes over rows that cannot be sent, or have NULL in one of these columns. [`Encoder::passed_over`] gives them.
    pub fn setting_aside(self, not_null: Vec<usize>) -> Self {
        Self { aside: Some(Aside { not_null, rows: Vec::new() }), ..self }
    }

    /// Returns the rows, of the batch that was taken last, that were passed over, with the reasons.
    pub fn passed_over(&mut self) -> Vec<(usize, String)> {
        self.aside.as_mut().map(|aside| std::mem::take(&mut aside.rows)).unwrap_or_default()
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
                (Ok(()), _) => self.rows += 1,
                (Err((column, why)), Some(aside)) => {
                    self.buffer.truncate(start);
                    aside.rows.push((at, format!("the column {}: {why}", self.columns[column].0)));
                }
                (Err((column, why)), None) => {
                    let (name, row) = (&self.columns[column].0, self.rows + 1);
                    return exec_err!("the column {name} of PostgreSQL does not take row {row}: {why}");
                }
            }
            at += 1;
        }
        Ok(at)
    }

    /// Puts one row into the buffer. An error has the position of the column.
    fn put(&mut self, batch: &Prepared, at: usize) -> Result<(), (usize, String)> {
        if let Some(aside) = &self.aside {
            if let Some(column) = aside.not_null.iter().find(|column| batch.columns[**column].array().is_null(at)) {
                return Err((*column, "is NULL, and NOT NULL on the server".to_string()));
            }
            if let Some(column) = batch.columns.iter().position(|values| values.has_zero(at)) {
                return Err((column, "has a zero byte, which PostgreSQL's texts do not hold".to_string()));
            }
        }
        self.buffer.extend_from_slice(&(batch.columns.len() as i16).to_be_bytes());
        for (column, values) in batch.columns.iter().enumerate() {
            values.put(at, &mut self.buffer).map_err(|why| (column, why))?;
        }
        Ok(())
    }

    pub fn is_full(&self) -> bool {
        self.buffer.len() >= PIECE
    }

    pub fn piece(&self) -> &[u8] {
        &self.buffer
    }

    pub fn clear(&mut self) {
        self.buffer.clear();
    }

    pub fn end(&mut self) {
        self.buffer.extend_from_slice(TRAILER);
    }

    /// # Errors
    /// A column is of a type that is not written so.
    pub fn prepared(&self, batch: &RecordBatch) -> Result<Prepared> {
        let pairs = batch.columns().iter().zip(&self.columns);
        let columns = pairs.map(|(column, (name, wire))| {
            let values = Values::new(column, wire, self.fit);
            values.map_err(|why| exec_datafusion_err!("the column {name} of PostgreSQL {why}"))
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
    Int16(PrimitiveArray<Int16Type>),
    Int32(PrimitiveArray<Int32Type>),
    Int64(PrimitiveArray<Int64Type>),
    Oid(PrimitiveArray<Int64Type>),
    Float32(PrimitiveArray<Float32Type>),
    Float64(PrimitiveArray<Float64Type>),
    Decimal128(Decimal128Array),
    Decimal256(Decimal256Array),
    Date(PrimitiveArray<Date32Type>),
    TimeMicros(PrimitiveArray<Time64MicrosecondType>),
    TimeNanos(PrimitiveArray<Time64NanosecondType>, Fit),
    TimestampMicros(PrimitiveArray<TimestampMicrosecondType>),
    TimestampNanos(PrimitiveArray<TimestampNanosecondType>, Fit),
    Interval(PrimitiveArray<IntervalMonthDayNanoType>, Fit),
    /// As UTF-8.
    Text(ArrayRef),
    Jsonb(ArrayRef),
    Uuid(ArrayRef),
    Bytes(ArrayRef),
    List(ListArray, Box<Values>, i32),
}

/// Returns the server's name of the type of an array's elements.
fn oid(wire: &Wire) -> i32 {
    match wire {
        Wire::Bool => 16,
        Wire::Int2 => 21,
        Wire::Int4 => 23,
        Wire::Int8 => 20,
        Wire::Oid => 26,
        Wire::Float4 => 700,
        Wire::Float8 => 701,
        Wire::Numeric => 1700,
        Wire::Bytea => 17,
        Wire::Date => 1082,
        Wire::Time => 1083,
        Wire::Timestamp => 1114,
        Wire::TimestampTz => 1184,
        Wire::Interval => 1186,
        Wire::Uuid => 2950,
        Wire::Jsonb => 3802,
        Wire::Char => 1042,
        Wire::Text | Wire::AsText | Wire::Array(_) => 25,
    }
}

/// The type of the values as they are sent, without lengths and domains.
pub(super) fn base_type(wire: &Wire) -> String {
    let name = match wire {
        Wire::Bool => "bool",
        Wire::Int2 => "int2",
        Wire::Int4 => "int4",
        Wire::Int8 => "int8",
        Wire::Oid => "oid",
        Wire::Float4 => "float4",
        Wire::Float8 => "float8",
        Wire::Numeric => "numeric",
        Wire::Bytea => "bytea",
        Wire::Date => "date",
        Wire::Time => "time",
        Wire::Timestamp => "timestamp",
        Wire::TimestampTz => "timestamptz",
        Wire::Interval => "interval",
        Wire::Uuid => "uuid",
        Wire::Jsonb => "jsonb",
        Wire::Text | Wire::Char | Wire::AsText => "text",
        Wire::Array(element) => return format!("{}[]", base_type(element)),
    };
    format!("pg_catalog.{name}")
}

/// The type that a staged column has where the values are cast later; `declared` else.
pub(super) fn staged_type(wire: &Wire, declared: &str) -> String {
    match wire {
        Wire::AsText => "pg_catalog.text".to_string(),
        Wire::Array(element) => match element.as_ref() {
            Wire::AsText => "pg_catalog.text[]".to_string(),
            // Its elements are named by what they are sent as: a varchar is a text here.
            Wire::Text => "pg_catalog.text[]".to_string(),
            _ => declared.to_string(),
        },
        _ => declared.to_string(),
    }
}

impl Values {
    fn new(column: &ArrayRef, wire: &Wire, fit: Fit) -> Result<Self, String> {
        let unfit = || format!("is not written from {}", column.data_type());
        Ok(match (wire, column.data_type()) {
            (Wire::Bool, DataType::Boolean) => Self::Bool(column.as_boolean().clone()),
            (Wire::Int2, DataType::Int16) => Self::Int16(column.as_primitive().clone()),
            (Wire::Int4, DataType::Int32) => Self::Int32(column.as_primitive().clone()),
            (Wire::Int8, DataType::Int64) => Self::Int64(column.as_primitive().clone()),
            (Wire::Oid, DataType::Int64) => Self::Oid(column.as_primitive().clone()),
            (Wire::Float4, DataType::Float32) => Self::Float32(column.as_primitive().clone()),
            (Wire::Float8, DataType::Float64) => Self::Float64(column.as_primitive().clone()),
            (Wire::Numeric, DataType::Decimal128(..)) => Self::Decimal128(column.as_primitive().clone()),
            (Wire::Numeric, DataType::Decimal256(..)) => Self::Decimal256(column.as_primitive().clone()),
            (Wire::Date, DataType::Date32) => Self::Date(column.as_primitive().clone()),
            (Wire::Time, DataType::Time64(TimeUnit::Microsecond)) => Self::TimeMicros(column.as_primitive().clone()),
            (Wire::Time, DataType::Time64(TimeUnit::Nanosecond)) => Self::TimeNanos(column.as_primitive().clone(), fit),
            (Wire::Timestamp | Wire::TimestampTz, DataType::Timestamp(TimeUnit::Microsecond, _)) => {
                Self::TimestampMicros(column.as_primitive().clone())
            }
            (Wire::Timestamp | Wire::TimestampTz, DataType::Timestamp(TimeUnit::Nanosecond, _)) => {
                Self::TimestampNanos(column.as_primitive().clone(), fit)
            }
            (Wire::Interval, DataType::Interval(_)) => {
                let kind = DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano);
                Self::Interval(cast(column, &kind).map_err(|error| error.to_string())?.as_primitive().clone(), fit)
            }
            (Wire::Bytea, _) => Self::Bytes(cast(column, &DataType::Binary).map_err(|_| unfit())?),
            (Wire::Array(element), DataType::List(_)) => {
                let list = column.as_list::<i32>().clone();
                let values = Self::new(list.values(), element, fit)?;
                Self::List(list, Box::new(values), oid(element))
            }
            (Wire::Text | Wire::AsText | Wire::Char | Wire::Jsonb | Wire::Uuid, _) => {
                let texts = cast(column, &DataType::Utf8).map_err(|_| unfit())?;
                match wire {
                    Wire::Jsonb => Self::Jsonb(texts),
                    Wire::Uuid => Self::Uuid(texts),
                    _ => Self::Text(texts),
                }
            }
            _ => return Err(unfit()),
        })
    }

    fn array(&self) -> &dyn Array {
        match self {
            Self::Bool(values) => values,
            Self::Int16(values) => values,
            Self::Int32(values) => values,
            Self::Int64(values) | Self::Oid(values) => values,
            Self::Float32(values) => values,
            Self::Float64(values) => values,
            Self::Decimal128(values) => values,
            Self::Decimal256(values) => values,
            Self::Date(values) => values,
            Self::TimeMicros(values) => values,
            Self::TimeNanos(values, _) => values,
            Self::TimestampMicros(values) => values,
            Self::TimestampNanos(values, _) => values,
            Self::Interval(values, _) => values,
            Self::Text(values) | Self::Jsonb(values) | Self::Uuid(values) | Self::Bytes(values) => values,
            Self::List(values, ..) => values,
        }
    }

    /// Whether it is a text with a zero byte.
    fn has_zero(&self, at: usize) -> bool {
        match self {
            Self::Text(texts) | Self::Jsonb(texts) => texts.as_string::<i32>().value(at).as_bytes().contains(&0),
            Self::List(lists, values, _) if !lists.is_null(at) => {
                let offsets = lists.value_offsets();
                (offsets[at] as usize..offsets[at + 1] as usize).any(|element| values.has_zero(element))
            }
            _ => false,
        }
    }

    /// One value behind its length.
    fn put(&self, at: usize, into: &mut Vec<u8>) -> Result<(), String> {
        if self.array().is_null(at) {
            into.extend_from_slice(&(-1_i32).to_be_bytes());
            return Ok(());
        }
        let start = into.len();
        into.extend_from_slice(&[0; 4]);
        self.body(at, into)?;
        let length = i32::try_from(into.len() - start - 4).map_err(|_| "a value of more than 2 GiB".to_string())?;
        into[start..start + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn body(&self, at: usize, into: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Bool(values) => into.push(values.value(at).into()),
            Self::Int16(values) => into.extend_from_slice(&values.value(at).to_be_bytes()),
            Self::Int32(values) => into.extend_from_slice(&values.value(at).to_be_bytes()),
            Self::Int64(values) => into.extend_from_slice(&values.value(at).to_be_bytes()),
            Self::Oid(values) => {
                let oid = u32::try_from(values.value(at)).map_err(|_| format!("{} is no oid", values.value(at)))?;
                into.extend_from_slice(&oid.to_be_bytes());
            }
            Self::Float32(values) => into.extend_from_slice(&values.value(at).to_be_bytes()),
            Self::Float64(values) => into.extend_from_slice(&values.value(at).to_be_bytes()),
            Self::Decimal128(values) => {
                let number = values.value(at);
                numeric::sent(number < 0, &number.unsigned_abs().to_string(), values.scale(), into);
            }
            Self::Decimal256(values) => {
                let number = values.value(at).to_string();
                let digits = number.trim_start_matches('-');
                numeric::sent(digits.len() < number.len(), digits, values.scale(), into);
            }
            Self::Date(values) => {
                let days = values.value(at).checked_sub(EPOCH_DAYS).ok_or("the date is too early")?;
                into.extend_from_slice(&days.to_be_bytes());
            }
            Self::TimeMicros(values) => into.extend_from_slice(&values.value(at).to_be_bytes()),
            Self::TimeNanos(values, fit) => into.extend_from_slice(&fit.micros(values.value(at))?.to_be_bytes()),
            Self::TimestampMicros(values) => instant(values.value(at), into)?,
            Self::TimestampNanos(values, fit) => instant(fit.micros(values.value(at))?, into)?,
            Self::Interval(values, fit) => {
                let interval = values.value(at);
                into.extend_from_slice(&fit.micros(interval.nanoseconds)?.to_be_bytes());
                into.extend_from_slice(&interval.days.to_be_bytes());
                into.extend_from_slice(&interval.months.to_be_bytes());
            }
            Self::Text(values) => into.extend_from_slice(values.as_string::<i32>().value(at).as_bytes()),
            Self::Jsonb(values) => {
                into.push(1);
                into.extend_from_slice(values.as_string::<i32>().value(at).as_bytes());
            }
            Self::Uuid(values) => {
                let text = values.as_string::<i32>().value(at);
                let uuid = uuid::Uuid::try_parse(text).map_err(|_| format!("'{text}' is no uuid"))?;
                into.extend_from_slice(uuid.as_bytes());
            }
            Self::Bytes(values) => into.extend_from_slice(values.as_binary::<i32>().value(at)),
            Self::List(lists, values, oid) => {
                let offsets = lists.value_offsets();
                let range = offsets[at] as usize..offsets[at + 1] as usize;
                let has_nulls = range.clone().any(|element| values.array().is_null(element));
                let dimensions = i32::from(!range.is_empty());
                for word in [dimensions, i32::from(has_nulls), *oid] {
                    into.extend_from_slice(&word.to_be_bytes());
                }
                if !range.is_empty() {
                    for word in [range.len() as i32, 1] {
                        into.extend_from_slice(&word.to_be_bytes());
                    }
                }
                for element in range {
                    values.put(element, into)?;
                }
            }
        }
        Ok(())
    }
}

impl Fit {
    fn micros(self, nanos: i64) -> Result<i64, String> {
        match (nanos / 1000, nanos % 1000) {
            (micros, 0) => Ok(micros),
            (micros, rest) if self == Self::Nearest => Ok(micros + if rest.abs() >= 500 { rest.signum() } else { 0 }),
            _ => Err(format!(
                "it has nanoseconds ({} behind the last microsecond), and the server keeps microseconds: round it, as date_trunc() and \
                 CAST(… AS TIMESTAMP(6)) do",
                nanos.rem_euclid(1000)
            )),
        }
    }
}

fn instant(micros: i64, into: &mut Vec<u8>) -> Result<(), String> {
    let micros = micros.checked_sub(EPOCH_MICROS).ok_or("the timestamp is too early")?;
    into.extend_from_slice(&micros.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::decode::Decoder;
    use super::*;
    use arrow::array::{Int32Array, StringArray};
    use arrow::datatypes::{Field, Schema};
    use std::sync::Arc;

    /// Every value is read as it was written.
    #[test]
    fn rows_survive_both_ways() {
        let nanos = PrimitiveArray::<TimestampMicrosecondType>::from(vec![
            Some(0),
            None,
            Some(-1),
            Some(253_402_300_799_999_999),
        ]);
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
            Some(vec![Some(i32::MIN)]),
        ]);
        let decimals = Decimal128Array::from(vec![Some(-12_345), Some(0), None, Some(10_i128.pow(37))]);
        let columns: Vec<(ArrayRef, Wire)> = vec![
            (Arc::new(Int32Array::from(vec![Some(1), None, Some(i32::MAX), Some(-1)])), Wire::Int4),
            (Arc::new(StringArray::from(vec![Some("a"), Some(""), None, Some("ü\n")])), Wire::Text),
            (Arc::new(StringArray::from(vec![Some("{}"), None, Some("[1]"), Some("1")])), Wire::Jsonb),
            (Arc::new(nanos), Wire::Timestamp),
            (Arc::new(list), Wire::Array(Box::new(Wire::Int4))),
            (Arc::new(decimals.with_precision_and_scale(38, 3).unwrap()), Wire::Numeric),
        ];
        let fields: Vec<Field> = columns
            .iter()
            .enumerate()
            .map(|(at, (column, _))| Field::new(format!("c{at}"), column.data_type().clone(), true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let batch =
            RecordBatch::try_new(Arc::clone(&schema), columns.iter().map(|(column, _)| Arc::clone(column)).collect())
                .unwrap();
        let wires: Vec<Wire> = columns.iter().map(|(_, wire)| wire.clone()).collect();
        let columns = wires.iter().map(|wire| (wire.to_string(), wire.clone())).collect();
        let mut encoder = Encoder::new(columns, Fit::Nearest);
        let prepared = encoder.prepared(&batch).unwrap();
        let mut decoder = Decoder::new(&schema, &wires, false).unwrap();
        decoder.take(encoder.piece()).unwrap();
        for row in 0..4 {
            encoder.clear();
            let mut one = encoder.prepared(&batch.slice(row, 1)).unwrap();
            one.rows = 1;
            assert_eq!(encoder.take(&one, 0).unwrap(), 1);
            decoder.take(encoder.piece()).unwrap();
        }
        assert_eq!((prepared.rows, encoder.rows()), (4, 4));
        assert!(decoder.end().is_err());
        encoder.clear();
        encoder.end();
        decoder.take(encoder.piece()).unwrap();
        decoder.end().unwrap();
        assert_eq!(decoder.batch().unwrap(), batch);
    }

    #[test]
    fn a_value_that_does_not_fit_is_named() {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, true)]));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(vec!["x"]))]).unwrap();
        let mut encoder = Encoder::new(vec![("id".to_string(), Wire::Uuid)], Fit::Exact);
        let prepared = encoder.prepared(&batch).unwrap();
        let error = encoder.take(&prepared, 0).unwrap_err().to_string();
        assert!(error.contains("column id") && error.contains("row 1: 'x' is no uuid"), "{error}");
    }

    #[test]
    fn nanoseconds_are_rounded_or_refused() {
        for (nanos, nearest, is_exact) in
            [(1_500, 2, false), (-1_500, -2, false), (1_499, 1, false), (-7_000, -7, true)]
        {
            assert_eq!(Fit::Nearest.micros(nanos), Ok(nearest));
            assert_eq!(Fit::Exact.micros(nanos).ok(), is_exact.then_some(nearest), "{nanos}");
        }
        let column: ArrayRef = Arc::new(PrimitiveArray::<TimestampNanosecondType>::from(vec![1_000, 1_001]));
        let schema = Arc::new(Schema::new(vec![Field::new("at", column.data_type().clone(), true)]));
        let batch = RecordBatch::try_new(schema, vec![column]).unwrap();
        let mut encoder = Encoder::new(vec![("at".to_string(), Wire::Timestamp)], Fit::Exact);
        let prepared = encoder.prepared(&batch).unwrap();
        let error = encoder.take(&prepared, 0).unwrap_err().to_string();
        assert!(error.contains("column at") && error.contains("row 2: it has nanoseconds (1 "), "{error}");
    }
}
